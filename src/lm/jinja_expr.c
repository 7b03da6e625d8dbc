/* Tokens to nodes: Jinja's expressions, in its order of precedence from the tightest. */
#include "lm/jinja_parse.h"

typedef enum pd_rc rule(struct parser *p, struct pd_j_node **out);

static enum pd_rc arguments(struct parser *p, struct pd_j_node *call)
{
    enum pd_rc rc = PD_OK;
    while (!take_op(p, ")")) {
        struct pd_j_node *value = NULL;
        if (is_op(p, "*") || is_op(p, "**"))
            return fail(p, PD_UNSUPPORTED, "arguments from a list (* and **)", PD_STR(""));
        if (p->at->kind == PD_J_NAME && p->at[1].kind == PD_J_OP &&
            pd_str_eqz(p->at[1].text, "=")) {
            struct pd_str name = p->at->text;
            p->at += 2;
            PD_TRY(pd_j_expression(p, &value));
            add_named(p, call, name, value);
        } else {
            PD_TRY(pd_j_expression(p, &value));
            add_arg(p, call, value);
        }
        if (!is_op(p, ")"))
            PD_TRY(need_op(p, ","));
    }
out:
    return rc;
}

/* Items up to the closing sign; *comma: at least one comma stood. */
static enum pd_rc items(struct parser *p, struct pd_j_node *list, const char *close, bool *comma)
{
    enum pd_rc rc = PD_OK;
    while (!take_op(p, close)) {
        struct pd_j_node *value = NULL;
        PD_TRY(pd_j_expression(p, &value));
        add_arg(p, list, value);
        if (take_op(p, ","))
            *comma = true;
        else if (!is_op(p, close))
            return unexpected(p, close);
    }
out:
    return rc;
}

static enum pd_rc dict(struct parser *p, struct pd_j_node *n)
{
    enum pd_rc rc = PD_OK;
    while (!take_op(p, "}")) {
        struct pd_j_node *key = NULL, *value = NULL;
        PD_TRY(pd_j_expression(p, &key));
        PD_TRY(need_op(p, ":"));
        PD_TRY(pd_j_expression(p, &value));
        add_arg(p, n, key);
        add_arg(p, n, value);
        if (!is_op(p, "}"))
            PD_TRY(need_op(p, ","));
    }
out:
    return rc;
}

static enum pd_rc in_parentheses(struct parser *p, struct pd_j_node **out)
{
    enum pd_rc rc = PD_OK;
    bool comma = false;
    struct pd_j_node *list = node(p, PD_J_LIST);
    PD_TRY(items(p, list, ")", &comma));
    list->value = pd_arena_alloc(p->arena, sizeof *list->value); /* marks a tuple */
    *out = list->n_args == 1 && !comma ? list->args[0] : list;
out:
    return rc;
}

bool pd_j_constant_name(struct pd_str name, struct pd_j_val *v)
{
    if (pd_str_eqz(name, "true") || pd_str_eqz(name, "True"))
        *v = pd_j_bool(true);
    else if (pd_str_eqz(name, "false") || pd_str_eqz(name, "False"))
        *v = pd_j_bool(false);
    else if (pd_str_eqz(name, "none") || pd_str_eqz(name, "None"))
        *v = pd_j_none;
    else
        return false;
    return true;
}

/* Adjacent string literals are one. */
static struct pd_j_node *string(struct parser *p)
{
    struct pd_str text = p->at->text;
    struct pd_j_node *n = constant(p, pd_j_str_val(text, false));
    for (p->at++; p->at->kind == PD_J_STRING; p->at++) {
        char *both = pd_arena_alloc(p->arena, text.len + p->at->text.len + 1);
        if (text.len)
            memcpy(both, text.ptr, text.len);
        if (p->at->text.len)
            memcpy(both + text.len, p->at->text.ptr, p->at->text.len);
        text = (struct pd_str){both, text.len + p->at->text.len};
        *n->value = pd_j_str_val(text, false);
    }
    return n;
}

