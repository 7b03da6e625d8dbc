/* What the panel products share: where outputs lie, turning rows into columns, who does which. */
#ifndef PD_TENSOR_KERNEL_PANEL_H
#define PD_TENSOR_KERNEL_PANEL_H

#include "base/err.h"
#include "tensor/kernel/block.h"
#include "tensor/team.h"
#include "tensor/wmul.h"

#include <stdatomic.h>

/* A panel is WIDTH outputs (two vectors); a tile is up to TALL rows of x. Two vectors of sums a
 * row, two of weights and one value of x fill the registers: 16, or 32 with AVX-512. */
enum { WIDTH = 2 * PD_LANES, TALL = PD_LANES >= 16 ? 12 : 6 };
/* Outputs that dot products over Q formats take side by side. */
enum { EIGHT = 8 };
/* X for each number of rows that a tile may have: a case of a switch, so that each is unrolled. */
#if PD_LANES >= 16
#define TILE_HEIGHTS(X) X(12) X(11) X(10) X(9) X(8) X(7) X(6) X(5) X(4) X(3) X(2) X(1)
#else
#define TILE_HEIGHTS(X) X(6) X(5) X(4) X(3) X(2) X(1)
#endif

/* WIDTH outputs of one part, of which skip .. n-1 are there and wanted. */
struct panel {
    const struct pd_wmul_part *part;
    const uint8_t *rows[WIDTH]; /* the last one again and again where n < WIDTH; not if packed */
    int64_t row;                /* of the part, where it begins */
    int64_t out;                /* the same, counted from c->first */
    int64_t skip, n;            /* packed ones begin at multiples of WIDTH; else skip is 0 */
};

/* Outputs of part i that the call wants: *lo..*hi-1 of the part, *at the first one's place. */
static inline int64_t wanted(const struct pd_wmul_call *c, int i, int64_t *lo, int64_t *at)
{
    int64_t begin = 0;
    for (int p = 0; p < i; p++)
        begin += c->m->part[p].rows;
    const int64_t from = c->first > begin ? c->first : begin;
    const int64_t end = begin + c->m->part[i].rows;
    const int64_t to = c->first + c->n < end ? c->first + c->n : end;
    *lo = from - begin;
    *at = from - c->first;
    return to > from ? to - from : 0;
}

/* Panels of n outputs from row lo of a part on. */
static inline int64_t panels_of(const struct pd_wmul_call *c, int64_t lo, int64_t n)
{
    const int64_t skip = c->m->packed ? lo % WIDTH : 0;
    return n > 0 ? (skip + n + WIDTH - 1) / WIDTH : 0;
}

/* How many panels there are; none crosses from part to part. */
static inline int64_t count_panels(const struct pd_wmul_call *c)
{
    int64_t panels = 0, lo, at;
    for (int i = 0; i < c->m->n_parts; i++) {
        const int64_t n = wanted(c, i, &lo, &at);
        panels += panels_of(c, lo, n);
    }
    return panels;
}

static inline void panel_at(const struct pd_wmul_call *c, int64_t k, struct panel *p)
{
    for (int i = 0;; i++) {
        int64_t lo, at;
        const int64_t n = wanted(c, i, &lo, &at), here = panels_of(c, lo, n);
        if (k >= here) {
            k -= here;
            continue;
        }
        const int64_t first = k * WIDTH - (c->m->packed ? lo % WIDTH : 0); /* from lo on */
        p->part = &c->m->part[i];
        p->row = lo + first;
        p->out = at + first;
        p->skip = first < 0 ? -first : 0;
        p->n = n - first < WIDTH ? n - first : WIDTH;
        if (c->m->packed)
            return;
        const uint8_t *row = p->part->w + (size_t)p->row * p->part->row_bytes;
        for (int64_t r = 0; r < WIDTH; r++) {
            p->rows[r] = row;
            row += r + 1 < p->n ? p->part->row_bytes : 0;
        }
        return;
    }
}

