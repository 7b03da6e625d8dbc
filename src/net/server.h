/* The HTTP server: libmicrohttpd moves the bytes on its own threads, a fixed pool of workers runs
 * the handlers, a ticker thread polls the event streams. The connection of a request that is being
 * worked on is suspended, so a slow handler never holds up another client's bytes.
 *
 * Threads: a request belongs to one thread at a time (HTTP thread while it arrives, worker while it
 * is handled, HTTP thread again while it leaves); a streamed answer is the exception, its buffer
 * has a lock. Start and stop from one thread. */
#ifndef PD_NET_SERVER_H
#define PD_NET_SERVER_H

#include "net/assets.h"
#include "net/route.h"

struct pd_http_app {
    void *data; /* req->app */
    const struct pd_router *router;
    /* Before the handler: who is it, and may they (route->policy)? Sets req->user. When it answers
     * itself (pd_resp_status is set), the handler does not run. */
    enum pd_rc (*gate)(struct pd_req *req, struct pd_err *err);
    /* After the handler and any error, before the answer leaves; NULL = nothing to do. */
    void (*after)(struct pd_req *req);
    /* Writes the error answer in the shape of the request's door (status and JSON body). req->route
     * is NULL when there was none. */
    void (*error)(struct pd_req *req, int status, const struct pd_err *err);
    /* GET of a path no route knows: an asset or the front end's page; NULL = 404. */
    bool (*fallback)(struct pd_req *req);
    /* Path prefixes that choose a door and are cut off: {"/argilla", door}. NULL prefix ends. */
    const struct pd_door_prefix {
        const char *prefix;
        int door;
    } * doors;
};

struct pd_http_config {
    const char *listen;    /* "127.0.0.1:6900", "[::1]:0", ":6900"; NULL = no TCP */
    const char *unix_path; /* socket file made 0600, a stale one replaced; NULL = none */
    int workers;           /* 0 = 8 */
    int long_max;          /* handlers that may take long, at once; 0 = 32 */
    bool access_log;
};

struct pd_http_server;
/* PD_INVALID for a bad address, PD_BUSY for one in use: one line saying what to do. */
PD_CHECKED enum pd_rc pd_http_server_start(struct pd_http_server **out,
                                           const struct pd_http_config *cfg,
                                           const struct pd_http_app *app, struct pd_err *err);
/* "http://127.0.0.1:6900", with the port that was given by the kernel. */
const char *pd_http_server_url(const struct pd_http_server *s);
/* No new connections; requests being worked on are answered; event streams end; then all threads
 * are joined. Accepts NULL. */
void pd_http_server_stop(struct pd_http_server *s, int grace_ms);

struct pd_http_stats {
    uint64_t requests, by_class[6]; /* answers by status / 100 */
    uint64_t bytes_in, bytes_out;
    int64_t busy_ns;         /* time in handlers */
    uint64_t latency_le[12]; /* cumulative counts at pd_http_latency_ms */
    int queued, streams, connections;
};
extern const double pd_http_latency_ms[12];
void pd_http_server_stats(struct pd_http_server *s, struct pd_http_stats *out); /* any thread */

#endif
