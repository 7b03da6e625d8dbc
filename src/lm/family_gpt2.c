/* GPT-2: LayerNorm, learned positions, Conv1D weights that stand (in, out), q, k and v fused as
 * three blocks. The causal-mask buffers h.N.attn.bias and h.N.attn.masked_bias of old files are
 * ignored. */
#include "lm/family.h"

#include <math.h>

static const struct pd_tensor_spec specs[] = {
    {PD_ROLE_EMBED, "transformer.wte.weight", "token_embd.weight", PD_DIM_V, PD_DIM_H, 0},
    {PD_ROLE_POS_EMBED, "transformer.wpe.weight", "position_embd.weight", PD_DIM_POS, PD_DIM_H, 0},
    {PD_ROLE_NORM1_W, "transformer.h.{}.ln_1.weight", "blk.{}.attn_norm.weight", PD_DIM_H, 0, 0},
    {PD_ROLE_NORM1_B, "transformer.h.{}.ln_1.bias", "blk.{}.attn_norm.bias", PD_DIM_H, 0, 0},
    {PD_ROLE_QKV_W, "transformer.h.{}.attn.c_attn.weight", "blk.{}.attn_qkv.weight", PD_DIM_H,
     PD_DIM_QKV, PD_SPEC_IN_OUT},
    {PD_ROLE_QKV_B, "transformer.h.{}.attn.c_attn.bias", "blk.{}.attn_qkv.bias", PD_DIM_QKV, 0, 0},
    {PD_ROLE_OUT_W, "transformer.h.{}.attn.c_proj.weight", "blk.{}.attn_output.weight", PD_DIM_Q,
     PD_DIM_H, PD_SPEC_IN_OUT},
    {PD_ROLE_OUT_B, "transformer.h.{}.attn.c_proj.bias", "blk.{}.attn_output.bias", PD_DIM_H, 0, 0},
    {PD_ROLE_NORM2_W, "transformer.h.{}.ln_2.weight", "blk.{}.ffn_norm.weight", PD_DIM_H, 0, 0},
    {PD_ROLE_NORM2_B, "transformer.h.{}.ln_2.bias", "blk.{}.ffn_norm.bias", PD_DIM_H, 0, 0},
    {PD_ROLE_UP_W, "transformer.h.{}.mlp.c_fc.weight", "blk.{}.ffn_up.weight", PD_DIM_H, PD_DIM_F,
     PD_SPEC_IN_OUT},
    {PD_ROLE_UP_B, "transformer.h.{}.mlp.c_fc.bias", "blk.{}.ffn_up.bias", PD_DIM_F, 0, 0},
    {PD_ROLE_DOWN_W, "transformer.h.{}.mlp.c_proj.weight", "blk.{}.ffn_down.weight", PD_DIM_F,
     PD_DIM_H, PD_SPEC_IN_OUT},
    {PD_ROLE_DOWN_B, "transformer.h.{}.mlp.c_proj.bias", "blk.{}.ffn_down.bias", PD_DIM_H, 0, 0},
    {PD_ROLE_FINAL_W, "transformer.ln_f.weight", "output_norm.weight", PD_DIM_H, 0, 0},
    {PD_ROLE_FINAL_B, "transformer.ln_f.bias", "output_norm.bias", PD_DIM_H, 0, 0},
    {PD_ROLE_HEAD_W, "lm_head.weight", "output.weight", PD_DIM_V, PD_DIM_H, 0},
};

static void common(struct pd_config *cfg)
{
    cfg->norm = PD_LM_LAYERNORM;
    cfg->pos = PD_LM_POS_LEARNED;
    cfg->qkv_bias = cfg->out_bias = cfg->mlp_bias = true;
    cfg->n_kv_heads = cfg->n_heads;
    cfg->attn_scale = 1 / sqrt(cfg->head_dim);
}

static void from_json(struct pd_cfg_reader *r, struct pd_config *cfg)
{
    cfg->hidden_size = pd_cfg_int(r, "n_embd|hidden_size", PD_CFG_REQUIRED);
    cfg->n_layers = pd_cfg_int(r, "n_layer|num_hidden_layers", PD_CFG_REQUIRED);
    cfg->n_heads = pd_cfg_int(r, "n_head|num_attention_heads", PD_CFG_REQUIRED);
    pd_cfg_equal_heads(r, cfg);
    cfg->max_positions = pd_cfg_int(r, "n_positions|n_ctx|max_position_embeddings", 1024);
    cfg->ffn_size = pd_cfg_int(r, "n_inner", 4 * (int64_t)cfg->hidden_size);
    cfg->norm_eps = pd_cfg_num(r, "layer_norm_epsilon", 1e-5);
    cfg->act = pd_cfg_act(r, "activation_function", "gelu_new");
    cfg->tied = pd_cfg_bool(r, "tie_word_embeddings", true);
    common(cfg);
    if (!pd_cfg_bool(r, "scale_attn_weights", true))
        cfg->attn_scale = 1;
    cfg->attn_scale_by_layer = pd_cfg_bool(r, "scale_attn_by_inverse_layer_idx", false);
}

static void from_gguf(struct pd_key_reader *r, struct pd_config *cfg)
{
    pd_key_shape(r, cfg);
    cfg->norm_eps = pd_key_num(r, "attention.layer_norm_epsilon", 1e-5);
    cfg->act = PD_ACT_GELU_TANH;
    common(cfg);
}

static void to_json(const struct pd_config *cfg, struct pd_jw *w)
{
    pd_jw_ki64(w, "n_embd", cfg->hidden_size);
    pd_jw_ki64(w, "n_layer", cfg->n_layers);
    pd_jw_ki64(w, "n_head", cfg->n_heads);
    pd_jw_ki64(w, "n_positions", cfg->max_positions);
    pd_jw_ki64(w, "n_ctx", cfg->max_positions);
    pd_jw_key(w, "n_inner");
    if (cfg->ffn_size == 4 * cfg->hidden_size)
        pd_jw_null(w);
    else
        pd_jw_i64(w, cfg->ffn_size);
    pd_jw_kf64(w, "layer_norm_epsilon", cfg->norm_eps);
    pd_jw_kstrz(w, "activation_function",
                cfg->act == PD_ACT_GELU_TANH ? "gelu_new" : pd_act_hf_name(cfg->act));
    pd_jw_kbool(w, "scale_attn_weights", cfg->attn_scale != 1);
    pd_jw_kbool(w, "scale_attn_by_inverse_layer_idx", cfg->attn_scale_by_layer);
}

static const struct pd_family_type types[] = {
    {"gpt2", "gpt2", "GPT2LMHeadModel", "GPT2ForSequenceClassification"},
    {NULL, NULL, NULL, NULL},
};

const struct pd_family pd_family_gpt2 = {
    .name = "gpt2",
    .types = types,
    .prefix = "transformer.",
    .specs = specs,
    .n_specs = sizeof specs / sizeof *specs,
    .from_json = from_json,
    .from_gguf = from_gguf,
    .to_json = to_json,
};
