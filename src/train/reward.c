#include "train/reward.h"
#include "base/mem.h"
#include "base/progress.h"
#include "base/rng.h"
#include "base/time.h"
#include "lm/heads.h"
#include "train/bt.h"
#include "train/checkpoint.h"
#include "train/frozen.h"
#include "train/report.h"
#include "train/schedule.h"
#include "train/scorer.h"

#include <inttypes.h>
#include <math.h>

void pd_reward_options_default(struct pd_reward_options *o)
{
    *o = (struct pd_reward_options){.init_head = "normal",
                                    .too_long = "drop",
                                    .save_dtype = "fp32",
                                    .frozen_cache = (int64_t)8 << 30};
    pd_train_options_default(&o->common);
}

struct trainer {
    const struct pd_reward_options *o;
    const struct pd_train_options *c; /* = &o->common */
    struct pd_run run;
    struct pd_learner learner;
    struct pd_pairs train, eval;
    struct pd_frozen frozen; /* x NULL = not in use */
    int64_t micro_tokens;
    int64_t step, total, steps_per_epoch;
    int64_t num_tokens, unique_tokens; /* so far, over the whole run */
    size_t *order;                     /* (train.n) of the current epoch */
    int64_t order_epoch;               /* -1 = none yet */
    /* one micro-batch */
    struct pd_stream stream;
    const struct pd_pair **list;
    int32_t *read_rows;
    float *reward, *dreward, *x;
    size_t x_n;
};

/* ---- data ---- */

static enum pd_rc read_pairs(struct trainer *t, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_model *m = t->learner.model;
    bool cut = strcmp(t->o->too_long, "truncate-prompt") == 0;
    struct pd_pairs_options po = {.max_length = t->c->max_length,
                                  .too_long = cut ? PD_TOO_LONG_TRUNCATE_PROMPT : PD_TOO_LONG_DROP,
                                  .skip_bad = t->c->skip_bad,
                                  .pad = pd_pad_id_choose(m)};
    if (m->cfg.pos == PD_LM_POS_LEARNED && po.max_length > m->cfg.max_positions)
        po.max_length = m->cfg.max_positions;
    PD_TRY(pd_pairs_read(&t->train, t->c->data, m, &po, err));
    pd_pairs_report(&t->train, t->c->data, &po);
    if (t->c->eval_data) {
        PD_TRY(pd_pairs_read(&t->eval, t->c->eval_data, m, &po, err));
        pd_pairs_report(&t->eval, t->c->eval_data, &po);
    }
out:
    return rc;
}

/* The order of an epoch: torch.randperm seeded with seed + epoch, as accelerate's sampler does. */
static void set_order(struct trainer *t, int64_t epoch)
{
    struct pd_mt mt;
    if (t->order_epoch == epoch)
        return;
    t->order_epoch = epoch;
    for (size_t i = 0; i < t->train.n; i++)
        t->order[i] = i;
    if (!t->c->shuffle)
        return;
    pd_mt_seed(&mt, (uint32_t)(t->c->seed + epoch));
    pd_mt_randperm(&mt, t->order, t->train.n);
}

/* ---- one optimizer step ---- */

/* Pairs from the front whose trees fit the token budget, at least one. */
static size_t micro_batch(const struct trainer *t, const size_t *index, size_t n)
{
    int64_t rows = pd_pair_cost(&t->train.v[index[0]]);
    size_t i = 1;
    while (i < n && (rows += pd_pair_cost(&t->train.v[index[i]])) <= t->micro_tokens)
        i++;
    return i;
}

static enum pd_rc forward(struct trainer *t, const size_t *index, size_t n, const float **hidden,
                          struct pd_err *err)
{
    struct pd_decoder *dec = t->learner.dec;
    if (!t->frozen.x)
        return pd_decoder_forward(dec, &t->stream, true, hidden, err);
    size_t need = (size_t)(t->stream.n_rows * t->frozen.width);
    if (need > t->x_n) {
        pd_aligned_free(t->x);
        t->x_n = 0;
        t->x = pd_try_aligned(need, sizeof *t->x);
        if (!t->x)
            return PD_FAIL(err, PD_NOMEM, "no memory for %zu floats", need);
        t->x_n = need;
    }
    pd_frozen_gather(&t->frozen, index, n, t->x);
    return pd_decoder_forward_from(dec, &t->stream, t->frozen.layer, t->x, true, hidden, err);
}

