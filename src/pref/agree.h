/* Agreement between labelers.
 *
 * The measures work on patterns: what was said of one unit (a record), as a short list of (value,
 * how many said so), and how many units look like that. Values are 0..n_values-1. A thousand
 * bootstrap rounds then cost little more than drawing units. Undefined results are NAN, which JSON
 * shows as null.
 *
 * References: Krippendorff 2011 (alpha); Fleiss 1971; Gwet 2008 (AC1); missing cells in percent,
 * Fleiss and AC1 as irrCAC has them; Cohen 1960, 1968 (weighted). */
#ifndef PD_PREF_AGREE_H
#define PD_PREF_AGREE_H

#include "base/err.h"
#include <stdint.h>

struct pd_agree {
    size_t n_values, n_patterns;
    const size_t *start;  /* n_patterns + 1: where a pattern's entries begin */
    const int *value;     /* per entry, different within a pattern */
    const int *count;     /* per entry, > 0 */
    const double *weight; /* per pattern: how many units */
};
enum pd_alpha {
    PD_ALPHA_NOMINAL,
    PD_ALPHA_ORDINAL,
    PD_ALPHA_INTERVAL,
    PD_ALPHA_RATIO,
    PD_ALPHA_GIVEN
};

double pd_agree_percent(const struct pd_agree *t);
double pd_agree_fleiss(const struct pd_agree *t);
double pd_agree_ac1(const struct pd_agree *t);
/* number: n_values, the values' numbers, ascending for ordinal (NULL: their indices);
 * distance: n_values x n_values for PD_ALPHA_GIVEN, else NULL. */
double pd_agree_alpha(const struct pd_agree *t, enum pd_alpha metric, const double *number,
                      const double *distance);
/* Cohen's kappa of a square table of counts [said by a][said by b]; weights |i-j|^power /
 * (q-1)^power, power 0 = unweighted. */
double pd_agree_kappa(const double *counts, size_t q, int power);
/* Share of discordant pairs of two tier lists; a tie against a strict order is half discordant. */
double pd_kendall_distance(const int *a, const int *b, size_t k);

/* A plain table, cell[u * n_raters + r] = value or -1: as patterns, one a unit. Arrays are owned by
 * the result. */
struct pd_agree_table {
    struct pd_agree t;
    size_t *start;
    int *value, *count;
    double *weight;
};
void pd_agree_table_init(struct pd_agree_table *out, const int *cell, size_t n_units,
                         size_t n_raters, size_t n_values);
void pd_agree_table_release(struct pd_agree_table *t);

#endif
