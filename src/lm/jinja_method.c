/* Attributes and methods of values: strings as Python has them, mappings, lists, loops. */
#include "lm/jinja_int.h"
#include "lm/tok_int.h"

#include <utf8proc.h>

static enum pd_rc bad_argument(struct pd_j_run *r, const char *name)
{
    return pd_j_fail(r, PD_INVALID, "%s() with arguments it does not take", name);
}

static const struct pd_j_str *text_arg(struct pd_j_args *args, size_t at, const char *name)
{
    const struct pd_j_val *v = pd_j_arg(args, at, name);
    return v && v->type == PD_J_T_STR ? &v->u.str : NULL;
}

static struct pd_j_val text(struct pd_j_str s)
{
    return (struct pd_j_val){.type = PD_J_T_STR, .u.str = s};
}

/* ---- strings ---- */

/* Before what may look at all of b for each byte of a. */
static enum pd_rc step_product(struct pd_j_run *r, struct pd_str a, struct pd_str b)
{
    return pd_j_step(r, (a.len / 64 + 1) * (b.len / 64 + 1));
}

static enum pd_rc strip(struct pd_j_run *r, const char *name, struct pd_j_str s,
                        struct pd_j_args *args, struct pd_j_val *out)
{
    const struct pd_j_val *given = pd_j_arg(args, 0, "chars");
    const struct pd_j_str *chars = text_arg(args, 0, "chars");
    if (given && !chars && given->type != PD_J_T_NONE)
        return bad_argument(r, name);
    enum pd_rc rc = step_product(r, s.s, chars ? chars->s : PD_STR(""));
    if (rc == PD_OK)
        *out = text(pd_j_strip(s, chars ? &chars->s : NULL, name[0] != 'r', name[0] != 'l'));
    return rc;
}

static size_t find(struct pd_str s, size_t from, struct pd_str piece)
{
    const char *at = from < s.len ? memmem(s.ptr + from, s.len - from, piece.ptr, piece.len) : NULL;
    return at ? (size_t)(at - s.ptr) : s.len + 1;
}

static size_t find_last(struct pd_str s, struct pd_str piece)
{
    for (size_t at = s.len + 1; at-- > 0;)
        if (s.len - at >= piece.len && memcmp(s.ptr + at, piece.ptr, piece.len) == 0)
            return at;
    return s.len + 1;
}

static enum pd_rc add(struct pd_j_run *r, struct pd_j_val *list, struct pd_j_str piece)
{
    enum pd_rc rc = pd_j_step(r, 1);
    return rc == PD_OK ? pd_j_list_add(r, list->u.list, text(piece)) : rc;
}

static enum pd_rc split_at_spaces(struct pd_j_run *r, struct pd_j_str s, int64_t most,
                                  struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    s = pd_j_strip(s, NULL, true, false);
    for (int64_t n = 0; s.s.len > 0; n++) {
        size_t at = 0, len;
        if (most >= 0 && n == most)
            return add(r, out, s);
        while (at < s.s.len && !pd_j_is_space(pd_char_at(s.s, at, &len)))
            at += len;
        PD_TRY(add(r, out, pd_j_sub(s, 0, at)));
        s = pd_j_strip(pd_j_sub(s, at, s.s.len), NULL, true, false);
    }
out:
    return rc;
}

static enum pd_rc split(struct pd_j_run *r, struct pd_j_str s, struct pd_j_args *args,
                        struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    const struct pd_j_val *given = pd_j_arg(args, 0, "sep"), *max = pd_j_arg(args, 1, "maxsplit");
    const struct pd_j_str *sep = text_arg(args, 0, "sep");
    int64_t most = max && max->type == PD_J_T_INT ? max->u.i : -1;
    if ((sep && sep->s.len == 0) || (given && !sep && given->type != PD_J_T_NONE))
        return bad_argument(r, "split");
    PD_TRY(pd_j_list_new(r, out));
    PD_TRY(pd_j_step_text(r, s.s));
    if (!sep)
        return split_at_spaces(r, s, most, out);
    size_t from = 0;
    for (int64_t n = 0; most < 0 || n < most; n++) {
        size_t at = find(s.s, from, sep->s);
        if (at > s.s.len)
            break;
        PD_TRY(add(r, out, pd_j_sub(s, from, at)));
        from = at + sep->s.len;
    }
    PD_TRY(add(r, out, pd_j_sub(s, from, s.s.len)));
out:
    return rc;
}

