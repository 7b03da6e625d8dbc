/* The measures. Formulas as in the references of agree.h; the tests hold published numbers. */
#include "pref/agree.h"
#include "base/mem.h"

#include <math.h>
#include <string.h>

static double ratings_of(const struct pd_agree *t, size_t p)
{
    double m = 0;
    for (size_t e = t->start[p]; e < t->start[p + 1]; e++)
        m += t->count[e];
    return m;
}

/* Mean over units with two or more ratings of the share of agreeing pairs. */
double pd_agree_percent(const struct pd_agree *t)
{
    double sum = 0, n = 0;
    for (size_t p = 0; p < t->n_patterns; p++) {
        double m = ratings_of(t, p), same = 0;
        if (m < 2 || t->weight[p] == 0)
            continue;
        for (size_t e = t->start[p]; e < t->start[p + 1]; e++)
            same += (double)t->count[e] * (t->count[e] - 1);
        sum += t->weight[p] * same / (m * (m - 1));
        n += t->weight[p];
    }
    return n > 0 ? sum / n : NAN;
}

/* pi[q]: mean over rated units of the share of ratings that are q. */
static double *shares(const struct pd_agree *t)
{
    double *pi = pd_xalloc((t->n_values + 1) * sizeof *pi), n = 0;
    for (size_t p = 0; p < t->n_patterns; p++) {
        double m = ratings_of(t, p);
        if (m < 1)
            continue;
        for (size_t e = t->start[p]; e < t->start[p + 1]; e++)
            pi[t->value[e]] += t->weight[p] * t->count[e] / m;
        n += t->weight[p];
    }
    for (size_t q = 0; q < t->n_values && n > 0; q++)
        pi[q] /= n;
    return pi;
}

static double corrected(double pa, double pe)
{
    return pe < 1 - 1e-12 ? (pa - pe) / (1 - pe) : NAN;
}

double pd_agree_fleiss(const struct pd_agree *t)
{
    double *pi = shares(t), pe = 0;
    for (size_t q = 0; q < t->n_values; q++)
        pe += pi[q] * pi[q];
    pd_free(pi);
    return corrected(pd_agree_percent(t), pe);
}

double pd_agree_ac1(const struct pd_agree *t)
{
    double *pi = shares(t), pe = 0;
    for (size_t q = 0; q < t->n_values; q++)
        pe += pi[q] * (1 - pi[q]);
    pd_free(pi);
    return t->n_values < 2 ? NAN : corrected(pd_agree_percent(t), pe / (double)(t->n_values - 1));
}

/* ---- alpha ---- */

struct metric {
    enum pd_alpha kind;
    const double *number, *distance;
    const double *below; /* ordinal: ratings of smaller values, plus half of its own */
    size_t q;
};

static double squared_distance(const struct metric *m, int c, int v)
{
    double a = m->number ? m->number[c] : c, b = m->number ? m->number[v] : v, d;
    switch (m->kind) {
    case PD_ALPHA_NOMINAL:
        return c != v;
    case PD_ALPHA_ORDINAL: /* sum of n_g from c to v, less half of both ends */
        d = m->below[c] - m->below[v];
        return d * d;
    case PD_ALPHA_INTERVAL:
        return (a - b) * (a - b);
    case PD_ALPHA_RATIO:
        d = a + b != 0 ? (a - b) / (a + b) : 0;
        return d * d;
    case PD_ALPHA_GIVEN:
        return m->distance[(size_t)c * m->q + (size_t)v];
    }
    return 0;
}

