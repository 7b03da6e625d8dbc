/* Every op forward against a naive double twin, and backward against central differences of it. */
#include "tensor/ops.h"
#include "twin.h"

/* One op at one shape: inputs in double, the loss's weights c on the outputs. */
struct op {
    int64_t T, H;
    double eps;
    double *x, *w, *b, *c, *y;
    bool has_bias;
    enum pd_act act;
    enum pd_rope_kind kind;
    int heads, rot;
    int64_t ld, hs;
    const int32_t *pos;
    const float *inv_freq;
};

static double weigh(const struct op *o, const double *y, int64_t n)
{
    double s = 0;
    for (int64_t i = 0; i < n; i++)
        s += o->c[i] * y[i];
    return s;
}

static double rmsnorm(void *ctx)
{
    const struct op *o = ctx;
    for (int64_t t = 0; t < o->T; t++) {
        double ss = 0;
        for (int64_t i = 0; i < o->H; i++)
            ss += o->x[t * o->H + i] * o->x[t * o->H + i];
        const double r = 1 / sqrt(ss / (double)o->H + o->eps);
        for (int64_t i = 0; i < o->H; i++)
            o->y[t * o->H + i] = o->x[t * o->H + i] * r * o->w[i];
    }
    return weigh(o, o->y, o->T * o->H);
}

static double layernorm(void *ctx)
{
    const struct op *o = ctx;
    for (int64_t t = 0; t < o->T; t++) {
        const double *x = o->x + t * o->H;
        double mu = 0, var = 0;
        for (int64_t i = 0; i < o->H; i++)
            mu += x[i] / (double)o->H;
        for (int64_t i = 0; i < o->H; i++)
            var += (x[i] - mu) * (x[i] - mu) / (double)o->H;
        for (int64_t i = 0; i < o->H; i++)
            o->y[t * o->H + i] =
                (x[i] - mu) / sqrt(var + o->eps) * o->w[i] + (o->has_bias ? o->b[i] : 0);
    }
    return weigh(o, o->y, o->T * o->H);
}

static void check_norm(int64_t T, int64_t H, bool layer, bool bias)
{
    float *x = floats(T * H, 3), *w = floats(H, 1), *b = floats(H, 1), *c = floats(T * H, 1);
    float *y = zeros(T * H), *mean = zeros(T), *rstd = zeros(T);
    float *dx = floats(T * H, 1), *dw = floats(H, 1), *db = floats(H, 1);
    for (int64_t i = 0; layer && i < T * H; i++)
        x[i] += 5; /* a mean that is not near zero */
    struct op o = {.T = T,
                   .H = H,
                   .eps = 1e-5,
                   .has_bias = bias,
                   .x = doubles(x, T * H),
                   .w = doubles(w, H),
                   .b = doubles(b, H),
                   .c = doubles(c, T * H),
                   .y = doubles(y, T * H)};
    double (*twin)(void *) = layer ? layernorm : rmsnorm;
    if (layer)
        pd_layernorm_forward(T, H, x, w, bias ? b : NULL, 1e-5f, y, mean, rstd);
    else
        pd_rmsnorm_forward(T, H, x, w, 1e-5f, y, rstd);
    (void)twin(&o);
    near_all("norm y", y, o.y, T * H, 2e-6);

    float *dx0 = zeros(T * H), *dw0 = zeros(H), *db0 = zeros(H), *set = zeros(T * H);
    memcpy(dx0, dx, (size_t)(T * H) * 4), memcpy(dw0, dw, (size_t)H * 4);
    memcpy(db0, db, (size_t)H * 4), memcpy(set, c, (size_t)(T * H) * 4);
    if (layer) {
        pd_layernorm_backward(T, H, x, w, mean, rstd, c, dx, PD_WRITE_ADD, dw, bias ? db : NULL);
        pd_layernorm_backward(T, H, x, w, mean, rstd, set, set, PD_WRITE_SET, NULL, NULL);
    } else {
        pd_rmsnorm_backward(T, H, x, w, rstd, c, dx, PD_WRITE_ADD, dw);
        pd_rmsnorm_backward(T, H, x, w, rstd, set, set, PD_WRITE_SET, NULL);
    }
    check_grad("norm dx", o.x, T * H, set, twin, &o, 2e-5);
    for (int64_t i = 0; i < T * H; i++)
        near1("norm dx added", i, (double)dx[i], (double)dx0[i] + (double)set[i], 1e-5);
    for (int64_t i = 0; i < H; i++) {
        dw[i] -= dw0[i];
        db[i] -= db0[i];
    }
    check_grad("norm dw", o.w, H, dw, twin, &o, 3e-5);
    if (bias)
        check_grad("norm db", o.b, H, db, twin, &o, 3e-5);
    free(x), free(w), free(b), free(c), free(y), free(mean), free(rstd), free(dx), free(dw);
    free(db), free(dx0), free(dw0), free(db0), free(set);
    free(o.x), free(o.w), free(o.b), free(o.c), free(o.y);
}

