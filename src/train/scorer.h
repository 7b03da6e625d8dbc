/* A scalar head over packed rows: how every reward in this wing is computed.
 *
 * Rows that stand next to each other share their common prefix, so the two sides of a pair, or the
 * samples of one prompt, cost their prompt once. Owner thread. */
#ifndef PD_TRAIN_SCORER_H
#define PD_TRAIN_SCORER_H

#include "lm/decoder.h"
#include "train/pairs.h"

struct pd_scorer {
    struct pd_decoder *dec;
    int64_t micro_tokens; /* rows of one pass; a longer row runs alone */
};

/* reward[i] of rows[i], read at its read_at. PD_NONFINITE names the first row that has none. */
PD_CHECKED enum pd_rc pd_scorer_run(const struct pd_scorer *s, const struct pd_row *const *rows,
                                    size_t n, float *reward, struct pd_err *err);
/* Rewards of pairs: rc (n), rr (n). */
PD_CHECKED enum pd_rc pd_scorer_pairs(const struct pd_scorer *s, const struct pd_pairs *p,
                                      float *rc, float *rr, struct pd_err *err);

/* Clears s and puts the pairs' trees into it, in order; read_rows (2n) gets the stream rows where
 * the chosen and the rejected reward of each are read: c0, r0, c1, r1 ... */
void pd_pairs_stream(struct pd_stream *s, const struct pd_pair *const *pairs, size_t n,
                     int32_t *read_rows);

#endif
