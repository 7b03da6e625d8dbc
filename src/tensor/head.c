/* The vocabulary head in chunks, and the score head.
 *
 * Rows go in blocks of ROWS (their hidden states gathered), the vocabulary in blocks of COLS: the
 * logits that exist at any time are ROWS x COLS. Forward keeps a running softmax per row; backward
 * recomputes each block of logits, turns it into d(logits) in place, and feeds both products. A
 * large ROWS matters in backward, where the head's whole weight gradient is walked once per block
 * of rows. */
#include "tensor/kernels.h"
#include "tensor/linear_int.h"

#include <math.h>
#include <string.h>

enum { ROWS = 512, COLS = PD_LINEAR_BF16_BLOCK };

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Blocks of working memory for n rows; NULL when memory is gone. */
struct block {
    float *hidden, *dhidden, *logits; /* (ROWS,H), (ROWS,H), (ROWS,COLS) */
    int32_t *target;                  /* (ROWS) */
    int64_t *index;                   /* (ROWS) which item a gathered row is */
    struct pd_softmax_row *softmax;
    struct pd_logprob_row *grad;
};

static enum pd_rc block_init(struct block *b, const struct pd_linear *head, bool backward,
                             struct pd_err *err)
{
    const size_t per_row =
        (sizeof *b->index + sizeof *b->target + sizeof *b->softmax + sizeof *b->grad) /
        sizeof(float);
    const size_t hidden = (size_t)(ROWS * head->in);
    b->hidden = pd_scratch(PD_SCRATCH_HEAD, hidden);
    b->dhidden = backward ? pd_scratch(PD_SCRATCH_HEAD_GRAD, hidden) : NULL;
    b->logits = pd_scratch(PD_SCRATCH_LOGITS, (size_t)ROWS * COLS);
    float *rows = pd_scratch(PD_SCRATCH_ROWS, ROWS * per_row);
    if (!b->hidden || !b->logits || !rows || (backward && !b->dhidden))
        return PD_FAIL(err, PD_NOMEM, "no memory for a block of logits");
    b->index = (int64_t *)(void *)rows;
    b->softmax = (struct pd_softmax_row *)(void *)(b->index + ROWS);
    b->grad = (struct pd_logprob_row *)(void *)(b->softmax + ROWS);
    b->target = (int32_t *)(void *)(b->grad + ROWS);
    return PD_OK;
}

static int64_t row_of(const struct pd_logprob *a, int64_t i)
{
    return a->rows ? a->rows[i] : i;
}

/* index[0..n) -> hidden and target of the block. */
static void gather(const struct pd_logprob *a, const struct block *b, int64_t n)
{
    const int64_t H = a->head->in;
    for (int64_t r = 0; r < n; r++) {
        memcpy(b->hidden + r * H, a->hidden + row_of(a, b->index[r]) * a->ld,
               (size_t)H * sizeof(float));
        b->target[r] = a->target[b->index[r]];
    }
}

enum pd_rc pd_logprob_forward(const struct pd_logprob *a, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct block b;
    const float inv = 1.0f / a->temperature;
    const int64_t V = a->head->out, H = a->head->in;
    PD_TRY(block_init(&b, a->head, false, err));
    for (int64_t i = 0; i < a->n; i += ROWS) {
        const int64_t n = min64(ROWS, a->n - i);
        for (int64_t r = 0; r < n; r++) {
            b.index[r] = i + r;
            b.softmax[r] = (struct pd_softmax_row){.max = -INFINITY, .ztarget = -INFINITY};
        }
        gather(a, &b, n);
        for (int64_t v = 0; v < V; v += COLS) {
            const int64_t cols = min64(COLS, V - v);
            PD_TRY(pd__linear_forward_cols(a->head, v, cols, n, b.hidden, H, b.logits, cols,
                                           PD_WRITE_SET, err));
            pd_kernels()->softmax_chunk(n, v, cols, b.logits, inv, b.target, b.softmax);
        }
        for (int64_t r = 0; r < n; r++) {
            const struct pd_softmax_row *s = &b.softmax[r];
            const float lse = s->max + logf(s->sum);
            a->logprob[i + r] = s->ztarget - lse;
            if (a->entropy)
                a->entropy[i + r] = lse - s->zsum / s->sum;
            if (a->lse)
                a->lse[i + r] = lse;
        }
    }
out:
    return rc;
}

