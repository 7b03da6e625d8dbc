/* The derived numbers of one dataset for the lead's home: computed by one pass over everything that
 * was said, kept until the dataset changes. Any thread. */
#ifndef PD_API_OVERVIEW_H
#define PD_API_OVERVIEW_H

#include "api/api.h"
#include "pref/export.h"

struct pd_overviews *pd_overviews_new(void);
void pd_overviews_free(struct pd_overviews *o); /* accepts NULL */

/* Records whose labelers prefer different answers, as of the last pass; 0 before the first. */
int64_t pd_overview_conflicts(struct pd_api *api, int64_t dataset_id);
bool pd_overview_is_conflict(struct pd_api *api, int64_t dataset_id, const char *record_uuid);
/* What an export of a dataset (uuid) or snapshot (hash) as pairs would hold and leave out. */
PD_CHECKED enum pd_rc pd_overview_pairs(struct pd_api *api, const char *source,
                                        struct pd_export_report *out, struct pd_err *err);

#endif
