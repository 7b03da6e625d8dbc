/* Rendering: nodes to values and text. */
#include "base/mem.h"
#include "lm/jinja_int.h"

#include <math.h>

struct pd_jinja {
    struct pd_arena arena;
    struct pd_j_body body;
};

/* What running statements can end in, beside going on. */
enum flow { GO_ON, BREAK, CONTINUE };

static enum pd_rc eval(struct pd_j_run *r, const struct pd_j_node *n, struct pd_j_val *out);
static enum pd_rc run_body(struct pd_j_run *r, const struct pd_j_body *b, struct pd_j_out *o,
                           enum flow *flow);

static enum pd_rc deeper(struct pd_j_run *r)
{
    if (++r->depth > PD_J_MAX_EVAL)
        return pd_j_fail(r, PD_TOOBIG, "the template calls itself too deeply");
    return pd_j_step(r, 1);
}

/* ---- names ---- */

static struct pd_j_val *look_up(struct pd_j_run *r, struct pd_str name)
{
    for (struct pd_j_frame *f = r->frame; f; f = f->up) {
        struct pd_j_val *v = pd_j_map_get(&f->vars, name);
        r->steps += f->vars.n / 8; /* the next step looks whether they are too many */
        if (v)
            return v;
    }
    return NULL;
}

static enum pd_rc set_name(struct pd_j_run *r, struct pd_str name, struct pd_j_val v)
{
    return pd_j_map_put(r, &r->frame->vars, (struct pd_j_str){.s = name}, v);
}

static enum pd_rc push_frame(struct pd_j_run *r, struct pd_j_frame *up)
{
    struct pd_j_frame *f = pd_j_alloc(r, sizeof *f);
    if (!f)
        return PD_TOOBIG;
    f->up = up;
    r->frame = f;
    return PD_OK;
}

static enum pd_rc eval_var(struct pd_j_run *r, const struct pd_j_node *n, struct pd_j_val *out)
{
    struct pd_j_val *v = look_up(r, n->name);
    const char *function = v ? NULL : pd_j_function_name(n->name);
    if (v)
        *out = *v;
    else if (function)
        *out = (struct pd_j_val){.type = PD_J_T_FUNCTION, .u.fn = {function, NULL}};
    else
        *out = pd_j_undefined(pd_arena_strndup(&r->arena, n->name.ptr, n->name.len));
    return PD_OK;
}

/* a, b = value */
static enum pd_rc assign(struct pd_j_run *r, const struct pd_j_node *n, const struct pd_j_val *v)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_list *items = NULL;
    if (n->n_args == 1)
        return set_name(r, n->args[0]->name, *v);
    PD_TRY(pd_j_iterate(r, v, &items));
    if (items->n != n->n_args)
        return pd_j_fail(r, PD_INVALID, "%zu values for %zu names", items->n, n->n_args);
    for (size_t i = 0; i < items->n; i++)
        PD_TRY(set_name(r, n->args[i]->name, items->v[i]));
out:
    return rc;
}

/* ---- operators ---- */

static enum pd_rc join_text(struct pd_j_run *r, const struct pd_j_val *a, const struct pd_j_val *b,
                            struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_out o = {0};
    PD_TRY(pd_j_print(r, &o, a));
    PD_TRY(pd_j_print(r, &o, b));
    *out = pd_j_out_val(&o);
out:
    return rc;
}

static enum pd_rc join_lists(struct pd_j_run *r, const struct pd_j_list *a,
                             const struct pd_j_list *b, struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_j_list_new(r, out));
    out->u.list->tuple = a->tuple;
    for (size_t i = 0; i < a->n; i++)
        PD_TRY(pd_j_list_add(r, out->u.list, a->v[i]));
    for (size_t i = 0; i < b->n; i++)
        PD_TRY(pd_j_list_add(r, out->u.list, b->v[i]));
    PD_TRY(pd_j_step(r, a->n + b->n));
out:
    return rc;
}

static enum pd_rc repeat(struct pd_j_run *r, struct pd_j_str s, int64_t times, struct pd_j_val *out)
{
    struct pd_j_out o = {0};
    for (int64_t i = 0; i < times && s.s.len > 0; i++) {
        enum pd_rc rc = pd_j_out_add(r, &o, s);
        if (rc != PD_OK)
            return rc;
    }
    *out = pd_j_out_val(&o);
    return PD_OK;
}

