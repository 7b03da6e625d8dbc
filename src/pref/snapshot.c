/* Making a snapshot: one walk over the dataset for prompts and lines, clusters, splits, a file that
 * is hashed as it is written, then the row. */
#include "pref/snapshot.h"
#include "base/crypt.h"
#include "base/fs.h"
#include "base/map.h"
#include "base/mem.h"
#include "pref/bundle.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum pd_rc pd_splits_parse(struct pd_arena *a, struct pd_str text, struct pd_split **out, size_t *n,
                           struct pd_err *err)
{
    struct pd_str rest = text, part;
    size_t len = 0;
    double sum = 0;
    struct pd_split *list = pd_arena_alloc(a, (text.len + 1) * sizeof *list);
    while (pd_str_split(&rest, ',', &part)) {
        struct pd_str value = part, name;
        double share = 0;
        bool ok = pd_str_split(&value, '=', &name) && pd_str_trim(name).len &&
                  pd_str_to_f64(pd_str_trim(value), &share) && share > 0;
        name = pd_str_trim(name);
        for (size_t i = 0; ok && i < len; i++)
            ok = !pd_str_eqz(name, list[i].name);
        sum += share;
        if (!ok || sum > 1 + 1e-9)
            return PD_FAIL(err, PD_USAGE,
                           "splits '%.*s': expected NAME=SHARE,... with different names and shares "
                           "that sum to at most 1, such as train=0.8,test=0.2",
                           PD_STR_ARG(text));
        list[len++] = (struct pd_split){pd_arena_strndup(a, name.ptr, name.len), share};
    }
    *out = list;
    *n = len;
    return PD_OK;
}

char *pd_snapshot_path(struct pd_store *s, struct pd_arena *a, const char *hash)
{
    return pd_arena_printf(a, "%s/snapshots/%s.jsonl", pd_store_dir(s), hash);
}

/* ---- splits ---- */

struct cluster {
    char key[65]; /* hash of its first prompt: the order */
    size_t root, size;
    int split; /* -1: none */
};

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct cluster *)a)->key, ((const struct cluster *)b)->key);
}

/* Clusters in key order fill the splits in turn; each goes where the asked share is furthest from
 * reached at its middle. */
static void cut(struct cluster *cs, size_t n, size_t total, const struct pd_split *splits,
                size_t n_splits)
{
    size_t before = 0;
    qsort(cs, n, sizeof *cs, by_key);
    for (size_t i = 0; i < n; i++) {
        double at = ((double)before + (double)cs[i].size / 2) / (double)total, edge = 0;
        cs[i].split = -1;
        for (size_t k = 0; k < n_splits && cs[i].split < 0; k++) {
            edge += splits[k].share;
            if (at < edge || (k + 1 == n_splits && edge > 1 - 1e-9))
                cs[i].split = (int)k;
        }
        before += cs[i].size;
    }
}

/* split[i] of every prompt. */
static void assign(const struct pd_str *prompts, size_t n, const struct pd_split *splits,
                   size_t n_splits, int *split)
{
    size_t *root = pd_xalloc((n + 1) * sizeof *root), *slot = pd_xalloc((n + 1) * sizeof *slot);
    struct cluster *cs = pd_xalloc((n + 1) * sizeof *cs);
    size_t n_clusters = 0;
    pd_prompt_clusters(prompts, n, root);
    for (size_t i = 0; i < n; i++) {
        if (root[i] == i) {
            cs[n_clusters].root = i;
            pd_sha256_of(prompts[i], cs[n_clusters].key);
            slot[i] = n_clusters++;
        }
        cs[slot[root[i]]].size++;
    }
    cut(cs, n_clusters, n, splits, n_splits);
    for (size_t c = 0; c < n_clusters; c++)
        slot[cs[c].root] = c;
    for (size_t i = 0; i < n; i++)
        split[i] = cs[slot[root[i]]].split;
    pd_free(cs);
    pd_free(slot);
    pd_free(root);
}

