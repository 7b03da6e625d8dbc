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
 * (q.k + bf16(alibi[h] * (key position))) * scale; softmax in fp32 with the running maximum
 * (Milakov & Gimelshein 2018); backward recomputes probabilities from the saved log-sum-exp (Dao
 * et al. 2022, algorithm 4). Parallel over (segment tile, some heads); backward over (tree, kv
 * head), each worked in list order, so the result is the same for any number of threads. */
#ifndef PD_TENSOR_ATTENTION_H
#define PD_TENSOR_ATTENTION_H

#include "tensor/dtype.h"

struct pd_attn {
    int heads, kv_heads, head_dim;
    float scale;        /* 1/sqrt(D) as a rule */
    int64_t ldq, hsq;   /* of q and dq */
    int64_t ldk, hsk;   /* of k, v, dk and dv, in elements */
    int64_t ldo, hso;   /* of o and do */
    enum pd_dtype kv;   /* F32, or F16 for spans in a half-size cache (forward only) */
    int64_t window;     /* 0 = none */
    const float *alibi; /* (heads) slopes or NULL */
    bool alibi_bf16;    /* rounded to bf16, and scaled as the products are */
};

struct pd_attn_span {
    const void *k, *v; /* row 0, kv head 0 */
    float *dk, *dv;    /* backward: add; NULL in inference. The same ld and hs as k and v */
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
/* n values as a cache in F16 holds them: rounded to nearest even, what is larger than the largest
 * finite half becomes that. */
void pd_attn_store(int64_t n, const float *x, uint16_t *to);
/* dq set; dk, dv add: zero them first. */
PD_CHECKED enum pd_rc pd_attn_backward(const struct pd_attn *a, const struct pd_attn_seg *segs,
                                       int64_t n_segs, struct pd_err *err);

#endif
