/* Floor 0: buffers, strings, maps, JSON, CSV, options, times, random numbers, errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/crypt.h"
#include "base/csv.h"
#include "base/json.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/opt.h"
#include "base/rng.h"
#include "base/time.h"

#include <math.h>
#include <stdio.h>

static void err_keeps_the_message(void **state)
{
    struct pd_err err;
    assert_int_equal(PD_FAIL(&err, PD_PARSE, "row %d", 7), PD_PARSE);
    assert_int_equal(pd_err_prefix(&err, "%s:%d", "f.jsonl", 3), PD_PARSE);
    assert_string_equal(err.msg, "f.jsonl:3: row 7");
    PD_FAIL(&err, PD_PARSE, "model_type \"a\nb\033[31m\" is unknown\r\n");
    assert_string_equal(err.msg, "model_type \"a b?[31m\" is unknown"); /* one line, always */
    assert_int_equal(pd_rc_http(PD_NOTFOUND), 404);
    assert_int_equal(pd_rc_exit(PD_USAGE), 2);
    assert_int_equal(pd_rc_exit(PD_INTERRUPTED), 3);
    assert_int_equal(pd_rc_exit(PD_IO), 1);
}

static void buf_stops_at_its_maximum(void **state)
{
    struct pd_buf b;
    pd_buf_init(&b, 10);
    pd_buf_adds(&b, "12345");
    pd_buf_addf(&b, "%d", 678);
    assert_string_equal(pd_buf_cstr(&b), "12345678");
    pd_buf_adds(&b, "abc");
    assert_true(b.failed);
    assert_int_equal(b.len, 8);
    pd_buf_clear(&b);
    pd_buf_adds(&b, "abc");
    assert_string_equal(pd_buf_cstr(&b), "abc");
    pd_buf_release(&b);
}

static void failed_allocation_is_survived(void **state)
{
    struct pd_buf b;
    pd_buf_init(&b, 0);
    pd_mem_fail_after(0);
    pd_buf_adds(&b, "x");
    pd_mem_fail_after(-1);
    assert_true(b.failed);
    pd_buf_release(&b);
    assert_null(pd_try_alloc(SIZE_MAX, 2));
    assert_null(pd_try_aligned(SIZE_MAX / 2, 4));
    float *p = pd_try_aligned(1000, sizeof *p);
    assert_int_equal((uintptr_t)p % 64, 0);
    pd_aligned_free(p);
}

static void arena_runs_deferred_calls_backwards(void **state);
static char order[8];
static void note(void *c)
{
    size_t n = strlen(order);
    order[n] = *(char *)c;
    order[n + 1] = '\0';
}

static void arena_runs_deferred_calls_backwards(void **state)
{
    struct pd_arena a;
    pd_arena_init(&a);
    pd_arena_defer(&a, note, "1");
    pd_arena_defer(&a, note, "2");
    for (int i = 0; i < 1000; i++)
        assert_string_equal(pd_arena_printf(&a, "item %d", i), pd_arena_printf(&a, "item %d", i));
    char *big = pd_arena_alloc(&a, 100000);
    assert_int_equal(big[99999], 0);
    pd_arena_release(&a);
    assert_string_equal(order, "21");
}

static void numbers_are_whole_strings(void **state)
{
    int64_t i;
    double d;
    assert_true(pd_str_to_i64(PD_STR("-9223372036854775808"), &i));
    assert_false(pd_str_to_i64(PD_STR("9223372036854775808"), &i));
    assert_false(pd_str_to_i64(PD_STR("12 "), &i));
    assert_false(pd_str_to_i64(PD_STR(""), &i));
    assert_true(pd_str_to_f64(PD_STR("1e-3"), &d));
    assert_false(pd_str_to_f64(PD_STR("nan"), &d));
    assert_false(pd_str_to_f64(PD_STR("1.5x"), &d));
}

static void strings_are_ordered_by_bytes(void **state)
{
    assert_int_equal(pd_str_cmp(PD_STR("ab"), PD_STR("ab")), 0);
    assert_int_equal(pd_str_cmp(PD_STR(""), (struct pd_str){NULL, 0}), 0);
    assert_true(pd_str_cmp(PD_STR("ab"), PD_STR("abc")) < 0);
    assert_true(pd_str_cmp(PD_STR("b"), PD_STR("abc")) > 0);
    assert_true(pd_str_cmp(PD_STR("a\xc3"), PD_STR("aZ")) > 0);
}

