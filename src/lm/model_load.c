/* From files to parameters: find each tensor, hold its shape against the table, undo what its file
 * format did to it. */
#include "lm/model_int.h"

#include "base/mem.h"

#include <inttypes.h>
#include <sys/mman.h>

void *pd_model_own(struct pd_model *m, size_t n, size_t size)
{
    struct pd_model_files *f = m->files;
    void *p = pd_try_aligned(n, size);
    if (!p)
        return NULL;
    f->owned = pd_xrealloc(f->owned, (f->n_owned + 1) * sizeof *f->owned);
    f->owned[f->n_owned++] = p;
    return p;
}

void pd_model_drop(struct pd_model *m, struct pd_param *p)
{
    struct pd_model_files *f = m->files;
    for (size_t i = 0; f && i < f->n_owned; i++)
        if (f->owned[i] == p->data) {
            pd_aligned_free(f->owned[i]);
            f->owned[i] = f->owned[--f->n_owned];
            p->data = NULL;
            return;
        }
}

void pd_model_drop_owned(struct pd_model *m)
{
    for (size_t i = 0; i < m->files->n_owned; i++)
        pd_aligned_free(m->files->owned[i]);
    pd_free(m->files->owned);
    m->files->owned = NULL;
    m->files->n_owned = 0;
}

/* A folder's tensor with the trunk's prefix, or of a bare trunk saved without it. */
static bool find_hf(const struct pd_model *m, const char *name, struct pd_weight *w)
{
    const char *prefix = m->files->family->prefix;
    size_t n = strlen(prefix);
    return pd_weights_find(&m->files->weights, name, w) ||
           (strncmp(name, prefix, n) == 0 && pd_weights_find(&m->files->weights, name + n, w));
}

static bool find_own(const struct pd_model *m, const struct pd_param *p,
                     const struct pd_param_at *at, struct pd_weight *w)
{
    if (!m->files->weights.gguf)
        return find_hf(m, p->name, w);
    if (!at->spec->gguf)
        return false;
    char *name = pd_spec_name(at->spec->gguf, at->layer);
    bool found = pd_weights_find(&m->files->weights, name, w);
    pd_free(name);
    return found;
}

static bool find_role(const struct pd_model *m, enum pd_role role, struct pd_weight *s)
{
    const struct pd_family *f = m->files->family;
    for (size_t i = 0; i < f->n_specs; i++) {
        struct pd_param named = {.name = (char *)(uintptr_t)f->specs[i].hf};
        struct pd_param_at at = {&f->specs[i], -1};
        if (f->specs[i].role == role)
            return find_own(m, &named, &at, s);
    }
    return false;
}

static bool find_source(const struct pd_model *m, const struct pd_param *p,
                        const struct pd_param_at *at, struct pd_weight *w)
{
    return find_own(m, p, at, w) || (m->files->head_is_embed && at->spec->role == PD_ROLE_HEAD_W &&
                                     find_role(m, PD_ROLE_EMBED, w));
}

/* As transformers: an output matrix that is in the files and is not the embedding counts, whatever
 * tie_word_embeddings says; a copy of the embedding is the embedding. */
bool pd_model_is_tied(const struct pd_model *m)
{
    struct pd_weight embed, head;
    if (!m->cfg.tied || !find_role(m, PD_ROLE_EMBED, &embed) ||
        !find_role(m, PD_ROLE_HEAD_W, &head))
        return m->cfg.tied;
    bool same = embed.ndim == 2 && head.ndim == 2 && embed.known_dtype && head.known_dtype &&
                embed.dtype == head.dtype && embed.shape[0] == head.shape[0] &&
                embed.shape[1] == head.shape[1] && !embed.strided && !head.strided;
    size_t bytes = same ? pd_dtype_row_bytes(embed.dtype, (size_t)embed.shape[1]) : 0;
    return same && (embed.data == head.data || /* as torch saves tied ones */
                    memcmp(embed.data, head.data, bytes * (size_t)embed.shape[0]) == 0);
}

static const char *shape_text(int ndim, const int64_t *shape, char out[96])
{
    size_t used = (size_t)snprintf(out, 96, "[");
    for (int d = 0; d < ndim && d < 4 && used < 96; d++)
        used += (size_t)snprintf(out + used, 96 - used, "%s%" PRId64, d ? ", " : "", shape[d]);
    if (used < 96)
        (void)snprintf(out + used, 96 - used, "]");
    return out;
}

