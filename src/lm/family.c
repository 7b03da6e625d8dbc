#include "lm/family.h"

#include "base/mem.h"

#include <inttypes.h>
#include <math.h>

static const struct pd_family *const families[] = {
#define X(name) &pd_family_##name,
    PD_FAMILY_LIST(X)
#undef X
};
#define X(name) +1
enum { N_FAMILIES = 0 PD_FAMILY_LIST(X) };
#undef X

const struct pd_family *pd_family_by_name(const char *name)
{
    for (size_t i = 0; i < N_FAMILIES; i++)
        if (strcmp(families[i]->name, name) == 0)
            return families[i];
    return NULL;
}

/* ", name" without the comma before the first. */
static void add_known(char *list, size_t size, const char *name)
{
    size_t used = strlen(list);
    (void)snprintf(list + used, size - used, "%s%s", used ? ", " : "", name);
}

/* By the model_type of a config.json, or by the architecture of a GGUF file. */
static const struct pd_family *family_of(struct pd_str name, bool gguf,
                                         const struct pd_family_type **type)
{
    for (size_t i = 0; i < N_FAMILIES; i++)
        for (const struct pd_family_type *t = families[i]->types; t->model_type; t++)
            if (pd_str_eqz(name, gguf ? t->gguf_arch : t->model_type)) {
                *type = t;
                return families[i];
            }
    return NULL;
}

static enum pd_rc unknown_type(struct pd_str model_type, const char *path, struct pd_err *err)
{
    char known[256] = "";
    for (size_t i = 0; i < N_FAMILIES; i++)
        for (const struct pd_family_type *t = families[i]->types; t->model_type; t++)
            add_known(known, sizeof known, t->model_type);
    if (!model_type.ptr)
        return PD_FAIL(err, PD_INVALID, "%s: no \"model_type\"; known are %s", path, known);
    return PD_FAIL(err, PD_UNSUPPORTED, "%s: model_type \"%.*s\" is not known; known are %s", path,
                   PD_STR_ARG(model_type), known);
}

static enum pd_rc unknown_arch(struct pd_str arch, const char *path, struct pd_err *err)
{
    char known[256] = "";
    const struct pd_family_type *first = NULL;
    for (size_t i = 0; i < N_FAMILIES; i++)
        for (const struct pd_family_type *t = families[i]->types; t->model_type; t++) {
            (void)family_of(pd_str_from(t->gguf_arch), true, &first);
            if (first == t)
                add_known(known, sizeof known, t->gguf_arch);
        }
    if (!arch.ptr)
        return PD_FAIL(err, PD_INVALID, "%s: key general.architecture is missing", path);
    return PD_FAIL(err, PD_UNSUPPORTED, "%s: architecture \"%.*s\" is not known; known are %s",
                   path, PD_STR_ARG(arch), known);
}

/* ---- config.json and GGUF keys ---- */

/* eos_token_id is a number or a list of them. */
static void read_eos(struct pd_cfg_reader *r, struct pd_config *cfg)
{
    struct json_object *v = pd_json_get(r->o, "eos_token_id"); /* NULL for null */
    bool list = v && json_object_is_type(v, json_type_array);
    size_t n = list ? json_object_array_length(v) : v ? 1 : 0;
    if (n > PD_CONFIG_MAX_EOS) {
        pd_cfg_fail(r, "%zu eos_token_ids, at most %d are read", n, PD_CONFIG_MAX_EOS);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        struct json_object *id = list ? json_object_array_get_idx(v, i) : v;
        if (!json_object_is_type(id, json_type_int)) {
            pd_cfg_fail(r, "eos_token_id is %s, expected an integer or a list of them",
                        pd_json_type_name(id));
            return;
        }
        cfg->eos_ids[cfg->n_eos++] = json_object_get_int(id);
    }
}

