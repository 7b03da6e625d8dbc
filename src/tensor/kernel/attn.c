/* Attention over spans, forward and backward.
 *
 * A tile is up to PD_ATTN_ROWS query rows of one kv head: row r = i * G + h is query head h (of the
 * G that share this kv head) of token i, so every key and value loaded serves all of them. Scores
 * are kept transposed, S[j][r] with r contiguous: queries are transposed once per tile, keys and
 * values are read where they lie, and the softmax runs along j with one query row per vector lane,
 * without a single horizontal sum. Rows are padded to a multiple of 16 with rows that see nothing.
 *
 * Decoding one token has too few rows for that; it takes dot products instead (decode()). */
#include "tensor/kernel/block.h"
#include "tensor/kernel/tile.h"

#include <omp.h>

enum { KEYS = PD_ATTN_KEYS };

static const float HIDDEN = -1e30f; /* score of an invisible key; exp(HIDDEN - real) is 0 */

struct tile {
    const struct pd_attn *a;
    const struct pd_attn_seg *seg;
    int64_t G, R, RP, D; /* heads of the group, rows, rows padded, head dim */
    int64_t i0, ni;      /* tokens of the tile */
    int kvh;
    float *q, *qt;                /* (R,D) scaled, (D,RP) */
    float *s, *ds;                /* (KEYS,RP) scores then probabilities; their gradient */
    float *acc;                   /* (R,D) output or dq */
    float *dout, *doutt;          /* (R,D), (D,RP) */
    float *m, *l, *delta, *slope; /* (RP) */
    int32_t *pos;                 /* (RP) position of the row's token; -1 when padding */
    float *kf, *vf_;              /* (KEYS,D) when the cache is fp16 */
};

static int64_t tile_init(struct tile *t, const struct pd_attn *a, float *mem)
{
    *t = (struct tile){.a = a, .G = a->heads / a->kv_heads, .D = a->head_dim};
    t->RP = pd_attn_padded_rows(t->G);
    const int64_t rd = (t->RP * t->D + 15) / 16 * 16, kr = KEYS * t->RP, kd = KEYS * t->D;
    float *p = mem;
    t->q = p, p += rd;
    t->qt = p, p += rd;
    t->acc = p, p += rd;
    t->dout = p, p += rd;
    t->doutt = p, p += rd;
    t->s = p, p += kr;
    t->ds = p, p += kr;
    t->kf = p, p += (kd + 15) / 16 * 16;
    t->vf_ = p, p += (kd + 15) / 16 * 16;
    t->m = p, p += t->RP;
    t->l = p, p += t->RP;
    t->delta = p, p += t->RP;
    t->slope = p, p += t->RP;
    t->pos = (int32_t *)p, p += t->RP;
    return p - mem;
}

/* rows (R,D) = scale * x's rows of this tile, cols (D,RP) the transpose with zero padding. */
static void gather(const struct tile *t, const float *x, int64_t ld, int64_t hs, float scale,
                   float *rows, float *cols)
{
    for (int64_t i = 0; i < t->ni; i++)
        for (int64_t h = 0; h < t->G; h++) {
            const float *src = x + (t->i0 + i) * ld + (t->kvh * t->G + h) * hs;
            const int64_t r = i * t->G + h;
            for (int64_t d = 0; d < t->D; d++) {
                const float v = src[d] * scale;
                rows[r * t->D + d] = v;
                cols[d * t->RP + r] = v;
            }
        }
    for (int64_t d = 0; d < t->D; d++)
        for (int64_t r = t->R; r < t->RP; r++)
            cols[d * t->RP + r] = 0;
}

static void tile_begin(struct tile *t, const struct pd_attn_seg *seg, int64_t i0, int64_t ni,
                       int kvh)
{
    t->seg = seg;
    t->i0 = i0;
    t->ni = ni;
    t->kvh = kvh;
    t->R = ni * t->G;
    gather(t, seg->q, t->a->ldq, t->a->hsq, t->a->scale, t->q, t->qt);
    for (int64_t r = 0; r < t->RP; r++) {
        t->pos[r] = r < t->R ? (int32_t)(seg->pos + i0 + r / t->G) : -1;
        t->slope[r] = t->a->alibi && r < t->R ? t->a->alibi[kvh * t->G + r % t->G] : 0.0f;
    }
}

