/* Products over stored weights against a double twin: every dtype, odd sizes, few and many rows,
 * and that a row's bits depend on nothing but the row, where that is promised. */
#include "tensor/wmul.h"
#include "base/mem.h"
#include "twin.h"

#include <math.h>

/* Rows of a dtype with values of a few tenths: written where that is possible, else made of random
 * bytes with sane scales. */
static uint8_t *stored(enum pd_dtype t, int64_t rows, int64_t in)
{
    const struct pd_dtype_info *d = pd_dtype_info(t);
    const size_t bytes = pd_dtype_row_bytes(t, (size_t)in);
    uint8_t *w = malloc((size_t)rows * bytes);
    assert_non_null(w);
    for (int64_t r = 0; r < rows && pd_dtype_can_write(t); r++) {
        float *x = floats(in, 0.3);
        pd_dtype_from_f32(t, x, w + (size_t)r * bytes, (size_t)in);
        free(x);
    }
    if (pd_dtype_can_write(t))
        return w;
    for (size_t i = 0; i < (size_t)rows * bytes; i++)
        w[i] = (uint8_t)(int)(uniform() * 128);
    for (uint8_t *p = w; p < w + (size_t)rows * bytes; p += d->bytes) {
        const float top = t == PD_DTYPE_Q6_K ? 1e-4f : d->block == 256 ? 4e-4f : 2e-2f;
        const uint16_t scale = pd_f32_to_f16_1(top * (float)(1.5 + uniform()));
        const uint16_t min = pd_f32_to_f16_1(top * (float)uniform());
        memcpy(t == PD_DTYPE_Q6_K ? p + 208 : p, &scale, sizeof scale);
        if (t != PD_DTYPE_Q6_K && t != PD_DTYPE_Q5_0)
            memcpy(p + 2, &min, sizeof min);
    }
    return w;
}

enum { OUT_A = 77, OUT_B = 10, OUT = OUT_A + OUT_B, MOST = 200 };

struct fixture {
    struct pd_wmul m, panels; /* the same product, over rows and over panels */
    bool has_panels;
    uint8_t *a, *b;
    float *bias, *x, *y;
    int64_t in, ldx, ldy;
};

/* Fills to with the product over panels, if this CPU gains by them. */
static bool pack(const struct pd_wmul *m, struct pd_wmul *to)
{
    *to = *m;
    to->packed = true;
    for (int i = 0; i < m->n_parts; i++) {
        const size_t bytes = pd_wmul_packed_bytes(m, i);
        if (bytes == 0) {
            assert_int_equal(i, 0); /* all parts or none */
            return false;
        }
        uint8_t *w = pd_try_aligned(bytes, 1);
        assert_non_null(w);
        memset(w, 0xa5, bytes);
        pd_wmul_pack(m, i, w);
        to->part[i].w = w;
    }
    return true;
}
static void unpack(struct pd_wmul *m)
{
    for (int i = 0; i < m->n_parts; i++)
        pd_aligned_free((void *)(uintptr_t)m->part[i].w);
}

/* Rows of x have 8 bits; else 16. */
static bool in_bytes(const struct pd_wmul *m)
{
    const char *isa = pd_backend_isa();
    return m->mode == PD_WMUL_BYTE &&
           (strcmp(isa, "avx2") == 0 || (m->packed && strcmp(isa, "vnni") == 0));
}

/* Few rows over floats are fp32 products in integer mode, in an order of their own; over panels
 * they are like many. */
static bool is_apart(const struct pd_wmul *rows, int64_t T)
{
    return rows->mode != PD_WMUL_F32 && T <= 4 && pd_dtype_info(rows->part[0].dtype)->block == 1;
}

/* y, what the product over rows made of `before`, is what the one over panels makes of it, to the
 * bit; not where there alone x has 8 bits, or few rows are apart. */
