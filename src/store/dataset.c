/* Datasets: the row with its counters, guidelines, and the list helpers. Settings lists are in
 * part.c. */
#include "store/dataset.h"
#include "base/crypt.h"
#include "base/time.h"
#include "store/db_int.h"
#include "store/lease.h"

static bool name_ok(struct pd_str s)
{
    if (s.len < 1 || s.len > 200 || s.ptr[0] == '-' || s.ptr[0] == '_' || s.ptr[0] == ' ')
        return false;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!word && c != '-' && c != '_' && c != ' ')
            return false;
    }
    return true;
}

/* argilla 1.x clients parse every name they list with this pattern, so one odd name would break
 * all of a workspace for them. */
static enum pd_rc check_name(struct pd_str s, struct pd_err *err)
{
    return name_ok(s) ? PD_OK
                      : PD_FAIL(err, PD_INVALID,
                                "dataset name '%.*s': use 1 to 200 letters, digits, spaces, - and "
                                "_, beginning with a letter or digit",
                                (int)(s.len < 80 ? s.len : 80), s.ptr);
}

static enum pd_rc check_guidelines(struct pd_str s, struct pd_err *err)
{
    return s.len <= 40000
               ? PD_OK
               : PD_FAIL(err, PD_INVALID, "guidelines have at most 40000 bytes, not %zu", s.len);
}

#define DATASET                                                                                    \
    "SELECT d.id, d.uuid, d.workspace_id, w.uuid, d.name, w.name, d.guidelines, "                  \
    "d.guideline_version, d.ready, d.allow_extra_metadata, d.min_submitted, d.template, "          \
    "d.made_by, d.settings, d.metadata, d.inserted_at, d.updated_at, d.last_activity_at "          \
    "FROM dataset d JOIN workspace w ON w.id = d.workspace_id "

static void read_dataset(const struct pd_rows *r, struct pd_arena *a, void *to)
{
    struct pd_dataset *out = to;
    *out = (struct pd_dataset){
        .id = pd_row_i64(r, 0),
        .workspace_id = pd_row_i64(r, 2),
        .name = pd_row_dup(r, 4, a),
        .workspace = pd_row_dup(r, 5, a),
        .guidelines = pd_row_dup(r, 6, a),
        .guideline_version = pd_row_i64(r, 7),
        .status = pd_row_i64(r, 8) ? PD_DATASET_READY : PD_DATASET_DRAFT,
        .allow_extra_metadata = pd_row_i64(r, 9) != 0,
        .min_submitted = pd_row_i64(r, 10),
        .tmpl = pd_row_dup(r, 11, a),
        .made_by = pd_row_dup(r, 12, a),
        .settings = pd_row_dup(r, 13, a),
        .metadata = pd_row_dup(r, 14, a),
        .inserted_us = pd_row_i64(r, 15),
        .updated_us = pd_row_i64(r, 16),
        .last_activity_us = pd_row_i64(r, 17),
    };
    pd__row_uuid(r, 1, out->uuid);
    pd__row_uuid(r, 3, out->workspace_uuid);
}

enum pd_rc pd_dataset_create(struct pd_db *db, const struct pd_dataset_new *in, int64_t *id,
                             struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char made[37];
    struct pd_str uuid = in->uuid;
    int64_t now = pd_time_us();
    PD_TRY(check_name(in->name, err));
    PD_TRY(check_guidelines(in->guidelines, err));
    if (in->min_submitted < 0) {
        rc = PD_FAIL(err, PD_INVALID, "min_submitted is at least 1, not %lld",
                     (long long)in->min_submitted);
        goto out;
    }
    if (!uuid.len) {
        pd_uuid_new(made);
        uuid = pd_str_from(made);
    }
    rc =
        pd_db_i64(db, id, NULL, err,
                  "INSERT INTO dataset(uuid, workspace_id, name, allow_extra_metadata, "
                  "min_submitted, template, made_by, settings, metadata, inserted_at, updated_at, "
                  "last_activity_at) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10, ?10) "
                  "RETURNING id",
                  "sisiissssi", uuid, in->workspace_id, in->name, (int64_t)in->allow_extra_metadata,
                  in->min_submitted, in->tmpl.len ? in->tmpl : PD_STR("custom"),
                  in->made_by.len ? in->made_by : PD_STR("cli"),
                  in->settings.len ? in->settings : PD_STR("{}"),
                  in->metadata.len ? in->metadata : (struct pd_str){0}, now);
    if (rc == PD_CONFLICT)
        rc = PD_FAIL(err, rc, "dataset '%.*s' exists already in this workspace",
                     PD_STR_ARG(in->name));
    else if (rc == PD_NOTFOUND)
        rc = PD_FAIL(err, rc, "no such workspace");
    PD_TRY(rc);
    if (in->guidelines.len)
        PD_TRY(pd_dataset_set_guidelines(db, *id, in->guidelines, in->author_id, err));
out:
    return rc;
}

