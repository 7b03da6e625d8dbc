/* The parts of the tokenizer that are there for speed or for hostile input, each against the plain
 * way of doing the same. */
#include "base/fs.h"
#include "base/rng.h"
#include "lm/tok_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>
#include <utf8proc.h>

static struct pd_tokenizer *open_json(const char *json)
{
    struct pd_tokenizer *t = NULL;
    struct pd_err err = {0};
    if (pd_tokenizer_open_json(&t, pd_str_from(json), "t.json", &err) != PD_OK)
        fail_msg("%s", err.msg);
    return t;
}

static void add_char(struct pd_buf *b, uint32_t cp)
{
    utf8proc_uint8_t bytes[4];
    pd_buf_add(b, bytes, (size_t)utf8proc_encode_char((utf8proc_int32_t)cp, bytes));
}

/* ---- NFC: in parts as in one ---- */

static void expect_nfc(struct pd_str text)
{
    static const struct pd_norm_step nfc = {.kind = PD_NORM_NFC};
    struct pd_buf got;
    utf8proc_uint8_t *want = NULL;
    pd_buf_init(&got, 0);
    utf8proc_ssize_t n =
        utf8proc_map((const utf8proc_uint8_t *)text.ptr, (utf8proc_ssize_t)text.len, &want,
                     UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    assert_true(n >= 0);
    assert_int_equal(pd_norm_apply(&nfc, 1, text, &got, NULL), PD_OK);
    if (got.len != (size_t)n || memcmp(pd_buf_cstr(&got), want, got.len) != 0)
        fail_msg("\"%.*s\" becomes \"%s\"", PD_STR_ARG(text), pd_buf_cstr(&got));
    free(want);
    pd_buf_release(&got);
}

/* Every character behind a letter, and behind itself, then random rows from the blocks that hold
 * what composes. */
static void nfc_in_parts(void **state)
{
    static const struct {
        uint32_t from, to;
    } blocks[] = {{0x41, 0x7a},     {0xc0, 0x17f},    {0x300, 0x345},     {0x390, 0x3ce},
                  {0x900, 0x9ff},   {0xb3e, 0xb57},   {0xdca, 0xddf},     {0x1100, 0x11ff},
                  {0xac00, 0xac40}, {0x1e00, 0x1fff}, {0x2126, 0x212b},   {0x3040, 0x30ff},
                  {0xf900, 0xfaff}, {0xfb1d, 0xfb4f}, {0x11099, 0x110ba}, {0x1d15e, 0x1d164}};
    struct pd_buf text;
    struct pd_rng rng;
    pd_buf_init(&text, 0);
    for (uint32_t cp = 0x80; cp < 0x30100; cp++) {
        if (cp >= 0xd800 && cp < 0xe000)
            continue;
        pd_buf_clear(&text);
        add_char(&text, 'a');
        add_char(&text, cp);
        add_char(&text, cp);
        add_char(&text, 0x301);
        expect_nfc(pd_buf_str(&text));
    }
    pd_rng_seed(&rng, 9, 0);
    for (int round = 0; round < 20000; round++) {
        pd_buf_clear(&text);
        for (uint64_t i = 1 + pd_rng_below(&rng, 12); i > 0; i--) {
            size_t k = pd_rng_below(&rng, sizeof blocks / sizeof *blocks);
            add_char(&text, blocks[k].from +
                                (uint32_t)pd_rng_below(&rng, blocks[k].to - blocks[k].from + 1));
        }
        expect_nfc(pd_buf_str(&text));
    }
    pd_buf_release(&text);
}

/* ---- added tokens: the leftmost, of those the longest ---- */

static const struct pd_added *longest_of(const struct pd_added *v, size_t n, struct pd_str text,
                                         size_t at)
{
    const struct pd_added *best = NULL;
    struct pd_str rest = {text.ptr + at, text.len - at};
    for (size_t i = 0; i < n; i++)
        if (v[i].text.len > 0 && pd_str_starts(rest, v[i].text) &&
            (!best || v[i].text.len > best->text.len))
            best = &v[i];
    return best;
}

static void added_tokens_are_found(void **state)
{
    enum { N = 60 };
    char room[N][8], text[64];
    struct pd_added list[N];
    struct pd_rng rng;
    pd_rng_seed(&rng, 4, 0);
    for (int round = 0; round < 500; round++) {
        struct pd_added_set set;
        for (size_t i = 0; i < N; i++) {
            size_t len = pd_rng_below(&rng, 7);
            for (size_t k = 0; k < len; k++)
                room[i][k] = " ab\xff"[pd_rng_below(&rng, 4)];
            list[i] = (struct pd_added){.text = {room[i], len}, .id = (int32_t)i};
        }
        for (size_t i = 0; i < sizeof text; i++)
            text[i] = " ab\xff"[pd_rng_below(&rng, 4)];
        struct pd_str whole = {text, sizeof text};
        pd_added_set_build(&set, list, N);
        for (size_t at = 0; at < sizeof text; at++) {
            const struct pd_added *got = pd_added_at(&set, whole, at),
                                  *want = longest_of(list, N, whole, at);
            assert_true((got == NULL) == (want == NULL));
            if (got)
                assert_true(pd_str_eq(got->text, want->text));
        }
        pd_added_set_release(&set);
    }
}

/* ---- pieces: cutting words where nothing joins changes no id ---- */

static void cuts_change_nothing(void **state)
{
    static const char *const names[] = {"llama2", "mistral", "metaspace-always"};
    static const char *const bits[] = {"the",
                                       "an",
                                       "swer",
                                       " ",
                                       "  ",
                                       "\n",
                                       "\t",
                                       "7",
                                       "42",
                                       "(",
                                       ")",
                                       ".",
                                       "'s",
                                       "\xc3\xa9",
                                       "\xe6\x97\xa5\xe6\x9c\xac",
                                       "\xf0\x9f\x91\x8d",
                                       "<",
                                       "0x0A>",
                                       PD_SPACE,
                                       "\x01",
                                       "x"};
    struct pd_rng rng;
    pd_rng_seed(&rng, 12, 0);
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        struct pd_tokenizer *t = NULL;
        struct pd_err err = {0};
        char *dir = pd_xasprintf("%s/tokenizer/pipelines/%s", PD_FIXTURES, names[k]);
        if (pd_tokenizer_open_dir(&t, dir, &err) != PD_OK)
            fail_msg("%s", err.msg);
        struct pd_apart *apart = t->bpe.apart;
        const struct pd_word_way plain = {.limit = SIZE_MAX},
                                 cached = {.cache = t->cache, .limit = SIZE_MAX};
        assert_non_null(apart);
        assert_int_equal(pd_apart_end(apart, PD_STR("the" PD_SPACE "the"), 0), 3);
        for (int round = 0; round < 400; round++) {
            struct pd_ids with = {0}, without = {0};
            struct pd_buf text;
            pd_buf_init(&text, 0);
            for (uint64_t i = 1 + pd_rng_below(&rng, 30); i > 0; i--)
                pd_buf_adds(&text, bits[pd_rng_below(&rng, sizeof bits / sizeof *bits)]);
            t->bpe.apart = NULL;
            assert_int_equal(pd_bpe_word(&t->bpe, pd_buf_str(&text), &plain, &without, NULL),
                             PD_OK);
            t->bpe.apart = apart;
            assert_int_equal(pd_bpe_word(&t->bpe, pd_buf_str(&text), &cached, &with, NULL), PD_OK);
            assert_int_equal(with.len, without.len);
            assert_memory_equal(with.ptr, without.ptr, with.len * sizeof *with.ptr);
            pd_ids_release(&with);
            pd_ids_release(&without);
            pd_buf_release(&text);
        }
        pd_tokenizer_free(t);
        pd_free(dir);
    }
}

