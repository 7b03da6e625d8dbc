/* Matmuls by oneDNN's sgemm, cut so that results do not depend on the number of threads.
 *
 * Left alone, oneDNN (2.6.3, AVX2) has two ways. Large products it copies into its own layout and
 * sums in an order that no thread count changes: those calls go to it whole, with all threads,
 * and run at 92 to 97% of the peak. Small ones it runs in place, splits by threads (so bits change)
 * and slows down to a half where a leading dimension is near a power of two. Those are cut here,
 * into blocks of a fixed size that each run on one thread, over a weight packed into column blocks
 *      pack[block][in][BLOCK]     block = BLOCK outputs
 * which at 4 to 64 rows (decoding) is 1.3 to 2 times as fast as the weight as it lies.
 *
 * Training keeps the parameters as they are and packs when a small forward first comes after a
 * change (generation with live weights), so that a trainer that only sees large batches never pays
 * for it. Inference multiplies the weights where and as they lie, or in panels (wmul.h), but for
 * bf16 on CPUs that have it when it is asked for by name. */
#include "tensor/linear_int.h"
#include "base/mem.h"
#include "tensor/kernels.h"
#include "tensor/wmul.h"

#include <dnnl.h>
#include <omp.h>
#include <string.h>

enum { BLOCK = 192, ROWS = 256 };

struct pd_linear_pack {
    float *w;    /* packed blocks or NULL */
    float *bias; /* (out), or NULL when no part has one */
    bool fresh;  /* w is what the parameters say */
    struct pd_linear_bf16 bf16;
    struct pd_wmul wmul;             /* inference */
    void *copy[PD_LINEAR_MAX_PARTS]; /* of parts that lie [in, out] or are to be quantised */
    uint8_t *panels;                 /* of all parts, one after another */
    size_t panels_bytes;
    struct pd_pool *pool; /* where they are taken from, or NULL */
};

static bool has_bf16(const struct pd_linear *l) /* true bf16 products */
{
    return l->compute == PD_COMPUTE_BF16 && l->pack->bf16.type != PD_MATMUL_NONE;
}
static bool emulates(const struct pd_linear *l)
{
    return l->train && l->compute == PD_COMPUTE_BF16 && l->pack->bf16.type == PD_MATMUL_NONE;
}
bool pd_linear_in_place(const struct pd_linear *l)
{
    return !l->train && !has_bf16(l);
}

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---- products ---- */

/* oneDNN copies operands, and is exact for any number of threads, when 1/m + 1/n < 0.0038. */
static bool is_large(int64_t m, int64_t n)
{
    return 1.0 / (double)m + 1.0 / (double)n < 0.0037;
}

struct product { /* C (M,N) = or += op(A) op(B) */
    char ta, tb;
    int64_t M, N, K;
    const float *a, *b;
    int64_t lda, ldb;
    float *c;
    int64_t ldc;
    bool add;
};

static dnnl_status_t sgemm(const struct product *p)
{
    return dnnl_sgemm(p->ta, p->tb, p->M, p->N, p->K, 1.0f, p->a, p->lda, p->b, p->ldb,
                      p->add ? 1.0f : 0.0f, p->c, p->ldc);
}

/* Rows i.. and columns j.. of a product as a product of its own. */
static struct product block_of(const struct product *p, int64_t i, int64_t m, int64_t j, int64_t n)
{
    struct product b = *p;
    b.M = m;
    b.N = n;
    b.a += p->ta == 'T' ? i : i * p->lda;
    b.b += p->tb == 'T' ? j * p->ldb : j;
    b.c += i * p->ldc + j;
    return b;
}

static enum pd_rc check(dnnl_status_t s, const struct product *p, struct pd_err *err)
{
    if (s == dnnl_success)
        return PD_OK;
    return PD_FAIL(err, s == dnnl_out_of_memory ? PD_NOMEM : PD_BUG,
                   "oneDNN: sgemm of %lld x %lld x %lld ended with status %d", (long long)p->M,
                   (long long)p->N, (long long)p->K, (int)s);
}

