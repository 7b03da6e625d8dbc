/* Added tokens: texts that are cut out of the input before anything else looks at it. The leftmost
 * match counts, of those the longest. */
#include "lm/tok_int.h"

#include <stdlib.h>

static int by_text(const void *a, const void *b)
{
    const struct pd_added *x = a, *y = b;
    int c = pd_str_cmp(x->text, y->text);
    return c ? c : (x->id > y->id) - (x->id < y->id);
}

void pd_added_set_build(struct pd_added_set *s, const struct pd_added *items, size_t n)
{
    s->items = pd_xalloc((n + 1) * sizeof *s->items);
    s->n = 0;
    for (size_t i = 0; i < n; i++)
        if (items[i].text.len > 0)
            s->items[s->n++] = items[i];
    qsort(s->items, s->n, sizeof *s->items, by_text);
    size_t at = 0;
    for (unsigned b = 0; b <= 256; b++) {
        while (b > 0 && at < s->n && (unsigned char)s->items[at].text.ptr[0] < b)
            at++;
        s->first[b] = (uint32_t)at;
    }
}

void pd_added_set_release(struct pd_added_set *s)
{
    pd_free(s->items);
    s->items = NULL;
    s->n = 0;
}

/* single_word: neither neighbour may be a word character. */
static bool stands_alone(struct pd_str text, size_t begin, size_t end)
{
    size_t len;
    if (begin > 0 && pd_char_is_word(pd_char_at(text, pd_char_before(text, begin), &len)))
        return false;
    return end >= text.len || !pd_char_is_word(pd_char_at(text, end, &len));
}

/* Of the items [*lo, *hi), which agree in their first `depth` bytes and are longer, those that have
 * `c` next. */
static void narrow(const struct pd_added_set *s, size_t depth, unsigned char c, size_t *lo,
                   size_t *hi)
{
    size_t bounds[2];
    for (unsigned k = 0; k < 2; k++) { /* the first item from c on, from behind c on */
        size_t a = *lo, z = *hi;
        while (a < z) {
            size_t mid = (a + z) / 2;
            if ((unsigned char)s->items[mid].text.ptr[depth] < c + k)
                a = mid + 1;
            else
                z = mid;
        }
        bounds[k] = a;
    }
    *lo = bounds[0];
    *hi = bounds[1];
}

/* The items are sorted by text: a walk down a trie whose nodes are ranges of them. */
const struct pd_added *pd_added_at(const struct pd_added_set *s, struct pd_str text, size_t at)
{
    const unsigned char *p = (const unsigned char *)text.ptr + at;
    size_t lo = s->first[p[0]], hi = s->first[p[0] + 1], left = text.len - at;
    const struct pd_added *longest = NULL;
    for (size_t depth = 1; lo < hi; depth++) {
        if (s->items[lo].text.len == depth)
            longest = &s->items[lo];
        while (lo < hi && s->items[lo].text.len == depth) /* normalising can make equals */
            lo++;
        if (lo == hi || depth == left)
            break;
        unsigned char first = (unsigned char)s->items[lo].text.ptr[depth],
                      last = (unsigned char)s->items[hi - 1].text.ptr[depth];
        if (p[depth] < first || p[depth] > last)
            break;
        if (first != last)
            narrow(s, depth, p[depth], &lo, &hi);
    }
    return longest;
}

const struct pd_added *pd_added_next(const struct pd_added_set *s, struct pd_str text, size_t at,
                                     bool parse_special, size_t *begin, size_t *end)
{
    size_t len, i = at;
    while (s->n > 0 && i < text.len) {
        unsigned char c = (unsigned char)text.ptr[i];
        const struct pd_added *m = s->first[c] < s->first[c + 1] ? pd_added_at(s, text, i) : NULL;
        if (!m) {
            i++;
            continue;
        }
        size_t b = i, e = i + m->text.len;
        i = e; /* a match that does not count still hides what lies inside it */
        if ((m->special && !parse_special) || (m->single_word && !stands_alone(text, b, e)))
            continue;
        while (m->lstrip && b > at &&
               pd_char_is_space(pd_char_at(text, pd_char_before(text, b), &len)))
            b = pd_char_before(text, b);
        while (m->rstrip && e < text.len && pd_char_is_space(pd_char_at(text, e, &len)))
            e += len;
        *begin = b;
        *end = e;
        return m;
    }
    return NULL;
}

