/* Attention over prefix trees against a naive dense attention in double over the whole stream. */
#include "tensor/attention.h"
#include "tensor/dtype.h"
#include "twin.h"

enum { MAX_SEGS = 8, MAX_SPANS = 16, MAX_ROWS = 512, MAX_HEADS = 142 };

/* A stream of segments as a packed batch has them: start row, length, parent. */
struct tree {
    int n;
    int64_t start[MAX_SEGS], len[MAX_SEGS];
    int parent[MAX_SEGS];
};

struct problem {
    struct pd_attn a;
    struct tree t;
    int64_t T, pos[MAX_ROWS];
    int seg[MAX_ROWS];
    double *q, *k, *v, *c; /* inputs and the loss's weights on the output */
};

static bool is_ancestor(const struct tree *t, int a, int s)
{
    for (; s >= 0; s = t->parent[s])
        if (s == a)
            return true;
    return false;
}

static bool sees(const struct problem *p, int64_t i, int64_t j)
{
    return is_ancestor(&p->t, p->seg[j], p->seg[i]) && p->pos[j] <= p->pos[i] &&
           (p->a.window == 0 || p->pos[j] > p->pos[i] - p->a.window);
}

static double bias(const struct pd_attn *a, int64_t h, int64_t pos)
{
    float product = a->alibi[h] * (float)pos;
    uint16_t half;
    if (!a->alibi_bf16)
        return (double)a->alibi[h] * (double)pos;
    pd_f32_to_bf16(&product, &half, 1);
    return (double)pd_bf16_to_f32(half) * (double)a->scale;
}

/* o (T, A*D) and lse (T, A), either may be NULL; returns sum c*o. */
static double dense(const struct problem *p, double *o, double *lse)
{
    const int64_t D = p->a.head_dim, A = p->a.heads, G = A / p->a.kv_heads;
    double loss = 0, s[MAX_ROWS];
    for (int64_t i = 0; i < p->T; i++)
        for (int64_t h = 0; h < A; h++) {
            double mx = -INFINITY, sum = 0;
            for (int64_t j = 0; j < p->T; j++) {
                s[j] = -INFINITY;
                if (!sees(p, i, j))
                    continue;
                double dot = 0;
                for (int64_t d = 0; d < D; d++)
                    dot += p->q[i * p->a.ldq + h * p->a.hsq + d] *
                           p->k[j * p->a.ldk + h / G * p->a.hsk + d];
                s[j] = dot * (double)p->a.scale;
                if (p->a.alibi)
                    s[j] += bias(&p->a, h, p->pos[j]);
                mx = fmax(mx, s[j]);
            }
            for (int64_t j = 0; j < p->T; j++)
                sum += exp(s[j] - mx);
            for (int64_t d = 0; d < D; d++) {
                double y = 0;
                for (int64_t j = 0; j < p->T; j++)
                    if (isfinite(s[j]))
                        y += exp(s[j] - mx) / sum * p->v[j * p->a.ldk + h / G * p->a.hsk + d];
                if (o)
                    o[i * p->a.ldo + h * p->a.hso + d] = y;
                loss += p->c[i * p->a.ldo + h * p->a.hso + d] * y;
            }
            if (lse)
                lse[i * A + h] = mx + log(sum);
        }
    return loss;
}
static double dense_loss(void *ctx)
{
    return dense(ctx, NULL, NULL);
}

/* Segments with the spans of their ancestors and themselves; spans are cut in pieces of `page`. */
static int build(const struct problem *p, int64_t page, const float *q, const float *k,
                 const float *v, float *o, float *lse, const float *dout, float *dq, float *dk,
                 float *dv, struct pd_attn_seg *segs, struct pd_attn_span *spans)
{
    int n = 0, tree = -1;
    for (int s = 0; s < p->t.n; s++) {
        int chain[MAX_SEGS], depth = 0;
        const int64_t row = p->t.start[s];
        if (p->t.parent[s] < 0)
            tree++;
        for (int a = s; a >= 0; a = p->t.parent[a])
            chain[depth++] = a;
        segs[s] = (struct pd_attn_seg){.q = q + row * p->a.ldq,
                                       .o = o + row * p->a.ldo,
                                       .lse = lse + row * p->a.heads,
                                       .dout = dout ? dout + row * p->a.ldo : NULL,
                                       .dq = dq ? dq + row * p->a.ldq : NULL,
                                       .n = p->t.len[s],
                                       .pos = p->pos[row],
                                       .spans = &spans[n],
                                       .tree = tree};
        while (depth-- > 0)
            for (int64_t from = 0; from < p->t.len[chain[depth]]; from += page) {
                const int64_t r = p->t.start[chain[depth]] + from;
                const int64_t left = p->t.len[chain[depth]] - from;
                spans[n++] = (struct pd_attn_span){.k = k + r * p->a.ldk,
                                                   .v = v + r * p->a.ldk,
                                                   .dk = dk ? dk + r * p->a.ldk : NULL,
                                                   .dv = dv ? dv + r * p->a.ldk : NULL,
                                                   .n = left < page ? left : page,
                                                   .pos = p->pos[r]};
                segs[s].n_spans++;
            }
    }
    return n;
}

