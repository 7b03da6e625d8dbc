/* Whether an answers file is what a job would write: then there is nothing left to resume.
 *
 * It is when it has one row for each prompt, in their order, with the prompt's keys as they are,
 * the job's seed, and n answers of each variant (a model's name and its settings). */
#ifndef PD_GEN_FINISHED_H
#define PD_GEN_FINISHED_H

#include "base/json.h"

struct pd_finished {
    const char *out; /* path of a file that is there */
    uint64_t seed;
    int64_t n; /* answers of each variant to a prompt */
    bool quiet;
    size_t n_variants;
    const char *const *models;
    const char *const *settings; /* as JSON objects, keys in any order */
};

/* Whether there is a file with anything in it, to be held against the job. */
bool pd_finished_maybe(const char *out);
/* Says so on stderr when it is finished; PD_CONFLICT, saying why, when it is not. rows: the
 * prompts'. */
PD_CHECKED enum pd_rc pd_finished_check(const struct pd_finished *f,
                                        struct json_object *const *rows, size_t n_rows,
                                        struct pd_err *err);

#endif
