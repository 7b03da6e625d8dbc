#include "base/mem.h"
#include "tensor/linear_int.h"
#include "twin.h"

/* A linear of up to three parts and its naive double twin. */
struct fixture {
    struct pd_params ps;
    struct pd_linear l;
    struct pd_linear_part part[3];
    int64_t in, rows[3];
    int n;
};

static void fixture_init(struct fixture *f, int64_t in, int n, const int64_t *rows, bool in_out,
                         bool bias, enum pd_compute c)
{
    struct pd_err err;
    struct pd_param *p;
    char name[8];
    memset(f, 0, sizeof *f);
    pd_params_init(&f->ps);
    f->in = in;
    f->n = n;
    for (int i = 0; i < n; i++) {
        f->rows[i] = rows[i];
        snprintf(name, sizeof name, "w%d", i);
        const int64_t shape[2] = {in_out ? in : rows[i], in_out ? rows[i] : in};
        ok(pd_params_add(&f->ps, name, 2, shape, true, 0, &p, &err), &err);
        name[0] = 'b';
        ok(pd_params_add(&f->ps, name, 1, &rows[i], false, 0, &p, &err), &err);
    }
    ok(pd_params_alloc_data(&f->ps, &err), &err);
    ok(pd_params_alloc_grads(&f->ps, &err), &err);
    for (size_t i = 0; i < f->ps.n; i++)
        for (size_t k = 0; k < f->ps.v[i].n; k++) {
            ((float *)f->ps.v[i].data)[k] = (float)uniform();
            f->ps.v[i].grad[k] = (float)uniform();
        }
    for (int i = 0; i < n; i++)
        f->part[i] =
            (struct pd_linear_part){&f->ps.v[2 * i], bias ? &f->ps.v[2 * i + 1] : NULL, in_out};
    ok(pd_linear_init(&f->l, f->part, n, c, true, NULL, &err), &err);
}

static void fixture_release(struct fixture *f)
{
    pd_linear_release(&f->l);
    pd_params_release(&f->ps);
}

static size_t at(const struct fixture *f, int part, int64_t row, int64_t col)
{
    return (size_t)(f->part[part].in_out ? col * f->rows[part] + row : row * f->in + col);
}

/* Everything of one linear at T rows against the twin; x, y, dy, dx stand in wider matrices. */
static void check_linear(struct fixture *f, int64_t T, double tol)
{
    struct pd_err err;
    const int64_t in = f->in, out = f->l.out, ldx = in + 3, ldy = out + 5;
    float *x = floats(T * ldx, 1), *dy = floats(T * ldy, 1);
    float *y = floats(T * ldy, 1), *dx = floats(T * ldx, 1);
    double *y0 = doubles(y, T * ldy), *dx0 = doubles(dx, T * ldx);
    double *want_y = doubles(y, T * ldy), *want_dx = doubles(dx, T * ldx);
    for (int add = 0; add < 2; add++) {
        int64_t col = 0;
        for (int64_t t = 0; t < T; t++)
            for (int64_t c = 0; c < in; c++)
                want_dx[t * ldx + c] = add ? (double)dx[t * ldx + c] : 0.0;
        for (int p = 0; p < f->n; col += f->rows[p++])
            for (int64_t t = 0; t < T; t++)
                for (int64_t r = 0; r < f->rows[p]; r++) {
                    const float *w = f->part[p].weight->data;
                    const double d = (double)dy[t * ldy + col + r];
                    double s = f->part[p].bias ? (double)((float *)f->part[p].bias->data)[r] : 0;
                    for (int64_t c = 0; c < in; c++) {
                        const double wc = (double)w[at(f, p, r, c)];
                        s += (double)x[t * ldx + c] * wc;
                        want_dx[t * ldx + c] += d * wc;
                    }
                    want_y[t * ldy + col + r] = s + (add ? (double)y[t * ldy + col + r] : 0.0);
                }
        const enum pd_write mode = add ? PD_WRITE_ADD : PD_WRITE_SET;
        ok(pd_linear_forward(&f->l, T, x, ldx, y, ldy, mode, &err), &err);
        ok(pd_linear_backward_input(&f->l, T, dy, ldy, dx, ldx, mode, &err), &err);
        near_all("y", y, want_y, T * ldy, tol * sqrt((double)in));
        near_all("dx", dx, want_dx, T * ldx, tol * sqrt((double)out));
    }
    for (int64_t t = 0; t < T; t++) { /* nothing beside the columns was touched */
        assert_true((double)y[t * ldy + out] == y0[t * ldy + out]);
        assert_true((double)dx[t * ldx + in] == dx0[t * ldx + in]);
    }
    int64_t col = 0;
    double *g0[3], *gb0[3];
    for (int p = 0; p < f->n; p++) {
        g0[p] = doubles(f->part[p].weight->grad, (int64_t)f->part[p].weight->n);
        gb0[p] = f->part[p].bias ? doubles(f->part[p].bias->grad, f->rows[p]) : NULL;
    }
    ok(pd_linear_backward_weight(&f->l, T, dy, ldy, x, ldx, &err), &err);
    for (int p = 0; p < f->n; col += f->rows[p++]) {
        for (int64_t r = 0; r < f->rows[p]; r++) {
            double sb = 0;
            for (int64_t t = 0; t < T; t++)
                sb += (double)dy[t * ldy + col + r];
            for (int64_t c = 0; c < in; c++) {
                double s = g0[p][at(f, p, r, c)];
                for (int64_t t = 0; t < T; t++)
                    s += (double)dy[t * ldy + col + r] * (double)x[t * ldx + c];
                near1("dW", r * in + c, (double)f->part[p].weight->grad[at(f, p, r, c)], s,
                      tol * sqrt((double)T + 1));
            }
            if (gb0[p])
                near1("db", r, (double)f->part[p].bias->grad[r], gb0[p][r] + sb,
                      1e-6 * sqrt((double)T + 1));
        }
        free(g0[p]);
        free(gb0[p]);
    }
    free(x), free(dy), free(y), free(dx), free(y0), free(dx0), free(want_y), free(want_dx);
}

