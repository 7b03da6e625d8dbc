/* What torch.save wrote, value for value, and what is refused. Files:
 * tests/oracle/goldens/torch_files.py. */
#include "lm/weights.h"

#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"
#include "lm/pickle.h"
#include "lm/torch_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

static char dir[] = "/tmp/podium-torch-XXXXXX";

static int make_dir(void **state)
{
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    return pd_fs_remove_tree(dir, NULL) == PD_OK ? 0 : -1;
}

static void copy_to(const char *from, const char *to)
{
    struct pd_buf b;
    pd_buf_init(&b, 0);
    assert_int_equal(pd_fs_read(from, 1 << 20, &b, NULL), PD_OK);
    assert_int_equal(pd_fs_write_atomic(to, pd_buf_str(&b), 0644, NULL), PD_OK);
    pd_buf_release(&b);
}

static void compare(const struct pd_weights *w, struct json_object *row)
{
    struct pd_weight t;
    float got[64];
    const char *name = json_object_get_string(pd_json_get(row, "name"));
    struct json_object *shape = pd_json_get(row, "shape"), *values = pd_json_get(row, "values");
    size_t n = 1;
    assert_true(pd_weights_find(w, name, &t));
    assert_string_equal(t.dtype_name, json_object_get_string(pd_json_get(row, "dtype")));
    assert_int_equal(t.ndim, json_object_array_length(shape));
    for (int d = 0; d < t.ndim; d++) {
        assert_int_equal(t.shape[d], json_object_get_int64(json_object_array_get_idx(shape, d)));
        n *= (size_t)t.shape[d];
    }
    assert_true(n <= 64);
    assert_int_equal(t.known_dtype || t.f64, values != NULL);
    if (!values)
        return;
    if (t.f64 || t.strided)
        pd_weight_gather(&t, got);
    else
        pd_dtype_to_f32(t.dtype, t.data, got, n);
    for (size_t i = 0; i < n; i++)
        if (got[i] != (float)json_object_get_double(json_object_array_get_idx(values, i)))
            fail_msg("%s: value %zu is %.9g", name, i, (double)got[i]);
}

static void reads_what_torch_wrote(void **state)
{
    struct pd_weights w;
    struct pd_err err = {0};
    struct pd_lines *lines = NULL;
    struct pd_str line;
    bool more = true;
    int n = 0;
    char *bin = pd_xasprintf("%s/pytorch_model.bin", dir);
    copy_to(PD_FIXTURES "/torch/views.bin", bin);
    if (pd_weights_open_dir(&w, dir, &err) != PD_OK)
        fail_msg("%s", err.msg);
    assert_string_equal(pd_weights_format(&w), "torch");
    assert_int_equal(pd_lines_open(&lines, PD_FIXTURES "/torch/views.jsonl", 1 << 20, &err), PD_OK);
    while (pd_lines_next(lines, &line, &more, &err) == PD_OK && more) {
        struct json_object *row = NULL;
        assert_int_equal(pd_json_parse(line, &row, &err), PD_OK);
        compare(&w, row);
        json_object_put(row);
        n++;
    }
    struct pd_weight a, b;
    assert_true(pd_weights_find(&w, "plain", &a) && pd_weights_find(&w, "tied", &b));
    assert_ptr_equal(a.data, b.data); /* one storage, not a copy */
    assert_true(pd_weights_find(&w, "transposed", &b) && b.strided && a.data == b.data);
    assert_false(pd_weights_find(&w, "note", &a));
    assert_int_equal(n, w.torch->n_tensors);
    pd_lines_close(lines);
    pd_weights_close(&w);
    pd_free(bin);
}

static void reads_protocol_4(void **state)
{
    struct pd_torch *t = NULL;
    struct pd_err err = {0};
    if (pd_torch_open(&t, PD_FIXTURES "/torch/old.bin", &err) != PD_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(t->n_tensors, 2);
    assert_int_equal(pd_torch_find(t, "transposed")->stride[0], 1);
    pd_torch_close(t);
}

static void refuses(void **state)
{
    static const struct {
        const char *file;
        enum pd_rc rc;
        const char *says;
    } cases[] = {
        {"evil-system", PD_UNSUPPORTED, "posix.system"},
        {"evil-builtin", PD_UNSUPPORTED, "builtins.eval"},
        {"evil-compressed", PD_UNSUPPORTED, "compressed"},
        {"evil-cut", PD_PARSE, "truncated"},
        {"evil-shape", PD_PARSE, "tensor w: it reaches past its storage"},
        {"evil-loop", PD_UNSUPPORTED, "no tensor"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pd_torch *t = NULL;
        struct pd_err err = {0};
        char *path = pd_xasprintf("%s/torch/%s.bin", PD_FIXTURES, cases[i].file);
        assert_int_equal(pd_torch_open(&t, path, &err), cases[i].rc);
        if (!strstr(err.msg, cases[i].says) || !strstr(err.msg, path))
            fail_msg("%s: \"%s\" does not say \"%s\"", path, err.msg, cases[i].says);
        pd_free(path);
    }
}

/* A value takes a byte of the file, and sixty of memory. */
static void values_are_limited(void **state)
{
    static const char *const none[] = {NULL};
    const size_t most = 2 << 20;
    struct pd_arena arena;
    struct pd_err err = {0};
    struct pd_pk *v = NULL;
    char *none_each = memset(pd_xalloc(most + 1), 'N', most + 1);
    const struct pd_str bytes = {none_each, most + 1};
    pd_arena_init(&arena);
    assert_int_equal(pd_pickle_read(&v, bytes, none, &arena, "f.bin", &err), PD_TOOBIG);
    assert_string_equal(err.msg, "f.bin: pickle, byte 2097152: more than 2097152 values");
    assert_null(v);
    pd_arena_release(&arena);
    pd_arena_init(&arena);
    none_each[most] = '.';
    assert_int_equal(pd_pickle_read(&v, bytes, none, &arena, "f.bin", &err), PD_OK);
    assert_int_equal(v->kind, PD_PK_NONE);
    pd_arena_release(&arena);
    pd_free(none_each);
}

/* Every byte of a small file turned into others: an error or a set, never a crash. */
static void survives_damage(void **state)
{
    static const unsigned char with[] = {0x00, 0xff, 0x7f, 'R', '('};
    struct pd_buf b;
    int refused = 0;
    pd_buf_init(&b, 0);
    assert_int_equal(pd_fs_read(PD_FIXTURES "/torch/old.bin", 1 << 20, &b, NULL), PD_OK);
    for (size_t i = 0; i < b.len; i++)
        for (size_t k = 0; k < sizeof with; k++) {
            struct pd_torch *t = NULL;
            char was = b.ptr[i];
            b.ptr[i] = (char)with[k];
            if (pd_torch_open_bytes(&t, b.ptr, b.len, "damaged", NULL) == PD_OK)
                pd_torch_close(t);
            else
                refused++;
            b.ptr[i] = was;
        }
    for (size_t n = 0; n < b.len; n++) {
        struct pd_torch *t = NULL;
        assert_int_not_equal(pd_torch_open_bytes(&t, b.ptr, n, "cut", NULL), PD_OK);
    }
    assert_true(refused > 500);
    pd_buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_torch_wrote),
        cmocka_unit_test(reads_protocol_4),
        cmocka_unit_test(refuses),
        cmocka_unit_test(values_are_limited),
        cmocka_unit_test(survives_damage),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
