#include "lm/generate_int.h"

#include "base/mem.h"
#include "lm/model.h"

#include <omp.h>
#include <string.h>
#include <unistd.h>

const char *pd_finish_name(enum pd_finish f)
{
    return f == PD_FINISH_STOP ? "stop" : "length";
}

uint64_t pd_gen_key(struct pd_id_span ids, uint64_t before)
{
    uint64_t key = before;
    for (int64_t i = 0; i < ids.n; i++)
        key = pd_rng_mix(key, (uint64_t)ids.ids[i]);
    return key;
}

/* ---- life ---- */

/* A quarter of the machine's memory: reserved, and touched only as far as answers need it. */
static int64_t default_kv_bytes(void)
{
    return (int64_t)sysconf(_SC_PHYS_PAGES) / 4 * (int64_t)sysconf(_SC_PAGESIZE);
}

enum pd_rc pd_gen_new(struct pd_decoder *dec, const struct pd_gen_opts *opts, struct pd_gen **out,
                      struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct pd_config *cfg = &pd_decoder_model(dec)->cfg;
    struct pd_gen *g = pd_xalloc(sizeof *g);
    g->dec = dec;
    g->opts = *opts;
    if (g->opts.max_rows <= 0)
        g->opts.max_rows = PD_GEN_ROWS;
    if (g->opts.prefill_tokens <= 0)
        g->opts.prefill_tokens = PD_GEN_PREFILL;
    g->H = cfg->hidden_size;
    g->V = cfg->vocab_size;
    g->context = pd_config_context(cfg);

    const struct pd_kv_shape shape = pd_decoder_kv_shape(dec);
    g->page_bytes = pd_kv_page_bytes(&shape);
    int64_t bytes = g->opts.max_kv_bytes > 0 ? g->opts.max_kv_bytes : default_kv_bytes();
    int64_t most = g->opts.max_rows * 2 * pd_kv_pages_for(g->context); /* never needs more */
    g->n_pages = bytes / g->page_bytes;
    if (g->n_pages > most)
        g->n_pages = most;
    if (g->n_pages < 2)
        g->n_pages = 2;
    PD_TRY(pd_kv_new(&shape, g->n_pages, &g->kv, err));

    g->rows = pd_xalloc((size_t)g->opts.max_rows * sizeof *g->rows);
    int64_t spare = pd_decoder_stable_rows(dec, PD_GEN_LOGIT_ROWS);
    g->hidden = pd_try_aligned((size_t)((g->opts.max_rows + spare) * g->H), sizeof *g->hidden);
    g->logits = pd_try_aligned((size_t)(spare * g->V), sizeof *g->logits);
    if (!g->hidden || !g->logits) {
        rc = PD_FAIL(err, PD_NOMEM, "no memory for %d rows of logits", PD_GEN_LOGIT_ROWS);
        goto out;
    }
    g->n_samplers = omp_get_max_threads();
    g->samplers = pd_xalloc((size_t)g->n_samplers * sizeof *g->samplers);
    for (int i = 0; i < g->n_samplers; i++)
        PD_TRY(pd_sampler_new(g->V, &g->samplers[i], err));
    *out = g;
    g = NULL;
out:
    pd_gen_free(g);
    return rc;
}

void pd_gen_free(struct pd_gen *g)
{
    if (!g)
        return;
    for (int64_t i = 0; i < g->n_rows; i++)
        pd__gen_end_row(g, &g->rows[i]);
    for (int64_t i = 0; i < g->n_queue; i++) /* these have answers to start: no row ended them */
        pd__gen_end_prompt(g, g->queue[i]);
    for (int i = 0; i < g->n_samplers; i++)
        pd_sampler_free(g->samplers[i]);
    pd_kv_free(g->kv);
    pd_aligned_free(g->hidden);
    pd_aligned_free(g->logits);
    pd_free(g->samplers);
    pd_free(g->queue);
    pd_free(g->rows);
    pd_free(g->parts);
    pd_free(g);
}

/* ---- drawing tokens ---- */

static void push_token(struct pd__row *r, const struct pd_draw *d)
{
    struct pd_gen_answer *a = &r->a;
    a->ids[a->n] = d->id;
    a->logprobs[a->n] = d->logprob;
    a->raw_logprobs[a->n] = d->raw_logprob;
    a->n++;
}