static enum pd_rc primary(struct parser *p, struct pd_j_node **out)
{
    const struct pd_j_token *t = p->at;
    struct pd_j_val v;
    bool comma = false;
    switch (t->kind) {
    case PD_J_STRING:
        *out = string(p);
        return PD_OK;
    case PD_J_INT:
        *out = constant(p, pd_j_int(t->i));
        break;
    case PD_J_FLOAT:
        *out = constant(p, (struct pd_j_val){.type = PD_J_T_FLOAT, .u.f = t->f});
        break;
    case PD_J_NAME:
        if (pd_j_constant_name(t->text, &v)) {
            *out = constant(p, v);
        } else {
            *out = node(p, PD_J_VAR);
            (*out)->name = t->text;
        }
        break;
    default:
        if (take_op(p, "("))
            return in_parentheses(p, out);
        if (take_op(p, "[")) {
            *out = node(p, PD_J_LIST);
            return items(p, *out, "]", &comma);
        }
        if (take_op(p, "{")) {
            *out = node(p, PD_J_DICT);
            return dict(p, *out);
        }
        return unexpected(p, "an expression");
    }
    p->at++;
    return PD_OK;
}

/* [a], [a:b], [a:b:c], any of which may be absent in a slice */
static enum pd_rc subscript(struct parser *p, struct pd_j_node **out)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_node *parts[3] = {NULL, NULL, NULL}, *n;
    size_t colons = 0;
    while (!take_op(p, "]")) {
        if (take_op(p, ":")) {
            if (++colons > 2)
                return unexpected(p, "]");
        } else if (parts[colons]) {
            return unexpected(p, "]");
        } else {
            PD_TRY(pd_j_expression(p, &parts[colons]));
        }
    }
    n = node(p, colons ? PD_J_SLICE : PD_J_INDEX);
    n->a = *out;
    n->b = parts[0];
    if (!colons && !n->b)
        return unexpected(p, "an index");
    for (size_t i = 0; colons && i < 3; i++)
        add_arg(p, n, parts[i]);
    *out = n;
out:
    return rc;
}

static enum pd_rc postfix(struct parser *p, struct pd_j_node **out)
{
    enum pd_rc rc = PD_OK;
    for (int chain = 0; rc == PD_OK; chain++) {
        struct pd_j_node *n;
        if (chain > PD_J_MAX_DEPTH)
            return fail(p, PD_UNSUPPORTED, "too long a chain", PD_STR(""));
        if (take_op(p, ".")) {
            if (p->at->kind != PD_J_NAME && p->at->kind != PD_J_INT)
                return unexpected(p, "a name");
            n = node(p, p->at->kind == PD_J_NAME ? PD_J_ATTR : PD_J_INDEX);
            n->name = p->at->text;
            n->a = *out;
            if (n->kind == PD_J_INDEX)
                n->b = constant(p, pd_j_int(p->at->i));
            p->at++;
            *out = n;
        } else if (take_op(p, "[")) {
            rc = subscript(p, out);
        } else if (take_op(p, "(")) {
            n = node(p, PD_J_CALL);
            n->a = *out;
            rc = arguments(p, n);
            *out = n;
        } else {
            return PD_OK;
        }
    }
    return rc;
}

static bool starts_test_argument(const struct parser *p)
{
    if (p->at->kind == PD_J_NAME)
        return !is_name(p, "else") && !is_name(p, "or") && !is_name(p, "and") &&
               !is_name(p, "is") && !is_name(p, "if") && !is_name(p, "in") && !is_name(p, "not");
    return p->at->kind == PD_J_STRING || p->at->kind == PD_J_INT || p->at->kind == PD_J_FLOAT ||
           is_op(p, "[") || is_op(p, "{");
}

