/* A whole model from a GGUF file: refused, or every value of every parameter can be read. */
#include "base/mem.h"
#include "lm/model.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(const struct pd_model *m)
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
    if (!m->embed || !m->final_norm.w || !m->blocks[0].qkv[0].w || !m->lm_head.w)
        pd_bug("an open model lacks a role");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pd_model_options opt = {.purpose = PD_MODEL_INFERENCE};
    struct pd_model *m = NULL;
    struct pd_err err;
    char path[64];
    int fd = memfd_create("model", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        pd_bug("no memory for the input");
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (pd_model_open(&m, path, &opt, &err) == PD_OK)
        read_all(m);
    pd_model_free(m);
    (void)close(fd);
    return 0;
}
