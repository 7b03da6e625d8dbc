/* A LoRA adapter's folder on a tiny Llama: refused, or added to its weights. See fuzz_folder.h for
 * how an input holds its files. */
#include "fuzz_folder.h"
#include "fuzz_read.h"
#include "lm/lora.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char config[] =
    "{\"model_type\":\"llama\",\"hidden_size\":8,\"intermediate_size\":12,\"vocab_size\":16,"
    "\"num_hidden_layers\":1,\"num_attention_heads\":2,\"num_key_value_heads\":1,"
    "\"max_position_embeddings\":16,\"attention_bias\":true,\"tie_word_embeddings\":false}";

/* Weights stay what the last input made of them: it is not their values that are looked at. */
static struct pd_model *base(void)
{
    static struct pd_model *m;
    struct pd_model_options opt = {.purpose = PD_MODEL_TRAINING, .no_grads = true};
    struct pd_model *random = NULL;
    if (m)
        return m;
    const char *root = fuzz_make_root();
    char *json = pd_xasprintf("%s/like.json", root), *dir = pd_xasprintf("%s/base", root);
    fuzz_write(root, "like.json", (const uint8_t *)config, sizeof config - 1);
    if (pd_model_init_like(&random, json, PD_HEAD_LM, 1, NULL, NULL) != PD_OK ||
        pd_model_save_hf(random, dir, PD_DTYPE_F32, NULL) != PD_OK ||
        pd_model_open(&m, dir, &opt, NULL) != PD_OK)
        pd_bug("no base model");
    pd_model_free(random);
    pd_free(json);
    pd_free(dir);
    return m;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"adapter_config.json", "adapter_model.safetensors",
                                        "adapter_model.bin"};
    struct pd_model *m = base();
    struct pd_lora *lora = NULL;
    struct pd_err err;
    char *path = NULL;
    const char *dir = fuzz_make_root();
    fuzz_fill(dir, names, sizeof names / sizeof *names, data, size);
    if (pd_lora_base(dir, &path, &err) == PD_OK)
        pd_free(path);
    if (pd_lora_open(&lora, dir, &err) == PD_OK) {
        (void)pd_lora_labels(lora);
        if (pd_lora_apply(lora, m, &err) == PD_OK)
            fuzz_read_all(m);
    }
    pd_lora_close(lora);
    return 0;
}
