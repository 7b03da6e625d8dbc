#include "gen/prompt_ids.h"
#include "lm/model.h"
#include "base/mem.h"
#include "base/sig.h"

#include <string.h>

bool pd_prompt_chats(const struct pd_model *m, const struct pd_prompt_opts *o)
{
    return o->chat == PD_CHAT_ON || (o->chat == PD_CHAT_AUTO && m->chat.kind == PD_CHAT_TEMPLATE);
}

/* ---- lengths ---- */

int64_t pd_prompt_room(const struct pd_model *m, const struct pd_prompt_opts *o, int64_t n)
{
    int64_t room = pd_config_context(&m->cfg) - n;
    int64_t most = o->max_new_tokens > 0 ? o->max_new_tokens : o->max_length - n;
    return most < room ? most : room;
}

static enum pd_rc check_room(const struct pd_model *m, const struct pd_prompt_opts *o, int64_t n,
                             struct pd_err *err)
{
    if (pd_prompt_room(m, o, n) > 0)
        return PD_OK;
    int64_t context = pd_config_context(&m->cfg), limit = o->max_length;
    bool by_context = o->max_new_tokens > 0 || limit > context;
    return PD_FAIL(err, PD_INVALID, "the prompt has %lld tokens, no room is left within %s %lld",
                   (long long)n, by_context ? "the model's context of" : "--max-length",
                   (long long)(by_context ? context : limit));
}

/* Tokens by which n is too many when an answer of full length shall fit; PD_OK with 0: none. */
static enum pd_rc excess_of(const struct pd_model *m, const struct pd_prompt_opts *o, size_t n,
                            size_t *excess, struct pd_err *err)
{
    int64_t keep = pd_config_context(&m->cfg) - o->max_new_tokens;
    *excess = 0;
    if (o->too_long == PD_TOO_LONG_ERROR)
        return PD_OK;
    if (keep < 1)
        return PD_FAIL(err, PD_UNSUPPORTED,
                       "--max-new-tokens %lld leaves a prompt no room in the model's context of "
                       "%lld",
                       (long long)o->max_new_tokens, (long long)pd_config_context(&m->cfg));
    *excess = (int64_t)n > keep ? n - (size_t)keep : 0;
    return PD_OK;
}

static enum pd_rc nothing_left(struct pd_err *err)
{
    return PD_FAIL(
        err, PD_INVALID,
        "nothing would be left of the prompt: what stands around it has too many tokens");
}

static void remove_ids(struct pd_ids *ids, size_t at, size_t n)
{
    memmove(ids->ptr + at, ids->ptr + at + n, (ids->len - at - n) * sizeof *ids->ptr);
    ids->len -= n;
}

/* ---- given as ids ---- */

static enum pd_rc take_ids(const struct pd_model *m, const struct pd_prompt_opts *o,
                           struct json_object *list, struct pd_ids *ids, bool *cut,
                           struct pd_err *err)
{
    size_t n = json_object_array_length(list), skip;
    enum pd_rc rc = excess_of(m, o, n, &skip, err);
    if (rc != PD_OK)
        return rc;
    for (size_t i = 0; i < n; i++) {
        struct json_object *v = json_object_array_get_idx(list, i);
        int64_t id = json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : -1;
        if (id < 0 || id >= m->cfg.vocab_size)
            return PD_FAIL(err, PD_INVALID, "\"ids\"[%zu] is not an id in 0..%d", i,
                           m->cfg.vocab_size - 1);
        if (i >= skip)
            pd_ids_push(ids, (int32_t)id);
    }
    *cut = skip > 0;
    return PD_OK;
}

/* ---- plain text ---- */

static enum pd_rc encode_text(const struct pd_model *m, const struct pd_prompt_opts *o,
                              struct pd_str text, struct pd_ids *ids, bool *cut, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_ids bare = {0};
    unsigned flags = o->special ? PD_TOK_PARSE_SPECIAL : 0;
    size_t excess, head = 0;
    PD_TRY(pd_tokenizer_encode(m->tok, text, flags | PD_TOK_ADD_SPECIAL, ids, err));
    PD_TRY(excess_of(m, o, ids->len, &excess, err));
    if (!excess)
        goto out;
    PD_TRY(pd_tokenizer_encode(m->tok, text, flags, &bare, err));
    if (excess >= bare.len) {
        rc = nothing_left(err);
        goto out;
    }
    while (head + bare.len < ids->len &&
           memcmp(ids->ptr + head, bare.ptr, bare.len * sizeof *bare.ptr) != 0)
        head++;
    remove_ids(ids, head, excess);
    *cut = true;
out:
    pd_ids_release(&bare);
    return rc;
}

