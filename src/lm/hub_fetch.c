/* Requests to a hub, and the transfer of one file. */
#include "lm/hub_int.h"

#include "base/crypt.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/sha1.h"
#include "base/sig.h"
#include "net/uri.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_REDIRECTS = 5,
    MAX_TRIES = 5, /* of a file, in a row without progress */
    IDLE_SECONDS = 60,
    HASH_BYTES = 1 << 20,
};

/* ---- requests ---- */

/* "https://host:port" of a URL. */
static struct pd_str origin(const char *url)
{
    const char *host = strstr(url, "://");
    size_t n = host ? (size_t)(host - url) + 3 : 0;
    return (struct pd_str){url, n + strcspn(url + n, "/?#")};
}

static bool is_ours(const struct pd_hub *h, const char *url)
{
    return pd_str_eq(origin(url), origin(h->endpoint));
}

static bool stop(void *ctx)
{
    (void)ctx;
    return pd_sig_stop();
}

static enum pd_rc status_error(const struct pd_hub *h, const struct pd_http_call *c,
                               struct pd_err *err)
{
    if (c->status == 401 || c->status == 403)
        return PD_FAIL(err, c->status == 401 ? PD_UNAUTH : PD_FORBIDDEN,
                       "%s answers %d for %s/%s: %s, or there is no such model", h->endpoint,
                       c->status, h->owner, h->name,
                       h->token ? "HF_TOKEN does not open it (is its licence accepted?)"
                                : "it wants a token (HF_TOKEN)");
    if (c->status == 404)
        return PD_FAIL(err, PD_NOTFOUND, "%s has no %s", h->endpoint, c->url + origin(c->url).len);
    return PD_FAIL(err, c->status == 429 ? PD_TOOMANY : PD_IO, "%s answers %d", c->url, c->status);
}

/* A GET that follows redirects, the token going to our hub only, and never from https to http. */
enum pd_rc pd_hub_get(struct pd_hub *h, const char *url, const char *range, struct pd_http_call *c,
                      struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char *at = pd_xstrdup(url);
    for (int hops = 0;; hops++) {
        const char *headers[3] = {0};
        size_t n = 0;
        if (h->token && is_ours(h, at))
            headers[n++] = h->token;
        if (range)
            headers[n++] = range;
        c->method = "GET";
        c->url = at;
        c->headers = headers;
        c->body_fd = -1;
        c->stop = stop;
        c->conn = &h->conn;
        c->idle_timeout_s = IDLE_SECONDS;
        c->connect_timeout_ms = 20000;
        PD_TRY(pd_http_call(c, err));
        if (c->status < 300 || c->status >= 400 || !c->location[0])
            break;
        bool down = strncmp(at, "https:", 6) == 0 && strncmp(c->location, "https:", 6) != 0;
        if (hops == MAX_REDIRECTS || down) {
            rc = PD_FAIL(err, PD_IO, "%s: %s", url,
                         down ? "a redirect from https to http is not followed"
                              : "too many redirects");
            goto out;
        }
        pd_free(at);
        at = pd_xstrdup(c->location);
    }
    if (c->status != 200 && c->status != 206)
        rc = status_error(h, c, err);
out:
    c->url = NULL;
    c->headers = NULL;
    pd_free(at);
    return rc;
}

/* ---- one file ---- */

/* Either checksum, as a stream. Git's begins with "blob SIZE" and a NUL. */
struct sum {
    bool git;
    struct pd_sha1 sha1;
    struct pd_sha256 sha256;
};

static void sum_init(struct sum *s, const struct pd_hub_file *f)
{
    char head[40];
    s->git = f->git;
    pd_sha1_init(&s->sha1);
    pd_sha256_init(&s->sha256);
    int n = snprintf(head, sizeof head, "blob %" PRId64, f->bytes);
    pd_sha1_add(&s->sha1, head, (size_t)n + 1);
}

static void sum_add(struct sum *s, const void *p, size_t n)
{
    if (s->git)
        pd_sha1_add(&s->sha1, p, n);
    else
        pd_sha256_add(&s->sha256, p, n);
}

static bool sum_is(struct sum *s, const char *want)
{
    char hex[65];
    if (s->git)
        pd_sha1_hex(&s->sha1, hex);
    else
        pd_sha256_hex(&s->sha256, hex);
    return strcmp(hex, want) == 0;
}

struct transfer {
    struct pd_hub *hub;
    const struct pd_hub_file *file;
    char *part;
    int fd;
    int64_t have; /* bytes in the part */
    bool take;    /* what comes is the file, not the words of a redirect or an error */
    struct sum sum;
};

static enum pd_rc begin_again(struct transfer *t, struct pd_err *err)
{
    if (ftruncate(t->fd, 0) != 0 || lseek(t->fd, 0, SEEK_SET) != 0)
        return PD_FAIL_SYS(err, PD_IO, "%s", t->part);
    t->have = 0;
    sum_init(&t->sum, t->file);
    return PD_OK;
}