static bool rounds_down(int64_t a, int64_t b)
{
    return a % b != 0 && (a < 0) != (b < 0);
}

static enum pd_rc whole(struct pd_j_run *r, char op, int64_t a, int64_t b, struct pd_j_val *out)
{
    int64_t v = 0;
    bool over = false;
    if ((op == '/' || op == '%') && (b == 0 || (b == -1 && a == INT64_MIN)))
        return pd_j_fail(r, PD_INVALID, "a division by zero or out of range");
    if (op == '+')
        over = __builtin_add_overflow(a, b, &v);
    else if (op == '-')
        over = __builtin_sub_overflow(a, b, &v);
    else if (op == '*')
        over = __builtin_mul_overflow(a, b, &v);
    else
        v = op == '/' ? a / b - rounds_down(a, b) : a % b + (rounds_down(a, b) ? b : 0);
    *out = pd_j_int(v);
    return over ? pd_j_fail(r, PD_INVALID, "a number out of range") : PD_OK;
}

static bool as_int(const struct pd_j_val *v, int64_t *i)
{
    *i = v->type == PD_J_T_BOOL ? v->u.b : v->type == PD_J_T_INT ? v->u.i : 0;
    return v->type == PD_J_T_BOOL || v->type == PD_J_T_INT;
}

static bool as_float(const struct pd_j_val *v, double *f)
{
    int64_t i;
    if (v->type == PD_J_T_FLOAT)
        *f = v->u.f;
    else if (as_int(v, &i))
        *f = (double)i;
    else
        return false;
    return true;
}

static enum pd_rc real(struct pd_j_run *r, struct pd_str op, double a, double b,
                       struct pd_j_val *out)
{
    double v;
    bool divides = op.ptr[0] == '/' || op.ptr[0] == '%';
    if (divides && b == 0)
        return pd_j_fail(r, PD_INVALID, "a division by zero");
    if (pd_str_eqz(op, "**"))
        v = pow(a, b);
    else if (pd_str_eqz(op, "//"))
        v = floor(a / b);
    else
        v = op.ptr[0] == '+'   ? a + b
            : op.ptr[0] == '-' ? a - b
            : op.ptr[0] == '*' ? a * b
            : op.ptr[0] == '/' ? a / b
                               : a - b * floor(a / b);
    *out = (struct pd_j_val){.type = PD_J_T_FLOAT, .u.f = v};
    return PD_OK;
}

static enum pd_rc binary(struct pd_j_run *r, struct pd_str op, const struct pd_j_val *a,
                         const struct pd_j_val *b, struct pd_j_val *out)
{
    int64_t i, j;
    double x, y;
    if (pd_str_eqz(op, "~"))
        return join_text(r, a, b, out);
    if (op.ptr[0] == '+' && a->type == PD_J_T_STR && b->type == PD_J_T_STR)
        return join_text(r, a, b, out);
    if (op.ptr[0] == '+' && a->type == PD_J_T_LIST && b->type == PD_J_T_LIST)
        return join_lists(r, a->u.list, b->u.list, out);
    if (pd_str_eqz(op, "*") && a->type == PD_J_T_STR && as_int(b, &j))
        return repeat(r, a->u.str, j, out);
    if (pd_str_eqz(op, "*") && b->type == PD_J_T_STR && as_int(a, &j))
        return repeat(r, b->u.str, j, out);
    bool ints = as_int(a, &i) && as_int(b, &j);
    if (ints && !pd_str_eqz(op, "/") && !pd_str_eqz(op, "**"))
        return whole(r, op.ptr[0], i, j, out);
    if (!as_float(a, &x) || !as_float(b, &y))
        return a->type == PD_J_T_UNDEFINED || b->type == PD_J_T_UNDEFINED
                   ? pd_j_fail(r, PD_INVALID, "'%s' is undefined",
                               a->type == PD_J_T_UNDEFINED ? a->u.fn.name : b->u.fn.name)
                   : pd_j_fail(r, PD_INVALID, "%s %.*s %s", pd_j_type_name(a), PD_STR_ARG(op),
                               pd_j_type_name(b));
    enum pd_rc rc = real(r, op, x, y, out);
    if (rc == PD_OK && ints && pd_str_eqz(op, "**") && j >= 0 && fabs(out->u.f) < 9e15)
        *out = pd_j_int((int64_t)out->u.f);
    return rc;
}

