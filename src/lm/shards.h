/* The index of a checkpoint in several files: X.index.json, {"weight_map": {tensor: file}}. */
#ifndef PD_LM_SHARDS_H
#define PD_LM_SHARDS_H

#include "base/json.h"
#include "base/map.h"

struct pd_shards {
    char *path; /* of the index, for messages */
    struct json_object *index;
    struct pd_map files; /* plain names in order of appearance; values mean nothing */
};

/* *s may be released whatever comes back. */
PD_CHECKED enum pd_rc pd_shards_read(struct pd_shards *s, const char *index_path,
                                     struct pd_err *err);
/* Does every tensor of the index stand in `have` (keys: names)? PD_INVALID names one that does not.
 */
PD_CHECKED enum pd_rc pd_shards_check(const struct pd_shards *s, const struct pd_map *have,
                                      struct pd_err *err);
void pd_shards_release(struct pd_shards *s);

#endif
