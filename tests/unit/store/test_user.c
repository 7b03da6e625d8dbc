/* Accounts, keys, links, sessions, workspaces; jobs. */
#include "store_fixture.h"

#include "store/job.h"
#include "store/snapshot.h"

static void names_passwords_and_roles(void **state)
{
    struct world w;
    struct pd_tx tx = {0};
    struct pd_user u;
    int64_t id = 0;
    (void)state;
    world_open(&w);
    OK(pd_tx_begin(&tx, w.store, PD_TX_DURABLE, err));
    struct pd_user_new ann = {
        .username = PD_STR("ann"), .password = PD_STR("12345678"), .role = PD_ROLE_ADMIN};
    OK(pd_user_create(tx.db, w.store, &ann, &id, err));
    FAILS(PD_CONFLICT, pd_user_create(tx.db, w.store, &ann, &id, err));
    static const char *const bad[] = {"", "-ann", "Ann", "a b", "\xc3\xa9"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct pd_user_new b = {.username = pd_str_from(bad[i])};
        FAILS(PD_INVALID, pd_user_create(tx.db, w.store, &b, &id, err));
    }
    struct pd_user_new weak = {.username = PD_STR("bob"), .password = PD_STR("1234567")};
    FAILS(PD_INVALID, pd_user_create(tx.db, w.store, &weak, &id, err));
    OK(pd_user_sign_in(tx.db, &w.a, PD_STR("ann"), PD_STR("12345678"), &u, err));
    assert_int_equal(u.role, PD_ROLE_ADMIN);
    assert_string_equal(u.first_name, "ann");
    FAILS(PD_UNAUTH, pd_user_sign_in(tx.db, &w.a, PD_STR("ann"), PD_STR("12345679"), &u, err));
    FAILS(PD_UNAUTH, pd_user_sign_in(tx.db, &w.a, PD_STR("eve"), PD_STR("12345678"), &u, err));
    OK(pd_tx_commit(&tx, err));
    world_close(&w);
}

static void keys_are_sealed_and_found(void **state)
{
    struct world w;
    struct pd_tx tx = {0};
    struct pd_user u;
    char *key = NULL, *other = NULL;
    (void)state;
    world_open(&w);
    world_fill(&w, 1, 1, 0);
    OK(pd_tx_begin(&tx, w.store, PD_TX_DURABLE, err));
    OK(pd_user_api_key(tx.db, w.store, &w.a, w.user[0], &key, err));
    OK(pd_user_by_api_key(tx.db, w.store, &w.a, pd_str_from(key), &u, err));
    assert_int_equal(u.id, w.user[0]);
    OK(pd_user_set_api_key(tx.db, w.store, u.id, (struct pd_str){0}, err));
    FAILS(PD_UNAUTH, pd_user_by_api_key(tx.db, w.store, &w.a, pd_str_from(key), &u, err));
    OK(pd_user_api_key(tx.db, w.store, &w.a, w.user[0], &other, err));
    assert_string_not_equal(key, other);
    OK(pd_tx_commit(&tx, err));
    /* the text of the key stands nowhere in the database */
    struct pd_buf bytes;
    char path[128];
    pd_buf_init(&bytes, 0);
    snprintf(path, sizeof path, "%s/podium.db-wal", w.dir);
    OK(pd_fs_read(path, 1 << 28, &bytes, err));
    assert_null(memmem(bytes.ptr, bytes.len, other, strlen(other)));
    pd_buf_release(&bytes);
    world_close(&w);
}

