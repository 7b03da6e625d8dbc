/* Agreement measures against published and independently computed numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "pref/agree.h"
#include "pref/judge.h"

#include <math.h>

#define NEAR(got, want)                                                                            \
    do {                                                                                           \
        double got_ = (got), want_ = (want);                                                       \
        if (!(fabs(got_ - want_) < 6e-7))                                                          \
            fail_msg("%s = %.8f, expected %.8f", #got, got_, want_);                               \
    } while (0)

/* Raters as strings, one character a unit, anything but a digit = missing; values 1..5 -> 0..4. */
static struct pd_agree_table from_raters(const char *const *rater, size_t n_raters)
{
    struct pd_agree_table t;
    size_t n = strlen(rater[0]);
    int *cell = pd_xalloc(n * n_raters * sizeof *cell);
    for (size_t u = 0; u < n; u++)
        for (size_t r = 0; r < n_raters; r++) {
            char c = rater[r][u];
            cell[u * n_raters + r] = c >= '1' && c <= '9' ? c - '1' : -1;
        }
    pd_agree_table_init(&t, cell, n, n_raters, 5);
    pd_free(cell);
    return t;
}

static void alpha_canonical(void **state)
{
    static const double number[] = {1, 2, 3, 4, 5};
    static const char *const four[] = {"123321412...", "1233224125.3", ".3332342251.",
                                       "12332441251."};
    static const char *const three[] = {"*****34121133*3", "1*213343*******", "**21344*21133*4"};
    (void)state;
    struct pd_agree_table t = from_raters(four, 4);
    NEAR(pd_agree_alpha(&t.t, PD_ALPHA_NOMINAL, number, NULL), .743421);
    NEAR(pd_agree_alpha(&t.t, PD_ALPHA_ORDINAL, number, NULL), .815388);
    NEAR(pd_agree_alpha(&t.t, PD_ALPHA_INTERVAL, number, NULL), .849107);
    NEAR(pd_agree_alpha(&t.t, PD_ALPHA_RATIO, number, NULL), .797403);
    pd_agree_table_release(&t);
    t = from_raters(three, 3);
    NEAR(pd_agree_alpha(&t.t, PD_ALPHA_NOMINAL, number, NULL), .691358);
    NEAR(pd_agree_alpha(&t.t, PD_ALPHA_ORDINAL, number, NULL), .806721);
    NEAR(pd_agree_alpha(&t.t, PD_ALPHA_INTERVAL, number, NULL), .810845);
    NEAR(pd_agree_alpha(&t.t, PD_ALPHA_RATIO, number, NULL), .808944);
    pd_agree_table_release(&t);
}

static void alpha_small(void **state)
{
    static const char *const no[] = {"11.", "22.", "2.2"};
    static const char *const half[] = {"1212", "1221"};
    static const char *const same[] = {"111", "111"};
    (void)state;
    struct pd_agree_table t = from_raters(no, 3);
    NEAR(pd_agree_alpha(&t.t, PD_ALPHA_NOMINAL, NULL, NULL), -1.0 / 3);
    pd_agree_table_release(&t);
    t = from_raters(half, 2); /* Y Y / N N / Y N / N Y: half agree */
    NEAR(pd_agree_percent(&t.t), .5);
    pd_agree_table_release(&t);
    t = from_raters(same, 2);
    assert_true(isnan(pd_agree_alpha(&t.t, PD_ALPHA_NOMINAL, NULL, NULL)));
    NEAR(pd_agree_percent(&t.t), 1);
    pd_agree_table_release(&t);
}

static void alpha_three_units(void **state)
{
    static const char *const two[] = {"121", "122"}; /* Y Y / N N / Y N */
    (void)state;
    struct pd_agree_table t = from_raters(two, 2);
    NEAR(pd_agree_alpha(&t.t, PD_ALPHA_NOMINAL, NULL, NULL), .44444444);
    pd_agree_table_release(&t);
}

static void alpha_rankings(void **state)
{
    /* units {123,123,132},{213,213,312},{321,321} */
    static const int ranking[5][3] = {{1, 2, 3}, {1, 3, 2}, {2, 1, 3}, {3, 1, 2}, {3, 2, 1}};
    static const int cell[] = {0, 0, 1, 2, 2, 3, 4, 4, -1};
    double distance[25];
    struct pd_agree_table t;
    (void)state;
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 5; j++)
            distance[i * 5 + j] = pd_kendall_distance(ranking[i], ranking[j], 3);
    pd_agree_table_init(&t, cell, 3, 3, 5);
    NEAR(pd_agree_alpha(&t.t, PD_ALPHA_GIVEN, NULL, distance), .688889);
    pd_agree_table_release(&t);
    NEAR(pd_kendall_distance((int[]){1, 2, 3, 4}, (int[]){1, 2, 4, 3}, 4), 1.0 / 6);
    NEAR(pd_kendall_distance((int[]){1, 1, 3}, (int[]){1, 2, 3}, 3), 1.0 / 6);
}

