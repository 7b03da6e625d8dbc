/* fp32 to the formats that files are written in: ggml's reference rules, its rounding included. */
#include "tensor/dtype.h"

#include <math.h>
#include <string.h>

/* A value that is not finite leaves a scale that is NaN, so that the whole block reads back as NaN
 * and is caught: the quants have no other way to say it. */
static void put_scale(uint8_t *b, float d)
{
    const uint16_t h = pd_f32_to_f16_1(d);
    b[0] = (uint8_t)h;
    b[1] = (uint8_t)(h >> 8);
}

/* roundf, halves away from zero: the half is exact in double, so the truncation is right. */
static int round_away(float v)
{
    return (int)((double)v + (v < 0 ? -0.5 : 0.5));
}

static void to_q8_0(const float *x, uint8_t *b)
{
    float max = 0;
    bool finite = true;
    for (int j = 0; j < 32; j++) {
        const float a = fabsf(x[j]);
        max = a > max ? a : max;
        finite &= a <= 3.4028234664e38f;
    }
    const float d = max / 127, inverse = d != 0 ? 1 / d : 0;
    put_scale(b, finite ? d : NAN);
    /* a block of subnormals has an infinite inverse: its f16 scale is 0 anyway */
    if (!finite || isinf(inverse))
        memset(b + 2, 0, 32);
    else
        for (int j = 0; j < 32; j++)
            b[2 + j] = (uint8_t)(int8_t)round_away(x[j] * inverse);
}

static void to_q4_0(const float *x, uint8_t *b)
{
    float largest = 0, max = 0; /* the value of largest magnitude, the first of equals */
    bool finite = true;
    for (int j = 0; j < 32; j++) {
        const float a = fabsf(x[j]);
        if (a > max) {
            max = a;
            largest = x[j];
        }
        finite &= a <= 3.4028234664e38f;
    }
    const float d = largest / -8, inverse = d != 0 ? 1 / d : 0;
    put_scale(b, finite ? d : NAN);
    if (!finite || isinf(inverse)) {
        memset(b + 2, 0x88, 16);
        return;
    }
    for (int j = 0; j < 16; j++) {
        const float low = x[j] * inverse + 8.5f, high = x[j + 16] * inverse + 8.5f;
        b[2 + j] = (uint8_t)((low < 15 ? (int)low : 15) | (high < 15 ? (int)high : 15) << 4);
    }
}

bool pd_dtype_can_write(enum pd_dtype t)
{
    return t == PD_DTYPE_F32 || t == PD_DTYPE_F16 || t == PD_DTYPE_BF16 || t == PD_DTYPE_Q8_0 ||
           t == PD_DTYPE_Q4_0;
}

void pd_dtype_from_f32(enum pd_dtype t, const float *src, void *dst, size_t n)
{
    const struct pd_dtype_info *d = pd_dtype_info(t);
    uint8_t *b = dst;
    PD_ASSERT(pd_dtype_can_write(t) && n % (size_t)d->block == 0);
    if (t == PD_DTYPE_F32)
        memcpy(dst, src, n * sizeof *src);
    else if (t == PD_DTYPE_F16)
        pd_f32_to_f16(src, dst, n);
    else if (t == PD_DTYPE_BF16)
        pd_f32_to_bf16(src, dst, n);
    else
        for (size_t i = 0; i < n; i += 32, b += d->bytes)
            (t == PD_DTYPE_Q8_0 ? to_q8_0 : to_q4_0)(src + i, b);
}
