/* Leases. See lease.h for the promise and the order. */
#include "store/lease.h"
#include "base/time.h"
#include "store/db_int.h"

#include <stdatomic.h>

/* A lease renewed less than this ago is left as it is: asking for the next task writes nothing. */
#define FRESH_US ((int64_t)60 * 1000000)

enum { FULL_STEP = 128 }; /* records stepped over before the hint moves */

static _Atomic int64_t test_clock;

void pd_lease_set_clock(int64_t us)
{
    test_clock = us;
}

int64_t pd_lease_now(void)
{
    int64_t t = test_clock;
    return t ? t : pd_time_us();
}

enum pd_rc pd__room_at(struct pd_db *db, int64_t dataset_id, int64_t record_id, struct pd_err *err)
{
    return pd_db_run(db, NULL, err,
                     "UPDATE dataset SET full_until = ?2 - 1 WHERE id = ?1 AND full_until >= ?2",
                     "ii", dataset_id, record_id);
}

/* What is about to expire gives room to others: in one dataset, or (0) in all. */
static enum pd_rc make_room(struct pd_db *db, int64_t dataset_id, int64_t now, struct pd_err *err)
{
    int64_t first = 0;
    if (!dataset_id)
        return pd_db_run(db, NULL, err,
                         "UPDATE dataset SET full_until = 0 WHERE id IN (SELECT dataset_id FROM "
                         "lease WHERE expires_at <= ?1)",
                         "i", now);
    enum pd_rc rc = pd_db_i64(db, &first, NULL, err,
                              "SELECT coalesce(min(record_id), 0) FROM lease WHERE dataset_id = ?1 "
                              "AND expires_at <= ?2",
                              "ii", dataset_id, now);
    return rc == PD_OK && first ? pd__room_at(db, dataset_id, first, err) : rc;
}

/* Deletes expired leases (of one dataset, or 0 = all); surplus answers on their records may count.
 */
static enum pd_rc expire(struct pd_db *db, int64_t dataset_id, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_arena a;
    struct pd_rows *rows = NULL;
    void *items = NULL;
    size_t n = 0, cap = 0;
    int64_t now = pd_lease_now();
    bool more = false;
    pd_arena_init(&a);
    /* Two texts, not one with an OR: each walks the index of what has expired and nothing else. */
    rc = dataset_id ? pd_db_query(db, &rows, err,
                                  "SELECT l.record_id FROM lease l JOIN record r ON r.id = "
                                  "l.record_id WHERE l.dataset_id = ?2 AND l.expires_at <= ?1 AND "
                                  "r.surplus > 0",
                                  "ii", now, dataset_id)
                    : pd_db_query(db, &rows, err,
                                  "SELECT l.record_id FROM lease l JOIN record r ON r.id = "
                                  "l.record_id WHERE l.expires_at <= ?1 AND r.surplus > 0",
                                  "i", now);
    PD_TRY(rc);
    for (;;) {
        PD_TRY(pd_rows_next(rows, &more, err));
        if (!more)
            break;
        *(int64_t *)pd__list_slot(&a, &items, n++, &cap, sizeof(int64_t)) = pd_row_i64(rows, 0);
    }
    PD_TRY(make_room(db, dataset_id, now, err));
    rc = dataset_id
             ? pd_db_run(db, NULL, err,
                         "DELETE FROM lease WHERE dataset_id = ?2 AND expires_at <= ?1", "ii", now,
                         dataset_id)
             : pd_db_run(db, NULL, err, "DELETE FROM lease WHERE expires_at <= ?1", "i", now);
    PD_TRY(rc);
    for (size_t i = 0; i < n; i++)
        PD_TRY(pd__settle_surplus(db, ((int64_t *)items)[i], err));
out:
    pd_rows_close(rows);
    pd_arena_release(&a);
    return rc;
}

enum pd_rc pd_lease_expire(struct pd_db *db, struct pd_err *err)
{
    return expire(db, 0, err);
}

