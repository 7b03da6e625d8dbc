#include "base/arena.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct pd_arena_block {
    struct pd_arena_block *next;
    size_t used, size;
    _Alignas(16) char bytes[];
};

struct pd_arena_defer {
    struct pd_arena_defer *next;
    void (*fn)(void *);
    void *data;
};

enum { BLOCK_BYTES = 8192 };

void pd_arena_init(struct pd_arena *a)
{
    memset(a, 0, sizeof *a);
}

void pd_arena_release(struct pd_arena *a)
{
    for (struct pd_arena_defer *d = a->defers; d; d = d->next)
        d->fn(d->data);
    for (struct pd_arena_block *b = a->head, *next; b; b = next) {
        next = b->next;
        pd_free(b);
    }
    pd_arena_init(a);
}

void *pd_arena_alloc(struct pd_arena *a, size_t n)
{
    n = (n + 15) & ~(size_t)15;
    struct pd_arena_block *b = a->head;
    if (!b || b->size - b->used < n) {
        size_t size = n > BLOCK_BYTES / 4 ? n : BLOCK_BYTES;
        b = pd_xalloc(sizeof *b + size);
        b->size = size;
        /* A large block goes behind the head so that the head's free space stays in use. */
        if (a->head && size == n) {
            b->next = a->head->next;
            a->head->next = b;
        } else {
            b->next = a->head;
            a->head = b;
        }
    }
    void *p = b->bytes + b->used;
    b->used += n;
    a->used_bytes += n;
    return p;
}

char *pd_arena_strndup(struct pd_arena *a, const char *s, size_t n)
{
    char *p = pd_arena_alloc(a, n + 1);
    memcpy(p, s, n);
    return p;
}

char *pd_arena_strdup(struct pd_arena *a, const char *s)
{
    return pd_arena_strndup(a, s, strlen(s));
}

char *pd_arena_printf(struct pd_arena *a, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = pd_arena_alloc(a, n < 0 ? 1 : (size_t)n + 1);
    if (n > 0)
        vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return p;
}

void pd_arena_defer(struct pd_arena *a, void (*fn)(void *), void *data)
{
    struct pd_arena_defer *d = pd_arena_alloc(a, sizeof *d);
    d->fn = fn;
    d->data = data;
    d->next = a->defers;
    a->defers = d;
}
