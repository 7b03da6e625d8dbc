/* Records and their suggestions. */
#include "store/record.h"
#include "base/crypt.h"
#include "base/time.h"
#include "store/db_int.h"
#include "store/response.h"

#define RECORD                                                                                     \
    "SELECT id, uuid, dataset_id, external_id, fields, metadata, vectors, hidden, completed, "     \
    "submitted, surplus, inserted_at, updated_at FROM record "

static void read_record(const struct pd_rows *r, struct pd_arena *a, void *to)
{
    struct pd_record *out = to;
    *out = (struct pd_record){.id = pd_row_i64(r, 0),
                              .dataset_id = pd_row_i64(r, 2),
                              .external_id = pd_row_dup(r, 3, a),
                              .fields = pd_row_dup(r, 4, a),
                              .metadata = pd_row_dup(r, 5, a),
                              .vectors = pd_row_dup(r, 6, a),
                              .hidden = pd_row_dup(r, 7, a),
                              .completed = pd_row_i64(r, 8) != 0,
                              .submitted = pd_row_i64(r, 9),
                              .surplus = pd_row_i64(r, 10),
                              .inserted_us = pd_row_i64(r, 11),
                              .updated_us = pd_row_i64(r, 12)};
    pd__row_uuid(r, 1, out->uuid);
}

enum pd_rc pd_record_create(struct pd_db *db, const struct pd_record_new *in, int64_t *id,
                            struct pd_err *err)
{
    char made[37];
    struct pd_str uuid = in->uuid;
    int64_t now = pd_time_us();
    if (!uuid.len) {
        pd_uuid_new(made);
        uuid = pd_str_from(made);
    }
    enum pd_rc rc = pd_db_i64(
        db, id, NULL, err,
        "INSERT INTO record(uuid, dataset_id, external_id, inserted_at, updated_at, fields, "
        "metadata, vectors, hidden) VALUES(?1, ?2, ?3, ?4, ?4, ?5, ?6, ?7, ?8) RETURNING id",
        "sisissss", uuid, in->dataset_id, in->external_id, now, in->fields,
        in->metadata.len ? in->metadata : PD_STR("{}"), in->vectors, in->hidden);
    if (rc == PD_CONFLICT)
        return PD_FAIL(err, rc, "the dataset has a record with external id '%.*s' already",
                       PD_STR_ARG(in->external_id));
    if (rc == PD_NOTFOUND)
        return PD_FAIL(err, rc, "no such dataset");
    if (rc == PD_OK)
        rc = pd_db_run(db, NULL, err, "UPDATE dataset SET n_records = n_records + 1 WHERE id = ?1",
                       "i", in->dataset_id);
    return rc;
}

enum pd_rc pd_record_get(struct pd_db *db, struct pd_arena *a, int64_t id, struct pd_record *out,
                         struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    bool found = false;
    enum pd_rc rc = pd_db_query(db, &rows, err, RECORD "WHERE id = ?1", "i", id);
    if (rc == PD_OK)
        rc = pd__rows_one(rows, a, read_record, out, &found, err);
    return rc == PD_OK && !found
               ? PD_FAIL(err, PD_NOTFOUND, "no record with number %lld", (long long)id)
               : rc;
}

enum pd_rc pd_record_by_uuid(struct pd_db *db, struct pd_arena *a, struct pd_str uuid,
                             struct pd_record *out, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    bool found = false;
    enum pd_rc rc = pd_db_query(db, &rows, err, RECORD "WHERE uuid = ?1", "s", uuid);
    if (rc == PD_OK)
        rc = pd__rows_one(rows, a, read_record, out, &found, err);
    return rc == PD_OK && !found
               ? PD_FAIL(err, PD_NOTFOUND, "no record with id %.*s", PD_STR_ARG(uuid))
               : rc;
}

