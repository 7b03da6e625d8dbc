/* Writing a model as one GGUF file that llama.cpp opens: keys from the description, tensors under
 * their GGUF names with what that format does to them (family.h: quirks), the tokenizer's keys. */
#include "lm/gguf_write.h"
#include "lm/model_int.h"
#include "lm/tok_int.h"

#include "base/mem.h"

/* Rows written at a time come to about this many values. */
enum { CHUNK_VALUES = 1 << 18, MAX_NAME = 64, QUANT_VERSION = 2 };

struct writing {
    const struct pd_model *m;
    const char *arch;
    enum pd_dtype dtype; /* asked for */
    struct pd_gguf_writer w;
    float *divisors; /* of rope frequencies, when they go into a tensor */
    int n_divisors;
};

/* ---- keys ---- */

static const char *spell(const struct writing *g, const char *key, char out[96])
{
    (void)snprintf(out, 96, "%s.%s", g->arch, key);
    return out;
}

static void put_u32(struct writing *g, const char *key, int v)
{
    char full[96];
    pd_gguf_put_u32(&g->w, spell(g, key, full), (uint32_t)v);
}

static void put_f32(struct writing *g, const char *key, double v)
{
    char full[96];
    pd_gguf_put_f32(&g->w, spell(g, key, full), (float)v);
}

static void put_shape(struct writing *g)
{
    const struct pd_config *c = &g->m->cfg;
    put_u32(g, "vocab_size", c->vocab_size);
    put_u32(g, "context_length", c->max_positions);
    put_u32(g, "embedding_length", c->hidden_size);
    put_u32(g, "block_count", c->n_layers);
    put_u32(g, "feed_forward_length", c->ffn_size);
    put_u32(g, "attention.head_count", c->n_heads);
    put_u32(g, "attention.head_count_kv", c->n_kv_heads);
    put_u32(g, "attention.key_length", c->head_dim);
    put_u32(g, "attention.value_length", c->head_dim);
    put_f32(g,
            c->norm == PD_LM_RMSNORM ? "attention.layer_norm_rms_epsilon"
                                     : "attention.layer_norm_epsilon",
            c->norm_eps);
    if (c->sliding_window)
        put_u32(g, "attention.sliding_window", c->sliding_window);
    if (c->norm == PD_LM_LAYERNORM) {
        char full[96];
        pd_gguf_put_bool(&g->w, spell(g, "use_parallel_residual", full), c->parallel_residual);
    }
}

/* What the divisors were made of, for who wants a config.json again. */
static void put_llama3(struct writing *g, const struct pd_rope *r)
{
    pd_gguf_put_f32(&g->w, PD_KEY_LLAMA3 "factor", (float)r->factor);
    pd_gguf_put_f32(&g->w, PD_KEY_LLAMA3 "low_freq_factor", (float)r->low_freq_factor);
    pd_gguf_put_f32(&g->w, PD_KEY_LLAMA3 "high_freq_factor", (float)r->high_freq_factor);
    pd_gguf_put_u32(&g->w, PD_KEY_LLAMA3 "original_positions", (uint32_t)r->original_max_positions);
}

/* llama3's scaling stands as a tensor of divisors; linear and yarn as keys. */
static enum pd_rc put_rope(struct writing *g, struct pd_err *err)
{
    const struct pd_rope *r = &g->m->cfg.rope;
    char full[96];
    if (g->m->cfg.pos != PD_LM_POS_ROPE)
        return PD_OK;
    put_u32(g, "rope.dimension_count", r->dim);
    put_f32(g, "rope.freq_base", r->theta);
    if (r->scaling == PD_LM_SCALE_DYNAMIC ||
        (r->scaling == PD_LM_SCALE_YARN && r->attention_factor != 0))
        return PD_FAIL(err, PD_UNSUPPORTED,
                       "%s: its rope scaling (%s) cannot be said in a GGUF file", g->m->path,
                       r->scaling == PD_LM_SCALE_YARN ? "yarn with an attention_factor"
                                                      : "dynamic");
    if (r->scaling == PD_LM_SCALE_LINEAR || r->scaling == PD_LM_SCALE_YARN) {
        bool yarn = r->scaling == PD_LM_SCALE_YARN;
        pd_gguf_put_strz(&g->w, spell(g, "rope.scaling.type", full), yarn ? "yarn" : "linear");
        put_f32(g, "rope.scaling.factor", r->factor);
        if (yarn) {
            put_u32(g, "rope.scaling.original_context_length", r->original_max_positions);
            put_f32(g, "rope.scaling.yarn_beta_fast", r->beta_fast);
            put_f32(g, "rope.scaling.yarn_beta_slow", r->beta_slow);
        }
    }
    if (r->scaling != PD_LM_SCALE_LLAMA3 && !r->divisors)
        return PD_OK;
    g->n_divisors = r->dim / 2;
    g->divisors = pd_xalloc((size_t)g->n_divisors * sizeof *g->divisors);
    if (r->divisors) {
        memcpy(g->divisors, r->divisors, (size_t)g->n_divisors * sizeof *g->divisors);
        return PD_OK;
    }
    put_llama3(g, r);
    struct pd_config plain = g->m->cfg;
    float *base = pd_xalloc((size_t)g->n_divisors * sizeof *base);
    plain.rope.scaling = PD_LM_SCALE_NONE;
    (void)pd_config_rope_freqs(&plain, 0, base);
    (void)pd_config_rope_freqs(&g->m->cfg, 0, g->divisors);
    for (int i = 0; i < g->n_divisors; i++)
        g->divisors[i] = base[i] / g->divisors[i];
    pd_free(base);
    return PD_OK;
}

