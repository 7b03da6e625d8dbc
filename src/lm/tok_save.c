/* Writing tokenizers: files copied where they exist, made from the tables otherwise. */
#include "lm/tok_int.h"

#include "base/fs.h"
#include "base/json.h"

#include <stdlib.h>

enum { MAX_COPY = 256 << 20 };

const char *const pd_words_names[PD_WORDS_COUNT] = {
    [PD_WORDS_GPT2] = "gpt-2",
    [PD_WORDS_SMOLLM] = "smollm (digits alone)",
    [PD_WORDS_LLAMA3] = "llama 3",
    [PD_WORDS_QWEN2] = "qwen 2",
};

/* ---- tokenizer.json ---- */

static void write_byte_level(struct pd_jw *w, bool add_prefix_space, bool use_regex)
{
    pd_jw_object(w);
    pd_jw_kstrz(w, "type", "ByteLevel");
    pd_jw_kbool(w, "add_prefix_space", add_prefix_space);
    pd_jw_kbool(w, "trim_offsets", true);
    pd_jw_kbool(w, "use_regex", use_regex);
    pd_jw_object_end(w);
}

static void write_first_step(struct pd_jw *w, enum pd_words words)
{
    pd_jw_object(w);
    if (words == PD_WORDS_SMOLLM) {
        pd_jw_kstrz(w, "type", "Digits");
        pd_jw_kbool(w, "individual_digits", true);
    } else {
        pd_jw_kstrz(w, "type", "Split");
        pd_jw_key(w, "pattern");
        pd_jw_object(w);
        pd_jw_kstrz(w, "Regex", words == PD_WORDS_LLAMA3 ? PD_REGEX_LLAMA3 : PD_REGEX_QWEN2);
        pd_jw_object_end(w);
        pd_jw_kstrz(w, "behavior", "Isolated");
        pd_jw_kbool(w, "invert", false);
    }
    pd_jw_object_end(w);
}

static void write_pre_tokenizer(struct pd_jw *w, const struct pd_tokenizer *t)
{
    if (t->words == PD_WORDS_GPT2) {
        write_byte_level(w, t->add_prefix_space, true);
        return;
    }
    pd_jw_object(w);
    pd_jw_kstrz(w, "type", "Sequence");
    pd_jw_key(w, "pretokenizers");
    pd_jw_array(w);
    write_first_step(w, t->words);
    write_byte_level(w, false, t->words == PD_WORDS_SMOLLM);
    pd_jw_array_end(w);
    pd_jw_object_end(w);
}

static void write_template_piece(struct pd_jw *w, const char *kind, struct pd_str id, int type_id)
{
    pd_jw_object(w);
    pd_jw_key(w, kind);
    pd_jw_object(w);
    pd_jw_kstr(w, "id", id);
    pd_jw_ki64(w, "type_id", type_id);
    pd_jw_object_end(w);
    pd_jw_object_end(w);
}

static void write_template(struct pd_jw *w, const struct pd_tokenizer *t, bool pair)
{
    pd_jw_array(w);
    for (int part = 0; part < (pair ? 2 : 1); part++) {
        for (size_t i = 0; i < t->prefix.len; i++)
            write_template_piece(w, "SpecialToken", pd_tokenizer_text(t, t->prefix.ptr[i]), part);
        write_template_piece(w, "Sequence", part ? PD_STR("B") : PD_STR("A"), part);
        for (size_t i = 0; i < t->suffix.len; i++)
            write_template_piece(w, "SpecialToken", pd_tokenizer_text(t, t->suffix.ptr[i]), part);
    }
    pd_jw_array_end(w);
}

static void write_template_token(struct pd_jw *w, const struct pd_tokenizer *t, int32_t id)
{
    struct pd_str text = pd_tokenizer_text(t, id);
    char *key = pd_xstrndup(text.ptr, text.len);
    pd_jw_key(w, key);
    pd_free(key);
    pd_jw_object(w);
    pd_jw_kstr(w, "id", text);
    pd_jw_key(w, "ids");
    pd_jw_array(w);
    pd_jw_i64(w, id);
    pd_jw_array_end(w);
    pd_jw_key(w, "tokens");
    pd_jw_array(w);
    pd_jw_str(w, text);
    pd_jw_array_end(w);
    pd_jw_object_end(w);
}

