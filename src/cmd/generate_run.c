#include "cmd/generate_run.h"
#include "base/mem.h"
#include "gen/variants.h"
#include "lm/fingerprint.h"
#include "lm/heads.h"
#include "lm/model.h"
#include "tensor/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_json(const struct pd_generate_args *a, const struct pd_answers_summary *s,
                       const struct pd_prompts *prompts, double rate)
{
    const struct pd_spent job = pd_answers_spent(s);
    struct pd_buf buf;
    struct pd_jw w;
    pd_buf_init(&buf, 0);
    pd_jw_init(&w, &buf);
    pd_jw_object(&w);
    pd_jw_ki64(&w, "prompts", s->prompts);
    pd_jw_ki64(&w, "answers", s->answers);
    pd_jw_ki64(&w, "bad_rows", (int64_t)prompts->n_bad);
    pd_jw_ki64(&w, "truncated", s->truncated);
    pd_jw_ki64(&w, "resumed", s->resumed);
    pd_jw_ki64(&w, "stopped", s->stopped);
    pd_jw_ki64(&w, "redrawn", s->redrawn);
    pd_jw_ki64(&w, "duplicates", s->duplicates);
    pd_jw_ki64(&w, "prompt_tokens", s->prompt_tokens);
    pd_jw_ki64(&w, "new_tokens", s->new_tokens);
    pd_jw_kf64(&w, "seconds", s->seconds);
    pd_jw_kf64(&w, "tokens_per_second", rate);
    if (a->endpoint) {
        pd_jw_ki64(&w, "retries", s->retries);
        pd_jw_ki64(&w, "failed", s->failed);
        pd_jw_kf64(&w, "cost", s->cost);
        pd_jw_ki64(&w, "job_prompt_tokens", job.prompt_tokens);
        pd_jw_ki64(&w, "job_new_tokens", job.new_tokens);
        pd_jw_kf64(&w, "job_cost", pd_endpoint_cost(&a->ep, &job));
    } else {
        pd_jw_ki64(&w, "peak_kv_bytes", s->peak_kv_bytes);
    }
    pd_jw_object_end(&w);
    fprintf(strcmp(a->o.out, "-") == 0 ? stderr : stdout, "%s\n", pd_buf_cstr(&buf));
    pd_buf_release(&buf);
}

static void print_spent(const struct pd_generate_args *a, const struct pd_answers_summary *s)
{
    const struct pd_spent job = pd_answers_spent(s);
    if (!a->o.quiet)
        fprintf(stderr, "%lld prompt tokens, %lld retries, cost %.6g\n",
                (long long)s->prompt_tokens, (long long)s->retries, s->cost);
    if (job.prompt_tokens + job.new_tokens > s->prompt_tokens + s->new_tokens && !a->o.quiet)
        fprintf(stderr, "with its earlier runs: %lld prompt tokens, %lld of answers, cost %.6g\n",
                (long long)job.prompt_tokens, (long long)job.new_tokens,
                pd_endpoint_cost(&a->ep, &job));
    if (job.unknown)
        fprintf(stderr, "%lld answers came without a count of tokens: the cost is too low\n",
                (long long)job.unknown);
}

/* A job that failed tells what it used, if it came so far. */
static bool has_worked(const struct pd_answers_summary *s)
{
    return s->answers > 0 || s->prompt_tokens > 0 || s->new_tokens > 0 || s->unknown > 0;
}

static void print_summary(const struct pd_generate_args *a, const struct pd_answers_summary *s,
                          const struct pd_prompts *prompts)
{
    double rate = s->seconds > 0 ? (double)s->new_tokens / s->seconds : 0;
    if (a->json)
        print_json(a, s, prompts, rate);
    else if (!a->o.quiet)
        fprintf(stderr, "%lld answers to %lld prompt%s: %lld tokens in %.1f s (%.0f tokens/s)\n",
                (long long)s->answers, (long long)s->prompts, s->prompts == 1 ? "" : "s",
                (long long)s->new_tokens, s->seconds, rate);
    if (a->endpoint)
        print_spent(a, s);
}

