/* The inside of linears: column blocks, for heads that take a large vocabulary in chunks (first is
 * a multiple of PD_LINEAR_BF16_BLOCK), and the bf16 products. Private. */
#ifndef PD_TENSOR_LINEAR_INT_H
#define PD_TENSOR_LINEAR_INT_H

#include "tensor/linear.h"
#include "tensor/matmul.h"

enum { PD_LINEAR_BF16_BLOCK = 1920 };

/* As the public functions, for outputs first..first+n-1 only; y and dy have n columns. */
PD_CHECKED enum pd_rc pd__linear_forward_cols(const struct pd_linear *l, int64_t first, int64_t n,
                                              int64_t T, const float *x, int64_t ldx, float *y,
                                              int64_t ldy, enum pd_write mode, struct pd_err *err);
PD_CHECKED enum pd_rc pd__linear_backward_input_cols(const struct pd_linear *l, int64_t first,
                                                     int64_t n, int64_t T, const float *dy,
                                                     int64_t lddy, float *dx, int64_t lddx,
                                                     enum pd_write mode, struct pd_err *err);
PD_CHECKED enum pd_rc pd__linear_backward_weight_cols(const struct pd_linear *l, int64_t first,
                                                      int64_t n, int64_t T, const float *dy,
                                                      int64_t lddy, const float *x, int64_t ldx,
                                                      struct pd_err *err);

struct pd_linear_bf16 {
    enum pd_matmul_type type; /* NONE: emulated */
    void *plain;              /* [out][in] elements; kept for backward */
    void **block;             /* packed column blocks for forward */
    int64_t n_blocks;
};
PD_CHECKED enum pd_rc pd__bf16_pack(const struct pd_linear *l, struct pd_linear_bf16 *b,
                                    struct pd_err *err);
void pd__bf16_release(struct pd_linear_bf16 *b);
PD_CHECKED enum pd_rc pd__bf16_forward(const struct pd_linear *l, const struct pd_linear_bf16 *b,
                                       int64_t first, int64_t n, int64_t T, const float *x,
                                       int64_t ldx, float *y, int64_t ldy, bool add,
                                       struct pd_err *err);
PD_CHECKED enum pd_rc pd__bf16_backward_input(const struct pd_linear *l,
                                              const struct pd_linear_bf16 *b, int64_t first,
                                              int64_t n, int64_t T, const float *dy, int64_t lddy,
                                              float *dx, int64_t lddx, bool add,
                                              struct pd_err *err);
PD_CHECKED enum pd_rc pd__bf16_backward_weight(enum pd_matmul_type type, int64_t T, int64_t rows,
                                               const float *a, int64_t lda, int64_t cols,
                                               const float *b, int64_t ldb, float *grad,
                                               int64_t ldg, struct pd_err *err);

#endif
