/* The inside of a tokenizer, shared by tokenizer.c (encode, decode), tok_*.c.
 *
 * Vocabulary texts are in the byte-to-glyph form of byte-level BPE (a space is U+0120); `bytes` is
 * what a token stands for. Both are indexed by id; ids with no token have ptr NULL. */
#ifndef PD_LM_TOK_INT_H
#define PD_LM_TOK_INT_H

#include "base/arena.h"
#include "base/mem.h"
#include "lm/tokenizer.h"

#include <pthread.h>

/* How text between added tokens is cut into words. */
enum pd_words {
    PD_WORDS_GPT2,   /* the regex of GPT-2's ByteLevel */
    PD_WORDS_SMOLLM, /* each digit alone, then GPT-2's */
    PD_WORDS_LLAMA3, /* numbers up to three digits, case-blind contractions */
    PD_WORDS_QWEN2,  /* the same with single digits */
    PD_WORDS_COUNT
};

struct pd_added {
    struct pd_str text;
    int32_t id;
    bool special, single_word, lstrip, rstrip, normalized;
};

/* Matching of added tokens: those that start with a byte, longest first. */
struct pd_added_set {
    struct pd_added *items;
    size_t n;
    uint32_t first[257]; /* items[first[b]..first[b+1]) start with byte b */
};

struct pd_merge {
    uint32_t left, right; /* left == UINT32_MAX: free */
    uint32_t rank, id;
};

/* What a word of up to PD_CACHE_KEY bytes became, when it became at most PD_CACHE_IDS ids. */
enum { PD_CACHE_KEY = 26, PD_CACHE_IDS = 9, PD_CACHE_SLOTS = 1 << 14 };
struct pd_word_cache {
    int32_t ids[PD_CACHE_IDS];
    uint8_t len, n; /* len 0 = free */
    char key[PD_CACHE_KEY];
};

struct pd_bpe {
    struct pd_str *text;  /* n_ids */
    struct pd_str *bytes; /* n_ids */
    char *slab;           /* where `bytes` point */
    bool *beyond;         /* n_ids: an added token that the model's own vocabulary lacks */
    int32_t n_ids;
    size_t n_tokens, n_merges;
    uint32_t *slots, *tags; /* text -> id + 1, by hash */
    size_t n_slots;
    struct pd_merge *merges; /* open addressing */
    size_t n_merge_slots;
    int32_t byte_id[256]; /* -1 = the vocabulary lacks it */
    bool ignore_merges;
};

struct pd_tokenizer {
    struct pd_arena arena; /* texts that are not borrowed */
    struct pd_bpe bpe;
    struct pd_added *added; /* by id */
    size_t n_added;
    struct pd_added_set raw, normalized; /* matched before, after normalisation */
    bool nfc, add_prefix_space;
    enum pd_words words;
    struct pd_ids prefix, suffix; /* the post-processor's */
    int32_t bos, eos, pad, unk;
    struct pd_str chat_template;
    char *dir;            /* the folder it came from, or NULL */
    struct pd_gguf *gguf; /* closed with it, or NULL: the file is someone else's */
    int64_t max_length;   /* model_max_length, 0 = unknown */
    pthread_mutex_t lock; /* guards cache; whoever does not get it does without */
    struct pd_word_cache *cache;
};

/* A new tokenizer with nothing in it; bos and its like are -1. */
struct pd_tokenizer *pd_tok_new(void);

/* --- tok_bpe.c --- */
PD_CHECKED enum pd_rc pd_bpe_init(struct pd_bpe *b, size_t n_ids, struct pd_err *err);
void pd_bpe_release(struct pd_bpe *b);
/* text must live as long as b. PD_INVALID for an id beyond n_ids or a text or id seen before. */
PD_CHECKED enum pd_rc pd_bpe_add(struct pd_bpe *b, struct pd_str text, int32_t id,
                                 struct pd_err *err);
PD_CHECKED enum pd_rc pd_bpe_reserve_merges(struct pd_bpe *b, size_t n, struct pd_err *err);
PD_CHECKED enum pd_rc pd_bpe_add_merge(struct pd_bpe *b, struct pd_str left, struct pd_str right,
                                       uint32_t rank, struct pd_err *err);
/* After the last token (the added ones too): fills bytes and byte_id. */
PD_CHECKED enum pd_rc pd_bpe_finish(struct pd_bpe *b, struct pd_err *err);
int32_t pd_bpe_id(const struct pd_bpe *b, struct pd_str text); /* -1 = none */
/* The same among the tokens that merging can give. */
int32_t pd_bpe_model_id(const struct pd_bpe *b, struct pd_str text);
/* One word to ids. cache NULL = do without. */
PD_CHECKED enum pd_rc pd_bpe_word(const struct pd_bpe *b, struct pd_str word,
                                  struct pd_word_cache *cache, struct pd_ids *out,
                                  struct pd_err *err);

/* --- tok_words.c --- */
/* The end of the word that starts at text[at], at < text.len; text is valid UTF-8. */
size_t pd_words_next(enum pd_words kind, struct pd_str text, size_t at);
bool pd_char_is_space(uint32_t cp);
bool pd_char_is_word(uint32_t cp); /* \w */
/* Decodes the character at text[at] (valid UTF-8); its length is left in *len. */
uint32_t pd_char_at(struct pd_str text, size_t at, size_t *len);

/* --- tok_added.c --- */
void pd_added_set_build(struct pd_added_set *s, const struct pd_added *items, size_t n,
                        bool normalized);
void pd_added_set_release(struct pd_added_set *s);
/* The next match at or after `at`: [*begin, *end) of text, white space that the token eats
 * included, not reaching before `at`. NULL = none. Without parse_special special ones are text. */
const struct pd_added *pd_added_next(const struct pd_added_set *s, struct pd_str text, size_t at,
                                     bool parse_special, size_t *begin, size_t *end);
/* Registers an added token (copying text when `copy`), or overrides the flags of the one that has
 * its text. */
void pd_tok_add_added(struct pd_tokenizer *t, const struct pd_added *a, bool copy);
/* After the last: sorts, adds their texts to the vocabulary's, builds both sets. */
PD_CHECKED enum pd_rc pd_tok_finish(struct pd_tokenizer *t, const char *name, struct pd_err *err);

/* --- tok_save.c --- */
extern const char *const pd_words_names[PD_WORDS_COUNT];
/* The Split patterns of tokenizer.json files that are the scanners' own. */
#define PD_REGEX_LLAMA3                                                                            \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "                     \
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define PD_REGEX_QWEN2                                                                             \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "                          \
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

#endif
