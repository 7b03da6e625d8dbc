/* A model: its description, its table of parameters, its tokenizer.
 *
 * pd_model_open takes a Hugging Face folder (config.json + *.safetensors or pytorch_model.bin,
 * sharded or not), a .gguf file, or a run folder (whose model/ it opens). The parameter table
 * (tensor/params.h) carries Hugging Face names and shapes whatever the file was; a decoder never
 * looks at names: it goes through the roles below.
 *
 *   PD_MODEL_INFERENCE  each data pointer lies in the mapped file, in the file's own dtype (F32 F16
 *                       BF16 Q8_0 Q4_0 Q4_1), or in memory of the model where the file's layout
 *                       differs (the permuted q/k rows of llama GGUFs). Opening touches no weights
 *                       that need no change.
 *                       Vectors (norms, biases) are always fp32.
 *   PD_MODEL_TRAINING   all data are fp32 in one 64-byte-aligned slab, and the grads of what trains
 *                       in another.
 *
 * The table and the roles are fixed after opening; the data of a training model are the caller's to
 * change. Opening is single-threaded; reading an open model is safe from any thread. */
#ifndef PD_LM_MODEL_H
#define PD_LM_MODEL_H

#include "lm/chat.h"
#include "lm/config.h"
#include "lm/tokenizer.h"
#include "tensor/params.h"

/* A linear map by role. y = x W^T + b with W (out, in); `in_out` says that W stands (in, out) in
 * the table instead (GPT-2's Conv1D). Absent bias: b NULL. Absent map: w NULL. */
struct pd_lin {
    struct pd_param *w, *b;
    bool in_out;
};
struct pd_norm {
    struct pd_param *w, *b; /* b NULL for RMSNorm */
};

struct pd_block {
    struct pd_norm norm1; /* before attention (before both in a one-norm parallel block) */
    struct pd_norm norm2; /* before the MLP; w NULL when cfg.n_norms is 1 */
    struct pd_lin qkv[3]; /* n_qkv of them; outputs side by side form the row of cfg.qkv */
    int n_qkv;            /* 3: q, k, v; 1: already fused */
    struct pd_param *q_norm, *k_norm; /* (D), or NULL */
    struct pd_lin out;                /* (H, A*D) */
    struct pd_lin up[2];              /* gated: gate, up; else: up */
    int n_up;
    struct pd_lin down; /* (H, F) */
};
/* Matrix k of a block: those of qkv, out, those of up, down; NULL past the last. */
static inline const struct pd_lin *pd_block_lin(const struct pd_block *b, int k)
{
    if (k < b->n_qkv)
        return &b->qkv[k];
    k -= b->n_qkv;
    if (k == 0)
        return &b->out;
    return k <= b->n_up ? &b->up[k - 1] : k == b->n_up + 1 ? &b->down : NULL;
}

enum pd_model_purpose { PD_MODEL_INFERENCE, PD_MODEL_TRAINING };

/* Which heads the table shall hold, or-ed. */
enum {
    PD_HEAD_LM = 1,    /* the output matrix (the embedding itself when tied) */
    PD_HEAD_SCORE = 2, /* score.weight (labels, H), no bias: with one label a reward or value model,
                          with several a classifier (labels.h) */
    PD_HEAD_VALUE = 4, /* v_head.summary.{weight (1, H), bias (1)}: beside LM, for a shared value
                          head; never written into a Hugging Face folder */
};

struct pd_model_options {
    enum pd_model_purpose purpose;
    const char *adapter;   /* folder of a LoRA adapter to add to the weights, or NULL */
    unsigned heads;        /* 0 = what the files hold */
    bool init_head_normal; /* a head the files lack: normal(0, initializer_range), else zeros */
    uint64_t seed;         /* of that head */
    bool as_in_file; /* PD_MODEL_INFERENCE: matrices that a family keeps the other way round stay
                        as the file has them, without copies; for who only multiplies */
    bool no_grads;   /* PD_MODEL_TRAINING without gradients (reference, frozen reward model) */
    double freeze_layers; /* share of the blocks, from the bottom, that do not train: [0, 1]; with
                             any of them the embeddings (and a tied output matrix) do not either */
};

struct pd_model {
    struct pd_config cfg;
    struct pd_params params;
    struct pd_tokenizer *tok;
    struct pd_chat chat;

