#include "lm/model_info.h"

#include "base/json.h"
#include "base/mem.h"
#include "base/sig.h"
#include "lm/labels.h"
#include "lm/model_int.h"
#include "lm/plan.h"

#include <inttypes.h>
#include <math.h>

#define LORA_NOTE                                                                                  \
    "podium train cannot train adapters yet: its rows with LoRA say what that would take"

static int64_t n_params(const struct pd_model *m)
{
    return (int64_t)pd_params_count(&m->params, false);
}

static size_t count_dtypes(const struct pd_model *m, size_t count[PD_DTYPE_COUNT])
{
    size_t kinds = 0;
    memset(count, 0, PD_DTYPE_COUNT * sizeof *count);
    for (size_t i = 0; i < m->params.n; i++)
        kinds += count[m->params.v[i].dtype]++ == 0;
    return kinds;
}

static const char *chat_name(const struct pd_model *m)
{
    struct pd_str text = m->tok ? pd_tokenizer_chat_template(m->tok) : (struct pd_str){NULL, 0};
    if (m->chat.kind == PD_CHAT_NONE)
        return "none";
    if (m->chat.kind == PD_CHAT_UNKNOWN)
        return "unreadable";
    return memmem(text.ptr, text.len, "<|im_start|>", 12) ? "chatml" : "jinja";
}

static const char *pos_name(const struct pd_config *c)
{
    return c->pos == PD_LM_POS_LEARNED ? "learned" : c->pos == PD_LM_POS_ROPE ? "rope" : "alibi";
}

static void put_shape(struct pd_jw *w, const struct pd_config *c)
{
    pd_jw_ki64(w, "vocab_size", c->vocab_size);
    pd_jw_ki64(w, "hidden_size", c->hidden_size);
    pd_jw_ki64(w, "layers", c->n_layers);
    pd_jw_ki64(w, "heads", c->n_heads);
    pd_jw_ki64(w, "kv_heads", c->n_kv_heads);
    pd_jw_ki64(w, "head_dim", c->head_dim);
    pd_jw_ki64(w, "ffn_size", c->ffn_size);
    pd_jw_ki64(w, "context", c->max_positions);
    pd_jw_kstrz(w, "positions", pos_name(c));
    if (c->pos == PD_LM_POS_ROPE)
        pd_jw_kf64(w, "rope_theta", c->rope.theta);
    pd_jw_kstrz(w, "norm", c->norm == PD_LM_RMSNORM ? "rmsnorm" : "layernorm");
    pd_jw_kstrz(w, "activation", pd_act_hf_name(c->act));
    pd_jw_kbool(w, "gated", c->gated);
    pd_jw_kbool(w, "tied", c->tied);
}

/* Tokens that were added without resizing the model: to compute with one is an error. */
static int past_embedding(const struct pd_model *m)
{
    int more = pd_tokenizer_size(m->tok) - m->cfg.vocab_size;
    return more > 0 ? more : 0;
}

static void put_tokenizer(struct pd_jw *w, const struct pd_model *m)
{
    struct pd_buf text;
    pd_jw_key(w, "tokenizer");
    if (!m->tok) {
        pd_jw_null(w);
        return;
    }
    pd_buf_init(&text, 0);
    pd_tokenizer_describe(m->tok, &text);
    pd_jw_object(w);
    pd_jw_kstr(w, "kind", pd_buf_str(&text));
    pd_jw_ki64(w, "tokens", pd_tokenizer_size(m->tok));
    pd_jw_ki64(w, "bos", pd_tokenizer_bos(m->tok));
    pd_jw_ki64(w, "eos", pd_tokenizer_eos(m->tok));
    pd_jw_ki64(w, "pad", pd_tokenizer_pad(m->tok));
    pd_jw_ki64(w, "past_embedding", past_embedding(m));
    pd_jw_object_end(w);
    pd_buf_release(&text);
}

static void put_plan_row(struct pd_jw *w, const struct pd_plan_row *r, int64_t available)
{
    pd_jw_object(w);
    pd_jw_kstrz(w, "job", r->job);
    pd_jw_kstrz(w, "dtype", pd_compute_name(r->compute));
    if (r->rank == 0)
        pd_jw_kf64(w, "freeze_layers", r->freeze);
    pd_jw_ki64(w, "packed", r->packed);
    pd_jw_ki64(w, "weights", r->weights);
    if (r->rank > 0)
        pd_jw_ki64(w, "adapters", r->adapters);
    pd_jw_ki64(w, "gradients", r->gradients);
    pd_jw_ki64(w, "moments", r->moments);
    pd_jw_ki64(w, "activations", r->activations);
    pd_jw_ki64(w, "cache", r->cache);
    pd_jw_ki64(w, "total", r->total);
    if (available > 0)
        pd_jw_kbool(w, "fits", r->total <= available);
    if (r->rank > 0)
        pd_jw_kbool(w, "supported", !r->not_yet);
    pd_jw_object_end(w);
}

