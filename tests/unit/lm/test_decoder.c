/* The decoder against its double-precision twin, for every shape of block: forward over prefix
 * trees, gradients, frozen blocks, and the inference path. */
#include "tiny_model.h"

#include "lm/decoder.h"
#include "lm/heads.h"
#include "lm/kv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum { N_SEQ = 5, MAX_LEN = 16, MAX_ITEMS = N_SEQ * MAX_LEN };

/* Sequences that share prefixes (three of one tree, one of them two levels deep, one equal to a
 * prefix of another, one alone), and a loss with a random weight on everything heads give. */
struct problem {
    int32_t ids[N_SEQ][MAX_LEN];
    struct pd_sequence seqs[N_SEQ];
    double c_logprob[N_SEQ][MAX_LEN], c_entropy[N_SEQ][MAX_LEN], c_score[N_SEQ];
    struct pd_stream stream;
    int32_t rows[MAX_ITEMS], targets[MAX_ITEMS], score_rows[N_SEQ];
    float dlogprob[MAX_ITEMS], dentropy[MAX_ITEMS], dscore[N_SEQ];
    int64_t n_items;
};
static const float temperature = 0.8f;

static void make_problem(struct problem *p, uint64_t seed)
{
    static const int len[N_SEQ] = {14, 11, 7, 5, 9}, shared[N_SEQ] = {0, 6, 6, 5, 0};
    struct pd_rng rng;
    pd_rng_seed(&rng, seed, 5);
    memset(p, 0, sizeof *p);
    pd_stream_init(&p->stream);
    for (int s = 0; s < N_SEQ; s++) {
        for (int t = 0; t < len[s]; t++) {
            p->ids[s][t] = t < shared[s] ? p->ids[0][t] : (int32_t)pd_rng_below(&rng, TINY_V);
            p->c_logprob[s][t] = pd_rng_normal(&rng);
            p->c_entropy[s][t] = pd_rng_normal(&rng);
        }
        if (s == 2)
            p->ids[s][6] = p->ids[1][6]; /* a second fork, below the first */
        p->c_score[s] = pd_rng_normal(&rng);
        p->seqs[s] = (struct pd_sequence){p->ids[s], len[s], -1};
    }
    pd_stream_add_sequences(&p->stream, p->seqs, N_SEQ);
    for (int s = 0; s < N_SEQ; s++) {
        for (int t = 1; t < len[s]; t++) {
            p->rows[p->n_items] = (int32_t)pd_stream_row(&p->stream, p->seqs[s].leaf, t - 1);
            p->targets[p->n_items] = p->ids[s][t];
            p->dlogprob[p->n_items] = (float)p->c_logprob[s][t];
            p->dentropy[p->n_items++] = (float)p->c_entropy[s][t];
        }
        p->score_rows[s] = (int32_t)pd_stream_row(&p->stream, p->seqs[s].leaf, len[s] - 1);
        p->dscore[s] = (float)p->c_score[s];
    }
}

static double twin_loss(const struct twin *t, const struct problem *p)
{
    double loss = 0;
    for (int s = 0; s < N_SEQ; s++) {
        double h[MAX_LEN][TINY_H], entropy;
        int64_t T = p->seqs[s].len;
        twin_hidden(t, p->ids[s], T, h);
        for (int64_t i = 1; i < T; i++) {
            double lp = twin_logprob(t, h[i - 1], p->ids[s][i], temperature, &entropy);
            loss += (float)p->c_logprob[s][i] * lp + (float)p->c_entropy[s][i] * entropy;
        }
        for (int n = 0; n < TINY_H; n++)
            loss += (float)p->c_score[s] * h[T - 1][n] * val(t, t->m->score.w)[n];
    }
    return loss;
}