static void same_packed(const struct pd_wmul *rows, const struct pd_wmul *panels, int64_t first,
                        int64_t n, int64_t T, const float *x, int64_t ldx, const float *before,
                        const float *y, int64_t ldy, bool add)
{
    const int64_t size = (T - 1) * ldy + n;
    float *again = malloc((size_t)size * sizeof *y);
    struct pd_err err;
    assert_non_null(again);
    memcpy(again, before, (size_t)size * sizeof *y);
    ok(pd_wmul_run(panels, first, n, T, x, ldx, again, ldy, add, &err), &err);
    const bool other = in_bytes(rows) != in_bytes(panels) || is_apart(rows, T);
    for (int64_t i = 0; i < size; i++)
        if (i % ldy < n && other)
            assert_int_equal(!isfinite(again[i]), !isfinite(y[i]));
        else if (!isnan(again[i]) || !isnan(y[i]))
            same_bits("y of panels", again + i, y + i, 1); /* and what lies beside it */
    free(again);
}

static void run(struct fixture *f, int64_t first, int64_t n, int64_t t0, int64_t T, float *y,
                bool add)
{
    struct pd_err err;
    const float *x = f->x + t0 * f->ldx;
    const size_t size = (size_t)((T - 1) * f->ldy + n) * sizeof *y;
    float *before = malloc(size);
    assert_non_null(before);
    memcpy(before, y, size);
    ok(pd_wmul_run(&f->m, first, n, T, x, f->ldx, y, f->ldy, add, &err), &err);
    if (f->panels.n_parts == 0) /* the weights stay what they are now */
        f->has_panels = pack(&f->m, &f->panels);
    if (f->has_panels)
        same_packed(&f->m, &f->panels, first, n, T, x, f->ldx, before, y, f->ldy, add);
    free(before);
}

/* Two parts, the second of another dtype. */
static void fixture_init(struct fixture *f, enum pd_dtype t, enum pd_dtype other, int64_t in,
                         enum pd_wmul_mode mode)
{
    *f = (struct fixture){.in = in, .ldx = in + 3, .ldy = OUT + 5};
    f->a = stored(t, OUT_A, in);
    f->b = stored(other, OUT_B, in);
    f->bias = floats(OUT, 1);
    f->x = floats(MOST * f->ldx, 1);
    f->y = floats(MOST * f->ldy, 1);
    f->m = (struct pd_wmul){.in = in, .n_parts = 2, .bias = f->bias, .mode = mode};
    f->m.part[0] = (struct pd_wmul_part){f->a, t, OUT_A, pd_dtype_row_bytes(t, (size_t)in)};
    f->m.part[1] = (struct pd_wmul_part){f->b, other, OUT_B, pd_dtype_row_bytes(other, (size_t)in)};
}

static void fixture_release(struct fixture *f)
{
    if (f->has_panels)
        unpack(&f->panels);
    free(f->a), free(f->b), free(f->bias), free(f->x), free(f->y);
}

/* Row o of the weights as fp32; its dtype. */
static enum pd_dtype weight_row(const struct pd_wmul *m, int64_t o, float *w)
{
    const struct pd_wmul_part *p = m->part;
    while (o >= p->rows)
        o -= p++->rows;
    pd_dtype_to_f32(p->dtype, p->w + (size_t)o * p->row_bytes, w, (size_t)m->in);
    return p->dtype;
}

/* y[t][o] against start + x w in double; w: row o of the weights, of dtype d. */
static void near_twin(const struct pd_wmul *m, enum pd_dtype d, const float *w, const float *x,
                      int64_t t, int64_t o, double start, double got, double tol)
{
    double s = start, size = 1e-3;
    for (int64_t k = 0; k < m->in; k++) {
        s += (double)w[k] * (double)x[k];
        size += fabs((double)w[k]) + 0.5 * fabs((double)x[k]); /* the other side's largest */
    }
    if (!(fabs(got - s) <= tol * size))
        fail_msg("%s, in %lld (%s, %d threads): y[%lld][%lld] is %.9g, want %.9g",
                 pd_dtype_info(d)->name, (long long)m->in, pd_backend_isa(), pd_backend_threads(),
                 (long long)t, (long long)o, got, s);
}

static void check_twin(struct fixture *f, double tol)
{
    float *w = zeros(f->in);
    for (int64_t o = 0; o < OUT; o++) {
        const enum pd_dtype d = weight_row(&f->m, o, w);
        for (int64_t t = 0; t < MOST; t += t < 6 ? 1 : 11)
            near_twin(&f->m, d, w, f->x + t * f->ldx, t, o, (double)f->bias[o],
                      (double)f->y[t * f->ldy + o], tol);
    }
    free(w);
}

