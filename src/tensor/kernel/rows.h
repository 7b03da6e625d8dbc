/* Rows of x as integers, in the order in which panels of weights are multiplied with them
 * (wmul_packed.c). */
#ifndef PD_TENSOR_KERNEL_ROWS_H
#define PD_TENSOR_KERNEL_ROWS_H

#include "tensor/kernel/panel.h"

enum {
    STEPS = 8, /* of four bytes a row, in 32 bytes */
    ROWS = 6,  /* of a tile, for each of which there are two groups of sums */
};
/* X for each number of rows that a tile may have: a case of a switch, so that each is unrolled. */
#define ROW_COUNTS(X) X(6) X(5) X(4) X(3) X(2) X(1)
enum form { BYTES, SPLIT, WORDS };

/* Bytes of a block of a row. */
PD_INLINE int64_t form_size(const enum form f)
{
    return f == BYTES ? 32 : 64;
}

static enum form form_of(const struct pd_wmul_call *c)
{
    const enum pd_dtype t = c->m->part[0].dtype;
    if (is_float(t) || (t == PD_DTYPE_Q8_0 && !HAS_VNNI))
        return WORDS;
    return c->bytes ? BYTES : SPLIT;
}

/* A tile of rows, in the order in which they are multiplied: q[block][step][row][4 bytes], for
 * SPLIT the steps of the high bytes first; then [block][row]. A tile of one row is a row. */
struct tile {
    int8_t *q;
    float *scale, *sum;
    int32_t *count; /* -8 times the sum of q_x */
    /* With a table: the scale's octave, and where its quarter stands among those of a block. */
    float *octave;
    int32_t *place;
    int64_t t0, rows;
};

static inline struct tile tile_at(const struct pd_wmul_call *c, enum form f, int64_t i)
{
    const int64_t t0 = tile_begin(c, ROWS, i), at = t0 * c->blocks;
    return (struct tile){.q = (int8_t *)c->q + form_size(f) * at,
                         .scale = c->scale + at,
                         .sum = c->sum + at,
                         .count = c->count + at,
                         .octave = c->octave + at,
                         .place = c->place + at,
                         .t0 = t0,
                         .rows = tile_begin(c, ROWS, i + 1) - t0};
}

/* Block b of a row as integers. */
PD_INLINE void quantise_block(const enum form f, float limit, const float *x, const struct tile *t,
                              int64_t r, int64_t b)
{
    const int64_t i = b * t->rows + r, every = 4 * t->rows;
    struct rounded32 q;
    if (f == BYTES) {
        const struct byte_scale s = scale_bytes(top_float(x));
        q = rounded(x, s.scale, s.up);
    } else {
        q = round32(x, limit);
    }
    t->scale[i] = q.scale;
    t->sum[i] = q.scale * (float)q.sum;
    t->count[i] = (int32_t)(-8 * (uint32_t)q.sum); /* wraps, where x is NaN */
    int8_t *to = t->q + b * form_size(f) * t->rows + 4 * r, *second = to + STEPS * every;
    if (f == BYTES) {
        const __m256i bytes = bytes_of(q.lo, q.hi);
        spread(&bytes, every, to);
    } else if (f == SPLIT) {
        const i16x16 lo_high = (q.lo + 128) >> 8, hi_high = (q.hi + 128) >> 8;
        const __m256i high = bytes_of(lo_high, hi_high);
        const __m256i low = bytes_of(q.lo - (lo_high << 8), q.hi - (hi_high << 8));
        spread(&high, every, to);
        spread(&low, every, second);
    } else {
        spread(&q.lo, every, to);
        spread(&q.hi, every, second);
    }
}

/* ---- bytes, with VNNI: block by block, all rows of a tile side by side ---- */

#if HAS_VNNI
/* Eight values, one for each row. */
typedef int32_t by_row __attribute__((vector_size(32)));
typedef float floats_by_row __attribute__((vector_size(32)));

