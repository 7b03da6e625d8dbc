/* The statistics that evaluations report: intervals, calibration, correlation. Threads: pure. */
#ifndef PD_TRAIN_STATS_H
#define PD_TRAIN_STATS_H

#include <stddef.h>
#include <stdint.h>

struct pd_interval {
    double lo, hi;
};
/* 95% Wilson score interval of a proportion; `successes` may count ties as halves. n 0 -> [0, 1].
 * Wilson 1927. */
struct pd_interval pd_wilson(double successes, size_t n);
/* 95% percentile bootstrap of the mean of x[n], `rounds` resamples from (seed). n 0 -> NaN. */
struct pd_interval pd_bootstrap_mean(const double *x, size_t n, int rounds, uint64_t seed);
/* Pearson's r; NaN when either side does not vary or n < 2. */
double pd_pearson(const double *x, const double *y, size_t n);
/* Expected calibration error of the model's stated preference: p = sigmoid(|margin|) is its
 * confidence in the side it prefers, right when margin > 0; ten equal bins over [0.5, 1], weighted
 * by their counts. Guo et al. 2017 eq. 3. n 0 -> NaN. */
double pd_ece(const double *margin, size_t n);
double pd_mean(const double *x, size_t n); /* n 0 -> NaN */

#endif
