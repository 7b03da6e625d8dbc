/* The engine: answers do not depend on who runs beside them, on chunks, threads or memory; they
 * end where they should; their log-probs are the training forward's. */
#include "tiny_model.h"

#include "lm/generate.h"
#include "lm/heads.h"

#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum { N_PROMPTS = 7, N_ANSWERS = 3, MAX_PROMPT = 40, MAX_NEW = 12 };

struct setup {
    struct pd_model *model;
    struct pd_decoder *dec;
    int32_t ids[N_PROMPTS][MAX_PROMPT];
    struct pd_gen_prompt prompts[N_PROMPTS];
    int32_t eos[2];
};

static void setup(struct setup *s, int spec)
{
    static const int len[N_PROMPTS] = {5, 40, 1, 33, 17, 2, 32};
    struct pd_rng rng;
    pd_rng_seed(&rng, 21, 0);
    memset(s, 0, sizeof *s);
    s->model = tiny_make(&tiny_specs[spec], 8);
    struct pd_decoder_opts opts = {.compute = PD_COMPUTE_F32};
    assert_int_equal(pd_decoder_new(s->model, &opts, &s->dec, NULL), PD_OK);
    s->eos[0] = 3;
    s->eos[1] = 17;
    for (int i = 0; i < N_PROMPTS; i++) {
        for (int t = 0; t < len[i]; t++)
            s->ids[i][t] = (int32_t)pd_rng_below(&rng, TINY_V);
        s->prompts[i] = (struct pd_gen_prompt){.ids = s->ids[i],
                                               .n = len[i],
                                               .key = (uint64_t)i,
                                               .n_answers = N_ANSWERS,
                                               .max_new_tokens = MAX_NEW};
        pd_sampling_default(&s->prompts[i].sampling);
        s->prompts[i].sampling.top_k = 0;
        s->prompts[i].sampling.eos = (struct pd_id_span){s->eos, 2};
    }
}

static void teardown(struct setup *s)
{
    pd_decoder_free(s->dec);
    tiny_free(s->model);
}

static struct pd_gen_result generate(struct setup *s, const struct pd_gen_prompt *p, int64_t n,
                                     struct pd_gen_opts opts)
{
    struct pd_gen_result r;
    struct pd_err err;
    if (pd_generate(s->dec, p, n, &opts, &r, &err) != PD_OK)
        fail_msg("%s", err.msg);
    return r;
}

static void assert_same_answer(const struct pd_gen_answer *a, const struct pd_gen_answer *b)
{
    assert_int_equal(a->answer, b->answer);
    assert_int_equal(a->n, b->n);
    assert_int_equal(a->finish, b->finish);
    assert_memory_equal(a->ids, b->ids, (size_t)a->n * sizeof *a->ids);
    for (int64_t t = 0; t < a->n; t++) {
        assert_float_equal(a->logprobs[t], b->logprobs[t], 1e-4);
        assert_float_equal(a->raw_logprobs[t], b->raw_logprobs[t], 1e-4);
    }
}

static void assert_same(const struct pd_gen_result *a, const struct pd_gen_result *b)
{
    assert_int_equal(a->n, b->n);
    for (int64_t i = 0; i < a->n; i++)
        assert_same_answer(&a->answers[i], &b->answers[i]);
}

