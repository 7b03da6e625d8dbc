#include "train/policy_eval.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/rng.h"
#include "train/rollout.h"

#include <math.h>

enum { BOOTSTRAP_ROUNDS = 2000 };

/* One policy's answers. The model itself is closed again before the other is opened. */
struct side {
    const char *name;
    struct pd_policy_prompts prompts;
    struct pd_rollouts rollouts;
};

static enum pd_rc answer(struct side *s, const char *path, const struct pd_policy_eval_options *o,
                         struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_model *m = NULL;
    struct pd_decoder *dec = NULL;
    struct pd_judge judge = {0};
    struct pd_model_options mo = {
        .purpose = PD_MODEL_INFERENCE, .heads = PD_HEAD_LM, .as_in_file = true};
    struct pd_decoder_opts d = {0};
    struct pd_sampling_plan plan = {.seed = (uint64_t)o->seed,
                                    .per_prompt = o->n,
                                    .max_new = o->max_new_tokens,
                                    .temperature = o->temperature};
    const struct pd_policy_prompt **list = NULL;
    s->name = path;
    PD_TRY(pd_compute_parse(o->dtype, &d.compute, err));
    PD_TRY(pd_model_open(&m, path, &mo, err));
    PD_TRY(pd_decoder_new(m, &d, &dec, err));
    PD_TRY(pd_policy_prompts_read(&s->prompts, o->prompts, m, o->chat,
                                  pd_config_context(&m->cfg) - o->max_new_tokens, o->skip_bad,
                                  err));
    size_t n = s->prompts.n;
    if (o->limit > 0 && (size_t)o->limit < n)
        n = (size_t)o->limit;
    list = pd_xalloc((n + 1) * sizeof *list);
    for (size_t i = 0; i < n; i++)
        list[i] = &s->prompts.v[i];
    PD_TRY(
        pd_judge_open(&judge, o->reward_model, o->reward_label, m, o->dtype, o->micro_tokens, err));
    if (!o->quiet)
        fprintf(stderr, "%s: answering %zu prompts\n", path, n);
    PD_TRY(pd_rollouts_sample(&s->rollouts, dec, list, n, &plan, err));
    PD_TRY(pd_rollouts_score(&s->rollouts, &judge, m, err));
out:
    pd_judge_close(&judge);
    pd_free(list);
    pd_decoder_free(dec);
    pd_model_free(m);
    return rc;
}

/* A shorter context leaves prompts out: both sides must have answered the same ones. */
static enum pd_rc same_prompts(const struct side *a, const struct side *b, struct pd_err *err)
{
    bool same = a->prompts.n == b->prompts.n && a->rollouts.n == b->rollouts.n;
    for (size_t i = 0; same && i < a->prompts.n; i++)
        same = json_object_equal(a->prompts.v[i].row, b->prompts.v[i].row);
    return same ? PD_OK
                : PD_FAIL(err, PD_INVALID,
                          "%zu prompts fit the context of %s, %zu that of %s: give prompts that "
                          "fit both",
                          a->prompts.n, a->name, b->prompts.n, b->name);
}

static void describe(const struct side *s, struct pd_policy_side *out)
{
    double n = (double)s->rollouts.n;
    *out = (struct pd_policy_side){0};
    for (size_t i = 0; i < s->rollouts.n; i++) {
        const struct pd_rollout *r = &s->rollouts.v[i];
        out->reward += (double)r->score / n;
        out->tokens += (double)r->n / n;
        out->unfinished += (r->ended ? 0 : 1) / n;
    }
}