static enum pd_rc multiply(const struct product *p, struct pd_err *err)
{
    if (is_large(p->M, p->N))
        return check(sgemm(p), p, err);
    const int64_t rows = (p->M + ROWS - 1) / ROWS, cols = (p->N + BLOCK - 1) / BLOCK;
    int worst = dnnl_success;
    /* Always a region: inside one oneDNN stays on its thread. */
#pragma omp parallel for schedule(dynamic) reduction(max : worst)
    for (int64_t x = 0; x < rows * cols; x++) {
        const int64_t j = x / rows * BLOCK, i = x % rows * ROWS;
        const struct product b = block_of(p, i, min64(ROWS, p->M - i), j, min64(BLOCK, p->N - j));
        const int s = (int)sgemm(&b);
        worst = s > worst ? s : worst;
    }
    return check((dnnl_status_t)worst, p, err);
}

/* y (T,n) = or += x pack[:, first..first+n) */
static enum pd_rc multiply_packed(const struct pd_linear *l, int64_t first, int64_t n, int64_t T,
                                  const float *x, int64_t ldx, float *y, int64_t ldy, bool add,
                                  struct pd_err *err)
{
    const int64_t b0 = first / BLOCK, b1 = (first + n - 1) / BLOCK + 1;
    const int64_t rows = (T + ROWS - 1) / ROWS;
    const struct product all = {.M = T, .N = n, .K = l->in};
    int worst = dnnl_success;
#pragma omp parallel for schedule(dynamic) reduction(max : worst)
    for (int64_t q = 0; q < rows * (b1 - b0); q++) {
        const int64_t b = b0 + q / rows, i = q % rows * ROWS;
        const int64_t from = b * BLOCK > first ? b * BLOCK : first;
        const int64_t to = min64((b + 1) * BLOCK, first + n);
        const struct product p = {'N',
                                  'N',
                                  min64(ROWS, T - i),
                                  to - from,
                                  l->in,
                                  x + i * ldx,
                                  l->pack->w + b * BLOCK * l->in + (from - b * BLOCK),
                                  ldx,
                                  BLOCK,
                                  y + i * ldy + (from - first),
                                  ldy,
                                  add};
        const int s = (int)sgemm(&p);
        worst = s > worst ? s : worst;
    }
    return check((dnnl_status_t)worst, &all, err);
}

/* ---- parts ---- */

static int64_t rows_of(const struct pd_linear_part *p)
{
    return p->weight->shape[p->in_out ? 1 : 0];
}
static int64_t cols_of(const struct pd_linear_part *p)
{
    return p->weight->shape[p->in_out ? 0 : 1];
}

/* A run of outputs whose weights lie as one matrix: a part, or neighbours in the slab. */
struct run {
    int part;       /* first of it */
    int64_t row, n; /* first row within that part (or run of parts), rows */
    int64_t ld;     /* of an [in, out] weight */
    int64_t at;     /* column of the wanted block where it starts */
    const float *w; /* row `row` (column, when in_out) */
    float *grad;    /* the same, or NULL */
};

static bool follows(const struct pd_linear_part *a, const struct pd_linear_part *b)
{
    const struct pd_param *x = a->weight, *y = b->weight;
    if (a->in_out || b->in_out || x->dtype != PD_DTYPE_F32 || y->dtype != PD_DTYPE_F32)
        return false;
    const bool grads = x->grad ? y->grad == x->grad + x->n : !y->grad;
    return (const float *)y->data == (const float *)x->data + x->n && grads;
}

/* The next run of outputs first..first+n-1; *part and *start (0, 0 at first) move on. */
static bool next_run(const struct pd_linear *l, int64_t first, int64_t n, int *part, int64_t *start,
                     struct run *r)
{
    while (*part < l->n_parts) {
        const int p = (*part)++;
        const int64_t begin = *start;
        int64_t end = begin + rows_of(&l->part[p]);
        while (*part < l->n_parts && follows(&l->part[*part - 1], &l->part[*part]))
            end += rows_of(&l->part[(*part)++]);
        *start = end;
        const int64_t lo = first > begin ? first : begin, hi = min64(first + n, end);
        if (hi <= lo)
            continue;
        const struct pd_linear_part *q = &l->part[p];
        const int64_t skip = (lo - begin) * (q->in_out ? 1 : l->in);
        *r = (struct run){.part = p,
                          .row = lo - begin,
                          .n = hi - lo,
                          .ld = rows_of(q),
                          .at = lo - first,
                          .w = (const float *)q->weight->data + skip,
                          .grad = q->weight->grad ? q->weight->grad + skip : NULL};
        return true;
    }
    return false;
}

