/* /v1/...: the model that `podium serve --model M` runs beside itself (a `podium generate --serve`
 * child on a socket of its own), behind this server's accounts. Requests and answers pass through
 * as bytes; nothing is kept back, so a stream is one here too. */
#include "api/api.h"

#include "net/client.h"

void pd_api_model_error(struct pd_req *req, int status, const char *message)
{
    struct pd_jw *w = pd_resp_json(req, status);
    pd_jw_object(w);
    pd_jw_key(w, "error");
    pd_jw_object(w);
    pd_jw_kstrz(w, "message", message);
    pd_jw_kstrz(w, "type",
                status == 401   ? "authentication_error"
                : status == 403 ? "permission_error"
                : status >= 500 ? "server_error"
                                : "invalid_request_error");
    pd_jw_kstrz(w, "param", NULL);
    pd_jw_kstrz(w, "code", status == 401 ? "invalid_api_key" : NULL);
    pd_jw_object_end(w);
    pd_jw_object_end(w);
}

static enum pd_rc on_head(void *ctx, const struct pd_http_call *call, struct pd_err *err)
{
    struct pd_req *req = ctx;
    bool events = strncmp(call->type, "text/event-stream", 17) == 0;
    (void)err;
    if (call->retry_after_ms > 0)
        pd_resp_header(
            req, "Retry-After",
            pd_arena_printf(&req->arena, "%lld", (long long)(call->retry_after_ms + 999) / 1000));
    if (events)
        pd_resp_header(req, "X-Accel-Buffering", "no");
    pd_resp_stream(req, call->status, events ? "text/event-stream" : "application/json");
    return PD_OK;
}

static enum pd_rc on_data(void *ctx, struct pd_str piece, struct pd_err *err)
{
    return pd_resp_write(ctx, piece.ptr, piece.len, err);
}

static bool gone(void *ctx)
{
    return pd_req_gone(ctx);
}

static enum pd_rc forward(struct pd_req *req, struct pd_err *err)
{
    const char *headers[] = {"Content-Type: application/json", NULL};
    struct pd_api *api = pd_api_of(req);
    if (!api->model_socket)
        return PD_FAIL(err, PD_NOTFOUND,
                       "this server has no model; it gets one with podium serve --model M");
    pd_api_read_end(req);
    struct pd_http_call call = {.method = pd_method_name(req->method),
                                .url = pd_arena_printf(&req->arena, "http://model%s", req->path),
                                .unix_path = api->model_socket,
                                .headers = headers,
                                .body = req->body,
                                .body_fd = -1,
                                .on_head = on_head,
                                .on_data = on_data,
                                .stop = gone,
                                .ctx = req}; /* no time limit: who hangs up ends it */
    enum pd_rc rc = pd_http_call(&call, err);
    if (rc != PD_IO || call.status != 0)
        return rc;
    pd_api_model_error(req, 503, "the model is not there yet, or is being started again");
    pd_resp_header(req, "Retry-After", "2");
    return PD_OK;
}

static const struct pd_route rows[] = {
    {PD_GET, "/v1/models", forward, PD_MAY_LEAD, PD_DOOR_OPENAI, 0, PD_ROUTE_STREAM,
     "the model that runs beside the server"},
    {PD_GET, "/v1/models/{name*}", forward, PD_MAY_LEAD, PD_DOOR_OPENAI, 0, PD_ROUTE_STREAM,
     "the same by its name"},
    {PD_POST, "/v1/completions", forward, PD_MAY_LEAD, PD_DOOR_OPENAI, PD_BODY_JSON,
     PD_ROUTE_STREAM, "a text goes on (OpenAI's API)"},
    {PD_POST, "/v1/chat/completions", forward, PD_MAY_LEAD, PD_DOOR_OPENAI, PD_BODY_JSON,
     PD_ROUTE_STREAM, "the next message (OpenAI's API)"},
};
PD_ROUTE_TABLE(pd_routes_model, rows);
