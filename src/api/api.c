#include "api/api.h"

#include "api/overview.h"
#include "base/crypt.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/time.h"
#include "store/job.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

/* What the gate hangs on a request. */
struct call {
    struct pd_who who; /* first: pd_who reads it */
    struct pd_store *store;
    struct pd_db *db;
};

struct pd_api *pd_api_of(const struct pd_req *req)
{
    return req->app;
}

static struct call *call_of(struct pd_req *req)
{
    if (!req->user) {
        struct call *c = pd_arena_alloc(&req->arena, sizeof *c);
        c->store = pd_api_of(req)->store;
        req->user = c;
    }
    return req->user;
}

enum pd_rc pd_api_read(struct pd_req *req, struct pd_db **db, struct pd_err *err)
{
    struct call *c = call_of(req);
    if (!c->db) {
        enum pd_rc rc = pd_read_begin(c->store, &c->db, err);
        if (rc != PD_OK)
            return rc;
    }
    *db = c->db;
    return PD_OK;
}

void pd_api_read_end(struct pd_req *req)
{
    struct call *c = req->user;
    if (!c || !c->db)
        return;
    pd_read_end(c->store, c->db);
    c->db = NULL;
}

/* ------------------------------------------------------------------ errors */

static const char *slug(int status)
{
    switch (status) {
    case 400:
        return "bad_request";
    case 401:
        return "unauthorized";
    case 403:
        return "forbidden";
    case 404:
        return "not_found";
    case 405:
        return "method_not_allowed";
    case 409:
        return "conflict";
    case 413:
        return "too_large";
    case 415:
        return "unsupported_type";
    case 422:
        return "invalid";
    case 429:
        return "too_many";
    case 503:
        return "busy";
    case 507:
        return "disk_full";
    default:
        return "failed";
    }
}

static void ui_error(struct pd_req *req, int status, const char *code, const char *field,
                     const char *message)
{
    struct pd_jw *w = pd_resp_json(req, status);
    pd_jw_object(w);
    pd_jw_key(w, "error");
    pd_jw_object(w);
    pd_jw_kstrz(w, "code", code);
    pd_jw_kstrz(w, "message", message);
    if (field)
        pd_jw_kstrz(w, "field", field);
    pd_jw_object_end(w);
    pd_jw_object_end(w);
}

void pd_api_error(struct pd_req *req, int status, const char *code, const char *field,
                  const char *fmt, ...)
{
    char text[480];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    ui_error(req, status, code, field, text);
}

/* Argilla's clients tell these apart by their shape; the rest is {"detail": text}. */
static void argilla_error(struct pd_req *req, int status, const char *message)
{
    struct pd_jw *w = pd_resp_json(req, status);
    const char *code = status == 401   ? "argilla.api.errors::UnauthorizedError"
                       : status == 403 ? "argilla.api.errors::ForbiddenOperationError"
                       : status >= 500 ? "argilla.api.errors::GenericServerError"
                                       : NULL;
    pd_jw_object(w);
    pd_jw_key(w, "detail");
    if (code) {
        pd_jw_object(w);
        pd_jw_kstrz(w, "code", code);
        pd_jw_key(w, "params");
        pd_jw_object(w);
        pd_jw_kstrz(w, status >= 500 ? "message" : "detail", message);
        if (status >= 500)
            pd_jw_kstrz(w, "type", "ServerError");
        pd_jw_object_end(w);
        pd_jw_object_end(w);
    } else {
        pd_jw_strz(w, message);
    }
    pd_jw_object_end(w);
}

static int door_of(const struct pd_req *req)
{
    if (req->route)
        return req->route->door;
    if (req->door >= 0)
        return req->door;
    return strncmp(req->path, "/api/", 5) == 0 ? PD_DOOR_ARGILLA : PD_DOOR_UI;
}

static bool disk_is_full(const struct pd_err *err)
{
    return err->sys == ENOSPC || strstr(err->msg, "disk is full") || strstr(err->msg, "disk full");
}