/* ---- packing ---- */

/* x rounded to bf16 values, in place. */
static void round_row(float *x, int64_t n)
{
    uint16_t h[256];
    for (int64_t i = 0; i < n; i += 256) {
        const int64_t m = min64(256, n - i);
        pd_f32_to_bf16(x + i, h, (size_t)m);
        for (int64_t k = 0; k < m; k++)
            x[i + k] = pd_bf16_to_f32(h[k]);
    }
}

/* x itself, or where bf16 is emulated a rounded copy in scratch; *ld becomes its stride. */
static enum pd_rc operand(const struct pd_linear *l, enum pd_scratch_slot slot, int64_t T,
                          int64_t n, const float **x, int64_t *ld, struct pd_err *err)
{
    if (!emulates(l))
        return PD_OK;
    float *to = pd_scratch(slot, (size_t)(T * n));
    if (!to)
        return PD_FAIL(err, PD_NOMEM, "no memory for the operands of a matmul");
#pragma omp parallel for schedule(static) if (T * n > PD_PARALLEL_FLOATS)
    for (int64_t t = 0; t < T; t++) {
        memcpy(to + t * n, *x + t * *ld, (size_t)n * sizeof *to);
        round_row(to + t * n, n);
    }
    *x = to;
    *ld = n;
    return PD_OK;
}

/* Part i into the packed blocks, from output `start` of the whole on. */
static enum pd_rc pack_part(const struct pd_linear *l, int i, int64_t start, struct pd_err *err)
{
    const struct pd_linear_part *p = &l->part[i];
    const int64_t rows = rows_of(p);
    const float *src = p->weight->data;
    float *copy = NULL;
    if (p->weight->dtype != PD_DTYPE_F32) {
        copy = pd_try_aligned(p->weight->n, sizeof *copy);
        if (!copy)
            return PD_FAIL(err, PD_NOMEM, "no memory to unpack %s", p->weight->name);
        pd_param_rows(p->weight, 0, p->weight->shape[0], copy);
        src = copy;
    }
    const int64_t b0 = start / BLOCK, b1 = (start + rows - 1) / BLOCK + 1;
#pragma omp parallel for schedule(static) if (rows * l->in > PD_PARALLEL_FLOATS)
    for (int64_t b = b0; b < b1; b++) {
        const int64_t from = b * BLOCK > start ? b * BLOCK : start;
        const int64_t n = min64((b + 1) * BLOCK, start + rows) - from, r0 = from - start;
        float *to = l->pack->w + b * BLOCK * l->in + (from - b * BLOCK);
        if (p->in_out)
            for (int64_t k = 0; k < l->in; k++)
                memcpy(to + k * BLOCK, src + k * rows + r0, (size_t)n * sizeof *to);
        else
            pd_kernels()->transpose(n, l->in, src + r0 * l->in, l->in, to, BLOCK);
        for (int64_t k = 0; emulates(l) && k < l->in; k++)
            round_row(to + k * BLOCK, n);
    }
    pd_aligned_free(copy);
    return PD_OK;
}

static enum pd_rc pack_weights(const struct pd_linear *l, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const size_t blocks = (size_t)((l->out + BLOCK - 1) / BLOCK);
    if (!l->pack->w)
        l->pack->w = pd_try_aligned(blocks * BLOCK, (size_t)l->in * sizeof(float));
    if (!l->pack->w)
        return PD_FAIL(err, PD_NOMEM, "no memory to pack %s", l->part[0].weight->name);
    int64_t start = 0;
    for (int i = 0; i < l->n_parts; start += rows_of(&l->part[i++]))
        PD_TRY(pack_part(l, i, start, err));
    l->pack->fresh = true;
out:
    return rc;
}

