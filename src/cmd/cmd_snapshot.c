/* podium snapshot: freeze what was said, by content hash. */
#include "cmd/verb.h"

int pd_cmd_snapshot(const struct pd_cmd *self, int argc, char **argv)
{
    struct pd_verb v = {0};
    const char *split = NULL;
    struct pd_opt create[] = {
        PD_OPT_ROW("split", PD_OPT_STR, &split, "SHARES",
                   "such as train=0.8,test=0.2; equal and near-equal prompts stay together"),
        PD_VERB_OPTIONS(v), PD_OPT_END};
    const struct pd_action actions[] = {
        {"create", "snapshot.create", "DATASET", "freeze and hash it", {"dataset"}, 1, 1, create},
        {"list", "snapshot.list", "[DATASET]", "snapshots, newest first", {"dataset"}, 0, 1, NULL},
        {"show", "snapshot.show", "SNAPSHOT", "one of them", {"snapshot"}, 1, 1, NULL},
        {"diff",
         "snapshot.diff",
         "FROM TO",
         "records added, removed, judged anew",
         {"from", "to"},
         2,
         2,
         NULL},
        {0}};
    return pd_verb_main(
        self, actions,
        "A snapshot is every judged record with its judgments, as they are now, in one immutable "
        "file\n"
        "named by the SHA-256 of its content. It is named DATASET@N; its hash works too.",
        "  podium snapshot create first-comparisons --split train=0.8,test=0.2 --json\n"
        "  podium export first-comparisons@1 --split train",
        &v, argc, argv);
}