static void utf8_is_checked(void **state)
{
    const struct pd_str s = PD_STR("h\xC3\xA9\xE2\x96\x81\xF0\x9F\x98\x80");
    assert_int_equal(pd_char_before(s, 10), 6);
    assert_int_equal(pd_char_before(s, 6), 3);
    assert_int_equal(pd_char_before(s, 3), 1);
    assert_int_equal(pd_char_before(s, 1), 0);
    assert_int_equal(pd_utf8_valid_prefix(PD_STR("h\xC3\xA9llo wide \xF0\x9F\x98\x80!")), 17);
    assert_int_equal(pd_utf8_valid_prefix(PD_STR("ab\xC0\x80")), 2);         /* overlong */
    assert_int_equal(pd_utf8_valid_prefix(PD_STR("ab\xED\xA0\x80")), 2);     /* surrogate */
    assert_int_equal(pd_utf8_valid_prefix(PD_STR("ab\xF4\x90\x80\x80")), 2); /* > U+10FFFF */
    assert_int_equal(pd_utf8_valid_prefix(PD_STR("12345678\xE2\x82")), 8);   /* cut off */
}

static void map_holds_many_keys(void **state)
{
    struct pd_map m;
    pd_map_init(&m);
    char key[32];
    for (int i = 0; i < 5000; i++) {
        int n = snprintf(key, sizeof key, "key-%d", i);
        assert_true(pd_map_put(&m, (struct pd_str){key, (size_t)n}, i));
    }
    assert_false(pd_map_put(&m, PD_STR("key-17"), -17));
    for (int i = 0; i < 5000; i++) {
        int n = snprintf(key, sizeof key, "key-%d", i);
        int64_t v;
        assert_true(pd_map_get(&m, (struct pd_str){key, (size_t)n}, &v));
        assert_int_equal(v, i == 17 ? -17 : i);
    }
    assert_false(pd_map_has(&m, PD_STR("key-5000")));
    assert_string_equal(m.entries[4999].key, "key-4999");
    pd_map_release(&m);
}

static const char *parse_error(const char *text, struct pd_err *err)
{
    struct json_object *v = NULL;
    enum pd_rc rc = pd_json_parse(pd_str_from(text), &v, err);
    json_object_put(v);
    return rc == PD_OK ? NULL : err->msg;
}

static void json_is_strict(void **state)
{
    struct pd_err e;
    assert_null(parse_error("{\"a\": [1, 2.5, null, true, \"x\"]}", &e));
    assert_null(parse_error("12", &e));
    assert_null(parse_error(" null ", &e));
    assert_null(parse_error("\"12345678901234567890123\"", &e));
    assert_null(parse_error("-9223372036854775808", &e));
    assert_non_null(strstr(parse_error("{\"a\":9223372036854775808}", &e), "64 bits"));
    assert_non_null(strstr(parse_error("{\"a\":1} 2", &e), "follows"));
    assert_non_null(strstr(parse_error("{\"a\":1} x", &e), "unknown word"));
    assert_non_null(strstr(parse_error("{\"a\":", &e), "too early"));
    assert_non_null(strstr(parse_error("\"\xC3(\"", &e), "UTF-8"));
    assert_non_null(parse_error("", &e));
    assert_non_null(parse_error("{'a':1}", &e));
    assert_non_null(parse_error("[1,]", &e));
    assert_non_null(parse_error("NaN", &e));
    char deep[400];
    memset(deep, '[', 200);
    memset(deep + 200, ']', 199);
    deep[399] = '\0';
    assert_non_null(strstr(parse_error(deep, &e), "deeper"));
}

