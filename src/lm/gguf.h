/* Reading GGUF files (versions 2 and 3, little-endian) through mmap.
 *
 *   "GGUF" | u32 version | u64 n_tensors | u64 n_kv | kv... | tensor infos... | pad | data
 *   kv    = string key, u32 type, value          string = u64 length + bytes
 *   info  = string name, u32 n_dims, u64 dims[n_dims] (innermost first), u32 type, u64 offset
 *
 * Nothing in the file is trusted: counts are held against the bytes left before anything is
 * allocated, nesting is limited, every tensor must lie inside the data. Keys, strings and tensor
 * data are borrowed from the map and live until close. Any thread may read an open file. */
#ifndef PD_LM_GGUF_H
#define PD_LM_GGUF_H

#include "base/fs.h"
#include "base/map.h"
#include "tensor/dtype.h"

enum pd_gguf_type {
    PD_GGUF_U8,
    PD_GGUF_I8,
    PD_GGUF_U16,
    PD_GGUF_I16,
    PD_GGUF_U32,
    PD_GGUF_I32,
    PD_GGUF_F32,
    PD_GGUF_BOOL,
    PD_GGUF_STR,
    PD_GGUF_ARR,
    PD_GGUF_U64,
    PD_GGUF_I64,
    PD_GGUF_F64,
    PD_GGUF_N_TYPES
};

struct pd_gguf_kv {
    struct pd_str key;
    enum pd_gguf_type type, elem; /* elem: of an array */
    uint64_t n;                   /* elements of an array, else 1 */
    const unsigned char *at;      /* the value's (or first element's) bytes, unaligned */
};

struct pd_gguf_tensor {
    struct pd_str name;
    int ndim;
    int64_t shape[4]; /* outermost first, as Hugging Face writes it */
    enum pd_dtype dtype;
    const void *data;
    size_t bytes;
};

struct pd_gguf {
    char *path;
    struct pd_map_file map;
    uint32_t version;
    struct pd_gguf_kv *kvs;
    size_t n_kvs;
    struct pd_gguf_tensor *tensors;
    size_t n_tensors;
    struct pd_map kv_index, tensor_index;
};

/* PD_PARSE with path and byte offset for anything malformed; PD_UNSUPPORTED for tensor types that
 * are not read. */
PD_CHECKED enum pd_rc pd_gguf_open(struct pd_gguf **out, const char *path, struct pd_err *err);
/* The same over bytes that the caller keeps alive (tests, fuzzing); at least 8-byte aligned. */
PD_CHECKED enum pd_rc pd_gguf_open_bytes(struct pd_gguf **out, const void *bytes, size_t n,
                                         const char *name, struct pd_err *err);
void pd_gguf_close(struct pd_gguf *g); /* accepts NULL */

const struct pd_gguf_kv *pd_gguf_get(const struct pd_gguf *g, const char *key); /* NULL = absent */
const struct pd_gguf_tensor *pd_gguf_tensor(const struct pd_gguf *g, const char *name);

/* Typed reads; absent or of another kind gives the fallback. Any integer width is taken, and the
 * first element of an array (per-layer values). */
int64_t pd_gguf_i64(const struct pd_gguf *g, const char *key, int64_t fallback);
double pd_gguf_f64(const struct pd_gguf *g, const char *key, double fallback);
bool pd_gguf_bool(const struct pd_gguf *g, const char *key, bool fallback);
struct pd_str pd_gguf_str(const struct pd_gguf *g, const char *key); /* ptr NULL = absent */
PD_CHECKED enum pd_rc pd_gguf_need_i64(const struct pd_gguf *g, const char *key, int64_t *out,
                                       struct pd_err *err);

/* Walk an array of strings: *cursor starts at kv->at. */
struct pd_str pd_gguf_next_str(const unsigned char **cursor);
/* Element i of an integer array. */
int64_t pd_gguf_elem_i64(const struct pd_gguf_kv *kv, uint64_t i);

#endif