/* Forward and backward of some pairs of a batch of `batch` pairs; adds to the gradients. */
static enum pd_rc learn(struct trainer *t, const size_t *index, size_t n, size_t batch,
                        struct pd_bt_sums *sums, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_model *m = t->learner.model;
    const float *hidden;
    float *dhidden;
    for (size_t i = 0; i < n; i++)
        t->list[i] = &t->train.v[index[i]];
    pd_pairs_stream(&t->stream, t->list, n, t->read_rows);
    PD_TRY(forward(t, index, n, &hidden, err));
    pd_head_score_forward(m->score.w, m->score.b, hidden, t->read_rows, (int64_t)(2 * n),
                          t->reward);
    for (size_t i = 0; i < n; i++) {
        const struct pd_pair *p = t->list[i];
        double rewarded = (double)t->reward[2 * i], refused = (double)t->reward[2 * i + 1], dc, dr;
        double loss = pd_bt_loss(rewarded, refused, t->o->use_margin ? p->margin : 0,
                                 t->o->use_weight ? p->weight : 1, t->o->center_rewards_coefficient,
                                 &dc, &dr);
        t->dreward[2 * i] = (float)(dc / (double)batch);
        t->dreward[2 * i + 1] = (float)(dr / (double)batch);
        pd_bt_add(sums, rewarded, refused, loss);
        t->num_tokens += p->chosen.n_tokens + p->rejected.n_tokens;
    }
    t->unique_tokens += t->stream.n_rows;
    PD_TRY(pd_learner_dhidden(&t->learner, t->stream.n_rows, &dhidden, err));
    pd_head_score_backward(m->score.w, m->score.b, hidden, t->read_rows, (int64_t)(2 * n),
                           t->dreward, dhidden);
    PD_TRY(pd_decoder_backward(t->learner.dec, &t->stream, dhidden, err));
out:
    return rc;
}

static enum pd_rc train_step(struct trainer *t, struct pd_metrics *metrics, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_bt_sums sums = {0};
    int64_t start_ns = pd_time_mono_ns(), tokens = t->num_tokens, unique = t->unique_tokens;
    size_t first = (size_t)(t->step % t->steps_per_epoch) * (size_t)t->c->batch_size;
    size_t left = t->train.n - first;
    size_t batch = left < (size_t)t->c->batch_size ? left : (size_t)t->c->batch_size;
    double grad_norm,
        lr = t->c->learning_rate * pd_schedule_factor(pd_schedule_from(t->c->lr_scheduler), t->step,
                                                      t->c->warmup_steps, t->total);
    set_order(t, t->step / t->steps_per_epoch);
    pd_params_zero_grads(&t->learner.model->params);
    for (size_t i = 0; i < batch;) {
        size_t n = micro_batch(t, t->order + first + i, batch - i);
        PD_TRY(learn(t, t->order + first + i, n, batch, &sums, err));
        i += n;
    }
    if (!isfinite(sums.loss)) {
        rc = pd_params_check_data(&t->learner.model->params, t->step + 1, err);
        if (rc == PD_OK)
            rc = PD_FAIL(err, PD_NONFINITE, "the loss is not a finite number at step %" PRId64,
                         t->step + 1);
        goto out;
    }
    PD_TRY(pd_learner_step(&t->learner, lr, t->c->max_grad_norm, t->step + 1, &grad_norm, err));
    t->step++;
    double n = (double)sums.n, seconds = (double)(pd_time_mono_ns() - start_ns) / 1e9;
    pd_metrics_put(metrics, "loss", sums.loss / n);
    pd_metrics_put(metrics, "accuracy", (double)sums.right / n);
    pd_metrics_put(metrics, "margin", sums.margin / n);
    pd_metrics_put(metrics, "mean_reward", sums.reward / (2 * n));
    pd_metrics_put(metrics, "min_reward", sums.min_reward);
    pd_metrics_put(metrics, "max_reward", sums.max_reward);
    pd_metrics_put(metrics, "learning_rate", lr);
    pd_metrics_put(metrics, "grad_norm", grad_norm);
    pd_metrics_put(metrics, "num_tokens", (double)t->num_tokens);
    pd_metrics_put(metrics, "unique_tokens", (double)t->unique_tokens);
    pd_metrics_put(metrics, "tokens_per_second", (double)(t->num_tokens - tokens) / seconds);
    pd_metrics_put(metrics, "unique_tokens_per_second",
                   (double)(t->unique_tokens - unique) / seconds);
    pd_metrics_put(metrics, "pairs_per_second", n / seconds);
    pd_metrics_put(metrics, "peak_rss_bytes", (double)pd_peak_rss_bytes());
out:
    return rc;
}

