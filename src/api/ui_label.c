/* /ui/: the labeling loop. A lease is named by its record's uuid: a labeler has at most one on a
 * record. */
#include "api/ui_label_int.h"

#include "base/time.h"
#include "store/lookup.h"

enum { MAX_TASKS = 20, MAX_HAVE = 50 };

enum pd_rc pd__desk_open(struct pd_req *req, struct pd_db *db, int64_t dataset_id,
                         struct pd_desk *out, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_dataset_get(db, &req->arena, dataset_id, &out->d, err));
    PD_TRY(pd_policy_see(db, pd_who(req), &out->d, err));
    PD_TRY(pd_question_load(db, &req->arena, dataset_id, &out->qs, &out->n_qs, err));
out:
    return rc;
}

/* ------------------------------------------------------------------ a task */

static void write_notes(struct pd_jw *w, struct pd_arena *a, const char *notes)
{
    struct json_object *o = pd_ui_parse(a, notes);
    struct pd_str why = pd_json_str(o, "why");
    pd_jw_key(w, "why");
    if (why.ptr)
        pd_jw_str(w, why);
    else
        pd_jw_null(w);
    pd_jw_key(w, "flag");
    pd_jw_tree(w, pd_json_get(o, "flag"));
}

static enum pd_rc write_suggestions(struct pd_jw *w, struct pd_db *db, struct pd_arena *a,
                                    const struct pd_desk *desk, int64_t record_id,
                                    struct pd_err *err)
{
    struct pd_suggestion *s = NULL;
    size_t n = 0;
    enum pd_rc rc = pd_suggestion_list(db, a, desk->d.id, record_id, record_id, &s, &n, err);
    if (rc != PD_OK)
        return rc;
    pd_jw_object(w);
    for (size_t i = 0; i < n; i++) {
        pd_jw_key(w, s[i].question);
        pd_jw_object(w);
        pd_jw_key(w, "value");
        pd_ui_value_out(w, pd_question_find(desk->qs, desk->n_qs, pd_str_from(s[i].question)),
                        pd_ui_parse(a, s[i].value));
        pd_jw_kstrz(w, "agent", s[i].agent);
        pd_jw_kraw(w, "score", s[i].score);
        pd_jw_object_end(w);
    }
    pd_jw_object_end(w);
    return PD_OK;
}

static enum pd_rc write_task(struct pd_jw *w, struct pd_db *db, struct pd_arena *a,
                             const struct pd_desk *desk, const struct pd_task *t,
                             struct pd_err *err)
{
    pd_jw_object(w);
    pd_jw_key(w, "lease");
    if (t->expires_us) {
        pd_jw_object(w);
        pd_jw_kstrz(w, "id", t->record.uuid);
        pd_jw_ktime(w, "expires_at", t->expires_us);
        pd_jw_object_end(w);
    } else {
        pd_jw_null(w);
    }
    pd_jw_key(w, "record");
    pd_jw_object(w);
    pd_jw_kstrz(w, "id", t->record.uuid);
    pd_jw_kraw(w, "fields", t->record.fields);
    pd_jw_kraw(w, "metadata", t->record.metadata);
    pd_jw_object_end(w);
    pd_jw_kraw(w, "order", t->shown ? t->shown : "[]");
    pd_jw_key(w, "draft");
    if (t->has_response) {
        pd_jw_object(w);
        pd_jw_key(w, "values");
        pd_ui_values_out(w, a, desk->qs, desk->n_qs, t->response.values);
        write_notes(w, a, t->response.notes);
        pd_jw_kf64(w, "seconds", (double)t->response.active_ms / 1000);
        pd_jw_object_end(w);
    } else {
        pd_jw_null(w);
    }
    pd_jw_key(w, "suggestions");
    enum pd_rc rc = write_suggestions(w, db, a, desk, t->record.id, err);
    pd_jw_kstrz(w, "status", t->has_response ? pd_answer_status_name(t->response.status) : NULL);
    pd_jw_object_end(w);
    return rc;
}

/* ------------------------------------------------------------------ next tasks */

