/* /ui/: datasets and their settings, imports, exports and snapshots. */
#include "api/ui_json.h"

#include "pref/template.h"

#include <stdlib.h>

/* ------------------------------------------------------------------ drawing a dataset */

static void write_options(struct pd_jw *w, struct json_object *settings)
{
    pd_jw_key(w, "options");
    pd_jw_tree(w, pd_json_get(settings, "options"));
}

static bool options_are_fields(const struct pd_question *q, const struct pd_part *fields, size_t n)
{
    size_t hits = 0;
    for (size_t i = 0; i < q->n_options; i++)
        for (size_t k = 0; k < n; k++)
            hits += strcmp(q->options[i], fields[k].name) == 0;
    return hits == q->n_options;
}

static void write_question(struct pd_jw *w, struct pd_arena *a, const struct pd_part *part,
                           const struct pd_question *q, const struct pd_part *fields,
                           size_t n_fields)
{
    struct json_object *settings = pd_ui_parse(a, part->settings);
    bool pair = pd_ui_is_pairwise(q) && options_are_fields(q, fields, n_fields);
    pd_jw_object(w);
    pd_jw_kstrz(w, "id", part->uuid);
    pd_jw_kstrz(w, "name", part->name);
    pd_jw_kstrz(w, "title", part->title);
    pd_jw_kstrz(w, "description", part->description);
    pd_jw_kbool(w, "required", part->required);
    pd_jw_kstrz(w, "type", pair ? "pairwise" : pd_question_type_name(q->type));
    pd_jw_key(w, "settings");
    pd_jw_object(w);
    switch (q->type) {
    case PD_QUESTION_RANKING:
        if (!pair) {
            write_options(w, settings);
            pd_jw_kbool(w, "partial", false);
        }
        pd_jw_kbool(w, "strength", q->strength);
        pd_jw_kbool(w, "both_bad", q->both_bad);
        break;
    case PD_QUESTION_RATING:
        pd_jw_key(w, "options");
        pd_jw_array(w);
        for (size_t i = 0; i < q->n_ratings; i++)
            pd_jw_i64(w, q->ratings[i]);
        pd_jw_array_end(w);
        break;
    case PD_QUESTION_LABEL:
    case PD_QUESTION_MULTI_LABEL:
    case PD_QUESTION_SPAN:
        write_options(w, settings);
        break;
    case PD_QUESTION_TEXT:
        pd_jw_kbool(w, "markdown", pd_json_bool(settings, "use_markdown", false));
        break;
    }
    pd_jw_object_end(w);
    pd_jw_object_end(w);
}

static void write_field(struct pd_jw *w, struct pd_arena *a, const struct pd_part *f)
{
    struct json_object *settings = pd_ui_parse(a, f->settings);
    struct pd_str type = pd_json_str(settings, "type");
    pd_jw_object(w);
    pd_jw_kstrz(w, "name", f->name);
    pd_jw_kstrz(w, "title", f->title);
    pd_jw_kstr(w, "type", type.len ? type : PD_STR("text"));
    pd_jw_kbool(w, "markdown", pd_json_bool(settings, "use_markdown", false));
    pd_jw_kbool(w, "required", f->required);
    pd_jw_object_end(w);
}

static const char *status_name(const struct pd_dataset *d)
{
    return d->status == PD_DATASET_READY ? "ready" : "draft";
}

static void write_names(struct pd_jw *w, const char *key, const char **names, size_t n)
{
    pd_jw_key(w, key);
    pd_jw_array(w);
    for (size_t i = 0; i < n; i++)
        pd_jw_strz(w, names[i]);
    pd_jw_array_end(w);
}

static void write_guidelines(struct pd_jw *w, const struct pd_dataset *d)
{
    pd_jw_object(w);
    pd_jw_ki64(w, "version", d->guideline_version);
    pd_jw_kstrz(w, "text", d->guidelines);
    pd_jw_object_end(w);
}

