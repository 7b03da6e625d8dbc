/* Pairs as prefix trees: where rewards are read, what a pair costs, how budgets cut. */
#include "train/pairs.h"
#include "train/scorer.h"
#include "base/rng.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

enum { PAD = 9, MAX = 24 };

static struct pd_pair make(int32_t *c, size_t nc, int32_t *r, size_t nr)
{
    struct pd_pair p = {.chosen = pd_row_make(c, nc, PAD), .rejected = pd_row_make(r, nr, PAD)};
    p.shared = pd_row_common(&p.chosen, &p.rejected);
    return p;
}

static void reward_is_read_at_the_rightmost_token_that_is_not_pad(void **state)
{
    int32_t plain[] = {1, 2, 3}, ended[] = {1, 2, 3, PAD}, inside[] = {1, PAD, 3, PAD, PAD};
    int32_t nothing[] = {PAD, PAD};
    assert_int_equal(pd_row_make(plain, 3, PAD).read_at, 2);
    assert_int_equal(pd_row_make(ended, 4, PAD).read_at, 2);
    assert_int_equal(pd_row_make(inside, 5, PAD).read_at, 2);
    assert_int_equal(pd_row_make(nothing, 2, PAD).read_at, 0);
    assert_int_equal(pd_row_make(ended, 4, -1).read_at, 3);   /* no pad at all */
    assert_int_equal(pd_row_make(ended, 4, PAD).n_tokens, 4); /* counted, though not computed */
    assert_int_equal(pd_row_make(ended, 4, PAD).len, 3);
}

/* For random pairs the stream holds what the cost says, and the path that ends where a reward is
 * read spells the row up to there. */
static void trees_hold_the_rows(void **state)
{
    struct pd_rng rng;
    struct pd_stream stream;
    pd_rng_seed(&rng, 11, 0);
    pd_stream_init(&stream);
    for (int round = 0; round < 500; round++) {
        int32_t ids[4][MAX];
        struct pd_pair pairs[2];
        const struct pd_pair *list[2] = {&pairs[0], &pairs[1]};
        int32_t at[4];
        int64_t cost = 0;
        for (int i = 0; i < 2; i++) {
            size_t n[2], shared = pd_rng_below(&rng, 8);
            for (int side = 0; side < 2; side++) {
                int32_t *row = ids[2 * i + side];
                n[side] = 1 + pd_rng_below(&rng, MAX - 1);
                for (size_t t = 0; t < n[side]; t++)
                    row[t] = side == 1 && t < shared && t < n[0] ? ids[2 * i][t]
                                                                 : (int32_t)pd_rng_below(&rng, 10);
            }
            pairs[i] = make(ids[2 * i], n[0], ids[2 * i + 1], n[1]);
            cost += pd_pair_cost(&pairs[i]);
        }
        pd_pairs_stream(&stream, list, 2, at);
        assert_int_equal(stream.n_rows, cost);
        for (int i = 0; i < 4; i++) {
            const struct pd_row *row = i % 2 ? &pairs[i / 2].rejected : &pairs[i / 2].chosen;
            assert_int_equal(stream.pos[at[i]], row->read_at);
            /* walk up to the root from the segment that holds the row */
            int seg = 0;
            while (at[i] >= stream.segs[seg].start + stream.segs[seg].len)
                seg++;
            for (int32_t t = row->read_at; t >= 0; t--)
                assert_int_equal(stream.ids[pd_stream_row(&stream, seg, t)], row->ids[t]);
        }
    }
    pd_stream_release(&stream);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reward_is_read_at_the_rightmost_token_that_is_not_pad),
        cmocka_unit_test(trees_hold_the_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
