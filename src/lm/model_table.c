/* The table of parameters, and which of them plays which role. */
#include "lm/model_int.h"

#include "base/mem.h"

static const struct pd_tensor_spec score_spec = {PD_ROLE_SCORE_W, "score.weight", NULL,
                                                 PD_DIM_LABELS,   PD_DIM_H,       0};
static const struct pd_tensor_spec value_specs[] = {
    {PD_ROLE_VALUE_W, "v_head.summary.weight", NULL, PD_DIM_NONE, PD_DIM_H, 0},
    {PD_ROLE_VALUE_B, "v_head.summary.bias", NULL, PD_DIM_NONE, 0, 0},
};

/* ---- roles ---- */

static struct pd_param **block_slot(struct pd_block *b, enum pd_role role)
{
    switch (role) {
    case PD_ROLE_NORM1_W:
        return &b->norm1.w;
    case PD_ROLE_NORM1_B:
        return &b->norm1.b;
    case PD_ROLE_Q_W:
    case PD_ROLE_QKV_W:
        return &b->qkv[0].w;
    case PD_ROLE_Q_B:
    case PD_ROLE_QKV_B:
        return &b->qkv[0].b;
    case PD_ROLE_K_W:
        return &b->qkv[1].w;
    case PD_ROLE_K_B:
        return &b->qkv[1].b;
    case PD_ROLE_V_W:
        return &b->qkv[2].w;
    case PD_ROLE_V_B:
        return &b->qkv[2].b;
    case PD_ROLE_Q_NORM:
        return &b->q_norm;
    case PD_ROLE_K_NORM:
        return &b->k_norm;
    case PD_ROLE_OUT_W:
        return &b->out.w;
    case PD_ROLE_OUT_B:
        return &b->out.b;
    case PD_ROLE_NORM2_W:
        return &b->norm2.w;
    case PD_ROLE_NORM2_B:
        return &b->norm2.b;
    case PD_ROLE_DOWN_W:
        return &b->down.w;
    case PD_ROLE_DOWN_B:
        return &b->down.b;
    default:
        return NULL;
    }
}

static struct pd_param **mlp_slot(struct pd_block *b, enum pd_role role, bool gated)
{
    switch (role) {
    case PD_ROLE_GATE_W:
        return &b->up[0].w;
    case PD_ROLE_GATE_B:
        return &b->up[0].b;
    case PD_ROLE_UP_W:
        return &b->up[gated].w;
    case PD_ROLE_UP_B:
        return &b->up[gated].b;
    default:
        return NULL;
    }
}

static struct pd_param **trunk_slot(struct pd_model *m, enum pd_role role)
{
    switch (role) {
    case PD_ROLE_EMBED:
        return &m->embed;
    case PD_ROLE_POS_EMBED:
        return &m->pos_embed;
    case PD_ROLE_FINAL_W:
        return &m->final_norm.w;
    case PD_ROLE_FINAL_B:
        return &m->final_norm.b;
    case PD_ROLE_HEAD_W:
        return &m->lm_head.w;
    case PD_ROLE_HEAD_B:
        return &m->lm_head.b;
    case PD_ROLE_SCORE_W:
        return &m->score.w;
    case PD_ROLE_VALUE_W:
        return &m->value.w;
    case PD_ROLE_VALUE_B:
        return &m->value.b;
    default:
        return NULL;
    }
}

static struct pd_param **slot_of(struct pd_model *m, enum pd_role role, int layer)
{
    struct pd_param **slot = NULL;
    if (pd_role_in_block(role)) {
        slot = block_slot(&m->blocks[layer], role);
        if (!slot)
            slot = mlp_slot(&m->blocks[layer], role, m->cfg.gated);
    } else {
        slot = trunk_slot(m, role);
    }
    if (!slot)
        pd_bug("role %d has no place in a model", (int)role);
    return slot;
}

/* ---- the table ---- */

