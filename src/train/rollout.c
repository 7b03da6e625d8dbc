#include "train/rollout.h"
#include "base/mem.h"
#include "lm/model.h"
#include "train/rows.h"

#include <math.h>

/* ---- prompts ---- */

/* Text as the one message of a user. */
static enum pd_rc encode_as_user(const struct pd_model *m, struct pd_str text, struct pd_ids *out,
                                 struct pd_err *err)
{
    struct pd_chat_msg msg = {.role = PD_STR("user"), .content = text};
    return pd_chat_encode(&m->chat, m->tok, &msg, 1, true, out, err);
}

static enum pd_rc encode_messages(const struct pd_model *m, struct json_object *list,
                                  struct pd_ids *out, struct pd_err *err)
{
    struct pd_chat_msg *msgs = NULL;
    size_t n;
    enum pd_rc rc = pd_chat_msgs_from_json(list, &msgs, &n, err);
    if (rc == PD_OK)
        rc = pd_chat_encode(&m->chat, m->tok, msgs, n, true, out, err);
    pd_free(msgs);
    return rc;
}

static enum pd_rc encode_prompt(const struct pd_model *m, struct json_object *prompt, bool chat,
                                struct pd_policy_prompt *out, struct pd_err *err)
{
    enum pd_rc rc;
    struct pd_ids ids = {0};
    out->prompt = prompt;
    out->plain = json_object_is_type(prompt, json_type_string) && !chat;
    if (!json_object_is_type(prompt, json_type_string))
        rc = encode_messages(m, prompt, &ids, err);
    else if (chat)
        rc = encode_as_user(m, pd_json_value_str(prompt), &ids, err);
    else
        rc = pd_tokenizer_encode(m->tok, pd_json_value_str(prompt), PD_TOK_TRAINING, &ids, err);
    if (rc == PD_OK && ids.len == 0)
        rc = PD_FAIL(err, PD_INVALID, "the prompt has no tokens");
    if (rc != PD_OK) {
        pd_ids_release(&ids);
        return rc;
    }
    out->ids = ids.ptr;
    out->n = (int64_t)ids.len;
    return PD_OK;
}

enum pd_rc pd_policy_prompts_read(struct pd_policy_prompts *p, const char *path,
                                  const struct pd_model *m, const char *chat, int64_t max_length,
                                  bool skip_bad, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    *p = (struct pd_policy_prompts){0};
    if (!m->tok)
        return PD_FAIL(err, PD_INVALID, "%s has no tokenizer", m->path);
    bool use_chat =
        strcmp(chat, "on") == 0 || (strcmp(chat, "auto") == 0 && m->chat.kind == PD_CHAT_TEMPLATE);
    PD_TRY(pd_prompts_read(&p->rows, path, skip_bad, err));
    p->v = pd_xalloc((p->rows.n + 1) * sizeof *p->v);
    for (size_t i = 0; i < p->rows.n; i++) {
        struct pd_err why = {0};
        struct pd_policy_prompt one = {0};
        struct json_object *prompt = pd_json_get(p->rows.v[i].row, "prompt");
        if (encode_prompt(m, prompt, use_chat, &one, &why) != PD_OK) {
            pd_prompts_bad(&p->rows, p->rows.v[i].line, "%s", why.msg);
        } else if (one.n > max_length) {
            p->n_too_long++;
            pd_free(one.ids);
        } else {
            one.row = p->rows.v[i].row;
            p->v[p->n++] = one;
        }
    }
    PD_TRY(pd_prompts_verdict(&p->rows, p->n + p->n_too_long, err));
    if (p->n == 0)
        rc = PD_FAIL(err, PD_INVALID, "%s: all %zu prompts have more than %lld tokens", path,
                     p->n_too_long, (long long)max_length);
out:
    if (rc != PD_OK)
        pd_policy_prompts_release(p);
    return rc;
}

void pd_policy_prompts_release(struct pd_policy_prompts *p)
{
    for (size_t i = 0; i < p->n; i++)
        pd_free(p->v[i].ids);
    pd_free(p->v);
    pd_prompts_release(&p->rows);
    *p = (struct pd_policy_prompts){0};
}

/* ---- rollouts ---- */

static struct pd_sequence sequence_of(const struct pd_rollout *r)
{
    /* the row before each slot's token: the last answer token is read only with an extra slot */
    return (struct pd_sequence){.ids = r->seq, .len = r->prompt->n - 1 + (int64_t)r->n_slots};
}

