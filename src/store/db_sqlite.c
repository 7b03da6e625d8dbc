/* SQLite behind the vtable. WAL, foreign keys on; the connection's own mutex is off because a
 * connection belongs to one thread at a time. */
#include "base/mem.h"
#include "store/db_int.h"

#include <sqlite3.h>

static enum pd_rc code_of(int code)
{
    switch (code & 0xff) {
    case SQLITE_FULL:
    case SQLITE_IOERR:
        return PD_IO;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return PD_BUSY;
    case SQLITE_NOMEM:
        return PD_NOMEM;
    case SQLITE_TOOBIG:
        return PD_TOOBIG;
    case SQLITE_CONSTRAINT:
        if (code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY ||
            code == SQLITE_CONSTRAINT_ROWID)
            return PD_CONFLICT;
        return code == SQLITE_CONSTRAINT_FOREIGNKEY ? PD_NOTFOUND : PD_INVALID;
    default:
        return PD_DB;
    }
}

static enum pd_rc fail(struct pd_db *db, const char *doing, struct pd_err *err)
{
    sqlite3 *c = db->conn;
    int code = sqlite3_extended_errcode(c);
    enum pd_rc rc = code_of(code);
    if ((code & 0xff) == SQLITE_FULL)
        return PD_FAIL(err, rc,
                       "the disk is full: nothing was changed in %s; make room and try again",
                       sqlite3_db_filename(c, "main"));
    return PD_FAIL(err, rc, "database: %s: %s", doing, sqlite3_errmsg(c));
}

static void lite_close(struct pd_db *db)
{
    sqlite3_close(db->conn);
    db->conn = NULL;
}

static enum pd_rc lite_script(struct pd_db *db, const char *sql, struct pd_err *err)
{
    if (sqlite3_exec(db->conn, sql, NULL, NULL, NULL) != SQLITE_OK)
        return fail(db, "statement refused", err);
    return PD_OK;
}

static enum pd_rc lite_open(struct pd_db *db, const char *where, bool read_only, struct pd_err *err)
{
    sqlite3 *c = NULL;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (read_only ? 0 : SQLITE_OPEN_CREATE);
    int code = sqlite3_open_v2(where, &c, flags, NULL);
    db->conn = c;
    if (code != SQLITE_OK) {
        enum pd_rc rc = PD_FAIL(err, code_of(code), "cannot open database %s: %s", where,
                                c ? sqlite3_errmsg(c) : sqlite3_errstr(code));
        lite_close(db);
        return rc;
    }
    sqlite3_extended_result_codes(c, 1);
    sqlite3_busy_timeout(c, 5000);
    /* No memory map: a reader that finds a newer commit drops its whole map, on every processor. */
    enum pd_rc rc = lite_script(db,
                                "PRAGMA journal_mode=WAL; PRAGMA foreign_keys=ON;"
                                "PRAGMA synchronous=FULL; PRAGMA temp_store=MEMORY;"
                                "PRAGMA cache_size=-8192; PRAGMA mmap_size=0;"
                                "PRAGMA wal_autocheckpoint=0;",
                                err);
    if (rc == PD_OK)
        rc = lite_script(db, read_only ? "PRAGMA query_only=ON" : "PRAGMA cache_size=-65536", err);
    if (rc != PD_OK) {
        pd_err_prefix(err, "%s", where);
        lite_close(db);
    }
    return rc;
}

static enum pd_rc lite_prepare(struct pd_db *db, const char *sql, void **stmt, struct pd_err *err)
{
    sqlite3_stmt *st = NULL;
    if (sqlite3_prepare_v3(db->conn, sql, -1, SQLITE_PREPARE_PERSISTENT, &st, NULL) != SQLITE_OK)
        return fail(db, "statement refused", err);
    *stmt = st;
    return PD_OK;
}

static enum pd_rc bound(int code)
{
    return code == SQLITE_OK ? PD_OK : code_of(code);
}

static enum pd_rc lite_bind_i64(struct pd_db *db, void *stmt, int at, int64_t v)
{
    (void)db;
    return bound(sqlite3_bind_int64(stmt, at, v));
}

static enum pd_rc lite_bind_f64(struct pd_db *db, void *stmt, int at, double v)
{
    (void)db;
    return bound(sqlite3_bind_double(stmt, at, v));
}

static enum pd_rc lite_bind_str(struct pd_db *db, void *stmt, int at, struct pd_str v)
{
    (void)db;
    if (!v.ptr)
        return bound(sqlite3_bind_null(stmt, at));
    return bound(sqlite3_bind_text64(stmt, at, v.ptr, v.len, SQLITE_TRANSIENT, SQLITE_UTF8));
}

static enum pd_rc lite_step(struct pd_db *db, void *stmt, bool *row, struct pd_err *err)
{
    int code = sqlite3_step(stmt);
    *row = code == SQLITE_ROW;
    if (code == SQLITE_ROW || code == SQLITE_DONE)
        return PD_OK;
    return fail(db, "statement failed", err);
}

static void lite_reset(struct pd_db *db, void *stmt)
{
    (void)db;
    sqlite3_reset(stmt);
    sqlite3_clear_bindings(stmt);
}

static void lite_finalize(struct pd_db *db, void *stmt)
{
    (void)db;
    sqlite3_finalize(stmt);
}

static bool lite_is_null(void *stmt, int col)
{
    return sqlite3_column_type(stmt, col) == SQLITE_NULL;
}

static int64_t lite_i64(void *stmt, int col)
{
    return sqlite3_column_int64(stmt, col);
}

static double lite_f64(void *stmt, int col)
{
    return sqlite3_column_double(stmt, col);
}

static struct pd_str lite_str(void *stmt, int col)
{
    const char *p = (const char *)sqlite3_column_text(stmt, col);
    return (struct pd_str){p, p ? (size_t)sqlite3_column_bytes(stmt, col) : 0};
}

static int64_t lite_changes(struct pd_db *db)
{
    return sqlite3_changes64(db->conn);
}

static bool lite_in_transaction(struct pd_db *db)
{
    return sqlite3_get_autocommit(db->conn) == 0;
}

const struct pd_db_backend pd__db_sqlite = {
    .name = "sqlite",
    .open = lite_open,
    .close = lite_close,
    .script = lite_script,
    .prepare = lite_prepare,
    .bind_i64 = lite_bind_i64,
    .bind_f64 = lite_bind_f64,
    .bind_str = lite_bind_str,
    .step = lite_step,
    .reset = lite_reset,
    .finalize = lite_finalize,
    .is_null = lite_is_null,
    .i64 = lite_i64,
    .f64 = lite_f64,
    .str = lite_str,
    .changes = lite_changes,
    .in_transaction = lite_in_transaction,
};