/* ---- evaluation ---- */

static enum pd_rc evaluate(struct trainer *t, struct pd_metrics *metrics,
                           struct pd_reward_summary *summary, struct pd_err *err)
{
    struct pd_scorer scorer = {.dec = t->learner.dec, .micro_tokens = t->micro_tokens};
    float *rc_ = pd_xalloc((t->eval.n + 1) * sizeof *rc_);
    float *rr_ = pd_xalloc((t->eval.n + 1) * sizeof *rr_);
    enum pd_rc rc = pd_scorer_pairs(&scorer, &t->eval, rc_, rr_, err);
    if (rc == PD_OK) {
        pd_reward_summarise(&t->eval, rc_, rr_, summary);
        pd_metrics_put(metrics, "eval_loss", summary->loss);
        pd_metrics_put(metrics, "eval_accuracy", summary->accuracy);
        pd_metrics_put(metrics, "eval_accuracy_low", summary->ci.lo);
        pd_metrics_put(metrics, "eval_accuracy_high", summary->ci.hi);
        pd_metrics_put(metrics, "eval_longer_wins", summary->longer_wins);
        pd_metrics_put(metrics, "eval_shorter_wins", summary->shorter_wins);
        pd_metrics_put(metrics, "eval_margin", summary->margin);
        pd_metrics_put(metrics, "eval_mean_reward", summary->mean_reward);
        pd_metrics_put(metrics, "eval_ece", summary->ece);
    }
    pd_free(rc_);
    pd_free(rr_);
    return rc;
}

static struct json_object *summary_tree(const struct pd_reward_summary *s)
{
    struct pd_buf text;
    struct pd_jw w;
    struct json_object *tree = NULL;
    pd_buf_init(&text, 0);
    pd_jw_init(&w, &text);
    pd_jw_object(&w);
    pd_reward_summary_json(s, &w);
    pd_jw_object_end(&w);
    if (pd_json_parse(pd_buf_str(&text), &tree, NULL) != PD_OK)
        pd_bug("a summary is not JSON");
    pd_buf_release(&text);
    return tree;
}

/* ---- saving and going on ---- */

static void list_blobs(struct trainer *t, struct pd_blobs *blobs)
{
    pd_blobs_add_params(blobs, "", &t->learner.model->params);
    pd_blobs_add_adamw(blobs, "", &t->learner.adam);
}

/* The order of the data and the learning rate follow from seed and step: no more state is needed
 * than the step, the counters and the tensors. */
static enum pd_rc save(struct trainer *t, struct pd_err *err)
{
    struct pd_blobs blobs = {0};
    struct json_object *state = json_object_new_object();
    json_object_object_add(state, "adam_step", json_object_new_int64(t->learner.adam.step));
    json_object_object_add(state, "num_tokens", json_object_new_int64(t->num_tokens));
    json_object_object_add(state, "unique_tokens", json_object_new_int64(t->unique_tokens));
    list_blobs(t, &blobs);
    enum pd_rc rc =
        pd_checkpoint_save(t->run.dir, t->step, (int)t->c->keep_checkpoints, state, &blobs, err);
    pd_blobs_release(&blobs);
    json_object_put(state);
    return rc;
}

