/* answers.jsonl from an endpoint: threads that each keep a connection and ask for one answer at a
 * time. They share one schedule (rates, pauses that the endpoint asks for) and one lock. */
#include "gen/answers_int.h"
#include "gen/endpoint.h"
#include "lm/chat.h"
#include "base/mem.h"
#include "base/progress.h"
#include "base/sig.h"
#include "base/time.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum {
    FIRST_WAIT_MS = 500, /* before the second try; doubled for each further one */
    LAST_WAIT_MS = 60000,
    LEAST_PAUSE_MS = 100,  /* that an endpoint may ask for */
    MOST_STAGGER_MS = 500, /* between two requests after a pause */
    SAY_AGAIN_S = 10,
    MAX_FAILED_IN_A_ROW = 10,
    DEFAULT_MAX_NEW = 256,
};
#define SECOND_NS ((int64_t)1000000000)
#define MS_NS     ((int64_t)1000000)

struct collect {
    struct pd__job *j;
    const struct pd_endpoint *ep;
    struct pd_prompts *prompts;
    atomic_bool stop;
    int64_t start_ns;
    pthread_mutex_t lock;
    /* under lock */
    int64_t item, slot;                        /* the next answer to ask for */
    int64_t next_ns, next_tokens_ns, pause_ns; /* no request begins before any of these */
    int64_t stagger_ns;                        /* between two requests, after a pause */
    int failed_in_a_row, n_running;
    bool new_max_name, answered; /* answered: it has, in this run or an earlier one */
    enum pd_rc rc;               /* what ended it all */
    struct pd_err err;
};

struct asker {
    struct collect *c;
    pthread_t thread;
    struct pd_http_conn conn;
    struct pd_rng rng; /* jitter */
    struct pd_buf body;
};

/* ---- the schedule */

static bool stopped(void *ctx)
{
    struct collect *c = ctx;
    return c->stop;
}

static void sleep_until(struct collect *c, int64_t at_ns)
{
    for (int64_t left; !c->stop && (left = at_ns - pd_time_mono_ns()) > 0;)
        pd_sleep_ms(left > 100000000 ? 100 : (int)(left / 1000000) + 1);
}

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Waits until a request may begin. */
static void wait_turn(struct collect *c)
{
    bool mine = false;
    while (!mine && !c->stop) {
        int64_t now = pd_time_mono_ns();
        pthread_mutex_lock(&c->lock);
        int64_t at = later(later(c->next_ns, c->next_tokens_ns), c->pause_ns);
        mine = at <= now;
        int64_t gap = c->ep->rate > 0 ? 60000000000 / c->ep->rate : 0;
        if (mine)
            c->next_ns = now + later(gap, c->stagger_ns);
        pthread_mutex_unlock(&c->lock);
        if (!mine)
            sleep_until(c, at);
    }
}

/* Lock held. */
static void end_all(struct collect *c, enum pd_rc rc, const struct pd_err *err)
{
    if (c->rc == PD_OK) {
        c->rc = rc;
        c->err = *err;
    }
    c->stop = true;
}

/* Lock held. Nobody asks before; but an endpoint that is gone for hours ends the job. Who waited
 * does not come back all at once, or all but the first few would be sent away again. */
static void pause_all(struct collect *c, int64_t ms)
{
    int64_t most = c->ep->max_pause_s * 1000;
    if (ms <= most) {
        int64_t stagger = later(ms, LEAST_PAUSE_MS) * MS_NS / c->ep->parallel;
        c->pause_ns = later(c->pause_ns, pd_time_mono_ns() + later(ms, LEAST_PAUSE_MS) * MS_NS);
        c->stagger_ns = stagger < MOST_STAGGER_MS * MS_NS ? stagger : MOST_STAGGER_MS * MS_NS;
        return;
    }
    struct pd_err err;
    (void)PD_FAIL(&err, PD_BUSY,
                  "%s asks for a pause of %lld s (Retry-After), longer than --max-pause %lld",
                  c->ep->url, (long long)(ms + 999) / 1000, (long long)c->ep->max_pause_s);
    end_all(c, PD_BUSY, &err);
}

