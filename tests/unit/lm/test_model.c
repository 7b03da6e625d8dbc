/* Opening and saving models: every file format gives the same table, what is written is read back,
 * and what does not fit is named. */
#include "gguf_writer.h"

#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"
#include "lm/model.h"
#include "lm/safetensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

static char dir[] = "/tmp/podium-model-XXXXXX";

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

static struct pd_model *open_tiny(const char *name, struct pd_model_options opt)
{
    char *path = pd_xasprintf("%s/models/%s", PD_FIXTURES, name);
    struct pd_model *m = open_model(path, opt);
    pd_free(path);
    return m;
}

static void expect_error(const char *path, struct pd_model_options opt, const char *piece)
{
    struct pd_model *m = NULL;
    struct pd_err err = {0};
    assert_int_not_equal(pd_model_open(&m, path, &opt, &err), PD_OK);
    assert_null(m);
    if (!strstr(err.msg, piece))
        fail_msg("\"%s\" is not in \"%s\"", piece, err.msg);
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

static void expect_same(const struct pd_model *a, const struct pd_model *b)
{
    assert_int_equal(a->params.n, b->params.n);
    for (size_t i = 0; i < a->params.n; i++) {
        const struct pd_param *p = &a->params.v[i], *q = &b->params.v[i];
        assert_string_equal(p->name, q->name);
        assert_int_equal(p->n, q->n);
        float *x = values(p), *y = values(q);
        if (memcmp(x, y, p->n * sizeof *x) != 0)
            fail_msg("%s differs", p->name);
        pd_free(x);
        pd_free(y);
    }
}

static void roles_are_bound(void **state)
{
    struct pd_model *m = open_tiny("tiny-llama", (struct pd_model_options){0});
    assert_int_equal(m->heads, PD_HEAD_LM);
    assert_ptr_equal(m->lm_head.w, m->embed);
    assert_int_equal(m->blocks[1].n_qkv, 3);
    assert_int_equal(m->blocks[1].n_up, 2);
    assert_string_equal(m->blocks[1].qkv[2].w->name, "model.layers.1.self_attn.v_proj.weight");
    assert_string_equal(m->blocks[0].up[0].w->name, "model.layers.0.mlp.gate_proj.weight");
    assert_null(m->blocks[0].norm1.b);
    assert_false(m->blocks[0].down.in_out);
    assert_int_equal(m->blocks[1].down.w->layer, 1);
    assert_false(m->final_norm.w->decay);
    assert_true(m->embed->decay);
    assert_true(m->cfg.qkv.blocks);
    assert_int_equal(m->cfg.qkv.v_off, (4 + 2) * 12);
    assert_int_equal(pd_config_n_params(&m->cfg), (int64_t)pd_params_count(&m->params, false));
    pd_model_free(m);

    m = open_tiny("tiny-gpt2", (struct pd_model_options){0});
    assert_int_equal(m->blocks[0].n_qkv, 1);
    assert_int_equal(m->blocks[0].n_up, 1);
    assert_true(m->blocks[0].qkv[0].in_out && m->blocks[0].down.in_out);
    assert_int_equal(m->blocks[0].qkv[0].w->shape[0], 40);
    assert_int_equal(m->blocks[0].qkv[0].w->shape[1], 120);
    assert_non_null(m->pos_embed);
    assert_non_null(m->final_norm.b);
    pd_model_free(m);

    m = open_tiny("tiny-llama-untied", (struct pd_model_options){0});
    assert_string_equal(m->lm_head.w->name, "lm_head.weight");
    pd_model_free(m);
}

static void training_has_slabs_and_freezes(void **state)
{
    struct pd_model *map = open_tiny("tiny-llama", (struct pd_model_options){0});
    struct pd_model *m =
        open_tiny("tiny-llama",
                  (struct pd_model_options){.purpose = PD_MODEL_TRAINING, .freeze_layers = 0.5});
    assert_non_null(m->params.data);
    assert_int_equal((uintptr_t)m->params.data % 64, 0);
    expect_same(map, m);
    assert_null(m->blocks[0].down.w->grad);
    assert_null(m->embed->grad);
    assert_non_null(m->blocks[1].down.w->grad);
    assert_non_null(m->final_norm.w->grad);
    pd_model_free(m);
    m = open_tiny("tiny-llama", (struct pd_model_options){.purpose = PD_MODEL_TRAINING,
                                                          .freeze_layers = 0.4}); /* no block */
    assert_non_null(m->blocks[0].down.w->grad);
    assert_non_null(m->embed->grad);
    m->cfg.n_layers = 5;
    assert_int_equal(pd_model_frozen_blocks(m, 0.5), 2);
    m->cfg.n_layers = 30;
    assert_int_equal(pd_model_frozen_blocks(m, 0.7), 21);
    assert_int_equal(pd_model_frozen_blocks(m, 1), 30);
    m->cfg.n_layers = 2;
    pd_model_free(m);
    m = open_tiny("tiny-llama", (struct pd_model_options){.purpose = PD_MODEL_TRAINING});
    for (size_t i = 0; i < m->params.n; i++)
        assert_non_null(m->params.v[i].grad);
    pd_model_free(m);
    m = open_tiny("tiny-llama",
                  (struct pd_model_options){.purpose = PD_MODEL_TRAINING, .no_grads = true});
    assert_null(m->params.grad);
    pd_model_free(m);
    pd_model_free(map);
}

static void heads_come_and_go(void **state)
{
    struct pd_model_options score = {.heads = PD_HEAD_SCORE};
    struct pd_model *m = open_tiny("tiny-llama-reward", (struct pd_model_options){0});
    assert_int_equal(m->heads, PD_HEAD_SCORE);
    assert_false(m->fresh_score);
    assert_null(m->lm_head.w);
    pd_model_free(m);

    m = open_tiny("tiny-llama", score);
    assert_true(m->fresh_score);
    for (size_t i = 0; i < m->score.w->n; i++)
        assert_true(((float *)m->score.w->data)[i] == 0);
    pd_model_free(m);

    score.init_head_normal = true;
    score.seed = 5;
    struct pd_model *a = open_tiny("tiny-llama", score), *b = open_tiny("tiny-llama", score);
    expect_same(a, b); /* seeded */
    double sum = 0;
    for (size_t i = 0; i < a->score.w->n; i++)
        sum += pow((double)((float *)a->score.w->data)[i], 2);
    double sd = sqrt(sum / (double)a->score.w->n);
    assert_true(sd > 0.01 && sd < 0.03);
    pd_model_free(a);
    pd_model_free(b);

    m = open_tiny("tiny-llama", (struct pd_model_options){.purpose = PD_MODEL_TRAINING,
                                                          .heads = PD_HEAD_LM | PD_HEAD_VALUE});
    assert_ptr_equal(m->lm_head.w, m->embed);
    assert_int_equal(m->value.w->n, m->cfg.hidden_size);
    assert_int_equal(m->value.b->n, 1);
    /* a value head never reaches the folder */
    char *out = pd_xasprintf("%s/policy", dir);
    assert_int_equal(pd_model_save_hf(m, out, PD_DTYPE_F32, NULL), PD_OK);
    struct pd_st *st = NULL;
    assert_int_equal(pd_st_open_dir(&st, out, NULL), PD_OK);
    assert_int_equal(st->n_tensors, m->params.n - 2);
    assert_null(pd_st_find(st, "lm_head.weight")); /* tied: once */
    pd_st_close(st);
    pd_free(out);
    pd_model_free(m);
}

static void saved_folders_open_as_what_they_were(void **state)
{
    static const char *const names[] = {"tiny-llama", "tiny-gpt2", "tiny-llama-untied",
                                        "tiny-gpt2-reward"};
    for (size_t i = 0; i < 4; i++) {
        char *out = pd_xasprintf("%s/%s", dir, names[i]), *run = pd_xasprintf("%s/run", dir);
        char *model = pd_xasprintf("%s/model", run);
        struct pd_model *m = open_tiny(names[i], (struct pd_model_options){0});
        assert_int_equal(pd_model_save_hf(m, out, PD_DTYPE_F32, NULL), PD_OK);
        struct pd_model *again = open_model(out, (struct pd_model_options){0});
        expect_same(m, again);
        assert_memory_equal(&again->cfg.qkv, &m->cfg.qkv, sizeof m->cfg.qkv);
        assert_int_equal(again->cfg.n_eos, m->cfg.n_eos);
        assert_int_equal(again->chat.kind, m->chat.kind);
        assert_int_equal(pd_tokenizer_eos(again->tok), pd_tokenizer_eos(m->tok));
        /* over itself: the maps still hold what they held */
        assert_int_equal(pd_model_save_hf(again, out, PD_DTYPE_F32, NULL), PD_OK);
        expect_same(m, again);
        pd_model_free(again);
        /* a run folder's model/, in half precision */
        assert_int_equal(pd_model_save_hf(m, model, PD_DTYPE_BF16, NULL), PD_OK);
        again = open_model(run, (struct pd_model_options){0});
        assert_int_equal(again->embed->dtype, PD_DTYPE_BF16);
        assert_int_equal(again->final_norm.w->dtype, PD_DTYPE_F32); /* vectors always */
        pd_model_free(again);
        pd_model_free(m);
        assert_int_equal(pd_fs_remove_tree(run, NULL), PD_OK);
        pd_free(out);
        pd_free(run);
        pd_free(model);
    }
}

static void a_reward_folder_says_so(void **state)
{
    struct json_object *o = NULL;
    char *out = pd_xasprintf("%s/rm", dir), *config = pd_xasprintf("%s/config.json", out);
    struct pd_model *m = open_tiny("tiny-llama", (struct pd_model_options){.heads = PD_HEAD_SCORE});
    m->cfg.pad_id = -1;
    assert_int_equal(pd_model_save_hf(m, out, PD_DTYPE_F32, NULL), PD_OK);
    assert_int_equal(pd_json_read_file(config, 1 << 20, &o, NULL), PD_OK);
    assert_int_equal(json_object_object_length(pd_json_get(o, "id2label")), 1);
    assert_int_equal(pd_json_i64(o, "pad_token_id", -1), 2); /* classifiers need one */
    assert_true(
        pd_str_eqz(pd_json_value_str(json_object_array_get_idx(pd_json_get(o, "architectures"), 0)),
                   "LlamaForSequenceClassification"));
    json_object_put(o);
    pd_model_free(m);
    m = open_model(out, (struct pd_model_options){0});
    assert_int_equal(m->heads, PD_HEAD_SCORE);
    /* and back: the trunk of a tied reward model is a language model again */
    pd_model_free(m);
    m = open_model(out, (struct pd_model_options){.heads = PD_HEAD_LM});
    assert_int_equal(pd_model_save_hf(m, out, PD_DTYPE_F32, NULL), PD_OK);
    assert_int_equal(pd_json_read_file(config, 1 << 20, &o, NULL), PD_OK);
    assert_null(pd_json_get(o, "id2label"));
    json_object_put(o);
    pd_model_free(m);
    pd_free(out);
    pd_free(config);
}

/* ---- GGUF: the same weights, permuted, transposed and renamed, give the same table ---- */

static void put_matrix(struct gguf_writer *w, const char *name, const float *v, uint64_t rows,
                       uint64_t cols)
{
    uint64_t dims[] = {cols, rows};
    gw_tensor(w, name, cols ? 2 : 1, cols ? dims : dims + 1, 0, v,
              rows * (cols ? cols : 1) * sizeof *v);
}

static void put_block_tensor(struct gguf_writer *w, int layer, const char *name, const float *v,
                             uint64_t rows, uint64_t cols)
{
    char *full = pd_xasprintf("blk.%d.%s", layer, name);
    put_matrix(w, full, v, rows, cols);
    pd_free(full);
}

/* HF row half*D/2 + i of a head goes to 2*i + half. */
static void put_permuted(struct gguf_writer *w, int layer, const char *name,
                         const struct pd_param *p, int64_t heads)
{
    int64_t rows = p->shape[0], cols = p->shape[1], d = rows / heads;
    float *v = values(p), *to = pd_xalloc(p->n * sizeof *to);
    for (int64_t r = 0; r < rows; r++) {
        int64_t head = r / d, half = r % d / (d / 2), i = r % (d / 2);
        memcpy(to + (head * d + 2 * i + half) * cols, v + r * cols, (size_t)cols * sizeof *v);
    }
    put_block_tensor(w, layer, name, to, (uint64_t)rows, (uint64_t)cols);
    pd_free(v);
    pd_free(to);
}

static void put_transposed(struct gguf_writer *w, int layer, const char *name,
                           const struct pd_param *p)
{
    int64_t in = p->shape[0], out = p->shape[1];
    float *v = values(p), *to = pd_xalloc(p->n * sizeof *to);
    for (int64_t i = 0; i < in; i++)
        for (int64_t o = 0; o < out; o++)
            to[o * in + i] = v[i * out + o];
    put_block_tensor(w, layer, name, to, (uint64_t)out, (uint64_t)in);
    pd_free(v);
    pd_free(to);
}

static void put_plain(struct gguf_writer *w, int layer, const char *name, const struct pd_param *p)
{
    float *v = values(p);
    uint64_t cols = p->ndim == 2 ? (uint64_t)p->shape[1] : 0;
    if (layer < 0)
        put_matrix(w, name, v, (uint64_t)p->shape[0], cols);
    else
        put_block_tensor(w, layer, name, v, (uint64_t)p->shape[0], cols);
    pd_free(v);
}

static void put_tokenizer(struct gguf_writer *w, const struct pd_tokenizer *t)
{
    int32_t n = pd_tokenizer_size(t);
    const char **texts = pd_xalloc((size_t)n * sizeof *texts);
    int32_t *types = pd_xalloc((size_t)n * sizeof *types);
    for (int32_t i = 0; i < n; i++) {
        texts[i] = pd_tokenizer_text(t, i).ptr;
        types[i] = pd_tokenizer_is_special(t, i) ? 3 : 1;
    }
    static const char *const merges[] = {"\xc4\xa0 t", "h e"};
    gw_kv_str(w, "tokenizer.ggml.model", "gpt2");
    gw_kv_str(w, "tokenizer.ggml.pre", "smollm");
    gw_kv_strs(w, "tokenizer.ggml.tokens", texts, (size_t)n);
    gw_kv_i32s(w, "tokenizer.ggml.token_type", types, (size_t)n);
    gw_kv_strs(w, "tokenizer.ggml.merges", merges, 2);
    gw_kv_u32(w, "tokenizer.ggml.bos_token_id", 1);
    gw_kv_u32(w, "tokenizer.ggml.eos_token_id", 2);
    pd_free(texts);
    pd_free(types);
}

static char *write_gguf(struct gguf_writer *w, const char *name)
{
    struct pd_buf file;
    char *path = pd_xasprintf("%s/%s", dir, name);
    pd_buf_init(&file, 0);
    gw_finish(w, &file);
    assert_int_equal(pd_fs_write_atomic(path, pd_buf_str(&file), 0644, NULL), PD_OK);
    pd_buf_release(&file);
    gw_release(w);
    return path;
}

static char *llama_gguf(const struct pd_model *m)
{
    struct gguf_writer w;
    gw_init(&w);
    gw_kv_str(&w, "general.architecture", "llama");
    gw_kv_u32(&w, "llama.block_count", (uint32_t)m->cfg.n_layers);
    gw_kv_u32(&w, "llama.context_length", (uint32_t)m->cfg.max_positions);
    gw_kv_u32(&w, "llama.embedding_length", (uint32_t)m->cfg.hidden_size);
    gw_kv_u32(&w, "llama.feed_forward_length", (uint32_t)m->cfg.ffn_size);
    gw_kv_u32(&w, "llama.attention.head_count", (uint32_t)m->cfg.n_heads);
    gw_kv_u32(&w, "llama.attention.head_count_kv", (uint32_t)m->cfg.n_kv_heads);
    gw_kv_f32(&w, "llama.rope.freq_base", (float)m->cfg.rope.theta);
    gw_kv_f32(&w, "llama.attention.layer_norm_rms_epsilon", (float)m->cfg.norm_eps);
    put_tokenizer(&w, m->tok);
    put_plain(&w, -1, "token_embd.weight", m->embed);
    for (int l = 0; l < m->cfg.n_layers; l++) {
        const struct pd_block *b = &m->blocks[l];
        put_plain(&w, l, "attn_norm.weight", b->norm1.w);
        put_permuted(&w, l, "attn_q.weight", b->qkv[0].w, m->cfg.n_heads);
        put_permuted(&w, l, "attn_k.weight", b->qkv[1].w, m->cfg.n_kv_heads);
        put_plain(&w, l, "attn_v.weight", b->qkv[2].w);
        put_plain(&w, l, "attn_output.weight", b->out.w);
        put_plain(&w, l, "ffn_norm.weight", b->norm2.w);
        put_plain(&w, l, "ffn_gate.weight", b->up[0].w);
        put_plain(&w, l, "ffn_up.weight", b->up[1].w);
        put_plain(&w, l, "ffn_down.weight", b->down.w);
    }
    put_plain(&w, -1, "output_norm.weight", m->final_norm.w);
    return write_gguf(&w, "llama.gguf");
}

/* A bias of the permuted q in half precision: values move, not rows. */
static void biases_are_permuted_too(void **state)
{
    struct gguf_writer w;
    static const float zeros[64];
    static const uint64_t h[] = {4}, square[] = {4, 4};
    float f[4] = {1, 2, 3, 4};
    uint16_t half[4];
    pd_f32_to_f16(f, half, 4);
    gw_init(&w);
    gw_kv_str(&w, "general.architecture", "llama");
    gw_kv_u32(&w, "llama.block_count", 1);
    gw_kv_u32(&w, "llama.context_length", 8);
    gw_kv_u32(&w, "llama.embedding_length", 4);
    gw_kv_u32(&w, "llama.feed_forward_length", 4);
    gw_kv_u32(&w, "llama.attention.head_count", 1);
    gw_tensor(&w, "token_embd.weight", 2, square, 0, zeros, 64);
    gw_tensor(&w, "output_norm.weight", 1, h, 0, zeros, 16);
    static const char *const matrices[] = {"attn_q",   "attn_k", "attn_v",  "attn_output",
                                           "ffn_gate", "ffn_up", "ffn_down"};
    for (size_t i = 0; i < 7; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "blk.0.%s.weight", matrices[i]);
        gw_tensor(&w, name, 2, square, 0, zeros, 64);
    }
    gw_tensor(&w, "blk.0.attn_norm.weight", 1, h, 0, zeros, 16);
    gw_tensor(&w, "blk.0.ffn_norm.weight", 1, h, 0, zeros, 16);
    gw_tensor(&w, "blk.0.attn_q.bias", 1, h, 1, half, sizeof half);
    gw_tensor(&w, "blk.0.attn_k.bias", 1, h, 0, f, sizeof f);
    gw_tensor(&w, "blk.0.attn_v.bias", 1, h, 0, f, sizeof f);
    char *path = write_gguf(&w, "bias.gguf");
    struct pd_model *model = open_model(path, (struct pd_model_options){0});
    static const float want[4] = {1, 3, 2, 4};
    assert_int_equal(model->blocks[0].qkv[0].b->dtype, PD_DTYPE_F32);
    assert_memory_equal(model->blocks[0].qkv[0].b->data, want, sizeof want);
    assert_memory_equal(model->blocks[0].qkv[1].b->data, want, sizeof want);
    assert_memory_equal(model->blocks[0].qkv[2].b->data, f, sizeof f);
    pd_model_free(model);
    pd_free(path);
}

