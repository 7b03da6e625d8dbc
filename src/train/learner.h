/* A model that learns: its weights, the decoder over them, AdamW, and one way to make a step. Every
 * training loop of this wing has one (PPO with a separate value model has two).
 *
 * struct pd_train_options holds what all loops share; the command line fills it. Owner thread. */
#ifndef PD_TRAIN_LEARNER_H
#define PD_TRAIN_LEARNER_H

#include "lm/decoder.h"
#include "lm/model.h"
#include "tensor/optim.h"
#include "train/run.h"

struct pd_train_options {
    const char *model, *data, *eval_data, *out;
    const char *dtype; /* auto | bf16 | fp32 */
    int64_t epochs, max_steps, batch_size, micro_batch_tokens;
    double learning_rate;
    const char *lr_scheduler;
    int64_t warmup_steps;
    double weight_decay, adam_beta1, adam_beta2, adam_epsilon, max_grad_norm;
    int64_t max_length;
    bool shuffle;
    int64_t eval_every, save_every, keep_checkpoints;
    double freeze_layers; /* share of the blocks, from the bottom */
    int64_t memory_limit; /* bytes, 0 = none */
    int64_t seed, threads;
    bool quiet, resume, skip_bad;
};
/* TRL's and the Hugging Face Trainer's defaults. */
void pd_train_options_default(struct pd_train_options *o);

struct pd_learner {
    struct pd_model *model;
    struct pd_decoder *dec;
    struct pd_adamw adam;
    bool generates; /* answers are drawn from its live weights (PPO sets it) */
    float *dhidden; /* (rows, H) scratch */
    size_t dhidden_n;
};

struct pd_learner_heads {
    unsigned which;    /* PD_HEAD_..., or-ed */
    bool init_normal;  /* one that the files lack: normal(0, initializer_range), else zeros */
    const char *label; /* PD_HEAD_SCORE: of a classifier's labels the one that is kept
                          (pd_model_keep_label); else NULL */
};

/* Opens path for training with the given heads, freezes the bottom floor(freeze * L) blocks and,
 * with any of them, the embeddings (and so a tied LM head). */
PD_CHECKED enum pd_rc pd_learner_open(struct pd_learner *l, const char *path,
                                      const struct pd_learner_heads *heads,
                                      const struct pd_train_options *opt, struct pd_err *err);
void pd_learner_close(struct pd_learner *l); /* fine on a zeroed one */

/* (rows, H), zeroed; good until the next call. */
PD_CHECKED enum pd_rc pd_learner_dhidden(struct pd_learner *l, int64_t rows, float **out,
                                         struct pd_err *err);
/* One update from the gradients that stand in the table: norm, check, clip (max_norm <= 0: none),
 * AdamW, repack. *grad_norm is before clipping. PD_NONFINITE names tensor and step; the weights
 * are then as they were. `step` counts from 1. */
PD_CHECKED enum pd_rc pd_learner_step(struct pd_learner *l, double lr, double max_norm,
                                      int64_t step, double *grad_norm, struct pd_err *err);

/* Bytes that a learner holds whatever the batch: weights, the copies that products make of them,
 * and of what trains the gradient and two moments; and those of a model that only computes, `rows`
 * at a time: its weights lie in their file. (lm/plan.h) */
int64_t pd_learner_bytes(const struct pd_learner *l);
int64_t pd_inference_bytes(const struct pd_decoder *dec, int64_t rows);
/* Halves *micro_tokens (not below 256) until weights, optimizer and activations fit opt's memory
 * limit, if it has one, beside what else the run holds; PD_TOOBIG says what would be needed. */
PD_CHECKED enum pd_rc pd_learner_plan(const struct pd_learner *l,
                                      const struct pd_train_options *opt, int64_t beside,
                                      int64_t *micro_tokens, struct pd_err *err);

#endif
