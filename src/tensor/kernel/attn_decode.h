/* Attention of one new token: too few rows for tiles, so dot products over keys and values where
 * they lie, turned into fp32 on the way; of keys of 8 bits, integer products. */
#ifndef PD_TENSOR_KERNEL_ATTN_DECODE_H
#define PD_TENSOR_KERNEL_ATTN_DECODE_H

#include "tensor/kernel/attn_tile.h"

/* a + b, of integers or of floats. */
PD_INLINE vf plus(const bool integers, vf a, vf b)
{
    return integers ? (vf)((vi)a + (vi)b) : a + b;
}

/* to[0..3] = the sums of four vectors, by adding them crosswise in their 128-bit quarters first. */
PD_INLINE void sum4(const bool integers, const vf *v, float *to)
{
    vi lo, hi, first, second;
    for (int i = 0; i < PD_LANES; i++) {
        const int lane = i / 4 * 4, other = i % 2 * PD_LANES; /* of a, b, a, b */
        lo[i] = other + lane + i % 4 / 2;
        hi[i] = other + lane + 2 + i % 4 / 2;
        first[i] = i % 4 / 2 * PD_LANES + lane + i % 2;
        second[i] = i % 4 / 2 * PD_LANES + lane + 2 + i % 2;
    }
    const vf ab = plus(integers, v_shuffle(v[0], v[1], lo), v_shuffle(v[0], v[1], hi));
    const vf cd = plus(integers, v_shuffle(v[2], v[3], lo), v_shuffle(v[2], v[3], hi));
    vf sum = plus(integers, v_shuffle(ab, cd, first), v_shuffle(ab, cd, second));
#if PD_LANES >= 16
    sum = plus(integers, sum, v_swap(sum, 8));
#endif
#if PD_LANES >= 8
    sum = plus(integers, sum, v_swap(sum, 4));
#endif
    if (integers)
        sum = __builtin_convertvector((vi)sum, vf);
    memcpy(to, &sum, 4 * sizeof *to);
}

/* Query heads that go together over a key: with four keys, or with four vectors of a value, their
 * sums fill the registers. X for each number of them. */
#if PD_LANES >= 16
enum { TOGETHER = 4 };
#define HEADS_TOGETHER(X) X(4) X(3) X(2) X(1)
#else
enum { TOGETHER = 3 };
#define HEADS_TOGETHER(X) X(3) X(2) X(1)
#endif
/* How many of G heads, of which h are done: cut evenly. */
PD_INLINE int64_t together(int64_t G, int64_t h)
{
    const int64_t lots = (G - h + TOGETHER - 1) / TOGETHER;
    return (G - h + lots - 1) / lots;
}

/* Keys of a head at a time, whose products sum4 adds; values. */
enum { DOTS = 4, MIXED = 16 };

/* s[h][j] = q_h . k_j for nh heads and nk keys, DOTS or 1. */
PD_INLINE void dots(const enum pd_kv_type as, const int nh, const int nk, int64_t D, const float *q,
                    const void *k, int64_t at, int64_t ldk, float *s)
{
    vf acc[TOGETHER][DOTS];
#pragma GCC unroll 4
    for (int h = 0; h < nh; h++)
#pragma GCC unroll 4
        for (int j = 0; j < nk; j++)
            acc[h][j] = (vf){0};
    int64_t d = 0;
    for (; d + PD_LANES <= D; d += PD_LANES) {
        vf kv[DOTS];
#pragma GCC unroll 4
        for (int j = 0; j < nk; j++)
            kv[j] = kv_load(as, k, at + j * ldk + d);
#pragma GCC unroll 4
        for (int h = 0; h < nh; h++) {
            const vf x = v_load(q + h * D + d);
#pragma GCC unroll 4
            for (int j = 0; j < nk; j++)
                acc[h][j] += x * kv[j];
        }
    }
#pragma GCC unroll 4
    for (int h = 0; h < nh; h++) {
        if (nk == DOTS)
            sum4(false, acc[h], s + h * KEYS);
        else
            s[h * KEYS] = v_sum(acc[h][0]);
        for (int64_t e = d; e < D; e++)
            for (int j = 0; j < nk; j++)
                s[h * KEYS + j] += q[h * D + e] * kv_one(as, k, at + j * ldk + e);
    }
}