/* From the right; with a limit only, which is what sets it apart from split. */
static enum pd_rc rsplit(struct pd_j_run *r, struct pd_j_str s, struct pd_j_args *args,
                         struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    const struct pd_j_val *max = pd_j_arg(args, 1, "maxsplit");
    const struct pd_j_str *sep = text_arg(args, 0, "sep");
    if (!max || max->type != PD_J_T_INT || max->u.i < 0)
        return split(r, s, args, out);
    if (!sep || sep->s.len == 0)
        return pd_j_fail(r, PD_UNSUPPORTED, "rsplit at white space with a limit");
    struct pd_j_val backwards;
    PD_TRY(pd_j_list_new(r, &backwards));
    PD_TRY(pd_j_list_new(r, out));
    for (int64_t n = 0; n < max->u.i; n++) {
        PD_TRY(step_product(r, s.s, sep->s));
        size_t at = find_last(s.s, sep->s);
        if (at > s.s.len)
            break;
        PD_TRY(add(r, &backwards, pd_j_sub(s, at + sep->s.len, s.s.len)));
        s = pd_j_sub(s, 0, at);
    }
    PD_TRY(add(r, out, s));
    for (size_t i = backwards.u.list->n; i-- > 0;)
        PD_TRY(pd_j_list_add(r, out->u.list, backwards.u.list->v[i]));
out:
    return rc;
}

static enum pd_rc replace(struct pd_j_run *r, struct pd_j_str s, struct pd_j_args *args,
                          struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    const struct pd_j_str *from = text_arg(args, 0, "old"), *to = text_arg(args, 1, "new");
    const struct pd_j_val *count = pd_j_arg(args, 2, "count");
    int64_t most = count && count->type == PD_J_T_INT ? count->u.i : -1;
    struct pd_j_out o = {0};
    size_t at = 0;
    if (!from || !to || from->s.len == 0)
        return bad_argument(r, "replace");
    for (int64_t n = 0; most < 0 || n < most; n++) {
        size_t hit = find(s.s, at, from->s);
        if (hit > s.s.len)
            break;
        PD_TRY(pd_j_out_add(r, &o, pd_j_sub(s, at, hit)));
        PD_TRY(pd_j_out_add(r, &o, *to));
        at = hit + from->s.len;
    }
    PD_TRY(pd_j_out_add(r, &o, pd_j_sub(s, at, s.s.len)));
    *out = pd_j_out_val(&o);
out:
    return rc;
}

/* One prefix or a tuple of them. */
static enum pd_rc has_end(struct pd_j_run *r, const char *name, struct pd_j_str s,
                          struct pd_j_args *args, struct pd_j_val *out)
{
    bool front = name[0] == 's', yes = false;
    const struct pd_j_val *v = args->n == 1 ? &args->v[0] : NULL;
    struct pd_j_list *list = v && v->type == PD_J_T_LIST ? v->u.list : NULL;
    for (size_t i = 0; v && i < (list ? list->n : 1); i++) {
        const struct pd_j_val *piece = list ? &list->v[i] : v;
        if (piece->type != PD_J_T_STR)
            return bad_argument(r, name);
        enum pd_rc rc = pd_j_step(r, 1 + piece->u.str.s.len / 64);
        if (rc != PD_OK)
            return rc;
        yes = yes || (front ? pd_str_starts : pd_str_ends)(s.s, piece->u.str.s);
    }
    *out = pd_j_bool(yes);
    return v ? PD_OK : bad_argument(r, name);
}

/* upper, lower, capitalize, title: by simple case mapping, one character to one. */
static enum pd_rc change_case(struct pd_j_run *r, const char *name, struct pd_j_str s,
                              struct pd_j_val *out)
{
    struct pd_j_out o = {0};
    bool start = true;
    for (size_t at = 0, len; at < s.s.len; at += len) {
        utf8proc_int32_t c = (utf8proc_int32_t)pd_char_at(s.s, at, &len);
        bool up = name[0] == 'u' || (name[0] != 'l' && start);
        utf8proc_int32_t to = up ? utf8proc_toupper(c) : utf8proc_tolower(c);
        utf8proc_uint8_t bytes[4];
        struct pd_j_str one = pd_j_sub(s, at, at + len);
        if (to != c) {
            bool tainted = one.marks ? one.marks[0] : one.tainted;
            utf8proc_ssize_t n = utf8proc_encode_char(to, bytes);
            one = (struct pd_j_str){.s = {(char *)bytes, (size_t)n}, .tainted = tainted};
        }
        enum pd_rc rc = pd_j_out_add(r, &o, one);
        if (rc != PD_OK)
            return rc;
        enum pd_char kind = c < 128 ? PD_CHAR_OTHER : pd_char_wide((uint32_t)c);
        bool letter = kind == PD_CHAR_LETTER || ((c | 32) >= 'a' && (c | 32) <= 'z');
        start = name[0] == 't' && !letter;
    }
    *out = pd_j_out_val(&o);
    return PD_OK;
}

