/* GPT-NeoX, Pythia: LayerNorm, fused q, k, v head by head, rotary positions on a share of each
 * head's dimensions; attention and MLP side by side with a norm each, or one after the other. The
 * buffers attention.bias, attention.masked_bias and rotary_emb.inv_freq of old files are ignored.
 */
#include "lm/family.h"

#include <math.h>

#define BLOCK(role, hf, gguf, rows, cols, quirks)                                                  \
    {                                                                                              \
        PD_ROLE_##role, "gpt_neox.layers.{}." hf, "blk.{}." gguf, PD_DIM_##rows, PD_DIM_##cols,    \
            quirks                                                                                 \
    }

static const struct pd_tensor_spec specs[] = {
    {PD_ROLE_EMBED, "gpt_neox.embed_in.weight", "token_embd.weight", PD_DIM_V, PD_DIM_H, 0},
    BLOCK(NORM1_W, "input_layernorm.weight", "attn_norm.weight", H, NONE, 0),
    BLOCK(NORM1_B, "input_layernorm.bias", "attn_norm.bias", H, NONE, 0),
    BLOCK(NORM2_W, "post_attention_layernorm.weight", "ffn_norm.weight", H, NONE, 0),
    BLOCK(NORM2_B, "post_attention_layernorm.bias", "ffn_norm.bias", H, NONE, 0),
    BLOCK(QKV_W, "attention.query_key_value.weight", "attn_qkv.weight", QKV, H, PD_SPEC_FUSED_ROWS),
    BLOCK(QKV_B, "attention.query_key_value.bias", "attn_qkv.bias", QKV, NONE, PD_SPEC_FUSED_ROWS),
    BLOCK(OUT_W, "attention.dense.weight", "attn_output.weight", H, Q, 0),
    BLOCK(OUT_B, "attention.dense.bias", "attn_output.bias", H, NONE, 0),
    BLOCK(UP_W, "mlp.dense_h_to_4h.weight", "ffn_up.weight", F, H, 0),
    BLOCK(UP_B, "mlp.dense_h_to_4h.bias", "ffn_up.bias", F, NONE, 0),
    BLOCK(DOWN_W, "mlp.dense_4h_to_h.weight", "ffn_down.weight", H, F, 0),
    BLOCK(DOWN_B, "mlp.dense_4h_to_h.bias", "ffn_down.bias", H, NONE, 0),
    {PD_ROLE_FINAL_W, "gpt_neox.final_layer_norm.weight", "output_norm.weight", PD_DIM_H, 0, 0},
    {PD_ROLE_FINAL_B, "gpt_neox.final_layer_norm.bias", "output_norm.bias", PD_DIM_H, 0, 0},
    {PD_ROLE_HEAD_W, "embed_out.weight", "output.weight", PD_DIM_V, PD_DIM_H, 0},
};

static void common(struct pd_config *cfg)
{
    cfg->norm = PD_LM_LAYERNORM;
    cfg->mlp_bias = true;
    cfg->n_kv_heads = cfg->n_heads;
    cfg->attn_scale = 1 / sqrt(cfg->head_dim);
    cfg->pos = PD_LM_POS_ROPE;
    cfg->rope.theta = 10000;
    cfg->qkv_grouped = true;
}

static void from_json(struct pd_cfg_reader *r, struct pd_config *cfg)
{
    cfg->hidden_size = pd_cfg_int(r, "hidden_size", PD_CFG_REQUIRED);
    cfg->n_layers = pd_cfg_int(r, "num_hidden_layers", PD_CFG_REQUIRED);
    cfg->n_heads = pd_cfg_int(r, "num_attention_heads", PD_CFG_REQUIRED);
    pd_cfg_equal_heads(r, cfg);
    cfg->max_positions = pd_cfg_int(r, "max_position_embeddings", 2048);
    cfg->ffn_size = pd_cfg_int(r, "intermediate_size", PD_CFG_REQUIRED);
    cfg->norm_eps = pd_cfg_num(r, "layer_norm_eps", 1e-5);
    cfg->act = pd_cfg_act(r, "hidden_act", "gelu");
    cfg->tied = pd_cfg_bool(r, "tie_word_embeddings", false);
    cfg->parallel_residual = pd_cfg_bool(r, "use_parallel_residual", true);
    cfg->qkv_bias = cfg->out_bias = pd_cfg_bool(r, "attention_bias", true);
    common(cfg);
    double part = pd_cfg_num(r, "rotary_pct|partial_rotary_factor", 0.25);
    if (!(part > 0 && part <= 1))
        pd_cfg_fail(r, "rotary_pct is %g; expected more than 0 and at most 1", part);
    else
        cfg->rope.dim = (int)(cfg->head_dim * part);
    pd_cfg_rope(r, cfg, "rotary_emb_base|rope_theta", true);
}

static void from_gguf(struct pd_key_reader *r, struct pd_config *cfg)
{
    pd_key_shape(r, cfg);
    cfg->norm_eps = pd_key_num(r, "attention.layer_norm_epsilon", 1e-5);
    cfg->act = PD_ACT_GELU;
    cfg->parallel_residual = pd_key_bool(r, "use_parallel_residual", true);
    cfg->qkv_bias = pd_key_tensor(r, "blk.0.attn_qkv.bias");
    cfg->out_bias = pd_key_tensor(r, "blk.0.attn_output.bias");
    common(cfg);
    cfg->rope.dim = cfg->head_dim / 4;
    pd_key_rope(r, cfg);
}

static void to_json(const struct pd_config *cfg, struct pd_jw *w)
{
    pd_jw_ki64(w, "hidden_size", cfg->hidden_size);
    pd_jw_ki64(w, "intermediate_size", cfg->ffn_size);
    pd_jw_ki64(w, "num_hidden_layers", cfg->n_layers);
    pd_jw_ki64(w, "num_attention_heads", cfg->n_heads);
    pd_jw_ki64(w, "max_position_embeddings", cfg->max_positions);
    pd_jw_kf64(w, "layer_norm_eps", cfg->norm_eps);
    pd_jw_kstrz(w, "hidden_act", pd_act_hf_name(cfg->act));
    pd_jw_kbool(w, "use_parallel_residual", cfg->parallel_residual);
    pd_jw_kbool(w, "attention_bias", cfg->qkv_bias);
    pd_jw_kf64(w, "rotary_pct", (double)cfg->rope.dim / cfg->head_dim);
    pd_jw_kf64(w, "rotary_emb_base", cfg->rope.theta);
    pd_rope_to_json(cfg, w);
}

static const struct pd_family_type types[] = {
    {"gpt_neox", "gptneox", "GPTNeoXForCausalLM", "GPTNeoXForSequenceClassification"},
    {NULL, NULL, NULL, NULL},
};

const struct pd_family pd_family_neox = {
    .name = "neox",
    .types = types,
    .prefix = "gpt_neox.",
    .specs = specs,
    .n_specs = sizeof specs / sizeof *specs,
    .from_json = from_json,
    .from_gguf = from_gguf,
    .to_json = to_json,
};
