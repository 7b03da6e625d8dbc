#include "gen/answers_int.h"
#include "gen/damage.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/progress.h"
#include "base/sig.h"
#include "base/time.h"

#include <stdio.h>
#include <string.h>

/* Jobs over the same prompts and model, side by side in one engine. */
struct run {
    struct pd_gen *gen;
    struct pd__job *jobs;
    size_t n;
    struct pd_prompts *prompts;
    struct pd_progress progress;
    int64_t start_ns;
    enum pd_rc rc; /* of a callback */
    struct pd_err err;
};

/* ---- prompts to ids ---- */

struct pd_prompt_opts pd_answers_prompt_opts(const struct pd_answers_opts *o)
{
    return (struct pd_prompt_opts){.chat = o->chat,
                                   .special = o->special,
                                   .max_new_tokens = o->max_new_tokens,
                                   .max_length = o->max_length,
                                   .too_long = o->too_long};
}

/* Rows that give ids get the text they stand for. */
static enum pd_rc add_text(const struct pd__job *j, struct pd__item *it, struct pd_err *err)
{
    struct pd_buf text;
    pd_buf_init(&text, 0);
    enum pd_rc rc = pd_tokenizer_decode(j->model->tok, it->ids.ptr, it->ids.len, false, &text, err);
    struct pd_str s = pd_buf_str(&text);
    if (rc == PD_OK)
        json_object_object_add(it->row, "prompt", json_object_new_string_len(s.ptr, (int)s.len));
    pd_buf_release(&text);
    return rc;
}

/* A prompt's random streams are named by its ids, so its answers do not depend on where it stands;
 * of equal prompts, by how many came before. */
static uint64_t stream_key(struct pd_map *seen, const struct pd_ids *ids)
{
    struct pd_str bytes = {(const char *)ids->ptr, ids->len * sizeof *ids->ptr};
    int64_t before = 0;
    (void)pd_map_get(seen, bytes, &before);
    (void)pd_map_put(seen, bytes, before + 1);
    return pd_gen_key((struct pd_id_span){ids->ptr, (int64_t)ids->len}, (uint64_t)before);
}

static enum pd_rc encode_all(struct pd__job *j, struct pd_prompts *prompts, struct pd_err *err)
{
    struct pd_prompt_opts po = pd_answers_prompt_opts(j->opts);
    struct pd_map seen;
    pd_map_init(&seen);
    j->items = pd_xalloc((prompts->n + 1) * sizeof *j->items);
    for (size_t i = 0; i < prompts->n; i++) {
        struct pd__item *it = &j->items[j->n_items];
        struct pd_err e;
        *it = (struct pd__item){
            .job = j, .row = prompts->v[i].row, .at = i, .line_no = prompts->v[i].line};
        bool cut;
        enum pd_rc rc = pd_prompt_encode(j->model, &po, &prompts->v[i], &it->ids, &cut, &e);
        if (rc == PD_OK && prompts->v[i].ids)
            rc = add_text(j, it, &e);
        if (pd_prompt_ends_all(rc)) {
            if (err)
                *err = e;
            pd_ids_release(&it->ids);
            pd_map_release(&seen);
            return rc;
        }
        if (rc != PD_OK) {
            pd_prompts_bad(prompts, prompts->v[i].line, "%s", e.msg);
            pd_ids_release(&it->ids);
            continue;
        }
        j->sum->truncated += cut;
        it->key = stream_key(&seen, &it->ids);
        j->n_items++;
    }
    pd_map_release(&seen);
    return pd_prompts_verdict(prompts, (size_t)j->n_items, err);
}

/* ---- what the engine hands over ---- */

static bool stop_seen(void *ctx, const struct pd_gen_prompt *prompt, const struct pd_gen_answer *a)
{
    const struct pd__job *j = ((struct pd__item *)prompt->user)->job;
    (void)ctx;
    return pd_stops_seen(&j->stops, j->model->tok, a->ids, a->n);
}