void pd_tok_add_added(struct pd_tokenizer *t, const struct pd_added *a, bool copy)
{
    for (size_t i = 0; i < t->n_added; i++)
        if (pd_str_eq(t->added[i].text, a->text)) {
            int32_t id = t->added[i].id;
            struct pd_str text = t->added[i].text;
            t->added[i] = *a;
            t->added[i].id = id;
            t->added[i].text = text;
            return;
        }
    if (t->n_added % 64 == 0)
        t->added = pd_xrealloc(t->added, (t->n_added + 64) * sizeof *t->added);
    t->added[t->n_added] = *a;
    if (copy)
        t->added[t->n_added].text.ptr = pd_arena_strndup(&t->arena, a->text.ptr, a->text.len);
    t->n_added++;
}

static int by_id(const void *a, const void *b)
{
    const struct pd_added *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static enum pd_rc check_post_processor(const struct pd_tokenizer *t, const char *name,
                                       struct pd_err *err)
{
    const struct pd_ids *lists[] = {&t->prefix, &t->suffix};
    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; i < lists[k]->len; i++)
            if (!pd_tokenizer_text(t, lists[k]->ptr[i]).ptr)
                return PD_FAIL(err, PD_INVALID, "%s: post_processor: id %d is not a token", name,
                               lists[k]->ptr[i]);
    return PD_OK;
}

/* What an added token decodes to is its normalised text. */
static void set_bytes(struct pd_tokenizer *t, int32_t id, struct pd_str text)
{
    struct pd_buf spaced;
    if (!t->bpe.pieces) {
        char *bytes = pd_arena_alloc(&t->arena, text.len + 1);
        t->bpe.bytes[id] = (struct pd_str){bytes, pd_bpe_unglyph(text, bytes)};
        return;
    }
    pd_buf_init(&spaced, 0);
    pd_replace(&spaced, text, PD_STR(PD_SPACE), PD_STR(" "));
    t->bpe.bytes[id] =
        (struct pd_str){pd_arena_strndup(&t->arena, pd_buf_cstr(&spaced), spaced.len), spaced.len};
    pd_buf_release(&spaced);
}

/* Those matched in normalised text are normalised themselves. */
static enum pd_rc build_sets(struct pd_tokenizer *t, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    size_t n[2] = {0, 0};
    struct pd_added *lists[2];
    struct pd_buf text;
    pd_buf_init(&text, 0);
    for (size_t k = 0; k < 2; k++)
        lists[k] = pd_xalloc((t->n_added + 1) * sizeof **lists);
    for (size_t i = 0; i < t->n_added; i++) {
        struct pd_added a = t->added[i];
        if (a.normalized && t->n_norms > 0) {
            pd_buf_clear(&text);
            PD_TRY(pd_norm_apply(t->norms, t->n_norms, a.text, &text, err));
            a.text = (struct pd_str){pd_arena_strndup(&t->arena, pd_buf_cstr(&text), text.len),
                                     text.len};
            if (!pd_str_eq(a.text, t->added[i].text))
                set_bytes(t, a.id, a.text);
        }
        lists[a.normalized][n[a.normalized]++] = a;
    }
    pd_added_set_build(&t->raw, lists[0], n[0]);
    pd_added_set_build(&t->normalized, lists[1], n[1]);
out:
    pd_free(lists[0]);
    pd_free(lists[1]);
    pd_buf_release(&text);
    return rc;
}

enum pd_rc pd_tok_finish(struct pd_tokenizer *t, const char *name, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    if (t->n_added > 0)
        qsort(t->added, t->n_added, sizeof *t->added, by_id);
    for (size_t i = 0; i < t->n_added; i++) {
        const struct pd_added *a = &t->added[i];
        int32_t there = pd_bpe_id(&t->bpe, a->text);
        if (there == a->id) { /* a word of the vocabulary as well */
            t->bpe.control[there] = a->special;
            continue;
        }
        if (there >= 0) {
            rc = PD_FAIL(err, PD_INVALID, "%s: added token \"%.*s\" has id %d, its vocabulary %d",
                         name, PD_STR_ARG(a->text), a->id, there);
            goto out;
        }
        rc = pd_bpe_add(&t->bpe, a->text, a->id, err);
        if (rc != PD_OK) {
            rc = pd_err_prefix(err, "%s: added token", name);
            goto out;
        }
        t->bpe.beyond[a->id] = true;
        t->bpe.control[a->id] = a->special;
    }
    rc = t->bpe.pieces ? pd_pieces_finish(&t->bpe, t->join.byte_runs, err)
                       : pd_bpe_finish(&t->bpe, err);
    if (rc != PD_OK) {
        rc = pd_err_prefix(err, "%s", name);
        goto out;
    }
    pd_bpe_note_controls(&t->bpe);
    PD_TRY(check_post_processor(t, name, err));
    PD_TRY(build_sets(t, err));
out:
    return rc;
}
