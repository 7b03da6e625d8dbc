#include "lm/torch_file.h"

#include "base/mem.h"
#include "lm/pickle.h"
#include "lm/shards.h"
#include "lm/zip.h"

#include <inttypes.h>

#define ORDERED_DICT "collections.OrderedDict"
#define TENSOR       "torch._utils._rebuild_tensor_v2"
#define PARAMETER    "torch._utils._rebuild_parameter"

static const struct {
    const char *global, *name;
    size_t bytes;
} storages[] = {
    {"torch.FloatStorage", "F32", 4},     {"torch.HalfStorage", "F16", 2},
    {"torch.BFloat16Storage", "BF16", 2}, {"torch.DoubleStorage", "F64", 8},
    {"torch.LongStorage", "I64", 8},      {"torch.IntStorage", "I32", 4},
    {"torch.ShortStorage", "I16", 2},     {"torch.CharStorage", "I8", 1},
    {"torch.ByteStorage", "U8", 1},       {"torch.BoolStorage", "BOOL", 1},
};
enum { N_STORAGES = sizeof storages / sizeof *storages };
#define MAX_VALUES ((int64_t)1 << 46)

static const char *const globals[] = {
    ORDERED_DICT,
    TENSOR,
    PARAMETER,
    "torch.FloatStorage",
    "torch.HalfStorage",
    "torch.BFloat16Storage",
    "torch.DoubleStorage",
    "torch.LongStorage",
    "torch.IntStorage",
    "torch.ShortStorage",
    "torch.CharStorage",
    "torch.ByteStorage",
    "torch.BoolStorage",
    NULL,
};

/* One file being read. */
struct reader {
    struct pd_zip zip;
    struct pd_str folder; /* "archive/", the folder of all members */
    const char *path;
    struct pd_err *err;
};

static enum pd_rc bad_tensor(const struct reader *r, struct pd_str name, const char *what)
{
    return PD_FAIL(r->err, PD_PARSE, "%s: tensor %.*s: %s", r->path,
                   name.len < 200 ? (int)name.len : 200, name.ptr, what);
}

static const struct pd_zip_member *find_member(const struct reader *r, const char *dir,
                                               struct pd_str name)
{
    char full[512];
    int n = snprintf(full, sizeof full, "%.*s%s%.*s", PD_STR_ARG(r->folder), dir, PD_STR_ARG(name));
    return n > 0 && (size_t)n < sizeof full ? pd_zip_find(&r->zip, (struct pd_str){full, (size_t)n})
                                            : NULL;
}

static bool is_tuple(const struct pd_pk *v, size_t at_least)
{
    return v->kind == PD_PK_TUPLE && v->n >= at_least;
}

/* ('storage', type, key, location, count) -> its bytes and what they are. */
static enum pd_rc read_storage(const struct reader *r, struct pd_str name, const struct pd_pk *v,
                               struct pd_torch_tensor *t, int64_t *count, size_t *value_bytes)
{
    const struct pd_pk *id = v->kind == PD_PK_PERSID ? v->items[0] : v;
    size_t s = 0;
    if (!is_tuple(id, 5) || id->items[0]->kind != PD_PK_STR ||
        !pd_str_eqz(id->items[0]->text, "storage") || id->items[1]->kind != PD_PK_GLOBAL ||
        id->items[2]->kind != PD_PK_STR || id->items[4]->kind != PD_PK_INT)
        return bad_tensor(r, name, "its storage is not described as torch does");
    while (s < N_STORAGES && !pd_str_eqz(id->items[1]->text, storages[s].global))
        s++;
    if (s == N_STORAGES)
        return bad_tensor(r, name, "its storage is of no known type");
    const struct pd_zip_member *m = find_member(r, "data/", id->items[2]->text);
    if (!m)
        return bad_tensor(r, name, "its storage is not in the file");
    *count = id->items[4]->i;
    *value_bytes = storages[s].bytes;
    if (*count < 0 || (uint64_t)*count > m->bytes / *value_bytes)
        return bad_tensor(r, name, "its storage has fewer bytes than its pickle says");
    t->dtype_name = storages[s].name;
    t->known_dtype = pd_dtype_from_safetensors(t->dtype_name, &t->dtype);
    t->data = m->data;
    return PD_OK;
}

/* The last value the view reaches must lie in the storage. */
static enum pd_rc check_view(const struct reader *r, const struct pd_torch_tensor *t,
                             int64_t offset, int64_t count)
{
    int64_t last = offset, reach = 0, values = 1;
    for (int d = 0; d < t->ndim; d++)
        if (t->shape[d] == 0)
            return PD_OK;
    for (int d = 0; d < t->ndim; d++) /* a stride of 0 reaches nowhere, whatever the shape */
        if (__builtin_mul_overflow(values, t->shape[d], &values) || values > MAX_VALUES)
            return bad_tensor(r, t->name, "its dimensions multiply past 2^46");
    for (int d = 0; d < t->ndim; d++)
        if (__builtin_mul_overflow(t->shape[d] - 1, t->stride[d], &reach) ||
            __builtin_add_overflow(last, reach, &last))
            return bad_tensor(r, t->name, "its shape overflows");
    return last < count ? PD_OK : bad_tensor(r, t->name, "it reaches past its storage");
}

