#include "lm/heads.h"
#include "lm/decoder_int.h"
#include "base/mem.h"

enum pd_rc pd_head_need_lm(const struct pd_model *model, struct pd_err *err)
{
    if (!model->lm_head.w)
        return PD_FAIL(err, PD_INVALID, "%s is a reward model: it has no language-model head",
                       model->path ? model->path : "this");
    return PD_OK;
}

static enum pd_rc check_head(const struct pd_decoder *dec, struct pd_err *err)
{
    return dec->head.out ? PD_OK : pd_head_need_lm(dec->model, err);
}

static struct pd_logprob job(const struct pd_decoder *dec, const float *hidden,
                             const struct pd_logprob_items *items)
{
    return (struct pd_logprob){.head = &dec->head,
                               .hidden = hidden,
                               .ld = dec->H,
                               .n = items->n,
                               .rows = items->rows,
                               .target = items->targets,
                               .temperature = items->temperature};
}

enum pd_rc pd_head_logprob_forward(struct pd_decoder *dec, const float *hidden,
                                   const struct pd_logprob_items *items, float *logprob,
                                   float *entropy, float *lse, struct pd_err *err)
{
    enum pd_rc rc = check_head(dec, err);
    if (rc != PD_OK)
        return rc;
    struct pd_logprob a = job(dec, hidden, items);
    a.logprob = logprob;
    a.entropy = entropy;
    a.lse = lse;
    return pd_logprob_forward(&a, err);
}

enum pd_rc pd_head_logprob_backward(struct pd_decoder *dec, const float *hidden,
                                    const struct pd_logprob_items *items, const float *lse,
                                    const float *dlogprob, const float *entropy,
                                    const float *dentropy, float *dhidden, struct pd_err *err)
{
    enum pd_rc rc = check_head(dec, err);
    if (rc != PD_OK)
        return rc;
    struct pd_logprob a = job(dec, hidden, items);
    a.lse = (float *)(uintptr_t)lse; /* read only by backward */
    a.entropy = (float *)(uintptr_t)entropy;
    return pd_logprob_backward(&a, dlogprob, dentropy, dhidden, dec->H, err);
}

/* w (and b) as fp32: the parameter's own data when it is, else *copy. */
static const float *as_f32(const struct pd_param *p, float **copy)
{
    if (!p || p->dtype == PD_DTYPE_F32)
        return p ? p->data : NULL;
    *copy = pd_xalloc(p->n * sizeof(float));
    pd_param_rows(p, 0, p->shape[0], *copy);
    return *copy;
}

void pd_head_score_forward(const struct pd_param *w, const struct pd_param *b, const float *hidden,
                           const int32_t *rows, int64_t n, float *score)
{
    float *wc = NULL, *bc = NULL;
    int64_t H = (int64_t)w->n;
    pd_score_forward(n, H, hidden, H, rows, as_f32(w, &wc), as_f32(b, &bc), score);
    pd_free(wc);
    pd_free(bc);
}

void pd_head_score_backward(struct pd_param *w, struct pd_param *b, const float *hidden,
                            const int32_t *rows, int64_t n, const float *dscore, float *dhidden)
{
    int64_t H = (int64_t)w->n;
    pd_score_backward(n, H, hidden, H, rows, w->data, dscore, dhidden, H,
                      w->trainable ? w->grad : NULL, b && b->trainable ? b->grad : NULL);
}
