/* Filters: v|name(arguments). */
#include "lm/jinja_int.h"

#include <math.h>

typedef enum pd_rc filter_fn(struct pd_j_run *r, struct pd_j_val v, struct pd_j_args *args,
                             struct pd_j_val *out);

static enum pd_rc filter_string(struct pd_j_run *r, struct pd_j_val v, struct pd_j_args *args,
                                struct pd_j_val *out)
{
    (void)args;
    return pd_j_as_text(r, &v, out);
}

/* Filters of texts that are methods of strings too. */
static enum pd_rc through_method(struct pd_j_run *r, const char *name, struct pd_j_val v,
                                 struct pd_j_args *args, struct pd_j_val *out)
{
    struct pd_j_val text;
    enum pd_rc rc = pd_j_as_text(r, &v, &text);
    return rc == PD_OK ? pd_j_method(r, name, &text, args, out) : rc;
}

#define METHOD_FILTER(fn, method)                                                                  \
    static enum pd_rc fn(struct pd_j_run *r, struct pd_j_val v, struct pd_j_args *args,            \
                         struct pd_j_val *out)                                                     \
    {                                                                                              \
        return through_method(r, method, v, args, out);                                            \
    }
METHOD_FILTER(filter_trim, "strip")
METHOD_FILTER(filter_upper, "upper")
METHOD_FILTER(filter_lower, "lower")
METHOD_FILTER(filter_capitalize, "capitalize")
METHOD_FILTER(filter_title, "title")
METHOD_FILTER(filter_replace, "replace")

static enum pd_rc filter_tojson(struct pd_j_run *r, struct pd_j_val v, struct pd_j_args *args,
                                struct pd_j_val *out)
{
    struct pd_j_out o = {0};
    enum pd_rc rc = pd_j_json(r, &o, &v, args);
    *out = pd_j_out_val(&o);
    return rc;
}

static enum pd_rc filter_length(struct pd_j_run *r, struct pd_j_val v, struct pd_j_args *args,
                                struct pd_j_val *out)
{
    (void)args;
    switch (v.type) {
    case PD_J_T_STR:
        *out = pd_j_int((int64_t)pd_j_chars(v.u.str.s));
        return pd_j_step_text(r, v.u.str.s);
    case PD_J_T_LIST:
        *out = pd_j_int((int64_t)v.u.list->n);
        return PD_OK;
    case PD_J_T_MAP:
        *out = pd_j_int((int64_t)v.u.map->n);
        return PD_OK;
    case PD_J_T_UNDEFINED:
        *out = pd_j_int(0);
        return PD_OK;
    default:
        return pd_j_fail(r, PD_INVALID, "%s has no length", pd_j_type_name(&v));
    }
}

/* v.a.b by a dotted name, or v itself. */
static enum pd_rc attribute(struct pd_j_run *r, struct pd_j_val v, const struct pd_j_val *name,
                            struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    struct pd_str rest, part;
    *out = v;
    if (!name || name->type == PD_J_T_NONE)
        return PD_OK;
    PD_TRY(pd_j_need_string(r, name, "attribute"));
    rest = name->u.str.s;
    while (pd_str_split(&rest, '.', &part)) {
        struct pd_j_val from = *out;
        PD_TRY(pd_j_attr(r, &from, part, false, out));
    }
out:
    return rc;
}

static enum pd_rc filter_join(struct pd_j_run *r, struct pd_j_val v, struct pd_j_args *args,
                              struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_list *items = NULL;
    struct pd_j_out o = {0};
    const struct pd_j_val *between = pd_j_arg(args, 0, "d");
    PD_TRY(pd_j_iterate(r, &v, &items));
    for (size_t i = 0; i < items->n; i++) {
        struct pd_j_val item;
        PD_TRY(attribute(r, items->v[i], pd_j_arg(args, 1, "attribute"), &item));
        if (i && between)
            PD_TRY(pd_j_print(r, &o, between));
        PD_TRY(pd_j_print(r, &o, &item));
    }
    *out = pd_j_out_val(&o);
out:
    return rc;
}

