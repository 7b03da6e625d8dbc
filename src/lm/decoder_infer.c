/* Inference: new tokens appended to nodes of the KV cache. The block is the training one; only
 * what attention reads differs, and that is the pages of a node and its ancestors. */
#include "lm/decoder_int.h"
#include "lm/heads.h"
#include "lm/kv.h"
#include "base/mem.h"
#include "tensor/team.h"

#include <string.h>

struct infer {
    struct pd_kv *kv;
    const struct pd_infer_part *parts;
    int n_parts;
    int64_t rows, T; /* of all parts; with those that only fill up */
    int64_t wanted;  /* rows whose hidden states are */
    int *span_page;  /* page of each span of the plan */
};

/* Weights in place (inference) give a row the same bits whatever stands beside it. Live weights of
 * a trainer go through oneDNN: its fp32 kernels sum the rows that are left over after their tiles
 * in another order, which shows in the last bits. Seen with 2.6.3 on AVX2, for all shapes of
 * SmolLM2: equal bits for every row when their number is 4, a multiple of 6 up to 72, of 12 up to
 * 144, or larger. */
int64_t pd_decoder_stable_rows(const struct pd_decoder *dec, int64_t n)
{
    if (!dec->opts.train || dec->opts.compute != PD_COMPUTE_F32 || n == 0 || n > 144)
        return n;
    int64_t unit = n <= 4 ? 4 : n <= 72 ? 6 : 12;
    return (n + unit - 1) / unit * unit;
}

enum pd_rc pd_cache_parse(const char *text, enum pd_cache *out, struct pd_err *err)
{
    static const char *const names[] = {[PD_CACHE_AUTO] = "auto",
                                        [PD_CACHE_F32] = "fp32",
                                        [PD_CACHE_F16] = "f16",
                                        [PD_CACHE_INT8] = "int8"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(text, names[i]) == 0) {
            *out = (enum pd_cache)i;
            return PD_OK;
        }
    return PD_FAIL(err, PD_INVALID, "a cache of \"%s\" is unknown; use auto, fp32, f16 or int8",
                   text);
}

/* Whether a block's products round activations to 8 bits, which costs four times what keys and
 * values of 8 bits do (docs/models.md). Not of a decoder that is only planned with. */
static bool rounds_to_bytes(const struct pd_decoder *dec)
{
    return dec->layers && pd_linear_in_byte_panels(&dec->layers[0].up);
}

static enum pd_kv_type kv_type(const struct pd_decoder *dec)
{
    if (dec->opts.train || dec->opts.cache == PD_CACHE_F32)
        return PD_KV_F32;
    const bool fits = dec->D <= PD_KV_INT8_DIM;
    if (dec->opts.cache != PD_CACHE_AUTO)
        return dec->opts.cache == PD_CACHE_INT8 && fits ? PD_KV_INT8 : PD_KV_F16;
    if (dec->opts.compute == PD_COMPUTE_F32)
        return PD_KV_F32;
    return fits && rounds_to_bytes(dec) ? PD_KV_INT8 : PD_KV_F16;
}

struct pd_kv_shape pd_decoder_kv_shape(const struct pd_decoder *dec)
{
    return (struct pd_kv_shape){.n_layers = (int)dec->L,
                                .kv_heads = (int)dec->K,
                                .head_dim = (int)dec->D,
                                .type = kv_type(dec)};
}

static void count_rows(const struct pd_decoder *dec, struct infer *in)
{
    for (int i = 0; i < in->n_parts; i++) {
        in->rows += in->parts[i].n;
        in->wanted += in->parts[i].want_last;
    }
    in->T = pd_decoder_stable_rows(dec, in->rows);
}

