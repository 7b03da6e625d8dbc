#include "tensor/matmul.h"
#include "base/mem.h"
#include "tensor/onednn.h"

#include <string.h>

enum { KEEP = 512, PACK_ROWS = 128 };

static dnnl_engine_t engine;
static dnnl_stream_t stream;
static bool forced;
static enum pd_matmul_type forced_type;

struct key {
    enum pd_matmul_type type;
    int64_t M, N, K, ars, acs, brs, ldc;
    bool add;
};
static struct kept {
    struct key key;
    dnnl_primitive_t prim;
    pd_md a, b, c;
} kept[KEEP];
static int n_kept, n_references;

#define DNN(call)                                                                                  \
    do {                                                                                           \
        const dnnl_status_t s_ = (call);                                                           \
        if (s_ != dnnl_success) {                                                                  \
            rc = PD_FAIL(err, s_ == dnnl_out_of_memory ? PD_NOMEM : PD_BUG,                        \
                         "oneDNN: status %d from %s", (int)s_, #call);                             \
            goto out;                                                                              \
        }                                                                                          \
    } while (0)

static enum pd_rc start(struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    if (!engine)
        DNN(dnnl_engine_create(&engine, dnnl_cpu, 0));
    if (!stream)
        DNN(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags));
out:
    return rc;
}

static dnnl_data_type_t data_type(enum pd_matmul_type t)
{
    return t == PD_MATMUL_BF16 ? dnnl_bf16 : dnnl_f32;
}

static void forget(struct kept *k)
{
    (void)dnnl_primitive_destroy(k->prim);
    pd_md_free(&k->a);
    pd_md_free(&k->b);
    pd_md_free(&k->c);
}

void pd_matmul_release(void)
{
    while (n_kept > 0)
        forget(&kept[--n_kept]);
    if (stream)
        (void)dnnl_stream_destroy(stream);
    if (engine)
        (void)dnnl_engine_destroy(engine);
    stream = NULL;
    engine = NULL;
}

static enum pd_rc describe(const struct key *k, pd_md *a, pd_md *b, pd_md *c, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const dnnl_data_type_t dt = data_type(k->type);
    DNN(pd_md_strides(a, (dnnl_dims_t){k->M, k->K}, dt, (dnnl_dims_t){k->ars, k->acs}));
    if (k->brs > 0)
        DNN(pd_md_strides(b, (dnnl_dims_t){k->K, k->N}, dt, (dnnl_dims_t){k->brs, 1}));
    else
        DNN(pd_md_any(b, (dnnl_dims_t){k->K, k->N}, dt));
    DNN(pd_md_strides(c, (dnnl_dims_t){k->M, k->N}, dnnl_f32, (dnnl_dims_t){k->ldc, 1}));
out:
    return rc;
}

/* The layout of a packed B: what the matmul asks for at PACK_ROWS rows, for every M. */
static enum pd_rc packed_layout(enum pd_matmul_type type, int64_t K, int64_t N, pd_md *md,
                                struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct key k = {type, PACK_ROWS, N, K, K, 1, 0, N, false};
    pd_md a = {0}, b = {0}, c = {0};
    dnnl_primitive_desc_t pd = NULL;
    PD_TRY(start(err));
    PD_TRY(describe(&k, &a, &b, &c, err));
    DNN(pd_matmul_pd(&pd, engine, &a, &b, &c, NULL));
    DNN(pd_md_copy(md, dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0)));
out:
    if (pd)
        (void)dnnl_primitive_desc_destroy(pd);
    pd_md_free(&a);
    pd_md_free(&b);
    pd_md_free(&c);
    return rc;
}

static enum pd_rc make(const struct key *key, struct kept *k, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    dnnl_primitive_desc_t pd = NULL;
    *k = (struct kept){.key = *key};
    PD_TRY(start(err));
    PD_TRY(describe(key, &k->a, &k->b, &k->c, err));
    if (key->brs == 0) {
        pd_md_free(&k->b);
        PD_TRY(packed_layout(key->type, key->K, key->N, &k->b, err));
    }
    DNN(dnnl_primitive_attr_create(&attr));
    DNN(dnnl_post_ops_create(&ops));
    if (key->add)
        DNN(pd_append_sum(ops));
    DNN(dnnl_primitive_attr_set_post_ops(attr, ops));
    DNN(pd_matmul_pd(&pd, engine, &k->a, &k->b, &k->c, attr));
    const char *name;
    DNN(dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name));
    n_references += strncmp(name, "ref", 3) == 0;
    DNN(dnnl_primitive_create(&k->prim, pd));
