/* Making and comparing snapshots. Splits go by prompt cluster: equal prompts and near-duplicates
 * (MinHash of word 5-grams, estimated Jaccard >= 0.8) never stand on two sides. Clusters are
 * ordered by a hash of their text and cut at the asked shares, so a growing dataset keeps most
 * records in place. */
#ifndef PD_PREF_SNAPSHOT_H
#define PD_PREF_SNAPSHOT_H

#include "store/snapshot.h"

struct pd_split {
    const char *name;
    double share; /* > 0; all shares sum to at most 1 + 1e-9; the rest is left out */
};
/* "train=0.8,test=0.2" -> list in the arena. */
PD_CHECKED enum pd_rc pd_splits_parse(struct pd_arena *a, struct pd_str text, struct pd_split **out,
                                      size_t *n, struct pd_err *err);
/* Writes DIR/snapshots/HASH.jsonl and the row. n = 0: no splits. PD_INVALID when nothing was
 * submitted yet. */
PD_CHECKED enum pd_rc pd_snapshot_make(struct pd_store *s, struct pd_arena *a, int64_t dataset_id,
                                       const struct pd_split *splits, size_t n,
                                       struct pd_snapshot *out, struct pd_err *err);
/* Records by id: only in one, with other judgments, in another split, the same. */
struct pd_snapshot_diff {
    int64_t added, removed, changed, moved, same;
};
PD_CHECKED enum pd_rc pd_snapshot_compare(struct pd_store *s, const char *from_hash,
                                          const char *to_hash, struct pd_snapshot_diff *out,
                                          struct pd_err *err);
char *pd_snapshot_path(struct pd_store *s, struct pd_arena *a, const char *hash);

/* Clusters: cluster[i] = the smallest index of i's cluster. */
void pd_prompt_clusters(const struct pd_str *prompts, size_t n, size_t *cluster);

#endif
