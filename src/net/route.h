/* The router: rows of several tables, matched segment by segment, literals before parameters.
 * Patterns are checked once at start (pd_bug on a bad one or a duplicate). Threads: read-only after
 * init. */
#ifndef PD_NET_ROUTE_H
#define PD_NET_ROUTE_H

#include "net/http.h"

struct pd_router {
    struct pd_route_entry *entries;
    size_t n, cap;
};

void pd_router_init(struct pd_router *r);
void pd_router_release(struct pd_router *r);
void pd_router_add(struct pd_router *r, const struct pd_route *rows, size_t n);

struct pd_route_match {
    const struct pd_route *route;         /* NULL: see allowed */
    struct pd_str raw[PD_REQ_MAX_PARAMS]; /* still percent-encoded */
    size_t n_params;
    unsigned allowed; /* bit per method that the path knows; 0 = no such path */
};
/* `door` >= 0 takes rows of that door first, then any. */
void pd_router_match(const struct pd_router *r, enum pd_method method, struct pd_str path, int door,
                     struct pd_route_match *out);
/* The i-th row that was added; NULL past the last. */
const struct pd_route *pd_router_row(const struct pd_router *r, size_t i);
const char *pd_method_name(enum pd_method m);
bool pd_method_parse(const char *name, enum pd_method *out); /* HEAD counts as GET */

#endif
