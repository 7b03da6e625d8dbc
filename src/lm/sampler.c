#include "lm/sampler_int.h"
#include "lm/vocab.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void pd_sampling_default(struct pd_sampling *s)
{
    *s = (struct pd_sampling){
        .temperature = 1, .top_k = 50, .top_p = 1, .typical_p = 1, .repetition_penalty = 1};
}

enum pd_rc pd_sampling_check(const struct pd_sampling *s, struct pd_err *err)
{
    if (!(s->temperature > 0) || !isfinite(s->temperature))
        return PD_FAIL(err, PD_INVALID, "temperature is %g, must be above 0", s->temperature);
    if (s->top_k < 0)
        return PD_FAIL(err, PD_INVALID, "top-k is %lld, must be 0 (off) or more",
                       (long long)s->top_k);
    if (!(s->top_p > 0) || s->top_p > 1)
        return PD_FAIL(err, PD_INVALID, "top-p is %g, must lie in (0, 1]", s->top_p);
    if (!(s->min_p >= 0) || s->min_p >= 1)
        return PD_FAIL(err, PD_INVALID, "min-p is %g, must lie in [0, 1)", s->min_p);
    if (!(s->typical_p > 0) || s->typical_p > 1)
        return PD_FAIL(err, PD_INVALID, "typical-p is %g, must lie in (0, 1]", s->typical_p);
    if (!(s->repetition_penalty >= 0.01 && s->repetition_penalty <= 100))
        return PD_FAIL(err, PD_INVALID, "repetition penalty is %g, must be from 0.01 to 100",
                       s->repetition_penalty);
    if (!isfinite(s->presence_penalty) || !isfinite(s->frequency_penalty))
        return PD_FAIL(err, PD_INVALID, "presence and frequency penalties must be finite numbers");
    if (s->no_repeat_ngram < 0 || s->min_new_tokens < 0)
        return PD_FAIL(err, PD_INVALID, "n-gram size and least number of tokens must be 0 or more");
    return PD_OK;
}

enum pd_rc pd_sampler_new(int64_t vocab, struct pd_sampler **out, struct pd_err *err)
{
    PD_ASSERT(vocab > 0 && vocab < INT32_MAX);
    struct pd_sampler *s = pd_xalloc(sizeof *s);
    size_t n = (size_t)vocab, blocks = (size_t)pd__vocab_blocks(vocab);
    s->vocab = vocab;
    s->block_max = pd_try_alloc(blocks, sizeof *s->block_max);
    s->block_sum = pd_try_alloc(blocks, sizeof *s->block_sum);
    s->scratch = pd_try_alloc(n, sizeof *s->scratch);
    s->found = pd_try_alloc(n + 1, sizeof *s->found);
    s->stamp = pd_try_alloc(n, sizeof *s->stamp);
    s->options = pd_try_alloc(n, sizeof *s->options);
    if (!s->block_max || !s->block_sum || !s->scratch || !s->found || !s->stamp || !s->options) {
        pd_sampler_free(s);
        return PD_FAIL(err, PD_NOMEM, "no memory for a sampler of %lld tokens", (long long)vocab);
    }
    *out = s;
    return PD_OK;
}

void pd_sampler_free(struct pd_sampler *s)
{
    if (!s)
        return;
    pd_free(s->block_max);
    pd_free(s->block_sum);
    pd_free(s->scratch);
    pd_free(s->found);
    pd_free(s->stamp);
    pd_free(s->penalised);
    pd_free(s->options);
    pd_free(s->out);
    pd_free(s);
}

/* ---- processors that act on logits ---- */

/* No id is met yet, and there is room to remember n more logits. */
static void begin_penalty(struct pd_sampler *s, int64_t n)
{
    if (++s->now == 0) {
        memset(s->stamp, 0, (size_t)s->vocab * sizeof *s->stamp);
        s->now = 1;
    }
    if (s->n_penalised + n > s->cap_penalised) {
        s->cap_penalised = 2 * (s->n_penalised + n);
        s->penalised = pd_xrealloc(s->penalised, (size_t)s->cap_penalised * sizeof *s->penalised);
    }
}

/* True the first time an id is met; its logit is remembered then. */
static bool first_met(struct pd_sampler *s, const float *logits, int32_t id)
{
    if (s->stamp[id] == s->now)
        return false;
    s->stamp[id] = s->now;
    s->penalised[s->n_penalised++] = (struct pd_candidate){id, logits[id]};
    return true;
}

/* Each distinct id of the context once: s < 0 ? s * p : s / p (Keskar et al. 2019, as Hugging Face
 * has it). */
static void penalise_repetition(struct pd_sampler *s, float penalty, float *logits,
                                struct pd_id_span context)
{
    begin_penalty(s, context.n);
    for (int64_t i = 0; i < context.n; i++) {
        int32_t id = context.ids[i];
        if (first_met(s, logits, id))
            logits[id] = logits[id] < 0 ? logits[id] * penalty : logits[id] / penalty;
    }
}

