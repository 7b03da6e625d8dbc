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
    memset(words + t->D, 0, (size_t)(t->ldw - t->D) * sizeof *words);
    t->excess[r] = put_query(t->ldw, words, t->words + r * t->ldw);
}

/* Sums of products of rows of one kv head with nq <= 2 quads of keys, from place `at` on. */
static inline void all_quad_dots(const struct tile *t, int64_t row, int64_t n_rows, int64_t nq,
                                 const uint8_t *k, int64_t at)
{
    const int64_t every = QUAD * t->a->ldk, D = t->ldw;
    for (int64_t end = row + n_rows, nh; row < end; row += nh) {
        const int16_t *q = t->words + row * D;
        const int32_t *excess = t->excess + row;
        int32_t *s = (int32_t *)(void *)(t->s + row * KEYS + at);
        nh = some_heads(end - row, HEADS_OF_BYTES);
        switch (nh) {
#define HEADS(x)                                                                                   \
    case x:                                                                                        \
        if (nq == 2)                                                                               \
            quad_dots(x, 2, D, q, D, excess, k, every, s, KEYS);                                   \
        else                                                                                       \
            quad_dots(x, 1, D, q, D, excess, k, every, s, KEYS);                                   \
        break;
            BYTE_HEADS(HEADS)
#undef HEADS
        }
    }
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
    const uint8_t *k = (const uint8_t *)p->span->k + (p->first - p->before) * a->ldk;
    for (int64_t x = 0; x < p->places; x += 2 * QUAD)
        for (int kv = h->kv; kv < h->kv_end; kv++) {
            int64_t row;
            const int64_t rows = rows_of_kv(t, h, kv, &row);
            all_quad_dots(t, row, rows, p->places - x > QUAD ? 2 : 1,
                          k + x * a->ldk + QUAD * kv * a->hsk, at + x);
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

static inline void all_quad_mix(const struct tile *t, int64_t row, int64_t n_rows, int64_t nq,
                                const uint8_t *v, int64_t at)
{
    const int64_t every = QUAD * t->a->ldk, D = t->D;
    for (int64_t end = row + n_rows, nh; row < end; row += nh) {
        const int16_t *w = t->weights + row * KEYS;
        const float *unit = t->unit_of_w + row;
        float *o = t->acc + row * D;
        nh = some_heads(end - row, HEADS_OF_BYTES);
        for (int64_t d = 0, m; d < D; d += m) {
            const bool many = D - d >= VALUE_LOTS * LOT;
            m = many ? VALUE_LOTS * LOT : D - d < LOT ? D - d : LOT;
            switch (nh) {
#define HEADS(x)                                                                                   \
    case x:                                                                                        \
        if (many)                                                                                  \
            quad_mix(x, VALUE_LOTS, nq, w, at, unit, v + QUAD * d, every, o + d, D, LOT);          \
        else                                                                                       \
            quad_mix(x, 1, nq, w, at, unit, v + QUAD * d, every, o + d, D, m);                     \
        break;
                BYTE_HEADS(HEADS)
#undef HEADS
            }
        }
    }
}

static inline void byte_values(struct tile *t, const struct piece *p, int64_t at,
                               const struct head_run *h, struct ahead *next)
{
    const struct pd_attn *a = t->a;
    const uint8_t *v = (const uint8_t *)p->span->v + (p->first - p->before) * a->ldk;
    for (int kv = h->kv; kv < h->kv_end; kv++)
        for (int64_t x = 0; x < p->places; x += MIXED) {
            int64_t row;
            const int64_t rows = rows_of_kv(t, h, kv, &row);
            const int64_t places = p->places - x < MIXED ? p->places - x : MIXED;
            all_quad_mix(t, row, rows, places / QUAD, v + x * a->ldk + QUAD * kv * a->hsk, at + x);
            ahead_some(next, t);
        }
}

#endif
