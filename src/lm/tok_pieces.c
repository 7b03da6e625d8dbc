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

/* Calls for each way to cut the text in two tokens; counts them when rank is NULL. */
static enum pd_rc cut_in_two(struct pd_bpe *b, struct pd_str text, const uint32_t *rank, size_t *n,
                             struct pd_err *err)
{
    for (size_t at = char_len(text, 0); at < text.len; at += char_len(text, at)) {
        struct pd_str left = {text.ptr, at}, right = {text.ptr + at, text.len - at};
        if (pd_bpe_model_id(b, left) < 0 || pd_bpe_model_id(b, right) < 0)
            continue;
        (*n)++;
        if (!rank)
            continue;
        enum pd_rc rc = pd_bpe_add_merge(b, left, right, *rank, err);
        if (rc != PD_OK)
            return rc;
    }
    return PD_OK;
}

enum { MAX_PIECE = 1 << 12 };

enum pd_rc pd_pieces_merges(struct pd_bpe *b, const float *scores, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    size_t n = 0, n_merges = 0;
    struct scored *list = pd_try_alloc((size_t)b->n_ids + 1, sizeof *list);
    if (!list)
        return PD_FAIL(err, PD_NOMEM, "no memory for %d scores", b->n_ids);
    for (int32_t i = 0; i < b->n_ids; i++) {
        struct pd_str text = b->text[i];
        if (!takes_part(b, i))
            continue;
        if (text.len > MAX_PIECE || pd_utf8_valid_prefix(text) != text.len) {
            rc = PD_FAIL(err, PD_INVALID, "token %d is not UTF-8 or longer than %d bytes", i,
                         MAX_PIECE);
            goto out;
        }
        if (!(scores[i] == scores[i])) {
            rc = PD_FAIL(err, PD_NONFINITE, "token %d: its score is not a number", i);
            goto out;
        }
        list[n++] = (struct scored){scores[i], i};
        PD_TRY(cut_in_two(b, text, NULL, &n_merges, err));
    }
    PD_TRY(pd_bpe_reserve_merges(b, n_merges, err));
    qsort(list, n, sizeof *list, best_first);
    uint32_t rank = 0;
    for (size_t i = 0; i < n; i++) {
        rank += i > 0 && list[i].score != list[i - 1].score; /* equals are taken left to right */
        PD_TRY(cut_in_two(b, b->text[list[i].id], &rank, &n_merges, err));
    }
out:
    pd_free(list);
    return rc;
}

/* ---- after the last token ---- */

static bool spans_a_space(struct pd_str text)
{
    const char *at = text.ptr, *end = text.ptr + text.len;
    while (end - at >= 3 && memcmp(at, PD_SPACE, 3) == 0)
        at += 3;
    return at < end && memmem(at, (size_t)(end - at), PD_SPACE, 3) != NULL;
}

static bool may_cut(const struct pd_bpe *b)
{
    if (b->ignore_merges || pd_bpe_model_id(b, PD_STR(PD_SPACE)) < 0)
        return false;
    for (int32_t i = 0; i < b->n_ids; i++)
        if (takes_part(b, i) && spans_a_space(b->text[i]))
            return false;
    return true;
}

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
    b->cuts = may_cut(b);
    return b->merges ? PD_OK : pd_bpe_reserve_merges(b, 0, err);
}
