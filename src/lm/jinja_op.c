/* Operators, comparisons, indexing: values to values. */
#include "lm/jinja_int.h"

#include <math.h>

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

/* Of an integer or a boolean. */
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

enum pd_rc pd_j_binary(struct pd_j_run *r, struct pd_str op, const struct pd_j_val *a,
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

enum pd_rc pd_j_negate(struct pd_j_run *r, struct pd_j_val *v)
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

enum pd_rc pd_j_relation(struct pd_j_run *r, struct pd_str op, const struct pd_j_val *a,
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

enum pd_rc pd_j_index(struct pd_j_run *r, struct pd_j_val *v, const struct pd_j_val *key,
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

static int64_t clamp(int64_t at, int64_t n, int64_t low, int64_t high)
{
    at += at < 0 ? n : 0;
    return at < low ? low : at > high ? high : at;
}

static enum pd_rc bound(struct pd_j_run *r, const struct pd_j_val *v, bool *given, int64_t *at)
{
    *given = v->type != PD_J_T_NONE;
    return *given && !as_int(v, at) ? pd_j_fail(r, PD_INVALID, "a slice by %s", pd_j_type_name(v))
                                    : PD_OK;
}

enum pd_rc pd_j_slice(struct pd_j_run *r, const struct pd_j_val *v, const struct pd_j_val bounds[3],
                      struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_list *items = NULL;
    bool has_from, has_to, has_step;
    int64_t from = 0, to = 0, step = 1;
    PD_TRY(bound(r, &bounds[0], &has_from, &from));
    PD_TRY(bound(r, &bounds[1], &has_to, &to));
    PD_TRY(bound(r, &bounds[2], &has_step, &step));
    if (v->type == PD_J_T_UNDEFINED)
        return pd_j_fail(r, PD_INVALID, "'%s' is undefined", v->u.fn.name);
    if ((v->type != PD_J_T_LIST && v->type != PD_J_T_STR) || step == 0)
        return pd_j_fail(r, PD_INVALID, "a slice of %s", pd_j_type_name(v));
    PD_TRY(pd_j_iterate(r, v, &items));
    int64_t len = (int64_t)items->n;
    int64_t low = step < 0 ? -1 : 0, high = step < 0 ? len - 1 : len;
    from = has_from ? clamp(from, len, low, high) : step < 0 ? high : low;
    to = has_to ? clamp(to, len, low, high) : step < 0 ? low : high;
    step = step > len ? len + 1 : step < -len ? -len - 1 : step;
    struct pd_j_out text = {0};
    PD_TRY(pd_j_list_new(r, out));
    out->u.list->tuple = v->type == PD_J_T_LIST && items->tuple;
    for (int64_t i = from; step < 0 ? i > to : i < to; i += step) {
        if (v->type == PD_J_T_LIST)
            PD_TRY(pd_j_list_add(r, out->u.list, items->v[i]));
        else
            PD_TRY(pd_j_out_add(r, &text, items->v[i].u.str));
    }
    if (v->type == PD_J_T_STR)
        *out = pd_j_out_val(&text);
out:
    return rc;
}
