/* Compiling and rendering: the ways in. */
#include "lm/jinja.h"

#include "base/mem.h"
#include "lm/jinja_int.h"

struct pd_jinja {
    struct pd_arena arena;
    struct pd_j_body body;
};

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
    pd_arena_init(&r.arena);
    PD_TRY(pd_j_push_frame(&r, NULL));
    for (size_t i = 0; i < n_vars; i++) {
        PD_TRY(pd_j_from_json(&r, vars[i].value, vars[i].trusted, 0, &v));
        PD_TRY(pd_j_set_name(&r, pd_str_from(vars[i].name), v));
    }
    PD_TRY(pd_j_push_frame(&r, r.frame)); /* what the template sets */
    PD_TRY(pd_j_run_body(&r, &j->body, &o));
    emit_runs(&o, emit, ctx);
out:
    pd_arena_release(&r.arena);
    return rc;
}
