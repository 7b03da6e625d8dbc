/* Products in integers over panels (wmul.h; panel.h has their layout), on AVX-512 VNNI. For each
 * output and each 32 values of a row, in order of the blocks,
 *      n = sum of q_w q_x                          exact in 32 bits
 *      y += float(n) * (scale_w * scale_x)         then, for Q4_1:
 *      y += min_w * (scale_x * sum of q_x)
 * which is what wmul_int.c does over rows, to the bit. Weights that were floats are words, and so
 * is x: one instruction multiplies 32 pairs and adds neighbours. Weights of 8 and 4 bits are
 * unsigned bytes, u = q_w + bias, and one instruction multiplies 64 of them with signed ones and
 * adds fours: n = sum of u q_x - bias * sum of q_x where x has one byte or, in integer mode, two:
 * q_x = 256 hi + lo, both signed. A tile of up to TALL rows and a panel of outputs goes through all
 * inputs with its sums in registers, whatever the number of rows. */
#define TALL PANEL_TALL /* of the other products */
#include "tensor/kernel/panel.h"
#undef TALL

#ifdef __AVX512VNNI__

enum {
    STEPS = 8, /* of four inputs, in a block */
    TALL = 6,  /* rows of a tile: two groups of sums for each, in integers and in floats */
};

/* ---- rows as bytes ---- */

/* What the integers of a row are: bytes, the high bytes of a block before the low ones, words. */
enum form { BYTES = 1, SPLIT = 2, WORDS = 3 };

/* Bytes of a block of a row. */
PD_INLINE int64_t form_size(const enum form f)
{
    return f == BYTES ? 32 : 64;
}

/* A tile of rows, in the order in which they are multiplied: q[block][step][row][4 bytes], steps of
 * four bytes or two words; then [block][row]. A tile of one row is a row. */
struct tile {
    int8_t *q;
    float *scale, *sum;
    int32_t *count; /* -8 times the sum of q_x */
    int64_t t0, rows;
};

/* Tile i of n, which are cut evenly. */
static struct tile tile_at(const struct pd_wmul_call *c, enum form f, int64_t i, int64_t n)
{
    const int64_t t0 = i * c->T / n, at = t0 * c->blocks;
    return (struct tile){.q = (int8_t *)c->q + form_size(f) * at,
                         .scale = c->scale + at,
                         .sum = c->sum + at,
                         .count = c->count + at,
                         .t0 = t0,
                         .rows = (i + 1) * c->T / n - t0};
}

/* The low bytes of 32 words. */
PD_INLINE __m256i low_bytes(__m512i v)
{
    return _mm512_cvtepi16_epi8(v);
}

/* 32 floats as integers up to `limit`; a value that is not finite makes the scale NaN. */
PD_INLINE __m512i quantise32(const float *x, float limit, float *scale, float *sum, int32_t *count)
{
    const float m = top_float(x);
    /* a block so small that its reciprocal overflows is nothing beside fp32 sums */
    const float up = m > 1e-30f ? limit / m : 0.0f;
    const i16x16 lo = pack16(f32x8_at(x) * up, f32x8_at(x + 8) * up);
    const i16x16 hi = pack16(f32x8_at(x + 16) * up, f32x8_at(x + 24) * up);
    const __m512i q = _mm512_inserti64x4(_mm512_castsi256_si512((__m256i)lo), (__m256i)hi, 1);
    const int32_t n = _mm512_reduce_add_epi32(_mm512_madd_epi16(q, _mm512_set1_epi16(1)));
    *scale = m / limit;
    *sum = *scale * (float)n;
    *count = (int32_t)(-8 * (uint32_t)n); /* wraps, where x is NaN */
    return q;
}

/* Steps of a block, to their places among the other rows'. */
PD_INLINE void spread(__m256i v, int64_t rows, int8_t *to)
{
    int32_t four[STEPS];
    memcpy(four, &v, sizeof four);
#pragma GCC unroll 8
    for (int k = 0; k < STEPS; k++)
        memcpy(to + k * rows * 4, four + k, sizeof *four);
}