static void links_work_once_and_sessions_end(void **state)
{
    struct world w;
    struct pd_tx tx = {0};
    struct pd_user u;
    char link[44], old[44], session[44];
    int64_t who = 0;
    (void)state;
    world_open(&w);
    world_fill(&w, 1, 1, 0);
    OK(pd_tx_begin(&tx, w.store, PD_TX_DURABLE, err));
    OK(pd_link_create(tx.db, w.store, w.user[0], -1, link, err));
    FAILS(PD_UNAUTH, pd_link_use(tx.db, w.store, pd_str_from(link), &who, err)); /* too old */
    OK(pd_link_create(tx.db, w.store, w.user[0], 60000000, old, err));
    OK(pd_link_create(tx.db, w.store, w.user[0], 60000000, link, err)); /* ends the older one */
    OK(pd_link_use(tx.db, w.store, pd_str_from(link), &who, err));
    assert_int_equal(who, w.user[0]);
    FAILS(PD_UNAUTH, pd_link_use(tx.db, w.store, pd_str_from(link), &who, err));
    FAILS(PD_UNAUTH, pd_link_use(tx.db, w.store, pd_str_from(old), &who, err));
    FAILS(PD_UNAUTH, pd_link_use(tx.db, w.store, PD_STR("nothing"), &who, err));
    OK(pd_session_create(tx.db, w.store, who, 60000000, session, err));
    OK(pd_session_user(tx.db, w.store, &w.a, pd_str_from(session), &u, err));
    /* a new password ends what was open */
    OK(pd_link_create(tx.db, w.store, w.user[0], 60000000, link, err));
    OK(pd_user_set_password(tx.db, who, PD_STR("a new one"), err));
    FAILS(PD_UNAUTH, pd_link_use(tx.db, w.store, pd_str_from(link), &who, err));
    FAILS(PD_UNAUTH, pd_session_user(tx.db, w.store, &w.a, pd_str_from(session), &u, err));
    OK(pd_session_create(tx.db, w.store, who, 60000000, session, err));
    OK(pd_user_remove(tx.db, who, err));
    FAILS(PD_UNAUTH, pd_session_user(tx.db, w.store, &w.a, pd_str_from(session), &u, err));
    FAILS(PD_NOTFOUND, pd_user_get(tx.db, &w.a, who, &u, err));
    struct pd_user_new again = {.username = PD_STR("u0")};
    OK(pd_user_create(tx.db, w.store, &again, &who, err)); /* the name is free */
    OK(pd_tx_commit(&tx, err));
    world_close(&w);
}

static void workspaces_and_members(void **state)
{
    struct world w;
    struct pd_tx tx = {0};
    struct pd_workspace *ws = NULL;
    struct pd_user *users = NULL;
    size_t n = 0;
    int64_t id = 0;
    (void)state;
    world_open(&w);
    world_fill(&w, 2, 1, 0);
    OK(pd_tx_begin(&tx, w.store, PD_TX_DURABLE, err));
    FAILS(PD_CONFLICT, pd_workspace_create(tx.db, PD_STR("podium"), &id, err));
    FAILS(PD_INVALID, pd_workspace_create(tx.db, PD_STR("a b"), &id, err));
    FAILS(PD_CONFLICT, pd_workspace_delete(tx.db, w.workspace, err)); /* has a dataset */
    FAILS(PD_CONFLICT, pd_workspace_add(tx.db, w.workspace, w.user[0], err));
    OK(pd_workspace_create(tx.db, PD_STR("two"), &id, err));
    OK(pd_workspace_list(tx.db, &w.a, 0, &ws, &n, err));
    assert_int_equal(n, 2);
    OK(pd_workspace_list(tx.db, &w.a, w.user[0], &ws, &n, err));
    assert_int_equal(n, 1);
    OK(pd_workspace_drop(tx.db, w.workspace, w.user[0], err));
    OK(pd_workspace_members(tx.db, &w.a, w.workspace, &users, &n, err));
    assert_int_equal(n, 1);
    OK(pd_workspace_delete(tx.db, id, err));
    OK(pd_tx_commit(&tx, err));
    world_close(&w);
}

