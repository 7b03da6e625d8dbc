#include "train/ppo.h"
#include "base/crypt.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/progress.h"
#include "base/rng.h"
#include "base/time.h"
#include "lm/heads.h"
#include "train/checkpoint.h"
#include "train/judge.h"
#include "train/ppo_math.h"
#include "train/report.h"
#include "train/rollout.h"
#include "train/schedule.h"

#include <inttypes.h>
#include <math.h>

void pd_ppo_options_default(struct pd_ppo_options *o)
{
    *o = (struct pd_ppo_options){.rollout_batch = 32,
                                 .samples_per_prompt = 1,
                                 .mini_batches = 1,
                                 .ppo_epochs = 4,
                                 .response_length = 53,
                                 .temperature = 0.7,
                                 .kl_coef = 0.05,
                                 .kl_estimator = "k1",
                                 .horizon = 10000,
                                 .gamma = 1,
                                 .lam = 0.95,
                                 .cliprange = 0.2,
                                 .cliprange_value = 0.2,
                                 .vf_coef = 0.1,
                                 .value_head = "shared",
                                 .preset = "podium",
                                 .chat = "auto",
                                 .sample_every = 10,
                                 .save_dtype = "fp32"};
    pd_train_options_default(&o->common);
    o->common.learning_rate = 3e-6;
    o->common.max_grad_norm = 1.0;
    o->common.save_every = 25;
    o->common.epochs = 1;
}

struct ppo {
    const struct pd_ppo_options *o;
    const struct pd_train_options *c; /* = &o->common */
    struct pd_run run;
    struct pd_learner policy;
    struct pd_learner critic; /* dec NULL: the value head sits on the policy's trunk */
    struct pd_model *ref_model;
    struct pd_decoder *ref;
    struct pd_judge judge;
    struct pd_policy_prompts prompts;
    struct pd_rollouts rollouts; /* of the current update */
    bool fixed_rollouts, fixed_scores;
    bool trl;
    float temperature;
    enum pd_kl kl_kind;
    int64_t micro_tokens;

    int64_t update, total; /* updates done, and to do */
    double kl_coef;
    int64_t episodes, num_tokens, unique_tokens;
    double first_entropy;           /* per token, of the first update: what alarms compare with */
    double first_score, last_score; /* sums over the first and the last tenth */
    int64_t first_n, last_n;
    const char *last_alarm;

    size_t *order; /* of the prompts, in epoch order_epoch */
    int64_t order_epoch;
    struct pd_view view;
    int frozen_layer; /* blocks below it are frozen and shared with the reference; 0 = none */
    float *x;         /* (rollouts.rows, H): what they computed for this update */
    float *gathered;
    size_t x_n, gathered_n;
    float *lp, *entropy, *lse, *dlp, *value, *dvalue; /* of one view */
    size_t scratch_n;
};

/* ---- order of prompts, and the update's answers ---- */

static const struct pd_policy_prompt *prompt_at(struct ppo *p, int64_t position)
{
    int64_t n = (int64_t)p->prompts.n, epoch = position / n;
    struct pd_mt mt;
    if (p->order_epoch != epoch) {
        p->order_epoch = epoch;
        for (int64_t i = 0; i < n; i++)
            p->order[i] = (size_t)i;
        if (p->c->shuffle) {
            pd_mt_seed(&mt, (uint32_t)(p->c->seed + epoch));
            pd_mt_randperm(&mt, p->order, p->prompts.n);
        }
    }
    return &p->prompts.v[p->order[position % n]];
}

static struct pd_sampling_plan sampling_plan(const struct ppo *p)
{
    return (struct pd_sampling_plan){.seed = (uint64_t)p->c->seed,
                                     .round = (uint64_t)p->update,
                                     .per_prompt = p->o->samples_per_prompt,
                                     .max_new = p->o->response_length,
                                     .temperature = (double)p->temperature,
                                     .extra_slot = p->trl};
}

