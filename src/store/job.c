/* The job table. Every change of state names the state it starts from, so two workers or a stop and
 * a finish that cross never undo each other. */
#include "store/job.h"
#include "base/crypt.h"
#include "base/time.h"
#include "store/db_int.h"

static const char *const states[] = {"queued", "running", "stopping",
                                     "done",   "failed",  "interrupted"};

const char *pd_job_state_name(enum pd_job_state s)
{
    return states[s];
}

#define JOB_COLUMNS                                                                                \
    "id, uuid, kind, args, coalesce(dataset_id, 0), coalesce(snapshot_id, 0), "                    \
    "coalesce(created_by, 0), state, resume, worker, message, result, attempts, created_at, "      \
    "started_at, finished_at, heartbeat_at"
#define JOB "SELECT " JOB_COLUMNS " FROM job "

static void read_job(const struct pd_rows *r, struct pd_arena *a, void *to)
{
    struct pd_job *out = to;
    *out = (struct pd_job){.id = pd_row_i64(r, 0),
                           .kind = pd_row_dup(r, 2, a),
                           .args = pd_row_dup(r, 3, a),
                           .dataset_id = pd_row_i64(r, 4),
                           .snapshot_id = pd_row_i64(r, 5),
                           .created_by = pd_row_i64(r, 6),
                           .resume = pd_row_i64(r, 8) != 0,
                           .worker = pd_row_dup(r, 9, a),
                           .message = pd_row_dup(r, 10, a),
                           .result = pd_row_dup(r, 11, a),
                           .attempts = pd_row_i64(r, 12),
                           .created_us = pd_row_i64(r, 13),
                           .started_us = pd_row_i64(r, 14),
                           .finished_us = pd_row_i64(r, 15),
                           .heartbeat_us = pd_row_i64(r, 16)};
    for (int i = 0; i < 6; i++)
        if (pd_str_eqz(pd_row_str(r, 7), states[i]))
            out->state = (enum pd_job_state)i;
    pd__row_uuid(r, 1, out->uuid);
}

enum pd_rc pd_job_create(struct pd_db *db, const struct pd_job_new *in, int64_t *id,
                         struct pd_err *err)
{
    char made[37];
    struct pd_str uuid = in->uuid;
    if (!uuid.len) {
        pd_uuid_new(made);
        uuid = pd_str_from(made);
    }
    return pd_db_i64(db, id, NULL, err,
                     "INSERT INTO job(uuid, kind, args, dataset_id, snapshot_id, created_by, "
                     "state, created_at) VALUES(?1, ?2, ?3, ?4, ?5, ?6, 'queued', ?7) RETURNING id",
                     "sssIIIi", uuid, in->kind, in->args.len ? in->args : PD_STR("{}"),
                     in->dataset_id, in->snapshot_id, in->created_by, pd_time_us());
}

enum pd_rc pd_job_get(struct pd_db *db, struct pd_arena *a, int64_t id, struct pd_job *out,
                      struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    bool found = false;
    enum pd_rc rc = pd_db_query(db, &rows, err, JOB "WHERE id = ?1", "i", id);
    if (rc == PD_OK)
        rc = pd__rows_one(rows, a, read_job, out, &found, err);
    if (rc == PD_OK && !found)
        rc = PD_FAIL(err, PD_NOTFOUND, "no job with number %lld", (long long)id);
    return rc;
}

enum pd_rc pd_job_by_uuid(struct pd_db *db, struct pd_arena *a, struct pd_str uuid,
                          struct pd_job *out, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    bool found = false;
    enum pd_rc rc = pd_db_query(db, &rows, err, JOB "WHERE uuid = ?1", "s", uuid);
    if (rc == PD_OK)
        rc = pd__rows_one(rows, a, read_job, out, &found, err);
    if (rc == PD_OK && !found)
        rc = PD_FAIL(err, PD_NOTFOUND, "no job with id %.*s", PD_STR_ARG(uuid));
    return rc;
}

enum pd_rc pd_job_list(struct pd_db *db, struct pd_arena *a, int64_t dataset_id, size_t limit,
                       struct pd_job **out, size_t *n, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    enum pd_rc rc =
        pd_db_query(db, &rows, err, JOB "WHERE ?1 = 0 OR dataset_id = ?1 ORDER BY id DESC LIMIT ?2",
                    "ii", dataset_id, (int64_t)limit);
    return rc == PD_OK ? pd__rows_all(rows, a, read_job, sizeof **out, out, n, err) : rc;
}

