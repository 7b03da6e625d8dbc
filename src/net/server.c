#include "net/server.h"

#include "base/crypt.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "net/http_int.h"
#include "net/listen.h"

#include <microhttpd.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <unistd.h>

enum {
    DEFAULT_WORKERS = 8,
    MAX_QUEUED = 4096,
    MAX_LONG = 32,              /* handlers with a thread of their own */
    SPOOL_AFTER = 1 << 20,      /* bytes of a body kept in memory on SPOOL routes */
    DRAIN_MAX = 64 << 20,       /* of a refused body, before the connection is cut */
    SSE_HIGH_WATER = 256 << 10, /* a slow client's stream is not polled past this */
    SSE_PING_MS = 15000,
    TICK_MS = 100,
};

const double pd_http_latency_ms[12] = {0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000};

struct pd_http_server {
    struct pd_http_app app;
    struct MHD_Daemon *tcp, *local;
    char url[128];
    char *unix_path;
    bool access_log;
    /* the work queue */
    pthread_mutex_t lock;
    pthread_cond_t work, idle;
    struct pd_req *head, **tail;
    int queued, n_live, n_long;
    bool closing;
    atomic_bool stopping, give_up; /* give_up: streams are cut */
    pthread_t *workers;
    int n_workers;
    /* the ticker */
    pthread_t ticker;
    pthread_mutex_t tick_lock;
    pthread_cond_t tick_cond;
    struct pd_req *streams;
    int n_streams;
    bool tick_stop;
    /* counters */
    atomic_ullong requests, by_class[6], bytes_in, bytes_out, latency_le[12];
    atomic_llong busy_ns;
};

/* ------------------------------------------------------------------ streams */

void pd__stream_wake(struct pd_req *req)
{
    struct pd__stream *s = &req->in->stream;
    if (s->waiting && !s->gone) {
        s->waiting = false;
        MHD_resume_connection(req->in->conn);
    }
}

static ssize_t stream_read(void *cls, uint64_t pos, char *to, size_t max)
{
    (void)pos;
    struct pd_req *req = cls;
    struct pd__stream *s = &req->in->stream;
    ssize_t n = 0;
    pthread_mutex_lock(&s->lock);
    size_t have = s->buf.len - s->at;
    if (have > 0) {
        n = (ssize_t)(have < max ? have : max);
        memcpy(to, s->buf.ptr + s->at, (size_t)n);
        s->at += (size_t)n;
        if (s->at == s->buf.len) {
            pd_buf_clear(&s->buf);
            s->at = 0;
        }
        pthread_cond_signal(&s->room);
        atomic_fetch_add(&req->in->srv->bytes_out, (unsigned long long)n);
    } else if (s->done) {
        n = s->failed ? MHD_CONTENT_READER_END_WITH_ERROR : MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        s->waiting = true;
        MHD_suspend_connection(req->in->conn);
    }
    pthread_mutex_unlock(&s->lock);
    return n;
}

static void stream_end(struct pd_req *req, bool failed)
{
    struct pd__stream *s = &req->in->stream;
    pthread_mutex_lock(&s->lock);
    s->done = true;
    s->failed |= failed;
    pd__stream_wake(req);
    pthread_mutex_unlock(&s->lock);
}

void pd__ticker_add(struct pd_http_server *s, struct pd_req *req)
{
    atomic_fetch_add(&req->in->refs, 1);
    req->in->stream.last_write_ns = pd_time_mono_ns();
    pthread_mutex_lock(&s->tick_lock);
    bool late = s->tick_stop; /* nobody would ever end it */
    if (!late) {
        req->in->stream.next = s->streams;
        s->streams = req;
        s->n_streams++;
        pthread_cond_signal(&s->tick_cond);
    }
    pthread_mutex_unlock(&s->tick_lock);
    if (late) {
        stream_end(req, false);
        pd__req_unref(req);
    }
}

