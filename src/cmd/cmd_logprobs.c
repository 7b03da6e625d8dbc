/* podium logprobs: log p of every token of given texts. Rows are packed into streams without
 * padding, in which a prompt that repeats is computed once. */
#include "cmd/cmd.h"
#include "cmd/rows.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/progress.h"
#include "base/sig.h"
#include "gen/damage.h"
#include "lm/decoder.h"
#include "lm/heads.h"
#include "lm/model.h"
#include "tensor/backend.h"
#include "train/rows.h"

#include <math.h>
#include <string.h>

struct item {
    size_t line;             /* of the file of rows */
    struct json_object *row; /* held */
    struct pd_ids ids;
    int64_t text_at; /* index of the first token of the text part */
};

struct job {
    const char *model_path, *in, *out, *dtype;
    int64_t micro_tokens, threads;
    bool skip_bad, quiet;

    struct pd_model *model;
    struct pd_decoder *dec;
    struct item *items;
    size_t n, cap;
};

static const char usage[] = "podium logprobs --model M --in F --out F [options]";
static const char text[] =
    "Reads one JSON object a line, {\"prompt\"?, \"text\"} or {\"ids\", \"prompt_len\"?}, and "
    "writes it\n"
    "back with\n"
    "  \"ids\"       the tokens\n"
    "  \"logprobs\"  natural log of p(token | tokens before it), fp32 softmax; the first is null\n"
    "  \"sum\"       of the text part: what follows the prompt\n"
    "Prompt and text are joined and tokenized whole, as in training: special-token text is\n"
    "parsed and bos or eos added as the tokenizer says. The text part begins where the ids\n"
    "of the prompt alone are left. Ids are taken as they are.";
static const char examples[] =
    "  podium logprobs --model smollm2.gguf --in texts.jsonl --out scored.jsonl\n"
    "  echo '{\"prompt\":\"2+2=\",\"text\":\"4\"}' | podium logprobs --model gpt2/ --in - --out -";

/* ---- reading ---- */

static enum pd_rc read_ids(const struct job *j, struct json_object *row, struct item *it,
                           struct pd_err *err)
{
    struct json_object *list = pd_json_get(row, "ids");
    if (!json_object_is_type(list, json_type_array))
        return PD_FAIL(err, PD_INVALID, "\"ids\" is %s, expected a list of integers",
                       pd_json_type_name(list));
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *v = json_object_array_get_idx(list, i);
        int64_t id = json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : -1;
        if (id < 0 || id >= j->model->cfg.vocab_size)
            return PD_FAIL(err, PD_INVALID, "\"ids\"[%zu] is not an id in 0..%d", i,
                           j->model->cfg.vocab_size - 1);
        pd_ids_push(&it->ids, (int32_t)id);
    }
    it->text_at = pd_json_i64(row, "prompt_len", 0);
    if (it->text_at < 0 || it->text_at > (int64_t)it->ids.len)
        return PD_FAIL(err, PD_INVALID, "\"prompt_len\" is %lld, there are %zu ids",
                       (long long)it->text_at, it->ids.len);
    return PD_OK;
}

static enum pd_rc read_text(const struct job *j, struct json_object *row, struct item *it,
                            struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_buf whole;
    struct pd_ids alone = {0};
    struct pd_str part, prompt = {"", 0};
    struct json_object *p = pd_json_get(row, "prompt");
    pd_buf_init(&whole, 0);
    if (!j->model->tok) {
        rc = PD_FAIL(err, PD_INVALID, "%s has no tokenizer; give \"ids\" instead of \"text\"",
                     j->model_path);
        goto out;
    }
    PD_TRY(pd_json_need_str(row, "text", &part, err));
    if (p && !json_object_is_type(p, json_type_string)) {
        rc = PD_FAIL(err, PD_INVALID, "\"prompt\" is %s, expected text", pd_json_type_name(p));
        goto out;
    }
    if (p)
        prompt = pd_json_value_str(p);
    pd_buf_addstr(&whole, prompt);
    pd_buf_addstr(&whole, part);
    PD_TRY(pd_tokenizer_encode(j->model->tok, pd_buf_str(&whole), PD_TOK_TRAINING, &it->ids, err));
    PD_TRY(pd_tokenizer_encode(j->model->tok, prompt, PD_TOK_TRAINING, &alone, err));
    while (p && it->text_at < (int64_t)alone.len && it->text_at < (int64_t)it->ids.len &&
           alone.ptr[it->text_at] == it->ids.ptr[it->text_at])
        it->text_at++;
out:
    pd_ids_release(&alone);
    pd_buf_release(&whole);
    return rc;
}

static enum pd_rc read_item(const struct job *j, struct json_object *row, struct item *it,
                            struct pd_err *err)
{
    int64_t context = pd_config_context(&j->model->cfg);
    enum pd_rc rc =
        pd_json_get(row, "ids") ? read_ids(j, row, it, err) : read_text(j, row, it, err);
    if (rc == PD_OK && it->ids.len == 0)
        rc = PD_FAIL(err, PD_INVALID, "no tokens");
    if (rc == PD_OK && (int64_t)it->ids.len > context)
        rc = PD_FAIL(err, PD_INVALID, "%zu tokens are more than the model's context of %" PRId64,
                     it->ids.len, context);
    return rc;
}

