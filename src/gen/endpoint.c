#include "gen/endpoint.h"

#include "base/mem.h"
#include "lm/chat.h"

#include <stdio.h>
#include <string.h>

enum {
    REPLY_MAX = 16 << 20,
    CONNECT_MS = 10000,
    SECRET_MIN = 6,          /* a shorter key ("none") hides nothing */
    MAX_TOKENS = 1000000000, /* of one request; a count past it is none */
};

enum pd_rc pd_endpoint_check(const struct pd_endpoint *e, struct pd_err *err)
{
    const char *host = strstr(e->url, "://");
    size_t n = host ? strcspn(host + 3, "/?#") : 0;
    if (n == 0 || strpbrk(e->url, " \r\n\t"))
        return PD_FAIL(err, PD_USAGE, "--model %s: not an address like https://host/v1", e->url);
    if (memchr(host + 3, '@', n))
        return PD_FAIL(err, PD_USAGE,
                       "--model: an address with a name and password in it is not taken; put the "
                       "key into the environment (--api-key-env)");
    if (e->api_key && strpbrk(e->api_key, "\r\n"))
        return PD_FAIL(err, PD_USAGE, "the API key holds a line break");
    return PD_OK;
}

/* ---- the request */

static void write_prompt(struct pd_jw *w, const struct pd_endpoint_ask *ask)
{
    pd_jw_key(w, ask->chat ? "messages" : "prompt");
    if (ask->chat && json_object_is_type(ask->prompt, json_type_string)) {
        pd_jw_array(w);
        pd_jw_object(w);
        pd_jw_kstrz(w, "role", "user");
        pd_jw_kstr(w, "content", pd_json_value_str(ask->prompt));
        pd_jw_object_end(w);
        pd_jw_array_end(w);
    } else {
        pd_jw_tree(w, ask->prompt);
    }
}

/* Only what differs from the API's defaults is sent: not every endpoint takes every parameter. */
void pd_endpoint_body(const struct pd_endpoint *e, const struct pd_endpoint_ask *ask,
                      struct pd_buf *out)
{
    const struct pd_sampling *s = ask->sampling;
    struct pd_jw w;
    pd_jw_init(&w, out);
    pd_jw_object(&w);
    pd_jw_kstrz(&w, "model", e->model);
    write_prompt(&w, ask);
    pd_jw_ki64(&w, ask->new_max_name ? "max_completion_tokens" : "max_tokens", ask->max_new);
    if (s->greedy)
        pd_jw_kf64(&w, "temperature", 0);
    else if (s->temperature != 1)
        pd_jw_kf64(&w, "temperature", s->temperature);
    if (s->top_p < 1)
        pd_jw_kf64(&w, "top_p", s->top_p);
    if (s->top_k > 0)
        pd_jw_ki64(&w, "top_k", s->top_k);
    if (s->min_p > 0)
        pd_jw_kf64(&w, "min_p", s->min_p);
    if (s->repetition_penalty != 1)
        pd_jw_kf64(&w, "repetition_penalty", s->repetition_penalty);
    if (e->send_seed)
        pd_jw_ki64(&w, "seed", (int64_t)ask->seed);
    if (ask->n_stops) {
        pd_jw_key(&w, "stop");
        pd_jw_array(&w);
        for (size_t i = 0; i < ask->n_stops; i++)
            pd_jw_strz(&w, ask->stops[i]);
        pd_jw_array_end(&w);
    }
    pd_jw_object_end(&w);
}

/* ---- the reply */

#define REPLACEMENT "\xEF\xBF\xBD"

/* The code of \uXXXX at the beginning of s, else -1. */
static int escaped_unit(struct pd_str s)
{
    int code = 0;
    if (s.len < 6 || s.ptr[0] != '\\' || s.ptr[1] != 'u')
        return -1;
    for (int i = 2; i < 6; i++) {
        const char *digits = "0123456789abcdef", *at = strchr(digits, s.ptr[i] | 0x20);
        if (!at || !s.ptr[i])
            return -1;
        code = code * 16 + (int)(at - digits);
    }
    return code;
}