/* Rows as decoding steps in one call, where threads take several heads of keys at once, against the
 * twin; some of them alone, or by two, whose heads are cut among threads, give the same bits. */
static void check_decoding(const struct problem *p, const struct pd_attn_seg *segs,
                           const double *want)
{
    /* with bytes a query between two words goes to either */
    const double tolerance = p->a.kv == PD_KV_INT8 ? 1e-4 : 2e-6;
    const int64_t no = p->T * p->a.ldo;
    float *o = zeros(no), *few = zeros(2 * p->a.ldo);
    struct pd_attn_seg rows[MAX_ROWS];
    const int threads = pd_backend_threads();
    struct pd_err err;
    for (int64_t i = 0; i < p->T; i++) {
        const int64_t at = i - p->t.start[p->seg[i]];
        rows[i] = segs[p->seg[i]];
        rows[i].q += at * p->a.ldq;
        rows[i].o = o + i * p->a.ldo;
        rows[i].lse = NULL;
        rows[i].pos += at;
        rows[i].n = 1;
    }
    pd_attn_forward(&p->a, rows, p->T);
    near_all("decoded o", o, want, no, tolerance);
    const int64_t step = p->T > 40 ? 5 : 1;
    for (int64_t i = 0; i < p->T; i += step) {
        const int n = i + 1 < p->T ? 1 + (int)i / 5 % 2 : 1;
        ok(pd_backend_init(1 + (int)i % 4, &err), &err);
        for (int r = 0; r < n; r++)
            rows[i + r].o = few + r * p->a.ldo;
        pd_attn_forward(&p->a, &rows[i], n);
        same_bits("o of one or two rows", few, o + i * p->a.ldo, n * p->a.ldo);
    }
    ok(pd_backend_init(threads, &err), &err);
    free(o), free(few);
}

/* x (n) times Hadamard matrices of the powers of two in n, the largest first. */
static void rotate(int64_t n, double *x)
{
    double y[PD_KV_INT8_DIM];
    for (int64_t m; n > 0; n -= m, x += m) {
        for (m = 1; 2 * m <= n;)
            m *= 2;
        for (int64_t i = 0; i < m; i++) {
            y[i] = 0;
            for (int64_t j = 0; j < m; j++)
                y[i] += __builtin_parityll((unsigned long long)(i & j)) ? -x[j] : x[j];
        }
        for (int64_t i = 0; i < m; i++)
            x[i] = y[i] / sqrt((double)m);
    }
}

/* Rows as a cache keeps them. */
struct kept {
    char *rows;    /* of all spans, one behind the other */
    float *scales; /* (kv_heads, rows) of each */
};

/* Value d of head h of row j of a span, but for its scale. */
static double kept_value(const struct pd_attn *a, enum pd_kv_half half, const char *rows, int64_t j,
                         int64_t h, int64_t d)
{
    const char *quad = rows + 4 * (j / 4 * a->ldk + h * a->hsk);
    if (a->kv == PD_KV_F16) {
        uint16_t x;
        memcpy(&x, rows + 2 * (j * a->ldk + h * a->hsk + d), sizeof x);
        return (double)pd_f16_to_f32(x);
    }
    return half == PD_KV_KEYS ? (uint8_t)quad[d / 16 * 64 + j % 4 * 16 + d % 16] - 128
                              : (int8_t)quad[4 * d + j % 4];
}