/* b is a's matrix the other way round, and known to be. */
static void expect_turned(const struct pd_lin *a, const struct pd_lin *b)
{
    const int64_t in = a->w->shape[0], out = a->w->shape[1];
    assert_true(a->in_out && !b->in_out);
    assert_true(b->w->shape[0] == out && b->w->shape[1] == in);
    assert_true(a->w->dtype == PD_DTYPE_F32 && b->w->dtype == PD_DTYPE_F32);
    const float *x = a->w->data, *y = b->w->data;
    for (int64_t i = 0; i < in; i++)
        for (int64_t o = 0; o < out; o++)
            assert_true(x[i * out + o] == y[o * in + i]);
}

static char *gpt2_gguf(const struct pd_model *m)
{
    struct gguf_writer w;
    gw_init(&w);
    gw_kv_str(&w, "general.architecture", "gpt2");
    gw_kv_u32(&w, "gpt2.block_count", (uint32_t)m->cfg.n_layers);
    gw_kv_u32(&w, "gpt2.context_length", (uint32_t)m->cfg.max_positions);
    gw_kv_u32(&w, "gpt2.embedding_length", (uint32_t)m->cfg.hidden_size);
    gw_kv_u32(&w, "gpt2.feed_forward_length", (uint32_t)m->cfg.ffn_size);
    gw_kv_u32(&w, "gpt2.attention.head_count", (uint32_t)m->cfg.n_heads);
    gw_kv_f32(&w, "gpt2.attention.layer_norm_epsilon", 1e-5f);
    put_plain(&w, -1, "token_embd.weight", m->embed);
    put_plain(&w, -1, "position_embd.weight", m->pos_embed);
    for (int l = 0; l < m->cfg.n_layers; l++) {
        const struct pd_block *b = &m->blocks[l];
        put_plain(&w, l, "attn_norm.weight", b->norm1.w);
        put_plain(&w, l, "attn_norm.bias", b->norm1.b);
        put_transposed(&w, l, "attn_qkv.weight", b->qkv[0].w);
        put_plain(&w, l, "attn_qkv.bias", b->qkv[0].b);
        put_transposed(&w, l, "attn_output.weight", b->out.w);
        put_plain(&w, l, "attn_output.bias", b->out.b);
        put_plain(&w, l, "ffn_norm.weight", b->norm2.w);
        put_plain(&w, l, "ffn_norm.bias", b->norm2.b);
        put_transposed(&w, l, "ffn_up.weight", b->up[0].w);
        put_plain(&w, l, "ffn_up.bias", b->up[0].b);
        put_transposed(&w, l, "ffn_down.weight", b->down.w);
        put_plain(&w, l, "ffn_down.bias", b->down.b);
    }
    put_plain(&w, -1, "output_norm.weight", m->final_norm.w);
    put_plain(&w, -1, "output_norm.bias", m->final_norm.b);
    return write_gguf(&w, "gpt2.gguf");
}