/* Half a surrogate pair is no text, and is refused wherever it stands. */
static void json_refuses_half_a_pair(void **state)
{
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"\"\\ud800\"", "byte 1: \\ud800 is half"},
        {"\"a\\uDBFFb\"", "byte 2: \\uDBFF is half"},
        {"\"\\udc00\"", "byte 1: \\udc00 is half"},
        {"\"\\uDFFF\"", "byte 1: \\uDFFF is half"},
        {"\"\\ud83d\\ud83d\\ude00\"", "byte 1: "}, /* a first half, then a pair */
        {"\"\\ud83d\\ude00\\ude00\"", "byte 13: "},
        {"\"\\ude00\\ud83d\"", "byte 1: "}, /* the wrong way round */
        {"\"\\ud83d\\u0041\"", "byte 1: "},
        {"\"\\ud83d\\\\ude00\"", "byte 1: "}, /* a backslash and letters follow */
        {"\"\\ud83d\\\"\"", "byte 1: "},
        {"\"\\ud83dude00, more text\"", "byte 1: "},
        {"\"\\\\\\ud800\"", "byte 3: "}, /* an escaped backslash, then the half */
        {"{\"\\ud800\":1}", "byte 2: "},
        {"{\"a\":[\"ok\",\"\\ud800\"]}", "byte 12: "},
        {"\"\\ud83d\\ude0g\"", "byte 1: "},
    };
    struct pd_err e;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_non_null(parse_error(bad[i].text, &e));
        assert_non_null(strstr(e.msg, "surrogate"));
        assert_non_null(strstr(e.msg, bad[i].says));
    }
    /* cut short: that is what is said */
    assert_non_null(strstr(parse_error("\"\\ud83d", &e), "too early"));
    static const char *const other[] = {"\"\\ud83d\\ude", "\"\\ud83d\\", "\"\\ud8", "\"\\",
                                        "\"\\ud8zz\""};
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        assert_non_null(parse_error(other[i], &e));
        assert_null(strstr(e.msg, "surrogate"));
    }

    static const struct {
        const char *text, *value;
    } good[] = {
        {"\"\\ud83d\\ude00\"", "\xF0\x9F\x98\x80"},
        {"\"\\uD83D\\uDE00!\"", "\xF0\x9F\x98\x80!"},
        {"\"\\uD800\\uDC00\\uDBFF\\uDFFF\"", "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF"},
        {"\"\\\\ud800\"", "\\ud800"}, /* no escape: a backslash and letters */
        {"\"\\\\\\\\udc00\"", "\\\\udc00"},
        {"\"\\\\\\ud83d\\ude00\"", "\\\xF0\x9F\x98\x80"},
        {"\"ud800\"", "ud800"},
        {"\"\\ud7ff\\ue000\\ufffd\"", "\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBD"},
        {"\"\\\"\\u00e9\"", "\"\xC3\xA9"},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct json_object *v = NULL;
        assert_int_equal(pd_json_parse(pd_str_from(good[i].text), &v, &e), PD_OK);
        assert_string_equal(json_object_get_string(v), good[i].value);
        json_object_put(v);
    }
}

static void json_round_trips(void **state)
{
    struct pd_buf b;
    struct pd_jw w;
    pd_buf_init(&b, 0);
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    pd_jw_kstr(&w, "text", (struct pd_str){"a\"b\\c\n\0d", 8});
    pd_jw_ki64(&w, "n", INT64_MIN);
    pd_jw_key(&w, "list");
    pd_jw_array(&w);
    pd_jw_f64(&w, 0.1);
    pd_jw_f64(&w, NAN);
    pd_jw_raw(&w, PD_STR("{\"x\":[]}"));
    pd_jw_array(&w);
    pd_jw_array_end(&w);
    pd_jw_bool(&w, false);
    pd_jw_array_end(&w);
    pd_jw_kstrz(&w, "none", NULL);
    pd_jw_object_end(&w);
    assert_string_equal(pd_buf_cstr(&b),
                        "{\"text\":\"a\\\"b\\\\c\\n\\u0000d\",\"n\":-9223372036854775808,"
                        "\"list\":[0.1,null,{\"x\":[]},[],false],\"none\":null}");
    struct json_object *v;
    struct pd_err e;
    assert_int_equal(pd_json_parse(pd_buf_str(&b), &v, &e), PD_OK);
    assert_int_equal(pd_json_str(v, "text").len, 8);
    assert_true(pd_json_i64(v, "n", 0) == INT64_MIN);
    struct pd_str s;
    assert_int_equal(pd_json_need_str(v, "n", &s, &e), PD_INVALID);
    assert_string_equal(e.msg, "\"n\" is a number, expected a string");
    assert_int_equal(pd_json_need_str(v, "gone", &s, &e), PD_INVALID);
    json_object_put(v);
    pd_buf_release(&b);
}

/* Rows are written by hand the first time and as a tree once they were read back: in one form. */
static void both_writers_agree(void **state)
{
    char all[256];
    size_t n = 0;
    for (int c = 0; c < 128; c++)
        all[n++] = (char)c;
    n += (size_t)snprintf(all + n, sizeof all - n,
                          "\xC2\x80 \xC3\xA9 \xE2\x80\xA8\xE2\x80\xA9 "
                          "\xEF\xBB\xBF\xEF\xBF\xBF \xF0\x9F\x98\x80</a>");
    struct pd_buf by_hand, as_tree;
    struct pd_jw w;
    struct json_object *v = json_object_new_string_len(all, (int)n);
    pd_buf_init(&by_hand, 0);
    pd_buf_init(&as_tree, 0);
    pd_jw_init(&w, &by_hand);
    pd_jw_str(&w, (struct pd_str){all, n});
    pd_jw_init(&w, &as_tree);
    pd_jw_tree(&w, v);
    assert_string_equal(pd_buf_cstr(&by_hand), pd_buf_cstr(&as_tree));
    json_object_put(v);
    pd_buf_release(&by_hand);
    pd_buf_release(&as_tree);
}