PD_INLINE void quantise_block(const enum form f, const struct tile *t, __m512i q, int8_t *to)
{
    const int64_t half = 4 * STEPS * t->rows;
    switch (f) {
    case BYTES:
        spread(low_bytes(q), t->rows, to);
        break;
    case SPLIT:
        spread(low_bytes(_mm512_srai_epi16(_mm512_add_epi16(q, _mm512_set1_epi16(128)), 8)),
               t->rows, to);
        spread(low_bytes(q), t->rows, to + half);
        break;
    case WORDS:
        spread(_mm512_castsi512_si256(q), t->rows, to);
        spread(_mm512_extracti64x4_epi64(q, 1), t->rows, to + half);
        break;
    }
}

PD_INLINE void quantise(const enum form f, const struct pd_wmul_call *c, const struct tile *t)
{
    const float limit = f == BYTES ? 127.0f : c->limit;
    for (int64_t r = 0; r < t->rows; r++)
        for (int64_t b = 0; b < c->blocks; b++) {
            const float *x = c->x + (t->t0 + r) * c->ldx + 32 * b;
            const int64_t i = b * t->rows + r, left = c->m->in - 32 * b;
            float some[32] = {0};
            if (left < 32)
                x = memcpy(some, x, (size_t)left * sizeof *x);
            const __m512i q = quantise32(x, limit, t->scale + i, t->sum + i, t->count + i);
            quantise_block(f, t, q, t->q + b * form_size(f) * t->rows + 4 * r);
        }
}

/* ---- products ---- */

PD_INLINE __m512i load512(const void *p)
{
    return _mm512_loadu_si512(p);
}
/* n (mr, 2) += four inputs of two groups of outputs times those of mr rows. Both groups at once, so
 * that a load of x serves two products: one load a product is more than the cores can do. */
PD_INLINE void micro_step(const int mr, __m512i w0, __m512i w1, const int8_t *q, __m512i (*n)[2])
{
#pragma GCC unroll 6
    for (int r = 0; r < mr; r++) {
        int32_t four;
        memcpy(&four, q + 4 * r, sizeof four);
        const __m512i x = _mm512_set1_epi32(four);
        n[r][0] = _mm512_dpbusd_epi32(n[r][0], w0, x);
        n[r][1] = _mm512_dpbusd_epi32(n[r][1], w1, x);
        PD_HOLD(n[r][0]);
        PD_HOLD(n[r][1]);
    }
}

/* The same of two inputs in words. */
PD_INLINE void micro_words(const int mr, const uint8_t *w, const int8_t *q, __m512i (*n)[2])
{
    const __m512i w0 = load512(w), w1 = load512(w + 64);
#pragma GCC unroll 6
    for (int r = 0; r < mr; r++) {
        int32_t two;
        memcpy(&two, q + 4 * r, sizeof two);
        const __m512i x = _mm512_set1_epi32(two);
        n[r][0] = _mm512_dpwssd_epi32(n[r][0], w0, x);
        n[r][1] = _mm512_dpwssd_epi32(n[r][1], w1, x);
        PD_HOLD(n[r][0]);
        PD_HOLD(n[r][1]);
    }
}

/* n (mr, 2) += a block of weights, w, times one byte of x. */
PD_INLINE void micro_block(const enum pd_dtype t, const int mr, const uint8_t *w, const int8_t *q,
                           __m512i (*n)[2])
{
    const __m512i low = _mm512_set1_epi8(15);
#pragma GCC unroll 4
    for (int k = 0; t != PD_DTYPE_Q8_0 && k < STEPS / 2; k++)
        micro_step(mr, _mm512_and_si512(load512(w + 128 * k), low),
                   _mm512_and_si512(load512(w + 128 * k + 64), low), q + 4 * k * mr, n);
    PD_HOLD_MEMORY; /* loaded again, not kept: the sums need the registers */
#pragma GCC unroll 4
    for (int k = 0; t != PD_DTYPE_Q8_0 && k < STEPS / 2; k++)
        micro_step(mr, _mm512_and_si512(_mm512_srli_epi16(load512(w + 128 * k), 4), low),
                   _mm512_and_si512(_mm512_srli_epi16(load512(w + 128 * k + 64), 4), low),
                   q + 4 * (k + STEPS / 2) * mr, n);
#pragma GCC unroll 8
    for (int k = 0; t == PD_DTYPE_Q8_0 && k < STEPS; k++)
        micro_step(mr, load512(w + 128 * k), load512(w + 128 * k + 64), q + 4 * k * mr, n);
}

