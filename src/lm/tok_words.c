/* Words: the steps of a pre_tokenizer, each cutting the pieces of the one before. The regexes of
 * the known families are hand-written scanners: each alternative of the regex is one step of the
 * function, in the regex's order; what it takes is what the regex would match.
 *
 * GPT-2:   's|'t|'re|'ve|'m|'ll|'d | ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * Llama 3: PD_REGEX_LLAMA3; Qwen 2 the same with \p{N} for \p{N}{1,3}. */
#include "lm/tok_int.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define L_ PD_CHAR_LETTER
#define N_ PD_CHAR_NUMBER
#define S_ PD_CHAR_SPACE
static const uint8_t ascii[128] = {
    ['\t'] = S_, ['\n'] = S_, ['\v'] = S_, ['\f'] = S_, ['\r'] = S_, [' '] = S_, ['0'] = N_,
    ['1'] = N_,  ['2'] = N_,  ['3'] = N_,  ['4'] = N_,  ['5'] = N_,  ['6'] = N_, ['7'] = N_,
    ['8'] = N_,  ['9'] = N_,  ['A'] = L_,  ['B'] = L_,  ['C'] = L_,  ['D'] = L_, ['E'] = L_,
    ['F'] = L_,  ['G'] = L_,  ['H'] = L_,  ['I'] = L_,  ['J'] = L_,  ['K'] = L_, ['L'] = L_,
    ['M'] = L_,  ['N'] = L_,  ['O'] = L_,  ['P'] = L_,  ['Q'] = L_,  ['R'] = L_, ['S'] = L_,
    ['T'] = L_,  ['U'] = L_,  ['V'] = L_,  ['W'] = L_,  ['X'] = L_,  ['Y'] = L_, ['Z'] = L_,
    ['a'] = L_,  ['b'] = L_,  ['c'] = L_,  ['d'] = L_,  ['e'] = L_,  ['f'] = L_, ['g'] = L_,
    ['h'] = L_,  ['i'] = L_,  ['j'] = L_,  ['k'] = L_,  ['l'] = L_,  ['m'] = L_, ['n'] = L_,
    ['o'] = L_,  ['p'] = L_,  ['q'] = L_,  ['r'] = L_,  ['s'] = L_,  ['t'] = L_, ['u'] = L_,
    ['v'] = L_,  ['w'] = L_,  ['x'] = L_,  ['y'] = L_,  ['z'] = L_,
};

static inline enum pd_char kind_at(struct pd_str s, size_t at, size_t *len)
{
    unsigned char c = (unsigned char)s.ptr[at];
    if (c < 128) {
        *len = 1;
        return (enum pd_char)ascii[c];
    }
    return pd_char_wide(pd_char_at(s, at, len));
}

/* The end of the run of one kind that starts at `at`. */
static size_t run(struct pd_str s, size_t at, enum pd_char k)
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
    size_t last = pd_char_before(s, end);
    return last > at ? last : end;
}

static size_t next_gpt2(struct pd_str s, size_t at)
{
    size_t len, start = at;
    if (s.ptr[at] == '\'') {
        size_t n = contraction(s, at, false);
        if (n)
            return at + n;
    }
    if (s.ptr[at] == ' ' && at + 1 < s.len)
        start = at + 1;
    enum pd_char k = kind_at(s, start, &len);
    if (k != PD_CHAR_SPACE)
        return run(s, start + len, k);
    return take_spaces(s, at, run(s, at, PD_CHAR_SPACE));
}

static size_t next_llama3(struct pd_str s, size_t at, int max_digits)
{
    size_t len, next_len;
    if (s.ptr[at] == '\'') {
        size_t n = contraction(s, at, true);
        if (n)
            return at + n;
    }
    enum pd_char k = kind_at(s, at, &len);
    if (k == PD_CHAR_LETTER)
        return run(s, at + len, PD_CHAR_LETTER);
    if (k == PD_CHAR_NUMBER) {
        for (int i = 0; i < max_digits && at < s.len && kind_at(s, at, &len) == PD_CHAR_NUMBER; i++)
            at += len;
        return at;
    }
    if (s.ptr[at] != '\r' && s.ptr[at] != '\n' && at + len < s.len &&
        kind_at(s, at + len, &next_len) == PD_CHAR_LETTER)
        return run(s, at + len + next_len, PD_CHAR_LETTER);
    size_t start = s.ptr[at] == ' ' && at + 1 < s.len ? at + 1 : at;
    if (kind_at(s, start, &len) == PD_CHAR_OTHER) {
        size_t end = run(s, start, PD_CHAR_OTHER);
        while (end < s.len && (s.ptr[end] == '\r' || s.ptr[end] == '\n'))
            end++;
        return end;
    }
    size_t end = run(s, at, PD_CHAR_SPACE), newline = end;
    while (newline > at && s.ptr[newline - 1] != '\r' && s.ptr[newline - 1] != '\n')
        newline--;
    return newline > at ? newline : take_spaces(s, at, end);
}

