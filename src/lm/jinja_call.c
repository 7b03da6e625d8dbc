/* Arguments, tests and global functions. */
#include "lm/jinja_int.h"

#include <time.h>

struct pd_j_val *pd_j_arg(struct pd_j_args *args, size_t at, const char *name)
{
    return at < args->n ? &args->v[at] : pd_j_map_get(&args->named, pd_str_from(name));
}

enum pd_rc pd_j_need_string(struct pd_j_run *r, const struct pd_j_val *v, const char *what)
{
    if (v && v->type == PD_J_T_STR)
        return PD_OK;
    return pd_j_fail(r, PD_INVALID, "%s wants a string, not %s", what,
                     v ? pd_j_type_name(v) : "nothing");
}

enum pd_rc pd_j_as_text(struct pd_j_run *r, const struct pd_j_val *v, struct pd_j_val *out)
{
    struct pd_j_out o = {0};
    enum pd_rc rc = pd_j_print(r, &o, v);
    *out = pd_j_out_val(&o);
    return rc;
}

/* ---- tests ---- */

/* Tests that only look at the value; 2 = not one of them. */
static int plain_test(struct pd_str name, const struct pd_j_val *v)
{
    enum pd_j_type t = v->type;
    bool number = t == PD_J_T_INT || t == PD_J_T_FLOAT || t == PD_J_T_BOOL;
    bool sequence = t == PD_J_T_STR || t == PD_J_T_LIST || t == PD_J_T_MAP;
    const struct {
        const char *name;
        bool yes;
    } tests[] = {
        {"defined", t != PD_J_T_UNDEFINED},
        {"undefined", t == PD_J_T_UNDEFINED},
        {"none", t == PD_J_T_NONE},
        {"string", t == PD_J_T_STR},
        {"number", number},
        {"integer", t == PD_J_T_INT},
        {"float", t == PD_J_T_FLOAT},
        {"boolean", t == PD_J_T_BOOL},
        {"true", t == PD_J_T_BOOL && v->u.b},
        {"false", t == PD_J_T_BOOL && !v->u.b},
        {"mapping", t == PD_J_T_MAP},
        {"sequence", sequence || t == PD_J_T_UNDEFINED},
        {"iterable", sequence || t == PD_J_T_UNDEFINED || t == PD_J_T_LOOP},
        {"callable", t == PD_J_T_MACRO || t == PD_J_T_FUNCTION || t == PD_J_T_UNDEFINED},
        {"odd", t == PD_J_T_INT && v->u.i % 2 != 0},
        {"even", t == PD_J_T_INT && v->u.i % 2 == 0},
    };
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        if (pd_str_eqz(name, tests[i].name))
            return tests[i].yes;
    return 2;
}

static enum pd_rc same(struct pd_j_run *r, const struct pd_j_val *a, const struct pd_j_val *b,
                       bool *yes)
{
    *yes = false;
    if (a->type != b->type)
        return PD_OK;
    if (a->type != PD_J_T_LIST && a->type != PD_J_T_MAP)
        return pd_j_equal(r, a, b, yes);
    *yes = a->u.list == b->u.list;
    return PD_OK;
}

static enum pd_rc order_test(struct pd_j_run *r, struct pd_str name, const struct pd_j_val *v,
                             const struct pd_j_val *x, bool *out)
{
    static const char *const names[] = {"lt", "lessthan", "le", "gt", "greaterthan", "ge"};
    int order = 0;
    size_t i = 0;
    while (i < 6 && !pd_str_eqz(name, names[i]))
        i++;
    if (i == 6)
        return pd_j_fail(r, PD_UNSUPPORTED, "the test %.*s is not known here", PD_STR_ARG(name));
    enum pd_rc rc = pd_j_compare(r, v, x, &order);
    *out = i < 3 ? order < 0 || (i == 2 && order == 0) : order > 0 || (i == 5 && order == 0);
    return rc;
}

enum pd_rc pd_j_test(struct pd_j_run *r, struct pd_str name, const struct pd_j_val *v,
                     struct pd_j_args *args, bool *out)
{
    int plain = plain_test(name, v);
    const struct pd_j_val *x = args->n > 0 ? &args->v[0] : NULL;
    if (plain != 2) {
        *out = plain;
        return PD_OK;
    }
    if (!x)
        return pd_j_fail(r, PD_UNSUPPORTED, "the test %.*s without argument is not known here",
                         PD_STR_ARG(name));
    if (pd_str_eqz(name, "equalto") || pd_str_eqz(name, "eq"))
        return pd_j_equal(r, v, x, out);
    if (pd_str_eqz(name, "ne")) {
        enum pd_rc rc = pd_j_equal(r, v, x, out);
        *out = !*out;
        return rc;
    }
    if (pd_str_eqz(name, "sameas"))
        return same(r, v, x, out);
    if (pd_str_eqz(name, "in"))
        return pd_j_contains(r, x, v, out);
    if (!pd_str_eqz(name, "divisibleby") || v->type != PD_J_T_INT || x->type != PD_J_T_INT ||
        x->u.i == 0)
        return order_test(r, name, v, x, out);
    *out = x->u.i == -1 || v->u.i % x->u.i == 0;
    return PD_OK;
}

