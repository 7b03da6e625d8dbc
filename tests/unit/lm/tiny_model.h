/* Tiny random models of any shape the descriptor allows, and a naive double-precision twin of the
 * decoder: one sequence at a time, no packing, no cache, written from the formulas alone. */
#ifndef TINY_MODEL_H
#define TINY_MODEL_H

#include "base/mem.h"
#include "base/rng.h"
#include "lm/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tiny_spec {
    const char *name;
    enum pd_lm_norm norm;
    enum pd_lm_pos pos;
    enum pd_act act;
    bool gated, parallel, qk_norm, bias, tied, interleaved, in_out, scale_by_layer;
    bool head_bias, alibi_bf16, qkv_bias; /* qkv_bias: there alone (Qwen2) */
    enum pd_lm_scaling scaling;
    int first_windowed; /* layers below it see everything */
    int n_norms;
    int heads, kv_heads, window;
    enum { BLOCKS, PER_HEAD, PER_GROUP } qkv; /* Llama, NeoX, Falcon-40B */
};

static const struct tiny_spec tiny_specs[] = {
    {.name = "llama",
     .norm = PD_LM_RMSNORM,
     .pos = PD_LM_POS_ROPE,
     .act = PD_ACT_SILU,
     .gated = true,
     .n_norms = 2,
     .heads = 4,
     .kv_heads = 2,
     .tied = true},
    {.name = "qwen3",
     .norm = PD_LM_RMSNORM,
     .pos = PD_LM_POS_ROPE,
     .act = PD_ACT_SILU,
     .gated = true,
     .n_norms = 2,
     .heads = 4,
     .kv_heads = 2,
     .qk_norm = true},
    {.name = "mistral",
     .norm = PD_LM_RMSNORM,
     .pos = PD_LM_POS_ROPE,
     .act = PD_ACT_SILU,
     .gated = true,
     .n_norms = 2,
     .heads = 2,
     .kv_heads = 1,
     .window = 4},
    {.name = "gpt2",
     .norm = PD_LM_LAYERNORM,
     .pos = PD_LM_POS_LEARNED,
     .act = PD_ACT_GELU_TANH,
     .n_norms = 2,
     .heads = 3,
     .kv_heads = 3,
     .bias = true,
     .tied = true,
     .in_out = true,
     .scale_by_layer = true},
    {.name = "gptj",
     .norm = PD_LM_LAYERNORM,
     .pos = PD_LM_POS_ROPE,
     .act = PD_ACT_GELU_TANH,
     .n_norms = 1,
     .parallel = true,
     .heads = 2,
     .kv_heads = 2,
     .bias = true,
     .head_bias = true,
     .interleaved = true},
    {.name = "neox",
     .norm = PD_LM_LAYERNORM,
     .pos = PD_LM_POS_ROPE,
     .act = PD_ACT_GELU,
     .n_norms = 2,
     .parallel = true,
     .heads = 3,
     .kv_heads = 3,
     .bias = true,
     .qkv = PER_HEAD},
    {.name = "falcon",
     .norm = PD_LM_LAYERNORM,
     .pos = PD_LM_POS_ROPE,
     .act = PD_ACT_GELU,
     .n_norms = 2,
     .parallel = true,
     .heads = 4,
     .kv_heads = 2,
     .qkv = PER_GROUP,
     .tied = true},
    {.name = "alibi",
     .norm = PD_LM_LAYERNORM,
     .pos = PD_LM_POS_ALIBI,
     .act = PD_ACT_RELU,
     .n_norms = 2,
     .heads = 3,
     .kv_heads = 1,
     .bias = true},
    {.name = "falcon rw",
     .norm = PD_LM_LAYERNORM,
     .pos = PD_LM_POS_ALIBI,
     .act = PD_ACT_GELU,
     .n_norms = 2,
     .heads = 3,
     .kv_heads = 3,
     .bias = true,
     .tied = true,
     .alibi_bf16 = true,
     .qkv = PER_HEAD},
    {.name = "falcon 7b",
     .norm = PD_LM_LAYERNORM,
     .pos = PD_LM_POS_ROPE,
     .act = PD_ACT_GELU,
     .n_norms = 1,
     .parallel = true,
     .heads = 4,
     .kv_heads = 1,
     .qkv = PER_GROUP,
     .tied = true},
    {.name = "neox sequential",
     .norm = PD_LM_LAYERNORM,
     .pos = PD_LM_POS_ROPE,
     .act = PD_ACT_GELU_TANH,
     .n_norms = 2,
     .heads = 2,
     .kv_heads = 2,
     .bias = true,
     .qkv = PER_HEAD},
    {.name = "qwen2",
     .norm = PD_LM_RMSNORM,
     .pos = PD_LM_POS_ROPE,
     .act = PD_ACT_SILU,
     .gated = true,
     .n_norms = 2,
     .heads = 4,
     .kv_heads = 2,
     .qkv_bias = true,
     .window = 3,
     .first_windowed = 2,
     .tied = true},
    {.name = "yarn",
     .norm = PD_LM_RMSNORM,
     .pos = PD_LM_POS_ROPE,
     .act = PD_ACT_SILU,
     .gated = true,
     .n_norms = 2,
     .heads = 2,
     .kv_heads = 2,
     .scaling = PD_LM_SCALE_YARN,
     .tied = true},
};
enum { TINY_SPECS = sizeof tiny_specs / sizeof *tiny_specs };
enum { TINY_V = 29, TINY_H = 12, TINY_D = 8, TINY_F = 20, TINY_L = 3, TINY_CTX = 64 };

