/* Products of 4-bit weights with 8-bit rows (wmul.h, PD_WMUL_BYTE), on AVX2: one instruction
 * multiplies 32 pairs and adds neighbours in 16 bits. One row and many do the same arithmetic, so a
 * row gives the same bits whichever way it takes:
 *      n = sum of (q_w - 8) q_x                 exact, over 32 values
 *      y += float(n) * (scale_w * scale_x)
 *      y += min_w * (scale_x * sum of q_x)      Q4_1: min = its own + 8 scale
 * Many rows multiply q_x + 128, 0 to 255, with q_w - 8, -8 to 7, and begin with -128 times the sum
 * of the latter: the eight products of a block, 2 * 255 * 8 each, stay within 2^15, and so does
 * what is left of them. One row multiplies q_w with q_x (8 * 2 * 15 * 127) and takes 8 times the
 * sum of q_x away. Other instruction sets gain nothing by fewer bits over rows and multiply in 16
 * (wmul_int.c). */
#include "tensor/kernel/panel.h"

#if PD_LANES == 8

enum {
    STEPS = 8,   /* of four inputs, in a block */
    BLOCKS = 24, /* deep is a panel: 12 kB, half of the first-level cache with a tile and sums */
};

PD_INLINE __m256i load256(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}
/* 16 bytes in both halves; 16 in one and 16 in the other. */
PD_INLINE __m256i twice128(const void *p)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p));
}
PD_INLINE __m256i two128(const uint8_t *a, const uint8_t *b)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256((__m128i)bytes_at(a)),
                                   (__m128i)bytes_at(b), 1);
}

/* ---- rows as bytes ---- */

/* A tile of rows, in the order in which they are multiplied: q[block][step][row][4], then the
 * scales [block][row]. A tile of one row is a row. */
struct tile {
    uint8_t *q; /* + 128 */
    float *scale, *sum;
    int32_t *count; /* the sum of q, without the 128s */
    int64_t t0, rows;
};

static struct tile tile_at(const struct pd_wmul_call *c, int64_t i)
{
    const int64_t t0 = tile_begin(c, TALL, i);
    return (struct tile){.q = (uint8_t *)c->q + t0 * 32 * c->blocks,
                         .scale = c->scale + t0 * c->blocks,
                         .sum = c->sum + t0 * c->blocks,
                         .count = c->count + t0 * c->blocks,
                         .t0 = t0,
                         .rows = tile_begin(c, TALL, i + 1) - t0};
}

static void quantise(const struct pd_wmul_call *c, const struct tile *t)
{
    for (int64_t r = 0; r < t->rows; r++)
        for (int64_t b = 0; b < c->blocks; b++) {
            const float *at = c->x + (t->t0 + r) * c->ldx + 32 * b;
            const struct byte_scale scale = scale_bytes(top_float(at));
            const struct rounded32 x = rounded(at, scale.scale, scale.up);
            const int64_t i = b * t->rows + r;
            t->scale[i] = x.scale;
            t->sum[i] = x.scale * (float)x.sum;
            t->count[i] = x.sum;
            const __m256i q = _mm256_xor_si256(bytes_of(x.lo, x.hi), _mm256_set1_epi8(-128));
            spread(&q, t->rows * 4, t->q + (b * STEPS * t->rows + r) * 4); /* + 128 */
        }
}
static void quantise_tile(const struct pd_wmul_call *c, int64_t i)
{
    const struct tile t = tile_at(c, i);
    quantise(c, &t);
}

/* ---- one row: dot products ---- */

