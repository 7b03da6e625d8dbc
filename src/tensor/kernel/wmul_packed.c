/* Products in integers over panels (wmul.h; panel.h has their layout), on AVX-512 VNNI: one
 * instruction multiplies 64 unsigned bytes with 64 signed ones and adds fours of them in 32 bits.
 * The weights are the unsigned ones, u = q_w + bias; rows of x have one byte or, in integer mode,
 * two: q_x = 256 hi + lo, both signed. For each output and each 32 values of a row
 *      n = sum of u q_x - bias * sum of q_x        exact in 32 bits: the sum of q_w q_x
 *      y += float(n) * (scale_w * scale_x)         then, for Q4_1:
 *      y += min_w * (scale_x * sum of q_x)
 * in order of the blocks: what wmul_int.c does over rows, to the bit. One tile of up to TALL rows
 * and PD_LANES outputs goes through all inputs with its sums in registers, whatever the number of
 * rows. */
#include "tensor/kernel/panel.h"

#ifdef __AVX512VNNI__

enum { STEPS = 8 }; /* of four inputs, in a block */

/* ---- rows as bytes ---- */

/* A tile of rows, in the order in which they are multiplied: q[block][hi, lo][step][row][4], then
 * [block][row]. A tile of one row is a row. */
struct tile {
    int8_t *q;
    float *scale, *sum;
    int32_t *count; /* -8 times the sum of q_x */
    int64_t t0, rows;
};

