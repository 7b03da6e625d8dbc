/* Keys and values of 8 bits, and their products with one token's queries and weights.
 *
 * Four tokens stand together, a quad, so that products of bytes add up within lanes of 32 bits and
 * few sums across lanes are left:
 *
 *      keys    [head][D / 16][token of 4][16]  unsigned, 128 more than they are: a vector of 64
 *                                              bytes has 16 dimensions of four tokens
 *      values  [head][D][token of 4]           signed: it has four tokens of 16 dimensions
 *
 * with D rounded up to 16, a lot. Queries have 15 bits with their sign, weights 15 bits. Where
 * there is VNNI, which multiplies unsigned bytes with signed ones, either is two bytes, digits;
 * else bytes become words, and meet words. The sums are the same integers. */
#ifndef PD_TENSOR_KERNEL_ATTN_BYTES_H
#define PD_TENSOR_KERNEL_ATTN_BYTES_H

#include "tensor/kernel/attn_kv.h"

enum {
    QUAD = PD_KV_QUAD,
    LOT = PD_KV_LOT,
    BYTE_MOST = 127,
    KEY_MORE = 128,
    QUERY_MOST = 127 * 128 + 127,  /* a high digit of 127, a low one of 0 to 127 */
    WEIGHT_MOST = 127 * 256 + 255, /* a high digit of 127, a low one of 0 to 255 */
    HEADS_OF_BYTES = 3,            /* whose sums fill the registers */
};
/* Cases of PD_BY_HEADS. */
#define HEADS_BY_BYTES(CALL) PD_CASE(3, CALL) PD_CASE(2, CALL) PD_CASE(1, CALL)

/* Where the quad of row j and kv head h begins. */
PD_INLINE int64_t quad_at(const struct pd_attn *a, int64_t j, int64_t h)
{
    return QUAD * (j / QUAD * a->ldk + h * a->hsk);
}

/* ---- to bytes and back ---- */

/* A token's words (D), -127 to 127, to their places among a quad's keys. */
static inline void put_key(int64_t D, const int16_t *words, int64_t token, uint8_t *quad)
{
    for (int64_t d = 0; d < D; d += LOT) {
        const u8x16 b = __builtin_convertvector(words_at(words + d) + KEY_MORE, u8x16);
        memcpy(quad + QUAD * d + LOT * token, &b, sizeof b);
    }
}
static inline void put_value(int64_t D, const int16_t *words, int64_t token, uint8_t *quad)
{
    typedef int16_t some __attribute__((vector_size(PD_LANES * 2)));
    const int up = 8 * (int)token;
    const vi mine = (vi){0} + (int32_t)(0xffU << up);
    for (int64_t d = 0; d < D; d += PD_LANES) {
        some w;
        vi all;
        memcpy(&w, words + d, sizeof w);
        memcpy(&all, quad + QUAD * d, sizeof all);
        all = (all & ~mine) | (__builtin_convertvector(w, vi) << up & mine);
        memcpy(quad + QUAD * d, &all, sizeof all);
    }
}

/* PD_LANES of a token's keys, or values, from dimension d on. */
PD_INLINE vf quad_load(const enum pd_kv_half half, const uint8_t *quad, int64_t token, int64_t d)
{
    typedef uint8_t some __attribute__((vector_size(PD_LANES)));
    some b;
    vi all;
    if (half == PD_KV_KEYS) {
        memcpy(&b, quad + QUAD * (d - d % LOT) + LOT * token + d % LOT, sizeof b);
        return __builtin_convertvector(__builtin_convertvector(b, vi) - KEY_MORE, vf);
    }
    memcpy(&all, quad + QUAD * d, sizeof all);
    return __builtin_convertvector(all << (24 - 8 * (int)token) >> 24, vf);
}

/* ---- queries and weights ---- */

/* A query's words (D) in the form in which they meet keys (room of D words); what KEY_MORE makes
 * sums with keys too large by. */
