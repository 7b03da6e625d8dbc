/* /ui/: datasets and their settings, imports, exports and snapshots. */
#include "api/overview.h"
#include "api/ui_json.h"

#include "base/mem.h"
#include "pref/export.h"
#include "pref/import.h"
#include "pref/snapshot.h"
#include "pref/template.h"
#include "store/lookup.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ------------------------------------------------------------------ drawing a dataset */

static void write_options(struct pd_jw *w, struct json_object *settings)
{
    pd_jw_key(w, "options");
    pd_jw_tree(w, pd_json_get(settings, "options"));
}

static bool options_are_fields(const struct pd_question *q, const struct pd_part *fields, size_t n)
{
    size_t hits = 0;
    for (size_t i = 0; i < q->n_options; i++)
        for (size_t k = 0; k < n; k++)
            hits += strcmp(q->options[i], fields[k].name) == 0;
    return hits == q->n_options;
}

static void write_question(struct pd_jw *w, struct pd_arena *a, const struct pd_part *part,
                           const struct pd_question *q, const struct pd_part *fields,
                           size_t n_fields)
{
    struct json_object *settings = pd_ui_parse(a, part->settings);
    bool pair = pd_ui_is_pairwise(q) && options_are_fields(q, fields, n_fields);
    pd_jw_object(w);
    pd_jw_kstrz(w, "id", part->uuid);
    pd_jw_kstrz(w, "name", part->name);
    pd_jw_kstrz(w, "title", part->title);
    pd_jw_kstrz(w, "description", part->description);
    pd_jw_kbool(w, "required", part->required);
    pd_jw_kstrz(w, "type", pair ? "pairwise" : pd_question_type_name(q->type));
    pd_jw_key(w, "settings");
    pd_jw_object(w);
    switch (q->type) {
    case PD_QUESTION_RANKING:
        if (!pair) {
            write_options(w, settings);
            pd_jw_kbool(w, "partial", false);
        }
        pd_jw_kbool(w, "strength", q->strength);
        pd_jw_kbool(w, "both_bad", q->both_bad);
        break;
    case PD_QUESTION_RATING:
        pd_jw_key(w, "options");
        pd_jw_array(w);
        for (size_t i = 0; i < q->n_ratings; i++)
            pd_jw_i64(w, q->ratings[i]);
        pd_jw_array_end(w);
        break;
    case PD_QUESTION_LABEL:
    case PD_QUESTION_MULTI_LABEL:
    case PD_QUESTION_SPAN:
        write_options(w, settings);
        break;
    case PD_QUESTION_TEXT:
        pd_jw_kbool(w, "markdown", pd_json_bool(settings, "use_markdown", false));
        break;
    }
    pd_jw_object_end(w);
    pd_jw_object_end(w);
}

static void write_field(struct pd_jw *w, struct pd_arena *a, const struct pd_part *f)
{
    struct json_object *settings = pd_ui_parse(a, f->settings);
    struct pd_str type = pd_json_str(settings, "type");
    pd_jw_object(w);
    pd_jw_kstrz(w, "name", f->name);
    pd_jw_kstrz(w, "title", f->title);
    pd_jw_kstr(w, "type", type.len ? type : PD_STR("text"));
    pd_jw_kbool(w, "markdown", pd_json_bool(settings, "use_markdown", false));
    pd_jw_kbool(w, "required", f->required);
    pd_jw_object_end(w);
}

static const char *status_name(const struct pd_dataset *d)
{
    return d->status == PD_DATASET_READY ? "ready" : "draft";
}

static void write_names(struct pd_jw *w, const char *key, const char **names, size_t n)
{
    pd_jw_key(w, key);
    pd_jw_array(w);
    for (size_t i = 0; i < n; i++)
        pd_jw_strz(w, names[i]);
    pd_jw_array_end(w);
}

static void write_guidelines(struct pd_jw *w, const struct pd_dataset *d)
{
    pd_jw_object(w);
    pd_jw_ki64(w, "version", d->guideline_version);
    pd_jw_kstrz(w, "text", d->guidelines);
    pd_jw_object_end(w);
}