static enum pd_rc negate(struct pd_j_run *r, struct pd_j_val *v)
{
    int64_t i;
    if (v->type == PD_J_T_FLOAT) {
        v->u.f = -v->u.f;
        return PD_OK;
    }
    if (!as_int(v, &i) || i == INT64_MIN)
        return pd_j_fail(r, PD_INVALID, "%s has no negative", pd_j_type_name(v));
    *v = pd_j_int(-i);
    return PD_OK;
}

static enum pd_rc one_comparison(struct pd_j_run *r, struct pd_str op, const struct pd_j_val *a,
                                 const struct pd_j_val *b, bool *yes)
{
    enum pd_rc rc = PD_OK;
    int order = 0;
    if (pd_str_eqz(op, "==") || pd_str_eqz(op, "!=")) {
        PD_TRY(pd_j_equal(r, a, b, yes));
        *yes = *yes == (op.ptr[0] == '=');
    } else if (pd_str_ends(op, PD_STR("in"))) {
        PD_TRY(pd_j_contains(r, b, a, yes));
        *yes = *yes == (op.len == 2);
    } else {
        PD_TRY(pd_j_compare(r, a, b, &order));
        bool equal = order == 0 && op.len == 2;
        *yes = equal || (op.ptr[0] == '<' ? order < 0 : order > 0);
    }
out:
    return rc;
}

/* a < b < c is a < b and b < c */
static enum pd_rc compare(struct pd_j_run *r, const struct pd_j_node *n, struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_val left, right;
    bool yes = true;
    PD_TRY(eval(r, n->a, &left));
    for (size_t i = 0; i < n->n_named && yes; i++) {
        PD_TRY(eval(r, n->named[i].value, &right));
        PD_TRY(one_comparison(r, n->named[i].name, &left, &right, &yes));
        left = right;
    }
    *out = pd_j_bool(yes);
out:
    return rc;
}

/* ---- indexing ---- */

static enum pd_rc nth(struct pd_j_run *r, const struct pd_j_val *v, int64_t at,
                      struct pd_j_val *out)
{
    size_t n = v->type == PD_J_T_LIST ? v->u.list->n : pd_j_chars(v->u.str.s);
    at += at < 0 ? (int64_t)n : 0;
    *out = pd_j_undefined("an item beyond the end");
    if (at < 0 || at >= (int64_t)n)
        return PD_OK;
    if (v->type == PD_J_T_LIST) {
        *out = v->u.list->v[at];
        return PD_OK;
    }
    size_t from = pd_j_offset(v->u.str.s, (size_t)at), to = pd_j_offset(v->u.str.s, (size_t)at + 1);
    *out = (struct pd_j_val){.type = PD_J_T_STR, .u.str = pd_j_sub(v->u.str, from, to)};
    return pd_j_step_text(r, v->u.str.s);
}

static enum pd_rc index_of(struct pd_j_run *r, struct pd_j_val *v, const struct pd_j_val *key,
                           struct pd_j_val *out)
{
    int64_t at;
    if (key->type == PD_J_T_STR)
        return pd_j_attr(r, v, key->u.str.s, false, out);
    if ((v->type == PD_J_T_LIST || v->type == PD_J_T_STR) && as_int(key, &at))
        return nth(r, v, at, out);
    if (v->type == PD_J_T_UNDEFINED)
        return pd_j_fail(r, PD_INVALID, "'%s' is undefined", v->u.fn.name);
    *out = pd_j_undefined("an item that is not there");
    return PD_OK;
}

static enum pd_rc bound(struct pd_j_run *r, const struct pd_j_node *n, bool *given, int64_t *at)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_val v = pd_j_none;
    if (n)
        PD_TRY(eval(r, n, &v));
    *given = v.type != PD_J_T_NONE;
    if (*given && !as_int(&v, at))
        rc = pd_j_fail(r, PD_INVALID, "a slice by %s", pd_j_type_name(&v));
out:
    return rc;
}

static int64_t clamp(int64_t at, int64_t n, int64_t low, int64_t high)
{
    at += at < 0 ? n : 0;
    return at < low ? low : at > high ? high : at;
}

