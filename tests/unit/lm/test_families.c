/* Every family through both file formats: a tiny model of it, written as a GGUF file with the rows
 * where that format puts them, opens as the same table under the same description, and is written
 * back as the folder it came from. (What the models compute is held against transformers in
 * tests/system/test_families.py, and names against the gguf package in tests/oracle/families.) */
#include "gguf_writer.h"

#include "base/fs.h"
#include "base/mem.h"
#include "lm/family.h"
#include "lm/model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

static char dir[] = "/tmp/podium-families-XXXXXX";

static int make_dir(void **state)
{
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    return pd_fs_remove_tree(dir, NULL) == PD_OK ? 0 : -1;
}

static struct pd_model *open_model(const char *path, struct pd_model_options opt)
{
    struct pd_model *m = NULL;
    struct pd_err err = {0};
    if (pd_model_open(&m, path, &opt, &err) != PD_OK)
        fail_msg("%s", err.msg);
    return m;
}

static struct pd_model *open_family(const char *name)
{
    char *path = pd_xasprintf("%s/families/%s", PD_FIXTURES, name);
    struct pd_model *m = open_model(path, (struct pd_model_options){0});
    pd_free(path);
    return m;
}

static float *values(const struct pd_param *p)
{
    float *v = pd_xalloc(p->n * sizeof *v);
    if (p->ndim == 1)
        pd_dtype_to_f32(p->dtype, p->data, v, p->n);
    else
        pd_param_rows(p, 0, p->shape[0], v);
    return v;
}

static void expect_same(const char *name, const struct pd_model *a, const struct pd_model *b)
{
    assert_int_equal(a->params.n, b->params.n);
    for (size_t i = 0; i < a->params.n; i++) {
        float *x = values(&a->params.v[i]), *y = values(&b->params.v[i]);
        assert_string_equal(a->params.v[i].name, b->params.v[i].name);
        assert_int_equal(a->params.v[i].n, b->params.v[i].n);
        if (memcmp(x, y, a->params.v[i].n * sizeof *x) != 0)
            fail_msg("%s: %s differs", name, a->params.v[i].name);
        pd_free(x);
        pd_free(y);
    }
    const struct pd_config *c = &a->cfg, *d = &b->cfg;
    assert_string_equal(c->model_type, d->model_type);
    assert_int_equal(c->n_kv_heads, d->n_kv_heads);
    assert_int_equal(c->head_dim, d->head_dim);
    assert_int_equal(c->max_positions, d->max_positions);
    assert_int_equal(c->n_norms, d->n_norms);
    assert_int_equal(c->parallel_residual, d->parallel_residual);
    assert_int_equal(c->act, d->act);
    assert_int_equal(c->qk_norm, d->qk_norm);
    assert_int_equal(c->tied, d->tied);
    assert_int_equal(c->rope.dim, d->rope.dim);
    assert_int_equal(c->rope.interleaved, d->rope.interleaved);
    assert_int_equal(c->rope.scaling, d->rope.scaling);
    assert_int_equal(c->sliding_window, d->sliding_window);
    assert_true(fabs(c->norm_eps - d->norm_eps) < 1e-12);
    assert_memory_equal(&c->qkv, &d->qkv, sizeof c->qkv);
}