static void shapes(enum pd_compute c, double tol)
{
    static const struct {
        int64_t in;
        int n;
        int64_t rows[3];
        bool in_out, bias;
    } cases[] = {
        {64, 1, {48}, false, false},      {64, 3, {64, 32, 32}, false, false},
        {33, 2, {17, 17}, false, true},   {40, 3, {40, 40, 40}, true, true},
        {576, 2, {70, 21}, false, false}, {8, 1, {1}, false, true},
        {300, 1, {197}, true, false},     {5, 2, {1900, 101}, false, true},
    };
    static const int64_t Ts[] = {1, 7, 65, 130};
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        struct fixture f;
        fixture_init(&f, cases[k].in, cases[k].n, cases[k].rows, cases[k].in_out, cases[k].bias, c);
        for (size_t t = 0; t < sizeof Ts / sizeof Ts[0]; t++)
            check_linear(&f, Ts[t], tol);
        fixture_release(&f);
    }
}

static void fp32_body(void)
{
    shapes(PD_COMPUTE_F32, 1e-6);
}
static void test_fp32(void **state)
{
    everywhere(fp32_body);
}

/* bf16 operands: what this CPU has, then emulated, then every line of the bf16 path in fp32 (the
 * type is the only difference, and CPUs without AVX-512 have no bf16 products). */
static void test_bf16(void **state)
{
    struct pd_err err;
    ok(pd_backend_init(2, &err), &err);
    shapes(PD_COMPUTE_BF16, 1e-2); /* operands have 8 bits */
    assert_int_equal(pd_matmul_references(), 0);
    pd_matmul_force(PD_MATMUL_NONE, true);
    shapes(PD_COMPUTE_BF16, 1e-2);
    pd_matmul_force(PD_MATMUL_F32, true);
    shapes(PD_COMPUTE_BF16, 1e-6);
    assert_int_equal(pd_matmul_references(), 0);
    pd_matmul_force(PD_MATMUL_NONE, false);
}

/* Emulated bf16 is the product of rounded operands, no more and no less. */
static void test_bf16_rounds_operands(void **state)
{
    struct fixture f;
    struct pd_err err;
    float x[2] = {1.0f + 0x1p-9f, 3}, y;
    pd_matmul_force(PD_MATMUL_NONE, true);
    fixture_init(&f, 2, 1, (int64_t[]){1}, false, false, PD_COMPUTE_BF16);
    float *w = f.ps.v[0].data;
    w[0] = 5, w[1] = 1.0f + 3 * 0x1p-8f;
    ok(pd_linear_repack(&f.l, &err), &err);
    ok(pd_linear_forward(&f.l, 1, x, 2, &y, 1, PD_WRITE_SET, &err), &err);
    assert_true(y == 5 + 3 * (1 + 0x1p-6f));
    fixture_release(&f);
    pd_matmul_force(PD_MATMUL_NONE, false);
}

