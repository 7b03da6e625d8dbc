#include "gen/answers_int.h"
#include "base/json.h"

#include <stdio.h>
#include <string.h>

void pd_answers_settings(const struct pd_answers_opts *o, bool chat, struct pd_buf *out)
{
    const struct pd_sampling *s = &o->sampling;
    struct pd_jw w;
    pd_jw_init(&w, out);
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
    if (o->bad_words && o->bad_words->n) {
        char hash[24];
        (void)snprintf(hash, sizeof hash, "%016llx",
                       (unsigned long long)pd_words_hash(o->bad_words));
        pd_jw_key(&w, "bad_words");
        pd_jw_object(&w);
        pd_jw_ki64(&w, "n", (int64_t)o->bad_words->n);
        pd_jw_kstrz(&w, "hash", hash);
        pd_jw_object_end(&w);
    }
    if (o->too_long == PD_TOO_LONG_TRUNCATE_LEFT)
        pd_jw_kstrz(&w, "too_long", "truncate-left");
    pd_jw_kbool(&w, "chat", chat);
    pd_jw_object_end(&w);
}

static void write_float(struct pd_jw *w, float v)
{
    char number[32];
    int n = snprintf(number, sizeof number, "%.9g", (double)v); /* a float, exactly */
    pd_jw_raw(w, (struct pd_str){number, (size_t)n});
}

static void write_logprobs(struct pd_jw *w, const struct pd__slot *s)
{
    pd_jw_key(w, "logprobs");
    pd_jw_array(w);
    for (int64_t i = 0; i < s->n; i++)
        write_float(w, s->logprobs[i]);
    pd_jw_array_end(w);
}

/* [[[id, logprob], ...], ...]: for each token the likeliest at its place, best first. */
static void write_top(struct pd_jw *w, const struct pd__slot *s, int64_t k)
{
    pd_jw_key(w, "top_logprobs");
    pd_jw_array(w);
    for (int64_t i = 0; i < s->n; i++) {
        pd_jw_array(w);
        for (int64_t t = i * k; t < (i + 1) * k; t++) {
            pd_jw_array(w);
            pd_jw_i64(w, s->top[t].id);
            write_float(w, s->top[t].logprob);
            pd_jw_array_end(w);
        }
        pd_jw_array_end(w);
    }
    pd_jw_array_end(w);
}

static void write_answer(const struct pd__job *j, struct pd_jw *w, const struct pd__slot *s)
{
    pd_jw_object(w);
    pd_jw_kstr(w, "text", (struct pd_str){s->text, s->text_len});
    pd_jw_kstrz(w, "model", j->opts->model_name);
    pd_jw_key(w, "tokens");
    if (s->n >= 0)
        pd_jw_i64(w, s->n);
    else
        pd_jw_null(w);
    pd_jw_kstrz(w, "finish_reason", pd_finish_name(s->finish));
    if (s->ids) {
        pd_jw_kf64(w, "logprob", s->logprob);
        pd_jw_key(w, "ids");
        pd_jw_array(w);
        for (int64_t i = 0; i < s->n; i++)
            pd_jw_i64(w, s->ids[i]);
        pd_jw_array_end(w);
    }
    if (s->logprobs)
        write_logprobs(w, s);
    if (s->top)
        write_top(w, s, j->opts->top_logprobs);
    if (s->duplicate)
        pd_jw_kbool(w, "duplicate", true);
    pd_jw_object_end(w);
}

/* The finished line of answers.jsonl; keys of the prompt's row that we do not write go along. */
char *pd__answers_line(const struct pd__job *j, const struct pd__item *it)
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