static void write_post_processor(struct pd_jw *w, const struct pd_tokenizer *t)
{
    if (t->prefix.len == 0 && t->suffix.len == 0) {
        write_byte_level(w, true, true); /* offsets only: adds nothing */
        return;
    }
    pd_jw_object(w);
    pd_jw_kstrz(w, "type", "TemplateProcessing");
    pd_jw_key(w, "single");
    write_template(w, t, false);
    pd_jw_key(w, "pair");
    write_template(w, t, true);
    pd_jw_key(w, "special_tokens");
    pd_jw_object(w);
    if (t->prefix.len > 0)
        write_template_token(w, t, t->prefix.ptr[0]);
    if (t->suffix.len > 0 && (t->prefix.len == 0 || t->suffix.ptr[0] != t->prefix.ptr[0]))
        write_template_token(w, t, t->suffix.ptr[0]);
    pd_jw_object_end(w);
    pd_jw_object_end(w);
}

static void write_added_flags(struct pd_jw *w, const struct pd_added *a)
{
    pd_jw_kstr(w, "content", a->text);
    pd_jw_kbool(w, "single_word", a->single_word);
    pd_jw_kbool(w, "lstrip", a->lstrip);
    pd_jw_kbool(w, "rstrip", a->rstrip);
    pd_jw_kbool(w, "normalized", a->normalized);
    pd_jw_kbool(w, "special", a->special);
}

static int by_rank(const void *a, const void *b)
{
    const struct pd_merge *x = a, *y = b;
    return (x->rank > y->rank) - (x->rank < y->rank);
}

static enum pd_rc write_merges(struct pd_jw *w, const struct pd_bpe *b, struct pd_err *err)
{
    size_t n = 0;
    struct pd_merge *list = pd_try_alloc(b->n_merges + 1, sizeof *list);
    if (!list)
        return PD_FAIL(err, PD_NOMEM, "no memory for %zu merges", b->n_merges);
    for (size_t i = 0; i < b->n_merge_slots; i++)
        if (b->merges[i].left != UINT32_MAX)
            list[n++] = b->merges[i];
    qsort(list, n, sizeof *list, by_rank);
    pd_jw_array(w);
    for (size_t i = 0; i < n; i++) {
        pd_jw_array(w);
        pd_jw_str(w, b->text[list[i].left]);
        pd_jw_str(w, b->text[list[i].right]);
        pd_jw_array_end(w);
    }
    pd_jw_array_end(w);
    pd_free(list);
    return PD_OK;
}

/* Keys of the writer are plain literals; a token may hold anything. */
static void write_vocab(struct pd_jw *w, const struct pd_bpe *b)
{
    struct json_object *o = json_object_new_object();
    for (int32_t i = 0; i < b->n_ids; i++)
        if (b->text[i].ptr) {
            char *key = pd_xstrndup(b->text[i].ptr, b->text[i].len);
            json_object_object_add_ex(o, key, json_object_new_int(i), JSON_C_OBJECT_ADD_KEY_IS_NEW);
            pd_free(key);
        }
    pd_jw_tree(w, o);
    json_object_put(o);
}

static enum pd_rc write_model(struct pd_jw *w, const struct pd_tokenizer *t, struct pd_err *err)
{
    static const char *const absent[] = {"dropout", "unk_token", "continuing_subword_prefix",
                                         "end_of_word_suffix"};
    pd_jw_object(w);
    pd_jw_kstrz(w, "type", "BPE");
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) {
        pd_jw_key(w, absent[i]);
        pd_jw_null(w);
    }
    pd_jw_kbool(w, "fuse_unk", false);
    pd_jw_kbool(w, "byte_fallback", false);
    pd_jw_kbool(w, "ignore_merges", t->bpe.ignore_merges);
    pd_jw_key(w, "vocab");
    write_vocab(w, &t->bpe);
    pd_jw_key(w, "merges");
    enum pd_rc rc = write_merges(w, &t->bpe, err);
    pd_jw_object_end(w);
    return rc;
}

static enum pd_rc write_tokenizer_json(struct pd_jw *w, const struct pd_tokenizer *t,
                                       struct pd_err *err)
{
    pd_jw_object(w);
    pd_jw_kstrz(w, "version", "1.0");
    pd_jw_key(w, "truncation");
    pd_jw_null(w);
    pd_jw_key(w, "padding");
    pd_jw_null(w);
    pd_jw_key(w, "added_tokens");
    pd_jw_array(w);
    for (size_t i = 0; i < t->n_added; i++) {
        pd_jw_object(w);
        pd_jw_ki64(w, "id", t->added[i].id);
        write_added_flags(w, &t->added[i]);
        pd_jw_object_end(w);
    }
    pd_jw_array_end(w);
    pd_jw_key(w, "normalizer");
    if (t->nfc) {
        pd_jw_object(w);
        pd_jw_kstrz(w, "type", "NFC");
        pd_jw_object_end(w);
    } else {
        pd_jw_null(w);
    }
    pd_jw_key(w, "pre_tokenizer");
    write_pre_tokenizer(w, t);
    pd_jw_key(w, "post_processor");
    write_post_processor(w, t);
    pd_jw_key(w, "decoder");
    write_byte_level(w, true, true);
    pd_jw_key(w, "model");
    enum pd_rc rc = write_model(w, t, err);
    pd_jw_object_end(w);
    return rc;
}