/* Reads at most one row; *found tells. */
static enum pd_rc one(struct pd_rows *rows, struct pd_arena *a, struct pd_dataset *out, bool *found,
                      bool *several, struct pd_err *err)
{
    bool more = false;
    enum pd_rc rc = pd_rows_next(rows, found, err);
    if (rc == PD_OK && *found) {
        read_dataset(rows, a, out);
        rc = pd_rows_next(rows, &more, err);
    }
    if (several)
        *several = more;
    pd_rows_close(rows);
    return rc;
}

enum pd_rc pd_dataset_get(struct pd_db *db, struct pd_arena *a, int64_t id, struct pd_dataset *out,
                          struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    bool found = false;
    enum pd_rc rc = pd_db_query(db, &rows, err, DATASET "WHERE d.id = ?1", "i", id);
    if (rc == PD_OK)
        rc = one(rows, a, out, &found, NULL, err);
    if (rc == PD_OK && !found)
        rc = PD_FAIL(err, PD_NOTFOUND, "no dataset with number %lld", (long long)id);
    return rc;
}

enum pd_rc pd_dataset_by_uuid(struct pd_db *db, struct pd_arena *a, struct pd_str uuid,
                              struct pd_dataset *out, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    bool found = false;
    enum pd_rc rc = pd_db_query(db, &rows, err, DATASET "WHERE d.uuid = ?1", "s", uuid);
    if (rc == PD_OK)
        rc = one(rows, a, out, &found, NULL, err);
    if (rc == PD_OK && !found)
        rc = PD_FAIL(err, PD_NOTFOUND, "no dataset with id %.*s", PD_STR_ARG(uuid));
    return rc;
}

enum pd_rc pd_dataset_find(struct pd_db *db, struct pd_arena *a, struct pd_str name,
                           struct pd_dataset *out, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    bool found = false, several = false;
    struct pd_str rest = name, workspace = {0};
    if (pd_uuid_valid(name))
        return pd_dataset_by_uuid(db, a, name, out, err);
    if (name.len && memchr(name.ptr, '/', name.len))
        (void)pd_str_split(&rest, '/', &workspace);
    enum pd_rc rc = pd_db_query(
        db, &rows, err, DATASET "WHERE d.name = ?1 AND (?2 IS NULL OR w.name = ?2) ORDER BY d.id",
        "ss", rest, workspace);
    if (rc == PD_OK)
        rc = one(rows, a, out, &found, &several, err);
    if (rc == PD_OK && !found)
        rc = PD_FAIL(err, PD_NOTFOUND, "no dataset '%.*s'; `podium dataset list` names them",
                     PD_STR_ARG(name));
    if (rc == PD_OK && several)
        rc = PD_FAIL(err, PD_CONFLICT,
                     "several workspaces have a dataset '%.*s': say WORKSPACE/%.*s",
                     PD_STR_ARG(name), PD_STR_ARG(name));
    return rc;
}

enum pd_rc pd_dataset_list(struct pd_db *db, struct pd_arena *a, int64_t user_id,
                           struct pd_dataset **out, size_t *n, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    enum pd_rc rc = pd_db_query(db, &rows, err,
                                DATASET "WHERE ?1 = 0 OR d.workspace_id IN (SELECT workspace_id "
                                        "FROM membership WHERE account_id = ?1) ORDER BY d.id",
                                "i", user_id);
    return rc == PD_OK ? pd__rows_all(rows, a, read_dataset, sizeof **out, out, n, err) : rc;
}

static enum pd_rc touched(enum pd_rc rc, int64_t n, struct pd_err *err)
{
    return rc == PD_OK && n == 0 ? PD_FAIL(err, PD_NOTFOUND, "no such dataset") : rc;
}

enum pd_rc pd_dataset_set_name(struct pd_db *db, int64_t id, struct pd_str name, struct pd_err *err)
{
    int64_t n = 0;
    enum pd_rc rc = check_name(name, err);
    if (rc == PD_OK)
        rc = pd_db_run(db, &n, err, "UPDATE dataset SET name = ?2, updated_at = ?3 WHERE id = ?1",
                       "isi", id, name, pd_time_us());
    if (rc == PD_CONFLICT)
        rc = PD_FAIL(err, rc, "dataset '%.*s' exists already in this workspace", PD_STR_ARG(name));
    return touched(rc, n, err);
}