static enum pd_rc own_leases(struct pd_db *db, int64_t dataset_id, int64_t user_id, size_t want,
                             struct pd_lease *out, size_t *n, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_rows *rows = NULL;
    bool more = false;
    PD_TRY(pd_lease_renew(db, dataset_id, user_id, err));
    PD_TRY(pd_db_query(db, &rows, err,
                       "SELECT record_id, expires_at FROM lease WHERE account_id = ?1 AND "
                       "dataset_id = ?2 ORDER BY taken_at, record_id LIMIT ?3",
                       "iii", user_id, dataset_id, (int64_t)want));
    for (;;) {
        PD_TRY(pd_rows_next(rows, &more, err));
        if (!more)
            break;
        out[(*n)++] = (struct pd_lease){pd_row_i64(rows, 0), pd_row_i64(rows, 1)};
    }
out:
    pd_rows_close(rows);
    return rc;
}

/* Records at or below the cursor are done for this user for good. Returns the cursor, moved up past
 * what was finished since; it is written back only when that saves something. */
static enum pd_rc advance_cursor(struct pd_db *db, int64_t dataset_id, int64_t user_id, bool capped,
                                 int64_t *cursor, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    int64_t old = 0, first = 0;
    bool found = false;
    PD_TRY(pd_db_i64(db, &old, &found, err,
                     "SELECT after_id FROM queue_cursor WHERE dataset_id = ?1 AND account_id = ?2",
                     "ii", dataset_id, user_id));
    rc = capped ? pd_db_i64(db, &first, &found, err,
                            "SELECT r.id FROM record r WHERE r.dataset_id = ?1 AND r.completed = 0 "
                            "AND r.id > ?3 AND NOT EXISTS (SELECT 1 FROM response p WHERE "
                            "p.record_id = r.id AND p.account_id = ?2 AND p.status <> 'draft') "
                            "ORDER BY r.id LIMIT 1",
                            "iii", dataset_id, user_id, old)
                : pd_db_i64(db, &first, &found, err,
                            "SELECT r.id FROM record r WHERE r.dataset_id = ?1 AND r.id > ?3 AND "
                            "NOT EXISTS (SELECT 1 FROM response p WHERE p.record_id = r.id AND "
                            "p.account_id = ?2 AND p.status <> 'draft') ORDER BY r.id LIMIT 1",
                            "iii", dataset_id, user_id, old);
    PD_TRY(rc);
    *cursor = first - 1;
    if (!found)
        PD_TRY(pd_db_i64(db, cursor, NULL, err,
                         "SELECT coalesce(max(id), 0) FROM record WHERE dataset_id = ?1", "i",
                         dataset_id));
    if (*cursor < old)
        *cursor = old;
    if (*cursor - old >= 64)
        PD_TRY(pd_db_run(db, NULL, err,
                         "INSERT INTO queue_cursor(dataset_id, account_id, after_id) "
                         "VALUES(?1, ?2, ?3) ON CONFLICT(dataset_id, account_id) DO UPDATE SET "
                         "after_id = excluded.after_id",
                         "iii", dataset_id, user_id, *cursor));
out:
    return rc;
}

static enum pd_rc insert_lease(struct pd_db *db, int64_t dataset_id, int64_t user_id,
                               int64_t record_id, struct pd_err *err)
{
    int64_t now = pd_lease_now();
    return pd_db_run(db, NULL, err,
                     "INSERT INTO lease(record_id, account_id, dataset_id, taken_at, expires_at) "
                     "VALUES(?1, ?2, ?3, ?4, ?5) ON CONFLICT(record_id, account_id) DO UPDATE SET "
                     "expires_at = excluded.expires_at",
                     "iiiii", record_id, user_id, dataset_id, now, now + PD_LEASE_TTL_US);
}