static enum pd_rc fill_slot(struct pd__job *j, struct pd__slot *s, const struct pd_gen_answer *a,
                            struct pd_err *err)
{
    struct pd_buf text;
    pd_buf_init(&text, 0);
    enum pd_rc rc = pd_tokenizer_decode(j->model->tok, a->ids, (size_t)a->n, true, &text, err);
    if (rc != PD_OK) {
        pd_buf_release(&text);
        return rc;
    }
    int64_t redrawn = s->redrawn;
    pd__slot_release(s);
    *s = (struct pd__slot){.n = a->n, .finish = a->finish, .redrawn = redrawn, .filled = true};
    s->text_len = pd_stops_find(&j->stops, pd_buf_str(&text));
    s->text = pd_xstrndup(pd_buf_cstr(&text), s->text_len);
    s->ids = pd_xalloc((size_t)a->n * sizeof *s->ids + 1);
    memcpy(s->ids, a->ids, (size_t)a->n * sizeof *s->ids);
    if (j->opts->logprobs) {
        s->logprobs = pd_xalloc((size_t)a->n * sizeof *s->logprobs);
        memcpy(s->logprobs, a->raw_logprobs, (size_t)a->n * sizeof *s->logprobs);
    }
    if (a->top) {
        size_t bytes = (size_t)(a->n * j->opts->top_logprobs) * sizeof *s->top;
        s->top = pd_xalloc(bytes);
        memcpy(s->top, a->top, bytes);
    }
    for (int64_t i = 0; i < a->n; i++)
        s->logprob += a->raw_logprobs[i];
    pd_buf_release(&text);
    return PD_OK;
}

static enum pd_rc add_to_engine(struct run *r, struct pd__item *it, uint64_t first, int64_t n,
                                struct pd_err *err)
{
    struct pd__job *j = it->job;
    struct pd_prompt_opts po = pd_answers_prompt_opts(j->opts);
    struct pd_gen_prompt p = {.ids = it->ids.ptr,
                              .n = (int64_t)it->ids.len,
                              .key = it->key,
                              .seed = j->opts->seed,
                              .n_answers = n,
                              .first_answer = first,
                              .sampling = j->sampling,
                              .max_new_tokens = pd_prompt_room(j->model, &po, (int64_t)it->ids.len),
                              .top_logprobs = j->opts->top_logprobs,
                              .user = it};
    enum pd_rc rc = pd_gen_add(r->gen, &p, err);
    return rc == PD_TOOBIG ? pd_err_prefix(err, "--kv-memory is too small") : rc;
}

/* Those that say the same are drawn again; false when the item is full for good. The draw's number
 * stands above the answer's in the name of the random stream. */
static enum pd_rc draw_again(struct run *r, struct pd__item *it, bool *again, struct pd_err *err)
{
    struct pd__job *j = it->job;
    *again = false;
    pd__answers_find_repeats(j, it);
    for (int64_t i = 0; i < j->opts->n; i++) {
        struct pd__slot *s = &it->slots[i];
        if (!s->duplicate || s->redrawn >= j->opts->resamples || j->sampling.greedy)
            continue;
        s->redrawn++;
        uint64_t name = (uint64_t)s->redrawn << 32 | (uint64_t)(j->opts->first_answer + i);
        enum pd_rc rc = add_to_engine(r, it, name, 1, err);
        if (rc != PD_OK)
            return rc;
        *again = true;
        it->n_filled--;
        j->sum->redrawn++;
    }
    return PD_OK;
}

static enum pd_rc take_answer(struct run *r, struct pd__item *it, const struct pd_gen_answer *a,
                              struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd__job *j = it->job;
    bool again = true;
    if (!it->slots)
        it->slots = pd_xalloc((size_t)j->opts->n * sizeof *it->slots);
    struct pd__slot *s = &it->slots[(int64_t)(a->answer & UINT32_MAX) - j->opts->first_answer];
    PD_TRY(fill_slot(j, s, a, err));
    if (++it->n_filled < j->opts->n)
        goto out;
    PD_TRY(draw_again(r, it, &again, err));
    if (!again)
        rc = pd__answers_finish_item(j, it, err);
out:
    return rc;
}

static void on_done(void *ctx, const struct pd_gen_prompt *prompt, const struct pd_gen_answer *a)
{
    struct run *r = ctx;
    if (r->rc == PD_OK)
        r->rc = take_answer(r, prompt->user, a, &r->err);
}

/* The settings forbid every token there is: the prompt is left out as other bad rows are. */
static void on_stuck(void *ctx, const struct pd_gen_prompt *prompt, const struct pd_err *why)
{
    struct run *r = ctx;
    struct pd__item *it = prompt->user;
    if (it->failed)
        return;
    it->failed = true;
    it->job->n_failed++;
    pd_prompts_bad(r->prompts, it->line_no, "%s", why->msg);
}

/* ---- the jobs ---- */

struct tally {
    int64_t prompts, finished, answers, done, resumed; /* the last three in answers */
    bool kept;                                         /* there is an OUT.partial */
};

static struct tally tally_of(const struct run *r)
{
    struct tally t = {0};
    for (size_t i = 0; i < r->n; i++) {
        const struct pd__job *j = &r->jobs[i];
        t.prompts += j->n_items;
        t.finished += j->n_finished;
        t.answers += j->n_items * j->opts->n;
        t.done += j->n_finished * j->opts->n;
        t.resumed += j->sum->resumed * j->opts->n;
        t.kept = t.kept || j->partial;
    }
    return t;
}