static void put_lora(struct pd_jw *w, const struct pd_plan *plan)
{
    pd_jw_key(w, "lora");
    pd_jw_object(w);
    pd_jw_ki64(w, "rank", PD_PLAN_RANK);
    pd_jw_kstrz(w, "modules", "all-linear");
    pd_jw_ki64(w, "adapter_parameters", plan->adapter_values);
    pd_jw_kbool(w, "training_supported", false);
    pd_jw_kstrz(w, "note", LORA_NOTE);
    pd_jw_key(w, "jobs");
    pd_jw_array(w);
    for (int i = 0; i < plan->n_lora; i++)
        put_plan_row(w, &plan->lora[i], plan->available);
    pd_jw_array_end(w);
    pd_jw_object_end(w);
}

static void put_plan(struct pd_jw *w, const struct pd_model *m)
{
    struct pd_plan plan;
    const struct pd_config *c = &m->cfg;
    pd_plan_make(m, &plan);
    pd_jw_key(w, "memory");
    pd_jw_object(w);
    pd_jw_ki64(w, "available", plan.available);
    pd_jw_ki64(w, "kv_fp32_per_token", (int64_t)2 * 4 * c->n_layers * c->n_kv_heads * c->head_dim);
    pd_jw_ki64(w, "answers", PD_PLAN_ANSWERS);
    pd_jw_ki64(w, "tokens_per_answer", plan.tokens);
    pd_jw_ki64(w, "micro_batch_tokens", PD_PLAN_MICRO);
    pd_jw_key(w, "jobs");
    pd_jw_array(w);
    for (int i = 0; i < plan.n; i++)
        put_plan_row(w, &plan.rows[i], plan.available);
    pd_jw_array_end(w);
    put_lora(w, &plan);
    pd_jw_object_end(w);
}

/* Of a score head, in the order of its rows. */
static void put_labels(struct pd_jw *w, const struct pd_model *m)
{
    struct pd_label_room room;
    if (pd_model_n_labels(m) == 0)
        return;
    pd_jw_key(w, "labels");
    pd_jw_array(w);
    for (int64_t i = 0; i < pd_model_n_labels(m); i++)
        pd_jw_str(w, pd_model_label(m, i, &room));
    pd_jw_array_end(w);
}

void pd_model_info_json(const struct pd_model *m, struct pd_buf *out)
{
    struct pd_jw w;
    size_t count[PD_DTYPE_COUNT], bytes, n_files = pd_weights_files(&m->files->weights, &bytes);
    (void)count_dtypes(m, count);
    pd_jw_init(&w, out);
    pd_jw_object(&w);
    pd_jw_kstrz(&w, "path", m->path);
    pd_jw_kstrz(&w, "format", pd_weights_format(&m->files->weights));
    pd_jw_ki64(&w, "files", (int64_t)n_files);
    pd_jw_ki64(&w, "bytes", (int64_t)bytes);
    pd_jw_kstrz(&w, "family", m->cfg.family);
    pd_jw_kstrz(&w, "model_type", m->cfg.model_type);
    pd_jw_kstrz(&w, "head", m->heads & PD_HEAD_SCORE ? "score" : "lm");
    put_labels(&w, m);
    pd_jw_ki64(&w, "parameters", n_params(m));
    pd_jw_key(&w, "dtypes");
    pd_jw_object(&w);
    for (size_t t = 0; t < PD_DTYPE_COUNT; t++)
        if (count[t])
            pd_jw_ki64(&w, pd_dtype_info((enum pd_dtype)t)->name, (int64_t)count[t]);
    pd_jw_object_end(&w);
    put_shape(&w, &m->cfg);
    pd_jw_key(&w, "eos");
    pd_jw_array(&w);
    for (int i = 0; i < m->cfg.n_eos; i++)
        pd_jw_i64(&w, m->cfg.eos_ids[i]);
    pd_jw_array_end(&w);
    put_tokenizer(&w, m);
    pd_jw_kstrz(&w, "chat_template", chat_name(m));
    put_plan(&w, m);
    pd_jw_object_end(&w);
}

static void add_size(struct pd_buf *out, int64_t bytes)
{
    if (bytes >= (int64_t)1 << 30)
        pd_buf_addf(out, "%.2f GiB", (double)bytes / (double)((int64_t)1 << 30));
    else if (bytes >= 1 << 20)
        pd_buf_addf(out, "%.1f MiB", (double)bytes / (1 << 20));
    else
        pd_buf_addf(out, "%.1f KiB", (double)bytes / 1024);
}

