/* Matmul through oneDNN's primitives, for operands in bf16: C (M,N) = or += A (M,K) B (K,N).
 *
 * A and B hold elements of one type (bf16; fp32 in tests, so that every line but the type runs on
 * CPUs without bf16), C is fp32. A primitive costs 0.2 to 1 ms to make, so they are kept by shape
 * and the caller rounds M up to few values. B may lie in oneDNN's own layout (pd_matmul_pack).
 * Private; one compute thread. */
#ifndef PD_TENSOR_MATMUL_H
#define PD_TENSOR_MATMUL_H

#include "base/err.h"
#include <stdint.h>

enum pd_matmul_type { PD_MATMUL_NONE, PD_MATMUL_BF16, PD_MATMUL_F32 };

/* What this CPU multiplies through primitives: BF16, or NONE (then bf16 is emulated in linear.c).
 * Tests may force F32 or NONE before a linear is made. */
enum pd_matmul_type pd_matmul_type(void);
void pd_matmul_force(enum pd_matmul_type t, bool on);

struct pd_matmul {
    enum pd_matmul_type type;
    int64_t M, N, K;
    const void *a;
    int64_t ars, acs; /* element strides of A: one of them 1 */
    const void *b;
    int64_t brs; /* row stride of B, its columns contiguous; 0: packed by pd_matmul_pack */
    float *c;
    int64_t ldc;
    bool add;
};
PD_CHECKED enum pd_rc pd_matmul_run(const struct pd_matmul *m, struct pd_err *err);

/* B (K,N) given as b[k*brs + n*bcs] into the layout that the matmul likes; *packed is allocated (or
 * reused when not NULL) and released with pd_aligned_free. */
PD_CHECKED enum pd_rc pd_matmul_pack(enum pd_matmul_type type, int64_t K, int64_t N, const void *b,
                                     int64_t brs, int64_t bcs, void **packed, struct pd_err *err);
void pd_matmul_release(void); /* drops all kept primitives */

/* How many primitives that were ever made are oneDNN's reference implementation, a hundred times
 * slower than its kernels. It is what oneDNN silently falls back to for bf16 operands with a packed
 * B when ldc is not N. Tests hold it at 0. */
int pd_matmul_references(void);

#endif
