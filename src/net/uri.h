/* The text pieces of an HTTP request that we parse ourselves: percent-encoding, query strings and
 * urlencoded forms, cookies, paths. All take any bytes, allocate from the arena only, and never
 * fail: what is malformed is kept as it stands (a lone '%') or skipped (a cookie without '=').
 * Threads: pure. */
#ifndef PD_NET_URI_H
#define PD_NET_URI_H

#include "base/arena.h"
#include "base/str.h"

struct pd_pair {
    struct pd_str key, value;
};

/* Decoded copy; '+' becomes a space when `plus`. May hold any byte, NUL included. */
struct pd_str pd_uri_decode(struct pd_arena *a, struct pd_str s, bool plus);
/* Appends s with everything but unreserved characters percent-encoded. */
void pd_uri_encode(struct pd_buf *out, struct pd_str s);
/* "a=1&b=2&a=3" in order, decoded; at most `max` pairs, the rest is dropped. Returns the count. */
size_t pd_uri_pairs(struct pd_arena *a, struct pd_str text, struct pd_pair *out, size_t max);
/* Value of one cookie in a Cookie header; ptr NULL when absent. Quotes around it are removed. */
struct pd_str pd_uri_cookie(struct pd_str header, const char *name);
/* Splits "/a/b%2Fc/" at '/' into raw (still encoded) segments; leading and trailing slashes do not
 * make segments. Returns the count, or max + 1 when there are more than max. */
size_t pd_uri_segments(struct pd_str path, struct pd_str *out, size_t max);

#endif
