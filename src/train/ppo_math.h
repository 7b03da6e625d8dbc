/* The arithmetic of PPO on one batch of rollouts, apart from any model: per-token KL, rewards,
 * advantages, whitening, and the two clipped losses with their gradients.
 *
 * A batch is flat: rollout i owns tokens [at[i], at[i] + n_i) of every per-token array; there is no
 * padding, so there is no mask. Schulman et al. 2017; GAE: Schulman et al. 2016 eq. 16;
 * per-token KL in the reward: Ziegler et al. 2019. Threads: pure. */
#ifndef PD_TRAIN_PPO_MATH_H
#define PD_TRAIN_PPO_MATH_H

#include <stddef.h>
#include <stdbool.h>

enum pd_kl { PD_KL_K1, PD_KL_K3 };

/* Estimate of KL(policy || ref) at one token from the two log-probs of the token taken:
 * k1 = lp - ref; k3 = exp(ref - lp) - 1 - (ref - lp), which is never negative (Schulman 2020). */
double pd_kl_estimate(enum pd_kl kind, double logprob, double ref_logprob);

/* Generalised advantage estimation over one rollout's n steps; the value after the last is 0.
 * advantages and returns (n) out, returns = advantages + values. */
void pd_gae(const double *rewards, const double *values, size_t n, double gamma, double lambda,
            double *advantages, double *returns);

/* (x - mean) / sqrt(var + 1e-8) in place, var with Bessel's correction; the mean is put back when
 * !shift_mean. n < 2 leaves x as it is. */
void pd_whiten(double *x, size_t n, bool shift_mean);

/* max(-A r, -A clip(r, 1 +- clip)) for r = exp(lp - old): the loss of one token; *dlp gets its
 * derivative by lp, *clipped says whether the clipped branch is the larger. */
double pd_policy_loss(double logprob, double old_logprob, double advantage, double clip,
                      double *dlp, bool *clipped);
/* 0.5 max((v - ret)^2, (clip(v, old +- clip) - ret)^2) of one token; *dv its derivative by v. */
double pd_value_loss(double value, double old_value, double ret, double clip, double *dv,
                     bool *clipped);

/* Ziegler et al. 2019 section 2.2: the next KL coefficient after `episodes` more at `kl`. */
double pd_adaptive_kl(double coef, double kl, double target, double horizon, double episodes);

#endif