/* s[h][j] = the sum of products of a query's words and a key's bytes. */
PD_INLINE void word_dots(const int nh, const int nk, int64_t D, const int16_t *q, int64_t ldq,
                         const int8_t *k, int64_t ldk, float *s)
{
    enum { STEP = 2 * PD_LANES };
    vi acc[TOGETHER][DOTS];
#pragma GCC unroll 4
    for (int h = 0; h < nh; h++)
#pragma GCC unroll 4
        for (int j = 0; j < nk; j++)
            acc[h][j] = (vi){0};
    for (int64_t d = 0; d < D; d += STEP) {
        vw kv[DOTS];
#pragma GCC unroll 4
        for (int j = 0; j < nk; j++)
            kv[j] = D - d >= STEP ? words_of_bytes(k + j * ldk + d, STEP)
                                  : words_of_bytes(k + j * ldk + d, D - d);
#pragma GCC unroll 4
        for (int h = 0; h < nh; h++) {
            vw x;
            memcpy(&x, q + h * ldq + d, sizeof x);
#pragma GCC unroll 4
            for (int j = 0; j < nk; j++)
                acc[h][j] = add_products(acc[h][j], x, kv[j]);
        }
    }
#pragma GCC unroll 4
    for (int h = 0; h < nh; h++) {
        vf sums[DOTS];
#pragma GCC unroll 4
        for (int j = 0; j < nk; j++)
            sums[j] = (vf)acc[h][j];
        if (nk == DOTS)
            sum4(true, sums, s + h * KEYS);
        else
            s[h * KEYS] = v_sum(__builtin_convertvector(acc[h][0], vf));
    }
}

/* Scores s of n keys for query rows row .. row + n_rows - 1 of one kv head. */
PD_INLINE void all_dots(const enum pd_kv_type as, const struct tile *t, int64_t row, int64_t n_rows,
                        int64_t n, const void *k, int64_t at, float *s)
{
    const int64_t ldk = t->a->ldk;
    for (int64_t h = 0, nh; h < n_rows; h += nh) {
        const float *q = t->q + (row + h) * t->D;
        const int16_t *words = t->words + (row + h) * t->ldw;
        float *to = s + h * KEYS;
        int64_t j = 0;
        nh = together(n_rows, h);
        switch (nh) {
#define SOME(nh, nk)                                                                               \
    if (as == PD_KV_INT8)                                                                          \
        word_dots(nh, nk, t->D, words, t->ldw, (const int8_t *)k + at + j * ldk, ldk, to + j);     \
    else                                                                                           \
        dots(as, nh, nk, t->D, q, k, at + j * ldk, ldk, to + j);
#define HEADS(x)                                                                                   \
    case x:                                                                                        \
        for (; j + DOTS <= n; j += DOTS)                                                           \
            SOME(x, DOTS)                                                                          \
        for (; j < n; j++)                                                                         \
            SOME(x, 1)                                                                             \
        break;
            HEADS_TOGETHER(HEADS)
#undef HEADS
#undef SOME
        }
    }
}

/* o[h][d] += sum over n values of s[h][j] v_j[d], for nh heads and nv vectors of d. */
PD_INLINE void mix(const enum pd_kv_type as, const int nh, const int nv, int64_t n, int64_t D,
                   const float *s, int64_t lds, const void *v, int64_t at, int64_t ldv, float *o)
{
    vf acc[TOGETHER][4];
#pragma GCC unroll 4
    for (int h = 0; h < nh; h++)
#pragma GCC unroll 4
        for (int i = 0; i < nv; i++)
            acc[h][i] = v_load(o + h * D + i * PD_LANES);
    for (int64_t j = 0; j < n; j++) {
        vf x[TOGETHER];
#pragma GCC unroll 4
        for (int h = 0; h < nh; h++)
            x[h] = v_set(s[h * lds + j]);
#pragma GCC unroll 4
        for (int i = 0; i < nv; i++) {
            const vf kv = kv_load(as, v, at + j * ldv + i * PD_LANES);
#pragma GCC unroll 4
            for (int h = 0; h < nh; h++)
                acc[h][i] += x[h] * kv;
        }
    }
#pragma GCC unroll 4
    for (int h = 0; h < nh; h++)
#pragma GCC unroll 4
        for (int i = 0; i < nv; i++)
            v_store(o + h * D + i * PD_LANES, acc[h][i]);
}

