/* Tokenizers from a folder: the tokenizer's own files and those that stand beside them. */
#include "lm/tok_read.h"

#include "base/fs.h"

/* The files of a folder that are there; names are kept for messages. */
struct folder {
    const char *dir;
    struct json_object *config, *map, *added; /* NULL = absent */
};

/* ---- vocab.json + merges.txt, as GPT-2 was published ---- */

static enum pd_rc read_merge_lines(struct pd_tok_reader *l, const char *path, struct pd_str rest)
{
    enum pd_rc rc = PD_OK;
    struct pd_str line, left;
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
        if (!pd_str_split(&right, ' ', &left) || right.len == 0)
            return MALFORMED(l, "%s: \"%.*s\" is not two tokens", path, PD_STR_ARG(line));
        rc = pd_bpe_add_merge(&l->t->bpe, left, right, rank++, l->err);
        if (rc != PD_OK)
            return pd_err_prefix(l->err, "%s", path);
    }
out:
    return rc;
}

/* The two files leave open how words are cut: the class of the tokenizer says it. */
static enum pd_rc cut_as_class(struct pd_tok_reader *l, struct json_object *config)
{
    static const struct {
        const char *name;
        enum pd_step_kind words;
        bool nfc;
    } classes[] = {{"GPT2Tokenizer", PD_STEP_GPT2, false},
                   {"CodeGenTokenizer", PD_STEP_GPT2, false},
                   {"GPTNeoXTokenizer", PD_STEP_GPT2, true},
                   {"Qwen2Tokenizer", PD_STEP_QWEN2, true}};
    struct pd_str name = pd_json_str(config, "tokenizer_class");
    if (pd_str_ends(name, PD_STR("Fast")))
        name.len -= 4;
    size_t i = 0, n = sizeof classes / sizeof *classes;
    while (name.ptr && i < n && !pd_str_eqz(name, classes[i].name))
        i++;
    if (i == n)
        return UNSUPPORTED(l,
                           "vocab.json and merges.txt of a %.*s; those of GPT2Tokenizer, "
                           "CodeGenTokenizer, GPTNeoXTokenizer and Qwen2Tokenizer are read",
                           PD_STR_ARG(name));
    if (classes[i].nfc)
        l->t->norms[l->t->n_norms++] = (struct pd_norm_step){.kind = PD_NORM_NFC};
    l->t->add_prefix_space = pd_json_bool(config, "add_prefix_space", false);
    return pd_steps_add(&l->t->steps, classes[i].words, PD_STR(""), l->err);
}

static enum pd_rc read_vocab_merges(struct pd_tok_reader *l, const struct folder *f, int32_t top,
                                    const char *vocab_path, const char *merges_path)
{
    enum pd_rc rc = PD_OK;
    struct json_object *vocab = NULL;
    struct pd_buf text;
    pd_buf_init(&text, PD_TOK_MAX_JSON);
    PD_TRY(pd_json_read_file(vocab_path, PD_TOK_MAX_JSON, &vocab, l->err));
    if (!json_object_is_type(vocab, json_type_object)) {
        rc = MALFORMED(l, "%s is not a JSON object", vocab_path);
        goto out;
    }
    PD_TRY(pd_tok_top_id(l, vocab, &top));
    PD_TRY(pd_bpe_init(&l->t->bpe, (size_t)top + 1, l->err));
    PD_TRY(pd_tok_read_vocab(l, vocab));
    PD_TRY(pd_fs_read(merges_path, PD_TOK_MAX_JSON, &text, l->err));
    PD_TRY(read_merge_lines(l, merges_path, pd_buf_str(&text)));
    PD_TRY(cut_as_class(l, f->config));
out:
    pd_buf_release(&text);
    json_object_put(vocab);
    return rc;
}

/* ---- tokenizer.model ---- */

static enum pd_rc read_sentencepiece(struct pd_tok_reader *l, const struct folder *f, int32_t top,
                                     const char *path)
{
    enum pd_rc rc = PD_OK;
    struct pd_buf file;
    pd_buf_init(&file, PD_TOK_MAX_JSON);
    PD_TRY(pd_fs_read(path, PD_TOK_MAX_JSON, &file, l->err));
    PD_TRY(pd_tok_read_model(l, pd_buf_str(&file), (size_t)(top + 1),
                             pd_json_bool(f->config, "legacy", true)));
out:
    pd_buf_release(&file);
    return rc;
}

/* ---- the files beside ---- */

/* A special token is a string, or an object with content. */
static struct pd_str token_text(struct json_object *v)
{
    if (json_object_is_type(v, json_type_object))
        return pd_json_str(v, "content");
    return json_object_is_type(v, json_type_string) ? pd_json_value_str(v)
                                                    : (struct pd_str){NULL, 0};
}