static void add_grouped(struct pd_buf *out, int64_t n)
{
    char digits[32];
    int len = snprintf(digits, sizeof digits, "%" PRId64, n);
    for (int i = 0; i < len; i++) {
        pd_buf_addc(out, digits[i]);
        if ((len - i - 1) % 3 == 0 && i + 1 < len)
            pd_buf_addc(out, ',');
    }
}

static void add_named_id(struct pd_buf *out, const struct pd_model *m, const char *name, int32_t id)
{
    if (id >= 0)
        pd_buf_addf(out, ", %s %d %.*s", name, id, PD_STR_ARG(pd_tokenizer_text(m->tok, id)));
}

static void text_files(const struct pd_model *m, struct pd_buf *out)
{
    size_t count[PD_DTYPE_COUNT], bytes, n_files = pd_weights_files(&m->files->weights, &bytes);
    (void)count_dtypes(m, count);
    pd_buf_addf(out, "files       %zu %s, ", n_files, pd_weights_format(&m->files->weights));
    add_size(out, (int64_t)bytes);
    pd_buf_adds(out, "\nparameters  ");
    add_grouped(out, n_params(m));
    pd_buf_addf(out, "%s in", m->cfg.tied ? ", output tied to the embedding," : "");
    const char *comma = "";
    for (size_t t = 0; t < PD_DTYPE_COUNT; t++)
        if (count[t]) {
            pd_buf_addf(out, "%s %zu %s", comma, count[t], pd_dtype_info((enum pd_dtype)t)->name);
            comma = ",";
        }
    pd_buf_addc(out, '\n');
}

static void text_shape(const struct pd_config *c, struct pd_buf *out)
{
    pd_buf_addf(out,
                "shape       %d layers, hidden %d, %d heads (%d key/value) of %d, feed-forward "
                "%d%s, vocabulary %d\n",
                c->n_layers, c->hidden_size, c->n_heads, c->n_kv_heads, c->head_dim, c->ffn_size,
                c->gated ? " gated" : "", c->vocab_size);
    pd_buf_addf(out, "parts       %s (eps %g), %s, positions %s",
                c->norm == PD_LM_RMSNORM ? "RMSNorm" : "LayerNorm", c->norm_eps,
                pd_act_hf_name(c->act), pos_name(c));
    if (c->pos == PD_LM_POS_ROPE)
        pd_buf_addf(out, " (theta %g)", c->rope.theta);
    pd_buf_addf(out, ", context %d", c->max_positions);
    if (c->sliding_window)
        pd_buf_addf(out, ", window %d", c->sliding_window);
    pd_buf_addc(out, '\n');
}

static void text_tokenizer(const struct pd_model *m, struct pd_buf *out)
{
    pd_buf_adds(out, "tokenizer   ");
    if (!m->tok) {
        pd_buf_adds(out, "none: ids only\n");
        return;
    }
    pd_tokenizer_describe(m->tok, out);
    add_named_id(out, m, "bos", pd_tokenizer_bos(m->tok));
    add_named_id(out, m, "eos", pd_tokenizer_eos(m->tok));
    add_named_id(out, m, "pad", pd_tokenizer_pad(m->tok));
    if (past_embedding(m))
        pd_buf_addf(out,
                    "\n            WARNING: %d of its tokens, from id %d on, have no row in the "
                    "embedding; texts that hold one are refused",
                    past_embedding(m), m->cfg.vocab_size);
    pd_buf_adds(out, "\nchat        ");
    if (m->chat.kind == PD_CHAT_NONE)
        pd_buf_adds(out, "no template: plain prompts\n");
    else if (m->chat.kind == PD_CHAT_UNKNOWN)
        pd_buf_addf(out, "a template that cannot be read: %s\n", m->chat.problem);
    else
        pd_buf_addf(out, "a template (%s)\n", chat_name(m));
}