static enum pd_rc find_method(struct pd_j_run *r, const char *name, struct pd_j_str s,
                              struct pd_j_args *args, struct pd_j_val *out)
{
    const struct pd_j_str *piece = text_arg(args, 0, "sub");
    if (!piece || args->n != 1)
        return bad_argument(r, name);
    enum pd_rc rc = step_product(r, s.s, piece->s);
    if (rc != PD_OK)
        return rc;
    size_t at = name[0] == 'r'      ? find_last(s.s, piece->s)
                : piece->s.len == 0 ? 0
                                    : find(s.s, 0, piece->s);
    *out = pd_j_int(at > s.s.len ? -1 : (int64_t)pd_j_chars((struct pd_str){s.s.ptr, at}));
    return PD_OK;
}

static enum pd_rc count(struct pd_j_run *r, struct pd_j_str s, struct pd_j_args *args,
                        struct pd_j_val *out)
{
    const struct pd_j_str *piece = text_arg(args, 0, "sub");
    int64_t n = 0;
    if (!piece || piece->s.len == 0)
        return bad_argument(r, "count");
    for (size_t at = find(s.s, 0, piece->s); at <= s.s.len;
         at = find(s.s, at + piece->s.len, piece->s))
        n++;
    *out = pd_j_int(n);
    return pd_j_step_text(r, s.s);
}

static enum pd_rc join(struct pd_j_run *r, struct pd_j_str s, struct pd_j_args *args,
                       struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_list *items = NULL;
    struct pd_j_out o = {0};
    if (args->n != 1)
        return bad_argument(r, "join");
    PD_TRY(pd_j_iterate(r, &args->v[0], &items));
    for (size_t i = 0; i < items->n; i++) {
        if (items->v[i].type != PD_J_T_STR)
            return pd_j_fail(r, PD_INVALID, "join of %s", pd_j_type_name(&items->v[i]));
        if (i)
            PD_TRY(pd_j_out_add(r, &o, s));
        PD_TRY(pd_j_out_add(r, &o, items->v[i].u.str));
    }
    *out = pd_j_out_val(&o);
out:
    return rc;
}

static enum pd_rc splitlines(struct pd_j_run *r, struct pd_j_str s, struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_j_list_new(r, out));
    PD_TRY(pd_j_step_text(r, s.s));
    for (size_t from = 0; from < s.s.len;) {
        size_t to = from;
        while (to < s.s.len && s.s.ptr[to] != '\n' && s.s.ptr[to] != '\r')
            to++;
        PD_TRY(add(r, out, pd_j_sub(s, from, to)));
        from = to + 1 + (s.s.len - to >= 2 && s.s.ptr[to] == '\r' && s.s.ptr[to + 1] == '\n');
    }
out:
    return rc;
}

static enum pd_rc remove_end(struct pd_j_run *r, const char *name, struct pd_j_str s,
                             struct pd_j_args *args, struct pd_j_val *out)
{
    const struct pd_j_str *piece = text_arg(args, 0, "");
    bool front = strcmp(name, "removeprefix") == 0;
    if (!piece)
        return bad_argument(r, name);
    bool there = (front ? pd_str_starts : pd_str_ends)(s.s, piece->s);
    size_t n = there ? piece->s.len : 0;
    *out = text(pd_j_sub(s, front ? n : 0, s.s.len - (front ? 0 : n)));
    return pd_j_step_text(r, piece->s);
}

