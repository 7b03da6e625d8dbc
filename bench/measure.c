#include "measure.h"

#include <omp.h>
#include <stdio.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

double measure_best(double (*once)(void *), void *ctx)
{
    double best = 1e9;
    const double start = omp_get_wtime();
    for (int i = 0; i < 200 && (i < 5 || omp_get_wtime() - start < 0.4); i++) {
        const double t = once(ctx);
        best = t < best ? t : best;
    }
    return best;
}

static double once_read(void *ctx)
{
    const uint64_t *p = ctx;
    uint64_t sum = 0;
    const double t = omp_get_wtime();
#pragma omp parallel for simd schedule(static) reduction(+ : sum)
    for (int64_t i = 0; i < MEASURE_BYTES / 8; i++)
        sum += p[i];
    const double took = omp_get_wtime() - t;
    if (sum == 42)
        puts("");
    return took;
}

double measure_read(const void *p)
{
    return MEASURE_BYTES / measure_best(once_read, (void *)(uintptr_t)p);
}

/* ---- multiply-adds: WAYS independent sums, so that none waits for another ---- */

enum { WAYS = 12, ROUNDS = 2000000 };

/* n registers of a type: each is multiplied and added to over and over; lane0 keeps them alive. */
#define CHAINS(name, target, type, n, set, madd, lane0)                                            \
    target static float name(void)                                                                 \
    {                                                                                              \
        type s[n];                                                                                 \
        const type x = set(1e-9F);                                                                 \
        float all = 0;                                                                             \
        for (int k = 0; k < (n); k++)                                                              \
            s[k] = set((float)k);                                                                  \
        for (int i = 0; i < ROUNDS; i++)                                                           \
            for (int k = 0; k < (n); k++)                                                          \
                s[k] = madd(s[k], x, x);                                                           \
        for (int k = 0; k < (n); k++)                                                              \
            all += lane0(s[k]);                                                                    \
        return all;                                                                                \
    }

#ifdef __x86_64__
CHAINS(chains_512, __attribute__((target("avx512f"))), __m512, WAYS, _mm512_set1_ps,
       _mm512_fmadd_ps, _mm512_cvtss_f32)
CHAINS(chains_256, __attribute__((target("avx2,fma"))), __m256, WAYS, _mm256_set1_ps,
       _mm256_fmadd_ps, _mm256_cvtss_f32)
#endif

/* Without them: four floats in a register, a product and a sum. */
#define SAME(x)       (x)
#define MADD(s, a, b) ((s) * (a) + (b))
CHAINS(chains_any, , float, 4 * WAYS, SAME, MADD, SAME)

static float (*chains)(void) = chains_any;

static double once_chains(void *ctx)
{
    float all = 0;
    const double t = omp_get_wtime();
#pragma omp parallel reduction(+ : all)
    all += chains();
    const double took = omp_get_wtime() - t;
    *(float *)ctx = all;
    return took;
}

double measure_flops(void)
{
    int lanes = 4;
    float kept;
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f")) {
        chains = chains_512;
        lanes = 16;
    } else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        chains = chains_256;
        lanes = 8;
    }
#endif
    return 2.0 * WAYS * ROUNDS * lanes * omp_get_max_threads() / measure_best(once_chains, &kept);
}
