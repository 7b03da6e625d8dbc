#include "lm/safetensors.h"

#include "base/json.h"
#include "base/mem.h"
#include "base/sig.h"
#include "lm/shards.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

enum { MAX_HEADER = 100000000 };

static const struct {
    const char *name;
    size_t bytes;
} other_dtypes[] = {
    {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"I16", 2},
    {"U16", 2},  {"I32", 4}, {"U32", 4}, {"I64", 8},     {"U64", 8},     {"F64", 8},
};

static enum pd_rc set_dtype(struct pd_st_tensor *t, struct pd_str name, size_t *size,
                            const char *path, struct pd_err *err)
{
    if (name.len > 0 && name.len < sizeof t->dtype_name) {
        memcpy(t->dtype_name, name.ptr, name.len);
        t->known_dtype = pd_dtype_from_safetensors(t->dtype_name, &t->dtype);
        if (t->known_dtype) {
            *size = (size_t)pd_dtype_info(t->dtype)->bytes;
            return PD_OK;
        }
        for (size_t i = 0; i < sizeof other_dtypes / sizeof *other_dtypes; i++)
            if (strcmp(t->dtype_name, other_dtypes[i].name) == 0) {
                *size = other_dtypes[i].bytes;
                return PD_OK;
            }
    }
    return PD_FAIL(err, PD_UNSUPPORTED, "%s: tensor %.*s has dtype \"%.*s\", which is not known",
                   path, PD_STR_ARG(t->name), PD_STR_ARG(name));
}

static bool read_size(struct json_object *v, int64_t *out)
{
    if (!json_object_is_type(v, json_type_int))
        return false;
    *out = json_object_get_int64(v);
    return *out >= 0;
}

/* One header entry, held against the room for data; begin and end come back for the hole check. */
static enum pd_rc read_entry(struct pd_st_tensor *t, struct json_object *o, const char *path,
                             size_t room, size_t *begin, struct pd_err *err)
{
    size_t size = 0, n = 1;
    int64_t at[2] = {0};
    struct json_object *shape = pd_json_get(o, "shape"), *offsets = pd_json_get(o, "data_offsets");
    if (!json_object_is_type(o, json_type_object) || !json_object_is_type(shape, json_type_array) ||
        !json_object_is_type(offsets, json_type_array) || json_object_array_length(offsets) != 2)
        return PD_FAIL(err, PD_PARSE, "%s: tensor %.*s lacks dtype, shape or data_offsets", path,
                       PD_STR_ARG(t->name));
    enum pd_rc rc = set_dtype(t, pd_json_str(o, "dtype"), &size, path, err);
    if (rc != PD_OK)
        return rc;
    size_t ndim = json_object_array_length(shape);
    if (ndim > sizeof t->shape / sizeof *t->shape)
        return PD_FAIL(err, PD_PARSE, "%s: tensor %.*s has %zu dimensions, more than 8", path,
                       PD_STR_ARG(t->name), ndim);
    t->ndim = (int)ndim;
    for (size_t d = 0; d < ndim; d++)
        if (!read_size(json_object_array_get_idx(shape, d), &t->shape[d]) ||
            __builtin_mul_overflow(n, (size_t)t->shape[d], &n))
            return PD_FAIL(err, PD_PARSE, "%s: tensor %.*s: dimension %zu is not a size", path,
                           PD_STR_ARG(t->name), d);
    for (size_t i = 0; i < 2; i++)
        if (!read_size(json_object_array_get_idx(offsets, i), &at[i]))
            return PD_FAIL(err, PD_PARSE, "%s: tensor %.*s: data_offsets are not sizes", path,
                           PD_STR_ARG(t->name));
    if (at[0] > at[1] || (uint64_t)at[1] > room)
        return PD_FAIL(err, PD_PARSE,
                       "%s: tensor %.*s: bytes %" PRId64 "..%" PRId64
                       " lie outside the file's %zu bytes of data",
                       path, PD_STR_ARG(t->name), at[0], at[1], room);
    if (__builtin_mul_overflow(n, size, &t->bytes) || t->bytes != (size_t)(at[1] - at[0]))
        return PD_FAIL(err, PD_PARSE,
                       "%s: tensor %.*s: its shape and dtype do not take %" PRId64 " bytes", path,
                       PD_STR_ARG(t->name), at[1] - at[0]);
    *begin = (size_t)at[0];
    return PD_OK;
}

