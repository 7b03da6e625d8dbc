/* The passes over a packed stream: forward, in parts or whole, and backward. */
#include "lm/decoder_int.h"

#include <string.h>

enum pd_rc pd__no_such_token(const struct pd_decoder *dec, int32_t id, struct pd_err *err)
{
    const struct pd_model *m = dec->model;
    struct pd_str text = m->tok ? pd_tokenizer_text(m->tok, id) : (struct pd_str){NULL, 0};
    return PD_FAIL(err, PD_INVALID,
                   "token id %d%s%.*s%s is not one of the %lld rows of the embedding%s%s", id,
                   text.ptr ? " (\"" : "", PD_STR_ARG(text), text.ptr ? "\")" : "",
                   (long long)dec->V, m->path ? " of " : "", m->path ? m->path : "");
}

static enum pd_rc check_stream(const struct pd_decoder *dec, const struct pd_stream *s,
                               struct pd_err *err)
{
    int64_t limit = dec->model->pos_embed ? dec->model->pos_embed->shape[0] : INT32_MAX;
    for (int64_t t = 0; t < s->n_rows; t++) {
        if (s->ids[t] < 0 || s->ids[t] >= dec->V)
            return pd__no_such_token(dec, s->ids[t], err);
        if (s->pos[t] >= limit)
            return PD_FAIL(err, PD_INVALID,
                           "a sequence of %d tokens is longer than the model's context of %lld",
                           s->pos[t] + 1, (long long)limit);
    }
    return PD_OK;
}

void pd__embed(const struct pd_decoder *dec, int64_t T, const int32_t *ids, const int32_t *pos,
               float *x)
{
    pd_embed_forward(T, dec->H, ids, dec->model->embed, x, PD_WRITE_SET);
    if (dec->model->pos_embed)
        pd_embed_forward(T, dec->H, pos, dec->model->pos_embed, x, PD_WRITE_ADD);
}

void pd__rope_rows(struct pd_decoder *dec, const int32_t *pos, int64_t row, int64_t n, int64_t len)
{
    const struct pd_config *cfg = &dec->model->cfg;
    bool stretched = cfg->rope.scaling == PD_LM_SCALE_DYNAMIC && len > cfg->max_positions;
    if (!stretched)
        len = 0;
    if (len != dec->freq_len) {
        dec->rope_scale = (float)pd_config_rope_freqs(cfg, len, dec->inv_freq);
        dec->freq_len = len;
    }
    pd_rope_table(n, pos + row, dec->rot, dec->inv_freq, dec->rope_scale, dec->cs + row * dec->rot);
}

/* The rotation table of a stream. A tree's rows go by its longest sequence; one past the context
 * has a tree of its own (pd_config_share_limit). */
static void rope_stream(struct pd_decoder *dec, const struct pd_stream *s)
{
    for (int i = 0; i < s->n_segs;) {
        int64_t first = s->segs[i].start, end = first, len = 0;
        for (int root = i; i < s->n_segs && (i == root || s->segs[i].parent >= 0); i++) {
            end = s->segs[i].start + s->segs[i].len;
            int64_t reach = s->segs[i].len ? s->pos[end - 1] + 1 : 0;
            len = reach > len ? reach : len;
        }
        pd__rope_rows(dec, s->pos, first, end - first, len);
    }
}

/* What every pass over a stream begins with: buffers, rotation table, attention plan. */
static enum pd_rc begin(struct pd_decoder *dec, const struct pd_stream *s, struct pd_err *err)
{
    enum pd_rc rc = check_stream(dec, s, err);
    if (rc == PD_OK)
        rc = pd__decoder_work(dec, s->n_rows, err);
    if (rc != PD_OK)
        return rc;
    if (dec->rot)
        rope_stream(dec, s);
    pd__plan_stream(dec, s);
    return PD_OK;
}

/* Blocks [from, to) without saving, in place in dec->x. */
static enum pd_rc run_blocks(struct pd_decoder *dec, const struct pd_stream *s, int from, int to,
                             struct pd_err *err)
{
    struct pd__acts a = pd__decoder_work_acts(dec);
    for (int l = from; l < to; l++) {
        enum pd_rc rc = pd__block_forward(dec, l, s->n_rows, &a, dec->x, pd__attend_stream,
                                          (void *)(uintptr_t)s, err);
        if (rc != PD_OK)
            return rc;
    }
    return PD_OK;
}

/* Blocks from..L-1 on dec->x, where those from the lowest trainable one on keep their
 * activations. */
