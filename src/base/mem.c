#include "base/mem.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* -1 = never; counts down to the allocation that fails. */
static _Atomic long fail_after = -1;

static bool must_fail(void)
{
    long left = atomic_load_explicit(&fail_after, memory_order_relaxed);
    if (left < 0)
        return false;
    return atomic_fetch_sub(&fail_after, 1) == 0;
}

void pd_mem_fail_after(long n)
{
    atomic_store(&fail_after, n);
}

static _Noreturn void out_of_memory(size_t n)
{
    fprintf(stderr, "podium: out of memory (%zu bytes)\n", n);
    abort();
}

void *pd_xalloc(size_t n)
{
    void *p = calloc(1, n ? n : 1);
    if (!p)
        out_of_memory(n);
    return p;
}

void *pd_xrealloc(void *p, size_t n)
{
    void *q = realloc(p, n ? n : 1);
    if (!q)
        out_of_memory(n);
    return q;
}

char *pd_xstrdup(const char *s)
{
    return pd_xstrndup(s, strlen(s));
}

char *pd_xstrndup(const char *s, size_t n)
{
    char *p = pd_xalloc(n + 1);
    memcpy(p, s, n);
    return p;
}

char *pd_xasprintf(const char *fmt, ...)
{
    char *p = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&p, fmt, ap);
    va_end(ap);
    if (n < 0 || !p)
        out_of_memory(0);
    return p;
}

void *pd_try_alloc(size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes) || must_fail())
        return NULL;
    return calloc(1, bytes ? bytes : 1);
}

void *pd_try_realloc(void *p, size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes) || must_fail())
        return NULL;
    return realloc(p, bytes ? bytes : 1);
}

void *pd_try_aligned(size_t n, size_t size)
{
    size_t bytes, rounded;
    if (__builtin_mul_overflow(n, size, &bytes) || __builtin_add_overflow(bytes, 63, &rounded) ||
        must_fail())
        return NULL;
    rounded &= ~(size_t)63;
    /* calloc gives large blocks as untouched zero pages, so a slab costs nothing until used. */
    char *base;
    if (__builtin_add_overflow(rounded, 128, &bytes) || !(base = calloc(1, bytes)))
        return NULL;
    /* Large slabs in huge pages where the system grants them: fewer page faults and page walks. */
    const uintptr_t huge = (uintptr_t)2 << 20;
    const uintptr_t from = ((uintptr_t)base + huge - 1) & ~(huge - 1);
    const uintptr_t to = ((uintptr_t)base + bytes) & ~(huge - 1);
    if (bytes >= 4 * huge && to > from)
        (void)madvise((void *)from, to - from, MADV_HUGEPAGE);
    char *p = (char *)(((uintptr_t)base + 64 + 63) & ~(uintptr_t)63);
    memcpy(p - sizeof base, &base, sizeof base);
    return p;
}

void pd_aligned_free(void *p)
{
    if (!p)
        return;
    char *base;
    memcpy(&base, (char *)p - sizeof base, sizeof base);
    free(base);
}

struct pd_pool_block {
    struct pd_pool_block *next;
    char *mem;
    size_t size, used;
};

void *pd_pool_take(struct pd_pool *s, size_t bytes)
{
    enum { BLOCK = 256 << 20 };
    size_t n;
    if (__builtin_add_overflow(bytes, 63, &n) || (n &= ~(size_t)63) > s->most - s->given)
        return NULL;
    struct pd_pool_block *b = s->block;
    if (!b || b->size - b->used < n) {
        const bool alone = n > BLOCK / 2; /* then what is left of the newest block stays in use */
        const size_t size = alone ? n : BLOCK; /* what is not used is never touched */
        char *mem = pd_try_aligned(size, 1);
        if (!mem)
            return NULL;
        struct pd_pool_block **at = alone && b ? &b->next : &s->block;
        b = pd_xalloc(sizeof *b);
        *b = (struct pd_pool_block){*at, mem, size, 0};
        *at = b;
    }
    void *p = b->mem + b->used;
    b->used += n;
    s->given += n;
    return p;
}

void pd_pool_release(struct pd_pool *s)
{
    for (struct pd_pool_block *b = s->block, *next; b; b = next) {
        next = b->next;
        pd_aligned_free(b->mem);
        pd_free(b);
    }
    *s = (struct pd_pool){.most = s->most};
}

void pd_free(void *p)
{
    free(p);
}