/* Polls one stream if it is due; false when it has ended. */
static bool tick(struct pd_req *req, int64_t now, struct pd_buf *scratch)
{
    struct pd__stream *s = &req->in->stream;
    pthread_mutex_lock(&s->lock);
    bool alive = !s->gone && !s->done;
    bool due = alive && now >= s->next_poll_ns && s->buf.len - s->at < SSE_HIGH_WATER;
    pthread_mutex_unlock(&s->lock);
    if (!due)
        return alive;
    int every = s->sse.every_ms < TICK_MS ? TICK_MS : s->sse.every_ms;
    s->next_poll_ns = now + (int64_t)every * 1000000;
    pd_buf_clear(scratch);
    bool more = s->sse.poll(s->sse.ctx, scratch);
    if (scratch->len == 0 && now - s->last_write_ns > (int64_t)SSE_PING_MS * 1000000)
        pd_buf_adds(scratch, ": ping\n\n");
    pthread_mutex_lock(&s->lock);
    if (scratch->len) {
        pd_buf_addstr(&s->buf, pd_buf_str(scratch));
        s->last_write_ns = now;
    }
    s->done |= !more;
    if (scratch->len || s->done)
        pd__stream_wake(req);
    pthread_mutex_unlock(&s->lock);
    return more;
}

static void *ticker_main(void *arg)
{
    struct pd_http_server *s = arg;
    struct pd_buf scratch;
    pd_buf_init(&scratch, 64 << 20);
    for (;;) {
        pthread_mutex_lock(&s->tick_lock);
        while (!s->streams && !s->tick_stop)
            pthread_cond_wait(&s->tick_cond, &s->tick_lock);
        bool stop = s->tick_stop;
        struct pd_req *list = s->streams; /* new ones are only ever put in front of it */
        pthread_mutex_unlock(&s->tick_lock);
        int64_t now = pd_time_mono_ns();
        struct pd_req *ended = NULL;
        for (struct pd_req *r = list, *next; r; r = next) {
            next = r->in->stream.next;
            if (stop)
                stream_end(r, false);
            if (!stop && tick(r, now, &scratch))
                continue;
            pthread_mutex_lock(&s->tick_lock);
            struct pd_req **at = &s->streams;
            while (*at != r)
                at = &(*at)->in->stream.next;
            *at = next;
            s->n_streams--;
            pthread_mutex_unlock(&s->tick_lock);
            r->in->stream.next = ended;
            ended = r;
        }
        for (struct pd_req *r = ended, *next; r; r = next) {
            next = r->in->stream.next;
            pd__req_unref(r);
        }
        if (stop)
            break;
        pd_sleep_ms(TICK_MS);
    }
    pd_buf_release(&scratch);
    return NULL;
}

/* ------------------------------------------------------------------ handling */

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
        r = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 1 << 15, stream_read, req, NULL);
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

static enum MHD_Result send_answer(struct pd_req *req)
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

static void answer_error(struct pd_req *req, int status, const struct pd_err *err)
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
        stream_end(req, rc != PD_OK);
    } else {
        if (rc != PD_OK)
            answer_error(req, pd_rc_http(rc), &err);
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

static void *worker_main(void *arg)
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

static void *long_main(void *arg)
{
    struct pd_req *req = arg;
    struct pd_http_server *s = req->in->srv;
    handle(req);
    long_done(s);
    return NULL;
}

/* Suspends the connection and gives the request to a worker, or to a thread of its own. */
static enum MHD_Result dispatch(struct pd_req *req)
{
    struct pd_req_int *in = req->in;
    struct pd_http_server *s = in->srv;
    bool alone = (req->route->flags & PD_ROUTE_STREAM) != 0;
    pthread_mutex_lock(&s->lock);
    bool full = s->closing || (alone ? s->n_long >= MAX_LONG : s->queued >= MAX_QUEUED);
    if (!full && alone)
        s->n_long++;
    else if (!full)
        s->queued++;
    pthread_mutex_unlock(&s->lock);
    struct pd_err err = {0};
    if (full) {
        (void)PD_FAIL(&err, PD_BUSY, "the server is busy; try again in a moment");
        answer_error(req, 503, &err);
        pd_resp_header(req, "Retry-After", "1");
        return send_answer(req);
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
            answer_error(req, 503, &err);
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

/* ------------------------------------------------------------------ arriving */

static enum MHD_Result add_header(void *cls, enum MHD_ValueKind kind, const char *key,
                                  const char *value)
{
    (void)kind;
    struct pd_req *req = cls;
    struct pd_req_int *in = req->in;
    if (in->n_headers == 64)
        return MHD_NO;
    in->headers[in->n_headers++] =
        (struct pd_pair){pd_str_from(pd_arena_strdup(&req->arena, key)),
                         pd_str_from(pd_arena_strdup(&req->arena, value ? value : ""))};
    return MHD_YES;
}

static void read_peer(struct pd_req *req)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(req->in->conn, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *sa = info ? info->client_addr : NULL;
    if (!sa || req->local)
        snprintf(req->peer, sizeof req->peer, "local");
    else if (sa->sa_family == AF_INET)
        (void)inet_ntop(AF_INET, &((const struct sockaddr_in *)sa)->sin_addr, req->peer,
                        sizeof req->peer);
    else if (sa->sa_family == AF_INET6)
        (void)inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)sa)->sin6_addr, req->peer,
                        sizeof req->peer);
}