double pd_agree_alpha(const struct pd_agree *t, enum pd_alpha metric, const double *number,
                      const double *distance)
{
    double *n_c = pd_xalloc((t->n_values + 1) * sizeof *n_c);
    double *below = pd_xalloc((t->n_values + 1) * sizeof *below);
    double n = 0, observed = 0, expected = 0, sum = 0;
    struct metric m = {metric, number, distance, below, t->n_values};
    for (size_t p = 0; p < t->n_patterns; p++)
        if (ratings_of(t, p) >= 2)
            for (size_t e = t->start[p]; e < t->start[p + 1]; e++)
                n_c[t->value[e]] += t->weight[p] * t->count[e];
    for (size_t c = 0; c < t->n_values; c++) {
        below[c] = n + n_c[c] / 2;
        n += n_c[c];
    }
    for (size_t p = 0; p < t->n_patterns; p++) {
        double pairs = 0, r = ratings_of(t, p);
        if (r < 2 || t->weight[p] == 0)
            continue;
        for (size_t e = t->start[p]; e < t->start[p + 1]; e++)
            for (size_t f = e + 1; f < t->start[p + 1]; f++)
                pairs += 2.0 * t->count[e] * t->count[f] *
                         squared_distance(&m, t->value[e], t->value[f]);
        observed += t->weight[p] * pairs / (r - 1);
    }
    for (size_t c = 0; c < t->n_values; c++)
        for (size_t v = c + 1; v < t->n_values; v++)
            if (n_c[c] > 0 && n_c[v] > 0)
                sum += 2 * n_c[c] * n_c[v] * squared_distance(&m, (int)c, (int)v);
    expected = n > 1 ? sum / (n - 1) : 0;
    pd_free(below);
    pd_free(n_c);
    return expected > 0 ? 1 - observed / expected : NAN;
}

/* ---- two labelers ---- */

double pd_agree_kappa(const double *counts, size_t q, int power)
{
    double n = 0, seen = 0, by_chance = 0;
    for (size_t i = 0; i < q * q; i++)
        n += counts[i];
    for (size_t i = 0; i < q; i++)
        for (size_t j = 0; j < q; j++) {
            double row = 0, column = 0;
            double w =
                power == 0 ? (i != j) : pow(fabs((double)i - (double)j) / (double)(q - 1), power);
            for (size_t k = 0; k < q; k++) {
                row += counts[i * q + k];
                column += counts[k * q + j];
            }
            seen += w * counts[i * q + j];
            by_chance += w * row * column / n;
        }
    return n > 0 && by_chance > 0 ? 1 - seen / by_chance : NAN;
}

double pd_kendall_distance(const int *a, const int *b, size_t k)
{
    double sum = 0;
    size_t pairs = 0;
    for (size_t i = 0; i < k; i++)
        for (size_t j = i + 1; j < k; j++) {
            int x = (a[i] > a[j]) - (a[i] < a[j]), y = (b[i] > b[j]) - (b[i] < b[j]);
            sum += fabs((double)(x - y)) / 2;
            pairs++;
        }
    return pairs ? sum / (double)pairs : 0;
}

/* ---- plain tables ---- */

void pd_agree_table_init(struct pd_agree_table *out, const int *cell, size_t n_units,
                         size_t n_raters, size_t n_values)
{
    size_t n = 0;
    *out =
        (struct pd_agree_table){.start = pd_xalloc((n_units + 1) * sizeof *out->start),
                                .value = pd_xalloc((n_units * n_raters + 1) * sizeof *out->value),
                                .count = pd_xalloc((n_units * n_raters + 1) * sizeof *out->count),
                                .weight = pd_xalloc((n_units + 1) * sizeof *out->weight)};
    for (size_t u = 0; u < n_units; u++) {
        out->start[u] = n;
        out->weight[u] = 1;
        for (size_t r = 0; r < n_raters; r++) {
            int v = cell[u * n_raters + r];
            size_t e = out->start[u];
            while (e < n && out->value[e] != v)
                e++;
            if (v < 0)
                continue;
            if (e == n) {
                out->value[n] = v;
                out->count[n++] = 0;
            }
            out->count[e]++;
        }
    }
    out->start[n_units] = n;
    out->t = (struct pd_agree){.n_values = n_values,
                               .n_patterns = n_units,
                               .start = out->start,
                               .value = out->value,
                               .count = out->count,
                               .weight = out->weight};
}

void pd_agree_table_release(struct pd_agree_table *t)
{
    pd_free(t->start);
    pd_free(t->value);
    pd_free(t->count);
    pd_free(t->weight);
    *t = (struct pd_agree_table){0};
}
