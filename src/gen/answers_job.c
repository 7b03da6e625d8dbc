/* What all jobs share, whoever answers: from full items to rows, and from rows to files. */
#include "gen/answers_int.h"
#include "gen/same_text.h"
#include "base/mem.h"

#include <string.h>
#include <unistd.h>

void pd__slot_release(struct pd__slot *s)
{
    pd_free(s->text);
    pd_free(s->ids);
    pd_free(s->logprobs);
    pd_free(s->top);
}

int64_t pd__answers_find_repeat(struct pd__job *j, struct pd__item *it)
{
    for (int64_t b = 1; b < j->opts->n; b++)
        for (int64_t a = 0; a < b; a++) {
            struct pd__slot *x = &it->slots[a], *y = &it->slots[b];
            if (y->duplicate || !pd_same_text((struct pd_str){x->text, x->text_len},
                                              (struct pd_str){y->text, y->text_len}))
                continue;
            if (y->redrawn < j->opts->resamples && !j->sampling.greedy)
                return b;
            y->duplicate = true;
        }
    return -1;
}

enum pd_rc pd__answers_finish_item(struct pd__job *j, struct pd__item *it, struct pd_err *err)
{
    for (int64_t i = 0; i < j->opts->n; i++) {
        j->sum->duplicates += it->slots[i].duplicate;
        j->sum->stopped += it->slots[i].finish == PD_FINISH_STOP;
    }
    it->line = pd__answers_line(j, it);
    for (int64_t i = 0; i < j->opts->n; i++)
        pd__slot_release(&it->slots[i]);
    pd_free(it->slots);
    it->slots = NULL;
    j->n_finished++;
    return pd__answers_add_partial(j, it, err);
}

static void release(struct pd__job *j)
{
    for (int64_t i = 0; i < j->n_items; i++) {
        struct pd__item *it = &j->items[i];
        for (int64_t s = 0; it->slots && s < j->opts->n; s++)
            pd__slot_release(&it->slots[s]);
        pd_free(it->slots);
        pd_free(it->line);
        pd_ids_release(&it->ids);
    }
    pd_free(j->items);
    pd_bad_words_release(&j->bad);
    pd_buf_release(&j->settings);
    if (j->partial)
        (void)fclose(j->partial);
    pd_free(j->partial_path);
}

/* Rows that cannot be had again for nothing are not thrown away because there is no file for them.
 */
static enum pd_rc settle(struct pd__job *j, enum pd_rc rc, struct pd_err *err)
{
    bool loose = !j->partial && (rc == PD_INTERRUPTED || j->n_failed > 0);
    if (rc != PD_OK && j->partial && j->n_finished == 0)
        (void)unlink(j->partial_path); /* nothing to go on with */
    if (rc != PD_OK && !loose)
        return rc;
    enum pd_rc written = pd__answers_write_out(j, rc == PD_OK ? err : NULL);
    if (rc == PD_OK && written == PD_OK && j->partial)
        (void)unlink(j->partial_path);
    return rc == PD_OK ? written : rc;
}

enum pd_rc pd__answers_do(struct pd__job *j, const struct pd__answerer *who,
                          struct pd_prompts *prompts, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    memset(j->sum, 0, sizeof *j->sum);
    pd_buf_init(&j->settings, 0);
    PD_TRY(who->prepare(j, prompts, err));
    pd__answers_params(j);
    PD_TRY(pd__answers_open_partial(j, err));
    rc = settle(j, who->run(j, err), err);
out:
    release(j);
    return rc;
}
