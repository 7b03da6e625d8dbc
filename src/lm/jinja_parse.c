/* Tokens to nodes: statements, that is tags with what they enclose. */
#include "lm/jinja_parse.h"

static enum pd_rc end_of_tag(struct parser *p)
{
    if (p->at->kind != PD_J_TAG_END)
        return unexpected(p, "the end of the tag");
    p->at++;
    return PD_OK;
}

static enum pd_rc body(struct parser *p, struct pd_j_body *out, const char *const *ends);

/* What a tag encloses: from the tag's own end to a tag named in `ends`, whose name is next then. */
static enum pd_rc enclosed(struct parser *p, struct pd_j_body *out, const char *const *ends)
{
    enum pd_rc rc = end_of_tag(p);
    return rc == PD_OK ? body(p, out, ends) : rc;
}

/* The rest of the tag that ends a block: its name, and its end. */
static enum pd_rc closing(struct parser *p)
{
    p->at++;
    return end_of_tag(p);
}

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
    PD_TRY(pd_j_expressions(p, &n->a));
    PD_TRY(enclosed(p, &n->body, ends));
    if (take_name(p, "elif")) {
        struct pd_j_node *chained = node(p, PD_J_IF);
        add_statement(p, &n->rest, chained);
        PD_TRY(if_block(p, chained));
    } else {
        if (take_name(p, "else"))
            PD_TRY(enclosed(p, &n->rest, last));
        PD_TRY(closing(p));
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
        if (p->at->kind != PD_J_NAME || pd_j_constant_name(p->at->text, &v))
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
    PD_TRY(pd_j_disjunction(p, &n->a)); /* no inline if: "if" is the loop's */
    if (take_name(p, "if"))
        PD_TRY(pd_j_expression(p, &n->b));
    if (is_name(p, "recursive"))
        return fail(p, PD_UNSUPPORTED, "a recursive loop", PD_STR(""));
    PD_TRY(enclosed(p, &n->body, ends));
    if (take_name(p, "else"))
        PD_TRY(enclosed(p, &n->rest, last));
    PD_TRY(closing(p));
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
        PD_TRY(pd_j_expressions(p, &n->b));
        return end_of_tag(p);
    }
    PD_TRY(targets(p, n));
    if (take_op(p, "=")) {
        n->kind = PD_J_SET;
        PD_TRY(pd_j_expressions(p, &n->a));
        return end_of_tag(p);
    }
    n->kind = PD_J_SET_BLOCK;
    while (take_op(p, "|"))
        PD_TRY(pd_j_filter_of(p, &n->a));
    PD_TRY(enclosed(p, &n->body, ends));
    PD_TRY(closing(p));
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
            PD_TRY(pd_j_expression(p, &value));
        add_named(p, n, name, value);
        if (!is_op(p, ")"))
            PD_TRY(need_op(p, ","));
    }
    PD_TRY(enclosed(p, &n->body, ends));
    PD_TRY(closing(p));
out:
    return rc;
}

static enum pd_rc generation_block(struct parser *p, struct pd_j_node *n)
{
    static const char *const ends[] = {"endgeneration", NULL};
    enum pd_rc rc = PD_OK;
    n->kind = PD_J_BLOCK;
    PD_TRY(enclosed(p, &n->body, ends));
    PD_TRY(closing(p));
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
        return generation_block(p, n);
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
            PD_TRY(pd_j_expressions(p, &n->a));
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
