/* Operations of the worker: take a job, say that it lives, hand it in, and write the prompts a
 * policy learns on. api/ops.h lists them. */
#include "api/ops.h"

#include "pref/bundle.h"
#include "pref/snapshot.h"
#include "store/job.h"

#include <stdio.h>

static void print(FILE *out, const struct pd_buf *b)
{
    fwrite(pd_buf_cstr(b), 1, b->len, out);
    fputc('\n', out);
}

/* ------------------------------------------------------------------ claim */

struct claim {
    const char *worker;
    struct pd_arena arena;
    struct pd_job job;
    bool found;
};

static enum pd_rc write_claim(struct pd_db *db, void *arg, struct pd_err *err)
{
    struct claim *c = arg;
    int64_t silent = 0;
    enum pd_rc rc = pd_job_requeue_silent(db, &silent, err);
    return rc == PD_OK ? pd_job_claim(db, &c->arena, c->worker, &c->job, &c->found, err) : rc;
}

static enum pd_rc write_job(struct pd_op_call *call, struct claim *c, struct pd_jw *w,
                            struct pd_err *err)
{
    struct pd_db *db = NULL;
    struct pd_snapshot s = {0};
    struct pd_dataset d = {0};
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_read_begin(call->store, &db, err));
    if (c->job.snapshot_id)
        PD_TRY(pd_snapshot_get(db, &c->arena, c->job.snapshot_id, &s, err));
    if (c->job.dataset_id)
        PD_TRY(pd_dataset_get(db, &c->arena, c->job.dataset_id, &d, err));
    pd_jw_object(w);
    pd_jw_kstrz(w, "id", c->job.uuid);
    pd_jw_kstrz(w, "kind", c->job.kind);
    pd_jw_key(w, "args");
    pd_jw_raw(w, pd_str_from(c->job.args));
    pd_jw_kbool(w, "resume", c->job.resume);
    pd_jw_kstrz(w, "snapshot", s.hash[0] ? s.hash : NULL);
    pd_jw_kstrz(w, "dataset", d.uuid[0] ? d.uuid : NULL);
    pd_jw_object_end(w);
out:
    pd_read_end(call->store, db);
    return rc;
}

enum pd_rc pd_op_job_claim(struct pd_op_call *call, struct pd_err *err)
{
    struct claim c = {0};
    struct pd_buf b;
    struct pd_jw w;
    struct pd_str worker;
    enum pd_rc rc = PD_OK;
    pd_arena_init(&c.arena);
    pd_buf_init(&b, 0);
    PD_TRY(pd_json_need_str(call->args, "worker", &worker, err));
    c.worker = pd_arena_strndup(&c.arena, worker.ptr, worker.len);
    PD_TRY(pd_store_write(call->store, PD_TX_RELAXED, write_claim, &c, err));
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    pd_jw_key(&w, "job");
    if (c.found)
        PD_TRY(write_job(call, &c, &w, err));
    else
        pd_jw_null(&w);
    pd_jw_object_end(&w);
    print(call->out, &b);
out:
    pd_buf_release(&b);
    pd_arena_release(&c.arena);
    return rc;
}

/* ------------------------------------------------------------------ beat and finish */

struct report {
    struct pd_str id, worker, message, state, result;
    bool stop;
    char worker_z[128];
};

static enum pd_rc read_report(struct pd_op_call *call, struct report *r, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_json_need_str(call->args, "id", &r->id, err));
    PD_TRY(pd_json_need_str(call->args, "worker", &r->worker, err));
    r->message = pd_json_str(call->args, "message");
    r->state = pd_json_str(call->args, "state");
    snprintf(r->worker_z, sizeof r->worker_z, "%.*s", PD_STR_ARG(r->worker));
out:
    return rc;
}

static enum pd_rc job_id(struct pd_db *db, struct pd_str uuid, int64_t *id, struct pd_err *err)
{
    struct pd_arena a;
    struct pd_job job;
    pd_arena_init(&a);
    enum pd_rc rc = pd_job_by_uuid(db, &a, uuid, &job, err);
    if (rc == PD_OK)
        *id = job.id;
    pd_arena_release(&a);
    return rc;
}