/* The keys [*lo, *hi) of a span that some row of the tile sees. */
static void visible(const struct tile *t, const struct pd_attn_span *sp, int64_t *lo, int64_t *hi)
{
    const int64_t first = t->seg->pos + t->i0, last = first + t->ni - 1;
    *hi = last - sp->pos + 1 < sp->n ? last - sp->pos + 1 : sp->n;
    *lo = 0;
    if (t->a->window > 0 && first - t->a->window + 1 > sp->pos)
        *lo = first - t->a->window + 1 - sp->pos;
}

/* Row j0 of this head's keys or values as fp32, and the stride of its rows. */
static const float *kv_rows(const struct tile *t, const void *base, int64_t j0, int64_t nb,
                            float *buf, int64_t *ld)
{
    const int64_t at = j0 * t->a->ldk + t->kvh * t->a->hsk;
    if (t->a->kv == PD_DTYPE_F32) {
        *ld = t->a->ldk;
        return (const float *)base + at;
    }
    for (int64_t j = 0; j < nb; j++) {
        const uint16_t *src = (const uint16_t *)base + at + j * t->a->ldk;
        int64_t d = 0;
        for (; d + 8 <= t->D; d += 8) {
            const f32x8 v = f16x8(src + d);
            memcpy(buf + j * t->D + d, &v, sizeof v);
        }
        for (; d < t->D; d++)
            buf[j * t->D + d] = pd_f16_to_f32(src[d]);
    }
    *ld = t->D;
    return buf;
}

