/* Texts of templates: put together with their marks, cut, printed as Python prints values. */
#include "lm/jinja_int.h"
#include "lm/tok_int.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- putting together ---- */

static enum pd_rc reserve(struct pd_j_run *r, struct pd_j_out *o, size_t n)
{
    if (o->cap - o->n >= n)
        return PD_OK;
    size_t cap = o->cap ? o->cap : 64;
    while (cap - o->n < n)
        cap *= 2;
    char *text = pd_j_alloc(r, cap);
    uint8_t *marks = text ? pd_j_alloc(r, cap) : NULL;
    if (!marks)
        return PD_TOOBIG;
    if (o->n) {
        memcpy(text, o->text, o->n);
        memcpy(marks, o->marks, o->n);
    }
    o->text = text;
    o->marks = marks;
    o->cap = cap;
    return PD_OK;
}

enum pd_rc pd_j_out_add(struct pd_j_run *r, struct pd_j_out *o, struct pd_j_str s)
{
    enum pd_rc rc = pd_j_step(r, 1 + s.s.len / 64);
    if (rc == PD_OK)
        rc = reserve(r, o, s.s.len);
    if (rc != PD_OK || s.s.len == 0)
        return rc;
    memcpy(o->text + o->n, s.s.ptr, s.s.len);
    if (s.marks)
        memcpy(o->marks + o->n, s.marks, s.s.len);
    else
        memset(o->marks + o->n, s.tainted, s.s.len);
    for (size_t i = 0; s.marks && i < s.s.len; i++)
        o->tainted += s.marks[i];
    o->tainted += !s.marks && s.tainted ? s.s.len : 0;
    o->n += s.s.len;
    return PD_OK;
}

enum pd_rc pd_j_out_z(struct pd_j_run *r, struct pd_j_out *o, const char *z)
{
    return pd_j_out_add(r, o, (struct pd_j_str){.s = pd_str_from(z)});
}

struct pd_j_val pd_j_out_val(const struct pd_j_out *o)
{
    struct pd_j_val v = pd_j_str_val((struct pd_str){o->text ? o->text : "", o->n}, o->tainted > 0);
    if (o->tainted > 0 && o->tainted < o->n)
        v.u.str.marks = o->marks;
    return v;
}

/* ---- cutting ---- */

bool pd_j_is_space(uint32_t cp)
{
    return pd_char_is_space(cp) || (cp >= 0x1c && cp <= 0x1f);
}

static bool stripped(struct pd_str s, size_t at, const struct pd_str *chars, size_t *len)
{
    uint32_t cp = pd_char_at(s, at, len);
    return chars ? memmem(chars->ptr, chars->len, s.ptr + at, *len) != NULL : pd_j_is_space(cp);
}

struct pd_j_str pd_j_strip(struct pd_j_str s, const struct pd_str *chars, bool left, bool right)
{
    size_t from = 0, to = s.s.len, len;
    while (left && from < to && stripped(s.s, from, chars, &len))
        from += len;
    while (right && to > from) {
        size_t last = pd_char_before(s.s, to);
        if (!stripped(s.s, last, chars, &len))
            break;
        to = last;
    }
    return pd_j_sub(s, from, to);
}

size_t pd_j_chars(struct pd_str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++)
        n += ((unsigned char)s.ptr[i] & 0xc0) != 0x80;
    return n;
}

size_t pd_j_offset(struct pd_str s, size_t nth)
{
    size_t i = 0;
    for (; i < s.len; i++)
        if (((unsigned char)s.ptr[i] & 0xc0) != 0x80 && nth-- == 0)
            break;
    return i;
}

/* ---- printing ---- */

