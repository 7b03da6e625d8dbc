/* The judgment as the derived parts see it: one labeler's answer to one question of one record, in
 * values that need no database. Filled from a dataset, a snapshot or a judgments.jsonl by
 * pref/bundle.h. */
#ifndef PD_PREF_JUDGE_H
#define PD_PREF_JUDGE_H

#include "pref/question.h"

/* A ranking in tiers: tier[i] of answer i, 0 = best, equal = tie; -1 = not ranked. */
struct pd_ranking {
    size_t k;
    int tier[26];
    int strength; /* 0..3, -1 = not asked */
    bool both_bad;
};

/* Normal form: a ranking of K answers is K(K-1)/2 rows, i < j by answer index. */
struct pd_pair_row {
    size_t task, labeler; /* indices the caller gave */
    int i, j;
    double y;        /* 1: i better, 0: j better, 1/2: tie */
    int strength;    /* 0..3, -1 = not asked */
    bool shown_left; /* i stood before j on the labeler's screen */
    double weight;   /* 1 / C(K,2) */
};
/* rows must have room for K(K-1)/2; returns how many (unranked answers take no part).
 * shown[k] (may be NULL) = answer indices in the order seen. */
size_t pd_ranking_rows(const struct pd_ranking *r, size_t task, size_t labeler, const int *shown,
                       struct pd_pair_row *rows);

/* What a value of ours ({"value":X,"strength":..,"both_bad":..}) says, against its question. */
PD_CHECKED enum pd_rc pd_ranking_parse(const char *const *options, size_t n_options,
                                       struct json_object *value, struct pd_ranking *out,
                                       struct pd_err *err);

/* Majority over votes of one pair: counts for i, for j, ties. */
struct pd_vote {
    int64_t i, j, tie;
    int64_t strength_i, strength_j;     /* sums, the tie break */
    int64_t n_strength_i, n_strength_j; /* judgments that carried one */
    int64_t both_bad;                   /* of the ties; counted by the caller */
};
struct pd_verdict {
    int winner;      /* +1: i, -1: j, 0: tie or undecided */
    double margin;   /* (n1 - n2) / n over the three outcomes; 0 when tied */
    int64_t votes;   /* n */
    double strength; /* mean strength of the winning side's judgments, -1 = none */
};
void pd_vote_add(struct pd_vote *v, const struct pd_pair_row *row);
struct pd_verdict pd_vote_majority(const struct pd_vote *v);

#endif