/* ---- the other steps ---- */

static size_t next_digits(struct pd_str s, size_t at, bool alone)
{
    size_t len;
    bool number = kind_at(s, at, &len) == PD_CHAR_NUMBER;
    at += len;
    while (!(number && alone) && at < s.len && (kind_at(s, at, &len) == PD_CHAR_NUMBER) == number)
        at += len;
    return at;
}

static size_t next_punct_run(struct pd_str s, size_t at)
{
    size_t len;
    bool punct = pd_char_is_punct(pd_char_at(s, at, &len));
    do
        at += len;
    while (at < s.len && pd_char_is_punct(pd_char_at(s, at, &len)) == punct);
    return at;
}

/* The glyphs of the bytes B2 B3 B9 BC BD BE are superscript digits and fractions. */
static bool byte_is_digit(char byte)
{
    unsigned char c = (unsigned char)byte;
    return (unsigned)(c - '0') < 10 || c == 0xb2 || c == 0xb3 || c == 0xb9 ||
           (c >= 0xbc && c <= 0xbe);
}

static size_t next_byte_digits(struct pd_str s, size_t at)
{
    bool digit = byte_is_digit(s.ptr[at]);
    while (++at < s.len && byte_is_digit(s.ptr[at]) == digit)
        ;
    return at;
}

static bool three_digits(struct pd_str s, size_t at)
{
    if (s.len - at < 3)
        return false;
    for (size_t i = 0; i < 3; i++)
        if ((unsigned)(s.ptr[at + i] - '0') >= 10)
            return false;
    return true;
}

static size_t next_threes(struct pd_str s, size_t at)
{
    if (three_digits(s, at))
        return at + 3;
    while (++at < s.len && !three_digits(s, at))
        ;
    return at;
}

static bool is_mark(struct pd_str s, size_t at)
{
    return s.len - at >= 3 && memcmp(s.ptr + at, PD_SPACE, 3) == 0;
}

/* The next U+2581 after `at`, or the end. */
static size_t next_mark(struct pd_str s, size_t at)
{
    while (at < s.len) {
        const char *p = memchr(s.ptr + at, PD_SPACE[0], s.len - at);
        if (!p)
            return s.len;
        at = (size_t)(p - s.ptr);
        if (is_mark(s, at))
            return at;
        at++;
    }
    return s.len;
}

/* ---- a regex ---- */

static enum pd_rc find(struct pd_match *m, const struct pd_step *step, struct pd_str piece,
                       size_t at, struct pd_err *err)
{
    pcre2_code *code = step->code;
    if (!m->data)
        m->data = pcre2_match_data_create(1, NULL);
    if (!m->data)
        return PD_FAIL(err, PD_NOMEM, "no memory to match a regex");
    while (at < piece.len) {
        int n = pcre2_match(code, (PCRE2_SPTR)piece.ptr, piece.len, at, PCRE2_NO_UTF_CHECK, m->data,
                            NULL);
        if (n == PCRE2_ERROR_NOMATCH)
            break;
        if (n < 0) {
            PCRE2_UCHAR what[128] = "";
            (void)pcre2_get_error_message(n, what, sizeof what);
            return PD_FAIL(err, PD_INVALID, "the tokenizer's regex \"%.*s\" fails: %s",
                           PD_STR_ARG(step->pattern), (char *)what);
        }
        const size_t *span = pcre2_get_ovector_pointer(m->data);
        if (span[1] > span[0] && span[0] >= at) {
            m->begin = span[0];
            m->end = span[1];
            return PD_OK;
        }
        size_t len; /* an empty match cuts nothing: look on behind it */
        at = span[0] > at ? span[0] : at;
        if (at < piece.len) {
            (void)pd_char_at(piece, at, &len);
            at += len;
        }
    }
    m->begin = m->end = piece.len;
    return PD_OK;
}

/* Isolated: matches and what lies between them. */
static enum pd_rc next_regex(struct pd_words *w, size_t i, struct pd_str piece, size_t at,
                             bool fresh, size_t *end, struct pd_err *err)
{
    struct pd_match *m = &w->match[i];
    if (fresh || m->end <= at) {
        enum pd_rc rc = find(m, &w->steps->v[i], piece, at, err);
        if (rc != PD_OK)
            return rc;
    }
    *end = m->begin > at ? m->begin : m->end;
    return PD_OK;
}

/* ---- the walk ---- */