/* Row j of a span, x (kv_heads * D): what it reads back as, which is all that keeping it costs. */
static void check_kept(const struct pd_attn *a, enum pd_kv_half half, const char *rows,
                       const float *scales, int64_t j, const float *x, double *exact)
{
    const int64_t D = a->head_dim;
    for (int64_t h = 0; h < a->kv_heads; h++) {
        const bool bytes = a->kv == PD_KV_INT8;
        const double scale = bytes ? (double)scales[h * a->ld_scale + j] : 1;
        double was[1024], *is = exact + h * D;
        for (int64_t d = 0; d < D; d++) {
            const float half_of_x = pd_f16_to_f32(pd_f32_to_f16_1(x[h * D + d]));
            was[d] = (double)(bytes ? x[h * D + d] : half_of_x);
            is[d] = scale * kept_value(a, half, rows, j, h, d);
        }
        if (bytes)
            rotate(D, was);
        for (int64_t d = 0; d < D; d++)
            assert_true(fabs(is[d] - was[d]) <= (bytes ? 0.5001 * scale : 0));
        if (bytes)
            rotate(D, is);
    }
}

/* Rows of all spans, which begin at k or v, for which p->k or p->v becomes what they read back as.
 */
static struct kept keep(const struct problem *p, enum pd_kv_half half, const float *x,
                        double *exact, int64_t ldx, struct pd_attn_span *spans, int n)
{
    const struct pd_attn *a = &p->a;
    int64_t rows = 0;
    for (int s = 0; s < n; s++)
        rows += (spans[s].n + 3) / 4 * 4;
    const size_t bytes = (size_t)(rows * a->ldk * pd_kv_value_bytes(a->kv));
    struct kept all = {malloc(bytes), zeros(a->kv_heads * a->ld_scale)};
    char *to = all.rows;
    memset(to, 0x5a, bytes); /* in places of no token */
    float *scales = all.scales;
    for (int s = 0; s < n; s++) {
        const float *from = half == PD_KV_KEYS ? spans[s].k : spans[s].v;
        for (int64_t j = 0; j < spans[s].n; j++)
            pd_attn_store(a, half, j, from + j * ldx, to, scales);
        for (int64_t j = spans[s].n - 1; j >= 0; j -= 3) /* again: the others stay as they are */
            pd_attn_store(a, half, j, from + j * ldx, to, scales);
        for (int64_t j = 0; j < spans[s].n; j++)
            check_kept(a, half, to, scales, j, from + j * ldx, exact + (from - x) + j * ldx);
        if (half == PD_KV_KEYS)
            spans[s].k = to, spans[s].k_scale = scales;
        else
            spans[s].v = to, spans[s].v_scale = scales;
        to += (spans[s].n + 3) / 4 * 4 * a->ldk * pd_kv_value_bytes(a->kv);
        scales += spans[s].n;
    }
    return all;
}

/* Queries as they are when they meet keys of 8 bits alone. */
static void round_queries(struct problem *p, const float *q)
{
    const struct pd_attn *a = &p->a;
    for (int64_t i = 0; i < p->T * a->heads; i++) {
        const int64_t at = i / a->heads * a->ldq + i % a->heads * a->hsq;
        double most = 0;
        for (int64_t d = 0; d < a->head_dim; d++)
            p->q[at + d] = (double)q[at + d];
        rotate(a->head_dim, p->q + at);
        for (int64_t d = 0; d < a->head_dim; d++)
            most = fmax(most, fabs(p->q[at + d]));
        for (int64_t d = 0; d < a->head_dim; d++)
            p->q[at + d] = rint(p->q[at + d] * 16383 / most) * most / 16383;
        rotate(a->head_dim, p->q + at);
    }
}

enum bias_kind { PLAIN, ALIBI, ALIBI_BF16 };

