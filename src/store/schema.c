/* The schema, as steps of versions. A released version never changes; a new one is added below it.
 * Raw facts (record, judgment) are append-only; counters and cursors can be rebuilt from them.
 *
 * Ids are never given twice (AUTOINCREMENT): clients and queue cursors remember them.
 * Times are microseconds UTC; JSON is text; statuses are words. */
#include "base/mem.h"
#include "store/db_int.h"

/* Statements in order; several may belong to one version. */
static const struct step {
    int64_t version;
    const char *sql;
} steps[] = {
    /* people and places */
    {1,
     "CREATE TABLE account("
     " id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE, username TEXT NOT NULL,"
     " first_name TEXT NOT NULL, last_name TEXT, role TEXT NOT NULL,"
     " password_hash TEXT, key_hash TEXT UNIQUE, key_sealed TEXT,"
     " placeholder INTEGER NOT NULL DEFAULT 0, prefs TEXT NOT NULL DEFAULT '{}',"
     " inserted_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, removed_at INTEGER) STRICT;"
     "CREATE UNIQUE INDEX account_name ON account(username) WHERE removed_at IS NULL;"
     "CREATE TABLE workspace("
     " id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE,"
     " inserted_at INTEGER NOT NULL, updated_at INTEGER NOT NULL) STRICT;"
     "CREATE TABLE membership("
     " workspace_id INTEGER NOT NULL REFERENCES workspace(id) ON DELETE CASCADE,"
     " account_id INTEGER NOT NULL REFERENCES account(id) ON DELETE CASCADE,"
     " inserted_at INTEGER NOT NULL, PRIMARY KEY(workspace_id, account_id)) STRICT;"
     "CREATE INDEX membership_account ON membership(account_id);"
     "CREATE TABLE signin_link("
     " token_hash TEXT PRIMARY KEY,"
     " account_id INTEGER NOT NULL REFERENCES account(id) ON DELETE CASCADE,"
     " created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, used_at INTEGER) STRICT;"
     "CREATE TABLE session("
     " token_hash TEXT PRIMARY KEY,"
     " account_id INTEGER NOT NULL REFERENCES account(id) ON DELETE CASCADE,"
     " created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL) STRICT;"
     "CREATE INDEX session_account ON session(account_id);"},
    /* datasets */
    {1, "CREATE TABLE dataset("
        " id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE,"
        " workspace_id INTEGER NOT NULL REFERENCES workspace(id), name TEXT NOT NULL,"
        " guidelines TEXT, guideline_version INTEGER NOT NULL DEFAULT 0,"
        " ready INTEGER NOT NULL DEFAULT 0, allow_extra_metadata INTEGER NOT NULL DEFAULT 1,"
        " min_submitted INTEGER NOT NULL DEFAULT 1, template TEXT NOT NULL, made_by TEXT NOT NULL,"
        " settings TEXT NOT NULL DEFAULT '{}', metadata TEXT,"
        " inserted_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,"
        " last_activity_at INTEGER NOT NULL,"
        " n_records INTEGER NOT NULL DEFAULT 0, n_completed INTEGER NOT NULL DEFAULT 0,"
        " n_submitted INTEGER NOT NULL DEFAULT 0, n_discarded INTEGER NOT NULL DEFAULT 0,"
        " n_draft INTEGER NOT NULL DEFAULT 0, n_surplus INTEGER NOT NULL DEFAULT 0,"
        " active_ms INTEGER NOT NULL DEFAULT 0,"
        " UNIQUE(workspace_id, name)) STRICT;"
        "CREATE TABLE guideline("
        " dataset_id INTEGER NOT NULL REFERENCES dataset(id) ON DELETE CASCADE,"
        " version INTEGER NOT NULL, text TEXT, author_id INTEGER REFERENCES account(id),"
        " at INTEGER NOT NULL, PRIMARY KEY(dataset_id, version)) STRICT;"
        "CREATE TABLE part("
        " id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE,"
        " dataset_id INTEGER NOT NULL REFERENCES dataset(id) ON DELETE CASCADE,"
        " kind TEXT NOT NULL, name TEXT NOT NULL, title TEXT NOT NULL, description TEXT,"
        " required INTEGER NOT NULL, settings TEXT NOT NULL,"
        " inserted_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,"
        " UNIQUE(dataset_id, kind, name)) STRICT;"},
    /* records */
    {1, "CREATE TABLE record("
        " id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE,"
        " dataset_id INTEGER NOT NULL REFERENCES dataset(id) ON DELETE CASCADE,"
        " external_id TEXT, completed INTEGER NOT NULL DEFAULT 0,"
        " submitted INTEGER NOT NULL DEFAULT 0, surplus INTEGER NOT NULL DEFAULT 0,"
        " inserted_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,"
        " fields TEXT NOT NULL, metadata TEXT NOT NULL DEFAULT '{}', vectors TEXT, hidden TEXT) "
        "STRICT;"
        "CREATE INDEX record_dataset ON record(dataset_id, id);"
        "CREATE INDEX record_open ON record(dataset_id, id) WHERE completed = 0;"
        "CREATE UNIQUE INDEX record_external ON record(dataset_id, external_id)"
        " WHERE external_id IS NOT NULL;"
        "CREATE TABLE suggestion("
        " id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE,"
        " record_id INTEGER NOT NULL REFERENCES record(id) ON DELETE CASCADE,"
        " question_id INTEGER NOT NULL REFERENCES part(id) ON DELETE CASCADE,"
        " value TEXT NOT NULL, score TEXT, type TEXT, agent TEXT,"
        " inserted_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,"
        " UNIQUE(record_id, question_id)) STRICT;"
        "CREATE INDEX suggestion_question ON suggestion(question_id);"},
    /* answers */
    {1,
     "CREATE TABLE response("
     " id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE,"
     " dataset_id INTEGER NOT NULL REFERENCES dataset(id) ON DELETE CASCADE,"
     " record_id INTEGER NOT NULL REFERENCES record(id) ON DELETE CASCADE,"
     " account_id INTEGER NOT NULL REFERENCES account(id), n INTEGER NOT NULL DEFAULT 0,"
     " status TEXT NOT NULL, vals TEXT NOT NULL, shown TEXT, notes TEXT, surplus INTEGER NOT NULL "
     "DEFAULT 0,"
     " active_ms INTEGER NOT NULL DEFAULT 0, guideline_version INTEGER NOT NULL DEFAULT 0,"
     " inserted_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,"
     " UNIQUE(record_id, account_id, n)) STRICT;"
     "CREATE INDEX response_mine ON response(account_id, dataset_id, updated_at, id);"
     "CREATE INDEX response_dataset ON response(dataset_id, record_id);"
     "CREATE INDEX response_notes ON response(dataset_id) WHERE notes IS NOT NULL;"
     "CREATE TABLE judgment("
     " id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE,"
     " dataset_id INTEGER NOT NULL REFERENCES dataset(id) ON DELETE CASCADE,"
     " record_id INTEGER NOT NULL REFERENCES record(id) ON DELETE CASCADE,"
     " account_id INTEGER NOT NULL REFERENCES account(id), n INTEGER NOT NULL,"
     " status TEXT NOT NULL, vals TEXT NOT NULL, shown TEXT, notes TEXT, surplus INTEGER NOT NULL,"
     " active_ms INTEGER NOT NULL, guideline_version INTEGER NOT NULL, source TEXT NOT NULL,"
     " at INTEGER NOT NULL) STRICT;"
     "CREATE INDEX judgment_record ON judgment(record_id, id);"
     "CREATE INDEX judgment_dataset ON judgment(dataset_id, id);"
     "CREATE INDEX judgment_account ON judgment(account_id, dataset_id, at);"
     "CREATE TABLE labeler_count("
     " dataset_id INTEGER NOT NULL REFERENCES dataset(id) ON DELETE CASCADE,"
     " account_id INTEGER NOT NULL REFERENCES account(id),"
     " submitted INTEGER NOT NULL DEFAULT 0, discarded INTEGER NOT NULL DEFAULT 0,"
     " draft INTEGER NOT NULL DEFAULT 0, active_ms INTEGER NOT NULL DEFAULT 0,"
     " done_submitted INTEGER NOT NULL DEFAULT 0, done_discarded INTEGER NOT NULL DEFAULT 0,"
     " done_draft INTEGER NOT NULL DEFAULT 0,"
     " last_at INTEGER NOT NULL, PRIMARY KEY(dataset_id, account_id)) STRICT;"},
    /* the queue */
    {1, "CREATE TABLE lease("
        " record_id INTEGER NOT NULL REFERENCES record(id) ON DELETE CASCADE,"
        " account_id INTEGER NOT NULL REFERENCES account(id) ON DELETE CASCADE,"
        " dataset_id INTEGER NOT NULL REFERENCES dataset(id) ON DELETE CASCADE,"
        " taken_at INTEGER NOT NULL, expires_at INTEGER NOT NULL,"
        " PRIMARY KEY(record_id, account_id)) STRICT;"
        "CREATE INDEX lease_account ON lease(account_id, dataset_id, taken_at);"
        "CREATE INDEX lease_dataset ON lease(dataset_id, expires_at);"
        "CREATE INDEX lease_expiry ON lease(expires_at);"
        "CREATE TABLE queue_cursor("
        " dataset_id INTEGER NOT NULL REFERENCES dataset(id) ON DELETE CASCADE,"
        " account_id INTEGER NOT NULL REFERENCES account(id) ON DELETE CASCADE,"
        " after_id INTEGER NOT NULL, PRIMARY KEY(dataset_id, account_id)) STRICT;"},
    /* what is made of it */
    {1,
     "CREATE TABLE snapshot("
     " id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE,"
     " dataset_id INTEGER REFERENCES dataset(id) ON DELETE SET NULL, name TEXT NOT NULL UNIQUE,"
     " hash TEXT NOT NULL, splits TEXT NOT NULL, counts TEXT NOT NULL,"
     " created_at INTEGER NOT NULL) STRICT;"
     "CREATE INDEX snapshot_hash ON snapshot(hash);"
     "CREATE INDEX snapshot_dataset ON snapshot(dataset_id);"
     "CREATE TABLE job("
     " id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, args "
     "TEXT NOT NULL,"
     " dataset_id INTEGER REFERENCES dataset(id) ON DELETE SET NULL,"
     " snapshot_id INTEGER REFERENCES snapshot(id), created_by INTEGER REFERENCES account(id),"
     " state TEXT NOT NULL, resume INTEGER NOT NULL DEFAULT 0, worker TEXT, message TEXT,"
     " result TEXT, attempts INTEGER NOT NULL DEFAULT 0, created_at INTEGER NOT NULL,"
     " started_at INTEGER NOT NULL DEFAULT 0, finished_at INTEGER NOT NULL DEFAULT 0,"
     " heartbeat_at INTEGER NOT NULL DEFAULT 0) STRICT;"
     "CREATE INDEX job_state ON job(state, id);"
     "CREATE INDEX job_dataset ON job(dataset_id, id);"},
    /* counters for what every call of a labeler shows: answers by quarter of an hour (time zones
       differ by whole quarters, so "today" is a sum of few rows), of one account and, under
       account 0, of all; and answers that carry a flag */
    {2, "CREATE TABLE answer_count("
        " dataset_id INTEGER NOT NULL REFERENCES dataset(id) ON DELETE CASCADE,"
        " account_id INTEGER NOT NULL, quarter INTEGER NOT NULL,"
        " submitted INTEGER NOT NULL DEFAULT 0, discarded INTEGER NOT NULL DEFAULT 0,"
        " PRIMARY KEY(dataset_id, account_id, quarter)) STRICT, WITHOUT ROWID;"
        "INSERT INTO answer_count(dataset_id, account_id, quarter, submitted, discarded)"
        " SELECT dataset_id, account_id, updated_at / 900000000,"
        " sum(CASE status WHEN 'submitted' THEN 1 ELSE 0 END),"
        " sum(CASE status WHEN 'discarded' THEN 1 ELSE 0 END)"
        " FROM response WHERE status <> 'draft' GROUP BY 1, 2, 3;"
        "INSERT INTO answer_count(dataset_id, account_id, quarter, submitted, discarded)"
        " SELECT dataset_id, 0, quarter, sum(submitted), sum(discarded)"
        " FROM answer_count GROUP BY 1, 3;"
        "ALTER TABLE response ADD COLUMN flagged INTEGER NOT NULL DEFAULT 0;"
        "UPDATE response SET flagged = 1 WHERE status <> 'draft' AND notes LIKE '%\"flag\":{%';"
        "ALTER TABLE dataset ADD COLUMN n_flagged INTEGER NOT NULL DEFAULT 0;"
        "UPDATE dataset SET n_flagged = (SELECT count(*) FROM response p WHERE p.dataset_id ="
        " dataset.id AND p.flagged = 1);"},
    /* a hint of the queue: no open record at or below it has room for anyone */
    {3, "ALTER TABLE dataset ADD COLUMN full_until INTEGER NOT NULL DEFAULT 0;"},
};

