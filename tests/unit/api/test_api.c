/* The parts of api that need no server: roles, the two forms of a ranking, job arguments, tails of
 * run files, the limit on failures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "api/api.h"
#include "api/job_kinds.h"
#include "api/run_eval.h"
#include "api/run_folder.h"
#include "api/ui_json.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/time.h"

#include <stdio.h>
#include <stdlib.h>

static void routes_of_policy(void **state)
{
    static const enum pd_rc expected[5][5] = {
        /*            ANYONE  USER          LEAD          OWNER         LOCAL */
        /* nobody */ {PD_OK, PD_UNAUTH, PD_UNAUTH, PD_UNAUTH, PD_FORBIDDEN},
        /* annot. */ {PD_OK, PD_OK, PD_FORBIDDEN, PD_FORBIDDEN, PD_FORBIDDEN},
        /* admin  */ {PD_OK, PD_OK, PD_OK, PD_FORBIDDEN, PD_FORBIDDEN},
        /* owner  */ {PD_OK, PD_OK, PD_OK, PD_OK, PD_FORBIDDEN},
        /* socket */ {PD_OK, PD_OK, PD_OK, PD_OK, PD_OK},
    };
    const struct pd_who who[5] = {
        {.proof = PD_PROOF_NONE},
        {.proof = PD_PROOF_COOKIE, .user = {.id = 1, .role = PD_ROLE_ANNOTATOR}},
        {.proof = PD_PROOF_KEY, .user = {.id = 2, .role = PD_ROLE_ADMIN}},
        {.proof = PD_PROOF_COOKIE, .user = {.id = 3, .role = PD_ROLE_OWNER}},
        {.proof = PD_PROOF_LOCAL},
    };
    for (int w = 0; w < 5; w++)
        for (int p = 0; p < 5; p++)
            assert_int_equal(pd_policy_route(&who[w], (enum pd_policy)p, NULL), expected[w][p]);
    assert_int_equal(pd_policy_grant(&who[2], PD_ROLE_ANNOTATOR, NULL), PD_OK);
    assert_int_equal(pd_policy_grant(&who[2], PD_ROLE_ADMIN, NULL), PD_FORBIDDEN);
    assert_int_equal(pd_policy_answer_as(&who[1], 1, NULL), PD_OK);
    assert_int_equal(pd_policy_answer_as(&who[1], 2, NULL), PD_FORBIDDEN);
}

static const char *options[] = {"a", "b", "c"};
static const struct pd_question questions[] = {
    {.name = "rank", .type = PD_QUESTION_RANKING, .options = options, .n_options = 3},
    {.name = "stars", .type = PD_QUESTION_RATING},
};

static void tiers_there_and_back(void **state)
{
    static const struct {
        const char *client, *stored; /* stored NULL: refused */
    } cases[] = {
        {"{\"rank\":{\"value\":[[\"b\"],[\"a\",\"c\"]],\"strength\":2,\"both_bad\":true}}",
         "{\"rank\":{\"value\":[{\"value\":\"b\",\"rank\":1},{\"value\":\"a\",\"rank\":2},{"
         "\"value\":"
         "\"c\",\"rank\":2}],\"strength\":2,\"both_bad\":true}}"},
        {"{\"rank\":{\"value\":[[\"a\",\"b\"],[\"c\"]]},\"stars\":{\"value\":4}}",
         "{\"rank\":{\"value\":[{\"value\":\"a\",\"rank\":1},{\"value\":\"b\",\"rank\":1},{"
         "\"value\":"
         "\"c\",\"rank\":3}]},\"stars\":{\"value\":4}}"},
        {"{\"rank\":{\"value\":[]}}", "{\"rank\":{\"value\":[]}}"},
        {"{\"rank\":{\"value\":[[\"a\"],\"b\"]}}", NULL},
        {"{\"rank\":7}", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pd_arena a;
        struct json_object *stored = NULL;
        pd_arena_init(&a);
        enum pd_rc rc =
            pd_ui_values_in(&a, questions, 2, pd_ui_parse(&a, cases[i].client), &stored, NULL);
        assert_int_equal(rc, cases[i].stored ? PD_OK : PD_INVALID);
        if (rc == PD_OK) {
            const char *text = json_object_to_json_string_ext(stored, JSON_C_TO_STRING_PLAIN);
            assert_string_equal(text, cases[i].stored);
            struct pd_buf b;
            struct pd_jw w;
            pd_buf_init(&b, 0);
            pd_jw_init(&w, &b);
            pd_ui_values_out(&w, &a, questions, 2, text);
            assert_string_equal(pd_buf_cstr(&b), cases[i].client);
            pd_buf_release(&b);
        }
        pd_arena_release(&a);
    }
}

static void job_arguments(void **state)
{
    static const struct {
        const char *args, *field; /* NULL: fine */
    } cases[] = {
        {"{}", NULL},
        {"{\"epochs\":3,\"learning_rate\":0.001,\"freeze_layers\":1,\"seed\":7}", NULL},
        {"{\"epochs\":0}", "epochs"},
        {"{\"epochs\":1.5}", "epochs"},
        {"{\"learning_rate\":\"1e-5; rm -rf /\"}", "learning_rate"},
        {"{\"learning_rate\":-1}", "learning_rate"},
        {"{\"model\":\"/etc/passwd\"}", "model"},
        {"[]", "args"},
    };
    const struct pd_job_kind *k = pd_job_kind_find(PD_STR("train_reward"));
    struct pd_arena a;
    const char *field;
    pd_arena_init(&a);
    assert_null(pd_job_kind_find(PD_STR("shell")));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        enum pd_rc rc = pd_job_args_check(k, pd_ui_parse(&a, cases[i].args), &field, NULL);
        assert_int_equal(rc, cases[i].field ? PD_INVALID : PD_OK);
        if (cases[i].field)
            assert_string_equal(field, cases[i].field);
    }
    assert_true(pd_job_arg(k, pd_ui_parse(&a, "{\"epochs\":3}"), "epochs") == 3);
    assert_true(pd_job_arg(k, NULL, "freeze_layers") == 0.7);
    pd_arena_release(&a);
}

