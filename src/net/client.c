#include "net/client.h"

#include "base/mem.h"
#include "base/time.h"

#define CURL_DISABLE_TYPECHECK /* its checks are macros over the names below */
#include <curl/curl.h>
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* libcurl brings thirty libraries with it, which would be most of the time that `podium --version`
 * takes: it is opened when the first request is made. */
#undef curl_easy_setopt
#undef curl_easy_getinfo
#define CURL_LIST(X)                                                                               \
    X(global_init)                                                                                 \
    X(easy_init)                                                                                   \
    X(easy_setopt)                                                                                 \
    X(easy_perform)                                                                                \
    X(easy_getinfo)                                                                                \
    X(easy_strerror)                                                                               \
    X(easy_reset)                                                                                  \
    X(easy_cleanup)                                                                                \
    X(slist_append)                                                                                \
    X(slist_free_all)

static struct {
#define X(name) __typeof__(&curl_##name) name;
    CURL_LIST(X)
#undef X
    char missing[200]; /* why it cannot be used */
} curl;

#define MAX_WAIT_S ((int64_t)1000000000) /* a longer one is this one */

struct state {
    struct pd_http_call *call;
    struct pd_str body; /* what is left of it */
    struct pd_err *err;
    enum pd_rc rc;
    CURL *curl;
    int64_t last_ns; /* when a byte last moved */
    bool headed, waits_ms;
};

/* Reads off what the head of the answer says, once. */
static enum pd_rc head(struct state *st)
{
    struct pd_http_call *c = st->call;
    long status = 0;
    char *type = NULL;
    curl_off_t wait = 0;
    if (st->headed)
        return PD_OK;
    st->headed = true;
    curl.easy_getinfo(st->curl, CURLINFO_RESPONSE_CODE, &status);
    curl.easy_getinfo(st->curl, CURLINFO_CONTENT_TYPE, &type);
    curl.easy_getinfo(st->curl, CURLINFO_RETRY_AFTER, &wait);
    c->status = (int)status;
    if (c->retry_after_ms == 0 && wait > 0) /* else on_header has it, to the millisecond */
        c->retry_after_ms = wait < MAX_WAIT_S ? wait * 1000 : MAX_WAIT_S * 1000;
    snprintf(c->type, sizeof c->type, "%s", type ? type : "");
    return c->on_head && status ? c->on_head(c->ctx, c, st->err) : PD_OK;
}

/* Asked about once a second. libcurl's own limit is on an average over seconds, which a stall after
 * the first bytes takes long to bring down. */
static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t d, curl_off_t e)
{
    struct state *st = arg;
    (void)a, (void)b, (void)d, (void)e;
    if (st->call->stop && st->call->stop(st->call->ctx)) {
        st->rc = PD_FAIL(st->err, PD_INTERRUPTED, "%s: given up", st->call->url);
        return 1;
    }
    int64_t silent = pd_time_mono_ns() - st->last_ns;
    if (st->call->idle_timeout_s && silent >= st->call->idle_timeout_s * INT64_C(1000000000)) {
        st->rc = PD_FAIL(st->err, PD_IO, "%s: nothing came for %d s", st->call->url,
                         st->call->idle_timeout_s);
        return 1;
    }
    return 0;
}

/* The value of a header when it is `name` and a number of at least 0, else -1. */
static double header_number(struct pd_str line, const char *name)
{
    double v = -1;
    size_t n = strlen(name);
    if (line.len <= n || line.ptr[n] != ':' || strncasecmp(line.ptr, name, n) != 0)
        return -1;
    struct pd_str value = pd_str_trim((struct pd_str){line.ptr + n + 1, line.len - n - 1});
    return pd_str_to_f64(value, &v) && v >= 0 ? v : -1;
}

/* libcurl knows whole seconds and dates; endpoints also send fractions, and milliseconds under a
 * name of their own, which says it better where both are there. */
static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
    struct state *st = arg;
    struct pd_str line = {p, size * n};
    st->last_ns = pd_time_mono_ns();
    double ms = header_number(line, "retry-after-ms"), s = header_number(line, "retry-after");
    if (ms < 0 && s >= 0 && !st->waits_ms)
        ms = s * 1000;
    else
        st->waits_ms = st->waits_ms || ms >= 0;
    if (ms >= 0)
        st->call->retry_after_ms = ms < (double)MAX_WAIT_S * 1000 ? (int64_t)ms : MAX_WAIT_S * 1000;
    return line.len;
}

static size_t on_write(char *p, size_t size, size_t n, void *arg)
{
    struct state *st = arg;
    struct pd_str piece = {p, size * n};
    st->rc = head(st);
    if (st->rc != PD_OK)
        return 0;
    st->last_ns = pd_time_mono_ns();
    if (st->call->on_data) {
        st->rc = st->call->on_data(st->call->ctx, piece, st->err);
        st->last_ns = pd_time_mono_ns(); /* the wait may have been the caller's */
        return st->rc == PD_OK ? piece.len : 0;
    }
    if (st->call->out) {
        pd_buf_addstr(st->call->out, piece);
        if (st->call->out->failed) {
            st->rc = PD_FAIL(st->err, PD_TOOBIG, "%s: the answer is too large", st->call->url);
            return 0;
        }
    }
    return piece.len;
}

static size_t on_read(char *to, size_t size, size_t n, void *arg)
{
    struct state *st = arg;
    size_t room = size * n;
    st->last_ns = pd_time_mono_ns();
    if (st->body.len) {
        size_t take = st->body.len < room ? st->body.len : room;
        memcpy(to, st->body.ptr, take);
        st->body.ptr += take;
        st->body.len -= take;
        return take;
    }
    if (st->call->body_fd < 0)
        return 0;
    ssize_t got = read(st->call->body_fd, to, room);
    if (got < 0) {
        st->rc = PD_FAIL_SYS(st->err, PD_IO, "cannot read the request body");
        return CURL_READFUNC_ABORT;
    }
    return (size_t)got;
}

