#include "cmd/verb.h"
#include "base/mem.h"
#include "cmd/door.h"

#include <stdio.h>
#include <string.h>

static struct json_object *value_of(const struct pd_opt *o)
{
    switch (o->type) {
    case PD_OPT_FLAG:
        return json_object_new_boolean(*(const bool *)o->value);
    case PD_OPT_I64:
    case PD_OPT_BYTES:
        return json_object_new_int64(*(const int64_t *)o->value);
    case PD_OPT_F64:
        return json_object_new_double(*(const double *)o->value);
    case PD_OPT_STR:
    case PD_OPT_CHOICE:
        return json_object_new_string(*(const char *const *)o->value);
    case PD_OPT_LIST: {
        const struct pd_opt_list *l = o->value;
        struct json_object *list = json_object_new_array();
        for (size_t i = 0; i < l->n; i++)
            json_object_array_add(list, json_object_new_string(l->items[i]));
        return list;
    }
    }
    pd_bug("option type %d", (int)o->type);
}

static struct json_object *args_of(const struct pd_opt *table)
{
    struct json_object *args = json_object_new_object();
    for (const struct pd_opt *o = table; o->name || o->help; o++) {
        if (!o->name || !o->was_set || strcmp(o->name, "data") == 0)
            continue;
        char *key = pd_xstrdup(o->name);
        for (char *p = key; *p; p++)
            *p = *p == '-' ? '_' : *p;
        json_object_object_add(args, key, value_of(o));
        pd_free(key);
    }
    return args;
}

enum pd_rc pd_verb_parse(struct pd_verb *v, struct pd_opt *table, int argc, char **argv,
                         size_t min_words, size_t max_words, bool *help, struct pd_err *err)
{
    enum pd_rc rc = pd_opt_parse(table, argc, argv, min_words, max_words, &v->words, help, err);
    if (rc == PD_OK && !*help)
        v->args = args_of(table);
    return rc;
}

enum pd_rc pd_verb_op(struct pd_verb *v, const char *op, const char *in_path, FILE *out,
                      struct pd_err *err)
{
    FILE *notes = v->quiet ? fopen("/dev/null", "w") : stderr;
    struct pd_door_call call = {.data_dir = v->data,
                                .op = op,
                                .args = v->args,
                                .in_path = in_path,
                                .out = out ? out : stdout,
                                .notes = notes ? notes : stderr};
    enum pd_rc rc = pd_door_op(&call, err);
    if (v->quiet && notes)
        (void)fclose(notes);
    if (!out && rc == PD_OK && (fflush(stdout) != 0 || ferror(stdout)))
        rc = PD_FAIL_SYS(err, PD_IO, "cannot write to stdout");
    return rc;
}

void pd_verb_release(struct pd_verb *v)
{
    pd_opt_list_release(&v->words);
    json_object_put(v->args);
    *v = (struct pd_verb){0};
}

static int print_actions(const struct pd_cmd *self, const struct pd_action *actions,
                         const char *text, const char *examples)
{
    struct pd_buf all;
    pd_buf_init(&all, 0);
    if (text)
        pd_buf_addf(&all, "%s\n\n", text);
    pd_buf_adds(&all, "Actions\n");
    for (const struct pd_action *a = actions; a->name; a++) {
        char left[64];
        snprintf(left, sizeof left, "%s %s", a->name, a->words);
        pd_buf_addf(&all, "  %-26s %s%s", left, a->summary, a[1].name ? "\n" : "");
    }
    char *usage = pd_xasprintf("podium %s ACTION [options]      podium %s ACTION --help",
                               self->name, self->name);
    int code = pd_cmd_help(self, usage, pd_buf_cstr(&all), NULL, examples);
    pd_free(usage);
    pd_buf_release(&all);
    return code;
}

static int print_action(const struct pd_cmd *self, const struct pd_action *a,
                        const struct pd_opt *table)
{
    struct pd_cmd named = *self;
    char *name = pd_xasprintf("%s %s", self->name, a->name);
    char *usage = pd_xasprintf("podium %s %s [options]", name, a->words);
    named.name = name;
    named.summary = a->summary;
    int code = pd_cmd_help(&named, usage, NULL, table, NULL);
    pd_free(usage);
    pd_free(name);
    return code;
}

static enum pd_rc run_action(const struct pd_action *a, struct pd_verb *v, struct pd_err *err)
{
    for (size_t i = 0; i < v->words.n && i < 3 && a->keys[i]; i++)
        json_object_object_add(v->args, a->keys[i], json_object_new_string(v->words.items[i]));
    return pd_verb_op(v, a->op, NULL, NULL, err);
}

int pd_verb_main(const struct pd_cmd *self, const struct pd_action *actions, const char *text,
                 const char *examples, struct pd_verb *v, int argc, char **argv)
{
    struct pd_err err = {0};
    bool help = false;
    if (argc < 1 || strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0) {
        print_actions(self, actions, text, examples);
        return argc < 1 ? 2 : 0;
    }
    struct pd_opt common[] = {PD_VERB_OPTIONS(*v), PD_OPT_END};
    const struct pd_action *a = actions;
    while (a->name && strcmp(a->name, argv[0]) != 0)
        a++;
    if (!a->name) {
        (void)PD_FAIL(&err, PD_USAGE, "no action '%s'", argv[0]);
        return pd_cmd_fail(self, &err);
    }
    struct pd_opt *table = a->options ? a->options : common;
    enum pd_rc rc =
        pd_verb_parse(v, table, argc - 1, argv + 1, a->min_words, a->max_words, &help, &err);
    if (rc == PD_OK && help)
        print_action(self, a, table);
    else if (rc == PD_OK)
        rc = run_action(a, v, &err);
    pd_verb_release(v);
    return rc == PD_OK ? 0 : pd_cmd_fail(self, &err);
}
