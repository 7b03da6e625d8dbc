/* The inside of a tokenizer, shared by tokenizer.c (encode), tok_*.c.
 *
 * There are two kinds. Byte-level: vocabulary texts are in the byte-to-glyph form (a space is
 * U+0120) and merging starts from bytes. Pieces, as SentencePiece makes them: texts are plain with
 * U+2581 for a space, merging starts from characters, and a character that is no token becomes its
 * bytes (tokens "<0x00>" to "<0xFF>") or the unknown token. `bytes` is what a token stands for.
 * Both are indexed by id; ids with no token have ptr NULL. */
#ifndef PD_LM_TOK_INT_H
#define PD_LM_TOK_INT_H

#include "base/arena.h"
#include "base/mem.h"
#include "lm/tokenizer.h"

#include <pthread.h>

/* How text between added tokens is cut into words: a list of steps, each cutting the pieces of the
 * one before it. GPT2 and what follows it see bytes, not characters. */
enum pd_step_kind {
    PD_STEP_GPT2,        /* the regex of ByteLevel(use_regex) */
    PD_STEP_LLAMA3,      /* numbers up to three digits, case-blind contractions */
    PD_STEP_QWEN2,       /* the same with single digits */
    PD_STEP_DIGITS,      /* Digits(individual_digits): each number character alone */
    PD_STEP_DIGIT_RUNS,  /* Digits: runs of number characters */
    PD_STEP_PUNCT_RUNS,  /* Punctuation(Contiguous) */
    PD_STEP_SPACE_LEADS, /* Metaspace(split): before each U+2581 */
    PD_STEP_REGEX,       /* Split(pattern, Isolated), by PCRE2 */
    PD_STEP_BYTE_DIGITS, /* Digits after ByteLevel, where six other bytes look like digits */
    PD_STEP_THREES,      /* Split("[0-9][0-9][0-9]", Isolated) after ByteLevel */
    PD_STEP_COUNT
};
enum { PD_MAX_STEPS = 8 };

struct pd_step {
    enum pd_step_kind kind;
    struct pd_str pattern; /* REGEX */
    void *code;            /* REGEX: pcre2_code */
};
struct pd_steps {
    struct pd_step v[PD_MAX_STEPS];
    size_t n;
};

/* A walk over the words of a text. */
struct pd_words {
    const struct pd_steps *steps;
    struct pd_str text;
    size_t at;
    size_t begin[PD_MAX_STEPS], end[PD_MAX_STEPS]; /* the current piece of each step */
    struct pd_match {
        void *data; /* pcre2_match_data, made when first needed */
        size_t begin, end;
    } match[PD_MAX_STEPS]; /* REGEX: the match at or after `at` */
};

/* What a normalizer does, in order. */
enum pd_norm_op { PD_NORM_NFC, PD_NORM_PREPEND, PD_NORM_REPLACE };
struct pd_norm_step {
    enum pd_norm_op kind;
    struct pd_str from, to; /* PREPEND: to; REPLACE: both */
};
enum { PD_MAX_NORMS = 8 };

/* Metaspace: U+2581 for each space, and one before the text unless it begins with one. */
enum pd_prefix { PD_PREFIX_NEVER, PD_PREFIX_FIRST, PD_PREFIX_ALWAYS };

/* The normaliser of a tokenizer.model. */
struct pd_spm_norm {
    bool dummy_prefix;     /* U+2581 before the text... */
    bool every_piece;      /* ...and after each added token */
    bool squeeze;          /* remove_extra_whitespaces */
    const uint32_t *units; /* replacements, see tok_spm_norm.c */
    size_t n_units;
    struct pd_str strings; /* ends in NUL */
    bool lone[128]; /* no replacement begins with this character and nothing or ASCII behind it */
};

struct pd_added {
    struct pd_str text;
    int32_t id;
    bool special, single_word, lstrip, rstrip, normalized;
};

/* Matching of added tokens, sorted by text. */
struct pd_added_set {
    struct pd_added *items;
    size_t n;
    uint32_t first[257]; /* items[first[b]..first[b+1]) start with byte b */
};