static bool is_contiguous(const struct pd_torch_tensor *t)
{
    int64_t step = 1;
    for (int d = t->ndim - 1; d >= 0; d--) {
        if (t->shape[d] != 1 && t->stride[d] != step)
            return false;
        if (__builtin_mul_overflow(step, t->shape[d] > 0 ? t->shape[d] : 1, &step))
            return false;
    }
    return true;
}

/* _rebuild_tensor_v2(storage, offset, size, stride, ...) */
static enum pd_rc read_tensor(const struct reader *r, struct pd_torch_tensor *t,
                              const struct pd_pk *args)
{
    int64_t count = 0;
    size_t value_bytes = 0;
    if (!is_tuple(args, 4) || args->items[1]->kind != PD_PK_INT || !is_tuple(args->items[2], 0) ||
        !is_tuple(args->items[3], args->items[2]->n))
        return bad_tensor(r, t->name, "it is not described as torch does");
    const struct pd_pk *size = args->items[2], *stride = args->items[3];
    int64_t offset = args->items[1]->i;
    if (size->n > sizeof t->shape / sizeof *t->shape || offset < 0)
        return bad_tensor(r, t->name, "more than 8 dimensions, or a negative offset");
    t->ndim = (int)size->n;
    for (int d = 0; d < t->ndim; d++) {
        if (size->items[d]->kind != PD_PK_INT || stride->items[d]->kind != PD_PK_INT ||
            size->items[d]->i < 0 || stride->items[d]->i < 0)
            return bad_tensor(r, t->name, "its shape or strides are no sizes");
        t->shape[d] = size->items[d]->i;
        t->stride[d] = stride->items[d]->i;
    }
    enum pd_rc rc = read_storage(r, t->name, args->items[0], t, &count, &value_bytes);
    if (rc != PD_OK)
        return rc;
    if (offset > count)
        return bad_tensor(r, t->name, "it begins past its storage");
    t->contiguous = is_contiguous(t);
    t->data = (const char *)t->data + (size_t)offset * value_bytes;
    return check_view(r, t, offset, count);
}

/* The tensor call that a value of the dict is, through nn.Parameter, or NULL. */
static const struct pd_pk *tensor_call(const struct pd_pk *v)
{
    if (pd_pk_calls(v, PARAMETER) && is_tuple(v->items[1], 1))
        v = v->items[1]->items[0];
    return pd_pk_calls(v, TENSOR) ? v : NULL;
}

static enum pd_rc add_tensor(struct pd_torch *set, const struct reader *r, int file,
                             struct pd_str name, const struct pd_pk *call)
{
    struct pd_torch_tensor t = {.name = name, .file = file};
    enum pd_rc rc = read_tensor(r, &t, call->items[1]);
    if (rc != PD_OK)
        return rc;
    int64_t at;
    if (pd_map_get(&set->index, name, &at)) {
        if (set->tensors[at].file != file)
            return bad_tensor(r, name, "it stands in another shard too");
        set->tensors[at] = t; /* in a dict the last of a name counts */
        return PD_OK;
    }
    if (set->n_tensors == set->cap) {
        set->cap = set->cap ? set->cap * 2 : 64;
        set->tensors = pd_xrealloc(set->tensors, set->cap * sizeof *set->tensors);
    }
    pd_map_put(&set->index, name, (int64_t)set->n_tensors);
    set->tensors[set->n_tensors++] = t;
    return PD_OK;
}

static enum pd_rc add_tensors(struct pd_torch *set, const struct reader *r, int file,
                              const struct pd_pk *top)
{
    enum pd_rc rc = PD_OK;
    size_t first = top->kind == PD_PK_DICT ? 0 : pd_pk_calls(top, ORDERED_DICT) ? 2 : SIZE_MAX;
    size_t before = set->n_tensors;
    if (first == SIZE_MAX)
        return PD_FAIL(r->err, PD_UNSUPPORTED, "%s: it holds no dict of tensors (a state dict)",
                       r->path);
    for (size_t i = first; i + 1 < top->n; i += 2) {
        const struct pd_pk *key = top->items[i], *call = tensor_call(top->items[i + 1]);
        if (key->kind == PD_PK_STR && call)
            PD_TRY(add_tensor(set, r, file, key->text, call));
    }
    if (set->n_tensors == before)
        rc =
            PD_FAIL(r->err, PD_UNSUPPORTED,
                    "%s: no tensor at the top of its dict (the state dict alone is read)", r->path);
out:
    return rc;
}

