#include "tensor/linear_int.h"
#include "base/mem.h"
#include "tensor/kernels.h"

#include <dnnl.h>
#include <string.h>

struct pd_linear_pack {
    float *copy[PD_LINEAR_MAX_PARTS]; /* fp32 of a part that is stored otherwise, or NULL */
};

static enum pd_rc gemm(char ta, char tb, int64_t M, int64_t N, int64_t K, const float *a,
                       int64_t lda, const float *b, int64_t ldb, bool add, float *c, int64_t ldc,
                       struct pd_err *err)
{
    const dnnl_status_t s =
        dnnl_sgemm(ta, tb, M, N, K, 1.0f, a, lda, b, ldb, add ? 1.0f : 0.0f, c, ldc);
    if (s != dnnl_success)
        return PD_FAIL(err, s == dnnl_out_of_memory ? PD_NOMEM : PD_BUG,
                       "oneDNN sgemm %lldx%lldx%lld failed with status %d", (long long)M,
                       (long long)N, (long long)K, (int)s);
    return PD_OK;
}

static int64_t rows_of(const struct pd_linear_part *p)
{
    return p->weight->shape[p->in_out ? 1 : 0];
}
static int64_t cols_of(const struct pd_linear_part *p)
{
    return p->weight->shape[p->in_out ? 0 : 1];
}
static const float *weight(const struct pd_linear *l, int i)
{
    return l->pack->copy[i] ? l->pack->copy[i] : l->part[i].weight->data;
}

static enum pd_rc check_part(const struct pd_linear_part *p, int64_t in, struct pd_err *err)
{
    if (p->weight->ndim != 2)
        return PD_FAIL(err, PD_INVALID, "%s: a matrix is needed, it has %d dimensions",
                       p->weight->name, p->weight->ndim);
    if (cols_of(p) != in)
        return PD_FAIL(err, PD_INVALID, "%s: %lld inputs, %lld are needed", p->weight->name,
                       (long long)cols_of(p), (long long)in);
    if (p->bias && (int64_t)p->bias->n != rows_of(p))
        return PD_FAIL(err, PD_INVALID, "%s: %zu values, %lld are needed", p->bias->name,
                       p->bias->n, (long long)rows_of(p));
    if (!p->weight->data || (p->bias && !p->bias->data))
        return PD_FAIL(err, PD_INVALID, "%s: has no data", p->weight->name);
    return PD_OK;
}

enum pd_rc pd_linear_init(struct pd_linear *l, const struct pd_linear_part *parts, int n_parts,
                          enum pd_compute compute, bool train, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_linear n = {
        .n_parts = n_parts, .compute = pd_compute_resolve(compute), .train = train};
    PD_ASSERT(n_parts > 0 && n_parts <= PD_LINEAR_MAX_PARTS);
    n.in = cols_of(&parts[0]);
    for (int i = 0; i < n_parts; i++) {
        PD_TRY(check_part(&parts[i], n.in, err));
        n.part[i] = parts[i];
        n.out += rows_of(&parts[i]);
    }
    n.pack = pd_xalloc(sizeof *n.pack);
    PD_TRY(pd_linear_repack(&n, err));
    *l = n;
    n.pack = NULL;
out:
    pd_linear_release(&n);
    return rc;
}

void pd_linear_release(struct pd_linear *l)
{
    if (l->pack)
        for (int i = 0; i < PD_LINEAR_MAX_PARTS; i++)
            pd_aligned_free(l->pack->copy[i]);
    pd_free(l->pack);
    *l = (struct pd_linear){0};
}

enum pd_rc pd_linear_repack(struct pd_linear *l, struct pd_err *err)
{
    for (int i = 0; i < l->n_parts; i++) {
        const struct pd_param *w = l->part[i].weight;
        if (w->dtype == PD_DTYPE_F32)
            continue;
        if (!l->pack->copy[i])
            l->pack->copy[i] = pd_try_aligned(w->n, sizeof(float));
        if (!l->pack->copy[i])
            return PD_FAIL(err, PD_NOMEM, "no memory to unpack %s", w->name);
        pd_param_rows(w, 0, w->shape[0], l->pack->copy[i]);
    }
    return PD_OK;
}

/* The piece of part i that covers outputs first..first+n-1 of the whole: rows r0..r0+rows-1 of the
 * part, at column `at` of the block. */
struct piece {
    int64_t r0, rows, at;
};
static bool piece_of(const struct pd_linear *l, int i, int64_t first, int64_t n, struct piece *p)
{
    int64_t start = 0;
    for (int k = 0; k < i; k++)
        start += rows_of(&l->part[k]);
    const int64_t end = start + rows_of(&l->part[i]);
    const int64_t lo = first > start ? first : start;
    const int64_t hi = first + n < end ? first + n : end;
    *p = (struct piece){lo - start, hi - lo, lo - first};
    return hi > lo;
}

