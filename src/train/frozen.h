/* What frozen blocks compute does not change: it is computed once per pair and kept for all epochs.
 *
 * The input of the first trainable block, for every token of every pair's tree, lies in one
 * unlinked file mapped into memory, so it costs address space and page cache, not heap. It is
 * filled in file order before training begins, in packs that do not depend on the order of
 * training: a resumed run gets the same bits. Owner thread. */
#ifndef PD_TRAIN_FROZEN_H
#define PD_TRAIN_FROZEN_H

#include "train/scorer.h"

struct pd_frozen {
    int layer; /* blocks below it are kept */
    int64_t width;
    float *x;    /* (rows of all pairs, width) */
    int64_t *at; /* (n + 1) first row of each pair */
    size_t bytes;
    size_t n;
};

/* Bytes it would take. */
size_t pd_frozen_bytes(const struct pd_decoder *dec, const struct pd_pairs *p);
/* Computes all of it; the file is made in dir and unlinked at once. PD_INTERRUPTED on a signal. */
PD_CHECKED enum pd_rc pd_frozen_open(struct pd_frozen *f, const char *dir, struct pd_decoder *dec,
                                     const struct pd_pairs *p, int64_t micro_tokens, bool quiet,
                                     struct pd_err *err);
/* The rows of the given pairs (indices), side by side as pd_pairs_stream lays them, into out. */
void pd_frozen_gather(const struct pd_frozen *f, const size_t *pairs, size_t n, float *out);
void pd_frozen_close(struct pd_frozen *f); /* fine on a zeroed one */

#endif
