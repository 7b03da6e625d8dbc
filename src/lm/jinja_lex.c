/* A template's text to tokens: tags, and the white space that they eat. */
#include "lm/jinja_int.h"
#include "lm/tok_int.h"

struct lexer {
    struct pd_arena *arena;
    struct pd_str s;
    size_t at;
    int line;
    bool line_start; /* the text behind the last tag begins a line */
    struct pd_j_token *v;
    size_t n, cap;
    struct pd_err *err;
};

static enum pd_rc fail(const struct lexer *l, const char *what)
{
    return PD_FAIL(l->err, PD_INVALID, "line %d: %s", l->line, what);
}

static struct pd_j_token *push(struct lexer *l, enum pd_j_tok kind, struct pd_str text)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 64;
        struct pd_j_token *v = pd_arena_alloc(l->arena, l->cap * sizeof *v);
        if (l->n)
            memcpy(v, l->v, l->n * sizeof *v);
        l->v = v;
    }
    l->v[l->n] = (struct pd_j_token){.kind = kind, .line = l->line, .text = text};
    return &l->v[l->n++];
}

static bool here(const struct lexer *l, const char *z)
{
    size_t n = strlen(z);
    return l->s.len - l->at >= n && memcmp(l->s.ptr + l->at, z, n) == 0;
}

static void advance(struct lexer *l, size_t n)
{
    for (size_t i = 0; i < n; i++)
        l->line += l->s.ptr[l->at + i] == '\n';
    l->at += n;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\v' || c == '\f' || c == '\r';
}

static bool is_white(char c)
{
    return is_blank(c) || c == '\n';
}

/* ---- the text between tags ---- */

static struct pd_str right_stripped(struct pd_str s)
{
    struct pd_j_str whole = {.s = s};
    return pd_j_strip(whole, NULL, false, true).s;
}

/* Text that ends where a tag opens: `-` eats all white space before it; a block or comment at the
 * start of a line eats the line's indentation, unless it says `+`. */
static struct pd_str before_tag(const struct lexer *l, struct pd_str text, char opening, char sign)
{
    if (sign == '-')
        return right_stripped(text);
    if (sign == '+' || opening == '{')
        return text;
    size_t start = text.len;
    while (start > 0 && is_blank(text.ptr[start - 1]))
        start--;
    bool line_start = start > 0 ? text.ptr[start - 1] == '\n' : l->line_start;
    return line_start ? (struct pd_str){text.ptr, start} : text;
}

/* Behind the end of a tag: `-` eats all white space, a block or comment one newline. */
static void after_tag(struct lexer *l, bool minus, bool plus, bool block)
{
    l->line_start = false;
    if (minus) {
        size_t from = l->at;
        struct pd_j_str rest = {.s = {l->s.ptr + l->at, l->s.len - l->at}};
        struct pd_str left = pd_j_strip(rest, NULL, true, false).s;
        advance(l, rest.s.len - left.len);
        l->line_start = l->at > from && l->s.ptr[l->at - 1] == '\n';
    } else if (block && !plus && here(l, "\n")) {
        advance(l, 1);
        l->line_start = true;
    }
}

static void push_text(struct lexer *l, struct pd_str text)
{
    if (text.len > 0)
        push(l, PD_J_TEXT, text);
}

/* ---- inside tags ---- */

static bool name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static void add_utf8(char *dst, size_t *n, uint32_t c)
{
    if (c < 0x80) {
        dst[(*n)++] = (char)c;
    } else if (c < 0x800) {
        dst[(*n)++] = (char)(0xc0 | c >> 6);
        dst[(*n)++] = (char)(0x80 | (c & 0x3f));
    } else {
        if (c >= 0x10000) {
            dst[(*n)++] = (char)(0xf0 | c >> 18);
            dst[(*n)++] = (char)(0x80 | (c >> 12 & 0x3f));
        } else {
            dst[(*n)++] = (char)(0xe0 | c >> 12);
        }
        dst[(*n)++] = (char)(0x80 | (c >> 6 & 0x3f));
        dst[(*n)++] = (char)(0x80 | (c & 0x3f));
    }
}

/* \xNN, \uNNNN, \UNNNNNNNN: false when it is none. */
static bool hex_escape(struct pd_str s, size_t *at, uint32_t *cp)
{
    char kind = s.ptr[*at];
    size_t digits = kind == 'x' ? 2 : kind == 'u' ? 4 : kind == 'U' ? 8 : 0;
    if (digits == 0 || s.len - *at - 1 < digits)
        return false;
    *cp = 0;
    for (size_t i = 1; i <= digits; i++) {
        char c = s.ptr[*at + i], low = (char)(c | 32);
        bool digit = c >= '0' && c <= '9', letter = low >= 'a' && low <= 'f';
        if (!digit && !letter)
            return false;
        *cp = *cp << 4 | (uint32_t)(digit ? c - '0' : low - 'a' + 10);
    }
    *at += digits;
    return *cp <= 0x10ffff && !(*cp >= 0xd800 && *cp < 0xe000);
}

