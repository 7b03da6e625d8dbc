/* Reading and writing safetensors.
 *
 *   u64 N | N bytes of JSON | tensor bytes       name -> {dtype, shape, data_offsets: [begin, end)}
 *
 * The reader maps a file, or a folder's shards through model.safetensors.index.json, and holds the
 * format's rules: data contiguous without holes or overlap, ending at the file's end, sizes as
 * shapes say, no name twice. Names and data are borrowed until close; an open set may be read by
 * any thread. The writer streams tensors in the order given, pads the header to 8 bytes, and
 * replaces the file atomically. */
#ifndef PD_LM_SAFETENSORS_H
#define PD_LM_SAFETENSORS_H

#include "base/fs.h"
#include "base/map.h"
#include "tensor/dtype.h"

struct pd_st_tensor {
    struct pd_str name;
    enum pd_dtype dtype;
    bool known_dtype; /* else only dtype_name says what it is (buffers: BOOL, I64...) */
    char dtype_name[8];
    int ndim;
    int64_t shape[8];
    const void *data; /* unaligned */
    size_t bytes;
    int file; /* index into files */
};

struct pd_st_file {
    char *path;
    struct pd_map_file map;
    struct json_object *header; /* owns the names */
};

struct pd_st {
    struct pd_st_tensor *tensors;
    size_t n_tensors;
    struct pd_map index; /* name -> tensors */
    struct pd_st_file *files;
    size_t n_files;
};

/* PD_PARSE / PD_INVALID naming file and tensor. */
PD_CHECKED enum pd_rc pd_st_open(struct pd_st **out, const char *path, struct pd_err *err);
/* DIR/model.safetensors, or the shards of DIR/model.safetensors.index.json; PD_NOTFOUND when the
 * folder has neither. */
PD_CHECKED enum pd_rc pd_st_open_dir(struct pd_st **out, const char *dir, struct pd_err *err);
/* Bytes the caller keeps alive (tests, fuzzing). */
PD_CHECKED enum pd_rc pd_st_open_bytes(struct pd_st **out, const void *bytes, size_t n,
                                       const char *name, struct pd_err *err);
void pd_st_close(struct pd_st *s); /* accepts NULL */
const struct pd_st_tensor *pd_st_find(const struct pd_st *s, const char *name);
/* The file that tensor t lies in, for messages. */
const char *pd_st_path(const struct pd_st *s, const struct pd_st_tensor *t);

/* One tensor to write: `fill` puts rows first..first+n-1 of its [shape[0], rest] view, in fp32,
 * into dst. */
struct pd_st_out {
    const char *name;
    int ndim;
    const int64_t *shape;
    void (*fill)(void *ctx, int64_t first, int64_t n, float *dst);
    void *ctx;
};
/* dtype F32, F16 or BF16. metadata "format": "pt" is written, as transformers demands. */
PD_CHECKED enum pd_rc pd_st_write(const char *path, const struct pd_st_out *tensors, size_t n,
                                  enum pd_dtype dtype, struct pd_err *err);
/* The same as model.safetensors in dir, or, past max_shard_bytes, as numbered shards with their
 * index. stops: PD_INTERRUPTED once the process is asked to stop. */
PD_CHECKED enum pd_rc pd_st_write_dir(const char *dir, const struct pd_st_out *tensors, size_t n,
                                      enum pd_dtype dtype, size_t max_shard_bytes, bool stops,
                                      struct pd_err *err);

#endif