static void gguf_gives_the_same_table(void **state)
{
    struct pd_model *hf = open_tiny("tiny-llama", (struct pd_model_options){0});
    char *path = llama_gguf(hf);
    struct pd_model *m = open_model(path, (struct pd_model_options){0});
    expect_same(hf, m);
    assert_true(m->cfg.tied && m->cfg.rope.theta == hf->cfg.rope.theta);
    assert_true(m->cfg.norm_eps == hf->cfg.norm_eps);
    assert_int_equal(m->cfg.eos_ids[0], 2);
    /* written as a folder and read again: still the same, description and tokenizer included */
    char *out = pd_xasprintf("%s/from-gguf", dir);
    assert_int_equal(pd_model_save_hf(m, out, PD_DTYPE_F32, NULL), PD_OK);
    struct pd_model *again = open_model(out, (struct pd_model_options){0});
    expect_same(m, again);
    assert_memory_equal(&again->cfg.rope, &m->cfg.rope, offsetof(struct pd_rope, scaling));
    assert_int_equal(pd_tokenizer_size(again->tok), pd_tokenizer_size(m->tok));
    assert_int_equal(pd_tokenizer_eos(again->tok), 2);
    pd_model_free(again);
    pd_model_free(m);
    pd_model_free(hf);
    pd_free(path);
    pd_free(out);

    hf = open_tiny("tiny-gpt2", (struct pd_model_options){0});
    path = gpt2_gguf(hf);
    m = open_model(path, (struct pd_model_options){0});
    expect_same(hf, m);
    assert_null(m->tok);
    pd_model_free(m);
    m = open_model(path, (struct pd_model_options){.purpose = PD_MODEL_TRAINING});
    expect_same(hf, m);
    pd_model_free(m);
    m = open_model(path, (struct pd_model_options){.as_in_file = true});
    expect_turned(&hf->blocks[0].qkv[0], &m->blocks[0].qkv[0]);
    expect_turned(&hf->blocks[1].down, &m->blocks[1].down);
    pd_model_free(m);
    pd_model_free(hf);
    pd_free(path);
}

