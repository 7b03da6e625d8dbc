/* Expressions to values, and the names that they know. */
#include "lm/jinja_int.h"

enum pd_rc pd_j_deeper(struct pd_j_run *r)
{
    if (++r->depth > PD_J_MAX_EVAL)
        return pd_j_fail(r, PD_TOOBIG, "the template calls itself too deeply");
    return pd_j_step(r, 1);
}

/* ---- names ---- */

struct pd_j_val *pd_j_look_up(struct pd_j_run *r, struct pd_str name)
{
    for (struct pd_j_frame *f = r->frame; f; f = f->up) {
        struct pd_j_val *v = pd_j_map_get(&f->vars, name);
        r->steps += f->vars.n / 8; /* the next step looks whether they are too many */
        if (v)
            return v;
    }
    return NULL;
}

enum pd_rc pd_j_set_name(struct pd_j_run *r, struct pd_str name, struct pd_j_val v)
{
    return pd_j_map_put(r, &r->frame->vars, (struct pd_j_str){.s = name}, v);
}

enum pd_rc pd_j_push_frame(struct pd_j_run *r, struct pd_j_frame *up)
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
    struct pd_j_val *v = pd_j_look_up(r, n->name);
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
enum pd_rc pd_j_assign(struct pd_j_run *r, const struct pd_j_node *n, const struct pd_j_val *v)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_list *items = NULL;
    if (n->n_args == 1)
        return pd_j_set_name(r, n->args[0]->name, *v);
    PD_TRY(pd_j_iterate(r, v, &items));
    if (items->n != n->n_args)
        return pd_j_fail(r, PD_INVALID, "%zu values for %zu names", items->n, n->n_args);
    for (size_t i = 0; i < items->n; i++)
        PD_TRY(pd_j_set_name(r, n->args[i]->name, items->v[i]));
out:
    return rc;
}

/* ---- calls ---- */

static enum pd_rc eval_args(struct pd_j_run *r, const struct pd_j_node *n, struct pd_j_args *args)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_val v = {0};
    *args = (struct pd_j_args){0};
    if (n->n_args > 0 && !(args->v = pd_j_alloc(r, n->n_args * sizeof *args->v)))
        return PD_TOOBIG;
    for (; args->n < n->n_args; args->n++)
        PD_TRY(pd_j_eval(r, n->args[args->n], &args->v[args->n]));
    for (size_t i = 0; i < n->n_named; i++) {
        PD_TRY(pd_j_eval(r, n->named[i].value, &v));
        PD_TRY(pd_j_map_put(r, &args->named, (struct pd_j_str){.s = n->named[i].name}, v));
    }
out:
    return rc;
}

static enum pd_rc eval_call(struct pd_j_run *r, const struct pd_j_node *n, struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_val fn;
    struct pd_j_args args;
    PD_TRY(pd_j_eval(r, n->a, &fn));
    PD_TRY(eval_args(r, n, &args));
    r->line = n->line;
    if (fn.type == PD_J_T_MACRO)
        return pd_j_call_macro(r, fn.u.macro, &args, out);
    if (fn.type == PD_J_T_FUNCTION)
        return fn.u.fn.self ? pd_j_method(r, fn.u.fn.name, fn.u.fn.self, &args, out)
                            : pd_j_function(r, fn.u.fn.name, &args, out);
    if (fn.type == PD_J_T_UNDEFINED && (n->a->kind == PD_J_ATTR || n->a->kind == PD_J_VAR))
        return pd_j_fail(r, PD_UNSUPPORTED, "%.*s() is not known here", PD_STR_ARG(n->a->name));
    rc = pd_j_fail(r, PD_INVALID, "%s cannot be called", pd_j_type_name(&fn));
out:
    return rc;
}

enum pd_rc pd_j_apply(struct pd_j_run *r, const struct pd_j_node *n, struct pd_j_val v,
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
        PD_TRY(pd_j_eval(r, n->args[i], &v));
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
        PD_TRY(pd_j_eval(r, n->args[i], &key));
        PD_TRY(pd_j_eval(r, n->args[i + 1], &v));
        if (key.type != PD_J_T_STR)
            return pd_j_fail(r, PD_UNSUPPORTED, "%s as the key of a dict", pd_j_type_name(&key));
        PD_TRY(pd_j_map_put(r, out->u.map, key.u.str, v));
    }