static void text_row(const struct pd_plan_row *r, int64_t available, struct pd_buf *out)
{
    const char *weights = r->rank == 0                    ? "fp32 weights"
                          : !r->not_yet                   ? "weights with the adapter added"
                          : r->compute == PD_COMPUTE_BF16 ? "frozen bf16 weights"
                                                          : "frozen fp32 weights";
    const struct {
        const char *name;
        int64_t bytes;
    } parts[] = {{"packed weights", r->packed}, {weights, r->weights},
                 {"adapters", r->adapters},     {"gradients", r->gradients},
                 {"moments", r->moments},       {"activations", r->activations},
                 {"key/value cache", r->cache}};
    char job[64];
    (void)snprintf(job, sizeof job, "%s %s%s", r->job, pd_compute_name(r->compute),
                   r->rank > 0     ? ", LoRA"
                   : r->freeze > 0 ? ", half frozen"
                                   : "");
    pd_buf_addf(out, "  %-39s ", job);
    add_size(out, r->total);
    if (available > 0 && r->not_yet)
        pd_buf_adds(out, r->total <= available ? ", would fit" : ", WOULD NOT FIT");
    else if (available > 0)
        pd_buf_adds(out, r->total <= available ? ", fits" : ", DOES NOT FIT");
    const char *sign = " = ";
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i].bytes) {
            pd_buf_addf(out, "%s%s ", sign, parts[i].name);
            add_size(out, parts[i].bytes);
            sign = " + ";
        }
    pd_buf_addc(out, '\n');
}

static void text_plan(const struct pd_model *m, struct pd_buf *out)
{
    struct pd_plan plan;
    pd_plan_make(m, &plan);
    pd_buf_adds(out, "memory      ");
    if (plan.available > 0) {
        add_size(out, plan.available);
        pd_buf_adds(out, " to be had here; ");
    }
    pd_buf_addf(out, "%d answers of %lld tokens at once, micro batches of %d tokens\n",
                PD_PLAN_ANSWERS, (long long)plan.tokens, PD_PLAN_MICRO);
    for (int i = 0; i < plan.n; i++)
        text_row(&plan.rows[i], plan.available, out);
    pd_buf_addf(out, "with LoRA   rank %d on all linear maps of the blocks (PEFT's all-linear), ",
                PD_PLAN_RANK);
    add_grouped(out, plan.adapter_values);
    pd_buf_adds(out, " parameters\n            " LORA_NOTE "\n");
    for (int i = 0; i < plan.n_lora; i++)
        text_row(&plan.lora[i], plan.available, out);
}

void pd_model_info_text(const struct pd_model *m, struct pd_buf *out)
{
    pd_buf_addf(out, "model       %s\n", m->path);
    pd_buf_addf(out, "family      %s", m->cfg.family);
    if (strcmp(m->cfg.family, m->cfg.model_type) != 0)
        pd_buf_addf(out, " (%s)", m->cfg.model_type);
    pd_buf_addf(out, ", %s\n",
                pd_model_n_labels(m) > 1   ? "a classifier (score head)"
                : m->heads & PD_HEAD_SCORE ? "a reward model (score head)"
                                           : "a language model");
    if (pd_model_n_labels(m) > 1) {
        pd_buf_adds(out, "labels      ");
        pd_model_add_labels(m, out);
        pd_buf_addc(out, '\n');
    }
    text_files(m, out);
    text_shape(&m->cfg, out);
    text_tokenizer(m, out);
    text_plan(m, out);
}

static enum pd_rc check_tensor(const struct pd_model *m, const struct pd_param *p, float *rows,
                               size_t chunk, struct pd_err *err)
{
    size_t n = p->ndim > 1 ? (size_t)p->shape[0] : 1, row = p->n / n;
    for (size_t first = 0; first < n; first += chunk) {
        size_t k = n - first < chunk ? n - first : chunk;
        if (pd_sig_stop())
            return PD_FAIL(err, PD_INTERRUPTED, "interrupted at tensor %s", p->name);
        if (p->ndim > 1)
            pd_param_rows(p, (int64_t)first, (int64_t)k, rows);
        else
            pd_dtype_to_f32(p->dtype, p->data, rows, row);
        for (size_t i = 0; i < k * row; i++)
            if (!isfinite(rows[i]))
                return PD_FAIL(err, PD_NONFINITE, "%s: tensor %s is %s at value %zu of %zu",
                               m->path, p->name, isnan(rows[i]) ? "NaN" : "infinite",
                               first * row + i, p->n);
    }
    return PD_OK;
}

enum pd_rc pd_model_check_finite(const struct pd_model *m, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    for (size_t i = 0; i < m->params.n && rc == PD_OK; i++) {
        const struct pd_param *p = &m->params.v[i];
        size_t row = p->ndim > 1 ? p->n / (size_t)p->shape[0] : p->n;
        size_t chunk = ((size_t)1 << 18) / row + 1;
        float *rows = pd_try_alloc(chunk * row, sizeof *rows);
        rc = rows ? check_tensor(m, p, rows, chunk, err)
                  : PD_FAIL(err, PD_NOMEM, "no memory to check %s", p->name);
        pd_free(rows);
    }
    return rc;
}
