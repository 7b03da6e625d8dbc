/* Datasets on the data folder, and status. */
#include "api/op_int.h"
#include "base/fs.h"
#include "base/mem.h"
#include "pref/status.h"
#include "pref/template.h"
#include "store/user.h"

static enum pd_rc create_options(struct pd_op_call *c, struct pd_buf *xml,
                                 struct pd_template_options *o, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_json_need_str(c->args, "dataset", &o->name, err));
    o->tmpl = pd_json_str(c->args, "template");
    if (!o->tmpl.ptr)
        o->tmpl = PD_STR("pairwise");
    o->guidelines = pd_json_str(c->args, "guidelines");
    o->answers = (size_t)pd_json_i64(c->args, "answers", 0);
    o->min_submitted = pd_json_i64(c->args, "overlap", 1);
    o->publish = pd_json_bool(c->args, "publish", false);
    o->made_by = "cli";
    o->author_id = c->user_id;
    if (pd_str_eqz(o->tmpl, "label-studio")) {
        if (!c->in_path) {
            rc = PD_FAIL(err, PD_USAGE, "the template label-studio needs its labeling config");
            goto out;
        }
        PD_TRY(pd_fs_read_maybe_gzip(c->in_path, (size_t)1 << 20, xml, err));
        o->xml = pd_buf_str(xml);
    }
out:
    return rc;
}

/* "workspace/name" or a name with args.workspace. */
static enum pd_rc place(struct pd_op_call *c, struct pd_db *db, struct pd_template_options *o,
                        struct pd_err *err)
{
    struct pd_str workspace = pd_json_str(c->args, "workspace");
    if (o->name.len && memchr(o->name.ptr, '/', o->name.len))
        (void)pd_str_split(&o->name, '/', &workspace);
    return pd_workspace_default(db, workspace, &o->workspace_id, err);
}

static const char *status_name(const struct pd_dataset *d)
{
    return d->status == PD_DATASET_READY ? "ready" : "draft";
}

/* What was made: a JSON object or a line for people. */
static enum pd_rc say_made(struct pd__op *op, int64_t id, struct pd_err *err)
{
    struct pd_dataset d;
    enum pd_rc rc = pd_dataset_get(op->db, &op->a, id, &d, err);
    if (rc != PD_OK || op->json)
        return rc == PD_OK ? pd_status_write(op->db, &d, false, &op->w, err) : rc;
    pd_buf_addf(&op->out, "dataset %s in workspace %s: template %s, overlap %lld, %s%s", d.name,
                d.workspace, d.tmpl, (long long)d.min_submitted, status_name(&d),
                d.status == PD_DATASET_READY ? "" : " (publish opens it)");
    return PD_OK;
}

static enum pd_rc create(struct pd__op *op, void *options, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    int64_t id = 0;
    PD_TRY(place(op->c, op->db, options, err));
    PD_TRY(pd_template_create(op->db, options, &id, err));
    rc = say_made(op, id, err);
out:
    return rc;
}

enum pd_rc pd_op_dataset_create(struct pd_op_call *c, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_template_options o = {0};
    struct pd_buf xml;
    pd_buf_init(&xml, (size_t)1 << 20);
    PD_TRY(create_options(c, &xml, &o, err));
    rc = pd__op_write(c, create, &o, err);
out:
    pd_buf_release(&xml);
    return rc;
}

struct change {
    enum pd_rc (*make)(struct pd_db *db, int64_t id, struct pd_err *err);
    const char *done;
};

static enum pd_rc change(struct pd__op *op, void *arg, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct change *change = arg;
    struct pd_dataset d;
    PD_TRY(pd__op_dataset(op->c, op->db, &op->a, &d, err));
    PD_TRY(change->make(op->db, d.id, err));
    if (op->json) {
        pd_jw_object(&op->w);
        pd_jw_kstrz(&op->w, "dataset", d.name);
        pd_jw_kstrz(&op->w, "id", d.uuid);
        pd_jw_kstrz(&op->w, "state", change->done);
        pd_jw_object_end(&op->w);
    } else {
        pd_buf_addf(&op->out, "%s is %s", d.name, change->done);
    }
out:
    return rc;
}

