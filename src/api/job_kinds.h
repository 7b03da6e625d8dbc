/* The kinds of jobs the screens may start, and what a worker runs for each. A job's arguments are
 * checked against these tables when it is made and again when it is run: nothing else ever reaches
 * a command line. */
#ifndef PD_API_JOB_KINDS_H
#define PD_API_JOB_KINDS_H

#include "base/arena.h"
#include "base/json.h"

struct pd_job_arg {
    const char *key;  /* "learning_rate" */
    const char *flag; /* "--learning-rate"; NULL: not for the trainer */
    bool whole;       /* a whole number */
    double min, max, preset;
};
struct pd_job_kind {
    const char *name;        /* "train_reward" */
    const char *verb;        /* "train reward" */
    const char *title;       /* "Reward model" */
    const char *const *argv; /* {"train", "reward", NULL} */
    const struct pd_job_arg *args;
    size_t n_args;
};
const struct pd_job_kind *pd_job_kind_find(struct pd_str name); /* NULL when unknown */

/* Every key known, every value a number in range: PD_INVALID, and *field names the key. */
PD_CHECKED enum pd_rc pd_job_args_check(const struct pd_job_kind *k, struct json_object *args,
                                        const char **field, struct pd_err *err);
/* The value of a key, its preset when absent. */
double pd_job_arg(const struct pd_job_kind *k, struct json_object *args, const char *key);

/* Models to choose from: GGUF files and Hugging Face folders in a folder, by name. */
struct pd_model_choice {
    const char *id, *label, *path;
};
void pd_models_list(struct pd_arena *a, const char *dir, struct pd_model_choice **out, size_t *n);
/* NULL when there is no such model. */
const char *pd_models_path(struct pd_arena *a, const char *dir, struct pd_str id);
/* ${PODIUM_MODELS:-${XDG_CACHE_HOME:-~/.cache}/podium/models}; the caller frees. */
char *pd_models_default_dir(void);

#endif
