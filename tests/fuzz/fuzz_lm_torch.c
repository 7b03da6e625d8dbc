/* A torch file, its ZIP and its pickle: refused, or every tensor's values lie in the input. */
#include "lm/torch_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_corners(const struct pd_torch_tensor *t)
{
    static volatile unsigned char sink;
    size_t bytes = t->known_dtype ? (size_t)pd_dtype_info(t->dtype)->bytes : 1;
    int64_t last = 0;
    for (int d = 0; d < t->ndim; d++) {
        if (t->shape[d] == 0)
            return;
        last += (t->shape[d] - 1) * t->stride[d];
    }
    const unsigned char *p = t->data;
    sink = p[0];
    sink = p[(size_t)last * bytes + bytes - 1];
    (void)sink;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pd_torch *t = NULL;
    struct pd_err err;
    if (pd_torch_open_bytes(&t, data, size, "fuzz", &err) != PD_OK)
        return 0;
    for (size_t i = 0; i < t->n_tensors; i++)
        read_corners(&t->tensors[i]);
    pd_torch_close(t);
    return 0;
}
