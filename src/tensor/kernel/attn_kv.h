/* Keys and values as they are kept: fp32, halves, or bytes with a scale for each token and head.
 *
 * A few dimensions of keys are many times as large as the others, in all tokens, and would leave
 * these few of a byte's steps. So what becomes bytes is rotated first, by Hadamard matrices, which
 * spread every dimension over all (Ashkboos et al. 2024, QuaRot, 3.2): queries are rotated
 * likewise, which leaves products as they are, and sums of values are rotated back. */
#ifndef PD_TENSOR_KERNEL_ATTN_KV_H
#define PD_TENSOR_KERNEL_ATTN_KV_H

#include "tensor/kernel/block.h"

/* PD_LANES values from value i on, of keys or values that are not bytes; one. */
PD_INLINE vf kv_load(const enum pd_kv_type kv, const void *p, int64_t i)
{
    const char *at = (const char *)p + i * pd_kv_value_bytes(kv);
    return floats_at(kv == PD_KV_F16 ? PD_DTYPE_F16 : PD_DTYPE_F32, at);
}
PD_INLINE float kv_one(const enum pd_kv_type kv, const void *p, int64_t i)
{
    return kv == PD_KV_F16 ? pd_f16_to_f32(((const uint16_t *)p)[i]) : ((const float *)p)[i];
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

/* What makes the largest magnitude `most`, as an integer; what a step of those is worth: 0 where
 * all are too small for it, NaN where one is not finite. */
struct steps {
    float by, unit;
};
PD_INLINE struct steps steps_to(float most, vf top)
{
    const float largest = v_htop(top);
    if (largest > 1e-30f) /* below that its inverse overflows */
        return (struct steps){most / largest, largest / most};
    return (struct steps){0, isnan(largest) ? NAN : 0};
}

/* x (n) = the unit that this returns * words, at most `most` with their sign; then zeros up to a
 * whole lot of them. */
static inline float to_words(float most, int64_t n, const float *x, int16_t *to)
{
    typedef int16_t words __attribute__((vector_size(PD_LANES * 2)));
    vf top = {0};
    PD_FOR_LANES(i, m, n)
    top = v_top(v_get(x + i, m), top);
    const struct steps s = steps_to(most, top);
    memset(to + n, 0, (size_t)(pd_kv_head_values(PD_KV_INT8, n) - n) * sizeof *to);
    if (s.by == 0) { /* NaN times 0 could be any word */
        memset(to, 0, (size_t)n * sizeof *to);
        return s.unit;
    }
    PD_FOR_LANES(i, m, n)
    {
        const words w = __builtin_convertvector(v_round(v_get(x + i, m) * s.by), words);
        if (m == PD_LANES)
            memcpy(to + i, &w, sizeof w);
        else
            memcpy(to + i, &w, (size_t)m * sizeof *to);
    }
    return s.unit;
}

#endif
