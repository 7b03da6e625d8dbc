/* GET /ui/runs/ID/events: a run while it runs. */
#include "api/ui_run_int.h"

#include "base/mem.h"
#include "base/time.h"

#include <stdio.h>

/* A watcher of one run. Lives on the ticker thread. */
struct watch {
    struct pd_api *api;
    char uuid[37];
    bool lead;
    int64_t since; /* last step that was sent */
    struct pd_tail metrics, samples;
    int64_t sample_step, next_run_us;
    int state; /* as last sent; -1 = never */
};

static void note_sample(void *ctx, struct pd_str line)
{
    struct watch *w = ctx;
    int64_t step = pd_line_step(line);
    if (step > w->sample_step)
        w->sample_step = step;
}

static void send_metrics(struct watch *w, struct pd_buf *out)
{
    struct pd_run_rows r = {.since = w->since, .last = w->since};
    struct pd_buf data;
    struct pd_jw jw;
    bool again = false;
    char id[24];
    pd_buf_init(&r.text, PD_RUN_READ_MAX);
    pd_tail_read(&w->metrics, 8 << 20, pd__run_collect, &r, &again);
    if (r.n) {
        pd_buf_init(&data, PD_RUN_READ_MAX);
        pd_jw_init(&jw, &data);
        pd_jw_object(&jw);
        pd_jw_key(&jw, "rows");
        pd__run_write_rows(&jw, &r);
        pd_jw_object_end(&jw);
        snprintf(id, sizeof id, "%lld", (long long)r.last);
        pd_sse_event(out, id, "metrics", pd_buf_str(&data));
        pd_buf_release(&data);
        w->since = r.last;
    }
    pd_buf_release(&r.text);
}

static void send_samples(struct watch *w, struct pd_buf *out)
{
    int64_t before = w->sample_step;
    pd_tail_read(&w->samples, 8 << 20, note_sample, w, NULL);
    if (w->sample_step > before) {
        char data[40];
        int n = snprintf(data, sizeof data, "{\"step\":%lld}", (long long)w->sample_step);
        pd_sse_event(out, NULL, "samples", (struct pd_str){data, (size_t)n});
    }
}

static bool ended(const struct pd_job *j)
{
    return j->state == PD_JOB_DONE || j->state == PD_JOB_FAILED || j->state == PD_JOB_INTERRUPTED;
}

/* Sends the run when its state changed or 5 s went by; returns false once it has ended. */
static bool send_run(struct watch *w, struct pd_buf *out)
{
    struct pd_arena a;
    struct pd_db *db = NULL;
    struct pd_run_view v;
    struct pd_job job;
    struct pd_buf data;
    struct pd_jw jw;
    bool more = true;
    int64_t now = pd_time_us();
    pd_arena_init(&a);
    pd_buf_init(&data, PD_RUN_READ_MAX);
    if (pd_read_begin(w->api->store, &db, NULL) != PD_OK ||
        pd_job_by_uuid(db, &a, pd_str_from(w->uuid), &job, NULL) != PD_OK)
        goto out;
    if ((int)job.state != w->state || now >= w->next_run_us) {
        pd__run_look(&v, &a, w->api, &job);
        pd_jw_init(&jw, &data);
        if (pd__run_write(&jw, &a, db, &v, w->lead, false, NULL) == PD_OK)
            pd_sse_event(out, NULL, "run", pd_buf_str(&data));
        w->state = (int)job.state;
        w->next_run_us = now + 5000000;
    }
    if (ended(&job)) {
        pd_buf_clear(&data);
        pd_buf_addf(&data, "{\"state\":\"%s\"}", pd_job_state_name(job.state));
        pd_sse_event(out, NULL, "end", pd_buf_str(&data));
        more = false;
    }
out:
    pd_read_end(w->api->store, db);
    pd_buf_release(&data);
    pd_arena_release(&a);
    return more;
}

static bool poll_run(void *ctx, struct pd_buf *out)
{
    struct watch *w = ctx;
    send_metrics(w, out);
    send_samples(w, out);
    return send_run(w, out);
}

static void release_watch(void *ctx)
{
    struct watch *w = ctx;
    pd_tail_release(&w->metrics);
    pd_tail_release(&w->samples);
    pd_free(w);
}

enum pd_rc pd__run_events(struct pd_req *req, struct pd_err *err)
{
    struct pd_run_view v;
    struct pd_db *db;
    int64_t since = -1;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd__run_find(req, PD_NEED_SEE, &v, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_req_query_i64(req, "since", -1, INT64_MAX, -1, &since, err));
    const char *last = pd_req_header(req, "Last-Event-ID");
    if (last && !pd_str_to_i64(pd_str_from(last), &since)) {
        rc = PD_FAIL(err, PD_INVALID, "Last-Event-ID is not a step");
        goto out;
    }
    struct watch *w = pd_xalloc(sizeof *w);
    *w = (struct watch){.api = pd_api_of(req),
                        .lead = pd__run_leads(req, db, &v),
                        .since = since,
                        .sample_step = -1,
                        .state = -1};
    memcpy(w->uuid, v.job.uuid, sizeof w->uuid);
    pd_tail_init(&w->metrics, v.dir, "metrics.jsonl");
    pd_tail_init(&w->samples, v.dir, "samples.jsonl");
    const struct pd_sse source = {
        .poll = poll_run, .release = release_watch, .ctx = w, .every_ms = 1000};
    pd_resp_sse(req, &source);
out:
    return rc;
}
