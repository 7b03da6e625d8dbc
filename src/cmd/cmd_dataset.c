/* podium dataset: make, list, show, publish and delete datasets. */
#include "cmd/verb.h"
#include "base/str.h"

static const char text[] =
    "A dataset holds records to judge and the questions about them. Templates:\n"
    "  pairwise                fields prompt, a, b; which is better, by how much, both bad\n"
    "  ranking                 fields prompt, a, b, c ...; rank them, ties allowed (--answers K)\n"
    "  rating                  fields prompt, answer; 1 to 7\n"
    "  label-studio:FILE.xml   a labeling config: Text, Pairwise, Choices, Rating, TextArea\n"
    "`podium import` makes a dataset by itself when the name is new.";

/* `create` alone takes a file: --template label-studio:FILE.xml. */
static int create(const struct pd_cmd *self, int argc, char **argv)
{
    struct pd_verb v = {0};
    struct pd_err err = {0};
    const char *tmpl = "pairwise", *workspace = NULL, *guidelines = NULL, *xml = NULL;
    int64_t answers = 3, overlap = 1;
    bool publish = false, help = false;
    struct pd_opt table[] = {
        PD_OPT_ROW("template", PD_OPT_STR, &tmpl, "T",
                   "pairwise, ranking, rating or label-studio:FILE.xml"),
        PD_OPT_ROW("answers", PD_OPT_I64, &answers, "K", "answers in a ranking", .min = 2,
                   .max = 26),
        PD_OPT_ROW("overlap", PD_OPT_I64, &overlap, "N", "judgments wanted on each record",
                   .min = 1, .max = 1000),
        PD_OPT_ROW("guidelines", PD_OPT_STR, &guidelines, "TEXT",
                   "what labelers should go by, Markdown; the template's own when not given"),
        PD_OPT_ROW("workspace", PD_OPT_STR, &workspace, "W",
                   "made when missing; podium when not given"),
        PD_OPT_ROW("publish", PD_OPT_FLAG, &publish, NULL, "open it for labeling at once"),
        PD_VERB_OPTIONS(v),
        PD_OPT_END};
    enum pd_rc rc = pd_verb_parse(&v, table, argc, argv, 1, 1, &help, &err);
    if (rc == PD_OK && help) {
        struct pd_cmd named = {"dataset create", self->group, "make a dataset from a template",
                               NULL};
        return pd_cmd_help(&named, "podium dataset create NAME [options]", text, table,
                           "  podium dataset create tone --template rating --overlap 2 --publish");
    }
    if (rc == PD_OK) {
        static const char ls[] = "label-studio:";
        if (strncmp(tmpl, ls, sizeof ls - 1) == 0) {
            xml = tmpl + sizeof ls - 1;
            json_object_object_add(v.args, "template", json_object_new_string("label-studio"));
        }
        json_object_object_add(v.args, "dataset", json_object_new_string(v.words.items[0]));
        rc = pd_verb_op(&v, "dataset.create", xml, NULL, &err);
    }
    pd_verb_release(&v);
    return rc == PD_OK ? 0 : pd_cmd_fail(self, &err);
}

int pd_cmd_dataset(const struct pd_cmd *self, int argc, char **argv)
{
    struct pd_verb v = {0};
    const struct pd_action actions[] = {
        {"create", NULL, "NAME", "make one from a template", {"dataset"}, 1, 1, NULL},
        {"list", "dataset.list", "", "datasets and their progress", {0}, 0, 0, NULL},
        {"show",
         "dataset.show",
         "NAME",
         "fields, questions and guidelines",
         {"dataset"},
         1,
         1,
         NULL},
        {"publish", "dataset.publish", "NAME", "open it for labeling", {"dataset"}, 1, 1, NULL},
        {"delete",
         "dataset.delete",
         "NAME",
         "delete it with records and judgments",
         {"dataset"},
         1,
         1,
         NULL},
        {0}};
    if (argc > 0 && strcmp(argv[0], "create") == 0)
        return create(self, argc - 1, argv + 1);
    return pd_verb_main(self, actions, text,
                        "  podium dataset create tone --template rating --overlap 2 --publish\n"
                        "  podium dataset list",
                        &v, argc, argv);
}
