/* What a worker left in a run folder after comparing the new policy with the old one: eval.json
 * (the summary of `podium eval policy`) and eval-answers.jsonl (an answer of each to every prompt).
 */
#ifndef PD_API_RUN_EVAL_H
#define PD_API_RUN_EVAL_H

#include "base/arena.h"
#include "base/json.h"

struct pd_eval_item {
    struct json_object *prompt;
    struct pd_str old_text, new_text;
    double old_score, new_score; /* NAN = not scored */
};
struct pd_policy_eval {
    struct json_object *summary;
    struct pd_eval_item *items;
    size_t n;
    int64_t wins, losses, ties;
};
/* Everything in the arena. False when there is none. */
bool pd_policy_eval_read(struct pd_arena *a, const char *dir, const char *run_uuid,
                         struct pd_policy_eval *out);

#endif
