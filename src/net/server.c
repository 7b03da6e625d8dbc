/* Requests come in; starting and stopping. server_int.h says where the rest is. */
#include "net/server_int.h"

#include "base/crypt.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "net/listen.h"

#include <arpa/inet.h>

enum {
    DEFAULT_WORKERS = 8,
    DEFAULT_LONG = 32,       /* handlers with a thread of their own */
    SPOOL_AFTER = 1 << 20,   /* bytes of a body kept in memory on SPOOL routes */
    DRAIN_MAX = 64 << 20,    /* of a refused body, before the connection is cut */
    STRANGERS_MAX = 4 << 20, /* a longer body is taken only from who may send it */
};

const double pd_http_latency_ms[12] = {0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000};

/* ------------------------------------------------------------------ requests come in */

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
        return pd__send_answer(req);
    if (allowed || !known_method) {
        (void)PD_FAIL(&err, PD_UNSUPPORTED, "method not allowed here");
        app->error(req, 405, &err);
        allow_header(req, allowed);
    } else {
        (void)PD_FAIL(&err, PD_NOTFOUND, "no such page: %.200s", req->path);
        app->error(req, 404, &err);
    }
    return pd__send_answer(req);
}

static bool has_body(const struct pd_req *req)
{
    const char *length = pd_req_header(req, "Content-Length");
    return (length && strcmp(length, "0") != 0) || pd_req_header(req, "Transfer-Encoding");
}

/* Runs the gate before the body is taken; the worker runs it again with the body. A
 * refusal is answered at once. */
static enum MHD_Result admit(struct pd_req *req)
{
    const struct pd_http_app *app = &req->in->srv->app;
    struct pd_err err = {0};
    enum pd_rc rc = app->gate(req, &err);
    if (rc != PD_OK)
        pd__answer_error(req, pd_rc_http(rc), &err);
    if (app->after)
        app->after(req);
    return req->in->kind == PD__NONE ? MHD_YES : pd__send_answer(req);
}

/* The headers are there: find the route, refuse what is too large or comes from a stranger before
 * its body is read. */
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
    in->linger = has_body(req); /* until its body is there */
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
        pd__answer_error(req, 413, &err);
        return pd__send_answer(req);
    }
    if (s->app.gate && m.route->body_max > STRANGERS_MAX && has_body(req))
        return admit(req);
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
        in->linger = false;
        if (in->reject.rc != PD_OK) {
            pd__answer_error(req, pd_rc_http(in->reject.rc), &in->reject);
            return pd__send_answer(req);
        }
        req->body = pd_buf_str(&in->mem);
        return req->route ? pd__dispatch(req) : unrouted(req);
    case PD__ANSWERED:
        return pd__send_answer(req);
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
    (void)why;
    struct pd_http_server *s = cls;
    struct pd_req *req = *con_cls;
    if (!req)
        return;
    *con_cls = NULL;
    if (req->in->linger) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);
        if (info)
            pd__linger(s, info->connect_fd);
    }
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

/* A stopping server takes no new connection. MHD_quiesce_daemon is not the way: it and the
 * library's threads both take the listening socket out of the same epoll set, and the second of
 * them aborts the process (libmicrohttpd 0.9.75). */
static enum MHD_Result take_connection(void *cls, const struct sockaddr *from, socklen_t len)
{
    (void)from, (void)len;
    return ((struct pd_http_server *)cls)->stopping ? MHD_NO : MHD_YES;
}

static struct MHD_Daemon *daemon_start(struct pd_http_server *s, int fd, unsigned threads,
                                       void *(*on_uri)(void *, const char *,
                                                       struct MHD_Connection *))
{
    const unsigned flags =
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC | MHD_USE_ERROR_LOG;
    struct MHD_OptionItem pool[] = {
        {threads > 1 ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END, (intptr_t)threads, NULL},
        {MHD_OPTION_END, 0, NULL}};
    return MHD_start_daemon(flags, 0, take_connection, s, access_handler, s,
                            MHD_OPTION_EXTERNAL_LOGGER, mhd_log, NULL, MHD_OPTION_LISTEN_SOCKET, fd,
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
    s->long_max = cfg->long_max > 0 ? cfg->long_max : DEFAULT_LONG;
    s->tail = &s->head;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, NULL);
    pthread_cond_init(&s->idle, NULL);
    pthread_mutex_init(&s->tick_lock, NULL);
    pthread_cond_init(&s->tick_cond, NULL);
    pthread_mutex_init(&s->linger_lock, NULL);
    pthread_cond_init(&s->linger_cond, NULL);
    if (pthread_create(&s->ticker, NULL, pd__ticker_main, s) != 0 ||
        pthread_create(&s->linger, NULL, pd__linger_main, s) != 0)
        pd_bug("cannot start a thread");
    int n = cfg->workers > 0 ? cfg->workers : DEFAULT_WORKERS;
    s->workers = pd_xalloc((size_t)n * sizeof *s->workers);
    for (; s->n_workers < n; s->n_workers++)
        if (pthread_create(&s->workers[s->n_workers], NULL, pd__worker_main, s) != 0)
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
    s->stopping = true;
    pthread_mutex_lock(&s->tick_lock);
    s->tick_stop = true;
    pthread_cond_broadcast(&s->tick_cond);
    pthread_mutex_unlock(&s->tick_lock);
    pthread_join(s->ticker, NULL);
    wait_idle(s, &s->n_live, grace_ms);
    s->give_up = true;
    pthread_mutex_lock(&s->lock);
    s->closing = true;
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->lock);
    wait_idle(s, &s->n_long, 600000);
    for (int i = 0; i < s->n_workers; i++)
        pthread_join(s->workers[i], NULL);
    if (s->tcp)
        MHD_stop_daemon(s->tcp);
    if (s->local)
        MHD_stop_daemon(s->local);
    pthread_mutex_lock(&s->linger_lock);
    s->linger_stop = true;
    pthread_cond_broadcast(&s->linger_cond);
    pthread_mutex_unlock(&s->linger_lock);
    pthread_join(s->linger, NULL);
    pthread_mutex_destroy(&s->linger_lock);
    pthread_cond_destroy(&s->linger_cond);
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
