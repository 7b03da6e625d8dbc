#include "lm/gguf.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdlib.h>

/* A vocabulary of millions is plausible, a billion is a lie. */
enum { MAX_DEPTH = 4, MAX_KVS = 1 << 16, MAX_TENSORS = 1 << 20, MAX_NAME = 256 };

static const unsigned char type_bytes[PD_GGUF_N_TYPES] = {
    [PD_GGUF_U8] = 1,  [PD_GGUF_I8] = 1,  [PD_GGUF_U16] = 2, [PD_GGUF_I16] = 2,
    [PD_GGUF_U32] = 4, [PD_GGUF_I32] = 4, [PD_GGUF_F32] = 4, [PD_GGUF_BOOL] = 1,
    [PD_GGUF_U64] = 8, [PD_GGUF_I64] = 8, [PD_GGUF_F64] = 8,
};

/* A cursor that cannot leave the file. */
struct reader {
    const unsigned char *base;
    size_t at, len;
    const char *path;
    struct pd_err *err;
};

#define BAD(r, ...) bad_at((r), __VA_ARGS__)

static enum pd_rc bad_at(const struct reader *r, const char *fmt, ...) PD_PRINTF(2, 3);
static enum pd_rc bad_at(const struct reader *r, const char *fmt, ...)
{
    char what[300];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return PD_FAIL(r->err, PD_PARSE, "%s: at byte %zu: %s", r->path, r->at, what);
}

static enum pd_rc take(struct reader *r, size_t n, const unsigned char **p)
{
    if (n > r->len - r->at)
        return BAD(r, "the file ends %zu bytes short", n - (r->len - r->at));
    *p = r->base + r->at;
    r->at += n;
    return PD_OK;
}

