#include "net/route.h"

#include "base/mem.h"

struct segment {
    struct pd_str text; /* literal, or the parameter's name */
    bool param, rest;
};

struct pd_route_entry {
    const struct pd_route *route;
    struct segment segs[PD_REQ_MAX_SEGMENTS];
    size_t n;
    unsigned literal_mask; /* literals early in the path win: compared as a number */
    bool rest;
};

static const char *const method_names[PD_N_METHODS] = {"GET", "POST", "PUT", "PATCH", "DELETE"};

const char *pd_method_name(enum pd_method m)
{
    return method_names[m];
}

bool pd_method_parse(const char *name, enum pd_method *out)
{
    if (strcmp(name, "HEAD") == 0) {
        *out = PD_GET;
        return true;
    }
    for (int i = 0; i < PD_N_METHODS; i++) {
        if (strcmp(name, method_names[i]) == 0) {
            *out = (enum pd_method)i;
            return true;
        }
    }
    return false;
}

void pd_router_init(struct pd_router *r)
{
    *r = (struct pd_router){0};
}

void pd_router_release(struct pd_router *r)
{
    pd_free(r->entries);
    *r = (struct pd_router){0};
}

static void compile(struct pd_route_entry *e, const struct pd_route *route)
{
    struct pd_str raw[PD_REQ_MAX_SEGMENTS];
    *e = (struct pd_route_entry){.route = route};
    if (route->pattern[0] != '/')
        pd_bug("route pattern %s does not begin with /", route->pattern);
    e->n = pd_uri_segments(pd_str_from(route->pattern), raw, PD_REQ_MAX_SEGMENTS);
    if (e->n > PD_REQ_MAX_SEGMENTS)
        pd_bug("route pattern %s has too many segments", route->pattern);
    size_t params = 0;
    for (size_t i = 0; i < e->n; i++) {
        struct pd_str s = raw[i];
        struct segment *seg = &e->segs[i];
        if (s.ptr[0] != '{') {
            *seg = (struct segment){.text = s};
            e->literal_mask |= 1U << (PD_REQ_MAX_SEGMENTS - i);
            continue;
        }
        if (s.len < 3 || s.ptr[s.len - 1] != '}' || ++params > PD_REQ_MAX_PARAMS)
            pd_bug("route pattern %s: bad parameter", route->pattern);
        seg->param = true;
        seg->rest = s.ptr[s.len - 2] == '*';
        seg->text = (struct pd_str){s.ptr + 1, s.len - 2 - (seg->rest ? 1 : 0)};
        if (seg->rest && i + 1 != e->n)
            pd_bug("route pattern %s: {x*} must come last", route->pattern);
        e->rest |= seg->rest;
    }
}

void pd_router_add(struct pd_router *r, const struct pd_route *rows, size_t n)
{
    r->entries = pd_xrealloc(r->entries, (r->n + n) * sizeof *r->entries);
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < r->n; k++) {
            const struct pd_route *o = r->entries[k].route;
            if (o->method == rows[i].method && o->door == rows[i].door &&
                strcmp(o->pattern, rows[i].pattern) == 0)
                pd_bug("route %s %s is there twice", pd_method_name(o->method), o->pattern);
        }
        compile(&r->entries[r->n++], &rows[i]);
    }
}

const struct pd_route *pd_router_row(const struct pd_router *r, size_t i)
{
    return i < r->n ? r->entries[i].route : NULL;
}

/* `rest` begins at segment e->n - 1 of the path and goes to its end. */
static bool fits(const struct pd_route_entry *e, const struct pd_str *segs, size_t n,
                 struct pd_str path, struct pd_route_match *m)
{
    if (e->rest ? n + 1 < e->n : n != e->n)
        return false;
    size_t params = 0;
    for (size_t i = 0; i < e->n; i++) {
        const struct segment *s = &e->segs[i];
        if (s->rest) {
            const char *end = path.ptr + path.len;
            const char *from = i < n ? segs[i].ptr : end;
            m->raw[params++] = (struct pd_str){from, (size_t)(end - from)};
        } else if (s->param) {
            m->raw[params++] = segs[i];
        } else if (!pd_str_eq(s->text, segs[i])) {
            return false;
        }
    }
    m->n_params = params;
    return true;
}

static bool better(const struct pd_route_entry *a, const struct pd_route_entry *b, int door)
{
    bool a_door = a->route->door == door, b_door = b->route->door == door;
    if (a_door != b_door)
        return a_door;
    if (a->rest != b->rest)
        return !a->rest;
    return a->literal_mask > b->literal_mask;
}

void pd_router_match(const struct pd_router *r, enum pd_method method, struct pd_str path, int door,
                     struct pd_route_match *out)
{
    struct pd_str segs[PD_REQ_MAX_SEGMENTS];
    *out = (struct pd_route_match){0};
    size_t n = pd_uri_segments(path, segs, PD_REQ_MAX_SEGMENTS);
    if (n > PD_REQ_MAX_SEGMENTS)
        return;
    const struct pd_route_entry *best = NULL;
    for (size_t i = 0; i < r->n; i++) {
        const struct pd_route_entry *e = &r->entries[i];
        struct pd_route_match m = {0};
        if (!fits(e, segs, n, path, &m))
            continue;
        out->allowed |= 1U << e->route->method;
        if (e->route->method != method || (best && !better(e, best, door)))
            continue;
        best = e;
        out->route = e->route;
        out->n_params = m.n_params;
        memcpy(out->raw, m.raw, sizeof m.raw);
    }
}