struct extent {
    size_t begin, bytes;
};

static int by_begin(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* empty ones first */
}

/* Contiguous, no holes, no overlap, to the end of the file. */
static enum pd_rc check_extents(struct extent *e, size_t n, size_t room, const char *path,
                                struct pd_err *err)
{
    size_t at = 0;
    qsort(e, n, sizeof *e, by_begin);
    for (size_t i = 0; i < n; i++) {
        if (e[i].begin != at)
            return PD_FAIL(err, PD_PARSE, "%s: the data has %s at byte %zu", path,
                           e[i].begin < at ? "an overlap" : "a hole",
                           e[i].begin < at ? e[i].begin : at);
        at += e[i].bytes;
    }
    if (at != room)
        return PD_FAIL(err, PD_PARSE, "%s: %zu bytes of data, but its tensors take %zu", path, room,
                       at);
    return PD_OK;
}

static enum pd_rc parse_header(const unsigned char *p, size_t len, const char *path,
                               struct json_object **out, size_t *header, struct pd_err *err)
{
    uint64_t n = 0;
    if (len < sizeof n)
        return PD_FAIL(err, PD_PARSE, "%s: %zu bytes are too few for a safetensors file", path,
                       len);
    memcpy(&n, p, sizeof n);
    if (n > MAX_HEADER || n > len - sizeof n)
        return PD_FAIL(err, PD_PARSE,
                       "%s: its header claims %" PRIu64 " bytes: truncated, or not safetensors",
                       path, n);
    if (n == 0 || p[sizeof n] != '{')
        return PD_FAIL(err, PD_PARSE, "%s: its header is not a JSON object", path);
    enum pd_rc rc = pd_json_parse((struct pd_str){(const char *)p + sizeof n, (size_t)n}, out, err);
    if (rc != PD_OK)
        return pd_err_prefix(err, "%s: header", path);
    *header = sizeof n + (size_t)n;
    return PD_OK;
}

/* Adds one file's tensors; `file` is its index. */
static enum pd_rc add_file(struct pd_st *s, size_t file, const unsigned char *p, size_t len,
                           struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const char *path = s->files[file].path;
    struct json_object *header = NULL;
    struct extent *extents = NULL;
    size_t data = 0, n = 0;
    PD_TRY(parse_header(p, len, path, &header, &data, err));
    s->files[file].header = header;
    if (!json_object_is_type(header, json_type_object))
        return PD_FAIL(err, PD_PARSE, "%s: its header is not a JSON object", path);
    size_t count = (size_t)json_object_object_length(header);
    extents = pd_try_alloc(count + 1, sizeof *extents);
    struct pd_st_tensor *grown =
        pd_try_realloc(s->tensors, s->n_tensors + count + 1, sizeof *s->tensors);
    if (grown)
        s->tensors = grown;
    if (!extents || !grown) {
        rc = PD_FAIL(err, PD_NOMEM, "%s: no memory for its header", path);
        goto out;
    }
    json_object_object_foreach(header, key, value)
    {
        if (strcmp(key, "__metadata__") == 0)
            continue;
        struct pd_st_tensor *t = &s->tensors[s->n_tensors];
        memset(t, 0, sizeof *t);
        t->name = pd_str_from(key);
        t->file = (int)file;
        PD_TRY(read_entry(t, value, path, len - data, &extents[n].begin, err));
        extents[n].bytes = t->bytes;
        t->data = p + data + extents[n].begin;
        if (!pd_map_put(&s->index, t->name, (int64_t)s->n_tensors)) {
            rc = PD_FAIL(err, PD_INVALID, "%s: tensor %s stands in another shard too", path, key);
            goto out;
        }
        s->n_tensors++;
        n++;
    }
    PD_TRY(check_extents(extents, n, len - data, path, err));
out:
    pd_free(extents);
    return rc;
}