/* The shortest decimal that reads back the same, with the point or exponent Python gives it. */
static void show_float(double f, char *dst, size_t size)
{
    if (isnan(f) || isinf(f)) {
        (void)snprintf(dst, size, "%s", isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
        return;
    }
    int digits = 1;
    do
        (void)snprintf(dst, size, "%.*e", digits - 1, f);
    while (strtod(dst, NULL) != f && ++digits <= 17);
    int exponent = (int)strtol(strchr(dst, 'e') + 1, NULL, 10);
    if (exponent >= -4 && exponent < 16) {
        int decimals = digits - 1 - exponent;
        (void)snprintf(dst, size, "%.*f", decimals > 1 ? decimals : 1, f);
    }
}

static enum pd_rc print_number(struct pd_j_run *r, struct pd_j_out *o, const struct pd_j_val *v)
{
    char text[400];
    if (v->type == PD_J_T_FLOAT)
        show_float(v->u.f, text, sizeof text);
    else
        (void)snprintf(text, sizeof text, "%" PRId64, v->u.i);
    return pd_j_out_z(r, o, text);
}

/* A string with what would break out of its quotes escaped; `json`: as JSON has it. */
static enum pd_rc quoted(struct pd_j_run *r, struct pd_j_out *o, struct pd_j_str s, bool json)
{
    enum pd_rc rc = PD_OK;
    struct pd_str t = s.s;
    bool doubled = json || (t.len && memchr(t.ptr, '\'', t.len) && !memchr(t.ptr, '"', t.len));
    char quote = doubled ? '"' : '\'';
    char edge[2] = {quote, 0};
    PD_TRY(pd_j_out_z(r, o, edge));
    for (size_t i = 0, from = 0; i <= t.len; i++) {
        static const char codes[] = "\n\r\t\b\f", letters[] = "nrtbf";
        unsigned char c = i < t.len ? (unsigned char)t.ptr[i] : 0;
        if (i < t.len && c >= 0x20 && c != 0x7f && c != '\\' && c != (unsigned char)quote)
            continue;
        if (i < t.len && c == 0x7f && json)
            continue;
        PD_TRY(pd_j_out_add(r, o, pd_j_sub(s, from, i)));
        from = i + 1;
        if (i == t.len)
            break;
        const char *known = c ? strchr(codes, c) : NULL;
        char escape[8];
        if (c == '\\' || c == (unsigned char)quote)
            (void)snprintf(escape, sizeof escape, "\\%c", c);
        else if (known && (json || known - codes < 3))
            (void)snprintf(escape, sizeof escape, "\\%c", letters[known - codes]);
        else
            (void)snprintf(escape, sizeof escape, json ? "\\u%04x" : "\\x%02x", c);
        PD_TRY(pd_j_out_z(r, o, escape));
    }
    PD_TRY(pd_j_out_z(r, o, edge));
out:
    return rc;
}

static enum pd_rc nested(struct pd_j_run *r, struct pd_j_out *o, const struct pd_j_val *v,
                         int depth);

static enum pd_rc print_list(struct pd_j_run *r, struct pd_j_out *o, const struct pd_j_list *l,
                             int depth)
{
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_j_out_z(r, o, l->tuple ? "(" : "["));
    for (size_t i = 0; i < l->n; i++) {
        PD_TRY(pd_j_out_z(r, o, i ? ", " : ""));
        PD_TRY(nested(r, o, &l->v[i], depth));
    }
    PD_TRY(pd_j_out_z(r, o, !l->tuple ? "]" : l->n == 1 ? ",)" : ")"));
out:
    return rc;
}

static enum pd_rc print_map(struct pd_j_run *r, struct pd_j_out *o, const struct pd_j_map *m,
                            int depth)
{
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_j_out_z(r, o, "{"));
    for (size_t i = 0; i < m->n; i++) {
        PD_TRY(pd_j_out_z(r, o, i ? ", " : ""));
        PD_TRY(quoted(r, o, m->v[i].key, false));
        PD_TRY(pd_j_out_z(r, o, ": "));
        PD_TRY(nested(r, o, &m->v[i].value, depth));
    }
    PD_TRY(pd_j_out_z(r, o, "}"));
out:
    return rc;
}

