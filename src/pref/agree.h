/* Agreement between labelers, on a table units x raters.
 *
 * cell[u * n_raters + r] = the value's index in 0..n_values-1, or -1 when missing; `number` gives
 * the values' numbers for ordinal and interval alpha (NULL: their indices). Undefined results are
 * NAN; the JSON writer prints null. References: Krippendorff 2011; Fleiss 1971; Gwet 2008 (missing
 * cells as irrCAC has them); Cohen 1960. */
#ifndef PD_PREF_AGREE_H
#define PD_PREF_AGREE_H

#include "base/err.h"
#include "base/json.h"
#include <stdint.h>

struct pd_agree_table {
    size_t n_units, n_raters, n_values;
    const int *cell;
    const double *number;
};
enum pd_alpha_metric { PD_ALPHA_NOMINAL, PD_ALPHA_ORDINAL, PD_ALPHA_INTERVAL, PD_ALPHA_RATIO };

double pd_agree_percent(const struct pd_agree_table *t);
double pd_agree_cohen(const struct pd_agree_table *t, size_t a, size_t b); /* raters */
double pd_agree_fleiss(const struct pd_agree_table *t);
double pd_agree_ac1(const struct pd_agree_table *t);
double pd_agree_alpha(const struct pd_agree_table *t, enum pd_alpha_metric metric);
/* Weighted kappa of a square table of counts: weights |i-j|^power / (Q-1)^power, 0 = unweighted. */
double pd_kappa_counts(const double *counts, size_t q, int power);

/* Rankings of k items: tiers[(u * n_raters + r) * k + i], first item -1 = missing; distance = share
 * of discordant pairs, tie against strict 1/2. */
double pd_agree_alpha_rankings(const int *tiers, size_t n_units, size_t n_raters, size_t k);
double pd_kendall_distance(const int *a, const int *b, size_t k);

/* Percentile bootstrap over units: 95%. fn is called on resampled unit lists. */
typedef double pd_agree_fn(const void *data, const size_t *units, size_t n_units);
void pd_agree_bootstrap(pd_agree_fn *fn, const void *data, size_t n_units, int rounds,
                        uint64_t seed, double *lo, double *hi);

#endif