static void norm_body(void)
{
    static const int64_t shapes[][2] = {{1, 1}, {3, 7}, {5, 64}, {2, 100}, {40, 576}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        check_norm(shapes[i][0], shapes[i][1], false, false);
        check_norm(shapes[i][0], shapes[i][1], true, true);
        check_norm(shapes[i][0], shapes[i][1], true, false);
    }
}
static void test_norms(void **state)
{
    everywhere(norm_body);
}

static double swiglu(void *ctx)
{
    const struct op *o = ctx;
    for (int64_t t = 0; t < o->T; t++)
        for (int64_t i = 0; i < o->H; i++) {
            const double g = o->x[t * 2 * o->H + i], u = o->x[t * 2 * o->H + o->H + i];
            o->y[t * o->H + i] = g / (1 + exp(-g)) * u;
        }
    return weigh(o, o->y, o->T * o->H);
}

static void check_swiglu(int64_t T, int64_t F)
{
    float *gu = floats(T * 2 * F, 6), *c = floats(T * F, 1), *y = zeros(T * F);
    float *dy = zeros(T * F), *again = NULL;
    struct op o = {.T = T,
                   .H = F,
                   .x = doubles(gu, T * 2 * F),
                   .c = doubles(c, T * F),
                   .y = doubles(y, T * F)};
    pd_swiglu_forward(T, F, gu, y);
    (void)swiglu(&o);
    near_all("swiglu y", y, o.y, T * F, 2e-6);
    memcpy(dy, c, (size_t)(T * F) * 4);
    again = dy; /* in place everywhere: dgu over gu, y over dy */
    pd_swiglu_backward(T, F, gu, dy, gu, again);
    near_all("swiglu y again", again, o.y, T * F, 2e-6);
    check_grad("swiglu dgu", o.x, T * 2 * F, gu, swiglu, &o, 2e-5);
    free(gu), free(c), free(y), free(dy), free(o.x), free(o.c), free(o.y);
}

static double act(void *ctx)
{
    const struct op *o = ctx;
    for (int64_t i = 0; i < o->H; i++) {
        const double x = o->x[i];
        switch (o->act) {
        case PD_ACT_GELU_TANH:
            o->y[i] = 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
            break;
        case PD_ACT_GELU:
            o->y[i] = 0.5 * x * (1 + erf(x / sqrt(2)));
            break;
        case PD_ACT_SILU:
            o->y[i] = x / (1 + exp(-x));
            break;
        case PD_ACT_RELU:
            o->y[i] = x > 0 ? x : 0;
            break;
        }
    }
    return weigh(o, o->y, o->H);
}

static void check_act(enum pd_act a, int64_t n)
{
    float *x = floats(n, 6), *c = floats(n, 1), *y = zeros(n);
    struct op o = {.H = n, .act = a, .x = doubles(x, n), .c = doubles(c, n), .y = doubles(y, n)};
    pd_act_forward(a, n, x, y);
    (void)act(&o);
    near_all("act y", y, o.y, n, 2e-6);
    pd_act_backward(a, n, x, c, c);
    check_grad("act dx", o.x, n, c, act, &o, 3e-5);
    pd_act_forward(a, n, x, x);
    same_bits("act in place", x, y, n);
    free(x), free(c), free(y), free(o.x), free(o.c), free(o.y);
}

static void act_body(void)
{
    check_swiglu(1, 3);
    check_swiglu(7, 48);
    check_swiglu(20, 1536);
    for (enum pd_act a = PD_ACT_GELU_TANH; a <= PD_ACT_RELU; a++) {
        check_act(a, 5);
        check_act(a, 20001);
    }
}
static void test_activations(void **state)
{
    everywhere(act_body);
}

/* Far out values neither overflow nor turn into NaN; NaN stays. */
static void extremes_body(void)
{
    float x[6] = {-1000, -90, 0, 90, 1000, NAN}, y[6], dy[6] = {1, 1, 1, 1, 1, 1};
    for (enum pd_act a = PD_ACT_GELU_TANH; a <= PD_ACT_SILU; a++) {
        pd_act_forward(a, 6, x, y);
        assert_true(fabsf(y[0]) < 1e-6f && fabsf(y[1]) < 1e-6f && y[2] == 0);
        assert_true(y[3] == 90 && y[4] == 1000 && isnan(y[5]));
        pd_act_backward(a, 6, x, dy, y);
        assert_true(fabsf(y[0]) < 1e-6f && y[3] == 1 && y[4] == 1 && isnan(y[5]));
    }
    pd_act_forward(PD_ACT_RELU, 6, x, y);
    assert_true(y[0] == 0 && y[4] == 1000 && isnan(y[5]));
    float w[6] = {1, 1, 1, 1, 1, 1};
    pd_rmsnorm_forward(1, 6, x, w, 1e-5f, y, NULL);
    assert_true(isnan(y[0]) && isnan(y[5]));
}
static void test_extremes(void **state)
{
    everywhere(extremes_body);
}

