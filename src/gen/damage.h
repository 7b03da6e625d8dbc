/* Where a number that is not finite comes from. */
#ifndef PD_GEN_DAMAGE_H
#define PD_GEN_DAMAGE_H

#include "base/err.h"

struct pd_model;

/* Reads all weights: PD_NONFINITE naming the first tensor that holds one, and its place; PD_OK when
 * all are finite. */
PD_CHECKED enum pd_rc pd_model_damage(const struct pd_model *m, struct pd_err *err);

#endif
