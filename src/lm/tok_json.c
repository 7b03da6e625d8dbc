/* Tokenizers from tokenizer.json. Whatever of one has no counterpart here is refused by name, never
 * ignored: wrong ids are worse than none. */
#include "lm/tok_read.h"

#include <stdio.h>

enum pd_rc pd_tok_fail(const struct pd_tok_reader *l, enum pd_rc rc, const char *fmt, ...)
{
    char what[300];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return PD_FAIL(l->err, rc, "%s: %s", l->name, what);
}

struct pd_str pd_tok_keep(struct pd_tokenizer *t, struct pd_str s)
{
    return (struct pd_str){pd_arena_strndup(&t->arena, s.ptr, s.len), s.len};
}

bool pd_tok_is(struct json_object *o, const char *type)
{
    return pd_str_eqz(pd_json_str(o, "type"), type);
}

struct json_object *pd_tok_list(struct json_object *o, const char *key, size_t *n)
{
    struct json_object *a = pd_json_get(o, key);
    *n = json_object_is_type(a, json_type_array) ? json_object_array_length(a) : 0;
    return *n ? a : NULL;
}

/* ---- model: vocabulary and merges ---- */

enum pd_rc pd_tok_read_id(const struct pd_tok_reader *l, struct json_object *v, struct pd_str token,
                          int32_t *id)
{
    int64_t n = json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : -1;
    if (n < 0 || n >= PD_TOK_MAX_TOKENS)
        return MALFORMED(l, "token \"%.*s\": its id is not an integer from 0 to %d",
                         PD_STR_ARG(token), PD_TOK_MAX_TOKENS - 1);
    *id = (int32_t)n;
    return PD_OK;
}

enum pd_rc pd_tok_top_id(const struct pd_tok_reader *l, struct json_object *vocab, int32_t *top)
{
    int32_t id = 0;
    json_object_object_foreach(vocab, token, v)
    {
        enum pd_rc rc = pd_tok_read_id(l, v, pd_str_from(token), &id);
        if (rc != PD_OK)
            return rc;
        *top = id > *top ? id : *top;
    }
    return PD_OK;
}

static enum pd_rc top_added_id(const struct pd_tok_reader *l, struct json_object *added, size_t n,
                               int32_t *top)
{
    for (size_t i = 0; i < n; i++) {
        struct json_object *a = json_object_array_get_idx(added, i);
        int32_t id = 0;
        enum pd_rc rc = pd_tok_read_id(l, pd_json_get(a, "id"), pd_json_str(a, "content"), &id);
        if (rc != PD_OK)
            return rc;
        *top = id > *top ? id : *top;
    }
    return PD_OK;
}

enum pd_rc pd_tok_read_vocab(struct pd_tok_reader *l, struct json_object *vocab)
{
    json_object_object_foreach(vocab, token, v)
    {
        enum pd_rc rc = pd_bpe_add(&l->t->bpe, pd_tok_keep(l->t, pd_str_from(token)),
                                   json_object_get_int(v), l->err);
        if (rc != PD_OK)
            return pd_err_prefix(l->err, "%s", l->name);
    }
    return PD_OK;
}

/* "a b" or ["a", "b"]. */
static bool merge_parts(struct json_object *m, struct pd_str *left, struct pd_str *right)
{
    if (json_object_is_type(m, json_type_array) && json_object_array_length(m) == 2) {
        *left = pd_json_value_str(json_object_array_get_idx(m, 0));
        *right = pd_json_value_str(json_object_array_get_idx(m, 1));
        return left->ptr && right->ptr;
    }
    struct pd_str rest = pd_json_value_str(m);
    return json_object_is_type(m, json_type_string) && pd_str_split(&rest, ' ', left) &&
           pd_str_split(&rest, ' ', right) && rest.len == 0;
}

static enum pd_rc read_merges(struct pd_tok_reader *l, struct json_object *model)
{
    enum pd_rc rc = PD_OK;
    size_t n = 0;
    struct json_object *merges = pd_tok_list(model, "merges", &n);
    PD_TRY(pd_bpe_reserve_merges(&l->t->bpe, n, l->err));
    for (size_t i = 0; i < n; i++) {
        struct pd_str left, right;
        if (!merge_parts(json_object_array_get_idx(merges, i), &left, &right))
            return MALFORMED(l, "merge %zu is not two tokens", i);
        rc = pd_bpe_add_merge(&l->t->bpe, left, right, (uint32_t)i, l->err);
        if (rc != PD_OK)
            return pd_err_prefix(l->err, "%s", l->name);
    }
out:
    return rc;
}

static bool is_set(struct json_object *o, const char *key)
{
    struct json_object *v = pd_json_get(o, key);
    return v && !json_object_is_type(v, json_type_null) && pd_json_value_str(v).len > 0;
}