static void datasets_by_name_and_their_parts(void **state)
{
    struct world w;
    struct pd_tx tx = {0};
    struct pd_dataset d;
    int64_t other = 0, id = 0;
    (void)state;
    world_open(&w);
    world_fill(&w, 1, 1, 0);
    OK(pd_tx_begin(&tx, w.store, PD_TX_DURABLE, err));
    OK(pd_dataset_find(tx.db, &w.a, PD_STR("pairs"), &d, err));
    assert_int_equal(d.guideline_version, 1);
    assert_string_equal(d.guidelines, "be kind");
    OK(pd_dataset_set_guidelines(tx.db, d.id, PD_STR("be kinder"), 0, err));
    OK(pd_dataset_find(tx.db, &w.a, pd_str_from(d.uuid), &d, err));
    assert_int_equal(d.guideline_version, 2);
    OK(pd_workspace_create(tx.db, PD_STR("two"), &other, err));
    struct pd_dataset_new same = {.workspace_id = other, .name = PD_STR("pairs")};
    OK(pd_dataset_create(tx.db, &same, &id, err));
    FAILS(PD_CONFLICT, pd_dataset_create(tx.db, &same, &id, err));
    FAILS(PD_CONFLICT, pd_dataset_find(tx.db, &w.a, PD_STR("pairs"), &d, err));
    OK(pd_dataset_find(tx.db, &w.a, PD_STR("two/pairs"), &d, err));
    assert_int_equal(d.id, id);
    FAILS(PD_INVALID, pd_dataset_publish(tx.db, id, err)); /* nothing in it */
    struct pd_dataset_new odd = {.workspace_id = other, .name = PD_STR("a/b")};
    FAILS(PD_INVALID, pd_dataset_create(tx.db, &odd, &id, err));
    OK(pd_dataset_delete(tx.db, d.id, err));
    FAILS(PD_NOTFOUND, pd_dataset_find(tx.db, &w.a, PD_STR("two/pairs"), &d, err));
    OK(pd_tx_commit(&tx, err));
    world_close(&w);
}

static void jobs_change_hands_once(void **state)
{
    struct world w;
    struct pd_tx tx = {0};
    struct pd_job j;
    int64_t id = 0, n = 0;
    bool found = false, stop = false;
    (void)state;
    world_open(&w);
    OK(pd_tx_begin(&tx, w.store, PD_TX_DURABLE, err));
    OK(pd_job_create(tx.db, &(struct pd_job_new){.kind = PD_STR("reward")}, &id, err));
    OK(pd_job_claim(tx.db, &w.a, "w1", &j, &found, err));
    assert_true(found && j.id == id && j.state == PD_JOB_RUNNING && !j.resume);
    OK(pd_job_claim(tx.db, &w.a, "w2", &j, &found, err));
    assert_false(found);
    OK(pd_job_beat(tx.db, id, "w1", PD_STR("step 3"), &stop, err));
    assert_false(stop);
    FAILS(PD_CONFLICT, pd_job_beat(tx.db, id, "w2", (struct pd_str){0}, &stop, err));
    /* silence: queued again, to be resumed by another */
    OK(pd_db_script(tx.db, "UPDATE job SET heartbeat_at = 0", err));
    OK(pd_job_requeue_silent(tx.db, &n, err));
    assert_int_equal(n, 1);
    FAILS(PD_CONFLICT,
          pd_job_finish(tx.db, id, "w1", PD_JOB_DONE, (struct pd_str){0}, (struct pd_str){0}, err));
    OK(pd_job_claim(tx.db, &w.a, "w2", &j, &found, err));
    assert_true(found && j.resume && j.attempts == 2);
    assert_string_equal(j.message, "step 3");
    OK(pd_job_stop(tx.db, id, err));
    OK(pd_job_beat(tx.db, id, "w2", (struct pd_str){0}, &stop, err));
    assert_true(stop);
    OK(pd_job_finish(tx.db, id, "w2", PD_JOB_INTERRUPTED, (struct pd_str){0}, PD_STR("{}"), err));
    FAILS(PD_CONFLICT, pd_job_stop(tx.db, id, err));
    OK(pd_job_resume(tx.db, id, err));
    OK(pd_job_get(tx.db, &w.a, id, &j, err));
    assert_true(j.state == PD_JOB_QUEUED && j.resume);
    OK(pd_tx_commit(&tx, err));
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_passwords_and_roles),
        cmocka_unit_test(keys_are_sealed_and_found),
        cmocka_unit_test(links_work_once_and_sessions_end),
        cmocka_unit_test(workspaces_and_members),
        cmocka_unit_test(datasets_by_name_and_their_parts),
        cmocka_unit_test(jobs_change_hands_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
