#include "base/mem.h"
#include "tensor/optim.h"
#include "tensor/params.h"
#include "twin.h"

static struct pd_params table(void)
{
    struct pd_params ps;
    struct pd_param *p;
    struct pd_err err;
    pd_params_init(&ps);
    ok(pd_params_add(&ps, "embed", 2, (int64_t[]){5, 7}, true, -1, &p, &err), &err);
    p->trainable = false;
    ok(pd_params_add(&ps, "w", 2, (int64_t[]){300, 201}, true, 0, &p, &err), &err);
    ok(pd_params_add(&ps, "b", 1, (int64_t[]){3}, false, 0, &p, &err), &err);
    return ps;
}

static void test_table(void **state)
{
    struct pd_params ps = table();
    struct pd_param *p;
    struct pd_err err;
    assert_int_equal(pd_params_add(&ps, "w", 1, (int64_t[]){1}, false, 0, &p, &err), PD_CONFLICT);
    assert_int_equal(pd_params_add(&ps, "z", 1, (int64_t[]){0}, false, 0, &p, &err), PD_INVALID);
    assert_int_equal(pd_params_add(&ps, "z", 2, (int64_t[]){INT64_MAX / 2, 64}, false, 0, &p, &err),
                     PD_INVALID);
    assert_null(pd_params_find(&ps, "z"));
    assert_string_equal(pd_params_find(&ps, "b")->name, "b");
    assert_int_equal(pd_params_count(&ps, false), 35 + 60300 + 3);
    assert_int_equal(pd_params_count(&ps, true), 60300 + 3);
    uint16_t embed[35]; /* data of another type is converted into the slab */
    for (int i = 0; i < 35; i++)
        embed[i] = (uint16_t)(0x3f80 + i);
    pd_params_find(&ps, "embed")->dtype = PD_DTYPE_BF16;
    pd_params_find(&ps, "embed")->data = embed;
    ok(pd_params_alloc_data(&ps, &err), &err);
    ok(pd_params_alloc_grads(&ps, &err), &err);
    for (size_t i = 0; i < ps.n; i++)
        assert_int_equal((uintptr_t)ps.v[i].data % 64, 0);
    for (int i = 0; i < 35; i++)
        assert_true(((float *)ps.v[0].data)[i] == pd_bf16_to_f32(embed[i]));
    assert_null(ps.v[0].grad);
    assert_ptr_equal(ps.v[1].grad, ps.grad);
    assert_int_equal(ps.grad_n, 60304 + 16);
    float row[201];
    for (size_t i = 0; i < ps.v[1].n; i++)
        ((float *)ps.v[1].data)[i] = (float)i;
    pd_param_rows(&ps.v[1], 2, 1, row);
    assert_true(row[200] == 602.0f);
    pd_params_release(&ps);
}

static void test_norm_and_finiteness(void **state)
{
    struct pd_params ps = table();
    struct pd_err err;
    ok(pd_params_alloc_data(&ps, &err), &err);
    ok(pd_params_alloc_grads(&ps, &err), &err);
    double want = 0;
    for (size_t i = 1; i < 3; i++)
        for (size_t k = 0; k < ps.v[i].n; k++) {
            ps.v[i].grad[k] = (float)uniform();
            want += (double)ps.v[i].grad[k] * (double)ps.v[i].grad[k];
        }
    ok(pd_backend_init(1, &err), &err);
    const double one = pd_params_grad_norm(&ps);
    near1("norm", 0, one, sqrt(want), 1e-12);
    ok(pd_backend_init(3, &err), &err);
    assert_true(one == pd_params_grad_norm(&ps));
    pd_params_scale_grads(&ps, 0.5f);
    assert_true(pd_params_grad_norm(&ps) == one / 2);
    ok(pd_params_check_grads(&ps, 3, &err), &err);
    ps.v[1].grad[17] = NAN;
    assert_true(isnan(pd_params_grad_norm(&ps)));
    assert_int_equal(pd_params_check_grads(&ps, 3, &err), PD_NONFINITE);
    assert_string_equal(err.msg, "gradient of w is NaN at index 17 of 60300 (step 3)");
    pd_params_zero_grads(&ps);
    assert_true(pd_params_grad_norm(&ps) == 0);
    ((float *)ps.v[2].data)[1] = -INFINITY;
    assert_int_equal(pd_params_check_data(&ps, 9, &err), PD_NONFINITE);
    assert_string_equal(err.msg, "value of b is infinite at index 1 of 3 (step 9)");
    pd_params_release(&ps);
}