/* A token named as bos, eos, pad or unk is a special one, even where no list says so. */
static void name_token(struct pd_tokenizer *t, struct json_object *o, const char *key, int32_t *id)
{
    struct pd_str text = token_text(pd_json_get(o, key));
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
        t->chat_template = pd_tok_keep(t, pd_json_value_str(v));
        return;
    }
    size_t n = json_object_is_type(v, json_type_array) ? json_object_array_length(v) : 0;
    for (size_t i = 0; i < n; i++) {
        struct json_object *o = json_object_array_get_idx(v, i);
        struct pd_str text = pd_json_str(o, "template");
        if (text.ptr && (i == 0 || pd_str_eqz(pd_json_str(o, "name"), "default")))
            t->chat_template = pd_tok_keep(t, text);
    }
}

/* added_tokens.json, {text: id}, and added_tokens_decoder, {id: {content, flags}}: what the files
 * of the tokenizer itself may lack. Calls add for each, or only looks for the largest id. */
static enum pd_rc each_added(struct pd_tok_reader *l, const struct folder *f, int32_t *top)
{
    struct json_object *map = pd_json_get(f->config, "added_tokens_decoder");
    if (json_object_is_type(f->added, json_type_object)) {
        json_object_object_foreach(f->added, text, v)
        {
            int32_t id = -1;
            enum pd_rc rc = pd_tok_read_id(l, v, pd_str_from(text), &id);
            if (rc != PD_OK)
                return rc;
            struct pd_added a = {.text = pd_str_from(text), .id = id, .normalized = true};
            if (!top && a.text.len > 0 && l->t->n_added < PD_TOK_MAX_ADDED)
                pd_tok_add_added(l->t, &a, true);
            else if (top)
                *top = id > *top ? id : *top;
        }
    }
    if (!json_object_is_type(map, json_type_object))
        return PD_OK;
    json_object_object_foreach(map, key, o)
    {
        int64_t id = -1;
        struct pd_str text = pd_json_str(o, "content");
        if (!pd_str_to_i64(pd_str_from(key), &id) || id < 0 || id >= PD_TOK_MAX_TOKENS)
            return MALFORMED(l, "added_tokens_decoder: \"%s\" is not an id", key);
        struct pd_added a = pd_tok_added_from_json(o, text, (int32_t)id);
        if (!top && text.len > 0 && l->t->n_added < PD_TOK_MAX_ADDED)
            pd_tok_add_added(l->t, &a, true);
        else if (top)
            *top = a.id > *top ? a.id : *top;
    }
    return PD_OK;
}

static void mark_one(struct pd_tokenizer *t, struct json_object *v, bool raw)
{
    struct pd_str text = token_text(v);
    for (size_t k = 0; k < t->n_added; k++)
        if (pd_str_eq(t->added[k].text, text)) {
            t->added[k].special = true;
            t->added[k].normalized = t->added[k].normalized && !raw;
            return;
        }
    int32_t id = text.len > 0 ? pd_bpe_id(&t->bpe, text) : -1;
    struct pd_added a = {.text = text, .id = id, .special = true};
    if (id >= 0 && t->n_added < PD_TOK_MAX_ADDED)
        pd_tok_add_added(t, &a, true);
}

/* Further special tokens, which the other lists may hold without saying so: a list under the one
 * key, a list or an object (name: token) under the one that followed it. `raw`: their text is
 * matched before it is normalised. */
static void mark_special(struct pd_tokenizer *t, const struct folder *f, bool raw)
{
    struct json_object *files[] = {f->config, f->map};
    static const char *const keys[] = {"additional_special_tokens", "extra_special_tokens"};
    for (size_t k = 0; k < 4; k++) {
        struct json_object *all = pd_json_get(files[k / 2], keys[k % 2]);
        size_t n = json_object_is_type(all, json_type_array) ? json_object_array_length(all) : 0;
        for (size_t i = 0; i < n && i < PD_TOK_MAX_ADDED; i++)
            mark_one(t, json_object_array_get_idx(all, i), raw);
        if (json_object_is_type(all, json_type_object)) {
            json_object_object_foreach(all, name, v)
            {
                (void)name;
                mark_one(t, v, raw);
            }
        }
    }
}