/* Cuts query and door prefix off the URI and decodes the query. */
static void read_uri(struct pd_req *req)
{
    char *q = strchr(req->in->uri, '?');
    if (q) {
        *q = '\0';
        req->query = pd_arena_alloc(&req->arena, PD_REQ_MAX_QUERY * sizeof *req->query);
        req->n_query = pd_uri_pairs(&req->arena, pd_str_from(q + 1), req->query, PD_REQ_MAX_QUERY);
    }
    req->path = req->in->uri;
    const struct pd_door_prefix *d = req->in->srv->app.doors;
    for (; d && d->prefix; d++) {
        size_t n = strlen(d->prefix);
        if (strncmp(req->path, d->prefix, n) == 0 &&
            (req->path[n] == '/' || req->path[n] == '\0')) {
            req->door = d->door;
            req->path += n;
            break;
        }
    }
}

static void allow_header(struct pd_req *req, unsigned allowed)
{
    char text[64] = "";
    for (int m = 0; m < PD_N_METHODS; m++) {
        if (!(allowed & (1U << m)))
            continue;
        size_t n = strlen(text);
        snprintf(text + n, sizeof text - n, "%s%s", n ? ", " : "",
                 pd_method_name((enum pd_method)m));
    }
    pd_resp_header(req, "Allow", text);
}

/* No route: the front end's files, 405 or 404. Answered on the HTTP thread. */
static enum MHD_Result unrouted(struct pd_req *req)
{
    unsigned allowed = req->in->allowed;
    bool known_method = req->in->known_method;
    const struct pd_http_app *app = &req->in->srv->app;
    struct pd_err err = {0};
    if (known_method && req->method == PD_GET && !allowed && app->fallback && app->fallback(req))
        return send_answer(req);
    if (allowed || !known_method) {
        (void)PD_FAIL(&err, PD_UNSUPPORTED, "method not allowed here");
        app->error(req, 405, &err);
        allow_header(req, allowed);
    } else {
        (void)PD_FAIL(&err, PD_NOTFOUND, "no such page: %.200s", req->path);
        app->error(req, 404, &err);
    }
    return send_answer(req);
}

static bool has_body(const struct pd_req *req)
{
    const char *length = pd_req_header(req, "Content-Length");
    return (length && strcmp(length, "0") != 0) || pd_req_header(req, "Transfer-Encoding");
}

/* The headers are there: find the route, refuse what is too large before its body is read. */
static enum MHD_Result arrive(struct pd_req *req, const char *method)
{
    struct pd_req_int *in = req->in;
    struct pd_http_server *s = in->srv;
    struct pd_err err = {0};
    in->phase = PD__RECEIVING;
    in->counted = true;
    atomic_fetch_add(&s->requests, 1);
    pthread_mutex_lock(&s->lock);
    s->n_live++;
    pthread_mutex_unlock(&s->lock);
    in->headers = pd_arena_alloc(&req->arena, 64 * sizeof *in->headers);
    (void)MHD_get_connection_values(in->conn, MHD_HEADER_KIND, add_header, req);
    read_peer(req);
    read_uri(req);
    bool known = pd_method_parse(method, &req->method);
    struct pd_route_match m = {0};
    if (known)
        pd_router_match(s->app.router, req->method, pd_str_from(req->path), req->door, &m);
    in->known_method = known;
    in->allowed = m.allowed;
    if (!m.route) /* an answer before the body's end makes the library close the connection */
        return has_body(req) ? unrouted(req) : MHD_YES;
    req->route = m.route;
    for (size_t i = 0; i < m.n_params; i++)
        req->params[i] = pd_uri_decode(&req->arena, m.raw[i], false);
    const char *length = pd_req_header(req, "Content-Length");
    int64_t n = 0;
    if (length && pd_str_to_i64(pd_str_from(length), &n) && (uint64_t)n > m.route->body_max) {
        (void)PD_FAIL(&err, PD_TOOBIG,
                      "the request body has %lld bytes; at most %zu are taken here", (long long)n,
                      m.route->body_max);
        answer_error(req, 413, &err);
        return send_answer(req);
    }
    return MHD_YES;
}

