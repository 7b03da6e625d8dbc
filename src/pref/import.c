/* The import: open, tell the shape, find or make the dataset, and store row after row in one
 * transaction. Other writers wait meanwhile; readers do not. */
#include "pref/import.h"
#include "base/mem.h"
#include "pref/import_int.h"
#include "pref/template.h"
#include "store/record.h"
#include "store/response.h"
#include "store/user.h"

enum { LISTED_BAD_ROWS = 20 };

struct importer {
    struct pd_store *store;
    struct pd_tx tx;
    const struct pd_import_options *o;
    const char *name;
    FILE *notes;
    struct pd_import_report *report;
    struct pd_source *src;
    const struct pd_shape *shape;
    struct pd_target target;
    struct pd_arena a;
    struct pd_map labelers; /* name -> account id */
    int64_t workspace_id;
};

static enum pd_rc find_shape(struct importer *im, struct pd_err *err)
{
    struct json_object *row = NULL;
    const char *as = im->o->as;
    enum pd_rc rc = pd__source_first(im->src, &row, err);
    if (rc != PD_OK)
        return rc;
    if (!row)
        return PD_FAIL(err, PD_INVALID, "%s is empty", im->name);
    bool detect = !as || strcmp(as, "auto") == 0;
    for (size_t i = 0; i < pd__n_shapes && !im->shape; i++)
        if (detect ? pd__shapes[i].fits(row) : strcmp(pd__shapes[i].name, as) == 0)
            im->shape = &pd__shapes[i];
    if (!im->shape)
        return PD_FAIL(err, PD_USAGE, "no shape '%s'; there are %s", as, pd_import_shapes);
    im->report->shape = im->shape->name;
    return PD_OK;
}

/* An existing dataset by name (in the given workspace), or a new one of the shape's making. */
static enum pd_rc find_dataset(struct importer *im, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_dataset d = {0};
    struct pd_err quiet = {0};
    const char *name = im->o->dataset;
    char *full = im->o->workspace && !strchr(name, '/')
                     ? pd_arena_printf(&im->a, "%s/%s", im->o->workspace, name)
                     : pd_arena_strdup(&im->a, name);
    rc = pd_dataset_find(im->tx.db, &im->a, pd_str_from(full), &d, &quiet);
    if (rc == PD_NOTFOUND) {
        struct pd_import_options o = *im->o;
        struct pd_str rest = pd_str_from(full), workspace = {0};
        if (strchr(full, '/'))
            (void)pd_str_split(&rest, '/', &workspace);
        o.dataset = rest.ptr;
        PD_TRY(pd_workspace_default(im->tx.db, workspace, &im->workspace_id, err));
        PD_TRY(im->shape->create(im->tx.db, im->src, &o, im->workspace_id, &im->report->dataset_id,
                                 im->notes, err));
        im->report->created = true;
        if (im->o->publish)
            PD_TRY(pd_dataset_publish(im->tx.db, im->report->dataset_id, err));
    } else if (rc == PD_OK) {
        im->report->dataset_id = d.id;
        im->workspace_id = d.workspace_id;
    } else if (err) {
        *err = quiet;
    }
out:
    return rc;
}

static bool has_option(const struct pd_question *q, const char *name)
{
    for (size_t i = 0; i < q->n_options; i++)
        if (strcmp(q->options[i], name) == 0)
            return true;
    return false;
}

static enum pd_rc load_target(struct importer *im, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_target *t = &im->target;
    struct pd_db *db = im->tx.db;
    struct pd_dataset d = {0};
    t->dataset_id = im->report->dataset_id;
    t->without_judgments = im->o->without_judgments;
    PD_TRY(pd_dataset_get(db, &im->a, t->dataset_id, &d, err));
    t->allow_extra_metadata = d.allow_extra_metadata;
    PD_TRY(pd_part_list(db, &im->a, t->dataset_id, PD_PART_FIELD, &t->fields, &t->n_fields, err));
    PD_TRY(pd_part_list(db, &im->a, t->dataset_id, PD_PART_METADATA, &t->props, &t->n_props, err));
    PD_TRY(pd_question_load(db, &im->a, t->dataset_id, &t->questions, &t->n_questions, err));
    if (t->n_fields > PD_TARGET_MAX_FIELDS) {
        rc = PD_FAIL(err, PD_TOOBIG, "the dataset has %zu fields, imports take at most %d",
                     t->n_fields, PD_TARGET_MAX_FIELDS);
        goto out;
    }
    for (size_t i = 0; i < t->n_questions && !t->ranking; i++)
        if (t->questions[i].type == PD_QUESTION_RANKING)
            t->ranking = &t->questions[i];
    for (size_t i = 0; i < t->n_fields; i++) {
        const char *name = t->fields[i].name;
        if (t->ranking && has_option(t->ranking, name)) {
            if (t->n_answers < 26)
                t->answers[t->n_answers++] = name;
        } else if (!t->prompt || strcmp(name, "prompt") == 0) {
            t->prompt = name;
            t->prompt_chat = strstr(t->fields[i].settings, "\"chat\"") != NULL;
        }
    }
    if (!t->n_answers) /* ratings by position and the like: the fields that look like answers */
        for (size_t i = 0; i < t->n_fields && t->n_answers < 26; i++)
            if (pd_answer_like(t->fields[i].name))
                t->answers[t->n_answers++] = t->fields[i].name;
out:
    return rc;
}

