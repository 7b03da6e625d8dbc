/* Attention beside the limits of this machine.
 *
 *      bench_attention [HEADS KV_HEADS HEAD_DIM]
 *
 * Forward and backward over a causal sequence: GFLOP/s (4 and 10 times HEAD_DIM for each query,
 * key it sees and head) and their share of the multiply-adds that all threads can do, measured in
 * the same run. Decoding, a query row for each of some sequences over pages of a KV cache: GB/s of
 * keys and values, and their share of the bandwidth of plain reading. Without arguments the shapes
 * of SmolLM2-135M and of a Llama of 1.1B. Best of several; threads as OMP_NUM_THREADS. */
#include "measure.h"

#include "base/mem.h"
#include "tensor/attention.h"
#include "tensor/backend.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

enum { PAGE = 16 }; /* tokens, as in lm/kv.h */

struct shape {
    const char *name;
    int heads, kv_heads, head_dim;
};

struct limits {
    double flops, bytes; /* a second */
};

static float *floats(int64_t n)
{
    float *p = pd_try_aligned((size_t)n, sizeof *p);
    if (!p)
        pd_bug("no memory for %lld floats", (long long)n);
    for (int64_t i = 0; i < n; i++)
        p[i] = sinf((float)(i % 8191)) * 0.5F;
    return p;
}

static struct pd_attn attention(const struct shape *s, enum pd_kv_type cache)
{
    const int64_t q = (int64_t)s->heads * s->head_dim;
    const int64_t kept = pd_kv_head_values(cache, s->head_dim);
    return (struct pd_attn){.heads = s->heads,
                            .kv_heads = s->kv_heads,
                            .head_dim = s->head_dim,
                            .scale = 1 / sqrtf((float)s->head_dim),
                            .ldq = q,
                            .hsq = s->head_dim,
                            .ldk = s->kv_heads * kept,
                            .hsk = kept,
                            .ldo = q,
                            .hso = s->head_dim,
                            .kv = cache,
                            .ld_scale = PAGE};
}

struct work {
    struct pd_attn a;
    struct pd_attn_seg *segs;
    int64_t n; /* of one run */
    int64_t sets, next;
};

static double once_forward(void *ctx)
{
    struct work *w = ctx;
    const struct pd_attn_seg *segs = w->segs + w->next++ % w->sets * w->n;
    const double t = omp_get_wtime();
    pd_attn_forward(&w->a, segs, w->n);
    return omp_get_wtime() - t;
}

static double once_backward(void *ctx)
{
    struct work *w = ctx;
    struct pd_err err;
    const double t = omp_get_wtime();
    if (pd_attn_backward(&w->a, w->segs, w->n, &err) != PD_OK)
        pd_bug("%s", err.msg);
    return omp_get_wtime() - t;
}

/* One causal sequence of T tokens, as in training and for a prompt. */
static void sequence(const struct shape *s, const struct limits *most, int64_t T)
{
    const int64_t q = (int64_t)s->heads * s->head_dim, kv = (int64_t)s->kv_heads * s->head_dim;
    struct pd_attn_span span = {.k = floats(T * kv),
                                .v = floats(T * kv),
                                .dk = floats(T * kv),
                                .dv = floats(T * kv),
                                .n = T};
    struct pd_attn_seg seg = {.q = floats(T * q),
                              .o = floats(T * q),
                              .lse = floats(T * s->heads),
                              .dout = floats(T * q),
                              .dq = floats(T * q),
                              .n = T,
                              .spans = &span,
                              .n_spans = 1};
    struct work w = {attention(s, PD_KV_F32), &seg, 1, 1, 0};
    const double pair = 2.0 * s->head_dim * s->heads * (double)T * (double)(T + 1) / 2;
    const double forward = measure_best(once_forward, &w), back = measure_best(once_backward, &w);
    printf("%-14s %5lld tokens  forward %8.1f GFLOP/s, %4.0f%% of peak   backward %8.1f GFLOP/s, "
           "%4.0f%% of peak\n",
           s->name, (long long)T, 2e-9 * pair / forward, 200 * pair / forward / most->flops,
           5e-9 * pair / back, 500 * pair / back / most->flops);
    const void *all[] = {span.k, span.v, span.dk, span.dv, seg.q, seg.o, seg.lse, seg.dout, seg.dq};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        pd_aligned_free((void *)(uintptr_t)all[i]);
}