static void add_bias(const struct pd_param *bias, const struct piece *p, int64_t T, float *y,
                     int64_t ldy)
{
    enum { CHUNK = 1024 };
    float b[CHUNK];
    PD_ASSERT(pd_dtype_info(bias->dtype)->block == 1);
    const size_t bytes = (size_t)pd_dtype_info(bias->dtype)->bytes;
    for (int64_t c = 0; c < p->rows; c += CHUNK) {
        const int64_t n = p->rows - c < CHUNK ? p->rows - c : CHUNK;
        pd_dtype_to_f32(bias->dtype, (const char *)bias->data + (size_t)(p->r0 + c) * bytes, b,
                        (size_t)n);
#pragma omp parallel for schedule(static) if (T * n > PD_PARALLEL_FLOATS)
        for (int64_t t = 0; t < T; t++) {
            float *row = y + t * ldy + p->at + c;
            for (int64_t i = 0; i < n; i++)
                row[i] += b[i];
        }
    }
}

enum pd_rc pd__linear_forward_cols(const struct pd_linear *l, int64_t first, int64_t n, int64_t T,
                                   const float *x, int64_t ldx, float *y, int64_t ldy,
                                   enum pd_write mode, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct piece p;
    for (int i = 0; i < l->n_parts && T > 0; i++) {
        if (!piece_of(l, i, first, n, &p))
            continue;
        const int64_t rows = rows_of(&l->part[i]);
        const float *w = weight(l, i);
        if (l->part[i].in_out)
            PD_TRY(gemm('N', 'N', T, p.rows, l->in, x, ldx, w + p.r0, rows, mode == PD_WRITE_ADD,
                        y + p.at, ldy, err));
        else
            PD_TRY(gemm('N', 'T', T, p.rows, l->in, x, ldx, w + p.r0 * l->in, l->in,
                        mode == PD_WRITE_ADD, y + p.at, ldy, err));
        if (l->part[i].bias)
            add_bias(l->part[i].bias, &p, T, y, ldy);
    }
out:
    return rc;
}

enum pd_rc pd__linear_backward_input_cols(const struct pd_linear *l, int64_t first, int64_t n,
                                          int64_t T, const float *dy, int64_t lddy, float *dx,
                                          int64_t lddx, enum pd_write mode, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct piece p;
    bool add = mode == PD_WRITE_ADD;
    for (int i = 0; i < l->n_parts && T > 0; i++) {
        if (!piece_of(l, i, first, n, &p))
            continue;
        const int64_t rows = rows_of(&l->part[i]);
        const float *w = weight(l, i);
        if (l->part[i].in_out)
            PD_TRY(gemm('N', 'T', T, l->in, p.rows, dy + p.at, lddy, w + p.r0, rows, add, dx, lddx,
                        err));
        else
            PD_TRY(gemm('N', 'N', T, l->in, p.rows, dy + p.at, lddy, w + p.r0 * l->in, l->in, add,
                        dx, lddx, err));
        add = true;
    }
out:
    return rc;
}

enum pd_rc pd__linear_backward_weight_cols(const struct pd_linear *l, int64_t first, int64_t n,
                                           int64_t T, const float *dy, int64_t lddy, const float *x,
                                           int64_t ldx, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct piece p;
    for (int i = 0; i < l->n_parts && T > 0; i++) {
        if (!piece_of(l, i, first, n, &p))
            continue;
        const int64_t rows = rows_of(&l->part[i]);
        const struct pd_linear_part *part = &l->part[i];
        if (part->weight->grad && part->in_out)
            PD_TRY(gemm('T', 'N', l->in, p.rows, T, x, ldx, dy + p.at, lddy, true,
                        part->weight->grad + p.r0, rows, err));
        else if (part->weight->grad)
            PD_TRY(gemm('T', 'N', p.rows, l->in, T, dy + p.at, lddy, x, ldx, true,
                        part->weight->grad + p.r0 * l->in, l->in, err));
        if (part->bias && part->bias->grad)
            pd_bias_backward(T, p.rows, dy + p.at, lddy, part->bias->grad + p.r0);
    }
out:
    return rc;
}

enum pd_rc pd_linear_forward(const struct pd_linear *l, int64_t T, const float *x, int64_t ldx,
                             float *y, int64_t ldy, enum pd_write mode, struct pd_err *err)
{
    return pd__linear_forward_cols(l, 0, l->out, T, x, ldx, y, ldy, mode, err);
}

enum pd_rc pd_linear_backward_input(const struct pd_linear *l, int64_t T, const float *dy,
                                    int64_t lddy, float *dx, int64_t lddx, enum pd_write mode,
                                    struct pd_err *err)
{
    return pd__linear_backward_input_cols(l, 0, l->out, T, dy, lddy, dx, lddx, mode, err);
}

enum pd_rc pd_linear_backward_weight(const struct pd_linear *l, int64_t T, const float *dy,
                                     int64_t lddy, const float *x, int64_t ldx, struct pd_err *err)
{
    return pd__linear_backward_weight_cols(l, 0, l->out, T, dy, lddy, x, ldx, err);
}