enum pd_rc pd_dataset_set_guidelines(struct pd_db *db, int64_t id, struct pd_str text,
                                     int64_t author_id, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    int64_t version = 0, now = pd_time_us();
    bool found = false;
    PD_TRY(check_guidelines(text, err));
    PD_TRY(pd_db_i64(db, &version, &found, err,
                     "UPDATE dataset SET guidelines = ?2, guideline_version = guideline_version + "
                     "1, updated_at = ?3 WHERE id = ?1 RETURNING guideline_version",
                     "isi", id, text, now));
    PD_TRY(touched(PD_OK, found, err));
    PD_TRY(pd_db_run(db, NULL, err,
                     "INSERT INTO guideline(dataset_id, version, text, author_id, at) "
                     "VALUES(?1, ?2, ?3, ?4, ?5)",
                     "iisIi", id, version, text, author_id, now));
out:
    return rc;
}

enum pd_rc pd_dataset_set_extra_metadata(struct pd_db *db, int64_t id, bool allow,
                                         struct pd_err *err)
{
    int64_t n = 0;
    enum pd_rc rc = pd_db_run(
        db, &n, err, "UPDATE dataset SET allow_extra_metadata = ?2, updated_at = ?3 WHERE id = ?1",
        "iii", id, (int64_t)allow, pd_time_us());
    return touched(rc, n, err);
}

enum pd_rc pd_dataset_set_settings(struct pd_db *db, int64_t id, struct pd_str json,
                                   struct pd_err *err)
{
    int64_t n = 0;
    enum pd_rc rc =
        pd_db_run(db, &n, err, "UPDATE dataset SET settings = ?2, updated_at = ?3 WHERE id = ?1",
                  "isi", id, json, pd_time_us());
    return touched(rc, n, err);
}

/* A higher cap has room for answers that were surplus. */
static enum pd_rc promote_surplus(struct pd_db *db, int64_t id, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    int64_t record = 0, before = 0, now = 0;
    bool found = false;
    for (;;) {
        PD_TRY(pd_db_i64(db, &record, &found, err,
                         "SELECT r.id FROM record r JOIN dataset d ON d.id = r.dataset_id WHERE "
                         "r.dataset_id = ?1 AND r.id > ?2 AND r.surplus > 0 AND r.submitted < "
                         "d.min_submitted ORDER BY r.id LIMIT 1",
                         "ii", id, record));
        if (!found)
            break;
        do {
            PD_TRY(pd_db_i64(db, &before, NULL, err, "SELECT surplus FROM record WHERE id = ?1",
                             "i", record));
            PD_TRY(pd__settle_surplus(db, record, err));
            PD_TRY(pd_db_i64(db, &now, NULL, err, "SELECT surplus FROM record WHERE id = ?1", "i",
                             record));
        } while (now > 0 && now < before);
    }
out:
    return rc;
}

enum pd_rc pd_dataset_set_overlap(struct pd_db *db, int64_t id, int64_t min_submitted,
                                  struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    int64_t n = 0;
    if (min_submitted < 1)
        return PD_FAIL(err, PD_INVALID, "min_submitted is at least 1, not %lld",
                       (long long)min_submitted);
    PD_TRY(pd_db_run(db, &n, err,
                     "UPDATE dataset SET min_submitted = ?2, updated_at = ?3, full_until = 0 WHERE "
                     "id = ?1",
                     "iii", id, min_submitted, pd_time_us()));
    PD_TRY(touched(PD_OK, n, err));
    PD_TRY(pd_db_run(db, NULL, err,
                     "UPDATE record SET completed = (submitted >= ?2) WHERE dataset_id = ?1 AND "
                     "completed <> (submitted >= ?2)",
                     "ii", id, min_submitted));
    PD_TRY(pd_db_run(db, NULL, err,
                     "UPDATE dataset SET n_completed = (SELECT count(*) FROM record WHERE "
                     "dataset_id = ?1 AND completed = 1) WHERE id = ?1",
                     "i", id));
    PD_TRY(pd_db_run(db, NULL, err,
                     "UPDATE labeler_count SET (done_submitted, done_discarded, done_draft) = "
                     "(SELECT coalesce(sum(p.status = 'submitted'), 0), "
                     "coalesce(sum(p.status = 'discarded'), 0), coalesce(sum(p.status = 'draft'), "
                     "0) FROM response p JOIN record r ON r.id = p.record_id WHERE p.dataset_id = "
                     "?1 AND p.account_id = labeler_count.account_id AND r.completed = 1) "
                     "WHERE dataset_id = ?1",
                     "i", id));
    PD_TRY(pd_db_run(db, NULL, err, "DELETE FROM queue_cursor WHERE dataset_id = ?1", "i", id));
    PD_TRY(promote_surplus(db, id, err));
out:
    return rc;
}

