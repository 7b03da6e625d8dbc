/* BPE tokenizers, byte-level and SentencePiece's, id for id what Hugging Face's give.
 *
 * Made from tokenizer.json, tokenizer.model, vocab.json + merges.txt, or the tokenizer keys of a
 * GGUF file. The pipeline is: split out added tokens, normalise, split the rest into words (the
 * regexes of the model families by hand-written scanners, others by PCRE2), merge by rank,
 * post-process.
 *
 * User text never becomes a control token unless asked: without PD_TOK_PARSE_SPECIAL an added token
 * marked special is ordinary text; added tokens not marked special keep their meaning always.
 *
 * A tokenizer is immutable after opening and may be used by any thread at once. */
#ifndef PD_LM_TOKENIZER_H
#define PD_LM_TOKENIZER_H

#include "base/str.h"

struct pd_tokenizer;
struct pd_gguf;

enum {
    PD_TOK_PARSE_SPECIAL = 1, /* text that spells a special token is that token */
    PD_TOK_ADD_SPECIAL = 2,   /* bos/eos as the tokenizer's post-processor says */
    PD_TOK_CONTINUES = 4,     /* the text goes on after other text: no space before it is made up */
    PD_TOK_TRAINING = 3,      /* both: how training, score and logprobs read text */
};

/* A growable id list. Zero-initialise; release with pd_ids_release. */
struct pd_ids {
    int32_t *ptr;
    size_t len, cap;
};
void pd_ids_push(struct pd_ids *v, int32_t id);  /* aborts when memory is gone */
void pd_ids_reserve(struct pd_ids *v, size_t n); /* room for n more */
void pd_ids_add(struct pd_ids *v, const int32_t *ids, size_t n);
void pd_ids_release(struct pd_ids *v);

/* The files of a tokenizer in a model's folder, as Hugging Face names them: of an array of names.
 */
#define PD_TOKENIZER_FILES                                                                         \
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",       \
        "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja"

/* dir holds tokenizer.json, or tokenizer.model, or vocab.json + merges.txt, looked for in this
 * order; tokenizer_config.json, special_tokens_map.json, added_tokens.json and chat_template.jinja
 * are read beside it when there. PD_NOTFOUND when there is none. */
PD_CHECKED enum pd_rc pd_tokenizer_open_dir(struct pd_tokenizer **out, const char *dir,
                                            struct pd_err *err);
/* From the tokenizer.ggml.* keys; strings are borrowed from g, which must outlive it. */
PD_CHECKED enum pd_rc pd_tokenizer_open_gguf(struct pd_tokenizer **out, const struct pd_gguf *g,
                                             struct pd_err *err);
/* From the bytes of a tokenizer.json; `name` is for messages. */
PD_CHECKED enum pd_rc pd_tokenizer_open_json(struct pd_tokenizer **out, struct pd_str json,
                                             const char *name, struct pd_err *err);
/* From the bytes of a tokenizer.model (SentencePiece, BPE); the space that it puts before text
 * stands after each added token too. */
PD_CHECKED enum pd_rc pd_tokenizer_open_model(struct pd_tokenizer **out, struct pd_str file,
                                              const char *name, struct pd_err *err);
void pd_tokenizer_free(struct pd_tokenizer *t); /* accepts NULL */

/* Appends the ids of text to *out. PD_INVALID with the byte offset when text is not valid UTF-8. */
PD_CHECKED enum pd_rc pd_tokenizer_encode(const struct pd_tokenizer *t, struct pd_str text,
                                          unsigned flags, struct pd_ids *out, struct pd_err *err);

/* The same; PD_TOOBIG when *out would hold more than `most` ids, which is seen before the whole of
 * a long text is worked on. */
PD_CHECKED enum pd_rc pd_tokenizer_encode_most(const struct pd_tokenizer *t, struct pd_str text,
                                               unsigned flags, size_t most, struct pd_ids *out,
                                               struct pd_err *err);

/* Appends the text of ids to *out. Bytes that are not UTF-8 become U+FFFD, as in Python's
 * decode("utf-8", "replace"). PD_INVALID for a negative id; ids of rows that pad the embedding
 * beyond the tokenizer decode to nothing. */
PD_CHECKED enum pd_rc pd_tokenizer_decode(const struct pd_tokenizer *t, const int32_t *ids,
                                          size_t n, bool skip_special, struct pd_buf *out,
                                          struct pd_err *err);

/* The raw bytes of one token (a part of a character, maybe); empty for an unknown id. */
struct pd_str pd_tokenizer_bytes(const struct pd_tokenizer *t, int32_t id);

/* Decoding one token at a time: appends only whole characters, keeps the rest for the next call.
 * Zero-initialise. pd_detok_finish appends U+FFFD for what is left. The text is that of
 * pd_tokenizer_decode, but for runs of SentencePiece's byte tokens that are not UTF-8, of which
 * Hugging Face shows every byte as U+FFFD: here the characters in them have been shown already. */
struct pd_detok {
    unsigned char pending[4];
    int n_pending;
    bool begun; /* pieces: something was shown */
};
void pd_detok_push(struct pd_detok *d, const struct pd_tokenizer *t, int32_t id, bool skip_special,
                   struct pd_buf *out);
void pd_detok_finish(struct pd_detok *d, struct pd_buf *out);

int32_t pd_tokenizer_size(const struct pd_tokenizer *t); /* ids are below this */
int32_t pd_tokenizer_bos(const struct pd_tokenizer *t);  /* -1 = none, as the next three */
int32_t pd_tokenizer_eos(const struct pd_tokenizer *t);
int32_t pd_tokenizer_pad(const struct pd_tokenizer *t);
int32_t pd_tokenizer_unk(const struct pd_tokenizer *t);
bool pd_tokenizer_is_special(const struct pd_tokenizer *t, int32_t id);
/* The text of an added or vocabulary token, "<|im_end|>"; ptr NULL for an unknown id. */
struct pd_str pd_tokenizer_text(const struct pd_tokenizer *t, int32_t id);
/* The id whose token text is exactly this; -1 = none. */
int32_t pd_tokenizer_id(const struct pd_tokenizer *t, struct pd_str text);
/* The chat template (Jinja source) that came with it; ptr NULL = none. */
struct pd_str pd_tokenizer_chat_template(const struct pd_tokenizer *t);
/* "byte-level BPE, 49152 tokens, 48900 merges, words: smollm" for `model info`. */
void pd_tokenizer_describe(const struct pd_tokenizer *t, struct pd_buf *out);

/* Writes tokenizer.json, tokenizer_config.json (chat template included) and special_tokens_map.json
 * into dir so that AutoTokenizer gives the same ids: copied where the tokenizer came from such
 * files, made from the GGUF keys otherwise. */
PD_CHECKED enum pd_rc pd_tokenizer_save(const struct pd_tokenizer *t, const char *dir,
                                        struct pd_err *err);
/* Whether it could be. */
PD_CHECKED enum pd_rc pd_tokenizer_can_save(const struct pd_tokenizer *t, struct pd_err *err);

#endif
