/* The decoder's life, its buffers, and the passes over a packed stream. */
#include "lm/decoder_int.h"
#include "base/mem.h"

#include <math.h>
#include <string.h>

/* ---- buffers ---- */

enum pd_rc pd__slab_need(struct pd__slab *s, size_t n, struct pd_err *err)
{
    if (n <= s->n)
        return PD_OK;
    pd_aligned_free(s->p);
    s->n = 0;
    s->p = pd_try_aligned(n, sizeof(float));
    if (!s->p)
        return PD_FAIL(err, PD_NOMEM, "no memory for activations (%.1f MB); use smaller batches",
                       (double)n * sizeof(float) / 1e6);
    s->n = n;
    return PD_OK;
}

/* Hands out pieces of a slab, each on a multiple of 16 floats. With base NULL it only counts. */
struct carve {
    float *base;
    size_t at;
};

static float *carve(struct carve *c, int64_t n)
{
    float *p = c->base ? c->base + c->at : NULL;
    c->at += ((size_t)n + 15) / 16 * 16;
    return p;
}

static void work_layout(struct pd_decoder *dec, struct carve *c, int64_t T)
{
    bool train = dec->opts.train;
    dec->x = carve(c, T * dec->H);
    dec->h = carve(c, T * dec->H);
    dec->h2 = train ? carve(c, T * dec->H) : NULL;
    dec->hidden = carve(c, T * dec->H);
    dec->gather = carve(c, T * dec->H);
    dec->qkv = carve(c, T * dec->W);
    dec->raw = dec->model->cfg.qkv.blocks ? NULL : carve(c, T * dec->W);
    dec->o = carve(c, T * dec->A * dec->D);
    dec->gu = carve(c, T * dec->FU);
    dec->y = carve(c, T * dec->F);
    dec->cs = dec->rot ? carve(c, T * dec->rot) : NULL;
}

/* Room grows in steps so that streams of slightly different size do not reallocate. */
static int64_t round_rows(int64_t T)
{
    int64_t step = T < 1024 ? 128 : 512;
    return (T + step - 1) / step * step;
}

enum pd_rc pd__decoder_work(struct pd_decoder *dec, int64_t T, struct pd_err *err)
{
    struct carve count = {NULL, 0};
    work_layout(dec, &count, round_rows(T));
    enum pd_rc rc = pd__slab_need(&dec->work, count.at, err);
    struct carve c = {dec->work.p, 0};
    if (rc == PD_OK)
        work_layout(dec, &c, T);
    return rc;
}

struct pd__acts pd__decoder_work_acts(struct pd_decoder *dec)
{
    return (struct pd__acts){
        .x_in = dec->x, .x_mid = dec->x, .qkv = dec->qkv, .o = dec->o, .gu = dec->gu};
}

static void saved_layout(struct pd_decoder *dec, struct carve *c, int64_t T, int first)
{
    const struct pd_config *cfg = &dec->model->cfg;
    for (int64_t l = first; l < dec->L; l++) {
        dec->acts[l] = (struct pd__acts){
            .x_in = carve(c, T * dec->H),
            .x_mid = cfg->parallel_residual ? NULL : carve(c, T * dec->H),
            .qkv = carve(c, T * dec->W),
            .qk = cfg->qk_norm ? carve(c, T * (dec->A + dec->K) * dec->D) : NULL,
            .o = carve(c, T * dec->A * dec->D),
            .lse = carve(c, T * dec->A),
            .gu = carve(c, T * dec->FU),
            .stat1 = carve(c, 2 * T),
            .stat2 = carve(c, 2 * T),
            .stat_qk = cfg->qk_norm ? carve(c, T * (dec->A + dec->K)) : NULL,
        };
    }
    dec->x_final = carve(c, T * dec->H);
    dec->stat_final = carve(c, 2 * T);
}

static enum pd_rc saved_need(struct pd_decoder *dec, int64_t T, int first, struct pd_err *err)
{
    struct carve count = {NULL, 0};
    saved_layout(dec, &count, round_rows(T), first);
    enum pd_rc rc = pd__slab_need(&dec->saved, count.at, err);
    struct carve c = {dec->saved.p, 0};
    if (rc == PD_OK)
        saved_layout(dec, &c, T, first);
    return rc;
}

int64_t pd_decoder_train_bytes(const struct pd_decoder *dec, int64_t n_rows)
{
    struct pd_decoder copy = *dec; /* the layouts write pointers */
    struct carve work = {NULL, 0}, saved = {NULL, 0};
    copy.acts = pd_xalloc((size_t)dec->L * sizeof *copy.acts);
    work_layout(&copy, &work, round_rows(n_rows));
    saved_layout(&copy, &saved, round_rows(n_rows), pd_decoder_first_trainable(dec));
    pd_free(copy.acts);
    return (int64_t)((work.at + saved.at) * sizeof(float));
}

