#include "lm/vocab.h"

#include <math.h>
#include <string.h>

#define LANES 16
typedef float vf __attribute__((vector_size(LANES * 4)));
typedef int32_t vi __attribute__((vector_size(LANES * 4)));
typedef float vf_any __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))
/* Function versions are chosen before sanitizers are up, so those builds take the plain one. A
 * version has one name: of "avx2,fma" gcc makes two, neither of which has both. */
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) &&      \
    !defined(__clang__)
#define CLONES __attribute__((target_clones("avx512f", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif

INLINE vf load(const float *p)
{
    return *(const vf_any *)p;
}

INLINE vf splat(float x)
{
    return x - (vf){0};
}

INLINE vf choose(vi mask, vf yes, vf no)
{
    return (vf)((mask & (vi)yes) | (~mask & (vi)no));
}

INLINE vf larger(vf a, vf b) /* a where b is NaN */
{
    return choose(b > a, b, a);
}

INLINE float lanes_max(vf v)
{
    v = larger(v,
               __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
    v = larger(v,
               __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11));
    const float a = v[0] > v[1] ? v[0] : v[1], b = v[2] > v[3] ? v[2] : v[3];
    return a > b ? a : b;
}

INLINE float lanes_sum(vf v)
{
    _Static_assert(LANES == 16, "sixteen lanes are added below");
    float s[8];
    for (int i = 0; i < 8; i++)
        s[i] = v[i] + v[i + 8];
    return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]));
}

/* e^x for x <= 0, relative error below 2e-7: x = n ln 2 + r, |r| <= ln 2 / 2, and the Taylor
 * polynomial of degree 7 in r. Below -87 it is 0; NaN stays NaN. */
INLINE vf exp_neg(vf x)
{
    const vf lo = splat(-87.0f), magic = splat(12582912.0f); /* 1.5 * 2^23 rounds to integer */
    vf t = choose(x < lo, lo, x);
    vf k = t * 1.44269504088896341f + magic;
    vi n = (vi)k - (vi)magic;
    k -= magic;
    vf r = t - k * 0.693359375f + k * 2.12194440e-4f;
    vf p = r * (1.0f / 5040) + (1.0f / 720);
    p = p * r + (1.0f / 120);
    p = p * r + (1.0f / 24);
    p = p * r + (1.0f / 6);
    p = p * r + 0.5f;
    p = p * (r * r) + r + 1.0f;
    p *= (vf)((n + 127) << 23);
    return choose(x < lo, splat(0), p);
}

CLONES float pd__vocab_max(int64_t n, const float *x, float *block_max)
{
    float top = -INFINITY;
    int64_t i = 0;
    for (int64_t b = 0; i < n; b++) {
        int64_t end = i + PD_VOCAB_BLOCK < n ? i + PD_VOCAB_BLOCK : n;
        vf m = splat(-INFINITY);
        for (; i + LANES <= end; i += LANES)
            m = larger(m, load(x + i));
        float best = lanes_max(m);
        for (; i < end; i++)
            best = x[i] > best ? x[i] : best;
        block_max[b] = best;
        top = best > top ? best : top;
    }
    return top;
}

/* e of the n values at x, up to a vector; 0 in the lanes beyond. */
INLINE vf exp_some(int64_t n, const float *x, float max, float k)
{
    vf part = splat(-INFINITY);
    memcpy(&part, x, (size_t)n * sizeof *x);
    return exp_neg((part - max) * k);
}

CLONES double pd__vocab_exp(int64_t n, const float *x, float max, float k, float *y,
                            float *block_sum)
{
    double sum = 0;
    int64_t i = 0;
    for (int64_t b = 0; i < n; b++) {
        int64_t end = i + PD_VOCAB_BLOCK < n ? i + PD_VOCAB_BLOCK : n;
        vf s = splat(0);
        for (; i + LANES <= end; i += LANES) {
            vf e = exp_neg((load(x + i) - max) * k);
            s += e;
            *(vf_any *)(y + i) = e;
        }
        if (i < end) {
            vf e = exp_some(end - i, x + i, max, k);
            s += e;
            memcpy(y + i, &e, (size_t)(end - i) * sizeof *y);
            i = end;
        }
        block_sum[b] = lanes_sum(s);
        sum += block_sum[b];
    }
    return sum;
}

CLONES double pd__vocab_mass(int64_t n, const float *x, float max, float k)
{
    enum { RUN = 1024 }; /* of as many the sum in fp32 is good to 1e-6 */
    double sum = 0;
    int64_t i = 0;
    while (i + 2 * LANES <= n) {
        int64_t end = i + RUN < n ? i + RUN : n;
        vf s0 = splat(0), s1 = splat(0);
        for (; i + 2 * LANES <= end; i += 2 * LANES) {
            s0 += exp_neg((load(x + i) - max) * k);
            s1 += exp_neg((load(x + i + LANES) - max) * k);
        }
        sum += (double)lanes_sum(s0 + s1);
    }
    for (; i < n; i += LANES)
        sum += (double)lanes_sum(exp_some(n - i < LANES ? n - i : LANES, x + i, max, k));
    return sum;
}

int64_t pd__vocab_at_least(int64_t n, const float *x, const float *block_max, float t, int32_t *out)
{
    int64_t found = 0;
    for (int64_t b = 0; b * PD_VOCAB_BLOCK < n; b++) {
        if (!(block_max[b] >= t))
            continue;
        int64_t end = (b + 1) * PD_VOCAB_BLOCK < n ? (b + 1) * PD_VOCAB_BLOCK : n;
        for (int64_t i = b * PD_VOCAB_BLOCK; i < end; i++) {
            out[found] = (int32_t)i;
            found += x[i] >= t;
        }
    }
    return found;
}

/* Hoare's selection, descending, pivot the middle of three. */
float pd__kth_largest(float *x, int64_t n, int64_t k)
{
    int64_t lo = 0, hi = n - 1, want = k - 1;
    while (lo < hi) {
        float a = x[lo], b = x[lo + (hi - lo) / 2], c = x[hi];
        float pivot = a > b ? (b > c ? b : (a > c ? c : a)) : (a > c ? a : (b > c ? c : b));
        int64_t i = lo, j = hi;
        while (i <= j) {
            while (x[i] > pivot)
                i++;
            while (x[j] < pivot)
                j--;
            if (i <= j) {
                float t = x[i];
                x[i++] = x[j];
                x[j--] = t;
            }
        }
        if (want <= j)
            hi = j;
        else if (want >= i)
            lo = i;
        else
            break;
    }
    return x[want];
}
