/* The values of a template: making them, comparing, walking over them. */
#include "lm/jinja_int.h"
#include "lm/tok_int.h"

#include <math.h>
#include <stdio.h>

const struct pd_j_val pd_j_none = {.type = PD_J_T_NONE};

enum pd_rc pd_j_fail(struct pd_j_run *r, enum pd_rc rc, const char *fmt, ...)
{
    char what[400];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return PD_FAIL(r->err, rc, "line %d: %s", r->line, what);
}

enum pd_rc pd_j_step(struct pd_j_run *r, size_t n)
{
    r->steps += n;
    if (r->steps > PD_J_MAX_STEPS)
        return pd_j_fail(r, PD_TOOBIG, "the template runs on beyond %d steps", PD_J_MAX_STEPS);
    if (r->arena.used_bytes > PD_J_MAX_MEMORY)
        return pd_j_fail(r, PD_TOOBIG, "the template takes more than %d MB", PD_J_MAX_MEMORY >> 20);
    return PD_OK;
}

enum pd_rc pd_j_step_text(struct pd_j_run *r, struct pd_str s)
{
    return pd_j_step(r, s.len / 64);
}

enum pd_rc pd_j_step_names(struct pd_j_run *r, const struct pd_j_map *m)
{
    return pd_j_step(r, m->n / 8);
}

void *pd_j_alloc(struct pd_j_run *r, size_t n)
{
    if (n > PD_J_MAX_MEMORY || r->arena.used_bytes + n > PD_J_MAX_MEMORY) {
        (void)pd_j_fail(r, PD_TOOBIG, "the template takes more than %d MB", PD_J_MAX_MEMORY >> 20);
        return NULL;
    }
    return pd_arena_alloc(&r->arena, n);
}

/* ---- making ---- */

struct pd_j_val pd_j_str_val(struct pd_str s, bool tainted)
{
    return (struct pd_j_val){.type = PD_J_T_STR, .u.str = {.s = s, .tainted = tainted}};
}

struct pd_j_val pd_j_strz(const char *z)
{
    return pd_j_str_val(pd_str_from(z), false);
}

struct pd_j_val pd_j_bool(bool b)
{
    return (struct pd_j_val){.type = PD_J_T_BOOL, .u.b = b};
}

struct pd_j_val pd_j_int(int64_t i)
{
    return (struct pd_j_val){.type = PD_J_T_INT, .u.i = i};
}

struct pd_j_val pd_j_undefined(const char *what)
{
    return (struct pd_j_val){.type = PD_J_T_UNDEFINED, .u.fn.name = what};
}

struct pd_j_str pd_j_sub(struct pd_j_str s, size_t from, size_t to)
{
    s.s = (struct pd_str){s.s.ptr + from, to - from};
    if (s.marks)
        s.marks += from;
    return s;
}

enum pd_rc pd_j_list_new(struct pd_j_run *r, struct pd_j_val *out)
{
    struct pd_j_list *l = pd_j_alloc(r, sizeof *l);
    if (!l)
        return PD_TOOBIG;
    *out = (struct pd_j_val){.type = PD_J_T_LIST, .u.list = l};
    return PD_OK;
}

/* The array of n items with room for one more, or NULL. */
static void *grown(struct pd_j_run *r, void *v, size_t n, size_t *cap, size_t size)
{
    if (n < *cap)
        return v;
    size_t more = *cap ? 2 * *cap : 4;
    void *bigger = pd_j_alloc(r, more * size);
    if (bigger && n)
        memcpy(bigger, v, n * size);
    if (bigger)
        *cap = more;
    return bigger;
}

enum pd_rc pd_j_list_add(struct pd_j_run *r, struct pd_j_list *l, struct pd_j_val v)
{
    struct pd_j_val *items = grown(r, l->v, l->n, &l->cap, sizeof *items);
    if (!items)
        return PD_TOOBIG;
    l->v = items;
    l->v[l->n++] = v;
    return PD_OK;
}

enum pd_rc pd_j_map_new(struct pd_j_run *r, enum pd_j_type type, struct pd_j_val *out)
{
    struct pd_j_map *m = pd_j_alloc(r, sizeof *m);
    if (!m)
        return PD_TOOBIG;
    *out = (struct pd_j_val){.type = type, .u.map = m};
    return PD_OK;
}

struct pd_j_val *pd_j_map_get(const struct pd_j_map *m, struct pd_str key)
{
    for (size_t i = 0; i < m->n; i++)
        if (pd_str_eq(m->v[i].key.s, key))
            return &m->v[i].value;
    return NULL;
}

enum pd_rc pd_j_map_put(struct pd_j_run *r, struct pd_j_map *m, struct pd_j_str key,
                        struct pd_j_val v)
{
    struct pd_j_val *there = pd_j_map_get(m, key.s);
    enum pd_rc rc = pd_j_step_names(r, m);
    if (rc != PD_OK)
        return rc;
    if (there) {
        *there = v;
        return PD_OK;
    }
    struct pd_j_entry *entries = grown(r, m->v, m->n, &m->cap, sizeof *entries);
    if (!entries)
        return PD_TOOBIG;
    m->v = entries;
    m->v[m->n++] = (struct pd_j_entry){key, v};
    return PD_OK;
}