/* Scales and mins of block kb of eight outputs. */
PD_INLINE void scales8(const enum pd_dtype dtype, const uint8_t *const *w, size_t at, f32x8 *scale,
                       f32x8 *min)
{
    if (dtype == PD_DTYPE_Q4_1) {
        uint32_t both[EIGHT];
#pragma GCC unroll 8
        for (int r = 0; r < EIGHT; r++)
            memcpy(both + r, w[r] + at, sizeof *both);
        const __m256i v = _mm256_setr_epi32((int)both[0], (int)both[1], (int)both[2], (int)both[3],
                                            (int)both[4], (int)both[5], (int)both[6], (int)both[7]);
        const __m256i lo = _mm256_and_si256(v, _mm256_set1_epi32(0xffff));
        const __m256i halves =
            _mm256_permute4x64_epi64(_mm256_packus_epi32(lo, _mm256_srli_epi32(v, 16)), 0xd8);
        *scale = (f32x8)_mm256_cvtph_ps(_mm256_castsi256_si128(halves));
        *min = (f32x8)_mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1)) + 8.0f * *scale;
        return;
    }
    *scale = halves8(w, at);
    *min = (f32x8){0};
}

/* Outputs r0 .. r0+7 of a panel for one row; r and r + 4 share a vector, a half each. */
PD_INLINE f32x8 dot8(const enum pd_dtype dtype, const struct pd_wmul_call *c, const struct panel *p,
                     int r0)
{
    const size_t step = bytes_of_32(dtype);
    const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    const __m256i bias = _mm256_set1_epi8(-128);
    const struct tile x = tile_at(c, 0);
    const uint8_t *w[EIGHT];
    f32x8 y = {0};
    for (int r = 0; r < EIGHT; r++)
        w[r] = p->rows[r0 + r];
    for (int64_t kb = 0; kb < c->blocks; kb++) {
        const size_t at = (size_t)kb * step;
        const __m256i xlo = _mm256_xor_si256(twice128(x.q + 32 * kb), bias);
        const __m256i xhi = _mm256_xor_si256(twice128(x.q + 32 * kb + 16), bias);
        __m256i n[4];
        f32x8 scale, min;
        fetch_next(w[0], EIGHT, p->part->row_bytes, at, step);
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++) {
            const __m256i v = two128(w[r] + at + step - 16, w[r + 4] + at + step - 16);
            const __m256i lo = _mm256_and_si256(v, low);
            const __m256i hi = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);
            n[r] = _mm256_add_epi16(_mm256_maddubs_epi16(lo, xlo), _mm256_maddubs_epi16(hi, xhi));
        }
        const __m256i s =
            _mm256_hadd_epi16(_mm256_hadd_epi16(n[0], n[1]), _mm256_hadd_epi16(n[2], n[3]));
        scales8(dtype, w, at, &scale, &min);
        const __m256i sum =
            _mm256_sub_epi32(_mm256_madd_epi16(s, ones), _mm256_set1_epi32(8 * x.count[kb]));
        y += (f32x8)_mm256_cvtepi32_ps(sum) * (scale * x.scale[kb]);
        if (dtype == PD_DTYPE_Q4_1)
            y += min * x.sum[kb];
    }
    return y;
}

/* ---- many rows: panels ---- */

/* BLOCKS blocks of a panel in cache; four inputs of an output stand together. */
struct unpacked {
    int8_t *q; /* (blocks, STEPS, WIDTH, 4) */
    int16_t
        *start;   /* (blocks, WIDTH, 2): -128 times the sums of q over which a sum of words goes */
    float *scale; /* (blocks, WIDTH) */
    float *min;
};

/* Eight outputs of a block: two values a byte, 16 values apart. */
PD_INLINE void turn_nibbles(const uint8_t *const *w, size_t at, int8_t *to, int16_t *start)
{
    const __m256i low = _mm256_set1_epi8(15), eight = _mm256_set1_epi8(8);
    __m256i v[4], p[4], sum = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++)
        v[r] = two128(w[r] + at, w[r + 4] + at);
    const __m256i a = _mm256_unpacklo_epi32(v[0], v[1]), b = _mm256_unpacklo_epi32(v[2], v[3]);
    const __m256i c = _mm256_unpackhi_epi32(v[0], v[1]), d = _mm256_unpackhi_epi32(v[2], v[3]);
    p[0] = _mm256_unpacklo_epi64(a, b);
    p[1] = _mm256_unpackhi_epi64(a, b);
    p[2] = _mm256_unpacklo_epi64(c, d);
    p[3] = _mm256_unpackhi_epi64(c, d);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        int8_t *first = to + k * WIDTH * 4, *last = first + 4 * WIDTH * 4;
        const __m256i lo = _mm256_sub_epi8(_mm256_and_si256(p[k], low), eight);
        const __m256i hi =
            _mm256_sub_epi8(_mm256_and_si256(_mm256_srli_epi16(p[k], 4), low), eight);
        _mm256_storeu_si256((__m256i *)(void *)first, lo);
        _mm256_storeu_si256((__m256i *)(void *)last, hi);
        const __m256i both = _mm256_add_epi8(lo, hi); /* -16 to 14 */
        sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(_mm256_set1_epi8(1), both));
    }
    sum = _mm256_sub_epi16(_mm256_setzero_si256(), _mm256_slli_epi16(sum, 7));
    _mm256_storeu_si256((__m256i *)(void *)start, sum);
}

