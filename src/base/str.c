#include "base/str.h"
#include "base/mem.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct pd_str pd_str_from(const char *z)
{
    return (struct pd_str){z, z ? strlen(z) : 0};
}

bool pd_str_eq(struct pd_str a, struct pd_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

int pd_str_cmp(struct pd_str a, struct pd_str b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int c = n ? memcmp(a.ptr, b.ptr, n) : 0;
    return c ? c : (a.len > b.len) - (a.len < b.len);
}

bool pd_str_eqz(struct pd_str a, const char *z)
{
    return pd_str_eq(a, pd_str_from(z));
}

bool pd_str_starts(struct pd_str s, struct pd_str prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

bool pd_str_ends(struct pd_str s, struct pd_str suffix)
{
    return s.len >= suffix.len &&
           (suffix.len == 0 || memcmp(s.ptr + s.len - suffix.len, suffix.ptr, suffix.len) == 0);
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

struct pd_str pd_str_trim(struct pd_str s)
{
    while (s.len && is_space(s.ptr[0]))
        s.ptr++, s.len--;
    while (s.len && is_space(s.ptr[s.len - 1]))
        s.len--;
    return s;
}

bool pd_str_split(struct pd_str *rest, char sep, struct pd_str *token)
{
    if (!rest->ptr)
        return false;
    const char *at = rest->len ? memchr(rest->ptr, sep, rest->len) : NULL;
    if (!at) {
        *token = *rest;
        *rest = (struct pd_str){NULL, 0};
        return true;
    }
    size_t n = (size_t)(at - rest->ptr);
    *token = (struct pd_str){rest->ptr, n};
    *rest = (struct pd_str){at + 1, rest->len - n - 1};
    return true;
}

/* A NUL-terminated copy for the strto* family; false when it cannot be a number. */
static bool number_text(struct pd_str s, char buf[64])
{
    if (s.len == 0 || s.len >= 64 || is_space(s.ptr[0]))
        return false;
    memcpy(buf, s.ptr, s.len);
    buf[s.len] = '\0';
    return strlen(buf) == s.len;
}

bool pd_str_to_i64(struct pd_str s, int64_t *out)
{
    char buf[64], *end;
    if (!number_text(s, buf))
        return false;
    errno = 0;
    long long v = strtoll(buf, &end, 10);
    if (errno || *end)
        return false;
    *out = v;
    return true;
}

bool pd_str_to_f64(struct pd_str s, double *out)
{
    char buf[64], *end;
    if (!number_text(s, buf))
        return false;
    double v = strtod(buf, &end);
    if (*end || !isfinite(v))
        return false;
    *out = v;
    return true;
}

/* Length of the UTF-8 sequence at p (n bytes left), or 0 when it is not valid. */
static size_t utf8_sequence(const unsigned char *p, size_t n)
{
    unsigned c = p[0];
    if (c < 0x80)
        return 1;
    size_t len = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;
    if (c < 0xC2 || c > 0xF4 || n < len)
        return 0;
    unsigned lo = 0x80, hi = 0xBF; /* range of the second byte: overlongs, surrogates, > U+10FFFF */
    if (c == 0xE0)
        lo = 0xA0;
    else if (c == 0xED)
        hi = 0x9F;
    else if (c == 0xF0)
        lo = 0x90;
    else if (c == 0xF4)
        hi = 0x8F;
    if (p[1] < lo || p[1] > hi)
        return 0;
    for (size_t i = 2; i < len; i++)
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    return len;
}

size_t pd_utf8_valid_prefix(struct pd_str s)
{
    const unsigned char *p = (const unsigned char *)s.ptr;
    size_t i = 0;
    while (i < s.len) {
        uint64_t word;
        if (s.len - i >= 8) {
            memcpy(&word, p + i, 8);
            if (!(word & 0x8080808080808080u)) {
                i += 8;
                continue;
            }
        }
        size_t n = utf8_sequence(p + i, s.len - i);
        if (!n)
            return i;
        i += n;
    }
    return i;
}

void pd_buf_init(struct pd_buf *b, size_t max_bytes)
{
    memset(b, 0, sizeof *b);
    b->max = max_bytes ? max_bytes : PD_BUF_DEFAULT_MAX;
}

void pd_buf_release(struct pd_buf *b)
{
    pd_free(b->ptr);
    size_t max = b->max;
    memset(b, 0, sizeof *b);
    b->max = max;
}

void pd_buf_clear(struct pd_buf *b)
{
    b->len = 0;
    b->failed = false;
    if (b->ptr)
        b->ptr[0] = '\0';
}

bool pd_buf_reserve(struct pd_buf *b, size_t extra)
{
    if (b->failed)
        return false;
    size_t need;
    if (__builtin_add_overflow(b->len, extra, &need) || need > b->max) {
        b->failed = true;
        return false;
    }
    if (need + 1 <= b->cap)
        return true;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need + 1)
        cap += cap / 2 + 64;
    char *p = pd_try_realloc(b->ptr, cap, 1);
    if (!p) {
        b->failed = true;
        return false;
    }
    b->ptr = p;
    b->cap = cap;
    return true;
}

void pd_buf_add(struct pd_buf *b, const void *p, size_t n)
{
    if (!pd_buf_reserve(b, n))
        return;
    if (n)
        memcpy(b->ptr + b->len, p, n);
    b->len += n;
    b->ptr[b->len] = '\0';
}

void pd_buf_adds(struct pd_buf *b, const char *z)
{
    pd_buf_add(b, z, strlen(z));
}

void pd_buf_addstr(struct pd_buf *b, struct pd_str s)
{
    pd_buf_add(b, s.ptr, s.len);
}

void pd_buf_addc(struct pd_buf *b, char c)
{
    pd_buf_add(b, &c, 1);
}

void pd_buf_vaddf(struct pd_buf *b, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    if (n >= 0 && pd_buf_reserve(b, (size_t)n)) {
        vsnprintf(b->ptr + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

void pd_buf_addf(struct pd_buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    pd_buf_vaddf(b, fmt, ap);
    va_end(ap);
}

struct pd_str pd_buf_str(const struct pd_buf *b)
{
    return (struct pd_str){b->ptr, b->len};
}

const char *pd_buf_cstr(const struct pd_buf *b)
{
    return b->ptr ? b->ptr : "";
}

char *pd_buf_detach(struct pd_buf *b)
{
    char *p = b->ptr ? b->ptr : pd_xstrdup("");
    b->ptr = NULL;
    b->len = b->cap = 0;
    b->failed = false;
    return p;
}

size_t pd_str_distance(struct pd_str a, struct pd_str b)
{
    size_t row[64];
    if (a.len >= 63 || b.len >= 63)
        return 99;
    for (size_t j = 0; j <= b.len; j++)
        row[j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            size_t best = diagonal + (a.ptr[i - 1] != b.ptr[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[b.len];
}