static void test_empty(void **state)
{
    struct fixture f;
    struct pd_err err;
    fixture_init(&f, 8, 1, (int64_t[]){4}, false, true, PD_COMPUTE_F32);
    ok(pd_linear_forward(&f.l, 0, NULL, 8, NULL, 4, PD_WRITE_SET, &err), &err);
    ok(pd_linear_backward_weight(&f.l, 0, NULL, 4, NULL, 8, &err), &err);
    fixture_release(&f);
}

/* Weights change, and a quantised source is unpacked. */
static void test_repack_and_dtypes(void **state)
{
    struct fixture f;
    struct pd_err err;
    float x[32], y[3], w[96], one[1];
    for (enum pd_compute c = PD_COMPUTE_F32; c <= PD_COMPUTE_BF16; c++) {
        fixture_init(&f, 32, 1, (int64_t[]){3}, false, false, c);
        for (int i = 0; i < 32; i++)
            x[i] = 1;
        for (int i = 0; i < 96; i++)
            ((float *)f.ps.v[0].data)[i] = (float)(i / 32 + 1);
        ok(pd_linear_repack(&f.l, &err), &err);
        ok(pd_linear_forward(&f.l, 1, x, 32, y, 3, PD_WRITE_SET, &err), &err);
        assert_true(y[0] == 32 && y[1] == 64 && y[2] == 96);
        fixture_release(&f);

        uint8_t q[3 * 20]; /* Q4_1 rows: d = 0.5, m = 2 */
        for (int r = 0; r < 3; r++) {
            const uint8_t head[4] = {0x00, 0x38, 0x00, 0x40};
            memcpy(q + r * 20, head, 4);
            for (int j = 0; j < 16; j++)
                q[r * 20 + 4 + j] = (uint8_t)(r + (r + 1) * 16);
        }
        struct pd_param p = {.name = (char[]){"q"},
                             .ndim = 2,
                             .shape = {3, 32, 1, 1},
                             .n = 96,
                             .dtype = PD_DTYPE_Q4_1,
                             .data = q};
        struct pd_linear l = {0};
        ok(pd_linear_init(&l, &(struct pd_linear_part){&p, NULL, false}, 1, c, false, NULL, &err),
           &err);
        pd_param_rows(&p, 0, 3, w);
        ok(pd_linear_forward(&l, 1, x, 32, y, 3, PD_WRITE_SET, &err), &err);
        for (int r = 0; r < 3; r++) {
            one[0] = 0;
            for (int i = 0; i < 32; i++)
                one[0] += w[r * 32 + i];
            assert_true(one[0] == y[r]);
            assert_true(one[0] == 16 * (0.5f * (float)r + 2) + 16 * (0.5f * (float)(r + 1) + 2));
        }
        pd_linear_release(&l);
    }
}

/* Weights quantised when they are placed, either way they lie, and again: what quantised ones give.
 */
static void test_quantises(void **state)
{
    static const struct {
        enum pd_compute compute;
        enum pd_dtype dtype;
    } to[] = {{PD_COMPUTE_Q8_0, PD_DTYPE_Q8_0}, {PD_COMPUTE_Q4_0, PD_DTYPE_Q4_0}};
    enum { OUT = 20, IN = 96, T = 7 };
    struct pd_err err;
    float *w = floats(OUT * IN, 1), *x = floats(T * IN, 1), turned[IN * OUT];
    float want[T * OUT], got[T * OUT];
    uint8_t q[OUT * IN * 2];
    for (int o = 0; o < OUT; o++)
        for (int k = 0; k < IN; k++)
            turned[k * OUT + o] = w[o * IN + k];
    struct pd_param p = {.name = (char[]){"p"}, .ndim = 2, .n = OUT * IN};
    struct pd_linear_part part = {&p, NULL, false};
    struct pd_linear l;
    for (int i = 0; i < 2; i++) {
        pd_dtype_from_f32(to[i].dtype, w, q, OUT * IN); /* whole blocks a row */
        p.dtype = to[i].dtype, p.data = q, p.shape[0] = OUT, p.shape[1] = IN, part.in_out = false;
        ok(pd_linear_init(&l, &part, 1, PD_COMPUTE_AUTO, false, NULL, &err), &err);
        ok(pd_linear_forward(&l, T, x, IN, want, OUT, PD_WRITE_SET, &err), &err);
        pd_linear_release(&l);
        for (int in_out = 0; in_out < 2; in_out++) {
            p.dtype = PD_DTYPE_F32, p.data = in_out ? turned : w, part.in_out = in_out;
            p.shape[in_out] = OUT, p.shape[!in_out] = IN;
            ok(pd_linear_init(&l, &part, 1, to[i].compute, false, NULL, &err), &err);
            ok(pd_linear_repack(&l, &err), &err);
            ok(pd_linear_forward(&l, T, x, IN, got, OUT, PD_WRITE_SET, &err), &err);
            same_bits("quantised", got, want, T * OUT);
            pd_linear_release(&l);
        }
        assert_int_equal(pd_linear_init(&l, &part, 1, to[i].compute, true, NULL, &err), PD_INVALID);
    }
    free(w), free(x);
}