static enum pd_rc list_from_json(struct pd_j_run *r, struct json_object *o, bool trusted, int depth,
                                 struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_val item;
    PD_TRY(pd_j_list_new(r, out));
    for (size_t i = 0; i < json_object_array_length(o); i++) {
        PD_TRY(pd_j_from_json(r, json_object_array_get_idx(o, i), trusted, depth + 1, &item));
        PD_TRY(pd_j_list_add(r, out->u.list, item));
    }
out:
    return rc;
}

static enum pd_rc map_from_json(struct pd_j_run *r, struct json_object *o, bool trusted, int depth,
                                struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_val item;
    PD_TRY(pd_j_map_new(r, PD_J_T_MAP, out));
    json_object_object_foreach(o, key, v)
    {
        struct pd_j_str name = {.s = pd_str_from(key), .tainted = !trusted};
        rc = pd_j_from_json(r, v, trusted, depth + 1, &item);
        if (rc == PD_OK)
            rc = pd_j_map_put(r, out->u.map, name, item);
        if (rc != PD_OK)
            return rc;
    }
out:
    return rc;
}

enum pd_rc pd_j_from_json(struct pd_j_run *r, struct json_object *o, bool trusted, int depth,
                          struct pd_j_val *out)
{
    enum pd_rc rc = pd_j_step(r, 1);
    if (rc != PD_OK)
        return rc;
    if (depth > PD_J_MAX_DEPTH)
        return pd_j_fail(r, PD_INVALID, "messages nested more than %d deep", PD_J_MAX_DEPTH);
    switch (json_object_get_type(o)) {
    case json_type_boolean:
        *out = pd_j_bool(json_object_get_boolean(o));
        break;
    case json_type_int:
        *out = pd_j_int(json_object_get_int64(o));
        break;
    case json_type_double:
        *out = (struct pd_j_val){.type = PD_J_T_FLOAT, .u.f = json_object_get_double(o)};
        break;
    case json_type_string: { /* the text of a token may be any bytes */
        struct pd_str text = pd_json_value_str(o);
        if (pd_utf8_valid_prefix(text) != text.len)
            return pd_j_fail(r, PD_INVALID, "a text given to the template is not UTF-8");
        *out = pd_j_str_val(text, !trusted);
        break;
    }
    case json_type_array:
        return list_from_json(r, o, trusted, depth, out);
    case json_type_object:
        return map_from_json(r, o, trusted, depth, out);
    default:
        *out = pd_j_none;
    }
    return PD_OK;
}

/* ---- asking ---- */

const char *pd_j_type_name(const struct pd_j_val *v)
{
    static const char *const names[] = {"undefined",   "none",     "a boolean", "an integer",
                                        "a number",    "a string", "a list",    "a mapping",
                                        "a namespace", "a loop",   "a macro",   "a function"};
    return names[v->type];
}

bool pd_j_truth(const struct pd_j_val *v)
{
    switch (v->type) {
    case PD_J_T_UNDEFINED:
    case PD_J_T_NONE:
        return false;
    case PD_J_T_BOOL:
        return v->u.b;
    case PD_J_T_INT:
        return v->u.i != 0;
    case PD_J_T_FLOAT:
        return v->u.f != 0;
    case PD_J_T_STR:
        return v->u.str.s.len > 0;
    case PD_J_T_LIST:
        return v->u.list->n > 0;
    case PD_J_T_MAP:
        return v->u.map->n > 0;
    default:
        return true;
    }
}

static bool number(const struct pd_j_val *v, double *x)
{
    *x = v->type == PD_J_T_BOOL    ? v->u.b
         : v->type == PD_J_T_INT   ? (double)v->u.i
         : v->type == PD_J_T_FLOAT ? v->u.f
                                   : NAN;
    return v->type == PD_J_T_BOOL || v->type == PD_J_T_INT || v->type == PD_J_T_FLOAT;
}

static enum pd_rc equal(struct pd_j_run *r, const struct pd_j_val *a, const struct pd_j_val *b,
                        int depth, bool *yes);

static enum pd_rc maps_equal(struct pd_j_run *r, const struct pd_j_map *a, const struct pd_j_map *b,
                             int depth, bool *yes)
{
    enum pd_rc rc = PD_OK;
    *yes = a->n == b->n;
    for (size_t i = 0; i < a->n && *yes; i++) {
        const struct pd_j_val *other = pd_j_map_get(b, a->v[i].key.s);
        PD_TRY(pd_j_step_names(r, b));
        *yes = other != NULL;
        if (other)
            PD_TRY(equal(r, &a->v[i].value, other, depth + 1, yes));
    }
out:
    return rc;
}

static enum pd_rc lists_equal(struct pd_j_run *r, const struct pd_j_list *a,
                              const struct pd_j_list *b, int depth, bool *yes)
{
    enum pd_rc rc = PD_OK;
    *yes = a->n == b->n && a->tuple == b->tuple;
    for (size_t i = 0; i < a->n && *yes; i++)
        PD_TRY(equal(r, &a->v[i], &b->v[i], depth + 1, yes));
out:
    return rc;
}

