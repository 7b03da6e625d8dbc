/* The passes of PPO over packed answers: what is known before an update, and its optimizer steps.
 */
#include "train/ppo_int.h"
#include "base/mem.h"
#include "base/rng.h"
#include "lm/heads.h"

#include <inttypes.h>
#include <math.h>

/* ---- packed passes over the answers ---- */

static enum pd_rc grow(float **p, size_t *have, size_t need, struct pd_err *err)
{
    if (need <= *have)
        return PD_OK;
    pd_aligned_free(*p);
    *have = 0;
    *p = pd_try_aligned(need, sizeof **p);
    if (!*p)
        return PD_FAIL(err, PD_NOMEM, "no memory for %zu floats of activations", need);
    *have = need;
    return PD_OK;
}

static void grow_scratch(struct ppo *p, size_t n)
{
    float **all[] = {&p->lp, &p->entropy, &p->lse, &p->dlp, &p->value, &p->dvalue};
    if (n <= p->scratch_n)
        return;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        *all[i] = pd_xrealloc(*all[i], n * sizeof(float));
    p->scratch_n = n;
}

/* The groups' rows of what the frozen blocks computed, side by side. */
static enum pd_rc gather(struct ppo *p, const size_t *groups, size_t n, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    int64_t width = pd_decoder_hidden_size(p->policy.dec);
    PD_TRY(grow(&p->gathered, &p->gathered_n, (size_t)(p->view.stream.n_rows * width), err));
    float *to = p->gathered;
    for (size_t i = 0; i < n; i++) {
        const struct pd_group *g = &p->rollouts.groups[groups[i]];
        memcpy(to, p->x + g->x_at * width, (size_t)(g->rows * width) * sizeof *to);
        to += g->rows * width;
    }
out:
    return rc;
}

/* Policy or reference over p->view, from the frozen blocks' output where there is one. */
static enum pd_rc forward(struct ppo *p, struct pd_decoder *dec, const size_t *groups, size_t n,
                          bool save, const float **hidden, struct pd_err *err)
{
    if (p->frozen_layer == 0)
        return pd_decoder_forward(dec, &p->view.stream, save, hidden, err);
    enum pd_rc rc = gather(p, groups, n, err);
    return rc != PD_OK ? rc
                       : pd_decoder_forward_from(dec, &p->view.stream, p->frozen_layer, p->gathered,
                                                 save, hidden, err);
}

static struct pd_logprob_items items_of(const struct ppo *p)
{
    return (struct pd_logprob_items){.rows = p->view.row,
                                     .targets = p->view.target,
                                     .n = (int64_t)p->view.n_targets,
                                     .temperature = p->temperature};
}

/* The value of every item of the view into p->value. `hidden` is the policy's; a separate critic
 * computes its own and gives it back through *critic_hidden. */
static enum pd_rc values(struct ppo *p, const float *hidden, bool save, const float **critic_hidden,
                         struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct pd_lin *head = &p->policy.model->value;
    *critic_hidden = hidden;
    if (p->critic.dec) {
        head = &p->critic.model->score;
        PD_TRY(pd_decoder_forward(p->critic.dec, &p->view.stream, save, critic_hidden, err));
    }
    pd_head_score_forward(head->w, head->b, *critic_hidden, p->view.row, (int64_t)p->view.n,
                          p->value);
out:
    return rc;
}

/* Log-probs under policy and reference, entropies and values of some groups. */
static enum pd_rc examine(struct ppo *p, const size_t *groups, size_t n, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_rollouts *r = &p->rollouts;
    const float *hidden, *critic_hidden;
    pd_view_set(&p->view, r, groups, n);
    grow_scratch(p, p->view.n);
    if (p->frozen_layer > 0)
        PD_TRY(pd_decoder_forward_to(
            p->policy.dec, &p->view.stream, p->frozen_layer,
            p->x + r->groups[groups[0]].x_at * pd_decoder_hidden_size(p->policy.dec), err));
    struct pd_logprob_items items = items_of(p);
    PD_TRY(forward(p, p->policy.dec, groups, n, false, &hidden, err));
    PD_TRY(pd_head_logprob_forward(p->policy.dec, hidden, &items, p->lp, p->entropy, NULL, err));
    PD_TRY(values(p, hidden, false, &critic_hidden, err));
    for (size_t i = 0; i < p->view.n; i++) {
        size_t slot = p->view.slot[i];
        r->value[slot] = p->value[i];
        if (i < p->view.n_targets) {
            r->logprob[slot] = p->lp[i];
            r->entropy[slot] = p->entropy[i];
        }
    }
    PD_TRY(forward(p, p->ref, groups, n, false, &hidden, err));
    PD_TRY(pd_head_logprob_forward(p->ref, hidden, &items, p->lp, NULL, NULL, err));
    for (size_t i = 0; i < p->view.n_targets; i++)
        r->ref_logprob[p->view.slot[i]] = p->lp[i];
    p->unique_tokens += p->view.stream.n_rows;
out:
    return rc;
}

