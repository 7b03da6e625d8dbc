/* The parts of one PPO run and what its three files share: ppo.c has the loop and all that happens
 * once an update, ppo_learn.c the packed passes and optimizer steps, ppo_report.c metrics, alarms
 * and samples. Private to src/train. */
#ifndef PD_TRAIN_PPO_INT_H
#define PD_TRAIN_PPO_INT_H

#include "train/judge.h"
#include "train/ppo.h"
#include "train/ppo_math.h"
#include "train/rollout.h"

struct ppo {
    const struct pd_ppo_options *o;
    const struct pd_train_options *c; /* = &o->common */
    struct pd_run run;
    struct pd_learner policy;
    struct pd_learner critic; /* dec NULL: the value head sits on the policy's trunk */
    struct pd_model *ref_model;
    struct pd_decoder *ref;
    struct pd_judge judge;
    struct pd_policy_prompts prompts;
    struct pd_rollouts rollouts; /* of the current update */
    bool fixed_rollouts, fixed_scores;
    bool trl;
    float temperature;
    enum pd_kl kl_kind;
    int64_t micro_tokens;

    int64_t update, total; /* updates done, and to do */
    double kl_coef;
    int64_t episodes, num_tokens, unique_tokens;
    double first_entropy;           /* per token, of the first update: what alarms compare with */
    double first_score, last_score; /* sums over the first and the last tenth */
    int64_t first_n, last_n;
    const char *last_alarm;
    int64_t sampled_at; /* update after which samples were last written */

    size_t *order; /* of the prompts, in epoch order_epoch */
    int64_t order_epoch;
    struct pd_view view;
    int frozen_layer; /* blocks below it are frozen and shared with the reference; 0 = none */
    float *x;         /* (rollouts.rows, H): what they computed for this update */
    float *gathered;
    size_t x_n, gathered_n;
    float *lp, *entropy, *lse, *dlp, *value, *dvalue; /* of one view */
    size_t scratch_n;
};

/* ---- ppo_learn.c ---- */

/* Log-probs under policy and reference, entropies and values of all answers, into p->rollouts. */
PD_CHECKED enum pd_rc pd__ppo_examine(struct ppo *p, struct pd_err *err);

struct learning {
    double policy_loss, value_loss; /* sums over steps of the means of each */
    double approx_kl, clipped, value_clipped, entropy;
    double ratio, ratio_squared, max_ratio;
    double grad_norm;
    size_t steps;
};

/* ppo-epochs x mini-batches optimizer steps at rate lr. */
PD_CHECKED enum pd_rc pd__ppo_improve(struct ppo *p, double lr, struct learning *all,
                                      struct pd_err *err);

/* ---- ppo_report.c ---- */

/* What the objective/ metrics are made of, summed over answers. */
struct objective {
    double kl, entropy, non_score, score, penalised;
    double score_squared;
    double surprise; /* sum of -log-prob */
    size_t ended;
};

/* seconds: of sampling, scoring, learning. Also sets m->alarm, and logs one that is new. */
void pd__ppo_metrics(struct ppo *p, const struct objective *o, const struct learning *l, double lr,
                     const double seconds[3], struct pd_metrics *m);
/* The first few prompts of the file, answered greedily by policy and reference, with scores. */
PD_CHECKED enum pd_rc pd__ppo_samples(struct ppo *p, struct pd_err *err);

#endif
