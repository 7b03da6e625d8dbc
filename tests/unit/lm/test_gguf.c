/* GGUF: what a good file says, and every way a bad one lies. */
#include "gguf_writer.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void small_file(struct pd_buf *out)
{
    struct gguf_writer w;
    static const char *const words[] = {"a", "", "ccc"};
    static const int32_t numbers[] = {7, -8, 9};
    static const float matrix[6] = {1, 2, 3, 4, 5, 6};
    static const uint64_t dims[] = {3, 2};
    static const unsigned char q8[34] = {0x00, 0x3c, 1, 2, 3};
    static const uint64_t q8_dims[] = {32};
    gw_init(&w);
    gw_kv_str(&w, "general.architecture", "llama");
    gw_kv_u32(&w, "x.count", 42);
    gw_kv_f32(&w, "x.eps", 1e-5f);
    gw_kv_bool(&w, "x.flag", true);
    gw_kv_strs(&w, "x.words", words, 3);
    gw_kv_i32s(&w, "x.numbers", numbers, 3);
    gw_tensor(&w, "m.weight", 2, dims, 0, matrix, sizeof matrix);
    gw_tensor(&w, "q.weight", 1, q8_dims, 8, q8, sizeof q8);
    gw_finish(&w, out);
    gw_release(&w);
}

static enum pd_rc open_bytes(const struct pd_buf *b, struct pd_gguf **g, struct pd_err *err)
{
    return pd_gguf_open_bytes(g, b->ptr, b->len, "test.gguf", err);
}

static void reads_what_was_written(void **state)
{
    struct pd_buf b;
    struct pd_gguf *g = NULL;
    struct pd_err err = {0};
    pd_buf_init(&b, 0);
    small_file(&b);
    assert_int_equal(open_bytes(&b, &g, &err), PD_OK);
    assert_true(pd_str_eqz(pd_gguf_str(g, "general.architecture"), "llama"));
    assert_int_equal(pd_gguf_i64(g, "x.count", 0), 42);
    assert_true(pd_gguf_f64(g, "x.eps", 0) == 1e-5); /* the decimal that was meant */
    assert_true(pd_gguf_bool(g, "x.flag", false));
    assert_int_equal(pd_gguf_i64(g, "absent", -3), -3);
    assert_null(pd_gguf_str(g, "x.count").ptr);

    const struct pd_gguf_kv *words = pd_gguf_get(g, "x.words");
    const unsigned char *at = words->at;
    assert_int_equal(words->n, 3);
    assert_true(pd_str_eqz(pd_gguf_next_str(&at), "a"));
    assert_int_equal(pd_gguf_next_str(&at).len, 0);
    assert_true(pd_str_eqz(pd_gguf_next_str(&at), "ccc"));
    assert_int_equal(pd_gguf_elem_i64(pd_gguf_get(g, "x.numbers"), 1), -8);

    const struct pd_gguf_tensor *m = pd_gguf_tensor(g, "m.weight");
    assert_int_equal(m->ndim, 2);
    assert_int_equal(m->shape[0], 2); /* outermost first */
    assert_int_equal(m->shape[1], 3);
    assert_true(((const float *)m->data)[5] == 6);
    const struct pd_gguf_tensor *q = pd_gguf_tensor(g, "q.weight");
    float row[32];
    assert_int_equal(q->dtype, PD_DTYPE_Q8_0);
    pd_dtype_to_f32(q->dtype, q->data, row, 32);
    assert_true(row[0] == 1 && row[2] == 3 && row[3] == 0);
    assert_null(pd_gguf_tensor(g, "absent"));
    pd_gguf_close(g);
    pd_buf_release(&b);
}

/* Whatever is cut off, the file is refused, and reading never leaves it (the sanitizers watch). */
static void refuses_every_truncation(void **state)
{
    struct pd_buf b;
    pd_buf_init(&b, 0);
    small_file(&b);
    for (size_t n = 0; n < b.len; n++) {
        struct pd_gguf *g = NULL;
        struct pd_err err = {0};
        char *copy = pd_xalloc(n + 1);
        memcpy(copy, b.ptr, n);
        assert_int_not_equal(pd_gguf_open_bytes(&g, copy, n, "cut.gguf", &err), PD_OK);
        assert_non_null(strstr(err.msg, "cut.gguf"));
        assert_null(g);
        pd_free(copy);
    }
    pd_buf_release(&b);
}

/* Any one byte changed: refused or opened, never a crash. */
static void survives_every_changed_byte(void **state)
{
    struct pd_buf b;
    pd_buf_init(&b, 0);
    small_file(&b);
    static const unsigned char changes[] = {0x01, 0x80, 0xff};
    for (size_t i = 0; i < b.len; i++)
        for (size_t c = 0; c < sizeof changes; c++) {
            struct pd_gguf *g = NULL;
            char old = b.ptr[i];
            b.ptr[i] = (char)(old ^ changes[c]);
            if (open_bytes(&b, &g, NULL) == PD_OK)
                for (size_t t = 0; t < g->n_tensors; t++) {
                    const char *end = (const char *)g->tensors[t].data + g->tensors[t].bytes;
                    assert_true(end <= b.ptr + b.len);
                }
            pd_gguf_close(g);
            b.ptr[i] = old;
        }
    pd_buf_release(&b);
}