static enum pd_rc resume(struct trainer *t, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_blobs blobs = {0};
    struct json_object *state = NULL;
    list_blobs(t, &blobs);
    PD_TRY(pd_checkpoint_load(t->run.dir, &t->step, &state, &blobs, err));
    if (state) {
        t->learner.adam.step = pd_json_i64(state, "adam_step", 0);
        t->num_tokens = pd_json_i64(state, "num_tokens", 0);
        t->unique_tokens = pd_json_i64(state, "unique_tokens", 0);
        PD_TRY(pd_decoder_repack(t->learner.dec, err));
    }
    PD_TRY(pd_run_rewind(&t->run, t->step, err));
    if (!t->c->quiet)
        fprintf(stderr, "going on from step %" PRId64 " of %" PRId64 "\n", t->step, t->total);
out:
    json_object_put(state);
    pd_blobs_release(&blobs);
    return rc;
}

/* ---- the run ---- */

static enum pd_rc name_inputs(struct trainer *t, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char hash[65];
    PD_TRY(pd_model_hash(t->c->model, hash, err));
    PD_TRY(pd_run_input(&t->run, "model", t->c->model, hash, -1, err));
    PD_TRY(pd_run_input(&t->run, "data", t->c->data, t->train.sha256, (int64_t)t->train.n, err));
    if (t->c->eval_data)
        PD_TRY(pd_run_input(&t->run, "eval", t->c->eval_data, t->eval.sha256, (int64_t)t->eval.n,
                            err));
    pd_run_set(&t->run, "total_steps", json_object_new_int64(t->total));
    pd_run_set(&t->run, "pairs_dropped_too_long",
               json_object_new_int64((int64_t)t->train.n_too_long));
    pd_run_set(&t->run, "pairs_truncated", json_object_new_int64((int64_t)t->train.n_truncated));
    pd_run_set(&t->run, "pairs_dropped_identical", json_object_new_int64((int64_t)t->train.n_same));
    PD_TRY(pd_run_state(&t->run, "running", NULL, err));
out:
    return rc;
}

static void plan(struct trainer *t)
{
    size_t batch = (size_t)t->c->batch_size;
    t->steps_per_epoch = (int64_t)((t->train.n + batch - 1) / batch);
    t->total = t->c->max_steps > 0 ? t->c->max_steps : t->c->epochs * t->steps_per_epoch;
    t->order = pd_xalloc((t->train.n + 1) * sizeof *t->order);
    t->order_epoch = -1;
    t->list = pd_xalloc((batch + 1) * sizeof *t->list);
    t->read_rows = pd_xalloc((2 * batch + 1) * sizeof *t->read_rows);
    t->reward = pd_xalloc((2 * batch + 1) * sizeof *t->reward);
    t->dreward = pd_xalloc((2 * batch + 1) * sizeof *t->dreward);
}

/* Worth it when the same pairs come again; the decision depends on nothing that changes between a
 * run and its resumption. */
static enum pd_rc open_frozen(struct trainer *t, struct pd_err *err)
{
    bool again = t->total > t->steps_per_epoch;
    size_t bytes = pd_frozen_bytes(t->learner.dec, &t->train);
    if (pd_decoder_first_trainable(t->learner.dec) == 0 || !again ||
        bytes > (size_t)t->o->frozen_cache)
        return PD_OK;
    return pd_frozen_open(&t->frozen, t->run.dir, t->learner.dec, &t->train, t->micro_tokens,
                          t->c->quiet, err);
}

static enum pd_rc save_model(struct trainer *t, struct pd_err *err)
{
    char *dir = pd_xasprintf("%s/model", t->run.dir);
    bool bf16 = strcmp(t->o->save_dtype, "bf16") == 0;
    enum pd_rc rc =
        pd_model_save_hf(t->learner.model, dir, bf16 ? PD_DTYPE_BF16 : PD_DTYPE_F32, err);
    pd_free(dir);
    return rc;
}

