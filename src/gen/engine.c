#include "gen/engine.h"

#include "base/log.h"
#include "base/mem.h"
#include "lm/model.h"
#include "tensor/backend.h"

#include <string.h>

enum { MAX_EOS = 16, MAX_UNREAD = 65536 };

struct pd_engine {
    struct pd_decoder *dec;
    const struct pd_model *model;
    struct pd_engine_opts opts;
    int32_t eos[MAX_EOS];
    int64_t n_eos;
    struct pd_gen *gen;
    int64_t n_added; /* prompts given to gen */
    struct pd_call *active;
    pthread_t thread;
    /* under lock */
    pthread_mutex_t lock;
    pthread_cond_t cond;
    struct pd_call *inbox, **inbox_tail;
    bool wake, stop, ready;
    enum pd_rc start_rc;
    struct pd_err start_err;
    struct pd_engine_stats stats;
    int64_t base_prompt, base_new; /* tokens of engines that were given up */
};

/* ---- on the engine's thread: what the generator hands over ---- */

/* The choice an answer belongs to. */
static struct pd_choice *choice_of(struct pd_call *c, const struct pd_gen_answer *a)
{
    return &c->choices[(a->prompt - c->first) * c->ask.n + (int64_t)a->answer];
}

static void grow(struct pd_choice *to, int64_t n, int64_t top)
{
    if (n <= to->cap)
        return;
    to->cap = 2 * n < 32 ? 32 : 2 * n;
    size_t cap = (size_t)to->cap;
    to->ids = pd_xrealloc(to->ids, cap * sizeof *to->ids);
    to->logprobs = pd_xrealloc(to->logprobs, cap * sizeof *to->logprobs);
    if (top > 0)
        to->top = pd_xrealloc(to->top, cap * (size_t)top * sizeof *to->top);
}

/* Copies the tokens that the choice does not have yet. Lock held. */
static void copy_tokens(struct pd_call *c, struct pd_choice *to, const struct pd_gen_answer *a)
{
    int64_t k = c->ask.top_logprobs;
    grow(to, a->n, k);
    for (int64_t i = to->n; i < a->n; i++) {
        to->ids[i] = a->ids[i];
        to->logprobs[i] = a->raw_logprobs[i];
        if (k > 0)
            memcpy(to->top + i * k, a->top + i * k, (size_t)k * sizeof *to->top);
    }
    c->unread += a->n - to->n;
    to->n = a->n;
    c->news = true;
    pthread_cond_signal(&c->cond);
}

static bool on_token(void *ctx, const struct pd_gen_prompt *p, const struct pd_gen_answer *a)
{
    struct pd_engine *e = ctx;
    struct pd_call *c = p->user;
    pthread_mutex_lock(&c->lock);
    copy_tokens(c, choice_of(c, a), a);
    pthread_mutex_unlock(&c->lock);
    return pd_stops_seen(&c->ask.stops, e->model->tok, a->ids, a->n);
}

/* The engine has nothing to do with it any more: from here on the caller may free it. */
static void let_go(struct pd_engine *e, struct pd_call *c, enum pd_rc rc, const struct pd_err *err)
{
    struct pd_call **at = &e->active;
    while (*at && *at != c)
        at = &(*at)->next;
    if (*at)
        *at = c->next;
    pthread_mutex_lock(&c->lock);
    c->rc = rc;
    if (err)
        c->err = *err;
    c->held = false;
    c->news = true;
    pthread_cond_signal(&c->cond);
    pthread_mutex_unlock(&c->lock);
}

static void on_done(void *ctx, const struct pd_gen_prompt *p, const struct pd_gen_answer *a)
{
    struct pd_call *c = p->user;
    struct pd_choice *to = choice_of(c, a);
    pthread_mutex_lock(&c->lock);
    copy_tokens(c, to, a);
    to->done = true;
    to->finish = a->finish;
    bool all = ++c->n_done == c->n_choices;
    pthread_mutex_unlock(&c->lock);
    if (all)
        let_go(ctx, c, PD_OK, NULL);
}

/* ---- on the engine's thread: calls come and go ---- */

static enum pd_rc add_prompts(struct pd_engine *e, struct pd_call *c, struct pd_err *err)
{
    const struct pd_ask *ask = &c->ask;
    c->first = e->n_added;
    for (size_t i = 0; i < ask->n_prompts; i++) {
        uint64_t before = 0;
        for (size_t k = 0; k < i; k++)
            before += ask->prompts[k].n == ask->prompts[i].n &&
                      memcmp(ask->prompts[k].ids, ask->prompts[i].ids,
                             (size_t)ask->prompts[i].n * sizeof(int32_t)) == 0;
        int64_t room = pd_config_context(&e->model->cfg) - ask->prompts[i].n;
        struct pd_gen_prompt p = {.ids = ask->prompts[i].ids,
                                  .n = ask->prompts[i].n,
                                  .key = pd_gen_key(ask->prompts[i], before),
                                  .seed = ask->seed,
                                  .n_answers = ask->n,
                                  .sampling = ask->sampling,
                                  .max_new_tokens = ask->max_new > 0 ? ask->max_new : room,
                                  .top_logprobs = ask->top_logprobs,
                                  .user = c};
        p.sampling.eos = (struct pd_id_span){e->eos, e->n_eos};
        enum pd_rc rc = pd_gen_add(e->gen, &p, err);
        if (rc != PD_OK)
            return rc;
        e->n_added++;
    }
    return PD_OK;
}