static enum pd_rc pack_bias(const struct pd_linear *l, struct pd_err *err)
{
    int64_t at = 0;
    for (int i = 0; i < l->n_parts; at += rows_of(&l->part[i++])) {
        const struct pd_param *b = l->part[i].bias;
        if (!b)
            continue;
        if (!l->pack->bias)
            l->pack->bias = pd_try_aligned((size_t)l->out, sizeof(float));
        if (!l->pack->bias)
            return PD_FAIL(err, PD_NOMEM, "no memory to unpack %s", b->name);
        pd_dtype_to_f32(b->dtype, b->data, l->pack->bias + at, b->n);
    }
    return PD_OK;
}

/* ---- weights in place ---- */

/* A matrix [in, out] of elements of 2 or 4 bytes as [out, in]. */
static void turn(const void *from, size_t size, int64_t in, int64_t out, void *to)
{
    enum { EDGE = 64 }; /* a square of which both sides stay in cache */
#pragma omp parallel for schedule(static) if (in * out > PD_PARALLEL_FLOATS)
    for (int64_t o0 = 0; o0 < out; o0 += EDGE)
        for (int64_t k0 = 0; k0 < in; k0 += EDGE)
            for (int64_t o = o0; o < min64(o0 + EDGE, out); o++)
                for (int64_t k = k0; k < min64(k0 + EDGE, in); k++)
                    memcpy((char *)to + (size_t)(o * in + k) * size,
                           (const char *)from + (size_t)(k * out + o) * size, size);
}

/* Part i, which lies [in, out], as rows of outputs; Q formats, whose blocks run along the wrong
 * side, become fp32. */
static enum pd_rc turn_part(const struct pd_linear *l, int i, struct pd_wmul_part *to,
                            struct pd_err *err)
{
    const struct pd_param *w = l->part[i].weight;
    const bool blocks = pd_dtype_info(w->dtype)->block > 1;
    const void *from = w->data;
    float *copy = NULL;
    enum pd_rc rc = PD_OK;
    to->dtype = blocks ? PD_DTYPE_F32 : w->dtype;
    const size_t size = pd_dtype_row_bytes(to->dtype, 1);
    l->pack->copy[i] = pd_try_aligned(w->n, size);
    if (blocks)
        copy = pd_try_aligned(w->n, sizeof *copy);
    if (!l->pack->copy[i] || (blocks && !copy)) {
        rc = PD_FAIL(err, PD_NOMEM, "no memory to turn %s", w->name);
        goto out;
    }
    if (blocks) {
        pd_param_rows(w, 0, w->shape[0], copy);
        from = copy;
    }
    turn(from, size, l->in, to->rows, l->pack->copy[i]);
    to->w = l->pack->copy[i];
out:
    pd_aligned_free(copy);
    return rc;
}

static bool quantises(const struct pd_linear *l)
{
    return l->compute == PD_COMPUTE_Q8_0 || l->compute == PD_COMPUTE_Q4_0;
}

/* Part i in fewer bits, where they were asked for and it has more. Q4_1 is as fast as Q4_0. */
static enum pd_rc quantise_part(const struct pd_linear *l, int i, struct pd_wmul_part *part,
                                struct pd_err *err)
{
    const enum pd_dtype to = l->compute == PD_COMPUTE_Q8_0 ? PD_DTYPE_Q8_0 : PD_DTYPE_Q4_0;
    const size_t bytes = pd_dtype_row_bytes(to, (size_t)l->in);
    if (bytes == 0 || bytes >= part->row_bytes || part->dtype == PD_DTYPE_Q4_1)
        return PD_OK;
    uint8_t *copy = pd_try_aligned((size_t)part->rows, bytes);
    float *rows = pd_try_aligned((size_t)pd_backend_threads() * (size_t)l->in, sizeof *rows);
    if (!copy || !rows) {
        pd_aligned_free(copy);
        pd_aligned_free(rows);
        return PD_FAIL(err, PD_NOMEM, "no memory to quantise %s", l->part[i].weight->name);
    }
#pragma omp parallel for schedule(static) if (part->rows * l->in > PD_PARALLEL_FLOATS)
    for (int64_t r = 0; r < part->rows; r++) {
        float *row = rows + (size_t)omp_get_thread_num() * (size_t)l->in;
        pd_dtype_to_f32(part->dtype, part->w + (size_t)r * part->row_bytes, row, (size_t)l->in);
        pd_dtype_from_f32(to, row, copy + (size_t)r * bytes, (size_t)l->in);
    }
    pd_aligned_free(rows);
    pd_aligned_free(l->pack->copy[i]);
    l->pack->copy[i] = copy;
    *part = (struct pd_wmul_part){.w = copy, .dtype = to, .rows = part->rows, .row_bytes = bytes};
    return PD_OK;
}