static void test_invariance(void **state)
{
    struct setup s;
    setup(&s, 0);
    struct pd_gen_opts base = {.seed = 7};
    struct pd_gen_result want = generate(&s, s.prompts, N_PROMPTS, base), got;
    bool differ = false;
    for (int64_t i = 1; i < want.n; i++)
        differ = differ || want.answers[i].n != want.answers[0].n ||
                 memcmp(want.answers[i].ids, want.answers[0].ids,
                        (size_t)want.answers[0].n * sizeof(int32_t)) != 0;
    assert_true(differ);

    int64_t page = 2 * 4 * TINY_L * 32 * s.model->cfg.n_kv_heads * TINY_D;
    const struct pd_gen_opts others[] = {
        {.seed = 7, .max_rows = 1},
        {.seed = 7, .max_rows = 4, .prefill_tokens = 8}, /* long prompts in chunks */
        {.seed = 7, .max_rows = 64, .prefill_tokens = 1},
        {.seed = 7, .max_rows = 5, .max_kv_bytes = 3 * page}, /* room for one answer at a time */
        {.seed = 7, .max_rows = 9, .max_kv_bytes = 7 * page},
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        got = generate(&s, s.prompts, N_PROMPTS, others[i]);
        assert_same(&want, &got);
        pd_gen_result_release(&got);
    }
    int threads = omp_get_max_threads();
    omp_set_num_threads(threads > 1 ? 1 : 2);
    got = generate(&s, s.prompts, N_PROMPTS, base);
    omp_set_num_threads(threads);
    assert_same(&want, &got);
    pd_gen_result_release(&got);

    /* another order of prompts, and answers asked for one by one */
    struct pd_gen_prompt back[N_PROMPTS], one = s.prompts[4];
    for (int i = 0; i < N_PROMPTS; i++)
        back[i] = s.prompts[N_PROMPTS - 1 - i];
    got = generate(&s, back, N_PROMPTS, base);
    for (int i = 0; i < N_PROMPTS; i++)
        for (int k = 0; k < N_ANSWERS; k++)
            assert_same_answer(&want.answers[i * N_ANSWERS + k],
                               &got.answers[(N_PROMPTS - 1 - i) * N_ANSWERS + k]);
    pd_gen_result_release(&got);
    one.n_answers = 1;
    one.first_answer = 2;
    got = generate(&s, &one, 1, base);
    assert_same_answer(&want.answers[4 * N_ANSWERS + 2], &got.answers[0]);
    pd_gen_result_release(&got);

    /* another seed says something else */
    got = generate(&s, s.prompts, N_PROMPTS, (struct pd_gen_opts){.seed = 8});
    differ = false;
    for (int64_t i = 0; i < want.n; i++)
        differ = differ || want.answers[i].ids[0] != got.answers[i].ids[0];
    assert_true(differ);
    pd_gen_result_release(&got);
    pd_gen_result_release(&want);
    teardown(&s);
}

/* Log-probs of the drawn tokens = those of the training forward over prompt and answer, at the
 * temperature and at 1; answers end at eos, which they hold, or at the length asked for. */
static void test_logprobs(void **state)
{
    int stopped = 0;
    for (int spec = 0; spec < TINY_SPECS; spec++) {
        struct setup s;
        setup(&s, spec);
        for (int i = 0; i < N_PROMPTS; i++)
            s.prompts[i].sampling.temperature = 0.7;
        struct pd_gen_result r =
            generate(&s, s.prompts, N_PROMPTS, (struct pd_gen_opts){.seed = 1});
        assert_int_equal(r.n, N_PROMPTS * N_ANSWERS);
        for (int64_t i = 0; i < r.n; i++) {
            const struct pd_gen_answer *a = &r.answers[i];
            const struct pd_gen_prompt *p = &s.prompts[i / N_ANSWERS];
            int32_t whole[MAX_PROMPT + MAX_NEW], rows[MAX_NEW];
            memcpy(whole, p->ids, (size_t)p->n * sizeof *whole);
            memcpy(whole + p->n, a->ids, (size_t)a->n * sizeof *whole);
            for (int64_t t = 0; t < a->n; t++) {
                bool eos = a->ids[t] == s.eos[0] || a->ids[t] == s.eos[1];
                assert_true(!eos || t == a->n - 1);
                rows[t] = (int32_t)(p->n - 1 + t);
            }
            bool eos_last = a->ids[a->n - 1] == s.eos[0] || a->ids[a->n - 1] == s.eos[1];
            assert_int_equal(a->finish, eos_last ? PD_FINISH_STOP : PD_FINISH_LENGTH);
            assert_true(eos_last || a->n == MAX_NEW);
            stopped += eos_last;
            struct pd_stream stream;
            pd_stream_init(&stream);
            pd_stream_add(&stream, -1, whole, p->n + a->n);
            const float *hidden;
            float lp[MAX_NEW];
            assert_int_equal(pd_decoder_forward(s.dec, &stream, false, &hidden, NULL), PD_OK);
            for (int raw = 0; raw < 2; raw++) {
                struct pd_logprob_items items = {rows, a->ids, a->n, raw ? 1.0f : 0.7f};
                assert_int_equal(
                    pd_head_logprob_forward(s.dec, hidden, &items, lp, NULL, NULL, NULL), PD_OK);
                for (int64_t t = 0; t < a->n; t++)
                    assert_float_equal((raw ? a->raw_logprobs : a->logprobs)[t], lp[t], 1e-4);
            }
            pd_stream_release(&stream);
        }
        pd_gen_result_release(&r);
        teardown(&s);
    }
    assert_true(stopped > TINY_SPECS);
}