static struct pd_st *set_new(size_t n_files)
{
    struct pd_st *s = pd_xalloc(sizeof *s);
    pd_map_init(&s->index);
    s->files = pd_xalloc(n_files * sizeof *s->files);
    return s;
}

/* Takes path. */
static enum pd_rc add_path(struct pd_st *s, char *path, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    size_t file = s->n_files++;
    s->files[file].path = path;
    PD_TRY(pd_map_file_open(&s->files[file].map, path, err));
    PD_TRY(add_file(s, file, s->files[file].map.ptr, s->files[file].map.len, err));
out:
    return rc;
}

enum pd_rc pd_st_open(struct pd_st **out, const char *path, struct pd_err *err)
{
    struct pd_st *s = set_new(1);
    enum pd_rc rc = add_path(s, pd_xstrdup(path), err);
    if (rc != PD_OK)
        pd_st_close(s);
    else
        *out = s;
    return rc;
}

enum pd_rc pd_st_open_bytes(struct pd_st **out, const void *bytes, size_t n, const char *name,
                            struct pd_err *err)
{
    struct pd_st *s = set_new(1);
    s->files[s->n_files++].path = pd_xstrdup(name);
    enum pd_rc rc = add_file(s, 0, bytes, n, err);
    if (rc != PD_OK)
        pd_st_close(s);
    else
        *out = s;
    return rc;
}

static enum pd_rc open_shards(struct pd_st **out, const char *dir, const char *index_path,
                              struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_shards shards;
    struct pd_st *s = NULL;
    PD_TRY(pd_shards_read(&shards, index_path, err));
    s = set_new(shards.files.len + 1);
    for (size_t i = 0; i < shards.files.len; i++)
        PD_TRY(add_path(s, pd_xasprintf("%s/%s", dir, shards.files.entries[i].key), err));
    PD_TRY(pd_shards_check(&shards, &s->index, err));
    *out = s;
    s = NULL;
out:
    pd_st_close(s);
    pd_shards_release(&shards);
    return rc;
}

enum pd_rc pd_st_open_dir(struct pd_st **out, const char *dir, struct pd_err *err)
{
    char *single = pd_xasprintf("%s/model.safetensors", dir);
    char *index = pd_xasprintf("%s/model.safetensors.index.json", dir);
    enum pd_rc rc;
    if (pd_fs_exists(single))
        rc = pd_st_open(out, single, err);
    else if (pd_fs_exists(index))
        rc = open_shards(out, dir, index, err);
    else
        rc =
            PD_FAIL(err, PD_NOTFOUND,
                    "%s: neither model.safetensors nor model.safetensors.index.json is there", dir);
    pd_free(single);
    pd_free(index);
    return rc;
}

void pd_st_close(struct pd_st *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->n_files; i++) {
        if (s->files[i].map.ptr)
            pd_map_file_close(&s->files[i].map);
        json_object_put(s->files[i].header);
        pd_free(s->files[i].path);
    }
    pd_map_release(&s->index);
    pd_free(s->tensors);
    pd_free(s->files);
    pd_free(s);
}

const struct pd_st_tensor *pd_st_find(const struct pd_st *s, const char *name)
{
    int64_t i;
    return pd_map_get(&s->index, pd_str_from(name), &i) ? &s->tensors[i] : NULL;
}

const char *pd_st_path(const struct pd_st *s, const struct pd_st_tensor *t)
{
    return s->files[t->file].path;
}

/* ---- writing ---- */

static size_t count_of(const struct pd_st_out *t)
{
    size_t n = 1;
    for (int d = 0; d < t->ndim; d++)
        n *= (size_t)t->shape[d];
    return n;
}

