/* /ui/: what goes into a dataset and comes out: imports, exports, snapshots. */
#include "api/overview.h"
#include "api/ui_json.h"

#include "pref/import.h"
#include "pref/snapshot.h"

#include <stdio.h>
#include <stdlib.h>

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

static const struct pd_route rows[] = {
    {PD_POST, "/ui/datasets/{id}/import", import, PD_MAY_LEAD, PD_DOOR_UI, (size_t)4 << 30,
     PD_ROUTE_SPOOL | PD_ROUTE_STREAM, "import a file"},
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
PD_ROUTE_TABLE(pd_routes_data, rows);
