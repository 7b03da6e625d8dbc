/* Vectors of PD_LANES floats through the compiler's vector extensions: one source for SSE2, AVX2
 * and AVX-512. Comparisons are arranged so that NaN comes out as NaN. */
#ifndef PD_TENSOR_KERNEL_VEC_H
#define PD_TENSOR_KERNEL_VEC_H

#include "tensor/kernels.h"

#ifdef __SSE2__
#include <immintrin.h>
#endif
#include <float.h>
#include <math.h>
#include <string.h>

#if defined(__AVX512F__)
#define PD_LANES 16
#elif defined(__AVX2__)
#define PD_LANES 8
#else
#define PD_LANES 4
#endif

#define PD_KERNEL_NAME2(isa, name) pd_##isa##_##name
#define PD_KERNEL_NAME(isa, name)  PD_KERNEL_NAME2(isa, name)
#define PD_KERNEL(name)            PD_KERNEL_NAME(PD_ISA, name)

#define X(name, args) void PD_KERNEL(name) args;
PD_KERNEL_LIST(X)
#undef X

typedef float vf __attribute__((vector_size(PD_LANES * 4)));
typedef int32_t vi __attribute__((vector_size(PD_LANES * 4)));
typedef float vf_any __attribute__((vector_size(PD_LANES * 4), aligned(4), may_alias));

#define PD_INLINE static inline __attribute__((always_inline, unused))

/* Holds a vector in its register here: the compiler moves no work on it across. Left alone, gcc
 * makes all products of a register tile before it adds any, and spills. */
#if defined(__AVX512F__)
#define PD_HOLD(v) __asm__ volatile("" : "+v"(v))
#elif defined(__SSE2__)
#define PD_HOLD(v) __asm__ volatile("" : "+x"(v))
#else
#define PD_HOLD(v) (void)(v)
#endif
/* And memory: sums kept there are not moved into registers that there are not. */
#define PD_HOLD_MEMORY __asm__ volatile("" ::: "memory")

PD_INLINE vf v_load(const float *p)
{
    return *(const vf_any *)p;
}
PD_INLINE void v_store(float *p, vf v)
{
    *(vf_any *)p = v;
}
PD_INLINE vf v_set(float x)
{
    return x - (vf){0};
}
PD_INLINE vf v_select(vi mask, vf yes, vf no)
{
    return (vf)((mask & (vi)yes) | (~mask & (vi)no));
}
/* a where it is on that side of b, else b: also where one is NaN. */
#if defined(__AVX512F__)
#define PD_EITHER(which, a, side, b) (vf) _mm512_##which##_ps((__m512)(a), (__m512)(b))
#elif defined(__AVX2__)
#define PD_EITHER(which, a, side, b) (vf) _mm256_##which##_ps((__m256)(a), (__m256)(b))
#else
#define PD_EITHER(which, a, side, b) v_select((a)side(b), a, b)
#endif
PD_INLINE vf v_max(vf a, vf b)
{
    return PD_EITHER(max, a, >, b);
}
PD_INLINE vf v_min(vf a, vf b)
{
    return PD_EITHER(min, a, <, b);
}
/* name(a, b): the larger of each lane of integers, by AVX2's instruction or a wider one. */
#ifdef __AVX2__
#define PD_LARGER(name, vector, raw, instruction)                                                  \
    PD_INLINE vector name(vector a, vector b)                                                      \
    {                                                                                              \
        return (vector)instruction((raw)a, (raw)b);                                                \
    }
#else
#define PD_LARGER(name, vector, raw, instruction)                                                  \
    PD_INLINE vector name(vector a, vector b)                                                      \
    {                                                                                              \
        const vector more = a > b;                                                                 \
        return (a & more) | (b & ~more);                                                           \
    }
