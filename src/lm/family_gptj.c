/* GPT-J: one LayerNorm for attention and MLP, which run side by side; rotary positions on pairs
 * (2i, 2i+1) of the first rotary_dim dimensions; an output matrix with a bias. GGUF names the
 * architecture and its tensors; the bias, which it does not, is read as output.bias. */
#include "lm/family.h"

#include <math.h>

static const struct pd_tensor_spec specs[] = {
    {PD_ROLE_EMBED, "transformer.wte.weight", "token_embd.weight", PD_DIM_V, PD_DIM_H, 0},
    {PD_ROLE_NORM1_W, "transformer.h.{}.ln_1.weight", "blk.{}.attn_norm.weight", PD_DIM_H, 0, 0},
    {PD_ROLE_NORM1_B, "transformer.h.{}.ln_1.bias", "blk.{}.attn_norm.bias", PD_DIM_H, 0, 0},
    {PD_ROLE_Q_W, "transformer.h.{}.attn.q_proj.weight", "blk.{}.attn_q.weight", PD_DIM_Q, PD_DIM_H,
     0},
    {PD_ROLE_K_W, "transformer.h.{}.attn.k_proj.weight", "blk.{}.attn_k.weight", PD_DIM_KV,
     PD_DIM_H, 0},
    {PD_ROLE_V_W, "transformer.h.{}.attn.v_proj.weight", "blk.{}.attn_v.weight", PD_DIM_KV,
     PD_DIM_H, 0},
    {PD_ROLE_OUT_W, "transformer.h.{}.attn.out_proj.weight", "blk.{}.attn_output.weight", PD_DIM_H,
     PD_DIM_Q, 0},
    {PD_ROLE_UP_W, "transformer.h.{}.mlp.fc_in.weight", "blk.{}.ffn_up.weight", PD_DIM_F, PD_DIM_H,
     0},
    {PD_ROLE_UP_B, "transformer.h.{}.mlp.fc_in.bias", "blk.{}.ffn_up.bias", PD_DIM_F, 0, 0},
    {PD_ROLE_DOWN_W, "transformer.h.{}.mlp.fc_out.weight", "blk.{}.ffn_down.weight", PD_DIM_H,
     PD_DIM_F, 0},
    {PD_ROLE_DOWN_B, "transformer.h.{}.mlp.fc_out.bias", "blk.{}.ffn_down.bias", PD_DIM_H, 0, 0},
    {PD_ROLE_FINAL_W, "transformer.ln_f.weight", "output_norm.weight", PD_DIM_H, 0, 0},
    {PD_ROLE_FINAL_B, "transformer.ln_f.bias", "output_norm.bias", PD_DIM_H, 0, 0},
    {PD_ROLE_HEAD_W, "lm_head.weight", "output.weight", PD_DIM_V, PD_DIM_H, 0},
    {PD_ROLE_HEAD_B, "lm_head.bias", "output.bias", PD_DIM_V, 0, 0},
};

static void common(struct pd_config *cfg)
{
    cfg->norm = PD_LM_LAYERNORM;
    cfg->parallel_residual = true;
    cfg->n_norms = 1;
    cfg->mlp_bias = cfg->lm_head_bias = true;
    cfg->n_kv_heads = cfg->n_heads;
    cfg->attn_scale = 1 / sqrt(cfg->head_dim);
    cfg->pos = PD_LM_POS_ROPE;
    cfg->rope.interleaved = true;
    cfg->rope.theta = 10000;
}

static void from_json(struct pd_cfg_reader *r, struct pd_config *cfg)
{
    cfg->hidden_size = pd_cfg_int(r, "n_embd|hidden_size", PD_CFG_REQUIRED);
    cfg->n_layers = pd_cfg_int(r, "n_layer|num_hidden_layers", PD_CFG_REQUIRED);
    cfg->n_heads = pd_cfg_int(r, "n_head|num_attention_heads", PD_CFG_REQUIRED);
    pd_cfg_equal_heads(r, cfg);
    cfg->max_positions = pd_cfg_int(r, "n_positions|n_ctx|max_position_embeddings", 2048);
    cfg->ffn_size = pd_cfg_int(r, "n_inner", 4 * (int64_t)cfg->hidden_size);
    cfg->norm_eps = pd_cfg_num(r, "layer_norm_epsilon", 1e-5);
    cfg->act = pd_cfg_act(r, "activation_function", "gelu_new");
    cfg->tied = pd_cfg_bool(r, "tie_word_embeddings", false);
    common(cfg);
    cfg->rope.dim = pd_cfg_int(r, "rotary_dim", pd_cfg_has(r, "rotary_dim") ? cfg->head_dim : 64);
}

static void from_gguf(struct pd_key_reader *r, struct pd_config *cfg)
{
    pd_key_shape(r, cfg);
    cfg->norm_eps = pd_key_num(r, "attention.layer_norm_epsilon", 1e-5);
    cfg->act = PD_ACT_GELU_TANH;
    common(cfg);
    cfg->lm_head_bias = pd_key_tensor(r, "output.bias");
    cfg->rope.dim = 64;
    pd_key_rope(r, cfg);
}

static void to_json(const struct pd_config *cfg, struct pd_jw *w)
{
    pd_jw_ki64(w, "n_embd", cfg->hidden_size);
    pd_jw_ki64(w, "n_layer", cfg->n_layers);
    pd_jw_ki64(w, "n_head", cfg->n_heads);
    pd_jw_ki64(w, "n_positions", cfg->max_positions);
    pd_jw_ki64(w, "n_inner", cfg->ffn_size);
    pd_jw_ki64(w, "rotary_dim", cfg->rope.dim);
    pd_jw_kf64(w, "layer_norm_epsilon", cfg->norm_eps);
    pd_jw_kstrz(w, "activation_function",
                cfg->act == PD_ACT_GELU_TANH ? "gelu_new" : pd_act_hf_name(cfg->act));
}

static const struct pd_family_type types[] = {
    {"gptj", "gptj", "GPTJForCausalLM", "GPTJForSequenceClassification"},
    {NULL, NULL, NULL, NULL},
};

const struct pd_family pd_family_gptj = {
    .name = "gptj",
    .types = types,
    .prefix = "transformer.",
    .specs = specs,
    .n_specs = sizeof specs / sizeof *specs,
    .from_json = from_json,
    .from_gguf = from_gguf,
    .to_json = to_json,
};
