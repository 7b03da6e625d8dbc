/* Number formats of stored weights, and conversion to and from fp32.
 *
 * A row of a quantised tensor is a whole number of blocks; a block is `block` values in `bytes`
 * bytes (ggml's layouts). All compute is fp32 or bf16: the other formats exist in files and in
 * mapped memory and are turned into fp32 rows when a linear is packed or an embedding is gathered.
 * Any thread; nothing here allocates. */
#ifndef PD_TENSOR_DTYPE_H
#define PD_TENSOR_DTYPE_H

#include "base/err.h"
#include <stdint.h>

/* name, safetensors name ("" = none), ggml type id, values per block, bytes per block */
#define PD_DTYPE_LIST(X)                                                                           \
    X(F32, "F32", 0, 1, 4)                                                                         \
    X(F16, "F16", 1, 1, 2)                                                                         \
    X(BF16, "BF16", 30, 1, 2)                                                                      \
    X(Q8_0, "", 8, 32, 34)                                                                         \
    X(Q4_0, "", 2, 32, 18)                                                                         \
    X(Q4_1, "", 3, 32, 20)                                                                         \
    X(Q5_0, "", 6, 32, 22)                                                                         \
    X(Q5_1, "", 7, 32, 24)                                                                         \
    X(Q4_K, "", 12, 256, 144)                                                                      \
    X(Q5_K, "", 13, 256, 176)                                                                      \
    X(Q6_K, "", 14, 256, 210)

enum pd_dtype {
#define X(name, st, ggml, block, bytes) PD_DTYPE_##name,
    PD_DTYPE_LIST(X)
#undef X
        PD_DTYPE_COUNT
};

struct pd_dtype_info {
    const char *name;        /* "Q4_1" */
    const char *safetensors; /* "BF16", "" when the format does not know it */
    int ggml;                /* ggml_type id of GGUF files */
    int block, bytes;        /* values, bytes of one block */
};

const struct pd_dtype_info *pd_dtype_info(enum pd_dtype t);
/* false when no type of that id / name is known. */
bool pd_dtype_from_ggml(uint32_t ggml, enum pd_dtype *t);
bool pd_dtype_from_safetensors(const char *name, enum pd_dtype *t);

/* Bytes of a row of n values; 0 when n is not a whole number of blocks. */
size_t pd_dtype_row_bytes(enum pd_dtype t, size_t n);
/* src: one row of n values (a whole number of blocks, any alignment) -> dst (n) fp32. */
void pd_dtype_to_f32(enum pd_dtype t, const void *src, float *dst, size_t n);

/* The formats that can be written: F32, F16, BF16, and Q8_0 and Q4_0 by ggml's reference rules. */
bool pd_dtype_can_write(enum pd_dtype t);
/* src (n, a whole number of blocks) -> dst: pd_dtype_row_bytes(t, n) bytes, 2-byte aligned for the
 * halves, any alignment for blocks. A block with a value that is not finite reads back as NaN. */
void pd_dtype_from_f32(enum pd_dtype t, const float *src, void *dst, size_t n);

/* Round to nearest even; NaN stays NaN. */
void pd_f32_to_bf16(const float *src, uint16_t *dst, size_t n);
void pd_f32_to_f16(const float *src, uint16_t *dst, size_t n);
float pd_f16_to_f32(uint16_t h);
uint16_t pd_f32_to_f16_1(float f);
static inline float pd_bf16_to_f32(uint16_t h)
{
    union {
        uint32_t u;
        float f;
    } v = {.u = (uint32_t)h << 16};
    return v.f;
}

#endif
