#include "base/fs.h"
#include "base/mem.h"
#include "base/sig.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

bool pd_fs_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

bool pd_fs_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

enum pd_rc pd_fs_mkdirs(const char *path, mode_t mode, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char *p = pd_xstrdup(path);
    for (char *at = p + 1; rc == PD_OK; at++) {
        if (*at != '/' && *at != '\0')
            continue;
        char keep = *at;
        *at = '\0';
        if (mkdir(p, mode) != 0 && errno != EEXIST)
            rc = PD_FAIL_SYS(err, PD_IO, "cannot create the folder %s", p);
        *at = keep;
        if (keep == '\0')
            break;
    }
    if (rc == PD_OK && !pd_fs_is_dir(path))
        rc = PD_FAIL(err, PD_IO, "%s exists and is not a folder", path);
    pd_free(p);
    return rc;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

enum pd_rc pd_fs_remove_tree(const char *path, struct pd_err *err)
{
    if (!pd_fs_exists(path))
        return PD_OK;
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0)
        return PD_FAIL_SYS(err, PD_IO, "cannot remove %s", path);
    return PD_OK;
}

enum pd_rc pd_fs_sync_folder(const char *dir, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || (fsync(fd) != 0 && errno != EINVAL))
        rc = PD_FAIL_SYS(err, PD_IO, "cannot sync the folder %s", dir);
    if (fd >= 0)
        (void)close(fd);
    return rc;
}

static enum pd_rc open_failed(const char *path, struct pd_err *err)
{
    return PD_FAIL_SYS(err, errno == ENOENT ? PD_NOTFOUND : PD_IO, "cannot open %s", path);
}

enum pd_rc pd_fs_read(const char *path, size_t max_bytes, struct pd_buf *out, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return open_failed(path, err);
    char chunk[65536];
    size_t total = 0;
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            rc = PD_FAIL_SYS(err, PD_IO, "cannot read %s", path);
            break;
        }
        if (n == 0)
            break;
        total += (size_t)n;
        if (total > max_bytes) {
            rc = PD_FAIL(err, PD_TOOBIG, "%s is larger than %zu bytes", path, max_bytes);
            break;
        }
        pd_buf_add(out, chunk, (size_t)n);
        if (out->failed) {
            rc = PD_FAIL(err, PD_TOOBIG, "%s does not fit in memory", path);
            break;
        }
    }
    (void)close(fd);
    return rc;
}

enum pd_rc pd_fs_write_atomic(const char *path, struct pd_str bytes, mode_t mode,
                              struct pd_err *err)
{
    struct pd_out o;
    enum pd_rc rc = pd_out_open(&o, path, err);
    if (rc != PD_OK)
        return rc;
    struct stat st; /* fopen made it with 0666, less what the umask takes */
    if (o.tmp && (fstat(fileno(o.f), &st) != 0 || fchmod(fileno(o.f), st.st_mode & mode) != 0)) {
        rc = PD_FAIL_SYS(err, PD_IO, "cannot set the mode of %s", path);
        goto out;
    }
    PD_TRY(pd_out_write(&o, bytes, err));
    PD_TRY(pd_out_commit(&o, err));
out:
    pd_out_abandon(&o);
    return rc;
}

enum pd_rc pd_map_file_open(struct pd_map_file *m, const char *path, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe would wait for a writer */
    if (fd < 0)
        return open_failed(path, err);
    if (fstat(fd, &st) != 0) {
        rc = PD_FAIL_SYS(err, PD_IO, "cannot stat %s", path);
    } else if (!S_ISREG(st.st_mode)) {
        rc = PD_FAIL(err, PD_IO, "%s is not a file", path);
    } else if (st.st_size == 0) {
        rc = PD_FAIL(err, PD_PARSE, "%s is empty", path);
    } else {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            rc = PD_FAIL_SYS(err, PD_IO, "cannot map %s", path);
        else
            *m = (struct pd_map_file){p, (size_t)st.st_size};
    }
    (void)close(fd);
    if (rc == PD_OK)
        pd_sig_watch_map(m->ptr, m->len, path);
    return rc;
}