/* out[r] = the largest lane of in[r], or the sum of its lanes. */
#define PD_LANES_BY_ROW(name, both)                                                                \
    PD_INLINE by_row name(const by_row *in)                                                        \
    {                                                                                              \
        __m256i two[4], four[2];                                                                   \
        for (int i = 0; i < 4; i++) {                                                              \
            const __m256i a = (__m256i)in[2 * i], b = (__m256i)in[2 * i + 1];                      \
            two[i] = both(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));               \
        }                                                                                          \
        for (int i = 0; i < 2; i++)                                                                \
            four[i] = both(_mm256_unpacklo_epi64(two[2 * i], two[2 * i + 1]),                      \
                           _mm256_unpackhi_epi64(two[2 * i], two[2 * i + 1]));                     \
        return (by_row)both(_mm256_permute2x128_si256(four[0], four[1], 0x20),                     \
                            _mm256_permute2x128_si256(four[0], four[1], 0x31));                    \
    }
PD_LANES_BY_ROW(largest_by_row, _mm256_max_epi32)
PD_LANES_BY_ROW(sums_by_row, _mm256_add_epi32)

/* What is larger of the lanes of 32 floats without their signs, as integers; infinity and NaN are
 * the largest. */
PD_INLINE by_row magnitudes(const float *x)
{
    const vf second = (vf)((vi)v_load(x + PD_LANES) & INT32_MAX);
    const __m512i m = (__m512i)v_top(v_load(x), second);
    return (by_row)_mm256_max_epi32(_mm512_castsi512_si256(m), _mm512_extracti64x4_epi64(m, 1));
}

/* scale_bytes of eight rows. */
struct byte_scales {
    floats_by_row scale, up, octave;
    by_row quarter;
};
PD_INLINE floats_by_row pick(const float *of_four, by_row which)
{
    return (floats_by_row)_mm256_permutevar_ps(
        _mm256_broadcast_ps((const __m128 *)(const void *)of_four), (__m256i)which);
}
PD_INLINE struct byte_scales scales_by_row(by_row magnitude)
{
    const by_row odd = magnitude >= 0x7f800000;
    const floats_by_row m = (floats_by_row)magnitude;
    const by_row nothing = m <= NO_SCALE;
    const by_row least = (by_row)(m * (1.0f / 127.0f));
    const by_row mantissa = least & 0x7fffff;
    by_row above = {0};
#pragma GCC unroll 4
    for (int k = 0; k < QUARTERS; k++)
        above -= mantissa > mantissas[k];
    const by_row e = (least >> 23) + (above >> 2);
    struct byte_scales s = {.quarter = above & 3};
    s.scale = pick(quarters, s.quarter) * (floats_by_row)(e << 23);
    s.up =
        (floats_by_row)((by_row)(pick(per_quarter, s.quarter) * (floats_by_row)((254 - e) << 23)) &
                        ~nothing);
    s.octave = __builtin_convertvector(e - 127, floats_by_row);
    s.scale = (floats_by_row)(((by_row)s.scale & ~nothing) | odd); /* all bits set: NaN */
    s.octave = (floats_by_row)(((by_row)s.octave & ~nothing) | odd);
    return s;
}

/* 32 floats times up as bytes. */
PD_INLINE by_row bytes_of_row(const float *x, float up)
{
    const __m512 by = _mm512_set1_ps(up);
    const __m512i lo = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), by));
    const __m512i hi = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + PD_LANES), by));
    return (by_row)_mm256_set_m128i(_mm512_cvtsepi32_epi8(hi), _mm512_cvtsepi32_epi8(lo));
}