static enum pd_rc check_parts(const struct pd_decoder *dec, const struct pd_kv *kv,
                              const struct pd_infer_part *parts, int n_parts, struct pd_err *err)
{
    int64_t pages = 0, context = pd_config_context(&dec->model->cfg);
    for (int i = 0; i < n_parts; i++) {
        const struct pd_kv_node *node = parts[i].node;
        PD_ASSERT(parts[i].n >= 1);
        if (node->base + node->len + parts[i].n > context)
            return PD_FAIL(err, PD_TOOBIG, "%lld tokens are more than the model's context of %lld",
                           (long long)(node->base + node->len + parts[i].n), (long long)context);
        pages += pd_kv_pages_for(node->len + parts[i].n) - node->n_pages;
        for (int64_t t = 0; t < parts[i].n; t++)
            if (parts[i].ids[t] < 0 || parts[i].ids[t] >= dec->V)
                return pd__no_such_token(dec, parts[i].ids[t], err);
    }
    if (pages > pd_kv_free_pages(kv))
        return PD_FAIL(err, PD_TOOBIG, "the KV cache is full: %lld more pages are needed",
                       (long long)pages);
    return PD_OK;
}

/* Ids and positions of all rows, side by side; zeros where rows only fill up to T. */
static void lay_rows(struct pd_decoder *dec, const struct infer *in)
{
    const int64_t T = in->T;
    if (T > dec->cap_pos) {
        dec->cap_pos = T + T / 2;
        dec->pos = pd_xrealloc(dec->pos, (size_t)dec->cap_pos * sizeof *dec->pos);
        dec->ids = pd_xrealloc(dec->ids, (size_t)dec->cap_pos * sizeof *dec->ids);
    }
    int64_t row = 0;
    for (int i = 0; i < in->n_parts; i++) {
        const struct pd_infer_part *p = &in->parts[i];
        int64_t pos = p->node->base + p->node->len;
        for (int64_t t = 0; t < p->n; t++, row++) {
            dec->ids[row] = p->ids[t];
            dec->pos[row] = (int32_t)(pos + t);
        }
    }
    size_t n_fill = (size_t)(T - row), AD = (size_t)(dec->A * dec->D);
    memset(dec->ids + row, 0, n_fill * sizeof *dec->ids);
    memset(dec->pos + row, 0, n_fill * sizeof *dec->pos);
    memset(dec->o + (size_t)row * AD, 0, n_fill * AD * sizeof *dec->o); /* attention skips them */
}

/* The rotation table: each part by the length that it reaches. */
static void rope_parts(struct pd_decoder *dec, const struct infer *in)
{
    int64_t row = 0;
    if (dec->model->cfg.rope.scaling == PD_LM_SCALE_DYNAMIC)
        for (int i = 0; i < in->n_parts; row += in->parts[i++].n)
            pd__rope_rows(dec, dec->pos, row, in->parts[i].n,
                          dec->pos[row + in->parts[i].n - 1] + 1);
    pd__rope_rows(dec, dec->pos, row, in->T - row, 0);
}

/* One span a page, root first; returns how many. With in NULL only counts. */
static int64_t plan_spans(struct pd_decoder *dec, const struct infer *in, int64_t at,
                          const struct pd_kv_node *node, int64_t len)
{
    int64_t n = node->parent ? plan_spans(dec, in, at, node->parent, node->parent->len) : 0;
    for (int64_t t = 0; t < len; t += PD_KV_PAGE, n++) {
        if (!in)
            continue;
        in->span_page[at + n] = node->pages[t / PD_KV_PAGE];
        dec->plan.spans[at + n] = (struct pd_attn_span){
            .n = len - t < PD_KV_PAGE ? len - t : PD_KV_PAGE, .pos = node->base + t};
    }
    return n;
}

static void plan_infer(struct pd_decoder *dec, struct infer *in)
{
    struct pd__attn_plan *plan = &dec->plan;
    int64_t spans = 0;
    for (int i = 0; i < in->n_parts; i++)
        spans +=
            plan_spans(dec, NULL, 0, in->parts[i].node, in->parts[i].node->len + in->parts[i].n);
    pd__plan_reserve(plan, in->n_parts, spans);
    in->span_page = pd_xalloc((size_t)spans * sizeof *in->span_page);
    int64_t at = 0;
    for (int i = 0; i < in->n_parts; i++) {
        const struct pd_infer_part *p = &in->parts[i];
        int64_t n = plan_spans(dec, in, at, p->node, p->node->len + p->n);
        plan->segs[i] = (struct pd_attn_seg){.n = p->n,
                                             .pos = p->node->base + p->node->len,
                                             .spans = plan->spans + at,
                                             .n_spans = (int)n};
        at += n;
    }
    plan->n_segs = in->n_parts;
    plan->n_spans = spans;
}

