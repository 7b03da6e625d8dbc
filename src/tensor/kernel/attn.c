/* Attention over spans, forward and backward.
 *
 * A tile is up to PD_ATTN_ROWS query rows of one kv head: row r = i * G + h is query head h (of the
 * G that share this kv head) of token i, so every key and value loaded serves all of them. Scores
 * are kept transposed, S[j][r] with r contiguous: queries are transposed once per tile, keys and
 * values are read where they lie, or copied side by side where they are not fp32 or lie in
 * several spans, and the softmax runs along j with one query row per vector lane, without a single
 * horizontal sum. Rows are padded to a multiple of 16 with rows that see nothing.
 *
 * Decoding one token has too few rows for that; it takes dot products instead (attn_decode.h). */
#include "tensor/kernel/attn_decode.h"
#include "tensor/team.h"

#include <omp.h>
#include <stdatomic.h>

/* rows (R,D) = scale * x's rows of this tile, rotated as the keys are, cols (D,RP) the transpose
 * with zero padding. */
static void gather(const struct tile *t, const float *x, int64_t ld, int64_t hs, float scale,
                   float *rows, float *cols)
{
    for (int64_t i = 0; i < t->ni; i++)
        for (int64_t h = 0; h < t->G; h++) {
            const float *src = x + (t->i0 + i) * ld + (t->kvh * t->G + h) * hs;
            const int64_t r = i * t->G + h;
            float *row = rows + r * t->D;
            for (int64_t d = 0; d < t->D; d++)
                row[d] = src[d] * scale;
            if (t->a->kv == PD_KV_INT8)
                rotate(t->D, row, row);
            for (int64_t d = 0; d < t->D; d++)
                cols[d * t->RP + r] = row[d];
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

static void store_halves(int64_t n, const float *x, uint16_t *to)
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

/* A head's values, rotated, as a token of a quad; returns their scale. */
static float store_bytes(int64_t D, const float *x, enum pd_kv_half half, int64_t token,
                         uint8_t *quad)
{
    float rotated[PD_KV_INT8_DIM];
    int16_t words[PD_KV_INT8_DIM];
    const int64_t all = pd_kv_head_values(PD_KV_INT8, D);
    rotate(D, x, rotated);
    const float scale = to_words(BYTE_MOST, D, rotated, words);
    if (half == PD_KV_KEYS)
        put_key(all, words, token, quad);
    else
        put_value(all, words, token, quad);
    return scale;
}

void PD_KERNEL(attn_store)(const struct pd_attn *a, enum pd_kv_half half, int64_t j, const float *x,
                           void *rows, float *scales)
{
    const int64_t D = a->head_dim, n = a->kv_heads * D;
    if (a->kv == PD_KV_F32)
        memcpy((float *)rows + j * a->ldk, x, (size_t)n * sizeof *x);
    else if (a->kv == PD_KV_F16)
        store_halves(n, x, (uint16_t *)rows + j * a->ldk);
    else
        for (int64_t h = 0; h < a->kv_heads; h++)
            scales[h * a->ld_scale + j] =
                store_bytes(D, x + h * D, half, j % QUAD, (uint8_t *)rows + quad_at(a, j, h));
}

/* Whether all rows see all of a piece. */
static bool all_see(const struct tile *t, const struct piece *p)
{
    const int64_t first = t->seg->pos + t->i0, last = first + t->ni - 1, w = t->a->window;
    const int64_t pos = p->span->pos + p->first;
    return t->R == t->RP && pos + p->n - 1 <= first && (w == 0 || pos > last - w);
}

/* Scores s (RP) of the key at a position: alibi, and HIDDEN where a row does not see it. */
static void place_scores(const struct tile *t, int64_t key_pos, float *s)
{
    const int64_t w = t->a->window;
    const int32_t kp = (int32_t)key_pos;
    for (int64_t r = 0; r < t->RP; r += PD_LANES) {
        vi p;
        memcpy(&p, t->pos + r, sizeof p);
        vi see = p >= kp;
        if (w > 0)
            see &= p - (int32_t)w < kp;
        vf v = v_load(s + r);
        if (t->a->alibi)
            v += alibi_bias(t->a, v_load(t->slope + r), v_set((float)kp));
        v_store(s + r, v_select(see, v, v_set(HIDDEN)));
    }
}

/* S (keys,RP) = K Q^T, with alibi, and HIDDEN where a row does not see a key. */
static void scores(const struct tile *t, const float *k, int64_t ldk, const struct keys *keys)
{
    tile_mm(keys->n, t->RP, t->D, k, ldk, 1, t->qt, t->RP, t->s, t->RP, false);
    float *s = t->s;
    for (const struct piece *p = keys->piece; p < keys->piece + keys->n_pieces; p++) {
        const bool as_they_are = !t->a->alibi && all_see(t, p);
        for (int64_t i = 0; i < p->n && !as_they_are; i++)
            place_scores(t, p->span->pos + p->first + i, s + i * t->RP);
        s += p->n * t->RP;
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

static struct reader rows_see(const struct tile *t)
{
    const int64_t first = t->seg->pos + t->i0;
    return (struct reader){.seg = t->seg, .first = first, .last = first + t->ni - 1};
}

static void forward_tile(struct tile *t)
{
    const struct pd_attn_seg *seg = t->seg;
    memset(t->acc, 0, (size_t)(t->R * t->D) * sizeof *t->acc);
    for (int64_t r = 0; r < t->RP; r++) {
        t->m[r] = HIDDEN;
        t->l[r] = 0;
    }
    struct reader all = rows_see(t);
    struct keys keys;
    for (next_keys(t->a, &all, &keys); keys.n > 0; next_keys(t->a, &all, &keys)) {
        int64_t ld;
        const float *k = kv_rows(t, &keys, PD_KV_KEYS, t->kv, &ld);
        scores(t, k, ld, &keys);
        softmax_step(t, keys.n);
        const float *v = kv_rows(t, &keys, PD_KV_VALUES, t->kv, &ld);
        tile_mm(t->R, t->D, keys.n, t->s, 1, t->RP, v, ld, t->acc, t->D, true);
    }
    for (int64_t r = 0; r < t->R; r++) {
        const int64_t i = t->i0 + r / t->G, h = t->kvh * t->G + r % t->G;
        float *o = seg->o + i * t->a->ldo + h * t->a->hso;
        const float inv = 1.0f / t->l[r];
        for (int64_t d = 0; d < t->D; d++)
            o[d] = t->acc[r * t->D + d] * inv;
        if (t->a->kv == PD_KV_INT8)
            rotate(t->D, o, o);
        if (seg->lse)
            seg->lse[i * t->a->heads + h] = t->m[r] + logf(t->l[r]);
    }
}

/* Forward work: items times runs of heads, dealt out in order. */
struct forward {
    const struct pd_attn *a;
    const struct pd_attn_seg *segs;
    const struct pd_attn_item *items;
    int64_t n_items;
    float *scratch;
    int64_t per_thread; /* floats of scratch */
    int heads, runs;    /* heads that a thread takes of an item at a time, how often that is */
    int64_t chunk;      /* taken at a time: items that follow each other, if whole, so that a thread
                           knows what it will read next */
    _Atomic int64_t taken;
};

/* How many heads of an item a thread takes at a time; the result is the same however many. */
static int heads_at_a_time(const struct forward *f, int64_t threads)
{
    const int64_t heads = f->a->heads, kv_heads = f->a->kv_heads, G = heads / kv_heads;
    const int64_t most = pd_attn_padded_rows(G);
    if (f->n_items >= 4 * threads) /* several groups, since there are items enough for all */
        return (int)(most / G < kv_heads ? most / G * G : heads);
    /* parts of groups, where groups are too few: of one token the same for each thread, else small
     * ones, since items differ in length */
    const bool one = f->n_items == 1 && f->items->n == 1;
    const int64_t tasks = one ? threads : 4 * threads, limit = one ? most : G;
    const int64_t n = (heads * f->n_items + tasks - 1) / tasks;
    return (int)(n < limit ? n : limit);
}

/* The tokens of an item; of several only kv heads whose first head is among h. */
static void forward_item(struct tile *t, const struct pd_attn_seg *seg,
                         const struct pd_attn_item *it, const struct head_run *h,
                         struct token following)
{
    const int G = (int)t->G;
    if (it->n == 1) {
        decode(t, (struct token){seg, it->first}, h, following);
        return;
    }
    for (int kv = (h->first + G - 1) / G; kv * G < h->first + h->n; kv++) {
        tile_begin(t, seg, it->first, it->n, kv);
        forward_tile(t);
    }
}

/* The token of the item that a thread does after item n, where it is known. */
static struct token token_after(const struct forward *f, int64_t n, int64_t end)
{
    if (f->runs > 1 || n + 1 >= end || f->items[n + 1].n > 1)
        return (struct token){NULL, 0};
    return (struct token){&f->segs[f->items[n + 1].seg], f->items[n + 1].first};
}

static void thread_forward(void *ctx, int me, int n)
{
    struct forward *f = ctx;
    const int64_t all = f->n_items * f->runs;
    struct tile t;
    (void)n;
    tile_init(&t, f->a, f->scratch + me * f->per_thread, f->per_thread);
    for (int64_t k; (k = atomic_fetch_add(&f->taken, f->chunk)) < all;)
        for (const int64_t end = k + f->chunk < all ? k + f->chunk : all; k < end; k++) {
            const int64_t i = k / f->runs;
            const int first = (int)(k % f->runs) * f->heads, left = f->a->heads - first;
            const struct head_run h = head_run(first, left < f->heads ? left : f->heads, (int)t.G);
            forward_item(&t, &f->segs[f->items[i].seg], &f->items[i], &h, token_after(f, i, end));
        }
}

void PD_KERNEL(attn_forward)(const struct pd_attn *a, const struct pd_attn_seg *segs,
                             const struct pd_attn_item *items, int64_t n_items, float *scratch,
                             int64_t per_thread)
{
    const int threads = pd_backend_threads();
    struct forward f = {.a = a,
                        .segs = segs,
                        .items = items,
                        .n_items = n_items,
                        .scratch = scratch,
                        .per_thread = per_thread};
    f.heads = heads_at_a_time(&f, threads);
    f.runs = (a->heads + f.heads - 1) / f.heads;
    f.chunk = f.runs == 1 ? n_items / (8 * threads) : 1;
    f.chunk = f.chunk < 1 ? 1 : f.chunk > 8 ? 8 : f.chunk;
    if (threads == 1)
        f.chunk = n_items * f.runs;
    pd_team_run(threads, thread_forward, &f);
}

/* Dao et al. 2022, algorithm 4, with everything transposed like S:
 *   P = exp(S - lse)         dV += P dO        dP = V dO^T
 *   dS = P * (dP - delta)    dK += dS Q        dQ += dS^T K      delta = rowsum(dO * O) */
static void backward_keys(struct tile *t, const struct keys *keys)
{
    const struct pd_attn_span *sp = keys->piece->span;
    const int64_t ld = t->a->ldk, at = keys->piece->first * ld + t->kvh * t->a->hsk;
    const int64_t nb = keys->n;
    const float *k = (const float *)sp->k + at, *v = (const float *)sp->v + at;
    scores(t, k, ld, keys);
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
    struct reader all = rows_see(t);
    struct keys keys;
    all.apart = true;
    for (next_keys(a, &all, &keys); keys.n > 0; next_keys(a, &all, &keys))
        backward_keys(t, &keys);
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
        tile_init(&t, a, scratch + omp_get_thread_num() * per_thread, per_thread);
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
