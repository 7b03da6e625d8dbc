#include "train/learner.h"
#include "base/log.h"
#include "base/mem.h"
#include "lm/labels.h"
#include "lm/plan.h"
#include "tensor/backend.h"

#include <math.h>

void pd_train_options_default(struct pd_train_options *o)
{
    *o = (struct pd_train_options){
        .dtype = "auto",
        .epochs = 3,
        .max_steps = 0,
        .batch_size = 8,
        .micro_batch_tokens = 2048,
        .learning_rate = 1e-4,
        .lr_scheduler = "linear",
        .adam_beta1 = 0.9,
        .adam_beta2 = 0.999,
        .adam_epsilon = 1e-8,
        .max_grad_norm = 1.0,
        .max_length = 1024,
        .shuffle = true,
        .save_every = 100,
        .keep_checkpoints = 2,
        .seed = 42,
    };
}

/* A reward or value model trains no LM head, a policy no score: what a loss never reaches must not
 * stand in the gradient. */
static void freeze_unused_heads(struct pd_model *m, unsigned heads)
{
    if (!(heads & PD_HEAD_LM) && m->lm_head.w && m->lm_head.w != m->embed)
        m->lm_head.w->trainable = false;
    if (!(heads & PD_HEAD_SCORE) && m->score.w)
        m->score.w->trainable = false;
}

enum pd_rc pd_learner_open(struct pd_learner *l, const char *path,
                           const struct pd_learner_heads *heads, const struct pd_train_options *opt,
                           struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_decoder_opts d = {.train = true};
    struct pd_model_options mo = {.purpose = PD_MODEL_TRAINING,
                                  .heads = heads->which,
                                  .init_head_normal = heads->init_normal,
                                  .seed = (uint64_t)opt->seed,
                                  .freeze_layers = opt->freeze_layers,
                                  .no_grads = true}; /* made below, after freezing heads */
    *l = (struct pd_learner){0};
    PD_TRY(pd_compute_parse(opt->dtype, &d.compute, err));
    PD_TRY(pd_model_open(&l->model, path, &mo, err));
    if (heads->which & PD_HEAD_SCORE)
        PD_TRY(pd_model_keep_label(l->model, heads->label, err));
    PD_TRY(pd_model_can_save_hf(l->model, err)); /* not after the last step */
    freeze_unused_heads(l->model, heads->which);
    if (pd_params_count(&l->model->params, true) == 0) {
        rc = PD_FAIL(err, PD_INVALID, "--freeze-layers %g leaves nothing to train",
                     opt->freeze_layers);
        goto out;
    }
    PD_TRY(pd_params_alloc_grads(&l->model->params, err));
    PD_TRY(pd_decoder_new(l->model, &d, &l->dec, err));
    PD_TRY(pd_adamw_init(&l->adam, &l->model->params, opt->adam_beta1, opt->adam_beta2,
                         opt->adam_epsilon, opt->weight_decay, err));
out:
    if (rc != PD_OK)
        pd_learner_close(l);
    return rc;
}

void pd_learner_close(struct pd_learner *l)
{
    pd_adamw_release(&l->adam);
    pd_decoder_free(l->dec);
    pd_model_free(l->model);
    pd_aligned_free(l->dhidden);
    *l = (struct pd_learner){0};
}

enum pd_rc pd_learner_dhidden(struct pd_learner *l, int64_t rows, float **out, struct pd_err *err)
{
    size_t n = (size_t)(rows * pd_decoder_hidden_size(l->dec));
    if (n > l->dhidden_n) {
        pd_aligned_free(l->dhidden);
        l->dhidden_n = 0;
        l->dhidden = pd_try_aligned(n, sizeof *l->dhidden);
        if (!l->dhidden)
            return PD_FAIL(err, PD_NOMEM, "no memory for the gradient of %lld rows",
                           (long long)rows);
        l->dhidden_n = n;
    }
    memset(l->dhidden, 0, n * sizeof *l->dhidden);
    *out = l->dhidden;
    return PD_OK;
}

enum pd_rc pd_learner_step(struct pd_learner *l, double lr, double max_norm, int64_t step,
                           double *grad_norm, struct pd_err *err)
{
    struct pd_params *ps = &l->model->params;
    double norm = pd_params_grad_norm(ps);
    if (!isfinite(norm)) {
        enum pd_rc rc = pd_params_check_grads(ps, step, err);
        return rc != PD_OK ? rc
                           : PD_FAIL(err, PD_NONFINITE,
                                     "the gradient norm overflows at step %lld; lower the "
                                     "learning rate",
                                     (long long)step);
    }
    *grad_norm = norm;
    pd_adamw_step(&l->adam, ps, (float)lr, pd_clip_scale(norm, max_norm));
    return pd_decoder_repack(l->dec, err);
}

static bool true_bf16(const struct pd_decoder *dec)
{
    return pd_decoder_compute(dec) == PD_COMPUTE_BF16 && pd_backend_fast_bf16();
}

int64_t pd_learner_bytes(const struct pd_learner *l)
{
    int64_t all = (int64_t)pd_params_count(&l->model->params, false);
    int64_t trained = (int64_t)pd_params_count(&l->model->params, true);
    struct pd_plan_use use = {true_bf16(l->dec), true, l->generates};
    return (all + 3 * trained) * (int64_t)sizeof(float) + pd_plan_copies(l->model, &use);
}

int64_t pd_inference_bytes(const struct pd_decoder *dec, int64_t rows)
{
    struct pd_plan_use use = {.bf16 = true_bf16(dec)};
    return pd_plan_copies(pd_decoder_model(dec), &use) + pd_decoder_infer_bytes(dec, rows);
}

enum pd_rc pd_learner_plan(const struct pd_learner *l, const struct pd_train_options *opt,
                           int64_t beside, int64_t *micro_tokens, struct pd_err *err)
{
    if (opt->memory_limit <= 0)
        return PD_OK;
    int64_t fixed = beside + pd_learner_bytes(l);
    while (*micro_tokens >= 512 &&
           fixed + pd_decoder_train_bytes(l->dec, *micro_tokens) > opt->memory_limit)
        *micro_tokens /= 2;
    int64_t need = fixed + pd_decoder_train_bytes(l->dec, *micro_tokens);
    if (need > opt->memory_limit)
        return PD_FAIL(err, PD_TOOBIG,
                       "training needs about %lld MB (%lld MB of them models and optimizer), "
                       "--memory-limit allows %lld MB; freeze more layers",
                       (long long)(need >> 20), (long long)(fixed >> 20),
                       (long long)(opt->memory_limit >> 20));
    if (*micro_tokens != opt->micro_batch_tokens)
        pd_log(PD_LOG_INFO, "train", "micro_batch_tokens=%lld to fit the memory limit",
               (long long)*micro_tokens);
    return PD_OK;
}