enum pd_rc pd_config_from_json(struct json_object *o, const char *path, struct pd_config *cfg,
                               const struct pd_family **family, struct pd_err *err)
{
    const struct pd_family_type *type = NULL;
    struct pd_cfg_reader r = {.o = o, .path = path, .err = err};
    if (!json_object_is_type(o, json_type_object))
        return PD_FAIL(err, PD_PARSE, "%s: not a JSON object", path);
    const struct pd_family *f = family_of(pd_json_str(o, "model_type"), false, &type);
    if (!f)
        return unknown_type(pd_json_str(o, "model_type"), path, err);
    struct pd_config c = {.n_norms = 2, .n_labels = 1};
    (void)snprintf(c.family, sizeof c.family, "%s", f->name);
    (void)snprintf(c.model_type, sizeof c.model_type, "%s", type->model_type);
    c.vocab_size = pd_cfg_int(&r, "vocab_size", PD_CFG_REQUIRED);
    c.bos_id = pd_cfg_int(&r, "bos_token_id", -1);
    c.pad_id = pd_cfg_int(&r, "pad_token_id", -1);
    c.initializer_range = pd_cfg_num(&r, "initializer_range", 0.02);
    read_eos(&r, &c);
    c.padding_row = f->padding_row ? c.pad_id : -1;
    f->from_json(&r, &c);
    if (r.rc != PD_OK)
        return r.rc;
    enum pd_rc rc = pd_config_check(&c, err);
    if (rc != PD_OK)
        return pd_err_prefix(err, "%s", path);
    pd_config_set_qkv(&c);
    *cfg = c;
    *family = f;
    return PD_OK;
}

static void add_eos(struct pd_config *c, int64_t id)
{
    if (id >= 0 && id < c->vocab_size && c->n_eos < PD_CONFIG_MAX_EOS &&
        !pd_config_is_eos(c, (int32_t)id))
        c->eos_ids[c->n_eos++] = (int32_t)id;
}

static void read_gguf_eos(const struct pd_gguf *g, struct pd_config *c)
{
    const struct pd_gguf_kv *all = pd_gguf_get(g, PD_KEY_EOS_IDS);
    if (all && all->type == PD_GGUF_ARR && all->elem == PD_GGUF_U32)
        for (uint64_t i = 0; i < all->n && i < PD_CONFIG_MAX_EOS; i++)
            add_eos(c, pd_gguf_elem_i64(all, i));
    if (c->n_eos > 0)
        return;
    add_eos(c, pd_gguf_i64(g, "tokenizer.ggml.eos_token_id", -1));
    add_eos(c, pd_gguf_i64(g, "tokenizer.ggml.eot_token_id", -1));
}

enum pd_rc pd_config_from_gguf(const struct pd_gguf *g, struct pd_config *cfg,
                               const struct pd_family **family, struct pd_err *err)
{
    const struct pd_family_type *type = NULL;
    const struct pd_family *f = family_of(pd_gguf_str(g, "general.architecture"), true, &type);
    if (!f)
        return unknown_arch(pd_gguf_str(g, "general.architecture"), g->path, err);
    struct pd_config c = {.n_norms = 2, .n_labels = 1, .initializer_range = 0.02};
    (void)snprintf(c.family, sizeof c.family, "%s", f->name);
    (void)snprintf(c.model_type, sizeof c.model_type, "%s", type->model_type);
    const struct pd_gguf_tensor *embed = pd_gguf_tensor(g, "token_embd.weight");
    if (!embed || embed->ndim != 2 || embed->shape[0] > INT32_MAX)
        return PD_FAIL(err, PD_INVALID, "%s: tensor token_embd.weight is missing or not a matrix",
                       g->path);
    c.vocab_size = (int)embed->shape[0];
    c.tied = !pd_gguf_tensor(g, "output.weight");
    c.bos_id = (int32_t)pd_gguf_i64(g, "tokenizer.ggml.bos_token_id", -1);
    c.pad_id = (int32_t)pd_gguf_i64(g, "tokenizer.ggml.padding_token_id", -1);
    c.padding_row = f->padding_row ? c.pad_id : -1;
    read_gguf_eos(g, &c);
    struct pd_key_reader r = {.g = g, .arch = type->gguf_arch, .err = err};
    f->from_gguf(&r, &c);
    if (r.rc != PD_OK)
        return r.rc;
    enum pd_rc rc = pd_config_check(&c, err);
    if (rc != PD_OK)
        return pd_err_prefix(err, "%s", g->path);
    pd_config_set_qkv(&c);
    *cfg = c;
    *family = f;
    return PD_OK;
}

