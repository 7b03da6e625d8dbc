/* Every value of a model that opened can be read. */
#ifndef PD_FUZZ_READ_H
#define PD_FUZZ_READ_H

#include "base/mem.h"
#include "lm/model.h"

static void fuzz_read_all(const struct pd_model *m)
{
    for (size_t i = 0; i < m->params.n; i++) {
        const struct pd_param *p = &m->params.v[i];
        float *v = pd_xalloc(p->n * sizeof *v);
        if (p->ndim == 1 && p->dtype != PD_DTYPE_F32)
            pd_bug("vector %s is not fp32", p->name);
        if (p->ndim == 1)
            pd_dtype_to_f32(p->dtype, p->data, v, p->n);
        else
            pd_param_rows(p, 0, p->shape[0], v);
        pd_free(v);
    }
    if (!m->embed || !m->final_norm.w || !m->blocks[0].qkv[0].w)
        pd_bug("an open model lacks a role");
}

#endif
