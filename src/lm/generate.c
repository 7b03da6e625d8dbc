#include "lm/generate.h"
#include "lm/kv.h"
#include "lm/model.h"
#include "base/mem.h"
#include "base/sig.h"

#include <omp.h>
#include <string.h>
#include <unistd.h>

enum { DEFAULT_ROWS = 128, DEFAULT_PREFILL = 1024, LOGIT_ROWS = 128 };

/* What prompts that say the same share: computed and kept once. */
struct prefix {
    struct pd_kv_node *node; /* NULL while it waits */
    float *hidden; /* (H) after its last token, once computed: first tokens are drawn from it */
    bool ready, in_pass;
    int64_t own, answer; /* pages: of its tokens, and of the longest answer to it */
    int64_t spare;       /* promised at admission to whichever answer begins first */
    int64_t n_prompts;   /* that hold it */
};

/* A prompt from pd_gen_add until its last answer is done. */
struct prompt {
    struct pd_gen_prompt p;
    int64_t index;
    struct prefix *prefix;
    int64_t started, finished;
};

/* A running answer. */
struct row {
    struct prompt *prompt;
    struct pd_gen_answer a; /* ids point into context, after the prompt */
    int32_t *context;       /* prompt and answer side by side, as the sampler reads them */
    int64_t max_new;
    int64_t pages;
    struct pd_kv_node *node;
    struct pd_rng rng;
    bool over;
};