/* Few rows over F32, F16 and BF16 are fp32 products in integer mode too, in an order of their own.
 */
static bool is_fp32_alone(const struct fixture *f, int64_t out, int64_t T)
{
    const enum pd_dtype t = f->m.part[out >= OUT_A].dtype;
    return f->m.mode == PD_WMUL_INT && T <= 4 && pd_dtype_info(t)->block == 1 &&
           strcmp(pd_backend_isa(), "ref") != 0;
}

static void check_row(const struct fixture *f, int64_t first, int64_t n, int64_t T, const float *y,
                      const float *among, const float *fp32)
{
    for (int64_t o = 0; o < n; o++)
        if (is_fp32_alone(f, first + o, T))
            near1("y alone", first + o, (double)y[o], (double)fp32[o], 2e-5);
        else
            same_bits("y alone", y + o, among + o, 1);
}

/* What is added to outputs that are there. */
static float there(int64_t i)
{
    return (float)(i % 7 - 3);
}

/* Fewer rows, fewer outputs, adding: the same bits. */
static void check_alone(struct fixture *f)
{
    static const int64_t Ts[] = {1, 2, 3, 4, 5, 6, 7, 13, 65};
    float *y = zeros(MOST * f->ldy), *sum = zeros(MOST * f->ldy), *fp32 = zeros(MOST * f->ldy);
    struct fixture exact = *f;
    exact.m.mode = PD_WMUL_F32;
    exact.panels.n_parts = 0, exact.has_panels = false;
    run(&exact, 0, OUT, 0, MOST, fp32, false);
    if (exact.has_panels)
        unpack(&exact.panels);
    for (size_t i = 0; i < sizeof Ts / sizeof Ts[0]; i++) {
        const int64_t t0 = 3 * (int64_t)i, first = 2 * (int64_t)i, n = OUT - first - (int64_t)i;
        run(f, first, n, t0, Ts[i], y, false);
        for (int64_t k = 0; k < Ts[i] * f->ldy; k++)
            sum[k] = there(k);
        run(f, first, n, t0, Ts[i], sum, true);
        for (int64_t t = 0; t < Ts[i]; t++) {
            const int64_t at = (t0 + t) * f->ldy + first;
            check_row(f, first, n, Ts[i], y + t * f->ldy, f->y + at, fp32 + at);
            for (int64_t o = 0; o < n; o++)
                y[t * f->ldy + o] += there(t * f->ldy + o);
            same_bits("y added", sum + t * f->ldy, y + t * f->ldy, n);
        }
    }
    free(y), free(sum), free(fp32);
}

/* Row t of x as the bytes that PD_WMUL_BYTE multiplies, times their scales; rounded in fp32 as
 * there, since a value in the middle could go either way. */
static void as_bytes(const struct fixture *f, int64_t t, double *to)
{
    const float *x = f->x + t * f->ldx;
    for (int64_t b = 0; b < f->in; b += 32) {
        float m = 0;
        for (int64_t k = b; k < b + 32; k++)
            m = fabsf(x[k]) > m ? fabsf(x[k]) : m;
        const double least = (double)(m * (1.0f / 127.0f)), quarters = ceil(4 * log2(least));
        const float scale = (float)exp2(quarters / 4), up = (float)exp2(-quarters / 4);
        assert_true((double)scale >= least * (1 - 1e-7) && (double)scale < least * 1.19);
        for (int64_t k = b; k < b + 32; k++)
            to[k] = (double)scale * (double)rintf(x[k] * up);
    }
}

/* Rounding x is all that differs from exact products, and is at most a 213th of a block's largest.
 */
static void check_bytes(struct fixture *f)
{
    float *w = zeros(f->in);
    double *x = doubles(f->x, f->in);
    for (int64_t t = 0; t < MOST; t += t < 6 ? 1 : 11) {
        as_bytes(f, t, x);
        for (int64_t o = 0; o < OUT; o++) {
            double s = (double)f->bias[o], size = 1e-3;
            (void)weight_row(&f->m, o, w);
            for (int64_t k = 0; k < f->in; k++) {
                s += (double)w[k] * x[k];
                size += fabs((double)w[k]);
            }
            near1("y of bytes", o, ((double)f->y[t * f->ldy + o] - s) / size, 0, 2e-6);
        }
    }
    free(w), free(x);
}

