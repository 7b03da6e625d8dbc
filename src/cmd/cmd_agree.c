/* podium agree: how far labelers agree, on a dataset or a judgments file. */
#include "api/ops.h"
#include "base/fs.h"
#include "cmd/verb.h"

static const char text[] =
    "Percent agreement, Cohen's kappa (two labelers), Fleiss' kappa, Gwet's AC1 and Krippendorff's "
    "alpha,\n"
    "each with a 95% interval from a bootstrap over records. A file is one judgment a line:\n"
    "{\"record\",\"labeler\",\"question\",\"value\"}. Rankings of two count as labels, longer ones "
    "by Kendall\n"
    "distance. Alpha >= 0.8 is reliable, >= 0.667 tentative. When nearly everything has one label, "
    "look at AC1.";

/* A file needs no data folder. */
static enum pd_rc run(struct pd_verb *v, struct pd_err *err)
{
    const char *what = v->words.items[0];
    if (strcmp(what, "-") == 0 || (pd_fs_exists(what) && !pd_fs_is_dir(what))) {
        struct pd_op_call call = {
            .args = v->args, .in_path = what, .in_name = what, .out = stdout, .notes = stderr};
        return pd_op_agree(&call, err);
    }
    json_object_object_add(v->args, "dataset", json_object_new_string(what));
    return pd_verb_op(v, "agree", NULL, NULL, err);
}

int pd_cmd_agree(const struct pd_cmd *self, int argc, char **argv)
{
    struct pd_verb v = {0};
    struct pd_err err = {0};
    bool help = false;
    int64_t bootstrap = 1000, seed = 0;
    struct pd_opt table[] = {PD_OPT_ROW("bootstrap", PD_OPT_I64, &bootstrap, "N",
                                        "rounds for the intervals; 0 = none", .min = 0,
                                        .max = 100000),
                             PD_OPT_ROW("seed", PD_OPT_I64, &seed, "N", "of the bootstrap"),
                             PD_VERB_OPTIONS(v), PD_OPT_END};
    enum pd_rc rc = pd_verb_parse(&v, table, argc, argv, 1, 1, &help, &err);
    if (rc == PD_OK && help)
        return pd_cmd_help(self, "podium agree DATASET|SNAPSHOT|judgments.jsonl [options]", text,
                           table,
                           "  podium agree first-comparisons\n"
                           "  podium export first-comparisons --format raw | podium agree -");
    if (rc == PD_OK)
        rc = run(&v, &err);
    pd_verb_release(&v);
    return rc == PD_OK ? 0 : pd_cmd_fail(self, &err);
}
