#include "lm/weights.h"

#include "base/mem.h"
#include "lm/gguf.h"
#include "lm/safetensors.h"
#include "lm/torch_file.h"

#include <sys/mman.h>

static bool has(const char *dir, const char *stem, const char *end)
{
    char *path = pd_xasprintf("%s/%s%s", dir, stem, end);
    bool there = pd_fs_exists(path);
    pd_free(path);
    return there;
}

enum pd_rc pd_weights_open_dir(struct pd_weights *w, const char *dir, struct pd_err *err)
{
    static const char st[] = "model.safetensors", torch[] = "pytorch_model.bin";
    *w = (struct pd_weights){0};
    if (has(dir, st, "") || has(dir, st, ".index.json"))
        return pd_st_open_dir(&w->st, dir, err);
    if (has(dir, torch, "") || has(dir, torch, ".index.json"))
        return pd_torch_open_dir(&w->torch, dir, err);
    return PD_FAIL(err, PD_NOTFOUND,
                   "%s: neither %s nor %s is there, nor the index (.index.json) of either in "
                   "shards",
                   dir, st, torch);
}

enum pd_rc pd_weights_open_stem(struct pd_weights *w, const char *dir, const char *stem,
                                struct pd_err *err)
{
    *w = (struct pd_weights){0};
    if (!has(dir, stem, ".safetensors") && !has(dir, stem, ".bin"))
        return PD_FAIL(err, PD_NOTFOUND, "%s: neither %s.safetensors nor %s.bin is there", dir,
                       stem, stem);
    bool st = has(dir, stem, ".safetensors");
    char *path = pd_xasprintf("%s/%s%s", dir, stem, st ? ".safetensors" : ".bin");
    enum pd_rc rc = st ? pd_st_open(&w->st, path, err) : pd_torch_open(&w->torch, path, err);
    pd_free(path);
    return rc;
}

void pd_weights_close(struct pd_weights *w)
{
    pd_st_close(w->st);
    pd_torch_close(w->torch);
    pd_gguf_close(w->gguf);
    *w = (struct pd_weights){0};
}

static bool from_st(const struct pd_st *st, const char *name, struct pd_weight *out)
{
    const struct pd_st_tensor *t = pd_st_find(st, name);
    if (!t)
        return false;
    *out = (struct pd_weight){.dtype_name = t->dtype_name,
                              .dtype = t->dtype,
                              .known_dtype = t->known_dtype,
                              .f64 = strcmp(t->dtype_name, "F64") == 0,
                              .ndim = t->ndim,
                              .data = t->data,
                              .file = pd_st_path(st, t)};
    memcpy(out->shape, t->shape, sizeof out->shape);
    return true;
}

static bool from_torch(const struct pd_torch *torch, const char *name, struct pd_weight *out)
{
    const struct pd_torch_tensor *t = pd_torch_find(torch, name);
    if (!t)
        return false;
    *out = (struct pd_weight){.dtype_name = t->dtype_name,
                              .dtype = t->dtype,
                              .known_dtype = t->known_dtype,
                              .f64 = strcmp(t->dtype_name, "F64") == 0,
                              .strided = !t->contiguous,
                              .ndim = t->ndim,
                              .data = t->data,
                              .file = torch->files[t->file].path};
    memcpy(out->shape, t->shape, sizeof out->shape);
    memcpy(out->stride, t->stride, sizeof out->stride);
    return true;
}

static bool from_gguf(const struct pd_gguf *g, const char *name, struct pd_weight *out)
{
    const struct pd_gguf_tensor *t = pd_gguf_tensor(g, name);
    if (!t)
        return false;
    *out = (struct pd_weight){.dtype_name = pd_dtype_info(t->dtype)->name,
                              .dtype = t->dtype,
                              .known_dtype = true,
                              .ndim = t->ndim,
                              .data = t->data,
                              .file = g->path};
    memcpy(out->shape, t->shape, sizeof t->shape);
    return true;
}

bool pd_weights_find(const struct pd_weights *w, const char *name, struct pd_weight *out)
{
    return w->st      ? from_st(w->st, name, out)
           : w->torch ? from_torch(w->torch, name, out)
           : w->gguf  ? from_gguf(w->gguf, name, out)
                      : false;
}

const char *pd_weights_format(const struct pd_weights *w)
{
    return w->st ? "safetensors" : w->torch ? "torch" : w->gguf ? "gguf" : "none";
}

static size_t n_files(const struct pd_weights *w)
{
    return w->st ? w->st->n_files : w->torch ? w->torch->n_files : w->gguf ? 1 : 0;
}

static const struct pd_map_file *map_at(const struct pd_weights *w, size_t i)
{
    return w->st ? &w->st->files[i].map : w->torch ? &w->torch->files[i].map : &w->gguf->map;
}

size_t pd_weights_files(const struct pd_weights *w, size_t *bytes)
{
    *bytes = 0;
    for (size_t i = 0; i < n_files(w); i++)
        *bytes += map_at(w, i)->len;
    return n_files(w);
}

void pd_weights_let_go(const struct pd_weights *w)
{
    for (size_t i = 0; i < n_files(w); i++)
        (void)madvise((void *)(uintptr_t)map_at(w, i)->ptr, map_at(w, i)->len, MADV_DONTNEED);
}

struct pd_str pd_weights_name(const struct pd_weights *w, size_t i)
{
    if (w->st && i < w->st->n_tensors)
        return w->st->tensors[i].name;
    if (w->torch && i < w->torch->n_tensors)
        return w->torch->tensors[i].name;
    if (w->gguf && i < w->gguf->n_tensors)
        return w->gguf->tensors[i].name;
    return (struct pd_str){NULL, 0};
}

/* ---- values that do not stand in a row ---- */

static float value_at(const struct pd_weight *w, int64_t i)
{
    float f;
    double d;
    if (!w->f64) {
        size_t bytes = (size_t)pd_dtype_info(w->dtype)->bytes;
        pd_dtype_to_f32(w->dtype, (const char *)w->data + (size_t)i * bytes, &f, 1);
        return f;
    }
    memcpy(&d, (const char *)w->data + (size_t)i * sizeof d, sizeof d);
    return (float)d;
}

void pd_weight_gather(const struct pd_weight *w, float *dst)
{
    int64_t index[8] = {0}, at = 0, n = 1;
    for (int d = 0; d < w->ndim; d++)
        n *= w->shape[d];
    if (!w->f64 && !w->strided) {
        pd_dtype_to_f32(w->dtype, w->data, dst, (size_t)n);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        dst[i] = value_at(w, w->strided ? at : i);
        for (int d = w->ndim - 1; w->strided && d >= 0; d--) { /* an odometer over the shape */
            at += w->stride[d];
            if (++index[d] < w->shape[d])
                break;
            at -= w->stride[d] * w->shape[d];
            index[d] = 0;
        }
    }
}