/* Memory for panels, that of an earlier call if it has the size. */
static bool take_panels(struct pd_linear_pack *pack, size_t bytes)
{
    if (pack->panels && pack->panels_bytes == bytes)
        return true;
    if (!pack->pool)
        pd_aligned_free(pack->panels);
    pack->panels = pack->pool ? pd_pool_take(pack->pool, bytes) : pd_try_aligned(bytes, 1);
    pack->panels_bytes = bytes;
    return pack->panels != NULL;
}

/* The parts as panels, where the product gains by it and there is memory for them. */
static void pack_panels(const struct pd_linear *l)
{
    struct pd_wmul *m = &l->pack->wmul;
    size_t at[PD_LINEAR_MAX_PARTS], all = 0;
    for (int i = 0; i < l->n_parts; i++) {
        at[i] = all;
        all += (pd_wmul_packed_bytes(m, i) + 63) / 64 * 64;
    }
    if (all == 0 || !take_panels(l->pack, all))
        return;
    for (int i = 0; i < l->n_parts; i++) {
        pd_wmul_pack(m, i, l->pack->panels + at[i]);
        m->part[i].w = l->pack->panels + at[i];
        pd_aligned_free(l->pack->copy[i]);
        l->pack->copy[i] = NULL;
    }
    m->packed = true;
}

bool pd_linear_in_panels(const struct pd_linear *l)
{
    return l->pack && l->pack->wmul.packed;
}

bool pd_linear_in_byte_panels(const struct pd_linear *l)
{
    return l->pack && pd_wmul_in_byte_panels(&l->pack->wmul);
}

static enum pd_rc place_weights(const struct pd_linear *l, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_wmul *m = &l->pack->wmul;
    *m = (struct pd_wmul){.in = l->in,
                          .n_parts = l->n_parts,
                          .bias = l->pack->bias,
                          .mode = l->compute == PD_COMPUTE_F32    ? PD_WMUL_F32
                                  : l->compute == PD_COMPUTE_BF16 ? PD_WMUL_INT
                                                                  : PD_WMUL_BYTE};
    for (int i = 0; i < l->n_parts; i++) {
        const struct pd_param *w = l->part[i].weight;
        if (l->pack->copy[i]) { /* what an earlier call left may have another size */
            pd_aligned_free(l->pack->copy[i]);
            l->pack->copy[i] = NULL;
        }
        m->part[i] =
            (struct pd_wmul_part){.w = w->data, .dtype = w->dtype, .rows = rows_of(&l->part[i])};
        if (l->part[i].in_out)
            PD_TRY(turn_part(l, i, &m->part[i], err));
        m->part[i].row_bytes = pd_dtype_row_bytes(m->part[i].dtype, (size_t)l->in);
        if (quantises(l))
            PD_TRY(quantise_part(l, i, &m->part[i], err));
        PD_ASSERT(m->part[i].row_bytes > 0);
    }
    pack_panels(l);
out:
    return rc;
}

enum pd_rc pd_linear_repack(struct pd_linear *l, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    l->pack->fresh = false;
    PD_TRY(pack_bias(l, err));
    if (has_bf16(l))
        PD_TRY(pd__bf16_pack(l, &l->pack->bf16, err));
    else if (!l->train)
        PD_TRY(place_weights(l, err));
out:
    return rc;
}

/* ---- life ---- */

