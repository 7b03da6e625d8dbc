/* Workspaces and who is in them. */
#include "base/crypt.h"
#include "base/time.h"
#include "store/db_int.h"
#include "store/user.h"

static const char *const no_workspace = "no workspace '%.*s'";

static void read_workspace(const struct pd_rows *r, struct pd_arena *a, void *to)
{
    struct pd_workspace *out = to;
    *out = (struct pd_workspace){.id = pd_row_i64(r, 0),
                                 .name = pd_row_dup(r, 2, a),
                                 .inserted_us = pd_row_i64(r, 3),
                                 .updated_us = pd_row_i64(r, 4)};
    pd__row_uuid(r, 1, out->uuid);
}

enum pd_rc pd_workspace_create(struct pd_db *db, struct pd_str name, int64_t *id,
                               struct pd_err *err)
{
    char uuid[37];
    bool ok = name.len >= 1 && name.len <= 200;
    for (size_t i = 0; ok && i < name.len; i++) {
        char c = name.ptr[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        ok = word || (i > 0 && (c == '-' || c == '_'));
    }
    if (!ok)
        return PD_FAIL(err, PD_INVALID,
                       "workspace name '%.*s': use letters, digits, - and _, not first",
                       (int)(name.len < 80 ? name.len : 80), name.ptr);
    pd_uuid_new(uuid);
    enum pd_rc rc = pd_db_i64(db, id, NULL, err,
                              "INSERT INTO workspace(uuid, name, inserted_at, updated_at) "
                              "VALUES(?1, ?2, ?3, ?3) RETURNING id",
                              "zsi", uuid, name, pd_time_us());
    if (rc == PD_CONFLICT)
        rc = PD_FAIL(err, PD_CONFLICT, "workspace '%.*s' exists already", PD_STR_ARG(name));
    return rc;
}

static enum pd_rc one(struct pd_rows *rows, struct pd_arena *a, struct pd_workspace *out,
                      struct pd_str name, struct pd_err *err)
{
    bool found = false;
    enum pd_rc rc = pd__rows_one(rows, a, read_workspace, out, &found, err);
    if (rc == PD_OK && !found)
        rc = PD_FAIL(err, PD_NOTFOUND, no_workspace, PD_STR_ARG(name));
    return rc;
}

#define WORKSPACE "SELECT id, uuid, name, inserted_at, updated_at FROM workspace "

enum pd_rc pd_workspace_get(struct pd_db *db, struct pd_arena *a, int64_t id,
                            struct pd_workspace *out, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    enum pd_rc rc = pd_db_query(db, &rows, err, WORKSPACE "WHERE id = ?1", "i", id);
    return rc == PD_OK ? one(rows, a, out, PD_STR("(by number)"), err) : rc;
}

enum pd_rc pd_workspace_by_uuid(struct pd_db *db, struct pd_arena *a, struct pd_str uuid,
                                struct pd_workspace *out, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    enum pd_rc rc = pd_db_query(db, &rows, err, WORKSPACE "WHERE uuid = ?1", "s", uuid);
    return rc == PD_OK ? one(rows, a, out, uuid, err) : rc;
}

enum pd_rc pd_workspace_by_name(struct pd_db *db, struct pd_arena *a, struct pd_str name,
                                struct pd_workspace *out, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    enum pd_rc rc = pd_db_query(db, &rows, err, WORKSPACE "WHERE name = ?1", "s", name);
    return rc == PD_OK ? one(rows, a, out, name, err) : rc;
}

enum pd_rc pd_workspace_list(struct pd_db *db, struct pd_arena *a, int64_t user_id,
                             struct pd_workspace **out, size_t *n, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    enum pd_rc rc = pd_db_query(db, &rows, err,
                                WORKSPACE "WHERE ?1 = 0 OR id IN (SELECT workspace_id FROM "
                                          "membership WHERE account_id = ?1) ORDER BY id",
                                "i", user_id);
    return rc == PD_OK ? pd__rows_all(rows, a, read_workspace, sizeof **out, out, n, err) : rc;
}

enum pd_rc pd_workspace_add(struct pd_db *db, int64_t id, int64_t user_id, struct pd_err *err)
{
    enum pd_rc rc = pd_db_run(
        db, NULL, err,
        "INSERT INTO membership(workspace_id, account_id, inserted_at) VALUES(?1, ?2, ?3)", "iii",
        id, user_id, pd_time_us());
    return rc == PD_CONFLICT ? PD_FAIL(err, rc, "this user is a member already") : rc;
}

enum pd_rc pd_workspace_drop(struct pd_db *db, int64_t id, int64_t user_id, struct pd_err *err)
{
    int64_t n = 0;
    enum pd_rc rc =
        pd_db_run(db, &n, err, "DELETE FROM membership WHERE workspace_id = ?1 AND account_id = ?2",
                  "ii", id, user_id);
    if (rc == PD_OK && n == 0)
        rc = PD_FAIL(err, PD_NOTFOUND, "this user is not a member of the workspace");
    return rc;
}

enum pd_rc pd_workspace_has(struct pd_db *db, int64_t id, int64_t user_id, bool *has,
                            struct pd_err *err)
{
    int64_t one_ = 0;
    return pd_db_i64(db, &one_, has, err,
                     "SELECT 1 FROM membership WHERE workspace_id = ?1 AND account_id = ?2", "ii",
                     id, user_id);
}

enum pd_rc pd_workspace_delete(struct pd_db *db, int64_t id, struct pd_err *err)
{
    int64_t n = 0;
    enum pd_rc rc = pd_db_i64(db, &n, NULL, err,
                              "SELECT count(*) FROM dataset WHERE workspace_id = ?1", "i", id);
    if (rc != PD_OK)
        return rc;
    if (n > 0)
        return PD_FAIL(err, PD_CONFLICT, "the workspace has %lld dataset(s): delete them first",
                       (long long)n);
    rc = pd_db_run(db, &n, err, "DELETE FROM workspace WHERE id = ?1", "i", id);
    if (rc == PD_OK && n == 0)
        rc = PD_FAIL(err, PD_NOTFOUND, "no such workspace");
    return rc;
}
