/* Tokenizers from tokenizer.json, or vocab.json + merges.txt, and the files that stand beside them.
 * Whatever of a tokenizer.json has no counterpart here is refused by name, never ignored: wrong ids
 * are worse than none. */
#include "lm/tok_int.h"

#include "base/fs.h"
#include "base/json.h"

#include <inttypes.h>

enum { MAX_JSON = 256 << 20, MAX_TOKENS = 1 << 22, MAX_ADDED = 20000 };

struct loader {
    struct pd_tokenizer *t;
    const char *name; /* for messages */
    struct pd_err *err;
};

#define UNSUPPORTED(l, ...) fail((l), PD_UNSUPPORTED, __VA_ARGS__)
#define MALFORMED(l, ...)   fail((l), PD_INVALID, __VA_ARGS__)

static enum pd_rc fail(const struct loader *l, enum pd_rc rc, const char *fmt, ...) PD_PRINTF(3, 4);
static enum pd_rc fail(const struct loader *l, enum pd_rc rc, const char *fmt, ...)
{
    char what[300];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return PD_FAIL(l->err, rc, "%s: %s", l->name, what);
}

static struct pd_str keep(struct pd_tokenizer *t, struct pd_str s)
{
    return (struct pd_str){pd_arena_strndup(&t->arena, s.ptr, s.len), s.len};
}

static bool is_type(struct json_object *o, const char *type)
{
    return pd_str_eqz(pd_json_str(o, "type"), type);
}

static struct json_object *array_at(struct json_object *o, const char *key, size_t *n)
{
    struct json_object *a = pd_json_get(o, key);
    *n = json_object_is_type(a, json_type_array) ? json_object_array_length(a) : 0;
    return *n ? a : NULL;
}

/* ---- model: vocabulary and merges ---- */

static enum pd_rc read_id(const struct loader *l, struct json_object *v, struct pd_str token,
                          int32_t *id)
{
    int64_t n = json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : -1;
    if (n < 0 || n >= MAX_TOKENS)
        return MALFORMED(l, "token \"%.*s\": its id is not an integer from 0 to %d",
                         PD_STR_ARG(token), MAX_TOKENS - 1);
    *id = (int32_t)n;
    return PD_OK;
}

static enum pd_rc find_top_id(const struct loader *l, struct json_object *vocab,
                              struct json_object *added, int32_t *top)
{
    enum pd_rc rc = PD_OK;
    int32_t id = 0;
    *top = -1;
    json_object_object_foreach(vocab, token, v)
    {
        PD_TRY(read_id(l, v, pd_str_from(token), &id));
        *top = id > *top ? id : *top;
    }
    size_t n = added ? json_object_array_length(added) : 0;
    for (size_t i = 0; i < n; i++) {
        struct json_object *a = json_object_array_get_idx(added, i);
        PD_TRY(read_id(l, pd_json_get(a, "id"), pd_json_str(a, "content"), &id));
        *top = id > *top ? id : *top;
    }
out:
    return rc;
}

static enum pd_rc read_vocab(struct loader *l, struct json_object *vocab, int32_t top)
{
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_bpe_init(&l->t->bpe, (size_t)top + 1, l->err));
    json_object_object_foreach(vocab, token, v)
    {
        rc = pd_bpe_add(&l->t->bpe, keep(l->t, pd_str_from(token)), json_object_get_int(v), l->err);
        if (rc != PD_OK)
            return pd_err_prefix(l->err, "%s", l->name);
    }
out:
    return rc;
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

