#include "gen/answers_int.h"
#include "gen/damage.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/sig.h"
#include "base/time.h"

#include <stdio.h>
#include <string.h>

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
        *it = (struct pd__item){.row = prompts->v[i].row, .line_no = prompts->v[i].line};
        bool cut;
        enum pd_rc rc = pd_prompt_encode(j->model, &po, &prompts->v[i], &it->ids, &cut, &e);
        if (rc == PD_OK && prompts->v[i].ids)
            rc = add_text(j, it, &e);
        if (rc == PD_UNSUPPORTED || rc == PD_NOMEM) { /* no fault of this row */
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
    const struct pd__job *j = ctx;
    (void)prompt;
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

static enum pd_rc add_to_engine(struct pd__job *j, struct pd__item *it, uint64_t first, int64_t n,
                                struct pd_err *err)
{
    struct pd_prompt_opts po = pd_answers_prompt_opts(j->opts);
    struct pd_gen_prompt p = {.ids = it->ids.ptr,
                              .n = (int64_t)it->ids.len,
                              .key = it->key,
                              .n_answers = n,
                              .first_answer = first,
                              .sampling = j->sampling,
                              .max_new_tokens = pd_prompt_room(j->model, &po, (int64_t)it->ids.len),
                              .top_logprobs = j->opts->top_logprobs,
                              .user = it};
    return pd_gen_add(j->gen, &p, err);
}

static void show_progress(struct pd__job *j)
{
    struct pd_gen_stats st;
    char extra[64];
    pd_gen_stats(j->gen, &st);
    double seconds = (double)(pd_time_mono_ns() - j->start_ns) / 1e9;
    (void)snprintf(extra, sizeof extra, "%.0f tokens/s",
                   seconds > 0 ? (double)st.new_tokens / seconds : 0);
    pd_progress_update(&j->progress, j->n_finished * j->opts->n, extra);
}

static enum pd_rc take_answer(struct pd__job *j, struct pd__item *it, const struct pd_gen_answer *a,
                              struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    if (!it->slots)
        it->slots = pd_xalloc((size_t)j->opts->n * sizeof *it->slots);
    struct pd__slot *s = &it->slots[(int64_t)(a->answer & UINT32_MAX) - j->opts->first_answer];
    PD_TRY(fill_slot(j, s, a, err));
    if (++it->n_filled < j->opts->n)
        goto out;
    int64_t again = pd__answers_find_repeat(j, it);
    if (again < 0) {
        PD_TRY(pd__answers_finish_item(j, it, err));
        goto out;
    }
    /* the draw's number stands above the answer's in the name of the random stream */
    it->n_filled--;
    j->sum->redrawn++;
    s = &it->slots[again];
    s->redrawn++;
    PD_TRY(add_to_engine(
        j, it, (uint64_t)s->redrawn << 32 | (uint64_t)(j->opts->first_answer + again), 1, err));
out:
    return rc;
}

static void on_done(void *ctx, const struct pd_gen_prompt *prompt, const struct pd_gen_answer *a)
{
    struct pd__job *j = ctx;
    if (j->rc == PD_OK)
        j->rc = take_answer(j, prompt->user, a, &j->err);
}

/* ---- the job ---- */

/* A number that is not finite shows far from where it comes from. */
static enum pd_rc name_culprit(const struct pd__job *j, struct pd_err *err)
{
    const struct pd__item *it = pd_gen_culprit(j->gen);
    struct pd_err why = {0};
    if (pd_model_damage(j->model, &why) != PD_NONFINITE)
        (void)snprintf(why.msg, sizeof why.msg, "all weights are finite: a sum overflowed");
    const char *id = it ? json_object_get_string(pd_json_get(it->row, "id")) : "?";
    char *said = pd_xstrdup(err ? err->msg : "");
    enum pd_rc rc = PD_FAIL(err, PD_NONFINITE, "%s: prompt %.60s: %.200s (%s)", j->opts->model_name,
                            id, said, why.msg);
    pd_free(said);
    return rc;
}

static enum pd_rc run_all(struct pd__job *j, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    bool busy = false;
    for (int64_t i = 0; i < j->n_items; i++) {
        if (j->items[i].line)
            continue;
        PD_TRY(add_to_engine(j, &j->items[i], (uint64_t)j->opts->first_answer, j->opts->n, err));
        busy = true;
    }
    j->start_ns = pd_time_mono_ns();
    pd_progress_init(&j->progress, "generating", "answers", j->n_items * j->opts->n,
                     j->opts->quiet);
    j->progress.before = j->sum->resumed * j->opts->n;
    while (busy && !pd_sig_stop()) {
        rc = pd_gen_step(j->gen, &busy, err);
        if (rc == PD_NONFINITE)
            rc = name_culprit(j, err);
        if (rc != PD_OK)
            goto out;
        if (j->rc != PD_OK) {
            if (err)
                *err = j->err;
            rc = j->rc;
            goto out;
        }
        show_progress(j);
    }
    if (busy) {
        const char *how = j->partial ? "; the same command with --resume goes on" : "";
        rc = PD_FAIL(err, PD_INTERRUPTED, "interrupted: %lld of %lld prompts are answered%s",
                     (long long)j->n_finished, (long long)j->n_items, how);
    }
out:
    pd_progress_finish(&j->progress, NULL);
    return rc;
}

static void summarise(struct pd__job *j)
{
    struct pd_gen_stats st;
    pd_gen_stats(j->gen, &st);
    j->sum->prompts = j->n_finished;
    j->sum->answers = j->n_finished * j->opts->n;
    j->sum->prompt_tokens = st.prompt_tokens;
    j->sum->new_tokens = st.new_tokens;
    j->sum->peak_kv_bytes = st.peak_kv_bytes;
    j->sum->seconds = (double)(pd_time_mono_ns() - j->start_ns) / 1e9;
}

static enum pd_rc prepare(struct pd__job *j, struct pd_prompts *prompts, struct pd_err *err)
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
    if (opts->chat == PD_CHAT_AUTO && j->model->chat.kind == PD_CHAT_UNKNOWN && !opts->quiet)
        fprintf(stderr,
                "the model's chat template cannot be read (%s): prompts are taken as plain text\n",
                j->model->chat.problem);
    j->where = j->model->path ? j->model->path : "";
    struct pd_prompt_opts po = pd_answers_prompt_opts(opts);
    j->chat = pd_prompt_chats(j->model, &po);
    PD_TRY(pd_sampling_check(&j->sampling, err));
    PD_TRY(encode_all(j, prompts, err));
out:
    return rc;
}

static enum pd_rc run(struct pd__job *j, struct pd_err *err)
{
    struct pd_gen_opts go = {.seed = j->opts->seed,
                             .max_rows = j->opts->batch,
                             .max_kv_bytes = j->opts->kv_bytes,
                             .done = on_done,
                             .stop = stop_seen,
                             .ctx = j};
    enum pd_rc rc = pd_gen_new(j->dec, &go, &j->gen, err);
    if (rc == PD_OK) {
        rc = run_all(j, err);
        summarise(j);
    }
    pd_gen_free(j->gen);
    return rc;
}

enum pd_rc pd_answers_make(struct pd_decoder *dec, struct pd_prompts *prompts,
                           const struct pd_answers_opts *opts, struct pd_answers_summary *summary,
                           struct pd_err *err)
{
    static const struct pd__answerer decoder = {prepare, run};
    struct pd__job j = {.dec = dec,
                        .model = pd_decoder_model(dec),
                        .opts = opts,
                        .sum = summary,
                        .sampling = opts->sampling};
    return pd__answers_do(&j, &decoder, prompts, err);
}
