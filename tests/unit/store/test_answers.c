/* The life of an answer: leases, submits, replays, undo, surplus, and the counters through all of
 * it. */
#include "store_fixture.h"

#include "base/crypt.h"
#include "base/rng.h"
#include "base/time.h"

static void submit_completes_and_counts(void **state)
{
    struct world w;
    struct pd_lease l[8];
    int64_t reserved = -1;
    (void)state;
    world_open(&w);
    world_fill(&w, 2, 1, 3);
    assert_int_equal(take(&w, w.user[0], 2, l, &reserved), 2);
    assert_int_equal(take(&w, w.user[1], 5, l + 2, &reserved), 1);
    assert_int_equal(reserved, 2);
    assert_int_equal(counts(&w).in_hand, 3);
    struct pd_response_result r = put(&w, l[0].record_id, w.user[0], PD_ANSWER_SUBMITTED, NULL);
    assert_true(r.created && r.completed && !r.surplus && !r.replayed);
    struct pd_counts c = counts(&w);
    assert_int_equal(c.records, 3);
    assert_int_equal(c.completed, 1);
    assert_int_equal(c.submitted, 1);
    assert_int_equal(c.in_hand, 2);
    assert_int_equal(c.active_ms, 1000);
    check_counters(&w);
    world_close(&w);
}

static void same_judgment_twice_is_stored_once(void **state)
{
    struct world w;
    char uuid[37];
    (void)state;
    world_open(&w);
    world_fill(&w, 2, 2, 2);
    pd_uuid_new(uuid);
    put(&w, 1, w.user[0], PD_ANSWER_SUBMITTED, uuid);
    struct pd_response_result r = put(&w, 1, w.user[0], PD_ANSWER_SUBMITTED, uuid);
    assert_true(r.replayed);
    assert_int_equal(number(&w, "SELECT count(*) FROM judgment"), 1);
    assert_int_equal(counts(&w).active_ms, 1000);
    /* for another record or labeler it is a mistake */
    struct pd_response_put in = {.record_id = 2,
                                 .user_id = w.user[0],
                                 .status = PD_ANSWER_SUBMITTED,
                                 .values = A_BETTER,
                                 .judgment_uuid = pd_str_from(uuid)};
    struct pd_response_result out;
    struct pd_tx tx = {0};
    OK(pd_tx_begin(&tx, w.store, PD_TX_DURABLE, err));
    FAILS(PD_CONFLICT, pd_response_put(tx.db, &in, &out, err));
    pd_tx_abandon(&tx);
    check_counters(&w);
    world_close(&w);
}

static void undo_reopens_and_drafts_leave_no_judgment(void **state)
{
    struct world w;
    struct pd_lease l[4];
    int64_t reserved = 0;
    (void)state;
    world_open(&w);
    world_fill(&w, 2, 1, 2);
    put(&w, 1, w.user[0], PD_ANSWER_DRAFT, NULL);
    put(&w, 1, w.user[0], PD_ANSWER_DRAFT, NULL);
    assert_int_equal(number(&w, "SELECT count(*) FROM judgment"), 0);
    put(&w, 1, w.user[0], PD_ANSWER_SUBMITTED, NULL);
    assert_int_equal(counts(&w).completed, 1);
    /* a late autosave changes nothing */
    struct pd_response_put late = {.record_id = 1,
                                   .user_id = w.user[0],
                                   .status = PD_ANSWER_DRAFT,
                                   .values = PD_STR("{}"),
                                   .autosave = true};
    struct pd_response_result out;
    struct pd_tx tx = {0};
    OK(pd_tx_begin(&tx, w.store, PD_TX_DURABLE, err));
    OK(pd_response_put(tx.db, &late, &out, err));
    OK(pd_tx_commit(&tx, err));
    assert_true(out.replayed);
    assert_int_equal(counts(&w).submitted, 1);
    /* undo: a judgment of its own */
    put(&w, 1, w.user[0], PD_ANSWER_DRAFT, NULL);
    assert_int_equal(number(&w, "SELECT count(*) FROM judgment"), 2);
    assert_int_equal(counts(&w).completed, 0);
    assert_int_equal(counts(&w).draft, 1);
    put(&w, 1, w.user[0], PD_ANSWER_DISCARDED, NULL);
    assert_int_equal(counts(&w).discarded, 1);
    check_counters(&w);
    /* the skipped record is not offered to the same labeler again, but to the other */
    assert_int_equal(take(&w, w.user[0], 4, l, &reserved), 1);
    assert_int_equal(l[0].record_id, 2);
    assert_int_equal(take(&w, w.user[1], 4, l, &reserved), 1);
    assert_int_equal(l[0].record_id, 1);
    world_close(&w);
}

