/* Paged KV cache: a pool of pages, and nodes that own some of them.
 *
 * A page holds PD_KV_PAGE consecutive tokens of one node, for all layers: per layer the keys (with
 * their positions' rotation) then the values, as pd_attn_store writes them: row-major (token,
 * kv_heads * head_dim), or quads of tokens with INT8, and then the scales (kv_heads, PD_KV_PAGE)
 * follow either. A node is a run of tokens after its parent's; a prompt is a node, its n answers
 * are children, so the prompt's pages stand once. Nodes are counted: a child holds its parent, and
 * pages go back to the pool when the last holder is gone.
 *
 *      prompt [page 4][page 9 (12 of 16 rows)]
 *        |-- answer 0 [page 11]
 *        `-- answer 1 [page 3][page 7]
 *
 * The pool's memory is reserved at once but touched page by page, low numbers first.
 * Owner thread only. */
#ifndef PD_LM_KV_H
#define PD_LM_KV_H

#include "tensor/attention.h"

enum { PD_KV_PAGE = 16 };
_Static_assert(PD_KV_PAGE % PD_KV_QUAD == 0, "a page holds whole quads");

struct pd_kv_shape {
    int n_layers;
    int kv_heads, head_dim;
    enum pd_kv_type type; /* the smaller, the less memory and the sooner read */
};

struct pd_kv_node {
    struct pd_kv_node *parent; /* held, or NULL */
    int refs;
    int64_t base; /* tokens before this node = position of its first token */
    int64_t len;  /* tokens held */
    int *pages;
    int n_pages, cap_pages;
};

struct pd_kv;

/* A pool of max_pages pages. PD_NOMEM. */
PD_CHECKED enum pd_rc pd_kv_new(const struct pd_kv_shape *shape, int64_t max_pages,
                                struct pd_kv **out, struct pd_err *err);
void pd_kv_free(struct pd_kv *kv); /* accepts NULL; all nodes must be gone */
int64_t pd_kv_free_pages(const struct pd_kv *kv);
int64_t pd_kv_page_bytes(const struct pd_kv_shape *shape);
int64_t pd_kv_pages_for(int64_t n_tokens);

/* An empty node after `parent` (NULL = a root), which may not grow any more. refs = 1. */
struct pd_kv_node *pd_kv_node_new(struct pd_kv_node *parent);
void pd_kv_node_unref(struct pd_kv *kv, struct pd_kv_node *node); /* accepts NULL */
/* Pages for n more tokens; false when the pool has not enough (nothing taken then). */
PD_CHECKED bool pd_kv_node_reserve(struct pd_kv *kv, struct pd_kv_node *node, int64_t n);

enum pd_kv_type pd_kv_type(const struct pd_kv *kv);
/* A page's keys or values. */
struct pd_kv_rows {
    void *first;
    float *scales; /* head h's at h * PD_KV_PAGE; NULL but for INT8 */
};
struct pd_kv_rows pd_kv_keys(const struct pd_kv *kv, int layer, int page);
struct pd_kv_rows pd_kv_values(const struct pd_kv *kv, int layer, int page);

#endif
