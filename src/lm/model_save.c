/* Writing Hugging Face folders. */
#include "lm/labels.h"
#include "lm/model_int.h"
#include "lm/model_place.h"
#include "lm/safetensors.h"

#include "base/fs.h"
#include "base/mem.h"

/* ---- config.json ---- */

const struct pd_family_type *pd_model_type(const struct pd_model *m)
{
    const struct pd_family_type *t = m->files->family->types;
    while (t->model_type && strcmp(t->model_type, m->cfg.model_type) != 0)
        t++;
    return t->model_type ? t : m->files->family->types;
}

static void put(struct json_object *o, const char *key, struct json_object *v)
{
    json_object_object_add(o, key, v);
}

static struct json_object *id_or_null(int32_t id)
{
    return id >= 0 ? json_object_new_int(id) : NULL;
}

static struct json_object *eos_value(const struct pd_config *cfg)
{
    if (cfg->n_eos <= 1)
        return cfg->n_eos ? json_object_new_int(cfg->eos_ids[0]) : NULL;
    struct json_object *list = json_object_new_array();
    for (int i = 0; i < cfg->n_eos; i++)
        json_object_array_add(list, json_object_new_int(cfg->eos_ids[i]));
    return list;
}

/* What the files did not say, from the description: for models from GGUF. */
static enum pd_rc described(const struct pd_model *m, struct json_object **out, struct pd_err *err)
{
    struct pd_buf b;
    struct pd_jw w;
    pd_buf_init(&b, 0);
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    pd_jw_kstrz(&w, "model_type", m->cfg.model_type);
    pd_jw_ki64(&w, "vocab_size", m->cfg.vocab_size);
    pd_jw_kbool(&w, "tie_word_embeddings", m->cfg.tied);
    pd_jw_kf64(&w, "initializer_range", m->cfg.initializer_range);
    pd_jw_kbool(&w, "use_cache", true);
    m->files->family->to_json(&m->cfg, &w);
    pd_jw_object_end(&w);
    enum pd_rc rc = pd_json_parse(pd_buf_str(&b), out, err);
    pd_buf_release(&b);
    return rc;
}

/* As many labels as the score head has rows, which is how transformers counts them. Of one row the
 * source's name counts if it is the only one there, not if it was one of several. */
static void put_labels(const struct pd_model *m, struct json_object *o)
{
    struct json_object *names = pd_json_get(o, "id2label");
    const int64_t n = pd_model_n_labels(m);
    const bool named = n > 1 || (json_object_is_type(names, json_type_object) &&
                                 json_object_object_length(names) == 1);
    struct json_object *id2label = json_object_new_object(), *label2id = json_object_new_object();
    struct pd_label_room room;
    for (int64_t i = 0; i < n; i++) {
        char key[24];
        (void)snprintf(key, sizeof key, "%" PRId64, i);
        const struct pd_str name = named ? pd_model_label(m, i, &room) : PD_STR("LABEL_0");
        put(id2label, key, json_object_new_string(name.ptr));
        put(label2id, name.ptr, json_object_new_int64(i));
    }
    put(o, "id2label", id2label);
    put(o, "label2id", label2id);
}

static enum pd_rc config_json(const struct pd_model *m, enum pd_dtype dtype,
                              struct json_object **out, struct pd_err *err)
{
    static const char *const torch_names[] = {
        [PD_DTYPE_F32] = "float32", [PD_DTYPE_F16] = "float16", [PD_DTYPE_BF16] = "bfloat16"};
    enum pd_rc rc = PD_OK;
    struct json_object *o = NULL, *arch = json_object_new_array();
    const struct pd_family_type *type = pd_model_type(m);
    bool score = m->heads & PD_HEAD_SCORE;
    if (m->files->config)
        rc = json_object_deep_copy(m->files->config, &o, NULL) == 0
                 ? PD_OK
                 : PD_FAIL(err, PD_NOMEM, "no memory for config.json");
    else
        rc = described(m, &o, err);
    if (rc != PD_OK) {
        json_object_put(arch);
        return rc;
    }
    json_object_array_add(arch, json_object_new_string(score ? type->cls_class : type->lm_class));
    put(o, "architectures", arch);
    put(o, "bos_token_id", id_or_null(m->cfg.bos_id));
    put(o, "eos_token_id", eos_value(&m->cfg));
    put(o, "tie_word_embeddings", json_object_new_boolean(m->cfg.tied));
    put(o, "torch_dtype", json_object_new_string(torch_names[dtype]));
    if (pd_json_get(o, "dtype")) /* the newer name of the same */
        put(o, "dtype", json_object_new_string(torch_names[dtype]));
    int32_t pad = m->cfg.pad_id;
    if (pad < 0 && score) /* transformers refuses batches of a classifier that has none */
        pad = m->cfg.n_eos ? m->cfg.eos_ids[0] : 0;
    put(o, "pad_token_id", id_or_null(pad));
    json_object_object_del(o, "num_labels");
    json_object_object_del(o, "quantization_config"); /* these weights are plain */
    if (score) {
        put_labels(m, o);
        if (pd_model_n_labels(m) == 1 && m->cfg.n_labels > 1) /* said how several were trained */
            json_object_object_del(o, "problem_type");
    } else {
        json_object_object_del(o, "id2label");
        json_object_object_del(o, "label2id");
    }
    *out = o;
    return PD_OK;
}