/* ---- the file ---- */

struct writer {
    FILE *f;
    const char *path;
    struct pd_sha256 hash;
};

static enum pd_rc put_line(struct writer *w, struct pd_str line, struct pd_err *err)
{
    if (fwrite(line.ptr, 1, line.len, w->f) != line.len || fputc('\n', w->f) == EOF)
        return PD_FAIL_SYS(err, PD_IO, "cannot write %s", w->path);
    pd_sha256_add(&w->hash, line.ptr, line.len);
    pd_sha256_add(&w->hash, "\n", 1);
    return PD_OK;
}

/* The text a record is clustered by: its prompt field, whatever its form. */
static char *prompt_text(struct pd_arena *a, const struct pd_compare *c, struct json_object *fields)
{
    struct json_object *p = c->prompt ? pd_json_get(fields, c->prompt) : fields;
    struct pd_str s = pd_json_value_str(p);
    if (s.ptr)
        return pd_arena_strndup(a, s.ptr, s.len);
    return pd_arena_strdup(a, json_object_to_json_string_ext(p, JSON_C_TO_STRING_PLAIN));
}

struct prompts {
    struct pd_str *list;
    size_t n, cap;
};

static enum pd_rc read_prompts(struct pd_bundles *src, struct pd_arena *a, struct prompts *out,
                               struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_compare c;
    struct pd_bundle b;
    bool more = false;
    if (pd_compare_find(pd_bundles_head(src), NULL, &c, NULL) != PD_OK)
        c = (struct pd_compare){0}; /* nothing is compared: the whole record is the text */
    for (;;) {
        PD_TRY(pd_bundles_next(src, &b, &more, err));
        if (!more)
            break;
        if (out->n == out->cap) {
            out->cap = out->cap ? out->cap * 2 : 256;
            out->list = pd_xrealloc(out->list, out->cap * sizeof *out->list);
        }
        out->list[out->n++] = pd_str_from(prompt_text(a, &c, b.fields));
    }
out:
    return rc;
}

struct totals {
    int64_t records, judgments, split[64];
};

static enum pd_rc write_lines(struct pd_bundles *src, struct writer *w, const int *split, size_t n,
                              const struct pd_split *splits, struct totals *t, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_buf line;
    struct pd_str text = {0};
    bool more = false;
    pd_buf_init(&line, 0);
    for (size_t i = 0; i < n; i++) {
        struct json_object *tree = NULL;
        PD_TRY(pd_bundles_next_line(src, &text, &more, err));
        PD_ASSERT(more); /* the same view as when the prompts were read */
        PD_TRY(pd_json_parse(text, &tree, err));
        t->records++;
        t->judgments += (int64_t)json_object_array_length(pd_json_get(tree, "judgments"));
        json_object_put(tree);
        pd_buf_clear(&line);
        pd_buf_adds(&line, "{");
        if (split && split[i] >= 0) {
            struct pd_jw jw;
            pd_buf_adds(&line, "\"split\":");
            pd_jw_init(&jw, &line);
            pd_jw_strz(&jw, splits[split[i]].name);
            pd_buf_adds(&line, ",");
            t->split[split[i]]++;
        }
        pd_buf_add(&line, text.ptr + 1, text.len - 1);
        PD_TRY(put_line(w, pd_buf_str(&line), err));
    }
out:
    pd_buf_release(&line);
    return rc;
}

static void write_splits(const struct pd_split *splits, size_t n, struct pd_buf *out)
{
    struct pd_jw w;
    pd_jw_init(&w, out);
    pd_jw_object(&w);
    for (size_t i = 0; i < n; i++)
        pd_jw_kf64(&w, splits[i].name, splits[i].share);
    pd_jw_object_end(&w);
}