static enum pd_rc check_part(const struct pd_linear_part *p, int64_t in, bool train,
                             struct pd_err *err)
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
    if (train && p->weight->dtype != PD_DTYPE_F32)
        return PD_FAIL(err, PD_INVALID, "%s: is %s, training needs F32 (pd_params_alloc_data)",
                       p->weight->name, pd_dtype_info(p->weight->dtype)->name);
    return PD_OK;
}

enum pd_rc pd_linear_init(struct pd_linear *l, const struct pd_linear_part *parts, int n_parts,
                          enum pd_compute compute, bool train, struct pd_pool *pool,
                          struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    /* inference leaves AUTO: integers are as fast as bf16 where that is fast */
    struct pd_linear n = {.n_parts = n_parts,
                          .compute = train ? pd_compute_resolve(compute) : compute,
                          .train = train};
    PD_ASSERT(n_parts > 0 && n_parts <= PD_LINEAR_MAX_PARTS);
    n.in = parts[0].weight->ndim == 2 ? cols_of(&parts[0]) : 0;
    for (int i = 0; i < n_parts; i++) {
        PD_TRY(check_part(&parts[i], n.in, train, err));
        n.part[i] = parts[i];
        n.out += rows_of(&parts[i]);
    }
    if (train && n.compute != PD_COMPUTE_F32 && n.compute != PD_COMPUTE_BF16) {
        rc = PD_FAIL(err, PD_INVALID, "training computes in fp32 or bf16, not in %s",
                     pd_compute_name(n.compute));
        goto out;
    }
    n.pack = pd_xalloc(sizeof *n.pack);
    n.pack->pool = pool;
    if (n.compute == PD_COMPUTE_BF16)
        n.pack->bf16.type = pd_matmul_type();
    PD_TRY(pd_linear_repack(&n, err));
    *l = n;
    n.pack = NULL;
out:
    pd_linear_release(&n);
    return rc;
}

void pd_linear_release(struct pd_linear *l)
{
    if (l->pack) {
        pd_aligned_free(l->pack->w);
        pd_aligned_free(l->pack->bias);
        for (int i = 0; i < PD_LINEAR_MAX_PARTS; i++)
            pd_aligned_free(l->pack->copy[i]);
        if (!l->pack->pool)
            pd_aligned_free(l->pack->panels);
        pd__bf16_release(&l->pack->bf16);
    }
    pd_free(l->pack);
    *l = (struct pd_linear){0};
}

/* ---- forward and backward ---- */

static void add_bias(const float *bias, int64_t T, int64_t n, float *y, int64_t ldy)
{
#pragma omp parallel for schedule(static) if (T * n > PD_PARALLEL_FLOATS)
    for (int64_t t = 0; t < T; t++)
        for (int64_t i = 0; i < n; i++)
            y[t * ldy + i] += bias[i];
}

enum pd_rc pd__linear_forward_cols(const struct pd_linear *l, int64_t first, int64_t n, int64_t T,
                                   const float *x, int64_t ldx, float *y, int64_t ldy,
                                   enum pd_write mode, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const bool add = mode == PD_WRITE_ADD;
    if (T == 0)
        return PD_OK;
    if (pd_linear_in_place(l))
        return pd_wmul_run(&l->pack->wmul, first, n, T, x, ldx, y, ldy, add, err);
    if (has_bf16(l)) {
        PD_TRY(pd__bf16_forward(l, &l->pack->bf16, first, n, T, x, ldx, y, ldy, add, err));
    } else if (!is_large(T, n) || emulates(l)) {
        if (!l->pack->fresh)
            PD_TRY(pack_weights(l, err));
        PD_TRY(operand(l, PD_SCRATCH_LINEAR_A, T, l->in, &x, &ldx, err));
        PD_TRY(multiply_packed(l, first, n, T, x, ldx, y, ldy, add, err));
    } else {
        struct run r;
        int part = 0;
        for (int64_t start = 0; next_run(l, first, n, &part, &start, &r);) {
            const bool in_out = l->part[r.part].in_out;
            const struct product p = {'N', in_out ? 'N' : 'T',    T,        r.n, l->in, x, r.w,
                                      ldx, in_out ? r.ld : l->in, y + r.at, ldy, add};
            PD_TRY(multiply(&p, err));
        }
    }
    if (l->pack->bias)
        add_bias(l->pack->bias + first, T, n, y, ldy);
out:
    return rc;
}