static double rope(void *ctx)
{
    const struct op *o = ctx;
    const int half = o->rot / 2;
    memcpy(o->y, o->x, (size_t)(o->T * o->ld) * sizeof *o->y);
    for (int64_t t = 0; t < o->T; t++)
        for (int h = 0; h < o->heads; h++)
            for (int i = 0; i < half; i++) {
                const int64_t at = t * o->ld + h * o->hs;
                const int64_t a = at + (o->kind == PD_ROPE_HALF ? i : 2 * i);
                const int64_t b = at + (o->kind == PD_ROPE_HALF ? i + half : 2 * i + 1);
                const double angle = (double)((float)o->pos[t] * o->inv_freq[i]);
                o->y[a] = o->x[a] * cos(angle) - o->x[b] * sin(angle);
                o->y[b] = o->x[b] * cos(angle) + o->x[a] * sin(angle);
            }
    return weigh(o, o->y, o->T * o->ld);
}

static void check_rope(enum pd_rope_kind kind, int64_t T, int heads, int D, int rot)
{
    const int64_t ld = heads * D + 3, n = T * ld;
    int32_t *pos = malloc((size_t)T * sizeof *pos);
    float *inv = malloc((size_t)rot / 2 * sizeof *inv), *cs = zeros(T * rot);
    for (int64_t t = 0; t < T; t++)
        pos[t] = (int32_t)((t * 37) % 1000);
    for (int i = 0; i < rot / 2; i++)
        inv[i] = powf(10000.0f, -2.0f * (float)i / (float)rot);
    float *x = floats(n, 1), *c = floats(n, 1), *y = zeros(n);
    struct op o = {.T = T,
                   .kind = kind,
                   .heads = heads,
                   .rot = rot,
                   .ld = ld,
                   .hs = D,
                   .pos = pos,
                   .inv_freq = inv,
                   .x = doubles(x, n),
                   .c = doubles(c, n),
                   .y = doubles(x, n)};
    pd_rope_table(T, pos, rot, inv, 1.0f, cs);
    memcpy(y, x, (size_t)n * 4);
    pd_rope_apply(T, heads, y, ld, D, rot, kind, cs, false);
    (void)rope(&o);
    near_all("rope y", y, o.y, n, 1e-6);
    pd_rope_apply(T, heads, y, ld, D, rot, kind, cs, true);
    near_all("rope and back", y, o.x, n, 1e-6);
    pd_rope_apply(T, heads, c, ld, D, rot, kind, cs, true);
    check_grad("rope dx", o.x, n, c, rope, &o, 1e-5);
    free(pos), free(inv), free(cs), free(x), free(c), free(y), free(o.x), free(o.c), free(o.y);
}

static void rope_body(void)
{
    check_rope(PD_ROPE_HALF, 3, 2, 8, 8);
    check_rope(PD_ROPE_HALF, 50, 12, 64, 64);
    check_rope(PD_ROPE_HALF, 9, 3, 20, 6); /* the rest passes through */
    check_rope(PD_ROPE_INTERLEAVED, 9, 3, 20, 12);
}
static void test_rope(void **state)
{
    everywhere(rope_body);
}

static void embed_body(void)
{
    enum { V = 11, H = 64, T = 300 };
    uint16_t half[V * H];
    float *table = floats(V * H, 1), *y = floats(T * H, 1), *y0 = zeros(T * H);
    float *grad = floats(V * H, 1);
    double *want = doubles(grad, V * H);
    int32_t ids[T];
    pd_f32_to_f16(table, half, V * H);
    for (int i = 0; i < V * H; i++)
        table[i] = pd_f16_to_f32(half[i]);
    for (int t = 0; t < T; t++)
        ids[t] = (t * t + 3) % V;
    struct pd_param p = {.ndim = 2, .shape = {V, H, 1, 1}, .n = V * H, .data = table};
    for (int k = 0; k < 2; k++) {
        p.dtype = k ? PD_DTYPE_F16 : PD_DTYPE_F32;
        p.data = k ? (void *)half : (void *)table;
        pd_embed_forward(T, H, ids, &p, y, PD_WRITE_SET);
        for (int i = 0; i < T * H; i++)
            assert_true(y[i] == table[ids[i / H] * H + i % H]);
        memcpy(y0, y, sizeof(float) * T * H);
        pd_embed_forward(T, H, ids, &p, y, PD_WRITE_ADD);
        for (int i = 0; i < T * H; i++)
            assert_true(y[i] == y0[i] + table[ids[i / H] * H + i % H]);
    }
    pd_embed_backward(T, H, ids, y, grad);
    for (int i = 0; i < T * H; i++)
        want[ids[i / H] * H + i % H] += (double)y[i];
    near_all("embed grad", grad, want, V * H, 1e-5);
    free(table), free(y), free(y0), free(grad), free(want);
}
static void test_embed(void **state)
{
    everywhere(embed_body);
}

