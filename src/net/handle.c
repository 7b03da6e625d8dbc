/* From a whole request to its answer: the queue, the workers, the library's responses. */
#include "net/server_int.h"

#include "base/log.h"
#include "base/time.h"

#include <errno.h>

enum { MAX_QUEUED = 4096 };

static const struct {
    const char *name, *value;
} fixed_headers[] = {
    {"X-Content-Type-Options", "nosniff"},
    {"Referrer-Policy", "no-referrer"},
    {"X-Frame-Options", "DENY"},
    {"Cross-Origin-Opener-Policy", "same-origin"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
};
static const char html_csp[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src "
    "'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
static const char data_csp[] = "default-src 'none'; frame-ancestors 'none'";

static struct MHD_Response *make_response(struct pd_req *req)
{
    struct pd_req_int *in = req->in;
    struct MHD_Response *r = NULL;
    switch (in->kind) {
    case PD__STREAM:
        r = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 1 << 15, pd__stream_read, req,
                                              NULL);
        break;
    case PD__STATIC:
        r = MHD_create_response_from_buffer(in->fixed_len, (void *)(uintptr_t)in->fixed,
                                            MHD_RESPMEM_PERSISTENT);
        break;
    case PD__BUFFER:
    case PD__NONE:
        /* The request outlives its answer: it is released when the library says it is done. */
        r = MHD_create_response_from_buffer(in->out.len, in->out.ptr ? in->out.ptr : "",
                                            MHD_RESPMEM_PERSISTENT);
        break;
    }
    if (!r)
        return NULL;
    bool html = in->type && strncmp(in->type, "text/html", 9) == 0, has_cache = false;
    for (size_t i = 0; i < sizeof fixed_headers / sizeof fixed_headers[0]; i++)
        (void)MHD_add_response_header(r, fixed_headers[i].name, fixed_headers[i].value);
    /* A 304 names no policy: a browser would put it over the one stored with the page. */
    if (in->status != 304)
        (void)MHD_add_response_header(r, "Content-Security-Policy", html ? html_csp : data_csp);
    (void)MHD_add_response_header(r, "X-Request-Id", req->id);
    if (in->type)
        (void)MHD_add_response_header(r, "Content-Type", in->type);
    for (size_t i = 0; i < in->n_resp_headers; i++) {
        const char *name = in->resp_headers[i].key.ptr;
        has_cache |= strcmp(name, "Cache-Control") == 0;
        (void)MHD_add_response_header(r, name, in->resp_headers[i].value.ptr);
    }
    if (!has_cache)
        (void)MHD_add_response_header(r, "Cache-Control", "no-store");
    if (in->srv->stopping)
        (void)MHD_add_response_header(r, "Connection", "close");
    return r;
}

enum MHD_Result pd__send_answer(struct pd_req *req)
{
    struct pd_req_int *in = req->in;
    struct MHD_Response *r = make_response(req);
    in->phase = PD__SENDING;
    if (!r)
        return MHD_NO;
    enum MHD_Result ok = MHD_queue_response(in->conn, (unsigned)in->status, r);
    MHD_destroy_response(r);
    return ok;
}

void pd__answer_error(struct pd_req *req, int status, const struct pd_err *err)
{
    pd_resp_reset(req);
    if (status >= 500)
        pd_log(status == 503 ? PD_LOG_WARN : PD_LOG_ERROR, "http",
               "id=%s path=%s rc=%s where=%s msg=\"%s\"", req->id, req->path, pd_rc_name(err->rc),
               err->where ? err->where : "", err->msg);
    req->in->srv->app.error(req, status, err);
}

void pd__answer_ready(struct pd_req *req)
{
    struct pd_req_int *in = req->in;
    /* From here on the HTTP thread may run the request to its end: the caller holds a reference. */
    in->phase = PD__ANSWERED;
    MHD_resume_connection(in->conn);
}

static void after(struct pd_req *req)
{
    if (req->in->srv->app.after)
        req->in->srv->app.after(req);
}

static void handle(struct pd_req *req)
{
    struct pd_req_int *in = req->in;
    struct pd_http_server *s = in->srv;
    struct pd_err err = {0};
    int64_t t0 = pd_time_mono_ns();
    atomic_fetch_add(&in->refs, 1);
    enum pd_rc rc = s->app.gate ? s->app.gate(req, &err) : PD_OK;
    if (rc == PD_OK && in->kind == PD__NONE)
        rc = req->route->handler(req, &err);
    if (rc == PD_OK && in->kind == PD__BUFFER && in->out.failed)
        rc = PD_FAIL(&err, PD_NOMEM, "the answer does not fit in memory");
    if (rc == PD_OK && in->kind == PD__NONE)
        pd_bug("%s did not answer", req->route->pattern);
    atomic_fetch_add(&s->busy_ns, pd_time_mono_ns() - t0);
    if (pd_resp_stream_began(req)) {
        if (rc != PD_OK)
            pd_log(PD_LOG_WARN, "http", "id=%s path=%s stream cut: %s", req->id, req->path,
                   err.msg);
        after(req);
        pd__stream_end(req, rc != PD_OK);
    } else {
        if (rc != PD_OK)
            pd__answer_error(req, pd_rc_http(rc), &err);
        after(req);
        if (in->kind == PD__STREAM && in->stream.is_sse) {
            in->stream.next_poll_ns = 0;
            pd__ticker_add(s, req);
        } else if (in->kind == PD__STREAM) {
            in->stream.done = true; /* nothing was written */
        }
        pd__answer_ready(req);
    }
    pd__req_unref(req);
}

void *pd__worker_main(void *arg)
{
    struct pd_http_server *s = arg;
    for (;;) {
        pthread_mutex_lock(&s->lock);
        while (!s->head && !(s->closing && s->queued == 0))
            pthread_cond_wait(&s->work, &s->lock);
        struct pd_req *req = s->head;
        if (req) {
            s->head = req->in->next;
            if (!s->head)
                s->tail = &s->head;
            s->queued--;
            if (s->closing && s->queued == 0)
                pthread_cond_broadcast(&s->work);
        }
        pthread_mutex_unlock(&s->lock);
        if (!req)
            return NULL;
        handle(req);
    }
}

static void long_done(struct pd_http_server *s)
{
    pthread_mutex_lock(&s->lock);
    s->n_long--;
    pthread_cond_broadcast(&s->idle);
    pthread_mutex_unlock(&s->lock);
}

bool pd__server_gives_up(struct pd_http_server *s)
{
    return s->give_up;
}

/* The connection is the library's to close, which it does only after it took this lock. */
bool pd_req_gone(struct pd_req *req)
{
    struct pd__stream *s = &req->in->stream;
    char byte;
    pthread_mutex_lock(&s->lock);
    bool gone = s->gone;
    if (!gone) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(req->in->conn, MHD_CONNECTION_INFO_CONNECTION_FD);
        ssize_t n = info ? recv(info->connect_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) : 1;
        gone = n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
    }
    pthread_mutex_unlock(&s->lock);
    return gone || pd__server_gives_up(req->in->srv);
}