static enum pd_rc nested(struct pd_j_run *r, struct pd_j_out *o, const struct pd_j_val *v,
                         int depth)
{
    if (depth > PD_J_MAX_DEPTH)
        return pd_j_fail(r, PD_INVALID, "a value nested too deeply to print");
    switch (v->type) {
    case PD_J_T_STR:
        return quoted(r, o, v->u.str, false);
    case PD_J_T_UNDEFINED:
        return pd_j_out_z(r, o, "Undefined");
    case PD_J_T_LIST:
        return print_list(r, o, v->u.list, depth + 1);
    case PD_J_T_MAP:
        return print_map(r, o, v->u.map, depth + 1);
    default:
        return pd_j_print(r, o, v);
    }
}

enum pd_rc pd_j_print(struct pd_j_run *r, struct pd_j_out *o, const struct pd_j_val *v)
{
    switch (v->type) {
    case PD_J_T_UNDEFINED:
        return PD_OK;
    case PD_J_T_NONE:
        return pd_j_out_z(r, o, "None");
    case PD_J_T_BOOL:
        return pd_j_out_z(r, o, v->u.b ? "True" : "False");
    case PD_J_T_INT:
    case PD_J_T_FLOAT:
        return print_number(r, o, v);
    case PD_J_T_STR:
        return pd_j_out_add(r, o, v->u.str);
    case PD_J_T_LIST:
    case PD_J_T_MAP:
        return nested(r, o, v, 0);
    default:
        return pd_j_fail(r, PD_UNSUPPORTED, "%s cannot be printed", pd_j_type_name(v));
    }
}

/* ---- JSON ---- */

struct json_style {
    const char *item, *colon; /* separators */
    int64_t indent;           /* -1: one line */
    bool sort;
};

static enum pd_rc newline(struct pd_j_run *r, struct pd_j_out *o, const struct json_style *style,
                          int depth)
{
    enum pd_rc rc = PD_OK;
    if (style->indent < 0)
        return PD_OK;
    PD_TRY(pd_j_out_z(r, o, "\n"));
    for (int64_t i = 0; i < style->indent * depth; i++)
        PD_TRY(pd_j_out_z(r, o, " "));
out:
    return rc;
}

/* The index of the smallest key above `after` (NULL: of all). */
static enum pd_rc next_key(struct pd_j_run *r, const struct pd_j_map *m,
                           const struct pd_j_val *after, size_t *best)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_val least = pd_j_none;
    *best = m->n;
    PD_TRY(pd_j_step(r, m->n));
    for (size_t i = 0; i < m->n; i++) {
        struct pd_j_val key = {.type = PD_J_T_STR, .u.str = m->v[i].key};
        int above = 1, below = -1;
        if (after)
            PD_TRY(pd_j_compare(r, &key, after, &above));
        if (above > 0 && *best < m->n)
            PD_TRY(pd_j_compare(r, &key, &least, &below));
        if (above > 0 && below < 0) {
            *best = i;
            least = key;
        }
    }
out:
    return rc;
}

static enum pd_rc json(struct pd_j_run *r, struct pd_j_out *o, const struct pd_j_val *v,
                       const struct json_style *style, int depth);

static enum pd_rc json_list(struct pd_j_run *r, struct pd_j_out *o, const struct pd_j_list *l,
                            const struct json_style *style, int depth)
{
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_j_out_z(r, o, "["));
    for (size_t i = 0; i < l->n; i++) {
        PD_TRY(pd_j_out_z(r, o, i ? style->item : ""));
        PD_TRY(newline(r, o, style, depth + 1));
        PD_TRY(json(r, o, &l->v[i], style, depth + 1));
    }
    if (l->n)
        PD_TRY(newline(r, o, style, depth));
    PD_TRY(pd_j_out_z(r, o, "]"));
out:
    return rc;
}

