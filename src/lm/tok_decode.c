/* Ids to text. */
#include "lm/tok_int.h"

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

static bool is_shown(const struct pd_tokenizer *t, int32_t id, bool skip_special)
{
    return id >= 0 && id < t->bpe.n_ids && t->bpe.text[id].ptr &&
           !(skip_special && pd_tokenizer_is_special(t, id));
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

/* ---- pieces ---- */

static bool is_byte(const struct pd_tokenizer *t, int32_t id)
{
    return t->join.byte_runs && pd_pieces_byte(t->bpe.text[id]) >= 0;
}

/* A run of byte tokens is text when all of it is, else one U+FFFD for each byte: ByteFallback's
 * rule, and not that of byte-level decoding. */
static void end_run(struct pd_buf *run, struct pd_buf *out)
{
    if (pd_utf8_valid_prefix(pd_buf_str(run)) == run->len)
        pd_buf_addstr(out, pd_buf_str(run));
    else
        for (size_t i = 0; i < run->len; i++)
            pd_buf_addstr(out, REPLACEMENT);
    pd_buf_clear(run);
}

/* Metaspace's rule for the first token. */
static struct pd_str without_marks(const struct pd_tokenizer *t, int32_t id, struct pd_buf *room)
{
    pd_replace(room, t->bpe.text[id], PD_STR(PD_SPACE), PD_STR(""));
    return pd_buf_str(room);
}

static void join_pieces(const struct pd_tokenizer *t, const int32_t *ids, size_t n,
                        bool skip_special, struct pd_buf *out)
{
    struct pd_buf run, room;
    size_t start = out->len, shown = 0;
    pd_buf_init(&run, 0);
    pd_buf_init(&room, 0);
    for (size_t i = 0; i < n; i++) {
        if (!is_shown(t, ids[i], skip_special))
            continue;
        bool drop = shown++ == 0 && t->join.drop;
        if (is_byte(t, ids[i])) {
            pd_buf_addstr(&run, t->bpe.bytes[ids[i]]);
            continue;
        }
        end_run(&run, out);
        pd_buf_addstr(out, drop ? without_marks(t, ids[i], &room) : t->bpe.bytes[ids[i]]);
    }
    end_run(&run, out);
    if (t->join.strip && out->len > start && out->ptr[start] == ' ') {
        out->len--;
        memmove(out->ptr + start, out->ptr + start + 1, out->len - start + 1);
    }
    pd_buf_release(&run);
    pd_buf_release(&room);
}

/* As join_pieces, but a character made of byte tokens is shown as soon as it is whole. */
static void detok_piece(struct pd_detok *d, const struct pd_tokenizer *t, int32_t id,
                        struct pd_buf *out)
{
    struct pd_buf room;
    struct pd_str bytes = t->bpe.bytes[id];
    pd_buf_init(&room, 0);
    if (!d->begun && t->join.drop) {
        bytes = without_marks(t, id, &room);
    } else if (!d->begun && t->join.strip && pd_str_starts(bytes, PD_STR(" "))) {
        bytes.ptr++;
        bytes.len--;
    }
    d->begun = d->begun || t->bpe.bytes[id].len > 0 || t->join.drop;
    if (!is_byte(t, id))
        pd_detok_finish(d, out);
    detok_bytes(d, bytes, out);
    pd_buf_release(&room);
}

/* ---- the ways in ---- */

void pd_detok_push(struct pd_detok *d, const struct pd_tokenizer *t, int32_t id, bool skip_special,
                   struct pd_buf *out)
{
    if (!is_shown(t, id, skip_special))
        return;
    if (t->bpe.pieces)
        detok_piece(d, t, id, out);
    else
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
    if (t->bpe.pieces) {
        join_pieces(t, ids, n, skip_special, out);
    } else {
        for (size_t i = 0; i < n; i++)
            pd_detok_push(&d, t, ids[i], skip_special, out);
        pd_detok_finish(&d, out);
    }
    return out->failed ? PD_FAIL(err, PD_TOOBIG, "decoded text passes %zu bytes", out->max) : PD_OK;
}
