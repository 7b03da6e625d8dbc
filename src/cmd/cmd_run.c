/* podium run list|show|compare|stop: the runs on disk, read off their folders. */
#include "cmd/cmd.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"
#include "train/run.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct line {
    char *dir;
    struct json_object *run, *last; /* last line of metrics.jsonl, or NULL */
};

/* The last whole line of metrics.jsonl. */
static struct json_object *last_metrics(const char *dir)
{
    struct json_object *last = NULL, *row;
    struct pd_lines *lines = NULL;
    struct pd_str text;
    bool more;
    char *path = pd_xasprintf("%s/metrics.jsonl", dir);
    if (pd_fs_exists(path) && pd_lines_open(&lines, path, 64 << 20, NULL) == PD_OK) {
        while (pd_lines_next(lines, &text, &more, NULL) == PD_OK && more)
            if (pd_json_parse(text, &row, NULL) == PD_OK) {
                json_object_put(last);
                last = row;
            }
        pd_lines_close(lines);
    }
    pd_free(path);
    return last;
}

static enum pd_rc read_line(struct line *l, const char *dir, struct pd_err *err)
{
    *l = (struct line){0};
    enum pd_rc rc = pd_run_read(dir, &l->run, err);
    if (rc == PD_OK) {
        l->dir = pd_xstrdup(dir);
        l->last = last_metrics(dir);
    }
    return rc;
}

static void release_line(struct line *l)
{
    json_object_put(l->run);
    json_object_put(l->last);
    pd_free(l->dir);
}

/* What a run is about in one number: reward of a policy, else held-out accuracy, else loss. */
static const char *headline(const struct line *l, double *value)
{
    static const char *const keys[] = {"objective/scores", "eval_accuracy", "accuracy", "loss"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        *value = pd_json_f64(l->last, keys[i], NAN);
        if (isfinite(*value))
            return keys[i];
    }
    return NULL;
}

static void print_row(const struct line *l)
{
    double value;
    const char *key = headline(l, &value);
    struct pd_str verb = pd_json_str(l->run, "verb"), state = pd_json_str(l->run, "state"),
                  at = pd_json_str(l->run, "created");
    char metric[64] = "";
    if (key)
        (void)snprintf(metric, sizeof metric, "%s %.4g", key, value);
    printf("%-12.*s  %-12.*s %6lld/%-6lld %-28s %.*s  %s\n", PD_STR_ARG(verb), PD_STR_ARG(state),
           (long long)pd_json_i64(l->last, "step", 0),
           (long long)pd_json_i64(l->run, "total_steps", 0), metric, at.len > 19 ? 19 : (int)at.len,
           at.ptr ? at.ptr : "", l->dir);
}

/* run.json with "last" = the newest metrics and "dir". */
static void print_json(const struct line *l)
{
    struct pd_buf text;
    struct pd_jw w;
    pd_buf_init(&text, 0);
    pd_jw_init(&w, &text);
    pd_jw_object(&w);
    pd_jw_kstrz(&w, "dir", l->dir);
    json_object_object_foreach(l->run, key, value)
    {
        pd_jw_key(&w, key);
        pd_jw_tree(&w, value);
    }
    pd_jw_key(&w, "last");
    pd_jw_tree(&w, l->last);
    pd_jw_object_end(&w);
    puts(pd_buf_cstr(&text));
    pd_buf_release(&text);
}

static int newest_first(const void *a, const void *b)
{
    const struct line *x = a, *y = b;
    struct pd_str p = pd_json_str(x->run, "created"), q = pd_json_str(y->run, "created");
    return strcmp(q.ptr ? q.ptr : "", p.ptr ? p.ptr : "");
}

static enum pd_rc list_runs(const char *folder, bool json, struct pd_err *err)
{
    struct line *lines = NULL, one;
    size_t n = 0;
    DIR *d = opendir(folder);
    if (!d)
        return PD_FAIL_SYS(err, PD_NOTFOUND, "cannot open %s", folder);
    for (struct dirent *e; (e = readdir(d));) {
        char *dir = pd_xasprintf("%s/%s", folder, e->d_name);
        if (e->d_name[0] != '.' && read_line(&one, dir, NULL) == PD_OK) {
            lines = pd_xrealloc(lines, (n + 1) * sizeof *lines);
            lines[n++] = one;
        }
        pd_free(dir);
    }
    (void)closedir(d);
    if (n)
        qsort(lines, n, sizeof *lines, newest_first);
    for (size_t i = 0; i < n; i++) {
        if (json)
            print_json(&lines[i]);
        else
            print_row(&lines[i]);
        release_line(&lines[i]);
    }
    if (n == 0)
        fprintf(stderr, "no runs in %s\n", folder);
    pd_free(lines);
    return PD_OK;
}

static void print_object(const char *title, struct json_object *o)
{
    if (!json_object_is_type(o, json_type_object))
        return;
    printf("%s\n", title);
    json_object_object_foreach(o, key, value)
    {
        if (value)
            printf("  %-28s %s\n", key,
                   json_object_is_type(value, json_type_string)
                       ? json_object_get_string(value)
                       : json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN));
    }
}

static enum pd_rc show_run(const char *dir, bool json, struct pd_err *err)
{
    struct line l;
    enum pd_rc rc = read_line(&l, dir, err);
    if (rc != PD_OK)
        return rc;
    if (json) {
        print_json(&l);
    } else {
        print_row(&l);
        struct pd_str error = pd_json_str(l.run, "error");
        if (error.ptr)
            printf("failed: %.*s\n", PD_STR_ARG(error));
        print_object("last metrics", l.last);
        print_object("held-out pairs", pd_json_get(l.run, "eval"));
        print_object("inputs", pd_json_get(l.run, "inputs"));
        print_object("configuration", pd_json_get(l.run, "config"));
    }
    release_line(&l);
    return PD_OK;
}