static void on_error(struct pd_req *req, int status, const struct pd_err *err)
{
    bool shown = status < 500 || status == 503 || status == 501;
    const char *message =
        shown && err->msg[0] ? err->msg : "internal error; the server's log has the reason";
    if (status == 500 && disk_is_full(err)) {
        status = 507;
        message = "the server's disk is full and nothing was stored; make room, then send it again";
    }
    pd_api_read_end(req);
    if (door_of(req) == PD_DOOR_ARGILLA && status == 400)
        status = 422; /* as there: a body that cannot be parsed is one that does not validate */
    if (door_of(req) == PD_DOOR_ARGILLA)
        argilla_error(req, status, message);
    else if (door_of(req) == PD_DOOR_OPENAI)
        pd_api_model_error(req, status, message);
    else
        ui_error(req, status, slug(status), NULL, message);
}

/* ------------------------------------------------------------------ who is it */

static struct pd_str key_of(const struct pd_req *req)
{
    const char *h = pd_req_header(req, "X-Argilla-Api-Key");
    if (h)
        return pd_str_trim(pd_str_from(h));
    h = pd_req_header(req, "Authorization");
    if (!h)
        return (struct pd_str){NULL, 0};
    struct pd_str rest = pd_str_from(h), scheme;
    if (!pd_str_split(&rest, ' ', &scheme) || !rest.ptr)
        return (struct pd_str){NULL, 0};
    bool known = (scheme.len == 6 && strncasecmp(scheme.ptr, "bearer", 6) == 0) ||
                 (scheme.len == 5 && strncasecmp(scheme.ptr, "token", 5) == 0);
    return known ? pd_str_trim(rest) : (struct pd_str){NULL, 0};
}

/* Same host and port: a page of another site cannot have this. */
static bool same_origin(struct pd_req *req)
{
    const char *origin = pd_req_header(req, "Origin"), *host = pd_req_header(req, "Host");
    const char *at = origin ? strstr(origin, "://") : NULL;
    if (!at)
        return false;
    const char *public_url = pd_api_of(req)->public_url;
    return (host && strcasecmp(at + 3, host) == 0) ||
           (public_url && strcasecmp(origin, public_url) == 0);
}

static enum pd_rc name_caller(struct pd_req *req, struct call *c, struct pd_err *err)
{
    struct pd_api *api = pd_api_of(req);
    struct pd_db *db = NULL;
    struct pd_str key = key_of(req), cookie = {NULL, 0};
    if (req->route->door == PD_DOOR_LOCAL) {
        c->who.proof = req->local ? PD_PROOF_LOCAL : PD_PROOF_NONE;
        return PD_OK;
    }
    if (req->route->door == PD_DOOR_UI)
        cookie = pd_req_cookie(req, "podium_session");
    if (!key.len && !cookie.len)
        return PD_OK;
    enum pd_rc rc = pd_api_read(req, &db, err);
    if (rc != PD_OK)
        return rc;
    if (key.len) {
        rc = pd_user_by_api_key(db, api->store, &req->arena, key, &c->who.user, err);
        c->who.proof = rc == PD_OK ? PD_PROOF_KEY : PD_PROOF_NONE;
    } else {
        rc = pd_session_user(db, api->store, &req->arena, cookie, &c->who.user, err);
        c->who.proof = rc == PD_OK ? PD_PROOF_COOKIE : PD_PROOF_NONE;
    }
    if (rc == PD_UNAUTH && req->route->policy == PD_MAY_ANYONE)
        rc = PD_OK; /* an old cookie must not lock the sign-in page */
    return rc;
}

static enum pd_rc gate(struct pd_req *req, struct pd_err *err)
{
    struct call *c = call_of(req);
    enum pd_rc rc = name_caller(req, c, err);
    if (rc != PD_OK)
        return rc;
    if (req->route->door == PD_DOOR_UI && req->method != PD_GET && c->who.proof != PD_PROOF_KEY) {
        if (!same_origin(req))
            return PD_FAIL(
                err, PD_FORBIDDEN,
                "the Origin header must name this server: this call is for its own pages");
        const char *type = pd_req_header(req, "Content-Type");
        if (req->body.len && !(req->route->flags & PD_ROUTE_SPOOL) &&
            !(type && strncasecmp(type, "application/json", 16) == 0)) {
            pd_api_error(req, 415, "unsupported_type", NULL, "send application/json");
            return PD_OK;
        }
    }
    return pd_policy_route(&c->who, (enum pd_policy)req->route->policy, err);
}

