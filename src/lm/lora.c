#include "lm/lora.h"

#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"
#include "lm/model_int.h"
#include "lm/pull.h"

#include <inttypes.h>
#include <math.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define CONFIG "adapter_config.json"
#define PREFIX "base_model.model."
enum { MAX_CONFIG_BYTES = 1 << 24, MAX_PATH_TEXT = 512, MAX_RANK = 1 << 16 };

struct pd_lora {
    char *dir;
    struct json_object *config;
    struct pd_weights weights;
    bool rslora;
};

/* ---- adapter_config.json ---- */

static enum pd_rc read_config(const char *dir, struct json_object **out, struct pd_err *err)
{
    char *path = pd_xasprintf("%s/" CONFIG, dir);
    enum pd_rc rc = pd_json_read_file(path, MAX_CONFIG_BYTES, out, err);
    if (rc == PD_OK && !json_object_is_type(*out, json_type_object)) {
        json_object_put(*out);
        *out = NULL;
        rc = PD_FAIL(err, PD_PARSE, "%s: not a JSON object", path);
    }
    pd_free(path);
    return rc;
}

bool pd_lora_is_adapter(const char *dir)
{
    char *path = pd_xasprintf("%s/" CONFIG, dir);
    bool there = pd_fs_exists(path);
    pd_free(path);
    return there;
}

enum pd_rc pd_lora_base(const char *dir, char **base, struct pd_err *err)
{
    struct json_object *config = NULL;
    char *models = pd_pull_folder();
    enum pd_rc rc = read_config(dir, &config, err);
    if (rc != PD_OK)
        goto out;
    struct pd_str name = pd_json_str(config, "base_model_name_or_path");
    if (!name.ptr || name.len == 0) {
        rc = PD_FAIL(err, PD_INVALID,
                     "%s/" CONFIG
                     " names no base model; podium model merge BASE --adapter %s --out OUT",
                     dir, dir);
        goto out;
    }
    char *const places[] = {pd_xasprintf("%.*s", PD_STR_ARG(name)),
                            pd_xasprintf("%s/%.*s", dir, PD_STR_ARG(name)),
                            pd_xasprintf("%s/%.*s", models, PD_STR_ARG(name))};
    rc = PD_NOTFOUND;
    for (size_t i = 0; i < 3; i++) {
        if (rc != PD_OK && pd_fs_exists(places[i])) {
            *base = places[i];
            rc = PD_OK;
        } else {
            pd_free(places[i]);
        }
    }
    if (rc != PD_OK)
        rc = PD_FAIL(
            err, PD_NOTFOUND,
            "%s: its base model %.*s is not here; podium model pull hf://%.*s fetches it from "
            "a hub, podium model merge BASE --adapter %s --out OUT takes another",
            dir, PD_STR_ARG(name), PD_STR_ARG(name), dir);
out:
    json_object_put(config);
    pd_free(models);
    return rc;
}

static bool is_set(struct json_object *v)
{
    if (!v || json_object_is_type(v, json_type_null))
        return false;
    if (json_object_is_type(v, json_type_array))
        return json_object_array_length(v) > 0;
    if (json_object_is_type(v, json_type_object))
        return json_object_object_length(v) > 0;
    return !json_object_is_type(v, json_type_boolean) || json_object_get_boolean(v);
}

/* What changes the numbers in ways that adding B A does not. */
static enum pd_rc check_config(const struct pd_lora *l, struct pd_err *err)
{
    static const char *const unknown[] = {
        "use_dora",          "use_qalora",        "lora_bias", "alora_invocation_tokens",
        "layer_replication", "target_parameters", "use_bdlora"};
    static const char *const inits[] = {"gaussian", "orthogonal", "eva", "lora_ga"};
    struct pd_str type = pd_json_str(l->config, "peft_type");
    if (!pd_str_eqz(type, "LORA"))
        return PD_FAIL(err, PD_UNSUPPORTED, "%s/" CONFIG ": peft_type \"%.*s\"; LORA is read",
                       l->dir, PD_STR_ARG(type));
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        if (is_set(pd_json_get(l->config, unknown[i])))
            return PD_FAIL(err, PD_UNSUPPORTED, "%s/" CONFIG ": %s is set, which is not supported",
                           l->dir, unknown[i]);
    struct pd_str init = pd_json_str(l->config, "init_lora_weights");
    bool known = !init.ptr;
    for (size_t i = 0; i < sizeof inits / sizeof *inits; i++)
        known |= pd_str_eqz(init, inits[i]);
    if (!known)
        return PD_FAIL(err, PD_UNSUPPORTED,
                       "%s/" CONFIG
                       ": init_lora_weights \"%.*s\" changes the base weights; convert "
                       "the adapter with PEFT (path_initial_model_for_weight_conversion) first",
                       l->dir, PD_STR_ARG(init));
    return PD_OK;
}

