/* `podium score` and `podium eval reward`: rewards of a reward model for the rows of a file.
 *
 *   {"prompt"?, "text"} or {"ids"}            -> the row + "reward"
 *   {"prompt"?, "chosen", "rejected"} ...     -> the row + "reward_chosen", "reward_rejected"
 *
 * Rows stream through in packs, so a file of any size needs the memory of one pack (the summary of
 * pairs keeps a few numbers each). Owner thread. */
#ifndef PD_TRAIN_SCORE_H
#define PD_TRAIN_SCORE_H

#include "train/judge.h"
#include "train/reward_eval.h"

struct pd_score_options {
    const char *model, *in, *out; /* out NULL: only the summary */
    const char *reward_label; /* of a classifier: the label whose logit is the reward; else NULL */
    const char *dtype;
    int64_t micro_tokens, max_length; /* a longer text is a bad row; 0 = the model's context */
    bool skip_bad, quiet;
};
struct pd_score_result {
    size_t n_texts;
    double mean_reward, min_reward, max_reward; /* of texts */
    struct pd_reward_summary pairs;             /* n = 0 when there were none */
};
PD_CHECKED enum pd_rc pd_score_file(const struct pd_score_options *o, struct pd_score_result *out,
                                    struct pd_err *err);

#endif
