/* Weights in the order in which they are multiplied: the layouts stand in panel.h. */
#include "tensor/kernel/panel.h"

/* Products that gain by panels: in fp32 mode those of floats, which need not be turned; in integers
 * those of floats, of 8 bits, of 4 bits where x has 8, and with VNNI any of 8 and 4 bits; but never
 * of two forms (wmul_packed.c) in one. */
static bool gains(const struct pd_wmul *m)
{
    int floats = 0, eight = 0, four = 0;
    for (int i = 0; i < m->n_parts; i++) {
        const enum pd_dtype t = m->part[i].dtype;
        floats += is_float(t);
        eight += t == PD_DTYPE_Q8_0;
        four += t == PD_DTYPE_Q4_0 || t == PD_DTYPE_Q4_1;
    }
    const int n = m->n_parts;
    if (PD_LANES < 8 || m->mode == PD_WMUL_F32)
        return m->mode == PD_WMUL_F32 && floats == n;
    return floats == n || eight == n || (HAS_VNNI && eight + four == n) ||
           (PD_LANES == 8 && m->mode == PD_WMUL_BYTE && four == n);
}

static size_t panels_bytes(const struct pd_wmul *m, int i)
{
    const struct pd_wmul_part *p = &m->part[i];
    return (size_t)((p->rows + WIDTH - 1) / WIDTH) * packed_panel(m, p->dtype);
}

void PD_KERNEL(wmul_packed_bytes)(const struct pd_wmul *m, int part, size_t *bytes)
{
    *bytes = gains(m) ? panels_bytes(m, part) : 0;
}

/* The integers of a block, from bytes `at` of their rows on: four inputs of each output together.
 */
PD_INLINE void pack_steps(const int steps, const uint8_t *const *row, size_t at, uint32_t flip,
                          uint8_t *to)
{
    for (int r = 0; r < WIDTH; r++)
        for (int k = 0; k < steps; k++) {
            uint32_t four;
            memcpy(&four, row[r] + at + 4 * k, sizeof four);
            four ^= flip;
            memcpy(to + 4 * (k * WIDTH + r), &four, sizeof four);
        }
}

/* Two inputs of each output together. */
PD_INLINE void pack_pairs(const uint8_t *const *row, size_t at, uint8_t *to)
{
    for (int r = 0; r < WIDTH; r++)
        for (int k = 0; k < 16; k++)
            memcpy(to + 2 * (k * WIDTH + r), row[r] + at + 2 * k, 2);
}

static void pack_block(enum pd_dtype t, const uint8_t *const *row, size_t at, uint8_t *to)
{
    const size_t head = t == PD_DTYPE_Q4_1 ? 4 : 2;
    uint8_t *scales = to + packed_integers(t); /* and mins */
    for (int r = 0; r < WIDTH; r++)
        for (size_t i = 0; i < head; i += 2)
            memcpy(scales + i * WIDTH + 2 * r, row[r] + at + i, 2);
    if (t == PD_DTYPE_Q8_0 && HAS_VNNI)
        pack_steps(8, row, at + head, 0x80808080, to);
    else if (t == PD_DTYPE_Q8_0)
        pack_pairs(row, at + head, to);
    else
        pack_steps(4, row, at + head, 0, to);
}

/* The same of floats, as words. */
PD_INLINE void pack_words(const enum pd_dtype t, const uint8_t *const *row, int64_t kb,
                          int64_t left, uint8_t *to)
{
    for (int r = 0; r < WIDTH; r++) {
        const struct block32 b = block_at(t, row[r], kb, left);
        uint32_t pair[16];
        memcpy(pair, &b.lo, sizeof b.lo);
        memcpy(pair + 8, &b.hi, sizeof b.hi);
        const uint16_t scale = (uint16_t)(float_bits(b.scale) >> 16); /* also where it is NaN */
        memcpy(to + packed_integers(t) + 2 * r, &scale, sizeof scale);
        for (int k = 0; k < 16; k++)
            memcpy(to + 4 * (k * WIDTH + r), pair + k, sizeof *pair);
    }
}

static void pack_integers(const struct pd_wmul *m, enum pd_dtype t, const uint8_t *const *row,
                          uint8_t *to)
{
    for (int64_t b = 0; b < (m->in + 31) / 32; b++, to += packed_block(t))
        switch (t) {
        case PD_DTYPE_F32:
            pack_words(PD_DTYPE_F32, row, b, m->in - 32 * b, to);
            break;
        case PD_DTYPE_F16:
            pack_words(PD_DTYPE_F16, row, b, m->in - 32 * b, to);
            break;
        case PD_DTYPE_BF16:
            pack_words(PD_DTYPE_BF16, row, b, m->in - 32 * b, to);
            break;
        default:
            pack_block(t, row, (size_t)b * bytes_of_32(t), to);
        }
}

PD_INLINE void pack_floats(const size_t size, const uint8_t *const *row, int64_t in, uint8_t *to)
{
    enum { DEEP = 32 }; /* of which the cache keeps all columns */
    for (int64_t k0 = 0; k0 < in; k0 += DEEP)
        for (int r = 0; r < WIDTH; r++)
            for (int64_t k = k0; k < k0 + DEEP && k < in; k++)
                memcpy(to + (size_t)(k * WIDTH + r) * size, row[r] + (size_t)k * size, size);
}

static void pack_panel(const struct pd_wmul *m, enum pd_dtype t, const uint8_t *const *row,
                       uint8_t *to)
{
    if (m->mode != PD_WMUL_F32)
        pack_integers(m, t, row, to);
    else if (t == PD_DTYPE_F32)
        pack_floats(4, row, m->in, to);
    else
        pack_floats(2, row, m->in, to);
}

void PD_KERNEL(wmul_pack)(const struct pd_wmul *m, int part, uint8_t *to)
{
    const struct pd_wmul_part *p = &m->part[part];
    const size_t panel = packed_panel(m, p->dtype);
    const int64_t panels = (p->rows + WIDTH - 1) / WIDTH;
#pragma omp parallel for schedule(static) if (p->rows * m->in > PD_PARALLEL_FLOATS)
    for (int64_t i = 0; i < panels; i++) {
        const uint8_t *row[WIDTH]; /* the last one again where fewer are there */
        for (int64_t r = 0; r < WIDTH; r++) {
            const int64_t o = i * WIDTH + r < p->rows ? i * WIDTH + r : p->rows - 1;
            row[r] = p->w + (size_t)o * p->row_bytes;
        }
        pack_panel(m, p->dtype, row, to + (size_t)i * panel);
    }
}
