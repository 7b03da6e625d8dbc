/* A linear whose products take bf16 operands and sum in fp32.
 *
 * Where oneDNN multiplies bf16 (AVX-512 and up) it does so through primitives (matmul.h): the
 * weights as a plain bf16 matrix for backward and packed in column blocks for forward, activations
 * rounded into scratch at each call. Rows go in one piece of a multiple of STEP and a tail that is
 * rounded up in scratch, so that few shapes occur; a column block of a wider y goes through scratch
 * whole, PIECE rows at a time, since over packed weights oneDNN is only fast (a hundred times)
 * where the rows of C are next to each other. Elsewhere bf16 is emulated: operands are rounded to
 * bf16 values and multiplied by the fp32 path (exact products, the same semantics, slower). */
#include "tensor/linear_int.h"
#include "base/mem.h"
#include "tensor/kernels.h"

#include <string.h>

enum { STEP = 64, PIECE = 2 * STEP, BLOCK = PD_LINEAR_BF16_BLOCK };

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static size_t element(enum pd_matmul_type t)
{
    return t == PD_MATMUL_BF16 ? 2 : 4;
}

static void convert(enum pd_matmul_type t, const float *x, void *to, int64_t n)
{
    if (t == PD_MATMUL_BF16)
        pd_f32_to_bf16(x, to, (size_t)n);
    else
        memcpy(to, x, (size_t)n * sizeof *x);
}

/* Rows of x (T,n; ld) as elements (rows,n) in scratch, zero from T on. NULL when memory is gone. */
static void *gather(enum pd_scratch_slot slot, enum pd_matmul_type t, int64_t T, int64_t rows,
                    int64_t n, const float *x, int64_t ld)
{
    char *to = (char *)pd_scratch(slot, (size_t)(rows * n));
    if (!to)
        return NULL;
    const size_t row = (size_t)n * element(t);
#pragma omp parallel for schedule(static) if (rows * n > PD_PARALLEL_FLOATS)
    for (int64_t r = 0; r < rows; r++)
        if (r < T)
            convert(t, x + r * ld, to + (size_t)r * row, n);
        else
            memset(to + (size_t)r * row, 0, row);
    return to;
}

static enum pd_rc no_memory(struct pd_err *err)
{
    return PD_FAIL(err, PD_NOMEM, "no memory for the operands of a matmul");
}

static int64_t bucket(int64_t m)
{
    for (int64_t b = 1; b < 16; b *= 2)
        if (m <= b)
            return b;
    return (m + 15) / 16 * 16;
}

/* Rows that a product of T rows takes in scratch. */
static int64_t padded(int64_t T)
{
    const int64_t tail = T % STEP;
    return T - tail + (tail > 0 ? bucket(tail) : 0);
}

/* Rows first..first+n-1 of m by way of scratch; A has padded(n) rows from there on. */
static enum pd_rc run_piece(const struct pd_matmul *m, int64_t first, int64_t n, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_matmul piece = *m;
    piece.M = padded(n);
    PD_ASSERT(piece.M <= PIECE);
    piece.a = (const char *)m->a + (size_t)(first * m->K) * element(m->type);
    piece.c = pd_scratch(PD_SCRATCH_LINEAR_C, (size_t)(PIECE * m->N));
    piece.ldc = m->N;
    piece.add = false;
    if (!piece.c)
        return no_memory(err);
    PD_TRY(pd_matmul_run(&piece, err));
#pragma omp parallel for schedule(static) if (n * m->N > PD_PARALLEL_FLOATS)
    for (int64_t r = 0; r < n; r++) {
        const float *c = piece.c + r * m->N;
        float *y = m->c + (first + r) * m->ldc;
        for (int64_t i = 0; i < m->N; i++)
            y[i] = c[i] + (m->add ? y[i] : 0.0f);
    }
out:
    return rc;
}

/* m->M rows with few distinct shapes. A has padded(M) rows of K elements. */
static enum pd_rc run_rows(const struct pd_matmul *m, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const bool strided = m->brs == 0 && m->ldc != m->N;
    struct pd_matmul whole = *m;
    whole.M = strided ? 0 : m->M / STEP * STEP;
    if (whole.M > 0)
        PD_TRY(pd_matmul_run(&whole, err));
    for (int64_t r = whole.M; r < m->M; r += PIECE)
        PD_TRY(run_piece(m, r, min64(PIECE, m->M - r), err));
out:
    return rc;
}

/* ---- weights ---- */

void pd__bf16_release(struct pd_linear_bf16 *b)
{
    pd_aligned_free(b->plain);
    for (int64_t i = 0; b->block && i < b->n_blocks; i++)
        pd_aligned_free(b->block[i]);
    pd_free(b->block);
    *b = (struct pd_linear_bf16){0};
}

