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

#ifdef __x86_64__
__attribute__((target("avx512f"))) static float chains_512(void)
{
    __m512 s[WAYS], x = _mm512_set1_ps(1e-9F);
    for (int k = 0; k < WAYS; k++)
        s[k] = _mm512_set1_ps((float)k);
    for (int i = 0; i < ROUNDS; i++)
        for (int k = 0; k < WAYS; k++)
            s[k] = _mm512_fmadd_ps(s[k], x, x);
    float all = 0;
    for (int k = 0; k < WAYS; k++)
        all += _mm512_cvtss_f32(s[k]);
    return all;
}

__attribute__((target("avx2,fma"))) static float chains_256(void)
{
    __m256 s[WAYS], x = _mm256_set1_ps(1e-9F);
    for (int k = 0; k < WAYS; k++)
        s[k] = _mm256_set1_ps((float)k);
    for (int i = 0; i < ROUNDS; i++)
        for (int k = 0; k < WAYS; k++)
            s[k] = _mm256_fmadd_ps(s[k], x, x);
    float all = 0;
    for (int k = 0; k < WAYS; k++)
        all += _mm256_cvtss_f32(s[k]);
    return all;
}
#endif

/* Without them: four floats in a register, a product and a sum. */
static float chains_any(void)
{
    float s[4 * WAYS], all = 0;
    for (int k = 0; k < 4 * WAYS; k++)
        s[k] = (float)k;
    for (int i = 0; i < ROUNDS; i++)
        for (int k = 0; k < 4 * WAYS; k++)
            s[k] = s[k] * 1e-9F + 1e-9F;
    for (int k = 0; k < 4 * WAYS; k++)
        all += s[k];
    return all;
}

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