static enum pd_rc sample(struct ppo *p, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    size_t n = (size_t)p->o->rollout_batch;
    struct pd_sampling_plan plan = sampling_plan(p);
    const struct pd_policy_prompt **batch = pd_xalloc((n + 1) * sizeof *batch);
    for (size_t i = 0; i < n; i++)
        batch[i] = prompt_at(p, p->update * (int64_t)n + (int64_t)i);
    pd_rollouts_release(&p->rollouts);
    PD_TRY(pd_rollouts_sample(&p->rollouts, p->policy.dec, batch, n, &plan, err));
out:
    pd_free(batch);
    return rc;
}

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

static enum pd_rc examine_all(struct ppo *p, struct pd_err *err)
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

/* ---- rewards and advantages ---- */

/* What the objective/ metrics are made of, summed over answers. */
struct objective {
    double kl, entropy, non_score, score, penalised;
    double score_squared;
    double surprise; /* sum of -log-prob */
    size_t ended;
};

static struct objective set_rewards(struct ppo *p)
{
    struct objective sum = {0};
    struct pd_rollouts *r = &p->rollouts;
    for (size_t i = 0; i < r->n; i++) {
        const struct pd_rollout *one = &r->v[i];
        for (size_t t = 0; t < one->n_slots; t++) {
            size_t s = one->at + t;
            r->reward[s] = 0;
            if (t >= (size_t)one->n)
                continue;
            double kl =
                pd_kl_estimate(p->kl_kind, (double)r->logprob[s], (double)r->ref_logprob[s]);
            r->reward[s] = -p->kl_coef * kl;
            sum.kl += kl;
            sum.non_score += r->reward[s];
            sum.surprise -= (double)r->logprob[s];
            sum.entropy += (double)r->entropy[s];
        }
        double score = (double)one->score - (one->ended ? 0 : p->o->missing_eos_penalty);
        /* on the last token; in TRL's layout one step later where the answer leaves room */
        r->reward[one->at + one->n_slots - 1] += score;
        sum.score += (double)one->score;
        sum.score_squared += (double)one->score * (double)one->score;
        sum.penalised += score;
        sum.ended += one->ended;
    }
    return sum;
}

static void set_advantages(struct ppo *p)
{
    struct pd_rollouts *r = &p->rollouts;
    double *values = pd_xalloc((r->n_slots + 1) * sizeof *values);
    double *tokens = pd_xalloc((r->n_tokens + 1) * sizeof *tokens);
    size_t k = 0;
    if (p->o->whiten_rewards)
        pd_whiten(r->reward, r->n_slots, false);
    for (size_t s = 0; s < r->n_slots; s++)
        values[s] = (double)r->value[s];
    for (size_t i = 0; i < r->n; i++)
        pd_gae(r->reward + r->v[i].at, values + r->v[i].at, r->v[i].n_slots, p->o->gamma, p->o->lam,
               r->advantage + r->v[i].at, r->ret + r->v[i].at);
    /* whitened over answer tokens only: an extra slot has no action to reinforce */
    for (size_t i = 0; i < r->n; i++)
        for (int32_t t = 0; t < r->v[i].n; t++)
            tokens[k++] = r->advantage[r->v[i].at + (size_t)t];
    pd_whiten(tokens, r->n_tokens, true);
    k = 0;
    for (size_t i = 0; i < r->n; i++)
        for (int32_t t = 0; t < r->v[i].n; t++)
            r->advantage[r->v[i].at + (size_t)t] = tokens[k++];
    pd_free(tokens);
    pd_free(values);
}

/* ---- the optimizer steps of one update ---- */

struct learning {
    double policy_loss, value_loss; /* sums over steps of the means of each */
    double approx_kl, clipped, value_clipped, entropy;
    double ratio, ratio_squared, max_ratio;
    double grad_norm;
    size_t steps;
};

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

static enum pd_rc improve(struct ppo *p, double lr, struct learning *all, struct pd_err *err)
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

/* ---- metrics, alarms, samples ---- */

