/* From logits to the next token, in the order and with the meaning of Hugging Face's processors:
 *
 *   repetition penalty (ids of prompt and answer) -> presence and frequency penalties (OpenAI's,
 * ids of the answer) -> no-repeat n-gram -> bad words -> min new tokens then, when sampling:
 * temperature -> top-k (ties at the threshold kept) -> top-p -> min-p
 * -> typical -> softmax -> draw; when greedy: the largest, the lowest id among equals.
 *
 * Nothing sorts the vocabulary: top-k is a partial selection, and later filters work on what is
 * left (top-p without top-k first cuts to the tokens that can matter).
 * Threads: one sampler a thread. Memory: scratch of V floats, owned by the sampler. */
#ifndef PD_LM_SAMPLER_H
#define PD_LM_SAMPLER_H

#include "base/err.h"
#include "base/rng.h"
#include <stdint.h>

struct pd_id_span {
    const int32_t *ids;
    int64_t n;
};

struct pd_sampling {
    bool greedy;
    double temperature;        /* > 0 */
    int64_t top_k;             /* 0 = off */
    double top_p;              /* (0, 1], 1 = off */
    double min_p;              /* [0, 1), 0 = off */
    double typical_p;          /* (0, 1], 1 = off */
    double repetition_penalty; /* 0.01 to 100, 1 = off */
    double presence_penalty;   /* off the logit of what the answer holds already; 0 = off */
    double frequency_penalty;  /* the same, once for each time it stands there */
    int64_t no_repeat_ngram;   /* 0 = off */
    int64_t min_new_tokens;    /* eos is forbidden before */
    const struct pd_id_span *bad_words;
    int n_bad_words;
    struct pd_id_span eos;
};
/* Hugging Face's GenerationConfig defaults (temperature 1, top-k 50, top-p 1, rest off). */
void pd_sampling_default(struct pd_sampling *s);
/* PD_INVALID naming the first value out of range. */
PD_CHECKED enum pd_rc pd_sampling_check(const struct pd_sampling *s, struct pd_err *err);

struct pd_candidate {
    int32_t id;
    float p; /* probability after all processors */
};

struct pd_draw {
    int32_t id;
    float logprob;     /* log of its probability after all processors (what it was drawn from) */
    float raw_logprob; /* log of its probability under the model: softmax of the raw logits */
};

struct pd_top {
    int32_t id;
    float logprob; /* under softmax of the raw logits */
};

struct pd_sampler;
PD_CHECKED enum pd_rc pd_sampler_new(int64_t vocab, struct pd_sampler **out, struct pd_err *err);
void pd_sampler_free(struct pd_sampler *s); /* accepts NULL */

/* One token. logits (V) are overwritten. `context` = prompt and answer so far, of which the last
 * n_new are the answer. rng is advanced by exactly one number (none when greedy). PD_NONFINITE
 * when the logits hold NaN, PD_INVALID when `how` forbids every token. */
PD_CHECKED enum pd_rc pd_sampler_draw(struct pd_sampler *s, const struct pd_sampling *how,
                                      float *logits, struct pd_id_span context, int64_t n_new,
                                      struct pd_rng *rng, struct pd_draw *out, struct pd_err *err);
/* The n likeliest tokens under the model (1 <= n <= V), in descending order, the lowest id among
 * equals. */
void pd_sampler_top(struct pd_sampler *s, const float *logits, int64_t n, struct pd_top *out);
/* The distribution itself: candidates with p > 0, in descending order of p (ties by id), living in
 * the sampler until its next call. Greedy gives the one token. */
PD_CHECKED enum pd_rc pd_sampler_distribution(struct pd_sampler *s, const struct pd_sampling *how,
                                              float *logits, struct pd_id_span context,
                                              int64_t n_new, const struct pd_candidate **out,
                                              int64_t *n, struct pd_err *err);

#endif