/* ---- integers ---- */

#ifdef __AVX512VNNI__
#define HAS_VNNI 1
#else
#define HAS_VNNI 0
#endif

typedef uint32_t vu __attribute__((vector_size(PD_LANES * 4)));

/* n + the products of pairs, added. */
PD_INLINE vi madd_lanes(vi n, vi a, vi b)
{
#if defined(__AVX512VNNI__)
    return (vi)_mm512_dpwssd_epi32((__m512i)n, (__m512i)a, (__m512i)b);
#elif defined(__AVX512F__)
    return n + (vi)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return n + (vi)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
    return n + (vi)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
    for (int i = 0; i < PD_LANES; i++)
        n[i] += (int16_t)a[i] * (int16_t)b[i] + (a[i] >> 16) * (b[i] >> 16);
    return n;
#endif
}

/* 32 floats as integers: value k = scale * q[k]. */
struct rounded32 {
    i16x16 lo, hi;
    float scale;
    int32_t sum; /* of the integers */
};
PD_INLINE struct rounded32 rounded(const float *x, float scale, float up)
{
    struct rounded32 r = {.scale = scale};
    r.lo = pack16(f32x8_at(x) * up, f32x8_at(x + 8) * up);
    r.hi = pack16(f32x8_at(x + 16) * up, f32x8_at(x + 24) * up);
#ifdef __AVX2__
    const __m256i one = _mm256_set1_epi16(1);
    const __m256i v = _mm256_add_epi32(_mm256_madd_epi16((__m256i)r.lo, one),
                                       _mm256_madd_epi16((__m256i)r.hi, one));
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    r.sum = _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
#else
    r.sum = 0;
    for (int i = 0; i < 16; i++)
        r.sum += r.lo[i] + r.hi[i];
#endif
    return r;
}
/* Up to a limit. A value that is not finite makes the scale NaN, and the integers anything. */
PD_INLINE struct rounded32 round32(const float *x, float limit)
{
    const float m = top_float(x);
    /* a block so small that its reciprocal overflows is nothing beside fp32 sums */
    return rounded(x, m / limit, m > 1e-30f ? limit / m : 0.0f);
}

#ifdef __AVX2__
/* Scales of bytes go by quarters of an octave: 2^(octave + quarter / 4). The largest integer of 32
 * is then above 106 of 127, and where a table has a weight's scale times each of the four quarters,
 * the product of both scales takes an addition to the exponent (wmul_packed.c). AVX2, which gains
 * nothing by them, has them too, so that both give the same bits. */
enum { QUARTERS = PD_WMUL_QUARTERS };
static const float quarters[QUARTERS] = {1.0f, 1.1892071f, 1.4142135f, 1.6817929f};
static const float per_quarter[QUARTERS] = {1.0f, 0.84089642f, 0.70710678f, 0.59460356f};
static const int32_t mantissas[QUARTERS] = {0, 0x1837f0, 0x3504f3, 0x5744fd}; /* of quarters */
/* Values up to this are nothing beside fp32 sums. With the smallest half as the weights' scale no
 * product is denormal: but for that it could be rounded in another way, added to the exponent or
 * multiplied. */