/* Every allocation of placing weights fails once: an error, nothing leaked (asan looks). */
static void test_places_or_fails(void **state)
{
    enum { OUT = 64, IN = 32 };
    static const enum pd_compute as[] = {PD_COMPUTE_AUTO, PD_COMPUTE_Q4_0};
    static const enum pd_dtype from[] = {PD_DTYPE_F32, PD_DTYPE_Q8_0};
    float *w = floats(OUT * IN, 1), bias[OUT] = {0};
    uint8_t q[OUT * IN * 2];
    pd_dtype_from_f32(PD_DTYPE_Q8_0, w, q, OUT * IN);
    struct pd_param p = {.name = (char[]){"p"}, .ndim = 2, .shape = {IN, OUT, 1, 1}, .n = OUT * IN};
    struct pd_param b = {
        .name = (char[]){"b"}, .ndim = 1, .shape = {OUT, 1, 1, 1}, .n = OUT, .data = bias};
    struct pd_linear_part part = {&p, &b, true};
    for (int k = 0; k < 4; k++) {
        enum pd_rc rc = PD_NOMEM;
        long n = 0;
        p.dtype = from[k / 2], p.data = k / 2 ? (void *)q : w;
        for (; rc != PD_OK && n < 20; n++) {
            struct pd_linear l = {0};
            struct pd_err err = {0};
            pd_mem_fail_after(n);
            rc = pd_linear_init(&l, &part, 1, as[k % 2], false, NULL, &err);
            pd_mem_fail_after(-1);
            assert_true(rc == PD_OK || (rc == PD_NOMEM && err.msg[0]));
            pd_linear_release(&l);
        }
        assert_true(n > 2 && n < 20); /* it did fail, and in the end it did not */
    }
    free(w);
}

/* Panels are the pool's as far as it goes: all parts or none, once, and the bits are those of rows.
 */
static void panels_body(void)
{
    enum { OUT = 70, IN = 100, T = 9, SMALL = 5 };
    struct pd_err err;
    float *w = floats((OUT + SMALL) * IN, 1), *x = floats(T * IN, 1);
    float want[T * (OUT + SMALL)], got[T * (OUT + SMALL)];
    struct pd_param p[2] = {
        {.name = (char[]){"p"}, .ndim = 2, .shape = {OUT, IN, 1, 1}, .n = OUT * IN, .data = w},
        {.name = (char[]){"q"}, .ndim = 2, .shape = {SMALL, IN, 1, 1}, .n = SMALL * IN}};
    p[1].data = w + OUT * IN;
    const struct pd_linear_part parts[2] = {{&p[0], NULL, false}, {&p[1], NULL, false}};
    struct pd_pool none = {0}, some = {.most = 1 << 20};
    for (int i = 0; i < 2; i++) {
        struct pd_linear l;
        float *y = i ? got : want;
        ok(pd_linear_init(&l, parts, 2, PD_COMPUTE_F32, false, i ? &some : &none, &err), &err);
        assert_int_equal(pd_linear_in_panels(&l), i);
        const size_t given = some.given;
        ok(pd_linear_repack(&l, &err), &err);
        assert_int_equal(pd_linear_in_panels(&l), i);
        assert_int_equal(some.given, given);
        ok(pd_linear_forward(&l, T, x, IN, y, OUT + SMALL, PD_WRITE_SET, &err), &err);
        pd_linear_release(&l);
    }
    same_bits("y over panels", got, want, T * (OUT + SMALL));
    struct pd_pool short_of = {.most = some.given - 64}; /* not for the last part */
    struct pd_linear l;
    ok(pd_linear_init(&l, parts, 2, PD_COMPUTE_F32, false, &short_of, &err), &err);
    assert_false(pd_linear_in_panels(&l));
    assert_int_equal(short_of.given, 0);
    ok(pd_linear_forward(&l, T, x, IN, got, OUT + SMALL, PD_WRITE_SET, &err), &err);
    same_bits("y over rows", got, want, T * (OUT + SMALL));
    pd_linear_release(&l);
    pd_pool_release(&some);
    free(w), free(x);
}
static void test_panels(void **state)
{
    (void)state;
    everywhere(panels_body);
}

