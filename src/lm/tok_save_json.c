/* Writing a tokenizer.json from the tables. */
#include "lm/tok_read.h"

static void write_byte_level(struct pd_jw *w, bool add_prefix_space, bool use_regex)
{
    pd_jw_object(w);
    pd_jw_kstrz(w, "type", "ByteLevel");
    pd_jw_kbool(w, "add_prefix_space", add_prefix_space);
    pd_jw_kbool(w, "trim_offsets", true);
    pd_jw_kbool(w, "use_regex", use_regex);
    pd_jw_object_end(w);
}

static void write_split(struct pd_jw *w, struct pd_str regex)
{
    pd_jw_kstrz(w, "type", "Split");
    pd_jw_key(w, "pattern");
    pd_jw_object(w);
    pd_jw_kstr(w, "Regex", regex);
    pd_jw_object_end(w);
    pd_jw_kstrz(w, "behavior", "Isolated");
    pd_jw_kbool(w, "invert", false);
}

static void write_metaspace(struct pd_jw *w, const struct pd_tokenizer *t, bool split)
{
    static const char *const names[] = {"never", "first", "always"};
    pd_jw_object(w);
    pd_jw_kstrz(w, "type", "Metaspace");
    pd_jw_kstrz(w, "replacement", PD_SPACE);
    pd_jw_kstrz(w, "prepend_scheme", names[t->prefix_scheme]);
    pd_jw_kbool(w, "split", split);
    pd_jw_object_end(w);
}

static void write_step(struct pd_jw *w, const struct pd_step *step)
{
    pd_jw_object(w);
    switch (step->kind) {
    case PD_STEP_LLAMA3:
        write_split(w, PD_STR(PD_REGEX_LLAMA3));
        break;
    case PD_STEP_QWEN2:
        write_split(w, PD_STR(PD_REGEX_QWEN2));
        break;
    case PD_STEP_THREES:
        write_split(w, PD_STR(PD_REGEX_THREES));
        break;
    case PD_STEP_REGEX:
        write_split(w, step->pattern);
        break;
    case PD_STEP_PUNCT_RUNS:
        pd_jw_kstrz(w, "type", "Punctuation");
        pd_jw_kstrz(w, "behavior", "Contiguous");
        break;
    default:
        pd_jw_kstrz(w, "type", "Digits");
        pd_jw_kbool(w, "individual_digits", step->kind == PD_STEP_DIGITS);
    }
    pd_jw_object_end(w);
}

static void write_steps(struct pd_jw *w, const struct pd_tokenizer *t)
{
    bool cut = t->bpe.pieces; /* whether what turns characters to bytes, or marks spaces, stands */
    if (t->metaspace)
        write_metaspace(w, t, t->steps.n > 0 && t->steps.v[0].kind == PD_STEP_SPACE_LEADS);
    for (size_t i = 0; i < t->steps.n; i++) {
        const struct pd_step *step = &t->steps.v[i];
        if (step->kind == PD_STEP_GPT2)
            write_byte_level(w, t->add_prefix_space, true);
        else if (step->kind != PD_STEP_SPACE_LEADS)
            write_step(w, step);
        cut = cut || step->kind == PD_STEP_GPT2;
    }
    if (!cut)
        write_byte_level(w, t->add_prefix_space, false);
}

static void write_pre_tokenizer(struct pd_jw *w, const struct pd_tokenizer *t)
{
    bool none = t->bpe.pieces && !t->metaspace && t->steps.n == 0;
    if (none) {
        pd_jw_null(w);
        return;
    }
    pd_jw_object(w);
    pd_jw_kstrz(w, "type", "Sequence");
    pd_jw_key(w, "pretokenizers");
    pd_jw_array(w);
    write_steps(w, t);
    pd_jw_array_end(w);
    pd_jw_object_end(w);
}

static void write_replace(struct pd_jw *w, struct pd_str from, struct pd_str to)
{
    pd_jw_object(w);
    pd_jw_kstrz(w, "type", "Replace");
    pd_jw_key(w, "pattern");
    pd_jw_object(w);
    pd_jw_kstr(w, "String", from);
    pd_jw_object_end(w);
    pd_jw_kstr(w, "content", to);
    pd_jw_object_end(w);
}

static void write_type(struct pd_jw *w, const char *type)
{
    pd_jw_object(w);
    pd_jw_kstrz(w, "type", type);
    pd_jw_object_end(w);
}

static void write_norm(struct pd_jw *w, const struct pd_norm_step *norm)
{
    if (norm->kind == PD_NORM_NFC) {
        write_type(w, "NFC");
    } else if (norm->kind == PD_NORM_REPLACE) {
        write_replace(w, norm->from, norm->to);
    } else {
        pd_jw_object(w);
        pd_jw_kstrz(w, "type", "Prepend");
        pd_jw_kstr(w, "prepend", norm->to);
        pd_jw_object_end(w);
    }
}

