#include "gen/partial.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Whether the path still names what is open: it may have been replaced or removed meanwhile. */
static bool is_there(const struct pd_partial *p)
{
    struct stat open, named;
    return fstat(fileno(p->f), &open) == 0 && stat(p->path, &named) == 0 &&
           open.st_dev == named.st_dev && open.st_ino == named.st_ino;
}

/* PD_NOTFOUND: another process has put something else in its place. */
static enum pd_rc open_locked(struct pd_partial *p, struct pd_err *err)
{
    int fd = open(p->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0)
        return PD_FAIL_SYS(err, PD_IO, "cannot write %s", p->path);
    p->f = fdopen(fd, "r+");
    if (!p->f)
        pd_bug("fdopen");
    /* where a file system has no locks, a job runs without */
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        return PD_FAIL(err, PD_BUSY,
                       "another process is at work on %s; wait for it, or write to another --out",
                       p->path);
    return is_there(p) ? PD_OK : PD_FAIL(err, PD_NOTFOUND, "%s was replaced", p->path);
}

enum pd_rc pd_partial_open(struct pd_partial **out, const char *path, bool resume,
                           struct pd_err *err)
{
    enum pd_rc rc;
    struct stat st;
    struct pd_partial *p = pd_xalloc(sizeof *p);
    p->path = pd_xasprintf("%s.partial", path);
    while ((rc = open_locked(p, err)) == PD_NOTFOUND)
        (void)fclose(p->f);
    if (rc == PD_OK) {
        p->fresh = fstat(fileno(p->f), &st) == 0 && st.st_size == 0;
        if (!p->fresh && !resume)
            rc = PD_FAIL(err, PD_CONFLICT,
                         "%s was left by an interrupted run; add --resume to go on with it, or "
                         "remove it",
                         p->path);
    }
    if (rc == PD_OK)
        *out = p;
    else
        pd_partial_close(p, true);
    return rc;
}

static char *next_path(const struct pd_partial *p)
{
    return pd_xasprintf("%s.tmp", p->path);
}

enum pd_rc pd_partial_begin(struct pd_partial *p, struct pd_err *err)
{
    char *tmp = next_path(p);
    p->next = fopen(tmp, "we");
    enum pd_rc rc = p->next ? PD_OK : PD_FAIL_SYS(err, PD_IO, "cannot write %s", tmp);
    pd_free(tmp);
    return rc;
}

/* The new file is locked before it has the name, so that the name is never without a lock. */
enum pd_rc pd_partial_end(struct pd_partial *p, bool ok, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char *tmp = next_path(p);
    if (!ok || fflush(p->next) != 0 || fsync(fileno(p->next)) != 0 ||
        (flock(fileno(p->next), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) ||
        rename(tmp, p->path) != 0) {
        rc = PD_FAIL_SYS(err, PD_IO, "cannot write %s", p->path);
        (void)unlink(tmp);
        (void)fclose(p->next);
    } else {
        (void)fclose(p->f);
        p->f = p->next;
    }
    p->next = NULL;
    pd_free(tmp);
    return rc;
}

void pd_partial_close(struct pd_partial *p, bool keep)
{
    if (!p)
        return;
    if (p->f && !keep)
        (void)unlink(p->path);
    if (p->f)
        (void)fclose(p->f);
    pd_free(p->path);
    pd_free(p);
}
