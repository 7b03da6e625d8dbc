/* The sampler against naive twins that sort the whole vocabulary in double precision. */
#include "lm/sampler.h"
#include "lm/vocab.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { V = 5003 }; /* not a multiple of anything */

struct twin {
    double z, p, shift;
    int id;
    bool keep;
};

static int by_z_desc(const void *a, const void *b)
{
    const struct twin *x = a, *y = b;
    return x->z > y->z ? -1 : x->z < y->z ? 1 : x->id - y->id;
}
static int by_shift(const void *a, const void *b)
{
    const struct twin *x = a, *y = b;
    return x->shift < y->shift ? -1 : x->shift > y->shift ? 1 : x->id - y->id;
}

static void softmax(struct twin *t)
{
    double max = -INFINITY, sum = 0;
    for (int i = 0; i < V; i++)
        if (t[i].keep && t[i].z > max)
            max = t[i].z;
    for (int i = 0; i < V; i++)
        sum += t[i].p = t[i].keep ? exp(t[i].z - max) : 0;
    for (int i = 0; i < V; i++)
        t[i].p /= sum;
}

/* The warpers as the table of Hugging Face semantics states them; p (V) out. */
static void naive(const struct pd_sampling *how, const float *logits, double *p)
{
    struct twin *t = calloc(V, sizeof *t);
    for (int i = 0; i < V; i++)
        t[i] = (struct twin){.z = logits[i] / (float)how->temperature, .id = i, .keep = true};
    for (int i = 0; i < V; i++)
        t[i].keep = logits[i] > -INFINITY;
    qsort(t, V, sizeof *t, by_z_desc);
    if (how->top_k)
        for (int i = 0; i < V; i++)
            if (t[i].z < t[how->top_k - 1].z)
                t[i].keep = false;
    softmax(t);
    if (how->top_p < 1) {
        double before = 0;
        for (int i = 0; i < V; i++) {
            bool keep = i == 0 || before < how->top_p;
            before += t[i].p;
            t[i].keep = t[i].keep && keep;
        }
        softmax(t);
    }
    if (how->min_p > 0) {
        double max = t[0].p;
        for (int i = 0; i < V; i++)
            t[i].keep = t[i].keep && t[i].p >= how->min_p * max;
        softmax(t);
    }
    if (how->typical_p < 1) {
        double ent = 0, sum = 0;
        for (int i = 0; i < V; i++)
            ent -= t[i].p > 0 ? t[i].p * log(t[i].p) : 0;
        for (int i = 0; i < V; i++)
            t[i].shift = t[i].p > 0 ? fabs(-log(t[i].p) - ent) : INFINITY;
        qsort(t, V, sizeof *t, by_shift);
        int last = 0;
        for (int i = 0; i < V; i++) {
            sum += t[i].p;
            if (sum < how->typical_p && last < V - 1)
                last = i + 1;
        }
        for (int i = 0; i < V; i++)
            t[i].keep = t[i].keep && t[i].shift <= t[last].shift;
        softmax(t);
    }
    for (int i = 0; i < V; i++)
        p[t[i].id] = t[i].p;
    free(t);
}

static void random_logits(struct pd_rng *rng, float *x, bool ties)
{
    for (int i = 0; i < V; i++) {
        x[i] = (float)(3 * pd_rng_normal(rng));
        if (ties)
            x[i] = roundf(x[i] * 4) / 4;
    }
}

static struct pd_sampler *make(void)
{
    struct pd_sampler *s;
    assert_int_equal(pd_sampler_new(V, &s, NULL), PD_OK);
    return s;
}