/* A SentencePiece normaliser without a table, in the words of tokenizers; a save of any other is
 * refused before it comes here. */
static size_t spm_norms(const struct pd_spm_norm *m, struct pd_norm_step v[2])
{
    size_t n = 0;
    if (m->dummy_prefix)
        v[n++] = (struct pd_norm_step){PD_NORM_PREPEND, PD_STR(""), PD_STR(PD_SPACE)};
    v[n++] = (struct pd_norm_step){PD_NORM_REPLACE, PD_STR(" "), PD_STR(PD_SPACE)};
    return n;
}

static void write_normalizer(struct pd_jw *w, const struct pd_tokenizer *t)
{
    struct pd_norm_step two[2];
    const struct pd_norm_step *v = t->spm ? two : t->norms;
    size_t n = t->spm ? spm_norms(t->spm, two) : t->n_norms;
    if (n == 0) {
        pd_jw_null(w);
        return;
    }
    pd_jw_object(w);
    pd_jw_kstrz(w, "type", "Sequence");
    pd_jw_key(w, "normalizers");
    pd_jw_array(w);
    for (size_t i = 0; i < n; i++)
        write_norm(w, &v[i]);
    pd_jw_array_end(w);
    pd_jw_object_end(w);
}

static void write_decoder(struct pd_jw *w, const struct pd_tokenizer *t)
{
    if (!t->bpe.pieces) {
        write_byte_level(w, true, true);
        return;
    }
    if (t->metaspace && !t->join.byte_runs) {
        write_metaspace(w, t, true);
        return;
    }
    pd_jw_object(w);
    pd_jw_kstrz(w, "type", "Sequence");
    pd_jw_key(w, "decoders");
    pd_jw_array(w);
    write_replace(w, PD_STR(PD_SPACE), PD_STR(" "));
    if (t->join.byte_runs)
        write_type(w, "ByteFallback");
    write_type(w, "Fuse");
    if (t->join.strip) {
        pd_jw_object(w);
        pd_jw_kstrz(w, "type", "Strip");
        pd_jw_kstrz(w, "content", " ");
        pd_jw_ki64(w, "start", 1);
        pd_jw_ki64(w, "stop", 0);
        pd_jw_object_end(w);
    }
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
    if (t->prefix.len == 0 && t->suffix.len == 0 && t->bpe.pieces) {
        pd_jw_null(w);
        return;
    }
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

void pd_tok_write_added_flags(struct pd_jw *w, const struct pd_added *a)
{
    pd_jw_kstr(w, "content", a->text);
    pd_jw_kbool(w, "single_word", a->single_word);
    pd_jw_kbool(w, "lstrip", a->lstrip);
    pd_jw_kbool(w, "rstrip", a->rstrip);
    pd_jw_kbool(w, "normalized", a->normalized);
    pd_jw_kbool(w, "special", a->special);
}

static enum pd_rc write_merges(struct pd_jw *w, const struct pd_bpe *b, struct pd_err *err)
{
    struct pd_merge *list = pd_bpe_ranked_merges(b, err);
    if (!list)
        return PD_NOMEM;
    pd_jw_array(w);
    for (size_t i = 0; i < b->n_merges; i++) {
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
    static const char *const absent[] = {"dropout", "continuing_subword_prefix",
                                         "end_of_word_suffix"};
    struct pd_str unk = pd_tokenizer_text(t, t->bpe.unk);
    pd_jw_object(w);
    pd_jw_kstrz(w, "type", "BPE");
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) {
        pd_jw_key(w, absent[i]);
        pd_jw_null(w);
    }
    pd_jw_key(w, "unk_token");
    if (unk.ptr)
        pd_jw_str(w, unk);
    else
        pd_jw_null(w);
    pd_jw_kbool(w, "fuse_unk", t->bpe.fuse_unk);
    pd_jw_kbool(w, "byte_fallback", t->bpe.byte_fallback);
    pd_jw_kbool(w, "ignore_merges", t->bpe.ignore_merges);
    pd_jw_key(w, "vocab");
    write_vocab(w, &t->bpe);
    pd_jw_key(w, "merges");
    enum pd_rc rc = write_merges(w, &t->bpe, err);
    pd_jw_object_end(w);
    return rc;
}

enum pd_rc pd_tok_write_json(struct pd_jw *w, const struct pd_tokenizer *t, struct pd_err *err)
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
        pd_tok_write_added_flags(w, &t->added[i]);
        pd_jw_object_end(w);
    }
    pd_jw_array_end(w);
    pd_jw_key(w, "normalizer");
    write_normalizer(w, t);
    pd_jw_key(w, "pre_tokenizer");
    write_pre_tokenizer(w, t);
    pd_jw_key(w, "post_processor");
    write_post_processor(w, t);
    pd_jw_key(w, "decoder");
    write_decoder(w, t);
    pd_jw_key(w, "model");
    enum pd_rc rc = write_model(w, t, err);
    pd_jw_object_end(w);
    return rc;
}