struct pd_merge {
    uint32_t left, right; /* left == UINT32_MAX: free */
    uint32_t rank, id;
};

/* What a word became: its bytes stand at the front of a cache line, the ids at its end; words of
 * which the two do not fit are not kept. */
enum { PD_CACHE_SLOTS = 1 << 14 };
struct pd_word_cache {
    uint8_t len, n; /* len 0 = free */
    char room[62];
};

struct pd_bpe {
    struct pd_str *text;  /* n_ids */
    struct pd_str *bytes; /* n_ids */
    char *slab;           /* where `bytes` point */
    bool *beyond;         /* n_ids: an added token that the model's own vocabulary lacks */
    bool *control;        /* n_ids: special: merged to only where asked */
    int32_t n_ids;
    size_t n_tokens, n_merges;
    uint32_t *slots, *tags; /* text -> id + 1, by hash */
    size_t n_slots;
    size_t longest;          /* bytes of the longest text, at least 1 */
    struct pd_merge *merges; /* open addressing */
    size_t n_merge_slots;
    uint8_t *maybe;       /* a bit for each hash of a merge */
    size_t n_maybe;       /* bits */
    int32_t byte_id[256]; /* of the token of one byte; -1 = the vocabulary lacks it */
    bool ignore_merges;
    bool merges_control; /* some merge makes a control token */
    bool pieces;         /* the kind, see above; what follows is for it */
    bool byte_fallback, fuse_unk;
    int32_t unk;            /* -1 = what is unknown is dropped */
    int32_t ascii_id[128];  /* of a character */
    struct pd_apart *apart; /* where words may be cut, or NULL; tok_apart.c */
};

struct pd_tokenizer {
    struct pd_arena arena; /* texts that are not borrowed */
    struct pd_bpe bpe;
    struct pd_added *added; /* by id */
    size_t n_added;
    struct pd_added_set raw, normalized; /* matched before, after normalisation */
    struct pd_norm_step norms[PD_MAX_NORMS];
    size_t n_norms;
    struct pd_spm_norm *spm; /* of a tokenizer.model: in place of norms; or NULL */
    struct pd_steps steps;
    bool add_prefix_space; /* ByteLevel's */
    bool metaspace;        /* the pre_tokenizer is Metaspace */
    enum pd_prefix prefix_scheme;
    struct {            /* how pieces are put together again */
        bool byte_runs; /* ByteFallback */
        bool strip;     /* one space off the front */
        bool drop;      /* Metaspace: every U+2581 of the first token is dropped */
    } join;
    struct pd_ids prefix, suffix; /* the post-processor's */
    int32_t bos, eos, pad, unk;
    struct pd_str chat_template;
    char *dir;            /* the folder it came from, or NULL */
    struct pd_gguf *gguf; /* closed with it, or NULL: the file is someone else's */
    int64_t max_length;   /* model_max_length, 0 = unknown */
    pthread_mutex_t lock; /* guards cache; whoever does not get it does without */
    void *cache_room;
    struct pd_word_cache *cache; /* in it, at the beginning of a cache line */
};

/* A new tokenizer with nothing in it; bos and its like are -1. */
struct pd_tokenizer *pd_tok_new(void);
/* n: how many ids there are, or will be at the least. */
static inline enum pd_rc pd_tok_check_most(size_t n, size_t most, struct pd_err *err)
{
    return n <= most ? PD_OK : PD_FAIL(err, PD_TOOBIG, "the text has more than %zu tokens", most);
}

/* --- tok_bpe.c --- */
PD_CHECKED enum pd_rc pd_bpe_init(struct pd_bpe *b, size_t n_ids, struct pd_err *err);
void pd_bpe_release(struct pd_bpe *b);
/* text must live as long as b. PD_INVALID for an id beyond n_ids or a text or id seen before. */
PD_CHECKED enum pd_rc pd_bpe_add(struct pd_bpe *b, struct pd_str text, int32_t id,
                                 struct pd_err *err);