/* What a job that went well was not quite. */
static void print_remarks(const struct pd_generate_args *a, const struct pd_answers_summary *s,
                          const struct pd_prompts *prompts)
{
    if (prompts->n_bad)
        fprintf(stderr, "%s: %zu bad rows skipped\n", prompts->path, prompts->n_bad);
    if (s->truncated)
        fprintf(stderr, "%s: %lld prompts were too long and lost their beginning\n", prompts->path,
                (long long)s->truncated);
    if (s->duplicates)
        fprintf(stderr, "%lld answer%s another one of the same prompt%s\n",
                (long long)s->duplicates, s->duplicates == 1 ? " repeats" : "s repeat",
                a->o.sampling.greedy ? " (--greedy draws nothing)" : "");
}

static enum pd_rc serve(struct pd_generate_args *a, struct pd_decoder *dec, struct pd_err *err)
{
    const char *key = getenv("PODIUM_API_KEY");
    struct pd_serve_opts *so = &a->so;
    so->model_name = a->o.model_name;
    so->version = "podium-" PD_VERSION;
    so->quiet = a->o.quiet;
    so->engine = (struct pd_engine_opts){
        .batch = a->o.batch, .kv_bytes = a->o.kv_bytes, .threads = (int)a->threads};
    if (!so->api_key && key && key[0])
        so->api_key = key;
    return pd_serve_run(dec, so, err);
}

/* ---- one variant after the other ---- */

struct job {
    struct pd_generate_args *a;
    struct pd_prompts prompts;
    struct pd_model *model; /* one at a time */
    struct pd_decoder *dec; /* NULL while prompts are only looked at */
    size_t open;            /* its place in the grid */
    enum pd_compute compute;
    enum pd_cache cache;
    struct pd_answers_summary sum;
};

static void close_model(struct job *j)
{
    pd_decoder_free(j->dec);
    pd_model_free(j->model);
    j->dec = NULL;
    j->model = NULL;
}

static enum pd_rc open_model(struct job *j, size_t i, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    if (j->model && j->open == i)
        return PD_OK;
    close_model(j);
    PD_TRY(pd_model_open(&j->model, j->a->grid.models[i].path,
                         &(struct pd_model_options){.as_in_file = true}, err));
    j->open = i;
    PD_TRY(pd_head_need_lm(j->model, err));
    rc = pd_model_fingerprint(j->model, j->a->grid.models[i].weights, err);
out:
    return rc;
}

static enum pd_rc open_decoder(struct job *j, size_t i, struct pd_err *err)
{
    enum pd_rc rc = open_model(j, i, err);
    if (rc == PD_OK && !j->dec)
        rc = pd_decoder_new(
            j->model,
            &(struct pd_decoder_opts){.compute = j->compute, .cache = j->cache, .panels = true},
            &j->dec, err);
    return rc;
}

static void add_summary(struct pd_answers_summary *to, const struct pd_answers_summary *s)
{
    if (s->peak_kv_bytes > to->peak_kv_bytes)
        to->peak_kv_bytes = s->peak_kv_bytes;
    if (s->truncated > to->truncated)
        to->truncated = s->truncated;
    to->prompts = s->prompts;
    to->answers += s->answers;
    to->resumed += s->resumed;
    to->prompt_tokens += s->prompt_tokens;
    to->new_tokens += s->new_tokens;
    to->stopped += s->stopped;
    to->duplicates += s->duplicates;
    to->redrawn += s->redrawn;
    to->seconds += s->seconds;
    to->retries += s->retries;
    to->failed += s->failed;
    to->unknown += s->unknown;
    to->cost += s->cost;
    pd_spent_add(&to->before, &s->before);
}