static struct pd_param *tiny_add(struct pd_model *m, int layer, const char *name, int64_t a,
                                 int64_t b)
{
    char full[64];
    (void)snprintf(full, sizeof full, "%d.%s", layer, name);
    int64_t shape[2] = {a, b};
    struct pd_param *p;
    if (pd_params_add(&m->params, full, b ? 2 : 1, shape, b != 0, layer, &p, NULL) != PD_OK)
        abort();
    return NULL; /* pointers are looked up once the table stands still */
}

static struct pd_param *tiny_get(struct pd_model *m, int layer, const char *name)
{
    char full[64];
    (void)snprintf(full, sizeof full, "%d.%s", layer, name);
    return pd_params_find(&m->params, full);
}

static struct pd_lin tiny_lin(struct pd_model *m, int layer, const char *name, bool in_out)
{
    char bias[32];
    (void)snprintf(bias, sizeof bias, "%s.b", name);
    return (struct pd_lin){tiny_get(m, layer, name), tiny_get(m, layer, bias), in_out};
}

static struct pd_norm tiny_norm(struct pd_model *m, int layer, const char *name)
{
    char bias[32];
    (void)snprintf(bias, sizeof bias, "%s.b", name);
    return (struct pd_norm){tiny_get(m, layer, name), tiny_get(m, layer, bias)};
}

static void tiny_add_lin(struct pd_model *m, int layer, const char *name, int64_t out, int64_t in,
                         bool in_out, bool bias)
{
    char b[32];
    (void)snprintf(b, sizeof b, "%s.b", name);
    tiny_add(m, layer, name, in_out ? in : out, in_out ? out : in);
    if (bias)
        tiny_add(m, layer, b, out, 0);
}

static void tiny_add_norm(struct pd_model *m, const struct tiny_spec *s, int layer,
                          const char *name, int64_t n)
{
    char b[32];
    (void)snprintf(b, sizeof b, "%s.b", name);
    tiny_add(m, layer, name, n, 0);
    if (s->norm == PD_LM_LAYERNORM)
        tiny_add(m, layer, b, n, 0);
}

