/* Prompts to answer, from a file: .jsonl (objects with "prompt": text or messages), .txt (one a
 * line), .csv or .tsv (column `prompt`), each maybe gzipped; "-" is .jsonl on stdin.
 *
 * Every prompt becomes a JSON object with at least "id" and "prompt" (or "ids"), other keys as they
 * came. A row without an id (or with an empty one, as a CSV file has it) gets its number N among
 * the prompts, as text, or where another row has that as its own the first free of N-2, N-3 ...
 * Bad rows are named on stderr as file:line: reason, the first twenty of them; then reading fails,
 * or with skip_bad goes on without them. Owner thread. */
#ifndef PD_LM_PROMPTS_H
#define PD_LM_PROMPTS_H

#include "base/json.h"
#include "base/map.h"

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
    /* set before reading */
    bool take_ids;       /* rows may have "ids" (a list) instead of "prompt" */
    bool one_id;         /* a row with the id of an earlier one, as text, is bad */
    struct pd_map by_id; /* line of the first row with it */
};

/* p is zero but for take_ids and one_id. */
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