/* ---- chats ---- */

/* A chat that is to be cut: a system message stays, what follows it begins ever later. */
struct chat {
    const struct pd_model *m;
    const struct pd_prompt_opts *o;
    const struct pd_chat_msg *msgs;
    size_t n, first;          /* first: behind the system message */
    struct pd_chat_msg *left; /* (n) what was rendered last */
    size_t n_left;
    struct pd_ids *ids;
    size_t excess; /* tokens that are too many in ids */
};

static enum pd_rc go_on(struct pd_err *err)
{
    return pd_sig_stop() ? PD_FAIL(err, PD_INTERRUPTED, "interrupted while prompts were read")
                         : PD_OK;
}

/* Renders what is left. */
static enum pd_rc render(struct chat *c, struct pd_err *err)
{
    enum pd_rc rc = go_on(err);
    if (rc != PD_OK)
        return rc;
    c->ids->len = 0;
    rc = pd_chat_encode(&c->m->chat, c->m->tok, c->left, c->n_left, true, c->ids, err);
    return rc == PD_OK ? excess_of(c->m, c->o, c->ids->len, &c->excess, err) : rc;
}

/* Renders the messages from `begin` on, behind the system's. */
static enum pd_rc render_from(struct chat *c, size_t begin, struct pd_err *err)
{
    memcpy(c->left, c->msgs, c->first * sizeof *c->left);
    memcpy(c->left + c->first, c->msgs + begin, (c->n - begin) * sizeof *c->left);
    c->n_left = c->first + c->n - begin;
    return render(c, err);
}

/* Where what is left can begin, into at (n + 1): each time the oldest message goes, and those
 * behind it up to the next user's. The last message never goes. */
static size_t list_begins(const struct chat *c, size_t *at)
{
    size_t n = 0;
    at[n++] = c->first;
    for (size_t i = c->first + 1; i < c->n; i++)
        if (i + 1 == c->n || pd_str_eqz(c->msgs[i].role, "user"))
            at[n++] = i;
    return n;
}

/* Drops as few of the oldest messages as make it fit; all but the last if it must be. Rendering a
 * chat takes as long as it is: the place is found by bisection, since later beginnings have fewer
 * tokens. A template that knows better costs a message more or less, what is left fits all the
 * same. */
static enum pd_rc drop_oldest(struct chat *c, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    size_t *at = pd_xalloc((c->n + 1) * sizeof *at);
    size_t too_many = 0, fits = list_begins(c, at) - 1, now = fits;
    if (fits == 0)
        goto out;
    PD_TRY(render_from(c, at[fits], err));
    if (c->excess > 0) /* the last message alone is too long */
        goto out;
    while (fits - too_many > 1) {
        now = too_many + (fits - too_many) / 2;
        PD_TRY(render_from(c, at[now], err));
        if (c->excess > 0)
            too_many = now;
        else
            fits = now;
    }
    if (now != fits)
        rc = render_from(c, at[fits], err);
out:
    pd_free(at);
    return rc;
}

/* What ids (n) say, without the half of a character that a cut may leave at their left. */
static enum pd_rc text_of(const struct pd_tokenizer *tok, const int32_t *ids, size_t n,
                          struct pd_buf *out, struct pd_err *err)
{
    struct pd_buf all;
    pd_buf_init(&all, 0);
    enum pd_rc rc = pd_tokenizer_decode(tok, ids, n, false, &all, err);
    struct pd_str left = pd_buf_str(&all);
    while (pd_str_starts(left, PD_STR("\xEF\xBF\xBD")))
        left = (struct pd_str){left.ptr + 3, left.len - 3};
    pd_buf_clear(out);
    pd_buf_addstr(out, left);
    pd_buf_release(&all);
    return rc;
}

/* Takes at least `excess` tokens off the left of a text; what is left, shorter for sure, lives in
 * *buf. */