/* A kept connection may turn out to be closed: the body is sent once more over a new one. */
static int on_seek(void *arg, curl_off_t at, int origin)
{
    struct state *st = arg;
    struct pd_str body = st->call->body;
    if (origin != SEEK_SET || st->call->body_fd >= 0 || (size_t)at > body.len)
        return CURL_SEEKFUNC_CANTSEEK;
    st->body = (struct pd_str){body.ptr + at, body.len - (size_t)at};
    return CURL_SEEKFUNC_OK;
}

static void open_curl(void)
{
    void *lib = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
    if (!lib)
        lib = dlopen("libcurl-gnutls.so.4", RTLD_NOW | RTLD_LOCAL);
    void *at = NULL;
#define X(name)                                                                                    \
    if (lib && (at = dlsym(lib, "curl_" #name)) != NULL)                                           \
        memcpy(&curl.name, &at, sizeof at);                                                        \
    else                                                                                           \
        lib = NULL;
    CURL_LIST(X)
#undef X
    if (lib) {
        curl.global_init(CURL_GLOBAL_DEFAULT);
        return;
    }
    const char *why = dlerror();
    snprintf(curl.missing, sizeof curl.missing, "%s", why ? why : "a function is missing in it");
}

static void set_limits(CURL *h, struct state *st)
{
    const struct pd_http_call *c = st->call;
    curl.easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS,
                     (long)(c->connect_timeout_ms ? c->connect_timeout_ms : 5000));
    curl.easy_setopt(h, CURLOPT_TIMEOUT_MS, (long)c->timeout_ms);
    curl.easy_setopt(h, CURLOPT_NOPROGRESS, c->stop || c->idle_timeout_s ? 0L : 1L);
    curl.easy_setopt(h, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl.easy_setopt(h, CURLOPT_XFERINFODATA, st);
}

void pd_http_conn_release(struct pd_http_conn *c)
{
    if (c->handle)
        curl.easy_cleanup(c->handle);
    c->handle = NULL;
}

enum pd_rc pd_http_call(struct pd_http_call *c, struct pd_err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, open_curl);
    if (curl.missing[0])
        return PD_FAIL(err, PD_UNSUPPORTED, "libcurl cannot be opened (Debian: libcurl4): %s",
                       curl.missing);
    struct state st = {.call = c, .body = c->body, .err = err, .last_ns = pd_time_mono_ns()};
    char why[CURL_ERROR_SIZE] = "";
    struct curl_slist *headers = NULL;
    CURL *h = c->conn && c->conn->handle ? c->conn->handle : curl.easy_init();
    if (!h)
        return PD_FAIL(err, PD_NOMEM, "cannot make an HTTP client");
    curl.easy_reset(h);
    st.curl = h;
    c->status = 0;
    c->retry_after_ms = 0;
    bool upload = c->body.len || c->body_fd >= 0;
    if (upload)
        headers = curl.slist_append(headers, "Expect:");
    for (size_t i = 0; c->headers && c->headers[i]; i++)
        headers = curl.slist_append(headers, c->headers[i]);
    curl.easy_setopt(h, CURLOPT_URL, c->url);
    curl.easy_setopt(h, CURLOPT_CUSTOMREQUEST, c->method);
    curl.easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl.easy_setopt(h, CURLOPT_ERRORBUFFER, why);
    curl.easy_setopt(h, CURLOPT_HTTPHEADER, headers);
    curl.easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
    curl.easy_setopt(h, CURLOPT_HEADERDATA, &st);
    curl.easy_setopt(h, CURLOPT_WRITEFUNCTION, on_write);
    curl.easy_setopt(h, CURLOPT_WRITEDATA, &st);
    set_limits(h, &st);
    curl.easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
    if (c->unix_path) {
        curl.easy_setopt(h, CURLOPT_UNIX_SOCKET_PATH, c->unix_path);
        curl.easy_setopt(h, CURLOPT_PROXY, ""); /* whatever the environment says */
    }
    if (upload) {
        curl.easy_setopt(h, CURLOPT_UPLOAD, 1L);
        curl.easy_setopt(h, CURLOPT_READFUNCTION, on_read);
        curl.easy_setopt(h, CURLOPT_READDATA, &st);
        curl.easy_setopt(h, CURLOPT_SEEKFUNCTION, on_seek);
        curl.easy_setopt(h, CURLOPT_SEEKDATA, &st);
        if (c->body_fd < 0)
            curl.easy_setopt(h, CURLOPT_INFILESIZE_LARGE, (curl_off_t)c->body.len);
    }
    CURLcode code = curl.easy_perform(h);
    if (code != CURLE_OK && st.rc == PD_OK)
        st.rc = PD_FAIL(err, PD_IO, "%s%s%s: %s", c->url, c->unix_path ? " over " : "",
                        c->unix_path ? c->unix_path : "", why[0] ? why : curl.easy_strerror(code));
    char *location = NULL; /* known at the end only */
    curl.easy_getinfo(h, CURLINFO_REDIRECT_URL, &location);
    bool fits = location && strlen(location) < sizeof c->location;
    snprintf(c->location, sizeof c->location, "%s", fits ? location : "");
    enum pd_rc headed = head(&st);
    if (st.rc == PD_OK)
        st.rc = headed;
    curl.slist_free_all(headers);
    if (c->conn)
        c->conn->handle = h;
    else
        curl.easy_cleanup(h);
    return st.rc;
}
