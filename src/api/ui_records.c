/* GET /ui/datasets/ID/records: the rows behind a lead's numbers. */
#include "api/overview.h"
#include "api/ui_json.h"

#include "store/lookup.h"

enum filter { F_ALL, F_WAITING, F_IN_HAND, F_DONE, F_CONFLICTS, F_FLAGGED, F_SKIPPED };
static const char *const filter_names[] = {"all",       "waiting", "in_hand", "done",
                                           "conflicts", "flagged", "skipped"};

static bool said_so(const struct pd_response *r, size_t n, const struct pd_record *rec,
                    enum filter f, struct pd_str user)
{
    for (size_t i = 0; i < n; i++) {
        if (r[i].record_id != rec->id || (user.len && !pd_str_eqz(user, r[i].user_uuid)))
            continue;
        if (f == F_FLAGGED && r[i].notes && strstr(r[i].notes, "\"flag\":{"))
            return true;
        if (f == F_SKIPPED && r[i].status == PD_ANSWER_DISCARDED)
            return true;
        if (f != F_FLAGGED && f != F_SKIPPED)
            return true;
    }
    return false;
}

static enum pd_rc wanted(struct pd_req *req, struct pd_db *db, const struct pd_record *rec,
                         const struct pd_response *r, size_t n, enum filter f, struct pd_str user,
                         bool *yes, struct pd_err *err)
{
    bool held = false;
    enum pd_rc rc = PD_OK;
    *yes = !user.len || said_so(r, n, rec, f, user);
    if (f == F_DONE)
        *yes &= rec->completed;
    if (f == F_WAITING || f == F_IN_HAND) {
        rc = pd_record_in_hand(db, rec->id, &held, err);
        *yes &= !rec->completed && held == (f == F_IN_HAND);
    }
    if (f == F_CONFLICTS)
        *yes &= pd_overview_is_conflict(pd_api_of(req), rec->dataset_id, rec->uuid);
    if (f == F_FLAGGED || f == F_SKIPPED)
        *yes &= said_so(r, n, rec, f, user);
    return rc;
}

static const char *uuid_of(const struct pd_response *r, size_t n, int64_t user_id)
{
    for (size_t i = 0; i < n; i++)
        if (r[i].user_id == user_id)
            return r[i].user_uuid;
    return NULL;
}

static enum pd_rc write_record(struct pd_jw *w, struct pd_req *req, struct pd_db *db,
                               const struct pd_record *rec, const struct pd_response *r, size_t n,
                               const struct pd_question *qs, size_t n_qs, struct pd_err *err)
{
    struct pd_judgment *j = NULL;
    size_t n_j = 0;
    int64_t discarded = 0;
    enum pd_rc rc =
        pd_judgment_page(db, &req->arena, rec->dataset_id, rec->id, 0, 200, &j, &n_j, err);
    if (rc != PD_OK)
        return rc;
    for (size_t i = 0; i < n; i++)
        discarded += r[i].record_id == rec->id && r[i].status == PD_ANSWER_DISCARDED;
    pd_jw_object(w);
    pd_jw_kstrz(w, "id", rec->uuid);
    pd_jw_kraw(w, "fields", rec->fields);
    pd_jw_ki64(w, "submitted", rec->submitted + rec->surplus);
    pd_jw_ki64(w, "discarded", discarded);
    pd_jw_kbool(w, "done", rec->completed);
    pd_jw_key(w, "judgments");
    pd_jw_array(w);
    for (size_t i = 0; i < n_j; i++) {
        struct json_object *notes = pd_ui_parse(&req->arena, j[i].notes);
        pd_jw_object(w);
        pd_jw_kstrz(w, "id", j[i].uuid);
        pd_jw_key(w, "user");
        pd_jw_object(w);
        pd_jw_kstrz(w, "id", uuid_of(r, n, j[i].user_id));
        pd_jw_kstrz(w, "username", j[i].username);
        pd_jw_object_end(w);
        pd_jw_kstrz(w, "status", pd_answer_status_name(j[i].status));
        pd_jw_key(w, "values");
        pd_ui_values_out(w, &req->arena, qs, n_qs, j[i].values);
        pd_jw_kraw(w, "shown", j[i].shown);
        pd_jw_key(w, "why");
        pd_jw_tree(w, pd_json_get(notes, "why"));
        pd_jw_key(w, "reason");
        pd_jw_tree(w, pd_json_get(notes, "reason"));
        pd_jw_key(w, "flag");
        pd_jw_tree(w, pd_json_get(notes, "flag"));
        pd_jw_kf64(w, "seconds", (double)j[i].active_ms / 1000);
        pd_jw_ktime(w, "at", j[i].at_us);
        pd_jw_object_end(w);
    }
    pd_jw_array_end(w);
    pd_jw_object_end(w);
    return PD_OK;
}

static enum pd_rc records(struct pd_req *req, struct pd_err *err)
{
    enum { PAGE = 200, MAX_SCAN = 20000 };
    struct pd_dataset d;
    struct pd_db *db;
    struct pd_question *qs = NULL;
    size_t n_qs = 0, n = 0, given = 0, scanned = 0;
    int64_t limit = 50, after = 0;
    int f = F_ALL;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_dataset(req, "id", PD_NEED_LEAD, &d, err));
    PD_TRY(pd_req_query_i64(req, "limit", 1, 200, 50, &limit, err));
    PD_TRY(pd_req_query_i64(req, "after", 0, INT64_MAX, 0, &after, err));
    struct pd_str filter = pd_req_query(req, "filter"), user = pd_req_query(req, "user");
    for (f = F_ALL; filter.len && f <= F_SKIPPED && !pd_str_eqz(filter, filter_names[f]);)
        f++;
    if (f > F_SKIPPED) {
        rc = PD_FAIL(err, PD_INVALID,
                     "filter must be all, waiting, in_hand, done, conflicts, flagged or skipped");
        goto out;
    }
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_question_load(db, &req->arena, d.id, &qs, &n_qs, err));
    struct pd_jw *w = pd_resp_json(req, 200);
    pd_jw_object(w);
    pd_jw_key(w, "records");
    pd_jw_array(w);
    bool more = true;
    while (more && given < (size_t)limit && scanned < MAX_SCAN) {
        struct pd_record *page = NULL;
        struct pd_response *r = NULL;
        size_t n_r = 0;
        PD_TRY(pd_record_page(db, &req->arena, d.id, after, PAGE, &page, &n, err));
        more = n == PAGE;
        if (n == 0)
            break;
        PD_TRY(
            pd_response_list(db, &req->arena, d.id, page[0].id, page[n - 1].id, 0, &r, &n_r, err));
        for (size_t i = 0; i < n && given < (size_t)limit; i++) {
            bool yes = false;
            PD_TRY(wanted(req, db, &page[i], r, n_r, (enum filter)f, user, &yes, err));
            if (yes) {
                PD_TRY(write_record(w, req, db, &page[i], r, n_r, qs, n_qs, err));
                given++;
            }
            after = page[i].id;
            more |= i + 1 < n;
        }
        scanned += n;
    }
    pd_jw_array_end(w);
    pd_jw_kstrz(w, "next", more ? pd_arena_printf(&req->arena, "%lld", (long long)after) : NULL);
    pd_jw_object_end(w);
out:
    return rc;
}

static const struct pd_route rows[] = {
    {PD_GET, "/ui/datasets/{id}/records", records, PD_MAY_LEAD, PD_DOOR_UI, 0, 0,
     "the records behind the numbers"},
};
PD_ROUTE_TABLE(pd_routes_records, rows);
