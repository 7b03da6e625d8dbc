#include "gen/serve.h"

#include "base/crypt.h"
#include "base/mem.h"
#include "base/sig.h"
#include "base/time.h"
#include "gen/serve_int.h"

#include <stdio.h>
#include <strings.h>

enum { BODY_MAX = 4 << 20, GRACE_MS = 10000 };
enum { MAY_ANYONE, MAY_KEY };

/* ---- errors in OpenAI's shape */

static const char *error_type(int status)
{
    return status == 401   ? "authentication_error"
           : status == 403 ? "permission_error"
           : status == 429 ? "rate_limit_error"
           : status >= 500 ? "server_error"
                           : "invalid_request_error";
}

void pd__serve_error_body(struct pd_jw *w, int status, const char *message, const char *param,
                          const char *code)
{
    pd_jw_key(w, "error");
    pd_jw_object(w);
    pd_jw_kstrz(w, "message", message);
    pd_jw_kstrz(w, "type", error_type(status));
    pd_jw_kstrz(w, "param", param);
    pd_jw_kstrz(w, "code", code);
    pd_jw_object_end(w);
}

void pd__serve_error(struct pd_req *req, int status, const char *message, const char *param,
                     const char *code)
{
    struct pd_jw *w = pd_resp_json(req, status);
    pd_jw_object(w);
    pd__serve_error_body(w, status, message, param, code);
    pd_jw_object_end(w);
}

static void on_error(struct pd_req *req, int status, const struct pd_err *err)
{
    bool shown = status < 500 || status == 503 || status == 501;
    const char *code = status == 401 ? "invalid_api_key" : status == 404 ? "not_found" : NULL;
    if (status == 422) /* OpenAI's clients know 400 for all that is wrong with a request */
        status = 400;
    pd__serve_error(req, status,
                    shown && err->msg[0] ? err->msg : "internal error; the server's log has it",
                    NULL, code);
}

/* ---- who may */

/* "localhost", "127.0.0.1:6901", "[::1]": what nobody else can make point here. */
static bool is_address(const char *host)
{
    size_t name = strcspn(host, ":");
    return host[0] == '[' || strspn(host, "0123456789.") == name ||
           (name == 9 && strncasecmp(host, "localhost", 9) == 0);
}

/* A page of another site may not use the visitor's machine; its own tools send no Origin. Where no
 * key is asked for, a page's own name does not count either: its owner can make it point here. */
static bool foreign_origin(struct pd_req *req, bool keyed)
{
    const char *origin = pd_req_header(req, "Origin"), *host = pd_req_header(req, "Host");
    const char *at = origin ? strstr(origin, "://") : NULL;
    if (!origin)
        return false;
    return !at || !host || strcasecmp(at + 3, host) != 0 || (!keyed && !is_address(host));
}

static enum pd_rc gate(struct pd_req *req, struct pd_err *err)
{
    const struct pd__server *s = req->app;
    const char *h = pd_req_header(req, "Authorization");
    if (req->route->policy == MAY_ANYONE)
        return PD_OK;
    if (foreign_origin(req, s->opts->api_key != NULL))
        return PD_FAIL(err, PD_FORBIDDEN, "the Origin header names another site");
    if (!s->opts->api_key)
        return PD_OK;
    struct pd_str key = {NULL, 0};
    if (h && strncasecmp(h, "bearer ", 7) == 0)
        key = pd_str_trim(pd_str_from(h + 7));
    if (key.len && pd_crypt_equal(key, pd_str_from(s->opts->api_key)))
        return PD_OK;
    return PD_FAIL(err, PD_UNAUTH,
                   "the Authorization header must be: Bearer KEY, with this "
                   "server's key");
}

/* ---- handlers */

static enum pd_rc answer(struct pd_req *req, bool chat, struct pd_err *err)
{
    struct pd__server *s = req->app;
    struct pd__wish wish;
    struct pd_call *call = NULL;
    enum pd_rc rc = pd__wish_read(s, req, chat, &wish, err);
    if (rc == PD_OK)
        rc = pd_engine_ask(s->engine, &wish.ask, &call, err);
    if (rc == PD_OK)
        rc = pd__reply(s, req, &wish, call, err);
    pd_call_end(call);
    int status = rc == PD_TOOBIG || pd_rc_http(rc) == 422 ? 400 : pd_rc_http(rc);
    if (rc != PD_OK && status < 500 && !pd_resp_stream_began(req)) {
        pd__serve_error(req, status, err->msg, wish.param, wish.code);
        rc = PD_OK;
    }
    return rc;
}

static enum pd_rc completions(struct pd_req *req, struct pd_err *err)
{
    return answer(req, false, err);
}

static enum pd_rc chat_completions(struct pd_req *req, struct pd_err *err)
{
    return answer(req, true, err);
}

