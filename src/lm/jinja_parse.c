/* Tokens to nodes: Jinja's grammar, in its order of precedence. */
#include "lm/jinja_int.h"

#include <stdio.h>

struct parser {
    struct pd_arena *arena;
    const struct pd_j_token *at;
    int depth;
    struct pd_err *err;
};

typedef enum pd_rc rule(struct parser *p, struct pd_j_node **out);
static rule expression, unary, ternary;

static enum pd_rc fail(const struct parser *p, enum pd_rc rc, const char *what,
                       struct pd_str detail)
{
    return PD_FAIL(p->err, rc, "line %d: %s%s%.*s", p->at->line, what, detail.len ? " " : "",
                   PD_STR_ARG(detail));
}

static struct pd_str shown(const struct pd_j_token *t)
{
    return t->kind == PD_J_TAG_END || t->kind == PD_J_PRINT_END ? PD_STR("the end of the tag")
           : t->kind == PD_J_EOF                                ? PD_STR("the end")
                                                                : t->text;
}

static enum pd_rc unexpected(const struct parser *p, const char *wanted)
{
    char what[100];
    (void)snprintf(what, sizeof what, "expected %s, found", wanted);
    return fail(p, PD_INVALID, what, shown(p->at));
}

static bool is_op(const struct parser *p, const char *op)
{
    return p->at->kind == PD_J_OP && pd_str_eqz(p->at->text, op);
}

static bool is_name(const struct parser *p, const char *name)
{
    return p->at->kind == PD_J_NAME && pd_str_eqz(p->at->text, name);
}

static bool take_op(struct parser *p, const char *op)
{
    bool yes = is_op(p, op);
    p->at += yes;
    return yes;
}

static bool take_name(struct parser *p, const char *name)
{
    bool yes = is_name(p, name);
    p->at += yes;
    return yes;
}

static enum pd_rc need_op(struct parser *p, const char *op)
{
    return take_op(p, op) ? PD_OK : unexpected(p, op);
}

static struct pd_j_node *node(struct parser *p, enum pd_j_node_kind kind)
{
    struct pd_j_node *n = pd_arena_alloc(p->arena, sizeof *n);
    n->kind = kind;
    n->line = p->at->line;
    return n;
}

/* An array of the arena with room for one more: grown when its length is a power of two. */
static void *grown(struct parser *p, void *v, size_t n, size_t size)
{
    if (n & (n - 1))
        return v;
    void *more = pd_arena_alloc(p->arena, (n ? 2 * n : 1) * size);
    if (n)
        memcpy(more, v, n * size);
    return more;
}

static void add_arg(struct parser *p, struct pd_j_node *n, struct pd_j_node *arg)
{
    n->args = grown(p, n->args, n->n_args, sizeof(struct pd_j_node *));
    n->args[n->n_args++] = arg;
}

static void add_named(struct parser *p, struct pd_j_node *n, struct pd_str name,
                      struct pd_j_node *value)
{
    n->named = grown(p, n->named, n->n_named, sizeof *n->named);
    n->named[n->n_named++] = (struct pd_j_named){name, value};
}

static struct pd_j_node *constant(struct parser *p, struct pd_j_val v)
{
    struct pd_j_node *n = node(p, PD_J_CONST);
    n->value = pd_arena_alloc(p->arena, sizeof *n->value);
    *n->value = v;
    return n;
}

static enum pd_rc deeper(struct parser *p)
{
    return ++p->depth > PD_J_MAX_DEPTH ? fail(p, PD_UNSUPPORTED, "nested too deeply", PD_STR(""))
                                       : PD_OK;
}

