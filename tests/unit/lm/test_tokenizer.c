/* Tokenizers: ids and text equal to Hugging Face's goldens, and properties that hold for any text.
 */
#include "base/fs.h"
#include "base/json.h"
#include "base/rng.h"
#include "lm/gguf.h"
#include "lm/tok_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "gguf_writer.h"

static struct pd_tokenizer *open_tiny(const char *name)
{
    struct pd_tokenizer *t = NULL;
    struct pd_err err = {0};
    char *dir = pd_xasprintf("%s/models/%s", PD_FIXTURES, name);
    if (pd_tokenizer_open_dir(&t, dir, &err) != PD_OK)
        fail_msg("%s", err.msg);
    pd_free(dir);
    return t;
}

static void expect_ids(const struct pd_tokenizer *t, struct pd_str text, unsigned flags,
                       struct json_object *want, const char *where, size_t line)
{
    struct pd_ids ids = {0};
    struct pd_err err = {0};
    if (pd_tokenizer_encode(t, text, flags, &ids, &err) != PD_OK)
        fail_msg("%s", err.msg);
    bool same = ids.len == json_object_array_length(want);
    for (size_t i = 0; same && i < ids.len; i++)
        same = ids.ptr[i] == json_object_get_int(json_object_array_get_idx(want, i));
    if (!same)
        fail_msg("%s:%zu: flags %u: other ids than Hugging Face's", where, line, flags);
    pd_ids_release(&ids);
}

static void expect_text(const struct pd_tokenizer *t, struct json_object *ids, struct pd_str want,
                        const char *where, size_t line)
{
    struct pd_buf whole, pieces;
    struct pd_detok d = {0};
    struct pd_ids list = {0};
    pd_buf_init(&whole, 0);
    pd_buf_init(&pieces, 0);
    for (size_t i = 0; i < json_object_array_length(ids); i++) {
        pd_ids_push(&list, json_object_get_int(json_object_array_get_idx(ids, i)));
        pd_detok_push(&d, t, list.ptr[i], false, &pieces);
        struct pd_str so_far = pd_buf_str(&pieces);
        assert_int_equal(pd_utf8_valid_prefix(so_far), so_far.len); /* never half a character */
    }
    pd_detok_finish(&d, &pieces);
    assert_int_equal(pd_tokenizer_decode(t, list.ptr, list.len, false, &whole, NULL), PD_OK);
    if (!pd_str_eq(pd_buf_str(&whole), want))
        fail_msg("%s:%zu: decodes to other text than Hugging Face's", where, line);
    assert_true(pd_str_eq(pd_buf_str(&pieces), want));
    pd_ids_release(&list);
    pd_buf_release(&whole);
    pd_buf_release(&pieces);
}

/* See tests/oracle/goldens/tokenizer.py for what a row means. */
static size_t check_goldens(const struct pd_tokenizer *t, const char *name)
{
    struct pd_lines *lines = NULL;
    struct pd_str line;
    bool more = false;
    size_t n = 0;
    char *path = pd_xasprintf("%s/tokenizer/%s.jsonl", PD_FIXTURES, name);
    assert_int_equal(pd_lines_open(&lines, path, 1 << 20, NULL), PD_OK);
    while (pd_lines_next(lines, &line, &more, NULL) == PD_OK && more) {
        struct json_object *row = NULL;
        size_t at = pd_lines_number(lines);
        assert_int_equal(pd_json_parse(line, &row, NULL), PD_OK);
        struct json_object *ids = pd_json_get(row, "ids"), *special = pd_json_get(row, "special");
        struct json_object *added = pd_json_get(row, "add_special");
        struct pd_str text = pd_json_str(row, "text"), decoded = pd_json_str(row, "decoded");
        special = special ? special : ids;
        if (text.ptr) {
            expect_ids(t, text, 0, ids, name, at);
            expect_ids(t, text, PD_TOK_PARSE_SPECIAL, special, name, at);
            expect_ids(t, text, PD_TOK_TRAINING, added ? added : special, name, at);
        }
        expect_text(t, ids, decoded.ptr ? decoded : text, name, at);
        json_object_put(row);
        n++;
    }
    pd_lines_close(lines);
    pd_free(path);
    return n;
}