enum pd_rc pd_lora_open(struct pd_lora **out, const char *dir, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_lora *l = pd_xalloc(sizeof *l);
    l->dir = pd_xstrdup(dir);
    PD_TRY(read_config(dir, &l->config, err));
    PD_TRY(check_config(l, err));
    l->rslora = pd_json_bool(l->config, "use_rslora", false);
    PD_TRY(pd_weights_open_stem(&l->weights, dir, "adapter_model", err));
    *out = l;
    l = NULL;
out:
    pd_lora_close(l);
    return rc;
}

void pd_lora_close(struct pd_lora *l)
{
    if (!l)
        return;
    pd_weights_close(&l->weights);
    json_object_put(l->config);
    pd_free(l->dir);
    pd_free(l);
}

/* PEFT's rule: a key is a regular expression for the end of the module's path, from a dot on. */
static bool key_matches(const char *key, const char *module)
{
    int code;
    PCRE2_SIZE at;
    char *pattern = pd_xasprintf("^(?:.*\\.)?(?:%s)$", key);
    pcre2_code *re =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &code, &at, NULL);
    bool matches = false;
    if (re) {
        pcre2_match_data *data = pcre2_match_data_create(1, NULL);
        matches = data &&
                  pcre2_match(re, (PCRE2_SPTR)module, PCRE2_ZERO_TERMINATED, 0, 0, data, NULL) >= 0;
        pcre2_match_data_free(data);
        pcre2_code_free(re);
    }
    pd_free(pattern);
    return matches;
}

static double setting(const struct pd_lora *l, const char *patterns, const char *plain,
                      const char *module)
{
    struct json_object *o = pd_json_get(l->config, patterns);
    if (json_object_is_type(o, json_type_object)) {
        json_object_object_foreach(o, key, value)
        {
            if (key_matches(key, module))
                return json_object_get_double(value);
        }
    }
    return pd_json_f64(l->config, plain, 8); /* PEFT's default of both */
}

/* ---- one module ---- */

/* A parameter's values made writable, in place or as a copy that `put_back` stores. */
static enum pd_rc take_values(const struct pd_param *p, float **v, struct pd_err *err)
{
    *v = pd_try_alloc(p->n, sizeof **v);
    if (!*v)
        return PD_FAIL(err, PD_NOMEM, "no memory for %s", p->name);
    if (p->ndim == 1)
        pd_dtype_to_f32(p->dtype, p->data, *v, p->n);
    else
        pd_param_rows(p, 0, p->shape[0], *v);
    return PD_OK;
}

static enum pd_rc put_values(struct pd_model *m, struct pd_param *p, const float *v,
                             struct pd_err *err)
{
    if (m->params.data) { /* the slab */
        memcpy(p->data, v, p->n * sizeof *v);
        return PD_OK;
    }
    enum pd_dtype t =
        p->dtype == PD_DTYPE_F32 || p->dtype == PD_DTYPE_F16 ? p->dtype : PD_DTYPE_BF16;
    void *own = pd_model_own(m, p->n, (size_t)pd_dtype_info(t)->bytes);
    if (!own)
        return PD_FAIL(err, PD_NOMEM, "no memory for %s", p->name);
    pd_dtype_from_f32(t, v, own, p->n);
    p->dtype = t;
    p->data = own;
    return PD_OK;
}

/* w (rows, cols) += scale left right, left (rows, r) read with strides, right likewise. */
static void add_product(float *w, size_t rows, size_t cols, size_t r, float scale,
                        const float *left, size_t left_row, size_t left_k, const float *right,
                        size_t right_k, size_t right_col)
{
    float *sum = pd_xalloc(cols * sizeof *sum);
    for (size_t i = 0; i < rows; i++) {
        memset(sum, 0, cols * sizeof *sum);
        for (size_t k = 0; k < r; k++) {
            const float f = left[i * left_row + k * left_k];
            const float *b = right + k * right_k;
            for (size_t j = 0; j < cols; j++)
                sum[j] += f * b[j * right_col];
        }
        for (size_t j = 0; j < cols; j++)
            w[i * cols + j] += scale * sum[j];
    }
    pd_free(sum);
}

struct pair {
    struct pd_weight a, b;
    bool embedding;
    const char *module; /* "model.layers.0.self_attn.q_proj" */
};