static enum pd_rc write_dataset(struct pd_req *req, struct pd_db *db, const struct pd_dataset *d,
                                int status, struct pd_err *err)
{
    struct pd_part *fields = NULL, *parts = NULL;
    struct pd_question *qs = NULL;
    const char **answers = NULL;
    size_t n_fields = 0, n_parts = 0, n_qs = 0, n_answers = 0;
    const struct pd_who *who = pd_who(req);
    int64_t tz = 0;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_query_i64(req, "tz", -1440, 1440, 0, &tz, err));
    PD_TRY(pd_part_list(db, &req->arena, d->id, PD_PART_FIELD, &fields, &n_fields, err));
    PD_TRY(pd_part_list(db, &req->arena, d->id, PD_PART_QUESTION, &parts, &n_parts, err));
    PD_TRY(pd_question_load(db, &req->arena, d->id, &qs, &n_qs, err));
    PD_TRY(pd_ui_answers(db, &req->arena, d->id, qs, n_qs, &answers, &n_answers, err));
    struct pd_jw *w = pd_resp_json(req, status);
    pd_jw_object(w);
    pd_jw_kstrz(w, "id", d->uuid);
    pd_jw_kstrz(w, "name", d->name);
    pd_jw_kstrz(w, "workspace", d->workspace);
    pd_jw_kstrz(w, "status", status_name(d));
    pd_jw_kbool(w, "lead", pd_policy_leads(db, who, d));
    pd_jw_key(w, "guidelines");
    write_guidelines(w, d);
    pd_jw_ki64(w, "min_submitted", d->min_submitted);
    pd_jw_key(w, "fields");
    pd_jw_array(w);
    for (size_t i = 0; i < n_fields; i++)
        write_field(w, &req->arena, &fields[i]);
    pd_jw_array_end(w);
    write_names(w, "answers", answers, n_answers);
    pd_jw_key(w, "questions");
    pd_jw_array(w);
    for (size_t i = 0; i < n_parts && i < n_qs; i++)
        write_question(w, &req->arena, &parts[i], &qs[i], fields, n_fields);
    pd_jw_array_end(w);
    pd_jw_key(w, "counts");
    PD_TRY(pd_ui_counts(w, req, db, d, tz, err));
    pd_jw_key(w, "mine");
    PD_TRY(pd_ui_mine(w, db, &req->arena, d->id, who->user.id, tz, err));
    pd_jw_object_end(w);
out:
    return rc;
}