static const char *alarm_of(struct ppo *p, const struct objective *o, const struct learning *l)
{
    double answers = (double)p->rollouts.n, kl = o->kl / answers;
    double entropy = o->entropy / (double)p->rollouts.n_tokens;
    double mean = o->score / answers, spread = o->score_squared / answers - mean * mean;
    double limit = p->o->adaptive_kl > 0 ? 10 * p->o->adaptive_kl : 50;
    if (kl > limit)
        return "the KL is out of hand: the policy is leaving the reference; lower the learning "
               "rate or raise --kl-coef";
    if (kl < -1)
        return "the KL is clearly negative: the answers do not look drawn from the policy";
    if (p->update > 0 && entropy < 0.1 * p->first_entropy)
        return "the entropy has collapsed to a tenth of what it was: answers are becoming one";
    if (answers > 1 && spread <= 1e-12 * (1 + mean * mean))
        return "every answer got the same score: there is nothing to learn from";
    if (o->ended == 0 && p->o->missing_eos_penalty > 0)
        return "no answer ended within --response-length: all of them are penalised";
    if (l->max_ratio > 10)
        return "a token's probability rose tenfold within one update: lower the learning rate";
    return NULL;
}

static void put_metrics(struct ppo *p, const struct objective *o, const struct learning *l,
                        double lr, const double *seconds, struct pd_metrics *m)
{
    double n = (double)p->rollouts.n, steps = (double)l->steps;
    double ratio = l->ratio / steps, total = seconds[0] + seconds[1] + seconds[2];
    double ratio_var = steps > 1 ? (l->ratio_squared - steps * ratio * ratio) / (steps - 1) : 0;
    pd_metrics_put(m, "eps", floor(n / total));
    pd_metrics_put(m, "objective/kl", o->kl / n);
    pd_metrics_put(m, "objective/entropy", o->surprise / n);
    pd_metrics_put(m, "objective/non_score_reward", o->non_score / n);
    pd_metrics_put(m, "objective/rlhf_reward", (o->non_score + o->penalised) / n);
    pd_metrics_put(m, "objective/scores", (p->trl ? o->penalised : o->score) / n);
    pd_metrics_put(m, "objective/kl_coef", p->kl_coef);
    pd_metrics_put(m, "policy/approxkl_avg", l->approx_kl / steps);
    pd_metrics_put(m, "policy/clipfrac_avg", l->clipped / steps);
    pd_metrics_put(m, "policy/entropy_avg", l->entropy / steps);
    pd_metrics_put(m, "loss/policy_avg", l->policy_loss / steps);
    pd_metrics_put(m, "loss/value_avg", l->value_loss / steps);
    pd_metrics_put(m, "val/clipfrac_avg", l->value_clipped / steps);
    pd_metrics_put(m, "val/ratio", ratio);
    pd_metrics_put(m, "val/ratio_var", fmax(0, ratio_var));
    pd_metrics_put(m, "val/num_eos_tokens", (double)o->ended);
    pd_metrics_put(m, "lr", lr);
    pd_metrics_put(m, "episode", (double)p->episodes);
    pd_metrics_put(m, "grad_norm", l->grad_norm / steps);
    pd_metrics_put(m, "answer_tokens", (double)p->rollouts.n_tokens / n);
    pd_metrics_put(m, "unfinished", 1 - (double)o->ended / n);
    pd_metrics_put(m, "num_tokens", (double)p->num_tokens);
    pd_metrics_put(m, "unique_tokens", (double)p->unique_tokens);
    pd_metrics_put(m, "tokens_per_second", (double)p->rollouts.n_tokens / total);
    pd_metrics_put(m, "seconds/sample", seconds[0]);
    pd_metrics_put(m, "seconds/score", seconds[1]);
    pd_metrics_put(m, "seconds/learn", seconds[2]);
    pd_metrics_put(m, "peak_rss_bytes", (double)pd_peak_rss_bytes());
    m->alarm = alarm_of(p, o, l);
    if (m->alarm && m->alarm != p->last_alarm)
        pd_log(PD_LOG_WARN, "ppo", "update=%" PRId64 " %s", p->update + 1, m->alarm);
    p->last_alarm = m->alarm;
}

enum { N_SAMPLES = 4 };