/* Copies s with U+FFFD for escapes of half a surrogate pair. */
static void mend_escapes(struct pd_str s, struct pd_buf *out)
{
    while (s.len) {
        const char *at = memchr(s.ptr, '\\', s.len);
        size_t plain = at ? (size_t)(at - s.ptr) : s.len;
        pd_buf_addstr(out, (struct pd_str){s.ptr, plain});
        s = (struct pd_str){s.ptr + plain, s.len - plain};
        struct pd_str behind = s.len > 6 ? (struct pd_str){s.ptr + 6, s.len - 6} : PD_STR("");
        int unit = escaped_unit(s), next = escaped_unit(behind);
        size_t n = s.len < 2 ? s.len : 2;
        if (unit >= 0xd800 && unit < 0xdc00 && next >= 0xdc00 && next < 0xe000)
            n = 12;
        else if (unit >= 0)
            n = 6;
        pd_buf_addstr(out, n == 6 && unit >= 0xd800 && unit < 0xe000 ? PD_STR("\\ufffd")
                                                                     : (struct pd_str){s.ptr, n});
        s = (struct pd_str){s.ptr + n, s.len - n};
    }
}

/* Copies s with U+FFFD for what is not Unicode: endpoints cut characters in two, and asking again
 * costs as much as it did. */
static void mend(struct pd_str s, struct pd_buf *out)
{
    while (s.len) {
        size_t good = pd_utf8_valid_prefix(s), bad = 0;
        mend_escapes((struct pd_str){s.ptr, good}, out);
        if (good < s.len) {
            pd_buf_adds(out, REPLACEMENT);
            do
                bad++;
            while (good + bad < s.len && ((unsigned char)s.ptr[good + bad] & 0xc0) == 0x80);
        }
        s = (struct pd_str){s.ptr + good + bad, s.len - good - bad};
    }
}

static enum pd_rc parse(struct pd_str body, struct json_object **out, struct pd_err *err)
{
    struct pd_buf mended;
    enum pd_rc rc = pd_json_parse(body, out, err);
    if (rc == PD_OK)
        return rc;
    pd_buf_init(&mended, 0);
    mend(body, &mended);
    if (pd_json_parse(pd_buf_str(&mended), out, NULL) == PD_OK) /* else the first error says it */
        rc = PD_OK;
    pd_buf_release(&mended);
    return rc;
}

/* The first line of a text from outside, fit for a message. Some endpoints say in it which key they
 * were given. */
static void printable(struct pd_str text, const char *key, char *out, size_t room)
{
    size_t n = 0, secret = key && strlen(key) >= SECRET_MIN ? strlen(key) : 0;
    for (size_t i = 0; i < text.len && n + 1 < room; i++) {
        char c = text.ptr[i];
        if (secret && text.len - i >= secret && memcmp(text.ptr + i, key, secret) == 0) {
            out[n++] = '*';
            i += secret - 1;
            continue;
        }
        if (c == '\n' || c == '\r') {
            if (n)
                break;
            continue;
        }
        out[n++] = (unsigned char)c < 0x20 || c == 0x7f ? ' ' : c;
    }
    out[pd_utf8_valid_prefix((struct pd_str){out, n})] = '\0';
}

/* {"error":{"message"}} and its relatives, or the text itself. */
static void error_text(struct pd_str body, const char *key, char *out, size_t room)
{
    struct json_object *o = NULL;
    struct pd_str text = body;
    if (parse(body, &o, NULL) == PD_OK) {
        struct json_object *e = pd_json_get(o, "error");
        struct pd_str nested = json_object_is_type(e, json_type_string) ? pd_json_value_str(e)
                                                                        : pd_json_str(e, "message");
        struct pd_str plain = pd_json_str(o, "message");
        text = nested.ptr ? nested : plain.ptr ? plain : body;
    }
    printable(text, key, out, room);
    json_object_put(o);
}

