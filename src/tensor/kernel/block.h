/* 32 stored weights as vectors: value k = scale * q[k] + min, with q of 16 bits.
 *
 * Q formats are exact so (layouts and formulas as in dtype.c). Floats are rounded to 14 bits below
 * the power of two above the largest of the 32; bf16 loses nothing down to a 32nd of it. */
#ifndef PD_TENSOR_KERNEL_BLOCK_H
#define PD_TENSOR_KERNEL_BLOCK_H

#include "tensor/kernel/vec.h"

typedef int8_t i8x16 __attribute__((vector_size(16)));
typedef uint8_t u8x16 __attribute__((vector_size(16)));
typedef int16_t i16x16 __attribute__((vector_size(32)));
typedef uint16_t u16x16 __attribute__((vector_size(32)));
typedef int32_t i32x8 __attribute__((vector_size(32)));
typedef float f32x8 __attribute__((vector_size(32)));

struct block32 {
    i16x16 lo, hi;
    float scale, min;
};

PD_INLINE float half_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
#ifdef __F16C__
    return _cvtsh_ss(h);
#else
    return pd_f16_to_f32(h);
#endif
}
PD_INLINE u8x16 bytes_at(const uint8_t *p)
{
    u8x16 v;
    memcpy(&v, p, sizeof v);
    return v;
}
PD_INLINE i16x16 words_at(const void *p)
{
    i16x16 v;
    memcpy(&v, p, sizeof v);
    return v;
}
/* One instruction each on AVX2, which gcc does not find by itself. */
PD_INLINE i16x16 widen(u8x16 v)
{
#ifdef __AVX2__
    return (i16x16)_mm256_cvtepu8_epi16((__m128i)v);
#else
    return __builtin_convertvector(v, i16x16);
#endif
}
PD_INLINE i16x16 widen_signed(u8x16 v)
{
#ifdef __AVX2__
    return (i16x16)_mm256_cvtepi8_epi16((__m128i)v);
#else
    return __builtin_convertvector((i8x16)v, i16x16);
#endif
}

/* 16 where bit i of the word is set, for value i. */
PD_INLINE i16x16 fifth_bits(const uint8_t *p)
{
    const i16x16 bit = {1,   2,   4,    8,    16,   32,   64,    128,
                        256, 512, 1024, 2048, 4096, 8192, 16384, -32768};
    int16_t w;
    memcpy(&w, p, sizeof w);
    return (i16x16)(((bit & w) != 0) & 16);
}