static void test_greedy(void **state)
{
    struct setup s;
    setup(&s, 0);
    struct pd_gen_prompt p = s.prompts[0];
    p.sampling.greedy = true;
    p.sampling.eos.n = 0;
    struct pd_gen_result r = generate(&s, &p, 1, (struct pd_gen_opts){.seed = 1});
    assert_same_answer(&(struct pd_gen_answer){.answer = 0,
                                               .n = r.answers[1].n,
                                               .finish = r.answers[1].finish,
                                               .ids = r.answers[1].ids,
                                               .logprobs = r.answers[1].logprobs,
                                               .raw_logprobs = r.answers[1].raw_logprobs},
                       &r.answers[0]);
    /* each token is the twin's likeliest */
    struct twin t = twin_make(s.model);
    int32_t whole[MAX_PROMPT + MAX_NEW];
    memcpy(whole, p.ids, (size_t)p.n * sizeof *whole);
    for (int64_t k = 0; k < r.answers[0].n; k++) {
        double h[TWIN_T][TINY_H], best = -1e300, entropy;
        int64_t n = p.n + k;
        int arg = -1;
        twin_hidden(&t, whole, n, h);
        for (int v = 0; v < TINY_V; v++) {
            double lp = twin_logprob(&t, h[n - 1], v, 1, &entropy);
            if (lp > best) {
                best = lp;
                arg = v;
            }
        }
        assert_int_equal(r.answers[0].ids[k], arg);
        whole[n] = r.answers[0].ids[k];
    }
    twin_free(&t);
    pd_gen_result_release(&r);
    teardown(&s);
}

/* The context of the model ends an answer; a prompt that fills it is refused. */
static void test_context(void **state)
{
    struct setup s;
    setup(&s, 3);
    struct pd_gen_prompt p = s.prompts[1]; /* 40 tokens of a context of 64 */
    p.max_new_tokens = 1000;
    p.sampling.eos.n = 0;
    struct pd_gen_result r = generate(&s, &p, 1, (struct pd_gen_opts){.seed = 1});
    assert_int_equal(r.answers[0].n, TINY_CTX - 40);
    assert_int_equal(r.answers[0].finish, PD_FINISH_LENGTH);
    pd_gen_result_release(&r);
    int32_t big[TINY_CTX] = {0};
    p.ids = big;
    p.n = TINY_CTX;
    struct pd_gen_opts opts = {.seed = 1};
    assert_int_equal(pd_generate(s.dec, &p, 1, &opts, &r, NULL), PD_INVALID);
    p = s.prompts[1];
    opts.max_kv_bytes = 1; /* two pages are the least: one answer of this prompt needs three */
    assert_int_equal(pd_generate(s.dec, &p, 1, &opts, &r, NULL), PD_TOOBIG);
    p = s.prompts[0];
    p.sampling.temperature = 0;
    opts.max_kv_bytes = 0;
    assert_int_equal(pd_generate(s.dec, &p, 1, &opts, &r, NULL), PD_INVALID);
    teardown(&s);
}

struct watch {
    struct pd_gen *gen;
    struct setup *s;
    int done, added;
};

static void on_done(void *ctx, const struct pd_gen_prompt *p, const struct pd_gen_answer *a)
{
    struct watch *w = ctx;
    w->done++;
    assert_true(a->n <= 4);
    if (w->added++ < 5) { /* prompts may be added from here */
        struct pd_gen_prompt again = w->s->prompts[w->added % N_PROMPTS];
        again.n_answers = 1;
        assert_int_equal(pd_gen_add(w->gen, &again, NULL), PD_OK);
    }
}

static bool on_token(void *ctx, const struct pd_gen_prompt *p, const struct pd_gen_answer *a)
{
    return a->n == 4;
}

static void test_callbacks(void **state)
{
    struct setup s;
    setup(&s, 0);
    struct watch w = {.s = &s};
    struct pd_gen_opts opts = {.max_rows = 3, .done = on_done, .stop = on_token, .ctx = &w};
    assert_int_equal(pd_gen_new(s.dec, &opts, &w.gen, NULL), PD_OK);
    assert_int_equal(pd_gen_add(w.gen, &s.prompts[0], NULL), PD_OK);
    bool busy = true;
    while (busy)
        assert_int_equal(pd_gen_step(w.gen, &busy, NULL), PD_OK);
    assert_int_equal(w.done, N_ANSWERS + 5);
    pd_gen_free(w.gen);

    /* freed in the middle: nothing leaks (under ASan), nothing is called */
    assert_int_equal(pd_gen_new(s.dec, &opts, &w.gen, NULL), PD_OK);
    for (int i = 0; i < N_PROMPTS; i++)
        assert_int_equal(pd_gen_add(w.gen, &s.prompts[i], NULL), PD_OK);
    for (int i = 0; i < 6; i++)
        assert_int_equal(pd_gen_step(w.gen, &busy, NULL), PD_OK);
    assert_true(busy);
    pd_gen_free(w.gen);
    teardown(&s);
}

