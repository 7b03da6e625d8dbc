/* safetensors: any bytes are refused or opened, and what opens lies inside the file. */
#include "lm/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pd_st *s = NULL;
    struct pd_err err;
    if (pd_st_open_bytes(&s, data, size, "fuzz", &err) != PD_OK)
        return 0;
    for (size_t i = 0; i < s->n_tensors; i++) {
        const struct pd_st_tensor *t = &s->tensors[i];
        if ((const uint8_t *)t->data < data || (const uint8_t *)t->data + t->bytes > data + size)
            pd_bug("tensor %zu lies outside the file", i);
        if (pd_st_find(s, t->name.ptr) != t)
            pd_bug("tensor %zu is not found by its name", i);
    }
    pd_st_close(s);
    return 0;
}
