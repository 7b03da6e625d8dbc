/* podium status: progress at a glance. */
#include "cmd/verb.h"

int pd_cmd_status(const struct pd_cmd *self, int argc, char **argv)
{
    struct pd_verb v = {0};
    struct pd_err err = {0};
    bool help = false;
    struct pd_opt table[] = {PD_VERB_OPTIONS(v), PD_OPT_END};
    enum pd_rc rc = pd_verb_parse(&v, table, argc, argv, 0, 1, &help, &err);
    if (rc == PD_OK && help)
        return pd_cmd_help(self, "podium status [DATASET] [options]",
                           "Progress of all datasets, or of one with its labelers.", table,
                           "  podium status first-comparisons");
    if (rc == PD_OK) {
        if (v.words.n)
            json_object_object_add(v.args, "dataset", json_object_new_string(v.words.items[0]));
        rc = pd_verb_op(&v, "status", NULL, NULL, &err);
    }
    pd_verb_release(&v);
    return rc == PD_OK ? 0 : pd_cmd_fail(self, &err);
}