/* Rows of w (rows, cols) as the format has them, into out. */
static void move_rows(const struct pd_config *c, const struct pd_tensor_spec *s, const float *w,
                      size_t rows, size_t cols, float *out)
{
    size_t D = (size_t)c->head_dim, K = (size_t)c->n_kv_heads, A = (size_t)c->n_heads, G = A / K;
    size_t bytes = cols * sizeof *w, at = 0;
    if (s->quirks & PD_SPEC_FUSED_ROWS) { /* view [K][G+2][D] -> all q, all k, all v */
        for (size_t part = 0; part < 3; part++)
            for (size_t g = 0; g < K; g++)
                for (size_t h = part == 0 ? 0 : G + part - 1; h < (part == 0 ? G : G + part); h++)
                    for (size_t d = 0; d < D; d++, at++)
                        memcpy(out + at * cols, w + ((g * (G + 2) + h) * D + d) * cols, bytes);
    } else if (s->quirks & PD_SPEC_PERMUTED) {
        for (size_t h = 0; h < rows / D; h++) /* view [2][D/2] -> [D/2][2] */
            for (size_t i = 0; i < D / 2; i++)
                for (size_t half = 0; half < 2; half++, at++)
                    memcpy(out + at * cols, w + (h * D + half * (D / 2) + i) * cols, bytes);
    } else if (s->quirks & PD_SPEC_IN_OUT) {
        for (size_t o = 0; o < cols; o++)
            for (size_t i = 0; i < rows; i++)
                out[o * rows + i] = w[i * cols + o];
    } else {
        memcpy(out, w, rows * bytes);
    }
}

static void put_tensor(struct gguf_writer *w, const struct pd_model *m,
                       const struct pd_tensor_spec *s, int layer)
{
    char *hf = pd_spec_name(s->hf, layer), *name = pd_spec_name(s->gguf, layer);
    const struct pd_param *p = pd_params_find(&m->params, hf);
    assert_non_null(p);
    float *v = values(p), *out = pd_xalloc(p->n * sizeof *out);
    uint64_t rows = (uint64_t)p->shape[0], cols = p->ndim == 2 ? (uint64_t)p->shape[1] : 1;
    bool turned = s->quirks & PD_SPEC_IN_OUT;
    uint64_t dims[2] = {turned ? rows : cols, turned ? cols : rows};
    move_rows(&m->cfg, s, v, rows, cols, out);
    gw_tensor(w, name, p->ndim, p->ndim == 2 ? dims : &rows, 0, out, p->n * sizeof *out);
    pd_free(v);
    pd_free(out);
    pd_free(hf);
    pd_free(name);
}

static void put_key(struct gguf_writer *w, const char *arch, const char *key, int value)
{
    char *full = pd_xasprintf("%s.%s", arch, key);
    gw_kv_u32(w, full, (uint32_t)value);
    pd_free(full);
}

static char *write_gguf(const struct pd_model *m, const char *arch)
{
    const struct pd_config *c = &m->cfg;
    const struct pd_family *f = pd_family_by_name(c->family);
    struct gguf_writer w;
    struct pd_buf file;
    gw_init(&w);
    gw_kv_str(&w, "general.architecture", arch);
    put_key(&w, arch, "block_count", c->n_layers);
    put_key(&w, arch, "context_length", c->max_positions);
    put_key(&w, arch, "embedding_length", c->hidden_size);
    put_key(&w, arch, "feed_forward_length", c->ffn_size);
    put_key(&w, arch, "attention.head_count", c->n_heads);
    put_key(&w, arch, "attention.head_count_kv", c->n_kv_heads);
    if (c->head_dim * c->n_heads != c->hidden_size)
        put_key(&w, arch, "attention.key_length", c->head_dim);
    if (c->pos == PD_LM_POS_ROPE)
        put_key(&w, arch, "rope.dimension_count", c->rope.dim);
    if (c->sliding_window > 0)
        put_key(&w, arch, "attention.sliding_window", c->sliding_window);
    char *key = pd_xasprintf("%s.use_parallel_residual", arch);
    gw_kv_bool(&w, key, c->parallel_residual);
    pd_free(key);
    key = pd_xasprintf("%s.attention.layer_norm_%sepsilon", arch,
                       c->norm == PD_LM_RMSNORM ? "rms_" : "");
    gw_kv_f32(&w, key, (float)c->norm_eps);
    pd_free(key);
    for (size_t i = 0; i < f->n_specs; i++)
        for (int l = 0; l < (pd_role_in_block(f->specs[i].role) ? c->n_layers : 1); l++)
            if (pd_spec_present(&f->specs[i], c))
                put_tensor(&w, m, &f->specs[i], l);
    char *path = pd_xasprintf("%s/%s.gguf", dir, arch);
    pd_buf_init(&file, 0);
    gw_finish(&w, &file);
    assert_int_equal(pd_fs_write_atomic(path, pd_buf_str(&file), 0644, NULL), PD_OK);
    pd_buf_release(&file);
    gw_release(&w);
    return path;
}