static void begin(struct pd_engine *e, struct pd_call *c)
{
    struct pd_err err;
    c->next = e->active;
    e->active = c;
    enum pd_rc rc = add_prompts(e, c, &err);
    if (rc == PD_OK)
        return;
    pd_gen_cancel(e->gen, c);
    let_go(e, c, rc, &err);
}

/* Those whose callers have gone, or do not keep up. */
static void drop_cancelled(struct pd_engine *e)
{
    struct pd_err err;
    for (struct pd_call *c = e->active, *next; c; c = next) {
        next = c->next;
        pthread_mutex_lock(&c->lock);
        bool behind = c->unread > e->opts.max_unread, drop = c->cancelled || behind;
        pthread_mutex_unlock(&c->lock);
        if (!drop)
            continue;
        pd_gen_cancel(e->gen, c);
        if (behind)
            (void)PD_FAIL(&err, PD_BUSY, "%lld tokens were not read: the reader is too slow",
                          (long long)e->opts.max_unread);
        let_go(e, c, behind ? PD_BUSY : PD_INTERRUPTED, behind ? &err : NULL);
    }
}

static void fail_all(struct pd_engine *e, enum pd_rc rc, const struct pd_err *err)
{
    while (e->active)
        let_go(e, e->active, rc, err);
}

static enum pd_rc new_gen(struct pd_engine *e, struct pd_err *err)
{
    struct pd_gen_opts go = {.max_rows = e->opts.batch,
                             .max_kv_bytes = e->opts.kv_bytes,
                             .done = on_done,
                             .stop = on_token,
                             .ctx = e};
    e->n_added = 0;
    return pd_gen_new(e->dec, &go, &e->gen, err);
}

static void note_stats(struct pd_engine *e)
{
    struct pd_gen_stats st = {0};
    int64_t calls = 0;
    if (e->gen)
        pd_gen_stats(e->gen, &st);
    for (struct pd_call *c = e->active; c; c = c->next)
        calls++;
    pthread_mutex_lock(&e->lock);
    e->stats = (struct pd_engine_stats){.running = st.running,
                                        .waiting = st.waiting,
                                        .calls = calls,
                                        .prompt_tokens = e->base_prompt + st.prompt_tokens,
                                        .new_tokens = e->base_new + st.new_tokens};
    pthread_mutex_unlock(&e->lock);
}

/* One step for everybody. What fails a step (logits that are not numbers, no memory) fails all who
 * were in it; the next ones get a new generator. */
static void step(struct pd_engine *e)
{
    struct pd_err err;
    bool busy;
    enum pd_rc rc = pd_gen_step(e->gen, &busy, &err);
    if (rc == PD_OK)
        return;
    pd_log(PD_LOG_ERROR, "engine", "generation failed: %s", err.msg);
    fail_all(e, rc, &err);
    e->base_prompt = e->stats.prompt_tokens;
    e->base_new = e->stats.new_tokens;
    pd_gen_free(e->gen);
    e->gen = NULL;
}

/* Sleeps while there is nothing to do; takes the inbox. False when it is time to end. */
static bool next_calls(struct pd_engine *e, struct pd_call **calls)
{
    pthread_mutex_lock(&e->lock);
    while (!e->active && !e->inbox && !e->stop)
        pthread_cond_wait(&e->cond, &e->lock);
    *calls = e->inbox;
    e->inbox = NULL;
    e->inbox_tail = &e->inbox;
    bool go_on = !e->stop;
    pthread_mutex_unlock(&e->lock);
    return go_on;
}

static void *engine_main(void *arg)
{
    struct pd_engine *e = arg;
    struct pd_call *calls;
    struct pd_err err;
    enum pd_rc rc = pd_backend_init(e->opts.threads, &err); /* OpenMP's count is a thread's own */
    if (rc == PD_OK)
        rc = new_gen(e, &err);
    pthread_mutex_lock(&e->lock);
    e->ready = true;
    e->start_rc = rc;
    if (rc != PD_OK)
        e->start_err = err;
    pthread_cond_broadcast(&e->cond);
    pthread_mutex_unlock(&e->lock);
    while (rc == PD_OK && next_calls(e, &calls)) {
        enum pd_rc can = calls && !e->gen ? new_gen(e, &err) : PD_OK;
        for (struct pd_call *c = calls, *next; c; c = next) {
            next = c->next;
            if (can == PD_OK)
                begin(e, c);
            else
                let_go(e, c, can, &err);
        }
        drop_cancelled(e);
        if (e->active)
            step(e);
        note_stats(e);
    }
    if (rc != PD_OK)
        return NULL;
    (void)PD_FAIL(&err, PD_INTERRUPTED, "the server is stopping");
    for (struct pd_call *c = calls, *next; c; c = next) {
        next = c->next;
        let_go(e, c, PD_INTERRUPTED, &err);
    }
    fail_all(e, PD_INTERRUPTED, &err);
    pd_gen_free(e->gen);
    return NULL;
}

