/* Cuts attention into work items (segment tiles forward, trees backward) and hands out scratch. */
#include "tensor/attention.h"
#include "base/mem.h"
#include "tensor/kernels.h"

static int64_t floats_per_thread(const struct pd_attn *a)
{
    const int64_t rp = pd_attn_padded_rows(a->heads / a->kv_heads), d = a->head_dim;
    const int64_t keys = PD_ATTN_KEYS;
    const int64_t words = rp * pd_kv_head_values(PD_KV_INT8, d) / 2;
    return 5 * (rp * d + 16) + 2 * keys * rp + (keys * d + 16) + words + 10 * rp + 64;
}

static void check(const struct pd_attn *a)
{
    PD_ASSERT(a->kv != PD_KV_INT8 || (a->head_dim <= PD_KV_INT8_DIM && a->ldk % PD_KV_LOT == 0 &&
                                      a->hsk % PD_KV_LOT == 0));
    PD_ASSERT(a->heads > 0 && a->kv_heads > 0 && a->heads % a->kv_heads == 0 && a->head_dim > 0);
}

/* n_items of items and scratch for every thread, in one slot. */
static enum pd_rc reserve(const struct pd_attn *a, int64_t n_items, struct pd_attn_item **items,
                          float **mem, struct pd_err *err)
{
    const size_t for_items = ((size_t)n_items * sizeof **items / sizeof(float) + 15) / 16 * 16;
    const size_t for_tiles = (size_t)(floats_per_thread(a) * pd_backend_threads());
    float *p = pd_scratch(PD_SCRATCH_ATTN, for_items + for_tiles);
    if (!p)
        return PD_FAIL(err, PD_NOMEM, "no memory for attention tiles");
    *items = (struct pd_attn_item *)(void *)p;
    *mem = p + for_items;
    return PD_OK;
}

void pd_attn_forward(const struct pd_attn *a, const struct pd_attn_seg *segs, int64_t n_segs)
{
    check(a);
    const int64_t step = pd_attn_tile_rows(a->heads / a->kv_heads);
    int64_t n = 0;
    for (int64_t s = 0; s < n_segs; s++)
        n += (segs[s].n + step - 1) / step;
    if (n == 0)
        return;
    struct pd_attn_item *items = NULL;
    float *mem = NULL;
    struct pd_err err;
    if (reserve(a, n, &items, &mem, &err) != PD_OK) /* a few hundred kB a thread */
        pd_bug("%s", err.msg);
    n = 0;
    for (int64_t s = 0; s < n_segs; s++)
        for (int64_t i = 0; i < segs[s].n; i += step)
            items[n++] = (struct pd_attn_item){
                (int32_t)s, (int32_t)(segs[s].n - i < step ? segs[s].n - i : step), i};
    pd_kernels()->attn_forward(a, segs, items, n, mem, floats_per_thread(a));
}

void pd_attn_store(const struct pd_attn *a, enum pd_kv_half half, int64_t j, const float *x,
                   void *rows, float *scales)
{
    check(a);
    pd_kernels()->attn_store(a, half, j, x, rows, scales);
}

enum pd_rc pd_attn_backward(const struct pd_attn *a, const struct pd_attn_seg *segs, int64_t n_segs,
                            struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    check(a);
    PD_ASSERT(a->kv == PD_KV_F32);
    struct pd_attn_item *items = NULL;
    float *mem = NULL;
    PD_TRY(reserve(a, n_segs, &items, &mem, err));
    int64_t n = 0;
    for (int64_t s = 0; s < n_segs; s++) {
        if (n > 0 && segs[items[n - 1].seg].tree == segs[s].tree)
            items[n - 1].n++;
        else
            items[n++] = (struct pd_attn_item){(int32_t)s, 1, 0};
    }
    pd_kernels()->attn_backward(a, segs, items, n, mem, floats_per_thread(a));
out:
    return rc;
}
