/* Falcon in its four shapes:
 *     7B        one key/value head, one norm, attention and MLP side by side
 *     40B, 180B grouped heads (new_decoder_architecture), a norm each for attention and MLP
 *     11B       the same with num_ln_in_parallel_attn 1: one norm
 *     rw        as many key/value heads as heads, alibi, biases, one after the other
 * q, k, v are fused: per key/value head its queries, a key, a value. In GGUF files of 40B shapes
 * attn_norm is the MLP's norm and attn_norm_2 attention's. */
#include "lm/family.h"

#include <math.h>

#define BLOCK(role, hf, gguf, rows, cols, quirks)                                                  \
    {                                                                                              \
        PD_ROLE_##role, "transformer.h.{}." hf, "blk.{}." gguf, PD_DIM_##rows, PD_DIM_##cols,      \
            quirks                                                                                 \
    }

static const struct pd_tensor_spec specs[] = {
    {PD_ROLE_EMBED, "transformer.word_embeddings.weight", "token_embd.weight", PD_DIM_V, PD_DIM_H,
     0},
    BLOCK(NORM1_W, "ln_attn.weight", "attn_norm_2.weight", H, NONE, PD_SPEC_IF_TWIN),
    BLOCK(NORM1_B, "ln_attn.bias", "attn_norm_2.bias", H, NONE, PD_SPEC_IF_TWIN),
    BLOCK(NORM2_W, "ln_mlp.weight", "attn_norm.weight", H, NONE, PD_SPEC_IF_TWIN),
    BLOCK(NORM2_B, "ln_mlp.bias", "attn_norm.bias", H, NONE, PD_SPEC_IF_TWIN),
    BLOCK(NORM1_W, "input_layernorm.weight", "attn_norm.weight", H, NONE, PD_SPEC_UNLESS_TWIN),
    BLOCK(NORM1_B, "input_layernorm.bias", "attn_norm.bias", H, NONE, PD_SPEC_UNLESS_TWIN),
    BLOCK(NORM2_W, "post_attention_layernorm.weight", "ffn_norm.weight", H, NONE,
          PD_SPEC_UNLESS_TWIN),
    BLOCK(NORM2_B, "post_attention_layernorm.bias", "ffn_norm.bias", H, NONE, PD_SPEC_UNLESS_TWIN),
    BLOCK(QKV_W, "self_attention.query_key_value.weight", "attn_qkv.weight", QKV, H,
          PD_SPEC_FUSED_ROWS),
    BLOCK(QKV_B, "self_attention.query_key_value.bias", "attn_qkv.bias", QKV, NONE,
          PD_SPEC_FUSED_ROWS),
    BLOCK(OUT_W, "self_attention.dense.weight", "attn_output.weight", H, Q, 0),
    BLOCK(OUT_B, "self_attention.dense.bias", "attn_output.bias", H, NONE, 0),
    BLOCK(UP_W, "mlp.dense_h_to_4h.weight", "ffn_up.weight", F, H, 0),
    BLOCK(UP_B, "mlp.dense_h_to_4h.bias", "ffn_up.bias", F, NONE, 0),
    BLOCK(DOWN_W, "mlp.dense_4h_to_h.weight", "ffn_down.weight", H, F, 0),
    BLOCK(DOWN_B, "mlp.dense_4h_to_h.bias", "ffn_down.bias", H, NONE, 0),
    {PD_ROLE_FINAL_W, "transformer.ln_f.weight", "output_norm.weight", PD_DIM_H, 0, 0},
    {PD_ROLE_FINAL_B, "transformer.ln_f.bias", "output_norm.bias", PD_DIM_H, 0, 0},
    {PD_ROLE_HEAD_W, "lm_head.weight", "output.weight", PD_DIM_V, PD_DIM_H, 0},
};

static void common(struct pd_config *cfg)
{
    cfg->norm = PD_LM_LAYERNORM;
    cfg->attn_scale = 1 / sqrt(cfg->head_dim);
    cfg->pos = PD_LM_POS_ROPE;
    cfg->rope.dim = cfg->head_dim;
    cfg->rope.theta = 10000;
    cfg->qkv_grouped = true;
}

/* Key/value heads and the shape of a block, from four switches that the files set in many ways. */
static void read_shape(struct pd_cfg_reader *r, struct pd_config *cfg)
{
    bool grouped = pd_cfg_bool(r, "new_decoder_architecture", false);
    bool multi_query = pd_cfg_bool(r, "multi_query", true);
    cfg->parallel_residual = grouped || pd_cfg_bool(r, "parallel_attn", true);
    int norms = pd_cfg_int(r, "num_ln_in_parallel_attn", 2);
    cfg->n_norms = !cfg->parallel_residual ? 2 : grouped ? norms : 1;
    cfg->n_kv_heads = cfg->n_heads;
    if (grouped)
        cfg->n_kv_heads = pd_cfg_int(r, "num_kv_heads|n_head_kv", cfg->n_heads);
    else if (multi_query)
        cfg->n_kv_heads = 1; /* whatever num_kv_heads says */
}

