/* A tokenizer as tokenizer.ggml.* keys. */
#include "lm/gguf_write.h"
#include "lm/tok_int.h"

static int32_t type_of(const struct pd_tokenizer *t, int32_t id)
{
    struct pd_str text = pd_tokenizer_text(t, id);
    if (!text.ptr)
        return PD_GGUF_UNUSED;
    if (t->bpe.pieces && id == t->bpe.unk)
        return PD_GGUF_UNKNOWN;
    if (t->bpe.pieces && pd_pieces_byte(text) >= 0)
        return PD_GGUF_BYTE;
    for (size_t i = 0; i < t->n_added; i++) /* few */
        if (t->added[i].id == id)
            return t->added[i].special ? PD_GGUF_CONTROL : PD_GGUF_USER;
    return PD_GGUF_NORMAL;
}

/* llama.cpp wants a token for every row of the embedding. */
static void put_tokens(struct pd_gguf_writer *w, const struct pd_tokenizer *t, int32_t n)
{
    pd_gguf_put_array(w, "tokenizer.ggml.tokens", PD_GGUF_STR, (uint64_t)n);
    for (int32_t i = 0; i < n; i++) {
        char pad[32];
        struct pd_str text = pd_tokenizer_text(t, i);
        (void)snprintf(pad, sizeof pad, "[PAD%d]", i);
        pd_gguf_item_str(w, text.ptr ? text : pd_str_from(pad));
    }
    pd_gguf_put_array(w, "tokenizer.ggml.token_type", PD_GGUF_I32, (uint64_t)n);
    for (int32_t i = 0; i < n; i++)
        pd_gguf_item_u32(w,
                         (uint32_t)(pd_tokenizer_text(t, i).ptr ? type_of(t, i) : PD_GGUF_UNUSED));
}

static enum pd_rc put_merges(struct pd_gguf_writer *w, const struct pd_bpe *b, struct pd_err *err)
{
    struct pd_merge *list = pd_bpe_ranked_merges(b, err);
    struct pd_buf text;
    if (!list)
        return PD_NOMEM;
    pd_buf_init(&text, 0);
    pd_gguf_put_array(w, "tokenizer.ggml.merges", PD_GGUF_STR, b->n_merges);
    for (size_t i = 0; i < b->n_merges; i++) {
        pd_buf_clear(&text);
        pd_buf_addstr(&text, b->text[list[i].left]);
        pd_buf_addc(&text, ' ');
        pd_buf_addstr(&text, b->text[list[i].right]);
        pd_gguf_item_str(w, pd_buf_str(&text));
    }
    pd_buf_release(&text);
    pd_free(list);
    return PD_OK;
}

/* SentencePiece has a score a token where BPE has a rank a merge: the better rank, the higher. */
static enum pd_rc put_scores(struct pd_gguf_writer *w, const struct pd_bpe *b, int32_t n_tokens,
                             struct pd_err *err)
{
    struct pd_merge *list = pd_bpe_ranked_merges(b, err);
    float *scores = pd_try_alloc((size_t)n_tokens + 1, sizeof *scores);
    if (!list || !scores) {
        pd_free(list);
        pd_free(scores);
        return PD_FAIL(err, PD_NOMEM, "no memory for %d scores", n_tokens);
    }
    for (size_t i = b->n_merges;
         i-- > 0;) /* the first merge that gives a token is the last to write */
        scores[list[i].id] = -(float)(i + 1);
    pd_gguf_put_array(w, "tokenizer.ggml.scores", PD_GGUF_F32, (uint64_t)n_tokens);
    for (int32_t i = 0; i < n_tokens; i++)
        pd_gguf_item_f32(w, scores[i]);
    pd_free(list);
    pd_free(scores);
    return PD_OK;
}

static void put_id(struct pd_gguf_writer *w, const char *key, int32_t id)
{
    if (id >= 0)
        pd_gguf_put_u32(w, key, (uint32_t)id);
}

static bool has_space_prefix(const struct pd_tokenizer *t)
{
    for (size_t i = 0; i < t->n_norms; i++)
        if (t->norms[i].kind == PD_NORM_PREPEND)
            return true;
    return t->spm ? t->spm->dummy_prefix : t->metaspace && t->prefix_scheme != PD_PREFIX_NEVER;
}

enum pd_rc pd_tokenizer_put_gguf(const struct pd_tokenizer *t, int32_t n_rows,
                                 struct pd_gguf_writer *w, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const char *pre = t->bpe.pieces ? "default" : pd_tok_gguf_pre(t);
    int32_t n = n_rows > pd_tokenizer_size(t) ? n_rows : pd_tokenizer_size(t);
    if (!pre)
        return PD_FAIL(err, PD_UNSUPPORTED,
                       "llama.cpp has no name for how this tokenizer cuts words; the model can be "
                       "written as a Hugging Face folder");
    pd_gguf_put_strz(w, "tokenizer.ggml.model", t->bpe.pieces ? "llama" : "gpt2");
    pd_gguf_put_strz(w, "tokenizer.ggml.pre", pre);
    put_tokens(w, t, n);
    if (t->bpe.pieces) {
        PD_TRY(put_scores(w, &t->bpe, n, err));
        pd_gguf_put_bool(w, "tokenizer.ggml.add_space_prefix", has_space_prefix(t));
    } else {
        PD_TRY(put_merges(w, &t->bpe, err));
    }
    put_id(w, "tokenizer.ggml.bos_token_id", t->bos);
    put_id(w, "tokenizer.ggml.eos_token_id", t->eos);
    put_id(w, "tokenizer.ggml.unknown_token_id", t->unk);
    put_id(w, "tokenizer.ggml.padding_token_id", t->pad);
    pd_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", t->prefix.len > 0);
    pd_gguf_put_bool(w, "tokenizer.ggml.add_eos_token", t->suffix.len > 0);
    if (t->chat_template.ptr)
        pd_gguf_put_str(w, "tokenizer.chat_template", t->chat_template);
out:
    return rc;
}
