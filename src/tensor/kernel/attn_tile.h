/* What the ways of attention share: a tile of query rows, the keys that it sees, alibi. */
#ifndef PD_TENSOR_KERNEL_ATTN_TILE_H
#define PD_TENSOR_KERNEL_ATTN_TILE_H

#include "tensor/kernel/attn_bytes.h"
#include "tensor/kernel/tile.h"

enum { KEYS = PD_ATTN_KEYS };

static const float HIDDEN = -1e30f; /* score of an invisible key; exp(HIDDEN - real) is 0 */

struct tile {
    const struct pd_attn *a;
    const struct pd_attn_seg *seg;
    int64_t G, R, RP, D; /* heads of the group, rows, rows padded, head dim */
    int64_t i0, ni;      /* tokens of the tile */
    int kvh;
    float *q, *qt; /* (R,D) scaled, (D,RP) */
    float *s,
        *ds;    /* (KEYS,RP), of one token (RP,KEYS): scores then probabilities; their gradient */
    float *acc; /* (R,D) output or dq */
    float *dout, *doutt;          /* (R,D), (D,RP) */
    float *m, *l, *delta, *slope; /* (RP) */
    float *top, *shrink;          /* (RP) of one token: the new m, and what the old one is worth */
    int32_t *pos;                 /* (RP) position of the row's token; -1 when padding */
    bool brought; /* of one token: its first keys and values were asked for by the one before */
    /* Of one token, with keys and values of 8 bits. */
    int16_t *words;          /* (RP,ldw) q as it meets keys */
    int64_t ldw;             /* D rounded up to lots */
    int16_t *weights;        /* (RP,KEYS) probabilities as they meet values; where ds is */
    float *unit, *unit_of_w; /* (RP) what a step of theirs is worth */
    int32_t *excess;         /* (RP) put_query's */
    float *kv;               /* (KEYS,D) keys, then values, when they must be copied (kv_rows) */
};

/* In n floats of mem. */
static inline void tile_init(struct tile *t, const struct pd_attn *a, float *mem, int64_t n)
{
    *t = (struct tile){.a = a, .G = a->heads / a->kv_heads, .D = a->head_dim};
    t->RP = pd_attn_padded_rows(t->G);
    const int64_t rd = (t->RP * t->D + 15) / 16 * 16, kr = KEYS * t->RP, kd = KEYS * t->D;
    float *p = mem;
    t->q = p, p += rd;
    t->qt = p, p += rd;
    t->acc = p, p += rd;
    t->dout = p, p += rd;
    t->doutt = p, p += rd;
    t->s = p, p += kr;
    t->ds = p, p += kr;
    t->kv = p, p += (kd + 15) / 16 * 16;
    t->ldw = pd_kv_head_values(PD_KV_INT8, t->D);
    t->words = (int16_t *)p, p += t->RP * t->ldw / 2;
    t->weights = (int16_t *)t->ds;
    t->unit = p, p += t->RP;
    t->unit_of_w = p, p += t->RP;
    t->excess = (int32_t *)p, p += t->RP;
    t->m = p, p += t->RP;
    t->l = p, p += t->RP;
    t->delta = p, p += t->RP;
    t->slope = p, p += t->RP;
    t->top = p, p += t->RP;
    t->shrink = p, p += t->RP;
    t->pos = (int32_t *)p, p += t->RP;
    PD_ASSERT(p - mem <= n);
}

/* Keys that follow each other in what rows see, up to KEYS places for them, wherever they lie:
 * fewer where spans are so short that PIECES of them do not make KEYS. */
enum { PIECES = 16 };
struct keys {
    int64_t n; /* places */
    int n_pieces;
    struct piece {
        const struct pd_attn_span *span;
        int64_t first, n;
        /* Scores have a place for each key; by quads, for those of the quads whose keys they are:
         * `before` places before the first, and places after the last, belong to none. */
        int64_t before, places;
    } piece[PIECES];
};
/* Goes through all keys that some row at one of the positions first..last sees. seg NULL: none. */
struct reader {
    const struct pd_attn_seg *seg;
    int64_t first, last;
    bool apart; /* keys of one span at a time */
    bool quads;
    int span;
    int64_t at; /* in it */
};

