#include "gen/same_text.h"
#include "base/mem.h"
#include "base/rng.h"

#include <ctype.h>
#include <stdlib.h>

enum { MIN_WORDS = 10 }; /* of texts that can be nearly the same */

struct hashes {
    uint64_t *v;
    size_t n;
};

struct text {
    struct hashes words;   /* in the order of the text */
    struct hashes triples; /* of neighbouring words: a sorted set; none of a short text */
    int64_t group;
    size_t seen_by; /* the last text that was compared with it */
};

/* A key and who has it; those of one slot are a list. */
struct post {
    uint64_t key;
    size_t text, next; /* indexes; next + 1, 0 = the last one */
};

struct pd_texts {
    struct text *v;
    struct post *posts;
    size_t *slots; /* the first post + 1, 0 = none; a power of two of them */
    size_t n, cap, n_posts, cap_posts, n_slots;
};

/* ---- a text as numbers ---- */

/* Runs of letters, digits and bytes beyond ASCII, in lower case. */
static struct hashes words_of(struct pd_str s)
{
    struct hashes w = {pd_xalloc((s.len / 2 + 2) * sizeof *w.v), 0};
    uint64_t h = 0;
    for (size_t i = 0; i <= s.len; i++) {
        unsigned char c = i < s.len ? (unsigned char)s.ptr[i] : ' ';
        if (c >= 0x80 || isalnum(c)) {
            h = pd_rng_mix(h + 1, (uint64_t)tolower(c));
        } else if (h) {
            w.v[w.n++] = h;
            h = 0;
        }
    }
    w.v = pd_xrealloc(w.v, (w.n + 1) * sizeof *w.v);
    return w;
}

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static struct hashes triples_of(const struct hashes *words)
{
    struct hashes t = {0};
    if (words->n < MIN_WORDS)
        return t;
    size_t n = words->n - 2;
    t.v = pd_xalloc(n * sizeof *t.v);
    for (size_t i = 0; i < n; i++)
        t.v[i] = pd_rng_mix(pd_rng_mix(words->v[i], words->v[i + 1]), words->v[i + 2]);
    qsort(t.v, n, sizeof *t.v, by_value);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || t.v[i] != t.v[i - 1])
            t.v[t.n++] = t.v[i];
    return t;
}

/* ---- two of them ---- */

static size_t shared(const struct hashes *a, const struct hashes *b)
{
    size_t i = 0, j = 0, n = 0;
    while (i < a->n && j < b->n) {
        uint64_t x = a->v[i], y = b->v[j];
        n += x == y;
        i += x <= y;
        j += y <= x;
    }
    return n;
}

static bool same(const struct text *a, const struct text *b)
{
    const struct hashes *x = &a->words, *y = &b->words;
    if (x->n == y->n && memcmp(x->v, y->v, x->n * sizeof *x->v) == 0)
        return true;
    if (a->triples.n == 0 || b->triples.n == 0)
        return false;
    size_t both = shared(&a->triples, &b->triples);
    return 10 * both >= 9 * (a->triples.n + b->triples.n - both);
}

/* ---- many ---- */

struct pd_texts *pd_texts_new(void)
{
    return pd_xalloc(sizeof(struct pd_texts));
}

void pd_texts_free(struct pd_texts *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->n; i++) {
        pd_free(t->v[i].words.v);
        pd_free(t->v[i].triples.v);
    }
    pd_free(t->v);
    pd_free(t->posts);
    pd_free(t->slots);
    pd_free(t);
}

static void link_post(struct pd_texts *t, size_t i)
{
    size_t *slot = &t->slots[t->posts[i].key & (t->n_slots - 1)];
    t->posts[i].next = *slot;
    *slot = i + 1;
}

static void grow(struct pd_texts *t)
{
    t->cap_posts = t->cap_posts ? 2 * t->cap_posts : 64;
    t->posts = pd_xrealloc(t->posts, t->cap_posts * sizeof *t->posts);
    pd_free(t->slots);
    t->n_slots = t->cap_posts;
    t->slots = pd_xalloc(t->n_slots * sizeof *t->slots);
    for (size_t i = 0; i < t->n_posts; i++)
        link_post(t, i);
}

/* Whether text x repeats one that has this key. */
static bool look_up(struct pd_texts *t, size_t x, uint64_t key)
{
    if (t->n_slots == 0)
        return false;
    for (size_t i = t->slots[key & (t->n_slots - 1)]; i; i = t->posts[i - 1].next) {
        struct text *y = &t->v[t->posts[i - 1].text];
        if (t->posts[i - 1].key != key || y->group == t->v[x].group || y->seen_by == x)
            continue;
        y->seen_by = x;
        if (same(&t->v[x], y))
            return true;
    }
    return false;
}

static void post(struct pd_texts *t, size_t x, uint64_t key)
{
    if (t->n_posts == t->cap_posts)
        grow(t);
    t->posts[t->n_posts] = (struct post){.key = key, .text = x};
    link_post(t, t->n_posts++);
}

/* All words as one number. */
static uint64_t whole(const struct hashes *words)
{
    uint64_t h = words->n;
    for (size_t i = 0; i < words->n; i++)
        h = pd_rng_mix(h, words->v[i]);
    return h;
}

bool pd_texts_add(struct pd_texts *t, struct pd_str s, int64_t group)
{
    if (t->n == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 16;
        t->v = pd_xrealloc(t->v, t->cap * sizeof *t->v);
    }
    size_t x = t->n++;
    struct text *text = &t->v[x];
    *text = (struct text){.words = words_of(s), .group = group, .seen_by = x};
    text->triples = triples_of(&text->words);
    /* a set of m shares at least 9/10 of it with its like: not all of that can lie behind these */
    size_t m = text->triples.n, first = m ? m - (9 * m + 9) / 10 + 1 : 0;
    uint64_t all = whole(&text->words);
    bool repeats = look_up(t, x, all);
    for (size_t i = 0; i < first && !repeats; i++)
        repeats = look_up(t, x, text->triples.v[i]);
    post(t, x, all);
    for (size_t i = 0; i < first; i++)
        post(t, x, text->triples.v[i]);
    return repeats;
}
