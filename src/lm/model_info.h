/* What a model is and what it needs, for people and for programs. */
#ifndef PD_LM_MODEL_INFO_H
#define PD_LM_MODEL_INFO_H

#include "lm/model.h"

/* One JSON object. Of a model opened for inference: training lets its files go. */
void pd_model_info_json(const struct pd_model *m, struct pd_buf *out);
/* A dozen lines of "label  value". */
void pd_model_info_text(const struct pd_model *m, struct pd_buf *out);

/* PD_NONFINITE naming the first tensor that holds a NaN or an infinity, and where. Reads every
 * value. */
PD_CHECKED enum pd_rc pd_model_check_finite(const struct pd_model *m, struct pd_err *err);

#endif
