/* GGUF files made by hand: good ones, and ones that lie. */
#ifndef GGUF_WRITER_H
#define GGUF_WRITER_H

#include "lm/gguf.h"

struct gguf_writer {
    struct pd_buf kvs, infos, data;
    uint64_t n_kvs, n_tensors;
};

static inline void gw_init(struct gguf_writer *w)
{
    *w = (struct gguf_writer){0};
    pd_buf_init(&w->kvs, 0);
    pd_buf_init(&w->infos, 0);
    pd_buf_init(&w->data, 0);
}

static inline void gw_release(struct gguf_writer *w)
{
    pd_buf_release(&w->kvs);
    pd_buf_release(&w->infos);
    pd_buf_release(&w->data);
}

static inline void gw_u32(struct pd_buf *b, uint32_t v)
{
    pd_buf_add(b, &v, sizeof v);
}

static inline void gw_u64(struct pd_buf *b, uint64_t v)
{
    pd_buf_add(b, &v, sizeof v);
}

static inline void gw_text(struct pd_buf *b, const char *s)
{
    gw_u64(b, strlen(s));
    pd_buf_adds(b, s);
}

static inline void gw_key(struct gguf_writer *w, const char *key, enum pd_gguf_type type)
{
    gw_text(&w->kvs, key);
    gw_u32(&w->kvs, type);
    w->n_kvs++;
}

static inline void gw_kv_u32(struct gguf_writer *w, const char *key, uint32_t v)
{
    gw_key(w, key, PD_GGUF_U32);
    gw_u32(&w->kvs, v);
}

static inline void gw_kv_f32(struct gguf_writer *w, const char *key, float v)
{
    gw_key(w, key, PD_GGUF_F32);
    pd_buf_add(&w->kvs, &v, sizeof v);
}

static inline void gw_kv_bool(struct gguf_writer *w, const char *key, bool v)
{
    gw_key(w, key, PD_GGUF_BOOL);
    pd_buf_addc(&w->kvs, v);
}

static inline void gw_kv_str(struct gguf_writer *w, const char *key, const char *v)
{
    gw_key(w, key, PD_GGUF_STR);
    gw_text(&w->kvs, v);
}

static inline void gw_kv_strs(struct gguf_writer *w, const char *key, const char *const *v,
                              size_t n)
{
    gw_key(w, key, PD_GGUF_ARR);
    gw_u32(&w->kvs, PD_GGUF_STR);
    gw_u64(&w->kvs, n);
    for (size_t i = 0; i < n; i++)
        gw_text(&w->kvs, v[i]);
}

static inline void gw_kv_i32s(struct gguf_writer *w, const char *key, const int32_t *v, size_t n)
{
    gw_key(w, key, PD_GGUF_ARR);
    gw_u32(&w->kvs, PD_GGUF_I32);
    gw_u64(&w->kvs, n);
    pd_buf_add(&w->kvs, v, n * sizeof *v);
}

/* dims innermost first, as the format has it; bytes of data are appended at the next multiple
 * of 32. */
static inline void gw_tensor(struct gguf_writer *w, const char *name, int ndim,
                             const uint64_t *dims, uint32_t type, const void *bytes, size_t n)
{
    while (w->data.len % 32 != 0)
        pd_buf_addc(&w->data, 0);
    gw_text(&w->infos, name);
    gw_u32(&w->infos, (uint32_t)ndim);
    for (int d = 0; d < ndim; d++)
        gw_u64(&w->infos, dims[d]);
    gw_u32(&w->infos, type);
    gw_u64(&w->infos, w->data.len);
    pd_buf_add(&w->data, bytes, n);
    w->n_tensors++;
}

/* The whole file into *out (initialised by the caller). */
static inline void gw_finish(const struct gguf_writer *w, struct pd_buf *out)
{
    pd_buf_adds(out, "GGUF");
    gw_u32(out, 3);
    gw_u64(out, w->n_tensors);
    gw_u64(out, w->n_kvs);
    pd_buf_addstr(out, pd_buf_str(&w->kvs));
    pd_buf_addstr(out, pd_buf_str(&w->infos));
    while (out->len % 32 != 0)
        pd_buf_addc(out, 0);
    pd_buf_addstr(out, pd_buf_str(&w->data));
}

#endif
