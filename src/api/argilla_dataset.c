/* Argilla: datasets and their settings. */
#include "api/argilla.h"

#include "pref/question.h"

void pd_argilla_dataset(struct pd_jw *w, const struct pd_dataset *d)
{
    pd_jw_object(w);
    pd_jw_kstrz(w, "id", d->uuid);
    pd_jw_kstrz(w, "name", d->name);
    pd_jw_kstrz(w, "guidelines", d->guidelines);
    pd_jw_kbool(w, "allow_extra_metadata", d->allow_extra_metadata);
    pd_jw_kstrz(w, "status", d->status == PD_DATASET_READY ? "ready" : "draft");
    pd_jw_key(w, "distribution");
    pd_jw_object(w);
    pd_jw_kstrz(w, "strategy", "overlap");
    pd_jw_ki64(w, "min_submitted", d->min_submitted > 0 ? d->min_submitted : 1);
    pd_jw_object_end(w);
    pd_jw_kstrz(w, "workspace_id", d->workspace_uuid);
    pd_argilla_ktime(w, "last_activity_at", d->last_activity_us);
    pd_argilla_ktime(w, "inserted_at", d->inserted_us);
    pd_argilla_ktime(w, "updated_at", d->updated_us);
    pd_jw_object_end(w);
}

void pd_argilla_part(struct pd_jw *w, const struct pd_dataset *d, const struct pd_part *p)
{
    pd_jw_object(w);
    pd_jw_kstrz(w, "id", p->uuid);
    pd_jw_kstrz(w, "name", p->name);
    pd_jw_kstrz(w, "title", p->title);
    if (p->kind == PD_PART_QUESTION)
        pd_jw_kstrz(w, "description", p->description);
    if (p->kind == PD_PART_FIELD || p->kind == PD_PART_QUESTION)
        pd_jw_kbool(w, "required", p->required);
    if (p->kind == PD_PART_METADATA)
        pd_jw_kbool(w, "visible_for_annotators", p->required);
    if (p->kind == PD_PART_VECTOR) {
        struct json_object *s = NULL;
        if (pd_json_parse(pd_str_from(p->settings), &s, NULL) == PD_OK)
            pd_jw_ki64(w, "dimensions", pd_json_i64(s, "dimensions", 0));
        json_object_put(s);
    } else {
        pd_jw_kraw(w, "settings", p->settings);
    }
    pd_jw_kstrz(w, "dataset_id", d->uuid);
    pd_argilla_ktime(w, "inserted_at", p->inserted_us);
    pd_argilla_ktime(w, "updated_at", p->updated_us);
    pd_jw_object_end(w);
}

/* ------------------------------------------------------------------ datasets */

static enum pd_rc list(struct pd_req *req, struct pd_err *err)
{
    struct pd_db *db;
    struct pd_dataset *ds = NULL;
    size_t n = 0;
    const struct pd_who *who = pd_who(req);
    struct pd_str workspace = pd_req_query(req, "workspace_id"), name = pd_req_query(req, "name");
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(
        pd_dataset_list(db, &req->arena, pd_policy_sees_all(who) ? 0 : who->user.id, &ds, &n, err));
    struct pd_jw *w = pd_resp_json(req, 200);
    pd_jw_object(w);
    pd_jw_key(w, "items");
    pd_jw_array(w);
    for (size_t i = 0; i < n; i++) {
        bool fits = (!workspace.len || pd_str_eqz(workspace, ds[i].workspace_uuid)) &&
                    (!name.len || pd_str_eqz(name, ds[i].name));
        if (fits)
            pd_argilla_dataset(w, &ds[i]);
    }
    pd_jw_array_end(w);
    pd_jw_object_end(w);
out:
    return rc;
}

static enum pd_rc answer_dataset(struct pd_req *req, int64_t id, int status, struct pd_err *err)
{
    struct pd_db *db;
    struct pd_dataset d;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_dataset_get(db, &req->arena, id, &d, err));
    pd_argilla_dataset(pd_resp_json(req, status), &d);
out:
    return rc;
}

struct creation {
    struct pd_dataset_new in;
    int64_t id;
};

static enum pd_rc write_creation(struct pd_db *db, void *arg, struct pd_err *err)
{
    struct creation *c = arg;
    return pd_dataset_create(db, &c->in, &c->id, err);
}

