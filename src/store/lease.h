/* The queue: atomic leases. For every record, answers that count + live leases <= the dataset's cap
 * at all times; a user never gets a record they submitted or discarded; one with only their draft
 * comes back to them. Relaxed durability is
 * enough for a lease: one lost in a crash costs at most a surplus answer.
 *
 * Order: a user's own live leases first (oldest first), then open records by id. A cursor per
 * (dataset, user) skips what is finished for good, so taking a lease does not depend on how many
 * records were done before. */
#ifndef PD_STORE_LEASE_H
#define PD_STORE_LEASE_H

#include "store/store.h"

#define PD_LEASE_TTL_US ((int64_t)15 * 60 * 1000000)

struct pd_lease {
    int64_t record_id, expires_us;
};
/* Up to `want` leases held after the call, own ones renewed. n < want means nothing more is open
 * for this user now; then *reserved (may be NULL) = open records of others' leases, and *retry_us =
 * when the first of those runs out (0: none). */
PD_CHECKED enum pd_rc pd_lease_take(struct pd_db *db, int64_t dataset_id, int64_t user_id,
                                    size_t want, struct pd_lease *out, size_t *n, int64_t *reserved,
                                    int64_t *retry_us, struct pd_err *err);
/* Takes or renews one given record; *ok=false when it is full or answered. */
PD_CHECKED enum pd_rc pd_lease_record(struct pd_db *db, int64_t record_id, int64_t user_id,
                                      bool *ok, struct pd_err *err);
/* Renews all of a user's leases in a dataset (activity). */
PD_CHECKED enum pd_rc pd_lease_renew(struct pd_db *db, int64_t dataset_id, int64_t user_id,
                                     struct pd_err *err);
/* Gives them back: record_id 0 = all of the user in the dataset; dataset_id 0 = everywhere. */
PD_CHECKED enum pd_rc pd_lease_return(struct pd_db *db, int64_t dataset_id, int64_t user_id,
                                      int64_t record_id, struct pd_err *err);
/* Deletes what ran out and lets waiting surplus answers count in their place. Call now and then. */
PD_CHECKED enum pd_rc pd_lease_expire(struct pd_db *db, struct pd_err *err);
/* Microseconds UTC, the clock of all leases. */
int64_t pd_lease_now(void);
/* Tests: replaces the clock of this file (0 = the real one). */
void pd_lease_set_clock(int64_t us);

#endif
