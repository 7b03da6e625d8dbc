/* A model family: how a checkpoint spells what struct pd_config and struct pd_block say.
 *
 * A family is one file with one `const struct pd_family`: which model_type and GGUF architectures
 * it owns, how their keys are read and written, and a table with one row per tensor: its role, its
 * names, its shape, its quirks. Loading, saving, initialising and counting are generic over that
 * table. To add a family, write that file and name it in PD_FAMILY_LIST. */
#ifndef PD_LM_FAMILY_H
#define PD_LM_FAMILY_H

#include "base/json.h"
#include "lm/config.h"
#include "lm/gguf.h"

#define PD_FAMILY_LIST(X)                                                                          \
    X(llama)                                                                                       \
    X(qwen)                                                                                        \
    X(gpt2)                                                                                        \
    X(gptj)                                                                                        \
    X(neox)                                                                                        \
    X(falcon)

/* Every place a tensor can have in a model. */
enum pd_role {
    PD_ROLE_EMBED,
    PD_ROLE_POS_EMBED,
    PD_ROLE_NORM1_W,
    PD_ROLE_NORM1_B,
    PD_ROLE_Q_W,
    PD_ROLE_Q_B,
    PD_ROLE_K_W,
    PD_ROLE_K_B,
    PD_ROLE_V_W,
    PD_ROLE_V_B,
    PD_ROLE_QKV_W, /* fused */
    PD_ROLE_QKV_B,
    PD_ROLE_Q_NORM,
    PD_ROLE_K_NORM,
    PD_ROLE_OUT_W,
    PD_ROLE_OUT_B,
    PD_ROLE_NORM2_W,
    PD_ROLE_NORM2_B,
    PD_ROLE_GATE_W,
    PD_ROLE_GATE_B,
    PD_ROLE_UP_W,
    PD_ROLE_UP_B,
    PD_ROLE_DOWN_W,
    PD_ROLE_DOWN_B,
    PD_ROLE_FINAL_W,
    PD_ROLE_FINAL_B,
    PD_ROLE_HEAD_W,
    PD_ROLE_HEAD_B,
    /* not in family tables: the same in all of them */
    PD_ROLE_SCORE_W,
    PD_ROLE_VALUE_W,
    PD_ROLE_VALUE_B,
};

enum pd_dim {
    PD_DIM_NONE,
    PD_DIM_V,
    PD_DIM_H,
    PD_DIM_F,
    PD_DIM_D,
    PD_DIM_Q,   /* A * D */
    PD_DIM_KV,  /* K * D */
    PD_DIM_QKV, /* width of the fused row */
    PD_DIM_POS,
    PD_DIM_LABELS, /* rows of the score head */
};

enum {
    PD_SPEC_IN_OUT = 1,     /* Conv1D: stands (in, out) in Hugging Face files, (out, in) in GGUF */
    PD_SPEC_PERMUTED = 2,   /* GGUF interleaves the halves of each head's rows */
    PD_SPEC_FUSED_ROWS = 4, /* rows lie as cfg.qkv says; GGUF regroups them to [q | k | v] */
    /* Rows of the table that stand for the same role under different names: which of them counts
     * in a model of "twin" blocks (parallel, a norm of their own for attention and MLP). */
    PD_SPEC_IF_TWIN = 8,
    PD_SPEC_UNLESS_TWIN = 16,
};

struct pd_tensor_spec {
    enum pd_role role;
    const char *hf, *gguf;  /* "{}" stands for the block number; gguf NULL = not in such files */
    enum pd_dim rows, cols; /* as it stands in Hugging Face files; vectors have no cols */
    unsigned quirks;
};

/* A config.json being read: the first trouble is kept, later reads do nothing. `keys` is a list of
 * aliases parted by '|', the first that is there and not null counts. */
struct pd_cfg_reader {
    struct json_object *o;
    const char *path;
    enum pd_rc rc;
    struct pd_err *err;
};
#define PD_CFG_REQUIRED INT64_MIN /* as the fallback: absence is an error */
bool pd_cfg_has(const struct pd_cfg_reader *r, const char *key); /* be it null */
int pd_cfg_int(struct pd_cfg_reader *r, const char *keys, int64_t fallback);
double pd_cfg_num(struct pd_cfg_reader *r, const char *keys, double fallback);
bool pd_cfg_bool(struct pd_cfg_reader *r, const char *keys, bool fallback);
struct pd_str pd_cfg_str(struct pd_cfg_reader *r, const char *keys, const char *fallback);
/* head_dim where heads share the hidden size equally, as they must. */
void pd_cfg_equal_heads(struct pd_cfg_reader *r, struct pd_config *cfg);
/* hidden_act and its like. */
enum pd_act pd_cfg_act(struct pd_cfg_reader *r, const char *keys, const char *fallback);
const char *pd_act_hf_name(enum pd_act a);
/* rope_theta, rope_scaling and the newer rope_parameters; needs max_positions, head_dim, and in
 * rope.dim and rope.theta what holds where the keys are silent. theta_keys: aliases of the base.
 * partial: the family knows partial_rotary_factor; transformers passes over it in others, or fails
 * where they are scaled. */