void pd__plan_reserve(struct pd__attn_plan *plan, int64_t n_segs, int64_t n_spans)
{
    if (n_segs > plan->cap_segs) {
        plan->cap_segs = n_segs + n_segs / 2;
        plan->segs = pd_xrealloc(plan->segs, (size_t)plan->cap_segs * sizeof *plan->segs);
    }
    if (n_spans > plan->cap_spans) {
        plan->cap_spans = n_spans + n_spans / 2;
        plan->spans = pd_xrealloc(plan->spans, (size_t)plan->cap_spans * sizeof *plan->spans);
    }
}

/* ---- making one ---- */

/* A small parameter as fp32: in place when it is, else the next piece of dec->copies. */
static const float *small(struct pd_param *p, struct carve *copies)
{
    if (!p)
        return NULL;
    if (p->dtype == PD_DTYPE_F32 && (uintptr_t)p->data % sizeof(float) == 0)
        return p->data;
    float *to = carve(copies, (int64_t)p->n);
    if (to)
        pd_param_rows(p, 0, p->shape[0], to);
    return to;
}

static struct pd__norm norm_of(const struct pd_norm *n, struct carve *copies)
{
    return (struct pd__norm){small(n->w, copies), small(n->b, copies), n->w, n->b};
}

static void bind_norms(struct pd_decoder *dec, struct carve *copies)
{
    const struct pd_model *m = dec->model;
    for (int64_t i = 0; i < dec->L; i++) {
        const struct pd_block *b = &m->blocks[i];
        struct pd__layer *l = &dec->layers[i];
        l->norm1 = norm_of(&b->norm1, copies);
        l->norm2 = norm_of(&b->norm2, copies);
        l->q_norm = norm_of(&(struct pd_norm){b->q_norm, NULL}, copies);
        l->k_norm = norm_of(&(struct pd_norm){b->k_norm, NULL}, copies);
    }
    dec->final_norm = norm_of(&m->final_norm, copies);
}

static enum pd_rc make_linear(struct pd_decoder *dec, const struct pd_lin *lins, int n,
                              struct pd_linear *out, struct pd_err *err)
{
    struct pd_linear_part parts[PD_LINEAR_MAX_PARTS];
    PD_ASSERT(n >= 1 && n <= PD_LINEAR_MAX_PARTS);
    for (int i = 0; i < n; i++)
        parts[i] = (struct pd_linear_part){lins[i].w, lins[i].b, lins[i].in_out};
    return pd_linear_init(out, parts, n, dec->opts.compute, dec->opts.train, err);
}

static enum pd_rc make_layer(struct pd_decoder *dec, int i, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct pd_config *cfg = &dec->model->cfg;
    const struct pd_block *b = &dec->model->blocks[i];
    struct pd__layer *l = &dec->layers[i];
    PD_TRY(make_linear(dec, b->qkv, b->n_qkv, &l->qkv, err));
    PD_TRY(make_linear(dec, &b->out, 1, &l->out, err));
    PD_TRY(make_linear(dec, b->up, b->n_up, &l->up, err));
    PD_TRY(make_linear(dec, &b->down, 1, &l->down, err));
    if (l->qkv.in != dec->H || l->qkv.out != dec->W || l->out.in != dec->A * dec->D ||
        l->out.out != dec->H || l->up.in != dec->H || l->up.out != dec->FU ||
        l->down.in != dec->F || l->down.out != dec->H) {
        rc = PD_FAIL(err, PD_INVALID, "block %d: the weights do not have the shapes of the config",
                     i);
        goto out;
    }
    l->attn_scale = (float)(cfg->attn_scale / (cfg->attn_scale_by_layer ? i + 1 : 1));
out:
    return rc;
}

/* Slopes of Press et al. 2022: a geometric series for the nearest power of two of heads, the
 * others from between. */
static void alibi_slopes(int64_t heads, float *out)
{
    int64_t pow2 = 1;
    while (2 * pow2 <= heads)
        pow2 *= 2;
    for (int64_t h = 0; h < heads; h++) {
        double e = h < pow2 ? 8.0 * (double)(h + 1) / (double)pow2
                            : 4.0 * (double)(2 * (h - pow2) + 1) / (double)pow2;
        out[h] = (float)exp2(-e);
    }
}