static void compare(const struct side *a, const struct side *b,
                    const struct pd_policy_eval_options *o, struct pd_policy_comparison *out)
{
    size_t per = (size_t)o->n, prompts = a->rollouts.n / per;
    double *wins = pd_xalloc((prompts + 1) * sizeof *wins);
    double *differences = pd_xalloc((prompts + 1) * sizeof *differences);
    for (size_t i = 0; i < prompts * per; i++) {
        double x = (double)a->rollouts.v[i].score, y = (double)b->rollouts.v[i].score;
        wins[i / per] += (x > y ? 1 : x == y ? 0.5 : 0) / (double)per;
        differences[i / per] += (x - y) / (double)per;
    }
    *out = (struct pd_policy_comparison){.prompts = prompts, .answers = a->rollouts.n};
    out->win_rate = pd_mean(wins, prompts);
    out->difference = pd_mean(differences, prompts);
    out->win_ci = pd_bootstrap_mean(wins, prompts, BOOTSTRAP_ROUNDS, (uint64_t)o->seed);
    out->difference_ci =
        pd_bootstrap_mean(differences, prompts, BOOTSTRAP_ROUNDS, (uint64_t)o->seed);
    describe(a, &out->model);
    describe(b, &out->against);
    pd_free(wins);
    pd_free(differences);
}

static void add_answer(struct pd_jw *w, const struct side *s, size_t i)
{
    const struct pd_rollout *r = &s->rollouts.v[i];
    pd_jw_object(w);
    pd_jw_kstr(w, "text", pd_buf_str(&r->text));
    pd_jw_kstrz(w, "model", s->name);
    pd_jw_ki64(w, "tokens", r->n);
    pd_jw_kstrz(w, "finish_reason", r->ended ? "stop" : "length");
    pd_jw_kf64(w, "reward", (double)r->score);
    pd_jw_object_end(w);
}

/* answers.jsonl: the first answer of each side, which first is a coin toss; "model" says whose. */
static enum pd_rc write_answers(const struct side *a, const struct side *b,
                                const struct pd_policy_eval_options *o, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_out out = {0};
    struct pd_buf text;
    struct pd_rng rng;
    size_t per = (size_t)o->n;
    pd_buf_init(&text, 0);
    pd_rng_seed(&rng, (uint64_t)o->seed, 1);
    PD_TRY(pd_out_open(&out, o->out, err));
    for (size_t i = 0; i < a->rollouts.n; i += per) {
        struct pd_jw w;
        const struct pd_policy_prompt *prompt = a->rollouts.v[i].prompt;
        bool swap = pd_rng_below(&rng, 2) == 1;
        pd_buf_clear(&text);
        pd_jw_init(&w, &text);
        pd_jw_object(&w);
        pd_jw_key(&w, "id");
        pd_jw_tree(&w, pd_json_get(prompt->row, "id"));
        pd_jw_key(&w, "prompt");
        pd_jw_tree(&w, prompt->prompt);
        pd_jw_key(&w, "answers");
        pd_jw_array(&w);
        add_answer(&w, swap ? b : a, i);
        add_answer(&w, swap ? a : b, i);
        pd_jw_array_end(&w);
        pd_jw_key(&w, "params");
        pd_jw_object(&w);
        pd_jw_kf64(&w, "temperature", o->temperature);
        pd_jw_ki64(&w, "max_new_tokens", o->max_new_tokens);
        pd_jw_object_end(&w);
        pd_jw_ki64(&w, "seed", o->seed);
        pd_jw_object_end(&w);
        pd_buf_addc(&text, '\n');
        PD_TRY(pd_out_write(&out, pd_buf_str(&text), err));
    }
    PD_TRY(pd_out_commit(&out, err));
out:
    if (rc != PD_OK && out.f)
        pd_out_abandon(&out);
    pd_buf_release(&text);
    return rc;
}

enum pd_rc pd_policy_compare(const struct pd_policy_eval_options *o,
                             struct pd_policy_comparison *out, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct side a = {0}, b = {0};
    PD_TRY(answer(&a, o->model, o, err));
    PD_TRY(answer(&b, o->against, o, err));
    PD_TRY(same_prompts(&a, &b, err));
    compare(&a, &b, o, out);
    if (o->out)
        PD_TRY(write_answers(&a, &b, o, err));
out:
    pd_rollouts_release(&a.rollouts);
    pd_rollouts_release(&b.rollouts);
    pd_policy_prompts_release(&a.prompts);
    pd_policy_prompts_release(&b.prompts);
    return rc;
}
