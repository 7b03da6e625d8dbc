/* The description of a decoder-only model: everything the decoder needs to know that is not a
 * weight. A family file (family_*.c) fills it from config.json or GGUF keys; nothing that reads it
 * may ask which family it came from. GPT-2, GPT-J, GPT-NeoX, Falcon, Llama, Mistral, SmolLM, Qwen2
 * and Qwen3 are all points in this space.
 *
 * One block, with n1/n2 its norms, computes
 *     sequential          x += attn(n1 x);             x += mlp(n2 x)
 *     parallel, 2 norms   x += attn(n1 x) + mlp(n2 x)              (both read the same x)
 *     parallel, 1 norm    x += attn(n1 x) + mlp(n1 x)
 *
 * Plain data, immutable once the model is open; any thread may read it. */
#ifndef PD_LM_CONFIG_H
#define PD_LM_CONFIG_H

#include "tensor/ops.h"

enum pd_lm_norm { PD_LM_LAYERNORM, PD_LM_RMSNORM };
enum pd_lm_pos { PD_LM_POS_LEARNED, PD_LM_POS_ROPE, PD_LM_POS_ALIBI };
enum pd_lm_scaling {
    PD_LM_SCALE_NONE,
    PD_LM_SCALE_LINEAR,
    PD_LM_SCALE_DYNAMIC,
    PD_LM_SCALE_LLAMA3,
    PD_LM_SCALE_YARN,
};

struct pd_rope {
    int dim;          /* rotated dims of each head, <= head_dim; even */
    double theta;     /* base */
    bool interleaved; /* pairs (2i, 2i+1) instead of (i, i + dim/2) */
    enum pd_lm_scaling scaling;
    double factor, low_freq_factor, high_freq_factor;
    double attention_factor; /* yarn; 0 = its default */
    double beta_fast, beta_slow;
    bool untruncated; /* yarn: its range of dimensions is not rounded to whole ones */
    int original_max_positions;
    const float
        *divisors; /* (dim/2) extra divisors of the frequencies (GGUF rope_freqs), or NULL */
};

/* Where head vectors of head_dim floats stand in one row of the fused q,k,v output:
 *     query head h   q_off + (h / group) * q_group_stride + (h % group) * head_dim
 *     key head g     k_off + g * kv_stride        value head g   v_off + g * kv_stride
 * with group = n_heads / n_kv_heads. `blocks` is true for the common [all q | all k | all v]. */
struct pd_qkv_layout {
    int64_t q_off, k_off, v_off, q_group_stride, kv_stride, width;
    bool blocks;
};

/* One end token less than those who generate keep, who add the tokenizer's own (pd_model_eos). */
enum { PD_CONFIG_MAX_EOS = 15, PD_CONFIG_MAX_LAYERS = 1024 };

struct pd_config {
    char family[32];     /* "llama": names the row of the family table that opens and saves it */
    char model_type[32]; /* as config.json spells it: "llama", "mistral", "gpt2" */

    int vocab_size;    /* V: rows of the embedding (may exceed the tokenizer's) */
    int hidden_size;   /* H */
    int n_layers;      /* L */
    int n_heads;       /* A query heads */
    int n_kv_heads;    /* K key/value heads, divides A; head h reads kv head h / (A/K) */
    int head_dim;      /* D, may differ from H/A */
    int ffn_size;      /* F */
    int max_positions; /* context the model was made for; a hard limit for PD_LM_POS_LEARNED */

    enum pd_lm_norm norm;
    double norm_eps;
    enum pd_act act;
    bool gated; /* mlp = down(act(gate x) * up x), else down(act(up x)) */
    bool parallel_residual;
    int n_norms;  /* norms a block has: 2, or 1 (parallel blocks only) */
    bool qk_norm; /* RMSNorm over head_dim on q and k before rope, eps norm_eps */

    bool qkv_bias, out_bias, mlp_bias, lm_head_bias;
    bool tied; /* the output matrix is the embedding */

    enum pd_lm_pos pos;
    struct pd_rope rope;      /* PD_LM_POS_ROPE */
    double attn_scale;        /* scores are q.k * attn_scale; usually 1/sqrt(D) */
    bool attn_scale_by_layer; /* and divided by (layer + 1): GPT-2's scale_attn_by_inverse_layer_idx
                               */
    bool alibi_bf16;          /* PD_LM_POS_ALIBI: see alibi_bf16 in tensor/attention.h */
    int sliding_window;       /* query t sees keys t-W+1..t; 0 = all */
    uint8_t sees_all[PD_CONFIG_MAX_LAYERS / 8]; /* bit l % 8 of byte l / 8: no window in layer l */
    bool qkv_grouped;         /* fused q, k, v stand by key/value head, not in blocks */
    struct pd_qkv_layout qkv; /* follows from the heads: pd_config_set_qkv */

    int32_t eos_ids[PD_CONFIG_MAX_EOS];
    int n_eos;
    int32_t padding_row; /* row of the embedding that being read never trains (the padding_idx that
                            transformers gives to Llama's embedding: its pad_token_id); -1 = none */
    int32_t bos_id, pad_id; /* -1 = none. pad is read by config only; masks come from lengths */
    int64_t n_labels;       /* rows of a score head: those in the files, else 1 (labels.h) */
    double initializer_range;
};

/* Fills cfg->qkv: [all q | all k | all v], or with qkv_grouped [its queries | key | value] of one
 * key/value head after the other (Falcon, and with as many key/value heads as heads NeoX). */
void pd_config_set_qkv(struct pd_config *cfg);

/* PD_INVALID naming the first field that cannot be (zero sizes, A not a multiple of K, products
 * past what a tensor may have...). Called by every opener before anything is allocated. */
PD_CHECKED enum pd_rc pd_config_check(const struct pd_config *cfg, struct pd_err *err);

/* The window of a layer: sliding_window, or 0 where the layer sees everything. */
int pd_config_window(const struct pd_config *cfg, int layer);

/* The longest sequence: max_positions; dynamic scaling stretches it by its factor. */
int64_t pd_config_context(const struct pd_config *cfg);

/* What the rows of a longer sequence hold depends on its length, so it shares them with no other;
 * 0 = always shared. For pd_stream.share_limit. */
int64_t pd_config_share_limit(const struct pd_config *cfg);

/* The rotation frequencies after scaling: out (rope.dim / 2), radians a position. `n_positions` is
 * the length in use (dynamic scaling only; 0 = within max_positions). Returns the factor
 * that cos and sin are multiplied with (1 except for yarn). */
double pd_config_rope_freqs(const struct pd_config *cfg, int64_t n_positions, float *out);

bool pd_config_is_eos(const struct pd_config *cfg, int32_t id);
/* Parameters of the trunk and the LM head, tied ones counted once. */
int64_t pd_config_n_params(const struct pd_config *cfg);

#endif