enum pd_rc pd_record_by_external(struct pd_db *db, struct pd_arena *a, int64_t dataset_id,
                                 struct pd_str external_id, struct pd_record *out, bool *found,
                                 struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    enum pd_rc rc = pd_db_query(db, &rows, err, RECORD "WHERE dataset_id = ?1 AND external_id = ?2",
                                "is", dataset_id, external_id);
    return rc == PD_OK ? pd__rows_one(rows, a, read_record, out, found, err) : rc;
}

enum pd_rc pd_record_page(struct pd_db *db, struct pd_arena *a, int64_t dataset_id,
                          int64_t after_id, size_t limit, struct pd_record **out, size_t *n,
                          struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    enum pd_rc rc =
        pd_db_query(db, &rows, err, RECORD "WHERE dataset_id = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
                    "iii", dataset_id, after_id, (int64_t)limit);
    return rc == PD_OK ? pd__rows_all(rows, a, read_record, sizeof **out, out, n, err) : rc;
}

enum pd_rc pd_record_offset(struct pd_db *db, int64_t dataset_id, int64_t offset, int64_t *after_id,
                            struct pd_err *err)
{
    bool found = false;
    int64_t id = 0;
    if (offset <= 0) {
        *after_id = 0;
        return PD_OK;
    }
    enum pd_rc rc = pd_db_i64(db, &id, &found, err,
                              "SELECT id FROM record INDEXED BY record_dataset WHERE dataset_id = "
                              "?1 ORDER BY id LIMIT 1 OFFSET ?2",
                              "ii", dataset_id, offset - 1);
    if (rc == PD_OK)
        *after_id = found ? id : INT64_MAX;
    return rc;
}

static enum pd_rc touched(enum pd_rc rc, int64_t n, struct pd_err *err)
{
    return rc == PD_OK && n == 0 ? PD_FAIL(err, PD_NOTFOUND, "no such record") : rc;
}

enum pd_rc pd_record_set_metadata(struct pd_db *db, int64_t id, struct pd_str json,
                                  struct pd_err *err)
{
    int64_t n = 0;
    enum pd_rc rc =
        pd_db_run(db, &n, err, "UPDATE record SET metadata = ?2, updated_at = ?3 WHERE id = ?1",
                  "isi", id, json, pd_time_us());
    return touched(rc, n, err);
}

enum pd_rc pd_record_set_vectors(struct pd_db *db, int64_t id, struct pd_str json,
                                 struct pd_err *err)
{
    int64_t n = 0;
    enum pd_rc rc =
        pd_db_run(db, &n, err, "UPDATE record SET vectors = ?2, updated_at = ?3 WHERE id = ?1",
                  "isi", id, json, pd_time_us());
    return touched(rc, n, err);
}

enum pd_rc pd_record_delete(struct pd_db *db, int64_t id, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_arena a;
    struct pd_record r = {0};
    struct pd_response *answers = NULL;
    size_t n = 0;
    pd_arena_init(&a);
    PD_TRY(pd_record_get(db, &a, id, &r, err));
    PD_TRY(pd_response_list(db, &a, r.dataset_id, id, id, 0, &answers, &n, err));
    for (size_t i = 0; i < n; i++)
        PD_TRY(pd_response_delete(db, answers[i].id, err)); /* keeps the counters right */
    PD_TRY(pd_db_run(db, NULL, err, "DELETE FROM record WHERE id = ?1", "i", id));
    PD_TRY(pd_db_run(db, NULL, err, "UPDATE dataset SET n_records = n_records - 1 WHERE id = ?1",
                     "i", r.dataset_id));
out:
    pd_arena_release(&a);
    return rc;
}

/* ---- suggestions ---- */

#define SUGGESTION                                                                                 \
    "SELECT s.id, s.uuid, s.record_id, s.question_id, q.uuid, q.name, s.value, s.score, s.type, "  \
    "s.agent, s.inserted_at, s.updated_at FROM suggestion s JOIN part q ON q.id = s.question_id "