/* A literal as Python's unicode-escape reads it; an unknown escape stays as it is. */
static enum pd_rc unescape(struct lexer *l, struct pd_str s, struct pd_str *out)
{
    static const char from[] = "nrtabfv\\'\"0", to[] = "\n\r\t\a\b\f\v\\'\"\0";
    char *dst = pd_arena_alloc(l->arena, s.len + 1);
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        uint32_t cp = 0;
        if (s.ptr[i] != '\\' || i + 1 == s.len) {
            dst[n++] = s.ptr[i];
            continue;
        }
        i++;
        const char *known = memchr(from, s.ptr[i], sizeof from - 1);
        if (known) {
            dst[n++] = to[known - from];
        } else if (s.ptr[i] == 'x' || s.ptr[i] == 'u' || s.ptr[i] == 'U') {
            if (!hex_escape(s, &i, &cp))
                return fail(l, "a string with an escape that is no character");
            add_utf8(dst, &n, cp);
        } else if (s.ptr[i] != '\n') {
            dst[n++] = '\\';
            dst[n++] = s.ptr[i];
        }
    }
    *out = (struct pd_str){dst, n};
    return PD_OK;
}

static enum pd_rc lex_string(struct lexer *l)
{
    char quote = l->s.ptr[l->at];
    size_t end = l->at + 1;
    while (end < l->s.len && l->s.ptr[end] != quote)
        end += l->s.ptr[end] == '\\' ? 2 : 1;
    if (end >= l->s.len)
        return fail(l, "a string that does not end");
    struct pd_str text = {0};
    enum pd_rc rc = unescape(l, (struct pd_str){l->s.ptr + l->at + 1, end - l->at - 1}, &text);
    if (rc != PD_OK)
        return rc;
    push(l, PD_J_STRING, text);
    advance(l, end + 1 - l->at);
    return PD_OK;
}

static bool is_digit(const struct lexer *l, size_t at)
{
    return at < l->s.len && l->s.ptr[at] >= '0' && l->s.ptr[at] <= '9';
}

/* Behind digits: whether a fraction or an exponent begins at `at`, and how many signs it has. */
static size_t goes_on(const struct lexer *l, size_t at, bool real, bool exponent)
{
    char c = at < l->s.len ? l->s.ptr[at] : 0;
    if (c == '.' && !real && is_digit(l, at + 1))
        return 1;
    if ((c == 'e' || c == 'E') && !exponent) {
        size_t signs = at + 1 < l->s.len && (l->s.ptr[at + 1] == '-' || l->s.ptr[at + 1] == '+');
        return is_digit(l, at + 1 + signs) ? 1 + signs : 0;
    }
    return 0;
}

static enum pd_rc lex_number(struct lexer *l)
{
    char digits[64];
    size_t n = 0, end = l->at, more = 0;
    bool real = false, exponent = false;
    while (n + 3 < sizeof digits) {
        if (is_digit(l, end) || (end < l->s.len && l->s.ptr[end] == '_' && is_digit(l, end + 1))) {
            if (l->s.ptr[end] != '_')
                digits[n++] = l->s.ptr[end];
            end++;
        } else if ((more = goes_on(l, end, real, exponent))) {
            exponent = l->s.ptr[end] != '.';
            real = true;
            for (; more > 0; more--)
                digits[n++] = l->s.ptr[end++];
        } else {
            break;
        }
    }
    if (end < l->s.len && name_char(l->s.ptr[end]))
        return fail(l, "a number in a form that is not read");
    struct pd_str text = {digits, n};
    struct pd_j_token *t = push(l, real ? PD_J_FLOAT : PD_J_INT, PD_STR(""));
    if (!(real ? pd_str_to_f64(text, &t->f) : pd_str_to_i64(text, &t->i)))
        return fail(l, "a number that is too large");
    advance(l, end - l->at);
    return PD_OK;
}

static enum pd_rc lex_operator(struct lexer *l)
{
    static const char *const ops[] = {"==", "!=", "<=", ">=", "//", "**", "+", "-", "*",
                                      "/",  "%",  "~",  "<",  ">",  "=",  "(", ")", "[",
                                      "]",  "{",  "}",  ",",  ".",  ":",  "|"};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (here(l, ops[i])) {
            push(l, PD_J_OP, pd_str_from(ops[i]));
            advance(l, strlen(ops[i]));
            return PD_OK;
        }
    return fail(l, "a character that means nothing inside a tag");
}

