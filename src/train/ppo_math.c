#include "train/ppo_math.h"

#include <math.h>

double pd_kl_estimate(enum pd_kl kind, double logprob, double ref_logprob)
{
    double log_ratio = ref_logprob - logprob;
    return kind == PD_KL_K1 ? -log_ratio : expm1(log_ratio) - log_ratio;
}

void pd_gae(const double *rewards, const double *values, size_t n, double gamma, double lambda,
            double *advantages, double *returns)
{
    double next_value = 0, advantage = 0;
    for (size_t t = n; t-- > 0;) {
        double delta = rewards[t] + gamma * next_value - values[t];
        advantage = delta + gamma * lambda * advantage;
        advantages[t] = advantage;
        returns[t] = advantage + values[t];
        next_value = values[t];
    }
}

void pd_whiten(double *x, size_t n, bool shift_mean)
{
    if (n < 2)
        return;
    double mean = 0, var = 0;
    for (size_t i = 0; i < n; i++)
        mean += x[i];
    mean /= (double)n;
    for (size_t i = 0; i < n; i++)
        var += (x[i] - mean) * (x[i] - mean);
    var /= (double)(n - 1);
    double scale = 1 / sqrt(var + 1e-8);
    for (size_t i = 0; i < n; i++)
        x[i] = (x[i] - mean) * scale + (shift_mean ? 0 : mean);
}

double pd_policy_loss(double logprob, double old_logprob, double advantage, double clip,
                      double *dlp, bool *clipped)
{
    double ratio = exp(logprob - old_logprob);
    double bounded = fmin(fmax(ratio, 1 - clip), 1 + clip);
    double plain = -advantage * ratio, limited = -advantage * bounded;
    *clipped = limited > plain;
    /* where the clipped branch wins, it is constant in lp */
    *dlp = *clipped ? 0 : plain;
    return *clipped ? limited : plain;
}

double pd_value_loss(double value, double old_value, double ret, double clip, double *dv,
                     bool *clipped)
{
    double bounded = fmin(fmax(value, old_value - clip), old_value + clip);
    double plain = (value - ret) * (value - ret), limited = (bounded - ret) * (bounded - ret);
    *clipped = limited > plain;
    /* the clipped branch is larger only where the clip is active, and there it is constant */
    *dv = *clipped ? 0 : value - ret;
    return 0.5 * (*clipped ? limited : plain);
}

double pd_adaptive_kl(double coef, double kl, double target, double horizon, double episodes)
{
    double error = fmin(fmax(kl / target - 1, -0.2), 0.2);
    return coef * (1 + error * episodes / horizon);
}
