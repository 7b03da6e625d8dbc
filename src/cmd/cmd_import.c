/* podium import: files into a dataset. */
#include "cmd/verb.h"

static const char text[] =
    "Reads .jsonl, .json, .csv, .tsv and .txt, gzip too; \"-\" is standard input. The shape is "
    "told by\n"
    "the first row and named:\n"
    "  answers        {\"prompt\",\"answers\":[{\"text\",\"model\"}...]} as `podium generate` "
    "writes them\n"
    "  pairs          {\"prompt\"?,\"chosen\",\"rejected\"}, Human/Assistant transcripts and "
    "message lists;\n"
    "                 the preference becomes a judgment of the account `imported`\n"
    "  label-studio   task lists and annotation exports; labelers become accounts of their own\n"
    "  argilla        records as the argilla clients dump them\n"
    "  prompts, rows  fields by name: prompt, answer1, answer2\n"
    "A new name makes the dataset: two answers a pairwise one, more a ranking. Model names are "
    "kept from\n"
    "labelers. A bad row is named FILE:LINE; nothing of that file is stored then, unless "
    "--skip-bad.";

int pd_cmd_import(const struct pd_cmd *self, int argc, char **argv)
{
    struct pd_verb v = {0};
    struct pd_err err = {0};
    const char *as = "auto", *workspace = NULL;
    bool skip_bad = false, without_judgments = false, publish = true, help = false;
    int64_t overlap = 1;
    struct pd_opt table[] = {
        PD_OPT_ROW("as", PD_OPT_CHOICE, &as, "SHAPE", "the shape, when it should not be told",
                   .choices = "auto|answers|pairs|label-studio|argilla|prompts|rows"),
        PD_OPT_ROW("workspace", PD_OPT_STR, &workspace, "W",
                   "made when missing; podium when not given"),
        PD_OPT_ROW("overlap", PD_OPT_I64, &overlap, "N",
                   "judgments wanted on each record of a new dataset", .min = 1, .max = 1000),
        PD_OPT_ROW("publish", PD_OPT_FLAG, &publish, NULL, "open a new dataset for labeling",
                   .flags = PD_OPT_NEGATABLE),
        PD_OPT_ROW("without-judgments", PD_OPT_FLAG, &without_judgments, NULL,
                   "leave out the preferences and annotations in the file"),
        PD_OPT_ROW("skip-bad", PD_OPT_FLAG, &skip_bad, NULL, "leave bad rows out and go on"),
        PD_VERB_OPTIONS(v),
        PD_OPT_END};
    enum pd_rc rc = pd_verb_parse(&v, table, argc, argv, 2, 1000, &help, &err);
    if (rc == PD_OK && help)
        return pd_cmd_help(
            self, "podium import DATASET FILE... [options]", text, table,
            "  podium generate --model M --prompts prompts.jsonl --out answers.jsonl\n"
            "  podium import first-comparisons answers.jsonl\n"
            "  podium import labeled export.json --as label-studio");
    for (size_t i = 1; rc == PD_OK && i < v.words.n; i++) {
        json_object_object_add(v.args, "dataset", json_object_new_string(v.words.items[0]));
        rc = pd_verb_op(&v, "import", v.words.items[i], NULL, &err);
    }
    pd_verb_release(&v);
    return rc == PD_OK ? 0 : pd_cmd_fail(self, &err);
}