static void header_of(struct pd_buf *b, const struct pd_st_out *tensors, size_t n,
                      const struct pd_dtype_info *info)
{
    struct pd_jw w;
    size_t at = 0;
    pd_jw_init(&w, b);
    pd_jw_object(&w);
    pd_jw_key(&w, "__metadata__");
    pd_jw_object(&w);
    pd_jw_kstrz(&w, "format", "pt");
    pd_jw_object_end(&w);
    for (size_t i = 0; i < n; i++) {
        size_t bytes = count_of(&tensors[i]) * (size_t)info->bytes;
        pd_jw_key(&w, tensors[i].name);
        pd_jw_object(&w);
        pd_jw_kstrz(&w, "dtype", info->safetensors);
        pd_jw_key(&w, "shape");
        pd_jw_array(&w);
        for (int d = 0; d < tensors[i].ndim; d++)
            pd_jw_i64(&w, tensors[i].shape[d]);
        pd_jw_array_end(&w);
        pd_jw_key(&w, "data_offsets");
        pd_jw_array(&w);
        pd_jw_i64(&w, (int64_t)at);
        pd_jw_i64(&w, (int64_t)(at + bytes));
        pd_jw_array_end(&w);
        pd_jw_object_end(&w);
        at += bytes;
    }
    pd_jw_object_end(&w);
    while (b->len % 8 != 0)
        pd_buf_addc(b, ' ');
}

static enum pd_rc write_tensor(struct pd_out *o, const struct pd_st_out *t, enum pd_dtype dtype,
                               bool stops, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    size_t rows = t->ndim > 0 ? (size_t)t->shape[0] : 1;
    size_t row = rows > 0 ? count_of(t) / rows : 0;
    size_t chunk = row > 0 ? ((size_t)1 << 18) / row + 1 : 1; /* about 1 MB at a time */
    float *f32 = pd_try_alloc(chunk * row + 1, sizeof *f32);
    uint16_t *half = pd_try_alloc(chunk * row + 1, sizeof *half);
    if (!f32 || !half) {
        rc = PD_FAIL(err, PD_NOMEM, "no memory to write tensor %s", t->name);
        goto out;
    }
    for (size_t first = 0; first < rows && row > 0; first += chunk) {
        size_t n = rows - first < chunk ? rows - first : chunk;
        struct pd_str bytes = {(const char *)f32, n * row * sizeof *f32};
        if (stops && pd_sig_stop()) {
            rc = PD_FAIL(err, PD_INTERRUPTED, "interrupted; nothing is written");
            goto out;
        }
        t->fill(t->ctx, (int64_t)first, (int64_t)n, f32);
        if (dtype != PD_DTYPE_F32) {
            (dtype == PD_DTYPE_BF16 ? pd_f32_to_bf16 : pd_f32_to_f16)(f32, half, n * row);
            bytes = (struct pd_str){(const char *)half, n * row * sizeof *half};
        }
        PD_TRY(pd_out_write(o, bytes, err));
    }
out:
    pd_free(f32);
    pd_free(half);
    return rc;
}

static enum pd_rc write_file(const char *path, const struct pd_st_out *tensors, size_t n,
                             enum pd_dtype dtype, bool stops, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_out o = {0};
    struct pd_buf header;
    pd_buf_init(&header, MAX_HEADER);
    PD_ASSERT(dtype == PD_DTYPE_F32 || dtype == PD_DTYPE_F16 || dtype == PD_DTYPE_BF16);
    header_of(&header, tensors, n, pd_dtype_info(dtype));
    if (header.failed) {
        rc = PD_FAIL(err, PD_TOOBIG, "%s: its header would pass %d bytes", path, MAX_HEADER);
        goto out;
    }
    uint64_t len = header.len;
    PD_TRY(pd_out_open(&o, path, err));
    PD_TRY(pd_out_write(&o, (struct pd_str){(const char *)&len, sizeof len}, err));
    PD_TRY(pd_out_write(&o, pd_buf_str(&header), err));
    for (size_t i = 0; i < n; i++)
        PD_TRY(write_tensor(&o, &tensors[i], dtype, stops, err));
    PD_TRY(pd_out_commit(&o, err));
out:
    if (rc != PD_OK)
        pd_out_abandon(&o);
    pd_buf_release(&header);
    return rc;
}

