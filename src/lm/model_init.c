/* Random weights at the shape of a config.json. They are drawn as they are written, so that a model
 * of any size takes no memory; every row of a matrix has a stream of its own, so that threads share
 * the work and the file does not depend on how many there are. */
#include "lm/model_int.h"

#include "base/mem.h"
#include "base/rng.h"

#include <math.h>

/* The middles of QUANTILES steps of equal probability: sixteen random bits name one, which is an
 * order of magnitude faster than a logarithm and a cosine. In files of halves nobody can tell. */
enum { QUANTILES = 1 << 16 };

static void fill_quantiles(float *q, double sd)
{
    double z = -4.3; /* the lowest, nearly; each is close to the one before */
    for (int i = 0; i < QUANTILES / 2; i++) {
        const double p = (i + 0.5) / QUANTILES;
        for (int k = 0; k < 6; k++) /* Newton's on the distribution function */
            z -= (0.5 * erfc(-z * M_SQRT1_2) - p) / (exp(-z * z / 2) * 0.3989422804014327);
        q[i] = (float)(sd * z);
        q[QUANTILES - 1 - i] = (float)(-sd * z);
    }
}

static void normal_row(float *out, size_t n, const float *quantiles, struct pd_rng *rng)
{
    for (size_t i = 0; i < n; i += 4) {
        uint64_t bits = pd_rng_u64(rng);
        for (size_t k = i; k < n && k < i + 4; k++, bits >>= 16)
            out[k] = quantiles[bits & (QUANTILES - 1)];
    }
}

void pd_model_random_normal(float *out, size_t n, double sd, uint64_t seed, uint64_t stream)
{
    struct pd_rng rng;
    pd_rng_seed(&rng, seed, stream);
    for (size_t i = 0; i < n; i++)
        out[i] = (float)(sd * pd_rng_normal(&rng));
}

void pd_model_random_rows(const struct pd_model *m, size_t index, int64_t first, int64_t n,
                          float *dst)
{
    const struct pd_param *p = &m->params.v[index];
    const struct pd_tensor_spec *spec = m->files->at[index].spec;
    size_t row = p->n / (size_t)p->shape[0];
    const float *quantiles = m->files->quantiles;
    uint64_t seed = m->files->random_seed;
    if (spec->cols == PD_DIM_NONE && spec->role != PD_ROLE_SCORE_W) {
        enum pd_role r = spec->role;
        bool one = r == PD_ROLE_NORM1_W || r == PD_ROLE_NORM2_W || r == PD_ROLE_FINAL_W ||
                   r == PD_ROLE_Q_NORM || r == PD_ROLE_K_NORM;
        for (size_t i = 0; i < (size_t)n * row; i++)
            dst[i] = one ? 1 : 0;
        return;
    }
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < n; r++) {
        struct pd_rng rng;
        pd_rng_seed(&rng, seed, pd_rng_mix(index + 1, (uint64_t)(first + r)));
        normal_row(dst + (size_t)r * row, row, quantiles, &rng);
    }
}

enum pd_rc pd_model_init_like(struct pd_model **out, const char *config_json, unsigned heads,
                              uint64_t seed, struct pd_tokenizer *tok, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_model *m = pd_model_new(config_json);
    m->heads = heads ? heads : PD_HEAD_LM;
    PD_TRY(pd_json_read_file(config_json, PD_MODEL_MAX_CONFIG, &m->files->config, err));
    PD_TRY(pd_config_from_json(m->files->config, config_json, &m->cfg, &m->files->family, err));
    if (tok && pd_tokenizer_size(tok) > m->cfg.vocab_size) {
        rc = PD_FAIL(err, PD_INVALID, "%s: vocab_size %d is smaller than the tokenizer's %d",
                     config_json, m->cfg.vocab_size, pd_tokenizer_size(tok));
        goto out;
    }
    PD_TRY(pd_model_build_table(m, err));
    m->files->random_seed = seed;
    m->files->quantiles = pd_model_own(m, QUANTILES, sizeof *m->files->quantiles);
    if (!m->files->quantiles) {
        rc = PD_FAIL(err, PD_NOMEM, "no memory for random weights");
        goto out;
    }
    fill_quantiles(m->files->quantiles, m->cfg.initializer_range);
    if (tok)
        PD_TRY(pd_chat_init(&m->chat, pd_tokenizer_chat_template(tok), tok, err));
    m->tok = tok;
    *out = m;
    m = NULL;
out:
    pd_model_free(m);
    return rc;
}
