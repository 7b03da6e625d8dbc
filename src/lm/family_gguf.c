/* Reading the keys of a GGUF file: what the family files call. */
#include "lm/family.h"

#include <inttypes.h>
#include <math.h>

static const char *spell(const struct pd_key_reader *r, const char *key, char out[96])
{
    (void)snprintf(out, 96, "%s.%s", r->arch, key);
    return out;
}

void pd_key_fail(struct pd_key_reader *r, enum pd_rc rc, const char *fmt, ...)
{
    char what[300];
    va_list ap;
    if (r->rc != PD_OK)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    r->rc = PD_FAIL(r->err, rc, "%s: %s", r->g->path, what);
}

int pd_key_int(struct pd_key_reader *r, const char *key, int64_t fallback)
{
    char full[96];
    if (r->rc != PD_OK)
        return 0;
    int64_t v = pd_gguf_i64(r->g, spell(r, key, full), fallback);
    if (v == PD_CFG_REQUIRED)
        r->rc = pd_gguf_need_i64(r->g, full, &v, r->err);
    else if (v < INT32_MIN || v > INT32_MAX)
        pd_key_fail(r, PD_INVALID, "key %s is %" PRId64 ", out of range", full, v);
    return r->rc == PD_OK ? (int)v : 0;
}

double pd_key_num(struct pd_key_reader *r, const char *key, double fallback)
{
    char full[96];
    return pd_gguf_f64(r->g, spell(r, key, full), fallback);
}

bool pd_key_bool(struct pd_key_reader *r, const char *key, bool fallback)
{
    char full[96];
    return pd_gguf_bool(r->g, spell(r, key, full), fallback);
}

bool pd_key_tensor(const struct pd_key_reader *r, const char *name)
{
    return pd_gguf_tensor(r->g, name) != NULL;
}

/* A size that must be there and be positive: others are computed from it. */
static int size_of(struct pd_key_reader *r, const char *key)
{
    char full[96];
    int v = pd_key_int(r, key, PD_CFG_REQUIRED);
    if (r->rc == PD_OK && v <= 0)
        pd_key_fail(r, PD_INVALID, "key %s is %d, out of range", spell(r, key, full), v);
    return r->rc == PD_OK ? v : 1;
}

void pd_key_shape(struct pd_key_reader *r, struct pd_config *cfg)
{
    cfg->hidden_size = size_of(r, "embedding_length");
    cfg->n_layers = size_of(r, "block_count");
    cfg->n_heads = size_of(r, "attention.head_count");
    cfg->ffn_size = size_of(r, "feed_forward_length");
    cfg->max_positions = size_of(r, "context_length");
    cfg->n_kv_heads = pd_key_int(r, "attention.head_count_kv", cfg->n_heads);
    if (r->rc == PD_OK && cfg->hidden_size % cfg->n_heads != 0)
        pd_key_fail(r, PD_INVALID, "embedding length %d is not a multiple of %d heads",
                    cfg->hidden_size, cfg->n_heads);
    cfg->head_dim = pd_key_int(r, "attention.key_length", cfg->hidden_size / cfg->n_heads);
}

/* Factors that llama3 scaling was turned into when the file was made: of each frequency. */
static void read_divisors(struct pd_key_reader *r, struct pd_rope *rope)
{
    const struct pd_gguf_tensor *d = pd_gguf_tensor(r->g, "rope_freqs.weight");
    if (!d)
        return;
    if (d->dtype != PD_DTYPE_F32 || d->ndim != 1 || d->shape[0] != rope->dim / 2)
        pd_key_fail(r, PD_INVALID, "tensor rope_freqs.weight is not F32 [%d]", rope->dim / 2);
    else
        rope->divisors = d->data;
}

void pd_key_rope(struct pd_key_reader *r, struct pd_config *cfg)
{
    struct pd_rope *rope = &cfg->rope;
    char full[96];
    rope->dim = pd_key_int(r, "rope.dimension_count", rope->dim);
    rope->theta = pd_key_num(r, "rope.freq_base", rope->theta);
    rope->original_max_positions =
        pd_key_int(r, "rope.scaling.original_context_length", cfg->max_positions);
    rope->factor = pd_key_num(r, "rope.scaling.factor", 1);
    rope->beta_fast = pd_key_num(r, "rope.scaling.yarn_beta_fast", 32);
    rope->beta_slow = pd_key_num(r, "rope.scaling.yarn_beta_slow", 1);
    double attention = pd_key_num(r, "rope.scaling.attn_factor", 1); /* times yarn's own */
    if (attention != 1)
        rope->attention_factor = attention * (rope->factor > 1 ? 0.1 * log(rope->factor) + 1 : 1);
    struct pd_str scaling = pd_gguf_str(r->g, spell(r, "rope.scaling.type", full));
    if (pd_str_eqz(scaling, "linear"))
        rope->scaling = PD_LM_SCALE_LINEAR;
    else if (pd_str_eqz(scaling, "yarn"))
        rope->scaling = PD_LM_SCALE_YARN;
    else if (scaling.ptr && !pd_str_eqz(scaling, "none"))
        pd_key_fail(r, PD_UNSUPPORTED, "key %s \"%.*s\" is not known", full, PD_STR_ARG(scaling));
    read_divisors(r, rope);
}