/* 0.5 s, 1 s, 2 s ..., between half and all of it so that threads do not come back together. */
static void back_off(struct asker *a, int tries)
{
    int64_t most = tries < 8 ? (int64_t)FIRST_WAIT_MS << tries : LAST_WAIT_MS;
    most = most < LAST_WAIT_MS ? most : LAST_WAIT_MS;
    sleep_until(a->c, pd_time_mono_ns() +
                          (int64_t)((double)most * (0.5 + pd_rng_f64(&a->rng) / 2) * 1e6));
}

/* ---- one answer */

static bool is_chat(const struct collect *c, const struct pd__item *it)
{
    return c->j->chat || json_object_is_type(pd_json_get(it->row, "prompt"), json_type_array);
}

/* json-c keeps what it printed inside the tree: bodies are made under the lock. */
static void make_body(struct asker *a, const struct pd__item *it, int64_t slot)
{
    const struct pd__job *j = a->c->j;
    const struct pd_endpoint_ask ask = {
        .prompt = pd_json_get(it->row, "prompt"),
        .chat = is_chat(a->c, it),
        .max_new = j->opts->max_new_tokens > 0 ? j->opts->max_new_tokens : DEFAULT_MAX_NEW,
        .new_max_name = a->c->new_max_name,
        .sampling = &j->sampling,
        .stops = j->opts->stops,
        .n_stops = j->opts->n_stops,
        .seed = j->opts->seed + (uint64_t)slot};
    pd_buf_clear(&a->body);
    pd_endpoint_body(a->c->ep, &ask, &a->body);
}

/* The item has no answer: it is reported once. tries 0: it was refused. Lock held. */
static void fail_item(struct collect *c, struct pd__item *it, int tries, const struct pd_err *err)
{
    if (it->failed)
        return;
    it->failed = true;
    c->j->n_failed++;
    if (tries > 1)
        pd_prompts_bad(c->prompts, it->line_no, "%s (%d tries)", err->msg, tries);
    else
        pd_prompts_bad(c->prompts, it->line_no, "%s", err->msg);
    if (tries == 0) { /* the endpoint is well: it is this prompt that it does not take */
        c->failed_in_a_row = 0;
        return;
    }
    if (++c->failed_in_a_row < MAX_FAILED_IN_A_ROW)
        return;
    struct pd_err e;
    (void)PD_FAIL(&e, PD_IO, "%d prompts in a row have no answer; the last: %s",
                  MAX_FAILED_IN_A_ROW, err->msg);
    end_all(c, PD_IO, &e);
}

/* Lock held. What a reply costs is paid whether its text is taken or not. */
static void count(struct collect *c, const struct pd_endpoint_answer *got)
{
    int64_t in = got->prompt_tokens > 0 ? got->prompt_tokens : 0;
    int64_t out = got->new_tokens > 0 ? got->new_tokens : 0;
    c->j->sum->prompt_tokens += in;
    c->j->sum->new_tokens += out;
    if (c->ep->token_rate > 0 && in + out > 0)
        c->next_tokens_ns = later(c->next_tokens_ns, pd_time_mono_ns()) +
                            (int64_t)((double)(in + out) * 6e10 / (double)c->ep->token_rate);
}

/* Lock held. The text is the slot's. */
static void take(struct collect *c, struct pd__item *it, int64_t slot,
                 const struct pd_endpoint_answer *got)
{
    struct pd__job *j = c->j;
    struct pd_err err;
    j->sum->unknown += got->new_tokens < 0;
    c->failed_in_a_row = 0;
    c->answered = true;
    if (!it->slots)
        it->slots = pd_xalloc((size_t)j->opts->n * sizeof *it->slots);
    it->slots[slot] = (struct pd__slot){.text = got->text,
                                        .text_len = got->text_len,
                                        .n = got->new_tokens,
                                        .finish = got->finish,
                                        .filled = true};
    if (++it->n_filled < j->opts->n)
        return;
    pd__answers_find_repeats(j, it); /* marked only: asking again costs money */
    enum pd_rc rc = pd__answers_finish_item(j, it, &err);
    if (rc != PD_OK)
        end_all(c, rc, &err);
}

