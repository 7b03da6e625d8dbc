/* The compute backend: threads, instruction set, matmul precision; chosen once per process.
 *
 * The kernel sources under tensor/kernel/ are compiled once per instruction set (baseline x86-64,
 * AVX2+FMA, AVX-512: flags only, the same C) and give one `struct pd_kernels` each; cpuid picks
 * the best, PD_ISA=ref|avx2|avx512|vnni overrides. The public functions of ops.h, attention.h and
 * optim.h go through that table; another device is another table.
 *
 * Threads: the tensor library is parallel inside and is called from one compute thread of a
 * process (it keeps scratch memory between calls). Results do not depend on the number of threads:
 * wherever work is cut, no sum is, and sums run in a fixed order. */
#ifndef PD_TENSOR_BACKEND_H
#define PD_TENSOR_BACKEND_H

#include "base/err.h"

enum pd_compute {
    PD_COMPUTE_AUTO, /* training, and what measures: bf16 where the CPU has AVX-512 BF16 or AMX,
                        else fp32. generation: integers (wmul.h), as fast as bf16, mostly finer */
    PD_COMPUTE_F32,
    PD_COMPUTE_BF16, /* bf16 operands, fp32 accumulation; activations stay fp32 in memory. Where
                        the CPU lacks it: emulated when training, integers in inference */
    /* inference only: as auto, and weights that have more bits are quantised when they are placed
     */
    PD_COMPUTE_Q8_0,
    PD_COMPUTE_Q4_0,
};

/* threads <= 0: all online cores (OMP_NUM_THREADS is honoured). May be called again to change the
 * number of threads. PD_INVALID for a PD_ISA that is unknown or that this CPU lacks. Functions of
 * this library called before it use the defaults. */
PD_CHECKED enum pd_rc pd_backend_init(int threads, struct pd_err *err);
void pd_backend_release(void); /* frees scratch and cached primitives (for leak checkers) */

int pd_backend_threads(void);
const char *pd_backend_isa(void); /* "ref", "avx2", "avx512", "vnni" */
bool pd_backend_fast_bf16(void);  /* what PD_COMPUTE_AUTO asks */
/* What --dtype offers where nothing is trained. */
#define PD_COMPUTE_CHOICES "auto|bf16|fp32|q8_0|q4_0"
/* "auto", "fp32" | "f32" | "float32", "bf16" | "bfloat16", "q8_0", "q4_0". */
PD_CHECKED enum pd_rc pd_compute_parse(const char *text, enum pd_compute *out, struct pd_err *err);
enum pd_compute pd_compute_resolve(enum pd_compute c); /* AUTO as training takes it */
const char *pd_compute_name(enum pd_compute c);        /* "auto", "fp32", "bf16", "q8_0", "q4_0" */

#endif