static void after(struct pd_req *req)
{
    pd_api_read_end(req);
}

/* ------------------------------------------------------------------ helpers for handlers */

enum pd_rc pd_api_uuid(const struct pd_req *req, const char *name, struct pd_str *out,
                       struct pd_err *err)
{
    struct pd_str v = pd_req_param(req, name);
    if (!pd_uuid_valid(v))
        return PD_FAIL(err, PD_NOTFOUND, "'%.64s' is not an id", v.ptr ? v.ptr : "");
    *out = v;
    return PD_OK;
}

enum pd_rc pd_api_dataset_id(struct pd_req *req, struct pd_str uuid, enum pd_need need,
                             struct pd_dataset *out, struct pd_err *err)
{
    struct pd_db *db;
    enum pd_rc rc = pd_api_read(req, &db, err);
    if (rc == PD_OK)
        rc = pd_dataset_by_uuid(db, &req->arena, uuid, out, err);
    if (rc == PD_OK)
        rc = need == PD_NEED_LEAD ? pd_policy_lead(db, pd_who(req), out, err)
                                  : pd_policy_see(db, pd_who(req), out, err);
    return rc;
}

enum pd_rc pd_api_dataset(struct pd_req *req, const char *param, enum pd_need need,
                          struct pd_dataset *out, struct pd_err *err)
{
    struct pd_str uuid = {NULL, 0};
    enum pd_rc rc = pd_api_uuid(req, param, &uuid, err);
    return rc == PD_OK ? pd_api_dataset_id(req, uuid, need, out, err) : rc;
}

enum pd_rc pd_api_client_id(struct json_object *body, struct pd_str *out, struct pd_err *err)
{
    struct pd_str id = pd_json_str(body, "id");
    if (!pd_uuid_valid(id))
        return PD_FAIL(err, PD_INVALID, "id must be a uuid that the client chose");
    *out = id;
    return PD_OK;
}

const char *pd_api_base_url(struct pd_req *req)
{
    struct pd_api *api = pd_api_of(req);
    const char *host = pd_req_header(req, "Host");
    const char *proto = pd_req_header(req, "X-Forwarded-Proto");
    if (api->public_url)
        return api->public_url;
    if (!host || req->local || strpbrk(host, "/\"<> "))
        return api->server ? pd_http_server_url(api->server) : "http://localhost";
    return pd_arena_printf(&req->arena, "%s://%s",
                           proto && strcmp(proto, "https") == 0 ? "https" : "http", host);
}

void pd_jw_ktime(struct pd_jw *w, const char *key, int64_t us)
{
    char text[32];
    if (us)
        pd_time_format(us, text);
    pd_jw_kstrz(w, key, us ? text : NULL);
}

void pd_jw_kraw(struct pd_jw *w, const char *key, const char *json)
{
    pd_jw_key(w, key);
    if (json)
        pd_jw_raw(w, pd_str_from(json));
    else
        pd_jw_null(w);
}

void pd_jw_kuuid(struct pd_jw *w, const char *key, const char *uuid)
{
    pd_jw_kstrz(w, key, uuid && uuid[0] ? uuid : NULL);
}

void pd_api_local_call(struct pd_api *api, const char *op)
{
    if (strncmp(op, "job.", 4) == 0)
        api->worker_seen_us = pd_time_us();
}

bool pd_api_worker_alive(struct pd_api *api)
{
    return pd_time_us() - api->worker_seen_us < PD_JOB_SILENCE_US;
}

/* ------------------------------------------------------------------ limiter */

/* Whoever shares a slot shares its count, which only makes the limit stricter. The slot is keyed
 * with a secret, so nobody can choose whose slot to fill. */
enum { LIMITER_SLOTS = 1 << 16 };
struct pd_limiter {
    pthread_mutex_t lock;
    int max;
    int64_t window_us;
    unsigned char seed[32];
    struct {
        int64_t since_us;
        int failures;
    } slot[LIMITER_SLOTS];
};

struct pd_limiter *pd_limiter_new(int max_failures, int64_t window_us)
{
    struct pd_limiter *l = pd_xalloc(sizeof *l);
    pthread_mutex_init(&l->lock, NULL);
    l->max = max_failures;
    l->window_us = window_us;
    pd_crypt_init();
    pd_crypt_random(l->seed, sizeof l->seed);
    return l;
}

