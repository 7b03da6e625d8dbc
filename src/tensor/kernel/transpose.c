/* Transposing a weight while it is packed. */
#include "tensor/kernel/vec.h"

/* 4 x 4 floats through shuffles that every instruction set has. */
static void transpose4(const float *a, int64_t lda, float *to, int64_t ldt)
{
    typedef float v4 __attribute__((vector_size(16), aligned(4), may_alias));
    const v4 r0 = *(const v4 *)a, r1 = *(const v4 *)(a + lda);
    const v4 r2 = *(const v4 *)(a + 2 * lda), r3 = *(const v4 *)(a + 3 * lda);
    const v4 a01 = __builtin_shufflevector(r0, r1, 0, 4, 1, 5),
             b01 = __builtin_shufflevector(r0, r1, 2, 6, 3, 7);
    const v4 a23 = __builtin_shufflevector(r2, r3, 0, 4, 1, 5),
             b23 = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
    *(v4 *)to = __builtin_shufflevector(a01, a23, 0, 1, 4, 5);
    *(v4 *)(to + ldt) = __builtin_shufflevector(a01, a23, 2, 3, 6, 7);
    *(v4 *)(to + 2 * ldt) = __builtin_shufflevector(b01, b23, 0, 1, 4, 5);
    *(v4 *)(to + 3 * ldt) = __builtin_shufflevector(b01, b23, 2, 3, 6, 7);
}

/* to (cols, rows; ldt) = a (rows, cols; lda) transposed; on the calling thread. */
void PD_KERNEL(transpose)(int64_t rows, int64_t cols, const float *a, int64_t lda, float *to,
                          int64_t ldt)
{
    const int64_t r4 = rows / 4 * 4, c4 = cols / 4 * 4;
    for (int64_t c = 0; c < c4; c += 4) /* writes go along rows of `to` */
        for (int64_t r = 0; r < r4; r += 4)
            transpose4(a + r * lda + c, lda, to + c * ldt + r, ldt);
    for (int64_t c = 0; c < cols; c++)
        for (int64_t r = c < c4 ? r4 : 0; r < rows; r++)
            to[c * ldt + r] = a[r * lda + c];
}
