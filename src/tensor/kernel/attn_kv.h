/* Keys and values as they are kept: fp32, halves, or bytes with a scale for each token and head.
 *
 * A few dimensions of keys are many times as large as the others, in all tokens, and would leave
 * these few of a byte's steps. So what becomes bytes is rotated first, by Hadamard matrices, which
 * spread every dimension over all (Ashkboos et al. 2024, QuaRot, 3.2): queries are rotated
 * likewise, which leaves products as they are, and sums of values are rotated back. */
#ifndef PD_TENSOR_KERNEL_ATTN_KV_H
#define PD_TENSOR_KERNEL_ATTN_KV_H

#include "tensor/kernel/block.h"

typedef int8_t vb __attribute__((vector_size(PD_LANES)));
typedef int8_t vb2 __attribute__((vector_size(PD_LANES * 2)));
typedef int16_t vh __attribute__((vector_size(PD_LANES * 2)));
typedef int16_t vw __attribute__((vector_size(PD_LANES * 4)));

PD_INLINE vf floats_of_bytes(const void *p)
{
#if PD_LANES == 16
    return (vf)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
#elif PD_LANES == 8
    return (vf)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
#else
    vb v;
    memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, vf);
#endif
}

/* PD_LANES values from value i on, bytes without their scale; one. */
PD_INLINE vf kv_load(const enum pd_kv_type kv, const void *p, int64_t i)
{
    const char *at = (const char *)p + i * pd_kv_value_bytes(kv);
    return kv == PD_KV_INT8 ? floats_of_bytes(at)
                            : floats_at(kv == PD_KV_F16 ? PD_DTYPE_F16 : PD_DTYPE_F32, at);
}
PD_INLINE float kv_one(const enum pd_kv_type kv, const void *p, int64_t i)
{
    return kv == PD_KV_INT8  ? ((const int8_t *)p)[i]
           : kv == PD_KV_F16 ? pd_f16_to_f32(((const uint16_t *)p)[i])
                             : ((const float *)p)[i];
}

/* A switch that calls with the type as a constant: CALL(kv). */
#define PD_BY_KV(kv, CALL)                                                                         \
    switch (kv) {                                                                                  \
        PD_CASE(PD_KV_F32, CALL)                                                                   \
        PD_CASE(PD_KV_F16, CALL)                                                                   \
        PD_CASE(PD_KV_INT8, CALL)                                                                  \
    }

/* Sums and differences of lanes h apart. */
PD_INLINE vf butterflies(vf v, const int h)
{
    vf sign;
    for (int i = 0; i < PD_LANES; i++)
        sign[i] = i & h ? -1 : 1;
    return v * sign + v_swap(v, h);
}
/* v times the Hadamard matrix of a vector's size, but for its norm. */
PD_INLINE vf hadamard_within(vf v)
{
    v = butterflies(butterflies(v, 1), 2);
#if PD_LANES >= 8
    v = butterflies(v, 4);
#endif
#if PD_LANES >= 16
    v = butterflies(v, 8);
#endif
    return v;
}
PD_INLINE void add_and_subtract(vf *a, vf *b)
{
    const vf sum = *a + *b;
    *b = *a - *b;
    *a = sum;
}
/* y = x, of so many vectors, times the Hadamard matrix, but for its norm, and times by. */
PD_INLINE void hadamard_of(const int vectors, const float *x, vf by, float *y)
{
    vf v[8];
#pragma GCC unroll 8
    for (int i = 0; i < vectors; i++)
        v[i] = hadamard_within(v_load(x + i * PD_LANES) * by);
#pragma GCC unroll 3
    for (int h = 1; h < vectors; h *= 2)
#pragma GCC unroll 8
        for (int i = 0; i < vectors; i++)
            if (!(i & h))
                add_and_subtract(&v[i], &v[i + h]);
#pragma GCC unroll 8
    for (int i = 0; i < vectors; i++)
        v_store(y + i * PD_LANES, v[i]);
}
/* y = x (m, a power of two) times the Hadamard matrix, which is its own inverse. */
static inline void hadamard(int64_t m, const float *x, float *y)
{
    enum { MOST = 8 * PD_LANES };
    const float norm = 1 / sqrtf((float)m);
    int64_t h = m < PD_LANES ? 1 : MOST; /* done before */
    if (m < PD_LANES)
        for (int64_t i = 0; i < m; i++)
            y[i] = x[i] * norm;
    else if (m == PD_LANES)
        hadamard_of(1, x, v_set(norm), y);
    else if (m == 2 * PD_LANES)
        hadamard_of(2, x, v_set(norm), y);
    else if (m == 4 * PD_LANES)
        hadamard_of(4, x, v_set(norm), y);
    else
        for (int64_t i = 0; i < m; i += MOST)
            hadamard_of(8, x + i, v_set(norm), y + i);
    for (; h < m; h *= 2)
        for (int64_t i = 0; i < m; i++)
            if (!(i & h)) {
                const float a = y[i], b = y[i + h];
                y[i] = a + b;
                y[i + h] = a - b;
            }
}
/* y = x (n) rotated: the powers of two in n one by one, the largest first. y may be x. */
static inline void rotate(int64_t n, const float *x, float *y)
{
    for (int64_t m; n > 0; n -= m, x += m, y += m) {
        for (m = 1; 2 * m <= n;)
            m *= 2;
        hadamard(m, x, y);
    }
}

