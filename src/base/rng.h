/* Random numbers, two kinds.
 *
 * struct pd_rng: PCG64 (XSL-RR 128/64, O'Neill 2014), seeded from (seed, stream): the same pair
 * gives the same sequence everywhere, streams are independent, the state is 32 plain bytes that a
 * checkpoint stores. struct pd_mt: MT19937, only where the order of torch.randperm on the CPU must
 * be reproduced. Neither is for secrets: see base/crypt.h. Owner thread only. */
#ifndef PD_BASE_RNG_H
#define PD_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

struct pd_rng {
    uint64_t state_hi, state_lo, inc_hi, inc_lo;
};
void pd_rng_seed(struct pd_rng *r, uint64_t seed, uint64_t stream);
/* Stream number from several parts, e.g. (prompt, answer). */
uint64_t pd_rng_mix(uint64_t a, uint64_t b);
uint64_t pd_rng_u64(struct pd_rng *r);
uint64_t pd_rng_below(struct pd_rng *r, uint64_t n); /* uniform in [0, n), n > 0, unbiased */
double pd_rng_f64(struct pd_rng *r);                 /* [0, 1), 53 bits */
double pd_rng_normal(struct pd_rng *r);              /* mean 0, variance 1 */
void pd_rng_shuffle(struct pd_rng *r, size_t *index, size_t n); /* Fisher-Yates in place */

struct pd_mt {
    uint32_t s[624];
    int at;
};
void pd_mt_seed(struct pd_mt *m, uint32_t seed);
uint32_t pd_mt_u32(struct pd_mt *m);
/* torch.randperm(n) of a CPU generator. */
void pd_mt_randperm(struct pd_mt *m, size_t *out, size_t n);

#endif
