/* GGUF: any bytes are refused or opened; what opens lies inside the file, and a tokenizer made of
 * its keys encodes and decodes. */
#include "lm/family.h"
#include "lm/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use_tokenizer(const struct pd_gguf *g)
{
    struct pd_tokenizer *t = NULL;
    struct pd_ids ids = {0};
    struct pd_buf text;
    if (pd_tokenizer_open_gguf(&t, g, NULL) != PD_OK)
        return;
    pd_buf_init(&text, 0);
    if (pd_tokenizer_encode(t, PD_STR("Hello <|x|> 123"), PD_TOK_TRAINING, &ids, NULL) != PD_OK ||
        pd_tokenizer_decode(t, ids.ptr, ids.len, false, &text, NULL) != PD_OK)
        pd_bug("plain text does not pass a tokenizer that opened");
    pd_ids_release(&ids);
    pd_buf_release(&text);
    pd_tokenizer_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pd_gguf *g = NULL;
    struct pd_config cfg;
    const struct pd_family *family;
    struct pd_err err;
    if (pd_gguf_open_bytes(&g, data, size, "fuzz", &err) != PD_OK)
        return 0;
    for (size_t i = 0; i < g->n_tensors; i++) {
        const struct pd_gguf_tensor *t = &g->tensors[i];
        if ((const uint8_t *)t->data < data || (const uint8_t *)t->data + t->bytes > data + size)
            pd_bug("tensor %zu lies outside the file", i);
    }
    if (pd_config_from_gguf(g, &cfg, &family, &err) == PD_OK && pd_config_n_params(&cfg) <= 0)
        pd_bug("a checked configuration has no parameters");
    use_tokenizer(g);
    pd_gguf_close(g);
    return 0;
}