/* Panels against the twin, and a row's bits alone, among others and added. f->y is lost. */
static void check_panels(struct fixture *f, double tol)
{
    static const int64_t Ts[] = {1, 2, 3, 4, 5, 13, 65};
    struct pd_err err;
    if (!f->has_panels)
        return;
    float *y = zeros(MOST * f->ldy), *sum = zeros(MOST * f->ldy);
    ok(pd_wmul_run(&f->panels, 0, OUT, MOST, f->x, f->ldx, f->y, f->ldy, false, &err), &err);
    if (in_bytes(&f->panels))
        check_bytes(f);
    else
        check_twin(f, tol);
    for (size_t i = 0; i < sizeof Ts / sizeof Ts[0]; i++) {
        const int64_t t0 = 3 * (int64_t)i, first = 9 * (int64_t)i, n = OUT - first - (int64_t)i;
        ok(pd_wmul_run(&f->panels, first, n, Ts[i], f->x + t0 * f->ldx, f->ldx, y, f->ldy, false,
                       &err),
           &err);
        for (int64_t t = 0; t < Ts[i]; t++)
            same_bits("y alone", y + t * f->ldy, f->y + (t0 + t) * f->ldy + first, n);
        for (int64_t k = 0; k < Ts[i] * f->ldy; k++)
            sum[k] = there(k);
        ok(pd_wmul_run(&f->panels, first, n, Ts[i], f->x + t0 * f->ldx, f->ldx, sum, f->ldy, true,
                       &err),
           &err);
        for (int64_t k = 0; k < Ts[i] * f->ldy; k++) {
            const float by = k % f->ldy < n ? y[k] : 0;
            assert_true(sum[k] == by + there(k));
        }
    }
    free(y), free(sum);
}

/* One that panels can have beside t, where they can have t. */
static enum pd_dtype last_other(enum pd_dtype t)
{
    if (pd_dtype_info(t)->block == 1)
        return PD_DTYPE_F16;
    return t == PD_DTYPE_Q8_0 || t == PD_DTYPE_Q4_0 ? PD_DTYPE_Q8_0
           : t == PD_DTYPE_Q4_1                     ? PD_DTYPE_Q4_0
                                                    : PD_DTYPE_Q6_K;
}

static void all_dtypes(enum pd_wmul_mode mode, double tol)
{
    for (enum pd_dtype t = 0; t < PD_DTYPE_COUNT; t++) {
        const int64_t block = pd_dtype_info(t)->block;
        const int64_t ins[] = {block == 1 ? 5 : block, block == 1 ? 600 : 3 * block, 1280};
        for (int i = 0; i < 3; i++) {
            struct fixture f;
            const enum pd_dtype other = i == 0   ? PD_DTYPE_F32
                                        : i == 1 ? (block == 1 ? PD_DTYPE_BF16 : PD_DTYPE_Q8_0)
                                                 : last_other(t);
            fixture_init(&f, t, other, ins[i], mode);
            const double edge = (double)f.y[OUT];
            run(&f, 0, OUT, 0, MOST, f.y, false);
            assert_true((double)f.y[OUT] == edge); /* nothing beside the columns was touched */
            check_twin(&f, tol);
            check_alone(&f);
            check_panels(&f, tol);
            fixture_release(&f);
        }
    }
}

static void int_body(void)
{
    all_dtypes(PD_WMUL_INT, 7e-5);
}
static void test_int(void **state)
{
    (void)state;
    everywhere(int_body);
}
static void f32_body(void)
{
    all_dtypes(PD_WMUL_F32, 1e-6);
}
static void test_f32(void **state)
{
    (void)state;
    everywhere(f32_body);
}