static void make_positions(struct pd_decoder *dec)
{
    const struct pd_config *cfg = &dec->model->cfg;
    if (cfg->pos == PD_LM_POS_ROPE) {
        dec->rot = cfg->rope.dim;
        dec->inv_freq = pd_xalloc((size_t)dec->rot / 2 * sizeof(float) + sizeof(float));
        dec->rope_scale = (float)pd_config_rope_freqs(cfg, 0, dec->inv_freq);
    } else if (cfg->pos == PD_LM_POS_ALIBI) {
        dec->alibi = pd_xalloc((size_t)dec->A * sizeof(float));
        alibi_slopes(dec->A, dec->alibi);
        if (cfg->alibi_bf16)
            for (int64_t h = 0; h < dec->A; h++) {
                uint16_t half;
                pd_f32_to_bf16(&dec->alibi[h], &half, 1);
                dec->alibi[h] = pd_bf16_to_f32(half);
            }
    }
}

enum pd_rc pd_decoder_new(struct pd_model *model, const struct pd_decoder_opts *opts,
                          struct pd_decoder **out, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct pd_config *cfg = &model->cfg;
    struct pd_decoder *dec = pd_xalloc(sizeof *dec);
    dec->model = model;
    dec->opts = *opts;
    if (opts->train)
        dec->opts.compute = pd_compute_resolve(opts->compute);
    dec->H = cfg->hidden_size;
    dec->F = cfg->ffn_size;
    dec->V = cfg->vocab_size;
    dec->L = cfg->n_layers;
    dec->A = cfg->n_heads;
    dec->K = cfg->n_kv_heads;
    dec->D = cfg->head_dim;
    dec->W = (dec->A + 2 * dec->K) * dec->D;
    dec->FU = cfg->gated ? 2 * dec->F : dec->F;
    if (cfg->gated && cfg->act != PD_ACT_SILU) {
        rc = PD_FAIL(err, PD_UNSUPPORTED, "a gated MLP with another activation than silu");
        goto out;
    }
    dec->layers = pd_xalloc((size_t)dec->L * sizeof *dec->layers);
    dec->acts = pd_xalloc((size_t)dec->L * sizeof *dec->acts);

    struct carve count = {NULL, 0};
    bind_norms(dec, &count);
    if (count.at) {
        dec->copies = pd_try_aligned(count.at, sizeof(float));
        if (!dec->copies) {
            rc = PD_FAIL(err, PD_NOMEM, "no memory for the norms of the model");
            goto out;
        }
        struct carve copies = {dec->copies, 0};
        bind_norms(dec, &copies);
    }
    for (int i = 0; i < dec->L; i++)
        PD_TRY(make_layer(dec, i, err));
    if (model->lm_head.w)
        PD_TRY(make_linear(dec, &model->lm_head, 1, &dec->head, err));
    make_positions(dec);
    *out = dec;
    dec = NULL;
out:
    pd_decoder_free(dec);
    return rc;
}

void pd_decoder_free(struct pd_decoder *dec)
{
    if (!dec)
        return;
    for (int64_t i = 0; dec->layers && i < dec->L; i++) {
        pd_linear_release(&dec->layers[i].qkv);
        pd_linear_release(&dec->layers[i].out);
        pd_linear_release(&dec->layers[i].up);
        pd_linear_release(&dec->layers[i].down);
    }
    pd_linear_release(&dec->head);
    pd_aligned_free(dec->work.p);
    pd_aligned_free(dec->saved.p);
    pd_aligned_free(dec->copies);
    pd_free(dec->layers);
    pd_free(dec->acts);
    pd_free(dec->inv_freq);
    pd_free(dec->alibi);
    pd_free(dec->pos);
    pd_free(dec->ids);
    pd_free(dec->plan.segs);
    pd_free(dec->plan.spans);
    pd_free(dec);
}

const struct pd_model *pd_decoder_model(const struct pd_decoder *dec)
{
    return dec->model;
}

int64_t pd_decoder_hidden_size(const struct pd_decoder *dec)
{
    return dec->H;
}

int64_t pd_decoder_vocab_size(const struct pd_decoder *dec)
{
    return dec->V;
}

int pd_decoder_n_layers(const struct pd_decoder *dec)
{
    return (int)dec->L;
}

int pd_decoder_first_trainable(const struct pd_decoder *dec)
{
    const struct pd_model *m = dec->model;
    if (m->embed->trainable || (m->pos_embed && m->pos_embed->trainable))
        return 0;
    int first = (int)dec->L;
    for (size_t i = 0; i < m->params.n; i++) {
        const struct pd_param *p = &m->params.v[i];
        if (p->trainable && p->layer >= 0 && p->layer < first)
            first = p->layer;
    }
    return first;
}

