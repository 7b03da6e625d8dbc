/* The machine that a pickle drives: what is taken from the bytes, its stack, its values. */
#include "lm/pickle_int.h"

#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>

void pd_pk_bad(struct pd_pk_machine *m, enum pd_rc code, const char *fmt, ...)
{
    char what[300];
    va_list ap;
    if (m->rc != PD_OK)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    m->rc = PD_FAIL(m->err, code, "%s: pickle, byte %zu: %s", m->path, m->op_at, what);
}

const unsigned char *pd_pk_take(struct pd_pk_machine *m, size_t n)
{
    static const unsigned char none[8];
    if (m->rc == PD_OK && n > m->n - m->at)
        BAD(m, "cut off");
    if (m->rc != PD_OK)
        return none; /* no argument of fixed size is longer */
    m->at += n;
    return m->p + m->at - n;
}

uint64_t pd_pk_take_le(struct pd_pk_machine *m, int bytes)
{
    const unsigned char *p = pd_pk_take(m, (size_t)bytes);
    uint64_t v = 0;
    for (int i = bytes - 1; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

struct pd_str pd_pk_take_text(struct pd_pk_machine *m, int length_bytes)
{
    size_t n = (size_t)pd_pk_take_le(m, length_bytes);
    const unsigned char *p = pd_pk_take(m, n);
    return m->rc == PD_OK ? (struct pd_str){(const char *)p, n} : (struct pd_str){"", 0};
}

struct pd_str pd_pk_take_line(struct pd_pk_machine *m)
{
    const unsigned char *p = m->p + m->at;
    const unsigned char *end = memchr(p, '\n', m->n - m->at);
    if (!end) {
        BAD(m, "a line without end");
        return (struct pd_str){"", 0};
    }
    m->at += (size_t)(end - p) + 1;
    return (struct pd_str){(const char *)p, (size_t)(end - p)};
}

void pd_pk_grow(struct pd_pk_machine *m, struct pd_pk ***v, size_t n, size_t *cap)
{
    if (n < *cap)
        return;
    size_t more = *cap ? *cap * 2 : 16;
    struct pd_pk **grown = pd_try_realloc(*v, more, sizeof *grown);
    if (!grown) {
        pd_pk_bad(m, PD_NOMEM, "no memory");
        return;
    }
    *v = grown;
    *cap = more;
}

void pd_pk_push(struct pd_pk_machine *m, struct pd_pk *v)
{
    pd_pk_grow(m, &m->stack, m->depth, &m->stack_cap);
    if (m->rc == PD_OK)
        m->stack[m->depth++] = v;
}

static struct pd_pk *node(struct pd_pk_machine *m, enum pd_pk_kind kind)
{
    struct pd_pk *v = pd_arena_alloc(m->arena, sizeof *v);
    if (++m->n_nodes > PD_PK_MAX_NODES)
        pd_pk_bad(m, PD_TOOBIG, "more than %d values", (int)PD_PK_MAX_NODES);
    v->kind = kind;
    return v;
}

struct pd_pk *pd_pk_push_node(struct pd_pk_machine *m, enum pd_pk_kind kind)
{
    struct pd_pk *v = node(m, kind);
    pd_pk_push(m, v);
    return v;
}

void pd_pk_push_int(struct pd_pk_machine *m, enum pd_pk_kind kind, int64_t i)
{
    pd_pk_push_node(m, kind)->i = i;
}

struct pd_pk *pd_pk_pop(struct pd_pk_machine *m)
{
    if (m->rc == PD_OK && (m->depth == 0 || !m->stack[m->depth - 1]))
        BAD(m, "nothing on the stack to take");
    return m->rc == PD_OK ? m->stack[--m->depth] : NULL;
}

/* What lies above the last mark; the mark goes too. */
struct pd_pk **pd_pk_pop_mark(struct pd_pk_machine *m, size_t *n)
{
    size_t at = m->depth;
    while (at > 0 && m->stack[at - 1])
        at--;
    *n = 0;
    if (at == 0)
        BAD(m, "no mark on the stack");
    if (m->rc != PD_OK)
        return NULL;
    *n = m->depth - at;
    m->depth = at - 1;
    return m->stack + at;
}

/* Items are arrays in the arena that double: what they outgrow stays until the arena goes. */
void pd_pk_add_item(struct pd_pk_machine *m, struct pd_pk *to, struct pd_pk *item)
{
    if (to->n == to->cap) {
        size_t more = to->cap ? to->cap * 2 : 4;
        struct pd_pk **grown = pd_arena_alloc(m->arena, more * sizeof *grown);
        if (to->n)
            memcpy(grown, to->items, to->n * sizeof *grown);
        to->items = grown;
        to->cap = more;
    }
    to->items[to->n++] = item;
}

void pd_pk_push_with(struct pd_pk_machine *m, enum pd_pk_kind kind, struct pd_pk *const *items,
                     size_t n)
{
    struct pd_pk *v = node(m, kind);
    for (size_t i = 0; i < n && m->rc == PD_OK; i++)
        pd_pk_add_item(m, v, items[i]);
    pd_pk_push(m, v);
}
