/* Requests and answers, apart from the HTTP library. */
#include "net/http_int.h"

#include "base/crypt.h"
#include "base/mem.h"
#include "base/time.h"

#include <unistd.h>

enum { STREAM_HIGH_WATER = 1 << 20 };

struct pd_req *pd__req_new(struct pd_http_server *s, const char *uri)
{
    struct pd_req *req = pd_xalloc(sizeof *req);
    struct pd_req_int *in = pd_xalloc(sizeof *in);
    pd_arena_init(&req->arena);
    req->in = in;
    req->door = -1;
    req->start_ns = pd_time_mono_ns();
    in->srv = s;
    in->refs = 1;
    in->spool_fd = -1;
    in->uri = pd_arena_strdup(&req->arena, uri);
    pd_buf_init(&in->mem, 0);
    pd_buf_init(&in->out, 0);
    pthread_mutex_init(&in->stream.lock, NULL);
    pthread_cond_init(&in->stream.room, NULL);
    pd_buf_init(&in->stream.buf, 0);
    unsigned char id[8];
    pd_crypt_random(id, sizeof id);
    for (size_t i = 0; i < sizeof id; i++)
        snprintf(req->id + 2 * i, 3, "%02x", id[i]);
    return req;
}

void pd__req_unref(struct pd_req *req)
{
    struct pd_req_int *in = req->in;
    if (atomic_fetch_sub(&in->refs, 1) != 1)
        return;
    if (in->stream.is_sse && in->stream.sse.release)
        in->stream.sse.release(in->stream.sse.ctx);
    pd_buf_release(&in->mem);
    pd_buf_release(&in->out);
    pd_buf_release(&in->stream.buf);
    pthread_cond_destroy(&in->stream.room);
    pthread_mutex_destroy(&in->stream.lock);
    if (in->spool_fd >= 0)
        close(in->spool_fd);
    pd_free(in);
    pd_arena_release(&req->arena);
    pd_free(req);
}

/* ---- reading */

struct pd_str pd_req_param(const struct pd_req *req, const char *name)
{
    const char *p = req->route ? req->route->pattern : "";
    for (size_t i = 0; i < PD_REQ_MAX_PARAMS && (p = strchr(p, '{')); i++) {
        size_t n = strcspn(++p, "*}");
        if (strlen(name) == n && memcmp(p, name, n) == 0)
            return req->params[i];
    }
    return (struct pd_str){NULL, 0};
}

struct pd_str pd_req_query(const struct pd_req *req, const char *key)
{
    for (size_t i = 0; i < req->n_query; i++)
        if (pd_str_eqz(req->query[i].key, key))
            return req->query[i].value;
    return (struct pd_str){NULL, 0};
}

enum pd_rc pd_req_query_i64(const struct pd_req *req, const char *key, int64_t min, int64_t max,
                            int64_t fallback, int64_t *out, struct pd_err *err)
{
    struct pd_str v = pd_req_query(req, key);
    int64_t n = fallback;
    if (v.ptr && (!pd_str_to_i64(v, &n) || n < min || n > max))
        return PD_FAIL(err, PD_INVALID,
                       "query parameter %s must be a whole number from %lld to %lld", key,
                       (long long)min, (long long)max);
    *out = n;
    return PD_OK;
}

const char *pd_req_header(const struct pd_req *req, const char *name)
{
    for (size_t i = 0; i < req->in->n_headers; i++)
        if (strcasecmp(req->in->headers[i].key.ptr, name) == 0)
            return req->in->headers[i].value.ptr;
    return NULL;
}

struct pd_str pd_req_cookie(const struct pd_req *req, const char *name)
{
    return pd_uri_cookie(pd_str_from(pd_req_header(req, "Cookie")), name);
}

static void put_json(void *o)
{
    json_object_put(o);
}

enum pd_rc pd_req_json(struct pd_req *req, struct json_object **out, struct pd_err *err)
{
    struct json_object *o = NULL;
    if (req->body.len == 0) {
        o = json_object_new_object();
    } else {
        enum pd_rc rc = pd_json_parse(req->body, &o, err);
        if (rc != PD_OK) {
            (void)pd_err_prefix(err, "request body");
            return rc;
        }
    }
    pd_arena_defer(&req->arena, put_json, o);
    if (!json_object_is_type(o, json_type_object))
        return PD_FAIL(err, PD_PARSE, "request body: found %s, expected a JSON object",
                       pd_json_type_name(o));
    *out = o;
    return PD_OK;
}

struct pd_str pd_req_form(struct pd_req *req, const char *key)
{
    struct pd_pair pairs[32];
    size_t n = pd_uri_pairs(&req->arena, req->body, pairs, 32);
    for (size_t i = 0; i < n; i++)
        if (pd_str_eqz(pairs[i].key, key))
            return pairs[i].value;
    return (struct pd_str){NULL, 0};
}

enum pd_rc pd_req_body_fd(struct pd_req *req, int *fd, struct pd_err *err)
{
    struct pd_req_int *in = req->in;
    if (in->spool_fd < 0) {
        FILE *f = tmpfile();
        if (!f)
            return PD_FAIL_SYS(err, PD_IO, "cannot make a temporary file for the request body");
        in->spool_fd = dup(fileno(f));
        bool ok = in->spool_fd >= 0 &&
                  fwrite(req->body.ptr ? req->body.ptr : "", 1, req->body.len, f) == req->body.len;
        ok = fclose(f) == 0 && ok;
        if (!ok)
            return PD_FAIL_SYS(err, PD_IO, "cannot write the request body to a temporary file");
    }
    if (lseek(in->spool_fd, 0, SEEK_SET) != 0)
        return PD_FAIL_SYS(err, PD_IO, "cannot rewind the request body");
    *fd = in->spool_fd;
    return PD_OK;
}