static void answers_beyond_the_cap_are_surplus(void **state)
{
    struct world w;
    struct pd_lease l[4];
    int64_t reserved = 0;
    (void)state;
    world_open(&w);
    world_fill(&w, 3, 1, 1);
    assert_int_equal(take(&w, w.user[0], 1, l, &reserved), 1);
    /* no lease, and the only place is taken: kept, not counted */
    assert_true(put(&w, 1, w.user[1], PD_ANSWER_SUBMITTED, NULL).surplus);
    assert_int_equal(counts(&w).completed, 0);
    assert_int_equal(counts(&w).surplus, 1);
    check_counters(&w);
    /* the lease runs out: the waiting answer takes the place */
    pd_lease_set_clock(pd_time_us() + PD_LEASE_TTL_US + 1);
    struct pd_tx tx = {0};
    OK(pd_tx_begin(&tx, w.store, PD_TX_RELAXED, err));
    OK(pd_lease_expire(tx.db, err));
    OK(pd_tx_commit(&tx, err));
    assert_int_equal(counts(&w).completed, 1);
    assert_int_equal(counts(&w).surplus, 0);
    check_counters(&w);
    /* and the late labeler is surplus now */
    assert_true(put(&w, 1, w.user[0], PD_ANSWER_SUBMITTED, NULL).surplus);
    /* the counting answer is taken back: the surplus one moves up */
    put(&w, 1, w.user[1], PD_ANSWER_DRAFT, NULL);
    assert_int_equal(counts(&w).completed, 1);
    assert_int_equal(counts(&w).surplus, 0);
    check_counters(&w);
    pd_lease_set_clock(0);
    world_close(&w);
}

static void a_higher_cap_counts_what_was_surplus(void **state)
{
    struct world w;
    struct pd_tx tx = {0};
    (void)state;
    world_open(&w);
    world_fill(&w, 4, 1, 2);
    for (int i = 0; i < 4; i++)
        put(&w, 1, w.user[i], PD_ANSWER_SUBMITTED, NULL);
    put(&w, 2, w.user[0], PD_ANSWER_SUBMITTED, NULL);
    assert_int_equal(counts(&w).surplus, 3);
    OK(pd_tx_begin(&tx, w.store, PD_TX_DURABLE, err));
    OK(pd_dataset_set_overlap(tx.db, w.dataset, 3, err));
    OK(pd_tx_commit(&tx, err));
    assert_int_equal(counts(&w).surplus, 1);
    assert_int_equal(counts(&w).completed, 1);
    check_counters(&w);
    world_close(&w);
}

static void queue_moves_on_and_comes_back(void **state)
{
    struct world w;
    struct pd_lease l[4];
    int64_t reserved = 0;
    (void)state;
    world_open(&w);
    world_fill(&w, 2, 2, 300);
    for (int i = 0; i < 300; i++) {
        assert_int_equal(take(&w, w.user[0], 1, l, &reserved), 1);
        assert_int_equal(l[0].record_id, i + 1);
        put(&w, l[0].record_id, w.user[0], PD_ANSWER_SUBMITTED, NULL);
    }
    assert_int_equal(take(&w, w.user[0], 1, l, &reserved), 0);
    assert_true(number(&w, "SELECT after_id FROM queue_cursor WHERE account_id = 1") >= 200);
    /* deleting an answer brings its record back */
    struct pd_tx tx = {0};
    OK(pd_tx_begin(&tx, w.store, PD_TX_DURABLE, err));
    OK(pd_response_delete(tx.db, 7, err));
    OK(pd_tx_commit(&tx, err));
    assert_int_equal(take(&w, w.user[0], 1, l, &reserved), 1);
    assert_int_equal(l[0].record_id, 7);
    assert_int_equal(take(&w, w.user[1], 3, l, &reserved), 3);
    assert_int_equal(l[0].record_id, 1);
    check_counters(&w);
    /* new records are found past the cursor */
    OK(pd_tx_begin(&tx, w.store, PD_TX_DURABLE, err));
    OK(pd_lease_return(tx.db, 0, w.user[0], 0, err));
    int64_t id = 0;
    struct pd_record_new r = {.dataset_id = w.dataset, .fields = PD_STR("{}")};
    OK(pd_record_create(tx.db, &r, &id, err));
    OK(pd_tx_commit(&tx, err));
    assert_int_equal(take(&w, w.user[0], 3, l, &reserved), 2);
    assert_int_equal(l[1].record_id, id);
    world_close(&w);
}