static enum pd_rc put_json(const char *dir, const char *name, struct json_object *o,
                           struct pd_err *err)
{
    char *path = pd_xasprintf("%s/%s", dir, name);
    struct pd_buf b;
    pd_buf_init(&b, 0);
    pd_buf_adds(&b, json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY |
                                                          JSON_C_TO_STRING_SPACED |
                                                          JSON_C_TO_STRING_NOSLASHESCAPE));
    pd_buf_addc(&b, '\n');
    enum pd_rc rc = b.failed ? PD_FAIL(err, PD_NOMEM, "%s: no memory to write it", path)
                             : pd_fs_write_atomic(path, pd_buf_str(&b), 0644, err);
    pd_buf_release(&b);
    pd_free(path);
    return rc;
}

/* The source's own, when there is one: it may hold sampling defaults. */
static enum pd_rc save_generation_config(const struct pd_model *m, const char *dir,
                                         struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct json_object *o = NULL;
    char *from = m->files->dir ? pd_xasprintf("%s/generation_config.json", m->files->dir) : NULL;
    if (from && pd_fs_exists(from))
        PD_TRY(pd_json_read_file(from, 1 << 20, &o, err));
    if (!json_object_is_type(o, json_type_object)) {
        json_object_put(o);
        o = json_object_new_object();
        put(o, "_from_model_config", json_object_new_boolean(true));
    }
    if (m->cfg.bos_id >= 0)
        put(o, "bos_token_id", json_object_new_int(m->cfg.bos_id));
    if (m->cfg.n_eos > 0)
        put(o, "eos_token_id", eos_value(&m->cfg));
    if (m->cfg.pad_id >= 0)
        put(o, "pad_token_id", json_object_new_int(m->cfg.pad_id));
    PD_TRY(put_json(dir, "generation_config.json", o, err));
out:
    json_object_put(o);
    pd_free(from);
    return rc;
}

/* ---- weights ---- */

struct fill {
    const struct pd_model *m;
    size_t param;
};

static void fill_rows(void *ctx, int64_t first, int64_t n, float *dst)
{
    const struct fill *f = ctx;
    const struct pd_param *p = &f->m->params.v[f->param];
    if (p->data)
        pd_param_rows(p, first, n, dst);
    else
        pd_model_random_rows(f->m, f->param, first, n, dst);
}

static bool is_written(const struct pd_param_at *at)
{
    return at->spec->role != PD_ROLE_VALUE_W && at->spec->role != PD_ROLE_VALUE_B;
}

static enum pd_rc save_weights(const struct pd_model *m, const char *dir, enum pd_dtype dtype,
                               size_t max_shard_bytes, bool stops, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_st_out *list = pd_try_alloc(m->params.n + 1, sizeof *list);
    struct fill *fills = pd_try_alloc(m->params.n + 1, sizeof *fills);
    size_t n = 0;
    if (!list || !fills) {
        rc = PD_FAIL(err, PD_NOMEM, "no memory to list %zu tensors", m->params.n);
        goto out;
    }
    for (size_t i = 0; i < m->params.n; i++) {
        const struct pd_param *p = &m->params.v[i];
        fills[i] = (struct fill){m, i};
        if (is_written(&m->files->at[i]))
            list[n++] = (struct pd_st_out){p->name, p->ndim, p->shape, fill_rows, &fills[i]};
    }
    PD_TRY(pd_st_write_dir(dir, list, n, dtype, max_shard_bytes, stops, err));
out:
    pd_free(list);
    pd_free(fills);
    return rc;
}

static enum pd_rc can_save_config(const struct pd_model *m, struct pd_err *err)
{
    if (m->cfg.rope.divisors)
        return PD_FAIL(err, PD_UNSUPPORTED,
                       "%s: its rope scaling stands as a tensor (rope_freqs.weight) that is not of "
                       "the llama3 kind, so no config.json can say it; take the model's Hugging "
                       "Face folder",
                       m->path);
    return PD_OK;
}

enum pd_rc pd_model_can_save_hf(const struct pd_model *m, struct pd_err *err)
{
    enum pd_rc rc = can_save_config(m, err);
    return rc == PD_OK && m->tok ? pd_tokenizer_can_save(m->tok, err) : rc;
}

static enum pd_rc save_folder(const struct pd_model *m, const char *dir, enum pd_dtype dtype,
                              size_t max_shard_bytes, bool stops, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct json_object *config = NULL;
    struct pd_model_place place = {.lock = -1};
    PD_TRY(can_save_config(m, err)); /* what else cannot be saved says so before the weights */
    PD_TRY(pd_model_place_open(&place, dir, err));
    PD_TRY(config_json(m, dtype, &config, err));
    PD_TRY(put_json(place.tmp, "config.json", config, err));
    PD_TRY(save_generation_config(m, place.tmp, err));
    if (m->tok)
        PD_TRY(pd_tokenizer_save(m->tok, place.tmp, err));
    PD_TRY(save_weights(m, place.tmp, dtype, max_shard_bytes, stops, err));
    PD_TRY(pd_model_place_commit(&place, err));
out:
    pd_model_place_close(&place);
    json_object_put(config);
    return rc;
}

enum pd_rc pd_model_save_hf(const struct pd_model *m, const char *dir, enum pd_dtype dtype,
                            struct pd_err *err)
{
    return save_folder(m, dir, dtype, PD_MODEL_SHARD_BYTES, false, err);
}

enum pd_rc pd_model_save_hf_sharded(const struct pd_model *m, const char *dir, enum pd_dtype dtype,
                                    size_t max_shard_bytes, struct pd_err *err)
{
    return save_folder(m, dir, dtype, max_shard_bytes, true, err);
}
