/* RMSNorm and LayerNorm. Rows in parallel; parameter gradients are summed column block by column
 * block, each over the rows in order, so that no sum depends on the number of threads. */
#include "tensor/kernel/vec.h"

enum { COLS = 64 }; /* columns of a parameter gradient that one thread takes */

static void rmsnorm_row(int64_t H, const float *x, const float *w, float eps, float *y, float *rstd)
{
    vf acc = {0};
    PD_FOR_LANES(i, m, H)
    {
        const vf v = v_get(x + i, m);
        acc += v * v;
    }
    const float r = 1.0f / sqrtf(v_sum(acc) / (float)H + eps);
    PD_FOR_LANES(i, m, H)
    v_put(y + i, m, v_get(x + i, m) * r * v_get(w + i, m));
    if (rstd)
        *rstd = r;
}

void PD_KERNEL(rmsnorm_forward)(int64_t T, int64_t H, const float *x, const float *w, float eps,
                                float *y, float *rstd)
{
    PD_SHARE(t, T, 1, T * H, rmsnorm_row(H, x + t * H, w, eps, y + t * H, rstd ? rstd + t : NULL));
}

static void rmsnorm_dw(int64_t T, int64_t H, const float *x, const float *rstd, const float *dy,
                       float *dw)
{
#pragma omp parallel for schedule(static) if (T * H > PD_PARALLEL_FLOATS)
    for (int64_t c = 0; c < H; c += COLS) {
        const int64_t n = H - c < COLS ? H - c : COLS;
        float acc[COLS] = {0};
        for (int64_t t = 0; t < T; t++) {
            const float *xt = x + t * H + c, *dt = dy + t * H + c;
            const float r = rstd[t];
#pragma omp simd
            for (int64_t i = 0; i < n; i++)
                acc[i] += dt[i] * (xt[i] * r);
        }
        for (int64_t i = 0; i < n; i++)
            dw[c + i] += acc[i];
    }
}

void PD_KERNEL(rmsnorm_backward)(int64_t T, int64_t H, const float *x, const float *w,
                                 const float *rstd, const float *dy, float *dx, enum pd_write mode,
                                 float *dw)
{
    if (dw) /* first: dx may overwrite dy */
        rmsnorm_dw(T, H, x, rstd, dy, dw);
#pragma omp parallel for schedule(static) if (T * H > PD_PARALLEL_FLOATS)
    for (int64_t t = 0; t < T; t++) {
        const float *xt = x + t * H, *dt = dy + t * H;
        float *dxt = dx + t * H;
        const float r = rstd[t];
        vf acc = {0};
        PD_FOR_LANES(i, m, H)
        acc += v_get(dt + i, m) * v_get(w + i, m) * v_get(xt + i, m);
        const float k = v_sum(acc) * r * r / (float)H;
        PD_FOR_LANES(i, m, H)
        {
            vf g = (v_get(dt + i, m) * v_get(w + i, m) - v_get(xt + i, m) * k) * r;
            if (mode == PD_WRITE_ADD)
                g += v_get(dxt + i, m);
            v_put(dxt + i, m, g);
        }
    }
}

static void layernorm_row(int64_t H, const float *x, const float *w, const float *b, float eps,
                          float *y, float *mean, float *rstd)
{
    vf acc = {0};
    PD_FOR_LANES(i, m, H)
    acc += v_get(x + i, m);
    const float mu = v_sum(acc) / (float)H;
    float var = 0; /* of the centred values: no cancellation */
    acc = (vf){0};
    PD_FOR_LANES(i, m, H)
    {
        const vf d = (m == PD_LANES ? v_load(x + i) : v_load_part(x + i, m, mu)) - mu;
        acc += d * d;
    }
    var = v_sum(acc) / (float)H;
    const float r = 1.0f / sqrtf(var + eps);
    PD_FOR_LANES(i, m, H)
    {
        vf v = (v_get(x + i, m) - mu) * r * v_get(w + i, m);
        if (b)
            v += v_get(b + i, m);
        v_put(y + i, m, v);
    }
    if (mean) {
        *mean = mu;
        *rstd = r;
    }
}

void PD_KERNEL(layernorm_forward)(int64_t T, int64_t H, const float *x, const float *w,
                                  const float *b, float eps, float *y, float *mean, float *rstd)
{
    PD_SHARE(t, T, 1, T * H,
             layernorm_row(H, x + t * H, w, b, eps, y + t * H, mean ? mean + t : NULL,
                           mean ? rstd + t : NULL));
}

static void layernorm_dw(int64_t T, int64_t H, const float *x, const float *mean, const float *rstd,
                         const float *dy, float *dw, float *db)
{
#pragma omp parallel for schedule(static) if (T * H > PD_PARALLEL_FLOATS)
    for (int64_t c = 0; c < H; c += COLS) {
        const int64_t n = H - c < COLS ? H - c : COLS;
        float aw[COLS] = {0}, ab[COLS] = {0};
        for (int64_t t = 0; t < T; t++) {
            const float *xt = x + t * H + c, *dt = dy + t * H + c;
            const float mu = mean[t], r = rstd[t];
#pragma omp simd
            for (int64_t i = 0; i < n; i++) {
                aw[i] += dt[i] * ((xt[i] - mu) * r);
                ab[i] += dt[i];
            }
        }
        for (int64_t i = 0; i < n; i++) {
            if (dw)
                dw[c + i] += aw[i];
            if (db)
                db[c + i] += ab[i];
        }
    }
}

void PD_KERNEL(layernorm_backward)(int64_t T, int64_t H, const float *x, const float *w,
                                   const float *mean, const float *rstd, const float *dy, float *dx,
                                   enum pd_write mode, float *dw, float *db)
{
    if (dw || db)
        layernorm_dw(T, H, x, mean, rstd, dy, dw, db);
#pragma omp parallel for schedule(static) if (T * H > PD_PARALLEL_FLOATS)
    for (int64_t t = 0; t < T; t++) {
        const float *xt = x + t * H, *dt = dy + t * H;
        float *dxt = dx + t * H;
        const float mu = mean[t], r = rstd[t];
        vf s1 = {0}, s2 = {0}; /* of g and g * xhat, with g = dy * w */
        PD_FOR_LANES(i, m, H)
        {
            const vf g = v_get(dt + i, m) * v_get(w + i, m);
            s1 += g;
            s2 += g * ((v_get(xt + i, m) - mu) * r);
        }
        const float k1 = v_sum(s1) / (float)H, k2 = v_sum(s2) / (float)H;
        PD_FOR_LANES(i, m, H)
        {
            const vf xhat = (v_get(xt + i, m) - mu) * r;
            vf g = (v_get(dt + i, m) * v_get(w + i, m) - k1 - xhat * k2) * r;
            if (mode == PD_WRITE_ADD)
                g += v_get(dxt + i, m);
            v_put(dxt + i, m, g);
        }
    }
}