static bool spool(struct pd_req_int *in, const char *p, size_t n)
{
    while (n) {
        ssize_t w = write(in->spool_fd, p, n);
        if (w < 0)
            return false;
        p += w;
        n -= (size_t)w;
    }
    return true;
}

/* One piece of the body. A refused body is read and dropped, so that the client hears why. */
static enum MHD_Result receive(struct pd_req *req, const char *p, size_t n)
{
    struct pd_req_int *in = req->in;
    in->received += n;
    atomic_fetch_add(&in->srv->bytes_in, n);
    if (in->reject.rc != PD_OK)
        return in->received > req->route->body_max + DRAIN_MAX ? MHD_NO : MHD_YES;
    if (in->received > req->route->body_max) {
        (void)PD_FAIL(&in->reject, PD_TOOBIG,
                      "the request body is larger than the %zu bytes taken here",
                      req->route->body_max);
        return MHD_YES;
    }
    if (in->spool_fd < 0 && (req->route->flags & PD_ROUTE_SPOOL) && in->received > SPOOL_AFTER) {
        FILE *f = tmpfile();
        in->spool_fd = f ? dup(fileno(f)) : -1;
        if (f)
            (void)fclose(f);
        if (in->spool_fd < 0 || !spool(in, in->mem.ptr ? in->mem.ptr : "", in->mem.len))
            (void)PD_FAIL_SYS(&in->reject, PD_IO,
                              "cannot keep the request body in a temporary file");
        pd_buf_release(&in->mem);
        pd_buf_init(&in->mem, 0);
    }
    if (in->spool_fd >= 0) {
        if (in->reject.rc == PD_OK && !spool(in, p, n))
            (void)PD_FAIL_SYS(&in->reject, PD_IO,
                              "cannot keep the request body in a temporary file");
    } else {
        pd_buf_add(&in->mem, p, n);
        if (in->mem.failed)
            (void)PD_FAIL(&in->reject, PD_NOMEM, "the request body does not fit in memory");
    }
    return MHD_YES;
}

static enum MHD_Result access_handler(void *cls, struct MHD_Connection *conn, const char *url,
                                      const char *method, const char *version, const char *upload,
                                      size_t *upload_size, void **con_cls)
{
    (void)url, (void)version, (void)cls;
    struct pd_req *req = *con_cls;
    if (!req)
        return MHD_NO;
    struct pd_req_int *in = req->in;
    switch (in->phase) {
    case PD__NEW:
        in->conn = conn;
        return arrive(req, method);
    case PD__RECEIVING:
        if (*upload_size) {
            size_t n = *upload_size;
            *upload_size = 0;
            return req->route ? receive(req, upload, n) : MHD_NO;
        }
        if (in->reject.rc != PD_OK) {
            answer_error(req, pd_rc_http(in->reject.rc), &in->reject);
            return send_answer(req);
        }
        req->body = pd_buf_str(&in->mem);
        return req->route ? dispatch(req) : unrouted(req);
    case PD__ANSWERED:
        return send_answer(req);
    case PD__WORKING:
    case PD__SENDING:
        break;
    }
    return MHD_YES;
}

static void count(struct pd_http_server *s, struct pd_req *req)
{
    struct pd_req_int *in = req->in;
    double ms = (double)(pd_time_mono_ns() - req->start_ns) / 1e6;
    int class = in->status / 100;
    atomic_fetch_add(&s->by_class[class >= 1 && class <= 5 ? class : 0], 1);
    if (in->kind != PD__STREAM)
        atomic_fetch_add(&s->bytes_out, in->kind == PD__STATIC ? in->fixed_len : in->out.len);
    for (int i = 0; i < 12 && in->kind != PD__STREAM; i++)
        if (ms <= pd_http_latency_ms[i])
            atomic_fetch_add(&s->latency_le[i], 1);
    if (s->access_log)
        pd_log(PD_LOG_INFO, "access", "id=%s peer=%s method=%s path=%s status=%d in=%zu ms=%.2f",
               req->id, req->peer, pd_method_name(req->method), req->path, in->status, in->received,
               ms);
}

