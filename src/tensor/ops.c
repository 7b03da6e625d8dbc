/* The public ops: the chosen kernels by name, and what is too plain to need an instruction set. */
#include "tensor/ops.h"
#include "tensor/kernels.h"

#include <math.h>
#include <string.h>

void pd_rmsnorm_forward(int64_t T, int64_t H, const float *x, const float *w, float eps, float *y,
                        float *rstd)
{
    pd_kernels()->rmsnorm_forward(T, H, x, w, eps, y, rstd);
}

void pd_rmsnorm_backward(int64_t T, int64_t H, const float *x, const float *w, const float *rstd,
                         const float *dy, float *dx, enum pd_write mode, float *dw)
{
    pd_kernels()->rmsnorm_backward(T, H, x, w, rstd, dy, dx, mode, dw);
}

void pd_layernorm_forward(int64_t T, int64_t H, const float *x, const float *w, const float *b,
                          float eps, float *y, float *mean, float *rstd)
{
    pd_kernels()->layernorm_forward(T, H, x, w, b, eps, y, mean, rstd);
}

void pd_layernorm_backward(int64_t T, int64_t H, const float *x, const float *w, const float *mean,
                           const float *rstd, const float *dy, float *dx, enum pd_write mode,
                           float *dw, float *db)
{
    pd_kernels()->layernorm_backward(T, H, x, w, mean, rstd, dy, dx, mode, dw, db);
}

void pd_rope_table(int64_t T, const int32_t *pos, int rot, const float *inv_freq, float scale,
                   float *cs)
{
    const int64_t half = rot / 2;
#pragma omp parallel for schedule(static) if (T * rot > PD_PARALLEL_FLOATS / 16)
    for (int64_t t = 0; t < T; t++)
        for (int64_t i = 0; i < half; i++) {
            const float angle = (float)pos[t] * inv_freq[i];
            cs[t * rot + i] = cosf(angle) * scale;
            cs[t * rot + half + i] = sinf(angle) * scale;
        }
}

void pd_rope_apply(int64_t T, int n_heads, float *x, int64_t ld, int64_t head_stride, int rot,
                   enum pd_rope_kind kind, const float *cs, bool inverse)
{
    pd_kernels()->rope_apply(T, n_heads, x, ld, head_stride, rot, kind, cs, inverse);
}

void pd_swiglu_forward(int64_t T, int64_t F, const float *gu, float *y)
{
    pd_kernels()->swiglu_forward(T, F, gu, y);
}

void pd_swiglu_backward(int64_t T, int64_t F, const float *gu, const float *dy, float *dgu,
                        float *y_again)
{
    pd_kernels()->swiglu_backward(T, F, gu, dy, dgu, y_again);
}

void pd_act_forward(enum pd_act a, int64_t n, const float *x, float *y)
{
    pd_kernels()->act_forward(a, n, x, y);
}

void pd_act_backward(enum pd_act a, int64_t n, const float *x, const float *dy, float *dx)
{
    pd_kernels()->act_backward(a, n, x, dy, dx);
}

void pd_embed_forward(int64_t T, int64_t H, const int32_t *ids, const struct pd_param *table,
                      float *y, enum pd_write mode)
{
    const size_t bytes = pd_dtype_row_bytes(table->dtype, (size_t)H);
    PD_ASSERT(table->ndim == 2 && table->shape[1] == H && bytes > 0);
#pragma omp parallel for schedule(static) if (T * H > PD_PARALLEL_FLOATS)
    for (int64_t t = 0; t < T; t++) {
        const uint8_t *row = (const uint8_t *)table->data + (size_t)ids[t] * bytes;
        float *yt = y + t * H;
        if (mode == PD_WRITE_SET) {
            pd_dtype_to_f32(table->dtype, row, yt, (size_t)H);
        } else if (table->dtype == PD_DTYPE_F32) {
            for (int64_t i = 0; i < H; i++)
                yt[i] += ((const float *)(const void *)row)[i];
        } else { /* block by block: a block is at most 256 values */
            const struct pd_dtype_info *d = pd_dtype_info(table->dtype);
            float part[256];
            for (int64_t i = 0; i < H; i += d->block, row += d->bytes) {
                pd_dtype_to_f32(table->dtype, row, part, (size_t)d->block);
                for (int k = 0; k < d->block; k++)
                    yt[i + k] += part[k];
            }
        }
    }
}

/* Column block by column block, each over the rows in order: equal ids never race. */
void pd_embed_backward(int64_t T, int64_t H, const int32_t *ids, const float *dy, float *dtable)
{
    enum { COLS = 64 };
#pragma omp parallel for schedule(static) if (T * H > PD_PARALLEL_FLOATS)
    for (int64_t c = 0; c < H; c += COLS) {
        const int64_t n = H - c < COLS ? H - c : COLS;
        for (int64_t t = 0; t < T; t++) {
            float *dst = dtable + (int64_t)ids[t] * H + c;
            const float *src = dy + t * H + c;
            for (int64_t i = 0; i < n; i++)
                dst[i] += src[i];
        }
    }
}

void pd_add(int64_t n, const float *x, float *y)
{
    pd_kernels()->add(n, x, y);
}

void pd_copy(int64_t n, const float *x, float *y)
{
#pragma omp parallel for schedule(static) if (n > PD_PARALLEL_FLOATS)
    for (int64_t b = 0; b < n; b += PD_PARALLEL_FLOATS)
        memcpy(y + b, x + b,
               (size_t)(n - b < PD_PARALLEL_FLOATS ? n - b : PD_PARALLEL_FLOATS) * sizeof *y);
}

void pd_zero(int64_t n, float *y)
{
#pragma omp parallel for schedule(static) if (n > PD_PARALLEL_FLOATS)
    for (int64_t b = 0; b < n; b += PD_PARALLEL_FLOATS)
        memset(y + b, 0,
               (size_t)(n - b < PD_PARALLEL_FLOATS ? n - b : PD_PARALLEL_FLOATS) * sizeof *y);
}

void pd_bias_backward(int64_t T, int64_t N, const float *dy, int64_t ld, float *db)
{
    pd_kernels()->bias_backward(T, N, dy, ld, db);
}
