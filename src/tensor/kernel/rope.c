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

/* A token's heads. */
static void rotate_heads(int n_heads, float *x, int64_t head_stride, int rot,
                         enum pd_rope_kind kind, const float *cs, float sign)
{
    const int64_t half = rot / 2;
    for (int h = 0; h < n_heads; h++, x += head_stride)
        if (kind == PD_ROPE_HALF)
            rotate_half(x, half, cs, cs + half, sign);
        else
            rotate_pairs(x, half, cs, cs + half, sign);
}

void PD_KERNEL(rope_apply)(int64_t T, int n_heads, float *x, int64_t ld, int64_t head_stride,
                           int rot, enum pd_rope_kind kind, const float *cs, bool inverse)
{
    const float sign = inverse ? -1.0f : 1.0f;
    PD_SHARE(t, T, 1, T * n_heads * rot,
             rotate_heads(n_heads, x + t * ld, head_stride, rot, kind, cs + t * rot, sign));
}
