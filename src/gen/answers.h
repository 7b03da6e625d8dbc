/* answers.jsonl from prompts: what `podium generate` does once its options are read.
 *
 * Each prompt is encoded (through the chat template or plainly), answered n times by the engine
 * (lm/generate.h), and written as one line in the order of the prompts. Answers of one prompt that
 * say the same are drawn again a few times; what still is the same then is marked and counted.
 *
 * Finished prompts go to OUT.partial at once, under a first line that names the settings. An
 * interrupted job leaves it, and the same command with resume goes on from there: every answer has
 * its own random stream, so the outcome is the same as without the interruption. A job that is
 * finished, whose OUT is there without OUT.partial, has nothing left to resume; an OUT that is not
 * this job's is refused then (PD_CONFLICT). Owner thread. */
#ifndef PD_GEN_ANSWERS_H
#define PD_GEN_ANSWERS_H

#include "gen/bad_words.h"
#include "gen/prompt_ids.h"
#include "gen/spent.h"
#include "lm/generate.h"

struct pd_answers_opts {
    const char *model_name;      /* as it is to stand in the answers */
    const char *weights;         /* their fingerprint (lm/fingerprint.h), like dtype */
    const char *dtype;           /* as --dtype names it: rows of another are not gone on with */
    const char *cache;           /* as --kv-dtype names it: the same */
    const char *out;             /* path, "-" = stdout (nothing to resume then) */
    int64_t n;                   /* answers a prompt */
    int64_t max_new_tokens;      /* 0 = not given */
    int64_t max_length;          /* prompt and answer; 0 = not given; max_new_tokens wins */
    struct pd_sampling sampling; /* without eos: the model's are used */
    const char **stops;          /* texts that end an answer */
    size_t n_stops;
    const struct pd_words *bad_words; /* texts that answers must not hold; NULL = none */
    bool logprobs;                    /* of each token, in the answers */
    int64_t top_logprobs;             /* and of the likeliest at each step, so many; 0 = none */
    enum pd_too_long too_long;
    enum pd_chat_mode chat;
    bool special; /* plain prompts: text that spells a special token is that token */
    uint64_t seed;
    int64_t first_answer; /* number of the first answer in the names of the random streams */
    int64_t batch;        /* answers at once, 0 = chosen */
    int64_t kv_bytes;     /* 0 = chosen */
    int64_t resamples;    /* times an answer that repeats another is drawn again */
    bool numbered;        /* lines of OUT are {"index": place of the prompt, "row": the row} */
    bool resume, quiet;
};

struct pd_answers_summary {
    int64_t prompts, answers, resumed; /* resumed: prompts taken from OUT.partial */
    int64_t prompt_tokens, new_tokens; /* of this run */
    int64_t stopped, duplicates, redrawn;
    int64_t truncated; /* prompts that lost tokens at their left */
    int64_t peak_kv_bytes;
    double seconds;
    /* endpoints */
    int64_t retries,
        failed;      /* requests made again; prompts without an answer, which were reported */
    int64_t unknown; /* answers whose tokens the endpoint did not count */
    double cost;     /* by the prices given */
    struct pd_spent before; /* what earlier runs of a resumed job paid for */
};
/* What the whole job was paid for, up to now. */
static inline struct pd_spent pd_answers_spent(const struct pd_answers_summary *s)
{
    struct pd_spent all = {s->prompt_tokens, s->new_tokens, s->unknown};
    pd_spent_add(&all, &s->before);
    return all;
}

struct pd_prompt_opts pd_answers_prompt_opts(const struct pd_answers_opts *o);
/* "params" of every row, a JSON object. chat: text prompts become messages. */
void pd_answers_settings(const struct pd_answers_opts *o, bool chat, struct pd_buf *out);
/* n jobs over the same prompts side by side, each with its own settings and its own OUT (chat,
 * lengths, batch, kv_bytes and quiet are the same in all): a prompt is computed once for all of
 * them. What the engine counts as a whole (tokens, seconds, memory) stands in sums[0].
 * PD_INTERRUPTED when asked to stop: what is finished is kept. Bad rows are reported through
 * prompts (a prompt that does not fit is one). */
PD_CHECKED enum pd_rc pd_answers_make(struct pd_decoder *dec, struct pd_prompts *prompts,
                                      const struct pd_answers_opts *opts, size_t n,
                                      struct pd_answers_summary *sums, struct pd_err *err);

struct pd_endpoint;
/* The same from an OpenAI-compatible endpoint (gen/endpoint.h), several requests at once, one for
 * each answer. `sampling` is sent as far as it differs from the API's defaults; batch, kv_bytes,
 * special and resamples are not used. A prompt that has no answer after all tries is reported
 * through prompts; unless bad rows are skipped, the job then fails with PD_IO at its end and what
 * it has stays in OUT.partial. */
PD_CHECKED enum pd_rc pd_answers_collect(const struct pd_endpoint *ep, struct pd_prompts *prompts,
                                         const struct pd_answers_opts *opts,
                                         struct pd_answers_summary *summary, struct pd_err *err);

#endif