static enum pd_rc filter_default(struct pd_j_run *r, struct pd_j_val v, struct pd_j_args *args,
                                 struct pd_j_val *out)
{
    (void)r;
    const struct pd_j_val *other = pd_j_arg(args, 0, "default_value");
    const struct pd_j_val *falsy = pd_j_arg(args, 1, "boolean");
    bool use = v.type == PD_J_T_UNDEFINED || (falsy && pd_j_truth(falsy) && !pd_j_truth(&v));
    *out = !use ? v : other ? *other : pd_j_strz("");
    return PD_OK;
}

static enum pd_rc filter_safe(struct pd_j_run *r, struct pd_j_val v, struct pd_j_args *args,
                              struct pd_j_val *out)
{
    (void)r;
    (void)args;
    *out = v;
    return PD_OK;
}

static enum pd_rc filter_items(struct pd_j_run *r, struct pd_j_val v, struct pd_j_args *args,
                               struct pd_j_val *out)
{
    if (v.type == PD_J_T_UNDEFINED)
        return pd_j_list_new(r, out);
    if (v.type != PD_J_T_MAP)
        return pd_j_fail(r, PD_INVALID, "items of %s", pd_j_type_name(&v));
    return pd_j_method(r, "items", &v, args, out);
}

static enum pd_rc copy(struct pd_j_run *r, const struct pd_j_val *v, struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_list *items = NULL;
    PD_TRY(pd_j_iterate(r, v, &items));
    PD_TRY(pd_j_list_new(r, out));
    for (size_t i = 0; i < items->n; i++)
        PD_TRY(pd_j_list_add(r, out->u.list, items->v[i]));
out:
    return rc;
}

static enum pd_rc filter_list(struct pd_j_run *r, struct pd_j_val v, struct pd_j_args *args,
                              struct pd_j_val *out)
{
    (void)args;
    return copy(r, &v, out);
}

static void swap(struct pd_j_val *a, struct pd_j_val *b)
{
    struct pd_j_val was = *a;
    *a = *b;
    *b = was;
}

static enum pd_rc filter_reverse(struct pd_j_run *r, struct pd_j_val v, struct pd_j_args *args,
                                 struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_out text = {0};
    (void)args;
    PD_TRY(copy(r, &v, out));
    struct pd_j_list *l = out->u.list;
    for (size_t i = 0; i < l->n / 2; i++)
        swap(&l->v[i], &l->v[l->n - 1 - i]);
    for (size_t i = 0; v.type == PD_J_T_STR && i < l->n; i++)
        PD_TRY(pd_j_out_add(r, &text, l->v[i].u.str));
    if (v.type == PD_J_T_STR)
        *out = pd_j_out_val(&text);
out:
    return rc;
}

static enum pd_rc end_of(struct pd_j_run *r, const struct pd_j_val *v, bool last,
                         struct pd_j_val *out)
{
    struct pd_j_list *items = NULL;
    enum pd_rc rc = pd_j_iterate(r, v, &items);
    if (rc != PD_OK)
        return rc;
    *out = items->n ? items->v[last ? items->n - 1 : 0] : pd_j_undefined("an item of no items");
    return PD_OK;
}

static enum pd_rc filter_first(struct pd_j_run *r, struct pd_j_val v, struct pd_j_args *args,
                               struct pd_j_val *out)
{
    (void)args;
    return end_of(r, &v, false, out);
}

static enum pd_rc filter_last(struct pd_j_run *r, struct pd_j_val v, struct pd_j_args *args,
                              struct pd_j_val *out)
{
    (void)args;
    return end_of(r, &v, true, out);
}

/* What an item is sorted by: an attribute of it, or the first of its pair; without case where
 * strings are to be. */
struct sort_key {
    const struct pd_j_val *attribute;
    bool of_pair, no_case;
};