/* One token for each of rows[0..n), from g->hidden (n, H). */
static enum pd_rc draw_tokens(struct pd_gen *g, struct pd__row *rows, int64_t n, struct pd_err *err)
{
    enum pd_rc failed = PD_OK;
    for (int64_t at = 0; at < n; at += PD_GEN_LOGIT_ROWS) {
        int64_t m = n - at < PD_GEN_LOGIT_ROWS ? n - at : PD_GEN_LOGIT_ROWS;
        enum pd_rc rc = pd_decoder_logits(g->dec, g->hidden + at * g->H,
                                          pd_decoder_stable_rows(g->dec, m), g->logits, err);
        if (rc != PD_OK)
            return rc;
#pragma omp parallel for schedule(dynamic, 1)
        for (int64_t i = 0; i < m; i++) {
            struct pd__row *r = &rows[at + i];
            struct pd_id_span context = {r->context, r->prompt->p.n + r->a.n};
            struct pd_draw d;
            struct pd_err e;
            int64_t k = r->prompt->p.top_logprobs;
            if (k > 0)
                pd_sampler_top(g->samplers[omp_get_thread_num()], g->logits + i * g->V, k,
                               r->a.top + r->a.n * k);
            enum pd_rc row_rc =
                pd_sampler_draw(g->samplers[omp_get_thread_num()], &r->prompt->p.sampling,
                                g->logits + i * g->V, context, r->a.n, &r->rng, &d, &e);
            if (row_rc == PD_OK) {
                push_token(r, &d);
                continue;
            }
            r->stuck = row_rc == PD_INVALID && g->opts.stuck;
#pragma omp critical(pd_gen_error)
            if (r->stuck) {
                g->stuck = e;
            } else {
                failed = row_rc;
                g->culprit = r->prompt->p.user;
                if (err)
                    *err = e;
            }
        }
        if (failed != PD_OK)
            return failed;
    }
    g->stats.new_tokens += n;
    return PD_OK;
}

static bool is_eos(const struct pd_sampling *s, int32_t id)
{
    for (int64_t i = 0; i < s->eos.n; i++)
        if (s->eos.ids[i] == id)
            return true;
    return false;
}

/* Whether the token just drawn ends the answer, and how. */
static bool ends(const struct pd_gen *g, struct pd__row *r)
{
    r->a.finish = PD_FINISH_STOP;
    if (is_eos(&r->prompt->p.sampling, r->a.ids[r->a.n - 1]))
        return true;
    if (g->opts.stop && g->opts.stop(g->opts.ctx, &r->prompt->p, &r->a))
        return true;
    r->a.finish = PD_FINISH_LENGTH;
    return r->a.n >= r->max_new;
}

/* ---- passes ---- */

/* One pass of the decoder over g->parts. */
static enum pd_rc infer(struct pd_gen *g, int64_t n_parts, const float **hidden, struct pd_err *err)
{
    enum pd_rc rc = pd_decoder_infer(g->dec, g->kv, g->parts, (int)n_parts, hidden, err);
    int64_t used = (g->n_pages - pd_kv_free_pages(g->kv)) * g->page_bytes;
    if (used > g->stats.peak_kv_bytes)
        g->stats.peak_kv_bytes = used;
    return rc;
}

/* One pass over waiting prompts. */
static enum pd_rc prefill(struct pd_gen *g, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd__prefix **who = pd_xalloc((size_t)(g->n_queue + 1) * sizeof(struct pd__prefix *));
    int n_parts = pd__gen_choose(g, who);
    if (n_parts == 0)
        goto out;
    const float *hidden;
    PD_TRY(infer(g, n_parts, &hidden, err));
    for (int i = 0; i < n_parts; i++) {
        struct pd__prefix *x = who[i];
        g->stats.prompt_tokens += g->parts[i].n;
        if (!g->parts[i].want_last)
            continue;
        x->hidden = pd_xalloc((size_t)g->H * sizeof *x->hidden);
        memcpy(x->hidden, hidden, (size_t)g->H * sizeof *hidden);
        hidden += g->H;
    }
out:
    pd_free(who);
    return rc;
}

/* Hands over the answers that end with their last token, from row `from` on, and closes ranks. */
static void settle(struct pd_gen *g, int64_t from)
{
    for (int64_t i = from; i < g->n_rows; i++)
        g->rows[i].over = g->rows[i].stuck || ends(g, &g->rows[i]);
    int64_t kept = from;
    for (int64_t i = from; i < g->n_rows; i++) {
        struct pd__row r = g->rows[i];
        if (!r.over) {
            g->rows[kept++] = r;
            continue;
        }
        if (r.stuck)
            g->opts.stuck(g->opts.ctx, &r.prompt->p, &g->stuck);
        else if (g->opts.done)
            g->opts.done(g->opts.ctx, &r.prompt->p, &r.a);
        pd__gen_end_row(g, &r);
    }
    g->n_rows = kept;
}

