/* /ui/: the labeling loop. A lease is named by its record's uuid: a labeler has at most one on a
 * record. */
#include "api/ui_json.h"

#include "base/time.h"
#include "store/lookup.h"

#include <stdio.h>

enum { MAX_TASKS = 20, MAX_HAVE = 50, MAX_WHY = 4000 };

/* What drawing tasks of one dataset needs. */
struct desk {
    struct pd_dataset d;
    struct pd_question *qs;
    size_t n_qs;
};

static enum pd_rc open_desk(struct pd_req *req, struct pd_db *db, int64_t dataset_id,
                            struct desk *out, struct pd_err *err)
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
                                    const struct desk *desk, int64_t record_id, struct pd_err *err)
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
                             const struct desk *desk, const struct pd_task *t, struct pd_err *err)
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

static enum pd_rc write_empty(struct pd_jw *w, struct pd_db *db, const struct desk *desk,
                              int64_t reserved, int64_t retry_us, struct pd_err *err)
{
    struct pd_counts c = {0};
    enum pd_rc rc = pd_dataset_counts(db, desk->d.id, &c, err);
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
    struct desk desk;
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
static enum pd_rc find_record(struct pd_req *req, struct pd_str uuid, struct pd_record *rec,
                              struct desk *desk, struct pd_err *err)
{
    struct pd_db *db;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_record_by_uuid(db, &req->arena, uuid, rec, err));
    PD_TRY(open_desk(req, db, rec->dataset_id, desk, err));
out:
    return rc;
}

static enum pd_rc answer_task(struct pd_req *req, const struct desk *desk, int64_t record_id,
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
    struct desk desk;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_uuid(req, "id", &uuid, err));
    PD_TRY(find_record(req, uuid, &rec, &desk, err));
    PD_TRY(answer_task(req, &desk, rec.id, 0, NULL, err));
out:
    return rc;
}

/* ------------------------------------------------------------------ judgments and drafts */

/* {"why","reason","flag"} as JSON text, checked; ptr NULL when there is nothing. */
static enum pd_rc notes_in(struct pd_arena *a, struct json_object *body, struct pd_str *out,
                           struct pd_err *err)
{
    static const char *const reasons[] = {"unclear", "expertise", "language", "disturbing",
                                          "other"};
    static const char *const kinds[] = {"harmful", "wrong_prompt", "duplicate", "personal_data",
                                        "other"};
    struct pd_str why = pd_json_str(body, "why"), reason = pd_json_str(body, "reason");
    struct json_object *flag = pd_json_get(body, "flag");
    *out = (struct pd_str){NULL, 0};
    if (!why.len && !reason.len && !flag)
        return PD_OK;
    if (why.len > MAX_WHY * 4)
        return PD_FAIL(err, PD_INVALID, "why: at most %d characters", MAX_WHY);
    bool known = !reason.len;
    for (size_t i = 0; i < 5 && !known; i++)
        known = pd_str_eqz(reason, reasons[i]);
    if (!known)
        return PD_FAIL(err, PD_INVALID,
                       "reason: %.*s is not one of unclear, expertise, language, "
                       "disturbing, other",
                       (int)(reason.len < 40 ? reason.len : 40), reason.ptr);
    struct pd_str kind = pd_json_str(flag, "kind"), text = pd_json_str(flag, "text");
    known = !flag;
    for (size_t i = 0; i < 5 && !known; i++)
        known = pd_str_eqz(kind, kinds[i]);
    if (!known || text.len > MAX_WHY * 4)
        return PD_FAIL(err, PD_INVALID,
                       "flag: kind must be harmful, wrong_prompt, duplicate, "
                       "personal_data or other");
    struct pd_buf b;
    struct pd_jw w;
    pd_buf_init(&b, 0);
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    if (why.len)
        pd_jw_kstr(&w, "why", why);
    if (reason.len)
        pd_jw_kstr(&w, "reason", reason);
    if (flag) {
        pd_jw_key(&w, "flag");
        pd_jw_object(&w);
        pd_jw_kstr(&w, "kind", kind);
        if (text.len)
            pd_jw_kstr(&w, "text", text);
        pd_jw_object_end(&w);
    }
    pd_jw_object_end(&w);
    *out = (struct pd_str){pd_arena_strndup(a, b.ptr, b.len), b.len};
    pd_buf_release(&b);
    return PD_OK;
}