enum pd_rc pd__ppo_examine(struct ppo *p, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    size_t n = p->rollouts.n_groups;
    size_t *groups = pd_xalloc((n + 1) * sizeof *groups);
    for (size_t i = 0; i < n; i++)
        groups[i] = i;
    if (p->frozen_layer > 0)
        PD_TRY(grow(&p->x, &p->x_n,
                    (size_t)(p->rollouts.rows * pd_decoder_hidden_size(p->policy.dec)), err));
    for (size_t i = 0; i < n;) {
        size_t k = pd_view_take(&p->rollouts, groups + i, n - i, p->micro_tokens);
        PD_TRY(examine(p, groups + i, k, err));
        i += k;
    }
out:
    pd_free(groups);
    return rc;
}

/* ---- the optimizer steps of one update ---- */

/* What one mini-batch adds up, to be divided by its tokens and slots at the end. */
struct tally {
    double policy_loss, value_loss, approx_kl, clipped, value_clipped, entropy, ratio, max_ratio;
    size_t tokens, slots, answers;
};

/* Losses and their gradients by log-prob and value, for the view. */
static void losses(struct ppo *p, const struct tally *whole, struct tally *sum)
{
    const struct pd_rollouts *r = &p->rollouts;
    for (size_t i = 0; i < p->view.n; i++) {
        size_t s = p->view.slot[i];
        double d;
        bool clipped;
        sum->value_loss += pd_value_loss((double)p->value[i], (double)r->value[s], r->ret[s],
                                         p->o->cliprange_value, &d, &clipped);
        sum->value_clipped += clipped;
        p->dvalue[i] = (float)(p->o->vf_coef * d / (double)whole->slots);
        if (i >= p->view.n_targets)
            continue;
        double lp = (double)p->lp[i], old = (double)r->logprob[s], ratio = exp(lp - old);
        sum->policy_loss += pd_policy_loss(lp, old, r->advantage[s], p->o->cliprange, &d, &clipped);
        sum->clipped += clipped;
        sum->approx_kl += 0.5 * (lp - old) * (lp - old);
        sum->entropy += (double)p->entropy[i];
        sum->ratio += ratio;
        sum->max_ratio = fmax(sum->max_ratio, ratio);
        p->dlp[i] = (float)(d / (double)whole->tokens);
    }
}

/* Forward and backward of some groups of a mini-batch; adds to the gradients. */
static enum pd_rc learn(struct ppo *p, const size_t *groups, size_t n, const struct tally *whole,
                        struct tally *sum, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const float *hidden, *critic_hidden;
    float *dhidden, *dcritic;
    struct pd_learner *critic = p->critic.dec ? &p->critic : &p->policy;
    struct pd_lin *head = p->critic.dec ? &p->critic.model->score : &p->policy.model->value;
    pd_view_set(&p->view, &p->rollouts, groups, n);
    grow_scratch(p, p->view.n);
    struct pd_logprob_items items = items_of(p);
    PD_TRY(forward(p, p->policy.dec, groups, n, true, &hidden, err));
    PD_TRY(pd_head_logprob_forward(p->policy.dec, hidden, &items, p->lp, p->entropy, p->lse, err));
    PD_TRY(values(p, hidden, true, &critic_hidden, err));
    losses(p, whole, sum);
    PD_TRY(pd_learner_dhidden(&p->policy, p->view.stream.n_rows, &dhidden, err));
    PD_TRY(pd_head_logprob_backward(p->policy.dec, hidden, &items, p->lse, p->dlp, NULL, NULL,
                                    dhidden, err));
    dcritic = dhidden;
    if (p->critic.dec)
        PD_TRY(pd_learner_dhidden(critic, p->view.stream.n_rows, &dcritic, err));
    pd_head_score_backward(head->w, head->b, critic_hidden, p->view.row, (int64_t)p->view.n,
                           p->dvalue, dcritic);
    PD_TRY(pd_decoder_backward(p->policy.dec, &p->view.stream, dhidden, err));
    if (p->critic.dec)
        PD_TRY(pd_decoder_backward(p->critic.dec, &p->view.stream, dcritic, err));
    p->unique_tokens += p->view.stream.n_rows;
out:
    return rc;
}

