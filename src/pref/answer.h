/* The labeling loop as one call each: next tasks, save an answer, and what a labeler sees. Each
 * opens its own transaction; the handlers above stay thin. */
#ifndef PD_PREF_ANSWER_H
#define PD_PREF_ANSWER_H

#include "pref/question.h"
#include "store/lease.h"
#include "store/record.h"

struct pd_task {
    struct pd_record record; /* hidden is blanked */
    int64_t expires_us;
    const char *shown; /* JSON list of answer field names in the order to show them */
    bool has_response;
    struct pd_response response; /* the user's own draft or answer, when has_response */
};
/* Leases up to `want` tasks (own first). When n < want, *reserved and *retry_us say why.
 * PD_CONFLICT when the dataset is not published. */
PD_CHECKED enum pd_rc pd_task_next(struct pd_store *s, struct pd_arena *a, int64_t dataset_id,
                                   int64_t user_id, size_t want, struct pd_task **out, size_t *n,
                                   int64_t *reserved, int64_t *retry_us, struct pd_err *err);
/* One record as its labeler sees it (re-opening, links). Takes no lease. */
PD_CHECKED enum pd_rc pd_task_get(struct pd_store *s, struct pd_arena *a, int64_t record_id,
                                  int64_t user_id, struct pd_task *out, struct pd_err *err);

/* Validates and stores. in->values is raw client JSON here. Relaxed for drafts? No: a draft that
 * was acknowledged is on disk too. */
PD_CHECKED enum pd_rc pd_answer_save(struct pd_store *s, const struct pd_response_put *in,
                                     struct pd_response_result *out, struct pd_err *err);
/* The same inside a transaction (bulk doors). */
PD_CHECKED enum pd_rc pd_answer_put(struct pd_db *db, const struct pd_response_put *in,
                                    struct pd_response_result *out, struct pd_err *err);

/* The order in which one labeler sees the answers of one record: balanced, stable, from a keyed
 * hash of (dataset, user, record). names[n] -> order[n]; identity when the dataset's settings say
 * {"shuffle":false}. */
void pd_task_order(struct pd_store *s, const char *dataset_uuid, const char *user_uuid,
                   const char *record_uuid, size_t n, size_t *order);

#endif
