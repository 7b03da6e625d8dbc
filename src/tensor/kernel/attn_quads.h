/* One token's attention over keys and values of 8 bits: quad by quad, all heads of each. */
#ifndef PD_TENSOR_KERNEL_ATTN_QUADS_H
#define PD_TENSOR_KERNEL_ATTN_QUADS_H

#include "tensor/kernel/attn_ahead.h"

/* Row r as it meets keys of 8 bits, rotated. */
static inline void byte_query(const struct tile *t, int64_t r)
{
    float *q = t->q + r * t->D;
    int16_t words[PD_KV_INT8_DIM];
    rotate(t->D, q, q);
    t->unit[r] = to_words(QUERY_MOST, t->D, q, words);
    t->excess[r] = put_query(t->ldw, words, t->words + r * t->ldw);
}

/* Sums of products of rows of one kv head with nq <= 2 quads of keys, from place `at` on. */
static inline void all_quad_dots(const struct tile *t, int64_t row, int64_t n_rows, int64_t nq,
                                 const uint8_t *k, int64_t at)
{
    const int64_t every = QUAD * t->a->ldk, D = t->ldw;
    const int16_t *q = t->words + row * D;
    const int32_t *excess = t->excess + row;
    int32_t *s = (int32_t *)(void *)(t->s + row * KEYS + at);
#define TWO(nh) quad_dots(nh, 2, D, q + h * D, D, excess + h, k, every, s + h * KEYS, KEYS)
#define ONE(nh) quad_dots(nh, 1, D, q + h * D, D, excess + h, k, every, s + h * KEYS, KEYS)
    if (nq == 2)
        PD_BY_HEADS(h, n_rows, HEADS_OF_BYTES, HEADS_BY_BYTES, TWO)
    else
        PD_BY_HEADS(h, n_rows, HEADS_OF_BYTES, HEADS_BY_BYTES, ONE)
#undef TWO
#undef ONE
}

/* Sums become scores; places that are no key's are hidden. */
static inline void finish_byte_scores(const struct tile *t, const struct piece *p, int64_t at,
                                      const struct head_run *h)
{
    for (int kv = h->kv; kv < h->kv_end; kv++) {
        int64_t row;
        const int64_t end = rows_of_kv(t, h, kv, &row) + row;
        const float *scale = p->span->k_scale + kv * t->a->ld_scale + p->first;
        for (; row < end; row++) {
            float *s = t->s + row * KEYS + at;
            const float unit = t->unit[row];
            for (int64_t x = 0; x < p->before; x++)
                s[x] = HIDDEN;
            s += p->before;
            PD_FOR_LANES(x, m, p->n)
            {
                const vi sum = (vi)v_get(s + x, m);
                v_put(s + x, m, __builtin_convertvector(sum, vf) * (v_get(scale + x, m) * unit));
            }
            for (int64_t x = p->n; x < p->places - p->before; x++)
                s[x] = HIDDEN;
        }
    }
}

/* Keys of a piece: sums for all rows, from place `at` of theirs on. */
static inline void byte_scores(struct tile *t, const struct piece *p, int64_t at,
                               const struct head_run *h, struct ahead *next)
{
    const struct pd_attn *a = t->a;
    const int64_t first = p->first - p->before;
    for (int64_t x = 0; x < p->places; x += 2 * QUAD)
        for (int kv = h->kv; kv < h->kv_end; kv++) {
            int64_t row;
            const int64_t rows = rows_of_kv(t, h, kv, &row);
            all_quad_dots(t, row, rows, p->places - x > QUAD ? 2 : 1,
                          (const uint8_t *)p->span->k + quad_at(a, first + x, kv), at + x);
            ahead_some(next, t);
        }
}

/* Probabilities of all places, times their values' scales: weights, as integers of a unit for each
 * row. */
static inline void weigh(const struct tile *t, const struct keys *k, const struct head_run *h)
{
    for (int kv = h->kv; kv < h->kv_end; kv++) {
        int64_t row;
        const int64_t end = rows_of_kv(t, h, kv, &row) + row;
        for (; row < end; row++) {
            float *s = t->s + row * KEYS, *w = s;
            for (const struct piece *p = k->piece; p < k->piece + k->n_pieces; w += p++->places) {
                const float *scale = p->span->v_scale + kv * t->a->ld_scale + p->first;
                float *of = w + p->before;
                PD_FOR_LANES(x, m, p->n)
                v_put(of + x, m, v_get(of + x, m) * v_get(scale + x, m));
            }
            t->unit_of_w[row] = row_weights(k->n, s, t->weights + row * KEYS);
        }
    }
}

/* o[h] += the values of nq quads, as weights w from place `at` on weigh them, for nh heads. */
PD_INLINE void mix_quads(const int nh, int64_t nq, int64_t D, const int16_t *w, int64_t at,
                         const float *unit, const uint8_t *v, int64_t every, float *o)
{
    enum { MANY = VALUE_LOTS * LOT };
    int64_t d = 0;
    for (; d + MANY <= D; d += MANY)
        quad_mix(nh, VALUE_LOTS, nq, w, at, unit, v + QUAD * d, every, o + d, D, LOT);
    for (; d < D; d += LOT)
        quad_mix(nh, 1, nq, w, at, unit, v + QUAD * d, every, o + d, D, D - d < LOT ? D - d : LOT);
}

static inline void all_quad_mix(const struct tile *t, int64_t row, int64_t n_rows, int64_t nq,
                                const uint8_t *v, int64_t at)
{
    const int64_t every = QUAD * t->a->ldk, D = t->D;
    const int16_t *w = t->weights + row * KEYS;
    float *o = t->acc + row * D;
#define CALL(nh) mix_quads(nh, nq, D, w + h * KEYS, at, t->unit_of_w + row + h, v, every, o + h * D)
    PD_BY_HEADS(h, n_rows, HEADS_OF_BYTES, HEADS_BY_BYTES, CALL)
#undef CALL
}

static inline void byte_values(struct tile *t, const struct piece *p, int64_t at,
                               const struct head_run *h, struct ahead *next)
{
    const struct pd_attn *a = t->a;
    const int64_t first = p->first - p->before;
    for (int kv = h->kv; kv < h->kv_end; kv++)
        for (int64_t x = 0; x < p->places; x += MIXED) {
            int64_t row;
            const int64_t rows = rows_of_kv(t, h, kv, &row);
            const int64_t places = p->places - x < MIXED ? p->places - x : MIXED;
            all_quad_mix(t, row, rows, places / QUAD,
                         (const uint8_t *)p->span->v + quad_at(a, first + x, kv), at + x);
            ahead_some(next, t);
        }
}

#endif
