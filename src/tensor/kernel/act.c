/* Activations and plain sums. */
#include "tensor/kernel/vec.h"

/* silu(x) = x s, silu'(x) = s (1 + x (1 - s)) with s = sigmoid(x) */
static void swiglu_row(int64_t F, const float *gate, const float *up, float *y)
{
    PD_FOR_LANES(i, m, F)
    {
        const vf x = v_get(gate + i, m);
        v_put(y + i, m, x * v_sigmoid(x) * v_get(up + i, m));
    }
}

void PD_KERNEL(swiglu_forward)(int64_t T, int64_t F, const float *gu, float *y)
{
    PD_SHARE(t, T, 1, T * F, swiglu_row(F, gu + t * 2 * F, gu + t * 2 * F + F, y + t * F));
}

void PD_KERNEL(swiglu_backward)(int64_t T, int64_t F, const float *gu, const float *dy, float *dgu,
                                float *y_again)
{
#pragma omp parallel for schedule(static) if (T * F > PD_PARALLEL_FLOATS)
    for (int64_t t = 0; t < T; t++) {
        const float *g = gu + t * 2 * F, *u = g + F, *dt = dy + t * F;
        float *dg = dgu + t * 2 * F, *du = dg + F;
        PD_FOR_LANES(i, m, F)
        {
            const vf x = v_get(g + i, m), up = v_get(u + i, m), d = v_get(dt + i, m);
            const vf s = v_sigmoid(x), a = x * s;
            if (y_again)
                v_put(y_again + t * F + i, m, a * up);
            v_put(dg + i, m, d * up * (s + a * (1.0f - s)));
            v_put(du + i, m, d * a);
        }
    }
}

static const float GELU_K = 0.7978845608028654f; /* sqrt(2/pi) */
static const float GELU_C = 0.044715f;

PD_INLINE float gelu_exact(float x)
{
    return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
}
PD_INLINE float gelu_exact_slope(float x)
{
    const float cdf = 0.5f * (1.0f + erff(x * 0.70710678118654752f));
    return cdf + x * 0.3989422804014327f * expf(-0.5f * x * x);
}

PD_INLINE vf act1(enum pd_act a, vf x)
{
    float t[PD_LANES];
    switch (a) {
    case PD_ACT_GELU_TANH:
        return 0.5f * x * (1.0f + v_tanh(GELU_K * (x + GELU_C * x * x * x)));
    case PD_ACT_SILU:
        return x * v_sigmoid(x);
    case PD_ACT_RELU:
        return v_select(x < 0.0f, (vf){0}, x);
    case PD_ACT_GELU:
        break;
    }
    v_store(t, x);
    for (int i = 0; i < PD_LANES; i++)
        t[i] = gelu_exact(t[i]);
    return v_load(t);
}

PD_INLINE vf slope1(enum pd_act a, vf x)
{
    float t[PD_LANES];
    switch (a) {
    case PD_ACT_GELU_TANH: {
        const vf h = v_tanh(GELU_K * (x + GELU_C * x * x * x));
        return 0.5f * (1.0f + h) +
               0.5f * x * (1.0f - h * h) * GELU_K * (1.0f + 3.0f * GELU_C * x * x);
    }
    case PD_ACT_SILU: {
        const vf s = v_sigmoid(x);
        return s + x * s * (1.0f - s);
    }
    case PD_ACT_RELU:
        return v_select(x > 0.0f, v_set(1.0f), x * 0.0f);
    case PD_ACT_GELU:
        break;
    }
    v_store(t, x);
    for (int i = 0; i < PD_LANES; i++)
        t[i] = gelu_exact_slope(t[i]);
    return v_load(t);
}

enum { ACT_BLOCK = 4096 };

/* One loop per activation after inlining: the switch is hoisted by the constant argument. */
#define ACT_CASES(body)                                                                            \
    switch (a) {                                                                                   \
    case PD_ACT_GELU_TANH:                                                                         \
        body(PD_ACT_GELU_TANH) break;                                                              \
    case PD_ACT_GELU:                                                                              \
        body(PD_ACT_GELU) break;                                                                   \
    case PD_ACT_SILU:                                                                              \
        body(PD_ACT_SILU) break;                                                                   \
    case PD_ACT_RELU:                                                                              \
        body(PD_ACT_RELU) break;                                                                   \
    }

static void act_block(enum pd_act a, int64_t n, const float *x, float *y)
{
#define BODY(kind)                                                                                 \
    PD_FOR_LANES(i, m, n)                                                                          \
    v_put(y + i, m, act1(kind, v_get(x + i, m)));
    ACT_CASES(BODY)
#undef BODY
}

void PD_KERNEL(act_forward)(enum pd_act a, int64_t n, const float *x, float *y)
{
    PD_SHARE(i, n, ACT_BLOCK, n, act_block(a, n - i < ACT_BLOCK ? n - i : ACT_BLOCK, x + i, y + i));
}

void PD_KERNEL(act_backward)(enum pd_act a, int64_t n, const float *x, const float *dy, float *dx)
{
#pragma omp parallel for schedule(static) if (n > PD_PARALLEL_FLOATS)
    for (int64_t b = 0; b < n; b += ACT_BLOCK) {
        const int64_t len = n - b < ACT_BLOCK ? n - b : ACT_BLOCK;
        const float *xb = x + b, *db = dy + b;
        float *ob = dx + b;
#define BODY(kind)                                                                                 \
    PD_FOR_LANES(i, m, len)                                                                        \
    v_put(ob + i, m, v_get(db + i, m) * slope1(kind, v_get(xb + i, m)));
        ACT_CASES(BODY)
#undef BODY
    }
}

void PD_KERNEL(add)(int64_t n, const float *x, float *y)
{
#pragma omp parallel for simd schedule(static) if (parallel : n > PD_PARALLEL_FLOATS)
    for (int64_t i = 0; i < n; i++)
        y[i] += x[i];
}

void PD_KERNEL(bias_backward)(int64_t T, int64_t N, const float *dy, int64_t ld, float *db)
{
    enum { COLS = 64 };
#pragma omp parallel for schedule(static) if (T * N > PD_PARALLEL_FLOATS)
    for (int64_t c = 0; c < N; c += COLS) {
        const int64_t n = N - c < COLS ? N - c : COLS;
        float acc[COLS] = {0};
        for (int64_t t = 0; t < T; t++) {
            const float *dt = dy + t * ld + c;
#pragma omp simd
            for (int64_t i = 0; i < n; i++)
                acc[i] += dt[i];
        }
        for (int64_t i = 0; i < n; i++)
            db[c + i] += acc[i];
    }
}