static void csv_follows_rfc_4180(void **state)
{
    struct pd_arena a;
    pd_arena_init(&a);
    struct pd_csv c;
    struct pd_str *f;
    size_t n;
    bool more;
    struct pd_err e;
    pd_csv_init(&c, PD_STR("\xEF\xBB\xBFprompt,b\r\n\"a \"\"q\"\"\nx\",2\n,\n\"open"), ',');
    assert_int_equal(pd_csv_next(&c, &a, &f, &n, &more, &e), PD_OK);
    assert_int_equal(n, 2);
    assert_true(pd_str_eqz(f[0], "prompt"));
    assert_int_equal(pd_csv_next(&c, &a, &f, &n, &more, &e), PD_OK);
    assert_true(pd_str_eqz(f[0], "a \"q\"\nx"));
    assert_int_equal(c.line, 2);
    assert_int_equal(pd_csv_next(&c, &a, &f, &n, &more, &e), PD_OK);
    assert_int_equal(n, 2);
    assert_int_equal(c.line, 4);
    assert_int_equal(pd_csv_next(&c, &a, &f, &n, &more, &e), PD_PARSE);
    assert_non_null(strstr(e.msg, "line 5"));
    pd_arena_release(&a);
}

static void options_come_from_the_table(void **state)
{
    int64_t n = 2, bytes = 0;
    double t = 1.0;
    const char *mode = "auto", *out = NULL;
    bool quiet = false, shuffle = true;
    struct pd_opt table[] = {
        {"n", PD_OPT_I64, &n, "N", "How many.", NULL, 1, 100, 0, false},
        {"memory-limit", PD_OPT_BYTES, &bytes, "BYTES", "At most.", NULL, 0, 0, 0, false},
        {"temperature", PD_OPT_F64, &t, "T", "Heat.", NULL, 0, 10, 0, false},
        {"dtype", PD_OPT_CHOICE, &mode, NULL, "Type.", "auto|bf16|fp32", 0, 0, 0, false},
        {"out", PD_OPT_STR, &out, "FILE", "Where.", NULL, 0, 0, PD_OPT_REQUIRED, false},
        {"quiet", PD_OPT_FLAG, &quiet, NULL, "Less.", NULL, 0, 0, 0, false},
        {"shuffle", PD_OPT_FLAG, &shuffle, NULL, "Mix.", NULL, 0, 0, PD_OPT_NEGATABLE, false},
        {NULL, 0, NULL, NULL, NULL, NULL, 0, 0, 0, false},
    };
    struct pd_opt_list args = {NULL, 0};
    bool help;
    struct pd_err e;
    char *good[] = {
        "x",     "--n", "7",  "--dtype=fp32", "--memory-limit", "2G", "-q", "--no-shuffle",
        "--out", "-",   "--", "--y"};
    assert_int_equal(pd_opt_parse(table, 12, good, 0, 2, &args, &help, &e), PD_OK);
    assert_int_equal(n, 7);
    assert_string_equal(mode, "fp32");
    assert_true(bytes == 2147483648);
    assert_true(quiet && !shuffle);
    assert_int_equal(args.n, 2);
    assert_string_equal(args.items[1], "--y");
    pd_opt_list_release(&args);

    char *bad[][2] = {{"--n", "0"},      {"--n", "x"},          {"--dtype", "int8"},
                      {"--quiet=1", ""}, {"--temprature", "1"}, {"--out", NULL}};
    const char *says[] = {
        "outside",      "whole number", "auto|bf16|fp32", "no value", "did you mean --temperature",
        "needs a value"};
    for (size_t i = 0; i < 6; i++) {
        int argc = bad[i][1] ? 2 : 1;
        assert_int_equal(pd_opt_parse(table, argc, bad[i], 0, 9, &args, &help, &e), PD_USAGE);
        assert_non_null(strstr(e.msg, says[i]));
        pd_opt_list_release(&args);
    }
    table[4].was_set = false;
    assert_int_equal(pd_opt_parse(table, 0, NULL, 0, 0, &args, &help, &e), PD_USAGE);
    assert_non_null(strstr(e.msg, "--out"));
    char *h[] = {"--n", "0", "--help"};
    assert_int_equal(pd_opt_parse(table, 3, h, 0, 0, &args, &help, &e), PD_OK);
    assert_true(help);
}