/* s - presence * [c > 0] - frequency * c, where c counts the id in the answer (OpenAI's API). */
static void penalise_presence(struct pd_sampler *s, const struct pd_sampling *how, float *logits,
                              struct pd_id_span answer)
{
    begin_penalty(s, answer.n);
    for (int64_t i = 0; i < answer.n; i++) {
        int32_t id = answer.ids[i];
        if (first_met(s, logits, id))
            logits[id] -= (float)how->presence_penalty;
        logits[id] -= (float)how->frequency_penalty;
    }
}

/* Bans what would complete an n-gram that the context already holds. */
static void ban_ngrams(int64_t n, float *logits, struct pd_id_span context)
{
    const int32_t *tail = context.ids + context.n - (n - 1);
    for (int64_t i = 0; i + n <= context.n; i++)
        if (memcmp(context.ids + i, tail, (size_t)(n - 1) * sizeof *tail) == 0)
            logits[context.ids[i + n - 1]] = -INFINITY;
}

static bool is_eos(const struct pd_sampling *how, int32_t id)
{
    for (int64_t i = 0; i < how->eos.n; i++)
        if (how->eos.ids[i] == id)
            return true;
    return false;
}

/* A bad word that is just an eos is let through, as in Hugging Face. */
static void ban_words(const struct pd_sampling *how, float *logits, struct pd_id_span context)
{
    for (int i = 0; i < how->n_bad_words; i++) {
        struct pd_id_span w = how->bad_words[i];
        if (w.n == 0 || w.n - 1 > context.n || (w.n == 1 && is_eos(how, w.ids[0])))
            continue;
        if (memcmp(context.ids + context.n - (w.n - 1), w.ids, (size_t)(w.n - 1) * sizeof *w.ids) ==
            0)
            logits[w.ids[w.n - 1]] = -INFINITY;
    }
}

/* Returns whether a logit changed. */
static bool process(struct pd_sampler *s, const struct pd_sampling *how, float *logits,
                    struct pd_id_span context, int64_t n_new)
{
    bool changed = false;
    s->n_penalised = 0;
    if (how->repetition_penalty != 1) {
        penalise_repetition(s, (float)how->repetition_penalty, logits, context);
        changed = true;
    }
    if ((how->presence_penalty != 0 || how->frequency_penalty != 0) && n_new > 0) {
        struct pd_id_span answer = {context.ids + context.n - n_new, n_new};
        penalise_presence(s, how, logits, answer);
        changed = true;
    }
    if (how->no_repeat_ngram > 0 && context.n + 1 >= how->no_repeat_ngram) {
        ban_ngrams(how->no_repeat_ngram, logits, context);
        changed = true;
    }
    if (how->n_bad_words) {
        ban_words(how, logits, context);
        changed = true;
    }
    for (int64_t i = 0; n_new < how->min_new_tokens && i < how->eos.n; i++) {
        if (how->eos.ids[i] >= 0 && how->eos.ids[i] < s->vocab)
            logits[how->eos.ids[i]] = -INFINITY;
        changed = true;
    }
    return changed;
}

static float raw_logit(const struct pd_sampler *s, const float *logits, int32_t id)
{
    for (int64_t i = 0; i < s->n_penalised; i++)
        if (s->penalised[i].id == id)
            return s->penalised[i].p;
    return logits[id];
}

static bool warps(const struct pd_sampling *how)
{
    return how->top_k > 0 || how->top_p < 1 || how->min_p > 0 || how->typical_p < 1;
}

/* ---- drawing ---- */

/* Walks blocks, then tokens, until the running mass passes `at`. e (V) = exp values. */
static int32_t pick_from_all(const struct pd_sampler *s, const float *e, double at)
{
    int64_t blocks = pd__vocab_blocks(s->vocab), b = 0, last = -1;
    double sum = 0;
    for (; b < blocks; b++) {
        if (s->block_sum[b] > 0)
            last = b;
        if (sum + s->block_sum[b] > at)
            break;
        sum += s->block_sum[b];
    }
    if (b == blocks) /* rounding at the upper end */
        b = last;
    int64_t id = -1, end = (b + 1) * PD_VOCAB_BLOCK;
    for (int64_t i = b * PD_VOCAB_BLOCK; i < end && i < s->vocab; i++) {
        if (e[i] <= 0)
            continue;
        id = i;
        sum += e[i];
        if (sum > at)
            break;
    }
    return (int32_t)id;
}

static const struct pd__option *pick_option(const struct pd_sampler *s, double at)
{
    double sum = 0;
    const struct pd__option *pick = &s->options[0];
    for (int64_t i = 0; i < s->n_options; i++) {
        if (s->options[i].p <= 0)
            continue;
        pick = &s->options[i];
        sum += pick->p;
        if (sum > at)
            break;
    }
    return pick;
}