/* n: the sums of u q_x of the high bytes, if there are any, become what those of the low ones are
 * to be added to. count: -8 times the sums of q_x. */
PD_INLINE void micro_bias(const enum pd_dtype t, const int mr, const enum form f,
                          const int32_t *count, __m512i (*n)[2])
{
#pragma GCC unroll 6
    for (int r = 0; r < mr; r++) {
        const __m512i eight = _mm512_set1_epi32(count[r]);
#pragma GCC unroll 2
        for (int g = 0; g < 2; g++)
            if (t == PD_DTYPE_Q8_0) {
                n[r][g] = f == SPLIT ? _mm512_slli_epi32(n[r][g], 4) : n[r][g];
                n[r][g] = _mm512_slli_epi32(_mm512_add_epi32(n[r][g], eight), 4);
            } else {
                n[r][g] = f == SPLIT ? _mm512_slli_epi32(n[r][g], 8) : n[r][g];
                n[r][g] = t == PD_DTYPE_Q4_0 ? _mm512_add_epi32(n[r][g], eight) : n[r][g];
            }
    }
}

/* Group g of a block's scales: halves, or powers of two as bf16 where weights were floats. */
PD_INLINE vf scales(const enum pd_dtype t, const uint8_t *w, int g)
{
    const uint8_t *p = w + 2 * g * PD_LANES;
    return is_float(t) ? floats_at(PD_DTYPE_BF16, p) : floats_at(PD_DTYPE_F16, p);
}

/* y (mr, 2) += block b of a tile of mr rows and of a panel, where that is w. */
PD_INLINE void micro_scaled(const enum pd_dtype dtype, const enum form f, const int mr,
                            const struct tile *t, int64_t b, const uint8_t *w, vf (*y)[2])
{
    const int8_t *q = t->q + form_size(f) * mr * b;
    const uint8_t *scale = w + packed_integers(dtype);
    __m512i n[TALL][2];
#pragma GCC unroll 6
    for (int r = 0; r < mr; r++)
        n[r][0] = n[r][1] = _mm512_setzero_si512();
    if (f == WORDS) {
#pragma GCC unroll 2
        for (int k = 0; k < 2 * STEPS; k++)
            micro_words(mr, w + 128 * k, q + 4 * k * mr, n);
    } else {
        if (f == SPLIT) {
            micro_block(dtype, mr, w, q, n);
            q += 4 * STEPS * mr;
        }
        micro_bias(dtype, mr, f, t->count + b * mr, n);
        micro_block(dtype, mr, w, q, n);
    }
#pragma GCC unroll 2
    for (int g = 0; g < 2; g++) {
        const vf s = scales(dtype, scale, g);
#pragma GCC unroll 6
        for (int r = 0; r < mr; r++) {
            y[r][g] += (vf)_mm512_cvtepi32_ps(n[r][g]) * (s * t->scale[b * mr + r]);
            if (dtype == PD_DTYPE_Q4_1)
                y[r][g] += scales(dtype, scale + 2 * WIDTH, g) * t->sum[b * mr + r];
        }
    }
}

/* to (mr, WIDTH) = a panel's outputs of a tile of mr rows. */
PD_INLINE void micro(const enum pd_dtype dtype, const enum form f, const int mr, int64_t blocks,
                     const struct tile *t, const uint8_t *w, float *to)
{
    vf y[TALL][2];
#pragma GCC unroll 6
    for (int r = 0; r < mr; r++)
        y[r][0] = y[r][1] = (vf){0};
#pragma GCC unroll 1
    for (int64_t b = 0; b < blocks; b++, w += packed_block(dtype))
        micro_scaled(dtype, f, mr, t, b, w, y);
#pragma GCC unroll 6
    for (int r = 0; r < mr; r++) {
        v_store(to + r * WIDTH, y[r][0]);
        v_store(to + r * WIDTH + PD_LANES, y[r][1]);
    }
}