/* ---- what does not fit is named ---- */

static void copy_file(const char *from_dir, const char *name)
{
    struct pd_buf b;
    char *from = pd_xasprintf("%s/%s", from_dir, name), *to = pd_xasprintf("%s/bad/%s", dir, name);
    pd_buf_init(&b, 0);
    assert_int_equal(pd_fs_read(from, 1 << 24, &b, NULL), PD_OK);
    assert_int_equal(pd_fs_write_atomic(to, pd_buf_str(&b), 0644, NULL), PD_OK);
    pd_buf_release(&b);
    pd_free(from);
    pd_free(to);
}

static void write_config(const char *text)
{
    char *to = pd_xasprintf("%s/bad/config.json", dir);
    assert_int_equal(pd_fs_write_atomic(to, pd_str_from(text), 0644, NULL), PD_OK);
    pd_free(to);
}

#define LLAMA(more)                                                                                \
    "{\"model_type\":\"llama\",\"vocab_size\":384,\"hidden_size\":48,\"num_attention_heads\":4,"   \
    "\"num_key_value_heads\":2,\"intermediate_size\":80,\"tie_word_embeddings\":true" more "}"

static void what_does_not_fit_is_named(void **state)
{
    char *bad = pd_xasprintf("%s/bad", dir);
    struct pd_model_options opt = {0};
    assert_int_equal(pd_fs_mkdirs(bad, 0755, NULL), PD_OK);
    expect_error("/no/such/model", opt, "no such model");
    expect_error(bad, opt, "no config.json");
    copy_file(PD_FIXTURES "/models/tiny-llama", "model.safetensors");
    static const struct {
        const char *config, *piece;
    } cases[] = {
        {"{", "config.json"},
        {"[]", "not a JSON object"},
        {"{\"vocab_size\":4}", "no \"model_type\"; known are llama"},
        {"{\"model_type\":\"bert\"}",
         "\"bert\" is not known; known are llama, mistral, qwen2, qwen3, gpt2, "
         "gptj, gpt_neox, falcon"},
        {LLAMA(""), "\"num_hidden_layers\" is missing"},
        {LLAMA(",\"num_hidden_layers\":\"two\""), "num_hidden_layers is a string"},
        {LLAMA(",\"num_hidden_layers\":0"), "number of layers is 0"},
        {LLAMA(",\"num_hidden_layers\":2000000000"), "number of layers"},
        {LLAMA(",\"num_hidden_layers\":3"), "model.layers.2.input_layernorm.weight is missing"},
        {LLAMA(",\"num_hidden_layers\":2,\"head_dim\":12,\"attention_bias\":true"),
         "q_proj.bias is missing"},
        {LLAMA(",\"num_hidden_layers\":2,\"head_dim\":16"),
         "q_proj.weight is [48, 48], but the configuration makes it [64, 48]"},
        {LLAMA(",\"num_hidden_layers\":2,\"hidden_act\":\"tanhshrink\""), "tanhshrink"},
        {LLAMA(",\"num_hidden_layers\":2,\"rope_scaling\":{\"type\":\"x\"}"), "rope_type \"x\""},
        {LLAMA(",\"num_hidden_layers\":2,\"rms_norm_eps\":-1"), "epsilon"},
        {LLAMA(",\"num_hidden_layers\":2,\"eos_token_id\":\"x\""), "eos_token_id is a string"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_config(cases[i].config);
        expect_error(bad, opt, cases[i].piece);
    }
    write_config(LLAMA(",\"num_hidden_layers\":2"));
    pd_model_free(open_model(bad, opt)); /* without a tokenizer it still opens */
    pd_free(bad);
}

static void reads_old_and_new_keys(void **state)
{
    struct pd_config cfg;
    char *bad = pd_xasprintf("%s/bad", dir);
    write_config(
        LLAMA(",\"num_hidden_layers\":2,\"head_dim\":12,\"eos_token_id\":[2,7],"
              "\"rope_parameters\":{\"rope_theta\":5e5,\"rope_type\":\"llama3\",\"factor\":8,"
              "\"low_freq_factor\":1,\"high_freq_factor\":4,"
              "\"original_max_position_embeddings\":8192}"));
    assert_int_equal(pd_model_read_config(bad, &cfg, NULL), PD_OK);
    assert_int_equal(cfg.rope.scaling, PD_LM_SCALE_LLAMA3);
    assert_true(cfg.rope.theta == 5e5 && cfg.rope.factor == 8);
    assert_int_equal(cfg.n_eos, 2);
    assert_true(pd_config_is_eos(&cfg, 7) && !pd_config_is_eos(&cfg, 3));
    write_config(LLAMA(",\"num_hidden_layers\":2,\"rope_theta\":1234.5,"
                       "\"rope_scaling\":{\"type\":\"linear\",\"factor\":2.0}"));
    assert_int_equal(pd_model_read_config(bad, &cfg, NULL), PD_OK);
    assert_true(cfg.rope.theta == 1234.5 && cfg.rope.scaling == PD_LM_SCALE_LINEAR);
    pd_free(bad);
}

/* ---- every allocation fails once: an error, nothing leaked (the asan preset watches) ---- */

static bool opens_after(const char *path, struct pd_model_options opt, long n)
{
    struct pd_model *m = NULL;
    struct pd_err err = {0};
    pd_mem_fail_after(n);
    enum pd_rc rc = pd_model_open(&m, path, &opt, &err);
    pd_mem_fail_after(-1);
    if (rc != PD_OK) {
        assert_null(m);
        assert_true(err.msg[0] != 0);
    }
    pd_model_free(m);
    return rc == PD_OK;
}

static void survives_failing_allocations(void **state)
{
    static const char *const names[] = {PD_FIXTURES "/models/tiny-llama",
                                        PD_FIXTURES "/models/tiny-gpt2-reward"};
    struct pd_model *hf = open_tiny("tiny-gpt2", (struct pd_model_options){0});
    char *gguf = gpt2_gguf(hf);
    pd_model_free(hf);
    const char *paths[] = {names[0], names[1], gguf};
    for (size_t i = 0; i < 3; i++)
        for (int training = 0; training < 2; training++) {
            struct pd_model_options opt = {.purpose =
                                               training ? PD_MODEL_TRAINING : PD_MODEL_INFERENCE};
            long n = 0;
            while (n < 2000 && !opens_after(paths[i], opt, n))
                n++;
            assert_true(n > 5 && n < 2000); /* it did fail, and in the end it did not */
        }
    pd_free(gguf);
}

/* ---- rope frequencies ---- */

static struct pd_config rope_config(enum pd_lm_scaling scaling)
{
    struct pd_config c = {.max_positions = 8192, .head_dim = 8};
    c.rope = (struct pd_rope){.dim = 8,
                              .theta = 10000,
                              .scaling = scaling,
                              .factor = 8,
                              .low_freq_factor = 1,
                              .high_freq_factor = 4,
                              .beta_fast = 32,
                              .beta_slow = 1,
                              .original_max_positions = 8192};
    return c;
}

static void rope_scalings(void **state)
{
    float f[4], plain[4];
    struct pd_config c = rope_config(PD_LM_SCALE_NONE);
    assert_true(pd_config_rope_freqs(&c, 0, plain) == 1);
    assert_true(fabs((double)plain[1] - 0.1) < 1e-8 && fabs((double)plain[3] - 1e-3) < 1e-10);
    c = rope_config(PD_LM_SCALE_LINEAR);
    pd_config_rope_freqs(&c, 0, f);
    assert_true(fabs((double)f[1] - 0.1 / 8) < 1e-9);
    /* llama3: wavelengths 6.3, 63, 628 are short (< 8192/4) and stay; 6283 lies between
     * 8192/4 and 8192: s = (8192/6283.2 - 1) / 3 */
    c = rope_config(PD_LM_SCALE_LLAMA3);
    pd_config_rope_freqs(&c, 0, f);
    assert_true(f[0] == plain[0] && f[2] == plain[2]);
    double s = (8192 / (2 * M_PI * 1000) - 1) / 3;
    assert_true(fabs((double)f[3] - ((1 - s) * 1e-3 / 8 + s * 1e-3)) < 1e-10);
    /* dynamic: unchanged within the context, a larger base past it */
    c = rope_config(PD_LM_SCALE_DYNAMIC);
    pd_config_rope_freqs(&c, 8192, f);
    assert_memory_equal(f, plain, sizeof f);
    pd_config_rope_freqs(&c, 16384, f);
    double base = 10000 * pow(8 * 2 - 7, 8.0 / 6);
    assert_true(fabs((double)f[1] - 1 / pow(base, 0.25)) < 1e-8);
    /* yarn: fast dims stay, slow ones are divided by the factor, cos and sin grow */
    c = rope_config(PD_LM_SCALE_YARN);
    assert_true(fabs(pd_config_rope_freqs(&c, 0, f) - (0.1 * log(8) + 1)) < 1e-12);
    assert_true(f[0] == plain[0] && f[3] < plain[3] && f[3] >= plain[3] / 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(roles_are_bound),
        cmocka_unit_test(training_has_slabs_and_freezes),
        cmocka_unit_test(heads_come_and_go),
        cmocka_unit_test(saved_folders_open_as_what_they_were),
        cmocka_unit_test(a_reward_folder_says_so),
        cmocka_unit_test(gguf_gives_the_same_table),
        cmocka_unit_test(biases_are_permuted_too),
        cmocka_unit_test(what_does_not_fit_is_named),
        cmocka_unit_test(reads_old_and_new_keys),
        cmocka_unit_test(survives_failing_allocations),
        cmocka_unit_test(rope_scalings),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
