/* A run as the screens show it: RUN_HEAD and RUN of docs/ui-api.md. */
#include "api/ui_run_int.h"

#include "api/job_kinds.h"
#include "base/fs.h"
#include "base/time.h"
#include "store/snapshot.h"

#include <math.h>

/* ------------------------------------------------------------------ one run */

static void keep_last(void *ctx, struct pd_str line)
{
    struct pd_buf *b = ctx;
    pd_buf_clear(b);
    pd_buf_addstr(b, line);
}

static struct json_object *last_row(struct pd_arena *a, const char *dir)
{
    struct pd_tail t;
    struct pd_buf line;
    struct json_object *o = NULL;
    pd_tail_init(&t, dir, "metrics.jsonl");
    pd_buf_init(&line, 0);
    pd_tail_read(&t, PD_RUN_READ_MAX, keep_last, &line, NULL);
    if (line.len)
        o = pd_ui_parse(a, pd_buf_cstr(&line));
    pd_buf_release(&line);
    pd_tail_release(&t);
    return o;
}

void pd__run_look(struct pd_run_view *v, struct pd_arena *a, struct pd_api *api,
                  const struct pd_job *job)
{
    v->job = *job;
    v->dir = pd_run_folder(a, pd_store_dir(api->store), pd_str_from(job->uuid));
    v->json = pd_run_folder_json(a, v->dir);
    v->last = v->json ? last_row(a, v->dir) : NULL;
}

/* The job of {id}, on a dataset the caller may see. */
enum pd_rc pd__run_find(struct pd_req *req, enum pd_need need, struct pd_run_view *v,
                        struct pd_err *err)
{
    struct pd_db *db;
    struct pd_str uuid;
    struct pd_job job;
    struct pd_dataset d;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_uuid(req, "id", &uuid, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_job_by_uuid(db, &req->arena, uuid, &job, err));
    if (job.dataset_id) {
        PD_TRY(pd_dataset_get(db, &req->arena, job.dataset_id, &d, err));
        PD_TRY(need == PD_NEED_LEAD ? pd_policy_lead(db, pd_who(req), &d, err)
                                    : pd_policy_see(db, pd_who(req), &d, err));
    } else {
        PD_TRY(pd_policy_route(pd_who(req), PD_MAY_OWNER, err));
    }
    pd__run_look(v, &req->arena, pd_api_of(req), &job);
out:
    return rc;
}

static void write_ci(struct pd_jw *w, const char *key, double lo, double hi)
{
    pd_jw_key(w, key);
    if (!isfinite(lo) || !isfinite(hi)) {
        pd_jw_null(w);
        return;
    }
    pd_jw_array(w);
    pd_jw_f64(w, lo);
    pd_jw_f64(w, hi);
    pd_jw_array_end(w);
}

static double at(struct json_object *list, size_t i)
{
    return json_object_is_type(list, json_type_array) && json_object_array_length(list) > i
               ? json_object_get_double(json_object_array_get_idx(list, i))
               : NAN;
}

double pd_ui_run_accuracy(struct pd_arena *a, struct pd_api *api, const struct pd_job *job)
{
    const char *dir = pd_run_folder(a, pd_store_dir(api->store), pd_str_from(job->uuid));
    return pd_json_f64(pd_json_get(pd_run_folder_json(a, dir), "eval"), "accuracy", NAN);
}

/* The one number a list shows of a run. */
static void write_headline(struct pd_jw *w, struct pd_arena *a, const struct pd_run_view *v)
{
    struct json_object *eval = pd_json_get(v->json, "eval");
    const char *key = NULL;
    double value = NAN, lo = NAN, hi = NAN;
    if (eval) {
        key = "eval_accuracy";
        value = pd_json_f64(eval, "accuracy", NAN);
        lo = at(pd_json_get(eval, "ci"), 0);
        hi = at(pd_json_get(eval, "ci"), 1);
    } else if ((eval = pd_run_folder_file(a, v->dir, "eval.json"))) {
        key = "win_rate";
        value = pd_json_f64(eval, "win_rate", NAN);
        lo = at(pd_json_get(eval, "win_rate_ci"), 0);
        hi = at(pd_json_get(eval, "win_rate_ci"), 1);
    } else {
        static const char *const keys[] = {"eval_accuracy", "accuracy", "objective/rlhf_reward",
                                           "objective/scores"};
        for (size_t i = 0; i < 4 && !isfinite(value); i++) {
            key = keys[i];
            value = pd_json_f64(v->last, key, NAN);
        }
    }
    pd_jw_key(w, "headline");
    if (!isfinite(value)) {
        pd_jw_null(w);
        return;
    }
    pd_jw_object(w);
    pd_jw_kstrz(w, "key", key);
    pd_jw_kf64(w, "value", value);
    write_ci(w, "ci", lo, hi);
    pd_jw_object_end(w);
}

static const char *kind_name(const struct pd_job *job)
{
    return pd_job_kind_find(pd_str_from(job->kind)) ? job->kind : "other";
}

