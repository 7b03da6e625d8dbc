#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "net/route.h"
#include "net/uri.h"

static void decode_and_encode(void **state)
{
    struct pd_arena a;
    pd_arena_init(&a);
    struct pd_str s = pd_uri_decode(&a, PD_STR("a%20b+c%2Fd%zz%4"), true);
    assert_true(pd_str_eqz(s, "a b c/d%zz%4"));
    s = pd_uri_decode(&a, PD_STR("a+b%00c"), false);
    assert_int_equal(s.len, 5);
    assert_memory_equal(s.ptr, "a+b\0c", 5);
    struct pd_buf out;
    pd_buf_init(&out, 0);
    pd_uri_encode(&out, PD_STR("a b/\xc3\xa9~"));
    assert_string_equal(pd_buf_cstr(&out), "a%20b%2F%C3%A9~");
    pd_buf_release(&out);
    pd_arena_release(&a);
}

static void pairs(void **state)
{
    struct pd_arena a;
    struct pd_pair p[4];
    pd_arena_init(&a);
    assert_int_equal(pd_uri_pairs(&a, PD_STR("include=x&include=y%26z&&flag&e="), p, 4), 4);
    assert_true(pd_str_eqz(p[0].key, "include") && pd_str_eqz(p[0].value, "x"));
    assert_true(pd_str_eqz(p[1].value, "y&z"));
    assert_true(pd_str_eqz(p[2].key, "flag") && p[2].value.ptr && p[2].value.len == 0);
    assert_true(pd_str_eqz(p[3].key, "e") && p[3].value.len == 0);
    assert_int_equal(pd_uri_pairs(&a, PD_STR("a=1&b=2&c=3&d=4&e=5"), p, 4), 4);
    assert_int_equal(pd_uri_pairs(&a, (struct pd_str){0}, p, 4), 0);
    pd_arena_release(&a);
}

static void cookies(void **state)
{
    struct pd_str h = PD_STR("a=1; podium_session=\"tok\" ;xpodium_session=no; bare");
    assert_true(pd_str_eqz(pd_uri_cookie(h, "podium_session"), "tok"));
    assert_true(pd_str_eqz(pd_uri_cookie(h, "a"), "1"));
    assert_null(pd_uri_cookie(h, "bare").ptr);
    assert_null(pd_uri_cookie((struct pd_str){0}, "a").ptr);
}

static enum pd_rc nothing(struct pd_req *req, struct pd_err *err)
{
    return PD_OK;
}

static const struct pd_route table[] = {
    {PD_GET, "/", nothing, 0, 0, 0, 0, ""},
    {PD_GET, "/d/{id}", nothing, 1, 0, 0, 0, ""},
    {PD_DELETE, "/d/{id}", nothing, 2, 0, 0, 0, ""},
    {PD_GET, "/d/new", nothing, 3, 0, 0, 0, ""},
    {PD_GET, "/d/{id}/r/{r}", nothing, 4, 0, 0, 0, ""},
    {PD_GET, "/files/{path*}", nothing, 5, 0, 0, 0, ""},
    {PD_GET, "/users", nothing, 6, 1, 0, 0, ""},
    {PD_GET, "/users", nothing, 7, 2, 0, 0, ""},
};

static void routes(void **state)
{
    struct pd_router r;
    struct pd_route_match m;
    pd_router_init(&r);
    pd_router_add(&r, table, sizeof table / sizeof table[0]);
    static const struct {
        enum pd_method method;
        const char *path;
        int door, policy; /* -1: none */
        const char *first;
    } cases[] = {
        {PD_GET, "/", -1, 0, NULL},
        {PD_GET, "", -1, 0, NULL},
        {PD_GET, "/d/7", -1, 1, "7"},
        {PD_GET, "/d/7/", -1, 1, "7"},
        {PD_DELETE, "/d/a%2Fb", -1, 2, "a%2Fb"},
        {PD_GET, "/d/new", -1, 3, NULL},
        {PD_GET, "/d/1/r/2", -1, 4, "1"},
        {PD_GET, "/files/a/b.js", -1, 5, "a/b.js"},
        {PD_GET, "/files", -1, 5, ""},
        {PD_GET, "/users", 1, 6, NULL},
        {PD_GET, "/users", 2, 7, NULL},
        {PD_GET, "/nope", -1, -1, NULL},
        {PD_POST, "/d/7", -1, -1, NULL},
        {PD_GET, "/a/b/c/d/e/f/g/h/i/j/k/l/m/n", -1, -1, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        pd_router_match(&r, cases[i].method, pd_str_from(cases[i].path), cases[i].door, &m);
        assert_int_equal(m.route ? m.route->policy : -1, cases[i].policy);
        if (cases[i].first)
            assert_true(pd_str_eqz(m.raw[0], cases[i].first));
    }
    pd_router_match(&r, PD_POST, PD_STR("/d/7"), -1, &m);
    assert_int_equal(m.allowed, (1 << PD_GET) | (1 << PD_DELETE));
    pd_router_release(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decode_and_encode),
        cmocka_unit_test(pairs),
        cmocka_unit_test(cookies),
        cmocka_unit_test(routes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