/* Forward, heads, and backward of the whole loss. */
static double decoder_loss(struct pd_decoder *dec, struct pd_model *m, const struct problem *p,
                           const float *from_hidden, int from)
{
    const float *hidden;
    int64_t T = p->stream.n_rows;
    if (from_hidden)
        assert_int_equal(
            pd_decoder_forward_from(dec, &p->stream, from, from_hidden, true, &hidden, NULL),
            PD_OK);
    else
        assert_int_equal(pd_decoder_forward(dec, &p->stream, true, &hidden, NULL), PD_OK);
    float lp[MAX_ITEMS], entropy[MAX_ITEMS], lse[MAX_ITEMS], score[N_SEQ];
    struct pd_logprob_items items = {p->rows, p->targets, p->n_items, temperature};
    assert_int_equal(pd_head_logprob_forward(dec, hidden, &items, lp, entropy, lse, NULL), PD_OK);
    pd_head_score_forward(m->score.w, NULL, hidden, p->score_rows, N_SEQ, score);
    double loss = 0;
    for (int64_t i = 0; i < p->n_items; i++)
        loss += p->dlogprob[i] * lp[i] + p->dentropy[i] * entropy[i];
    for (int s = 0; s < N_SEQ; s++)
        loss += p->dscore[s] * score[s];
    float *dhidden = pd_xalloc((size_t)(T * TINY_H) * sizeof *dhidden);
    assert_int_equal(pd_head_logprob_backward(dec, hidden, &items, lse, p->dlogprob, entropy,
                                              p->dentropy, dhidden, NULL),
                     PD_OK);
    pd_head_score_backward(m->score.w, NULL, hidden, p->score_rows, N_SEQ, p->dscore, dhidden);
    assert_int_equal(pd_decoder_backward(dec, &p->stream, dhidden, NULL), PD_OK);
    pd_free(dhidden);
    return loss;
}

static struct pd_decoder *make_decoder(struct pd_model *m, bool train)
{
    struct pd_decoder *dec;
    struct pd_decoder_opts opts = {.train = train, .compute = PD_COMPUTE_F32};
    struct pd_err err;
    if (pd_decoder_new(m, &opts, &dec, &err) != PD_OK)
        fail_msg("%s", err.msg);
    return dec;
}

static void test_forward(void **state)
{
    for (int k = 0; k < TINY_SPECS; k++) {
        struct pd_model *m = tiny_make(&tiny_specs[k], 1);
        struct twin t = twin_make(m);
        struct pd_decoder *dec = make_decoder(m, false);
        struct problem p;
        make_problem(&p, 3);
        assert_int_equal(p.stream.n_rows, 6 + 8 + 5 + 0 + 9);
        const float *hidden;
        assert_int_equal(pd_decoder_forward(dec, &p.stream, false, &hidden, NULL), PD_OK);
        for (int s = 0; s < N_SEQ; s++) {
            double h[MAX_LEN][TINY_H];
            twin_hidden(&t, p.ids[s], p.seqs[s].len, h);
            for (int64_t i = 0; i < p.seqs[s].len; i++) {
                int64_t row = pd_stream_row(&p.stream, p.seqs[s].leaf, i);
                for (int n = 0; n < TINY_H; n++)
                    if (fabs(hidden[row * TINY_H + n] - h[i][n]) > 3e-5)
                        fail_msg("%s: sequence %d token %d: %g, twin %g", tiny_specs[k].name, s,
                                 (int)i, hidden[row * TINY_H + n], h[i][n]);
            }
        }
        pd_stream_release(&p.stream);
        pd_decoder_free(dec);
        twin_free(&t);
        tiny_free(m);
    }
}

/* The derivative along a direction v through a parameter: grad . v against the twin's central
 * difference. v = grad / |grad| shows the size, random v the direction. */
static void check_param(const struct pd_model *m, struct twin *t, const struct problem *p, size_t i,
                        struct pd_rng *rng, const char *model)
{
    const struct pd_param *q = &m->params.v[i];
    double norm = 0, h = 1e-5;
    for (size_t j = 0; j < q->n; j++)
        norm += (double)q->grad[j] * q->grad[j];
    norm = sqrt(norm);
    double *v = pd_xalloc(q->n * sizeof *v);
    /* a bias of keys moves all scores of a query alike: without rotation its gradient is zero */
    for (int round = norm > 1e-6 ? 0 : 1; round < 2; round++) {
        double dot = 0;
        for (size_t j = 0; j < q->n; j++) {
            v[j] = round ? pd_rng_normal(rng) : q->grad[j] / norm;
            dot += v[j] * q->grad[j];
        }
        for (size_t j = 0; j < q->n; j++)
            t->p[i][j] += h * v[j];
        double up = twin_loss(t, p);
        for (size_t j = 0; j < q->n; j++)
            t->p[i][j] -= 2 * h * v[j];
        double down = twin_loss(t, p);
        for (size_t j = 0; j < q->n; j++)
            t->p[i][j] += h * v[j];
        double want = (up - down) / (2 * h);
        if (!(fabs(dot - want) <= 1e-3 * norm + 1e-4))
            fail_msg("%s: %s: derivative %g, twin %g (|grad| %g)", model, q->name, dot, want, norm);
    }
    pd_free(v);
}