static void byte_body(void)
{
    static const enum pd_dtype types[] = {PD_DTYPE_Q4_0, PD_DTYPE_Q4_1};
    static const int64_t ins[] = {32, 96, 608, 1280};
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 4; k++) {
            struct fixture f;
            fixture_init(&f, types[k % 2], types[k / 2], ins[i], PD_WMUL_BYTE);
            const double edge = (double)f.y[OUT];
            run(&f, 0, OUT, 0, MOST, f.y, false);
            assert_true((double)f.y[OUT] == edge);
            check_twin(&f, in_bytes(&f.m) ? 1.01 / 213 : 7e-5);
            if (in_bytes(&f.m))
                check_bytes(&f);
            check_alone(&f);
            check_panels(&f, 7e-5);
            fixture_release(&f);
        }
}
static void test_byte(void **state)
{
    (void)state;
    everywhere(byte_body);
}

/* 1 to n */
static int64_t upto(int64_t n)
{
    return 1 + (int64_t)((uniform() + 1) / 2 * (double)n);
}
static enum pd_dtype any_dtype(enum pd_wmul_mode mode, int64_t unit)
{
    for (;;) {
        const enum pd_dtype t = (enum pd_dtype)(upto(PD_DTYPE_COUNT) - 1);
        const bool four = t == PD_DTYPE_Q4_0 || t == PD_DTYPE_Q4_1;
        if (unit % pd_dtype_info(t)->block == 0 && (four || mode != PD_WMUL_BYTE))
            return t;
    }
}

/* What a product gives with other numbers of threads, and row by row, is the same to the bit. */
static void check_splits(const struct pd_wmul *m, int64_t first, int64_t n, int64_t T,
                         const float *x, int64_t ldx, const float *y, const float *before,
                         int64_t ldy, bool add)
{
    struct pd_err err;
    const int threads = pd_backend_threads();
    const size_t size = (size_t)((T - 1) * ldy + n) * sizeof *y;
    float *again = malloc(size), *w = zeros(m->in);
    assert_non_null(again);
    for (int i = 1; i <= 4; i++) {
        memcpy(again, before, size);
        ok(pd_backend_init(i, &err), &err);
        ok(pd_wmul_run(m, first, n, T, x, ldx, again, ldy, add, &err), &err);
        assert_memory_equal(again, y, size);
    }
    ok(pd_backend_init(threads, &err), &err);
    const int64_t step = T > 8 ? 29 : 1;
    for (int64_t t = 0; t < T; t += step) {
        float *row = again + t * ldy;
        memcpy(row, before + t * ldy, (size_t)n * sizeof *y);
        ok(pd_wmul_run(m, first, n, 1, x + t * ldx, ldx, row, ldy, add, &err), &err);
        for (int64_t o = 0; o < n; o++) {
            const enum pd_dtype d = weight_row(m, first + o, w);
            const bool other = m->mode == PD_WMUL_INT && pd_dtype_info(d)->block == 1 && T > 4;
            if (!other || strcmp(pd_backend_isa(), "ref") == 0) /* else wmul.h's one case */
                same_bits("y alone", row + o, y + t * ldy + o, 1);
        }
    }
    free(again), free(w);
}

/* y against the twin, a third of the outputs and, of many rows, some. */
static void near_twins(const struct pd_wmul *m, int64_t first, int64_t n, int64_t T, const float *x,
                       int64_t ldx, const float *before, const float *y, int64_t ldy, bool add,
                       double tol)
{
    const int64_t step = T > 8 ? 17 : 1;
    float *w = zeros(m->in);
    for (int64_t o = 0; o < n; o += 3) {
        const enum pd_dtype d = weight_row(m, first + o, w);
        for (int64_t t = 0; t < T; t += step)
            near_twin(m, d, w, x + t * ldx, t, o,
                      (m->bias ? (double)m->bias[first + o] : 0.0) +
                          (add ? (double)before[t * ldy + o] : 0.0),
                      (double)y[t * ldy + o], tol);
    }
    free(w);
}

/* A product of any shape: up to four parts, outputs and rows cut anywhere, buffers that end where
 * the last value does. */
