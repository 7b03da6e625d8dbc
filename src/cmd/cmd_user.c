/* podium user: accounts, straight on the data folder. */
#include "cmd/verb.h"

int pd_cmd_user(const struct pd_cmd *self, int argc, char **argv)
{
    struct pd_verb v = {0};
    const char *role = "annotator", *password = NULL, *workspace = NULL, *key = NULL, *first = NULL,
               *last = NULL, *url = NULL;
    bool renew = false;
    int64_t hours = 72;
    struct pd_opt add[] = {
        PD_OPT_ROW("role", PD_OPT_CHOICE, &role, "ROLE",
                   "owner does everything, admin leads in their workspaces, annotator labels",
                   .choices = "owner|admin|annotator"),
        PD_OPT_ROW("password", PD_OPT_STR, &password, "P", "8 to 100 bytes; made when not given"),
        PD_OPT_ROW("workspace", PD_OPT_STR, &workspace, "W",
                   "workspace to be in, made when missing; podium when not given"),
        PD_OPT_ROW("api-key", PD_OPT_STR, &key, "KEY", "made when not given"),
        PD_OPT_ROW("first-name", PD_OPT_STR, &first, "NAME", "the user name when not given"),
        PD_OPT_ROW("last-name", PD_OPT_STR, &last, "NAME", "none when not given"),
        PD_VERB_OPTIONS(v),
        PD_OPT_END};
    struct pd_opt keys[] = {
        PD_OPT_ROW("renew", PD_OPT_FLAG, &renew, NULL, "make a new key; the old one stops working"),
        PD_OPT_ROW("api-key", PD_OPT_STR, &key, "KEY", "set this key"), PD_VERB_OPTIONS(v),
        PD_OPT_END};
    struct pd_opt roles[] = {PD_OPT_ROW("role", PD_OPT_CHOICE, &role, "ROLE", "the new role",
                                        .choices = "owner|admin|annotator",
                                        .flags = PD_OPT_REQUIRED),
                             PD_VERB_OPTIONS(v), PD_OPT_END};
    struct pd_opt passwords[] = {
        PD_OPT_ROW("password", PD_OPT_STR, &password, "P", "8 to 100 bytes; made when not given"),
        PD_VERB_OPTIONS(v), PD_OPT_END};
    struct pd_opt invite[] = {
        PD_OPT_ROW("hours", PD_OPT_I64, &hours, "N", "how long the link works", .min = 1,
                   .max = 8760),
        PD_OPT_ROW("url", PD_OPT_STR, &url, "URL",
                   "where labelers reach the server; the running server's address when not given"),
        PD_VERB_OPTIONS(v), PD_OPT_END};
    const struct pd_action actions[] = {
        {"add", "user.add", "NAME", "make an account", {"username"}, 1, 1, add},
        {"list", "user.list", "", "accounts and their workspaces", {0}, 0, 0, NULL},
        {"key", "user.key", "NAME", "print or renew an API key", {"username"}, 1, 1, keys},
        {"role", "user.role", "NAME --role R", "change a role", {"username"}, 1, 1, roles},
        {"password", "user.password", "NAME", "set a password", {"username"}, 1, 1, passwords},
        {"invite",
         "user.invite",
         "NAME",
         "make a link that signs in once",
         {"username"},
         1,
         1,
         invite},
        {"remove",
         "user.remove",
         "NAME",
         "close an account; its judgments stay",
         {"username"},
         1,
         1,
         NULL},
        {0}};
    return pd_verb_main(self, actions, NULL,
                        "  podium user add ann --role annotator --workspace podium\n"
                        "  podium user invite ann",
                        &v, argc, argv);
}
