/* Label Studio labeling configs: the tags that ask for preferences, as our fields and questions.
 *
 *   Text, Paragraphs, List (value="$key")  -> field `key`        Header, Style, View: layout, left
 * aside Pairwise toName="left,right"           -> ranking of the two fields, named as the tag
 *   Choices choice=single|multiple         -> label_selection | multi_label_selection
 *   Rating maxRating=N                     -> rating 1..N        TextArea -> text
 *   Ranker toName=List                     -> not a question yet: its items differ from task to
 * task A control that is not known is named in the error. The config is kept in the dataset's
 * settings
 * ("label_config"), so that exports can name the tags again. */
#ifndef PD_PREF_LABELCONFIG_H
#define PD_PREF_LABELCONFIG_H

#include "store/dataset.h"

/* Adds the config's fields and questions to a dataset that has none. */
PD_CHECKED enum pd_rc pd_labelconfig_create(struct pd_db *db, int64_t dataset_id, struct pd_str xml,
                                            struct pd_err *err);

#endif
