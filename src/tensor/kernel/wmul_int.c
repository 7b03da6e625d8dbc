/* Products in integers (wmul.h).
 *
 * Both ways below do, for each output and each 32 values of a row, the same arithmetic (few rows
 * over weights stored as floats are not for them: few.h):
 *      n = sum of q_w q_x        exact in 32 bits
 *      y += float(n) * (scale_w * scale_x)         then, for formats with a min:
 *      y += min_w * (scale_x * sum of q_x)
 * in order of the blocks, so a row gives the same bits whichever way it takes. */
#include "tensor/kernel/few.h"

/* ---- x as integers ---- */

PD_INLINE void quantise32(const float *x, float limit, int16_t *q, float *scale, float *sum)
{
    const struct rounded32 r = round32(x, limit);
    memcpy(q, &r.lo, sizeof r.lo);
    memcpy(q + 16, &r.hi, sizeof r.hi);
    *scale = r.scale;
    *sum = r.scale * (float)r.sum;
}

static void quantise_row(const struct pd_wmul_call *c, int64_t t)
{
    const float *x = c->x + t * c->ldx;
    int16_t *q = c->q + t * c->ldq;
    float *scale = c->scale + t * c->blocks, *sum = c->sum + t * c->blocks;
    const int64_t whole = c->m->in / 32, left = c->m->in % 32;
    for (int64_t b = 0; b < whole; b++)
        quantise32(x + 32 * b, c->limit, q + 32 * b, scale + b, sum + b);
    if (left) {
        float some[32] = {0};
        memcpy(some, x + 32 * whole, (size_t)left * sizeof *x);
        quantise32(some, c->limit, q + 32 * whole, scale + whole, sum + whole);
    }
}

/* ---- few rows: dot products ---- */

#ifdef __AVX2__
/* Sums of neighbours of a product. */
PD_INLINE i32x8 madd(i16x16 a, i16x16 b)
{
    return (i32x8)_mm256_madd_epi16((__m256i)a, (__m256i)b);
}

/* Lanes 0-3 of the result: sums of the lower halves of p[0..3]; 4-7: of their upper halves. */
PD_INLINE i32x8 sums4(const i32x8 *p)
{
#define HADD(a, b) _mm256_hadd_epi32((__m256i)(a), (__m256i)(b))
    return (i32x8)HADD(HADD(p[0], p[1]), HADD(p[2], p[3]));
#undef HADD
}
PD_INLINE f32x8 sums8(i32x8 a, i32x8 b)
{
    const __m256i x = _mm256_permute2x128_si256((__m256i)a, (__m256i)b, 0x20);
    const __m256i y = _mm256_permute2x128_si256((__m256i)a, (__m256i)b, 0x31);
    return (f32x8)_mm256_cvtepi32_ps(_mm256_add_epi32(x, y));
}

/* Outputs r0 .. r0+7 of a panel for up to nt rows of x. */
PD_INLINE void dot8(const enum pd_dtype dtype, const int nt, const struct pd_wmul_call *c,
                    const struct panel *p, int64_t r0)
{
    const uint8_t *const *w = p->rows + r0;
    f32x8 acc[4] = {{0}};
    const size_t bytes = p->part->row_bytes, step = bytes / (size_t)c->blocks;
    int64_t row[4]; /* where fewer are there, the last one again */
    for (int t = 0; t < nt; t++)
        row[t] = t < c->T ? t : c->T - 1;
    for (int64_t kb = 0; kb < c->blocks; kb++) {
        const size_t at = (size_t)kb * step; /* K formats: nearly, for fetching alone */
        i32x8 half[2][4];
        float scale[EIGHT], min[EIGHT];
        fetch_next(w[0], EIGHT, bytes, at, step);
#pragma GCC unroll 1
        for (int h = 0; h < 2; h++) {
            i32x8 n[4][4];
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                const int r = 4 * h + i;
                const struct block32 b = block_at(dtype, w[r], kb, c->m->in - 32 * kb);
                if (!starts_with_scale(dtype)) {
                    scale[r] = b.scale;
                    min[r] = b.min;
                }
#pragma GCC unroll 4
                for (int t = 0; t < nt; t++) {
                    const int16_t *q = c->q + row[t] * c->ldq + 32 * kb;
                    n[t][i] = madd(b.lo, words_at(q)) + madd(b.hi, words_at(q + 16));
                }
            }
#pragma GCC unroll 4
            for (int t = 0; t < nt; t++)
                half[h][t] = sums4(n[t]);
        }
        const bool halves = starts_with_scale(dtype);
        const f32x8 s = halves ? halves8(w, at) : f32x8_at(scale);
        const f32x8 m = !has_min(dtype) ? s : halves ? halves8(w, at + 2) : f32x8_at(min);
#pragma GCC unroll 4
        for (int t = 0; t < nt; t++) {
            const int64_t i = row[t] * c->blocks + kb;
            acc[t] += sums8(half[0][t], half[1][t]) * (s * c->scale[i]);
            if (has_min(dtype))
                acc[t] += m * c->sum[i];
        }
    }
    const float *bias = c->m->bias ? c->m->bias + c->first + p->out + r0 : NULL;
    for (int t = 0; t < nt && t < c->T; t++) {
        float *y = c->y + t * c->ldy + p->out + r0;
        for (int64_t r = 0; r < EIGHT && r < p->n - r0; r++) {
            const float v = acc[t][r] + (bias ? bias[r] : 0.0f);
            y[r] = c->add ? v + y[r] : v;
        }
    }
}

