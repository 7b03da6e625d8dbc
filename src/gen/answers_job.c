/* What all jobs share, whoever answers: from full items to rows, and from rows to files. */
#include "gen/answers_int.h"
#include "gen/same_text.h"
#include "base/mem.h"

#include <string.h>

void pd__answers_init(struct pd__job *j, const struct pd_answers_opts *opts,
                      struct pd_answers_summary *sum)
{
    *sum = (struct pd_answers_summary){0};
    *j = (struct pd__job){.opts = opts, .sum = sum, .sampling = opts->sampling};
    pd_buf_init(&j->settings, 0);
}

enum pd_rc pd__answers_open(struct pd__job *j, struct pd_err *err)
{
    pd_answers_settings(j->opts, j->chat, &j->settings);
    return pd__answers_open_partial(j, err);
}

void pd__slot_release(struct pd__slot *s)
{
    pd_free(s->text);
    pd_free(s->ids);
    pd_free(s->logprobs);
    pd_free(s->top);
}

void pd__answers_find_repeats(const struct pd__job *j, struct pd__item *it)
{
    struct pd_texts *texts = pd_texts_new();
    for (int64_t i = 0; i < j->opts->n; i++) {
        struct pd__slot *s = &it->slots[i];
        s->duplicate = pd_texts_add(texts, (struct pd_str){s->text, s->text_len}, i);
    }
    pd_texts_free(texts);
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

void pd__answers_release(struct pd__job *j)
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
    pd_partial_close(j->partial, j->keep);
}

/* Rows that cannot be had again for nothing are not thrown away because there is no file for them.
 */
enum pd_rc pd__answers_settle(struct pd__job *j, enum pd_rc rc, struct pd_err *err)
{
    if (j->finished)
        return rc;
    bool loose = !j->partial && (rc == PD_INTERRUPTED || j->n_failed > 0);
    j->keep = j->n_finished > 0; /* else there is nothing to go on with */
    if (rc != PD_OK)
        pd__answers_end_partial(j);
    if (rc != PD_OK && !loose)
        return rc;
    enum pd_rc written = pd__answers_write_out(j, rc == PD_OK ? err : NULL);
    if (rc == PD_OK && written == PD_OK)
        j->keep = false;
    return rc == PD_OK ? written : rc;
}