static void run(const struct tree *t, int heads, int kv_heads, int D, int64_t window,
                enum bias_kind alibi)
{
    static const float steep[] = {0.5f, 0.25f, 0.125f, 0.0625f, 0.3f, 0.2f, 0.1f, 0.05f, 0.02f};
    float slopes[MAX_HEADS];
    for (int h = 0; h < heads; h++)
        slopes[h] = steep[h % 9];
    struct problem p = {.t = *t};
    struct pd_err err;
    const int64_t E = heads * D;
    p.a = (struct pd_attn){.heads = heads,
                           .kv_heads = kv_heads,
                           .head_dim = D,
                           .scale = 1.0f / sqrtf((float)D),
                           .ldq = E + 4,
                           .hsq = D,
                           .ldk = kv_heads * D + 2,
                           .hsk = D,
                           .ldo = E,
                           .hso = D,
                           .kv = PD_KV_F32,
                           .window = window,
                           .alibi = alibi ? slopes : NULL,
                           .alibi_bf16 = alibi == ALIBI_BF16};
    for (int s = 0; s < t->n; s++) {
        const int par = t->parent[s];
        const int64_t base = par < 0 ? 0 : p.pos[t->start[par]] + t->len[par];
        for (int64_t i = 0; i < t->len[s]; i++) {
            p.pos[t->start[s] + i] = base + i;
            p.seg[t->start[s] + i] = s;
        }
        p.T = t->start[s] + t->len[s];
    }
    const int64_t T = p.T, nq = T * p.a.ldq, nk = T * p.a.ldk, no = T * p.a.ldo;
    float *q = floats(nq, 2), *k = floats(nk, 2), *v = floats(nk, 1), *c = floats(no, 1);
    float *o = zeros(no), *lse = zeros(T * heads), *dq = zeros(nq), *dk = zeros(nk),
          *dv = zeros(nk);
    double *o2 = malloc((size_t)no * 8), *lse2 = malloc((size_t)(T * heads) * 8);
    double *q2 = doubles(q, nq);
    p.q = doubles(q, nq), p.k = doubles(k, nk), p.v = doubles(v, nk), p.c = doubles(c, no);
    struct pd_attn_seg segs[MAX_SEGS];
    struct pd_attn_span *spans = calloc(512, sizeof *spans);
    (void)dense(&p, o2, lse2);
    for (int pages = 0; pages < 2; pages++) { /* whole segments; more pages than a tile takes */
        (void)build(&p, pages ? 3 : 1000, q, k, v, o, lse, c, dq, dk, dv, segs, spans);
        memset(o, 0x7f, (size_t)no * sizeof *o);
        pd_attn_forward(&p.a, segs, t->n);
        near_all("o", o, o2, no, 2e-6);
        near_all("lse", lse, lse2, T * heads, 2e-6);
    }
    ok(pd_attn_backward(&p.a, segs, t->n, &err), &err);
    if (pd_backend_threads() == 1 && D <= 16 &&
        heads <= 9) { /* the twin is slow; test_threads compares the rest */
        check_grad("dv", p.v, nk, dv, dense_loss, &p, 2e-5);
        check_grad("dk", p.k, nk, dk, dense_loss, &p, 2e-5);
        check_grad("dq", p.q, nq, dq, dense_loss, &p, 2e-5);
    }

    /* each row as a decoding step gives the same numbers */
    (void)build(&p, 3, q, k, v, o, lse, NULL, NULL, NULL, NULL, segs, spans);
    check_decoding(&p, segs, o2);

    for (int i = 0; i < (D > PD_KV_INT8_DIM ? 1 : 3); i++) { /* the last: whole segments */
        const int64_t ldx = nk / T;
        const int n =
            build(&p, i < 2 ? 7 : 1000, q, k, v, o, lse, NULL, NULL, NULL, NULL, segs, spans);
        struct problem of = p;
        of.a.kv = i ? PD_KV_INT8 : PD_KV_F16;
        for (int s = 0; s < n; s++)
            of.a.ld_scale += spans[s].n;
        of.a.hsk = pd_kv_head_values(of.a.kv, D);
        of.a.ldk = kv_heads * of.a.hsk + 16;
        memcpy(p.q, q2, (size_t)nq * sizeof *q2);
        struct kept kk = keep(&of, PD_KV_KEYS, k, p.k, ldx, spans, n);
        struct kept kept_v = keep(&of, PD_KV_VALUES, v, p.v, ldx, spans, n);
        (void)dense(&p, o2, NULL);
        pd_attn_forward(&of.a, segs, t->n);
        /* with bytes a tile of one row rounds its query */
        near_all("o of a cache", o, o2, no, i ? 4e-4 : 2e-6);
        if (i)
            round_queries(&p, q);
        (void)dense(&p, o2, NULL);
        check_decoding(&of, segs, o2);
        free(kk.rows), free(kk.scales), free(kept_v.rows), free(kept_v.scales);
    }
    free(spans), free(o2), free(lse2), free(q2);
    free(q), free(k), free(v), free(c), free(o), free(lse), free(dq), free(dk), free(dv);
    free(p.q), free(p.k), free(p.v), free(p.c);
}

