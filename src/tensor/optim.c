#include "tensor/optim.h"
#include "base/mem.h"
#include "tensor/kernels.h"

#include <math.h>

enum pd_rc pd_adamw_init(struct pd_adamw *o, const struct pd_params *ps, double beta1, double beta2,
                         double eps, double weight_decay, struct pd_err *err)
{
    const size_t n = ps->grad_n;
    float *m = pd_try_aligned(n ? n : 1, sizeof *m), *v = pd_try_aligned(n ? n : 1, sizeof *v);
    if (!m || !v) {
        pd_aligned_free(m);
        pd_aligned_free(v);
        return PD_FAIL(err, PD_NOMEM, "no memory for %zu MiB of optimiser state", n >> 17);
    }
    *o = (struct pd_adamw){.beta1 = beta1,
                           .beta2 = beta2,
                           .eps = eps,
                           .weight_decay = weight_decay,
                           .m = m,
                           .v = v,
                           .n = n};
    return PD_OK;
}

void pd_adamw_release(struct pd_adamw *o)
{
    pd_aligned_free(o->m);
    pd_aligned_free(o->v);
    *o = (struct pd_adamw){0};
}

void pd_adamw_step(struct pd_adamw *o, struct pd_params *ps, double lr, double grad_scale)
{
    PD_ASSERT(o->n == ps->grad_n);
    o->step++;
    const double bc1 = 1.0 - pow(o->beta1, (double)o->step);
    const double bc2 = 1.0 - pow(o->beta2, (double)o->step);
    float c[] = {(float)(1.0 - o->beta1),
                 (float)o->beta2,
                 (float)(1.0 - o->beta2),
                 (float)o->eps,
                 1.0f,
                 (float)(lr / bc1),
                 (float)(1.0 / sqrt(bc2)),
                 (float)grad_scale};
    for (size_t i = 0; i < ps->n; i++) {
        struct pd_param *p = &ps->v[i];
        if (!p->grad)
            continue;
        const size_t at = (size_t)(p->grad - ps->grad);
        c[4] = p->decay ? (float)(1.0 - lr * o->weight_decay) : 1.0f;
        pd_kernels()->adamw((int64_t)p->n, p->data, p->grad, o->m + at, o->v + at, c);
    }
}

double pd_clip_scale(double norm, double max_norm)
{
    if (max_norm <= 0)
        return 1.0;
    const double scale = max_norm / (norm + 1e-6);
    return scale < 1.0 ? scale : 1.0;
}
