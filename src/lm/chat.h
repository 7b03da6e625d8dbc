/* Chat templates: a list of messages to ids.
 *
 * A template is rendered to parts, each either trusted (text the template itself holds, where
 * control tokens are meant) or not (roles and contents). Runs of untrusted and plain template text
 * are tokenized together, as Hugging Face does with the whole string, but only trusted text can
 * become a control token: a user who types <|im_end|> gets its letters.
 *
 * Templates are Jinja's, rendered by jinja.h as transformers renders them. One that it cannot read
 * opens all the same and fails when it is needed, with its line and the reason. */
#ifndef PD_LM_CHAT_H
#define PD_LM_CHAT_H

#include "lm/tokenizer.h"

struct json_object;
struct pd_jinja;

struct pd_chat_msg {
    struct pd_str role, content; /* borrowed */
    struct json_object *row;     /* where templates find what else the message holds; or NULL */
};

enum pd_chat_kind { PD_CHAT_NONE, PD_CHAT_TEMPLATE, PD_CHAT_UNKNOWN };

struct pd_chat {
    enum pd_chat_kind kind;
    struct pd_jinja *jinja;
    char *problem;                 /* UNKNOWN: why it cannot be read */
    struct json_object *tokens[4]; /* the texts of bos, eos, unk, pad; NULL = none */
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

/* template_text may be empty (kind NONE) or not readable here (kind UNKNOWN); both fail only when
 * rendered. t names bos_token and its like to the template; NULL = it has none.
 * PD_INVALID for a template that is not UTF-8. */
PD_CHECKED enum pd_rc pd_chat_init(struct pd_chat *c, struct pd_str template_text,
                                   const struct pd_tokenizer *t, struct pd_err *err);
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

/* The same; PD_TOOBIG as soon as *out cannot but hold more than `most` ids. */
PD_CHECKED enum pd_rc pd_chat_encode_most(const struct pd_chat *c, const struct pd_tokenizer *t,
                                          const struct pd_chat_msg *msgs, size_t n,
                                          bool add_generation_prompt, size_t most,
                                          struct pd_ids *out, struct pd_err *err);

/* {"content": [{"type":"text","text"}...]} becomes {"content": text}, in the tree: templates of
 * models of text know no parts. Other contents are left as they are. PD_INVALID naming message `at`
 * and the part that is no text. */
PD_CHECKED enum pd_rc pd_chat_join_parts(struct json_object *msg, size_t at, struct pd_err *err);

/* [{"role","content"}...] -> messages borrowed from the tree; *out is pd_free'd by the caller. A
 * content that is a list of text parts becomes one text, in the tree. PD_INVALID naming the message
 * that has no string role or content, or a part that is no text. */
PD_CHECKED enum pd_rc pd_chat_msgs_from_json(struct json_object *list, struct pd_chat_msg **out,
                                             size_t *n, struct pd_err *err);

#endif
