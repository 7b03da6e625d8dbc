/* The oneDNN calls that differ between 2.x (Debian 12) and 3.x, under one set of names. Private. */
#ifndef PD_TENSOR_ONEDNN_H
#define PD_TENSOR_ONEDNN_H

#include <dnnl.h>
#include <stdbool.h>

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t pd_md; /* a handle */
#define PD_MD(md) (md)
static inline dnnl_status_t pd_md_strides(pd_md *md, const dnnl_dims_t dims, dnnl_data_type_t dt,
                                          const dnnl_dims_t strides)
{
    return dnnl_memory_desc_create_with_strides(md, 2, dims, dt, strides);
}
static inline dnnl_status_t pd_md_any(pd_md *md, const dnnl_dims_t dims, dnnl_data_type_t dt)
{
    return dnnl_memory_desc_create_with_tag(md, 2, dims, dt, dnnl_format_tag_any);
}
static inline void pd_md_free(pd_md *md)
{
    if (*md)
        (void)dnnl_memory_desc_destroy(*md);
    *md = NULL;
}
static inline dnnl_status_t pd_md_copy(pd_md *to, const_dnnl_memory_desc_t from)
{
    return dnnl_memory_desc_clone(to, from);
}
static inline dnnl_status_t pd_matmul_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t e, pd_md *src,
                                         pd_md *w, pd_md *dst, const_dnnl_primitive_attr_t attr)
{
    return dnnl_matmul_primitive_desc_create(pd, e, *src, *w, NULL, *dst, attr);
}
static inline dnnl_status_t pd_append_sum(dnnl_post_ops_t ops)
{
    return dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef);
}
#else
typedef dnnl_memory_desc_t pd_md; /* a struct */
#define PD_MD(md) (&(md))
static inline dnnl_status_t pd_md_strides(pd_md *md, const dnnl_dims_t dims, dnnl_data_type_t dt,
                                          const dnnl_dims_t strides)
{
    return dnnl_memory_desc_init_by_strides(md, 2, dims, dt, strides);
}
static inline dnnl_status_t pd_md_any(pd_md *md, const dnnl_dims_t dims, dnnl_data_type_t dt)
{
    return dnnl_memory_desc_init_by_tag(md, 2, dims, dt, dnnl_format_tag_any);
}
static inline void pd_md_free(pd_md *md)
{
    (void)md;
}
static inline dnnl_status_t pd_md_copy(pd_md *to, const dnnl_memory_desc_t *from)
{
    *to = *from;
    return dnnl_success;
}
static inline dnnl_status_t pd_matmul_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t e, pd_md *src,
                                         pd_md *w, pd_md *dst, const_dnnl_primitive_attr_t attr)
{
    dnnl_matmul_desc_t d;
    const dnnl_status_t s = dnnl_matmul_desc_init(&d, src, w, NULL, dst);
    return s != dnnl_success ? s : dnnl_primitive_desc_create(pd, &d, attr, e, NULL);
}
static inline dnnl_status_t pd_append_sum(dnnl_post_ops_t ops)
{
    return dnnl_post_ops_append_sum(ops, 1.0f);
}
#endif

#endif