PD_CHECKED enum pd_rc pd_bpe_reserve_merges(struct pd_bpe *b, size_t n, struct pd_err *err);
PD_CHECKED enum pd_rc pd_bpe_add_merge(struct pd_bpe *b, struct pd_str left, struct pd_str right,
                                       uint32_t rank, struct pd_err *err);
/* The same of tokens that are known to make id; room for it was reserved. */
void pd_bpe_put_merge(struct pd_bpe *b, struct pd_merge merge);
/* After the last token (the added ones too): fills bytes and byte_id. */
PD_CHECKED enum pd_rc pd_bpe_finish(struct pd_bpe *b, struct pd_err *err);
/* After the merges and `control` are known: sets merges_control. */
void pd_bpe_note_controls(struct pd_bpe *b);
/* All merges in the order of their ranks; pd_free it. NULL with *err when memory is gone. */
struct pd_merge *pd_bpe_ranked_merges(const struct pd_bpe *b, struct pd_err *err);
/* The bytes that a text of glyphs stands for; dst has room for text.len. Returns how many. */
size_t pd_bpe_unglyph(struct pd_str text, char *dst);
int32_t pd_bpe_id(const struct pd_bpe *b, struct pd_str text); /* -1 = none */
/* The same among the tokens that merging can give. */
int32_t pd_bpe_model_id(const struct pd_bpe *b, struct pd_str text);
/* One word to ids. PD_TOOBIG as soon as *out cannot but pass the limit. */
struct pd_word_way {
    struct pd_word_cache *cache; /* NULL = do without */
    size_t limit;                /* of out->len */
    bool controls;               /* merging may give control tokens */
};
PD_CHECKED enum pd_rc pd_bpe_word(const struct pd_bpe *b, struct pd_str word,
                                  const struct pd_word_way *way, struct pd_ids *out,
                                  struct pd_err *err);

/* --- tok_pieces.c --- */
#define PD_SPACE "\xe2\x96\x81" /* U+2581 */
/* The symbols that merging starts from; ids has room for word.len. Returns how many. */
size_t pd_pieces_symbols(const struct pd_bpe *b, struct pd_str word, uint32_t *ids);
/* Merges of a vocabulary that has scores (one a token) in place of merges: any two tokens whose
 * texts make a third, the best score first. Tokens in `beyond` take no part. */
PD_CHECKED enum pd_rc pd_pieces_merges(struct pd_bpe *b, const float *scores, struct pd_err *err);
/* "<0x0A>" -> 10; -1 for any other text. */
int pd_pieces_byte(struct pd_str text);
/* After the last token: bytes, byte_id, ascii_id, apart. `decode_bytes`: <0x0A> stands for a byte.
 */
PD_CHECKED enum pd_rc pd_pieces_finish(struct pd_bpe *b, bool decode_bytes, struct pd_err *err);

/* --- tok_apart.c --- */
/* Characters that no merge ever joins: a word cut between them gives the same ids, and its parts
 * are short enough for the cache. NULL where no cut is safe. */
struct pd_apart *pd_apart_new(const struct pd_bpe *b);
/* The end of the part of word that begins at `at`, below word.len. */
size_t pd_apart_end(const struct pd_apart *a, struct pd_str word, size_t at);

/* --- tok_norm.c --- */
/* Applies the steps to text, appending to *out. */
PD_CHECKED enum pd_rc pd_norm_apply(const struct pd_norm_step *v, size_t n, struct pd_str text,
                                    struct pd_buf *out, struct pd_err *err);
/* Appends text with every `from` replaced by `to`. */
void pd_replace(struct pd_buf *out, struct pd_str text, struct pd_str from, struct pd_str to);

/* --- tok_nfc.c --- */
/* The next part of text, at or after `at` (where a part may begin), that may change in NFC; empty,
 * at the end, when there is none. What stands before it is NFC. Any thread. */
void pd_nfc_unsure(struct pd_str text, size_t at, size_t *begin, size_t *end);