/* All members lie in one folder, named after the file that was saved. */
static enum pd_rc find_folder(struct reader *r)
{
    static const char data[] = "/data.pkl";
    for (size_t i = 0; i < r->zip.n; i++) {
        struct pd_str name = r->zip.v[i].name;
        if (!pd_str_ends(name, PD_STR("/data.pkl")))
            continue;
        r->folder = (struct pd_str){name.ptr, name.len - (sizeof data - 2)};
        return PD_OK;
    }
    return PD_FAIL(r->err, PD_PARSE, "%s: no data.pkl in it: not a file of torch.save", r->path);
}

static enum pd_rc add_file(struct pd_torch *set, int file, const void *bytes, size_t n,
                           struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct reader r = {.path = set->files[file].path, .err = err};
    struct pd_arena arena;
    struct pd_pk *top = NULL;
    pd_arena_init(&arena);
    pd_map_init(&r.zip.index);
    PD_TRY(pd_zip_open(&r.zip, bytes, n, r.path, err));
    PD_TRY(find_folder(&r));
    const struct pd_zip_member *order = find_member(&r, "byteorder", PD_STR(""));
    if (order && !pd_str_eqz((struct pd_str){(const char *)order->data, order->bytes}, "little")) {
        rc = PD_FAIL(err, PD_UNSUPPORTED, "%s: its values are not little-endian", r.path);
        goto out;
    }
    const struct pd_zip_member *pickle = find_member(&r, "data.pkl", PD_STR(""));
    if (!pickle) {
        rc = PD_FAIL(err, PD_PARSE, "%s: the name of its folder is too long", r.path);
        goto out;
    }
    PD_TRY(pd_pickle_read(&top, (struct pd_str){(const char *)pickle->data, pickle->bytes}, globals,
                          &arena, r.path, err));
    PD_TRY(add_tensors(set, &r, file, top));
out:
    pd_zip_release(&r.zip);
    pd_arena_release(&arena);
    return rc;
}

static struct pd_torch *set_new(size_t n_files)
{
    struct pd_torch *t = pd_xalloc(sizeof *t);
    pd_map_init(&t->index);
    t->files = pd_xalloc((n_files + 1) * sizeof *t->files);
    return t;
}

/* Takes path. */
static enum pd_rc add_path(struct pd_torch *t, char *path, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_torch_file *f = &t->files[t->n_files++];
    f->path = path;
    PD_TRY(pd_map_file_open(&f->map, path, err));
    PD_TRY(add_file(t, (int)t->n_files - 1, f->map.ptr, f->map.len, err));
out:
    return rc;
}

enum pd_rc pd_torch_open(struct pd_torch **out, const char *path, struct pd_err *err)
{
    struct pd_torch *t = set_new(1);
    enum pd_rc rc = add_path(t, pd_xstrdup(path), err);
    if (rc != PD_OK)
        pd_torch_close(t);
    else
        *out = t;
    return rc;
}

enum pd_rc pd_torch_open_bytes(struct pd_torch **out, const void *bytes, size_t n, const char *name,
                               struct pd_err *err)
{
    struct pd_torch *t = set_new(1);
    t->files[t->n_files++].path = pd_xstrdup(name);
    enum pd_rc rc = add_file(t, 0, bytes, n, err);
    if (rc != PD_OK)
        pd_torch_close(t);
    else
        *out = t;
    return rc;
}

static enum pd_rc open_shards(struct pd_torch **out, const char *dir, const char *index_path,
                              struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_shards shards;
    struct pd_torch *t = NULL;
    PD_TRY(pd_shards_read(&shards, index_path, err));
    t = set_new(shards.files.len);
    for (size_t i = 0; i < shards.files.len; i++)
        PD_TRY(add_path(t, pd_xasprintf("%s/%s", dir, shards.files.entries[i].key), err));
    PD_TRY(pd_shards_check(&shards, &t->index, err));
    *out = t;
    t = NULL;
out:
    pd_torch_close(t);
    pd_shards_release(&shards);
    return rc;
}

enum pd_rc pd_torch_open_dir(struct pd_torch **out, const char *dir, struct pd_err *err)
{
    char *single = pd_xasprintf("%s/pytorch_model.bin", dir);
    char *index = pd_xasprintf("%s/pytorch_model.bin.index.json", dir);
    enum pd_rc rc = pd_fs_exists(single) ? pd_torch_open(out, single, err)
                    : pd_fs_exists(index)
                        ? open_shards(out, dir, index, err)
                        : PD_FAIL(err, PD_NOTFOUND, "%s: no pytorch_model.bin is there", dir);
    pd_free(single);
    pd_free(index);
    return rc;
}

void pd_torch_close(struct pd_torch *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->n_files; i++) {
        if (t->files[i].map.ptr)
            pd_map_file_close(&t->files[i].map);
        pd_free(t->files[i].path);
    }
    pd_map_release(&t->index);
    pd_free(t->tensors);
    pd_free(t->files);
    pd_free(t);
}

const struct pd_torch_tensor *pd_torch_find(const struct pd_torch *t, const char *name)
{
    int64_t i;
    return pd_map_get(&t->index, pd_str_from(name), &i) ? &t->tensors[i] : NULL;
}