static int64_t group_sequences(const struct pd_rollouts *r, const struct pd_group *g,
                               struct pd_sequence *out)
{
    for (size_t i = 0; i < g->n; i++)
        out[i] = sequence_of(&r->v[g->first + i]);
    return pd_sequences_rows(out, (int)g->n);
}

/* Slots, trees and arrays, once the answers are there. */
static void lay_out(struct pd_rollouts *r, size_t per_group, const struct pd_sampling_plan *plan)
{
    struct pd_sequence *seqs = pd_xalloc((per_group + 1) * sizeof *seqs);
    r->n_groups = r->n / per_group;
    r->groups = pd_xalloc((r->n_groups + 1) * sizeof *r->groups);
    for (size_t i = 0; i < r->n; i++) {
        struct pd_rollout *one = &r->v[i];
        one->n_slots = (size_t)one->n + (plan->extra_slot && one->n < plan->max_new ? 1 : 0);
        one->at = r->n_slots;
        r->n_slots += one->n_slots;
        r->n_tokens += (size_t)one->n;
    }
    for (size_t g = 0; g < r->n_groups; g++) {
        r->groups[g] = (struct pd_group){.first = g * per_group, .n = per_group, .x_at = r->rows};
        r->groups[g].rows = group_sequences(r, &r->groups[g], seqs);
        r->rows += r->groups[g].rows;
    }
    size_t n = r->n_slots + 1;
    r->logprob = pd_xalloc(n * sizeof *r->logprob);
    r->ref_logprob = pd_xalloc(n * sizeof *r->ref_logprob);
    r->entropy = pd_xalloc(n * sizeof *r->entropy);
    r->value = pd_xalloc(n * sizeof *r->value);
    r->reward = pd_xalloc(n * sizeof *r->reward);
    r->advantage = pd_xalloc(n * sizeof *r->advantage);
    r->ret = pd_xalloc(n * sizeof *r->ret);
    pd_free(seqs);
}

static enum pd_rc set_text(struct pd_rollout *r, const struct pd_model *m, struct pd_err *err)
{
    pd_buf_init(&r->text, 0);
    if (!m->tok)
        return PD_OK;
    return pd_tokenizer_decode(m->tok, r->seq + r->prompt->n, (size_t)(r->n - (r->ended ? 1 : 0)),
                               true, &r->text, err);
}

static enum pd_rc set_rollout(struct pd_rollout *r, const struct pd_policy_prompt *prompt,
                              const int32_t *ids, int64_t n, bool ended, const struct pd_model *m,
                              struct pd_err *err)
{
    r->prompt = prompt;
    r->n = (int32_t)n;
    r->ended = ended;
    r->seq = pd_xalloc((size_t)(prompt->n + n) * sizeof *r->seq);
    memcpy(r->seq, prompt->ids, (size_t)prompt->n * sizeof *r->seq);
    memcpy(r->seq + prompt->n, ids, (size_t)n * sizeof *r->seq);
    return set_text(r, m, err);
}

enum pd_rc pd_rollouts_sample(struct pd_rollouts *r, struct pd_decoder *dec,
                              const struct pd_policy_prompt *const *prompts, size_t n,
                              const struct pd_sampling_plan *plan, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct pd_model *m = pd_decoder_model(dec);
    int32_t eos[PD_CONFIG_MAX_EOS + 2];
    struct pd_gen_opts opts = {.seed = plan->seed};
    struct pd_gen_result result = {0};
    struct pd_gen_prompt *list = pd_xalloc((n + 1) * sizeof *list);
    struct pd_sampling how;
    *r = (struct pd_rollouts){0};
    pd_sampling_default(&how);
    how.greedy = plan->temperature <= 0;
    how.temperature = how.greedy ? 1 : plan->temperature;
    how.top_k = 0;
    how.eos = (struct pd_id_span){eos, pd_model_eos(m, eos, PD_CONFIG_MAX_EOS + 2)};
    for (size_t i = 0; i < n; i++)
        list[i] = (struct pd_gen_prompt){.ids = prompts[i]->ids,
                                         .n = prompts[i]->n,
                                         .key = (uint64_t)i,
                                         .n_answers = plan->per_prompt,
                                         .first_answer = plan->round * (uint64_t)plan->per_prompt,
                                         .sampling = how,
                                         .max_new_tokens = plan->max_new};
    PD_TRY(pd_generate(dec, list, (int64_t)n, &opts, &result, err));
    PD_ASSERT(result.n == (int64_t)n * plan->per_prompt);
    r->n = (size_t)result.n;
    r->v = pd_xalloc((r->n + 1) * sizeof *r->v);
    for (size_t i = 0; i < r->n; i++) {
        const struct pd_gen_answer *a = &result.answers[i];
        PD_TRY(set_rollout(&r->v[i], prompts[i / (size_t)plan->per_prompt], a->ids, a->n,
                           a->finish == PD_FINISH_STOP, m, err));
    }
    lay_out(r, (size_t)plan->per_prompt, plan);
out:
    pd_gen_result_release(&result);
    pd_free(list);
    if (rc != PD_OK)
        pd_rollouts_release(r);
    return rc;
}

