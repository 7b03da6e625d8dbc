/* Few rows of x over weights that are stored as floats, in fp32, straight from memory, in two ways.
 * In order: every output adds its products one after another along the row, as the panels of
 * wmul_f32.c do, bit for bit; PD_LANES inputs of as many outputs are turned on the way. And as dot
 * products, which sum PD_LANES products side by side. */
#ifndef PD_TENSOR_KERNEL_FEW_H
#define PD_TENSOR_KERNEL_FEW_H

#include "tensor/kernel/panel.h"

/* Without AVX2 panels are as good. */
enum { FEW = PD_LANES >= 8 ? 4 : 0 };

#if PD_LANES >= 8
/* acc[t] += the first m inputs at x[t] times the weights at w[row]. */
PD_INLINE void few_step(const enum pd_dtype dtype, const int nt, const int m,
                        const uint8_t *const *w, const float *const *x, vf *acc)
{
    float turned[PD_LANES * PD_LANES] __attribute__((aligned(64)));
    vf row[PD_LANES];
#pragma GCC unroll 16
    for (int r = 0; r < PD_LANES; r++)
        row[r] = floats_at(dtype, w[r]);
    turn(row, turned, PD_LANES);
#pragma GCC unroll 16
    for (int k = 0; k < m; k++) {
        const vf v = v_load(turned + k * PD_LANES);
#pragma GCC unroll 4
        for (int t = 0; t < nt; t++)
            acc[t] += v_set(x[t][k]) * v;
    }
}

/* PD_LANES outputs of a panel, those of its rows from r0 on, for nt rows of x; where the call has
 * fewer, the last one again. sums: (nt, WIDTH). */
PD_INLINE void few_outputs(const enum pd_dtype dtype, const int nt, const struct pd_wmul_call *c,
                           const struct panel *p, int r0, float *sums)
{
    const size_t each = bytes_of_32(dtype) / 32;
    const int64_t in = c->m->in, whole = in - in % PD_LANES;
    vf acc[FEW] = {{0}};
    const float *x[FEW];
    const uint8_t *w[PD_LANES];
    for (int t = 0; t < nt; t++)
        x[t] = c->x + (t < c->T ? t : c->T - 1) * c->ldx;
    for (int64_t k = 0; k < whole; k += PD_LANES) {
        const size_t at = (size_t)k * each;
#pragma GCC unroll 16
        for (int r = 0; r < PD_LANES; r++)
            w[r] = p->rows[r0 + r] + at;
        fetch_page(p->rows[r0] + PD_LANES * (p->part->row_bytes + at), PD_LANES * PD_LANES * each);
        few_step(dtype, nt, PD_LANES, w, x, acc);
        for (int t = 0; t < nt; t++)
            x[t] += PD_LANES;
    }
    if (in > whole) {
        const size_t left = (size_t)(in - whole) * each;
        uint8_t some[PD_LANES][4 * PD_LANES] = {{0}};
        for (int r = 0; r < PD_LANES; r++)
            w[r] = memcpy(some[r], p->rows[r0 + r] + (size_t)whole * each, left);
        few_step(dtype, nt, (int)(in - whole), w, x, acc);
    }
    for (int t = 0; t < nt; t++)
        v_store(sums + t * WIDTH + r0, acc[t]);
}

/* The next 32 inputs of an output: products in 2 PD_LANES sums side by side. */
PD_INLINE void dot_step(const enum pd_dtype dtype, const int nt, const uint8_t *w,
                        const float *const *x, vf (*acc)[2])
{
#pragma GCC unroll 8
    for (int k = 0; k < 32; k += PD_LANES) {
        const vf v = floats_at(dtype, w + (size_t)k * (bytes_of_32(dtype) / 32));
#pragma GCC unroll 4
        for (int t = 0; t < nt; t++)
            acc[t][k / PD_LANES % 2] += v * v_load(x[t] + k);
    }
}

/* Output r of a panel. One row of weights at a time: memory gives most to who reads it in order. */
PD_INLINE void dots(const enum pd_dtype dtype, const int nt, const struct pd_wmul_call *c,
                    const struct panel *p, int64_t r)
{
    const size_t step = bytes_of_32(dtype);
    const int64_t in = c->m->in, whole = in - in % 32;
    vf acc[FEW][2] = {{{0}}};
    const float *x[FEW];
    const uint8_t *w = p->rows[r];
    for (int t = 0; t < nt; t++)
        x[t] = c->x + (t < c->T ? t : c->T - 1) * c->ldx;
    for (int64_t k = 0; k < whole; k += 32) {
        if (PD_LANES >= 16 && c->ahead) /* rows in a file; panels, in huge pages, lose by it */
            __builtin_prefetch(w + c->ahead);
        fetch_page(w, step);
        dot_step(dtype, nt, w, x, acc);
        w += step;
        for (int t = 0; t < nt; t++)
            x[t] += 32;
    }
    if (in > whole) { /* then zeros */
        float xs[FEW][32] = {{0}};
        uint8_t ws[128] = {0};
        for (int t = 0; t < nt; t++)
            x[t] = memcpy(xs[t], x[t], (size_t)(in - whole) * sizeof(float));
        dot_step(dtype, nt, memcpy(ws, w, (size_t)(in - whole) * (step / 32)), x, acc);
    }
    const float bias = c->m->bias ? c->m->bias[c->first + p->out + r] : 0.0f;
    for (int t = 0; t < nt && t < c->T; t++) {
        float *y = c->y + t * c->ldy + p->out + r;
        const float v = v_sum(acc[t][0] + acc[t][1]) + bias;
        *y = c->add ? v + *y : v;
    }
}

/* In order, as fp32 mode promises. */
static inline void few_floats(const struct pd_wmul_call *c, const struct panel *p)
{
    float sums[FEW * WIDTH] = {0};
#define CALL(type)                                                                                 \
    for (int r = 0; r < p->n; r += PD_LANES)                                                       \
        if (c->T == 1)                                                                             \
            few_outputs(type, 1, c, p, r, sums);                                                   \
        else                                                                                       \
            few_outputs(type, FEW, c, p, r, sums)
    switch (p->part->dtype) {
        PD_FLOAT_DTYPES(CALL)
    default:
        break;
    }
#undef CALL
    write_panel(c, p, 0, c->T, sums);
}

/* In any order: twice as fast where weights are halves. */
static inline void few_dots(const struct pd_wmul_call *c, const struct panel *p)
{
#define CALL(type)                                                                                 \
    for (int64_t r = 0; r < p->n; r++)                                                             \
        if (c->T == 1)                                                                             \
            dots(type, 1, c, p, r);                                                                \
        else                                                                                       \
            dots(type, FEW, c, p, r)
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
