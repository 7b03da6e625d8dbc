/* Small read-only questions that the screens ask of several tables at once. Any connection. */
#ifndef PD_STORE_LOOKUP_H
#define PD_STORE_LOOKUP_H

#include "store/response.h"
#include "store/user.h"

PD_CHECKED enum pd_rc pd_user_has_password(struct pd_db *db, int64_t user_id, bool *has,
                                           struct pd_err *err);
/* Last answer anywhere (0 = none), and whether a session is open. */
PD_CHECKED enum pd_rc pd_user_activity(struct pd_db *db, int64_t user_id, int64_t *last_us,
                                       bool *signed_in, struct pd_err *err);
/* Did the user come in by a sign-in link after this moment? */
PD_CHECKED enum pd_rc pd_link_used_since(struct pd_db *db, int64_t user_id, int64_t since_us,
                                         bool *used, struct pd_err *err);

/* A judgment by its uuid; *latest: no later one of the same labeler on the same record. */
PD_CHECKED enum pd_rc pd_judgment_by_uuid(struct pd_db *db, struct pd_arena *a, struct pd_str uuid,
                                          struct pd_judgment *out, bool *found, bool *latest,
                                          struct pd_err *err);
/* uuid of the last judgment of a labeler on a record; "" when there is none. */
PD_CHECKED enum pd_rc pd_judgment_last(struct pd_db *db, int64_t record_id, int64_t user_id,
                                       char uuid[37], struct pd_err *err);
/* Does anyone hold a live lease on the record? */
PD_CHECKED enum pd_rc pd_record_in_hand(struct pd_db *db, int64_t record_id, bool *held,
                                        struct pd_err *err);
/* Jobs that wait before this one. */
PD_CHECKED enum pd_rc pd_job_ahead(struct pd_db *db, int64_t job_id, int64_t *n,
                                   struct pd_err *err);

#endif
