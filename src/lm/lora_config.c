/* adapter_config.json: the base it names, what is refused, ranks and alphas by module. */
#include "lm/lora_int.h"

#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"
#include "lm/pull.h"

#include <math.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define CONFIG PD_LORA_CONFIG
enum { MAX_CONFIG_BYTES = 1 << 24 };

static enum pd_rc read_config(const char *dir, struct json_object **out, struct pd_err *err)
{
    char *path = pd_xasprintf("%s/" CONFIG, dir);
    enum pd_rc rc = pd_json_read_file(path, MAX_CONFIG_BYTES, out, err);
    if (rc == PD_OK && !json_object_is_type(*out, json_type_object)) {
        json_object_put(*out);
        *out = NULL;
        rc = PD_FAIL(err, PD_PARSE, "%s: not a JSON object", path);
    }
    pd_free(path);
    return rc;
}

bool pd_lora_is_adapter(const char *dir)
{
    char *path = pd_xasprintf("%s/" CONFIG, dir);
    bool there = pd_fs_exists(path);
    pd_free(path);
    return there;
}

enum pd_rc pd_lora_base(const char *dir, char **base, struct pd_err *err)
{
    struct json_object *config = NULL;
    char *models = pd_pull_folder();
    enum pd_rc rc = read_config(dir, &config, err);
    if (rc != PD_OK)
        goto out;
    struct pd_str name = pd_json_str(config, "base_model_name_or_path");
    if (!name.ptr || name.len == 0) {
        rc = PD_FAIL(err, PD_INVALID,
                     "%s/" CONFIG
                     " names no base model; podium model merge BASE --adapter %s --out OUT",
                     dir, dir);
        goto out;
    }
    char *const places[] = {pd_xasprintf("%.*s", PD_STR_ARG(name)),
                            pd_xasprintf("%s/%.*s", dir, PD_STR_ARG(name)),
                            pd_xasprintf("%s/%.*s", models, PD_STR_ARG(name))};
    rc = PD_NOTFOUND;
    for (size_t i = 0; i < 3; i++) {
        if (rc != PD_OK && pd_fs_exists(places[i])) {
            *base = places[i];
            rc = PD_OK;
        } else {
            pd_free(places[i]);
        }
    }
    if (rc != PD_OK)
        rc = PD_FAIL(
            err, PD_NOTFOUND,
            "%s: its base model %.*s is not here; podium model pull hf://%.*s fetches it from "
            "a hub, podium model merge BASE --adapter %s --out OUT takes another",
            dir, PD_STR_ARG(name), PD_STR_ARG(name), dir);
out:
    json_object_put(config);
    pd_free(models);
    return rc;
}

static bool is_set(struct json_object *v)
{
    if (!v || json_object_is_type(v, json_type_null))
        return false;
    if (json_object_is_type(v, json_type_array))
        return json_object_array_length(v) > 0;
    if (json_object_is_type(v, json_type_object))
        return json_object_object_length(v) > 0;
    return !json_object_is_type(v, json_type_boolean) || json_object_get_boolean(v);
}

/* What changes the numbers in ways that adding B A does not. */
static enum pd_rc check_known(const char *dir, struct json_object *config, struct pd_err *err)
{
    static const char *const unknown[] = {
        "use_dora",          "use_qalora",        "lora_bias",  "alora_invocation_tokens",
        "layer_replication", "target_parameters", "use_bdlora", "trainable_token_indices",
        "monteclora_config", "arrow_config",      "kasa_config"};
    static const char *const inits[] = {"gaussian", "orthogonal", "eva"};
    struct pd_str type = pd_json_str(config, "peft_type");
    if (!pd_str_eqz(type, "LORA"))
        return PD_FAIL(err, PD_UNSUPPORTED, "%s/" CONFIG ": peft_type \"%.*s\"; LORA is read", dir,
                       PD_STR_ARG(type));
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        if (is_set(pd_json_get(config, unknown[i])))
            return PD_FAIL(err, PD_UNSUPPORTED, "%s/" CONFIG ": %s is set, which is not supported",
                           dir, unknown[i]);
    struct pd_str init = pd_json_str(config, "init_lora_weights");
    bool known = !init.ptr;
    for (size_t i = 0; i < sizeof inits / sizeof *inits; i++)
        known |= pd_str_eqz(init, inits[i]);
    if (!known)
        return PD_FAIL(err, PD_UNSUPPORTED,
                       "%s/" CONFIG
                       ": init_lora_weights \"%.*s\" changes the base weights; convert "
                       "the adapter with PEFT (path_initial_model_for_weight_conversion) first",
                       dir, PD_STR_ARG(init));
    return PD_OK;
}

/* ---- rank_pattern and alpha_pattern ---- */

/* PEFT's rule: a key is a regular expression for the end of the module's path, from a dot on. */
static enum pd_rc compile(const char *key, pcre2_code **code, struct pd_err *err)
{
    int number = 0;
    PCRE2_SIZE at = 0;
    char *pattern = pd_xasprintf("^(?:.*\\.)?(?:%s)$", key);
    *code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                          PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C, &number, &at, NULL);
    pd_free(pattern);
    if (*code)
        return PD_OK;
    PCRE2_UCHAR what[128] = "";
    (void)pcre2_get_error_message(number, what, sizeof what);
    return PD_FAIL(err, PD_INVALID, "\"%s\" is no regular expression: %s", key, (char *)what);
}

