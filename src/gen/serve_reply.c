/* From what the engine says to what the client reads: one JSON object, or events as tokens come. */
#include "gen/serve_int.h"

#include "base/mem.h"
#include "base/time.h"

enum { WAIT_MS = 250 }; /* between looks at whether the client is still there */

/* A choice as its reader sees it. */
struct view {
    struct pd_detok detok;
    struct pd_buf text;    /* of the tokens seen, whole characters only */
    size_t *offsets;       /* of each token in text, in characters; kept for log-probs alone */
    size_t chars, counted; /* characters in the first `counted` bytes of text */
    int64_t seen, told;    /* tokens decoded; tokens whose log-probs were sent */
    size_t shown, sent;    /* bytes: no stop text can begin before `shown` */
    bool begun, decoded, finished;
};

struct reply {
    struct pd__server *s;
    struct pd_req *req;
    const struct pd__wish *w;
    struct pd_call *call;
    struct view *views;
    const char *id;
    int64_t created;
};

/* Characters of the text so far. OpenAI's offsets are in them: clients cut strings, not bytes. */
static size_t count_chars(struct view *v)
{
    for (; v->counted < v->text.len; v->counted++)
        v->chars += ((unsigned char)v->text.ptr[v->counted] & 0xc0) != 0x80;
    return v->chars;
}

/* Decodes the tokens that are new. Lock of the call held, as in all that reads choices. */
static void look(struct reply *r, struct view *v, const struct pd_choice *c)
{
    if (r->w->logprobs)
        v->offsets = pd_xrealloc(v->offsets, (size_t)(c->n + 1) * sizeof *v->offsets);
    for (; v->seen < c->n; v->seen++) {
        if (r->w->logprobs)
            v->offsets[v->seen] = count_chars(v);
        pd_detok_push(&v->detok, r->s->model->tok, c->ids[v->seen], true, &v->text);
    }
    if (c->done && !v->decoded) {
        pd_detok_finish(&v->detok, &v->text);
        v->decoded = true;
    }
    const struct pd_stops *stops = &r->w->ask.stops;
    struct pd_str rest = {pd_buf_cstr(&v->text) + v->shown, v->text.len - v->shown};
    v->shown += c->done ? pd_stops_find(stops, rest) : pd_stops_clear(stops, rest);
}

/* ---- pieces of JSON */

static void write_head(const struct reply *r, struct pd_jw *w, bool chunk)
{
    const char *kind = !r->w->chat ? "text_completion"
                       : chunk     ? "chat.completion.chunk"
                                   : "chat.completion";
    pd_jw_object(w);
    pd_jw_kstrz(w, "id", r->id);
    pd_jw_kstrz(w, "object", kind);
    pd_jw_ki64(w, "created", r->created);
    pd_jw_kstrz(w, "model", r->s->opts->model_name);
    pd_jw_kstrz(w, "system_fingerprint", r->s->opts->version);
}

static void write_usage(const struct reply *r, struct pd_jw *w)
{
    int64_t new_tokens = 0;
    for (size_t i = 0; i < r->call->n_choices; i++)
        new_tokens += r->call->choices[i].n;
    pd_jw_key(w, "usage");
    pd_jw_object(w);
    pd_jw_ki64(w, "prompt_tokens", r->w->prompt_tokens);
    pd_jw_ki64(w, "completion_tokens", new_tokens);
    pd_jw_ki64(w, "total_tokens", r->w->prompt_tokens + new_tokens);
    pd_jw_object_end(w);
}

/* One token as text. Of a part of a character: U+FFFD in a chat, where the bytes stand beside it,
 * and "bytes:\xNN..." as OpenAI has it elsewhere, where texts are the keys of a map. */
static void token_text(const struct reply *r, int32_t id, struct pd_buf *out)
{
    struct pd_detok d = {0};
    struct pd_str bytes = pd_tokenizer_bytes(r->s->model->tok, id);
    pd_buf_clear(out);
    if (!r->w->chat && pd_utf8_valid_prefix(bytes) < bytes.len) {
        pd_buf_adds(out, "bytes:");
        for (size_t i = 0; i < bytes.len; i++)
            pd_buf_addf(out, "\\x%02x", (unsigned char)bytes.ptr[i]);
        return;
    }
    pd_detok_push(&d, r->s->model->tok, id, false, out);
    pd_detok_finish(&d, out);
}

