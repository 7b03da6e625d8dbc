#include "lm/chat.h"
#include "lm/tok_int.h"

#include "base/json.h"
#include "base/mem.h"

/* ChatML templates differ in how they are written, not in what they write: every message becomes
 * <|im_start|>role\ncontent<|im_end|>\n. Recognised by these pieces, all of which must be there...
 */
static const char *const chatml_signs[] = {"<|im_start|>", "<|im_end|>", "add_generation_prompt",
                                           "<|im_start|>assistant"};
/* ...and by the absence of what only a real interpreter can do right. */
static const char *const beyond_us[] = {"tool",         "macro",     "reasoning_content",
                                        "strftime_now", "documents", "trim"};

static bool holds(struct pd_str text, const char *piece)
{
    return memmem(text.ptr, text.len, piece, strlen(piece)) != NULL;
}

static bool is_chatml(struct pd_str text)
{
    for (size_t i = 0; i < sizeof chatml_signs / sizeof *chatml_signs; i++)
        if (!holds(text, chatml_signs[i]))
            return false;
    for (size_t i = 0; i < sizeof beyond_us / sizeof *beyond_us; i++)
        if (holds(text, beyond_us[i]))
            return false;
    return true;
}

/* The text between <|im_start|>system\n and <|im_end|> that the template itself holds: its default
 * system message. The newline is a character in JSON files and a backslash and an n in others. */
static char *default_system(struct pd_str text)
{
    static const char *const openings[] = {"<|im_start|>system\n", "<|im_start|>system\\n"};
    for (size_t i = 0; i < 2; i++) {
        size_t n = strlen(openings[i]);
        const char *at = memmem(text.ptr, text.len, openings[i], n);
        if (!at)
            continue;
        at += n;
        size_t left = text.len - (size_t)(at - text.ptr);
        const char *end = memmem(at, left, "<|im_end|>", 10);
        if (!end || memchr(at, '\'', (size_t)(end - at)) || memchr(at, '"', (size_t)(end - at)))
            continue; /* an expression, not a text */
        return pd_xstrndup(at, (size_t)(end - at));
    }
    return NULL;
}

enum pd_rc pd_chat_init(struct pd_chat *c, struct pd_str template_text, struct pd_err *err)
{
    *c = (struct pd_chat){.kind = PD_CHAT_NONE};
    if (template_text.len == 0)
        return PD_OK;
    size_t valid = pd_utf8_valid_prefix(template_text);
    if (valid != template_text.len)
        return PD_FAIL(err, PD_INVALID, "the chat template is not UTF-8 at byte %zu", valid);
    c->kind = is_chatml(template_text) ? PD_CHAT_CHATML : PD_CHAT_UNKNOWN;
    if (c->kind == PD_CHAT_CHATML)
        c->default_system = default_system(template_text);
    return PD_OK;
}

void pd_chat_release(struct pd_chat *c)
{
    pd_free(c->default_system);
    *c = (struct pd_chat){.kind = PD_CHAT_NONE};
}

/* ---- rendering ---- */

/* Offsets until the buffer has stopped moving; pd_chat_render turns them into views. */
static void add(struct pd_chat_parts *p, struct pd_str text, bool trusted)
{
    if (text.len == 0)
        return;
    pd_buf_addstr(&p->text, text);
    if (p->len > 0 && p->items[p->len - 1].trusted == trusted) {
        p->items[p->len - 1].text.len += text.len;
        return;
    }
    if (p->len == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 16;
        p->items = pd_xrealloc(p->items, p->cap * sizeof *p->items);
    }
    p->items[p->len++] = (struct pd_chat_part){{NULL, text.len}, trusted};
}

static void chatml_message(struct pd_chat_parts *p, struct pd_str role, struct pd_str content,
                           bool trusted)
{
    add(p, PD_STR("<|im_start|>"), true);
    add(p, role, trusted);
    add(p, PD_STR("\n"), true);
    add(p, content, trusted);
    add(p, PD_STR("<|im_end|>\n"), true);
}

static void render_chatml(const struct pd_chat *c, const struct pd_chat_msg *msgs, size_t n,
                          bool add_generation_prompt, struct pd_chat_parts *p)
{
    if (c->default_system && n > 0 && !pd_str_eqz(msgs[0].role, "system"))
        chatml_message(p, PD_STR("system"), pd_str_from(c->default_system), true);
    for (size_t i = 0; i < n; i++)
        chatml_message(p, msgs[i].role, msgs[i].content, false);
    if (add_generation_prompt)
        add(p, PD_STR("<|im_start|>assistant\n"), true);
}

enum pd_rc pd_chat_render(const struct pd_chat *c, const struct pd_chat_msg *msgs, size_t n,
                          bool add_generation_prompt, struct pd_chat_parts *out, struct pd_err *err)
{
    if (c->kind == PD_CHAT_NONE)
        return PD_FAIL(err, PD_INVALID,
                       "the model has no chat template: give plain prompts, or --chat off");
    if (c->kind == PD_CHAT_UNKNOWN)
        return PD_FAIL(err, PD_UNSUPPORTED,
                       "the model's chat template is not a plain ChatML one (<|im_start|>role ... "
                       "<|im_end|>), the only kind rendered so far: give plain prompts, or --chat "
                       "off");
    struct pd_chat_parts p = {.len = 0};
    pd_buf_init(&p.text, 0);
    render_chatml(c, msgs, n, add_generation_prompt, &p);
    if (p.text.failed) {
        pd_chat_parts_release(&p);
        return PD_FAIL(err, PD_TOOBIG, "the rendered chat passes %zu bytes", PD_BUF_DEFAULT_MAX);
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
static enum pd_rc flush_plain(const struct pd_tokenizer *t, struct pd_buf *plain,
                              struct pd_ids *out, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    if (plain->failed)
        rc = PD_FAIL(err, PD_NOMEM, "no memory for a chat of more than %zu bytes", plain->len);
    else if (plain->len > 0)
        rc = pd_tokenizer_encode(t, pd_buf_str(plain), 0, out, err);
    pd_buf_clear(plain);
    return rc;
}

static enum pd_rc encode_parts(const struct pd_tokenizer *t, const struct pd_chat_parts *p,
                               struct pd_ids *out, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_buf plain;
    pd_buf_init(&plain, 0);
    for (size_t i = 0; i < p->len; i++) {
        struct pd_str text = p->items[i].text;
        size_t at = 0, begin = 0, end = 0;
        const struct pd_added *a;
        while (p->items[i].trusted && (a = next_special(t, text, at, &begin, &end))) {
            pd_buf_add(&plain, text.ptr + at, begin - at);
            PD_TRY(flush_plain(t, &plain, out, err));
            pd_ids_push(out, a->id);
            at = end;
        }
        pd_buf_add(&plain, text.ptr + at, text.len - at);
    }
    PD_TRY(flush_plain(t, &plain, out, err));
out:
    pd_buf_release(&plain);
    return rc;
}

enum pd_rc pd_chat_encode(const struct pd_chat *c, const struct pd_tokenizer *t,
                          const struct pd_chat_msg *msgs, size_t n, bool add_generation_prompt,
                          struct pd_ids *out, struct pd_err *err)
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
    PD_TRY(encode_parts(t, &parts, out, err));
out:
    if (rc != PD_OK)
        out->len = before;
    pd_chat_parts_release(&parts);
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
        msgs[i] = (struct pd_chat_msg){pd_json_str(m, "role"), pd_json_str(m, "content")};
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