static enum pd_rc repack(struct pd_linear *l, struct pd_err *err)
{
    for (int i = 0; i < l->n_parts; i++) {
        const struct pd_linear_part *p = &l->part[i];
        if (p->weight->trainable || (p->bias && p->bias->trainable))
            return pd_linear_repack(l, err);
    }
    return PD_OK;
}

enum pd_rc pd_decoder_repack(struct pd_decoder *dec, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    for (int64_t i = 0; i < dec->L; i++) {
        PD_TRY(repack(&dec->layers[i].qkv, err));
        PD_TRY(repack(&dec->layers[i].out, err));
        PD_TRY(repack(&dec->layers[i].up, err));
        PD_TRY(repack(&dec->layers[i].down, err));
    }
    PD_TRY(repack(&dec->head, err));
out:
    return rc;
}

/* ---- passes over a stream ---- */

static enum pd_rc check_stream(const struct pd_decoder *dec, const struct pd_stream *s,
                               struct pd_err *err)
{
    int64_t limit = dec->model->pos_embed ? dec->model->pos_embed->shape[0] : INT32_MAX;
    for (int64_t t = 0; t < s->n_rows; t++) {
        if (s->ids[t] < 0 || s->ids[t] >= dec->V)
            return PD_FAIL(err, PD_INVALID, "token id %d is not below the vocabulary size %lld",
                           s->ids[t], (long long)dec->V);
        if (s->pos[t] >= limit)
            return PD_FAIL(err, PD_INVALID,
                           "a sequence of %d tokens is longer than the model's context of %lld",
                           s->pos[t] + 1, (long long)limit);
    }
    return PD_OK;
}

void pd__embed(const struct pd_decoder *dec, int64_t T, const int32_t *ids, const int32_t *pos,
               float *x)
{
    pd_embed_forward(T, dec->H, ids, dec->model->embed, x, PD_WRITE_SET);
    if (dec->model->pos_embed)
        pd_embed_forward(T, dec->H, pos, dec->model->pos_embed, x, PD_WRITE_ADD);
}

void pd__rope_rows(struct pd_decoder *dec, const int32_t *pos, int64_t row, int64_t n, int64_t len)
{
    const struct pd_config *cfg = &dec->model->cfg;
    bool stretched = cfg->rope.scaling == PD_LM_SCALE_DYNAMIC && len > cfg->max_positions;
    if (!stretched)
        len = 0;
    if (len != dec->freq_len) {
        dec->rope_scale = (float)pd_config_rope_freqs(cfg, len, dec->inv_freq);
        dec->freq_len = len;
    }
    pd_rope_table(n, pos + row, dec->rot, dec->inv_freq, dec->rope_scale, dec->cs + row * dec->rot);
}

/* The rotation table of a stream. A tree's rows go by its longest sequence; one past the context
 * has a tree of its own (pd_config_share_limit). */
static void rope_stream(struct pd_decoder *dec, const struct pd_stream *s)
{
    for (int i = 0; i < s->n_segs;) {
        int64_t first = s->segs[i].start, end = first, len = 0;
        for (int root = i; i < s->n_segs && (i == root || s->segs[i].parent >= 0); i++) {
            end = s->segs[i].start + s->segs[i].len;
            int64_t reach = s->segs[i].len ? s->pos[end - 1] + 1 : 0;
            len = reach > len ? reach : len;
        }
        pd__rope_rows(dec, s->pos, first, end - first, len);
    }
}

/* What every pass over a stream begins with: buffers, rotation table, attention plan. */
static enum pd_rc begin(struct pd_decoder *dec, const struct pd_stream *s, struct pd_err *err)
{
    enum pd_rc rc = check_stream(dec, s, err);
    if (rc == PD_OK)
        rc = pd__decoder_work(dec, s->n_rows, err);
    if (rc != PD_OK)
        return rc;
    if (dec->rot)
        rope_stream(dec, s);
    pd__plan_stream(dec, s);
    return PD_OK;
}

/* Blocks [from, to) without saving, in place in dec->x. */
static enum pd_rc run_blocks(struct pd_decoder *dec, const struct pd_stream *s, int from, int to,
                             struct pd_err *err)
{
    struct pd__acts a = pd__decoder_work_acts(dec);
    for (int l = from; l < to; l++) {
        enum pd_rc rc = pd__block_forward(dec, l, s->n_rows, &a, dec->x, pd__attend_stream,
                                          (void *)(uintptr_t)s, err);
        if (rc != PD_OK)
            return rc;
    }
    return PD_OK;
}

