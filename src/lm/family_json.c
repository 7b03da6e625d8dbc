/* Reading and writing config.json: what the family files call. */
#include "lm/family.h"

#include <inttypes.h>
#include <math.h>

void pd_cfg_fail(struct pd_cfg_reader *r, const char *fmt, ...)
{
    char what[300];
    va_list ap;
    if (r->rc != PD_OK)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    r->rc = PD_FAIL(r->err, PD_INVALID, "%s: %s", r->path, what);
}

/* The first alias that is there; its name is left in *name. */
static struct json_object *lookup(struct pd_cfg_reader *r, const char *keys, struct pd_str *name)
{
    struct pd_str rest = pd_str_from(keys), key;
    if (r->rc != PD_OK)
        return NULL;
    while (pd_str_split(&rest, '|', &key)) {
        char z[64];
        (void)snprintf(z, sizeof z, "%.*s", PD_STR_ARG(key));
        struct json_object *v = pd_json_get(r->o, z);
        if (v && !json_object_is_type(v, json_type_null)) {
            *name = key;
            return v;
        }
    }
    *name = pd_str_from(keys);
    return NULL;
}

bool pd_cfg_has(const struct pd_cfg_reader *r, const char *key)
{
    return json_object_object_get_ex(r->o, key, NULL);
}

int pd_cfg_int(struct pd_cfg_reader *r, const char *keys, int64_t fallback)
{
    struct pd_str name;
    struct json_object *v = lookup(r, keys, &name);
    int64_t n = fallback;
    if (v && !json_object_is_type(v, json_type_int))
        pd_cfg_fail(r, "%.*s is %s, expected an integer", PD_STR_ARG(name), pd_json_type_name(v));
    else if (v)
        n = json_object_get_int64(v);
    else if (fallback == PD_CFG_REQUIRED)
        pd_cfg_fail(r, "\"%.*s\" is missing", PD_STR_ARG(name));
    if (r->rc == PD_OK && (n < INT32_MIN || n > INT32_MAX))
        pd_cfg_fail(r, "%.*s is %" PRId64 ", out of range", PD_STR_ARG(name), n);
    return r->rc == PD_OK ? (int)n : 0;
}

double pd_cfg_num(struct pd_cfg_reader *r, const char *keys, double fallback)
{
    struct pd_str name;
    struct json_object *v = lookup(r, keys, &name);
    if (!v)
        return fallback;
    if (!json_object_is_type(v, json_type_int) && !json_object_is_type(v, json_type_double)) {
        pd_cfg_fail(r, "%.*s is %s, expected a number", PD_STR_ARG(name), pd_json_type_name(v));
        return fallback;
    }
    return json_object_get_double(v);
}

bool pd_cfg_bool(struct pd_cfg_reader *r, const char *keys, bool fallback)
{
    struct pd_str name;
    struct json_object *v = lookup(r, keys, &name);
    if (v && !json_object_is_type(v, json_type_boolean)) {
        pd_cfg_fail(r, "%.*s is %s, expected true or false", PD_STR_ARG(name),
                    pd_json_type_name(v));
        return fallback;
    }
    return v ? json_object_get_boolean(v) : fallback;
}

struct pd_str pd_cfg_str(struct pd_cfg_reader *r, const char *keys, const char *fallback)
{
    struct pd_str name;
    struct json_object *v = lookup(r, keys, &name);
    if (v && !json_object_is_type(v, json_type_string)) {
        pd_cfg_fail(r, "%.*s is %s, expected a string", PD_STR_ARG(name), pd_json_type_name(v));
        return pd_str_from(fallback);
    }
    return v ? pd_json_value_str(v) : pd_str_from(fallback);
}

void pd_cfg_equal_heads(struct pd_cfg_reader *r, struct pd_config *cfg)
{
    int heads = cfg->n_heads > 0 ? cfg->n_heads : 1; /* else pd_config_check says so */
    if (cfg->hidden_size % heads != 0)
        pd_cfg_fail(r, "hidden size %d is not a multiple of %d heads", cfg->hidden_size, heads);
    cfg->head_dim = cfg->hidden_size / heads;
}