static struct pd_str model_label(struct json_object *args)
{
    struct pd_str id = pd_json_str(args, "model");
    if (pd_str_ends(id, PD_STR(".gguf")))
        id.len -= 5;
    return id;
}

static int64_t step_of(const struct pd_run_view *v)
{
    return pd_json_i64(v->last, "step", 0);
}

/* The keys of RUN_HEAD, inside an object that the caller opened. */
static enum pd_rc write_head_keys(struct pd_jw *w, struct pd_arena *a, struct pd_db *db,
                                  const struct pd_run_view *v, struct pd_err *err)
{
    const struct pd_job_kind *k = pd_job_kind_find(pd_str_from(v->job.kind));
    struct json_object *args = pd_ui_parse(a, v->job.args);
    struct pd_dataset d = {0};
    enum pd_rc rc = PD_OK;
    if (v->job.dataset_id)
        PD_TRY(pd_dataset_get(db, a, v->job.dataset_id, &d, err));
    pd_jw_kstrz(w, "id", v->job.uuid);
    pd_jw_kstrz(w, "kind", kind_name(&v->job));
    pd_jw_kstrz(w, "verb", k ? k->verb : v->job.kind);
    pd_jw_kstrz(
        w, "name",
        pd_arena_printf(a, "%s on %s", k ? k->title : "Run", d.id ? d.name : "a deleted dataset"));
    pd_jw_kstrz(w, "state", pd_job_state_name(v->job.state));
    pd_jw_key(w, "dataset");
    if (d.id) {
        pd_jw_object(w);
        pd_jw_kstrz(w, "id", d.uuid);
        pd_jw_kstrz(w, "name", d.name);
        pd_jw_object_end(w);
    } else {
        pd_jw_null(w);
    }
    pd_jw_kstr(w, "model", model_label(args));
    pd_jw_ki64(w, "step", step_of(v));
    int64_t total = pd_json_i64(v->json, "total_steps", 0);
    pd_jw_key(w, "total_steps");
    if (total > 0)
        pd_jw_i64(w, total);
    else
        pd_jw_null(w);
    pd_jw_ktime(w, "created_at", v->job.created_us);
    pd_jw_ktime(w, "started_at", v->job.started_us);
    pd_jw_ktime(w, "ended_at", v->job.finished_us);
    write_headline(w, a, v);
out:
    return rc;
}

enum pd_rc pd_ui_run_head(struct pd_jw *w, struct pd_arena *a, struct pd_api *api, struct pd_db *db,
                          const struct pd_job *job, struct pd_err *err)
{
    struct pd_run_view v;
    pd__run_look(&v, a, api, job);
    pd_jw_object(w);
    enum pd_rc rc = write_head_keys(w, a, db, &v, err);
    pd_jw_object_end(w);
    return rc;
}

/* ------------------------------------------------------------------ RUN */

struct alarms {
    struct pd_jw *w;
    struct pd_arena *a;
    size_t n;
};