/* A merge of byte tokens, or of the unknown one, joins what its text does not show. */
static void byte_tokens_that_merge_forbid_cuts(void **state)
{
    struct pd_tokenizer *t = open_json(
        "{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\",\"split\":"
        "false},\"decoder\":{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\"},\"model\":{"
        "\"unk_token\":\"?\",\"vocab\":{\"?\":0,\"a\":1,\"?a\":2},\"merges\":[\"? a\"]}}");
    struct pd_ids ids = {0};
    assert_null(t->bpe.apart);
    assert_int_equal(pd_tokenizer_encode(t, PD_STR("xa"), PD_TOK_CONTINUES, &ids, NULL), PD_OK);
    assert_true(ids.len > 0 && ids.ptr[ids.len - 1] == 2);
    pd_ids_release(&ids);
    pd_tokenizer_free(t);
}

/* ---- pieces: merges from scores ---- */

static void begin_pieces(struct pd_bpe *b, char (*room)[40], size_t n)
{
    assert_int_equal(pd_bpe_init(b, n, NULL), PD_OK);
    b->pieces = true;
    for (size_t i = 0; i < n; i++)
        if (pd_bpe_id(b, pd_str_from(room[i])) < 0)
            assert_int_equal(pd_bpe_add(b, pd_str_from(room[i]), (int32_t)i, NULL), PD_OK);
}