static void expect_refused(struct pd_buf *b, const char *piece)
{
    struct pd_gguf *g = NULL;
    struct pd_err err = {0};
    assert_int_not_equal(open_bytes(b, &g, &err), PD_OK);
    if (!strstr(err.msg, piece))
        fail_msg("\"%s\" is not in \"%s\"", piece, err.msg);
    pd_buf_release(b);
}

static void header(struct pd_buf *b, uint32_t version, uint64_t n_tensors, uint64_t n_kvs)
{
    pd_buf_init(b, 0);
    pd_buf_adds(b, "GGUF");
    gw_u32(b, version);
    gw_u64(b, n_tensors);
    gw_u64(b, n_kvs);
}

static void names_the_lie(void **state)
{
    struct pd_buf b;
    pd_buf_init(&b, 0);
    pd_buf_adds(&b, "GGMLxxxxxxxxxxxxxxxxxxxx");
    expect_refused(&b, "not a GGUF file");

    header(&b, 1, 0, 0);
    expect_refused(&b, "version 1");
    header(&b, 3, UINT64_MAX, 0);
    expect_refused(&b, "tensors do not fit");
    header(&b, 3, 0, (uint64_t)1 << 60);
    expect_refused(&b, "keys do not fit");

    header(&b, 3, 0, 1); /* a key longer than the file */
    gw_u64(&b, UINT64_MAX - 7);
    pd_buf_adds(&b, "abcdefghijklm");
    expect_refused(&b, "does not fit");

    header(&b, 3, 0, 1); /* arrays in arrays in arrays */
    gw_text(&b, "deep");
    for (int i = 0; i < 12; i++) {
        gw_u32(&b, PD_GGUF_ARR);
        if (i)
            gw_u64(&b, 1);
    }
    expect_refused(&b, "nest deeper");

    header(&b, 3, 0, 1); /* 2^61 eight-byte values: the product wraps around */
    gw_text(&b, "k");
    gw_u32(&b, PD_GGUF_ARR);
    gw_u32(&b, PD_GGUF_U64);
    gw_u64(&b, (uint64_t)1 << 61);
    gw_u64(&b, 0);
    expect_refused(&b, "does not fit");

    header(&b, 3, 0, 1);
    gw_text(&b, "k");
    gw_u32(&b, 77);
    gw_u64(&b, 0);
    expect_refused(&b, "type 77");

    header(&b, 3, 0, 2);
    for (int i = 0; i < 2; i++) {
        gw_text(&b, "same");
        gw_u32(&b, PD_GGUF_U32);
        gw_u32(&b, 1);
    }
    expect_refused(&b, "stands twice");
}

static void tensor_file(struct pd_buf *b, const uint64_t *dims, uint32_t ndim, uint32_t type,
                        uint64_t offset)
{
    header(b, 3, 1, 0);
    gw_text(b, "t");
    gw_u32(b, ndim);
    for (uint32_t d = 0; d < ndim && d < 8; d++)
        gw_u64(b, dims[d]);
    gw_u32(b, type);
    gw_u64(b, offset);
    while (b->len % 32 != 0 || b->len < 128)
        pd_buf_addc(b, 0);
}

static void tensors_must_lie_in_the_file(void **state)
{
    struct pd_buf b;
    static const uint64_t fits[8] = {4, 2, 1, 1, 1, 1, 1, 1};
    static const uint64_t wraps[8] = {(uint64_t)1 << 40, (uint64_t)1 << 40, 1, 1};
    static const uint64_t odd[8] = {33};
    tensor_file(&b, wraps, 2, 0, 0);
    expect_refused(&b, "multiply past");
    tensor_file(&b, fits, 7, 0, 0);
    expect_refused(&b, "7 dimensions");
    tensor_file(&b, fits, 2, 0, 1 << 20);
    expect_refused(&b, "outside the file");
    tensor_file(&b, fits, 2, 0, UINT64_MAX - 31);
    expect_refused(&b, "outside the file");
    tensor_file(&b, fits, 2, 0, 4);
    expect_refused(&b, "not a multiple of 32");
    tensor_file(&b, odd, 1, 8, 0);
    expect_refused(&b, "blocks of 32");
    tensor_file(&b, fits, 2, 99, 0);
    expect_refused(&b, "type 99");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_was_written),       cmocka_unit_test(refuses_every_truncation),
        cmocka_unit_test(survives_every_changed_byte),  cmocka_unit_test(names_the_lie),
        cmocka_unit_test(tensors_must_lie_in_the_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
