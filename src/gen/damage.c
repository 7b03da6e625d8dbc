#include "gen/damage.h"
#include "lm/model.h"
#include "base/mem.h"

#include <math.h>

static enum pd_rc look(const struct pd_param *p, struct pd_err *err)
{
    int64_t rows = p->shape[0], width = (int64_t)p->n / rows;
    float *row = pd_try_alloc((size_t)width, sizeof *row);
    if (!row)
        return PD_FAIL(err, PD_NOMEM, "no memory for a row of %s", p->name);
    enum pd_rc rc = PD_OK;
    for (int64_t r = 0; r < rows && rc == PD_OK; r++) {
        pd_param_rows(p, r, 1, row);
        int64_t i = 0;
        while (i < width && isfinite(row[i]))
            i++;
        if (i < width)
            rc = PD_FAIL(err, PD_NONFINITE, "weight %s is %s at index %lld of %zu", p->name,
                         isnan(row[i]) ? "NaN" : "infinite", (long long)(r * width + i), p->n);
    }
    pd_free(row);
    return rc;
}

bool pd_model_is_whole(const struct pd_model *m)
{
    for (size_t i = 0; i < m->params.n; i++)
        if (!m->params.v[i].data)
            return false;
    return true;
}

enum pd_rc pd_model_damage(const struct pd_model *m, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    for (size_t i = 0; i < m->params.n && rc == PD_OK; i++)
        if (m->params.v[i].data)
            rc = look(&m->params.v[i], err);
    return rc;
}
