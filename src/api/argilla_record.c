/* Argilla: records with their suggestions and responses. */
#include "api/argilla.h"

#include "api/ui_json.h"

#include <stdio.h>

enum { MAX_ITEMS = 1000, MAX_IDS = 100, SCAN = 500 };

void pd_argilla_response(struct pd_jw *w, const struct pd_response *r)
{
    pd_jw_object(w);
    pd_jw_kstrz(w, "id", r->uuid);
    pd_jw_kraw(w, "values", r->values && r->values[0] ? r->values : "{}");
    pd_jw_kstrz(w, "status", pd_answer_status_name(r->status));
    pd_jw_kstrz(w, "record_id", r->record_uuid);
    pd_jw_kstrz(w, "user_id", r->user_uuid);
    pd_argilla_ktime(w, "inserted_at", r->inserted_us);
    pd_argilla_ktime(w, "updated_at", r->updated_us);
    pd_jw_object_end(w);
}

static void write_suggestion(struct pd_jw *w, const struct pd_suggestion *s)
{
    pd_jw_object(w);
    pd_jw_kstrz(w, "id", s->uuid);
    pd_jw_kstrz(w, "question_id", s->question_uuid);
    pd_jw_kstrz(w, "type", s->type);
    pd_jw_kraw(w, "value", s->value);
    pd_jw_kstrz(w, "agent", s->agent);
    pd_jw_kraw(w, "score", s->score);
    pd_argilla_ktime(w, "inserted_at", s->inserted_us);
    pd_argilla_ktime(w, "updated_at", s->updated_us);
    pd_jw_object_end(w);
}

/* ------------------------------------------------------------------ listing */

/* What a listing was asked for. */
struct listing {
    bool responses, suggestions, vectors;
    bool mine;         /* only the caller's responses */
    unsigned statuses; /* bit per pd_answer_status; 0 = no filter */
    bool unanswered;   /* "pending", or "missing" */
    int64_t offset, limit;
};

static enum pd_rc read_listing(struct pd_req *req, struct listing *l, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    *l = (struct listing){.mine = strstr(req->route->pattern, "/me/") != NULL};
    PD_TRY(pd_req_query_i64(req, "offset", 0, INT64_MAX / 2, 0, &l->offset, err));
    PD_TRY(pd_req_query_i64(req, "limit", 1, 1000, 50, &l->limit, err));
    for (size_t i = 0; i < req->n_query; i++) {
        struct pd_str k = req->query[i].key, v = req->query[i].value;
        enum pd_answer_status status;
        if (pd_str_eqz(k, "include")) {
            l->responses |= pd_str_eqz(v, "responses");
            l->suggestions |= pd_str_eqz(v, "suggestions");
            l->vectors |= pd_str_starts(v, PD_STR("vectors"));
        } else if (pd_str_eqz(k, "response_status")) {
            if (pd_str_eqz(v, "missing") || pd_str_eqz(v, "pending"))
                l->unanswered = true;
            else if (pd_answer_status_parse(v, &status))
                l->statuses |= 1U << status;
            else
                rc = PD_FAIL(err, PD_INVALID, "response_status: %.40s is not known", v.ptr);
        }
    }
out:
    return rc;
}

struct page {
    struct pd_record *recs;
    struct pd_response *resp;
    struct pd_suggestion *sugg;
    size_t n, n_resp, n_sugg;
};

static enum pd_rc load_page(struct pd_db *db, struct pd_arena *a, const struct listing *l,
                            int64_t dataset_id, int64_t user_id, int64_t after, size_t limit,
                            struct page *p, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    *p = (struct page){0};
    PD_TRY(pd_record_page(db, a, dataset_id, after, limit, &p->recs, &p->n, err));
    if (p->n == 0)
        goto out;
    int64_t first = p->recs[0].id, last = p->recs[p->n - 1].id;
    if (l->responses || l->statuses || l->unanswered)
        PD_TRY(pd_response_list(db, a, dataset_id, first, last, l->mine ? user_id : 0, &p->resp,
                                &p->n_resp, err));
    if (l->suggestions)
        PD_TRY(pd_suggestion_list(db, a, dataset_id, first, last, &p->sugg, &p->n_sugg, err));
out:
    return rc;
}