static void write_chat_token(const struct reply *r, struct pd_jw *w, struct pd_buf *text,
                             int32_t id, double logprob)
{
    struct pd_str bytes = pd_tokenizer_bytes(r->s->model->tok, id);
    token_text(r, id, text);
    pd_jw_kstr(w, "token", pd_buf_str(text));
    pd_jw_kf64(w, "logprob", logprob);
    pd_jw_key(w, "bytes");
    pd_jw_array(w);
    for (size_t i = 0; i < bytes.len; i++)
        pd_jw_i64(w, (unsigned char)bytes.ptr[i]);
    pd_jw_array_end(w);
}

static void write_chat_logprobs(const struct reply *r, struct pd_jw *w, const struct pd_choice *c,
                                int64_t from, int64_t to)
{
    struct pd_buf text;
    int64_t k = r->w->ask.top_logprobs;
    pd_buf_init(&text, 0);
    pd_jw_object(w);
    pd_jw_key(w, "content");
    pd_jw_array(w);
    for (int64_t t = from; t < to; t++) {
        pd_jw_object(w);
        write_chat_token(r, w, &text, c->ids[t], c->logprobs[t]);
        pd_jw_key(w, "top_logprobs");
        pd_jw_array(w);
        for (int64_t i = 0; i < k; i++) {
            pd_jw_object(w);
            write_chat_token(r, w, &text, c->top[t * k + i].id, c->top[t * k + i].logprob);
            pd_jw_object_end(w);
        }
        pd_jw_array_end(w);
        pd_jw_object_end(w);
    }
    pd_jw_array_end(w);
    pd_jw_object_end(w);
    pd_buf_release(&text);
}

/* {token: log-prob}, the drawn one always among them. */
static void write_top_map(const struct reply *r, struct pd_jw *w, struct pd_buf *text,
                          const struct pd_choice *c, int64_t t)
{
    int64_t k = r->w->ask.top_logprobs;
    struct json_object *map = json_object_new_object();
    for (int64_t i = 0; i <= k; i++) {
        bool drawn = i == k;
        token_text(r, drawn ? c->ids[t] : c->top[t * k + i].id, text);
        double lp = drawn ? (double)c->logprobs[t] : (double)c->top[t * k + i].logprob;
        if (!json_object_object_get_ex(map, pd_buf_cstr(text), NULL))
            json_object_object_add(map, pd_buf_cstr(text), json_object_new_double(lp));
    }
    pd_jw_tree(w, map);
    json_object_put(map);
}

static void write_text_logprobs(const struct reply *r, struct pd_jw *w, const struct view *v,
                                const struct pd_choice *c, int64_t from, int64_t to)
{
    struct pd_buf text;
    pd_buf_init(&text, 0);
    pd_jw_object(w);
    pd_jw_key(w, "tokens");
    pd_jw_array(w);
    for (int64_t t = from; t < to; t++) {
        token_text(r, c->ids[t], &text);
        pd_jw_str(w, pd_buf_str(&text));
    }
    pd_jw_array_end(w);
    pd_jw_key(w, "token_logprobs");
    pd_jw_array(w);
    for (int64_t t = from; t < to; t++)
        pd_jw_f64(w, c->logprobs[t]);
    pd_jw_array_end(w);
    pd_jw_key(w, "top_logprobs");
    if (r->w->ask.top_logprobs > 0) {
        pd_jw_array(w);
        for (int64_t t = from; t < to; t++)
            write_top_map(r, w, &text, c, t);
        pd_jw_array_end(w);
    } else {
        pd_jw_null(w);
    }
    pd_jw_key(w, "text_offset");
    pd_jw_array(w);
    for (int64_t t = from; t < to; t++)
        pd_jw_i64(w, (int64_t)v->offsets[t]);
    pd_jw_array_end(w);
    pd_jw_object_end(w);
    pd_buf_release(&text);
}

