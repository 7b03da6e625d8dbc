#include "train/judge.h"
#include "base/mem.h"
#include "lm/labels.h"

#include <string.h>

enum pd_rc pd_scorer_open(struct pd_scorer *s, struct pd_model **model, const char *path,
                          const char *label, const char *dtype, int64_t micro_tokens,
                          struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_model_options mo = {.purpose = PD_MODEL_INFERENCE, .as_in_file = true};
    struct pd_decoder_opts d = {0};
    struct pd_model *m = NULL;
    PD_TRY(pd_compute_parse(dtype, &d.compute, err));
    d.compute = pd_compute_resolve(d.compute); /* a reward is a measurement: as exact as training */
    PD_TRY(pd_model_open(&m, path, &mo, err));
    PD_TRY(pd_model_keep_label(m, label, err));
    PD_TRY(pd_decoder_new(m, &d, &s->dec, err));
    s->micro_tokens = micro_tokens;
    *model = m;
    m = NULL;
out:
    pd_model_free(m);
    return rc;
}

/* The same token texts at the same ids; a sample of them is enough to tell tokenizers apart. */
static bool same_tokenizer(const struct pd_model *a, const struct pd_model *b)
{
    if (!a->tok || !b->tok || pd_tokenizer_size(a->tok) != pd_tokenizer_size(b->tok))
        return false;
    int32_t n = pd_tokenizer_size(a->tok), stride = n / 997 + 1;
    for (int32_t id = 0; id < n; id += stride) {
        struct pd_str x = pd_tokenizer_text(a->tok, id), y = pd_tokenizer_text(b->tok, id);
        if (!pd_str_eq(x, y))
            return false;
    }
    return true;
}

static enum pd_rc open_toy(struct pd_judge *j, const char *range, int vocab, struct pd_err *err)
{
    const char *dash = strchr(range, '-');
    int64_t lo = 0, hi = 0;
    if (!dash || !pd_str_to_i64((struct pd_str){range, (size_t)(dash - range)}, &lo) ||
        !pd_str_to_i64(pd_str_from(dash + 1), &hi) || lo < 0 || hi < lo || hi >= vocab)
        return PD_FAIL(err, PD_USAGE, "toy:%s: expected toy:LO-HI with ids below %d", range, vocab);
    j->toy_lo = (int32_t)lo;
    j->toy_hi = (int32_t)hi;
    return PD_OK;
}

enum pd_rc pd_judge_open(struct pd_judge *j, const char *spec, const char *label,
                         const struct pd_model *policy, const char *dtype, int64_t micro_tokens,
                         struct pd_err *err)
{
    *j = (struct pd_judge){0};
    const bool toy = strncmp(spec, "toy:", 4) == 0;
    if (toy && label)
        return PD_FAIL(err, PD_USAGE, "%s is no classifier: leave --reward-label out", spec);
    if (toy)
        return open_toy(j, spec + 4, policy->cfg.vocab_size, err);
    enum pd_rc rc = pd_scorer_open(&j->scorer, &j->model, spec, label, dtype, micro_tokens, err);
    if (rc == PD_OK)
        j->pad = pd_pad_id(j->model);
    return rc;
}

void pd_judge_close(struct pd_judge *j)
{
    pd_decoder_free(j->scorer.dec);
    pd_model_free(j->model);
    *j = (struct pd_judge){0};
}

static float toy_score(const struct pd_judge *j, const struct pd_sample *s)
{
    int64_t hits = 0;
    for (int64_t t = 0; t < s->n; t++)
        hits += s->ids[t] >= j->toy_lo && s->ids[t] <= j->toy_hi;
    return s->n ? (float)((double)hits / (double)s->n) : 0;
}

/* [messages of the prompt..., {"role": "assistant", "content": text}] */
static struct json_object *answer_message(struct pd_str text)
{
    struct json_object *list = json_object_new_array(), *m = json_object_new_object();
    json_object_object_add(m, "role", json_object_new_string("assistant"));
    json_object_object_add(m, "content",
                           json_object_new_string_len(text.ptr ? text.ptr : "", (int)text.len));
    json_object_array_add(list, m);
    return list;
}

static enum pd_rc sample_ids(const struct pd_judge *j, const struct pd_sample *s, bool same,
                             struct pd_ids *out, struct pd_err *err)
{
    struct pd_piece prompt, answer = {.text = s->text};
    struct pd_err why = {0};
    if (s->plain && same) {
        pd_ids_add(out, s->prompt_ids, (size_t)s->n_prompt);
        pd_ids_add(out, s->ids, (size_t)s->n);
        return PD_OK;
    }
    if (!s->prompt || !pd_piece_from_json(s->prompt, &prompt, &why))
        return PD_FAIL(err, PD_INVALID,
                       "a prompt given as ids cannot be scored by a reward model "
                       "with another tokenizer");
    if (prompt.chat)
        answer = (struct pd_piece){.chat = answer_message(s->text)};
    enum pd_rc rc = pd_text_encode(j->model, &prompt, &answer, out, err);
    json_object_put(answer.chat);
    return rc;
}

enum pd_rc pd_judge_score(const struct pd_judge *j, const struct pd_sample *samples, size_t n,
                          const struct pd_model *policy, float *score, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    if (!j->model) {
        for (size_t i = 0; i < n; i++)
            score[i] = toy_score(j, &samples[i]);
        return PD_OK;
    }
    bool same = same_tokenizer(j->model, policy);
    struct pd_row *rows = pd_xalloc((n + 1) * sizeof *rows);
    const struct pd_row **list = pd_xalloc((n + 1) * sizeof *list);
    for (size_t i = 0; i < n; i++) {
        struct pd_ids ids = {0};
        rc = sample_ids(j, &samples[i], same, &ids, err);
        if (rc != PD_OK) {
            pd_ids_release(&ids);
            goto out;
        }
        rows[i] = pd_row_make(ids.ptr, ids.len, j->pad);
        list[i] = &rows[i];
    }
    PD_TRY(pd_scorer_run(&j->scorer, list, n, score, err));
out:
    for (size_t i = 0; i < n; i++)
        pd_free(rows[i].ids);
    pd_free(list);
    pd_free(rows);
    return rc;
}
