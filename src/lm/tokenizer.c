#include "lm/gguf.h"
#include "lm/tok_int.h"

#include <stdlib.h>
#include <utf8proc.h>

void pd_ids_push(struct pd_ids *v, int32_t id)
{
    if (v->len == v->cap) {
        v->cap = v->cap ? v->cap * 2 : 64;
        v->ptr = pd_xrealloc(v->ptr, v->cap * sizeof *v->ptr);
    }
    v->ptr[v->len++] = id;
}

void pd_ids_add(struct pd_ids *v, const int32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        pd_ids_push(v, ids[i]);
}

void pd_ids_release(struct pd_ids *v)
{
    pd_free(v->ptr);
    *v = (struct pd_ids){0};
}

struct pd_tokenizer *pd_tok_new(void)
{
    struct pd_tokenizer *t = pd_xalloc(sizeof *t);
    pd_arena_init(&t->arena);
    t->bos = t->eos = t->pad = t->unk = -1;
    t->cache = pd_xalloc(PD_CACHE_SLOTS * sizeof *t->cache);
    (void)pthread_mutex_init(&t->lock, NULL);
    return t;
}

void pd_tokenizer_free(struct pd_tokenizer *t)
{
    if (!t)
        return;
    pd_bpe_release(&t->bpe);
    pd_added_set_release(&t->raw);
    pd_added_set_release(&t->normalized);
    pd_free(t->added);
    pd_ids_release(&t->prefix);
    pd_ids_release(&t->suffix);
    pd_arena_release(&t->arena);
    pd_gguf_close(t->gguf);
    pd_free(t->dir);
    pd_free(t->cache);
    (void)pthread_mutex_destroy(&t->lock);
    pd_free(t);
}

/* ---- encoding ---- */

struct encoding {
    const struct pd_tokenizer *t;
    struct pd_word_cache *cache; /* NULL: another thread has it */
    bool parse_special;
    struct pd_ids *out;
    struct pd_err *err;
};

static enum pd_rc encode_words(struct encoding *e, struct pd_str text)
{
    enum pd_rc rc = PD_OK;
    for (size_t at = 0; at < text.len;) {
        size_t end = pd_words_next(e->t->words, text, at);
        PD_TRY(pd_bpe_word(&e->t->bpe, (struct pd_str){text.ptr + at, end - at}, e->cache, e->out,
                           e->err));
        at = end;
    }
out:
    return rc;
}

static enum pd_rc encode_piece(struct encoding *e, struct pd_str text)
{
    if (!e->t->add_prefix_space || text.len == 0 || text.ptr[0] == ' ')
        return encode_words(e, text);
    struct pd_buf spaced;
    pd_buf_init(&spaced, text.len + 2);
    pd_buf_addc(&spaced, ' ');
    pd_buf_addstr(&spaced, text);
    enum pd_rc rc = spaced.failed ? PD_FAIL(e->err, PD_NOMEM, "no memory for %zu bytes", text.len)
                                  : encode_words(e, pd_buf_str(&spaced));
    pd_buf_release(&spaced);
    return rc;
}

/* Cuts out the added tokens of a set and hands what lies between to `rest`. */
static enum pd_rc split_added(struct encoding *e, const struct pd_added_set *set,
                              struct pd_str text,
                              enum pd_rc (*rest)(struct encoding *, struct pd_str))
{
    enum pd_rc rc = PD_OK;
    size_t at = 0, begin = 0, end = 0;
    const struct pd_added *a;
    while ((a = pd_added_next(set, text, at, e->parse_special, &begin, &end))) {
        if (begin > at)
            PD_TRY(rest(e, (struct pd_str){text.ptr + at, begin - at}));
        pd_ids_push(e->out, a->id);
        at = end;
    }
    if (at < text.len)
        PD_TRY(rest(e, (struct pd_str){text.ptr + at, text.len - at}));
out:
    return rc;
}

