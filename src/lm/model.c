#include "lm/model_int.h"
#include "lm/hub.h"
#include "lm/lora.h"
#include "lm/tok_int.h"

#include "base/json.h"
#include "base/mem.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <strings.h>

int pd_model_frozen_blocks(const struct pd_model *m, double share)
{
    return (int)floor(share * m->cfg.n_layers + 1e-9);
}

static void freeze(struct pd_model *m, int n_blocks)
{
    for (size_t i = 0; n_blocks > 0 && i < m->params.n; i++) {
        struct pd_param *p = &m->params.v[i];
        if ((p->layer >= 0 && p->layer < n_blocks) || p == m->embed || p == m->pos_embed)
            p->trainable = false;
    }
}

/* A tokenizer still borrows from a GGUF file, so it stays mapped. */
static void let_go_of_files(struct pd_model_files *f)
{
    if (f->weights.gguf)
        pd_weights_let_go(&f->weights);
    else
        pd_weights_close(&f->weights);
}

void pd_model_let_go(const struct pd_model *m)
{
    if (m->files)
        pd_weights_let_go(&m->files->weights);
}

/* Files have been bound; now one slab, and what pointed into the files is let go. */
static enum pd_rc make_trainable(struct pd_model *m, const struct pd_model_options *opt,
                                 struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_params_alloc_data(&m->params, err));
    pd_model_drop_owned(m);
    let_go_of_files(m->files);
    freeze(m, pd_model_frozen_blocks(m, opt->freeze_layers));
    if (!opt->no_grads)
        PD_TRY(pd_params_alloc_grads(&m->params, err));
out:
    return rc;
}

/* ---- opening ---- */

struct pd_model *pd_model_new(const char *path)
{
    struct pd_model *m = pd_xalloc(sizeof *m);
    m->files = pd_xalloc(sizeof *m->files);
    m->path = pd_xstrdup(path);
    pd_params_init(&m->params);
    return m;
}

void pd_model_free(struct pd_model *m)
{
    if (!m)
        return;
    pd_params_release(&m->params);
    pd_model_drop_owned(m);
    pd_chat_release(&m->chat);
    pd_tokenizer_free(m->tok);
    pd_free(m->blocks);
    pd_weights_close(&m->files->weights);
    json_object_put(m->files->config);
    pd_free(m->files->dir);
    pd_free(m->files->at);
    pd_free(m->files);
    pd_free(m->path);
    pd_free(m);
}

static enum pd_rc add_eos(struct pd_config *cfg, struct json_object *id, const char *path,
                          struct pd_err *err)
{
    if (!json_object_is_type(id, json_type_int) || pd_config_is_eos(cfg, json_object_get_int(id)))
        return PD_OK;
    if (cfg->n_eos == PD_CONFIG_MAX_EOS)
        return PD_FAIL(
            err, PD_INVALID,
            "%s: eos_token_id, with those of config.json: more than %d ids; at most that "
            "many are read",
            path, (int)PD_CONFIG_MAX_EOS);
    cfg->eos_ids[cfg->n_eos++] = json_object_get_int(id);
    return PD_OK;
}

/* generation_config.json says what ends an answer; config.json often knows only one of the ids. */
static enum pd_rc read_generation_config(struct pd_model *m, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct json_object *o = NULL;
    char *path = pd_xasprintf("%s/generation_config.json", m->files->dir);
    if (!pd_fs_exists(path))
        goto out;
    PD_TRY(pd_json_read_file(path, PD_MODEL_MAX_CONFIG, &o, err));
    struct json_object *eos = pd_json_get(o, "eos_token_id");
    size_t n = json_object_is_type(eos, json_type_array) ? json_object_array_length(eos) : 0;
    PD_TRY(add_eos(&m->cfg, eos, path, err));
    for (size_t i = 0; i < n; i++)
        PD_TRY(add_eos(&m->cfg, json_object_array_get_idx(eos, i), path, err));
    if (m->cfg.pad_id < 0)
        m->cfg.pad_id = (int32_t)pd_json_i64(o, "pad_token_id", -1);
out:
    json_object_put(o);
    pd_free(path);
    return rc;
}

static enum pd_rc open_folder(struct pd_model *m, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_model_files *f = m->files;
    char *config = pd_xasprintf("%s/config.json", m->path);
    f->dir = pd_xstrdup(m->path);
    PD_TRY(pd_json_read_file(config, PD_MODEL_MAX_CONFIG, &f->config, err));
    PD_TRY(pd_config_from_json(f->config, config, &m->cfg, &f->family, err));
    PD_TRY(read_generation_config(m, err));
    PD_TRY(pd_weights_open_dir(&f->weights, m->path, err));
    rc = pd_tokenizer_open_dir(&m->tok, m->path, err);
    if (rc == PD_NOTFOUND) /* weights without a tokenizer are still a model: ids in, ids out */
        rc = PD_OK;
out:
    pd_free(config);
    return rc;
}

