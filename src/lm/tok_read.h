/* What the readers of tokenizer files share. */
#ifndef PD_LM_TOK_READ_H
#define PD_LM_TOK_READ_H

#include "base/json.h"
#include "lm/tok_int.h"

enum { PD_TOK_MAX_JSON = 256 << 20, PD_TOK_MAX_TOKENS = 1 << 22, PD_TOK_MAX_ADDED = 20000 };

struct pd_tok_reader {
    struct pd_tokenizer *t;
    const char *name; /* for messages */
    struct pd_err *err;
};

/* Fails with "NAME: ...". */
enum pd_rc pd_tok_fail(const struct pd_tok_reader *l, enum pd_rc rc, const char *fmt, ...)
    PD_PRINTF(3, 4);
#define UNSUPPORTED(l, ...) pd_tok_fail((l), PD_UNSUPPORTED, __VA_ARGS__)
#define MALFORMED(l, ...)   pd_tok_fail((l), PD_INVALID, __VA_ARGS__)

/* A copy that lives as long as the tokenizer. */
struct pd_str pd_tok_keep(struct pd_tokenizer *t, struct pd_str s);
bool pd_tok_is(struct json_object *o, const char *type);
/* The list under key, NULL when it is absent or empty. */
struct json_object *pd_tok_list(struct json_object *o, const char *key, size_t *n);
/* The list a step named Sequence holds under key; a step alone is a list of one, NULL of none. */
struct pd_tok_seq {
    struct json_object *v[16];
    size_t n;
};
PD_CHECKED enum pd_rc pd_tok_sequence(const struct pd_tok_reader *l, struct json_object *o,
                                      const char *key, struct pd_tok_seq *out, int depth);
PD_CHECKED enum pd_rc pd_tok_read_id(const struct pd_tok_reader *l, struct json_object *v,
                                     struct pd_str token, int32_t *id);
struct pd_added pd_tok_added_from_json(struct json_object *o, struct pd_str text, int32_t id);

/* --- tok_json.c --- */
PD_CHECKED enum pd_rc pd_tok_read_json(struct pd_tok_reader *l, struct json_object *root);
/* token -> id objects: the largest id (-1 = none), and the tokens into bpe, already begun. */
PD_CHECKED enum pd_rc pd_tok_top_id(const struct pd_tok_reader *l, struct json_object *vocab,
                                    int32_t *top);
PD_CHECKED enum pd_rc pd_tok_read_vocab(struct pd_tok_reader *l, struct json_object *vocab);

/* --- tok_parts.c: the parts of a tokenizer.json around its model --- */
PD_CHECKED enum pd_rc pd_tok_read_normalizer(struct pd_tok_reader *l, struct json_object *o);
PD_CHECKED enum pd_rc pd_tok_read_pre_tokenizer(struct pd_tok_reader *l, struct json_object *o);
PD_CHECKED enum pd_rc pd_tok_read_decoder(struct pd_tok_reader *l, struct json_object *o);
PD_CHECKED enum pd_rc pd_tok_read_post_processor(struct pd_tok_reader *l, struct json_object *o);

/* --- tok_model.c --- */
/* A SentencePiece model; `legacy`: the space before the text stands after each special token too;
 * room for ids below n_ids at least. */
PD_CHECKED enum pd_rc pd_tok_read_model(struct pd_tok_reader *l, struct pd_str file, size_t n_ids,
                                        bool legacy);

/* --- tok_save_json.c --- */
PD_CHECKED enum pd_rc pd_tok_write_json(struct pd_jw *w, const struct pd_tokenizer *t,
                                        struct pd_err *err);
void pd_tok_write_added_flags(struct pd_jw *w, const struct pd_added *a);

#endif
