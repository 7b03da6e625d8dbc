/* /ui/: runs: their heads, curves, samples, evaluation, live events, and the way back to labeling.
 */
#include "api/ui_run.h"

#include "api/job_kinds.h"
#include "api/run_folder.h"
#include "api/ui_json.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/time.h"
#include "pref/template.h"
#include "store/lookup.h"
#include "store/snapshot.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_ROWS = 2000, READ_AT_ONCE = 256 << 20 };

/* ------------------------------------------------------------------ one run */

struct view {
    struct pd_job job;
    const char *dir;
    struct json_object *json; /* run.json or NULL */
    struct json_object *last; /* last line of metrics.jsonl or NULL */
};

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
    pd_tail_read(&t, READ_AT_ONCE, keep_last, &line, NULL);
    if (line.len)
        o = pd_ui_parse(a, pd_buf_cstr(&line));
    pd_buf_release(&line);
    pd_tail_release(&t);
    return o;
}

static void look(struct view *v, struct pd_arena *a, struct pd_api *api, const struct pd_job *job)
{
    v->job = *job;
    v->dir = pd_run_folder(a, pd_store_dir(api->store), pd_str_from(job->uuid));
    v->json = pd_run_folder_json(a, v->dir);
    v->last = v->json ? last_row(a, v->dir) : NULL;
}

/* The job of {id}, on a dataset the caller may see. */
static enum pd_rc find(struct pd_req *req, enum pd_need need, struct view *v, struct pd_err *err)
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
    look(v, &req->arena, pd_api_of(req), &job);
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
static void write_headline(struct pd_jw *w, struct pd_arena *a, const struct view *v)
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
        lo = at(pd_json_get(eval, "ci"), 0);
        hi = at(pd_json_get(eval, "ci"), 1);
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

static int64_t step_of(const struct view *v)
{
    return pd_json_i64(v->last, "step", 0);
}

/* The keys of RUN_HEAD, inside an object that the caller opened. */
static enum pd_rc write_head_keys(struct pd_jw *w, struct pd_arena *a, struct pd_db *db,
                                  const struct view *v, struct pd_err *err)
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
    struct view v;
    look(&v, a, api, job);
    pd_jw_object(w);
    enum pd_rc rc = write_head_keys(w, a, db, &v, err);
    pd_jw_object_end(w);
    return rc;
}

