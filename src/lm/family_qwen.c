/* Qwen2, Qwen2.5, Qwen3: Llama's blocks. Qwen2 has biases on q, k and v alone; Qwen3 norms each
 * head's q and k instead. The upper blocks may see a window only. GGUF files of these architectures
 * leave the rows of q and k in Hugging Face's order. */
#include "lm/family_llama.h"

static const struct pd_tensor_spec specs[] = {PD_LLAMA_SPECS(0)};

static bool is_qwen3(const struct pd_config *cfg)
{
    return strcmp(cfg->model_type, "qwen3") == 0;
}

static void from_json(struct pd_cfg_reader *r, struct pd_config *cfg)
{
    bool three = is_qwen3(cfg);
    pd_llama_from_json(r, cfg, (struct pd_llama_defaults){32, three ? 128 : 0, 32768});
    cfg->qk_norm = three;
    cfg->qkv_bias = three ? pd_cfg_bool(r, "attention_bias", false) : true;
    cfg->out_bias = three && cfg->qkv_bias;
    int window = pd_cfg_int(r, "sliding_window", pd_cfg_has(r, "sliding_window") ? 0 : 4096);
    if (!pd_cfg_bool(r, "use_sliding_window", false))
        window = 0;
    pd_cfg_windows(r, cfg, window, pd_cfg_int(r, "max_window_layers", 28));
}

static void from_gguf(struct pd_key_reader *r, struct pd_config *cfg)
{
    pd_llama_from_gguf(r, cfg);
    cfg->qk_norm = is_qwen3(cfg);
}

static void to_json(const struct pd_config *cfg, struct pd_jw *w)
{
    pd_llama_to_json(cfg, w);
    if (is_qwen3(cfg))
        pd_jw_kbool(w, "attention_bias", cfg->qkv_bias);
    pd_jw_kbool(w, "use_sliding_window", false);
}

static const struct pd_family_type types[] = {
    {"qwen2", "qwen2", "Qwen2ForCausalLM", "Qwen2ForSequenceClassification"},
    {"qwen3", "qwen3", "Qwen3ForCausalLM", "Qwen3ForSequenceClassification"},
    {NULL, NULL, NULL, NULL},
};

const struct pd_family pd_family_qwen = {
    .name = "qwen",
    .types = types,
    .prefix = "model.",
    .specs = specs,
    .n_specs = sizeof specs / sizeof *specs,
    .padding_row = true,
    .from_json = from_json,
    .from_gguf = from_gguf,
    .to_json = to_json,
};
