#include "lm/lora_int.h"

#include "base/mem.h"
#include "base/sig.h"
#include "lm/model_int.h"

#include <inttypes.h>
#include <math.h>

#define CONFIG PD_LORA_CONFIG
#define PREFIX "base_model.model."
enum { MAX_PATH_TEXT = 512, MAX_RANK = 1 << 16 };

struct pd_lora {
    char *dir;
    struct pd_lora_config config;
    struct pd_weights weights;
};

enum pd_rc pd_lora_open(struct pd_lora **out, const char *dir, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_lora *l = pd_xalloc(sizeof *l);
    l->dir = pd_xstrdup(dir);
    PD_TRY(pd_lora_config_read(&l->config, dir, err));
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
    pd_lora_config_release(&l->config);
    pd_free(l->dir);
    pd_free(l);
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
    double r;
    enum pd_rc rc = pd_lora_setting_of(&l->config.rank, pair->module, &r, err);
    if (rc != PD_OK)
        return pd_err_prefix(err, "%s/" CONFIG ": rank_pattern", l->dir);
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
    double alpha;
    rc = pd_lora_setting_of(&l->config.alpha, pair->module, &alpha, err);
    if (rc != PD_OK) {
        (void)pd_err_prefix(err, "%s/" CONFIG ": alpha_pattern", l->dir);
        goto out;
    }
    float scale = (float)(alpha / (l->config.rslora ? sqrt((double)r) : (double)r));
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

static enum pd_rc is_tied(const struct pd_lora *l, const char *name, struct pd_err *err)
{
    return PD_FAIL(
        err, PD_UNSUPPORTED,
        "%s: %s: embedding and output matrix are tied in this base model, and one weight "
        "cannot hold what differs; an adapter that saves both whole (modules_to_save) "
        "is taken",
        l->dir, name);
}

/* The family's name of the weight with this role. */
static const char *name_of(const struct pd_model *m, enum pd_role role)
{
    const struct pd_family *f = m->files->family;
    for (size_t i = 0; i < f->n_specs; i++)
        if (f->specs[i].role == role)
            return f->specs[i].hf;
    return "";
}

/* Is it the output matrix that the model has only as its embedding? */
static bool is_tied_head(const struct pd_model *m, const char *module, const char *end)
{
    char *name = pd_xasprintf("%s%s", module, end);
    bool same =
        m->cfg.tied && m->heads & PD_HEAD_LM && strcmp(name, name_of(m, PD_ROLE_HEAD_W)) == 0;
    pd_free(name);
    return same;
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
    if (is_tied_head(m, module, ".weight") || (p == m->embed && m->cfg.tied)) {
        rc = is_tied(l, full, err);
        goto out;
    }
    if (!p || (embedding && p != m->embed)) {
        rc = no_place(l, full, err);
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

/* The model's name of a tensor saved whole: modules_to_save, biases. */
static char *plain_name(const char *full)
{
    char *name = pd_xstrdup(full + strlen(PREFIX));
    cut(name, ".modules_to_save.default");
    cut(name, ".modules_to_save");
    cut(name, ".base_layer");
    return name;
}

static enum pd_rc replace(const struct pd_lora *l, struct pd_model *m, const char *full,
                          struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_weight w;
    float *v = NULL;
    char *name = plain_name(full);
    struct pd_param *p = find_param(m, name, "");
    bool lm = strncmp(name, "lm_head.", 8) == 0, score = strncmp(name, "score.", 6) == 0;
    if ((lm && !(m->heads & PD_HEAD_LM)) || (score && !(m->heads & PD_HEAD_SCORE)))
        goto out; /* a head that the caller did not ask for */
    if (is_tied_head(m, name, "") || (p && p == m->embed && m->cfg.tied)) {
        rc = is_tied(l, full, err);
        goto out;
    }
    if (!p || !pd_weights_find(&l->weights, full, &w)) {
        rc = no_place(l, full, err);
        goto out;
    }
    bool same = w.ndim == p->ndim;
    for (int d = 0; same && d < p->ndim; d++)
        same = w.shape[d] == p->shape[d];
    if (!same) {
        rc = PD_FAIL(err, PD_INVALID, "%s: tensor %s has another shape than the model's", w.file,
                     full);
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
            if (pd_sig_stop())
                return PD_FAIL(err, PD_INTERRUPTED, "interrupted while %s was added", l->dir);
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

/* The usual way to teach a tied model new chat tokens: PEFT trains a copy of either. */
bool pd_lora_unties(const struct pd_lora *l, const struct pd_model *m)
{
    struct pd_str name;
    const char *embed = name_of(m, PD_ROLE_EMBED), *head = name_of(m, PD_ROLE_HEAD_W);
    bool has_embed = false, has_head = false;
    for (size_t i = 0; (name = pd_weights_name(&l->weights, i)).ptr; i++) {
        if (!pd_str_starts(name, PD_STR(PREFIX)) || name.len > MAX_PATH_TEXT)
            continue;
        char *full = pd_xstrndup(name.ptr, name.len), *plain = plain_name(full);
        has_embed |= strcmp(plain, embed) == 0;
        has_head |= strcmp(plain, head) == 0;
        pd_free(full);
        pd_free(plain);
    }
    return m->cfg.tied && has_embed && has_head;
}

int64_t pd_lora_labels(const struct pd_lora *l)
{
    struct pd_weight w;
    static const char *const names[] = {PREFIX "score.weight",
                                        PREFIX "score.modules_to_save.weight",
                                        PREFIX "score.modules_to_save.default.weight"};
    for (size_t i = 0; i < 3; i++)
        if (pd_weights_find(&l->weights, names[i], &w))
            return pd_label_rows(&w);
    return 0;
}
