/* Prompts to answer, from a file: .jsonl (objects with "prompt": text or messages), .txt (one a
 * line), .csv or .tsv (column `prompt`), each maybe gzipped; "-" is .jsonl on stdin.
 *
 * Every prompt becomes a JSON object with at least "id" and "prompt" (or "ids"), other keys as they
 * came. Bad rows are named on stderr as file:line: reason, the first twenty of them; then reading
 * fails, or with skip_bad goes on without them. Owner thread. */
#ifndef PD_LM_PROMPTS_H
#define PD_LM_PROMPTS_H

#include "base/json.h"

struct pd_prompt {
    struct json_object *row; /* owned */
    struct json_object *ids; /* of row: a list that stands in for the prompt; NULL = there is one */
    size_t line;             /* of the file, from 1 */
};

struct pd_prompts {
    char *path;
    struct pd_prompt *v;
    size_t n, cap;
    size_t n_bad;
    bool skip_bad;
    bool take_ids; /* set before reading: rows may have "ids" (a list) instead of "prompt" */
};

/* p is zero but for take_ids. */
PD_CHECKED enum pd_rc pd_prompts_read(struct pd_prompts *p, const char *path, bool skip_bad,
                                      struct pd_err *err);
void pd_prompts_release(struct pd_prompts *p);

/* Reports a row as bad (found while reading, or later while encoding). */
void pd_prompts_bad(struct pd_prompts *p, size_t line, const char *fmt, ...) PD_PRINTF(3, 4);
/* After the last row was looked at: PD_INVALID when there were bad rows that may not be skipped or
 * when no good one is left. */
PD_CHECKED enum pd_rc pd_prompts_verdict(const struct pd_prompts *p, size_t n_good,
                                         struct pd_err *err);

#endif
