#include "train/reward_eval.h"
#include "base/mem.h"
#include "train/bt.h"

#include <math.h>
#include <stdio.h>

static void count_strength(struct pd_reward_summary *s, int strength, bool right)
{
    int i = 0;
    if (strength < 0)
        return;
    while (i < s->n_strengths && s->by_strength[i].strength != strength)
        i++;
    if (i == PD_MAX_STRENGTHS)
        return;
    if (i == s->n_strengths) {
        /* kept in ascending order: the table is tiny */
        while (i > 0 && s->by_strength[i - 1].strength > strength) {
            s->by_strength[i] = s->by_strength[i - 1];
            i--;
        }
        s->n_strengths++;
        s->by_strength[i].strength = strength;
        s->by_strength[i].n = s->by_strength[i].right = 0;
    }
    s->by_strength[i].n++;
    s->by_strength[i].right += right;
}

void pd_reward_summarise(const struct pd_pairs *p, const float *rc, const float *rr,
                         struct pd_reward_summary *out)
{
    struct pd_bt_sums sums = {0};
    double longer = 0;
    double *difference = pd_xalloc((p->n + 1) * sizeof *difference);
    double *length = pd_xalloc((p->n + 1) * sizeof *length);
    *out = (struct pd_reward_summary){.n = p->n};
    for (size_t i = 0; i < p->n; i++) {
        const struct pd_pair *pair = &p->v[i];
        double d = (double)rc[i] - (double)rr[i];
        pd_bt_add(&sums, (double)rc[i], (double)rr[i], -pd_log_sigmoid(d));
        difference[i] = d;
        length[i] = pair->chosen.n_tokens - pair->rejected.n_tokens;
        longer += length[i] > 0 ? 1 : length[i] == 0 ? 0.5 : 0;
        count_strength(out, pair->strength, d > 0);
    }
    double n = (double)p->n;
    out->ties = sums.ties;
    out->accuracy = (double)sums.right / n;
    out->ci = pd_wilson((double)sums.right, p->n);
    out->margin = sums.margin / n;
    out->loss = sums.loss / n;
    out->mean_reward = sums.reward / (2 * n);
    out->ece = pd_ece(difference, p->n);
    out->length_correlation = pd_pearson(difference, length, p->n);
    out->longer_wins = longer / n;
    out->shorter_wins = 1 - longer / n;
    pd_free(difference);
    pd_free(length);
}

void pd_reward_summary_json(const struct pd_reward_summary *s, struct pd_jw *w)
{
    pd_jw_ki64(w, "n", (int64_t)s->n);
    pd_jw_kf64(w, "accuracy", s->accuracy);
    pd_jw_key(w, "ci");
    pd_jw_array(w);
    pd_jw_f64(w, s->ci.lo);
    pd_jw_f64(w, s->ci.hi);
    pd_jw_array_end(w);
    pd_jw_ki64(w, "ties", (int64_t)s->ties);
    pd_jw_kf64(w, "margin", s->margin);
    pd_jw_kf64(w, "loss", s->loss);
    pd_jw_kf64(w, "mean_reward", s->mean_reward);
    pd_jw_kf64(w, "ece", s->ece);
    pd_jw_kf64(w, "length_correlation", s->length_correlation);
    pd_jw_kf64(w, "longer_wins", s->longer_wins);
    pd_jw_kf64(w, "shorter_wins", s->shorter_wins);
    pd_jw_key(w, "by_strength");
    pd_jw_object(w);
    for (int i = 0; i < s->n_strengths; i++) {
        char key[16];
        size_t n = s->by_strength[i].n, right = s->by_strength[i].right;
        struct pd_interval ci = pd_wilson((double)right, n);
        (void)snprintf(key, sizeof key, "%d", s->by_strength[i].strength);
        pd_jw_key(w, key);
        pd_jw_object(w);
        pd_jw_ki64(w, "n", (int64_t)n);
        pd_jw_kf64(w, "accuracy", (double)right / (double)n);
        pd_jw_key(w, "ci");
        pd_jw_array(w);
        pd_jw_f64(w, ci.lo);
        pd_jw_f64(w, ci.hi);
        pd_jw_array_end(w);
        pd_jw_object_end(w);
    }
    pd_jw_object_end(w);
}

void pd_reward_summary_text(const struct pd_reward_summary *s, struct pd_buf *out)
{
    pd_buf_addf(out, "accuracy     %.1f%% (95%% interval %.1f..%.1f) on %zu pairs, %zu ties\n",
                100 * s->accuracy, 100 * s->ci.lo, 100 * s->ci.hi, s->n, s->ties);
    pd_buf_addf(out, "baselines    longer wins %.1f%%, shorter wins %.1f%%\n", 100 * s->longer_wins,
                100 * s->shorter_wins);
    pd_buf_addf(out, "loss         %.4f, mean margin %+.4f, mean reward %+.4f\n", s->loss,
                s->margin, s->mean_reward);
    pd_buf_addf(out, "calibration  error %.3f", s->ece);
    if (isfinite(s->length_correlation))
        pd_buf_addf(out, "; correlation with length %+.2f", s->length_correlation);
    pd_buf_addc(out, '\n');
    for (int i = 0; i < s->n_strengths; i++)
        pd_buf_addf(out, "strength %d   %.1f%% of %zu\n", s->by_strength[i].strength,
                    100 * (double)s->by_strength[i].right / (double)s->by_strength[i].n,
                    s->by_strength[i].n);
}