static enum pd_rc check_shape(const struct pd_param *p, const struct pd_weight *s, bool transposed,
                              struct pd_err *err)
{
    int64_t want[4];
    char a[96], b[96];
    bool same = s->ndim == p->ndim;
    memcpy(want, p->shape, sizeof want);
    if (transposed) {
        want[0] = p->shape[1];
        want[1] = p->shape[0];
    }
    for (int d = 0; same && d < p->ndim; d++)
        same = s->shape[d] == want[d];
    if (!same)
        return PD_FAIL(err, PD_INVALID, "%s: tensor %s is %s, but the configuration makes it %s",
                       s->file, p->name, shape_text(s->ndim, s->shape, a),
                       shape_text(p->ndim, want, b));
    if (!s->known_dtype && !s->f64)
        return PD_FAIL(err, PD_UNSUPPORTED,
                       "%s: tensor %s has dtype %s; weights are F32, F16, BF16 or F64", s->file,
                       p->name, s->dtype_name);
    return PD_OK;
}

/* GGUF's Conv1D weights stand (out, in): back to (in, out), in fp32. */
static enum pd_rc bind_transposed(struct pd_model *m, struct pd_param *p, const struct pd_weight *s,
                                  struct pd_err *err)
{
    size_t in = (size_t)p->shape[0], out = (size_t)p->shape[1];
    size_t row_bytes = pd_dtype_row_bytes(s->dtype, in);
    float *dst = pd_model_own(m, p->n, sizeof *dst), *row = pd_try_alloc(in, sizeof *row);
    if (!dst || !row) {
        pd_free(row);
        return PD_FAIL(err, PD_NOMEM, "%s: no memory for tensor %s", s->file, p->name);
    }
    for (size_t o = 0; o < out; o++) {
        pd_dtype_to_f32(s->dtype, (const char *)s->data + o * row_bytes, row, in);
        for (size_t i = 0; i < in; i++)
            dst[i * out + o] = row[i];
    }
    pd_free(row);
    p->dtype = PD_DTYPE_F32;
    p->data = dst;
    return PD_OK;
}

static enum pd_rc bind_f32(struct pd_model *m, struct pd_param *p, const struct pd_weight *s,
                           struct pd_err *err)
{
    float *dst = pd_model_own(m, p->n, sizeof *dst);
    if (!dst)
        return PD_FAIL(err, PD_NOMEM, "%s: no memory for tensor %s", s->file, p->name);
    size_t rows = (size_t)p->shape[0], row = p->n / rows;
    if (p->ndim == 1) {
        rows = 1;
        row = p->n;
    }
    for (size_t r = 0; r < rows; r++)
        pd_dtype_to_f32(s->dtype, (const char *)s->data + r * pd_dtype_row_bytes(s->dtype, row),
                        dst + r * row, row);
    p->dtype = PD_DTYPE_F32;
    p->data = dst;
    return PD_OK;
}

bool pd_model_rows_move(const struct pd_config *cfg, unsigned quirks)
{
    return quirks & PD_SPEC_PERMUTED || (quirks & PD_SPEC_FUSED_ROWS && !cfg->qkv.blocks);
}

/* Where a row of ours stands in a GGUF file. Fused: ours [its queries | key | value] of each
 * key/value head, theirs [all q | all k | all v]. Permuted: within a head of D rows, ours
 * half*D/2 + i is theirs 2*i + half. */
size_t pd_model_row_in_file(const struct pd_config *cfg, unsigned quirks, size_t row)
{
    size_t D = (size_t)cfg->head_dim, A = (size_t)cfg->n_heads, K = (size_t)cfg->n_kv_heads;
    if (quirks & PD_SPEC_FUSED_ROWS) {
        size_t per = A / K + 2, group = row / (per * D), h = row / D % per;
        size_t head = h < A / K ? group * (A / K) + h : A + (h - A / K) * K + group;
        return head * D + row % D;
    }
    size_t half = row % D / (D / 2), i = row % (D / 2);
    return row / D * D + 2 * i + half;
}

/* Rows in another order. Whole rows move, so quantised ones stay as they are; a bias is a matrix of
 * one column. */
static enum pd_rc bind_moved(struct pd_model *m, struct pd_param *p, const struct pd_weight *s,
                             unsigned quirks, struct pd_err *err)
{
    struct pd_weight f32 = *s;
    if (p->ndim == 1 && s->dtype != PD_DTYPE_F32) { /* no rows to move: the values themselves */
        enum pd_rc rc = bind_f32(m, p, s, err);
        if (rc != PD_OK)
            return rc;
        f32.dtype = PD_DTYPE_F32;
        f32.data = p->data;
        s = &f32;
    }
    size_t rows = (size_t)p->shape[0], row_bytes = pd_dtype_row_bytes(s->dtype, p->n / rows);
    if (m->cfg.head_dim % 2 != 0 || row_bytes == 0)
        return PD_FAIL(err, PD_INVALID, "%s: tensor %s: heads of %d rows have no halves", s->file,
                       p->name, m->cfg.head_dim);
    char *dst = pd_model_own(m, rows, row_bytes);
    if (!dst)
        return PD_FAIL(err, PD_NOMEM, "%s: no memory for tensor %s", s->file, p->name);
    for (size_t r = 0; r < rows; r++) {
        size_t from = pd_model_row_in_file(&m->cfg, quirks, r);
        memcpy(dst + r * row_bytes, (const char *)s->data + from * row_bytes, row_bytes);
    }
    p->dtype = s->dtype;
    p->data = dst;
    return PD_OK;
}

