/* Arena: many small allocations, one release. One per request, job, parse or command; never shared
 * between threads. Nothing taken from it is freed alone. Cleanups registered with pd_arena_defer
 * run in reverse order at release, so a straight-line handler cannot leak. */
#ifndef PD_BASE_ARENA_H
#define PD_BASE_ARENA_H

#include "base/err.h"

struct pd_arena {
    struct pd_arena_block *head;
    struct pd_arena_defer *defers;
    size_t used_bytes;
};

void pd_arena_init(struct pd_arena *a);
void pd_arena_release(struct pd_arena *a); /* runs the deferred calls, frees all */
void *pd_arena_alloc(struct pd_arena *a, size_t n) __attribute__((returns_nonnull)); /* zeroed */
char *pd_arena_strdup(struct pd_arena *a, const char *s);
char *pd_arena_strndup(struct pd_arena *a, const char *s, size_t n);
char *pd_arena_printf(struct pd_arena *a, const char *fmt, ...) PD_PRINTF(2, 3);
void pd_arena_defer(struct pd_arena *a, void (*fn)(void *), void *data);

#endif
