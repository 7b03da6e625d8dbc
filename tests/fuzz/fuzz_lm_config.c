/* A config.json: refused, or a description whose sizes, rotations and windows can be worked out. */
#include "base/json.h"
#include "base/mem.h"
#include "lm/family.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const struct pd_config *cfg)
{
    if (pd_config_n_params(cfg) <= 0 || cfg->qkv.width <= 0 || pd_config_context(cfg) <= 0)
        pd_bug("a checked description has no size");
    for (int l = 0; l < cfg->n_layers; l++)
        if (pd_config_window(cfg, l) < 0)
            pd_bug("layer %d has a negative window", l);
    if (cfg->pos != PD_LM_POS_ROPE || cfg->rope.dim > 4096)
        return;
    float *f = pd_xalloc((size_t)cfg->rope.dim / 2 * sizeof *f);
    (void)pd_config_rope_freqs(cfg, pd_config_context(cfg), f);
    pd_free(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json_object *o = NULL;
    struct pd_config cfg;
    const struct pd_family *family = NULL;
    struct pd_err err;
    if (pd_json_parse((struct pd_str){(const char *)data, size}, &o, &err) == PD_OK &&
        pd_config_from_json(o, "config.json", &cfg, &family, &err) == PD_OK)
        use(&cfg);
    json_object_put(o);
    return 0;
}
