/* Allocation. Small fixed sizes abort when memory is gone (pd_xalloc); sizes that come from input,
 * a file or a model are checked for overflow and may fail (pd_try_alloc -> NULL -> PD_NOMEM).
 * Everything passes through here so that tests can fail the Nth allocation. Any thread. */
#ifndef PD_BASE_MEM_H
#define PD_BASE_MEM_H

#include "base/err.h"
#include <stdint.h>

void *pd_xalloc(size_t n) __attribute__((malloc, returns_nonnull)); /* zeroed */
void *pd_xrealloc(void *p, size_t n) __attribute__((returns_nonnull));
char *pd_xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
char *pd_xstrndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull));
char *pd_xasprintf(const char *fmt, ...) PD_PRINTF(1, 2) __attribute__((returns_nonnull));

/* n * size bytes, zeroed; NULL when the product overflows or memory is gone. */
PD_CHECKED void *pd_try_alloc(size_t n, size_t size);
PD_CHECKED void *pd_try_realloc(void *p, size_t n, size_t size);
/* 64-byte aligned, n * size bytes, zeroed lazily by the kernel where large; release with
 * pd_aligned_free. */
PD_CHECKED void *pd_try_aligned(size_t n, size_t size);
void pd_aligned_free(void *p);
void pd_free(void *p); /* accepts NULL */

/* Memory for what lives as long as its owner: taken piece by piece, given back at once, and in
 * blocks so large that the system backs them with huge pages. A struct that is zero but for `most`
 * is ready; one thread at a time. */
struct pd_pool {
    size_t most; /* bytes that it may give */
    size_t given;
    struct pd_pool_block *block; /* private */
};
/* 64-byte aligned, contents undefined; NULL beyond `most` or when memory is gone. */
PD_CHECKED void *pd_pool_take(struct pd_pool *s, size_t bytes);
void pd_pool_release(struct pd_pool *s);

/* Tests: let the nth allocation from now fail (0 = the next); -1 switches off. pd_try_* only. */
void pd_mem_fail_after(long n);

#endif
