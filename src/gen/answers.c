#include "gen/answers_int.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/sig.h"
#include "base/time.h"

#include <stdio.h>
#include <string.h>

/* ---- prompts to ids ---- */

static bool use_chat(const struct pd__job *j, struct json_object *prompt)
{
    return json_object_is_type(prompt, json_type_array) || j->opts->chat == PD_CHAT_ON ||
           (j->opts->chat == PD_CHAT_AUTO && j->model->chat.kind == PD_CHAT_CHATML);
}

static enum pd_rc encode_prompt(const struct pd__job *j, struct json_object *prompt,
                                struct pd_ids *ids, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_chat_msg *msgs = NULL, one = {PD_STR("user"), pd_json_value_str(prompt)};
    size_t n = 1;
    unsigned flags = PD_TOK_ADD_SPECIAL | (j->opts->special ? PD_TOK_PARSE_SPECIAL : 0);
    if (!use_chat(j, prompt)) {
        PD_TRY(pd_tokenizer_encode(j->model->tok, pd_json_value_str(prompt), flags, ids, err));
    } else {
        if (json_object_is_type(prompt, json_type_array))
            PD_TRY(pd_chat_msgs_from_json(prompt, &msgs, &n, err));
        PD_TRY(
            pd_chat_encode(&j->model->chat, j->model->tok, msgs ? msgs : &one, n, true, ids, err));
    }
    if (ids->len == 0)
        rc = PD_FAIL(err, PD_INVALID, "the prompt has no tokens");
out:
    pd_free(msgs);
    return rc;
}

/* Tokens an answer to a prompt of n tokens may have; <= 0: none. */
static int64_t room_for(const struct pd__job *j, int64_t n)
{
    int64_t room = pd_config_context(&j->model->cfg) - n;
    int64_t most = j->opts->max_new_tokens > 0 ? j->opts->max_new_tokens : j->opts->max_length - n;
    return most < room ? most : room;
}

static enum pd_rc check_room(const struct pd__job *j, int64_t n, struct pd_err *err)
{
    if (room_for(j, n) > 0)
        return PD_OK;
    int64_t context = pd_config_context(&j->model->cfg), limit = j->opts->max_length;
    bool by_context = j->opts->max_new_tokens > 0 || limit > context;
    return PD_FAIL(err, PD_INVALID, "the prompt has %lld tokens, no room is left within %s %lld",
                   (long long)n, by_context ? "the model's context of" : "--max-length",
                   (long long)(by_context ? context : limit));
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
    struct pd_map seen;
    pd_map_init(&seen);
    j->items = pd_xalloc((prompts->n + 1) * sizeof *j->items);
    for (size_t i = 0; i < prompts->n; i++) {
        struct pd__item *it = &j->items[j->n_items];
        struct pd_err e;
        *it = (struct pd__item){.row = prompts->v[i].row, .line_no = prompts->v[i].line};
        enum pd_rc rc = encode_prompt(j, pd_json_get(it->row, "prompt"), &it->ids, &e);
        if (rc == PD_UNSUPPORTED || rc == PD_NOMEM) { /* no fault of this row */
            if (err)
                *err = e;
            pd_ids_release(&it->ids);
            pd_map_release(&seen);
            return rc;
        }
        if (rc == PD_OK)
            rc = check_room(j, (int64_t)it->ids.len, &e);
        if (rc != PD_OK) {
            pd_prompts_bad(prompts, prompts->v[i].line, "%s", e.msg);
            pd_ids_release(&it->ids);
            continue;
        }
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
    pd_free(s->text);
    pd_free(s->ids);
    *s = (struct pd__slot){.n = a->n, .finish = a->finish, .redrawn = redrawn, .filled = true};
    s->text_len = pd_stops_find(&j->stops, pd_buf_str(&text));
    s->text = pd_xstrndup(pd_buf_cstr(&text), s->text_len);
    s->ids = pd_xalloc((size_t)a->n * sizeof *s->ids + 1);
    memcpy(s->ids, a->ids, (size_t)a->n * sizeof *s->ids);
    for (int64_t i = 0; i < a->n; i++)
        s->logprob += a->raw_logprobs[i];
    pd_buf_release(&text);
    return PD_OK;
}

static enum pd_rc add_to_engine(struct pd__job *j, struct pd__item *it, uint64_t first, int64_t n,
                                struct pd_err *err)
{
    struct pd_gen_prompt p = {.ids = it->ids.ptr,
                              .n = (int64_t)it->ids.len,
                              .key = it->key,
                              .n_answers = n,
                              .first_answer = first,
                              .sampling = j->sampling,
                              .max_new_tokens = room_for(j, (int64_t)it->ids.len),
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
    struct pd__slot *s = &it->slots[a->answer & UINT32_MAX];
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
    PD_TRY(add_to_engine(j, it, (uint64_t)s->redrawn << 32 | (uint64_t)again, 1, err));
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

static enum pd_rc run_all(struct pd__job *j, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    bool busy = false;
    for (int64_t i = 0; i < j->n_items; i++) {
        if (j->items[i].line)
            continue;
        PD_TRY(add_to_engine(j, &j->items[i], 0, j->opts->n, err));
        busy = true;
    }
    j->start_ns = pd_time_mono_ns();
    pd_progress_init(&j->progress, "generating", "answers", j->n_items * j->opts->n,
                     j->opts->quiet);
    while (busy && !pd_sig_stop()) {
        PD_TRY(pd_gen_step(j->gen, &busy, err));
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
    const struct pd_answers_opts *opts = j->opts;
    if (!j->model->tok)
        return PD_FAIL(err, PD_INVALID, "%s has no tokenizer; answers cannot be made without one",
                       opts->model_name);
    j->sampling.eos =
        (struct pd_id_span){j->eos, pd_model_eos(j->model, j->eos, PD_ANSWERS_MAX_EOS)};
    pd_stops_init(&j->stops, opts->stops, opts->n_stops);
    if (opts->chat == PD_CHAT_AUTO && j->model->chat.kind == PD_CHAT_UNKNOWN && !opts->quiet)
        fprintf(stderr, "the model's chat template is not one that is known: prompts are taken as "
                        "plain text\n");
    j->where = j->model->path ? j->model->path : "";
    j->chat = use_chat(j, NULL);
    enum pd_rc rc = pd_sampling_check(&j->sampling, err);
    return rc == PD_OK ? encode_all(j, prompts, err) : rc;
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