static void equals_hugging_face(void **state)
{
    static const char *const names[] = {"tiny-llama", "tiny-llama-untied", "tiny-gpt2"};
    for (size_t i = 0; i < 3; i++) {
        struct pd_tokenizer *t = open_tiny(names[i]);
        assert_true(check_goldens(t, names[i]) > 200);
        pd_tokenizer_free(t);
    }
}

static const char *const pipelines[] = {
    "falcon",  "llama3",           "qwen2",    "neox", "llama2", "llama2-normalized", "own-regex",
    "mistral", "metaspace-always", "spm-rules"};
enum { N_PIPELINES = sizeof pipelines / sizeof *pipelines };

static struct pd_tokenizer *open_pipeline(const char *name)
{
    struct pd_tokenizer *t = NULL;
    struct pd_err err = {0};
    char *dir = pd_xasprintf("%s/tokenizer/pipelines/%s", PD_FIXTURES, name);
    if (pd_tokenizer_open_dir(&t, dir, &err) != PD_OK)
        fail_msg("%s", err.msg);
    pd_free(dir);
    return t;
}

static size_t check_pipeline(const struct pd_tokenizer *t, const char *name)
{
    char *rows = pd_xasprintf("pipelines/%s/rows", name);
    size_t n = check_goldens(t, rows);
    pd_free(rows);
    return n;
}

static void equals_hugging_face_in_every_pipeline(void **state)
{
    for (size_t i = 0; i < N_PIPELINES; i++) {
        struct pd_tokenizer *t = open_pipeline(pipelines[i]);
        assert_true(check_pipeline(t, pipelines[i]) > 150);
        pd_tokenizer_free(t);
    }
}

/* The pulled SmolLM2, where ./check says it is. */
static void equals_hugging_face_on_smollm2(void **state)
{
    const char *path = getenv("PODIUM_TEST_MODEL");
    struct pd_gguf *g = NULL;
    struct pd_tokenizer *t = NULL;
    if (!path)
        skip();
    assert_int_equal(pd_gguf_open(&g, path, NULL), PD_OK);
    assert_int_equal(pd_tokenizer_open_gguf(&t, g, NULL), PD_OK);
    assert_true(check_goldens(t, "smollm2") > 200);
    pd_tokenizer_free(t);
    pd_gguf_close(g);
}

/* A token cut out of a text may not leave half a character behind: types 3 (control), 4 (user). */
static void added_tokens_of_gguf_are_utf8(void **state)
{
    static const char *const texts[] = {"a", "\xf0"};
    for (int32_t type = 1; type <= 4; type++) {
        const int32_t types[] = {1, type};
        struct gguf_writer w;
        struct pd_buf file;
        struct pd_gguf *g = NULL;
        struct pd_tokenizer *t = NULL;
        struct pd_err err = {0};
        gw_init(&w);
        gw_kv_str(&w, "tokenizer.ggml.model", "gpt2");
        gw_kv_strs(&w, "tokenizer.ggml.tokens", texts, 2);
        gw_kv_i32s(&w, "tokenizer.ggml.token_type", types, 2);
        gw_kv_strs(&w, "tokenizer.ggml.merges", texts, 0);
        pd_buf_init(&file, 0);
        gw_finish(&w, &file);
        assert_int_equal(pd_gguf_open_bytes(&g, file.ptr, file.len, "memory", &err), PD_OK);
        enum pd_rc rc = pd_tokenizer_open_gguf(&t, g, &err);
        assert_int_equal(rc, type == 1 ? PD_OK : PD_INVALID);
        if (type > 1)
            assert_non_null(strstr(err.msg, "memory: token 1 is not UTF-8"));
        pd_tokenizer_free(t);
        pd_gguf_close(g);
        pd_buf_release(&file);
        gw_release(&w);
    }
}

/* ---- words against the regex itself ---- */

