/* Writing an answer. Everything that hangs on it (record, dataset and labeler counters, completion,
 * the lease, queue cursors) is settled here, in one transaction, as differences. Reading is in
 * response_read.c. */
#include "store/response.h"
#include "base/crypt.h"
#include "base/time.h"
#include "store/db_int.h"
#include "store/lease.h"

static const char *const status_names[] = {"draft", "submitted", "discarded", "deleted"};

const char *pd_answer_status_name(enum pd_answer_status s)
{
    return status_names[s];
}

bool pd_answer_status_parse(struct pd_str s, enum pd_answer_status *out)
{
    for (int i = 0; i < 3; i++)
        if (pd_str_eqz(s, status_names[i])) {
            *out = (enum pd_answer_status)i;
            return true;
        }
    return false;
}

/* What a write needs to know about the record and the user's present answer. */
struct scene {
    int64_t record_id, dataset_id, user_id, n, cap, guideline_version;
    int64_t submitted, surplus; /* of the record */
    bool completed;
    int64_t response_id;       /* 0: none yet */
    enum pd_answer_status old; /* DELETED: none yet */
    bool old_surplus;
    int64_t old_active_ms, old_at;
    bool old_flagged;
};

static enum pd_rc load_scene(struct pd_db *db, struct scene *s, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    bool found = false;
    enum pd_rc rc = pd_db_query(
        db, &rows, err,
        "SELECT r.dataset_id, r.submitted, r.surplus, r.completed, d.min_submitted, "
        "d.guideline_version, p.id, p.status, p.surplus, p.active_ms, p.updated_at, p.flagged FROM "
        "record r "
        "JOIN dataset d ON d.id = r.dataset_id LEFT JOIN response p ON p.record_id = r.id AND "
        "p.account_id = ?2 AND p.n = ?3 WHERE r.id = ?1",
        "iii", s->record_id, s->user_id, s->n);
    if (rc != PD_OK)
        return rc;
    rc = pd_rows_next(rows, &found, err);
    if (rc == PD_OK && found) {
        s->dataset_id = pd_row_i64(rows, 0);
        s->submitted = pd_row_i64(rows, 1);
        s->surplus = pd_row_i64(rows, 2);
        s->completed = pd_row_i64(rows, 3) != 0;
        s->cap = pd_row_i64(rows, 4);
        s->guideline_version = pd_row_i64(rows, 5);
        s->response_id = pd_row_i64(rows, 6);
        s->old = PD_ANSWER_DELETED;
        if (s->response_id)
            (void)pd_answer_status_parse(pd_row_str(rows, 7), &s->old);
        s->old_surplus = pd_row_i64(rows, 8) != 0;
        s->old_active_ms = pd_row_i64(rows, 9);
        s->old_at = pd_row_i64(rows, 10);
        s->old_flagged = pd_row_i64(rows, 11) != 0;
    }
    pd_rows_close(rows);
    return rc == PD_OK && !found ? PD_FAIL(err, PD_NOTFOUND, "no such record") : rc;
}

/* Does a first submission by this user count, or is it beyond the cap? */
static enum pd_rc is_surplus(struct pd_db *db, const struct scene *s, bool *surplus,
                             struct pd_err *err)
{
    int64_t mine = 0, others = 0, now = pd_lease_now();
    *surplus = false;
    if (s->cap == 0)
        return PD_OK;
    if (s->submitted >= s->cap) {
        *surplus = true;
        return PD_OK;
    }
    enum pd_rc rc = pd_db_i64(
        db, &mine, NULL, err,
        "SELECT count(*) FROM lease WHERE record_id = ?1 AND account_id = ?2 AND expires_at > ?3",
        "iii", s->record_id, s->user_id, now);
    if (rc != PD_OK || mine)
        return rc;
    rc = pd_db_i64(
        db, &others, NULL, err,
        "SELECT count(*) FROM lease WHERE record_id = ?1 AND account_id <> ?2 AND expires_at > ?3",
        "iii", s->record_id, s->user_id, now);
    *surplus = s->submitted + others >= s->cap;
    return rc;
}