/* d(hidden) and the head's gradient for the n gathered rows of the block. */
static enum pd_rc backward_block(const struct pd_logprob *a, const struct block *b, int64_t n,
                                 struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const int64_t V = a->head->out, H = a->head->in;
    const float inv = 1.0f / a->temperature;
    for (int64_t v = 0; v < V; v += COLS) {
        const int64_t cols = min64(COLS, V - v);
        PD_TRY(pd__linear_forward_cols(a->head, v, cols, n, b->hidden, H, b->logits, cols,
                                       PD_WRITE_SET, err));
        pd_kernels()->logprob_grad(n, v, cols, b->logits, inv, b->grad);
        PD_TRY(pd__linear_backward_input_cols(a->head, v, cols, n, b->logits, cols, b->dhidden, H,
                                              v ? PD_WRITE_ADD : PD_WRITE_SET, err));
        PD_TRY(pd__linear_backward_weight_cols(a->head, v, cols, n, b->logits, cols, b->hidden, H,
                                               err));
    }
out:
    return rc;
}

enum pd_rc pd_logprob_backward(const struct pd_logprob *a, const float *dlogprob,
                               const float *dentropy, float *dhidden, int64_t lddh,
                               struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct block b;
    const int64_t H = a->head->in;
    PD_ASSERT(a->lse && (!dentropy || a->entropy));
    PD_TRY(block_init(&b, a->head, true, err));
    for (int64_t i = 0; i < a->n;) {
        int64_t n = 0;
        for (; i < a->n && n < ROWS; i++) {
            const float gh = dentropy ? dentropy[i] : 0.0f;
            if (dlogprob[i] == 0.0f && gh == 0.0f)
                continue;
            b.index[n] = i;
            b.grad[n++] = (struct pd_logprob_row){dlogprob[i], gh, a->lse[i],
                                                  dentropy ? a->entropy[i] : 0.0f, a->target[i]};
        }
        if (n == 0)
            continue;
        gather(a, &b, n);
        PD_TRY(backward_block(a, &b, n, err));
        for (int64_t r = 0; r < n; r++) { /* in order: rows may repeat */
            float *dst = dhidden + row_of(a, b.index[r]) * lddh;
            for (int64_t h = 0; h < H; h++)
                dst[h] += b.dhidden[r * H + h];
        }
    }
out:
    return rc;
}

void pd_score_forward(int64_t n, int64_t H, const float *hidden, int64_t ld, const int32_t *rows,
                      const float *w, const float *b, float *score)
{
    for (int64_t i = 0; i < n; i++) {
        const float *h = hidden + (rows ? rows[i] : i) * ld;
        double s = b ? (double)*b : 0.0;
        for (int64_t k = 0; k < H; k++)
            s += (double)h[k] * (double)w[k];
        score[i] = (float)s;
    }
}

void pd_score_backward(int64_t n, int64_t H, const float *hidden, int64_t ld, const int32_t *rows,
                       const float *w, const float *dscore, float *dhidden, int64_t lddh, float *dw,
                       float *db)
{
    for (int64_t i = 0; i < n; i++) {
        const int64_t row = rows ? rows[i] : i;
        const float g = dscore[i], *h = hidden + row * ld;
        float *dh = dhidden + row * lddh;
        for (int64_t k = 0; k < H; k++)
            dh[k] += g * w[k];
        if (dw)
            for (int64_t k = 0; k < H; k++)
                dw[k] += g * h[k];
        if (db)
            *db += g;
    }
}