static bool passes(const struct listing *l, const struct page *p, int64_t record_id)
{
    bool any = false, hit = false;
    if (!l->statuses && !l->unanswered)
        return true;
    for (size_t i = 0; i < p->n_resp; i++) {
        if (p->resp[i].record_id != record_id)
            continue;
        any = true;
        hit |= (l->statuses & (1U << p->resp[i].status)) != 0;
    }
    return hit || (l->unanswered && !any);
}

static void write_record(struct pd_jw *w, const struct listing *l, const struct page *p,
                         const struct pd_dataset *d, const struct pd_record *r)
{
    pd_jw_object(w);
    pd_jw_kstrz(w, "id", r->uuid);
    pd_jw_kstrz(w, "status", r->completed ? "completed" : "pending");
    pd_jw_kraw(w, "fields", r->fields);
    pd_jw_kraw(w, "metadata", r->metadata ? r->metadata : "{}");
    pd_jw_kstrz(w, "external_id", r->external_id);
    if (l->responses) {
        pd_jw_key(w, "responses");
        pd_jw_array(w);
        for (size_t i = 0; i < p->n_resp; i++)
            if (p->resp[i].record_id == r->id)
                pd_argilla_response(w, &p->resp[i]);
        pd_jw_array_end(w);
    }
    if (l->suggestions) {
        pd_jw_key(w, "suggestions");
        pd_jw_array(w);
        for (size_t i = 0; i < p->n_sugg; i++)
            if (p->sugg[i].record_id == r->id)
                write_suggestion(w, &p->sugg[i]);
        pd_jw_array_end(w);
    }
    if (l->vectors)
        pd_jw_kraw(w, "vectors", r->vectors ? r->vectors : "{}");
    pd_jw_kstrz(w, "dataset_id", d->uuid);
    pd_argilla_ktime(w, "inserted_at", r->inserted_us);
    pd_argilla_ktime(w, "updated_at", r->updated_us);
    pd_jw_object_end(w);
}

/* By counters and the index when nothing is filtered. */
static enum pd_rc write_plain(struct pd_jw *w, struct pd_db *db, struct pd_req *req,
                              const struct listing *l, const struct pd_dataset *d, int64_t *total,
                              struct pd_err *err)
{
    struct pd_counts c;
    struct page p;
    int64_t after = 0;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_dataset_counts(db, d->id, &c, err));
    *total = c.records;
    if (l->offset >= c.records)
        goto out;
    PD_TRY(pd_record_offset(db, d->id, l->offset, &after, err));
    PD_TRY(load_page(db, &req->arena, l, d->id, pd_who(req)->user.id, after, (size_t)l->limit, &p,
                     err));
    for (size_t i = 0; i < p.n; i++)
        write_record(w, l, &p, d, &p.recs[i]);
out:
    return rc;
}

static enum pd_rc write_filtered(struct pd_jw *w, struct pd_db *db, struct pd_req *req,
                                 const struct listing *l, const struct pd_dataset *d,
                                 int64_t *total, struct pd_err *err)
{
    int64_t after = 0, seen = 0;
    enum pd_rc rc = PD_OK;
    for (;;) {
        struct pd_arena scratch;
        struct page p;
        pd_arena_init(&scratch);
        rc = load_page(db, &scratch, l, d->id, pd_who(req)->user.id, after, SCAN, &p, err);
        for (size_t i = 0; rc == PD_OK && i < p.n; i++) {
            after = p.recs[i].id;
            if (!passes(l, &p, p.recs[i].id))
                continue;
            if (seen >= l->offset && seen < l->offset + l->limit)
                write_record(w, l, &p, d, &p.recs[i]);
            seen++;
        }
        bool more = rc == PD_OK && p.n == SCAN;
        pd_arena_release(&scratch);
        if (!more)
            break;
    }
    *total = seen;
    return rc;
}