static enum pd_rc encode_normalized(struct encoding *e, struct pd_str text)
{
    if (!e->t->nfc)
        return split_added(e, &e->t->normalized, text, encode_piece);
    utf8proc_uint8_t *nfc = NULL;
    utf8proc_ssize_t n =
        utf8proc_map((const utf8proc_uint8_t *)text.ptr, (utf8proc_ssize_t)text.len, &nfc,
                     UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (n < 0)
        return PD_FAIL(e->err, PD_NOMEM, "cannot normalise text: %s", utf8proc_errmsg(n));
    enum pd_rc rc =
        split_added(e, &e->t->normalized, (struct pd_str){(char *)nfc, (size_t)n}, encode_piece);
    free(nfc);
    return rc;
}

enum pd_rc pd_tokenizer_encode(const struct pd_tokenizer *t, struct pd_str text, unsigned flags,
                               struct pd_ids *out, struct pd_err *err)
{
    size_t valid = pd_utf8_valid_prefix(text), before = out->len;
    if (valid != text.len)
        return PD_FAIL(err, PD_INVALID, "text is not UTF-8 at byte %zu", valid);
    /* The cache is the only thing that changes; results are the same without it. */
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&t->lock;
    bool locked = pthread_mutex_trylock(lock) == 0;
    struct encoding e = {t, locked ? t->cache : NULL, flags & PD_TOK_PARSE_SPECIAL, out, err};
    if (flags & PD_TOK_ADD_SPECIAL)
        pd_ids_add(out, t->prefix.ptr, t->prefix.len);
    enum pd_rc rc = split_added(&e, &t->raw, text, encode_normalized);
    if (flags & PD_TOK_ADD_SPECIAL)
        pd_ids_add(out, t->suffix.ptr, t->suffix.len);
    if (locked)
        (void)pthread_mutex_unlock(lock);
    if (rc != PD_OK)
        out->len = before;
    return rc;
}

/* ---- decoding ---- */

/* What stands at p: the length of a whole character (*ok), of a maximal ill-formed part (!*ok), or
 * 0 when the n bytes are the beginning of a character that more bytes may complete. */
static size_t next_char(const unsigned char *p, size_t n, bool *ok)
{
    unsigned char lo = 0x80, hi = 0xbf;
    size_t len;
    *ok = true;
    if (p[0] < 0x80)
        return 1;
    if (p[0] >= 0xc2 && p[0] <= 0xdf)
        len = 2;
    else if (p[0] >= 0xe0 && p[0] <= 0xef)
        len = 3;
    else if (p[0] >= 0xf0 && p[0] <= 0xf4)
        len = 4;
    else {
        *ok = false;
        return 1;
    }
    lo = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : lo;
    hi = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : hi;
    for (size_t i = 1; i < len; i++) {
        if (i == n)
            return 0;
        if (p[i] < lo || p[i] > hi) {
            *ok = false;
            return i;
        }
        lo = 0x80;
        hi = 0xbf;
    }
    return len;
}

#define REPLACEMENT PD_STR("\xef\xbf\xbd")

/* Appends the whole characters of p to out; returns the bytes used. */
static size_t flush(const unsigned char *p, size_t n, struct pd_buf *out)
{
    size_t at = 0;
    while (at < n) {
        bool ok;
        size_t len = next_char(p + at, n - at, &ok);
        if (len == 0)
            break;
        pd_buf_addstr(out, ok ? (struct pd_str){(const char *)p + at, len} : REPLACEMENT);
        at += len;
    }
    return at;
}

static void detok_bytes(struct pd_detok *d, struct pd_str bytes, struct pd_buf *out)
{
    /* Complete what was pending byte by byte: at most three are needed. */
    size_t at = 0;
    while (d->n_pending > 0 && at < bytes.len) {
        d->pending[d->n_pending++] = (unsigned char)bytes.ptr[at++];
        size_t used = flush(d->pending, (size_t)d->n_pending, out);
        d->n_pending -= (int)used;
        memmove(d->pending, d->pending + used, (size_t)d->n_pending);
    }
    if (at == bytes.len)
        return;
    const unsigned char *rest = (const unsigned char *)bytes.ptr + at;
    size_t n = bytes.len - at, used = flush(rest, n, out);
    d->n_pending = (int)(n - used);
    memcpy(d->pending, rest + used, n - used);
}

void pd_detok_push(struct pd_detok *d, const struct pd_tokenizer *t, int32_t id, bool skip_special,
                   struct pd_buf *out)
{
    if (id < 0 || id >= t->bpe.n_ids || (skip_special && pd_tokenizer_is_special(t, id)))
        return;
    detok_bytes(d, t->bpe.bytes[id], out);
}

void pd_detok_finish(struct pd_detok *d, struct pd_buf *out)
{
    if (d->n_pending > 0) /* one maximal part, begun and never ended */
        pd_buf_addstr(out, REPLACEMENT);
    d->n_pending = 0;
}

enum pd_rc pd_tokenizer_decode(const struct pd_tokenizer *t, const int32_t *ids, size_t n,
                               bool skip_special, struct pd_buf *out, struct pd_err *err)
{
    struct pd_detok d = {0};
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0)
            return PD_FAIL(err, PD_INVALID, "id %d at %zu is not a token", ids[i], i);
    for (size_t i = 0; i < n; i++)
        pd_detok_push(&d, t, ids[i], skip_special, out);
    pd_detok_finish(&d, out);
    return out->failed ? PD_FAIL(err, PD_TOOBIG, "decoded text passes %zu bytes", out->max) : PD_OK;
}

/* ---- facts ---- */

struct pd_str pd_tokenizer_bytes(const struct pd_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->bpe.n_ids ? t->bpe.bytes[id] : (struct pd_str){NULL, 0};
}

int32_t pd_tokenizer_size(const struct pd_tokenizer *t)
{
    return t->bpe.n_ids;
}

int32_t pd_tokenizer_bos(const struct pd_tokenizer *t)
{
    return t->bos;
}

int32_t pd_tokenizer_eos(const struct pd_tokenizer *t)
{
    return t->eos;
}

int32_t pd_tokenizer_pad(const struct pd_tokenizer *t)
{
    return t->pad;
}

int32_t pd_tokenizer_unk(const struct pd_tokenizer *t)
{
    return t->unk;
}

bool pd_tokenizer_is_special(const struct pd_tokenizer *t, int32_t id)
{
    size_t lo = 0, hi = t->n_added;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (t->added[mid].id == id)
            return t->added[mid].special;
        if (t->added[mid].id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return false;
}

struct pd_str pd_tokenizer_text(const struct pd_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->bpe.n_ids ? t->bpe.text[id] : (struct pd_str){NULL, 0};
}

int32_t pd_tokenizer_id(const struct pd_tokenizer *t, struct pd_str text)
{
    return pd_bpe_id(&t->bpe, text);
}

struct pd_str pd_tokenizer_chat_template(const struct pd_tokenizer *t)
{
    return t->chat_template;
}

void pd_tokenizer_describe(const struct pd_tokenizer *t, struct pd_buf *out)
{
    pd_buf_addf(out, "byte-level BPE, %zu tokens, %zu merges, words: %s", t->bpe.n_tokens,
                t->bpe.n_merges, pd_words_names[t->words]);
}
