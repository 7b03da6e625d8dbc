#include "lm/gguf_write.h"

#include "base/sig.h"

enum { ALIGNMENT = 32, VERSION = 3 };

static void add_u32(struct pd_buf *b, uint32_t v)
{
    pd_buf_add(b, &v, sizeof v); /* the machines we run on are little-endian */
}

static void add_u64(struct pd_buf *b, uint64_t v)
{
    pd_buf_add(b, &v, sizeof v);
}

static void add_str(struct pd_buf *b, struct pd_str s)
{
    add_u64(b, s.len);
    pd_buf_addstr(b, s);
}

static uint64_t padded(uint64_t n)
{
    return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

void pd_gguf_writer_init(struct pd_gguf_writer *w)
{
    *w = (struct pd_gguf_writer){0};
    pd_buf_init(&w->keys, 0);
    pd_buf_init(&w->infos, 0);
}

void pd_gguf_writer_release(struct pd_gguf_writer *w)
{
    pd_out_abandon(&w->out);
    pd_buf_release(&w->keys);
    pd_buf_release(&w->infos);
}

/* ---- keys ---- */

static void put_key(struct pd_gguf_writer *w, const char *key, enum pd_gguf_type type)
{
    add_str(&w->keys, pd_str_from(key));
    add_u32(&w->keys, type);
    w->n_keys++;
}

void pd_gguf_put_str(struct pd_gguf_writer *w, const char *key, struct pd_str v)
{
    put_key(w, key, PD_GGUF_STR);
    add_str(&w->keys, v);
}

void pd_gguf_put_strz(struct pd_gguf_writer *w, const char *key, const char *v)
{
    pd_gguf_put_str(w, key, pd_str_from(v));
}

void pd_gguf_put_u32(struct pd_gguf_writer *w, const char *key, uint32_t v)
{
    put_key(w, key, PD_GGUF_U32);
    add_u32(&w->keys, v);
}

void pd_gguf_put_f32(struct pd_gguf_writer *w, const char *key, float v)
{
    put_key(w, key, PD_GGUF_F32);
    pd_gguf_item_f32(w, v);
}

void pd_gguf_put_bool(struct pd_gguf_writer *w, const char *key, bool v)
{
    put_key(w, key, PD_GGUF_BOOL);
    pd_buf_addc(&w->keys, (char)v);
}

void pd_gguf_put_array(struct pd_gguf_writer *w, const char *key, enum pd_gguf_type elem,
                       uint64_t n)
{
    put_key(w, key, PD_GGUF_ARR);
    add_u32(&w->keys, elem);
    add_u64(&w->keys, n);
}

void pd_gguf_item_str(struct pd_gguf_writer *w, struct pd_str v)
{
    add_str(&w->keys, v);
}

void pd_gguf_item_u32(struct pd_gguf_writer *w, uint32_t v)
{
    add_u32(&w->keys, v);
}

void pd_gguf_item_f32(struct pd_gguf_writer *w, float v)
{
    pd_buf_add(&w->keys, &v, sizeof v);
}

/* ---- tensors ---- */

void pd_gguf_add_tensor(struct pd_gguf_writer *w, const char *name, int ndim, const int64_t *shape,
                        enum pd_dtype dtype)
{
    size_t rows = 1;
    add_str(&w->infos, pd_str_from(name));
    add_u32(&w->infos, (uint32_t)ndim);
    for (int d = ndim - 1; d >= 0; d--)
        add_u64(&w->infos, (uint64_t)shape[d]);
    for (int d = 0; d < ndim - 1; d++)
        rows *= (size_t)shape[d];
    add_u32(&w->infos, (uint32_t)pd_dtype_info(dtype)->ggml);
    add_u64(&w->infos, w->planned);
    size_t row = pd_dtype_row_bytes(dtype, (size_t)shape[ndim - 1]);
    PD_ASSERT(row > 0);
    w->planned += padded(rows * row);
    w->n_tensors++;
}

static enum pd_rc write_zeros(struct pd_gguf_writer *w, size_t n, struct pd_err *err)
{
    static const char zeros[ALIGNMENT];
    return pd_out_write(&w->out, (struct pd_str){zeros, n}, err);
}

enum pd_rc pd_gguf_writer_open(struct pd_gguf_writer *w, const char *path, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_buf head;
    pd_buf_init(&head, 0);
    pd_buf_adds(&head, "GGUF");
    add_u32(&head, VERSION);
    add_u64(&head, w->n_tensors);
    add_u64(&head, w->n_keys);
    if (head.failed || w->keys.failed || w->infos.failed) {
        rc = PD_FAIL(err, PD_NOMEM, "%s: no memory for its keys", path);
        goto out;
    }
    uint64_t before = head.len + w->keys.len + w->infos.len;
    pd_out_sweep(path);
    PD_TRY(pd_out_open(&w->out, path, err));
    PD_TRY(pd_out_write(&w->out, pd_buf_str(&head), err));
    PD_TRY(pd_out_write(&w->out, pd_buf_str(&w->keys), err));
    PD_TRY(pd_out_write(&w->out, pd_buf_str(&w->infos), err));
    PD_TRY(write_zeros(w, (size_t)(padded(before) - before), err));
out:
    pd_buf_release(&head);
    return rc;
}

enum pd_rc pd_gguf_writer_data(struct pd_gguf_writer *w, const void *bytes, size_t n,
                               struct pd_err *err)
{
    enum { PIECE = 1 << 24 };
    enum pd_rc rc = PD_OK;
    for (size_t at = 0; at < n && rc == PD_OK; at += PIECE) {
        size_t len = n - at < PIECE ? n - at : PIECE;
        rc = pd_sig_stop()
                 ? PD_FAIL(err, PD_INTERRUPTED, "interrupted; nothing is written")
                 : pd_out_write(&w->out, (struct pd_str){(const char *)bytes + at, len}, err);
    }
    w->written += n;
    return rc;
}

enum pd_rc pd_gguf_writer_end_tensor(struct pd_gguf_writer *w, struct pd_err *err)
{
    size_t gap = (size_t)(padded(w->written) - w->written);
    w->written += gap;
    return write_zeros(w, gap, err);
}

enum pd_rc pd_gguf_writer_flush(struct pd_gguf_writer *w, struct pd_err *err)
{
    if (fflush(w->out.f) != 0)
        return PD_FAIL_SYS(err, PD_IO, "%s: cannot write", w->out.path);
    return PD_OK;
}

enum pd_rc pd_gguf_writer_commit(struct pd_gguf_writer *w, struct pd_err *err)
{
    PD_ASSERT(w->written == w->planned);
    return pd_out_commit(&w->out, err);
}
