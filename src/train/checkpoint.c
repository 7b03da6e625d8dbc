#include "train/checkpoint.h"
#include "base/fs.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

void pd_blobs_add(struct pd_blobs *b, const char *prefix, const char *name, void *ptr, size_t bytes)
{
    b->v = pd_xrealloc(b->v, (b->n + 1) * sizeof *b->v);
    b->v[b->n++] = (struct pd_blob){pd_xasprintf("%s%s", prefix, name), ptr, bytes};
}

void pd_blobs_add_params(struct pd_blobs *b, const char *prefix, const struct pd_params *ps)
{
    for (size_t i = 0; i < ps->n; i++)
        if (ps->v[i].trainable)
            pd_blobs_add(b, prefix, ps->v[i].name, ps->v[i].data, ps->v[i].n * sizeof(float));
}

void pd_blobs_add_adamw(struct pd_blobs *b, const char *prefix, const struct pd_adamw *o)
{
    pd_blobs_add(b, prefix, "adam.m", o->m, o->n * sizeof(float));
    pd_blobs_add(b, prefix, "adam.v", o->v, o->n * sizeof(float));
}

void pd_blobs_release(struct pd_blobs *b)
{
    for (size_t i = 0; i < b->n; i++)
        pd_free((char *)(uintptr_t)b->v[i].name);
    pd_free(b->v);
    *b = (struct pd_blobs){0};
}

/* crc32 (zlib's) of any length. */
static int64_t checksum(const void *p, size_t n)
{
    return (int64_t)crc32_z(crc32_z(0, NULL, 0), p, n);
}

static enum pd_rc save_tensors(const char *dir, const struct pd_blobs *blobs,
                               struct json_object *list, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_out out = {0};
    char *path = pd_xasprintf("%s/tensors.bin", dir);
    PD_TRY(pd_out_open(&out, path, err));
    for (size_t i = 0; i < blobs->n; i++) {
        const struct pd_blob *b = &blobs->v[i];
        struct json_object *entry = json_object_new_object();
        json_object_object_add(entry, "name", json_object_new_string(b->name));
        json_object_object_add(entry, "bytes", json_object_new_int64((int64_t)b->bytes));
        json_object_object_add(entry, "crc32", json_object_new_int64(checksum(b->ptr, b->bytes)));
        json_object_array_add(list, entry);
        PD_TRY(pd_out_write(&out, (struct pd_str){b->ptr, b->bytes}, err));
    }
    PD_TRY(pd_out_commit(&out, err));
out:
    if (rc != PD_OK && out.f)
        pd_out_abandon(&out);
    pd_free(path);
    return rc;
}

static enum pd_rc save_state(const char *dir, struct json_object *state, struct pd_err *err)
{
    struct pd_buf text;
    struct pd_jw w;
    pd_buf_init(&text, 0);
    pd_jw_init(&w, &text);
    pd_jw_tree(&w, state);
    pd_buf_addc(&text, '\n');
    char *path = pd_xasprintf("%s/state.json", dir);
    enum pd_rc rc = pd_fs_write_atomic(path, pd_buf_str(&text), 0644, err);
    pd_free(path);
    pd_buf_release(&text);
    return rc;
}

static int64_t step_of(const char *name)
{
    struct pd_str s = pd_str_from(name), prefix = PD_STR("checkpoint-");
    int64_t step;
    if (!pd_str_starts(s, prefix))
        return -1;
    s.ptr += prefix.len;
    s.len -= prefix.len;
    return pd_str_to_i64(s, &step) && step >= 0 ? step : -1;
}

static int descending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

/* Steps of the checkpoints of a run, newest first; caller frees. */
static int64_t *list_steps(const char *run_dir, size_t *n)
{
    int64_t *steps = NULL;
    DIR *d = opendir(run_dir);
    *n = 0;
    for (struct dirent *e; d && (e = readdir(d));)
        if (step_of(e->d_name) >= 0) {
            steps = pd_xrealloc(steps, (*n + 1) * sizeof *steps);
            steps[(*n)++] = step_of(e->d_name);
        }
    if (d)
        (void)closedir(d);
    if (*n)
        qsort(steps, *n, sizeof *steps, descending);
    return steps;
}

static enum pd_rc remove_old(const char *run_dir, int keep, struct pd_err *err)
{
    size_t n;
    enum pd_rc rc = PD_OK;
    int64_t *steps = list_steps(run_dir, &n);
    for (size_t i = (size_t)keep; rc == PD_OK && i < n; i++) {
        char *dir = pd_xasprintf("%s/checkpoint-%" PRId64, run_dir, steps[i]);
        rc = pd_fs_remove_tree(dir, err);
        pd_free(dir);
    }
    pd_free(steps);
    return rc;
}

static void sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        (void)close(fd);
    }
}

/* The same step may be there already, from before a resume: then the two folders change places in
 * one step, and tmp is the one to remove. A file system that cannot exchange takes two renames; a
 * crash between them leaves the checkpoint before this one. */
