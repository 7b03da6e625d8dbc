#include "base/opt.h"
#include "base/mem.h"

#include <stdio.h>

static bool is_end(const struct pd_opt *o)
{
    return !o->name && !o->help;
}

static struct pd_opt *find(struct pd_opt *table, struct pd_str name)
{
    for (struct pd_opt *o = table; !is_end(o); o++)
        if (o->name && pd_str_eqz(name, o->name))
            return o;
    return NULL;
}

static enum pd_rc unknown(struct pd_opt *table, struct pd_str name, struct pd_err *err)
{
    const char *best = NULL;
    size_t best_d = 4;
    for (struct pd_opt *o = table; !is_end(o); o++) {
        if (!o->name || (o->flags & PD_OPT_HIDDEN))
            continue;
        size_t d = pd_str_distance(name, pd_str_from(o->name));
        if (d < best_d)
            best = o->name, best_d = d;
    }
    if (best)
        return PD_FAIL(err, PD_USAGE, "no option --%.*s; did you mean --%s?", PD_STR_ARG(name),
                       best);
    return PD_FAIL(err, PD_USAGE, "no option --%.*s", PD_STR_ARG(name));
}

static bool choice_ok(const char *choices, const char *value)
{
    struct pd_str rest = pd_str_from(choices), one;
    while (pd_str_split(&rest, '|', &one))
        if (pd_str_eqz(one, value))
            return true;
    return false;
}

static bool parse_bytes(struct pd_str s, int64_t *out)
{
    int64_t scale = 1;
    if (s.len > 1) {
        switch (s.ptr[s.len - 1] | 0x20) {
        case 'k':
            scale = 1 << 10;
            break;
        case 'm':
            scale = 1 << 20;
            break;
        case 'g':
            scale = 1 << 30;
            break;
        default:
            break;
        }
        if (scale > 1)
            s.len--;
    }
    int64_t v;
    return pd_str_to_i64(s, &v) && v >= 0 && !__builtin_mul_overflow(v, scale, out);
}

static enum pd_rc set_value(struct pd_opt *o, const char *text, struct pd_err *err)
{
    struct pd_str s = pd_str_from(text);
    bool bounded = o->min < o->max;
    switch (o->type) {
    case PD_OPT_FLAG:
        return PD_FAIL(err, PD_USAGE, "--%s takes no value, found '%s'", o->name, text);
    case PD_OPT_STR:
        *(const char **)o->value = text;
        break;
    case PD_OPT_I64: {
        int64_t v;
        if (!pd_str_to_i64(s, &v))
            return PD_FAIL(err, PD_USAGE, "--%s: expected a whole number, found '%s'", o->name,
                           text);
        if (bounded && ((double)v < o->min || (double)v > o->max))
            return PD_FAIL(err, PD_USAGE, "--%s: %s is outside %.15g to %.15g", o->name, text,
                           o->min, o->max);
        *(int64_t *)o->value = v;
        break;
    }
    case PD_OPT_F64: {
        double v;
        if (!pd_str_to_f64(s, &v))
            return PD_FAIL(err, PD_USAGE, "--%s: expected a number, found '%s'", o->name, text);
        if (bounded && (v < o->min || v > o->max))
            return PD_FAIL(err, PD_USAGE, "--%s: %s is outside %g to %g", o->name, text, o->min,
                           o->max);
        *(double *)o->value = v;
        break;
    }
    case PD_OPT_BYTES:
        if (!parse_bytes(s, o->value))
            return PD_FAIL(err, PD_USAGE, "--%s: expected bytes like 512M or 4G, found '%s'",
                           o->name, text);
        break;
    case PD_OPT_CHOICE:
        if (!choice_ok(o->choices, text))
            return PD_FAIL(err, PD_USAGE, "--%s: '%s' is not one of %s", o->name, text, o->choices);
        *(const char **)o->value = text;
        break;
    case PD_OPT_LIST: {
        struct pd_opt_list *l = o->value;
        l->items = pd_xrealloc(l->items, (l->n + 1) * sizeof *l->items);
        l->items[l->n++] = text;
        break;
    }
    }
    o->was_set = true;
    return PD_OK;
}

