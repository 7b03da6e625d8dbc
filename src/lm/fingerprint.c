#include "lm/fingerprint.h"
#include "lm/model_int.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/sha1.h"

#include <stdio.h>
#include <sys/stat.h>

enum { BLOCK = 1024, FILE_HEAD = 1 << 18 };

static void add_text(struct pd_sha1 *h, const char *s)
{
    pd_sha1_add(h, s, strlen(s) + 1);
}

static void add_param(struct pd_sha1 *h, const struct pd_param *p)
{
    char shape[160];
    (void)snprintf(shape, sizeof shape, "%d %lld %lld %lld %lld", (int)p->dtype,
                   (long long)p->shape[0], (long long)p->shape[1], (long long)p->shape[2],
                   (long long)p->shape[3]);
    add_text(h, p->name);
    add_text(h, shape);
    size_t bytes = pd_dtype_row_bytes(p->dtype, p->n);
    const char *data = p->data;
    if (!data)
        return;
    if (bytes <= (size_t)2 * BLOCK) {
        pd_sha1_add(h, data, bytes);
        return;
    }
    pd_sha1_add(h, data + (bytes - BLOCK) / 3, BLOCK);
    pd_sha1_add(h, data + (bytes - BLOCK) / 3 * 2, BLOCK);
}

/* The size and the beginning; a file that is empty or not there counts as that. */
static enum pd_rc add_file(struct pd_sha1 *h, const char *path, struct pd_err *err)
{
    struct pd_map_file m;
    struct stat st;
    if (stat(path, &st) != 0 || st.st_size == 0)
        return PD_OK;
    enum pd_rc rc = pd_map_file_open(&m, path, err);
    if (rc != PD_OK)
        return rc;
    pd_sha1_add(h, &m.len, sizeof m.len);
    pd_sha1_add(h, m.ptr, m.len < FILE_HEAD ? m.len : FILE_HEAD);
    pd_map_file_close(&m);
    return PD_OK;
}

static enum pd_rc add_folder(struct pd_sha1 *h, const char *dir, struct pd_err *err)
{
    static const char *const names[] = {"config.json", "generation_config.json",
                                        "adapter_config.json", PD_TOKENIZER_FILES};
    enum pd_rc rc = PD_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names && rc == PD_OK; i++) {
        char *path = pd_xasprintf("%s/%s", dir, names[i]);
        add_text(h, names[i]);
        rc = add_file(h, path, err);
        pd_free(path);
    }
    return rc;
}

enum pd_rc pd_model_fingerprint(const struct pd_model *m, char out[41], struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_sha1 h;
    const char *dir = m->files->dir;
    pd_sha1_init(&h);
    for (size_t i = 0; i < m->params.n; i++)
        add_param(&h, &m->params.v[i]);
    if (dir)
        PD_TRY(add_folder(&h, dir, err));
    if (m->path && (!dir || strcmp(dir, m->path) != 0))
        PD_TRY(pd_fs_is_dir(m->path) ? add_folder(&h, m->path, err) : add_file(&h, m->path, err));
    pd_sha1_hex(&h, out);
out:
    return rc;
}