static inline int32_t put_query(int64_t D, const int16_t *words, int16_t *to)
{
    int32_t sum = 0;
    for (int64_t d = 0; d < D; d++)
        sum += words[d];
#ifdef __AVX512VNNI__
    for (int64_t d = 0; d < D; d += LOT) {
        const i16x16 w = words_at(words + d);
        int8_t *digit = (int8_t *)to + d;
        _mm_storeu_si128((__m128i *)(void *)digit, _mm256_cvtepi16_epi8((__m256i)(w >> 7)));
        _mm_storeu_si128((__m128i *)(void *)(digit + D), _mm256_cvtepi16_epi8((__m256i)(w & 127)));
    }
#else
    memcpy(to, words, (size_t)D * sizeof *to);
#endif
    return (int32_t)(KEY_MORE * (uint32_t)sum);
}

/* PD_LANES weights from place x on, as they meet values, into a row of KEYS words: a word each; or
 * two digits, the high ones of all places first. */
PD_INLINE void put_weights(vi w, int64_t x, int16_t *to)
{
#ifdef __AVX512VNNI__
    uint8_t *digit = (uint8_t *)to + x;
    _mm_storeu_si128((__m128i *)(void *)digit, _mm512_cvtepi32_epi8((__m512i)(w >> 8)));
    _mm_storeu_si128((__m128i *)(void *)(digit + PD_ATTN_KEYS), _mm512_cvtepi32_epi8((__m512i)w));
#else
    typedef int16_t some __attribute__((vector_size(PD_LANES * 2)));
    const some words = __builtin_convertvector(w, some);
    memcpy(to + x, &words, sizeof words);
#endif
}
/* Weights w of n places as integers; what a step of those is worth. None is negative, and what is
 * left of the last vector is 0. */
static inline float row_weights(int64_t n, const float *w, int16_t *to)
{
    vf top = {0};
    for (int64_t x = 0; x < n; x += PD_LANES)
        top = v_top(v_load(w + x), top);
    const struct steps s = steps_to(WEIGHT_MOST, top);
    for (int64_t x = 0; x < n; x += PD_LANES)
        put_weights(v_round(v_load(w + x) * s.by), x, to);
    return s.unit;
}

/* ---- products, with VNNI ---- */

#ifdef __AVX512VNNI__
enum { VALUE_LOTS = 4 }; /* at a time */

PD_INLINE vi digit_products(vi sum, __m512i unsigned_bytes, __m512i signed_bytes)
{
    return (vi)_mm512_dpbusd_epi32((__m512i)sum, unsigned_bytes, signed_bytes);
}
PD_INLINE __m512i in_quarters(const void *p)
{
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)p));
}
PD_INLINE __m512i in_lanes(const void *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
}

/* to[4 i + token] = the sum of a quarter of sum[i], without excess. */
PD_INLINE void put_quarters(const int nq, const vi *sum, int32_t excess, int32_t *to)
{
    const __m512i a = (__m512i)sum[0], b = (__m512i)sum[nq - 1];
    const vi two = (vi)_mm512_unpacklo_epi32(a, b) + (vi)_mm512_unpackhi_epi32(a, b);
    const vi one = two + (vi)_mm512_shuffle_epi32((__m512i)two, _MM_PERM_BADC);
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 0, 0, 0, 0, 0, 0, 0);
    const vi all = (vi)_mm512_permutexvar_epi32(order, (__m512i)one) - excess;
    memcpy(to, &all, (size_t)nq * QUAD * sizeof *to);
}

/* s[h][4 i + token] = the products of nh queries, ldq words apart, and the keys of nq quads. */
PD_INLINE void quad_dots(const int nh, const int nq, int64_t D, const int16_t *q, int64_t ldq,
                         const int32_t *excess, const uint8_t *k, int64_t every, int32_t *s,
                         int64_t lds)
{
    vi high[HEADS_OF_BYTES][2], low[HEADS_OF_BYTES][2];
#pragma GCC unroll 4
    for (int h = 0; h < nh; h++)
#pragma GCC unroll 2
        for (int i = 0; i < nq; i++)
            high[h][i] = low[h][i] = (vi){0};
    for (int64_t d = 0; d < D; d += LOT) {
        __m512i x[2];
#pragma GCC unroll 2
        for (int i = 0; i < nq; i++)
            x[i] = _mm512_loadu_si512(k + i * every + QUAD * d);
#pragma GCC unroll 4
        for (int h = 0; h < nh; h++) {
            const int8_t *digit = (const int8_t *)(q + h * ldq) + d;
            const __m512i first = in_quarters(digit), second = in_quarters(digit + D);
#pragma GCC unroll 2
            for (int i = 0; i < nq; i++) {
                high[h][i] = digit_products(high[h][i], x[i], first);
                low[h][i] = digit_products(low[h][i], x[i], second);
            }
        }
    }
#pragma GCC unroll 4
    for (int h = 0; h < nh; h++) {
        vi sum[2];
#pragma GCC unroll 2
        for (int i = 0; i < nq; i++)
            sum[i] = (high[h][i] << 7) + low[h][i];
        put_quarters(nq, sum, excess[h], s + h * lds);
    }
}