static enum pd_rc list(struct pd_req *req, struct pd_err *err)
{
    struct pd_dataset d;
    struct pd_db *db;
    struct listing l;
    int64_t total = 0;
    enum pd_rc rc = PD_OK;
    PD_TRY(read_listing(req, &l, err));
    PD_TRY(pd_api_dataset(req, "id", l.mine ? PD_NEED_SEE : PD_NEED_LEAD, &d, err));
    PD_TRY(pd_api_read(req, &db, err));
    struct pd_jw *w = pd_resp_json(req, 200);
    pd_jw_object(w);
    pd_jw_key(w, "items");
    pd_jw_array(w);
    PD_TRY(l.statuses || l.unanswered ? write_filtered(w, db, req, &l, &d, &total, err)
                                      : write_plain(w, db, req, &l, &d, &total, err));
    pd_jw_array_end(w);
    pd_jw_ki64(w, "total", total);
    pd_jw_object_end(w);
out:
    return rc;
}

static enum pd_rc get(struct pd_req *req, struct pd_err *err)
{
    const struct listing all = {.responses = true, .suggestions = true, .vectors = true};
    struct pd_str uuid;
    struct pd_record r;
    struct pd_dataset d;
    struct pd_db *db;
    struct page p;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_uuid(req, "id", &uuid, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_record_by_uuid(db, &req->arena, uuid, &r, err));
    PD_TRY(pd_dataset_get(db, &req->arena, r.dataset_id, &d, err));
    PD_TRY(pd_policy_lead(db, pd_who(req), &d, err));
    PD_TRY(load_page(db, &req->arena, &all, d.id, 0, r.id - 1, 1, &p, err));
    write_record(pd_resp_json(req, 200), &all, &p, &d, &r);
out:
    return rc;
}

/* ------------------------------------------------------------------ adding */

/* One POST of records: checked and stored item by item in one transaction. */
struct upload {
    struct pd_req *req;
    const struct pd_dataset *d;
    struct pd_part *fields, *props;
    struct pd_question *qs;
    struct pd_part *q_parts;
    size_t n_fields, n_props, n_qs, n_q_parts;
    struct json_object *items;
};

static enum pd_rc load_upload(struct upload *u, struct pd_db *db, struct pd_err *err)
{
    struct pd_arena *a = &u->req->arena;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_part_list(db, a, u->d->id, PD_PART_FIELD, &u->fields, &u->n_fields, err));
    PD_TRY(pd_part_list(db, a, u->d->id, PD_PART_METADATA, &u->props, &u->n_props, err));
    PD_TRY(pd_part_list(db, a, u->d->id, PD_PART_QUESTION, &u->q_parts, &u->n_q_parts, err));
    PD_TRY(pd_question_load(db, a, u->d->id, &u->qs, &u->n_qs, err));
out:
    return rc;
}

static struct pd_str plain(struct json_object *o)
{
    return o ? pd_str_from(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN))
             : (struct pd_str){NULL, 0};
}

static enum pd_rc put_suggestion(struct upload *u, struct pd_db *db, int64_t record_id,
                                 struct json_object *fields, struct json_object *s,
                                 struct pd_err *err)
{
    struct pd_str uuid = pd_json_str(s, "question_id");
    struct pd_suggestion_new in = {.record_id = record_id,
                                   .score = plain(pd_json_get(s, "score")),
                                   .type = pd_json_str(s, "type"),
                                   .agent = pd_json_str(s, "agent")};
    const struct pd_question *q = NULL;
    struct pd_buf value;
    int64_t id = 0;
    for (size_t i = 0; i < u->n_q_parts && i < u->n_qs; i++)
        if (pd_str_eqz(uuid, u->q_parts[i].uuid))
            q = &u->qs[i];
    if (!q)
        return PD_FAIL(err, PD_INVALID, "suggestion: this dataset has no question %.40s",
                       uuid.ptr ? uuid.ptr : "(none)");
    pd_buf_init(&value, 0);
    enum pd_rc rc = pd_value_check(q, pd_json_get(s, "value"), false, fields, &value, err);
    in.question_id = q->id;
    in.value = pd_buf_str(&value);
    if (rc == PD_OK)
        rc = pd_suggestion_put(db, &in, &id, NULL, err);
    pd_buf_release(&value);
    return rc;
}