/* Every key in which the runs differ, one column a run. */
static void compare_objects(const char *title, struct line *lines, size_t n,
                            struct json_object *(*pick)(const struct line *))
{
    bool titled = false;
    struct json_object *first = pick(&lines[0]);
    if (!json_object_is_type(first, json_type_object))
        return;
    json_object_object_foreach(first, key, value)
    {
        bool differs = false;
        for (size_t i = 1; i < n; i++)
            differs |= !json_object_equal(value, pd_json_get(pick(&lines[i]), key));
        if (!differs)
            continue;
        if (!titled)
            printf("%s\n", title);
        titled = true;
        printf("  %-28s", key);
        for (size_t i = 0; i < n; i++) {
            struct json_object *v = pd_json_get(pick(&lines[i]), key);
            if (json_object_is_type(v, json_type_double))
                printf(" %-18.6g", json_object_get_double(v));
            else
                printf(" %-18s", v ? json_object_get_string(v) : "-");
        }
        putchar('\n');
    }
}

static struct json_object *pick_config(const struct line *l)
{
    return pd_json_get(l->run, "config");
}

static struct json_object *pick_eval(const struct line *l)
{
    return pd_json_get(l->run, "eval");
}

static struct json_object *pick_last(const struct line *l)
{
    return l->last;
}

static enum pd_rc compare_runs(const struct pd_opt_list *args, bool json, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    size_t n = 0;
    struct line *lines = pd_xalloc(args->n * sizeof *lines);
    for (size_t i = 1; i < args->n; i++) {
        PD_TRY(read_line(&lines[n], args->items[i], err));
        n++;
    }
    for (size_t i = 0; i < n; i++) {
        if (json)
            print_json(&lines[i]);
        else
            print_row(&lines[i]);
    }
    if (!json) {
        compare_objects("configuration", lines, n, pick_config);
        compare_objects("held-out pairs", lines, n, pick_eval);
        compare_objects("last metrics", lines, n, pick_last);
    }
out:
    for (size_t i = 0; i < n; i++)
        release_line(&lines[i]);
    pd_free(lines);
    return rc;
}

/* The run itself sees the file at its next step, on whatever machine it runs. */
static enum pd_rc stop_run(const char *dir, struct pd_err *err)
{
    struct line l;
    enum pd_rc rc = read_line(&l, dir, err);
    if (rc != PD_OK)
        return rc;
    struct pd_str state = pd_json_str(l.run, "state");
    if (!pd_str_eqz(state, "running")) {
        rc = PD_FAIL(err, PD_CONFLICT, "%s is not running, it is %.*s", dir, PD_STR_ARG(state));
    } else {
        char *path = pd_xasprintf("%s/stop", dir);
        rc = pd_fs_write_atomic(path, PD_STR("asked by podium run stop\n"), 0644, err);
        pd_free(path);
        if (rc == PD_OK)
            printf("asked %s to save and stop after its current step\n", dir);
    }
    release_line(&l);
    return rc;
}

int pd_cmd_run(const struct pd_cmd *self, int argc, char **argv)
{
    struct pd_err err = {0};
    struct pd_opt_list args = {0};
    const char *data = NULL;
    bool help = false, json = false;
    struct pd_opt options[] = {
        PD_OPT_ROW("data", PD_OPT_STR, &data, "DIR", "a data folder: its runs/ is listed"),
        PD_OPT_ROW("json", PD_OPT_FLAG, &json, NULL, "one JSON object a run"),
        PD_OPT_END,
    };
    enum pd_rc rc = pd_opt_parse(options, argc, argv, 0, 64, &args, &help, &err);
    const char *what = args.n ? args.items[0] : "";
    if (help) {
        pd_opt_list_release(&args);
        return pd_cmd_help(
            self,
            "podium run list [FOLDER | --data DIR]\n"
            "       podium run show|stop RUN\n"
            "       podium run compare RUN RUN...",
            "Runs are folders; these verbs read run.json and metrics.jsonl in them.\n"
            "  list      the runs in a folder (default: runs), newest first\n"
            "  show      one run: state, last metrics, inputs, configuration\n"
            "  compare   in what runs differ: configuration and results\n"
            "  stop      save a checkpoint after the current step and end",
            options, "  podium run list --data podium-data\n  podium run stop runs/rm");
    }
    if (rc == PD_OK && strcmp(what, "list") == 0 && args.n <= 2) {
        char *folder = args.n == 2 ? pd_xstrdup(args.items[1])
                       : data      ? pd_xasprintf("%s/runs", data)
                                   : pd_xstrdup("runs");
        rc = list_runs(folder, json, &err);
        pd_free(folder);
    } else if (rc == PD_OK && strcmp(what, "show") == 0 && args.n == 2) {
        rc = show_run(args.items[1], json, &err);
    } else if (rc == PD_OK && strcmp(what, "stop") == 0 && args.n == 2) {
        rc = stop_run(args.items[1], &err);
    } else if (rc == PD_OK && strcmp(what, "compare") == 0 && args.n >= 3) {
        rc = compare_runs(&args, json, &err);
    } else if (rc == PD_OK) {
        rc = PD_FAIL(&err, PD_USAGE,
                     "expected list [FOLDER], show RUN, stop RUN, or compare RUN RUN");
    }
    pd_opt_list_release(&args);
    return rc == PD_OK ? 0 : pd_cmd_fail(self, &err);
}