static size_t count_cuts(const struct pd_bpe *b, struct pd_str text)
{
    size_t n = 0;
    for (size_t at = 1; at < text.len; at++)
        n += pd_bpe_id(b, (struct pd_str){text.ptr, at}) >= 0 &&
             pd_bpe_id(b, (struct pd_str){text.ptr + at, text.len - at}) >= 0;
    return n;
}

static void merges_are_all_cuts(void **state)
{
    enum { N = 80 };
    static const char *const letters[] = {"a", "b", "\xc3\xa9", "\xe2\x96\x81"};
    struct pd_rng rng;
    pd_rng_seed(&rng, 8, 0);
    for (int round = 0; round < 200; round++) {
        char room[N][40];
        float scores[N];
        struct pd_bpe b;
        size_t want = 0;
        for (size_t i = 0; i < N; i++) {
            room[i][0] = '\0';
            for (uint64_t k = 1 + pd_rng_below(&rng, 6); k > 0; k--)
                strcat(room[i], letters[pd_rng_below(&rng, 4)]);
            scores[i] = -(float)pd_rng_below(&rng, 20);
        }
        begin_pieces(&b, room, N);
        assert_int_equal(pd_pieces_merges(&b, scores, NULL), PD_OK);
        for (int32_t i = 0; i < N; i++)
            if (b.text[i].ptr)
                want += count_cuts(&b, b.text[i]);
        assert_int_equal(b.n_merges, want);
        for (size_t i = 0; i < b.n_merge_slots; i++) {
            const struct pd_merge *m = &b.merges[i];
            char both[80];
            if (m->left == UINT32_MAX)
                continue;
            (void)snprintf(both, sizeof both, "%.*s%.*s", PD_STR_ARG(b.text[m->left]),
                           PD_STR_ARG(b.text[m->right]));
            assert_int_equal(pd_bpe_id(&b, pd_str_from(both)), m->id);
            for (size_t k = 0; k < b.n_merge_slots; k++) /* the better the score, the lower */
                if (b.merges[k].left != UINT32_MAX)
                    assert_true((scores[m->id] > scores[b.merges[k].id]) ==
                                (m->rank < b.merges[k].rank));
        }
        pd_bpe_release(&b);
    }
}

/* Tokens a, aa, aaa ...: every cut of each is one of two tokens. */
static void runs_of_one_letter(void **state)
{
    enum { N = 600 };
    struct pd_bpe b;
    char run[N];
    float scores[N] = {0};
    memset(run, 'a', N);
    assert_int_equal(pd_bpe_init(&b, N, NULL), PD_OK);
    b.pieces = true;
    for (int32_t i = 0; i < N; i++)
        assert_int_equal(pd_bpe_add(&b, (struct pd_str){run, (size_t)i + 1}, i, NULL), PD_OK);
    assert_int_equal(pd_pieces_merges(&b, scores, NULL), PD_OK);
    assert_int_equal(b.n_merges, (size_t)N * (N - 1) / 2);
    pd_bpe_release(&b);
}

