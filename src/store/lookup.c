#include "store/lookup.h"

#include "base/time.h"

#include <stdio.h>

enum pd_rc pd_user_has_password(struct pd_db *db, int64_t user_id, bool *has, struct pd_err *err)
{
    int64_t n = 0;
    enum pd_rc rc = pd_db_i64(
        db, &n, NULL, err,
        "SELECT count(*) FROM account WHERE id = ?1 AND password_hash IS NOT NULL", "i", user_id);
    *has = n > 0;
    return rc;
}

enum pd_rc pd_user_activity(struct pd_db *db, int64_t user_id, int64_t *last_us, bool *signed_in,
                            struct pd_err *err)
{
    int64_t last = 0, sessions = 0;
    enum pd_rc rc = pd_db_i64(
        db, &last, NULL, err,
        "SELECT coalesce(max(last_at), 0) FROM labeler_count WHERE account_id = ?1", "i", user_id);
    if (rc == PD_OK)
        rc = pd_db_i64(db, &sessions, NULL, err,
                       "SELECT count(*) FROM session WHERE account_id = ?1 AND expires_at > ?2",
                       "ii", user_id, pd_time_us());
    if (rc == PD_OK) {
        *last_us = last;
        *signed_in = sessions > 0;
    }
    return rc;
}

enum pd_rc pd_link_used_since(struct pd_db *db, int64_t user_id, int64_t since_us, bool *used,
                              struct pd_err *err)
{
    int64_t n = 0;
    enum pd_rc rc =
        pd_db_i64(db, &n, NULL, err,
                  "SELECT count(*) FROM signin_link WHERE account_id = ?1 AND used_at >= ?2", "ii",
                  user_id, since_us);
    *used = n > 0;
    return rc;
}

enum pd_rc pd_judgment_by_uuid(struct pd_db *db, struct pd_arena *a, struct pd_str uuid,
                               struct pd_judgment *out, bool *found, bool *latest,
                               struct pd_err *err)
{
    struct pd_rows *r = NULL;
    enum pd_rc rc = pd_db_query(
        db, &r, err,
        "SELECT j.id, j.record_id, j.account_id, j.n, j.status, j.vals, j.shown, j.notes, j.at,"
        " j.surplus, NOT EXISTS(SELECT 1 FROM judgment k WHERE k.record_id = j.record_id AND"
        " k.account_id = j.account_id AND k.n = j.n AND k.id > j.id)"
        " FROM judgment j WHERE j.uuid = ?1",
        "s", uuid);
    bool more = false;
    if (rc == PD_OK)
        rc = pd_rows_next(r, &more, err);
    if (rc == PD_OK && more) {
        struct pd_str status = pd_row_str(r, 4);
        *out = (struct pd_judgment){.id = pd_row_i64(r, 0),
                                    .record_id = pd_row_i64(r, 1),
                                    .user_id = pd_row_i64(r, 2),
                                    .n = pd_row_i64(r, 3),
                                    .values = pd_row_dup(r, 5, a),
                                    .shown = pd_row_dup(r, 6, a),
                                    .notes = pd_row_dup(r, 7, a),
                                    .at_us = pd_row_i64(r, 8),
                                    .surplus = pd_row_i64(r, 9) != 0};
        snprintf(out->uuid, sizeof out->uuid, "%.*s", PD_STR_ARG(uuid));
        if (!pd_answer_status_parse(status, &out->status))
            out->status = PD_ANSWER_DELETED;
        *latest = pd_row_i64(r, 10) != 0;
    }
    pd_rows_close(r);
    *found = more;
    return rc;
}

enum pd_rc pd_judgment_last(struct pd_db *db, int64_t record_id, int64_t user_id, char uuid[37],
                            struct pd_err *err)
{
    struct pd_rows *r = NULL;
    bool more = false;
    uuid[0] = '\0';
    enum pd_rc rc = pd_db_query(db, &r, err,
                                "SELECT uuid FROM judgment WHERE record_id = ?1 AND account_id = ?2"
                                " ORDER BY id DESC LIMIT 1",
                                "ii", record_id, user_id);
    if (rc == PD_OK)
        rc = pd_rows_next(r, &more, err);
    if (rc == PD_OK && more)
        snprintf(uuid, 37, "%.*s", PD_STR_ARG(pd_row_str(r, 0)));
    pd_rows_close(r);
    return rc;
}

enum pd_rc pd_record_in_hand(struct pd_db *db, int64_t record_id, bool *held, struct pd_err *err)
{
    int64_t n = 0;
    enum pd_rc rc = pd_db_i64(db, &n, NULL, err,
                              "SELECT count(*) FROM lease WHERE record_id = ?1 AND expires_at > ?2",
                              "ii", record_id, pd_time_us());
    *held = n > 0;
    return rc;
}

enum pd_rc pd_job_ahead(struct pd_db *db, int64_t job_id, int64_t *n, struct pd_err *err)
{
    return pd_db_i64(db, n, NULL, err,
                     "SELECT count(*) FROM job WHERE id < ?1 AND state IN ('queued', 'running',"
                     " 'stopping')",
                     "i", job_id);
}
