/* Shared by jinja_parse.c and jinja_expr.c: where the parser stands, and its smallest steps. */
#ifndef PD_LM_JINJA_PARSE_H
#define PD_LM_JINJA_PARSE_H

#include "lm/jinja_int.h"

struct parser {
    struct pd_arena *arena;
    const struct pd_j_token *at;
    int depth;
    struct pd_err *err;
};

static inline enum pd_rc fail(const struct parser *p, enum pd_rc rc, const char *what,
                              struct pd_str detail)
{
    return PD_FAIL(p->err, rc, "line %d: %s%s%.*s", p->at->line, what, detail.len ? " " : "",
                   PD_STR_ARG(detail));
}

static inline struct pd_str shown(const struct pd_j_token *t)
{
    return t->kind == PD_J_TAG_END || t->kind == PD_J_PRINT_END ? PD_STR("the end of the tag")
           : t->kind == PD_J_EOF                                ? PD_STR("the end")
                                                                : t->text;
}

static inline enum pd_rc unexpected(const struct parser *p, const char *wanted)
{
    struct pd_str found = shown(p->at);
    return PD_FAIL(p->err, PD_INVALID, "line %d: expected %s, found%s%.*s", p->at->line, wanted,
                   found.len ? " " : "", PD_STR_ARG(found));
}

static inline bool is_op(const struct parser *p, const char *op)
{
    return p->at->kind == PD_J_OP && pd_str_eqz(p->at->text, op);
}

static inline bool is_name(const struct parser *p, const char *name)
{
    return p->at->kind == PD_J_NAME && pd_str_eqz(p->at->text, name);
}

static inline bool take_op(struct parser *p, const char *op)
{
    bool yes = is_op(p, op);
    p->at += yes;
    return yes;
}

static inline bool take_name(struct parser *p, const char *name)
{
    bool yes = is_name(p, name);
    p->at += yes;
    return yes;
}

static inline enum pd_rc need_op(struct parser *p, const char *op)
{
    return take_op(p, op) ? PD_OK : unexpected(p, op);
}

static inline struct pd_j_node *node(struct parser *p, enum pd_j_node_kind kind)
{
    struct pd_j_node *n = pd_arena_alloc(p->arena, sizeof *n);
    n->kind = kind;
    n->line = p->at->line;
    return n;
}

/* An array of the arena with room for one more: grown when its length is a power of two. */
static inline void *grown(struct parser *p, void *v, size_t n, size_t size)
{
    if (n & (n - 1))
        return v;
    void *more = pd_arena_alloc(p->arena, (n ? 2 * n : 1) * size);
    if (n)
        memcpy(more, v, n * size);
    return more;
}

static inline void add_arg(struct parser *p, struct pd_j_node *n, struct pd_j_node *arg)
{
    n->args = grown(p, n->args, n->n_args, sizeof(struct pd_j_node *));
    n->args[n->n_args++] = arg;
}

static inline void add_named(struct parser *p, struct pd_j_node *n, struct pd_str name,
                             struct pd_j_node *value)
{
    n->named = grown(p, n->named, n->n_named, sizeof *n->named);
    n->named[n->n_named++] = (struct pd_j_named){name, value};
}

static inline struct pd_j_node *constant(struct parser *p, struct pd_j_val v)
{
    struct pd_j_node *n = node(p, PD_J_CONST);
    n->value = pd_arena_alloc(p->arena, sizeof *n->value);
    *n->value = v;
    return n;
}

static inline enum pd_rc deeper(struct parser *p)
{
    return ++p->depth > PD_J_MAX_DEPTH ? fail(p, PD_UNSUPPORTED, "nested too deeply", PD_STR(""))
                                       : PD_OK;
}

/* --- jinja_expr.c --- */
PD_CHECKED enum pd_rc pd_j_expression(struct parser *p, struct pd_j_node **out);
/* What {{ }} and the right side of set hold: a, b is a tuple. */
PD_CHECKED enum pd_rc pd_j_expressions(struct parser *p, struct pd_j_node **out);
/* One without an inline if. */
PD_CHECKED enum pd_rc pd_j_disjunction(struct parser *p, struct pd_j_node **out);
/* Behind "|": the filter of what *out is. */
PD_CHECKED enum pd_rc pd_j_filter_of(struct parser *p, struct pd_j_node **out);
bool pd_j_constant_name(struct pd_str name, struct pd_j_val *v); /* true, none, ... */

#endif