static size_t step_end(enum pd_step_kind kind, struct pd_str s, size_t at)
{
    switch (kind) {
    case PD_STEP_GPT2:
        return next_gpt2(s, at);
    case PD_STEP_LLAMA3:
        return next_llama3(s, at, 3);
    case PD_STEP_QWEN2:
        return next_llama3(s, at, 1);
    case PD_STEP_DIGITS:
        return next_digits(s, at, true);
    case PD_STEP_DIGIT_RUNS:
        return next_digits(s, at, false);
    case PD_STEP_PUNCT_RUNS:
        return next_punct_run(s, at);
    case PD_STEP_SPACE_LEADS:
        return next_mark(s, at + 1);
    case PD_STEP_BYTE_DIGITS:
        return next_byte_digits(s, at);
    case PD_STEP_THREES:
        return next_threes(s, at);
    case PD_STEP_REGEX:
    case PD_STEP_COUNT:
        break;
    }
    return s.len;
}

void pd_words_begin(struct pd_words *w, const struct pd_steps *steps, struct pd_str text)
{
    w->steps = steps;
    w->text = text;
    w->at = 0;
    for (size_t i = 0; i < steps->n; i++) {
        w->begin[i] = w->end[i] = 0;
        w->match[i] = (struct pd_match){NULL, 0, 0};
    }
}

enum pd_rc pd_words_next(struct pd_words *w, struct pd_str *word, bool *more, struct pd_err *err)
{
    size_t at = w->at, n = w->steps->n, i = 0, begin = 0, end = w->text.len;
    *more = at < w->text.len;
    if (!*more)
        return PD_OK;
    while (i < n && w->end[i] > at) { /* steps whose piece goes on */
        begin = w->begin[i];
        end = w->end[i++];
    }
    for (bool fresh = false; i < n; i++, fresh = true) {
        const char *base = w->text.ptr + begin;
        struct pd_str piece = {base, end - begin};
        if (w->steps->v[i].kind == PD_STEP_REGEX) {
            enum pd_rc rc = next_regex(w, i, piece, at - begin, fresh || at == begin, &end, err);
            if (rc != PD_OK)
                return rc;
        } else {
            end = step_end(w->steps->v[i].kind, piece, at - begin);
        }
        end += begin;
        w->begin[i] = begin = at;
        w->end[i] = end;
    }
    *word = (struct pd_str){w->text.ptr + at, end - at};
    w->at = end;
    return PD_OK;
}

void pd_words_end(struct pd_words *w)
{
    for (size_t i = 0; i < w->steps->n; i++)
        if (w->match[i].data)
            pcre2_match_data_free(w->match[i].data);
}

/* ---- lists of steps ---- */

const char *const pd_step_names[PD_STEP_COUNT] = {
    [PD_STEP_GPT2] = "gpt-2",
    [PD_STEP_LLAMA3] = "llama 3",
    [PD_STEP_QWEN2] = "qwen 2",
    [PD_STEP_DIGITS] = "digits alone",
    [PD_STEP_DIGIT_RUNS] = "digit runs",
    [PD_STEP_PUNCT_RUNS] = "punctuation runs",
    [PD_STEP_SPACE_LEADS] = "metaspace",
    [PD_STEP_REGEX] = "a regex of its own",
    [PD_STEP_BYTE_DIGITS] = "digit runs",
    [PD_STEP_THREES] = "three digits",
};

/* Oniguruma and PCRE2 read these differently. */
static const char *const ambiguous[] = {"\\h", "\\H", "}+", "\\Z", "\\O", "(?m", "\\K"};

static enum pd_rc compile(struct pd_step *step, struct pd_err *err)
{
    int number = 0;
    size_t at = 0;
    for (size_t i = 0; i < sizeof ambiguous / sizeof *ambiguous; i++)
        if (memmem(step->pattern.ptr, step->pattern.len, ambiguous[i], strlen(ambiguous[i])))
            return PD_FAIL(err, PD_UNSUPPORTED,
                           "pre_tokenizer: a regex with \"%s\", which engines read differently",
                           ambiguous[i]);
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)step->pattern.ptr, step->pattern.len,
                      PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &number, &at, NULL);
    if (!code) {
        PCRE2_UCHAR what[128] = "";
        (void)pcre2_get_error_message(number, what, sizeof what);
        return PD_FAIL(err, PD_INVALID, "pre_tokenizer: the regex does not compile at %zu: %s", at,
                       (char *)what);
    }
    (void)pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); /* slower without, and the same */
    step->code = code;
    return PD_OK;
}

enum pd_rc pd_steps_add(struct pd_steps *s, enum pd_step_kind kind, struct pd_str pattern,
                        struct pd_err *err)
{
    if (s->n == PD_MAX_STEPS)
        return PD_FAIL(err, PD_UNSUPPORTED, "pre_tokenizer: more than %d steps", PD_MAX_STEPS);
    struct pd_step step = {kind, pattern, NULL};
    if (kind == PD_STEP_REGEX) {
        enum pd_rc rc = compile(&step, err);
        if (rc != PD_OK)
            return rc;
    }
    s->v[s->n++] = step;
    return PD_OK;
}

void pd_steps_release(struct pd_steps *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->v[i].code)
            pcre2_code_free(s->v[i].code);
    s->n = 0;
}