PD_INLINE void mix_heads(const enum pd_kv_type as, const int nh, int64_t n, int64_t D,
                         const float *s, int64_t lds, const void *v, int64_t at, int64_t ldv,
                         float *o)
{
    enum { LOT = 4 * PD_LANES };
    int64_t d = 0;
    for (; d + LOT <= D; d += LOT)
        mix(as, nh, 4, n, D, s, lds, v, at + d, ldv, o + d);
    for (; d + PD_LANES <= D; d += PD_LANES)
        mix(as, nh, 1, n, D, s, lds, v, at + d, ldv, o + d);
    for (; d < D; d++)
        for (int h = 0; h < nh; h++)
            for (int64_t j = 0; j < n; j++)
                o[h * D + d] += s[h * lds + j] * kv_one(as, v, at + j * ldv + d);
}

PD_INLINE void all_mix(const enum pd_kv_type as, int64_t G, int64_t n, int64_t D, const float *s,
                       int64_t lds, const void *v, int64_t at, int64_t ldv, float *o)
{
    for (int64_t h = 0, nh; h < G; h += nh) {
        nh = together(G, h);
        switch (nh) {
#define HEADS(x)                                                                                   \
    case x:                                                                                        \
        mix_heads(as, x, n, D, s + h * lds, lds, v, at, ldv, o + h * D);                           \
        break;
            HEADS_TOGETHER(HEADS)
#undef HEADS
        }
    }
}

/* All heads' step over n scores: s becomes exp(s - m), m and l move on, acc shrinks. */
static inline void decode_softmax(const struct tile *t, int64_t n)
{
    const int64_t end = (n + PD_LANES - 1) / PD_LANES * PD_LANES;
    for (int64_t r = 0; r < t->R; r++) {
        float *s = t->s + r * KEYS;
        for (int64_t x = n; x < end; x++)
            s[x] = HIDDEN;
        vf most = v_set(t->m[r]);
        for (int64_t x = 0; x < end; x += PD_LANES)
            most = v_max(v_load(s + x), most);
        t->top[r] = v_hmax(most);
    }
    for (int64_t r = 0; r < t->R; r += PD_LANES) { /* rows beyond R are scratch */
        const vf by = v_exp(v_load(t->m + r) - v_load(t->top + r));
        v_store(t->shrink + r, by);
        v_store(t->l + r, v_load(t->l + r) * by);
        v_store(t->m + r, v_load(t->top + r));
    }
    for (int64_t r = 0; r < t->R; r++) {
        float *s = t->s + r * KEYS;
        vf sum = {0};
        for (int64_t x = 0; x < end; x += PD_LANES) {
            const vf e = v_exp(v_load(s + x) - t->top[r]);
            v_store(s + x, e);
            sum += e;
        }
        t->l[r] += v_sum(sum);
        for (int64_t d = 0; d < t->D && t->shrink[r] != 1.0f; d++)
            t->acc[r * t->D + d] *= t->shrink[r];
    }
}

/* A query token: row i of a segment. seg NULL: none. */
struct token {
    const struct pd_attn_seg *seg;
    int64_t i;
};
static inline struct reader keys_of(struct token x)
{
    const int64_t pos = x.seg ? x.seg->pos + x.i : 0;
    return (struct reader){.seg = x.seg, .first = pos, .last = pos};
}

/* The keys and values that come next, on their way into the second-level cache while those that are
 * there are worked on: a few lines at a time, so that memory is never idle and never waited for. */
struct ahead {
    struct keys keys;
    int piece;
    bool values; /* of the piece, after its keys */
    int64_t row;
    uintptr_t at, end; /* what lies together before that */
    int kvh, n_heads;
    int64_t per; /* lines at a time */
};

static inline int64_t steps_of(const struct keys *k)
{
    int64_t n = 0;
    for (int i = 0; i < k->n_pieces; i++)
        n += (k->piece[i].n + DOTS - 1) / DOTS + (k->piece[i].n + MIXED - 1) / MIXED;
    return n;
}

enum { LINE = 64 };