/* The first few prompts of the file, answered greedily by policy and reference, with scores. */
static enum pd_rc write_samples(struct ppo *p, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_rollouts mine = {0}, theirs = {0};
    struct pd_sampling_plan plan = {.per_prompt = 1, .max_new = p->o->response_length};
    const struct pd_policy_prompt *list[N_SAMPLES];
    size_t n = p->prompts.n < N_SAMPLES ? p->prompts.n : N_SAMPLES;
    struct pd_buf text;
    pd_buf_init(&text, 0);
    for (size_t i = 0; i < n; i++)
        list[i] = &p->prompts.v[i];
    PD_TRY(pd_rollouts_sample(&mine, p->policy.dec, list, n, &plan, err));
    PD_TRY(pd_rollouts_sample(&theirs, p->ref, list, n, &plan, err));
    PD_TRY(pd_rollouts_score(&mine, &p->judge, p->policy.model, err));
    PD_TRY(pd_rollouts_score(&theirs, &p->judge, p->policy.model, err));
    for (size_t i = 0; i < n; i++) {
        struct pd_jw w;
        pd_buf_clear(&text);
        pd_jw_init(&w, &text);
        pd_jw_object(&w);
        pd_jw_ki64(&w, "step", p->update);
        pd_jw_key(&w, "prompt");
        pd_jw_tree(&w, list[i]->prompt);
        pd_jw_kstr(&w, "sample", pd_buf_str(&mine.v[i].text));
        pd_jw_kf64(&w, "score", (double)mine.v[i].score);
        pd_jw_kstr(&w, "reference", pd_buf_str(&theirs.v[i].text));
        pd_jw_kf64(&w, "reference_score", (double)theirs.v[i].score);
        pd_jw_object_end(&w);
        PD_TRY(pd_run_sample(&p->run, pd_buf_str(&text), err));
    }
out:
    pd_buf_release(&text);
    pd_rollouts_release(&mine);
    pd_rollouts_release(&theirs);
    return rc;
}

/* ---- one update ---- */

static double seconds_since(int64_t *mark)
{
    int64_t now = pd_time_mono_ns();
    double s = (double)(now - *mark) / 1e9;
    *mark = now;
    return s;
}

static enum pd_rc update(struct ppo *p, struct pd_metrics *metrics, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct learning learning = {0};
    double seconds[3];
    int64_t mark = pd_time_mono_ns();
    double lr = p->c->learning_rate * pd_schedule_factor(pd_schedule_from(p->c->lr_scheduler),
                                                         p->update, p->c->warmup_steps, p->total);
    if (!p->fixed_rollouts)
        PD_TRY(sample(p, err));
    seconds[0] = seconds_since(&mark);
    if (!p->fixed_scores)
        PD_TRY(pd_rollouts_score(&p->rollouts, &p->judge, p->policy.model, err));
    PD_TRY(examine_all(p, err));
    seconds[1] = seconds_since(&mark);
    struct objective objective = set_rewards(p);
    set_advantages(p);
    PD_TRY(improve(p, lr, &learning, err));
    seconds[2] = seconds_since(&mark);

    double n = (double)p->rollouts.n;
    p->episodes += (int64_t)p->rollouts.n;
    p->num_tokens += (int64_t)p->rollouts.n_tokens;
    if (p->update == 0)
        p->first_entropy = objective.entropy / (double)p->rollouts.n_tokens;
    put_metrics(p, &objective, &learning, lr, seconds, metrics);
    if (p->o->adaptive_kl > 0)
        p->kl_coef =
            pd_adaptive_kl(p->kl_coef, objective.kl / n, p->o->adaptive_kl, p->o->horizon, n);
    p->update++;
    int64_t tenth = p->total / 10 > 0 ? p->total / 10 : 1;
    if (p->update <= tenth) {
        p->first_score += objective.score / n;
        p->first_n++;
    }
    if (p->update > p->total - tenth) {
        p->last_score += objective.score / n;
        p->last_n++;
    }
out:
    return rc;
}

/* ---- saving and going on ---- */

static void list_blobs(struct ppo *p, struct pd_blobs *b)
{
    pd_blobs_add_params(b, "policy.", &p->policy.model->params);
    pd_blobs_add_adamw(b, "policy.", &p->policy.adam);
    if (p->critic.dec) {
        pd_blobs_add_params(b, "critic.", &p->critic.model->params);
        pd_blobs_add_adamw(b, "critic.", &p->critic.adam);
    }
}