/* What became of the requests for one answer. */
struct attempt {
    struct pd__item *it;
    int64_t slot, sent_away_ns; /* when it first was; 0 = never */
    int tries;                  /* that failed */
};

enum next { OVER, AT_ONCE, AFTER_A_WAIT, AFTER_THE_PAUSE };

/* Lock held. A request that the endpoint sent away, saying when to come back, is not a try that
 * failed: with many askers and a low limit it is sent away many times. But nor is it waited for
 * without end. */
static enum next again_later(struct collect *c, struct attempt *t,
                             const struct pd_endpoint_answer *got, const struct pd_err *err)
{
    bool asked = got->retry_after_ms > 0;
    bool limited = asked && (got->status == 429 || got->status == 503);
    int64_t now = pd_time_mono_ns();
    if (asked)
        pause_all(c, got->retry_after_ms);
    if (limited && !t->sent_away_ns)
        t->sent_away_ns = now;
    if (limited && now - t->sent_away_ns <= c->ep->max_pause_s * SECOND_NS) {
        c->j->sum->retries++;
        return AFTER_THE_PAUSE;
    }
    if (t->tries++ >= c->ep->retries) {
        fail_item(c, t->it, t->tries, err);
        return OVER;
    }
    c->j->sum->retries++;
    return AFTER_A_WAIT;
}

/* Lock held. What a request led to. */
static enum next judge(struct asker *a, struct attempt *t, enum pd_endpoint_verdict v,
                       const struct pd_endpoint_answer *got, const struct pd_err *err)
{
    struct collect *c = a->c;
    count(c, got);
    switch (v) {
    case PD_ENDPOINT_OK:
        c->stagger_ns /= 2;
        take(c, t->it, t->slot, got);
        break;
    case PD_ENDPOINT_RENAME:
        c->new_max_name = true;
        if (strstr(pd_buf_cstr(&a->body), "\"max_tokens\":")) {
            make_body(a, t->it, t->slot);
            return AT_ONCE;
        }
        fail_item(c, t->it, 0, err);
        break;
    case PD_ENDPOINT_RETRY:
        return again_later(c, t, got, err);
    case PD_ENDPOINT_REFUSED:
        fail_item(c, t->it, 0, err);
        break;
    case PD_ENDPOINT_NO_TEXT:
        fail_item(c, t->it, 1, err);
        break;
    case PD_ENDPOINT_FATAL:
        /* the key is good: moderation, as some endpoints say that */
        if (got->status == 403 && c->answered)
            fail_item(c, t->it, 1, err);
        else
            end_all(c, PD_IO, err);
        break;
    case PD_ENDPOINT_STOPPED:
        break;
    }
    return OVER;
}

static void ask(struct asker *a, struct pd__item *it, int64_t slot)
{
    struct collect *c = a->c;
    struct attempt t = {.it = it, .slot = slot};
    struct pd_endpoint_answer got;
    struct pd_err err;
    enum next next = AT_ONCE;
    while (next != OVER) {
        if (next == AFTER_A_WAIT)
            back_off(a, t.tries - 1);
        wait_turn(c);
        if (c->stop)
            return;
        enum pd_endpoint_verdict v = pd_endpoint_answer(
            c->ep, &a->conn, is_chat(c, it), pd_buf_str(&a->body), stopped, c, &got, &err);
        pthread_mutex_lock(&c->lock);
        next = judge(a, &t, v, &got, &err);
        pthread_mutex_unlock(&c->lock);
    }
}

