#include "api/run_folder.h"

#include "base/fs.h"
#include "base/mem.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_RUN_JSON = 16 << 20 };

const char *pd_run_folder(struct pd_arena *a, const char *data_dir, struct pd_str uuid)
{
    return pd_arena_printf(a, "%s/runs/%.*s", data_dir, PD_STR_ARG(uuid));
}

static void put(void *o)
{
    json_object_put(o);
}

struct json_object *pd_run_folder_file(struct pd_arena *a, const char *dir, const char *name)
{
    struct json_object *o = NULL;
    const char *path = pd_arena_printf(a, "%s/%s", dir, name);
    if (!pd_fs_exists(path) || pd_json_read_file(path, MAX_RUN_JSON, &o, NULL) != PD_OK)
        return NULL;
    pd_arena_defer(a, put, o);
    return json_object_is_type(o, json_type_object) ? o : NULL;
}

struct json_object *pd_run_folder_json(struct pd_arena *a, const char *dir)
{
    return pd_run_folder_file(a, dir, "run.json");
}

void pd_tail_init(struct pd_tail *t, const char *dir, const char *name)
{
    t->path = pd_xasprintf("%s/%s", dir, name);
    t->at = 0;
    pd_buf_init(&t->rest, 64 << 20);
}

void pd_tail_release(struct pd_tail *t)
{
    pd_free(t->path);
    t->path = NULL;
    pd_buf_release(&t->rest);
}

static void give_lines(struct pd_tail *t, pd_tail_fn *fn, void *ctx)
{
    size_t from = 0;
    const char *nl;
    while (from < t->rest.len &&
           (nl = memchr(t->rest.ptr + from, '\n', t->rest.len - from)) != NULL) {
        struct pd_str line = {t->rest.ptr + from, (size_t)(nl - t->rest.ptr) - from};
        from += line.len + 1;
        if (line.len)
            fn(ctx, line);
    }
    if (from) {
        memmove(t->rest.ptr, t->rest.ptr + from, t->rest.len - from);
        t->rest.len -= from;
    }
}

void pd_tail_read(struct pd_tail *t, size_t max_bytes, pd_tail_fn *fn, void *ctx, bool *again)
{
    struct stat st;
    char chunk[1 << 16];
    if (again)
        *again = false;
    int fd = open(t->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (fstat(fd, &st) == 0 && st.st_size < t->at) {
        t->at = 0;
        pd_buf_clear(&t->rest);
        if (again)
            *again = true;
    }
    for (size_t got = 0; got < max_bytes;) {
        ssize_t n = pread(fd, chunk, sizeof chunk, t->at);
        if (n <= 0)
            break;
        pd_buf_add(&t->rest, chunk, (size_t)n);
        t->at += n;
        got += (size_t)n;
        give_lines(t, fn, ctx);
    }
    close(fd);
}

int64_t pd_line_step(struct pd_str line)
{
    const char *key = line.len ? memmem(line.ptr, line.len, "\"step\":", 7) : NULL;
    if (!key)
        return -1;
    const char *p = key + 7, *end = line.ptr + line.len;
    while (p < end && *p == ' ')
        p++;
    int64_t step = 0;
    bool any = false;
    for (; p < end && *p >= '0' && *p <= '9' && step < INT64_MAX / 20; p++, any = true)
        step = step * 10 + (*p - '0');
    return any ? step : -1;
}
