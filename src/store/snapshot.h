/* Snapshots: rows that name an immutable file DIR/snapshots/HASH.jsonl (pref/snapshot.h writes and
 * reads it). The hash is the SHA-256 of the file: content only, no ids or times of the snapshot. */
#ifndef PD_STORE_SNAPSHOT_H
#define PD_STORE_SNAPSHOT_H

#include "store/store.h"

struct pd_snapshot {
    int64_t id, dataset_id; /* 0: the dataset was deleted since */
    char uuid[37], hash[65];
    const char *name;   /* "first-comparisons@3" */
    const char *splits; /* JSON {"train":0.8,"test":0.2} or "{}" */
    const char *counts; /* JSON {"records","judgments","splits":{name: records}} */
    int64_t created_us;
};
struct pd_snapshot_new {
    int64_t dataset_id;
    const char *hash;
    struct pd_str splits, counts;
};
PD_CHECKED enum pd_rc pd_snapshot_insert(struct pd_db *db, const struct pd_snapshot_new *in,
                                         int64_t *id, struct pd_err *err);
PD_CHECKED enum pd_rc pd_snapshot_get(struct pd_db *db, struct pd_arena *a, int64_t id,
                                      struct pd_snapshot *out, struct pd_err *err);
/* By name, uuid, hash or a hash prefix of at least 8 digits (the newest that fits). */
PD_CHECKED enum pd_rc pd_snapshot_find(struct pd_db *db, struct pd_arena *a, struct pd_str name,
                                       struct pd_snapshot *out, struct pd_err *err);
/* Newest first; dataset_id 0 = all. */
PD_CHECKED enum pd_rc pd_snapshot_list(struct pd_db *db, struct pd_arena *a, int64_t dataset_id,
                                       struct pd_snapshot **out, size_t *n, struct pd_err *err);

#endif
