/* Query strings, forms, cookies and paths: whatever comes, the pieces lie inside what was given,
 * and what was decoded comes back from its encoding. */
#include "net/route.h"
#include "net/uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum pd_rc nothing(struct pd_req *req, struct pd_err *err)
{
    (void)req, (void)err;
    return PD_OK;
}

static const struct pd_route table[] = {
    {PD_GET, "/ui/datasets/{id}", nothing, 0, 0, 0, 0, ""},
    {PD_GET, "/ui/datasets/new", nothing, 0, 0, 0, 0, ""},
    {PD_GET, "/assets/{path*}", nothing, 0, 0, 0, 0, ""},
};

static void check_inside(struct pd_str part, struct pd_str whole)
{
    if (part.len && (part.ptr < whole.ptr || part.ptr + part.len > whole.ptr + whole.len))
        pd_bug("a piece lies outside of what was given");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pd_str text = {(const char *)data, size}, segs[8];
    struct pd_pair pairs[16];
    struct pd_arena a;
    struct pd_buf b;
    struct pd_router router;
    struct pd_route_match m;
    pd_arena_init(&a);
    pd_buf_init(&b, 0);
    pd_router_init(&router);
    pd_router_add(&router, table, sizeof table / sizeof table[0]);

    struct pd_str plain = pd_uri_decode(&a, text, false);
    if (plain.len > size)
        pd_bug("decoding made it longer");
    pd_uri_encode(&b, plain);
    struct pd_str again = pd_uri_decode(&a, pd_buf_str(&b), false);
    if (!pd_str_eq(plain, again))
        pd_bug("a round trip changed it");

    size_t n = pd_uri_pairs(&a, text, pairs, 16);
    for (size_t i = 0; i < n; i++)
        if (pairs[i].key.len + pairs[i].value.len > size)
            pd_bug("a pair is longer than the text");
    check_inside(pd_uri_cookie(text, "podium_session"), text);
    n = pd_uri_segments(text, segs, 8);
    for (size_t i = 0; i < n && i < 8; i++)
        check_inside(segs[i], text);
    pd_router_match(&router, PD_GET, text, -1, &m);
    for (size_t i = 0; i < m.n_params; i++)
        check_inside(m.raw[i], text);

    pd_router_release(&router);
    pd_buf_release(&b);
    pd_arena_release(&a);
    return 0;
}