static bool in_hand(struct json_object *have, const char *uuid)
{
    for (size_t i = 0; have && i < json_object_array_length(have); i++)
        if (pd_str_eqz(pd_json_value_str(json_object_array_get_idx(have, i)), uuid))
            return true;
    return false;
}

static enum pd_rc write_empty(struct pd_jw *w, struct pd_db *db, const struct pd_desk *desk,
                              int64_t reserved, int64_t retry_us, struct pd_err *err)
{
    struct pd_counts c = {0};
    enum pd_rc rc = pd_dataset_counters(db, desk->d.id, &c, err);
    const char *reason = desk->d.status == PD_DATASET_DRAFT ? "draft"
                         : c.records == 0                   ? "no_records"
                         : c.completed >= c.records         ? "done"
                         : reserved > 0                     ? "reserved"
                                                            : "mine_done";
    pd_jw_object(w);
    pd_jw_kstrz(w, "reason", reason);
    pd_jw_ktime(w, "retry_at", reserved > 0 ? retry_us : 0);
    pd_jw_object_end(w);
    return rc;
}

static enum pd_rc next_tasks(struct pd_req *req, struct pd_err *err)
{
    struct json_object *body;
    struct pd_db *db;
    struct pd_desk desk;
    struct pd_task *tasks = NULL;
    size_t n = 0, given = 0;
    int64_t reserved = 0, retry_us = 0;
    const struct pd_who *who = pd_who(req);
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_json(req, &body, err));
    PD_TRY(pd_api_dataset(req, "id", PD_NEED_SEE, &desk.d, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_question_load(db, &req->arena, desk.d.id, &desk.qs, &desk.n_qs, err));
    int64_t want = pd_json_i64(body, "n", 1), tz = pd_json_i64(body, "tz", 0);
    struct json_object *have = pd_json_get(body, "have");
    if (have && !json_object_is_type(have, json_type_array))
        have = NULL;
    size_t n_have = have ? json_object_array_length(have) : 0;
    if (want < 0 || want > MAX_TASKS || n_have > MAX_HAVE || tz < -1440 || tz > 1440) {
        rc = PD_FAIL(err, PD_INVALID, "n must be 0 to %d, have at most %d leases, tz minutes",
                     MAX_TASKS, MAX_HAVE);
        goto out;
    }
    pd_api_read_end(req);
    if (want > 0 && desk.d.status == PD_DATASET_READY)
        PD_TRY(pd_task_next(pd_api_of(req)->store, &req->arena, desk.d.id, who->user.id,
                            (size_t)want + n_have, &tasks, &n, &reserved, &retry_us, err));
    PD_TRY(pd_api_read(req, &db, err));
    struct pd_jw *w = pd_resp_json(req, 200);
    pd_jw_object(w);
    pd_jw_key(w, "tasks");
    pd_jw_array(w);
    for (size_t i = 0; i < n && given < (size_t)want; i++) {
        if (in_hand(have, tasks[i].record.uuid))
            continue;
        PD_TRY(write_task(w, db, &req->arena, &desk, &tasks[i], err));
        given++;
    }
    pd_jw_array_end(w);
    pd_jw_key(w, "mine");
    PD_TRY(pd_ui_mine(w, db, &req->arena, desk.d.id, who->user.id, tz, err));
    pd_jw_key(w, "counts");
    PD_TRY(pd_ui_counts(w, req, db, &desk.d, tz, err));
    pd_jw_key(w, "empty");
    if (given < (size_t)want)
        PD_TRY(write_empty(w, db, &desk, reserved, retry_us, err));
    else
        pd_jw_null(w);
    pd_jw_object_end(w);
out:
    return rc;
}

/* A record by path parameter or body, with the desk it lies on. */
enum pd_rc pd__desk_record(struct pd_req *req, struct pd_str uuid, struct pd_record *rec,
                           struct pd_desk *desk, struct pd_err *err)
{
    struct pd_db *db;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_record_by_uuid(db, &req->arena, uuid, rec, err));
    PD_TRY(pd__desk_open(req, db, rec->dataset_id, desk, err));
out:
    return rc;
}

