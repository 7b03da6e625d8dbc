/* Stop texts against a twin that tries every place. */
#include "gen/stops.h"
#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { MAX_TEXT = 24, MAX_STOPS = 4 };

static struct pd_rng rng;

static void random_text(char *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (char)('a' + pd_rng_below(&rng, 2));
    out[n] = '\0';
}

/* Where a stop text stands whole in text, or where one may be beginning at its end. */
static size_t first_place(const struct pd_stops *s, const char *text, bool maybe)
{
    size_t len = strlen(text);
    for (size_t at = 0; at < len; at++)
        for (size_t i = 0; i < s->n; i++) {
            size_t n = strlen(s->texts[i]), left = len - at;
            if (n <= left && strncmp(text + at, s->texts[i], n) == 0)
                return at;
            if (maybe && n > left && strncmp(text + at, s->texts[i], left) == 0)
                return at;
        }
    return len;
}

static void test_places(void **state)
{
    char text[MAX_TEXT + 1], stops[MAX_STOPS][8];
    const char *list[MAX_STOPS];
    pd_rng_seed(&rng, 5, 0);
    for (int round = 0; round < 20000; round++) {
        struct pd_stops s;
        size_t n = pd_rng_below(&rng, MAX_STOPS + 1);
        for (size_t i = 0; i < n; i++) {
            random_text(stops[i], 1 + pd_rng_below(&rng, 7));
            list[i] = stops[i];
        }
        random_text(text, pd_rng_below(&rng, MAX_TEXT + 1));
        pd_stops_init(&s, list, n);
        assert_int_equal(pd_stops_find(&s, pd_str_from(text)), first_place(&s, text, false));
        assert_int_equal(pd_stops_clear(&s, pd_str_from(text)), first_place(&s, text, true));
    }
}

/* What was shown is never taken back, and at the end everything before the stop was shown. */
static void test_growing(void **state)
{
    static const char *const list[] = {"STOP", "\n\n", "\xc3\xa9t\xc3\xa9"};
    static const char text[] = "a STO b\nc ST STO \xc3\xa9t\xc3\xa8 d\n\ne STOP";
    struct pd_stops s;
    size_t shown = 0;
    pd_stops_init(&s, list, 3);
    for (size_t n = 0; n <= strlen(text); n++) {
        size_t clear = pd_stops_clear(&s, (struct pd_str){text, n});
        assert_true(clear >= shown && clear <= n);
        shown = clear;
    }
    assert_int_equal(shown, strstr(text, "\n\n") - text);
}

/* Token by token: seen exactly when the text so far holds one that was not there before. */
static void test_seen(void **state)
{
    static const char *const list[] = {"cup of", "e\n", "the the"};
    static const char text[] = "a cup of tea\nthe tea the the cup of the\ncup o";
    struct pd_tokenizer *tok;
    struct pd_err err;
    struct pd_ids ids = {0};
    struct pd_stops s;
    struct pd_buf so_far;
    int seen = 0;
    if (pd_tokenizer_open_dir(&tok, PD_FIXTURES "/models/tiny-llama", &err) != PD_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(pd_tokenizer_encode(tok, pd_str_from(text), 0, &ids, &err), PD_OK);
    pd_stops_init(&s, list, 3);
    pd_buf_init(&so_far, 0);
    for (size_t n = 1; n <= ids.len; n++) {
        struct pd_str piece = pd_tokenizer_bytes(tok, ids.ptr[n - 1]);
        size_t before = so_far.len;
        pd_buf_addstr(&so_far, piece);
        bool want = false; /* one ends within the newest token */
        for (size_t i = 0; i < s.n; i++)
            for (const char *at = pd_buf_cstr(&so_far); (at = strstr(at, list[i])) != NULL; at++)
                want |= (size_t)(at - so_far.ptr) + strlen(list[i]) > before;
        bool got = pd_stops_seen(&s, tok, ids.ptr, (int64_t)n);
        assert_true(got || !want);
        seen += got;
    }
    assert_true(seen >= 4);
    /* special tokens are no part of the text, however many stand in between */
    ids.len = 0;
    assert_int_equal(pd_tokenizer_encode(tok, PD_STR("the the"), 0, &ids, &err), PD_OK);
    int32_t last = ids.ptr[--ids.len], special = 0;
    while (!pd_tokenizer_is_special(tok, special) || pd_tokenizer_bytes(tok, special).len == 0)
        special++;
    for (int i = 0; i < 9; i++)
        pd_ids_push(&ids, special);
    pd_ids_push(&ids, last);
    assert_true(pd_stops_seen(&s, tok, ids.ptr, (int64_t)ids.len));
    pd_stops_init(&s, NULL, 0);
    assert_false(pd_stops_seen(&s, tok, ids.ptr, (int64_t)ids.len));
    pd_buf_release(&so_far);
    pd_ids_release(&ids);
    pd_tokenizer_free(tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_places),
                                       cmocka_unit_test(test_growing), cmocka_unit_test(test_seen)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