enum pd_rc pd_job_claim(struct pd_db *db, struct pd_arena *a, const char *worker,
                        struct pd_job *out, bool *found, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    enum pd_rc rc = pd_db_query(
        db, &rows, err,
        "UPDATE job SET state = 'running', worker = ?1, heartbeat_at = ?2, attempts = attempts + "
        "1, started_at = CASE WHEN started_at = 0 THEN ?2 ELSE started_at END WHERE id = (SELECT "
        "id FROM job WHERE state = 'queued' ORDER BY id LIMIT 1) RETURNING " JOB_COLUMNS,
        "zi", worker, pd_time_us());
    return rc == PD_OK ? pd__rows_one(rows, a, read_job, out, found, err) : rc;
}

static enum pd_rc still_ours(enum pd_rc rc, bool found, struct pd_err *err)
{
    return rc == PD_OK && !found
               ? PD_FAIL(err, PD_CONFLICT, "the job is not this worker's any more")
               : rc;
}

enum pd_rc pd_job_beat(struct pd_db *db, int64_t id, const char *worker, struct pd_str message,
                       bool *stop, struct pd_err *err)
{
    int64_t stopping = 0;
    bool found = false;
    enum pd_rc rc = pd_db_i64(
        db, &stopping, &found, err,
        "UPDATE job SET heartbeat_at = ?3, message = coalesce(?4, message) WHERE id = ?1 AND "
        "worker = ?2 AND state IN ('running', 'stopping') RETURNING state = 'stopping'",
        "izis", id, worker, pd_time_us(), message);
    rc = still_ours(rc, found, err);
    if (rc == PD_OK)
        *stop = stopping != 0;
    return rc;
}

enum pd_rc pd_job_finish(struct pd_db *db, int64_t id, const char *worker, enum pd_job_state state,
                         struct pd_str message, struct pd_str result, struct pd_err *err)
{
    int64_t n = 0;
    PD_ASSERT(state == PD_JOB_DONE || state == PD_JOB_FAILED || state == PD_JOB_INTERRUPTED);
    enum pd_rc rc = pd_db_run(
        db, &n, err,
        "UPDATE job SET state = ?3, message = coalesce(?4, message), result = coalesce(?5, "
        "result), finished_at = ?6 WHERE id = ?1 AND worker = ?2 AND state IN ('running', "
        "'stopping')",
        "izzssi", id, worker, states[state], message, result, pd_time_us());
    return still_ours(rc, n > 0, err);
}

enum pd_rc pd_job_stop(struct pd_db *db, int64_t id, struct pd_err *err)
{
    int64_t n = 0;
    enum pd_rc rc = pd_db_run(
        db, &n, err,
        "UPDATE job SET finished_at = CASE WHEN state = 'queued' THEN ?2 ELSE finished_at END, "
        "state = CASE WHEN state = 'queued' THEN 'interrupted' ELSE 'stopping' END WHERE id = ?1 "
        "AND state IN ('queued', 'running', 'stopping')",
        "ii", id, pd_time_us());
    return rc == PD_OK && n == 0 ? PD_FAIL(err, PD_CONFLICT, "the job is not running") : rc;
}

enum pd_rc pd_job_resume(struct pd_db *db, int64_t id, struct pd_err *err)
{
    int64_t n = 0;
    enum pd_rc rc =
        pd_db_run(db, &n, err,
                  "UPDATE job SET state = 'queued', worker = NULL, finished_at = 0, resume = "
                  "(started_at > 0) WHERE id = ?1 AND state IN ('failed', 'interrupted')",
                  "i", id);
    return rc == PD_OK && n == 0
               ? PD_FAIL(err, PD_CONFLICT, "only a failed or interrupted job can be resumed")
               : rc;
}

enum pd_rc pd_job_requeue_silent(struct pd_db *db, int64_t *n, struct pd_err *err)
{
    int64_t since = pd_time_us() - PD_JOB_SILENCE_US, stopped = 0;
    enum pd_rc rc = pd_db_run(db, &stopped, err,
                              "UPDATE job SET state = 'interrupted', finished_at = ?2 WHERE state "
                              "= 'stopping' AND heartbeat_at < ?1",
                              "ii", since, pd_time_us());
    if (rc == PD_OK)
        rc = pd_db_run(db, n, err,
                       "UPDATE job SET state = 'queued', resume = 1, worker = NULL WHERE state = "
                       "'running' AND heartbeat_at < ?1",
                       "i", since);
    return rc;
}