static enum pd_rc show(struct pd_req *req, struct pd_err *err)
{
    struct pd_dataset d;
    struct pd_db *db;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_dataset(req, "id", PD_NEED_SEE, &d, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(write_dataset(req, db, &d, 200, err));
    pd_resp_etag(req);
out:
    return rc;
}

static int newest_first(const void *a, const void *b)
{
    int64_t x = ((const struct pd_dataset *)a)->last_activity_us;
    int64_t y = ((const struct pd_dataset *)b)->last_activity_us;
    return x < y ? 1 : x > y ? -1 : 0;
}

static enum pd_rc list(struct pd_req *req, struct pd_err *err)
{
    struct pd_dataset *ds = NULL;
    struct pd_db *db;
    size_t n = 0;
    int64_t tz = 0;
    const struct pd_who *who = pd_who(req);
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_query_i64(req, "tz", -1440, 1440, 0, &tz, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(
        pd_dataset_list(db, &req->arena, pd_policy_sees_all(who) ? 0 : who->user.id, &ds, &n, err));
    if (n)
        qsort(ds, n, sizeof *ds, newest_first);
    struct pd_jw *w = pd_resp_json(req, 200);
    pd_jw_object(w);
    pd_jw_key(w, "datasets");
    pd_jw_array(w);
    for (size_t i = 0; i < n; i++) {
        struct pd_question *qs = NULL;
        const char **answers = NULL;
        size_t n_qs = 0, n_answers = 0;
        PD_TRY(pd_question_load(db, &req->arena, ds[i].id, &qs, &n_qs, err));
        PD_TRY(pd_ui_answers(db, &req->arena, ds[i].id, qs, n_qs, &answers, &n_answers, err));
        pd_jw_object(w);
        pd_jw_kstrz(w, "id", ds[i].uuid);
        pd_jw_kstrz(w, "name", ds[i].name);
        pd_jw_kstrz(w, "workspace", ds[i].workspace);
        pd_jw_kstrz(w, "status", status_name(&ds[i]));
        pd_jw_kbool(w, "lead", pd_policy_leads(db, who, &ds[i]));
        write_names(w, "answers", answers, n_answers);
        pd_jw_key(w, "counts");
        PD_TRY(pd_ui_counts(w, req, db, &ds[i], tz, err));
        pd_jw_key(w, "mine");
        PD_TRY(pd_ui_mine(w, db, &req->arena, ds[i].id, who->user.id, tz, err));
        pd_jw_ktime(w, "updated_at", ds[i].last_activity_us);
        pd_jw_object_end(w);
    }
    pd_jw_array_end(w);
    pd_jw_object_end(w);
out:
    return rc;
}

/* ------------------------------------------------------------------ changing one */

struct guidelines {
    int64_t dataset_id, author_id;
    struct pd_str text;
};

static enum pd_rc write_new_guidelines(struct pd_db *db, void *arg, struct pd_err *err)
{
    struct guidelines *g = arg;
    return pd_dataset_set_guidelines(db, g->dataset_id, g->text, g->author_id, err);
}

static enum pd_rc set_guidelines(struct pd_req *req, struct pd_err *err)
{
    struct json_object *body;
    struct pd_dataset d;
    struct pd_db *db;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_json(req, &body, err));
    PD_TRY(pd_api_dataset(req, "id", PD_NEED_LEAD, &d, err));
    struct guidelines g = {d.id, pd_who(req)->user.id, pd_json_str(body, "text")};
    pd_api_read_end(req);
    PD_TRY(pd_store_write(pd_api_of(req)->store, PD_TX_DURABLE, write_new_guidelines, &g, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_dataset_get(db, &req->arena, d.id, &d, err));
    write_guidelines(pd_resp_json(req, 200), &d);
out:
    return rc;
}

struct creation {
    struct pd_template_options o;
    struct pd_str workspace;
    const struct pd_who *who;
    int64_t id;
};

static enum pd_rc write_creation(struct pd_db *db, void *arg, struct pd_err *err)
{
    struct creation *c = arg;
    enum pd_rc rc = pd_workspace_default(db, c->workspace, &c->o.workspace_id, err);
    if (rc == PD_OK)
        rc = pd_policy_lead_workspace(db, c->who, c->o.workspace_id, err);
    return rc == PD_OK ? pd_template_create(db, &c->o, &c->id, err) : rc;
}

static enum pd_rc create(struct pd_req *req, struct pd_err *err)
{
    struct json_object *body;
    struct pd_dataset d;
    struct pd_db *db;
    struct creation c = {.who = pd_who(req)};
    int status = 201;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_json(req, &body, err));
    PD_TRY(pd_api_client_id(body, &c.o.uuid, err));
    PD_TRY(pd_json_need_str(body, "name", &c.o.name, err));
    PD_TRY(pd_json_need_str(body, "template", &c.o.tmpl, err));
    if (!pd_str_eqz(c.o.tmpl, "pairwise") && !pd_str_eqz(c.o.tmpl, "ranking") &&
        !pd_str_eqz(c.o.tmpl, "rating")) {
        rc = PD_FAIL(err, PD_INVALID, "template must be pairwise, ranking or rating");
        goto out;
    }
    int64_t answers = pd_json_i64(body, "answers", 0);
    if (answers < 0 || answers > 26) {
        rc = PD_FAIL(err, PD_INVALID, "answers must be 2 to 26");
        goto out;
    }
    c.o.answers = (size_t)answers;
    c.o.author_id = c.who->user.id;
    c.o.publish = true;
    c.o.made_by = "ui";
    c.workspace = pd_json_str(body, "workspace");
    PD_TRY(pd_api_read(req, &db, err));
    rc = pd_dataset_by_uuid(db, &req->arena, c.o.uuid, &d, err);
    if (rc == PD_OK) { /* sent again */
        PD_TRY(pd_policy_lead(db, c.who, &d, err));
        status = 200;
        if (!pd_str_eqz(c.o.name, d.name)) {
            rc = PD_FAIL(err, PD_CONFLICT, "another dataset has this id already");
            goto out;
        }
    } else if (rc == PD_NOTFOUND) {
        if (!c.workspace.len && !pd_policy_sees_all(c.who)) { /* an admin's own first workspace */
            struct pd_workspace *ws = NULL;
            size_t n = 0;
            PD_TRY(pd_workspace_list(db, &req->arena, c.who->user.id, &ws, &n, err));
            c.workspace = n ? pd_str_from(ws[0].name) : c.workspace;
        }
        pd_api_read_end(req);
        PD_TRY(pd_store_write(pd_api_of(req)->store, PD_TX_DURABLE, write_creation, &c, err));
        PD_TRY(pd_api_read(req, &db, err));
        PD_TRY(pd_dataset_get(db, &req->arena, c.id, &d, err));
    } else {
        goto out;
    }
    PD_TRY(write_dataset(req, db, &d, status, err));
out:
    return rc;
}

/* ------------------------------------------------------------------ import and export */

/* Notes for people, line by line, at most 20. */
static void write_lines(struct pd_jw *w, const char *key, const char *text)
{
    struct pd_str rest = pd_str_from(text), line;
    pd_jw_key(w, key);
    pd_jw_array(w);
    for (int n = 0; n < 20 && pd_str_split(&rest, '\n', &line);) {
        line = pd_str_trim(line);
        if (line.len) {
            pd_jw_str(w, line);
            n++;
        }
    }
    pd_jw_array_end(w);
}

static enum pd_rc import(struct pd_req *req, struct pd_err *err)
{
    struct pd_dataset d;
    struct pd_import_report report = {0};
    char *text = NULL;
    size_t size = 0;
    int fd = -1;
    FILE *notes = open_memstream(&text, &size);
    enum pd_rc rc = PD_OK;
    if (!notes)
        return PD_FAIL(err, PD_NOMEM, "out of memory");
    PD_TRY(pd_api_dataset(req, "id", PD_NEED_LEAD, &d, err));
    PD_TRY(pd_req_body_fd(req, &fd, err));
    struct pd_str name = pd_req_query(req, "name");
    const struct pd_import_options o = {
        .dataset = d.uuid,
        .path = pd_arena_printf(&req->arena, "/proc/self/fd/%d", fd),
        .name = name.len ? pd_arena_strndup(&req->arena, name.ptr, name.len) : "upload",
        .skip_bad = true,
        .author_id = pd_who(req)->user.id};
    pd_api_read_end(req);
    rc = pd_import(pd_api_of(req)->store, &o, notes, &report, err);
    (void)fflush(notes);
    if (rc == PD_OK && report.records == 0 && report.existing == 0)
        rc = PD_FAIL(err, PD_INVALID, "nothing was imported from %s: %.300s", o.name, text);
    if (rc == PD_PARSE || rc == PD_USAGE)
        rc = err->rc = PD_INVALID; /* the request was well-formed, the file in it was not */
    PD_TRY(rc);
    struct pd_jw *w = pd_resp_json(req, 200);
    pd_jw_object(w);
    pd_jw_kstrz(w, "shape", report.shape);
    pd_jw_ki64(w, "records", report.records);
    pd_jw_ki64(w, "skipped", report.bad + report.existing);
    pd_jw_ki64(w, "judgments", report.judgments);
    write_lines(w, "errors", text);
    pd_jw_object_end(w);
out:
    (void)fclose(notes);
    free(text);
    return rc;
}

static enum pd_rc export(struct pd_req *req, struct pd_err *err) {
    struct pd_dataset d; struct pd_snapshot snap; struct pd_db * db; struct pd_export_report report;
    struct pd_export_options o = {.format = "trl"}; const char * names[1];
    FILE *out = NULL, *notes = NULL; enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_dataset(req, "id", PD_NEED_LEAD, &d, err));
    struct pd_str format = pd_req_query(req, "format"), split = pd_req_query(req, "split");
    struct pd_str snapshot = pd_req_query(req, "snapshot");
    if (format.len) o.format = pd_arena_strndup(&req->arena, format.ptr, format.len);
    if (split.len) o.split = pd_arena_strndup(&req->arena, split.ptr, split.len);
    if (!pd_export_format_known(o.format)){
        rc = PD_FAIL(err, PD_INVALID, "format must be one of %s", pd_export_formats); goto out;}
names[0] = d.uuid;
if (snapshot.len) {
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_snapshot_find(db, &req->arena, snapshot, &snap, err));
    if (snap.dataset_id != d.id) {
        rc = PD_FAIL(err, PD_NOTFOUND, "this dataset has no such snapshot");
        goto out;
    }
    names[0] = snap.hash;
}
pd_api_read_end(req);
pd_resp_stream(req, 200,
               strcmp(o.format, "csv") == 0 ? "text/csv; charset=utf-8" : "application/x-ndjson");
