/* From the JSON of a request to what the engine is asked. Every refusal names its parameter. */
#include "gen/serve_int.h"

#include "base/crypt.h"
#include "lm/chat.h"
#include "base/mem.h"

#include <math.h>

enum { CHAT = 1, TEXT = 2, BOTH = 3 };

/* What is known, and where. The last ones say nothing about the answer and are not read. */
static const struct {
    const char *name;
    int where;
} params[] = {
    {"model", BOTH},
    {"messages", CHAT},
    {"prompt", TEXT},
    {"n", BOTH},
    {"max_tokens", BOTH},
    {"max_completion_tokens", CHAT},
    {"temperature", BOTH},
    {"top_p", BOTH},
    {"top_k", BOTH},
    {"min_p", BOTH},
    {"repetition_penalty", BOTH},
    {"presence_penalty", BOTH},
    {"frequency_penalty", BOTH},
    {"stop", BOTH},
    {"seed", BOTH},
    {"logprobs", BOTH},
    {"top_logprobs", CHAT},
    {"echo", TEXT},
    {"best_of", TEXT},
    {"stream", BOTH},
    {"stream_options", BOTH},
    {"response_format", CHAT},
    {"user", BOTH},
    {"metadata", CHAT},
    {"store", CHAT},
    {"service_tier", CHAT},
    {"safety_identifier", CHAT},
    {"prompt_cache_key", CHAT},
};

/* What is not supported, where it asks for nothing: clients send their defaults. */
static const struct {
    const char *name, *value;
} idle[] = {
    {"tools", "[]"},
    {"functions", "[]"},
    {"tool_choice", "\"none\""},
    {"tool_choice", "\"auto\""},
    {"function_call", "\"none\""},
    {"function_call", "\"auto\""},
    {"parallel_tool_calls", "false"},
    {"parallel_tool_calls", "true"},
    {"logit_bias", "{}"},
    {"modalities", "[\"text\"]"},
    {"suffix", "\"\""},
};

struct reader {
    struct pd__server *s;
    struct pd_req *req;
    struct json_object *o;
    struct pd__wish *w;
};

static bool asks_nothing(const char *name, struct json_object *value)
{
    const char *json = json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN);
    for (size_t i = 0; i < sizeof idle / sizeof *idle; i++)
        if (strcmp(idle[i].name, name) == 0 && strcmp(idle[i].value, json) == 0)
            return true;
    return false;
}

static enum pd_rc check_names(struct reader *r, struct pd_err *err)
{
    json_object_object_foreach(r->o, key, value)
    {
        bool known = false;
        for (size_t i = 0; i < sizeof params / sizeof *params && !known; i++)
            known = strcmp(params[i].name, key) == 0 &&
                    (params[i].where & (r->w->chat ? CHAT : TEXT)) != 0;
        if (known || !value || asks_nothing(key, value)) /* null is what absent is */
            continue;
        r->w->param = pd_arena_strdup(&r->req->arena, key);
        return PD_FAIL(err, PD_INVALID, "%.60s is not supported here", key);
    }
    return PD_OK;
}

/* ---- single values; absent and null leave *out as it is */

static enum pd_rc read_f64(struct reader *r, const char *key, double min, double max, double *out,
                           struct pd_err *err)
{
    struct json_object *v = pd_json_get(r->o, key);
    if (!v)
        return PD_OK;
    bool number = json_object_is_type(v, json_type_double) || json_object_is_type(v, json_type_int);
    double x = number ? json_object_get_double(v) : NAN;
    if (!(x >= min && x <= max)) {
        r->w->param = key;
        return PD_FAIL(err, PD_INVALID, "%s must be a number from %g to %g", key, min, max);
    }
    *out = x;
    return PD_OK;
}

/* 1.0 is a whole number too: some clients write all numbers so. */
static bool whole(struct json_object *v, int64_t *out)
{
    double x = json_object_is_type(v, json_type_double) ? json_object_get_double(v) : NAN;
    if (json_object_is_type(v, json_type_int))
        *out = json_object_get_int64(v);
    else if (x == floor(x) && fabs(x) < 0x1p53)
        *out = (int64_t)x;
    else
        return false;
    return true;
}