/* ---- expressions ---- */

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
            PD_TRY(expression(p, &value));
            add_named(p, call, name, value);
        } else {
            PD_TRY(expression(p, &value));
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
        PD_TRY(expression(p, &value));
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
        PD_TRY(expression(p, &key));
        PD_TRY(need_op(p, ":"));
        PD_TRY(expression(p, &value));
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

static bool constant_name(struct pd_str name, struct pd_j_val *v)
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
        if (constant_name(t->text, &v)) {
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
            PD_TRY(expression(p, &parts[colons]));
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

static enum pd_rc filter(struct parser *p, struct pd_j_node **out)
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
            rc = filter(p, out);
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

static enum pd_rc disjunction(struct parser *p, struct pd_j_node **out)
{
    return logical(p, conjunction, "or", PD_J_OR, out);
}

static enum pd_rc ternary(struct parser *p, struct pd_j_node **out)
{
    enum pd_rc rc = PD_OK;
    PD_TRY(disjunction(p, out));
    if (take_name(p, "if")) {
        struct pd_j_node *n = node(p, PD_J_IF_ELSE);
        n->a = *out;
        PD_TRY(disjunction(p, &n->b));
        if (take_name(p, "else"))
            PD_TRY(expression(p, &n->c));
        *out = n;
    }
out:
    return rc;
}

static enum pd_rc expression(struct parser *p, struct pd_j_node **out)
{
    enum pd_rc rc = deeper(p);
    if (rc == PD_OK)
        rc = ternary(p, out);
    p->depth--;
    return rc;
}

/* What {{ }} and the right side of set hold: a, b is a tuple. */
static enum pd_rc expressions(struct parser *p, struct pd_j_node **out)
{
    enum pd_rc rc = PD_OK;
    PD_TRY(expression(p, out));
    if (is_op(p, ",")) {
        struct pd_j_node *list = node(p, PD_J_LIST), *more = NULL;
        list->value = pd_arena_alloc(p->arena, sizeof *list->value);
        add_arg(p, list, *out);
        while (take_op(p, ",")) {
            PD_TRY(expression(p, &more));
            add_arg(p, list, more);
        }
        *out = list;
    }
out:
    return rc;
}

/* ---- statements ---- */

static enum pd_rc end_of_tag(struct parser *p)
{
    if (p->at->kind != PD_J_TAG_END)
        return unexpected(p, "the end of the tag");
    p->at++;
    return PD_OK;
}

static enum pd_rc body(struct parser *p, struct pd_j_body *out, const char *const *ends);

static void add_statement(struct parser *p, struct pd_j_body *b, struct pd_j_node *n)
{
    b->v = grown(p, b->v, b->n, sizeof(struct pd_j_node *));
    b->v[b->n++] = n;
}

/* Behind "if" or "elif". */
static enum pd_rc if_block(struct parser *p, struct pd_j_node *n)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    static const char *const last[] = {"endif", NULL};
    enum pd_rc rc = PD_OK;
    n->kind = PD_J_IF;
    PD_TRY(deeper(p));
    PD_TRY(expressions(p, &n->a));
    PD_TRY(end_of_tag(p));
    PD_TRY(body(p, &n->body, ends));
    if (take_name(p, "elif")) {
        struct pd_j_node *chained = node(p, PD_J_IF);
        add_statement(p, &n->rest, chained);
        PD_TRY(if_block(p, chained));
    } else if (take_name(p, "else")) {
        PD_TRY(end_of_tag(p));
        PD_TRY(body(p, &n->rest, last));
        p->at++;
        PD_TRY(end_of_tag(p));
    } else {
        p->at++;
        PD_TRY(end_of_tag(p));
    }
    p->depth--;
out:
    return rc;
}

static enum pd_rc targets(struct parser *p, struct pd_j_node *n)
{
    bool inside = take_op(p, "(");
    do {
        struct pd_j_val v;
        if (p->at->kind != PD_J_NAME || constant_name(p->at->text, &v))
            return unexpected(p, "a name to set");
        struct pd_j_node *t = node(p, PD_J_VAR);
        t->name = (p->at++)->text;
        add_arg(p, n, t);
    } while (take_op(p, ","));
    return inside ? need_op(p, ")") : PD_OK;
}

static enum pd_rc for_block(struct parser *p, struct pd_j_node *n)
{
    static const char *const ends[] = {"else", "endfor", NULL}, *const last[] = {"endfor", NULL};
    enum pd_rc rc = PD_OK;
    n->kind = PD_J_FOR;
    PD_TRY(targets(p, n));
    if (!take_name(p, "in"))
        return unexpected(p, "in");
    PD_TRY(disjunction(p, &n->a)); /* no inline if: "if" is the loop's */
    if (take_name(p, "if"))
        PD_TRY(expression(p, &n->b));
    if (is_name(p, "recursive"))
        return fail(p, PD_UNSUPPORTED, "a recursive loop", PD_STR(""));
    PD_TRY(end_of_tag(p));
    PD_TRY(body(p, &n->body, ends));
    if (take_name(p, "else")) {
        PD_TRY(end_of_tag(p));
        PD_TRY(body(p, &n->rest, last));
    }
    p->at++;
    PD_TRY(end_of_tag(p));
out:
    return rc;
}

static enum pd_rc set_block(struct parser *p, struct pd_j_node *n)
{
    static const char *const ends[] = {"endset", NULL};
    enum pd_rc rc = PD_OK;
    if (p->at->kind == PD_J_NAME && p->at[1].kind == PD_J_OP && pd_str_eqz(p->at[1].text, ".")) {
        n->kind = PD_J_SET_NS;
        n->a = node(p, PD_J_VAR);
        n->a->name = p->at->text;
        p->at += 2;
        if (p->at->kind != PD_J_NAME)
            return unexpected(p, "a name");
        n->name = (p->at++)->text;
        PD_TRY(need_op(p, "="));
        PD_TRY(expressions(p, &n->b));
        return end_of_tag(p);
    }
    PD_TRY(targets(p, n));
    if (take_op(p, "=")) {
        n->kind = PD_J_SET;
        PD_TRY(expressions(p, &n->a));
        return end_of_tag(p);
    }
    n->kind = PD_J_SET_BLOCK;
    while (take_op(p, "|"))
        PD_TRY(filter(p, &n->a));
    PD_TRY(end_of_tag(p));
    PD_TRY(body(p, &n->body, ends));
    p->at++;
    PD_TRY(end_of_tag(p));
out:
    return rc;
}

static enum pd_rc macro_block(struct parser *p, struct pd_j_node *n)
{
    static const char *const ends[] = {"endmacro", NULL};
    enum pd_rc rc = PD_OK;
    n->kind = PD_J_MACRO;
    if (p->at->kind != PD_J_NAME)
        return unexpected(p, "the name of a macro");
    n->name = (p->at++)->text;
    PD_TRY(need_op(p, "("));
    while (!take_op(p, ")")) {
        struct pd_j_node *value = NULL;
        if (p->at->kind != PD_J_NAME)
            return unexpected(p, "a parameter");
        struct pd_str name = (p->at++)->text;
        if (take_op(p, "="))
            PD_TRY(expression(p, &value));
        add_named(p, n, name, value);
        if (!is_op(p, ")"))
            PD_TRY(need_op(p, ","));
    }
    PD_TRY(end_of_tag(p));
    PD_TRY(body(p, &n->body, ends));
    p->at++;
    PD_TRY(end_of_tag(p));
out:
    return rc;
}

static enum pd_rc plain_block(struct parser *p, struct pd_j_node *n, const char *end)
{
    const char *const ends[] = {end, NULL};
    enum pd_rc rc = PD_OK;
    n->kind = PD_J_BLOCK;
    PD_TRY(end_of_tag(p));
    PD_TRY(body(p, &n->body, ends));
    p->at++;
    PD_TRY(end_of_tag(p));
out:
    return rc;
}

static enum pd_rc statement(struct parser *p, struct pd_j_node *n)
{
    if (take_name(p, "if"))
        return if_block(p, n);
    if (take_name(p, "for"))
        return for_block(p, n);
    if (take_name(p, "set"))
        return set_block(p, n);
    if (take_name(p, "macro"))
        return macro_block(p, n);
    if (take_name(p, "generation"))
        return plain_block(p, n, "endgeneration");
    if (is_name(p, "break") || is_name(p, "continue")) {
        n->kind = is_name(p, "break") ? PD_J_BREAK : PD_J_CONTINUE;
        p->at++;
        return end_of_tag(p);
    }
    if (p->at->kind == PD_J_NAME)
        return fail(p, PD_UNSUPPORTED, "a tag that is not read here:", p->at->text);
    return unexpected(p, "a tag");
}

/* Statements up to a tag named in `ends`, whose name is the next token then; ends NULL: to the end
 * of the template. */
static enum pd_rc body(struct parser *p, struct pd_j_body *out, const char *const *ends)
{
    enum pd_rc rc = PD_OK;
    PD_TRY(deeper(p));
    for (;;) {
        struct pd_j_node *n = node(p, PD_J_OUT_TEXT);
        if (p->at->kind == PD_J_EOF) {
            if (ends)
                return fail(p, PD_INVALID, "the template ends without", pd_str_from(ends[0]));
            break;
        }
        if (p->at->kind == PD_J_TEXT) {
            n->value = constant(p, pd_j_str_val(p->at->text, false))->value;
            p->at++;
        } else if (p->at->kind == PD_J_PRINT) {
            p->at++;
            n->kind = PD_J_OUT;
            PD_TRY(expressions(p, &n->a));
            if (p->at->kind != PD_J_PRINT_END)
                return unexpected(p, "}}");
            p->at++;
        } else {
            p->at++;
            size_t i = 0;
            while (ends && ends[i] && !is_name(p, ends[i]))
                i++;
            if (ends && ends[i])
                break;
            PD_TRY(statement(p, n));
        }
        add_statement(p, out, n);
    }
    p->depth--;
out:
    return rc;
}

enum pd_rc pd_j_parse(struct pd_arena *a, const struct pd_j_token *tokens, struct pd_j_body *out,
                      struct pd_err *err)
{
    struct parser p = {a, tokens, 0, err};
    *out = (struct pd_j_body){NULL, 0};
    return body(&p, out, NULL);
}
