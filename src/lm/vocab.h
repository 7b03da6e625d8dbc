/* Scans over one row of logits: the only loops of sampling that touch the whole vocabulary.
 * Compiled for several instruction sets in one file; the loader picks. Pure, any thread. */
#ifndef PD_LM_VOCAB_H
#define PD_LM_VOCAB_H

#include <stdint.h>

enum { PD_VOCAB_BLOCK = 64 };

static inline int64_t pd__vocab_blocks(int64_t n)
{
    return (n + PD_VOCAB_BLOCK - 1) / PD_VOCAB_BLOCK;
}

/* block_max[b] = largest of x[64 b ...]; returns the largest of all. NaN is passed over. */
float pd__vocab_max(int64_t n, const float *x, float *block_max);
/* Sum of e = exp((x - max) * k), per block of 64 too, and e itself into y (may be x).
 * NaN anywhere gives NaN. -inf gives 0. */
double pd__vocab_exp(int64_t n, const float *x, float max, float k, float *y, float *block_sum);
/* The sum alone, over runs instead of blocks: two thirds of the time. */
double pd__vocab_mass(int64_t n, const float *x, float max, float k);
/* Indices with x >= t, ascending, into out (room for n); looks only into blocks that can hold one.
 */
int64_t pd__vocab_at_least(int64_t n, const float *x, const float *block_max, float t,
                           int32_t *out);
/* The k-th largest (k from 1) of x, which is reordered. */
float pd__kth_largest(float *x, int64_t n, int64_t k);

#endif
