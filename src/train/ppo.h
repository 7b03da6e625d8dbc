/* `podium train ppo`: a policy against a reward model, with a per-token KL to a frozen reference.
 *
 * One update: sample answers from the live weights; score them; log-probs under policy and
 * reference and values, in one packed pass each (a prompt's samples share it); rewards, advantages;
 * then ppo-epochs x mini-batches steps of the clipped losses. Schulman et al. 2017; Ziegler et al.
 * 2019; the details follow TRL's PPOTrainer except where --preset podium (the default) mends it:
 *
 *                        podium                          trl
 *   score is placed      on the last token               one step after it (if there is room)
 *   averages of masks    over real tokens                some over all cells of the padded batch
 *   temperature          T                               T + 1e-7
 *
 * --value-head shared (default) puts a scalar head on the policy's trunk: no second model in
 * memory and no second backward. --value-head model trains a separate copy of the reward model,
 * as TRL does. Owner thread. */
#ifndef PD_TRAIN_PPO_H
#define PD_TRAIN_PPO_H

#include "train/learner.h"
#include "train/stats.h"

struct pd_ppo_options {
    struct pd_train_options common; /* data: prompts; batch_size is not used */
    const char *reward_model;       /* a path, or toy:LO-HI */
    const char *reward_label;       /* of a classifier: whose logit is the reward; else NULL */
    const char *ref_model;          /* NULL = the model as it was at the start */
    const char *rollouts;           /* NULL, or rollouts to learn from instead of sampling */
    int64_t rollout_batch;          /* prompts of an update */
    int64_t samples_per_prompt, mini_batches, ppo_epochs;
    int64_t response_length;
    double temperature;
    double kl_coef;
    const char *kl_estimator; /* k1 | k3 */
    double adaptive_kl;       /* target of the KL per answer; 0 = fixed coefficient */
    double horizon;
    double gamma, lam, cliprange, cliprange_value, vf_coef;
    bool whiten_rewards;
    double missing_eos_penalty; /* 0 = off */
    const char *value_head;     /* shared | model */
    const char *preset;         /* podium | trl */
    const char *chat;           /* auto | on | off */
    int64_t sample_every;       /* updates between entries in samples.jsonl */
    const char *save_dtype;
};
void pd_ppo_options_default(struct pd_ppo_options *o);

struct pd_ppo_result {
    bool finished; /* the run was done before; nothing else is filled in */
    int64_t updates;
    double first_score, last_score; /* means of the first and the last tenth of the updates */
    double last_kl;
};
PD_CHECKED enum pd_rc pd_train_ppo(const struct pd_ppo_options *o, const struct pd_run_about *about,
                                   struct pd_ppo_result *out, struct pd_err *err);

#endif