static void show_progress(struct run *r)
{
    struct pd_gen_stats st;
    char extra[64];
    pd_gen_stats(r->gen, &st);
    double seconds = (double)(pd_time_mono_ns() - r->start_ns) / 1e9;
    (void)snprintf(extra, sizeof extra, "%.0f tokens/s",
                   seconds > 0 ? (double)st.new_tokens / seconds : 0);
    pd_progress_update(&r->progress, tally_of(r).done, extra);
}

/* The settings, not the model, are why nothing could be drawn. */
static enum pd_rc name_stuck(const struct run *r, struct pd_err *err)
{
    const struct pd__item *it = pd_gen_culprit(r->gen);
    const char *id = it ? json_object_get_string(pd_json_get(it->row, "id")) : "?";
    return pd_err_prefix(err, "prompt %.60s (%s)", id,
                         r->n == 1 ? "--skip-bad leaves such prompts out" : "of one variant");
}

/* A number that is not finite shows far from where it comes from. */
static enum pd_rc name_culprit(const struct run *r, struct pd_err *err)
{
    const struct pd__item *it = pd_gen_culprit(r->gen);
    const struct pd__job *j = &r->jobs[0]; /* of the same model, all of them */
    struct pd_err why = {0};
    if (pd_model_damage(j->model, &why) != PD_NONFINITE)
        (void)snprintf(why.msg, sizeof why.msg, "%s",
                       pd_model_is_whole(j->model)
                           ? "all weights are finite: a sum overflowed"
                           : "`podium model info --check` tells whether a weight is damaged");
    const char *id = it ? json_object_get_string(pd_json_get(it->row, "id")) : "?";
    char *said = pd_xstrdup(err ? err->msg : "");
    enum pd_rc rc = PD_FAIL(err, PD_NONFINITE, "%s: prompt %.60s: %.200s (%s)", j->opts->model_name,
                            id, said, why.msg);
    pd_free(said);
    return rc;
}

/* A prompt's jobs one after the other: the engine computes it once for all of them. */
static enum pd_rc add_all(struct run *r, bool *busy, struct pd_err *err)
{
    for (int64_t i = 0; i < r->jobs[0].n_items; i++)
        for (size_t k = 0; k < r->n; k++) {
            struct pd__job *j = &r->jobs[k];
            if (j->items[i].line)
                continue;
            enum pd_rc rc =
                add_to_engine(r, &j->items[i], (uint64_t)j->opts->first_answer, j->opts->n, err);
            if (rc != PD_OK)
                return rc;
            *busy = true;
        }
    return PD_OK;
}

static enum pd_rc run_all(struct run *r, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    bool busy = false;
    PD_TRY(add_all(r, &busy, err));
    while (busy && !pd_sig_stop()) {
        rc = pd_gen_step(r->gen, &busy, err);
        if (rc == PD_NONFINITE)
            rc = name_culprit(r, err);
        else if (rc == PD_INVALID)
            rc = name_stuck(r, err);
        if (rc == PD_OK && r->rc != PD_OK) {
            rc = r->rc;
            if (err)
                *err = r->err;
        }
        PD_TRY(rc);
        show_progress(r);
    }
    if (busy) {
        struct tally t = tally_of(r);
        rc = PD_FAIL(err, PD_INTERRUPTED, "interrupted: %lld of %lld prompts are answered%s",
                     (long long)t.finished, (long long)t.prompts,
                     t.kept ? "; the same command with --resume goes on" : "");
    }
out:
    return rc;
}

/* What the engine counted for all jobs together stands in the first one's summary. */
static void summarise(struct run *r)
{
    struct pd_gen_stats st;
    pd_gen_stats(r->gen, &st);
    for (size_t i = 0; i < r->n; i++) {
        r->jobs[i].sum->prompts = r->jobs[i].n_finished;
        r->jobs[i].sum->answers = r->jobs[i].n_finished * r->jobs[i].opts->n;
    }
    r->jobs[0].sum->prompt_tokens = st.prompt_tokens;
    r->jobs[0].sum->new_tokens = st.new_tokens;
    r->jobs[0].sum->peak_kv_bytes = st.peak_kv_bytes;
    r->jobs[0].sum->seconds = (double)(pd_time_mono_ns() - r->start_ns) / 1e9;
}