/* ---- callers ---- */

enum pd_rc pd_engine_start(struct pd_engine **out, struct pd_decoder *dec,
                           const struct pd_engine_opts *opts, struct pd_err *err)
{
    struct pd_engine *e = pd_xalloc(sizeof *e);
    e->dec = dec;
    e->model = pd_decoder_model(dec);
    e->opts = *opts;
    if (e->opts.max_unread <= 0)
        e->opts.max_unread = MAX_UNREAD;
    e->n_eos = pd_model_eos(e->model, e->eos, MAX_EOS);
    e->inbox_tail = &e->inbox;
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->cond, NULL);
    if (pthread_create(&e->thread, NULL, engine_main, e) != 0)
        pd_bug("cannot start a thread");
    pthread_mutex_lock(&e->lock);
    while (!e->ready)
        pthread_cond_wait(&e->cond, &e->lock);
    enum pd_rc rc = e->start_rc;
    if (rc != PD_OK && err)
        *err = e->start_err;
    pthread_mutex_unlock(&e->lock);
    if (rc != PD_OK)
        pd_engine_stop(e);
    else
        *out = e;
    return rc;
}

void pd_engine_stop(struct pd_engine *e)
{
    if (!e)
        return;
    pthread_mutex_lock(&e->lock);
    e->stop = true;
    pthread_cond_broadcast(&e->cond);
    pthread_mutex_unlock(&e->lock);
    pthread_join(e->thread, NULL);
    pthread_mutex_destroy(&e->lock);
    pthread_cond_destroy(&e->cond);
    pd_free(e);
}

static enum pd_rc check(const struct pd_engine *e, const struct pd_ask *ask, struct pd_err *err)
{
    int64_t context = pd_config_context(&e->model->cfg), vocab = e->model->cfg.vocab_size;
    for (size_t i = 0; i < ask->n_prompts; i++) {
        struct pd_id_span p = ask->prompts[i];
        if (p.n < 1)
            return PD_FAIL(err, PD_INVALID, "the prompt has no tokens");
        if (p.n >= context)
            return PD_FAIL(err, PD_INVALID,
                           "the prompt has %lld tokens, which leaves no room in the model's "
                           "context of %lld",
                           (long long)p.n, (long long)context);
        for (int64_t t = 0; t < p.n; t++)
            if (p.ids[t] < 0 || p.ids[t] >= vocab)
                return PD_FAIL(err, PD_INVALID,
                               "token id %d at %lld is not one of the model's %lld", p.ids[t],
                               (long long)t, (long long)vocab);
    }
    return pd_sampling_check(&ask->sampling, err);
}

enum pd_rc pd_engine_ask(struct pd_engine *e, const struct pd_ask *ask, struct pd_call **out,
                         struct pd_err *err)
{
    PD_ASSERT(ask->n >= 1 && ask->n_prompts >= 1);
    enum pd_rc rc = check(e, ask, err);
    if (rc != PD_OK)
        return rc;
    struct pd_call *c = pd_xalloc(sizeof *c);
    c->ask = *ask;
    c->engine = e;
    c->n_choices = ask->n_prompts * (size_t)ask->n;
    c->choices = pd_xalloc(c->n_choices * sizeof *c->choices);
    c->held = true;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->cond, NULL);
    pthread_mutex_lock(&e->lock);
    *e->inbox_tail = c;
    e->inbox_tail = &c->next;
    pthread_cond_signal(&e->cond);
    pthread_mutex_unlock(&e->lock);
    *out = c;
    return PD_OK;
}

bool pd_call_wait(struct pd_call *c, int ms)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    ts.tv_nsec += (long)(ms % 1000) * 1000000;
    ts.tv_sec += ms / 1000 + ts.tv_nsec / 1000000000;
    ts.tv_nsec %= 1000000000;
    pthread_mutex_lock(&c->lock);
    while (!c->news && c->held && pthread_cond_timedwait(&c->cond, &c->lock, &ts) == 0)
        ;
    c->news = false;
    c->unread = 0;
    return !c->held;
}

void pd_call_unlock(struct pd_call *c)
{
    pthread_mutex_unlock(&c->lock);
}

void pd_call_end(struct pd_call *c)
{
    if (!c)
        return;
    pthread_mutex_lock(&c->lock);
    c->cancelled = true;
    while (c->held)
        pthread_cond_wait(&c->cond, &c->lock);
    pthread_mutex_unlock(&c->lock);
    for (size_t i = 0; i < c->n_choices; i++) {
        pd_free(c->choices[i].ids);
        pd_free(c->choices[i].logprobs);
        pd_free(c->choices[i].top);
    }
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->cond);
    pd_free(c->choices);
    pd_free(c);
}

void pd_engine_stats(struct pd_engine *e, struct pd_engine_stats *out)
{
    pthread_mutex_lock(&e->lock);
    *out = e->stats;
    pthread_mutex_unlock(&e->lock);
}
