/* The data folder, its one writer and its readers.
 *
 * The writer connection goes from thread to thread by ticket. A commit writes the WAL and passes
 * the turn on without waiting for the disk (synchronous=NORMAL); a durable caller then waits for an
 * fsync of the WAL that began after its commit. One fsync runs at a time, made by whoever finds
 * none running, for all who committed before it began: a group commit that holds nobody up, least
 * of all leases, which need none. This is what synchronous=FULL does, moved out of the writer's
 * turn. A checkpoint syncs the WAL before it writes the database and the database before the WAL
 * starts over, so a commit is never only in a file that was not synced. After a failed fsync the
 * kernel may have dropped the pages: nothing more is acknowledged until the folder is opened anew.
 */
#include "store/store.h"
#include "base/crypt.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "store/db_int.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_READERS = 64, CHECKPOINT_COMMITS = 100 };
static const off_t wal_limit_bytes = (off_t)64 << 20;

struct pd_store {
    char *dir, *db_path;
    int lock_fd;
    unsigned char secret[32];

    struct pd_db *writer; /* used only by the thread whose ticket is served */
    int wal_fd;           /* to sync it */

    pthread_mutex_t mu; /* guards what follows */
    pthread_cond_t turn, done, reader_free, housekeeping;
    uint64_t next_ticket, serving;
    struct pd_db *idle[MAX_READERS];
    size_t n_idle, n_readers;
    size_t commits;             /* since the last checkpoint */
    uint64_t committed, synced; /* commits so far; those an fsync covered */
    bool syncing, closing;
    int sync_error; /* errno of an fsync that failed, for good */

    pthread_t keeper;
    bool keeper_runs;
};

/* ---- opening ---- */

static enum pd_rc load_secret(struct pd_store *s, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char *path = pd_xasprintf("%s/secret", s->dir);
    struct pd_buf bytes;
    pd_buf_init(&bytes, 64);
    if (!pd_fs_exists(path)) {
        pd_crypt_random(s->secret, sizeof s->secret);
        PD_TRY(pd_fs_write_atomic(path, (struct pd_str){(char *)s->secret, sizeof s->secret}, 0600,
                                  err));
        goto out;
    }
    PD_TRY(pd_fs_read(path, 64, &bytes, err));
    if (bytes.len != sizeof s->secret) {
        rc = PD_FAIL(err, PD_INVALID, "%s holds %zu bytes instead of 32: restore it from a backup",
                     path, bytes.len);
        goto out;
    }
    memcpy(s->secret, bytes.ptr, sizeof s->secret);
out:
    pd_buf_release(&bytes);
    pd_free(path);
    return rc;
}

/* Under the lock. What an earlier process left in tmp belongs to nobody. */
static enum pd_rc make_folders(const char *dir, struct pd_err *err)
{
    static const char *const subs[] = {"/tmp", "/snapshots", "/runs"};
    for (size_t i = 0; i < sizeof subs / sizeof *subs; i++) {
        char *path = pd_xasprintf("%s%s", dir, subs[i]);
        enum pd_rc rc = i == 0 && pd_fs_exists(path) ? pd_fs_remove_tree(path, err) : PD_OK;
        if (rc == PD_OK)
            rc = pd_fs_mkdirs(path, 0700, err);
        pd_free(path);
        if (rc != PD_OK)
            return rc;
    }
    return PD_OK;
}

/* Moves committed pages from the WAL into the database, away from the writers. Only when the WAL
 * has outgrown its limit does it take a turn, so that the WAL can start over. */
static void checkpoint(struct pd_store *s, struct pd_db *db);

