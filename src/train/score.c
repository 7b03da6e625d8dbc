#include "train/score.h"
#include "base/mem.h"
#include "base/progress.h"
#include "base/sig.h"
#include "train/rows.h"

#include <math.h>

/* One row waiting for its reward: the line as it came, and one text or the two sides of a pair. */
struct item {
    char *line;
    size_t line_len;
    bool pair;
    struct pd_row a, b; /* text, or chosen and rejected */
    double strength;
};

struct scoring {
    const struct pd_score_options *o;
    struct pd_model *model;
    struct pd_scorer scorer;
    struct pd_data_rows rows;
    struct pd_out out;
    int64_t max_length;
    int32_t pad;
    struct item *items; /* the pack */
    size_t n, cap;
    int64_t tokens;        /* of the pack */
    struct pd_pairs pairs; /* what the summary needs of all pairs: lengths, strength */
    float *rc, *rr;
    struct pd_score_result *result;
    double reward_sum;
};

static void drop_items(struct scoring *s)
{
    for (size_t i = 0; i < s->n; i++) {
        pd_free(s->items[i].line);
        pd_free(s->items[i].a.ids);
        pd_free(s->items[i].b.ids);
    }
    s->n = 0;
    s->tokens = 0;
}

static enum pd_rc check_length(const struct scoring *s, const struct pd_ids *ids,
                               struct pd_err *err)
{
    if (ids->len > (size_t)s->max_length)
        return PD_FAIL(err, PD_INVALID, "%zu tokens, more than %lld", ids->len,
                       (long long)s->max_length);
    return PD_OK;
}

static enum pd_rc encode(struct scoring *s, struct json_object *row, struct item *it,
                         struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_ids a = {0}, b = {0};
    it->pair = pd_json_get(row, "chosen") || pd_json_get(row, "chosen_ids");
    if (it->pair)
        PD_TRY(pd_pair_encode(row, s->model, &a, &b, err));
    else
        PD_TRY(pd_text_row_encode(row, s->model, &a, err));
    PD_TRY(check_length(s, &a, err));
    PD_TRY(check_length(s, &b, err));
    it->strength = pd_json_f64(row, "strength", -1);
    it->a = pd_row_make(a.ptr, a.len, s->pad);
    a = (struct pd_ids){0};
    if (it->pair)
        it->b = pd_row_make(b.ptr, b.len, s->pad);
    b = (struct pd_ids){0};
out:
    pd_ids_release(&a);
    pd_ids_release(&b);
    return rc;
}

/* For the summary a pair keeps lengths and rewards, not its ids. */
static void remember_pair(struct scoring *s, const struct item *it, float rc, float rr)
{
    struct pd_pairs *p = &s->pairs;
    if (p->n == p->cap) {
        p->cap = p->cap ? 2 * p->cap : 256;
        p->v = pd_xrealloc(p->v, p->cap * sizeof *p->v);
        s->rc = pd_xrealloc(s->rc, p->cap * sizeof *s->rc);
        s->rr = pd_xrealloc(s->rr, p->cap * sizeof *s->rr);
    }
    struct pd_pair *pair = &p->v[p->n];
    *pair = (struct pd_pair){.strength =
                                 it->strength < 0 || it->strength > 1000 ? -1 : (int)it->strength};
    pair->chosen.n_tokens = it->a.n_tokens;
    pair->rejected.n_tokens = it->b.n_tokens;
    s->rc[p->n] = rc;
    s->rr[p->n++] = rr;
}

static void remember_text(struct scoring *s, float reward)
{
    struct pd_score_result *r = s->result;
    double x = (double)reward;
    r->min_reward = r->n_texts ? fmin(r->min_reward, x) : x;
    r->max_reward = r->n_texts ? fmax(r->max_reward, x) : x;
    s->reward_sum += x;
    r->n_texts++;
}

/* The row with its reward(s) after all its own keys (an older reward is replaced). */
static enum pd_rc write_row(struct scoring *s, const struct item *it, const float *reward,
                            struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct json_object *row = NULL;
    struct pd_buf text;
    struct pd_jw w;
    static const char *const ours[] = {"reward", "reward_chosen", "reward_rejected"};
    pd_buf_init(&text, 0);
    PD_TRY(pd_json_parse((struct pd_str){it->line, it->line_len}, &row, err));
    for (size_t i = 0; i < 3; i++)
        json_object_object_del(row, ours[i]);
    pd_jw_init(&w, &text);
    pd_jw_object(&w);
    json_object_object_foreach(row, key, value)
    {
        pd_jw_key(&w, key);
        pd_jw_tree(&w, value);
    }
    if (it->pair) {
        pd_jw_kf64(&w, "reward_chosen", (double)reward[0]);
        pd_jw_kf64(&w, "reward_rejected", (double)reward[1]);
    } else {
        pd_jw_kf64(&w, "reward", (double)reward[0]);
    }
    pd_jw_object_end(&w);
    pd_buf_addc(&text, '\n');
    PD_TRY(pd_out_write(&s->out, pd_buf_str(&text), err));
out:
    json_object_put(row);
    pd_buf_release(&text);
    return rc;
}