static enum pd_rc read_ids(struct json_object *row, const char *key, int vocab, struct pd_ids *out,
                           struct pd_err *err)
{
    struct json_object *list = pd_json_get(row, key);
    size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
    if (n == 0)
        return PD_FAIL(err, PD_INVALID, "\"%s\" must be a list of ids", key);
    for (size_t i = 0; i < n; i++) {
        struct json_object *v = json_object_array_get_idx(list, i);
        int64_t id = json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : -1;
        if (id < 0 || id >= vocab)
            return PD_FAIL(err, PD_INVALID, "%s[%zu]: not an id in 0..%d", key, i, vocab - 1);
        pd_ids_push(out, (int32_t)id);
    }
    return PD_OK;
}

static bool is_end(const struct pd_model *m, int32_t id)
{
    int32_t eos[PD_CONFIG_MAX_EOS + 2];
    int n = pd_model_eos(m, eos, PD_CONFIG_MAX_EOS + 2);
    for (int i = 0; i < n; i++)
        if (eos[i] == id)
            return true;
    return false;
}

/* One row; prompts grow in step with rollouts and are linked when all are there. */
static enum pd_rc read_rollout(struct pd_rollouts *r, struct pd_policy_prompts *prompts,
                               struct json_object *row, const struct pd_model *m, bool *has_scores,
                               struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_ids prompt = {0}, ids = {0};
    PD_TRY(read_ids(row, "prompt_ids", m->cfg.vocab_size, &prompt, err));
    PD_TRY(read_ids(row, "ids", m->cfg.vocab_size, &ids, err));
    r->v = pd_xrealloc(r->v, (r->n + 1) * sizeof *r->v);
    prompts->v = pd_xrealloc(prompts->v, (prompts->n + 1) * sizeof *prompts->v);
    struct pd_policy_prompt *p = &prompts->v[prompts->n++];
    *p = (struct pd_policy_prompt){.ids = prompt.ptr, .n = (int64_t)prompt.len, .plain = true};
    prompt = (struct pd_ids){0};
    struct pd_rollout *one = &r->v[r->n++];
    *one = (struct pd_rollout){.score = (float)pd_json_f64(row, "score", NAN)};
    rc = set_rollout(one, p, ids.ptr, (int64_t)ids.len, is_end(m, ids.ptr[ids.len - 1]), m, err);
    if (rc != PD_OK) { /* a row passed over leaves nothing behind */
        pd_free(one->seq);
        pd_buf_release(&one->text);
        pd_free(p->ids);
        prompts->n--;
        r->n--;
        goto out;
    }
    *has_scores &= isfinite(one->score) != 0;
out:
    pd_ids_release(&prompt);
    pd_ids_release(&ids);
    return rc;
}

enum pd_rc pd_rollouts_read(struct pd_rollouts *r, struct pd_policy_prompts *prompts,
                            const char *path, const struct pd_model *m,
                            const struct pd_sampling_plan *plan, bool skip_bad, bool *has_scores,
                            struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_data_rows rows = {0};
    struct json_object *row;
    bool more;
    *r = (struct pd_rollouts){0};
    *prompts = (struct pd_policy_prompts){0};
    *has_scores = true;
    PD_TRY(pd_data_rows_open(&rows, path, skip_bad, err));
    for (;;) {
        struct pd_err why = {0};
        PD_TRY(pd_data_rows_next(&rows, &row, NULL, &more, err));
        if (!more)
            break;
        if (read_rollout(r, prompts, row, m, has_scores, &why) != PD_OK)
            pd_data_rows_bad(&rows, "%s", why.msg);
    }
    PD_TRY(pd_data_rows_verdict(&rows, err));
    for (size_t i = 0; i < r->n; i++)
        r->v[i].prompt = &prompts->v[i];
    lay_out(r, 1, plan);
out:
    pd_data_rows_close(&rows);
    if (rc != PD_OK) {
        pd_rollouts_release(r);
        pd_policy_prompts_release(prompts);
    }
    return rc;
}

