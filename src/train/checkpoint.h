/* Checkpoints: everything that makes a resumed run bit for bit the run it would have been.
 *
 *   RUN/checkpoint-N/state.json    {"step": N, "tensors": [{"name", "bytes", "crc32"}...], +
 * caller's keys} RUN/checkpoint-N/tensors.bin   the named blocks of bytes, one after the other
 *
 * Written under a temporary name, synced, renamed: a folder called checkpoint-N is whole. The
 * oldest are removed so that `keep` remain. Owner thread. */
#ifndef PD_TRAIN_CHECKPOINT_H
#define PD_TRAIN_CHECKPOINT_H

#include "base/json.h"
#include "base/rng.h"
#include "tensor/optim.h"

/* One block; saving reads it, loading fills it. */
struct pd_blob {
    const char *name;
    void *ptr;
    size_t bytes;
};
/* A growable list of them; names are copied. Zero-initialise. */
struct pd_blobs {
    struct pd_blob *v;
    size_t n;
};
void pd_blobs_add(struct pd_blobs *b, const char *prefix, const char *name, void *ptr,
                  size_t bytes);
/* The trainable parameters of a model, and its optimizer's two moments. */
void pd_blobs_add_params(struct pd_blobs *b, const char *prefix, const struct pd_params *ps);
void pd_blobs_add_adamw(struct pd_blobs *b, const char *prefix, const struct pd_adamw *o);
void pd_blobs_release(struct pd_blobs *b);

/* state: an object (borrowed) with what else must be kept: cursors, seeds, coefficients. */
PD_CHECKED enum pd_rc pd_checkpoint_save(const char *run_dir, int64_t step, int keep,
                                         struct json_object *state, const struct pd_blobs *blobs,
                                         struct pd_err *err);
/* Fills the blobs from the newest checkpoint and gives its state (caller releases) and step. *step
 * = 0 and *state = NULL when there is none. PD_INVALID when the blocks are not the ones asked for,
 * PD_IO when bytes are damaged. */
PD_CHECKED enum pd_rc pd_checkpoint_load(const char *run_dir, int64_t *step,
                                         struct json_object **state, const struct pd_blobs *blobs,
                                         struct pd_err *err);

/* Random states as JSON text (64-bit words do not fit a JSON number everywhere). */
struct json_object *pd_rng_to_json(const struct pd_rng *r);
bool pd_rng_from_json(struct json_object *o, struct pd_rng *r);

#endif
