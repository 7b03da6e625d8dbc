/* A data folder in a temporary place, with one published pairwise dataset and some labelers. */
#ifndef PD_TEST_STORE_FIXTURE_H
#define PD_TEST_STORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/time.h"
#include "base/fs.h"
#include "base/json.h"
#include "store/dataset.h"
#include "store/lease.h"
#include "store/record.h"
#include "store/response.h"
#include "store/user.h"

#define OK(expr)                                                                                   \
    do {                                                                                           \
        struct pd_err err_ = {0};                                                                  \
        struct pd_err *err = &err_;                                                                \
        enum pd_rc rc_ = (expr);                                                                   \
        if (rc_ != PD_OK)                                                                          \
            fail_msg("%s: %s: %s", #expr, pd_rc_name(rc_), err_.msg);                              \
    } while (0)

#define FAILS(code, expr)                                                                          \
    do {                                                                                           \
        struct pd_err err_ = {0};                                                                  \
        struct pd_err *err = &err_;                                                                \
        assert_int_equal((expr), code);                                                            \
        assert_true(err_.msg[0] != '\0');                                                          \
    } while (0)

struct world {
    char dir[64];
    struct pd_store *store;
    struct pd_arena a;
    int64_t workspace, dataset, user[16];
};

static inline void world_open(struct world *w)
{
    strcpy(w->dir, "/tmp/podium-test-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    pd_arena_init(&w->a);
    OK(pd_store_open(&w->store, w->dir, err));
}

static inline void world_close(struct world *w)
{
    pd_store_close(w->store);
    pd_arena_release(&w->a);
    OK(pd_fs_remove_tree(w->dir, err));
}

/* n_users labelers, a dataset with this cap and n_records records. */
static inline void world_fill(struct world *w, int n_users, int64_t cap, int n_records)
{
    struct pd_tx tx = {0};
    OK(pd_tx_begin(&tx, w->store, PD_TX_DURABLE, err));
    OK(pd_workspace_create(tx.db, PD_STR("podium"), &w->workspace, err));
    for (int i = 0; i < n_users; i++) {
        char name[16];
        snprintf(name, sizeof name, "u%d", i);
        struct pd_user_new u = {.username = pd_str_from(name)};
        OK(pd_user_create(tx.db, w->store, &u, &w->user[i], err));
        OK(pd_workspace_add(tx.db, w->workspace, w->user[i], err));
    }
    struct pd_dataset_new d = {.workspace_id = w->workspace,
                               .name = PD_STR("pairs"),
                               .min_submitted = cap,
                               .guidelines = PD_STR("be kind"),
                               .tmpl = PD_STR("pairwise")};
    OK(pd_dataset_create(tx.db, &d, &w->dataset, err));
    static const char *const fields[] = {"prompt", "a", "b"};
    int64_t id = 0;
    for (int i = 0; i < 3; i++) {
        struct pd_part_new f = {.dataset_id = w->dataset,
                                .kind = PD_PART_FIELD,
                                .name = pd_str_from(fields[i]),
                                .settings = PD_STR("{\"type\":\"text\",\"use_markdown\":true}"),
                                .required = true};
        OK(pd_part_create(tx.db, &f, &id, err));
    }
    struct pd_part_new q = {
        .dataset_id = w->dataset,
        .kind = PD_PART_QUESTION,
        .name = PD_STR("preference"),
        .settings =
            PD_STR("{\"type\":\"ranking\",\"options\":[{\"value\":\"a\",\"text\":\"A\"},"
                   "{\"value\":\"b\",\"text\":\"B\"}],\"strength\":true,\"both_bad\":true}"),
        .required = true};
    OK(pd_part_create(tx.db, &q, &id, err));
    OK(pd_dataset_publish(tx.db, w->dataset, err));
    for (int i = 0; i < n_records; i++) {
        char fields_json[120], ext[32];
        snprintf(fields_json, sizeof fields_json,
                 "{\"prompt\":\"p%d\",\"a\":\"answer a of %d\",\"b\":\"answer b of %d\"}", i, i, i);
        snprintf(ext, sizeof ext, "r%d", i);
        struct pd_record_new r = {.dataset_id = w->dataset,
                                  .external_id = pd_str_from(ext),
                                  .fields = pd_str_from(fields_json)};
        OK(pd_record_create(tx.db, &r, &id, err));
    }
    OK(pd_tx_commit(&tx, err));
}

#define A_BETTER                                                                                   \
    PD_STR(                                                                                        \
        "{\"preference\":{\"value\":[{\"value\":\"a\",\"rank\":1},{\"value\":\"b\",\"rank\":2}],"  \
        "\"strength\":2}}")

/* Answers of put() are given this long ago. */
static int64_t put_ago_us;

/* What record 2's answers say looks like a flag and is none; those of record 3 carry one. */
static inline struct pd_str notes_on(int64_t record)
{
    return record == 2   ? PD_STR("{\"why\":\"a \\\"flag\\\":{ in a text\"}")
           : record == 3 ? PD_STR("{\"why\":\"x\",\"flag\":{\"kind\":\"other\"}}")
                         : (struct pd_str){NULL, 0};
}

static inline struct pd_response_result put(struct world *w, int64_t record, int64_t user,
                                            enum pd_answer_status st, const char *uuid)
{
    struct pd_response_result out = {0};
    struct pd_response_put in = {.record_id = record,
                                 .user_id = user,
                                 .status = st,
                                 .values = A_BETTER,
                                 .judgment_uuid = pd_str_from(uuid),
                                 .source = PD_STR("test"),
                                 .notes = notes_on(record),
                                 .at_us = put_ago_us ? pd_time_us() - put_ago_us : 0,
                                 .active_ms = 1000,
                                 .guideline_version = -1};
    struct pd_tx tx = {0};
    OK(pd_tx_begin(&tx, w->store, PD_TX_DURABLE, err));
    OK(pd_response_put(tx.db, &in, &out, err));
    OK(pd_tx_commit(&tx, err));
    return out;
}

static inline size_t take(struct world *w, int64_t user, size_t want, struct pd_lease *out,
                          int64_t *reserved)
{
    size_t n = 0;
    int64_t retry = 0;
    struct pd_tx tx = {0};
    OK(pd_tx_begin(&tx, w->store, PD_TX_RELAXED, err));
    OK(pd_lease_take(tx.db, w->dataset, user, want, out, &n, reserved, &retry, err));
    OK(pd_tx_commit(&tx, err));
    return n;
}

static inline struct pd_counts counts(struct world *w)
{
    struct pd_counts c = {0};
    struct pd_db *db = NULL;
    OK(pd_read_begin(w->store, &db, err));
    OK(pd_dataset_counts(db, w->dataset, &c, err));
    pd_read_end(w->store, db);
    return c;
}

/* A single number, for checks against the tables themselves. */
static inline int64_t number(struct world *w, const char *sql)
{
    int64_t n = -1;
    struct pd_db *db = NULL;
    OK(pd_read_begin(w->store, &db, err));
    OK(pd_db_i64(db, &n, NULL, err, sql, ""));
    pd_read_end(w->store, db);
    return n;
}

/* The counters are what a count over the rows gives. */
static inline void check_counters(struct world *w)
{
    static const char *const checks[] = {
        "SELECT count(*) FROM dataset d WHERE n_records <> (SELECT count(*) FROM record WHERE "
        "dataset_id = d.id)",
        "SELECT count(*) FROM dataset d WHERE n_completed <> (SELECT count(*) FROM record WHERE "
        "dataset_id = d.id AND completed = 1)",
        "SELECT count(*) FROM dataset d WHERE n_submitted <> (SELECT count(*) FROM response WHERE "
        "dataset_id = d.id AND status = 'submitted')",
        "SELECT count(*) FROM dataset d WHERE n_discarded <> (SELECT count(*) FROM response WHERE "
        "dataset_id = d.id AND status = 'discarded')",
        "SELECT count(*) FROM dataset d WHERE n_draft <> (SELECT count(*) FROM response WHERE "
        "dataset_id = d.id AND status = 'draft')",
        "SELECT count(*) FROM dataset d WHERE n_surplus <> (SELECT count(*) FROM response WHERE "
        "dataset_id = d.id AND status = 'submitted' AND surplus = 1)",
        "SELECT count(*) FROM record r WHERE submitted <> (SELECT count(*) FROM response WHERE "
        "record_id = r.id AND status = 'submitted' AND surplus = 0)",
        "SELECT count(*) FROM record r WHERE surplus <> (SELECT count(*) FROM response WHERE "
        "record_id = r.id AND status = 'submitted' AND surplus = 1)",
        "SELECT count(*) FROM record r JOIN dataset d ON d.id = r.dataset_id WHERE d.min_submitted "
        "> 0 AND completed <> (r.submitted >= d.min_submitted)",
        "SELECT count(*) FROM labeler_count c WHERE submitted <> (SELECT count(*) FROM response p "
        "WHERE p.account_id = c.account_id AND p.dataset_id = c.dataset_id AND status = "
        "'submitted')",
        "SELECT count(*) FROM labeler_count c WHERE done_submitted <> (SELECT count(*) FROM "
        "response p JOIN record r ON r.id = p.record_id WHERE p.account_id = c.account_id AND "
        "p.dataset_id = c.dataset_id AND p.status = 'submitted' AND r.completed = 1)",
        "SELECT count(*) FROM labeler_count c WHERE done_discarded <> (SELECT count(*) FROM "
        "response p JOIN record r ON r.id = p.record_id WHERE p.account_id = c.account_id AND "
        "p.dataset_id = c.dataset_id AND p.status = 'discarded' AND r.completed = 1)",
        "SELECT count(*) FROM labeler_count c WHERE done_draft <> (SELECT count(*) FROM "
        "response p JOIN record r ON r.id = p.record_id WHERE p.account_id = c.account_id AND "
        "p.dataset_id = c.dataset_id AND p.status = 'draft' AND r.completed = 1)",
        "SELECT count(*) FROM labeler_count c WHERE discarded <> (SELECT count(*) FROM response p "
        "WHERE p.account_id = c.account_id AND p.dataset_id = c.dataset_id AND status = "
        "'discarded')",
        "SELECT count(*) FROM labeler_count c WHERE draft <> (SELECT count(*) FROM response p "
        "WHERE p.account_id = c.account_id AND p.dataset_id = c.dataset_id AND status = 'draft')",
        "SELECT count(*) FROM dataset d WHERE n_flagged <> (SELECT count(*) FROM response WHERE "
        "dataset_id = d.id AND status <> 'draft' AND notes LIKE '%\"flag\":{%')",
        "SELECT count(*) FROM answer_count c WHERE submitted <> (SELECT count(*) FROM response p "
        "WHERE p.dataset_id = c.dataset_id AND (c.account_id = 0 OR p.account_id = c.account_id) "
        "AND p.updated_at / 900000000 = c.quarter AND p.status = 'submitted')",
        "SELECT count(*) FROM answer_count c WHERE discarded <> (SELECT count(*) FROM response p "
        "WHERE p.dataset_id = c.dataset_id AND (c.account_id = 0 OR p.account_id = c.account_id) "
        "AND p.updated_at / 900000000 = c.quarter AND p.status = 'discarded')",
        "SELECT count(*) FROM record r JOIN dataset d ON d.id = r.dataset_id WHERE d.min_submitted "
        "> 0 AND r.completed = 0 AND r.id <= d.full_until AND r.submitted + (SELECT count(*) FROM "
        "lease l WHERE l.record_id = r.id) < d.min_submitted",
        "SELECT (SELECT coalesce(sum(submitted + discarded), 0) FROM answer_count WHERE account_id "
        "<> 0) <> (SELECT count(*) FROM response WHERE status <> 'draft')",
    };
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
        if (number(w, checks[i]) != 0)
            fail_msg("counter is off: %s", checks[i]);
}

#endif