static enum pd_rc read_all(const struct pd_weight *w, const char *what, float **v,
                           struct pd_err *err)
{
    if (!w->known_dtype && !w->f64)
        return PD_FAIL(err, PD_UNSUPPORTED, "%s: %s has dtype %s", w->file, what, w->dtype_name);
    int64_t n = 1;
    for (int d = 0; d < w->ndim; d++)
        n *= w->shape[d];
    *v = pd_try_alloc((size_t)n + 1, sizeof **v);
    if (!*v)
        return PD_FAIL(err, PD_NOMEM, "%s: no memory for %s", w->file, what);
    pd_weight_gather(w, *v);
    return PD_OK;
}

static enum pd_rc check_pair(const struct pd_lora *l, const struct pair *pair,
                             const struct pd_param *p, int64_t in, int64_t out, struct pd_err *err)
{
    const struct pd_weight *a = &pair->a, *b = &pair->b;
    double r = setting(l, "rank_pattern", "r", pair->module);
    if (p->ndim != 2 || a->ndim != 2 || b->ndim != 2 || a->shape[1] != in || b->shape[0] != out ||
        a->shape[0] != b->shape[1])
        return PD_FAIL(err, PD_INVALID,
                       "%s: module %s: A and B do not fit a weight of %" PRId64 " inputs and "
                       "%" PRId64 " outputs",
                       a->file, pair->module, in, out);
    if ((double)a->shape[0] != r || r < 1)
        return PD_FAIL(err, PD_INVALID,
                       "%s: module %s has rank %" PRId64 ", but " CONFIG " makes it %g", a->file,
                       pair->module, a->shape[0], r);
    if (r > MAX_RANK) /* a torch view of stride 0 has any shape for no bytes */
        return PD_FAIL(err, PD_TOOBIG, "%s: module %s has rank %g; more than %d is not read",
                       a->file, pair->module, r, (int)MAX_RANK);
    return PD_OK;
}

static enum pd_rc apply_pair(const struct pd_lora *l, struct pd_model *m, struct pd_param *p,
                             const struct pair *pair, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    float *a = NULL, *b = NULL, *w = NULL;
    const struct pd_param_at *at = &m->files->at[p - m->params.v];
    bool turned = (at->spec->quirks & PD_SPEC_IN_OUT) || pair->embedding; /* W is (in, out) */
    int64_t in = p->shape[turned ? 0 : 1], out = p->shape[turned ? 1 : 0];
    PD_TRY(check_pair(l, pair, p, in, out, err));
    size_t r = (size_t)pair->a.shape[0], rows = (size_t)p->shape[0], cols = (size_t)p->shape[1];
    double alpha = setting(l, "alpha_pattern", "lora_alpha", pair->module);
    float scale = (float)(alpha / (l->rslora ? sqrt((double)r) : (double)r));
    PD_TRY(read_all(&pair->a, pair->module, &a, err));
    PD_TRY(read_all(&pair->b, pair->module, &b, err));
    PD_TRY(take_values(p, &w, err));
    if (turned)
        add_product(w, rows, cols, r, scale, a, 1, rows, b, 1, r);
    else
        add_product(w, rows, cols, r, scale, b, r, 1, a, cols, 1);
    PD_TRY(put_values(m, p, w, err));
out:
    pd_free(a);
    pd_free(b);
    pd_free(w);
    return rc;
}

/* ---- the adapter's tensors ---- */

static struct pd_param *find_param(const struct pd_model *m, const char *module, const char *end)
{
    char *name = pd_xasprintf("%s%s", module, end);
    struct pd_param *p = pd_params_find(&m->params, name);
    if (!p) { /* an adapter of the bare trunk */
        char *full = pd_xasprintf("%s%s", m->files->family->prefix, name);
        p = pd_params_find(&m->params, full);
        pd_free(full);
    }
    pd_free(name);
    return p;
}

static enum pd_rc no_place(const struct pd_lora *l, const char *name, struct pd_err *err)
{
    return PD_FAIL(err, PD_INVALID, "%s: tensor %s has no place in the model it is applied to",
                   l->dir, name);
}

static enum pd_rc apply_a(const struct pd_lora *l, struct pd_model *m, const char *full,
                          bool embedding, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pair pair = {.embedding = embedding};
    const char *mark = embedding ? ".lora_embedding_A" : ".lora_A.";
    char *module = pd_xstrdup(full + strlen(PREFIX)), *other = pd_xstrdup(full);
    *strstr(module, mark) = '\0';
    strstr(other, mark)[strlen(embedding ? ".lora_embedding_" : ".lora_")] = 'B';
    pair.module = module;
    struct pd_param *p = find_param(m, module, ".weight");
    if (!pd_weights_find(&l->weights, full, &pair.a) ||
        !pd_weights_find(&l->weights, other, &pair.b)) {
        rc = PD_FAIL(err, PD_INVALID, "%s: tensor %s is missing", l->dir, other);
        goto out;
    }
    if (!p || (embedding && p != m->embed)) {
        rc = no_place(l, full, err);
        goto out;
    }
    if (p == m->embed && m->cfg.tied) {
        rc = PD_FAIL(err, PD_UNSUPPORTED,
                     "%s: module %s is tied to the output matrix; one weight cannot hold both",
                     l->dir, module);
        goto out;
    }
    PD_TRY(apply_pair(l, m, p, &pair, err));
out:
    pd_free(module);
    pd_free(other);
    return rc;
}

