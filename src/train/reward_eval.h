/* What rewards say about a set of pairs: the summary that `score` and `eval reward` print and that
 * training shows for its held-out pairs. Threads: pure. */
#ifndef PD_TRAIN_REWARD_EVAL_H
#define PD_TRAIN_REWARD_EVAL_H

#include "base/json.h"
#include "train/pairs.h"
#include "train/stats.h"

enum { PD_MAX_STRENGTHS = 16 };

struct pd_reward_summary {
    size_t n, ties;
    double accuracy;       /* share with chosen strictly above rejected */
    struct pd_interval ci; /* 95% Wilson */
    double margin;         /* mean of chosen - rejected */
    double loss;           /* mean -log sigmoid(margin) */
    double mean_reward;    /* over both sides */
    double ece;
    double length_correlation;        /* Pearson, reward difference against token difference */
    double longer_wins, shorter_wins; /* what the two blind baselines get; equal lengths half */
    int n_strengths;
    struct {
        int strength;
        size_t n, right;
    } by_strength[PD_MAX_STRENGTHS];
};

void pd_reward_summarise(const struct pd_pairs *p, const float *rc, const float *rr,
                         struct pd_reward_summary *out);
/* The members of the JSON object of INTERFACE (the caller opens and closes it). */
void pd_reward_summary_json(const struct pd_reward_summary *s, struct pd_jw *w);
/* For people: a few lines. */
void pd_reward_summary_text(const struct pd_reward_summary *s, struct pd_buf *out);

#endif
