/* Import, export and snapshots. */
#include "api/op_int.h"
#include "base/mem.h"
#include "pref/export.h"
#include "pref/import.h"
#include "pref/snapshot.h"

static char *arg(struct pd_op_call *c, struct pd_arena *a, const char *key)
{
    struct pd_str s = pd_json_str(c->args, key);
    return s.ptr ? pd_arena_strndup(a, s.ptr, s.len) : NULL;
}

enum pd_rc pd_op_import(struct pd_op_call *c, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_arena a;
    struct pd_import_report r = {0};
    struct pd_buf out;
    struct pd_str name;
    struct pd_jw w;
    pd_arena_init(&a);
    pd_buf_init(&out, 0);
    PD_TRY(pd_json_need_str(c->args, "dataset", &name, err));
    struct pd_import_options o = {.dataset = pd_arena_strndup(&a, name.ptr, name.len),
                                  .workspace = arg(c, &a, "workspace"),
                                  .as = arg(c, &a, "as"),
                                  .path = c->in_path,
                                  .name = c->in_name,
                                  .skip_bad = pd_json_bool(c->args, "skip_bad", false),
                                  .without_judgments =
                                      pd_json_bool(c->args, "without_judgments", false),
                                  .publish = pd_json_bool(c->args, "publish", true),
                                  .min_submitted = pd_json_i64(c->args, "overlap", 1),
                                  .author_id = c->user_id};
    if (!o.path) {
        rc = PD_FAIL(err, PD_USAGE, "no file to import");
        goto out;
    }
    PD_TRY(pd_import(c->store, &o, c->notes, &r, err));
    if (pd__op_json(c)) {
        pd_jw_init(&w, &out);
        pd_jw_object(&w);
        pd_jw_kstrz(&w, "dataset", o.dataset);
        pd_jw_kstrz(&w, "shape", r.shape);
        pd_jw_kbool(&w, "created", r.created);
        pd_jw_ki64(&w, "rows", r.rows);
        pd_jw_ki64(&w, "records", r.records);
        pd_jw_ki64(&w, "judgments", r.judgments);
        pd_jw_ki64(&w, "suggestions", r.suggestions);
        pd_jw_ki64(&w, "bad", r.bad);
        pd_jw_ki64(&w, "existing", r.existing);
        pd_jw_ki64(&w, "identical", r.identical);
        pd_jw_ki64(&w, "empty", r.empty);
        pd_jw_object_end(&w);
    } else {
        pd_buf_addf(&out, "%s: %s, %lld records", c->in_name ? c->in_name : c->in_path, r.shape,
                    (long long)r.records);
        if (r.judgments)
            pd_buf_addf(&out, " with %lld judgments", (long long)r.judgments);
        pd_buf_addf(&out, " into %s%s", r.created ? "new dataset " : "", o.dataset);
    }
    PD_TRY(pd__op_line(c, &out, err));
out:
    pd_buf_release(&out);
    pd_arena_release(&a);
    return rc;
}

enum pd_rc pd_op_export(struct pd_op_call *c, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_arena a;
    struct pd_export_report r = {0};
    struct json_object *names = pd_json_get(c->args, "names");
    size_t n = json_object_is_type(names, json_type_array) ? json_object_array_length(names) : 0;
    pd_arena_init(&a);
    const char **list = pd_arena_alloc(&a, (n + 1) * sizeof *list);
    char *format = arg(c, &a, "format");
    struct pd_export_options o = {.format = format ? format : "trl",
                                  .split = arg(c, &a, "split"),
                                  .question = arg(c, &a, "question"),
                                  .all_votes = pd_json_bool(c->args, "all_votes", false),
                                  .margin = pd_json_bool(c->args, "margin", false),
                                  .min_votes = pd_json_i64(c->args, "min_votes", 1),
                                  .min_margin = pd_json_f64(c->args, "min_margin", 0)};
    for (size_t i = 0; i < n; i++) {
        struct pd_str s = pd_json_value_str(json_object_array_get_idx(names, i));
        list[i] = pd_arena_strndup(&a, s.ptr ? s.ptr : "", s.len);
    }
    bool json = pd__op_json(c);
    rc = n ? pd_export(c->store, list, n, &o, c->out, json ? NULL : c->notes, &r, err)
           : PD_FAIL(err, PD_USAGE, "nothing to export: name a dataset or a snapshot");
    if (rc == PD_OK)
        rc = pd__op_flush(c, err);
    if (rc == PD_OK && json) {
        struct pd_buf text;
        struct pd_jw w;
        pd_buf_init(&text, 0);
        pd_jw_init(&w, &text);
        pd_export_report_write(&r, &w);
        fprintf(c->notes, "%s\n", pd_buf_cstr(&text));
        pd_buf_release(&text);
    }
    pd_arena_release(&a);
    return rc;
}

/* ---- snapshots ---- */