/* ---- storing ---- */

/* The account of a labeler by name, made as a placeholder when there is none. */
static enum pd_rc labeler_id(struct importer *im, const char *name, int64_t *id, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_user u = {0};
    struct pd_err quiet = {0};
    if (pd_map_get(&im->labelers, pd_str_from(name), id))
        return PD_OK;
    rc = pd_user_by_name(im->tx.db, &im->a, pd_str_from(name), &u, &quiet);
    if (rc == PD_OK) {
        *id = u.id;
        fprintf(im->notes, "%s: judgments of '%s' go to the account of that name\n", im->name,
                name);
    } else if (rc == PD_NOTFOUND) {
        struct pd_user_new n = {.username = pd_str_from(name), .placeholder = true};
        PD_TRY(pd_user_create(im->tx.db, im->store, &n, id, err));
        PD_TRY(pd_workspace_add(im->tx.db, im->workspace_id, *id, err));
        im->report->labelers++;
        fprintf(im->notes,
                "%s: made placeholder account '%s' (`podium user password %s` lets them sign in)\n",
                im->name, name, name);
    } else {
        if (err)
            *err = quiet;
        return rc;
    }
    pd_map_put(&im->labelers, pd_str_from(name), *id);
out:
    return rc;
}

static struct pd_str json_of(struct json_object *o)
{
    return o ? pd_str_from(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
                                                                 JSON_C_TO_STRING_NOSLASHESCAPE))
             : (struct pd_str){0};
}

/* One labeler's answer; the questions are those loaded once for the file. */
static enum pd_rc store_answer(struct importer *im, const struct pd_item *it, size_t i,
                               int64_t record_id, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct pd_item_answer *a = &it->answers[i];
    const struct pd_target *t = &im->target;
    struct pd_response_result res;
    struct pd_buf values;
    struct pd_response_put put = {.record_id = record_id,
                                  .status = a->status,
                                  .shown = json_of(a->shown),
                                  .source = PD_STR("import"),
                                  .active_ms = a->active_ms,
                                  .at_us = a->at_us};
    pd_buf_init(&values, 0);
    PD_TRY(pd_answer_check(t->questions, t->n_questions, a->status, a->values, it->fields, &values,
                           err));
    PD_TRY(labeler_id(im, a->labeler, &put.user_id, err));
    for (size_t j = 0; j < i; j++)
        put.n += strcmp(it->answers[j].labeler, a->labeler) == 0;
    put.values = pd_buf_str(&values);
    PD_TRY(pd_response_put(im->tx.db, &put, &res, err));
    im->report->judgments += a->status == PD_ANSWER_SUBMITTED;
out:
    pd_buf_release(&values);
    return rc;
}

static enum pd_rc store_answers(struct importer *im, const struct pd_item *it, int64_t record_id,
                                struct pd_err *err)
{
    for (size_t i = 0; i < it->n_answers; i++) {
        enum pd_rc rc = store_answer(im, it, i, record_id, err);
        if (rc != PD_OK)
            return pd_err_prefix(err, "answer of %s", it->answers[i].labeler);
    }
    return PD_OK;
}

static enum pd_rc store_suggestions(struct importer *im, const struct pd_item *it,
                                    int64_t record_id, struct pd_err *err)
{
    for (size_t i = 0; i < it->n_suggestions; i++) {
        const struct pd_item_suggestion *s = &it->suggestions[i];
        const struct pd_question *q = pd_question_find(im->target.questions, im->target.n_questions,
                                                       pd_str_from(s->question));
        int64_t id = 0;
        struct pd_buf value;
        if (!q)
            return PD_FAIL(err, PD_INVALID, "suggestion for '%s', which is no question",
                           s->question);
        pd_buf_init(&value, 0);
        enum pd_rc rc = pd_value_check(q, s->value, false, it->fields, &value, err);
        if (rc == PD_OK) {
            struct pd_suggestion_new n = {.record_id = record_id,
                                          .question_id = q->id,
                                          .value = pd_buf_str(&value),
                                          .score = json_of(s->score),
                                          .type = PD_STR("model"),
                                          .agent = {*s->agent ? s->agent : NULL, strlen(s->agent)}};
            rc = pd_suggestion_put(im->tx.db, &n, &id, NULL, err);
        }
        pd_buf_release(&value);
        if (rc != PD_OK)
            return rc;
        im->report->suggestions++;
    }
    return PD_OK;
}