out:
    return rc;
}

static enum pd_rc eval_slice(struct pd_j_run *r, const struct pd_j_node *n, struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_val v, bounds[3] = {pd_j_none, pd_j_none, pd_j_none};
    PD_TRY(pd_j_eval(r, n->a, &v));
    for (size_t i = 0; i < 3; i++)
        if (n->args[i])
            PD_TRY(pd_j_eval(r, n->args[i], &bounds[i]));
    PD_TRY(pd_j_slice(r, &v, bounds, out));
out:
    return rc;
}

/* a < b < c is a < b and b < c */
static enum pd_rc eval_compare(struct pd_j_run *r, const struct pd_j_node *n, struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_val left, right;
    bool yes = true;
    PD_TRY(pd_j_eval(r, n->a, &left));
    for (size_t i = 0; i < n->n_named && yes; i++) {
        PD_TRY(pd_j_eval(r, n->named[i].value, &right));
        PD_TRY(pd_j_relation(r, n->named[i].name, &left, &right, &yes));
        left = right;
    }
    *out = pd_j_bool(yes);
out:
    return rc;
}

static enum pd_rc eval_test(struct pd_j_run *r, const struct pd_j_node *n, struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_val v;
    struct pd_j_args args;
    bool yes = false;
    PD_TRY(pd_j_eval(r, n->a, &v));
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
    PD_TRY(pd_j_eval(r, n->kind == PD_J_IF_ELSE ? n->b : n->a, &v));
    bool yes = pd_j_truth(&v);
    if (n->kind != PD_J_IF_ELSE && yes == (n->kind == PD_J_OR))
        *out = v;
    else if (n->kind != PD_J_IF_ELSE)
        PD_TRY(pd_j_eval(r, n->b, out));
    else if (yes || n->c)
        PD_TRY(pd_j_eval(r, yes ? n->a : n->c, out));
    else
        *out = pd_j_undefined("the else of an inline if");
out:
    return rc;
}

static enum pd_rc eval_two(struct pd_j_run *r, const struct pd_j_node *n, struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_val a, b;
    PD_TRY(pd_j_eval(r, n->a, &a));
    PD_TRY(pd_j_eval(r, n->b, &b));
    r->line = n->line;
    PD_TRY((n->kind == PD_J_BINARY) ? pd_j_binary(r, n->name, &a, &b, out)
                                    : pd_j_index(r, &a, &b, out));
out:
    return rc;
}

/* Of one operand: attribute, filter, not, signs. */
static enum pd_rc eval_one(struct pd_j_run *r, const struct pd_j_node *n, struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_val v;
    PD_TRY(pd_j_eval(r, n->a, &v));
    r->line = n->line;
    if (n->kind == PD_J_ATTR) {
        rc = pd_j_attr(r, &v, n->name, true, out);
    } else if (n->kind == PD_J_FILTER) {
        rc = pd_j_apply(r, n, v, out);
    } else if (n->kind == PD_J_NOT) {
        *out = pd_j_bool(!pd_j_truth(&v));
    } else {
        *out = v;
        rc = n->kind == PD_J_NEG ? pd_j_negate(r, out) : PD_OK;
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
        return eval_slice(r, n, out);
    case PD_J_CALL:
        return eval_call(r, n, out);
    case PD_J_TEST:
        return eval_test(r, n, out);
    case PD_J_COMPARE:
        return eval_compare(r, n, out);
    case PD_J_AND:
    case PD_J_OR:
    case PD_J_IF_ELSE:
        return eval_choice(r, n, out);
    default:
        return eval_one(r, n, out);
    }
}

enum pd_rc pd_j_eval(struct pd_j_run *r, const struct pd_j_node *n, struct pd_j_val *out)
{
    enum pd_rc rc = pd_j_deeper(r);
    if (rc == PD_OK) {
        r->line = n->line;
        rc = eval_kind(r, n, out);
    }
    r->depth--;
    return rc;
}
