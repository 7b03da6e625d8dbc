/* Reading run folders while their trainer writes them: run.json, and the lines that were added to
 * metrics.jsonl and samples.jsonl. A line without its newline is not there yet. A trainer that goes
 * back to a checkpoint cuts the files; a tail notices by the file being shorter and starts over.
 * Owner thread. */
#ifndef PD_API_RUN_FOLDER_H
#define PD_API_RUN_FOLDER_H

#include "base/arena.h"
#include "base/json.h"

/* DIR/runs/UUID, in the arena. */
const char *pd_run_folder(struct pd_arena *a, const char *data_dir, struct pd_str uuid);
/* run.json, owned by the arena; NULL when there is none (yet). */
struct json_object *pd_run_folder_json(struct pd_arena *a, const char *dir);
struct json_object *pd_run_folder_file(struct pd_arena *a, const char *dir, const char *name);

struct pd_tail {
    char *path;
    int64_t at;         /* bytes read */
    struct pd_buf rest; /* of the last read: a line that is not whole */
};
void pd_tail_init(struct pd_tail *t, const char *dir, const char *name);
void pd_tail_release(struct pd_tail *t);
/* Calls fn for every new whole line; at most max_bytes are read at once. *again (may be NULL): the
 * file was cut, lines come anew. */
typedef void pd_tail_fn(void *ctx, struct pd_str line);
void pd_tail_read(struct pd_tail *t, size_t max_bytes, pd_tail_fn *fn, void *ctx, bool *again);

/* "step" of a line of metrics.jsonl or samples.jsonl without parsing the whole; -1 = none. */
int64_t pd_line_step(struct pd_str line);

#endif