/* Adds to a labeler's counters; last_at moves only forward. */
static enum pd_rc count_labeler(struct pd_db *db, const struct scene *s, enum pd_answer_status st,
                                int64_t by, int64_t done_by, int64_t active_ms, int64_t at,
                                struct pd_err *err)
{
    int64_t sub = st == PD_ANSWER_SUBMITTED, dis = st == PD_ANSWER_DISCARDED,
            dra = st == PD_ANSWER_DRAFT;
    return pd_db_run(
        db, NULL, err,
        "INSERT INTO labeler_count(dataset_id, account_id, submitted, discarded, draft, "
        "done_submitted, done_discarded, done_draft, active_ms, last_at) "
        "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT(dataset_id, account_id) DO "
        "UPDATE SET submitted = labeler_count.submitted + ?3, "
        "discarded = labeler_count.discarded + ?4, draft = labeler_count.draft + ?5, "
        "done_submitted = labeler_count.done_submitted + ?6, "
        "done_discarded = labeler_count.done_discarded + ?7, "
        "done_draft = labeler_count.done_draft + ?8, "
        "active_ms = labeler_count.active_ms + ?9, "
        "last_at = CASE WHEN labeler_count.last_at < ?10 THEN ?10 ELSE labeler_count.last_at END",
        "iiiiiiiiii", s->dataset_id, s->user_id, by * sub, by * dis, by * dra, done_by * sub,
        done_by * dis, done_by * dra, active_ms, at);
}

/* An answer of status st given at `at` enters (by = 1) or leaves (-1) its quarter of an hour, in
 * the account's row and in everyone's. Drafts are in none. */
static enum pd_rc count_quarter(struct pd_db *db, const struct scene *s, enum pd_answer_status st,
                                int64_t by, int64_t at, struct pd_err *err)
{
    if (st != PD_ANSWER_SUBMITTED && st != PD_ANSWER_DISCARDED)
        return PD_OK;
    return pd_db_run(db, NULL, err,
                     "INSERT INTO answer_count(dataset_id, account_id, quarter, submitted, "
                     "discarded) VALUES(?1, ?2, ?3, ?4, ?5), (?1, 0, ?3, ?4, ?5) "
                     "ON CONFLICT(dataset_id, account_id, quarter) DO UPDATE SET "
                     "submitted = answer_count.submitted + excluded.submitted, "
                     "discarded = answer_count.discarded + excluded.discarded",
                     "iiiii", s->dataset_id, s->user_id, at / PD_QUARTER_US,
                     by * (st == PD_ANSWER_SUBMITTED), by * (st == PD_ANSWER_DISCARDED));
}

/* The record became complete (by = 1) or open again (-1): everyone's answers on it move over. */
static enum pd_rc shift_done(struct pd_db *db, int64_t record_id, int64_t dataset_id, int64_t by,
                             struct pd_err *err)
{
    return pd_db_run(
        db, NULL, err,
        "UPDATE labeler_count SET "
        "done_submitted = done_submitted + ?3 * (SELECT count(*) FROM response p WHERE "
        "p.record_id = ?2 AND p.account_id = labeler_count.account_id AND p.status = 'submitted'), "
        "done_discarded = done_discarded + ?3 * (SELECT count(*) FROM response p WHERE "
        "p.record_id = ?2 AND p.account_id = labeler_count.account_id AND p.status = 'discarded'), "
        "done_draft = done_draft + ?3 * (SELECT count(*) FROM response p WHERE "
        "p.record_id = ?2 AND p.account_id = labeler_count.account_id AND p.status = 'draft') "
        "WHERE dataset_id = ?1 AND account_id IN (SELECT account_id FROM response WHERE "
        "record_id = ?2)",
        "iii", dataset_id, record_id, by);
}

/* A counting answer went away: the oldest surplus one takes its place. */
static enum pd_rc promote(struct pd_db *db, struct scene *s, int64_t *surplus_delta,
                          struct pd_err *err)
{
    int64_t id = 0;
    bool found = false;
    if (s->surplus == 0 || s->cap == 0 || s->submitted >= s->cap)
        return PD_OK;
    enum pd_rc rc = pd_db_i64(
        db, &id, &found, err,
        "UPDATE response SET surplus = 0 WHERE id = (SELECT id FROM response WHERE record_id = ?1 "
        "AND surplus = 1 AND status = 'submitted' ORDER BY updated_at, id LIMIT 1) RETURNING id",
        "i", s->record_id);
    if (rc == PD_OK && found) {
        s->surplus--;
        s->submitted++;
        --*surplus_delta;
    }
    return rc;
}