/* dx (T,in) = or += dy pack^T: the emulated backward, over the rounded weights. */
static enum pd_rc backward_packed(const struct pd_linear *l, int64_t first, int64_t n, int64_t T,
                                  const float *dy, int64_t lddy, float *dx, int64_t lddx, bool add,
                                  struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    if (!l->pack->fresh)
        PD_TRY(pack_weights(l, err));
    PD_TRY(operand(l, PD_SCRATCH_LINEAR_A, T, n, &dy, &lddy, err));
    for (int64_t c = first; c < first + n; add = true) {
        const int64_t b = c / BLOCK, to = min64((b + 1) * BLOCK, first + n);
        const struct product p = {'N',
                                  'T',
                                  T,
                                  l->in,
                                  to - c,
                                  dy + (c - first),
                                  l->pack->w + b * BLOCK * l->in + (c - b * BLOCK),
                                  lddy,
                                  BLOCK,
                                  dx,
                                  lddx,
                                  add};
        PD_TRY(multiply(&p, err));
        c = to;
    }
out:
    return rc;
}

enum pd_rc pd__linear_backward_input_cols(const struct pd_linear *l, int64_t first, int64_t n,
                                          int64_t T, const float *dy, int64_t lddy, float *dx,
                                          int64_t lddx, enum pd_write mode, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    bool add = mode == PD_WRITE_ADD;
    struct run r;
    int part = 0;
    PD_ASSERT(l->train);
    if (T > 0 && has_bf16(l))
        return pd__bf16_backward_input(l, &l->pack->bf16, first, n, T, dy, lddy, dx, lddx, add,
                                       err);
    if (T > 0 && emulates(l))
        return backward_packed(l, first, n, T, dy, lddy, dx, lddx, add, err);
    for (int64_t start = 0; T > 0 && next_run(l, first, n, &part, &start, &r);) {
        const bool in_out = l->part[r.part].in_out;
        const struct product p = {'N',  in_out ? 'T' : 'N',    T,  l->in, r.n, dy + r.at, r.w,
                                  lddy, in_out ? r.ld : l->in, dx, lddx,  add};
        PD_TRY(multiply(&p, err));
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
    struct run r;
    int part = 0;
    const float *d = dy, *a = x; /* as multiplied */
    int64_t ldd = lddy, lda = ldx;
    if (T > 0) {
        PD_TRY(operand(l, PD_SCRATCH_LINEAR_A, T, n, &d, &ldd, err));
        PD_TRY(operand(l, PD_SCRATCH_LINEAR_B, T, l->in, &a, &lda, err));
    }
    for (int64_t start = 0; T > 0 && next_run(l, first, n, &part, &start, &r);) {
        if (!r.grad)
            continue;
        const bool in_out = l->part[r.part].in_out;
        struct product p = {'T', 'N', r.n, l->in, T, d + r.at, a, ldd, lda, r.grad, l->in, true};
        if (in_out)
            p = (struct product){'T',      'N', l->in, r.n,    T,    a,
                                 d + r.at, lda, ldd,   r.grad, r.ld, true};
        if (has_bf16(l))
            PD_TRY(pd__bf16_backward_weight(l->pack->bf16.type, T, p.M, p.a, p.lda, p.N, p.b, p.ldb,
                                            p.c, p.ldc, err));
        else
            PD_TRY(multiply(&p, err));
    }
    int64_t begin = 0;
    for (int i = 0; T > 0 && i < l->n_parts; begin += rows_of(&l->part[i++])) {
        const struct pd_param *b = l->part[i].bias;
        const int64_t lo = first > begin ? first : begin;
        const int64_t hi = min64(first + n, begin + rows_of(&l->part[i]));
        if (b && b->grad && hi > lo)
            pd_bias_backward(T, hi - lo, dy + (lo - first), lddy, b->grad + (lo - begin));
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
