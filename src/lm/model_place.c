#include "lm/model_place.h"

#include "base/fs.h"
#include "base/mem.h"
#include "lm/tokenizer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define CONFIG "config.json"
#define TMP    ".podium.tmp."

/* ---- names ---- */

static const char *skip_digits(const char *s)
{
    return s + strspn(s, "0123456789");
}

/* "model-00001-of-00002.safetensors" */
static bool is_shard(const char *name, const char *stem, const char *end)
{
    size_t n = strlen(stem);
    if (strncmp(name, stem, n) != 0 || name[n] != '-')
        return false;
    const char *at = skip_digits(name + n + 1);
    return strncmp(at, "-of-", 4) == 0 && strcmp(skip_digits(at + 4), end) == 0;
}

static bool is_weights(const char *name)
{
    static const char *const names[] = {"model.safetensors", "model.safetensors.index.json",
                                        "pytorch_model.bin", "pytorch_model.bin.index.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return is_shard(name, "model", ".safetensors") || is_shard(name, "pytorch_model", ".bin");
}

static bool is_model_file(const char *name)
{
    static const char *const names[] = {CONFIG, "generation_config.json", "chat_template.json",
                                        PD_TOKENIZER_FILES};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return is_weights(name);
}

/* Of a run that was killed: this folder's temporary one, or a file that was on its way. */
static bool is_left_over(const char *name)
{
    if (strncmp(name, TMP, strlen(TMP)) == 0)
        return *skip_digits(name + strlen(TMP)) == '\0';
    const char *tmp = *name == '.' ? strstr(name, ".tmp.") : NULL;
    if (!tmp || *skip_digits(tmp + 5) != '\0')
        return false;
    char *of = pd_xstrndup(name + 1, (size_t)(tmp - name) - 1);
    bool ours = is_model_file(of);
    pd_free(of);
    return ours;
}

/* ---- listing and moving ---- */

struct names {
    char **v;
    size_t n;
};

static void names_release(struct names *l)
{
    for (size_t i = 0; i < l->n; i++)
        pd_free(l->v[i]);
    pd_free(l->v);
}

static enum pd_rc list(struct names *l, const char *dir, bool (*wanted)(const char *),
                       struct pd_err *err)
{
    DIR *d = opendir(dir);
    if (!d)
        return PD_FAIL_SYS(err, PD_IO, "cannot list the folder %s", dir);
    for (const struct dirent *e; (e = readdir(d));) {
        if (!wanted(e->d_name))
            continue;
        l->v = pd_xrealloc(l->v, (l->n + 1) * sizeof *l->v);
        l->v[l->n++] = pd_xstrdup(e->d_name);
    }
    (void)closedir(d);
    return PD_OK;
}

static enum pd_rc remove_file(const char *dir, const char *name, struct pd_err *err)
{
    char *path = pd_xasprintf("%s/%s", dir, name);
    enum pd_rc rc =
        unlink(path) == 0 || errno == ENOENT
            ? PD_OK
            : PD_FAIL_SYS(err, PD_IO, "cannot remove %s, which is of an older model", path);
    pd_free(path);
    return rc;
}

static enum pd_rc put_in_place(const struct pd_model_place *p, const char *name, struct pd_err *err)
{
    char *from = pd_xasprintf("%s/%s", p->tmp, name), *to = pd_xasprintf("%s/%s", p->dir, name);
    enum pd_rc rc = rename(from, to) == 0
                        ? PD_OK
                        : PD_FAIL_SYS(err, PD_IO, "cannot move the finished file to %s", to);
    pd_free(from);
    pd_free(to);
    return rc;
}

static enum pd_rc remove_left_overs(const char *dir, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct names old = {0};
    PD_TRY(list(&old, dir, is_left_over, err));
    for (size_t i = 0; rc == PD_OK && i < old.n; i++) {
        char *path = pd_xasprintf("%s/%s", dir, old.v[i]);
        rc = pd_fs_remove_tree(path, err);
        pd_free(path);
    }
out:
    names_release(&old);
    return rc;
}

/* Files may be named like a tokenizer's where there is no model: those are not of an older one. */
static enum pd_rc remove_old_model(const char *dir, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct names old = {0};
    bool model = false;
    PD_TRY(list(&old, dir, is_model_file, err));
    for (size_t i = 0; i < old.n; i++)
        model |= is_weights(old.v[i]) || strcmp(old.v[i], CONFIG) == 0;
    if (!model)
        goto out;
    PD_TRY(remove_file(dir, CONFIG, err));
    PD_TRY(pd_fs_sync_folder(dir, err));
    for (int weights = 0; weights < 2; weights++) /* last: by them a later run knows the rest */
        for (size_t i = 0; i < old.n; i++)
            if (is_weights(old.v[i]) == (weights != 0))
                PD_TRY(remove_file(dir, old.v[i], err));
out:
    names_release(&old);
    return rc;
}

/* ---- the whole ---- */

/* One writer at a time, so that whatever else is temporary there has been left behind. A file
 * system without locks has neither. */
static enum pd_rc lock(struct pd_model_place *p, struct pd_err *err)
{
    p->lock = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (p->lock < 0)
        return PD_FAIL_SYS(err, PD_IO, "cannot open the folder %s", p->dir);
    if (flock(p->lock, LOCK_EX | LOCK_NB) == 0)
        return remove_left_overs(p->dir, err);
    if (errno == EWOULDBLOCK)
        return PD_FAIL(err, PD_BUSY, "%s: another process is writing a model there", p->dir);
    return PD_OK;
}

enum pd_rc pd_model_place_open(struct pd_model_place *p, const char *dir, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char *adapter = pd_xasprintf("%s/adapter_config.json", dir);
    *p = (struct pd_model_place){.dir = pd_xstrdup(dir), .lock = -1, .made = !pd_fs_exists(dir)};
    if (pd_fs_exists(adapter)) {
        p->made = false;
        rc = PD_FAIL(err, PD_CONFLICT, "%s holds an adapter; write the model to another folder",
                     dir);
        goto out;
    }
    PD_TRY(pd_fs_mkdirs(dir, 0777, err));
    PD_TRY(lock(p, err));
    char *tmp = pd_xasprintf("%s/" TMP "%ld", dir, (long)getpid());
    rc = pd_fs_mkdirs(tmp, 0777, err);
    if (rc == PD_OK)
        p->tmp = tmp;
    else
        pd_free(tmp);
out:
    pd_free(adapter);
    return rc;
}

static bool is_any_but_config(const char *name)
{
    return *name != '.' && strcmp(name, CONFIG) != 0;
}

enum pd_rc pd_model_place_commit(struct pd_model_place *p, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct names all = {0};
    PD_TRY(list(&all, p->tmp, is_any_but_config, err));
    PD_TRY(remove_old_model(p->dir, err));
    p->made = false; /* from here on something of it stands there */
    for (size_t i = 0; i < all.n; i++)
        PD_TRY(put_in_place(p, all.v[i], err));
    PD_TRY(pd_fs_sync_folder(p->dir, err));
    PD_TRY(put_in_place(p, CONFIG, err));
    PD_TRY(pd_fs_sync_folder(p->dir, err));
out:
    names_release(&all);
    return rc;
}

void pd_model_place_close(struct pd_model_place *p)
{
    bool gone = !p->tmp || pd_fs_remove_tree(p->tmp, NULL) == PD_OK;
    if (p->made && gone)
        (void)rmdir(p->dir);
    if (p->lock >= 0)
        (void)close(p->lock);
    pd_free(p->dir);
    pd_free(p->tmp);
    *p = (struct pd_model_place){.lock = -1};
}