enum pd_rc pd_dataset_publish(struct pd_db *db, int64_t id, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    int64_t fields = 0, questions = 0, n = 0;
    PD_TRY(pd_db_i64(db, &fields, NULL, err,
                     "SELECT count(*) FROM part WHERE dataset_id = ?1 AND kind = 'field' AND "
                     "required = 1",
                     "i", id));
    PD_TRY(pd_db_i64(db, &questions, NULL, err,
                     "SELECT count(*) FROM part WHERE dataset_id = ?1 AND kind = 'question' AND "
                     "required = 1",
                     "i", id));
    if (!fields || !questions) {
        rc = PD_FAIL(err, PD_INVALID, "cannot publish: the dataset needs a required %s",
                     fields ? "question" : "field");
        goto out;
    }
    PD_TRY(pd_db_run(db, &n, err, "UPDATE dataset SET ready = 1, updated_at = ?2 WHERE id = ?1",
                     "ii", id, pd_time_us()));
    PD_TRY(touched(PD_OK, n, err));
out:
    return rc;
}

enum pd_rc pd_dataset_delete(struct pd_db *db, int64_t id, struct pd_err *err)
{
    int64_t n = 0;
    enum pd_rc rc = pd_db_run(db, &n, err, "DELETE FROM dataset WHERE id = ?1", "i", id);
    return touched(rc, n, err);
}

enum pd_rc pd_dataset_counters(struct pd_db *db, int64_t id, struct pd_counts *out,
                               struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    bool found = false;
    enum pd_rc rc = pd_db_query(db, &rows, err,
                                "SELECT n_records, n_completed, n_submitted, n_discarded, n_draft, "
                                "n_surplus, active_ms, n_flagged FROM dataset WHERE id = ?1",
                                "i", id);
    if (rc != PD_OK)
        return rc;
    rc = pd_rows_next(rows, &found, err);
    if (rc == PD_OK && found)
        *out = (struct pd_counts){.records = pd_row_i64(rows, 0),
                                  .completed = pd_row_i64(rows, 1),
                                  .submitted = pd_row_i64(rows, 2),
                                  .discarded = pd_row_i64(rows, 3),
                                  .draft = pd_row_i64(rows, 4),
                                  .surplus = pd_row_i64(rows, 5),
                                  .active_ms = pd_row_i64(rows, 6),
                                  .flagged = pd_row_i64(rows, 7)};
    pd_rows_close(rows);
    return touched(rc, found, err);
}

enum pd_rc pd_dataset_counts(struct pd_db *db, int64_t id, struct pd_counts *out,
                             struct pd_err *err)
{
    struct pd_counts c = {0};
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_dataset_counters(db, id, &c, err));
    PD_TRY(pd_db_i64(db, &c.in_hand, NULL, err,
                     "SELECT count(DISTINCT l.record_id) FROM lease l JOIN record r ON r.id = "
                     "l.record_id WHERE l.dataset_id = ?1 AND l.expires_at > ?2 AND "
                     "r.completed = 0",
                     "ii", id, pd_lease_now()));
    *out = c;
out:
    return rc;
}

static void read_user_counts(const struct pd_rows *r, struct pd_arena *a, void *to)
{
    struct pd_user_counts *out = to;
    *out = (struct pd_user_counts){.user_id = pd_row_i64(r, 0),
                                   .username = pd_row_dup(r, 1, a),
                                   .submitted = pd_row_i64(r, 2),
                                   .discarded = pd_row_i64(r, 3),
                                   .draft = pd_row_i64(r, 4),
                                   .active_ms = pd_row_i64(r, 5),
                                   .last_us = pd_row_i64(r, 6),
                                   .completed_submitted = pd_row_i64(r, 7),
                                   .completed_discarded = pd_row_i64(r, 8),
                                   .completed_draft = pd_row_i64(r, 9)};
}

enum pd_rc pd_dataset_user_counts(struct pd_db *db, struct pd_arena *a, int64_t id, int64_t user_id,
                                  struct pd_user_counts **out, size_t *n, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    enum pd_rc rc = pd_db_query(
        db, &rows, err,
        "SELECT c.account_id, u.username, c.submitted, c.discarded, c.draft, c.active_ms, "
        "c.last_at, c.done_submitted, c.done_discarded, c.done_draft FROM labeler_count c "
        "JOIN account u ON u.id = c.account_id "
        "WHERE c.dataset_id = ?1 AND (?2 = 0 OR c.account_id = ?2) ORDER BY u.username",
        "ii", id, user_id);
    return rc == PD_OK ? pd__rows_all(rows, a, read_user_counts, sizeof **out, out, n, err) : rc;
}