static enum pd_rc read_i64(struct reader *r, const char *key, int64_t min, int64_t max,
                           int64_t *out, struct pd_err *err)
{
    struct json_object *v = pd_json_get(r->o, key);
    if (!v)
        return PD_OK;
    int64_t x = 0;
    if (!whole(v, &x) || x < min || x > max) {
        r->w->param = key;
        return PD_FAIL(err, PD_INVALID, "%s must be a whole number from %lld to %lld", key,
                       (long long)min, (long long)max);
    }
    *out = x;
    return PD_OK;
}

static enum pd_rc read_bool(struct reader *r, const char *key, bool *out, struct pd_err *err)
{
    struct json_object *v = pd_json_get(r->o, key);
    if (!v)
        return PD_OK;
    if (!json_object_is_type(v, json_type_boolean)) {
        r->w->param = key;
        return PD_FAIL(err, PD_INVALID, "%s must be true or false", key);
    }
    *out = json_object_get_boolean(v);
    return PD_OK;
}

/* ---- the settings */

static enum pd_rc read_sampling(struct reader *r, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_sampling *how = &r->w->ask.sampling;
    pd_sampling_default(how);
    how->top_k = 0; /* OpenAI's API has none */
    PD_TRY(read_f64(r, "temperature", 0, 100, &how->temperature, err));
    PD_TRY(read_f64(r, "top_p", 0, 1, &how->top_p, err));
    PD_TRY(read_i64(r, "top_k", -1, INT32_MAX, &how->top_k, err));
    PD_TRY(read_f64(r, "min_p", 0, 1, &how->min_p, err));
    PD_TRY(read_f64(r, "repetition_penalty", 0.01, 100, &how->repetition_penalty, err));
    PD_TRY(read_f64(r, "presence_penalty", -2, 2, &how->presence_penalty, err));
    PD_TRY(read_f64(r, "frequency_penalty", -2, 2, &how->frequency_penalty, err));
    if (how->temperature < 1e-6) { /* 0 asks for the likeliest token */
        how->temperature = 1;
        how->greedy = true;
    }
    if (how->top_p <= 0) /* OpenAI takes 0: the likeliest alone */
        how->greedy = true, how->top_p = 1;
    if (how->top_k < 0) /* others' spelling of "off" */
        how->top_k = 0;
    if (how->min_p >= 1) {
        r->w->param = "min_p";
        rc = PD_FAIL(err, PD_INVALID, "min_p must be below 1");
    }
out:
    return rc;
}

static enum pd_rc read_stops(struct reader *r, struct pd_err *err)
{
    struct json_object *v = pd_json_get(r->o, "stop");
    bool list = json_object_is_type(v, json_type_array);
    size_t n = list ? json_object_array_length(v) : v ? 1 : 0;
    const char **texts = pd_arena_alloc(&r->req->arena, (PD_SERVE_MAX_STOPS + 1) * sizeof *texts);
    r->w->param = "stop";
    if (n > PD_SERVE_MAX_STOPS)
        return PD_FAIL(err, PD_INVALID, "stop takes at most %d texts", PD_SERVE_MAX_STOPS);
    for (size_t i = 0; i < n; i++) {
        struct json_object *one = list ? json_object_array_get_idx(v, i) : v;
        struct pd_str text = pd_json_value_str(one);
        if (!json_object_is_type(one, json_type_string) || text.len == 0 ||
            memchr(text.ptr, 0, text.len))
            return PD_FAIL(err, PD_INVALID,
                           "stop must be a text that is not empty, or a list of such");
        texts[i] = text.ptr;
    }
    pd_stops_init(&r->w->ask.stops, texts, n);
    r->w->param = NULL;
    return PD_OK;
}

