/* Next tasks and saving answers: validation and order above, storage below. */
#include "pref/answer.h"
#include "base/crypt.h"
#include "base/mem.h"

#include <stdlib.h>

static bool has_option(const struct pd_question *q, const char *name)
{
    for (size_t i = 0; i < q->n_options; i++)
        if (strcmp(q->options[i], name) == 0)
            return true;
    return false;
}

/* The fields a ranking question compares, in stored order; n = 0 when there is none. */
static enum pd_rc answer_fields(struct pd_db *db, struct pd_arena *a, int64_t dataset_id,
                                const char ***names, size_t *n, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_question *qs = NULL;
    struct pd_part *fields = NULL;
    size_t n_qs = 0, n_fields = 0;
    PD_TRY(pd_question_load(db, a, dataset_id, &qs, &n_qs, err));
    PD_TRY(pd_part_list(db, a, dataset_id, PD_PART_FIELD, &fields, &n_fields, err));
    const char **list = pd_arena_alloc(a, (n_fields + 1) * sizeof *list);
    size_t len = 0;
    for (size_t i = 0; i < n_fields; i++)
        for (size_t k = 0; k < n_qs; k++)
            if (qs[k].type == PD_QUESTION_RANKING && has_option(&qs[k], fields[i].name)) {
                list[len++] = fields[i].name;
                break;
            }
    *names = list;
    *n = len;
out:
    return rc;
}

struct keyed {
    char hash[65];
    size_t index;
};

static int by_hash(const void *a, const void *b)
{
    return strcmp(((const struct keyed *)a)->hash, ((const struct keyed *)b)->hash);
}

void pd_task_order(struct pd_store *s, const char *dataset_uuid, const char *user_uuid,
                   const char *record_uuid, size_t n, size_t *order)
{
    struct keyed *keys = pd_xalloc((n + 1) * sizeof *keys);
    for (size_t i = 0; i < n; i++) {
        char *text = pd_xasprintf("order %s %s %s %zu", dataset_uuid, user_uuid, record_uuid, i);
        pd_hmac_hex(pd_store_secret(s), pd_str_from(text), keys[i].hash);
        keys[i].index = i;
        pd_free(text);
    }
    qsort(keys, n, sizeof *keys, by_hash);
    for (size_t i = 0; i < n; i++)
        order[i] = keys[i].index;
    pd_free(keys);
}

/* What stays the same for all tasks of one call. */
struct desk {
    struct pd_store *store;
    struct pd_dataset dataset;
    char user_uuid[37];
    int64_t user_id;
    bool shuffle;
    const char **names;
    size_t n_names;
};

static enum pd_rc open_desk(struct pd_store *s, struct pd_db *db, struct pd_arena *a,
                            int64_t dataset_id, int64_t user_id, struct desk *d, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct json_object *settings = NULL;
    struct pd_rows *rows = NULL;
    bool found = false;
    d->store = s;
    d->user_id = user_id;
    PD_TRY(pd_dataset_get(db, a, dataset_id, &d->dataset, err));
    PD_TRY(pd_json_parse(pd_str_from(d->dataset.settings), &settings, err));
    d->shuffle = pd_json_bool(settings, "shuffle", true);
    PD_TRY(answer_fields(db, a, dataset_id, &d->names, &d->n_names, err));
    PD_TRY(pd_db_query(db, &rows, err, "SELECT uuid FROM account WHERE id = ?1", "i", user_id));
    PD_TRY(pd_rows_next(rows, &found, err));
    if (found)
        memcpy(d->user_uuid, pd_row_str(rows, 0).ptr, 36);
out:
    pd_rows_close(rows);
    json_object_put(settings);
    return rc;
}

static enum pd_rc fill_task(struct pd_db *db, struct pd_arena *a, const struct desk *d,
                            int64_t record_id, struct pd_task *t, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_buf json;
    size_t order[64];
    size_t n = d->n_names < 64 ? d->n_names : 64;
    pd_buf_init(&json, 0);
    PD_TRY(pd_record_get(db, a, record_id, &t->record, err));
    t->record.hidden = NULL;
    for (size_t i = 0; i < n; i++)
        order[i] = i;
    if (d->shuffle)
        pd_task_order(d->store, d->dataset.uuid, d->user_uuid, t->record.uuid, n, order);
    struct pd_jw w;
    pd_jw_init(&w, &json);
    pd_jw_array(&w);
    for (size_t i = 0; i < n; i++)
        pd_jw_strz(&w, d->names[order[i]]);
    pd_jw_array_end(&w);
    t->shown = pd_arena_strdup(a, pd_buf_cstr(&json));
    PD_TRY(pd_response_of(db, a, record_id, d->user_id, &t->response, &t->has_response, err));
out:
    pd_buf_release(&json);
    return rc;
}

