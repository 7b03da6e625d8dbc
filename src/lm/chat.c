#include "lm/chat.h"
#include "lm/jinja.h"
#include "lm/tok_int.h"

#include "base/json.h"
#include "base/mem.h"

static struct json_object *token_text(const struct pd_tokenizer *t, int32_t id)
{
    struct pd_str text = pd_tokenizer_text(t, id);
    return text.ptr ? json_object_new_string_len(text.ptr, (int)text.len) : NULL;
}

enum pd_rc pd_chat_init(struct pd_chat *c, struct pd_str template_text,
                        const struct pd_tokenizer *t, struct pd_err *err)
{
    struct pd_err why = {0};
    *c = (struct pd_chat){.kind = PD_CHAT_NONE};
    if (template_text.len == 0)
        return PD_OK;
    size_t valid = pd_utf8_valid_prefix(template_text);
    if (valid != template_text.len)
        return PD_FAIL(err, PD_INVALID, "the chat template is not UTF-8 at byte %zu", valid);
    c->kind = PD_CHAT_TEMPLATE;
    if (pd_jinja_compile(&c->jinja, template_text, &why) != PD_OK) {
        c->kind = PD_CHAT_UNKNOWN;
        c->problem = pd_xstrdup(why.msg);
    }
    if (t) {
        const int32_t ids[] = {t->bos, t->eos, t->unk, t->pad};
        for (size_t i = 0; i < 4; i++)
            c->tokens[i] = token_text(t, ids[i]);
    }
    return PD_OK;
}

void pd_chat_release(struct pd_chat *c)
{
    pd_jinja_free(c->jinja);
    pd_free(c->problem);
    for (size_t i = 0; i < 4; i++)
        json_object_put(c->tokens[i]);
    *c = (struct pd_chat){.kind = PD_CHAT_NONE};
}

/* ---- rendering ---- */

/* Offsets until the buffer has stopped moving; pd_chat_render turns them into views. */
static void add(void *ctx, struct pd_str text, bool trusted)
{
    struct pd_chat_parts *p = ctx;
    pd_buf_addstr(&p->text, text);
    if (p->len == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 16;
        p->items = pd_xrealloc(p->items, p->cap * sizeof *p->items);
    }
    p->items[p->len++] = (struct pd_chat_part){{NULL, text.len}, trusted};
}

/* Role and content as the message has them now (it may have been cut), the rest as its row. */
static struct json_object *message(const struct pd_chat_msg *m)
{
    struct json_object *o = json_object_new_object();
    if (m->row) {
        json_object_object_foreach(m->row, key, value)
            json_object_object_add(o, key, json_object_get(value));
    }
    json_object_object_add(o, "role", json_object_new_string_len(m->role.ptr, (int)m->role.len));
    json_object_object_add(o, "content",
                           json_object_new_string_len(m->content.ptr, (int)m->content.len));
    return o;
}

static enum pd_rc render(const struct pd_chat *c, struct json_object *messages,
                         bool add_generation_prompt, struct pd_chat_parts *p, struct pd_err *err)
{
    struct json_object *open = json_object_new_boolean(add_generation_prompt);
    struct pd_jinja_var vars[8] = {{"messages", messages, false},
                                   {"add_generation_prompt", open, true},
                                   {"tools", NULL, false},
                                   {"documents", NULL, false}};
    static const char *const names[] = {"bos_token", "eos_token", "unk_token", "pad_token"};
    size_t n = 4;
    for (size_t i = 0; i < 4; i++)
        if (c->tokens[i])
            vars[n++] = (struct pd_jinja_var){names[i], c->tokens[i], true};
    enum pd_rc rc = pd_jinja_render(c->jinja, vars, n, add, p, err);
    json_object_put(open);
    return rc == PD_OK ? rc : pd_err_prefix(err, "the model's chat template");
}