static enum pd_rc put_response(struct upload *u, struct pd_db *db, int64_t record_id,
                               struct json_object *r, struct pd_err *err)
{
    struct pd_user user;
    struct pd_response_result result;
    struct pd_response_put in = {.record_id = record_id,
                                 .guideline_version = -1,
                                 .source = PD_STR("argilla"),
                                 .values = plain(pd_json_get(r, "values"))};
    struct pd_str uuid = pd_json_str(r, "user_id"), status = pd_json_str(r, "status");
    enum pd_rc rc = PD_OK;
    if (!pd_answer_status_parse(status.len ? status : PD_STR("submitted"), &in.status)) {
        rc = PD_FAIL(err, PD_INVALID, "response: status %.40s is not known", status.ptr);
        goto out;
    }
    in.user_id = pd_who(u->req)->user.id;
    if (uuid.len) {
        rc = pd_user_by_uuid(db, &u->req->arena, uuid, &user, err);
        if (rc == PD_NOTFOUND)
            rc = PD_FAIL(err, PD_INVALID, "response: there is no user %.40s", uuid.ptr);
        PD_TRY(rc);
        in.user_id = user.id;
    }
    PD_TRY(pd_policy_answer_as(pd_who(u->req), in.user_id, err));
    PD_TRY(pd_answer_put(db, &in, &result, err));
out:
    return rc;
}

static enum pd_rc put_item(struct upload *u, struct pd_db *db, struct json_object *item,
                           struct pd_err *err)
{
    struct json_object *fields = pd_json_get(item, "fields"), *meta = pd_json_get(item, "metadata");
    struct json_object *vectors = pd_json_get(item, "vectors");
    struct json_object *responses = pd_json_get(item, "responses"),
                       *suggestions = pd_json_get(item, "suggestions");
    struct pd_record_new in = {.dataset_id = u->d->id,
                               .external_id = pd_json_str(item, "external_id")};
    int64_t id = 0;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_fields_check(u->fields, u->n_fields, fields, err));
    if (meta)
        PD_TRY(pd_metadata_check(u->props, u->n_props, u->d->allow_extra_metadata, meta, err));
    in.fields = plain(fields);
    in.metadata = meta ? plain(meta) : PD_STR("{}");
    in.vectors = plain(vectors);
    rc = pd_record_create(db, &in, &id, err);
    if (rc == PD_CONFLICT)
        rc = err->rc = PD_INVALID; /* as there: the batch is refused */
    PD_TRY(rc);
    for (size_t i = 0; json_object_is_type(suggestions, json_type_array) &&
                       i < json_object_array_length(suggestions);
         i++)
        PD_TRY(put_suggestion(u, db, id, fields, json_object_array_get_idx(suggestions, i), err));
    for (size_t i = 0;
         json_object_is_type(responses, json_type_array) && i < json_object_array_length(responses);
         i++)
        PD_TRY(put_response(u, db, id, json_object_array_get_idx(responses, i), err));
out:
    return rc;
}

static enum pd_rc write_items(struct pd_db *db, void *arg, struct pd_err *err)
{
    struct upload *u = arg;
    enum pd_rc rc = PD_OK;
    for (size_t i = 0; i < json_object_array_length(u->items); i++) {
        rc = put_item(u, db, json_object_array_get_idx(u->items, i), err);
        if (rc != PD_OK) {
            (void)pd_err_prefix(err, "record at position %zu is not valid", i);
            break;
        }
    }
    return rc;
}

static enum pd_rc add(struct pd_req *req, struct pd_err *err)
{
    struct json_object *body;
    struct pd_dataset d;
    struct pd_db *db;
    struct upload u = {.req = req, .d = &d};
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_json(req, &body, err));
    PD_TRY(pd_api_dataset(req, "id", PD_NEED_LEAD, &d, err));
    u.items = pd_json_get(body, "items");
    size_t n =
        json_object_is_type(u.items, json_type_array) ? json_object_array_length(u.items) : 0;
    if (n < 1 || n > MAX_ITEMS) {
        rc = PD_FAIL(err, PD_INVALID, "items must be a list of 1 to %d records", MAX_ITEMS);
        goto out;
    }
    if (d.status != PD_DATASET_READY) {
        rc = PD_FAIL(err, PD_INVALID, "records can be added once the dataset is published");
        goto out;
    }
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(load_upload(&u, db, err));
    pd_api_read_end(req);
    PD_TRY(pd_store_write(pd_api_of(req)->store, PD_TX_DURABLE, write_items, &u, err));
    pd_resp_empty(req, 204);