/* A token for each of n sequences of L tokens, in pages; sets of them in turn, as the layers of a
 * model, so that they come from memory and not from cache. */
static void decode(const struct shape *s, const struct limits *most, enum pd_kv_type type,
                   const void *cache, int64_t n, int64_t L)
{
    const int64_t q = (int64_t)s->heads * s->head_dim;
    const int64_t kv = s->kv_heads * pd_kv_head_values(type, s->head_dim);
    static const char *const name[] = {"fp32", "f16", "int8"};
    const int64_t scales = type == PD_KV_INT8 ? 4 * PAGE * s->kv_heads : 0;
    const int64_t rows = PAGE * kv * pd_kv_value_bytes(type), half = rows + scales;
    const int64_t page = 2 * half, pages = L / PAGE; /* keys, then values */
    const int64_t bytes = n * pages * page;
    struct work w = {attention(s, type), NULL, n, MEASURE_BYTES / bytes, 0};
    if (w.sets < 1)
        return;
    float *x = floats(2 * n * q);
    struct pd_attn_span *spans = pd_xalloc((size_t)(w.sets * n * pages) * sizeof *spans);
    w.segs = pd_xalloc((size_t)(w.sets * n) * sizeof *w.segs);
    for (int64_t i = 0; i < w.sets * n * pages; i++)
        spans[i] =
            (struct pd_attn_span){.k = (const char *)cache + i * page,
                                  .v = (const char *)cache + i * page + half,
                                  .k_scale = (const float *)cache + (i * page + rows) / 4,
                                  .v_scale = (const float *)cache + (i * page + half + rows) / 4,
                                  .n = PAGE,
                                  .pos = i % pages * PAGE};
    for (int64_t i = 0; i < w.sets * n; i++)
        w.segs[i] = (struct pd_attn_seg){.q = x + i % n * q,
                                         .o = x + (n + i % n) * q,
                                         .n = 1,
                                         .pos = L - 1,
                                         .spans = spans + i * pages,
                                         .n_spans = (int)pages};
    const double t = measure_best(once_forward, &w);
    printf("%-14s decoding %3lld x %5lld tokens, %-4s  %8.1f us  %6.2f GB/s, %4.0f%% of reading\n",
           s->name, (long long)n, (long long)L, name[type], t * 1e6, 1e-9 * (double)bytes / t,
           100 * (double)bytes / t / most->bytes);
    pd_free(w.segs);
    pd_free(spans);
    pd_aligned_free(x);
}

int main(int argc, char **argv)
{
    const struct shape known[] = {{"smollm2-135m", 9, 3, 64}, {"llama-1.1b", 32, 4, 64}};
    const struct shape given = {"given", argc == 4 ? atoi(argv[1]) : 0,
                                argc == 4 ? atoi(argv[2]) : 0, argc == 4 ? atoi(argv[3]) : 0};
    const bool one = given.heads > 0 && given.kv_heads > 0 && given.head_dim > 0 &&
                     given.heads % given.kv_heads == 0;
    struct pd_err err;
    if ((argc != 1 && !one) || pd_backend_init(0, &err) != PD_OK) {
        fputs("bench_attention [HEADS KV_HEADS HEAD_DIM]\n", stderr);
        return 2;
    }
    float *cache = floats(MEASURE_BYTES / (int64_t)sizeof(float));
    const struct limits most = {measure_flops(), measure_read(cache)};
    printf("%s, %d threads: multiply-adds %.1f GFLOP/s, reading %.2f GB/s\n", pd_backend_isa(),
           pd_backend_threads(), most.flops / 1e9, most.bytes / 1e9);
    for (int i = 0; i < (one ? 1 : 2); i++) {
        const struct shape *s = one ? &given : &known[i];
        for (int64_t T = 128; T <= 2048; T *= 4)
            sequence(s, &most, T);
        for (int64_t L = 64; L <= 4096; L *= 4) {
            for (int kv = PD_KV_F32; kv <= PD_KV_INT8; kv++) {
                if (kv == PD_KV_INT8 && s->head_dim > PD_KV_INT8_DIM)
                    continue;
                decode(s, &most, (enum pd_kv_type)kv, cache, 1, L);
                decode(s, &most, (enum pd_kv_type)kv, cache, 32, L);
            }
        }
    }
    pd_aligned_free(cache);
    pd_backend_release();
    return 0;
}
