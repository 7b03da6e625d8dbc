/* What a PPO run says about itself: metrics under TRL's names, alarms, samples. */
#include "train/ppo_int.h"
#include "base/log.h"

#include <inttypes.h>
#include <math.h>

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

void pd__ppo_metrics(struct ppo *p, const struct objective *o, const struct learning *l, double lr,
                     const double seconds[3], struct pd_metrics *m)
{
    double n = (double)p->rollouts.n, steps = (double)l->steps;
    double ratio = l->ratio / steps, total = seconds[0] + seconds[1] + seconds[2];
    double ratio_var = steps > 1 ? (l->ratio_squared - steps * ratio * ratio) / (steps - 1) : 0;
    pd_metrics_put(m, "objective/scores", (p->trl ? o->penalised : o->score) / n);
    pd_metrics_put(m, "objective/kl", o->kl / n);
    pd_metrics_put(m, "objective/entropy", o->surprise / n);
    pd_metrics_put(m, "objective/non_score_reward", o->non_score / n);
    pd_metrics_put(m, "objective/rlhf_reward", (o->non_score + o->penalised) / n);
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
    pd_metrics_put(m, "eps", floor(n / total));
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

enum pd_rc pd__ppo_samples(struct ppo *p, struct pd_err *err)
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
