/* tokenizer.json: any bytes are refused or opened; an open tokenizer encodes what follows the first
 * NUL, and whole decoding equals decoding token by token. */
#include "lm/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Runs of SentencePiece's byte tokens may differ, see struct pd_detok. */
static bool is_byte_level(const struct pd_tokenizer *t)
{
    struct pd_buf what;
    pd_buf_init(&what, 0);
    pd_tokenizer_describe(t, &what);
    bool yes = pd_str_starts(pd_buf_str(&what), PD_STR("byte-level"));
    pd_buf_release(&what);
    return yes;
}

static void use(const struct pd_tokenizer *t, struct pd_str text)
{
    struct pd_ids ids = {0};
    struct pd_buf whole, pieces;
    struct pd_detok d = {0};
    pd_buf_init(&whole, 0);
    pd_buf_init(&pieces, 0);
    if (pd_tokenizer_encode(t, text, PD_TOK_TRAINING, &ids, NULL) == PD_OK) {
        for (size_t i = 0; i < ids.len; i++) {
            if (ids.ptr[i] < 0 || ids.ptr[i] >= pd_tokenizer_size(t))
                pd_bug("id %d is outside the vocabulary", ids.ptr[i]);
            pd_detok_push(&d, t, ids.ptr[i], false, &pieces);
        }
        pd_detok_finish(&d, &pieces);
        if (pd_tokenizer_decode(t, ids.ptr, ids.len, false, &whole, NULL) != PD_OK ||
            (is_byte_level(t) && !pd_str_eq(pd_buf_str(&whole), pd_buf_str(&pieces))))
            pd_bug("decoding in pieces gives other text");
        if (pd_utf8_valid_prefix(pd_buf_str(&whole)) != whole.len)
            pd_bug("decoded text is not UTF-8");
    }
    pd_ids_release(&ids);
    pd_buf_release(&whole);
    pd_buf_release(&pieces);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pd_tokenizer *t = NULL;
    struct pd_err err;
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    size_t n = nul ? (size_t)(nul - data) : size;
    if (pd_tokenizer_open_json(&t, (struct pd_str){(const char *)data, n}, "fuzz", &err) != PD_OK)
        return 0;
    use(t, PD_STR("It's 12 \xe2\x82\xac\n\n  <s> x"));
    if (nul)
        use(t, (struct pd_str){(const char *)nul + 1, size - n - 1});
    pd_tokenizer_free(t);
    return 0;
}
