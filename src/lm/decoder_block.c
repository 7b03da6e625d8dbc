/* One block, forward and backward side by side. The descriptor alone decides what is computed;
 * the three shapes of a block are drawn in lm/config.h. */
#include "lm/decoder_int.h"

#include <math.h>
#include <string.h>

/* ---- norms ---- */

void pd__norm_forward(const struct pd_decoder *dec, const struct pd__norm *n, int64_t T,
                      const float *x, float *y, float *stat)
{
    float eps = (float)dec->model->cfg.norm_eps;
    if (dec->model->cfg.norm == PD_LM_RMSNORM)
        pd_rmsnorm_forward(T, dec->H, x, n->w, eps, y, stat);
    else
        pd_layernorm_forward(T, dec->H, x, n->w, n->b, eps, y, stat ? stat + T : NULL, stat);
}

static float *grad_of(const struct pd_param *p)
{
    return p && p->trainable ? p->grad : NULL;
}

void pd__norm_backward(const struct pd_decoder *dec, const struct pd__norm *n, int64_t T,
                       const float *x, const float *stat, const float *dy, float *dx,
                       enum pd_write mode)
{
    if (dec->model->cfg.norm == PD_LM_RMSNORM)
        pd_rmsnorm_backward(T, dec->H, x, n->w, stat, dy, dx, mode, grad_of(n->pw));
    else
        pd_layernorm_backward(T, dec->H, x, n->w, stat + T, stat, dy, dx, mode, grad_of(n->pw),
                              grad_of(n->pb));
}

/* Norm of each head's q and k. Heads lie inside wider rows and the norm kernels want dense ones,
 * so a row of heads is one call. */
static void qk_norm_forward(struct pd_decoder *dec, const struct pd__layer *l, int64_t T,
                            const struct pd__acts *a)
{
    float eps = (float)dec->model->cfg.norm_eps;
    int64_t nq = dec->A * dec->D, nk = dec->K * dec->D;
    for (int64_t t = 0; t < T; t++) {
        float *row = a->qkv + t * dec->W;
        float *stat = a->stat_qk ? a->stat_qk + t * (dec->A + dec->K) : NULL;
        if (a->qk)
            memcpy(a->qk + t * (nq + nk), row, (size_t)(nq + nk) * sizeof *row);
        pd_rmsnorm_forward(dec->A, dec->D, row, l->q_norm.w, eps, row, stat);
        pd_rmsnorm_forward(dec->K, dec->D, row + nq, l->k_norm.w, eps, row + nq,
                           stat ? stat + dec->A : NULL);
    }
}

static void qk_norm_backward(struct pd_decoder *dec, const struct pd__layer *l, int64_t T,
                             const struct pd__acts *a, float *dqkv)
{
    int64_t nq = dec->A * dec->D, nk = dec->K * dec->D;
    for (int64_t t = 0; t < T; t++) {
        float *d = dqkv + t * dec->W;
        const float *x = a->qk + t * (nq + nk), *stat = a->stat_qk + t * (dec->A + dec->K);
        pd_rmsnorm_backward(dec->A, dec->D, x, l->q_norm.w, stat, d, d, PD_WRITE_SET,
                            grad_of(l->q_norm.pw));
        pd_rmsnorm_backward(dec->K, dec->D, x + nq, l->k_norm.w, stat + dec->A, d + nq, d + nq,
                            PD_WRITE_SET, grad_of(l->k_norm.pw));
    }
}

/* ---- q, k, v ---- */

/* Between the row of a fused projection (NeoX, Falcon) and [all q | all k | all v]. */
static void regroup(const struct pd_decoder *dec, int64_t T, float *fused, float *blocks,
                    bool to_blocks)
{
    const struct pd_qkv_layout *q = &dec->model->cfg.qkv;
    int64_t group = dec->A / dec->K, D = dec->D;
    size_t bytes = (size_t)D * sizeof(float);
    for (int64_t t = 0; t < T; t++) {
        float *f = fused + t * dec->W, *b = blocks + t * dec->W;
        for (int64_t h = 0; h < dec->A + 2 * dec->K; h++) {
            int64_t kv = (h - dec->A) % dec->K;
            int64_t at = h < dec->A
                             ? q->q_off + h / group * q->q_group_stride + h % group * D
                             : (h < dec->A + dec->K ? q->k_off : q->v_off) + kv * q->kv_stride;
            if (to_blocks)
                memcpy(b + h * D, f + at, bytes);
            else
                memcpy(f + at, b + h * D, bytes);
        }
    }
}