void pd_limiter_free(struct pd_limiter *l)
{
    if (!l)
        return;
    pthread_mutex_destroy(&l->lock);
    pd_free(l);
}

static size_t slot_of(const struct pd_limiter *l, struct pd_str key)
{
    char hex[65];
    pd_hmac_hex((struct pd_str){(const char *)l->seed, sizeof l->seed}, key, hex);
    hex[8] = '\0';
    return strtoul(hex, NULL, 16) % LIMITER_SLOTS;
}

bool pd_limiter_ok(struct pd_limiter *l, struct pd_str key, int *retry_seconds)
{
    size_t i = slot_of(l, key);
    int64_t now = pd_time_us();
    pthread_mutex_lock(&l->lock);
    int64_t left = l->slot[i].since_us + l->window_us - now;
    bool ok = left <= 0 || l->slot[i].failures < l->max;
    pthread_mutex_unlock(&l->lock);
    if (!ok)
        *retry_seconds = (int)(left / 1000000) + 1;
    return ok;
}

void pd_limiter_failed(struct pd_limiter *l, struct pd_str key)
{
    size_t i = slot_of(l, key);
    int64_t now = pd_time_us();
    pthread_mutex_lock(&l->lock);
    if (now - l->slot[i].since_us > l->window_us) {
        l->slot[i].since_us = now;
        l->slot[i].failures = 0;
    }
    l->slot[i].failures++;
    pthread_mutex_unlock(&l->lock);
}

/* ------------------------------------------------------------------ pages, health */

static const char no_ui[] =
    "<!doctype html><meta charset=utf-8><title>Podium</title>"
    "<h1>Podium</h1><p>The server is running, but this binary was built without its web pages "
    "(PD_UI=OFF, or npm was missing at build time). The command line and the HTTP calls work.</p>";

/* Pages of the front end are one file; it looks at the path itself. */
static bool is_page(const char *path)
{
    static const char *const roots[] = {"/sign-in", "/datasets", "/runs",
                                        "/users",   "/label",    "/me"};
    if (path[0] == '\0' || strcmp(path, "/") == 0)
        return true;
    for (size_t i = 0; i < sizeof roots / sizeof roots[0]; i++) {
        size_t n = strlen(roots[i]);
        if (strncmp(path, roots[i], n) == 0 && (path[n] == '\0' || path[n] == '/'))
            return true;
    }
    return false;
}

static bool fallback(struct pd_req *req)
{
    const struct pd_assets *t = pd_api_of(req)->assets;
    if (req->door >= 0 || req->local)
        return false;
    bool page = is_page(req->path);
    if (page && (!t || t->n == 0)) {
        pd_resp_static(req, 200, "text/html; charset=utf-8", no_ui, sizeof no_ui - 1);
        return true;
    }
    const struct pd_asset *a =
        t ? pd_assets_find(t, page ? PD_STR("index.html") : pd_str_from(req->path + 1)) : NULL;
    if (a)
        pd_assets_serve(req, a);
    return a != NULL;
}

static enum pd_rc healthz(struct pd_req *req, struct pd_err *err)
{
    struct pd_db *db;
    int64_t n = 0;
    enum pd_rc rc = pd_api_read(req, &db, err);
    if (rc == PD_OK)
        rc = pd_user_count(db, &n, err);
    if (rc != PD_OK)
        return rc;
    struct pd_jw *w = pd_resp_json(req, 200);
    pd_jw_object(w);
    pd_jw_kstrz(w, "status", "ok");
    pd_jw_kstrz(w, "version", pd_api_of(req)->version);
    pd_jw_object_end(w);
    return PD_OK;
}

