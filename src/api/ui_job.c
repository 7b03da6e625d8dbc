/* /ui/: starting, stopping and resuming jobs. What they run is in job_kinds.c. */
#include "api/job_kinds.h"
#include "api/overview.h"
#include "api/ui_json.h"
#include "api/ui_run.h"

#include "base/time.h"
#include "pref/export.h"
#include "pref/snapshot.h"
#include "store/lookup.h"

#include <math.h>

enum pd_rc pd_ui_job(struct pd_jw *w, struct pd_arena *a, struct pd_db *db,
                     const struct pd_job *job, struct pd_err *err)
{
    struct pd_dataset d = {0};
    struct pd_snapshot s = {0};
    int64_t ahead = 0;
    enum pd_rc rc = PD_OK;
    if (job->dataset_id)
        PD_TRY(pd_dataset_get(db, a, job->dataset_id, &d, err));
    if (job->snapshot_id)
        PD_TRY(pd_snapshot_get(db, a, job->snapshot_id, &s, err));
    if (job->state == PD_JOB_QUEUED)
        PD_TRY(pd_job_ahead(db, job->id, &ahead, err));
    pd_jw_object(w);
    pd_jw_kstrz(w, "id", job->uuid);
    pd_jw_kstrz(w, "kind", job->kind);
    pd_jw_kstrz(w, "state", pd_job_state_name(job->state));
    pd_jw_kuuid(w, "dataset", d.uuid);
    pd_jw_kuuid(w, "snapshot", s.uuid);
    pd_jw_ktime(w, "created_at", job->created_us);
    pd_jw_ktime(w, "started_at", job->started_us);
    pd_jw_ktime(w, "ended_at", job->finished_us);
    pd_jw_kstrz(w, "error", job->state == PD_JOB_FAILED ? job->message : NULL);
    pd_jw_kstrz(w, "message", job->message);
    pd_jw_ki64(w, "ahead", ahead);
    pd_jw_object_end(w);
out:
    return rc;
}

/* ------------------------------------------------------------------ the dialog */

/* Finished reward runs of a dataset, newest first. */
static enum pd_rc reward_runs(struct pd_db *db, struct pd_arena *a, int64_t dataset_id,
                              struct pd_job **out, size_t *n, struct pd_err *err)
{
    struct pd_job *all = NULL;
    size_t n_all = 0;
    enum pd_rc rc = pd_job_list(db, a, dataset_id, 200, &all, &n_all, err);
    if (rc != PD_OK)
        return rc;
    *out = all;
    *n = 0;
    for (size_t i = 0; i < n_all; i++)
        if (strcmp(all[i].kind, "train_reward") == 0 && all[i].state == PD_JOB_DONE)
            all[(*n)++] = all[i];
    return PD_OK;
}

static void write_blocked(struct pd_jw *w, const char *code, const char *message)
{
    pd_jw_key(w, "blocked");
    if (!code) {
        pd_jw_null(w);
        return;
    }
    pd_jw_object(w);
    pd_jw_kstrz(w, "code", code);
    pd_jw_kstrz(w, "message", message);
    pd_jw_object_end(w);
}

static void write_models(struct pd_jw *w, const struct pd_model_choice *models, size_t n)
{
    pd_jw_key(w, "models");
    pd_jw_array(w);
    for (size_t i = 0; i < n; i++) {
        pd_jw_object(w);
        pd_jw_kstrz(w, "id", models[i].id);
        pd_jw_kstrz(w, "label", models[i].label);
        pd_jw_key(w, "parameters");
        pd_jw_null(w);
        pd_jw_kbool(w, "default", i == 0);
        pd_jw_object_end(w);
    }
    pd_jw_array_end(w);
}

static void write_rewards(struct pd_jw *w, struct pd_req *req, const struct pd_job *jobs, size_t n)
{
    pd_jw_key(w, "rewards");
    pd_jw_array(w);
    for (size_t i = 0; i < n; i++) {
        char when[32];
        pd_time_format(jobs[i].finished_us, when);
        pd_jw_object(w);
        pd_jw_kstrz(w, "id", jobs[i].uuid);
        pd_jw_kstrz(w, "label",
                    pd_arena_printf(&req->arena, "Reward model of %.10s %.5s", when, when + 11));
        pd_jw_kf64(w, "accuracy", pd_ui_run_accuracy(&req->arena, pd_api_of(req), &jobs[i]));
        pd_jw_kbool(w, "default", i == 0);
        pd_jw_object_end(w);
    }
    pd_jw_array_end(w);
}

