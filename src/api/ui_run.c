/* /ui/: runs: curves, samples, evaluation, report. */
#include "api/ui_run_int.h"

#include "api/run_eval.h"
#include "base/fs.h"

#include <math.h>

enum { MAX_ROWS = 2000, MAX_EVAL_ITEMS = 500 };

static enum pd_rc show(struct pd_req *req, struct pd_err *err)
{
    struct pd_run_view v;
    struct pd_db *db;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd__run_find(req, PD_NEED_SEE, &v, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd__run_write(pd_resp_json(req, 200), &req->arena, db, &v, pd__run_leads(req, db, &v),
                         true, err));
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

void pd__run_collect(void *ctx, struct pd_str line)
{
    struct pd_run_rows *r = ctx;
    int64_t step = pd_line_step(line);
    if (step <= r->since)
        return;
    if (step > r->last)
        r->last = step;
    pd_buf_addstr(&r->text, line);
    pd_buf_addc(&r->text, '\n');
    r->n++;
}

void pd__run_write_rows(struct pd_jw *w, const struct pd_run_rows *r)
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
    struct pd_run_view v;
    struct pd_tail t;
    struct pd_run_rows r = {.last = 0};
    enum pd_rc rc = PD_OK;
    PD_TRY(pd__run_find(req, PD_NEED_SEE, &v, err));
    PD_TRY(pd_req_query_i64(req, "since", -1, INT64_MAX, -1, &r.since, err));
    r.last = r.since > 0 ? r.since : 0;
    pd_buf_init(&r.text, PD_RUN_READ_MAX);
    pd_tail_init(&t, v.dir, "metrics.jsonl");
    pd_tail_read(&t, PD_RUN_READ_MAX, pd__run_collect, &r, NULL);
    pd_tail_release(&t);
    struct pd_jw *w = pd_resp_json(req, 200);
    pd_jw_object(w);
    pd_jw_key(w, "rows");
    pd__run_write_rows(w, &r);
    pd_jw_ki64(w, "last", r.last);
    pd_jw_object_end(w);
    pd_buf_release(&r.text);
out:
    return rc;
}

/* ------------------------------------------------------------------ samples */