static const struct tree single = {1, {0}, {5}, {-1}};
static const struct tree pair = {3, {0, 20, 31}, {20, 11, 1}, {-1, 0, 0}};
static const struct tree two_trees = {
    6, {0, 3, 6, 8, 17, 18}, {3, 3, 2, 9, 1, 17}, {-1, 0, 1, -1, 3, 3}};
static const struct tree longer = {2, {0, 70}, {70, 67}, {-1, 0}};

static const struct tree row = {1, {0}, {70}, {-1}}; /* more keys than a tile */

static void body(void)
{
    run(&single, 1, 1, 8, 0, PLAIN);
    run(&single, 2, 1, 6, 0, PLAIN); /* no multiple of a vector */
    run(&pair, 9, 3, 16, 0, PLAIN);
    run(&two_trees, 4, 2, 8, 0, PLAIN);
    run(&two_trees, 4, 4, 12, 6, PLAIN); /* sliding window */
    run(&two_trees, 8, 1, 8, 0, ALIBI);  /* alibi, one kv head */
    run(&longer, 3, 3, 8, 0, ALIBI_BF16);
    run(&longer, 2, 1, 8, 0, PLAIN); /* more rows and keys than a tile */
}
static void test_against_dense(void **state)
{
    everywhere(body);
}

/* Sizes of heads and of groups that models have, and those between. */
static void sizes(void)
{
    run(&row, 2, 2, 20, 0, PLAIN);
    run(&row, 4, 2, 36, 0, ALIBI);
    run(&row, 10, 2, 80, 9, PLAIN);
    run(&row, 7, 1, 96, 0, PLAIN);
    run(&row, 6, 3, 128, 66, ALIBI_BF16);
    run(&row, 4, 2, 256, 0, PLAIN);
    run(&single, 2, 1, 1000, 0, PLAIN);
    run(&row, 142, 2, 4, 0, PLAIN); /* more heads to a group than rows in a tile */
    run(&row, 71, 1, 64, 0, PLAIN);
}
static void test_sizes(void **state)
{
    everywhere(sizes);
}

/* Large scores neither overflow nor lose rows; NaN comes through. */
static void test_extremes(void **state)
{
    float q[2] = {300, 300}, k[4] = {300, -300, 1, 1}, v[4] = {1, 2, 3, 4}, o[2], lse;
    const struct pd_attn a = {.heads = 1,
                              .kv_heads = 1,
                              .head_dim = 2,
                              .scale = 1,
                              .ldq = 2,
                              .hsq = 2,
                              .ldk = 2,
                              .hsk = 2,
                              .ldo = 2,
                              .hso = 2,
                              .kv = PD_KV_F32};
    struct pd_attn_span span = {.k = k, .v = v, .n = 2};
    struct pd_attn_seg seg = {
        .q = q, .o = o, .lse = &lse, .n = 1, .pos = 1, .spans = &span, .n_spans = 1};
    pd_attn_forward(&a, &seg, 1);
    assert_true(o[0] == 3 && o[1] == 4 && lse == 600);
    k[2] = NAN;
    pd_attn_forward(&a, &seg, 1);
    assert_true(isnan(o[0]));
    pd_attn_forward(&a, NULL, 0); /* nothing to do */
    seg.n = 0;
    pd_attn_forward(&a, &seg, 1);
}

/* Dense rows of q, k, v and o. */
static struct pd_attn dense_rows(int heads, int kv_heads, int D)
{
    return (struct pd_attn){.heads = heads,
                            .kv_heads = kv_heads,
                            .head_dim = D,
                            .scale = 0.25f,
                            .ldq = heads * D,
                            .hsq = D,
                            .ldk = kv_heads * D,
                            .hsk = D,
                            .ldo = heads * D,
                            .hso = D,
                            .kv = PD_KV_F32};
}

static void of_bytes(struct pd_attn *a, int64_t ld_scale)
{
    a->kv = PD_KV_INT8;
    a->hsk = pd_kv_head_values(a->kv, a->head_dim);
    a->ldk = a->kv_heads * a->hsk;
    a->ld_scale = ld_scale;
}

