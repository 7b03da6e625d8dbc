/* Attention of one new token: too few rows for tiles, so dot products over keys and values where
 * they lie, halves turned into fp32 on the way. */
#ifndef PD_TENSOR_KERNEL_ATTN_DECODE_H
#define PD_TENSOR_KERNEL_ATTN_DECODE_H

#include "tensor/kernel/attn_tile.h"

/* to[0..3] = the sums of four vectors, by adding them crosswise in their 128-bit quarters first. */
PD_INLINE void sum4(const vf *v, float *to)
{
    vi lo, hi, first, second;
    for (int i = 0; i < PD_LANES; i++) {
        const int lane = i / 4 * 4, other = i % 2 * PD_LANES; /* of a, b, a, b */
        lo[i] = other + lane + i % 4 / 2;
        hi[i] = other + lane + 2 + i % 4 / 2;
        first[i] = i % 4 / 2 * PD_LANES + lane + i % 2;
        second[i] = i % 4 / 2 * PD_LANES + lane + 2 + i % 2;
    }
    const vf ab = v_shuffle(v[0], v[1], lo) + v_shuffle(v[0], v[1], hi);
    const vf cd = v_shuffle(v[2], v[3], lo) + v_shuffle(v[2], v[3], hi);
    vf sum = v_shuffle(ab, cd, first) + v_shuffle(ab, cd, second);
#if PD_LANES >= 16
    sum += v_swap(sum, 8);
#endif
#if PD_LANES >= 8
    sum += v_swap(sum, 4);
#endif
    memcpy(to, &sum, 4 * sizeof *to);
}

/* PD_LANES keys or values from place i on; one. */
PD_INLINE vf kv_load(const bool half, const void *p, int64_t i)
{
    return half ? floats_at(PD_DTYPE_F16, (const uint16_t *)p + i) : v_load((const float *)p + i);
}
PD_INLINE float kv_one(const bool half, const void *p, int64_t i)
{
    return half ? pd_f16_to_f32(((const uint16_t *)p)[i]) : ((const float *)p)[i];
}

/* s[h][j] = q_h . k_j for up to 3 heads and 4 keys at a time: 12 accumulators. */
PD_INLINE void dots(const bool half, const int nh, const int nk, int64_t D, const float *q,
                    const void *k, int64_t at, int64_t ldk, float *s, int64_t lds)
{
    vf acc[3][4];
#pragma GCC unroll 3
    for (int h = 0; h < nh; h++)
#pragma GCC unroll 4
        for (int j = 0; j < nk; j++)
            acc[h][j] = (vf){0};
    int64_t d = 0;
    for (; d + PD_LANES <= D; d += PD_LANES) {
        vf kv[4];
#pragma GCC unroll 4
        for (int j = 0; j < nk; j++)
            kv[j] = kv_load(half, k, at + j * ldk + d);
#pragma GCC unroll 3
        for (int h = 0; h < nh; h++) {
            const vf x = v_load(q + h * D + d);
#pragma GCC unroll 4
            for (int j = 0; j < nk; j++)
                acc[h][j] += x * kv[j];
        }
    }
#pragma GCC unroll 3
    for (int h = 0; h < nh; h++) {
        if (nk == 4)
            sum4(acc[h], s + h * lds);
        else
            s[h * lds] = v_sum(acc[h][0]);
        for (int64_t e = d; e < D; e++)
            for (int j = 0; j < nk; j++)
                s[h * lds + j] += q[h * D + e] * kv_one(half, k, at + j * ldk + e);
    }
}

PD_INLINE void all_dots(const bool half, int64_t G, int64_t n, int64_t D, const float *q,
                        const void *k, int64_t at, int64_t ldk, float *s, int64_t lds)
{
    for (int64_t h = 0; h < G; h += 3) {
        const int64_t nh = G - h < 3 ? G - h : 3;
        const float *qh = q + h * D;
        float *sh = s + h * lds;
        int64_t j = 0;
        for (; j + 4 <= n; j += 4)
            if (nh == 3)
                dots(half, 3, 4, D, qh, k, at + j * ldk, ldk, sh + j, lds);
            else if (nh == 2)
                dots(half, 2, 4, D, qh, k, at + j * ldk, ldk, sh + j, lds);
            else
                dots(half, 1, 4, D, qh, k, at + j * ldk, ldk, sh + j, lds);
        for (; j < n; j++)
            for (int64_t x = 0; x < nh; x++)
                dots(half, 1, 1, D, qh + x * D, k, at + j * ldk, ldk, sh + x * lds + j, lds);
    }
}