static enum pd_rc read_logprobs(struct reader *r, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd__wish *w = r->w;
    if (w->chat) {
        PD_TRY(read_bool(r, "logprobs", &w->logprobs, err));
        PD_TRY(read_i64(r, "top_logprobs", 0, PD_SERVE_MAX_TOP, &w->ask.top_logprobs, err));
        if (w->ask.top_logprobs > 0 && !w->logprobs) {
            w->param = "top_logprobs";
            rc = PD_FAIL(err, PD_INVALID, "top_logprobs needs logprobs: true");
        }
    } else if (pd_json_bool(r->o, "logprobs", true) && pd_json_get(r->o, "logprobs")) {
        w->logprobs = true;
        PD_TRY(read_i64(r, "logprobs", 0, PD_SERVE_MAX_TOP, &w->ask.top_logprobs, err));
    }
    if (w->ask.top_logprobs > r->s->model->cfg.vocab_size)
        w->ask.top_logprobs = r->s->model->cfg.vocab_size;
out:
    return rc;
}

static enum pd_rc read_stream(struct reader *r, struct pd_err *err)
{
    struct json_object *opts = pd_json_get(r->o, "stream_options");
    enum pd_rc rc = read_bool(r, "stream", &r->w->stream, err);
    if (rc != PD_OK || !opts)
        return rc;
    r->w->param = "stream_options";
    if (!r->w->stream || !json_object_is_type(opts, json_type_object))
        return PD_FAIL(err, PD_INVALID, "stream_options must be an object and needs stream: true");
    r->w->include_usage = pd_json_bool(opts, "include_usage", false);
    r->w->param = NULL;
    return PD_OK;
}

/* What would change the answer in a way that is not implemented. */
static enum pd_rc refuse(struct reader *r, struct pd_err *err)
{
    struct json_object *format = pd_json_get(r->o, "response_format");
    int64_t best = r->w->ask.n;
    enum pd_rc rc = read_i64(r, "best_of", 1, 1000, &best, err);
    if (rc != PD_OK)
        return rc;
    if (best != r->w->ask.n) {
        r->w->param = "best_of";
        return PD_FAIL(err, PD_INVALID, "best_of is not supported; ask for n answers and choose");
    }
    if (format && !pd_str_eqz(pd_json_str(format, "type"), "text")) {
        r->w->param = "response_format";
        return PD_FAIL(err, PD_INVALID,
                       "response_format is not supported but for {\"type\":\"text\"}");
    }
    if (r->w->echo && r->w->logprobs) {
        r->w->param = "echo";
        return PD_FAIL(err, PD_INVALID,
                       "echo together with logprobs is not supported; `podium logprobs` scores "
                       "given texts");
    }
    return PD_OK;
}

static enum pd_rc read_settings(struct reader *r, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd__wish *w = r->w;
    struct json_object *seed = pd_json_get(r->o, "seed");
    struct pd_str model = pd_json_str(r->o, "model");
    if (pd_json_get(r->o, "model") && !pd_str_eqz(model, r->s->opts->model_name)) {
        w->param = "model";
        w->code = "model_not_found";
        return PD_FAIL(err, PD_NOTFOUND, "the model '%.*s' does not exist; this server has '%s'",
                       (int)(model.len < 100 ? model.len : 100), model.ptr ? model.ptr : "",
                       r->s->opts->model_name);
    }
    w->ask.n = 1;
    PD_TRY(read_i64(r, "n", 1, PD_SERVE_MAX_N, &w->ask.n, err));
    w->ask.max_new = w->chat ? r->s->opts->max_new : 16; /* as OpenAI's API has it */
    PD_TRY(read_i64(r, "max_tokens", 1, INT32_MAX, &w->ask.max_new, err));
    PD_TRY(read_i64(r, "max_completion_tokens", 1, INT32_MAX, &w->ask.max_new, err));
    PD_TRY(read_sampling(r, err));
    PD_TRY(read_stops(r, err));
    if (seed) {
        int64_t v = 0;
        PD_TRY(read_i64(r, "seed", INT64_MIN + 1, INT64_MAX, &v, err));
        w->ask.seed = (uint64_t)v;
    } else {
        pd_crypt_random(&w->ask.seed, sizeof w->ask.seed);
    }
    PD_TRY(read_bool(r, "echo", &w->echo, err));
    PD_TRY(read_logprobs(r, err));
    PD_TRY(read_stream(r, err));
    PD_TRY(refuse(r, err));
out:
    return rc;
}