static enum pd_rc parse_long(struct pd_opt *table, const char *arg, int argc, char **argv, int *i,
                             struct pd_err *err)
{
    struct pd_str name = pd_str_from(arg), value = {NULL, 0};
    const char *eq = strchr(arg, '=');
    if (eq) {
        name.len = (size_t)(eq - arg);
        value = pd_str_from(eq + 1);
    }
    struct pd_opt *o = find(table, name);
    bool no = false;
    if (!o && pd_str_starts(name, PD_STR("no-"))) {
        struct pd_opt *base = find(table, (struct pd_str){name.ptr + 3, name.len - 3});
        if (base && (base->flags & PD_OPT_NEGATABLE))
            o = base, no = true;
    }
    if (!o)
        return unknown(table, name, err);
    if (o->type == PD_OPT_FLAG) {
        if (eq)
            return set_value(o, value.ptr, err);
        *(bool *)o->value = !no;
        o->was_set = true;
        return PD_OK;
    }
    if (eq)
        return set_value(o, value.ptr, err);
    int64_t number;
    if ((o->flags & PD_OPT_ALONE) &&
        (*i + 1 >= argc || !pd_str_to_i64(pd_str_from(argv[*i + 1]), &number))) {
        *(int64_t *)o->value = (int64_t)o->min;
        o->was_set = true;
        return PD_OK;
    }
    if (*i + 1 >= argc)
        return PD_FAIL(err, PD_USAGE, "--%s needs a value (%s)", o->name,
                       o->metavar ? o->metavar : "VALUE");
    return set_value(o, argv[++*i], err);
}

static enum pd_rc parse_short(struct pd_opt *table, const char *arg, bool *help, struct pd_err *err)
{
    static const struct {
        const char *flag, *name;
    } shorts[] = {{"-q", "quiet"}, {"-v", "verbose"}};
    if (strcmp(arg, "-h") == 0) {
        *help = true;
        return PD_OK;
    }
    for (size_t k = 0; k < sizeof shorts / sizeof *shorts; k++) {
        struct pd_opt *o = find(table, pd_str_from(shorts[k].name));
        if (o && strcmp(arg, shorts[k].flag) == 0) {
            *(bool *)o->value = true;
            o->was_set = true;
            return PD_OK;
        }
    }
    return PD_FAIL(err, PD_USAGE, "no option %s", arg);
}

enum pd_rc pd_opt_parse(struct pd_opt *table, int argc, char **argv, size_t min_args,
                        size_t max_args, struct pd_opt_list *args, bool *help, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_opt_list none = {NULL, 0};
    struct pd_opt_list *list = args ? args : &none;
    bool options_end = false;
    *help = false;
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], "--") == 0)
            break;
        else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            *help = true;
            return PD_OK;
        }
    for (int i = 0; i < argc; i++) {
        const char *a = argv[i];
        if (!options_end && strcmp(a, "--") == 0) {
            options_end = true;
        } else if (!options_end && a[0] == '-' && a[1] == '-') {
            PD_TRY(parse_long(table, a + 2, argc, argv, &i, err));
        } else if (!options_end && a[0] == '-' && a[1] != '\0' && !(a[1] >= '0' && a[1] <= '9')) {
            PD_TRY(parse_short(table, a, help, err));
        } else {
            list->items = pd_xrealloc(list->items, (list->n + 1) * sizeof *list->items);
            list->items[list->n++] = a;
        }
    }
    for (struct pd_opt *o = table; !is_end(o); o++)
        if (o->name && (o->flags & PD_OPT_REQUIRED) && !o->was_set) {
            rc =
                PD_FAIL(err, PD_USAGE, "--%s %s is missing", o->name, o->metavar ? o->metavar : "");
            goto out;
        }
    if (list->n < min_args)
        rc = PD_FAIL(err, PD_USAGE, "expected %s%zu argument%s, found %zu",
                     max_args > min_args ? "at least " : "", min_args, min_args == 1 ? "" : "s",
                     list->n);
    else if (list->n > max_args)
        rc = PD_FAIL(err, PD_USAGE, "unexpected argument '%s'", list->items[max_args]);
