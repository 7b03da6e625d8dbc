/* Few rows of x over weights that are stored as floats, in fp32, straight from memory, in two ways.
 * In order: every output adds its products one after another along the row, as the panels of
 * wmul_f32.c do, bit for bit; PD_LANES inputs of as many outputs are turned on the way. And as dot
 * products, which sum PD_LANES products side by side. */
#ifndef PD_TENSOR_KERNEL_FEW_H
#define PD_TENSOR_KERNEL_FEW_H

#include "tensor/kernel/panel.h"

/* Without AVX2 panels are as good. */
enum { FEW = PD_LANES >= 8 ? 4 : 0, EIGHT = 8 };

#if PD_LANES >= 8
/* PD_LANES values of a float row. */
PD_INLINE vf few_load(const enum pd_dtype dtype, const uint8_t *p)
{
#if PD_LANES == 8
    return (vf)floats8(dtype, p);
#else
    const f32x8 v[2] = {floats8(dtype, p), floats8(dtype, p + bytes_of_32(dtype) / 4)};
    vf to;
    memcpy(&to, v, sizeof to);
    return to;
#endif
}

/* acc[t][half] += the first m inputs at x[t] times the weights at w[row]. */
PD_INLINE void few_step(const enum pd_dtype dtype, const int nt, const int m,
                        const uint8_t *const *w, const size_t ahead, const float *const *x,
                        vf (*acc)[2])
{
    float turned[2][PD_LANES * PD_LANES] __attribute__((aligned(64)));
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
        vf row[PD_LANES];
#pragma GCC unroll 16
        for (int r = 0; r < PD_LANES; r++) {
            const uint8_t *p = w[half * PD_LANES + r];
            if (ahead)
                __builtin_prefetch(p + ahead);
            row[r] = few_load(dtype, p);
        }
        turn(row, turned[half], PD_LANES);
    }
#pragma GCC unroll 16
    for (int k = 0; k < m; k++) {
        const vf a = v_load(turned[0] + k * PD_LANES), b = v_load(turned[1] + k * PD_LANES);
#pragma GCC unroll 4
        for (int t = 0; t < nt; t++) {
            const vf v = v_set(x[t][k]);
            acc[t][0] += v * a;
            acc[t][1] += v * b;
        }
    }
}

/* The outputs of a panel for nt rows of x; where the call has fewer, the last one again. */
PD_INLINE void few_outputs(const enum pd_dtype dtype, const int nt, const struct pd_wmul_call *c,
                           const struct panel *p)
{
    const size_t each = bytes_of_32(dtype) / 32;
    const int64_t in = c->m->in, whole = in - in % PD_LANES;
    const size_t ahead = 512;
    vf acc[FEW][2] = {{{0}}};
    const float *x[FEW];
    const uint8_t *w[WIDTH];
    for (int t = 0; t < nt; t++)
        x[t] = c->x + (t < c->T ? t : c->T - 1) * c->ldx;
    for (int64_t k = 0; k < whole; k += PD_LANES) {
#pragma GCC unroll 32
        for (int r = 0; r < WIDTH; r++)
            w[r] = p->rows[r] + (size_t)k * each;
        few_step(dtype, nt, PD_LANES, w, ahead, x, acc);
        for (int t = 0; t < nt; t++)
            x[t] += PD_LANES;
    }
    if (in > whole) {
        uint8_t some[WIDTH][4 * PD_LANES] = {{0}};
        for (int r = 0; r < WIDTH; r++)
            w[r] = memcpy(some[r], p->rows[r] + (size_t)whole * each, (size_t)(in - whole) * each);
        few_step(dtype, nt, (int)(in - whole), w, 0, x, acc);
    }
    float sums[FEW * WIDTH];
    for (int t = 0; t < nt; t++) {
        v_store(sums + t * WIDTH, acc[t][0]);
        v_store(sums + t * WIDTH + PD_LANES, acc[t][1]);
    }
    write_panel(c, p, 0, c->T, sums);
}

