/* Statements to text. */
#include "lm/jinja_int.h"

/* What running statements can end in, beside going on. */
enum flow { GO_ON, BREAK, CONTINUE };

static enum pd_rc body(struct pd_j_run *r, const struct pd_j_body *b, struct pd_j_out *o,
                       enum flow *flow);

static enum pd_rc run_for(struct pd_j_run *r, const struct pd_j_node *n, struct pd_j_out *o)
{
    enum pd_rc rc = PD_OK;
    struct pd_j_frame *outside = r->frame;
    struct pd_j_val v, kept, loop_val;
    struct pd_j_list *items = NULL;
    enum flow flow = GO_ON;
    PD_TRY(pd_j_eval(r, n->a, &v));
    PD_TRY(pd_j_iterate(r, &v, &items));
    PD_TRY(pd_j_list_new(r, &kept));
    for (size_t i = 0; n->b && i < items->n; i++) {
        PD_TRY(pd_j_push_frame(r, outside));
        PD_TRY(pd_j_assign(r, n, &items->v[i]));
        PD_TRY(pd_j_eval(r, n->b, &v));
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
        PD_TRY(pd_j_push_frame(r, outside));
        PD_TRY(pd_j_set_name(r, PD_STR("loop"), loop_val));
        PD_TRY(pd_j_assign(r, n, &items->v[i]));
        PD_TRY(body(r, &n->body, o, &flow));
    }
    r->frame = outside;
    flow = GO_ON;
    if (items->n == 0)
        PD_TRY(body(r, &n->rest, o, &flow));
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
        PD_TRY(pd_j_eval(r, n->b, &v));
        struct pd_j_val *ns = pd_j_look_up(r, n->a->name);
        if (!ns || ns->type != PD_J_T_NAMESPACE)
            return pd_j_fail(r, PD_INVALID, "%.*s is not a namespace", PD_STR_ARG(n->a->name));
        return pd_j_map_put(r, ns->u.map, (struct pd_j_str){.s = n->name}, v);
    }
    if (n->kind == PD_J_SET) {
        PD_TRY(pd_j_eval(r, n->a, &v));
    } else {
        PD_TRY(body(r, &n->body, &text, &flow));
        v = pd_j_out_val(&text);
        for (const struct pd_j_node *f = n->a; f; f = f->a) {
            if (f->a)
                return pd_j_fail(r, PD_UNSUPPORTED, "more than one filter on a set block");
            PD_TRY(pd_j_apply(r, f, v, &v));
        }
    }
    PD_TRY(pd_j_assign(r, n, &v));
out:
    return rc;
}

static enum pd_rc run_macro(struct pd_j_run *r, const struct pd_j_node *n)
{
    struct pd_j_macro *m = pd_j_alloc(r, sizeof *m);
    if (!m)
        return PD_TOOBIG;
    *m = (struct pd_j_macro){n, r->frame};
    return pd_j_set_name(r, n->name, (struct pd_j_val){.type = PD_J_T_MACRO, .u.macro = m});
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
        PD_TRY(pd_j_eval(r, n->a, &v));
        return pd_j_print(r, o, &v);
    case PD_J_IF:
        PD_TRY(pd_j_eval(r, n->a, &v));
        return body(r, pd_j_truth(&v) ? &n->body : &n->rest, o, flow);
    case PD_J_FOR:
        return run_for(r, n, o);
    case PD_J_MACRO:
        return run_macro(r, n);
    case PD_J_BLOCK:
        return body(r, &n->body, o, flow);
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

static enum pd_rc body(struct pd_j_run *r, const struct pd_j_body *b, struct pd_j_out *o,
                       enum flow *flow)
{
    enum pd_rc rc = PD_OK;
    *flow = GO_ON;
    PD_TRY(pd_j_deeper(r));
    for (size_t i = 0; i < b->n && *flow == GO_ON; i++)
        PD_TRY(run(r, b->v[i], o, flow));
out:
    r->depth--;
    return rc;
}

enum pd_rc pd_j_run_body(struct pd_j_run *r, const struct pd_j_body *b, struct pd_j_out *o)
{
    enum flow flow = GO_ON;
    return body(r, b, o, &flow);
}

enum pd_rc pd_j_call_macro(struct pd_j_run *r, const struct pd_j_macro *m, struct pd_j_args *args,
                           struct pd_j_val *out)
{
    enum pd_rc rc = PD_OK;
    const struct pd_j_node *n = m->node;
    struct pd_j_frame *caller = r->frame;
    struct pd_j_out text = {0};
    if (args->n > n->n_named)
        return pd_j_fail(r, PD_INVALID, "macro %.*s takes %zu arguments, not %zu",
                         PD_STR_ARG(n->name), n->n_named, args->n);
    PD_TRY(pd_j_push_frame(r, m->home));
    for (size_t i = 0; i < n->n_named; i++) {
        struct pd_j_val v = pd_j_undefined("a parameter that was not given");
        const struct pd_j_val *named = pd_j_map_get(&args->named, n->named[i].name);
        if (i < args->n)
            v = args->v[i];
        else if (named)
            v = *named;
        else if (n->named[i].value)
            PD_TRY(pd_j_eval(r, n->named[i].value, &v));
        PD_TRY(pd_j_set_name(r, n->named[i].name, v));
    }
    PD_TRY(pd_j_run_body(r, &n->body, &text));
    *out = pd_j_out_val(&text);
out:
    r->frame = caller;
    return rc;
}