static void *keep_house(void *arg)
{
    struct pd_store *s = arg;
    struct pd_db *db = NULL;
    struct pd_err err;
    if (pd_db_open(&db, s->db_path, false, &err) != PD_OK) {
        pd_log(PD_LOG_ERROR, "store", "checkpoints are off: %s", err.msg);
        return NULL;
    }
    /* A checkpoint that meets a reader is given up, not waited for: the next one goes on. */
    if (pd_db_script(db, "PRAGMA busy_timeout=0", &err) != PD_OK)
        pd_log(PD_LOG_WARN, "store", "%s", err.msg);
    pthread_mutex_lock(&s->mu);
    while (!s->closing) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 5;
        if (s->commits < CHECKPOINT_COMMITS)
            (void)pthread_cond_timedwait(&s->housekeeping, &s->mu, &until);
        if (s->closing || s->commits == 0)
            continue;
        s->commits = 0;
        pthread_mutex_unlock(&s->mu);
        checkpoint(s, db);
        pd_sleep_ms(20);
        pthread_mutex_lock(&s->mu);
    }
    pthread_mutex_unlock(&s->mu);
    pd_db_close(db);
    return NULL;
}

/* The WAL stays one file as long as the writer is open. Read-only is enough to sync it; SQLite
 * takes no locks on it that closing could drop. The folder is synced once, for the file's name. */
static enum pd_rc open_wal(struct pd_store *s, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char *path = pd_xasprintf("%s-wal", s->db_path);
    int dir = -1;
    PD_TRY(pd_db_script(s->writer, "BEGIN IMMEDIATE; PRAGMA user_version=1; COMMIT", err));
    s->wal_fd = open(path, O_RDONLY | O_CLOEXEC);
    dir = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->wal_fd < 0 || dir < 0 || fdatasync(s->wal_fd) != 0 || fsync(dir) != 0)
        rc = PD_FAIL_SYS(err, PD_IO, "cannot sync %s", path);
out:
    if (dir >= 0)
        (void)close(dir);
    pd_free(path);
    return rc;
}

enum pd_rc pd_store_open(struct pd_store **out, const char *dir, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char *lock = pd_xasprintf("%s/lock", dir);
    struct pd_store *s = pd_xalloc(sizeof *s);
    s->lock_fd = s->wal_fd = -1;
    s->dir = pd_xstrdup(dir);
    s->db_path = pd_xasprintf("%s/podium.db", dir);
    pthread_mutex_init(&s->mu, NULL);
    pthread_cond_init(&s->turn, NULL);
    pthread_cond_init(&s->done, NULL);
    pthread_cond_init(&s->reader_free, NULL);
    pthread_cond_init(&s->housekeeping, NULL);
    pd_crypt_init();
    PD_TRY(pd_fs_mkdirs(dir, 0700, err));
    rc = pd_lock_open(&s->lock_fd, lock, err);
    if (rc == PD_BUSY)
        (void)pd_err_prefix(err, "the data folder %s is in use", dir);
    PD_TRY(rc);
    PD_TRY(make_folders(dir, err));
    PD_TRY(load_secret(s, err));
    PD_TRY(pd_db_open(&s->writer, s->db_path, false, err));
    if (chmod(s->db_path, 0600) != 0) { /* the folder may be open to others: -wal and -shm follow */
        rc = PD_FAIL_SYS(err, PD_IO, "cannot make %s private", s->db_path);
        goto out;
    }
    PD_TRY(pd__migrate(s->writer, err)); /* with synchronous=FULL, as opened */
    PD_TRY(pd_db_script(s->writer, "PRAGMA synchronous=NORMAL", err));
    PD_TRY(open_wal(s, err));
    if (pthread_create(&s->keeper, NULL, keep_house, s) != 0) {
        rc = PD_FAIL(err, PD_NOMEM, "cannot start the store's thread");
        goto out;
    }
    s->keeper_runs = true;
    *out = s;
    s = NULL;
out:
    pd_store_close(s);
    pd_free(lock);
    return rc;
}