/* The first row of an activation is how it is written back. */
static const struct {
    const char *name;
    enum pd_act act;
} acts[] = {
    {"silu", PD_ACT_SILU},
    {"swish", PD_ACT_SILU},
    {"gelu", PD_ACT_GELU},
    {"gelu_new", PD_ACT_GELU_TANH},
    {"gelu_pytorch_tanh", PD_ACT_GELU_TANH},
    {"gelu_fast", PD_ACT_GELU_TANH},
    {"relu", PD_ACT_RELU},
};

enum pd_act pd_cfg_act(struct pd_cfg_reader *r, const char *keys, const char *fallback)
{
    struct pd_str name = pd_cfg_str(r, keys, fallback);
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
        if (pd_str_eqz(name, acts[i].name))
            return acts[i].act;
    pd_cfg_fail(r, "activation \"%.*s\" is not known (silu, gelu, gelu_new, relu)",
                PD_STR_ARG(name));
    return PD_ACT_SILU;
}

const char *pd_act_hf_name(enum pd_act a)
{
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
        if (acts[i].act == a)
            return acts[i].name;
    return "silu";
}

static const char *const scalings[] = {
    [PD_LM_SCALE_NONE] = "default",    [PD_LM_SCALE_LINEAR] = "linear",
    [PD_LM_SCALE_DYNAMIC] = "dynamic", [PD_LM_SCALE_LLAMA3] = "llama3",
    [PD_LM_SCALE_YARN] = "yarn",
};

/* The factor that yarn multiplies cos and sin with, when the keys say more than the paper's rule.
 */
static double yarn_attention(struct pd_cfg_reader *s, double factor)
{
    double given = pd_cfg_num(s, "attention_factor", 0), mscale = pd_cfg_num(s, "mscale", 0),
           all_dim = pd_cfg_num(s, "mscale_all_dim", 0);
    if (given > 0 || !(mscale > 0) || !(all_dim > 0) || factor <= 1)
        return given;
    return (0.1 * mscale * log(factor) + 1) / (0.1 * all_dim * log(factor) + 1);
}

static enum pd_lm_scaling scaling_of(struct pd_cfg_reader *s)
{
    struct pd_str kind = pd_cfg_str(s, "rope_type|type", "default");
    for (size_t i = 0; i < sizeof scalings / sizeof *scalings; i++)
        if (pd_str_eqz(kind, scalings[i]))
            return (enum pd_lm_scaling)i;
    pd_cfg_fail(s, "rope_type \"%.*s\" is not known (default, linear, dynamic, llama3, yarn)",
                PD_STR_ARG(kind));
    return PD_LM_SCALE_NONE;
}

/* The rotated part of each head; s reads rope_parameters inside of r. */
static void read_part(struct pd_cfg_reader *r, struct pd_cfg_reader *s, struct pd_config *cfg,
                      bool partial)
{
    const char *key = "partial_rotary_factor";
    double part = pd_cfg_num(s, key, partial ? 0 : pd_cfg_num(r, key, 0));
    if (!(part > 0 && part <= 1))
        return;
    int dim = (int)(cfg->head_dim * part);
    if (partial)
        cfg->rope.dim = dim;
    else if (dim != cfg->head_dim && cfg->rope.scaling != PD_LM_SCALE_NONE)
        pd_cfg_fail(s, "partial_rotary_factor is %g, and a scaled %s rotates whole heads", part,
                    cfg->model_type);
}

