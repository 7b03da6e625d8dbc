/* The generation engine: many prompts, several answers each, continuously batched over a live
 * decoder. Used by `podium generate` and by PPO rollouts.
 *
 * A prompt is computed once (long ones in chunks, short ones many at a time) and its KV pages are
 * shared by its answers, and by prompts that say the same and were added one right after the other
 * (the same question under several settings); then every step advances all running answers by one
 * token. Answers leave when they finish and waiting prompts take their place, up to max_rows
 * answers and the memory of the pool.
 *
 * Every answer draws from its own random stream (seed, prompt key, answer index), so what it says
 * does not depend on the order of prompts or on who runs beside it.
 *
 * Owner thread only; kernels and sampling are parallel inside. */
#ifndef PD_LM_GENERATE_H
#define PD_LM_GENERATE_H

#include "base/err.h"
#include "lm/decoder.h"
#include "lm/sampler.h"

enum pd_finish { PD_FINISH_STOP, PD_FINISH_LENGTH };
const char *pd_finish_name(enum pd_finish f); /* "stop", "length" */

struct pd_gen_prompt {
    const int32_t *ids; /* borrowed until its last answer is done */
    int64_t n;          /* >= 1 */
    uint64_t key;       /* names the random streams: an index, or a hash of the prompt */
    uint64_t seed;      /* added to the engine's: one engine serves requests with their own */
    int64_t n_answers;
    uint64_t first_answer;       /* index of the first one; the others follow */
    struct pd_sampling sampling; /* eos ids included */
    int64_t max_new_tokens;      /* > 0; the context of the model also ends an answer */
    int64_t top_logprobs;        /* the likeliest tokens at each step go along, so many; 0 = none */
    void *user;
};

/* A finished answer, valid during the callback (pd_generate: until pd_gen_result_release). */
struct pd_gen_answer {
    int64_t prompt;      /* index in order of adding, from 0 */
    uint64_t answer;     /* first_answer .. */
    int32_t *ids;        /* eos included when it ended with one */
    float *logprobs;     /* (n) under the distribution drawn from: with top_k 0, top_p 1 ... that
                            is softmax(logits / temperature) */
    float *raw_logprobs; /* (n) under softmax(logits) */
    struct pd_top *top;  /* (n, top_logprobs), or NULL */
    int64_t n;
    enum pd_finish finish;
};

enum { PD_GEN_ROWS = 128, PD_GEN_PREFILL = 1024, PD_GEN_LOGIT_ROWS = 128 };

struct pd_gen_opts {
    uint64_t seed;
    int64_t max_rows;       /* answers running at once; 0 = PD_GEN_ROWS */
    int64_t max_kv_bytes;   /* memory for the KV pool; 0 = chosen from what the machine has free */
    int64_t prefill_tokens; /* prompt tokens in one pass; 0 = PD_GEN_PREFILL */
    /* Called for each finished answer on the owner thread. May add prompts. */
    void (*done)(void *ctx, const struct pd_gen_prompt *prompt, const struct pd_gen_answer *answer);
    /* Called after each token; true = end this answer now with finish "stop" (stop strings). */
    bool (*stop)(void *ctx, const struct pd_gen_prompt *prompt, const struct pd_gen_answer *so_far);
    /* Called for an answer whose sampling forbids every next token; it ends there, without `done`.
     * NULL: the step fails with PD_INVALID. */
    void (*stuck)(void *ctx, const struct pd_gen_prompt *prompt, const struct pd_err *why);
    void *ctx;
};

/* A key that depends on what the prompt says, not on where it stands; of equal prompts, on how many
 * came before. */
uint64_t pd_gen_key(struct pd_id_span ids, uint64_t before);

struct pd_gen;
PD_CHECKED enum pd_rc pd_gen_new(struct pd_decoder *dec, const struct pd_gen_opts *opts,
                                 struct pd_gen **out, struct pd_err *err);
void pd_gen_free(struct pd_gen *g); /* accepts NULL; unfinished answers are dropped */
/* Queues a prompt (copied but for ids). PD_INVALID when it does not fit the context. */
PD_CHECKED enum pd_rc pd_gen_add(struct pd_gen *g, const struct pd_gen_prompt *p,
                                 struct pd_err *err);
/* Drops the prompts that were added with this `user`, waiting or running: `done` is not called for
 * what is not done yet, and their ids are not borrowed any more. Not from a callback. */
void pd_gen_cancel(struct pd_gen *g, const void *user);
/* One pass: prompts waiting that fit, or one token for every running answer, or both. *busy = work
 * remains. */
PD_CHECKED enum pd_rc pd_gen_step(struct pd_gen *g, bool *busy, struct pd_err *err);

/* After a step gave PD_NONFINITE or PD_INVALID: the `user` of the prompt whose answer it was
 * drawing; else NULL.
 */
void *pd_gen_culprit(const struct pd_gen *g);

struct pd_gen_stats {
    int64_t prompt_tokens, new_tokens, steps, running, waiting;
    int64_t peak_kv_bytes;
};
void pd_gen_stats(const struct pd_gen *g, struct pd_gen_stats *out);

/* All of it in one call, for rollouts: answers in order p0a0, p0a1, ..., p1a0, ... Stops early with
 * PD_INTERRUPTED when pd_sig_stop(). `done` in opts is not used. */
struct pd_gen_result {
    struct pd_gen_answer *answers;
    int64_t n;
};
PD_CHECKED enum pd_rc pd_generate(struct pd_decoder *dec, const struct pd_gen_prompt *prompts,
                                  int64_t n_prompts, const struct pd_gen_opts *opts,
                                  struct pd_gen_result *out, struct pd_err *err);
void pd_gen_result_release(struct pd_gen_result *r);

#endif