/* Writes the record's new numbers; completion follows from them. */
static enum pd_rc settle_record(struct pd_db *db, struct scene *s, int64_t now,
                                int64_t *completed_delta, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    bool completed = s->submitted >= (s->cap ? s->cap : 1);
    *completed_delta = (int64_t)completed - (int64_t)s->completed;
    PD_TRY(pd_db_run(db, NULL, err,
                     "UPDATE record SET submitted = ?2, surplus = ?3, completed = ?4, updated_at = "
                     "?5 WHERE id = ?1",
                     "iiiii", s->record_id, s->submitted, s->surplus, (int64_t)completed, now));
    if (*completed_delta)
        PD_TRY(shift_done(db, s->record_id, s->dataset_id, *completed_delta, err));
    if (*completed_delta < 0)
        PD_TRY(pd_db_run(db, NULL, err,
                         "UPDATE queue_cursor SET after_id = ?2 - 1 WHERE dataset_id = ?1 AND "
                         "after_id >= ?2",
                         "ii", s->dataset_id, s->record_id));
    s->completed = completed;
out:
    return rc;
}

struct totals {
    int64_t by[3]; /* draft, submitted, discarded */
    int64_t surplus, completed, active_ms, flagged;
};

static enum pd_rc settle_dataset(struct pd_db *db, int64_t dataset_id, const struct totals *t,
                                 int64_t now, struct pd_err *err)
{
    return pd_db_run(
        db, NULL, err,
        "UPDATE dataset SET n_draft = n_draft + ?2, n_submitted = n_submitted + ?3, "
        "n_discarded = n_discarded + ?4, n_surplus = n_surplus + ?5, "
        "n_completed = n_completed + ?6, active_ms = active_ms + ?7, last_activity_at = ?8, "
        "n_flagged = n_flagged + ?9 "
        "WHERE id = ?1",
        "iiiiiiiii", dataset_id, t->by[0], t->by[1], t->by[2], t->surplus, t->completed,
        t->active_ms, now, t->flagged);
}

static enum pd_rc append_judgment(struct pd_db *db, const struct scene *s,
                                  const struct pd_response_put *in, struct pd_str uuid,
                                  bool surplus, int64_t version, int64_t at, struct pd_err *err)
{
    return pd_db_run(db, NULL, err,
                     "INSERT INTO judgment(uuid, dataset_id, record_id, account_id, n, status, "
                     "vals, shown, surplus, active_ms, guideline_version, source, at, notes) "
                     "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
                     "siiiizssiiisis", uuid, s->dataset_id, s->record_id, s->user_id, s->n,
                     status_names[in->status], in->values, in->shown, (int64_t)surplus,
                     s->old_active_ms + in->active_ms, version,
                     in->source.len ? in->source : PD_STR("api"), at, in->notes);
}

/* The same judgment again: tell how things stand and change nothing. */
static enum pd_rc replay(struct pd_db *db, const struct pd_response_put *in, bool *known,
                         struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    *known = false;
    if (!in->judgment_uuid.len)
        return PD_OK;
    enum pd_rc rc =
        pd_db_query(db, &rows, err, "SELECT record_id, account_id FROM judgment WHERE uuid = ?1",
                    "s", in->judgment_uuid);
    if (rc != PD_OK)
        return rc;
    rc = pd_rows_next(rows, known, err);
    bool same = rc == PD_OK && *known && pd_row_i64(rows, 0) == in->record_id &&
                pd_row_i64(rows, 1) == in->user_id;
    pd_rows_close(rows);
    if (rc == PD_OK && *known && !same)
        rc = PD_FAIL(err, PD_CONFLICT,
                     "this judgment id was used for another record or by another labeler");
    return rc;
}

static enum pd_rc store_row(struct pd_db *db, const struct scene *s,
                            const struct pd_response_put *in, bool surplus, bool flagged,
                            int64_t version, int64_t at, int64_t *id, struct pd_err *err)
{
    char uuid[37];
    pd_uuid_new(uuid);
    return pd_db_i64(
        db, id, NULL, err,
        "INSERT INTO response(uuid, dataset_id, record_id, account_id, n, status, vals, shown, "
        "surplus, active_ms, guideline_version, inserted_at, updated_at, notes, flagged) "
        "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?12, ?13, ?14) "
        "ON CONFLICT(record_id, account_id, n) DO UPDATE SET status = excluded.status, "
        "vals = excluded.vals, shown = coalesce(excluded.shown, response.shown), "
        "notes = excluded.notes, flagged = excluded.flagged, "
        "surplus = excluded.surplus, active_ms = response.active_ms + excluded.active_ms, "
        "guideline_version = excluded.guideline_version, updated_at = excluded.updated_at "
        "RETURNING id",
        "ziiiizssiiiisi", uuid, s->dataset_id, s->record_id, s->user_id, s->n,
        status_names[in->status], in->values, in->shown, (int64_t)surplus, in->active_ms, version,
        at, in->notes, (int64_t)flagged);
}