static bool ended(const struct pd_job *j)
{
    return j->state == PD_JOB_DONE || j->state == PD_JOB_FAILED || j->state == PD_JOB_INTERRUPTED;
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

static void write_alarms(struct pd_jw *w, struct pd_arena *a, const struct view *v)
{
    struct alarms al = {w, a, 0};
    struct pd_tail t;
    pd_jw_key(w, "alarms");
    pd_jw_array(w);
    pd_tail_init(&t, v->dir, "metrics.jsonl");
    pd_tail_read(&t, READ_AT_ONCE, write_alarm, &al, NULL);
    pd_tail_release(&t);
    pd_jw_array_end(w);
}

static bool has_file(struct pd_arena *a, const struct view *v, const char *name)
{
    return pd_fs_exists(pd_arena_printf(a, "%s/%s", v->dir, name));
}

static void write_speed(struct pd_jw *w, const struct view *v)
{
    double tps = pd_json_f64(v->last, "tokens_per_second", NAN), eta = NAN;
    int64_t total = pd_json_i64(v->json, "total_steps", 0), step = step_of(v), first_us = 0,
            last_us = 0;
    struct pd_str at_text = pd_json_str(v->last, "time");
    double seconds = pd_json_f64(v->last, "time", NAN);
    if (v->job.state == PD_JOB_RUNNING && step > 0 && total > step) {
        first_us = v->job.started_us;
        if (!pd_time_parse(at_text, &last_us))
            last_us = isfinite(seconds) && seconds > 1e9 ? (int64_t)(seconds * 1e6) : pd_time_us();
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
                                const struct view *v, struct pd_err *err)
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

static enum pd_rc write_run(struct pd_jw *w, struct pd_arena *a, struct pd_db *db,
                            const struct view *v, bool lead, bool config, struct pd_err *err)
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

static bool leads(struct pd_req *req, struct pd_db *db, const struct view *v)
{
    struct pd_dataset d;
    return v->job.dataset_id &&
           pd_dataset_get(db, &req->arena, v->job.dataset_id, &d, NULL) == PD_OK &&
           pd_policy_leads(db, pd_who(req), &d);
}

static enum pd_rc show(struct pd_req *req, struct pd_err *err)
{
    struct view v;
    struct pd_db *db;
    enum pd_rc rc = PD_OK;
    PD_TRY(find(req, PD_NEED_SEE, &v, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(write_run(pd_resp_json(req, 200), &req->arena, db, &v, leads(req, db, &v), true, err));
out:
    return rc;
}

static enum pd_rc list(struct pd_req *req, struct pd_err *err)
{
    struct pd_dataset d = {0};
    struct pd_job *jobs = NULL;
    struct pd_db *db;
    size_t n = 0;
    struct pd_str dataset = pd_req_query(req, "dataset");
    enum pd_rc rc = PD_OK;
    if (dataset.len)
        PD_TRY(pd_api_dataset_id(req, dataset, PD_NEED_SEE, &d, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_job_list(db, &req->arena, d.id, 200, &jobs, &n, err));
    struct pd_jw *w = pd_resp_json(req, 200);
    pd_jw_object(w);
    pd_jw_key(w, "runs");
    pd_jw_array(w);
    for (size_t i = 0; i < n; i++) {
        struct pd_dataset of;
        bool visible = d.id != 0;
        if (!visible && jobs[i].dataset_id &&
            pd_dataset_get(db, &req->arena, jobs[i].dataset_id, &of, NULL) == PD_OK)
            visible = pd_policy_see(db, pd_who(req), &of, NULL) == PD_OK;
        if (visible || pd_policy_sees_all(pd_who(req)))
            PD_TRY(pd_ui_run_head(w, &req->arena, pd_api_of(req), db, &jobs[i], err));
    }
    pd_jw_array_end(w);
    pd_jw_object_end(w);
out:
    return rc;
}

/* ------------------------------------------------------------------ curves */

/* Lines with step > since, in order. */
struct rows {
    int64_t since, last;
    struct pd_buf text; /* the lines, joined by newlines */
    size_t n;
};

static void collect(void *ctx, struct pd_str line)
{
    struct rows *r = ctx;
    int64_t step = pd_line_step(line);
    if (step <= r->since)
        return;
    if (step > r->last)
        r->last = step;
    pd_buf_addstr(&r->text, line);
    pd_buf_addc(&r->text, '\n');
    r->n++;
}

/* Evenly thinned to MAX_ROWS; the last one and those with an evaluation always stay. */
static void write_rows(struct pd_jw *w, const struct rows *r)
{
    size_t stride = r->n / MAX_ROWS + 1, i = 0;
    struct pd_str rest = pd_buf_str(&r->text), line;
    pd_jw_array(w);
    while (r->n && i < r->n && pd_str_split(&rest, '\n', &line)) {
        bool stays = i % stride == 0 || i + 1 == r->n || memmem(line.ptr, line.len, "\"eval_", 6);
        if (stays)
            pd_jw_raw(w, line);
        i++;
    }
    pd_jw_array_end(w);
}

static enum pd_rc metrics(struct pd_req *req, struct pd_err *err)
{
    struct view v;
    struct pd_tail t;
    struct rows r = {.last = 0};
    enum pd_rc rc = PD_OK;
    PD_TRY(find(req, PD_NEED_SEE, &v, err));
    PD_TRY(pd_req_query_i64(req, "since", -1, INT64_MAX, -1, &r.since, err));
    r.last = r.since > 0 ? r.since : 0;
    pd_buf_init(&r.text, READ_AT_ONCE);
    pd_tail_init(&t, v.dir, "metrics.jsonl");
    pd_tail_read(&t, READ_AT_ONCE, collect, &r, NULL);
    pd_tail_release(&t);
    struct pd_jw *w = pd_resp_json(req, 200);
    pd_jw_object(w);
    pd_jw_key(w, "rows");
    write_rows(w, &r);
    pd_jw_ki64(w, "last", r.last);
    pd_jw_object_end(w);
    pd_buf_release(&r.text);
out:
    return rc;
}

/* ------------------------------------------------------------------ samples */

struct samples {
    int64_t steps[1000];
    size_t n_steps;
    int64_t want; /* -1 = the last */
    struct pd_buf lines;
};

static void on_sample(void *ctx, struct pd_str line)
{
    struct samples *s = ctx;
    int64_t step = pd_line_step(line);
    if (step < 0)
        return;
    bool is_new = s->n_steps == 0 || s->steps[s->n_steps - 1] != step;
    if (is_new && s->n_steps < 1000)
        s->steps[s->n_steps++] = step;
    if (is_new && s->want < 0)
        pd_buf_clear(&s->lines);
    if (s->want < 0 || s->want == step) {
        pd_buf_addstr(&s->lines, line);
        pd_buf_addc(&s->lines, '\n');
    }
}

static void write_number(struct pd_jw *w, const char *key, struct json_object *v)
{
    pd_jw_key(w, key);
    if (json_object_is_type(v, json_type_double) || json_object_is_type(v, json_type_int))
        pd_jw_tree(w, v);
    else
        pd_jw_null(w);
}

/* One line of samples.jsonl: {"step","prompt","sample","score","reference","reference_score",...}.
 */
static void write_sample(struct pd_jw *w, struct json_object *o)
{
    pd_jw_object(w);
    pd_jw_key(w, "prompt");
    pd_jw_tree(w, pd_json_get(o, "prompt"));
    pd_jw_key(w, "policy");
    pd_jw_object(w);
    pd_jw_kstr(w, "text", pd_json_str(o, "sample"));
    write_number(w, "score", pd_json_get(o, "score"));
    write_number(w, "kl", pd_json_get(o, "kl"));
    write_number(w, "tokens", pd_json_get(o, "tokens"));
    pd_jw_object_end(w);
    pd_jw_key(w, "reference");
    if (pd_json_get(o, "reference")) {
        pd_jw_object(w);
        pd_jw_kstr(w, "text", pd_json_str(o, "reference"));
        write_number(w, "score", pd_json_get(o, "reference_score"));
        write_number(w, "tokens", pd_json_get(o, "reference_tokens"));
        pd_jw_object_end(w);
    } else {
        pd_jw_null(w);
    }
    pd_jw_object_end(w);
}

static void read_samples(struct samples *s, const char *dir, int64_t want)
{
    struct pd_tail t;
    *s = (struct samples){.want = want};
    pd_buf_init(&s->lines, READ_AT_ONCE);
    pd_tail_init(&t, dir, "samples.jsonl");
    pd_tail_read(&t, READ_AT_ONCE, on_sample, s, NULL);
    pd_tail_release(&t);
}

static enum pd_rc samples(struct pd_req *req, struct pd_err *err)
{
    struct view v;
    struct samples *s = pd_arena_alloc(&req->arena, sizeof *s);
    struct pd_str rest, line;
    int64_t want = -1;
    enum pd_rc rc = PD_OK;
    PD_TRY(find(req, PD_NEED_SEE, &v, err));
    PD_TRY(pd_req_query_i64(req, "step", 0, INT64_MAX, -1, &want, err));
    read_samples(s, v.dir, want);
    struct pd_jw *w = pd_resp_json(req, 200);
    pd_jw_object(w);
    pd_jw_key(w, "steps");
    pd_jw_array(w);
    for (size_t i = 0; i < s->n_steps; i++)
        pd_jw_i64(w, s->steps[i]);
    pd_jw_array_end(w);
    pd_jw_key(w, "step");
    if (s->n_steps)
        pd_jw_i64(w, want >= 0 ? want : s->steps[s->n_steps - 1]);
    else
        pd_jw_null(w);
    pd_jw_key(w, "samples");
    pd_jw_array(w);
    rest = pd_buf_str(&s->lines);
    while (s->lines.len && pd_str_split(&rest, '\n', &line)) {
        struct json_object *o = NULL;
        if (line.len && pd_json_parse(line, &o, NULL) == PD_OK)
            write_sample(w, o);
        json_object_put(o);
    }
    pd_jw_array_end(w);
    pd_jw_object_end(w);
    pd_buf_release(&s->lines);
out:
    return rc;
}

/* ------------------------------------------------------------------ evaluation and report */

static void copy(struct pd_jw *w, struct json_object *from, const char *key)
{
    pd_jw_key(w, key);
    pd_jw_tree(w, pd_json_get(from, key));
}

/* by_strength of run.json holds {"n","accuracy"}; the screen wants the share alone. */
static void write_by_strength(struct pd_jw *w, struct json_object *eval)
{
    struct json_object *by = pd_json_get(eval, "by_strength");
    pd_jw_key(w, "by_strength");
    if (!json_object_is_type(by, json_type_object) || json_object_object_length(by) == 0) {
        pd_jw_null(w);
        return;
    }
    pd_jw_object(w);
    json_object_object_foreach(by, strength, v)
    {
        pd_jw_key(w, strength);
        pd_jw_tree(w, json_object_is_type(v, json_type_object) ? pd_json_get(v, "accuracy") : v);
    }
    pd_jw_object_end(w);
}

static enum pd_rc eval(struct pd_req *req, struct pd_err *err)
{
    static const char *const reward_keys[] = {
        "n", "accuracy", "ci", "longer_wins", "shorter_wins", "margin", "ece", "calibration"};
    static const char *const policy_keys[] = {"n",  "wins",     "losses",   "ties", "win_rate",
                                              "ci", "mean_new", "mean_old", "items"};
    struct view v;
    enum pd_rc rc = find(req, PD_NEED_SEE, &v, err);
    if (rc != PD_OK)
        return rc;
    struct json_object *reward = pd_json_get(v.json, "eval");
    struct json_object *policy =
        reward ? NULL : pd_run_folder_file(&req->arena, v.dir, "eval.json");
    if (!reward && !policy)
        return PD_FAIL(err, PD_NOTFOUND, "this run has no evaluation yet");
    struct pd_jw *w = pd_resp_json(req, 200);
    pd_jw_object(w);
    pd_jw_kstrz(w, "kind", reward ? "reward" : "policy");
    if (reward) {
        for (size_t i = 0; i < sizeof reward_keys / sizeof reward_keys[0]; i++)
            copy(w, reward, reward_keys[i]);
        write_by_strength(w, reward);
    } else {
        for (size_t i = 0; i < sizeof policy_keys / sizeof policy_keys[0]; i++)
            copy(w, policy, policy_keys[i]);
    }
    pd_jw_object_end(w);
    return PD_OK;
}

static enum pd_rc report(struct pd_req *req, struct pd_err *err)
{
    struct view v;
    enum pd_rc rc = PD_OK;
    PD_TRY(find(req, PD_NEED_SEE, &v, err));
    const char *path = pd_arena_printf(&req->arena, "%s/report.html", v.dir);
    if (!pd_fs_exists(path)) {
        rc = PD_FAIL(err, PD_NOTFOUND, "this run has no report yet");
        goto out;
    }
    PD_TRY(pd_fs_read(path, 256 << 20, pd_resp_body(req, 200, "application/octet-stream"), err));
    pd_resp_header(
        req, "Content-Disposition",
        pd_arena_printf(&req->arena, "attachment; filename=\"report-%.8s.html\"", v.job.uuid));
out:
    return rc;
}

/* ------------------------------------------------------------------ live */

/* A watcher of one run. Lives on the ticker thread. */
struct watch {
    struct pd_api *api;
    char uuid[37];
    bool lead;
    int64_t since; /* last step that was sent */
    struct pd_tail metrics, samples;
    int64_t sample_step, next_run_us;
    int state; /* as last sent; -1 = never */
};

static void note_sample(void *ctx, struct pd_str line)
{
    struct watch *w = ctx;
    int64_t step = pd_line_step(line);
    if (step > w->sample_step)
        w->sample_step = step;
}

static void send_metrics(struct watch *w, struct pd_buf *out)
{
    struct rows r = {.since = w->since, .last = w->since};
    struct pd_buf data;
    struct pd_jw jw;
    bool again = false;
    char id[24];
    pd_buf_init(&r.text, READ_AT_ONCE);
    pd_tail_read(&w->metrics, 8 << 20, collect, &r, &again);
    if (r.n) {
        pd_buf_init(&data, READ_AT_ONCE);
        pd_jw_init(&jw, &data);
        pd_jw_object(&jw);
        pd_jw_key(&jw, "rows");
        write_rows(&jw, &r);
        pd_jw_object_end(&jw);
        snprintf(id, sizeof id, "%lld", (long long)r.last);
        pd_sse_event(out, id, "metrics", pd_buf_str(&data));
        pd_buf_release(&data);
        w->since = r.last;
    }
    pd_buf_release(&r.text);
}

static void send_samples(struct watch *w, struct pd_buf *out)
{
    int64_t before = w->sample_step;
    pd_tail_read(&w->samples, 8 << 20, note_sample, w, NULL);
    if (w->sample_step > before) {
        char data[40];
        int n = snprintf(data, sizeof data, "{\"step\":%lld}", (long long)w->sample_step);
        pd_sse_event(out, NULL, "samples", (struct pd_str){data, (size_t)n});
    }
}

/* Sends the run when its state changed or 5 s went by; returns false once it has ended. */
static bool send_run(struct watch *w, struct pd_buf *out)
{
    struct pd_arena a;
    struct pd_db *db = NULL;
    struct view v;
    struct pd_job job;
    struct pd_buf data;
    struct pd_jw jw;
    bool more = true;
    int64_t now = pd_time_us();
    pd_arena_init(&a);
    pd_buf_init(&data, READ_AT_ONCE);
    if (pd_read_begin(w->api->store, &db, NULL) != PD_OK ||
        pd_job_by_uuid(db, &a, pd_str_from(w->uuid), &job, NULL) != PD_OK)
        goto out;
    if ((int)job.state != w->state || now >= w->next_run_us) {
        look(&v, &a, w->api, &job);
        pd_jw_init(&jw, &data);
        if (write_run(&jw, &a, db, &v, w->lead, false, NULL) == PD_OK)
            pd_sse_event(out, NULL, "run", pd_buf_str(&data));
        w->state = (int)job.state;
        w->next_run_us = now + 5000000;
    }
    if (ended(&job)) {
        pd_buf_clear(&data);
        pd_buf_addf(&data, "{\"state\":\"%s\"}", pd_job_state_name(job.state));
        pd_sse_event(out, NULL, "end", pd_buf_str(&data));
        more = false;
    }
out:
    pd_read_end(w->api->store, db);
    pd_buf_release(&data);
    pd_arena_release(&a);
    return more;
}

static bool poll_run(void *ctx, struct pd_buf *out)
{
    struct watch *w = ctx;
    send_metrics(w, out);
    send_samples(w, out);
    return send_run(w, out);
}

static void release_watch(void *ctx)
{
    struct watch *w = ctx;
    pd_tail_release(&w->metrics);
    pd_tail_release(&w->samples);
    pd_free(w);
}

static enum pd_rc events(struct pd_req *req, struct pd_err *err)
{
    struct view v;
    struct pd_db *db;
    int64_t since = -1;
    enum pd_rc rc = PD_OK;
    PD_TRY(find(req, PD_NEED_SEE, &v, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_req_query_i64(req, "since", -1, INT64_MAX, -1, &since, err));
    const char *last = pd_req_header(req, "Last-Event-ID");
    if (last && !pd_str_to_i64(pd_str_from(last), &since)) {
        rc = PD_FAIL(err, PD_INVALID, "Last-Event-ID is not a step");
        goto out;
    }
    struct watch *w = pd_xalloc(sizeof *w);
    *w = (struct watch){.api = pd_api_of(req),
                        .lead = leads(req, db, &v),
                        .since = since,
                        .sample_step = -1,
                        .state = -1};
    memcpy(w->uuid, v.job.uuid, sizeof w->uuid);
    pd_tail_init(&w->metrics, v.dir, "metrics.jsonl");
    pd_tail_init(&w->samples, v.dir, "samples.jsonl");
    const struct pd_sse source = {
        .poll = poll_run, .release = release_watch, .ctx = w, .every_ms = 1000};
    pd_resp_sse(req, &source);
out:
    return rc;
}

/* ------------------------------------------------------------------ back to the people */

struct batch {
    struct pd_api *api;
    struct pd_template_options o;
    const struct view *v;
    struct json_object *items; /* of eval.json, or NULL: the last samples */
    int64_t limit, dataset_id, records;
    struct pd_arena *a;
};

static struct json_object *record_fields(struct json_object *prompt, struct pd_str old,
                                         struct pd_str new)
{
    struct json_object *o = json_object_new_object();
    const char *text = json_object_is_type(prompt, json_type_string)
                           ? json_object_get_string(prompt)
                           : json_object_to_json_string_ext(prompt, JSON_C_TO_STRING_PLAIN);
    json_object_object_add(o, "prompt", json_object_new_string(text));
    json_object_object_add(o, "a", json_object_new_string_len(old.ptr, (int)old.len));
    json_object_object_add(o, "b", json_object_new_string_len(new.ptr, (int)new.len));
    return o;
}

/* The last message of a prompt that is a conversation is what people see. */
static struct json_object *shown_prompt(struct json_object *prompt)
{
    size_t n = json_object_is_type(prompt, json_type_array) ? json_object_array_length(prompt) : 0;
    struct json_object *last = n ? json_object_array_get_idx(prompt, n - 1) : NULL;
    struct json_object *content = n == 1 ? pd_json_get(last, "content") : NULL;
    return content ? content : prompt;
}

/* Which model said which answer stays in `hidden`; order on screen is shuffled per labeler. */
static enum pd_rc add_record(struct pd_db *db, struct batch *b, struct json_object *prompt,
                             struct pd_str old, struct pd_str new, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    int64_t id = 0;
    if (b->records >= b->limit || !old.len || !new.len || pd_str_eq(old, new))
        return PD_OK;
    struct json_object *fields = record_fields(shown_prompt(prompt), old, new);
    const char *hidden =
        pd_arena_printf(b->a, "{\"models\":{\"a\":\"reference\",\"b\":\"%s\"}}", b->v->job.uuid);
    const struct pd_record_new in = {
        .dataset_id = b->dataset_id,
        .fields = pd_str_from(json_object_to_json_string_ext(fields, JSON_C_TO_STRING_PLAIN)),
        .metadata = PD_STR("{}"),
        .hidden = pd_str_from(hidden)};
    rc = pd_record_create(db, &in, &id, err);
    json_object_put(fields);
    b->records += rc == PD_OK;
    return rc;
}

static enum pd_rc add_from_eval(struct pd_db *db, struct batch *b, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    for (size_t i = 0; rc == PD_OK && i < json_object_array_length(b->items); i++) {
        struct json_object *it = json_object_array_get_idx(b->items, i);
        rc = add_record(db, b, pd_json_get(it, "prompt"),
                        pd_json_str(pd_json_get(it, "old"), "text"),
                        pd_json_str(pd_json_get(it, "new"), "text"), err);
    }
    return rc;
}

static enum pd_rc add_from_samples(struct pd_db *db, struct batch *b, struct pd_err *err)
{
    struct samples *s = pd_arena_alloc(b->a, sizeof *s);
    struct pd_str rest, line;
    enum pd_rc rc = PD_OK;
    read_samples(s, b->v->dir, -1);
    rest = pd_buf_str(&s->lines);
    while (rc == PD_OK && s->lines.len && pd_str_split(&rest, '\n', &line)) {
        struct json_object *o = NULL;
        if (line.len && pd_json_parse(line, &o, NULL) == PD_OK)
            rc = add_record(db, b, pd_json_get(o, "prompt"), pd_json_str(o, "reference"),
                            pd_json_str(o, "sample"), err);
        json_object_put(o);
    }
    pd_buf_release(&s->lines);
    return rc;
}

static enum pd_rc write_batch(struct pd_db *db, void *arg, struct pd_err *err)
{
    struct batch *b = arg;
    enum pd_rc rc = pd_template_create(db, &b->o, &b->dataset_id, err);
    if (rc == PD_OK && b->items)
        rc = add_from_eval(db, b, err);
    else if (rc == PD_OK)
        rc = add_from_samples(db, b, err);
    if (rc == PD_OK && b->records == 0)
        rc = PD_FAIL(err, PD_INVALID,
                     "this run has no answers to compare that differ from the old ones");
    return rc;
}

static void write_sent(struct pd_req *req, int status, const struct pd_dataset *d, int64_t records)
{
    struct pd_jw *w = pd_resp_json(req, status);
    pd_jw_object(w);
    pd_jw_key(w, "dataset");
    pd_jw_object(w);
    pd_jw_kstrz(w, "id", d->uuid);
    pd_jw_kstrz(w, "name", d->name);
    pd_jw_object_end(w);
    pd_jw_ki64(w, "records", records);
    pd_jw_object_end(w);
}

static enum pd_rc send(struct pd_req *req, struct pd_err *err)
{
    struct json_object *body;
    struct pd_db *db;
    struct view v;
    struct pd_dataset from, d;
    struct batch b = {.api = pd_api_of(req), .a = &req->arena, .v = &v};
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_json(req, &body, err));
    PD_TRY(find(req, PD_NEED_LEAD, &v, err));
    PD_TRY(pd_api_client_id(body, &b.o.uuid, err));
    PD_TRY(pd_json_need_str(body, "name", &b.o.name, err));
    b.limit = pd_json_i64(body, "n", 50);
    if (b.limit < 1 || b.limit > 10000 || !v.job.dataset_id) {
        rc = PD_FAIL(err, PD_INVALID, "n must be 1 to 10000, and the run must belong to a dataset");
        goto out;
    }
    PD_TRY(pd_api_read(req, &db, err));
    rc = pd_dataset_by_uuid(db, &req->arena, b.o.uuid, &d, err);
    if (rc == PD_OK) { /* sent again */
        struct pd_counts c;
        PD_TRY(pd_policy_lead(db, pd_who(req), &d, err));
        PD_TRY(pd_dataset_counts(db, d.id, &c, err));
        write_sent(req, 200, &d, c.records);
        goto out;
    }
    PD_TRY(pd_dataset_get(db, &req->arena, v.job.dataset_id, &from, err));
    struct json_object *eval_json = pd_run_folder_file(&req->arena, v.dir, "eval.json");
    b.items = pd_json_get(eval_json, "items");
    if (!json_object_is_type(b.items, json_type_array))
        b.items = NULL;
    b.o.tmpl = PD_STR("pairwise");
    b.o.workspace_id = from.workspace_id;
    b.o.author_id = pd_who(req)->user.id;
    b.o.guidelines = pd_str_from(from.guidelines);
    b.o.min_submitted = from.min_submitted > 0 ? from.min_submitted : 1;
    b.o.publish = true;
    b.o.made_by = "ui";
    pd_api_read_end(req);
    PD_TRY(pd_store_write(b.api->store, PD_TX_DURABLE, write_batch, &b, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_dataset_get(db, &req->arena, b.dataset_id, &d, err));
    write_sent(req, 201, &d, b.records);
out:
    return rc;
}

static const struct pd_route rows_[] = {
    {PD_GET, "/ui/runs", list, PD_MAY_USER, PD_DOOR_UI, 0, 0, "runs"},
    {PD_GET, "/ui/runs/{id}", show, PD_MAY_USER, PD_DOOR_UI, 0, 0, "one run"},
    {PD_GET, "/ui/runs/{id}/metrics", metrics, PD_MAY_USER, PD_DOOR_UI, 0, 0, "its curves"},
    {PD_GET, "/ui/runs/{id}/samples", samples, PD_MAY_USER, PD_DOOR_UI, 0, 0, "its samples"},
    {PD_GET, "/ui/runs/{id}/eval", eval, PD_MAY_USER, PD_DOOR_UI, 0, 0, "its evaluation"},
    {PD_GET, "/ui/runs/{id}/report", report, PD_MAY_USER, PD_DOOR_UI, 0, 0, "its report"},
    {PD_GET, "/ui/runs/{id}/events", events, PD_MAY_USER, PD_DOOR_UI, 0, 0, "live"},
    {PD_POST, "/ui/runs/{id}/send", send, PD_MAY_LEAD, PD_DOOR_UI, PD_BODY_SMALL, 0,
     "new answers back to the people"},
};
PD_ROUTE_TABLE(pd_routes_run, rows_);
