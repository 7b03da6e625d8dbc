/* The job table: what a worker runs. queued -> running -> done | failed | interrupted; `stopping`
 * while a stop was asked of a running one. A running job silent for 30 s is queued again with
 * resume=true. args is a JSON object; which keys a kind may have is the worker's fixed list. */
#ifndef PD_STORE_JOB_H
#define PD_STORE_JOB_H

#include "store/store.h"

#define PD_JOB_SILENCE_US ((int64_t)30 * 1000000)

enum pd_job_state {
    PD_JOB_QUEUED,
    PD_JOB_RUNNING,
    PD_JOB_STOPPING,
    PD_JOB_DONE,
    PD_JOB_FAILED,
    PD_JOB_INTERRUPTED
};
const char *pd_job_state_name(enum pd_job_state s);

struct pd_job {
    int64_t id, dataset_id, snapshot_id, created_by; /* 0 = none */
    char uuid[37];                                   /* the run folder is DIR/runs/uuid */
    const char *kind;                                /* "reward", "ppo", "generate", ... */
    const char *args;                                /* JSON object */
    enum pd_job_state state;
    bool resume;                  /* it ran before: continue from its checkpoint */
    const char *worker, *message; /* may be NULL; message: why it failed, or its last line */
    const char *result;           /* JSON object or NULL */
    int64_t attempts, created_us, started_us, finished_us, heartbeat_us;
};
struct pd_job_new {
    struct pd_str uuid; /* empty: made; one that is there already: PD_CONFLICT */
    struct pd_str kind, args;
    int64_t dataset_id, snapshot_id, created_by;
};
PD_CHECKED enum pd_rc pd_job_create(struct pd_db *db, const struct pd_job_new *in, int64_t *id,
                                    struct pd_err *err);
PD_CHECKED enum pd_rc pd_job_get(struct pd_db *db, struct pd_arena *a, int64_t id,
                                 struct pd_job *out, struct pd_err *err);
PD_CHECKED enum pd_rc pd_job_by_uuid(struct pd_db *db, struct pd_arena *a, struct pd_str uuid,
                                     struct pd_job *out, struct pd_err *err);
/* Newest first; dataset_id 0 = all. */
PD_CHECKED enum pd_rc pd_job_list(struct pd_db *db, struct pd_arena *a, int64_t dataset_id,
                                  size_t limit, struct pd_job **out, size_t *n, struct pd_err *err);
/* Oldest queued job, now running under this worker; *found=false when there is none. */
PD_CHECKED enum pd_rc pd_job_claim(struct pd_db *db, struct pd_arena *a, const char *worker,
                                   struct pd_job *out, bool *found, struct pd_err *err);
/* Every few seconds by the worker. *stop: someone asked. PD_CONFLICT: the job is no longer its. */
PD_CHECKED enum pd_rc pd_job_beat(struct pd_db *db, int64_t id, const char *worker,
                                  struct pd_str message, bool *stop, struct pd_err *err);
/* state: done, failed or interrupted. result: JSON or ptr NULL. */
PD_CHECKED enum pd_rc pd_job_finish(struct pd_db *db, int64_t id, const char *worker,
                                    enum pd_job_state state, struct pd_str message,
                                    struct pd_str result, struct pd_err *err);
/* queued -> interrupted at once; running -> stopping. */
PD_CHECKED enum pd_rc pd_job_stop(struct pd_db *db, int64_t id, struct pd_err *err);
/* interrupted or failed -> queued with resume. */
PD_CHECKED enum pd_rc pd_job_resume(struct pd_db *db, int64_t id, struct pd_err *err);
/* Requeues running jobs without a heartbeat for PD_JOB_SILENCE_US; *n how many. */
PD_CHECKED enum pd_rc pd_job_requeue_silent(struct pd_db *db, int64_t *n, struct pd_err *err);

#endif
