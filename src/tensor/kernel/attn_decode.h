/* Attention of one new token: too few rows for tiles, so products over keys and values where they
 * lie, of all heads of a key at once. */
#ifndef PD_TENSOR_KERNEL_ATTN_DECODE_H
#define PD_TENSOR_KERNEL_ATTN_DECODE_H

#include "tensor/kernel/attn_floats.h"
#include "tensor/kernel/attn_quads.h"

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

static inline void add_alibi(const struct tile *t, const struct piece *p, int64_t at,
                             const struct head_run *h)
{
    const struct pd_attn *a = t->a;
    for (int64_t r = 0; r < t->R && a->alibi; r++)
        for (int64_t x = 0; x < p->n; x++) {
            const float pos = (float)(p->span->pos + p->first + x);
            t->s[r * KEYS + at + p->before + x] +=
                alibi_bias(a, v_set(a->alibi[h->first + r]), v_set(pos))[0];
        }
}

PD_INLINE void decode_keys(const enum pd_kv_type as, struct tile *t, const struct keys *k,
                           const struct head_run *h, struct ahead *next)
{
    const struct piece *p = k->piece, *const end = p + k->n_pieces;
    for (int64_t at = 0; p < end; at += p++->places)
        if (as == PD_KV_INT8)
            byte_scores(t, p, at, h, next);
        else
            float_scores(as, t, p, at, h, next);
    p = k->piece;
    for (int64_t at = 0; p < end; at += p++->places) {
        if (as == PD_KV_INT8) /* of all pieces: sums just stored would be waited for */
            finish_byte_scores(t, p, at, h);
        add_alibi(t, p, at, h);
    }
    decode_softmax(t, k->n);
    ahead_some(next, t);
    if (as == PD_KV_INT8)
        weigh(t, k, h);
    p = k->piece;
    for (int64_t at = 0; p < end; at += p++->places)
        if (as == PD_KV_INT8)
            byte_values(t, p, at, h, next);
        else
            float_values(as, t, p, at, h, next);
}

static inline void decode_tile(struct tile *t, const struct keys *k, const struct head_run *h,
                               struct ahead *next)
{
#define CALL(kv) decode_keys(kv, t, k, h, next)
    PD_BY_KV(t->a->kv, CALL)
#undef CALL
}

/* One query token, h->n <= RP of its heads, for a tile of keys at a time, since what the heads see
 * of a key lies side by side. following: what this thread will do next, if it is known. */
static inline void decode(struct tile *t, struct token token, const struct head_run *h,
                          struct token following)
{
    const struct pd_attn *a = t->a;
    const struct pd_attn_seg *seg = token.seg;
    const int64_t D = t->D;
    struct reader here = keys_of(a, token), then = keys_of(a, following);
    struct keys now;
    struct ahead next;
    next_keys(a, &here, &now);
    if (!t->brought)
        ahead_all(&next, t, &now, h);
    t->R = h->n;
    for (int64_t r = 0; r < t->R; r++) {
        const float *q = seg->q + token.i * a->ldq + (h->first + r) * a->hsq;
        for (int64_t d = 0; d < D; d++)
            t->q[r * D + d] = q[d] * a->scale;
        if (a->kv == PD_KV_INT8)
            byte_query(t, r);
        t->m[r] = HIDDEN;
        t->l[r] = 0;
    }
    memset(t->acc, 0, (size_t)(t->R * D) * sizeof *t->acc);
    while (now.n > 0) {
        next_keys(a, &here, &next.keys);
        const bool last = next.keys.n == 0;
        if (last)
            next_keys(a, &then, &next.keys);
        ahead_begin(&next, t, &now, h);
        decode_tile(t, &now, h, &next);
        now.n = 0;
        if (!last)
            now = next.keys;
    }
    t->brought = following.seg != NULL; /* for that one */
    for (int64_t r = 0; r < t->R; r++) {
        float *o = seg->o + token.i * a->ldo + (h->first + r) * a->hso;
        const float inv = 1.0f / t->l[r];
        for (int64_t d = 0; d < D; d++)
            o[d] = t->acc[r * D + d] * inv;
        if (a->kv == PD_KV_INT8)
            rotate(D, o, o);
        if (seg->lse)
            seg->lse[token.i * a->heads + h->first + r] = t->m[r] + logf(t->l[r]);
    }
}

#endif
