#include "train/stats.h"
#include "base/mem.h"
#include "base/rng.h"
#include "train/bt.h"

#include <math.h>
#include <stdlib.h>

struct pd_interval pd_wilson(double successes, size_t n)
{
    const double z = 1.959963984540054;
    if (n == 0)
        return (struct pd_interval){0, 1};
    double m = (double)n, p = successes / m, zz = z * z;
    double middle = (p + zz / (2 * m)) / (1 + zz / m);
    double half = z / (1 + zz / m) * sqrt(p * (1 - p) / m + zz / (4 * m * m));
    return (struct pd_interval){fmax(0, middle - half), fmin(1, middle + half)};
}

double pd_mean(const double *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i];
    return n ? sum / (double)n : NAN;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct pd_interval pd_bootstrap_mean(const double *x, size_t n, int rounds, uint64_t seed)
{
    if (n == 0 || rounds <= 0)
        return (struct pd_interval){NAN, NAN};
    struct pd_rng rng;
    pd_rng_seed(&rng, seed, 0);
    double *means = pd_xalloc((size_t)rounds * sizeof *means);
    for (int r = 0; r < rounds; r++) {
        double sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += x[pd_rng_below(&rng, n)];
        means[r] = sum / (double)n;
    }
    qsort(means, (size_t)rounds, sizeof *means, by_value);
    int lo = (int)floor(0.025 * (rounds - 1)), hi = (int)ceil(0.975 * (rounds - 1));
    struct pd_interval out = {means[lo], means[hi]};
    pd_free(means);
    return out;
}

double pd_pearson(const double *x, const double *y, size_t n)
{
    double mx = pd_mean(x, n), my = pd_mean(y, n), xx = 0, yy = 0, xy = 0;
    for (size_t i = 0; i < n; i++) {
        xx += (x[i] - mx) * (x[i] - mx);
        yy += (y[i] - my) * (y[i] - my);
        xy += (x[i] - mx) * (y[i] - my);
    }
    return n < 2 || xx <= 0 || yy <= 0 ? NAN : xy / sqrt(xx * yy);
}

double pd_ece(const double *margin, size_t n)
{
    enum { BINS = 10 };
    double said[BINS] = {0}, right[BINS] = {0}, error = 0;
    for (size_t i = 0; i < n; i++) {
        double p = pd_sigmoid(fabs(margin[i]));
        int bin = (int)((p - 0.5) * 2 * BINS);
        bin = bin < BINS ? bin : BINS - 1;
        said[bin] += p;
        right[bin] += margin[i] > 0 ? 1 : margin[i] == 0 ? 0.5 : 0;
    }
    for (int b = 0; b < BINS; b++)
        error += fabs(said[b] - right[b]);
    return n ? error / (double)n : NAN;
}