/* A handful of pairs is seen more often than thousands: some thirty steps at least. */
static int64_t epochs_for(int64_t pairs)
{
    int64_t enough = pairs > 0 ? (30 * 8 + pairs - 1) / pairs : 1;
    return enough < 1 ? 1 : enough > 8 ? 8 : enough;
}

static void write_presets(struct pd_jw *w, const struct pd_job_kind *k, int64_t pairs)
{
    pd_jw_key(w, "args");
    pd_jw_object(w);
    for (size_t i = 0; i < k->n_args; i++) {
        bool epochs = strcmp(k->args[i].key, "epochs") == 0;
        if (k->args[i].whole)
            pd_jw_ki64(w, k->args[i].key, epochs ? epochs_for(pairs) : (int64_t)k->args[i].preset);
        else
            pd_jw_kf64(w, k->args[i].key, k->args[i].preset);
    }
    pd_jw_object_end(w);
}

static enum pd_rc form(struct pd_req *req, struct pd_err *err)
{
    struct pd_dataset d;
    struct pd_db *db;
    struct pd_job *rewards = NULL;
    struct pd_model_choice *models = NULL;
    struct pd_export_report r = {0};
    size_t n_rewards = 0, n_models = 0;
    struct pd_api *api = pd_api_of(req);
    const struct pd_job_kind *k = pd_job_kind_find(pd_req_query(req, "kind"));
    enum pd_rc rc = PD_OK;
    if (!k) {
        rc = PD_FAIL(err, PD_INVALID, "kind must be train_reward or improve");
        goto out;
    }
    PD_TRY(pd_api_dataset(req, "id", PD_NEED_LEAD, &d, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(reward_runs(db, &req->arena, d.id, &rewards, &n_rewards, err));
    pd_api_read_end(req);
    PD_TRY(pd_overview_pairs(api, d.uuid, &r, err));
    pd_models_list(&req->arena, api->models_dir, &models, &n_models);
    bool improve = strcmp(k->name, "improve") == 0;
    struct pd_jw *w = pd_resp_json(req, 200);
    pd_jw_object(w);
    if (!improve && r.rows == 0)
        write_blocked(w, "no_pairs", "Nobody has preferred one answer over another here yet.");
    else if (improve && n_rewards == 0)
        write_blocked(w, "no_reward", "Train a reward model first: it says what better means.");
    else if (n_models == 0)
        write_blocked(w, "no_model",
                      pd_arena_printf(&req->arena,
                                      "There is no model in %s; `podium model pull` fetches one.",
                                      api->models_dir));
    else if (!pd_api_worker_alive(api))
        write_blocked(w, "no_worker", "No worker is running; start one with `podium worker`.");
    else
        write_blocked(w, NULL, NULL);
    write_models(w, models, n_models);
    if (improve)
        write_rewards(w, req, rewards, n_rewards);
    pd_jw_ki64(w, "pairs", r.rows);
    pd_jw_ki64(w, "prompts", r.records);
    write_presets(w, k, r.rows);
    pd_jw_object_end(w);
out:
    return rc;
}

/* ------------------------------------------------------------------ starting one */

/* model, reward and args as one JSON text: what the worker will read. */
static const char *job_args(struct pd_req *req, struct json_object *body, struct pd_str model,
                            struct pd_str reward)
{
    struct pd_buf b;
    struct pd_jw w;
    struct json_object *args = pd_json_get(body, "args");
    pd_buf_init(&b, 0);
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    pd_jw_kstr(&w, "model", model);
    if (reward.len)
        pd_jw_kstr(&w, "reward", reward);
    pd_jw_key(&w, "args");
    if (args) {
        pd_jw_tree(&w, args);
    } else {
        pd_jw_object(&w);
        pd_jw_object_end(&w);
    }
    pd_jw_object_end(&w);
    const char *text = pd_arena_strndup(&req->arena, pd_buf_cstr(&b), b.len);
    pd_buf_release(&b);
    return text;
}

static enum pd_rc check_reward(struct pd_db *db, struct pd_arena *a, const struct pd_dataset *d,
                               struct pd_str reward, struct pd_err *err)
{
    struct pd_job job;
    enum pd_rc rc = pd_job_by_uuid(db, a, reward, &job, err);
    bool ok = rc == PD_OK && job.dataset_id == d->id && job.state == PD_JOB_DONE &&
              strcmp(job.kind, "train_reward") == 0;
    if (rc != PD_OK && rc != PD_NOTFOUND)
        return rc;
    return ok ? PD_OK
              : PD_FAIL(err, PD_INVALID, "reward must be a finished reward model of this dataset");
}

/* The snapshot that is named, or one made now with the held-out share of the arguments. */
static enum pd_rc choose_snapshot(struct pd_req *req, const struct pd_job_kind *k,
                                  struct json_object *body, const struct pd_dataset *d,
                                  struct pd_snapshot *out, struct pd_err *err)
{
    struct pd_str named = pd_json_str(body, "snapshot");
    struct pd_db *db;
    enum pd_rc rc = PD_OK;
    if (named.len) {
        PD_TRY(pd_api_read(req, &db, err));
        PD_TRY(pd_snapshot_find(db, &req->arena, named, out, err));
        pd_api_read_end(req);
        if (out->dataset_id != d->id)
            rc = PD_FAIL(err, PD_INVALID, "that snapshot is of another dataset");
        goto out;
    }
    double test = strcmp(k->name, "train_reward") == 0
                      ? pd_job_arg(k, pd_json_get(body, "args"), "test_share")
                      : 0.2;
    struct pd_split splits[2] = {{"train", 1 - test}, {"test", test}};
    pd_api_read_end(req);
    rc = pd_snapshot_make(pd_api_of(req)->store, &req->arena, d->id, splits, test > 0 ? 2 : 1, out,
                          err);
out:
    return rc;
}

static enum pd_rc write_new_job(struct pd_db *db, void *arg, struct pd_err *err)
{
    int64_t id;
    return pd_job_create(db, arg, &id, err);
}

static enum pd_rc answer_job(struct pd_req *req, struct pd_str uuid, int status, struct pd_err *err)
{
    struct pd_db *db;
    struct pd_job job;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_job_by_uuid(db, &req->arena, uuid, &job, err));
    PD_TRY(pd_ui_job(pd_resp_json(req, status), &req->arena, db, &job, err));
out:
    return rc;
}

static enum pd_rc start(struct pd_req *req, struct pd_err *err)
{
    struct json_object *body;
    struct pd_str id, kind, dataset, model, reward;
    struct pd_dataset d;
    struct pd_job job;
    struct pd_snapshot snapshot;
    struct pd_db *db;
    struct pd_api *api = pd_api_of(req);
    const char *field = NULL;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_json(req, &body, err));
    PD_TRY(pd_api_client_id(body, &id, err));
    PD_TRY(pd_json_need_str(body, "kind", &kind, err));
    PD_TRY(pd_json_need_str(body, "dataset", &dataset, err));
    PD_TRY(pd_api_dataset_id(req, dataset, PD_NEED_LEAD, &d, err));
    const struct pd_job_kind *k = pd_job_kind_find(kind);
    if (!k) {
        pd_api_error(req, 422, "invalid", "kind", "kind must be train_reward or improve");
        goto out;
    }
    if (pd_job_args_check(k, pd_json_get(body, "args"), &field, err) != PD_OK) {
        pd_api_error(req, 422, "invalid", field, "%s", err->msg);
        goto out;
    }
    PD_TRY(pd_api_read(req, &db, err));
    rc = pd_job_by_uuid(db, &req->arena, id, &job, err);
    if (rc == PD_OK) { /* sent again */
        if (job.dataset_id != d.id || !pd_str_eqz(kind, job.kind))
            rc = PD_FAIL(err, PD_CONFLICT, "another job has this id already");
        else
            rc = answer_job(req, id, 200, err);
        goto out;
    }
    if (rc != PD_NOTFOUND)
        goto out;
    rc = PD_OK;
    model = pd_json_str(body, "model");
    if (!pd_models_path(&req->arena, api->models_dir, model)) {
        pd_api_error(req, 422, "invalid", "model", "there is no such model here");
        goto out;
    }
    reward = pd_json_str(body, "reward");
    if (strcmp(k->name, "improve") == 0)
        PD_TRY(check_reward(db, &req->arena, &d, reward, err));
    PD_TRY(choose_snapshot(req, k, body, &d, &snapshot, err));
    struct pd_job_new in = {.uuid = id,
                            .kind = kind,
                            .args = pd_str_from(job_args(req, body, model, reward)),
                            .dataset_id = d.id,
                            .snapshot_id = snapshot.id,
                            .created_by = pd_who(req)->user.id};
    PD_TRY(pd_store_write(api->store, PD_TX_DURABLE, write_new_job, &in, err));
    PD_TRY(answer_job(req, id, 201, err));
out:
    return rc;
}

