/* The engine under many callers: each hears what it would hear alone; who cancels is let go; a step
 * that fails fails those who were in it and nobody after. */
#pragma GCC diagnostic ignored "-Wunused-function" /* the twin is for lm */
#include "../lm/tiny_model.h"

#include "base/time.h"
#include "gen/engine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum { CALLERS = 10, ROUNDS = 3, MAX_NEW = 16 };

static struct pd_model *model;
static struct pd_decoder *dec;
static struct pd_engine *engine;

static int setup(void **state)
{
    struct pd_decoder_opts opts = {.compute = PD_COMPUTE_F32};
    struct pd_engine_opts eo = {.batch = 8};
    struct pd_err err;
    model = tiny_make(&tiny_specs[0], 8);
    if (pd_decoder_new(model, &opts, &dec, &err) != PD_OK ||
        pd_engine_start(&engine, dec, &eo, &err) != PD_OK)
        fail_msg("%s", err.msg);
    return 0;
}

static int teardown(void **state)
{
    pd_engine_stop(engine);
    pd_decoder_free(dec);
    tiny_free(model);
    return 0;
}

static struct pd_ask ask_of(const struct pd_id_span *prompts, size_t n_prompts, uint64_t seed)
{
    struct pd_ask ask = {.prompts = prompts,
                         .n_prompts = n_prompts,
                         .n = 2,
                         .seed = seed,
                         .max_new = MAX_NEW,
                         .top_logprobs = (int64_t)(seed % 3)};
    pd_sampling_default(&ask.sampling);
    ask.sampling.temperature = 0.5 + (double)(seed % 4) / 2;
    ask.sampling.greedy = seed % 5 == 0;
    return ask;
}

static struct pd_call *begin(const struct pd_ask *ask)
{
    struct pd_call *c;
    struct pd_err err;
    if (pd_engine_ask(engine, ask, &c, &err) != PD_OK)
        fail_msg("%s", err.msg);
    return c;
}

static void finish(struct pd_call *c)
{
    while (!pd_call_wait(c, 1000))
        pd_call_unlock(c);
    pd_call_unlock(c);
}

static const int32_t words[] = {5, 6, 7, 8, 9, 10, 11, 12};
static const struct pd_id_span two[] = {{words, 5}, {words + 2, 3}};

struct caller {
    pthread_t thread;
    uint64_t seed;
    struct pd_call *want;
    int bad;
};

static void *caller_main(void *arg)
{
    struct caller *me = arg;
    for (int r = 0; r < ROUNDS; r++) {
        struct pd_ask ask = ask_of(two, 2, me->seed);
        struct pd_call *c = begin(&ask);
        if ((r + (int)me->seed) % 3 == 0) { /* hangs up somewhere in the middle */
            (void)pd_call_wait(c, (int)me->seed);
            pd_call_unlock(c);
            pd_call_end(c);
            continue;
        }
        finish(c);
        for (size_t i = 0; i < c->n_choices; i++) {
            const struct pd_choice *a = &c->choices[i], *b = &me->want->choices[i];
            me->bad += c->rc != PD_OK || a->n != b->n || a->finish != b->finish ||
                       memcmp(a->ids, b->ids, (size_t)a->n * sizeof *a->ids) != 0;
        }
        pd_call_end(c);
    }
    return NULL;
}

static void test_many_callers(void **state)
{
    struct caller callers[CALLERS] = {0};
    bool differ = false;
    for (int i = 0; i < CALLERS; i++) {
        struct pd_ask ask = ask_of(two, 2, (uint64_t)i);
        callers[i].seed = (uint64_t)i;
        callers[i].want = begin(&ask);
        finish(callers[i].want); /* alone */
        const struct pd_choice *a = callers[i].want->choices;
        assert_int_equal(callers[i].want->n_done, 4);
        assert_true(a->n >= 1 && a->n <= MAX_NEW && a->done);
        for (int64_t t = 0; t < a->n && ask.top_logprobs; t++)
            assert_true(a->top[t * ask.top_logprobs].logprob >= a->logprobs[t]);
        differ |= i > 0 && a->ids[0] != callers[0].want->choices[0].ids[0];
    }
    assert_true(differ);
    for (int i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_create(&callers[i].thread, NULL, caller_main, &callers[i]), 0);
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(callers[i].thread, NULL);
        assert_int_equal(callers[i].bad, 0);
        pd_call_end(callers[i].want);
    }
    struct pd_engine_stats st = {.running = 1};
    for (int i = 0; i < 100 && st.running + st.waiting + st.calls > 0; i++) {
        pd_sleep_ms(20);
        pd_engine_stats(engine, &st);
    }
    assert_int_equal(st.running + st.waiting + st.calls, 0);
    assert_true(st.new_tokens > 0 && st.prompt_tokens > 0);
}

