/* The parameter table: every weight of a model by its Hugging Face name, in one order that drives
 * load, init, save, optimiser, checkpoint, gradient norm and tests.
 *
 * For training all data are fp32 views into one 64-byte-aligned slab and the gradients of the
 * trainable parameters views into a second one, both in table order; every view starts on a
 * multiple of 16 floats and the gap after it is zero and stays zero. For inference `data` may point
 * into a mapped file in its own dtype (the file must outlive the table) and no slab exists.
 * Owner thread. */
#ifndef PD_TENSOR_PARAMS_H
#define PD_TENSOR_PARAMS_H

#include "base/map.h"
#include "tensor/dtype.h"

struct pd_param {
    char *name; /* as on disk: "model.layers.0.self_attn.q_proj.weight" */
    int ndim;
    int64_t shape[4]; /* row-major; unused entries are 1 */
    size_t n;         /* product of shape */
    enum pd_dtype dtype;
    void *data;     /* n values of dtype; NULL until allocated or mapped */
    float *grad;    /* n values, or NULL: frozen, or inference */
    bool decay;     /* weight decay applies (matrices; not norms, not biases) */
    bool trainable; /* set before pd_params_alloc_grads */
    int layer;      /* block number from 0, -1 = not in a block */
};

struct pd_params {
    struct pd_param *v; /* stable only after the last pd_params_add */
    size_t n, cap;
    struct pd_map by_name;
    float *data;           /* slab or NULL */
    float *grad;           /* slab or NULL */
    size_t data_n, grad_n; /* floats in the slabs, gaps included */
};

void pd_params_init(struct pd_params *ps);
void pd_params_release(struct pd_params *ps);

/* Append a parameter (fp32, trainable, no data yet) and return it; the pointer is good until the
 * next add. PD_CONFLICT for a name seen before, PD_INVALID for a shape that is empty or overflows.
 */
PD_CHECKED enum pd_rc pd_params_add(struct pd_params *ps, const char *name, int ndim,
                                    const int64_t *shape, bool decay, int layer,
                                    struct pd_param **out, struct pd_err *err);
struct pd_param *pd_params_find(const struct pd_params *ps, const char *name); /* or NULL */
size_t pd_params_count(const struct pd_params *ps, bool trainable_only);       /* values */

/* One zeroed fp32 slab for all parameters; existing `data` is converted to fp32 into it first (a
 * mapped file may be closed afterwards). */
PD_CHECKED enum pd_rc pd_params_alloc_data(struct pd_params *ps, struct pd_err *err);
/* One zeroed slab for the gradients of the trainable parameters. */
PD_CHECKED enum pd_rc pd_params_alloc_grads(struct pd_params *ps, struct pd_err *err);
/* Reading a parameter whatever its dtype: rows first..first+n-1 of its [shape[0], rest] view. */
void pd_param_rows(const struct pd_param *p, int64_t first, int64_t n, float *dst);

void pd_params_zero_grads(struct pd_params *ps);
/* L2 norm over all gradients, accumulated in double in a fixed order (the same for any number of
 * threads). NaN or inf when a gradient is not finite. */
double pd_params_grad_norm(const struct pd_params *ps);
void pd_params_scale_grads(struct pd_params *ps, float scale);
/* PD_NONFINITE naming the first bad tensor ("gradient of X is NaN at index 17 of 9216 (step 3)").
 */
PD_CHECKED enum pd_rc pd_params_check_grads(const struct pd_params *ps, int64_t step,
                                            struct pd_err *err);
PD_CHECKED enum pd_rc pd_params_check_data(const struct pd_params *ps, int64_t step,
                                           struct pd_err *err);

#endif