/* "logprobs" and "finish_reason" close a choice in every shape. */
static void write_tail(const struct reply *r, struct pd_jw *w, const struct view *v,
                       const struct pd_choice *c, int64_t from, int64_t to, bool finished)
{
    pd_jw_key(w, "logprobs");
    if (!r->w->logprobs || from == to)
        pd_jw_null(w);
    else if (r->w->chat)
        write_chat_logprobs(r, w, c, from, to);
    else
        write_text_logprobs(r, w, v, c, from, to);
    pd_jw_kstrz(w, "finish_reason", finished ? pd_finish_name(c->finish) : NULL);
}

static struct pd_str echo_of(const struct reply *r, size_t choice)
{
    return r->w->echo ? r->w->echoed[choice / (size_t)r->w->ask.n] : PD_STR("");
}

/* ---- the whole answer at once */

static void write_whole(struct reply *r, struct pd_jw *w, size_t i)
{
    const struct pd_choice *c = &r->call->choices[i];
    struct view *v = &r->views[i];
    struct pd_str text = {pd_buf_cstr(&v->text), v->shown};
    pd_jw_object(w);
    pd_jw_ki64(w, "index", (int64_t)i);
    if (r->w->chat) {
        pd_jw_key(w, "message");
        pd_jw_object(w);
        pd_jw_kstrz(w, "role", "assistant");
        pd_jw_kstr(w, "content", text);
        pd_jw_object_end(w);
    } else {
        struct pd_buf both;
        pd_buf_init(&both, 0);
        pd_buf_addstr(&both, echo_of(r, i));
        pd_buf_addstr(&both, text);
        pd_jw_kstr(w, "text", pd_buf_str(&both));
        pd_buf_release(&both);
    }
    write_tail(r, w, v, c, 0, c->n, true);
    pd_jw_object_end(w);
}

static enum pd_rc send_whole(struct reply *r, struct pd_err *err)
{
    bool over = false, gone = false;
    while (!over && !gone) {
        over = pd_call_wait(r->call, WAIT_MS);
        pd_call_unlock(r->call);
        gone = !over && pd_req_gone(r->req);
    }
    if (gone)
        return PD_FAIL(err, PD_INTERRUPTED,
                       "the client closed the connection, or the server stops");
    if (r->call->rc != PD_OK) {
        *err = r->call->err;
        return r->call->rc;
    }
    struct pd_jw *w = pd_resp_json(r->req, 200);
    write_head(r, w, false);
    pd_jw_key(w, "choices");
    pd_jw_array(w);
    for (size_t i = 0; i < r->call->n_choices; i++) {
        look(r, &r->views[i], &r->call->choices[i]);
        write_whole(r, w, i);
    }
    pd_jw_array_end(w);
    write_usage(r, w);
    pd_jw_object_end(w);
    return PD_OK;
}

/* ---- events */

static void end_event(struct pd_jw *w, struct pd_buf *json, struct pd_buf *out)
{
    pd_jw_object_end(w);
    pd_buf_adds(out, "data: ");
    pd_buf_addstr(out, pd_buf_str(json));
    pd_buf_adds(out, "\n\n");
    pd_buf_clear(json);
}

struct event {
    struct pd_str text;
    bool role, finished;
    int64_t from, to; /* tokens whose log-probs go along */
};

static void add_event(struct reply *r, size_t i, const struct event *e, struct pd_buf *json,
                      struct pd_buf *out)
{
    struct pd_jw w;
    pd_jw_init(&w, json);
    write_head(r, &w, true);
    pd_jw_key(&w, "choices");
    pd_jw_array(&w);
    pd_jw_object(&w);
    pd_jw_ki64(&w, "index", (int64_t)i);
    if (r->w->chat) {
        pd_jw_key(&w, "delta");
        pd_jw_object(&w);
        if (e->role)
            pd_jw_kstrz(&w, "role", "assistant");
        if (!e->finished)
            pd_jw_kstr(&w, "content", e->text);
        pd_jw_object_end(&w);
    } else {
        pd_jw_kstr(&w, "text", e->text);
    }
    write_tail(r, &w, &r->views[i], &r->call->choices[i], e->from, e->to, e->finished);
    pd_jw_object_end(&w);
    pd_jw_array_end(&w);
    if (r->w->include_usage) {
        pd_jw_key(&w, "usage");
        pd_jw_null(&w);
    }
    end_event(&w, json, out);
}