/* Order seen: a list of strings. Stored as it is. */
static enum pd_rc shown_in(struct pd_arena *a, struct json_object *body, struct pd_str *out,
                           struct pd_err *err)
{
    struct json_object *shown = pd_json_get(body, "shown");
    *out = (struct pd_str){NULL, 0};
    if (!shown)
        return PD_OK;
    bool ok = json_object_is_type(shown, json_type_array) && json_object_array_length(shown) <= 26;
    for (size_t i = 0; ok && i < json_object_array_length(shown); i++)
        ok = json_object_is_type(json_object_array_get_idx(shown, i), json_type_string);
    if (!ok)
        return PD_FAIL(err, PD_INVALID, "shown must be the list of answer names in the order seen");
    *out = pd_str_from(
        pd_arena_strdup(a, json_object_to_json_string_ext(shown, JSON_C_TO_STRING_PLAIN)));
    return PD_OK;
}

static int64_t seconds_in(struct json_object *body)
{
    double s = pd_json_f64(body, "seconds", 0);
    return s > 0 && s < 86400 ? (int64_t)(s * 1000 + 0.5) : 0;
}

/* Stored form of the body's values, checked against the questions. */
static enum pd_rc values_in(struct pd_req *req, const struct desk *desk,
                            const struct pd_record *rec, enum pd_answer_status status,
                            struct json_object *body, struct pd_str *out, struct pd_err *err)
{
    struct json_object *values = NULL;
    struct pd_buf b;
    enum pd_rc rc = PD_OK;
    pd_buf_init(&b, 0);
    PD_TRY(pd_ui_values_in(&req->arena, desk->qs, desk->n_qs, pd_json_get(body, "values"), &values,
                           err));
    PD_TRY(pd_answer_check(desk->qs, desk->n_qs, status, values,
                           pd_ui_parse(&req->arena, rec->fields), &b, err));
    *out = (struct pd_str){pd_arena_strndup(&req->arena, pd_buf_cstr(&b), b.len), b.len};
out:
    pd_buf_release(&b);
    return rc;
}

/* Inside the transaction: the client sends the whole active time of a task, the store adds up
 * sittings; and a draft never goes over an answer. */
struct save {
    struct pd_response_put put;
    struct pd_response_result result;
    bool draft, over_answer;
    struct pd_arena *arena;
};

static enum pd_rc write_answer(struct pd_db *db, void *arg, struct pd_err *err)
{
    struct save *s = arg;
    struct pd_response before = {0};
    bool found = false;
    enum pd_rc rc =
        pd_response_of(db, s->arena, s->put.record_id, s->put.user_id, &before, &found, err);
    if (rc != PD_OK)
        return rc;
    if (found && s->draft && before.status != PD_ANSWER_DRAFT) {
        s->over_answer = true;
        return PD_FAIL(err, PD_CONFLICT,
                       "this record was answered already; undo the answer to change it");
    }
    if (found)
        s->put.active_ms =
            s->put.active_ms > before.active_ms ? s->put.active_ms - before.active_ms : 0;
    return pd_answer_put(db, &s->put, &s->result, err);
}