/* The next keys; there are none left where n is 0. */
static inline void next_keys(const struct pd_attn *a, struct reader *r, struct keys *to)
{
    const int most = r->apart ? 1 : PIECES;
    to->n = to->n_pieces = 0;
    while (r->seg && r->span < r->seg->n_spans && to->n < KEYS && to->n_pieces < most) {
        const struct pd_attn_span *sp = &r->seg->spans[r->span];
        const int64_t end = r->last - sp->pos + 1 < sp->n ? r->last - sp->pos + 1 : sp->n;
        const int64_t past = a->window > 0 ? r->first - a->window + 1 - sp->pos : 0;
        const int64_t first = past > r->at ? past : r->at;
        const int64_t before = r->quads ? first % QUAD : 0, room = KEYS - to->n - before;
        const int64_t n = end - first < room ? end - first : room;
        const int64_t after = r->quads ? -(before + n) & (QUAD - 1) : 0;
        if (n > 0) {
            const int64_t places = before + n + after;
            to->piece[to->n_pieces++] = (struct piece){sp, first, n, before, places};
            to->n += places;
        }
        r->at = first + n;
        if (r->at < end)
            continue;
        r->span++;
        r->at = 0;
    }
}

static inline const void *span_rows(const struct pd_attn_span *s, enum pd_kv_half half)
{
    return half == PD_KV_VALUES ? s->v : s->k;
}
static inline const float *span_scales(const struct pd_attn_span *s, enum pd_kv_half half)
{
    return half == PD_KV_VALUES ? s->v_scale : s->k_scale;
}

/* A piece's keys or values of this head as rows of fp32. */
PD_INLINE void copy_rows(const enum pd_kv_type kv, const struct tile *t, const struct piece *p,
                         enum pd_kv_half half, float *to)
{
    const void *base = span_rows(p->span, half);
    for (int64_t j = p->first; j < p->first + p->n; j++, to += t->D) {
        const int64_t at = j * t->a->ldk + t->kvh * t->a->hsk;
        int64_t d = 0;
        for (; d + PD_LANES <= t->D; d += PD_LANES)
            v_store(to + d, kv_load(kv, base, at + d));
        for (; d < t->D; d++)
            to[d] = kv_one(kv, base, at + d);
    }
}
PD_INLINE void copy_quads(const struct tile *t, const struct piece *p, const enum pd_kv_half half,
                          float *to)
{
    const struct pd_attn *a = t->a;
    const uint8_t *base = span_rows(p->span, half);
    const float *scales = span_scales(p->span, half);
    for (int64_t j = p->first; j < p->first + p->n; j++, to += t->D) {
        const uint8_t *quad = base + quad_at(a, j, t->kvh);
        const float scale = scales[t->kvh * a->ld_scale + j];
        PD_FOR_LANES(d, m, t->D)
        v_put(to + d, m, quad_load(half, quad, j % QUAD, d) * scale);
    }
}
static inline void copy_piece(const struct tile *t, const struct piece *p, enum pd_kv_half half,
                              float *to)
{
    if (t->a->kv == PD_KV_F32)
        copy_rows(PD_KV_F32, t, p, half, to);
    else if (t->a->kv == PD_KV_F16)
        copy_rows(PD_KV_F16, t, p, half, to);
    else if (half == PD_KV_KEYS)
        copy_quads(t, p, PD_KV_KEYS, to);
    else
        copy_quads(t, p, PD_KV_VALUES, to);
}

/* Keys, or their values, of this head as rows of fp32, *ld floats apart: where they lie, or copied
 * into buf (KEYS,D). */
static inline const float *kv_rows(const struct tile *t, const struct keys *k, enum pd_kv_half half,
                                   float *buf, int64_t *ld)
{
    const struct piece *p = k->piece;
    if (t->a->kv == PD_KV_F32 && k->n_pieces == 1) {
        *ld = t->a->ldk;
        return (const float *)span_rows(p->span, half) + p->first * *ld + t->kvh * t->a->hsk;
    }
    float *to = buf;
    for (; p < k->piece + k->n_pieces; to += p++->n * t->D)
        copy_piece(t, p, half, to);
    *ld = t->D;
    return buf;
}

/* x to the nearest bf16, ties to even; x is finite. */
static inline vf round_bf16(vf x)
{
    vi u;
    memcpy(&u, &x, sizeof u);
    u = (u + 0x7fff + (u >> 16 & 1)) & ~0xffff;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* What alibi adds to scores. */
static inline vf alibi_bias(const struct pd_attn *a, vf slope, vf key_pos)
{
    const vf bias = slope * key_pos;
    return a->alibi_bf16 ? round_bf16(bias) * a->scale : bias;
}

#endif