static struct pd_model *tiny_make(const struct tiny_spec *s, uint64_t seed)
{
    struct pd_model *m = pd_xalloc(sizeof *m);
    struct pd_config *c = &m->cfg;
    int64_t A = s->heads, K = s->kv_heads, D = TINY_D, H = TINY_H, F = TINY_F;
    *c = (struct pd_config){.vocab_size = TINY_V,
                            .hidden_size = TINY_H,
                            .n_layers = TINY_L,
                            .n_heads = s->heads,
                            .n_kv_heads = s->kv_heads,
                            .head_dim = TINY_D,
                            .ffn_size = TINY_F,
                            .max_positions = TINY_CTX,
                            .norm = s->norm,
                            .norm_eps = 1e-5,
                            .act = s->act,
                            .gated = s->gated,
                            .parallel_residual = s->parallel,
                            .n_norms = s->n_norms,
                            .qk_norm = s->qk_norm,
                            .tied = s->tied,
                            .pos = s->pos,
                            .rope = {.dim = 6,
                                     .theta = 100,
                                     .interleaved = s->interleaved,
                                     .scaling = s->scaling,
                                     .factor = 4,
                                     .beta_fast = 2,
                                     .beta_slow = 0.5,
                                     .original_max_positions = 16},
                            .attn_scale = 1 / sqrt(TINY_D),
                            .attn_scale_by_layer = s->scale_by_layer,
                            .alibi_bf16 = s->alibi_bf16,
                            .lm_head_bias = s->head_bias,
                            .sliding_window = s->window};
    for (int l = 0; l < s->first_windowed; l++)
        c->sees_all[0] |= (uint8_t)(1 << l);
    c->qkv_grouped = s->qkv != BLOCKS;
    pd_config_set_qkv(c);
    pd_params_init(&m->params);
    tiny_add(m, -1, "embed", TINY_V, H);
    if (s->pos == PD_LM_POS_LEARNED)
        tiny_add(m, -1, "pos", TINY_CTX, H);
    for (int l = 0; l < TINY_L; l++) {
        tiny_add_norm(m, s, l, "n1", H);
        if (s->n_norms == 2)
            tiny_add_norm(m, s, l, "n2", H);
        if (s->qkv == BLOCKS && !s->in_out) {
            tiny_add_lin(m, l, "q", A * D, H, s->in_out, s->bias || s->qkv_bias);
            tiny_add_lin(m, l, "k", K * D, H, s->in_out, s->bias || s->qkv_bias);
            tiny_add_lin(m, l, "v", K * D, H, s->in_out, s->bias || s->qkv_bias);
        } else {
            tiny_add_lin(m, l, "qkv", (A + 2 * K) * D, H, s->in_out, s->bias);
        }
        if (s->qk_norm) {
            tiny_add(m, l, "qn", D, 0);
            tiny_add(m, l, "kn", D, 0);
        }
        tiny_add_lin(m, l, "out", H, A * D, s->in_out, s->bias);
        if (s->gated)
            tiny_add_lin(m, l, "gate", F, H, s->in_out, s->bias);
        tiny_add_lin(m, l, "up", F, H, s->in_out, s->bias);
        tiny_add_lin(m, l, "down", H, F, s->in_out, s->bias);
    }
    tiny_add_norm(m, s, -1, "nf", H);
    if (!s->tied)
        tiny_add_lin(m, -1, "head", TINY_V, H, false, s->head_bias);
    tiny_add(m, -1, "score", 1, H);
    if (pd_params_alloc_data(&m->params, NULL) != PD_OK ||
        pd_params_alloc_grads(&m->params, NULL) != PD_OK)
        abort();
    struct pd_rng rng;
    pd_rng_seed(&rng, seed, 77);
    for (size_t i = 0; i < m->params.n; i++) {
        struct pd_param *p = &m->params.v[i];
        bool is_norm = strstr(p->name, ".n1") || strstr(p->name, ".n2") || strstr(p->name, ".nf") ||
                       strstr(p->name, "qn") || strstr(p->name, "kn");
        for (size_t j = 0; j < p->n; j++)
            ((float *)p->data)[j] =
                (float)((is_norm && !strstr(p->name, ".b")) + 0.4 * pd_rng_normal(&rng));
    }
    m->embed = tiny_get(m, -1, "embed");
    m->pos_embed = tiny_get(m, -1, "pos");
    m->blocks = pd_xalloc(TINY_L * sizeof *m->blocks);
    for (int l = 0; l < TINY_L; l++) {
        struct pd_block *b = &m->blocks[l];
        b->norm1 = tiny_norm(m, l, "n1");
        b->norm2 = tiny_norm(m, l, "n2");
        if (tiny_get(m, l, "q")) {
            b->n_qkv = 3;
            b->qkv[0] = tiny_lin(m, l, "q", s->in_out);
            b->qkv[1] = tiny_lin(m, l, "k", s->in_out);
            b->qkv[2] = tiny_lin(m, l, "v", s->in_out);
        } else {
            b->n_qkv = 1;
            b->qkv[0] = tiny_lin(m, l, "qkv", s->in_out);
        }
        b->q_norm = tiny_get(m, l, "qn");
        b->k_norm = tiny_get(m, l, "kn");
        b->out = tiny_lin(m, l, "out", s->in_out);
        b->n_up = s->gated ? 2 : 1;
        if (s->gated)
            b->up[0] = tiny_lin(m, l, "gate", s->in_out);
        b->up[s->gated] = tiny_lin(m, l, "up", s->in_out);
        b->down = tiny_lin(m, l, "down", s->in_out);
    }
    m->final_norm = tiny_norm(m, -1, "nf");
    m->lm_head = tiny_lin(m, -1, "head", false);
    if (s->tied)
        m->lm_head.w = m->embed;
    m->score.w = tiny_get(m, -1, "score");
    return m;
}