static void test_gradients(void **state)
{
    for (int k = 0; k < TINY_SPECS; k++) {
        struct pd_model *m = tiny_make(&tiny_specs[k], 2);
        struct twin t = twin_make(m);
        struct pd_decoder *dec = make_decoder(m, true);
        struct problem p;
        struct pd_rng rng;
        pd_rng_seed(&rng, 4, 0);
        make_problem(&p, 7);
        double loss = decoder_loss(dec, m, &p, NULL, 0), want = twin_loss(&t, &p);
        if (fabs(loss - want) > 2e-4 * (1 + fabs(want)))
            fail_msg("%s: loss %g, twin %g", tiny_specs[k].name, loss, want);
        for (size_t i = 0; i < m->params.n; i++)
            check_param(m, &t, &p, i, &rng, tiny_specs[k].name);
        pd_stream_release(&p.stream);
        pd_decoder_free(dec);
        twin_free(&t);
        tiny_free(m);
    }
}

/* With the bottom frozen the other gradients stay what they are, the frozen ones are not touched,
 * and starting from kept hidden states is the same to the bit. */
static void test_frozen(void **state)
{
    enum { FIRST = 2 };
    struct tiny_spec spec = tiny_specs[0];
    spec.tied = false;
    struct pd_model *m = tiny_make(&spec, 2), *f = tiny_make(&spec, 2);
    struct pd_decoder *whole = make_decoder(m, true), *part = make_decoder(f, true);
    struct problem p;
    make_problem(&p, 7);
    for (size_t i = 0; i < f->params.n; i++) {
        struct pd_param *q = &f->params.v[i];
        q->trainable = q->layer >= FIRST || (q->layer < 0 && q != f->embed);
    }
    assert_int_equal(pd_decoder_first_trainable(whole), 0);
    assert_int_equal(pd_decoder_first_trainable(part), FIRST);
    assert_true(pd_decoder_train_bytes(part, 100) < pd_decoder_train_bytes(whole, 100));
    double a = decoder_loss(whole, m, &p, NULL, 0), b = decoder_loss(part, f, &p, NULL, 0);
    assert_true(a == b);
    for (size_t i = 0; i < f->params.n; i++)
        for (size_t j = 0; j < f->params.v[i].n; j++)
            assert_true(f->params.v[i].grad[j] ==
                        (f->params.v[i].trainable ? m->params.v[i].grad[j] : 0));

    float *x = pd_xalloc((size_t)p.stream.n_rows * TINY_H * sizeof *x);
    assert_int_equal(pd_decoder_forward_to(part, &p.stream, FIRST, x, NULL), PD_OK);
    pd_params_zero_grads(&f->params);
    assert_true(decoder_loss(part, f, &p, x, FIRST) == a);
    for (size_t i = 0; i < f->params.n; i++)
        for (size_t j = 0; f->params.v[i].trainable && j < f->params.v[i].n; j++)
            assert_true(f->params.v[i].grad[j] == m->params.v[i].grad[j]);
    pd_free(x);
    pd_stream_release(&p.stream);
    pd_decoder_free(whole);
    pd_decoder_free(part);
    tiny_free(m);
    tiny_free(f);
}

/* A prompt in two chunks, then two answers token by token beside each other: the hidden states of
 * the training forward, and the prompt's pages of the cache shared. */