static void test_refuses(void **state)
{
    struct pd_err err;
    struct pd_linear l = {0};
    float data[12];
    struct pd_param a = {.name = (char[]){"a"},
                         .ndim = 2,
                         .shape = {3, 4, 1, 1},
                         .n = 12,
                         .dtype = PD_DTYPE_F32,
                         .data = data};
    struct pd_param b = a, v = a;
    b.name = (char[]){"b"}, b.shape[0] = 4, b.shape[1] = 3;
    v.name = (char[]){"v"}, v.ndim = 1, v.shape[0] = 12, v.shape[1] = 1;
    struct pd_linear_part two[2] = {{&a, NULL, false}, {&b, NULL, false}};
    assert_int_equal(pd_linear_init(&l, two, 2, PD_COMPUTE_F32, false, NULL, &err), PD_INVALID);
    assert_string_equal(err.msg, "b: 3 inputs, 4 are needed");
    two[0].bias = &v;
    assert_int_equal(pd_linear_init(&l, two, 1, PD_COMPUTE_F32, false, NULL, &err), PD_INVALID);
    assert_string_equal(err.msg, "v: 12 values, 3 are needed");
    two[0].weight = &v;
    assert_int_equal(pd_linear_init(&l, two, 1, PD_COMPUTE_F32, false, NULL, &err), PD_INVALID);
    pd_linear_release(&l); /* still zero: accepted */
}

/* The same bits for any number of threads, and again. */
static void test_threads(void **state)
{
    static const int64_t Ts[] = {1, 4, 8, 37, 200, 300, 700};
    struct pd_err err;
    struct fixture f;
    fixture_init(&f, 192, 2, (int64_t[]){192, 512}, false, false, PD_COMPUTE_F32);
    for (size_t i = 0; i < sizeof Ts / sizeof Ts[0]; i++) {
        const int64_t T = Ts[i];
        float *x = floats(T * 192, 1), *dy = floats(T * 704, 1);
        float *y[2], *dx[2], *dw[2];
        for (int k = 0; k < 2; k++) {
            ok(pd_backend_init(k ? 3 : 1, &err), &err);
            y[k] = zeros(T * 704);
            dx[k] = zeros(T * 192);
            pd_params_zero_grads(&f.ps);
            ok(pd_linear_forward(&f.l, T, x, 192, y[k], 704, PD_WRITE_SET, &err), &err);
            ok(pd_linear_backward_input(&f.l, T, dy, 704, dx[k], 192, PD_WRITE_SET, &err), &err);
            ok(pd_linear_backward_weight(&f.l, T, dy, 704, x, 192, &err), &err);
            dw[k] = zeros((int64_t)f.ps.grad_n);
            memcpy(dw[k], f.ps.grad, f.ps.grad_n * sizeof(float));
        }
        same_bits("y", y[0], y[1], T * 704);
        same_bits("dx", dx[0], dx[1], T * 192);
        same_bits("dW", dw[0], dw[1], (int64_t)f.ps.grad_n);
        for (int k = 0; k < 2; k++)
            free(y[k]), free(dx[k]), free(dw[k]);
        free(x), free(dy);
    }
    fixture_release(&f);
}

static int teardown(void **state)
{
    pd_backend_release();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fp32),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_bf16_rounds_operands),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_repack_and_dtypes),
        cmocka_unit_test(test_quantises),
        cmocka_unit_test(test_places_or_fails),
        cmocka_unit_test(test_panels),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, teardown);
}
