/* The command table. One file per verb (cmd_NAME.c), one row here; `podium --help`, `podium help
 * VERB`, completions and man pages are printed from the rows and from each verb's option table.
 *
 * A verb gets argv after its own name. It parses with pd_opt_parse, and on `--help` prints its page
 * with pd_cmd_help. It returns an exit code through pd_cmd_fail / 0. */
#ifndef PD_CMD_CMD_H
#define PD_CMD_CMD_H

#include "base/err.h"
#include "base/opt.h"

struct pd_cmd {
    const char *name;
    const char *group;   /* heading in `podium --help` */
    const char *summary; /* one line, lower case, no full stop */
    int (*run)(const struct pd_cmd *self, int argc, char **argv);
};

/* Rows: X(name, function, group, summary). Sorted as a user meets them. */
#define PD_CMD_LIST(X)                                                                             \
    X("serve", pd_cmd_serve, "Collect", "the server: labeling pages, HTTP calls, jobs")            \
    X("worker", pd_cmd_worker, "Collect", "run the jobs that the server queues")                   \
    X("user", pd_cmd_user, "Collect", "accounts, keys and sign-in links")                          \
    X("dataset", pd_cmd_dataset, "Collect", "make, list, show, publish and delete datasets")       \
    X("import", pd_cmd_import, "Collect", "prompts, answers, pairs, other tools' files")           \
    X("status", pd_cmd_status, "Collect", "progress at a glance")                                  \
    X("agree", pd_cmd_agree, "Collect", "how far labelers agree, with intervals")                  \
    X("snapshot", pd_cmd_snapshot, "Collect", "freeze a dataset by content hash; splits")          \
    X("export", pd_cmd_export, "Collect", "judgments as training data")                            \
    X("model", pd_cmd_model, "Models", "fetch, inspect, make and convert models")                  \
    X("generate", pd_cmd_generate, "Models", "answers to prompts, many at once")                   \
    X("logprobs", pd_cmd_logprobs, "Models", "log-probabilities of every token of given texts")    \
    X("tokenize", pd_cmd_tokenize, "Models", "text to token ids and back")                         \
    X("train", pd_cmd_train, "Learn", "train a reward model, or a policy against one")             \
    X("score", pd_cmd_score, "Learn", "add a reward model's rewards to texts or pairs")            \
    X("eval", pd_cmd_eval, "Learn", "how good is a reward model, how far has a policy come")       \
    X("run", pd_cmd_run, "Learn", "list, show, compare and stop runs")

#define X(name, fn, group, summary) int fn(const struct pd_cmd *self, int argc, char **argv);
PD_CMD_LIST(X)
#undef X

/* `usage` lines ("podium generate --model M --prompts F --out F"), paragraphs of text, options,
 * examples: one page on stdout. Any part may be NULL. Returns 0. */
int pd_cmd_help(const struct pd_cmd *self, const char *usage, const char *text,
                const struct pd_opt *options, const char *examples);
/* "podium VERB: message" on stderr (with a hint to --help for PD_USAGE); returns the exit code. */
int pd_cmd_fail(const struct pd_cmd *self, const struct pd_err *err);

#endif