/* ------------------------------------------------------------------ stop and resume */

static enum pd_rc my_job(struct pd_req *req, struct pd_job *job, struct pd_err *err)
{
    struct pd_db *db;
    struct pd_str uuid;
    struct pd_dataset d;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_uuid(req, "id", &uuid, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_job_by_uuid(db, &req->arena, uuid, job, err));
    if (job->dataset_id) {
        PD_TRY(pd_dataset_get(db, &req->arena, job->dataset_id, &d, err));
        PD_TRY(pd_policy_lead(db, pd_who(req), &d, err));
    } else {
        PD_TRY(pd_policy_route(pd_who(req), PD_MAY_OWNER, err));
    }
    pd_api_read_end(req);
out:
    return rc;
}

static enum pd_rc write_stop(struct pd_db *db, void *arg, struct pd_err *err)
{
    return pd_job_stop(db, *(int64_t *)arg, err);
}
static enum pd_rc write_resume(struct pd_db *db, void *arg, struct pd_err *err)
{
    return pd_job_resume(db, *(int64_t *)arg, err);
}

static enum pd_rc change(struct pd_req *req, bool stop, struct pd_err *err)
{
    struct pd_job job;
    enum pd_rc rc = PD_OK;
    PD_TRY(my_job(req, &job, err));
    bool fits = stop ? job.state == PD_JOB_QUEUED || job.state == PD_JOB_RUNNING ||
                           job.state == PD_JOB_STOPPING
                     : job.state == PD_JOB_INTERRUPTED || job.state == PD_JOB_FAILED;
    if (!fits) {
        rc = PD_FAIL(err, PD_CONFLICT, "this job is %s: it cannot be %s",
                     pd_job_state_name(job.state), stop ? "stopped" : "resumed");
        goto out;
    }
    if (job.state != PD_JOB_STOPPING)
        PD_TRY(pd_store_write(pd_api_of(req)->store, PD_TX_DURABLE,
                              stop ? write_stop : write_resume, &job.id, err));
    PD_TRY(answer_job(req, pd_str_from(job.uuid), 202, err));
out:
    return rc;
}

static enum pd_rc stop(struct pd_req *req, struct pd_err *err)
{
    return change(req, true, err);
}
static enum pd_rc resume(struct pd_req *req, struct pd_err *err)
{
    return change(req, false, err);
}

static const struct pd_route rows[] = {
    {PD_GET, "/ui/datasets/{id}/jobs/form", form, PD_MAY_LEAD, PD_DOOR_UI, 0, 0,
     "what a job needs"},
    {PD_POST, "/ui/jobs", start, PD_MAY_LEAD, PD_DOOR_UI, PD_BODY_SMALL, 0, "start one"},
    {PD_POST, "/ui/jobs/{id}/stop", stop, PD_MAY_LEAD, PD_DOOR_UI, PD_BODY_SMALL, 0, "stop it"},
    {PD_POST, "/ui/jobs/{id}/resume", resume, PD_MAY_LEAD, PD_DOOR_UI, PD_BODY_SMALL, 0, "go on"},
};
PD_ROUTE_TABLE(pd_routes_job, rows);
