/* Fields, questions, metadata properties and vector settings: one table, told apart by kind. */
#include "base/crypt.h"
#include "base/time.h"
#include "store/dataset.h"
#include "store/db_int.h"

static const char *const kinds[] = {"field", "question", "metadata", "vector"};
static const char *const words[] = {"field", "question", "metadata property", "vector settings"};

#define PART                                                                                       \
    "SELECT id, uuid, dataset_id, kind, name, title, description, required, settings, "            \
    "inserted_at, updated_at FROM part "

static void read_part(const struct pd_rows *r, struct pd_arena *a, void *to)
{
    struct pd_part *out = to;
    *out = (struct pd_part){.id = pd_row_i64(r, 0),
                            .dataset_id = pd_row_i64(r, 2),
                            .name = pd_row_dup(r, 4, a),
                            .title = pd_row_dup(r, 5, a),
                            .description = pd_row_dup(r, 6, a),
                            .required = pd_row_i64(r, 7) != 0,
                            .settings = pd_row_dup(r, 8, a),
                            .inserted_us = pd_row_i64(r, 9),
                            .updated_us = pd_row_i64(r, 10)};
    pd__row_uuid(r, 1, out->uuid);
    for (int k = 0; k < 4; k++)
        if (pd_str_eqz(pd_row_str(r, 3), kinds[k]))
            out->kind = (enum pd_part_kind)k;
}

enum pd_rc pd_part_create(struct pd_db *db, const struct pd_part_new *in, int64_t *id,
                          struct pd_err *err)
{
    char uuid[37];
    if (in->name.len < 1 || in->name.len > 200)
        return PD_FAIL(err, PD_INVALID, "a %s's name has 1 to 200 bytes", words[in->kind]);
    pd_uuid_new(uuid);
    enum pd_rc rc = pd_db_i64(db, id, NULL, err,
                              "INSERT INTO part(uuid, dataset_id, kind, name, title, description, "
                              "required, settings, inserted_at, updated_at) "
                              "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9) RETURNING id",
                              "zizsssisi", uuid, in->dataset_id, kinds[in->kind], in->name,
                              in->title.len ? in->title : in->name, in->description,
                              (int64_t)in->required, in->settings, pd_time_us());
    if (rc == PD_CONFLICT)
        rc = PD_FAIL(err, rc, "the dataset has a %s '%.*s' already", words[in->kind],
                     PD_STR_ARG(in->name));
    return rc;
}

static enum pd_rc one(struct pd_rows *rows, struct pd_arena *a, struct pd_part *out,
                      struct pd_err *err)
{
    bool found = false;
    enum pd_rc rc = pd__rows_one(rows, a, read_part, out, &found, err);
    return rc == PD_OK && !found ? PD_FAIL(err, PD_NOTFOUND, "no such field, question or property")
                                 : rc;
}

enum pd_rc pd_part_get(struct pd_db *db, struct pd_arena *a, int64_t id, struct pd_part *out,
                       struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    enum pd_rc rc = pd_db_query(db, &rows, err, PART "WHERE id = ?1", "i", id);
    return rc == PD_OK ? one(rows, a, out, err) : rc;
}

enum pd_rc pd_part_by_uuid(struct pd_db *db, struct pd_arena *a, enum pd_part_kind kind,
                           struct pd_str uuid, struct pd_part *out, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    enum pd_rc rc =
        pd_db_query(db, &rows, err, PART "WHERE uuid = ?1 AND kind = ?2", "sz", uuid, kinds[kind]);
    return rc == PD_OK ? one(rows, a, out, err) : rc;
}

enum pd_rc pd_part_list(struct pd_db *db, struct pd_arena *a, int64_t dataset_id,
                        enum pd_part_kind kind, struct pd_part **out, size_t *n, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    enum pd_rc rc =
        pd_db_query(db, &rows, err, PART "WHERE dataset_id = ?1 AND kind = ?2 ORDER BY id", "iz",
                    dataset_id, kinds[kind]);
    return rc == PD_OK ? pd__rows_all(rows, a, read_part, sizeof **out, out, n, err) : rc;
}

enum pd_rc pd_part_update(struct pd_db *db, const struct pd_part *p, struct pd_err *err)
{
    int64_t n = 0;
    enum pd_rc rc = pd_db_run(db, &n, err,
                              "UPDATE part SET title = ?2, description = ?3, required = ?4, "
                              "settings = ?5, updated_at = ?6 WHERE id = ?1",
                              "izzizi", p->id, p->title, p->description, (int64_t)p->required,
                              p->settings, pd_time_us());
    return rc == PD_OK && n == 0 ? PD_FAIL(err, PD_NOTFOUND, "no such %s", words[p->kind]) : rc;
}

enum pd_rc pd_part_delete(struct pd_db *db, int64_t id, struct pd_err *err)
{
    int64_t n = 0;
    enum pd_rc rc = pd_db_run(db, &n, err, "DELETE FROM part WHERE id = ?1", "i", id);
    return rc == PD_OK && n == 0 ? PD_FAIL(err, PD_NOTFOUND, "no such field, question or property")
                                 : rc;
}