static void times_round_trip(void **state)
{
    int64_t us;
    char text[32];
    assert_true(pd_time_parse(PD_STR("2024-02-29T12:34:56.789012Z"), &us));
    pd_time_format(us, text);
    assert_string_equal(text, "2024-02-29T12:34:56.789012Z");
    int64_t other;
    assert_true(pd_time_parse(PD_STR("2024-02-29T14:34:56.789012+02:00"), &other));
    assert_true(us == other);
    assert_false(pd_time_parse(PD_STR("2024-13-01T00:00:00Z"), &us));
    assert_false(pd_time_parse(PD_STR("yesterday"), &us));
}

static void random_numbers_are_reproducible(void **state)
{
    struct pd_rng a, b, c;
    pd_rng_seed(&a, 42, 0);
    pd_rng_seed(&b, 42, 0);
    pd_rng_seed(&c, 42, 1);
    bool differs = false;
    double sum = 0, square = 0;
    for (int i = 0; i < 20000; i++) {
        uint64_t x = pd_rng_u64(&a);
        assert_true(x == pd_rng_u64(&b));
        differs |= x != pd_rng_u64(&c);
        double z = pd_rng_normal(&c);
        sum += z;
        square += z * z;
    }
    assert_true(differs);
    assert_true(fabs(sum / 20000) < 0.03 && fabs(square / 20000 - 1) < 0.04);
    for (int i = 0; i < 1000; i++)
        assert_true(pd_rng_below(&a, 3) < 3);
}

static void mt_matches_the_reference(void **state)
{
    /* First outputs of MT19937 seeded with 5489, and the 10,000th (C++ standard, rand.predef). */
    struct pd_mt m;
    pd_mt_seed(&m, 5489);
    assert_int_equal(pd_mt_u32(&m), 3499211612u);
    for (int i = 1; i < 9999; i++)
        (void)pd_mt_u32(&m);
    assert_int_equal(pd_mt_u32(&m), 4123659995u);
}

static void hashes_match_the_standard(void **state)
{
    char hex[65];
    pd_sha256_of(PD_STR("abc"), hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    pd_hmac_hex(PD_STR("Jefe"), PD_STR("what do ya want for nothing?"), hex); /* RFC 4231, 2 */
    assert_string_equal(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    char uuid[37];
    pd_uuid_new(uuid);
    assert_true(pd_uuid_valid(pd_str_from(uuid)));
    assert_false(pd_uuid_valid(PD_STR("not-a-uuid")));
}

static void pool(void **state)
{
    (void)state;
    struct pd_pool p = {.most = (size_t)290 << 20};
    char *a = pd_pool_take(&p, 100), *b = pd_pool_take(&p, 64);
    assert_non_null(a);
    assert_ptr_equal(b, a + 128);
    assert_int_equal((uintptr_t)a % 64, 0);
    assert_int_equal(p.given, 192);
    char *large = pd_pool_take(&p, (size_t)280 << 20);
    assert_non_null(large);
    large[0] = large[((size_t)280 << 20) - 1] = 1;
    assert_ptr_equal(pd_pool_take(&p, 1), b + 64); /* what was left is still used */
    assert_null(pd_pool_take(&p, (size_t)10 << 20));
    assert_null(pd_pool_take(&p, SIZE_MAX - 10));
    assert_int_equal(p.given, 256 + ((size_t)280 << 20));
    pd_pool_release(&p);
    assert_int_equal(p.given, 0);
    pd_mem_fail_after(0);
    assert_null(pd_pool_take(&p, 1));
    pd_mem_fail_after(-1);
    assert_non_null(pd_pool_take(&p, 1));
    pd_pool_release(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pool),
        cmocka_unit_test(err_keeps_the_message),
        cmocka_unit_test(buf_stops_at_its_maximum),
        cmocka_unit_test(failed_allocation_is_survived),
        cmocka_unit_test(arena_runs_deferred_calls_backwards),
        cmocka_unit_test(numbers_are_whole_strings),
        cmocka_unit_test(strings_are_ordered_by_bytes),
        cmocka_unit_test(utf8_is_checked),
        cmocka_unit_test(map_holds_many_keys),
        cmocka_unit_test(json_is_strict),
        cmocka_unit_test(json_refuses_half_a_pair),
        cmocka_unit_test(json_round_trips),
        cmocka_unit_test(both_writers_agree),
        cmocka_unit_test(csv_follows_rfc_4180),
        cmocka_unit_test(options_come_from_the_table),
        cmocka_unit_test(times_round_trip),
        cmocka_unit_test(random_numbers_are_reproducible),
        cmocka_unit_test(mt_matches_the_reference),
        cmocka_unit_test(hashes_match_the_standard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
