/* Several models or settings that answer the same prompts, side by side in one answers.jsonl, so
 * that people compare them.
 *
 * Each variant makes an ordinary answers file of its own, those of one model together and one model
 * after the other (so that no two are in memory at once); then their rows are merged: the answers
 * of all variants to a prompt in an order shuffled by the seed and the prompt, so that their place
 * says nothing about who made them. Settings that all rows share stay the row's "params"; an answer
 * carries those that differ as its own "params". An answer that says the same as one of another
 * variant is marked as a duplicate, not drawn again: that would bend the variant that is compared.
 *
 * Interrupted, OUT.partial (which names the variants and the prompts) and the files OUT.variant-N
 * stay, and the same command with resume goes on; or finds that OUT has it all (gen/finished.h).
 * Owner thread. */
#ifndef PD_GEN_VARIANTS_H
#define PD_GEN_VARIANTS_H

#include "gen/spent.h"
#include "lm/prompts.h"

struct pd_variants {
    size_t n;
    size_t together;  /* so many in a row are made at once: the settings of one model */
    const char *out;  /* path, "-" = stdout (nothing to resume then) */
    const char *what; /* a JSON object of variants and settings: the same for a resumed run */
    uint64_t seed;
    bool resume, quiet;
    int64_t n_answers;           /* of each variant to a prompt */
    const char *const *models;   /* (n) the name in each one's answers */
    const char *const *settings; /* (n) and its "params", JSON objects */
    /* Writes the answers of variants which[0..n), each to its own out, whole or not at all: lines
     * {"index": place of the prompt, "row": the row}, places ascending; at the end maybe a note of
     * what was spent (gen/spent.h). */
    enum pd_rc (*make)(void *ctx, const size_t *which, const char *const *out, size_t n,
                       bool resume, struct pd_err *err);
    void *ctx;
};

struct pd_variants_summary {
    int64_t rows, answers;
    int64_t duplicates;     /* across variants */
    int64_t missing;        /* prompts that not every variant answered; they are left out */
    bool finished;          /* OUT had all answers before */
    struct pd_spent before; /* on variants that an earlier run has made */
};

/* What was spent stands in *sum on failure too. */
PD_CHECKED enum pd_rc pd_variants_make(const struct pd_variants *v,
                                       const struct pd_prompts *prompts,
                                       struct pd_variants_summary *sum, struct pd_err *err);

#endif