struct keep {
    const struct pd_gen_result *want;
    int done[N_PROMPTS];
};

static void on_kept(void *ctx, const struct pd_gen_prompt *p, const struct pd_gen_answer *a)
{
    struct keep *k = ctx;
    assert_same_answer(&k->want->answers[a->prompt * N_ANSWERS + (int64_t)a->answer], a);
    k->done[p->key]++;
}

/* Those that are cancelled, running or waiting, are heard of no more; the others say what they say
 * alone, and the memory is there for them. */
static void test_cancel(void **state)
{
    struct setup s;
    setup(&s, 0);
    int64_t page = 2 * 4 * TINY_L * 32 * s.model->cfg.n_kv_heads * TINY_D;
    for (int i = 0; i < N_PROMPTS; i++)
        s.prompts[i].user = &s.ids[i];
    struct pd_gen_result want = generate(&s, s.prompts, N_PROMPTS, (struct pd_gen_opts){.seed = 7});
    for (int steps = 0; steps < 9; steps++) {
        struct keep k = {.want = &want};
        struct pd_gen_opts opts = {
            .seed = 7, .max_rows = 4, .max_kv_bytes = 6 * page, .done = on_kept, .ctx = &k};
        struct pd_gen *g;
        bool busy = true;
        assert_int_equal(pd_gen_new(s.dec, &opts, &g, NULL), PD_OK);
        for (int i = 0; i < N_PROMPTS; i++)
            assert_int_equal(pd_gen_add(g, &s.prompts[i], NULL), PD_OK);
        for (int i = 0; i < steps; i++)
            assert_int_equal(pd_gen_step(g, &busy, NULL), PD_OK);
        int before[2] = {k.done[0], k.done[5]};
        pd_gen_cancel(g, s.prompts[0].user);
        pd_gen_cancel(g, s.prompts[5].user);
        pd_gen_cancel(g, "nobody");
        while (busy)
            assert_int_equal(pd_gen_step(g, &busy, NULL), PD_OK);
        for (int i = 0; i < N_PROMPTS; i++)
            assert_int_equal(k.done[i], i == 0 ? before[0] : i == 5 ? before[1] : N_ANSWERS);
        struct pd_gen_stats st;
        pd_gen_stats(g, &st);
        assert_int_equal(st.running + st.waiting, 0);
        pd_gen_free(g);
    }
    pd_gen_result_release(&want);
    teardown(&s);
}

/* The same prompt under several settings, added one after the other: what each says is what it says
 * alone, it is computed once, also where memory is short, and who is cancelled leaves it to the
 * others. */
