/* Where a word of pieces may be cut without changing an id. A token grows over the border between
 * two characters only by a merge of a token that ends in the first with one that begins with the
 * second. Where no merge is like that the two sides do not know of each other, whatever the ranks:
 * spaces of a vocabulary whose pieces do not go beyond words, digits, line ends, most punctuation.
 */
#include "lm/tok_int.h"

/* Sets of pairs: ASCII ones by themselves, others by a hash, where a pair that is taken for another
 * costs a cut and nothing else. */
enum { HASH_BITS = 18 };
struct pd_apart {
    uint8_t ascii[128 * 128 / 8];
    uint8_t wide[(1 << HASH_BITS) / 8];
    bool ascii_only; /* wide characters may be unknown ones, which are not cut around */
};

static const uint32_t space = 0x2581;

/* The byte of the table, and the bit in it, of a pair. */
static inline size_t place(uint32_t a, uint32_t b, bool *is_ascii)
{
    *is_ascii = (a | b) < 128;
    if (*is_ascii)
        return a << 7 | b;
    uint64_t h = ((uint64_t)a << 32 | b) * 0x9e3779b97f4a7c15u;
    return h >> (64 - HASH_BITS);
}

static void join(struct pd_apart *p, uint32_t a, uint32_t b)
{
    bool is_ascii;
    size_t at = place(a, b, &is_ascii);
    uint8_t *table = is_ascii ? p->ascii : p->wide;
    table[at / 8] |= (uint8_t)(1u << at % 8);
}

static inline bool is_apart(const struct pd_apart *p, uint32_t a, uint32_t b)
{
    bool is_ascii;
    size_t at = place(a, b, &is_ascii);
    const uint8_t *table = is_ascii ? p->ascii : p->wide;
    if (table[at / 8] >> at % 8 & 1)
        return false;
    return is_ascii || !p->ascii_only || ((a < 128 || a == space) && (b < 128 || b == space));
}

size_t pd_apart_end(const struct pd_apart *p, struct pd_str word, size_t at)
{
    size_t len;
    uint32_t before = pd_char_at(word, at, &len);
    for (at += len; at < word.len; at += len) {
        uint32_t c = pd_char_at(word, at, &len);
        if (is_apart(p, before, c))
            return at;
        before = c;
    }
    return word.len;
}

/* ---- building ---- */

/* Whether every character becomes a symbol of its own or a row of bytes. */
static bool all_bytes(const struct pd_bpe *b)
{
    for (unsigned c = 0; c < 256; c++)
        if (b->byte_id[c] < 0)
            return false;
    return b->byte_fallback;
}

/* A symbol that stands for other characters than its text says. */
static bool is_stand_in(const struct pd_bpe *b, uint32_t id)
{
    return (int32_t)id == b->unk || pd_pieces_byte(b->text[id]) >= 0;
}

static uint32_t first_char(struct pd_str s)
{
    size_t len;
    return pd_char_at(s, 0, &len);
}

static uint32_t last_char(struct pd_str s)
{
    size_t len;
    return pd_char_at(s, pd_char_before(s, s.len), &len);
}

/* false: its characters say nothing about it. */
static bool join_merge(struct pd_apart *p, const struct pd_bpe *b, const struct pd_merge *m)
{
    struct pd_str left = b->text[m->left], right = b->text[m->right];
    if (is_stand_in(b, m->left) || is_stand_in(b, m->right) ||
        pd_utf8_valid_prefix(left) != left.len || pd_utf8_valid_prefix(right) != right.len)
        return false;
    if (left.len > 0 && right.len > 0)
        join(p, last_char(left), first_char(right));
    return true;
}

/* Unknown characters vanish, or join, and with them the border that a cut stands on: only known
 * ones are cut apart. */
static void join_unknown(struct pd_apart *p, const struct pd_bpe *b)
{
    bool no_space = pd_bpe_model_id(b, PD_STR(PD_SPACE)) < 0;
    for (uint32_t c = 0; c < 128; c++) {
        bool unknown = b->ascii_id[c] < 0;
        for (uint32_t d = 0; d < 128; d++)
            if (unknown || b->ascii_id[d] < 0)
                join(p, c, d);
        if (unknown || no_space) {
            join(p, c, space);
            join(p, space, c);
        }
    }
    if (no_space)
        join(p, space, space);
    p->ascii_only = true;
}

struct pd_apart *pd_apart_new(const struct pd_bpe *b)
{
    if (b->ignore_merges)
        return NULL;
    struct pd_apart *p = pd_xalloc(sizeof *p);
    for (size_t i = 0; i < b->n_merge_slots; i++)
        if (b->merges[i].left != UINT32_MAX && !join_merge(p, b, &b->merges[i])) {
            pd_free(p);
            return NULL;
        }
    if (!all_bytes(b))
        join_unknown(p, b);
    return p;
}