/* Tile i of n, which are cut evenly. */
static struct tile tile_at(const struct pd_wmul_call *c, int bytes, int64_t i, int64_t n)
{
    const int64_t t0 = i * c->T / n, at = t0 * c->blocks;
    return (struct tile){.q = (int8_t *)c->q + 32 * bytes * at,
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

/* The steps of a block, to their places among the other rows'. */
PD_INLINE void spread(__m256i v, int64_t rows, int8_t *to)
{
    int32_t four[STEPS];
    memcpy(four, &v, sizeof four);
#pragma GCC unroll 8
    for (int k = 0; k < STEPS; k++)
        memcpy(to + k * rows * 4, four + k, sizeof *four);
}

PD_INLINE void quantise(const struct pd_wmul_call *c, const int bytes, const struct tile *t)
{
    const float limit = bytes == 1 ? 127.0f : c->limit;
    const int64_t all = 32 * t->rows; /* bytes of a block of the tile */
    for (int64_t r = 0; r < t->rows; r++)
        for (int64_t b = 0; b < c->blocks; b++) {
            const float *x = c->x + (t->t0 + r) * c->ldx + 32 * b;
            const int64_t i = b * t->rows + r;
            const __m512i q = quantise32(x, limit, t->scale + i, t->sum + i, t->count + i);
            int8_t *to = t->q + b * bytes * all + 4 * r;
            if (bytes == 2) {
                spread(low_bytes(_mm512_srai_epi16(_mm512_add_epi16(q, _mm512_set1_epi16(128)), 8)),
                       t->rows, to);
                to += all;
            }
            spread(low_bytes(q), t->rows, to);
        }
}

/* ---- products ---- */

PD_INLINE __m512i load512(const void *p)
{
    return _mm512_loadu_si512(p);
}
PD_INLINE vf halves(const uint8_t *p)
{
    return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
/* n (mr) += four inputs of PD_LANES outputs times those of mr rows. */
PD_INLINE void micro_step(const int mr, __m512i w, const int8_t *q, __m512i *n)
{
    typedef int32_t four __attribute__((may_alias, aligned(1)));
#pragma GCC unroll 12
    for (int r = 0; r < mr; r++) /* gcc 12 does not find that the operand may come from memory */
        __asm__("vpdpbusd %2%{1to16%}, %1, %0"
                : "+v"(n[r])
                : "v"(w), "m"(*(const four *)(const void *)(q + 4 * r)));
}

/* n (mr) += a block of weights, w, times one byte of x. */
PD_INLINE void micro_block(const enum pd_dtype t, const int mr, const uint8_t *w, const int8_t *q,
                           __m512i *n)
{
    const __m512i low = _mm512_set1_epi8(15);
#pragma GCC unroll 4
    for (int k = 0; t != PD_DTYPE_Q8_0 && k < STEPS / 2; k++) {
        const __m512i v = load512(w + 64 * k);
        micro_step(mr, _mm512_and_si512(v, low), q + 4 * k * mr, n);
        micro_step(mr, _mm512_and_si512(_mm512_srli_epi16(v, 4), low), q + 4 * (k + STEPS / 2) * mr,
                   n);
    }
#pragma GCC unroll 8
    for (int k = 0; t == PD_DTYPE_Q8_0 && k < STEPS; k++)
        micro_step(mr, load512(w + 64 * k), q + 4 * k * mr, n);
}

/* n (mr): what is to be added to the sums of u q_x, here after `done` of the bytes of x; *count is
 * -8 times the sums of q_x. */
PD_INLINE void micro_bias(const enum pd_dtype t, const int mr, const int bytes,
                          const int32_t *count, __m512i *n)
{
#pragma GCC unroll 12
    for (int r = 0; r < mr; r++) {
        const __m512i eight = _mm512_set1_epi32(count[r]);
        if (t == PD_DTYPE_Q8_0) {
            n[r] = bytes == 2 ? _mm512_slli_epi32(n[r], 4) : n[r];
            n[r] = _mm512_slli_epi32(_mm512_add_epi32(n[r], eight), 4);
        } else {
            n[r] = bytes == 2 ? _mm512_slli_epi32(n[r], 8) : n[r];
            n[r] = t == PD_DTYPE_Q4_0 ? _mm512_add_epi32(n[r], eight) : n[r];
        }
    }
}

/* y (mr) += block b of a tile of mr rows and PD_LANES outputs. */
PD_INLINE void micro_scaled(const enum pd_dtype dtype, const int bytes, const int mr,
                            const struct tile *t, int64_t b, const uint8_t *head, const uint8_t *w,
                            vf *y)
{
    const int8_t *q = t->q + 32 * bytes * mr * b;
    __m512i n[TALL];
#pragma GCC unroll 12
    for (int r = 0; r < mr; r++)
        n[r] = _mm512_setzero_si512();
    if (bytes == 2)
        micro_block(dtype, mr, w, q, n);
    micro_bias(dtype, mr, bytes, t->count + b * mr, n);
    micro_block(dtype, mr, w, q + 32 * mr * (bytes - 1), n);
    const vf s = halves(head);
#pragma GCC unroll 12
    for (int r = 0; r < mr; r++) {
        y[r] += (vf)_mm512_cvtepi32_ps(n[r]) * (s * t->scale[b * mr + r]);
        if (dtype == PD_DTYPE_Q4_1)
            y[r] += halves(head + 4 * PD_LANES) * t->sum[b * mr + r];
    }
}

/* to (mr rows of WIDTH) = PD_LANES outputs of a tile of mr rows. */
PD_INLINE void micro(const enum pd_dtype dtype, const int bytes, const int mr, int64_t blocks,
                     const struct tile *t, const uint8_t *w, float *to)
{
    vf y[TALL];
#pragma GCC unroll 12
    for (int r = 0; r < mr; r++)
        y[r] = (vf){0};
#pragma GCC unroll 1
    for (int64_t b = 0; b < blocks; b++) {
        const uint8_t *pair = w + (size_t)(b / 2) * packed_pair(dtype);
        micro_scaled(dtype, bytes, mr, t, b, pair + b % 2 * 2 * PD_LANES,
                     pair + packed_head(dtype) + (size_t)(b % 2) * packed_block(dtype), y);
    }
#pragma GCC unroll 12
    for (int r = 0; r < mr; r++)
        v_store(to + r * WIDTH, y[r]);
}

PD_INLINE void tile_rows(const enum pd_dtype dtype, const int bytes, int64_t blocks,
                         const struct tile *t, const uint8_t *w, float *to)
{
    switch (t->rows) {
#define TILE(mr)                                                                                   \
    case mr:                                                                                       \
        micro(dtype, bytes, mr, blocks, t, w, to);                                                 \
        break;
        TILE_HEIGHTS(TILE)
#undef TILE
    }
}

/* The tiles first .. end-1 of n over a panel. */
PD_INLINE void sweep(const int bytes, const struct pd_wmul_call *c, const struct panel *p,
                     int64_t first, int64_t end, int64_t n)
{
    const uint8_t *w = packed_at(c, p);
    const size_t group = packed_group(p->part->dtype, c->blocks);
    float acc[TALL * WIDTH + WIDTH];
    for (int64_t i = first; i < end; i++) {
        const struct tile t = tile_at(c, bytes, i, n);
        fetch_outputs(c, p, t.t0, t.rows);
        for (int g = 0; g < 2 && g * PD_LANES < p->n; g++) {
            const uint8_t *wg = w + (size_t)g * group;
            float *to = acc + g * PD_LANES;
            if (p->part->dtype == PD_DTYPE_Q8_0)
                tile_rows(PD_DTYPE_Q8_0, bytes, c->blocks, &t, wg, to);
            else if (p->part->dtype == PD_DTYPE_Q4_0)
                tile_rows(PD_DTYPE_Q4_0, bytes, c->blocks, &t, wg, to);
            else
                tile_rows(PD_DTYPE_Q4_1, bytes, c->blocks, &t, wg, to);
        }
        write_panel(c, p, t.t0, t.rows, acc);
    }
}

static void few_bytes(const struct pd_wmul_call *c, const struct panel *p, float *mem)
{
    (void)mem;
    sweep(1, c, p, 0, 1, 1);
}
static void few_words(const struct pd_wmul_call *c, const struct panel *p, float *mem)
{
    (void)mem;
    sweep(2, c, p, 0, 1, 1);
}

PD_INLINE void product(const struct pd_wmul_call *c, const int bytes)
{
    enum { FEW = 4 };
    if (c->T <= FEW) {
        const struct tile t = tile_at(c, bytes, 0, 1);
        quantise(c, bytes, &t); /* too few to share out */
        by_runs(c, bytes == 1 ? few_bytes : few_words);
        return;
    }
    const int64_t panels = count_panels(c), tiles = (c->T + TALL - 1) / TALL;
    const int64_t cuts = (c->T + PD_WMUL_ROWS - 1) / PD_WMUL_ROWS;
#pragma omp parallel if (c->n * c->m->in > PD_PARALLEL_FLOATS)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < tiles; i++) {
            const struct tile t = tile_at(c, bytes, i, tiles);
            quantise(c, bytes, &t);
        }
#pragma omp for schedule(dynamic, panel_chunk(panels *cuts))
        for (int64_t k = 0; k < panels * cuts; k++) {
            struct panel p;
            panel_at(c, k % panels, &p);
            const int64_t i = k / panels;
            sweep(bytes, c, &p, i * tiles / cuts, (i + 1) * tiles / cuts, tiles);
        }
    }
}

void PD_KERNEL(wmul_packed)(const struct pd_wmul_call *c)
{
    if (c->bytes)
        product(c, 1);
    else
        product(c, 2);
}

#else
void PD_KERNEL(wmul_packed)(const struct pd_wmul_call *c)
{
    PD_KERNEL(wmul_f32)(c);
}
#endif