/* Blocks from..L-1 on dec->x, where those from the lowest trainable one on keep their
 * activations. */
static enum pd_rc run_saving(struct pd_decoder *dec, const struct pd_stream *s, int from,
                             struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    int64_t T = s->n_rows;
    int first = pd_decoder_first_trainable(dec);
    if (from > first) {
        rc = PD_FAIL(err, PD_BUG, "forward from block %d, but block %d trains", from, first);
        goto out;
    }
    PD_TRY(saved_need(dec, T, first, err));
    PD_TRY(run_blocks(dec, s, from, first, err));
    pd_copy(T * dec->H, dec->x, first < dec->L ? dec->acts[first].x_in : dec->x_final);
    for (int l = first; l < dec->L; l++) {
        float *next = l + 1 < dec->L ? dec->acts[l + 1].x_in : dec->x_final;
        PD_TRY(pd__block_forward(dec, l, T, &dec->acts[l], next, pd__attend_stream,
                                 (void *)(uintptr_t)s, err));
    }
    pd__norm_forward(dec, &dec->final_norm, T, dec->x_final, dec->hidden, dec->stat_final);
    dec->saved_rows = T;
    dec->saved_first = first;
out:
    return rc;
}

static enum pd_rc run(struct pd_decoder *dec, const struct pd_stream *s, int from, bool save,
                      const float **hidden, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    dec->saved_rows = -1;
    if (save) {
        PD_ASSERT(dec->opts.train);
        PD_TRY(run_saving(dec, s, from, err));
    } else {
        PD_TRY(run_blocks(dec, s, from, (int)dec->L, err));
        pd__norm_forward(dec, &dec->final_norm, s->n_rows, dec->x, dec->hidden, NULL);
    }
    *hidden = dec->hidden;
out:
    return rc;
}

enum pd_rc pd_decoder_forward(struct pd_decoder *dec, const struct pd_stream *stream, bool save,
                              const float **hidden, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    PD_TRY(begin(dec, stream, err));
    pd__embed(dec, stream->n_rows, stream->ids, stream->pos, dec->x);
    PD_TRY(run(dec, stream, 0, save, hidden, err));
out:
    return rc;
}

enum pd_rc pd_decoder_forward_to(struct pd_decoder *dec, const struct pd_stream *stream, int layer,
                                 float *x, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    PD_ASSERT(layer >= 0 && layer <= dec->L);
    PD_TRY(begin(dec, stream, err));
    dec->saved_rows = -1;
    pd__embed(dec, stream->n_rows, stream->ids, stream->pos, dec->x);
    PD_TRY(run_blocks(dec, stream, 0, layer, err));
    pd_copy(stream->n_rows * dec->H, dec->x, x);
out:
    return rc;
}

enum pd_rc pd_decoder_forward_from(struct pd_decoder *dec, const struct pd_stream *stream,
                                   int layer, const float *x, bool save, const float **hidden,
                                   struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    PD_ASSERT(layer >= 0 && layer <= dec->L);
    PD_TRY(begin(dec, stream, err));
    pd_copy(stream->n_rows * dec->H, x, dec->x);
    PD_TRY(run(dec, stream, layer, save, hidden, err));
out:
    return rc;
}

enum pd_rc pd_decoder_backward(struct pd_decoder *dec, const struct pd_stream *stream,
                               float *dhidden, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct pd_model *m = dec->model;
    int64_t T = stream->n_rows;
    if (dec->saved_rows != T) {
        rc = PD_FAIL(err, PD_BUG, "backward of %lld rows without a saving forward of them",
                     (long long)T);
        goto out;
    }
    float *dx = dhidden;
    pd__norm_backward(dec, &dec->final_norm, T, dec->x_final, dec->stat_final, dx, dx,
                      PD_WRITE_SET);
    for (int l = (int)dec->L - 1; l >= dec->saved_first; l--)
        PD_TRY(pd__block_backward(dec, l, stream, &dec->acts[l], dx, err));
    if (dec->saved_first == 0) {
        if (m->pos_embed && m->pos_embed->trainable)
            pd_embed_backward(T, dec->H, stream->pos, dx, m->pos_embed->grad);
        for (int64_t t = 0; t < T; t++) /* as transformers' padding_idx: read, never trained */
            if (stream->ids[t] == m->cfg.padding_row)
                memset(dx + t * dec->H, 0, (size_t)dec->H * sizeof *dx);
        if (m->embed->trainable)
            pd_embed_backward(T, dec->H, stream->ids, dx, m->embed->grad);
    }
out:
    return rc;
}