/* The next answer nobody asks for yet; its body is made. False when there is none. */
static bool next_answer(struct asker *a, struct pd__item **it, int64_t *slot)
{
    struct collect *c = a->c;
    struct pd__job *j = c->j;
    pthread_mutex_lock(&c->lock);
    while (c->item < j->n_items && (j->items[c->item].line || j->items[c->item].failed)) {
        c->item++;
        c->slot = 0;
    }
    bool found = c->item < j->n_items && !c->stop;
    if (found) {
        *it = &j->items[c->item];
        *slot = c->slot;
        if (++c->slot == j->opts->n) {
            c->item++;
            c->slot = 0;
        }
        make_body(a, *it, *slot);
    }
    pthread_mutex_unlock(&c->lock);
    return found;
}

static void *asker_main(void *arg)
{
    struct asker *a = arg;
    struct pd__item *it;
    int64_t slot;
    while (next_answer(a, &it, &slot))
        ask(a, it, slot);
    pthread_mutex_lock(&a->c->lock);
    a->c->n_running--;
    pthread_mutex_unlock(&a->c->lock);
    return NULL;
}

/* ---- the job */

static enum pd_rc check_prompt(const struct pd__job *j, struct json_object *prompt,
                               struct pd_err *err)
{
    struct pd_chat_msg *msgs = NULL;
    size_t n = 0;
    if (json_object_is_type(prompt, json_type_string))
        return pd_json_value_str(prompt).len > 0 ? PD_OK
                                                 : PD_FAIL(err, PD_INVALID, "the prompt is empty");
    if (!j->chat)
        return PD_FAIL(err, PD_INVALID, "a list of messages cannot be asked with --chat off");
    enum pd_rc rc = pd_chat_msgs_from_json(prompt, &msgs, &n, err);
    pd_free(msgs);
    return rc;
}

static uint64_t key_of(struct json_object *prompt)
{
    uint64_t key = 0;
    const char *p = json_object_to_json_string_ext(prompt, JSON_C_TO_STRING_PLAIN);
    for (; *p; p++)
        key = pd_rng_mix(key, (unsigned char)*p);
    return key;
}

static enum pd_rc prepare(struct collect *c, struct pd_err *err)
{
    struct pd__job *j = c->j;
    struct pd_prompts *prompts = c->prompts;
    enum pd_rc rc = pd_sampling_check(&j->sampling, err);
    if (rc == PD_OK)
        rc = pd_endpoint_check(c->ep, err);
    if (rc != PD_OK)
        return rc;
    j->where = c->ep->url;
    j->chat = j->opts->chat != PD_CHAT_OFF;
    j->items = pd_xalloc((prompts->n + 1) * sizeof *j->items);
    for (size_t i = 0; i < prompts->n; i++) {
        struct json_object *prompt = pd_json_get(prompts->v[i].row, "prompt");
        struct pd_err e;
        if (check_prompt(j, prompt, &e) != PD_OK) {
            pd_prompts_bad(prompts, prompts->v[i].line, "%s", e.msg);
            continue;
        }
        j->items[j->n_items++] = (struct pd__item){.job = j,
                                                   .row = prompts->v[i].row,
                                                   .at = i,
                                                   .line_no = prompts->v[i].line,
                                                   .key = key_of(prompt)};
    }
    return pd_prompts_verdict(prompts, (size_t)j->n_items, err);
}

/* A pause that the endpoint asks for is said at once, then as often as progress is; so are short
 * ones that follow each other. */
static void show_progress(struct pd_progress *p, int64_t done, int64_t pause_ns, int64_t *said_ns)
{
    char extra[64] = "";
    int64_t now = pd_time_mono_ns(), left = (pause_ns - now + SECOND_NS - 1) / SECOND_NS;
    if (left > 0)
        (void)snprintf(extra, sizeof extra, "the endpoint asks for a pause: %lld s",
                       (long long)left);
    if (left > 0 && pause_ns > *said_ns + SAY_AGAIN_S * SECOND_NS) {
        *said_ns = pause_ns;
        p->last_ns = 0;
    }
    pd_progress_update(p, done, left > 0 ? extra : NULL);
}

