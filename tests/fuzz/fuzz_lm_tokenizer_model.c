/* tokenizer.model: any bytes are refused or opened; one that opens encodes and decodes. */
#include "lm/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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
            pd_utf8_valid_prefix(pd_buf_str(&pieces)) != pieces.len)
            pd_bug("ids of text do not decode to text");
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
    if (pd_tokenizer_open_model(&t, (struct pd_str){(const char *)data, size}, "fuzz", &err) !=
        PD_OK)
        return 0;
    use(t, PD_STR("It's  12 \xe2\x82\xac\n\n  <s> x\xef\xac\x81"));
    use(t, PD_STR(""));
    use(t, PD_STR(" "));
    pd_tokenizer_free(t);
    return 0;
}