/* Is the stored judgment of this uuid the one that is sent again? */
static enum pd_rc check_replay(struct pd_req *req, const struct save *s, struct pd_err *err)
{
    struct pd_judgment j;
    struct pd_db *db;
    bool found = false, latest = false;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_judgment_by_uuid(db, &req->arena, s->put.judgment_uuid, &j, &found, &latest, err));
    bool same = found && j.record_id == s->put.record_id && j.user_id == s->put.user_id &&
                j.status == s->put.status && pd_str_eqz(s->put.values, j.values);
    if (!same)
        rc = PD_FAIL(err, PD_CONFLICT, "another judgment has this id already");
out:
    return rc;
}

static enum pd_rc submit(struct pd_req *req, struct pd_err *err)
{
    struct json_object *body;
    struct pd_str record_uuid, status_text;
    struct pd_record rec;
    struct desk desk;
    struct pd_db *db;
    struct save s = {.arena = &req->arena};
    const struct pd_who *who = pd_who(req);
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_json(req, &body, err));
    PD_TRY(pd_api_client_id(body, &s.put.judgment_uuid, err));
    PD_TRY(pd_json_need_str(body, "record", &record_uuid, err));
    PD_TRY(pd_json_need_str(body, "status", &status_text, err));
    if (!pd_answer_status_parse(status_text, &s.put.status) || s.put.status == PD_ANSWER_DRAFT) {
        rc = PD_FAIL(err, PD_INVALID, "status must be submitted or discarded");
        goto out;
    }
    PD_TRY(find_record(req, record_uuid, &rec, &desk, err));
    PD_TRY(values_in(req, &desk, &rec, s.put.status, body, &s.put.values, err));
    PD_TRY(notes_in(&req->arena, body, &s.put.notes, err));
    PD_TRY(shown_in(&req->arena, body, &s.put.shown, err));
    s.put.record_id = rec.id;
    s.put.user_id = who->user.id;
    s.put.active_ms = seconds_in(body);
    s.put.guideline_version = pd_json_i64(body, "guideline", -1);
    s.put.source = PD_STR("ui");
    pd_api_read_end(req);
    PD_TRY(pd_store_write(pd_api_of(req)->store, PD_TX_DURABLE, write_answer, &s, err));
    if (s.result.replayed)
        PD_TRY(check_replay(req, &s, err));
    PD_TRY(pd_api_read(req, &db, err));
    struct pd_jw *w = pd_resp_json(req, s.result.replayed ? 200 : 201);
    pd_jw_object(w);
    pd_jw_kstr(w, "id", s.put.judgment_uuid);
    pd_jw_kstrz(w, "record", rec.uuid);
    pd_jw_kstrz(w, "status", pd_answer_status_name(s.put.status));
    pd_jw_kbool(w, "surplus", s.result.surplus);
    pd_jw_key(w, "mine");
    PD_TRY(
        pd_ui_mine(w, db, &req->arena, desk.d.id, who->user.id, pd_json_i64(body, "tz", 0), err));
    pd_jw_object_end(w);
out:
    return rc;
}

static enum pd_rc save_draft(struct pd_req *req, struct pd_err *err)
{
    struct json_object *body;
    struct pd_str uuid;
    struct pd_record rec;
    struct desk desk;
    struct save s = {.arena = &req->arena, .draft = true};
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_json(req, &body, err));
    PD_TRY(pd_api_uuid(req, "id", &uuid, err));
    PD_TRY(find_record(req, uuid, &rec, &desk, err));
    PD_TRY(values_in(req, &desk, &rec, PD_ANSWER_DRAFT, body, &s.put.values, err));
    PD_TRY(notes_in(&req->arena, body, &s.put.notes, err));
    s.put.record_id = rec.id;
    s.put.user_id = pd_who(req)->user.id;
    s.put.status = PD_ANSWER_DRAFT;
    s.put.active_ms = seconds_in(body);
    s.put.guideline_version = -1;
    s.put.source = PD_STR("ui");
    pd_api_read_end(req);
    PD_TRY(pd_store_write(pd_api_of(req)->store, PD_TX_DURABLE, write_answer, &s, err));
    pd_resp_empty(req, 204);