static void on_sample(void *ctx, struct pd_str line)
{
    struct pd_run_samples *s = ctx;
    int64_t step = pd_line_step(line);
    if (step < 0)
        return;
    bool is_new = s->n_steps == 0 || s->steps[s->n_steps - 1] != step;
    if (is_new && s->n_steps == sizeof s->steps / sizeof s->steps[0])
        memmove(s->steps, s->steps + 1, --s->n_steps * sizeof s->steps[0]);
    if (is_new)
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

void pd__run_read_samples(struct pd_run_samples *s, const char *dir, int64_t want)
{
    struct pd_tail t;
    *s = (struct pd_run_samples){.want = want};
    pd_buf_init(&s->lines, PD_RUN_READ_MAX);
    pd_tail_init(&t, dir, "samples.jsonl");
    pd_tail_read(&t, PD_RUN_READ_MAX, on_sample, s, NULL);
    pd_tail_release(&t);
}

static enum pd_rc samples(struct pd_req *req, struct pd_err *err)
{
    struct pd_run_view v;
    struct pd_run_samples *s = pd_arena_alloc(&req->arena, sizeof *s);
    struct pd_str rest, line;
    int64_t want = -1;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd__run_find(req, PD_NEED_SEE, &v, err));
    PD_TRY(pd_req_query_i64(req, "step", 0, INT64_MAX, -1, &want, err));
    pd__run_read_samples(s, v.dir, want);
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

static void write_side(struct pd_jw *w, const char *key, struct pd_str text, double score)
{
    pd_jw_key(w, key);
    pd_jw_object(w);
    pd_jw_kstr(w, "text", text);
    pd_jw_kf64(w, "score", score);
    pd_jw_object_end(w);
}

static void write_policy_eval(struct pd_jw *w, const struct pd_policy_eval *e)
{
    struct json_object *s = e->summary;
    copy(w, s, "n");
    pd_jw_ki64(w, "wins", e->wins);
    pd_jw_ki64(w, "losses", e->losses);
    pd_jw_ki64(w, "ties", e->ties);
    copy(w, s, "win_rate");
    pd_jw_key(w, "ci");
    pd_jw_tree(w, pd_json_get(s, "win_rate_ci"));
    pd_jw_kf64(w, "mean_new", pd_json_f64(pd_json_get(s, "model"), "mean_reward", NAN));
    pd_jw_kf64(w, "mean_old", pd_json_f64(pd_json_get(s, "against"), "mean_reward", NAN));
    copy(w, s, "difference");
    copy(w, s, "difference_ci");
    pd_jw_key(w, "items");
    pd_jw_array(w);
    for (size_t i = 0; i < e->n && i < MAX_EVAL_ITEMS; i++) {
        pd_jw_object(w);
        pd_jw_key(w, "prompt");
        pd_jw_tree(w, e->items[i].prompt);
        write_side(w, "old", e->items[i].old_text, e->items[i].old_score);
        write_side(w, "new", e->items[i].new_text, e->items[i].new_score);
        pd_jw_object_end(w);
    }
    pd_jw_array_end(w);
}

static void write_reward_eval(struct pd_jw *w, struct json_object *e)
{
    static const char *const keys[] = {
        "n", "accuracy", "ci", "longer_wins", "shorter_wins", "margin", "ece", "calibration"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        copy(w, e, keys[i]);
    write_by_strength(w, e);
}

static enum pd_rc eval(struct pd_req *req, struct pd_err *err)
{
    struct pd_run_view v;
    struct pd_policy_eval policy = {0};
    enum pd_rc rc = pd__run_find(req, PD_NEED_SEE, &v, err);
    if (rc != PD_OK)
        return rc;
    struct json_object *reward = pd_json_get(v.json, "eval");
    if (!reward && !pd_policy_eval_read(&req->arena, v.dir, v.job.uuid, &policy))
        return PD_FAIL(err, PD_NOTFOUND, "this run has no evaluation yet");
    struct pd_jw *w = pd_resp_json(req, 200);
    pd_jw_object(w);
    pd_jw_kstrz(w, "kind", reward ? "reward" : "policy");
    if (reward)
        write_reward_eval(w, reward);
    else
        write_policy_eval(w, &policy);
    pd_jw_object_end(w);
    return PD_OK;
}

static enum pd_rc report(struct pd_req *req, struct pd_err *err)
{
    struct pd_run_view v;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd__run_find(req, PD_NEED_SEE, &v, err));
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

static const struct pd_route rows[] = {
    {PD_GET, "/ui/runs", list, PD_MAY_USER, PD_DOOR_UI, 0, 0, "runs"},
    {PD_GET, "/ui/runs/{id}", show, PD_MAY_USER, PD_DOOR_UI, 0, 0, "one run"},
    {PD_GET, "/ui/runs/{id}/metrics", metrics, PD_MAY_USER, PD_DOOR_UI, 0, 0, "its curves"},
    {PD_GET, "/ui/runs/{id}/samples", samples, PD_MAY_USER, PD_DOOR_UI, 0, 0, "its samples"},
    {PD_GET, "/ui/runs/{id}/eval", eval, PD_MAY_USER, PD_DOOR_UI, 0, 0, "its evaluation"},
    {PD_GET, "/ui/runs/{id}/report", report, PD_MAY_USER, PD_DOOR_UI, 0, 0, "its report"},
    {PD_GET, "/ui/runs/{id}/events", pd__run_events, PD_MAY_USER, PD_DOOR_UI, 0, 0, "live"},
    {PD_POST, "/ui/runs/{id}/send", pd__run_send, PD_MAY_LEAD, PD_DOOR_UI, PD_BODY_SMALL, 0,
     "new answers back to the people"},
};
PD_ROUTE_TABLE(pd_routes_run, rows);
