/* Column blocks of a linear, for heads that take a large vocabulary in chunks. Private. */
#ifndef PD_TENSOR_LINEAR_INT_H
#define PD_TENSOR_LINEAR_INT_H

#include "tensor/linear.h"

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

#endif
