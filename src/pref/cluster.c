/* Prompt clusters: equal texts (case, white space and punctuation aside), and near-duplicates by
 * MinHash with banding. Broder 1997; bands as in Leskovec, Rajaraman, Ullman, chapter 3: 16 bands
 * of 4 rows put two texts of Jaccard 0.8 in one band with probability 0.9998, and the estimate over
 * all 64 rows decides. */
#include "base/map.h"
#include "base/mem.h"
#include "base/rng.h"
#include "pref/snapshot.h"

#include <ctype.h>

enum { ROWS = 64, BANDS = 16, BAND_ROWS = ROWS / BANDS, GRAM = 5 };
static const double same_enough = 0.8;

struct sig {
    uint64_t row[ROWS];
};

/* Lower case; runs of white space and ASCII punctuation become one space. */
static void normalise(struct pd_str s, struct pd_buf *out)
{
    pd_buf_clear(out);
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c >= 0x80 || isalnum(c))
            pd_buf_addc(out, (char)tolower(c));
        else if (out->len && out->ptr[out->len - 1] != ' ')
            pd_buf_addc(out, ' ');
    }
    while (out->len && out->ptr[out->len - 1] == ' ')
        out->len--;
}

static uint64_t hash_bytes(const char *p, size_t n)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)p[i]) * 1099511628211u;
    return h;
}

static void add_gram(struct sig *sig, const char *p, size_t n)
{
    uint64_t h = hash_bytes(p, n);
    for (size_t r = 0; r < ROWS; r++) {
        uint64_t x = pd_rng_mix(h, r);
        sig->row[r] = x < sig->row[r] ? x : sig->row[r];
    }
}

/* Word 5-grams of a normalised text; a shorter text is one gram. */
static void signature(struct pd_str s, struct sig *sig)
{
    size_t start[GRAM], words = 0;
    bool in_word = false;
    for (size_t r = 0; r < ROWS; r++)
        sig->row[r] = UINT64_MAX;
    for (size_t i = 0; i <= s.len; i++) {
        bool letter = i < s.len && s.ptr[i] != ' ';
        if (letter && !in_word)
            start[words++ % GRAM] = i;
        if (!letter && in_word && words >= GRAM) /* the word that ends here closes a gram */
            add_gram(sig, s.ptr + start[words % GRAM], i - start[words % GRAM]);
        in_word = letter;
    }
    if (words < GRAM)
        add_gram(sig, s.len ? s.ptr : "", s.len);
}

static double similarity(const struct sig *a, const struct sig *b)
{
    int same = 0;
    for (size_t r = 0; r < ROWS; r++)
        same += a->row[r] == b->row[r];
    return (double)same / ROWS;
}

static size_t root_of(size_t *parent, size_t i)
{
    while (parent[i] != i)
        i = parent[i] = parent[parent[i]];
    return i;
}

static void join(size_t *parent, size_t a, size_t b)
{
    a = root_of(parent, a);
    b = root_of(parent, b);
    if (a < b)
        parent[b] = a;
    else
        parent[a] = b;
}

/* Joins i with the first text that shared each of its bands, when they are alike enough. */
static void join_bands(struct pd_map *bands, const struct sig *sigs, size_t i, size_t *parent)
{
    for (uint64_t band = 0; band < BANDS; band++) {
        uint64_t key[BAND_ROWS + 1];
        struct pd_str k = {(const char *)key, sizeof key};
        int64_t first = 0;
        key[0] = band;
        memcpy(key + 1, sigs[i].row + band * BAND_ROWS, BAND_ROWS * sizeof *key);
        if (!pd_map_get(bands, k, &first))
            pd_map_put(bands, k, (int64_t)i);
        else if (similarity(&sigs[first], &sigs[i]) >= same_enough)
            join(parent, (size_t)first, i);
    }
}

void pd_prompt_clusters(const struct pd_str *prompts, size_t n, size_t *cluster)
{
    struct pd_map exact, bands;
    struct pd_buf text;
    struct sig *sigs = pd_xalloc((n + 1) * sizeof *sigs);
    pd_map_init(&exact);
    pd_map_init(&bands);
    pd_buf_init(&text, 0);
    for (size_t i = 0; i < n; i++)
        cluster[i] = i;
    for (size_t i = 0; i < n; i++) {
        int64_t first = 0;
        normalise(prompts[i], &text);
        if (pd_map_get(&exact, pd_buf_str(&text), &first)) {
            join(cluster, (size_t)first, i);
            continue;
        }
        pd_map_put(&exact, pd_buf_str(&text), (int64_t)i);
        signature(pd_buf_str(&text), &sigs[i]);
        join_bands(&bands, sigs, i, cluster);
    }
    for (size_t i = 0; i < n; i++)
        cluster[i] = root_of(cluster, i);
    pd_buf_release(&text);
    pd_map_release(&bands);
    pd_map_release(&exact);
    pd_free(sigs);
}