static void kappa_tables(void **state)
{
    static const double four[] = {20, 5, 1, 0, 3, 15, 4, 1, 0, 4, 18, 3, 0, 1, 2, 23};
    (void)state;
    NEAR(pd_agree_kappa((double[]){20, 5, 10, 15}, 2, 0), .4);
    NEAR(pd_agree_kappa((double[]){45, 15, 25, 15}, 2, 0), .13043478);
    NEAR(pd_agree_kappa((double[]){25, 35, 5, 35}, 2, 0), .25925926);
    NEAR(pd_agree_kappa(four, 4, 0), .68);
    NEAR(pd_agree_kappa(four, 4, 1), .785646);
    NEAR(pd_agree_kappa(four, 4, 2), .870017);
}

static void fleiss_wikipedia(void **state)
{
    static const int counts[10][5] = {
        {0, 0, 0, 0, 14}, {0, 2, 6, 4, 2}, {0, 0, 3, 5, 6}, {0, 3, 9, 2, 0}, {2, 2, 8, 1, 1},
        {7, 7, 0, 0, 0},  {3, 2, 6, 3, 0}, {2, 5, 3, 2, 2}, {6, 5, 2, 1, 0}, {0, 2, 2, 3, 7}};
    int cell[140];
    struct pd_agree_table t;
    (void)state;
    for (int u = 0; u < 10; u++)
        for (int v = 0, r = 0; v < 5; v++)
            for (int k = 0; k < counts[u][v]; k++)
                cell[u * 14 + r++] = v;
    pd_agree_table_init(&t, cell, 10, 14, 5);
    NEAR(pd_agree_percent(&t.t), .378022);
    NEAR(pd_agree_fleiss(&t.t), .209931);
    pd_agree_table_release(&t);
}

/* The table [[118,5],[2,0]]: kappa below zero though nearly everything agrees. */
static void ac1_paradox(void **state)
{
    int cell[250];
    struct pd_agree_table t;
    (void)state;
    for (int u = 0; u < 125; u++) {
        cell[2 * u] = u >= 123;
        cell[2 * u + 1] = u >= 118 && u < 123;
    }
    pd_agree_table_init(&t, cell, 125, 2, 2);
    NEAR(pd_agree_ac1(&t.t), .940776);
    NEAR(pd_agree_kappa((double[]){118, 5, 2, 0}, 2, 0), -.0233918);
    pd_agree_table_release(&t);
}

/* ---- normal form and votes ---- */

static void ranking_becomes_pair_rows(void **state)
{
    struct pd_ranking r = {.k = 4, .tier = {1, 0, 1, -1}, .strength = -1};
    struct pd_pair_row rows[6];
    int shown[] = {2, 1, 0, 3};
    (void)state;
    assert_int_equal(pd_ranking_rows(&r, 5, 6, shown, rows), 3);
    assert_true(rows[0].i == 0 && rows[0].j == 1 && rows[0].y == 0);
    assert_true(rows[1].i == 0 && rows[1].j == 2 && rows[1].y == 0.5);
    assert_true(rows[2].i == 1 && rows[2].j == 2 && rows[2].y == 1);
    assert_true(!rows[0].shown_left && !rows[1].shown_left && !rows[2].shown_left);
    NEAR(rows[0].weight, 1.0 / 3);
    assert_int_equal(rows[0].task, 5);
}

static struct pd_verdict vote(int i, int j, int tie, int strength_i, int strength_j)
{
    struct pd_vote v = {0};
    for (int k = 0; k < i + j + tie; k++) {
        struct pd_pair_row row = {.y = k < i       ? 1
                                       : k < i + j ? 0
                                                   : 0.5,
                                  .strength = k < i ? strength_i : strength_j};
        pd_vote_add(&v, &row);
    }
    return pd_vote_majority(&v);
}

static void majority_and_its_ties(void **state)
{
    (void)state;
    struct pd_verdict v = vote(2, 1, 0, 3, 1);
    assert_int_equal(v.winner, 1);
    NEAR(v.margin, 1.0 / 3);
    NEAR(v.strength, 3);
    assert_int_equal(v.votes, 3);
    assert_int_equal(vote(1, 1, 0, 1, 3).winner, -1); /* level: the stronger side */
    assert_int_equal(vote(1, 1, 0, 2, 2).winner, 0);  /* level still: undecided */
    assert_int_equal(vote(1, 0, 1, 3, 0).winner, 0);  /* a tie draws level */
    assert_int_equal(vote(0, 0, 2, 0, 0).winner, 0);
    assert_int_equal(vote(0, 0, 0, 0, 0).winner, 0);
    NEAR(vote(0, 3, 0, 0, -1).margin, 1);
    NEAR(vote(0, 3, 0, 0, -1).strength, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alpha_canonical),       cmocka_unit_test(alpha_small),
        cmocka_unit_test(alpha_three_units),     cmocka_unit_test(alpha_rankings),
        cmocka_unit_test(kappa_tables),          cmocka_unit_test(fleiss_wikipedia),
        cmocka_unit_test(ac1_paradox),           cmocka_unit_test(ranking_becomes_pair_rows),
        cmocka_unit_test(majority_and_its_ties),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
