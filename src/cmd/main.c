/* podium: find the verb, run it. */
#include "cmd/cmd.h"
#include "base/sig.h"
#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct pd_cmd commands[] = {
#define X(name, fn, group, summary) {name, group, summary, fn},
    PD_CMD_LIST(X)
#undef X
        {NULL, NULL, NULL, NULL},
};

static const struct pd_cmd *find(const char *name)
{
    for (const struct pd_cmd *c = commands; c->name; c++)
        if (strcmp(c->name, name) == 0)
            return c;
    return NULL;
}

static int no_verb(const char *name)
{
    const char *best = NULL;
    size_t best_d = 4;
    for (const struct pd_cmd *c = commands; c->name; c++) {
        size_t d = pd_str_distance(pd_str_from(name), pd_str_from(c->name));
        if (d < best_d)
            best = c->name, best_d = d;
    }
    if (best)
        fprintf(stderr, "podium: no verb '%s'; did you mean '%s'?\n", name, best);
    else
        fprintf(stderr, "podium: no verb '%s'; `podium --help` lists them\n", name);
    return 2;
}

static int print_help(void)
{
    const char *group = "";
    puts("podium: from what people prefer to a better language model\n");
    puts("usage: podium VERB [options]      podium VERB --help");
    for (const struct pd_cmd *c = commands; c->name; c++) {
        if (strcmp(group, c->group) != 0) {
            group = c->group;
            printf("\n%s\n", group);
        }
        printf("  %-12s %s\n", c->name, c->summary);
    }
    puts("\nExit codes: 0 done, 1 failed, 2 wrong usage, 3 interrupted with state saved.");
    return 0;
}

int pd_cmd_help(const struct pd_cmd *self, const char *usage, const char *text,
                const struct pd_opt *options, const char *examples)
{
    struct pd_buf out;
    pd_buf_init(&out, 0);
    pd_buf_addf(&out, "podium %s: %s\n", self->name, self->summary);
    if (usage)
        pd_buf_addf(&out, "\nusage: %s\n", usage);
    if (text)
        pd_buf_addf(&out, "\n%s\n", text);
    if (options) {
        if (options->name) /* else it begins with a heading of its own */
            pd_buf_adds(&out, "\nOptions\n");
        pd_opt_print(&out, options);
    }
    if (examples)
        pd_buf_addf(&out, "\nExamples\n%s\n", examples);
    fputs(pd_buf_cstr(&out), stdout);
    pd_buf_release(&out);
    return 0;
}

int pd_cmd_fail(const struct pd_cmd *self, const struct pd_err *err)
{
    fprintf(stderr, "podium %s: %s\n", self->name, err->msg);
    if (err->rc == PD_USAGE)
        fprintf(stderr, "try: podium %s --help\n", self->name);
    return pd_rc_exit(err->rc);
}

/* The OpenMP runtime lets waiting threads spin for a millisecond and more before they sleep. On a
 * machine that does other work too, that steals the very cores the wait is for: generation was seen
 * to run five times slower. The limit is read from the environment when the runtime is loaded, so
 * a verb that computes sets it and starts over; what the user set stays. */
static void limit_spinning(const struct pd_cmd *c, char **argv)
{
    if (strcmp(c->group, "Models") != 0 && strcmp(c->group, "Learn") != 0)
        return;
    if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY"))
        return;
    if (setenv("GOMP_SPINCOUNT", "1000", 1) == 0)
        (void)execv("/proc/self/exe", argv); /* without /proc: go on as we are */
}

int main(int argc, char **argv)
{
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        (strcmp(argv[1], "help") == 0 && argc == 2)) {
        print_help();
        return argc < 2 ? 2 : 0;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-v") == 0) {
        printf("podium %s (%s)\n", PD_VERSION, PD_COMMIT);
        return 0;
    }
    const char *verb = argv[1];
    char *help_argv[] = {"--help", NULL};
    bool help = strcmp(verb, "help") == 0;
    const struct pd_cmd *c = find(help ? argv[2] : verb);
    if (!c)
        return no_verb(help ? argv[2] : verb);
    if (!help)
        limit_spinning(c, argv);
    pd_sig_install();
    return help ? c->run(c, 1, help_argv) : c->run(c, argc - 2, argv + 2);
}