static void put_general(struct writing *g)
{
    static const uint32_t file_types[PD_DTYPE_COUNT] = {[PD_DTYPE_F32] = 0,
                                                        [PD_DTYPE_F16] = 1,
                                                        [PD_DTYPE_Q4_0] = 2,
                                                        [PD_DTYPE_Q8_0] = 7,
                                                        [PD_DTYPE_BF16] = 32};
    const char *slash = strrchr(g->m->path, '/');
    pd_gguf_put_strz(&g->w, "general.architecture", g->arch);
    pd_gguf_put_strz(&g->w, "general.type", "model");
    pd_gguf_put_strz(&g->w, "general.name", slash && slash[1] ? slash + 1 : g->m->path);
    pd_gguf_put_u32(&g->w, "general.file_type", file_types[g->dtype]);
    if (pd_dtype_info(g->dtype)->block > 1)
        pd_gguf_put_u32(&g->w, "general.quantization_version", QUANT_VERSION);
}

/* The tokenizer's keys have room for one, and it may be another. */
static void put_eos(struct writing *g)
{
    const struct pd_config *c = &g->m->cfg;
    int32_t own = g->m->tok ? pd_tokenizer_eos(g->m->tok) : -1;
    if (c->n_eos == 0 || (c->n_eos == 1 && c->eos_ids[0] == own))
        return;
    pd_gguf_put_array(&g->w, PD_KEY_EOS_IDS, PD_GGUF_U32, (uint64_t)c->n_eos);
    for (int i = 0; i < c->n_eos; i++)
        pd_gguf_item_u32(&g->w, (uint32_t)c->eos_ids[i]);
}

/* ---- tensors ---- */

static bool is_written(const struct pd_param_at *at)
{
    return at->spec->gguf != NULL;
}

/* Vectors and learned positions stay fp32, as llama.cpp wants them; with Q4_0 the
 * embedding and the output matrix are Q8_0, which costs little and matters much; rows that are no
 * whole number of blocks are F16. */
static enum pd_dtype stored_as(const struct writing *g, const struct pd_param *p,
                               const struct pd_param_at *at)
{
    enum pd_role role = at->spec->role;
    enum pd_dtype t = g->dtype;
    if (p->ndim == 1 || role == PD_ROLE_POS_EMBED)
        return PD_DTYPE_F32;
    if (t == PD_DTYPE_Q4_0 && (role == PD_ROLE_EMBED || role == PD_ROLE_HEAD_W))
        t = PD_DTYPE_Q8_0;
    int64_t row = at->spec->quirks & PD_SPEC_IN_OUT ? p->shape[0] : p->shape[1];
    return pd_dtype_row_bytes(t, (size_t)row) ? t : PD_DTYPE_F16;
}

static void file_shape(const struct pd_param *p, const struct pd_param_at *at, int64_t shape[4])
{
    memcpy(shape, p->shape, 4 * sizeof *shape);
    if (at->spec->quirks & PD_SPEC_IN_OUT) {
        shape[0] = p->shape[1];
        shape[1] = p->shape[0];
    }
}

static enum pd_rc list_tensors(struct writing *g, struct pd_err *err)
{
    const struct pd_model *m = g->m;
    for (size_t i = 0; i < m->params.n; i++) {
        const struct pd_param_at *at = &m->files->at[i];
        int64_t shape[4];
        if (!is_written(at))
            return PD_FAIL(err, PD_UNSUPPORTED,
                           "%s: tensor %s has no place in a GGUF file (a reward model stays a "
                           "Hugging Face folder)",
                           m->path, m->params.v[i].name);
        char *name = pd_spec_name(at->spec->gguf, at->layer);
        file_shape(&m->params.v[i], at, shape);
        if (strlen(name) >= MAX_NAME)
            pd_bug("tensor name %s is too long for GGUF", name);
        pd_gguf_add_tensor(&g->w, name, m->params.v[i].ndim, shape,
                           stored_as(g, &m->params.v[i], at));
        pd_free(name);
    }
    if (g->divisors) {
        int64_t n = g->n_divisors;
        pd_gguf_add_tensor(&g->w, "rope_freqs.weight", 1, &n, PD_DTYPE_F32);
    }
    return PD_OK;
}