enum { MAX_KINDS = 4 };
static const struct {
    enum pd_step_kind v[MAX_KINDS];
    size_t n;
} gpt2 = {{PD_STEP_GPT2}, 1}, smollm = {{PD_STEP_DIGITS, PD_STEP_GPT2}, 2},
  falcon = {{PD_STEP_PUNCT_RUNS, PD_STEP_GPT2, PD_STEP_BYTE_DIGITS, PD_STEP_THREES}, 4},
  llama3 = {{PD_STEP_LLAMA3}, 1}, qwen2 = {{PD_STEP_QWEN2}, 1}, marks = {{PD_STEP_SPACE_LEADS}, 1};

static void expect_cut(const struct pd_steps *steps, const char *text, const char *const *want)
{
    struct pd_words w;
    struct pd_str word;
    bool more = false;
    size_t i = 0;
    pd_words_begin(&w, steps, pd_str_from(text));
    for (;; i++) {
        assert_int_equal(pd_words_next(&w, &word, &more, NULL), PD_OK);
        if (!more)
            break;
        assert_true(word.len > 0);
        if (!want[i] || !pd_str_eqz(word, want[i]))
            fail_msg("\"%s\": word %zu is \"%.*s\"", text, i, PD_STR_ARG(word));
    }
    assert_null(want[i]);
    pd_words_end(&w);
}

static void expect_words(const enum pd_step_kind *kinds, size_t n, const char *text,
                         const char *const *want)
{
    struct pd_steps steps = {.n = 0};
    for (size_t i = 0; i < n; i++)
        assert_int_equal(pd_steps_add(&steps, kinds[i], PD_STR(""), NULL), PD_OK);
    expect_cut(&steps, text, want);
    pd_steps_release(&steps);
}

static void expect_regex(const char *regex, const char *text, const char *const *want)
{
    struct pd_steps steps = {.n = 0};
    struct pd_err err = {0};
    if (pd_steps_add(&steps, PD_STEP_REGEX, pd_str_from(regex), &err) != PD_OK)
        fail_msg("%s", err.msg);
    expect_cut(&steps, text, want);
    pd_steps_release(&steps);
}

#define WORDS(list, text, ...)                                                                     \
    expect_words((list).v, (list).n, text, (const char *const[]){__VA_ARGS__, NULL})
#define REGEX(regex, text, ...) expect_regex(regex, text, (const char *const[]){__VA_ARGS__, NULL})

static void cuts_words(void **state)
{
    WORDS(gpt2, "it's  12 cats!", "it", "'s", " ", " 12", " cats", "!");
    WORDS(gpt2, "a \n\n b", "a", " \n\n", " b");
    WORDS(gpt2, "x\n", "x", "\n");
    WORDS(smollm, "a 12 b", "a", " ", "1", "2", " b");
    WORDS(smollm, "v1.2", "v", "1", ".", "2");
    WORDS(llama3, "I'LL pay 12345\n\n ok", "I", "'LL", " pay", " ", "123", "45", "\n\n", " ok");
    WORDS(llama3, "(hi)...\n x", "(hi", ")...\n", " x");
    WORDS(llama3, "\t\thi  \n\n\n  x", "\t", "\thi", "  \n\n\n", " ", " x");
    WORDS(qwen2, "a12", "a", "1", "2");
    WORDS(falcon, "a 12345.x ...", "a", " ", "123", "45", ".", "x", " ", "...");
    WORDS(falcon, "\xc3\xbc", "\xc3", "\xbc"); /* a byte whose glyph is a fraction */
    WORDS(marks, PD_SPACE PD_SPACE "a" PD_SPACE "b", PD_SPACE, PD_SPACE "a", PD_SPACE "b");
    REGEX("[a-z]+", "ab 12c", "ab", " 12", "c");
    REGEX("\\d*", "a12b", "a", "12", "b"); /* empty matches cut nothing */
}

/* ---- merging: the two ways give the same ids, and a long word stays fast ---- */