PD_INLINE void unpack(const enum pd_dtype dtype, const struct panel *p, int64_t kb0, int64_t nb,
                      const struct unpacked *u)
{
    const size_t step = bytes_of_32(dtype);
    for (int64_t b = 0; b < nb; b++) {
        const size_t at = (size_t)(kb0 + b) * step;
        fetch_next(p->rows[0], WIDTH, p->part->row_bytes, at, step);
#pragma GCC unroll 2
        for (int h = 0; h < WIDTH; h += EIGHT) {
            f32x8 scale, min;
            turn_nibbles(p->rows + h, at + step - 16, u->q + (b * STEPS * WIDTH + h) * 4,
                         u->start + (b * WIDTH + h) * 2);
            scales8(dtype, p->rows + h, at, &scale, &min);
            v_store(u->scale + b * WIDTH + h, (vf)scale);
            if (dtype == PD_DTYPE_Q4_1)
                v_store(u->min + b * WIDTH + h, (vf)min);
        }
    }
}

/* n (mr, 2 vectors) += four inputs of mr rows times those of the panel. */
PD_INLINE void micro_step(const int mr, const int8_t *w, const uint8_t *q, __m256i (*n)[2])
{
    const __m256i w0 = load256(w), w1 = load256(w + 32);
#pragma GCC unroll 6
    for (int r = 0; r < mr; r++) {
        int32_t four;
        memcpy(&four, q + 4 * r, sizeof four);
        const __m256i x = _mm256_set1_epi32(four);
        /* as instructions of their own: gcc would add into another register and move back */
        __asm__("vpaddw %1, %0, %0" : "+x"(n[r][0]) : "x"(_mm256_maddubs_epi16(x, w0)));
        __asm__("vpaddw %1, %0, %0" : "+x"(n[r][1]) : "x"(_mm256_maddubs_epi16(x, w1)));
        PD_HOLD(n[r][0]);
        PD_HOLD(n[r][1]);
    }
}