/* isdigit, isalpha, isspace, isalnum of a text that is not empty */
static bool all_are(const char *name, struct pd_str s)
{
    for (size_t at = 0, len; at < s.len; at += len) {
        uint32_t c = pd_char_at(s, at, &len);
        utf8proc_category_t cat = utf8proc_category((utf8proc_int32_t)c);
        bool letter = cat >= UTF8PROC_CATEGORY_LU && cat <= UTF8PROC_CATEGORY_LO;
        bool digit = cat == UTF8PROC_CATEGORY_ND;
        bool yes = name[2] == 'd'   ? digit
                   : name[2] == 's' ? pd_j_is_space(c)
                   : name[4] == 'p' ? letter
                                    : letter || digit;
        if (!yes)
            return false;
    }
    return s.len > 0;
}

static enum pd_rc string_method(struct pd_j_run *r, const char *name, struct pd_j_str s,
                                struct pd_j_args *args, struct pd_j_val *out)
{
    if (strstr(name, "strip"))
        return strip(r, name, s, args, out);
    if (strcmp(name, "split") == 0)
        return split(r, s, args, out);
    if (strcmp(name, "rsplit") == 0)
        return rsplit(r, s, args, out);
    if (strcmp(name, "replace") == 0)
        return replace(r, s, args, out);
    if (strcmp(name, "startswith") == 0 || strcmp(name, "endswith") == 0)
        return has_end(r, name, s, args, out);
    if (strcmp(name, "find") == 0 || strcmp(name, "rfind") == 0)
        return find_method(r, name, s, args, out);
    if (strcmp(name, "count") == 0)
        return count(r, s, args, out);
    if (strcmp(name, "join") == 0)
        return join(r, s, args, out);
    if (strcmp(name, "splitlines") == 0)
        return splitlines(r, s, out);
    if (strncmp(name, "remove", 6) == 0)
        return remove_end(r, name, s, args, out);
    if (strncmp(name, "is", 2) == 0) {
        *out = pd_j_bool(all_are(name, s.s));
        return pd_j_step(r, s.s.len / 16);
    }
    return change_case(r, name, s, out);
}

/* ---- mappings and lists ---- */

static enum pd_rc get(struct pd_j_run *r, const struct pd_j_map *m, struct pd_j_args *args,
                      struct pd_j_val *out)
{
    const struct pd_j_str *key = text_arg(args, 0, "key");
    const struct pd_j_val *other = pd_j_arg(args, 1, "default");
    if (args->n < 1 || args->n > 2)
        return bad_argument(r, "get");
    const struct pd_j_val *v = key ? pd_j_map_get(m, key->s) : NULL;
    *out = v ? *v : other ? *other : pd_j_none;
    return pd_j_step_names(r, m);
}

/* items, keys, values */
static enum pd_rc entries(struct pd_j_run *r, const char *name, const struct pd_j_map *m,
                          struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_j_list_new(r, out));
    for (size_t i = 0; i < m->n; i++) {
        struct pd_j_val item = name[0] == 'k' ? text(m->v[i].key) : m->v[i].value;
        if (name[0] == 'i') {
            PD_TRY(pd_j_list_new(r, &item));
            item.u.list->tuple = true;
            PD_TRY(pd_j_list_add(r, item.u.list, text(m->v[i].key)));
            PD_TRY(pd_j_list_add(r, item.u.list, m->v[i].value));
        }
        PD_TRY(pd_j_list_add(r, out->u.list, item));
    }
out:
    return rc;
}

static enum pd_rc list_method(struct pd_j_run *r, const char *name, const struct pd_j_list *l,
                              struct pd_j_args *args, struct pd_j_val *out)
{
    int64_t n = 0, first = -1;
    if (args->n != 1)
        return bad_argument(r, name);
    for (size_t i = 0; i < l->n; i++) {
        bool yes = false;
        enum pd_rc rc = pd_j_equal(r, &l->v[i], &args->v[0], &yes);
        if (rc != PD_OK)
            return rc;
        first = yes && first < 0 ? (int64_t)i : first;
        n += yes;
    }
    *out = pd_j_int(name[0] == 'c' ? n : first);
    return name[0] == 'i' && first < 0
               ? pd_j_fail(r, PD_INVALID, "index() of what is not in the list")
               : PD_OK;
}

static enum pd_rc cycle(struct pd_j_run *r, const struct pd_j_loop *loop, struct pd_j_args *args,
                        struct pd_j_val *out)
{
    if (args->n == 0)
        return bad_argument(r, "cycle");
    *out = args->v[loop->at % args->n];
    return PD_OK;
}

