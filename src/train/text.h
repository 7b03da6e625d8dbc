/* How training and scoring read text, which is how TRL reads it.
 *
 * A standard text is prompt and completion put together as strings, with the eos text appended
 * unless it ends with it; special-token text is parsed and the tokenizer's post-processor applies.
 * A conversation goes through the chat template and gets no eos beyond the template's own.
 *
 * A reward is read at the rightmost token that is not pad, as transformers'
 * ForSequenceClassification does. Where pad is eos (SmolLM2), that is the token before the
 * appended eos. What stands after it changes nothing, so it is not computed. */
#ifndef PD_TRAIN_TEXT_H
#define PD_TRAIN_TEXT_H

#include "lm/model.h"

struct json_object;

/* Where a sequence's reward is read and how much of it must be computed. */
struct pd_row {
    int32_t *ids;     /* owned by whoever filled it */
    int32_t n_tokens; /* as tokenised: what TRL counts */
    int32_t len;      /* tokens to compute: read_at + 1 */
    int32_t read_at;  /* 0 when every token is pad */
};
/* Takes ids; pad -1 = none. n >= 1. */
struct pd_row pd_row_make(int32_t *ids, size_t n, int32_t pad);
bool pd_row_same(const struct pd_row *a, const struct pd_row *b);
int32_t pd_row_common(const struct pd_row *a, const struct pd_row *b); /* common prefix, tokens */

/* The pad id of a reward model: its config's, else the tokenizer's pad, else eos, else -1. */
int32_t pd_pad_id(const struct pd_model *m);
/* The same for a reward model in the making, as TRL chooses it: the tokenizer's pad, else eos; it
 * is set in m->cfg, so the folder saved later says where its scores are read. */
int32_t pd_pad_id_choose(struct pd_model *m);

/* A prompt, a completion, or a whole transcript: a string or a list of {"role","content"}. */
struct pd_piece {
    struct pd_str text;       /* when it is a string */
    struct json_object *chat; /* when it is a list, else NULL */
};
/* false when v is neither a string nor a non-empty list of messages; *why then says what it is. */
bool pd_piece_from_json(struct json_object *v, struct pd_piece *out, struct pd_err *why);

/* prompt (may be NULL) + completion to ids, appended to *out. Both must be of one kind.
 * PD_INVALID names what is wrong with the row. */
PD_CHECKED enum pd_rc pd_text_encode(const struct pd_model *m, const struct pd_piece *prompt,
                                     const struct pd_piece *completion, struct pd_ids *out,
                                     struct pd_err *err);

#endif
