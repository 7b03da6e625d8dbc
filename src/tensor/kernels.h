/* The table of instruction-set dependent kernels: private to the tensor library.
 *
 * Each source under kernel/ is compiled once per instruction set with PD_ISA set to its name, and
 * defines PD_KERNEL(name) = pd_<isa>_<name> for the rows of this list. Contracts stand at the
 * public functions of ops.h, attention.h and optim.h that call them. */
#ifndef PD_TENSOR_KERNELS_H
#define PD_TENSOR_KERNELS_H

#include "tensor/attention.h"
#include "tensor/ops.h"
#include "tensor/team.h"
#include "tensor/wmul.h"

/* What a chunk of logits adds to a row's running softmax. */
struct pd_softmax_row {
    float max;     /* of z = logit / temperature so far */
    float sum;     /* of exp(z - max) */
    float zsum;    /* of exp(z - max) * z */
    float ztarget; /* z of the target once its chunk has passed */
};

/* d(loss)/d(logprob), d(loss)/d(entropy) of a row, and what forward left. */
struct pd_logprob_row {
    float dlogprob, dentropy, lse, entropy;
    int32_t target;
};

/* A piece of attention work: forward, query rows first..first+n-1 of segment seg; backward, the n
 * segments of a tree from seg on. Each is done once per kv head. */
struct pd_attn_item {
    int32_t seg, n;
    int64_t first;
};

/* name, argument list; all return void */
#define PD_KERNEL_LIST(X)                                                                          \
    X(rmsnorm_forward,                                                                             \
      (int64_t T, int64_t H, const float *x, const float *w, float eps, float *y, float *rstd))    \
    X(rmsnorm_backward, (int64_t T, int64_t H, const float *x, const float *w, const float *rstd,  \
                         const float *dy, float *dx, enum pd_write mode, float *dw))               \
    X(layernorm_forward, (int64_t T, int64_t H, const float *x, const float *w, const float *b,    \
                          float eps, float *y, float *mean, float *rstd))                          \
    X(layernorm_backward,                                                                          \
      (int64_t T, int64_t H, const float *x, const float *w, const float *mean, const float *rstd, \
       const float *dy, float *dx, enum pd_write mode, float *dw, float *db))                      \
    X(rope_apply, (int64_t T, int n_heads, float *x, int64_t ld, int64_t head_stride, int rot,     \
                   enum pd_rope_kind kind, const float *cs, bool inverse))                         \
    X(swiglu_forward, (int64_t T, int64_t F, const float *gu, float *y))                           \
    X(swiglu_backward,                                                                             \
      (int64_t T, int64_t F, const float *gu, const float *dy, float *dgu, float *y_again))        \
    X(act_forward, (enum pd_act a, int64_t n, const float *x, float *y))                           \
    X(act_backward, (enum pd_act a, int64_t n, const float *x, const float *dy, float *dx))        \
    X(add, (int64_t n, const float *x, float *y))                                                  \
    X(bias_backward, (int64_t T, int64_t N, const float *dy, int64_t ld, float *db))               \
    X(softmax_chunk, (int64_t n, int64_t first, int64_t cols, const float *logits, float inv_temp, \
                      const int32_t *target, struct pd_softmax_row *row))                          \
    X(logprob_grad, (int64_t n, int64_t first, int64_t cols, float *logits, float inv_temp,        \
                     const struct pd_logprob_row *row))                                            \
    X(attn_forward,                                                                                \
      (const struct pd_attn *a, const struct pd_attn_seg *segs, const struct pd_attn_item *items,  \
       int64_t n_items, float *scratch, int64_t per_thread))                                       \
    X(attn_backward,                                                                               \
      (const struct pd_attn *a, const struct pd_attn_seg *segs, const struct pd_attn_item *items,  \
       int64_t n_items, float *scratch, int64_t per_thread))                                       \
    X(attn_store, (const struct pd_attn *a, enum pd_kv_half half, int64_t j, const float *x,       \
                   void *rows, float *scales))                                                     \
    X(transpose,                                                                                   \
      (int64_t rows, int64_t cols, const float *a, int64_t lda, float *to, int64_t ldt))           \
    X(wmul_int, (const struct pd_wmul_call *c))                                                    \
    X(wmul_byte, (const struct pd_wmul_call *c))                                                   \
    X(wmul_f32, (const struct pd_wmul_call *c))                                                    \
    X(wmul_packed, (const struct pd_wmul_call *c))                                                 \
    X(wmul_packed_bytes, (const struct pd_wmul *m, int part, size_t *bytes))                       \
    X(wmul_pack, (const struct pd_wmul *m, int part, uint8_t *to))                                 \
    X(adamw, (int64_t n, float *p, const float *g, float *m, float *v, const float *c))

struct pd_kernels {
    const char *isa;
#define X(name, args) void(*name) args;
    PD_KERNEL_LIST(X)
#undef X
};

extern const struct pd_kernels pd_kernels_ref;
#ifdef PD_HAVE_X86_KERNELS
extern const struct pd_kernels pd_kernels_avx2;
extern const struct pd_kernels pd_kernels_avx512;
extern const struct pd_kernels pd_kernels_vnni; /* and AVX-512 VNNI */
#endif

const struct pd_kernels *pd_kernels(void); /* the chosen one */

/* How many bytes ahead of the one row of weights that it reads a thread should ask for, with
 * vectors of 512 bits; 0: nothing. Intel's prefetchers stop at the end of each page of 4 kB; Zen
 * 4's do best left alone. */
size_t pd_backend_ahead(void);

/* Scratch memory kept between calls, one slot per purpose so that nested users do not collide; at
 * least n floats, 64-byte aligned, contents undefined. NULL when memory is gone. */
enum pd_scratch_slot {
    PD_SCRATCH_ATTN,
    PD_SCRATCH_LINEAR_A,
    PD_SCRATCH_LINEAR_B,
    PD_SCRATCH_LINEAR_C,
    PD_SCRATCH_LOGITS,
    PD_SCRATCH_HEAD,
    PD_SCRATCH_HEAD_GRAD,
    PD_SCRATCH_ROWS,
    PD_SCRATCH_PANELS,
    PD_SCRATCH_INTEGERS,
    PD_SCRATCH_COUNT
};
PD_CHECKED float *pd_scratch(enum pd_scratch_slot slot, size_t n);

/* Query rows (of all heads of a group together) and keys of one attention tile. The padded row
 * count is a multiple of every vector length. */
enum { PD_ATTN_ROWS = 48, PD_ATTN_KEYS = 64 };
static inline int64_t pd_attn_tile_rows(int64_t group) /* tokens of a tile */
{
    return group < PD_ATTN_ROWS ? PD_ATTN_ROWS / group : 1;
}
static inline int64_t pd_attn_padded_rows(int64_t group)
{
    return (pd_attn_tile_rows(group) * group + 15) / 16 * 16;
}

/* CALL for i = 0, step, 2 step, ... below n, all `floats` of work. Where those are few, without a
 * region of one thread, which costs as much as a token's norm. */
#define PD_SHARE(i, n, step, floats, CALL)                                                         \
    do {                                                                                           \
        if ((floats) <= PD_PARALLEL_FLOATS) {                                                      \
            for (int64_t i = 0; i < (n); i += (step))                                              \
                CALL;                                                                              \
        } else {                                                                                   \
            _Pragma("omp parallel for schedule(static)") for (int64_t i = 0; i < (n); i += (step)) \
                CALL;                                                                              \
        }                                                                                          \
    } while (0)

#endif