static enum pd_rc create(struct pd_req *req, struct pd_err *err)
{
    struct json_object *body;
    struct pd_str workspace;
    struct pd_workspace ws;
    struct pd_db *db;
    struct creation c = {0};
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_json(req, &body, err));
    PD_TRY(pd_json_need_str(body, "name", &c.in.name, err));
    PD_TRY(pd_json_need_str(body, "workspace_id", &workspace, err));
    PD_TRY(pd_api_read(req, &db, err));
    rc = pd_workspace_by_uuid(db, &req->arena, workspace, &ws, err);
    if (rc == PD_NOTFOUND)
        rc = PD_FAIL(err, PD_INVALID, "workspace_id: there is no such workspace");
    PD_TRY(rc);
    PD_TRY(pd_policy_lead_workspace(db, pd_who(req), ws.id, err));
    struct json_object *distribution = pd_json_get(body, "distribution");
    c.in.workspace_id = ws.id;
    c.in.guidelines = pd_json_str(body, "guidelines");
    c.in.allow_extra_metadata = pd_json_bool(body, "allow_extra_metadata", true);
    c.in.min_submitted = distribution ? pd_json_i64(distribution, "min_submitted", 1) : 0;
    c.in.made_by = distribution ? PD_STR("argilla-v2") : PD_STR("argilla-v1");
    c.in.author_id = pd_who(req)->user.id;
    pd_api_read_end(req);
    PD_TRY(pd_store_write(pd_api_of(req)->store, PD_TX_DURABLE, write_creation, &c, err));
    PD_TRY(answer_dataset(req, c.id, 201, err));
out:
    return rc;
}

static enum pd_rc get(struct pd_req *req, struct pd_err *err)
{
    struct pd_dataset d;
    enum pd_rc rc = pd_api_dataset(req, "id", PD_NEED_SEE, &d, err);
    if (rc == PD_OK)
        pd_argilla_dataset(pd_resp_json(req, 200), &d);
    return rc;
}

struct patch {
    struct json_object *body;
    int64_t id, author_id;
};

static enum pd_rc write_patch(struct pd_db *db, void *arg, struct pd_err *err)
{
    struct patch *p = arg;
    struct json_object *v = NULL;
    enum pd_rc rc = PD_OK;
    if (pd_json_str(p->body, "name").len)
        PD_TRY(pd_dataset_set_name(db, p->id, pd_json_str(p->body, "name"), err));
    if (json_object_object_get_ex(p->body, "guidelines", &v))
        PD_TRY(pd_dataset_set_guidelines(db, p->id, pd_json_str(p->body, "guidelines"),
                                         p->author_id, err));
    if (json_object_object_get_ex(p->body, "allow_extra_metadata", &v))
        PD_TRY(pd_dataset_set_extra_metadata(db, p->id, json_object_get_boolean(v), err));
out:
    return rc;
}

static enum pd_rc update(struct pd_req *req, struct pd_err *err)
{
    struct pd_dataset d;
    struct patch p = {.author_id = pd_who(req)->user.id};
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_json(req, &p.body, err));
    PD_TRY(pd_api_dataset(req, "id", PD_NEED_LEAD, &d, err));
    p.id = d.id;
    pd_api_read_end(req);
    PD_TRY(pd_store_write(pd_api_of(req)->store, PD_TX_DURABLE, write_patch, &p, err));
    PD_TRY(answer_dataset(req, d.id, 200, err));
out:
    return rc;
}

static enum pd_rc write_publish(struct pd_db *db, void *arg, struct pd_err *err)
{
    return pd_dataset_publish(db, *(int64_t *)arg, err);
}
static enum pd_rc write_delete(struct pd_db *db, void *arg, struct pd_err *err)
{
    return pd_dataset_delete(db, *(int64_t *)arg, err);
}

static enum pd_rc publish(struct pd_req *req, struct pd_err *err)
{
    struct pd_dataset d;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_dataset(req, "id", PD_NEED_LEAD, &d, err));
    pd_api_read_end(req);
    if (d.status == PD_DATASET_READY)
        rc = PD_FAIL(err, PD_INVALID, "Dataset is already published");
    else
        rc = pd_store_write(pd_api_of(req)->store, PD_TX_DURABLE, write_publish, &d.id, err);
    PD_TRY(rc);
    PD_TRY(answer_dataset(req, d.id, 200, err));
out:
    return rc;
}

static enum pd_rc delete_dataset(struct pd_req *req, struct pd_err *err)
{
    struct pd_dataset d;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_dataset(req, "id", PD_NEED_LEAD, &d, err));
    pd_api_read_end(req);
    PD_TRY(pd_store_write(pd_api_of(req)->store, PD_TX_DURABLE, write_delete, &d.id, err));
    pd_argilla_dataset(pd_resp_json(req, 200), &d);
