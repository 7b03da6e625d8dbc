/* Rotary position embedding (Su et al. 2021, eq. 34), both pairings. The backward is the same
 * rotation by the opposite angle. */
#include "tensor/kernel/vec.h"

static void rotate_half(float *x, int64_t half, const float *c, const float *s, float sign)
{
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
        const float a = x[i], b = x[i + half], si = s[i] * sign;
        x[i] = a * c[i] - b * si;
        x[i + half] = b * c[i] + a * si;
    }
}

static void rotate_pairs(float *x, int64_t half, const float *c, const float *s, float sign)
{
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
        const float a = x[2 * i], b = x[2 * i + 1], si = s[i] * sign;
        x[2 * i] = a * c[i] - b * si;
        x[2 * i + 1] = b * c[i] + a * si;
    }
}

void PD_KERNEL(rope_apply)(int64_t T, int n_heads, float *x, int64_t ld, int64_t head_stride,
                           int rot, enum pd_rope_kind kind, const float *cs, bool inverse)
{
    const int64_t half = rot / 2;
    const float sign = inverse ? -1.0f : 1.0f;
#pragma omp parallel for schedule(static) if (T * n_heads * rot > PD_PARALLEL_FLOATS)
    for (int64_t t = 0; t < T; t++) {
        const float *c = cs + t * rot, *s = c + half;
        for (int h = 0; h < n_heads; h++) {
            float *xh = x + t * ld + h * head_stride;
            if (kind == PD_ROPE_HALF)
                rotate_half(xh, half, c, s, sign);
            else
                rotate_pairs(xh, half, c, s, sign);
        }
    }
}