/* Prompts, draws and shuffles all follow from (seed, update); what remains is in here. */
static enum pd_rc save(struct ppo *p, struct pd_err *err)
{
    struct pd_blobs blobs = {0};
    struct json_object *s = json_object_new_object();
    json_object_object_add(s, "adam_step", json_object_new_int64(p->policy.adam.step));
    json_object_object_add(s, "kl_coef", json_object_new_double(p->kl_coef));
    json_object_object_add(s, "episodes", json_object_new_int64(p->episodes));
    json_object_object_add(s, "num_tokens", json_object_new_int64(p->num_tokens));
    json_object_object_add(s, "unique_tokens", json_object_new_int64(p->unique_tokens));
    json_object_object_add(s, "first_entropy", json_object_new_double(p->first_entropy));
    json_object_object_add(s, "first_score", json_object_new_double(p->first_score));
    json_object_object_add(s, "first_n", json_object_new_int64(p->first_n));
    json_object_object_add(s, "last_score", json_object_new_double(p->last_score));
    json_object_object_add(s, "last_n", json_object_new_int64(p->last_n));
    list_blobs(p, &blobs);
    enum pd_rc rc =
        pd_checkpoint_save(p->run.dir, p->update, (int)p->c->keep_checkpoints, s, &blobs, err);
    pd_blobs_release(&blobs);
    json_object_put(s);
    return rc;
}

static enum pd_rc resume(struct ppo *p, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_blobs blobs = {0};
    struct json_object *s = NULL;
    list_blobs(p, &blobs);
    PD_TRY(pd_checkpoint_load(p->run.dir, &p->update, &s, &blobs, err));
    if (s) {
        p->policy.adam.step = pd_json_i64(s, "adam_step", 0);
        p->critic.adam.step = p->policy.adam.step;
        p->kl_coef = pd_json_f64(s, "kl_coef", p->kl_coef);
        p->episodes = pd_json_i64(s, "episodes", 0);
        p->num_tokens = pd_json_i64(s, "num_tokens", 0);
        p->unique_tokens = pd_json_i64(s, "unique_tokens", 0);
        p->first_entropy = pd_json_f64(s, "first_entropy", 0);
        p->first_score = pd_json_f64(s, "first_score", 0);
        p->first_n = pd_json_i64(s, "first_n", 0);
        p->last_score = pd_json_f64(s, "last_score", 0);
        p->last_n = pd_json_i64(s, "last_n", 0);
        PD_TRY(pd_decoder_repack(p->policy.dec, err));
        if (p->critic.dec)
            PD_TRY(pd_decoder_repack(p->critic.dec, err));
    }
    PD_TRY(pd_run_rewind(&p->run, p->update, err));
    if (!p->c->quiet)
        fprintf(stderr, "going on from update %" PRId64 " of %" PRId64 "\n", p->update, p->total);
out:
    json_object_put(s);
    pd_blobs_release(&blobs);
    return rc;
}

/* ---- the run ---- */

static enum pd_rc open_reference(struct ppo *p, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_model_options mo = {.purpose = PD_MODEL_INFERENCE, .heads = PD_HEAD_LM};
    struct pd_decoder_opts d = {0};
    const char *path = p->o->ref_model ? p->o->ref_model : p->c->model;
    PD_TRY(pd_compute_parse(p->c->dtype, &d.compute, err));
    PD_TRY(pd_model_open(&p->ref_model, path, &mo, err));
    if (p->ref_model->cfg.vocab_size != p->policy.model->cfg.vocab_size) {
        rc = PD_FAIL(err, PD_INVALID, "%s has another vocabulary than %s", path, p->c->model);
        goto out;
    }
    PD_TRY(pd_decoder_new(p->ref_model, &d, &p->ref, err));
    /* the policy's frozen blocks are the reference's blocks if it is the same model */
    if (!p->o->ref_model || strcmp(p->o->ref_model, p->c->model) == 0)
        p->frozen_layer = pd_decoder_first_trainable(p->policy.dec);
out:
    return rc;
}