static const struct {
    const char *name, *arch, *cls;
} families[] = {
    {"gpt2", "gpt2", "GPT2"},           {"gptj", "gptj", "GPTJ"},
    {"neox", "gptneox", "GPTNeoX"},     {"neox-unbiased", "gptneox", "GPTNeoX"},
    {"falcon-7b", "falcon", "Falcon"},  {"falcon-40b", "falcon", "Falcon"},
    {"falcon-11b", "falcon", "Falcon"}, {"llama", "llama", "Llama"},
    {"llama-biases", "llama", "Llama"}, {"mistral", "llama", "Mistral"},
    {"qwen2", "qwen2", "Qwen2"},        {"qwen3", "qwen3", "Qwen3"},
};
enum { N = sizeof families / sizeof *families };

static void gguf_gives_the_same_table(void **state)
{
    for (size_t i = 0; i < N; i++) {
        const char *name = families[i].name;
        struct pd_model *hf = open_family(name);
        assert_int_equal(pd_config_n_params(&hf->cfg),
                         (int64_t)pd_params_count(&hf->params, false));
        char *path = write_gguf(hf, families[i].arch), *out = pd_xasprintf("%s/%s", dir, name);
        struct pd_model *m = open_model(path, (struct pd_model_options){0});
        expect_same(name, hf, m);
        /* as a folder again, described from the GGUF keys alone */
        assert_int_equal(pd_model_save_hf(m, out, PD_DTYPE_F32, NULL), PD_OK);
        struct pd_model *again = open_model(out, (struct pd_model_options){0});
        expect_same(name, hf, again);
        pd_model_free(again);
        pd_model_free(m);
        m = open_model(path, (struct pd_model_options){.purpose = PD_MODEL_TRAINING});
        expect_same(name, hf, m);
        pd_model_free(m);
        pd_model_free(hf);
        pd_free(path);
        pd_free(out);
    }
}

static void reward_models_say_their_class(void **state)
{
    for (size_t i = 0; i < N; i++) {
        struct json_object *o = NULL;
        char *from = pd_xasprintf("%s/families/%s", PD_FIXTURES, families[i].name);
        char *out = pd_xasprintf("%s/rm", dir), *config = pd_xasprintf("%s/config.json", out);
        char *want = pd_xasprintf("%sForSequenceClassification", families[i].cls);
        struct pd_model *m =
            open_model(from, (struct pd_model_options){.heads = PD_HEAD_SCORE, .seed = 1});
        assert_int_equal(pd_model_save_hf(m, out, PD_DTYPE_F32, NULL), PD_OK);
        assert_int_equal(pd_json_read_file(config, 1 << 20, &o, NULL), PD_OK);
        struct json_object *a = json_object_array_get_idx(pd_json_get(o, "architectures"), 0);
        assert_true(pd_str_eqz(pd_json_value_str(a), want));
        struct pd_model *again = open_model(out, (struct pd_model_options){0});
        assert_int_equal(again->heads, PD_HEAD_SCORE);
        expect_same(families[i].name, m, again);
        json_object_put(o);
        pd_model_free(again);
        pd_model_free(m);
        pd_free(from);
        pd_free(out);
        pd_free(config);
        pd_free(want);
    }
}

/* ---- keys that contradict each other, or themselves ---- */

