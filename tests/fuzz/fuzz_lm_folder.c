/* A Hugging Face folder: refused, or every value of every parameter can be read. See fuzz_folder.h
 * for how an input holds its files. */
#include "fuzz_folder.h"
#include "fuzz_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"config.json",
                                        "generation_config.json",
                                        "model.safetensors",
                                        "model.safetensors.index.json",
                                        "a.safetensors",
                                        "b.safetensors",
                                        "pytorch_model.bin",
                                        "pytorch_model.bin.index.json",
                                        "a.bin",
                                        "b.bin",
                                        "tokenizer.json",
                                        "tokenizer_config.json",
                                        "special_tokens_map.json",
                                        "added_tokens.json",
                                        "chat_template.jinja",
                                        "vocab.json",
                                        "merges.txt"};
    struct pd_model_options opt = {.purpose = PD_MODEL_INFERENCE};
    struct pd_model *m = NULL;
    struct pd_err err;
    const char *dir = fuzz_make_root();
    fuzz_fill(dir, names, sizeof names / sizeof *names, data, size);
    if (pd_model_open(&m, dir, &opt, &err) == PD_OK)
        fuzz_read_all(m);
    pd_model_free(m);
    return 0;
}
