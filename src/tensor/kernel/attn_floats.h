/* One token's attention over keys and values of fp32 or halves: dot products where they lie. */
#ifndef PD_TENSOR_KERNEL_ATTN_FLOATS_H
#define PD_TENSOR_KERNEL_ATTN_FLOATS_H

#include "tensor/kernel/attn_ahead.h"

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
    PD_FOLD_QUARTERS(sum, v_plus);
    memcpy(to, &sum, 4 * sizeof *to);
}

/* Query heads that go together over a key: with four keys, or with four vectors of a value, their
 * sums fill the registers. */
#if PD_LANES >= 16
enum { TOGETHER = 4 };
#define HEADS_TOGETHER(CALL) PD_CASE(4, CALL) PD_CASE(3, CALL) PD_CASE(2, CALL) PD_CASE(1, CALL)
#else
enum { TOGETHER = 3 };
#define HEADS_TOGETHER(CALL) PD_CASE(3, CALL) PD_CASE(2, CALL) PD_CASE(1, CALL)
#endif
enum { DOTS = 4 }; /* keys of a head at a time, whose products sum4 adds */

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
            sum4(acc[h], s + h * KEYS);
        else
            s[h * KEYS] = v_sum(acc[h][0]);
        for (int64_t e = d; e < D; e++)
            for (int j = 0; j < nk; j++)
                s[h * KEYS + j] += q[h * D + e] * kv_one(as, k, at + j * ldk + e);
    }
}

/* Scores of n keys, at most DOTS, for nh heads: DOTS at once, or one by one. */
PD_INLINE void some_dots(const enum pd_kv_type as, const int nh, int64_t n, int64_t D,
                         const float *q, const void *k, int64_t at, int64_t ldk, float *s)
{
    if (n == DOTS)
        dots(as, nh, DOTS, D, q, k, at, ldk, s);
    else
        for (int64_t j = 0; j < n; j++)
            dots(as, nh, 1, D, q, k, at + j * ldk, ldk, s + j);
}

/* The same for rows of one kv head. */
PD_INLINE void all_dots(const enum pd_kv_type as, const struct tile *t, int64_t row, int64_t n_rows,
                        int64_t n, const void *k, int64_t at, float *s){
#define CALL(nh) some_dots(as, nh, n, t->D, t->q + (row + h) * t->D, k, at, t->a->ldk, s + h * KEYS)
    PD_BY_HEADS(h, n_rows, TOGETHER, HEADS_TOGETHER, CALL)
#undef CALL
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
    enum { FOUR = 4 * PD_LANES };
    int64_t d = 0;
    for (; d + FOUR <= D; d += FOUR)
        mix(as, nh, 4, n, D, s, lds, v, at + d, ldv, o + d);
    for (; d + PD_LANES <= D; d += PD_LANES)
        mix(as, nh, 1, n, D, s, lds, v, at + d, ldv, o + d);
    for (; d < D; d++)
        for (int h = 0; h < nh; h++)
            for (int64_t j = 0; j < n; j++)
                o[h * D + d] += s[h * lds + j] * kv_one(as, v, at + j * ldv + d);
}

PD_INLINE void all_mix(const enum pd_kv_type as, int64_t G, int64_t n, int64_t D, const float *s,
                       int64_t lds, const void *v, int64_t at, int64_t ldv, float *o){
#define CALL(nh) mix_heads(as, nh, n, D, s + h * lds, lds, v, at, ldv, o + h * D)
    PD_BY_HEADS(h, G, TOGETHER, HEADS_TOGETHER, CALL)
#undef CALL
}

/* Keys of a piece: scores of all rows, from place `at` of theirs on, key by key through memory, all
 * heads of each. */
PD_INLINE void float_scores(const enum pd_kv_type as, struct tile *t, const struct piece *p,
                            int64_t at, const struct head_run *h, struct ahead *next)
{
    const struct pd_attn *a = t->a;
    for (int64_t x = 0; x < p->n; x += DOTS)
        for (int kv = h->kv; kv < h->kv_end; kv++) {
            int64_t row;
            const int64_t rows = rows_of_kv(t, h, kv, &row);
            all_dots(as, t, row, rows, p->n - x < DOTS ? p->n - x : DOTS, p->span->k,
                     (p->first + x) * a->ldk + kv * a->hsk, t->s + row * KEYS + at + x);
            ahead_some(next, t);
        }
}

PD_INLINE void float_values(const enum pd_kv_type as, struct tile *t, const struct piece *p,
                            int64_t at, const struct head_run *h, struct ahead *next)
{
    const struct pd_attn *a = t->a;
    for (int kv = h->kv; kv < h->kv_end; kv++)
        for (int64_t x = 0; x < p->n; x += MIXED) {
            int64_t row;
            const int64_t rows = rows_of_kv(t, h, kv, &row);
            all_mix(as, rows, p->n - x < MIXED ? p->n - x : MIXED, t->D, t->s + row * KEYS + at + x,
                    KEYS, p->span->v, (p->first + x) * a->ldk + kv * a->hsk, a->ldk,
                    t->acc + row * t->D);
            ahead_some(next, t);
        }
}

#endif