/* ---- the tensor tables ---- */

bool pd_role_in_block(enum pd_role role)
{
    return role >= PD_ROLE_NORM1_W && role <= PD_ROLE_DOWN_B;
}

bool pd_spec_present(const struct pd_tensor_spec *s, const struct pd_config *cfg)
{
    bool twin = cfg->parallel_residual && cfg->n_norms == 2;
    if (s->quirks & (twin ? PD_SPEC_UNLESS_TWIN : PD_SPEC_IF_TWIN))
        return false;
    switch (s->role) {
    case PD_ROLE_POS_EMBED:
        return cfg->pos == PD_LM_POS_LEARNED;
    case PD_ROLE_NORM1_B:
    case PD_ROLE_FINAL_B:
        return cfg->norm == PD_LM_LAYERNORM;
    case PD_ROLE_NORM2_W:
        return cfg->n_norms == 2;
    case PD_ROLE_NORM2_B:
        return cfg->n_norms == 2 && cfg->norm == PD_LM_LAYERNORM;
    case PD_ROLE_Q_B:
    case PD_ROLE_K_B:
    case PD_ROLE_V_B:
    case PD_ROLE_QKV_B:
        return cfg->qkv_bias;
    case PD_ROLE_Q_NORM:
    case PD_ROLE_K_NORM:
        return cfg->qk_norm;
    case PD_ROLE_OUT_B:
        return cfg->out_bias;
    case PD_ROLE_GATE_W:
        return cfg->gated;
    case PD_ROLE_GATE_B:
        return cfg->gated && cfg->mlp_bias;
    case PD_ROLE_UP_B:
    case PD_ROLE_DOWN_B:
        return cfg->mlp_bias;
    case PD_ROLE_HEAD_W:
        return !cfg->tied;
    case PD_ROLE_HEAD_B:
        return cfg->lm_head_bias;
    default:
        return true;
    }
}

int64_t pd_dim_size(enum pd_dim d, const struct pd_config *cfg)
{
    switch (d) {
    case PD_DIM_V:
        return cfg->vocab_size;
    case PD_DIM_H:
        return cfg->hidden_size;
    case PD_DIM_F:
        return cfg->ffn_size;
    case PD_DIM_D:
        return cfg->head_dim;
    case PD_DIM_Q:
        return (int64_t)cfg->n_heads * cfg->head_dim;
    case PD_DIM_KV:
        return (int64_t)cfg->n_kv_heads * cfg->head_dim;
    case PD_DIM_QKV:
        return cfg->qkv.width;
    case PD_DIM_POS:
        return cfg->max_positions;
    case PD_DIM_LABELS:
        return cfg->n_labels;
    case PD_DIM_NONE:
        break;
    }
    return 1;
}

char *pd_spec_name(const char *pattern, int layer)
{
    const char *hole = strstr(pattern, "{}");
    if (!hole)
        return pd_xstrdup(pattern);
    return pd_xasprintf("%.*s%d%s", (int)(hole - pattern), pattern, layer, hole + 2);
}

int64_t pd_config_n_params(const struct pd_config *cfg)
{
    const struct pd_family *f = pd_family_by_name(cfg->family);
    int64_t n = 0;
    for (size_t i = 0; f && i < f->n_specs; i++)
        if (pd_spec_present(&f->specs[i], cfg))
            n += pd_dim_size(f->specs[i].rows, cfg) * pd_dim_size(f->specs[i].cols, cfg) *
                 (pd_role_in_block(f->specs[i].role) ? cfg->n_layers : 1);
    return n;
}