static enum pd_rc read_all(struct job *j, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_data_rows rows = {0};
    struct json_object *row;
    bool more;
    PD_TRY(pd_data_rows_open(&rows, j->in, j->skip_bad, err));
    for (;;) {
        PD_TRY(pd_data_rows_next(&rows, &row, NULL, &more, err));
        if (!more)
            break;
        struct item it = {0};
        struct pd_err why;
        if (read_item(j, row, &it, &why) != PD_OK) {
            pd_data_rows_bad(&rows, "%s", why.msg);
            pd_ids_release(&it.ids);
            continue;
        }
        it.row = json_object_get(row);
        it.line = pd_lines_number(rows.lines);
        if (j->n == j->cap) {
            j->cap = j->cap ? 2 * j->cap : 256;
            j->items = pd_xrealloc(j->items, j->cap * sizeof *j->items);
        }
        j->items[j->n++] = it;
    }
    PD_TRY(pd_data_rows_verdict(&rows, err));
out:
    pd_data_rows_close(&rows);
    return rc;
}

/* ---- computing ---- */

/* Log-probs of items[0..n): out[i][t] for t >= 1, in one stream. */
static enum pd_rc compute(struct job *j, const struct item *items, size_t n, float **out,
                          struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_stream stream;
    struct pd_sequence *seqs = pd_xalloc(n * sizeof *seqs);
    int32_t *rows = NULL, *targets = NULL;
    float *lp = NULL;
    const float *hidden;
    int64_t total = 0, at = 0;
    pd_stream_init(&stream);
    stream.share_limit = pd_config_share_limit(&j->model->cfg);
    for (size_t i = 0; i < n; i++) {
        seqs[i] = (struct pd_sequence){items[i].ids.ptr, (int64_t)items[i].ids.len, 0};
        total += seqs[i].len - 1;
    }
    pd_stream_add_sequences(&stream, seqs, (int)n);
    rows = pd_xalloc((size_t)(total + 1) * sizeof *rows);
    targets = pd_xalloc((size_t)(total + 1) * sizeof *targets);
    lp = pd_xalloc((size_t)(total + 1) * sizeof *lp);
    for (size_t i = 0; i < n; i++)
        for (int64_t t = 1; t < seqs[i].len; t++, at++) {
            rows[at] = (int32_t)pd_stream_row(&stream, seqs[i].leaf, t - 1);
            targets[at] = seqs[i].ids[t];
        }
    PD_TRY(pd_decoder_forward(j->dec, &stream, false, &hidden, err));
    struct pd_logprob_items what = {rows, targets, total, 1.0f};
    PD_TRY(pd_head_logprob_forward(j->dec, hidden, &what, lp, NULL, NULL, err));
    at = 0;
    for (size_t i = 0; i < n; i++) {
        memcpy(out[i] + 1, lp + at, (size_t)(seqs[i].len - 1) * sizeof *lp);
        at += seqs[i].len - 1;
    }
out:
    pd_stream_release(&stream);
    pd_free(seqs);
    pd_free(rows);
    pd_free(targets);
    pd_free(lp);
    return rc;
}

static enum pd_rc write_item(struct pd_out *out, const struct item *it, const float *lp,
                             struct pd_err *err)
{
    struct pd_buf buf;
    struct pd_jw w;
    char number[32];
    double sum = 0;
    for (size_t t = 1; t < it->ids.len; t++) /* JSON has no word for them */
        if (!isfinite(lp[t]))
            return PD_FAIL(err, PD_NONFINITE,
                           "the log-probability of token %zu (id %d) is not a finite number", t,
                           (int)it->ids.ptr[t]);
    pd_buf_init(&buf, 0);
    pd_jw_init(&w, &buf);
    pd_jw_object(&w);
    json_object_object_foreach(it->row, key, value)
    {
        if (strcmp(key, "ids") == 0 || strcmp(key, "logprobs") == 0 || strcmp(key, "sum") == 0)
            continue;
        pd_jw_key(&w, key);
        pd_jw_tree(&w, value);
    }
    pd_jw_key(&w, "ids");
    pd_jw_array(&w);
    for (size_t t = 0; t < it->ids.len; t++)
        pd_jw_i64(&w, it->ids.ptr[t]);
    pd_jw_array_end(&w);
    pd_jw_key(&w, "logprobs");
    pd_jw_array(&w);
    pd_jw_null(&w);
    for (size_t t = 1; t < it->ids.len; t++) {
        int n = snprintf(number, sizeof number, "%.9g", (double)lp[t]); /* a float, exactly */
        pd_jw_raw(&w, (struct pd_str){number, (size_t)n});
        sum += (int64_t)t >= it->text_at ? lp[t] : 0;
    }
    pd_jw_array_end(&w);
    pd_jw_kf64(&w, "sum", sum);
    pd_jw_object_end(&w);
    pd_buf_addc(&buf, '\n');
    enum pd_rc rc = pd_out_write(out, pd_buf_str(&buf), err);
    pd_buf_release(&buf);
    return rc;
}