/* Six-bit scale and minimum of sub-block j of a K block. */
PD_INLINE void k_scale(const uint8_t *s, int j, int *scale, int *min)
{
    if (j < 4) {
        *scale = s[j] & 63;
        *min = s[j + 4] & 63;
    } else {
        *scale = (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
        *min = s[j + 4] >> 4 | (s[j] >> 6) << 4;
    }
}

/* ---- floats ---- */

PD_INLINE i16x16 pack16(f32x8 a, f32x8 b) /* rounded to nearest even */
{
#ifdef __AVX2__
    const __m256i p =
        _mm256_packs_epi32(_mm256_cvtps_epi32((__m256)a), _mm256_cvtps_epi32((__m256)b));
    return (i16x16)_mm256_permute4x64_epi64(p, 0xd8);
#else
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    const i32x8 base = (i32x8)((f32x8){0} + magic);
    const i32x8 x = (i32x8)(a + magic) - base, y = (i32x8)(b + magic) - base;
    i16x16 out;
    for (int i = 0; i < 8; i++) {
        out[i] = (int16_t)x[i];
        out[i + 8] = (int16_t)y[i];
    }
    return out;
#endif
}

PD_INLINE f32x8 bf16x8(const uint16_t *p)
{
#ifdef __AVX2__
    const __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
    return (f32x8)_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16);
#else
    f32x8 v;
    for (int i = 0; i < 8; i++)
        v[i] = pd_bf16_to_f32(p[i]);
    return v;
#endif
}
PD_INLINE f32x8 f16x8(const uint16_t *p)
{
#ifdef __F16C__
    return (f32x8)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
#else
    f32x8 v;
    for (int i = 0; i < 8; i++)
        v[i] = pd_f16_to_f32(p[i]);
    return v;
#endif
}
PD_INLINE f32x8 f32x8_at(const float *p)
{
    f32x8 v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* Eight values of a float row from value k on. */
PD_INLINE f32x8 floats8(const enum pd_dtype t, const uint8_t *p)
{
    if (t == PD_DTYPE_F32)
        return f32x8_at((const float *)(const void *)p);
    if (t == PD_DTYPE_F16)
        return f16x8((const uint16_t *)(const void *)p);
    return bf16x8((const uint16_t *)(const void *)p);
}
PD_INLINE bool is_float(const enum pd_dtype t)
{
    return t == PD_DTYPE_F32 || t == PD_DTYPE_F16 || t == PD_DTYPE_BF16;
}

/* PD_LANES values of a float row. */
PD_INLINE vf floats_at(const enum pd_dtype t, const void *row)
{
    const uint8_t *p = row;
#if PD_LANES == 4
    vf v;
    for (int i = 0; i < 4; i++)
        if (t == PD_DTYPE_F32)
            v[i] = ((const float *)row)[i];
        else if (t == PD_DTYPE_F16)
            v[i] = pd_f16_to_f32(((const uint16_t *)row)[i]);
        else
            v[i] = pd_bf16_to_f32(((const uint16_t *)row)[i]);
    (void)p;
    return v;
#elif PD_LANES == 8
    return (vf)floats8(t, p);
#else
    if (t == PD_DTYPE_F32)
        return v_load((const float *)row);
    const __m256i half = _mm256_loadu_si256((const __m256i *)(const void *)p);
    if (t == PD_DTYPE_F16)
        return (vf)_mm512_cvtph_ps(half);
    return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
#endif
}

PD_LARGER(max16, i16x16, __m256i, _mm256_max_epi16)
PD_LARGER(max32, i32x8, __m256i, _mm256_max_epi32)
/* The largest of 16 words that are not negative. */
PD_INLINE uint32_t top_word(i16x16 v)
{
#ifdef __AVX2__
    const __m256i all = (__m256i)v;
    const __m128i m = _mm_max_epi16(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    return 0xffffu &
           ~(uint32_t)_mm_cvtsi128_si32(_mm_minpos_epu16(_mm_xor_si128(m, _mm_set1_epi32(-1))));
#else
    int top = 0;
    for (int i = 0; i < 16; i++)
        top = v[i] > top ? v[i] : top;
    return (uint32_t)top;
#endif
}
/* The largest of 8. */
PD_INLINE int32_t top_int(i32x8 v)
{
#ifdef __AVX2__
    const __m256i all = (__m256i)v;
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1)));
#else
    int32_t top = v[0];
    for (int i = 1; i < 8; i++)
        top = v[i] > top ? v[i] : top;
    return top;
#endif
}
PD_INLINE uint32_t float_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}
PD_INLINE float bits_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* fp32 bits of the largest magnitude of 32 floats. Without their signs floats are in the order of
 * their bits, infinity and then NaN larger than all. */
PD_INLINE uint32_t top_bits(const enum pd_dtype t, const uint8_t *p)
{
    if (t == PD_DTYPE_F32) {
        i32x8 m = {0};
        for (int i = 0; i < 4; i++)
            m = max32(m, (i32x8)f32x8_at((const float *)(const void *)p + 8 * i) & 0x7fffffff);
        return (uint32_t)top_int(m);
    }
    const i16x16 a = words_at(p) & 0x7fff, b = words_at(p + 32) & 0x7fff;
    const uint32_t top = top_word(max16(a, b));
    if (t == PD_DTYPE_BF16)
        return top << 16;
    const uint8_t half[2] = {(uint8_t)top, (uint8_t)(top >> 8)};
    return float_bits(half_at(half));
}