static enum pd_rc run_saving(struct pd_decoder *dec, const struct pd_stream *s, int from,
                             struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    int64_t T = s->n_rows;
    int first = pd_decoder_first_trainable(dec);
    if (from > first) {
        rc = PD_FAIL(err, PD_BUG, "forward from block %d, but block %d trains", from, first);
        goto out;
    }
    PD_TRY(pd__decoder_saved(dec, T, first, err));
    PD_TRY(run_blocks(dec, s, from, first, err));
    pd_copy(T * dec->H, dec->x, first < dec->L ? dec->acts[first].x_in : dec->x_final);
    for (int l = first; l < dec->L; l++) {
        float *next = l + 1 < dec->L ? dec->acts[l + 1].x_in : dec->x_final;
        PD_TRY(pd__block_forward(dec, l, T, &dec->acts[l], next, pd__attend_stream,
                                 (void *)(uintptr_t)s, err));
    }
    pd__norm_forward(dec, &dec->final_norm, T, dec->x_final, dec->hidden, dec->stat_final);
    dec->saved_rows = T;
    dec->saved_first = first;
out:
    return rc;
}

static enum pd_rc run(struct pd_decoder *dec, const struct pd_stream *s, int from, bool save,
                      const float **hidden, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    dec->saved_rows = -1;
    if (save) {
        PD_ASSERT(dec->opts.train);
        PD_TRY(run_saving(dec, s, from, err));
    } else {
        PD_TRY(run_blocks(dec, s, from, (int)dec->L, err));
        pd__norm_forward(dec, &dec->final_norm, s->n_rows, dec->x, dec->hidden, NULL);
    }
    *hidden = dec->hidden;
out:
    return rc;
}

enum pd_rc pd_decoder_forward(struct pd_decoder *dec, const struct pd_stream *stream, bool save,
                              const float **hidden, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    PD_TRY(begin(dec, stream, err));
    pd__embed(dec, stream->n_rows, stream->ids, stream->pos, dec->x);
    PD_TRY(run(dec, stream, 0, save, hidden, err));
out:
    return rc;
}

enum pd_rc pd_decoder_forward_to(struct pd_decoder *dec, const struct pd_stream *stream, int layer,
                                 float *x, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    PD_ASSERT(layer >= 0 && layer <= dec->L);
    PD_TRY(begin(dec, stream, err));
    dec->saved_rows = -1;
    pd__embed(dec, stream->n_rows, stream->ids, stream->pos, dec->x);
    PD_TRY(run_blocks(dec, stream, 0, layer, err));
    pd_copy(stream->n_rows * dec->H, dec->x, x);
out:
    return rc;
}

enum pd_rc pd_decoder_forward_from(struct pd_decoder *dec, const struct pd_stream *stream,
                                   int layer, const float *x, bool save, const float **hidden,
                                   struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    PD_ASSERT(layer >= 0 && layer <= dec->L);
    PD_TRY(begin(dec, stream, err));
    pd_copy(stream->n_rows * dec->H, x, dec->x);
    PD_TRY(run(dec, stream, layer, save, hidden, err));
out:
    return rc;
}

enum pd_rc pd_decoder_backward(struct pd_decoder *dec, const struct pd_stream *stream,
                               float *dhidden, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct pd_model *m = dec->model;
    int64_t T = stream->n_rows;
    if (dec->saved_rows != T) {
        rc = PD_FAIL(err, PD_BUG, "backward of %lld rows without a saving forward of them",
                     (long long)T);
        goto out;
    }
    float *dx = dhidden;
    pd__norm_backward(dec, &dec->final_norm, T, dec->x_final, dec->stat_final, dx, dx,
                      PD_WRITE_SET);
    for (int l = (int)dec->L - 1; l >= dec->saved_first; l--)
        PD_TRY(pd__block_backward(dec, l, stream, &dec->acts[l], dx, err));
    if (dec->saved_first == 0) {
        if (m->pos_embed && m->pos_embed->trainable)
            pd_embed_backward(T, dec->H, stream->pos, dx, m->pos_embed->grad);
        for (int64_t t = 0; t < T; t++) /* as transformers' padding_idx: read, never trained */
            if (stream->ids[t] == m->cfg.padding_row)
                memset(dx + t * dec->H, 0, (size_t)dec->H * sizeof *dx);
        if (m->embed->trainable)
            pd_embed_backward(T, dec->H, stream->ids, dx, m->embed->grad);
    }
out:
    return rc;
}