static enum pd_rc slice(struct pd_j_run *r, const struct pd_j_node *n, struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_val v;
    struct pd_j_list *items = NULL;
    bool has_from, has_to, has_step;
    int64_t from = 0, to = 0, step = 1;
    PD_TRY(eval(r, n->a, &v));
    PD_TRY(bound(r, n->args[0], &has_from, &from));
    PD_TRY(bound(r, n->args[1], &has_to, &to));
    PD_TRY(bound(r, n->args[2], &has_step, &step));
    if (v.type == PD_J_T_UNDEFINED)
        return pd_j_fail(r, PD_INVALID, "'%s' is undefined", v.u.fn.name);
    if ((v.type != PD_J_T_LIST && v.type != PD_J_T_STR) || step == 0)
        return pd_j_fail(r, PD_INVALID, "a slice of %s", pd_j_type_name(&v));
    PD_TRY(pd_j_iterate(r, &v, &items));
    int64_t len = (int64_t)items->n;
    int64_t low = step < 0 ? -1 : 0, high = step < 0 ? len - 1 : len;
    from = has_from ? clamp(from, len, low, high) : step < 0 ? high : low;
    to = has_to ? clamp(to, len, low, high) : step < 0 ? low : high;
    step = step > len ? len + 1 : step < -len ? -len - 1 : step;
    struct pd_j_out text = {0};
    PD_TRY(pd_j_list_new(r, out));
    out->u.list->tuple = v.type == PD_J_T_LIST && items->tuple;
    for (int64_t i = from; step < 0 ? i > to : i < to; i += step) {
        if (v.type == PD_J_T_LIST)
            PD_TRY(pd_j_list_add(r, out->u.list, items->v[i]));
        else
            PD_TRY(pd_j_out_add(r, &text, items->v[i].u.str));
    }
    if (v.type == PD_J_T_STR)
        *out = pd_j_out_val(&text);
out:
    return rc;
}

/* ---- calls ---- */

static enum pd_rc eval_args(struct pd_j_run *r, const struct pd_j_node *n, struct pd_j_args *args)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_val v;
    *args = (struct pd_j_args){0};
    if (n->n_args > 0 && !(args->v = pd_j_alloc(r, n->n_args * sizeof *args->v)))
        return PD_TOOBIG;
    for (; args->n < n->n_args; args->n++)
        PD_TRY(eval(r, n->args[args->n], &args->v[args->n]));
    for (size_t i = 0; i < n->n_named; i++) {
        PD_TRY(eval(r, n->named[i].value, &v));
        PD_TRY(pd_j_map_put(r, &args->named, (struct pd_j_str){.s = n->named[i].name}, v));
    }
out:
    return rc;
}

static enum pd_rc call_macro(struct pd_j_run *r, const struct pd_j_macro *m, struct pd_j_args *args,
                             struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    const struct pd_j_node *n = m->node;
    struct pd_j_frame *caller = r->frame;
    struct pd_j_out text = {0};
    enum flow flow = GO_ON;
    if (args->n > n->n_named)
        return pd_j_fail(r, PD_INVALID, "macro %.*s takes %zu arguments, not %zu",
                         PD_STR_ARG(n->name), n->n_named, args->n);
    PD_TRY(push_frame(r, m->home));
    for (size_t i = 0; i < n->n_named; i++) {
        struct pd_j_val v = pd_j_undefined("a parameter that was not given");
        const struct pd_j_val *named = pd_j_map_get(&args->named, n->named[i].name);
        if (i < args->n)
            v = args->v[i];
        else if (named)
            v = *named;
        else if (n->named[i].value)
            PD_TRY(eval(r, n->named[i].value, &v));
        PD_TRY(set_name(r, n->named[i].name, v));
    }
    PD_TRY(run_body(r, &n->body, &text, &flow));
    *out = pd_j_out_val(&text);
out:
    r->frame = caller;
    return rc;
}

static enum pd_rc call(struct pd_j_run *r, const struct pd_j_node *n, struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_val fn;
    struct pd_j_args args;
    PD_TRY(eval(r, n->a, &fn));
    PD_TRY(eval_args(r, n, &args));
    r->line = n->line;
    if (fn.type == PD_J_T_MACRO)
        return call_macro(r, fn.u.macro, &args, out);
    if (fn.type == PD_J_T_FUNCTION)
        return fn.u.fn.self ? pd_j_method(r, fn.u.fn.name, fn.u.fn.self, &args, out)
                            : pd_j_function(r, fn.u.fn.name, &args, out);
    if (fn.type == PD_J_T_UNDEFINED && (n->a->kind == PD_J_ATTR || n->a->kind == PD_J_VAR))
        return pd_j_fail(r, PD_UNSUPPORTED, "%.*s() is not known here", PD_STR_ARG(n->a->name));
    rc = pd_j_fail(r, PD_INVALID, "%s cannot be called", pd_j_type_name(&fn));
out:
    return rc;
}

