#include "train/ppo_int.h"
#include "base/crypt.h"
#include "base/mem.h"
#include "base/progress.h"
#include "base/rng.h"
#include "base/time.h"
#include "train/checkpoint.h"
#include "train/report.h"
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

/* ---- rewards and advantages ---- */

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

/* ---- one update ---- */

static double seconds_since(int64_t *mark)
{
    int64_t now = pd_time_mono_ns();
    double s = (double)(now - *mark) / 1e9;
    *mark = now;
    return s;
}

/* A number that is not finite shows far from where it comes from: if a weight is one, err names its
 * tensor; else err stays as it is. */
static void name_culprit(const struct ppo *p, struct pd_err *err)
{
    enum pd_rc rc = pd_params_check_data(&p->policy.model->params, p->update + 1, err);
    if (rc == PD_OK && p->critic.dec)
        rc = pd_params_check_data(&p->critic.model->params, p->update + 1, err);
    (void)rc;
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
    PD_TRY(pd__ppo_examine(p, err));
    seconds[1] = seconds_since(&mark);
    struct objective objective = set_rewards(p);
    set_advantages(p);
    PD_TRY(pd__ppo_improve(p, lr, &learning, err));
    seconds[2] = seconds_since(&mark);

    double n = (double)p->rollouts.n;
    p->episodes += (int64_t)p->rollouts.n;
    p->num_tokens += (int64_t)p->rollouts.n_tokens;
    if (p->update == 0)
        p->first_entropy = objective.entropy / (double)p->rollouts.n_tokens;
    pd__ppo_metrics(p, &objective, &learning, lr, seconds, metrics);
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
    if (rc == PD_NONFINITE)
        name_culprit(p, err);
    return rc;
}

/* Samples are written after every sample_every-th update and the last one; a run that is stopped
 * while it draws them writes them when it goes on. */
static enum pd_rc samples(struct ppo *p, struct pd_err *err)
{
    bool due = p->o->sample_every > 0 && p->update > 0 && !p->fixed_rollouts &&
               (p->update == p->total || p->update % p->o->sample_every == 0);
    if (!due || p->sampled_at == p->update)
        return PD_OK;
    enum pd_rc rc = pd__ppo_samples(p, err);
    if (rc == PD_OK)
        p->sampled_at = p->update;
    return rc == PD_INTERRUPTED ? PD_OK : rc; /* the loop sees the signal itself */
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
    json_object_object_add(s, "sampled_at", json_object_new_int64(p->sampled_at));
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
        p->sampled_at = pd_json_i64(s, "sampled_at", 0);
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
    PD_TRY(samples(p, err));
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
    struct pd_model_options mo = {
        .purpose = PD_MODEL_INFERENCE, .heads = PD_HEAD_LM, .as_in_file = true};
    struct pd_decoder_opts d = {0};
    const char *path = p->o->ref_model ? p->o->ref_model : p->c->model;
    PD_TRY(pd_compute_parse(p->c->dtype, &d.compute, err));
    d.compute = pd_compute_resolve(d.compute); /* as the policy computes: their difference counts */
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
    const struct pd_learner_heads heads = {.which = PD_HEAD_SCORE, .label = p->o->reward_label};
    PD_TRY(pd_learner_open(&p->critic, p->o->reward_model, &heads, p->c, err));
    if (p->critic.model->cfg.vocab_size != p->policy.model->cfg.vocab_size)
        rc = PD_FAIL(err, PD_INVALID,
                     "%s has another vocabulary than the policy; use --value-head shared",
                     p->o->reward_model);
out:
    return rc;
}

/* What reference, reward model and critic hold; the critic's activations as of a whole batch. */
static int64_t beside_policy(const struct ppo *p)
{
    int64_t sum = pd_inference_bytes(p->ref, p->micro_tokens);
    if (p->judge.model)
        sum += pd_inference_bytes(p->judge.scorer.dec, p->micro_tokens);
    if (p->critic.dec)
        sum +=
            pd_learner_bytes(&p->critic) + pd_decoder_train_bytes(p->critic.dec, p->micro_tokens);
    return sum;
}

static enum pd_rc open_data(struct ppo *p, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct pd_config *cfg = &p->policy.model->cfg;
    struct pd_sampling_plan plan = sampling_plan(p);
    int64_t longest = p->c->max_length;
    if (p->o->rollouts) {
        PD_TRY(pd_rollouts_read(&p->rollouts, &p->prompts, p->o->rollouts, p->policy.model, &plan,
                                p->c->skip_bad, &p->fixed_scores, err));
        p->fixed_rollouts = true;
        return PD_OK;
    }
    if (pd_config_context(cfg) - p->o->response_length < longest)
        longest = pd_config_context(cfg) - p->o->response_length;
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
    if (p->o->ref_model) {
        PD_TRY(pd_model_hash(p->o->ref_model, hash, err));
        PD_TRY(pd_run_input(&p->run, "ref_model", p->o->ref_model, hash, -1, err));
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
        PD_TRY(samples(p, err));
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
    const struct pd_learner_heads heads = {.which = PD_HEAD_LM | (shared ? PD_HEAD_VALUE : 0)};
    PD_TRY(pd_learner_open(&p.policy, p.c->model, &heads, p.c, err));
    p.view.stream.share_limit = pd_config_share_limit(&p.policy.model->cfg);
    PD_TRY(pd_judge_open(&p.judge, o->reward_model, o->reward_label, p.policy.model, p.c->dtype,
                         p.micro_tokens, err));
    PD_TRY(open_data(&p, err));
    PD_TRY(open_reference(&p, err));
    PD_TRY(open_critic(&p, err));
    p.policy.generates = !p.fixed_rollouts;
    PD_TRY(pd_learner_plan(&p.policy, p.c, beside_policy(&p), &p.micro_tokens, err));
    plan_updates(&p);
    PD_TRY(pd_run_open(&p.run, p.c->out, about, p.c->resume, err));
    out->finished = p.run.finished;
    if (out->finished)
        goto out;
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