static enum pd_rc write_dataset(struct pd_req *req, struct pd_db *db, const struct pd_dataset *d,
                                int status, struct pd_err *err)
{
    struct pd_part *fields = NULL, *parts = NULL;
    struct pd_question *qs = NULL;
    const char **answers = NULL;
    size_t n_fields = 0, n_parts = 0, n_qs = 0, n_answers = 0;
    const struct pd_who *who = pd_who(req);
    int64_t tz = 0;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_query_i64(req, "tz", -1440, 1440, 0, &tz, err));
    PD_TRY(pd_part_list(db, &req->arena, d->id, PD_PART_FIELD, &fields, &n_fields, err));
    PD_TRY(pd_part_list(db, &req->arena, d->id, PD_PART_QUESTION, &parts, &n_parts, err));
    PD_TRY(pd_question_load(db, &req->arena, d->id, &qs, &n_qs, err));
    PD_TRY(pd_ui_answers(db, &req->arena, d->id, qs, n_qs, &answers, &n_answers, err));
    struct pd_jw *w = pd_resp_json(req, status);
    pd_jw_object(w);
    pd_jw_kstrz(w, "id", d->uuid);
    pd_jw_kstrz(w, "name", d->name);
    pd_jw_kstrz(w, "workspace", d->workspace);
    pd_jw_kstrz(w, "status", status_name(d));
    pd_jw_kbool(w, "lead", pd_policy_leads(db, who, d));
    pd_jw_key(w, "guidelines");
    write_guidelines(w, d);
    pd_jw_ki64(w, "min_submitted", d->min_submitted);
    pd_jw_key(w, "fields");
    pd_jw_array(w);
    for (size_t i = 0; i < n_fields; i++)
        write_field(w, &req->arena, &fields[i]);
    pd_jw_array_end(w);
    write_names(w, "answers", answers, n_answers);
    pd_jw_key(w, "questions");
    pd_jw_array(w);
    for (size_t i = 0; i < n_parts && i < n_qs; i++)
        write_question(w, &req->arena, &parts[i], &qs[i], fields, n_fields);
    pd_jw_array_end(w);
    pd_jw_key(w, "counts");
    PD_TRY(pd_ui_counts(w, req, db, d, tz, err));
    pd_jw_key(w, "mine");
    PD_TRY(pd_ui_mine(w, db, &req->arena, d->id, who->user.id, tz, err));
    pd_jw_object_end(w);
out:
    return rc;
}

