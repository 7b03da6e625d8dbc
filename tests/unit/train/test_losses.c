/* Losses, schedules, advantages and statistics against closed forms and naive double code. */
#include "train/bt.h"
#include "train/ppo_math.h"
#include "train/schedule.h"
#include "train/stats.h"
#include "base/rng.h"

#include <math.h>
#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#define NEAR(a, b, tol)                                                                            \
    do {                                                                                           \
        double a_ = (a), b_ = (b);                                                                 \
        if (!(fabs(a_ - b_) <= (tol)))                                                             \
            fail_msg("%s = %.17g, expected %.17g", #a, a_, b_);                                    \
    } while (0)

static void bradley_terry_closed_form(void **state)
{
    double dc, dr;
    NEAR(pd_bt_loss(0, 0, 0, 1, 0, &dc, &dr), log(2), 1e-15);
    NEAR(dc, -0.5, 1e-15);
    NEAR(dr, 0.5, 1e-15);
    NEAR(pd_bt_loss(1.5, 0.5, 0.25, 2, 0, &dc, &dr), 2 * log(1 + exp(-0.75)), 1e-14);
    /* far out it is linear on one side and nothing on the other, never inf */
    NEAR(pd_bt_loss(-800, 800, 0, 1, 0, &dc, &dr), 1600, 1e-9);
    NEAR(dc, -1, 1e-12);
    NEAR(pd_bt_loss(800, -800, 0, 1, 0, &dc, &dr), 0, 1e-300);
}

static void bradley_terry_gradient(void **state)
{
    struct pd_rng rng;
    pd_rng_seed(&rng, 1, 0);
    for (int i = 0; i < 200; i++) {
        double c = 3 * pd_rng_normal(&rng), r = 3 * pd_rng_normal(&rng), m = pd_rng_f64(&rng);
        double w = pd_rng_f64(&rng) + 0.1, k = 0.1 * pd_rng_f64(&rng), h = 1e-5, dc, dr, x, y;
        pd_bt_loss(c, r, m, w, k, &dc, &dr);
        double nc = (pd_bt_loss(c + h, r, m, w, k, &x, &y) - pd_bt_loss(c - h, r, m, w, k, &x, &y));
        double nr = (pd_bt_loss(c, r + h, m, w, k, &x, &y) - pd_bt_loss(c, r - h, m, w, k, &x, &y));
        NEAR(dc, nc / (2 * h), 1e-7);
        NEAR(dr, nr / (2 * h), 1e-7);
    }
}

static void sums_are_named_as_trl_names_them(void **state)
{
    struct pd_bt_sums s = {0};
    pd_bt_add(&s, 1, -2, 0.1);
    pd_bt_add(&s, -1, 3, 0.2);
    pd_bt_add(&s, 0.5, 0.5, 0.3);
    assert_int_equal(s.n, 3);
    assert_int_equal(s.right, 1);
    assert_int_equal(s.ties, 1);
    NEAR(s.min_reward, -2, 0);
    NEAR(s.max_reward, 3, 0);
    NEAR(s.margin, 3 - 4 + 0, 1e-15);
    NEAR(s.reward, -1 + 2 + 1, 1e-15);
}

static void schedules(void **state)
{
    NEAR(pd_schedule_factor(PD_SCHEDULE_LINEAR, 0, 0, 10), 1, 0);
    NEAR(pd_schedule_factor(PD_SCHEDULE_LINEAR, 9, 0, 10), 0.1, 1e-15);
    NEAR(pd_schedule_factor(PD_SCHEDULE_LINEAR, 0, 4, 10), 0, 0);
    NEAR(pd_schedule_factor(PD_SCHEDULE_LINEAR, 3, 4, 10), 0.75, 0);
    NEAR(pd_schedule_factor(PD_SCHEDULE_LINEAR, 7, 4, 10), 0.5, 1e-15);
    NEAR(pd_schedule_factor(PD_SCHEDULE_LINEAR, 12, 4, 10), 0, 0);
    NEAR(pd_schedule_factor(PD_SCHEDULE_COSINE, 5, 0, 10), 0.5, 1e-15);
    NEAR(pd_schedule_factor(PD_SCHEDULE_COSINE, 6, 2, 10), 0.5, 1e-15);
    NEAR(pd_schedule_factor(PD_SCHEDULE_CONSTANT, 99, 2, 10), 1, 0);
    NEAR(pd_schedule_factor(PD_SCHEDULE_CONSTANT, 1, 2, 10), 0.5, 0);
}

static void kl_estimators(void **state)
{
    NEAR(pd_kl_estimate(PD_KL_K1, -1, -3), 2, 0);
    NEAR(pd_kl_estimate(PD_KL_K3, -1, -3), exp(-2) - 1 + 2, 1e-15);
    NEAR(pd_kl_estimate(PD_KL_K3, -3, -1), exp(2) - 1 - 2, 1e-14);
    NEAR(pd_kl_estimate(PD_KL_K1, -0.7, -0.7), 0, 0);
    NEAR(pd_kl_estimate(PD_KL_K3, -0.7, -0.7), 0, 0);
}

/* A_t = sum_k (gamma lambda)^k delta_{t+k}, written out. */
static void gae_against_its_definition(void **state)
{
    enum { N = 9 };
    struct pd_rng rng;
    double r[N], v[N], a[N], ret[N], gamma = 0.97, lambda = 0.9;
    pd_rng_seed(&rng, 7, 0);
    for (int t = 0; t < N; t++) {
        r[t] = pd_rng_normal(&rng);
        v[t] = pd_rng_normal(&rng);
    }
    pd_gae(r, v, N, gamma, lambda, a, ret);
    for (int t = 0; t < N; t++) {
        double sum = 0;
        for (int k = t; k < N; k++) {
            double next = k + 1 < N ? v[k + 1] : 0;
            sum += pow(gamma * lambda, k - t) * (r[k] + gamma * next - v[k]);
        }
        NEAR(a[t], sum, 1e-12);
        NEAR(ret[t], sum + v[t], 1e-12);
    }
    /* with lambda = gamma = 1 the return is the sum of what is still to come */
    pd_gae(r, v, N, 1, 1, a, ret);
    double left = 0;
    for (int t = N - 1; t >= 0; t--) {
        left += r[t];
        NEAR(ret[t], left, 1e-12);
    }
}

static void whitening(void **state)
{
    double x[5] = {1, 2, 4, 8, 16}, y[5] = {1, 2, 4, 8, 16}, mean = 0, var = 0, one[1] = {3};
    pd_whiten(x, 5, true);
    for (int i = 0; i < 5; i++)
        mean += x[i] / 5;
    for (int i = 0; i < 5; i++)
        var += (x[i] - mean) * (x[i] - mean) / 4;
    NEAR(mean, 0, 1e-12);
    NEAR(var, 1, 1e-8);
    pd_whiten(y, 5, false);
    NEAR(y[0] - x[0], 6.2, 1e-9); /* the mean is put back */
    pd_whiten(one, 1, true);
    NEAR(one[0], 3, 0);
}

static void clipped_losses(void **state)
{
    struct pd_rng rng;
    bool clipped;
    double d, e;
    /* good action, ratio already above the clip: no more gradient */
    NEAR(pd_policy_loss(log(1.5), 0, 2, 0.2, &d, &clipped), -2.4, 1e-12);
    assert_true(clipped);
    NEAR(d, 0, 0);
    /* bad action, ratio above the clip: the unclipped loss is the larger and pulls back */
    NEAR(pd_policy_loss(log(1.5), 0, -2, 0.2, &d, &clipped), 3, 1e-12);
    assert_false(clipped);
    NEAR(d, 3, 1e-12);
    /* past the value clip but towards the return: the clipped error is the larger, no gradient */
    NEAR(pd_value_loss(1, 0, 3, 0.2, &d, &clipped), 0.5 * 2.8 * 2.8, 1e-12);
    assert_true(clipped);
    NEAR(d, 0, 0);
    NEAR(pd_value_loss(0.1, 0, 3, 0.2, &d, &clipped), 0.5 * 2.9 * 2.9, 1e-12);
    NEAR(d, -2.9, 1e-12);
    pd_rng_seed(&rng, 3, 0);
    for (int i = 0; i < 300; i++) {
        double lp = 0.3 * pd_rng_normal(&rng), old = 0.3 * pd_rng_normal(&rng), h = 1e-6;
        double adv = pd_rng_normal(&rng), ratio = exp(lp - old);
        if (fabs(ratio - 0.8) < 1e-3 || fabs(ratio - 1.2) < 1e-3)
            continue; /* the kink */
        pd_policy_loss(lp, old, adv, 0.2, &d, &clipped);
        double up = pd_policy_loss(lp + h, old, adv, 0.2, &e, &clipped);
        double down = pd_policy_loss(lp - h, old, adv, 0.2, &e, &clipped);
        NEAR(d, (up - down) / (2 * h), 1e-6);
    }
}

static void adaptive_coefficient(void **state)
{
    NEAR(pd_adaptive_kl(0.2, 6, 6, 10000, 100), 0.2, 0);
    NEAR(pd_adaptive_kl(0.2, 60, 6, 10000, 100), 0.2 * (1 + 0.2 * 100 / 10000), 1e-15);
    NEAR(pd_adaptive_kl(0.2, 0, 6, 10000, 100), 0.2 * (1 - 0.2 * 100 / 10000), 1e-15);
    NEAR(pd_adaptive_kl(0.2, 6.6, 6, 10000, 100), 0.2 * (1 + 0.1 * 100 / 10000), 1e-15);
}

static void intervals(void **state)
{
    /* 8 of 10: the textbook's Wilson interval */
    struct pd_interval i = pd_wilson(8, 10);
    NEAR(i.lo, 0.4902, 5e-5);
    NEAR(i.hi, 0.9433, 5e-5);
    i = pd_wilson(0, 20);
    NEAR(i.lo, 0, 1e-12);
    assert_true(i.hi > 0.1 && i.hi < 0.2);
    i = pd_wilson(0, 0);
    NEAR(i.lo, 0, 0);
    NEAR(i.hi, 1, 0);
    double x[200];
    struct pd_rng rng;
    pd_rng_seed(&rng, 5, 0);
    for (int k = 0; k < 200; k++)
        x[k] = 1 + pd_rng_normal(&rng);
    i = pd_bootstrap_mean(x, 200, 2000, 9);
    double mean = pd_mean(x, 200), se = 1 / sqrt(200);
    NEAR(i.lo, mean - 1.96 * se, 0.05);
    NEAR(i.hi, mean + 1.96 * se, 0.05);
}

static void correlation_and_calibration(void **state)
{
    double x[4] = {1, 2, 3, 4}, y[4] = {2, 4, 6, 8}, flat[4] = {1, 1, 1, 1}, z[4] = {1, -1, 1, -1};
    NEAR(pd_pearson(x, y, 4), 1, 1e-15);
    NEAR(pd_pearson(x, z, 4), -0.4472135955, 1e-9);
    assert_true(isnan(pd_pearson(x, flat, 4)));
    /* says 73% each time and is right three times of four */
    double m[4] = {1, 1, 1, -1};
    NEAR(pd_ece(m, 4), 0.75 - pd_sigmoid(1), 1e-12);
    double sure[2] = {40, -40};
    NEAR(pd_ece(sure, 2), 0.5, 1e-12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bradley_terry_closed_form),
        cmocka_unit_test(bradley_terry_gradient),
        cmocka_unit_test(sums_are_named_as_trl_names_them),
        cmocka_unit_test(schedules),
        cmocka_unit_test(kl_estimators),
        cmocka_unit_test(gae_against_its_definition),
        cmocka_unit_test(whitening),
        cmocka_unit_test(clipped_losses),
        cmocka_unit_test(adaptive_coefficient),
        cmocka_unit_test(intervals),
        cmocka_unit_test(correlation_and_calibration),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