struct pd_gen {
    struct pd_decoder *dec;
    struct pd_gen_opts opts;
    int64_t H, V, context;
    struct pd_kv *kv;
    int64_t page_bytes, n_pages, promised;
    struct prompt **queue; /* waiting or with answers to start, in order of adding */
    int64_t n_queue, cap_queue, n_added;
    struct row *rows; /* running, dense */
    int64_t n_rows;
    struct pd_infer_part *parts; /* (max of rows, prompts in one pass) */
    int64_t cap_parts;
    float *hidden; /* (max_rows, H), and room to fill up */
    float *logits; /* (LOGIT_ROWS, V), and room to fill up */
    struct pd_sampler **samplers;
    int n_samplers;
    struct pd_gen_stats stats;
    void *culprit;
};

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
        g->opts.max_rows = DEFAULT_ROWS;
    if (g->opts.prefill_tokens <= 0)
        g->opts.prefill_tokens = DEFAULT_PREFILL;
    g->H = cfg->hidden_size;
    g->V = cfg->vocab_size;
    g->context = pd_config_context(cfg);

    struct pd_kv_shape shape = {cfg->n_layers, (int64_t)cfg->n_kv_heads * cfg->head_dim};
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
    int64_t spare = pd_decoder_stable_rows(dec, LOGIT_ROWS);
    g->hidden = pd_try_aligned((size_t)((g->opts.max_rows + spare) * g->H), sizeof *g->hidden);
    g->logits = pd_try_aligned((size_t)(spare * g->V), sizeof *g->logits);
    if (!g->hidden || !g->logits) {
        rc = PD_FAIL(err, PD_NOMEM, "no memory for %d rows of logits", LOGIT_ROWS);
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

/* Its last answer is done, or it is not wanted any more. */
static void end_prompt(struct pd_gen *g, struct prompt *p)
{
    struct prefix *x = p->prefix;
    pd_free(p);
    if (--x->n_prompts > 0)
        return;
    if (x->node)
        g->promised -= x->own + x->spare;
    pd_kv_node_unref(g->kv, x->node);
    pd_free(x->hidden);
    pd_free(x);
}

static void drop_row(struct pd_gen *g, struct row *r)
{
    pd_kv_node_unref(g->kv, r->node);
    g->promised -= r->pages;
    pd_free(r->context);
    pd_free(r->a.logprobs);
    pd_free(r->a.raw_logprobs);
    pd_free(r->a.top);
}

void pd_gen_free(struct pd_gen *g)
{
    if (!g)
        return;
    for (int64_t i = 0; i < g->n_rows; i++) {
        struct prompt *p = g->rows[i].prompt;
        drop_row(g, &g->rows[i]);
        if (p->started == p->p.n_answers && ++p->finished == p->started)
            end_prompt(g, p); /* not in the queue any more */
        else if (p->started < p->p.n_answers)
            p->finished++;
    }
    for (int64_t i = 0; i < g->n_queue; i++)
        end_prompt(g, g->queue[i]);
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

/* One pass of the decoder over g->parts. */
static enum pd_rc infer(struct pd_gen *g, int64_t n_parts, const float **hidden, struct pd_err *err)
{
    enum pd_rc rc = pd_decoder_infer(g->dec, g->kv, g->parts, (int)n_parts, hidden, err);
    int64_t used = (g->n_pages - pd_kv_free_pages(g->kv)) * g->page_bytes;
    if (used > g->stats.peak_kv_bytes)
        g->stats.peak_kv_bytes = used;
    return rc;
}

/* ---- admission ---- */

static int64_t max_new_of(const struct pd_gen *g, const struct pd_gen_prompt *p)
{
    int64_t room = g->context - p->n;
    return p->max_new_tokens < room ? p->max_new_tokens : room;
}

/* The prefix of the prompt added just before, if that says the same and waits still; else a new
 * one. Answers may be no longer than the one that pages were reckoned for. */
static struct prefix *prefix_for(const struct pd_gen *g, const struct pd_gen_prompt *p)
{
    const struct prompt *last = g->n_queue > 0 ? g->queue[g->n_queue - 1] : NULL;
    int64_t answer = pd_kv_pages_for(max_new_of(g, p));
    bool same = last && last->p.n == p->n && answer <= last->prefix->answer &&
                memcmp(last->p.ids, p->ids, (size_t)p->n * sizeof *p->ids) == 0;
    struct prefix *x = same ? last->prefix : pd_xalloc(sizeof *x);
    if (!same)
        *x = (struct prefix){.own = pd_kv_pages_for(p->n), .answer = answer};
    x->n_prompts++;
    return x;
}

enum pd_rc pd_gen_add(struct pd_gen *g, const struct pd_gen_prompt *p, struct pd_err *err)
{
    PD_ASSERT(p->n >= 1 && p->n_answers >= 1 && p->max_new_tokens >= 1);
    PD_ASSERT(p->top_logprobs >= 0 && p->top_logprobs <= g->V);
    if (p->n >= g->context)
        return PD_FAIL(err, PD_INVALID,
                       "a prompt of %lld tokens leaves no room in the model's context of %lld",
                       (long long)p->n, (long long)g->context);
    int64_t pages = pd_kv_pages_for(p->n) + pd_kv_pages_for(max_new_of(g, p));
    if (pages > g->n_pages)
        return PD_FAIL(err, PD_TOOBIG,
                       "a prompt of %lld tokens with an answer of up to %lld needs %.1f MB of KV "
                       "cache, more than the %.1f MB there are",
                       (long long)p->n, (long long)max_new_of(g, p),
                       (double)(pages * g->page_bytes) / 1e6,
                       (double)(g->n_pages * g->page_bytes) / 1e6);
    enum pd_rc rc = pd_sampling_check(&p->sampling, err);
    if (rc != PD_OK)
        return rc;
    struct prompt *q = pd_xalloc(sizeof *q);
    q->p = *p;
    q->prefix = prefix_for(g, p);
    q->index = g->n_added++;
    if (g->n_queue == g->cap_queue) {
        g->cap_queue = g->cap_queue ? 2 * g->cap_queue : 64;
        g->queue = pd_xrealloc(g->queue, (size_t)g->cap_queue * sizeof *g->queue);
    }
    g->queue[g->n_queue++] = q;
    return PD_OK;
}

void pd_gen_cancel(struct pd_gen *g, const void *user)
{
    int64_t kept = 0;
    for (int64_t i = 0; i < g->n_queue; i++) { /* these have answers to start: no row frees them */
        struct prompt *p = g->queue[i];
        if (p->p.user == user)
            p->p.n_answers = p->started;
        else
            g->queue[kept++] = p;
        if (p->p.user == user && p->finished == p->started)
            end_prompt(g, p);
    }
    g->n_queue = kept;
    kept = 0;
    for (int64_t i = 0; i < g->n_rows; i++) {
        struct row r = g->rows[i];
        if (r.prompt->p.user != user) {
            g->rows[kept++] = r;
            continue;
        }
        drop_row(g, &r);
        if (++r.prompt->finished == r.prompt->p.n_answers)
            end_prompt(g, r.prompt);
    }
    g->n_rows = kept;
}

static void need_parts(struct pd_gen *g, int64_t n)
{
    if (n <= g->cap_parts)
        return;
    g->cap_parts = 2 * n;
    g->parts = pd_xrealloc(g->parts, (size_t)g->cap_parts * sizeof *g->parts);
}

/* Pages are promised for the longest a prompt's first answer can get, so that what was begun
 * can always be finished. */
static bool admit(struct pd_gen *g, struct prefix *x)
{
    if (x->node)
        return true;
    if (g->promised + x->own + x->answer > g->n_pages)
        return false;
    x->spare = x->answer;
    g->promised += x->own + x->spare;
    x->node = pd_kv_node_new(NULL);
    return true;
}

/* Chooses prompts at the head of the queue: as many tokens as the budget allows, enough prompts to
 * fill the free rows, each prefix once. */
static int choose(struct pd_gen *g, struct prefix **who)
{
    int64_t tokens = g->opts.prefill_tokens, rows = g->opts.max_rows - g->n_rows;
    int n_parts = 0;
    for (int64_t i = 0; i < g->n_queue && tokens > 0 && rows > 0; i++) {
        struct prompt *p = g->queue[i];
        struct prefix *x = p->prefix;
        rows -= p->p.n_answers - p->started;
        if (x->ready || x->in_pass)
            continue;
        int64_t done = x->node ? x->node->len : 0, left = p->p.n - done;
        /* long prompts are cut at the same places whoever is computed beside them */
        int64_t n = left < g->opts.prefill_tokens ? left : g->opts.prefill_tokens;
        if ((n > tokens && n_parts > 0) || !admit(g, x))
            break;
        need_parts(g, n_parts + 1);
        g->parts[n_parts] = (struct pd_infer_part){
            .node = x->node, .ids = p->p.ids + done, .n = n, .want_last = n == left};
        x->in_pass = true;
        who[n_parts++] = x;
        tokens -= n;
    }
    for (int i = 0; i < n_parts; i++)
        who[i]->in_pass = false;
    return n_parts;
}

/* One pass over waiting prompts. */
static enum pd_rc prefill(struct pd_gen *g, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct prefix **who = pd_xalloc((size_t)(g->n_queue + 1) * sizeof(struct prefix *));
    int n_parts = choose(g, who);
    if (n_parts == 0)
        goto out;
    const float *hidden;
    PD_TRY(infer(g, n_parts, &hidden, err));
    for (int i = 0; i < n_parts; i++) {
        struct prefix *x = who[i];
        g->stats.prompt_tokens += g->parts[i].n;
        if (!g->parts[i].want_last)
            continue;
        x->hidden = pd_xalloc((size_t)g->H * sizeof *x->hidden);
        memcpy(x->hidden, hidden, (size_t)g->H * sizeof *hidden);
        x->ready = true;
        hidden += g->H;
    }
out:
    pd_free(who);
    return rc;
}

/* ---- drawing tokens ---- */

static void push_token(struct row *r, const struct pd_draw *d)
{
    struct pd_gen_answer *a = &r->a;
    a->ids[a->n] = d->id;
    a->logprobs[a->n] = d->logprob;
    a->raw_logprobs[a->n] = d->raw_logprob;
    a->n++;
}

/* One token for each of rows[0..n), from g->hidden (n, H). */
static enum pd_rc draw_tokens(struct pd_gen *g, struct row *rows, int64_t n, struct pd_err *err)
{
    enum pd_rc failed = PD_OK;
    for (int64_t at = 0; at < n; at += LOGIT_ROWS) {
        int64_t m = n - at < LOGIT_ROWS ? n - at : LOGIT_ROWS;
        enum pd_rc rc = pd_decoder_logits(g->dec, g->hidden + at * g->H,
                                          pd_decoder_stable_rows(g->dec, m), g->logits, err);
        if (rc != PD_OK)
            return rc;
#pragma omp parallel for schedule(dynamic, 1)
        for (int64_t i = 0; i < m; i++) {
            struct row *r = &rows[at + i];
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
#pragma omp critical(pd_gen_error)
            {
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
static bool ends(const struct pd_gen *g, struct row *r)
{
    r->a.finish = PD_FINISH_STOP;
    if (is_eos(&r->prompt->p.sampling, r->a.ids[r->a.n - 1]))
        return true;
    if (g->opts.stop && g->opts.stop(g->opts.ctx, &r->prompt->p, &r->a))
        return true;
    r->a.finish = PD_FINISH_LENGTH;
    return r->a.n >= r->max_new;
}

static void remove_from_queue(struct pd_gen *g, const struct prompt *p)
{
    int64_t i = 0;
    while (g->queue[i] != p)
        i++;
    memmove(g->queue + i, g->queue + i + 1, (size_t)(g->n_queue - i - 1) * sizeof *g->queue);
    g->n_queue--;
}

/* Hands over the answers that end with their last token, from row `from` on, and closes ranks. */
static void settle(struct pd_gen *g, int64_t from)
{
    for (int64_t i = from; i < g->n_rows; i++)
        g->rows[i].over = ends(g, &g->rows[i]);
    int64_t kept = from;
    for (int64_t i = from; i < g->n_rows; i++) {
        struct row r = g->rows[i];
        if (!r.over) {
            g->rows[kept++] = r;
            continue;
        }
        struct prompt *p = r.prompt;
        if (g->opts.done)
            g->opts.done(g->opts.ctx, &p->p, &r.a);
        drop_row(g, &r);
        p->finished++;
        if (p->finished == p->p.n_answers)
            end_prompt(g, p);
    }
    g->n_rows = kept;
}

static void init_row(struct pd_gen *g, struct row *r, struct prompt *p)
{
    int64_t max_new = max_new_of(g, &p->p);
    *r = (struct row){.prompt = p, .max_new = max_new, .node = pd_kv_node_new(p->prefix->node)};
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
        struct prompt *p = g->queue[i];
        struct prefix *x = p->prefix;
        int64_t pages = pd_kv_pages_for(max_new_of(g, &p->p));
        if (!x->ready || g->promised + pages - x->spare > g->n_pages) {
            i++; /* those behind may hold what this one waits for */
            continue;
        }
        g->promised += pages - x->spare;
        x->spare = 0;
        struct row *r = &g->rows[g->n_rows];
        init_row(g, r, p);
        r->pages = pages;
        memcpy(g->hidden + (g->n_rows - first) * g->H, x->hidden, (size_t)g->H * sizeof *g->hidden);
        g->n_rows++;
        if (++p->started == p->p.n_answers)
            remove_from_queue(g, p); /* the next one moved to i */
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
    need_parts(g, g->n_rows);
    for (int64_t i = 0; i < g->n_rows; i++) {
        struct row *r = &g->rows[i];
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

/* Refilling a few rows at a time would make many small passes: wait until an eighth is free. */
static bool worth_refilling(const struct pd_gen *g)
{
    int64_t free_rows = g->opts.max_rows - g->n_rows;
    return g->n_queue > 0 && free_rows > 0 && free_rows >= g->opts.max_rows / 8;
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

/* ---- all at once ---- */

struct collect {
    struct pd_gen_result *out;
    const int64_t *first; /* of each prompt, in out->answers */
};

static void *copy_of(const void *p, size_t n)
{
    void *to = pd_xalloc(n);
    memcpy(to, p, n);
    return to;
}

static void collect_answer(void *ctx, const struct pd_gen_prompt *prompt,
                           const struct pd_gen_answer *a)
{
    struct collect *c = ctx;
    struct pd_gen_answer *to =
        &c->out->answers[c->first[a->prompt] + (int64_t)(a->answer - prompt->first_answer)];
    size_t n = (size_t)a->n;
    *to = *a;
    to->ids = copy_of(a->ids, n * sizeof *a->ids);
    to->logprobs = copy_of(a->logprobs, n * sizeof *a->logprobs);
    to->raw_logprobs = copy_of(a->raw_logprobs, n * sizeof *a->raw_logprobs);
    if (a->top)
        to->top = copy_of(a->top, n * (size_t)prompt->top_logprobs * sizeof *a->top);
}

enum pd_rc pd_generate(struct pd_decoder *dec, const struct pd_gen_prompt *prompts,
                       int64_t n_prompts, const struct pd_gen_opts *opts, struct pd_gen_result *out,
                       struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_gen *g = NULL;
    struct pd_gen_result result = {0};
    int64_t *first = pd_xalloc((size_t)(n_prompts + 1) * sizeof *first);
    for (int64_t i = 0; i < n_prompts; i++) {
        first[i] = result.n;
        result.n += prompts[i].n_answers;
    }
    result.answers = pd_xalloc((size_t)(result.n + 1) * sizeof *result.answers);
    struct collect c = {&result, first};
    struct pd_gen_opts o = *opts;
    o.done = collect_answer;
    o.stop = NULL;
    o.ctx = &c;
    PD_TRY(pd_gen_new(dec, &o, &g, err));
    for (int64_t i = 0; i < n_prompts; i++)
        PD_TRY(pd_gen_add(g, &prompts[i], err));
    bool busy = n_prompts > 0;
    while (busy) {
        if (pd_sig_stop()) {
            rc = PD_FAIL(err, PD_INTERRUPTED, "interrupted while generating");
            goto out;
        }
        PD_TRY(pd_gen_step(g, &busy, err));
    }
    *out = result;
    memset(&result, 0, sizeof result);
out:
    pd_gen_free(g);
    pd_gen_result_release(&result);
    pd_free(first);
    return rc;
}

void pd_gen_result_release(struct pd_gen_result *r)
{
    for (int64_t i = 0; r->answers && i < r->n; i++) {
        pd_free(r->answers[i].ids);
        pd_free(r->answers[i].logprobs);
        pd_free(r->answers[i].raw_logprobs);
        pd_free(r->answers[i].top);
    }
    pd_free(r->answers);
    memset(r, 0, sizeof *r);
}