#define NO_SCALE 1e-25f
struct byte_scale {
    float scale, up; /* up: 1 / scale */
    float octave;
    int quarter;
};
/* The least for values up to m. */
PD_INLINE struct byte_scale scale_bytes(float m)
{
    const bool nothing = m <= NO_SCALE;
    const uint32_t least = float_bits(m * (1.0f / 127.0f));
    const __m128i over = _mm_cmpgt_epi32(_mm_set1_epi32((int)(least & 0x7fffff)),
                                         _mm_loadu_si128((const __m128i *)(const void *)mantissas));
    const int above = __builtin_popcount((unsigned)_mm_movemask_ps(_mm_castsi128_ps(over)));
    const uint32_t e = (least >> 23) + (uint32_t)(above == QUARTERS);
    const int quarter = above % QUARTERS;
    struct byte_scale s = {
        .scale = quarters[quarter] * bits_float(e << 23),
        .up = per_quarter[quarter] * bits_float((254 - e) << 23),
        .octave = (float)((int)e - 127),
        .quarter = quarter,
    };
    if (nothing)
        s.scale = s.up = s.octave = 0;
    if (!(m >= 0)) /* NaN */
        s.scale = s.octave = m;
    return s;
}
/* Integers of 8 bits, as bytes. */
PD_INLINE __m256i bytes_of(i16x16 lo, i16x16 hi)
{
    return _mm256_permute4x64_epi64(_mm256_packs_epi16((__m256i)lo, (__m256i)hi), 0xd8);
}
#endif
/* Eight times four bytes of a row, every so many bytes. */
PD_INLINE void spread(const void *eight, int64_t every, void *to)
{
    int32_t four[8];
    memcpy(four, eight, sizeof four);
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++)
        memcpy((char *)to + k * every, four + k, sizeof *four);
}

/* 2 PD_LANES signed bytes as words. */
PD_INLINE vi widen_lanes(const uint8_t *p)
{
#if PD_LANES == 16
    return (vi)_mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)p));
#elif PD_LANES == 8
    return (vi)widen_signed(bytes_at(p));
#else
    (void)p;
    return (vi){0};
#endif
}

/* ---- panels in memory (pd_wmul_pack) ----
 *
 * Floats, for fp32 mode: (in, WIDTH). Integers: (blocks), each (steps, WIDTH, 4 bytes), then the
 * scales (WIDTH) as halves, for Q4_1 then the mins. So memory is read from front to back: scales in
 * a place of their own, or outputs in two groups, cost half of the speed. The last output stands
 * again where there are fewer; what is past the last input is 0. A step is
 *  - of 4 bits, four inputs in bytes: 4 k .. 4 k + 3 in the lower halves and those 16 further on in
 *    the upper ones, which is how a file has them;
 *  - of 8 bits, with VNNI four inputs in bytes, + 128; else two inputs in two bytes;
 *  - of floats two, in words: those of block_floats; their scales, powers of two, are bf16. */

/* Bytes of a block's integers, and of all of it. */
PD_INLINE size_t packed_integers(const enum pd_dtype t)
{
    return (is_float(t) ? 64 : t == PD_DTYPE_Q8_0 ? 32 : 16) * WIDTH;
}
PD_INLINE size_t packed_block(const enum pd_dtype t)
{
    return packed_integers(t) + (t == PD_DTYPE_Q4_1 ? 4 : 2) * WIDTH;
}
PD_INLINE size_t packed_panel(const struct pd_wmul *m, const enum pd_dtype t)
{
    if (m->mode == PD_WMUL_F32)
        return (size_t)m->in * WIDTH * (bytes_of_32(t) / 32);
    return (size_t)((m->in + 31) / 32) * packed_block(t);
}
PD_INLINE const uint8_t *packed_at(const struct pd_wmul_call *c, const struct panel *p)
{
    return p->part->w + (size_t)(p->row / WIDTH) * packed_panel(c->m, p->part->dtype);
}

/* For a product that goes through n rows side by side and is `at` bytes into each: asks for the
 * next `bytes` of each of the n rows that follow in memory. In the order of memory, since that
 * gives most, and since the hardware does not follow so many streams. Where the rows are so long
 * that they would be gone from the second-level cache before they are used, the same rows' next.
 * Nothing is read: an address past the end of the weights does no harm. */