/* Opens what an earlier transfer left, and sums it up. */
static enum pd_rc open_part(struct transfer *t, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char *bytes = pd_xalloc(HASH_BYTES);
    ssize_t n = 0;
    t->fd = open(t->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (t->fd < 0) {
        rc = PD_FAIL_SYS(err, PD_IO, "cannot write %s", t->part);
        goto out;
    }
    sum_init(&t->sum, t->file);
    while ((n = read(t->fd, bytes, HASH_BYTES)) > 0) {
        sum_add(&t->sum, bytes, (size_t)n);
        t->have += n;
    }
    if (n < 0)
        rc = PD_FAIL_SYS(err, PD_IO, "cannot read %s", t->part);
    else if (t->have > t->file->bytes)
        rc = begin_again(t, err);
out:
    pd_free(bytes);
    return rc;
}

/* The rest was asked for; a server that sends the whole makes us begin again. */
static enum pd_rc on_head(void *ctx, const struct pd_http_call *c, struct pd_err *err)
{
    struct transfer *t = ctx;
    t->take = c->status == 200 || c->status == 206;
    return c->status == 200 && t->have > 0 ? begin_again(t, err) : PD_OK;
}

static enum pd_rc on_data(void *ctx, struct pd_str piece, struct pd_err *err)
{
    struct transfer *t = ctx;
    if (!t->take)
        return PD_OK;
    if (t->file->bytes - t->have < (int64_t)piece.len)
        return PD_FAIL(err, PD_INVALID, "%s: the hub sends more than its %" PRId64 " bytes",
                       t->file->name, t->file->bytes);
    sum_add(&t->sum, piece.ptr, piece.len);
    while (piece.len > 0) {
        ssize_t n = write(t->fd, piece.ptr, piece.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return PD_FAIL_SYS(err, PD_IO, "cannot write %s", t->part);
        piece.ptr += n;
        piece.len -= (size_t)n;
        t->have += n;
    }
    pd_progress_update(&t->hub->progress, (t->hub->done + t->have) / 1000000, t->file->name);
    return PD_OK;
}

static enum pd_rc fetch_rest(struct transfer *t, struct pd_err *err)
{
    struct pd_hub *h = t->hub;
    char range[64];
    struct pd_http_call c = {.on_head = on_head, .on_data = on_data, .ctx = t};
    struct pd_buf url;
    pd_buf_init(&url, 0);
    pd_buf_addf(&url, "%s/%s/%s/resolve/%s/", h->endpoint, h->owner, h->name, h->commit);
    pd_uri_encode(&url, pd_str_from(t->file->name));
    (void)snprintf(range, sizeof range, "Range: bytes=%" PRId64 "-", t->have);
    enum pd_rc rc = pd_hub_get(h, pd_buf_cstr(&url), t->have > 0 ? range : NULL, &c, err);
    pd_buf_release(&url);
    return rc;
}

/* Is it worth another try? */
static bool may_pass(enum pd_rc rc)
{
    return rc == PD_IO || rc == PD_TOOMANY;
}

static enum pd_rc fetch_all(struct transfer *t, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    int64_t before = t->have;
    for (int tries = 0; t->have < t->file->bytes; tries++) {
        rc = fetch_rest(t, err);
        if (t->have > before)
            tries = 0;
        before = t->have;
        if (rc != PD_OK && (!may_pass(rc) || tries + 1 >= MAX_TRIES))
            return rc;
        if (rc == PD_OK && t->have < t->file->bytes && tries + 1 >= MAX_TRIES)
            return PD_FAIL(err, PD_IO, "%s: %" PRId64 " of %" PRId64 " bytes came", t->file->name,
                           t->have, t->file->bytes);
        if (t->have < t->file->bytes)
            (void)nanosleep(&(struct timespec){.tv_nsec = 200000000L * (tries + 1)}, NULL);
    }
    return PD_OK;
}

enum pd_rc pd_hub_fetch(struct pd_hub *h, const struct pd_hub_file *f, const char *dir,
                        struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct stat st;
    char *path = pd_xasprintf("%s/%s", dir, f->name);
    struct transfer t = {.hub = h, .file = f, .fd = -1, .part = pd_xasprintf("%s.part", path)};
    if (stat(path, &st) == 0 && st.st_size == f->bytes)
        goto out; /* it was checked before it got its name */
    PD_TRY(open_part(&t, err));
    PD_TRY(fetch_all(&t, err));
    if (!sum_is(&t.sum, f->sum)) {
        (void)unlink(t.part);
        rc = PD_FAIL(err, PD_INVALID,
                     "%s of %s/%s: what came has another checksum than %s lists; it "
                     "was thrown away",
                     f->name, h->owner, h->name, h->endpoint);
        goto out;
    }
    if (fsync(t.fd) != 0 || rename(t.part, path) != 0)
        rc = PD_FAIL_SYS(err, PD_IO, "cannot put %s in its place", path);
out:
    if (t.fd >= 0)
        (void)close(t.fd);
    if (rc == PD_OK)
        h->done += f->bytes;
    pd_free(t.part);
    pd_free(path);
    return rc;
}