/* The next 32 inputs of `no` outputs: products in PD_LANES sums side by side. */
PD_INLINE void dot_step(const enum pd_dtype dtype, const int no, const int nt,
                        const uint8_t *const *w, const float *const *x, vf (*acc)[FEW])
{
#pragma GCC unroll 8
    for (int r = 0; r < no; r++)
#pragma GCC unroll 4
        for (int k = 0; k < 32; k += PD_LANES) {
            const vf v = few_load(dtype, w[r] + (size_t)k * (bytes_of_32(dtype) / 32));
#pragma GCC unroll 4
            for (int t = 0; t < nt; t++)
                acc[r][t] += v * v_load(x[t] + k);
        }
}

/* Outputs r0 .. r0+no-1 of a panel. */
PD_INLINE void dots(const enum pd_dtype dtype, const int no, const int nt,
                    const struct pd_wmul_call *c, const struct panel *p, int64_t r0)
{
    const size_t step = bytes_of_32(dtype), bytes = p->part->row_bytes;
    const size_t ahead = bytes < 2048 ? (size_t)no * bytes : 1024; /* else the rows to come */
    const int64_t in = c->m->in, whole = in - in % 32;
    vf acc[EIGHT][FEW] = {{{0}}};
    const float *x[FEW];
    const uint8_t *w[EIGHT];
    for (int t = 0; t < nt; t++)
        x[t] = c->x + (t < c->T ? t : c->T - 1) * c->ldx;
    for (int r = 0; r < no; r++)
        w[r] = p->rows[r0 + r];
    for (int64_t k = 0; k < whole; k += 32) {
        for (int r = 0; r < no; r++)
            for (size_t line = 0; line < step; line += 64)
                __builtin_prefetch(w[r] + ahead + line);
        dot_step(dtype, no, nt, w, x, acc);
        for (int r = 0; r < no; r++)
            w[r] += step;
        for (int t = 0; t < nt; t++)
            x[t] += 32;
    }
    if (in > whole) { /* then zeros */
        float xs[FEW][32] = {{0}};
        uint8_t ws[EIGHT][128] = {{0}};
        for (int t = 0; t < nt; t++)
            x[t] = memcpy(xs[t], x[t], (size_t)(in - whole) * sizeof(float));
        for (int r = 0; r < no; r++)
            w[r] = memcpy(ws[r], w[r], (size_t)(in - whole) * (step / 32));
        dot_step(dtype, no, nt, w, x, acc);
    }
    const float *bias = c->m->bias ? c->m->bias + c->first + p->out + r0 : NULL;
    for (int t = 0; t < nt && t < c->T; t++) {
        float *y = c->y + t * c->ldy + p->out + r0;
        for (int r = 0; r < no && r < p->n - r0; r++) {
            const float v = v_sum(acc[r][t]) + (bias ? bias[r] : 0.0f);
            y[r] = c->add ? v + y[r] : v;
        }
    }
}

/* In order, as fp32 mode promises. */
static inline void few_floats(const struct pd_wmul_call *c, const struct panel *p)
{
#define CALL(type)                                                                                 \
    if (c->T == 1)                                                                                 \
        few_outputs(type, 1, c, p);                                                                \
    else                                                                                           \
        few_outputs(type, FEW, c, p)
    switch (p->part->dtype) {
        PD_FLOAT_DTYPES(CALL)
    default:
        break;
    }
#undef CALL
}

/* In any order: twice as fast where weights are halves. */
static inline void few_dots(const struct pd_wmul_call *c, const struct panel *p)
{
#define CALL(type)                                                                                 \
    if (c->T == 1)                                                                                 \
        for (int64_t r = 0; r < p->n; r += EIGHT)                                                  \
            dots(type, EIGHT, 1, c, p, r);                                                         \
    else                                                                                           \
        for (int64_t r = 0; r < p->n; r += 2)                                                      \
        dots(type, 2, FEW, c, p, r)
    switch (p->part->dtype) {
        PD_FLOAT_DTYPES(CALL)
    default:
        break;
    }
#undef CALL
}
#else
static inline void few_floats(const struct pd_wmul_call *c, const struct panel *p)
{
    (void)c, (void)p;
}
static inline void few_dots(const struct pd_wmul_call *c, const struct panel *p)
{
    (void)c, (void)p;
}
#endif

#endif