/* The prompts of another job over the same ones, as it has read them. */
static void take_items(struct pd__job *j, const struct pd__job *other)
{
    j->items = pd_xalloc((size_t)(other->n_items + 1) * sizeof *j->items);
    for (; j->n_items < other->n_items; j->n_items++) {
        const struct pd__item *from = &other->items[j->n_items];
        struct pd__item *it = &j->items[j->n_items];
        *it = (struct pd__item){
            .job = j, .row = from->row, .at = from->at, .line_no = from->line_no, .key = from->key};
        pd_ids_add(&it->ids, from->ids.ptr, from->ids.len);
    }
    j->sum->truncated = other->sum->truncated;
}

/* first: a job over the same prompts that is prepared, or NULL. */
static enum pd_rc prepare(struct pd__job *j, const struct pd__job *first,
                          struct pd_prompts *prompts, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct pd_answers_opts *opts = j->opts;
    if (!j->model->tok)
        return PD_FAIL(err, PD_INVALID, "%s has no tokenizer; answers cannot be made without one",
                       opts->model_name);
    if (opts->top_logprobs > j->model->cfg.vocab_size)
        return PD_FAIL(err, PD_INVALID, "--logprobs %lld: %s has %d tokens",
                       (long long)opts->top_logprobs, opts->model_name, j->model->cfg.vocab_size);
    j->sampling.eos =
        (struct pd_id_span){j->eos, pd_model_eos(j->model, j->eos, PD_ANSWERS_MAX_EOS)};
    if (opts->bad_words)
        PD_TRY(pd_bad_words_make(&j->bad, j->model->tok, opts->bad_words, err));
    j->sampling.bad_words = j->bad.spans;
    j->sampling.n_bad_words = j->bad.n;
    pd_stops_init(&j->stops, opts->stops, opts->n_stops);
    if (!first && opts->chat == PD_CHAT_AUTO && j->model->chat.kind == PD_CHAT_UNKNOWN &&
        !opts->quiet)
        fprintf(stderr,
                "the model's chat template cannot be read (%s): prompts are taken as plain text\n",
                j->model->chat.problem);
    j->where = j->model->path ? j->model->path : "";
    struct pd_prompt_opts po = pd_answers_prompt_opts(opts);
    j->chat = pd_prompt_chats(j->model, &po);
    PD_TRY(pd_sampling_check(&j->sampling, err));
    if (first)
        take_items(j, first);
    else
        PD_TRY(encode_all(j, prompts, err));
out:
    return rc;
}

static enum pd_rc run(struct run *r, struct pd_decoder *dec, struct pd_err *err)
{
    const struct pd_answers_opts *first = r->jobs[0].opts;
    struct tally t = tally_of(r);
    bool leave_out = r->prompts->skip_bad && r->n == 1; /* variants stand side by side in a row */
    struct pd_gen_opts go = {.max_rows = first->batch,
                             .max_kv_bytes = first->kv_bytes,
                             .done = on_done,
                             .stop = stop_seen,
                             .stuck = leave_out ? on_stuck : NULL,
                             .ctx = r};
    r->start_ns = pd_time_mono_ns();
    enum pd_rc rc = pd_gen_new(dec, &go, &r->gen, err);
    if (rc != PD_OK)
        return rc;
    pd_progress_init(&r->progress, "generating", "answers", t.answers, first->quiet);
    pd_progress_go_on(&r->progress, t.resumed);
    rc = run_all(r, err);
    pd_progress_finish(&r->progress, NULL);
    if (rc == PD_OK && r->jobs[0].n_failed > 0)
        rc = pd_prompts_verdict(r->prompts, (size_t)r->jobs[0].n_finished, err);
    summarise(r);
    pd_gen_free(r->gen);
    return rc;
}

enum pd_rc pd_answers_make(struct pd_decoder *dec, struct pd_prompts *prompts,
                           const struct pd_answers_opts *opts, size_t n,
                           struct pd_answers_summary *sums, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct run r = {.jobs = pd_xalloc(n * sizeof *r.jobs), .n = n, .prompts = prompts};
    size_t n_open = 0;
    for (size_t i = 0; i < n; i++) {
        pd__answers_init(&r.jobs[i], &opts[i], &sums[i]);
        r.jobs[i].model = pd_decoder_model(dec);
    }
    for (size_t i = 0; i < n; i++)
        PD_TRY(prepare(&r.jobs[i], i ? &r.jobs[0] : NULL, prompts, err));
    for (; n_open < n; n_open++)
        PD_TRY(pd__answers_open(&r.jobs[n_open], err));
    rc = run(&r, dec, err);
out:;
    enum pd_rc settled = rc;
    for (size_t i = 0; i < n; i++) {
        enum pd_rc one = i < n_open ? pd__answers_settle(&r.jobs[i], rc, err) : rc;
        settled = settled == PD_OK ? one : settled;
        pd__answers_release(&r.jobs[i]);
    }
    pd_free(r.jobs);
    return settled;
}