/* Takes the first `piece` out of the text. */
static void cut(char *text, const char *piece)
{
    char *at = strstr(text, piece);
    if (at)
        memmove(at, at + strlen(piece), strlen(at + strlen(piece)) + 1);
}

/* A tensor saved whole: modules_to_save, biases. */
static enum pd_rc replace(const struct pd_lora *l, struct pd_model *m, const char *full,
                          struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_weight w;
    float *v = NULL;
    char *name = pd_xstrdup(full + strlen(PREFIX));
    cut(name, ".modules_to_save.default");
    cut(name, ".modules_to_save");
    cut(name, ".base_layer");
    struct pd_param *p = find_param(m, name, "");
    bool head = strncmp(name, "lm_head.", 8) == 0 || strncmp(name, "score.", 6) == 0;
    if (!p && head && !(m->cfg.tied && m->heads & PD_HEAD_LM))
        goto out; /* a head that the caller did not ask for */
    if (!p || !pd_weights_find(&l->weights, full, &w)) {
        rc = no_place(l, full, err);
        goto out;
    }
    bool same = w.ndim == p->ndim;
    for (int d = 0; same && d < p->ndim; d++)
        same = w.shape[d] == p->shape[d];
    if (!same || (p == m->embed && m->cfg.tied)) {
        rc = PD_FAIL(err, PD_INVALID, "%s: tensor %s %s", w.file, full,
                     same ? "is tied to the output matrix; one weight cannot hold both"
                          : "has another shape than the model's");
        goto out;
    }
    PD_TRY(read_all(&w, full, &v, err));
    PD_TRY(put_values(m, p, v, err));
    if (p == m->score.w)
        m->fresh_score = false;
out:
    pd_free(v);
    pd_free(name);
    return rc;
}

static enum pd_rc apply_tensor(const struct pd_lora *l, struct pd_model *m, const char *full,
                               struct pd_err *err)
{
    size_t prefix = strlen(PREFIX);
    if (strncmp(full, PREFIX, prefix) != 0 || strncmp(full + prefix, "lora_", 5) == 0)
        return no_place(l, full, err); /* of no model, or of no module */
    if (strstr(full, ".lora_A."))
        return apply_a(l, m, full, false, err);
    if (strstr(full, ".lora_embedding_A"))
        return apply_a(l, m, full, true, err);
    const char *b = strstr(full, ".lora_B."), *e = strstr(full, ".lora_embedding_B");
    if (b || e) { /* its A did the work */
        struct pd_weight w;
        char *other = pd_xstrdup(full);
        other[(b ? b + strlen(".lora_") : e + strlen(".lora_embedding_")) - full] = 'A';
        bool has_a = pd_weights_find(&l->weights, other, &w);
        enum pd_rc rc =
            has_a ? PD_OK : PD_FAIL(err, PD_INVALID, "%s: tensor %s is missing", l->dir, other);
        pd_free(other);
        return rc;
    }
    return strstr(full, ".lora_") ? no_place(l, full, err) : replace(l, m, full, err);
}

/* What is saved whole comes first: it may be the weight that a pair adds to. */
enum pd_rc pd_lora_apply(const struct pd_lora *l, struct pd_model *m, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_str name;
    for (int pairs = 0; pairs < 2; pairs++)
        for (size_t i = 0; (name = pd_weights_name(&l->weights, i)).ptr; i++) {
            char full[MAX_PATH_TEXT + 1];
            if (name.len > MAX_PATH_TEXT)
                return PD_FAIL(err, PD_INVALID, "%s: tensor %zu has a name of %zu bytes", l->dir, i,
                               name.len);
            memcpy(full, name.ptr, name.len);
            full[name.len] = '\0';
            if ((strstr(full, ".lora_") != NULL) == pairs)
                PD_TRY(apply_tensor(l, m, full, err));
        }
out:
    return rc;
}

bool pd_lora_has_score(const struct pd_lora *l)
{
    struct pd_weight w;
    static const char *const names[] = {PREFIX "score.weight",
                                        PREFIX "score.modules_to_save.weight",
                                        PREFIX "score.modules_to_save.default.weight"};
    for (size_t i = 0; i < 3; i++)
        if (pd_weights_find(&l->weights, names[i], &w))
            return true;
    return false;
}
