/* Tokenizers from the tokenizer.ggml.* keys of a GGUF file. */
#include "lm/gguf.h"
#include "lm/tok_int.h"

#include <inttypes.h>

/* tokenizer.ggml.pre -> how words are cut, as the family's tokenizer.json says it. */
enum recipe { GPT2, GPT2_NFC, SMOLLM, FALCON, LLAMA3, QWEN2 };
static const struct {
    const char *pre;
    enum recipe recipe;
    bool ignore_merges;
} pres[] = {
    {"gpt-2", GPT2, false},        {"gpt2", GPT2, false},
    {"phi-2", GPT2, false},        {"mpt", GPT2_NFC, false},
    {"olmo", GPT2_NFC, false},     {"gptneox", GPT2_NFC, false},
    {"gpt-neox", GPT2_NFC, false}, {"dbrx", LLAMA3, false},
    {"smaug-bpe", LLAMA3, false},  {"smollm", SMOLLM, false},
    {"falcon", FALCON, false},     {"llama-bpe", LLAMA3, true},
    {"llama3", LLAMA3, true},      {"llama-v3", LLAMA3, true},
    {"qwen2", QWEN2, false},       {"deepseek-r1-qwen", QWEN2, false},
};

static const struct {
    bool nfc;
    enum pd_step_kind steps[4];
    size_t n;
} recipes[] = {
    [GPT2] = {false, {PD_STEP_GPT2}, 1},
    [GPT2_NFC] = {true, {PD_STEP_GPT2}, 1},
    [SMOLLM] = {false, {PD_STEP_DIGITS, PD_STEP_GPT2}, 2},
    [FALCON] = {false, {PD_STEP_PUNCT_RUNS, PD_STEP_GPT2, PD_STEP_BYTE_DIGITS, PD_STEP_THREES}, 4},
    [LLAMA3] = {false, {PD_STEP_LLAMA3}, 1},
    [QWEN2] = {true, {PD_STEP_QWEN2}, 1},
};

static bool is_recipe(const struct pd_tokenizer *t, enum recipe r)
{
    bool same = t->steps.n == recipes[r].n && t->n_norms == (size_t)recipes[r].nfc &&
                (t->n_norms == 0 || t->norms[0].kind == PD_NORM_NFC);
    for (size_t i = 0; same && i < t->steps.n; i++)
        same = t->steps.v[i].kind == recipes[r].steps[i];
    return same;
}

const char *pd_tok_gguf_pre(const struct pd_tokenizer *t)
{
    for (size_t i = 0; i < sizeof pres / sizeof *pres; i++)
        if (is_recipe(t, pres[i].recipe) && pres[i].ignore_merges == t->bpe.ignore_merges)
            return t->add_prefix_space ? NULL : pres[i].pre;
    return NULL;
}

static enum pd_rc unknown_pre(const struct pd_gguf *g, struct pd_str pre, struct pd_err *err)
{
    char known[300];
    size_t n = 0;
    for (size_t i = 0; i < sizeof pres / sizeof *pres && n < sizeof known; i++)
        n += (size_t)snprintf(known + n, sizeof known - n, " %s", pres[i].pre);
    return PD_FAIL(err, PD_UNSUPPORTED, "%s: tokenizer.ggml.pre \"%.*s\" is not known; known:%s",
                   g->path, PD_STR_ARG(pre), known);
}

static enum pd_rc read_pre(struct pd_tokenizer *t, const struct pd_gguf *g, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_str pre = pd_gguf_str(g, "tokenizer.ggml.pre");
    if (!pre.ptr || pd_str_eqz(pre, "default"))
        pre = PD_STR("gpt-2"); /* files from before the key existed */
    size_t i = 0, n = sizeof pres / sizeof *pres;
    while (i < n && !pd_str_eqz(pre, pres[i].pre))
        i++;
    if (i == n)
        return unknown_pre(g, pre, err);
    t->bpe.ignore_merges = pres[i].ignore_merges;
    if (recipes[pres[i].recipe].nfc)
        t->norms[t->n_norms++] = (struct pd_norm_step){.kind = PD_NORM_NFC};
    for (size_t k = 0; k < recipes[pres[i].recipe].n; k++)
        PD_TRY(pd_steps_add(&t->steps, recipes[pres[i].recipe].steps[k], PD_STR(""), err));
out:
    return rc;
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

static enum pd_rc read_tokens(struct pd_tokenizer *t, const struct pd_gguf *g, bool pieces,
                              struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct pd_gguf_kv *tokens = NULL;
    PD_TRY(need_strings(g, "tokenizer.ggml.tokens", &tokens, err));
    PD_TRY(pd_bpe_init(&t->bpe, (size_t)tokens->n, err));
    t->bpe.pieces = pieces;
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
        int64_t type = types ? pd_gguf_elem_i64(types, i) : PD_GGUF_NORMAL;
        bool special = type == PD_GGUF_CONTROL || type == PD_GGUF_UNKNOWN;
        bool added = (special || type == PD_GGUF_USER) && text.len > 0 && t->n_added < 20000;
        /* cut out of a text, part of a character would leave the other part behind */
        if ((added || pieces) && pd_utf8_valid_prefix(text) != text.len)
            return PD_FAIL(err, PD_INVALID, "token %" PRIu64 " is not UTF-8", i);
        if (added) {
            struct pd_added a = {.text = text, .id = (int32_t)i, .special = special};
            pd_tok_add_added(t, &a, false);
        }
        if (pieces) {
            t->bpe.beyond[i] = special || type == PD_GGUF_USER || type == PD_GGUF_BYTE;
            if (type == PD_GGUF_UNKNOWN && t->bpe.unk < 0)
                t->bpe.unk = (int32_t)i;
        }
    }
out:
    return rc;
}