enum pd_rc pd_task_next(struct pd_store *s, struct pd_arena *a, int64_t dataset_id, int64_t user_id,
                        size_t want, struct pd_task **out, size_t *n, int64_t *reserved,
                        int64_t *retry_us, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_tx tx = {0};
    struct pd_db *db = NULL;
    struct desk d = {0};
    size_t got = 0;
    struct pd_lease *leases = pd_arena_alloc(a, (want + 1) * sizeof *leases);
    struct pd_task *tasks = pd_arena_alloc(a, (want + 1) * sizeof *tasks);
    PD_TRY(pd_read_begin(s, &db, err));
    PD_TRY(open_desk(s, db, a, dataset_id, user_id, &d, err));
    pd_read_end(s, db);
    db = NULL;
    if (d.dataset.status != PD_DATASET_READY) {
        rc = PD_FAIL(err, PD_CONFLICT, "dataset %s is a draft: `podium dataset publish` opens it",
                     d.dataset.name);
        goto out;
    }
    PD_TRY(pd_tx_begin(&tx, s, PD_TX_RELAXED, err));
    PD_TRY(pd_lease_take(tx.db, dataset_id, user_id, want, leases, &got, reserved, retry_us, err));
    PD_TRY(pd_tx_commit(&tx, err));
    /* The records are read outside the writer's turn; one deleted meanwhile is left out. */
    PD_TRY(pd_read_begin(s, &db, err));
    size_t len = 0;
    for (size_t i = 0; i < got; i++) {
        tasks[len].expires_us = leases[i].expires_us;
        rc = fill_task(db, a, &d, leases[i].record_id, &tasks[len], err);
        if (rc == PD_NOTFOUND)
            continue;
        PD_TRY(rc);
        len++;
    }
    rc = PD_OK;
    *out = tasks;
    *n = len;
out:
    pd_read_end(s, db);
    pd_tx_abandon(&tx);
    return rc;
}

enum pd_rc pd_task_get(struct pd_store *s, struct pd_arena *a, int64_t record_id, int64_t user_id,
                       struct pd_task *out, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_db *db = NULL;
    struct desk d = {0};
    struct pd_record r;
    *out = (struct pd_task){0};
    PD_TRY(pd_read_begin(s, &db, err));
    PD_TRY(pd_record_get(db, a, record_id, &r, err));
    PD_TRY(open_desk(s, db, a, r.dataset_id, user_id, &d, err));
    PD_TRY(fill_task(db, a, &d, record_id, out, err));
out:
    pd_read_end(s, db);
    return rc;
}

/* in->values, checked and made canonical, into *canonical. Works on a reader or in a transaction.
 */
static enum pd_rc check(struct pd_db *db, const struct pd_response_put *in,
                        struct pd_buf *canonical, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_arena a;
    struct pd_record r;
    struct pd_question *qs = NULL;
    struct json_object *values = NULL, *fields = NULL, *shown = NULL;
    size_t n = 0;
    pd_arena_init(&a);
    PD_TRY(pd_record_get(db, &a, in->record_id, &r, err));
    PD_TRY(pd_question_load(db, &a, r.dataset_id, &qs, &n, err));
    if (in->values.len)
        PD_TRY(pd_json_parse(in->values, &values, err));
    if (in->shown.len) {
        PD_TRY(pd_json_parse(in->shown, &shown, err));
        if (!json_object_is_type(shown, json_type_array)) {
            rc = PD_FAIL(err, PD_INVALID, "shown is %s, expected a list of answer names",
                         pd_json_type_name(shown));
            goto out;
        }
    }
    for (size_t i = 0; i < n && !fields; i++)
        if (qs[i].type == PD_QUESTION_SPAN)
            PD_TRY(pd_json_parse(pd_str_from(r.fields), &fields, err));
    PD_TRY(pd_answer_check(qs, n, in->status, values, fields, canonical, err));
    if (canonical->failed)
        rc = PD_FAIL(err, PD_TOOBIG, "the answer is too large");
out:
    json_object_put(shown);
    json_object_put(fields);
    json_object_put(values);
    pd_arena_release(&a);
    return rc;
}

enum pd_rc pd_answer_put(struct pd_db *db, const struct pd_response_put *in,
                         struct pd_response_result *out, struct pd_err *err)
{
    struct pd_buf canonical;
    pd_buf_init(&canonical, (size_t)16 << 20);
    enum pd_rc rc = check(db, in, &canonical, err);
    if (rc == PD_OK) {
        struct pd_response_put ours = *in;
        ours.values = pd_buf_str(&canonical);
        rc = pd_response_put(db, &ours, out, err);
    }
    pd_buf_release(&canonical);
    return rc;
}

enum pd_rc pd_answer_save(struct pd_store *s, const struct pd_response_put *in,
                          struct pd_response_result *out, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_db *db = NULL;
    struct pd_tx tx = {0};
    struct pd_buf canonical;
    struct pd_response_put ours = *in;
    pd_buf_init(&canonical, (size_t)16 << 20);
    /* Parsing and checking need no turn at the writer. */
    PD_TRY(pd_read_begin(s, &db, err));
    PD_TRY(check(db, in, &canonical, err));
    pd_read_end(s, db);
    db = NULL;
    ours.values = pd_buf_str(&canonical);
    PD_TRY(pd_tx_begin(&tx, s, PD_TX_DURABLE, err));
    PD_TRY(pd_response_put(tx.db, &ours, out, err));
    PD_TRY(pd_tx_commit(&tx, err));
out:
    pd_tx_abandon(&tx);
    pd_read_end(s, db);
    pd_buf_release(&canonical);
    return rc;
}