static void write_counts(const struct totals *t, const struct pd_split *splits, size_t n,
                         struct pd_buf *out)
{
    struct pd_jw w;
    pd_jw_init(&w, out);
    pd_jw_object(&w);
    pd_jw_ki64(&w, "records", t->records);
    pd_jw_ki64(&w, "judgments", t->judgments);
    pd_jw_key(&w, "splits");
    pd_jw_object(&w);
    for (size_t i = 0; i < n; i++)
        pd_jw_ki64(&w, splits[i].name, t->split[i]);
    pd_jw_object_end(&w);
    pd_jw_object_end(&w);
}

static enum pd_rc keep_file(struct writer *w, const char *path, const char *folder,
                            struct pd_err *err)
{
    if (fflush(w->f) != 0 || fsync(fileno(w->f)) != 0)
        return PD_FAIL_SYS(err, PD_IO, "cannot write %s", w->path);
    int bad = fclose(w->f);
    w->f = NULL;
    if (bad || rename(w->path, path) != 0)
        return PD_FAIL_SYS(err, PD_IO, "cannot write %s", path);
    int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* the name must last too */
    bad = dir < 0 || fsync(dir) != 0;
    enum pd_rc rc = bad ? PD_FAIL_SYS(err, PD_IO, "cannot write %s", folder) : PD_OK;
    if (dir >= 0)
        (void)close(dir);
    return rc;
}

static enum pd_rc insert_row(struct pd_store *s, struct pd_arena *a,
                             const struct pd_snapshot_new *in, struct pd_snapshot *out,
                             struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_tx tx = {0};
    int64_t id = 0;
    PD_TRY(pd_tx_begin(&tx, s, PD_TX_DURABLE, err));
    PD_TRY(pd_snapshot_insert(tx.db, in, &id, err));
    PD_TRY(pd_snapshot_get(tx.db, a, id, out, err));
    PD_TRY(pd_tx_commit(&tx, err));
out:
    pd_tx_abandon(&tx);
    return rc;
}

enum pd_rc pd_snapshot_make(struct pd_store *s, struct pd_arena *a, int64_t dataset_id,
                            const struct pd_split *splits, size_t n, struct pd_snapshot *out,
                            struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct prompts p = {0};
    struct pd_bundles *src = NULL;
    struct pd_buf splits_json, counts_json, head;
    struct totals t = {0};
    struct writer w = {0};
    char uuid[37], hash[65];
    int *split = NULL;
    pd_buf_init(&splits_json, 0);
    pd_buf_init(&counts_json, 0);
    pd_buf_init(&head, 0);
    if (n > 64) {
        rc = PD_FAIL(err, PD_TOOBIG, "at most 64 splits");
        goto out;
    }
    PD_TRY(pd_bundles_open_dataset(&src, s, dataset_id, err));
    PD_TRY(read_prompts(src, a, &p, err));
    if (!p.n) {
        rc = PD_FAIL(err, PD_INVALID, "nothing to freeze: no answer was submitted yet");
        goto out;
    }
    if (n) {
        split = pd_xalloc(p.n * sizeof *split);
        assign(p.list, p.n, splits, n, split);
    }
    write_splits(splits, n, &splits_json);
    pd_uuid_new(uuid);
    w.path = pd_arena_printf(a, "%s/tmp/snapshot-%s", pd_store_dir(s), uuid);
    pd_sha256_init(&w.hash);
    w.f = fopen(w.path, "wb");
    if (!w.f) {
        rc = PD_FAIL_SYS(err, PD_IO, "cannot write %s", w.path);
        goto out;
    }
    pd_bundles_rewind(src);
    pd_bundles_write_head(src, pd_buf_str(&splits_json), &head);
    PD_TRY(put_line(&w, pd_buf_str(&head), err));
    PD_TRY(write_lines(src, &w, split, p.n, splits, &t, err));
    pd_sha256_hex(&w.hash, hash);
    PD_TRY(keep_file(&w, pd_snapshot_path(s, a, hash),
                     pd_arena_printf(a, "%s/snapshots", pd_store_dir(s)), err));
    write_counts(&t, splits, n, &counts_json);
    PD_TRY(insert_row(s, a,
                      &(struct pd_snapshot_new){.dataset_id = dataset_id,
                                                .hash = hash,
                                                .splits = pd_buf_str(&splits_json),
                                                .counts = pd_buf_str(&counts_json)},
                      out, err));
out:
    if (w.f) {
        (void)fclose(w.f);
        (void)unlink(w.path);
    }
    pd_bundles_close(src);
    pd_buf_release(&head);
    pd_buf_release(&counts_json);
    pd_buf_release(&splits_json);
    pd_free(split);
    pd_free(p.list);
    return rc;
}

