/* Private to the decoder's sources: its parts, and the buffers one pass works in. */
#ifndef PD_LM_DECODER_INT_H
#define PD_LM_DECODER_INT_H

#include "base/mem.h"
#include "lm/decoder.h"
#include "lm/model.h"
#include "tensor/attention.h"
#include "tensor/ops.h"

/* fp32 views: of the table when training, of copies when the file has another dtype. */
struct pd__norm {
    const float *w, *b;
    struct pd_param *pw, *pb;
};

struct pd__layer {
    struct pd_linear qkv, out, up, down;
    struct pd__norm norm1, norm2;
    struct pd__norm q_norm, k_norm; /* w NULL = none */
    float attn_scale;
};

/* What one block leaves behind. With save the pointers lie in the saved slab, one set a layer;
 * without, all layers use the same work buffers and x_in == x_mid. NULL = not kept. */
struct pd__acts {
    float *x_in;          /* (T, H) residual stream before the block */
    float *x_mid;         /* (T, H) after attention (sequential blocks) */
    float *qkv;           /* (T, W) as attention reads it: blocks q|k|v, normed, rotated */
    float *qk;            /* (T, (A+K) D) q|k before their norm, with qk_norm */
    float *o;             /* (T, A D) */
    float *lse;           /* (T, A) */
    float *gu;            /* (T, F or 2F) before the activation */
    float *stat1, *stat2; /* (2, T): 1/std, then mean, of the two norms */
    float *stat_qk;       /* (T, A+K) 1/std */
};

/* A buffer that only grows. */
struct pd__slab {
    float *p;
    size_t n; /* floats */
};

/* Attention of one pass: which segments see which spans; the pointers are set layer by layer. */
struct pd__attn_plan {
    struct pd_attn_seg *segs;
    struct pd_attn_span *spans;
    int64_t n_segs, n_spans, cap_segs, cap_spans;
};

struct pd_decoder {
    struct pd_model *model;
    struct pd_decoder_opts opts;
    int64_t H, F, V, L, A, K, D;
    int64_t W;  /* (A + 2K) D */
    int64_t FU; /* outputs of `up`: F, or 2F when gated */
    int rot;    /* rotated dims, 0 = no rope */
    struct pd__layer *layers;
    struct pd__norm final_norm;
    struct pd_linear head; /* out = 0: the model has no LM head */
    struct pd_pool panels; /* of the weights, with opts.panels (tensor/wmul.h) */
    bool all_in_panels;    /* then only embeddings are still read from the files */
    float *copies;         /* fp32 copies of small parameters */
    float *inv_freq;       /* (rot/2), for sequences of freq_len positions */
    float rope_scale;
    int64_t
        freq_len; /* 0 = any length up to max_positions (and beyond, unless scaling is dynamic) */
    float *alibi; /* (A) or NULL */

    /* work buffers for `rows` rows */
    struct pd__slab work, saved;
    float *x, *h, *h2, *qkv, *raw, *o, *gu, *y, *hidden, *cs;
    int32_t *pos, *ids; /* inference only */
    int64_t embedded;   /* rows of the embeddings that were read since their pages were let go */
    int64_t cap_pos;
    struct pd__attn_plan plan;

    /* what the last forward(save) kept */
    struct pd__acts *acts; /* L; those from saved_first on are set */
    float *x_final, *stat_final;
    int64_t saved_rows;
    int saved_first;
};

/* The sizes H to rot, from the model's configuration: all that counting bytes needs. */
void pd__decoder_shape(struct pd_decoder *dec);

/* Hands out pieces of a slab, each on a multiple of 16 floats. With base NULL it only counts. */
struct pd__carve {
    float *base;
    size_t at;
};
static inline float *pd__carve(struct pd__carve *c, int64_t n)
{
    float *p = c->base ? c->base + c->at : NULL;
    c->at += ((size_t)n + 15) / 16 * 16;
    return p;
}

/* Grows a slab to n floats; contents are lost when it grows. */
PD_CHECKED enum pd_rc pd__slab_need(struct pd__slab *s, size_t n, struct pd_err *err);
/* Lays the work buffers out for T rows. */
PD_CHECKED enum pd_rc pd__decoder_work(struct pd_decoder *dec, int64_t T, struct pd_err *err);
/* And what blocks from `first` on keep of T rows. */
PD_CHECKED enum pd_rc pd__decoder_saved(struct pd_decoder *dec, int64_t T, int first,
                                        struct pd_err *err);
struct pd__acts pd__decoder_work_acts(struct pd_decoder *dec);
void pd__plan_reserve(struct pd__attn_plan *plan, int64_t n_segs, int64_t n_spans);

void pd__norm_forward(const struct pd_decoder *dec, const struct pd__norm *n, int64_t T,
                      const float *x, float *y, float *stat);
void pd__norm_backward(const struct pd_decoder *dec, const struct pd__norm *n, int64_t T,
                       const float *x, const float *stat, const float *dy, float *dx,
                       enum pd_write mode);
/* Rows [row, row + n) of the rotation table, at positions pos[row...], as in a sequence of len
 * tokens (which matters to dynamic scaling). */
void pd__rope_rows(struct pd_decoder *dec, const int32_t *pos, int64_t row, int64_t n, int64_t len);
/* The error of an id that the embedding has no row for. */
enum pd_rc pd__no_such_token(const struct pd_decoder *dec, int32_t id, struct pd_err *err);
/* Token embedding, plus learned positions, into x (T, H). */
void pd__embed(const struct pd_decoder *dec, int64_t T, const int32_t *ids, const int32_t *pos,
               float *x);

/* One block from a->x_in to x_out (may be a->x_in when that is not to be kept). `attend` runs
 * attention for this layer once a->qkv is ready: over the stream or over the KV cache. It returns
 * for how many rows the rest of the block is: T, or, where the others are not wanted any more,
 * fewer, which then stand first in a->x_in, dec->h and a->o. */
typedef int64_t pd__attend_fn(struct pd_decoder *dec, int layer, const struct pd__acts *a,
                              void *ctx);
PD_CHECKED enum pd_rc pd__block_forward(struct pd_decoder *dec, int layer, int64_t T,
                                        const struct pd__acts *a, float *x_out,
                                        pd__attend_fn *attend, void *ctx, struct pd_err *err);
/* dx (T, H): gradient by the block's output in, by its input out. */
PD_CHECKED enum pd_rc pd__block_backward(struct pd_decoder *dec, int layer,
                                         const struct pd_stream *stream, const struct pd__acts *a,
                                         float *dx, struct pd_err *err);
/* Attention geometry of a layer over the stream's own rows. */
struct pd_attn pd__attn_shape(const struct pd_decoder *dec, int layer);
void pd__plan_stream(struct pd_decoder *dec, const struct pd_stream *stream);
int64_t pd__attend_stream(struct pd_decoder *dec, int layer, const struct pd__acts *a, void *ctx);

#endif
