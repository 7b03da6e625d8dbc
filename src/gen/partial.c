#include "gen/partial.h"
#include "base/mem.h"
#include "base/rng.h"

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

/* ---- of which job it is ---- */

static const char *plain(struct json_object *o)
{
    return json_object_to_json_string_ext(o,
                                          JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
}

uint64_t pd_partial_hash(uint64_t h, struct json_object *row)
{
    for (const char *s = plain(row); *s; s++)
        h = pd_rng_mix(h, (unsigned char)*s);
    return pd_rng_mix(h, 256);
}

struct difference {
    bool version, model, weights, prompts;
    struct pd_buf settings; /* their names */
};

static void note(struct difference *d, const char *key)
{
    static const char *const of_model[] = {"model", "model_name", "path"};
    static const char *const of_prompts[] = {"prompts", "hash", "rows"};
    for (size_t i = 0; i < 3; i++) {
        if (strcmp(key, of_model[i]) == 0)
            d->model = true;
        else if (strcmp(key, of_prompts[i]) == 0)
            d->prompts = true;
        else
            continue;
        return;
    }
    if (strcmp(key, "podium") == 0 || strcmp(key, "version") == 0)
        d->version = true;
    else if (strcmp(key, "weights") == 0)
        d->weights = true;
    else
        pd_buf_addf(&d->settings, "%s%s", d->settings.len ? ", " : "", key);
}

static void compare(struct difference *d, struct json_object *now, struct json_object *was)
{
    json_object_object_foreach(now, key, value)
    {
        struct json_object *other = pd_json_get(was, key);
        if (json_object_is_type(value, json_type_object) &&
            json_object_is_type(other, json_type_object))
            compare(d, value, other);
        else if (strcmp(plain(value), plain(other)) != 0)
            note(d, key);
    }
    json_object_object_foreach(was, gone, unused)
    {
        (void)unused;
        if (!json_object_object_get_ex(now, gone, NULL))
            note(d, gone);
    }
}

static enum pd_rc say(const struct pd_partial *p, const struct difference *d, struct pd_err *err)
{
    const bool is[] = {d->model, d->weights, d->prompts};
    static const char *const names[] = {"another model", "other weights", "other prompts"};
    struct pd_buf what;
    if (d->version)
        return PD_FAIL(err, PD_CONFLICT,
                       "%s was left by another version of podium, or another kind of job; remove "
                       "it to begin anew",
                       p->path);
    pd_buf_init(&what, 0);
    for (size_t i = 0; i < sizeof is / sizeof *is; i++)
        if (is[i])
            pd_buf_addf(&what, "%s%s", what.len ? ", " : "", names[i]);
    if (d->settings.len)
        pd_buf_addf(&what, "%sother settings (%s)", what.len ? ", " : "",
                    pd_buf_cstr(&d->settings));
    enum pd_rc rc =
        PD_FAIL(err, PD_CONFLICT, "%s was left by a run with %s; use the same again, or remove it",
                p->path, pd_buf_cstr(&what));
    pd_buf_release(&what);
    return rc;
}

enum pd_rc pd_partial_check(const struct pd_partial *p, struct pd_str was, const char *head,
                            struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct json_object *old = NULL, *now = NULL;
    struct difference d = {0};
    if (pd_str_eqz(was, head))
        return PD_OK;
    pd_buf_init(&d.settings, 0);
    PD_TRY(pd_json_parse(pd_str_from(head), &now, err));
    if (pd_json_parse(was, &old, NULL) != PD_OK || !json_object_is_type(old, json_type_object)) {
        rc = PD_FAIL(err, PD_CONFLICT, "%s: the first line, which names the job, is damaged; %s",
                     p->path, "remove the file to begin anew");
        goto out;
    }
    compare(&d, now, old);
    rc = say(p, &d, err);
out:
    json_object_put(old);
    json_object_put(now);
    pd_buf_release(&d.settings);
    return rc;
}

/* ---- written afresh ---- */

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