PD_INLINE void tile_rows(const enum pd_dtype dtype, const enum form f, int64_t blocks,
                         const struct tile *t, const uint8_t *w, float *to)
{
    switch (t->rows) {
#define TILE(mr)                                                                                   \
    case mr:                                                                                       \
        micro(dtype, f, mr, blocks, t, w, to);                                                     \
        break;
        TILE(6)
        TILE(5)
        TILE(4)
        TILE(3)
        TILE(2)
        TILE(1)
#undef TILE
    }
}

/* The tiles first .. end-1 of n over a panel. */
PD_INLINE void sweep(const enum form f, const struct pd_wmul_call *c, const struct panel *p,
                     int64_t first, int64_t end, int64_t n)
{
    const enum pd_dtype dtype = p->part->dtype;
    const uint8_t *w = packed_at(c, p);
    float acc[TALL * WIDTH + WIDTH]; /* write_panel may read a vector beyond */
    for (int64_t i = first; i < end; i++) {
        const struct tile t = tile_at(c, f, i, n);
        fetch_outputs(c, p, t.t0, t.rows);
        if (f == WORDS) /* the dtypes of floats differ no more */
            tile_rows(PD_DTYPE_F32, f, c->blocks, &t, w, acc);
        else if (f == SPLIT && dtype == PD_DTYPE_Q8_0)
            tile_rows(PD_DTYPE_Q8_0, f, c->blocks, &t, w, acc);
        else if (dtype == PD_DTYPE_Q4_0)
            tile_rows(PD_DTYPE_Q4_0, f, c->blocks, &t, w, acc);
        else
            tile_rows(PD_DTYPE_Q4_1, f, c->blocks, &t, w, acc);
        write_panel(c, p, t.t0, t.rows, acc);
    }
}

static void few_bytes(const struct pd_wmul_call *c, const struct panel *p, float *mem)
{
    (void)mem;
    sweep(BYTES, c, p, 0, 1, 1);
}
static void few_split(const struct pd_wmul_call *c, const struct panel *p, float *mem)
{
    (void)mem;
    sweep(SPLIT, c, p, 0, 1, 1);
}
static void few_words(const struct pd_wmul_call *c, const struct panel *p, float *mem)
{
    (void)mem;
    sweep(WORDS, c, p, 0, 1, 1);
}

PD_INLINE void product(const enum form f, const struct pd_wmul_call *c,
                       void (*const few)(const struct pd_wmul_call *, const struct panel *,
                                         float *))
{
    enum { FEW = 4 };
    if (c->T <= FEW) {
        const struct tile t = tile_at(c, f, 0, 1);
        quantise(f, c, &t); /* too few to share out */
        by_runs(c, few);
        return;
    }
    const int64_t panels = count_panels(c), tiles = (c->T + TALL - 1) / TALL;
    const int64_t cuts = (c->T + PD_WMUL_ROWS - 1) / PD_WMUL_ROWS;
#pragma omp parallel if (c->n * c->m->in > PD_PARALLEL_FLOATS)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < tiles; i++) {
            const struct tile t = tile_at(c, f, i, tiles);
            quantise(f, c, &t);
        }
#pragma omp for schedule(dynamic, panel_chunk(panels *cuts))
        for (int64_t k = 0; k < panels * cuts; k++) {
            struct panel p;
            panel_at(c, k % panels, &p);
            const int64_t i = k / panels;
            sweep(f, c, &p, i * tiles / cuts, (i + 1) * tiles / cuts, tiles);
        }
    }
}

void PD_KERNEL(wmul_packed)(const struct pd_wmul_call *c)
{
    if (is_float(c->m->part[0].dtype))
        product(WORDS, c, few_words);
    else if (c->bytes)
        product(BYTES, c, few_bytes);
    else
        product(SPLIT, c, few_split);
}

#else
void PD_KERNEL(wmul_packed)(const struct pd_wmul_call *c)
{
    PD_KERNEL(wmul_f32)(c);
}
#endif
