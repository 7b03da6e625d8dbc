#include "lm/config.h"

#include <inttypes.h>
#include <math.h>

/* No dimension of a real model comes near; products of three of them stay inside int64. */
#define DIM_MAX    (1 << 24)
#define FACTOR_MAX 1e6

static struct pd_qkv_layout blocks(const struct pd_config *cfg)
{
    int64_t q = (int64_t)cfg->n_heads * cfg->head_dim,
            kv = (int64_t)cfg->n_kv_heads * cfg->head_dim;
    return (struct pd_qkv_layout){
        .q_off = 0,
        .k_off = q,
        .v_off = q + kv,
        .q_group_stride = q / cfg->n_kv_heads,
        .kv_stride = cfg->head_dim,
        .width = q + 2 * kv,
        .blocks = true,
    };
}

static struct pd_qkv_layout groups(const struct pd_config *cfg)
{
    int64_t D = cfg->head_dim, group = cfg->n_heads / cfg->n_kv_heads;
    return (struct pd_qkv_layout){
        .q_off = 0,
        .k_off = group * D,
        .v_off = (group + 1) * D,
        .q_group_stride = (group + 2) * D,
        .kv_stride = (group + 2) * D,
        .width = (group + 2) * D * cfg->n_kv_heads,
    };
}

void pd_config_set_qkv(struct pd_config *cfg)
{
    /* a single group is in blocks */
    cfg->qkv = cfg->qkv_grouped && cfg->n_kv_heads > 1 ? groups(cfg) : blocks(cfg);
}

int pd_config_window(const struct pd_config *cfg, int layer)
{
    return cfg->sees_all[layer / 8] >> layer % 8 & 1 ? 0 : cfg->sliding_window;
}

static bool is_dynamic(const struct pd_config *cfg)
{
    return cfg->pos == PD_LM_POS_ROPE && cfg->rope.scaling == PD_LM_SCALE_DYNAMIC;
}

int64_t pd_config_share_limit(const struct pd_config *cfg)
{
    return is_dynamic(cfg) ? cfg->max_positions : 0;
}

int64_t pd_config_context(const struct pd_config *cfg)
{
    return is_dynamic(cfg) ? (int64_t)(cfg->max_positions * fmax(cfg->rope.factor, 1))
                           : cfg->max_positions;
}

static enum pd_rc check_rope(const struct pd_config *cfg, struct pd_err *err)
{
    const struct pd_rope *r = &cfg->rope;
    if (r->dim <= 0 || r->dim > cfg->head_dim || r->dim % 2 != 0)
        return PD_FAIL(err, PD_INVALID, "rotary dimension %d; expected an even number up to %d",
                       r->dim, cfg->head_dim);
    if (!(r->theta > 0) || !isfinite(r->theta))
        return PD_FAIL(err, PD_INVALID, "rope_theta is %g; expected a positive number", r->theta);
    if (r->scaling != PD_LM_SCALE_NONE && !(r->factor > 0 && r->factor <= FACTOR_MAX))
        return PD_FAIL(err, PD_INVALID, "rope scaling factor is %g; expected more than 0, up to %g",
                       r->factor, FACTOR_MAX);
    if (r->scaling == PD_LM_SCALE_LLAMA3 &&
        (!(r->low_freq_factor > 0) || !(r->high_freq_factor > r->low_freq_factor)))
        return PD_FAIL(err, PD_INVALID, "rope scaling: low_freq_factor %g, high_freq_factor %g",
                       r->low_freq_factor, r->high_freq_factor);
    if (r->scaling == PD_LM_SCALE_DYNAMIC && r->dim <= 2)
        return PD_FAIL(err, PD_INVALID, "dynamic rope scaling of %d dimensions; expected more",
                       r->dim);
    if (r->scaling != PD_LM_SCALE_NONE && r->original_max_positions <= 0)
        return PD_FAIL(err, PD_INVALID, "rope scaling: original_max_position_embeddings is %d",
                       r->original_max_positions);
    return PD_OK;
}