/* The first m lanes as words, or as bytes. */
PD_INLINE void put_integers(const bool words, vi q, const int64_t m, void *to)
{
    const vh w = __builtin_convertvector(q, vh);
    const vb b = __builtin_convertvector(q, vb);
    if (words)
        memcpy(to, &w, (size_t)m * 2);
    else
        memcpy(to, &b, (size_t)m);
}
/* x (n) = scale * integers of 15 bits with their sign, or of 8: the scale, NaN where a value is not
 * finite. */
PD_INLINE float to_integers(const bool words, int64_t n, const float *x, void *to)
{
    const float most = words ? 16383 : 127;
    const int size = words ? 2 : 1;
    vf top = {0}, bad = {0};
    PD_FOR_LANES(i, m, n)
    {
        const vf v = v_get(x + i, m);
        top = v_max((vf)((vi)v & INT32_MAX), top);
        bad += v * 0.0f;
    }
    const float largest = v_hmax(top);
    const bool some = largest > 1e-30f; /* below that its inverse overflows */
    const vf by = v_set(some ? most / largest : 0);
    int64_t i = 0;
    for (; i + PD_LANES <= n; i += PD_LANES)
        put_integers(words, v_round(v_load(x + i) * by), PD_LANES, (char *)to + i * size);
    if (i < n)
        put_integers(words, v_round(v_load_part(x + i, n - i, 0) * by), n - i,
                     (char *)to + i * size);
    return v_sum(bad) != 0 ? NAN : some ? largest / most : 0;
}

/* m bytes, at most 2 PD_LANES, as words, then zeros. */
PD_INLINE vw words_of_bytes(const int8_t *p, const int64_t m)
{
#if PD_LANES == 16
    const __m256i b = m == 32 ? _mm256_loadu_si256((const __m256i *)(const void *)p)
                              : _mm256_maskz_loadu_epi8((1U << m) - 1, p);
    return (vw)_mm512_cvtepi8_epi16(b);
#else
    int8_t all[2 * PD_LANES] = {0};
    memcpy(all, p, (size_t)m);
#if PD_LANES == 8
    return (vw)_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)all));
#else
    vb2 bytes;
    memcpy(&bytes, all, sizeof bytes);
    return __builtin_convertvector(bytes, vw);
#endif
#endif
}

/* sum + the products of words, by neighbours. */
PD_INLINE vi add_products(vi sum, vw a, vw b)
{
#if PD_LANES == 16 && defined(__AVX512VNNI__)
    return (vi)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#elif PD_LANES == 16
    return sum + (vi)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif PD_LANES == 8
    return sum + (vi)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#else
    for (int i = 0; i < PD_LANES; i++)
        sum[i] += a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
    return sum;
#endif
}

#endif
