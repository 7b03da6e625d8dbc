/* Where a pulled model is put: files come together in TARGET.partial, which then gets its name. */
#include "lm/hub_int.h"

#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static enum pd_rc check_room(const struct pd_hub *h, const char *dir, struct pd_err *err)
{
    struct statvfs v;
    if (statvfs(dir, &v) != 0)
        return PD_OK;
    uint64_t room = (uint64_t)v.f_bavail * v.f_frsize;
    if (room < (uint64_t)h->total)
        return PD_FAIL(err, PD_IO, "%s: %" PRId64 " MB are to come, %" PRIu64 " MB are free", dir,
                       h->total / 1000000, room / 1000000);
    return PD_OK;
}

/* Which commit a folder holds: a file of ours in it. */
static bool holds_commit(const struct pd_hub *h, const char *dir)
{
    struct json_object *o = NULL;
    char *path = pd_xasprintf("%s/podium-pull.json", dir);
    bool same = pd_fs_exists(path) && pd_json_read_file(path, 1 << 16, &o, NULL) == PD_OK &&
                pd_str_eqz(pd_json_str(o, "commit"), h->commit);
    for (size_t i = 0; same && i < h->n_files; i++) {
        struct stat st;
        char *file = pd_xasprintf("%s/%s", dir, h->files[i].name);
        same = stat(file, &st) == 0 && st.st_size == h->files[i].bytes;
        pd_free(file);
    }
    json_object_put(o);
    pd_free(path);
    return same;
}

static enum pd_rc note_commit(const struct pd_hub *h, const char *dir, struct pd_err *err)
{
    struct pd_buf b;
    struct pd_jw w;
    char *path = pd_xasprintf("%s/podium-pull.json", dir);
    pd_buf_init(&b, 0);
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    pd_jw_kstrz(&w, "from", h->endpoint);
    pd_jw_key(&w, "model");
    char *id = pd_xasprintf("%s/%s", h->owner, h->name);
    pd_jw_strz(&w, id);
    pd_jw_kstrz(&w, "revision", h->revision);
    pd_jw_kstrz(&w, "commit", h->commit);
    pd_jw_object_end(&w);
    pd_buf_addc(&b, '\n');
    enum pd_rc rc = pd_fs_write_atomic(path, pd_buf_str(&b), 0644, err);
    pd_buf_release(&b);
    pd_free(id);
    pd_free(path);
    return rc;
}

/* ---- the folder in which the files come together ---- */

static enum pd_rc in_the_way(const char *partial, struct pd_err *err)
{
    return PD_FAIL(err, PD_CONFLICT, "%s is in the way and is of no earlier pull; move it away",
                   partial);
}

/* One pull at a time. The lock is on the folder itself, so that none is left behind; it goes along
 * when the folder gets its name, and who waited for it at the old name looks again. */
static enum pd_rc lock_folder(const char *dir, int *fd, struct pd_err *err)
{
    enum { TRIES = 10 };
    for (int i = 0; i < TRIES; i++) {
        struct stat held, there;
        enum pd_rc rc = pd_fs_mkdirs(dir, 0755, err);
        if (rc != PD_OK)
            return rc;
        *fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (*fd < 0 && errno != ENOENT)
            return PD_FAIL_SYS(err, PD_IO, "cannot open %s", dir);
        if (*fd < 0)
            continue;
        if (flock(*fd, LOCK_EX | LOCK_NB) != 0)
            rc = errno == EWOULDBLOCK
                     ? PD_FAIL(err, PD_BUSY, "another pull is writing into %s", dir)
                     : PD_FAIL_SYS(err, PD_IO, "cannot lock %s", dir);
        else if (fstat(*fd, &held) == 0 && stat(dir, &there) == 0 && held.st_ino == there.st_ino &&
                 held.st_dev == there.st_dev)
            return PD_OK;
        (void)close(*fd);
        *fd = -1;
        if (rc != PD_OK)
            return rc;
    }
    return PD_FAIL(err, PD_BUSY, "other pulls are writing into %s", dir);
}

