/* /ui/: judgments, drafts, undo. */
#include "api/ui_label_int.h"

#include "base/time.h"
#include "store/lookup.h"

enum { MAX_WHY = 4000 };

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
static enum pd_rc values_in(struct pd_req *req, const struct pd_desk *desk,
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
    struct pd_desk desk;
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
    PD_TRY(pd__desk_record(req, record_uuid, &rec, &desk, err));
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
    struct pd_desk desk;
    struct save s = {.arena = &req->arena, .draft = true};
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_json(req, &body, err));
    PD_TRY(pd_api_uuid(req, "id", &uuid, err));
    PD_TRY(pd__desk_record(req, uuid, &rec, &desk, err));
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
    struct pd_desk desk;
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
    PD_TRY(pd__desk_open(req, db, rec.dataset_id, &desk, err));
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
    PD_TRY(pd__desk_answer_task(req, &desk, j.record_id,
                                u.leased ? pd_time_us() + PD_LEASE_TTL_US : 0, "task", err));
out:
    return rc;
}

static const struct pd_route rows[] = {
    {PD_POST, "/ui/judgments", submit, PD_MAY_USER, PD_DOOR_UI, PD_BODY_JSON, 0, "submit or skip"},
    {PD_POST, "/ui/judgments/{id}/undo", undo, PD_MAY_USER, PD_DOOR_UI, PD_BODY_SMALL, 0,
     "back to draft"},
    {PD_PUT, "/ui/records/{id}/draft", save_draft, PD_MAY_USER, PD_DOOR_UI, PD_BODY_JSON, 0,
     "autosave"},
};
PD_ROUTE_TABLE(pd_routes_answer, rows);