/* Variant i of the grid. */
static struct pd_answers_opts variant(const struct job *j, size_t i)
{
    const struct pd_generate_args *a = j->a;
    const struct pd_grid *g = &a->grid;
    const struct pd_grid_model *m = &g->models[i / g->n_settings];
    struct pd_answers_opts o = a->o;
    o.model_name = m->name;
    o.weights = m->weights;
    o.dtype = a->dtype;
    o.sampling = pd_generate_sampling(a, m, &g->settings[i % g->n_settings]);
    o.first_answer = (int64_t)i * o.n; /* variants draw from streams of their own */
    o.numbered = g->n_models * g->n_settings > 1;
    return o;
}

/* The same, about to be made. */
static struct pd_answers_opts begin_variant(const struct job *j, size_t i, const char *out,
                                            bool resume)
{
    const struct pd_grid *g = &j->a->grid;
    struct pd_answers_opts o = variant(j, i);
    o.out = out;
    o.resume = resume;
    if (o.numbered && !o.quiet)
        fprintf(stderr, "variant %zu of %zu: %s, temperature %g, top-k %lld, top-p %g\n", i + 1,
                g->n_models * g->n_settings, o.model_name, o.sampling.temperature,
                (long long)o.sampling.top_k, o.sampling.top_p);
    return o;
}

/* Variants of one model. */
static enum pd_rc make_variants(void *ctx, const size_t *which, const char *const *out, size_t n,
                                bool resume, struct pd_err *err)
{
    struct job *j = ctx;
    const struct pd_grid *g = &j->a->grid;
    size_t m = which[0] / g->n_settings;
    enum pd_rc rc = PD_OK;
    struct pd_answers_opts *o = pd_xalloc(n * sizeof *o);
    struct pd_answers_summary *sums = pd_xalloc(n * sizeof *sums);
    if (g->models[m].endpoint) {
        struct pd_endpoint ep = j->a->ep;
        ep.url = g->models[m].path;
        ep.model = g->models[m].name;
        close_model(j);
        for (size_t i = 0; i < n && rc == PD_OK; i++) {
            o[i] = begin_variant(j, which[i], out[i], resume);
            rc = pd_answers_collect(&ep, &j->prompts, &o[i], &sums[i], err);
        }
    } else {
        for (size_t i = 0; i < n; i++)
            o[i] = begin_variant(j, which[i], out[i], resume);
        rc = open_decoder(j, m, err);
        if (rc == PD_OK)
            rc = pd_answers_make(j->dec, &j->prompts, o, n, sums, err);
    }
    for (size_t i = 0; i < n; i++)
        add_summary(&j->sum, &sums[i]);
    pd_free(o);
    pd_free(sums);
    return rc;
}

/* What of the command line says which answers come out, as JSON; the models have been opened. */
static char *what_is_asked(const struct pd_generate_args *a, struct json_object *given_args)
{
    static const char *const how[] = {
        "out",       "resume",    "quiet",       "json",     "threads",   "batch",
        "kv_memory", "skip_bad",  "retries",     "rate",     "timeout",   "token_rate",
        "parallel",  "max_pause", "api_key_env", "price_in", "price_out", "prompts"};
    char hash[24];
    for (size_t i = 0; i < sizeof how / sizeof *how; i++)
        json_object_object_del(given_args, how[i]);
    (void)snprintf(hash, sizeof hash, "%016llx", (unsigned long long)pd_words_hash(&a->words));
    json_object_object_add(given_args, "bad_words", json_object_new_string(hash));
    struct json_object *weights = json_object_new_array();
    for (size_t i = 0; i < a->grid.n_models; i++)
        json_object_array_add(weights, json_object_new_string(a->grid.models[i].weights));
    json_object_object_add(given_args, "weights", weights);
    return pd_xstrdup(json_object_to_json_string_ext(given_args, JSON_C_TO_STRING_PLAIN));
}