static enum pd_rc filter(struct pd_j_run *r, const struct pd_j_node *n, struct pd_j_val v,
                         struct pd_j_val *out)
{
    struct pd_j_args args;
    enum pd_rc rc = eval_args(r, n, &args);
    r->line = n->line;
    return rc == PD_OK ? pd_j_filter(r, n->name, v, &args, out) : rc;
}

/* ---- expressions ---- */

static enum pd_rc eval_list(struct pd_j_run *r, const struct pd_j_node *n, struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_val v;
    PD_TRY(pd_j_list_new(r, out));
    out->u.list->tuple = n->value != NULL;
    for (size_t i = 0; i < n->n_args; i++) {
        PD_TRY(eval(r, n->args[i], &v));
        PD_TRY(pd_j_list_add(r, out->u.list, v));
    }
out:
    return rc;
}

static enum pd_rc eval_dict(struct pd_j_run *r, const struct pd_j_node *n, struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_val key, v;
    PD_TRY(pd_j_map_new(r, PD_J_T_MAP, out));
    for (size_t i = 0; i + 1 < n->n_args; i += 2) {
        PD_TRY(eval(r, n->args[i], &key));
        PD_TRY(eval(r, n->args[i + 1], &v));
        if (key.type != PD_J_T_STR)
            return pd_j_fail(r, PD_UNSUPPORTED, "%s as the key of a dict", pd_j_type_name(&key));
        PD_TRY(pd_j_map_put(r, out->u.map, key.u.str, v));
    }
out:
    return rc;
}

static enum pd_rc eval_test(struct pd_j_run *r, const struct pd_j_node *n, struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_val v;
    struct pd_j_args args;
    bool yes = false;
    PD_TRY(eval(r, n->a, &v));
    PD_TRY(eval_args(r, n, &args));
    r->line = n->line;
    PD_TRY(pd_j_test(r, n->name, &v, &args, &yes));
    *out = pd_j_bool(yes);
out:
    return rc;
}

/* and, or, inline if: which side counts depends on the other. */
static enum pd_rc eval_choice(struct pd_j_run *r, const struct pd_j_node *n, struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_val v;
    PD_TRY(eval(r, n->kind == PD_J_IF_ELSE ? n->b : n->a, &v));
    bool yes = pd_j_truth(&v);
    if (n->kind != PD_J_IF_ELSE && yes == (n->kind == PD_J_OR))
        *out = v;
    else if (n->kind != PD_J_IF_ELSE)
        PD_TRY(eval(r, n->b, out));
    else if (yes || n->c)
        PD_TRY(eval(r, yes ? n->a : n->c, out));
    else
        *out = pd_j_undefined("the else of an inline if");
out:
    return rc;
}

static enum pd_rc eval_two(struct pd_j_run *r, const struct pd_j_node *n, struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_val a, b;
    PD_TRY(eval(r, n->a, &a));
    PD_TRY(eval(r, n->b, &b));
    r->line = n->line;
    PD_TRY((n->kind == PD_J_BINARY) ? binary(r, n->name, &a, &b, out) : index_of(r, &a, &b, out));
out:
    return rc;
}

/* Of one operand: attribute, filter, not, signs. */
static enum pd_rc eval_one(struct pd_j_run *r, const struct pd_j_node *n, struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_val v;
    PD_TRY(eval(r, n->a, &v));
    r->line = n->line;
    if (n->kind == PD_J_ATTR) {
        rc = pd_j_attr(r, &v, n->name, true, out);
    } else if (n->kind == PD_J_FILTER) {
        rc = filter(r, n, v, out);
    } else if (n->kind == PD_J_NOT) {
        *out = pd_j_bool(!pd_j_truth(&v));
    } else {
        *out = v;
        rc = n->kind == PD_J_NEG ? negate(r, out) : PD_OK;
    }
out:
    return rc;
}