#define OPEN_FOR_USER                                                                              \
    "AND NOT EXISTS (SELECT 1 FROM response p WHERE p.record_id = r.id AND p.account_id = ?2 "     \
    "AND p.status <> 'draft') "                                                                    \
    "AND NOT EXISTS (SELECT 1 FROM lease l WHERE l.record_id = r.id AND l.account_id = ?2) "

/* Where many take at once, the lowest open records are all in hand, and every take would step over
 * them. Once a take went far beyond the hint, the hint moves up to the first record that has room.
 */
static enum pd_rc advance_full(struct pd_db *db, int64_t dataset_id, int64_t cap, int64_t full,
                               struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    int64_t first = 0;
    bool found = false;
    PD_TRY(pd_db_i64(db, &first, &found, err,
                     "SELECT r.id FROM record r WHERE r.dataset_id = ?1 AND r.completed = 0 AND "
                     "r.id > ?2 AND r.submitted + (SELECT count(*) FROM lease l WHERE l.record_id "
                     "= r.id AND l.expires_at > ?3) < ?4 ORDER BY r.id LIMIT 1",
                     "iiii", dataset_id, full, pd_lease_now(), cap));
    if (found && first - 1 >= full + FULL_STEP / 4)
        PD_TRY(pd_db_run(db, NULL, err, "UPDATE dataset SET full_until = ?2 WHERE id = ?1", "ii",
                         dataset_id, first - 1));
out:
    return rc;
}

static enum pd_rc new_leases(struct pd_db *db, int64_t dataset_id, int64_t user_id, int64_t cap,
                             int64_t full, size_t want, struct pd_lease *out, size_t *n,
                             struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_rows *rows = NULL;
    int64_t cursor = 0, now = pd_lease_now();
    size_t first = *n;
    bool more = false;
    PD_TRY(advance_cursor(db, dataset_id, user_id, cap > 0, &cursor, err));
    if (cursor < full)
        cursor = full;
    rc = cap > 0
             ? pd_db_query(db, &rows, err,
                           "SELECT r.id FROM record r WHERE r.dataset_id = ?1 AND r.completed = 0 "
                           "AND r.id > ?3 " OPEN_FOR_USER
                           "AND r.submitted + (SELECT count(*) FROM lease l WHERE l.record_id = "
                           "r.id AND l.expires_at > ?4) < ?5 ORDER BY r.id LIMIT ?6",
                           "iiiiii", dataset_id, user_id, cursor, now, cap, (int64_t)(want - *n))
             : pd_db_query(db, &rows, err,
                           "SELECT r.id FROM record r WHERE r.dataset_id = ?1 "
                           "AND r.id > ?3 " OPEN_FOR_USER "ORDER BY r.id LIMIT ?4",
                           "iiii", dataset_id, user_id, cursor, (int64_t)(want - *n));
    PD_TRY(rc);
    for (;;) {
        PD_TRY(pd_rows_next(rows, &more, err));
        if (!more)
            break;
        out[(*n)++] = (struct pd_lease){pd_row_i64(rows, 0), now + PD_LEASE_TTL_US};
    }
    for (size_t i = first; i < *n; i++)
        PD_TRY(insert_lease(db, dataset_id, user_id, out[i].record_id, err));
    if (cap > 0 && *n > first && out[first].record_id - full >= FULL_STEP)
        PD_TRY(advance_full(db, dataset_id, cap, full, err));
out:
    pd_rows_close(rows);
    return rc;
}

/* Why the queue is empty: what others hold that this user could still get. */
static enum pd_rc why_empty(struct pd_db *db, int64_t dataset_id, int64_t user_id,
                            int64_t *reserved, int64_t *retry_us, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    bool more = false;
    enum pd_rc rc = pd_db_query(
        db, &rows, err,
        "SELECT count(DISTINCT l.record_id), coalesce(min(l.expires_at), 0) FROM lease l WHERE "
        "l.dataset_id = ?1 AND l.account_id <> ?2 AND l.expires_at > ?3 AND NOT EXISTS (SELECT 1 "
        "FROM response p WHERE p.record_id = l.record_id AND p.account_id = ?2 AND p.status <> "
        "'draft') AND NOT EXISTS "
        "(SELECT 1 FROM lease m WHERE m.record_id = l.record_id AND m.account_id = ?2)",
        "iii", dataset_id, user_id, pd_lease_now());
    if (rc != PD_OK)
        return rc;
    rc = pd_rows_next(rows, &more, err);
    if (rc == PD_OK && more) {
        if (reserved)
            *reserved = pd_row_i64(rows, 0);
        if (retry_us)
            *retry_us = pd_row_i64(rows, 1);
    }
    pd_rows_close(rows);
    return rc;
}