/* Rows of one tensor on their way to the file. */
struct rows {
    const struct pd_param *p;
    size_t n, row;      /* rows and values in one, as they stand in the file */
    uint32_t *order;    /* row of ours for each row of the file, or NULL */
    float *whole;       /* the tensor transposed, or NULL */
    enum pd_dtype from; /* of the parameter */
};

static enum pd_rc rows_init(struct rows *r, const struct pd_model *m, const struct pd_param *p,
                            const struct pd_param_at *at, struct pd_err *err)
{
    unsigned quirks = at->spec->quirks;
    *r = (struct rows){.p = p, .from = p->dtype, .n = 1, .row = p->n};
    if (quirks & PD_SPEC_IN_OUT) {
        size_t in = (size_t)p->shape[0], out = (size_t)p->shape[1];
        float *all = pd_try_alloc(p->n, sizeof *all);
        r->whole = pd_try_alloc(p->n, sizeof *r->whole);
        if (all && r->whole) {
            pd_param_rows(p, 0, p->shape[0], all);
            for (size_t i = 0; i < in; i++)
                for (size_t o = 0; o < out; o++)
                    r->whole[o * in + i] = all[i * out + o];
            r->n = out;
            r->row = in;
        }
        pd_free(all);
        return r->whole ? PD_OK : PD_FAIL(err, PD_NOMEM, "no memory to write %s", p->name);
    }
    bool moved = pd_model_rows_move(&m->cfg, quirks);
    if (p->ndim == 1 && !moved)
        return PD_OK;
    r->n = (size_t)p->shape[0];
    r->row = p->n / r->n;
    if (!moved)
        return PD_OK;
    r->order = pd_try_alloc(r->n, sizeof *r->order);
    if (!r->order)
        return PD_FAIL(err, PD_NOMEM, "no memory to write %s", p->name);
    for (size_t i = 0; i < r->n; i++)
        r->order[pd_model_row_in_file(&m->cfg, quirks, i)] = (uint32_t)i;
    return PD_OK;
}

static void read_rows(const struct rows *r, size_t first, size_t n, float *dst)
{
    if (r->whole)
        memcpy(dst, r->whole + first * r->row, n * r->row * sizeof *dst);
    else if (r->p->ndim == 1 && !r->order)
        pd_dtype_to_f32(r->from, r->p->data, dst, r->row);
    else if (!r->order)
        pd_param_rows(r->p, (int64_t)first, (int64_t)n, dst);
    else
        for (size_t i = 0; i < n; i++)
            pd_param_rows(r->p, r->order[first + i], 1, dst + i * r->row);
}

/* The bytes as they are: what is in the right format already must not be rounded again. */
static enum pd_rc copy_rows(struct writing *g, const struct rows *r, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    size_t bytes = pd_dtype_row_bytes(r->from, r->row);
    const char *data = r->p->data;
    if (!r->order)
        return pd_gguf_writer_data(&g->w, data, r->n * bytes, err);
    for (size_t i = 0; i < r->n; i++)
        PD_TRY(pd_gguf_writer_data(&g->w, data + r->order[i] * bytes, bytes, err));
out:
    return rc;
}

static enum pd_rc convert_rows(struct writing *g, const struct rows *r, enum pd_dtype to,
                               struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    size_t bytes = pd_dtype_row_bytes(to, r->row), chunk = CHUNK_VALUES / r->row + 1;
    if (chunk > r->n)
        chunk = r->n;
    float *f32 = pd_try_alloc(chunk * r->row, sizeof *f32);
    char *out = pd_try_alloc(chunk, bytes);
    if (!f32 || !out) {
        rc = PD_FAIL(err, PD_NOMEM, "no memory to write %s", r->p->name);
        goto out;
    }
    for (size_t first = 0; first < r->n; first += chunk) {
        size_t n = r->n - first < chunk ? r->n - first : chunk;
        read_rows(r, first, n, f32);
        pd_dtype_from_f32(to, f32, out, n * r->row);
        PD_TRY(pd_gguf_writer_data(&g->w, out, n * bytes, err));
    }
out:
    pd_free(f32);
    pd_free(out);
    return rc;
}

