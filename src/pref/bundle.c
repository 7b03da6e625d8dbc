/* Bundles from a dataset or a snapshot file. Both go through the same line of text, so that an
 * export of a dataset and one of its snapshot read exactly the same. */
#include "pref/bundle.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/time.h"
#include "pref/snapshot.h"
#include "store/record.h"

enum { PAGE = 256 };

struct pd_bundles {
    struct pd_bundle_head head;
    struct pd_arena a; /* the head's */

    struct pd_store *store; /* a dataset */
    struct pd_db *db;
    int64_t dataset_id, after_id;
    struct pd_arena page_arena;
    struct pd_record *records;
    struct pd_response *responses;
    size_t n_records, n_responses, at_record, at_response;
    struct pd_buf line;

    struct pd_lines *lines; /* a file */
    const char *split;

    struct pd_arena row_arena;
    struct json_object *row;
};

static struct pd_bundles *new_bundles(void)
{
    struct pd_bundles *b = pd_xalloc(sizeof *b);
    pd_arena_init(&b->a);
    pd_arena_init(&b->page_arena);
    pd_arena_init(&b->row_arena);
    pd_buf_init(&b->line, 0);
    return b;
}

void pd_bundles_close(struct pd_bundles *b)
{
    if (!b)
        return;
    if (b->db)
        pd_read_end(b->store, b->db);
    pd_lines_close(b->lines);
    json_object_put(b->row);
    pd_buf_release(&b->line);
    pd_arena_release(&b->row_arena);
    pd_arena_release(&b->page_arena);
    pd_arena_release(&b->a);
    pd_free(b);
}

const struct pd_bundle_head *pd_bundles_head(const struct pd_bundles *b)
{
    return &b->head;
}

/* ---- from a dataset ---- */

enum pd_rc pd_bundles_open_dataset(struct pd_bundles **out, struct pd_store *s, int64_t dataset_id,
                                   struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_bundles *b = new_bundles();
    struct pd_dataset d = {0};
    b->store = s;
    b->dataset_id = dataset_id;
    PD_TRY(pd_read_begin(s, &b->db, err));
    PD_TRY(pd_dataset_get(b->db, &b->a, dataset_id, &d, err));
    b->head.dataset = d.name;
    b->head.guidelines = d.guidelines;
    PD_TRY(
        pd_question_load(b->db, &b->a, dataset_id, &b->head.questions, &b->head.n_questions, err));
    PD_TRY(pd_part_list(b->db, &b->a, dataset_id, PD_PART_FIELD, &b->head.fields, &b->head.n_fields,
                        err));
    *out = b;
    b = NULL;
out:
    pd_bundles_close(b);
    return rc;
}

static void write_said(struct pd_jw *w, const struct pd_response *p)
{
    char at[32];
    pd_time_format(p->updated_us, at);
    pd_jw_object(w);
    pd_jw_kstrz(w, "labeler", p->username);
    pd_jw_kstrz(w, "status", pd_answer_status_name(p->status));
    pd_jw_key(w, "values");
    pd_jw_raw(w, pd_str_from(p->values));
    if (p->shown) {
        pd_jw_key(w, "shown");
        pd_jw_raw(w, pd_str_from(p->shown));
    }
    if (p->notes) {
        pd_jw_key(w, "notes");
        pd_jw_raw(w, pd_str_from(p->notes));
    }
    pd_jw_kf64(w, "seconds", (double)p->active_ms / 1000);
    pd_jw_ki64(w, "guideline", p->guideline_version);
    pd_jw_kstrz(w, "at", at);
    if (p->surplus)
        pd_jw_kbool(w, "surplus", true);
    pd_jw_object_end(w);
}

