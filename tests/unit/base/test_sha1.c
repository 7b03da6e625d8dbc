/* SHA-1: the examples of FIPS 180, git's empty blob, and every way to cut the input. */
#include "base/sha1.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static void check(const char *text, size_t n, const char *want)
{
    for (size_t cut = 0; cut <= n; cut += n / 7 + 1) {
        struct pd_sha1 s;
        char hex[41];
        pd_sha1_init(&s);
        pd_sha1_add(&s, text, cut);
        pd_sha1_add(&s, text + cut, n - cut);
        pd_sha1_hex(&s, hex);
        assert_string_equal(hex, want);
    }
}

static void known_sums(void **state)
{
    static char a[1000000];
    (void)state;
    memset(a, 'a', sizeof a);
    check("", 0, "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    check("abc", 3, "a9993e364706816aba3e25717850c26c9cd0d89d");
    check("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
          "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
    check("blob 0", 7, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
    check(a, sizeof a, "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(known_sums)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