static void init_row(struct pd_gen *g, struct pd__row *r, struct pd__prompt *p)
{
    int64_t max_new = pd__gen_max_new(g, &p->p);
    *r = (struct pd__row){.prompt = p, .max_new = max_new, .node = pd_kv_node_new(p->prefix->node)};
    r->context = pd_xalloc((size_t)(p->p.n + max_new) * sizeof *r->context);
    memcpy(r->context, p->p.ids, (size_t)p->p.n * sizeof *r->context);
    r->a.prompt = p->index;
    r->a.answer = p->p.first_answer + (uint64_t)p->started;
    r->a.ids = r->context + p->p.n;
    r->a.logprobs = pd_xalloc((size_t)max_new * sizeof *r->a.logprobs);
    r->a.raw_logprobs = pd_xalloc((size_t)max_new * sizeof *r->a.raw_logprobs);
    if (p->p.top_logprobs > 0)
        r->a.top = pd_xalloc((size_t)(max_new * p->p.top_logprobs) * sizeof *r->a.top);
    pd_rng_seed(&r->rng, g->opts.seed + p->p.seed, pd_rng_mix(p->p.key, r->a.answer));
}

/* Starts answers of computed prompts in the free rows: their first tokens come from the prompt's
 * last hidden state. */
static enum pd_rc start_answers(struct pd_gen *g, struct pd_err *err)
{
    int64_t first = g->n_rows;
    for (int64_t i = 0; i < g->n_queue && g->n_rows < g->opts.max_rows;) {
        struct pd__prompt *p = g->queue[i];
        struct pd__prefix *x = p->prefix;
        int64_t pages = pd_kv_pages_for(pd__gen_max_new(g, &p->p));
        if (!x->hidden || g->promised + pages - x->spare > g->n_pages) {
            i++; /* those behind may hold what this one waits for */
            continue;
        }
        g->promised += pages - x->spare;
        x->spare = 0;
        init_row(g, &g->rows[g->n_rows], p);
        memcpy(g->hidden + (g->n_rows - first) * g->H, x->hidden, (size_t)g->H * sizeof *g->hidden);
        g->n_rows++;
        if (++p->started == p->p.n_answers)
            pd__gen_unqueue(g, p); /* the next one moved to i */
    }
    if (g->n_rows == first)
        return PD_OK;
    enum pd_rc rc = draw_tokens(g, g->rows + first, g->n_rows - first, err);
    if (rc == PD_OK)
        settle(g, first);
    return rc;
}

/* The last token of every running answer into the cache, and the next one out. */
static enum pd_rc advance(struct pd_gen *g, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    pd__gen_need_parts(g, g->n_rows);
    for (int64_t i = 0; i < g->n_rows; i++) {
        struct pd__row *r = &g->rows[i];
        g->parts[i] = (struct pd_infer_part){
            .node = r->node, .ids = &r->a.ids[r->a.n - 1], .n = 1, .want_last = true};
    }
    const float *hidden;
    PD_TRY(infer(g, g->n_rows, &hidden, err));
    memcpy(g->hidden, hidden, (size_t)(g->n_rows * g->H) * sizeof *hidden);
    PD_TRY(draw_tokens(g, g->rows, g->n_rows, err));
    settle(g, 0);
    g->stats.steps++;
out:
    return rc;
}

/* Refilling a few rows at a time would make many small passes: wait until an eighth is free, or
 * room for all who wait. */
static bool worth_refilling(const struct pd_gen *g)
{
    int64_t free_rows = g->opts.max_rows - g->n_rows, waiting = 0;
    if (g->n_queue == 0 || free_rows == 0)
        return false;
    for (int64_t i = 0; i < g->n_queue && waiting <= free_rows; i++)
        waiting += g->queue[i]->p.n_answers - g->queue[i]->started;
    return waiting <= free_rows || free_rows >= g->opts.max_rows / 8;
}

enum pd_rc pd_gen_step(struct pd_gen *g, bool *busy, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    int64_t rows = g->n_rows, tokens = g->stats.prompt_tokens;
    if (worth_refilling(g)) {
        PD_TRY(prefill(g, err));
        PD_TRY(start_answers(g, err));
    }
    /* a token costs nearly the same for few rows as for many: fill up first, while that works */
    bool filled = g->n_rows > rows || g->stats.prompt_tokens > tokens;
    if (g->n_rows > 0 && !(filled && worth_refilling(g)))
        PD_TRY(advance(g, err));
    *busy = g->n_rows > 0 || g->n_queue > 0;
out:
    return rc;
}

void *pd_gen_culprit(const struct pd_gen *g)
{
    return g->culprit;
}

void pd_gen_stats(const struct pd_gen *g, struct pd_gen_stats *out)
{
    *out = g->stats;
    out->running = g->n_rows;
    out->waiting = g->n_queue;
}