static void test_no_memory(void **state)
{
    struct pd_params ps = table();
    struct pd_adamw opt;
    struct pd_err err;
    pd_mem_fail_after(0);
    assert_int_equal(pd_params_alloc_data(&ps, &err), PD_NOMEM);
    pd_mem_fail_after(0);
    assert_int_equal(pd_params_alloc_grads(&ps, &err), PD_NOMEM);
    for (int n = 0; n < 2; n++) {
        pd_mem_fail_after(n);
        assert_int_equal(pd_adamw_init(&opt, &ps, 0.9, 0.999, 1e-8, 0, &err), PD_NOMEM);
    }
    pd_mem_fail_after(-1);
    pd_params_release(&ps);
}

/* torch.optim.AdamW on one weight w = 1 and one bias b = -2, gradients 0.5 and then -0.25, lr 0.1,
 * weight decay 0.01 on the weight: worked by hand from the formulas. */
static void adamw_body(void)
{
    struct pd_params ps;
    struct pd_param *p;
    struct pd_adamw opt;
    struct pd_err err;
    pd_params_init(&ps);
    ok(pd_params_add(&ps, "w", 1, (int64_t[]){37}, true, 0, &p, &err), &err);
    ok(pd_params_add(&ps, "b", 1, (int64_t[]){1}, false, 0, &p, &err), &err);
    ok(pd_params_alloc_data(&ps, &err), &err);
    ok(pd_params_alloc_grads(&ps, &err), &err);
    ok(pd_adamw_init(&opt, &ps, 0.9, 0.999, 1e-8, 0.01, &err), &err);
    float *w = ps.v[0].data, *b = ps.v[1].data;
    double dw = 1, db = -2, m = 0, v = 0;
    for (int i = 0; i < 37; i++)
        w[i] = 1;
    b[0] = -2;
    for (int t = 1; t <= 5; t++) {
        const double g = t % 2 ? 0.5 : -0.25;
        for (int i = 0; i < 37; i++)
            ps.v[0].grad[i] = (float)(4 * g); /* used times 1/4 */
        ps.v[1].grad[0] = (float)(4 * g);
        pd_adamw_step(&opt, &ps, 0.1, 0.25);
        m = 0.9 * m + 0.1 * g;
        v = 0.999 * v + 0.001 * g * g;
        const double step =
            0.1 / (1 - pow(0.9, t)) * m / (sqrt(v) / sqrt(1 - pow(0.999, t)) + 1e-8);
        dw = dw * (1 - 0.1 * 0.01) - step;
        db -= step;
        for (int i = 0; i < 37; i++)
            near1("w", i, (double)w[i], dw, 1e-6);
        near1("b", 0, (double)b[0], db, 1e-6);
        if (t == 1) /* the first step is lr * sign(g) */
            near1("closed form", 0, (double)b[0], -2.1, 1e-6);
    }
    assert_int_equal(opt.step, 5);
    pd_adamw_release(&opt);
    pd_params_release(&ps);
}
static void test_adamw(void **state)
{
    everywhere(adamw_body);
}

static void test_clip(void **state)
{
    assert_true(pd_clip_scale(0.5, 1.0) == 1.0);
    assert_true(pd_clip_scale(3.0, 1.0) == 1.0 / (3.0 + 1e-6));
    assert_true(pd_clip_scale(3.0, 0.0) == 1.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),     cmocka_unit_test(test_norm_and_finiteness),
        cmocka_unit_test(test_no_memory), cmocka_unit_test(test_adamw),
        cmocka_unit_test(test_clip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