/* tokenizer.ggml.model "llama": SentencePiece's BPE by scores, as llama.cpp runs it. */
static enum pd_rc read_llama(struct pd_tokenizer *t, const struct pd_gguf *g, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    float *scores = NULL;
    const struct pd_gguf_kv *list = pd_gguf_get(g, "tokenizer.ggml.scores");
    PD_TRY(read_tokens(t, g, true, err));
    if (!list || list->type != PD_GGUF_ARR || list->elem != PD_GGUF_F32 ||
        list->n != (uint64_t)t->bpe.n_ids) {
        rc = PD_FAIL(err, PD_INVALID, "tokenizer.ggml.scores is not a list of %d floats",
                     t->bpe.n_ids);
        goto out;
    }
    if (!(scores = pd_try_alloc(list->n + 1, sizeof *scores))) {
        rc = PD_FAIL(err, PD_NOMEM, "no memory for %" PRIu64 " scores", list->n);
        goto out;
    }
    memcpy(scores, list->at, list->n * sizeof *scores);
    PD_TRY(pd_pieces_merges(&t->bpe, scores, err));
    t->bpe.byte_fallback = true;
    t->bpe.fuse_unk = true;
    if (pd_gguf_bool(g, "tokenizer.ggml.add_space_prefix", true)) {
        t->norms[t->n_norms++] =
            (struct pd_norm_step){PD_NORM_PREPEND, PD_STR(""), PD_STR(PD_SPACE)};
        t->join.strip = true;
    }
    t->norms[t->n_norms++] = (struct pd_norm_step){PD_NORM_REPLACE, PD_STR(" "), PD_STR(PD_SPACE)};
    t->join.byte_runs = true;
out:
    pd_free(scores);
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
    if (pd_gguf_bool(g, "tokenizer.ggml.add_bos_token", t->bpe.pieces) && t->bos >= 0)
        pd_ids_push(&t->prefix, t->bos);
    if (pd_gguf_bool(g, "tokenizer.ggml.add_eos_token", false) && t->eos >= 0)
        pd_ids_push(&t->suffix, t->eos);
    t->chat_template = pd_gguf_str(g, "tokenizer.chat_template");
    t->max_length = 0;
}

/* tokenizer.ggml.model "gpt2": byte-level BPE. */
static enum pd_rc read_gpt2(struct pd_tokenizer *t, const struct pd_gguf *g, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    PD_TRY(read_tokens(t, g, false, err));
    PD_TRY(read_merges(t, g, err));
out:
    return rc;
}

enum pd_rc pd_tokenizer_open_gguf(struct pd_tokenizer **out, const struct pd_gguf *g,
                                  struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_tokenizer *t = pd_tok_new();
    struct pd_str model = pd_gguf_str(g, "tokenizer.ggml.model");
    bool llama = pd_str_eqz(model, "llama");
    if (!llama && !pd_str_eqz(model, "gpt2")) {
        rc = PD_FAIL(err, PD_UNSUPPORTED,
                     "%s: tokenizer.ggml.model \"%.*s\"; \"gpt2\" (byte-level BPE) and \"llama\" "
                     "(SentencePiece BPE) are read",
                     g->path, PD_STR_ARG(model));
        goto out;
    }
    rc = llama ? read_llama(t, g, err) : read_gpt2(t, g, err);
    if (rc != PD_OK) {
        (void)pd_err_prefix(err, "%s", g->path);
        goto out;
    }
    if (!llama)
        PD_TRY(read_pre(t, g, err));
    read_ids(t, g);
    PD_TRY(pd_tok_finish(t, g->path, err));
    *out = t;
    t = NULL;
out:
    pd_tokenizer_free(t);
    return rc;
}