static void *long_main(void *arg)
{
    struct pd_req *req = arg;
    struct pd_http_server *s = req->in->srv;
    handle(req);
    long_done(s);
    return NULL;
}

/* Suspends the connection and gives the request to a worker, or to a thread of its own. */
enum MHD_Result pd__dispatch(struct pd_req *req)
{
    struct pd_req_int *in = req->in;
    struct pd_http_server *s = in->srv;
    bool alone = (req->route->flags & PD_ROUTE_STREAM) != 0;
    pthread_mutex_lock(&s->lock);
    bool full = s->closing || (alone ? s->n_long >= s->long_max : s->queued >= MAX_QUEUED);
    if (!full && alone)
        s->n_long++;
    else if (!full)
        s->queued++;
    pthread_mutex_unlock(&s->lock);
    struct pd_err err = {0};
    if (full) {
        (void)PD_FAIL(&err, PD_BUSY, "the server is busy; try again in a moment");
        pd__answer_error(req, 503, &err);
        pd_resp_header(req, "Retry-After", "1");
        return pd__send_answer(req);
    }
    in->phase = PD__WORKING;
    MHD_suspend_connection(in->conn);
    if (alone) {
        pthread_t t;
        pthread_attr_t attr;
        pthread_attr_init(&attr);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        int bad = pthread_create(&t, &attr, long_main, req);
        pthread_attr_destroy(&attr);
        if (bad) {
            long_done(s);
            (void)PD_FAIL(&err, PD_BUSY, "cannot start a thread; try again in a moment");
            pd__answer_error(req, 503, &err);
            pd__answer_ready(req);
        }
        return MHD_YES;
    }
    pthread_mutex_lock(&s->lock);
    in->next = NULL; /* workers stay as long as `queued`, which counts it already */
    *s->tail = req;
    s->tail = &in->next;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
    return MHD_YES;
}
