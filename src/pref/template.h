/* Ready-made datasets. A template is fields, questions and settings; everything a template makes
 * can also be made part by part.
 *
 *   pairwise   fields prompt, a, b; ranking `preference` of a, b with strength and both_bad
 *   ranking    fields prompt, a, b, c ... (K answers); ranking `preference`
 *   rating     fields prompt, answer; rating `rating` 1..7
 *   label-studio:FILE.xml   Text, Pairwise, Choices, Rating, TextArea, Ranker of a labeling config
 */
#ifndef PD_PREF_TEMPLATE_H
#define PD_PREF_TEMPLATE_H

#include "store/dataset.h"

struct pd_template_options {
    struct pd_str uuid;       /* of the dataset, empty: made (pd_dataset_new.uuid) */
    struct pd_str name, tmpl; /* tmpl as above; label-studio needs xml */
    struct pd_str xml;        /* text of the labeling config */
    struct pd_str guidelines; /* empty: the template's own */
    int64_t workspace_id, author_id;
    size_t answers;        /* ranking: K, 2..26; 0 = 3 */
    int64_t min_submitted; /* 0 = 1 */
    bool chat;             /* the prompt is a list of messages */
    bool publish;
    const char *made_by;
};
/* Inside a transaction. */
PD_CHECKED enum pd_rc pd_template_create(struct pd_db *db, const struct pd_template_options *o,
                                         int64_t *dataset_id, struct pd_err *err);
/* The workspace everything goes to unless told otherwise; made when missing. */
PD_CHECKED enum pd_rc pd_workspace_default(struct pd_db *db, struct pd_str name, int64_t *id,
                                           struct pd_err *err);

#endif
