#include "lm/answers.h"
#include "lm/model.h"
#include "lm/same_text.h"
#include "base/fs.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/progress.h"
#include "base/sig.h"
#include "base/time.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MAX_EOS = 16, MAX_LINE = 1 << 28 };

/* One answer of one prompt, as it will be written. */
struct slot {
    char *text;
    size_t text_len;
    int32_t *ids;
    int64_t n;
    double logprob;
    enum pd_finish finish;
    int64_t redrawn;
    bool filled, duplicate;
};

struct item {
    struct json_object *row; /* borrowed from the prompts */
    struct pd_ids ids;
    uint64_t key;       /* names its random streams */
    struct slot *slots; /* opts.n, from the first answer to the last */
    int64_t n_filled;
    char *line; /* the finished row, without newline */
};

struct job {
    struct pd_decoder *dec;
    const struct pd_model *model;
    const struct pd_answers_opts *opts;
    struct pd_answers_summary *sum;
    struct item *items;
    int64_t n_items, n_finished;
    int32_t eos[MAX_EOS];
    struct pd_sampling sampling;
    struct pd_buf settings; /* JSON: "params" of every row */
    struct pd_gen *gen;
    FILE *partial;
    char *partial_path;
    size_t longest_stop;
    int64_t start_ns;
    struct pd_progress progress;
    enum pd_rc rc; /* of a callback */
    struct pd_err err;
};

int pd_answers_eos(const struct pd_model *m, int32_t *ids, int max)
{
    int n = 0;
    for (int i = 0; i < m->cfg.n_eos && n < max; i++)
        ids[n++] = m->cfg.eos_ids[i];
    int32_t own = m->tok ? pd_tokenizer_eos(m->tok) : -1;
    for (int i = 0; i < n; i++)
        if (ids[i] == own)
            own = -1;
    if (own >= 0 && n < max)
        ids[n++] = own;
    return n;
}

/* ---- prompts to ids ---- */

static bool use_chat(const struct job *j, struct json_object *prompt)
{
    return json_object_is_type(prompt, json_type_array) || j->opts->chat == PD_CHAT_ON ||
           (j->opts->chat == PD_CHAT_AUTO && j->model->chat.kind == PD_CHAT_CHATML);
}

static enum pd_rc encode_prompt(const struct job *j, struct json_object *prompt, struct pd_ids *ids,
                                struct pd_err *err)
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
static int64_t room_for(const struct job *j, int64_t n)
{
    int64_t room = j->model->cfg.max_positions - n;
    int64_t most = j->opts->max_new_tokens > 0 ? j->opts->max_new_tokens : j->opts->max_length - n;
    return most < room ? most : room;
}

static enum pd_rc check_room(const struct job *j, int64_t n, struct pd_err *err)
{
    if (room_for(j, n) > 0)
        return PD_OK;
    int64_t context = j->model->cfg.max_positions, limit = j->opts->max_length;
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
    uint64_t key = (uint64_t)before;
    for (size_t t = 0; t < ids->len; t++)
        key = pd_rng_mix(key, (uint64_t)ids->ptr[t]);
    return key;
}

