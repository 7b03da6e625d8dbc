/* What a score head tells apart: one label, whose logit is the reward, or the several of a
 * classifier (AutoModelForSequenceClassification with num_labels > 1), one of which can be taken as
 * the reward. Their names are config.json's id2label; a row without one is LABEL_i, as in
 * transformers (configuration_utils.py). Owner thread. */
#ifndef PD_LM_LABELS_H
#define PD_LM_LABELS_H

#include "base/str.h"
#include "lm/model.h"

/* Rows of the model's score head; 0 when it has none. */
int64_t pd_model_n_labels(const struct pd_model *m);
struct pd_label_room {
    char text[32];
};
/* The name of row i of the head as it is in the files, byte for byte; or LABEL_i, which stands in
 * room then. Good as long as both are; a 0 follows. */
struct pd_str pd_model_label(const struct pd_model *m, int64_t i, struct pd_label_room *room);
/* "NAME, NAME and NAME", the first few of many, for people: no control characters. */
void pd_model_add_labels(const struct pd_model *m, struct pd_buf *out);

/* Keeps one row of the head: a label's name, or its number where none is called so. The model is a
 * reward model from then on, cfg.n_labels still what the files hold. label NULL: the only one.
 * PD_INVALID names those there are: where the label is none of them, or a name of two, and where
 * there are several and none was said; or says that there is no head, or a new one without labels.
 */
PD_CHECKED enum pd_rc pd_model_keep_label(struct pd_model *m, const char *label,
                                          struct pd_err *err);

#endif