PD_INLINE void fetch_next(const uint8_t *rows, int n, size_t row_bytes, size_t at, size_t bytes)
{
    enum { MOST = 256 * 1024, NEAR = 1024 };
    const size_t all = (size_t)n * row_bytes;
    if (all > MOST) {
        for (const uint8_t *p = rows + at + NEAR; p < rows + all + at + NEAR; p += row_bytes)
            for (size_t line = 0; line < bytes; line += 64)
                __builtin_prefetch(p + line);
        return;
    }
    const uint8_t *next = rows + all + (size_t)n * at;
    for (size_t line = 0; line < (size_t)n * bytes; line += 64)
        __builtin_prefetch(next + line);
}

/* For a product that costs little beside reading its weights, now `step` bytes at `at`: where a
 * page of 4 kB begins there, asks for the whole page after it. Memory gives a fifth more to who
 * asks for pages in one go than to who asks for a line now and then; but meanwhile nothing is
 * computed. */
PD_INLINE void fetch_page(const uint8_t *at, size_t step)
{
    enum { PAGE = 4096 };
    if (PD_LANES >= 16) /* Zen 4's own prefetchers do better: a third faster left alone */
        return;
    const uint8_t *page = at + step - (uintptr_t)(at + step) % PAGE;
    if (page > at)
        for (size_t line = PAGE; line < 2 * PAGE; line += 64)
            __builtin_prefetch(page + line);
}

/* The places of a panel's outputs, which another thread may have written last, for rows t0 ... */
PD_INLINE void fetch_outputs(const struct pd_wmul_call *c, const struct panel *p, int64_t t0,
                             int64_t rows)
{
    for (int64_t t = t0; t < t0 + rows; t++)
        for (int64_t o = p->skip; o < p->n; o += 16)
            __builtin_prefetch(c->y + (t * c->ldy + p->out + o), 1);
}

/* PD_LANES rows of PD_LANES 32-bit values, turned: row i of `to` (stride ld values) is column i. */
PD_INLINE void turn(const vf *row, float *to, int64_t ld)
{
    enum { N = PD_LANES, G = PD_LANES / 4 };
    vi lo1, hi1, lo2, hi2;
    for (int i = 0; i < N; i++) { /* as unpacklo and unpackhi of 4 and of 8 bytes do */
        const int quarter = i / 4 * 4, k = i % 4;
        lo1[i] = quarter + k / 2 + k % 2 * N;
        hi1[i] = quarter + 2 + k / 2 + k % 2 * N;
        lo2[i] = quarter + k % 2 + k / 2 * N;
        hi2[i] = quarter + 2 + k % 2 + k / 2 * N;
    }
    vf q[4][G]; /* q[j][g]: in quarter l, column 4 l + j of rows 4 g .. 4 g + 3 */
#pragma GCC unroll 4
    for (int g = 0; g < G; g++) {
        const vf *r = row + 4 * g;
        const vf a = v_shuffle(r[0], r[1], lo1), b = v_shuffle(r[0], r[1], hi1);
        const vf c = v_shuffle(r[2], r[3], lo1), d = v_shuffle(r[2], r[3], hi1);
        q[0][g] = v_shuffle(a, c, lo2);
        q[1][g] = v_shuffle(a, c, hi2);
        q[2][g] = v_shuffle(b, d, lo2);
        q[3][g] = v_shuffle(b, d, hi2);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
#pragma GCC unroll 2
        for (int n = G / 2; n > 0; n /= 2) { /* quarters against groups */
            vi keep, swap;
            for (int i = 0; i < N; i++) {
                const int up = i / 4 & n;
                keep[i] = up ? i - 4 * n + N : i;
                swap[i] = up ? i + N : i + 4 * n;
            }
#pragma GCC unroll 4
            for (int g = 0; g < G; g++)
                if (!(g & n)) {
                    const vf a = q[j][g], b = q[j][g + n];
                    q[j][g] = v_shuffle(a, b, keep);
                    q[j][g + n] = v_shuffle(a, b, swap);
                }
        }
#pragma GCC unroll 4
        for (int g = 0; g < G; g++)
            v_store(to + (4 * g + j) * ld, q[j][g]);
    }
}

