#include "lm/kv.h"
#include "base/mem.h"

struct pd_kv {
    struct pd_kv_shape shape;
    size_t page_bytes, half_bytes; /* half: the keys, or the values, of a layer */
    char *slab;
    int *free_list; /* a stack; low page numbers come out first so that little memory is touched */
    int64_t n_free, n_pages;
};

static int64_t rows_bytes(const struct pd_kv_shape *shape)
{
    const int64_t row = shape->kv_heads * pd_kv_head_values(shape->type, shape->head_dim);
    return PD_KV_PAGE * row * pd_kv_value_bytes(shape->type);
}

static int64_t half_bytes(const struct pd_kv_shape *shape)
{
    const int64_t scales = shape->type == PD_KV_INT8 ? PD_KV_PAGE * shape->kv_heads : 0;
    return rows_bytes(shape) + scales * (int64_t)sizeof(float);
}

int64_t pd_kv_page_bytes(const struct pd_kv_shape *shape)
{
    return 2 * shape->n_layers * half_bytes(shape);
}

int64_t pd_kv_pages_for(int64_t n_tokens)
{
    return (n_tokens + PD_KV_PAGE - 1) / PD_KV_PAGE;
}

enum pd_rc pd_kv_new(const struct pd_kv_shape *shape, int64_t max_pages, struct pd_kv **out,
                     struct pd_err *err)
{
    PD_ASSERT(shape->n_layers > 0 && shape->kv_heads > 0 && shape->head_dim > 0);
    PD_ASSERT(max_pages > 0 && max_pages < INT32_MAX);
    struct pd_kv *kv = pd_xalloc(sizeof *kv);
    kv->shape = *shape;
    kv->page_bytes = (size_t)pd_kv_page_bytes(shape);
    kv->half_bytes = (size_t)half_bytes(shape);
    kv->n_pages = kv->n_free = max_pages;
    kv->slab = pd_try_aligned((size_t)max_pages, kv->page_bytes);
    kv->free_list = pd_try_alloc((size_t)max_pages, sizeof *kv->free_list);
    if (!kv->slab || !kv->free_list) {
        pd_kv_free(kv);
        return PD_FAIL(err, PD_NOMEM, "no memory for a KV cache of %lld pages of %lld bytes",
                       (long long)max_pages, (long long)pd_kv_page_bytes(shape));
    }
    for (int64_t i = 0; i < max_pages; i++)
        kv->free_list[i] = (int)(max_pages - 1 - i);
    *out = kv;
    return PD_OK;
}

void pd_kv_free(struct pd_kv *kv)
{
    if (!kv)
        return;
    pd_aligned_free(kv->slab);
    pd_free(kv->free_list);
    pd_free(kv);
}

int64_t pd_kv_free_pages(const struct pd_kv *kv)
{
    return kv->n_free;
}

struct pd_kv_node *pd_kv_node_new(struct pd_kv_node *parent)
{
    struct pd_kv_node *node = pd_xalloc(sizeof *node);
    node->refs = 1;
    if (parent) {
        node->parent = parent;
        node->base = parent->base + parent->len;
        parent->refs++;
    }
    return node;
}

void pd_kv_node_unref(struct pd_kv *kv, struct pd_kv_node *node)
{
    while (node && --node->refs == 0) {
        struct pd_kv_node *parent = node->parent;
        for (int i = node->n_pages - 1; i >= 0; i--)
            kv->free_list[kv->n_free++] = node->pages[i];
        PD_ASSERT(kv->n_free <= kv->n_pages);
        pd_free(node->pages);
        pd_free(node);
        node = parent;
    }
}

bool pd_kv_node_reserve(struct pd_kv *kv, struct pd_kv_node *node, int64_t n)
{
    int64_t want = pd_kv_pages_for(node->len + n);
    if (want - node->n_pages > kv->n_free)
        return false;
    if (want > node->cap_pages) {
        node->cap_pages = (int)(want + want / 2 + 2);
        node->pages = pd_xrealloc(node->pages, (size_t)node->cap_pages * sizeof *node->pages);
    }
    while (node->n_pages < want)
        node->pages[node->n_pages++] = kv->free_list[--kv->n_free];
    return true;
}

enum pd_kv_type pd_kv_type(const struct pd_kv *kv)
{
    return kv->shape.type;
}

/* Keys, or values, of a page and layer: half 0 or 1. */
static struct pd_kv_rows rows(const struct pd_kv *kv, int layer, int page, int half)
{
    PD_ASSERT(page >= 0 && page < kv->n_pages && layer >= 0 && layer < kv->shape.n_layers);
    const size_t at = (2 * (size_t)layer + (size_t)half) * kv->half_bytes;
    char *first = kv->slab + (size_t)page * kv->page_bytes + at;
    float *scales = (float *)(void *)(first + rows_bytes(&kv->shape));
    return (struct pd_kv_rows){first, kv->shape.type == PD_KV_INT8 ? scales : NULL};
}

struct pd_kv_rows pd_kv_keys(const struct pd_kv *kv, int layer, int page)
{
    return rows(kv, layer, page, 0);
}

struct pd_kv_rows pd_kv_values(const struct pd_kv *kv, int layer, int page)
{
    return rows(kv, layer, page, 1);
}
