#include "cmd/generate_grid.h"
#include "base/mem.h"
#include "lm/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_VALUES = 32, MAX_VARIANTS = 256 };

struct values {
    double v[MAX_VALUES];
    size_t n;
};

static enum pd_rc read_list(const char *option, const char *text, bool whole, struct values *out,
                            struct pd_err *err)
{
    struct pd_str rest = pd_str_from(text), one;
    out->n = 0;
    while (pd_str_split(&rest, ',', &one)) {
        double v;
        one = pd_str_trim(one);
        if (!pd_str_to_f64(one, &v) || (whole && (v != floor(v) || fabs(v) > 1e9)))
            return PD_FAIL(err, PD_USAGE, "--%s: expected %s, or several like 1,2, found '%s'",
                           option, whole ? "a whole number" : "a number", text);
        if (out->n == MAX_VALUES)
            return PD_FAIL(err, PD_USAGE, "--%s: more than %d values", option, MAX_VALUES);
        for (size_t i = 0; i < out->n; i++)
            if (out->v[i] == v)
                return PD_FAIL(err, PD_USAGE, "--%s: %g stands twice", option, v);
        out->v[out->n++] = v;
    }
    return out->n ? PD_OK : PD_FAIL(err, PD_USAGE, "--%s wants a number", option);
}

/* "runs/ppo/" -> "ppo". */
static char *base_name(const char *path)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    return pd_xstrndup(path + start, end - start);
}

static bool named_as_another(const struct pd_grid *g, size_t i)
{
    for (size_t k = 0; k < g->n_models; k++)
        if (k != i && strcmp(g->models[k].name, g->models[i].name) == 0)
            return true;
    return false;
}

/* Two models of one base name go by their whole paths. */
static enum pd_rc name_models(struct pd_grid *g, const struct pd_opt_list *names,
                              struct pd_err *err)
{
    bool shared[MAX_VARIANTS];
    for (size_t i = 0; i < g->n_models; i++)
        g->models[i].name = names->n ? pd_xstrdup(names->items[i]) : base_name(g->models[i].path);
    for (size_t i = 0; i < g->n_models; i++)
        shared[i] = named_as_another(g, i);
    for (size_t i = 0; i < g->n_models; i++) {
        struct pd_grid_model *m = &g->models[i];
        if (shared[i] && names->n)
            return PD_FAIL(err, PD_USAGE, "--model-name %s is given twice", m->name);
        if (shared[i]) {
            pd_free(m->name);
            m->name = pd_xstrdup(m->path);
        }
        if (named_as_another(g, i))
            return PD_FAIL(err, PD_USAGE, "--model %s is given twice", m->path);
    }
    return PD_OK;
}

enum pd_rc pd_grid_make(struct pd_grid *g, const struct pd_opt_list *models,
                        const struct pd_opt_list *names, const char *temperature, const char *top_k,
                        const char *top_p, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct values t, k, p;
    *g = (struct pd_grid){0};
    PD_TRY(read_list("temperature", temperature, false, &t, err));
    PD_TRY(read_list("top-k", top_k, true, &k, err));
    PD_TRY(read_list("top-p", top_p, false, &p, err));
    if (names->n && names->n != models->n) {
        rc = PD_FAIL(err, PD_USAGE, "%zu --model-name for %zu --model: give one for each, or none",
                     names->n, models->n);
        goto out;
    }
    if (models->n > MAX_VARIANTS || models->n * t.n * k.n * p.n > MAX_VARIANTS) {
        rc = PD_FAIL(err, PD_USAGE, "%zu models under %zu settings are more than %d variants",
                     models->n, t.n * k.n * p.n, MAX_VARIANTS);
        goto out;
    }
    g->settings = pd_xalloc(t.n * k.n * p.n * sizeof *g->settings);
    for (size_t a = 0; a < t.n; a++)
        for (size_t b = 0; b < k.n; b++)
            for (size_t c = 0; c < p.n; c++)
                g->settings[g->n_settings++] =
                    (struct pd_grid_setting){t.v[a], p.v[c], (int64_t)k.v[b]};
    g->models = pd_xalloc(models->n * sizeof *g->models);
    for (; g->n_models < models->n; g->n_models++) {
        const char *m = models->items[g->n_models];
        g->models[g->n_models] =
            (struct pd_grid_model){.path = m, .endpoint = pd_model_is_address(m)};
    }
    rc = name_models(g, names, err);
out:
    if (rc != PD_OK)
        pd_grid_release(g);
    return rc;
}

void pd_grid_release(struct pd_grid *g)
{
    for (size_t i = 0; i < g->n_models; i++)
        pd_free(g->models[i].name);
    pd_free(g->models);
    pd_free(g->settings);
    *g = (struct pd_grid){0};
}