/* Scores the pack and writes its rows, in order. */
static enum pd_rc flush(struct scoring *s, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct pd_row **list = pd_xalloc((2 * s->n + 1) * sizeof *list);
    float *reward = pd_xalloc((2 * s->n + 1) * sizeof *reward);
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) {
        list[n++] = &s->items[i].a;
        if (s->items[i].pair)
            list[n++] = &s->items[i].b;
    }
    PD_TRY(pd_scorer_run(&s->scorer, list, n, reward, err));
    n = 0;
    for (size_t i = 0; i < s->n; i++) {
        const struct item *it = &s->items[i];
        if (it->pair)
            remember_pair(s, it, reward[n], reward[n + 1]);
        else
            remember_text(s, reward[n]);
        if (s->o->out)
            PD_TRY(write_row(s, it, reward + n, err));
        n += it->pair ? 2 : 1;
    }
    drop_items(s);
out:
    pd_free(reward);
    pd_free(list);
    return rc;
}

static void push(struct scoring *s, struct item *it)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 64;
        s->items = pd_xrealloc(s->items, s->cap * sizeof *s->items);
    }
    s->items[s->n++] = *it;
    s->tokens += it->a.len + it->b.len;
}

static enum pd_rc run(struct scoring *s, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct json_object *row;
    struct pd_str line;
    struct pd_progress progress;
    bool more;
    pd_progress_init(&progress, "scoring", "rows", 0, s->o->quiet);
    for (;;) {
        struct pd_err why = {0};
        struct item it = {0};
        PD_TRY(pd_data_rows_next(&s->rows, &row, &line, &more, err));
        if (!more)
            break;
        if (pd_sig_stop()) {
            rc = PD_FAIL(err, PD_INTERRUPTED, "interrupted; nothing was written");
            goto out;
        }
        if (encode(s, row, &it, &why) != PD_OK) {
            pd_data_rows_bad(&s->rows, "%s", why.msg);
            continue;
        }
        it.line = pd_xstrndup(line.ptr, line.len);
        it.line_len = line.len;
        push(s, &it);
        /* enough for a few passes, so that passes are full */
        if (s->tokens >= 8 * s->o->micro_tokens) {
            if (s->rows.n_bad == 0 || s->o->skip_bad)
                PD_TRY(flush(s, err));
            drop_items(s);
            pd_progress_update(&progress, (int64_t)s->rows.n_read, NULL);
        }
    }
    PD_TRY(pd_data_rows_verdict(&s->rows, err));
    PD_TRY(flush(s, err));
    pd_progress_finish(&progress, NULL);
out:
    return rc;
}

enum pd_rc pd_score_file(const struct pd_score_options *o, struct pd_score_result *out,
                         struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct scoring s = {.o = o, .result = out};
    *out = (struct pd_score_result){0};
    PD_TRY(pd_scorer_open(&s.scorer, &s.model, o->model, o->reward_label, o->dtype, o->micro_tokens,
                          err));
    s.pad = pd_pad_id(s.model);
    s.max_length = o->max_length > 0 ? o->max_length : pd_config_context(&s.model->cfg);
    PD_TRY(pd_data_rows_open(&s.rows, o->in, o->skip_bad, err));
    if (o->out)
        PD_TRY(pd_out_open(&s.out, o->out, err));
    PD_TRY(run(&s, err));
    if (o->out)
        PD_TRY(pd_out_commit(&s.out, err));
    if (out->n_texts)
        out->mean_reward = s.reward_sum / (double)out->n_texts;
    if (s.pairs.n)
        pd_reward_summarise(&s.pairs, s.rc, s.rr, &out->pairs);
out:
    if (rc != PD_OK && s.out.f)
        pd_out_abandon(&s.out);
    drop_items(&s);
    pd_free(s.items);
    pd_free(s.pairs.v);
    pd_free(s.rc);
    pd_free(s.rr);
    pd_data_rows_close(&s.rows);
    pd_decoder_free(s.scorer.dec);
    pd_model_free(s.model);
    return rc;
}