out:
    return rc;
}

/* ------------------------------------------------------------------ deleting */

struct removal {
    struct pd_req *req;
    const struct pd_dataset *d;
    struct pd_str ids;
};

static enum pd_rc write_removal(struct pd_db *db, void *arg, struct pd_err *err)
{
    struct removal *r = arg;
    struct pd_str rest = r->ids, uuid;
    enum pd_rc rc = PD_OK;
    for (int n = 0; rc == PD_OK && pd_str_split(&rest, ',', &uuid); n++) {
        struct pd_record rec;
        if (n == MAX_IDS)
            return PD_FAIL(err, PD_INVALID, "ids: at most %d at once", MAX_IDS);
        rc = pd_record_by_uuid(db, &r->req->arena, pd_str_trim(uuid), &rec, err);
        if (rc == PD_OK && rec.dataset_id == r->d->id)
            rc = pd_record_delete(db, rec.id, err);
        else if (rc == PD_NOTFOUND)
            rc = PD_OK;
    }
    return rc;
}

static enum pd_rc remove_many(struct pd_req *req, struct pd_err *err)
{
    struct pd_dataset d;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_dataset(req, "id", PD_NEED_LEAD, &d, err));
    struct removal r = {req, &d, pd_req_query(req, "ids")};
    if (!r.ids.len) {
        rc = PD_FAIL(err, PD_INVALID, "ids: name at least one record");
        goto out;
    }
    pd_api_read_end(req);
    PD_TRY(pd_store_write(pd_api_of(req)->store, PD_TX_DURABLE, write_removal, &r, err));
    pd_resp_empty(req, 204);
out:
    return rc;
}

/* ------------------------------------------------------------------ responses */

struct answer {
    struct pd_response_put in;
    struct pd_response_result out;
    bool only_new; /* POST: 409 when there is one */
    struct pd_arena *arena;
};

static enum pd_rc write_answer(struct pd_db *db, void *arg, struct pd_err *err)
{
    struct answer *a = arg;
    if (a->only_new) {
        struct pd_response before;
        bool found = false;
        enum pd_rc rc =
            pd_response_of(db, a->arena, a->in.record_id, a->in.user_id, &before, &found, err);
        if (rc != PD_OK)
            return rc;
        if (found)
            return PD_FAIL(err, PD_CONFLICT, "Response already exists for this record and user");
    }
    return pd_answer_put(db, &a->in, &a->out, err);
}

static enum pd_rc read_answer(struct pd_req *req, struct answer *a, struct pd_err *err)
{
    struct json_object *body;
    struct pd_str status;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_json(req, &body, err));
    PD_TRY(pd_json_need_str(body, "status", &status, err));
    if (!pd_answer_status_parse(status, &a->in.status))
        rc = PD_FAIL(err, PD_INVALID, "status must be draft, submitted or discarded");
    a->in.values = plain(pd_json_get(body, "values"));
    a->in.source = PD_STR("argilla");
    a->in.guideline_version = -1;
    a->arena = &req->arena;
out:
    return rc;
}

static enum pd_rc answer_response(struct pd_req *req, const struct answer *a, int status,
                                  struct pd_err *err)
{
    struct pd_response r;
    struct pd_db *db;
    bool found = false;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_response_of(db, &req->arena, a->in.record_id, a->in.user_id, &r, &found, err));
    if (!found)
        rc = PD_FAIL(err, PD_NOTFOUND, "the response is gone");
    else
        pd_argilla_response(pd_resp_json(req, status), &r);
out:
    return rc;
}