static enum pd_rc write_record(struct pd_jw *w, const struct pd_record *r, struct pd_err *err)
{
    pd_jw_kstrz(w, "record", r->uuid);
    if (r->external_id)
        pd_jw_kstrz(w, "external_id", r->external_id);
    pd_jw_key(w, "fields");
    pd_jw_raw(w, pd_str_from(r->fields));
    pd_jw_key(w, "metadata");
    pd_jw_raw(w, pd_str_from(r->metadata));
    if (!r->hidden)
        return PD_OK;
    struct json_object *hidden = NULL;
    enum pd_rc rc = pd_json_parse(pd_str_from(r->hidden), &hidden, err);
    if (rc == PD_OK && pd_json_get(hidden, "models")) {
        pd_jw_key(w, "models");
        pd_jw_tree(w, pd_json_get(hidden, "models"));
    }
    json_object_put(hidden);
    return rc;
}

static enum pd_rc load_page(struct pd_bundles *b, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    pd_arena_release(&b->page_arena);
    pd_arena_init(&b->page_arena);
    b->at_record = b->at_response = b->n_records = b->n_responses = 0;
    PD_TRY(pd_record_page(b->db, &b->page_arena, b->dataset_id, b->after_id, PAGE, &b->records,
                          &b->n_records, err));
    if (!b->n_records)
        goto out;
    int64_t first = b->records[0].id, last = b->records[b->n_records - 1].id;
    b->after_id = last;
    PD_TRY(pd_response_list(b->db, &b->page_arena, b->dataset_id, first, last, 0, &b->responses,
                            &b->n_responses, err));
out:
    return rc;
}

/* The next record that someone submitted or discarded, as a line; empty at the end. */
static enum pd_rc dataset_line(struct pd_bundles *b, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    for (;;) {
        if (b->at_record == b->n_records) {
            PD_TRY(load_page(b, err));
            pd_buf_clear(&b->line);
            if (!b->n_records)
                goto out;
        }
        const struct pd_record *r = &b->records[b->at_record++];
        bool said = false;
        struct pd_jw w;
        pd_buf_clear(&b->line);
        pd_jw_init(&w, &b->line);
        pd_jw_object(&w);
        size_t begin = b->at_response;
        while (b->at_response < b->n_responses && b->responses[b->at_response].record_id == r->id)
            said = said || b->responses[b->at_response].status != PD_ANSWER_DRAFT, b->at_response++;
        if (!said)
            continue;
        PD_TRY(write_record(&w, r, err));
        pd_jw_key(&w, "judgments");
        pd_jw_array(&w);
        for (size_t i = begin; i < b->at_response; i++)
            if (b->responses[i].status != PD_ANSWER_DRAFT)
                write_said(&w, &b->responses[i]);
        pd_jw_array_end(&w);
        pd_jw_object_end(&w);
        break;
    }
out:
    return rc;
}

void pd_bundles_write_head(const struct pd_bundles *b, struct pd_str splits, struct pd_buf *out)
{
    struct pd_jw w;
    struct pd_arena a;
    struct pd_part *qs = NULL;
    size_t n = 0;
    struct pd_err err;
    pd_arena_init(&a);
    if (pd_part_list(b->db, &a, b->dataset_id, PD_PART_QUESTION, &qs, &n, &err) != PD_OK)
        n = 0;
    pd_jw_init(&w, out);
    pd_jw_object(&w);
    pd_jw_kstrz(&w, "podium", "snapshot");
    pd_jw_ki64(&w, "version", 1);
    pd_jw_kstrz(&w, "guidelines", b->head.guidelines);
    for (int kind = 0; kind < 2; kind++) {
        const struct pd_part *parts = kind ? qs : b->head.fields;
        size_t len = kind ? n : b->head.n_fields;
        pd_jw_key(&w, kind ? "questions" : "fields");
        pd_jw_array(&w);
        for (size_t i = 0; i < len; i++) {
            pd_jw_object(&w);
            pd_jw_kstrz(&w, "name", parts[i].name);
            pd_jw_kstrz(&w, "title", parts[i].title);
            pd_jw_kbool(&w, "required", parts[i].required);
            pd_jw_key(&w, "settings");
            pd_jw_raw(&w, pd_str_from(parts[i].settings));
            pd_jw_object_end(&w);
        }
        pd_jw_array_end(&w);
    }
    pd_jw_key(&w, "splits");
    pd_jw_raw(&w, splits);
    pd_jw_object_end(&w);
    pd_arena_release(&a);
}