out:
    return rc;
}

/* ------------------------------------------------------------------ undo */

struct undo {
    struct pd_response_put put;
    struct pd_response_result result;
    bool leased;
};

static enum pd_rc write_undo(struct pd_db *db, void *arg, struct pd_err *err)
{
    struct undo *u = arg;
    enum pd_rc rc = pd_answer_put(db, &u->put, &u->result, err);
    if (rc == PD_OK)
        rc = pd_lease_record(db, u->put.record_id, u->put.user_id, &u->leased, err);
    return rc;
}

static enum pd_rc undo(struct pd_req *req, struct pd_err *err)
{
    struct json_object *body;
    struct pd_db *db;
    struct pd_str uuid;
    struct pd_judgment j = {0};
    struct desk desk;
    struct undo u = {0};
    bool found = false, latest = false;
    const struct pd_who *who = pd_who(req);
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_json(req, &body, err));
    PD_TRY(pd_api_client_id(body, &u.put.judgment_uuid, err));
    PD_TRY(pd_api_uuid(req, "id", &uuid, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_judgment_by_uuid(db, &req->arena, uuid, &j, &found, &latest, err));
    if (!found || j.user_id != who->user.id) {
        rc = PD_FAIL(err, PD_NOTFOUND, "that judgment never arrived");
        goto out;
    }
    if (!latest) {
        struct pd_judgment mine;
        bool again = false, last = false;
        PD_TRY(
            pd_judgment_by_uuid(db, &req->arena, u.put.judgment_uuid, &mine, &again, &last, err));
        if (!again || mine.record_id != j.record_id || mine.user_id != j.user_id) {
            rc = PD_FAIL(err, PD_CONFLICT, "a later judgment replaced this one");
            goto out;
        }
    }
    struct pd_record rec;
    PD_TRY(pd_record_get(db, &req->arena, j.record_id, &rec, err));
    PD_TRY(open_desk(req, db, rec.dataset_id, &desk, err));
    u.put.record_id = j.record_id;
    u.put.user_id = j.user_id;
    u.put.status = PD_ANSWER_DRAFT;
    u.put.values = pd_str_from(j.values);
    u.put.notes = pd_str_from(j.notes);
    u.put.shown = pd_str_from(j.shown);
    u.put.source = PD_STR("ui");
    u.put.guideline_version = -1;
    pd_api_read_end(req);
    PD_TRY(pd_store_write(pd_api_of(req)->store, PD_TX_DURABLE, write_undo, &u, err));
    PD_TRY(answer_task(req, &desk, j.record_id, u.leased ? pd_time_us() + PD_LEASE_TTL_US : 0,
                       "task", err));
out:
    return rc;
}

/* ------------------------------------------------------------------ history, leases */

static enum pd_rc history(struct pd_req *req, struct pd_err *err)
{
    struct desk desk;
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
    {PD_POST, "/ui/judgments", submit, PD_MAY_USER, PD_DOOR_UI, PD_BODY_JSON, 0, "submit or skip"},
    {PD_POST, "/ui/judgments/{id}/undo", undo, PD_MAY_USER, PD_DOOR_UI, PD_BODY_SMALL, 0,
     "back to draft"},
    {PD_PUT, "/ui/records/{id}/draft", save_draft, PD_MAY_USER, PD_DOOR_UI, PD_BODY_JSON, 0,
     "autosave"},
    {PD_GET, "/ui/datasets/{id}/mine", history, PD_MAY_USER, PD_DOOR_UI, 0, 0, "my answers"},
    {PD_POST, "/ui/leases/renew", renew, PD_MAY_USER, PD_DOOR_UI, PD_BODY_SMALL, 0, "still here"},
    {PD_POST, "/ui/leases/release", release, PD_MAY_USER, PD_DOOR_UI, PD_BODY_SMALL, 0, "leaving"},
};
PD_ROUTE_TABLE(pd_routes_label, rows);