void pd_store_close(struct pd_store *s)
{
    if (!s)
        return;
    if (s->keeper_runs) {
        pthread_mutex_lock(&s->mu);
        s->closing = true;
        pthread_cond_broadcast(&s->housekeeping);
        pthread_mutex_unlock(&s->mu);
        pthread_join(s->keeper, NULL);
    }
    PD_ASSERT(s->n_idle == s->n_readers && s->next_ticket == s->serving);
    for (size_t i = 0; i < s->n_idle; i++)
        pd_db_close(s->idle[i]);
    pd_db_close(s->writer); /* the last connection folds the WAL in */
    if (s->wal_fd >= 0)
        (void)close(s->wal_fd);
    if (s->lock_fd >= 0)
        pd_lock_close(s->lock_fd);
    pthread_cond_destroy(&s->housekeeping);
    pthread_cond_destroy(&s->reader_free);
    pthread_cond_destroy(&s->done);
    pthread_cond_destroy(&s->turn);
    pthread_mutex_destroy(&s->mu);
    explicit_bzero(s->secret, sizeof s->secret);
    pd_free(s->db_path);
    pd_free(s->dir);
    pd_free(s);
}

const char *pd_store_dir(const struct pd_store *s)
{
    return s->dir;
}

struct pd_str pd_store_secret(const struct pd_store *s)
{
    return (struct pd_str){(const char *)s->secret, sizeof s->secret};
}

/* ---- the writer's turn ---- */

static void take_turn(struct pd_store *s)
{
    pthread_mutex_lock(&s->mu);
    uint64_t mine = s->next_ticket++;
    while (s->serving != mine)
        pthread_cond_wait(&s->turn, &s->mu);
    pthread_mutex_unlock(&s->mu);
}

/* mu held */
static void pass_turn(struct pd_store *s)
{
    s->serving++;
    pthread_cond_broadcast(&s->turn);
}

static void checkpoint(struct pd_store *s, struct pd_db *db)
{
    struct pd_err err;
    char *wal = pd_xasprintf("%s-wal", s->db_path);
    if (pd_db_script(db, "PRAGMA wal_checkpoint(PASSIVE)", &err) != PD_OK)
        pd_log(PD_LOG_WARN, "store", "checkpoint: %s", err.msg);
    struct stat st;
    if (stat(wal, &st) == 0 && st.st_size > wal_limit_bytes) {
        take_turn(s);
        if (pd_db_script(db, "PRAGMA wal_checkpoint(TRUNCATE)", &err) != PD_OK)
            pd_log(PD_LOG_WARN, "store", "checkpoint: %s", err.msg);
        pthread_mutex_lock(&s->mu);
        pass_turn(s);
        pthread_mutex_unlock(&s->mu);
    }
    pd_free(wal);
}

enum pd_rc pd_tx_begin(struct pd_tx *tx, struct pd_store *s, enum pd_durability d,
                       struct pd_err *err)
{
    *tx = (struct pd_tx){.store = s, .durable = d == PD_TX_DURABLE};
    take_turn(s);
    enum pd_rc rc = pd_db_run(s->writer, NULL, err, "BEGIN IMMEDIATE", "");
    if (rc != PD_OK) {
        pthread_mutex_lock(&s->mu);
        pass_turn(s);
        pthread_mutex_unlock(&s->mu);
        return rc;
    }
    tx->db = s->writer;
    tx->open = true;
    return PD_OK;
}

/* Waits until an fsync covers commit number `mine`, making one when none runs. */
static enum pd_rc wait_synced(struct pd_store *s, uint64_t mine, struct pd_err *err)
{
    pthread_mutex_lock(&s->mu);
    while (s->synced < mine && !s->sync_error) {
        if (s->syncing) {
            pthread_cond_wait(&s->done, &s->mu);
            continue;
        }
        uint64_t covers = s->committed;
        s->syncing = true;
        pthread_mutex_unlock(&s->mu);
        int failed = fdatasync(s->wal_fd) == 0 ? 0 : errno;
        pthread_mutex_lock(&s->mu);
        s->syncing = false;
        if (failed)
            s->sync_error = failed;
        else
            s->synced = covers;
        pthread_cond_broadcast(&s->done);
    }
    bool safe = s->synced >= mine;
    errno = s->sync_error;
    pthread_mutex_unlock(&s->mu);
    return safe
               ? PD_OK
               : PD_FAIL_SYS(err, PD_IO,
                             "the disk did not take a write; restart podium when it is well again");
}

