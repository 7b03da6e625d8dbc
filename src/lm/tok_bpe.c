/* Byte-pair merging by rank.
 *
 * Texts and pairs are found by open addressing. A short word is merged by looking for the lowest
 * rank over and over; a long one through a heap of (rank, position), so that a megabyte of one
 * letter costs n log n. Both take the leftmost of equal ranks, as Hugging Face's merge does. */
#include "lm/tok_int.h"

#include <stdlib.h>

enum { SHORT_WORD = 40 };

static uint64_t mix(uint64_t h)
{
    h ^= h >> 32;
    h *= 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

static uint64_t load8(const char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint64_t load4(const char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* The last step reads bytes twice rather than one at a time. */
static uint64_t hash_str(struct pd_str s)
{
    uint64_t h = s.len * 0x9e3779b97f4a7c15u, v = 0;
    for (size_t i = 0; i + 8 < s.len; i += 8)
        h = mix(h ^ load8(s.ptr + i));
    if (s.len >= 8)
        v = load8(s.ptr + s.len - 8);
    else if (s.len >= 4)
        v = load4(s.ptr) << 32 | load4(s.ptr + s.len - 4);
    else if (s.len > 0)
        v = (uint64_t)(unsigned char)s.ptr[0] << 16 |
            (uint64_t)(unsigned char)s.ptr[s.len / 2] << 8 | (unsigned char)s.ptr[s.len - 1];
    return mix(mix(h ^ v));
}

static bool same_bytes(const char *a, const char *b, size_t n)
{
    if (n < 8)
        return n >= 4 ? load4(a) == load4(b) && load4(a + n - 4) == load4(b + n - 4)
                      : n == 0 || (a[0] == b[0] && a[n / 2] == b[n / 2] && a[n - 1] == b[n - 1]);
    for (size_t i = 0; i + 8 < n; i += 8)
        if (load8(a + i) != load8(b + i))
            return false;
    return load8(a + n - 8) == load8(b + n - 8);
}

static size_t power_of_two(size_t n)
{
    size_t p = 16;
    while (p < n)
        p *= 2;
    return p;
}

/* ---- glyphs: bytes 33-126, 161-172, 174-255 are themselves, the other 68 are 256, 257, ... ----
 */

static unsigned glyph_of(unsigned byte)
{
    if (byte < 33)
        return 256 + byte;
    if (byte >= 127 && byte < 161)
        return 289 + byte - 127;
    return byte == 173 ? 323 : byte;
}

/* -1: no byte has this glyph. */
static int byte_of(unsigned glyph)
{
    if (glyph < 256)
        return glyph_of(glyph) == glyph ? (int)glyph : -1;
    if (glyph < 289)
        return (int)glyph - 256;
    if (glyph < 323)
        return (int)glyph - 289 + 127;
    return glyph == 323 ? 173 : -1;
}

/* The glyph form of bytes, as vocabularies spell them; dst has room for twice as many. */
static size_t glyphs_of(struct pd_str bytes, char *dst)
{
    size_t n = 0;
    for (size_t i = 0; i < bytes.len; i++) {
        unsigned g = glyph_of((unsigned char)bytes.ptr[i]);
        if (g >= 0x80)
            dst[n++] = (char)(0xc0 | g >> 6);
        dst[n++] = (char)(g < 0x80 ? g : 0x80 | (g & 0x3f));
    }
    return n;
}

/* When one character is no glyph, the text as it is (as the ByteLevel decoder does). */
size_t pd_bpe_unglyph(struct pd_str text, char *dst)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len;) {
        unsigned c = (unsigned char)text.ptr[i++];
        if (c >= 0xc0 && c < 0xe0 && i < text.len)
            c = (c & 0x1f) << 6 | ((unsigned char)text.ptr[i++] & 0x3f);
        else if (c >= 0x80)
            c = 0x10ffff;
        int byte = byte_of(c);
        if (byte < 0) {
            memcpy(dst, text.ptr, text.len);
            return text.len;
        }
        dst[n++] = (char)byte;
    }
    return n;
}

/* ---- building ---- */

enum pd_rc pd_bpe_init(struct pd_bpe *b, size_t n_ids, struct pd_err *err)
{
    memset(b, 0, sizeof *b);
    if (n_ids > 1 << 24)
        return PD_FAIL(err, PD_INVALID, "a vocabulary of %zu tokens", n_ids);
    b->n_ids = (int32_t)n_ids;
    b->unk = -1;
    b->longest = 1;
    b->n_slots = power_of_two(n_ids * 2);
    b->text = pd_try_alloc(n_ids + 1, sizeof *b->text);
    b->bytes = pd_try_alloc(n_ids + 1, sizeof *b->bytes);
    b->slots = pd_try_alloc(b->n_slots, sizeof *b->slots);
    b->tags = pd_try_alloc(b->n_slots, sizeof *b->tags);
    b->beyond = pd_try_alloc(n_ids + 1, sizeof *b->beyond);
    b->control = pd_try_alloc(n_ids + 1, sizeof *b->control);
    if (!b->text || !b->bytes || !b->slots || !b->tags || !b->beyond || !b->control)
        return PD_FAIL(err, PD_NOMEM, "no memory for a vocabulary of %zu tokens", n_ids);
    return PD_OK;
}

void pd_bpe_release(struct pd_bpe *b)
{
    pd_free(b->text);
    pd_free(b->bytes);
    pd_free(b->slots);
    pd_free(b->tags);
    pd_free(b->slab);
    pd_free(b->beyond);
    pd_free(b->control);
    pd_free(b->merges);
    pd_free(b->maybe);
    pd_free(b->apart);
    memset(b, 0, sizeof *b);
}

static size_t slot_of(const struct pd_bpe *b, struct pd_str text, uint64_t hash)
{
    size_t i = hash & (b->n_slots - 1);
    uint32_t tag = (uint32_t)(hash >> 32);
    while (b->slots[i] && !(b->tags[i] == tag && pd_str_eq(b->text[b->slots[i] - 1], text)))
        i = (i + 1) & (b->n_slots - 1);
    return i;
}

enum pd_rc pd_bpe_add(struct pd_bpe *b, struct pd_str text, int32_t id, struct pd_err *err)
{
    if (id < 0 || id >= b->n_ids)
        return PD_FAIL(err, PD_INVALID, "token \"%.*s\": id %d is outside 0..%d", PD_STR_ARG(text),
                       id, b->n_ids - 1);
    if (b->text[id].ptr)
        return PD_FAIL(err, PD_INVALID, "id %d belongs to both \"%.*s\" and \"%.*s\"", id,
                       PD_STR_ARG(b->text[id]), PD_STR_ARG(text));
    uint64_t hash = hash_str(text);
    size_t i = slot_of(b, text, hash);
    if (b->slots[i])
        return PD_FAIL(err, PD_INVALID, "token \"%.*s\" stands twice, as %u and %d",
                       PD_STR_ARG(text), b->slots[i] - 1, id);
    b->slots[i] = (uint32_t)id + 1;
    b->tags[i] = (uint32_t)(hash >> 32);
    b->text[id] = text;
    b->n_tokens++;
    b->longest = text.len > b->longest ? text.len : b->longest;
    return PD_OK;
}

int32_t pd_bpe_id(const struct pd_bpe *b, struct pd_str text)
{
    if (b->n_slots == 0)
        return -1;
    return (int32_t)b->slots[slot_of(b, text, hash_str(text))] - 1;
}

int32_t pd_bpe_model_id(const struct pd_bpe *b, struct pd_str text)
{
    int32_t id = pd_bpe_id(b, text);
    return id >= 0 && b->beyond[id] ? -1 : id;
}

static uint64_t hash_pair(uint32_t left, uint32_t right)
{
    return mix((uint64_t)left << 32 | right);
}

static struct pd_merge *merge_slot(const struct pd_bpe *b, uint32_t left, uint32_t right)
{
    size_t i = hash_pair(left, right) & (b->n_merge_slots - 1);
    while (b->merges[i].left != UINT32_MAX &&
           !(b->merges[i].left == left && b->merges[i].right == right))
        i = (i + 1) & (b->n_merge_slots - 1);
    return &b->merges[i];
}

/* Most pairs of neighbours are no merge. A bit for each hash says so from a table of an eighth of
 * the size, which stays in cache. */
static size_t maybe_bit(const struct pd_bpe *b, uint64_t hash)
{
    return (hash >> 24) & (b->n_maybe - 1);
}

enum pd_rc pd_bpe_reserve_merges(struct pd_bpe *b, size_t n, struct pd_err *err)
{
    if (n > 1 << 24)
        return PD_FAIL(err, PD_INVALID, "%zu merges", n);
    b->n_merge_slots = power_of_two(n * 2);
    b->n_maybe = power_of_two(n * 8) * 2;
    b->merges = pd_try_alloc(b->n_merge_slots, sizeof *b->merges);
    b->maybe = pd_try_alloc(b->n_maybe / 8, 1);
    if (!b->merges || !b->maybe)
        return PD_FAIL(err, PD_NOMEM, "no memory for %zu merges", n);
    memset(b->merges, 0xff, b->n_merge_slots * sizeof *b->merges);
    return PD_OK;
}

void pd_bpe_put_merge(struct pd_bpe *b, struct pd_merge merge)
{
    struct pd_merge *m = merge_slot(b, merge.left, merge.right);
    size_t bit = maybe_bit(b, hash_pair(merge.left, merge.right));
    b->n_merges += m->left == UINT32_MAX;
    *m = merge;
    b->maybe[bit / 8] |= (uint8_t)(1u << bit % 8);
}

enum pd_rc pd_bpe_add_merge(struct pd_bpe *b, struct pd_str left, struct pd_str right,
                            uint32_t rank, struct pd_err *err)
{
    char buf[512], *joined = buf;
    struct pd_str both = {buf, left.len + right.len};
    int32_t l = pd_bpe_id(b, left), r = pd_bpe_id(b, right);
    if (both.len > sizeof buf)
        both.ptr = joined = pd_xalloc(both.len);
    if (left.len)
        memcpy(joined, left.ptr, left.len);
    if (right.len)
        memcpy(joined + left.len, right.ptr, right.len);
    int32_t id = pd_bpe_id(b, both);
    if (joined != buf)
        pd_free(joined);
    if (l < 0 || r < 0 || id < 0)
        return PD_FAIL(err, PD_INVALID,
                       "merge %u (\"%.*s\" + \"%.*s\"): one of them, or what they make, is not in "
                       "the vocabulary",
                       rank, PD_STR_ARG(left), PD_STR_ARG(right));
    pd_bpe_put_merge(b, (struct pd_merge){(uint32_t)l, (uint32_t)r, rank, (uint32_t)id});
    return PD_OK;
}

static int by_rank(const void *a, const void *b)
{
    const struct pd_merge *x = a, *y = b;
    return (x->rank > y->rank) - (x->rank < y->rank);
}

struct pd_merge *pd_bpe_ranked_merges(const struct pd_bpe *b, struct pd_err *err)
{
    struct pd_merge *list = pd_try_alloc(b->n_merges + 1, sizeof *list);
    size_t n = 0;
    if (!list) {
        (void)PD_FAIL(err, PD_NOMEM, "no memory for %zu merges", b->n_merges);
        return NULL;
    }
    for (size_t i = 0; i < b->n_merge_slots; i++)
        if (b->merges[i].left != UINT32_MAX)
            list[n++] = b->merges[i];
    qsort(list, n, sizeof *list, by_rank);
    return list;
}

enum pd_rc pd_bpe_finish(struct pd_bpe *b, struct pd_err *err)
{
    size_t total = 0, at = 0;
    for (int32_t i = 0; i < b->n_ids; i++)
        total += b->text[i].len;
    b->slab = pd_try_alloc(total + 1, 1);
    if (!b->slab)
        return PD_FAIL(err, PD_NOMEM, "no memory for %zu bytes of tokens", total);
    for (int32_t i = 0; i < b->n_ids; i++) {
        if (!b->text[i].ptr)
            continue;
        b->bytes[i] = (struct pd_str){b->slab + at, pd_bpe_unglyph(b->text[i], b->slab + at)};
        at += b->text[i].len;
    }
    for (unsigned c = 0; c < 256; c++) {
        char byte = (char)c, glyph[2];
        size_t n = glyphs_of((struct pd_str){&byte, 1}, glyph);
        b->byte_id[c] = pd_bpe_model_id(b, (struct pd_str){glyph, n});
    }
    if (!b->merges)
        return pd_bpe_reserve_merges(b, 0, err);
    return PD_OK;
}

void pd_bpe_note_controls(struct pd_bpe *b)
{
    b->merges_control = false;
    for (size_t i = 0; i < b->n_merge_slots; i++)
        if (b->merges[i].left != UINT32_MAX && b->control[b->merges[i].id])
            b->merges_control = true;
}

/* ---- merging ---- */

/* What becomes of two neighbours; its rank is UINT32_MAX when they stay apart. Without `controls`
 * no control token is made. */
static const struct pd_merge *merge_of(const struct pd_bpe *b, uint32_t left, uint32_t right,
                                       bool controls)
{
    static const struct pd_merge none = {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX};
    size_t bit = maybe_bit(b, hash_pair(left, right));
    if (!(b->maybe[bit / 8] >> bit % 8 & 1))
        return &none;
    const struct pd_merge *m = merge_slot(b, left, right);
    return !controls && m->left != UINT32_MAX && b->control[m->id] ? &none : m;
}

static void merge_short(const struct pd_bpe *b, bool controls, uint32_t *ids, size_t *n)
{
    const struct pd_merge *pair[SHORT_WORD];
    for (size_t i = 0; i + 1 < *n; i++)
        pair[i] = merge_of(b, ids[i], ids[i + 1], controls);
    for (;;) {
        size_t best = SIZE_MAX;
        uint32_t rank = UINT32_MAX; /* that of a free slot too: never below it */
        for (size_t i = 0; i + 1 < *n; i++)
            if (pair[i]->rank < rank) {
                rank = pair[i]->rank;
                best = i;
            }
        if (best == SIZE_MAX)
            return;
        ids[best] = pair[best]->id;
        (*n)--;
        memmove(&ids[best + 1], &ids[best + 2], (*n - best - 1) * sizeof *ids);
        if (best + 1 < *n) {
            memmove(&pair[best + 1], &pair[best + 2], (*n - best - 2) * sizeof(const void *));
            pair[best] = merge_of(b, ids[best], ids[best + 1], controls);
        }
        if (best > 0)
            pair[best - 1] = merge_of(b, ids[best - 1], ids[best], controls);
    }
}

struct symbol {
    uint32_t id; /* UINT32_MAX: swallowed by the one before it */
    int32_t prev, next;
};
struct candidate {
    uint32_t rank, at, left, right, id;
};
struct heap {
    struct candidate *v;
    size_t n;
};

static bool before(const struct candidate *a, const struct candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void heap_push(struct heap *h, struct candidate c)
{
    size_t i = h->n++;
    while (i > 0 && before(&c, &h->v[(i - 1) / 2])) {
        h->v[i] = h->v[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    h->v[i] = c;
}

static struct candidate heap_pop(struct heap *h)
{
    struct candidate top = h->v[0], last = h->v[--h->n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < h->n; i = child) {
        if (child + 1 < h->n && before(&h->v[child + 1], &h->v[child]))
            child++;
        if (!before(&h->v[child], &last))
            break;
        h->v[i] = h->v[child];
    }
    h->v[i] = last;
    return top;
}

static void offer(const struct pd_bpe *b, bool controls, const struct symbol *s, struct heap *h,
                  int32_t at)
{
    if (at < 0 || s[at].next < 0)
        return;
    const struct pd_merge *m = merge_of(b, s[at].id, s[s[at].next].id, controls);
    if (m->left != UINT32_MAX)
        heap_push(h, (struct candidate){m->rank, (uint32_t)at, m->left, m->right, m->id});
}

static enum pd_rc merge_long(const struct pd_bpe *b, bool controls, uint32_t *ids, size_t *n,
                             struct pd_err *err)
{
    /* Every merge offers at most two pairs, so 3n candidates are ever pushed. */
    struct symbol *s = pd_try_alloc(*n, sizeof *s);
    struct heap h = {pd_try_alloc(*n, 3 * sizeof *h.v), 0};
    if (!s || !h.v || *n > INT32_MAX) {
        pd_free(s);
        pd_free(h.v);
        return PD_FAIL(err, PD_NOMEM, "no memory for a word of %zu bytes", *n);
    }
    for (size_t i = 0; i < *n; i++)
        s[i] = (struct symbol){ids[i], (int32_t)i - 1, i + 1 < *n ? (int32_t)i + 1 : -1};
    for (size_t i = 0; i < *n; i++)
        offer(b, controls, s, &h, (int32_t)i);
    while (h.n > 0) {
        struct candidate c = heap_pop(&h);
        struct symbol *left = &s[c.at];
        if (left->id != c.left || left->next < 0 || s[left->next].id != c.right)
            continue; /* stale */
        struct symbol *right = &s[left->next];
        left->id = c.id;
        left->next = right->next;
        right->id = UINT32_MAX;
        if (left->next >= 0)
            s[left->next].prev = (int32_t)c.at;
        offer(b, controls, s, &h, left->prev);
        offer(b, controls, s, &h, (int32_t)c.at);
    }
    *n = 0;
    for (int32_t i = 0; i >= 0; i = s[i].next)
        ids[(*n)++] = s[i].id;
    pd_free(s);
    pd_free(h.v);
    return PD_OK;
}

static enum pd_rc merge_word(const struct pd_bpe *b, struct pd_str word, bool controls,
                             size_t limit, struct pd_ids *out, struct pd_err *err)
{
    uint32_t few[SHORT_WORD], *ids = few;
    size_t n = 0;
    if (word.len > SHORT_WORD && !(ids = pd_try_alloc(word.len, sizeof *ids)))
        return PD_FAIL(err, PD_NOMEM, "no memory for a word of %zu bytes", word.len);
    if (b->pieces)
        n = pd_pieces_symbols(b, word, ids);
    for (size_t i = 0; i < word.len && !b->pieces; i++) {
        int32_t id = b->byte_id[(unsigned char)word.ptr[i]];
        if (id < 0 && !(b->fuse_unk && i > 0 && b->byte_id[(unsigned char)word.ptr[i - 1]] < 0))
            id = b->unk;
        if (id >= 0)
            ids[n++] = (uint32_t)id;
    }
    /* a token is made of at most `longest` symbols, each of a byte or more */
    enum pd_rc rc = pd_tok_check_most(out->len + n / b->longest, limit, err);
    if (rc == PD_OK && n <= SHORT_WORD)
        merge_short(b, controls, ids, &n);
    else if (rc == PD_OK)
        rc = merge_long(b, controls, ids, &n, err);
    for (size_t i = 0; rc == PD_OK && i < n; i++)
        pd_ids_push(out, (int32_t)ids[i]);
    if (ids != few)
        pd_free(ids);
    return rc;
}

/* *id is -1 when the word is no token. */
static enum pd_rc whole_word(const struct pd_bpe *b, struct pd_str word, int32_t *id,
                             struct pd_err *err)
{
    char few[512], *glyphs = few;
    struct pd_str text = word;
    if (!b->pieces) {
        if (word.len > sizeof few / 2 && !(glyphs = pd_try_alloc(word.len, 2)))
            return PD_FAIL(err, PD_NOMEM, "no memory for a word of %zu bytes", word.len);
        text = (struct pd_str){glyphs, glyphs_of(word, glyphs)};
    }
    *id = pd_bpe_model_id(b, text);
    if (glyphs != few)
        pd_free(glyphs);
    return PD_OK;
}

/* ---- words ---- */

static bool is_known(const struct pd_word_cache *slot, struct pd_str word)
{
    return slot->len == word.len && same_bytes(slot->room, word.ptr, word.len);
}

static const char *ids_of(const struct pd_word_cache *slot)
{
    return slot->room + sizeof slot->room - slot->n * sizeof(int32_t);
}

static void remember(struct pd_word_cache *slot, struct pd_str word, const int32_t *ids, size_t n)
{
    if (word.len + n * sizeof *ids > sizeof slot->room)
        return;
    slot->len = (uint8_t)word.len;
    slot->n = (uint8_t)n;
    memcpy(slot->room, word.ptr, word.len);
    memcpy(slot->room + sizeof slot->room - n * sizeof *ids, ids, n * sizeof *ids);
}

static enum pd_rc look_up_or_merge(const struct pd_bpe *b, struct pd_str word, bool controls,
                                   size_t limit, struct pd_ids *out, struct pd_err *err)
{
    int32_t whole = -1;
    enum pd_rc rc = b->ignore_merges ? whole_word(b, word, &whole, err) : PD_OK;
    if (rc != PD_OK)
        return rc;
    if (whole < 0 || (b->control[whole] && !controls))
        return merge_word(b, word, controls, limit, out, err);
    pd_ids_push(out, whole);
    return PD_OK;
}

static bool has_control(const struct pd_bpe *b, const struct pd_ids *ids, size_t first)
{
    for (size_t i = first; i < ids->len; i++)
        if (b->control[ids->ptr[i]])
            return true;
    return false;
}

/* The cache is the same with and without way->controls: words that a control token comes of are not
 * kept, and none where one could come on the way to another token. */
static enum pd_rc one_word(const struct pd_bpe *b, struct pd_str word,
                           const struct pd_word_way *way, struct pd_ids *out, struct pd_err *err)
{
    struct pd_word_cache *slot = NULL;
    size_t first = out->len;
    if (way->cache && !b->merges_control && word.len < sizeof slot->room) {
        slot = &way->cache[hash_str(word) & (PD_CACHE_SLOTS - 1)];
        if (is_known(slot, word)) {
            pd_ids_reserve(out, slot->n);
            memcpy(out->ptr + out->len, ids_of(slot), slot->n * sizeof *out->ptr);
            out->len += slot->n;
            return pd_tok_check_most(out->len, way->limit, err);
        }
    }
    const bool controls = way->controls || !b->merges_control;
    enum pd_rc rc = look_up_or_merge(b, word, controls, way->limit, out, err);
    if (rc == PD_OK && has_control(b, out, first)) {
        slot = NULL;
        if (!way->controls) {
            out->len = first;
            rc = look_up_or_merge(b, word, false, way->limit, out, err);
        }
    }
    if (rc == PD_OK)
        rc = pd_tok_check_most(out->len, way->limit, err);
    if (rc == PD_OK && slot && out->len > first)
        remember(slot, word, out->ptr + first, out->len - first);
    return rc;
}

enum pd_rc pd_bpe_word(const struct pd_bpe *b, struct pd_str word, const struct pd_word_way *way,
                       struct pd_ids *out, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    if (!b->apart)
        return one_word(b, word, way, out, err);
    for (size_t at = 0, end; rc == PD_OK && at < word.len; at = end) {
        end = pd_apart_end(b->apart, word, at);
        rc = one_word(b, (struct pd_str){word.ptr + at, end - at}, way, out, err);
    }
    return rc;
}