static enum pd_rc eval_kind(struct pd_j_run *r, const struct pd_j_node *n, struct pd_j_val *out)
{
    switch (n->kind) {
    case PD_J_CONST:
        *out = *n->value;
        return PD_OK;
    case PD_J_VAR:
        return eval_var(r, n, out);
    case PD_J_LIST:
        return eval_list(r, n, out);
    case PD_J_DICT:
        return eval_dict(r, n, out);
    case PD_J_INDEX:
    case PD_J_BINARY:
        return eval_two(r, n, out);
    case PD_J_SLICE:
        return slice(r, n, out);
    case PD_J_CALL:
        return call(r, n, out);
    case PD_J_TEST:
        return eval_test(r, n, out);
    case PD_J_COMPARE:
        return compare(r, n, out);
    case PD_J_AND:
    case PD_J_OR:
    case PD_J_IF_ELSE:
        return eval_choice(r, n, out);
    default:
        return eval_one(r, n, out);
    }
}

static enum pd_rc eval(struct pd_j_run *r, const struct pd_j_node *n, struct pd_j_val *out)
{
    enum pd_rc rc = deeper(r);
    if (rc == PD_OK) {
        r->line = n->line;
        rc = eval_kind(r, n, out);
    }
    r->depth--;
    return rc;
}

/* ---- statements ---- */

static enum pd_rc run_for(struct pd_j_run *r, const struct pd_j_node *n, struct pd_j_out *o)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_frame *outside = r->frame;
    struct pd_j_val v, kept, loop_val;
    struct pd_j_list *items = NULL;
    enum flow flow = GO_ON;
    PD_TRY(eval(r, n->a, &v));
    PD_TRY(pd_j_iterate(r, &v, &items));
    PD_TRY(pd_j_list_new(r, &kept));
    for (size_t i = 0; n->b && i < items->n; i++) {
        PD_TRY(push_frame(r, outside));
        PD_TRY(assign(r, n, &items->v[i]));
        PD_TRY(eval(r, n->b, &v));
        if (pd_j_truth(&v))
            PD_TRY(pd_j_list_add(r, kept.u.list, items->v[i]));
    }
    items = n->b ? kept.u.list : items;
    struct pd_j_loop *loop = pd_j_alloc(r, sizeof *loop);
    if (!loop) {
        rc = PD_TOOBIG;
        goto out;
    }
    *loop = (struct pd_j_loop){.items = items};
    loop_val = (struct pd_j_val){.type = PD_J_T_LOOP, .u.loop = loop};
    for (size_t i = 0, count = items->n; i < count && flow != BREAK; i++) {
        loop->at = i;
        PD_TRY(push_frame(r, outside));
        PD_TRY(set_name(r, PD_STR("loop"), loop_val));
        PD_TRY(assign(r, n, &items->v[i]));
        PD_TRY(run_body(r, &n->body, o, &flow));
    }
    r->frame = outside;
    flow = GO_ON;
    if (items->n == 0)
        PD_TRY(run_body(r, &n->rest, o, &flow));
out:
    r->frame = outside;
    return rc;
}

static enum pd_rc run_set(struct pd_j_run *r, const struct pd_j_node *n)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_val v;
    struct pd_j_out text = {0};
    enum flow flow = GO_ON;
    if (n->kind == PD_J_SET_NS) {
        PD_TRY(eval(r, n->b, &v));
        struct pd_j_val *ns = look_up(r, n->a->name);
        if (!ns || ns->type != PD_J_T_NAMESPACE)
            return pd_j_fail(r, PD_INVALID, "%.*s is not a namespace", PD_STR_ARG(n->a->name));
        return pd_j_map_put(r, ns->u.map, (struct pd_j_str){.s = n->name}, v);
    }
    if (n->kind == PD_J_SET) {
        PD_TRY(eval(r, n->a, &v));
    } else {
        PD_TRY(run_body(r, &n->body, &text, &flow));
        v = pd_j_out_val(&text);
        for (const struct pd_j_node *f = n->a; f; f = f->a) {
            if (f->a)
                return pd_j_fail(r, PD_UNSUPPORTED, "more than one filter on a set block");
            PD_TRY(filter(r, f, v, &v));
        }
    }
    PD_TRY(assign(r, n, &v));
out:
    return rc;
}

static enum pd_rc run_macro(struct pd_j_run *r, const struct pd_j_node *n)
{
    struct pd_j_macro *m = pd_j_alloc(r, sizeof *m);
    if (!m)
        return PD_TOOBIG;
    *m = (struct pd_j_macro){n, r->frame};
    return set_name(r, n->name, (struct pd_j_val){.type = PD_J_T_MACRO, .u.macro = m});
}

