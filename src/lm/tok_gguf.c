/* Tokenizers from the tokenizer.ggml.* keys of a GGUF file. */
#include "lm/gguf.h"
#include "lm/tok_int.h"

#include <inttypes.h>

enum { TOKEN_UNKNOWN = 2, TOKEN_CONTROL = 3, TOKEN_USER = 4 };

/* tokenizer.ggml.pre -> how words are cut. */
static const struct {
    const char *pre;
    enum pd_words words;
    bool ignore_merges;
} pres[] = {
    {"gpt-2", PD_WORDS_GPT2, false},    {"gpt2", PD_WORDS_GPT2, false},
    {"smollm", PD_WORDS_SMOLLM, false}, {"llama-bpe", PD_WORDS_LLAMA3, true},
    {"llama3", PD_WORDS_LLAMA3, true},  {"llama-v3", PD_WORDS_LLAMA3, true},
    {"qwen2", PD_WORDS_QWEN2, false},
};

static enum pd_rc read_pre(struct pd_tokenizer *t, const struct pd_gguf *g, struct pd_err *err)
{
    struct pd_str pre = pd_gguf_str(g, "tokenizer.ggml.pre");
    if (!pre.ptr)
        pre = pd_str_from("gpt-2"); /* files from before the key existed */
    for (size_t i = 0; i < sizeof pres / sizeof *pres; i++)
        if (pd_str_eqz(pre, pres[i].pre)) {
            t->words = pres[i].words;
            t->bpe.ignore_merges = pres[i].ignore_merges;
            t->nfc = t->words == PD_WORDS_QWEN2;
            return PD_OK;
        }
    return PD_FAIL(err, PD_UNSUPPORTED,
                   "%s: tokenizer.ggml.pre \"%.*s\" is not known; gpt-2, smollm, llama-bpe and "
                   "qwen2 are",
                   g->path, PD_STR_ARG(pre));
}

static enum pd_rc need_strings(const struct pd_gguf *g, const char *key,
                               const struct pd_gguf_kv **kv, struct pd_err *err)
{
    *kv = pd_gguf_get(g, key);
    if (!*kv || (*kv)->type != PD_GGUF_ARR || (*kv)->elem != PD_GGUF_STR)
        return PD_FAIL(err, PD_INVALID, "%s: key %s is missing or not a list of strings", g->path,
                       key);
    return PD_OK;
}

static enum pd_rc read_tokens(struct pd_tokenizer *t, const struct pd_gguf *g, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct pd_gguf_kv *tokens = NULL;
    PD_TRY(need_strings(g, "tokenizer.ggml.tokens", &tokens, err));
    PD_TRY(pd_bpe_init(&t->bpe, (size_t)tokens->n, err));
    const struct pd_gguf_kv *types = pd_gguf_get(g, "tokenizer.ggml.token_type");
    if (types &&
        (types->n != tokens->n || types->elem == PD_GGUF_STR || types->elem == PD_GGUF_ARR ||
         types->elem == PD_GGUF_F32 || types->elem == PD_GGUF_F64)) {
        rc = PD_FAIL(err, PD_INVALID,
                     "%s: tokenizer.ggml.token_type is not a list of %" PRIu64 " integers", g->path,
                     tokens->n);
        goto out;
    }
    const unsigned char *cursor = tokens->at;
    for (uint64_t i = 0; i < tokens->n; i++) {
        struct pd_str text = pd_gguf_next_str(&cursor);
        PD_TRY(pd_bpe_add(&t->bpe, text, (int32_t)i, err));
        int64_t type = types ? pd_gguf_elem_i64(types, i) : 1;
        bool special = type == TOKEN_CONTROL || type == TOKEN_UNKNOWN;
        if ((special || type == TOKEN_USER) && text.len > 0 && t->n_added < 20000) {
            struct pd_added a = {.text = text, .id = (int32_t)i, .special = special};
            pd_tok_add_added(t, &a, false);
        }
    }
out:
    return rc;
}

static enum pd_rc read_merges(struct pd_tokenizer *t, const struct pd_gguf *g, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct pd_gguf_kv *merges = NULL;
    PD_TRY(need_strings(g, "tokenizer.ggml.merges", &merges, err));
    PD_TRY(pd_bpe_reserve_merges(&t->bpe, (size_t)merges->n, err));
    const unsigned char *cursor = merges->at;
    for (uint64_t i = 0; i < merges->n; i++) {
        struct pd_str right = pd_gguf_next_str(&cursor), left;
        if (!pd_str_split(&right, ' ', &left) || right.len == 0) {
            rc = PD_FAIL(err, PD_INVALID, "merge %" PRIu64 " is not two tokens", i);
            goto out;
        }
        PD_TRY(pd_bpe_add_merge(&t->bpe, left, right, (uint32_t)i, err));
    }
out:
    return rc;
}

static int32_t read_id(const struct pd_tokenizer *t, const struct pd_gguf *g, const char *key)
{
    int64_t id = pd_gguf_i64(g, key, -1);
    return id >= 0 && id < t->bpe.n_ids ? (int32_t)id : -1;
}

static void read_ids(struct pd_tokenizer *t, const struct pd_gguf *g)
{
    t->bos = read_id(t, g, "tokenizer.ggml.bos_token_id");
    t->eos = read_id(t, g, "tokenizer.ggml.eos_token_id");
    t->pad = read_id(t, g, "tokenizer.ggml.padding_token_id");
    t->unk = read_id(t, g, "tokenizer.ggml.unknown_token_id");
    if (pd_gguf_bool(g, "tokenizer.ggml.add_bos_token", false) && t->bos >= 0)
        pd_ids_push(&t->prefix, t->bos);
    if (pd_gguf_bool(g, "tokenizer.ggml.add_eos_token", false) && t->eos >= 0)
        pd_ids_push(&t->suffix, t->eos);
    t->chat_template = pd_gguf_str(g, "tokenizer.chat_template");
    t->max_length = 0;
}

enum pd_rc pd_tokenizer_open_gguf(struct pd_tokenizer **out, const struct pd_gguf *g,
                                  struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_tokenizer *t = pd_tok_new();
    struct pd_str model = pd_gguf_str(g, "tokenizer.ggml.model");
    if (!pd_str_eqz(model, "gpt2")) {
        rc = PD_FAIL(err, PD_UNSUPPORTED,
                     "%s: tokenizer.ggml.model \"%.*s\"; byte-level BPE (\"gpt2\") is read",
                     g->path, PD_STR_ARG(model));
        goto out;
    }
    rc = read_tokens(t, g, err);
    if (rc == PD_OK)
        rc = read_merges(t, g, err);
    if (rc != PD_OK) {
        (void)pd_err_prefix(err, "%s", g->path);
        goto out;
    }
    PD_TRY(read_pre(t, g, err));
    read_ids(t, g);
    PD_TRY(pd_tok_finish(t, g->path, err));
    *out = t;
    t = NULL;
out:
    pd_tokenizer_free(t);
    return rc;
}
