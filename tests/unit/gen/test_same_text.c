/* Which answers a reader would take for the same. */
#include "base/rng.h"
#include "gen/same_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

static bool repeats(const char *a, const char *b)
{
    struct pd_texts *t = pd_texts_new();
    assert_false(pd_texts_add(t, pd_str_from(a), 0));
    bool same = pd_texts_add(t, pd_str_from(b), 1);
    pd_texts_free(t);
    return same;
}

static void check(const char *a, const char *b, bool same)
{
    if (repeats(a, b) != same || repeats(b, a) != same)
        fail_msg("'%s' and '%s' are %sthe same", a, b, same ? "" : "not ");
}

static void test_short(void **state)
{
    check("", "", true);
    check("", " .!\n", true);
    check("Tea.", "tea", true);
    check("It is  Oslo!", "it is oslo", true);
    check("It is Oslo", "It is Bergen", false);
    check("It is Oslo", "It is", false);
    check("its", "it s", false);
    check("smørbrød", "smorbrod", false);
    check("お茶。", "お茶", false); /* bytes beyond ASCII are letters */
    check("1.5", "15", false);
}

/* n words w0 w1 ..., of which word `other` is another one. */
static void words(char *out, size_t cap, int n, int other)
{
    size_t at = 0;
    for (int i = 0; i < n; i++)
        at += (size_t)snprintf(out + at, cap - at, i == other ? "x%d " : "w%d ", i);
}

static void test_long(void **state)
{
    char a[1024], b[1024], c[1024];
    words(a, sizeof a, 100, -1);
    words(b, sizeof b, 100, 50); /* three of 98 triples differ: 95 / 101 are shared */
    check(a, b, true);
    words(a, sizeof a, 30, -1);
    words(b, sizeof b, 30, 15); /* 25 / 31 */
    check(a, b, false);
    words(c, sizeof c, 30, 29); /* 27 / 29 */
    check(a, c, true);
    words(a, sizeof a, 9, -1); /* too few words to be nearly anything */
    words(b, sizeof b, 9, 8);
    check(a, b, false);
    /* repeats count once: the same loop, turned once more */
    words(a, sizeof a, 12, -1);
    (void)snprintf(b, sizeof b, "%s%s%s", a, a, a);
    (void)snprintf(c, sizeof c, "%s%s", a, a);
    check(b, c, true);
    check(a, c, false); /* 10 / 12 triples */
}

/* ---- many: against the definition, each with each */

enum { TEXTS = 400, LENGTH = 60, GROUPS = 40 };

static bool has_triple(const int *w, int n, const int *triple)
{
    for (int i = 0; i + 2 < n; i++)
        if (memcmp(w + i, triple, 3 * sizeof *w) == 0)
            return true;
    return false;
}

static bool twin(const int *a, int n_a, const int *b, int n_b)
{
    int both = 0, all = 0;
    if (n_a == n_b && memcmp(a, b, (size_t)n_a * sizeof *a) == 0)
        return true;
    if (n_a < 10 || n_b < 10)
        return false;
    for (int i = 0; i + 2 < n_a; i++) {
        bool first = !has_triple(a, i + 2, a + i);
        all += first;
        both += first && has_triple(b, n_b, a + i);
    }
    for (int i = 0; i + 2 < n_b; i++)
        all += !has_triple(b, i + 2, b + i) && !has_triple(a, n_a, b + i);
    return 10 * both >= 9 * all;
}

/* Every text is an earlier one with a few words changed, dropped or said again, or a new one. */
static void test_many(void **state)
{
    static int w[TEXTS][2 * LENGTH], n[TEXTS];
    struct pd_texts *texts = pd_texts_new();
    struct pd_rng rng;
    int n_same = 0;
    pd_rng_seed(&rng, 5, 0);
    for (int i = 0; i < TEXTS; i++) {
        char text[16 * LENGTH] = "";
        size_t at = 0;
        if (i == 0 || pd_rng_below(&rng, 4) == 0) {
            n[i] = (int)pd_rng_below(&rng, LENGTH);
            for (int k = 0; k < n[i]; k++)
                w[i][k] = (int)pd_rng_below(&rng, 30);
        } else {
            int of = (int)pd_rng_below(&rng, (uint64_t)i);
            memcpy(w[i], w[of], sizeof w[i]);
            n[i] = n[of];
            for (uint64_t k = pd_rng_below(&rng, 3); k > 0 && n[i] > 0; k--)
                w[i][pd_rng_below(&rng, (uint64_t)n[i])] = (int)pd_rng_below(&rng, 30);
            if (n[i] > 0 && pd_rng_below(&rng, 3) == 0)
                n[i]--;
        }
        for (int k = 0; k < n[i]; k++)
            at += (size_t)snprintf(text + at, sizeof text - at, "%s%d", k ? ", " : "", w[i][k]);
        bool want = false;
        for (int k = 0; k < i && !want; k++)
            want = k % GROUPS != i % GROUPS && twin(w[k], n[k], w[i], n[i]);
        if (pd_texts_add(texts, (struct pd_str){text, at}, i % GROUPS) != want)
            fail_msg("text %d: '%s' should %srepeat an earlier one", i, text, want ? "" : "not ");
        n_same += want;
    }
    assert_in_range(n_same, TEXTS / 5, TEXTS - TEXTS / 5);
    pd_texts_free(texts);
}

/* As many as `--n` allows: each with each would be 50,000,000 comparisons. */
static void test_largest(void **state)
{
    struct pd_texts *texts = pd_texts_new();
    for (int i = 0; i < 20000; i++) {
        char text[256];
        int n = snprintf(text, sizeof text,
                         "Sure, here is what I think of it: number %d of the list is the %d th, "
                         "and %d is %d more than it was",
                         i / 2, i / 2 * 7, i / 2 * 3, i / 2 + 1);
        assert_int_equal(pd_texts_add(texts, (struct pd_str){text, (size_t)n}, i), i % 2);
    }
    pd_texts_free(texts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_short), cmocka_unit_test(test_long),
                                       cmocka_unit_test(test_many), cmocka_unit_test(test_largest)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