static enum pd_rc write_beat(struct pd_db *db, void *arg, struct pd_err *err)
{
    struct report *r = arg;
    int64_t id = 0;
    enum pd_rc rc = job_id(db, r->id, &id, err);
    return rc == PD_OK ? pd_job_beat(db, id, r->worker_z, r->message, &r->stop, err) : rc;
}

enum pd_rc pd_op_job_beat(struct pd_op_call *call, struct pd_err *err)
{
    struct report r = {0};
    enum pd_rc rc = read_report(call, &r, err);
    if (rc == PD_OK)
        rc = pd_store_write(call->store, PD_TX_RELAXED, write_beat, &r, err);
    if (rc == PD_OK)
        fprintf(call->out, "{\"stop\":%s}\n", r.stop ? "true" : "false");
    return rc;
}

static enum pd_rc write_finish(struct pd_db *db, void *arg, struct pd_err *err)
{
    struct report *r = arg;
    int64_t id = 0;
    enum pd_job_state state = pd_str_eqz(r->state, "done")     ? PD_JOB_DONE
                              : pd_str_eqz(r->state, "failed") ? PD_JOB_FAILED
                                                               : PD_JOB_INTERRUPTED;
    enum pd_rc rc = job_id(db, r->id, &id, err);
    return rc == PD_OK ? pd_job_finish(db, id, r->worker_z, state, r->message, r->result, err) : rc;
}

enum pd_rc pd_op_job_finish(struct pd_op_call *call, struct pd_err *err)
{
    struct report r = {0};
    enum pd_rc rc = read_report(call, &r, err);
    if (rc == PD_OK && !pd_str_eqz(r.state, "done") && !pd_str_eqz(r.state, "failed") &&
        !pd_str_eqz(r.state, "interrupted"))
        rc = PD_FAIL(err, PD_INVALID, "state must be done, failed or interrupted");
    if (rc == PD_OK)
        rc = pd_store_write(call->store, PD_TX_DURABLE, write_finish, &r, err);
    if (rc == PD_OK)
        fputs("{}\n", call->out);
    return rc;
}

/* ------------------------------------------------------------------ prompts */

/* {"id","prompt"} a record of a snapshot (args "source", "split"): its field "prompt", or its first
 * text field. */
enum pd_rc pd_op_job_prompts(struct pd_op_call *call, struct pd_err *err)
{
    struct pd_bundles *in = NULL;
    struct pd_bundle b;
    struct pd_buf line;
    struct pd_arena a;
    struct pd_str source, split = pd_json_str(call->args, "split");
    bool more = false;
    enum pd_rc rc = PD_OK;
    pd_arena_init(&a);
    pd_buf_init(&line, 0);
    PD_TRY(pd_json_need_str(call->args, "source", &source, err));
    PD_TRY(pd_bundles_open(&in, call->store, pd_arena_strndup(&a, source.ptr, source.len),
                           split.len ? pd_arena_strndup(&a, split.ptr, split.len) : NULL, err));
    const struct pd_bundle_head *head = pd_bundles_head(in);
    for (;;) {
        PD_TRY(pd_bundles_next(in, &b, &more, err));
        if (!more)
            break;
        struct json_object *prompt = pd_json_get(b.fields, "prompt");
        if (!prompt && head->n_fields)
            prompt = pd_json_get(b.fields, head->fields[0].name);
        if (!prompt)
            continue;
        struct pd_jw w;
        pd_buf_clear(&line);
        pd_jw_init(&w, &line);
        pd_jw_object(&w);
        pd_jw_kstrz(&w, "id", b.external_id ? b.external_id : b.record);
        pd_jw_key(&w, "prompt");
        pd_jw_tree(&w, prompt);
        pd_jw_object_end(&w);
        print(call->out, &line);
    }
    if (ferror(call->out))
        rc = PD_FAIL(err, PD_IO, "cannot write the prompts");
out:
    pd_bundles_close(in);
    pd_buf_release(&line);
    pd_arena_release(&a);
    return rc;
}