static void tiny_free(struct pd_model *m)
{
    pd_params_release(&m->params);
    pd_free(m->blocks);
    pd_free(m);
}

/* ---- the twin ---- */

/* Parameters in double, in table order; so that they can be moved by tiny steps. */
struct twin {
    const struct pd_model *m;
    double **p;
};

static struct twin twin_make(const struct pd_model *m)
{
    struct twin t = {m, pd_xalloc(m->params.n * sizeof *t.p)};
    for (size_t i = 0; i < m->params.n; i++) {
        const struct pd_param *q = &m->params.v[i];
        t.p[i] = pd_xalloc(q->n * sizeof **t.p);
        for (size_t j = 0; j < q->n; j++)
            t.p[i][j] = ((const float *)q->data)[j];
    }
    return t;
}

static void twin_free(struct twin *t)
{
    for (size_t i = 0; i < t->m->params.n; i++)
        pd_free(t->p[i]);
    pd_free(t->p);
}

static const double *val(const struct twin *t, const struct pd_param *p)
{
    return t->p[p - t->m->params.v];
}

/* Of a parameter that the model may lack: then NULL. */
static const double *val_or_null(const struct twin *t, const struct pd_param *p)
{
    return p ? val(t, p) : NULL;
}

static void twin_lin(const struct twin *t, const struct pd_lin *l, const double *x, double *y)
{
    int64_t out = l->w->shape[l->in_out], in = l->w->shape[!l->in_out];
    const double *w = val(t, l->w), *b = val_or_null(t, l->b);
    for (int64_t o = 0; o < out; o++) {
        y[o] = b ? b[o] : 0;
        for (int64_t i = 0; i < in; i++)
            y[o] += x[i] * (l->in_out ? w[i * out + o] : w[o * in + i]);
    }
}

static void twin_norm(const struct twin *t, bool rms, const double *w, const double *b, int64_t n,
                      const double *x, double *y)
{
    double mean = 0, var = 0, eps = t->m->cfg.norm_eps;
    for (int64_t i = 0; i < n && !rms; i++)
        mean += x[i] / (double)n;
    for (int64_t i = 0; i < n; i++)
        var += (x[i] - mean) * (x[i] - mean) / (double)n;
    for (int64_t i = 0; i < n; i++)
        y[i] = (x[i] - mean) / sqrt(var + eps) * w[i] + (b ? b[i] : 0);
}

static void twin_norm_of(const struct twin *t, const struct pd_norm *n, const double *x, double *y)
{
    twin_norm(t, t->m->cfg.norm == PD_LM_RMSNORM, val(t, n->w), val_or_null(t, n->b), TINY_H, x, y);
}

