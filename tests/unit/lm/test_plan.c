/* The memory plan: what its rows add up, by hand for shapes that are known. */
#include "base/mem.h"
#include "lm/model.h"
#include "lm/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

enum { RANK = PD_PLAN_RANK, MICRO = PD_PLAN_MICRO };

static struct pd_model *open_tiny(const char *name)
{
    struct pd_model *m = NULL;
    struct pd_err err = {0};
    char *path = pd_xasprintf("%s/models/%s", PD_FIXTURES, name);
    const struct pd_model_options opt = {.purpose = PD_MODEL_INFERENCE};
    if (pd_model_open(&m, path, &opt, &err) != PD_OK)
        fail_msg("%s", err.msg);
    pd_free(path);
    return m;
}

static const struct pd_plan_row *row(const struct pd_plan_row *rows, int n, const char *job,
                                     enum pd_compute compute)
{
    for (int i = 0; i < n; i++)
        if (strcmp(rows[i].job, job) == 0 && rows[i].compute == compute && rows[i].freeze == 0)
            return &rows[i];
    fail_msg("no row %s", job);
    return NULL;
}

static int64_t sum(const struct pd_plan_row *r)
{
    return r->packed + r->weights + r->adapters + r->gradients + r->moments + r->activations +
           r->cache;
}

/* What is known of a model: values of all but the head, of the adapters of rank 1, of the weights
 * that they are added to; linear maps of all blocks. */
struct known {
    const char *name;
    int64_t hidden, body, head, of_rank, linears, maps;
};

static const struct known models[] = {
    /* q, k, v, out of 4 heads over 2 of 12; gate, up, down */
    {"tiny-llama", 48, 55536, 0, 2 * (96 + 72 + 72 + 96 + 3 * 128),
     2 * (48 * 48 + 2 * 48 * 24 + 48 * 48 + 3 * 48 * 80), 2 * 7},
    /* c_attn (q, k, v at once), c_proj, c_fc, c_proj, which stand (in, out) */
    {"tiny-gpt2", 40, 58640, 0, 2 * (160 + 80 + 160 + 160), 2 * (40 * 120 + 40 * 40 + 2 * 40 * 120),
     2 * 4},
    /* 5 heads over 1 of 16: q, out wider than the hidden size; a matrix for the logits */
    {"tiny-llama-untied", 40, 61640 - 384 * 40, 384 * 40, 2 * (120 + 56 + 56 + 120 + 3 * 104),
     2 * (2 * 40 * 80 + 2 * 40 * 16 + 3 * 40 * 64), 2 * 7},
};

static void check_trains(const struct pd_plan_row *l, const struct pd_plan_row *r, int64_t frozen,
                         int64_t trained, int64_t maps)
{
    assert_true(l->not_yet && !r->not_yet);
    assert_int_equal(l->rank, RANK);
    assert_int_equal(l->weights, frozen * (l->compute == PD_COMPUTE_BF16 ? 2 : 4));
    assert_int_equal(l->adapters, trained * 4);
    assert_int_equal(l->gradients, trained * 4);
    assert_int_equal(l->moments, trained * 8);
    /* nothing is dropped, and A x of each map is kept */
    assert_int_equal(l->activations, r->activations + maps * RANK * MICRO * 4);
    assert_int_equal(l->packed, r->packed);
    assert_int_equal(l->cache, r->cache);
    assert_int_equal(l->total, sum(l));
}

static void adapters_are_counted(void **state)
{
    static const enum pd_compute both[] = {PD_COMPUTE_BF16, PD_COMPUTE_F32};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        const struct known *k = &models[i];
        struct pd_model *m = open_tiny(k->name);
        struct pd_plan p;
        pd_plan_make(m, &p);
        assert_int_equal(p.n, PD_PLAN_ROWS);
        assert_int_equal(p.n_lora, PD_PLAN_LORA_ROWS);
        assert_int_equal(p.adapter_values, RANK * k->of_rank);
        int64_t all = k->body + k->head, adapters = RANK * k->of_rank;
        for (size_t c = 0; c < 2; c++) {
            const struct pd_plan_row *l, *r;
            r = row(p.rows, p.n, "generate", both[c]);
            l = row(p.lora, p.n_lora, "generate", both[c]);
            assert_false(l->not_yet);
            assert_int_equal(l->weights, k->linears * 4); /* as in the file */
            assert_int_equal(l->total, r->total + l->weights);

            /* the score head trains whole, in the LM head's place */
            r = row(p.rows, p.n, "train reward", both[c]);
            l = row(p.lora, p.n_lora, "train reward", both[c]);
            check_trains(l, r, k->body, adapters + k->hidden, k->maps);
            r = row(p.rows, p.n, "train ppo", both[c]);
            l = row(p.lora, p.n_lora, "train ppo", both[c]);
            check_trains(l, r, all, adapters, k->maps);
            r = row(p.rows, p.n, "train ppo, own critic", both[c]);
            l = row(p.lora, p.n_lora, "train ppo, own critic", both[c]);
            check_trains(l, r, all + k->body, 2 * adapters + k->hidden, 2 * k->maps);
        }
        for (int j = 0; j < p.n; j++) {
            assert_int_equal(p.rows[j].total, sum(&p.rows[j]));
            assert_true(p.rows[j].rank == 0 && p.rows[j].adapters == 0 && !p.rows[j].not_yet);
        }
        pd_model_free(m);
    }
}

/* Of halves half as much; of formats that an adapter makes BF16 two bytes a value. */
static void sums_take_their_dtype(void **state)
{
    static const enum pd_dtype dtypes[] = {PD_DTYPE_F16, PD_DTYPE_BF16, PD_DTYPE_Q8_0};
    struct pd_model *m = open_tiny("tiny-llama");
    for (size_t t = 0; t < sizeof dtypes / sizeof *dtypes; t++) {
        struct pd_plan p;
        for (int l = 0; l < m->cfg.n_layers; l++) {
            struct pd_block *b = &m->blocks[l];
            struct pd_lin *lins[] = {&b->qkv[0], &b->qkv[1], &b->qkv[2], &b->out,
                                     &b->up[0],  &b->up[1],  &b->down};
            for (size_t i = 0; i < sizeof lins / sizeof *lins; i++)
                lins[i]->w->dtype = dtypes[t]; /* the plan reads no data */
        }
        pd_plan_make(m, &p);
        assert_int_equal(row(p.lora, p.n_lora, "generate", PD_COMPUTE_F32)->weights,
                         models[0].linears * 2);
    }
    pd_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adapters_are_counted),
        cmocka_unit_test(sums_take_their_dtype),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