/* Eight bits: a head with a value that is not finite reads back as NaN, one too small for its
 * scale's inverse as 0, what is large as it is; and NaN in a query comes through. */
static void extremes_of_bytes(void)
{
    enum { D = 20, HEADS = 7 };
    static const float odd[HEADS] = {NAN, INFINITY, -INFINITY, 1e-38f, 1e38f, 0, 1e-25f};
    struct pd_attn a = dense_rows(HEADS, HEADS, D);
    a.scale = 1;
    of_bytes(&a, 1);
    for (int at = 0; at < D; at++) {
        float x[HEADS * D], q[HEADS * D], o[HEADS * D], scale[HEADS], scale_v[HEADS];
        uint8_t k[4 * HEADS * 32], v[4 * HEADS * 32];
        for (int i = 0; i < HEADS * D; i++) {
            const float other = i / D >= 3 ? 0 : 1;
            x[i] = i % D == at ? odd[i / D] : other;
            q[i] = 0.25f;
        }
        pd_attn_store(&a, PD_KV_KEYS, 0, x, k, scale);
        pd_attn_store(&a, PD_KV_VALUES, 0, x, v, scale_v);
        assert_memory_equal(scale, scale_v, sizeof scale);
        assert_true(isnan(scale[0]) && isnan(scale[1]) && isnan(scale[2]));
        assert_true(scale[3] == 0 && scale[5] == 0 && scale[6] > 0);
        q[5 * D + at] = NAN;
        struct pd_attn_span span = {.k = k, .v = v, .k_scale = scale, .v_scale = scale, .n = 1};
        struct pd_attn_seg seg = {.q = q, .o = o, .n = 1, .spans = &span, .n_spans = 1};
        pd_attn_forward(&a, &seg, 1);
        for (int d = 0; d < D; d++) {
            assert_true(isnan(o[d]) && isnan(o[D + d]) && isnan(o[2 * D + d]) && o[3 * D + d] == 0);
            assert_true(fabsf(o[4 * D + d] - x[4 * D + d]) <= 1e36f && isnan(o[5 * D + d]));
        }
    }
}
/* The largest sums that there are: all values of a query and a key at their limit. */
static void full_bytes(void)
{
    enum { D = PD_KV_INT8_DIM, KEYS = 5 };
    const float one = 1.0f / 127;
    static float q[D], o[D];
    static uint8_t k[8 * D];
    static int8_t v[8 * D];
    float scales[KEYS] = {one, one, one, one, one};
    struct pd_attn a = dense_rows(1, 1, D);
    a.scale = 1;
    of_bytes(&a, KEYS);
    for (int signs = 0; signs < 4; signs++) {
        const int of_q = signs / 2 ? -1 : 1, of_kv = signs % 2 ? -1 : 1;
        q[0] = (float)of_q * sqrtf(D); /* rotated: 1 everywhere */
        for (int i = 0; i < 8 * D; i++) {
            v[i] = (int8_t)(of_kv * 127);
            k[i] = (uint8_t)(v[i] + 128);
        }
        for (int n = 1; n <= KEYS; n++) {
            float lse;
            struct pd_attn_span span = {
                .k = k, .v = v, .k_scale = scales, .v_scale = scales, .n = n};
            struct pd_attn_seg seg = {
                .q = q, .o = o, .lse = &lse, .n = 1, .pos = n - 1, .spans = &span, .n_spans = 1};
            pd_attn_forward(&a, &seg, 1);
            near1("lse", n, (double)lse, of_q * of_kv * D + log(n), 1e-6);
            for (int d = 0; d < D; d++)
                near1("o", d, (double)o[d], d ? 0 : of_kv * sqrt(D), 1e-4);
        }
    }
}
static void test_extremes_of_bytes(void **state)
{
    everywhere(extremes_of_bytes);
    everywhere(full_bytes);
}

