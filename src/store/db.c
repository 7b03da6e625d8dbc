/* The part of a connection that no backend needs to know: parameter lists, the statement cache,
 * test faults. */
#include "store/db.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "store/db_int.h"

#include <stdarg.h>

static _Thread_local long fail_after = -1;

void pd_db_fail_after(long n)
{
    fail_after = n;
}

enum pd_rc pd_db_open(struct pd_db **out, const char *where, bool read_only, struct pd_err *err)
{
    struct pd_db *db = pd_xalloc(sizeof *db);
    db->be = &pd__db_sqlite;
    pd_map_init(&db->cache);
    enum pd_rc rc = db->be->open(db, where, read_only, err);
    if (rc != PD_OK) {
        pd_map_release(&db->cache);
        pd_free(db);
        return rc;
    }
    *out = db;
    return PD_OK;
}

void pd_db_close(struct pd_db *db)
{
    if (!db)
        return;
    for (struct pd_rows *r = db->all; r;) {
        struct pd_rows *next = r->next;
        db->be->finalize(db, r->stmt);
        pd_free(r);
        r = next;
    }
    pd_map_release(&db->cache);
    db->be->close(db);
    pd_free(db);
}

void *pd_db_handle(struct pd_db *db)
{
    return db->conn;
}

enum pd_rc pd_db_script(struct pd_db *db, const char *sql, struct pd_err *err)
{
    return db->be->script(db, sql, err);
}

/* A free statement of this text: cached ones form a chain, because a query may be open twice. */
static enum pd_rc take(struct pd_db *db, const char *sql, struct pd_rows **out, struct pd_err *err)
{
    struct pd_str key = pd_str_from(sql);
    int64_t head = 0;
    if (pd_map_get(&db->cache, key, &head))
        for (struct pd_rows *r = (struct pd_rows *)(intptr_t)head; r; r = r->same)
            if (!r->busy) {
                r->busy = true;
                *out = r;
                return PD_OK;
            }
    void *stmt = NULL;
    enum pd_rc rc = db->be->prepare(db, sql, &stmt, err);
    if (rc != PD_OK)
        return rc;
    struct pd_rows *r = pd_xalloc(sizeof *r);
    *r = (struct pd_rows){.db = db,
                          .stmt = stmt,
                          .busy = true,
                          .next = db->all,
                          .same = (struct pd_rows *)(intptr_t)head};
    db->all = r;
    pd_map_put(&db->cache, key, (int64_t)(intptr_t)r);
    *out = r;
    return PD_OK;
}

static enum pd_rc bind(struct pd_db *db, void *stmt, const char *types, va_list ap,
                       struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    for (int at = 1; *types && rc == PD_OK; types++, at++) {
        switch (*types) {
        case 'i':
            rc = db->be->bind_i64(db, stmt, at, va_arg(ap, int64_t));
            break;
        case 'I': {
            int64_t v = va_arg(ap, int64_t);
            rc = v ? db->be->bind_i64(db, stmt, at, v)
                   : db->be->bind_str(db, stmt, at, (struct pd_str){0});
            break;
        }
        case 'd':
            rc = db->be->bind_f64(db, stmt, at, va_arg(ap, double));
            break;
        case 's':
            rc = db->be->bind_str(db, stmt, at, va_arg(ap, struct pd_str));
            break;
        case 'z': {
            const char *z = va_arg(ap, const char *);
            rc = db->be->bind_str(db, stmt, at, (struct pd_str){z, z ? strlen(z) : 0});
            break;
        }
        default:
            pd_bug("unknown parameter type '%c'", *types);
        }
    }
    if (rc != PD_OK)
        PD_FAIL(err, rc, "a parameter could not be bound");
    return rc;
}

static enum pd_rc start(struct pd_db *db, struct pd_rows **rows, struct pd_err *err,
                        const char *sql, const char *types, va_list ap)
{
    struct pd_rows *r = NULL;
    bool writes = *sql == 'I' || *sql == 'U' || *sql == 'D'; /* INSERT, UPDATE, DELETE */
    if (writes && fail_after >= 0 && fail_after-- == 0)
        return PD_FAIL(err, PD_IO, "write failed (asked for by a test)");
    enum pd_rc rc = take(db, sql, &r, err);
    if (rc != PD_OK)
        return rc;
    rc = bind(db, r->stmt, types, ap, err);
    if (rc != PD_OK)
        pd_rows_close(r);
    *rows = rc == PD_OK ? r : NULL;
    return rc;
}

enum pd_rc pd_db_query(struct pd_db *db, struct pd_rows **rows, struct pd_err *err, const char *sql,
                       const char *types, ...)
{
    va_list ap;
    va_start(ap, types);
    enum pd_rc rc = start(db, rows, err, sql, types, ap);
    va_end(ap);
    return rc;
}

enum pd_rc pd_rows_next(struct pd_rows *rows, bool *more, struct pd_err *err)
{
    return rows->db->be->step(rows->db, rows->stmt, more, err);
}

void pd_rows_close(struct pd_rows *rows)
{
    if (!rows)
        return;
    rows->db->be->reset(rows->db, rows->stmt);
    rows->busy = false;
}

bool pd_row_null(const struct pd_rows *rows, int col)
{
    return rows->db->be->is_null(rows->stmt, col);
}

int64_t pd_row_i64(const struct pd_rows *rows, int col)
{
    return rows->db->be->i64(rows->stmt, col);
}

double pd_row_f64(const struct pd_rows *rows, int col)
{
    return rows->db->be->f64(rows->stmt, col);
}

struct pd_str pd_row_str(const struct pd_rows *rows, int col)
{
    return rows->db->be->str(rows->stmt, col);
}

char *pd_row_dup(const struct pd_rows *rows, int col, struct pd_arena *a)
{
    struct pd_str s = pd_row_str(rows, col);
    return s.ptr ? pd_arena_strndup(a, s.ptr, s.len) : NULL;
}

enum pd_rc pd_db_run(struct pd_db *db, int64_t *changed, struct pd_err *err, const char *sql,
                     const char *types, ...)
{
    struct pd_rows *r = NULL;
    va_list ap;
    va_start(ap, types);
    enum pd_rc rc = start(db, &r, err, sql, types, ap);
    va_end(ap);
    bool more = false;
    if (rc == PD_OK)
        rc = pd_rows_next(r, &more, err);
    if (rc == PD_OK && changed)
        *changed = db->be->changes(db);
    pd_rows_close(r);
    return rc;
}

enum pd_rc pd_db_i64(struct pd_db *db, int64_t *out, bool *found, struct pd_err *err,
                     const char *sql, const char *types, ...)
{
    struct pd_rows *r = NULL;
    va_list ap;
    va_start(ap, types);
    enum pd_rc rc = start(db, &r, err, sql, types, ap);
    va_end(ap);
    bool more = false;
    if (rc == PD_OK)
        rc = pd_rows_next(r, &more, err);
    if (rc == PD_OK && more)
        *out = pd_row_i64(r, 0);
    if (rc == PD_OK && !more && !found)
        rc = PD_FAIL(err, PD_NOTFOUND, "no such row");
    if (found)
        *found = more;
    /* INSERT ... RETURNING is complete only after its last step. */
    if (rc == PD_OK && more)
        rc = pd_rows_next(r, &more, err);
    pd_rows_close(r);
    return rc;
}

void pd__db_undo(struct pd_db *db, const char *sql)
{
    struct pd_err err;
    if (pd_db_run(db, NULL, &err, sql, "") != PD_OK)
        pd_log(PD_LOG_WARN, "store", "%s: %s", sql, err.msg);
}
