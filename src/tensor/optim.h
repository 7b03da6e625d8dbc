/* AdamW, exactly as torch.optim.AdamW computes it (Loshchilov & Hutter 2019, algorithm 2):
 *     p *= 1 - lr*wd                                  (only parameters with decay)
 *     m = b1 m + (1-b1) g;   v = b2 v + (1-b2) g^2
 *     p -= lr/(1-b1^t) * m / (sqrt(v)/sqrt(1-b2^t) + eps)
 * in one fused pass over the trainable parameters. State is two slabs in the order and with the
 * gaps of the gradient slab, so a checkpoint writes m, v and step and nothing else. */
#ifndef PD_TENSOR_OPTIM_H
#define PD_TENSOR_OPTIM_H

#include "tensor/params.h"

struct pd_adamw {
    double beta1, beta2, eps, weight_decay; /* torch's defaults: 0.9, 0.999, 1e-8, 0.01 */
    int64_t step;                           /* updates done */
    float *m, *v;                           /* (n) each, zero at first */
    size_t n;                               /* = pd_params.grad_n */
};

/* After pd_params_alloc_grads. */
PD_CHECKED enum pd_rc pd_adamw_init(struct pd_adamw *o, const struct pd_params *ps, double beta1,
                                    double beta2, double eps, double weight_decay,
                                    struct pd_err *err);
void pd_adamw_release(struct pd_adamw *o);
/* One update: gradients are used times grad_scale (pd_clip_scale), and not changed; step += 1. */
void pd_adamw_step(struct pd_adamw *o, struct pd_params *ps, double lr, double grad_scale);

/* min(1, max_norm / (norm + 1e-6)); 1 when max_norm <= 0 (no clipping). */
double pd_clip_scale(double norm, double max_norm);

#endif