static void rotate(const struct pd_decoder *dec, int64_t T, float *qkv, bool inverse)
{
    if (dec->rot == 0)
        return;
    enum pd_rope_kind kind = dec->model->cfg.rope.interleaved ? PD_ROPE_INTERLEAVED : PD_ROPE_HALF;
    pd_rope_apply(T, (int)(dec->A + dec->K), qkv, dec->W, dec->D, dec->rot, kind, dec->cs, inverse);
}

static enum pd_rc qkv_forward(struct pd_decoder *dec, const struct pd__layer *l, int64_t T,
                              const struct pd__acts *a, const float *h, struct pd_err *err)
{
    bool blocks = dec->model->cfg.qkv.blocks;
    float *y = blocks ? a->qkv : dec->raw;
    enum pd_rc rc = pd_linear_forward(&l->qkv, T, h, dec->H, y, dec->W, PD_WRITE_SET, err);
    if (rc != PD_OK)
        return rc;
    if (!blocks)
        regroup(dec, T, dec->raw, a->qkv, true);
    if (l->q_norm.w)
        qk_norm_forward(dec, l, T, a);
    rotate(dec, T, a->qkv, false);
    return PD_OK;
}

/* dqkv (T, W) in blocks -> the projection's weights and, through it, dh (T, H) set. */
static enum pd_rc qkv_backward(struct pd_decoder *dec, const struct pd__layer *l, int64_t T,
                               const struct pd__acts *a, float *dqkv, const float *h, float *dh,
                               struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    rotate(dec, T, dqkv, true);
    if (l->q_norm.w)
        qk_norm_backward(dec, l, T, a, dqkv);
    if (!dec->model->cfg.qkv.blocks) {
        regroup(dec, T, dec->raw, dqkv, false);
        dqkv = dec->raw;
    }
    PD_TRY(pd_linear_backward_weight(&l->qkv, T, dqkv, dec->W, h, dec->H, err));
    PD_TRY(pd_linear_backward_input(&l->qkv, T, dqkv, dec->W, dh, dec->H, PD_WRITE_SET, err));
out:
    return rc;
}

/* ---- attention over the stream's own rows ---- */

struct pd_attn pd__attn_shape(const struct pd_decoder *dec, int layer)
{
    return (struct pd_attn){
        .heads = (int)dec->A,
        .kv_heads = (int)dec->K,
        .head_dim = (int)dec->D,
        .scale = dec->layers[layer].attn_scale,
        .ldq = dec->W,
        .hsq = dec->D,
        .ldk = dec->W,
        .hsk = dec->D,
        .ldo = dec->A * dec->D,
        .hso = dec->D,
        .kv = PD_KV_F32,
        .window = pd_config_window(&dec->model->cfg, layer),
        .alibi = dec->alibi,
        .alibi_bf16 = dec->model->cfg.alibi_bf16,
    };
}

/* Segments and spans of a stream; pointers come with each layer. A span's n and pos are fixed
 * here, and its first row is kept in pos order: parents first. */
void pd__plan_stream(struct pd_decoder *dec, const struct pd_stream *s)
{
    struct pd__attn_plan *plan = &dec->plan;
    int64_t spans = 0;
    for (int i = 0; i < s->n_segs; i++)
        for (int g = i; g >= 0; g = s->segs[g].parent)
            spans++;
    pd__plan_reserve(plan, s->n_segs, spans);
    int64_t at = 0;
    int tree = -1;
    for (int i = 0; i < s->n_segs; i++) {
        int depth = 0;
        for (int g = i; g >= 0; g = s->segs[g].parent)
            depth++;
        int64_t end = at + depth;
        for (int g = i; g >= 0; g = s->segs[g].parent)
            plan->spans[at + --depth] =
                (struct pd_attn_span){.n = s->segs[g].len, .pos = s->pos[s->segs[g].start]};
        if (s->segs[i].parent < 0)
            tree = i;
        plan->segs[i] = (struct pd_attn_seg){.n = s->segs[i].len,
                                             .pos = s->pos[s->segs[i].start],
                                             .spans = plan->spans + at,
                                             .n_spans = (int)(end - at),
                                             .tree = tree};
        at = end;
    }
    plan->n_segs = s->n_segs;
    plan->n_spans = spans;
}