char safe[64];
size_t k = 0;
for (const char *p = d.name; *p && k < sizeof safe - 1; p++)
    safe[k++] =
        (*p >= '0' && *p <= '9') || (*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z') ? *p : '-';
safe[k] = '\0';
pd_resp_header(req, "Content-Disposition",
               pd_arena_printf(&req->arena, "attachment; filename=\"%s-%s.%s\"", safe, o.format,
                               strcmp(o.format, "csv") == 0 ? "csv" : "jsonl"));
out = pd_resp_stream_file(req);
notes = fopen("/dev/null", "we");
if (!out || !notes) {
    rc = PD_FAIL_SYS(err, PD_IO, "cannot open a stream");
    goto out;
}
PD_TRY(pd_export(pd_api_of(req)->store, names, 1, &o, out, notes, &report, err));
if (fflush(out) != 0)
    rc = PD_FAIL(err, PD_IO, "the client closed the connection");
out : if (out)(void) fclose(out);
if (notes)
    (void)fclose(notes);
return rc;
}

static enum pd_rc export_formats(struct pd_req *req, struct pd_err *err)
{
    static const struct {
        const char *name, *title;
    } titles[] = {{"trl", "Preference pairs (TRL)"},
                  {"trl-unpaired", "Single answers with a label (TRL)"},
                  {"hh", "Whole transcripts, chosen and rejected (HH)"},
                  {"raw", "Every judgment as it was made"},
                  {"csv", "Table, one judgment a row"}};
    struct pd_str rest = pd_str_from(pd_export_formats), name;
    (void)err;
    struct pd_jw *w = pd_resp_json(req, 200);
    pd_jw_object(w);
    pd_jw_key(w, "formats");
    pd_jw_array(w);
    while (pd_str_split(&rest, '|', &name)) {
        struct pd_str title = name;
        for (size_t i = 0; i < sizeof titles / sizeof titles[0]; i++)
            if (pd_str_eqz(name, titles[i].name))
                title = pd_str_from(titles[i].title);
        pd_jw_object(w);
        pd_jw_kstr(w, "name", name);
        pd_jw_kstr(w, "title", title);
        pd_jw_kstrz(w, "extension", pd_str_eqz(name, "csv") ? "csv" : "jsonl");
        pd_jw_object_end(w);
    }
    pd_jw_array_end(w);
    pd_jw_object_end(w);
    return PD_OK;
}