static void test_distribution(void **state)
{
    struct pd_rng rng;
    pd_rng_seed(&rng, 3, 0);
    struct pd_sampler *s = make();
    float x[V];
    double want[V], got[V];
    const struct pd_sampling hows[] = {
        {.temperature = 1, .top_k = 10, .top_p = 1, .typical_p = 1, .repetition_penalty = 1},
        {.temperature = 0.7, .top_k = 50, .top_p = 0.9, .typical_p = 1, .repetition_penalty = 1},
        {.temperature = 1.3, .top_k = 0, .top_p = 0.8, .typical_p = 1, .repetition_penalty = 1},
        {.temperature = 2.5, .top_k = 0, .top_p = 0.99, .typical_p = 1, .repetition_penalty = 1},
        {.temperature = 1,
         .top_k = 0,
         .top_p = 1,
         .min_p = 0.05,
         .typical_p = 1,
         .repetition_penalty = 1},
        {.temperature = 1,
         .top_k = 400,
         .top_p = 0.95,
         .min_p = 0.02,
         .typical_p = 0.7,
         .repetition_penalty = 1},
        {.temperature = 1, .top_k = 0, .top_p = 1, .typical_p = 0.4, .repetition_penalty = 1},
        {.temperature = 0.9, .top_k = 0, .top_p = 1, .typical_p = 1, .repetition_penalty = 1},
        {.temperature = 1, .top_k = 1, .top_p = 1, .typical_p = 1, .repetition_penalty = 1},
        {.temperature = 1, .top_k = 4000, .top_p = 1, .typical_p = 1, .repetition_penalty = 1},
    };
    for (size_t h = 0; h < sizeof hows / sizeof *hows; h++)
        for (int round = 0; round < 6; round++) {
            /* ties only where the order among equals cannot matter: top-k keeps them all */
            random_logits(&rng, x, round % 2 && hows[h].top_p == 1 && hows[h].typical_p == 1);
            naive(&hows[h], x, want);
            const struct pd_candidate *c;
            int64_t n;
            assert_int_equal(
                pd_sampler_distribution(s, &hows[h], x, (struct pd_id_span){0}, 0, &c, &n, NULL),
                PD_OK);
            memset(got, 0, sizeof got);
            for (int64_t i = 0; i < n; i++) {
                got[c[i].id] = c[i].p;
                assert_true(i == 0 || c[i].p <= c[i - 1].p);
            }
            for (int i = 0; i < V; i++)
                if (fabs(got[i] - want[i]) > 1e-5)
                    fail_msg("setting %zu: p[%d] is %g, want %g", h, i, got[i], want[i]);
        }
    pd_sampler_free(s);
}

static void test_processors(void **state)
{
    struct pd_sampler *s = make();
    float x[V];
    for (int i = 0; i < V; i++)
        x[i] = -5;
    x[1] = 4, x[2] = 3, x[3] = -1, x[4] = 2, x[7] = 8;
    int32_t eos[] = {7}, bad2[] = {2, 4}, bad1[] = {7}, ctx[] = {1, 3, 1, 2};
    struct pd_id_span bad[] = {{bad2, 2}, {bad1, 1}};
    struct pd_sampling how;
    pd_sampling_default(&how);
    how.top_k = 0;
    how.repetition_penalty = 2;
    how.no_repeat_ngram = 2; /* "1 3" and "3 1" and "1 2" were seen; after 2 nothing is banned */
    how.min_new_tokens = 3;
    how.eos = (struct pd_id_span){eos, 1};
    how.bad_words = bad;
    how.n_bad_words = 2;
    const struct pd_candidate *c;
    int64_t n;
    float y[V];
    memcpy(y, x, sizeof y);
    assert_int_equal(
        pd_sampler_distribution(s, &how, y, (struct pd_id_span){ctx, 4}, 2, &c, &n, NULL), PD_OK);
    assert_float_equal(y[1], 2, 0); /* 4 / 2, once though it stands twice */
    assert_float_equal(y[2], 1.5, 0);
    assert_float_equal(y[3], -2, 0); /* -1 * 2 */
    assert_true(y[4] == -INFINITY);  /* bad word 2 4 */
    assert_true(y[7] == -INFINITY);  /* eos too early */
    assert_int_equal(c[0].id, 1);
    memcpy(y, x, sizeof y);
    assert_int_equal(
        pd_sampler_distribution(s, &how, y, (struct pd_id_span){ctx, 3}, 3, &c, &n, NULL), PD_OK);
    assert_true(y[3] == -INFINITY); /* 1 3 was there */
    assert_float_equal(y[7], 8, 0); /* eos is due, and as a bad word it is let through */
    assert_float_equal(y[4], 2, 0);
    pd_sampler_free(s);
}

/* Draws follow the distribution: each frequency within 5 standard errors. */
static void test_draws(void **state)
{
    struct pd_sampler *s = make();
    struct pd_rng rng;
    pd_rng_seed(&rng, 5, 9);
    float x[V], y[V];
    random_logits(&rng, x, false);
    struct pd_sampling hows[3];
    for (int h = 0; h < 3; h++) {
        pd_sampling_default(&hows[h]);
        hows[h].top_k = h == 0 ? 8 : 0;
        hows[h].temperature = h == 2 ? 0.5 : 1;
    }
    for (int h = 0; h < 3; h++) {
        double p[V];
        int count[V] = {0}, N = 20000;
        naive(&hows[h], x, p);
        for (int i = 0; i < N; i++) {
            struct pd_draw d;
            memcpy(y, x, sizeof y);
            assert_int_equal(
                pd_sampler_draw(s, &hows[h], y, (struct pd_id_span){0}, 0, &rng, &d, NULL), PD_OK);
            count[d.id]++;
            assert_float_equal(d.logprob, (float)log(p[d.id]), 1e-4);
        }
        for (int i = 0; i < V; i++)
            assert_true(fabs(count[i] - N * p[i]) <= 5 * sqrt(N * p[i] * (1 - p[i])) + 4);
    }
    pd_sampler_free(s);
}