static const char *alarm_kind(struct pd_str text)
{
    static const struct {
        const char *word, *kind;
    } words[] = {{"finite", "nan"},         {"NaN", "nan"},
                 {"KL", "kl_high"},         {"ratio", "ratio"},
                 {"ntropy", "entropy_low"}, {"cut", "truncated"},
                 {"runcated", "truncated"}, {"length", "length_up"}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (memmem(text.ptr, text.len, words[i].word, strlen(words[i].word)))
            return words[i].kind;
    return "alarm";
}

static void write_alarm(void *ctx, struct pd_str line)
{
    struct alarms *al = ctx;
    struct json_object *row = NULL;
    if (!memmem(line.ptr, line.len, "\"alarm\"", 7) || al->n >= 20 ||
        pd_json_parse(line, &row, NULL) != PD_OK)
        return;
    struct pd_str text = pd_json_str(row, "alarm");
    if (text.len) {
        al->n++;
        pd_jw_object(al->w);
        pd_jw_kstrz(al->w, "kind", alarm_kind(text));
        pd_jw_ki64(al->w, "step", pd_json_i64(row, "step", 0));
        pd_jw_kstr(al->w, "text", text);
        pd_jw_object_end(al->w);
    }
    json_object_put(row);
}

static void write_alarms(struct pd_jw *w, struct pd_arena *a, const struct pd_run_view *v)
{
    struct alarms al = {w, a, 0};
    struct pd_tail t;
    pd_jw_key(w, "alarms");
    pd_jw_array(w);
    pd_tail_init(&t, v->dir, "metrics.jsonl");
    pd_tail_read(&t, PD_RUN_READ_MAX, write_alarm, &al, NULL);
    pd_tail_release(&t);
    pd_jw_array_end(w);
}

static bool has_file(struct pd_arena *a, const struct pd_run_view *v, const char *name)
{
    return pd_fs_exists(pd_arena_printf(a, "%s/%s", v->dir, name));
}

static void write_speed(struct pd_jw *w, const struct pd_run_view *v)
{
    double tps = pd_json_f64(v->last, "tokens_per_second", NAN), eta = NAN;
    int64_t total = pd_json_i64(v->json, "total_steps", 0), step = step_of(v), first_us = 0,
            last_us = 0;
    struct pd_str at_text = pd_json_str(v->last, "time");
    double seconds = pd_json_f64(v->last, "time", NAN);
    if (v->job.state == PD_JOB_RUNNING && step > 0 && total > step) {
        first_us = v->job.started_us;
        if (!pd_time_parse(at_text, &last_us))
            last_us = seconds > 1e9 && seconds < 1e12 ? (int64_t)(seconds * 1e6) : pd_time_us();
        if (last_us > first_us)
            eta = (double)(last_us - first_us) / 1e6 / (double)step * (double)(total - step);
    }
    pd_jw_kf64(w, "eta_seconds", eta);
    pd_jw_kf64(w, "tokens_per_second", tps);
    double rss = pd_json_f64(v->last, "peak_rss_bytes", NAN);
    pd_jw_key(w, "peak_rss_bytes");
    if (isfinite(rss))
        pd_jw_i64(w, (int64_t)rss);
    else
        pd_jw_null(w);
}

static enum pd_rc write_origins(struct pd_jw *w, struct pd_arena *a, struct pd_db *db,
                                const struct pd_run_view *v, struct pd_err *err)
{
    struct json_object *args = pd_ui_parse(a, v->job.args);
    struct pd_snapshot s;
    enum pd_rc rc = PD_OK;
    pd_jw_key(w, "snapshot");
    if (v->job.snapshot_id) {
        PD_TRY(pd_snapshot_get(db, a, v->job.snapshot_id, &s, err));
        pd_jw_object(w);
        pd_jw_kstrz(w, "id", s.uuid);
        pd_jw_kstrz(w, "hash", s.hash);
        pd_jw_object_end(w);
    } else {
        pd_jw_null(w);
    }
    struct pd_str reward = pd_json_str(args, "reward");
    pd_jw_key(w, "reward");
    if (reward.len) {
        pd_jw_object(w);
        pd_jw_kstr(w, "id", reward);
        pd_jw_kstrz(w, "name", "Reward model");
        pd_jw_object_end(w);
    } else {
        pd_jw_null(w);
    }
out:
    return rc;
}

enum pd_rc pd__run_write(struct pd_jw *w, struct pd_arena *a, struct pd_db *db,
                         const struct pd_run_view *v, bool lead, bool config, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    bool policy = strcmp(v->job.kind, "improve") == 0;
    struct json_object *error = pd_json_get(v->json, "error");
    pd_jw_object(w);
    PD_TRY(write_head_keys(w, a, db, v, err));
    pd_jw_key(w, "job");
    PD_TRY(pd_ui_job(w, a, db, &v->job, err));
    if (config) {
        pd_jw_key(w, "config");
        pd_jw_tree(w, pd_json_get(v->json, "config"));
    }
    PD_TRY(write_origins(w, a, db, v, err));
    pd_jw_key(w, "seed");
    pd_jw_tree(w, pd_json_get(v->json, "seed"));
    pd_jw_key(w, "version");
    pd_jw_tree(w, pd_json_get(v->json, "version"));
    struct json_object *host = pd_json_get(v->json, "host");
    pd_jw_key(w, "host");
    pd_jw_tree(w, json_object_is_type(host, json_type_object) ? pd_json_get(host, "name") : host);
    pd_jw_key(w, "error");
    if (error)
        pd_jw_tree(w, error);
    else
        pd_jw_strz(w, v->job.state == PD_JOB_FAILED ? v->job.message : NULL);
    write_speed(w, v);
    pd_jw_ktime(w, "updated_at", v->job.heartbeat_us ? v->job.heartbeat_us : v->job.created_us);
    write_alarms(w, a, v);
    bool samples = has_file(a, v, "samples.jsonl");
    pd_jw_key(w, "has");
    pd_jw_object(w);
    pd_jw_kbool(w, "samples", samples);
    pd_jw_kbool(w, "eval", pd_json_get(v->json, "eval") || has_file(a, v, "eval.json"));
    pd_jw_kbool(w, "report", has_file(a, v, "report.html"));
    pd_jw_object_end(w);
    pd_jw_key(w, "can");
    pd_jw_object(w);
    pd_jw_kbool(w, "stop",
                lead && (v->job.state == PD_JOB_RUNNING || v->job.state == PD_JOB_QUEUED));
    pd_jw_kbool(w, "resume",
                lead && (v->job.state == PD_JOB_INTERRUPTED || v->job.state == PD_JOB_FAILED));
    pd_jw_kbool(w, "send", lead && policy && (has_file(a, v, "eval.json") || samples));
    pd_jw_object_end(w);
    pd_jw_object_end(w);
out:
    return rc;
}

bool pd__run_leads(struct pd_req *req, struct pd_db *db, const struct pd_run_view *v)
{
    struct pd_dataset d;
    return v->job.dataset_id &&
           pd_dataset_get(db, &req->arena, v->job.dataset_id, &d, NULL) == PD_OK &&
           pd_policy_leads(db, pd_who(req), &d);
}