out:
    return rc;
}

/* ------------------------------------------------------------------ fields, questions, ... */

static enum pd_part_kind kind_of(const struct pd_req *req)
{
    const char *p = req->route->pattern;
    return strstr(p, "/fields")                ? PD_PART_FIELD
           : strstr(p, "/questions")           ? PD_PART_QUESTION
           : strstr(p, "/metadata-properties") ? PD_PART_METADATA
                                               : PD_PART_VECTOR;
}

static enum pd_rc list_parts(struct pd_req *req, struct pd_err *err)
{
    struct pd_dataset d;
    struct pd_db *db;
    struct pd_part *parts = NULL;
    size_t n = 0;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_dataset(req, "id", PD_NEED_SEE, &d, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_part_list(db, &req->arena, d.id, kind_of(req), &parts, &n, err));
    struct pd_jw *w = pd_resp_json(req, 200);
    pd_jw_object(w);
    pd_jw_key(w, "items");
    pd_jw_array(w);
    for (size_t i = 0; i < n; i++)
        pd_argilla_part(w, &d, &parts[i]);
    pd_jw_array_end(w);
    pd_jw_object_end(w);
out:
    return rc;
}

struct part_creation {
    struct pd_part_new in;
    int64_t id;
};

static enum pd_rc write_part(struct pd_db *db, void *arg, struct pd_err *err)
{
    struct part_creation *c = arg;
    return pd_part_create(db, &c->in, &c->id, err);
}

static void put_json(void *o)
{
    json_object_put(o);
}

/* Settings as they will be stored; vectors keep theirs beside the name. */
static enum pd_rc part_settings(struct pd_req *req, enum pd_part_kind kind,
                                struct json_object *body, struct json_object **out,
                                struct pd_err *err)
{
    struct json_object *s = pd_json_get(body, "settings");
    if (kind == PD_PART_VECTOR) {
        int64_t n = 0;
        enum pd_rc rc = pd_json_need_i64(body, "dimensions", &n, err);
        if (rc != PD_OK)
            return rc;
        s = json_object_new_object();
        json_object_object_add(s, "dimensions", json_object_new_int64(n));
        pd_arena_defer(&req->arena, put_json, s);
    }
    if (!json_object_is_type(s, json_type_object))
        return PD_FAIL(err, PD_INVALID, "settings: found %s, expected an object",
                       pd_json_type_name(s));
    *out = s;
    return PD_OK;
}

static enum pd_rc create_part(struct pd_req *req, struct pd_err *err)
{
    struct json_object *body, *settings = NULL;
    struct pd_dataset d;
    struct pd_part part;
    struct pd_db *db;
    struct part_creation c = {.in = {.kind = kind_of(req)}};
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_json(req, &body, err));
    PD_TRY(pd_json_need_str(body, "name", &c.in.name, err));
    PD_TRY(pd_api_dataset(req, "id", PD_NEED_LEAD, &d, err));
    bool fixed = c.in.kind == PD_PART_FIELD || c.in.kind == PD_PART_QUESTION;
    if (fixed && d.status == PD_DATASET_READY) {
        rc = PD_FAIL(err, PD_INVALID, "%s cannot be added to a published dataset",
                     c.in.kind == PD_PART_FIELD ? "fields" : "questions");
        goto out;
    }
    PD_TRY(part_settings(req, c.in.kind, body, &settings, err));
    PD_TRY(pd_part_check(c.in.kind, c.in.name, settings, err));
    c.in.dataset_id = d.id;
    c.in.title = pd_json_str(body, "title");
    c.in.description = pd_json_str(body, "description");
    c.in.required = c.in.kind == PD_PART_METADATA
                        ? pd_json_bool(body, "visible_for_annotators", true)
                        : pd_json_bool(body, "required", false);
    c.in.settings = pd_str_from(json_object_to_json_string_ext(settings, JSON_C_TO_STRING_PLAIN));
    pd_api_read_end(req);
    PD_TRY(pd_store_write(pd_api_of(req)->store, PD_TX_DURABLE, write_part, &c, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_part_get(db, &req->arena, c.id, &part, err));
    pd_argilla_part(pd_resp_json(req, 201), &d, &part);
out:
    return rc;
}

/* ------------------------------------------------------------------ numbers */