static void watch(struct collect *c)
{
    struct pd__job *j = c->j;
    struct pd_progress progress;
    bool running = true;
    int64_t said_ns = 0;
    pd_progress_init(&progress, "asking", "answers", j->n_items * j->opts->n, j->opts->quiet);
    pd_progress_go_on(&progress, j->sum->resumed * j->opts->n);
    while (running) {
        pd_sleep_ms(50);
        if (pd_sig_stop())
            c->stop = true;
        pthread_mutex_lock(&c->lock);
        running = c->n_running > 0;
        int64_t done = j->n_finished * j->opts->n, pause_ns = c->pause_ns;
        pthread_mutex_unlock(&c->lock);
        show_progress(&progress, done, pause_ns, &said_ns);
    }
    pd_progress_finish(&progress, NULL);
}

static enum pd_rc outcome(struct collect *c, struct pd_err *err)
{
    struct pd__job *j = c->j;
    const char *how = j->partial ? "; the same command with --resume goes on" : "";
    if (c->rc != PD_OK)
        return PD_FAIL(err, c->rc, "%s%s", c->err.msg, j->n_finished > 0 ? how : "");
    if (c->stop)
        return PD_FAIL(err, PD_INTERRUPTED, "interrupted: %lld of %lld prompts are answered%s",
                       (long long)j->n_finished, (long long)j->n_items, how);
    if (j->n_failed > 0 && !c->prompts->skip_bad)
        return PD_FAIL(err, PD_IO,
                       "%lld of %lld prompts have no answer%s; --skip-bad writes those that have",
                       (long long)j->n_failed, (long long)j->n_items,
                       j->partial ? "; the same command with --resume asks for them again" : "");
    return PD_OK;
}

static enum pd_rc run(struct collect *c, struct pd_err *err)
{
    struct pd__job *j = c->j;
    int64_t n = c->ep->parallel;
    struct asker *askers = pd_xalloc((size_t)n * sizeof *askers);
    c->start_ns = pd_time_mono_ns();
    c->n_running = (int)n;
    for (int64_t i = 0; i < n; i++) {
        askers[i].c = c;
        pd_rng_seed(&askers[i].rng, (uint64_t)pd_time_us(), (uint64_t)i);
        pd_buf_init(&askers[i].body, 0);
        if (pthread_create(&askers[i].thread, NULL, asker_main, &askers[i]) != 0)
            pd_bug("cannot start a thread");
    }
    watch(c);
    for (int64_t i = 0; i < n; i++) {
        pthread_join(askers[i].thread, NULL);
        pd_http_conn_release(&askers[i].conn);
        pd_buf_release(&askers[i].body);
    }
    pd_free(askers);
    j->sum->prompts = j->n_finished;
    j->sum->answers = j->n_finished * j->opts->n;
    j->sum->failed = j->n_failed;
    const struct pd_spent now = {j->sum->prompt_tokens, j->sum->new_tokens, j->sum->unknown};
    j->sum->cost = pd_endpoint_cost(c->ep, &now);
    j->sum->seconds = (double)(pd_time_mono_ns() - c->start_ns) / 1e9;
    return outcome(c, err);
}

enum pd_rc pd_answers_collect(const struct pd_endpoint *ep, struct pd_prompts *prompts,
                              const struct pd_answers_opts *opts,
                              struct pd_answers_summary *summary, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd__job j;
    struct collect c = {.j = &j, .ep = ep, .prompts = prompts};
    pd__answers_init(&j, opts, summary);
    pthread_mutex_init(&c.lock, NULL);
    PD_TRY(prepare(&c, err));
    PD_TRY(pd__answers_open(&j, err));
    c.answered = j.n_finished > 0;
    rc = pd__answers_settle(&j, run(&c, err), err);
out:
    pthread_mutex_destroy(&c.lock);
    pd__answers_release(&j);
    return rc;
}