static enum pd_rc key_of(struct pd_j_run *r, const struct sort_key *by, struct pd_j_val item,
                         struct pd_j_val *key)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_args none = {0};
    if (by->of_pair)
        *key = item.u.list->v[0];
    else
        PD_TRY(attribute(r, item, by->attribute, key));
    if (by->no_case && key->type == PD_J_T_STR) {
        struct pd_j_val text = *key;
        PD_TRY(pd_j_method(r, "lower", &text, &none, key));
    }
out:
    return rc;
}

/* Insertion sort: stable, and templates sort handfuls. */
static enum pd_rc sort_by(struct pd_j_run *r, struct pd_j_list *l, const struct sort_key *by)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_val *keys = pd_j_alloc(r, (l->n + 1) * sizeof *keys);
    if (!keys)
        return PD_TOOBIG;
    for (size_t i = 0; i < l->n; i++)
        PD_TRY(key_of(r, by, l->v[i], &keys[i]));
    for (size_t i = 1; i < l->n; i++)
        for (size_t k = i; k > 0; k--) {
            int order = 0;
            PD_TRY(pd_j_step(r, 1));
            PD_TRY(pd_j_compare(r, &keys[k - 1], &keys[k], &order));
            if (order <= 0)
                break;
            swap(&l->v[k - 1], &l->v[k]);
            swap(&keys[k - 1], &keys[k]);
        }
out:
    return rc;
}

static enum pd_rc filter_sort(struct pd_j_run *r, struct pd_j_val v, struct pd_j_args *args,
                              struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    const struct pd_j_val *backwards = pd_j_arg(args, 0, "reverse");
    const struct pd_j_val *cased = pd_j_arg(args, 1, "case_sensitive");
    struct sort_key by = {.attribute = pd_j_arg(args, 2, "attribute"),
                          .no_case = !(cased && pd_j_truth(cased))};
    if (backwards && pd_j_truth(backwards))
        return pd_j_fail(r, PD_UNSUPPORTED, "sort in reverse");
    PD_TRY(copy(r, &v, out));
    PD_TRY(sort_by(r, out->u.list, &by));
out:
    return rc;
}

/* [(key, value)...] by key without case */
static enum pd_rc filter_dictsort(struct pd_j_run *r, struct pd_j_val v, struct pd_j_args *args,
                                  struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    if (args->n > 0 || args->named.n > 0)
        return pd_j_fail(r, PD_UNSUPPORTED, "dictsort with arguments");
    PD_TRY(filter_items(r, v, args, out));
    PD_TRY(sort_by(r, out->u.list, &(struct sort_key){.of_pair = true, .no_case = true}));
out:
    return rc;
}

static enum pd_rc filter_unique(struct pd_j_run *r, struct pd_j_val v, struct pd_j_args *args,
                                struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_list *items = NULL;
    (void)args;
    PD_TRY(pd_j_iterate(r, &v, &items));
    PD_TRY(pd_j_list_new(r, out));
    for (size_t i = 0; i < items->n; i++) {
        bool seen = false;
        PD_TRY(pd_j_contains(r, out, &items->v[i], &seen));
        if (!seen)
            PD_TRY(pd_j_list_add(r, out->u.list, items->v[i]));
    }
out:
    return rc;
}

/* The arguments behind the first `skip`. */
static struct pd_j_args behind(const struct pd_j_args *args, size_t skip)
{
    struct pd_j_args rest = *args;
    skip = skip < rest.n ? skip : rest.n;
    rest.v = rest.v ? rest.v + skip : NULL;
    rest.n -= skip;
    return rest;
}

