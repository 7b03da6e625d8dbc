/* Which answers a reader would take for the same. */
#include "gen/same_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

static void check(const char *a, const char *b, bool same)
{
    if (pd_same_text(pd_str_from(a), pd_str_from(b)) != same ||
        pd_same_text(pd_str_from(b), pd_str_from(a)) != same)
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_short), cmocka_unit_test(test_long)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