static void sums_body(void)
{
    enum { T = 130, N = 150, LD = 160 };
    float *x = floats(T * LD, 1), *y = floats(T * LD, 1), *z = zeros(T * LD), *db = floats(N, 1);
    double *want = doubles(y, T * LD), *wdb = doubles(db, N);
    pd_copy(T * LD, y, z);
    same_bits("copy", z, y, T * LD);
    pd_add(T * LD, x, y);
    for (int i = 0; i < T * LD; i++)
        want[i] += (double)x[i];
    near_all("add", y, want, T * LD, 1e-6);
    pd_zero(T * LD, z);
    for (int i = 0; i < T * LD; i++)
        assert_true(z[i] == 0);
    pd_bias_backward(T, N, x, LD, db);
    for (int i = 0; i < T * N; i++)
        wdb[i % N] += (double)x[i / N * LD + i % N];
    near_all("bias", db, wdb, N, 1e-5);
    free(x), free(y), free(z), free(db), free(want), free(wdb);
}
static void test_sums(void **state)
{
    everywhere(sums_body);
}

/* Results do not depend on the number of threads, to the bit. */
static void test_threads(void **state)
{
    enum { T = 200, H = 600 };
    struct pd_err err;
    float *x = floats(T * H, 1), *w = floats(H, 1), *c = floats(T * H, 1);
    float *y[2], *dx[2], *dw[2], *rstd = zeros(T), *mean = zeros(T);
    for (int i = 0; i < 2; i++) {
        ok(pd_backend_init(i ? 3 : 1, &err), &err);
        y[i] = zeros(2 * T * H), dx[i] = zeros(2 * T * H), dw[i] = zeros(3 * H);
        pd_rmsnorm_forward(T, H, x, w, 1e-5f, y[i], rstd);
        pd_rmsnorm_backward(T, H, x, w, rstd, c, dx[i], PD_WRITE_SET, dw[i]);
        pd_layernorm_forward(T, H, x, w, NULL, 1e-5f, y[i] + T * H, mean, rstd);
        pd_layernorm_backward(T, H, x, w, mean, rstd, c, dx[i] + T * H, PD_WRITE_SET, dw[i] + H,
                              dw[i] + 2 * H);
    }
    same_bits("y", y[0], y[1], 2 * T * H);
    same_bits("dx", dx[0], dx[1], 2 * T * H);
    same_bits("dw", dw[0], dw[1], 3 * H);
    for (int i = 0; i < 2; i++)
        free(y[i]), free(dx[i]), free(dw[i]);
    free(x), free(w), free(c), free(rstd), free(mean);
}

static void test_backend_words(void **state)
{
    enum pd_compute c;
    struct pd_err err;
    ok(pd_compute_parse("FP32", &c, &err), &err);
    assert_int_equal(c, PD_COMPUTE_F32);
    ok(pd_compute_parse("bf16", &c, &err), &err);
    assert_string_equal(pd_compute_name(c), "bf16");
    ok(pd_compute_parse("auto", &c, &err), &err);
    assert_int_equal(c, PD_COMPUTE_AUTO);
    assert_int_equal(pd_compute_resolve(c),
                     pd_backend_fast_bf16() ? PD_COMPUTE_BF16 : PD_COMPUTE_F32);
    ok(pd_compute_parse("q4_0", &c, &err), &err);
    assert_int_equal(c, PD_COMPUTE_Q4_0);
    assert_int_equal(pd_compute_resolve(c), PD_COMPUTE_Q4_0);
    assert_string_equal(pd_compute_name(c), "q4_0");
    assert_int_equal(pd_compute_parse("fp8", &c, &err), PD_INVALID);
    setenv("PD_ISA", "mmx", 1);
    assert_int_equal(pd_backend_init(0, &err), PD_INVALID);
    assert_string_equal(err.msg, "PD_ISA=mmx is unknown; use ref, avx2, avx512 or vnni");
    unsetenv("PD_ISA");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norms),    cmocka_unit_test(test_activations),
        cmocka_unit_test(test_extremes), cmocka_unit_test(test_rope),
        cmocka_unit_test(test_embed),    cmocka_unit_test(test_sums),
        cmocka_unit_test(test_threads),  cmocka_unit_test(test_backend_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