static void from_json(struct pd_cfg_reader *r, struct pd_config *cfg)
{
    cfg->hidden_size = pd_cfg_int(r, "n_embed|hidden_size", PD_CFG_REQUIRED);
    cfg->n_layers = pd_cfg_int(r, "num_hidden_layers|n_layer", PD_CFG_REQUIRED);
    cfg->n_heads = pd_cfg_int(r, "num_attention_heads|n_head", PD_CFG_REQUIRED);
    pd_cfg_equal_heads(r, cfg);
    cfg->max_positions = pd_cfg_int(r, "max_position_embeddings", 2048);
    cfg->ffn_size = pd_cfg_int(r, "ffn_hidden_size", 4 * (int64_t)cfg->hidden_size);
    cfg->norm_eps = pd_cfg_num(r, "layer_norm_epsilon", 1e-5);
    cfg->act = pd_cfg_act(r, "activation", "gelu");
    cfg->tied = pd_cfg_bool(r, "tie_word_embeddings", true);
    cfg->qkv_bias = cfg->out_bias = cfg->mlp_bias = pd_cfg_bool(r, "bias", false);
    read_shape(r, cfg);
    common(cfg);
    pd_cfg_rope(r, cfg, "rope_theta", false);
    if (pd_cfg_bool(r, "alibi", false)) {
        cfg->pos = PD_LM_POS_ALIBI;
        cfg->alibi_bf16 = true;
    }
}

static void from_gguf(struct pd_key_reader *r, struct pd_config *cfg)
{
    pd_key_shape(r, cfg);
    cfg->norm_eps = pd_key_num(r, "attention.layer_norm_epsilon", 1e-5);
    cfg->act = PD_ACT_GELU;
    cfg->parallel_residual = true;
    cfg->n_norms = pd_key_tensor(r, "blk.0.attn_norm_2.weight") ? 2 : 1;
    cfg->qkv_bias = pd_key_tensor(r, "blk.0.attn_qkv.bias");
    cfg->out_bias = pd_key_tensor(r, "blk.0.attn_output.bias");
    cfg->mlp_bias = pd_key_tensor(r, "blk.0.ffn_down.bias");
    common(cfg);
    pd_key_rope(r, cfg);
}

static void to_json(const struct pd_config *cfg, struct pd_jw *w)
{
    bool grouped = cfg->parallel_residual && (cfg->n_kv_heads > 1 || cfg->n_norms == 2);
    pd_jw_ki64(w, "hidden_size", cfg->hidden_size);
    pd_jw_ki64(w, "ffn_hidden_size", cfg->ffn_size);
    pd_jw_ki64(w, "num_hidden_layers", cfg->n_layers);
    pd_jw_ki64(w, "num_attention_heads", cfg->n_heads);
    pd_jw_ki64(w, "num_kv_heads", cfg->n_kv_heads);
    pd_jw_ki64(w, "max_position_embeddings", cfg->max_positions);
    pd_jw_kf64(w, "layer_norm_epsilon", cfg->norm_eps);
    pd_jw_kstrz(w, "activation", pd_act_hf_name(cfg->act));
    pd_jw_kbool(w, "new_decoder_architecture", grouped);
    pd_jw_kbool(w, "multi_query", cfg->n_kv_heads == 1);
    pd_jw_kbool(w, "parallel_attn", cfg->parallel_residual);
    if (grouped)
        pd_jw_ki64(w, "num_ln_in_parallel_attn", cfg->n_norms);
    pd_jw_kbool(w, "bias", cfg->qkv_bias);
    pd_jw_kbool(w, "alibi", cfg->pos == PD_LM_POS_ALIBI);
    pd_rope_to_json(cfg, w);
}

static const struct pd_family_type types[] = {
    {"falcon", "falcon", "FalconForCausalLM", "FalconForSequenceClassification"},
    {NULL, NULL, NULL, NULL},
};

const struct pd_family pd_family_falcon = {
    .name = "falcon",
    .types = types,
    .prefix = "transformer.",
    .specs = specs,
    .n_specs = sizeof specs / sizeof *specs,
    .from_json = from_json,
    .from_gguf = from_gguf,
    .to_json = to_json,
};
