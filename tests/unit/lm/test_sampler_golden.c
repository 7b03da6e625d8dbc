/* Distributions after all processors against transformers' own
 * (tests/oracle/goldens/sampler.py says how the rows are made). */
#include "lm/sampler.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct pd_id_span ids_of(struct json_object *list)
{
    size_t n = list ? json_object_array_length(list) : 0;
    int32_t *ids = pd_xalloc((n + 1) * sizeof *ids);
    for (size_t i = 0; i < n; i++)
        ids[i] = json_object_get_int(json_object_array_get_idx(list, i));
    return (struct pd_id_span){ids, (int64_t)n};
}

static void check_row(struct json_object *row)
{
    struct json_object *set = pd_json_get(row, "settings"), *bad = pd_json_get(set, "bad_words");
    struct json_object *p = pd_json_get(row, "p"), *z = pd_json_get(row, "logits");
    const char *name = pd_json_str(row, "name").ptr;
    struct pd_id_span words[8] = {0}, eos = ids_of(pd_json_get(row, "eos"));
    struct pd_id_span context = ids_of(pd_json_get(row, "context"));
    int n_bad = bad ? (int)json_object_array_length(bad) : 0;
    for (int i = 0; i < n_bad; i++)
        words[i] = ids_of(json_object_array_get_idx(bad, (size_t)i));
    struct pd_sampling how = {
        .greedy = pd_json_bool(set, "greedy", false),
        .temperature = pd_json_f64(set, "temperature", 1),
        .top_k = pd_json_i64(set, "top_k", 0),
        .top_p = pd_json_f64(set, "top_p", 1),
        .min_p = pd_json_f64(set, "min_p", 0),
        .typical_p = pd_json_f64(set, "typical_p", 1),
        .repetition_penalty = pd_json_f64(set, "repetition_penalty", 1),
        .no_repeat_ngram = pd_json_i64(set, "no_repeat_ngram", 0),
        .min_new_tokens = pd_json_i64(set, "min_new_tokens", 0),
        .bad_words = words,
        .n_bad_words = n_bad,
        .eos = eos,
    };
    size_t V = json_object_array_length(z);
    float *logits = pd_xalloc(V * sizeof *logits);
    for (size_t i = 0; i < V; i++)
        logits[i] = (float)json_object_get_double(json_object_array_get_idx(z, i));

    struct pd_sampler *s;
    const struct pd_candidate *got;
    int64_t n;
    struct pd_err err;
    assert_int_equal(pd_sampler_new((int64_t)V, &s, NULL), PD_OK);
    if (pd_sampler_distribution(s, &how, logits, context, pd_json_i64(row, "n_new", 0), &got, &n,
                                &err) != PD_OK)
        fail_msg("%s: %s", name, err.msg);
    if (n != (int64_t)json_object_array_length(p))
        fail_msg("%s: %lld tokens are left, transformers leaves %zu", name, (long long)n,
                 json_object_array_length(p));
    for (int64_t i = 0; i < n; i++) {
        struct json_object *pair = json_object_array_get_idx(p, (size_t)i);
        int id = json_object_get_int(json_object_array_get_idx(pair, 0));
        double want = json_object_get_double(json_object_array_get_idx(pair, 1));
        if (fabs(got[i].p - want) > 1e-5)
            fail_msg("%s: probability %lld is %g, transformers gives %g", name, (long long)i,
                     got[i].p, want);
        /* the same tokens; only which of several equal ones top-p cuts off is left to the sort */
        int64_t at = 0;
        while (at < n && got[at].id != id)
            at++;
        if (at < n ? fabs(got[at].p - want) > 1e-5 : fabs(got[n - 1].p - want) > 1e-7)
            fail_msg("%s: token %d has %g, transformers gives %g", name, id, at < n ? got[at].p : 0,
                     want);
    }
    pd_sampler_free(s);
    pd_free(logits);
    pd_free((void *)(uintptr_t)eos.ids);
    pd_free((void *)(uintptr_t)context.ids);
    for (int i = 0; i < n_bad; i++)
        pd_free((void *)(uintptr_t)words[i].ids);
}

static void test_golden(void **state)
{
    struct pd_lines *lines;
    struct pd_str line;
    bool more;
    int n = 0;
    assert_int_equal(
        pd_lines_open(&lines, PD_FIXTURES "/sampler/distributions.jsonl", 1 << 20, NULL), PD_OK);
    for (;; n++) {
        struct json_object *row;
        assert_int_equal(pd_lines_next(lines, &line, &more, NULL), PD_OK);
        if (!more)
            break;
        assert_int_equal(pd_json_parse(line, &row, NULL), PD_OK);
        check_row(row);
        json_object_put(row);
    }
    pd_lines_close(lines);
    assert_true(n > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
