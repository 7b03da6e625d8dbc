/* HTTP requests out of this process, over libcurl: to our own server through its unix socket, and
 * to hosts the operator named. Redirects are not followed. Threads: any, one call at a time per
 * struct. */
#ifndef PD_NET_CLIENT_H
#define PD_NET_CLIENT_H

#include "base/str.h"

/* Keeps a connection between calls to the same host, one call at a time. Zero-initialise. */
struct pd_http_conn {
    void *handle;
};
void pd_http_conn_release(struct pd_http_conn *c);

struct pd_http_call {
    const char *method;         /* "GET", "POST" */
    const char *url;            /* "http://localhost/op/status" */
    const char *unix_path;      /* NULL = TCP */
    const char *const *headers; /* "Name: value" ..., NULL-terminated; may be NULL */
    /* Request body: bytes, or a file descriptor read from where it stands (both: bytes first). */
    struct pd_str body;
    int body_fd; /* -1 = none */
    /* Answer: given piece by piece to on_data (returning a code other than PD_OK aborts), or
     * collected in *out, initialised by the caller. */
    enum pd_rc (*on_data)(void *ctx, struct pd_str piece, struct pd_err *err);
    void *ctx;
    struct pd_buf *out;
    /* Once the head of the answer is there, before the first piece of its body; may be NULL. A code
     * other than PD_OK aborts. */
    enum pd_rc (*on_head)(void *ctx, const struct pd_http_call *call, struct pd_err *err);
    /* Asked about once a second and whenever bytes move: true ends the call with PD_INTERRUPTED. */
    bool (*stop)(void *ctx);
    struct pd_http_conn *conn; /* NULL = a connection for this call alone */
    int timeout_ms;            /* whole call; 0 = none */
    int connect_timeout_ms;    /* 0 = 5000 */
    int idle_timeout_s;        /* without a byte either way, to about a second; 0 = none */
    /* set by the call */
    int status;
    char type[100];         /* Content-Type */
    int64_t retry_after_ms; /* what the answer asks for, in whatever header; 0 = nothing */
    char location[2048];    /* of a redirect, as a whole URL; "" = none, or too long */
};

/* PD_IO when there is no answer (message names the host); an answer of any status is PD_OK. */
PD_CHECKED enum pd_rc pd_http_call(struct pd_http_call *c, struct pd_err *err);

#endif