/* ---- tokenizer_config.json, special_tokens_map.json ---- */

static void write_named(struct pd_jw *w, const struct pd_tokenizer *t, const char *key, int32_t id)
{
    struct pd_str text = pd_tokenizer_text(t, id);
    if (text.ptr)
        pd_jw_kstr(w, key, text);
}

static void write_names(struct pd_jw *w, const struct pd_tokenizer *t)
{
    write_named(w, t, "bos_token", t->bos);
    write_named(w, t, "eos_token", t->eos);
    write_named(w, t, "unk_token", t->unk);
    write_named(w, t, "pad_token", t->pad);
}

static void write_config(struct pd_jw *w, const struct pd_tokenizer *t)
{
    pd_jw_object(w);
    pd_jw_kstrz(w, "tokenizer_class",
                "PreTrainedTokenizerFast"); /* reads tokenizer.json as it is */
    pd_jw_kbool(w, "add_prefix_space", t->add_prefix_space);
    pd_jw_kbool(w, "clean_up_tokenization_spaces", false);
    write_names(w, t);
    if (t->max_length > 0)
        pd_jw_ki64(w, "model_max_length", t->max_length);
    pd_jw_key(w, "added_tokens_decoder");
    pd_jw_object(w);
    for (size_t i = 0; i < t->n_added; i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "%d", t->added[i].id);
        pd_jw_key(w, id);
        pd_jw_object(w);
        write_added_flags(w, &t->added[i]);
        pd_jw_object_end(w);
    }
    pd_jw_object_end(w);
    if (t->chat_template.ptr)
        pd_jw_kstr(w, "chat_template", t->chat_template);
    pd_jw_object_end(w);
}

static enum pd_rc put_file(const char *dir, const char *name, struct pd_buf *b, struct pd_err *err)
{
    char *path = pd_xasprintf("%s/%s", dir, name);
    enum pd_rc rc = b->failed ? PD_FAIL(err, PD_NOMEM, "%s: no memory to write it", path)
                              : pd_fs_write_atomic(path, pd_buf_str(b), 0644, err);
    pd_free(path);
    return rc;
}

static enum pd_rc save_made(const struct pd_tokenizer *t, const char *dir, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_buf b;
    struct pd_jw w;
    pd_buf_init(&b, MAX_COPY);
    pd_jw_init(&w, &b);
    PD_TRY(write_tokenizer_json(&w, t, err));
    PD_TRY(put_file(dir, "tokenizer.json", &b, err));
    pd_buf_clear(&b);
    pd_jw_init(&w, &b);
    write_config(&w, t);
    PD_TRY(put_file(dir, "tokenizer_config.json", &b, err));
    pd_buf_clear(&b);
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    write_names(&w, t);
    pd_jw_object_end(&w);
    PD_TRY(put_file(dir, "special_tokens_map.json", &b, err));
out:
    pd_buf_release(&b);
    return rc;
}

static enum pd_rc copy_file(const char *from, const char *to, const char *name, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_buf b;
    char *path = pd_xasprintf("%s/%s", from, name);
    pd_buf_init(&b, MAX_COPY);
    if (pd_fs_exists(path)) {
        PD_TRY(pd_fs_read(path, MAX_COPY, &b, err));
        PD_TRY(put_file(to, name, &b, err));
    }
out:
    pd_buf_release(&b);
    pd_free(path);
    return rc;
}

static bool same_folder(const char *a, const char *b)
{
    char *x = realpath(a, NULL), *y = realpath(b, NULL);
    bool same = x && y && strcmp(x, y) == 0;
    free(x);
    free(y);
    return same;
}

enum pd_rc pd_tokenizer_save(const struct pd_tokenizer *t, const char *dir, struct pd_err *err)
{
    static const char *const files[] = {
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "merges.txt",
        "chat_template.jinja",
    };
    enum pd_rc rc = PD_OK;
    if (!t->dir)
        return save_made(t, dir, err);
    if (same_folder(t->dir, dir))
        return PD_OK;
    if (!pd_fs_is_dir(t->dir)) /* gone since: the tables still know everything */
        return save_made(t, dir, err);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        PD_TRY(copy_file(t->dir, dir, files[i], err));
out:
    return rc;
}
