/* Reading answers and judgments, by keyset pages. */
#include "base/time.h"
#include "store/db_int.h"
#include "store/response.h"

#define RESPONSE                                                                                   \
    "SELECT p.id, p.uuid, p.record_id, p.dataset_id, p.account_id, p.n, r.uuid, u.uuid, "          \
    "u.username, p.status, p.vals, p.shown, p.surplus, p.active_ms, p.guideline_version, "         \
    "p.inserted_at, p.updated_at, p.notes FROM response p JOIN record r ON r.id = p.record_id "    \
    "JOIN account u ON u.id = p.account_id "

static enum pd_answer_status status_of(struct pd_str s)
{
    enum pd_answer_status st = PD_ANSWER_DELETED;
    (void)pd_answer_status_parse(s, &st);
    return st;
}

static void read_response(const struct pd_rows *r, struct pd_arena *a, void *to)
{
    struct pd_response *out = to;
    *out = (struct pd_response){.id = pd_row_i64(r, 0),
                                .record_id = pd_row_i64(r, 2),
                                .dataset_id = pd_row_i64(r, 3),
                                .user_id = pd_row_i64(r, 4),
                                .n = pd_row_i64(r, 5),
                                .username = pd_row_dup(r, 8, a),
                                .status = status_of(pd_row_str(r, 9)),
                                .values = pd_row_dup(r, 10, a),
                                .shown = pd_row_dup(r, 11, a),
                                .surplus = pd_row_i64(r, 12) != 0,
                                .active_ms = pd_row_i64(r, 13),
                                .guideline_version = pd_row_i64(r, 14),
                                .inserted_us = pd_row_i64(r, 15),
                                .updated_us = pd_row_i64(r, 16),
                                .notes = pd_row_dup(r, 17, a)};
    pd__row_uuid(r, 1, out->uuid);
    pd__row_uuid(r, 6, out->record_uuid);
    pd__row_uuid(r, 7, out->user_uuid);
}

enum pd_rc pd_response_by_uuid(struct pd_db *db, struct pd_arena *a, struct pd_str uuid,
                               struct pd_response *out, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    bool found = false;
    enum pd_rc rc = pd_db_query(db, &rows, err, RESPONSE "WHERE p.uuid = ?1", "s", uuid);
    if (rc == PD_OK)
        rc = pd__rows_one(rows, a, read_response, out, &found, err);
    if (rc == PD_OK && !found)
        rc = PD_FAIL(err, PD_NOTFOUND, "no response with id %.*s", PD_STR_ARG(uuid));
    return rc;
}

enum pd_rc pd_response_of(struct pd_db *db, struct pd_arena *a, int64_t record_id, int64_t user_id,
                          struct pd_response *out, bool *found, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    enum pd_rc rc = pd_db_query(db, &rows, err,
                                RESPONSE "WHERE p.record_id = ?1 AND p.account_id = ?2 "
                                         "ORDER BY p.n DESC LIMIT 1",
                                "ii", record_id, user_id);
    return rc == PD_OK ? pd__rows_one(rows, a, read_response, out, found, err) : rc;
}

enum pd_rc pd_response_list(struct pd_db *db, struct pd_arena *a, int64_t dataset_id, int64_t first,
                            int64_t last, int64_t user_id, struct pd_response **out, size_t *n,
                            struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    enum pd_rc rc = pd_db_query(db, &rows, err,
                                RESPONSE "WHERE p.dataset_id = ?1 AND p.record_id BETWEEN ?2 AND "
                                         "?3 AND (?4 = 0 OR p.account_id = ?4) "
                                         "ORDER BY p.record_id, p.id",
                                "iiii", dataset_id, first, last, user_id);
    return rc == PD_OK ? pd__rows_all(rows, a, read_response, sizeof **out, out, n, err) : rc;
}

