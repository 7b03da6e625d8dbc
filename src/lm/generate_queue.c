/* Prompts that wait: admission to the cache, what they share, and their end. */
#include "lm/generate_int.h"

#include "base/mem.h"

#include <string.h>

void pd__gen_end_prompt(struct pd_gen *g, struct pd__prompt *p)
{
    struct pd__prefix *x = p->prefix;
    pd_free(p);
    if (--x->n_prompts > 0)
        return;
    if (x->node)
        g->promised -= x->own + x->spare;
    pd_kv_node_unref(g->kv, x->node);
    pd_free(x->hidden);
    pd_free(x);
}

void pd__gen_end_row(struct pd_gen *g, struct pd__row *r)
{
    struct pd__prompt *p = r->prompt;
    pd_kv_node_unref(g->kv, r->node);
    g->promised -= pd_kv_pages_for(r->max_new);
    pd_free(r->context);
    pd_free(r->a.logprobs);
    pd_free(r->a.raw_logprobs);
    pd_free(r->a.top);
    if (++p->finished == p->p.n_answers)
        pd__gen_end_prompt(g, p);
}

int64_t pd__gen_max_new(const struct pd_gen *g, const struct pd_gen_prompt *p)
{
    int64_t room = g->context - p->n;
    return p->max_new_tokens < room ? p->max_new_tokens : room;
}

/* The prefix of the prompt added just before, if that says the same and waits still; else a new
 * one. Answers may be no longer than the one that pages were reckoned for. */
static struct pd__prefix *prefix_for(const struct pd_gen *g, const struct pd_gen_prompt *p)
{
    const struct pd__prompt *last = g->n_queue > 0 ? g->queue[g->n_queue - 1] : NULL;
    int64_t answer = pd_kv_pages_for(pd__gen_max_new(g, p));
    bool same = last && last->p.n == p->n && answer <= last->prefix->answer &&
                memcmp(last->p.ids, p->ids, (size_t)p->n * sizeof *p->ids) == 0;
    struct pd__prefix *x = same ? last->prefix : pd_xalloc(sizeof *x);
    if (!same)
        *x = (struct pd__prefix){.own = pd_kv_pages_for(p->n), .answer = answer};
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
    int64_t pages = pd_kv_pages_for(p->n) + pd_kv_pages_for(pd__gen_max_new(g, p));
    if (pages > g->n_pages)
        return PD_FAIL(err, PD_TOOBIG,
                       "a prompt of %lld tokens with an answer of up to %lld needs %.1f MB of KV "
                       "cache, more than the %.1f MB there are",
                       (long long)p->n, (long long)pd__gen_max_new(g, p),
                       (double)(pages * g->page_bytes) / 1e6,
                       (double)(g->n_pages * g->page_bytes) / 1e6);
    enum pd_rc rc = pd_sampling_check(&p->sampling, err);
    if (rc != PD_OK)
        return rc;
    struct pd__prompt *q = pd_xalloc(sizeof *q);
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
        struct pd__prompt *p = g->queue[i];
        if (p->p.user == user)
            p->p.n_answers = p->started;
        else
            g->queue[kept++] = p;
        if (p->p.user == user && p->finished == p->started)
            pd__gen_end_prompt(g, p);
    }
    g->n_queue = kept;
    kept = 0;
    for (int64_t i = 0; i < g->n_rows; i++) {
        struct pd__row r = g->rows[i];
        if (r.prompt->p.user != user) {
            g->rows[kept++] = r;
            continue;
        }
        pd__gen_end_row(g, &r);
    }
    g->n_rows = kept;
}

void pd__gen_need_parts(struct pd_gen *g, int64_t n)
{
    if (n <= g->cap_parts)
        return;
    g->cap_parts = 2 * n;
    g->parts = pd_xrealloc(g->parts, (size_t)g->cap_parts * sizeof *g->parts);
}

/* Pages are promised for the longest a prompt's first answer can get, so that what was begun
 * can always be finished. */
static bool admit(struct pd_gen *g, struct pd__prefix *x)
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

int pd__gen_choose(struct pd_gen *g, struct pd__prefix **who)
{
    int64_t tokens = g->opts.prefill_tokens, rows = g->opts.max_rows - g->n_rows;
    int n_parts = 0;
    for (int64_t i = 0; i < g->n_queue && tokens > 0 && rows > 0; i++) {
        struct pd__prompt *p = g->queue[i];
        struct pd__prefix *x = p->prefix;
        rows -= p->p.n_answers - p->started;
        /* prompts that share a prefix stand one behind the other */
        if (x->hidden || (n_parts > 0 && who[n_parts - 1] == x))
            continue;
        int64_t done = x->node ? x->node->len : 0, left = p->p.n - done;
        /* long prompts are cut at the same places whoever is computed beside them */
        int64_t n = left < g->opts.prefill_tokens ? left : g->opts.prefill_tokens;
        if ((n > tokens && n_parts > 0) || !admit(g, x))
            break;
        pd__gen_need_parts(g, n_parts + 1);
        g->parts[n_parts] = (struct pd_infer_part){
            .node = x->node, .ids = p->p.ids + done, .n = n, .want_last = n == left};
        who[n_parts++] = x;
        tokens -= n;
    }
    return n_parts;
}

void pd__gen_unqueue(struct pd_gen *g, const struct pd__prompt *p)
{
    int64_t i = 0;
    while (g->queue[i] != p)
        i++;
    memmove(g->queue + i, g->queue + i + 1, (size_t)(g->n_queue - i - 1) * sizeof *g->queue);
    g->n_queue--;
}