/* ---- comparing ---- */

/* What tells two versions of a record apart: its split, and a hash of the rest. */
struct version {
    uint64_t content, split;
};

static uint64_t hash64(struct pd_str s)
{
    char hex[65];
    uint64_t h = 0;
    pd_sha256_of(s, hex);
    for (int i = 0; i < 15; i++)
        h = h * 16 + (uint64_t)(hex[i] <= '9' ? hex[i] - '0' : hex[i] - 'a' + 10);
    return h;
}

struct versions {
    struct pd_map index; /* record -> position */
    struct version *list;
    size_t cap;
};

static enum pd_rc read_versions(const char *path, struct versions *v, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_bundles *src = NULL;
    struct pd_str line = {0};
    bool more = false;
    PD_TRY(pd_bundles_open_file(&src, path, NULL, err));
    for (;;) {
        struct json_object *tree = NULL;
        PD_TRY(pd_bundles_next_line(src, &line, &more, err));
        if (!more)
            break;
        PD_TRY(pd_json_parse(line, &tree, err));
        size_t n = v->index.len;
        if (n == v->cap) {
            v->cap = v->cap ? v->cap * 2 : 256;
            v->list = pd_xrealloc(v->list, v->cap * sizeof *v->list);
        }
        v->list[n].split = hash64(pd_json_str(tree, "split"));
        pd_map_put(&v->index, pd_json_str(tree, "record"), (int64_t)n);
        json_object_object_del(tree, "split");
        v->list[n].content =
            hash64(pd_str_from(json_object_to_json_string_ext(tree, JSON_C_TO_STRING_PLAIN)));
        json_object_put(tree);
    }
out:
    pd_bundles_close(src);
    return rc;
}

enum pd_rc pd_snapshot_compare(struct pd_store *s, const char *from_hash, const char *to_hash,
                               struct pd_snapshot_diff *out, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_arena a;
    struct versions from = {0}, to = {0};
    struct pd_snapshot_diff d = {0};
    pd_arena_init(&a);
    pd_map_init(&from.index);
    pd_map_init(&to.index);
    PD_TRY(read_versions(pd_snapshot_path(s, &a, from_hash), &from, err));
    PD_TRY(read_versions(pd_snapshot_path(s, &a, to_hash), &to, err));
    for (size_t i = 0; i < to.index.len; i++) {
        struct pd_str key = {to.index.entries[i].key, to.index.entries[i].key_len};
        int64_t at = 0;
        if (!pd_map_get(&from.index, key, &at)) {
            d.added++;
            continue;
        }
        bool changed = from.list[at].content != to.list[i].content;
        bool moved = from.list[at].split != to.list[i].split;
        d.changed += changed;
        d.moved += moved;
        d.same += !changed && !moved;
    }
    for (size_t i = 0; i < from.index.len; i++) {
        struct pd_str key = {from.index.entries[i].key, from.index.entries[i].key_len};
        d.removed += !pd_map_has(&to.index, key);
    }
    *out = d;
out:
    pd_free(from.list);
    pd_free(to.list);
    pd_map_release(&from.index);
    pd_map_release(&to.index);
    pd_arena_release(&a);
    return rc;
}
