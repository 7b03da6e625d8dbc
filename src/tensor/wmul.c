#include "tensor/wmul.h"
#include "tensor/kernels.h"

/* The largest integer that is two signed bytes, 256 hi + lo (kernel/wmul_packed.c). */
#define TWO_BYTES (256 * 127.0f + 127.0f)

/* The largest integers of a dtype's weights times 32 times this stay within 32 bits. */
static float limit_of(enum pd_dtype t)
{
    switch (t) {
    case PD_DTYPE_F32:
    case PD_DTYPE_F16:
    case PD_DTYPE_BF16:
        return 8191.0f; /* weights to 8192 */
    case PD_DTYPE_Q6_K:
        return 16383.0f; /* 32 x 128 */
    default:
        return 32767.0f; /* 128 at most */
    }
}

/* Whether all weights have 4 bits, so that x may have 8. */
static bool in_bytes(const struct pd_wmul *m)
{
    bool all = m->mode == PD_WMUL_BYTE;
    for (int i = 0; i < m->n_parts; i++)
        all = all && (m->part[i].dtype == PD_DTYPE_Q4_0 || m->part[i].dtype == PD_DTYPE_Q4_1);
    return all;
}

bool pd_wmul_in_byte_panels(const struct pd_wmul *m)
{
    return m->packed && in_bytes(m);
}

static enum pd_rc reserve(struct pd_wmul_call *c, struct pd_err *err)
{
    const size_t threads = (size_t)pd_backend_threads();
    const size_t share = sizeof *c->shares / sizeof(float);
    c->blocks = (c->m->in + 31) / 32;
    const int64_t table =
        c->bytes && c->m->packed ? c->blocks * PD_WMUL_QUARTERS * PD_WMUL_WIDTH : 0;
    c->room = table > PD_WMUL_SCRATCH ? table : PD_WMUL_SCRATCH;
    c->scratch = pd_scratch(PD_SCRATCH_PANELS, threads * ((size_t)c->room + share));
    if (!c->scratch)
        return PD_FAIL(err, PD_NOMEM, "no memory for panels of weights");
    c->shares = (struct pd_wmul_share *)(void *)(c->scratch + threads * (size_t)c->room);
    if (c->m->mode == PD_WMUL_F32)
        return PD_OK;
    c->ldq = 32 * c->blocks + 32; /* rows at powers of two would share cache sets */
    const size_t T = (size_t)c->T, nq = T * (size_t)c->ldq / 2, ns = T * (size_t)c->blocks;
    float *p = pd_scratch(PD_SCRATCH_INTEGERS, nq + 5 * ns + 64);
    if (!p)
        return PD_FAIL(err, PD_NOMEM, "no memory for %zu rows of activations", T);
    c->q = (int16_t *)(void *)p;
    c->scale = p + nq;
    c->sum = c->scale + ns;
    c->octave = c->sum + ns;
    c->count = (int32_t *)(void *)(c->octave + ns);
    c->place = c->count + ns;
    c->limit = TWO_BYTES;
    for (int i = 0; i < c->m->n_parts; i++) {
        const float limit = limit_of(c->m->part[i].dtype);
        c->limit = limit < c->limit ? limit : c->limit;
    }
    return PD_OK;
}

enum pd_rc pd_wmul_run(const struct pd_wmul *m, int64_t first, int64_t n, int64_t T, const float *x,
                       int64_t ldx, float *y, int64_t ldy, bool add, struct pd_err *err)
{
    struct pd_wmul_call c = {
        .m = m, .first = first, .n = n, .T = T, .x = x, .ldx = ldx, .y = y, .ldy = ldy, .add = add};
    if (T == 0 || n == 0)
        return PD_OK;
    const struct pd_kernels *k = pd_kernels();
    c.bytes = in_bytes(m);
    c.ahead = pd_backend_ahead();
    const enum pd_rc rc = reserve(&c, err);
    if (rc != PD_OK)
        return rc;
    if (m->mode == PD_WMUL_F32)
        k->wmul_f32(&c);
    else if (m->packed)
        k->wmul_packed(&c);
    else if (c.bytes)
        k->wmul_byte(&c);
    else
        k->wmul_int(&c);
    return PD_OK;
}

size_t pd_wmul_packed_bytes(const struct pd_wmul *m, int i)
{
    size_t bytes;
    pd_kernels()->wmul_packed_bytes(m, i, &bytes);
    return bytes;
}

void pd_wmul_pack(const struct pd_wmul *m, int i, uint8_t *to)
{
    pd_kernels()->wmul_pack(m, i, to);
}
