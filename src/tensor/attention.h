/* Softmax attention over spans: one op for packed prefix trees, prefill and decoding.
 *
 * A query segment is n consecutive rows at positions pos, pos+1, ... The keys and values it may
 * see are a list of spans: runs of rows that lie wherever they lie (in the stream's own
 * activations when training; in pages of a KV cache when generating). Key row j of a span stands
 * at position span.pos + j. Query row i sees key row j iff
 *      span.pos + j <= pos + i          (causal; ancestors in a prefix tree are always earlier)
 *      span.pos + j >  pos + i - window (when window > 0)
 * so a span may hold earlier tokens only, or the segment's own rows, or both. What a segment must
 * not see is simply not in its list. Every query row must see at least one key.
 *
 * Heads: query head h reads kv head h / (heads / kv_heads). Head h of row t starts at
 * base + t*ld + h*hs (floats), so q, k, v may be blocks of one (T, (A+2K)D) matrix, NeoX's per-head
 * [q k v], or a cache laid out head by head (hs > ld).
 *
 * Scores are q.k * scale + alibi[h] * (key position), or as Falcon has it (alibi_bf16)
 * (q.k + bf16(alibi[h] * (key position))) * scale. Keys and values of 8 bits meet a
 * tile of one query row (a segment's only one or its last, or any where a group has many heads) in
 * sums of integers: q is rounded to 15 bits with its sign, a scale for each head, and so are what
 * values weigh, a scale for each tile of keys. Softmax in fp32 with the
 * running maximum (Milakov & Gimelshein 2018); backward recomputes probabilities from the saved
 * log-sum-exp (Dao et al. 2022, algorithm 4). Parallel over (segment tile, some heads); backward
 * over (tree, kv head), each worked in list order, so the result is the same for any number of
 * threads. */
#ifndef PD_TENSOR_ATTENTION_H
#define PD_TENSOR_ATTENTION_H

#include "base/err.h"
#include <stdint.h>

/* How keys and values are kept. Training has fp32; the others are of caches, forward only. */
enum pd_kv_type {
    PD_KV_F32,
    PD_KV_F16,
    PD_KV_INT8, /* rotated (kernel/attn_kv.h), then scale * q, q -127 .. 127, one scale for each
                   token and head. The bytes of four tokens stand together (kernel/attn_bytes.h) */
};
static inline int64_t pd_kv_value_bytes(enum pd_kv_type kv)
{
    return kv == PD_KV_F32 ? 4 : kv == PD_KV_F16 ? 2 : 1;
}
/* head_dim at most with INT8: 255 * 16383 times this many add up to 31 bits. */
enum { PD_KV_INT8_DIM = 512, PD_KV_QUAD = 4, PD_KV_LOT = 16 };
/* Values that a head of a token takes: with INT8 whole lots of PD_KV_LOT. */
static inline int64_t pd_kv_head_values(enum pd_kv_type kv, int64_t head_dim)
{
    const int64_t lots = (head_dim + PD_KV_LOT - 1) / PD_KV_LOT;
    return kv == PD_KV_INT8 ? lots * PD_KV_LOT : head_dim;
}

struct pd_attn {
    int heads, kv_heads, head_dim;
    float scale;      /* 1/sqrt(D) as a rule */
    int64_t ldq, hsq; /* of q and dq */
    int64_t ldk, hsk; /* of k, v, dk and dv, in elements; INT8: multiples of PD_KV_LOT */
    int64_t ldo, hso; /* of o and do */
    enum pd_kv_type kv;
    int64_t ld_scale;   /* INT8: between the scales of two heads */
    int64_t window;     /* 0 = none */
    const float *alibi; /* (heads) slopes or NULL */
    bool alibi_bf16;    /* rounded to bf16, and scaled as the products are */
};

/* With INT8 rows stand by quads, of which row 0 begins one; there is room for whole ones. That of
 * rows 4 i .. 4 i + 3 and kv head h begins at byte 4 * (i * ldk + h * hsk). */
struct pd_attn_span {
    const void *k, *v;              /* row 0, kv head 0 */
    const float *k_scale, *v_scale; /* INT8: of row j, kv head h at [h * ld_scale + j] */
    float *dk, *dv; /* backward: add; NULL in inference. The same ld and hs as k and v */
    int64_t n, pos;
};

struct pd_attn_seg {
    const float *q;    /* row 0, head 0 */
    float *o;          /* forward: out. backward: in, as forward left it */
    float *lse;        /* (n, heads): forward out or NULL; backward in */
    const float *dout; /* backward in, strides as o */
    float *dq;         /* backward: set */
    int64_t n, pos;
    const struct pd_attn_span *spans;
    int n_spans;
    int tree; /* backward: segments that share dk/dv rows have the same number and stand together */
};

/* A single query row per segment (decoding a batch) takes a path that streams K and V once for all
 * query heads of a group, or of the part of it that a thread has where tokens are few. */
void pd_attn_forward(const struct pd_attn *a, const struct pd_attn_seg *segs, int64_t n_segs);
/* A token's keys or values x (kv_heads * head_dim) as a cache keeps them: row j of the keys or
 * values of a span, its scales at scales[h * ld_scale + j] (INT8, else NULL). The rest of a quad
 * stays as it is, but is written, so that one thread at a time may store rows of it. Of `a` its kv,
 * kv_heads, head_dim, ldk, hsk (INT8; else head_dim) and ld_scale count. F16 rounds to nearest
 * even, what is larger than the largest finite half becomes that. INT8: scale = max |x| / 127 of a
 * head once rotated; all of it reads back as NaN where a value is not finite or rotation overflows
 * (above 4e37), as 0 where none is above 1e-30. */
enum pd_kv_half { PD_KV_KEYS, PD_KV_VALUES };
void pd_attn_store(const struct pd_attn *a, enum pd_kv_half half, int64_t j, const float *x,
                   void *rows, float *scales);
/* dq set; dk, dv add: zero them first. */
PD_CHECKED enum pd_rc pd_attn_backward(const struct pd_attn *a, const struct pd_attn_seg *segs,
                                       int64_t n_segs, struct pd_err *err);

#endif