/* o[h] += unit[h] * the sums of nl (1 or VALUE_LOTS) lots of values, the last of m, of nq quads
 * times the weights of nh rows, from place `at` on. */
PD_INLINE void quad_mix(const int nh, const int nl, int64_t nq, const int16_t *w, int64_t at,
                        const float *unit, const uint8_t *v, int64_t every, float *o, int64_t ldo,
                        int64_t m)
{
    vi high[HEADS_OF_BYTES][VALUE_LOTS], low[HEADS_OF_BYTES][VALUE_LOTS];
#pragma GCC unroll 4
    for (int h = 0; h < nh; h++)
#pragma GCC unroll 4
        for (int i = 0; i < nl; i++)
            high[h][i] = low[h][i] = (vi){0};
    for (int64_t j = 0; j < nq; j++, v += every) {
        __m512i first[HEADS_OF_BYTES], second[HEADS_OF_BYTES];
#pragma GCC unroll 4
        for (int h = 0; h < nh; h++) {
            const uint8_t *digit = (const uint8_t *)(w + h * PD_ATTN_KEYS) + at + QUAD * j;
            first[h] = in_lanes(digit);
            second[h] = in_lanes(digit + PD_ATTN_KEYS);
        }
#pragma GCC unroll 4
        for (int i = 0; i < nl; i++) {
            const __m512i x = _mm512_loadu_si512(v + QUAD * LOT * i);
#pragma GCC unroll 4
            for (int h = 0; h < nh; h++) {
                high[h][i] = digit_products(high[h][i], first[h], x);
                low[h][i] = digit_products(low[h][i], second[h], x);
            }
        }
    }
#pragma GCC unroll 4
    for (int h = 0; h < nh; h++)
#pragma GCC unroll 4
        for (int i = 0; i < nl; i++) {
            const vf sum = __builtin_convertvector((high[h][i] << 8) + low[h][i], vf);
            const int64_t some = i + 1 < nl ? LOT : m;
            float *to = o + h * ldo + i * LOT;
            v_put(to, some, v_get(to, some) + sum * unit[h]);
        }
}

/* ---- products, without ---- */

#else
enum { VALUE_LOTS = 1 };

/* Products of words, added by neighbours. */
PD_INLINE i32x8 word_products(i16x16 a, i16x16 b)
{
#ifdef __AVX2__
    return (i32x8)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#else
    i32x8 sum;
    for (int i = 0; i < 8; i++)
        sum[i] = a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
    return sum;
#endif
}
/* to[token] = the sum of of[token], without excess. */
PD_INLINE void put_sums(const i32x8 *of, int32_t excess, int32_t *to)
{
#ifdef __AVX2__
    const __m256i ab = _mm256_hadd_epi32((__m256i)of[0], (__m256i)of[1]);
    const __m256i cd = _mm256_hadd_epi32((__m256i)of[2], (__m256i)of[3]);
    const __m256i all = _mm256_hadd_epi32(ab, cd);
    const __m128i sum =
        _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    _mm_storeu_si128((__m128i *)(void *)to, _mm_sub_epi32(sum, _mm_set1_epi32(excess)));
#else
    for (int t = 0; t < QUAD; t++) {
        to[t] = -excess;
        for (int i = 0; i < 8; i++)
            to[t] += of[t][i];
    }
#endif
}

