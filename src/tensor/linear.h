/* y = x W^T + b, the matmul of the whole program, over oneDNN.
 *
 * A linear is one to four row parts that multiply as one matrix: q, k and v are three parameters
 * in the table and one product here; so are gate and up. Weights lie [out, in] as in torch, or
 * [in, out] (GPT-2's Conv1D). They are packed once, into the layout the matmul likes and in the
 * compute precision, and packed again after an optimiser step (pd_linear_repack). Source
 * parameters may have any dtype; they are dequantised while packing.
 *
 * Activations are fp32 in memory, rows of `in` or `out` values, with a row stride (ld, in floats)
 * so that a caller can read or write a column block of a wider matrix.
 * One compute thread (backend.h); parallel inside; the same bits on the same machine. */
#ifndef PD_TENSOR_LINEAR_H
#define PD_TENSOR_LINEAR_H

#include "tensor/backend.h"
#include "tensor/params.h"

struct pd_pool;

#define PD_LINEAR_MAX_PARTS 4 /* as PD_WMUL_MAX_PARTS */

struct pd_linear_part {
    struct pd_param *weight; /* [out_i, in], or [in, out_i] when in_out */
    struct pd_param *bias;   /* [out_i] or NULL */
    bool in_out;             /* GPT-2 Conv1D orientation */
};

enum pd_write {
    PD_WRITE_SET, /* overwrite */
    PD_WRITE_ADD, /* add to what is there (a residual stream, a gradient) */
};

struct pd_linear {
    int64_t in, out; /* out = sum of the parts' rows */
    int n_parts;
    struct pd_linear_part part[PD_LINEAR_MAX_PARTS];
    enum pd_compute compute;     /* of training: F32 or BF16; else as asked for */
    bool train;                  /* backward is possible */
    struct pd_linear_pack *pack; /* private */
};

/* Checks that the shapes agree (PD_INVALID names the parameter) and packs. parts is copied; the
 * parameters must outlive the linear, and so must the pool. train: keep what backward needs.
 * pool: what inference takes memory for panels from (wmul.h); where it has none left, weights stay
 * as they lie. NULL: each linear its own. */
PD_CHECKED enum pd_rc pd_linear_init(struct pd_linear *l, const struct pd_linear_part *parts,
                                     int n_parts, enum pd_compute compute, bool train,
                                     struct pd_pool *pool, struct pd_err *err);
/* Whether products are of the weights as they lie, or of panels of them (wmul.h); else they are
 * oneDNN's. */
bool pd_linear_in_place(const struct pd_linear *l);
/* Whether all weights were copied into panels: the linear reads the parameters' data no more, but
 * to be packed again. */
bool pd_linear_in_panels(const struct pd_linear *l);
/* And whether these have 4 bits a weight, for which x is rounded to 8. */
bool pd_linear_in_byte_panels(const struct pd_linear *l);
void pd_linear_release(struct pd_linear *l); /* accepts a zeroed struct */
/* Pack again from the parameters' present data. */
PD_CHECKED enum pd_rc pd_linear_repack(struct pd_linear *l, struct pd_err *err);

/* y (T, out; ldy) = or += x (T, in; ldx) W^T + b. T may be 0. y must not overlap x. */
PD_CHECKED enum pd_rc pd_linear_forward(const struct pd_linear *l, int64_t T, const float *x,
                                        int64_t ldx, float *y, int64_t ldy, enum pd_write mode,
                                        struct pd_err *err);
/* dx (T, in; lddx) = or += dy (T, out; lddy) W. */
PD_CHECKED enum pd_rc pd_linear_backward_input(const struct pd_linear *l, int64_t T,
                                               const float *dy, int64_t lddy, float *dx,
                                               int64_t lddx, enum pd_write mode,
                                               struct pd_err *err);
/* grad(W) += dy^T x and grad(b) += column sums of dy, for the parts that have a gradient. */
PD_CHECKED enum pd_rc pd_linear_backward_weight(const struct pd_linear *l, int64_t T,
                                                const float *dy, int64_t lddy, const float *x,
                                                int64_t ldx, struct pd_err *err);

#endif