static void expect_config_error(const char *text, const char *piece)
{
    struct json_object *o = NULL;
    struct pd_config cfg;
    const struct pd_family *f;
    struct pd_err err = {0};
    assert_int_equal(pd_json_parse(pd_str_from(text), &o, NULL), PD_OK);
    assert_int_not_equal(pd_config_from_json(o, "config.json", &cfg, &f, &err), PD_OK);
    if (!strstr(err.msg, piece))
        fail_msg("\"%s\" is not in \"%s\"", piece, err.msg);
    json_object_put(o);
}

#define SIZES                                                                                      \
    "\"vocab_size\":9,\"hidden_size\":32,\"num_hidden_layers\":2,\"num_attention_heads\":4,"       \
    "\"intermediate_size\":8"

static void what_cannot_be_is_named(void **state)
{
    static const struct {
        const char *config, *piece;
    } cases[] = {
        {"{\"model_type\":\"gpt_neox\"," SIZES ",\"rotary_pct\":1.5}", "rotary_pct is 1.5"},
        {"{\"model_type\":\"gpt_neox\",\"vocab_size\":9,\"hidden_size\":33,\"num_hidden_layers\":2,"
         "\"num_attention_heads\":4,\"intermediate_size\":8}",
         "hidden size 33 is not a multiple of 4 heads"},
        {"{\"model_type\":\"falcon\"," SIZES ",\"new_decoder_architecture\":true,"
         "\"num_ln_in_parallel_attn\":3}",
         "3 norms a block"},
        {"{\"model_type\":\"falcon\"," SIZES ",\"new_decoder_architecture\":true,"
         "\"num_kv_heads\":3}",
         "4 heads are not a multiple of 3"},
        {"{\"model_type\":\"falcon\"," SIZES ",\"alibi\":\"yes\"}", "alibi is a string"},
        {"{\"model_type\":\"gptj\",\"vocab_size\":9,\"n_embd\":32,\"n_layer\":2,\"n_head\":4}",
         "rotary dimension 64; expected an even number up to 8"},
        {"{\"model_type\":\"qwen2\"," SIZES ",\"num_key_value_heads\":2,"
         "\"layer_types\":[\"full_attention\"]}",
         "layer_types is not a list of 2"},
        {"{\"model_type\":\"qwen2\"," SIZES ",\"num_key_value_heads\":2,\"layer_types\":"
         "[\"full_attention\",\"linear_attention\"]}",
         "layer_types[1] is \"linear_attention\""},
        {"{\"model_type\":\"qwen3\"," SIZES ",\"num_key_value_heads\":2,\"layer_types\":"
         "[\"full_attention\",\"sliding_attention\"]}",
         "there is no sliding_window"},
        {"{\"model_type\":\"llama\"," SIZES ",\"head_dim\":2,\"rope_scaling\":"
         "{\"type\":\"dynamic\",\"factor\":2}}",
         "dynamic rope scaling of 2 dimensions"},
        {"{\"model_type\":\"llama\"," SIZES ",\"hidden_act\":\"gelu_fast\"}",
         "config.json: hidden_act is \"gelu_fast\"; a gated MLP"},
        {"{\"model_type\":\"llama\"," SIZES ",\"rope_parameters\":{\"rope_type\":\"linear\","
         "\"factor\":2,\"partial_rotary_factor\":0.5}}",
         "partial_rotary_factor is 0.5, and a scaled llama"},
        {"{\"model_type\":\"llama\",\"vocab_size\":9,\"hidden_size\":32,\"num_hidden_layers\":1025,"
         "\"num_attention_heads\":4,\"intermediate_size\":8}",
         "1025 layers; at most 1024"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_config_error(cases[i].config, cases[i].piece);
}

/* Published shapes, keys as their files spell them; parameters as transformers counts them (a
 * tied output matrix once). */
static void published_shapes_have_their_size(void **state)
{
    static const struct {
        const char *config;
        int64_t n_params;
    } cases[] = {
        {"{\"model_type\":\"gpt_neox\",\"vocab_size\":50304,\"hidden_size\":2048,"
         "\"num_hidden_layers\":24,\"num_attention_heads\":16,\"intermediate_size\":8192,"
         "\"rotary_pct\":0.25,\"rotary_emb_base\":10000,\"use_parallel_residual\":true}",
         1414647808},
        {"{\"model_type\":\"gptj\",\"vocab_size\":50400,\"n_embd\":4096,\"n_layer\":28,"
         "\"n_head\":16,\"n_inner\":null,\"rotary_dim\":64}",
         6050882784},
        {"{\"model_type\":\"falcon\",\"vocab_size\":65024,\"hidden_size\":4544,"
         "\"num_hidden_layers\":32,\"num_attention_heads\":71,\"num_kv_heads\":71,"
         "\"multi_query\":true,\"new_decoder_architecture\":false,\"parallel_attn\":true,"
         "\"alibi\":false,\"bias\":false}",
         6921720704},
        {"{\"model_type\":\"falcon\",\"vocab_size\":65024,\"hidden_size\":8192,\"n_layer\":60,"
         "\"n_head\":128,\"n_head_kv\":8,\"new_decoder_architecture\":true,"
         "\"tie_word_embeddings\":false}",
         41835970560},
        {"{\"model_type\":\"falcon\",\"vocab_size\":50304,\"hidden_size\":2048,"
         "\"num_hidden_layers\":24,\"num_attention_heads\":32,\"multi_query\":false,"
         "\"parallel_attn\":false,\"alibi\":true,\"bias\":true}",
         1311625216},
        {"{\"model_type\":\"qwen2\",\"vocab_size\":151936,\"hidden_size\":896,"
         "\"intermediate_size\":4864,\"num_hidden_layers\":24,\"num_attention_heads\":14,"
         "\"num_key_value_heads\":2,\"use_sliding_window\":false,\"max_window_layers\":21,"
         "\"sliding_window\":32768,\"tie_word_embeddings\":true}",
         494032768},
        {"{\"model_type\":\"qwen3\",\"vocab_size\":151936,\"hidden_size\":1024,"
         "\"intermediate_size\":3072,\"num_hidden_layers\":28,\"num_attention_heads\":16,"
         "\"num_key_value_heads\":8,\"head_dim\":128,\"tie_word_embeddings\":true}",
         596049920},
        {"{\"model_type\":\"llama\",\"vocab_size\":128256,\"hidden_size\":2048,"
         "\"intermediate_size\":8192,\"num_hidden_layers\":16,\"num_attention_heads\":32,"
         "\"num_key_value_heads\":8,\"tie_word_embeddings\":true,\"rope_scaling\":{\"factor\":32.0,"
         "\"high_freq_factor\":4.0,\"low_freq_factor\":1.0,"
         "\"original_max_position_embeddings\":8192,\"rope_type\":\"llama3\"}}",
         1235814400},
        {"{\"model_type\":\"mistral\",\"vocab_size\":32000,\"hidden_size\":4096,"
         "\"intermediate_size\":14336,\"num_hidden_layers\":32,\"num_attention_heads\":32,"
         "\"num_key_value_heads\":8,\"sliding_window\":4096}",
         7241732096},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct json_object *o = NULL;
        struct pd_config cfg;
        const struct pd_family *f;
        struct pd_err err = {0};
        assert_int_equal(pd_json_parse(pd_str_from(cases[i].config), &o, NULL), PD_OK);
        if (pd_config_from_json(o, "config.json", &cfg, &f, &err) != PD_OK)
            fail_msg("%s", err.msg);
        assert_int_equal(pd_config_n_params(&cfg), cases[i].n_params);
        json_object_put(o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_gives_the_same_table),
        cmocka_unit_test(reward_models_say_their_class),
        cmocka_unit_test(what_cannot_be_is_named),
        cmocka_unit_test(published_shapes_have_their_size),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