    struct pd_param *embed;     /* (V, H) */
    struct pd_param *pos_embed; /* (max_positions, H) for PD_LM_POS_LEARNED, else NULL */
    struct pd_block *blocks;    /* cfg.n_layers */
    struct pd_norm final_norm;
    struct pd_lin lm_head; /* w == embed when tied; w NULL without PD_HEAD_LM */
    struct pd_lin score;   /* PD_HEAD_SCORE */
    struct pd_lin value;   /* PD_HEAD_VALUE */
    unsigned heads;
    bool fresh_score; /* the score head was not in the files */

    char *path;                   /* what was opened, after resolving run folders */
    struct pd_model_files *files; /* private: maps, owned buffers, config.json as read */
};

/* Whether what was given as a model is an endpoint's address, http(s)://... */
bool pd_model_is_address(const char *given);
PD_CHECKED enum pd_rc pd_model_open(struct pd_model **out, const char *path,
                                    const struct pd_model_options *opt, struct pd_err *err);
/* Random weights at the shape of a config.json: matrices normal(0, initializer_range), norms one,
 * biases zero. tok may be NULL; the model takes it. The parameters have no data: the weights are
 * drawn while pd_model_save_hf writes them, which is all that may be done with it. */
PD_CHECKED enum pd_rc pd_model_init_like(struct pd_model **out, const char *config_json,
                                         unsigned heads, uint64_t seed, struct pd_tokenizer *tok,
                                         struct pd_err *err);
void pd_model_free(struct pd_model *m); /* accepts NULL */
/* Pages of its files need not stay in memory, for one who has made copies of what it read there. */
void pd_model_let_go(const struct pd_model *m);

/* How many blocks a share of them is, rounded down: what freeze_layers freezes. */
int pd_model_frozen_blocks(const struct pd_model *m, double share);

/* Ids that end an answer: the config's and the tokenizer's. Returns how many (at most max). */
int pd_model_eos(const struct pd_model *m, int32_t *ids, int max);

/* Only the description, without opening weights. */
PD_CHECKED enum pd_rc pd_model_read_config(const char *path, struct pd_config *cfg,
                                           struct pd_err *err);

/* Only the tokenizer of M; a folder needs no weights for that. */
PD_CHECKED enum pd_rc pd_model_open_tokenizer(struct pd_tokenizer **out, const char *path,
                                              struct pd_err *err);

/* A folder that transformers opens as it is: config.json, model.safetensors (sharded past 5 GB;
 * dtype F32, F16 or BF16), generation_config.json, and the tokenizer's files. With PD_HEAD_SCORE an
 * AutoModelForSequenceClassification, else an AutoModelForCausalLM. dir is created; a model
 * that stands there is replaced as a whole or, when this fails, not at all (model_place.h). */
PD_CHECKED enum pd_rc pd_model_save_hf(const struct pd_model *m, const char *dir,
                                       enum pd_dtype dtype, struct pd_err *err);
/* Whether there is anything that such a folder cannot say: to be asked before hours of training. */
PD_CHECKED enum pd_rc pd_model_can_save_hf(const struct pd_model *m, struct pd_err *err);
#define PD_MODEL_SHARD_BYTES ((size_t)5000000000)
/* The same with a limit of one's own, for verbs that only write: they stop when they are asked to
 * (PD_INTERRUPTED), where a trainer's last act goes to its end. */
PD_CHECKED enum pd_rc pd_model_save_hf_sharded(const struct pd_model *m, const char *dir,
                                               enum pd_dtype dtype, size_t max_shard_bytes,
                                               struct pd_err *err);

/* One GGUF file that llama.cpp opens, tokenizer and chat template included; dtype is any of
 * pd_dtype_can_write. Weights that are in that format already are copied bit for bit. Vectors and
 * learned positions stay F32; with Q4_0 the embedding and the output matrix are Q8_0; rows that are
 * no whole number of blocks are F16. PD_UNSUPPORTED for what GGUF cannot say. Tensors are streamed:
 * no more than one of them is in memory. PD_INTERRUPTED once the process is asked to stop. */
PD_CHECKED enum pd_rc pd_model_save_gguf(const struct pd_model *m, const char *path,
                                         enum pd_dtype dtype, struct pd_err *err);

#endif
