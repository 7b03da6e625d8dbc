/* Llama 1-3, Mistral, SmolLM: RMSNorm, rotary positions (halves), gated SiLU, grouped heads.
 *
 * GGUF files of this architecture hold the rows of q and k interleaved: within a head, HF's row
 * half*D/2 + i stands at 2*i + half. They also spell llama3 scaling as a tensor of divisors. */
#include "lm/family.h"

#include <math.h>

static const struct pd_tensor_spec specs[] = {
    {PD_ROLE_EMBED, "model.embed_tokens.weight", "token_embd.weight", PD_DIM_V, PD_DIM_H, 0},
    {PD_ROLE_NORM1_W, "model.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight", PD_DIM_H,
     0, 0},
    {PD_ROLE_Q_W, "model.layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight", PD_DIM_Q,
     PD_DIM_H, PD_SPEC_PERMUTED_Q},
    {PD_ROLE_Q_B, "model.layers.{}.self_attn.q_proj.bias", "blk.{}.attn_q.bias", PD_DIM_Q, 0,
     PD_SPEC_PERMUTED_Q},
    {PD_ROLE_K_W, "model.layers.{}.self_attn.k_proj.weight", "blk.{}.attn_k.weight", PD_DIM_KV,
     PD_DIM_H, PD_SPEC_PERMUTED_KV},
    {PD_ROLE_K_B, "model.layers.{}.self_attn.k_proj.bias", "blk.{}.attn_k.bias", PD_DIM_KV, 0,
     PD_SPEC_PERMUTED_KV},
    {PD_ROLE_V_W, "model.layers.{}.self_attn.v_proj.weight", "blk.{}.attn_v.weight", PD_DIM_KV,
     PD_DIM_H, 0},
    {PD_ROLE_V_B, "model.layers.{}.self_attn.v_proj.bias", "blk.{}.attn_v.bias", PD_DIM_KV, 0, 0},
    {PD_ROLE_OUT_W, "model.layers.{}.self_attn.o_proj.weight", "blk.{}.attn_output.weight",
     PD_DIM_H, PD_DIM_Q, 0},
    {PD_ROLE_OUT_B, "model.layers.{}.self_attn.o_proj.bias", "blk.{}.attn_output.bias", PD_DIM_H, 0,
     0},
    {PD_ROLE_NORM2_W, "model.layers.{}.post_attention_layernorm.weight", "blk.{}.ffn_norm.weight",
     PD_DIM_H, 0, 0},
    {PD_ROLE_GATE_W, "model.layers.{}.mlp.gate_proj.weight", "blk.{}.ffn_gate.weight", PD_DIM_F,
     PD_DIM_H, 0},
    {PD_ROLE_GATE_B, "model.layers.{}.mlp.gate_proj.bias", "blk.{}.ffn_gate.bias", PD_DIM_F, 0, 0},
    {PD_ROLE_UP_W, "model.layers.{}.mlp.up_proj.weight", "blk.{}.ffn_up.weight", PD_DIM_F, PD_DIM_H,
     0},
    {PD_ROLE_UP_B, "model.layers.{}.mlp.up_proj.bias", "blk.{}.ffn_up.bias", PD_DIM_F, 0, 0},
    {PD_ROLE_DOWN_W, "model.layers.{}.mlp.down_proj.weight", "blk.{}.ffn_down.weight", PD_DIM_H,
     PD_DIM_F, 0},
    {PD_ROLE_DOWN_B, "model.layers.{}.mlp.down_proj.bias", "blk.{}.ffn_down.bias", PD_DIM_H, 0, 0},
    {PD_ROLE_FINAL_W, "model.norm.weight", "output_norm.weight", PD_DIM_H, 0, 0},
    {PD_ROLE_HEAD_W, "lm_head.weight", "output.weight", PD_DIM_V, PD_DIM_H, 0},
};

static void common(struct pd_config *cfg)
{
    cfg->norm = PD_LM_RMSNORM;
    cfg->gated = true;
    cfg->pos = PD_LM_POS_ROPE;
    cfg->attn_scale = 1 / sqrt(cfg->head_dim);
    cfg->rope.dim = cfg->head_dim;
}

static void from_json(struct pd_cfg_reader *r, struct pd_config *cfg)
{
    bool mistral = strcmp(cfg->model_type, "mistral") == 0;
    cfg->hidden_size = pd_cfg_int(r, "hidden_size", PD_CFG_REQUIRED);
    cfg->n_layers = pd_cfg_int(r, "num_hidden_layers", PD_CFG_REQUIRED);
    cfg->n_heads = pd_cfg_int(r, "num_attention_heads", PD_CFG_REQUIRED);
    cfg->n_kv_heads = pd_cfg_int(r, "num_key_value_heads", mistral ? 8 : cfg->n_heads);
    cfg->head_dim =
        pd_cfg_int(r, "head_dim", cfg->n_heads > 0 ? cfg->hidden_size / cfg->n_heads : 0);
    cfg->ffn_size = pd_cfg_int(r, "intermediate_size", PD_CFG_REQUIRED);
    cfg->max_positions = pd_cfg_int(r, "max_position_embeddings", 2048);
    cfg->norm_eps = pd_cfg_num(r, "rms_norm_eps", 1e-6);
    cfg->act = pd_cfg_act(r, "hidden_act", "silu");
    cfg->qkv_bias = cfg->out_bias = pd_cfg_bool(r, "attention_bias", false);
    cfg->mlp_bias = pd_cfg_bool(r, "mlp_bias", false);
    cfg->tied = pd_cfg_bool(r, "tie_word_embeddings", false);
    cfg->sliding_window = mistral ? pd_cfg_int(r, "sliding_window", 0) : 0;
    common(cfg);
    pd_cfg_rope(r, cfg, 10000);
}

