/* y = x W^T over weights as they lie in a file: any dtype, rows of `in` values, no copy, no pack;
 * or over panels of them, where those are faster and there is memory for them (pd_wmul_pack).
 *
 * Three arithmetics, each with a fixed order of sums, so that what a row gives depends neither on
 * the rows beside it (but for one case, below) nor on the number of threads:
 *  - integer (PD_WMUL_INT): rows of x become 16-bit integers with one scale for 32 values, weights
 *    stay the integers they are (Q formats) or become 14-bit ones with a power of two for 32 values
 *    (F32, F16, BF16); the 32 products are summed exactly in 32 bits, then scaled and added in
 *    fp32, block after block. The rounding of x is at most 2^-14 of the largest of its 32
 *    neighbours (2^-16 where weights have 8 bits or fewer): finer than bf16, at twice the speed of
 *    fp32 on AVX2.
 *  - bytes (PD_WMUL_BYTE): where all weights are Q4_0 or Q4_1 and the CPU gains by it (AVX2; with
 *    VNNI, over panels), x has 8 bits, rounded by at most a 213th of the largest of its 32
 *    neighbours (such weights are by a 15th to a 30th); twice as fast again. Else as PD_WMUL_INT.
 *  - fp32 (PD_WMUL_F32): weights are turned into fp32, products are added one after another.
 * Few rows (up to 4; in bytes one) take dot products straight over the weights, bound by memory;
 * many rows unpack a panel of outputs at a time into cache and run a register tile over all rows.
 * In integer mode few rows over F32, F16 and BF16 as they lie are multiplied in fp32 instead, since
 * rounding weights anew for each row costs more than it saves: there alone a row gives other bits
 * than it does among many, by less than the rounding of the integers. In panels they are integers
 * for good.
 *
 * Private to the tensor library: linears of inference are made of it (linear.h). One compute
 * thread; parallel inside. A value that is not finite, in x or W, makes the outputs it touches so.
 */
#ifndef PD_TENSOR_WMUL_H
#define PD_TENSOR_WMUL_H

#include "tensor/dtype.h"

enum { PD_WMUL_MAX_PARTS = 4 };
enum pd_wmul_mode { PD_WMUL_INT, PD_WMUL_BYTE, PD_WMUL_F32 };

/* Rows of one dtype, one after another; or, where the product is packed, pd_wmul_pack's panels of
 * them (row_bytes stays the rows'). */
struct pd_wmul_part {
    const uint8_t *w;
    enum pd_dtype dtype;
    int64_t rows;
    size_t row_bytes;
};

struct pd_wmul {
    int64_t in;
    int n_parts;
    struct pd_wmul_part part[PD_WMUL_MAX_PARTS]; /* their rows are the outputs, in order */
    const float *bias;                           /* (out) or NULL */
    enum pd_wmul_mode mode;
    bool packed;
};

/* A product over weights in panels: the order in which they are multiplied, so that memory is read
 * from front to back and nothing is turned or rounded on the way. The same bits as over rows, but
 * for few rows over floats (above), and for PD_WMUL_BYTE where the CPU gains nothing by bytes over
 * rows (AVX-512). A copy: of Q formats about as large, of floats 2 bytes a weight, in fp32 mode
 * what they are. Bytes of part i in panels; 0 where this CPU's kernels have none for the product.
 */
size_t pd_wmul_packed_bytes(const struct pd_wmul *m, int i);
/* Writes them, 64-byte aligned, for the kernels chosen now: others have other panels. Parallel
 * inside. */
void pd_wmul_pack(const struct pd_wmul *m, int i, uint8_t *to);

/* Whether it is over panels of 4-bit weights, for which rows of x have 8 bits. */
bool pd_wmul_in_byte_panels(const struct pd_wmul *m);

/* y (T, n; ldy) = or += x (T, in; ldx) W^T + b for outputs first..first+n-1. */
PD_CHECKED enum pd_rc pd_wmul_run(const struct pd_wmul *m, int64_t first, int64_t n, int64_t T,
                                  const float *x, int64_t ldx, float *y, int64_t ldy, bool add,
                                  struct pd_err *err);

/* What is left of the panels that begin as one thread's: first << 32 | end. A cache line each. */
struct pd_wmul_share {
    _Alignas(64) _Atomic uint64_t run;
};

/* What a kernel gets: the product, and room that the caller reserved. */
struct pd_wmul_call {
    const struct pd_wmul *m;
    int64_t first, n, T;
    const float *x;
    int64_t ldx;
    float *y;
    int64_t ldy;
    bool add, bytes; /* bytes: rows of x have 8 bits */
    /* x as words (T, ldq), or in as much room as tiles of words or bytes, and for each 32 of a row
     * the scale and scale * sum */
    int16_t *q;
    int64_t ldq, blocks;
    float *scale, *sum; /* (T, blocks) */
    int32_t *count;     /* (T, blocks): sums of the integers; over panels -8 times those */
    /* (T, blocks), of bytes over panels: the scale's octave, and its quarter's place in a table */
    float *octave;
    int32_t *place;
    size_t ahead;   /* pd_backend_ahead() */
    float limit;    /* largest integer that x may become, for sums within 32 bits */
    float *scratch; /* room floats a thread: PD_WMUL_SCRATCH, or more for a panel's scales */
    int64_t room;
    struct pd_wmul_share *shares; /* one a thread */
};
/* Depth of a panel, rows of x that pass over it, its widest width (outputs). */
enum { PD_WMUL_DEPTH = 512, PD_WMUL_ROWS = 192, PD_WMUL_WIDTH = 32 };
/* Versions of a panel's scales, one for each fraction that a scale of x may have. */
enum { PD_WMUL_QUARTERS = 4 };
#define PD_WMUL_SCRATCH                                                                            \
    (PD_WMUL_WIDTH * (PD_WMUL_DEPTH + 2 * PD_WMUL_DEPTH / 32 + PD_WMUL_ROWS + 64))

#endif