static enum pd_rc metrics(struct pd_req *req, struct pd_err *err)
{
    struct pd_http_stats st;
    (void)err;
    pd_http_server_stats(pd_api_of(req)->server, &st);
    struct pd_buf *b = pd_resp_body(req, 200, "text/plain; version=0.0.4; charset=utf-8");
    pd_buf_addf(b, "# TYPE podium_http_requests_total counter\n");
    for (int i = 1; i < 6; i++)
        pd_buf_addf(b, "podium_http_requests_total{class=\"%dxx\"} %llu\n", i,
                    (unsigned long long)st.by_class[i]);
    pd_buf_addf(b, "# TYPE podium_http_request_seconds histogram\n");
    for (int i = 0; i < 12; i++)
        pd_buf_addf(b, "podium_http_request_seconds_bucket{le=\"%g\"} %llu\n",
                    pd_http_latency_ms[i] / 1000, (unsigned long long)st.latency_le[i]);
    pd_buf_addf(b, "podium_http_request_seconds_bucket{le=\"+Inf\"} %llu\n",
                (unsigned long long)st.requests);
    pd_buf_addf(b, "podium_http_request_seconds_sum %.6f\npodium_http_request_seconds_count %llu\n",
                (double)st.busy_ns / 1e9, (unsigned long long)st.requests);
    pd_buf_addf(
        b,
        "# TYPE podium_http_received_bytes_total counter\npodium_http_received_bytes_total %llu\n"
        "# TYPE podium_http_sent_bytes_total counter\npodium_http_sent_bytes_total %llu\n"
        "# TYPE podium_http_queued gauge\npodium_http_queued %d\n"
        "# TYPE podium_http_streams gauge\npodium_http_streams %d\n"
        "# TYPE podium_http_in_flight gauge\npodium_http_in_flight %d\n",
        (unsigned long long)st.bytes_in, (unsigned long long)st.bytes_out, st.queued, st.streams,
        st.connections);
    return PD_OK;
}

static const struct pd_route own_routes[] = {
    {PD_GET, "/healthz", healthz, PD_MAY_ANYONE, PD_DOOR_UI, 0, 0, "is the server well"},
    {PD_GET, "/metrics", metrics, PD_MAY_ANYONE, PD_DOOR_UI, 0, 0, "counters for Prometheus"},
};

/* ------------------------------------------------------------------ putting it together */

void pd_api_init(struct pd_api *api, struct pd_store *store, const struct pd_assets *assets,
                 const char *version, const char *public_url, const char *models_dir)
{
    static const struct pd_route_table *const tables[] = {
        &pd_routes_session,
        &pd_routes_keys,
        &pd_routes_dataset,
        &pd_routes_data,
        &pd_routes_records,
        &pd_routes_label,
        &pd_routes_answer,
        &pd_routes_overview,
        &pd_routes_watch,
        &pd_routes_job,
        &pd_routes_run,
        &pd_routes_local,
        &pd_routes_argilla_user,
        &pd_routes_argilla_dataset,
        &pd_routes_argilla_record,
        &pd_routes_model,
    };
    *api = (struct pd_api){.store = store,
                           .assets = assets,
                           .version = version,
                           .public_url = public_url,
                           .models_dir = pd_xstrdup(models_dir)};
    api->limiter = pd_limiter_new(10, (int64_t)5 * 60 * 1000000);
    api->overviews = pd_overviews_new();
    pd_router_init(&api->router);
    pd_router_add(&api->router, own_routes, sizeof own_routes / sizeof own_routes[0]);
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        pd_router_add(&api->router, tables[i]->rows, tables[i]->n);
}

void pd_api_release(struct pd_api *api)
{
    pd_router_release(&api->router);
    pd_limiter_free(api->limiter);
    pd_overviews_free(api->overviews);
    pd_free(api->models_dir);
    *api = (struct pd_api){0};
}

void pd_api_print_routes(const struct pd_api *api, FILE *out)
{
    static const char *const who[] = {"anyone", "signed in", "lead", "owner", "this machine"};
    const struct pd_route *r;
    for (size_t i = 0; (r = pd_router_row(&api->router, i)); i++)
        fprintf(out, "%-6s %-52s %-12s %11zu  %s\n", pd_method_name(r->method), r->pattern,
                who[r->policy], r->body_max, r->summary);
}

struct pd_http_app pd_api_app(struct pd_api *api)
{
    static const struct pd_door_prefix doors[] = {
        {"/argilla", PD_DOOR_ARGILLA}, {"/label-studio", PD_DOOR_LABEL_STUDIO}, {NULL, 0}};
    return (struct pd_http_app){.data = api,
                                .router = &api->router,
                                .gate = gate,
                                .after = after,
                                .error = on_error,
                                .fallback = fallback,
                                .doors = doors};
}
