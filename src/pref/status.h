/* Progress as JSON, from counters. One shape for `podium status`, the dataset page and SSE:
 * {"dataset","workspace","id","status","template","overlap","records","completed","in_hand","waiting",
 *  "submitted","discarded","draft","surplus","seconds","last_activity",
 *  "labelers":[{"labeler","submitted","discarded","draft","seconds","last"}]} */
#ifndef PD_PREF_STATUS_H
#define PD_PREF_STATUS_H

#include "base/json.h"
#include "store/dataset.h"

PD_CHECKED enum pd_rc pd_status_write(struct pd_db *db, const struct pd_dataset *d, bool labelers,
                                      struct pd_jw *w, struct pd_err *err);

#endif
