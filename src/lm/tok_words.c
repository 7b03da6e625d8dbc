/* The regexes of byte-level tokenizers as hand-written scanners. Each alternative of the regex is
 * one step below, in the regex's order; what a step takes is what the regex would match.
 *
 * GPT-2:   's|'t|'re|'ve|'m|'ll|'d | ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * Llama 3: PD_REGEX_LLAMA3; Qwen 2 the same with \p{N} for \p{N}{1,3}. */
#include "lm/tok_int.h"

#include <utf8proc.h>

enum kind { OTHER, LETTER, NUMBER, SPACE };

static enum kind ascii_kind(uint32_t c)
{
    if ((c | 32) - 'a' < 26)
        return LETTER;
    if (c - '0' < 10)
        return NUMBER;
    return c == ' ' || c - '\t' < 5 ? SPACE : OTHER;
}

bool pd_char_is_space(uint32_t cp)
{
    if (cp < 128)
        return ascii_kind(cp) == SPACE;
    return cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

static enum kind kind_of(uint32_t cp)
{
    if (cp < 128)
        return ascii_kind(cp);
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return NUMBER;
    default:
        return pd_char_is_space(cp) ? SPACE : OTHER;
    }
}

/* Letters that are symbols by category: circled, squared. */
static bool is_symbol_letter(uint32_t cp)
{
    return (cp >= 0x24b6 && cp <= 0x24e9) || (cp >= 0x1f130 && cp <= 0x1f149) ||
           (cp >= 0x1f150 && cp <= 0x1f169) || (cp >= 0x1f170 && cp <= 0x1f189);
}

/* Unicode's \w: Alphabetic, marks, decimal digits, connectors, joiners (UTS 18, annex C). */
bool pd_char_is_word(uint32_t cp)
{
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
        return true;
    default:
        return kind_of(cp) == LETTER || cp == 0x200c || cp == 0x200d || is_symbol_letter(cp);
    }
}

uint32_t pd_char_at(struct pd_str text, size_t at, size_t *len)
{
    const unsigned char *p = (const unsigned char *)text.ptr + at;
    if (p[0] < 0x80) {
        *len = 1;
        return p[0];
    }
    if (p[0] < 0xe0) {
        *len = 2;
        return (uint32_t)(p[0] & 0x1f) << 6 | (p[1] & 0x3f);
    }
    if (p[0] < 0xf0) {
        *len = 3;
        return (uint32_t)(p[0] & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
    }
    *len = 4;
    return (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3f) << 12 |
           (uint32_t)(p[2] & 0x3f) << 6 | (p[3] & 0x3f);
}

static enum kind kind_at(struct pd_str s, size_t at, size_t *len)
{
    return kind_of(pd_char_at(s, at, len));
}

/* The end of the run of one kind that starts at `at`. */
static size_t run(struct pd_str s, size_t at, enum kind k)
{
    size_t len;
    while (at < s.len && kind_at(s, at, &len) == k)
        at += len;
    return at;
}

/* Bytes of the contraction at s[at] == '\'', or 0. */
static size_t contraction(struct pd_str s, size_t at, bool case_blind)
{
    char a = at + 1 < s.len ? s.ptr[at + 1] : 0, b = at + 2 < s.len ? s.ptr[at + 2] : 0;
    if (case_blind) {
        if (a == '\xc5' && b == '\xbf') /* long s folds to s */
            return 3;
        a = (char)(a >= 'A' && a <= 'Z' ? a + 32 : a);
        b = (char)(b >= 'A' && b <= 'Z' ? b + 32 : b);
    }
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l'))
        return 3;
    return 0;
}

/* \s+(?!\S)|\s+ over the white space [at, end): all of it at the end of the text, else all but its
 * last character, which leads the next word, unless it is the only one. */
static size_t take_spaces(struct pd_str s, size_t at, size_t end)
{
    if (end == s.len)
        return end;
    size_t last = end - 1;
    while (((unsigned char)s.ptr[last] & 0xc0) == 0x80)
        last--;
    return last > at ? last : end;
}

/* digits_alone: Digits(individual_digits) has cut first. A number character stands alone, and the
 * text between two of them is a text of its own to the regex: white space before a number is white
 * space at the end. */
static size_t next_gpt2(struct pd_str s, size_t at, bool digits_alone)
{
    size_t len, start = at;
    if (s.ptr[at] == '\'') {
        size_t n = contraction(s, at, false);
        if (n)
            return at + n;
    }
    if (s.ptr[at] == ' ' && at + 1 < s.len)
        start = at + 1;
    enum kind k = kind_at(s, start, &len);
    if (k == NUMBER && digits_alone)
        return start > at ? start : at + len;
    if (k != SPACE)
        return run(s, start + len, k);
    size_t end = run(s, at, SPACE);
    if (digits_alone && end < s.len && kind_at(s, end, &len) == NUMBER)
        return end;
    return take_spaces(s, at, end);
}

static size_t next_llama3(struct pd_str s, size_t at, int max_digits)
{
    size_t len, next_len;
    if (s.ptr[at] == '\'') {
        size_t n = contraction(s, at, true);
        if (n)
            return at + n;
    }
    enum kind k = kind_at(s, at, &len);
    if (k == LETTER)
        return run(s, at, LETTER);
    if (k != NUMBER && s.ptr[at] != '\r' && s.ptr[at] != '\n' && at + len < s.len &&
        kind_at(s, at + len, &next_len) == LETTER)
        return run(s, at + len, LETTER);
    if (k == NUMBER) {
        for (int i = 0; i < max_digits && at < s.len && kind_at(s, at, &len) == NUMBER; i++)
            at += len;
        return at;
    }
    size_t start = s.ptr[at] == ' ' && at + 1 < s.len ? at + 1 : at;
    if (kind_at(s, start, &len) == OTHER) {
        size_t end = run(s, start, OTHER);
        while (end < s.len && (s.ptr[end] == '\r' || s.ptr[end] == '\n'))
            end++;
        return end;
    }
    size_t end = run(s, at, SPACE), newline = end;
    while (newline > at && s.ptr[newline - 1] != '\r' && s.ptr[newline - 1] != '\n')
        newline--;
    return newline > at ? newline : take_spaces(s, at, end);
}

size_t pd_words_next(enum pd_words kind, struct pd_str text, size_t at)
{
    switch (kind) {
    case PD_WORDS_SMOLLM:
        return next_gpt2(text, at, true);
    case PD_WORDS_LLAMA3:
        return next_llama3(text, at, 3);
    case PD_WORDS_QWEN2:
        return next_llama3(text, at, 1);
    case PD_WORDS_GPT2:
    case PD_WORDS_COUNT:
        break;
    }
    return next_gpt2(text, at, false);
}