static void test_infer(void **state)
{
    static const enum pd_kv_type kinds[] = {PD_KV_F32, PD_KV_F16, PD_KV_INT8};
    static const float tolerance[] = {2e-5f, 2e-2f, 2e-1f}; /* of values of about 1, halves 2^-11 */
    for (int i = 0; i < 3 * TINY_SPECS; i++) {
        const int k = i / 3, kind = i % 3;
        struct pd_model *m = tiny_make(&tiny_specs[k], 5);
        struct pd_decoder *dec = make_decoder(m, false);
        struct pd_rng rng;
        pd_rng_seed(&rng, 9, 0);
        enum { PROMPT = 40, NEW = 9, CUT = 35 };
        int32_t ids[2][PROMPT + NEW];
        for (int t = 0; t < PROMPT + NEW; t++) {
            ids[0][t] = (int32_t)pd_rng_below(&rng, TINY_V);
            ids[1][t] = t < PROMPT ? ids[0][t] : (int32_t)pd_rng_below(&rng, TINY_V);
        }
        struct pd_stream stream;
        pd_stream_init(&stream);
        struct pd_sequence seqs[2] = {{ids[0], PROMPT + NEW, 0}, {ids[1], PROMPT + NEW, 0}};
        pd_stream_add_sequences(&stream, seqs, 2);
        const float *hidden;
        assert_int_equal(pd_decoder_forward(dec, &stream, false, &hidden, NULL), PD_OK);
        float *want = pd_xalloc((size_t)stream.n_rows * TINY_H * sizeof *want);
        memcpy(want, hidden, (size_t)stream.n_rows * TINY_H * sizeof *want);

        const struct pd_kv_shape shape = {TINY_L, m->cfg.n_kv_heads, TINY_D, kinds[kind]};
        struct pd_kv *kv;
        const struct pd_kv_shape exact = pd_decoder_kv_shape(dec);
        assert_true(exact.kv_heads == shape.kv_heads && exact.type == PD_KV_F32);
        assert_int_equal(pd_kv_new(&shape, pd_kv_pages_for(PROMPT) + 2, &kv, NULL), PD_OK);
        struct pd_kv_node *prompt = pd_kv_node_new(NULL);
        struct pd_infer_part part = {prompt, ids[0], CUT, false};
        assert_int_equal(pd_decoder_infer(dec, kv, &part, 1, &hidden, NULL), PD_OK);
        part = (struct pd_infer_part){prompt, ids[0] + CUT, PROMPT - CUT, true};
        assert_int_equal(pd_decoder_infer(dec, kv, &part, 1, &hidden, NULL), PD_OK);
        struct pd_kv_node *answer[2] = {pd_kv_node_new(prompt), pd_kv_node_new(prompt)};
        for (int t = PROMPT - 1; t < PROMPT + NEW; t++) {
            int n = t < PROMPT ? 1 : 2;
            if (t >= PROMPT) {
                struct pd_infer_part parts[2];
                for (int s = 0; s < 2; s++)
                    parts[s] = (struct pd_infer_part){answer[s], &ids[s][t], 1, true};
                assert_int_equal(pd_decoder_infer(dec, kv, parts, 2, &hidden, NULL), PD_OK);
            }
            for (int s = 0; s < n; s++) {
                const float *w = want + pd_stream_row(&stream, seqs[s].leaf, t) * TINY_H;
                for (int x = 0; x < TINY_H; x++)
                    if (!(fabsf(hidden[s * TINY_H + x] - w[x]) <= tolerance[kind]))
                        fail_msg("%s: answer %d position %d: %g, training forward %g",
                                 tiny_specs[k].name, s, t, hidden[s * TINY_H + x], w[x]);
            }
        }
        assert_int_equal(pd_kv_free_pages(kv), 0); /* the prompt's once, one an answer */
        part = (struct pd_infer_part){answer[0], ids[0], 30, true};
        assert_int_equal(pd_decoder_infer(dec, kv, &part, 1, &hidden, NULL), PD_TOOBIG);
        for (int s = 0; s < 2; s++)
            pd_kv_node_unref(kv, answer[s]);
        pd_kv_node_unref(kv, prompt);
        pd_kv_free(kv);
        pd_stream_release(&stream);
        pd_free(want);
        pd_decoder_free(dec);
        tiny_free(m);
    }
}

/* Hidden states (2, H) of the second and fourth part, passed beside the first and third, of which
 * none is wanted; or each alone. */
static void infer_wanted(struct pd_decoder *dec, const int32_t *ids, bool together, float *to)
{
    enum { N = 4 };
    static const int n[N] = {5, 7, 3, 1};
    static const bool want[N] = {false, true, false, true};
    const struct pd_kv_shape shape = pd_decoder_kv_shape(dec);
    struct pd_infer_part parts[N];
    struct pd_kv *kv;
    const float *hidden;
    assert_int_equal(pd_kv_new(&shape, N, &kv, NULL), PD_OK);
    for (int i = 0; i < N; ids += n[i++])
        parts[i] = (struct pd_infer_part){pd_kv_node_new(NULL), ids, n[i], want[i]};
    for (int i = 0; i < N; i += together ? N : 1) {
        assert_int_equal(pd_decoder_infer(dec, kv, parts + i, together ? N : 1, &hidden, NULL),
                         PD_OK);
        const int got = together ? 2 : want[i];
        memcpy(to, hidden, (size_t)(got * TINY_H) * sizeof *to);
        to += got * TINY_H;
    }
    for (int i = 0; i < N; i++)
        pd_kv_node_unref(kv, parts[i].node);
    pd_kv_free(kv);
}