static int32_t argmax(const struct pd_sampler *s, const float *logits, float max)
{
    int64_t b = 0;
    while (s->block_max[b] < max)
        b++;
    int64_t i = b * PD_VOCAB_BLOCK;
    while (logits[i] < max)
        i++;
    return (int32_t)i;
}

/* max: the largest logit once all processors have acted on finite ones. */
static enum pd_rc nothing_left(const struct pd_sampling *how, float max, struct pd_err *err)
{
    if (max != -INFINITY)
        return PD_FAIL(err, PD_NONFINITE, "the penalties make logits that are not finite numbers");
    return PD_FAIL(
        err, PD_INVALID, "no token is left to choose from: every one is forbidden by%s%s%s",
        how->no_repeat_ngram > 0 ? " --no-repeat-ngram-size" : "",
        how->n_bad_words ? " --bad-words" : "", how->min_new_tokens > 0 ? " --min-new-tokens" : "");
}

enum pd_rc pd_sampler_draw(struct pd_sampler *s, const struct pd_sampling *how, float *logits,
                           struct pd_id_span context, int64_t n_new, struct pd_rng *rng,
                           struct pd_draw *out, struct pd_err *err)
{
    float raw_max = pd__vocab_max(s->vocab, logits, s->block_max), max = raw_max;
    double raw_sum = pd__vocab_mass(s->vocab, logits, raw_max, 1);
    if (!isfinite(raw_sum) || !isfinite(raw_max))
        return PD_FAIL(err, PD_NONFINITE, "the model gives logits that are not finite numbers");
    double raw_lse = raw_max + log(raw_sum);
    if (process(s, how, logits, context, n_new)) {
        max = pd__vocab_max(s->vocab, logits, s->block_max);
        if (!isfinite(max))
            return nothing_left(how, max, err);
    }
    struct pd_draw d = {0};
    if (how->greedy) {
        d.id = argmax(s, logits, max);
    } else if (warps(how)) {
        pd__take_allowed(s, how, logits, max);
        double total = pd__options_mass(s);
        const struct pd__option *pick = pick_option(s, pd_rng_f64(rng) * total);
        d.id = pick->id;
        d.logprob = (float)log(pick->p / total);
    } else {
        float inv = (float)(1 / pd__temperature(how));
        double total = pd__vocab_exp(s->vocab, logits, max, inv, s->scratch, s->block_sum);
        d.id = pick_from_all(s, s->scratch, pd_rng_f64(rng) * total);
        d.logprob = (float)(((double)logits[d.id] - max) / pd__temperature(how) - log(total));
    }
    d.raw_logprob = (float)(raw_logit(s, logits, d.id) - raw_lse);
    *out = d;
    return PD_OK;
}

static int by_p_desc(const void *a, const void *b)
{
    return pd__likelier(a, b) ? -1 : pd__likelier(b, a);
}

static void sort_options(struct pd_sampler *s)
{
    qsort(s->options, (size_t)s->n_options, sizeof *s->options, by_p_desc);
}

void pd_sampler_top(struct pd_sampler *s, const float *logits, int64_t n, struct pd_top *out)
{
    static const struct pd_sampling plain = {.temperature = 1};
    float max = pd__vocab_max(s->vocab, logits, s->block_max);
    double lse = max + log(pd__vocab_mass(s->vocab, logits, max, 1));
    pd__take_top(s, &plain, logits, max, n);
    sort_options(s);
    for (int64_t i = 0; i < n; i++)
        out[i] = (struct pd_top){s->options[i].id, (float)(s->options[i].z - lse)};
}

enum pd_rc pd_sampler_distribution(struct pd_sampler *s, const struct pd_sampling *how,
                                   float *logits, struct pd_id_span context, int64_t n_new,
                                   const struct pd_candidate **out, int64_t *n, struct pd_err *err)
{
    (void)process(s, how, logits, context, n_new);
    float max = pd__vocab_max(s->vocab, logits, s->block_max);
    if (!isfinite(max))
        return nothing_left(how, max, err);
    if (!s->out) {
        s->out = pd_try_alloc((size_t)s->vocab, sizeof *s->out);
        if (!s->out)
            return PD_FAIL(err, PD_NOMEM, "no memory for a distribution");
    }
    *out = s->out;
    if (how->greedy) {
        s->out[0] = (struct pd_candidate){argmax(s, logits, max), 1};
        *n = 1;
        return PD_OK;
    }
    pd__take_allowed(s, how, logits, max);
    double total = pd__options_mass(s);
    sort_options(s);
    int64_t kept = 0;
    for (int64_t i = 0; i < s->n_options; i++)
        if (s->options[i].p > 0)
            s->out[kept++] =
                (struct pd_candidate){s->options[i].id, (float)(s->options[i].p / total)};
    *n = kept;
    return PD_OK;
}