static void test_shared_prompt(void **state)
{
    enum { SETTINGS = 3 };
    struct setup s;
    setup(&s, 0);
    int64_t page = 2 * 4 * TINY_L * 32 * s.model->cfg.n_kv_heads * TINY_D, tokens = 0;
    struct pd_gen_prompt all[N_PROMPTS * SETTINGS];
    int32_t copies[N_PROMPTS * SETTINGS][MAX_PROMPT];
    struct pd_gen_result alone[SETTINGS];
    for (int i = 0; i < N_PROMPTS * SETTINGS; i++) {
        all[i] = s.prompts[i / SETTINGS];
        all[i].first_answer = (uint64_t)(i % SETTINGS * N_ANSWERS);
        all[i].sampling.temperature = 0.5 + i % SETTINGS;
        all[i].user = &s.ids[i % SETTINGS];
        all[i].ids = memcpy(copies[i], all[i].ids, (size_t)all[i].n * sizeof(int32_t));
        tokens += i % SETTINGS ? 0 : all[i].n;
    }
    for (int k = 0; k < SETTINGS; k++) {
        struct pd_gen_prompt one[N_PROMPTS];
        for (int i = 0; i < N_PROMPTS; i++)
            one[i] = all[i * SETTINGS + k];
        alone[k] = generate(&s, one, N_PROMPTS, (struct pd_gen_opts){.seed = 7});
    }
    const struct pd_gen_opts how[] = {
        {.seed = 7}, {.seed = 7, .max_rows = 4, .max_kv_bytes = 4 * page, .prefill_tokens = 8}};
    for (int h = 0; h < 2; h++) {
        struct pd_gen_result r = generate(&s, all, N_PROMPTS * SETTINGS, how[h]);
        for (int64_t i = 0; i < r.n; i++) {
            int64_t p = i / N_ANSWERS, a = i % N_ANSWERS;
            assert_same_answer(&alone[p % SETTINGS].answers[p / SETTINGS * N_ANSWERS + a],
                               &r.answers[i]);
        }
        pd_gen_result_release(&r);
    }
    for (int steps = 0; steps < 8; steps++) {
        struct pd_gen_opts opts = how[steps % 2];
        struct pd_gen *g;
        struct pd_gen_stats st;
        bool busy = true;
        assert_int_equal(pd_gen_new(s.dec, &opts, &g, NULL), PD_OK);
        for (int i = 0; i < N_PROMPTS * SETTINGS; i++)
            assert_int_equal(pd_gen_add(g, &all[i], NULL), PD_OK);
        for (int i = 0; i < steps; i++)
            assert_int_equal(pd_gen_step(g, &busy, NULL), PD_OK);
        pd_gen_cancel(g, &s.ids[0]); /* the one that the pages were promised to */
        for (int i = 0; i < N_PROMPTS * SETTINGS; i += SETTINGS)
            memset(copies[i], 0x7f, sizeof copies[i]); /* not borrowed any more */
        while (busy)
            assert_int_equal(pd_gen_step(g, &busy, NULL), PD_OK);
        for (int i = 0; i < N_PROMPTS * SETTINGS; i += SETTINGS)
            memcpy(copies[i], copies[i + 1], sizeof copies[i]);
        pd_gen_stats(g, &st);
        assert_int_equal(st.prompt_tokens, tokens);
        assert_int_equal(st.running + st.waiting, 0);
        pd_gen_free(g);
    }
    for (int k = 0; k < SETTINGS; k++)
        pd_gen_result_release(&alone[k]);
    teardown(&s);
}

/* The seed of a prompt and the engine's are one sum. */
static void test_prompt_seed(void **state)
{
    struct setup s;
    setup(&s, 0);
    struct pd_gen_result want = generate(&s, s.prompts, N_PROMPTS, (struct pd_gen_opts){.seed = 9});
    for (int i = 0; i < N_PROMPTS; i++)
        s.prompts[i].seed = 5;
    struct pd_gen_result got = generate(&s, s.prompts, N_PROMPTS, (struct pd_gen_opts){.seed = 4});
    assert_same(&want, &got);
    pd_gen_result_release(&want);
    pd_gen_result_release(&got);
    teardown(&s);
}

/* The likeliest tokens at each step: those of the greedy choice first, all of them sum to one. */
static void test_top_logprobs(void **state)
{
    struct setup s;
    setup(&s, 0);
    struct pd_gen_prompt p = s.prompts[1];
    p.sampling.greedy = true;
    p.top_logprobs = TINY_V;
    struct pd_gen_result r = generate(&s, &p, 1, (struct pd_gen_opts){.seed = 1});
    for (int64_t i = 0; i < r.answers[0].n; i++) {
        const struct pd_top *top = r.answers[0].top + i * TINY_V;
        double sum = 0;
        assert_int_equal(top[0].id, r.answers[0].ids[i]);
        assert_float_equal(top[0].logprob, r.answers[0].raw_logprobs[i], 1e-5);
        for (int k = 0; k < TINY_V; k++) {
            sum += exp(top[k].logprob);
            assert_true(k == 0 || top[k].logprob <= top[k - 1].logprob);
        }
        assert_float_equal(sum, 1, 1e-5);
    }
    pd_gen_result_release(&r);
    teardown(&s);
}

static void test_not_finite(void **state)
{
    struct setup s;
    setup(&s, 0);
    ((float *)s.model->final_norm.w->data)[0] = NAN;
    struct pd_gen_opts opts = {.seed = 1};
    struct pd_gen_result r;
    struct pd_err err;
    assert_int_equal(pd_generate(s.dec, s.prompts, 2, &opts, &r, &err), PD_NONFINITE);
    teardown(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_invariance),   cmocka_unit_test(test_logprobs),
        cmocka_unit_test(test_greedy),       cmocka_unit_test(test_context),
        cmocka_unit_test(test_callbacks),    cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_cancel),       cmocka_unit_test(test_prompt_seed),
        cmocka_unit_test(test_top_logprobs), cmocka_unit_test(test_shared_prompt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