static enum pd_rc read_unknown(struct pd_tok_reader *l, struct json_object *model)
{
    struct pd_bpe *b = &l->t->bpe;
    struct pd_str unk = pd_json_str(model, "unk_token");
    b->unk = unk.ptr ? pd_bpe_id(b, unk) : -1;
    if (unk.len > 0 && b->unk < 0)
        return MALFORMED(l, "unk_token \"%.*s\" is not in the vocabulary", PD_STR_ARG(unk));
    b->fuse_unk = pd_json_bool(model, "fuse_unk", false);
    b->byte_fallback = pd_json_bool(model, "byte_fallback", false);
    b->ignore_merges = pd_json_bool(model, "ignore_merges", false);
    return PD_OK;
}

static enum pd_rc read_model(struct pd_tok_reader *l, struct json_object *root)
{
    enum pd_rc rc = PD_OK;
    int32_t top = -1;
    size_t n_added = 0;
    struct json_object *model = pd_json_get(root, "model"), *vocab = pd_json_get(model, "vocab");
    struct json_object *added = pd_tok_list(root, "added_tokens", &n_added);
    struct pd_str type = pd_json_str(model, "type");
    if (type.ptr && !pd_str_eqz(type, "BPE"))
        return UNSUPPORTED(l, "a %.*s model; BPE is read", PD_STR_ARG(type));
    if (!json_object_is_type(vocab, json_type_object))
        return MALFORMED(l, "no model.vocab");
    if (is_set(model, "continuing_subword_prefix") || is_set(model, "end_of_word_suffix"))
        return UNSUPPORTED(l, "continuing_subword_prefix or end_of_word_suffix is set");
    if (n_added > PD_TOK_MAX_ADDED)
        return MALFORMED(l, "%zu added tokens, more than %d", n_added, PD_TOK_MAX_ADDED);
    PD_TRY(pd_tok_top_id(l, vocab, &top));
    PD_TRY(top_added_id(l, added, n_added, &top));
    PD_TRY(pd_bpe_init(&l->t->bpe, (size_t)top + 1, l->err));
    PD_TRY(pd_tok_read_vocab(l, vocab));
    PD_TRY(read_merges(l, model));
    PD_TRY(read_unknown(l, model));
out:
    return rc;
}

/* ---- added tokens ---- */

struct pd_added pd_tok_added_from_json(struct json_object *o, struct pd_str text, int32_t id)
{
    bool special = pd_json_bool(o, "special", false);
    return (struct pd_added){
        .text = text,
        .id = id,
        .special = special,
        .single_word = pd_json_bool(o, "single_word", false),
        .lstrip = pd_json_bool(o, "lstrip", false),
        .rstrip = pd_json_bool(o, "rstrip", false),
        .normalized = pd_json_bool(o, "normalized", !special),
    };
}

static enum pd_rc read_added(struct pd_tok_reader *l, struct json_object *root)
{
    enum pd_rc rc = PD_OK;
    size_t n = 0;
    struct json_object *list = pd_tok_list(root, "added_tokens", &n);
    for (size_t i = 0; i < n; i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        struct pd_str text = pd_json_str(o, "content");
        int32_t id = -1;
        PD_TRY(pd_tok_read_id(l, pd_json_get(o, "id"), text, &id));
        if (text.len == 0)
            return MALFORMED(l, "added token %d has no content", id);
        struct pd_added a = pd_tok_added_from_json(o, text, id);
        pd_tok_add_added(l->t, &a, true);
    }
out:
    return rc;
}

enum pd_rc pd_tok_read_json(struct pd_tok_reader *l, struct json_object *root)
{
    enum pd_rc rc = PD_OK;
    if (!json_object_is_type(root, json_type_object))
        return MALFORMED(l, "not a JSON object");
    PD_TRY(read_model(l, root));
    PD_TRY(read_added(l, root));
    PD_TRY(pd_tok_read_normalizer(l, pd_json_get(root, "normalizer")));
    PD_TRY(pd_tok_read_pre_tokenizer(l, pd_json_get(root, "pre_tokenizer")));
    PD_TRY(pd_tok_read_post_processor(l, pd_json_get(root, "post_processor")));
    PD_TRY(pd_tok_read_decoder(l, pd_json_get(root, "decoder")));
out:
    return rc;
}

enum pd_rc pd_tokenizer_open_json(struct pd_tokenizer **out, struct pd_str json, const char *name,
                                  struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct json_object *root = NULL;
    struct pd_tokenizer *t = pd_tok_new();
    struct pd_tok_reader l = {t, name, err};
    rc = pd_json_parse(json, &root, err);
    if (rc != PD_OK) {
        (void)pd_err_prefix(err, "%s", name);
        goto out;
    }
    PD_TRY(pd_tok_read_json(&l, root));
    PD_TRY(pd_tok_finish(t, name, err));
    *out = t;
    t = NULL;
out:
    json_object_put(root);
    pd_tokenizer_free(t);
    return rc;
}