/* Only of the type that PEFT writes: its Python would fail on another, or take it for something. */
static enum pd_rc read_number(struct json_object *v, const char *key, double *out,
                              struct pd_err *err)
{
    if (!json_object_is_type(v, json_type_int) && !json_object_is_type(v, json_type_double))
        return PD_FAIL(err, PD_INVALID, "\"%s\" is %s; expected a number", key,
                       pd_json_type_name(v));
    double number = json_object_get_double(v);
    if (!isfinite((float)number))
        return PD_FAIL(err, PD_INVALID, "\"%s\" is %s, which is out of range", key,
                       json_object_get_string(v));
    *out = number;
    return PD_OK;
}

static enum pd_rc read_rules(struct pd_lora_setting *s, struct json_object *o, const char *patterns,
                             struct pd_err *err)
{
    if (!o || json_object_is_type(o, json_type_null))
        return PD_OK;
    if (!json_object_is_type(o, json_type_object))
        return PD_FAIL(err, PD_INVALID, "%s is %s; expected an object", patterns,
                       pd_json_type_name(o));
    s->rules = pd_xalloc(((size_t)json_object_object_length(o) + 1) * sizeof *s->rules);
    json_object_object_foreach(o, key, value)
    {
        struct pd_lora_rule *r = &s->rules[s->n];
        enum pd_rc rc = read_number(value, key, &r->value, err);
        if (rc == PD_OK)
            rc = compile(key, (pcre2_code **)&r->code, err);
        if (rc != PD_OK)
            return pd_err_prefix(err, "%s", patterns);
        r->key = pd_xstrdup(key);
        s->n++;
    }
    return PD_OK;
}

static enum pd_rc read_setting(struct pd_lora_setting *s, struct json_object *config,
                               const char *plain, const char *patterns, struct pd_err *err)
{
    struct json_object *v = NULL;
    s->otherwise = 8; /* PEFT's default of both */
    if (json_object_object_get_ex(config, plain, &v)) {
        enum pd_rc rc = read_number(v, plain, &s->otherwise, err);
        if (rc != PD_OK)
            return rc;
    }
    return read_rules(s, pd_json_get(config, patterns), patterns, err);
}

static enum pd_rc read_rslora(struct pd_lora_config *c, struct json_object *config,
                              struct pd_err *err)
{
    struct json_object *v = pd_json_get(config, "use_rslora");
    if (v && !json_object_is_type(v, json_type_boolean))
        return PD_FAIL(err, PD_INVALID, "\"use_rslora\" is %s; expected true or false",
                       pd_json_type_name(v));
    c->rslora = v && json_object_get_boolean(v);
    return PD_OK;
}

static void release_setting(struct pd_lora_setting *s)
{
    for (size_t i = 0; i < s->n; i++) {
        pcre2_code_free(s->rules[i].code);
        pd_free(s->rules[i].key);
    }
    pd_free(s->rules);
}

enum pd_rc pd_lora_setting_of(const struct pd_lora_setting *s, const char *module, double *value,
                              struct pd_err *err)
{
    *value = s->otherwise;
    for (size_t i = 0; i < s->n; i++) {
        pcre2_match_data *data = pcre2_match_data_create(1, NULL);
        int found = data ? pcre2_match(s->rules[i].code, (PCRE2_SPTR)module, PCRE2_ZERO_TERMINATED,
                                       0, 0, data, NULL)
                         : PCRE2_ERROR_NOMEMORY;
        pcre2_match_data_free(data);
        if (found >= 0) {
            *value = s->rules[i].value;
            return PD_OK;
        }
        if (found != PCRE2_ERROR_NOMATCH) { /* a pattern that wanders, a name that is not UTF-8 */
            PCRE2_UCHAR what[128] = "";
            (void)pcre2_get_error_message(found, what, sizeof what);
            return PD_FAIL(err, PD_INVALID, "pattern \"%s\" on module %s: %s", s->rules[i].key,
                           module, (char *)what);
        }
    }
    return PD_OK;
}

/* ---- all of it ---- */

enum pd_rc pd_lora_config_read(struct pd_lora_config *c, const char *dir, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct json_object *config = NULL;
    *c = (struct pd_lora_config){0};
    PD_TRY(read_config(dir, &config, err));
    PD_TRY(check_known(dir, config, err));
    rc = read_rslora(c, config, err);
    if (rc == PD_OK)
        rc = read_setting(&c->rank, config, "r", "rank_pattern", err);
    if (rc == PD_OK)
        rc = read_setting(&c->alpha, config, "lora_alpha", "alpha_pattern", err);
    if (rc != PD_OK)
        (void)pd_err_prefix(err, "%s/" CONFIG, dir);
out:
    json_object_put(config);
    return rc;
}

void pd_lora_config_release(struct pd_lora_config *c)
{
    release_setting(&c->rank);
    release_setting(&c->alpha);
}
