/* Writing tokenizers: files copied where they exist, made from the tables otherwise. */
#include "lm/tok_read.h"

#include "base/fs.h"

enum { MAX_COPY = 256 << 20 };

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
        pd_tok_write_added_flags(w, &t->added[i]);
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
    if (t->spm && (t->spm->n_units > 0 || t->spm->squeeze || !t->spm->every_piece))
        return PD_FAIL(err, PD_UNSUPPORTED,
                       "%s: the tokenizer.model it came from is gone, and its normaliser cannot be "
                       "written otherwise",
                       dir);
    pd_buf_init(&b, MAX_COPY);
    pd_jw_init(&w, &b);
    PD_TRY(pd_tok_write_json(&w, t, err));
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

enum pd_rc pd_tokenizer_can_save(const struct pd_tokenizer *t, struct pd_err *err)
{
    struct pd_buf b;
    struct pd_jw w;
    if (t->dir) /* its files are copied */
        return PD_OK;
    pd_buf_init(&b, MAX_COPY);
    pd_jw_init(&w, &b);
    enum pd_rc rc = pd_tok_write_json(&w, t, err);
    pd_buf_release(&b);
    return rc;
}

enum pd_rc pd_tokenizer_save(const struct pd_tokenizer *t, const char *dir, struct pd_err *err)
{
    static const char *const files[] = {PD_TOKENIZER_FILES};
    enum pd_rc rc = PD_OK;
    if (!t->dir || !pd_fs_is_dir(t->dir)) /* gone since: the tables still know everything */
        return save_made(t, dir, err);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        PD_TRY(copy_file(t->dir, dir, files[i], err));
out:
    return rc;
}