static enum pd_rc write_tensor(struct writing *g, size_t i, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct pd_param *p = &g->m->params.v[i];
    const struct pd_param_at *at = &g->m->files->at[i];
    enum pd_dtype to = stored_as(g, p, at);
    struct rows r = {0};
    PD_TRY(rows_init(&r, g->m, p, at, err));
    PD_TRY(to == p->dtype && !r.whole ? copy_rows(g, &r, err) : convert_rows(g, &r, to, err));
    PD_TRY(pd_gguf_writer_end_tensor(&g->w, err));
out:
    pd_free(r.order);
    pd_free(r.whole);
    return rc;
}

/* GGUF has no key for much of what a description says: it follows from the architecture. So the
 * file is read back before it gets its name, and must say the same. */
static enum pd_rc check_said(const struct pd_model *m, const char *tmp, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct pd_config *a = &m->cfg;
    const struct pd_family *family = NULL;
    struct pd_gguf *g = NULL;
    struct pd_config b;
    PD_TRY(pd_gguf_open(&g, tmp, err));
    PD_TRY(pd_config_from_gguf(g, &b, &family, err));
    int windows = 0;
    for (int l = 0; l < a->n_layers && b.n_layers == a->n_layers; l++)
        windows += pd_config_window(a, l) != pd_config_window(&b, l);
    const struct {
        const char *name;
        bool same;
    } parts[] = {
        {"activation", a->act == b.act && a->gated == b.gated},
        {"kind of norm", a->norm == b.norm && (float)a->norm_eps == (float)b.norm_eps},
        {"sliding window", windows == 0},
        {"order of attention and MLP",
         a->parallel_residual == b.parallel_residual && a->n_norms == b.n_norms},
        {"set of biases", a->qkv_bias == b.qkv_bias && a->out_bias == b.out_bias &&
                              a->mlp_bias == b.mlp_bias && a->lm_head_bias == b.lm_head_bias},
        {"norm of queries and keys", a->qk_norm == b.qk_norm},
        {"scale of attention", (float)a->attn_scale == (float)b.attn_scale &&
                                   a->attn_scale_by_layer == b.attn_scale_by_layer},
        {"rope", a->pos == b.pos && a->rope.dim == b.rope.dim &&
                     (float)a->rope.theta == (float)b.rope.theta &&
                     a->rope.interleaved == b.rope.interleaved &&
                     a->rope.untruncated == b.rope.untruncated},
        {"shape of heads", a->n_heads == b.n_heads && a->n_kv_heads == b.n_kv_heads &&
                               a->head_dim == b.head_dim && a->ffn_size == b.ffn_size},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!parts[i].same) {
            rc = PD_FAIL(err, PD_UNSUPPORTED,
                         "%s: a GGUF file of %s cannot say its %s; write a Hugging Face folder",
                         m->path, pd_model_type(m)->gguf_arch, parts[i].name);
            goto out;
        }
out:
    pd_gguf_close(g);
    return rc;
}

enum pd_rc pd_model_save_gguf(const struct pd_model *m, const char *path, enum pd_dtype dtype,
                              struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct writing g = {.m = m, .arch = pd_model_type(m)->gguf_arch, .dtype = dtype};
    PD_ASSERT(pd_dtype_can_write(dtype));
    pd_gguf_writer_init(&g.w);
    if (!g.arch || m->cfg.pos == PD_LM_POS_ALIBI) {
        rc = PD_FAIL(err, PD_UNSUPPORTED, "%s: llama.cpp knows no architecture for %s%s", m->path,
                     m->cfg.model_type, g.arch ? " with alibi" : "");
        goto out;
    }
    put_general(&g);
    put_shape(&g);
    PD_TRY(put_rope(&g, err));
    put_eos(&g);
    if (m->tok)
        PD_TRY(pd_tokenizer_put_gguf(m->tok, m->cfg.vocab_size, &g.w, err));
    else
        pd_gguf_put_strz(&g.w, "tokenizer.ggml.model", "none");
    PD_TRY(list_tensors(&g, err));
    PD_TRY(pd_gguf_writer_open(&g.w, path, err));
    for (size_t i = 0; i < m->params.n; i++)
        PD_TRY(write_tensor(&g, i, err));
    if (g.divisors) {
        PD_TRY(
            pd_gguf_writer_data(&g.w, g.divisors, (size_t)g.n_divisors * sizeof *g.divisors, err));
        PD_TRY(pd_gguf_writer_end_tensor(&g.w, err));
    }
    PD_TRY(pd_gguf_writer_flush(&g.w, err));
    if (g.w.out.tmp)
        PD_TRY(check_said(m, g.w.out.tmp, err));
    PD_TRY(pd_gguf_writer_commit(&g.w, err));
out:
    pd_gguf_writer_release(&g.w);
    pd_free(g.divisors);
    return rc;
}