static void any_shape(enum pd_wmul_mode mode, double tol)
{
    static const int64_t units[] = {1, 8, 32, 256};
    const int64_t unit = mode == PD_WMUL_BYTE ? 32 : units[upto(4) - 1];
    struct pd_err err;
    struct pd_wmul m = {.in = unit * upto(1300 / unit), .n_parts = (int)upto(4), .mode = mode};
    int64_t out = 0;
    for (int i = 0; i < m.n_parts; i++) {
        const enum pd_dtype t = any_dtype(mode, unit);
        const int64_t rows = upto(40);
        m.part[i] = (struct pd_wmul_part){stored(t, rows, m.in), t, rows,
                                          pd_dtype_row_bytes(t, (size_t)m.in)};
        out += rows;
    }
    const int64_t first = upto(out) - 1, n = upto(out - first), T = upto(upto(2) == 1 ? 8 : 200);
    const int64_t ldx = m.in + upto(5) - 1, ldy = n + upto(5) - 1, ny = (T - 1) * ldy + n;
    const bool add = upto(2) == 1;
    float *x = floats((T - 1) * ldx + m.in, 1), *before = floats(ny, 1), *y = zeros(ny);
    float *bias = floats(out, 1);
    m.bias = upto(2) == 1 ? bias : NULL;
    memcpy(y, before, (size_t)ny * sizeof *y);
    ok(pd_wmul_run(&m, first, n, T, x, ldx, y, ldy, add, &err), &err);
    near_twins(&m, first, n, T, x, ldx, before, y, ldy, add, tol);
    check_splits(&m, first, n, T, x, ldx, y, before, ldy, add);
    struct pd_wmul panels;
    if (pack(&m, &panels)) {
        same_packed(&m, &panels, first, n, T, x, ldx, before, y, ldy, add);
        memcpy(y, before, (size_t)ny * sizeof *y);
        ok(pd_wmul_run(&panels, first, n, T, x, ldx, y, ldy, add, &err), &err);
        near_twins(&m, first, n, T, x, ldx, before, y, ldy, add,
                   in_bytes(&panels) ? 1.01 / 213 : tol);
        unpack(&panels);
    }
    for (int i = 0; i < m.n_parts; i++)
        free((void *)(uintptr_t)m.part[i].w);
    free(x), free(before), free(y), free(bias);
}

static void shapes_body(void)
{
    const bool bytes = strcmp(pd_backend_isa(), "avx2") == 0;
    for (int i = 0; i < 12; i++) {
        any_shape(PD_WMUL_INT, 7e-5);
        any_shape(PD_WMUL_BYTE, bytes ? 1.01 / 213 : 7e-5);
        any_shape(PD_WMUL_F32, 1e-6);
    }
}
static void test_shapes(void **state)
{
    (void)state;
    everywhere(shapes_body);
}

/* The largest sums that a block can have stay within 32 bits, and of bytes within 16. */
static void bounds_body(void)
{
    static const enum pd_dtype types[] = {PD_DTYPE_F32, PD_DTYPE_BF16, PD_DTYPE_Q8_0, PD_DTYPE_Q6_K,
                                          PD_DTYPE_Q4_1};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        struct fixture f;
        const bool bytes = types[i] == PD_DTYPE_Q4_1;
        fixture_init(&f, types[i], types[i], 256, bytes ? PD_WMUL_BYTE : PD_WMUL_INT);
        const struct pd_dtype_info *d = pd_dtype_info(types[i]);
        for (size_t k = 0; k < OUT_A * f.m.part[0].row_bytes; k += (size_t)d->bytes) {
            uint8_t *p = f.a + k;
            const uint16_t one = 0x3c00;
            const float edge = 0.99999994f; /* rounds up to the power of two */
            if (types[i] == PD_DTYPE_F32)
                memcpy(p, &edge, sizeof edge);
            else if (types[i] == PD_DTYPE_BF16)
                memcpy(p, &(uint16_t){0x3f7f}, 2);
            else if (types[i] == PD_DTYPE_Q8_0) {
                memset(p, 0x80, 34);
                memcpy(p, &one, 2);
            } else if (bytes) {
                memset(p, 0xff, 20); /* every q is 15 */
                memcpy(p, &one, 2);
                memset(p + 2, 0, 2);
            } else {
                memset(p, 0, 192);         /* every q is -32 */
                memset(p + 192, 0x80, 16); /* every scale -128 */
                memcpy(p + 208, &one, 2);
            }
        }
        const float most = bytes ? 127.0f / 128.0f : 1.0f; /* with a scale of 2^-7: 127 */
        for (int64_t k = 0; k < MOST * f.ldx; k++)
            f.x[k] = (bytes && k / f.ldx % 2 ? -most : most) * (k % 3 ? 1.0f : 0.9999f);
        run(&f, 0, OUT, 0, MOST, f.y, false);
        check_twin(&f, bytes ? 2e-4 : 7e-5); /* the 0.9999 become 1 */
        fixture_release(&f);
    }
}
static void test_bounds(void **state)
{
    (void)state;
    everywhere(bounds_body);
}

