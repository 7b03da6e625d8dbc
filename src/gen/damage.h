/* Where a number that is not finite comes from. */
#ifndef PD_GEN_DAMAGE_H
#define PD_GEN_DAMAGE_H

#include "base/err.h"

struct pd_model;

/* Reads all weights that are still there: PD_NONFINITE naming the first tensor that holds one, and
 * its place; PD_OK when all are finite. */
PD_CHECKED enum pd_rc pd_model_damage(const struct pd_model *m, struct pd_err *err);
/* Whether all are: a decoder with panels frees some (lm/decoder.h). */
bool pd_model_is_whole(const struct pd_model *m);

#endif