static void short_and_long_words_agree(void **state)
{
    struct pd_tokenizer *t = open_tiny("tiny-llama");
    struct pd_rng rng;
    static const struct pd_word_way plain = {.limit = SIZE_MAX};
    static const char *const pieces[] = {"the", "an", "in", "e", "t", "ere", "o", "nd"};
    pd_rng_seed(&rng, 3, 0);
    for (int round = 0; round < 300; round++) {
        char word[200] = "";
        size_t len = 0, n = 1 + pd_rng_below(&rng, 50);
        for (size_t i = 0; i < n; i++)
            len += (size_t)snprintf(word + len, sizeof word - len, "%s",
                                    pieces[pd_rng_below(&rng, 8)]);
        /* reference: the lowest rank, leftmost, over and over */
        uint32_t ids[200];
        size_t k = 0;
        for (size_t i = 0; i < len; i++)
            ids[k++] = (uint32_t)t->bpe.byte_id[(unsigned char)word[i]];
        for (;;) {
            uint32_t best = UINT32_MAX, id = 0;
            size_t at = 0;
            for (size_t i = 0; i + 1 < k; i++)
                for (size_t s = 0; s < t->bpe.n_merge_slots; s++) {
                    const struct pd_merge *m = &t->bpe.merges[s];
                    if (m->left == ids[i] && m->right == ids[i + 1] && m->rank < best) {
                        best = m->rank;
                        id = m->id;
                        at = i;
                    }
                }
            if (best == UINT32_MAX)
                break;
            ids[at] = id;
            memmove(&ids[at + 1], &ids[at + 2], (--k - at - 1) * sizeof *ids);
        }
        struct pd_ids got = {0};
        assert_int_equal(pd_bpe_word(&t->bpe, (struct pd_str){word, len}, &plain, &got, NULL),
                         PD_OK);
        assert_int_equal(got.len, k);
        assert_memory_equal(got.ptr, ids, k * sizeof *ids);
        pd_ids_release(&got);
    }
    pd_tokenizer_free(t);
}

static void a_megabyte_of_one_letter(void **state)
{
    struct pd_tokenizer *t = open_tiny("tiny-gpt2");
    size_t n = 1 << 20;
    char *text = pd_xalloc(n + 1);
    struct pd_ids ids = {0};
    struct pd_buf back;
    memset(text, 'a', n);
    pd_buf_init(&back, 0);
    assert_int_equal(pd_tokenizer_encode(t, (struct pd_str){text, n}, 0, &ids, NULL), PD_OK);
    assert_int_equal(pd_tokenizer_decode(t, ids.ptr, ids.len, false, &back, NULL), PD_OK);
    assert_true(pd_str_eq(pd_buf_str(&back), (struct pd_str){text, n}));
    pd_ids_release(&ids);
    pd_buf_release(&back);
    pd_free(text);
    pd_tokenizer_free(t);
}

/* One tokenizer, many threads: whoever finds the cache taken does without it. */
struct reader {
    const struct pd_tokenizer *t;
    const struct pd_ids *want;
    struct pd_str text;
    bool same;
};

static void *read_again_and_again(void *arg)
{
    struct reader *r = arg;
    r->same = true;
    for (int i = 0; i < 50; i++) {
        struct pd_ids ids = {0};
        r->same = r->same &&
                  pd_tokenizer_encode(r->t, r->text, PD_TOK_TRAINING, &ids, NULL) == PD_OK &&
                  ids.len == r->want->len &&
                  memcmp(ids.ptr, r->want->ptr, ids.len * sizeof *ids.ptr) == 0;
        pd_ids_release(&ids);
    }
    return NULL;
}