enum pd_rc pd_lease_take(struct pd_db *db, int64_t dataset_id, int64_t user_id, size_t want,
                         struct pd_lease *out, size_t *n, int64_t *reserved, int64_t *retry_us,
                         struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    int64_t cap = 0, full = 0;
    size_t got = 0;
    PD_TRY(expire(db, dataset_id, err));
    PD_TRY(pd_db_i64(db, &cap, NULL, err, "SELECT min_submitted FROM dataset WHERE id = ?1", "i",
                     dataset_id));
    if (cap > 0)
        PD_TRY(pd_db_i64(db, &full, NULL, err, "SELECT full_until FROM dataset WHERE id = ?1", "i",
                         dataset_id));
    PD_TRY(own_leases(db, dataset_id, user_id, want, out, &got, err));
    if (got < want)
        PD_TRY(new_leases(db, dataset_id, user_id, cap, full, want, out, &got, err));
    if (reserved)
        *reserved = 0;
    if (retry_us)
        *retry_us = 0;
    if (got < want)
        PD_TRY(why_empty(db, dataset_id, user_id, reserved, retry_us, err));
    *n = got;
out:
    return rc;
}

enum pd_rc pd_lease_record(struct pd_db *db, int64_t record_id, int64_t user_id, bool *ok,
                           struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    int64_t dataset_id = 0;
    bool found = false;
    PD_TRY(pd_db_i64(db, &dataset_id, &found, err,
                     "SELECT r.dataset_id FROM record r JOIN dataset d ON d.id = r.dataset_id "
                     "WHERE r.id = ?1 AND NOT EXISTS (SELECT 1 FROM response p WHERE p.record_id "
                     "= r.id AND p.account_id = ?2 AND p.status <> 'draft') AND (d.min_submitted "
                     "= 0 OR r.submitted + (SELECT count(*) FROM lease l WHERE l.record_id = r.id "
                     "AND l.expires_at > ?3 AND l.account_id <> ?2) < d.min_submitted)",
                     "iii", record_id, user_id, pd_lease_now()));
    if (found)
        PD_TRY(insert_lease(db, dataset_id, user_id, record_id, err));
    *ok = found;
out:
    return rc;
}

enum pd_rc pd_lease_renew(struct pd_db *db, int64_t dataset_id, int64_t user_id, struct pd_err *err)
{
    int64_t now = pd_lease_now();
    return pd_db_run(db, NULL, err,
                     "UPDATE lease SET expires_at = ?3 WHERE account_id = ?1 AND dataset_id = ?2 "
                     "AND expires_at > ?4 AND expires_at < ?5",
                     "iiiii", user_id, dataset_id, now + PD_LEASE_TTL_US, now,
                     now + PD_LEASE_TTL_US - FRESH_US);
}

enum pd_rc pd_lease_return(struct pd_db *db, int64_t dataset_id, int64_t user_id, int64_t record_id,
                           struct pd_err *err)
{
    enum pd_rc rc = pd_db_run(db, NULL, err,
                              "UPDATE lease SET expires_at = 0 WHERE account_id = ?1 AND (?2 = 0 "
                              "OR dataset_id = ?2) AND (?3 = 0 OR record_id = ?3)",
                              "iii", user_id, dataset_id, record_id);
    return rc == PD_OK ? expire(db, dataset_id, err) : rc;
}