/* Which row it was, and where the number comes from if a weight is damaged. */
static enum pd_rc name_culprit(const struct job *j, size_t line, struct pd_err *err)
{
    struct pd_err why = {0};
    if (pd_model_damage(j->model, &why) != PD_NONFINITE)
        (void)snprintf(why.msg, sizeof why.msg, "all weights are finite: a sum overflowed");
    char *said = pd_xstrdup(err->msg);
    const enum pd_rc rc = PD_FAIL(err, PD_NONFINITE, "%s:%zu: %s (%s: %s)", j->in, line, said,
                                  j->model_path, why.msg);
    pd_free(said);
    return rc;
}

/* How many items from `first` on go into one stream: within the budget, at least one. */
static size_t batch_size(const struct job *j, size_t first)
{
    int64_t tokens = 0;
    size_t n = 0;
    while (first + n < j->n) {
        tokens += (int64_t)j->items[first + n].ids.len;
        if (n > 0 && tokens > j->micro_tokens)
            break;
        n++;
    }
    return n;
}

static enum pd_rc score_all(struct job *j, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_out out;
    struct pd_progress progress;
    float **lp = NULL;
    size_t n = 0;
    PD_TRY(pd_out_open(&out, j->out, err));
    pd_progress_init(&progress, "log-probs", "rows", (int64_t)j->n, j->quiet);
    for (size_t at = 0; at < j->n; at += n) {
        if (pd_sig_stop()) {
            rc = PD_FAIL(err, PD_INTERRUPTED, "interrupted; nothing is written");
            break;
        }
        n = batch_size(j, at);
        lp = pd_xalloc(n * sizeof *lp);
        for (size_t i = 0; i < n; i++)
            lp[i] = pd_xalloc(j->items[at + i].ids.len * sizeof **lp);
        rc = compute(j, j->items + at, n, lp, err);
        for (size_t i = 0; i < n; i++) {
            if (rc == PD_OK)
                rc = write_item(&out, &j->items[at + i], lp[i], err);
            if (rc == PD_NONFINITE)
                rc = name_culprit(j, j->items[at + i].line, err);
            pd_free(lp[i]);
        }
        pd_free(lp);
        if (rc != PD_OK)
            break;
        pd_progress_update(&progress, (int64_t)(at + n), NULL);
    }
    pd_progress_finish(&progress, NULL);
    if (rc == PD_OK)
        rc = pd_out_commit(&out, err);
    else
        pd_out_abandon(&out);
out:
    return rc;
}

static enum pd_rc logprobs(struct job *j, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    enum pd_compute compute_as;
    PD_TRY(pd_compute_parse(j->dtype, &compute_as, err));
    compute_as = pd_compute_resolve(compute_as); /* measured as exactly as training computes */
    PD_TRY(pd_backend_init((int)j->threads, err));
    PD_TRY(pd_model_open(&j->model, j->model_path, &(struct pd_model_options){.as_in_file = true},
                         err));
    PD_TRY(pd_head_need_lm(j->model, err));
    PD_TRY(read_all(j, err));
    PD_TRY(
        pd_decoder_new(j->model, &(struct pd_decoder_opts){.compute = compute_as}, &j->dec, err));
    PD_TRY(score_all(j, err));
out:
    for (size_t i = 0; i < j->n; i++) {
        json_object_put(j->items[i].row);
        pd_ids_release(&j->items[i].ids);
    }
    pd_free(j->items);
    pd_decoder_free(j->dec);
    pd_model_free(j->model);
    pd_backend_release();
    return rc;
}

int pd_cmd_logprobs(const struct pd_cmd *self, int argc, char **argv)
{
    struct job j = {.dtype = "auto", .micro_tokens = 2048};
    struct pd_err err = {0};
    struct pd_opt_list args = {0};
    bool help = false;
    struct pd_opt options[] = {
        PD_OPT_ROW("model", PD_OPT_STR, &j.model_path, "M",
                   "Hugging Face folder, .gguf file or run folder", .flags = PD_OPT_REQUIRED),
        PD_OPT_ROW("in", PD_OPT_STR, &j.in, "FILE", "rows, gzip too; - = stdin",
                   .flags = PD_OPT_REQUIRED),
        PD_OPT_ROW("out", PD_OPT_STR, &j.out, "FILE", "the rows with log-probs; - = stdout",
                   .flags = PD_OPT_REQUIRED),
        PD_ROW_MICRO_BATCH(&j.micro_tokens),
        PD_ROW_DTYPE(&j.dtype),
        PD_ROW_THREADS(&j.threads),
        PD_ROW_SKIP_BAD(&j.skip_bad),
        PD_ROW_QUIET(&j.quiet),
        PD_OPT_END,
    };
    enum pd_rc rc = pd_opt_parse(options, argc, argv, 0, 0, &args, &help, &err);
    pd_opt_list_release(&args);
    if (help)
        return pd_cmd_help(self, usage, text, options, examples);
    if (rc == PD_OK)
        rc = logprobs(&j, &err);
    return rc == PD_OK ? 0 : pd_cmd_fail(self, &err);
}
