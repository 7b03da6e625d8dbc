/* Snapshot rows. */
#include "store/snapshot.h"
#include "base/crypt.h"
#include "base/time.h"
#include "store/db_int.h"

#define SNAPSHOT                                                                                   \
    "SELECT id, uuid, coalesce(dataset_id, 0), name, hash, splits, counts, created_at "            \
    "FROM snapshot "

static void read_snapshot(const struct pd_rows *r, struct pd_arena *a, struct pd_snapshot *out)
{
    *out = (struct pd_snapshot){.id = pd_row_i64(r, 0),
                                .dataset_id = pd_row_i64(r, 2),
                                .name = pd_row_dup(r, 3, a),
                                .splits = pd_row_dup(r, 5, a),
                                .counts = pd_row_dup(r, 6, a),
                                .created_us = pd_row_i64(r, 7)};
    struct pd_str hash = pd_row_str(r, 4);
    memcpy(out->hash, hash.ptr, hash.len < 64 ? hash.len : 64);
    pd__row_uuid(r, 1, out->uuid);
}

enum pd_rc pd_snapshot_insert(struct pd_db *db, const struct pd_snapshot_new *in, int64_t *id,
                              struct pd_err *err)
{
    char uuid[37];
    pd_uuid_new(uuid);
    /* The number counts up for ever: a name is never given twice, even after a dataset of the same
     * name was deleted. */
    return pd_db_i64(
        db, id, NULL, err,
        "INSERT INTO snapshot(uuid, dataset_id, name, hash, splits, counts, created_at) "
        "SELECT ?1, d.id, d.name || '@' || (1 + (SELECT count(*) FROM snapshot s WHERE "
        "substr(s.name, 1, length(d.name) + 1) = d.name || '@')), ?3, ?4, ?5, ?6 FROM dataset d "
        "WHERE d.id = ?2 RETURNING id",
        "zizssi", uuid, in->dataset_id, in->hash, in->splits, in->counts, pd_time_us());
}

static enum pd_rc all(struct pd_rows *rows, struct pd_arena *a, struct pd_snapshot **out, size_t *n,
                      struct pd_err *err)
{
    void *items = NULL;
    size_t len = 0, cap = 0;
    bool more = false;
    enum pd_rc rc = PD_OK;
    while ((rc = pd_rows_next(rows, &more, err)) == PD_OK && more)
        read_snapshot(rows, a, pd__list_slot(a, &items, len++, &cap, sizeof(struct pd_snapshot)));
    pd_rows_close(rows);
    if (rc == PD_OK) {
        *out = items;
        *n = len;
    }
    return rc;
}

enum pd_rc pd_snapshot_get(struct pd_db *db, struct pd_arena *a, int64_t id,
                           struct pd_snapshot *out, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    struct pd_snapshot *list = NULL;
    size_t n = 0;
    enum pd_rc rc = pd_db_query(db, &rows, err, SNAPSHOT "WHERE id = ?1", "i", id);
    if (rc == PD_OK)
        rc = all(rows, a, &list, &n, err);
    if (rc == PD_OK && n == 0)
        rc = PD_FAIL(err, PD_NOTFOUND, "no snapshot with number %lld", (long long)id);
    if (rc == PD_OK)
        *out = list[0];
    return rc;
}

enum pd_rc pd_snapshot_find(struct pd_db *db, struct pd_arena *a, struct pd_str name,
                            struct pd_snapshot *out, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    struct pd_snapshot *list = NULL;
    size_t n = 0;
    enum pd_rc rc = pd_db_query(db, &rows, err,
                                SNAPSHOT "WHERE name = ?1 OR uuid = ?1 OR (length(?1) >= 8 AND "
                                         "substr(hash, 1, length(?1)) = ?1) "
                                         "ORDER BY id DESC LIMIT 1",
                                "s", name);
    if (rc == PD_OK)
        rc = all(rows, a, &list, &n, err);
    if (rc == PD_OK && n == 0)
        rc = PD_FAIL(err, PD_NOTFOUND, "no snapshot '%.*s'; `podium snapshot list` names them",
                     PD_STR_ARG(name));
    if (rc == PD_OK)
        *out = list[0];
    return rc;
}

enum pd_rc pd_snapshot_list(struct pd_db *db, struct pd_arena *a, int64_t dataset_id,
                            struct pd_snapshot **out, size_t *n, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    enum pd_rc rc =
        pd_db_query(db, &rows, err, SNAPSHOT "WHERE ?1 = 0 OR dataset_id = ?1 ORDER BY id DESC",
                    "i", dataset_id);
    return rc == PD_OK ? all(rows, a, out, n, err) : rc;
}