/* A layer's new keys and values, into the pages that are a thread's. */
struct store {
    const struct pd_decoder *dec;
    const struct infer *in;
    const struct pd_attn *a;
    int layer;
};

static void store_part(const struct store *s, int i, int me, int threads)
{
    const struct pd_decoder *dec = s->dec;
    const struct pd_infer_part *p = &s->in->parts[i];
    const float *k = dec->plan.segs[i].q + dec->A * dec->D;
    for (int64_t t = p->node->len; t < p->node->len + p->n; t++, k += dec->W) {
        const int page = p->node->pages[t / PD_KV_PAGE];
        if (page % threads != me)
            continue;
        const struct pd_kv_rows to = pd_kv_keys(s->in->kv, s->layer, page);
        const struct pd_kv_rows to_v = pd_kv_values(s->in->kv, s->layer, page);
        pd_attn_store(s->a, PD_KV_KEYS, t % PD_KV_PAGE, k, to.first, to.scales);
        pd_attn_store(s->a, PD_KV_VALUES, t % PD_KV_PAGE, k + dec->K * dec->D, to_v.first,
                      to_v.scales);
    }
}

static void store_parts(void *ctx, int me, int threads)
{
    const struct store *s = ctx;
    for (int i = 0; i < s->in->n_parts; i++)
        store_part(s, i, me, threads);
}

/* All parts'. By all threads, since the system zeroes memory when it is first touched, which takes
 * far longer than the store. */
static void store_kv(const struct pd_decoder *dec, const struct infer *in, const struct pd_attn *a,
                     int layer)
{
    enum { FEW = 8 };
    struct store s = {dec, in, a, layer};
    pd_team_run(in->rows > FEW ? pd_backend_threads() : 1, store_parts, &s);
}

/* Moves the wanted rows of m (rows, width) to its beginning. */
static void keep_wanted(const struct infer *in, int64_t width, float *m)
{
    float *to = m;
    for (int i = 0; i < in->n_parts; i++) {
        m += in->parts[i].n * width;
        if (!in->parts[i].want_last)
            continue;
        memmove(to, m - width, (size_t)width * sizeof *m);
        to += width;
    }
}

/* After the last layer's keys and values nothing but the wanted rows counts: it goes on with these
 * alone. Of the plan it keeps one query a part. */
static int64_t go_on_with_wanted(struct pd_decoder *dec, const struct infer *in,
                                 const struct pd__acts *a)
{
    struct pd__attn_plan *plan = &dec->plan;
    int n = 0;
    for (int i = 0; i < in->n_parts; i++) {
        struct pd_attn_seg s = plan->segs[i];
        if (!in->parts[i].want_last)
            continue;
        s.q += (s.n - 1) * dec->W;
        s.pos += s.n - 1;
        s.n = 1;
        s.o = a->o + n * dec->A * dec->D;
        plan->segs[n++] = s;
    }
    plan->n_segs = n;
    keep_wanted(in, dec->H, a->x_in);
    keep_wanted(in, dec->H, dec->h);
    return pd_decoder_stable_rows(dec, in->wanted);
}

/* Points the plan at a layer's keys, values, queries and outputs. */
static void bind_infer(struct pd_decoder *dec, const struct infer *in, int layer,
                       const struct pd__acts *a)
{
    struct pd__attn_plan *plan = &dec->plan;
    for (int64_t i = 0; i < plan->n_spans; i++) {
        const struct pd_kv_rows k = pd_kv_keys(in->kv, layer, in->span_page[i]);
        const struct pd_kv_rows v = pd_kv_values(in->kv, layer, in->span_page[i]);
        struct pd_attn_span *s = &plan->spans[i];
        s->k = k.first, s->k_scale = k.scales;
        s->v = v.first, s->v_scale = v.scales;
    }
    int64_t row = 0;
    for (int i = 0; i < in->n_parts; i++) {
        plan->segs[i].q = a->qkv + row * dec->W;
        plan->segs[i].o = a->o + row * dec->A * dec->D;
        row += in->parts[i].n;
    }
}

