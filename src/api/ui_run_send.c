/* POST /ui/runs/ID/send: the new answers against the old ones, back to the people. */
#include "api/ui_run_int.h"

#include "api/run_eval.h"
#include "pref/template.h"

struct batch {
    struct pd_api *api;
    struct pd_template_options o;
    const struct pd_run_view *v;
    struct pd_policy_eval eval; /* n == 0: the last samples are taken */
    int64_t limit, dataset_id, records;
    struct pd_arena *a;
};

static struct json_object *record_fields(struct json_object *prompt, struct pd_str old,
                                         struct pd_str new)
{
    struct json_object *o = json_object_new_object();
    const char *text = json_object_is_type(prompt, json_type_string)
                           ? json_object_get_string(prompt)
                           : json_object_to_json_string_ext(prompt, JSON_C_TO_STRING_PLAIN);
    json_object_object_add(o, "prompt", json_object_new_string(text));
    json_object_object_add(o, "a", json_object_new_string_len(old.ptr, (int)old.len));
    json_object_object_add(o, "b", json_object_new_string_len(new.ptr, (int)new.len));
    return o;
}

/* The last message of a prompt that is a conversation is what people see. */
static struct json_object *shown_prompt(struct json_object *prompt)
{
    size_t n = json_object_is_type(prompt, json_type_array) ? json_object_array_length(prompt) : 0;
    struct json_object *last = n ? json_object_array_get_idx(prompt, n - 1) : NULL;
    struct json_object *content = n == 1 ? pd_json_get(last, "content") : NULL;
    return content ? content : prompt;
}

/* Which model said which answer stays in `hidden`; order on screen is shuffled per labeler. */
static enum pd_rc add_record(struct pd_db *db, struct batch *b, struct json_object *prompt,
                             struct pd_str old, struct pd_str new, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    int64_t id = 0;
    if (b->records >= b->limit || !old.len || !new.len || pd_str_eq(old, new))
        return PD_OK;
    struct json_object *fields = record_fields(shown_prompt(prompt), old, new);
    const char *hidden =
        pd_arena_printf(b->a, "{\"models\":{\"a\":\"reference\",\"b\":\"%s\"}}", b->v->job.uuid);
    const struct pd_record_new in = {
        .dataset_id = b->dataset_id,
        .fields = pd_str_from(json_object_to_json_string_ext(fields, JSON_C_TO_STRING_PLAIN)),
        .metadata = PD_STR("{}"),
        .hidden = pd_str_from(hidden)};
    rc = pd_record_create(db, &in, &id, err);
    json_object_put(fields);
    b->records += rc == PD_OK;
    return rc;
}

static enum pd_rc add_from_eval(struct pd_db *db, struct batch *b, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    for (size_t i = 0; rc == PD_OK && i < b->eval.n; i++) {
        const struct pd_eval_item *it = &b->eval.items[i];
        rc = add_record(db, b, it->prompt, it->old_text, it->new_text, err);
    }
    return rc;
}

static enum pd_rc add_from_samples(struct pd_db *db, struct batch *b, struct pd_err *err)
{
    struct pd_run_samples *s = pd_arena_alloc(b->a, sizeof *s);
    struct pd_str rest, line;
    enum pd_rc rc = PD_OK;
    pd__run_read_samples(s, b->v->dir, -1);
    rest = pd_buf_str(&s->lines);
    while (rc == PD_OK && s->lines.len && pd_str_split(&rest, '\n', &line)) {
        struct json_object *o = NULL;
        if (line.len && pd_json_parse(line, &o, NULL) == PD_OK)
            rc = add_record(db, b, pd_json_get(o, "prompt"), pd_json_str(o, "reference"),
                            pd_json_str(o, "sample"), err);
        json_object_put(o);
    }
    pd_buf_release(&s->lines);
    return rc;
}

static enum pd_rc write_batch(struct pd_db *db, void *arg, struct pd_err *err)
{
    struct batch *b = arg;
    enum pd_rc rc = pd_template_create(db, &b->o, &b->dataset_id, err);
    if (rc == PD_OK && b->eval.n)
        rc = add_from_eval(db, b, err);
    else if (rc == PD_OK)
        rc = add_from_samples(db, b, err);
    if (rc == PD_OK && b->records == 0)
        rc = PD_FAIL(err, PD_INVALID,
                     "this run has no answers to compare that differ from the old ones");
    return rc;
}

static void write_sent(struct pd_req *req, int status, const struct pd_dataset *d, int64_t records)
{
    struct pd_jw *w = pd_resp_json(req, status);
    pd_jw_object(w);
    pd_jw_key(w, "dataset");
    pd_jw_object(w);
    pd_jw_kstrz(w, "id", d->uuid);
    pd_jw_kstrz(w, "name", d->name);
    pd_jw_object_end(w);
    pd_jw_ki64(w, "records", records);
    pd_jw_object_end(w);
}

enum pd_rc pd__run_send(struct pd_req *req, struct pd_err *err)
{
    struct json_object *body;
    struct pd_db *db;
    struct pd_run_view v;
    struct pd_dataset from, d;
    struct batch b = {.api = pd_api_of(req), .a = &req->arena, .v = &v};
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_json(req, &body, err));
    PD_TRY(pd__run_find(req, PD_NEED_LEAD, &v, err));
    PD_TRY(pd_api_client_id(body, &b.o.uuid, err));
    PD_TRY(pd_json_need_str(body, "name", &b.o.name, err));
    b.limit = pd_json_i64(body, "n", 50);
    if (b.limit < 1 || b.limit > 10000 || !v.job.dataset_id) {
        rc = PD_FAIL(err, PD_INVALID, "n must be 1 to 10000, and the run must belong to a dataset");
        goto out;
    }
    PD_TRY(pd_api_read(req, &db, err));
    rc = pd_dataset_by_uuid(db, &req->arena, b.o.uuid, &d, err);
    if (rc == PD_OK) { /* sent again */
        struct pd_counts c;
        PD_TRY(pd_policy_lead(db, pd_who(req), &d, err));
        PD_TRY(pd_dataset_counts(db, d.id, &c, err));
        write_sent(req, 200, &d, c.records);
        goto out;
    }
    PD_TRY(pd_dataset_get(db, &req->arena, v.job.dataset_id, &from, err));
    (void)pd_policy_eval_read(&req->arena, v.dir, v.job.uuid, &b.eval);
    b.o.tmpl = PD_STR("pairwise");
    b.o.workspace_id = from.workspace_id;
    b.o.author_id = pd_who(req)->user.id;
    b.o.guidelines = pd_str_from(from.guidelines);
    b.o.min_submitted = from.min_submitted > 0 ? from.min_submitted : 1;
    b.o.publish = true;
    b.o.made_by = "ui";
    pd_api_read_end(req);
    PD_TRY(pd_store_write(b.api->store, PD_TX_DURABLE, write_batch, &b, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_dataset_get(db, &req->arena, b.dataset_id, &d, err));
    write_sent(req, 201, &d, b.records);
out:
    return rc;
}