enum pd_rc pd__desk_answer_task(struct pd_req *req, const struct pd_desk *desk, int64_t record_id,
                                int64_t expires_us, const char *key, struct pd_err *err)
{
    struct pd_task t = {0};
    struct pd_db *db;
    enum pd_rc rc = PD_OK;
    pd_api_read_end(req);
    PD_TRY(
        pd_task_get(pd_api_of(req)->store, &req->arena, record_id, pd_who(req)->user.id, &t, err));
    t.expires_us = expires_us;
    PD_TRY(pd_api_read(req, &db, err));
    struct pd_jw *w = pd_resp_json(req, 200);
    if (key) {
        pd_jw_object(w);
        pd_jw_key(w, key);
    }
    PD_TRY(write_task(w, db, &req->arena, desk, &t, err));
    if (key)
        pd_jw_object_end(w);
out:
    return rc;
}

static enum pd_rc one_task(struct pd_req *req, struct pd_err *err)
{
    struct pd_str uuid;
    struct pd_record rec;
    struct pd_desk desk;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_uuid(req, "id", &uuid, err));
    PD_TRY(pd__desk_record(req, uuid, &rec, &desk, err));
    PD_TRY(pd__desk_answer_task(req, &desk, rec.id, 0, NULL, err));
out:
    return rc;
}

/* ------------------------------------------------------------------ history, leases */

static enum pd_rc history(struct pd_req *req, struct pd_err *err)
{
    struct pd_desk desk;
    struct pd_db *db;
    struct pd_response *list = NULL;
    size_t n = 0;
    int64_t limit = 20, before_us = 0, before_id = 0;
    const struct pd_who *who = pd_who(req);
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_dataset(req, "id", PD_NEED_SEE, &desk.d, err));
    PD_TRY(pd_req_query_i64(req, "limit", 1, 200, 20, &limit, err));
    struct pd_str cursor = pd_req_query(req, "before"), us = {0};
    if (cursor.len && (!pd_str_split(&cursor, '.', &us) || !pd_str_to_i64(us, &before_us) ||
                       !pd_str_to_i64(cursor, &before_id))) {
        rc = PD_FAIL(err, PD_INVALID, "before is not a cursor of this list");
        goto out;
    }
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_question_load(db, &req->arena, desk.d.id, &desk.qs, &desk.n_qs, err));
    PD_TRY(pd_response_mine(db, &req->arena, desk.d.id, who->user.id, PD_ANSWER_DELETED, before_us,
                            before_id, (size_t)limit, &list, &n, err));
    struct pd_jw *w = pd_resp_json(req, 200);
    pd_jw_object(w);
    pd_jw_key(w, "items");
    pd_jw_array(w);
    for (size_t i = 0; i < n; i++) {
        char judgment[37];
        PD_TRY(pd_judgment_last(db, list[i].record_id, who->user.id, judgment, err));
        pd_jw_object(w);
        pd_jw_kstrz(w, "record", list[i].record_uuid);
        pd_jw_kuuid(w, "judgment", judgment);
        pd_jw_kstrz(w, "status", pd_answer_status_name(list[i].status));
        pd_jw_ktime(w, "at", list[i].updated_us);
        pd_jw_key(w, "values");
        pd_ui_values_out(w, &req->arena, desk.qs, desk.n_qs, list[i].values);
        pd_jw_object_end(w);
    }
    pd_jw_array_end(w);
    pd_jw_kstrz(w, "next",
                n == (size_t)limit && n
                    ? pd_arena_printf(&req->arena, "%lld.%lld", (long long)list[n - 1].updated_us,
                                      (long long)list[n - 1].id)
                    : NULL);
    pd_jw_object_end(w);
out:
    return rc;
}

/* The records of a body's "leases"; unknown ones are skipped. */
struct leases {
    struct pd_req *req;
    struct json_object *ids;
    bool renew;
    struct pd_jw *held, *lost;
};