static enum pd_rc open_gguf(struct pd_model *m, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_gguf *g = NULL;
    PD_TRY(pd_gguf_open(&g, m->path, err));
    m->files->weights.gguf = g;
    PD_TRY(pd_config_from_gguf(g, &m->cfg, &m->files->family, err));
    struct pd_str tokenizer = pd_gguf_str(g, "tokenizer.ggml.model");
    if (tokenizer.ptr && !pd_str_eqz(tokenizer, "none"))
        PD_TRY(pd_tokenizer_open_gguf(&m->tok, g, err));
out:
    return rc;
}

bool pd_model_is_address(const char *given)
{
    return strncasecmp(given, "http://", 7) == 0 || strncasecmp(given, "https://", 8) == 0;
}

/* What M names: *dir says whether a folder or a file; *path is the caller's to free. */
static enum pd_rc resolve(const char *given, char **path, bool *dir, struct pd_err *err)
{
    if (pd_hub_is_url(given))
        return PD_FAIL(err, PD_NOTFOUND,
                       "%s: `podium model pull %s` fetches it and prints its path", given, given);
    if (pd_model_is_address(given))
        return PD_FAIL(err, PD_NOTFOUND,
                       "%s: the address of an endpoint, which can only be asked for answers "
                       "(`podium generate`); expected a model of this machine",
                       given);
    if (!pd_fs_exists(given))
        return PD_FAIL(err, PD_NOTFOUND,
                       "%s: no such model; expected a Hugging Face folder, a .gguf file or a run "
                       "folder (`podium model pull smollm2-135m-instruct` fetches one)",
                       given);
    *dir = pd_fs_is_dir(given);
    if (!*dir) {
        *path = pd_xstrdup(given);
        return PD_OK;
    }
    static const char *const places[] = {"", "/model"};
    for (size_t i = 0; i < 2; i++) {
        char *folder = pd_xasprintf("%s%s", given, places[i]);
        char *config = pd_xasprintf("%s/config.json", folder);
        bool found = pd_fs_exists(config);
        pd_free(config);
        if (found) {
            *path = folder;
            return PD_OK;
        }
        pd_free(folder);
    }
    if (pd_lora_is_adapter(given))
        return PD_FAIL(err, PD_UNSUPPORTED,
                       "%s is an adapter, and another one is to be added to it; merge it first: "
                       "podium model merge BASE --adapter %s --out MERGED",
                       given, given);
    char *run = pd_xasprintf("%s/run.json", given);
    bool is_run = pd_fs_exists(run);
    pd_free(run);
    if (is_run)
        return PD_FAIL(err, PD_NOTFOUND,
                       "%s: this run has no model/ yet; let it finish (--resume goes on with it)",
                       given);
    return PD_FAIL(err, PD_NOTFOUND, "%s: no config.json in it, so it is not a model folder",
                   given);
}

/* An adapter's folder may hold the tokenizer that it was trained with. */
static enum pd_rc take_tokenizer(struct pd_model *m, const char *adapter, struct pd_err *err)
{
    struct pd_tokenizer *tok = NULL;
    enum pd_rc rc = pd_tokenizer_open_dir(&tok, adapter, err);
    if (rc == PD_NOTFOUND)
        return PD_OK;
    if (rc != PD_OK)
        return rc;
    if (pd_tokenizer_size(tok) > m->cfg.vocab_size) {
        rc = PD_FAIL(err, PD_UNSUPPORTED,
                     "%s: its tokenizer has %d tokens, the base model's embedding %d rows; resized "
                     "embeddings are not merged",
                     adapter, pd_tokenizer_size(tok), m->cfg.vocab_size);
        pd_tokenizer_free(tok);
        return rc;
    }
    pd_tokenizer_free(m->tok);
    m->tok = tok;
    return PD_OK;
}

/* adapter: or NULL */
static enum pd_rc open_base(struct pd_model **out, const char *given, const char *adapter,
                            struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char *path = NULL;
    struct pd_model *m = NULL;
    bool dir = false;
    PD_TRY(resolve(given, &path, &dir, err));
    m = pd_model_new(path);
    PD_TRY(dir ? open_folder(m, err) : open_gguf(m, err));
    m->cfg.tied = pd_model_is_tied(m);
    if (adapter)
        PD_TRY(take_tokenizer(m, adapter, err));
    if (m->tok)
        PD_TRY(pd_chat_init(&m->chat, pd_tokenizer_chat_template(m->tok), m->tok, err));
    if (m->tok && m->cfg.n_eos == 0 && pd_tokenizer_eos(m->tok) >= 0)
        m->cfg.eos_ids[m->cfg.n_eos++] = pd_tokenizer_eos(m->tok);
    if (m->tok && m->cfg.pad_id < 0)
        m->cfg.pad_id = pd_tokenizer_pad(m->tok);
    *out = m;
    m = NULL;
out:
    pd_model_free(m);
    pd_free(path);
    return rc;
}