static void test_raw_logprob(void **state)
{
    struct pd_sampler *s = make();
    struct pd_rng rng;
    pd_rng_seed(&rng, 6, 0);
    float x[V], y[V];
    random_logits(&rng, x, false);
    double sum = 0;
    for (int i = 0; i < V; i++)
        sum += exp(x[i]);
    struct pd_sampling how;
    pd_sampling_default(&how);
    how.repetition_penalty = 1.5;
    int32_t ctx[V];
    for (int i = 0; i < V; i++)
        ctx[i] = i; /* all of them are penalised */
    for (int greedy = 0; greedy < 2; greedy++) {
        how.greedy = greedy;
        struct pd_draw d;
        memcpy(y, x, sizeof y);
        assert_int_equal(
            pd_sampler_draw(s, &how, y, (struct pd_id_span){ctx, V}, 0, &rng, &d, NULL), PD_OK);
        assert_float_equal(d.raw_logprob, x[d.id] - (float)log(sum), 1e-4);
    }
    pd_sampler_free(s);
}

static void test_not_finite(void **state)
{
    struct pd_sampler *s = make();
    struct pd_rng rng;
    pd_rng_seed(&rng, 6, 0);
    float x[V] = {0};
    struct pd_sampling how;
    pd_sampling_default(&how);
    struct pd_draw d;
    x[V - 1] = NAN;
    assert_int_equal(pd_sampler_draw(s, &how, x, (struct pd_id_span){0}, 0, &rng, &d, NULL),
                     PD_NONFINITE);
    x[V - 1] = INFINITY;
    assert_int_equal(pd_sampler_draw(s, &how, x, (struct pd_id_span){0}, 0, &rng, &d, NULL),
                     PD_NONFINITE);
    pd_sampler_free(s);
}

/* s - presence * [c > 0] - frequency * c over the answer alone, after the repetition penalty over
 * everything; the raw log-prob does not see them. */
static void test_presence(void **state)
{
    static float logits[V], x[V];
    int32_t ids[40];
    struct pd_rng rng, draws;
    struct pd_sampler *s = make();
    pd_rng_seed(&rng, 12, 0);
    pd_rng_seed(&draws, 12, 1);
    for (int round = 0; round < 60; round++) {
        int n = 1 + (int)pd_rng_below(&rng, 40), n_new = (int)pd_rng_below(&rng, (uint64_t)n + 1);
        struct pd_sampling how;
        pd_sampling_default(&how);
        how.greedy = true;
        how.presence_penalty = 4 * pd_rng_f64(&rng) - 2;
        how.frequency_penalty = 4 * pd_rng_f64(&rng) - 2;
        how.repetition_penalty = round % 2 ? 1.3 : 1;
        random_logits(&rng, logits, false);
        for (int i = 0; i < n; i++)
            ids[i] = (int32_t)pd_rng_below(&rng, 6);
        for (int i = 0; i < 6; i++)
            logits[i] = 12 + (float)pd_rng_f64(&rng); /* one of them wins, whatever the penalty */
        int want = 0, count[6] = {0}, seen[6] = {0};
        for (int i = 0; i < n; i++)
            seen[ids[i]] = 1;
        for (int i = n - n_new; i < n; i++)
            count[ids[i]]++;
        double z[6], lse = 0;
        for (int i = 0; i < 6; i++) {
            z[i] = logits[i] / (seen[i] && round % 2 ? 1.3 : 1);
            z[i] -= (count[i] > 0) * how.presence_penalty + count[i] * how.frequency_penalty;
            want = z[i] > z[want] ? i : want;
        }
        double best = z[want];
        for (int i = 6; i < V; i++)
            if (logits[i] > best) {
                best = logits[i];
                want = i;
            }
        for (int i = 0; i < V; i++)
            lse += exp(logits[i]);
        struct pd_draw d;
        memcpy(x, logits, sizeof x);
        assert_int_equal(
            pd_sampler_draw(s, &how, x, (struct pd_id_span){ids, n}, n_new, &draws, &d, NULL),
            PD_OK);
        assert_int_equal(d.id, want);
        assert_float_equal(d.raw_logprob, logits[want] - (float)log(lse), 1e-4);
        struct pd_top top[3];
        pd_sampler_top(s, logits, 3, top);
        for (int k = 0; k < 3; k++) {
            int above = 0;
            for (int i = 0; i < V; i++)
                above += logits[i] > logits[top[k].id];
            assert_int_equal(above, k);
            assert_float_equal(top[k].logprob, logits[top[k].id] - (float)log(lse), 1e-4);
        }
    }
    pd_sampler_free(s);
}

