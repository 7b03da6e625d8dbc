/* Inside store only: what a connection is made of. */
#ifndef PD_STORE_DB_INT_H
#define PD_STORE_DB_INT_H

#include "base/map.h"
#include "store/db.h"

struct pd_db {
    const struct pd_db_backend *be;
    void *conn;
    struct pd_map cache; /* SQL text -> newest struct pd_rows of it */
    struct pd_rows *all; /* every prepared statement */
};

struct pd_rows {
    struct pd_db *db;
    void *stmt;
    bool busy;
    struct pd_rows *next, *same;
};

extern const struct pd_db_backend pd__db_sqlite;

/* schema.c: bring the database to the newest version. */
PD_CHECKED enum pd_rc pd__migrate(struct pd_db *db, struct pd_err *err);

/* A rollback whose own failure changes nothing. */
void pd__db_undo(struct pd_db *db, const char *sql);

/* Small helpers shared by the entity files. */
void pd__row_uuid(const struct pd_rows *r, int col, char out[37]);
/* Grow a list in an arena: returns the slot for item n. */
void *pd__list_slot(struct pd_arena *a, void **items, size_t n, size_t *cap, size_t size);
/* Fills *to, a struct x of the entity, from the row a query stands at; texts go to the arena. */
typedef void pd__read_fn(const struct pd_rows *r, struct pd_arena *a, void *to);
/* What is left of a query, which is closed in any case: all rows as a list in the arena (out: the
 * address of a struct x *, size: of struct x), or the first row into *out. */
PD_CHECKED enum pd_rc pd__rows_all(struct pd_rows *rows, struct pd_arena *a, pd__read_fn *read,
                                   size_t size, void *out, size_t *n, struct pd_err *err);
PD_CHECKED enum pd_rc pd__rows_one(struct pd_rows *rows, struct pd_arena *a, pd__read_fn *read,
                                   void *out, bool *found, struct pd_err *err);

/* response.c: a lease on the record went away; a surplus answer may count now. */
PD_CHECKED enum pd_rc pd__settle_surplus(struct pd_db *db, int64_t record_id, struct pd_err *err);
/* A record has room again for somebody: the queue may not have it behind its hint. */
enum pd_rc pd__room_at(struct pd_db *db, int64_t dataset_id, int64_t record_id, struct pd_err *err);

#endif
