/* Chat templates: the part of Jinja that they use, as transformers configures it (trim_blocks,
 * lstrip_blocks, loop controls, {% generation %}, tojson without escapes).
 *
 * Every string knows which of its bytes came from data that is not trusted (messages, tools) and
 * keeps knowing through filters, methods, slices and concatenation: the rendered text comes out in
 * runs of one kind, so that a caller can let the template's own text, and no one else's, name
 * control tokens.
 *
 * Rendering is bounded: steps, depth, memory, output. A template is immutable once compiled and may
 * be rendered by any thread at once. What the subset lacks is PD_UNSUPPORTED with its line; a
 * template's own raise_exception() is PD_INVALID with its words. */
#ifndef PD_LM_JINJA_H
#define PD_LM_JINJA_H

#include "base/str.h"

struct json_object;
struct pd_jinja;

/* source is copied. PD_INVALID or PD_UNSUPPORTED, "line N: ...". */
PD_CHECKED enum pd_rc pd_jinja_compile(struct pd_jinja **out, struct pd_str source,
                                       struct pd_err *err);
void pd_jinja_free(struct pd_jinja *j); /* accepts NULL */

struct pd_jinja_var {
    const char *name;
    struct json_object *value; /* NULL is none */
    bool trusted;              /* its strings are as good as the template's own */
};

/* Calls emit for each run of the output, in order; text lives until it returns. */
PD_CHECKED enum pd_rc pd_jinja_render(const struct pd_jinja *j, const struct pd_jinja_var *vars,
                                      size_t n_vars,
                                      void (*emit)(void *ctx, struct pd_str text, bool trusted),
                                      void *ctx, struct pd_err *err);

#endif