enum pd_rc pd_chat_render(const struct pd_chat *c, const struct pd_chat_msg *msgs, size_t n,
                          bool add_generation_prompt, struct pd_chat_parts *out, struct pd_err *err)
{
    if (c->kind == PD_CHAT_NONE)
        return PD_FAIL(err, PD_INVALID,
                       "the model has no chat template: give plain prompts, or --chat off");
    if (c->kind == PD_CHAT_UNKNOWN)
        return PD_FAIL(err, PD_UNSUPPORTED,
                       "the model's chat template cannot be read (%s): give plain prompts, or "
                       "--chat off",
                       c->problem);
    struct pd_chat_parts p = {.len = 0};
    struct json_object *messages = json_object_new_array();
    pd_buf_init(&p.text, 0);
    for (size_t i = 0; i < n; i++)
        json_object_array_add(messages, message(&msgs[i]));
    enum pd_rc rc = render(c, messages, add_generation_prompt, &p, err);
    json_object_put(messages);
    if (rc == PD_OK && p.text.failed)
        rc = PD_FAIL(err, PD_TOOBIG, "the rendered chat passes %zu bytes", PD_BUF_DEFAULT_MAX);
    if (rc != PD_OK) {
        pd_chat_parts_release(&p);
        return rc;
    }
    size_t at = 0;
    for (size_t i = 0; i < p.len; i++) {
        p.items[i].text.ptr = p.text.ptr + at;
        at += p.items[i].text.len;
    }
    *out = p;
    return PD_OK;
}

void pd_chat_parts_release(struct pd_chat_parts *p)
{
    pd_buf_release(&p->text);
    pd_free(p->items);
    *p = (struct pd_chat_parts){.len = 0};
}

/* ---- to ids ---- */

/* The next special token at or after `at`, whichever list it is in. */
static const struct pd_added *next_special(const struct pd_tokenizer *t, struct pd_str text,
                                           size_t at, size_t *begin, size_t *end)
{
    const struct pd_added_set *sets[] = {&t->raw, &t->normalized};
    const struct pd_added *best = NULL;
    for (size_t s = 0; s < 2; s++) {
        size_t b = 0, e = 0, from = at;
        const struct pd_added *a;
        while ((a = pd_added_next(sets[s], text, from, true, &b, &e)) && !a->special)
            from = e;
        if (a && (!best || b < *begin)) {
            best = a;
            *begin = b;
            *end = e;
        }
    }
    return best;
}

/* Encodes the plain text gathered so far, in which nothing is a control token. */
static enum pd_rc flush_plain(const struct pd_tokenizer *t, struct pd_buf *plain, bool first,
                              size_t most, struct pd_ids *out, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    if (plain->failed)
        rc = PD_FAIL(err, PD_NOMEM, "no memory for a chat of more than %zu bytes", plain->len);
    else if (plain->len > 0)
        rc = pd_tokenizer_encode_most(t, pd_buf_str(plain), first ? 0 : PD_TOK_CONTINUES, most, out,
                                      err);
    pd_buf_clear(plain);
    return rc;
}

static enum pd_rc encode_parts(const struct pd_tokenizer *t, const struct pd_chat_parts *p,
                               size_t most, struct pd_ids *out, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_buf plain;
    size_t before = out->len;
    pd_buf_init(&plain, 0);
    for (size_t i = 0; i < p->len; i++) {
        struct pd_str text = p->items[i].text;
        size_t at = 0, begin = 0, end = 0;
        const struct pd_added *a;
        while (p->items[i].trusted && (a = next_special(t, text, at, &begin, &end))) {
            pd_buf_add(&plain, text.ptr + at, begin - at);
            PD_TRY(flush_plain(t, &plain, out->len == before, most, out, err));
            pd_ids_push(out, a->id);
            at = end;
        }
        pd_buf_add(&plain, text.ptr + at, text.len - at);
    }
    PD_TRY(flush_plain(t, &plain, out->len == before, most, out, err));
out:
    pd_buf_release(&plain);
    return rc;
}

enum pd_rc pd_chat_encode(const struct pd_chat *c, const struct pd_tokenizer *t,
                          const struct pd_chat_msg *msgs, size_t n, bool add_generation_prompt,
                          struct pd_ids *out, struct pd_err *err)
{
    return pd_chat_encode_most(c, t, msgs, n, add_generation_prompt, SIZE_MAX, out, err);
}

