/* Products in integers over panels (wmul.h; panel.h has their layout). For each output and each 32
 * values of a row, in order of the blocks,
 *      n = sum of q_w q_x                          exact in 32 bits
 *      y += float(n) * (scale_w * scale_x)         then, for Q4_1:
 *      y += min_w * (scale_x * sum of q_x)
 * which is what wmul_int.c and wmul_byte.c do over rows, to the bit. Integers meet in one of three
 * forms:
 *  - WORDS: weights and x are words; an instruction multiplies pairs and adds neighbours.
 *  - BYTES: weights of 4 bits are unsigned bytes, u = q_w + bias, x has 8 bits; an instruction
 *    multiplies bytes and adds two (AVX2, in 16 bits: 8 * 2 * 15 * 127 at most) or four (VNNI);
 *    n = sum of u q_x - bias * sum of q_x.
 *  - SPLIT, with VNNI: weights of 8 or 4 bits as there, x has two bytes: q_x = 256 hi + lo, both
 *    signed; the sum of the high ones is shifted before that of the low ones is added to it.
 * A tile of up to ROWS rows and a panel of outputs goes through all inputs with its sums in
 * registers, whatever the number of rows. */
#include "tensor/kernel/vec.h"

#if PD_LANES >= 8
#include "tensor/kernel/rows.h"

enum { SUMS_IN_REGISTERS = PD_LANES >= 16 };
enum { AHEAD = PD_LANES >= 16, SECOND_LEVEL = 2 /* of cache, to gcc's prefetch */ };

/* ---- products ---- */

PD_INLINE vi load(const void *p)
{
    return (vi)v_load((const float *)p);
}

/* n += products of bytes, w unsigned: fours added in 32 bits, or twos in 16; added_bytes makes 32
 * bits of what came together. */
PD_INLINE vi dot_bytes(vi n, vi w, vi x)
{
#if HAS_VNNI
    return (vi)_mm512_dpbusd_epi32((__m512i)n, (__m512i)w, (__m512i)x);
#elif PD_LANES == 8
    /* as an instruction of its own: gcc would add into another register and move back */
    __asm__("vpaddw %1, %0, %0" : "+x"(n) : "x"(_mm256_maddubs_epi16((__m256i)w, (__m256i)x)));
    return n;
#else
    (void)w, (void)x;
    return n;
#endif
}
/* v times 2^octave: exponents are added by other units than those of the products. */
PD_INLINE vf octaves_up(vf v, float octave)
{
#if HAS_VNNI
    return (vf)_mm512_scalef_ps((__m512)v, (__m512)v_set(octave));
#else
    (void)octave;
    return v;
#endif
}
PD_INLINE vi added_bytes(vi n)
{
#if PD_LANES == 8
    return (vi)_mm256_madd_epi16((__m256i)n, _mm256_set1_epi16(1));
#else
    return n;
#endif
}

/* n (mr, 2) += a step of two groups of outputs times that of mr rows. Both groups at once, so that
 * a load of x serves two products: one load a product is more than the cores can do. */
PD_INLINE void micro_step(const enum form f, const int mr, vi w0, vi w1, const int8_t *q,
                          vi (*n)[2])
{
#pragma GCC unroll 6
    for (int r = 0; r < mr; r++) {
        int32_t four;
        memcpy(&four, q + 4 * r, sizeof four);
        const vi x = four - (vi){0};
        n[r][0] = f == WORDS ? madd_lanes(n[r][0], w0, x) : dot_bytes(n[r][0], w0, x);
        n[r][1] = f == WORDS ? madd_lanes(n[r][1], w1, x) : dot_bytes(n[r][1], w1, x);
        PD_HOLD(n[r][0]);
        PD_HOLD(n[r][1]);
    }
}

PD_INLINE vi low_halves(vi v)
{
    return v & 0x0f0f0f0f;
}
PD_INLINE vi high_halves(vi v)
{
    return (vi)((vu)v >> 4) & 0x0f0f0f0f;
}