/* Sets the pointers of plan (made from s) to a layer's activations and, if given, gradients. */
static void bind_stream(struct pd_decoder *dec, const struct pd_stream *s, const struct pd__acts *a,
                        float *dqkv, const float *dout)
{
    int64_t k_off = dec->A * dec->D, v_off = k_off + dec->K * dec->D, W = dec->W;
    struct pd_attn_span *span = dec->plan.spans;
    for (int i = 0; i < s->n_segs; i++) {
        struct pd_attn_seg *seg = &dec->plan.segs[i];
        int64_t row = s->segs[i].start;
        seg->q = a->qkv + row * W;
        seg->o = a->o + row * k_off;
        seg->lse = a->lse ? a->lse + row * dec->A : NULL;
        seg->dout = dout ? dout + row * k_off : NULL;
        seg->dq = dqkv ? dqkv + row * W : NULL;
        int g = i;
        for (int j = seg->n_spans - 1; j >= 0; j--, g = s->segs[g].parent) {
            int64_t at = s->segs[g].start * W;
            span[j].k = a->qkv + at + k_off;
            span[j].v = a->qkv + at + v_off;
            span[j].dk = dqkv ? dqkv + at + k_off : NULL;
            span[j].dv = dqkv ? dqkv + at + v_off : NULL;
        }
        span += seg->n_spans;
    }
}

int64_t pd__attend_stream(struct pd_decoder *dec, int layer, const struct pd__acts *a, void *ctx)
{
    const struct pd_stream *stream = ctx;
    struct pd_attn shape = pd__attn_shape(dec, layer);
    bind_stream(dec, stream, a, NULL, NULL);
    pd_attn_forward(&shape, dec->plan.segs, dec->plan.n_segs);
    return stream->n_rows;
}

/* ---- the feed-forward part ---- */

static void act_forward(const struct pd_decoder *dec, int64_t T, const float *gu, float *y)
{
    if (dec->model->cfg.gated)
        pd_swiglu_forward(T, dec->F, gu, y);
    else
        pd_act_forward(dec->model->cfg.act, T * dec->F, gu, y);
}

/* dy (T, F) in, y once more out in the same buffer; dgu (T, FU) set. */
static void act_backward(const struct pd_decoder *dec, int64_t T, const float *gu, float *dy,
                         float *dgu)
{
    if (dec->model->cfg.gated) {
        pd_swiglu_backward(T, dec->F, gu, dy, dgu, dy);
    } else {
        pd_act_backward(dec->model->cfg.act, T * dec->F, gu, dy, dgu);
        pd_act_forward(dec->model->cfg.act, T * dec->F, gu, dy);
    }
}

/* ---- the block ---- */

/* y = x, unless they are the same buffer. */
static void carry(int64_t n, const float *x, float *y)
{
    if (x != y)
        pd_copy(n, x, y);
}

enum pd_rc pd__block_forward(struct pd_decoder *dec, int layer, int64_t T, const struct pd__acts *a,
                             float *x_out, pd__attend_fn *attend, void *ctx, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct pd__layer *l = &dec->layers[layer];
    const struct pd_config *cfg = &dec->model->cfg;
    int64_t H = dec->H, AD = dec->A * dec->D;
    const float *x = a->x_in; /* what the residual goes on from */

    pd__norm_forward(dec, &l->norm1, T, a->x_in, dec->h, a->stat1);
    PD_TRY(qkv_forward(dec, l, T, a, dec->h, err));
    T = attend(dec, layer, a, ctx);
    if (!cfg->parallel_residual) {
        carry(T * H, x, a->x_mid);
        PD_TRY(pd_linear_forward(&l->out, T, a->o, AD, a->x_mid, H, PD_WRITE_ADD, err));
        x = a->x_mid;
    }
    if (l->norm2.w)
        pd__norm_forward(dec, &l->norm2, T, x, dec->h, a->stat2);
    PD_TRY(pd_linear_forward(&l->up, T, dec->h, H, a->gu, dec->FU, PD_WRITE_SET, err));
    act_forward(dec, T, a->gu, dec->y);
    carry(T * H, x, x_out);
    if (cfg->parallel_residual)
        PD_TRY(pd_linear_forward(&l->out, T, a->o, AD, x_out, H, PD_WRITE_ADD, err));
    PD_TRY(pd_linear_forward(&l->down, T, dec->y, dec->F, x_out, H, PD_WRITE_ADD, err));
out:
    return rc;
}