void pd_cfg_rope(struct pd_cfg_reader *r, struct pd_config *cfg, const char *theta_keys,
                 bool partial);
void pd_rope_to_json(const struct pd_config *cfg, struct pd_jw *w);
/* sliding_window of the layers that layer_types calls sliding_attention or, without such a list,
 * of those from first_windowed on. */
void pd_cfg_windows(struct pd_cfg_reader *r, struct pd_config *cfg, int window, int first_windowed);
void pd_cfg_fail(struct pd_cfg_reader *r, const char *fmt, ...) PD_PRINTF(2, 3);

/* The same for the keys of a GGUF file, which are spelled "<arch>.<key>". */
struct pd_key_reader {
    const struct pd_gguf *g;
    const char *arch;
    enum pd_rc rc;
    struct pd_err *err;
};
int pd_key_int(struct pd_key_reader *r, const char *key, int64_t fallback);
double pd_key_num(struct pd_key_reader *r, const char *key, double fallback);
bool pd_key_bool(struct pd_key_reader *r, const char *key, bool fallback);
bool pd_key_tensor(const struct pd_key_reader *r, const char *name); /* is it there? */
/* Sizes that all architectures spell alike: hidden, layers, heads, key/value heads, head
 * dimension, feed-forward, positions. */
void pd_key_shape(struct pd_key_reader *r, struct pd_config *cfg);
/* Of ours: all the ids that end an answer, where the format has a key for one. */
#define PD_KEY_EOS_IDS "podium.eos_token_ids"
/* Of ours, beside rope_freqs.weight: the parameters of llama3 scaling. */
#define PD_KEY_LLAMA3  "podium.rope.llama3."
/* rope.*: as pd_cfg_rope. */
void pd_key_rope(struct pd_key_reader *r, struct pd_config *cfg);
void pd_key_fail(struct pd_key_reader *r, enum pd_rc rc, const char *fmt, ...) PD_PRINTF(3, 4);

struct pd_family_type {
    const char *model_type, *gguf_arch; /* "mistral", "llama"; the first type with an architecture
                                           is what a GGUF file of it is taken for */
    const char *lm_class, *cls_class;   /* "LlamaForCausalLM", "LlamaForSequenceClassification" */
};

struct pd_family {
    const char *name;
    const struct pd_family_type *types; /* ends with a NULL model_type */
    const char *prefix;                 /* of trunk tensors; may be absent in files */
    const struct pd_tensor_spec *specs;
    size_t n_specs;
    bool padding_row; /* transformers' embedding has a padding_idx */
    /* Shapes and quirks; ids, labels, tying, max_positions and vocab are read by the caller. */
    void (*from_json)(struct pd_cfg_reader *r, struct pd_config *cfg);
    void (*from_gguf)(struct pd_key_reader *r, struct pd_config *cfg);
    void (*to_json)(const struct pd_config *cfg, struct pd_jw *w);
};

#define X(name) extern const struct pd_family pd_family_##name;
PD_FAMILY_LIST(X)
#undef X

const struct pd_family *pd_family_by_name(const char *name);
/* config.json -> description, checked. PD_UNSUPPORTED names the known types of model. */
PD_CHECKED enum pd_rc pd_config_from_json(struct json_object *o, const char *path,
                                          struct pd_config *cfg, const struct pd_family **family,
                                          struct pd_err *err);
PD_CHECKED enum pd_rc pd_config_from_gguf(const struct pd_gguf *g, struct pd_config *cfg,
                                          const struct pd_family **family, struct pd_err *err);

/* Does the model of cfg have this tensor (its head aside)? */
bool pd_spec_present(const struct pd_tensor_spec *s, const struct pd_config *cfg);
bool pd_role_in_block(enum pd_role role);
int64_t pd_dim_size(enum pd_dim d, const struct pd_config *cfg);
/* pattern with "{}" replaced; caller frees with pd_free. */
char *pd_spec_name(const char *pattern, int layer);

#endif