/* Doubles and views across their storage: first of all a row of fp32. */
static enum pd_rc flatten(struct pd_model *m, const struct pd_param *p, struct pd_weight *s,
                          struct pd_err *err)
{
    float *dst = pd_model_own(m, p->n, sizeof *dst);
    if (!dst)
        return PD_FAIL(err, PD_NOMEM, "%s: no memory for tensor %s", s->file, p->name);
    pd_weight_gather(s, dst);
    s->data = dst;
    s->dtype = PD_DTYPE_F32;
    s->known_dtype = true;
    s->f64 = s->strided = false;
    return PD_OK;
}

static bool is_aligned(const void *p, enum pd_dtype t)
{
    size_t need = t == PD_DTYPE_F32 ? 4 : t == PD_DTYPE_F16 || t == PD_DTYPE_BF16 ? 2 : 1;
    return (uintptr_t)p % need == 0;
}

static enum pd_rc bind(struct pd_model *m, struct pd_param *p, const struct pd_param_at *at,
                       struct pd_weight *s, struct pd_err *err)
{
    bool gguf = m->files->weights.gguf != NULL;
    unsigned quirks = gguf ? at->spec->quirks : 0;
    bool turned = gguf && pd_model_in_out(m, at->spec);
    enum pd_rc rc = check_shape(p, s, turned, err);
    if (rc == PD_OK && (s->f64 || s->strided))
        rc = flatten(m, p, s, err);
    if (rc != PD_OK)
        return rc;
    if (turned)
        return bind_transposed(m, p, s, err);
    if (pd_model_rows_move(&m->cfg, quirks))
        return bind_moved(m, p, s, quirks, err);
    if ((p->ndim == 1 && s->dtype != PD_DTYPE_F32) || !is_aligned(s->data, s->dtype))
        return bind_f32(m, p, s, err);
    p->dtype = s->dtype;
    p->data = (void *)(uintptr_t)s->data; /* read-only map; only training data are written */
    return PD_OK;
}

/* A head that the files lack. */
static enum pd_rc bind_fresh(struct pd_model *m, struct pd_param *p,
                             const struct pd_model_options *opt, struct pd_err *err)
{
    float *dst = pd_model_own(m, p->n, sizeof *dst); /* zeroed */
    if (!dst)
        return PD_FAIL(err, PD_NOMEM, "no memory for %s", p->name);
    if (opt->init_head_normal && p->ndim == 2)
        pd_model_random_normal(dst, p->n, m->cfg.initializer_range, opt->seed, 0x5c0e);
    p->dtype = PD_DTYPE_F32;
    p->data = dst;
    return PD_OK;
}

int64_t pd_model_labels_in_files(const struct pd_model *m)
{
    struct pd_weight w;
    return pd_weights_find(&m->files->weights, "score.weight", &w) ? pd_label_rows(&w) : 0;
}

/* A head of that name with a bias is another kind's (transformers' ...ForTokenClassification). */
static enum pd_rc check_no_bias(const struct pd_model *m, struct pd_err *err)
{
    struct pd_weight w;
    if (!pd_weights_find(&m->files->weights, "score.bias", &w))
        return PD_OK;
    return PD_FAIL(err, PD_UNSUPPORTED,
                   "%s: tensor score.bias: a sequence classifier has none; is this a classifier of "
                   "tokens?",
                   w.file);
}

static enum pd_rc bind_param(struct pd_model *m, struct pd_param *p, const struct pd_param_at *at,
                             const struct pd_model_options *opt, struct pd_err *err)
{
    struct pd_weight s = {0};
    bool head = at->spec->role >= PD_ROLE_SCORE_W;
    if (!find_source(m, p, at, &s)) {
        if (!head)
            return PD_FAIL(err, PD_INVALID, "%s: tensor %s is missing%s", m->path, p->name,
                           at->spec->role == PD_ROLE_HEAD_W
                               ? " (a reward model? or tie_word_embeddings should be true)"
                               : "");
        if (at->spec->role == PD_ROLE_SCORE_W)
            m->fresh_score = true;
        return bind_fresh(m, p, opt, err);
    }
    enum pd_rc rc = at->spec->role == PD_ROLE_SCORE_W ? check_no_bias(m, err) : PD_OK;
    return rc == PD_OK ? bind(m, p, at, &s, err) : rc;
}

enum pd_rc pd_model_bind_files(struct pd_model *m, const struct pd_model_options *opt,
                               struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    for (size_t i = 0; i < m->params.n; i++)
        PD_TRY(bind_param(m, &m->params.v[i], &m->files->at[i], opt, err));
out:
    return rc;
}
