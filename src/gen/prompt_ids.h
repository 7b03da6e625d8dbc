/* One prompt to the ids a model reads: through its chat template, plainly, or given as ids; and
 * what happens when it is too long.
 *
 * A prompt fits when at least one token of an answer has room behind it, within the model's context
 * and within max_length. With PD_TOO_LONG_TRUNCATE_LEFT it loses tokens at its left until an answer
 * of max_new_tokens fits the context: ids their first ones, plain text the first ones after the
 * special tokens that the tokenizer puts in front, a chat its oldest messages (not the system
 * message, not the last one; a user's turn comes first again) and then the left of its last
 * message. Special tokens and the template itself stay whole. Pure, any thread. */
#ifndef PD_GEN_PROMPT_IDS_H
#define PD_GEN_PROMPT_IDS_H

#include "lm/prompts.h"
#include "lm/tokenizer.h"

struct pd_model;

enum pd_chat_mode { PD_CHAT_AUTO, PD_CHAT_ON, PD_CHAT_OFF };
enum pd_too_long { PD_TOO_LONG_ERROR, PD_TOO_LONG_TRUNCATE_LEFT };

struct pd_prompt_opts {
    enum pd_chat_mode chat;
    bool special;              /* plain prompts: text that spells a special token is that token */
    int64_t max_new_tokens;    /* 0 = not given */
    int64_t max_length;        /* prompt and answer; 0 = not given; max_new_tokens wins */
    enum pd_too_long too_long; /* truncation needs max_new_tokens */
};

/* Whether text prompts go through the model's chat template (lists of messages always do). */
bool pd_prompt_chats(const struct pd_model *m, const struct pd_prompt_opts *o);
/* Tokens an answer to a prompt of n tokens may have; <= 0: none. */
int64_t pd_prompt_room(const struct pd_model *m, const struct pd_prompt_opts *o, int64_t n);
/* Appends the ids of p to *ids; *cut when some were left out. */
PD_CHECKED enum pd_rc pd_prompt_encode(const struct pd_model *m, const struct pd_prompt_opts *o,
                                       const struct pd_prompt *p, struct pd_ids *ids, bool *cut,
                                       struct pd_err *err);
/* Of its codes: no fault of this prompt, and no other is asked for then (PD_UNSUPPORTED, PD_NOMEM,
 * PD_INTERRUPTED); other codes say what is wrong with it. */
bool pd_prompt_ends_all(enum pd_rc rc);
/* Looks at every prompt; those that this model cannot be asked are reported and taken out. */
PD_CHECKED enum pd_rc pd_prompts_fit(struct pd_prompts *prompts, const struct pd_model *m,
                                     const struct pd_prompt_opts *o, struct pd_err *err);

#endif