/* map(attribute=..., default=...) or map("filter", arguments...) */
static enum pd_rc filter_map(struct pd_j_run *r, struct pd_j_val v, struct pd_j_args *args,
                             struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_list *items = NULL;
    const struct pd_j_val *by = pd_j_map_get(&args->named, PD_STR("attribute"));
    const struct pd_j_val *other = pd_j_map_get(&args->named, PD_STR("default"));
    struct pd_j_args rest = behind(args, 1);
    if (!by)
        PD_TRY(pd_j_need_string(r, args->n ? &args->v[0] : NULL, "map"));
    PD_TRY(pd_j_iterate(r, &v, &items));
    PD_TRY(pd_j_list_new(r, out));
    for (size_t i = 0; i < items->n; i++) {
        struct pd_j_val item;
        if (by)
            PD_TRY(attribute(r, items->v[i], by, &item));
        else
            PD_TRY(pd_j_filter(r, args->v[0].u.str.s, items->v[i], &rest, &item));
        if (by && other && item.type == PD_J_T_UNDEFINED)
            item = *other;
        PD_TRY(pd_j_list_add(r, out->u.list, item));
    }
out:
    return rc;
}

/* select, reject (a test of the item), selectattr, rejectattr (of an attribute of it) */
static enum pd_rc choose(struct pd_j_run *r, const struct pd_j_val *v, struct pd_j_args *args,
                         bool by_attribute, bool keep, struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_list *items = NULL;
    size_t at = by_attribute;
    struct pd_j_args rest = behind(args, at + 1);
    if (by_attribute)
        PD_TRY(pd_j_need_string(r, args->n ? &args->v[0] : NULL, "selectattr"));
    if (args->n > at)
        PD_TRY(pd_j_need_string(r, &args->v[at], "the name of a test"));
    PD_TRY(pd_j_iterate(r, v, &items));
    PD_TRY(pd_j_list_new(r, out));
    for (size_t i = 0; i < items->n; i++) {
        struct pd_j_val subject;
        PD_TRY(attribute(r, items->v[i], by_attribute ? &args->v[0] : NULL, &subject));
        bool yes = pd_j_truth(&subject);
        if (args->n > at)
            PD_TRY(pd_j_test(r, args->v[at].u.str.s, &subject, &rest, &yes));
        if (yes == keep)
            PD_TRY(pd_j_list_add(r, out->u.list, items->v[i]));
    }
out:
    return rc;
}

#define CHOICE_FILTER(fn, by_attribute, keep)                                                      \
    static enum pd_rc fn(struct pd_j_run *r, struct pd_j_val v, struct pd_j_args *args,            \
                         struct pd_j_val *out)                                                     \
    {                                                                                              \
        return choose(r, &v, args, by_attribute, keep, out);                                       \
    }
CHOICE_FILTER(filter_select, false, true)
CHOICE_FILTER(filter_reject, false, false)
CHOICE_FILTER(filter_selectattr, true, true)
CHOICE_FILTER(filter_rejectattr, true, false)

/* indent(width=4, first=false, blank=false) */
static enum pd_rc filter_indent(struct pd_j_run *r, struct pd_j_val v, struct pd_j_args *args,
                                struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    const struct pd_j_val *width = pd_j_arg(args, 0, "width"), *first = pd_j_arg(args, 1, "first");
    const struct pd_j_val *blank = pd_j_arg(args, 2, "blank");
    struct pd_j_val text;
    struct pd_j_out o = {0};
    int64_t n = width && width->type == PD_J_T_INT ? width->u.i : 4;
    PD_TRY(pd_j_as_text(r, &v, &text));
    struct pd_j_str s = text.u.str;
    for (size_t from = 0, line = 0; from <= s.s.len; line++) {
        const char *end = memchr(s.s.ptr + from, '\n', s.s.len - from);
        size_t to = end ? (size_t)(end - s.s.ptr) : s.s.len;
        bool wanted =
            line > 0 ? to > from || (blank && pd_j_truth(blank)) : first && pd_j_truth(first);
        for (int64_t i = 0; wanted && i < n && i < 1000; i++)
            PD_TRY(pd_j_out_z(r, &o, " "));
        PD_TRY(pd_j_out_add(r, &o, pd_j_sub(s, from, end ? to + 1 : to)));
        from = to + 1;
    }
    *out = pd_j_out_val(&o);
out:
    return rc;
}