enum pd_rc pd_chat_encode_most(const struct pd_chat *c, const struct pd_tokenizer *t,
                               const struct pd_chat_msg *msgs, size_t n, bool add_generation_prompt,
                               size_t most, struct pd_ids *out, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_chat_parts parts = {.len = 0};
    size_t before = out->len;
    for (size_t i = 0; i < n; i++) {
        struct pd_str both[] = {msgs[i].role, msgs[i].content};
        for (size_t k = 0; k < 2; k++) {
            size_t valid = pd_utf8_valid_prefix(both[k]);
            if (valid != both[k].len)
                return PD_FAIL(err, PD_INVALID, "message %zu: its %s is not UTF-8 at byte %zu", i,
                               k ? "content" : "role", valid);
        }
    }
    PD_TRY(pd_chat_render(c, msgs, n, add_generation_prompt, &parts, err));
    PD_TRY(encode_parts(t, &parts, most, out, err));
    if (out->len > most)
        rc = PD_FAIL(err, PD_TOOBIG, "the text has more than %zu tokens", most);
out:
    if (rc != PD_OK)
        out->len = before;
    pd_chat_parts_release(&parts);
    return rc;
}

enum pd_rc pd_chat_join_parts(struct json_object *msg, size_t at, struct pd_err *err)
{
    struct json_object *parts = pd_json_get(msg, "content");
    struct pd_buf text;
    enum pd_rc rc = PD_OK;
    if (!json_object_is_type(parts, json_type_array))
        return PD_OK;
    pd_buf_init(&text, 0);
    for (size_t i = 0; rc == PD_OK && i < json_object_array_length(parts); i++) {
        struct json_object *part = json_object_array_get_idx(parts, i);
        struct pd_str piece = pd_json_str(part, "text"), type = pd_json_str(part, "type");
        if (pd_str_eqz(type, "text") && piece.ptr)
            pd_buf_addstr(&text, piece);
        else
            rc = PD_FAIL(err, PD_INVALID,
                         "message %zu: part %zu of its content is \"%.*s\"; only parts "
                         "{\"type\":\"text\",\"text\"} are supported",
                         at, i, (int)(type.len < 40 ? type.len : 40), type.ptr ? type.ptr : "");
    }
    if (rc == PD_OK)
        json_object_object_add(msg, "content",
                               json_object_new_string_len(pd_buf_cstr(&text), (int)text.len));
    pd_buf_release(&text);
    return rc;
}

enum pd_rc pd_chat_msgs_from_json(struct json_object *list, struct pd_chat_msg **out, size_t *n,
                                  struct pd_err *err)
{
    if (!json_object_is_type(list, json_type_array))
        return PD_FAIL(err, PD_INVALID, "messages are %s; expected a list",
                       pd_json_type_name(list));
    size_t len = json_object_array_length(list);
    struct pd_chat_msg *msgs = pd_try_alloc(len + 1, sizeof *msgs);
    if (!msgs)
        return PD_FAIL(err, PD_NOMEM, "no memory for %zu messages", len);
    for (size_t i = 0; i < len; i++) {
        struct json_object *m = json_object_array_get_idx(list, i);
        enum pd_rc rc = pd_chat_join_parts(m, i, err);
        if (rc != PD_OK) {
            pd_free(msgs);
            return rc;
        }
        msgs[i] = (struct pd_chat_msg){pd_json_str(m, "role"), pd_json_str(m, "content"), m};
        if (!msgs[i].role.ptr || !msgs[i].content.ptr) {
            pd_free(msgs);
            return PD_FAIL(err, PD_INVALID,
                           "message %zu has no \"%s\" that is a string; expected {\"role\", "
                           "\"content\"}",
                           i, m && pd_json_str(m, "role").ptr ? "content" : "role");
        }
    }
    *out = msgs;
    *n = len;
    return PD_OK;
}
