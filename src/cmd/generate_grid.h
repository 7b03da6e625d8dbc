/* The variants of `podium generate`: every --model under every combination of the values that
 * --temperature, --top-k and --top-p list. */
#ifndef PD_CMD_GENERATE_GRID_H
#define PD_CMD_GENERATE_GRID_H

#include "base/opt.h"

struct pd_grid_model {
    const char *path; /* borrowed: a path or an address */
    char *name;       /* as it is to stand in the answers; differs from the others' */
    bool endpoint;
    bool chat;        /* once it was opened: text prompts become messages */
    char weights[41]; /* fingerprint (lm/fingerprint.h) once it was opened, else "" */
};
struct pd_grid_setting {
    double temperature, top_p;
    int64_t top_k;
};
struct pd_grid {
    struct pd_grid_model *models;
    struct pd_grid_setting *settings;
    size_t n_models,
        n_settings; /* variant i is settings[i % n_settings] of models[i / n_settings] */
};

/* names: none, or one for each model. Lists are "0.7,1.0". PD_USAGE naming the option. */
PD_CHECKED enum pd_rc pd_grid_make(struct pd_grid *g, const struct pd_opt_list *models,
                                   const struct pd_opt_list *names, const char *temperature,
                                   const char *top_k, const char *top_p, struct pd_err *err);
void pd_grid_release(struct pd_grid *g);

#endif
