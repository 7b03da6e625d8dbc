/* What the ways of attention share: a tile of query rows, the keys that it sees, alibi. */
#ifndef PD_TENSOR_KERNEL_ATTN_TILE_H
#define PD_TENSOR_KERNEL_ATTN_TILE_H

#include "tensor/kernel/block.h"
#include "tensor/kernel/tile.h"

enum { KEYS = PD_ATTN_KEYS };

static const float HIDDEN = -1e30f; /* score of an invisible key; exp(HIDDEN - real) is 0 */

struct tile {
    const struct pd_attn *a;
    const struct pd_attn_seg *seg;
    int64_t G, R, RP, D; /* heads of the group, rows, rows padded, head dim */
    int64_t i0, ni;      /* tokens of the tile */
    int kvh;
    float *q, *qt;                /* (R,D) scaled, (D,RP) */
    float *s, *ds;                /* (KEYS,RP) scores then probabilities; their gradient */
    float *acc;                   /* (R,D) output or dq */
    float *dout, *doutt;          /* (R,D), (D,RP) */
    float *m, *l, *delta, *slope; /* (RP) */
    int32_t *pos;                 /* (RP) position of the row's token; -1 when padding */
    float *kf, *vf_;              /* (KEYS,D) when the cache is fp16 */
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
    t->kf = p, p += (kd + 15) / 16 * 16;
    t->vf_ = p, p += (kd + 15) / 16 * 16;
    t->m = p, p += t->RP;
    t->l = p, p += t->RP;
    t->delta = p, p += t->RP;
    t->slope = p, p += t->RP;
    t->pos = (int32_t *)p, p += t->RP;
    return p - mem;
}

/* The keys [*lo, *hi) of a span that a row at one of the positions first..last sees. */
static inline void visible(const struct pd_attn *a, int64_t first, int64_t last,
                           const struct pd_attn_span *sp, int64_t *lo, int64_t *hi)
{
    *hi = last - sp->pos + 1 < sp->n ? last - sp->pos + 1 : sp->n;
    *lo = 0;
    if (a->window > 0 && first - a->window + 1 > sp->pos)
        *lo = first - a->window + 1 - sp->pos;
}
static inline void visible_to_tile(const struct tile *t, const struct pd_attn_span *sp, int64_t *lo,
                                   int64_t *hi)
{
    const int64_t first = t->seg->pos + t->i0;
    visible(t->a, first, first + t->ni - 1, sp, lo, hi);
}

/* Row j0 of this head's keys or values as fp32, and the stride of its rows. */
static inline const float *kv_rows(const struct tile *t, const void *base, int64_t j0, int64_t nb,
                                   float *buf, int64_t *ld)
{
    const int64_t at = j0 * t->a->ldk + t->kvh * t->a->hsk;
    if (t->a->kv == PD_DTYPE_F32) {
        *ld = t->a->ldk;
        return (const float *)base + at;
    }
    for (int64_t j = 0; j < nb; j++) {
        const uint16_t *src = (const uint16_t *)base + at + j * t->a->ldk;
        int64_t d = 0;
        for (; d + 8 <= t->D; d += 8) {
            const f32x8 v = f16x8(src + d);
            memcpy(buf + j * t->D + d, &v, sizeof v);
        }
        for (; d < t->D; d++)
            buf[j * t->D + d] = pd_f16_to_f32(src[d]);
    }
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
