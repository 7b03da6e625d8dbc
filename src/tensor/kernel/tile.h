/* Small dense products, the inner loop of attention and of the packed matmul.
 *
 * C (M,N; ldc) = or += A (M,K) B (K,N; ldb), B and C contiguous along N, A read one value at a
 * time at a[r*ars + k*acs] and broadcast. Up to 6 x 2 vectors of C stay in registers: 12
 * accumulators, 2 of B and 1 of A are the 16 registers of AVX2. Rows are cut evenly (8 = 4 + 4,
 * not 6 + 2) so that no remainder tile runs at the latency of its few accumulators. */
#ifndef PD_TENSOR_KERNEL_TILE_H
#define PD_TENSOR_KERNEL_TILE_H

#include "tensor/kernel/vec.h"

enum { TILE_ROWS = 6, TILE_VECS = 2 };

PD_INLINE void tile_micro(const int mr, const int nv, int64_t K, const float *a, int64_t ars,
                          int64_t acs, const float *b, int64_t ldb, float *c, int64_t ldc, bool add)
{
    vf acc[TILE_ROWS][TILE_VECS];
#pragma GCC unroll 6
    for (int r = 0; r < mr; r++)
#pragma GCC unroll 2
        for (int v = 0; v < nv; v++)
            acc[r][v] = add ? v_load(c + r * ldc + v * PD_LANES) : (vf){0};
    for (int64_t k = 0; k < K; k++) {
        vf bv[TILE_VECS];
#pragma GCC unroll 2
        for (int v = 0; v < nv; v++)
            bv[v] = v_load(b + v * PD_LANES);
#pragma GCC unroll 6
        for (int r = 0; r < mr; r++) {
            const vf x = v_set(a[r * ars]);
#pragma GCC unroll 2
            for (int v = 0; v < nv; v++)
                acc[r][v] += x * bv[v];
        }
        a += acs;
        b += ldb;
    }
#pragma GCC unroll 6
    for (int r = 0; r < mr; r++)
#pragma GCC unroll 2
        for (int v = 0; v < nv; v++)
            v_store(c + r * ldc + v * PD_LANES, acc[r][v]);
}

/* A column block of nv vectors, all M rows. */
PD_INLINE void tile_cols(const int nv, int64_t M, int64_t K, const float *a, int64_t ars,
                         int64_t acs, const float *b, int64_t ldb, float *c, int64_t ldc, bool add)
{
    int64_t left = (M + TILE_ROWS - 1) / TILE_ROWS; /* tiles to come */
    for (int64_t r = 0; r < M; left--) {
        const int64_t mr = (M - r + left - 1) / left;
        const float *ar = a + r * ars;
        float *cr = c + r * ldc;
        switch (mr) {
        case 6:
            tile_micro(6, nv, K, ar, ars, acs, b, ldb, cr, ldc, add);
            break;
        case 5:
            tile_micro(5, nv, K, ar, ars, acs, b, ldb, cr, ldc, add);
            break;
        case 4:
            tile_micro(4, nv, K, ar, ars, acs, b, ldb, cr, ldc, add);
            break;
        case 3:
            tile_micro(3, nv, K, ar, ars, acs, b, ldb, cr, ldc, add);
            break;
        case 2:
            tile_micro(2, nv, K, ar, ars, acs, b, ldb, cr, ldc, add);
            break;
        default:
            tile_micro(1, nv, K, ar, ars, acs, b, ldb, cr, ldc, add);
        }
        r += mr;
    }
}

/* The last N % PD_LANES columns, rarely there (head sizes of toy models). */
static __attribute__((noinline, unused)) void tile_tail(int64_t M, int64_t N, int64_t K,
                                                        const float *a, int64_t ars, int64_t acs,
                                                        const float *b, int64_t ldb, float *c,
                                                        int64_t ldc, bool add)
{
    for (int64_t r = 0; r < M; r++)
        for (int64_t n = 0; n < N; n++) {
            float s = add ? c[r * ldc + n] : 0.0f;
            for (int64_t k = 0; k < K; k++)
                s += a[r * ars + k * acs] * b[k * ldb + n];
            c[r * ldc + n] = s;
        }
}

static __attribute__((unused)) void tile_mm(int64_t M, int64_t N, int64_t K, const float *a,
                                            int64_t ars, int64_t acs, const float *b, int64_t ldb,
                                            float *c, int64_t ldc, bool add)
{
    int64_t n = 0;
    if (acs == 1) { /* the constant helps the compiler */
        for (; n + 2 * PD_LANES <= N; n += 2 * PD_LANES)
            tile_cols(2, M, K, a, ars, 1, b + n, ldb, c + n, ldc, add);
    } else {
        for (; n + 2 * PD_LANES <= N; n += 2 * PD_LANES)
            tile_cols(2, M, K, a, ars, acs, b + n, ldb, c + n, ldc, add);
    }
    if (n + PD_LANES <= N) {
        tile_cols(1, M, K, a, ars, acs, b + n, ldb, c + n, ldc, add);
        n += PD_LANES;
    }
    if (n < N)
        tile_tail(M, N - n, K, a, ars, acs, b + n, ldb, c + n, ldc, add);
}

#endif
