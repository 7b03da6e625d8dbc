/* Shared by model.c, model_*.c. */
#ifndef PD_LM_MODEL_INT_H
#define PD_LM_MODEL_INT_H

#include "lm/family.h"
#include "lm/model.h"
#include "lm/weights.h"

/* Which row of the family's table a parameter came from, beside params.v. */
struct pd_param_at {
    const struct pd_tensor_spec *spec;
    int layer;
};

struct pd_model_files {
    const struct pd_family *family;
    struct pd_weights weights;
    char *dir;                  /* Hugging Face folder, or NULL */
    struct json_object *config; /* config.json as read, or NULL */
    struct pd_param_at *at;     /* params.n */
    bool as_in_file;    /* PD_SPEC_IN_OUT parameters are (out, in), as this GGUF file has them */
    bool head_is_embed; /* an output matrix that is not in the files begins as the embedding */
    void **owned;       /* pd_try_aligned buffers that params point into */
    size_t n_owned;
    uint64_t random_seed; /* of a model of random weights, whose parameters have no data */
    float *quantiles;     /* what they are drawn from */
};

enum { PD_MODEL_MAX_CONFIG = 16 << 20, PD_MODEL_MAX_LABELS = 1 << 16 };

/* Does a parameter stand (in, out) in the table, as GPT-2's matrices do in a folder? */
static inline bool pd_model_in_out(const struct pd_model *m, const struct pd_tensor_spec *s)
{
    return s->quirks & PD_SPEC_IN_OUT && !m->files->as_in_file;
}

struct pd_model *pd_model_new(const char *path);
/* The table of parameters and the roles, from cfg, heads and the family. */
PD_CHECKED enum pd_rc pd_model_build_table(struct pd_model *m, struct pd_err *err);
/* Rows of parameter `index` of a model of random weights. */
void pd_model_random_rows(const struct pd_model *m, size_t index, int64_t first, int64_t n,
                          float *dst);
/* Rows of a score head; 1 of what is no matrix, which then fails as one of another shape. */
static inline int64_t pd_label_rows(const struct pd_weight *w)
{
    return w->ndim == 2 && w->shape[0] > 0 ? w->shape[0] : 1;
}
/* Rows of the score head that the files hold; 0 when they hold none. */
int64_t pd_model_labels_in_files(const struct pd_model *m);
/* Is the output matrix the embedding? Asks the files where they hold both. */
bool pd_model_is_tied(const struct pd_model *m);
/* Points every parameter's data at the files, or at owned memory where they differ. */
PD_CHECKED enum pd_rc pd_model_bind_files(struct pd_model *m, const struct pd_model_options *opt,
                                          struct pd_err *err);
/* Does a GGUF file hold the rows of a tensor with these quirks in another order, and where does row
 * `row` of ours stand in it? */
bool pd_model_rows_move(const struct pd_config *cfg, unsigned quirks);
size_t pd_model_row_in_file(const struct pd_config *cfg, unsigned quirks, size_t row);
/* The row of the family's table that the model_type names. */
const struct pd_family_type *pd_model_type(const struct pd_model *m);
/* 64-byte aligned, freed with the model; NULL when memory is gone. */
void *pd_model_own(struct pd_model *m, size_t n, size_t size);
void pd_model_drop_owned(struct pd_model *m);
/* The same of one parameter, if it has such a buffer: its data are gone for good. */
void pd_model_drop(struct pd_model *m, struct pd_param *p);
void pd_model_random_normal(float *out, size_t n, double sd, uint64_t seed, uint64_t stream);

#endif