static enum pd_rc from_gguf(const struct pd_gguf *g, struct pd_config *cfg, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct {
        const char *key;
        int *to;
    } needed[] = {
        {"llama.embedding_length", &cfg->hidden_size},
        {"llama.block_count", &cfg->n_layers},
        {"llama.attention.head_count", &cfg->n_heads},
        {"llama.feed_forward_length", &cfg->ffn_size},
        {"llama.context_length", &cfg->max_positions},
    };
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        int64_t v = 0;
        PD_TRY(pd_gguf_need_i64(g, needed[i].key, &v, err));
        if (v <= 0 || v > INT32_MAX)
            return PD_FAIL(err, PD_INVALID, "%s: key %s is out of range", g->path, needed[i].key);
        *needed[i].to = (int)v;
    }
    cfg->n_kv_heads = (int)pd_gguf_i64(g, "llama.attention.head_count_kv", cfg->n_heads);
    cfg->head_dim =
        (int)pd_gguf_i64(g, "llama.attention.key_length", cfg->hidden_size / cfg->n_heads);
    cfg->norm_eps = pd_gguf_f64(g, "llama.attention.layer_norm_rms_epsilon", 1e-6);
    cfg->sliding_window = (int)pd_gguf_i64(g, "llama.attention.sliding_window", 0);
    cfg->act = PD_ACT_SILU;
    cfg->qkv_bias = pd_gguf_tensor(g, "blk.0.attn_q.bias") != NULL;
    cfg->out_bias = pd_gguf_tensor(g, "blk.0.attn_output.bias") != NULL;
    cfg->mlp_bias = pd_gguf_tensor(g, "blk.0.ffn_down.bias") != NULL;
    common(cfg);
    cfg->rope.dim = (int)pd_gguf_i64(g, "llama.rope.dimension_count", cfg->head_dim);
    cfg->rope.theta = pd_gguf_f64(g, "llama.rope.freq_base", 10000);
    cfg->rope.original_max_positions =
        (int)pd_gguf_i64(g, "llama.rope.scaling.original_context_length", cfg->max_positions);
    cfg->rope.factor = pd_gguf_f64(g, "llama.rope.scaling.factor", 1);
    cfg->rope.beta_fast = 32;
    cfg->rope.beta_slow = 1;
    struct pd_str scaling = pd_gguf_str(g, "llama.rope.scaling.type");
    if (pd_str_eqz(scaling, "linear"))
        cfg->rope.scaling = PD_LM_SCALE_LINEAR;
    else if (pd_str_eqz(scaling, "yarn"))
        cfg->rope.scaling = PD_LM_SCALE_YARN;
    else if (scaling.ptr && !pd_str_eqz(scaling, "none"))
        return PD_FAIL(err, PD_UNSUPPORTED, "%s: llama.rope.scaling.type \"%.*s\" is not known",
                       g->path, PD_STR_ARG(scaling));
    const struct pd_gguf_tensor *d = pd_gguf_tensor(g, "rope_freqs.weight");
    if (d) {
        if (d->dtype != PD_DTYPE_F32 || d->ndim != 1 || d->shape[0] != cfg->rope.dim / 2)
            return PD_FAIL(err, PD_INVALID, "%s: tensor rope_freqs.weight is not F32 [%d]", g->path,
                           cfg->rope.dim / 2);
        cfg->rope.divisors = d->data;
    }
out:
    return rc;
}

static void to_json(const struct pd_config *cfg, struct pd_jw *w)
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
    pd_jw_kbool(w, "attention_bias", cfg->qkv_bias);
    pd_jw_kbool(w, "mlp_bias", cfg->mlp_bias);
    pd_jw_ki64(w, "pretraining_tp", 1);
    pd_jw_kf64(w, "attention_dropout", 0);
    if (cfg->sliding_window > 0)
        pd_jw_ki64(w, "sliding_window", cfg->sliding_window);
    pd_rope_to_json(cfg, w);
}

static const struct pd_family_type types[] = {
    {"llama", "LlamaForCausalLM", "LlamaForSequenceClassification"},
    {"mistral", "MistralForCausalLM", "MistralForSequenceClassification"},
    {NULL, NULL, NULL},
};
static const char *const archs[] = {"llama", NULL};

const struct pd_family pd_family_llama = {
    .name = "llama",
    .types = types,
    .gguf_archs = archs,
    .prefix = "model.",
    .specs = specs,
    .n_specs = sizeof specs / sizeof *specs,
    .padding_row = true,
    .from_json = from_json,
    .from_gguf = from_gguf,
    .to_json = to_json,
};
