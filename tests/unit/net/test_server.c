#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/time.h"
#include "net/client.h"
#include "net/listen.h"
#include "net/server.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static atomic_int ticks, released;

static enum pd_rc echo(struct pd_req *req, struct pd_err *err)
{
    struct json_object *body;
    enum pd_rc rc = pd_req_json(req, &body, err);
    if (rc != PD_OK)
        return rc;
    struct pd_jw *w = pd_resp_json(req, 201);
    pd_jw_object(w);
    pd_jw_kstr(w, "id", pd_req_param(req, "id"));
    pd_jw_kstr(w, "q", pd_req_query(req, "q"));
    pd_jw_kstrz(w, "agent", pd_req_header(req, "x-test"));
    pd_jw_kstr(w, "cookie", pd_req_cookie(req, "c"));
    pd_jw_key(w, "body");
    pd_jw_tree(w, body);
    pd_jw_object_end(w);
    pd_resp_header(req, "X-Mine", "yes");
    return PD_OK;
}

static enum pd_rc upload(struct pd_req *req, struct pd_err *err)
{
    int fd;
    enum pd_rc rc = pd_req_body_fd(req, &fd, err);
    if (rc != PD_OK)
        return rc;
    char buf[4096];
    long long n = 0, sum = 0;
    for (ssize_t got; (got = read(fd, buf, sizeof buf)) > 0; n += got)
        for (ssize_t i = 0; i < got; i++)
            sum += (unsigned char)buf[i];
    pd_buf_addf(pd_resp_body(req, 200, "text/plain"), "%lld %lld", n, sum);
    return PD_OK;
}

static enum pd_rc stream(struct pd_req *req, struct pd_err *err)
{
    pd_resp_stream(req, 200, "text/plain");
    FILE *f = pd_resp_stream_file(req);
    for (int i = 0; i < 400000; i++)
        fprintf(f, "line %d\n", i);
    if (fclose(f) != 0)
        return PD_FAIL(err, PD_IO, "gone");
    if (pd_req_query(req, "cut").ptr)
        return PD_FAIL(err, PD_IO, "cut on purpose");
    return PD_OK;
}

static bool poll_events(void *ctx, struct pd_buf *out)
{
    int n = atomic_fetch_add(&ticks, 1);
    pd_sse_event(out, "7", "tick", PD_STR("{\"a\":1}\nsecond"));
    return n < 2;
}
static void release_events(void *ctx)
{
    atomic_fetch_add(&released, 1);
}
static enum pd_rc events(struct pd_req *req, struct pd_err *err)
{
    const struct pd_sse s = {.poll = poll_events, .release = release_events, .every_ms = 100};
    pd_resp_sse(req, &s);
    return PD_OK;
}
static bool poll_forever(void *ctx, struct pd_buf *out)
{
    return true;
}
static enum pd_rc silent_events(struct pd_req *req, struct pd_err *err)
{
    const struct pd_sse s = {.poll = poll_forever, .release = release_events, .every_ms = 100};
    pd_resp_sse(req, &s);
    return PD_OK;
}

static enum pd_rc slow(struct pd_req *req, struct pd_err *err)
{
    pd_sleep_ms(1000);
    pd_buf_adds(pd_resp_body(req, 200, "text/plain"), "done");
    return PD_OK;
}
static enum pd_rc fails(struct pd_req *req, struct pd_err *err)
{
    return PD_FAIL(err, PD_CONFLICT, "it is there already");
}

static const struct pd_route table[] = {
    {PD_POST, "/echo/{id}", echo, 0, 0, 1000, 0, ""},
    {PD_POST, "/upload", upload, 0, 0, 64 << 20, PD_ROUTE_SPOOL, ""},
    {PD_GET, "/stream", stream, 0, 0, 0, PD_ROUTE_STREAM, ""},
    {PD_GET, "/events", events, 0, 0, 0, 0, ""},
    {PD_GET, "/silent", silent_events, 0, 0, 0, 0, ""},
    {PD_GET, "/slow", slow, 0, 0, 0, 0, ""},
    {PD_GET, "/fails", fails, 0, 0, 0, 0, ""},
};

static enum pd_rc gate(struct pd_req *req, struct pd_err *err)
{
    if (pd_req_header(req, "X-Stranger"))
        return PD_FAIL(err, PD_FORBIDDEN, "not you");
    return PD_OK;
}
static void error(struct pd_req *req, int status, const struct pd_err *err)
{
    struct pd_jw *w = pd_resp_json(req, status);
    pd_jw_object(w);
    pd_jw_kstrz(w, "detail", err->msg);
    pd_jw_object_end(w);
}

struct fixture {
    struct pd_router router;
    struct pd_http_server *server;
    char dir[64], sock[96], out[4096];
};