/* The largest magnitude of 32 floats; NaN where one of them is not finite. */
PD_INLINE float top_float(const float *x)
{
    const uint32_t bits = top_bits(PD_DTYPE_F32, (const uint8_t *)x);
    return bits < 0x7f800000 ? bits_float(bits) : NAN;
}

PD_INLINE struct block32 block_floats(const enum pd_dtype t, const uint8_t *p)
{
    const size_t step = t == PD_DTYPE_F32 ? 32 : 16; /* bytes of 8 */
    uint32_t e = top_bits(t, p) >> 23;
    const bool bad = e == 255;
    e = e < 13 ? 13 : bad ? 254 : e;
    const float up = bits_float((266 - e) << 23); /* the largest becomes 4096 to 8192 */
    struct block32 b;
    b.lo = pack16(floats8(t, p) * up, floats8(t, p + step) * up);
    b.hi = pack16(floats8(t, p + 2 * step) * up, floats8(t, p + 3 * step) * up);
    b.scale = bad ? NAN : bits_float((e - 12) << 23);
    b.min = 0;
    return b;
}

/* ---- all ---- */

/* Whether blocks have a min other than 0. */
PD_INLINE bool has_min(const enum pd_dtype t)
{
    return t == PD_DTYPE_Q4_1 || t == PD_DTYPE_Q5_1 || t == PD_DTYPE_Q4_K || t == PD_DTYPE_Q5_K;
}

/* Whether a block begins with its scale as a half, and with its min behind it if it has one. */
PD_INLINE bool starts_with_scale(const enum pd_dtype t)
{
    return t == PD_DTYPE_Q8_0 || t == PD_DTYPE_Q4_0 || t == PD_DTYPE_Q4_1 || t == PD_DTYPE_Q5_0 ||
           t == PD_DTYPE_Q5_1;
}
#ifdef __AVX2__
/* The halves at byte `at` of eight rows. */
PD_INLINE f32x8 halves8(const uint8_t *const *row, size_t at)
{
    int16_t h[8];
#pragma GCC unroll 8
    for (int r = 0; r < 8; r++)
        memcpy(h + r, row[r] + at, sizeof *h);
    return (f32x8)_mm256_cvtph_ps(_mm_setr_epi16(h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]));
}
#endif

PD_INLINE struct block32 block_k(const enum pd_dtype t, const uint8_t *p, int j)
{
    struct block32 b;
    if (t == PD_DTYPE_Q6_K) {
        const uint8_t *ql = p + j / 4 * 64 + j % 2 * 32, *qh = p + 128 + j / 4 * 32;
        const int8_t *sc = (const int8_t *)p + 192 + j / 4 * 8 + 2 * (j % 4);
        const int up = j % 4 < 2 ? 0 : 4, two = 2 * (j % 4);
        b.lo = widen((bytes_at(ql) >> up) & 15) | widen((bytes_at(qh) >> two) & 3) << 4;
        b.hi = widen((bytes_at(ql + 16) >> up) & 15) | widen((bytes_at(qh + 16) >> two) & 3) << 4;
        b.lo = (b.lo - 32) * (int16_t)sc[0];
        b.hi = (b.hi - 32) * (int16_t)sc[1];
        b.scale = half_at(p + 208);
        b.min = 0;
        return b;
    }
    int scale, min;
    k_scale(p + 4, j, &scale, &min);
    const uint8_t *q = p + (t == PD_DTYPE_Q4_K ? 16 : 48) + j / 2 * 32;
    const int up = j % 2 * 4;
    b.lo = widen((bytes_at(q) >> up) & 15);
    b.hi = widen((bytes_at(q + 16) >> up) & 15);
    if (t == PD_DTYPE_Q5_K) {
        b.lo |= widen((bytes_at(p + 16) >> j) & 1) << 4;
        b.hi |= widen((bytes_at(p + 32) >> j) & 1) << 4;
    }
    b.scale = half_at(p) * (float)scale;
    b.min = -half_at(p + 2) * (float)min;
    return b;
}