static enum pd_rc write_leases(struct pd_db *db, void *arg, struct pd_err *err)
{
    struct leases *l = arg;
    struct pd_arena *a = &l->req->arena;
    int64_t user_id = pd_who(l->req)->user.id;
    for (size_t i = 0; i < json_object_array_length(l->ids); i++) {
        struct pd_str uuid = pd_json_value_str(json_object_array_get_idx(l->ids, i));
        struct pd_record rec;
        bool ok = false;
        struct pd_dataset d;
        enum pd_rc rc = pd_record_by_uuid(db, a, uuid, &rec, err);
        if (rc == PD_OK && l->renew)
            rc = pd_dataset_get(db, a, rec.dataset_id, &d, err);
        if (rc == PD_OK && l->renew)
            rc = pd_policy_see(db, pd_who(l->req), &d, err);
        if (rc == PD_OK && l->renew)
            rc = pd_lease_record(db, rec.id, user_id, &ok, err);
        else if (rc == PD_OK)
            rc = pd_lease_return(db, rec.dataset_id, user_id, rec.id, err);
        if (rc != PD_OK && rc != PD_NOTFOUND)
            return rc;
        if (l->renew && ok) {
            pd_jw_object(l->held);
            pd_jw_kstr(l->held, "id", uuid);
            pd_jw_ktime(l->held, "expires_at", pd_time_us() + PD_LEASE_TTL_US);
            pd_jw_object_end(l->held);
        } else if (l->renew) {
            pd_jw_str(l->lost, uuid);
        }
    }
    return PD_OK;
}

static enum pd_rc leases_in(struct pd_req *req, struct leases *l, struct pd_err *err)
{
    struct json_object *body;
    enum pd_rc rc = pd_req_json(req, &body, err);
    if (rc != PD_OK)
        return rc;
    l->req = req;
    l->ids = pd_json_get(body, "leases");
    if (!json_object_is_type(l->ids, json_type_array) ||
        json_object_array_length(l->ids) > MAX_HAVE)
        return PD_FAIL(err, PD_INVALID, "leases must be a list of at most %d ids", MAX_HAVE);
    return PD_OK;
}

static enum pd_rc renew(struct pd_req *req, struct pd_err *err)
{
    struct leases l = {.renew = true};
    struct pd_buf lost;
    struct pd_jw lost_w;
    enum pd_rc rc = PD_OK;
    pd_buf_init(&lost, 0);
    PD_TRY(leases_in(req, &l, err));
    pd_api_read_end(req);
    l.held = pd_resp_json(req, 200);
    l.lost = &lost_w;
    pd_jw_init(&lost_w, &lost);
    pd_jw_array(&lost_w);
    pd_jw_object(l.held);
    pd_jw_key(l.held, "leases");
    pd_jw_array(l.held);
    PD_TRY(pd_store_write(pd_api_of(req)->store, PD_TX_RELAXED, write_leases, &l, err));
    pd_jw_array_end(l.held);
    pd_jw_array_end(&lost_w);
    pd_jw_key(l.held, "lost");
    pd_jw_raw(l.held, pd_buf_str(&lost));
    pd_jw_object_end(l.held);
out:
    pd_buf_release(&lost);
    return rc;
}

static enum pd_rc release(struct pd_req *req, struct pd_err *err)
{
    struct leases l = {0};
    enum pd_rc rc = PD_OK;
    PD_TRY(leases_in(req, &l, err));
    pd_api_read_end(req);
    PD_TRY(pd_store_write(pd_api_of(req)->store, PD_TX_RELAXED, write_leases, &l, err));
    pd_resp_empty(req, 204);
out:
    return rc;
}

static const struct pd_route rows[] = {
    {PD_POST, "/ui/datasets/{id}/tasks", next_tasks, PD_MAY_USER, PD_DOOR_UI, PD_BODY_SMALL, 0,
     "lease the next tasks"},
    {PD_GET, "/ui/records/{id}/task", one_task, PD_MAY_USER, PD_DOOR_UI, 0, 0,
     "one record as a task"},
    {PD_GET, "/ui/datasets/{id}/mine", history, PD_MAY_USER, PD_DOOR_UI, 0, 0, "my answers"},
    {PD_POST, "/ui/leases/renew", renew, PD_MAY_USER, PD_DOOR_UI, PD_BODY_SMALL, 0, "still here"},
    {PD_POST, "/ui/leases/release", release, PD_MAY_USER, PD_DOOR_UI, PD_BODY_SMALL, 0, "leaving"},
};
PD_ROUTE_TABLE(pd_routes_label, rows);