/* So many rows that panels of bytes have a table, and one that is multiplied by it. */
enum { ROWS = 25, ROW = 13, ALONE = ROWS };

/* Over panels each of ROWS rows, whatever its values, is alone what it is among the others. */
static void check_rows_of_panels(const struct fixture *f)
{
    struct pd_err err;
    if (!f->has_panels)
        return;
    float *all = zeros(ROWS * OUT), *alone = zeros(OUT);
    ok(pd_wmul_run(&f->panels, 0, OUT, ROWS, f->x, f->ldx, all, OUT, false, &err), &err);
    for (int64_t t = 0; t < ROWS; t++) {
        ok(pd_wmul_run(&f->panels, 0, OUT, 1, f->x + t * f->ldx, f->ldx, alone, OUT, false, &err),
           &err);
        for (int64_t o = 0; o < OUT; o++)
            if (!isnan(alone[o]) || !isnan(all[t * OUT + o]))
                same_bits("y of a row alone", alone + o, all + t * OUT + o, 1);
    }
    free(all), free(alone);
}

/* A table larger than what other products need of room; scales that are nothing or not finite. */
static void wide_body(void)
{
    static const uint16_t scales[] = {0, 0x8000, 1, 0x8001, 0x7bff, 0x7c00, 0xfc00, 0x7e00};
    static const float large[] = {0, 1e-30f, 1e-25f, 2e-25f, 1e-20f, 1.0f, 1e30f};
    struct fixture f;
    fixture_init(&f, PD_DTYPE_Q4_1, PD_DTYPE_Q4_0, 6432, PD_WMUL_BYTE);
    for (int64_t t = 0; t < ROWS; t++)
        for (int64_t k = 0; k < f.in; k++)
            f.x[t * f.ldx + k] *= large[(t + k / 32) % 7];
    for (int i = 0; i < 8; i++)
        memcpy(f.b + (size_t)i * f.m.part[1].row_bytes + 18, &scales[i], sizeof scales[i]);
    run(&f, 0, OUT, 0, ROWS, f.y, false);
    check_rows_of_panels(&f);
    fixture_release(&f);
}
static void test_wide(void **state)
{
    (void)state;
    everywhere(wide_body);
}

static void nonfinite_body(void)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++)
        for (int mode = PD_WMUL_INT; mode <= PD_WMUL_F32; mode++)
            for (enum pd_dtype t = PD_DTYPE_F32; t <= PD_DTYPE_Q4_1; t++) {
                struct fixture f;
                fixture_init(&f, t, t, 96, (enum pd_wmul_mode)mode);
                const int64_t out = 7;
                f.x[ROW * f.ldx + 40] = bad[i];
                if (t == PD_DTYPE_F32)
                    memcpy(f.a + (size_t)out * f.m.part[0].row_bytes + 4 * 70, &bad[i], 4);
                else
                    memcpy(f.a + (size_t)out * f.m.part[0].row_bytes,
                           t == PD_DTYPE_BF16 ? &(uint16_t){0x7fc0} : &(uint16_t){0x7e00}, 2);
                run(&f, 0, OUT, 0, ROWS, f.y, false);
                run(&f, 0, OUT, ROW, 1, f.y + ALONE * f.ldy, false);
                for (int64_t r = 0; r < ROWS; r++)
                    for (int64_t o = 0; o < OUT; o++)
                        assert_int_equal(!isfinite(f.y[r * f.ldy + o]), r == ROW || o == out);
                for (int64_t o = 0; o < OUT; o++)
                    assert_false(isfinite(f.y[ALONE * f.ldy + o]));
                check_rows_of_panels(&f);
                fixture_release(&f);
            }
}
static void test_nonfinite(void **state)
{
    (void)state;
    everywhere(nonfinite_body);
}