static void write_model(const struct pd__server *s, struct pd_jw *w)
{
    pd_jw_object(w);
    pd_jw_kstrz(w, "id", s->opts->model_name);
    pd_jw_kstrz(w, "object", "model");
    pd_jw_ki64(w, "created", s->started);
    pd_jw_kstrz(w, "owned_by", "podium");
    pd_jw_ki64(w, "max_model_len", pd_config_context(&s->model->cfg));
    pd_jw_object_end(w);
}

static enum pd_rc models(struct pd_req *req, struct pd_err *err)
{
    struct pd_jw *w = pd_resp_json(req, 200);
    (void)err;
    pd_jw_object(w);
    pd_jw_kstrz(w, "object", "list");
    pd_jw_key(w, "data");
    pd_jw_array(w);
    write_model(req->app, w);
    pd_jw_array_end(w);
    pd_jw_object_end(w);
    return PD_OK;
}

static enum pd_rc one_model(struct pd_req *req, struct pd_err *err)
{
    const struct pd__server *s = req->app;
    if (!pd_str_eqz(pd_req_param(req, "name"), s->opts->model_name))
        return PD_FAIL(err, PD_NOTFOUND, "no such model; this server has '%s'",
                       s->opts->model_name);
    write_model(s, pd_resp_json(req, 200));
    return PD_OK;
}

static enum pd_rc healthz(struct pd_req *req, struct pd_err *err)
{
    const struct pd__server *s = req->app;
    struct pd_engine_stats st;
    struct pd_jw *w = pd_resp_json(req, 200);
    (void)err;
    pd_engine_stats(s->engine, &st);
    pd_jw_object(w);
    pd_jw_kstrz(w, "status", "ok");
    pd_jw_kstrz(w, "version", s->opts->version);
    pd_jw_kstrz(w, "model", s->opts->model_name);
    pd_jw_ki64(w, "requests", st.calls);
    pd_jw_ki64(w, "running", st.running);
    pd_jw_ki64(w, "waiting", st.waiting);
    pd_jw_ki64(w, "prompt_tokens", st.prompt_tokens);
    pd_jw_ki64(w, "new_tokens", st.new_tokens);
    pd_jw_object_end(w);
    return PD_OK;
}

static const struct pd_route routes[] = {
    {PD_GET, "/healthz", healthz, MAY_ANYONE, 0, 0, 0, "is the server well"},
    {PD_GET, "/v1/models", models, MAY_KEY, 0, 0, 0, "the model"},
    {PD_GET, "/v1/models/{name*}", one_model, MAY_KEY, 0, 0, 0, "the model"},
    {PD_POST, "/v1/completions", completions, MAY_KEY, 0, BODY_MAX, PD_ROUTE_STREAM, "texts go on"},
    {PD_POST, "/v1/chat/completions", chat_completions, MAY_KEY, 0, BODY_MAX, PD_ROUTE_STREAM,
     "the next message"},
};

/* ---- running */

enum pd_rc pd_serve_run(struct pd_decoder *dec, const struct pd_serve_opts *opts,
                        struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_http_server *http = NULL;
    struct pd__server s = {
        .opts = opts, .model = pd_decoder_model(dec), .started = pd_time_us() / 1000000};
    const struct pd_http_app app = {
        .data = &s, .router = &s.router, .gate = gate, .error = on_error};
    bool local = strncmp(opts->listen, "unix:", 5) == 0;
    const struct pd_http_config cfg = {.listen = local ? NULL : opts->listen,
                                       .unix_path = local ? opts->listen + 5 : NULL,
                                       .workers = 2,
                                       .long_max = (int)opts->max_requests,
                                       .access_log = opts->access_log};
    pd_router_init(&s.router);
    pd_router_add(&s.router, routes, sizeof routes / sizeof *routes);
    if (!s.model->tok) {
        rc = PD_FAIL(err, PD_INVALID, "%s has no tokenizer; answers cannot be made without one",
                     opts->model_name);
        goto out;
    }
    PD_TRY(pd_engine_start(&s.engine, dec, &opts->engine, err));
    rc = pd_http_server_start(&http, &cfg, &app, err);
    if (rc == PD_USAGE)
        rc = pd_err_prefix(err, local ? "--listen unix:" : "--listen HOST:PORT or unix:PATH");
    PD_TRY(rc);
    printf("listening on %s\n", local ? opts->listen : pd_http_server_url(http));
    (void)fflush(stdout);
    while (!pd_sig_stop())
        pd_sleep_ms(50);
    if (!opts->quiet)
        fputs("stopping: finishing what was begun\n", stderr);
out:
    pd_http_server_stop(http, GRACE_MS);
    pd_engine_stop(s.engine);
    pd_router_release(&s.router);
    return rc;
}