enum pd_rc pd_op_dataset_publish(struct pd_op_call *c, struct pd_err *err)
{
    return pd__op_write(c, change, &(struct change){pd_dataset_publish, "ready"}, err);
}

enum pd_rc pd_op_dataset_delete(struct pd_op_call *c, struct pd_err *err)
{
    return pd__op_write(c, change, &(struct change){pd_dataset_delete, "deleted"}, err);
}

static void show_part(struct pd_buf *out, const struct pd_part *p)
{
    struct pd_err quiet;
    struct json_object *s = NULL;
    if (pd_json_parse(pd_str_from(p->settings), &s, &quiet) != PD_OK)
        return;
    struct pd_str type = pd_json_str(s, "type");
    pd_buf_addf(out, "  %-16s %-22.*s %s%s\n", p->name, PD_STR_ARG(type), p->title,
                p->required ? "" : " (optional)");
    json_object_put(s);
}

static void json_parts(struct pd_jw *w, const char *key, const struct pd_part *p, size_t n)
{
    pd_jw_key(w, key);
    pd_jw_array(w);
    for (size_t i = 0; i < n; i++) {
        pd_jw_object(w);
        pd_jw_kstrz(w, "name", p[i].name);
        pd_jw_kstrz(w, "title", p[i].title);
        pd_jw_kbool(w, "required", p[i].required);
        pd_jw_key(w, "settings");
        pd_jw_raw(w, pd_str_from(p[i].settings));
        pd_jw_object_end(w);
    }
    pd_jw_array_end(w);
}

static enum pd_rc show(struct pd__op *op, void *arg, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_dataset d;
    struct pd_part *fields = NULL, *questions = NULL;
    struct pd_jw *w = &op->w;
    size_t n_fields = 0, n_questions = 0;
    (void)arg;
    PD_TRY(pd__op_dataset(op->c, op->db, &op->a, &d, err));
    PD_TRY(pd_part_list(op->db, &op->a, d.id, PD_PART_FIELD, &fields, &n_fields, err));
    PD_TRY(pd_part_list(op->db, &op->a, d.id, PD_PART_QUESTION, &questions, &n_questions, err));
    if (op->json) {
        pd_jw_object(w);
        pd_jw_kstrz(w, "dataset", d.name);
        pd_jw_kstrz(w, "workspace", d.workspace);
        pd_jw_kstrz(w, "id", d.uuid);
        pd_jw_kstrz(w, "status", status_name(&d));
        pd_jw_kstrz(w, "template", d.tmpl);
        pd_jw_ki64(w, "overlap", d.min_submitted);
        pd_jw_kstrz(w, "guidelines", d.guidelines);
        pd_jw_ki64(w, "guideline_version", d.guideline_version);
        json_parts(w, "fields", fields, n_fields);
        json_parts(w, "questions", questions, n_questions);
        pd_jw_object_end(w);
        goto out;
    }
    pd_buf_addf(&op->out, "%s/%s  %s  template %s  overlap %lld\n\nFields\n", d.workspace, d.name,
                status_name(&d), d.tmpl, (long long)d.min_submitted);
    for (size_t i = 0; i < n_fields; i++)
        show_part(&op->out, &fields[i]);
    pd_buf_adds(&op->out, "\nQuestions\n");
    for (size_t i = 0; i < n_questions; i++)
        show_part(&op->out, &questions[i]);
    pd_buf_addf(&op->out, "\nGuidelines (version %lld)\n%s", (long long)d.guideline_version,
                d.guidelines ? d.guidelines : "(none)");
out:
    return rc;
}

enum pd_rc pd_op_dataset_show(struct pd_op_call *c, struct pd_err *err)
{
    return pd__op_read(c, show, NULL, err);
}