static void few_integers(const struct pd_wmul_call *c, const struct panel *p)
{
#define CALL(type)                                                                                 \
    for (int64_t r = 0; r < p->n; r += EIGHT)                                                      \
        if (c->T == 1)                                                                             \
            dot8(type, 1, c, p, r);                                                                \
        else                                                                                       \
            dot8(type, FEW, c, p, r)
    switch (p->part->dtype) {
        PD_Q_DTYPES(CALL)
    default:
        break;
    }
#undef CALL
}
#else
static void few_integers(const struct pd_wmul_call *c, const struct panel *p)
{
    (void)c, (void)p;
}
#endif

/* ---- many rows: panels ---- */

/* PD_WMUL_DEPTH inputs of a panel. Pairs of inputs stand together, since madd adds pairs:
 * q[pair][output][2]. */
enum { BLOCKS = PD_WMUL_DEPTH / 32, PAIRS = 16 };
struct unpacked {
    float *q;     /* (blocks, PAIRS, WIDTH) pairs of 16 bits */
    float *scale; /* (blocks, WIDTH) */
    float *min;
};

PD_INLINE void unpack(const enum pd_dtype dtype, const struct pd_wmul_call *c,
                      const struct panel *p, int64_t kb0, int64_t nb, const struct unpacked *u)
{
    float pair[PD_LANES][PAIRS] __attribute__((aligned(64)));
    const size_t step = p->part->row_bytes / (size_t)c->blocks;
    for (int64_t b = 0; b < nb; b++) {
        fetch_next(p->rows[0], WIDTH, p->part->row_bytes, (size_t)(kb0 + b) * step, step);
        for (int half = 0; half < 2; half++) {
            const int64_t kb = kb0 + b;
#pragma GCC unroll 1
            for (int r = 0; r < PD_LANES; r++) {
                const int o = half * PD_LANES + r;
                const struct block32 w = block_at(dtype, p->rows[o], kb, c->m->in - 32 * kb);
                memcpy(pair[r], &w.lo, sizeof w.lo);
                memcpy(pair[r] + 8, &w.hi, sizeof w.hi);
                u->scale[b * WIDTH + o] = w.scale;
                if (has_min(dtype))
                    u->min[b * WIDTH + o] = w.min;
            }
#pragma GCC unroll 1
            for (int k = 0; k < PAIRS; k += PD_LANES) {
                vf row[PD_LANES];
#pragma GCC unroll 16
                for (int r = 0; r < PD_LANES; r++)
                    row[r] = v_load(pair[r] + k);
                turn(row, u->q + (b * PAIRS + k) * WIDTH + half * PD_LANES, WIDTH);
            }
        }
    }
}

PD_INLINE vi pair_at(const int16_t *q)
{
    int32_t two;
    memcpy(&two, q, sizeof two);
    return two - (vi){0};
}