/* Lists may hold one list many times over, so that the walk is longer than they are large. */
static enum pd_rc equal(struct pd_j_run *r, const struct pd_j_val *a, const struct pd_j_val *b,
                        int depth, bool *yes)
{
    double x, y;
    enum pd_rc rc = pd_j_step(r, 1);
    *yes = false;
    if (rc != PD_OK)
        return rc;
    if (a->type == PD_J_T_INT && b->type == PD_J_T_INT)
        *yes = a->u.i == b->u.i;
    else if (number(a, &x) && number(b, &y))
        *yes = x == y;
    else if (a->type != b->type)
        return PD_OK;
    else if (depth > PD_J_MAX_DEPTH)
        return pd_j_fail(r, PD_INVALID, "values nested too deeply to compare");
    else if (a->type == PD_J_T_LIST)
        return lists_equal(r, a->u.list, b->u.list, depth, yes);
    else if (a->type == PD_J_T_MAP)
        return maps_equal(r, a->u.map, b->u.map, depth, yes);
    else if (a->type == PD_J_T_STR) {
        *yes = pd_str_eq(a->u.str.s, b->u.str.s);
        return pd_j_step_text(r, a->u.str.s);
    } else
        *yes = a->type == PD_J_T_UNDEFINED || a->type == PD_J_T_NONE;
    return PD_OK;
}

enum pd_rc pd_j_equal(struct pd_j_run *r, const struct pd_j_val *a, const struct pd_j_val *b,
                      bool *yes)
{
    return equal(r, a, b, 0, yes);
}

enum pd_rc pd_j_compare(struct pd_j_run *r, const struct pd_j_val *a, const struct pd_j_val *b,
                        int *order)
{
    double x, y;
    if (number(a, &x) && number(b, &y)) {
        *order = (x > y) - (x < y);
        return PD_OK;
    }
    if (a->type == PD_J_T_STR && b->type == PD_J_T_STR) {
        size_t n = a->u.str.s.len < b->u.str.s.len ? a->u.str.s.len : b->u.str.s.len;
        *order = pd_str_cmp(a->u.str.s, b->u.str.s);
        return pd_j_step(r, n / 64);
    }
    return pd_j_fail(r, PD_INVALID, "%s and %s have no order", pd_j_type_name(a),
                     pd_j_type_name(b));
}

enum pd_rc pd_j_contains(struct pd_j_run *r, const struct pd_j_val *in, const struct pd_j_val *x,
                         bool *yes)
{
    *yes = false;
    if (in->type == PD_J_T_STR && x->type == PD_J_T_STR) {
        struct pd_str hay = in->u.str.s, needle = x->u.str.s;
        *yes = needle.len == 0 || (hay.len && memmem(hay.ptr, hay.len, needle.ptr, needle.len));
        return pd_j_step_text(r, hay);
    }
    if (in->type == PD_J_T_MAP) {
        *yes = x->type == PD_J_T_STR && pd_j_map_get(in->u.map, x->u.str.s);
        return pd_j_step_names(r, in->u.map);
    }
    if (in->type == PD_J_T_UNDEFINED)
        return PD_OK;
    if (in->type != PD_J_T_LIST)
        return pd_j_fail(r, PD_INVALID, "%s cannot be in %s", pd_j_type_name(x),
                         pd_j_type_name(in));
    enum pd_rc rc = PD_OK;
    for (size_t i = 0; i < in->u.list->n && !*yes && rc == PD_OK; i++)
        rc = pd_j_equal(r, &in->u.list->v[i], x, yes);
    return rc;
}

/* ---- walking ---- */

static enum pd_rc characters(struct pd_j_run *r, struct pd_j_str s, struct pd_j_list *l)
{
    for (size_t at = 0, len; at < s.s.len; at += len) {
        (void)pd_char_at(s.s, at, &len);
        struct pd_j_val c = {.type = PD_J_T_STR, .u.str = pd_j_sub(s, at, at + len)};
        enum pd_rc rc = pd_j_list_add(r, l, c);
        if (rc != PD_OK)
            return rc;
    }
    return PD_OK;
}

enum pd_rc pd_j_iterate(struct pd_j_run *r, const struct pd_j_val *v, struct pd_j_list **out)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_val made;
    if (v->type == PD_J_T_LIST) {
        *out = v->u.list;
        return pd_j_step(r, v->u.list->n);
    }
    PD_TRY(pd_j_list_new(r, &made));
    *out = made.u.list;
    if (v->type == PD_J_T_STR)
        return characters(r, v->u.str, *out);
    if (v->type == PD_J_T_MAP) {
        for (size_t i = 0; i < v->u.map->n; i++)
            PD_TRY(pd_j_list_add(
                r, *out, (struct pd_j_val){.type = PD_J_T_STR, .u.str = v->u.map->v[i].key}));
    } else if (v->type != PD_J_T_UNDEFINED) {
        rc = pd_j_fail(r, PD_INVALID, "%s cannot be iterated over", pd_j_type_name(v));
    }
out:
    return rc;
}