/* A lease ends with the answer and lives on with a draft. */
static enum pd_rc settle_lease(struct pd_db *db, const struct scene *s, enum pd_answer_status st,
                               struct pd_err *err)
{
    int64_t now = pd_lease_now();
    if (st == PD_ANSWER_DRAFT)
        return pd_db_run(db, NULL, err,
                         "UPDATE lease SET expires_at = ?3 WHERE record_id = ?1 AND account_id = "
                         "?2 AND expires_at > ?4",
                         "iiii", s->record_id, s->user_id, now + PD_LEASE_TTL_US, now);
    return pd_db_run(db, NULL, err, "DELETE FROM lease WHERE record_id = ?1 AND account_id = ?2",
                     "ii", s->record_id, s->user_id);
}

/* Moves the answer from s->old to st (DELETED: out) in all counters; its row is as it will be. */
static enum pd_rc settle(struct pd_db *db, struct scene *s, enum pd_answer_status st, bool surplus,
                         bool flagged, int64_t active_ms, int64_t at, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct totals t = {.active_ms = active_ms, .flagged = (int64_t)flagged - s->old_flagged};
    bool was_done = s->completed;
    if (s->old != PD_ANSWER_DELETED)
        t.by[s->old]--;
    if (st != PD_ANSWER_DELETED)
        t.by[st]++;
    if (s->old == PD_ANSWER_SUBMITTED) {
        *(s->old_surplus ? &s->surplus : &s->submitted) -= 1;
        t.surplus -= s->old_surplus;
    }
    if (st == PD_ANSWER_SUBMITTED) {
        *(surplus ? &s->surplus : &s->submitted) += 1;
        t.surplus += surplus;
    }
    /* The old status leaves the counters as they stood; the new one enters, and then a changed
     * completion moves every answer of the record, this one included. */
    if (s->old != PD_ANSWER_DELETED)
        PD_TRY(count_labeler(db, s, s->old, -1, -(int64_t)was_done, 0, at, err));
    if (st != PD_ANSWER_DELETED)
        PD_TRY(count_labeler(db, s, st, 1, was_done, active_ms, at, err));
    PD_TRY(count_quarter(db, s, s->old, -1, s->old_at, err));
    PD_TRY(count_quarter(db, s, st, 1, at, err));
    if (s->old == PD_ANSWER_SUBMITTED && !s->old_surplus && st != PD_ANSWER_SUBMITTED)
        PD_TRY(promote(db, s, &t.surplus, err));
    PD_TRY(settle_record(db, s, at, &t.completed, err));
    PD_TRY(settle_dataset(db, s->dataset_id, &t, at, err));
    /* a submission taken back, or a lease given up by a skip */
    bool taken_back = s->old == PD_ANSWER_SUBMITTED && st != PD_ANSWER_SUBMITTED;
    if (taken_back || st == PD_ANSWER_DISCARDED)
        PD_TRY(pd__room_at(db, s->dataset_id, s->record_id, err));
out:
    return rc;
}

enum pd_rc pd__settle_surplus(struct pd_db *db, int64_t record_id, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct scene s = {.record_id = record_id};
    struct totals t = {0};
    int64_t leases = 0, now = pd_time_us();
    PD_TRY(load_scene(db, &s, err));
    PD_TRY(pd_db_i64(db, &leases, NULL, err,
                     "SELECT count(*) FROM lease WHERE record_id = ?1 AND expires_at > ?2", "ii",
                     record_id, pd_lease_now()));
    if (s.submitted + leases >= s.cap)
        goto out;
    PD_TRY(promote(db, &s, &t.surplus, err));
    PD_TRY(settle_record(db, &s, now, &t.completed, err));
    PD_TRY(settle_dataset(db, s.dataset_id, &t, now, err));
out:
    return rc;
}

/* The record is not answered by this user any more: their queue may not have it behind it. */
static enum pd_rc reopen_for_user(struct pd_db *db, const struct scene *s, struct pd_err *err)
{
    return pd_db_run(db, NULL, err,
                     "UPDATE queue_cursor SET after_id = ?3 - 1 WHERE dataset_id = ?1 AND "
                     "account_id = ?2 AND after_id >= ?3",
                     "iii", s->dataset_id, s->user_id, s->record_id);
}

