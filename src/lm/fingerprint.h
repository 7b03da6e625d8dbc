/* Which model this is, cheaply: a hash that tells weights from others of the same name and shape.
 *
 * It goes over two blocks of every parameter (small ones whole) and the beginnings of the files
 * that say how text becomes tokens and back: a few MB, whatever the model's size. Training,
 * merging and quantising change all of a tensor; a change of a few values elsewhere is not seen. */
#ifndef PD_LM_FINGERPRINT_H
#define PD_LM_FINGERPRINT_H

#include "lm/model.h"

/* Of an open model, before a decoder gives up weights that it has copied. Hexadecimal. */
PD_CHECKED enum pd_rc pd_model_fingerprint(const struct pd_model *m, char out[41],
                                           struct pd_err *err);

#endif