static enum pd_endpoint_verdict refused(const struct pd_endpoint *e,
                                        const struct pd_http_call *call, struct pd_str body,
                                        struct pd_err *err)
{
    char why[200];
    int status = call->status;
    error_text(body, e->api_key, why, sizeof why);
    (void)PD_FAIL(err, PD_IO, "%s: status %d: %s", call->url, status, why);
    if (status == 408 || status == 409 || status == 425 || status == 429 || status >= 500)
        return PD_ENDPOINT_RETRY;
    if (status == 400 && strstr(why, "max_completion_tokens"))
        return PD_ENDPOINT_RENAME;
    bool one = status == 400 || status == 413 || status == 422;
    return one ? PD_ENDPOINT_REFUSED : PD_ENDPOINT_FATAL; /* redirects are among the last */
}

/* quote: the part of the reply that is wrong. */
static enum pd_endpoint_verdict rubbish(const struct pd_endpoint *e,
                                        const struct pd_http_call *call, struct pd_str quote,
                                        const char *what, struct pd_err *err)
{
    char begin[200];
    error_text(quote, e->api_key, begin, sizeof begin);
    (void)PD_FAIL(err, PD_PARSE, "%s: the reply %s (%s): %s", call->url, what,
                  call->type[0] ? call->type : "no type", begin);
    return PD_ENDPOINT_RETRY;
}

static int64_t tokens(struct json_object *usage, const char *key)
{
    int64_t n = pd_json_i64(usage, key, -1);
    return n >= 0 && n <= MAX_TOKENS ? n : -1;
}

/* What a reply's first choice holds. */
struct choice {
    struct json_object *json, *message; /* the same outside of a chat */
    struct pd_str text, finish;         /* text.ptr NULL: it has none */
    bool reasoned;                      /* tokens went into what is not the answer */
};

static struct choice read_choice(struct json_object *reply, bool chat)
{
    struct json_object *list = pd_json_get(reply, "choices");
    struct json_object *usage = pd_json_get(reply, "usage");
    struct choice c = {0};
    if (json_object_is_type(list, json_type_array) && json_object_array_length(list) > 0)
        c.json = json_object_array_get_idx(list, 0);
    c.message = chat ? pd_json_get(c.json, "message") : c.json;
    if (!chat || pd_chat_join_parts(c.message, 0, NULL) == PD_OK)
        c.text = pd_json_str(c.message, chat ? "content" : "text");
    c.finish = pd_json_str(c.json, "finish_reason");
    c.reasoned =
        pd_json_i64(pd_json_get(usage, "completion_tokens_details"), "reasoning_tokens", 0) > 0 ||
        pd_json_str(c.message, "reasoning_content").len > 0 ||
        pd_json_str(c.message, "reasoning").len > 0;
    return c;
}

/* There is no text. An endpoint that says why would say it again: such a prompt is not asked
 * again. */
static enum pd_endpoint_verdict no_text(const struct pd_endpoint *e,
                                        const struct pd_http_call *call, const struct choice *c,
                                        struct pd_err *err)
{
    char why[200];
    struct pd_str refusal = pd_json_str(c->message, "refusal");
    if (pd_str_eqz(c->finish, "length")) {
        (void)PD_FAIL(err, PD_IO,
                      "%s: no answer: all tokens that --max-new-tokens allows went into %s; give "
                      "more",
                      call->url, c->reasoned ? "reasoning" : "something that is not its text");
        return PD_ENDPOINT_NO_TEXT;
    }
    if (refusal.len > 0) {
        printable(refusal, e->api_key, why, sizeof why);
        (void)PD_FAIL(err, PD_IO, "%s: the model refuses to answer: %s", call->url, why);
        return PD_ENDPOINT_REFUSED;
    }
    if (pd_str_eqz(c->finish, "tool_calls") || pd_str_eqz(c->finish, "function_call")) {
        (void)PD_FAIL(err, PD_IO, "%s: the model calls a tool where a text is asked for",
                      call->url);
        return PD_ENDPOINT_NO_TEXT;
    }
    const char *json = json_object_to_json_string_ext(c->json, JSON_C_TO_STRING_PLAIN);
    return rubbish(e, call, pd_str_from(json), "has no text", err);
}

/* An empty text is an answer, that of a model which ends at once; but not where it is empty because
 * the tokens ran out before the text began. */
