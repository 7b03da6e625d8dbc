#include "lm/sampler_int.h"
#include "lm/vocab.h"

#include <math.h>
#include <string.h>

/* Total orders on options: most probable first, most typical first; the lower id among equals. */
bool pd__likelier(const struct pd__option *a, const struct pd__option *b)
{
    return a->z != b->z ? a->z > b->z : a->id < b->id;
}

static bool more_typical(const struct pd__option *a, const struct pd__option *b)
{
    return a->shift != b->shift ? a->shift < b->shift : a->id < b->id;
}

/* The last option taken when they are taken in the order of `before` until their mass reaches
 * `target`. A selection, not a sort: each round partitions the options in question at the middle
 * of three and goes on with the side where the mass is reached. */
static struct pd__option
last_taken(struct pd_sampler *s,
           bool (*before)(const struct pd__option *, const struct pd__option *), double target)
{
    const struct pd__option *o = s->options;
    int32_t *at = s->found;
    for (int64_t i = 0; i < s->n_options; i++)
        at[i] = (int32_t)i;
    int64_t lo = 0, hi = s->n_options - 1;
    double sum = 0; /* of those that come before lo */
    for (;;) {
        int64_t mid = lo + (hi - lo) / 2, m = lo;
        int64_t fore = before(&o[at[lo]], &o[at[hi]]) ? lo : hi, back = lo + hi - fore;
        if (before(&o[at[mid]], &o[at[fore]]))
            mid = fore;
        else if (before(&o[at[back]], &o[at[mid]]))
            mid = back;
        int32_t pivot = at[mid];
        at[mid] = at[hi];
        double left = 0;
        for (int64_t i = lo; i < hi; i++) {
            int32_t x = at[i];
            if (before(&o[x], &o[pivot])) {
                left += o[x].p;
                at[i] = at[m];
                at[m++] = x;
            }
        }
        at[hi] = at[m];
        at[m] = pivot;
        if (m > lo && sum + left >= target) {
            hi = m - 1;
            continue;
        }
        sum += left + o[pivot].p;
        if (sum >= target || m == hi)
            return o[pivot];
        lo = m + 1;
    }
}

double pd__options_mass(const struct pd_sampler *s)
{
    double sum = 0;
    for (int64_t i = 0; i < s->n_options; i++)
        sum += s->options[i].p;
    return sum;
}

/* The options with logit >= t. */
static void take_at_least(struct pd_sampler *s, const struct pd_sampling *how, const float *logits,
                          float max, float t)
{
    float temperature = (float)pd__temperature(how), top = max / temperature;
    s->n_options = pd__vocab_at_least(s->vocab, logits, s->block_max, t, s->found);
    for (int64_t i = 0; i < s->n_options; i++) {
        float z = logits[s->found[i]] / temperature;
        s->options[i] = (struct pd__option){.id = s->found[i], .z = z, .p = expf(z - top)};
    }
}

/* The k largest and all that equal the k-th. A block of 64 whose maximum is among the k largest
 * maxima holds at least one of them, so the k-th largest maximum is a bound from below: one scan
 * for maxima, one over the few blocks that reach it. */
void pd__take_top(struct pd_sampler *s, const struct pd_sampling *how, const float *logits,
                  float max, int64_t k)
{
    int64_t blocks = pd__vocab_blocks(s->vocab);
    float bound = -INFINITY;
    if (k <= blocks) {
        memcpy(s->scratch, s->block_max, (size_t)blocks * sizeof *s->scratch);
        bound = pd__kth_largest(s->scratch, blocks, k);
    }
    int64_t n = pd__vocab_at_least(s->vocab, logits, s->block_max, bound, s->found);
    for (int64_t i = 0; i < n; i++)
        s->scratch[i] = logits[s->found[i]];
    if (k < n)
        bound = pd__kth_largest(s->scratch, n, k);
    take_at_least(s, how, logits, max, bound);
}

/* Options that hold the share top_p: the top few where that is enough, as it nearly always is;
 * otherwise those down to the logit at which a histogram of the mass reaches the share. Returns the
 * mass of all. */
