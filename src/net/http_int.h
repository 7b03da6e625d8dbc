/* What a request holds besides what handlers see. Private to net. */
#ifndef PD_NET_HTTP_INT_H
#define PD_NET_HTTP_INT_H

#include "net/http.h"

#include <pthread.h>
#include <stdatomic.h>

struct MHD_Connection;
struct pd_http_server;

enum pd__phase {
    PD__NEW,       /* the URI is known, headers are not read yet */
    PD__RECEIVING, /* the body arrives */
    PD__WORKING,   /* suspended: a worker has it */
    PD__ANSWERED,  /* the answer is ready to be queued */
    PD__SENDING,
};

enum pd__answer { PD__NONE, PD__BUFFER, PD__STATIC, PD__STREAM };

/* Bytes on their way from a producer (a streaming handler, or the ticker for server-sent events) to
 * the HTTP thread. */
struct pd__stream {
    pthread_mutex_t lock;
    pthread_cond_t room;
    struct pd_buf buf; /* [at, len) is still to be sent */
    size_t at;
    bool waiting; /* the connection is suspended until there is more */
    bool done, failed;
    bool gone; /* the client is: nothing may touch the connection */
    struct pd_sse sse;
    bool is_sse;
    int64_t next_poll_ns, last_write_ns;
    struct pd_req *next; /* the ticker's list */
};

struct pd_req_int {
    struct pd_http_server *srv;
    struct MHD_Connection *conn;
    atomic_int refs;
    enum pd__phase phase;
    char *uri; /* as it came */
    struct pd_pair *headers;
    size_t n_headers;
    /* body */
    struct pd_buf mem;
    int spool_fd; /* -1 = in memory */
    size_t received;
    struct pd_err reject; /* rc != PD_OK: answer this once the body is drained */
    /* answer */
    enum pd__answer kind;
    bool began; /* the streaming handler's own note that the head is on its way */
    int status;
    const char *type;
    struct pd_buf out;
    struct pd_jw jw;
    const void *fixed;
    size_t fixed_len;
    struct pd_pair resp_headers[12];
    size_t n_resp_headers;
    struct pd__stream stream;
    struct pd_req *next; /* the work queue */
    bool counted;
    bool linger;       /* answered while its body was still to come */
    bool known_method; /* without a route: what the path and the method are worth */
    unsigned allowed;
};

/* Hand the begun stream's head to the HTTP thread (server.c). */
void pd__answer_ready(struct pd_req *req);
void pd__stream_wake(struct pd_req *req); /* lock held */
void pd__ticker_add(struct pd_http_server *s, struct pd_req *req);
void pd__req_unref(struct pd_req *req);
bool pd__server_gives_up(struct pd_http_server *s); /* stopping, and the grace time is over */
struct pd_req *pd__req_new(struct pd_http_server *s, const char *uri);

#endif