/* Removes what is in a folder, or only counts it. */
static enum pd_rc each_entry(const char *dir, bool remove, size_t *n, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    DIR *d = opendir(dir);
    if (!d)
        return PD_FAIL_SYS(err, PD_IO, "cannot read %s", dir);
    *n = 0;
    for (const struct dirent *e; rc == PD_OK && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        ++*n;
        char *path = pd_xasprintf("%s/%s", dir, e->d_name);
        if (remove)
            rc = pd_fs_remove_tree(path, err);
        pd_free(path);
    }
    (void)closedir(d);
    return rc;
}

/* What an earlier, other commit left in the partial folder is of no use. */
static enum pd_rc prepare(const struct pd_hub *h, const char *partial, int *lock,
                          struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    size_t n = 0;
    struct json_object *o = NULL;
    char *note = pd_xasprintf("%s/podium-pull.json", partial);
    if (pd_fs_exists(partial) && !pd_fs_is_dir(partial)) {
        rc = in_the_way(partial, err);
        goto out;
    }
    PD_TRY(lock_folder(partial, lock, err));
    PD_TRY(each_entry(partial, false, &n, err));
    if (n > 0 && !pd_fs_exists(note)) {
        rc = in_the_way(partial, err);
        goto out;
    }
    bool same = n > 0 && pd_json_read_file(note, 1 << 16, &o, NULL) == PD_OK &&
                pd_str_eqz(pd_json_str(o, "commit"), h->commit);
    if (!same)
        PD_TRY(each_entry(partial, true, &n, err));
    PD_TRY(note_commit(h, partial, err));
    PD_TRY(check_room(h, partial, err));
out:
    json_object_put(o);
    pd_free(note);
    return rc;
}

/* partial -> target; an older target gives way, into a folder that nobody else has. */
static enum pd_rc put_in_place(const char *partial, const char *target, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char *away = pd_xasprintf("%s.old-XXXXXX", target), *old = NULL;
    bool replaced = pd_fs_exists(target);
    if (replaced) {
        bool made = mkdtemp(away) != NULL;
        old = pd_xasprintf("%s/model", away);
        if (!made || rename(target, old) != 0) {
            rc = PD_FAIL_SYS(err, PD_IO, "cannot move %s away", target);
            if (made)
                (void)rmdir(away);
            goto out;
        }
    }
    if (rename(partial, target) != 0) {
        rc = PD_FAIL_SYS(err, PD_IO, "cannot put the model at %s", target);
        if (replaced && rename(old, target) == 0)
            (void)rmdir(away);
        goto out;
    }
    if (replaced && pd_fs_remove_tree(away, NULL) != PD_OK)
        pd_log(PD_LOG_WARN, "pull", "cannot remove %s", away);
out:
    pd_free(away);
    pd_free(old);
    return rc;
}

enum pd_rc pd_hub_check_target(const char *target, struct pd_err *err)
{
    char *note = pd_xasprintf("%s/podium-pull.json", target);
    bool free_or_ours = !pd_fs_exists(target) || pd_fs_exists(note);
    pd_free(note);
    return free_or_ours ? PD_OK
                        : PD_FAIL(err, PD_CONFLICT,
                                  "%s is there and was not fetched from a hub; name another "
                                  "place with --out",
                                  target);
}

enum pd_rc pd_hub_fetch_folder(struct pd_hub *h, const char *target, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    int lock = -1;
    char *partial = pd_xasprintf("%s.partial", target);
    if (pd_fs_is_dir(target) && holds_commit(h, target))
        goto out;
    PD_TRY(pd_hub_check_target(target, err));
    PD_TRY(prepare(h, partial, &lock, err));
    pd_progress_init(&h->progress, "pulling", "MB", h->total / 1000000, false);
    for (size_t i = 0; rc == PD_OK && i < h->n_files; i++)
        rc = pd_hub_fetch(h, &h->files[i], partial, err);
    pd_progress_finish(&h->progress, NULL);
    if (rc == PD_INTERRUPTED)
        rc = PD_FAIL(err, PD_INTERRUPTED, "stopped; the same command goes on with what came");
    PD_TRY(rc);
    PD_TRY(put_in_place(partial, target, err));
out:
    if (lock >= 0)
        (void)close(lock);
    pd_free(partial);
    return rc;
}