/* Notes are the store's own plain JSON: a quote inside a text is escaped, so this is the key. */
static bool has_flag(struct pd_str notes)
{
    static const char key[] = "\"flag\":{";
    return notes.len && memmem(notes.ptr, notes.len, key, sizeof key - 1);
}

enum pd_rc pd_response_put(struct pd_db *db, const struct pd_response_put *in,
                           struct pd_response_result *out, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct scene s = {.record_id = in->record_id, .user_id = in->user_id, .n = in->n};
    bool known = false, surplus = false;
    char made[37];
    struct pd_str uuid = in->judgment_uuid;
    int64_t id = 0, at = in->at_us ? in->at_us : pd_time_us();
    PD_ASSERT(in->status != PD_ANSWER_DELETED);
    PD_TRY(load_scene(db, &s, err));
    PD_TRY(replay(db, in, &known, err));
    bool answered = s.old == PD_ANSWER_SUBMITTED || s.old == PD_ANSWER_DISCARDED;
    if (known || (in->autosave && in->status == PD_ANSWER_DRAFT && answered)) {
        *out = (struct pd_response_result){.response_id = s.response_id,
                                           .dataset_id = s.dataset_id,
                                           .replayed = true,
                                           .surplus = s.old_surplus,
                                           .completed = s.completed};
        goto out;
    }
    int64_t version = in->guideline_version >= 0 ? in->guideline_version : s.guideline_version;
    if (in->status == PD_ANSWER_SUBMITTED) {
        if (s.old == PD_ANSWER_SUBMITTED)
            surplus = s.old_surplus;
        else
            PD_TRY(is_surplus(db, &s, &surplus, err));
    }
    bool flagged = in->status != PD_ANSWER_DRAFT && has_flag(in->notes);
    PD_TRY(store_row(db, &s, in, surplus, flagged, version, at, &id, err));
    if (in->status != PD_ANSWER_DRAFT || answered) {
        if (!uuid.len) {
            pd_uuid_new(made);
            uuid = pd_str_from(made);
        }
        PD_TRY(append_judgment(db, &s, in, uuid, surplus, version, at, err));
    }
    PD_TRY(settle_lease(db, &s, in->status, err));
    bool created = s.response_id == 0;
    PD_TRY(settle(db, &s, in->status, surplus, flagged, in->active_ms, at, err));
    if (answered && in->status == PD_ANSWER_DRAFT)
        PD_TRY(reopen_for_user(db, &s, err));
    *out = (struct pd_response_result){.response_id = id,
                                       .dataset_id = s.dataset_id,
                                       .created = created,
                                       .surplus = surplus,
                                       .completed = s.completed};
out:
    return rc;
}

enum pd_rc pd_response_delete(struct pd_db *db, int64_t id, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct scene s = {0};
    struct pd_rows *rows = NULL;
    bool found = false;
    char uuid[37];
    int64_t now = pd_time_us();
    PD_TRY(pd_db_query(db, &rows, err,
                       "SELECT record_id, account_id, n FROM response WHERE id = ?1", "i", id));
    PD_TRY(pd_rows_next(rows, &found, err));
    if (!found) {
        rc = PD_FAIL(err, PD_NOTFOUND, "no such response");
        goto out;
    }
    s.record_id = pd_row_i64(rows, 0);
    s.user_id = pd_row_i64(rows, 1);
    s.n = pd_row_i64(rows, 2);
    PD_TRY(load_scene(db, &s, err));
    if (s.old != PD_ANSWER_DRAFT) {
        struct pd_response_put gone = {
            .status = PD_ANSWER_DELETED, .values = PD_STR("{}"), .source = PD_STR("delete")};
        pd_uuid_new(uuid);
        PD_TRY(append_judgment(db, &s, &gone, pd_str_from(uuid), s.old_surplus, s.guideline_version,
                               now, err));
    }
    PD_TRY(pd_db_run(db, NULL, err, "DELETE FROM response WHERE id = ?1", "i", id));
    PD_TRY(settle(db, &s, PD_ANSWER_DELETED, false, false, 0, now, err));
    PD_TRY(reopen_for_user(db, &s, err));
out:
    pd_rows_close(rows);
    return rc;
}
