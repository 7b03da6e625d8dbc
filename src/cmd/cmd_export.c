/* podium export: judgments as training data. */
#include "base/fs.h"
#include "cmd/verb.h"

static const char text[] =
    "Writes what people said as a file others train on:\n"
    "  trl            {\"prompt\",\"chosen\",\"rejected\"} + id, strength, votes; rankings as all "
    "their pairs,\n"
    "                 each with weight 1/C(K,2)\n"
    "  trl-unpaired   {\"prompt\",\"completion\",\"label\"}\n"
    "  hh             {\"chosen\",\"rejected\"} as whole transcripts\n"
    "  raw            one judgment a row, with who, when, and the order shown\n"
    "  csv            the same as a table\n"
    "The majority of each pair counts. Ties and \"both bad\" never become a preference: they are "
    "counted on\n"
    "stderr, as JSON with --json. Several datasets are merged first: records with the same id "
    "(else the\n"
    "same texts) are one.";

static enum pd_rc run(struct pd_verb *v, const char *path, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_out out = {0};
    struct json_object *names = json_object_new_array();
    for (size_t i = 0; i < v->words.n; i++)
        json_object_array_add(names, json_object_new_string(v->words.items[i]));
    json_object_object_add(v->args, "names", names);
    json_object_object_del(v->args, "out");
    PD_TRY(pd_out_open(&out, path, err));
    PD_TRY(pd_verb_op(v, "export", NULL, out.f, err));
    PD_TRY(pd_out_commit(&out, err));
out:
    pd_out_abandon(&out);
    return rc;
}

int pd_cmd_export(const struct pd_cmd *self, int argc, char **argv)
{
    struct pd_verb v = {0};
    struct pd_err err = {0};
    const char *format = "trl", *out = "-", *split = NULL, *question = NULL;
    bool all_votes = false, margin = false, help = false;
    int64_t min_votes = 1;
    double min_margin = 0;
    struct pd_opt table[] = {
        PD_OPT_ROW("format", PD_OPT_CHOICE, &format, "F", "what to write",
                   .choices = "trl|trl-unpaired|hh|raw|csv"),
        PD_OPT_ROW("out", PD_OPT_STR, &out, "FILE", "where to write; - is stdout"),
        PD_OPT_ROW("split", PD_OPT_STR, &split, "NAME", "one split of a snapshot"),
        PD_OPT_ROW("question", PD_OPT_STR, &question, "NAME",
                   "the question; the first that compares when not given"),
        PD_OPT_ROW("min-votes", PD_OPT_I64, &min_votes, "N", "leave out pairs with fewer judgments",
                   .min = 1, .max = 1e6),
        PD_OPT_ROW("min-margin", PD_OPT_F64, &min_margin, "M",
                   "leave out pairs won by a smaller share of the votes", .min = 0, .max = 1),
        PD_OPT_ROW("all-votes", PD_OPT_FLAG, &all_votes, NULL,
                   "a row for every judgment instead of the majority"),
        PD_OPT_ROW(
            "margin", PD_OPT_FLAG, &margin, NULL,
            "add \"margin\" (mean strength, else the vote's); TRL trains on it when it is there"),
        PD_VERB_OPTIONS(v),
        PD_OPT_END};
    enum pd_rc rc = pd_verb_parse(&v, table, argc, argv, 1, 1000, &help, &err);
    if (rc == PD_OK && help)
        return pd_cmd_help(self, "podium export DATASET...|SNAPSHOT [options]", text, table,
                           "  podium export first-comparisons --out pairs.jsonl\n"
                           "  podium export first-comparisons@1 --split train --out train.jsonl");
    if (rc == PD_OK)
        rc = run(&v, out, &err);
    pd_verb_release(&v);
    return rc == PD_OK ? 0 : pd_cmd_fail(self, &err);
}