static void count_line(void *ctx, struct pd_str line)
{
    int64_t *steps = ctx;
    steps[0]++;
    steps[1] = pd_line_step(line);
}

static void append(const char *path, const char *text, const char *mode)
{
    FILE *f = fopen(path, mode);
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void tails(void **state)
{
    char dir[] = "/tmp/pd-tail-XXXXXX", path[64];
    struct pd_tail t;
    struct pd_err err;
    int64_t steps[2] = {0, 0};
    bool again = true;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
    pd_tail_init(&t, dir, "metrics.jsonl");
    pd_tail_read(&t, 1 << 20, count_line, steps, &again); /* not there yet */
    assert_int_equal(steps[0], 0);
    append(path, "{\"step\":1}\n{\"step\":", "w");
    pd_tail_read(&t, 1 << 20, count_line, steps, &again);
    assert_int_equal(steps[0], 1);
    append(path, "22,\"loss\":0.5}\n", "a"); /* the rest of the line */
    pd_tail_read(&t, 1 << 20, count_line, steps, &again);
    assert_int_equal(steps[0], 2);
    assert_int_equal(steps[1], 22);
    assert_false(again);
    append(path, "{\"step\":1}\n", "w"); /* the trainer went back to its checkpoint */
    pd_tail_read(&t, 1 << 20, count_line, steps, &again);
    assert_true(again);
    assert_int_equal(steps[1], 1);
    pd_tail_release(&t);
    assert_int_equal(pd_fs_remove_tree(dir, &err), PD_OK);
    assert_int_equal(pd_line_step(PD_STR("{\"step\": 7}")), 7);
    assert_int_equal(pd_line_step(PD_STR("{\"steps\":7}")), -1);
    assert_int_equal(pd_line_step(PD_STR("{\"step\":}")), -1);
}

static void policy_comparison(void **state)
{
    char dir[] = "/tmp/pd-eval-XXXXXX", path[64];
    struct pd_policy_eval e;
    struct pd_arena a;
    struct pd_err err;
    assert_non_null(mkdtemp(dir));
    pd_arena_init(&a);
    assert_false(pd_policy_eval_read(&a, dir, "uuid-1", &e));
    snprintf(path, sizeof path, "%s/eval.json", dir);
    append(path, "{\"n\":2,\"win_rate\":0.5}\n", "w");
    snprintf(path, sizeof path, "%s/eval-answers.jsonl", dir);
    append(
        path,
        "{\"prompt\":\"p\",\"answers\":[{\"text\":\"old\",\"model\":\"/m/base\",\"reward\":1},"
        "{\"text\":\"new\",\"model\":\"/d/runs/uuid-1\",\"reward\":2.5}]}\n"
        "{\"prompt\":\"q\",\"answers\":[{\"text\":\"n\",\"model\":\"/d/runs/uuid-1\",\"reward\":0},"
        "{\"text\":\"o\",\"model\":\"/m/base\",\"reward\":3}]}\nnot json\n{}\n",
        "w");
    assert_true(pd_policy_eval_read(&a, dir, "uuid-1", &e));
    assert_int_equal(e.n, 2);
    assert_int_equal(e.wins, 1);
    assert_int_equal(e.losses, 1);
    assert_true(pd_str_eqz(e.items[0].new_text, "new") && pd_str_eqz(e.items[1].new_text, "n"));
    assert_true(e.items[1].old_score == 3);
    pd_arena_release(&a);
    assert_int_equal(pd_fs_remove_tree(dir, &err), PD_OK);
}

static void limiter(void **state)
{
    struct pd_limiter *l = pd_limiter_new(3, 200000);
    int wait = 0;
    for (int i = 0; i < 3; i++) {
        assert_true(pd_limiter_ok(l, PD_STR("1.2.3.4|ann"), &wait));
        pd_limiter_failed(l, PD_STR("1.2.3.4|ann"));
    }
    assert_false(pd_limiter_ok(l, PD_STR("1.2.3.4|ann"), &wait));
    assert_in_range(wait, 1, 2);
    assert_true(pd_limiter_ok(l, PD_STR("1.2.3.4|bob"), &wait));
    pd_sleep_ms(250);
    assert_true(pd_limiter_ok(l, PD_STR("1.2.3.4|ann"), &wait));
    pd_limiter_free(l);
    /* failures under other names do not give a name new attempts */
    l = pd_limiter_new(3, 60000000);
    for (int i = 0; i < 3; i++)
        pd_limiter_failed(l, PD_STR("1.2.3.4|ann"));
    for (int i = 0; i < 100000; i++) {
        char other[32];
        snprintf(other, sizeof other, "1.2.3.4|%d", i);
        pd_limiter_failed(l, pd_str_from(other));
    }
    assert_false(pd_limiter_ok(l, PD_STR("1.2.3.4|ann"), &wait));
    pd_limiter_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(routes_of_policy),  cmocka_unit_test(tiers_there_and_back),
        cmocka_unit_test(job_arguments),     cmocka_unit_test(tails),
        cmocka_unit_test(policy_comparison), cmocka_unit_test(limiter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