/* n (mr, 2) += a block of weights times 32 bytes of each row, or 32 words. */
PD_INLINE void micro_block(const enum pd_dtype t, const enum form f, const int mr, const uint8_t *w,
                           const int8_t *q, vi (*n)[2])
{
    enum { BYTE_VECTOR = 4 * PD_LANES, BOTH = 2 * BYTE_VECTOR };
    if (f == WORDS || t == PD_DTYPE_Q8_0) {
        const bool widen = f == WORDS && t == PD_DTYPE_Q8_0;
        for (int k = 0; k < (f == WORDS ? 2 : 1) * STEPS; k++) {
            const uint8_t *v = w + k * BOTH / (widen ? 2 : 1);
            const vi w0 = widen ? widen_lanes(v) : load(v);
            const vi w1 = widen ? widen_lanes(v + BYTE_VECTOR / 2) : load(v + BYTE_VECTOR);
            micro_step(f, mr, w0, w1, q + 4 * k * mr, n);
        }
        return;
    }
#pragma GCC unroll 4
    for (int k = 0; k < STEPS / 2; k++)
        micro_step(f, mr, low_halves(load(w + BOTH * k)),
                   low_halves(load(w + BOTH * k + BYTE_VECTOR)), q + 4 * k * mr, n);
    PD_HOLD_MEMORY; /* loaded again, not kept: the sums need the registers */
#pragma GCC unroll 4
    for (int k = 0; k < STEPS / 2; k++)
        micro_step(f, mr, high_halves(load(w + BOTH * k)),
                   high_halves(load(w + BOTH * k + BYTE_VECTOR)), q + 4 * (k + STEPS / 2) * mr, n);
}

/* n (mr, 2) = the sums of a block of the tile. */
PD_INLINE void micro_sums(const enum pd_dtype t, const enum form f, const int mr, const uint8_t *w,
                          const int8_t *q, const int32_t *count, vi (*n)[2])
{
    /* of the bias of u; Q4_1 has one in bytes alone, as in wmul_byte.c */
    const bool biased = f != WORDS && (t != PD_DTYPE_Q4_1 || f == BYTES);
    /* sums of 32 bits begin with what is to be taken away, which costs nothing */
    const bool begin = f == BYTES && HAS_VNNI;
#pragma GCC unroll 6
    for (int r = 0; r < mr; r++)
        n[r][0] = n[r][1] = begin ? count[r] - (vi){0} : (vi){0};
    micro_block(t, f, mr, w, q, n);
    if (f == SPLIT) {
#pragma GCC unroll 6
        for (int r = 0; r < mr; r++)
            n[r][0] <<= 8, n[r][1] <<= 8;
        micro_block(t, f, mr, w, q + 4 * STEPS * mr, n);
    }
    if (f == WORDS || begin)
        return;
#pragma GCC unroll 6
    for (int r = 0; r < mr; r++) {
        vi less = biased ? count[r] - (vi){0} : (vi){0};
        if (t == PD_DTYPE_Q8_0)
            less <<= 4; /* 128, not 8 */
        n[r][0] = (f == BYTES ? added_bytes(n[r][0]) : n[r][0]) + less;
        n[r][1] = (f == BYTES ? added_bytes(n[r][1]) : n[r][1]) + less;
    }
}

/* Group g of a block's scales: halves, or powers of two as bf16 where weights were floats. */
PD_INLINE vf scales(const enum pd_dtype t, const uint8_t *p, int g)
{
    return floats_at(is_float(t) ? PD_DTYPE_BF16 : PD_DTYPE_F16, p + 2 * g * PD_LANES);
}

/* A panel's scales times each of the quarters, (blocks, QUARTERS, WIDTH). */
static inline void scale_table(enum pd_dtype t, int64_t blocks, const uint8_t *w, float *to)
{
    for (int64_t b = 0; b < blocks; b++, w += packed_block(t))
#pragma GCC unroll 2
        for (int g = 0; g < 2; g++) {
            const vf s = scales(t, w + packed_integers(t), g);
#pragma GCC unroll 4
            for (int k = 0; k < QUARTERS; k++)
                v_store(to + (b * QUARTERS + k) * WIDTH + g * PD_LANES, s * quarters[k]);
        }
}

/* Where a tile's outputs of a panel go: rows ld apart; bias (WIDTH) or NULL. */
struct place {
    float *y;
    int64_t ld;
    const float *bias;
    bool add;
};

PD_INLINE void put_sums(const struct place *to, int64_t r, vf a, vf b)
{
    float *y = to->y + r * to->ld;
    if (to->bias)
        a += v_load(to->bias), b += v_load(to->bias + PD_LANES);
    if (to->add)
        a += v_load(y), b += v_load(y + PD_LANES);
    v_store(y, a);
    v_store(y + PD_LANES, b);
}

