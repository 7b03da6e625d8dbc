/* What the Llama lineage shares: Llama, Mistral, SmolLM, and Qwen, whose tensors and keys are named
 * alike. QK_ROWS are the quirks of q and k in GGUF files. */
#ifndef PD_LM_FAMILY_LLAMA_H
#define PD_LM_FAMILY_LLAMA_H

#include "lm/family.h"

#define PD_LLAMA_ROW(role, hf, gguf, rows, cols, quirks)                                           \
    {                                                                                              \
        PD_ROLE_##role, "model.layers.{}." hf, "blk.{}." gguf, PD_DIM_##rows, PD_DIM_##cols,       \
            quirks                                                                                 \
    }

/* clang-format off */
#define PD_LLAMA_SPECS(QK_ROWS)                                                                    \
    {PD_ROLE_EMBED, "model.embed_tokens.weight", "token_embd.weight", PD_DIM_V, PD_DIM_H, 0},      \
    PD_LLAMA_ROW(NORM1_W, "input_layernorm.weight", "attn_norm.weight", H, NONE, 0),               \
    PD_LLAMA_ROW(Q_W, "self_attn.q_proj.weight", "attn_q.weight", Q, H, QK_ROWS),                  \
    PD_LLAMA_ROW(Q_B, "self_attn.q_proj.bias", "attn_q.bias", Q, NONE, QK_ROWS),                   \
    PD_LLAMA_ROW(K_W, "self_attn.k_proj.weight", "attn_k.weight", KV, H, QK_ROWS),                 \
    PD_LLAMA_ROW(K_B, "self_attn.k_proj.bias", "attn_k.bias", KV, NONE, QK_ROWS),                  \
    PD_LLAMA_ROW(V_W, "self_attn.v_proj.weight", "attn_v.weight", KV, H, 0),                       \
    PD_LLAMA_ROW(V_B, "self_attn.v_proj.bias", "attn_v.bias", KV, NONE, 0),                        \
    PD_LLAMA_ROW(OUT_W, "self_attn.o_proj.weight", "attn_output.weight", H, Q, 0),                 \
    PD_LLAMA_ROW(OUT_B, "self_attn.o_proj.bias", "attn_output.bias", H, NONE, 0),                  \
    PD_LLAMA_ROW(Q_NORM, "self_attn.q_norm.weight", "attn_q_norm.weight", D, NONE, 0),             \
    PD_LLAMA_ROW(K_NORM, "self_attn.k_norm.weight", "attn_k_norm.weight", D, NONE, 0),             \
    PD_LLAMA_ROW(NORM2_W, "post_attention_layernorm.weight", "ffn_norm.weight", H, NONE, 0),       \
    PD_LLAMA_ROW(GATE_W, "mlp.gate_proj.weight", "ffn_gate.weight", F, H, 0),                      \
    PD_LLAMA_ROW(GATE_B, "mlp.gate_proj.bias", "ffn_gate.bias", F, NONE, 0),                       \
    PD_LLAMA_ROW(UP_W, "mlp.up_proj.weight", "ffn_up.weight", F, H, 0),                            \
    PD_LLAMA_ROW(UP_B, "mlp.up_proj.bias", "ffn_up.bias", F, NONE, 0),                             \
    PD_LLAMA_ROW(DOWN_W, "mlp.down_proj.weight", "ffn_down.weight", H, F, 0),                      \
    PD_LLAMA_ROW(DOWN_B, "mlp.down_proj.bias", "ffn_down.bias", H, NONE, 0),                       \
    {PD_ROLE_FINAL_W, "model.norm.weight", "output_norm.weight", PD_DIM_H, 0, 0},                  \
    {PD_ROLE_HEAD_W, "lm_head.weight", "output.weight", PD_DIM_V, PD_DIM_H, 0}
/* clang-format on */

/* What holds where config.json is silent; 0 = computed from the other sizes. */
struct pd_llama_defaults {
    int n_kv_heads, head_dim, max_positions;
};
/* Sizes, norms, activation, rotary positions, tying; biases, q/k norms and windows are the
 * caller's. */
void pd_llama_from_json(struct pd_cfg_reader *r, struct pd_config *cfg, struct pd_llama_defaults d);
void pd_llama_from_gguf(struct pd_key_reader *r, struct pd_config *cfg);
void pd_llama_to_json(const struct pd_config *cfg, struct pd_jw *w);

#endif