static enum pd_rc store_item(struct importer *im, const struct pd_item *it, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct pd_target *t = &im->target;
    bool found = false;
    int64_t id = 0;
    PD_TRY(pd_fields_check(t->fields, t->n_fields, it->fields, err));
    PD_TRY(pd_metadata_check(t->props, t->n_props, t->allow_extra_metadata, it->metadata, err));
    struct pd_record_new r = {
        .dataset_id = t->dataset_id,
        .external_id = {*it->external_id ? it->external_id : NULL, strlen(it->external_id)},
        .fields = json_of(it->fields),
        .metadata = json_of(it->metadata),
        .hidden = json_of(it->hidden)};
    if (r.external_id.ptr) {
        PD_TRY(pd_db_i64(im->tx.db, &id, &found, err,
                         "SELECT id FROM record WHERE dataset_id = ?1 AND external_id = ?2", "is",
                         t->dataset_id, r.external_id));
        if (found) {
            im->report->existing++;
            goto out;
        }
    }
    PD_TRY(pd_record_create(im->tx.db, &r, &id, err));
    PD_TRY(store_answers(im, it, id, err));
    PD_TRY(store_suggestions(im, it, id, err));
    im->report->records++;
    im->report->identical += it->identical;
    im->report->empty += it->empty;
out:
    return rc;
}

/* One row, wholly or not at all. */
static enum pd_rc import_row(struct importer *im, struct json_object *row, struct pd_item *it,
                             struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_import_report before = *im->report;
    PD_TRY(pd_db_script(im->tx.db, "SAVEPOINT import_row", err));
    rc = im->shape->read(&im->target, row, it, err);
    if (rc == PD_OK)
        rc = store_item(im, it, err);
    if (rc == PD_OK)
        return pd_db_script(im->tx.db, "RELEASE import_row", err);
    struct pd_err quiet;
    if (im->report->labelers > before.labelers) { /* an account made in this row is gone again */
        pd_map_release(&im->labelers);
        pd_map_init(&im->labelers);
    }
    *im->report = before;
    if (pd_db_script(im->tx.db, "ROLLBACK TO import_row; RELEASE import_row", &quiet) != PD_OK &&
        err)
        *err = quiet, rc = quiet.rc;
out:
    return rc;
}

static bool is_rows_fault(enum pd_rc rc)
{
    return rc == PD_INVALID || rc == PD_PARSE || rc == PD_TOOBIG;
}

static enum pd_rc import_rows(struct importer *im, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_item *it = pd_xalloc(sizeof *it);
    struct json_object *row = NULL;
    struct pd_err why = {0};
    for (;;) {
        rc = pd__source_next(im->src, &row, &why);
        if (rc == PD_OK && !row)
            break;
        im->report->rows++;
        if (rc == PD_OK) {
            rc = import_row(im, row, it, &why);
            pd__item_release(it);
            json_object_put(row);
            row = NULL;
        }
        if (rc == PD_OK)
            continue;
        if (!is_rows_fault(rc)) {
            if (err)
                *err = why;
            goto out;
        }
        if (++im->report->bad <= LISTED_BAD_ROWS)
            fprintf(im->notes, "%s: %s\n", pd__source_where(im->src), why.msg);
    }
    if (im->report->bad > LISTED_BAD_ROWS)
        fprintf(im->notes, "... and %lld more\n", (long long)(im->report->bad - LISTED_BAD_ROWS));
    if (im->report->bad && !im->o->skip_bad)
        rc = PD_FAIL(err, PD_INVALID,
                     "%lld of %lld rows in %s are bad; nothing was stored (--skip-bad leaves them "
                     "out)",
                     (long long)im->report->bad, (long long)im->report->rows, im->name);
out:
    pd_free(it);
    return rc;
}

static void say_what_was_seen(const struct importer *im)
{
    const struct pd_import_report *r = im->report;
    if (r->identical)
        fprintf(im->notes, "%s: %lld records have identical answers: nothing to prefer there\n",
                im->name, (long long)r->identical);
    if (r->empty)
        fprintf(im->notes, "%s: %lld records have an empty answer\n", im->name,
                (long long)r->empty);
    if (r->existing)
        fprintf(im->notes, "%s: %lld rows were left out: their id is there already\n", im->name,
                (long long)r->existing);
    if (r->bad)
        fprintf(im->notes, "%s: %lld bad rows were left out\n", im->name, (long long)r->bad);
}

enum pd_rc pd_import(struct pd_store *s, const struct pd_import_options *o, FILE *notes,
                     struct pd_import_report *report, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    *report = (struct pd_import_report){0};
    struct importer im = {
        .store = s, .o = o, .name = o->name ? o->name : o->path, .notes = notes, .report = report};
    pd_arena_init(&im.a);
    pd_map_init(&im.labelers);
    PD_TRY(pd__source_open(&im.src, o->path, im.name, err));
    PD_TRY(find_shape(&im, err));
    PD_TRY(pd_tx_begin(&im.tx, s, PD_TX_DURABLE, err));
    PD_TRY(find_dataset(&im, err));
    PD_TRY(load_target(&im, err));
    PD_TRY(import_rows(&im, err));
    PD_TRY(pd_tx_commit(&im.tx, err));
    say_what_was_seen(&im);
out:
    pd_tx_abandon(&im.tx);
    pd__source_close(im.src);
    pd_map_release(&im.labelers);
    pd_arena_release(&im.a);
    return rc;
}