static enum pd_rc create_response(struct pd_req *req, struct pd_err *err)
{
    struct pd_str uuid;
    struct pd_record rec;
    struct pd_dataset d;
    struct pd_db *db;
    struct answer a = {.only_new = true};
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_uuid(req, "id", &uuid, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_record_by_uuid(db, &req->arena, uuid, &rec, err));
    PD_TRY(pd_dataset_get(db, &req->arena, rec.dataset_id, &d, err));
    PD_TRY(pd_policy_see(db, pd_who(req), &d, err));
    PD_TRY(read_answer(req, &a, err));
    a.in.record_id = rec.id;
    a.in.user_id = pd_who(req)->user.id;
    pd_api_read_end(req);
    PD_TRY(pd_store_write(pd_api_of(req)->store, PD_TX_DURABLE, write_answer, &a, err));
    PD_TRY(answer_response(req, &a, 201, err));
out:
    return rc;
}

/* A response by path, which the caller may change: their own, or as a lead. */
static enum pd_rc find_response(struct pd_req *req, struct pd_response *r, struct pd_err *err)
{
    struct pd_str uuid;
    struct pd_db *db;
    struct pd_dataset d;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_uuid(req, "id", &uuid, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_response_by_uuid(db, &req->arena, uuid, r, err));
    PD_TRY(pd_dataset_get(db, &req->arena, r->dataset_id, &d, err));
    if (r->user_id == pd_who(req)->user.id)
        PD_TRY(pd_policy_see(db, pd_who(req), &d, err));
    else
        PD_TRY(pd_policy_lead(db, pd_who(req), &d, err));
out:
    return rc;
}

static enum pd_rc update_response(struct pd_req *req, struct pd_err *err)
{
    struct pd_response r;
    struct answer a = {0};
    enum pd_rc rc = PD_OK;
    PD_TRY(find_response(req, &r, err));
    PD_TRY(read_answer(req, &a, err));
    a.in.record_id = r.record_id;
    a.in.user_id = r.user_id;
    pd_api_read_end(req);
    PD_TRY(pd_store_write(pd_api_of(req)->store, PD_TX_DURABLE, write_answer, &a, err));
    PD_TRY(answer_response(req, &a, 200, err));
out:
    return rc;
}

static enum pd_rc write_response_removal(struct pd_db *db, void *arg, struct pd_err *err)
{
    return pd_response_delete(db, *(int64_t *)arg, err);
}

static enum pd_rc delete_response(struct pd_req *req, struct pd_err *err)
{
    struct pd_response r;
    enum pd_rc rc = PD_OK;
    PD_TRY(find_response(req, &r, err));
    pd_api_read_end(req);
    PD_TRY(
        pd_store_write(pd_api_of(req)->store, PD_TX_DURABLE, write_response_removal, &r.id, err));
    pd_argilla_response(pd_resp_json(req, 200), &r);
out:
    return rc;
}

#define ARG PD_DOOR_ARGILLA
static const struct pd_route rows[] = {
    {PD_GET, "/api/v1/datasets/{id}/records", list, PD_MAY_LEAD, ARG, 0, 0, "all records"},
    {PD_GET, "/api/v1/me/datasets/{id}/records", list, PD_MAY_USER, ARG, 0, 0,
     "records with my answers"},
    {PD_POST, "/api/v1/datasets/{id}/records", add, PD_MAY_LEAD, ARG, PD_BODY_BULK, 0,
     "add records"},
    {PD_DELETE, "/api/v1/datasets/{id}/records", remove_many, PD_MAY_LEAD, ARG, PD_BODY_JSON, 0,
     "delete records"},
    {PD_GET, "/api/v1/records/{id}", get, PD_MAY_LEAD, ARG, 0, 0, "one record"},
    {PD_POST, "/api/v1/records/{id}/responses", create_response, PD_MAY_USER, ARG, PD_BODY_JSON, 0,
     "my answer"},
    {PD_PUT, "/api/v1/responses/{id}", update_response, PD_MAY_USER, ARG, PD_BODY_JSON, 0,
     "change it"},
    {PD_DELETE, "/api/v1/responses/{id}", delete_response, PD_MAY_USER, ARG, PD_BODY_JSON, 0,
     "take it back"},
};
PD_ROUTE_TABLE(pd_routes_argilla_record, rows);
