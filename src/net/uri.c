#include "net/uri.h"

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

struct pd_str pd_uri_decode(struct pd_arena *a, struct pd_str s, bool plus)
{
    char *out = pd_arena_alloc(a, s.len + 1);
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (c == '%' && i + 2 < s.len) {
            int hi = hex_digit(s.ptr[i + 1]), lo = hex_digit(s.ptr[i + 2]);
            if (hi >= 0 && lo >= 0) {
                out[n++] = (char)(hi * 16 + lo);
                i += 2;
                continue;
            }
        }
        out[n++] = c == '+' && plus ? ' ' : c;
    }
    out[n] = '\0';
    return (struct pd_str){out, n};
}

static bool unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

void pd_uri_encode(struct pd_buf *out, struct pd_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (unreserved(s.ptr[i]))
            pd_buf_addc(out, s.ptr[i]);
        else
            pd_buf_addf(out, "%%%02X", (unsigned)(unsigned char)s.ptr[i]);
    }
}

size_t pd_uri_pairs(struct pd_arena *a, struct pd_str text, struct pd_pair *out, size_t max)
{
    size_t n = 0;
    struct pd_str item;
    while (n < max && pd_str_split(&text, '&', &item)) {
        if (item.len == 0)
            continue;
        struct pd_str rest = item, key;
        if (!pd_str_split(&rest, '=', &key))
            continue;
        if (rest.ptr == NULL)
            rest = (struct pd_str){"", 0};
        out[n].key = pd_uri_decode(a, key, true);
        out[n].value = pd_uri_decode(a, rest, true);
        n++;
    }
    return n;
}

struct pd_str pd_uri_cookie(struct pd_str header, const char *name)
{
    struct pd_str item;
    while (pd_str_split(&header, ';', &item)) {
        item = pd_str_trim(item);
        const char *eq = item.len ? memchr(item.ptr, '=', item.len) : NULL;
        if (!eq)
            continue;
        struct pd_str key = {item.ptr, (size_t)(eq - item.ptr)};
        if (!pd_str_eqz(pd_str_trim(key), name))
            continue;
        struct pd_str v = {eq + 1, item.len - key.len - 1};
        v = pd_str_trim(v);
        if (v.len >= 2 && v.ptr[0] == '"' && v.ptr[v.len - 1] == '"')
            v = (struct pd_str){v.ptr + 1, v.len - 2};
        return v;
    }
    return (struct pd_str){NULL, 0};
}

size_t pd_uri_segments(struct pd_str path, struct pd_str *out, size_t max)
{
    size_t n = 0;
    struct pd_str seg;
    while (pd_str_split(&path, '/', &seg)) {
        if (seg.len == 0)
            continue;
        if (n == max)
            return max + 1;
        out[n++] = seg;
    }
    return n;
}