void pd_map_file_close(struct pd_map_file *m)
{
    if (m->ptr) {
        pd_sig_unwatch_map(m->ptr);
        (void)munmap((void *)m->ptr, m->len);
    }
    *m = (struct pd_map_file){NULL, 0};
}

/* --- lines: zlib's gzFile reads plain and gzip alike --- */

struct pd_lines {
    gzFile gz;
    char *path;
    char *buf; /* bytes [at, end) are read and not yet returned */
    size_t at, end, cap, max_line, number;
    bool eof;
};

static enum pd_rc gz_open(gzFile *gz, const char *path, struct pd_err *err)
{
    bool is_stdin = strcmp(path, "-") == 0;
    errno = 0;
    *gz = is_stdin ? gzdopen(dup(STDIN_FILENO), "rb") : gzopen(path, "rbe");
    if (!*gz)
        return open_failed(path, err);
    if (pd_fs_is_dir(path)) {
        (void)gzclose(*gz);
        return PD_FAIL(err, PD_IO, "%s is a folder, not a file", path);
    }
    (void)gzbuffer(*gz, 1u << 18);
    return PD_OK;
}

static enum pd_rc gz_read_failed(gzFile gz, const char *path, struct pd_err *err)
{
    int code;
    const char *text = gzerror(gz, &code);
    if (code == Z_ERRNO)
        return PD_FAIL_SYS(err, PD_IO, "cannot read %s", path);
    return PD_FAIL(err, PD_PARSE, "%s: damaged gzip data: %s", path, text);
}

enum pd_rc pd_lines_open(struct pd_lines **out, const char *path, size_t max_line_bytes,
                         struct pd_err *err)
{
    gzFile gz;
    enum pd_rc rc = gz_open(&gz, path, err);
    if (rc != PD_OK)
        return rc;
    struct pd_lines *l = pd_xalloc(sizeof *l);
    l->gz = gz;
    l->path = pd_xstrdup(path);
    l->max_line = max_line_bytes;
    l->cap = 1u << 16;
    l->buf = pd_xalloc(l->cap);
    *out = l;
    return PD_OK;
}

/* Make room and read more bytes behind `end`. */
static enum pd_rc lines_fill(struct pd_lines *l, struct pd_err *err)
{
    if (l->at > 0) {
        memmove(l->buf, l->buf + l->at, l->end - l->at);
        l->end -= l->at;
        l->at = 0;
    }
    if (l->end == l->cap) {
        if (l->cap > l->max_line)
            return PD_FAIL(err, PD_TOOBIG, "%s:%zu: line is longer than %zu bytes", l->path,
                           l->number + 1, l->max_line);
        char *p = pd_try_realloc(l->buf, l->cap * 2, 1);
        if (!p)
            return PD_FAIL(err, PD_NOMEM, "%s:%zu: no memory for the line", l->path, l->number + 1);
        l->buf = p;
        l->cap *= 2;
    }
    int n = gzread(l->gz, l->buf + l->end, (unsigned)(l->cap - l->end));
    if (n < 0)
        return gz_read_failed(l->gz, l->path, err);
    if (n == 0) {
        int code;
        (void)gzerror(l->gz, &code);
        if (code != Z_OK && code != Z_STREAM_END)
            return PD_FAIL(err, PD_PARSE, "%s: gzip data ends too early", l->path);
        l->eof = true;
    }
    l->end += (size_t)n;
    return PD_OK;
}