static enum pd_rc read_merges(struct loader *l, struct json_object *model)
{
    enum pd_rc rc = PD_OK;
    size_t n = 0;
    struct json_object *merges = array_at(model, "merges", &n);
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

static enum pd_rc read_model(struct loader *l, struct json_object *root)
{
    enum pd_rc rc = PD_OK;
    int32_t top = -1;
    size_t n_added = 0;
    struct json_object *model = pd_json_get(root, "model"), *vocab = pd_json_get(model, "vocab");
    struct json_object *added = array_at(root, "added_tokens", &n_added);
    struct pd_str type = pd_json_str(model, "type");
    if (type.ptr && !pd_str_eqz(type, "BPE"))
        return UNSUPPORTED(l, "a %.*s model; byte-level BPE is read", PD_STR_ARG(type));
    if (!json_object_is_type(vocab, json_type_object))
        return MALFORMED(l, "no model.vocab");
    if (pd_json_bool(model, "byte_fallback", false))
        return UNSUPPORTED(l,
                           "a SentencePiece-style model (byte_fallback); byte-level BPE is read");
    if (is_set(model, "continuing_subword_prefix") || is_set(model, "end_of_word_suffix"))
        return UNSUPPORTED(l, "continuing_subword_prefix or end_of_word_suffix is set");
    if (n_added > MAX_ADDED)
        return MALFORMED(l, "%zu added tokens, more than %d", n_added, MAX_ADDED);
    l->t->bpe.ignore_merges = false;
    PD_TRY(find_top_id(l, vocab, added, &top));
    PD_TRY(read_vocab(l, vocab, top));
    PD_TRY(read_merges(l, model));
    l->t->bpe.ignore_merges = pd_json_bool(model, "ignore_merges", false);
out:
    return rc;
}

/* ---- added tokens ---- */

static struct pd_added added_from_json(struct json_object *o, struct pd_str text, int32_t id)
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

static enum pd_rc read_added(struct loader *l, struct json_object *root)
{
    enum pd_rc rc = PD_OK;
    size_t n = 0;
    struct json_object *list = array_at(root, "added_tokens", &n);
    for (size_t i = 0; i < n; i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        struct pd_str text = pd_json_str(o, "content");
        int32_t id = -1;
        PD_TRY(read_id(l, pd_json_get(o, "id"), text, &id));
        if (text.len == 0)
            return MALFORMED(l, "added token %d has no content", id);
        struct pd_added a = added_from_json(o, text, id);
        pd_tok_add_added(l->t, &a, true);
    }
out:
    return rc;
}

/* ---- normalizer, pre_tokenizer, decoder ---- */

static enum pd_rc read_normalizer(struct loader *l, struct json_object *o)
{
    size_t n = 0;
    struct json_object *list = array_at(o, "normalizers", &n);
    if (!o || (is_type(o, "Sequence") && n == 0))
        return PD_OK;
    if (is_type(o, "Sequence") && n == 1)
        return read_normalizer(l, json_object_array_get_idx(list, 0));
    if (!is_type(o, "NFC"))
        return UNSUPPORTED(l, "normalizer %.*s; none and NFC are read",
                           PD_STR_ARG(pd_json_str(o, "type")));
    l->t->nfc = true;
    return PD_OK;
}

static bool is_byte_level(struct json_object *o, bool use_regex)
{
    return is_type(o, "ByteLevel") && pd_json_bool(o, "use_regex", true) == use_regex;
}

/* A Split whose regex is one that a scanner implements. */
static bool split_kind(struct json_object *o, enum pd_words *kind)
{
    struct pd_str regex = pd_json_str(pd_json_get(o, "pattern"), "Regex");
    if (!is_type(o, "Split") || !pd_str_eqz(pd_json_str(o, "behavior"), "Isolated") ||
        pd_json_bool(o, "invert", false))
        return false;
    if (pd_str_eqz(regex, PD_REGEX_LLAMA3))
        *kind = PD_WORDS_LLAMA3;
    else if (pd_str_eqz(regex, PD_REGEX_QWEN2))
        *kind = PD_WORDS_QWEN2;
    else
        return false;
    return true;
}

static enum pd_rc read_pre_tokenizer(struct loader *l, struct json_object *o)
{
    size_t n = 0;
    struct json_object *list = array_at(o, "pretokenizers", &n);
    struct json_object *first = n > 0 ? json_object_array_get_idx(list, 0) : o;
    struct json_object *last = n > 0 ? json_object_array_get_idx(list, n - 1) : o;
    l->t->add_prefix_space = pd_json_bool(last, "add_prefix_space", false);
    if (n <= 1 && is_byte_level(first, true)) {
        l->t->words = PD_WORDS_GPT2;
        return PD_OK;
    }
    if (n == 2 && is_type(first, "Digits") && pd_json_bool(first, "individual_digits", false) &&
        is_byte_level(last, true) && !l->t->add_prefix_space) {
        l->t->words = PD_WORDS_SMOLLM;
        return PD_OK;
    }
    if (n == 2 && split_kind(first, &l->t->words) && is_byte_level(last, false) &&
        !l->t->add_prefix_space)
        return PD_OK;
    return UNSUPPORTED(l,
                       "its pre_tokenizer (%.*s) is not one of those read: ByteLevel, Digits + "
                       "ByteLevel, Llama 3's and Qwen 2's Split + ByteLevel",
                       PD_STR_ARG(pd_json_str(o, "type")));
}

static enum pd_rc read_decoder(struct loader *l, struct json_object *o)
{
    if (o && !is_type(o, "ByteLevel"))
        return UNSUPPORTED(l, "decoder %.*s; ByteLevel is read",
                           PD_STR_ARG(pd_json_str(o, "type")));
    return PD_OK;
}

/* ---- post_processor: what is put before and after ---- */

static enum pd_rc read_template(struct loader *l, struct json_object *o)
{
    size_t n = 0;
    bool seen_text = false;
    struct json_object *single = array_at(o, "single", &n), *map = pd_json_get(o, "special_tokens");
    for (size_t i = 0; i < n; i++) {
        struct json_object *piece = json_object_array_get_idx(single, i);
        if (pd_json_get(piece, "Sequence")) {
            seen_text = true;
            continue;
        }
        struct pd_str id = pd_json_str(pd_json_get(piece, "SpecialToken"), "id");
        struct json_object *entry = id.ptr ? pd_json_get(map, id.ptr) : NULL;
        size_t n_ids = 0;
        struct json_object *ids = array_at(entry, "ids", &n_ids);
        if (n_ids == 0)
            return MALFORMED(l, "post_processor: special token %.*s has no ids", PD_STR_ARG(id));
        for (size_t k = 0; k < n_ids; k++) {
            int32_t v = -1;
            enum pd_rc rc = read_id(l, json_object_array_get_idx(ids, k), id, &v);
            if (rc != PD_OK)
                return rc;
            pd_ids_push(seen_text ? &l->t->suffix : &l->t->prefix, v);
        }
    }
    if (n > 0 && !seen_text)
        return MALFORMED(l, "post_processor: its template leaves the text out");
    return PD_OK;
}

static enum pd_rc read_post_processor(struct loader *l, struct json_object *o, int depth)
{
    enum pd_rc rc = PD_OK;
    size_t n = 0;
    if (!o || is_type(o, "ByteLevel"))
        return PD_OK;
    if (is_type(o, "TemplateProcessing"))
        return read_template(l, o);
    if (!is_type(o, "Sequence") || depth > 4)
        return UNSUPPORTED(l, "post_processor %.*s; ByteLevel and TemplateProcessing are read",
                           PD_STR_ARG(pd_json_str(o, "type")));
    struct json_object *list = array_at(o, "processors", &n);
    for (size_t i = 0; i < n; i++)
        PD_TRY(read_post_processor(l, json_object_array_get_idx(list, i), depth + 1));
out:
    return rc;
}

static enum pd_rc read_tokenizer_json(struct loader *l, struct json_object *root)
{
    enum pd_rc rc = PD_OK;
    if (!json_object_is_type(root, json_type_object))
        return MALFORMED(l, "not a JSON object");
    PD_TRY(read_model(l, root));
    PD_TRY(read_added(l, root));
    PD_TRY(read_normalizer(l, pd_json_get(root, "normalizer")));
    PD_TRY(read_pre_tokenizer(l, pd_json_get(root, "pre_tokenizer")));
    PD_TRY(read_post_processor(l, pd_json_get(root, "post_processor"), 0));
    PD_TRY(read_decoder(l, pd_json_get(root, "decoder")));
out:
    return rc;
}

enum pd_rc pd_tokenizer_open_json(struct pd_tokenizer **out, struct pd_str json, const char *name,
                                  struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct json_object *root = NULL;
    struct pd_tokenizer *t = pd_tok_new();
    struct loader l = {t, name, err};
    rc = pd_json_parse(json, &root, err);
    if (rc != PD_OK) {
        (void)pd_err_prefix(err, "%s", name);
        goto out;
    }
    PD_TRY(read_tokenizer_json(&l, root));
    PD_TRY(pd_tok_finish(t, name, err));
    *out = t;
    t = NULL;
out:
    json_object_put(root);
    pd_tokenizer_free(t);
    return rc;
}

/* ---- a folder ---- */

/* vocab.json + merges.txt, as GPT-2 was published. */
static enum pd_rc read_vocab_merges(struct loader *l, const char *vocab_path,
                                    const char *merges_path)
{
    enum pd_rc rc = PD_OK;
    struct json_object *vocab = NULL;
    struct pd_buf text;
    int32_t top = -1;
    pd_buf_init(&text, MAX_JSON);
    PD_TRY(pd_json_read_file(vocab_path, MAX_JSON, &vocab, l->err));
    if (!json_object_is_type(vocab, json_type_object)) {
        rc = MALFORMED(l, "%s is not a JSON object", vocab_path);
        goto out;
    }
    PD_TRY(find_top_id(l, vocab, NULL, &top));
    PD_TRY(read_vocab(l, vocab, top));
    PD_TRY(pd_fs_read(merges_path, MAX_JSON, &text, l->err));
    struct pd_str rest = pd_buf_str(&text), line, left;
    size_t lines = 0;
    for (size_t i = 0; i < rest.len; i++)
        lines += rest.ptr[i] == '\n';
    PD_TRY(pd_bpe_reserve_merges(&l->t->bpe, lines + 1, l->err));
    for (uint32_t rank = 0; pd_str_split(&rest, '\n', &line);) {
        if (line.len > 0 && line.ptr[line.len - 1] == '\r')
            line.len--;
        if (line.len == 0 || (rank == 0 && pd_str_starts(line, PD_STR("#version"))))
            continue;
        struct pd_str right = line;
        if (!pd_str_split(&right, ' ', &left) || right.len == 0) {
            rc = MALFORMED(l, "%s: \"%.*s\" is not two tokens", merges_path, PD_STR_ARG(line));
            goto out;
        }
        rc = pd_bpe_add_merge(&l->t->bpe, left, right, rank++, l->err);
        if (rc != PD_OK) {
            (void)pd_err_prefix(l->err, "%s", merges_path);
            goto out;
        }
    }
    l->t->words = PD_WORDS_GPT2;
out:
    pd_buf_release(&text);
    json_object_put(vocab);
    return rc;
}

/* A special token is a string, or an object with content. */
static struct pd_str token_text(struct json_object *o, const char *key)
{
    struct json_object *v = pd_json_get(o, key);
    if (json_object_is_type(v, json_type_object))
        return pd_json_str(v, "content");
    return v && json_object_is_type(v, json_type_string) ? pd_json_value_str(v)
                                                         : (struct pd_str){NULL, 0};
}

/* A token named as bos, eos, pad or unk is a special one, even where no list says so. */
static void name_token(struct pd_tokenizer *t, struct json_object *o, const char *key, int32_t *id)
{
    struct pd_str text = token_text(o, key);
    if (!text.ptr || *id >= 0)
        return;
    for (size_t i = 0; i < t->n_added; i++)
        if (pd_str_eq(t->added[i].text, text)) {
            *id = t->added[i].id;
            return;
        }
    *id = pd_bpe_id(&t->bpe, text);
    if (*id >= 0 && text.len > 0) {
        struct pd_added a = {.text = text, .id = *id, .special = true};
        pd_tok_add_added(t, &a, true);
    }
}

static void name_tokens(struct pd_tokenizer *t, struct json_object *o)
{
    name_token(t, o, "bos_token", &t->bos);
    name_token(t, o, "eos_token", &t->eos);
    name_token(t, o, "pad_token", &t->pad);
    name_token(t, o, "unk_token", &t->unk);
}

/* chat_template: a string, or a list of {name, template} of which "default" counts. */
static void read_chat_template(struct pd_tokenizer *t, struct json_object *config)
{
    struct json_object *v = pd_json_get(config, "chat_template");
    if (json_object_is_type(v, json_type_string)) {
        t->chat_template = keep(t, pd_json_value_str(v));
        return;
    }
    size_t n = json_object_is_type(v, json_type_array) ? json_object_array_length(v) : 0;
    for (size_t i = 0; i < n; i++) {
        struct json_object *o = json_object_array_get_idx(v, i);
        struct pd_str text = pd_json_str(o, "template");
        if (text.ptr && (i == 0 || pd_str_eqz(pd_json_str(o, "name"), "default")))
            t->chat_template = keep(t, text);
    }
}

/* added_tokens_decoder repeats the added tokens of tokenizer.json and may know more flags. */
static void read_added_decoder(struct loader *l, struct json_object *config)
{
    struct json_object *map = pd_json_get(config, "added_tokens_decoder");
    if (!json_object_is_type(map, json_type_object))
        return;
    json_object_object_foreach(map, key, o)
    {
        int64_t id = -1;
        struct pd_str text = pd_json_str(o, "content");
        if (!pd_str_to_i64(pd_str_from(key), &id) || id < 0 || id >= l->t->bpe.n_ids ||
            text.len == 0 || l->t->n_added > MAX_ADDED)
            continue;
        if (pd_bpe_id(&l->t->bpe, text) == id) {
            struct pd_added a = added_from_json(o, text, (int32_t)id);
            pd_tok_add_added(l->t, &a, true);
        }
    }
}

/* transformers writes int(1e30) for "no limit", which no integer holds: 1e9 says the same. */
static void blank_no_limit(struct pd_buf *b)
{
    static const char no_limit[] = "1000000000000000019884624838656";
    size_t n = sizeof no_limit - 1;
    char *at = b->len ? memmem(b->ptr, b->len, no_limit, n) : NULL;
    if (at)
        memset(at + 10, ' ', n - 10);
}

/* Reads dir/name when it is there; *out stays NULL otherwise. */
static enum pd_rc read_optional(const char *dir, const char *name, struct json_object **out,
                                struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_buf text;
    char *path = pd_xasprintf("%s/%s", dir, name);
    pd_buf_init(&text, MAX_JSON);
    if (pd_fs_exists(path)) {
        PD_TRY(pd_fs_read(path, MAX_JSON, &text, err));
        blank_no_limit(&text);
        rc = pd_json_parse(pd_buf_str(&text), out, err);
        if (rc != PD_OK)
            (void)pd_err_prefix(err, "%s", path);
    }
out:
    pd_buf_release(&text);
    pd_free(path);
    return rc;
}

static enum pd_rc read_side_files(struct loader *l, const char *dir, bool from_json)
{
    enum pd_rc rc = PD_OK;
    struct json_object *config = NULL, *map = NULL;
    struct pd_buf text;
    char *jinja = pd_xasprintf("%s/chat_template.jinja", dir);
    pd_buf_init(&text, MAX_JSON);
    PD_TRY(read_optional(dir, "tokenizer_config.json", &config, l->err));
    PD_TRY(read_optional(dir, "special_tokens_map.json", &map, l->err));
    if (!from_json)
        read_added_decoder(l, config);
    name_tokens(l->t, config);
    name_tokens(l->t, map);
    read_chat_template(l->t, config);
    if (pd_fs_exists(jinja)) {
        PD_TRY(pd_fs_read(jinja, MAX_JSON, &text, l->err));
        l->t->chat_template = keep(l->t, pd_buf_str(&text));
    }
    double max = pd_json_f64(config, "model_max_length", 0);
    l->t->max_length = max > 0 && max < 1e9 ? (int64_t)max : 0;
out:
    json_object_put(config);
    json_object_put(map);
    pd_buf_release(&text);
    pd_free(jinja);
    return rc;
}

enum pd_rc pd_tokenizer_open_dir(struct pd_tokenizer **out, const char *dir, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct json_object *root = NULL;
    struct pd_tokenizer *t = pd_tok_new();
    char *json = pd_xasprintf("%s/tokenizer.json", dir);
    char *vocab = pd_xasprintf("%s/vocab.json", dir), *merges = pd_xasprintf("%s/merges.txt", dir);
    bool from_json = pd_fs_exists(json);
    struct loader l = {t, from_json ? json : dir, err};
    t->dir = pd_xstrdup(dir);
    if (from_json) {
        PD_TRY(pd_json_read_file(json, MAX_JSON, &root, err));
        PD_TRY(read_tokenizer_json(&l, root));
    } else if (pd_fs_exists(vocab) && pd_fs_exists(merges)) {
        PD_TRY(read_vocab_merges(&l, vocab, merges));
    } else {
        rc = PD_FAIL(err, PD_NOTFOUND,
                     "%s: neither tokenizer.json nor vocab.json with merges.txt is there", dir);
        goto out;
    }
    PD_TRY(read_side_files(&l, dir, from_json));
    if (!from_json && t->eos < 0) { /* the bare files of GPT-2 */
        struct pd_str eot = PD_STR("<|endoftext|>");
        t->bos = t->eos = t->unk = pd_bpe_id(&t->bpe, eot);
        struct pd_added a = {.text = eot, .id = t->eos, .special = true};
        if (t->eos >= 0)
            pd_tok_add_added(t, &a, true);
    }
    PD_TRY(pd_tok_finish(t, l.name, err));
    *out = t;
    t = NULL;
out:
    json_object_put(root);
    pd_tokenizer_free(t);
    pd_free(json);
    pd_free(vocab);
    pd_free(merges);
    return rc;
}
