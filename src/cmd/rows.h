/* Rows of option tables that the verbs of models share: each is worded once. */
#ifndef PD_CMD_ROWS_H
#define PD_CMD_ROWS_H

#include "base/opt.h"
#include "tensor/backend.h"

#define PD_ROW_DTYPE(value)                                                                        \
    PD_OPT_ROW("dtype", PD_OPT_CHOICE, value, "T", "precision of the matrix products",             \
               .choices = PD_COMPUTE_CHOICES)
#define PD_ROW_MICRO_BATCH(value)                                                                  \
    PD_OPT_ROW("micro-batch-tokens", PD_OPT_I64, value, "N", "tokens in memory at once", .min = 1, \
               .max = 1e8)
#define PD_ROW_THREADS(value)                                                                      \
    PD_OPT_ROW("threads", PD_OPT_I64, value, "N", "0 = all cores", .min = 0, .max = 4096)
#define PD_ROW_SKIP_BAD(value)                                                                     \
    PD_OPT_ROW("skip-bad", PD_OPT_FLAG, value, NULL, "pass over bad rows instead of stopping")
#define PD_ROW_REWARD_LABEL(value)                                                                 \
    PD_OPT_ROW("reward-label", PD_OPT_STR, value, "LABEL",                                         \
               "of a classifier with several labels the one whose logit is the reward: its name "  \
               "or number")
#define PD_ROW_QUIET(value) PD_OPT_ROW("quiet", PD_OPT_FLAG, value, NULL, "no progress line")

/* How a reward model reads a file: o is a struct pd_score_options. */
#define PD_ROWS_SCORE(o, n_threads)                                                                \
    PD_ROW_REWARD_LABEL(&(o).reward_label),                                                        \
        PD_OPT_ROW("max-length", PD_OPT_I64, &(o).max_length, "N",                                 \
                   "a longer text is a bad row; 0 = the model's context", .min = 0, .max = 1e7),   \
        PD_ROW_MICRO_BATCH(&(o).micro_tokens), PD_ROW_DTYPE(&(o).dtype),                           \
        PD_ROW_THREADS(&(n_threads)), PD_ROW_SKIP_BAD(&(o).skip_bad), PD_ROW_QUIET(&(o).quiet)

#endif
