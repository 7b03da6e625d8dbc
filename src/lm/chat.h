/* Chat templates: a list of messages to ids.
 *
 * A template is rendered to parts, each either trusted (text the template itself holds, where
 * control tokens are meant) or not (roles and contents). Runs of untrusted and plain template text
 * are tokenized together, as Hugging Face does with the whole string, but only trusted text can
 * become a control token: a user who types <|im_end|> gets its letters.
 *
 * The ChatML templates are recognised from their text and rendered here; any other template is
 * PD_UNSUPPORTED naming what was looked for. A Jinja interpreter fits behind pd_chat_render. */
#ifndef PD_LM_CHAT_H
#define PD_LM_CHAT_H

#include "lm/tokenizer.h"

struct json_object;

struct pd_chat_msg {
    struct pd_str role, content; /* borrowed */
};

enum pd_chat_kind { PD_CHAT_NONE, PD_CHAT_CHATML, PD_CHAT_UNKNOWN };

struct pd_chat {
    enum pd_chat_kind kind;
    char *default_system; /* put first when the first message is not a system one; NULL = nothing */
};

struct pd_chat_part {
    struct pd_str text; /* lives in the pd_chat_parts */
    bool trusted;
};
struct pd_chat_parts {
    struct pd_buf text;
    struct pd_chat_part *items;
    size_t len, cap;
};

/* template_text may be empty (kind NONE) or unknown (kind UNKNOWN); both fail only when rendered.
 * PD_INVALID for a template that is not UTF-8. */
PD_CHECKED enum pd_rc pd_chat_init(struct pd_chat *c, struct pd_str template_text,
                                   struct pd_err *err);
void pd_chat_release(struct pd_chat *c);

/* Messages -> parts, in order. add_generation_prompt opens the assistant's turn. */
PD_CHECKED enum pd_rc pd_chat_render(const struct pd_chat *c, const struct pd_chat_msg *msgs,
                                     size_t n, bool add_generation_prompt,
                                     struct pd_chat_parts *out, struct pd_err *err);
void pd_chat_parts_release(struct pd_chat_parts *p);

/* Messages -> ids, appended to *out. No bos or eos is added beyond what the template holds. */
PD_CHECKED enum pd_rc pd_chat_encode(const struct pd_chat *c, const struct pd_tokenizer *t,
                                     const struct pd_chat_msg *msgs, size_t n,
                                     bool add_generation_prompt, struct pd_ids *out,
                                     struct pd_err *err);

/* [{"role","content"}...] -> messages borrowed from the tree; *out is pd_free'd by the caller.
 * PD_INVALID naming the message that has no string role or content. */
PD_CHECKED enum pd_rc pd_chat_msgs_from_json(struct json_object *list, struct pd_chat_msg **out,
                                             size_t *n, struct pd_err *err);

#endif