static enum pd_rc test(struct parser *p, struct pd_j_node **out)
{
    enum pd_rc rc = PD_OK;
    bool negated = take_name(p, "not");
    struct pd_j_node *n = node(p, PD_J_TEST);
    if (p->at->kind != PD_J_NAME)
        return unexpected(p, "the name of a test");
    n->name = (p->at++)->text;
    n->a = *out;
    if (take_op(p, "(")) {
        PD_TRY(arguments(p, n));
    } else if (starts_test_argument(p)) {
        struct pd_j_node *arg = NULL;
        PD_TRY(primary(p, &arg));
        PD_TRY(postfix(p, &arg));
        add_arg(p, n, arg);
    }
    *out = n;
    if (negated) {
        *out = node(p, PD_J_NOT);
        (*out)->a = n;
    }
out:
    return rc;
}

enum pd_rc pd_j_filter_of(struct parser *p, struct pd_j_node **out)
{
    struct pd_j_node *n = node(p, PD_J_FILTER);
    if (p->at->kind != PD_J_NAME)
        return unexpected(p, "the name of a filter");
    n->name = (p->at++)->text;
    n->a = *out;
    *out = n;
    return take_op(p, "(") ? arguments(p, n) : PD_OK;
}

static enum pd_rc filters_and_tests(struct parser *p, struct pd_j_node **out)
{
    enum pd_rc rc = PD_OK;
    for (int chain = 0; rc == PD_OK; chain++) {
        if (chain > PD_J_MAX_DEPTH)
            return fail(p, PD_UNSUPPORTED, "too long a chain", PD_STR(""));
        if (take_op(p, "|")) {
            rc = pd_j_filter_of(p, out);
        } else if (take_name(p, "is")) {
            rc = test(p, out);
        } else if (is_op(p, "(")) {
            rc = postfix(p, out);
        } else {
            return PD_OK;
        }
    }
    return rc;
}

/* A sign binds tighter than a filter: -1|abs is (-1)|abs. */
static enum pd_rc sign(struct parser *p, struct pd_j_node **out)
{
    enum pd_rc rc = PD_OK;
    if (is_op(p, "-") || is_op(p, "+")) {
        struct pd_j_node *n = node(p, is_op(p, "-") ? PD_J_NEG : PD_J_POS);
        p->at++;
        PD_TRY(deeper(p));
        PD_TRY(sign(p, &n->a));
        p->depth--;
        *out = n;
        return PD_OK;
    }
    PD_TRY(primary(p, out));
    PD_TRY(postfix(p, out));
out:
    return rc;
}

static enum pd_rc unary(struct parser *p, struct pd_j_node **out)
{
    enum pd_rc rc = PD_OK;
    PD_TRY(sign(p, out));
    PD_TRY(filters_and_tests(p, out));
out:
    return rc;
}

/* a op b op c, from the left; ops ends in NULL. */
static enum pd_rc from_left(struct parser *p, rule *next, const char *const *ops,
                            struct pd_j_node **out)
{
    enum pd_rc rc = PD_OK;
    PD_TRY(next(p, out));
    for (int chain = 0;; chain++) {
        size_t i = 0;
        while (ops[i] && !is_op(p, ops[i]))
            i++;
        if (!ops[i])
            return PD_OK;
        if (chain > 4 * PD_J_MAX_DEPTH)
            return fail(p, PD_UNSUPPORTED, "too long an expression", PD_STR(""));
        struct pd_j_node *n = node(p, PD_J_BINARY);
        n->name = (p->at++)->text;
        n->a = *out;
        PD_TRY(next(p, &n->b));
        *out = n;
    }
out:
    return rc;
}

static enum pd_rc power(struct parser *p, struct pd_j_node **out)
{
    static const char *const ops[] = {"**", NULL};
    return from_left(p, unary, ops, out);
}

static enum pd_rc product(struct parser *p, struct pd_j_node **out)
{
    static const char *const ops[] = {"*", "/", "//", "%", NULL};
    return from_left(p, power, ops, out);
}

static enum pd_rc joined(struct parser *p, struct pd_j_node **out)
{
    static const char *const ops[] = {"~", NULL};
    return from_left(p, product, ops, out);
}