static enum pd_rc pairs(struct pd_req *req, struct pd_err *err)
{
    struct pd_dataset d;
    struct pd_db *db;
    struct pd_counts c = {0};
    struct pd_export_report r = {0};
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_dataset(req, "id", PD_NEED_LEAD, &d, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_dataset_counts(db, d.id, &c, err));
    pd_api_read_end(req);
    PD_TRY(pd_overview_pairs(pd_api_of(req), d.uuid, &r, err));
    struct pd_jw *w = pd_resp_json(req, 200);
    pd_jw_object(w);
    pd_jw_ki64(w, "judgments", r.judgments);
    pd_jw_ki64(w, "pairs", r.rows);
    pd_jw_ki64(w, "ties", r.ties);
    pd_jw_ki64(w, "both_bad", r.both_bad);
    pd_jw_ki64(w, "conflicting", pd_overview_conflicts(pd_api_of(req), d.id));
    pd_jw_ki64(w, "discarded", c.discarded);
    pd_jw_ki64(w, "prompts", r.records - r.unjudged);
    pd_jw_object_end(w);
out:
    return rc;
}

/* ------------------------------------------------------------------ snapshots */

static enum pd_rc write_snapshot(struct pd_jw *w, struct pd_req *req, const struct pd_snapshot *s,
                                 struct pd_err *err)
{
    struct json_object *counts = pd_ui_parse(&req->arena, s->counts);
    struct pd_export_report r = {0};
    enum pd_rc rc = pd_overview_pairs(pd_api_of(req), s->hash, &r, err);
    if (rc != PD_OK)
        return rc;
    pd_jw_object(w);
    pd_jw_kstrz(w, "id", s->uuid);
    pd_jw_kstrz(w, "hash", s->hash);
    pd_jw_kstrz(w, "name", s->name);
    pd_jw_ktime(w, "created_at", s->created_us);
    pd_jw_ki64(w, "records", pd_json_i64(counts, "records", r.records));
    pd_jw_ki64(w, "pairs", r.rows);
    pd_jw_ki64(w, "ties", r.ties);
    pd_jw_ki64(w, "both_bad", r.both_bad);
    struct json_object *splits = pd_json_get(counts, "splits");
    pd_jw_key(w, "splits");
    if (splits) {
        pd_jw_tree(w, splits);
    } else {
        pd_jw_object(w);
        pd_jw_object_end(w);
    }
    pd_jw_object_end(w);
    return PD_OK;
}