/* A panel's weights for one tile. */
struct weights {
    int64_t blocks;
    const uint8_t *w;
    const float *table; /* of its scales, or NULL */
    /* What is multiplied next is asked for meanwhile, `lines` of cache a block: if all at once, or
     * not before they are needed, what is multiplied now would wait for them. */
    const uint8_t *ahead;
    int64_t lines;
};

/* For tile i of n over panel p. What follows p in memory is nearly always next; an address past
 * the end of all weights does no harm. */
static inline struct weights weights_of(const struct pd_wmul_call *c, const struct panel *p,
                                        const float *table, int64_t i, int64_t n)
{
    struct weights of = {.blocks = c->blocks, .w = packed_at(c, p), .table = table};
    if (!AHEAD || n == 1)
        return of;
    const int64_t bytes = (int64_t)packed_panel(c->m, p->part->dtype), lines = (bytes + 63) / 64;
    const int64_t a_block = (lines + n * c->blocks - 1) / (n * c->blocks);
    const int64_t done = i * c->blocks * a_block;
    of.ahead = of.w + bytes + 64 * done;
    of.lines = done < lines ? a_block : 0;
    return of;
}

/* A panel's outputs of a tile of mr rows, to their place. tabled: by a table of scales. The bits
 * are the same either way: s * (quarter * 2^octave) = (s * quarter) * 2^octave. */
PD_INLINE void micro(const enum pd_dtype t, const enum form f, const bool tabled, const int mr,
                     const struct tile *x, const struct weights *of, const struct place *place)
{
    const uint8_t *w = of->w, *ahead = of->ahead;
    vf y[ROWS][2];
#pragma GCC unroll 6
    for (int r = 0; r < mr; r++) {
        y[r][0] = y[r][1] = (vf){0};
        if (SUMS_IN_REGISTERS)
            continue;
        v_store(place->y + r * WIDTH, y[r][0]);
        v_store(place->y + r * WIDTH + PD_LANES, y[r][1]);
    }
#pragma GCC unroll 1
    for (int64_t b = 0; b < of->blocks; b++, w += packed_block(t)) {
        const uint8_t *scale = w + packed_integers(t), *min = scale + 2 * WIDTH;
        vi n[ROWS][2];
        for (int64_t i = 0; i < of->lines; i++, ahead += 64)
            __builtin_prefetch(ahead, 0, SECOND_LEVEL);
        micro_sums(t, f, mr, w, x->q + form_size(f) * mr * b, x->count + b * mr, n);
#pragma GCC unroll 2
        for (int g = 0; g < 2; g++) {
            const float *of_block = tabled ? of->table + b * QUARTERS * WIDTH + g * PD_LANES : NULL;
            const vf s = tabled ? v_load(of_block) : scales(t, scale, g);
#pragma GCC unroll 6
            for (int r = 0; r < mr; r++) {
                const int64_t i = b * mr + r;
                const vf both = tabled ? octaves_up(v_load(of_block + x->place[i]), x->octave[i])
                                       : s * x->scale[i];
                vf sum = SUMS_IN_REGISTERS ? y[r][g] : v_load(place->y + r * WIDTH + g * PD_LANES);
                sum += __builtin_convertvector(n[r][g], vf) * both;
                if (t == PD_DTYPE_Q4_1) {
                    const vf m = scales(t, min, g);
                    sum += (f == BYTES ? m + 8.0f * s : m) * x->sum[i];
                }
                if (SUMS_IN_REGISTERS)
                    y[r][g] = sum;
                else
                    v_store(place->y + r * WIDTH + g * PD_LANES, sum);
            }
        }
        if (!SUMS_IN_REGISTERS)
            PD_HOLD_MEMORY;
    }
#pragma GCC unroll 6
    for (int r = 0; r < mr && SUMS_IN_REGISTERS; r++)
        put_sums(place, r, y[r][0], y[r][1]);
}

PD_INLINE void tile_rows(const enum pd_dtype t, const enum form f, const bool tabled,
                         const struct tile *x, const struct weights *of, const struct place *to)
{
    switch (x->rows) {
#define TILE(mr)                                                                                   \
    case mr:                                                                                       \
        micro(t, f, tabled, mr, x, of, to);                                                        \
        break;
        ROW_COUNTS(TILE)
#undef TILE
    }
}