static enum pd_rc open_critic(struct ppo *p, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    if (strcmp(p->o->value_head, "shared") == 0)
        return PD_OK;
    if (!p->judge.model)
        return PD_FAIL(err, PD_USAGE, "--value-head model needs a reward model to copy");
    PD_TRY(pd_learner_open(&p->critic, p->o->reward_model, PD_HEAD_SCORE, false, p->c, err));
    if (p->critic.model->cfg.vocab_size != p->policy.model->cfg.vocab_size)
        rc = PD_FAIL(err, PD_INVALID,
                     "%s has another vocabulary than the policy; use --value-head shared",
                     p->o->reward_model);
out:
    return rc;
}

static enum pd_rc open_data(struct ppo *p, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct pd_config *cfg = &p->policy.model->cfg;
    struct pd_sampling_plan plan = sampling_plan(p);
    int64_t longest = p->c->max_length;
    if (p->o->rollouts) {
        PD_TRY(pd_rollouts_read(&p->rollouts, &p->prompts, p->o->rollouts, p->policy.model, &plan,
                                &p->fixed_scores, err));
        p->fixed_rollouts = true;
        return PD_OK;
    }
    if (cfg->max_positions - p->o->response_length < longest)
        longest = cfg->max_positions - p->o->response_length;
    PD_TRY(pd_policy_prompts_read(&p->prompts, p->c->data, p->policy.model, p->o->chat, longest,
                                  p->c->skip_bad, err));
    fprintf(stderr, "%s: %zu prompts", p->c->data, p->prompts.n);
    if (p->prompts.n_too_long)
        fprintf(stderr, "; %zu left out, longer than %" PRId64 " tokens", p->prompts.n_too_long,
                longest);
    fputc('\n', stderr);
out:
    return rc;
}

static enum pd_rc name_inputs(struct ppo *p, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char hash[65];
    const char *data = p->o->rollouts ? p->o->rollouts : p->c->data;
    PD_TRY(pd_model_hash(p->c->model, hash, err));
    PD_TRY(pd_run_input(&p->run, "model", p->c->model, hash, -1, err));
    if (p->judge.model) {
        PD_TRY(pd_model_hash(p->o->reward_model, hash, err));
        PD_TRY(pd_run_input(&p->run, "reward_model", p->o->reward_model, hash, -1, err));
    }
    PD_TRY(pd_sha256_file(data, hash, err));
    PD_TRY(pd_run_input(&p->run, "data", data, hash, (int64_t)p->prompts.n, err));
    pd_run_set(&p->run, "total_steps", json_object_new_int64(p->total));
    PD_TRY(pd_run_state(&p->run, "running", NULL, err));
out:
    return rc;
}

static void plan_updates(struct ppo *p)
{
    int64_t n = (int64_t)p->prompts.n, batch = p->o->rollout_batch;
    p->total = p->c->max_steps > 0 ? p->c->max_steps : (p->c->epochs * n + batch - 1) / batch;
    p->order = pd_xalloc((p->prompts.n + 1) * sizeof *p->order);
    p->order_epoch = -1;
}

static enum pd_rc stopped(struct ppo *p, struct pd_err *err)
{
    enum pd_rc rc = save(p, err);
    return rc != PD_OK ? rc
                       : PD_FAIL(err, PD_INTERRUPTED,
                                 "stopped at update %" PRId64 " of %" PRId64
                                 "; saved in %s, go on with --resume",
                                 p->update, p->total, p->run.dir);
}

