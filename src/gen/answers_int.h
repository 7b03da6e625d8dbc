/* Private to answers*.c: a job of `podium generate` in memory, its rows, and its files. */
#ifndef PD_GEN_ANSWERS_INT_H
#define PD_GEN_ANSWERS_INT_H

#include "gen/answers.h"
#include "gen/stops.h"
#include "lm/model.h"
#include "base/progress.h"

#include <stdio.h>

enum { PD_ANSWERS_MAX_EOS = 16 };

/* One answer of one prompt, as it will be written. */
struct pd__slot {
    char *text;
    size_t text_len;
    int32_t *ids;
    float *logprobs;    /* (n), or NULL when not asked for */
    struct pd_top *top; /* (n, opts.top_logprobs), or NULL */
    int64_t n;          /* tokens; -1 = not known (an endpoint that does not say) */
    double logprob;     /* with ids only */
    enum pd_finish finish;
    int64_t redrawn;
    bool filled, duplicate;
};

struct pd__item {
    struct json_object *row; /* borrowed from the prompts */
    struct pd_ids ids;
    uint64_t key;           /* names its random streams */
    struct pd__slot *slots; /* opts.n, from the first answer to the last */
    int64_t n_filled;
    size_t line_no; /* of the prompts' file */
    bool failed;    /* and reported */
    char *line;     /* the finished row, without newline */
};

struct pd__job {
    struct pd_decoder *dec; /* NULL where an endpoint answers, as the model */
    const struct pd_model *model;
    const char *where; /* a path or an address: whose answers OUT.partial holds */
    bool chat;         /* plain prompts become messages */
    const struct pd_answers_opts *opts;
    struct pd_answers_summary *sum;
    struct pd__item *items;
    int64_t n_items, n_finished, n_failed;
    int32_t eos[PD_ANSWERS_MAX_EOS];
    struct pd_sampling sampling;
    struct pd_bad_words bad;
    struct pd_buf settings; /* JSON: "params" of every row */
    struct pd_gen *gen;
    FILE *partial;
    char *partial_path;
    struct pd_stops stops;
    int64_t start_ns;
    struct pd_progress progress;
    void *who;     /* of the answerer */
    enum pd_rc rc; /* of a callback */
    struct pd_err err;
};

/* Who answers: a decoder of this process (answers.c) or an endpoint (answers_endpoint.c). */
struct pd__answerer {
    /* Prompts become items with a key; sets where and chat. What cannot be asked is a bad row. */
    enum pd_rc (*prepare)(struct pd__job *j, struct pd_prompts *prompts, struct pd_err *err);
    /* Fills the items that have no line yet. PD_INTERRUPTED when asked to stop. */
    enum pd_rc (*run)(struct pd__job *j, struct pd_err *err);
};

/* answers_job.c: prepares, takes OUT.partial, runs, writes; releases what the job holds. */
PD_CHECKED enum pd_rc pd__answers_do(struct pd__job *j, const struct pd__answerer *who,
                                     struct pd_prompts *prompts, struct pd_err *err);
void pd__slot_release(struct pd__slot *s);
/* Slot of an answer that repeats an earlier one, or -1. Those drawn often enough are marked. */
int64_t pd__answers_find_repeat(struct pd__job *j, struct pd__item *it);
/* All slots are filled: the row is made and goes to OUT.partial. */
PD_CHECKED enum pd_rc pd__answers_finish_item(struct pd__job *j, struct pd__item *it,
                                              struct pd_err *err);

/* answers_row.c: "params" into job->settings, and the finished line of an item (pd_free it). */
void pd__answers_params(struct pd__job *j);
char *pd__answers_line(const struct pd__job *j, const struct pd__item *it);

/* answers_file.c: OUT.partial is opened (with resume its rows are taken), gets a line for each
 * finished item, and makes way for OUT. Nothing happens to a partial file when OUT is stdout. */
PD_CHECKED enum pd_rc pd__answers_open_partial(struct pd__job *j, struct pd_err *err);
PD_CHECKED enum pd_rc pd__answers_add_partial(struct pd__job *j, const struct pd__item *it,
                                              struct pd_err *err);
PD_CHECKED enum pd_rc pd__answers_write_out(struct pd__job *j, struct pd_err *err);

#endif