static uint32_t load_u32(const unsigned char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint64_t load_u64(const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static enum pd_rc read_u32(struct reader *r, uint32_t *v)
{
    if (sizeof *v > r->len - r->at)
        return BAD(r, "the file ends inside a number");
    *v = load_u32(r->base + r->at);
    r->at += sizeof *v;
    return PD_OK;
}

static enum pd_rc read_u64(struct reader *r, uint64_t *v)
{
    if (sizeof *v > r->len - r->at)
        return BAD(r, "the file ends inside a number");
    *v = load_u64(r->base + r->at);
    r->at += sizeof *v;
    return PD_OK;
}

static enum pd_rc read_str(struct reader *r, struct pd_str *s)
{
    uint64_t n = 0;
    const unsigned char *p = NULL;
    enum pd_rc rc = read_u64(r, &n);
    if (rc != PD_OK)
        return rc;
    if (n > r->len - r->at)
        return BAD(r, "a string of %" PRIu64 " bytes does not fit in the file", n);
    rc = take(r, (size_t)n, &p);
    if (rc == PD_OK)
        *s = (struct pd_str){(const char *)p, (size_t)n};
    return rc;
}

static enum pd_rc read_type(struct reader *r, enum pd_gguf_type *type)
{
    uint32_t t = 0;
    enum pd_rc rc = read_u32(r, &t);
    if (rc != PD_OK)
        return rc;
    if (t >= PD_GGUF_N_TYPES)
        return BAD(r, "value type %" PRIu32 " does not exist", t);
    *type = (enum pd_gguf_type)t;
    return PD_OK;
}

/* Walks over n values of a type. Every one takes at least a byte, so a lying n ends at the file's
 * end. */
static enum pd_rc skip_values(struct reader *r, enum pd_gguf_type type, uint64_t n, int depth)
{
    enum pd_rc rc = PD_OK;
    const unsigned char *p = NULL;
    struct pd_str s;
    if (type != PD_GGUF_STR && type != PD_GGUF_ARR) {
        if (n > (r->len - r->at) / type_bytes[type])
            return BAD(r, "an array of %" PRIu64 " values does not fit in the file", n);
        return take(r, (size_t)n * type_bytes[type], &p);
    }
    if (n > (r->len - r->at) / sizeof(uint64_t))
        return BAD(r, "an array of %" PRIu64 " values does not fit in the file", n);
    if (type == PD_GGUF_ARR && depth >= MAX_DEPTH)
        return BAD(r, "arrays nest deeper than %d", MAX_DEPTH);
    for (uint64_t i = 0; i < n; i++) {
        if (type == PD_GGUF_STR) {
            PD_TRY(read_str(r, &s));
            continue;
        }
        enum pd_gguf_type elem = PD_GGUF_U8;
        uint64_t count = 0;
        PD_TRY(read_type(r, &elem));
        PD_TRY(read_u64(r, &count));
        PD_TRY(skip_values(r, elem, count, depth + 1));
    }
out:
    return rc;
}

static enum pd_rc read_kv(struct reader *r, struct pd_gguf_kv *kv)
{
    enum pd_rc rc = PD_OK;
    PD_TRY(read_str(r, &kv->key));
    if (kv->key.len == 0 || kv->key.len > 65535)
        return BAD(r, "a key of %zu bytes", kv->key.len);
    PD_TRY(read_type(r, &kv->type));
    kv->elem = kv->type;
    kv->n = 1;
    if (kv->type == PD_GGUF_ARR) {
        PD_TRY(read_type(r, &kv->elem));
        PD_TRY(read_u64(r, &kv->n));
    }
    kv->at = r->base + r->at;
    PD_TRY(skip_values(r, kv->elem, kv->n, kv->type == PD_GGUF_ARR ? 1 : 0));
out:
    return rc;
}

/* Number of elements and bytes of a tensor, each step held against overflow. */
static enum pd_rc tensor_size(struct reader *r, struct pd_gguf_tensor *t, uint32_t type_id)
{
    if (!pd_dtype_from_ggml(type_id, &t->dtype))
        return PD_FAIL(r->err, PD_UNSUPPORTED,
                       "%s: tensor %.*s has GGML type %" PRIu32
                       ", which is not read (convert the file with llama-quantize, e.g. to Q8_0)",
                       r->path, PD_STR_ARG(t->name), type_id);
    const struct pd_dtype_info *info = pd_dtype_info(t->dtype);
    size_t n = 1, block = (size_t)info->block;
    for (int d = 0; d < t->ndim; d++)
        if (__builtin_mul_overflow(n, (size_t)t->shape[d], &n) || n > (size_t)1 << 46)
            return BAD(r, "tensor %.*s: its dimensions multiply past 2^46", PD_STR_ARG(t->name));
    size_t inner = t->ndim > 0 ? (size_t)t->shape[t->ndim - 1] : 1;
    if (inner % block != 0)
        return BAD(r, "tensor %.*s: rows of %zu values, but %s comes in blocks of %zu",
                   PD_STR_ARG(t->name), inner, info->name, block);
    t->bytes = n / block * (size_t)info->bytes;
    return PD_OK;
}

static enum pd_rc read_tensor(struct reader *r, struct pd_gguf_tensor *t, uint64_t *offset)
{
    enum pd_rc rc = PD_OK;
    uint32_t ndim = 0, type_id = 0;
    uint64_t dims[4] = {0};
    PD_TRY(read_str(r, &t->name));
    if (t->name.len == 0 || t->name.len > MAX_NAME)
        return BAD(r, "a tensor name of %zu bytes", t->name.len);
    PD_TRY(read_u32(r, &ndim));
    if (ndim > 4)
        return BAD(r, "tensor %.*s has %" PRIu32 " dimensions, at most 4 exist",
                   PD_STR_ARG(t->name), ndim);
    for (uint32_t d = 0; d < ndim; d++) {
        PD_TRY(read_u64(r, &dims[d]));
        if (dims[d] > (uint64_t)1 << 46)
            return BAD(r, "tensor %.*s: dimension %" PRIu64, PD_STR_ARG(t->name), dims[d]);
    }
    t->ndim = (int)ndim;
    for (uint32_t d = 0; d < ndim; d++)
        t->shape[d] = (int64_t)dims[ndim - 1 - d];
    PD_TRY(read_u32(r, &type_id));
    PD_TRY(read_u64(r, offset));
    PD_TRY(tensor_size(r, t, type_id));
out:
    return rc;
}

static enum pd_rc place_tensors(struct reader *r, struct pd_gguf *g, const uint64_t *offsets,
                                uint64_t alignment)
{
    /* alignment <= 2^20, so the sum cannot overflow. */
    uint64_t start = ((uint64_t)r->at + alignment - 1) / alignment * alignment;
    if (g->n_tensors > 0 && start > r->len)
        return BAD(r, "the file ends before its tensor data");
    uint64_t room = start <= r->len ? r->len - start : 0;
    for (size_t i = 0; i < g->n_tensors; i++) {
        struct pd_gguf_tensor *t = &g->tensors[i];
        if (offsets[i] % alignment != 0)
            return BAD(r, "tensor %.*s: offset %" PRIu64 " is not a multiple of %" PRIu64,
                       PD_STR_ARG(t->name), offsets[i], alignment);
        if (offsets[i] > room || t->bytes > room - offsets[i])
            return BAD(r,
                       "tensor %.*s: %zu bytes at offset %" PRIu64 " lie outside the file (%" PRIu64
                       " bytes of data): it is truncated",
                       PD_STR_ARG(t->name), t->bytes, offsets[i], room);
        t->data = r->base + start + offsets[i];
    }
    return PD_OK;
}

static enum pd_rc read_header(struct reader *r, struct pd_gguf *g)
{
    enum pd_rc rc = PD_OK;
    uint64_t n_tensors = 0, n_kvs = 0;
    if (r->len < 4 || memcmp(r->base, "GGUF", 4) != 0)
        return PD_FAIL(
            r->err, PD_PARSE,
            "%s: not a GGUF file (a model is a Hugging Face folder, a .gguf file or a run "
            "folder)",
            r->path);
    r->at = 4;
    PD_TRY(read_u32(r, &g->version));
    if (g->version != 2 && g->version != 3)
        return PD_FAIL(r->err, PD_UNSUPPORTED, "%s: GGUF version %" PRIu32 "; 2 and 3 are read%s",
                       r->path, g->version, g->version >> 16 ? " (a big-endian file is not)" : "");
    PD_TRY(read_u64(r, &n_tensors));
    PD_TRY(read_u64(r, &n_kvs));
    /* A kv takes at least 13 bytes, an info 24: lies are found before memory is taken. */
    if (n_kvs > MAX_KVS || n_kvs > (r->len - r->at) / 13)
        return BAD(r, "%" PRIu64 " keys do not fit in the file", n_kvs);
    if (n_tensors > MAX_TENSORS || n_tensors > (r->len - r->at) / 24)
        return BAD(r, "%" PRIu64 " tensors do not fit in the file", n_tensors);
    g->kvs = pd_try_alloc((size_t)n_kvs + 1, sizeof *g->kvs);
    g->tensors = pd_try_alloc((size_t)n_tensors + 1, sizeof *g->tensors);
    if (!g->kvs || !g->tensors)
        return PD_FAIL(r->err, PD_NOMEM, "%s: no memory for its header", r->path);
    g->n_kvs = (size_t)n_kvs;
    g->n_tensors = (size_t)n_tensors;
out:
    return rc;
}

static enum pd_rc read_all(struct reader *r, struct pd_gguf *g)
{
    enum pd_rc rc = PD_OK;
    uint64_t *offsets = NULL;
    PD_TRY(read_header(r, g));
    for (size_t i = 0; i < g->n_kvs; i++) {
        PD_TRY(read_kv(r, &g->kvs[i]));
        if (!pd_map_put(&g->kv_index, g->kvs[i].key, (int64_t)i)) {
            rc = BAD(r, "key %.*s stands twice", PD_STR_ARG(g->kvs[i].key));
            goto out;
        }
    }
    offsets = pd_try_alloc(g->n_tensors + 1, sizeof *offsets);
    if (!offsets) {
        rc = PD_FAIL(r->err, PD_NOMEM, "%s: no memory for its header", r->path);
        goto out;
    }
    for (size_t i = 0; i < g->n_tensors; i++) {
        PD_TRY(read_tensor(r, &g->tensors[i], &offsets[i]));
        if (!pd_map_put(&g->tensor_index, g->tensors[i].name, (int64_t)i)) {
            rc = BAD(r, "tensor %.*s stands twice", PD_STR_ARG(g->tensors[i].name));
            goto out;
        }
    }
    int64_t alignment = pd_gguf_i64(g, "general.alignment", 32);
    if (alignment < 8 || alignment > 1 << 20 || alignment % 8 != 0) {
        rc = BAD(r, "general.alignment is %" PRId64 ", not a multiple of 8 up to 2^20", alignment);
        goto out;
    }
    PD_TRY(place_tensors(r, g, offsets, (uint64_t)alignment));
out:
    pd_free(offsets);
    return rc;
}

enum pd_rc pd_gguf_open_bytes(struct pd_gguf **out, const void *bytes, size_t n, const char *name,
                              struct pd_err *err)
{
    struct pd_gguf *g = pd_xalloc(sizeof *g);
    struct reader r = {.base = bytes, .len = n, .path = name, .err = err};
    pd_map_init(&g->kv_index);
    pd_map_init(&g->tensor_index);
    g->path = pd_xstrdup(name);
    enum pd_rc rc = read_all(&r, g);
    if (rc != PD_OK) {
        pd_gguf_close(g);
        return rc;
    }
    *out = g;
    return PD_OK;
}

enum pd_rc pd_gguf_open(struct pd_gguf **out, const char *path, struct pd_err *err)
{
    struct pd_map_file map = {0};
    enum pd_rc rc = pd_map_file_open(&map, path, err);
    if (rc != PD_OK)
        return rc;
    rc = pd_gguf_open_bytes(out, map.ptr, map.len, path, err);
    if (rc != PD_OK)
        pd_map_file_close(&map);
    else
        (*out)->map = map;
    return rc;
}

void pd_gguf_close(struct pd_gguf *g)
{
    if (!g)
        return;
    pd_map_release(&g->kv_index);
    pd_map_release(&g->tensor_index);
    pd_free(g->kvs);
    pd_free(g->tensors);
    if (g->map.ptr)
        pd_map_file_close(&g->map);
    pd_free(g->path);
    pd_free(g);
}

const struct pd_gguf_kv *pd_gguf_get(const struct pd_gguf *g, const char *key)
{
    int64_t i;
    return pd_map_get(&g->kv_index, pd_str_from(key), &i) ? &g->kvs[i] : NULL;
}

const struct pd_gguf_tensor *pd_gguf_tensor(const struct pd_gguf *g, const char *name)
{
    int64_t i;
    return pd_map_get(&g->tensor_index, pd_str_from(name), &i) ? &g->tensors[i] : NULL;
}

int64_t pd_gguf_elem_i64(const struct pd_gguf_kv *kv, uint64_t i)
{
    const unsigned char *p = kv->at + i * type_bytes[kv->elem];
    switch (kv->elem) {
    case PD_GGUF_U8:
    case PD_GGUF_BOOL:
        return p[0];
    case PD_GGUF_I8:
        return (int8_t)p[0];
    case PD_GGUF_U16:
        return (int64_t)(p[0] | p[1] << 8);
    case PD_GGUF_I16:
        return (int16_t)(p[0] | p[1] << 8);
    case PD_GGUF_U32:
        return load_u32(p);
    case PD_GGUF_I32:
        return (int32_t)load_u32(p);
    case PD_GGUF_U64:
    case PD_GGUF_I64:
        return (int64_t)load_u64(p);
    default:
        return 0;
    }
}

static bool is_integer(enum pd_gguf_type t)
{
    return t != PD_GGUF_F32 && t != PD_GGUF_F64 && t != PD_GGUF_STR && t != PD_GGUF_ARR;
}

int64_t pd_gguf_i64(const struct pd_gguf *g, const char *key, int64_t fallback)
{
    const struct pd_gguf_kv *kv = pd_gguf_get(g, key);
    return kv && kv->n > 0 && is_integer(kv->elem) ? pd_gguf_elem_i64(kv, 0) : fallback;
}

/* The shortest decimal that is this float: a file's 1e-5 is 1e-5, not 9.99999975e-06. */
static double widen(float f)
{
    char text[32];
    for (int digits = 6; digits <= 9; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, (double)f);
        if (strtof(text, NULL) == f)
            return strtod(text, NULL);
    }
    return (double)f;
}

double pd_gguf_f64(const struct pd_gguf *g, const char *key, double fallback)
{
    const struct pd_gguf_kv *kv = pd_gguf_get(g, key);
    if (!kv || kv->n == 0)
        return fallback;
    if (kv->elem == PD_GGUF_F32) {
        float f;
        memcpy(&f, kv->at, sizeof f);
        return widen(f);
    }
    if (kv->elem == PD_GGUF_F64) {
        double d;
        memcpy(&d, kv->at, sizeof d);
        return d;
    }
    return is_integer(kv->elem) ? (double)pd_gguf_elem_i64(kv, 0) : fallback;
}

bool pd_gguf_bool(const struct pd_gguf *g, const char *key, bool fallback)
{
    return pd_gguf_i64(g, key, fallback) != 0;
}

struct pd_str pd_gguf_str(const struct pd_gguf *g, const char *key)
{
    const struct pd_gguf_kv *kv = pd_gguf_get(g, key);
    if (!kv || kv->type != PD_GGUF_STR)
        return (struct pd_str){NULL, 0};
    const unsigned char *p = kv->at;
    return pd_gguf_next_str(&p);
}

enum pd_rc pd_gguf_need_i64(const struct pd_gguf *g, const char *key, int64_t *out,
                            struct pd_err *err)
{
    const struct pd_gguf_kv *kv = pd_gguf_get(g, key);
    if (!kv)
        return PD_FAIL(err, PD_INVALID, "%s: key %s is missing", g->path, key);
    if (kv->n == 0 || !is_integer(kv->elem))
        return PD_FAIL(err, PD_INVALID, "%s: key %s is not an integer", g->path, key);
    *out = pd_gguf_elem_i64(kv, 0);
    return PD_OK;
}

struct pd_str pd_gguf_next_str(const unsigned char **cursor)
{
    uint64_t n = load_u64(*cursor);
    struct pd_str s = {(const char *)*cursor + 8, (size_t)n};
    *cursor += 8 + n;
    return s;
}