/* ---- the prompts */

static void drop_ids(void *ids)
{
    pd_ids_release(ids);
}

/* A list of ids that dies with the request. */
static struct pd_ids *new_ids(struct reader *r)
{
    struct pd_ids *ids = pd_arena_alloc(&r->req->arena, sizeof *ids);
    *ids = (struct pd_ids){0};
    pd_arena_defer(&r->req->arena, drop_ids, ids);
    return ids;
}

/* More is not even counted. */
static size_t context(const struct reader *r)
{
    return (size_t)pd_config_context(&r->s->model->cfg);
}

static enum pd_rc say_context(const struct reader *r, enum pd_rc rc, struct pd_err *err)
{
    return rc == PD_TOOBIG ? pd_err_prefix(err, "no room in the model's context of %zu", context(r))
                           : rc;
}

/* An empty prompt asks for a text from its beginning, for which models have a token. */
static enum pd_rc begin(const struct reader *r, struct pd_ids *ids, struct pd_err *err)
{
    const struct pd_model *m = r->s->model;
    int32_t bos = pd_tokenizer_bos(m->tok) >= 0 ? pd_tokenizer_bos(m->tok) : m->cfg.bos_id;
    if (bos < 0)
        return PD_FAIL(err, PD_INVALID,
                       "prompt is empty, and the model has no token that begins a text (bos)");
    pd_ids_push(ids, bos);
    return PD_OK;
}

static enum pd_rc encode_text(struct reader *r, struct pd_str text, struct pd_id_span *out,
                              struct pd_str *echoed, struct pd_err *err)
{
    struct pd_ids *ids = new_ids(r);
    enum pd_rc rc =
        pd_tokenizer_encode_most(r->s->model->tok, text, PD_TOK_ADD_SPECIAL, context(r), ids, err);
    rc = say_context(r, rc, err);
    if (rc == PD_OK && ids->len == 0)
        rc = begin(r, ids, err);
    *out = (struct pd_id_span){ids->ptr, (int64_t)ids->len};
    *echoed = text;
    return rc;
}

static bool is_id_list(struct json_object *v)
{
    if (!json_object_is_type(v, json_type_array))
        return false;
    for (size_t i = 0; i < json_object_array_length(v); i++)
        if (!json_object_is_type(json_object_array_get_idx(v, i), json_type_int))
            return false;
    return true;
}

static enum pd_rc take_ids(struct reader *r, struct json_object *list, struct pd_id_span *out,
                           struct pd_str *echoed, struct pd_err *err)
{
    struct pd_ids *ids = new_ids(r);
    int64_t vocab = r->s->model->cfg.vocab_size;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        int64_t id = json_object_get_int64(json_object_array_get_idx(list, i));
        if (id < 0 || id >= vocab)
            return PD_FAIL(err, PD_INVALID, "token id %lld is not one of the model's %lld",
                           (long long)id, (long long)vocab);
        pd_ids_push(ids, (int32_t)id);
    }
    *out = (struct pd_id_span){ids->ptr, (int64_t)ids->len};
    if (!r->w->echo)
        return PD_OK;
    struct pd_buf text;
    pd_buf_init(&text, 0);
    enum pd_rc rc = pd_tokenizer_decode(r->s->model->tok, ids->ptr, ids->len, true, &text, err);
    *echoed =
        (struct pd_str){pd_arena_strndup(&r->req->arena, pd_buf_cstr(&text), text.len), text.len};
    pd_buf_release(&text);
    return rc;
}

