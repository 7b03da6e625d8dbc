/* Vocabularies of pieces, as SentencePiece's BPE makes them: symbols are characters, what is
 * unknown falls back to bytes. */
#include "lm/tok_int.h"

#include <stdlib.h>

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    char low = (char)(c | 32);
    return low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

int pd_pieces_byte(struct pd_str text)
{
    if (text.len != 6 || memcmp(text.ptr, "<0x", 3) != 0 || text.ptr[5] != '>')
        return -1;
    int high = hex(text.ptr[3]), low = hex(text.ptr[4]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

static size_t char_len(struct pd_str s, size_t at)
{
    size_t len;
    (void)pd_char_at(s, at, &len);
    return len;
}

static int32_t char_id(const struct pd_bpe *b, struct pd_str c)
{
    return c.len == 1 ? b->ascii_id[(unsigned char)c.ptr[0]] : pd_bpe_model_id(b, c);
}

static bool has_bytes(const struct pd_bpe *b, struct pd_str c)
{
    for (size_t i = 0; i < c.len; i++)
        if (b->byte_id[(unsigned char)c.ptr[i]] < 0)
            return false;
    return b->byte_fallback;
}

/* As tokenizers has it, down to an unknown token that stands after the bytes that follow it: it is
 * held back until a known character comes, so that fuse_unk can make one of several. */
size_t pd_pieces_symbols(const struct pd_bpe *b, struct pd_str word, uint32_t *ids)
{
    size_t n = 0, len;
    bool held = false;
    for (size_t at = 0; at < word.len; at += len) {
        len = char_len(word, at);
        struct pd_str c = {word.ptr + at, len};
        int32_t id = char_id(b, c);
        if (id >= 0) {
            if (held)
                ids[n++] = (uint32_t)b->unk;
            held = false;
            ids[n++] = (uint32_t)id;
        } else if (has_bytes(b, c)) {
            for (size_t i = 0; i < len; i++)
                ids[n++] = (uint32_t)b->byte_id[(unsigned char)c.ptr[i]];
        } else if (b->unk >= 0) {
            if (held && !b->fuse_unk)
                ids[n++] = (uint32_t)b->unk;
            held = true;
        }
    }
    if (held)
        ids[n++] = (uint32_t)b->unk;
    return n;
}

/* ---- merges from scores ---- */

struct scored {
    float score;
    int32_t id;
};

static int best_first(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static bool takes_part(const struct pd_bpe *b, int32_t id)
{
    return b->text[id].len > 0 && !b->beyond[id];
}

/* The tokens that a text begins with, and ends with, found by sorting: in the order of their texts
 * a token that another one begins with stands before it, with nothing between but what begins with
 * it too. `begins[id]` is the longest shorter token that id begins with, -1 = none; `ends` the same
 * read from behind. Following them costs a step a token, where looking up every cut of a text costs
 * its square. */
enum { MAX_PIECE = 1 << 12 };
struct affixes {
    int32_t *begins, *ends;
    int32_t rest[MAX_PIECE + 1]; /* of the token in hand: by length, what it ends with; -1 = none */
};

struct entry {
    struct pd_str text;
    int32_t id;
};

static int by_text(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    return pd_str_cmp(x->text, y->text);
}

static int by_text_backwards(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    const char *p = x->text.ptr + x->text.len, *q = y->text.ptr + y->text.len;
    while (p > x->text.ptr && q > y->text.ptr)
        if (*--p != *--q)
            return (unsigned char)*p < (unsigned char)*q ? -1 : 1;
    return (x->text.len > y->text.len) - (x->text.len < y->text.len);
}

static void link_shorter(const struct pd_bpe *b, struct entry *list, size_t n, int32_t *shorter,
                         int (*order)(const void *, const void *),
                         bool (*has)(struct pd_str, struct pd_str))
{
    qsort(list, n, sizeof *list, order);
    for (size_t i = 0; i < n; i++) {
        int32_t up = i > 0 ? list[i - 1].id : -1;
        while (up >= 0 && !has(list[i].text, b->text[up]))
            up = shorter[up];
        shorter[list[i].id] = up;
    }
}

/* Puts, or when rank is NULL counts, the ways to cut token id in two tokens. */
static void cut_in_two(struct pd_bpe *b, struct affixes *of, int32_t id, const uint32_t *rank,
                       size_t *n)
{
    size_t len = b->text[id].len;
    for (int32_t k = of->ends[id]; k >= 0; k = of->ends[k])
        of->rest[b->text[k].len] = k;
    for (int32_t k = of->begins[id]; k >= 0; k = of->begins[k]) {
        int32_t rest = of->rest[len - b->text[k].len];
        if (rest < 0)
            continue;
        (*n)++;
        if (rank)
            pd_bpe_put_merge(b,
                             (struct pd_merge){(uint32_t)k, (uint32_t)rest, *rank, (uint32_t)id});
    }
    for (int32_t k = of->ends[id]; k >= 0; k = of->ends[k])
        of->rest[b->text[k].len] = -1;
}

static enum pd_rc check_piece(const struct pd_bpe *b, int32_t id, float score, struct pd_err *err)
{
    struct pd_str text = b->text[id];
    if (text.len > MAX_PIECE || pd_utf8_valid_prefix(text) != text.len)
        return PD_FAIL(err, PD_INVALID, "token %d is not UTF-8 or longer than %d bytes", id,
                       MAX_PIECE);
    if (!(score == score))
        return PD_FAIL(err, PD_NONFINITE, "token %d: its score is not a number", id);
    return PD_OK;
}

enum pd_rc pd_pieces_merges(struct pd_bpe *b, const float *scores, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    size_t n = 0, n_merges = 0, room = (size_t)b->n_ids + 1;
    struct scored *best = pd_try_alloc(room, sizeof *best);
    struct entry *list = pd_try_alloc(room, sizeof *list);
    struct affixes of = {
        pd_try_alloc(room, sizeof *of.begins), pd_try_alloc(room, sizeof *of.ends), {0}};
    memset(of.rest, 0xff, sizeof of.rest);
    if (!best || !list || !of.begins || !of.ends) {
        rc = PD_FAIL(err, PD_NOMEM, "no memory for %d scores", b->n_ids);
        goto out;
    }
    for (int32_t i = 0; i < b->n_ids; i++)
        if (takes_part(b, i)) {
            PD_TRY(check_piece(b, i, scores[i], err));
            best[n] = (struct scored){scores[i], i};
            list[n++] = (struct entry){b->text[i], i};
        }
    link_shorter(b, list, n, of.begins, by_text, pd_str_starts);
    link_shorter(b, list, n, of.ends, by_text_backwards, pd_str_ends);
    for (size_t i = 0; i < n; i++)
        cut_in_two(b, &of, best[i].id, NULL, &n_merges);
    PD_TRY(pd_bpe_reserve_merges(b, n_merges, err));
    qsort(best, n, sizeof *best, best_first);
    uint32_t rank = 0;
    for (size_t i = 0; i < n; i++) {
        rank += i > 0 && best[i].score != best[i - 1].score; /* equals are taken left to right */
        cut_in_two(b, &of, best[i].id, &rank, &n_merges);
    }
out:
    pd_free(best);
    pd_free(list);
    pd_free(of.begins);
    pd_free(of.ends);
    return rc;
}

/* ---- after the last token ---- */

/* Only "<0x0A>" is looked for when encoding, while decoding knows "<0x0a>" too. */
static bool is_upper(struct pd_str byte)
{
    return byte.ptr[3] < 'a' && byte.ptr[4] < 'a';
}

enum pd_rc pd_pieces_finish(struct pd_bpe *b, bool decode_bytes, struct pd_err *err)
{
    size_t total = 0;
    for (int32_t i = 0; i < b->n_ids; i++)
        total += b->text[i].len;
    b->slab = pd_try_alloc(total + 1, 1);
    if (!b->slab)
        return PD_FAIL(err, PD_NOMEM, "no memory for %zu bytes of tokens", total);
    struct pd_buf spaced;
    size_t at = 0;
    pd_buf_init(&spaced, 0);
    memset(b->byte_id, 0xff, sizeof b->byte_id);
    for (int32_t i = 0; i < b->n_ids; i++) {
        struct pd_str text = b->text[i];
        if (!text.ptr)
            continue;
        int byte = pd_pieces_byte(text);
        if (byte >= 0 && is_upper(text))
            b->byte_id[byte] = i;
        pd_buf_clear(&spaced);
        if (byte >= 0 && decode_bytes)
            pd_buf_addc(&spaced, (char)byte);
        else
            pd_replace(&spaced, text, PD_STR(PD_SPACE), PD_STR(" "));
        if (spaced.len)
            memcpy(b->slab + at, spaced.ptr, spaced.len); /* never longer than text */
        b->bytes[i] = (struct pd_str){b->slab + at, spaced.len};
        at += spaced.len;
    }
    pd_buf_release(&spaced);
    for (unsigned c = 0; c < 128; c++) {
        char one = (char)c;
        b->ascii_id[c] = pd_bpe_model_id(b, (struct pd_str){&one, 1});
    }
    enum pd_rc rc = b->merges ? PD_OK : pd_bpe_reserve_merges(b, 0, err);
    if (rc == PD_OK)
        b->apart = pd_apart_new(b);
    return rc;
}