static enum pd_rc loop(struct ppo *p, struct pd_ppo_result *out, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_progress progress;
    pd_progress_init(&progress, "PPO", "updates", p->total, p->c->quiet);
    while (p->update < p->total) {
        struct pd_metrics metrics = {0};
        char note[96];
        rc = update(p, &metrics, err);
        if (rc == PD_INTERRUPTED) /* while sampling: the weights are still those of the last one */
            rc = stopped(p, err);
        PD_TRY(rc);
        bool last = p->update == p->total;
        double per_epoch = (double)p->prompts.n * (double)p->o->samples_per_prompt;
        PD_TRY(pd_run_metrics(&p->run, p->update, (double)p->episodes / per_epoch, &metrics, err));
        out->last_kl = pd_metrics_get(&metrics, "objective/kl");
        if (!p->fixed_rollouts && p->o->sample_every > 0 &&
            (last || p->update % p->o->sample_every == 0)) {
            rc = write_samples(p, err);
            PD_TRY(rc == PD_INTERRUPTED ? PD_OK : rc); /* seen again below */
        }
        if (!last && pd_run_should_stop(&p->run))
            PD_TRY(stopped(p, err));
        if (!last && p->c->save_every > 0 && p->update % p->c->save_every == 0)
            PD_TRY(save(p, err));
        (void)snprintf(note, sizeof note, "score %.3f, KL %.2f",
                       pd_metrics_get(&metrics, "objective/scores"), out->last_kl);
        pd_progress_update(&progress, p->update, note);
    }
    pd_progress_finish(&progress, NULL);
    out->updates = p->update;
    out->first_score = p->first_n ? p->first_score / (double)p->first_n : NAN;
    out->last_score = p->last_n ? p->last_score / (double)p->last_n : NAN;
out:
    return rc;
}

static enum pd_rc save_model(struct ppo *p, struct pd_err *err)
{
    char *dir = pd_xasprintf("%s/model", p->run.dir);
    bool bf16 = strcmp(p->o->save_dtype, "bf16") == 0;
    enum pd_rc rc =
        pd_model_save_hf(p->policy.model, dir, bf16 ? PD_DTYPE_BF16 : PD_DTYPE_F32, err);
    pd_free(dir);
    return rc;
}

static void release(struct ppo *p)
{
    float *aligned[] = {p->x, p->gathered};
    float *plain[] = {p->lp, p->entropy, p->lse, p->dlp, p->value, p->dvalue};
    for (size_t i = 0; i < sizeof aligned / sizeof *aligned; i++)
        pd_aligned_free(aligned[i]);
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        pd_free(plain[i]);
    pd_view_release(&p->view);
    pd_rollouts_release(&p->rollouts);
    pd_policy_prompts_release(&p->prompts);
    pd_judge_close(&p->judge);
    pd_decoder_free(p->ref);
    pd_model_free(p->ref_model);
    pd_learner_close(&p->critic);
    pd_learner_close(&p->policy);
    pd_free(p->order);
    pd_run_close(&p->run);
}

enum pd_rc pd_train_ppo(const struct pd_ppo_options *o, const struct pd_run_about *about,
                        struct pd_ppo_result *out, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_err report = {0};
    bool shared = strcmp(o->value_head, "shared") == 0;
    struct ppo p = {.o = o,
                    .c = &o->common,
                    .trl = strcmp(o->preset, "trl") == 0,
                    .kl_kind = strcmp(o->kl_estimator, "k3") == 0 ? PD_KL_K3 : PD_KL_K1,
                    .micro_tokens = o->common.micro_batch_tokens,
                    .kl_coef = o->kl_coef};
    *out = (struct pd_ppo_result){0};
    p.temperature = (float)(o->temperature + (p.trl ? 1e-7 : 0));
    pd_view_init(&p.view);
    PD_TRY(pd_learner_open(&p.policy, p.c->model, PD_HEAD_LM | (shared ? PD_HEAD_VALUE : 0), false,
                           p.c, err));
    PD_TRY(
        pd_judge_open(&p.judge, o->reward_model, p.policy.model, p.c->dtype, p.micro_tokens, err));
    PD_TRY(open_data(&p, err));
    PD_TRY(open_reference(&p, err));
    PD_TRY(open_critic(&p, err));
    PD_TRY(pd_learner_plan(&p.policy, p.c, &p.micro_tokens, err));
    plan_updates(&p);
    PD_TRY(pd_run_open(&p.run, p.c->out, about, p.c->resume, err));
    PD_TRY(name_inputs(&p, err));
    if (p.c->resume)
        PD_TRY(resume(&p, err));
    PD_TRY(loop(&p, out, err));
    PD_TRY(save_model(&p, err));
out:
    rc = pd_run_end(&p.run, rc, err);
    if (p.run.json && pd_report_write(p.run.dir, &report) != PD_OK)
        fprintf(stderr, "no report: %s\n", report.msg);
    release(&p);
    return rc;
}