static enum pd_endpoint_verdict read_text(const struct pd_endpoint *e,
                                          const struct pd_http_call *call, const struct choice *c,
                                          struct pd_endpoint_answer *out, struct pd_err *err)
{
    bool cut = pd_str_eqz(c->finish, "length");
    if (pd_str_eqz(c->finish, "content_filter")) {
        (void)PD_FAIL(err, PD_IO, "%s: the answer was withheld by a content filter", call->url);
        return PD_ENDPOINT_REFUSED;
    }
    bool elsewhere = pd_json_str(c->message, "refusal").len > 0 ||
                     pd_str_eqz(c->finish, "tool_calls") || (cut && c->reasoned);
    if (!c->text.ptr || (c->text.len == 0 && elsewhere))
        return no_text(e, call, c, err);
    out->text = pd_xstrndup(c->text.ptr, c->text.len);
    out->text_len = c->text.len;
    out->finish = cut ? PD_FINISH_LENGTH : PD_FINISH_STOP;
    return PD_ENDPOINT_OK;
}

static enum pd_endpoint_verdict read_reply(const struct pd_endpoint *e,
                                           const struct pd_http_call *call, bool chat,
                                           struct pd_str body, struct pd_endpoint_answer *out,
                                           struct pd_err *err)
{
    struct json_object *o = NULL;
    struct pd_err why = {0};
    enum pd_endpoint_verdict v = PD_ENDPOINT_OK;
    if (parse(body, &o, &why) != PD_OK || !json_object_is_type(o, json_type_object)) {
        char what[256] = "is not a JSON object";
        if (body.len && body.ptr[0] == '{') /* it was to be one */
            (void)snprintf(what, sizeof what, "is not a JSON object: %.200s", why.msg);
        v = rubbish(e, call, body, what, err);
        goto out;
    }
    struct json_object *usage = pd_json_get(o, "usage");
    out->prompt_tokens = tokens(usage, "prompt_tokens"); /* paid for, whatever else is there */
    out->new_tokens = tokens(usage, "completion_tokens");
    struct choice c = read_choice(o, chat);
    v = c.json ? read_text(e, call, &c, out, err) : rubbish(e, call, body, "has no choices", err);
out:
    json_object_put(o);
    return v;
}

enum pd_endpoint_verdict pd_endpoint_answer(const struct pd_endpoint *e, struct pd_http_conn *conn,
                                            bool chat, struct pd_str body, bool (*stop)(void *),
                                            void *ctx, struct pd_endpoint_answer *out,
                                            struct pd_err *err)
{
    struct pd_buf reply;
    size_t n = strlen(e->url);
    while (n > 0 && e->url[n - 1] == '/')
        n--;
    char *url = pd_xasprintf("%.*s/%s", (int)n, e->url, chat ? "chat/completions" : "completions");
    char *auth = e->api_key ? pd_xasprintf("Authorization: Bearer %s", e->api_key) : NULL;
    const char *headers[] = {"Content-Type: application/json", "Accept: application/json", auth,
                             NULL};
    struct pd_http_call call = {.method = "POST",
                                .url = url,
                                .headers = headers,
                                .body = body,
                                .body_fd = -1,
                                .out = &reply,
                                .stop = stop,
                                .ctx = ctx,
                                .conn = conn,
                                .connect_timeout_ms = CONNECT_MS,
                                .idle_timeout_s = (int)e->timeout_s,
                                .timeout_ms = (int)(e->timeout_s * 10000)};
    pd_buf_init(&reply, REPLY_MAX);
    *out = (struct pd_endpoint_answer){.prompt_tokens = -1, .new_tokens = -1};
    enum pd_rc rc = pd_http_call(&call, err);
    out->status = call.status;
    out->retry_after_ms = call.retry_after_ms;
    enum pd_endpoint_verdict v = rc == PD_INTERRUPTED   ? PD_ENDPOINT_STOPPED
                                 : rc == PD_UNSUPPORTED ? PD_ENDPOINT_FATAL
                                 : rc != PD_OK          ? PD_ENDPOINT_RETRY
                                 : call.status / 100 != 2
                                     ? refused(e, &call, pd_buf_str(&reply), err)
                                     : read_reply(e, &call, chat, pd_buf_str(&reply), out, err);
    pd_buf_release(&reply);
    if (auth)
        explicit_bzero(auth, strlen(auth));
    pd_free(auth);
    pd_free(url);
    return v;
}