static enum pd_rc add_param(struct pd_model *m, const struct pd_tensor_spec *s, int layer,
                            struct pd_err *err)
{
    struct pd_param *p = NULL;
    int64_t shape[2] = {pd_dim_size(s->rows, &m->cfg), pd_dim_size(s->cols, &m->cfg)};
    char *name = pd_spec_name(s->hf, layer);
    bool matrix = s->cols != PD_DIM_NONE;
    if (s->quirks & PD_SPEC_IN_OUT && !pd_model_in_out(m, s)) {
        const int64_t in = shape[0];
        shape[0] = shape[1];
        shape[1] = in;
    }
    enum pd_rc rc = pd_params_add(&m->params, name, matrix ? 2 : 1, shape, matrix, layer, &p, err);
    pd_free(name);
    if (rc != PD_OK)
        return rc;
    m->files->at = pd_xrealloc(m->files->at, m->params.n * sizeof *m->files->at);
    m->files->at[m->params.n - 1] = (struct pd_param_at){s, layer};
    return PD_OK;
}

static bool wanted(const struct pd_model *m, const struct pd_tensor_spec *s)
{
    if ((s->role == PD_ROLE_HEAD_W || s->role == PD_ROLE_HEAD_B) && !(m->heads & PD_HEAD_LM))
        return false;
    return pd_spec_present(s, &m->cfg);
}

/* In Hugging Face's order: embeddings, blocks one after the other, final norm, heads. */
static enum pd_rc add_params(struct pd_model *m, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct pd_family *f = m->files->family;
    for (size_t i = 0; i < f->n_specs;) {
        size_t end = i;
        while (end < f->n_specs && pd_role_in_block(f->specs[end].role))
            end++;
        for (int l = 0; end > i && l < m->cfg.n_layers; l++)
            for (size_t k = i; k < end; k++)
                if (wanted(m, &f->specs[k]))
                    PD_TRY(add_param(m, &f->specs[k], l, err));
        i = end;
        if (i < f->n_specs && wanted(m, &f->specs[i]))
            PD_TRY(add_param(m, &f->specs[i], -1, err));
        i++;
    }
    if (m->heads & PD_HEAD_SCORE)
        PD_TRY(add_param(m, &score_spec, -1, err));
    for (size_t i = 0; (m->heads & PD_HEAD_VALUE) && i < 2; i++)
        PD_TRY(add_param(m, &value_specs[i], -1, err));
out:
    return rc;
}

static int count_lins(const struct pd_lin *l, int max)
{
    int n = 0;
    while (n < max && l[n].w)
        n++;
    return n;
}

/* Pointers are stable only once the table is complete. */
static void bind_roles(struct pd_model *m)
{
    for (size_t i = 0; i < m->params.n; i++) {
        const struct pd_param_at *at = &m->files->at[i];
        *slot_of(m, at->spec->role, at->layer) = &m->params.v[i];
    }
    if (m->cfg.tied && (m->heads & PD_HEAD_LM))
        m->lm_head.w = m->embed;
    for (size_t i = 0; i < m->params.n; i++) {
        const struct pd_param_at *at = &m->files->at[i];
        if (!pd_model_in_out(m, at->spec))
            continue;
        /* a matrix's slot is the first member of its struct pd_lin */
        struct pd_lin *lin = (struct pd_lin *)(void *)slot_of(m, at->spec->role, at->layer);
        lin->in_out = true;
    }
    for (int l = 0; l < m->cfg.n_layers; l++) {
        m->blocks[l].n_qkv = count_lins(m->blocks[l].qkv, 3);
        m->blocks[l].n_up = count_lins(m->blocks[l].up, 2);
    }
}

enum pd_rc pd_model_build_table(struct pd_model *m, struct pd_err *err)
{
    m->blocks = pd_try_alloc((size_t)m->cfg.n_layers, sizeof *m->blocks);
    if (!m->blocks)
        return PD_FAIL(err, PD_NOMEM, "%s: no memory for %d layers", m->path, m->cfg.n_layers);
    enum pd_rc rc = add_params(m, err);
    if (rc == PD_OK)
        bind_roles(m);
    return rc;
}