/* ---- global functions ---- */

static enum pd_rc call_range(struct pd_j_run *r, struct pd_j_args *args, struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    int64_t v[3] = {0, 0, 1};
    for (size_t i = 0; i < args->n && i < 3; i++) {
        if (args->v[i].type != PD_J_T_INT)
            return pd_j_fail(r, PD_INVALID, "range of %s", pd_j_type_name(&args->v[i]));
        v[args->n == 1 ? 1 : i] = args->v[i].u.i;
    }
    if (args->n == 0 || v[2] == 0)
        return pd_j_fail(r, PD_INVALID, "range() wants a number, and a step that is not 0");
    PD_TRY(pd_j_list_new(r, out));
    for (int64_t i = v[0]; v[2] > 0 ? i < v[1] : i > v[1];) {
        PD_TRY(pd_j_step(r, 1));
        PD_TRY(pd_j_list_add(r, out->u.list, pd_j_int(i)));
        if (__builtin_add_overflow(i, v[2], &i))
            break;
    }
out:
    return rc;
}

/* namespace(...) and dict(...): of named values, and what a mapping holds. */
static enum pd_rc call_map(struct pd_j_run *r, enum pd_j_type type, struct pd_j_args *args,
                           struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_j_map_new(r, type, out));
    for (size_t k = 0; k < args->n; k++) {
        if (args->v[k].type != PD_J_T_MAP)
            return pd_j_fail(r, PD_UNSUPPORTED, "a dict of %s", pd_j_type_name(&args->v[k]));
        for (size_t i = 0; i < args->v[k].u.map->n; i++)
            PD_TRY(pd_j_map_put(r, out->u.map, args->v[k].u.map->v[i].key,
                                args->v[k].u.map->v[i].value));
    }
    for (size_t i = 0; i < args->named.n; i++)
        PD_TRY(pd_j_map_put(r, out->u.map, args->named.v[i].key, args->named.v[i].value));
out:
    return rc;
}

static enum pd_rc call_strftime(struct pd_j_run *r, struct pd_j_args *args, struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    char text[256];
    struct tm tm;
    time_t now = time(NULL);
    PD_TRY(pd_j_need_string(r, args->n ? &args->v[0] : NULL, "strftime_now"));
    struct pd_str s = args->v[0].u.str.s;
    char *format = pd_arena_strndup(&r->arena, s.ptr, s.len);
    if (!localtime_r(&now, &tm))
        return pd_j_fail(r, PD_INVALID, "there is no local time");
    size_t n = strftime(text, sizeof text, format, &tm);
    if (pd_utf8_valid_prefix((struct pd_str){text, n}) != n)
        return pd_j_fail(r, PD_INVALID, "strftime_now gives text that is not UTF-8");
    *out = pd_j_str_val((struct pd_str){pd_arena_strndup(&r->arena, text, n), n},
                        args->v[0].u.str.tainted);
out:
    return rc;
}

static enum pd_rc call_raise(struct pd_j_run *r, struct pd_j_args *args)
{
    struct pd_j_val text = pd_j_strz("");
    enum pd_rc rc = args->n ? pd_j_as_text(r, &args->v[0], &text) : PD_OK;
    return rc == PD_OK ? pd_j_fail(r, PD_INVALID, "%.*s", PD_STR_ARG(text.u.str.s)) : rc;
}

const char *pd_j_function_name(struct pd_str name)
{
    static const char *const names[] = {"range", "namespace", "dict", "strftime_now",
                                        "raise_exception"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (pd_str_eqz(name, names[i]))
            return names[i];
    return NULL;
}

enum pd_rc pd_j_function(struct pd_j_run *r, const char *name, struct pd_j_args *args,
                         struct pd_j_val *out)
{
    switch (name[0]) {
    case 'n':
        return call_map(r, PD_J_T_NAMESPACE, args, out);
    case 'd':
        return call_map(r, PD_J_T_MAP, args, out);
    case 's':
        return call_strftime(r, args, out);
    default:
        return name[1] == 'a' && name[2] == 'n' ? call_range(r, args, out) : call_raise(r, args);
    }
}