static int64_t attend_kv(struct pd_decoder *dec, int layer, const struct pd__acts *a, void *ctx)
{
    const struct infer *in = ctx;
    bind_infer(dec, in, layer, a);
    struct pd_attn shape = pd__attn_shape(dec, layer);
    shape.kv = pd_kv_type(in->kv);
    shape.hsk = pd_kv_head_values(shape.kv, dec->D);
    shape.ldk = dec->K * shape.hsk;
    shape.ld_scale = PD_KV_PAGE;
    store_kv(dec, in, &shape, layer);
    const bool last = layer == dec->L - 1;
    const int64_t rows = last ? go_on_with_wanted(dec, in, a) : in->T;
    pd_attn_forward(&shape, dec->plan.segs, dec->plan.n_segs);
    return rows;
}

/* Beside panels the embeddings, which may be the output matrix again, are read from the file, each
 * row with its neighbours' pages, up to 2 MB of them: those are given back now and then, so that in
 * the end not the whole matrix is there twice. A small one may be: to map its pages again would
 * cost more than a hundredth of a job. */
static void let_go_of_embeddings(struct pd_decoder *dec, int64_t rows)
{
    enum { OFTEN = 64, SMALL = 64 << 20 };
    const struct pd_param *e = dec->model->embed;
    dec->embedded += rows;
    if (dec->embedded < OFTEN || !dec->all_in_panels ||
        (size_t)e->shape[0] * pd_dtype_row_bytes(e->dtype, (size_t)dec->H) <= SMALL)
        return;
    pd_model_let_go(dec->model);
    dec->embedded = 0;
}

struct layers {
    struct pd_decoder *dec;
    struct infer *in;
    enum pd_rc rc;
    struct pd_err *err;
};

static void each_layer(void *ctx)
{
    struct layers *w = ctx;
    const struct pd__acts a = pd__decoder_work_acts(w->dec);
    for (int l = 0; l < w->dec->L && w->rc == PD_OK; l++)
        w->rc = pd__block_forward(w->dec, l, w->in->T, &a, w->dec->x, attend_kv, w->in, w->err);
}

/* A few tokens are so many small pieces of work that threads had better wait for the next one at
 * hand; but not where something in the layers has parallel regions of its own: oneDNN's products,
 * and the activation, the largest of what PD_SHARE shares, where it is large enough. */
static enum pd_rc run_layers(struct pd_decoder *dec, struct infer *in, struct pd_err *err)
{
    struct layers w = {dec, in, PD_OK, err};
    if (in->T * dec->F <= PD_PARALLEL_FLOATS && pd_linear_in_place(&dec->layers->up))
        pd_team_hold(each_layer, &w);
    else
        each_layer(&w);
    return w.rc;
}

enum pd_rc pd_decoder_infer(struct pd_decoder *dec, struct pd_kv *kv,
                            const struct pd_infer_part *parts, int n_parts, const float **hidden,
                            struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct infer in = {.kv = kv, .parts = parts, .n_parts = n_parts};
    count_rows(dec, &in);
    PD_TRY(check_parts(dec, kv, parts, n_parts, err));
    PD_TRY(pd__decoder_work(dec, in.T, err));
    dec->saved_rows = -1;
    for (int i = 0; i < n_parts; i++)
        if (!pd_kv_node_reserve(kv, parts[i].node, parts[i].n))
            pd_bug("the KV pool promised pages that it does not have");
    lay_rows(dec, &in);
    plan_infer(dec, &in);
    if (dec->rot)
        rope_parts(dec, &in);
    pd__embed(dec, in.T, dec->ids, dec->pos, dec->x);
    let_go_of_embeddings(dec, in.T);
    PD_TRY(run_layers(dec, &in, err));
    pd__norm_forward(dec, &dec->final_norm, in.wanted, dec->x, dec->hidden, NULL);
    for (int i = 0; i < n_parts; i++)
        parts[i].node->len += parts[i].n;
    *hidden = dec->hidden;
out:
    pd_free(in.span_page);
    return rc;
}

enum pd_rc pd_decoder_logits(struct pd_decoder *dec, const float *hidden, int64_t n, float *logits,
                             struct pd_err *err)
{
    if (dec->head.out == 0)
        return pd_head_need_lm(dec->model, err);
    return pd_linear_forward(&dec->head, n, hidden, dec->H, logits, dec->V, PD_WRITE_SET, err);
}