static enum pd_rc sum(struct parser *p, struct pd_j_node **out)
{
    static const char *const ops[] = {"+", "-", NULL};
    return from_left(p, joined, ops, out);
}

static bool take_comparison(struct parser *p, struct pd_str *op)
{
    static const char *const ops[] = {"==", "!=", "<", "<=", ">", ">="};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (take_op(p, ops[i])) {
            *op = pd_str_from(ops[i]);
            return true;
        }
    bool negated =
        is_name(p, "not") && p->at[1].kind == PD_J_NAME && pd_str_eqz(p->at[1].text, "in");
    p->at += negated;
    *op = negated ? PD_STR("not in") : PD_STR("in");
    return take_name(p, "in");
}

static enum pd_rc comparison(struct parser *p, struct pd_j_node **out)
{
    enum pd_rc rc = PD_OK;
    struct pd_str op;
    struct pd_j_node *n = NULL;
    PD_TRY(sum(p, out));
    while (take_comparison(p, &op)) {
        struct pd_j_node *value = NULL;
        if (!n) {
            n = node(p, PD_J_COMPARE);
            n->a = *out;
            *out = n;
        }
        PD_TRY(sum(p, &value));
        add_named(p, n, op, value);
    }
out:
    return rc;
}

static enum pd_rc negation(struct parser *p, struct pd_j_node **out)
{
    enum pd_rc rc = PD_OK;
    if (!take_name(p, "not"))
        return comparison(p, out);
    struct pd_j_node *n = node(p, PD_J_NOT);
    PD_TRY(deeper(p));
    PD_TRY(negation(p, &n->a));
    p->depth--;
    *out = n;
out:
    return rc;
}

static enum pd_rc logical(struct parser *p, rule *next, const char *word, enum pd_j_node_kind kind,
                          struct pd_j_node **out)
{
    enum pd_rc rc = PD_OK;
    PD_TRY(next(p, out));
    for (int chain = 0; take_name(p, word); chain++) {
        if (chain > 4 * PD_J_MAX_DEPTH)
            return fail(p, PD_UNSUPPORTED, "too long an expression", PD_STR(""));
        struct pd_j_node *n = node(p, kind);
        n->a = *out;
        PD_TRY(next(p, &n->b));
        *out = n;
    }
out:
    return rc;
}

static enum pd_rc conjunction(struct parser *p, struct pd_j_node **out)
{
    return logical(p, negation, "and", PD_J_AND, out);
}

enum pd_rc pd_j_disjunction(struct parser *p, struct pd_j_node **out)
{
    return logical(p, conjunction, "or", PD_J_OR, out);
}

static enum pd_rc ternary(struct parser *p, struct pd_j_node **out)
{
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_j_disjunction(p, out));
    if (take_name(p, "if")) {
        struct pd_j_node *n = node(p, PD_J_IF_ELSE);
        n->a = *out;
        PD_TRY(pd_j_disjunction(p, &n->b));
        if (take_name(p, "else"))
            PD_TRY(pd_j_expression(p, &n->c));
        *out = n;
    }
out:
    return rc;
}

enum pd_rc pd_j_expression(struct parser *p, struct pd_j_node **out)
{
    enum pd_rc rc = deeper(p);
    if (rc == PD_OK)
        rc = ternary(p, out);
    p->depth--;
    return rc;
}

enum pd_rc pd_j_expressions(struct parser *p, struct pd_j_node **out)
{
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_j_expression(p, out));
    if (is_op(p, ",")) {
        struct pd_j_node *list = node(p, PD_J_LIST), *more = NULL;
        list->value = pd_arena_alloc(p->arena, sizeof *list->value);
        add_arg(p, list, *out);
        while (take_op(p, ",")) {
            PD_TRY(pd_j_expression(p, &more));
            add_arg(p, list, more);
        }
        *out = list;
    }
out:
    return rc;
}