static int start(void **state)
{
    static const struct pd_door_prefix doors[] = {{"/prefix", 3}, {NULL, 0}};
    struct fixture *f = pd_xalloc(sizeof *f);
    struct pd_err err = {0};
    snprintf(f->dir, sizeof f->dir, "/tmp/pd-net-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->sock, sizeof f->sock, "%s/s", f->dir);
    pd_router_init(&f->router);
    pd_router_add(&f->router, table, sizeof table / sizeof table[0]);
    const struct pd_http_app app = {
        .router = &f->router, .gate = gate, .error = error, .doors = doors};
    const struct pd_http_config cfg = {.listen = "127.0.0.1:0", .unix_path = f->sock, .workers = 4};
    if (pd_http_server_start(&f->server, &cfg, &app, &err) != PD_OK)
        fail_msg("%s", err.msg);
    *state = f;
    return 0;
}
static int stop(void **state)
{
    struct fixture *f = *state;
    struct pd_err err;
    pd_http_server_stop(f->server, 2000);
    pd_router_release(&f->router);
    assert_int_equal(pd_fs_remove_tree(f->dir, &err), PD_OK);
    pd_free(f);
    return 0;
}

/* One call; returns the status and leaves the body in *out (released by the caller). */
static int call(struct fixture *f, const char *method, const char *path, struct pd_str body,
                const char *header, bool local, struct pd_buf *out)
{
    char url[256];
    struct pd_err err = {0};
    const char *headers[] = {header, NULL};
    snprintf(url, sizeof url, "%s%s", pd_http_server_url(f->server), path);
    pd_buf_init(out, 0);
    struct pd_http_call c = {.method = method,
                             .url = url,
                             .body = body,
                             .body_fd = -1,
                             .out = out,
                             .headers = header ? headers : NULL,
                             .unix_path = local ? f->sock : NULL,
                             .timeout_ms = 20000};
    if (pd_http_call(&c, &err) != PD_OK)
        return -1;
    return c.status;
}

#define CALL(status, method, path, body, header, local, want)                                      \
    do {                                                                                           \
        struct pd_buf out_;                                                                        \
        int got_ = call(f, method, path, body, header, local, &out_);                              \
        assert_int_equal(got_, status);                                                            \
        if (*(const char *)(want) && !strstr(pd_buf_cstr(&out_), want))                            \
            fail_msg("%s does not hold %s", pd_buf_cstr(&out_), (const char *)(want));             \
        pd_buf_release(&out_);                                                                     \
    } while (0)

static void requests(void **state)
{
    struct fixture *f = *state;
    const struct pd_str none = {0};
    for (int local = 0; local < 2; local++) {
        CALL(201, "POST", "/echo/a%2Fb?q=x%20y", PD_STR("{\"k\":[1,2]}"), "x-test: t", local,
             "{\"id\":\"a/b\",\"q\":\"x "
             "y\",\"agent\":\"t\",\"cookie\":\"\",\"body\":{\"k\":[1,2]}}");
        CALL(201, "POST", "/prefix/echo/z", none, "Cookie: b=2; c=3", local, "\"cookie\":\"3\"");
        CALL(400, "POST", "/echo/1", PD_STR("{bad"), NULL, local, "request body");
        CALL(400, "POST", "/echo/1", PD_STR("[1]"), NULL, local, "a JSON object");
        CALL(409, "GET", "/fails", none, NULL, local, "it is there already");
        CALL(403, "GET", "/fails", none, "X-Stranger: 1", local, "not you");
        CALL(404, "GET", "/nothing", none, NULL, local, "no such page");
        CALL(405, "DELETE", "/fails", none, NULL, local, "not allowed");
        CALL(405, "BREW", "/fails", none, NULL, local, "not allowed");
    }
}

static void large_bodies(void **state)
{
    struct fixture *f = *state;
    size_t n = 5 << 20;
    char *big = pd_xalloc(n), want[64];
    memset(big, 'x', n);
    snprintf(want, sizeof want, "%zu %lld", n, (long long)n * 'x');
    /* refused at arrival, body unread */
    CALL(413, "POST", "/echo/1", ((struct pd_str){big, 1200}), NULL, false, "at most 1000");
    CALL(413, "POST", "/echo/1", ((struct pd_str){big, n}), "Transfer-Encoding: chunked", false,
         "larger than the 1000");
    CALL(200, "POST", "/upload", ((struct pd_str){big, n}), NULL, false, want);
    CALL(200, "POST", "/upload", PD_STR("ab"), NULL, true, "2 195");
    CALL(200, "POST", "/upload", (struct pd_str){0}, NULL, true, "0 0");
    /* a stranger's body is not even read */
    struct pd_http_stats before, later;
    pd_http_server_stats(f->server, &before);
    CALL(403, "POST", "/upload", PD_STR("ab"), "X-Stranger: 1", false, "not you");
    pd_http_server_stats(f->server, &later);
    assert_int_equal(later.bytes_in, before.bytes_in);
    pd_free(big);
}

/* Sends everything before it reads a byte, as simple clients do: what was refused at arrival must
 * still reach it, not a reset by the bytes that nobody read. */
static void send_all_then_read(struct fixture *f, const char *head, size_t n, const char *want)
{
    char got[4096] = "";
    size_t have = 0;
    struct sockaddr_in to = {.sin_family = AF_INET};
    const char *port = strrchr(pd_http_server_url(f->server), ':') + 1;
    to.sin_port = htons((uint16_t)atoi(port));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    char *body = pd_xalloc(n);
    assert_int_equal(send(fd, head, strlen(head), MSG_NOSIGNAL), strlen(head));
    for (size_t sent = 0; sent < n;) {
        ssize_t w = send(fd, body + sent, n - sent, MSG_NOSIGNAL);
        if (w < 0)
            fail_msg("cut off after %zu of %zu bytes", sent, n);
        sent += (size_t)w;
    }
    pd_sleep_ms(20);
    for (ssize_t r; have + 1 < sizeof got && (r = recv(fd, got + have, 500, 0)) != 0;) {
        if (r < 0)
            fail_msg("reset after %zu bytes of the answer", have);
        have += (size_t)r;
    }
    if (strncmp(got, want, strlen(want)) != 0)
        fail_msg("%s is not %s", got, want);
    pd_free(body);
    close(fd);
}

static void refused_while_sending(void **state)
{
    struct fixture *f = *state;
    size_t n = 12 << 20;
    for (int i = 0; i < 8; i++) {
        send_all_then_read(f,
                           "POST /echo/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 12582912\r\n\r\n",
                           n, "HTTP/1.1 413 ");
        send_all_then_read(
            f,
            "POST /upload HTTP/1.1\r\nHost: x\r\nX-Stranger: 1\r\nContent-Length: 12582912\r\n\r\n",
            n, "HTTP/1.1 403 ");
        send_all_then_read(f,
                           "POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 12582912\r\n\r\n",
                           n, "HTTP/1.1 404 ");
    }
}

static void streams(void **state)
{
    struct fixture *f = *state;
    struct pd_buf out;
    assert_int_equal(call(f, "GET", "/stream", (struct pd_str){0}, NULL, false, &out), 200);
    assert_true(pd_str_ends(pd_buf_str(&out), PD_STR("line 399999\n")));
    pd_buf_release(&out);
    /* A handler that fails after it began must not look like a whole file. */
    assert_int_equal(call(f, "GET", "/stream?cut=1", (struct pd_str){0}, NULL, false, &out), -1);
    pd_buf_release(&out);
}

static void server_sent_events(void **state)
{
    struct fixture *f = *state;
    atomic_store(&ticks, 0);
    CALL(200, "GET", "/events", (struct pd_str){0}, NULL, false,
         "id: 7\nevent: tick\ndata: {\"a\":1}\ndata: second\n\nid: 7\n");
    assert_int_equal(atomic_load(&ticks), 3);
}

struct job {
    struct fixture *f;
    const char *path;
    int status;
};
static void *in_thread(void *arg)
{
    struct job *j = arg;
    struct pd_buf out;
    j->status = call(j->f, "GET", j->path, (struct pd_str){0}, NULL, false, &out);
    pd_buf_release(&out);
    return NULL;
}

static void graceful_stop(void **state)
{
    struct fixture *f = *state;
    struct job jobs[6] = {{f, "/slow", 0}, {f, "/slow", 0},   {f, "/silent", 0},
                          {f, "/slow", 0}, {f, "/silent", 0}, {f, "/slow", 0}};
    pthread_t t[6];
    int before = atomic_load(&released);
    for (int i = 0; i < 6; i++)
        pthread_create(&t[i], NULL, in_thread, &jobs[i]);
    struct pd_http_stats st = {0};
    for (int i = 0; i < 500 && st.connections < 6; i++) { /* all six are under way */
        pd_sleep_ms(10);
        pd_http_server_stats(f->server, &st);
    }
    pd_http_server_stop(f->server, 10000);
    f->server = NULL;
    for (int i = 0; i < 6; i++) {
        pthread_join(t[i], NULL);
        assert_int_equal(jobs[i].status, 200);
    }
    assert_int_equal(atomic_load(&released), before + 2);
    assert_false(pd_fs_exists(f->sock));
}

static void many_at_once(void **state)
{
    struct fixture *f = *state;
    struct job jobs[16];
    pthread_t t[16];
    for (int i = 0; i < 16; i++) {
        jobs[i] = (struct job){f, i % 4 == 0 ? "/stream" : i % 4 == 1 ? "/fails" : "/slow", 0};
        pthread_create(&t[i], NULL, in_thread, &jobs[i]);
    }
    for (int i = 0; i < 16; i++) {
        pthread_join(t[i], NULL);
        assert_int_equal(jobs[i].status, i % 4 == 1 ? 409 : 200);
    }
    struct pd_http_stats st;
    for (int i = 0; i < 100; i++) { /* an answer is counted a moment after its client has it */
        pd_http_server_stats(f->server, &st);
        if (st.by_class[2] + st.by_class[4] == 16)
            break;
        pd_sleep_ms(20);
    }
    assert_int_equal(st.by_class[4], 4);
    assert_int_equal(st.by_class[2], 12);
}

static void addresses(void **state)
{
    struct fixture *f = *state;
    struct pd_err err = {0};
    int fd;
    char url[128];
    static const char *const bad[] = {"nohost:99999", "1.2.3.4:x", "::1:80", "a:b:c", ""};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(pd_listen_tcp(bad[i], &fd, url, &err), PD_USAGE);
    assert_int_equal(pd_listen_tcp("203.0.113.1:0", &fd, url, &err), PD_IO);
    const char *taken = pd_http_server_url(f->server) + strlen("http://");
    assert_int_equal(pd_listen_tcp(taken, &fd, url, &err), PD_BUSY);
    assert_non_null(strstr(err.msg, "in use"));
    struct stat st;
    assert_int_equal(stat(f->sock, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

/* A dead server's socket makes way; a living one's and a file of the user's do not. */
static void socket_files(void **state)
{
    struct fixture *f = *state;
    struct pd_err err = {0};
    char path[128];
    int fd, other;
    assert_int_equal(pd_listen_unix("", &fd, &err), PD_USAGE);
    assert_int_equal(pd_listen_unix(f->sock, &fd, &err), PD_BUSY);
    snprintf(path, sizeof path, "%s/mine", f->dir);
    assert_int_equal(pd_fs_write_atomic(path, PD_STR("my notes"), 0600, &err), PD_OK);
    assert_int_equal(pd_listen_unix(path, &fd, &err), PD_CONFLICT);
    assert_non_null(strstr(err.msg, path));
    struct pd_buf kept;
    pd_buf_init(&kept, 0);
    assert_int_equal(pd_fs_read(path, 100, &kept, &err), PD_OK);
    assert_string_equal(pd_buf_cstr(&kept), "my notes");
    pd_buf_release(&kept);
    snprintf(path, sizeof path, "%s/dead", f->dir);
    assert_int_equal(pd_listen_unix(path, &fd, &err), PD_OK);
    assert_int_equal(pd_listen_unix(path, &other, &err), PD_BUSY);
    close(fd);
    assert_int_equal(pd_listen_unix(path, &fd, &err), PD_OK);
    close(fd);
}

static void *until_refused(void *arg)
{
    for (enum pd_rc rc = PD_OK; rc == PD_OK;) {
        struct pd_err err = {0};
        struct pd_buf out;
        pd_buf_init(&out, 0);
        struct pd_http_call c = {.method = "GET", .url = arg, .body_fd = -1, .out = &out};
        rc = pd_http_call(&c, &err);
        pd_buf_release(&out);
    }
    return NULL;
}

/* A stop comes while others connect and ask: it ends them, and not the process. */
static void stopped_under_load(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        void *one;
        pthread_t t[3];
        char url[128];
        assert_int_equal(start(&one), 0);
        struct fixture *f = one;
        snprintf(url, sizeof url, "%s/fails", pd_http_server_url(f->server));
        for (int k = 0; k < 3; k++)
            pthread_create(&t[k], NULL, until_refused, url);
        pd_sleep_ms(3 + i % 7);
        pd_http_server_stop(f->server, 2000);
        for (int k = 0; k < 3; k++)
            pthread_join(t[k], NULL);
        f->server = NULL;
        assert_int_equal(stop(&one), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(requests, start, stop),
        cmocka_unit_test_setup_teardown(socket_files, start, stop),
        cmocka_unit_test_setup_teardown(large_bodies, start, stop),
        cmocka_unit_test_setup_teardown(refused_while_sending, start, stop),
        cmocka_unit_test_setup_teardown(streams, start, stop),
        cmocka_unit_test_setup_teardown(server_sent_events, start, stop),
        cmocka_unit_test_setup_teardown(graceful_stop, start, stop),
        cmocka_unit_test_setup_teardown(many_at_once, start, stop),
        cmocka_unit_test_setup_teardown(addresses, start, stop),
        cmocka_unit_test(stopped_under_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
