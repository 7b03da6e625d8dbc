/* Hash map from byte strings to int64 values (an index, an id, or a pointer cast by the caller).
 * Keys are copied. Open addressing, insertion order kept for iteration. Owner thread only. */
#ifndef PD_BASE_MAP_H
#define PD_BASE_MAP_H

#include "base/str.h"

struct pd_map {
    struct pd_map_entry *entries; /* insertion order */
    uint32_t *slots;              /* index + 1 into entries, 0 = free */
    size_t len, cap, n_slots;
};
struct pd_map_entry {
    char *key; /* NUL-terminated copy */
    size_t key_len;
    uint64_t hash;
    int64_t value;
};

void pd_map_init(struct pd_map *m);
void pd_map_release(struct pd_map *m);
/* Sets key to value; returns true when the key was new. */
bool pd_map_put(struct pd_map *m, struct pd_str key, int64_t value);
bool pd_map_get(const struct pd_map *m, struct pd_str key, int64_t *value);
bool pd_map_has(const struct pd_map *m, struct pd_str key);

#endif