/* Is M itself an adapter, and of what? A folder with a config.json is a model. */
static enum pd_rc split_adapter(const char *given, const char **adapter, char **base,
                                struct pd_err *err)
{
    char *config = pd_xasprintf("%s/config.json", given);
    bool alone =
        !*adapter && pd_fs_is_dir(given) && pd_lora_is_adapter(given) && !pd_fs_exists(config);
    pd_free(config);
    if (!alone) {
        *base = pd_xstrdup(given);
        return PD_OK;
    }
    *adapter = given;
    return pd_lora_base(given, base, err);
}

static enum pd_rc open_files(struct pd_model **out, const char *given, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const char *adapter = NULL;
    char *base = NULL;
    PD_TRY(split_adapter(given, &adapter, &base, err));
    PD_TRY(open_base(out, base, adapter, err));
out:
    pd_free(base);
    return rc;
}

enum pd_rc pd_model_open(struct pd_model **out, const char *path,
                         const struct pd_model_options *opt, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_model *m = NULL;
    struct pd_lora *lora = NULL;
    const char *adapter = opt->adapter;
    char *base = NULL;
    PD_TRY(split_adapter(path, &adapter, &base, err));
    PD_TRY(open_base(&m, base, adapter, err));
    if (adapter)
        PD_TRY(pd_lora_open(&lora, adapter, err));
    m->files->head_is_embed = lora && pd_lora_unties(lora, m);
    m->cfg.tied &= !m->files->head_is_embed;
    int64_t labels = pd_model_labels_in_files(m);
    if (lora && labels == 0)
        labels = pd_lora_labels(lora);
    if (labels > PD_MODEL_MAX_LABELS) { /* a view of stride 0 has any number for a few bytes */
        rc = PD_FAIL(err, PD_UNSUPPORTED,
                     "%s: the score head has %" PRId64 " rows; at most %d are read", path, labels,
                     PD_MODEL_MAX_LABELS);
        goto out;
    }
    m->heads = opt->heads ? opt->heads : labels ? PD_HEAD_SCORE : PD_HEAD_LM;
    if (labels)
        m->cfg.n_labels = labels;
    m->files->as_in_file = opt->as_in_file && !adapter && m->files->weights.gguf;
    PD_TRY(pd_model_build_table(m, err));
    PD_TRY(pd_model_bind_files(m, opt, err));
    if (opt->purpose == PD_MODEL_TRAINING)
        PD_TRY(make_trainable(m, opt, err));
    if (lora)
        PD_TRY(pd_lora_apply(lora, m, err));
    *out = m;
    m = NULL;
out:
    pd_lora_close(lora);
    pd_model_free(m);
    pd_free(base);
    return rc;
}

static enum pd_rc open_gguf_tokenizer(struct pd_tokenizer **out, const char *path,
                                      struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_gguf *g = NULL;
    PD_TRY(pd_gguf_open(&g, path, err));
    PD_TRY(pd_tokenizer_open_gguf(out, g, err));
    (*out)->gguf = g;
    g = NULL;
out:
    pd_gguf_close(g);
    return rc;
}

enum pd_rc pd_model_open_tokenizer(struct pd_tokenizer **out, const char *path, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    bool dir = false;
    const char *adapter = NULL;
    char *resolved = NULL, *base = NULL;
    if (pd_fs_is_dir(path)) { /* a tokenizer's own folder has no config.json */
        rc = pd_tokenizer_open_dir(out, path, err);
        if (rc != PD_NOTFOUND)
            return rc;
    }
    PD_TRY(split_adapter(path, &adapter, &base, err));
    PD_TRY(resolve(base, &resolved, &dir, err));
    PD_TRY((dir ? pd_tokenizer_open_dir : open_gguf_tokenizer)(out, resolved, err));
out:
    pd_free(base);
    pd_free(resolved);
    return rc;
}

enum pd_rc pd_model_read_config(const char *path, struct pd_config *cfg, struct pd_err *err)
{
    struct pd_model *m = NULL;
    enum pd_rc rc = open_files(&m, path, err);
    if (rc == PD_OK) {
        *cfg = m->cfg;
        cfg->rope.divisors = NULL; /* lay in the file */
    }
    pd_model_free(m);
    return rc;
}

int pd_model_eos(const struct pd_model *m, int32_t *ids, int max)
{
    int n = 0;
    for (int i = 0; i < m->cfg.n_eos && n < max; i++)
        ids[n++] = m->cfg.eos_ids[i];
    int32_t own = m->tok ? pd_tokenizer_eos(m->tok) : -1;
    for (int i = 0; i < n; i++)
        if (ids[i] == own)
            own = -1;
    if (own >= 0 && n < max)
        ids[n++] = own;
    return n;
}
