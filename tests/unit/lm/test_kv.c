/* The page pool: shared prompts, counting, and giving back. */
#include "lm/kv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

static void test_tree(void **state)
{
    enum { PAGE = PD_KV_PAGE };
    struct pd_kv_shape shape = {3, 2, 4, PD_KV_F32};
    struct pd_kv *kv;
    assert_int_equal(pd_kv_new(&shape, 6, &kv, NULL), PD_OK);
    struct pd_kv_node *root = pd_kv_node_new(NULL);
    assert_true(pd_kv_node_reserve(kv, root, PAGE + 8)); /* two pages */
    root->len = PAGE + 8;
    struct pd_kv_node *a = pd_kv_node_new(root), *b = pd_kv_node_new(root);
    assert_int_equal(a->base, PAGE + 8);
    assert_true(pd_kv_node_reserve(kv, a, 1));
    assert_true(pd_kv_node_reserve(kv, b, PAGE + 1));
    assert_int_equal(pd_kv_free_pages(kv), 1);
    b->len = PAGE + 1;
    assert_true(pd_kv_node_reserve(kv, b, PAGE - 1)); /* fits the page it has */
    assert_int_equal(pd_kv_free_pages(kv), 1);
    assert_false(pd_kv_node_reserve(kv, b, 3 * PAGE));
    assert_int_equal(b->n_pages, 2);

    /* no two pages share a float */
    int all[5] = {root->pages[0], root->pages[1], a->pages[0], b->pages[0], b->pages[1]};
    for (int i = 0; i < 5; i++)
        for (int l = 0; l < 3; l++)
            for (int t = 0; t < PD_KV_PAGE * 8; t++) {
                ((float *)pd_kv_keys(kv, l, all[i]).first)[t] = (float)(1000 * i + l);
                ((float *)pd_kv_values(kv, l, all[i]).first)[t] = (float)(1000 * i + l + 100);
            }
    for (int i = 0; i < 5; i++)
        for (int l = 0; l < 3; l++)
            for (int t = 0; t < PD_KV_PAGE * 8; t++) {
                assert_true(((float *)pd_kv_keys(kv, l, all[i]).first)[t] == (float)(1000 * i + l));
                assert_true(((float *)pd_kv_values(kv, l, all[i]).first)[t] ==
                            (float)(1000 * i + l + 100));
            }

    pd_kv_node_unref(kv, root); /* the children hold it */
    assert_int_equal(pd_kv_free_pages(kv), 1);
    pd_kv_node_unref(kv, a);
    assert_int_equal(pd_kv_free_pages(kv), 2);
    pd_kv_node_unref(kv, b);
    assert_int_equal(pd_kv_free_pages(kv), 6);
    pd_kv_free(kv);
}

/* Keys, their scales, values and theirs, one behind the other, layer by layer, page by page. */
static void test_scales(void **state)
{
    const struct pd_kv_shape shape = {2, 3, 5, PD_KV_INT8};
    const int64_t rows = PD_KV_PAGE * 3 * 16; /* a head of 5 values takes a lot of 16 */
    const int64_t half = rows + PD_KV_PAGE * 3 * 4;
    struct pd_kv *kv;
    assert_int_equal(pd_kv_page_bytes(&shape), 4 * half);
    assert_int_equal(pd_kv_new(&shape, 4, &kv, NULL), PD_OK);
    const char *slab = pd_kv_keys(kv, 0, 0).first;
    for (int at = 0; at < 16; at++) {
        const int page = at / 4, layer = at / 2 % 2;
        const struct pd_kv_rows r =
            at % 2 ? pd_kv_values(kv, layer, page) : pd_kv_keys(kv, layer, page);
        assert_ptr_equal(r.first, slab + at * half);
        assert_ptr_equal(r.scales, slab + at * half + rows);
    }
    pd_kv_free(kv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tree), cmocka_unit_test(test_scales)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
