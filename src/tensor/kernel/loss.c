/* Softmax over a vocabulary that arrives in chunks of columns, and its gradient; AdamW.
 *
 * With z = logit / temperature, p = softmax(z):  log p(target) = z_target - lse,
 * entropy H = lse - sum p z;  d log p(t)/dz = [v = t] - p,  dH/dz = -p (z - lse + H). */
#include "tensor/kernel/vec.h"

static void merge_row(int64_t cols, const float *z, float k, struct pd_softmax_row *row)
{
    vf mx = v_set(-INFINITY);
    PD_FOR_LANES(i, m, cols)
    mx = v_max(m == PD_LANES ? v_load(z + i) : v_load_part(z + i, m, -INFINITY), mx);
    const float top = fmaxf(v_hmax(mx) * k, row->max);
    vf s = {0}, w = {0};
    PD_FOR_LANES(i, m, cols)
    {
        const vf v = (m == PD_LANES ? v_load(z + i) : v_load_part(z + i, m, -1e30f)) * k;
        const vf e = v_exp(v - top);
        s += e;
        w += e * v;
    }
    const float old = row->sum > 0 ? expf(row->max - top) : 0.0f;
    row->sum = row->sum * old + v_sum(s);
    row->zsum = row->zsum * old + v_sum(w);
    row->max = top;
}

void PD_KERNEL(softmax_chunk)(int64_t n, int64_t first, int64_t cols, const float *logits,
                              float inv_temp, const int32_t *target, struct pd_softmax_row *row)
{
#pragma omp parallel for schedule(static) if (n * cols > PD_PARALLEL_FLOATS)
    for (int64_t r = 0; r < n; r++) {
        merge_row(cols, logits + r * cols, inv_temp, &row[r]);
        const int64_t t = target[r] - first;
        if (t >= 0 && t < cols)
            row[r].ztarget = logits[r * cols + t] * inv_temp;
    }
}

void PD_KERNEL(logprob_grad)(int64_t n, int64_t first, int64_t cols, float *logits, float inv_temp,
                             const struct pd_logprob_row *row)
{
#pragma omp parallel for schedule(static) if (n * cols > PD_PARALLEL_FLOATS)
    for (int64_t r = 0; r < n; r++) {
        float *z = logits + r * cols;
        const struct pd_logprob_row q = row[r];
        const float gl = q.dlogprob * inv_temp, gh = q.dentropy * inv_temp;
        PD_FOR_LANES(i, m, cols)
        {
            const vf d = v_get(z + i, m) * inv_temp - q.lse; /* log p */
            const vf p = v_exp(d);
            v_put(z + i, m, -p * (gl + gh * (d + q.entropy)));
        }
        const int64_t t = q.target - first;
        if (t >= 0 && t < cols)
            z[t] += gl;
    }
}

/* c: 1-b1, b2, 1-b2, eps, 1 - lr*wd, lr/(1-b1^t), 1/sqrt(1-b2^t), gradient scale */
void PD_KERNEL(adamw)(int64_t n, float *p, const float *g, float *m, float *v, const float *c)
{
    const float a1 = c[0], b2 = c[1], a2 = c[2], eps = c[3];
    const float keep = c[4], step = c[5], rbc2 = c[6], k = c[7];
#pragma omp parallel for simd schedule(static) if (parallel : n > PD_PARALLEL_FLOATS)
    for (int64_t i = 0; i < n; i++) {
        const float gi = g[i] * k;
        const float m1 = m[i] + a1 * (gi - m[i]);
        const float v1 = b2 * v[i] + a2 * gi * gi;
        m[i] = m1;
        v[i] = v1;
        p[i] = keep * p[i] - step * m1 / (sqrtf(v1) * rbc2 + eps);
    }
}