enum pd_rc pd_response_mine(struct pd_db *db, struct pd_arena *a, int64_t dataset_id,
                            int64_t user_id, enum pd_answer_status status, int64_t before_us,
                            int64_t before_id, size_t limit, struct pd_response **out, size_t *n,
                            struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    if (before_us == 0)
        before_us = INT64_MAX;
    enum pd_rc rc = pd_db_query(
        db, &rows, err,
        RESPONSE "WHERE p.account_id = ?1 AND p.dataset_id = ?2 AND (p.updated_at < ?3 OR "
                 "(p.updated_at = ?3 AND p.id < ?4)) AND (?5 IS NULL OR p.status = ?5) "
                 "ORDER BY p.updated_at DESC, p.id DESC LIMIT ?6",
        "iiiizi", user_id, dataset_id, before_us, before_id,
        status == PD_ANSWER_DELETED ? NULL : pd_answer_status_name(status), (int64_t)limit);
    return rc == PD_OK ? pd__rows_all(rows, a, read_response, sizeof **out, out, n, err) : rc;
}

#define JUDGMENT                                                                                   \
    "SELECT j.id, j.uuid, j.record_id, j.account_id, j.n, u.username, j.status, j.vals, j.shown, " \
    "j.source, j.surplus, j.active_ms, j.guideline_version, j.at, j.notes FROM judgment j "        \
    "JOIN account u ON u.id = j.account_id "

static void read_judgment(const struct pd_rows *r, struct pd_arena *a, void *to)
{
    struct pd_judgment *out = to;
    *out = (struct pd_judgment){.id = pd_row_i64(r, 0),
                                .record_id = pd_row_i64(r, 2),
                                .user_id = pd_row_i64(r, 3),
                                .n = pd_row_i64(r, 4),
                                .username = pd_row_dup(r, 5, a),
                                .status = status_of(pd_row_str(r, 6)),
                                .values = pd_row_dup(r, 7, a),
                                .shown = pd_row_dup(r, 8, a),
                                .source = pd_row_dup(r, 9, a),
                                .surplus = pd_row_i64(r, 10) != 0,
                                .active_ms = pd_row_i64(r, 11),
                                .guideline_version = pd_row_i64(r, 12),
                                .at_us = pd_row_i64(r, 13),
                                .notes = pd_row_dup(r, 14, a)};
    pd__row_uuid(r, 1, out->uuid);
}

enum pd_rc pd_judgment_page(struct pd_db *db, struct pd_arena *a, int64_t dataset_id,
                            int64_t record_id, int64_t after_id, size_t limit,
                            struct pd_judgment **out, size_t *n, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    enum pd_rc rc =
        record_id ? pd_db_query(db, &rows, err,
                                JUDGMENT "WHERE j.record_id = ?1 AND j.id > ?2 ORDER BY j.id "
                                         "LIMIT ?3",
                                "iii", record_id, after_id, (int64_t)limit)
                  : pd_db_query(db, &rows, err,
                                JUDGMENT "WHERE j.dataset_id = ?1 AND j.id > ?2 ORDER BY j.id "
                                         "LIMIT ?3",
                                "iii", dataset_id, after_id, (int64_t)limit);
    return rc == PD_OK ? pd__rows_all(rows, a, read_judgment, sizeof **out, out, n, err) : rc;
}

enum pd_rc pd_answers_since(struct pd_db *db, int64_t dataset_id, int64_t user_id, int64_t since_us,
                            int64_t *submitted, int64_t *discarded, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    bool found = false;
    enum pd_rc rc = pd_db_query(db, &rows, err,
                                "SELECT coalesce(sum(submitted), 0), coalesce(sum(discarded), 0) "
                                "FROM answer_count WHERE dataset_id = ?1 AND account_id = ?2 AND "
                                "quarter >= ?3",
                                "iii", dataset_id, user_id, since_us / PD_QUARTER_US);
    if (rc != PD_OK)
        return rc;
    rc = pd_rows_next(rows, &found, err);
    if (rc == PD_OK && submitted)
        *submitted = pd_row_i64(rows, 0);
    if (rc == PD_OK && discarded)
        *discarded = pd_row_i64(rows, 1);
    pd_rows_close(rows);
    return rc;
}