void PD_KERNEL(attn_store)(int64_t n, const float *x, uint16_t *to)
{
    const float most = 65504.0f;
    int64_t i = 0;
#ifdef __F16C__
    const __m256 hi = _mm256_set1_ps(most), lo = _mm256_set1_ps(-most);
    for (; i + 8 <= n; i += 8) { /* NaN is the second operand: it comes out */
        const __m256 v = _mm256_max_ps(lo, _mm256_min_ps(hi, _mm256_loadu_ps(x + i)));
        _mm_storeu_si128((__m128i *)(void *)(to + i),
                         _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
    }
#endif
    for (; i < n; i++)
        to[i] = pd_f32_to_f16_1(x[i] > most ? most : x[i] < -most ? -most : x[i]);
}

/* x to the nearest bf16, ties to even; x is finite. */
static vf round_bf16(vf x)
{
    vi u;
    memcpy(&u, &x, sizeof u);
    u = (u + 0x7fff + (u >> 16 & 1)) & ~0xffff;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* What alibi adds to scores. */
static vf alibi_bias(const struct pd_attn *a, vf slope, vf key_pos)
{
    const vf bias = slope * key_pos;
    return a->alibi_bf16 ? round_bf16(bias) * a->scale : bias;
}

/* S (nb,RP) = K Q^T with alibi, invisible entries HIDDEN. */
static void scores(const struct tile *t, const float *k, int64_t ldk, int64_t key_pos, int64_t nb)
{
    tile_mm(nb, t->RP, t->D, k, ldk, 1, t->qt, t->RP, t->s, t->RP, false);
    const int64_t first = t->seg->pos + t->i0, last = first + t->ni - 1, w = t->a->window;
    const bool all = t->R == t->RP && key_pos + nb - 1 <= first && (w == 0 || key_pos > last - w);
    if (all && !t->a->alibi)
        return;
    for (int64_t j = 0; j < nb; j++) {
        float *sj = t->s + j * t->RP;
        const int32_t kp = (int32_t)(key_pos + j);
        for (int64_t r = 0; r < t->RP; r += PD_LANES) {
            vi p;
            memcpy(&p, t->pos + r, sizeof p);
            vi see = p >= kp;
            if (w > 0)
                see &= p - (int32_t)w < kp;
            vf v = v_load(sj + r);
            if (t->a->alibi)
                v += alibi_bias(t->a, v_load(t->slope + r), v_set((float)kp));
            v_store(sj + r, v_select(see, v, v_set(HIDDEN)));
        }
    }
}

/* Running softmax along j: s becomes exp(s - m), m and l move on, acc rows shrink to the new m. */
static void softmax_step(const struct tile *t, int64_t nb)
{
    for (int64_t r = 0; r < t->RP; r += PD_LANES) {
        float *s = t->s + r;
        const vf m0 = v_load(t->m + r);
        vf m = m0, sum = {0};
        for (int64_t j = 0; j < nb; j++)
            m = v_max(v_load(s + j * t->RP), m);
        for (int64_t j = 0; j < nb; j++) {
            const vf e = v_exp(v_load(s + j * t->RP) - m);
            v_store(s + j * t->RP, e);
            sum += e;
        }
        const vf shrink = v_exp(m0 - m);
        v_store(t->m + r, m);
        v_store(t->l + r, v_load(t->l + r) * shrink + sum);
        for (int64_t i = 0; i < PD_LANES && r + i < t->R; i++) {
            const float f = shrink[i];
            if (f == 1.0f)
                continue;
            float *o = t->acc + (r + i) * t->D;
            for (int64_t d = 0; d < t->D; d++)
                o[d] *= f;
        }
    }
}

static void forward_tile(struct tile *t)
{
    const struct pd_attn_seg *seg = t->seg;
    memset(t->acc, 0, (size_t)(t->R * t->D) * sizeof *t->acc);
    for (int64_t r = 0; r < t->RP; r++) {
        t->m[r] = HIDDEN;
        t->l[r] = 0;
    }
    for (int n = 0; n < seg->n_spans; n++) {
        const struct pd_attn_span *sp = &seg->spans[n];
        int64_t lo, hi, ld;
        visible(t, sp, &lo, &hi);
        for (int64_t j = lo; j < hi; j += KEYS) {
            const int64_t nb = hi - j < KEYS ? hi - j : KEYS;
            const float *k = kv_rows(t, sp->k, j, nb, t->kf, &ld);
            scores(t, k, ld, sp->pos + j, nb);
            softmax_step(t, nb);
            const float *v = kv_rows(t, sp->v, j, nb, t->vf_, &ld);
            tile_mm(t->R, t->D, nb, t->s, 1, t->RP, v, ld, t->acc, t->D, true);
        }
    }
    for (int64_t r = 0; r < t->R; r++) {
        const int64_t i = t->i0 + r / t->G, h = t->kvh * t->G + r % t->G;
        float *o = seg->o + i * t->a->ldo + h * t->a->hso;
        const float inv = 1.0f / t->l[r];
        for (int64_t d = 0; d < t->D; d++)
            o[d] = t->acc[r * t->D + d] * inv;
        if (seg->lse)
            seg->lse[i * t->a->heads + h] = t->m[r] + logf(t->l[r]);
    }
}

/* to[0..3] = the sums of four vectors, by adding them crosswise in their 128-bit quarters first. */
PD_INLINE void sum4(const vf *v, float *to)
{
    vi lo, hi, first, second;
    for (int i = 0; i < PD_LANES; i++) {
        const int lane = i / 4 * 4, other = i % 2 * PD_LANES; /* of a, b, a, b */
        lo[i] = other + lane + i % 4 / 2;
        hi[i] = other + lane + 2 + i % 4 / 2;
        first[i] = i % 4 / 2 * PD_LANES + lane + i % 2;
        second[i] = i % 4 / 2 * PD_LANES + lane + 2 + i % 2;
    }
    const vf ab = v_shuffle(v[0], v[1], lo) + v_shuffle(v[0], v[1], hi);
    const vf cd = v_shuffle(v[2], v[3], lo) + v_shuffle(v[2], v[3], hi);
    vf sum = v_shuffle(ab, cd, first) + v_shuffle(ab, cd, second);
#if PD_LANES >= 16
    sum += v_swap(sum, 8);
#endif
#if PD_LANES >= 8
    sum += v_swap(sum, 4);
#endif
    memcpy(to, &sum, 4 * sizeof *to);
}

/* s[h][j] = q_h . k_j for up to 3 heads and 4 keys at a time: 12 accumulators. */
PD_INLINE void dots(const int nh, const int nk, int64_t D, const float *q, const float *k,
                    int64_t ldk, float *s, int64_t lds)
{
    vf acc[3][4];
#pragma GCC unroll 3
    for (int h = 0; h < nh; h++)
#pragma GCC unroll 4
        for (int j = 0; j < nk; j++)
            acc[h][j] = (vf){0};
    int64_t d = 0;
    for (; d + PD_LANES <= D; d += PD_LANES) {
        vf kv[4];
#pragma GCC unroll 4
        for (int j = 0; j < nk; j++)
            kv[j] = v_load(k + j * ldk + d);
#pragma GCC unroll 3
        for (int h = 0; h < nh; h++) {
            const vf x = v_load(q + h * D + d);
#pragma GCC unroll 4
            for (int j = 0; j < nk; j++)
                acc[h][j] += x * kv[j];
        }
    }
#pragma GCC unroll 3
    for (int h = 0; h < nh; h++) {
        if (nk == 4)
            sum4(acc[h], s + h * lds);
        else
            s[h * lds] = v_sum(acc[h][0]);
        for (int64_t e = d; e < D; e++)
            for (int j = 0; j < nk; j++)
                s[h * lds + j] += q[h * D + e] * k[j * ldk + e];
    }
}

static void all_dots(int64_t G, int64_t n, int64_t D, const float *q, const float *k, int64_t ldk,
                     float *s, int64_t lds)
{
    for (int64_t h = 0; h < G; h += 3) {
        const int64_t nh = G - h < 3 ? G - h : 3;
        const float *qh = q + h * D;
        float *sh = s + h * lds;
        int64_t j = 0;
        for (; j + 4 <= n; j += 4)
            if (nh == 3)
                dots(3, 4, D, qh, k + j * ldk, ldk, sh + j, lds);
            else if (nh == 2)
                dots(2, 4, D, qh, k + j * ldk, ldk, sh + j, lds);
            else
                dots(1, 4, D, qh, k + j * ldk, ldk, sh + j, lds);
        for (; j < n; j++)
            for (int64_t x = 0; x < nh; x++)
                dots(1, 1, D, qh + x * D, k + j * ldk, ldk, sh + x * lds + j, lds);
    }
}

/* One head's step over nb scores: s becomes exp(s - m), m and l move on, acc shrinks. */
static void decode_softmax(const struct tile *t, int64_t r, float *s, int64_t nb)
{
    vf mx = v_set(t->m[r]), sum = {0};
    PD_FOR_LANES(x, m, nb)
    mx = v_max(m == PD_LANES ? v_load(s + x) : v_load_part(s + x, m, HIDDEN), mx);
    const float top = v_hmax(mx), shrink = expf(t->m[r] - top);
    PD_FOR_LANES(x, m, nb)
    {
        const vf e = v_exp((m == PD_LANES ? v_load(s + x) : v_load_part(s + x, m, HIDDEN)) - top);
        v_put(s + x, m, e);
        sum += e;
    }
    t->l[r] = t->l[r] * shrink + v_sum(sum);
    t->m[r] = top;
    if (shrink != 1.0f)
        for (int64_t d = 0; d < t->D; d++)
            t->acc[r * t->D + d] *= shrink;
}

/* The keys and values that come next, on their way into the second-level cache while those that are
 * there are worked on: a few lines at a time, so that memory is never idle and never waited for. */
struct ahead {
    const char *base; /* keys, then values */
    const void *values;
    int64_t row, n, first; /* of the rows first..first+n-1 */
    int head, n_heads, kvh;
    int64_t per; /* pieces, a row of a head each, at a time */
};

static void ahead_begin(struct ahead *f, const struct tile *t, const struct pd_attn_span *sp,
                        int64_t first, int64_t n, int kvh, int n_kv)
{
    /* between a group of four keys and the next, one row of scores and the next, eight values */
    const int64_t steps = n_kv * ((n + 3) / 4 + (n + 7) / 8) + t->R;
    *f = (struct ahead){.base = sp->k,
                        .values = sp->v,
                        .n = n,
                        .first = first,
                        .n_heads = n_kv,
                        .kvh = kvh,
                        .per = (2 * n * n_kv + steps - 1) / steps};
}

static void ahead_some(struct ahead *f, const struct tile *t)
{
    const int64_t size = t->a->kv == PD_DTYPE_F32 ? 4 : 2;
    for (int64_t i = 0; i < f->per && f->base; i++) {
        const int64_t at = (f->first + f->row) * t->a->ldk + (f->kvh + f->head) * t->a->hsk;
        for (int64_t b = 0; b < t->D * size; b += 64)
            __builtin_prefetch(f->base + at * size + b, 0, 2);
        if (++f->head < f->n_heads)
            continue;
        f->head = 0;
        if (++f->row < f->n)
            continue;
        f->row = 0;
        f->base = f->values;
        f->values = NULL;
    }
}

/* The keys j..j+nb-1 of a span, for all rows. */
static void decode_tile(struct tile *t, const struct pd_attn_span *sp, int64_t j, int64_t nb,
                        int kvh0, int n_kv, struct ahead *next)
{
    const struct pd_attn *a = t->a;
    const int64_t G = t->G, D = t->D, first_head = kvh0 * G;
    int64_t ld;
    for (int64_t x = 0; x < nb; x += 4) { /* key by key through memory, all heads of each */
        const int64_t some = nb - x < 4 ? nb - x : 4;
        for (int g = 0; g < n_kv; g++) {
            t->kvh = kvh0 + g;
            const float *k = kv_rows(t, sp->k, j + x, some, t->kf, &ld);
            all_dots(G, some, D, t->q + g * G * D, k, ld, t->s + g * G * KEYS + x, KEYS);
            ahead_some(next, t);
        }
    }
    for (int64_t r = 0; r < t->R; r++) {
        float *s = t->s + r * KEYS;
        if (a->alibi)
            for (int64_t x = 0; x < nb; x++)
                s[x] += alibi_bias(a, v_set(a->alibi[first_head + r]),
                                   v_set((float)(sp->pos + j + x)))[0];
        decode_softmax(t, r, s, nb);
        ahead_some(next, t);
    }
    for (int g = 0; g < n_kv; g++)
        for (int64_t x = 0; x < nb; x += 8) {
            const int64_t some = nb - x < 8 ? nb - x : 8;
            t->kvh = kvh0 + g;
            const float *v = kv_rows(t, sp->v, j + x, some, t->vf_, &ld);
            tile_mm(G, D, some, t->s + g * G * KEYS + x, KEYS, 1, v, ld, t->acc + g * G * D, D,
                    true);
            ahead_some(next, t);
        }
}

/* One query token, n_kv kv heads from kvh0 on (n_kv * G <= RP): row r = kv head by kv head, G each.
 * The heads of a tile of keys are done together, since their rows lie side by side. */
static void decode(struct tile *t, const struct pd_attn_seg *seg, int64_t i0, int kvh0, int n_kv)
{
    const struct pd_attn *a = t->a;
    const int64_t G = t->G, D = t->D, first_head = kvh0 * G;
    t->seg = seg, t->i0 = i0, t->ni = 1, t->R = n_kv * G;
    for (int64_t r = 0; r < t->R; r++) {
        const float *q = seg->q + i0 * a->ldq + (first_head + r) * a->hsq;
        for (int64_t d = 0; d < D; d++)
            t->q[r * D + d] = q[d] * a->scale;
        t->m[r] = HIDDEN;
        t->l[r] = 0;
    }
    memset(t->acc, 0, (size_t)(t->R * D) * sizeof *t->acc);
    for (int n = 0; n < seg->n_spans; n++) {
        const struct pd_attn_span *sp = &seg->spans[n];
        int64_t lo, hi;
        visible(t, sp, &lo, &hi);
        for (int64_t j = lo; j < hi; j += KEYS) {
            struct ahead next = {0};
            int64_t from = j + KEYS, to = hi;
            const int after = from < hi ? n : n + 1;
            if (after > n && after < seg->n_spans)
                visible(t, &seg->spans[after], &from, &to);
            if (after < seg->n_spans && from < to)
                ahead_begin(&next, t, &seg->spans[after], from, to - from < KEYS ? to - from : KEYS,
                            kvh0, n_kv);
            decode_tile(t, sp, j, hi - j < KEYS ? hi - j : KEYS, kvh0, n_kv, &next);
        }
    }
    for (int64_t r = 0; r < t->R; r++) {
        float *o = seg->o + i0 * a->ldo + (first_head + r) * a->hso;
        const float inv = 1.0f / t->l[r];
        for (int64_t d = 0; d < D; d++)
            o[d] = t->acc[r * D + d] * inv;
        if (seg->lse)
            seg->lse[i0 * a->heads + first_head + r] = t->m[r] + logf(t->l[r]);
    }
}

void PD_KERNEL(attn_forward)(const struct pd_attn *a, const struct pd_attn_seg *segs,
                             const struct pd_attn_item *items, int64_t n_items, float *scratch,
                             int64_t per_thread)
{
#pragma omp parallel
    {
        struct tile t;
        (void)tile_init(&t, a, scratch + omp_get_thread_num() * per_thread);
        /* Kv heads that one thread takes: several when there are rows enough for all threads. The
         * result is the same either way. */
        int per = (int)(t.RP / t.G);
        if (n_items < 4 * omp_get_num_threads())
            per = 1;
        else if (per > a->kv_heads)
            per = a->kv_heads;
#pragma omp for schedule(dynamic) collapse(2)
        for (int64_t n = 0; n < n_items; n++)
            for (int kv0 = 0; kv0 < a->kv_heads; kv0 += per) {
                const struct pd_attn_item *it = &items[n];
                const int n_kv = a->kv_heads - kv0 < per ? a->kv_heads - kv0 : per;
                if (it->n == 1)
                    decode(&t, &segs[it->seg], it->first, kv0, n_kv);
                else
                    for (int kvh = kv0; kvh < kv0 + n_kv; kvh++) {
                        tile_begin(&t, &segs[it->seg], it->first, it->n, kvh);
                        forward_tile(&t);
                    }
            }
    }
}

/* Dao et al. 2022, algorithm 4, with everything transposed like S:
 *   P = exp(S - lse)         dV += P dO        dP = V dO^T
 *   dS = P * (dP - delta)    dK += dS Q        dQ += dS^T K      delta = rowsum(dO * O) */
static void backward_keys(struct tile *t, const struct pd_attn_span *sp, int64_t j, int64_t nb)
{
    const int64_t ld = t->a->ldk, at = j * ld + t->kvh * t->a->hsk;
    const float *k = (const float *)sp->k + at, *v = (const float *)sp->v + at;
    scores(t, k, ld, sp->pos + j, nb);
    tile_mm(nb, t->RP, t->D, v, ld, 1, t->doutt, t->RP, t->ds, t->RP, false);
    for (int64_t x = 0; x < nb; x++) {
        float *s = t->s + x * t->RP, *ds = t->ds + x * t->RP;
        for (int64_t r = 0; r < t->RP; r += PD_LANES) {
            const vf p = v_exp(v_load(s + r) - v_load(t->l + r));
            v_store(s + r, p);
            v_store(ds + r, p * (v_load(ds + r) - v_load(t->delta + r)));
        }
    }
    tile_mm(nb, t->D, t->R, t->s, t->RP, 1, t->dout, t->D, sp->dv + at, ld, true);
    tile_mm(nb, t->D, t->R, t->ds, t->RP, 1, t->q, t->D, sp->dk + at, ld, true);
    tile_mm(t->R, t->D, nb, t->ds, 1, t->RP, k, ld, t->acc, t->D, true);
}

static void backward_tile(struct tile *t)
{
    const struct pd_attn_seg *seg = t->seg;
    const struct pd_attn *a = t->a;
    gather(t, seg->dout, a->ldo, a->hso, 1.0f, t->dout, t->doutt);
    for (int64_t r = 0; r < t->RP; r++) {
        t->delta[r] = 0;
        t->l[r] = 0;
        if (r >= t->R)
            continue;
        const int64_t i = t->i0 + r / t->G, h = t->kvh * t->G + r % t->G;
        const float *o = seg->o + i * a->ldo + h * a->hso;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t d = 0; d < t->D; d++)
            sum += o[d] * t->dout[r * t->D + d];
        t->delta[r] = sum;
        t->l[r] = seg->lse[i * a->heads + h];
    }
    memset(t->acc, 0, (size_t)(t->R * t->D) * sizeof *t->acc);
    for (int n = 0; n < seg->n_spans; n++) {
        int64_t lo, hi;
        visible(t, &seg->spans[n], &lo, &hi);
        for (int64_t j = lo; j < hi; j += KEYS)
            backward_keys(t, &seg->spans[n], j, hi - j < KEYS ? hi - j : KEYS);
    }
    for (int64_t r = 0; r < t->R; r++) {
        const int64_t i = t->i0 + r / t->G, h = t->kvh * t->G + r % t->G;
        float *dq = seg->dq + i * a->ldq + h * a->hsq;
        for (int64_t d = 0; d < t->D; d++)
            dq[d] = t->acc[r * t->D + d] * a->scale;
    }
}

void PD_KERNEL(attn_backward)(const struct pd_attn *a, const struct pd_attn_seg *segs,
                              const struct pd_attn_item *items, int64_t n_items, float *scratch,
                              int64_t per_thread)
{
#pragma omp parallel
    {
        struct tile t;
        (void)tile_init(&t, a, scratch + omp_get_thread_num() * per_thread);
        const int64_t step = pd_attn_tile_rows(t.G);
#pragma omp for schedule(dynamic) collapse(2)
        for (int64_t n = 0; n < n_items; n++)
            for (int kvh = 0; kvh < a->kv_heads; kvh++)
                for (int s = 0; s < items[n].n; s++) {
                    const struct pd_attn_seg *seg = &segs[items[n].seg + s];
                    for (int64_t i = 0; i < seg->n; i += step) {
                        tile_begin(&t, seg, i, seg->n - i < step ? seg->n - i : step, kvh);
                        backward_tile(&t);
                    }
                }
    }
}
