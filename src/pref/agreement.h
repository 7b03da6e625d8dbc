/* Agreement on a dataset, a snapshot or a judgments.jsonl, question by question: INTERFACE's JSON
 * {"questions":[{"question","kind","records","labelers","judgments","percent","cohen_kappa"?,
 *   "fleiss_kappa","gwet_ac1","krippendorff_alpha":{"nominal","ordinal","interval"}|{"ranking"},
 *   "ci":{name:[lo,hi]},"pairs":[{"a","b","n","percent","kappa"}]}]}.
 * Only submitted answers count, the last of each labeler on a record. A ranking of two counts as
 * the labels "first better", "second better", "tie"; larger ones give alpha over the Kendall
 * distance. Intervals: 95%, percentile bootstrap over records. Free text and spans are left out. */
#ifndef PD_PREF_AGREEMENT_H
#define PD_PREF_AGREEMENT_H

#include "base/json.h"
#include "pref/bundle.h"

struct pd_agreement; /* collects judgments; owner thread */
struct pd_agreement *pd_agreement_new(void);
void pd_agreement_free(struct pd_agreement *g); /* accepts NULL */
PD_CHECKED enum pd_rc pd_agreement_add_bundles(struct pd_agreement *g, struct pd_bundles *src,
                                               struct pd_err *err);
PD_CHECKED enum pd_rc pd_agreement_add_file(struct pd_agreement *g, const char *path,
                                            const char *name, struct pd_err *err);
/* rounds 0: no intervals. The same seed gives the same intervals. */
void pd_agreement_write(const struct pd_agreement *g, int rounds, uint64_t seed, struct pd_jw *w);

#endif