out:
    if (pd)
        (void)dnnl_primitive_desc_destroy(pd);
    if (ops)
        (void)dnnl_post_ops_destroy(ops);
    if (attr)
        (void)dnnl_primitive_attr_destroy(attr);
    if (rc != PD_OK) {
        pd_md_free(&k->a);
        pd_md_free(&k->b);
        pd_md_free(&k->c);
    }
    return rc;
}

static bool same(const struct key *a, const struct key *b)
{
    return a->type == b->type && a->M == b->M && a->N == b->N && a->K == b->K && a->ars == b->ars &&
           a->acs == b->acs && a->brs == b->brs && a->ldc == b->ldc && a->add == b->add;
}

static enum pd_rc find(const struct key *key, struct kept **out, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct kept k;
    for (int i = 0; i < n_kept; i++)
        if (same(&kept[i].key, key)) {
            *out = &kept[i];
            return PD_OK;
        }
    PD_TRY(make(key, &k, err));
    if (n_kept == KEEP) /* shapes that keep changing: start over */
        while (n_kept > 0)
            forget(&kept[--n_kept]);
    kept[n_kept] = k;
    *out = &kept[n_kept++];
out:
    return rc;
}

int pd_matmul_references(void)
{
    return n_references;
}

/* oneDNN takes what it only reads without const. */
static void *unconst(const void *p)
{
    return (void *)(uintptr_t)p;
}

enum pd_rc pd_matmul_run(const struct pd_matmul *m, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct key key = {m->type, m->M, m->N, m->K, m->ars, m->acs, m->brs, m->ldc, m->add};
    struct kept *k;
    dnnl_memory_t a = NULL, b = NULL, c = NULL;
    PD_TRY(find(&key, &k, err));
    DNN(dnnl_memory_create(&a, PD_MD(k->a), engine, unconst(m->a)));
    DNN(dnnl_memory_create(&b, PD_MD(k->b), engine, unconst(m->b)));
    DNN(dnnl_memory_create(&c, PD_MD(k->c), engine, m->c));
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}};
    DNN(dnnl_primitive_execute(k->prim, stream, 3, args));
    DNN(dnnl_stream_wait(stream));
out:
    if (a)
        (void)dnnl_memory_destroy(a);
    if (b)
        (void)dnnl_memory_destroy(b);
    if (c)
        (void)dnnl_memory_destroy(c);
    return rc;
}

enum pd_rc pd_matmul_pack(enum pd_matmul_type type, int64_t K, int64_t N, const void *b,
                          int64_t brs, int64_t bcs, void **packed, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    pd_md from = {0}, to = {0};
    dnnl_memory_t src = NULL, dst = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t prim = NULL;
    PD_TRY(start(err));
    PD_TRY(packed_layout(type, K, N, &to, err));
    DNN(pd_md_strides(&from, (dnnl_dims_t){K, N}, data_type(type), (dnnl_dims_t){brs, bcs}));
    if (!*packed)
        *packed = pd_try_aligned(dnnl_memory_desc_get_size(PD_MD(to)), 1);
    if (!*packed) {
        rc = PD_FAIL(err, PD_NOMEM, "no memory to pack %lld x %lld weights", (long long)K,
                     (long long)N);
        goto out;
    }
    DNN(dnnl_memory_create(&src, PD_MD(from), engine, unconst(b)));
    DNN(dnnl_memory_create(&dst, PD_MD(to), engine, *packed));
    DNN(dnnl_reorder_primitive_desc_create(&pd, PD_MD(from), engine, PD_MD(to), engine, NULL));
    DNN(dnnl_primitive_create(&prim, pd));
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, src}, {DNNL_ARG_TO, dst}};
    DNN(dnnl_primitive_execute(prim, stream, 2, args));
    DNN(dnnl_stream_wait(stream));
out:
    if (prim)
        (void)dnnl_primitive_destroy(prim);
    if (pd)
        (void)dnnl_primitive_desc_destroy(pd);
    if (src)
        (void)dnnl_memory_destroy(src);
    if (dst)
        (void)dnnl_memory_destroy(dst);
    pd_md_free(&from);
    pd_md_free(&to);
    return rc;
}

void pd_matmul_force(enum pd_matmul_type t, bool on)
{
    forced = on;
    forced_type = t;
}

enum pd_matmul_type pd_matmul_type(void)
{
    static int known = -1;
    if (forced)
        return forced_type;
    if (known < 0) { /* oneDNN has bf16 from AVX-512 on */
        pd_md md = {0};
        known = packed_layout(PD_MATMUL_BF16, 64, 64, &md, NULL) == PD_OK ? PD_MATMUL_BF16
                                                                          : PD_MATMUL_NONE;
        pd_md_free(&md);
    }
    return (enum pd_matmul_type)known;
}