static enum pd_rc filter_int(struct pd_j_run *r, struct pd_j_val v, struct pd_j_args *args,
                             struct pd_j_val *out)
{
    const struct pd_j_val *other = pd_j_arg(args, 0, "default");
    int64_t i;
    double f;
    *out = other ? *other : pd_j_int(0);
    if (v.type == PD_J_T_BOOL)
        *out = pd_j_int(v.u.b);
    else if (v.type == PD_J_T_INT)
        *out = v;
    else if (v.type == PD_J_T_FLOAT && fabs(v.u.f) < 9e18)
        *out = pd_j_int((int64_t)v.u.f);
    else if (v.type == PD_J_T_STR && pd_str_to_i64(pd_str_trim(v.u.str.s), &i))
        *out = pd_j_int(i);
    else if (v.type == PD_J_T_STR && pd_str_to_f64(pd_str_trim(v.u.str.s), &f) && fabs(f) < 9e18)
        *out = pd_j_int((int64_t)f);
    return v.type == PD_J_T_STR ? pd_j_step_text(r, v.u.str.s) : PD_OK;
}

static enum pd_rc filter_float(struct pd_j_run *r, struct pd_j_val v, struct pd_j_args *args,
                               struct pd_j_val *out)
{
    const struct pd_j_val *other = pd_j_arg(args, 0, "default");
    double f = 0;
    bool ok = true;
    if (v.type == PD_J_T_INT)
        f = (double)v.u.i;
    else if (v.type == PD_J_T_BOOL)
        f = v.u.b;
    else if (v.type == PD_J_T_FLOAT)
        f = v.u.f;
    else
        ok = v.type == PD_J_T_STR && pd_str_to_f64(pd_str_trim(v.u.str.s), &f);
    *out = !ok && other ? *other : (struct pd_j_val){.type = PD_J_T_FLOAT, .u.f = ok ? f : 0};
    return v.type == PD_J_T_STR ? pd_j_step_text(r, v.u.str.s) : PD_OK;
}

static enum pd_rc filter_abs(struct pd_j_run *r, struct pd_j_val v, struct pd_j_args *args,
                             struct pd_j_val *out)
{
    (void)args;
    *out = v;
    if (v.type == PD_J_T_FLOAT)
        out->u.f = fabs(v.u.f);
    else if (v.type == PD_J_T_INT && v.u.i != INT64_MIN)
        out->u.i = v.u.i < 0 ? -v.u.i : v.u.i;
    else
        return pd_j_fail(r, PD_INVALID, "abs of %s", pd_j_type_name(&v));
    return PD_OK;
}

static const struct {
    const char *name;
    filter_fn *fn;
} filters[] = {
    {"abs", filter_abs},
    {"capitalize", filter_capitalize},
    {"count", filter_length},
    {"d", filter_default},
    {"default", filter_default},
    {"dictsort", filter_dictsort},
    {"first", filter_first},
    {"float", filter_float},
    {"indent", filter_indent},
    {"int", filter_int},
    {"items", filter_items},
    {"join", filter_join},
    {"last", filter_last},
    {"length", filter_length},
    {"list", filter_list},
    {"lower", filter_lower},
    {"map", filter_map},
    {"reject", filter_reject},
    {"rejectattr", filter_rejectattr},
    {"replace", filter_replace},
    {"reverse", filter_reverse},
    {"safe", filter_safe},
    {"select", filter_select},
    {"selectattr", filter_selectattr},
    {"sort", filter_sort},
    {"string", filter_string},
    {"title", filter_title},
    {"tojson", filter_tojson},
    {"trim", filter_trim},
    {"unique", filter_unique},
    {"upper", filter_upper},
};

enum pd_rc pd_j_filter(struct pd_j_run *r, struct pd_str name, struct pd_j_val v,
                       struct pd_j_args *args, struct pd_j_val *out)
{
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (pd_str_eqz(name, filters[i].name))
            return filters[i].fn(r, v, args, out);
    return pd_j_fail(r, PD_UNSUPPORTED, "the filter %.*s is not known here", PD_STR_ARG(name));
}
