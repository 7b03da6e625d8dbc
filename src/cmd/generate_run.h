/* Inside `podium generate`: its options once read (cmd_generate.c), and what they ask for done
 * (generate_run.c). */
#ifndef PD_CMD_GENERATE_RUN_H
#define PD_CMD_GENERATE_RUN_H

#include "cmd/generate_grid.h"
#include "gen/answers.h"
#include "gen/endpoint.h"
#include "gen/serve.h"

struct pd_generate_args {
    struct pd_opt_list models, names;
    const char *temperature, *top_k, *top_p; /* lists */
    struct pd_grid grid;
    const char *prompts, *dtype, *chat;
    struct pd_answers_opts o;
    struct pd_opt_list stops, bad_words;
    struct pd_words words;
    const char *too_long;
    int64_t logprobs; /* -1: not asked for */
    int64_t seed, threads, memory;
    bool skip_bad, json, serve;
    bool endpoint; /* an endpoint is among the models */
    struct pd_serve_opts so;
    struct pd_endpoint ep;
    const char *key_env;
    const struct pd_opt *options;
};

/* The sampling of one point of the grid. */
struct pd_sampling pd_generate_sampling(const struct pd_generate_args *a,
                                        const struct pd_grid_model *m,
                                        const struct pd_grid_setting *set);
/* `given`: the options that were given, as an object (changed). */
PD_CHECKED enum pd_rc pd_generate_run(struct pd_generate_args *a, struct json_object *given,
                                      struct pd_err *err);

#endif