/* At every place of a block, and whatever its sign and its other bits. */
static void places_body(void)
{
    static const uint32_t bad[] = {0x7fc00000, 0xffc00000, 0x7f800001,
                                   0xffffffff, 0x7f800000, 0xff800000};
    static const enum pd_dtype types[] = {PD_DTYPE_Q4_0, PD_DTYPE_Q8_0, PD_DTYPE_F32};
    for (int mode = PD_WMUL_INT; mode <= PD_WMUL_F32; mode++)
        for (int i = 0; i < 3; i++) {
            struct fixture f;
            fixture_init(&f, types[i], types[i], 64, (enum pd_wmul_mode)mode);
            for (int64_t k = 0; k < 64; k++) {
                float *at = f.x + ROW * f.ldx + k;
                const float good = *at;
                memcpy(at, &bad[k % 6], sizeof *at);
                run(&f, 0, OUT, 0, ROWS, f.y, false);
                run(&f, 0, OUT, ROW, 1, f.y + ALONE * f.ldy, false);
                for (int64_t r = 0; r <= ALONE; r++)
                    for (int64_t o = 0; o < OUT; o++)
                        assert_int_equal(!isfinite(f.y[r * f.ldy + o]), r == ROW || r == ALONE);
                check_rows_of_panels(&f);
                *at = good;
            }
            fixture_release(&f);
        }
}
static void test_places(void **state)
{
    (void)state;
    everywhere(places_body);
}

/* Largest values around those at which a row's scale becomes the next one, or nothing. */
static void edges_of_scales(struct fixture *f)
{
    static const float edges[] = {127.0f, 151.02921f, 179.60512f, 213.5879f, 1e-25f};
    for (int64_t t = 0; t < MOST; t++)
        for (int64_t b = 0; b < f->in / 32; b++) {
            const int64_t edge = t % 8 == 4 ? 4 : b % 5; /* small ones among themselves */
            float *x = f->x + t * f->ldx + 32 * b, m = edges[edge];
            for (int64_t i = 0; i < 2 * (t % 12); i++)
                m = nextafterf(m, t % 24 < 12 ? 0 : INFINITY);
            if (edge < 4)
                m = ldexpf(m, (int)t / 4 - 25);
            for (int64_t k = 0; k < 32; k++)
                x[k] = k == t % 32 ? (b % 2 ? -m : m) : m * (float)uniform();
        }
}

/* One way to write bytes or another, the same bits. */
static void test_edges(void **state)
{
    static const enum pd_dtype types[] = {PD_DTYPE_Q4_0, PD_DTYPE_Q4_1};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct fixture f;
        struct pd_err err;
        float *y[2] = {zeros(MOST * OUT), zeros(MOST * OUT)};
        int ran = 0;
        fixture_init(&f, types[i], types[i], 192, PD_WMUL_BYTE);
        edges_of_scales(&f);
        f.m.bias = NULL; /* beside which small rows are nothing */
        for (int vnni = 0; vnni < 2; vnni++) {
            struct pd_wmul panels = {0};
            setenv("PD_ISA", vnni ? "vnni" : "avx2", 1);
            if (pd_backend_init(2, &err) != PD_OK)
                continue;
            ran++;
            assert_true(pack(&f.m, &panels));
            ok(pd_wmul_run(&panels, 0, OUT, MOST, f.x, f.ldx, y[vnni], OUT, false, &err), &err);
            unpack(&panels);
        }
        if (ran == 2)
            same_bits("y", y[0], y[1], MOST * OUT);
        unsetenv("PD_ISA");
        free(y[0]), free(y[1]);
        fixture_release(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_int),    cmocka_unit_test(test_f32),
        cmocka_unit_test(test_byte),   cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_bounds), cmocka_unit_test(test_nonfinite),
        cmocka_unit_test(test_places), cmocka_unit_test(test_wide),
        cmocka_unit_test(test_edges)};
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    pd_backend_release();
    return failed;
}
