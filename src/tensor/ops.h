/* The ops of a decoder beside matmul and attention, each forward with its hand-derived backward.
 *
 * T rows (tokens), H columns (hidden), F ffn width, V vocabulary; all fp32, row-major and dense
 * unless a row stride ld (in floats) is a parameter. "set" overwrites, "add" accumulates; parameter
 * gradients always accumulate, and are skipped when NULL is passed for them.
 * In-place use is allowed exactly where said. Kernels trust their shapes and never fail; NaN goes
 * through. Parallel inside, called from one compute thread (backend.h), deterministic for any
 * number of threads. */
#ifndef PD_TENSOR_OPS_H
#define PD_TENSOR_OPS_H

#include "tensor/linear.h"

/* --- normalisation (tensor/kernel/norm.c) --- */

/* y = x * rstd * w, rstd = 1/sqrt(mean(x^2) + eps) (Zhang & Sennrich 2019, eq. 4).
 *   x (T,H) in, w (H); y (T,H) out, rstd (T) out or NULL. y may be x. */
void pd_rmsnorm_forward(int64_t T, int64_t H, const float *x, const float *w, float eps, float *y,
                        float *rstd);
/* dx (T,H) set or add; dw (H) add or NULL; dx may be dy when mode is SET. */
void pd_rmsnorm_backward(int64_t T, int64_t H, const float *x, const float *w, const float *rstd,
                         const float *dy, float *dx, enum pd_write mode, float *dw);

/* y = (x - mean) * rstd * w + b, biased variance (Ba et al. 2016). b may be NULL.
 *   mean, rstd (T) out or NULL (both). y may be x. */
void pd_layernorm_forward(int64_t T, int64_t H, const float *x, const float *w, const float *b,
                          float eps, float *y, float *mean, float *rstd);
void pd_layernorm_backward(int64_t T, int64_t H, const float *x, const float *w, const float *mean,
                           const float *rstd, const float *dy, float *dx, enum pd_write mode,
                           float *dw, float *db);

/* --- rotary positions (tensor/kernel/rope.c) --- */

enum pd_rope_kind {
    PD_ROPE_HALF,        /* pairs (i, i + rot/2): Llama, NeoX, Falcon, Qwen */
    PD_ROPE_INTERLEAVED, /* pairs (2i, 2i+1): GPT-J */
};
/* cos and sin of pos[t] * inv_freq[i], times scale: cs (T, rot) = rot/2 cosines, rot/2 sines per
 * row. Angles as transformers computes them: the product in fp32. scale is 1 except for yarn. */
void pd_rope_table(int64_t T, const int32_t *pos, int rot, const float *inv_freq, float scale,
                   float *cs);
/* Rotates the first rot dims of n_heads heads in place; head h of row t starts at
 * x + t*ld + h*head_stride. q and k that lie side by side are one call. inverse: the backward
 * (the transposed rotation, in place on the gradient). */
void pd_rope_apply(int64_t T, int n_heads, float *x, int64_t ld, int64_t head_stride, int rot,
                   enum pd_rope_kind kind, const float *cs, bool inverse);

/* --- activations (tensor/kernel/act.c) --- */

/* y (T,F) = silu(gate) * up, with gu (T,2F) rows [gate | up]. */
void pd_swiglu_forward(int64_t T, int64_t F, const float *gu, float *y);
/* dgu (T,2F) set from dy (T,F) and the saved gu; dgu may be gu. y_again (T,F) or NULL: the forward
 * output once more, from the same pass (so that it need not be kept; may be dy). */
void pd_swiglu_backward(int64_t T, int64_t F, const float *gu, const float *dy, float *dgu,
                        float *y_again);

enum pd_act {
    PD_ACT_GELU_TANH, /* gelu_new, gelu_fast, gelu_pytorch_tanh */
    PD_ACT_GELU,      /* exact, erf */
    PD_ACT_SILU,
    PD_ACT_RELU,
};
void pd_act_forward(enum pd_act a, int64_t n, const float *x, float *y); /* y may be x */
/* dx set; dx may be dy or x. */
void pd_act_backward(enum pd_act a, int64_t n, const float *x, const float *dy, float *dx);

/* --- embeddings and plain sums (tensor/kernel/embed.c) --- */

/* y (T,H) = or += rows ids[t] of table ([V,H], any dtype). 0 <= ids[t] < V is the caller's duty. */
void pd_embed_forward(int64_t T, int64_t H, const int32_t *ids, const struct pd_param *table,
                      float *y, enum pd_write mode);
/* dtable (V,H) add: rows in order of t. */
void pd_embed_backward(int64_t T, int64_t H, const int32_t *ids, const float *dy, float *dtable);
void pd_add(int64_t n, const float *x, float *y);  /* y += x */
void pd_copy(int64_t n, const float *x, float *y); /* y = x, parallel */
void pd_zero(int64_t n, float *y);                 /* y = 0, parallel */
void pd_bias_backward(int64_t T, int64_t N, const float *dy, int64_t ld, float *db); /* db add */

/* --- heads (tensor/head.c) --- */

/* log p(target | hidden row) and entropy through a vocabulary head, in chunks: the (n, V) logits
 * never exist as a whole. p = softmax(logits / temperature).
 *   head          linear H -> V (tied embeddings: a linear on the embedding's parameter)
 *   hidden (.,H)  after the final norm; ld its row stride
 *   rows (n)      which hidden row predicts target i; a row may appear several times (the last
 *                 prompt token predicts the first token of several answers); NULL = 0..n-1
 *   target (n)    token ids in [0, V)
 *   logprob (n) out, nats; entropy (n) out or NULL, nats; lse (n) out or NULL: log-sum-exp of the
 *   scaled logits, what backward needs.
 * Source: selective_log_softmax and entropy in training.md 5.0. */
struct pd_logprob {
    const struct pd_linear *head;
    const float *hidden;
    int64_t ld, n;
    const int32_t *rows;
    const int32_t *target;
    float temperature; /* > 0 */
    float *logprob, *entropy, *lse;
};
PD_CHECKED enum pd_rc pd_logprob_forward(const struct pd_logprob *a, struct pd_err *err);
/* Recomputes the logits chunk by chunk. dlogprob (n) and dentropy (n) or NULL are the loss's
 * derivatives; a->lse (and a->entropy when dentropy is given) as forward left them; rows whose
 * derivatives are all 0 cost nothing. dhidden (., H; lddh) add; the head's weight gradient (if it
 * has one) add. */
PD_CHECKED enum pd_rc pd_logprob_backward(const struct pd_logprob *a, const float *dlogprob,
                                          const float *dentropy, float *dhidden, int64_t lddh,
                                          struct pd_err *err);

/* score (n) = w . hidden[rows[i]] + b; w (H), b one value or NULL; rows NULL = 0..n-1.
 * backward: dhidden[rows[i]] add, dw and db add or NULL. Sums in order of i. */
void pd_score_forward(int64_t n, int64_t H, const float *hidden, int64_t ld, const int32_t *rows,
                      const float *w, const float *b, float *score);
void pd_score_backward(int64_t n, int64_t H, const float *hidden, int64_t ld, const int32_t *rows,
                       const float *w, const float *dscore, float *dhidden, int64_t lddh, float *dw,
                       float *db);

#endif