static enum pd_rc put_in_place(const char *tmp, const char *dir, const char *old,
                               struct pd_err *err)
{
    if (!pd_fs_exists(dir))
        return rename(tmp, dir) == 0 ? PD_OK
                                     : PD_FAIL_SYS(err, PD_IO, "cannot rename %s to %s", tmp, dir);
    if (renameat2(AT_FDCWD, tmp, AT_FDCWD, dir, RENAME_EXCHANGE) == 0)
        return PD_OK;
    if (errno != EINVAL && errno != ENOSYS)
        return PD_FAIL_SYS(err, PD_IO, "cannot exchange %s and %s", tmp, dir);
    if (rename(dir, old) != 0)
        return PD_FAIL_SYS(err, PD_IO, "cannot rename %s to %s", dir, old);
    if (rename(tmp, dir) == 0)
        return PD_OK;
    enum pd_rc rc = PD_FAIL_SYS(err, PD_IO, "cannot rename %s to %s", tmp, dir);
    (void)rename(old, dir);
    return rc;
}

enum pd_rc pd_checkpoint_save(const char *run_dir, int64_t step, int keep,
                              struct json_object *state, const struct pd_blobs *blobs,
                              struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char *tmp = pd_xasprintf("%s/.checkpoint.tmp", run_dir);
    char *old = pd_xasprintf("%s/.checkpoint.old", run_dir);
    char *dir = pd_xasprintf("%s/checkpoint-%" PRId64, run_dir, step);
    struct json_object *list = json_object_new_array();
    if (pd_fs_exists(tmp)) /* a run that was killed while writing left it */
        PD_TRY(pd_fs_remove_tree(tmp, err));
    if (pd_fs_exists(old))
        PD_TRY(pd_fs_remove_tree(old, err));
    PD_TRY(pd_fs_mkdirs(tmp, 0755, err));
    PD_TRY(save_tensors(tmp, blobs, list, err));
    json_object_object_add(state, "step", json_object_new_int64(step));
    json_object_object_add(state, "tensors", json_object_get(list));
    PD_TRY(save_state(tmp, state, err));
    PD_TRY(put_in_place(tmp, dir, old, err));
    sync_dir(run_dir);
    if (pd_fs_exists(tmp))
        PD_TRY(pd_fs_remove_tree(tmp, err));
    if (pd_fs_exists(old))
        PD_TRY(pd_fs_remove_tree(old, err));
    PD_TRY(remove_old(run_dir, keep, err));
out:
    json_object_put(list);
    pd_free(tmp);
    pd_free(old);
    pd_free(dir);
    return rc;
}

static enum pd_rc load_tensors(const char *dir, struct json_object *list,
                               const struct pd_blobs *blobs, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char *path = pd_xasprintf("%s/tensors.bin", dir);
    FILE *f = fopen(path, "rb");
    if (!f) {
        rc = PD_FAIL_SYS(err, PD_IO, "cannot open %s", path);
        goto out;
    }
    size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
    if (n != blobs->n) {
        rc = PD_FAIL(err, PD_INVALID, "%s holds %zu blocks, this model and run have %zu", dir, n,
                     blobs->n);
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        const struct pd_blob *b = &blobs->v[i];
        struct json_object *entry = json_object_array_get_idx(list, i);
        struct pd_str name = pd_json_str(entry, "name");
        if (!pd_str_eqz(name, b->name) || pd_json_i64(entry, "bytes", -1) != (int64_t)b->bytes) {
            rc = PD_FAIL(err, PD_INVALID, "%s: block %zu is %.*s, expected %s of %zu bytes", dir, i,
                         PD_STR_ARG(name), b->name, b->bytes);
            goto out;
        }
        if (fread(b->ptr, 1, b->bytes, f) != b->bytes ||
            checksum(b->ptr, b->bytes) != pd_json_i64(entry, "crc32", -1)) {
            rc = PD_FAIL(err, PD_IO, "%s is damaged at %s; remove %s to go on from the one before",
                         path, b->name, dir);
            goto out;
        }
    }
out:
    if (f)
        (void)fclose(f);
    pd_free(path);
    return rc;
}

enum pd_rc pd_checkpoint_load(const char *run_dir, int64_t *step, struct json_object **state,
                              const struct pd_blobs *blobs, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    size_t n;
    struct json_object *json = NULL;
    char *dir = NULL, *path = NULL;
    int64_t *steps = list_steps(run_dir, &n);
    *step = 0;
    *state = NULL;
    if (n == 0)
        goto out;
    dir = pd_xasprintf("%s/checkpoint-%" PRId64, run_dir, steps[0]);
    path = pd_xasprintf("%s/state.json", dir);
    PD_TRY(pd_json_read_file(path, 256 << 20, &json, err));
    PD_TRY(load_tensors(dir, pd_json_get(json, "tensors"), blobs, err));
    *step = steps[0];
    *state = json;
    json = NULL;
out:
    json_object_put(json);
    pd_free(path);
    pd_free(dir);
    pd_free(steps);
    return rc;
}

struct json_object *pd_rng_to_json(const struct pd_rng *r)
{
    char text[72];
    (void)snprintf(text, sizeof text, "%016" PRIx64 "%016" PRIx64 "%016" PRIx64 "%016" PRIx64,
                   r->state_hi, r->state_lo, r->inc_hi, r->inc_lo);
    return json_object_new_string(text);
}

bool pd_rng_from_json(struct json_object *o, struct pd_rng *r)
{
    const char *text = json_object_is_type(o, json_type_string) ? json_object_get_string(o) : "";
    /* sixteen digits of hex cannot overflow: NOLINTNEXTLINE(cert-err34-c) */
    return strlen(text) == 64 && sscanf(text, "%16" SCNx64 "%16" SCNx64 "%16" SCNx64 "%16" SCNx64,
                                        &r->state_hi, &r->state_lo, &r->inc_hi, &r->inc_lo) == 4;
}
