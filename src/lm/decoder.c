/* The decoder's life: what it makes of a model's parameters. */
#include "lm/decoder_int.h"
#include "base/mem.h"
#include "lm/model_int.h"
#include "lm/plan.h"

#include <math.h>
#include <unistd.h>

/* A small parameter as fp32: in place when it is, else the next piece of dec->copies. */
static const float *small(struct pd_param *p, struct pd__carve *copies)
{
    if (!p)
        return NULL;
    if (p->dtype == PD_DTYPE_F32 && (uintptr_t)p->data % sizeof(float) == 0)
        return p->data;
    float *to = pd__carve(copies, (int64_t)p->n);
    if (to)
        pd_param_rows(p, 0, p->shape[0], to);
    return to;
}

static struct pd__norm norm_of(const struct pd_norm *n, struct pd__carve *copies)
{
    return (struct pd__norm){small(n->w, copies), small(n->b, copies), n->w, n->b};
}

static void bind_norms(struct pd_decoder *dec, struct pd__carve *copies)
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
    struct pd_linear_part parts[PD_LINEAR_MAX_PARTS] = {0};
    PD_ASSERT(n >= 1 && n <= PD_LINEAR_MAX_PARTS);
    for (int i = 0; i < n; i++)
        parts[i] = (struct pd_linear_part){lins[i].w, lins[i].b, lins[i].in_out};
    const bool train = dec->opts.train;
    const enum pd_rc rc =
        pd_linear_init(out, parts, n, dec->opts.compute, train, &dec->panels, err);
    if (!train) /* what was turned, quantised or packed would lie there twice */
        pd_model_let_go(dec->model);
    for (int i = 0; i < n && rc == PD_OK && pd_linear_in_panels(out); i++)
        if (lins[i].w != dec->model->embed) /* a tied one is still read row by row */
            pd_model_drop(dec->model, lins[i].w);
    return rc;
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

void pd__decoder_shape(struct pd_decoder *dec)
{
    const struct pd_config *cfg = &dec->model->cfg;
    dec->H = cfg->hidden_size;
    dec->F = cfg->ffn_size;
    dec->V = cfg->vocab_size;
    dec->L = cfg->n_layers;
    dec->A = cfg->n_heads;
    dec->K = cfg->n_kv_heads;
    dec->D = cfg->head_dim;
    dec->W = (dec->A + 2 * dec->K) * dec->D;
    dec->FU = cfg->gated ? 2 * dec->F : dec->F;
    dec->rot = cfg->pos == PD_LM_POS_ROPE ? cfg->rope.dim : 0;
}

/* Bytes of a matrix in panels, about. */
static size_t panel_bytes(const struct pd_lin *l, enum pd_compute compute)
{
    if (!l->w)
        return 0;
    const bool is_float = pd_dtype_info(l->w->dtype)->block == 1;
    enum pd_dtype as = l->w->dtype;
    if (compute == PD_COMPUTE_Q8_0 || compute == PD_COMPUTE_Q4_0)
        as = compute == PD_COMPUTE_Q8_0 ? PD_DTYPE_Q8_0 : PD_DTYPE_Q4_0;
    else if (is_float && compute != PD_COMPUTE_F32)
        as = PD_DTYPE_BF16; /* words */
    const struct pd_dtype_info *d = pd_dtype_info(as);
    return l->w->n / (size_t)d->block * (size_t)d->bytes;
}

/* Panels are memory that the system cannot take back as it can pages of files: none where all of a
 * model's would need more than half of the machine's memory or three quarters of what is free. */
static void limit_panels(struct pd_decoder *dec)
{
    const struct pd_model *m = dec->model;
    const enum pd_compute c = dec->opts.compute;
    const size_t half = (size_t)sysconf(_SC_PHYS_PAGES) / 2 * (size_t)sysconf(_SC_PAGESIZE);
    const int64_t free = pd_memory_available();
    size_t sum = panel_bytes(&m->lm_head, c);
    const struct pd_lin *l;
    for (int i = 0; i < m->cfg.n_layers; i++)
        for (int k = 0; (l = pd_block_lin(&m->blocks[i], k)); k++)
            sum += panel_bytes(l, c);
    if (sum <= half && sum <= (size_t)free / 4 * 3)
        dec->panels.most = sum + sum / 4; /* with the edges of panels and what stays as it is */
}

static bool all_in_panels(const struct pd_decoder *dec)
{
    bool all = pd_linear_in_panels(&dec->head);
    for (int i = 0; i < dec->L; i++) {
        const struct pd__layer *l = &dec->layers[i];
        all = all && pd_linear_in_panels(&l->qkv) && pd_linear_in_panels(&l->out) &&
              pd_linear_in_panels(&l->up) && pd_linear_in_panels(&l->down);
    }
    return all;
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
    if (opts->panels && !opts->train)
        limit_panels(dec);
    pd__decoder_shape(dec);
    if (cfg->gated && cfg->act != PD_ACT_SILU) {
        rc = PD_FAIL(err, PD_UNSUPPORTED, "a gated MLP with another activation than silu");
        goto out;
    }
    dec->layers = pd_xalloc((size_t)dec->L * sizeof *dec->layers);
    dec->acts = pd_xalloc((size_t)dec->L * sizeof *dec->acts);

    struct pd__carve count = {NULL, 0};
    bind_norms(dec, &count);
    if (count.at) {
        dec->copies = pd_try_aligned(count.at, sizeof(float));
        if (!dec->copies) {
            rc = PD_FAIL(err, PD_NOMEM, "no memory for the norms of the model");
            goto out;
        }
        struct pd__carve copies = {dec->copies, 0};
        bind_norms(dec, &copies);
    }
    if (model->lm_head.w) /* the largest: its file's pages lie beside its copy while that is made */
        PD_TRY(make_linear(dec, &model->lm_head, 1, &dec->head, err));
    for (int i = 0; i < dec->L; i++)
        PD_TRY(make_layer(dec, i, err));
    dec->all_in_panels = all_in_panels(dec);
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
    pd_pool_release(&dec->panels);
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

enum pd_compute pd_decoder_compute(const struct pd_decoder *dec)
{
    return dec->opts.compute;
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
