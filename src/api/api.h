/* The server's face: what a handler can reach, and the shapes that all answers share.
 *
 * One domain model, several doors. Tables of routes live beside their handlers; api.c puts them
 * together, names the caller (gate), and writes errors in the shape of the door. A handler is thin:
 * read the request, ask policy, call store or pref, write JSON. */
#ifndef PD_API_API_H
#define PD_API_API_H

#include "api/policy.h"
#include "net/server.h"
#include "store/store.h"

enum pd_door { PD_DOOR_UI, PD_DOOR_ARGILLA, PD_DOOR_LABEL_STUDIO, PD_DOOR_LOCAL, PD_DOOR_OPENAI };

struct pd_api {
    struct pd_store *store;
    const struct pd_assets *assets; /* NULL or empty: built without the front end */
    struct pd_http_server *server;  /* for /metrics; set after start */
    const char *version;
    const char *public_url;   /* "https://podium.example", or NULL: the Host that is asked */
    char *models_dir;         /* where the models to choose from lie */
    const char *model_socket; /* of the model behind /v1/, NULL = none; set after init */
    struct pd_router router;
    struct pd_limiter *limiter;
    struct pd_overviews *overviews; /* a cache of derived numbers */
    _Atomic int64_t worker_seen_us; /* a worker's last call on the socket */
};

/* version and the strings are borrowed. */
void pd_api_init(struct pd_api *api, struct pd_store *store, const struct pd_assets *assets,
                 const char *version, const char *public_url, const char *models_dir);
void pd_api_release(struct pd_api *api);
/* The callbacks to give to pd_http_server_start. */
struct pd_http_app pd_api_app(struct pd_api *api);

/* Every call the server knows, for people: method, path, who may, most bytes of a body, what. */
void pd_api_print_routes(const struct pd_api *api, FILE *out);

/* Called with the name of every operation on the socket: job.* ones come from workers. */
void pd_api_local_call(struct pd_api *api, const char *op);
/* Did a worker call within the last 30 s? */
bool pd_api_worker_alive(struct pd_api *api);

/* ---- in handlers */
struct pd_api *pd_api_of(const struct pd_req *req);
/* A reader connection for the rest of the handler, begun at first use and ended when the handler
 * returns. End it by hand before a call that opens its own reader or writes and is read after. */
PD_CHECKED enum pd_rc pd_api_read(struct pd_req *req, struct pd_db **db, struct pd_err *err);
void pd_api_read_end(struct pd_req *req);
/* An error answer with a code of its own (PD_DOOR_UI); field may be NULL. */
void pd_api_error(struct pd_req *req, int status, const char *code, const char *field,
                  const char *fmt, ...) PD_PRINTF(5, 6);
/* An error in the shape of OpenAI's API (PD_DOOR_OPENAI). */
void pd_api_model_error(struct pd_req *req, int status, const char *message);
/* {name} must be a uuid: PD_NOTFOUND otherwise, since no such thing can be there. */
PD_CHECKED enum pd_rc pd_api_uuid(const struct pd_req *req, const char *name, struct pd_str *out,
                                  struct pd_err *err);
/* The dataset named by a path parameter, which the caller may see or lead. */
enum pd_need { PD_NEED_SEE, PD_NEED_LEAD };
PD_CHECKED enum pd_rc pd_api_dataset(struct pd_req *req, const char *param, enum pd_need need,
                                     struct pd_dataset *out, struct pd_err *err);
/* The same from an id in a body. */
PD_CHECKED enum pd_rc pd_api_dataset_id(struct pd_req *req, struct pd_str uuid, enum pd_need need,
                                        struct pd_dataset *out, struct pd_err *err);
/* A client-chosen uuid v4 in a body ("id"): PD_INVALID unless it is one. */
PD_CHECKED enum pd_rc pd_api_client_id(struct json_object *body, struct pd_str *out,
                                       struct pd_err *err);
/* "http://host" of this server as the caller sees it; in the arena. */
const char *pd_api_base_url(struct pd_req *req);

/* key: time as text, or null when us is 0 */
void pd_jw_ktime(struct pd_jw *w, const char *key, int64_t us);
/* key: JSON text as it is, or null when NULL */
void pd_jw_kraw(struct pd_jw *w, const char *key, const char *json);
/* key: number, or null when it is not finite */
void pd_jw_kuuid(struct pd_jw *w, const char *key, const char *uuid);

/* Failed attempts, counted per key: false once there were too many of late. Any thread. */
struct pd_limiter *pd_limiter_new(int max_failures, int64_t window_us);
void pd_limiter_free(struct pd_limiter *l);
bool pd_limiter_ok(struct pd_limiter *l, struct pd_str key, int *retry_seconds);
void pd_limiter_failed(struct pd_limiter *l, struct pd_str key);

/* Route tables. */
struct pd_route_table {
    const struct pd_route *rows;
    size_t n;
};
extern const struct pd_route_table pd_routes_session, pd_routes_keys, pd_routes_dataset,
    pd_routes_data, pd_routes_records, pd_routes_label, pd_routes_answer, pd_routes_overview,
    pd_routes_watch, pd_routes_job, pd_routes_run, pd_routes_local, pd_routes_argilla_user,
    pd_routes_argilla_dataset, pd_routes_argilla_record, pd_routes_model;
#define PD_ROUTE_TABLE(name, rows)                                                                 \
    const struct pd_route_table name = {rows, sizeof(rows) / sizeof(rows)[0]}

enum { PD_BODY_SMALL = 64 << 10, PD_BODY_JSON = 4 << 20, PD_BODY_BULK = 64 << 20 };

#endif
