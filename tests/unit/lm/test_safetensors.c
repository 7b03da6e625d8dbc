/* safetensors: round trips in each dtype, shards, and files that break the format's rules. */
#include "lm/safetensors.h"

#include "base/mem.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

static char dir[] = "/tmp/podium-st-XXXXXX";

static int make_dir(void **state)
{
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    return pd_fs_remove_tree(dir, NULL) == PD_OK ? 0 : -1;
}

struct values {
    const float *v;
    int64_t row;
};

static void fill(void *ctx, int64_t first, int64_t n, float *dst)
{
    const struct values *s = ctx;
    memcpy(dst, s->v + first * s->row, (size_t)(n * s->row) * sizeof *dst);
}

static float a[6] = {1, -2.5f, 3, 0.1f, 1e-3f, 65504}, b[2] = {7, -8};
static struct values a_values = {a, 3}, b_values = {b, 1};
static const int64_t a_shape[] = {2, 3}, b_shape[] = {2};
static const struct pd_st_out two[] = {
    {"a.weight", 2, a_shape, fill, &a_values},
    {"b.bias", 1, b_shape, fill, &b_values},
};

static void round_trips(void **state)
{
    static const enum pd_dtype dtypes[] = {PD_DTYPE_F32, PD_DTYPE_F16, PD_DTYPE_BF16};
    char *path = pd_xasprintf("%s/one.safetensors", dir);
    for (size_t k = 0; k < 3; k++) {
        struct pd_st *s = NULL;
        struct pd_err err = {0};
        float back[6];
        assert_int_equal(pd_st_write(path, two, 2, dtypes[k], &err), PD_OK);
        if (pd_st_open(&s, path, &err) != PD_OK)
            fail_msg("%s", err.msg);
        const struct pd_st_tensor *t = pd_st_find(s, "a.weight");
        assert_int_equal(t->ndim, 2);
        assert_int_equal(t->shape[1], 3);
        assert_int_equal(t->dtype, dtypes[k]);
        pd_dtype_to_f32(t->dtype, t->data, back, 6);
        for (int i = 0; i < 6; i++)
            assert_true(fabsf(back[i] - a[i]) <= fabsf(a[i]) * (k == 0   ? 0
                                                                : k == 1 ? 1e-3f
                                                                         : 8e-3f));
        t = pd_st_find(s, "b.bias");
        pd_dtype_to_f32(t->dtype, t->data, back, 2);
        assert_true(back[0] == 7 && back[1] == -8);
        /* the data begin at a multiple of 8, and transformers finds its mark */
        assert_int_equal(
            ((const unsigned char *)pd_st_find(s, "a.weight")->data - s->files[0].map.ptr) % 8, 0);
        assert_non_null(memmem(s->files[0].map.ptr, s->files[0].map.len,
                               "\"__metadata__\":{\"format\":\"pt\"}", 30));
        pd_st_close(s);
    }
    pd_free(path);
}

static void shards_are_one_set(void **state)
{
    struct pd_st *s = NULL;
    struct pd_err err = {0};
    char *folder = pd_xasprintf("%s/sharded", dir);
    char *index = pd_xasprintf("%s/model.safetensors.index.json", folder);
    char *shard = pd_xasprintf("%s/model-00002-of-00002.safetensors", folder);
    assert_int_equal(pd_fs_mkdirs(folder, 0755, &err), PD_OK);
    assert_int_equal(pd_st_write_dir(folder, two, 2, PD_DTYPE_F32, 24, false, &err), PD_OK);
    assert_true(pd_fs_exists(index) && pd_fs_exists(shard));
    assert_int_equal(pd_st_open_dir(&s, folder, &err), PD_OK);
    assert_int_equal(s->n_files, 2);
    assert_int_equal(s->n_tensors, 2);
    assert_true(pd_str_eqz(pd_str_from(pd_st_path(s, pd_st_find(s, "b.bias"))), shard));
    pd_st_close(s);

    /* written again as one file: the index must not shadow or be shadowed */
    s = NULL;
    assert_int_equal(pd_st_write_dir(folder, two, 1, PD_DTYPE_F32, 1000, false, &err), PD_OK);
    assert_false(pd_fs_exists(index));
    assert_int_equal(pd_st_open_dir(&s, folder, &err), PD_OK);
    assert_int_equal(s->n_tensors, 1);
    pd_st_close(s);
    pd_free(folder);
    pd_free(index);
    pd_free(shard);
}

