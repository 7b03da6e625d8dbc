#include "gen/same_text.h"
#include "base/mem.h"
#include "base/rng.h"

#include <ctype.h>
#include <stdlib.h>

/* A text as hashes of its words: runs of letters, digits and bytes beyond ASCII, lower case. */
struct words {
    uint64_t *hash;
    size_t n;
};

static struct words words_of(struct pd_str s)
{
    struct words w = {pd_xalloc((s.len / 2 + 2) * sizeof *w.hash), 0};
    uint64_t h = 0;
    for (size_t i = 0; i <= s.len; i++) {
        unsigned char c = i < s.len ? (unsigned char)s.ptr[i] : ' ';
        if (c >= 0x80 || isalnum(c)) {
            h = pd_rng_mix(h + 1, (uint64_t)tolower(c));
        } else if (h) {
            w.hash[w.n++] = h;
            h = 0;
        }
    }
    return w;
}

static bool equal(const struct words *a, const struct words *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->hash, b->hash, a->n * sizeof *a->hash) == 0);
}

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* Words become the sorted set of their triples, in place. */
static void to_triples(struct words *w)
{
    for (size_t i = 0; i + 2 < w->n; i++)
        w->hash[i] = pd_rng_mix(pd_rng_mix(w->hash[i], w->hash[i + 1]), w->hash[i + 2]);
    w->n = w->n < 2 ? 0 : w->n - 2;
    qsort(w->hash, w->n, sizeof *w->hash, by_value);
    size_t kept = 0;
    for (size_t i = 0; i < w->n; i++)
        if (i == 0 || w->hash[i] != w->hash[i - 1])
            w->hash[kept++] = w->hash[i];
    w->n = kept;
}

static size_t shared(const struct words *a, const struct words *b)
{
    size_t i = 0, j = 0, n = 0;
    while (i < a->n && j < b->n) {
        n += a->hash[i] == b->hash[j];
        uint64_t x = a->hash[i], y = b->hash[j];
        i += x <= y;
        j += y <= x;
    }
    return n;
}

bool pd_same_text(struct pd_str a, struct pd_str b)
{
    struct words x = words_of(a), y = words_of(b);
    bool same = equal(&x, &y);
    if (!same && x.n >= 10 && y.n >= 10) {
        to_triples(&x);
        to_triples(&y);
        size_t both = shared(&x, &y);
        same = 10 * both >= 9 * (x.n + y.n - both);
    }
    pd_free(x.hash);
    pd_free(y.hash);
    return same;
}
