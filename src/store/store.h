/* A data folder and its database.
 *
 *   DIR/lock        held while this process has the folder open (advisory, names our pid)
 *   DIR/podium.db   SQLite, WAL; an acknowledged write was fsynced
 *   DIR/secret      32 random bytes, 0600: seals API keys, keys the lookup hashes
 *   DIR/snapshots/  HASH.jsonl, immutable     DIR/runs/  one folder a run     DIR/tmp/
 *
 * Writing. One writer connection, handed from thread to thread in order of arrival (struct pd_tx).
 * Group commit: pd_tx_commit passes the turn on and returns when an fsync that began after the
 * commit is done; one fsync serves all who wait. Relaxed transactions (leases, heartbeats) wait for
 * none. What one transaction wrote may be seen by others just before it is acknowledged. Between
 * begin and commit/abandon: no waiting for people, networks or slow files.
 *
 * Reading. Readers have their own connections (a pool), see the last committed state, never wait
 * for the writer. All functions: any thread. */
#ifndef PD_STORE_STORE_H
#define PD_STORE_STORE_H

#include "store/db.h"

struct pd_store;

/* Creates DIR (0700) and everything in it when missing, applies migrations. PD_BUSY when another
 * process holds the folder. */
PD_CHECKED enum pd_rc pd_store_open(struct pd_store **out, const char *dir, struct pd_err *err);
void pd_store_close(struct pd_store *s); /* accepts NULL; no transaction may be open */
const char *pd_store_dir(const struct pd_store *s);
struct pd_str pd_store_secret(const struct pd_store *s); /* 32 bytes; never log or send */

enum pd_durability { PD_TX_DURABLE, PD_TX_RELAXED };
struct pd_tx {
    struct pd_db *db; /* use between begin and commit */
    struct pd_store *store;
    bool open, durable;
};
PD_CHECKED enum pd_rc pd_tx_begin(struct pd_tx *tx, struct pd_store *s, enum pd_durability d,
                                  struct pd_err *err);
/* On failure nothing of this transaction is acknowledged; but for a failed fsync nothing is stored.
 */
PD_CHECKED enum pd_rc pd_tx_commit(struct pd_tx *tx, struct pd_err *err);
/* Rolls back; does nothing after commit, on a failed begin, or on {0}: put it at `out:`. */
void pd_tx_abandon(struct pd_tx *tx);

/* The closure form: begin, fn, commit (abandon when fn fails). */
typedef enum pd_rc pd_write_fn(struct pd_db *db, void *arg, struct pd_err *err);
PD_CHECKED enum pd_rc pd_store_write(struct pd_store *s, enum pd_durability d, pd_write_fn *fn,
                                     void *arg, struct pd_err *err);

/* A reader connection inside a read transaction: one consistent view until pd_read_end. Waits when
 * all connections are out. */
PD_CHECKED enum pd_rc pd_read_begin(struct pd_store *s, struct pd_db **db, struct pd_err *err);
void pd_read_end(struct pd_store *s, struct pd_db *db); /* accepts NULL db */

#endif