/* Up to the end of a tag, which is "}}" or "%}". */
static enum pd_rc lex_inside(struct lexer *l, const char *close, enum pd_j_tok end)
{
    enum pd_rc rc = PD_OK;
    int depth = 0; /* of braces: "}}" may close two dicts */
    while (rc == PD_OK) {
        while (l->at < l->s.len && is_white(l->s.ptr[l->at]))
            advance(l, 1);
        if (l->at == l->s.len)
            return fail(l, "a tag that does not end");
        bool minus = here(l, "-"), plus = here(l, "+");
        size_t sign = minus || plus;
        l->at += sign;
        bool closes = here(l, close) && (depth == 0 || end == PD_J_TAG_END);
        l->at -= sign;
        if (closes) {
            push(l, end, PD_STR(""));
            advance(l, sign + 2);
            after_tag(l, minus, plus, end == PD_J_TAG_END);
            return PD_OK;
        }
        char c = l->s.ptr[l->at];
        if (c == '"' || c == '\'') {
            rc = lex_string(l);
        } else if (c >= '0' && c <= '9') {
            rc = lex_number(l);
        } else if (name_char(c)) {
            size_t stop = l->at;
            while (stop < l->s.len && name_char(l->s.ptr[stop]))
                stop++;
            push(l, PD_J_NAME, (struct pd_str){l->s.ptr + l->at, stop - l->at});
            advance(l, stop - l->at);
        } else {
            depth += (c == '{') - (c == '}');
            rc = lex_operator(l);
        }
    }
    return rc;
}

/* ---- comments and raw blocks ---- */

static enum pd_rc skip_comment(struct lexer *l)
{
    const char *end = memmem(l->s.ptr + l->at, l->s.len - l->at, "#}", 2);
    if (!end)
        return fail(l, "a comment that does not end");
    advance(l, (size_t)(end - l->s.ptr) - l->at);
    char sign = l->s.ptr[l->at - 1];
    advance(l, 2);
    after_tag(l, sign == '-', sign == '+', true);
    return PD_OK;
}

/* "{% word %}" at `at` with any signs: its length, 0 = it is another tag. */
static size_t tag_of_word(const struct lexer *l, size_t at, const char *word, bool *minus_before,
                          bool *minus_after)
{
    size_t i = at + 2, n = strlen(word);
    const char *p = l->s.ptr;
    *minus_before = i < l->s.len && p[i] == '-';
    i += i < l->s.len && (p[i] == '-' || p[i] == '+');
    while (i < l->s.len && is_white(p[i]))
        i++;
    if (l->s.len - i < n || memcmp(p + i, word, n) != 0)
        return 0;
    i += n;
    while (i < l->s.len && is_white(p[i]))
        i++;
    *minus_after = i < l->s.len && p[i] == '-';
    i += i < l->s.len && (p[i] == '-' || p[i] == '+');
    return l->s.len - i >= 2 && p[i] == '%' && p[i + 1] == '}' ? i + 2 - at : 0;
}

static enum pd_rc lex_raw(struct lexer *l, size_t tag, bool minus)
{
    advance(l, tag);
    after_tag(l, minus, false, true);
    size_t from = l->at;
    for (size_t i = from; i + 1 < l->s.len; i++) {
        bool before = false, after = false;
        size_t n = 0;
        if (l->s.ptr[i] != '{' || l->s.ptr[i + 1] != '%' ||
            !(n = tag_of_word(l, i, "endraw", &before, &after)))
            continue;
        struct pd_str text = {l->s.ptr + from, i - from};
        push_text(l, before_tag(l, text, '%', before ? '-' : 0));
        advance(l, i + n - l->at);
        after_tag(l, after, false, true);
        return PD_OK;
    }
    return fail(l, "a raw block that does not end");
}

static enum pd_rc lex_tag(struct lexer *l, size_t text_from)
{
    char opening = l->s.ptr[l->at + 1], sign = l->at + 2 < l->s.len ? l->s.ptr[l->at + 2] : 0;
    bool before = false, after = false;
    push_text(
        l, before_tag(l, (struct pd_str){l->s.ptr + text_from, l->at - text_from}, opening, sign));
    size_t raw = opening == '%' ? tag_of_word(l, l->at, "raw", &before, &after) : 0;
    if (raw)
        return lex_raw(l, raw, after);
    advance(l, opening != '#' && (sign == '-' || sign == '+') ? 3 : 2);
    if (opening == '#')
        return skip_comment(l);
    if (opening == '%') {
        push(l, PD_J_TAG, PD_STR(""));
        return lex_inside(l, "%}", PD_J_TAG_END);
    }
    push(l, PD_J_PRINT, PD_STR(""));
    return lex_inside(l, "}}", PD_J_PRINT_END);
}

enum pd_rc pd_j_lex(struct pd_arena *a, struct pd_str source, struct pd_j_token **out,
                    struct pd_err *err)
{
    struct lexer l = {.arena = a, .s = source, .line = 1, .line_start = true, .err = err};
    size_t text_from = 0;
    if (source.len > 0 && source.ptr[source.len - 1] == '\n')
        l.s.len--; /* Jinja keeps no newline at the very end */
    while (l.at < l.s.len) {
        if (!here(&l, "{{") && !here(&l, "{%") && !here(&l, "{#")) {
            advance(&l, 1);
            continue;
        }
        enum pd_rc rc = lex_tag(&l, text_from);
        if (rc != PD_OK)
            return rc;
        text_from = l.at;
    }
    push_text(&l, (struct pd_str){l.s.ptr + text_from, l.at - text_from});
    push(&l, PD_J_EOF, PD_STR(""));
    *out = l.v;
    return PD_OK;
}
