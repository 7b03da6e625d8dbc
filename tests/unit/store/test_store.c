/* The folder, transactions, threads and faults. */
#include "store_fixture.h"

#include "base/mem.h"
#include "base/time.h"

#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void folder_is_private_and_held(void **state)
{
    struct world w;
    struct stat st;
    struct pd_store *second = NULL;
    char path[128];
    (void)state;
    world_open(&w);
    snprintf(path, sizeof path, "%s/secret", w.dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(st.st_size, 32);
    snprintf(path, sizeof path, "%s/podium.db", w.dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    /* advisory locks belong to a process: another one must be refused */
    pid_t child = fork();
    if (child == 0) {
        struct pd_err err = {0};
        _exit(pd_store_open(&second, w.dir, &err) == PD_BUSY && err.msg[0] ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    world_close(&w);
}

static void what_was_committed_is_there_again(void **state)
{
    struct world w;
    (void)state;
    world_open(&w);
    world_fill(&w, 1, 1, 3);
    put(&w, 1, w.user[0], PD_ANSWER_SUBMITTED, NULL);
    pd_store_close(w.store);
    OK(pd_store_open(&w.store, w.dir, err));
    assert_int_equal(counts(&w).submitted, 1);
    world_close(&w);
}

/* A folder of version 1 gets the counters of version 2 from its rows. */
static void older_schema_is_brought_up(void **state)
{
    struct world w;
    struct pd_tx tx = {0};
    (void)state;
    world_open(&w);
    world_fill(&w, 2, 2, 5);
    put(&w, 1, w.user[0], PD_ANSWER_SUBMITTED, NULL);
    put(&w, 2, w.user[0], PD_ANSWER_DRAFT, NULL);
    put(&w, 2, w.user[1], PD_ANSWER_SUBMITTED, NULL);
    put_ago_us = 3 * PD_QUARTER_US;
    put(&w, 3, w.user[1], PD_ANSWER_DISCARDED, NULL);
    put_ago_us = 0;
    OK(pd_tx_begin(&tx, w.store, PD_TX_DURABLE, err));
    OK(pd_db_script(tx.db,
                    "DROP TABLE answer_count; ALTER TABLE response DROP COLUMN flagged;"
                    "ALTER TABLE dataset DROP COLUMN n_flagged;"
                    "ALTER TABLE dataset DROP COLUMN full_until;"
                    "DELETE FROM schema_version; INSERT INTO schema_version(version) VALUES(1)",
                    err));
    OK(pd_tx_commit(&tx, err));
    pd_store_close(w.store);
    OK(pd_store_open(&w.store, w.dir, err));
    assert_int_equal(counts(&w).flagged, 1);
    check_counters(&w);
    put(&w, 3, w.user[1], PD_ANSWER_SUBMITTED, NULL);
    check_counters(&w);
    world_close(&w);
}

static void newer_schema_is_refused(void **state)
{
    struct world w;
    struct pd_tx tx = {0};
    (void)state;
    world_open(&w);
    OK(pd_tx_begin(&tx, w.store, PD_TX_DURABLE, err));
    OK(pd_db_script(tx.db, "INSERT INTO schema_version(version) VALUES(999)", err));
    OK(pd_tx_commit(&tx, err));
    pd_store_close(w.store);
    FAILS(PD_UNSUPPORTED, pd_store_open(&w.store, w.dir, err));
    w.store = NULL;
    world_close(&w);
}

static void abandoned_leaves_nothing(void **state)
{
    struct world w;
    struct pd_tx tx = {0};
    int64_t id = 0;
    (void)state;
    world_open(&w);
    OK(pd_tx_begin(&tx, w.store, PD_TX_DURABLE, err));
    OK(pd_workspace_create(tx.db, PD_STR("gone"), &id, err));
    pd_tx_abandon(&tx);
    pd_tx_abandon(&tx);
    assert_int_equal(number(&w, "SELECT count(*) FROM workspace"), 0);
    world_close(&w);
}

/* ---- threads ---- */

struct worker {
    struct world *w;
    int64_t user;
    int done;
};

/* Takes leases and submits until the queue is empty for this labeler. */
static void *label(void *arg)
{
    struct worker *me = arg;
    for (;;) {
        struct pd_lease l[2];
        int64_t reserved = 0;
        size_t n = take(me->w, me->user, 2, l, &reserved);
        if (n == 0 && reserved == 0)
            return NULL;
        if (n == 0)
            pd_sleep_ms(1);
        for (size_t i = 0; i < n; i++) {
            struct pd_response_result r =
                put(me->w, l[i].record_id, me->user, PD_ANSWER_SUBMITTED, NULL);
            assert_false(r.surplus); /* a leased answer always counts */
            me->done++;
        }
    }
}

/* While they work: answers that count + live leases never pass the cap. */
static void *watch(void *arg)
{
    struct worker *me = arg;
    while (!__atomic_load_n(&me->done, __ATOMIC_ACQUIRE)) {
        int64_t over = number(
            me->w, "SELECT count(*) FROM record r JOIN dataset d ON d.id = r.dataset_id WHERE "
                   "r.submitted + (SELECT count(*) FROM lease l WHERE l.record_id = r.id) > "
                   "d.min_submitted");
        if (over)
            fail_msg("%lld records are over their cap", (long long)over);
    }
    return NULL;
}

static void threads_never_pass_the_cap(void **state)
{
    enum { LABELERS = 6, RECORDS = 60, CAP = 2 };
    struct world w;
    struct worker workers[LABELERS], watcher = {.w = &w};
    pthread_t thread[LABELERS], eye;
    int done = 0;
    (void)state;
    world_open(&w);
    world_fill(&w, LABELERS, CAP, RECORDS);
    pthread_create(&eye, NULL, watch, &watcher);
    for (int i = 0; i < LABELERS; i++) {
        workers[i] = (struct worker){.w = &w, .user = w.user[i]};
        pthread_create(&thread[i], NULL, label, &workers[i]);
    }
    for (int i = 0; i < LABELERS; i++) {
        pthread_join(thread[i], NULL);
        done += workers[i].done;
    }
    __atomic_store_n(&watcher.done, 1, __ATOMIC_RELEASE);
    pthread_join(eye, NULL);
    assert_int_equal(done, RECORDS * CAP);
    assert_int_equal(counts(&w).completed, RECORDS);
    assert_int_equal(counts(&w).surplus, 0);
    assert_int_equal(number(&w, "SELECT count(*) FROM judgment"), RECORDS * CAP);
    check_counters(&w);
    world_close(&w);
}

struct writer {
    struct world *w;
    int id, failed;
};

/* Every third transaction of a thread is abandoned: the others of its group must not notice. */
static void *write_some(void *arg)
{
    struct writer *me = arg;
    for (int i = 0; i < 30; i++) {
        struct pd_tx tx = {0};
        struct pd_err why = {0};
        char name[40];
        int64_t id = 0;
        snprintf(name, sizeof name, "w-%d-%d", me->id, i);
        me->failed += pd_tx_begin(&tx, me->w->store, i % 2 ? PD_TX_RELAXED : PD_TX_DURABLE, &why);
        me->failed += pd_workspace_create(tx.db, pd_str_from(name), &id, &why);
        if (i % 3 == 0)
            pd_tx_abandon(&tx);
        else
            me->failed += pd_tx_commit(&tx, &why);
    }
    return NULL;
}

static void groups_keep_their_members_apart(void **state)
{
    struct world w;
    struct writer writers[8];
    pthread_t thread[8];
    (void)state;
    world_open(&w);
    for (int i = 0; i < 8; i++) {
        writers[i] = (struct writer){.w = &w, .id = i};
        pthread_create(&thread[i], NULL, write_some, &writers[i]);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(thread[i], NULL);
        assert_int_equal(writers[i].failed, 0);
    }
    assert_int_equal(number(&w, "SELECT count(*) FROM workspace"), 8 * 20);
    world_close(&w);
}

/* ---- faults ---- */

/* Let the nth write fail, for n = 0, 1, ... until the whole passes: after each failure nothing has
 * changed. */
static void failing_write_changes_nothing(void **state)
{
    struct world w;
    (void)state;
    world_open(&w);
    world_fill(&w, 2, 1, 2);
    put(&w, 1, w.user[0], PD_ANSWER_SUBMITTED, NULL);
    for (long n = 0;; n++) {
        struct pd_response_put in = {.record_id = 1,
                                     .user_id = w.user[0],
                                     .status = PD_ANSWER_DISCARDED,
                                     .values = PD_STR("{}"),
                                     .guideline_version = -1};
        struct pd_response_result out;
        struct pd_err why = {0};
        struct pd_tx tx = {0};
        OK(pd_tx_begin(&tx, w.store, PD_TX_DURABLE, err));
        pd_db_fail_after(n);
        enum pd_rc rc = pd_response_put(tx.db, &in, &out, &why);
        pd_db_fail_after(-1);
        if (rc == PD_OK) {
            assert_true(n >= 4); /* row, judgment, lease, counters: each was made to fail */
            OK(pd_tx_commit(&tx, err));
            break;
        }
        assert_int_equal(rc, PD_IO);
        pd_tx_abandon(&tx);
        assert_int_equal(counts(&w).submitted, 1);
        assert_int_equal(number(&w, "SELECT count(*) FROM judgment"), 1);
        check_counters(&w);
    }
    assert_int_equal(counts(&w).discarded, 1);
    check_counters(&w);
    world_close(&w);
}

/* A full disk (a page limit here) makes the database drop its transaction: everybody in it is told.
 */
static void full_disk_is_reported(void **state)
{
    struct world w;
    struct pd_tx tx = {0};
    struct pd_err why = {0};
    enum pd_rc rc = PD_OK;
    char *big = pd_xalloc(100001);
    (void)state;
    memset(big, 'x', 100000);
    world_open(&w);
    world_fill(&w, 1, 1, 1);
    OK(pd_tx_begin(&tx, w.store, PD_TX_DURABLE, err));
    OK(pd_db_script(tx.db, "PRAGMA max_page_count = 200", err));
    for (int i = 0; i < 100 && rc == PD_OK; i++) {
        struct pd_record_new r = {.dataset_id = w.dataset, .fields = {big, 100000}};
        int64_t id = 0;
        rc = pd_record_create(tx.db, &r, &id, &why);
    }
    assert_int_equal(rc, PD_IO);
    pd_tx_abandon(&tx);
    OK(pd_tx_begin(&tx, w.store, PD_TX_DURABLE, err));
    OK(pd_db_script(tx.db, "PRAGMA max_page_count = 1000000", err));
    OK(pd_tx_commit(&tx, err));
    assert_int_equal(counts(&w).records, 1);
    put(&w, 1, w.user[0], PD_ANSWER_SUBMITTED, NULL); /* and it goes on */
    check_counters(&w);
    pd_free(big);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folder_is_private_and_held),
        cmocka_unit_test(what_was_committed_is_there_again),
        cmocka_unit_test(older_schema_is_brought_up),
        cmocka_unit_test(newer_schema_is_refused),
        cmocka_unit_test(abandoned_leaves_nothing),
        cmocka_unit_test(threads_never_pass_the_cap),
        cmocka_unit_test(groups_keep_their_members_apart),
        cmocka_unit_test(failing_write_changes_nothing),
        cmocka_unit_test(full_disk_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