static void completed(void *cls, struct MHD_Connection *conn, void **con_cls,
                      enum MHD_RequestTerminationCode why)
{
    (void)conn, (void)why;
    struct pd_http_server *s = cls;
    struct pd_req *req = *con_cls;
    if (!req)
        return;
    *con_cls = NULL;
    struct pd__stream *st = &req->in->stream;
    pthread_mutex_lock(&st->lock);
    st->gone = true;
    st->waiting = false;
    pthread_cond_broadcast(&st->room);
    pthread_mutex_unlock(&st->lock);
    if (req->in->counted) {
        count(s, req);
        pthread_mutex_lock(&s->lock);
        s->n_live--;
        pthread_cond_broadcast(&s->idle);
        pthread_mutex_unlock(&s->lock);
    }
    pd__req_unref(req);
}

static void *uri_log(void *cls, const char *uri, struct MHD_Connection *conn)
{
    struct pd_req *req = pd__req_new(cls, uri);
    req->in->conn = conn;
    req->app = ((struct pd_http_server *)cls)->app.data;
    return req;
}

static void *uri_log_local(void *cls, const char *uri, struct MHD_Connection *conn)
{
    struct pd_req *req = uri_log(cls, uri, conn);
    req->local = true;
    return req;
}

static size_t keep_encoded(void *cls, struct MHD_Connection *conn, char *s)
{
    (void)cls, (void)conn;
    return strlen(s);
}

static void mhd_log(void *cls, const char *fmt, va_list ap)
{
    (void)cls;
    char line[300];
    vsnprintf(line, sizeof line, fmt, ap);
    line[strcspn(line, "\r\n")] = '\0';
    pd_log(PD_LOG_DEBUG, "http", "%s", line);
}

/* ------------------------------------------------------------------ start and stop */

static struct MHD_Daemon *daemon_start(struct pd_http_server *s, int fd, unsigned threads,
                                       void *(*on_uri)(void *, const char *,
                                                       struct MHD_Connection *))
{
    const unsigned flags =
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC | MHD_USE_ERROR_LOG;
    struct MHD_OptionItem pool[] = {
        {threads > 1 ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END, (intptr_t)threads, NULL},
        {MHD_OPTION_END, 0, NULL}};
    return MHD_start_daemon(flags, 0, NULL, NULL, access_handler, s, MHD_OPTION_EXTERNAL_LOGGER,
                            mhd_log, NULL, MHD_OPTION_LISTEN_SOCKET, fd,
                            MHD_OPTION_URI_LOG_CALLBACK, on_uri, s, MHD_OPTION_NOTIFY_COMPLETED,
                            completed, s, MHD_OPTION_UNESCAPE_CALLBACK, keep_encoded, NULL,
                            MHD_OPTION_CONNECTION_LIMIT, 6000U, MHD_OPTION_CONNECTION_TIMEOUT, 75U,
                            MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)(64 << 10),
                            MHD_OPTION_ARRAY, pool, MHD_OPTION_END);
}

static enum pd_rc start_listeners(struct pd_http_server *s, const struct pd_http_config *cfg,
                                  struct pd_err *err)
{
    int fd = -1;
    if (cfg->listen) {
        enum pd_rc rc = pd_listen_tcp(cfg->listen, &fd, s->url, err);
        if (rc != PD_OK)
            return rc;
        s->tcp = daemon_start(s, fd, 2, uri_log);
        if (!s->tcp) {
            close(fd);
            return PD_FAIL_SYS(err, PD_IO, "cannot start the HTTP server on %s", cfg->listen);
        }
    }
    if (cfg->unix_path) {
        enum pd_rc rc = pd_listen_unix(cfg->unix_path, &fd, err);
        if (rc != PD_OK)
            return rc;
        s->unix_path = pd_xstrdup(cfg->unix_path);
        s->local = daemon_start(s, fd, 1, uri_log_local);
        if (!s->local) {
            close(fd);
            return PD_FAIL_SYS(err, PD_IO, "cannot start the HTTP server on %s", cfg->unix_path);
        }
    }
    return PD_OK;
}