/* Long tokens, of which no cut is one of two: 16 million of them, none looked up by itself. */
static void long_tokens_without_merges(void **state)
{
    enum { N = 4000, LEN = 4000 };
    struct pd_bpe b;
    float scores[N] = {0};
    char *room = pd_xalloc((size_t)N * LEN);
    memset(room, 'a', (size_t)N * LEN);
    assert_int_equal(pd_bpe_init(&b, N, NULL), PD_OK);
    b.pieces = true;
    for (int32_t i = 0; i < N; i++) {
        char *text = room + (size_t)i * LEN, name[8];
        int n = snprintf(name, sizeof name, "%06d", i);
        memcpy(text + LEN / 2, name, (size_t)n);
        assert_int_equal(pd_bpe_add(&b, (struct pd_str){text, LEN}, i, NULL), PD_OK);
    }
    assert_int_equal(pd_pieces_merges(&b, scores, NULL), PD_OK);
    assert_int_equal(b.n_merges, 0);
    pd_bpe_release(&b);
    pd_free(room);
}

/* ---- control tokens that are words of the vocabulary as well ---- */

#define CONTROL(more)                                                                              \
    "{\"added_tokens\":[{\"id\":3,\"content\":\"<s>\",\"special\":true,\"normalized\":false}],"    \
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"use_regex\":false},\"model\":{\"vocab\":{\"<\":0" \
    ",\"s\":1,\">\":2,\"<s>\":3,\"<s\":4},\"merges\":[\"< s\",\"<s >\"]" more "}}"

static void text_is_not_merged_to_control_tokens(void **state)
{
    static const char *const files[] = {CONTROL(""), CONTROL(",\"ignore_merges\":true")};
    char many[3 * 40 + 1] = "";
    for (int i = 0; i < 40; i++) /* long enough for the heap */
        strcat(many, "<s>");
    for (size_t k = 0; k < 2; k++) {
        struct pd_tokenizer *t = open_json(files[k]);
        struct pd_ids ids = {0};
        assert_int_equal(pd_tokenizer_encode(t, PD_STR("<s>"), 0, &ids, NULL), PD_OK);
        assert_int_equal(ids.len, 2);
        assert_int_equal(ids.ptr[0], 4);
        assert_int_equal(ids.ptr[1], 2);
        assert_int_equal(pd_tokenizer_encode(t, pd_str_from(many), 0, &ids, NULL), PD_OK);
        for (size_t i = 0; i < ids.len; i++)
            assert_int_not_equal(ids.ptr[i], 3);
        for (int again = 0; again < 2; again++) { /* the cache serves both ways of reading */
            ids.len = 0;
            assert_int_equal(
                pd_tokenizer_encode(t, PD_STR("<s>"), PD_TOK_PARSE_SPECIAL, &ids, NULL), PD_OK);
            assert_int_equal(ids.len, 1);
            assert_int_equal(ids.ptr[0], 3);
            assert_int_equal(pd_tokenizer_encode(t, PD_STR("<s>"), 0, &ids, NULL), PD_OK);
            assert_int_equal(ids.len, 3);
        }
        pd_ids_release(&ids);
        pd_tokenizer_free(t);
    }
}

/* "<s>" would be made on the way to "<s>!": then neither is, wherever the text is cut. */
static void nor_through_them(void **state)
{
    struct pd_tokenizer *t = open_json(
        "{\"added_tokens\":[{\"id\":3,\"content\":\"<s>\",\"special\":true,\"normalized\":false}],"
        "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"use_regex\":false},\"model\":{\"vocab\":{"
        "\"<\":0,\"s\":1,\">\":2,\"<s>\":3,\"<s\":4,\"!\":5,\"<s>!\":6},"
        "\"merges\":[\"< s\",\"<s >\",\"<s> !\"]}}");
    struct pd_ids ids = {0};
    for (int again = 0; again < 2; again++) {
        ids.len = 0;
        assert_int_equal(pd_tokenizer_encode(t, PD_STR("<s>!"), 0, &ids, NULL), PD_OK);
        assert_int_equal(ids.len, 3);
        assert_int_equal(ids.ptr[0], 4);
        assert_int_equal(ids.ptr[1], 2);
        assert_int_equal(ids.ptr[2], 5);
    }
    pd_ids_release(&ids);
    pd_tokenizer_free(t);
}