/* The same bits for any number of threads. */
static void test_threads(void **state)
{
    enum { A = 6, K = 2, D = 16, T = 120 };
    const struct pd_attn a = dense_rows(A, K, D);
    struct problem p = {
        .a = a, .t = {5, {0, 40, 70, 100, 110}, {40, 30, 30, 10, 10}, {-1, 0, 0, -1, 3}}, .T = T};
    static const int64_t base[] = {0, 40, 40, 0, 10};
    for (int s = 0; s < 5; s++)
        p.pos[p.t.start[s]] = base[s];
    struct pd_err err;
    struct pd_attn_seg segs[MAX_SEGS];
    struct pd_attn_span spans[MAX_SPANS];
    float *q = floats(T * A * D, 1), *k = floats(T * K * D, 1), *v = floats(T * K * D, 1);
    float *c = floats(T * A * D, 1), *lse = zeros(T * A);
    float *o[2], *dq[2], *dk[2], *dv[2];
    for (int i = 0; i < 2; i++) {
        ok(pd_backend_init(i ? 3 : 1, &err), &err);
        o[i] = zeros(T * A * D), dq[i] = zeros(T * A * D);
        dk[i] = zeros(T * K * D), dv[i] = zeros(T * K * D);
        (void)build(&p, 1000, q, k, v, o[i], lse, c, dq[i], dk[i], dv[i], segs, spans);
        pd_attn_forward(&a, segs, 5);
        ok(pd_attn_backward(&a, segs, 5, &err), &err);
    }
    same_bits("o", o[0], o[1], T * A * D);
    same_bits("dq", dq[0], dq[1], T * A * D);
    same_bits("dk", dk[0], dk[1], T * K * D);
    same_bits("dv", dv[0], dv[1], T * K * D);
    for (int i = 0; i < 2; i++)
        free(o[i]), free(dq[i]), free(dk[i]), free(dv[i]);
    free(q), free(k), free(v), free(c), free(lse);
}

/* Few items, whose heads are cut among threads one way or another: short prompts, and tokens with
 * keys of different length, of groups and numbers of heads that do not divide. */
static void few_items(int heads, int kv_heads, const int64_t *len, int n)
{
    const struct pd_attn a = dense_rows(heads, kv_heads, 24);
    int64_t T = 0;
    for (int i = 0; i < n; i++)
        T += len[i];
    float *q = floats(T * a.ldq, 1), *k = floats(T * a.ldk, 1), *v = floats(T * a.ldk, 1);
    float *o[2] = {zeros(T * a.ldo), zeros(T * a.ldo)};
    float *lse[2] = {zeros(T * heads), zeros(T * heads)};
    struct pd_attn_seg segs[MAX_SEGS];
    struct pd_attn_span spans[MAX_SEGS];
    struct pd_err err;
    for (int decode = 0; decode < 2; decode++) /* all rows; the last one of each alone */
        for (int threads = 1; threads <= 8; threads++) {
            const int to = threads > 1;
            int64_t at = 0;
            for (int i = 0; i < n; at += len[i++]) {
                const int64_t first = decode ? at + len[i] - 1 : at;
                spans[i] = (struct pd_attn_span){
                    .k = k + at * a.ldk, .v = v + at * a.ldk, .n = len[i], .pos = 0};
                segs[i] = (struct pd_attn_seg){.q = q + first * a.ldq,
                                               .o = o[to] + first * a.ldo,
                                               .lse = lse[to] + first * heads,
                                               .n = decode ? 1 : len[i],
                                               .pos = decode ? len[i] - 1 : 0,
                                               .spans = &spans[i],
                                               .n_spans = 1};
            }
            ok(pd_backend_init(threads, &err), &err);
            pd_attn_forward(&a, segs, n);
            if (to) {
                same_bits("o", o[1], o[0], T * a.ldo);
                same_bits("lse", lse[1], lse[0], T * heads);
            }
        }
    for (int i = 0; i < 2; i++)
        free(o[i]), free(lse[i]);
    free(q), free(k), free(v);
}

static void test_few_items(void **state)
{
    static const int64_t len[] = {70, 3, 1};
    static const int shape[][2] = {{9, 3}, {15, 5}, {7, 1}, {12, 12}, {8, 2}};
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++)
        for (int n = 1; n <= 3; n++)
            few_items(shape[i][0], shape[i][1], len, n);
}

static int teardown(void **state)
{
    pd_backend_release();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_dense), cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_extremes),      cmocka_unit_test(test_extremes_of_bytes),
        cmocka_unit_test(test_threads),       cmocka_unit_test(test_few_items),
    };
    return cmocka_run_group_tests(tests, NULL, teardown);
}