enum pd_rc pd_st_write(const char *path, const struct pd_st_out *tensors, size_t n,
                       enum pd_dtype dtype, struct pd_err *err)
{
    return write_file(path, tensors, n, dtype, false, err);
}

/* First tensor of each shard, and one past the last; returns the number of shards. */
static size_t cut_shards(const struct pd_st_out *tensors, size_t n, size_t value_bytes, size_t max,
                         size_t *first, size_t *total)
{
    size_t shards = 0, used = 0;
    for (size_t i = 0; i < n; i++) {
        size_t bytes = count_of(&tensors[i]) * value_bytes;
        if (shards == 0 || used + bytes > max) {
            first[shards++] = i;
            used = 0;
        }
        used += bytes;
        *total += bytes;
    }
    first[shards] = n;
    return shards;
}

static enum pd_rc write_index(const char *dir, const struct pd_st_out *tensors, const size_t *first,
                              size_t shards, size_t total, struct pd_err *err)
{
    struct pd_buf b;
    struct pd_jw w;
    pd_buf_init(&b, MAX_HEADER);
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    pd_jw_key(&w, "metadata");
    pd_jw_object(&w);
    pd_jw_ki64(&w, "total_size", (int64_t)total);
    pd_jw_object_end(&w);
    pd_jw_key(&w, "weight_map");
    pd_jw_object(&w);
    for (size_t k = 0; k < shards; k++)
        for (size_t i = first[k]; i < first[k + 1]; i++) {
            char file[64];
            (void)snprintf(file, sizeof file, "model-%05zu-of-%05zu.safetensors", k + 1, shards);
            pd_jw_kstrz(&w, tensors[i].name, file);
        }
    pd_jw_object_end(&w);
    pd_jw_object_end(&w);
    char *path = pd_xasprintf("%s/model.safetensors.index.json", dir);
    enum pd_rc rc = b.failed ? PD_FAIL(err, PD_TOOBIG, "%s: too large", path)
                             : pd_fs_write_atomic(path, pd_buf_str(&b), 0644, err);
    pd_free(path);
    pd_buf_release(&b);
    return rc;
}

enum pd_rc pd_st_write_dir(const char *dir, const struct pd_st_out *tensors, size_t n,
                           enum pd_dtype dtype, size_t max_shard_bytes, bool stops,
                           struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    size_t total = 0, *first = pd_xalloc((n + 1) * sizeof *first);
    size_t shards =
        cut_shards(tensors, n, (size_t)pd_dtype_info(dtype)->bytes, max_shard_bytes, first, &total);
    char *path = NULL, *other = NULL;
    if (shards <= 1) {
        path = pd_xasprintf("%s/model.safetensors", dir);
        other = pd_xasprintf("%s/model.safetensors.index.json", dir);
        PD_TRY(write_file(path, tensors, n, dtype, stops, err));
        (void)unlink(other);
        goto out;
    }
    for (size_t k = 0; k < shards; k++) {
        pd_free(path);
        path = pd_xasprintf("%s/model-%05zu-of-%05zu.safetensors", dir, k + 1, shards);
        PD_TRY(write_file(path, tensors + first[k], first[k + 1] - first[k], dtype, stops, err));
    }
    PD_TRY(write_index(dir, tensors, first, shards, total, err));
    other = pd_xasprintf("%s/model.safetensors", dir);
    (void)unlink(other); /* an older single file would be read first */
out:
    pd_free(other);
    pd_free(path);
    pd_free(first);
    return rc;
}