static double take_nucleus(struct pd_sampler *s, const struct pd_sampling *how, const float *logits,
                           float max)
{
    enum { FEW = 512, BINS = 1024, BINS_PER_NAT = 32 };
    float inv = (float)(1 / pd__temperature(how)),
          width = (float)pd__temperature(how) / BINS_PER_NAT;
    double total = pd__vocab_mass(s->vocab, logits, max, inv);
    if (FEW < s->vocab) {
        pd__take_top(s, how, logits, max, FEW);
        if (pd__options_mass(s) >= how->top_p * total)
            return total;
    }
    double bins[BINS] = {0}, sum = 0;
    pd__vocab_exp(s->vocab, logits, max, inv, s->scratch, s->block_sum);
    for (int64_t i = 0; i < s->vocab; i++) {
        float bin = (max - logits[i]) / width;
        bins[bin < BINS - 1 ? (int)bin : BINS - 1] += s->scratch[i];
    }
    int b = 0;
    while (b < BINS - 1 && sum + bins[b] < how->top_p * total)
        sum += bins[b++];
    /* one bin more than needed: its edge is not hit to the last bit */
    take_at_least(s, how, logits, max, b < BINS - 2 ? max - (float)(b + 2) * width : -INFINITY);
    return total;
}

/* Keeps, from the most probable down, while the mass before is below top_p. `total` is the mass of
 * the whole distribution, of which the options may be only the upper part. */
static void filter_top_p(struct pd_sampler *s, double top_p, double total)
{
    struct pd__option last = last_taken(s, pd__likelier, top_p * total);
    int64_t n = 0;
    for (int64_t i = 0; i < s->n_options; i++)
        if (!pd__likelier(&last, &s->options[i]))
            s->options[n++] = s->options[i];
    s->n_options = n;
}

static void filter_min_p(struct pd_sampler *s, double min_p)
{
    int64_t n = 0;
    for (int64_t i = 0; i < s->n_options; i++)
        if (s->options[i].p >= (float)min_p) /* the largest has p = 1 */
            s->options[n++] = s->options[i];
    s->n_options = n;
}

/* Meister et al. 2022: the tokens whose surprise is nearest the entropy, up to a mass; ties with
 * the last one stay. `top` is the largest z. */
static void filter_typical(struct pd_sampler *s, double typical_p, float top)
{
    double total = pd__options_mass(s), log_total = log(total), entropy = 0;
    for (int64_t i = 0; i < s->n_options; i++) {
        const struct pd__option *o = &s->options[i];
        entropy += o->p > 0 ? o->p / total * (log_total - ((double)o->z - top)) : 0;
    }
    for (int64_t i = 0; i < s->n_options; i++) {
        struct pd__option *o = &s->options[i];
        o->shift = (float)fabs(log_total - ((double)o->z - top) - entropy);
    }
    struct pd__option last = last_taken(s, more_typical, typical_p * total);
    int64_t n = 0;
    for (int64_t i = 0; i < s->n_options; i++)
        if (s->options[i].shift <= last.shift)
            s->options[n++] = s->options[i];
    s->n_options = n;
}

/* The options after all warpers, ascending by id. block_max is up to date. */
void pd__take_allowed(struct pd_sampler *s, const struct pd_sampling *how, const float *logits,
                      float max)
{
    double total = 0;
    if (how->top_k > 0 && how->top_k < s->vocab) {
        pd__take_top(s, how, logits, max, how->top_k);
        total = pd__options_mass(s);
    } else if (how->top_p < 1) {
        total = take_nucleus(s, how, logits, max);
    } else if (how->min_p > 0) {
        double reach = pd__temperature(how) * (log(how->min_p) - 1e-3);
        take_at_least(s, how, logits, max, max + (float)reach);
    } else {
        take_at_least(s, how, logits, max, -INFINITY);
    }
    if (how->top_p < 1)
        filter_top_p(s, how->top_p, total);
    if (how->min_p > 0)
        filter_min_p(s, how->min_p);
    if (how->typical_p < 1)
        filter_typical(s, how->typical_p, max / (float)pd__temperature(how));
}