static void write_snapshot(const struct pd_snapshot *s, bool json, struct pd_jw *w,
                           struct pd_buf *out)
{
    char when[32];
    if (!json) {
        pd_buf_addf(out, "%s  %.12s  %s  %s  splits %s", s->name, s->hash,
                    pd__op_when(s->created_us, when), s->counts, s->splits);
        return;
    }
    pd_jw_object(w);
    pd_jw_kstrz(w, "snapshot", s->name);
    pd_jw_kstrz(w, "hash", s->hash);
    pd_jw_kstrz(w, "id", s->uuid);
    pd_jw_kstrz(w, "created", pd__op_when(s->created_us, when));
    pd_jw_key(w, "shares");
    pd_jw_raw(w, pd_str_from(s->splits));
    pd_jw_key(w, "counts");
    pd_jw_raw(w, pd_str_from(s->counts));
    pd_jw_object_end(w);
}

enum pd_rc pd_op_snapshot_create(struct pd_op_call *c, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_db *db = NULL;
    struct pd_arena a;
    struct pd_dataset d;
    struct pd_split *splits = NULL;
    struct pd_snapshot s = {0};
    struct pd_str text = pd_json_str(c->args, "split");
    struct pd_buf out;
    struct pd_jw w;
    size_t n = 0;
    pd_arena_init(&a);
    pd_buf_init(&out, 0);
    pd_jw_init(&w, &out);
    PD_TRY(pd_read_begin(c->store, &db, err));
    PD_TRY(pd__op_dataset(c, db, &a, &d, err));
    pd_read_end(c->store, db);
    db = NULL;
    if (text.len)
        PD_TRY(pd_splits_parse(&a, text, &splits, &n, err));
    PD_TRY(pd_snapshot_make(c->store, &a, d.id, splits, n, &s, err));
    write_snapshot(&s, pd__op_json(c), &w, &out);
    PD_TRY(pd__op_line(c, &out, err));
out:
    pd_read_end(c->store, db);
    pd_buf_release(&out);
    pd_arena_release(&a);
    return rc;
}

static enum pd_rc list(struct pd__op *op, void *arg, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_dataset d = {0};
    struct pd_snapshot *s = NULL;
    size_t n = 0;
    (void)arg;
    if (pd_json_get(op->c->args, "dataset"))
        PD_TRY(pd__op_dataset(op->c, op->db, &op->a, &d, err));
    PD_TRY(pd_snapshot_list(op->db, &op->a, d.id, &s, &n, err));
    if (op->json)
        pd_jw_array(&op->w);
    else if (n == 0)
        pd_buf_adds(&op->out, "no snapshots yet; `podium snapshot create DATASET` makes one");
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && !op->json)
            pd_buf_addc(&op->out, '\n');
        write_snapshot(&s[i], op->json, &op->w, &op->out);
    }
    if (op->json)
        pd_jw_array_end(&op->w);
out:
    return rc;
}

enum pd_rc pd_op_snapshot_list(struct pd_op_call *c, struct pd_err *err)
{
    return pd__op_read(c, list, NULL, err);
}

static enum pd_rc find(struct pd__op *op, const char *key, struct pd_snapshot *out,
                       struct pd_err *err)
{
    struct pd_str name;
    enum pd_rc rc = pd_json_need_str(op->c->args, key, &name, err);
    return rc == PD_OK ? pd_snapshot_find(op->db, &op->a, name, out, err) : rc;
}

static enum pd_rc show(struct pd__op *op, void *arg, struct pd_err *err)
{
    struct pd_snapshot s;
    enum pd_rc rc = find(op, "snapshot", &s, err);
    (void)arg;
    if (rc == PD_OK)
        write_snapshot(&s, op->json, &op->w, &op->out);
    return rc;
}

enum pd_rc pd_op_snapshot_show(struct pd_op_call *c, struct pd_err *err)
{
    return pd__op_read(c, show, NULL, err);
}

static enum pd_rc diff(struct pd__op *op, void *arg, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_snapshot from, to;
    struct pd_snapshot_diff d = {0};
    struct pd_jw *w = &op->w;
    (void)arg;
    PD_TRY(find(op, "from", &from, err));
    PD_TRY(find(op, "to", &to, err));
    PD_TRY(pd_snapshot_compare(op->c->store, from.hash, to.hash, &d, err));
    if (op->json) {
        pd_jw_object(w);
        pd_jw_kstrz(w, "from", from.name);
        pd_jw_kstrz(w, "to", to.name);
        pd_jw_ki64(w, "added", d.added);
        pd_jw_ki64(w, "removed", d.removed);
        pd_jw_ki64(w, "changed", d.changed);
        pd_jw_ki64(w, "moved", d.moved);
        pd_jw_ki64(w, "same", d.same);
        pd_jw_object_end(w);
    } else {
        pd_buf_addf(
            &op->out,
            "%s -> %s: %lld records added, %lld removed, %lld with other judgments, %lld in "
            "another split, %lld the same",
            from.name, to.name, (long long)d.added, (long long)d.removed, (long long)d.changed,
            (long long)d.moved, (long long)d.same);
    }
out:
    return rc;
}

enum pd_rc pd_op_snapshot_diff(struct pd_op_call *c, struct pd_err *err)
{
    return pd__op_read(c, diff, NULL, err);
}