/* What is new of one choice. */
static void add_news(struct reply *r, size_t i, struct pd_buf *json, struct pd_buf *out)
{
    const struct pd_choice *c = &r->call->choices[i];
    struct view *v = &r->views[i];
    look(r, v, c);
    if (!v->begun && c->n > 0) {
        struct event e = {.text = echo_of(r, i), .role = r->w->chat};
        if (r->w->chat || e.text.len)
            add_event(r, i, &e, json, out);
        v->begun = true;
    }
    bool told = !r->w->logprobs || v->told == v->seen;
    if (v->shown > v->sent || !told) {
        struct event e = {.text = {pd_buf_cstr(&v->text) + v->sent, v->shown - v->sent},
                          .from = v->told,
                          .to = v->seen};
        add_event(r, i, &e, json, out);
        v->sent = v->shown;
        v->told = v->seen;
    }
    if (c->done && !v->finished) {
        struct event e = {.text = PD_STR(""), .finished = true};
        add_event(r, i, &e, json, out);
        v->finished = true;
    }
}

static void add_end(struct reply *r, struct pd_buf *json, struct pd_buf *out)
{
    struct pd_jw w;
    pd_jw_init(&w, json);
    if (r->call->rc != PD_OK) {
        pd_jw_object(&w);
        pd__serve_error_body(&w, pd_rc_http(r->call->rc), r->call->err.msg, NULL, NULL);
        end_event(&w, json, out);
        return;
    }
    if (r->w->include_usage) {
        write_head(r, &w, true);
        pd_jw_key(&w, "choices");
        pd_jw_array(&w);
        pd_jw_array_end(&w);
        write_usage(r, &w);
        end_event(&w, json, out);
    }
    pd_buf_adds(out, "data: [DONE]\n\n");
}

/* The head leaves with the first token: what fails before has a status of its own. */
static enum pd_rc send_events(struct reply *r, struct pd_err *err)
{
    struct pd_buf json, out;
    bool over = false, begun = false;
    enum pd_rc rc = PD_OK;
    pd_buf_init(&json, 0);
    pd_buf_init(&out, 0);
    while (rc == PD_OK && !over) {
        pd_buf_clear(&out);
        over = pd_call_wait(r->call, WAIT_MS);
        for (size_t i = 0; i < r->call->n_choices; i++)
            add_news(r, i, &json, &out);
        pd_call_unlock(r->call);
        if (over && r->call->rc != PD_OK && !begun) {
            *err = r->call->err;
            rc = r->call->rc;
            break;
        }
        if (over)
            add_end(r, &json, &out);
        if (out.len && !begun) {
            pd_resp_header(r->req, "X-Accel-Buffering", "no");
            pd_resp_stream(r->req, 200, "text/event-stream");
            begun = true;
        }
        if (out.len)
            rc = pd_resp_write(r->req, out.ptr, out.len, err);
        if (rc == PD_OK && !over && pd_req_gone(r->req))
            rc = PD_FAIL(err, PD_INTERRUPTED,
                         "the client closed the connection, or the server stops");
    }
    pd_buf_release(&json);
    pd_buf_release(&out);
    return rc;
}

enum pd_rc pd__reply(struct pd__server *s, struct pd_req *req, const struct pd__wish *w,
                     struct pd_call *call, struct pd_err *err)
{
    struct reply r = {.s = s, .req = req, .w = w, .call = call, .created = pd_time_us() / 1000000};
    r.id = pd_arena_printf(&req->arena, "%s-%s", w->chat ? "chatcmpl" : "cmpl", req->id);
    r.views = pd_xalloc(call->n_choices * sizeof *r.views);
    for (size_t i = 0; i < call->n_choices; i++)
        pd_buf_init(&r.views[i].text, 0);
    enum pd_rc rc = w->stream ? send_events(&r, err) : send_whole(&r, err);
    for (size_t i = 0; i < call->n_choices; i++) {
        pd_buf_release(&r.views[i].text);
        pd_free(r.views[i].offsets);
    }
    pd_free(r.views);
    return rc;
}