/* acc (mr, WIDTH) += mr rows of x times the panel. */
PD_INLINE void micro(const int mr, const bool mins, int64_t nb, const int16_t *q, int64_t ldq,
                     const float *scale, const float *sum, int64_t lds, const struct unpacked *u,
                     float *acc)
{
    const float *w = u->q;
    for (int64_t b = 0; b < nb; b++) {
        vi n[TALL][2];
#pragma GCC unroll 12
        for (int r = 0; r < mr; r++)
            n[r][0] = n[r][1] = (vi){0};
#pragma GCC unroll 2
        for (int k = 0; k < PAIRS; k++) {
            const vi w0 = (vi)v_load(w), w1 = (vi)v_load(w + PD_LANES);
#pragma GCC unroll 12
            for (int r = 0; r < mr; r++) {
                const vi x = pair_at(q + r * ldq + 2 * k);
                n[r][0] = madd_lanes(n[r][0], x, w0);
                n[r][1] = madd_lanes(n[r][1], x, w1);
                PD_HOLD(n[r][0]);
                PD_HOLD(n[r][1]);
            }
            w += WIDTH;
        }
#pragma GCC unroll 2
        for (int v = 0; v < 2; v++) {
            const vf s = v_load(u->scale + b * WIDTH + v * PD_LANES);
#pragma GCC unroll 12
            for (int r = 0; r < mr; r++) {
                float *a = acc + r * WIDTH + v * PD_LANES;
                vf y = v_load(a);
                y += __builtin_convertvector(n[r][v], vf) * (s * scale[r * lds + b]);
                if (mins)
                    y += v_load(u->min + b * WIDTH + v * PD_LANES) * sum[r * lds + b];
                v_store(a, y);
            }
        }
        PD_HOLD_MEMORY;
        q += 32;
    }
}

/* All rows t0 .. t0+rows-1 over an unpacked panel; tiles are cut evenly. */
PD_INLINE void sweep(const bool mins, const struct pd_wmul_call *c, const struct panel *p,
                     int64_t t0, int64_t rows, int64_t kb0, int64_t nb, const struct unpacked *u,
                     float *acc)
{
    int64_t left = (rows + TALL - 1) / TALL;
    for (int64_t r = 0; r < rows; left--) {
        const int64_t mr = (rows - r + left - 1) / left, t = t0 + r;
        const int16_t *q = c->q + t * c->ldq + 32 * kb0;
        const float *s = c->scale + t * c->blocks + kb0, *sum = c->sum + t * c->blocks + kb0;
        float *a = acc + r * WIDTH;
        fetch_outputs(c, p, t, mr);
        switch (mr) {
#define TILE(n)                                                                                    \
    case n:                                                                                        \
        micro(n, mins, nb, q, c->ldq, s, sum, c->blocks, u, a);                                    \
        break;
            TILE_HEIGHTS(TILE)
#undef TILE
        }
        r += mr;
    }
}

static void unpack_any(const struct pd_wmul_call *c, const struct panel *p, int64_t kb0, int64_t nb,
                       const struct unpacked *u)
{
#define CALL(t) unpack(t, c, p, kb0, nb, u)
    PD_BY_DTYPE(p->part->dtype, CALL)
#undef CALL
}

static void many_rows(const struct pd_wmul_call *c, const struct panel *p, int64_t t0, int64_t end,
                      float *mem)
{
    const int64_t rows = end - t0;
    const struct unpacked u = {mem, mem + WIDTH * PD_WMUL_DEPTH / 2,
                               mem + WIDTH * (PD_WMUL_DEPTH / 2 + BLOCKS)};
    float *acc = u.min + WIDTH * BLOCKS;
    memset(acc, 0, (size_t)(rows * WIDTH) * sizeof *acc);
    for (int64_t kb = 0; kb < c->blocks; kb += BLOCKS) {
        const int64_t nb = c->blocks - kb < BLOCKS ? c->blocks - kb : BLOCKS;
        unpack_any(c, p, kb, nb, &u);
        if (has_min(p->part->dtype))
            sweep(true, c, p, t0, rows, kb, nb, &u, acc);
        else
            sweep(false, c, p, t0, rows, kb, nb, &u, acc);
    }
    write_panel(c, p, t0, rows, acc);
}

static bool any_integers(const struct pd_wmul *m)
{
    bool any = false;
    for (int i = 0; i < m->n_parts; i++)
        any |= !is_float(m->part[i].dtype);
    return any;
}

static void few_rows(const struct pd_wmul_call *c, const struct panel *p, int64_t first,
                     int64_t end, float *mem)
{
    (void)first, (void)end, (void)mem; /* all rows, in registers */
    if (is_float(p->part->dtype))
        few_dots(c, p);
    else
        few_integers(c, p);
}

void PD_KERNEL(wmul_int)(const struct pd_wmul_call *c)
{
    if (c->T > FEW) {
        by_panels(c, 1, quantise_row, many_rows);
        return;
    }
    if (any_integers(c->m))
        for (int64_t t = 0; t < c->T; t++) /* too few to share out */
            quantise_row(c, t);
    by_runs(c, 1, few_rows);
}