static enum pd_rc loop(struct trainer *t, struct pd_reward_result *out, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_progress progress;
    int64_t tail = t->total - t->total / 10, tail_n = 0;
    double tail_loss = 0;
    pd_progress_init(&progress, "training", "steps", t->total, t->c->quiet);
    while (t->step < t->total) {
        struct pd_metrics metrics = {0};
        char note[96];
        PD_TRY(train_step(t, &metrics, err));
        bool last = t->step == t->total;
        bool eval_now =
            t->eval.n && (last || (t->c->eval_every > 0 && t->step % t->c->eval_every == 0));
        if (eval_now) {
            PD_TRY(evaluate(t, &metrics, &out->eval, err));
            out->evaluated = true;
        }
        double epoch = (double)t->step / (double)t->steps_per_epoch;
        PD_TRY(pd_run_metrics(&t->run, t->step, epoch, &metrics, err));
        if (t->step > tail || last) {
            tail_loss += pd_metrics_get(&metrics, "loss");
            tail_n++;
        }
        bool stop = !last && pd_run_should_stop(&t->run);
        if (stop || (!last && t->c->save_every > 0 && t->step % t->c->save_every == 0))
            PD_TRY(save(t, err));
        (void)snprintf(note, sizeof note, "loss %.4f, accuracy %.2f, %.2f pairs/s",
                       pd_metrics_get(&metrics, "loss"), pd_metrics_get(&metrics, "accuracy"),
                       pd_metrics_get(&metrics, "pairs_per_second"));
        pd_progress_update(&progress, t->step, note);
        if (stop) {
            rc = PD_FAIL(err, PD_INTERRUPTED,
                         "stopped at step %" PRId64 " of %" PRId64
                         "; saved in %s, go on with --resume",
                         t->step, t->total, t->run.dir);
            goto out;
        }
    }
    pd_progress_finish(&progress, NULL);
    out->steps = t->step;
    out->loss = tail_n ? tail_loss / (double)tail_n : NAN;
out:
    return rc;
}

static void release(struct trainer *t)
{
    pd_frozen_close(&t->frozen);
    pd_pairs_release(&t->train);
    pd_pairs_release(&t->eval);
    pd_learner_close(&t->learner);
    pd_stream_release(&t->stream);
    pd_free(t->order);
    pd_free(t->list);
    pd_free(t->read_rows);
    pd_free(t->reward);
    pd_free(t->dreward);
    pd_aligned_free(t->x);
    pd_run_close(&t->run);
}

enum pd_rc pd_train_reward(const struct pd_reward_options *o, const struct pd_run_about *about,
                           struct pd_reward_result *out, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_err report = {0};
    struct trainer t = {.o = o, .c = &o->common, .micro_tokens = o->common.micro_batch_tokens};
    *out = (struct pd_reward_result){0};
    pd_stream_init(&t.stream);
    /* everything that can be wrong with the input is found before the run folder is touched */
    const struct pd_learner_heads heads = {.which = PD_HEAD_SCORE,
                                           .init_normal = strcmp(o->init_head, "normal") == 0,
                                           .label = o->reward_label};
    PD_TRY(pd_learner_open(&t.learner, o->common.model, &heads, &o->common, err));
    t.stream.share_limit = pd_config_share_limit(&t.learner.model->cfg);
    PD_TRY(read_pairs(&t, err));
    PD_TRY(pd_learner_plan(&t.learner, &o->common, 0, &t.micro_tokens, err));
    plan(&t);
    PD_TRY(pd_run_open(&t.run, o->common.out, about, o->common.resume, err));
    out->finished = t.run.finished;
    if (out->finished)
        goto out;
    PD_TRY(name_inputs(&t, err));
    if (o->common.resume)
        PD_TRY(resume(&t, err));
    if (t.step < t.total)
        PD_TRY(open_frozen(&t, err));
    PD_TRY(loop(&t, out, err));
    PD_TRY(save_model(&t, err));
    if (out->evaluated)
        pd_run_set(&t.run, "eval", summary_tree(&out->eval));
out:
    rc = pd_run_end(&t.run, rc, err);
    if (t.run.json && pd_report_write(t.run.dir, &report) != PD_OK)
        fprintf(stderr, "no report: %s\n", report.msg);
    release(&t);
    return rc;
}