static void index_stays_in_its_folder(void **state)
{
    struct pd_st *s = NULL;
    struct pd_err err = {0};
    char *folder = pd_xasprintf("%s/escape", dir);
    char *index = pd_xasprintf("%s/model.safetensors.index.json", folder);
    assert_int_equal(pd_fs_mkdirs(folder, 0755, &err), PD_OK);
    static const char *const bad[] = {
        "{\"weight_map\":{\"a\":\"../one.safetensors\"}}",
        "{\"weight_map\":{\"a\":\"/etc/passwd\"}}",
        "{\"weight_map\":{\"a\":7}}",
        "{\"weight_map\":{\"a\":\"\"}}",
        "{\"weight_map\":[]}",
        "{}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(pd_fs_write_atomic(index, pd_str_from(bad[i]), 0644, &err), PD_OK);
        assert_int_not_equal(pd_st_open_dir(&s, folder, &err), PD_OK);
        assert_non_null(strstr(err.msg, "index.json"));
    }
    assert_int_equal(pd_st_open_dir(&s, "/nonexistent-folder", &err), PD_NOTFOUND);
    pd_free(folder);
    pd_free(index);
}

static enum pd_rc open_text(const char *json, size_t n_data, struct pd_err *err)
{
    struct pd_buf file;
    struct pd_st *s = NULL;
    uint64_t n = strlen(json);
    pd_buf_init(&file, 0);
    pd_buf_add(&file, &n, sizeof n);
    pd_buf_adds(&file, json);
    for (size_t i = 0; i < n_data; i++)
        pd_buf_addc(&file, 0);
    enum pd_rc rc = pd_st_open_bytes(&s, file.ptr, file.len, "t.safetensors", err);
    pd_st_close(s);
    pd_buf_release(&file);
    return rc;
}

static void holds_the_rules(void **state)
{
    static const struct {
        const char *json, *piece;
        size_t data;
    } bad[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", "lie outside", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", "its tensors take",
         12},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", "a hole", 12},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
         "an overlap", 12},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", "do not take", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", "not a size", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,8]}}",
         "not a size", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", "lie outside", 8},
        {"{\"a\":{\"dtype\":\"F31\",\"shape\":[2],\"data_offsets\":[0,8]}}", "F31", 8},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", "lacks", 8},
        {"{\"a\":7}", "lacks", 0},
        {"[]", "not a JSON object", 0},
        {"{\"a\":", "header", 0},
    };
    struct pd_err err = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_not_equal(open_text(bad[i].json, bad[i].data, &err), PD_OK);
        if (!strstr(err.msg, bad[i].piece) || !strstr(err.msg, "t.safetensors"))
            fail_msg("case %zu: \"%s\" is not in \"%s\"", i, bad[i].piece, err.msg);
    }
    assert_int_equal(open_text("{}", 0, &err), PD_OK);
    /* rank 0, size 0, an unknown but legal dtype, any order */
    assert_int_equal(open_text("{\"z\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[4,12]},"
                               "\"e\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[4,4]},"
                               "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                               "\"__metadata__\":{\"x\":\"y\"}}",
                               12, &err),
                     PD_OK);
    uint64_t lie = UINT64_MAX;
    struct pd_st *s = NULL;
    assert_int_equal(pd_st_open_bytes(&s, &lie, sizeof lie, "x", &err), PD_PARSE);
    assert_int_equal(pd_st_open_bytes(&s, &lie, 3, "x", &err), PD_PARSE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),
        cmocka_unit_test(shards_are_one_set),
        cmocka_unit_test(index_stays_in_its_folder),
        cmocka_unit_test(holds_the_rules),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