enum pd_rc pd_http_server_start(struct pd_http_server **out, const struct pd_http_config *cfg,
                                const struct pd_http_app *app, struct pd_err *err)
{
    struct pd_http_server *s = pd_xalloc(sizeof *s);
    pd_crypt_init();
    s->app = *app;
    s->access_log = cfg->access_log;
    s->tail = &s->head;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, NULL);
    pthread_cond_init(&s->idle, NULL);
    pthread_mutex_init(&s->tick_lock, NULL);
    pthread_cond_init(&s->tick_cond, NULL);
    if (pthread_create(&s->ticker, NULL, ticker_main, s) != 0)
        pd_bug("cannot start a thread");
    int n = cfg->workers > 0 ? cfg->workers : DEFAULT_WORKERS;
    s->workers = pd_xalloc((size_t)n * sizeof *s->workers);
    for (; s->n_workers < n; s->n_workers++)
        if (pthread_create(&s->workers[s->n_workers], NULL, worker_main, s) != 0)
            pd_bug("cannot start a thread");
    enum pd_rc rc = start_listeners(s, cfg, err);
    if (rc != PD_OK) {
        pd_http_server_stop(s, 0);
        return rc;
    }
    *out = s;
    return PD_OK;
}

const char *pd_http_server_url(const struct pd_http_server *s)
{
    return s->url;
}

/* Waits until *count (n_live or n_long) is 0, at most grace_ms. */
static void wait_idle(struct pd_http_server *s, const int *count, int grace_ms)
{
    int64_t deadline = pd_time_mono_ns() + (int64_t)grace_ms * 1000000;
    pthread_mutex_lock(&s->lock);
    while (*count > 0 && pd_time_mono_ns() < deadline) {
        struct timespec ts;
        clock_gettime(CLOCK_REALTIME, &ts);
        ts.tv_nsec += 50 * 1000000;
        ts.tv_sec += ts.tv_nsec / 1000000000;
        ts.tv_nsec %= 1000000000;
        (void)pthread_cond_timedwait(&s->idle, &s->lock, &ts);
    }
    pthread_mutex_unlock(&s->lock);
}

void pd_http_server_stop(struct pd_http_server *s, int grace_ms)
{
    if (!s)
        return;
    int tcp_fd = s->tcp ? MHD_quiesce_daemon(s->tcp) : -1;
    int local_fd = s->local ? MHD_quiesce_daemon(s->local) : -1;
    s->stopping = true;
    pthread_mutex_lock(&s->tick_lock);
    s->tick_stop = true;
    pthread_cond_broadcast(&s->tick_cond);
    pthread_mutex_unlock(&s->tick_lock);
    pthread_join(s->ticker, NULL);
    wait_idle(s, &s->n_live, grace_ms);
    s->give_up = true;
    wait_idle(s, &s->n_long, 600000);
    pthread_mutex_lock(&s->lock);
    s->closing = true;
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < s->n_workers; i++)
        pthread_join(s->workers[i], NULL);
    if (s->tcp)
        MHD_stop_daemon(s->tcp);
    if (s->local)
        MHD_stop_daemon(s->local);
    if (tcp_fd >= 0)
        close(tcp_fd);
    if (local_fd >= 0)
        close(local_fd);
    if (s->unix_path)
        (void)unlink(s->unix_path);
    pd_free(s->unix_path);
    pd_free(s->workers);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->work);
    pthread_cond_destroy(&s->idle);
    pthread_mutex_destroy(&s->tick_lock);
    pthread_cond_destroy(&s->tick_cond);
    pd_free(s);
}

void pd_http_server_stats(struct pd_http_server *s, struct pd_http_stats *out)
{
    *out = (struct pd_http_stats){.requests = s->requests,
                                  .bytes_in = s->bytes_in,
                                  .bytes_out = s->bytes_out,
                                  .busy_ns = s->busy_ns};
    for (int i = 0; i < 6; i++)
        out->by_class[i] = s->by_class[i];
    for (int i = 0; i < 12; i++)
        out->latency_le[i] = s->latency_le[i];
    pthread_mutex_lock(&s->lock);
    out->queued = s->queued;
    out->connections = s->n_live;
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_lock(&s->tick_lock);
    out->streams = s->n_streams;
    pthread_mutex_unlock(&s->tick_lock);
}