/* ---- answering */

static void begin(struct pd_req *req, enum pd__answer kind, int status, const char *type)
{
    struct pd_req_int *in = req->in;
    if (in->kind == PD__STREAM)
        pd_bug("%s: answered twice", req->path);
    in->kind = kind;
    in->status = status;
    in->type = type;
    pd_buf_clear(&in->out);
}

struct pd_jw *pd_resp_json(struct pd_req *req, int status)
{
    begin(req, PD__BUFFER, status, "application/json");
    pd_jw_init(&req->in->jw, &req->in->out);
    return &req->in->jw;
}

struct pd_buf *pd_resp_body(struct pd_req *req, int status, const char *type)
{
    begin(req, PD__BUFFER, status, type);
    return &req->in->out;
}

void pd_resp_empty(struct pd_req *req, int status)
{
    begin(req, PD__BUFFER, status, NULL);
}

void pd_resp_redirect(struct pd_req *req, const char *to)
{
    pd_resp_empty(req, 303);
    pd_resp_header(req, "Location", to);
}

void pd_resp_header(struct pd_req *req, const char *name, const char *value)
{
    struct pd_req_int *in = req->in;
    if (strpbrk(value, "\r\n") ||
        in->n_resp_headers == sizeof in->resp_headers / sizeof in->resp_headers[0])
        pd_bug("header %s cannot be sent", name);
    in->resp_headers[in->n_resp_headers++] =
        (struct pd_pair){pd_str_from(name), pd_str_from(pd_arena_strdup(&req->arena, value))};
}

void pd_resp_static(struct pd_req *req, int status, const char *type, const void *p, size_t n)
{
    begin(req, PD__STATIC, status, type);
    req->in->fixed = p;
    req->in->fixed_len = n;
}

void pd_resp_etag(struct pd_req *req)
{
    char hash[65];
    struct pd_req_int *in = req->in;
    if (in->kind != PD__BUFFER || in->out.failed)
        return;
    pd_sha256_of(pd_buf_str(&in->out), hash);
    const char *tag = pd_arena_printf(&req->arena, "\"%.24s\"", hash);
    const char *match = pd_req_header(req, "If-None-Match");
    if (match && strstr(match, tag))
        pd_resp_empty(req, 304);
    pd_resp_header(req, "ETag", tag);
}

int pd_resp_status(const struct pd_req *req)
{
    return req->in->kind == PD__NONE ? 0 : req->in->status;
}

void pd_resp_reset(struct pd_req *req)
{
    struct pd_req_int *in = req->in;
    if (pd_resp_stream_began(req))
        pd_bug("%s: the answer is already being sent", req->path);
    in->kind = PD__NONE;
    in->n_resp_headers = 0;
    pd_buf_clear(&in->out);
}

/* ---- streams */

void pd_resp_stream(struct pd_req *req, int status, const char *type)
{
    begin(req, PD__STREAM, status, type);
}

bool pd_resp_stream_began(const struct pd_req *req)
{
    return req->in->began;
}

enum pd_rc pd_resp_write(struct pd_req *req, const void *p, size_t n, struct pd_err *err)
{
    struct pd__stream *s = &req->in->stream;
    PD_ASSERT(req->in->kind == PD__STREAM);
    if (!req->in->began) {
        req->in->began = true;
        pd__answer_ready(req);
    }
    pthread_mutex_lock(&s->lock);
    bool cut = false;
    while (!s->gone && !cut && s->buf.len - s->at > STREAM_HIGH_WATER) {
        struct timespec ts;
        clock_gettime(CLOCK_REALTIME, &ts);
        ts.tv_sec += 1;
        (void)pthread_cond_timedwait(&s->room, &s->lock, &ts);
        cut = pd__server_gives_up(req->in->srv);
    }
    bool gone = s->gone || cut;
    if (!gone) {
        pd_buf_add(&s->buf, p, n);
        pd__stream_wake(req);
    }
    pthread_mutex_unlock(&s->lock);
    return gone ? PD_FAIL(err, PD_IO, "the client closed the connection") : PD_OK;
}

static ssize_t stream_file_write(void *cookie, const char *p, size_t n)
{
    return pd_resp_write(cookie, p, n, NULL) == PD_OK ? (ssize_t)n : 0;
}

FILE *pd_resp_stream_file(struct pd_req *req)
{
    FILE *f = fopencookie(req, "w", (cookie_io_functions_t){.write = stream_file_write});
    if (f)
        setvbuf(f, NULL, _IOFBF, 1 << 16);
    return f;
}

void pd_resp_sse(struct pd_req *req, const struct pd_sse *source)
{
    begin(req, PD__STREAM, 200, "text/event-stream");
    req->in->stream.sse = *source;
    req->in->stream.is_sse = true;
    pd_resp_header(req, "X-Accel-Buffering", "no");
}

void pd_sse_event(struct pd_buf *out, const char *id, const char *name, struct pd_str data)
{
    if (id)
        pd_buf_addf(out, "id: %s\n", id);
    if (name)
        pd_buf_addf(out, "event: %s\n", name);
    struct pd_str line;
    while (pd_str_split(&data, '\n', &line)) {
        pd_buf_adds(out, "data: ");
        pd_buf_addstr(out, line);
        pd_buf_addc(out, '\n');
    }
    pd_buf_addc(out, '\n');
}
