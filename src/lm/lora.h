/* LoRA adapters as PEFT stores them: a folder of adapter_config.json and adapter_model.safetensors
 * (or .bin), applied to an open model by adding to its weights:
 *
 *     W += scale B A      W (out, in), A (r, in), B (out, r); scale alpha/r, or alpha/sqrt(r)
 * (rslora)
 *
 * r and alpha of a module may come from rank_pattern and alpha_pattern; W that stands (in, out)
 * (GPT-2's Conv1D) takes the transpose; of an embedding A is (r, V) and B (H, r). Modules saved
 * whole (modules_to_save: score, lm_head) and biases replace the model's. What would change the
 * numbers and is not known (DoRA, other PEFT types, weights initialised from the base such as
 * PiSSA) is refused by name, and so is a tensor that finds no place. (peft 0.21: tuners/lora,
 * utils/save_and_load) */
#ifndef PD_LM_LORA_H
#define PD_LM_LORA_H

#include "lm/model.h"

struct pd_lora;

bool pd_lora_is_adapter(const char *dir); /* has it an adapter_config.json? */
/* The base model it names, as a path: as it stands, beside the adapter, or a pulled model.
 * PD_NOTFOUND says what to do. Caller frees. */
PD_CHECKED enum pd_rc pd_lora_base(const char *dir, char **base, struct pd_err *err);

PD_CHECKED enum pd_rc pd_lora_open(struct pd_lora **out, const char *dir, struct pd_err *err);
void pd_lora_close(struct pd_lora *l);           /* accepts NULL */
int64_t pd_lora_labels(const struct pd_lora *l); /* rows of the score head it holds, or 0 */
/* Does it bring both of the two matrices that are one in m, which has no table yet? */
bool pd_lora_unties(const struct pd_lora *l, const struct pd_model *m);

/* m has its data: fp32 in a slab (then in place), or the files' (then in memory of the model; F32,
 * F16 and BF16 stay what they are, with one rounding as PEFT's merge does it, the rest becomes
 * BF16). */
PD_CHECKED enum pd_rc pd_lora_apply(const struct pd_lora *l, struct pd_model *m,
                                    struct pd_err *err);

#endif