/* Floats differ no more once they are words. */
PD_INLINE void tile_any(const enum form f, const bool tabled, enum pd_dtype t, const struct tile *x,
                        const struct weights *of, const struct place *to)
{
    if (f == WORDS && t != PD_DTYPE_Q8_0)
        tile_rows(PD_DTYPE_F32, f, false, x, of, to);
    else if (f != BYTES && t == PD_DTYPE_Q8_0)
        tile_rows(PD_DTYPE_Q8_0, f, false, x, of, to);
    else if (f != WORDS && t == PD_DTYPE_Q4_0)
        tile_rows(PD_DTYPE_Q4_0, f, tabled, x, of, to);
    else if (f != WORDS)
        tile_rows(PD_DTYPE_Q4_1, f, tabled, x, of, to);
}

/* The place of a tile where all outputs of the panel are wanted, which is nearly always, and sums
 * are in registers: where the call wants them. */
static inline struct place final_place(const struct pd_wmul_call *c, const struct panel *p,
                                       int64_t t0)
{
    return (struct place){.y = c->y + t0 * c->ldy + p->out,
                          .ld = c->ldy,
                          .bias = c->m->bias ? c->m->bias + c->first + p->out : NULL,
                          .add = c->add};
}

/* The tiles first .. end-1 over a panel. */
PD_INLINE void sweep(const enum form f, const bool tabled, const struct pd_wmul_call *c,
                     const struct panel *p, int64_t first, int64_t end, const float *table)
{
    const bool final = SUMS_IN_REGISTERS && p->skip == 0 && p->n == WIDTH;
    float acc[ROWS * WIDTH + WIDTH]; /* write_panel may read a vector beyond */
    for (int64_t i = first; i < end; i++) {
        const struct tile t = tile_at(c, f, i);
        const struct weights of = weights_of(c, p, table, i - first, end - first);
        const struct place to = final ? final_place(c, p, t.t0) : (struct place){acc, WIDTH, 0, 0};
        fetch_outputs(c, p, t.t0, t.rows);
        tile_any(f, tabled, p->part->dtype, &t, &of, &to);
        if (!final)
            write_panel(c, p, t.t0, t.rows, acc);
    }
}

/* The same, by a table in mem where there are tiles enough to be worth one. */
PD_INLINE void sweep_panel(const enum form f, const struct pd_wmul_call *c, const struct panel *p,
                           int64_t first, int64_t end, float *mem)
{
    enum { WORTH = 3 };
    if (f == BYTES && HAS_VNNI && end - first >= WORTH) {
        scale_table(p->part->dtype, c->blocks, packed_at(c, p), mem);
        sweep(f, true, c, p, first, end, mem);
    } else {
        sweep(f, false, c, p, first, end, NULL);
    }
}

/* X for each form that these kernels have. */
#if HAS_VNNI
#define FORMS(X) X(BYTES) X(SPLIT) X(WORDS)
#elif PD_LANES == 8
#define FORMS(X) X(BYTES) X(WORDS)
#else
#define FORMS(X) X(WORDS)
#endif
#define BY_FORM(CALL)                                                                              \
    switch (form_of(c)) {                                                                          \
        FORMS(CALL)                                                                                \
    default:                                                                                       \
        pd_bug("panels of a form that these kernels do not have");                                 \
    }

static void quantise_tile(const struct pd_wmul_call *c, int64_t i)
{
#define CALL(f)                                                                                    \
    case f: {                                                                                      \
        const struct tile t = tile_at(c, f, i);                                                    \
        quantise(f, c, &t);                                                                        \
        break;                                                                                     \
    }
    BY_FORM(CALL)
#undef CALL
}
static void multiply(const struct pd_wmul_call *c, const struct panel *p, int64_t first,
                     int64_t end, float *mem)
{
#define CALL(f)                                                                                    \
    case f:                                                                                        \
        sweep_panel(f, c, p, first, end, mem);                                                     \
        break;
    BY_FORM(CALL)
#undef CALL
}

void PD_KERNEL(wmul_packed)(const struct pd_wmul_call *c)
{
    enum { FEW = 4 };
    if (c->T <= FEW) {
        quantise_tile(c, 0); /* too few to share out */
        by_runs(c, ROWS, multiply);
    } else {
        by_panels(c, ROWS, quantise_tile, multiply);
    }
}

#else
void PD_KERNEL(wmul_packed)(const struct pd_wmul_call *c)
{
    (void)c;
    pd_bug("these kernels have no panels of integers");
}
#endif