/* ---- the threads' shares ----
 *
 * Each thread goes through a run of panels of its own in order, since it fetches the next one
 * ahead, and afterwards takes what is last in the longest run that is left: so all end together,
 * but for a panel. */

/* For a tile before all else; for a panel, tiles first .. end-1 and room of the thread. */
typedef void prepare_fn(const struct pd_wmul_call *c, int64_t tile);
typedef void multiply_fn(const struct pd_wmul_call *c, const struct panel *p, int64_t first,
                         int64_t end, float *mem);

/* A call's work, cut up: pieces are a panel over some of the tiles. */
struct pieces {
    const struct pd_wmul_call *c;
    int64_t panels, tiles, cuts;
    int64_t lot;         /* pieces that a thread takes at a time */
    int runs;            /* one for each thread */
    prepare_fn *prepare; /* or NULL */
    multiply_fn *multiply;
};

static inline void cut_into_runs(const struct pieces *w)
{
    const int64_t n = w->panels * w->cuts;
    for (int i = 0; i < w->runs; i++)
        w->c->shares[i].run = (uint64_t)(n * i / w->runs) << 32 | (uint64_t)(n * (i + 1) / w->runs);
}

static inline int64_t run_first(uint64_t run)
{
    return (int64_t)(run >> 32);
}
static inline int64_t run_end(uint64_t run)
{
    return (int64_t)(run & UINT32_MAX);
}
static inline int64_t run_left(uint64_t run)
{
    return run_end(run) - run_first(run);
}

/* How much of what is left to take at a time: a lot, and ever less at the end, for which all wait.
 */
static inline int64_t some_of(int64_t left, int64_t lot)
{
    return left > 2 * lot ? lot : (left + 1) / 2;
}

/* Cuts some pieces off the beginning of a run, or off its end; false when none is left. */
static inline bool cut_run(struct pd_wmul_share *s, int64_t lot, bool at_end, int64_t *first,
                           int64_t *end)
{
    uint64_t run = s->run, rest;
    do {
        const int64_t n = some_of(run_left(run), lot);
        if (n <= 0)
            return false;
        *first = at_end ? run_end(run) - n : run_first(run);
        *end = *first + n;
        rest = at_end ? run - (uint64_t)n : run + ((uint64_t)n << 32);
    } while (!atomic_compare_exchange_weak(&s->run, &run, rest));
    return true;
}

/* The next pieces for thread `me`; false when all are taken. */
static inline bool take_pieces(const struct pieces *w, int me, int64_t *first, int64_t *end)
{
    struct pd_wmul_share *shares = w->c->shares;
    if (cut_run(&shares[me], w->lot, false, first, end))
        return true;
    for (;;) {
        int longest = 0;
        int64_t most = 0;
        for (int i = 0; i < w->runs; i++) {
            const int64_t left = run_left(shares[i].run);
            if (left > most)
                most = left, longest = i;
        }
        if (most == 0)
            return false;
        if (cut_run(&shares[longest], w->lot, true, first, end))
            return true;
    }
}

/* Rows of x are cut evenly into tiles of up to `tall` rows, the taller ones first. */
PD_INLINE int64_t count_tiles(const struct pd_wmul_call *c, const int tall)
{
    return (c->T + tall - 1) / tall;
}
/* Where tile i begins, and the one before it ends. */
PD_INLINE int64_t tile_begin(const struct pd_wmul_call *c, const int tall, int64_t i)
{
    const int64_t n = count_tiles(c, tall), taller = c->T % n;
    return i * (c->T / n) + (i < taller ? i : taller);
}

