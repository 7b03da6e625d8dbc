/* How much memory jobs with a model take, from the rules by which they allocate:
 *
 *   packed       copies of weights for the products: in bf16 (2 bytes a value) where that is asked
 *                for, in fp32 (4 bytes) of a policy that generates while it trains, of matrices
 *                that lie [in, out] (GPT-2); other products go over the weights where they are,
 *                and what lies in a mapped file comes and goes (the panels that generating makes of
 *                them where there is room, decoder.h, are not needed and not counted)
 *   weights      training only: all parameters in fp32
 *   gradients    4 bytes for each parameter that trains
 *   moments      8 bytes for each of them (AdamW)
 *   activations  what a pass over a micro batch works in and, training, keeps (lm/decoder.h); the
 *                logits of the answers that run
 *   cache        whole pages of keys and values of every answer that runs (lm/kv.h): halves, but
 *                fp32 where a trainer samples or fp32 is asked for (generating from 4-bit weights
 *                it is 8 bits as a rule, about half of that)
 *
 * PPO adds up: the policy trains (and a critic with `--value-head model`), reference and reward
 * model are asked, answers are generated.
 *
 * With a LoRA adapter on every linear map of the blocks (PEFT's "all-linear"; its default takes
 * fewer): generating, the sums W + s B A take the place of the files' weights in memory
 * (lm/lora.h). Training is not there yet; the rows are what it would take by the same rules:
 *
 *   weights      frozen, in the dtype of the products: 2 or 4 bytes a value
 *   adapters     r (in + out) values of each map in fp32, and the score head, which trains whole
 *   gradients, moments   of the adapters and that head alone
 *   activations  as without: every block has something that trains, so all is kept; and the r
 *                values A x of each map and token
 *
 * and what does not train (reference, reward model, answers) as without. */
#ifndef PD_LM_PLAN_H
#define PD_LM_PLAN_H

#include "lm/model.h"

enum { PD_PLAN_ANSWERS = 64, PD_PLAN_TOKENS = 1024, PD_PLAN_MICRO = 2048, PD_PLAN_RANK = 16 };
enum { PD_PLAN_ROWS = 14, PD_PLAN_LORA_ROWS = 8 };
enum pd_plan_job { PD_PLAN_GENERATE, PD_PLAN_REWARD, PD_PLAN_PPO, PD_PLAN_CRITIC, PD_PLAN_JOBS };

/* ---- of an open model ---- */

/* What is done with a model. */
struct pd_plan_use {
    bool bf16; /* products in bf16 on a CPU that has it; else fp32 */
    bool train, generate;
};
/* Bytes of the copies of its weights that the products of an open model make. */
int64_t pd_plan_copies(const struct pd_model *m, const struct pd_plan_use *use);

/* ---- of a job: what `model info` shows ---- */

struct pd_plan_row {
    const char *job; /* "generate", "train reward", "train ppo", "train ppo, own critic" */
    enum pd_compute compute;
    double freeze; /* --freeze-layers */
    int rank;      /* of the LoRA adapters; 0 = none */
    bool not_yet;  /* podium cannot do this: what it would take */
    int64_t packed, weights, adapters, gradients, moments, activations, cache, total; /* bytes */
};

struct pd_plan {
    struct pd_plan_row rows[PD_PLAN_ROWS], lora[PD_PLAN_LORA_ROWS];
    int n, n_lora;
    int64_t adapter_values; /* of rank PD_PLAN_RANK */
    int64_t available;      /* bytes that this process could take now; 0 = unknown */
    int64_t tokens; /* of an answer and its prompt: PD_PLAN_TOKENS, or the context when shorter */
};

/* A row for each job, compute and, training, with and without half of the layers frozen; and one
 * for each job and compute with LoRA adapters of rank PD_PLAN_RANK. */
void pd_plan_make(const struct pd_model *m, struct pd_plan *plan);

/* The least of the machine's MemAvailable and what the cgroups above us leave; 0 = unknown. */
int64_t pd_memory_available(void);

#endif
