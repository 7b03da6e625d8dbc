/* The server's own state, shared by its files. Private to net.
 *
 * ticker.c polls event streams, linger.c sees refused clients off, handle.c runs handlers and makes
 * the library's answers, server.c takes requests in, starts and stops. */
#ifndef PD_NET_SERVER_INT_H
#define PD_NET_SERVER_INT_H

#include "net/http_int.h"
#include "net/server.h"

#include <microhttpd.h>

enum { PD__LINGER_MAX = 128 };
struct pd__lingering {
    int fd;
    int64_t bytes, last_ns, begun_ns;
};

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
    int queued, n_live, n_long, long_max;
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
    /* connections being closed gently */
    pthread_t linger;
    pthread_mutex_t linger_lock;
    pthread_cond_t linger_cond;
    struct pd__lingering lingering[PD__LINGER_MAX];
    int n_lingering;
    bool linger_stop;
    /* counters */
    atomic_ullong requests, by_class[6], bytes_in, bytes_out, latency_le[12];
    atomic_llong busy_ns;
};

/* ticker.c */
void *pd__ticker_main(void *server);
ssize_t pd__stream_read(void *req, uint64_t pos, char *to, size_t max); /* a content reader */
void pd__stream_end(struct pd_req *req, bool failed);
/* linger.c */
void *pd__linger_main(void *server);
void pd__linger(struct pd_http_server *s, int fd); /* keeps a duplicate for a while; any thread */
/* handle.c */
void *pd__worker_main(void *server);
enum MHD_Result pd__dispatch(struct pd_req *req); /* suspends, and gives it to a worker */
enum MHD_Result pd__send_answer(struct pd_req *req);
void pd__answer_error(struct pd_req *req, int status, const struct pd_err *err);

#endif