enum pd_rc pd_j_method(struct pd_j_run *r, const char *name, struct pd_j_val *self,
                       struct pd_j_args *args, struct pd_j_val *out)
{
    switch (self->type) {
    case PD_J_T_STR:
        return string_method(r, name, self->u.str, args, out);
    case PD_J_T_MAP:
        return name[0] == 'g' ? get(r, self->u.map, args, out) : entries(r, name, self->u.map, out);
    case PD_J_T_LIST:
        return list_method(r, name, self->u.list, args, out);
    case PD_J_T_LOOP:
        return cycle(r, self->u.loop, args, out);
    default:
        return pd_j_fail(r, PD_INVALID, "%s() of %s", name, pd_j_type_name(self));
    }
}

/* The static name of a method that a value of this type has; NULL = none. */
static const char *method_name(const struct pd_j_val *self, struct pd_str name)
{
    static const char *const strings[] = {
        "strip",    "lstrip",  "rstrip",  "split",        "rsplit",       "startswith",
        "endswith", "replace", "upper",   "lower",        "title",        "capitalize",
        "find",     "rfind",   "join",    "splitlines",   "count",        "isdigit",
        "isalpha",  "isalnum", "isspace", "removeprefix", "removesuffix", NULL};
    static const char *const maps[] = {"get", "items", "keys", "values", NULL};
    static const char *const lists[] = {"index", "count", NULL};
    static const char *const loops[] = {"cycle", NULL}, *const none[] = {NULL};
    const char *const *names = self->type == PD_J_T_STR    ? strings
                               : self->type == PD_J_T_MAP  ? maps
                               : self->type == PD_J_T_LIST ? lists
                               : self->type == PD_J_T_LOOP ? loops
                                                           : none;
    while (*names && !pd_str_eqz(name, *names))
        names++;
    return *names;
}

/* ---- attributes ---- */

static struct pd_j_val loop_attr(const struct pd_j_loop *l, struct pd_str name)
{
    int64_t at = (int64_t)l->at, n = (int64_t)l->items->n;
    const struct {
        const char *name;
        struct pd_j_val v;
    } attrs[] = {
        {"index", pd_j_int(at + 1)},    {"index0", pd_j_int(at)},
        {"revindex", pd_j_int(n - at)}, {"revindex0", pd_j_int(n - at - 1)},
        {"first", pd_j_bool(at == 0)},  {"last", pd_j_bool(at == n - 1)},
        {"length", pd_j_int(n)},        {"depth", pd_j_int(1)}, /* no loop here is recursive */
        {"depth0", pd_j_int(0)},
    };
    for (size_t i = 0; i < sizeof attrs / sizeof *attrs; i++)
        if (pd_str_eqz(name, attrs[i].name))
            return attrs[i].v;
    if (pd_str_eqz(name, "previtem") && at > 0)
        return l->items->v[at - 1];
    if (pd_str_eqz(name, "nextitem") && at + 1 < n)
        return l->items->v[at + 1];
    return pd_j_undefined("that attribute of loop");
}

enum pd_rc pd_j_attr(struct pd_j_run *r, struct pd_j_val *v, struct pd_str name, bool dotted,
                     struct pd_j_val *out)
{
    if (v->type == PD_J_T_UNDEFINED)
        return pd_j_fail(r, PD_INVALID, "'%s' is undefined, so it has no '%.*s'", v->u.fn.name,
                         PD_STR_ARG(name));
    bool map = v->type == PD_J_T_MAP || v->type == PD_J_T_NAMESPACE;
    const struct pd_j_val *item = map ? pd_j_map_get(v->u.map, name) : NULL;
    const char *method = item && !dotted ? NULL : method_name(v, name);
    enum pd_rc rc = map ? pd_j_step_names(r, v->u.map) : PD_OK;
    if (rc != PD_OK)
        return rc;
    if (item && !method) {
        *out = *item;
    } else if (method) {
        struct pd_j_val *self = pd_j_alloc(r, sizeof *self);
        if (!self)
            return PD_TOOBIG;
        *self = *v;
        *out = (struct pd_j_val){.type = PD_J_T_FUNCTION, .u.fn = {method, self}};
    } else if (v->type == PD_J_T_LOOP) {
        *out = loop_attr(v->u.loop, name);
    } else {
        *out = pd_j_undefined(pd_arena_strndup(&r->arena, name.ptr, name.len));
    }
    return PD_OK;
}