static inline void thread_pieces(void *ctx, int me, int n)
{
    const struct pieces *w = ctx;
    const struct pd_wmul_call *c = w->c;
    if (w->prepare) {
        for (int64_t i = w->tiles * me / n; i < w->tiles * (me + 1) / n; i++)
            w->prepare(c, i);
        pd_team_meet(n);
    }
    for (int64_t k, end; take_pieces(w, me, &k, &end);)
        for (; k < end; k++) {
            struct panel p;
            panel_at(c, k % w->panels, &p);
            const int64_t i = k / w->panels;
            w->multiply(c, &p, i * w->tiles / w->cuts, (i + 1) * w->tiles / w->cuts,
                        c->scratch + me * c->room);
        }
}

/* All pieces of w, whose call and functions are set. */
static inline void share_pieces(struct pieces *w, const int tall)
{
    const struct pd_wmul_call *c = w->c;
    w->panels = count_panels(c);
    w->tiles = count_tiles(c, tall);
    w->cuts = (c->T + PD_WMUL_ROWS - 1) / PD_WMUL_ROWS;
    w->runs = c->n * c->m->in > PD_PARALLEL_FLOATS ? pd_backend_threads() : 1;
    PD_ASSERT(w->panels > 0);
    cut_into_runs(w);
    pd_team_run(w->runs, thread_pieces, w);
}

/* Where given, prepare for every tile; then multiply for every panel and all tiles, of at most
 * PD_WMUL_ROWS rows at a time. */
static inline void by_panels(const struct pd_wmul_call *c, const int tall, prepare_fn *prepare,
                             multiply_fn *multiply)
{
    struct pieces w = {.c = c, .lot = 1, .prepare = prepare, .multiply = multiply};
    share_pieces(&w, tall);
}

/* multiply for every panel, for few rows. Memory is all that counts then: a lot of panels at a
 * time, since its work stands still at every taking. */
static inline void by_runs(const struct pd_wmul_call *c, const int tall, multiply_fn *multiply)
{
    enum { LOT_BYTES = 32 * 1024 };
    const int64_t lot = 1 + LOT_BYTES / (WIDTH * (int64_t)c->m->part[0].row_bytes);
    struct pieces w = {.c = c, .lot = lot, .multiply = multiply};
    share_pieces(&w, tall);
}

/* ---- writing ---- */

/* Where all outputs of a panel are wanted, which is nearly always: b are their biases. */
PD_INLINE void write_whole(const struct pd_wmul_call *c, const struct panel *p, int64_t t0,
                           int64_t rows, const float *acc, const float *b)
{
    const vf b0 = v_load(b), b1 = v_load(b + PD_LANES);
    for (int64_t t = 0; t < rows; t++) {
        float *y = c->y + ((t0 + t) * c->ldy + p->out);
        vf s0 = v_load(acc + t * WIDTH) + b0, s1 = v_load(acc + t * WIDTH + PD_LANES) + b1;
        if (c->add) {
            s0 += v_load(y);
            s1 += v_load(y + PD_LANES);
        }
        v_store(y, s0);
        v_store(y + PD_LANES, s1);
    }
}

/* The sums of a panel, (rows, WIDTH), as the call wants them: bias, set or add. */
static inline void write_panel(const struct pd_wmul_call *c, const struct panel *p, int64_t t0,
                               int64_t rows, const float *acc)
{
    float b[2 * WIDTH] = {0};
    if (c->m->bias)
        memcpy(b + p->skip, c->m->bias + (c->first + p->out + p->skip),
               (size_t)(p->n - p->skip) * sizeof *b);
    if (p->skip == 0 && p->n == WIDTH) {
        write_whole(c, p, t0, rows, acc, b);
        return;
    }
    for (int64_t t = 0; t < rows; t++) {
        const float *a = acc + t * WIDTH;
        for (int64_t v = p->skip; v < p->n; v += PD_LANES) {
            float *y = c->y + ((t0 + t) * c->ldy + p->out + v);
            const int64_t m = p->n - v < PD_LANES ? p->n - v : PD_LANES;
            vf s = v_load(a + v) + v_load(b + v);
            if (c->add)
                s += v_get(y, m);
            v_put(y, m, s);
        }
    }
}

#endif