/* o[h][d] += sum over n values of s[h][j] v_j[d], for up to 3 heads and nv vectors of d. */
PD_INLINE void mix(const bool half, const int nh, const int nv, int64_t n, int64_t D,
                   const float *s, int64_t lds, const void *v, int64_t at, int64_t ldv, float *o)
{
    vf acc[3][4];
#pragma GCC unroll 3
    for (int h = 0; h < nh; h++)
#pragma GCC unroll 4
        for (int i = 0; i < nv; i++)
            acc[h][i] = v_load(o + h * D + i * PD_LANES);
    for (int64_t j = 0; j < n; j++) {
        vf x[3];
#pragma GCC unroll 3
        for (int h = 0; h < nh; h++)
            x[h] = v_set(s[h * lds + j]);
#pragma GCC unroll 4
        for (int i = 0; i < nv; i++) {
            const vf kv = kv_load(half, v, at + j * ldv + i * PD_LANES);
#pragma GCC unroll 3
            for (int h = 0; h < nh; h++)
                acc[h][i] += x[h] * kv;
        }
    }
#pragma GCC unroll 3
    for (int h = 0; h < nh; h++)
#pragma GCC unroll 4
        for (int i = 0; i < nv; i++)
            v_store(o + h * D + i * PD_LANES, acc[h][i]);
}

PD_INLINE void mix_heads(const bool half, const int nh, int64_t n, int64_t D, const float *s,
                         int64_t lds, const void *v, int64_t at, int64_t ldv, float *o)
{
    enum { LOT = 4 * PD_LANES };
    int64_t d = 0;
    for (; d + LOT <= D; d += LOT)
        mix(half, nh, 4, n, D, s, lds, v, at + d, ldv, o + d);
    for (; d + PD_LANES <= D; d += PD_LANES)
        mix(half, nh, 1, n, D, s, lds, v, at + d, ldv, o + d);
    for (; d < D; d++)
        for (int h = 0; h < nh; h++)
            for (int64_t j = 0; j < n; j++)
                o[h * D + d] += s[h * lds + j] * kv_one(half, v, at + j * ldv + d);
}

PD_INLINE void all_mix(const bool half, int64_t G, int64_t n, int64_t D, const float *s,
                       int64_t lds, const void *v, int64_t at, int64_t ldv, float *o)
{
    int64_t h = 0;
    for (; h + 3 <= G; h += 3)
        mix_heads(half, 3, n, D, s + h * lds, lds, v, at, ldv, o + h * D);
    for (; h < G; h++)
        mix_heads(half, 1, n, D, s + h * lds, lds, v, at, ldv, o + h * D);
}

/* One head's step over nb scores: s becomes exp(s - m), m and l move on, acc shrinks. */
static inline void decode_softmax(const struct tile *t, int64_t r, float *s, int64_t nb)
{
    vf mx = v_set(t->m[r]), sum = {0};
    PD_FOR_LANES(x, m, nb)
    mx = v_max(m == PD_LANES ? v_load(s + x) : v_load_part(s + x, m, HIDDEN), mx);
    const float top = v_hmax(mx), shrink = expf(t->m[r] - top);
    PD_FOR_LANES(x, m, nb)
    {
        const vf e = v_exp((m == PD_LANES ? v_load(s + x) : v_load_part(s + x, m, HIDDEN)) - top);
        v_put(s + x, m, e);
        sum += e;
    }
    t->l[r] = t->l[r] * shrink + v_sum(sum);
    t->m[r] = top;
    if (shrink != 1.0f)
        for (int64_t d = 0; d < t->D; d++)
            t->acc[r * t->D + d] *= shrink;
}

/* The keys and values that come next, on their way into the second-level cache while those that are
 * there are worked on: a few lines at a time, so that memory is never idle and never waited for. */
struct ahead {
    const char *base; /* keys, then values */
    const void *values;
    int64_t row, n, first; /* of the rows first..first+n-1 */
    int head, n_heads, kvh;
    int64_t per; /* pieces, a row of a head each, at a time */
};

/* nb: the keys of the tile meanwhile. */
static inline void ahead_begin(struct ahead *f, const struct tile *t, int64_t nb,
                               const struct pd_attn_span *sp, int64_t first, int64_t n, int kvh,
                               int n_kv)
{
    /* between a group of four keys and the next, one row of scores and the next, eight values */
    const int64_t steps = n_kv * ((nb + 3) / 4 + (nb + 7) / 8) + t->R;
    *f = (struct ahead){.base = sp->k,
                        .values = sp->v,
                        .n = n,
                        .first = first,
                        .n_heads = n_kv,
                        .kvh = kvh,
                        .per = (2 * n * n_kv + steps - 1) / steps};
}