/* add_bos_token and add_eos_token, where one is given, say all about what is added. */
static void read_add_flags(struct pd_tokenizer *t, struct json_object *config)
{
    if (!json_object_object_get_ex(config, "add_bos_token", NULL) &&
        !json_object_object_get_ex(config, "add_eos_token", NULL))
        return;
    t->prefix.len = t->suffix.len = 0;
    if (pd_json_bool(config, "add_bos_token", false) && t->bos >= 0)
        pd_ids_push(&t->prefix, t->bos);
    if (pd_json_bool(config, "add_eos_token", false) && t->eos >= 0)
        pd_ids_push(&t->suffix, t->eos);
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
    pd_buf_init(&text, PD_TOK_MAX_JSON);
    if (pd_fs_exists(path)) {
        PD_TRY(pd_fs_read(path, PD_TOK_MAX_JSON, &text, err));
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

static enum pd_rc open_folder(struct folder *f, const char *dir, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    *f = (struct folder){.dir = dir};
    PD_TRY(read_optional(dir, "tokenizer_config.json", &f->config, err));
    PD_TRY(read_optional(dir, "special_tokens_map.json", &f->map, err));
    PD_TRY(read_optional(dir, "added_tokens.json", &f->added, err));
out:
    return rc;
}

static void close_folder(struct folder *f)
{
    json_object_put(f->config);
    json_object_put(f->map);
    json_object_put(f->added);
}

/* Named beside the tokenizer, else in it. */
static void read_names(struct pd_tokenizer *t, const struct folder *f)
{
    int32_t bos = t->bos, eos = t->eos, unk = t->unk;
    t->bos = t->eos = t->unk = -1;
    name_tokens(t, f->config);
    name_tokens(t, f->map);
    t->bos = t->bos < 0 ? bos : t->bos;
    t->eos = t->eos < 0 ? eos : t->eos;
    t->unk = t->unk < 0 ? unk : t->unk;
}

static enum pd_rc read_side_files(struct pd_tok_reader *l, const struct folder *f)
{
    enum pd_rc rc = PD_OK;
    struct pd_buf text;
    char *jinja = pd_xasprintf("%s/chat_template.jinja", f->dir);
    pd_buf_init(&text, PD_TOK_MAX_JSON);
    read_names(l->t, f);
    read_add_flags(l->t, f->config);
    read_chat_template(l->t, f->config);
    if (pd_fs_exists(jinja)) {
        PD_TRY(pd_fs_read(jinja, PD_TOK_MAX_JSON, &text, l->err));
        l->t->chat_template = pd_tok_keep(l->t, pd_buf_str(&text));
    }
    double max = pd_json_f64(f->config, "model_max_length", 0);
    l->t->max_length = max > 0 && max < 1e9 ? (int64_t)max : 0;
out:
    pd_buf_release(&text);
    pd_free(jinja);
    return rc;
}

/* Without a tokenizer.json what it would say is gathered from several files. */
static enum pd_rc read_bare(struct pd_tok_reader *l, const struct folder *f)
{
    enum pd_rc rc = PD_OK;
    struct pd_tokenizer *t = l->t;
    int32_t top = -1;
    char *model = pd_xasprintf("%s/tokenizer.model", f->dir);
    char *vocab = pd_xasprintf("%s/vocab.json", f->dir);
    char *merges = pd_xasprintf("%s/merges.txt", f->dir);
    PD_TRY(each_added(l, f, &top));
    if (pd_fs_exists(model)) {
        PD_TRY(read_sentencepiece(l, f, top, model));
    } else if (pd_fs_exists(vocab) && pd_fs_exists(merges)) {
        PD_TRY(read_vocab_merges(l, f, top, vocab, merges));
    } else {
        rc = PD_FAIL(l->err, PD_NOTFOUND,
                     "%s: none of tokenizer.json, tokenizer.model, and vocab.json with merges.txt "
                     "is there",
                     f->dir);
        goto out;
    }
    size_t own = t->n_added;
    PD_TRY(each_added(l, f, NULL));
    for (size_t i = own; t->bpe.pieces && i < t->n_added; i++)
        t->added[i].normalized = false; /* matched before SentencePiece sees the text */
    mark_special(t, f, true);
    PD_TRY(read_side_files(l, f));
    if (t->eos < 0 && !t->bpe.pieces) { /* the bare files of GPT-2 */
        struct pd_str eot = PD_STR("<|endoftext|>");
        t->bos = t->eos = t->unk = pd_bpe_id(&t->bpe, eot);
        struct pd_added a = {.text = eot, .id = t->eos, .special = true};
        if (t->eos >= 0)
            pd_tok_add_added(t, &a, true);
    }
out:
    pd_free(model);
    pd_free(vocab);
    pd_free(merges);
    return rc;
}

enum pd_rc pd_tokenizer_open_dir(struct pd_tokenizer **out, const char *dir, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct json_object *root = NULL;
    struct pd_tokenizer *t = pd_tok_new();
    char *json = pd_xasprintf("%s/tokenizer.json", dir);
    bool from_json = pd_fs_exists(json);
    struct pd_tok_reader l = {t, from_json ? json : dir, err};
    struct folder f = {.dir = dir};
    t->dir = pd_xstrdup(dir);
    PD_TRY(open_folder(&f, dir, err));
    if (from_json) {
        PD_TRY(pd_json_read_file(json, PD_TOK_MAX_JSON, &root, err));
        PD_TRY(pd_tok_read_json(&l, root));
        mark_special(t, &f, false);
        PD_TRY(read_side_files(&l, &f));
    } else {
        PD_TRY(read_bare(&l, &f));
    }
    PD_TRY(pd_tok_finish(t, l.name, err));
    *out = t;
    t = NULL;
out:
    close_folder(&f);
    json_object_put(root);
    pd_tokenizer_free(t);
    pd_free(json);
    return rc;
}
