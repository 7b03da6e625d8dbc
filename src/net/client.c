#include "net/client.h"

#include "base/mem.h"

#define CURL_DISABLE_TYPECHECK /* its checks are macros over the names below */
#include <curl/curl.h>
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>
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
    X(easy_cleanup)                                                                                \
    X(slist_append)                                                                                \
    X(slist_free_all)

static struct {
#define X(name) __typeof__(&curl_##name) name;
    CURL_LIST(X)
#undef X
    char missing[200]; /* why it cannot be used */
} curl;

struct state {
    struct pd_http_call *call;
    struct pd_str body; /* what is left of it */
    struct pd_err *err;
    enum pd_rc rc;
};

static size_t on_write(char *p, size_t size, size_t n, void *arg)
{
    struct state *st = arg;
    struct pd_str piece = {p, size * n};
    if (st->call->on_data) {
        st->rc = st->call->on_data(st->call->ctx, piece, st->err);
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

enum pd_rc pd_http_call(struct pd_http_call *c, struct pd_err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, open_curl);
    if (curl.missing[0])
        return PD_FAIL(err, PD_UNSUPPORTED, "libcurl cannot be opened (Debian: libcurl4): %s",
                       curl.missing);
    struct state st = {.call = c, .body = c->body, .err = err, .rc = PD_OK};
    char why[CURL_ERROR_SIZE] = "";
    long status = 0;
    struct curl_slist *headers = NULL;
    CURL *h = curl.easy_init();
    if (!h)
        return PD_FAIL(err, PD_NOMEM, "cannot make an HTTP client");
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
    curl.easy_setopt(h, CURLOPT_WRITEFUNCTION, on_write);
    curl.easy_setopt(h, CURLOPT_WRITEDATA, &st);
    curl.easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS,
                     (long)(c->connect_timeout_ms ? c->connect_timeout_ms : 5000));
    curl.easy_setopt(h, CURLOPT_TIMEOUT_MS, (long)c->timeout_ms);
    curl.easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
    if (c->unix_path)
        curl.easy_setopt(h, CURLOPT_UNIX_SOCKET_PATH, c->unix_path);
    if (upload) {
        curl.easy_setopt(h, CURLOPT_UPLOAD, 1L);
        curl.easy_setopt(h, CURLOPT_READFUNCTION, on_read);
        curl.easy_setopt(h, CURLOPT_READDATA, &st);
        if (c->body_fd < 0)
            curl.easy_setopt(h, CURLOPT_INFILESIZE_LARGE, (curl_off_t)c->body.len);
    }
    CURLcode code = curl.easy_perform(h);
    if (code != CURLE_OK && st.rc == PD_OK)
        st.rc = PD_FAIL(err, PD_IO, "%s%s%s: %s", c->url, c->unix_path ? " over " : "",
                        c->unix_path ? c->unix_path : "", why[0] ? why : curl.easy_strerror(code));
    curl.easy_getinfo(h, CURLINFO_RESPONSE_CODE, &status);
    c->status = (int)status;
    curl.slist_free_all(headers);
    curl.easy_cleanup(h);
    return st.rc;
}
