/* Borrowed string views and the growable byte buffer.
 *
 * struct pd_str borrows: whoever made the bytes owns them. struct pd_buf owns its bytes, keeps a
 * NUL after them, and has a maximum set at init so that nothing grows without a bound: past it the
 * buffer is marked `failed`, further appends do nothing, and the owner checks once at the end. */
#ifndef PD_BASE_STR_H
#define PD_BASE_STR_H

#include "base/err.h"
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

struct pd_str {
    const char *ptr;
    size_t len;
};

#define PD_STR(lit)   ((struct pd_str){"" lit, sizeof(lit) - 1})
/* For printf("%.*s", PD_STR_ARG(s)). */
#define PD_STR_ARG(s) (int)(s).len, (s).ptr

struct pd_str pd_str_from(const char *z); /* NULL -> empty */
bool pd_str_eq(struct pd_str a, struct pd_str b);
bool pd_str_eqz(struct pd_str a, const char *z);
int pd_str_cmp(struct pd_str a, struct pd_str b); /* by bytes, a beginning first; as memcmp */
bool pd_str_starts(struct pd_str s, struct pd_str prefix);
bool pd_str_ends(struct pd_str s, struct pd_str suffix);
struct pd_str pd_str_trim(struct pd_str s); /* ASCII white space off both ends */
/* Cut the next token before `sep` off *rest; false when *rest was exhausted. */
bool pd_str_split(struct pd_str *rest, char sep, struct pd_str *token);
bool pd_str_to_i64(struct pd_str s, int64_t *out); /* whole string, no overflow */
bool pd_str_to_f64(struct pd_str s, double *out);  /* whole string, finite */
/* Offset of the first byte that is not valid UTF-8 (surrogates and overlongs refused), or len. */
size_t pd_utf8_valid_prefix(struct pd_str s);
/* Where the character before byte `at` begins; s is valid UTF-8 up to there, at > 0. */
static inline size_t pd_char_before(struct pd_str s, size_t at)
{
    do
        at--;
    while (((unsigned char)s.ptr[at] & 0xc0) == 0x80);
    return at;
}

struct pd_buf {
    char *ptr; /* NUL-terminated once anything was appended */
    size_t len, cap, max;
    bool failed; /* grew past max or memory ran out */
};

#define PD_BUF_DEFAULT_MAX ((size_t)1 << 30)
void pd_buf_init(struct pd_buf *b, size_t max_bytes); /* 0 = PD_BUF_DEFAULT_MAX */
void pd_buf_release(struct pd_buf *b);
void pd_buf_clear(struct pd_buf *b); /* empties, keeps the memory */
void pd_buf_add(struct pd_buf *b, const void *p, size_t n);
void pd_buf_adds(struct pd_buf *b, const char *z);
void pd_buf_addstr(struct pd_buf *b, struct pd_str s);
void pd_buf_addc(struct pd_buf *b, char c);
void pd_buf_addf(struct pd_buf *b, const char *fmt, ...) PD_PRINTF(2, 3);
void pd_buf_vaddf(struct pd_buf *b, const char *fmt, va_list ap);
PD_CHECKED bool pd_buf_reserve(struct pd_buf *b, size_t extra);
struct pd_str pd_buf_str(const struct pd_buf *b);
const char *pd_buf_cstr(const struct pd_buf *b); /* never NULL */
char *pd_buf_detach(struct pd_buf *b);           /* caller frees with pd_free; b is empty after */

/* Levenshtein distance, for "did you mean"; 99 for strings of 63 bytes or more. */
size_t pd_str_distance(struct pd_str a, struct pd_str b);

#endif