enum { N_STEPS = sizeof steps / sizeof *steps };

enum pd_rc pd__migrate(struct pd_db *db, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    int64_t version = 0;
    bool found = false;
    PD_TRY(
        pd_db_script(db,
                     "BEGIN IMMEDIATE;"
                     "CREATE TABLE IF NOT EXISTS schema_version(version INTEGER NOT NULL) STRICT;",
                     err));
    PD_TRY(pd_db_i64(db, &version, &found, err, "SELECT max(version) FROM schema_version", ""));
    int64_t newest = steps[N_STEPS - 1].version;
    if (version > newest) {
        rc = PD_FAIL(err, PD_UNSUPPORTED,
                     "this data folder has schema %lld and this podium knows up to %lld: use the "
                     "newer podium",
                     (long long)version, (long long)newest);
        goto out;
    }
    for (size_t i = 0; i < N_STEPS; i++)
        if (steps[i].version > version)
            PD_TRY(pd_db_script(db, steps[i].sql, err));
    if (version < newest)
        PD_TRY(pd_db_run(db, NULL, err, "INSERT INTO schema_version(version) VALUES(?1)", "i",
                         newest));
    PD_TRY(pd_db_script(db, "COMMIT", err));
out:
    if (rc != PD_OK)
        pd__db_undo(db, "ROLLBACK");
    return rc;
}