static enum pd_rc show(struct pd_req *req, struct pd_err *err)
{
    struct pd_dataset d;
    struct pd_db *db;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_dataset(req, "id", PD_NEED_SEE, &d, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(write_dataset(req, db, &d, 200, err));
    pd_resp_etag(req);
out:
    return rc;
}

static int newest_first(const void *a, const void *b)
{
    int64_t x = ((const struct pd_dataset *)a)->last_activity_us;
    int64_t y = ((const struct pd_dataset *)b)->last_activity_us;
    return x < y ? 1 : x > y ? -1 : 0;
}

static enum pd_rc list(struct pd_req *req, struct pd_err *err)
{
    struct pd_dataset *ds = NULL;
    struct pd_db *db;
    size_t n = 0;
    int64_t tz = 0;
    const struct pd_who *who = pd_who(req);
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_query_i64(req, "tz", -1440, 1440, 0, &tz, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(
        pd_dataset_list(db, &req->arena, pd_policy_sees_all(who) ? 0 : who->user.id, &ds, &n, err));
    if (n)
        qsort(ds, n, sizeof *ds, newest_first);
    struct pd_jw *w = pd_resp_json(req, 200);
    pd_jw_object(w);
    pd_jw_key(w, "datasets");
    pd_jw_array(w);
    for (size_t i = 0; i < n; i++) {
        struct pd_question *qs = NULL;
        const char **answers = NULL;
        size_t n_qs = 0, n_answers = 0;
        PD_TRY(pd_question_load(db, &req->arena, ds[i].id, &qs, &n_qs, err));
        PD_TRY(pd_ui_answers(db, &req->arena, ds[i].id, qs, n_qs, &answers, &n_answers, err));
        pd_jw_object(w);
        pd_jw_kstrz(w, "id", ds[i].uuid);
        pd_jw_kstrz(w, "name", ds[i].name);
        pd_jw_kstrz(w, "workspace", ds[i].workspace);
        pd_jw_kstrz(w, "status", status_name(&ds[i]));
        pd_jw_kbool(w, "lead", pd_policy_leads(db, who, &ds[i]));
        write_names(w, "answers", answers, n_answers);
        pd_jw_key(w, "counts");
        PD_TRY(pd_ui_counts(w, req, db, &ds[i], tz, err));
        pd_jw_key(w, "mine");
        PD_TRY(pd_ui_mine(w, db, &req->arena, ds[i].id, who->user.id, tz, err));
        pd_jw_ktime(w, "updated_at", ds[i].last_activity_us);
        pd_jw_object_end(w);
    }
    pd_jw_array_end(w);
    pd_jw_object_end(w);
out:
    return rc;
}

/* ------------------------------------------------------------------ changing one */

struct guidelines {
    int64_t dataset_id, author_id;
    struct pd_str text;
};

static enum pd_rc write_new_guidelines(struct pd_db *db, void *arg, struct pd_err *err)
{
    struct guidelines *g = arg;
    return pd_dataset_set_guidelines(db, g->dataset_id, g->text, g->author_id, err);
}

static enum pd_rc set_guidelines(struct pd_req *req, struct pd_err *err)
{
    struct json_object *body;
    struct pd_dataset d;
    struct pd_db *db;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_json(req, &body, err));
    PD_TRY(pd_api_dataset(req, "id", PD_NEED_LEAD, &d, err));
    struct guidelines g = {d.id, pd_who(req)->user.id, pd_json_str(body, "text")};
    pd_api_read_end(req);
    PD_TRY(pd_store_write(pd_api_of(req)->store, PD_TX_DURABLE, write_new_guidelines, &g, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_dataset_get(db, &req->arena, d.id, &d, err));
    write_guidelines(pd_resp_json(req, 200), &d);
out:
    return rc;
}

struct creation {
    struct pd_template_options o;
    struct pd_str workspace;
    const struct pd_who *who;
    int64_t id;
};

static enum pd_rc write_creation(struct pd_db *db, void *arg, struct pd_err *err)
{
    struct creation *c = arg;
    enum pd_rc rc = pd_workspace_default(db, c->workspace, &c->o.workspace_id, err);
    if (rc == PD_OK)
        rc = pd_policy_lead_workspace(db, c->who, c->o.workspace_id, err);
    return rc == PD_OK ? pd_template_create(db, &c->o, &c->id, err) : rc;
}

static enum pd_rc create(struct pd_req *req, struct pd_err *err)
{
    struct json_object *body;
    struct pd_dataset d;
    struct pd_db *db;
    struct creation c = {.who = pd_who(req)};
    int status = 201;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_json(req, &body, err));
    PD_TRY(pd_api_client_id(body, &c.o.uuid, err));
    PD_TRY(pd_json_need_str(body, "name", &c.o.name, err));
    PD_TRY(pd_json_need_str(body, "template", &c.o.tmpl, err));
    if (!pd_str_eqz(c.o.tmpl, "pairwise") && !pd_str_eqz(c.o.tmpl, "ranking") &&
        !pd_str_eqz(c.o.tmpl, "rating")) {
        rc = PD_FAIL(err, PD_INVALID, "template must be pairwise, ranking or rating");
        goto out;
    }
    int64_t answers = pd_json_i64(body, "answers", 0);
    if (answers < 0 || answers > 26) {
        rc = PD_FAIL(err, PD_INVALID, "answers must be 2 to 26");
        goto out;
    }
    c.o.answers = (size_t)answers;
    c.o.author_id = c.who->user.id;
    c.o.publish = true;
    c.o.made_by = "ui";
    c.workspace = pd_json_str(body, "workspace");
    PD_TRY(pd_api_read(req, &db, err));
    rc = pd_dataset_by_uuid(db, &req->arena, c.o.uuid, &d, err);
    if (rc == PD_OK) { /* sent again */
        PD_TRY(pd_policy_lead(db, c.who, &d, err));
        status = 200;
        if (!pd_str_eqz(c.o.name, d.name)) {
            rc = PD_FAIL(err, PD_CONFLICT, "another dataset has this id already");
            goto out;
        }
    } else if (rc == PD_NOTFOUND) {
        if (!c.workspace.len && !pd_policy_sees_all(c.who)) { /* an admin's own first workspace */
            struct pd_workspace *ws = NULL;
            size_t n = 0;
            PD_TRY(pd_workspace_list(db, &req->arena, c.who->user.id, &ws, &n, err));
            c.workspace = n ? pd_str_from(ws[0].name) : c.workspace;
        }
        pd_api_read_end(req);
        PD_TRY(pd_store_write(pd_api_of(req)->store, PD_TX_DURABLE, write_creation, &c, err));
        PD_TRY(pd_api_read(req, &db, err));
        PD_TRY(pd_dataset_get(db, &req->arena, c.id, &d, err));
    } else {
        goto out;
    }
    PD_TRY(write_dataset(req, db, &d, status, err));
out:
    return rc;
}

static const struct pd_route rows[] = {
    {PD_GET, "/ui/datasets", list, PD_MAY_USER, PD_DOOR_UI, 0, 0, "datasets I may see"},
    {PD_POST, "/ui/datasets", create, PD_MAY_LEAD, PD_DOOR_UI, PD_BODY_SMALL, 0, "make one"},
    {PD_GET, "/ui/datasets/{id}", show, PD_MAY_USER, PD_DOOR_UI, 0, 0, "one dataset"},
    {PD_PUT, "/ui/datasets/{id}/guidelines", set_guidelines, PD_MAY_LEAD, PD_DOOR_UI, PD_BODY_JSON,
     0, "a new version of the guidelines"},
};
PD_ROUTE_TABLE(pd_routes_dataset, rows);
