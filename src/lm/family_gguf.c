/* Reading the keys of a GGUF file: what the family files call. */
#include "lm/family.h"

#include "base/mem.h"

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

/* ---- rope ---- */

/* Does llama3 scaling by these parameters come to the divisors of the file? */
static bool is_llama3(const struct pd_config *cfg, const struct pd_rope *r, const float *divisors)
{
    struct pd_config plain = *cfg, scaled = *cfg;
    bool same = r->low_freq_factor > 0 && r->high_freq_factor > r->low_freq_factor &&
                r->original_max_positions > 0 && r->factor > 0;
    float *f = pd_xalloc((size_t)r->dim * sizeof *f), *g = f + r->dim / 2;
    plain.rope.scaling = PD_LM_SCALE_NONE;
    scaled.rope = *r;
    (void)pd_config_rope_freqs(&plain, 0, f);
    (void)pd_config_rope_freqs(&scaled, 0, g);
    for (int i = 0; same && i < r->dim / 2; i++)
        same = fabsf(f[i] / g[i] - divisors[i]) <= 1e-5F * divisors[i];
    pd_free(f);
    return same;
}

/* A config.json says llama3 scaling by its parameters, a GGUF file by what they come to. Files of
 * ours keep the parameters beside it; of others' all but the factor are guessed, and held against
 * what they come to. */
static bool recover_llama3(const struct pd_key_reader *r, struct pd_config *cfg, const float *d)
{
    static const int originals[] = {8192, 4096, 2048, 16384, 32768, 65536, 131072};
    struct pd_rope *rope = &cfg->rope, guess = *rope;
    guess.scaling = PD_LM_SCALE_LLAMA3;
    guess.factor = pd_gguf_f64(r->g, PD_KEY_LLAMA3 "factor", 0);
    guess.low_freq_factor = pd_gguf_f64(r->g, PD_KEY_LLAMA3 "low_freq_factor", 0);
    guess.high_freq_factor = pd_gguf_f64(r->g, PD_KEY_LLAMA3 "high_freq_factor", 0);
    guess.original_max_positions = (int)pd_gguf_i64(r->g, PD_KEY_LLAMA3 "original_positions", 0);
    bool found = is_llama3(cfg, &guess, d);
    guess.low_freq_factor = found ? guess.low_freq_factor : 1;
    guess.high_freq_factor = found ? guess.high_freq_factor : 4;
    for (int i = 0; !found && i < rope->dim / 2; i++)
        guess.factor = i == 0 || (double)d[i] > guess.factor ? (double)d[i] : guess.factor;
    for (size_t i = 0; !found && i < sizeof originals / sizeof *originals; i++) {
        guess.original_max_positions = originals[i];
        found = is_llama3(cfg, &guess, d);
    }
    if (found)
        *rope = guess;
    return found;
}

/* Factors that llama3 scaling was turned into when the file was made: of each frequency. */
static void read_divisors(struct pd_key_reader *r, struct pd_config *cfg)
{
    struct pd_rope *rope = &cfg->rope;
    const struct pd_gguf_tensor *d = pd_gguf_tensor(r->g, "rope_freqs.weight");
    if (!d)
        return;
    if (d->dtype != PD_DTYPE_F32 || d->ndim != 1 || d->shape[0] != rope->dim / 2)
        pd_key_fail(r, PD_INVALID, "tensor rope_freqs.weight is not F32 [%d]", rope->dim / 2);
    else if (r->rc == PD_OK && rope->dim > 0 &&
             (rope->scaling != PD_LM_SCALE_NONE || !recover_llama3(r, cfg, d->data)))
        rope->divisors = d->data;
}

/* As llama.cpp: a factor without a type is linear, and the older key counts where the newer is not
 * there. */
static void read_factor(struct pd_key_reader *r, struct pd_rope *rope)
{
    rope->factor = pd_key_num(r, "rope.scaling.factor", pd_key_num(r, "rope.scale_linear", 0));
    if (rope->factor == 0)
        rope->factor = 1;
    if (rope->factor != 1)
        rope->scaling = PD_LM_SCALE_LINEAR;
}

void pd_key_rope(struct pd_key_reader *r, struct pd_config *cfg)
{
    struct pd_rope *rope = &cfg->rope;
    char full[96];
    rope->dim = pd_key_int(r, "rope.dimension_count", rope->dim);
    rope->theta = pd_key_num(r, "rope.freq_base", rope->theta);
    rope->original_max_positions =
        pd_key_int(r, "rope.scaling.original_context_length", cfg->max_positions);
    read_factor(r, rope);
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
    else if (pd_str_eqz(scaling, "none"))
        rope->scaling = PD_LM_SCALE_NONE;
    else if (scaling.ptr)
        pd_key_fail(r, PD_UNSUPPORTED, "key %s \"%.*s\" is not known", full, PD_STR_ARG(scaling));
    read_divisors(r, cfg);
}
