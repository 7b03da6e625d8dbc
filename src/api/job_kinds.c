#include "api/job_kinds.h"

#include "base/fs.h"
#include "base/mem.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>

static const struct pd_job_arg reward_args[] = {
    {"epochs", "--epochs", true, 1, 100, 3},
    {"learning_rate", "--learning-rate", false, 1e-9, 1, 5e-5},
    {"freeze_layers", "--freeze-layers", false, 0, 1, 0.7},
    {"batch_size", "--batch-size", true, 1, 4096, 8},
    {"max_length", "--max-length", true, 8, 65536, 512},
    {"test_share", NULL, false, 0, 0.9, 0.2},
    {"seed", "--seed", true, 0, 4294967295.0, 42},
};
static const struct pd_job_arg improve_args[] = {
    {"max_steps", "--max-steps", true, 1, 100000, 20},
    {"learning_rate", "--learning-rate", false, 1e-9, 1, 3e-6},
    {"kl_coef", "--kl-coef", false, 0, 10, 0.05},
    {"rollout_batch", "--rollout-batch", true, 1, 4096, 16},
    {"response_length", "--response-length", true, 1, 4096, 48},
    {"temperature", "--temperature", false, 0.01, 10, 0.7},
    {"seed", "--seed", true, 0, 4294967295.0, 42},
};
static const char *const reward_argv[] = {"train", "reward", NULL};
static const char *const improve_argv[] = {"train", "ppo", NULL};

static const struct pd_job_kind kinds[] = {
    {"train_reward", "train reward", "Reward model", reward_argv, reward_args,
     sizeof reward_args / sizeof reward_args[0]},
    {"improve", "train ppo", "Policy", improve_argv, improve_args,
     sizeof improve_args / sizeof improve_args[0]},
};

const struct pd_job_kind *pd_job_kind_find(struct pd_str name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (pd_str_eqz(name, kinds[i].name))
            return &kinds[i];
    return NULL;
}

static const struct pd_job_arg *arg_find(const struct pd_job_kind *k, const char *key)
{
    for (size_t i = 0; i < k->n_args; i++)
        if (strcmp(k->args[i].key, key) == 0)
            return &k->args[i];
    return NULL;
}

enum pd_rc pd_job_args_check(const struct pd_job_kind *k, struct json_object *args,
                             const char **field, struct pd_err *err)
{
    *field = "args";
    if (!args)
        return PD_OK;
    if (!json_object_is_type(args, json_type_object))
        return PD_FAIL(err, PD_INVALID, "args must be an object, found %s",
                       pd_json_type_name(args));
    json_object_object_foreach(args, key, value)
    {
        const struct pd_job_arg *a = arg_find(k, key);
        *field = key;
        if (!a)
            return PD_FAIL(err, PD_INVALID, "%s: not an argument of %s", key, k->name);
        bool number = json_object_is_type(value, json_type_int) ||
                      (!a->whole && json_object_is_type(value, json_type_double));
        double v = number ? json_object_get_double(value) : NAN;
        if (!(v >= a->min && v <= a->max))
            return PD_FAIL(err, PD_INVALID, "%s must be a %s from %g to %g", key,
                           a->whole ? "whole number" : "number", a->min, a->max);
    }
    return PD_OK;
}

double pd_job_arg(const struct pd_job_kind *k, struct json_object *args, const char *key)
{
    const struct pd_job_arg *a = arg_find(k, key);
    PD_ASSERT(a);
    return pd_json_f64(args, key, a->preset);
}

/* ------------------------------------------------------------------ models */

static int by_label(const void *a, const void *b)
{
    return strcmp(((const struct pd_model_choice *)a)->label,
                  ((const struct pd_model_choice *)b)->label);
}

void pd_models_list(struct pd_arena *a, const char *dir, struct pd_model_choice **out, size_t *n)
{
    enum { MAX_MODELS = 200 };
    DIR *d = opendir(dir);
    *out = pd_arena_alloc(a, MAX_MODELS * sizeof **out);
    *n = 0;
    for (struct dirent *e; d && *n < MAX_MODELS && (e = readdir(d));) {
        size_t len = strlen(e->d_name);
        if (e->d_name[0] == '.')
            continue;
        const char *path = pd_arena_printf(a, "%s/%s", dir, e->d_name);
        bool gguf = len > 5 && strcmp(e->d_name + len - 5, ".gguf") == 0;
        bool folder = !gguf && pd_fs_exists(pd_arena_printf(a, "%s/config.json", path));
        if (!gguf && !folder)
            continue;
        const char *id = pd_arena_strdup(a, e->d_name);
        (*out)[(*n)++] =
            (struct pd_model_choice){id, pd_arena_strndup(a, id, gguf ? len - 5 : len), path};
    }
    if (d)
        closedir(d);
    if (*n)
        qsort(*out, *n, sizeof **out, by_label);
}

const char *pd_models_path(struct pd_arena *a, const char *dir, struct pd_str id)
{
    struct pd_model_choice *list = NULL;
    size_t n = 0;
    pd_models_list(a, dir, &list, &n);
    for (size_t i = 0; i < n; i++)
        if (pd_str_eqz(id, list[i].id))
            return list[i].path;
    return NULL;
}

char *pd_models_default_dir(void)
{
    const char *own = getenv("PODIUM_MODELS"), *cache = getenv("XDG_CACHE_HOME"),
               *home = getenv("HOME");
    if (own && *own)
        return pd_xstrdup(own);
    if (cache && *cache)
        return pd_xasprintf("%s/podium/models", cache);
    return pd_xasprintf("%s/.cache/podium/models", home ? home : "");
}