enum pd_rc pd_tx_commit(struct pd_tx *tx, struct pd_err *err)
{
    struct pd_store *s = tx->store;
    PD_ASSERT(tx->open);
    tx->open = false;
    /* A full disk and the like make the database drop its transaction by itself. */
    enum pd_rc rc = s->writer->be->in_transaction(s->writer)
                        ? pd_db_run(s->writer, NULL, err, "COMMIT", "")
                        : PD_FAIL(err, PD_IO, "the database dropped the transaction (disk full?)");
    if (rc != PD_OK && s->writer->be->in_transaction(s->writer))
        pd__db_undo(s->writer, "ROLLBACK");
    pthread_mutex_lock(&s->mu);
    uint64_t mine = rc == PD_OK ? ++s->committed : 0;
    s->commits += rc == PD_OK;
    if (s->commits >= CHECKPOINT_COMMITS)
        pthread_cond_signal(&s->housekeeping);
    pass_turn(s);
    pthread_mutex_unlock(&s->mu);
    return rc == PD_OK && tx->durable ? wait_synced(s, mine, err) : rc;
}

void pd_tx_abandon(struct pd_tx *tx)
{
    if (!tx->open)
        return;
    struct pd_store *s = tx->store;
    tx->open = false;
    if (s->writer->be->in_transaction(s->writer))
        pd__db_undo(s->writer, "ROLLBACK");
    pthread_mutex_lock(&s->mu);
    pass_turn(s);
    pthread_mutex_unlock(&s->mu);
}

enum pd_rc pd_store_write(struct pd_store *s, enum pd_durability d, pd_write_fn *fn, void *arg,
                          struct pd_err *err)
{
    struct pd_tx tx;
    enum pd_rc rc = pd_tx_begin(&tx, s, d, err);
    if (rc != PD_OK)
        return rc;
    rc = fn(tx.db, arg, err);
    if (rc == PD_OK)
        return pd_tx_commit(&tx, err);
    pd_tx_abandon(&tx);
    return rc;
}

/* ---- readers ---- */

static enum pd_rc take_reader(struct pd_store *s, struct pd_db **db, struct pd_err *err)
{
    pthread_mutex_lock(&s->mu);
    while (s->n_idle == 0 && s->n_readers == MAX_READERS)
        pthread_cond_wait(&s->reader_free, &s->mu);
    if (s->n_idle > 0) {
        *db = s->idle[--s->n_idle];
        pthread_mutex_unlock(&s->mu);
        return PD_OK;
    }
    s->n_readers++;
    pthread_mutex_unlock(&s->mu);
    enum pd_rc rc = pd_db_open(db, s->db_path, true, err);
    if (rc != PD_OK) {
        pthread_mutex_lock(&s->mu);
        s->n_readers--;
        pthread_cond_signal(&s->reader_free);
        pthread_mutex_unlock(&s->mu);
    }
    return rc;
}

static void give_reader(struct pd_store *s, struct pd_db *db)
{
    pthread_mutex_lock(&s->mu);
    s->idle[s->n_idle++] = db;
    pthread_cond_signal(&s->reader_free);
    pthread_mutex_unlock(&s->mu);
}

enum pd_rc pd_read_begin(struct pd_store *s, struct pd_db **db, struct pd_err *err)
{
    struct pd_db *r = NULL;
    enum pd_rc rc = take_reader(s, &r, err);
    if (rc != PD_OK)
        return rc;
    rc = pd_db_run(r, NULL, err, "BEGIN", "");
    if (rc != PD_OK) {
        give_reader(s, r);
        return rc;
    }
    *db = r;
    return PD_OK;
}

void pd_read_end(struct pd_store *s, struct pd_db *db)
{
    if (!db)
        return;
    pd__db_undo(db, "ROLLBACK");
    give_reader(s, db);
}
