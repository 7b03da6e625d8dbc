#include "gen/prompt_ids.h"
#include "lm/model.h"
#include "base/mem.h"

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

static enum pd_rc render(const struct pd_model *m, const struct pd_chat_msg *msgs, size_t n,
                         struct pd_ids *ids, struct pd_err *err)
{
    ids->len = 0;
    return pd_chat_encode(&m->chat, m->tok, msgs, n, true, ids, err);
}

/* Drops the oldest message that may go, and those behind it up to the next user's. */
static size_t drop_oldest(struct pd_chat_msg *msgs, size_t n)
{
    size_t first = n > 0 && pd_str_eqz(msgs[0].role, "system"), gone = 0;
    if (n - first < 2)
        return 0;
    do
        gone++;
    while (first + gone + 1 < n && !pd_str_eqz(msgs[first + gone].role, "user"));
    memmove(msgs + first, msgs + first + gone, (n - first - gone) * sizeof *msgs);
    return gone;
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
                              struct pd_chat_msg *msgs, size_t n, struct pd_ids *ids, bool *cut,
                              struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_buf last;
    size_t excess;
    pd_buf_init(&last, 0);
    PD_TRY(render(m, msgs, n, ids, err));
    PD_TRY(excess_of(m, o, ids->len, &excess, err));
    while (excess > 0) {
        size_t gone = drop_oldest(msgs, n);
        if (gone == 0)
            PD_TRY(cut_text(m->tok, &msgs[n - 1].content, excess, &last, err));
        n -= gone;
        *cut = true;
        PD_TRY(render(m, msgs, n, ids, err));
        PD_TRY(excess_of(m, o, ids->len, &excess, err));
    }
out:
    pd_buf_release(&last);
    return rc;
}

/* ---- all ---- */

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
        if (rc == PD_UNSUPPORTED || rc == PD_NOMEM) {
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