enum pd_rc pd_lines_next(struct pd_lines *l, struct pd_str *line, bool *more, struct pd_err *err)
{
    size_t seen = 0; /* bytes already searched for the newline */
    for (;;) {
        size_t have = l->end - l->at;
        char *nl = have > seen ? memchr(l->buf + l->at + seen, '\n', have - seen) : NULL;
        if (nl || (l->eof && have)) {
            size_t n = nl ? (size_t)(nl - (l->buf + l->at)) : have;
            *line = (struct pd_str){l->buf + l->at, n};
            l->at += n + (nl != NULL);
            if (line->len && line->ptr[line->len - 1] == '\r')
                line->len--;
            if (l->number == 0 && pd_str_starts(*line, PD_STR("\xEF\xBB\xBF")))
                line->ptr += 3, line->len -= 3;
            l->number++;
            *more = true;
            return PD_OK;
        }
        if (l->eof) {
            *more = false;
            return PD_OK;
        }
        seen = have;
        enum pd_rc rc = lines_fill(l, err);
        if (rc != PD_OK)
            return rc;
    }
}

size_t pd_lines_number(const struct pd_lines *l)
{
    return l->number;
}

const char *pd_lines_path(const struct pd_lines *l)
{
    return l->path;
}

void pd_lines_close(struct pd_lines *l)
{
    if (!l)
        return;
    (void)gzclose(l->gz);
    pd_free(l->path);
    pd_free(l->buf);
    pd_free(l);
}

enum pd_rc pd_fs_read_maybe_gzip(const char *path, size_t max_bytes, struct pd_buf *out,
                                 struct pd_err *err)
{
    gzFile gz;
    enum pd_rc rc = gz_open(&gz, path, err);
    if (rc != PD_OK)
        return rc;
    char chunk[65536];
    size_t total = 0;
    int n;
    while ((n = gzread(gz, chunk, sizeof chunk)) > 0) {
        total += (size_t)n;
        if (total > max_bytes) {
            rc = PD_FAIL(err, PD_TOOBIG, "%s is larger than %zu bytes", path, max_bytes);
            goto out;
        }
        pd_buf_add(out, chunk, (size_t)n);
    }
    if (n < 0)
        rc = gz_read_failed(gz, path, err);
    else if (out->failed)
        rc = PD_FAIL(err, PD_NOMEM, "%s does not fit in memory", path);
out:
    (void)gzclose(gz);
    return rc;
}

/* --- atomic output --- */

enum pd_rc pd_out_open(struct pd_out *o, const char *path, struct pd_err *err)
{
    memset(o, 0, sizeof *o);
    if (strcmp(path, "-") == 0) {
        o->f = stdout;
        o->path = pd_xstrdup("standard output");
        return PD_OK;
    }
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    struct stat st;
    bool exists = stat(path, &st) == 0;
    if (!*name || (exists && S_ISDIR(st.st_mode)))
        return PD_FAIL(err, PD_IO, "%s is a folder, not a file", path);
    if (exists && !S_ISREG(st.st_mode)) { /* a device or a pipe is written to, never replaced */
        o->f = fopen(path, "wbe");
        if (!o->f)
            return PD_FAIL_SYS(err, PD_IO, "cannot write %s", path);
        o->path = pd_xstrdup(path);
        return PD_OK;
    }
    char *tmp = pd_xasprintf("%.*s.%s.tmp.%ld", (int)(name - path), path, name, (long)getpid());
    FILE *f = fopen(tmp, "wbe");
    if (!f) {
        enum pd_rc rc = PD_FAIL_SYS(err, PD_IO, "cannot write %s", path);
        pd_free(tmp);
        return rc;
    }
    (void)flock(fileno(f), LOCK_EX | LOCK_NB); /* by which pd_out_sweep knows that we live */
    o->f = f;
    o->tmp = tmp;
    o->path = pd_xstrdup(path);
    return PD_OK;
}

static void remove_if_left(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        (void)unlink(path);
    (void)close(fd);
}