enum pd_rc pd_rollouts_score(struct pd_rollouts *r, const struct pd_judge *judge,
                             const struct pd_model *policy, struct pd_err *err)
{
    struct pd_sample *samples = pd_xalloc((r->n + 1) * sizeof *samples);
    float *score = pd_xalloc((r->n + 1) * sizeof *score);
    for (size_t i = 0; i < r->n; i++) {
        const struct pd_rollout *one = &r->v[i];
        samples[i] = (struct pd_sample){.prompt = one->prompt->prompt,
                                        .prompt_ids = one->seq,
                                        .n_prompt = one->prompt->n,
                                        .ids = one->seq + one->prompt->n,
                                        .n = one->n,
                                        .text = pd_buf_str(&one->text),
                                        .plain = one->prompt->plain};
    }
    enum pd_rc rc = pd_judge_score(judge, samples, r->n, policy, score, err);
    for (size_t i = 0; rc == PD_OK && i < r->n; i++)
        r->v[i].score = score[i];
    pd_free(score);
    pd_free(samples);
    return rc;
}

void pd_rollouts_release(struct pd_rollouts *r)
{
    for (size_t i = 0; i < r->n; i++) {
        pd_free(r->v[i].seq);
        pd_buf_release(&r->v[i].text);
    }
    pd_free(r->v);
    pd_free(r->groups);
    pd_free(r->logprob);
    pd_free(r->ref_logprob);
    pd_free(r->entropy);
    pd_free(r->value);
    pd_free(r->reward);
    pd_free(r->advantage);
    pd_free(r->ret);
    *r = (struct pd_rollouts){0};
}

/* ---- packed views ---- */

void pd_view_init(struct pd_view *v)
{
    *v = (struct pd_view){0};
    pd_stream_init(&v->stream);
}

void pd_view_release(struct pd_view *v)
{
    pd_stream_release(&v->stream);
    pd_free(v->row);
    pd_free(v->target);
    pd_free(v->slot);
    *v = (struct pd_view){0};
}

static void view_push(struct pd_view *v, size_t slot, int64_t row, int32_t target)
{
    if (v->n == v->cap) {
        v->cap = v->cap ? 2 * v->cap : 1024;
        v->row = pd_xrealloc(v->row, v->cap * sizeof *v->row);
        v->target = pd_xrealloc(v->target, v->cap * sizeof *v->target);
        v->slot = pd_xrealloc(v->slot, v->cap * sizeof *v->slot);
    }
    v->row[v->n] = (int32_t)row;
    v->target[v->n] = target;
    v->slot[v->n++] = slot;
}

/* Pushes the answer tokens of a group (extra false) or its extra slots. */
static void view_group(struct pd_view *v, const struct pd_rollouts *r, const struct pd_group *g,
                       const struct pd_sequence *seqs, bool extra)
{
    for (size_t i = 0; i < g->n; i++) {
        const struct pd_rollout *one = &r->v[g->first + i];
        size_t from = extra ? (size_t)one->n : 0, to = extra ? one->n_slots : (size_t)one->n;
        for (size_t t = from; t < to; t++)
            view_push(v, one->at + t,
                      pd_stream_row(&v->stream, seqs[i].leaf, one->prompt->n - 1 + (int64_t)t),
                      extra ? 0 : one->seq[one->prompt->n + (int64_t)t]);
    }
}

void pd_view_set(struct pd_view *v, const struct pd_rollouts *r, const size_t *groups, size_t n)
{
    size_t n_seqs = 0, at = 0;
    pd_stream_clear(&v->stream);
    v->n = 0;
    for (size_t i = 0; i < n; i++)
        n_seqs += r->groups[groups[i]].n;
    struct pd_sequence *seqs = pd_xalloc((n_seqs + 1) * sizeof *seqs);
    for (size_t i = 0; i < n; i++) {
        const struct pd_group *g = &r->groups[groups[i]];
        (void)group_sequences(r, g, seqs + at);
        pd_stream_add_sequences(&v->stream, seqs + at, (int)g->n);
        at += g->n;
    }
    for (int extra = 0; extra < 2; extra++) {
        at = 0;
        for (size_t i = 0; i < n; i++) {
            const struct pd_group *g = &r->groups[groups[i]];
            view_group(v, r, g, seqs + at, extra);
            at += g->n;
        }
        if (!extra)
            v->n_targets = v->n;
    }
    pd_free(seqs);
}

size_t pd_view_take(const struct pd_rollouts *r, const size_t *groups, size_t n, int64_t budget)
{
    int64_t rows = r->groups[groups[0]].rows;
    size_t i = 1;
    while (i < n && (rows += r->groups[groups[i]].rows) <= budget)
        i++;
    return i;
}
