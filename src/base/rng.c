#include "base/rng.h"
#include "base/err.h"

#include <math.h>

__extension__ typedef unsigned __int128 u128;

static uint64_t splitmix(uint64_t *x)
{
    uint64_t z = (*x += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t pd_rng_mix(uint64_t a, uint64_t b)
{
    uint64_t x = a;
    uint64_t h = splitmix(&x);
    x = h ^ b;
    return splitmix(&x);
}

void pd_rng_seed(struct pd_rng *r, uint64_t seed, uint64_t stream)
{
    uint64_t s = seed, t = pd_rng_mix(seed, stream);
    r->state_hi = splitmix(&s);
    r->state_lo = splitmix(&s);
    r->inc_hi = splitmix(&t);
    r->inc_lo = splitmix(&t) | 1; /* odd */
    (void)pd_rng_u64(r);
}

uint64_t pd_rng_u64(struct pd_rng *r)
{
    const u128 mul = (u128)0x2360ed051fc65da4u << 64 | 0x4385df649fccf645u;
    u128 state = (u128)r->state_hi << 64 | r->state_lo;
    u128 inc = (u128)r->inc_hi << 64 | r->inc_lo;
    state = state * mul + inc;
    r->state_hi = (uint64_t)(state >> 64);
    r->state_lo = (uint64_t)state;
    uint64_t x = r->state_hi ^ r->state_lo;
    unsigned rot = (unsigned)(r->state_hi >> 58);
    return x >> rot | x << (-rot & 63);
}

uint64_t pd_rng_below(struct pd_rng *r, uint64_t n)
{
    PD_ASSERT(n > 0);
    uint64_t threshold = -n % n; /* reject the biased tail */
    for (;;) {
        uint64_t x = pd_rng_u64(r);
        if (x >= threshold)
            return x % n;
    }
}

double pd_rng_f64(struct pd_rng *r)
{
    return (double)(pd_rng_u64(r) >> 11) * 0x1p-53;
}

double pd_rng_normal(struct pd_rng *r)
{
    double u = 1.0 - pd_rng_f64(r); /* (0, 1] */
    double v = pd_rng_f64(r);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586476925 * v);
}

void pd_rng_shuffle(struct pd_rng *r, size_t *index, size_t n)
{
    for (size_t i = n; i > 1; i--) {
        size_t j = (size_t)pd_rng_below(r, i);
        size_t t = index[i - 1];
        index[i - 1] = index[j];
        index[j] = t;
    }
}

/* MT19937, Matsumoto & Nishimura 1998. */
void pd_mt_seed(struct pd_mt *m, uint32_t seed)
{
    m->s[0] = seed;
    for (uint32_t i = 1; i < 624; i++)
        m->s[i] = 1812433253u * (m->s[i - 1] ^ (m->s[i - 1] >> 30)) + i;
    m->at = 624;
}

static void mt_twist(struct pd_mt *m)
{
    for (int i = 0; i < 624; i++) {
        uint32_t y = (m->s[i] & 0x80000000u) | (m->s[(i + 1) % 624] & 0x7fffffffu);
        m->s[i] = m->s[(i + 397) % 624] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    m->at = 0;
}

uint32_t pd_mt_u32(struct pd_mt *m)
{
    if (m->at >= 624)
        mt_twist(m);
    uint32_t y = m->s[m->at++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

void pd_mt_randperm(struct pd_mt *m, size_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = i;
    for (size_t i = 0; i + 1 < n; i++) {
        size_t j = i + pd_mt_u32(m) % (n - i);
        size_t t = out[i];
        out[i] = out[j];
        out[j] = t;
    }
}
