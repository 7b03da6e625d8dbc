/* One decoder for many callers: a thread owns it and advances the answers of all of them together
 * (lm/generate.h). A caller hands over what it asks, waits for news, and reads the tokens as they
 * come; one that loses interest cancels, and its rows make room at the next step.
 *
 * Every answer has its own random stream named by (seed, prompt, answer), so in fp32 what is said
 * does not depend on who else asks.
 *
 * Threads: any number of callers; a call belongs to the thread that made it. */
#ifndef PD_GEN_ENGINE_H
#define PD_GEN_ENGINE_H

#include "gen/stops.h"
#include "lm/generate.h"

#include <pthread.h>

struct pd_engine;
struct pd_engine_opts {
    int64_t batch;    /* answers at once, 0 = chosen */
    int64_t kv_bytes; /* 0 = chosen */
    int threads;      /* of the kernels; 0 = all cores */
    /* Tokens of a call that its caller leaves lying before the call is dropped (PD_BUSY); 0 =
     * 65,536. Answers do not wait for slow readers: they would keep memory and rows from others. */
    int64_t max_unread;
};

/* Takes the use of dec, not its ownership: nobody else calls it until pd_engine_stop. */
PD_CHECKED enum pd_rc pd_engine_start(struct pd_engine **out, struct pd_decoder *dec,
                                      const struct pd_engine_opts *opts, struct pd_err *err);
/* Calls that are not done fail with PD_INTERRUPTED. Accepts NULL. */
void pd_engine_stop(struct pd_engine *e);

struct pd_ask {
    const struct pd_id_span *prompts; /* borrowed, ids too, until pd_call_end */
    size_t n_prompts;
    int64_t n;                   /* answers to each */
    struct pd_sampling sampling; /* without eos: the model's are used */
    uint64_t seed;
    int64_t max_new;      /* 0 = what the context leaves */
    int64_t top_logprobs; /* per token, 0 = none */
    struct pd_stops stops;
};

struct pd_choice {
    int32_t *ids; /* as drawn, eos included */
    float *logprobs;
    struct pd_top *top; /* (n, top_logprobs), or NULL */
    int64_t n, cap;
    bool done;
    enum pd_finish finish;
};

struct pd_call {
    struct pd_ask ask;
    struct pd_choice *choices; /* (n_prompts, n) */
    size_t n_choices, n_done;
    enum pd_rc rc; /* how it ended */
    struct pd_err err;
    /* private */
    struct pd_engine *engine;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    int64_t first;  /* index of its first prompt in the engine */
    int64_t unread; /* tokens since the caller last looked */
    bool news, held, cancelled;
    struct pd_call *next;
};

/* PD_INVALID for a prompt that is empty, holds an id the model lacks or leaves no room for an
 * answer, or a sampling value out of range. */
PD_CHECKED enum pd_rc pd_engine_ask(struct pd_engine *e, const struct pd_ask *ask,
                                    struct pd_call **out, struct pd_err *err);
/* Waits for news, at most `ms`; then the lock over the choices is the caller's until
 * pd_call_unlock. True once every choice is done or the call has failed (call->rc). */
bool pd_call_wait(struct pd_call *c, int ms);
void pd_call_unlock(struct pd_call *c);
/* Cancels what is not done, waits until the engine has let go, and frees. Accepts NULL. */
void pd_call_end(struct pd_call *c);

struct pd_engine_stats {
    int64_t running, waiting, calls, prompt_tokens, new_tokens;
};
void pd_engine_stats(struct pd_engine *e, struct pd_engine_stats *out); /* any thread */

#endif
