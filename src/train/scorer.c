#include "train/scorer.h"
#include "base/mem.h"
#include "lm/heads.h"

#include <math.h>

/* Number of rows from the front that fit the budget, the first one always. What a row adds is what
 * it does not share with the one before it: exact for pairs, close for anything else. */
static size_t take(const struct pd_row *const *rows, size_t n, int64_t budget)
{
    int64_t used = rows[0]->len;
    size_t i = 1;
    for (; i < n; i++) {
        int32_t shared = pd_row_common(rows[i - 1], rows[i]);
        used += rows[i]->len - (shared < rows[i]->len ? shared : rows[i]->len);
        if (used > budget)
            break;
    }
    return i;
}

static enum pd_rc score_stream(const struct pd_scorer *s, const struct pd_row *const *rows,
                               size_t n, struct pd_stream *stream, float *reward,
                               struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const float *hidden;
    const struct pd_model *m = pd_decoder_model(s->dec);
    struct pd_sequence *seqs = pd_xalloc(n * sizeof *seqs);
    int32_t *at = pd_xalloc(n * sizeof *at);
    for (size_t i = 0; i < n; i++)
        seqs[i] = (struct pd_sequence){.ids = rows[i]->ids, .len = rows[i]->len};
    pd_stream_clear(stream);
    pd_stream_add_sequences(stream, seqs, (int)n);
    for (size_t i = 0; i < n; i++)
        at[i] = (int32_t)pd_stream_row(stream, seqs[i].leaf, rows[i]->read_at);
    PD_TRY(pd_decoder_forward(s->dec, stream, false, &hidden, err));
    pd_head_score_forward(m->score.w, m->score.b, hidden, at, (int64_t)n, reward);
out:
    pd_free(at);
    pd_free(seqs);
    return rc;
}

enum pd_rc pd_scorer_run(const struct pd_scorer *s, const struct pd_row *const *rows, size_t n,
                         float *reward, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_stream stream;
    pd_stream_init(&stream);
    stream.share_limit = pd_config_share_limit(&pd_decoder_model(s->dec)->cfg);
    for (size_t i = 0; i < n;) {
        size_t k = take(rows + i, n - i, s->micro_tokens);
        PD_TRY(score_stream(s, rows + i, k, &stream, reward + i, err));
        for (size_t j = i; j < i + k; j++)
            if (!isfinite(reward[j])) {
                rc = PD_FAIL(err, PD_NONFINITE, "the reward of text %zu is not a finite number", j);
                goto out;
            }
        i += k;
    }
out:
    pd_stream_release(&stream);
    return rc;
}

enum pd_rc pd_scorer_pairs(const struct pd_scorer *s, const struct pd_pairs *p, float *rc_out,
                           float *rr_out, struct pd_err *err)
{
    const struct pd_row **rows = pd_xalloc((2 * p->n + 1) * sizeof *rows);
    float *reward = pd_xalloc((2 * p->n + 1) * sizeof *reward);
    for (size_t i = 0; i < p->n; i++) {
        rows[2 * i] = &p->v[i].chosen;
        rows[2 * i + 1] = &p->v[i].rejected;
    }
    enum pd_rc rc = pd_scorer_run(s, rows, 2 * p->n, reward, err);
    for (size_t i = 0; rc == PD_OK && i < p->n; i++) {
        rc_out[i] = reward[2 * i];
        rr_out[i] = reward[2 * i + 1];
    }
    pd_free(reward);
    pd_free(rows);
    return rc;
}

void pd_pairs_stream(struct pd_stream *s, const struct pd_pair *const *pairs, size_t n,
                     int32_t *read_rows)
{
    pd_stream_clear(s);
    for (size_t i = 0; i < n; i++) {
        const struct pd_row *c = &pairs[i]->chosen, *r = &pairs[i]->rejected;
        struct pd_sequence both[2] = {{.ids = c->ids, .len = c->len},
                                      {.ids = r->ids, .len = r->len}};
        pd_stream_add_sequences(s, both, 2);
        read_rows[2 * i] = (int32_t)pd_stream_row(s, both[0].leaf, c->read_at);
        read_rows[2 * i + 1] = (int32_t)pd_stream_row(s, both[1].leaf, r->read_at);
    }
}