/* Settings may forbid every token, which is not the model's fault. */
static void test_all_forbidden(void **state)
{
    struct pd_sampler *s = make();
    struct pd_rng rng;
    pd_rng_seed(&rng, 9, 0);
    float x[V] = {0};
    int32_t ctx[V];
    for (int i = 0; i < V; i++)
        ctx[i] = i;
    struct pd_sampling how;
    struct pd_draw d;
    struct pd_err err = {0};
    pd_sampling_default(&how);
    how.no_repeat_ngram = 1;
    how.min_new_tokens = 3;
    assert_int_equal(pd_sampler_draw(s, &how, x, (struct pd_id_span){ctx, V}, 0, &rng, &d, &err),
                     PD_INVALID);
    assert_non_null(strstr(err.msg, "--no-repeat-ngram-size"));
    assert_non_null(strstr(err.msg, "--min-new-tokens"));
    assert_null(strstr(err.msg, "--bad-words"));
    pd_sampler_free(s);
}

/* However cold: the likeliest, or any of those that tie. */
static void test_cold(void **state)
{
    static const double temperatures[] = {1e-10, 1e-30, 1e-39, 1e-45, 1e-300};
    struct pd_sampler *s = make();
    struct pd_rng rng;
    pd_rng_seed(&rng, 10, 0);
    float x[V], y[V];
    for (int round = 0; round < 200; round++) {
        struct pd_sampling how;
        struct pd_draw d;
        const struct pd_candidate *c;
        int64_t n;
        random_logits(&rng, x, false);
        x[7] = x[4000] = 30;
        pd_sampling_default(&how);
        how.temperature = temperatures[round % 5];
        how.top_k = round % 2 ? 50 : 0;
        how.top_p = round % 3 ? 1 : 0.9;
        how.min_p = round % 7 ? 0 : 0.1;
        how.typical_p = round % 11 ? 1 : 0.9;
        memcpy(y, x, sizeof y);
        assert_int_equal(pd_sampler_draw(s, &how, y, (struct pd_id_span){0}, 0, &rng, &d, NULL),
                         PD_OK);
        assert_true(d.id == 7 || d.id == 4000);
        assert_float_equal(d.logprob, logf(0.5f), 1e-5);
        memcpy(y, x, sizeof y);
        assert_int_equal(
            pd_sampler_distribution(s, &how, y, (struct pd_id_span){0}, 0, &c, &n, NULL), PD_OK);
        assert_int_equal(n, 2);
    }
    pd_sampler_free(s);
}

static void test_penalty_bounds(void **state)
{
    struct pd_sampling how;
    pd_sampling_default(&how);
    for (double x = 0.01; x <= 100; x *= 10) {
        how.repetition_penalty = x;
        assert_int_equal(pd_sampling_check(&how, NULL), PD_OK);
    }
    const double bad[] = {0, -1, 0.009, 101, 1e300, INFINITY, NAN};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        how.repetition_penalty = bad[i];
        assert_int_equal(pd_sampling_check(&how, NULL), PD_INVALID);
    }
}

static void test_kth(void **state)
{
    struct pd_rng rng;
    pd_rng_seed(&rng, 8, 0);
    for (int round = 0; round < 300; round++) {
        int n = 1 + (int)pd_rng_below(&rng, 200), k = 1 + (int)pd_rng_below(&rng, (uint64_t)n);
        float x[200] = {0};
        for (int i = 0; i < n; i++)
            x[i] = (float)pd_rng_below(&rng, 50);
        int greater = 0, equal = 0;
        float y[200];
        memcpy(y, x, sizeof y);
        float kth = pd__kth_largest(y, n, k);
        for (int i = 0; i < n; i++) {
            greater += x[i] > kth;
            equal += x[i] == kth;
        }
        assert_true(greater < k && greater + equal >= k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distribution), cmocka_unit_test(test_processors),
        cmocka_unit_test(test_draws),        cmocka_unit_test(test_raw_logprob),
        cmocka_unit_test(test_not_finite),   cmocka_unit_test(test_kth),
        cmocka_unit_test(test_presence),     cmocka_unit_test(test_all_forbidden),
        cmocka_unit_test(test_cold),         cmocka_unit_test(test_penalty_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