/* Bytes of 32 values of a dtype whose blocks are not larger. */
PD_INLINE size_t bytes_of_32(const enum pd_dtype t)
{
    switch (t) {
    case PD_DTYPE_F32:
        return 128;
    case PD_DTYPE_F16:
    case PD_DTYPE_BF16:
        return 64;
    case PD_DTYPE_Q8_0:
        return 34;
    case PD_DTYPE_Q4_0:
        return 18;
    case PD_DTYPE_Q4_1:
        return 20;
    case PD_DTYPE_Q5_0:
        return 22;
    default:
        return 24; /* Q5_1 */
    }
}
PD_INLINE size_t bytes_of_k(const enum pd_dtype t)
{
    return t == PD_DTYPE_Q4_K ? 144 : t == PD_DTYPE_Q5_K ? 176 : 210;
}

/* Values 32 kb .. 32 kb + 31 of a row; left < 32: only so many are there (floats), then zeros. */
PD_INLINE struct block32 block_at(const enum pd_dtype t, const uint8_t *row, int64_t kb,
                                  int64_t left)
{
    if (t == PD_DTYPE_Q4_K || t == PD_DTYPE_Q5_K || t == PD_DTYPE_Q6_K)
        return block_k(t, row + (size_t)(kb / 8) * bytes_of_k(t), (int)(kb % 8));
    const uint8_t *p = row + (size_t)kb * bytes_of_32(t);
    if (is_float(t)) {
        uint8_t some[128];
        if (left < 32) {
            memset(some, 0, sizeof some);
            p = memcpy(some, p, (size_t)left * bytes_of_32(t) / 32);
        }
        return block_floats(t, p);
    }
    struct block32 b = {.scale = half_at(p)};
    if (t == PD_DTYPE_Q8_0) {
        b.lo = widen_signed(bytes_at(p + 2));
        b.hi = widen_signed(bytes_at(p + 18));
        return b;
    }
    const bool one = t == PD_DTYPE_Q4_1 || t == PD_DTYPE_Q5_1;
    const bool five = t == PD_DTYPE_Q5_0 || t == PD_DTYPE_Q5_1;
    const uint8_t *high = p + (one ? 4 : 2);
    const u8x16 v = bytes_at(high + (five ? 4 : 0));
    b.lo = widen(v & 15);
    b.hi = widen(v >> 4);
    if (five) {
        b.lo |= fifth_bits(high);
        b.hi |= fifth_bits(high + 2);
    }
    if (one) {
        b.min = half_at(p + 2);
    } else {
        const int16_t middle = five ? 16 : 8;
        b.lo -= middle;
        b.hi -= middle;
    }
    return b;
}

/* Cases of a switch that call with the dtype as a constant: CALL(t). */
#define PD_CASE(t, CALL)                                                                           \
    case t:                                                                                        \
        CALL(t);                                                                                   \
        break;
#define PD_FLOAT_DTYPES(CALL)                                                                      \
    PD_CASE(PD_DTYPE_F32, CALL)                                                                    \
    PD_CASE(PD_DTYPE_F16, CALL)                                                                    \
    PD_CASE(PD_DTYPE_BF16, CALL)
#define PD_Q_DTYPES(CALL)                                                                          \
    PD_CASE(PD_DTYPE_Q8_0, CALL)                                                                   \
    PD_CASE(PD_DTYPE_Q4_0, CALL)                                                                   \
    PD_CASE(PD_DTYPE_Q4_1, CALL)                                                                   \
    PD_CASE(PD_DTYPE_Q5_0, CALL)                                                                   \
    PD_CASE(PD_DTYPE_Q5_1, CALL)                                                                   \
    PD_CASE(PD_DTYPE_Q4_K, CALL)                                                                   \
    PD_CASE(PD_DTYPE_Q5_K, CALL)                                                                   \
    PD_CASE(PD_DTYPE_Q6_K, CALL)
#define PD_BY_DTYPE(t, CALL)                                                                       \
    switch (t) {                                                                                   \
        PD_FLOAT_DTYPES(CALL)                                                                      \
        PD_Q_DTYPES(CALL)                                                                          \
    case PD_DTYPE_COUNT:                                                                           \
        break;                                                                                     \
    }

#endif