/* dx (T, H) by the block's output -> dh (T, H) by the input of `up`. */
static enum pd_rc mlp_backward(struct pd_decoder *dec, const struct pd__layer *l, int64_t T,
                               const struct pd__acts *a, const float *h, const float *dx, float *dh,
                               struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    int64_t H = dec->H;
    PD_TRY(pd_linear_backward_input(&l->down, T, dx, H, dec->y, dec->F, PD_WRITE_SET, err));
    act_backward(dec, T, a->gu, dec->y, dec->gu);
    PD_TRY(pd_linear_backward_weight(&l->down, T, dx, H, dec->y, dec->F, err));
    PD_TRY(pd_linear_backward_weight(&l->up, T, dec->gu, dec->FU, h, H, err));
    PD_TRY(pd_linear_backward_input(&l->up, T, dec->gu, dec->FU, dh, H, PD_WRITE_SET, err));
out:
    return rc;
}

/* dx (T, H) by the residual after attention -> dqkv (T, W), blocks. */
static enum pd_rc attn_backward(struct pd_decoder *dec, int layer, const struct pd_stream *stream,
                                const struct pd__acts *a, const float *dx, float *dqkv,
                                struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct pd__layer *l = &dec->layers[layer];
    int64_t T = stream->n_rows, AD = dec->A * dec->D;
    PD_TRY(pd_linear_backward_weight(&l->out, T, dx, dec->H, a->o, AD, err));
    PD_TRY(pd_linear_backward_input(&l->out, T, dx, dec->H, dec->o, AD, PD_WRITE_SET, err));
    pd_zero(T * dec->W, dqkv);
    struct pd_attn shape = pd__attn_shape(dec, layer);
    bind_stream(dec, stream, a, dqkv, dec->o);
    PD_TRY(pd_attn_backward(&shape, dec->plan.segs, dec->plan.n_segs, err));
out:
    return rc;
}

enum pd_rc pd__block_backward(struct pd_decoder *dec, int layer, const struct pd_stream *stream,
                              const struct pd__acts *a, float *dx, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct pd__layer *l = &dec->layers[layer];
    const struct pd_config *cfg = &dec->model->cfg;
    int64_t T = stream->n_rows;
    /* h: a norm's output, computed again; dh1, dh2: gradients by what the two halves read */
    float *h = dec->h, *dh1 = dec->x, *dh2 = dec->h2;

    const struct pd__norm *mlp_norm = l->norm2.w ? &l->norm2 : &l->norm1;
    const float *mlp_stat = l->norm2.w ? a->stat2 : a->stat1;
    const float *mlp_in = cfg->parallel_residual ? a->x_in : a->x_mid;
    pd__norm_forward(dec, mlp_norm, T, mlp_in, h, NULL);
    PD_TRY(mlp_backward(dec, l, T, a, h, dx, dh2, err));
    if (!cfg->parallel_residual)
        pd__norm_backward(dec, mlp_norm, T, mlp_in, mlp_stat, dh2, dx, PD_WRITE_ADD);

    PD_TRY(attn_backward(dec, layer, stream, a, dx, dec->qkv, err));
    if (!cfg->parallel_residual || l->norm2.w)
        pd__norm_forward(dec, &l->norm1, T, a->x_in, h, NULL);
    PD_TRY(qkv_backward(dec, l, T, a, dec->qkv, h, dh1, err));
    if (cfg->parallel_residual) {
        if (l->norm2.w)
            pd__norm_backward(dec, &l->norm2, T, a->x_in, a->stat2, dh2, dx, PD_WRITE_ADD);
        else
            pd_add(T * dec->H, dh2, dh1);
    }
    pd__norm_backward(dec, &l->norm1, T, a->x_in, a->stat1, dh1, dx, PD_WRITE_ADD);
out:
    return rc;
}
