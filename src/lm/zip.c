#include "lm/zip.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    LOCAL = 0x04034b50,   /* 30 bytes, name, extra, data */
    CENTRAL = 0x02014b50, /* 46 bytes, name, extra, comment */
    END = 0x06054b50,     /* 22 bytes, comment of at most 64 KiB */
    END64 = 0x06064b50,   /* 56 bytes and more */
    LOCATOR64 = 0x07064b50,
    LOCAL_BYTES = 30,
    CENTRAL_BYTES = 46,
    END_BYTES = 22,
    LOCATOR_BYTES = 20,
    END64_BYTES = 56,
    EXTRA_ZIP64 = 1,
    FLAG_ENCRYPTED = 1,
    MAX_MEMBERS = 1 << 20,
};

struct reader {
    const unsigned char *p;
    size_t n;
    const char *path;
    struct pd_err *err;
};

static uint64_t le(const unsigned char *p, int bytes)
{
    uint64_t v = 0;
    for (int i = bytes - 1; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

/* Is there room for `need` bytes at `at`? */
static bool fits(const struct reader *r, uint64_t at, uint64_t need)
{
    return at <= r->n && need <= r->n - at;
}

struct directory {
    uint64_t at, bytes, count;
};

static enum pd_rc find_end(const struct reader *r, size_t *at)
{
    if (r->n >= END_BYTES)
        for (size_t back = 0; back <= 0xffff && back + END_BYTES <= r->n; back++) {
            size_t here = r->n - END_BYTES - back;
            if (le(r->p + here, 4) == END && le(r->p + here + 20, 2) == back) {
                *at = here;
                return PD_OK;
            }
        }
    return PD_FAIL(r->err, PD_PARSE,
                   "%s: no end of a ZIP archive in its %zu bytes: truncated, or a file of torch "
                   "before 1.6",
                   r->path, r->n);
}

static enum pd_rc find_directory(const struct reader *r, struct directory *d)
{
    size_t end = 0;
    enum pd_rc rc = find_end(r, &end);
    if (rc != PD_OK)
        return rc;
    d->count = le(r->p + end + 10, 2);
    d->bytes = le(r->p + end + 12, 4);
    d->at = le(r->p + end + 16, 4);
    if (end >= LOCATOR_BYTES && le(r->p + end - LOCATOR_BYTES, 4) == LOCATOR64) {
        uint64_t at = le(r->p + end - LOCATOR_BYTES + 8, 8);
        if (!fits(r, at, END64_BYTES) || le(r->p + at, 4) != END64)
            return PD_FAIL(r->err, PD_PARSE, "%s: no zip64 end at byte %" PRIu64, r->path, at);
        d->count = le(r->p + at + 32, 8);
        d->bytes = le(r->p + at + 40, 8);
        d->at = le(r->p + at + 48, 8);
        end = (size_t)at;
    }
    if (d->at > end || d->bytes > end - d->at || d->count > MAX_MEMBERS ||
        d->count > d->bytes / CENTRAL_BYTES)
        return PD_FAIL(r->err, PD_PARSE,
                       "%s: a ZIP directory of %" PRIu64 " members in %" PRIu64
                       " bytes at byte %" PRIu64 " does not fit",
                       r->path, d->count, d->bytes, d->at);
    return PD_OK;
}

/* One entry of the directory. */
struct entry {
    struct pd_str name;
    uint64_t bytes, packed, local;
    unsigned flags, method;
};

/* Sizes of 4 GiB and more stand in the zip64 field, those that are 0xffffffff, in this order. */
static bool read_zip64(struct entry *e, const unsigned char *extra, size_t n)
{
    uint64_t *const wide[] = {&e->bytes, &e->packed, &e->local};
    while (n >= 4) {
        size_t id = (size_t)le(extra, 2), len = (size_t)le(extra + 2, 2);
        if (len > n - 4)
            return false;
        if (id == EXTRA_ZIP64) {
            const unsigned char *p = extra + 4;
            for (size_t i = 0; i < 3; i++)
                if (*wide[i] == 0xffffffffu) {
                    if (len < 8)
                        return false;
                    *wide[i] = le(p, 8);
                    p += 8;
                    len -= 8;
                }
            return true;
        }
        extra += 4 + len;
        n -= 4 + len;
    }
    return e->bytes != 0xffffffffu && e->packed != 0xffffffffu && e->local != 0xffffffffu;
}

/* *at moves to the next entry. */
static enum pd_rc read_entry(const struct reader *r, uint64_t end, uint64_t *at, struct entry *e)
{
    const unsigned char *p = r->p + *at;
    if (end - *at < CENTRAL_BYTES || le(p, 4) != CENTRAL)
        return PD_FAIL(r->err, PD_PARSE, "%s: no ZIP directory entry at byte %" PRIu64, r->path,
                       *at);
    size_t name = (size_t)le(p + 28, 2), extra = (size_t)le(p + 30, 2);
    size_t all = CENTRAL_BYTES + name + extra + (size_t)le(p + 32, 2);
    if (all > end - *at)
        return PD_FAIL(r->err, PD_PARSE,
                       "%s: the ZIP directory entry at byte %" PRIu64 " is cut off", r->path, *at);
    *e = (struct entry){.name = {(const char *)p + CENTRAL_BYTES, name},
                        .flags = (unsigned)le(p + 8, 2),
                        .method = (unsigned)le(p + 10, 2),
                        .packed = le(p + 20, 4),
                        .bytes = le(p + 24, 4),
                        .local = le(p + 42, 4)};
    if (!read_zip64(e, p + CENTRAL_BYTES + name, extra))
        return PD_FAIL(r->err, PD_PARSE, "%s: member %.*s: its zip64 sizes are cut off", r->path,
                       PD_STR_ARG(e->name));
    *at += all;
    return PD_OK;
}

/* Where the data of a member lie: after its local header, whose own lengths count. */
static enum pd_rc locate(const struct reader *r, uint64_t limit, const struct entry *e,
                         struct pd_zip_member *m)
{
    if (e->flags & FLAG_ENCRYPTED || e->method != 0 || e->packed != e->bytes)
        return PD_FAIL(r->err, PD_UNSUPPORTED,
                       "%s: member %.*s is compressed or encrypted; torch stores them plainly",
                       r->path, PD_STR_ARG(e->name));
    if (e->local > limit || limit - e->local < LOCAL_BYTES || le(r->p + e->local, 4) != LOCAL)
        return PD_FAIL(r->err, PD_PARSE, "%s: member %.*s: no local header at byte %" PRIu64,
                       r->path, PD_STR_ARG(e->name), e->local);
    const unsigned char *p = r->p + e->local;
    uint64_t head = LOCAL_BYTES + le(p + 26, 2) + le(p + 28, 2);
    if (head > limit - e->local || e->bytes > limit - e->local - head)
        return PD_FAIL(r->err, PD_PARSE,
                       "%s: member %.*s: its %" PRIu64 " bytes at byte %" PRIu64
                       " reach past the archive's data",
                       r->path, PD_STR_ARG(e->name), e->bytes, e->local);
    struct pd_str name = {(const char *)p + LOCAL_BYTES, (size_t)le(p + 26, 2)};
    if (!pd_str_eq(name, e->name) || le(p + 8, 2) != 0)
        return PD_FAIL(r->err, PD_PARSE, "%s: member %.*s: its local header says something else",
                       r->path, PD_STR_ARG(e->name));
    *m = (struct pd_zip_member){e->name, p + head, (size_t)e->bytes};
    return PD_OK;
}

struct extent {
    uint64_t begin, end;
    size_t member;
};

static int by_begin(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

static enum pd_rc check_overlap(const struct reader *r, const struct pd_zip *z,
                                struct extent *extents)
{
    qsort(extents, z->n, sizeof *extents, by_begin);
    for (size_t i = 1; i < z->n; i++)
        if (extents[i].begin < extents[i - 1].end)
            return PD_FAIL(r->err, PD_PARSE, "%s: members %.*s and %.*s lie over each other",
                           r->path, PD_STR_ARG(z->v[extents[i - 1].member].name),
                           PD_STR_ARG(z->v[extents[i].member].name));
    return PD_OK;
}

static enum pd_rc read_members(const struct reader *r, const struct directory *d, struct pd_zip *z,
                               struct extent *extents)
{
    enum pd_rc rc = PD_OK;
    uint64_t at = d->at;
    for (; z->n < d->count; z->n++) {
        struct entry e = {0};
        PD_TRY(read_entry(r, d->at + d->bytes, &at, &e));
        PD_TRY(locate(r, d->at, &e, &z->v[z->n]));
        const unsigned char *end = z->v[z->n].data + z->v[z->n].bytes;
        extents[z->n] = (struct extent){e.local, (uint64_t)(end - r->p), z->n};
        if (!pd_map_put(&z->index, e.name, (int64_t)z->n))
            return PD_FAIL(r->err, PD_PARSE, "%s: two members are called %.*s", r->path,
                           PD_STR_ARG(e.name));
    }
    PD_TRY(check_overlap(r, z, extents));
out:
    return rc;
}

enum pd_rc pd_zip_open(struct pd_zip *z, const void *bytes, size_t n, const char *path,
                       struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct reader r = {bytes, n, path, err};
    struct directory d = {0};
    struct extent *extents = NULL;
    struct pd_zip made = {0};
    pd_map_init(&made.index);
    PD_TRY(find_directory(&r, &d));
    made.v = pd_try_alloc((size_t)d.count + 1, sizeof *made.v);
    extents = pd_try_alloc((size_t)d.count + 1, sizeof *extents);
    if (!made.v || !extents) {
        rc = PD_FAIL(err, PD_NOMEM, "%s: no memory for %" PRIu64 " members", path, d.count);
        goto out;
    }
    PD_TRY(read_members(&r, &d, &made, extents));
    *z = made;
    made = (struct pd_zip){0};
    pd_map_init(&made.index);
out:
    pd_free(extents);
    pd_zip_release(&made);
    return rc;
}

void pd_zip_release(struct pd_zip *z)
{
    pd_map_release(&z->index);
    pd_free(z->v);
    z->v = NULL;
    z->n = 0;
}

const struct pd_zip_member *pd_zip_find(const struct pd_zip *z, struct pd_str name)
{
    int64_t i;
    return pd_map_get(&z->index, name, &i) ? &z->v[i] : NULL;
}
