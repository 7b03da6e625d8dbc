/* What the micro benchmarks share: the best of several runs, and the limits of this machine. All
 * threads of OpenMP take part, as in the kernels. */
#ifndef PD_BENCH_MEASURE_H
#define PD_BENCH_MEASURE_H

#include <stdint.h>

enum { MEASURE_BYTES = 256 << 20 }; /* far past every cache */

/* Seconds of the quickest of 5 to 200 runs, within 0.4 s; `once` returns its own time. */
double measure_best(double (*once)(void *), void *ctx);
/* Bytes a second that are read from memory: p has MEASURE_BYTES, written before. */
double measure_read(const void *p);
/* Floating-point operations a second, two for a multiply-add, of the widest registers there are. */
double measure_flops(void);

#endif
