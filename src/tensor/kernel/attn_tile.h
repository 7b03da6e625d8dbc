/* What the ways of attention share: a tile of query rows, the keys that it sees, alibi. */
#ifndef PD_TENSOR_KERNEL_ATTN_TILE_H
#define PD_TENSOR_KERNEL_ATTN_TILE_H

#include "tensor/kernel/attn_kv.h"
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
    int16_t *words; /* (RP,ldw) of one token: q with keys of 8 bits, and what its words are worth */
    float *unit;    /* (RP) */
    int64_t ldw;
    float *kv; /* (KEYS,D) keys, then values, when they must be copied (kv_rows) */
};

static inline int64_t tile_init(struct tile *t, const struct pd_attn *a, float *mem)
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
    t->ldw = pd_attn_word_row(t->D);
    t->words = (int16_t *)p, p += t->RP * t->ldw / 2;
    t->unit = p, p += t->RP;
    t->m = p, p += t->RP;
    t->l = p, p += t->RP;
    t->delta = p, p += t->RP;
    t->slope = p, p += t->RP;
    t->top = p, p += t->RP;
    t->shrink = p, p += t->RP;
    t->pos = (int32_t *)p, p += t->RP;
    return p - mem;
}

/* Keys that follow each other in what rows see, up to KEYS of them, wherever they lie: fewer where
 * spans are so short that PIECES of them do not make KEYS. */
enum { PIECES = 16 };
struct keys {
    int64_t n;
    int n_pieces;
    struct piece {
        const struct pd_attn_span *span;
        int64_t first, n;
    } piece[PIECES];
};
/* Goes through all keys that some row at one of the positions first..last sees. seg NULL: none. */
struct reader {
    const struct pd_attn_seg *seg;
    int64_t first, last;
    bool apart; /* keys of one span at a time */
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
        const int64_t first = past > r->at ? past : r->at, room = KEYS - to->n;
        const int64_t n = end - first < room ? end - first : room;
        if (n > 0)
            to->piece[to->n_pieces++] = (struct piece){sp, first, n};
        to->n += n > 0 ? n : 0;
        r->at = first + n;
        if (r->at < end)
            continue;
        r->span++;
        r->at = 0;
    }
}

/* A piece's keys or values of this head as rows of fp32. */
PD_INLINE void copy_rows(const enum pd_kv_type kv, const struct tile *t, const struct piece *p,
                         bool values, float *to)
{
    const void *base = values ? p->span->v : p->span->k;
    const float *scales = values ? p->span->v_scale : p->span->k_scale;
    for (int64_t j = p->first; j < p->first + p->n; j++, to += t->D) {
        const int64_t at = j * t->a->ldk + t->kvh * t->a->hsk;
        const float scale = kv == PD_KV_INT8 ? scales[t->kvh * t->a->ld_scale + j] : 1.0f;
        int64_t d = 0;
        for (; d + PD_LANES <= t->D; d += PD_LANES)
            v_store(to + d, kv_load(kv, base, at + d) * scale);
        for (; d < t->D; d++)
            to[d] = kv_one(kv, base, at + d) * scale;
    }
}
static inline void copy_piece(const struct tile *t, const struct piece *p, bool values, float *to)
{
#define CALL(kv) copy_rows(kv, t, p, values, to)
    PD_BY_KV(t->a->kv, CALL)
#undef CALL
}

/* Keys, or their values, of this head as rows of fp32, *ld floats apart: where they lie, or copied
 * into buf (KEYS,D). */
static inline const float *kv_rows(const struct tile *t, const struct keys *k, bool values,
                                   float *buf, int64_t *ld)
{
    const struct piece *p = k->piece;
    if (t->a->kv == PD_KV_F32 && k->n_pieces == 1) {
        *ld = t->a->ldk;
        return (const float *)(values ? p->span->v : p->span->k) + p->first * *ld +
               t->kvh * t->a->hsk;
    }
    float *to = buf;
    for (; p < k->piece + k->n_pieces; to += p++->n * t->D)
        copy_piece(t, p, values, to);
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
