/* Snapshot rows. */
#include "store/snapshot.h"
#include "base/crypt.h"
#include "base/time.h"
#include "store/db_int.h"

#define SNAPSHOT                                                                                   \
    "SELECT id, uuid, coalesce(dataset_id, 0), name, hash, splits, counts, created_at "            \
    "FROM snapshot "

static void read_snapshot(const struct pd_rows *r, struct pd_arena *a, void *to)
{
    struct pd_snapshot *out = to;
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

enum pd_rc pd_snapshot_get(struct pd_db *db, struct pd_arena *a, int64_t id,
                           struct pd_snapshot *out, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    bool found = false;
    enum pd_rc rc = pd_db_query(db, &rows, err, SNAPSHOT "WHERE id = ?1", "i", id);
    if (rc == PD_OK)
        rc = pd__rows_one(rows, a, read_snapshot, out, &found, err);
    if (rc == PD_OK && !found)
        rc = PD_FAIL(err, PD_NOTFOUND, "no snapshot with number %lld", (long long)id);
    return rc;
}

enum pd_rc pd_snapshot_find(struct pd_db *db, struct pd_arena *a, struct pd_str name,
                            struct pd_snapshot *out, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    bool found = false;
    enum pd_rc rc = pd_db_query(db, &rows, err,
                                SNAPSHOT "WHERE name = ?1 OR uuid = ?1 OR (length(?1) >= 8 AND "
                                         "substr(hash, 1, length(?1)) = ?1) "
                                         "ORDER BY id DESC LIMIT 1",
                                "s", name);
    if (rc == PD_OK)
        rc = pd__rows_one(rows, a, read_snapshot, out, &found, err);
    if (rc == PD_OK && !found)
        rc = PD_FAIL(err, PD_NOTFOUND, "no snapshot '%.*s'; `podium snapshot list` names them",
                     PD_STR_ARG(name));
    return rc;
}

enum pd_rc pd_snapshot_list(struct pd_db *db, struct pd_arena *a, int64_t dataset_id,
                            struct pd_snapshot **out, size_t *n, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    enum pd_rc rc =
        pd_db_query(db, &rows, err, SNAPSHOT "WHERE ?1 = 0 OR dataset_id = ?1 ORDER BY id DESC",
                    "i", dataset_id);
    return rc == PD_OK ? pd__rows_all(rows, a, read_snapshot, sizeof **out, out, n, err) : rc;
}
