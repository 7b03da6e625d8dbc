/* Products over stored weights beside the limits of this machine.
 *
 *      bench_matmul [OUT IN [ROWS...]]
 *
 * For each dtype and number of rows: time of y = x W^T, GFLOP/s, and GB/s of weights read; first
 * the bandwidth of plain reading, measured in the same run, and oneDNN's sgemm on the same shape.
 * Weights are as many copies as fill 256 MB, taken in turn, so that few rows are measured from
 * memory and not from cache. Best of several; threads as OMP_NUM_THREADS. */
#include "measure.h"

#include "base/mem.h"
#include "tensor/kernels.h"
#include "tensor/linear.h"

#include <dnnl.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct product {
    struct pd_linear *l; /* copies */
    int n, next;
    int64_t T;
    float *x, *y;
};

static double once(void *ctx)
{
    struct product *p = ctx;
    struct pd_linear *l = &p->l[p->next++ % p->n];
    struct pd_err err;
    const double t = omp_get_wtime();
    if (pd_linear_forward(l, p->T, p->x, l->in, p->y, l->out, PD_WRITE_SET, &err) != PD_OK)
        pd_bug("%s", err.msg);
    return omp_get_wtime() - t;
}

struct sgemm {
    const float *x, *w;
    float *y;
    int64_t T, out, in;
};

static double once_sgemm(void *ctx)
{
    const struct sgemm *s = ctx;
    const double t = omp_get_wtime();
    (void)dnnl_sgemm('N', 'T', s->T, s->out, s->in, 1, s->x, s->in, s->w, s->in, 0, s->y, s->out);
    return omp_get_wtime() - t;
}

static void measure(enum pd_dtype t, enum pd_compute c, const uint8_t *bytes, int64_t out,
                    int64_t in, const int64_t *rows, int n_rows, float *x, float *y)
{
    const size_t size = pd_dtype_row_bytes(t, (size_t)in) * (size_t)out;
    if (size == 0 || size > MEASURE_BYTES)
        return;
    const int n = MEASURE_BYTES / size > 64 ? 64 : (int)(MEASURE_BYTES / size);
    struct pd_param *param = pd_xalloc((size_t)n * sizeof *param);
    struct pd_linear *l = pd_xalloc((size_t)n * sizeof *l);
    struct pd_pool pool = {.most = SIZE_MAX}; /* in huge pages, as a decoder's */
    struct pd_err err;
    for (int i = 0; i < n; i++) {
        param[i] = (struct pd_param){.name = "w", .ndim = 2, .shape = {out, in, 1, 1}};
        param[i].n = (size_t)(out * in);
        param[i].dtype = t;
        param[i].data = (void *)(uintptr_t)(bytes + (size_t)i * size);
        const struct pd_linear_part part = {.weight = &param[i]};
        if (pd_linear_init(&l[i], &part, 1, c, false, &pool, &err) != PD_OK)
            pd_bug("%s", err.msg);
    }
    for (int i = 0; i < n_rows; i++) {
        struct product p = {l, n, 0, rows[i], x, y};
        const double s = measure_best(once, &p);
        printf("%-5s %-5s %5lld rows %9.1f us %8.1f GFLOP/s %7.2f GB/s\n", pd_dtype_info(t)->name,
               pd_compute_name(c), (long long)rows[i], s * 1e6,
               2e-9 * (double)(rows[i] * out * in) / s, 1e-9 * (double)size / s);
    }
    for (int i = 0; i < n; i++)
        pd_linear_release(&l[i]);
    pd_pool_release(&pool);
    pd_free(l);
    pd_free(param);
}

int main(int argc, char **argv)
{
    const int64_t out = argc > 2 ? atoll(argv[1]) : 1536, in = argc > 2 ? atoll(argv[2]) : 576;
    int64_t rows[16] = {1, 2, 4, 8, 16, 64, 128, 512};
    int n_rows = 8;
    struct pd_err err;
    if (argc > 3)
        for (n_rows = 0; n_rows < 16 && n_rows + 3 < argc; n_rows++)
            rows[n_rows] = atoll(argv[n_rows + 3]);
    int64_t most = 0;
    for (int i = 0; i < n_rows; i++)
        most = rows[i] > most ? rows[i] : most;
    if (out < 1 || in < 1 || most < 1 || pd_backend_init(0, &err) != PD_OK)
        return 2;
    float *x = pd_try_aligned((size_t)(most * in), sizeof *x);
    float *y = pd_try_aligned((size_t)(most * out), sizeof *y);
    uint8_t *w = pd_try_aligned(MEASURE_BYTES, 1);
    if (!x || !y || !w)
        return 1;
    for (int64_t i = 0; i < most * in; i++)
        x[i] = (float)(i % 37) * 0.1f - 1.8f;
    for (int64_t i = 0; i < MEASURE_BYTES; i += 2) { /* as floats and halves: about 0.01 */
        w[i] = (uint8_t)(i * 37 >> 3);
        w[i + 1] = 0x3c;
    }
    printf("%s, %d threads, %lld x %lld\nread  %7.2f GB/s\n", pd_backend_isa(),
           pd_backend_threads(), (long long)out, (long long)in, 1e-9 * measure_read(w));
    for (int i = 0; i < n_rows; i++) {
        struct sgemm s = {x, (const float *)(const void *)w, y, rows[i], out, in};
        if ((size_t)(out * in) * sizeof(float) > MEASURE_BYTES)
            break;
        printf("sgemm       %5lld rows %8.1f GFLOP/s\n", (long long)rows[i],
               2e-9 * (double)(rows[i] * out * in) / measure_best(once_sgemm, &s));
    }
    static const enum pd_compute modes[] = {PD_COMPUTE_BF16, PD_COMPUTE_AUTO};
    const char *only = getenv("BENCH_DTYPE");
    for (size_t m = 0; m < 2; m++)
        for (enum pd_dtype t = 0; t < PD_DTYPE_COUNT; t++)
            if (!only || strcmp(only, pd_dtype_info(t)->name) == 0)
                measure(t, modes[m], w, out, in, rows, n_rows, x, y);
    pd_backend_release();
    return 0;
}