out:
    pd_opt_list_release(&none);
    return rc;
}

void pd_opt_list_release(struct pd_opt_list *l)
{
    pd_free(l->items);
    l->items = NULL;
    l->n = 0;
}

static void print_default(struct pd_buf *text, const struct pd_opt *o)
{
    switch (o->type) {
    case PD_OPT_STR:
    case PD_OPT_CHOICE: {
        const char *v = *(const char *const *)o->value;
        if (v && *v)
            pd_buf_addf(text, " (default %s)", v);
        break;
    }
    case PD_OPT_I64:
        if (o->flags & PD_OPT_ALONE)
            break;
        pd_buf_addf(text, " (default %lld)", (long long)*(const int64_t *)o->value);
        break;
    case PD_OPT_BYTES:
        if (*(const int64_t *)o->value)
            pd_buf_addf(text, " (default %lld)", (long long)*(const int64_t *)o->value);
        break;
    case PD_OPT_F64:
        pd_buf_addf(text, " (default %g)", *(const double *)o->value);
        break;
    case PD_OPT_FLAG:
        if (*(const bool *)o->value)
            pd_buf_adds(text, " (default on)");
        break;
    case PD_OPT_LIST:
        pd_buf_adds(text, " (may be repeated)");
        break;
    }
}

/* Fill `text` into lines of `width`, each after `indent` spaces; the first continues the line. */
static void wrap(struct pd_buf *out, struct pd_str text, size_t column, size_t indent)
{
    struct pd_str word;
    while (pd_str_split(&text, ' ', &word)) {
        if (column + word.len + 1 > 80 && column > indent) {
            pd_buf_addf(out, "\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            pd_buf_addc(out, ' ');
            column++;
        }
        pd_buf_addstr(out, word);
        column += word.len;
    }
    pd_buf_addc(out, '\n');
}

void pd_opt_print(struct pd_buf *out, const struct pd_opt *table)
{
    enum { HELP_COLUMN = 32 };
    for (const struct pd_opt *o = table; !is_end(o); o++) {
        if (o->flags & PD_OPT_HIDDEN)
            continue;
        if (!o->name) {
            pd_buf_addf(out, "\n%s\n", o->help);
            continue;
        }
        size_t start = out->len;
        pd_buf_addf(out, "  --%s%s", o->flags & PD_OPT_NEGATABLE ? "[no-]" : "", o->name);
        if (o->type == PD_OPT_CHOICE)
            pd_buf_addf(out, " %s", o->choices);
        else if (o->flags & PD_OPT_ALONE)
            pd_buf_addf(out, " [%s]", o->metavar);
        else if (o->type != PD_OPT_FLAG)
            pd_buf_addf(out, " %s", o->metavar ? o->metavar : "VALUE");
        size_t width = out->len - start;
        if (width + 2 > HELP_COLUMN)
            pd_buf_addf(out, "\n%*s", HELP_COLUMN, "");
        else
            pd_buf_addf(out, "%*s", (int)(HELP_COLUMN - width), "");
        struct pd_buf text;
        pd_buf_init(&text, 0);
        pd_buf_adds(&text, o->help);
        if (o->flags & PD_OPT_REQUIRED)
            pd_buf_adds(&text, " (required)");
        else
            print_default(&text, o);
        wrap(out, pd_buf_str(&text), HELP_COLUMN, HELP_COLUMN);
        pd_buf_release(&text);
    }
}
