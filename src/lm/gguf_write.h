/* Writing GGUF (version 3, little-endian): keys first, then the list of tensors, then their bytes
 * in the order of the list, streamed. The layout is described in lm/gguf.h.
 *
 *   init; put_* keys; add_tensor...; open; for each tensor: data..., end_tensor; commit; release
 *
 * The file appears under its name when it is whole (pd_out). Owner thread. */
#ifndef PD_LM_GGUF_WRITE_H
#define PD_LM_GGUF_WRITE_H

#include "base/fs.h"
#include "lm/gguf.h"

struct pd_gguf_writer {
    struct pd_buf keys, infos;
    uint64_t n_keys, n_tensors;
    uint64_t planned; /* bytes of data that the list of tensors comes to, padding included */
    uint64_t written; /* of them */
    struct pd_out out;
};

void pd_gguf_writer_init(struct pd_gguf_writer *w);
void pd_gguf_writer_release(struct pd_gguf_writer *w); /* abandons what was not committed */

void pd_gguf_put_str(struct pd_gguf_writer *w, const char *key, struct pd_str v);
void pd_gguf_put_strz(struct pd_gguf_writer *w, const char *key, const char *v);
void pd_gguf_put_u32(struct pd_gguf_writer *w, const char *key, uint32_t v);
void pd_gguf_put_f32(struct pd_gguf_writer *w, const char *key, float v);
void pd_gguf_put_bool(struct pd_gguf_writer *w, const char *key, bool v);
/* An array of n elements, which must follow at once. */
void pd_gguf_put_array(struct pd_gguf_writer *w, const char *key, enum pd_gguf_type elem,
                       uint64_t n);
void pd_gguf_item_str(struct pd_gguf_writer *w, struct pd_str v);
void pd_gguf_item_u32(struct pd_gguf_writer *w, uint32_t v); /* i32 too */
void pd_gguf_item_f32(struct pd_gguf_writer *w, float v);

/* shape: outermost first, as Hugging Face writes it; at most 4 dimensions, rows of whole blocks. */
void pd_gguf_add_tensor(struct pd_gguf_writer *w, const char *name, int ndim, const int64_t *shape,
                        enum pd_dtype dtype);

PD_CHECKED enum pd_rc pd_gguf_writer_open(struct pd_gguf_writer *w, const char *path,
                                          struct pd_err *err);
PD_CHECKED enum pd_rc pd_gguf_writer_data(struct pd_gguf_writer *w, const void *bytes, size_t n,
                                          struct pd_err *err);
PD_CHECKED enum pd_rc pd_gguf_writer_end_tensor(struct pd_gguf_writer *w, struct pd_err *err);
/* After the last tensor: the file under its temporary name (w->out.tmp) is whole. */
PD_CHECKED enum pd_rc pd_gguf_writer_flush(struct pd_gguf_writer *w, struct pd_err *err);
PD_CHECKED enum pd_rc pd_gguf_writer_commit(struct pd_gguf_writer *w, struct pd_err *err);

#endif