/* A text, a list of texts, a list of ids, or a list of lists of ids. */
static enum pd_rc read_prompt(struct reader *r, struct pd_err *err)
{
    struct pd__wish *w = r->w;
    struct json_object *v = pd_json_get(r->o, "prompt");
    bool list = json_object_is_type(v, json_type_array), one_list = list && is_id_list(v);
    size_t n = list && !one_list ? json_object_array_length(v) : 1;
    enum pd_rc rc = PD_OK;
    w->param = "prompt";
    if (n * (size_t)w->ask.n > PD_SERVE_MAX_CHOICES)
        return PD_FAIL(err, PD_INVALID, "%zu prompts with %lld answers each are more than %d", n,
                       (long long)w->ask.n, PD_SERVE_MAX_CHOICES);
    struct pd_id_span *prompts = pd_arena_alloc(&r->req->arena, n * sizeof *prompts);
    w->echoed = pd_arena_alloc(&r->req->arena, n * sizeof *w->echoed);
    w->ask.prompts = prompts;
    w->ask.n_prompts = n;
    for (size_t i = 0; rc == PD_OK && i < n; i++) {
        struct json_object *one = list && !one_list ? json_object_array_get_idx(v, i) : v;
        w->echoed[i] = PD_STR("");
        if (json_object_is_type(one, json_type_string))
            rc = encode_text(r, pd_json_value_str(one), &prompts[i], &w->echoed[i], err);
        else if (is_id_list(one))
            rc = take_ids(r, one, &prompts[i], &w->echoed[i], err);
        else
            rc = PD_FAIL(
                err, PD_INVALID,
                "prompt must be a text, a list of texts, or one or more lists of token ids");
        w->prompt_tokens += prompts[i].n;
    }
    return rc;
}

/* The newer name of the system role becomes the one that templates know. */
static enum pd_rc plain_message(struct json_object *msg, size_t at, struct pd_err *err)
{
    if (pd_str_eqz(pd_json_str(msg, "role"), "developer"))
        json_object_object_add(msg, "role", json_object_new_string("system"));
    if (!pd_json_get(msg, "content") && pd_json_get(msg, "tool_calls"))
        return PD_FAIL(err, PD_INVALID,
                       "messages[%zu] calls tools, which is not supported here; give its content "
                       "as text",
                       at);
    return PD_OK;
}

static enum pd_rc read_messages(struct reader *r, struct pd_err *err)
{
    struct pd__wish *w = r->w;
    struct json_object *v = pd_json_get(r->o, "messages");
    struct pd_chat_msg *msgs = NULL;
    struct pd_ids *ids = new_ids(r);
    struct pd_id_span *prompt = pd_arena_alloc(&r->req->arena, sizeof *prompt);
    size_t n = 0;
    enum pd_rc rc = PD_OK;
    w->param = "messages";
    if (!json_object_is_type(v, json_type_array) || json_object_array_length(v) == 0)
        return PD_FAIL(err, PD_INVALID, "messages must be a list of {\"role\",\"content\"}");
    for (size_t i = 0; i < json_object_array_length(v); i++)
        PD_TRY(plain_message(json_object_array_get_idx(v, i), i, err));
    PD_TRY(pd_chat_msgs_from_json(v, &msgs, &n, err));
    rc = pd_chat_encode_most(&r->s->model->chat, r->s->model->tok, msgs, n, true, context(r), ids,
                             err);
    rc = say_context(r, rc, err);
    if (rc == PD_UNSUPPORTED)
        rc = PD_FAIL(err, PD_INVALID,
                     "%s has no chat template that is known here; use /v1/completions",
                     r->s->opts->model_name);
    *prompt = (struct pd_id_span){ids->ptr, (int64_t)ids->len};
    w->ask.prompts = prompt;
    w->ask.n_prompts = 1;
    w->prompt_tokens = prompt->n;
out:
    pd_free(msgs);
    return rc;
}

enum pd_rc pd__wish_read(struct pd__server *s, struct pd_req *req, bool chat, struct pd__wish *out,
                         struct pd_err *err)
{
    struct reader r = {.s = s, .req = req, .w = out};
    enum pd_rc rc = PD_OK;
    *out = (struct pd__wish){.chat = chat};
    PD_TRY(pd_req_json(req, &r.o, err));
    PD_TRY(check_names(&r, err));
    PD_TRY(read_settings(&r, err));
    PD_TRY(chat ? read_messages(&r, err) : read_prompt(&r, err));
out:
    return rc;
}