static enum pd_rc encode_all(struct job *j, struct pd_prompts *prompts, struct pd_err *err)
{
    struct pd_map seen;
    pd_map_init(&seen);
    j->items = pd_xalloc((prompts->n + 1) * sizeof *j->items);
    for (size_t i = 0; i < prompts->n; i++) {
        struct item *it = &j->items[j->n_items];
        struct pd_err e;
        *it = (struct item){.row = prompts->v[i].row};
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

/* ---- rows ---- */

static void write_params(struct job *j)
{
    const struct pd_answers_opts *o = j->opts;
    const struct pd_sampling *s = &o->sampling;
    struct pd_jw w;
    pd_jw_init(&w, &j->settings);
    pd_jw_object(&w);
    pd_jw_ki64(&w, "n", o->n);
    if (o->max_new_tokens > 0)
        pd_jw_ki64(&w, "max_new_tokens", o->max_new_tokens);
    else
        pd_jw_ki64(&w, "max_length", o->max_length);
    pd_jw_kbool(&w, "greedy", s->greedy);
    if (!s->greedy) {
        pd_jw_kf64(&w, "temperature", s->temperature);
        pd_jw_ki64(&w, "top_k", s->top_k);
        pd_jw_kf64(&w, "top_p", s->top_p);
        if (s->min_p > 0)
            pd_jw_kf64(&w, "min_p", s->min_p);
        if (s->typical_p < 1)
            pd_jw_kf64(&w, "typical_p", s->typical_p);
    }
    if (s->repetition_penalty != 1)
        pd_jw_kf64(&w, "repetition_penalty", s->repetition_penalty);
    if (s->no_repeat_ngram > 0)
        pd_jw_ki64(&w, "no_repeat_ngram_size", s->no_repeat_ngram);
    if (s->min_new_tokens > 0)
        pd_jw_ki64(&w, "min_new_tokens", s->min_new_tokens);
    if (o->n_stops) {
        pd_jw_key(&w, "stop");
        pd_jw_array(&w);
        for (size_t i = 0; i < o->n_stops; i++)
            pd_jw_strz(&w, o->stops[i]);
        pd_jw_array_end(&w);
    }
    pd_jw_kbool(&w, "chat",
                o->chat == PD_CHAT_ON ||
                    (o->chat == PD_CHAT_AUTO && j->model->chat.kind == PD_CHAT_CHATML));
    pd_jw_object_end(&w);
}

static void write_answer(const struct job *j, struct pd_jw *w, const struct slot *s)
{
    pd_jw_object(w);
    pd_jw_kstr(w, "text", (struct pd_str){s->text, s->text_len});
    pd_jw_kstrz(w, "model", j->opts->model_name);
    pd_jw_ki64(w, "tokens", s->n);
    pd_jw_kstrz(w, "finish_reason", pd_finish_name(s->finish));
    pd_jw_kf64(w, "logprob", s->logprob);
    pd_jw_key(w, "ids");
    pd_jw_array(w);
    for (int64_t i = 0; i < s->n; i++)
        pd_jw_i64(w, s->ids[i]);
    pd_jw_array_end(w);
    if (s->duplicate)
        pd_jw_kbool(w, "duplicate", true);
    pd_jw_object_end(w);
}

/* The finished line of answers.jsonl; keys of the prompt's row that we do not write go along. */
static char *make_line(const struct job *j, const struct item *it)
{
    struct pd_buf buf;
    struct pd_jw w;
    pd_buf_init(&buf, 0);
    pd_jw_init(&w, &buf);
    pd_jw_object(&w);
    pd_jw_key(&w, "id");
    pd_jw_tree(&w, pd_json_get(it->row, "id"));
    pd_jw_key(&w, "prompt");
    pd_jw_tree(&w, pd_json_get(it->row, "prompt"));
    pd_jw_key(&w, "answers");
    pd_jw_array(&w);
    for (int64_t i = 0; i < j->opts->n; i++)
        write_answer(j, &w, &it->slots[i]);
    pd_jw_array_end(&w);
    pd_jw_key(&w, "params");
    pd_jw_raw(&w, pd_buf_str(&j->settings));
    pd_jw_ki64(&w, "seed", (int64_t)j->opts->seed);
    json_object_object_foreach(it->row, key, value)
    {
        static const char *const ours[] = {"id", "prompt", "answers", "params", "seed"};
        bool known = false;
        for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
            known = known || strcmp(key, ours[i]) == 0;
        if (!known) {
            pd_jw_key(&w, key);
            pd_jw_tree(&w, value);
        }
    }
    pd_jw_object_end(&w);
    return pd_buf_detach(&buf);
}

/* ---- what the engine hands over ---- */

/* Where the first stop text begins in text, or its length. */
static size_t find_stop(const struct job *j, struct pd_str text)
{
    size_t first = text.len;
    for (size_t i = 0; i < j->opts->n_stops; i++) {
        const char *at =
            text.len ? memmem(text.ptr, text.len, j->opts->stops[i], strlen(j->opts->stops[i]))
                     : NULL;
        if (at && (size_t)(at - text.ptr) < first)
            first = (size_t)(at - text.ptr);
    }
    return first;
}

/* Only as many last tokens are looked at as the longest stop text has bytes: one that ends in the
 * newest token cannot begin before them. */
static bool stop_seen(void *ctx, const struct pd_gen_prompt *prompt, const struct pd_gen_answer *a)
{
    const struct job *j = ctx;
    (void)prompt;
    if (!j->opts->n_stops)
        return false;
    struct pd_buf tail;
    pd_buf_init(&tail, 0);
    int64_t from = a->n, want = (int64_t)j->longest_stop;
    while (from > 0 && want > 0) {
        from--;
        struct pd_str bytes = pd_tokenizer_bytes(j->model->tok, a->ids[from]);
        if (from < a->n - 1)
            want -= (int64_t)bytes.len;
    }
    for (int64_t i = from; i < a->n; i++)
        if (!pd_tokenizer_is_special(j->model->tok, a->ids[i]))
            pd_buf_addstr(&tail, pd_tokenizer_bytes(j->model->tok, a->ids[i]));
    bool seen = find_stop(j, pd_buf_str(&tail)) < tail.len;
    pd_buf_release(&tail);
    return seen;
}

static enum pd_rc fill_slot(struct job *j, struct slot *s, const struct pd_gen_answer *a,
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
    *s = (struct slot){.n = a->n, .finish = a->finish, .redrawn = redrawn, .filled = true};
    s->text_len = find_stop(j, pd_buf_str(&text));
    s->text = pd_xstrndup(pd_buf_cstr(&text), s->text_len);
    s->ids = pd_xalloc((size_t)a->n * sizeof *s->ids + 1);
    memcpy(s->ids, a->ids, (size_t)a->n * sizeof *s->ids);
    for (int64_t i = 0; i < a->n; i++)
        s->logprob += a->raw_logprobs[i];
    pd_buf_release(&text);
    return PD_OK;
}

/* Slot of an answer that repeats an earlier one, or -1. Those drawn often enough are marked. */
static int64_t find_repeat(struct job *j, struct item *it)
{
    for (int64_t b = 1; b < j->opts->n; b++)
        for (int64_t a = 0; a < b; a++) {
            struct slot *x = &it->slots[a], *y = &it->slots[b];
            if (y->duplicate || !pd_same_text((struct pd_str){x->text, x->text_len},
                                              (struct pd_str){y->text, y->text_len}))
                continue;
            if (y->redrawn < j->opts->resamples && !j->sampling.greedy)
                return b;
            y->duplicate = true;
        }
    return -1;
}

static enum pd_rc add_to_engine(struct job *j, struct item *it, uint64_t first, int64_t n,
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

static void show_progress(struct job *j)
{
    struct pd_gen_stats st;
    char extra[64];
    pd_gen_stats(j->gen, &st);
    double seconds = (double)(pd_time_mono_ns() - j->start_ns) / 1e9;
    (void)snprintf(extra, sizeof extra, "%.0f tokens/s",
                   seconds > 0 ? (double)st.new_tokens / seconds : 0);
    pd_progress_update(&j->progress, j->n_finished * j->opts->n, extra);
}

static enum pd_rc finish_item(struct job *j, struct item *it, struct pd_err *err)
{
    for (int64_t i = 0; i < j->opts->n; i++) {
        j->sum->duplicates += it->slots[i].duplicate;
        j->sum->stopped += it->slots[i].finish == PD_FINISH_STOP;
    }
    it->line = make_line(j, it);
    for (int64_t i = 0; i < j->opts->n; i++) {
        pd_free(it->slots[i].text);
        pd_free(it->slots[i].ids);
    }
    pd_free(it->slots);
    it->slots = NULL;
    j->n_finished++;
    if (j->partial && (fprintf(j->partial, "{\"index\":%lld,\"row\":%s}\n",
                               (long long)(it - j->items), it->line) < 0 ||
                       fflush(j->partial) != 0))
        return PD_FAIL_SYS(err, PD_IO, "cannot write %s", j->partial_path);
    return PD_OK;
}

static enum pd_rc take_answer(struct job *j, struct item *it, const struct pd_gen_answer *a,
                              struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    if (!it->slots)
        it->slots = pd_xalloc((size_t)j->opts->n * sizeof *it->slots);
    struct slot *s = &it->slots[a->answer & UINT32_MAX];
    PD_TRY(fill_slot(j, s, a, err));
    if (++it->n_filled < j->opts->n)
        goto out;
    int64_t again = find_repeat(j, it);
    if (again < 0) {
        PD_TRY(finish_item(j, it, err));
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
    struct job *j = ctx;
    if (j->rc == PD_OK)
        j->rc = take_answer(j, prompt->user, a, &j->err);
}

/* ---- the partial file ---- */

/* The first line of OUT.partial: what must be the same for its rows to count. */
static char *partial_head(const struct job *j)
{
    struct pd_buf buf;
    struct pd_jw w;
    uint64_t hash = 0;
    for (int64_t i = 0; i < j->n_items; i++)
        hash = pd_rng_mix(hash, j->items[i].key);
    pd_buf_init(&buf, 0);
    pd_jw_init(&w, &buf);
    pd_jw_object(&w);
    pd_jw_kstrz(&w, "podium", "generate");
    pd_jw_kstrz(&w, "model", j->opts->model_name);
    pd_jw_key(&w, "params");
    pd_jw_raw(&w, pd_buf_str(&j->settings));
    pd_jw_ki64(&w, "seed", (int64_t)j->opts->seed);
    pd_jw_ki64(&w, "prompts", j->n_items);
    pd_jw_ki64(&w, "hash", (int64_t)hash);
    pd_jw_object_end(&w);
    return pd_buf_detach(&buf);
}

/* Takes the rows of an interrupted run. Its last line may be cut short; that one is dropped. */
static enum pd_rc load_partial(struct job *j, const char *head, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_lines *lines = NULL;
    struct pd_str line;
    bool more;
    PD_TRY(pd_lines_open(&lines, j->partial_path, MAX_LINE, err));
    PD_TRY(pd_lines_next(lines, &line, &more, err));
    if (!more || !pd_str_eqz(line, head)) {
        rc = PD_FAIL(err, PD_CONFLICT,
                     "%s was left by a run with other settings or prompts; use those again, or "
                     "remove it",
                     j->partial_path);
        goto out;
    }
    for (;;) {
        PD_TRY(pd_lines_next(lines, &line, &more, err));
        if (!more)
            break;
        struct json_object *o = NULL;
        if (pd_json_parse(line, &o, NULL) != PD_OK)
            break;
        int64_t i = pd_json_i64(o, "index", -1);
        struct json_object *row = pd_json_get(o, "row");
        if (i >= 0 && i < j->n_items && row && !j->items[i].line) {
            struct pd_buf buf;
            struct pd_jw w;
            pd_buf_init(&buf, 0);
            pd_jw_init(&w, &buf);
            pd_jw_tree(&w, row);
            j->items[i].line = pd_buf_detach(&buf);
            j->n_finished++;
        }
        json_object_put(o);
    }
    j->sum->resumed = j->n_finished;
out:
    pd_lines_close(lines);
    return rc;
}

static enum pd_rc open_partial(struct job *j, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char *head = NULL;
    if (strcmp(j->opts->out, "-") == 0)
        return PD_OK;
    j->partial_path = pd_xasprintf("%s.partial", j->opts->out);
    head = partial_head(j);
    if (pd_fs_exists(j->partial_path)) {
        if (!j->opts->resume) {
            rc = PD_FAIL(err, PD_CONFLICT,
                         "%s was left by an interrupted run; add --resume to go on with it, or "
                         "remove it",
                         j->partial_path);
            goto out;
        }
        PD_TRY(load_partial(j, head, err));
    }
    /* written afresh, so that a line cut short by a crash does not stay in the middle */
    j->partial = fopen(j->partial_path, "w");
    bool ok = j->partial && fprintf(j->partial, "%s\n", head) > 0;
    for (int64_t i = 0; ok && i < j->n_items; i++)
        if (j->items[i].line)
            ok = fprintf(j->partial, "{\"index\":%lld,\"row\":%s}\n", (long long)i,
                         j->items[i].line) > 0;
    if (!ok || fflush(j->partial) != 0)
        rc = PD_FAIL_SYS(err, PD_IO, "cannot write %s", j->partial_path);
out:
    pd_free(head);
    return rc;
}

static enum pd_rc write_out(struct job *j, struct pd_err *err)
{
    struct pd_out out;
    enum pd_rc rc = pd_out_open(&out, j->opts->out, err);
    for (int64_t i = 0; rc == PD_OK && i < j->n_items; i++) {
        if (!j->items[i].line)
            continue;
        rc = pd_out_write(&out, pd_str_from(j->items[i].line), err);
        if (rc == PD_OK)
            rc = pd_out_write(&out, PD_STR("\n"), err);
    }
    if (rc == PD_OK)
        rc = pd_out_commit(&out, err);
    else
        pd_out_abandon(&out);
    return rc;
}

/* ---- the job ---- */

static enum pd_rc run(struct job *j, struct pd_err *err)
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

static void summarise(struct job *j)
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

static void release(struct job *j)
{
    for (int64_t i = 0; i < j->n_items; i++) {
        struct item *it = &j->items[i];
        for (int64_t s = 0; it->slots && s < j->opts->n; s++) {
            pd_free(it->slots[s].text);
            pd_free(it->slots[s].ids);
        }
        pd_free(it->slots);
        pd_free(it->line);
        pd_ids_release(&it->ids);
    }
    pd_free(j->items);
    pd_gen_free(j->gen);
    pd_buf_release(&j->settings);
    if (j->partial)
        (void)fclose(j->partial);
    pd_free(j->partial_path);
}

enum pd_rc pd_answers_make(struct pd_decoder *dec, struct pd_prompts *prompts,
                           const struct pd_answers_opts *opts, struct pd_answers_summary *summary,
                           struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct job j = {.dec = dec,
                    .model = pd_decoder_model(dec),
                    .opts = opts,
                    .sum = summary,
                    .sampling = opts->sampling};
    memset(summary, 0, sizeof *summary);
    pd_buf_init(&j.settings, 0);
    j.sampling.eos = (struct pd_id_span){j.eos, pd_answers_eos(j.model, j.eos, MAX_EOS)};
    for (size_t i = 0; i < opts->n_stops; i++)
        if (strlen(opts->stops[i]) > j.longest_stop)
            j.longest_stop = strlen(opts->stops[i]);
    write_params(&j);
    PD_TRY(pd_sampling_check(&j.sampling, err));
    PD_TRY(encode_all(&j, prompts, err));
    PD_TRY(open_partial(&j, err));
    struct pd_gen_opts go = {.seed = opts->seed,
                             .max_rows = opts->batch,
                             .max_kv_bytes = opts->kv_bytes,
                             .done = on_done,
                             .stop = stop_seen,
                             .ctx = &j};
    PD_TRY(pd_gen_new(dec, &go, &j.gen, err));
    rc = run(&j, err);
    summarise(&j);
    if (rc == PD_OK || (rc == PD_INTERRUPTED && !j.partial)) {
        enum pd_rc written = write_out(&j, rc == PD_OK ? err : NULL);
        if (rc == PD_OK)
            rc = written;
        if (rc == PD_OK && j.partial)
            (void)unlink(j.partial_path);
    }
out:
    release(&j);
    return rc;
}