static void test_refusals(void **state)
{
    static const int32_t big[TINY_CTX] = {0}, strange[] = {1, TINY_V};
    const struct pd_id_span bad[] = {{big, 0}, {big, TINY_CTX}, {strange, 2}};
    struct pd_call *c;
    struct pd_err err;
    for (int i = 0; i < 3; i++) {
        struct pd_ask ask = ask_of(&bad[i], 1, 1);
        assert_int_equal(pd_engine_ask(engine, &ask, &c, &err), PD_INVALID);
    }
    struct pd_ask ask = ask_of(two, 1, 1);
    ask.sampling.temperature = 0;
    assert_int_equal(pd_engine_ask(engine, &ask, &c, &err), PD_INVALID);
}

/* Dynamic rope scaling reads past max_positions, here as in `podium generate`. */
static void test_stretched_context(void **state)
{
    static const int32_t ids[TINY_CTX + 1] = {1, 2, 3};
    const struct pd_id_span prompt = {ids, TINY_CTX + 1};
    struct pd_decoder_opts opts = {.compute = PD_COMPUTE_F32};
    struct pd_engine_opts eo = {.batch = 2};
    struct pd_model *m = tiny_make(&tiny_specs[0], 8);
    struct pd_decoder *d;
    struct pd_engine *e;
    struct pd_call *c;
    struct pd_err err;
    m->cfg.rope.scaling = PD_LM_SCALE_DYNAMIC;
    m->cfg.rope.factor = 2;
    assert_int_equal(pd_config_context(&m->cfg), 2 * TINY_CTX);
    assert_int_equal(pd_decoder_new(m, &opts, &d, &err), PD_OK);
    assert_int_equal(pd_engine_start(&e, d, &eo, &err), PD_OK);
    struct pd_ask ask = ask_of(&prompt, 1, 1);
    assert_int_equal(pd_engine_ask(e, &ask, &c, &err), PD_OK);
    finish(c);
    assert_int_equal(c->rc, PD_OK);
    pd_call_end(c);
    pd_engine_stop(e);
    pd_decoder_free(d);
    tiny_free(m);
}

static void test_a_failed_step(void **state)
{
    struct pd_ask ask = ask_of(two, 2, 3);
    float *norm = (float *)model->final_norm.w->data, kept = norm[0];
    norm[0] = NAN; /* the engine is idle: it does not read it now */
    struct pd_call *a = begin(&ask), *b = begin(&ask);
    finish(a);
    finish(b);
    assert_int_equal(a->rc, PD_NONFINITE);
    assert_int_equal(b->rc, PD_NONFINITE);
    assert_true(strlen(a->err.msg) > 0);
    pd_call_end(a);
    pd_call_end(b);
    norm[0] = kept;
    struct pd_call *c = begin(&ask);
    finish(c);
    assert_int_equal(c->rc, PD_OK);
    pd_call_end(c);
}

/* A caller that does not read is dropped before its tokens pile up; one that does is not. */
static void test_slow_reader(void **state)
{
    struct pd_engine_opts eo = {.batch = 8, .max_unread = 20};
    struct pd_ask ask = ask_of(two, 2, 3);
    struct pd_call *slow, *quick;
    struct pd_engine *e;
    struct pd_err err;
    ask.n = 4;
    assert_int_equal(pd_engine_start(&e, dec, &eo, &err), PD_OK);
    assert_int_equal(pd_engine_ask(e, &ask, &slow, &err), PD_OK);
    struct pd_engine_stats st = {.calls = 1};
    for (int i = 0; i < 500 && (i == 0 || st.new_tokens == 0 || st.calls > 0); i++) {
        pd_sleep_ms(20);
        pd_engine_stats(e, &st);
    }
    assert_int_equal(st.calls, 0);
    finish(slow);
    assert_int_equal(slow->rc, PD_BUSY);
    assert_true(slow->n_done < slow->n_choices);
    assert_non_null(strstr(slow->err.msg, "too slow"));
    ask.n = 1;
    ask.max_new = 9; /* 18 tokens in all */
    assert_int_equal(pd_engine_ask(e, &ask, &quick, &err), PD_OK);
    finish(quick);
    assert_int_equal(quick->rc, PD_OK);
    pd_call_end(slow);
    pd_call_end(quick);
    pd_engine_stop(e);
}

/* Stopped in the middle: nobody waits for ever. */
static void test_stop(void **state)
{
    struct pd_ask ask = ask_of(two, 2, 3);
    struct pd_call *calls[CALLERS];
    for (int i = 0; i < CALLERS; i++)
        calls[i] = begin(&ask);
    pd_engine_stop(engine);
    engine = NULL;
    for (int i = 0; i < CALLERS; i++) {
        finish(calls[i]);
        assert_true(calls[i]->rc == PD_OK || calls[i]->rc == PD_INTERRUPTED);
        pd_call_end(calls[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_many_callers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
        cmocka_unit_test(test_stretched_context),
        cmocka_unit_test_setup_teardown(test_a_failed_step, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow_reader, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stop, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
