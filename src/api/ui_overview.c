/* GET /ui/datasets/ID/overview: the lead's home. */
#include "api/overview_int.h"
#include "api/ui_json.h"
#include "api/ui_run.h"

#include "base/mem.h"
#include "base/time.h"
#include "store/lookup.h"

#include <math.h>
#include <stdlib.h>

/* Wilson's 95% interval. */
static void write_share(struct pd_jw *w, const char *key, int64_t k, int64_t n, int64_t min_n)
{
    pd_jw_key(w, key);
    if (n < min_n || n == 0) {
        pd_jw_null(w);
        return;
    }
    const double z = 1.959963984540054;
    double nn = (double)n, p = (double)k / nn, zz = z * z;
    double mid = (p + zz / (2 * nn)) / (1 + zz / nn);
    double half = z * sqrt(p * (1 - p) / nn + zz / (4 * nn * nn)) / (1 + zz / nn);
    pd_jw_object(w);
    pd_jw_ki64(w, "n", n);
    pd_jw_kf64(w, "share", p);
    pd_jw_key(w, "ci");
    pd_jw_array(w);
    pd_jw_f64(w, mid - half < 0 ? 0 : mid - half);
    pd_jw_f64(w, mid + half > 1 ? 1 : mid + half);
    pd_jw_array_end(w);
    pd_jw_object_end(w);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
    if (n == 0)
        return NAN;
    qsort(v, n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static double median_of_all(const struct pd_overview *d)
{
    size_t n = 0;
    for (size_t i = 0; i < d->n_labelers; i++)
        n += d->labelers[i].n_seconds;
    double *all = pd_xalloc((n + 1) * sizeof *all);
    n = 0;
    for (size_t i = 0; i < d->n_labelers; i++)
        for (size_t k = 0; k < d->labelers[i].n_seconds; k++)
            all[n++] = d->labelers[i].seconds[k];
    double m = median(all, n);
    pd_free(all);
    return m;
}

static void write_facts(struct pd_jw *w, const struct pd_overview *d, int64_t today)
{
    pd_jw_object(w);
    pd_jw_ki64(w, "judgments", d->judgments);
    pd_jw_ki64(w, "today", today);
    pd_jw_kf64(w, "median_seconds", median_of_all(d));
    write_share(w, "left", d->left_won, d->left_n, 5);
    write_share(w, "longer", d->longer_won, d->longer_n, 5);
    pd_jw_ki64(w, "ties", d->ties);
    pd_jw_ki64(w, "both_bad", d->both_bad);
    pd_jw_object_end(w);
}

/* ---- agreement */

struct measure {
    const char *name;    /* as the screens know it */
    const char *path[2]; /* in the agree operation's JSON */
    const char *ci;      /* key in "ci" */
};

static struct measure measure_of(struct json_object *q)
{
    struct pd_str kind = pd_json_str(q, "kind");
    struct json_object *alpha = pd_json_get(q, "krippendorff_alpha");
    if (pd_json_get(alpha, "ranking"))
        return (struct measure){
            "alpha_ranking", {"krippendorff_alpha", "ranking"}, "krippendorff_alpha.ranking"};
    if (pd_str_eqz(kind, "rating"))
        return (struct measure){
            "alpha_ordinal", {"krippendorff_alpha", "ordinal"}, "krippendorff_alpha.ordinal"};
    return (struct measure){
        "alpha_nominal", {"krippendorff_alpha", "nominal"}, "krippendorff_alpha.nominal"};
}

static void write_ci(struct pd_jw *w, struct json_object *ci)
{
    pd_jw_key(w, "ci");
    if (json_object_is_type(ci, json_type_array) && json_object_array_length(ci) == 2 &&
        json_object_array_get_idx(ci, 0) && json_object_array_get_idx(ci, 1))
        pd_jw_tree(w, ci);
    else
        pd_jw_null(w);
}

/* The list for the screen; *first gets the first question's value, and its interval's JSON. */
static void write_agreement(struct pd_jw *w, struct pd_arena *a, const struct pd_overview *d,
                            struct pd_db *db, int64_t dataset_id, double *value,
                            struct json_object **ci)
{
    struct json_object *tree = pd_ui_parse(a, d->agreement);
    struct json_object *qs = pd_json_get(tree, "questions");
    struct pd_question *known = NULL;
    size_t n_known = 0,
           n = json_object_is_type(qs, json_type_array) ? json_object_array_length(qs) : 0;
    if (pd_question_load(db, a, dataset_id, &known, &n_known, NULL) != PD_OK)
        n_known = 0;
    *value = NAN;
    *ci = NULL;
    pd_jw_array(w);
    for (size_t i = 0; i < n; i++) {
        struct json_object *q = json_object_array_get_idx(qs, i);
        struct measure m = measure_of(q);
        double v = pd_json_f64(pd_json_get(q, m.path[0]), m.path[1], NAN);
        struct json_object *interval = pd_json_get(pd_json_get(q, "ci"), m.ci);
        const struct pd_question *title =
            pd_question_find(known, n_known, pd_json_str(q, "question"));
        if (i == 0) {
            *value = v;
            *ci = interval;
        }
        pd_jw_object(w);
        pd_jw_kstr(w, "question", pd_json_str(q, "question"));
        pd_jw_kstrz(w, "title", title ? title->title : NULL);
        pd_jw_kstrz(w, "measure", m.name);
        pd_jw_kf64(w, "value", v);
        write_ci(w, interval);
        pd_jw_kf64(w, "percent", pd_json_f64(q, "percent", NAN));
        pd_jw_ki64(w, "records", pd_json_i64(q, "records", 0));
        pd_jw_ki64(w, "labelers", pd_json_i64(q, "labelers", 0));
        pd_jw_object_end(w);
    }
    pd_jw_array_end(w);
}

/* ---- time left: what is open, at the pace of the last seven days' working hours */

static enum pd_rc write_eta(struct pd_jw *w, struct pd_db *db, const struct pd_dataset *d,
                            const struct pd_counts *c, const struct pd_overview *v,
                            struct pd_err *err)
{
    int64_t now = pd_time_us(), lately = 0; /* whole quarters, of the last hour at least */
    int64_t since = (now / PD_QUARTER_US - 4) * PD_QUARTER_US;
    enum pd_rc rc = pd_answers_since(db, d->id, 0, since, &lately, NULL, err);
    int64_t per_record = d->min_submitted > 0 ? d->min_submitted : 1;
    int64_t left = c->records * per_record - (c->submitted - c->surplus);
    double m = median_of_all(v), n = (double)(lately >= 5 ? lately : v->judgments);
    double pace = lately >= 5 ? (double)(now - since) / 1e6 / (double)lately : m;
    double seconds = pace * (double)left;
    pd_jw_key(w, "eta");
    if (rc != PD_OK || left <= 0 || n < 5 || !isfinite(seconds)) {
        pd_jw_null(w);
        return rc;
    }
    double band = 1.96 / sqrt(n);
    pd_jw_object(w);
    pd_jw_kf64(w, "seconds", seconds);
    pd_jw_kf64(w, "low", seconds / (1 + band));
    pd_jw_kf64(w, "high", band < 0.9 ? seconds / (1 - band) : seconds * 10);
    pd_jw_object_end(w);
    return rc;
}

/* ---- people */

static struct pd_overview_labeler *find_labeler(const struct pd_overview *d, const char *name)
{
    for (size_t i = 0; i < d->n_labelers; i++)
        if (strcmp(d->labelers[i].name, name) == 0)
            return &d->labelers[i];
    return NULL;
}

static enum pd_rc write_labelers(struct pd_jw *w, struct pd_db *db, struct pd_arena *a,
                                 int64_t dataset_id, const struct pd_overview *d, int64_t tz,
                                 struct pd_err *err)
{
    struct pd_user_counts *users = NULL;
    size_t n = 0;
    enum pd_rc rc = pd_dataset_user_counts(db, a, dataset_id, 0, &users, &n, err);
    pd_jw_key(w, "labelers");
    pd_jw_array(w);
    for (size_t i = 0; rc == PD_OK && i < n; i++) {
        struct pd_overview_labeler *l = find_labeler(d, users[i].username);
        struct pd_user u;
        int64_t today = 0;
        bool active = pd_user_get(db, a, users[i].user_id, &u, NULL) == PD_OK;
        rc = pd_answers_since(db, dataset_id, users[i].user_id, pd_ui_midnight(tz), &today, NULL,
                              err);
        double hours = (double)users[i].active_ms / 3.6e6;
        pd_jw_object(w);
        pd_jw_kuuid(w, "id", active ? u.uuid : NULL);
        pd_jw_kstrz(w, "username", users[i].username);
        pd_jw_ki64(w, "submitted", users[i].submitted);
        pd_jw_ki64(w, "today", today);
        pd_jw_ki64(w, "discarded", users[i].discarded);
        pd_jw_kf64(w, "per_hour", hours > 0 ? (double)users[i].submitted / hours : NAN);
        pd_jw_kf64(w, "median_seconds", l ? median(l->seconds, l->n_seconds) : NAN);
        pd_jw_kf64(w, "agreement",
                   l && l->agree_n ? (double)l->agree_same / (double)l->agree_n : NAN);
        write_share(w, "left", l ? l->left_won : 0, l ? l->left_n : 0, 5);
        pd_jw_ktime(w, "last_at", users[i].last_us);
        pd_jw_kbool(w, "active",
                    active && pd_time_us() - users[i].last_us < (int64_t)15 * 60 * 1000000);
        pd_jw_object_end(w);
    }
    pd_jw_array_end(w);
    return rc;
}

static void attention(struct pd_jw *w, const char *kind, int64_t n, double value,
                      const struct pd_user *user, const char *run)
{
    pd_jw_object(w);
    pd_jw_kstrz(w, "kind", kind);
    pd_jw_ki64(w, "n", n);
    if (isfinite(value))
        pd_jw_kf64(w, "value", value);
    if (user) {
        pd_jw_key(w, "user");
        pd_jw_object(w);
        pd_jw_kstrz(w, "id", user->uuid);
        pd_jw_kstrz(w, "username", user->username);
        pd_jw_object_end(w);
    }
    if (run)
        pd_jw_kstrz(w, "run", run);
    pd_jw_object_end(w);
}

static void labeler_attention(struct pd_jw *w, struct pd_db *db, struct pd_arena *a,
                              const struct pd_overview_labeler *l)
{
    struct pd_user u;
    double m = median(l->seconds, l->n_seconds);
    double left = l->left_n ? (double)l->left_won / (double)l->left_n : 0.5;
    double agree = l->agree_n ? (double)l->agree_same / (double)l->agree_n : 1;
    bool fast = l->n_seconds >= 10 && m < 3, low = l->agree_n >= 10 && agree < 0.5;
    bool side = l->left_n >= 20 && fabs(left - 0.5) > 1.96 * 0.5 / sqrt((double)l->left_n) + 0.1;
    if ((!fast && !side && !low) || pd_user_by_name(db, a, pd_str_from(l->name), &u, NULL) != PD_OK)
        return;
    if (low)
        attention(w, "low_agreement", l->agree_n, agree, &u, NULL);
    if (fast)
        attention(w, "fast", (int64_t)l->n_seconds, m, &u, NULL);
    if (side)
        attention(w, "side_bias", l->left_n, left, &u, NULL);
}

static void write_attention(struct pd_jw *w, struct pd_db *db, struct pd_arena *a,
                            const struct pd_counts *c, const struct pd_overview *d,
                            const struct pd_job *jobs, size_t n_jobs)
{
    pd_jw_key(w, "attention");
    pd_jw_array(w);
    if (d->conflicts.len)
        attention(w, "conflicts", (int64_t)d->conflicts.len, NAN, NULL, NULL);
    if (c->flagged)
        attention(w, "flagged", c->flagged, NAN, NULL, NULL);
    if (d->skipped)
        attention(w, "skipped", d->skipped, NAN, NULL, NULL);
    for (size_t i = 0; i < d->n_labelers; i++)
        labeler_attention(w, db, a, &d->labelers[i]);
    double longer = d->longer_n ? (double)d->longer_won / (double)d->longer_n : 0.5;
    if (d->longer_n >= 30 && fabs(longer - 0.5) > 0.25)
        attention(w, "length_bias", d->longer_n, longer, NULL, NULL);
    if (d->judgments >= 30 && d->shared == 0)
        attention(w, "no_overlap", d->judgments, NAN, NULL, NULL);
    if (n_jobs && jobs[0].state == PD_JOB_FAILED)
        attention(w, "job_failed", 1, NAN, NULL, jobs[0].uuid);
    pd_jw_array_end(w);
}

/* ---- the five steps of the loop */

static const struct pd_job *newest(const struct pd_job *jobs, size_t n, const char *kind,
                                   int64_t *count)
{
    const struct pd_job *best = NULL;
    *count = 0;
    for (size_t i = 0; i < n; i++) { /* newest first; a running one wins */
        if (strcmp(jobs[i].kind, kind) != 0)
            continue;
        ++*count;
        if (!best || (jobs[i].state == PD_JOB_RUNNING && best->state != PD_JOB_RUNNING))
            best = &jobs[i];
    }
    return best;
}

static const char *job_step(const struct pd_job *j)
{
    if (!j)
        return "empty";
    switch (j->state) {
    case PD_JOB_QUEUED:
    case PD_JOB_RUNNING:
    case PD_JOB_STOPPING:
        return "active";
    case PD_JOB_DONE:
        return "done";
    case PD_JOB_FAILED:
    case PD_JOB_INTERRUPTED:
        break;
    }
    return "failed";
}

static enum pd_rc write_job_step(struct pd_jw *w, const char *key, struct pd_req *req,
                                 struct pd_db *db, const struct pd_job *j, int64_t n,
                                 struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    pd_jw_key(w, key);
    pd_jw_object(w);
    pd_jw_kstrz(w, "state", job_step(j));
    pd_jw_key(w, "run");
    if (j)
        rc = pd_ui_run_head(w, &req->arena, pd_api_of(req), db, j, err);
    else
        pd_jw_null(w);
    pd_jw_ki64(w, "runs", n);
    pd_jw_object_end(w);
    return rc;
}

/* Names of the models that gave the answers, from the first records. */
static enum pd_rc write_models(struct pd_jw *w, struct pd_db *db, struct pd_arena *a,
                               int64_t dataset_id, struct pd_err *err)
{
    struct pd_record *recs = NULL;
    struct pd_map seen;
    size_t n = 0;
    enum pd_rc rc = pd_record_page(db, a, dataset_id, 0, 100, &recs, &n, err);
    pd_map_init(&seen);
    pd_jw_key(w, "models");
    pd_jw_array(w);
    for (size_t i = 0; rc == PD_OK && i < n; i++) {
        struct json_object *models = pd_json_get(pd_ui_parse(a, recs[i].hidden), "models");
        if (!json_object_is_type(models, json_type_object))
            continue;
        json_object_object_foreach(models, field, name)
        {
            (void)field;
            struct pd_str s = pd_json_value_str(name);
            if (s.len && pd_map_put(&seen, s, 1))
                pd_jw_str(w, s);
        }
    }
    pd_jw_array_end(w);
    pd_map_release(&seen);
    return rc;
}

static const char *next_step(const struct pd_counts *c, const struct pd_job *reward,
                             const struct pd_job *policy, int64_t pairs)
{
    const char *r = job_step(reward), *p = job_step(policy);
    if (c->records == 0)
        return "import";
    if (strcmp(p, "active") == 0)
        return "watch_policy";
    if (strcmp(r, "active") == 0)
        return "watch_reward";
    if (strcmp(p, "done") == 0 && (!reward || policy->created_us > reward->created_us))
        return "send";
    if (strcmp(r, "done") == 0)
        return "improve";
    if (c->completed < c->records)
        return "label";
    return pairs > 0 ? "train_reward" : "none";
}

struct scene {
    struct pd_req *req;
    struct pd_db *db;
    const struct pd_dataset *d;
    const struct pd_counts *c;
    const struct pd_overview *v;
    const struct pd_job *jobs;
    size_t n_jobs;
    double agreement;
    struct json_object *agreement_ci;
};

static enum pd_rc write_steps(struct pd_jw *w, const struct scene *s, struct pd_err *err)
{
    struct pd_arena *a = &s->req->arena;
    struct pd_question *qs = NULL;
    const char **answers = NULL;
    size_t n_qs = 0, n_answers = 0;
    int64_t n_reward = 0, n_policy = 0;
    const struct pd_job *reward = newest(s->jobs, s->n_jobs, "train_reward", &n_reward);
    const struct pd_job *policy = newest(s->jobs, s->n_jobs, "improve", &n_policy);
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_question_load(s->db, a, s->d->id, &qs, &n_qs, err));
    PD_TRY(pd_ui_answers(s->db, a, s->d->id, qs, n_qs, &answers, &n_answers, err));
    pd_jw_key(w, "steps");
    pd_jw_object(w);
    pd_jw_key(w, "generate");
    pd_jw_object(w);
    pd_jw_kstrz(w, "state", s->c->records ? "done" : "empty");
    pd_jw_ki64(w, "prompts", s->c->records);
    pd_jw_ki64(w, "answers", s->c->records * (int64_t)(n_answers ? n_answers : 1));
    PD_TRY(write_models(w, s->db, a, s->d->id, err));
    pd_jw_object_end(w);
    pd_jw_key(w, "label");
    pd_jw_object(w);
    pd_jw_kstrz(w, "state",
                s->c->records == 0                 ? "empty"
                : s->c->completed >= s->c->records ? "done"
                                                   : "active");
    pd_jw_ki64(w, "done", s->c->completed);
    pd_jw_ki64(w, "records", s->c->records);
    pd_jw_object_end(w);
    pd_jw_key(w, "agree");
    pd_jw_object(w);
    pd_jw_kstrz(w, "state", isfinite(s->agreement) ? "done" : s->v->judgments ? "active" : "empty");
    pd_jw_kf64(w, "value", s->agreement);
    write_ci(w, s->agreement_ci);
    pd_jw_ki64(w, "conflicts", (int64_t)s->v->conflicts.len);
    pd_jw_object_end(w);
    PD_TRY(write_job_step(w, "reward", s->req, s->db, reward, n_reward, err));
    PD_TRY(write_job_step(w, "policy", s->req, s->db, policy, n_policy, err));
    pd_jw_object_end(w);
    pd_jw_kstrz(w, "next", next_step(s->c, reward, policy, s->v->judgments - s->v->skipped));
out:
    return rc;
}

static enum pd_rc write_overview(struct pd_req *req, struct pd_db *db, const struct pd_dataset *d,
                                 const struct pd_counts *c, const struct pd_overview *v, int64_t tz,
                                 struct pd_err *err)
{
    struct pd_job *jobs = NULL;
    struct scene s = {.req = req, .db = db, .d = d, .c = c, .v = v};
    int64_t today = 0;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_job_list(db, &req->arena, d->id, 200, &jobs, &s.n_jobs, err));
    s.jobs = jobs;
    PD_TRY(pd_answers_since(db, d->id, 0, pd_ui_midnight(tz), &today, NULL, err));
    struct pd_jw *w = pd_resp_json(req, 200);
    pd_jw_object(w);
    pd_jw_key(w, "counts");
    PD_TRY(pd_ui_counts_given(w, db, d, c, (int64_t)v->conflicts.len, tz, err));
    pd_jw_key(w, "facts");
    write_facts(w, v, today);
    pd_jw_key(w, "agreement");
    write_agreement(w, &req->arena, v, db, d->id, &s.agreement, &s.agreement_ci);
    PD_TRY(write_eta(w, db, d, c, v, err));
    PD_TRY(write_labelers(w, db, &req->arena, d->id, v, tz, err));
    write_attention(w, db, &req->arena, c, v, jobs, s.n_jobs);
    PD_TRY(write_steps(w, &s, err));
    pd_jw_ktime(w, "as_of", d->last_activity_us);
    pd_jw_object_end(w);
out:
    return rc;
}

static enum pd_rc overview(struct pd_req *req, struct pd_err *err)
{
    struct pd_api *api = pd_api_of(req);
    struct pd_dataset d;
    struct pd_counts c;
    struct pd_db *db;
    struct pd_overview *v = NULL;
    int64_t tz = 0;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_query_i64(req, "tz", -1440, 1440, 0, &tz, err));
    PD_TRY(pd_api_dataset(req, "id", PD_NEED_LEAD, &d, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_dataset_counts(db, d.id, &c, err));
    pd_api_read_end(req);
    PD_TRY(pd__overview_take(api, &d, &c, &v, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(write_overview(req, db, &d, &c, v, tz, err));
    pd_resp_etag(req);
out:
    if (v)
        pd__overview_give(api);
    return rc;
}

static const struct pd_route rows[] = {
    {PD_GET, "/ui/datasets/{id}/overview", overview, PD_MAY_LEAD, PD_DOOR_UI, 0, PD_ROUTE_STREAM,
     "the lead's home"},
};
PD_ROUTE_TABLE(pd_routes_overview, rows);
