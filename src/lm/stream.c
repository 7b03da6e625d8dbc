#include "lm/stream.h"
#include "base/mem.h"

#include <string.h>

void pd_stream_init(struct pd_stream *s)
{
    memset(s, 0, sizeof *s);
}

void pd_stream_release(struct pd_stream *s)
{
    pd_free(s->ids);
    pd_free(s->pos);
    pd_free(s->segs);
    pd_stream_init(s);
}

void pd_stream_clear(struct pd_stream *s)
{
    s->n_rows = 0;
    s->n_segs = 0;
}

static void reserve_rows(struct pd_stream *s, int64_t extra)
{
    if (s->n_rows + extra <= s->cap_rows)
        return;
    int64_t cap = s->cap_rows ? s->cap_rows : 256;
    while (cap < s->n_rows + extra)
        cap *= 2;
    s->ids = pd_xrealloc(s->ids, (size_t)cap * sizeof *s->ids);
    s->pos = pd_xrealloc(s->pos, (size_t)cap * sizeof *s->pos);
    s->cap_rows = cap;
}

int64_t pd_stream_path_len(const struct pd_stream *s, int leaf)
{
    if (leaf < 0)
        return 0;
    const struct pd_segment *g = &s->segs[leaf];
    return s->pos[g->start] + g->len;
}

int pd_stream_add(struct pd_stream *s, int parent, const int32_t *ids, int64_t len)
{
    PD_ASSERT(len >= 1 && parent >= -1 && parent < s->n_segs);
    int64_t base = pd_stream_path_len(s, parent);
    PD_ASSERT(base + len <= INT32_MAX);
    reserve_rows(s, len);
    if (s->n_segs == s->cap_segs) {
        s->cap_segs = s->cap_segs ? 2 * s->cap_segs : 16;
        s->segs = pd_xrealloc(s->segs, (size_t)s->cap_segs * sizeof *s->segs);
    }
    s->segs[s->n_segs] = (struct pd_segment){.start = s->n_rows, .len = len, .parent = parent};
    memcpy(s->ids + s->n_rows, ids, (size_t)len * sizeof *ids);
    for (int64_t t = 0; t < len; t++)
        s->pos[s->n_rows + t] = (int32_t)(base + t);
    s->n_rows += len;
    return s->n_segs++;
}

/* How far the members of a group, which agree up to `depth`, go on agreeing. */
static int64_t common_len(const struct pd_sequence *seqs, const int *group, int n, int64_t depth)
{
    const struct pd_sequence *a = &seqs[group[0]];
    int64_t len = a->len;
    for (int i = 1; i < n; i++) {
        const struct pd_sequence *b = &seqs[group[i]];
        int64_t t = depth;
        while (t < len && t < b->len && a->ids[t] == b->ids[t])
            t++;
        len = t;
    }
    return len;
}

static bool alone(const struct pd_stream *s, const struct pd_sequence *seq)
{
    return s->share_limit > 0 && seq->len > s->share_limit;
}

/* Places the group, which agrees on its first `depth` tokens (they end in segment `parent`), and
 * returns the rows it takes. With s NULL it only counts. `group` is reordered. */
static int64_t place(struct pd_stream *s, const struct pd_sequence *seqs, int *leaf, int *group,
                     int n, int64_t depth, int parent)
{
    int64_t rows = 0;
    int at = 0;
    while (at < n) {
        if (seqs[group[at]].len == depth) {
            if (leaf)
                leaf[group[at]] = parent;
            at++;
            continue;
        }
        /* bring those that go on with the same token to the front, in their order */
        int32_t next = seqs[group[at]].ids[depth];
        int end = at + 1;
        for (int i = at + 1; i < n; i++) {
            int g = group[i];
            if (s && depth == 0 && (alone(s, &seqs[g]) || alone(s, &seqs[group[at]])))
                continue;
            if (seqs[g].len > depth && seqs[g].ids[depth] == next) {
                memmove(group + end + 1, group + end, (size_t)(i - end) * sizeof *group);
                group[end++] = g;
            }
        }
        int64_t upto = common_len(seqs, group + at, end - at, depth);
        int seg = parent;
        if (s)
            seg = pd_stream_add(s, parent, seqs[group[at]].ids + depth, upto - depth);
        rows += upto - depth;
        rows += place(s, seqs, leaf, group + at, end - at, upto, seg);
        at = end;
    }
    return rows;
}

static int64_t place_all(struct pd_stream *s, const struct pd_sequence *seqs, int *leaf, int n)
{
    int *group = pd_xalloc(((size_t)n + 1) * sizeof *group);
    for (int i = 0; i < n; i++) {
        PD_ASSERT(seqs[i].len >= 1);
        group[i] = i;
    }
    int64_t rows = place(s, seqs, leaf, group, n, 0, -1);
    pd_free(group);
    return rows;
}

void pd_stream_add_sequences(struct pd_stream *s, struct pd_sequence *seqs, int n)
{
    int *leaf = pd_xalloc(((size_t)n + 1) * sizeof *leaf);
    place_all(s, seqs, leaf, n);
    for (int i = 0; i < n; i++)
        seqs[i].leaf = leaf[i];
    pd_free(leaf);
}

int64_t pd_sequences_rows(const struct pd_sequence *seqs, int n)
{
    return place_all(NULL, seqs, NULL, n);
}

int64_t pd_stream_row(const struct pd_stream *s, int leaf, int64_t t)
{
    PD_ASSERT(t >= 0 && t < pd_stream_path_len(s, leaf));
    while (t < s->pos[s->segs[leaf].start])
        leaf = s->segs[leaf].parent;
    return s->segs[leaf].start + t - s->pos[s->segs[leaf].start];
}
