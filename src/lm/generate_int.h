/* Private to the generator's sources: what waits, and what runs. */
#ifndef PD_LM_GENERATE_INT_H
#define PD_LM_GENERATE_INT_H

#include "lm/generate.h"
#include "lm/kv.h"

/* What prompts that say the same share: computed and kept once. */
struct pd__prefix {
    struct pd_kv_node *node; /* NULL while it waits */
    float *hidden; /* (H) after its last token: first tokens are drawn from it; NULL = not yet */
    int64_t own, answer; /* pages: of its tokens, and of the longest answer to it */
    int64_t spare;       /* promised at admission to whichever answer begins first */
    int64_t n_prompts;   /* that hold it */
};

/* A prompt from pd_gen_add until its last answer is done. */
struct pd__prompt {
    struct pd_gen_prompt p;
    int64_t index;
    struct pd__prefix *prefix;
    int64_t started, finished;
};

/* A running answer. */
struct pd__row {
    struct pd__prompt *prompt;
    struct pd_gen_answer a; /* ids point into context, after the prompt */
    int32_t *context;       /* prompt and answer side by side, as the sampler reads them */
    int64_t max_new;
    struct pd_kv_node *node;
    struct pd_rng rng;
    bool over, stuck;
};

struct pd_gen {
    struct pd_decoder *dec;
    struct pd_gen_opts opts;
    int64_t H, V, context;
    struct pd_kv *kv;
    int64_t page_bytes, n_pages, promised;
    struct pd__prompt **queue; /* waiting or with answers to start, in order of adding */
    int64_t n_queue, cap_queue, n_added;
    struct pd__row *rows; /* running, dense */
    int64_t n_rows;
    struct pd_infer_part *parts; /* (max of rows, prompts in one pass) */
    int64_t cap_parts;
    float *hidden; /* (max_rows, H), and room to fill up */
    float *logits; /* (LOGIT_ROWS, V), and room to fill up */
    struct pd_sampler **samplers;
    int n_samplers;
    struct pd_gen_stats stats;
    void *culprit;
    struct pd_err stuck; /* why the last row that is stuck is */
};

/* --- generate_queue.c --- */
int64_t pd__gen_max_new(const struct pd_gen *g, const struct pd_gen_prompt *p);
/* Room for n in g->parts. */
void pd__gen_need_parts(struct pd_gen *g, int64_t n);
/* The prompts of the next pass, into g->parts, and their prefixes into who (n_queue long): as many
 * tokens as the budget allows, enough prompts to fill the free rows, each prefix once. */
int pd__gen_choose(struct pd_gen *g, struct pd__prefix **who);
void pd__gen_unqueue(struct pd_gen *g, const struct pd__prompt *p);
/* Its last answer is done, or it is not wanted any more. */
void pd__gen_end_prompt(struct pd_gen *g, struct pd__prompt *p);
/* An answer is handed over, or not wanted any more; with the last one its prompt ends. The caller
 * closes the gap among the rows. */
void pd__gen_end_row(struct pd_gen *g, struct pd__row *r);

#endif