void pd_cfg_rope(struct pd_cfg_reader *r, struct pd_config *cfg, const char *theta_keys,
                 bool partial)
{
    struct pd_rope *rope = &cfg->rope;
    struct pd_str name;
    rope->theta = pd_cfg_num(r, theta_keys, rope->theta);
    struct json_object *o = lookup(r, "rope_parameters|rope_scaling", &name);
    if (!o)
        return;
    if (!json_object_is_type(o, json_type_object)) {
        pd_cfg_fail(r, "%.*s is %s, expected an object", PD_STR_ARG(name), pd_json_type_name(o));
        return;
    }
    struct pd_cfg_reader s = {.o = o, .path = r->path, .err = r->err};
    rope->theta = pd_cfg_num(&s, "rope_theta", rope->theta);
    rope->scaling = scaling_of(&s);
    read_part(r, &s, cfg, partial);
    rope->original_max_positions =
        pd_cfg_int(&s, "original_max_position_embeddings",
                   pd_cfg_int(r, "original_max_position_embeddings", cfg->max_positions));
    double stretch = (double)cfg->max_positions /
                     (rope->original_max_positions > 0 ? rope->original_max_positions : 1);
    rope->factor = pd_cfg_num(&s, "factor", rope->scaling == PD_LM_SCALE_YARN ? stretch : 1);
    rope->low_freq_factor = pd_cfg_num(&s, "low_freq_factor", 1);
    rope->high_freq_factor = pd_cfg_num(&s, "high_freq_factor", 4);
    rope->attention_factor = yarn_attention(&s, rope->factor);
    rope->beta_fast = pd_cfg_num(&s, "beta_fast", 32);
    rope->beta_slow = pd_cfg_num(&s, "beta_slow", 1);
    rope->untruncated = !pd_cfg_bool(&s, "truncate", true);
    if (r->rc == PD_OK)
        r->rc = s.rc;
}

void pd_rope_to_json(const struct pd_config *cfg, struct pd_jw *w)
{
    const struct pd_rope *r = &cfg->rope;
    pd_jw_kf64(w, "rope_theta", r->theta);
    pd_jw_key(w, "rope_scaling");
    if (r->scaling == PD_LM_SCALE_NONE) {
        pd_jw_null(w);
        return;
    }
    pd_jw_object(w);
    pd_jw_kstrz(w, "rope_type", scalings[r->scaling]);
    pd_jw_kf64(w, "factor", r->factor);
    if (r->scaling == PD_LM_SCALE_LLAMA3) {
        pd_jw_kf64(w, "low_freq_factor", r->low_freq_factor);
        pd_jw_kf64(w, "high_freq_factor", r->high_freq_factor);
    }
    if (r->scaling == PD_LM_SCALE_YARN) {
        pd_jw_kf64(w, "beta_fast", r->beta_fast);
        pd_jw_kf64(w, "beta_slow", r->beta_slow);
        if (r->attention_factor > 0)
            pd_jw_kf64(w, "attention_factor", r->attention_factor);
        if (r->untruncated)
            pd_jw_kbool(w, "truncate", false);
    }
    pd_jw_ki64(w, "original_max_position_embeddings", r->original_max_positions);
    pd_jw_object_end(w);
}

static void see_all(struct pd_config *cfg, int layer)
{
    cfg->sees_all[layer / 8] |= (uint8_t)(1 << layer % 8);
}

void pd_cfg_windows(struct pd_cfg_reader *r, struct pd_config *cfg, int window, int first_windowed)
{
    struct pd_str name;
    struct json_object *types = lookup(r, "layer_types", &name);
    int n = cfg->n_layers < PD_CONFIG_MAX_LAYERS ? cfg->n_layers : PD_CONFIG_MAX_LAYERS;
    cfg->sliding_window = window;
    if (!types) {
        for (int l = 0; l < n && l < first_windowed; l++)
            see_all(cfg, l);
        return;
    }
    if (!json_object_is_type(types, json_type_array) ||
        json_object_array_length(types) != (size_t)cfg->n_layers) {
        pd_cfg_fail(r, "layer_types is not a list of %d", cfg->n_layers);
        return;
    }
    for (int l = 0; l < n; l++) {
        struct pd_str type = pd_json_value_str(json_object_array_get_idx(types, (size_t)l));
        if (pd_str_eqz(type, "full_attention"))
            see_all(cfg, l);
        else if (!pd_str_eqz(type, "sliding_attention"))
            pd_cfg_fail(r,
                        "layer_types[%d] is \"%.*s\"; known are full_attention and "
                        "sliding_attention",
                        l, PD_STR_ARG(type));
        else if (window <= 0)
            pd_cfg_fail(r, "layer_types[%d] is sliding_attention, and there is no sliding_window",
                        l);
    }
}