static enum pd_rc run(struct pd_j_run *r, const struct pd_j_node *n, struct pd_j_out *o,
                      enum flow *flow)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_val v;
    r->line = n->line;
    switch (n->kind) {
    case PD_J_OUT_TEXT:
        return pd_j_out_add(r, o, n->value->u.str);
    case PD_J_OUT:
        PD_TRY(eval(r, n->a, &v));
        return pd_j_print(r, o, &v);
    case PD_J_IF:
        PD_TRY(eval(r, n->a, &v));
        return run_body(r, pd_j_truth(&v) ? &n->body : &n->rest, o, flow);
    case PD_J_FOR:
        return run_for(r, n, o);
    case PD_J_MACRO:
        return run_macro(r, n);
    case PD_J_BLOCK:
        return run_body(r, &n->body, o, flow);
    case PD_J_BREAK:
    case PD_J_CONTINUE:
        *flow = n->kind == PD_J_BREAK ? BREAK : CONTINUE;
        return PD_OK;
    default:
        return run_set(r, n);
    }
out:
    return rc;
}

static enum pd_rc run_body(struct pd_j_run *r, const struct pd_j_body *b, struct pd_j_out *o,
                           enum flow *flow)
{
    enum pd_rc rc = PD_OK;
    *flow = GO_ON;
    PD_TRY(deeper(r));
    for (size_t i = 0; i < b->n && *flow == GO_ON; i++)
        PD_TRY(run(r, b->v[i], o, flow));
out:
    r->depth--;
    return rc;
}

/* ---- the ways in ---- */

/* A copy with every line ending as "\n". */
static struct pd_str own_source(struct pd_arena *a, struct pd_str s)
{
    char *dst = pd_arena_alloc(a, s.len + 1);
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        bool cr = s.ptr[i] == '\r';
        if (cr && i + 1 < s.len && s.ptr[i + 1] == '\n')
            continue;
        dst[n++] = cr ? '\n' : s.ptr[i];
    }
    return (struct pd_str){dst, n};
}

enum pd_rc pd_jinja_compile(struct pd_jinja **out, struct pd_str source, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_token *tokens = NULL;
    struct pd_jinja *j = NULL;
    if (source.len > PD_J_MAX_SOURCE)
        return PD_FAIL(err, PD_TOOBIG, "a template of %zu bytes", source.len);
    size_t valid = pd_utf8_valid_prefix(source);
    if (valid != source.len)
        return PD_FAIL(err, PD_INVALID, "not UTF-8 at byte %zu", valid);
    j = pd_xalloc(sizeof *j);
    pd_arena_init(&j->arena);
    PD_TRY(pd_j_lex(&j->arena, own_source(&j->arena, source), &tokens, err));
    PD_TRY(pd_j_parse(&j->arena, tokens, &j->body, err));
    *out = j;
    j = NULL;
out:
    pd_jinja_free(j);
    return rc;
}

void pd_jinja_free(struct pd_jinja *j)
{
    if (!j)
        return;
    pd_arena_release(&j->arena);
    pd_free(j);
}

static void emit_runs(const struct pd_j_out *o,
                      void (*emit)(void *ctx, struct pd_str text, bool trusted), void *ctx)
{
    for (size_t from = 0, to; from < o->n; from = to) {
        for (to = from + 1; to < o->n && o->marks[to] == o->marks[from]; to++)
            ;
        emit(ctx, (struct pd_str){o->text + from, to - from}, !o->marks[from]);
    }
}

enum pd_rc pd_jinja_render(const struct pd_jinja *j, const struct pd_jinja_var *vars, size_t n_vars,
                           void (*emit)(void *ctx, struct pd_str text, bool trusted), void *ctx,
                           struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_run r = {.err = err};
    struct pd_j_out o = {0};
    struct pd_j_val v;
    enum flow flow = GO_ON;
    pd_arena_init(&r.arena);
    PD_TRY(push_frame(&r, NULL));
    for (size_t i = 0; i < n_vars; i++) {
        PD_TRY(pd_j_from_json(&r, vars[i].value, vars[i].trusted, 0, &v));
        PD_TRY(set_name(&r, pd_str_from(vars[i].name), v));
    }
    PD_TRY(push_frame(&r, r.frame)); /* what the template sets */
    PD_TRY(run_body(&r, &j->body, &o, &flow));
    emit_runs(&o, emit, ctx);
out:
    pd_arena_release(&r.arena);
    return rc;
}
