/* Weights in the order in which they are multiplied: the layouts stand in panel.h. */
#include "base/mem.h"
#include "tensor/kernel/panel.h"

/* Products that gain by panels: in fp32 mode floats, which need not be turned; and Q formats whose
 * bytes an instruction multiplies four at a time. */
static bool gains(const struct pd_wmul *m)
{
    bool all = true;
    for (int i = 0; i < m->n_parts; i++) {
        const enum pd_dtype t = m->part[i].dtype;
#ifdef __AVX512VNNI__
        const bool bytes = t == PD_DTYPE_Q8_0 || t == PD_DTYPE_Q4_0 || t == PD_DTYPE_Q4_1;
#else
        const bool bytes = false;
#endif
        all = all && (m->mode == PD_WMUL_F32 ? is_float(t) : bytes);
    }
    return all;
}

static size_t panels_bytes(const struct pd_wmul *m, int i)
{
    const struct pd_wmul_part *p = &m->part[i];
    return (size_t)((p->rows + WIDTH - 1) / WIDTH) * packed_panel(p->dtype, m->in);
}

void PD_KERNEL(wmul_packed_bytes)(const struct pd_wmul *m, int part, size_t *bytes)
{
    *bytes = gains(m) ? panels_bytes(m, part) : 0;
}

/* PD_LANES outputs of a block from bytes `at` of their rows on: four inputs of each together. */
PD_INLINE void pack_steps(const int steps, const uint8_t *const *row, size_t at, uint32_t flip,
                          uint8_t *to)
{
    for (int r = 0; r < PD_LANES; r++)
        for (int k = 0; k < steps; k++) {
            uint32_t four;
            memcpy(&four, row[r] + at + 4 * k, sizeof four);
            four ^= flip;
            memcpy(to + 4 * (k * PD_LANES + r), &four, sizeof four);
        }
}

static void pack_group(enum pd_dtype t, const uint8_t *const *row, int64_t blocks, uint8_t *to)
{
    const size_t step = bytes_of_32(t), head = t == PD_DTYPE_Q4_1 ? 4 : 2;
    memset(to, 0, packed_group(t, blocks)); /* where the last pair is half of one */
    for (int64_t b = 0; b < blocks; b++) {
        const size_t at = (size_t)b * step;
        uint8_t *pair = to + (size_t)(b / 2) * packed_pair(t);
        uint8_t *scale = pair + b % 2 * 2 * PD_LANES, *min = scale + 4 * PD_LANES;
        for (int r = 0; r < PD_LANES; r++)
            memcpy(scale + 2 * r, row[r] + at, 2);
        for (int r = 0; t == PD_DTYPE_Q4_1 && r < PD_LANES; r++)
            memcpy(min + 2 * r, row[r] + at + 2, 2);
        uint8_t *q = pair + packed_head(t) + (size_t)(b % 2) * packed_block(t);
        if (t == PD_DTYPE_Q8_0)
            pack_steps(8, row, at + head, 0x80808080, q);
        else
            pack_steps(4, row, at + head, 0, q);
    }
}

static void pack_floats(size_t size, const uint8_t *const *row, int64_t in, uint8_t *to)
{
    enum { DEEP = 32 }; /* of which the cache keeps all columns */
    for (int64_t k0 = 0; k0 < in; k0 += DEEP)
        for (int r = 0; r < WIDTH; r++)
            for (int64_t k = k0; k < k0 + DEEP && k < in; k++)
                memcpy(to + (size_t)(k * WIDTH + r) * size, row[r] + (size_t)k * size, size);
}

static void pack_floats_any(enum pd_dtype t, const uint8_t *const *row, int64_t in, uint8_t *to)
{
    if (t == PD_DTYPE_F32)
        pack_floats(4, row, in, to);
    else
        pack_floats(2, row, in, to);
}

void PD_KERNEL(wmul_pack)(const struct pd_wmul *m, int part, uint8_t *to)
{
    const struct pd_wmul_part *p = &m->part[part];
    const size_t panel = packed_panel(p->dtype, m->in);
    const int64_t panels = (p->rows + WIDTH - 1) / WIDTH;
    uint8_t *zeros = pd_xalloc(p->row_bytes); /* for outputs that are not there */
#pragma omp parallel for schedule(static) if (p->rows * m->in > PD_PARALLEL_FLOATS)
    for (int64_t i = 0; i < panels; i++) {
        const uint8_t *row[WIDTH];
        for (int64_t r = 0; r < WIDTH; r++)
            row[r] =
                i * WIDTH + r < p->rows ? p->w + (size_t)(i * WIDTH + r) * p->row_bytes : zeros;
        uint8_t *at = to + (size_t)i * panel;
        if (is_float(p->dtype)) {
            pack_floats_any(p->dtype, row, m->in, at);
            continue;
        }
        for (int g = 0; g < 2; g++)
            pack_group(p->dtype, row + g * PD_LANES, m->in / 32, at + (size_t)g * panel / 2);
    }
    pd_free(zeros);
}
