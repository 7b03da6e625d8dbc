/* One HTTP request and its answer, as a handler sees them.
 *
 * A handler runs on a worker thread with the whole body received (in memory, or spooled to a
 * temporary file), allocates from the request's arena, writes its answer into the request and
 * returns; a code other than PD_OK becomes an error answer whose status comes from the table in
 * base/err.h. Handlers never free and never see the HTTP library.
 *
 * Answers come in four kinds: a body in memory (JSON or text), constant memory (an asset), a stream
 * written while it is sent (an export; the handler blocks while the client is slow), and
 * server-sent events (a source polled by the server's ticker thread).
 *
 * Routes are rows of a table: {method, pattern, handler, policy, door, body limit, flags, summary}.
 * What `policy` and `door` mean belongs to the application: see struct pd_http_app in net/server.h.
 */
#ifndef PD_NET_HTTP_H
#define PD_NET_HTTP_H

#include "base/arena.h"
#include "base/json.h"
#include "base/str.h"
#include "net/uri.h"

#include <stdio.h>

enum pd_method { PD_GET, PD_POST, PD_PUT, PD_PATCH, PD_DELETE, PD_N_METHODS };

struct pd_req;
struct pd_route;
typedef enum pd_rc (*pd_handler)(struct pd_req *req, struct pd_err *err);

enum {
    PD_ROUTE_SPOOL = 1,  /* a body past 1 MiB goes to an unlinked temporary file: pd_req_body_fd */
    PD_ROUTE_STREAM = 2, /* the handler may take long: it gets a thread of its own, not a worker */
};

struct pd_route {
    enum pd_method method;
    const char
        *pattern; /* "/ui/datasets/{id}/tasks"; {name} matches one segment, {name*} the rest */
    pd_handler handler;
    int policy;      /* who may: the application's enum */
    int door;        /* which face of the server, for the shape of errors */
    size_t body_max; /* bytes; 0 = no body is taken */
    unsigned flags;
    const char *summary;
};

enum { PD_REQ_MAX_PARAMS = 6, PD_REQ_MAX_QUERY = 64, PD_REQ_MAX_SEGMENTS = 12 };

struct pd_req {
    struct pd_arena arena;
    void *app;  /* struct pd_http_app.data */
    void *user; /* set by the application's gate; in the arena */
    const struct pd_route *route;
    enum pd_method method;
    bool local;       /* came over the unix socket: the data folder's owner */
    const char *path; /* raw path, without query and door prefix */
    int door;         /* forced by a path prefix, or -1 */
    struct pd_str params[PD_REQ_MAX_PARAMS]; /* decoded, in the order of the pattern */
    struct pd_pair *query;
    size_t n_query;
    struct pd_str body; /* in memory; empty when spooled */
    char id[17];        /* request id, also in X-Request-Id and in the access log */
    char peer[64];      /* address of the client */
    int64_t start_ns;
    struct pd_req_int *in; /* net's own part */
};

/* ---- reading */
struct pd_str pd_req_param(const struct pd_req *req,
                           const char *name); /* {name}; ptr NULL if none */
struct pd_str pd_req_query(const struct pd_req *req,
                           const char *key); /* first; ptr NULL if absent */
/* Whole number in [min, max]; PD_INVALID names the parameter; absent gives `fallback`. */
PD_CHECKED enum pd_rc pd_req_query_i64(const struct pd_req *req, const char *key, int64_t min,
                                       int64_t max, int64_t fallback, int64_t *out,
                                       struct pd_err *err);
const char *pd_req_header(const struct pd_req *req, const char *name); /* NULL if absent */
struct pd_str pd_req_cookie(const struct pd_req *req, const char *name);
/* The body as a JSON object, owned by the arena. PD_PARSE when it is none. An empty body gives an
 * empty object. */
PD_CHECKED enum pd_rc pd_req_json(struct pd_req *req, struct json_object **out, struct pd_err *err);
/* The body as urlencoded pairs; value of `key`, ptr NULL if absent. */
struct pd_str pd_req_form(struct pd_req *req, const char *key);
/* A file descriptor over the body, at its start, owned by the request. Routes with SPOOL. */
PD_CHECKED enum pd_rc pd_req_body_fd(struct pd_req *req, int *fd, struct pd_err *err);

/* ---- answering */
/* JSON: returns a writer over the answer's buffer; what it wrote is the body. */
struct pd_jw *pd_resp_json(struct pd_req *req, int status);
/* Any bytes: the buffer to append to. `type` is static. */
struct pd_buf *pd_resp_body(struct pd_req *req, int status, const char *type);
void pd_resp_empty(struct pd_req *req, int status);        /* 204, 304 */
void pd_resp_redirect(struct pd_req *req, const char *to); /* 303 */
/* Adds a header; values with CR, LF or NUL are refused by pd_bug: they never come from outside. */
void pd_resp_header(struct pd_req *req, const char *name, const char *value);
/* Constant memory that outlives the server. */
void pd_resp_static(struct pd_req *req, int status, const char *type, const void *p, size_t n);
/* Puts an ETag over the body that was written; a matching If-None-Match turns the answer into 304.
 */
void pd_resp_etag(struct pd_req *req);
int pd_resp_status(const struct pd_req *req); /* 0 before an answer was begun */
/* Throw away what was answered so far (headers too) to answer anew; not once a stream began. */
void pd_resp_reset(struct pd_req *req);

/* Streamed answer: begin, then write as often as needed; PD_IO once the client is gone. The
 * answer's headers leave with the first write. */
void pd_resp_stream(struct pd_req *req, int status, const char *type);
PD_CHECKED enum pd_rc pd_resp_write(struct pd_req *req, const void *p, size_t n,
                                    struct pd_err *err);
bool pd_resp_stream_began(const struct pd_req *req);
/* For handlers that take long: the client has closed its connection (or its sending half), or the
 * server is being stopped and its time is over. What is made for nobody may be dropped. */
bool pd_req_gone(struct pd_req *req);
/* The streamed answer as a FILE to fprintf into; closing it flushes. NULL: out of memory. */
FILE *pd_resp_stream_file(struct pd_req *req);

/* Server-sent events. poll appends whatever is new, as whole events (pd_sse_event), on the ticker
 * thread, every `every_ms` (at least 100); false ends the stream. release frees ctx. */
struct pd_sse {
    bool (*poll)(void *ctx, struct pd_buf *out);
    void (*release)(void *ctx);
    void *ctx;
    int every_ms;
};
void pd_resp_sse(struct pd_req *req, const struct pd_sse *source);
/* "id: ID\nevent: NAME\ndata: ...\n\n"; newlines in data are split over data lines; id may be NULL.
 */
void pd_sse_event(struct pd_buf *out, const char *id, const char *name, struct pd_str data);

#endif
