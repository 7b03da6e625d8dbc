/* What the data-folder verbs (user, dataset, import, export, snapshot, status, agree) share: each
 * is a table of actions, an action is an option table and an operation. The options that were set
 * become the operation's JSON arguments under their own names (--min-votes 2 -> "min_votes": 2), so
 * a flag is described in one place and the verb itself says nothing twice. */
#ifndef PD_CMD_VERB_H
#define PD_CMD_VERB_H

#include "base/json.h"
#include "cmd/cmd.h"

#include <stdio.h>

struct pd_verb {
    const char *data; /* --data; NULL = the default folder */
    bool json, quiet;
    struct pd_opt_list words; /* positionals */
    struct json_object *args;
};

/* Parses one action's command line: `table` holds its own options and ends with PD_VERB_OPTIONS(v)
 * and PD_OPT_END. On PD_OK v->args is ready, unless *help. */
PD_CHECKED enum pd_rc pd_verb_parse(struct pd_verb *v, struct pd_opt *table, int argc, char **argv,
                                    size_t min_words, size_t max_words, bool *help,
                                    struct pd_err *err);
#define PD_VERB_OPTIONS(v)                                                                         \
    PD_OPT_ROW("data", PD_OPT_STR, &(v).data, "DIR",                                               \
               "the data folder, with or without a server running on it"),                         \
        PD_OPT_ROW("json", PD_OPT_FLAG, &(v).json, NULL, "print JSON"),                            \
        PD_OPT_ROW("quiet", PD_OPT_FLAG, &(v).quiet, NULL, "no notes on stderr")
/* Runs the operation through the door; results to out (NULL = stdout), notes to stderr. */
PD_CHECKED enum pd_rc pd_verb_op(struct pd_verb *v, const char *op, const char *in_path, FILE *out,
                                 struct pd_err *err);
void pd_verb_release(struct pd_verb *v);

/* A verb of several actions: `podium user add ...`. `words` names the positionals ("NAME"), each is
 * put into the arguments under the key of the same place in `keys` ("username", ...). */
struct pd_action {
    const char *name, *op, *words, *summary;
    const char *keys[3]; /* unused: NULL */
    size_t min_words, max_words;
    struct pd_opt *options; /* NULL: only the common ones */
};
int pd_verb_main(const struct pd_cmd *self, const struct pd_action *actions, const char *text,
                 const char *examples, struct pd_verb *v, int argc, char **argv);

#endif