static inline void ahead_some(struct ahead *f, const struct tile *t)
{
    const int64_t size = t->a->kv == PD_DTYPE_F32 ? 4 : 2;
    for (int64_t i = 0; i < f->per && f->base; i++) {
        const int64_t at = (f->first + f->row) * t->a->ldk + (f->kvh + f->head) * t->a->hsk;
        for (int64_t b = 0; b < t->D * size; b += 64)
            __builtin_prefetch(f->base + at * size + b, 0, 2);
        if (++f->head < f->n_heads)
            continue;
        f->head = 0;
        if (++f->row < f->n)
            continue;
        f->row = 0;
        f->base = f->values;
        f->values = NULL;
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

/* The keys j..j+nb-1 of a span, for all rows. */
PD_INLINE void decode_keys(const bool half, struct tile *t, const struct pd_attn_span *sp,
                           int64_t j, int64_t nb, struct head_run h, struct ahead *next)
{
    const struct pd_attn *a = t->a;
    const int64_t D = t->D, ld = a->ldk;
    const int kv0 = first_kv(t, h), kv1 = end_kv(t, h);
    for (int64_t x = 0; x < nb; x += 4) { /* key by key through memory, all heads of each */
        const int64_t some = nb - x < 4 ? nb - x : 4;
        for (int kv = kv0; kv < kv1; kv++) {
            int64_t row;
            const int64_t n = rows_of_kv(t, h, kv, &row), at = (j + x) * ld + kv * a->hsk;
            all_dots(half, n, some, D, t->q + row * D, sp->k, at, ld, t->s + row * KEYS + x, KEYS);
            ahead_some(next, t);
        }
    }
    for (int64_t r = 0; r < t->R; r++) {
        float *s = t->s + r * KEYS;
        if (a->alibi)
            for (int64_t x = 0; x < nb; x++)
                s[x] +=
                    alibi_bias(a, v_set(a->alibi[h.first + r]), v_set((float)(sp->pos + j + x)))[0];
        decode_softmax(t, r, s, nb);
        ahead_some(next, t);
    }
    for (int kv = kv0; kv < kv1; kv++)
        for (int64_t x = 0; x < nb; x += 8) {
            int64_t row;
            const int64_t n = rows_of_kv(t, h, kv, &row), at = (j + x) * ld + kv * a->hsk;
            all_mix(half, n, nb - x < 8 ? nb - x : 8, D, t->s + row * KEYS + x, KEYS, sp->v, at, ld,
                    t->acc + row * D);
            ahead_some(next, t);
        }
}

static inline void decode_tile(struct tile *t, const struct pd_attn_span *sp, int64_t j, int64_t nb,
                               struct head_run h, struct ahead *next)
{
    if (t->a->kv == PD_DTYPE_F32)
        decode_keys(false, t, sp, j, nb, h, next);
    else
        decode_keys(true, t, sp, j, nb, h, next);
}

/* One query token, h.n <= RP of its heads, for a tile of keys at a time, since what the heads see
 * of a key lies side by side. following: what this thread will do next, or NULL. */
static inline void decode(struct tile *t, const struct pd_attn_seg *seg, int64_t i0,
                          struct head_run h, const struct pd_attn_seg *following)
{
    const struct pd_attn *a = t->a;
    const int64_t D = t->D;
    const int kv0 = first_kv(t, h), n_kv = end_kv(t, h) - kv0;
    t->seg = seg, t->i0 = i0, t->ni = 1, t->R = h.n;
    for (int64_t r = 0; r < t->R; r++) {
        const float *q = seg->q + i0 * a->ldq + (h.first + r) * a->hsq;
        for (int64_t d = 0; d < D; d++)
            t->q[r * D + d] = q[d] * a->scale;
        t->m[r] = HIDDEN;
        t->l[r] = 0;
    }
    memset(t->acc, 0, (size_t)(t->R * D) * sizeof *t->acc);
    for (int n = 0; n < seg->n_spans; n++) {
        const struct pd_attn_span *sp = &seg->spans[n];
        int64_t lo, hi;
        visible(t, sp, &lo, &hi);
        for (int64_t j = lo; j < hi; j += KEYS) {
            struct ahead next = {0};
            const int64_t nb = hi - j < KEYS ? hi - j : KEYS;
            int64_t from = j + KEYS, to = hi;
            const int after = from < hi ? n : n + 1;
            if (after > n && after < seg->n_spans)
                visible(t, &seg->spans[after], &from, &to);
            if (after < seg->n_spans && from < to)
                ahead_begin(&next, t, nb, &seg->spans[after], from,
                            to - from < KEYS ? to - from : KEYS, kv0, n_kv);
            else if (after == seg->n_spans && following && a->window == 0)
                ahead_begin(&next, t, nb, following->spans, 0,
                            following->spans->n < KEYS ? following->spans->n : KEYS, kv0, n_kv);
            decode_tile(t, sp, j, nb, h, &next);
        }
    }
    for (int64_t r = 0; r < t->R; r++) {
        float *o = seg->o + i0 * a->ldo + (h.first + r) * a->hso;
        const float inv = 1.0f / t->l[r];
        for (int64_t d = 0; d < D; d++)
            o[d] = t->acc[r * D + d] * inv;
        if (seg->lse)
            seg->lse[i0 * a->heads + h.first + r] = t->m[r] + logf(t->l[r]);
    }
}

#endif
