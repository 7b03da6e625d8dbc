/* The named tensors of a checkpoint, whichever kind of file holds them: safetensors, torch's
 * pytorch_model.bin, GGUF. All are mapped; a tensor is a view that lives until close. Any thread
 * may read. */
#ifndef PD_LM_WEIGHTS_H
#define PD_LM_WEIGHTS_H

#include "tensor/dtype.h"

struct pd_weight {
    const char *dtype_name; /* as the file says it */
    enum pd_dtype dtype;
    bool known_dtype; /* `dtype` says what it is */
    bool f64;         /* else it may be doubles, which read as fp32; anything else is no weight */
    bool strided;     /* the values do not follow one another: `stride` counts them */
    int ndim;
    int64_t shape[8], stride[8];
    const void *data; /* any alignment */
    const char *file; /* for messages */
};

struct pd_weights {
    struct pd_st *st;       /* one of the three */
    struct pd_torch *torch; /* */
    struct pd_gguf *gguf;   /* names are GGUF's; closed with the rest */
};

/* DIR/model.safetensors, else DIR/pytorch_model.bin, either of them also in shards. PD_NOTFOUND
 * when there is neither. */
PD_CHECKED enum pd_rc pd_weights_open_dir(struct pd_weights *w, const char *dir,
                                          struct pd_err *err);
/* DIR/STEM.safetensors, else DIR/STEM.bin: how adapters are stored. */
PD_CHECKED enum pd_rc pd_weights_open_stem(struct pd_weights *w, const char *dir, const char *stem,
                                           struct pd_err *err);
void pd_weights_close(struct pd_weights *w); /* may be called twice */
/* The files stay mapped, but their pages need not stay in memory: what is read again comes from the
 * page cache. For one who has made a copy of what it read. */
void pd_weights_let_go(const struct pd_weights *w);

bool pd_weights_find(const struct pd_weights *w, const char *name, struct pd_weight *out);
/* "safetensors", "torch" or "gguf"; "none" when nothing is open. */
const char *pd_weights_format(const struct pd_weights *w);
/* Files and their bytes. */
size_t pd_weights_files(const struct pd_weights *w, size_t *bytes);
/* Name i of the tensors that are there, ptr NULL past the last. */
struct pd_str pd_weights_name(const struct pd_weights *w, size_t i);

/* All values of a tensor, however it lies, row-major in fp32. */
void pd_weight_gather(const struct pd_weight *w, float *dst);

#endif
