/* What a thread does for one token, and what it reads next, fetched while it works. */
#ifndef PD_TENSOR_KERNEL_ATTN_AHEAD_H
#define PD_TENSOR_KERNEL_ATTN_AHEAD_H

#include "tensor/kernel/attn_tile.h"

/* A query token: row i of a segment. seg NULL: none. */
struct token {
    const struct pd_attn_seg *seg;
    int64_t i;
};
static inline struct reader keys_of(const struct pd_attn *a, struct token x)
{
    const int64_t pos = x.seg ? x.seg->pos + x.i : 0;
    return (struct reader){.seg = x.seg, .first = pos, .last = pos, .quads = a->kv == PD_KV_INT8};
}

/* The heads that a thread does for one token: whole groups, or parts of them. Row r of the tile is
 * head first + r. */
struct head_run {
    int first, n;
    int kv, kv_end; /* whose groups they are of */
};
static inline struct head_run head_run(int first, int n, int G)
{
    return (struct head_run){first, n, first / G, (first + n - 1) / G + 1};
}
/* Rows of kv head `kv`, from *row on. */
static inline int64_t rows_of_kv(const struct tile *t, const struct head_run *h, int kv,
                                 int64_t *row)
{
    const int64_t lo = kv * t->G - h->first, hi = lo + t->G;
    *row = lo > 0 ? lo : 0;
    return (hi < h->n ? hi : h->n) - *row;
}

/* How many of n heads, at most `most`, to begin with: no last one alone where that can be. */
PD_INLINE int64_t some_heads(int64_t n, const int64_t most)
{
    return n == most + 1 ? (most + 2) / 2 : n < most ? n : most;
}

/* CALL(nh) for heads h .. h + nh - 1 of n, by groups of nh, a constant of a case. */
#define PD_BY_HEADS(h, n, most, CASES, CALL)                                                       \
    for (int64_t h = 0, some; h < (n); h += some) {                                                \
        some = some_heads((n)-h, most);                                                            \
        switch (some) {                                                                            \
            CASES(CALL)                                                                            \
        }                                                                                          \
    }

/* Places of a piece that scores are made of at a time; that values are summed of. */
PD_INLINE int64_t score_places(const enum pd_kv_type kv)
{
    return kv == PD_KV_INT8 ? 2 * QUAD : 4;
}
enum { MIXED = 16 };

/* The keys and values that come next, on their way into the second-level cache while those that are
 * there are worked on: a few lines at a time, so that memory is never idle and never waited for. */
struct ahead {
    struct keys keys;
    int piece;
    enum pd_kv_half half; /* of the piece: its keys, then its values */
    int64_t row;
    uintptr_t at, end; /* what lies together before that */
    int kv, n_kv;
    int64_t per; /* lines at a time */
};

static inline int64_t steps_of(const struct keys *k, enum pd_kv_type kv)
{
    int64_t n = 0;
    for (const struct piece *p = k->piece; p < k->piece + k->n_pieces; p++)
        n +=
            (p->places + score_places(kv) - 1) / score_places(kv) + (p->places + MIXED - 1) / MIXED;
    return n;
}

enum { LINE = 64 };

/* meanwhile: what is worked on. */
static inline void ahead_begin(struct ahead *f, const struct tile *t, const struct keys *meanwhile,
                               const struct head_run *h)
{
    const struct pd_attn *a = t->a;
    const int64_t width = (h->kv_end - h->kv) * a->hsk * pd_kv_value_bytes(a->kv);
    const int64_t steps = (h->kv_end - h->kv) * steps_of(meanwhile, a->kv) + 1;
    const int64_t lines = 2 * f->keys.n * (width / LINE + 1);
    /* nothing, unless the heads of a row stand side by side */
    f->piece = a->hsk == pd_kv_head_values(a->kv, t->D) ? 0 : f->keys.n_pieces;
    f->half = PD_KV_KEYS;
    f->row = 0;
    f->at = f->end = 0;
    f->kv = h->kv;
    f->n_kv = h->kv_end - h->kv;
    f->per = (lines + steps - 1) / steps;
}

static inline void ahead_scales(const struct ahead *f, const struct tile *t, const struct piece *p)
{
    const float *scale = span_scales(p->span, f->half);
    for (int i = 0; i < f->n_kv; i++)
        __builtin_prefetch(scale + (f->kv + i) * t->a->ld_scale + p->first, 0, 2);
}

/* The next rows, or quads of them, that follow each other; false when all are fetched. */
static inline bool ahead_run(struct ahead *f, const struct tile *t)
{
    if (f->piece == f->keys.n_pieces)
        return false;
    const struct pd_attn *a = t->a;
    const struct piece *p = &f->keys.piece[f->piece];
    const int64_t width = f->n_kv * a->hsk, together = a->kv == PD_KV_INT8 ? QUAD : 1;
    const int64_t rows = width == a->ldk ? p->places : together;
    if (f->row == 0 && a->kv == PD_KV_INT8)
        ahead_scales(f, t, p);
    const char *base = span_rows(p->span, f->half);
    const int64_t row = p->first - p->before + f->row;
    const int64_t from = row * a->ldk + together * f->kv * a->hsk;
    const uintptr_t at = (uintptr_t)(base + from * pd_kv_value_bytes(a->kv));
    f->at = at - at % LINE;
    f->end = at + (uintptr_t)(rows * width * pd_kv_value_bytes(a->kv));
    f->row += rows;
    if (f->row < p->places)
        return true;
    f->row = 0;
    f->piece += f->half == PD_KV_VALUES;
    f->half = f->half == PD_KV_KEYS ? PD_KV_VALUES : PD_KV_KEYS;
    return true;
}

static inline void ahead_some(struct ahead *f, const struct tile *t)
{
    for (int64_t i = 0; i < f->per; i++, f->at += LINE) {
        if (f->at >= f->end && !ahead_run(f, t))
            return;
        __builtin_prefetch((const void *)f->at, 0, 2);
    }
}

/* All at once, for who finds nothing to do meanwhile. */
static inline void ahead_all(struct ahead *f, const struct tile *t, const struct keys *keys,
                             const struct head_run *h)
{
    f->keys = *keys;
    ahead_begin(f, t, keys, h);
    f->per = INT64_MAX;
    ahead_some(f, t);
}

#endif
