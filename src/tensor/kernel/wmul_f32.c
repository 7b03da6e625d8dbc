/* Products in fp32 (wmul.h): a panel is turned into fp32 columns in cache, and every output adds
 * its products one after another along the row, whatever the number of rows. Few rows over weights
 * that are floats already need no panel (few.h). */
#include "tensor/kernel/few.h"

/* 32 values of a row as fp32. */
PD_INLINE void expand32(const enum pd_dtype dtype, const uint8_t *row, int64_t kb, int64_t left,
                        float *to)
{
    if (is_float(dtype)) {
        const size_t each = bytes_of_32(dtype) / 32;
        const uint8_t *p = row + (size_t)kb * bytes_of_32(dtype);
        uint8_t some[128] = {0};
        if (left < 32)
            p = memcpy(some, p, (size_t)left * each);
        for (int i = 0; i < 4; i++) {
            const f32x8 v = floats8(dtype, p + 8 * (size_t)i * each);
            memcpy(to + 8 * i, &v, sizeof v);
        }
        return;
    }
    const struct block32 b = block_at(dtype, row, kb, left);
    for (int i = 0; i < 16; i++) {
        to[i] = (float)b.lo[i] * b.scale + b.min;
        to[i + 16] = (float)b.hi[i] * b.scale + b.min;
    }
}

/* w (32 nb, WIDTH) = the panel's inputs from 32 kb0 on. */
PD_INLINE void expand(const enum pd_dtype dtype, const struct pd_wmul_call *c,
                      const struct panel *p, int64_t kb0, int64_t nb, float *w)
{
    float row[PD_LANES][32] __attribute__((aligned(64)));
    for (int64_t b = 0; b < nb; b++)
        for (int half = 0; half < 2; half++) {
            for (int r = 0; r < PD_LANES; r++)
                expand32(dtype, p->rows[half * PD_LANES + r], kb0 + b, c->m->in - 32 * (kb0 + b),
                         row[r]);
            for (int k = 0; k < 32; k += PD_LANES) {
                vf v[PD_LANES];
#pragma GCC unroll 16
                for (int r = 0; r < PD_LANES; r++)
                    v[r] = v_load(row[r] + k);
                turn(v, w + (b * 32 + k) * WIDTH + half * PD_LANES, WIDTH);
            }
        }
}

static void expand_any(const struct pd_wmul_call *c, const struct panel *p, int64_t kb0, int64_t nb,
                       float *w){
#define CALL(t) expand(t, c, p, kb0, nb, w)
    PD_BY_DTYPE(p->part->dtype, CALL)
#undef CALL
}

/* acc (mr, WIDTH) += x (mr, n) w (n, WIDTH), w of dtype t; stream: w comes from memory. */
PD_INLINE void micro(const enum pd_dtype t, const bool stream, const int mr, int64_t n,
                     const float *x, int64_t ldx, const uint8_t *w, float *acc)
{
    const size_t vector = PD_LANES * bytes_of_32(t) / 32;
    vf s[TALL][2];
#pragma GCC unroll 12
    for (int r = 0; r < mr; r++) {
        s[r][0] = v_load(acc + r * WIDTH);
        s[r][1] = v_load(acc + r * WIDTH + PD_LANES);
    }
#pragma GCC unroll 2
    for (int64_t k = 0; k < n; k++) {
        const vf w0 = floats_at(t, w), w1 = floats_at(t, w + vector);
        if (stream)
            fetch_page(w, 2 * vector);
#pragma GCC unroll 12
        for (int r = 0; r < mr; r++) {
            const vf v = v_set(x[r * ldx + k]);
            s[r][0] += v * w0;
            s[r][1] += v * w1;
        }
        w += 2 * vector;
    }
#pragma GCC unroll 12
    for (int r = 0; r < mr; r++) {
        v_store(acc + r * WIDTH, s[r][0]);
        v_store(acc + r * WIDTH + PD_LANES, s[r][1]);
    }
}

PD_INLINE void sweep(const enum pd_dtype dtype, const bool stream, const struct pd_wmul_call *c,
                     int64_t t0, int64_t rows, int64_t k0, int64_t n, const void *w, float *acc)
{
    int64_t left = (rows + TALL - 1) / TALL;
    for (int64_t r = 0; r < rows; left--) {
        const int64_t mr = (rows - r + left - 1) / left;
        const float *x = c->x + (t0 + r) * c->ldx + k0;
        float *a = acc + r * WIDTH;
        switch (mr) {
#define TILE(m)                                                                                    \
    case m:                                                                                        \
        micro(dtype, stream &&m <= FEW, m, n, x, c->ldx, w, a);                                    \
        break;
            TILE_HEIGHTS(TILE)
#undef TILE
        }
        r += mr;
    }
}

static void product(const struct pd_wmul_call *c, const struct panel *p, int64_t t0, int64_t end,
                    float *mem)
{
    const int64_t in = c->m->in, rows = end - t0;
    float *acc = mem + WIDTH * PD_WMUL_DEPTH;
    memset(acc, 0, (size_t)(rows * WIDTH) * sizeof *acc);
    for (int64_t k = 0; k < in; k += PD_WMUL_DEPTH) {
        const int64_t n = in - k < PD_WMUL_DEPTH ? in - k : PD_WMUL_DEPTH;
        expand_any(c, p, k / 32, (n + 31) / 32, mem);
        sweep(PD_DTYPE_F32, false, c, t0, rows, k, n, mem, acc);
    }
    write_panel(c, p, t0, rows, acc);
}

static void packed_product(const struct pd_wmul_call *c, const struct panel *p, int64_t t0,
                           int64_t end, float *acc)
{
    const uint8_t *w = packed_at(c, p);
    const int64_t rows = end - t0;
    memset(acc, 0, (size_t)(rows * WIDTH) * sizeof *acc);
    for (int64_t k = 0; k < c->m->in; k += PD_WMUL_DEPTH) {
        const int64_t n = c->m->in - k < PD_WMUL_DEPTH ? c->m->in - k : PD_WMUL_DEPTH;
        const uint8_t *at = w + (size_t)k * WIDTH * (bytes_of_32(p->part->dtype) / 32);
#define CALL(t) sweep(t, c->T <= FEW, c, t0, rows, k, n, at, acc)
        switch (p->part->dtype) {
            PD_FLOAT_DTYPES(CALL)
        default:
            break;
        }
#undef CALL
    }
    write_panel(c, p, t0, rows, acc);
}

static void few_rows(const struct pd_wmul_call *c, const struct panel *p, int64_t t0, int64_t end,
                     float *mem)
{
    if (is_float(p->part->dtype))
        few_floats(c, p);
    else
        product(c, p, t0, end, mem);
}

void PD_KERNEL(wmul_f32)(const struct pd_wmul_call *c)
{
    if (c->T > FEW)
        by_panels(c, 1, NULL, c->m->packed ? packed_product : product);
    else
        by_runs(c, 1, c->m->packed ? packed_product : few_rows);
}
