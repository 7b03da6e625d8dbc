/* A judge gives a scalar to an answer: a reward model, or the toy reward of the tests.
 *
 * A reward model reads an answer as `podium score` reads it. Where the policy saw the prompt as
 * plain text and both have the same tokenizer, the ids that were sampled are scored as they are
 * (nothing is decoded and tokenised again); otherwise prompt and answer are put together as text
 * and go the way of a training row: strings joined, or messages through the chat template.
 *
 * "toy:LO-HI" is no model: the reward is the share of the answer's tokens with an id in LO..HI.
 * Owner thread. */
#ifndef PD_TRAIN_JUDGE_H
#define PD_TRAIN_JUDGE_H

#include "train/learner.h"
#include "train/scorer.h"

struct pd_judge {
    struct pd_model *model; /* NULL for the toy */
    struct pd_scorer scorer;
    int32_t toy_lo, toy_hi;
    int32_t pad;
};

/* An answer to judge; all borrowed. */
struct pd_sample {
    struct json_object *prompt; /* the row's "prompt": a string or messages */
    const int32_t *prompt_ids;  /* as the policy saw it */
    int64_t n_prompt;
    const int32_t *ids; /* the answer, eos included */
    int64_t n;
    struct pd_str text; /* the answer as text, without eos */
    bool plain;         /* prompt_ids are the prompt's text, no template around it */
};

/* spec: a model path or "toy:LO-HI". label: of a classifier, whose logit is the reward (labels.h);
 * else NULL. policy: whose ids will be judged. */
PD_CHECKED enum pd_rc pd_judge_open(struct pd_judge *j, const char *spec, const char *label,
                                    const struct pd_model *policy, const char *dtype,
                                    int64_t micro_tokens, struct pd_err *err);
PD_CHECKED enum pd_rc pd_judge_score(const struct pd_judge *j, const struct pd_sample *samples,
                                     size_t n, const struct pd_model *policy, float *score,
                                     struct pd_err *err);
void pd_judge_close(struct pd_judge *j); /* fine on a zeroed one */

/* Opens a reward model for scoring: weights and decoder. PD_INVALID when it has no score
 * head, or label is not one of several (pd_model_keep_label). */
PD_CHECKED enum pd_rc pd_scorer_open(struct pd_scorer *s, struct pd_model **model, const char *path,
                                     const char *label, const char *dtype, int64_t micro_tokens,
                                     struct pd_err *err);

#endif