/* One optimizer step on the given groups. */
static enum pd_rc step(struct ppo *p, const size_t *groups, size_t n, double lr,
                       struct learning *all, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct tally whole = {0}, sum = {0};
    double norm = 0, critic_norm = 0;
    for (size_t i = 0; i < n; i++) {
        const struct pd_group *g = &p->rollouts.groups[groups[i]];
        whole.answers += g->n;
        for (size_t k = g->first; k < g->first + g->n; k++) {
            whole.tokens += (size_t)p->rollouts.v[k].n;
            whole.slots += p->rollouts.v[k].n_slots;
        }
    }
    pd_params_zero_grads(&p->policy.model->params);
    if (p->critic.dec)
        pd_params_zero_grads(&p->critic.model->params);
    for (size_t i = 0; i < n;) {
        size_t k = pd_view_take(&p->rollouts, groups + i, n - i, p->micro_tokens);
        PD_TRY(learn(p, groups + i, k, &whole, &sum, err));
        i += k;
    }
    if (!isfinite(sum.policy_loss) || !isfinite(sum.value_loss)) {
        rc = PD_FAIL(err, PD_NONFINITE, "the %s loss is not a finite number in update %" PRId64,
                     isfinite(sum.policy_loss) ? "value" : "policy", p->update + 1);
        goto out;
    }
    PD_TRY(pd_learner_step(&p->policy, lr, p->c->max_grad_norm, p->update + 1, &norm, err));
    if (p->critic.dec)
        PD_TRY(
            pd_learner_step(&p->critic, lr, p->c->max_grad_norm, p->update + 1, &critic_norm, err));
    /* TRL averages these two over every cell of the padded batch; a pad has ratio 1 */
    double cells =
        p->trl ? (double)whole.answers * (double)p->o->response_length : (double)whole.tokens;
    double ratio = (sum.ratio + (cells - (double)whole.tokens)) / cells;
    all->policy_loss += sum.policy_loss / (double)whole.tokens;
    all->value_loss += sum.value_loss / (double)whole.slots;
    all->approx_kl += sum.approx_kl / cells;
    all->clipped += sum.clipped / (double)whole.tokens;
    all->value_clipped += sum.value_clipped / (double)whole.slots;
    all->entropy += sum.entropy / (double)whole.tokens;
    all->ratio += ratio;
    all->ratio_squared += ratio * ratio;
    all->max_ratio = fmax(all->max_ratio, sum.max_ratio);
    all->grad_norm += hypot(norm, critic_norm);
    all->steps++;
out:
    return rc;
}

enum pd_rc pd__ppo_improve(struct ppo *p, double lr, struct learning *all, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    size_t n = p->rollouts.n_groups;
    size_t parts = (size_t)p->o->mini_batches < n ? (size_t)p->o->mini_batches : n;
    size_t *groups = pd_xalloc((n + 1) * sizeof *groups);
    for (int64_t e = 0; e < p->o->ppo_epochs; e++) {
        struct pd_rng rng;
        pd_rng_seed(&rng, (uint64_t)p->c->seed, pd_rng_mix((uint64_t)p->update, (uint64_t)e));
        for (size_t i = 0; i < n; i++)
            groups[i] = i;
        if (parts > 1) /* with one mini-batch the order is nothing but rounding */
            pd_rng_shuffle(&rng, groups, n);
        for (size_t m = 0; m < parts; m++) {
            size_t from = n * m / parts, to = n * (m + 1) / parts;
            PD_TRY(step(p, groups + from, to - from, lr, all, err));
        }
    }
out:
    pd_free(groups);
    return rc;
}
