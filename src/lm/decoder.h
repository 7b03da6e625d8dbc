/* The decoder: one forward and backward for every family, driven by the descriptor in pd_config.
 *
 * Training works on a packed stream (lm/stream.h): forward gives the hidden states after the final
 * norm, heads (lm/heads.h) turn chosen rows of them into log-probs or scores and their gradients
 * back into d(hidden), and backward adds to the grads of the model's parameters. Inference works on
 * KV nodes (lm/kv.h) with the same block code.
 *
 * Frozen bottom blocks: nothing is saved or propagated below the lowest trainable block. What they
 * compute can be kept by the caller: forward_to(layer) gives the (T, H) input of block `layer`
 * and forward_from(layer, x) goes on from it; layer = pd_decoder_first_trainable(dec).
 *
 * Memory: activations lie in slabs that are planned from T, grown when a larger stream comes, and
 * reused; pointers returned live until the next forward or infer call on the same decoder.
 * Threads: owner thread; kernels are parallel inside. Several decoders may share one process. */
#ifndef PD_LM_DECODER_H
#define PD_LM_DECODER_H

#include "base/err.h"
#include "lm/stream.h"
#include "tensor/backend.h"
#include <stdint.h>

struct pd_model;
struct pd_decoder;
struct pd_kv;
struct pd_kv_node;
struct pd_kv_shape;

/* How inference keeps keys and values. AUTO: fp32 with PD_COMPUTE_F32; int8 where products round
 * activations to 8 bits, which costs far more (4-bit weights in panels); else halves. Heads of more
 * than PD_KV_INT8_DIM are halves where int8 is asked for. */
enum pd_cache { PD_CACHE_AUTO, PD_CACHE_F32, PD_CACHE_F16, PD_CACHE_INT8 };
#define PD_CACHE_CHOICES "auto|fp32|f16|int8"
PD_CHECKED enum pd_rc pd_cache_parse(const char *text, enum pd_cache *out, struct pd_err *err);

struct pd_decoder_opts {
    bool train;              /* parameters are fp32 and backward may be called */
    enum pd_compute compute; /* precision of the matmuls; training resolves AUTO for this CPU */
    enum pd_cache cache;     /* inference; while it trains fp32 */
    bool panels; /* inference: copy the weights into panels where that is faster and there is memory
                    (tensor/wmul.h). Matrices that the model kept in memory of its own are then
                    freed, their data NULL: no other decoder may be made of it, nor may it be
                    saved, repacked or searched for damage as a whole */
};

/* Borrows the model, which must outlive the decoder; packs its weights. PD_NOTFOUND names a missing
 * parameter, PD_INVALID one of the wrong shape. */
PD_CHECKED enum pd_rc pd_decoder_new(struct pd_model *model, const struct pd_decoder_opts *opts,
                                     struct pd_decoder **out, struct pd_err *err);
void pd_decoder_free(struct pd_decoder *dec); /* accepts NULL */

const struct pd_model *pd_decoder_model(const struct pd_decoder *dec);
int64_t pd_decoder_hidden_size(const struct pd_decoder *dec);
int64_t pd_decoder_vocab_size(const struct pd_decoder *dec);
int pd_decoder_n_layers(const struct pd_decoder *dec);
enum pd_compute pd_decoder_compute(const struct pd_decoder *dec); /* training: never AUTO */
/* 0..L: no block below it has a trainable parameter and the embeddings (if 0 < result) are frozen.
 * L when only the final norm or heads train. Read off the params' `trainable` at every call. */
int pd_decoder_first_trainable(const struct pd_decoder *dec);
/* Bytes of activations that forward(save) + backward will use for a stream of T rows. */
int64_t pd_decoder_train_bytes(const struct pd_decoder *dec, int64_t n_rows);
/* And those of a pass that keeps nothing. */
int64_t pd_decoder_infer_bytes(const struct pd_decoder *dec, int64_t n_rows);

/* ---- training ---- */

/* *hidden = (T, H) after the final norm. With save, what backward needs is kept until the next
 * forward. PD_INVALID for ids out of range or positions past the context; PD_NOMEM. */
PD_CHECKED enum pd_rc pd_decoder_forward(struct pd_decoder *dec, const struct pd_stream *stream,
                                         bool save, const float **hidden, struct pd_err *err);
/* Embedding and blocks 0..layer-1; x (T, H) is written. */
PD_CHECKED enum pd_rc pd_decoder_forward_to(struct pd_decoder *dec, const struct pd_stream *stream,
                                            int layer, float *x, struct pd_err *err);
/* Blocks layer..L-1 and the final norm, from x (T, H) as forward_to gave it. With save, layer must
 * not lie above pd_decoder_first_trainable. */
PD_CHECKED enum pd_rc pd_decoder_forward_from(struct pd_decoder *dec,
                                              const struct pd_stream *stream, int layer,
                                              const float *x, bool save, const float **hidden,
                                              struct pd_err *err);
/* dhidden (T, H): gradient of the loss by the hidden states of the last forward(save); it is used
 * as scratch and destroyed. Adds to the grad of every trainable parameter. */
PD_CHECKED enum pd_rc pd_decoder_backward(struct pd_decoder *dec, const struct pd_stream *stream,
                                          float *dhidden, struct pd_err *err);
/* After the weights changed: pack the trainable ones again. */
PD_CHECKED enum pd_rc pd_decoder_repack(struct pd_decoder *dec, struct pd_err *err);

/* ---- inference ---- */

/* n new tokens of one KV node; they take the positions after those that it holds. */
struct pd_infer_part {
    struct pd_kv_node *node;
    const int32_t *ids;
    int64_t n;      /* >= 1 */
    bool want_last; /* hidden state of the last token is wanted */
};
/* Appends the parts' tokens to their nodes (each node at most once) in one pass. *hidden = one row
 * (H) after the final norm for each part with want_last, in order. PD_TOOBIG when the KV pool has
 * no free page or the context is exceeded (nothing is appended then). */
PD_CHECKED enum pd_rc pd_decoder_infer(struct pd_decoder *dec, struct pd_kv *kv,
                                       const struct pd_infer_part *parts, int n_parts,
                                       const float **hidden, struct pd_err *err);
/* What a cache for this decoder is made of (lm/kv.h). */
struct pd_kv_shape pd_decoder_kv_shape(const struct pd_decoder *dec);
/* How many rows n rows are computed as, so that in fp32 what a row gives does not depend on how
 * many stand beside it: infer fills up by itself; for logits the caller has room for so many. */
int64_t pd_decoder_stable_rows(const struct pd_decoder *dec, int64_t n);
/* logits (n, V) = hidden (n, H) through the LM head. */
PD_CHECKED enum pd_rc pd_decoder_logits(struct pd_decoder *dec, const float *hidden, int64_t n,
                                        float *logits, struct pd_err *err);

#endif