/* After the last layer's attention only the wanted rows go on: they are what they are alone. */
static void test_wanted_rows(void **state)
{
    for (int i = 0; i < 2 * TINY_SPECS; i++) {
        struct pd_model *m = tiny_make(&tiny_specs[i / 2], 5);
        struct pd_decoder *dec = make_decoder(m, i % 2);
        int32_t ids[16];
        float beside[2 * TINY_H], alone[2 * TINY_H];
        for (int t = 0; t < 16; t++)
            ids[t] = (7 * t + 3) % TINY_V;
        infer_wanted(dec, ids, true, beside);
        infer_wanted(dec, ids, false, alone);
        for (int x = 0; x < 2 * TINY_H; x++) /* weights in place give the same bits */
            if (!(fabsf(beside[x] - alone[x]) <= (i % 2 ? 2e-6f : 0)))
                fail_msg("%s: %g beside others, %g alone", tiny_specs[i / 2].name, beside[x],
                         alone[x]);
        pd_decoder_free(dec);
        tiny_free(m);
    }
}

static enum pd_kv_type kept(struct pd_model *m, bool train, enum pd_compute compute,
                            enum pd_cache cache)
{
    const struct pd_decoder_opts opts = {.train = train, .compute = compute, .cache = cache};
    struct pd_decoder *dec;
    struct pd_err err;
    if (pd_decoder_new(m, &opts, &dec, &err) != PD_OK)
        fail_msg("%s", err.msg);
    const enum pd_kv_type type = pd_decoder_kv_shape(dec).type;
    pd_decoder_free(dec);
    return type;
}

/* What is asked for, but fp32 in training; what `auto` makes of floats. (Of 4-bit weights:
 * tests/system/test_generate.py.) */
static void test_cache(void **state)
{
    static const struct {
        const char *name;
        enum pd_cache cache;
        enum pd_kv_type of_f32, of_bf16;
    } rows[] = {{"auto", PD_CACHE_AUTO, PD_KV_F32, PD_KV_F16},
                {"fp32", PD_CACHE_F32, PD_KV_F32, PD_KV_F32},
                {"f16", PD_CACHE_F16, PD_KV_F16, PD_KV_F16},
                {"int8", PD_CACHE_INT8, PD_KV_INT8, PD_KV_INT8}};
    struct pd_model *m = tiny_make(&tiny_specs[0], 5);
    struct pd_err err;
    enum pd_cache cache;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pd_cache_parse(rows[i].name, &cache, &err), PD_OK);
        assert_int_equal(cache, rows[i].cache);
        assert_int_equal(kept(m, false, PD_COMPUTE_F32, cache), rows[i].of_f32);
        assert_int_equal(kept(m, false, PD_COMPUTE_BF16, cache), rows[i].of_bf16);
        assert_int_equal(kept(m, false, PD_COMPUTE_AUTO, cache), rows[i].of_bf16);
        assert_int_equal(kept(m, true, PD_COMPUTE_F32, cache), PD_KV_F32);
    }
    assert_int_equal(pd_cache_parse("q8_0", &cache, &err), PD_INVALID);
    assert_non_null(strstr(err.msg, "int8"));
    tiny_free(m);
}

static void test_bad_input(void **state)
{
    struct pd_model *m = tiny_make(&tiny_specs[3], 5); /* learned positions */
    struct pd_decoder *dec = make_decoder(m, true);
    struct pd_stream stream;
    struct pd_err err;
    const float *hidden;
    int32_t ids[TINY_CTX + 1] = {1, TINY_V};
    pd_stream_init(&stream);
    pd_stream_add(&stream, -1, ids, 2);
    assert_int_equal(pd_decoder_forward(dec, &stream, true, &hidden, &err), PD_INVALID);
    assert_non_null(strstr(err.msg, "29"));
    ids[1] = 0;
    pd_stream_clear(&stream);
    pd_stream_add(&stream, -1, ids, TINY_CTX + 1);
    assert_int_equal(pd_decoder_forward(dec, &stream, true, &hidden, &err), PD_INVALID);
    pd_stream_release(&stream);
    pd_decoder_free(dec);
    tiny_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),     cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_frozen),      cmocka_unit_test(test_infer),
        cmocka_unit_test(test_wanted_rows), cmocka_unit_test(test_cache),
        cmocka_unit_test(test_bad_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
