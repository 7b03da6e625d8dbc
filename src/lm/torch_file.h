/* Reading what torch.save writes of a state dict: pytorch_model.bin, in one file or shards through
 * pytorch_model.bin.index.json.
 *
 * A ZIP (lm/zip.h) of FOLDER/data.pkl, which is read as data and executes nothing (lm/pickle.h),
 * and one member a storage, FOLDER/data/KEY. A tensor is a view into its storage: shape, strides
 * and offset are held against the storage's size; several may share one. Values that are no tensors
 * are passed over. Names and data are borrowed from the map until close; any thread may read. */
#ifndef PD_LM_TORCH_FILE_H
#define PD_LM_TORCH_FILE_H

#include "base/fs.h"
#include "base/map.h"
#include "tensor/dtype.h"

struct pd_torch_tensor {
    struct pd_str name;
    const char *dtype_name; /* "F32", or "F64", "I64"...: known_dtype false */
    enum pd_dtype dtype;
    bool known_dtype;
    int ndim;
    int64_t shape[8], stride[8]; /* stride: in values */
    bool contiguous;
    const void *data; /* the first value */
    int file;
};

struct pd_torch_file {
    char *path;
    struct pd_map_file map;
};

struct pd_torch {
    struct pd_torch_tensor *tensors;
    size_t n_tensors, cap;
    struct pd_map index; /* name -> tensors */
    struct pd_torch_file *files;
    size_t n_files;
};

/* DIR/pytorch_model.bin or its shards; PD_NOTFOUND when the folder has neither. */
PD_CHECKED enum pd_rc pd_torch_open_dir(struct pd_torch **out, const char *dir, struct pd_err *err);
PD_CHECKED enum pd_rc pd_torch_open(struct pd_torch **out, const char *path, struct pd_err *err);
/* Bytes the caller keeps alive (tests, fuzzing). */
PD_CHECKED enum pd_rc pd_torch_open_bytes(struct pd_torch **out, const void *bytes, size_t n,
                                          const char *name, struct pd_err *err);
void pd_torch_close(struct pd_torch *t); /* accepts NULL */
const struct pd_torch_tensor *pd_torch_find(const struct pd_torch *t, const char *name);

#endif
