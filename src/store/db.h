/* The database connection: one small vtable, so that the same SQL text runs on SQLite now and on
 * PostgreSQL later. SQL is the common subset: ?1 parameters, RETURNING, ON CONFLICT, partial
 * indexes; times are int64 microseconds UTC, booleans 0/1, JSON is text, uuids are 36 characters.
 *
 * Parameters are given by a type string, one letter each, in the order ?1 ?2 ...:
 *   i int64_t (also enums and bools cast by the caller)    d double
 *   I int64_t, 0 means NULL                                s struct pd_str, ptr NULL means NULL
 *   z const char *, NULL means NULL
 * `err` stands before the variable part here, and only here.
 *
 * Prepared statements are kept per connection, found by their text. A connection belongs to one
 * thread at a time. Views returned by pd_row_str live until the next pd_rows_next or pd_rows_close.
 */
#ifndef PD_STORE_DB_H
#define PD_STORE_DB_H

#include "base/arena.h"
#include "base/str.h"

struct pd_db;   /* a connection */
struct pd_rows; /* a running query */

/* What a backend provides; see db_sqlite.c. */
struct pd_db_backend {
    const char *name;
    enum pd_rc (*open)(struct pd_db *db, const char *where, bool read_only, struct pd_err *err);
    void (*close)(struct pd_db *db);
    enum pd_rc (*script)(struct pd_db *db, const char *sql, struct pd_err *err);
    enum pd_rc (*prepare)(struct pd_db *db, const char *sql, void **stmt, struct pd_err *err);
    enum pd_rc (*bind_i64)(struct pd_db *db, void *stmt, int at, int64_t v);
    enum pd_rc (*bind_f64)(struct pd_db *db, void *stmt, int at, double v);
    enum pd_rc (*bind_str)(struct pd_db *db, void *stmt, int at, struct pd_str v); /* NULL too */
    enum pd_rc (*step)(struct pd_db *db, void *stmt, bool *row, struct pd_err *err);
    void (*reset)(struct pd_db *db, void *stmt);
    void (*finalize)(struct pd_db *db, void *stmt);
    bool (*is_null)(void *stmt, int col);
    int64_t (*i64)(void *stmt, int col);
    double (*f64)(void *stmt, int col);
    struct pd_str (*str)(void *stmt, int col);
    int64_t (*changes)(struct pd_db *db);
    bool (*in_transaction)(struct pd_db *db);
};

/* where: a file path. Read-only connections refuse writes. */
PD_CHECKED enum pd_rc pd_db_open(struct pd_db **out, const char *where, bool read_only,
                                 struct pd_err *err);
void pd_db_close(struct pd_db *db);   /* accepts NULL */
void *pd_db_handle(struct pd_db *db); /* the backend's own connection (sqlite3 *) */

/* Several statements, no parameters: schema and transaction control. */
PD_CHECKED enum pd_rc pd_db_script(struct pd_db *db, const char *sql, struct pd_err *err);

/* Start a query; on PD_OK the caller must pd_rows_close(*rows). */
PD_CHECKED enum pd_rc pd_db_query(struct pd_db *db, struct pd_rows **rows, struct pd_err *err,
                                  const char *sql, const char *types, ...);
PD_CHECKED enum pd_rc pd_rows_next(struct pd_rows *rows, bool *more, struct pd_err *err);
void pd_rows_close(struct pd_rows *rows);              /* accepts NULL */
bool pd_row_null(const struct pd_rows *rows, int col); /* columns count from 0 */
int64_t pd_row_i64(const struct pd_rows *rows, int col);
double pd_row_f64(const struct pd_rows *rows, int col);
struct pd_str pd_row_str(const struct pd_rows *rows, int col); /* NULL: ptr NULL, len 0 */
char *pd_row_dup(const struct pd_rows *rows, int col, struct pd_arena *a); /* NULL stays NULL */

/* A statement without result rows. *changed (may be NULL) = rows it touched. A broken unique
 * constraint is PD_CONFLICT, a missing parent PD_NOTFOUND, a full disk PD_IO. */
PD_CHECKED enum pd_rc pd_db_run(struct pd_db *db, int64_t *changed, struct pd_err *err,
                                const char *sql, const char *types, ...);
/* First column of the first row; *found=false (may be NULL: then no row is PD_NOTFOUND). */
PD_CHECKED enum pd_rc pd_db_i64(struct pd_db *db, int64_t *out, bool *found, struct pd_err *err,
                                const char *sql, const char *types, ...);

/* Tests: the nth statement step that writes from now fails with PD_IO (0 = the next); -1 off. */
void pd_db_fail_after(long n);

#endif
