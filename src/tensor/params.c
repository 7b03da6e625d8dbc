#include "tensor/params.h"
#include "base/mem.h"
#include "base/str.h"

#include <math.h>
#include <string.h>

/* Views start on a multiple of this many floats: one cache line. */
enum { ALIGN = 16 };
/* Floats that one partial sum of the gradient norm covers, whatever the number of threads. */
enum { NORM_BLOCK = 16384 };

static size_t aligned(size_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

void pd_params_init(struct pd_params *ps)
{
    *ps = (struct pd_params){0};
    pd_map_init(&ps->by_name);
}

void pd_params_release(struct pd_params *ps)
{
    for (size_t i = 0; i < ps->n; i++)
        pd_free(ps->v[i].name);
    pd_free(ps->v);
    pd_map_release(&ps->by_name);
    pd_aligned_free(ps->data);
    pd_aligned_free(ps->grad);
    *ps = (struct pd_params){0};
}

enum pd_rc pd_params_add(struct pd_params *ps, const char *name, int ndim, const int64_t *shape,
                         bool decay, int layer, struct pd_param **out, struct pd_err *err)
{
    struct pd_param p = {.ndim = ndim,
                         .shape = {1, 1, 1, 1},
                         .n = 1,
                         .dtype = PD_DTYPE_F32,
                         .decay = decay,
                         .trainable = true,
                         .layer = layer};
    if (pd_map_has(&ps->by_name, pd_str_from(name)))
        return PD_FAIL(err, PD_CONFLICT, "parameter %s stands in the table twice", name);
    if (ndim < 1 || ndim > 4)
        return PD_FAIL(err, PD_INVALID, "parameter %s: %d dimensions, 1 to 4 are supported", name,
                       ndim);
    for (int d = 0; d < ndim; d++) {
        p.shape[d] = shape[d];
        if (shape[d] < 1 || __builtin_mul_overflow(p.n, (size_t)shape[d], &p.n) ||
            p.n > SIZE_MAX / 64)
            return PD_FAIL(err, PD_INVALID, "parameter %s: dimension %d is %lld", name, d,
                           (long long)shape[d]);
    }
    if (ps->n == ps->cap) {
        ps->cap = ps->cap ? 2 * ps->cap : 64;
        ps->v = pd_xrealloc(ps->v, ps->cap * sizeof *ps->v);
    }
    p.name = pd_xstrdup(name);
    (void)pd_map_put(&ps->by_name, pd_str_from(name), (int64_t)ps->n);
    ps->v[ps->n] = p;
    *out = &ps->v[ps->n++];
    return PD_OK;
}

struct pd_param *pd_params_find(const struct pd_params *ps, const char *name)
{
    int64_t i;
    return pd_map_get(&ps->by_name, pd_str_from(name), &i) ? &ps->v[i] : NULL;
}

size_t pd_params_count(const struct pd_params *ps, bool trainable_only)
{
    size_t n = 0;
    for (size_t i = 0; i < ps->n; i++)
        if (ps->v[i].trainable || !trainable_only)
            n += ps->v[i].n;
    return n;
}

void pd_param_rows(const struct pd_param *p, int64_t first, int64_t n, float *dst)
{
    const size_t cols = p->n / (size_t)p->shape[0];
    const size_t bytes = pd_dtype_row_bytes(p->dtype, cols);
    const uint8_t *src = (const uint8_t *)p->data + (size_t)first * bytes;
    PD_ASSERT(bytes > 0 && p->data && first >= 0 && first + n <= p->shape[0]);
    for (int64_t r = 0; r < n; r++)
        pd_dtype_to_f32(p->dtype, src + (size_t)r * bytes, dst + (size_t)r * cols, cols);
}

enum pd_rc pd_params_alloc_data(struct pd_params *ps, struct pd_err *err)
{
    size_t total = 0, at = 0;
    for (size_t i = 0; i < ps->n; i++)
        total += aligned(ps->v[i].n);
    float *slab = pd_try_aligned(total, sizeof *slab);
    if (!slab)
        return PD_FAIL(err, PD_NOMEM, "no memory for %zu MiB of weights", total >> 18);
    for (size_t i = 0; i < ps->n; i++) {
        struct pd_param *p = &ps->v[i];
        if (p->data)
            pd_param_rows(p, 0, p->shape[0], slab + at);
        p->data = slab + at;
        p->dtype = PD_DTYPE_F32;
        at += aligned(p->n);
    }
    pd_aligned_free(ps->data);
    ps->data = slab;
    ps->data_n = total;
    return PD_OK;
}

enum pd_rc pd_params_alloc_grads(struct pd_params *ps, struct pd_err *err)
{
    size_t total = 0, at = 0;
    for (size_t i = 0; i < ps->n; i++)
        if (ps->v[i].trainable)
            total += aligned(ps->v[i].n);
    float *slab = pd_try_aligned(total ? total : 1, sizeof *slab);
    if (!slab)
        return PD_FAIL(err, PD_NOMEM, "no memory for %zu MiB of gradients", total >> 18);
    for (size_t i = 0; i < ps->n; i++) {
        struct pd_param *p = &ps->v[i];
        p->grad = p->trainable ? slab + at : NULL;
        if (p->trainable)
            at += aligned(p->n);
    }
    pd_aligned_free(ps->grad);
    ps->grad = slab;
    ps->grad_n = total;
    return PD_OK;
}

void pd_params_zero_grads(struct pd_params *ps)
{
    const int64_t n = (int64_t)ps->grad_n;
#pragma omp parallel for schedule(static) if (n > NORM_BLOCK)
    for (int64_t b = 0; b < n; b += NORM_BLOCK)
        memset(ps->grad + b, 0, (size_t)(n - b < NORM_BLOCK ? n - b : NORM_BLOCK) * sizeof(float));
}

void pd_params_scale_grads(struct pd_params *ps, float scale)
{
    const int64_t n = (int64_t)ps->grad_n;
#pragma omp parallel for simd schedule(static) if (parallel : n > NORM_BLOCK)
    for (int64_t i = 0; i < n; i++)
        ps->grad[i] *= scale;
}

double pd_params_grad_norm(const struct pd_params *ps)
{
    const int64_t n = (int64_t)ps->grad_n, blocks = (n + NORM_BLOCK - 1) / NORM_BLOCK;
    enum { GROUP = 256 }; /* partial sums held at a time */
    double part[GROUP], sum = 0;
    for (int64_t first = 0; first < blocks; first += GROUP) {
        const int64_t m = blocks - first < GROUP ? blocks - first : GROUP;
#pragma omp parallel for schedule(static) if (n > NORM_BLOCK)
        for (int64_t b = 0; b < m; b++) {
            const int64_t from = (first + b) * NORM_BLOCK;
            const int64_t to = n - from < NORM_BLOCK ? n : from + NORM_BLOCK;
            double s[8] = {0};                     /* eight chains, always the same ones */
            for (int64_t i = from; i < to; i += 8) /* grad_n is a multiple of 16 */
                for (int64_t k = 0; k < 8; k++)
                    s[k] += (double)ps->grad[i + k] * (double)ps->grad[i + k];
            part[b] = ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
        }
        for (int64_t b = 0; b < m; b++)
            sum += part[b];
    }
    return sqrt(sum);
}

static enum pd_rc check(const char *what, const struct pd_param *p, const float *v, int64_t step,
                        struct pd_err *err)
{
    for (size_t i = 0; i < p->n; i++)
        if (!isfinite(v[i]))
            return PD_FAIL(err, PD_NONFINITE, "%s of %s is %s at index %zu of %zu (step %lld)",
                           what, p->name, isnan(v[i]) ? "NaN" : "infinite", i, p->n,
                           (long long)step);
    return PD_OK;
}

enum pd_rc pd_params_check_grads(const struct pd_params *ps, int64_t step, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    for (size_t i = 0; i < ps->n && rc == PD_OK; i++)
        if (ps->v[i].grad)
            rc = check("gradient", &ps->v[i], ps->v[i].grad, step, err);
    return rc;
}

enum pd_rc pd_params_check_data(const struct pd_params *ps, int64_t step, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    for (size_t i = 0; i < ps->n && rc == PD_OK; i++)
        if (ps->v[i].data && ps->v[i].dtype == PD_DTYPE_F32)
            rc = check("value", &ps->v[i], ps->v[i].data, step, err);
    return rc;
}