static double twin_act(enum pd_act a, double x)
{
    switch (a) {
    case PD_ACT_SILU:
        return x / (1 + exp(-x));
    case PD_ACT_GELU:
        return 0.5 * x * (1 + erf(x / sqrt(2)));
    case PD_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    default:
        return x > 0 ? x : 0;
    }
}

/* The scaled frequency i and, for yarn, what cos and sin are multiplied with: written from the
 * paper's formulas (YaRN, eq. 19 to 22) for the factor 4, 16 original positions and the
 * rotations 2 and 1/2 of tiny_make. */
static double twin_freq(const struct pd_config *c, int i, double *magnitude)
{
    double f = pow(c->rope.theta, -2.0 * i / c->rope.dim);
    *magnitude = 1;
    if (c->rope.scaling != PD_LM_SCALE_YARN)
        return f;
    *magnitude = 0.1 * log(4) + 1;
    double at[2] = {2, 0.5}; /* dimension that turns so often, to whole dimensions outwards */
    for (int k = 0; k < 2; k++)
        at[k] = c->rope.dim * log(16 / (at[k] * 2 * M_PI)) / (2 * log(c->rope.theta));
    double low = fmax(floor(at[0]), 0), high = ceil(at[1]);
    double ramp = fmin(fmax((i - low) / (high - low), 0), 1);
    return f / 4 * ramp + f * (1 - ramp);
}

static void twin_rope(const struct pd_config *c, double *x, int64_t pos)
{
    int n = c->rope.dim / 2;
    for (int i = 0; i < n; i++) {
        double magnitude, angle = (double)pos * twin_freq(c, i, &magnitude);
        int a = c->rope.interleaved ? 2 * i : i, b = c->rope.interleaved ? 2 * i + 1 : i + n;
        double u = x[a], v = x[b];
        x[a] = magnitude * (u * cos(angle) - v * sin(angle));
        x[b] = magnitude * (v * cos(angle) + u * sin(angle));
    }
}

enum { TWIN_T = 24, TWIN_W = 96 };