/* Part i as elements [out_i][in] of the plain matrix, row by row through fp32. */
static enum pd_rc fill_plain(const struct pd_linear *l, int i, char *to, enum pd_matmul_type t,
                             struct pd_err *err)
{
    const struct pd_param *w = l->part[i].weight;
    const int64_t rows = w->shape[0], cols = w->shape[1];
    const size_t es = element(t);
    if (w->dtype == PD_DTYPE_F32 && !l->part[i].in_out) {
        const float *src = w->data;
#pragma omp parallel for schedule(static) if (rows * cols > PD_PARALLEL_FLOATS)
        for (int64_t r = 0; r < rows; r++)
            convert(t, src + r * cols, to + (size_t)(r * cols) * es, cols);
        return PD_OK;
    }
    float *row = pd_try_aligned((size_t)cols, 2 * sizeof *row);
    if (!row)
        return no_memory(err);
    char *line = (char *)(row + cols);
    for (int64_t r = 0; r < rows; r++) {
        pd_param_rows(w, r, 1, row);
        if (!l->part[i].in_out) {
            convert(t, row, to + (size_t)(r * cols) * es, cols);
            continue;
        }
        convert(t, row, line, cols); /* row r of [in, out] is column r of [out, in] */
        for (int64_t c = 0; c < cols; c++)
            memcpy(to + (size_t)(c * rows + r) * es, line + (size_t)c * es, es);
    }
    pd_aligned_free(row);
    return PD_OK;
}

enum pd_rc pd__bf16_pack(const struct pd_linear *l, struct pd_linear_bf16 *b, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const size_t es = element(b->type);
    if (!b->plain)
        b->plain = pd_try_aligned((size_t)(l->out * l->in), es);
    if (!b->plain)
        return no_memory(err);
    char *at = b->plain;
    for (int i = 0; i < l->n_parts; i++) {
        PD_TRY(fill_plain(l, i, at, b->type, err));
        at += l->part[i].weight->n * es;
    }
    if (!b->block) {
        b->n_blocks = (l->out + BLOCK - 1) / BLOCK;
        b->block = pd_xalloc((size_t)b->n_blocks * sizeof *b->block);
    }
    for (int64_t i = 0; i < b->n_blocks; i++)
        PD_TRY(pd_matmul_pack(b->type, l->in, min64(BLOCK, l->out - i * BLOCK),
                              (char *)b->plain + (size_t)(i * BLOCK * l->in) * es, 1, l->in,
                              &b->block[i], err));
    if (!l->train) {
        pd_aligned_free(b->plain);
        b->plain = NULL;
    }
out:
    return rc;
}

/* ---- products ---- */

enum pd_rc pd__bf16_forward(const struct pd_linear *l, const struct pd_linear_bf16 *b,
                            int64_t first, int64_t n, int64_t T, const float *x, int64_t ldx,
                            float *y, int64_t ldy, bool add, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    PD_ASSERT(first % BLOCK == 0 && (n % BLOCK == 0 || first + n == l->out));
    const void *a = gather(PD_SCRATCH_LINEAR_A, b->type, T, padded(T), l->in, x, ldx);
    if (!a)
        return no_memory(err);
    for (int64_t c = 0; c < n; c += BLOCK) {
        const struct pd_matmul m = {b->type, T,  min64(BLOCK, n - c),           l->in, a,
                                    l->in,   1,  b->block[(first + c) / BLOCK], 0,     y + c,
                                    ldy,     add};
        PD_TRY(run_rows(&m, err));
    }
out:
    return rc;
}

enum pd_rc pd__bf16_backward_input(const struct pd_linear *l, const struct pd_linear_bf16 *b,
                                   int64_t first, int64_t n, int64_t T, const float *dy,
                                   int64_t lddy, float *dx, int64_t lddx, bool add,
                                   struct pd_err *err)
{
    const void *a = gather(PD_SCRATCH_LINEAR_A, b->type, T, padded(T), n, dy, lddy);
    if (!a)
        return no_memory(err);
    const struct pd_matmul m = {
        b->type, T,  l->in, n,
        a,       n,  1,     (const char *)b->plain + (size_t)(first * l->in) * element(b->type),
        l->in,   dx, lddx,  add};
    return run_rows(&m, err);
}

/* grad (rows, cols; ldg) += a^T b over T rows, a (T,rows; lda) and b (T,cols; ldb). */
enum pd_rc pd__bf16_backward_weight(enum pd_matmul_type type, int64_t T, int64_t rows,
                                    const float *a, int64_t lda, int64_t cols, const float *b,
                                    int64_t ldb, float *grad, int64_t ldg, struct pd_err *err)
{
    const int64_t K = (T + STEP - 1) / STEP * STEP; /* zero rows add nothing */
    const void *ea = gather(PD_SCRATCH_LINEAR_A, type, T, K, rows, a, lda);
    const void *eb = gather(PD_SCRATCH_LINEAR_B, type, T, K, cols, b, ldb);
    if (!ea || !eb)
        return no_memory(err);
    const struct pd_matmul m = {type, rows, cols, K, ea, 1, rows, eb, cols, grad, ldg, true};
    return pd_matmul_run(&m, err);
}