/* Every model sees every prompt before the first one begins to answer. */
static enum pd_rc look_at_prompts(struct job *j, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_generate_args *a = j->a;
    struct pd_prompt_opts po = pd_answers_prompt_opts(&a->o);
    for (size_t i = 0; i < a->grid.n_models; i++) {
        struct pd_grid_model *m = &a->grid.models[i];
        m->chat = a->o.chat != PD_CHAT_OFF;
        if (m->endpoint)
            continue;
        PD_TRY(open_model(j, i, err));
        m->chat = pd_prompt_chats(j->model, &po);
        PD_TRY(pd_prompts_fit(&j->prompts, j->model, &po, err));
    }
    rc = pd_prompts_verdict(&j->prompts, j->prompts.n, err);
out:
    return rc;
}

static void take_sum(struct job *j, const struct pd_variants *v,
                     const struct pd_variants_summary *sum)
{
    j->sum.prompts = sum->rows;
    j->sum.answers = sum->answers;
    j->sum.duplicates += sum->duplicates;
    if (sum->finished)
        j->sum.resumed = sum->rows * (int64_t)v->n;
    if (sum->missing)
        fprintf(stderr, "%lld prompts are left out: not every variant has answered them\n",
                (long long)sum->missing);
}

static enum pd_rc make_all(struct job *j, struct json_object *given_args, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_generate_args *a = j->a;
    size_t n = a->grid.n_models * a->grid.n_settings;
    struct pd_variants_summary sum;
    char *what = NULL;
    const char **models = pd_xalloc(n * sizeof *models), **settings = pd_xalloc(n * sizeof *models);
    struct pd_buf *params = pd_xalloc(n * sizeof *params);
    struct pd_variants v = {.n = n,
                            .together = a->grid.n_settings,
                            .out = a->o.out,
                            .seed = a->o.seed,
                            .resume = a->o.resume,
                            .quiet = a->o.quiet,
                            .n_answers = a->o.n,
                            .models = models,
                            .settings = settings,
                            .make = make_variants,
                            .ctx = j};
    PD_TRY(look_at_prompts(j, err));
    for (size_t i = 0; i < n; i++) {
        struct pd_answers_opts o = variant(j, i);
        pd_buf_init(&params[i], 0);
        pd_answers_settings(&o, a->grid.models[i / a->grid.n_settings].chat, &params[i]);
        models[i] = o.model_name;
        settings[i] = pd_buf_cstr(&params[i]);
    }
    v.what = what = what_is_asked(a, given_args);
    rc = pd_variants_make(&v, &j->prompts, &sum, err);
    pd_spent_add(&j->sum.before, &sum.before);
    if (rc == PD_OK)
        take_sum(j, &v, &sum);
out:
    for (size_t i = 0; i < n; i++)
        pd_buf_release(&params[i]);
    pd_free(params);
    pd_free(models);
    pd_free(settings);
    pd_free(what);
    return rc;
}

enum pd_rc pd_generate_run(struct pd_generate_args *a, struct json_object *given_args,
                           struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct job j = {.a = a, .prompts = {.take_ids = !a->endpoint, .one_id = true}};
    PD_TRY(pd_compute_parse(a->dtype, &j.compute, err));
    PD_TRY(pd_cache_parse(a->o.cache, &j.cache, err));
    PD_TRY(pd_backend_init((int)a->threads, err));
    if (a->serve) {
        a->o.model_name = a->grid.models[0].name;
        PD_TRY(open_decoder(&j, 0, err));
        rc = serve(a, j.dec, err);
        goto out;
    }
    PD_TRY(pd_prompts_read(&j.prompts, a->prompts, a->skip_bad, err));
    if (a->grid.n_models * a->grid.n_settings == 1)
        rc = make_variants(&j, &(size_t){0}, &a->o.out, 1, a->o.resume, err);
    else
        rc = make_all(&j, given_args, err);
    if (rc == PD_OK || has_worked(&j.sum))
        print_summary(a, &j.sum, &j.prompts);
    if (rc == PD_OK)
        print_remarks(a, &j.sum, &j.prompts);
out:
    close_model(&j);
    pd_prompts_release(&j.prompts);
    pd_backend_release();
    return rc;
}