static void read_suggestion(const struct pd_rows *r, struct pd_arena *a, void *to)
{
    struct pd_suggestion *out = to;
    *out = (struct pd_suggestion){.id = pd_row_i64(r, 0),
                                  .record_id = pd_row_i64(r, 2),
                                  .question_id = pd_row_i64(r, 3),
                                  .question = pd_row_dup(r, 5, a),
                                  .value = pd_row_dup(r, 6, a),
                                  .score = pd_row_dup(r, 7, a),
                                  .type = pd_row_dup(r, 8, a),
                                  .agent = pd_row_dup(r, 9, a),
                                  .inserted_us = pd_row_i64(r, 10),
                                  .updated_us = pd_row_i64(r, 11)};
    pd__row_uuid(r, 1, out->uuid);
    pd__row_uuid(r, 4, out->question_uuid);
}

enum pd_rc pd_suggestion_put(struct pd_db *db, const struct pd_suggestion_new *in, int64_t *id,
                             bool *created, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char uuid[37];
    bool found = false;
    int64_t old = 0;
    PD_TRY(pd_db_i64(db, &old, &found, err,
                     "SELECT id FROM suggestion WHERE record_id = ?1 AND question_id = ?2", "ii",
                     in->record_id, in->question_id));
    pd_uuid_new(uuid);
    PD_TRY(pd_db_i64(db, id, NULL, err,
                     "INSERT INTO suggestion(uuid, record_id, question_id, value, score, type, "
                     "agent, inserted_at, updated_at) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8) "
                     "ON CONFLICT(record_id, question_id) DO UPDATE SET value = excluded.value, "
                     "score = excluded.score, type = excluded.type, agent = excluded.agent, "
                     "updated_at = excluded.updated_at RETURNING id",
                     "ziissssi", uuid, in->record_id, in->question_id, in->value, in->score,
                     in->type, in->agent, pd_time_us()));
    if (created)
        *created = !found;
out:
    return rc;
}

enum pd_rc pd_suggestion_list(struct pd_db *db, struct pd_arena *a, int64_t dataset_id,
                              int64_t first, int64_t last, struct pd_suggestion **out, size_t *n,
                              struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    enum pd_rc rc = pd_db_query(db, &rows, err,
                                SUGGESTION "WHERE s.record_id BETWEEN ?2 AND ?3 AND q.dataset_id = "
                                           "?1 ORDER BY s.record_id, s.id",
                                "iii", dataset_id, first, last);
    return rc == PD_OK ? pd__rows_all(rows, a, read_suggestion, sizeof **out, out, n, err) : rc;
}

enum pd_rc pd_suggestion_by_uuid(struct pd_db *db, struct pd_arena *a, struct pd_str uuid,
                                 struct pd_suggestion *out, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    bool found = false;
    enum pd_rc rc = pd_db_query(db, &rows, err, SUGGESTION "WHERE s.uuid = ?1", "s", uuid);
    if (rc == PD_OK)
        rc = pd__rows_one(rows, a, read_suggestion, out, &found, err);
    return rc == PD_OK && !found
               ? PD_FAIL(err, PD_NOTFOUND, "no suggestion with id %.*s", PD_STR_ARG(uuid))
               : rc;
}

enum pd_rc pd_suggestion_delete(struct pd_db *db, int64_t id, struct pd_err *err)
{
    int64_t n = 0;
    enum pd_rc rc = pd_db_run(db, &n, err, "DELETE FROM suggestion WHERE id = ?1", "i", id);
    return rc == PD_OK && n == 0 ? PD_FAIL(err, PD_NOTFOUND, "no such suggestion") : rc;
}

enum pd_rc pd_suggestion_clear(struct pd_db *db, int64_t record_id, struct pd_err *err)
{
    return pd_db_run(db, NULL, err, "DELETE FROM suggestion WHERE record_id = ?1", "i", record_id);
}