static enum pd_rc list_snapshots(struct pd_req *req, struct pd_err *err)
{
    struct pd_dataset d;
    struct pd_db *db;
    struct pd_snapshot *list_ = NULL;
    size_t n = 0;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_dataset(req, "id", PD_NEED_LEAD, &d, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_snapshot_list(db, &req->arena, d.id, &list_, &n, err));
    pd_api_read_end(req);
    struct pd_jw *w = pd_resp_json(req, 200);
    pd_jw_object(w);
    pd_jw_key(w, "snapshots");
    pd_jw_array(w);
    for (size_t i = 0; i < n; i++)
        PD_TRY(write_snapshot(w, req, &list_[i], err));
    pd_jw_array_end(w);
    pd_jw_object_end(w);
out:
    return rc;
}

static enum pd_rc make_snapshot(struct pd_req *req, struct pd_err *err)
{
    struct json_object *body;
    struct pd_dataset d;
    struct pd_snapshot s;
    struct pd_split splits[8];
    size_t n = 0;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_json(req, &body, err));
    PD_TRY(pd_api_dataset(req, "id", PD_NEED_LEAD, &d, err));
    struct json_object *split = pd_json_get(body, "split");
    if (json_object_is_type(split, json_type_object)) {
        json_object_object_foreach(split, name, share)
        {
            double v = json_object_get_double(share);
            if (n == 8 || !(v > 0 && v <= 1)) {
                rc =
                    PD_FAIL(err, PD_INVALID, "split: at most 8 shares, each above 0 and at most 1");
                goto out;
            }
            splits[n++] = (struct pd_split){name, v};
        }
    }
    pd_api_read_end(req);
    PD_TRY(pd_snapshot_make(pd_api_of(req)->store, &req->arena, d.id, splits, n, &s, err));
    PD_TRY(write_snapshot(pd_resp_json(req, 201), req, &s, err));
out:
    return rc;
}

/* ------------------------------------------------------------------ records behind the numbers */

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
    {PD_GET, "/ui/datasets", list, PD_MAY_USER, PD_DOOR_UI, 0, 0, "datasets I may see"},
    {PD_POST, "/ui/datasets", create, PD_MAY_LEAD, PD_DOOR_UI, PD_BODY_SMALL, 0, "make one"},
    {PD_GET, "/ui/datasets/{id}", show, PD_MAY_USER, PD_DOOR_UI, 0, 0, "one dataset"},
    {PD_PUT, "/ui/datasets/{id}/guidelines", set_guidelines, PD_MAY_LEAD, PD_DOOR_UI, PD_BODY_JSON,
     0, "a new version of the guidelines"},
    {PD_POST, "/ui/datasets/{id}/import", import, PD_MAY_LEAD, PD_DOOR_UI, (size_t)4 << 30,
     PD_ROUTE_SPOOL | PD_ROUTE_STREAM, "import a file"},
    {PD_GET, "/ui/datasets/{id}/records", records, PD_MAY_LEAD, PD_DOOR_UI, 0, 0,
     "the records behind the numbers"},
    {PD_GET, "/ui/datasets/{id}/pairs", pairs, PD_MAY_LEAD, PD_DOOR_UI, 0, PD_ROUTE_STREAM,
     "what an export would hold"},
    {PD_GET, "/ui/datasets/{id}/export", export, PD_MAY_LEAD, PD_DOOR_UI, 0, PD_ROUTE_STREAM,
     "download"},
    {PD_GET, "/ui/export-formats", export_formats, PD_MAY_USER, PD_DOOR_UI, 0, 0, "formats"},
    {PD_GET, "/ui/datasets/{id}/snapshots", list_snapshots, PD_MAY_LEAD, PD_DOOR_UI, 0,
     PD_ROUTE_STREAM, "snapshots"},
    {PD_POST, "/ui/datasets/{id}/snapshots", make_snapshot, PD_MAY_LEAD, PD_DOOR_UI, PD_BODY_SMALL,
     PD_ROUTE_STREAM, "freeze and hash"},
};
PD_ROUTE_TABLE(pd_routes_dataset, rows);