/* acc (mr, WIDTH) += a tile's blocks kb0 .. kb0+nb-1 times the panel. */
PD_INLINE void micro(const int mr, const bool mins, int64_t kb0, int64_t nb, const struct tile *t,
                     const struct unpacked *u, float *acc)
{
    /* in memory: a constant would hold one of the registers that the sums need */
    static const int16_t all_ones[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    const uint8_t *q = t->q + kb0 * STEPS * mr * 4;
    const float *scale = t->scale + kb0 * mr, *sum = t->sum + kb0 * mr;
    const int8_t *w = u->q;
    const int16_t *ones = all_ones, *start = u->start;
    for (int64_t b = 0; b < nb; b++) {
        __m256i n[TALL][2];
#pragma GCC unroll 6
        for (int r = 0; r < mr; r++) {
            n[r][0] = load256(start);
            n[r][1] = load256(start + 16);
        }
#pragma GCC unroll 8
        for (int k = 0; k < STEPS; k++)
            micro_step(mr, w + k * 4 * WIDTH, q + k * 4 * mr, n);
        w += STEPS * 4 * WIDTH;
        q += STEPS * 4 * mr;
        start += 2 * WIDTH;
        __asm__ volatile("" : "+r"(ones));
#pragma GCC unroll 2
        for (int v = 0; v < 2; v++) {
            const vf s = v_load(u->scale + b * WIDTH + v * PD_LANES);
#pragma GCC unroll 6
            for (int r = 0; r < mr; r++) {
                float *a = acc + r * WIDTH + v * PD_LANES;
                vf y = v_load(a);
                y += (vf)_mm256_cvtepi32_ps(_mm256_madd_epi16(n[r][v], load256(ones))) *
                     (s * scale[r]);
                if (mins)
                    y += v_load(u->min + b * WIDTH + v * PD_LANES) * sum[r];
                v_store(a, y);
            }
        }
        PD_HOLD_MEMORY;
        scale += mr;
        sum += mr;
    }
}

/* The tiles first .. end-1 of n over an unpacked panel; acc: of the first one's rows on. */
PD_INLINE void sweep(const bool mins, const struct pd_wmul_call *c, const struct panel *p,
                     int64_t first, int64_t end, int64_t kb0, int64_t nb, const struct unpacked *u,
                     float *acc)
{
    for (int64_t i = first; i < end; i++) {
        const struct tile t = tile_at(c, i);
        fetch_outputs(c, p, t.t0, t.rows);
        switch (t.rows) {
#define TILE(mr)                                                                                   \
    case mr:                                                                                       \
        micro(mr, mins, kb0, nb, &t, u, acc);                                                      \
        break;
            TILE_HEIGHTS(TILE)
#undef TILE
        }
        acc += t.rows * WIDTH;
    }
}

static void many_rows(const struct pd_wmul_call *c, const struct panel *p, int64_t first,
                      int64_t end, float *mem)
{
    float *const start = mem + BLOCKS * STEPS * WIDTH, *const scale = start + BLOCKS * WIDTH;
    const struct unpacked u = {(int8_t *)mem, (int16_t *)(void *)start, scale,
                               scale + BLOCKS * WIDTH};
    float *acc = u.min + BLOCKS * WIDTH;
    const int64_t t0 = tile_begin(c, TALL, first), rows = tile_begin(c, TALL, end) - t0;
    memset(acc, 0, (size_t)(rows * WIDTH) * sizeof *acc);
    const int64_t cuts = (c->blocks + BLOCKS - 1) / BLOCKS;
    for (int64_t i = 0; i < cuts; i++) {
        const int64_t kb = i * c->blocks / cuts, nb = (i + 1) * c->blocks / cuts - kb;
        if (p->part->dtype == PD_DTYPE_Q4_1) {
            unpack(PD_DTYPE_Q4_1, p, kb, nb, &u);
            sweep(true, c, p, first, end, kb, nb, &u, acc);
        } else {
            unpack(PD_DTYPE_Q4_0, p, kb, nb, &u);
            sweep(false, c, p, first, end, kb, nb, &u, acc);
        }
    }
    write_panel(c, p, t0, rows, acc);
}

static void one_row(const struct pd_wmul_call *c, const struct panel *p, int64_t first, int64_t end,
                    float *mem)
{
    float acc[WIDTH] = {0};
    (void)first, (void)end, (void)mem;
    for (int r = 0; r < p->n; r += EIGHT)
        v_store(acc + r, p->part->dtype == PD_DTYPE_Q4_1 ? dot8(PD_DTYPE_Q4_1, c, p, r)
                                                         : dot8(PD_DTYPE_Q4_0, c, p, r));
    write_panel(c, p, 0, 1, acc);
}

void PD_KERNEL(wmul_byte)(const struct pd_wmul_call *c)
{
    if (c->T == 1) { /* from two rows on a panel is worth unpacking */
        quantise_tile(c, 0);
        by_runs(c, TALL, one_row);
    } else {
        by_panels(c, TALL, quantise_tile, many_rows);
    }
}

#else
void PD_KERNEL(wmul_byte)(const struct pd_wmul_call *c)
{
    PD_KERNEL(wmul_int)(c);
}
#endif
