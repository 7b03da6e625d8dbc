/* Rollouts: prompts, the answers sampled for them, and everything PPO knows about each token.
 *
 * Answers to one prompt stand side by side and form a group; a group is one prefix tree, so the
 * prompt is computed once for all of them. Per-token arrays are flat: rollout r owns the slots
 * [at, at + n_slots). Slot t speaks of the t-th answer token; its log-prob and value are read at
 * the row of the token before it. In TRL's layout an answer that ends early has one slot more,
 * whose value is read at the last token and where the score is placed. Owner thread. */
#ifndef PD_TRAIN_ROLLOUT_H
#define PD_TRAIN_ROLLOUT_H

#include "lm/generate.h"
#include "lm/model.h"
#include "lm/prompts.h"
#include "train/judge.h"

/* ---- prompts ---- */

struct pd_policy_prompt {
    struct json_object *row;    /* of the file, borrowed; NULL when it came as ids, as is */
    struct json_object *prompt; /* its "prompt": text or messages */
    int32_t *ids;               /* as the policy sees it */
    int64_t n;
    bool plain; /* no template around it */
};
struct pd_policy_prompts {
    struct pd_prompts rows;
    struct pd_policy_prompt *v;
    size_t n, n_too_long;
};
/* chat: "auto" (text goes through the template when the model has one), "on", "off". Longer than
 * max_length tokens: left out and counted. */
PD_CHECKED enum pd_rc pd_policy_prompts_read(struct pd_policy_prompts *p, const char *path,
                                             const struct pd_model *m, const char *chat,
                                             int64_t max_length, bool skip_bad, struct pd_err *err);
void pd_policy_prompts_release(struct pd_policy_prompts *p);

/* ---- rollouts ---- */

struct pd_rollout {
    const struct pd_policy_prompt *prompt;
    int32_t *seq; /* prompt, then answer; owned */
    int32_t n;    /* tokens of the answer, eos included; >= 1 */
    bool ended;   /* the last one is eos */
    size_t at;    /* first slot */
    size_t n_slots;
    float score; /* the judge's, before any penalty */
    struct pd_buf text;
};

struct pd_group {
    size_t first, n; /* rollouts */
    int64_t rows;    /* of its tree */
    int64_t x_at;    /* rows of the groups before it */
};

struct pd_rollouts {
    struct pd_rollout *v;
    size_t n;
    struct pd_group *groups;
    size_t n_groups;
    size_t n_slots, n_tokens; /* slots, and those of them that are answer tokens */
    int64_t rows;             /* of all trees */
    /* per slot; the first three mean something for answer tokens only */
    float *logprob, *ref_logprob, *entropy, *value;
    double *reward, *advantage, *ret;
};

struct pd_sampling_plan {
    uint64_t seed, round; /* round: the update; makes the draws of each update new ones */
    int64_t per_prompt, max_new;
    double temperature; /* 0 = greedy */
    bool extra_slot;    /* TRL's layout */
};

/* Samples answers to prompts[0..n) from the live weights of dec. PD_INTERRUPTED on a signal. */
PD_CHECKED enum pd_rc pd_rollouts_sample(struct pd_rollouts *r, struct pd_decoder *dec,
                                         const struct pd_policy_prompt *const *prompts, size_t n,
                                         const struct pd_sampling_plan *plan, struct pd_err *err);
/* From a file: {"prompt_ids": [..], "ids": [..], "score"?: x} a line, one group each. Prompts are
 * kept in *prompts. has_scores tells whether every row had one. */
PD_CHECKED enum pd_rc pd_rollouts_read(struct pd_rollouts *r, struct pd_policy_prompts *prompts,
                                       const char *path, const struct pd_model *m,
                                       const struct pd_sampling_plan *plan, bool skip_bad,
                                       bool *has_scores, struct pd_err *err);
PD_CHECKED enum pd_rc pd_rollouts_score(struct pd_rollouts *r, const struct pd_judge *judge,
                                        const struct pd_model *policy, struct pd_err *err);
void pd_rollouts_release(struct pd_rollouts *r); /* fine on a zeroed one */

/* ---- packed views ---- */

/* Some groups as a stream: item i is slot slot[i], read at row[i]. The first n_targets items are
 * answer tokens and have a target; the rest are the extra slots. */
struct pd_view {
    struct pd_stream stream;
    int32_t *row, *target;
    size_t *slot;
    size_t n, n_targets, cap;
};
void pd_view_init(struct pd_view *v);
void pd_view_release(struct pd_view *v);
void pd_view_set(struct pd_view *v, const struct pd_rollouts *r, const size_t *groups, size_t n);
/* Groups from the front whose trees fit the budget, at least one. */
size_t pd_view_take(const struct pd_rollouts *r, const size_t *groups, size_t n, int64_t budget);

#endif
