/* Work by threads, held or not: every thread's part is done once, and seen by the caller. */
#include "tensor/backend.h"
#include "tensor/team.h"
#include "twin.h"

#include <stdatomic.h>
#include <unistd.h>

enum { RUNS = 20000, MOST = 4 };

struct round {
    _Atomic int times[MOST]; /* that a thread came */
    int value[MOST], seen[MOST];
    _Atomic int n;
    int number, meetings;
};

/* Each thread leaves a value, meets the others, and reads the next one's: as often as is asked. */
static void leave_and_read(void *ctx, int me, int n)
{
    struct round *r = ctx;
    r->times[me]++;
    r->n = n;
    for (int i = 0; i < r->meetings; i++) {
        r->value[me] = r->number + i + me;
        pd_team_meet(n);
        r->seen[me] = r->value[(me + 1) % n];
        pd_team_meet(n); /* before anyone writes again */
    }
}

static void check_round(struct round *r, int asked)
{
    assert_int_equal(r->n, asked); /* no limit on threads is set here */
    for (int i = 0; i < MOST; i++) {
        assert_int_equal(r->times[i], i < r->n);
        if (i < r->n)
            assert_int_equal(r->seen[i], r->number + r->meetings - 1 + (i + 1) % r->n);
    }
}

static void many_rounds(void *ctx)
{
    const int *rounds = ctx;
    for (int i = 0; i < *rounds; i++) {
        struct round r = {.number = i, .meetings = 1 + i % 3};
        const int asked = 1 + i % pd_backend_threads();
        pd_team_run(asked, leave_and_read, &r);
        check_round(&r, asked);
    }
}

static void hold_within(void *ctx)
{
    pd_team_hold(many_rounds, ctx);
    many_rounds(ctx); /* still held by the outer one */
}

/* More threads than cores too: who waits must let the others work. */
static void test_rounds(void **state)
{
    struct pd_err err;
    for (int threads = 1; threads <= MOST; threads++) {
        int few = 50, many = threads <= 2 ? RUNS : RUNS / 20;
        ok(pd_backend_init(threads, &err), &err);
        many_rounds(&few);
        pd_team_hold(many_rounds, &many);
        pd_team_hold(hold_within, &few);
        many_rounds(&few); /* and let go */
    }
}

static void nothing(void *ctx)
{
    ++*(int *)ctx;
}

static void test_hold_without_work(void **state)
{
    int bodies = 0;
    for (int i = 0; i < 1000; i++)
        pd_team_hold(nothing, &bodies);
    assert_int_equal(bodies, 1000);
}

/* Within a region OpenMP tells of the next level's threads, which a list in the environment sets:
 * all over again with one. It is read before main. */
static void again_with_a_list(char **argv)
{
    static const char *const list = "2,1";
    const char *set = getenv("OMP_NUM_THREADS");
    if (set && strcmp(set, list) == 0)
        return;
    if (setenv("OMP_NUM_THREADS", list, 1) == 0)
        (void)execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
    (void)argc;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rounds),
        cmocka_unit_test(test_hold_without_work),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (failed == 0)
        again_with_a_list(argv);
    return failed;
}
