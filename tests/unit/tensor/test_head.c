/* The vocabulary head in chunks against whole logits in double; the score head. */
#include "tensor/ops.h"
#include "twin.h"

struct problem {
    int64_t H, V, n, n_hidden;
    const int32_t *rows, *target;
    double temperature;
    double *w, *hidden, *gl, *gh;
};

/* Writes logprob and entropy if not NULL; returns sum gl * logprob + gh * entropy. */
static double dense(const struct problem *p, double *logprob, double *entropy)
{
    double loss = 0, *z = malloc((size_t)p->V * sizeof *z);
    for (int64_t i = 0; i < p->n; i++) {
        const double *h = p->hidden + (p->rows ? p->rows[i] : i) * p->H;
        double mx = -INFINITY, sum = 0, e = 0;
        for (int64_t v = 0; v < p->V; v++) {
            z[v] = 0;
            for (int64_t k = 0; k < p->H; k++)
                z[v] += h[k] * p->w[v * p->H + k];
            z[v] /= p->temperature;
            mx = fmax(mx, z[v]);
        }
        for (int64_t v = 0; v < p->V; v++)
            sum += exp(z[v] - mx);
        const double lse = mx + log(sum);
        for (int64_t v = 0; v < p->V; v++)
            e -= exp(z[v] - lse) * (z[v] - lse);
        if (logprob)
            logprob[i] = z[p->target[i]] - lse;
        if (entropy)
            entropy[i] = e;
        loss += p->gl[i] * (z[p->target[i]] - lse) + p->gh[i] * e;
    }
    free(z);
    return loss;
}
static double dense_loss(void *ctx)
{
    return dense(ctx, NULL, NULL);
}

static void check_head(int64_t H, int64_t V, int64_t n, int64_t n_hidden, float temperature,
                       bool with_entropy, bool gradients)
{
    struct pd_params ps;
    struct pd_param *w;
    struct pd_linear head = {0};
    struct pd_err err;
    pd_params_init(&ps);
    ok(pd_params_add(&ps, "head", 2, (int64_t[]){V, H}, true, -1, &w, &err), &err);
    ok(pd_params_alloc_data(&ps, &err), &err);
    ok(pd_params_alloc_grads(&ps, &err), &err);
    for (size_t i = 0; i < w->n; i++)
        ((float *)w->data)[i] = (float)uniform();
    ok(pd_linear_init(&head, &(struct pd_linear_part){w, NULL, false}, 1, PD_COMPUTE_F32, true,
                      NULL, &err),
       &err);
    const int64_t ld = H + 1;
    float *hidden = floats(n_hidden * ld, 1), *gl = floats(n, 1), *gh = floats(n, 1);
    float *logprob = zeros(n), *entropy = zeros(n), *lse = zeros(n), *dh = zeros(n_hidden * ld);
    float *dh_dense = zeros(n_hidden * H);
    int32_t *rows = malloc((size_t)n * sizeof *rows), *target = malloc((size_t)n * sizeof *target);
    struct problem p = {.H = H,
                        .V = V,
                        .n = n,
                        .n_hidden = n_hidden,
                        .rows = rows,
                        .target = target,
                        .temperature = (double)temperature,
                        .w = doubles(w->data, V * H),
                        .hidden = doubles(hidden, n_hidden * H)};
    for (int64_t i = 0; i < n; i++) {
        rows[i] = (int32_t)(i * 7 % n_hidden); /* some twice */
        target[i] = (int32_t)((i * 131 + V - 1) % V);
        if (i % 5 == 2)
            gl[i] = gh[i] = 0; /* skipped by backward */
        if (!with_entropy)
            gh[i] = 0;
    }
    for (int64_t i = 0; i < n_hidden * H; i++)
        p.hidden[i] = (double)hidden[i / H * ld + i % H];
    p.gl = doubles(gl, n), p.gh = doubles(gh, n);
    const struct pd_logprob a = {.head = &head,
                                 .hidden = hidden,
                                 .ld = ld,
                                 .n = n,
                                 .rows = rows,
                                 .target = target,
                                 .temperature = temperature,
                                 .logprob = logprob,
                                 .entropy = entropy,
                                 .lse = lse};
    double *lp2 = malloc((size_t)n * 8), *e2 = malloc((size_t)n * 8);
    ok(pd_logprob_forward(&a, &err), &err);
    (void)dense(&p, lp2, e2);
    near_all("logprob", logprob, lp2, n, 5e-6);
    near_all("entropy", entropy, e2, n, 5e-6);
    if (gradients) {
        ok(pd_logprob_backward(&a, gl, with_entropy ? gh : NULL, dh, ld, &err), &err);
        for (int64_t i = 0; i < n_hidden * H; i++)
            dh_dense[i] = dh[i / H * ld + i % H];
        check_grad("dhidden", p.hidden, n_hidden * H, dh_dense, dense_loss, &p, 2e-5);
        check_grad("dW", p.w, V * H, w->grad, dense_loss, &p, 2e-5);
        for (int64_t t = 0; t < n_hidden; t++)
            assert_true(dh[t * ld + H] == 0);
    }
    pd_linear_release(&head);
    pd_params_release(&ps);
    free(hidden), free(gl), free(gh), free(logprob), free(entropy), free(lse), free(dh);
    free(dh_dense), free(rows), free(target), free(p.w), free(p.hidden), free(p.gl), free(p.gh);
    free(lp2), free(e2);
}

static void logprob_body(void)
{
    check_head(8, 5, 3, 3, 1.0f, true, true);
    check_head(16, 37, 40, 30, 0.7f, true, true);
    check_head(16, 50, 20, 20, 1.3f, false, true);
    check_head(8, 4500, 20, 20, 1.0f, true, true);   /* several column blocks */
    check_head(4, 11, 1300, 500, 1.0f, true, false); /* several row blocks */
}
static void test_logprob(void **state)
{
    everywhere(logprob_body);
}

static void test_score(void **state)
{
    enum { H = 9, N = 5, T = 4 };
    const int32_t rows[N] = {3, 0, 0, 2, 3};
    float *h = floats(T * H, 1), *w = floats(H, 1), *g = floats(N, 1), b = 0.25f, s[N];
    float *dh = floats(T * H, 1), *dw = floats(H, 1), db = 1;
    double *wdh = doubles(dh, T * H), *wdw = doubles(dw, H), wdb = 1;
    pd_score_forward(N, H, h, H, rows, w, &b, s);
    for (int i = 0; i < N; i++) {
        double want = 0.25;
        for (int k = 0; k < H; k++) {
            want += (double)h[rows[i] * H + k] * (double)w[k];
            wdh[rows[i] * H + k] += (double)g[i] * (double)w[k];
            wdw[k] += (double)g[i] * (double)h[rows[i] * H + k];
        }
        wdb += (double)g[i];
        near1("score", i, (double)s[i], want, 1e-6);
    }
    pd_score_backward(N, H, h, H, rows, w, g, dh, H, dw, &db);
    near_all("dhidden", dh, wdh, T * H, 1e-6);
    near_all("dw", dw, wdw, H, 1e-6);
    near1("db", 0, (double)db, wdb, 1e-6);
    free(h), free(w), free(g), free(dh), free(dw), free(wdh), free(wdw);
}

static int teardown(void **state)
{
    pd_backend_release();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logprob),
        cmocka_unit_test(test_score),
    };
    return cmocka_run_group_tests(tests, NULL, teardown);
}
