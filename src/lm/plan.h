/* How much memory jobs with a model take, from the rules by which they allocate:
 *
 *   packed       every matrix that is multiplied with, in the format of the products (fp32 4 bytes
 * a value, bf16 2), and vectors in fp32; what lies in the mapped file comes and goes weights
 * training only: all parameters in fp32 gradients    4 bytes, moments 8 bytes (AdamW) for each
 * parameter that trains activations  lm/decoder.h: pd_decoder_train_bytes of one micro batch cache
 * lm/kv.h: whole pages of keys and values, fp32, of every answer that runs
 *
 * PPO adds up: policy and critic train, reference and reward model are packed, answers are
 * generated. */
#ifndef PD_LM_PLAN_H
#define PD_LM_PLAN_H

#include "lm/model.h"

enum { PD_PLAN_ANSWERS = 64, PD_PLAN_TOKENS = 1024, PD_PLAN_MICRO = 2048, PD_PLAN_ROWS = 10 };

struct pd_plan_row {
    const char *job; /* "generate", "train reward", "train ppo" */
    enum pd_compute compute;
    double freeze;                                                          /* --freeze-layers */
    int64_t packed, weights, gradients, moments, activations, cache, total; /* bytes */
};

struct pd_plan {
    struct pd_plan_row rows[PD_PLAN_ROWS];
    int n;
    int64_t available; /* bytes that this process could take now; 0 = unknown */
    int64_t tokens; /* of an answer and its prompt: PD_PLAN_TOKENS, or the context when shorter */
};

void pd_plan_make(const struct pd_model *m, struct pd_plan *plan);

/* The least of the machine's MemAvailable and what the cgroups above us leave; 0 = unknown. */
int64_t pd_memory_available(void);

#endif
