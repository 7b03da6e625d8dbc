/* The normaliser of SentencePiece: characters and sequences replaced by a table that the model
 * carries (a double array, as Darts-clone lays it out, then NUL-ended replacements), spaces marked
 * and, where the model says so, squeezed. */
#include "lm/tok_int.h"

/* A unit: bits 0-7 and 31 label, bit 8 "a value follows", bits 9-31 the offset to the children; in
 * a leaf bits 0-30 are the value. */
static uint32_t unit_offset(uint32_t u)
{
    return (u >> 10) << ((u & (1u << 9)) >> 6);
}

/* The unit that c leads to from the unit whose children begin at base; UINT32_MAX = none. */
static uint32_t child(const struct pd_spm_norm *m, uint32_t base, unsigned char c)
{
    uint32_t at = base ^ c;
    return at < m->n_units && (m->units[at] & (1u << 31 | 0xff)) == c ? at : UINT32_MAX;
}

/* The longest key of the table that text begins with: its length (0 = none) and its value. */
static size_t longest_key(const struct pd_spm_norm *m, struct pd_str text, uint32_t *value)
{
    size_t best = 0;
    if (m->n_units == 0)
        return 0;
    uint32_t base = unit_offset(m->units[0]);
    for (size_t i = 0; i < text.len; i++) {
        uint32_t at = child(m, base, (unsigned char)text.ptr[i]);
        if (at == UINT32_MAX)
            break;
        base = at ^ unit_offset(m->units[at]);
        if (m->units[at] >> 8 & 1) {
            if (base >= m->n_units)
                break;
            *value = m->units[base] & 0x7fffffff;
            best = i + 1;
        }
    }
    return best;
}

void pd_spm_norm_finish(struct pd_spm_norm *m)
{
    for (unsigned c = 0; c < 128; c++) {
        uint32_t at =
            m->n_units ? child(m, unit_offset(m->units[0]), (unsigned char)c) : UINT32_MAX;
        m->lone[c] = c != ' ' && (at == UINT32_MAX || !(m->units[at] >> 8 & 1));
        for (unsigned d = 0; d < 128 && at != UINT32_MAX; d++)
            if (child(m, at ^ unit_offset(m->units[at]), (unsigned char)d) != UINT32_MAX)
                m->lone[c] = false;
    }
}

/* How much of the text stays as it is for certain: ASCII of which nothing speaks. What stands
 * before another character may be part of a key with it. */
static size_t plain_front(const struct pd_spm_norm *m, const struct pd_added_set *kept,
                          struct pd_str text)
{
    const unsigned char *p = (const unsigned char *)text.ptr;
    size_t n = 0;
    while (n < text.len && p[n] < 128 && m->lone[p[n]] &&
           kept->first[p[n]] == kept->first[p[n] + 1])
        n++;
    return n > 0 && n < text.len && p[n] >= 128 ? n - 1 : n;
}

/* What the text begins with becomes *to; returns how much of the text that was. User-defined pieces
 * stay as they are. */
static size_t replace_front(const struct pd_spm_norm *m, const struct pd_added_set *kept,
                            struct pd_str text, struct pd_str *to)
{
    size_t len = 0;
    uint32_t value = 0;
    const struct pd_added *piece = pd_added_at(kept, text, 0);
    if (piece) {
        *to = (struct pd_str){text.ptr, piece->text.len};
        return piece->text.len;
    }
    size_t n = longest_key(m, text, &value);
    if (n > 0 && value < m->strings.len) {
        *to = pd_str_from(m->strings.ptr + value); /* NUL-ended: checked when it was read */
        return n;
    }
    (void)pd_char_at(text, 0, &len);
    *to = (struct pd_str){text.ptr, len};
    return len;
}

static struct pd_str rest_of(struct pd_str text, size_t n)
{
    return (struct pd_str){text.ptr + n, text.len - n};
}

static bool ends_in_space(const struct pd_buf *b, size_t start)
{
    return b->len >= start + 3 && memcmp(b->ptr + b->len - 3, PD_SPACE, 3) == 0;
}

void pd_spm_normalize(const struct pd_spm_norm *m, const struct pd_added_set *kept,
                      struct pd_str text, bool prefix, struct pd_buf *out)
{
    struct pd_str to;
    size_t n, start = out->len;
    while (m->squeeze && text.len > 0) {
        n = replace_front(m, kept, text, &to);
        if (!pd_str_eqz(to, " "))
            break;
        text = rest_of(text, n);
    }
    if (text.len == 0)
        return;
    if (prefix && m->dummy_prefix)
        pd_buf_adds(out, PD_SPACE);
    for (bool after_space = m->squeeze; text.len > 0; text = rest_of(text, n)) {
        n = plain_front(m, kept, text);
        if (n > 0) {
            pd_buf_add(out, text.ptr, n);
            after_space = false;
            continue;
        }
        n = replace_front(m, kept, text, &to);
        while (after_space && to.len > 0 && to.ptr[0] == ' ')
            to = rest_of(to, 1);
        pd_replace(out, to, PD_STR(" "), PD_STR(PD_SPACE));
        if (to.len > 0)
            after_space = m->squeeze && to.ptr[to.len - 1] == ' ';
    }
    while (m->squeeze && !out->failed && ends_in_space(out, start))
        out->len -= 3;
}
