/* Llama 1-3, Mistral, SmolLM: RMSNorm, rotary positions (halves), gated SiLU, grouped heads.
 *
 * GGUF files of this architecture hold the rows of q and k interleaved: within a head, HF's row
 * half*D/2 + i stands at 2*i + half. They also spell llama3 scaling as a tensor of divisors, and
 * Mistral is a Llama with a window there. */
#include "lm/family_llama.h"

#include <math.h>

static const struct pd_tensor_spec specs[] = {
    PD_LLAMA_SPECS(PD_SPEC_PERMUTED),
};

static void common(struct pd_config *cfg)
{
    cfg->norm = PD_LM_RMSNORM;
    cfg->gated = true;
    cfg->pos = PD_LM_POS_ROPE;
    cfg->attn_scale = 1 / sqrt(cfg->head_dim);
    cfg->rope.dim = cfg->head_dim;
    cfg->rope.theta = 10000;
}

void pd_llama_from_json(struct pd_cfg_reader *r, struct pd_config *cfg, struct pd_llama_defaults d)
{
    cfg->hidden_size = pd_cfg_int(r, "hidden_size", PD_CFG_REQUIRED);
    cfg->n_layers = pd_cfg_int(r, "num_hidden_layers", PD_CFG_REQUIRED);
    cfg->n_heads = pd_cfg_int(r, "num_attention_heads", PD_CFG_REQUIRED);
    int kv = d.n_kv_heads && !pd_cfg_has(r, "num_key_value_heads") ? d.n_kv_heads : cfg->n_heads;
    cfg->n_kv_heads = pd_cfg_int(r, "num_key_value_heads", kv);
    int D = cfg->n_heads > 0 ? cfg->hidden_size / cfg->n_heads : 0;
    if (d.head_dim && !pd_cfg_has(r, "head_dim"))
        D = d.head_dim;
    cfg->head_dim = pd_cfg_int(r, "head_dim", D);
    cfg->ffn_size = pd_cfg_int(r, "intermediate_size", PD_CFG_REQUIRED);
    cfg->max_positions = pd_cfg_int(r, "max_position_embeddings", d.max_positions);
    cfg->norm_eps = pd_cfg_num(r, "rms_norm_eps", 1e-6);
    cfg->act = pd_cfg_act(r, "hidden_act", "silu");
    if (cfg->act != PD_ACT_SILU)
        pd_cfg_fail(r, "hidden_act is \"%.*s\"; a gated MLP is computed with \"silu\" only",
                    PD_STR_ARG(pd_cfg_str(r, "hidden_act", "silu")));
    cfg->tied = pd_cfg_bool(r, "tie_word_embeddings", false);
    common(cfg);
    pd_cfg_rope(r, cfg, "rope_theta", false);
}

static void from_json(struct pd_cfg_reader *r, struct pd_config *cfg)
{
    bool mistral = strcmp(cfg->model_type, "mistral") == 0;
    pd_llama_from_json(r, cfg,
                       mistral ? (struct pd_llama_defaults){8, 0, 131072}
                               : (struct pd_llama_defaults){0, 0, 2048});
    cfg->qkv_bias = cfg->out_bias = pd_cfg_bool(r, "attention_bias", false);
    cfg->mlp_bias = pd_cfg_bool(r, "mlp_bias", false);
    if (mistral)
        cfg->sliding_window =
            pd_cfg_int(r, "sliding_window", pd_cfg_has(r, "sliding_window") ? 0 : 4096);
}

void pd_llama_from_gguf(struct pd_key_reader *r, struct pd_config *cfg)
{
    pd_key_shape(r, cfg);
    cfg->norm_eps = pd_key_num(r, "attention.layer_norm_rms_epsilon", 1e-6);
    cfg->act = PD_ACT_SILU;
    cfg->qkv_bias = pd_key_tensor(r, "blk.0.attn_q.bias");
    cfg->out_bias = pd_key_tensor(r, "blk.0.attn_output.bias");
    cfg->mlp_bias = pd_key_tensor(r, "blk.0.ffn_down.bias");
    common(cfg);
    pd_key_rope(r, cfg);
}

static void from_gguf(struct pd_key_reader *r, struct pd_config *cfg)
{
    pd_llama_from_gguf(r, cfg);
    cfg->sliding_window = pd_key_int(r, "attention.sliding_window", 0);
    if (cfg->sliding_window > 0)
        (void)snprintf(cfg->model_type, sizeof cfg->model_type, "mistral");
}

void pd_llama_to_json(const struct pd_config *cfg, struct pd_jw *w)
{
    pd_jw_ki64(w, "hidden_size", cfg->hidden_size);
    pd_jw_ki64(w, "intermediate_size", cfg->ffn_size);
    pd_jw_ki64(w, "num_hidden_layers", cfg->n_layers);
    pd_jw_ki64(w, "num_attention_heads", cfg->n_heads);
    pd_jw_ki64(w, "num_key_value_heads", cfg->n_kv_heads);
    pd_jw_ki64(w, "head_dim", cfg->head_dim);
    pd_jw_ki64(w, "max_position_embeddings", cfg->max_positions);
    pd_jw_kf64(w, "rms_norm_eps", cfg->norm_eps);
    pd_jw_kstrz(w, "hidden_act", pd_act_hf_name(cfg->act));
    pd_jw_kf64(w, "attention_dropout", 0);
    pd_rope_to_json(cfg, w);
}

static void to_json(const struct pd_config *cfg, struct pd_jw *w)
{
    pd_llama_to_json(cfg, w);
    pd_jw_kbool(w, "attention_bias", cfg->qkv_bias);
    pd_jw_kbool(w, "mlp_bias", cfg->mlp_bias);
    pd_jw_ki64(w, "pretraining_tp", 1);
    pd_jw_key(w, "sliding_window");
    if (cfg->sliding_window > 0)
        pd_jw_i64(w, cfg->sliding_window);
    else
        pd_jw_null(w);
}

static const struct pd_family_type types[] = {
    {"llama", "llama", "LlamaForCausalLM", "LlamaForSequenceClassification"},
    {"mistral", "llama", "MistralForCausalLM", "MistralForSequenceClassification"},
    {NULL, NULL, NULL, NULL},
};

const struct pd_family pd_family_llama = {
    .name = "llama",
    .types = types,
    .prefix = "model.",
    .specs = specs,
    .n_specs = sizeof specs / sizeof *specs,
    .padding_row = true,
    .from_json = from_json,
    .from_gguf = from_gguf,
    .to_json = to_json,
};