static enum pd_rc text_row(struct pd_db *db, const struct pd_dataset *d, struct pd_buf *out,
                           struct pd_err *err)
{
    struct pd_counts c;
    enum pd_rc rc = pd_dataset_counts(db, d->id, &c, err);
    if (rc != PD_OK)
        return rc;
    double share = c.records ? 100.0 * (double)c.completed / (double)c.records : 0;
    pd_buf_addf(out, "%-28s %-12s %-6s %8lld %8lld %5.0f%% %8lld %8lld\n", d->name, d->workspace,
                status_name(d), (long long)c.records, (long long)c.completed, share,
                (long long)c.submitted, (long long)c.in_hand);
    return PD_OK;
}

/* All datasets: a JSON list or a table. */
static enum pd_rc list(struct pd__op *op, void *arg, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_dataset *ds = NULL;
    size_t n = 0;
    (void)arg;
    PD_TRY(pd_dataset_list(op->db, &op->a, 0, &ds, &n, err));
    if (op->json) {
        pd_jw_array(&op->w);
        for (size_t i = 0; i < n; i++)
            PD_TRY(pd_status_write(op->db, &ds[i], false, &op->w, err));
        pd_jw_array_end(&op->w);
    } else if (n) {
        pd_buf_addf(&op->out, "%-28s %-12s %-6s %8s %8s %6s %8s %8s\n", "dataset", "workspace", "",
                    "records", "done", "", "answers", "in hand");
        for (size_t i = 0; i < n; i++)
            PD_TRY(text_row(op->db, &ds[i], &op->out, err));
        op->out.ptr[--op->out.len] = '\0';
    } else {
        pd_buf_adds(&op->out, "no datasets yet; `podium import NAME FILE` makes one");
    }
out:
    return rc;
}

enum pd_rc pd_op_dataset_list(struct pd_op_call *c, struct pd_err *err)
{
    return pd__op_read(c, list, NULL, err);
}

static enum pd_rc text_status(struct pd_db *db, struct pd_arena *a, const struct pd_dataset *d,
                              struct pd_buf *out, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_counts k;
    struct pd_user_counts *u = NULL;
    char when[32];
    size_t n = 0;
    PD_TRY(pd_dataset_counts(db, d->id, &k, err));
    PD_TRY(pd_dataset_user_counts(db, a, d->id, 0, &u, &n, err));
    int64_t waiting = k.records - k.completed - k.in_hand;
    pd_buf_addf(out, "%s  (%s, overlap %lld)\n", d->name, status_name(d),
                (long long)d->min_submitted);
    pd_buf_addf(out, "  records    %8lld   done %lld, in hand %lld, waiting %lld\n",
                (long long)k.records, (long long)k.completed, (long long)k.in_hand,
                (long long)(waiting > 0 ? waiting : 0));
    pd_buf_addf(out, "  answers    %8lld   skipped %lld, drafts %lld, beyond the overlap %lld\n",
                (long long)k.submitted, (long long)k.discarded, (long long)k.draft,
                (long long)k.surplus);
    if (k.submitted)
        pd_buf_addf(out, "  time       %8.0f s  %.1f s an answer\n", (double)k.active_ms / 1000,
                    (double)k.active_ms / 1000 / (double)(k.submitted + k.discarded));
    for (size_t i = 0; i < n; i++)
        pd_buf_addf(out, "  %-22s %6lld answers, %lld skipped, last %s\n", u[i].username,
                    (long long)u[i].submitted, (long long)u[i].discarded,
                    pd__op_when(u[i].last_us, when));
    out->ptr[--out->len] = '\0';
out:
    return rc;
}

static enum pd_rc status(struct pd__op *op, void *arg, struct pd_err *err)
{
    struct pd_dataset d;
    (void)arg;
    enum pd_rc rc = pd__op_dataset(op->c, op->db, &op->a, &d, err);
    if (rc != PD_OK)
        return rc;
    return op->json ? pd_status_write(op->db, &d, true, &op->w, err)
                    : text_status(op->db, &op->a, &d, &op->out, err);
}

enum pd_rc pd_op_status(struct pd_op_call *c, struct pd_err *err)
{
    return pd__op_read(c, pd_json_get(c->args, "dataset") ? status : list, NULL, err);
}