/* ---- from a file ---- */

static struct pd_part *read_parts(struct json_object *list, struct pd_arena *a, size_t *n)
{
    *n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
    struct pd_part *parts = pd_arena_alloc(a, (*n + 1) * sizeof *parts);
    for (size_t i = 0; i < *n; i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        struct pd_str name = pd_json_str(o, "name"), title = pd_json_str(o, "title");
        const char *settings = json_object_to_json_string_ext(
            pd_json_get(o, "settings"), JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
        parts[i] =
            (struct pd_part){.name = pd_arena_strndup(a, name.ptr ? name.ptr : "", name.len),
                             .title = pd_arena_strndup(a, title.ptr ? title.ptr : "", title.len),
                             .required = pd_json_bool(o, "required", false),
                             .settings = pd_arena_strdup(a, settings)};
    }
    return parts;
}

static enum pd_rc read_head(struct pd_bundles *b, struct json_object *tree, struct pd_err *err)
{
    size_t n = 0;
    struct pd_str guidelines = pd_json_str(tree, "guidelines");
    if (!pd_str_eqz(pd_json_str(tree, "podium"), "snapshot") ||
        pd_json_i64(tree, "version", 0) != 1)
        return PD_FAIL(err, PD_INVALID, "not a snapshot of this version of podium");
    if (guidelines.ptr)
        b->head.guidelines = pd_arena_strndup(&b->a, guidelines.ptr, guidelines.len);
    b->head.fields = read_parts(pd_json_get(tree, "fields"), &b->a, &b->head.n_fields);
    struct pd_part *qs = read_parts(pd_json_get(tree, "questions"), &b->a, &n);
    b->head.questions = pd_arena_alloc(&b->a, (n + 1) * sizeof *b->head.questions);
    for (size_t i = 0; i < n; i++) {
        enum pd_rc rc = pd_question_parse(&b->a, &qs[i], &b->head.questions[i], err);
        if (rc != PD_OK)
            return rc;
    }
    b->head.n_questions = n;
    return PD_OK;
}

enum pd_rc pd_bundles_open_file(struct pd_bundles **out, const char *path, const char *split,
                                struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_bundles *b = new_bundles();
    struct json_object *head = NULL;
    struct pd_str line = {0};
    bool more = false;
    PD_TRY(pd_lines_open(&b->lines, path, (size_t)256 << 20, err));
    PD_TRY(pd_lines_next(b->lines, &line, &more, err));
    PD_TRY(more ? pd_json_parse(line, &head, err) : PD_FAIL(err, PD_INVALID, "%s is empty", path));
    rc = read_head(b, head, err);
    if (rc == PD_OK && split && !pd_json_get(pd_json_get(head, "splits"), split))
        rc = PD_FAIL(
            err, PD_NOTFOUND, "the snapshot has no split '%s'; it has %s", split,
            json_object_to_json_string_ext(pd_json_get(head, "splits"), JSON_C_TO_STRING_PLAIN));
    PD_TRY(rc);
    b->split = split ? pd_arena_strdup(&b->a, split) : NULL;
    *out = b;
    b = NULL;
out:
    json_object_put(head);
    pd_bundles_close(b);
    return rc;
}

enum pd_rc pd_bundles_open(struct pd_bundles **out, struct pd_store *s, const char *name,
                           const char *split, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_arena a;
    struct pd_db *db = NULL;
    struct pd_dataset d = {0};
    struct pd_snapshot snap = {0};
    struct pd_err quiet = {0};
    pd_arena_init(&a);
    PD_TRY(pd_read_begin(s, &db, err));
    enum pd_rc is_dataset = pd_dataset_find(db, &a, pd_str_from(name), &d, &quiet);
    enum pd_rc is_snapshot =
        is_dataset == PD_OK ? PD_NOTFOUND : pd_snapshot_find(db, &a, pd_str_from(name), &snap, err);
    pd_read_end(s, db);
    db = NULL;
    if (is_snapshot == PD_OK) {
        rc = pd_bundles_open_file(out, pd_snapshot_path(s, &a, snap.hash), split, err);
    } else if (is_dataset == PD_OK && split) {
        rc = PD_FAIL(err, PD_USAGE,
                     "splits belong to snapshots: `podium snapshot create %s --split ...`, then "
                     "export that",
                     name);
    } else if (is_dataset == PD_OK) {
        rc = pd_bundles_open_dataset(out, s, d.id, err);
    } else if (is_dataset == PD_NOTFOUND) {
        rc = PD_FAIL(err, PD_NOTFOUND,
                     "no dataset or snapshot '%s'; `podium dataset list` and `podium snapshot "
                     "list` name them",
                     name);
    } else {
        rc = is_dataset;
        if (err)
            *err = quiet;
    }
out:
    pd_read_end(s, db);
    pd_arena_release(&a);
    return rc;
}

/* ---- reading ---- */

enum pd_rc pd_bundles_next_line(struct pd_bundles *b, struct pd_str *line, bool *more,
                                struct pd_err *err)
{
    if (b->lines)
        return pd_lines_next(b->lines, line, more, err);
    enum pd_rc rc = dataset_line(b, err);
    *line = pd_buf_str(&b->line);
    *more = b->line.len > 0;
    return rc;
}

void pd_bundles_rewind(struct pd_bundles *b)
{
    PD_ASSERT(b->db);
    b->after_id = 0;
    b->at_record = b->n_records = 0;
}

static const char *dup_str(struct pd_arena *a, struct json_object *o, const char *key)
{
    struct pd_str s = pd_json_str(o, key);
    return s.ptr ? pd_arena_strndup(a, s.ptr, s.len) : NULL;
}

enum pd_rc pd_bundle_read(struct json_object *line, struct pd_arena *a, struct pd_bundle *out,
                          struct pd_err *err)
{
    struct json_object *list = pd_json_get(line, "judgments");
    size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
    *out = (struct pd_bundle){.record = dup_str(a, line, "record"),
                              .external_id = dup_str(a, line, "external_id"),
                              .split = dup_str(a, line, "split"),
                              .fields = pd_json_get(line, "fields"),
                              .metadata = pd_json_get(line, "metadata"),
                              .models = pd_json_get(line, "models"),
                              .said = pd_arena_alloc(a, (n + 1) * sizeof(struct pd_said)),
                              .n_said = n};
    if (!out->record || !out->fields)
        return PD_FAIL(err, PD_INVALID, "a snapshot line has no record or no fields");
    for (size_t i = 0; i < n; i++) {
        struct json_object *j = json_object_array_get_idx(list, i);
        struct pd_said *s = &out->said[i];
        *s = (struct pd_said){.labeler = dup_str(a, j, "labeler"),
                              .values = pd_json_get(j, "values"),
                              .shown = pd_json_get(j, "shown"),
                              .notes = pd_json_get(j, "notes"),
                              .seconds = pd_json_f64(j, "seconds", 0),
                              .guideline = pd_json_i64(j, "guideline", 0),
                              .at = dup_str(a, j, "at"),
                              .surplus = pd_json_bool(j, "surplus", false)};
        if (!s->labeler || !pd_answer_status_parse(pd_json_str(j, "status"), &s->status))
            return PD_FAIL(err, PD_INVALID, "a judgment has no labeler or no known status");
    }
    return PD_OK;
}

enum pd_rc pd_bundles_next(struct pd_bundles *b, struct pd_bundle *out, bool *more,
                           struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_str line = {0};
    for (;;) {
        json_object_put(b->row);
        b->row = NULL;
        PD_TRY(pd_bundles_next_line(b, &line, more, err));
        if (!*more)
            goto out;
        PD_TRY(pd_json_parse(line, &b->row, err));
        if (!b->split || pd_str_eqz(pd_json_str(b->row, "split"), b->split))
            break;
    }
    pd_arena_release(&b->row_arena);
    pd_arena_init(&b->row_arena);
    PD_TRY(pd_bundle_read(b->row, &b->row_arena, out, err));
out:
    return rc;
}