enum pd_rc pd_config_check(const struct pd_config *cfg, struct pd_err *err)
{
    const struct {
        const char *what;
        int value;
    } dims[] = {
        {"vocabulary size", cfg->vocab_size},
        {"hidden size", cfg->hidden_size},
        {"number of layers", cfg->n_layers},
        {"number of heads", cfg->n_heads},
        {"number of key/value heads", cfg->n_kv_heads},
        {"head dimension", cfg->head_dim},
        {"feed-forward size", cfg->ffn_size},
        {"number of positions", cfg->max_positions},
    };
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        if (dims[i].value <= 0 || dims[i].value > DIM_MAX)
            return PD_FAIL(err, PD_INVALID, "%s is %d; expected 1 to %d", dims[i].what,
                           dims[i].value, DIM_MAX);
    if (cfg->n_layers > PD_CONFIG_MAX_LAYERS)
        return PD_FAIL(err, PD_INVALID, "%d layers; at most %d are read", cfg->n_layers,
                       PD_CONFIG_MAX_LAYERS);
    if (cfg->n_heads % cfg->n_kv_heads != 0)
        return PD_FAIL(err, PD_INVALID, "%d heads are not a multiple of %d key/value heads",
                       cfg->n_heads, cfg->n_kv_heads);
    if ((int64_t)cfg->n_heads * cfg->head_dim > DIM_MAX)
        return PD_FAIL(err, PD_INVALID, "%d heads of %d dimensions are too many", cfg->n_heads,
                       cfg->head_dim);
    if (!(cfg->norm_eps > 0) || !isfinite(cfg->norm_eps))
        return PD_FAIL(err, PD_INVALID, "the norm's epsilon is %g; expected a positive number",
                       cfg->norm_eps);
    if (cfg->sliding_window < 0)
        return PD_FAIL(err, PD_INVALID, "sliding_window is %d", cfg->sliding_window);
    if (cfg->n_norms != 2 && !(cfg->n_norms == 1 && cfg->parallel_residual))
        return PD_FAIL(err, PD_INVALID, "%d norms a block", cfg->n_norms);
    return cfg->pos == PD_LM_POS_ROPE ? check_rope(cfg, err) : PD_OK;
}

/* "Meta Llama 3.1": long wavelengths are stretched, short ones kept, those between blended. */
static double scale_llama3(const struct pd_rope *r, double f)
{
    double wavelength = 2 * M_PI / f, original = r->original_max_positions;
    if (wavelength < original / r->high_freq_factor)
        return f;
    if (wavelength > original / r->low_freq_factor)
        return f / r->factor;
    double s =
        (original / wavelength - r->low_freq_factor) / (r->high_freq_factor - r->low_freq_factor);
    return (1 - s) * f / r->factor + s * f;
}

/* The dimension that turns `rotations` times over the original context (Peng et al. 2023, 3.2). */
static double yarn_dim(const struct pd_rope *r, double rotations)
{
    return r->dim * log(r->original_max_positions / (rotations * 2 * M_PI)) / (2 * log(r->theta));
}

static double scale_yarn(const struct pd_rope *r, double f, int i)
{
    double low = yarn_dim(r, r->beta_fast), high = yarn_dim(r, r->beta_slow);
    low = fmax(r->untruncated ? low : floor(low), 0);
    high = fmin(r->untruncated ? high : ceil(high), r->dim - 1);
    if (low == high)
        high += 0.001;
    double ramp = fmin(fmax((i - low) / (high - low), 0), 1);
    return f / r->factor * ramp + f * (1 - ramp);
}

double pd_config_rope_freqs(const struct pd_config *cfg, int64_t n_positions, float *out)
{
    const struct pd_rope *r = &cfg->rope;
    double base = r->theta;
    if (r->scaling == PD_LM_SCALE_DYNAMIC && n_positions > cfg->max_positions)
        base *= pow(r->factor * (double)n_positions / cfg->max_positions - (r->factor - 1),
                    r->dim / (r->dim - 2.0));
    for (int i = 0; i < r->dim / 2; i++) {
        double f = 1 / pow(base, 2.0 * i / r->dim);
        if (r->divisors)
            f /= (double)r->divisors[i];
        switch (r->scaling) {
        case PD_LM_SCALE_LINEAR:
            f /= r->factor;
            break;
        case PD_LM_SCALE_LLAMA3:
            f = scale_llama3(r, f);
            break;
        case PD_LM_SCALE_YARN:
            f = scale_yarn(r, f, i);
            break;
        case PD_LM_SCALE_DYNAMIC:
        case PD_LM_SCALE_NONE:
            break;
        }
        out[i] = (float)f;
    }
    if (r->scaling != PD_LM_SCALE_YARN)
        return 1;
    if (r->attention_factor > 0)
        return r->attention_factor;
    return r->factor > 1 ? 0.1 * log(r->factor) + 1 : 1;
}

bool pd_config_is_eos(const struct pd_config *cfg, int32_t id)
{
    for (int i = 0; i < cfg->n_eos; i++)
        if (cfg->eos_ids[i] == id)
            return true;
    return false;
}
