/* `podium train reward`: a reward model from preference pairs, as TRL's RewardTrainer trains one,
 * with each pair's shared prompt computed once and nothing padded. Owner thread. */
#ifndef PD_TRAIN_REWARD_H
#define PD_TRAIN_REWARD_H

#include "train/learner.h"
#include "train/pairs.h"
#include "train/reward_eval.h"

struct pd_reward_options {
    struct pd_train_options common;
    double center_rewards_coefficient; /* 0 = off */
    bool use_margin, use_weight;
    const char *reward_label; /* of a classifier: the label to begin with; else NULL */
    const char *init_head;    /* zeros | normal: a head that the model's files lack */
    const char *too_long;     /* drop | truncate-prompt */
    const char *save_dtype;   /* fp32 | bf16 */
    int64_t frozen_cache;     /* largest cache of frozen blocks' output, bytes */
};
void pd_reward_options_default(struct pd_reward_options *o);

struct pd_reward_result {
    int64_t steps;
    double loss;   /* mean of the last tenth of the steps */
    bool finished; /* the run was done before; nothing else is filled in */
    bool evaluated;
    struct pd_reward_summary eval;
};
/* The whole run, from reading the data to model/ and report.html. PD_INTERRUPTED after a signal or
 * a stop file, with a checkpoint saved. */
PD_CHECKED enum pd_rc pd_train_reward(const struct pd_reward_options *o,
                                      const struct pd_run_about *about,
                                      struct pd_reward_result *out, struct pd_err *err);

#endif