/* A draft whose lease is gone is offered again, also when it was an answer the queue had passed. */
static void drafts_come_back(void **state)
{
    struct world w;
    struct pd_lease l[4];
    int64_t reserved = 0;
    (void)state;
    world_open(&w);
    world_fill(&w, 2, 2, 200);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(take(&w, w.user[0], 1, l, &reserved), 1);
        put(&w, l[0].record_id, w.user[0], PD_ANSWER_SUBMITTED, NULL);
    }
    assert_int_equal(take(&w, w.user[0], 1, l, &reserved), 0);
    put(&w, 5, w.user[0], PD_ANSWER_DRAFT, NULL);
    assert_int_equal(take(&w, w.user[0], 2, l, &reserved), 1);
    assert_int_equal(l[0].record_id, 5);
    put(&w, 5, w.user[0], PD_ANSWER_DRAFT, NULL);
    struct pd_tx tx = {0};
    OK(pd_tx_begin(&tx, w.store, PD_TX_DURABLE, err));
    OK(pd_lease_return(tx.db, 0, w.user[0], 0, err));
    OK(pd_tx_commit(&tx, err));
    assert_int_equal(take(&w, w.user[0], 2, l, &reserved), 1);
    assert_int_equal(l[0].record_id, 5);
    put(&w, 5, w.user[0], PD_ANSWER_DISCARDED, NULL);
    assert_int_equal(take(&w, w.user[0], 2, l, &reserved), 0);
    world_close(&w);
}

/* Any sequence of puts and deletes leaves the counters equal to a count. */
static void random_walk_keeps_counters(void **state)
{
    struct world w;
    struct pd_rng rng;
    (void)state;
    world_open(&w);
    world_fill(&w, 4, 2, 5);
    pd_rng_seed(&rng, 7, 0);
    for (int i = 0; i < 400; i++) {
        int64_t record = 1 + (int64_t)pd_rng_below(&rng, 5);
        int64_t user = w.user[pd_rng_below(&rng, 4)];
        uint64_t what = pd_rng_below(&rng, 6);
        put_ago_us = (int64_t)pd_rng_below(&rng, 10) * PD_QUARTER_US / 2;
        struct pd_lease l[2];
        int64_t reserved = 0;
        if (what < 3) {
            put(&w, record, user, (enum pd_answer_status)what, NULL);
        } else if (what == 3) {
            take(&w, user, 2, l, &reserved);
        } else if (what == 4) {
            struct pd_response mine;
            bool found = false;
            struct pd_tx tx = {0};
            OK(pd_tx_begin(&tx, w.store, PD_TX_RELAXED, err));
            OK(pd_response_of(tx.db, &w.a, record, user, &mine, &found, err));
            if (found)
                OK(pd_response_delete(tx.db, mine.id, err));
            OK(pd_tx_commit(&tx, err));
        } else {
            pd_lease_set_clock(pd_lease_now() + PD_LEASE_TTL_US / 2);
        }
        check_counters(&w);
        assert_int_equal(number(&w, "SELECT count(*) FROM record WHERE submitted > 2"), 0);
    }
    /* deleting a record takes its numbers along; a new cap recounts */
    struct pd_tx tx = {0};
    OK(pd_tx_begin(&tx, w.store, PD_TX_DURABLE, err));
    OK(pd_record_delete(tx.db, 2, err));
    OK(pd_dataset_set_overlap(tx.db, w.dataset, 1, err));
    OK(pd_tx_commit(&tx, err));
    check_counters(&w);
    pd_lease_set_clock(0);
    put_ago_us = 0;
    world_close(&w);
}

