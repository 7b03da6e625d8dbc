/* GET /ui/datasets/ID/events: the counters of a dataset while people label, at most one event a
 * second, and only when something changed. */
#include "api/ui_json.h"

#include "base/mem.h"

/* Lives on the ticker thread. */
struct watch {
    struct pd_store *store;
    int64_t dataset_id;
    struct pd_counts last;
    bool sent;
};

static void write_event(struct pd_buf *out, const struct pd_counts *c)
{
    struct pd_buf data;
    struct pd_jw w;
    pd_buf_init(&data, 0);
    pd_jw_init(&w, &data);
    pd_jw_object(&w);
    pd_jw_ki64(&w, "records", c->records);
    pd_jw_ki64(&w, "waiting", c->records - c->completed - c->in_hand);
    pd_jw_ki64(&w, "in_hand", c->in_hand);
    pd_jw_ki64(&w, "done", c->completed);
    pd_jw_ki64(&w, "submitted", c->submitted);
    pd_jw_ki64(&w, "discarded", c->discarded);
    pd_jw_ki64(&w, "drafts", c->draft);
    pd_jw_object_end(&w);
    pd_sse_event(out, NULL, "counts", pd_buf_str(&data));
    pd_buf_release(&data);
}

static bool poll_counts(void *ctx, struct pd_buf *out)
{
    struct watch *w = ctx;
    struct pd_db *db = NULL;
    struct pd_counts c = {0};
    if (pd_read_begin(w->store, &db, NULL) != PD_OK)
        return true;
    enum pd_rc rc = pd_dataset_counts(db, w->dataset_id, &c, NULL);
    pd_read_end(w->store, db);
    if (rc != PD_OK)
        return rc != PD_NOTFOUND; /* it was deleted */
    if (!w->sent || memcmp(&c, &w->last, sizeof c) != 0)
        write_event(out, &c);
    w->sent = true;
    w->last = c;
    return true;
}

static enum pd_rc events(struct pd_req *req, struct pd_err *err)
{
    struct pd_dataset d;
    enum pd_rc rc = pd_api_dataset(req, "id", PD_NEED_SEE, &d, err);
    if (rc != PD_OK)
        return rc;
    struct watch *w = pd_xalloc(sizeof *w);
    *w = (struct watch){.store = pd_api_of(req)->store, .dataset_id = d.id};
    const struct pd_sse source = {
        .poll = poll_counts, .release = pd_free, .ctx = w, .every_ms = 1000};
    pd_resp_sse(req, &source);
    return PD_OK;
}

static const struct pd_route rows[] = {
    {PD_GET, "/ui/datasets/{id}/events", events, PD_MAY_USER, PD_DOOR_UI, 0, 0, "counters, live"},
};
PD_ROUTE_TABLE(pd_routes_watch, rows);