static enum pd_rc metrics(struct pd_req *req, struct pd_err *err)
{
    struct pd_dataset d;
    struct pd_db *db;
    struct pd_counts c;
    struct pd_user_counts *u = NULL, none = {0};
    size_t n = 0;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_dataset(req, "id", PD_NEED_SEE, &d, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_dataset_counts(db, d.id, &c, err));
    PD_TRY(pd_dataset_user_counts(db, &req->arena, d.id, pd_who(req)->user.id, &u, &n, err));
    if (n == 0)
        u = &none;
    struct pd_jw *w = pd_resp_json(req, 200);
    pd_jw_object(w);
    pd_jw_key(w, "records");
    pd_jw_object(w);
    pd_jw_ki64(w, "count", c.records);
    pd_jw_object_end(w);
    pd_jw_key(w, "responses");
    pd_jw_object(w);
    pd_jw_ki64(w, "count", u->submitted + u->discarded + u->draft);
    pd_jw_ki64(w, "submitted", u->submitted);
    pd_jw_ki64(w, "discarded", u->discarded);
    pd_jw_ki64(w, "draft", u->draft);
    pd_jw_ki64(w, "pending", c.records - u->submitted - u->discarded - u->draft);
    pd_jw_object_end(w);
    pd_jw_object_end(w);
out:
    return rc;
}

static enum pd_rc progress(struct pd_req *req, struct pd_err *err)
{
    struct pd_dataset d;
    struct pd_db *db;
    struct pd_counts c;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_dataset(req, "id", PD_NEED_SEE, &d, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_dataset_counts(db, d.id, &c, err));
    struct pd_jw *w = pd_resp_json(req, 200);
    pd_jw_object(w);
    pd_jw_ki64(w, "total", c.records);
    pd_jw_ki64(w, "completed", c.completed);
    pd_jw_ki64(w, "pending", c.records - c.completed);
    pd_jw_object_end(w);
out:
    return rc;
}

#define D   "/api/v1/datasets/{id}"
#define ARG PD_DOOR_ARGILLA
static const struct pd_route rows[] = {
    {PD_GET, "/api/v1/me/datasets", list, PD_MAY_USER, ARG, 0, 0, "datasets I may see"},
    {PD_POST, "/api/v1/datasets", create, PD_MAY_LEAD, ARG, PD_BODY_SMALL, 0, "make one"},
    {PD_GET, D, get, PD_MAY_USER, ARG, 0, 0, "one dataset"},
    {PD_PATCH, D, update, PD_MAY_LEAD, ARG, PD_BODY_SMALL, 0, "change it"},
    {PD_DELETE, D, delete_dataset, PD_MAY_LEAD, ARG, PD_BODY_JSON, 0, "delete it with its records"},
    {PD_PUT, D "/publish", publish, PD_MAY_LEAD, ARG, PD_BODY_JSON, 0, "open it for labeling"},
    {PD_GET, D "/progress", progress, PD_MAY_USER, ARG, 0, 0, "how far it is"},
    {PD_GET, "/api/v1/me/datasets/{id}/metrics", metrics, PD_MAY_USER, ARG, 0, 0, "my counters"},
    {PD_GET, D "/fields", list_parts, PD_MAY_USER, ARG, 0, 0, "fields"},
    {PD_POST, D "/fields", create_part, PD_MAY_LEAD, ARG, PD_BODY_JSON, 0, "add a field"},
    {PD_GET, D "/questions", list_parts, PD_MAY_USER, ARG, 0, 0, "questions"},
    {PD_POST, D "/questions", create_part, PD_MAY_LEAD, ARG, PD_BODY_JSON, 0, "add a question"},
    {PD_GET, D "/metadata-properties", list_parts, PD_MAY_USER, ARG, 0, 0, "metadata properties"},
    {PD_GET, "/api/v1/me/datasets/{id}/metadata-properties", list_parts, PD_MAY_USER, ARG, 0, 0,
     "metadata properties"},
    {PD_POST, D "/metadata-properties", create_part, PD_MAY_LEAD, ARG, PD_BODY_JSON, 0, "add one"},
    {PD_GET, D "/vectors-settings", list_parts, PD_MAY_USER, ARG, 0, 0, "vector settings"},
    {PD_POST, D "/vectors-settings", create_part, PD_MAY_LEAD, ARG, PD_BODY_JSON, 0, "add one"},
};
PD_ROUTE_TABLE(pd_routes_argilla_dataset, rows);