/* to[step][row] = step of row, of n rows. */
PD_INLINE void interleave(const int n, const by_row *row, int8_t *to)
{
    __m512i two[4];
    for (int i = 0; i < 4; i++)
        two[i] = _mm512_inserti64x4(_mm512_castsi256_si512((__m256i)row[2 * i]),
                                    (__m256i)row[2 * i + 1], 1);
#pragma GCC unroll 3
    for (int at = 0; at < STEPS * n; at += PD_LANES) {
        vi first, last;
        __mmask16 of_last = 0, there = 0;
        for (int i = 0; i < PD_LANES; i++) {
            const int r = (at + i) % n, step = (at + i) / n % STEPS;
            first[i] = r % 2 * STEPS + step + r / 2 % 2 * PD_LANES;
            last[i] = r % 2 * STEPS + step;
            of_last |= (__mmask16)((r >= 4) << i);
            there |= (__mmask16)((at + i < STEPS * n) << i);
        }
        __m512i v = _mm512_permutex2var_epi32(two[0], (__m512i)first, two[1]);
        v = _mm512_mask_permutexvar_epi32(v, of_last, (__m512i)last, two[2]);
        _mm512_mask_storeu_epi32(to + 4 * at, there, v);
    }
}

PD_INLINE void put_rows(const int n, void *to, by_row v)
{
    _mm256_mask_storeu_epi32(to, (__mmask8)((1 << n) - 1), (__m256i)v);
}

/* Block b of a tile of n rows, which begins at x, x + ldx, ... */
PD_INLINE void bytes_together(const int n, const float *x, int64_t ldx, const struct tile *t,
                              int64_t b)
{
    const by_row one = (by_row)_mm256_set1_epi8(1);
    by_row row[8] = {{0}};
#pragma GCC unroll 6
    for (int r = 0; r < n; r++)
        row[r] = magnitudes(x + r * ldx);
    const struct byte_scales s = scales_by_row(largest_by_row(row));
#pragma GCC unroll 6
    for (int r = 0; r < n; r++)
        row[r] = bytes_of_row(x + r * ldx, s.up[r]);
    interleave(n, row, t->q + b * form_size(BYTES) * n);
#pragma GCC unroll 6
    for (int r = 0; r < n; r++)
        row[r] = (by_row)_mm256_dpbusd_epi32(_mm256_setzero_si256(), (__m256i)one, (__m256i)row[r]);
    const by_row sum = sums_by_row(row);
    put_rows(n, t->scale + b * n, (by_row)s.scale);
    put_rows(n, t->sum + b * n, (by_row)(s.scale * __builtin_convertvector(sum, floats_by_row)));
    put_rows(n, t->count + b * n, -8 * sum);
    put_rows(n, t->octave + b * n, (by_row)s.octave);
    put_rows(n, t->place + b * n, s.quarter * WIDTH);
}

PD_INLINE void quantise_together(const struct pd_wmul_call *c, const struct tile *t)
{
    const float *x = c->x + t->t0 * c->ldx;
    const int64_t whole = c->m->in / 32, left = c->m->in % 32;
    float some[ROWS][32] = {{0}};
    for (int64_t r = 0; r < t->rows && left; r++)
        memcpy(some[r], x + r * c->ldx + 32 * whole, (size_t)left * sizeof *x);
    switch (t->rows) {
#define TILE(n)                                                                                    \
    case n:                                                                                        \
        for (int64_t b = 0; b < whole; b++)                                                        \
            bytes_together(n, x + 32 * b, c->ldx, t, b);                                           \
        if (left)                                                                                  \
            bytes_together(n, some[0], 32, t, whole);                                              \
        break;
        ROW_COUNTS(TILE)
#undef TILE
    }
}
#endif

PD_INLINE void quantise(const enum form f, const struct pd_wmul_call *c, const struct tile *t)
{
#if HAS_VNNI
    if (f == BYTES) {
        quantise_together(c, t);
        return;
    }
#endif
    const float limit = f == BYTES ? 127.0f : c->limit;
    for (int64_t r = 0; r < t->rows; r++) {
        const float *x = c->x + (t->t0 + r) * c->ldx;
        const int64_t whole = c->m->in / 32, left = c->m->in % 32;
        for (int64_t b = 0; b < whole; b++)
            quantise_block(f, limit, x + 32 * b, t, r, b);
        if (left) {
            float some[32] = {0};
            memcpy(some, x + 32 * whole, (size_t)left * sizeof *x);
            quantise_block(f, limit, some, t, r, whole);
        }
    }
}

#endif