static enum pd_rc cut_text(const struct pd_tokenizer *tok, struct pd_str *text, size_t excess,
                           struct pd_buf *buf, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_ids ids = {0};
    size_t len = text->len;
    PD_TRY(pd_tokenizer_encode(tok, *text, 0, &ids, err));
    do {
        if (excess >= ids.len) {
            rc = nothing_left(err);
            goto out;
        }
        PD_TRY(text_of(tok, ids.ptr + excess, ids.len - excess, buf, err));
        excess++;
    } while (buf->len >= len);
    *text = pd_buf_str(buf);
out:
    pd_ids_release(&ids);
    return rc;
}

static enum pd_rc encode_chat(const struct pd_model *m, const struct pd_prompt_opts *o,
                              const struct pd_chat_msg *msgs, size_t n, struct pd_ids *ids,
                              bool *cut, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_buf last;
    struct chat c = {.m = m, .o = o, .msgs = msgs, .n = n, .ids = ids};
    c.first = n > 0 && pd_str_eqz(msgs[0].role, "system");
    c.left = pd_xalloc((n + 1) * sizeof *c.left);
    pd_buf_init(&last, 0);
    PD_TRY(render_from(&c, c.first, err));
    if (c.excess == 0)
        goto out;
    *cut = true;
    PD_TRY(drop_oldest(&c, err));
    while (c.excess > 0) {
        PD_TRY(cut_text(m->tok, &c.left[c.n_left - 1].content, c.excess, &last, err));
        PD_TRY(render(&c, err));
    }
out:
    pd_buf_release(&last);
    pd_free(c.left);
    return rc;
}

/* ---- all ---- */

bool pd_prompt_ends_all(enum pd_rc rc)
{
    return rc == PD_UNSUPPORTED || rc == PD_NOMEM || rc == PD_INTERRUPTED;
}

enum pd_rc pd_prompt_encode(const struct pd_model *m, const struct pd_prompt_opts *o,
                            const struct pd_prompt *p, struct pd_ids *ids, bool *cut,
                            struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct json_object *prompt = pd_json_get(p->row, "prompt");
    bool list = json_object_is_type(prompt, json_type_array);
    struct pd_chat_msg *msgs = NULL,
                       one = {.role = PD_STR("user"), .content = pd_json_value_str(prompt)};
    size_t n = 1;
    *cut = false;
    PD_TRY(go_on(err));
    if (p->ids) {
        PD_TRY(take_ids(m, o, p->ids, ids, cut, err));
    } else if (list || pd_prompt_chats(m, o)) {
        if (list)
            PD_TRY(pd_chat_msgs_from_json(prompt, &msgs, &n, err));
        PD_TRY(encode_chat(m, o, list ? msgs : &one, n, ids, cut, err));
    } else {
        PD_TRY(encode_text(m, o, pd_json_value_str(prompt), ids, cut, err));
    }
    if (ids->len == 0)
        rc = PD_FAIL(err, PD_INVALID, "the prompt has no tokens");
    else
        rc = check_room(m, o, (int64_t)ids->len, err);
out:
    pd_free(msgs);
    return rc;
}

enum pd_rc pd_prompts_fit(struct pd_prompts *prompts, const struct pd_model *m,
                          const struct pd_prompt_opts *o, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_ids ids = {0};
    size_t kept = 0, i = 0;
    if (!m->tok)
        return PD_FAIL(err, PD_INVALID, "%s has no tokenizer; answers cannot be made without one",
                       m->path ? m->path : "the model");
    for (; i < prompts->n; i++) {
        struct pd_err why;
        bool cut;
        ids.len = 0;
        rc = pd_prompt_encode(m, o, &prompts->v[i], &ids, &cut, &why);
        if (pd_prompt_ends_all(rc)) {
            if (err)
                *err = why;
            break;
        }
        if (rc == PD_OK) {
            prompts->v[kept++] = prompts->v[i];
            continue;
        }
        pd_prompts_bad(prompts, prompts->v[i].line, "%s", why.msg);
        json_object_put(prompts->v[i].row);
        rc = PD_OK;
    }
    for (; i < prompts->n; i++)
        prompts->v[kept++] = prompts->v[i];
    prompts->n = kept;
    pd_ids_release(&ids);
    return rc;
}
