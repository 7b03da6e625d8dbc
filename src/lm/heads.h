/* Heads: from hidden states (T, H) to what losses are made of, and back.
 *
 * logprob: log p(target | row) under softmax(logits / temperature), and the entropy of that
 * distribution, for n (row, target) items; a row may occur several times (the last prompt row of a
 * shared prefix predicts a different first token for each answer). Logits exist only for a chunk
 * of rows at a time; backward computes them again.
 * score: one number a row, w . hidden + b.
 *
 * Both backwards ADD to dhidden (T, H) and to the grads of trainable parameters.
 * Threads: as the decoder. Memory: chunk buffers belong to the decoder. */
#ifndef PD_LM_HEADS_H
#define PD_LM_HEADS_H

#include "lm/decoder.h"

struct pd_param;

/* PD_INVALID when the model is one of rewards only: it opens, but gives no tokens. */
PD_CHECKED enum pd_rc pd_head_need_lm(const struct pd_model *model, struct pd_err *err);

struct pd_logprob_items {
    const int32_t *rows;    /* (n) rows of hidden */
    const int32_t *targets; /* (n) ids in [0, V) */
    int64_t n;
    float temperature; /* > 0; 1 = the model's own distribution */
};

/* logprob (n) in nats, <= 0; entropy (n) in nats or NULL; lse (n) log-sum-exp of the scaled
 * logits, to be handed to backward, or NULL. */
PD_CHECKED enum pd_rc pd_head_logprob_forward(struct pd_decoder *dec, const float *hidden,
                                              const struct pd_logprob_items *items, float *logprob,
                                              float *entropy, float *lse, struct pd_err *err);
/* dlogprob (n): d(loss)/d(logprob); dentropy (n) or NULL (then entropy may be NULL too). */
PD_CHECKED enum pd_rc pd_head_logprob_backward(struct pd_decoder *dec, const float *hidden,
                                               const struct pd_logprob_items *items,
                                               const float *lse, const float *dlogprob,
                                               const float *entropy, const float *dentropy,
                                               float *dhidden, struct pd_err *err);

/* score[i] = w . hidden[rows[i]] + b. w: (1, H) or (H); b: (1) or NULL. rows NULL = 0..n-1. */
void pd_head_score_forward(const struct pd_param *w, const struct pd_param *b, const float *hidden,
                           const int32_t *rows, int64_t n, float *score);
void pd_head_score_backward(struct pd_param *w, struct pd_param *b, const float *hidden,
                            const int32_t *rows, int64_t n, const float *dscore, float *dhidden);

#endif
