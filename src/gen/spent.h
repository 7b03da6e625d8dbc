/* What an endpoint was paid for, as files of a job note it: "spent": [tokens of prompts, tokens of
 * answers, answers without a count], of the whole job up to there. */
#ifndef PD_GEN_SPENT_H
#define PD_GEN_SPENT_H

#include "base/json.h"

struct pd_spent {
    int64_t prompt_tokens, new_tokens, unknown;
};

/* False, and *s as it was, when the object has no such note. */
static inline bool pd_spent_read(struct pd_spent *s, struct json_object *o)
{
    struct json_object *list = pd_json_get(o, "spent");
    if (!json_object_is_type(list, json_type_array) || json_object_array_length(list) != 3)
        return false;
    s->prompt_tokens = json_object_get_int64(json_object_array_get_idx(list, 0));
    s->new_tokens = json_object_get_int64(json_object_array_get_idx(list, 1));
    s->unknown = json_object_get_int64(json_object_array_get_idx(list, 2));
    return true;
}

static inline void pd_spent_add(struct pd_spent *s, const struct pd_spent *more)
{
    s->prompt_tokens += more->prompt_tokens;
    s->new_tokens += more->new_tokens;
    s->unknown += more->unknown;
}

#endif