/* --- tok_spm_norm.c --- */
void pd_spm_norm_finish(struct pd_spm_norm *m); /* once units are there: fills lone */
/* Appends text normalised; `kept` are the user-defined pieces, `prefix`: with the dummy prefix. */
void pd_spm_normalize(const struct pd_spm_norm *m, const struct pd_added_set *kept,
                      struct pd_str text, bool prefix, struct pd_buf *out);

/* --- tok_char.c --- */
enum pd_char { PD_CHAR_OTHER, PD_CHAR_LETTER, PD_CHAR_NUMBER, PD_CHAR_SPACE };
enum pd_char pd_char_wide(uint32_t cp); /* from 128 */
bool pd_char_is_space(uint32_t cp);
bool pd_char_is_word(uint32_t cp);  /* \w */
bool pd_char_is_punct(uint32_t cp); /* as tokenizers' Punctuation has it */
/* Decodes the character at text[at] (valid UTF-8); its length is left in *len. */
uint32_t pd_char_at(struct pd_str text, size_t at, size_t *len);

/* --- tok_words.c --- */
void pd_words_begin(struct pd_words *w, const struct pd_steps *steps, struct pd_str text);
/* The next word; *more false: none is left. text is valid UTF-8. */
PD_CHECKED enum pd_rc pd_words_next(struct pd_words *w, struct pd_str *word, bool *more,
                                    struct pd_err *err);
void pd_words_end(struct pd_words *w);
extern const char *const pd_step_names[PD_STEP_COUNT];
/* Adds a step; pattern (REGEX) must live as long. PD_INVALID, PD_UNSUPPORTED for a pattern. */
PD_CHECKED enum pd_rc pd_steps_add(struct pd_steps *s, enum pd_step_kind kind,
                                   struct pd_str pattern, struct pd_err *err);
void pd_steps_release(struct pd_steps *s);

/* --- tok_added.c --- */
void pd_added_set_build(struct pd_added_set *s, const struct pd_added *items, size_t n);
void pd_added_set_release(struct pd_added_set *s);
/* The next match at or after `at`: [*begin, *end) of text, white space that the token eats
 * included, not reaching before `at`. NULL = none. Without parse_special special ones are text. */
const struct pd_added *pd_added_next(const struct pd_added_set *s, struct pd_str text, size_t at,
                                     bool parse_special, size_t *begin, size_t *end);
/* The longest of the set that stands at text[at]; NULL = none. */
const struct pd_added *pd_added_at(const struct pd_added_set *s, struct pd_str text, size_t at);
/* Registers an added token (copying text when `copy`), or overrides the flags of the one that has
 * its text. */
void pd_tok_add_added(struct pd_tokenizer *t, const struct pd_added *a, bool copy);
/* After the last: sorts, adds their texts to the vocabulary's, builds both sets. */
PD_CHECKED enum pd_rc pd_tok_finish(struct pd_tokenizer *t, const char *name, struct pd_err *err);

/* --- tok_gguf.c, tok_gguf_save.c --- */
/* tokenizer.ggml.token_type, as llama.cpp numbers them. */
enum {
    PD_GGUF_NORMAL = 1,
    PD_GGUF_UNKNOWN,
    PD_GGUF_CONTROL,
    PD_GGUF_USER,
    PD_GGUF_UNUSED,
    PD_GGUF_BYTE
};
/* The tokenizer.ggml.pre that stands for how this byte-level tokenizer works, or NULL. */
const char *pd_tok_gguf_pre(const struct pd_tokenizer *t);
struct pd_gguf_writer;
/* Puts the tokenizer.ggml.* keys; n_rows: of the embedding, tokens that are not there are unused
 * ones. PD_UNSUPPORTED for a way of cutting words that has no name in llama.cpp. */
PD_CHECKED enum pd_rc pd_tokenizer_put_gguf(const struct pd_tokenizer *t, int32_t n_rows,
                                            struct pd_gguf_writer *w, struct pd_err *err);

/* The Split patterns of tokenizer.json files that are the scanners' own. */
#define PD_REGEX_LLAMA3                                                                            \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "                     \
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define PD_REGEX_QWEN2                                                                             \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "                          \
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define PD_REGEX_THREES "[0-9][0-9][0-9]"

#endif
