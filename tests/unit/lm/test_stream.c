/* Packing: prefix trees from token sequences. */
#include "lm/stream.h"
#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

/* The path to `leaf`, read through pd_stream_row, spells the sequence at the right positions. */
static void assert_spells(const struct pd_stream *s, const struct pd_sequence *q)
{
    assert_int_equal(pd_stream_path_len(s, q->leaf), q->len);
    for (int64_t t = 0; t < q->len; t++) {
        int64_t row = pd_stream_row(s, q->leaf, t);
        assert_int_equal(s->ids[row], q->ids[t]);
        assert_int_equal(s->pos[row], t);
    }
}

static void test_pair(void **state)
{
    int32_t a[] = {5, 6, 7, 8}, b[] = {5, 6, 9};
    struct pd_sequence q[] = {{a, 4, 0}, {b, 3, 0}};
    struct pd_stream s;
    pd_stream_init(&s);
    assert_int_equal(pd_sequences_rows(q, 2), 5);
    pd_stream_add_sequences(&s, q, 2);
    assert_int_equal(s.n_rows, 5);
    assert_int_equal(s.n_segs, 3);
    assert_int_equal(s.segs[0].parent, -1);
    assert_int_equal(s.segs[0].len, 2);
    assert_int_equal(s.segs[1].parent, 0);
    assert_int_equal(s.segs[2].parent, 0);
    assert_spells(&s, &q[0]);
    assert_spells(&s, &q[1]);
    pd_stream_release(&s);
}

static void test_prefix_and_equal(void **state)
{
    int32_t a[] = {1, 2}, b[] = {1, 2, 3}, c[] = {4};
    struct pd_sequence q[] = {{b, 3, 0}, {a, 2, 0}, {a, 2, 0}, {c, 1, 0}};
    struct pd_stream s;
    pd_stream_init(&s);
    pd_stream_add_sequences(&s, q, 4);
    assert_int_equal(s.n_rows, 4); /* 1 2 | 3 and 4 */
    assert_int_equal(q[1].leaf, q[2].leaf);
    for (int i = 0; i < 4; i++)
        assert_spells(&s, &q[i]);
    pd_stream_release(&s);
}

/* Random sequences over few tokens: every path is spelled, parents stand first, no two children of
 * a segment begin alike, and the count agrees. */
static void test_random(void **state)
{
    struct pd_rng rng;
    pd_rng_seed(&rng, 11, 0);
    struct pd_stream s;
    pd_stream_init(&s);
    for (int round = 0; round < 200; round++) {
        int32_t ids[20][12];
        struct pd_sequence q[20];
        int n = 1 + (int)pd_rng_below(&rng, 20);
        for (int i = 0; i < n; i++) {
            q[i] = (struct pd_sequence){ids[i], 1 + (int64_t)pd_rng_below(&rng, 12), -1};
            for (int t = 0; t < 12; t++)
                ids[i][t] = (int32_t)pd_rng_below(&rng, 3);
        }
        pd_stream_clear(&s);
        pd_stream_add_sequences(&s, q, n);
        assert_int_equal(s.n_rows, pd_sequences_rows(q, n));
        for (int i = 0; i < n; i++)
            assert_spells(&s, &q[i]);
        for (int i = 0; i < s.n_segs; i++) {
            assert_true(s.segs[i].parent < i);
            for (int j = 0; j < i; j++)
                if (s.segs[i].parent == s.segs[j].parent)
                    assert_true(s.ids[s.segs[i].start] != s.ids[s.segs[j].start]);
        }
    }
    pd_stream_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pair),
        cmocka_unit_test(test_prefix_and_equal),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
