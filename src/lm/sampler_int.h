/* Private to sampler*.c: the sampler's memory, and the options that are left to draw from. */
#ifndef PD_LM_SAMPLER_INT_H
#define PD_LM_SAMPLER_INT_H

#include "lm/sampler.h"

/* The smallest temperature that is computed with: below it nothing changes any more, but a logit
 * over it overflows. */
#define PD_SAMPLER_COLDEST 1e-20

static inline double pd__temperature(const struct pd_sampling *how)
{
    return how->temperature > PD_SAMPLER_COLDEST ? how->temperature : PD_SAMPLER_COLDEST;
}

/* One token that is still in the race. */
struct pd__option {
    int32_t id;
    float z;     /* logit / temperature */
    float p;     /* exp(z - largest z), not normalised */
    float shift; /* typical: |-ln p - entropy| */
};

struct pd_sampler {
    int64_t vocab;
    float *block_max, *block_sum;
    float *scratch;  /* (V) selection */
    int32_t *found;  /* (V + 1) */
    uint32_t *stamp; /* (V) ids met in this call carry `now` */
    uint32_t now;
    struct pd_candidate *penalised; /* ids that penalties changed, with the raw logit first */
    int64_t n_penalised, cap_penalised;
    struct pd__option *options; /* (V), ascending id between filters */
    int64_t n_options;
    struct pd_candidate *out; /* (V), made on first use */
};

/* ---- sampler_warp.c: s->options from logits (V) whose largest is max; block_max is up to date
 * ----
 */

/* What all warpers leave. */
void pd__take_allowed(struct pd_sampler *s, const struct pd_sampling *how, const float *logits,
                      float max);
/* The k largest, and all that equal the k-th. */
void pd__take_top(struct pd_sampler *s, const struct pd_sampling *how, const float *logits,
                  float max, int64_t k);
double pd__options_mass(const struct pd_sampler *s);
/* Most probable first, the lower id among equals. */
bool pd__likelier(const struct pd__option *a, const struct pd__option *b);

#endif