/* With many records in hand the queue's hint moves up; whatever makes room is found again. */
static void the_hint_never_hides_a_record_with_room(void **state)
{
    enum { RECORDS = 700, MANY = 160 };
    struct world w;
    struct pd_lease l[MANY];
    struct pd_rng rng;
    int64_t reserved = 0, moved = 0;
    (void)state;
    for (int cap = 1; cap <= 2; cap++) {
        world_open(&w);
        world_fill(&w, 4, cap, RECORDS);
        pd_rng_seed(&rng, 11, 0);
        for (int i = 0; i < 120; i++) {
            int64_t user = w.user[pd_rng_below(&rng, 4)];
            size_t n = take(&w, user, pd_rng_below(&rng, MANY), l, &reserved);
            uint64_t what = pd_rng_below(&rng, 8);
            for (size_t k = 0; k < n && what < 3; k += 1 + pd_rng_below(&rng, 40))
                put(&w, l[k].record_id, user, (enum pd_answer_status)what, NULL);
            if (what == 3 && n) { /* undo */
                put(&w, l[n / 2].record_id, user, PD_ANSWER_SUBMITTED, NULL);
                put(&w, l[n / 2].record_id, user, PD_ANSWER_DRAFT, NULL);
            }
            if (what == 4) {
                struct pd_tx tx = {0};
                OK(pd_tx_begin(&tx, w.store, PD_TX_RELAXED, err));
                OK(pd_lease_return(tx.db, 0, user, n ? l[n - 1].record_id : 0, err));
                OK(pd_tx_commit(&tx, err));
            }
            if (what == 5)
                pd_lease_set_clock(pd_lease_now() + PD_LEASE_TTL_US / 3);
            check_counters(&w);
            moved += number(&w, "SELECT full_until > 0 FROM dataset");
        }
        pd_lease_set_clock(0);
        world_close(&w);
    }
    assert_true(moved > 20); /* it was in use */
}

/* "Today" is a sum of quarters: an answer counts once, when it was last given. */
static void answers_since_a_moment(void **state)
{
    struct world w;
    struct pd_db *db = NULL;
    int64_t sub = -1, dis = -1;
    (void)state;
    world_open(&w);
    world_fill(&w, 2, 2, 5);
    int64_t day = pd_time_us() - (int64_t)24 * 4 * PD_QUARTER_US;
    put_ago_us = (int64_t)30 * 4 * PD_QUARTER_US;
    put(&w, 1, w.user[0], PD_ANSWER_SUBMITTED, NULL);
    put(&w, 2, w.user[0], PD_ANSWER_SUBMITTED, NULL);
    put_ago_us = 0;
    put(&w, 2, w.user[0], PD_ANSWER_SUBMITTED, NULL); /* again: moves to today */
    put(&w, 3, w.user[0], PD_ANSWER_DISCARDED, NULL);
    put(&w, 4, w.user[0], PD_ANSWER_SUBMITTED, NULL);
    put(&w, 4, w.user[0], PD_ANSWER_DRAFT, NULL); /* undone */
    put(&w, 4, w.user[1], PD_ANSWER_SUBMITTED, NULL);
    assert_int_equal(counts(&w).flagged, 1);
    OK(pd_read_begin(w.store, &db, err));
    OK(pd_answers_since(db, w.dataset, w.user[0], day, &sub, &dis, err));
    assert_int_equal(sub, 1);
    assert_int_equal(dis, 1);
    OK(pd_answers_since(db, w.dataset, 0, day, &sub, NULL, err));
    assert_int_equal(sub, 2);
    OK(pd_answers_since(db, w.dataset, 0, 0, &sub, NULL, err));
    assert_int_equal(sub, 3);
    pd_read_end(w.store, db);
    check_counters(&w);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(submit_completes_and_counts),
        cmocka_unit_test(same_judgment_twice_is_stored_once),
        cmocka_unit_test(undo_reopens_and_drafts_leave_no_judgment),
        cmocka_unit_test(answers_beyond_the_cap_are_surplus),
        cmocka_unit_test(a_higher_cap_counts_what_was_surplus),
        cmocka_unit_test(queue_moves_on_and_comes_back),
        cmocka_unit_test(drafts_come_back),
        cmocka_unit_test(random_walk_keeps_counters),
        cmocka_unit_test(answers_since_a_moment),
        cmocka_unit_test(the_hint_never_hides_a_record_with_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