static void threads_share_a_tokenizer(void **state)
{
    struct pd_tokenizer *t = open_tiny("tiny-llama");
    struct pd_str text = PD_STR("The answer is in the note, and the other 12 are not there.\n");
    struct pd_ids want = {0};
    struct reader readers[4];
    pthread_t threads[4];
    assert_int_equal(pd_tokenizer_encode(t, text, PD_TOK_TRAINING, &want, NULL), PD_OK);
    for (int i = 0; i < 4; i++) {
        readers[i] = (struct reader){t, &want, text, false};
        assert_int_equal(pthread_create(&threads[i], NULL, read_again_and_again, &readers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_true(readers[i].same);
    }
    pd_ids_release(&want);
    pd_tokenizer_free(t);
}

static void invalid_utf8_is_refused_with_its_offset(void **state)
{
    struct pd_tokenizer *t = open_tiny("tiny-gpt2");
    struct pd_ids ids = {0};
    struct pd_err err = {0};
    pd_ids_push(&ids, 5);
    assert_int_equal(pd_tokenizer_encode(t, PD_STR("ab\xc3("), 0, &ids, &err), PD_INVALID);
    assert_non_null(strstr(err.msg, "byte 2"));
    assert_int_equal(ids.len, 1); /* untouched */
    assert_int_equal(pd_tokenizer_encode(t, PD_STR("\xed\xa0\x80"), 0, &ids, &err), PD_INVALID);
    int32_t bad = -4;
    struct pd_buf out;
    pd_buf_init(&out, 0);
    assert_int_equal(pd_tokenizer_decode(t, &bad, 1, false, &out, &err), PD_INVALID);
    bad = 1 << 20; /* beyond the vocabulary: rows that pad an embedding */
    assert_int_equal(pd_tokenizer_decode(t, &bad, 1, false, &out, &err), PD_OK);
    assert_int_equal(out.len, 0);
    pd_buf_release(&out);
    pd_ids_release(&ids);
    pd_tokenizer_free(t);
}

/* ---- tokenizer.json by hand ---- */

#define HEAD "{\"added_tokens\":["
#define TAIL                                                                                       \
    "],\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"model\":{\"type\":" \
    "\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"\\u0120\":3,\"\\u0120a\":4,\"<s>\":5},"         \
    "\"merges\":[\"a b\",[\"\\u0120\",\"a\"]]}}"

static void expect_list(const struct pd_tokenizer *t, const char *text, unsigned flags,
                        const int32_t *want, size_t n)
{
    struct pd_ids ids = {0};
    assert_int_equal(pd_tokenizer_encode(t, pd_str_from(text), flags, &ids, NULL), PD_OK);
    assert_int_equal(ids.len, n);
    assert_memory_equal(ids.ptr, want, n * sizeof *want);
    pd_ids_release(&ids);
}
#define EXPECT(t, text, flags, ...)                                                                \
    expect_list(t, text, flags, (const int32_t[]){__VA_ARGS__},                                    \
                sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

static void added_tokens_have_their_flags(void **state)
{
    struct pd_tokenizer *t = NULL;
    struct pd_err err = {0};
    static const char json[] =
        HEAD "{\"id\":5,\"content\":\"<s>\",\"special\":true,\"normalized\":false},"
             "{\"id\":6,\"content\":\"<l>\",\"lstrip\":true,\"rstrip\":true,\"normalized\":false},"
             "{\"id\":7,\"content\":\"bab\",\"single_word\":true,\"normalized\":false},"
             "{\"id\":8,\"content\":\"<l>a\",\"normalized\":false}" TAIL;
    if (pd_tokenizer_open_json(&t, pd_str_from(json), "t.json", &err) != PD_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(pd_tokenizer_size(t), 9);
    EXPECT(t, "ab a", 0, 2, 4);
    EXPECT(t, "a<s>b", PD_TOK_PARSE_SPECIAL, 0, 5, 1);
    EXPECT(t, "a<s>b", 0, 0, 1);             /* its letters, which this vocabulary lacks */
    EXPECT(t, "a <l> b", 0, 0, 6, 1);        /* eats the white space around it */
    EXPECT(t, "<l>ab", 0, 8, 1);             /* the longest counts */
    EXPECT(t, "bab babb", 0, 7, 3, 1, 2, 1); /* alone, and inside a word */
    assert_true(pd_tokenizer_is_special(t, 5));
    assert_false(pd_tokenizer_is_special(t, 6));
    assert_int_equal(pd_tokenizer_id(t, PD_STR("<l>a")), 8);
    pd_tokenizer_free(t);
}

/* ignore_merges looks words up among the model's own tokens; and \w is Unicode's. */
static void added_tokens_are_not_the_models(void **state)
{
    struct pd_tokenizer *t = NULL;
    struct pd_err err = {0};
    static const char json[] =
        "{\"added_tokens\":[{\"id\":4,\"content\":\"aa\",\"single_word\":true,\"normalized\":"
        "false},{\"id\":5,\"content\":\"c\",\"single_word\":true,\"normalized\":false}],"
        "\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"model\":{\"ignore_merges\":true,\"vocab\":{"
        "\"a\":0,\"_\":1,\"_a\":2,\"ba\":3,\"b\":6},\"merges\":[]}}";
    if (pd_tokenizer_open_json(&t, pd_str_from(json), "t.json", &err) != PD_OK)
        fail_msg("%s", err.msg);
    EXPECT(t, "ba aa", 0, 3, 4);          /* "ba" whole, though no merge makes it */
    EXPECT(t, "_aa", 0, 1, 0, 0);         /* not alone, and no token of the model */
    EXPECT(t, "aa\xe2\x80\x8d", 0, 0, 0); /* a joiner is a word character */
    EXPECT(t,
           "\xc2\xb2"
           "aa",
           0, 4);               /* superscript two is not */
    EXPECT(t, "bc c", 0, 6, 5); /* a byte that only an added token spells is dropped */
    pd_tokenizer_free(t);
}

static void expect_refused(const char *json, const char *piece)
{
    struct pd_tokenizer *t = NULL;
    struct pd_err err = {0};
    assert_int_not_equal(pd_tokenizer_open_json(&t, pd_str_from(json), "t.json", &err), PD_OK);
    if (!strstr(err.msg, piece) || !strstr(err.msg, "t.json"))
        fail_msg("\"%s\" is not in \"%s\"", piece, err.msg);
}

/* Unknown parts are refused by name: wrong ids are worse than none. */
static void unknown_parts_are_refused(void **state)
{
#define MODEL(vocab, merges, more)                                                                 \
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"vocab\":" vocab      \
    ",\"merges\":" merges more "}}"
    expect_refused("[]", "not a JSON object");
    expect_refused("{", "t.json");
    expect_refused("{}", "no model.vocab");
    expect_refused("{\"model\":{\"type\":\"Unigram\"}}", "Unigram");
    expect_refused("{" MODEL("{\"a\":-1}", "[]", ""), "not an integer");
    expect_refused("{" MODEL("{\"a\":99999999999}", "[]", ""), "not an integer");
    expect_refused("{" MODEL("{\"a\":0,\"b\":0}", "[]", ""), "belongs to both");
    expect_refused("{" MODEL("{\"a\":0}", "[\"a c\"]", ""), "not in the vocabulary");
    expect_refused("{" MODEL("{\"a\":0}", "[\"abc\"]", ""), "not two tokens");
    expect_refused("{" MODEL("{\"a\":0}", "[]", ",\"byte_fallback\":true"), "byte_fallback");
    expect_refused("{\"normalizer\":{\"type\":\"Lowercase\"}," MODEL("{\"a\":0}", "[]", ""),
                   "Lowercase");
    expect_refused("{\"decoder\":{\"type\":\"WordPiece\"}," MODEL("{\"a\":0}", "[]", ""),
                   "WordPiece");
    expect_refused(
        "{\"post_processor\":{\"type\":\"BertProcessing\"}," MODEL("{\"a\":0}", "[]", ""),
        "BertProcessing");
    expect_refused("{\"pre_tokenizer\":{\"type\":\"Whitespace\"},\"model\":{\"vocab\":{\"a\":0}}}",
                   "Whitespace");
    expect_refused("{\"added_tokens\":[{\"id\":1}]," MODEL("{\"a\":0}", "[]", ""), "no content");
    expect_refused("{\"added_tokens\":[{\"id\":1,\"content\":\"a\"}]," MODEL("{\"a\":0}", "[]", ""),
                   "has id 1");
}

/* ---- saving ---- */

static void a_saved_tokenizer_gives_the_same_ids(void **state)
{
    char dir[] = "/tmp/podium-tok-XXXXXX";
    assert_non_null(mkdtemp(dir));
    struct pd_tokenizer *t = open_tiny("tiny-llama-untied"), *again = NULL;
    struct pd_err err = {0};
    pd_free(t->dir); /* as if it had come from a GGUF file: made, not copied */
    t->dir = NULL;
    if (pd_tokenizer_save(t, dir, &err) != PD_OK ||
        pd_tokenizer_open_dir(&again, dir, &err) != PD_OK)
        fail_msg("%s", err.msg);
    assert_true(check_goldens(again, "tiny-llama-untied") > 200);
    assert_int_equal(pd_tokenizer_eos(again), pd_tokenizer_eos(t));
    assert_int_equal(pd_tokenizer_bos(again), pd_tokenizer_bos(t));
    pd_tokenizer_free(t);
    pd_tokenizer_free(again);
    assert_int_equal(pd_fs_remove_tree(dir, NULL), PD_OK);
}

/* Made from the tables, as for a tokenizer that came from a GGUF file. */
static void every_pipeline_is_saved(void **state)
{
    for (size_t i = 0; i < N_PIPELINES; i++) {
        char dir[] = "/tmp/podium-tok-XXXXXX";
        struct pd_tokenizer *t = open_pipeline(pipelines[i]), *again = NULL;
        struct pd_err err = {0};
        assert_non_null(mkdtemp(dir));
        pd_free(t->dir);
        t->dir = NULL;
        if (t->spm) { /* its table has no other form */
            assert_int_equal(pd_tokenizer_save(t, dir, &err), PD_UNSUPPORTED);
        } else {
            if (pd_tokenizer_save(t, dir, &err) != PD_OK ||
                pd_tokenizer_open_dir(&again, dir, &err) != PD_OK)
                fail_msg("%s: %s", pipelines[i], err.msg);
            assert_true(check_pipeline(again, pipelines[i]) > 150);
        }
        pd_tokenizer_free(t);
        pd_tokenizer_free(again);
        assert_int_equal(pd_fs_remove_tree(dir, NULL), PD_OK);
    }
}

/* A run of byte tokens is all text or none; one at a time they show what is whole. */
static void byte_tokens_decode_as_in_hugging_face(void **state)
{
    struct pd_tokenizer *t = open_pipeline("llama2");
    struct pd_buf whole, pieces;
    struct pd_detok d = {0};
    static const char *const tokens[] = {"<0x20>", "<0xC3>", "<0xA9>", "a", "<0xC3>", "<0x41>"};
    int32_t ids[6];
    pd_buf_init(&whole, 0);
    pd_buf_init(&pieces, 0);
    for (size_t i = 0; i < 6; i++) {
        ids[i] = pd_tokenizer_id(t, pd_str_from(tokens[i]));
        assert_true(ids[i] >= 0);
        pd_detok_push(&d, t, ids[i], false, &pieces);
    }
    pd_detok_finish(&d, &pieces);
    assert_int_equal(pd_tokenizer_decode(t, ids, 6, false, &whole, NULL), PD_OK);
    assert_string_equal(pd_buf_cstr(&whole), "\xc3\xa9"
                                             "a\xef\xbf\xbd\xef\xbf\xbd");
    assert_string_equal(pd_buf_cstr(&pieces), "\xc3\xa9"
                                              "a\xef\xbf\xbd"
                                              "A");
    pd_buf_release(&whole);
    pd_buf_release(&pieces);
    pd_tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_hugging_face),
        cmocka_unit_test(equals_hugging_face_on_smollm2),
        cmocka_unit_test(equals_hugging_face_in_every_pipeline),
        cmocka_unit_test(cuts_words),
        cmocka_unit_test(short_and_long_words_agree),
        cmocka_unit_test(a_megabyte_of_one_letter),
        cmocka_unit_test(threads_share_a_tokenizer),
        cmocka_unit_test(invalid_utf8_is_refused_with_its_offset),
        cmocka_unit_test(added_tokens_have_their_flags),
        cmocka_unit_test(added_tokens_are_not_the_models),
        cmocka_unit_test(added_tokens_of_gguf_are_utf8),
        cmocka_unit_test(unknown_parts_are_refused),
        cmocka_unit_test(a_saved_tokenizer_gives_the_same_ids),
        cmocka_unit_test(every_pipeline_is_saved),
        cmocka_unit_test(byte_tokens_decode_as_in_hugging_face),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
