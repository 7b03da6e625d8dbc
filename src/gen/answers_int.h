/* Private to answers*.c: a job of `podium generate` in memory, its rows, and its files. */
#ifndef PD_GEN_ANSWERS_INT_H
#define PD_GEN_ANSWERS_INT_H

#include "gen/answers.h"
#include "gen/partial.h"
#include "gen/stops.h"
#include "lm/model.h"

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
    struct pd__job *job;
    struct json_object *row; /* borrowed from the prompts */
    struct pd_ids ids;
    uint64_t key;           /* names its random streams */
    struct pd__slot *slots; /* opts.n, from the first answer to the last */
    int64_t n_filled;
    size_t at;      /* its place among the prompts, bad ones of this model counted */
    size_t line_no; /* of the prompts' file */
    bool failed;    /* and reported */
    char *line;     /* the finished row, without newline */
};

struct pd__job {
    const struct pd_model *model; /* NULL where an endpoint answers */
    const char *where;            /* a path or an address: whose answers OUT.partial holds */
    bool chat;                    /* plain prompts become messages */
    const struct pd_answers_opts *opts;
    struct pd_answers_summary *sum;
    struct pd__item *items;
    int64_t n_items, n_finished, n_failed;
    int32_t eos[PD_ANSWERS_MAX_EOS];
    struct pd_sampling sampling;
    struct pd_bad_words bad;
    struct pd_buf settings;     /* JSON: "params" of every row */
    struct pd_spent noted;      /* in OUT.partial, of what was spent */
    struct pd_partial *partial; /* NULL: there is none */
    bool keep;                  /* it stays when the job is released */
    bool finished;              /* before it began: OUT has all answers and stays as it is */
    struct pd_stops stops;
};

/* answers_job.c. A job is prepared (its prompts become items with a key, `where` and `chat` are
 * set: by the decoder's side, answers.c, or the endpoint's, answers_endpoint.c), opened, its items
 * are filled, and it is settled. */
void pd__answers_init(struct pd__job *j, const struct pd_answers_opts *opts,
                      struct pd_answers_summary *sum);
void pd__answers_release(struct pd__job *j);
/* Takes the rows that OUT.partial has, which from now on gets those that are finished. */
PD_CHECKED enum pd_rc pd__answers_open(struct pd__job *j, struct pd_err *err);
/* Writes OUT; or, when filling the items ended with rc, leaves what is worth keeping. Returns rc,
 * or why OUT could not be written. */
PD_CHECKED enum pd_rc pd__answers_settle(struct pd__job *j, enum pd_rc rc, struct pd_err *err);
void pd__slot_release(struct pd__slot *s);
/* All slots are filled: those that say the same as an earlier one are marked as duplicates. */
void pd__answers_find_repeats(const struct pd__job *j, struct pd__item *it);
/* All slots are filled: the row is made and goes to OUT.partial. */
PD_CHECKED enum pd_rc pd__answers_finish_item(struct pd__job *j, struct pd__item *it,
                                              struct pd_err *err);

/* answers_row.c: the finished line of an item (pd_free it). */
char *pd__answers_line(const struct pd__job *j, const struct pd__item *it);

/* answers_file.c: OUT.partial is opened (with resume its rows are taken), gets a line for each
 * finished item, and makes way for OUT. Nothing happens to a partial file when OUT is stdout. */
PD_CHECKED enum pd_rc pd__answers_open_partial(struct pd__job *j, struct pd_err *err);
PD_CHECKED enum pd_rc pd__answers_add_partial(struct pd__job *j, const struct pd__item *it,
                                              struct pd_err *err);
/* It stays for another run: notes what was spent since the last item. */
void pd__answers_end_partial(struct pd__job *j);
PD_CHECKED enum pd_rc pd__answers_write_out(struct pd__job *j, struct pd_err *err);

#endif