#endif
#ifdef __AVX512F__
PD_LARGER(v_larger, vi, __m512i, _mm512_max_epi32)
#else
PD_LARGER(v_larger, vi, __m256i, _mm256_max_epi32)
#endif
/* The first m < PD_LANES floats; the rest is fill. */
PD_INLINE vf v_load_part(const float *p, int64_t m, float fill)
{
#ifdef __AVX512F__
    return (vf)_mm512_mask_loadu_ps((__m512)v_set(fill), (__mmask16)((1U << m) - 1), p);
#else
    float t[PD_LANES];
    for (int i = 0; i < PD_LANES; i++)
        t[i] = fill;
    memcpy(t, p, (size_t)m * sizeof *p);
    return v_load(t);
#endif
}
PD_INLINE void v_store_part(float *p, int64_t m, vf v)
{
#ifdef __AVX512F__
    _mm512_mask_storeu_ps(p, (__mmask16)((1U << m) - 1), (__m512)v);
#else
    float t[PD_LANES];
    v_store(t, v);
    memcpy(p, t, (size_t)m * sizeof *p);
#endif
}
/* Lane i of the result is lane to[i] of a and b side by side. clang has no such builtin. */
PD_INLINE vf v_shuffle(vf a, vf b, vi to)
{
#if defined(__clang__)
    vf out = a;
    for (int i = 0; i < PD_LANES; i++)
        out[i] = to[i] < PD_LANES ? a[to[i]] : b[to[i] - PD_LANES];
    return out;
#else
    return __builtin_shuffle(a, b, to);
#endif
}
/* Lanes i + n and i exchanged, for n a power of two. */
PD_INLINE vf v_swap(vf v, int n)
{
    vi to;
    for (int i = 0; i < PD_LANES; i++)
        to[i] = i ^ n;
    return v_shuffle(v, v, to);
}
/* Nearest integers, ties to even, of |x| < 2^22. */
PD_INLINE vi v_round(vf x)
{
    const vf magic = v_set(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    return (vi)(x + magic) - (vi)magic;
}
/* v = both(v, v with lanes n apart exchanged): for those of different 128-bit quarters; for all, so
 * that each has what all make together. Written out, since gcc unrolls no such loop, and would make
 * the shuffles at run time. */
#define PD_FOLD(v, n, both) v = both(v, v_swap(v, n))
#if PD_LANES >= 16
#define PD_FOLD_QUARTERS(v, both)                                                                  \
    PD_FOLD(v, 8, both);                                                                           \
    PD_FOLD(v, 4, both)
#elif PD_LANES >= 8
#define PD_FOLD_QUARTERS(v, both) PD_FOLD(v, 4, both)
#else
#define PD_FOLD_QUARTERS(v, both) (void)0
#endif
#define PD_FOLD_LANES(v, both)                                                                     \
    PD_FOLD_QUARTERS(v, both);                                                                     \
    PD_FOLD(v, 2, both);                                                                           \
    PD_FOLD(v, 1, both)

PD_INLINE vf v_plus(vf a, vf b)
{
    return a + b;
}
PD_INLINE float v_sum(vf v)
{
    PD_FOLD_LANES(v, v_plus);
    return v[0];
}
PD_INLINE float v_hmax(vf v)
{
    PD_FOLD_LANES(v, v_max);
    return v[0];
}

/* What is larger of x without its sign and `top`, which has none: infinity and then NaN more than
 * all numbers. */
PD_INLINE vf v_top(vf x, vf top)
{
    return (vf)v_larger((vi)x & INT32_MAX, (vi)top);
}
/* The largest of all lanes of such tops; NaN where one is not finite. */
PD_INLINE float v_htop(vf top)
{
    PD_FOLD_LANES(top, v_top);
    return top[0] <= FLT_MAX ? top[0] : NAN;
}

/* e^x to about 1 ulp over the normal range; below -87.3 it is 0 within 1e-38, above 88.3 +inf-like
 * large. Range reduction x = n ln2 + r with ln2 in two parts, then a degree 6 minimax in r
 * (Cephes' expf coefficients). */
PD_INLINE vf v_exp(vf x)
{
    const vf lo = v_set(-87.33654f), hi = v_set(88.37626f);
    const vf t = v_min(hi, v_max(lo, x));
    const vf magic = v_set(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    vf k = t * 1.44269504088896341f + magic;
    const vi n = (vi)k - (vi)magic;
    k -= magic;
    vf r = t - k * 0.693359375f;
    r -= k * -2.12194440e-4f;
    vf p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    const vf y = p * (vf)((n + 127) << 23);
    return v_select(x < lo, (vf){0}, y);
}
PD_INLINE vf v_sigmoid(vf x)
{
    return 1.0f / (1.0f + v_exp(-x));
}
PD_INLINE vf v_tanh(vf x)
{
    return 1.0f - 2.0f / (1.0f + v_exp(2.0f * x));
}

/* for (i in blocks of lanes) { m = lanes of this block } */
#define PD_FOR_LANES(i, m, n)                                                                      \
    for (int64_t i = 0, m = (n) < PD_LANES ? (n) : PD_LANES; i < (n);                              \
         i += PD_LANES, m = (n)-i < PD_LANES ? (n)-i : PD_LANES)
PD_INLINE vf v_get(const float *p, int64_t m)
{
    return m == PD_LANES ? v_load(p) : v_load_part(p, m, 0.0f);
}
PD_INLINE void v_put(float *p, int64_t m, vf v)
{
    if (m == PD_LANES)
        v_store(p, v);
    else
        v_store_part(p, m, v);
}

#endif