/* Block l on x (T, H), in place. */
static void twin_block(const struct twin *t, int l, int64_t T, double x[][TINY_H])
{
    const struct pd_config *c = &t->m->cfg;
    const struct pd_block *b = &t->m->blocks[l];
    int64_t A = c->n_heads, K = c->n_kv_heads, D = c->head_dim, G = A / K;
    static double q[TWIN_T][4][TINY_D], k[TWIN_T][4][TINY_D], v[TWIN_T][4][TINY_D],
        attn[TWIN_T][TINY_H];
    for (int64_t i = 0; i < T; i++) {
        double h[TINY_H], row[TWIN_W], tmp[TINY_D];
        twin_norm_of(t, &b->norm1, x[i], h);
        if (b->n_qkv == 1) {
            twin_lin(t, &b->qkv[0], h, row);
        } else {
            twin_lin(t, &b->qkv[0], h, row);
            twin_lin(t, &b->qkv[1], h, row + A * D);
            twin_lin(t, &b->qkv[2], h, row + (A + K) * D);
        }
        for (int64_t a = 0; a < A; a++)
            memcpy(q[i][a], row + c->qkv.q_off + a / G * c->qkv.q_group_stride + a % G * D,
                   sizeof tmp);
        for (int64_t g = 0; g < K; g++) {
            memcpy(k[i][g], row + c->qkv.k_off + g * c->qkv.kv_stride, sizeof tmp);
            memcpy(v[i][g], row + c->qkv.v_off + g * c->qkv.kv_stride, sizeof tmp);
        }
        for (int64_t a = 0; a < A + K; a++) {
            double *p = a < A ? q[i][a] : k[i][a - A];
            if (c->qk_norm) {
                twin_norm(t, true, val(t, a < A ? b->q_norm : b->k_norm), NULL, D, p, tmp);
                memcpy(p, tmp, sizeof tmp);
            }
            if (c->pos == PD_LM_POS_ROPE)
                twin_rope(c, p, i);
        }
    }
    for (int64_t i = 0; i < T; i++) {
        double o[4 * TINY_D];
        for (int64_t a = 0; a < A; a++) {
            double s[TWIN_T], sum = 0, max = -1e300;
            int64_t window = c->sees_all[0] >> l & 1 ? 0 : c->sliding_window;
            int64_t from = window && i + 1 > window ? i + 1 - window : 0;
            for (int64_t j = from; j <= i; j++) {
                s[j] = 0;
                for (int64_t d = 0; d < D; d++)
                    s[j] += q[i][a][d] * k[j][a / G][d];
                s[j] *= c->attn_scale / (c->attn_scale_by_layer ? l + 1 : 1);
                if (c->pos == PD_LM_POS_ALIBI) {
                    /* three heads: two of the series for two heads, then the first of that for four
                     */
                    const double slopes[3] = {1 / 16.0, 1 / 256.0, 1 / 4.0};
                    s[j] += slopes[a] * (double)j * (c->alibi_bf16 ? c->attn_scale : 1);
                }
                max = s[j] > max ? s[j] : max;
            }
            for (int64_t j = from; j <= i; j++)
                sum += s[j] = exp(s[j] - max);
            for (int64_t d = 0; d < D; d++) {
                o[a * D + d] = 0;
                for (int64_t j = from; j <= i; j++)
                    o[a * D + d] += s[j] / sum * v[j][a / G][d];
            }
        }
        twin_lin(t, &b->out, o, attn[i]);
    }
    for (int64_t i = 0; i < T; i++) {
        double mid[TINY_H], h[TINY_H], up[TINY_F], gate[TINY_F], y[TINY_H];
        for (int n = 0; n < TINY_H; n++)
            mid[n] = x[i][n] + (c->parallel_residual ? 0 : attn[i][n]);
        twin_norm_of(t, b->norm2.w ? &b->norm2 : &b->norm1, mid, h);
        twin_lin(t, &b->up[b->n_up - 1], h, up);
        if (c->gated)
            twin_lin(t, &b->up[0], h, gate);
        for (int f = 0; f < TINY_F; f++)
            up[f] = c->gated ? twin_act(c->act, gate[f]) * up[f] : twin_act(c->act, up[f]);
        twin_lin(t, &b->down, up, y);
        for (int n = 0; n < TINY_H; n++)
            x[i][n] += attn[i][n] + y[n];
    }
}

/* Hidden states (T, H) of one sequence after the final norm. */
static void twin_hidden(const struct twin *t, const int32_t *ids, int64_t T, double out[][TINY_H])
{
    static double x[TWIN_T][TINY_H];
    for (int64_t i = 0; i < T; i++)
        for (int n = 0; n < TINY_H; n++)
            x[i][n] = val(t, t->m->embed)[ids[i] * TINY_H + n] +
                      (t->m->pos_embed ? val(t, t->m->pos_embed)[i * TINY_H + n] : 0);
    for (int l = 0; l < TINY_L; l++)
        twin_block(t, l, T, x);
    for (int64_t i = 0; i < T; i++)
        twin_norm_of(t, &t->m->final_norm, x[i], out[i]);
}

/* log p(target) and entropy of softmax(head . h / temperature). */
static double twin_logprob(const struct twin *t, const double *h, int32_t target,
                           double temperature, double *entropy)
{
    double z[TINY_V], max = -1e300, sum = 0, e = 0;
    twin_lin(t, &t->m->lm_head, h, z);
    for (int i = 0; i < TINY_V; i++) {
        z[i] /= temperature;
        max = z[i] > max ? z[i] : max;
    }
    for (int i = 0; i < TINY_V; i++)
        sum += exp(z[i] - max);
    double lse = max + log(sum);
    for (int i = 0; i < TINY_V; i++)
        e -= exp(z[i] - lse) * (z[i] - lse);
    *entropy = e;
    return z[target] - lse;
}

#endif
