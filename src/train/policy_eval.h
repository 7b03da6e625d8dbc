/* `podium eval policy`: a policy against another on held-out prompts, answers scored by a reward
 * model. Both answer the same prompts with the same seed; the difference is taken prompt by prompt,
 * so its interval does not carry the spread between prompts. Owner thread. */
#ifndef PD_TRAIN_POLICY_EVAL_H
#define PD_TRAIN_POLICY_EVAL_H

#include "base/json.h"
#include "train/stats.h"

struct pd_policy_eval_options {
    const char *model, *against, *reward_model, *prompts;
    const char *reward_label; /* of a classifier: the label whose logit is the reward; else NULL */
    const char *out;  /* answers.jsonl with one answer of each, in random order; NULL = none */
    const char *chat; /* auto | on | off */
    const char *dtype;
    int64_t n, max_new_tokens, limit; /* answers a prompt; tokens; prompts used, 0 = all */
    double temperature;               /* 0 = greedy */
    int64_t seed, micro_tokens;
    bool skip_bad, quiet;
};
struct pd_policy_side {
    double reward, tokens, unfinished; /* means */
};
struct pd_policy_comparison {
    size_t prompts, answers; /* answers of each side */
    double win_rate;         /* ties half */
    struct pd_interval win_ci;
    double difference; /* mean reward, model - against */
    struct pd_interval difference_ci;
    struct pd_policy_side model, against;
};
PD_CHECKED enum pd_rc pd_policy_compare(const struct pd_policy_eval_options *o,
                                        struct pd_policy_comparison *out, struct pd_err *err);

#endif