/* By two tokens: three heads' sums, words and products fill the registers of AVX2. */
PD_INLINE void quad_dots(const int nh, const int nq, int64_t D, const int16_t *q, int64_t ldq,
                         const int32_t *excess, const uint8_t *k, int64_t every, int32_t *s,
                         int64_t lds)
{
    for (int i = 0; i < nq; i++, k += every, s += QUAD) {
        i32x8 sum[HEADS_OF_BYTES][QUAD];
#pragma GCC unroll 2
        for (int t = 0; t < QUAD; t += 2) {
            i32x8 two[HEADS_OF_BYTES][2];
#pragma GCC unroll 4
            for (int h = 0; h < nh; h++)
                two[h][0] = two[h][1] = (i32x8){0};
            for (int64_t d = 0; d < D; d += LOT) {
                const i16x16 a = widen(bytes_at(k + QUAD * d + LOT * t));
                const i16x16 b = widen(bytes_at(k + QUAD * d + LOT * (t + 1)));
#pragma GCC unroll 4
                for (int h = 0; h < nh; h++) {
                    const i16x16 x = words_at(q + h * ldq + d);
                    two[h][0] += word_products(a, x);
                    two[h][1] += word_products(b, x);
                }
            }
#pragma GCC unroll 4
            for (int h = 0; h < nh; h++)
                sum[h][t] = two[h][0], sum[h][t + 1] = two[h][1];
        }
#pragma GCC unroll 4
        for (int h = 0; h < nh; h++)
            put_sums(sum[h], excess[h], s + h * lds);
    }
}

/* Eight values, of which two neighbours in a or b are one. */
PD_INLINE i32x8 pair_sums(i32x8 a, i32x8 b)
{
#ifdef __AVX2__
    const __m256i both = _mm256_hadd_epi32((__m256i)a, (__m256i)b);
    return (i32x8)_mm256_permute4x64_epi64(both, 0xd8);
#else
    i32x8 sum;
    for (int i = 0; i < 4; i++) {
        sum[i] = a[2 * i] + a[2 * i + 1];
        sum[i + 4] = b[2 * i] + b[2 * i + 1];
    }
    return sum;
#endif
}
PD_INLINE i16x16 four_times(const int16_t *p)
{
    int64_t four;
    memcpy(&four, p, sizeof four);
    typedef int64_t i64x4 __attribute__((vector_size(32)));
    return (i16x16)((i64x4){0} + four);
}

PD_INLINE void quad_mix(const int nh, const int nl, int64_t nq, const int16_t *w, int64_t at,
                        const float *unit, const uint8_t *v, int64_t every, float *o, int64_t ldo,
                        int64_t m)
{
    (void)nl; /* one */
    for (int64_t half = 0; half < m; half += 8, v += QUAD * 8) {
        i32x8 sum[HEADS_OF_BYTES][2]; /* of four dimensions, as two */
#pragma GCC unroll 4
        for (int h = 0; h < nh; h++)
            sum[h][0] = sum[h][1] = (i32x8){0};
        for (int64_t j = 0; j < nq; j++) {
            const i16x16 a = widen_signed(bytes_at(v + j * every));
            const i16x16 b = widen_signed(bytes_at(v + j * every + LOT));
#pragma GCC unroll 4
            for (int h = 0; h < nh; h++) {
                const i16x16 x = four_times(w + h * PD_ATTN_KEYS + at + QUAD * j);
                sum[h][0] += word_products(a, x);
                sum[h][1] += word_products(b, x);
            }
        }
#pragma GCC unroll 4
        for (int h = 0; h < nh; h++) {
            const f32x8 sums = __builtin_convertvector(pair_sums(sum[h][0], sum[h][1]), f32x8);
            const size_t some = m - half < 8 ? (size_t)(m - half) * sizeof(float) : 0;
            float part[8] = {0}, *to = o + h * ldo + half, *at_once = some ? part : to;
            if (some)
                memcpy(part, to, some);
            const f32x8 now = f32x8_at(at_once) + sums * unit[h];
            memcpy(at_once, &now, sizeof now);
            if (some)
                memcpy(to, part, some);
        }
    }
}
#endif

#endif
