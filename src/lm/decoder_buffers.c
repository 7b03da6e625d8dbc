/* The buffers that a pass works in, laid out from its number of rows. */
#include "lm/decoder_int.h"
#include "base/mem.h"

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

static void work_layout(struct pd_decoder *dec, struct pd__carve *c, int64_t T)
{
    bool train = dec->opts.train;
    dec->x = pd__carve(c, T * dec->H);
    dec->h = pd__carve(c, T * dec->H);
    dec->h2 = train ? pd__carve(c, T * dec->H) : NULL;
    dec->hidden = pd__carve(c, T * dec->H);
    dec->qkv = pd__carve(c, T * dec->W);
    dec->raw = dec->model->cfg.qkv.blocks ? NULL : pd__carve(c, T * dec->W);
    dec->o = pd__carve(c, T * dec->A * dec->D);
    dec->gu = pd__carve(c, T * dec->FU);
    dec->y = pd__carve(c, T * dec->F);
    dec->cs = dec->rot ? pd__carve(c, T * dec->rot) : NULL;
}

/* Room grows in steps so that streams of slightly different size do not reallocate. */
static int64_t round_rows(int64_t T)
{
    int64_t step = T < 1024 ? 128 : 512;
    return (T + step - 1) / step * step;
}

enum pd_rc pd__decoder_work(struct pd_decoder *dec, int64_t T, struct pd_err *err)
{
    struct pd__carve count = {NULL, 0};
    work_layout(dec, &count, round_rows(T));
    enum pd_rc rc = pd__slab_need(&dec->work, count.at, err);
    struct pd__carve c = {dec->work.p, 0};
    if (rc == PD_OK)
        work_layout(dec, &c, T);
    return rc;
}

struct pd__acts pd__decoder_work_acts(struct pd_decoder *dec)
{
    return (struct pd__acts){
        .x_in = dec->x, .x_mid = dec->x, .qkv = dec->qkv, .o = dec->o, .gu = dec->gu};
}

static void saved_layout(struct pd_decoder *dec, struct pd__carve *c, int64_t T, int first)
{
    const struct pd_config *cfg = &dec->model->cfg;
    for (int64_t l = first; l < dec->L; l++) {
        dec->acts[l] = (struct pd__acts){
            .x_in = pd__carve(c, T * dec->H),
            .x_mid = cfg->parallel_residual ? NULL : pd__carve(c, T * dec->H),
            .qkv = pd__carve(c, T * dec->W),
            .qk = cfg->qk_norm ? pd__carve(c, T * (dec->A + dec->K) * dec->D) : NULL,
            .o = pd__carve(c, T * dec->A * dec->D),
            .lse = pd__carve(c, T * dec->A),
            .gu = pd__carve(c, T * dec->FU),
            .stat1 = pd__carve(c, 2 * T),
            .stat2 = pd__carve(c, 2 * T),
            .stat_qk = cfg->qk_norm ? pd__carve(c, T * (dec->A + dec->K)) : NULL,
        };
    }
    dec->x_final = pd__carve(c, T * dec->H);
    dec->stat_final = pd__carve(c, 2 * T);
}

enum pd_rc pd__decoder_saved(struct pd_decoder *dec, int64_t T, int first, struct pd_err *err)
{
    struct pd__carve count = {NULL, 0};
    saved_layout(dec, &count, round_rows(T), first);
    enum pd_rc rc = pd__slab_need(&dec->saved, count.at, err);
    struct pd__carve c = {dec->saved.p, 0};
    if (rc == PD_OK)
        saved_layout(dec, &c, T, first);
    return rc;
}

int64_t pd_decoder_infer_bytes(const struct pd_decoder *dec, int64_t n_rows)
{
    struct pd_decoder copy = *dec; /* the layouts write pointers */
    struct pd__carve work = {NULL, 0};
    work_layout(&copy, &work, round_rows(n_rows));
    return (int64_t)(work.at * sizeof(float));
}

int64_t pd_decoder_train_bytes(const struct pd_decoder *dec, int64_t n_rows)
{
    struct pd_decoder copy = *dec;
    struct pd__carve saved = {NULL, 0};
    copy.acts = pd_xalloc((size_t)dec->L * sizeof *copy.acts);
    saved_layout(&copy, &saved, round_rows(n_rows), pd_decoder_first_trainable(dec));
    pd_free(copy.acts);
    return pd_decoder_infer_bytes(dec, n_rows) + (int64_t)(saved.at * sizeof(float));
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