static enum pd_rc json_map(struct pd_j_run *r, struct pd_j_out *o, const struct pd_j_map *m,
                           const struct json_style *style, int depth)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_val last = pd_j_none;
    PD_TRY(pd_j_out_z(r, o, "{"));
    for (size_t i = 0; i < m->n; i++) {
        size_t at = i;
        if (style->sort)
            PD_TRY(next_key(r, m, i ? &last : NULL, &at));
        last = (struct pd_j_val){.type = PD_J_T_STR, .u.str = m->v[at].key};
        PD_TRY(pd_j_out_z(r, o, i ? style->item : ""));
        PD_TRY(newline(r, o, style, depth + 1));
        PD_TRY(quoted(r, o, m->v[at].key, true));
        PD_TRY(pd_j_out_z(r, o, style->colon));
        PD_TRY(json(r, o, &m->v[at].value, style, depth + 1));
    }
    if (m->n)
        PD_TRY(newline(r, o, style, depth));
    PD_TRY(pd_j_out_z(r, o, "}"));
out:
    return rc;
}

static enum pd_rc json(struct pd_j_run *r, struct pd_j_out *o, const struct pd_j_val *v,
                       const struct json_style *style, int depth)
{
    if (depth > PD_J_MAX_DEPTH)
        return pd_j_fail(r, PD_INVALID, "a value nested too deeply for JSON");
    switch (v->type) {
    case PD_J_T_NONE:
        return pd_j_out_z(r, o, "null");
    case PD_J_T_BOOL:
        return pd_j_out_z(r, o, v->u.b ? "true" : "false");
    case PD_J_T_INT:
    case PD_J_T_FLOAT:
        return print_number(r, o, v);
    case PD_J_T_STR:
        return quoted(r, o, v->u.str, true);
    case PD_J_T_LIST:
        return json_list(r, o, v->u.list, style, depth);
    case PD_J_T_MAP:
        return json_map(r, o, v->u.map, style, depth);
    default:
        return pd_j_fail(r, PD_INVALID, "%s has no form in JSON", pd_j_type_name(v));
    }
}

/* tojson(ensure_ascii=false, indent, separators, sort_keys) */
enum pd_rc pd_j_json(struct pd_j_run *r, struct pd_j_out *o, const struct pd_j_val *v,
                     const struct pd_j_args *args)
{
    struct json_style style = {", ", ": ", -1, false};
    const struct pd_j_val *indent = pd_j_map_get(&args->named, PD_STR("indent"));
    const struct pd_j_val *ascii = pd_j_map_get(&args->named, PD_STR("ensure_ascii"));
    const struct pd_j_val *sort = pd_j_map_get(&args->named, PD_STR("sort_keys"));
    const struct pd_j_val *sep = pd_j_map_get(&args->named, PD_STR("separators"));
    ascii = ascii || args->n < 1 ? ascii : &args->v[0];
    indent = indent || args->n < 2 ? indent : &args->v[1];
    style.sort = sort && pd_j_truth(sort);
    if (ascii && pd_j_truth(ascii))
        return pd_j_fail(r, PD_UNSUPPORTED, "tojson with ensure_ascii");
    if (indent && indent->type == PD_J_T_INT && indent->u.i >= 0 && indent->u.i <= 32) {
        style.indent = indent->u.i;
        style.item = ",";
    } else if (indent && indent->type != PD_J_T_NONE) {
        return pd_j_fail(r, PD_UNSUPPORTED, "tojson with an indent that is no small number");
    }
    if (sep && sep->type == PD_J_T_LIST && sep->u.list->n == 2 &&
        sep->u.list->v[0].type == PD_J_T_STR && sep->u.list->v[1].type == PD_J_T_STR) {
        struct pd_str item = sep->u.list->v[0].u.str.s, colon = sep->u.list->v[1].u.str.s;
        style.item = pd_arena_strndup(&r->arena, item.ptr, item.len);
        style.colon = pd_arena_strndup(&r->arena, colon.ptr, colon.len);
    } else if (sep && sep->type != PD_J_T_NONE) {
        return pd_j_fail(r, PD_UNSUPPORTED, "tojson with separators that are not two strings");
    }
    return json(r, o, v, &style, 0);
}
