#include "train/bt.h"

#include <math.h>

double pd_log_sigmoid(double x)
{
    return x < 0 ? x - log1p(exp(x)) : -log1p(exp(-x));
}

double pd_sigmoid(double x)
{
    if (x >= 0)
        return 1.0 / (1.0 + exp(-x));
    double e = exp(x);
    return e / (1.0 + e);
}

double pd_bt_loss(double rc, double rr, double margin, double weight, double center, double *drc,
                  double *drr)
{
    double d = rc - rr - margin;
    double sum = rc + rr;
    double g = -weight * pd_sigmoid(-d); /* d loss / d d */
    *drc = g + 2 * center * sum;
    *drr = -g + 2 * center * sum;
    return -weight * pd_log_sigmoid(d) + center * sum * sum;
}

void pd_bt_add(struct pd_bt_sums *s, double rc, double rr, double loss)
{
    double lo = fmin(rc, rr), hi = fmax(rc, rr);
    s->min_reward = s->n == 0 ? lo : fmin(s->min_reward, lo);
    s->max_reward = s->n == 0 ? hi : fmax(s->max_reward, hi);
    s->n++;
    s->right += rc > rr;
    s->ties += rc == rr;
    s->loss += loss;
    s->margin += rc - rr;
    s->reward += rc + rr;
}