void pd_out_sweep(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? pd_xstrndup(path, (size_t)(slash - path) + 1) : pd_xstrdup("./");
    char *stem = pd_xasprintf(".%s.tmp.", slash ? slash + 1 : path);
    size_t n = strlen(stem);
    DIR *d = opendir(dir);
    for (const struct dirent *e; d && (e = readdir(d));) {
        const char *pid = e->d_name + n;
        if (strncmp(e->d_name, stem, n) != 0 || !*pid || pid[strspn(pid, "0123456789")])
            continue;
        char *left = pd_xasprintf("%s%s", dir, e->d_name);
        remove_if_left(left);
        pd_free(left);
    }
    if (d)
        (void)closedir(d);
    pd_free(stem);
    pd_free(dir);
}

enum pd_rc pd_out_write(struct pd_out *o, struct pd_str bytes, struct pd_err *err)
{
    if (bytes.len && fwrite(bytes.ptr, 1, bytes.len, o->f) != bytes.len)
        return PD_FAIL_SYS(err, PD_IO, "cannot write %s", o->path);
    return PD_OK;
}

/* The rename is durable only once its folder is. */
static enum pd_rc sync_folder_of(const char *path, struct pd_err *err)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? pd_xstrndup(path, (size_t)(slash - path) + 1) : pd_xstrdup(".");
    enum pd_rc rc = pd_fs_sync_folder(dir, err);
    pd_free(dir);
    return rc;
}

enum pd_rc pd_out_commit(struct pd_out *o, struct pd_err *err)
{
    if (!o->tmp) {
        if (fflush(o->f) != 0)
            return PD_FAIL_SYS(err, PD_IO, "cannot write %s", o->path);
        if (o->f != stdout)
            (void)fclose(o->f);
        o->f = NULL;
        pd_free(o->path);
        o->path = NULL;
        return PD_OK;
    }
    if (fflush(o->f) != 0 || fsync(fileno(o->f)) != 0)
        return PD_FAIL_SYS(err, PD_IO, "cannot write %s", o->path);
    int closed = fclose(o->f);
    o->f = NULL;
    if (closed != 0)
        return PD_FAIL_SYS(err, PD_IO, "cannot write %s", o->path);
    if (rename(o->tmp, o->path) != 0)
        return PD_FAIL_SYS(err, PD_IO, "cannot move the finished file to %s", o->path);
    pd_free(o->tmp);
    o->tmp = NULL;
    enum pd_rc rc = sync_folder_of(o->path, err);
    pd_free(o->path);
    o->path = NULL;
    return rc;
}

void pd_out_abandon(struct pd_out *o)
{
    if (o->f && o->f != stdout)
        (void)fclose(o->f);
    if (o->tmp)
        (void)unlink(o->tmp);
    pd_free(o->tmp);
    pd_free(o->path);
    memset(o, 0, sizeof *o);
}

/* --- lock --- */

enum pd_rc pd_lock_open(int *fd_out, const char *path, struct pd_err *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return PD_FAIL_SYS(err, PD_IO, "cannot open the lock %s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        char pid[32] = "";
        ssize_t n = pread(fd, pid, sizeof pid - 1, 0);
        struct pd_str holder = pd_str_trim((struct pd_str){pid, n > 0 ? (size_t)n : 0});
        enum pd_rc rc = errno == EWOULDBLOCK ? PD_FAIL(err, PD_BUSY, "%s is held by process %.*s",
                                                       path, PD_STR_ARG(holder))
                                             : PD_FAIL_SYS(err, PD_IO, "cannot lock %s", path);
        (void)close(fd);
        return rc;
    }
    char pid[32];
    int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, (size_t)n, 0) != n) {
        enum pd_rc rc = PD_FAIL_SYS(err, PD_IO, "cannot write the lock %s", path);
        (void)close(fd);
        return rc;
    }
    *fd_out = fd;
    return PD_OK;
}

void pd_lock_close(int fd)
{
    if (fd >= 0)
        (void)close(fd);
}