static void write_text(const char *dir, const char *name, const char *text)
{
    char *path = pd_xasprintf("%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    pd_free(path);
}

/* A token that only tokenizer_config.json calls special is one. */
static void config_names_special_tokens(void **state)
{
    static const char *const configs[] = {
        "{\"additional_special_tokens\":[\"<x>\",{\"content\":\"<y>\"},7]}",
        "{\"extra_special_tokens\":{\"x_token\":\"<x>\",\"y_token\":\"<y>\"}}",
        "{\"extra_special_tokens\":[\"<x>\",\"<y>\"]}"};
    for (size_t k = 0; k < sizeof configs / sizeof *configs; k++) {
        char dir[] = "/tmp/podium-tok-XXXXXX";
        struct pd_tokenizer *t = NULL;
        struct pd_err err = {0};
        struct pd_ids ids = {0};
        assert_non_null(mkdtemp(dir));
        write_text(dir, "tokenizer.json",
                   "{\"added_tokens\":[{\"id\":3,\"content\":\"<x>\"}],\"pre_tokenizer\":{\"type\":"
                   "\"ByteLevel\"},\"model\":{\"vocab\":{\"<\":0,\"x\":1,\">\":2,\"<y>\":4},"
                   "\"merges\":[]}}");
        write_text(dir, "tokenizer_config.json", configs[k]);
        if (pd_tokenizer_open_dir(&t, dir, &err) != PD_OK)
            fail_msg("%s", err.msg);
        assert_true(pd_tokenizer_is_special(t, 3));
        assert_true(pd_tokenizer_is_special(t, 4));
        assert_int_equal(pd_tokenizer_encode(t, PD_STR("<x>"), 0, &ids, NULL), PD_OK);
        assert_int_equal(ids.len, 3);
        pd_ids_release(&ids);
        pd_tokenizer_free(t);
        assert_int_equal(pd_fs_remove_tree(dir, NULL), PD_OK);
    }
}

/* ---- a limit ---- */

static void a_limit_is_kept(void **state)
{
    struct pd_tokenizer *t =
        open_json("{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"model\":{\"vocab\":{\"a\":0,"
                  "\"aa\":1,\"\\u0120\":2},\"merges\":[\"a a\"]}}");
    struct pd_ids ids = {0};
    struct pd_err err = {0};
    size_t n = 1 << 20;
    char *run = pd_xalloc(n);
    memset(run, 'a', n);
    struct pd_str word = {run, n}, words = PD_STR("aa aa aa");
    assert_int_equal(pd_tokenizer_encode_most(t, words, 0, 5, &ids, &err), PD_OK);
    assert_int_equal(ids.len, 5);
    ids.len = 0;
    assert_int_equal(pd_tokenizer_encode_most(t, words, 0, 4, &ids, &err), PD_TOOBIG);
    assert_int_equal(ids.len, 0);
    assert_non_null(strstr(err.msg, "more than 4 tokens"));
    assert_int_equal(pd_tokenizer_encode_most(t, word, 0, n / 2, &ids, &err), PD_OK);
    assert_int_equal(ids.len, n / 2);
    /* ids that are there count; and what is refused leaves them */
    assert_int_equal(pd_tokenizer_encode_most(t, word, 0, n - 1, &ids, &err), PD_TOOBIG);
    assert_int_equal(ids.len, n / 2);
    pd_free(run);
    pd_ids_release(&ids);
    pd_tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nfc_in_parts),
        cmocka_unit_test(added_tokens_are_found),
        cmocka_unit_test(cuts_change_nothing),
        cmocka_unit_test(byte_tokens_that_merge_forbid_cuts),
        cmocka_unit_test(merges_are_all_cuts),
        cmocka_unit_test(runs_of_one_letter),
        cmocka_unit_test(long_tokens_without_merges),
        cmocka_unit_test(text_is_not_merged_to_control_tokens),
        cmocka_unit_test(nor_through_them),
        cmocka_unit_test(config_names_special_tokens),
        cmocka_unit_test(a_limit_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