/* meanwhile: what is worked on. */
static inline void ahead_begin(struct ahead *f, const struct tile *t, const struct keys *meanwhile,
                               int kvh, int n_kv)
{
    const int64_t steps = n_kv * steps_of(meanwhile) + 1;
    const int64_t lines = 2 * f->keys.n * (n_kv * t->D * pd_kv_value_bytes(t->a->kv) / LINE + 1);
    /* nothing, unless the heads of a row stand side by side */
    f->piece = t->a->hsk == t->D ? 0 : f->keys.n_pieces;
    f->values = false;
    f->row = 0;
    f->at = f->end = 0;
    f->kvh = kvh;
    f->n_heads = n_kv;
    f->per = (lines + steps - 1) / steps;
}

static inline void ahead_scales(const struct ahead *f, const struct tile *t, const struct piece *p)
{
    const float *scale = f->values ? p->span->v_scale : p->span->k_scale;
    for (int i = 0; i < f->n_heads; i++)
        __builtin_prefetch(scale + (f->kvh + i) * t->a->ld_scale + p->first, 0, 2);
}

/* The next rows that follow each other; false when all are fetched. */
static inline bool ahead_run(struct ahead *f, const struct tile *t)
{
    if (f->piece == f->keys.n_pieces)
        return false;
    const struct piece *p = &f->keys.piece[f->piece];
    const int64_t ld = t->a->ldk, width = f->n_heads * t->D, size = pd_kv_value_bytes(t->a->kv);
    const int64_t rows = width == ld ? p->n : 1;
    if (f->row == 0 && t->a->kv == PD_KV_INT8)
        ahead_scales(f, t, p);
    const char *base = f->values ? p->span->v : p->span->k;
    const uintptr_t at = (uintptr_t)(base + ((p->first + f->row) * ld + f->kvh * t->D) * size);
    f->at = at - at % LINE;
    f->end = at + (uintptr_t)(rows * width * size);
    f->row += rows;
    if (f->row < p->n)
        return true;
    f->row = 0;
    f->piece += f->values;
    f->values = !f->values;
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

/* The heads that a thread does for one token: whole groups, or parts of them. Row r of the tile is
 * head first + r. */
struct head_run {
    int first, n;
};

static inline int first_kv(const struct tile *t, struct head_run h)
{
    return h.first / (int)t->G;
}
static inline int end_kv(const struct tile *t, struct head_run h)
{
    return (h.first + h.n - 1) / (int)t->G + 1;
}
/* Rows of kv head `kvh`, from *row on. */
static inline int64_t rows_of_kv(const struct tile *t, struct head_run h, int kvh, int64_t *row)
{
    const int64_t lo = kvh * t->G - h.first, hi = lo + t->G;
    *row = lo > 0 ? lo : 0;
    return (hi < h.n ? hi : h.n) - *row;
}

/* Scores of a piece's keys, or what its values weigh, times the scales of their bytes, and those of
 * the rows. */
static inline void scale_scores(const struct tile *t, const struct piece *p, const float *scales,
                                const float *units, int64_t at, struct head_run h)
{
    for (int64_t r = 0; r < t->R; r++) {
        const float *scale = scales + (h.first + r) / t->G * t->a->ld_scale + p->first;
        float *s = t->s + r * KEYS + at;
        const float unit = units ? units[r] : 1;
        PD_FOR_LANES(x, m, p->n)
        v_put(s + x, m, v_get(s + x, m) * (v_get(scale + x, m) * unit));
    }
}

/* Scores of a piece's keys for all rows, from place `at` of their rows on: key by key through
 * memory, all heads of each. */
PD_INLINE void decode_scores(const enum pd_kv_type as, struct tile *t, const struct piece *p,
                             int64_t at, struct head_run h, struct ahead *next)
{
    const struct pd_attn *a = t->a;
    for (int64_t x = 0; x < p->n; x += DOTS)
        for (int kv = first_kv(t, h); kv < end_kv(t, h); kv++) {
            int64_t row;
            const int64_t rows = rows_of_kv(t, h, kv, &row);
            all_dots(as, t, row, rows, p->n - x < DOTS ? p->n - x : DOTS, p->span->k,
                     (p->first + x) * a->ldk + kv * a->hsk, t->s + row * KEYS + at + x);
            ahead_some(next, t);
        }
    if (as == PD_KV_INT8)
        scale_scores(t, p, p->span->k_scale, t->unit, at, h);
    for (int64_t r = 0; r < t->R && a->alibi; r++)
        for (int64_t x = 0; x < p->n; x++) {
            const float pos = (float)(p->span->pos + p->first + x);
            t->s[r * KEYS + at + x] += alibi_bias(a, v_set(a->alibi[h.first + r]), v_set(pos))[0];
        }
}

PD_INLINE void decode_values(const enum pd_kv_type as, struct tile *t, const struct piece *p,
                             int64_t at, struct head_run h, struct ahead *next)
{
    const struct pd_attn *a = t->a;
    if (as == PD_KV_INT8)
        scale_scores(t, p, p->span->v_scale, NULL, at, h);
    for (int kv = first_kv(t, h); kv < end_kv(t, h); kv++)
        for (int64_t x = 0; x < p->n; x += MIXED) {
            int64_t row;
            const int64_t rows = rows_of_kv(t, h, kv, &row);
            all_mix(as, rows, p->n - x < MIXED ? p->n - x : MIXED, t->D, t->s + row * KEYS + at + x,
                    KEYS, p->span->v, (p->first + x) * a->ldk + kv * a->hsk, a->ldk,
                    t->acc + row * t->D);
            ahead_some(next, t);
        }
}

PD_INLINE void decode_keys(const enum pd_kv_type as, struct tile *t, const struct keys *k,
                           struct head_run h, struct ahead *next)
{
    int64_t at = 0;
    for (int i = 0; i < k->n_pieces; at += k->piece[i++].n)
        decode_scores(as, t, &k->piece[i], at, h, next);
    decode_softmax(t, k->n);
    ahead_some(next, t);
    at = 0;
    for (int i = 0; i < k->n_pieces; at += k->piece[i++].n)
        decode_values(as, t, &k->piece[i], at, h, next);
}

static inline void decode_tile(struct tile *t, const struct keys *k, struct head_run h,
                               struct ahead *next)
{
#define CALL(kv) decode_keys(kv, t, k, h, next)
    PD_BY_KV(t->a->kv, CALL)
#undef CALL
}

/* Row r's words, rotated; what they are worth. */
static inline float query_words(const struct tile *t, int64_t r)
{
    float *q = t->q + r * t->D;
    rotate(t->D, q, q);
    return to_integers(true, t->D, q, t->words + r * t->ldw);
}

/* One query token, h.n <= RP of its heads, for a tile of keys at a time, since what the heads see
 * of a key lies side by side. following: what this thread will do next, if it is known. */
static inline void decode(struct tile *t, struct token token, struct head_run h,
                          struct token following)
{
    const struct pd_attn *a = t->a;
    const struct pd_attn_seg *seg = token.seg;
    const int64_t D = t->D;
    const int kv0 = first_kv(t, h), n_kv = end_kv(t, h) - kv0;
    t->R = h.n;
    for (int64_t r = 0; r < t->R; r++) {
        const float *q = seg->q + token.i * a->ldq + (h.first + r) * a->hsq;
        for (int64_t d = 0; d < D; d++)
            t->q[r * D + d] = q[d] * a->scale;
        if (a->kv == PD_KV_INT8)
            t->unit[r] = query_words(t, r);
        t->m[r] = HIDDEN;
        t->l[r] = 0;
    }
    memset(t->acc, 0, (size_t)(t->R * D) * sizeof *t->acc);
    struct reader here = keys_of(token), then = keys_of(following);
    struct keys now;
    struct ahead next;
    next_keys(a, &here, &now);
    while (now.n > 0) {
        next_keys(a, &here, &next.keys);
        const bool last = next.keys.n == 0;
        if (last)
            next_keys(a, &then, &next.keys);
        ahead_begin(&next, t, &now, kv0, n_kv);
        decode_tile(t, &now, h, &next);
        now.n = 0;
        if (!last)
            now = next.keys;
    }
    for (int64_t r = 0; r < t->R; r++) {
        float *o = seg->o + token.i * a->ldo + (h.first + r) * a->hso;
        const float inv = 1.0f / t->l[r];
        for (int64_t d = 0; d < D; d++)
            o[d] = t->acc[r * D + d] * inv;
        if (a->kv == PD_KV_INT8)
            rotate(D, o, o);
        if (seg->lse)
            seg->lse[token.i * a->heads + h.first + r] = t->m[r] + logf(t->l[r]);
    }
}

#endif
