#include "tensor/dtype.h"

#include <string.h>

static const struct pd_dtype_info infos[PD_DTYPE_COUNT] = {
#define X(name, st, ggml, block, bytes) {#name, st, ggml, block, bytes},
    PD_DTYPE_LIST(X)
#undef X
};

const struct pd_dtype_info *pd_dtype_info(enum pd_dtype t)
{
    PD_ASSERT(t < PD_DTYPE_COUNT);
    return &infos[t];
}

bool pd_dtype_from_ggml(uint32_t ggml, enum pd_dtype *t)
{
    for (int i = 0; i < PD_DTYPE_COUNT; i++)
        if ((uint32_t)infos[i].ggml == ggml) {
            *t = (enum pd_dtype)i;
            return true;
        }
    return false;
}

bool pd_dtype_from_safetensors(const char *name, enum pd_dtype *t)
{
    for (int i = 0; i < PD_DTYPE_COUNT; i++)
        if (infos[i].safetensors[0] && strcmp(infos[i].safetensors, name) == 0) {
            *t = (enum pd_dtype)i;
            return true;
        }
    return false;
}

size_t pd_dtype_row_bytes(enum pd_dtype t, size_t n)
{
    const struct pd_dtype_info *d = pd_dtype_info(t);
    if (n % (size_t)d->block != 0)
        return 0;
    return n / (size_t)d->block * (size_t)d->bytes;
}

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}
static float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
static uint16_t u16_at(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}
static float f16_at(const uint8_t *p)
{
    return pd_f16_to_f32(u16_at(p));
}

/* Half to single: shift the fields into place and let a multiplication by 2^112 rebias the
 * exponent; that also normalises subnormals. Infinities and NaN get the full exponent. */
float pd_f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t rest = (uint32_t)(h & 0x7fffu) << 13;
    const float scaled = float_of(rest) * 0x1p112f;
    const uint32_t u = (h & 0x7c00u) == 0x7c00u ? rest | 0x7f800000u : bits_of(scaled);
    return float_of(u | sign);
}

uint16_t pd_f32_to_f16_1(float f)
{
    const uint32_t u = bits_of(f), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u);
    if (a >= 0x477ff000u) /* 65520 and more round to infinity */
        return (uint16_t)(sign | 0x7c00u);
    if (a < 0x38800000u) { /* subnormal half: the fp32 adder rounds to its last place, 2^-24 */
        const float shifted = float_of(a) + 0.5f;
        return (uint16_t)(sign | (bits_of(shifted) - 0x3f000000u));
    }
    const uint32_t odd = a >> 13 & 1u;
    return (uint16_t)(sign | ((a + 0xfffu + odd - 0x38000000u) >> 13));
}

void pd_f32_to_f16(const float *src, uint16_t *dst, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = pd_f32_to_f16_1(src[i]);
}

void pd_f32_to_bf16(const float *src, uint16_t *dst, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const uint32_t u = bits_of(src[i]);
        const uint32_t rounded = (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
        const uint32_t nan = u >> 16 | 0x40u;
        dst[i] = (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
    }
}

/* ---- blocks: layouts and formulas in ggml's quantisation tables ---- */

static void block_q8_0(const uint8_t *b, float *y)
{
    const float d = f16_at(b);
    for (int j = 0; j < 32; j++)
        y[j] = d * (float)(int8_t)b[2 + j];
}

static void block_q4_0(const uint8_t *b, float *y)
{
    const float d = f16_at(b);
    for (int j = 0; j < 16; j++) {
        y[j] = d * (float)((b[2 + j] & 15) - 8);
        y[j + 16] = d * (float)((b[2 + j] >> 4) - 8);
    }
}

static void block_q4_1(const uint8_t *b, float *y)
{
    const float d = f16_at(b), m = f16_at(b + 2);
    for (int j = 0; j < 16; j++) {
        y[j] = (float)(b[4 + j] & 15) * d + m;
        y[j + 16] = (float)(b[4 + j] >> 4) * d + m;
    }
}

/* The fifth bits of a Q5 block: bit j for value j. */
static uint32_t u32_at(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void block_q5_0(const uint8_t *b, float *y)
{
    const float d = f16_at(b);
    const uint32_t high = u32_at(b + 2);
    for (int j = 0; j < 16; j++) {
        y[j] = d * (float)((int)((b[6 + j] & 15u) | (high >> j & 1u) << 4) - 16);
        y[j + 16] = d * (float)((int)(b[6 + j] >> 4 | (high >> (j + 16) & 1u) << 4) - 16);
    }
}

static void block_q5_1(const uint8_t *b, float *y)
{
    const float d = f16_at(b), m = f16_at(b + 2);
    const uint32_t high = u32_at(b + 4);
    for (int j = 0; j < 16; j++) {
        y[j] = (float)((b[8 + j] & 15u) | (high >> j & 1u) << 4) * d + m;
        y[j + 16] = (float)(b[8 + j] >> 4 | (high >> (j + 16) & 1u) << 4) * d + m;
    }
}

/* Six-bit scale and minimum of sub-block j of a K block. */
static void k_scale(const uint8_t *s, int j, int *scale, int *min)
{
    if (j < 4) {
        *scale = s[j] & 63;
        *min = s[j + 4] & 63;
    } else {
        *scale = (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
        *min = s[j + 4] >> 4 | (s[j] >> 6) << 4;
    }
}

/* Q4_K and Q5_K: 8 sub-blocks of 32; two share 32 bytes of nibbles; high (or NULL) has 5th bits. */
static void block_k45(const uint8_t *b, const uint8_t *high, const uint8_t *q, float *y)
{
    const float d = f16_at(b), dmin = f16_at(b + 2);
    for (int j = 0; j < 8; j++) {
        int scale, min;
        k_scale(b + 4, j, &scale, &min);
        const float ds = d * (float)scale, m = dmin * (float)min;
        for (int l = 0; l < 32; l++) {
            const uint8_t byte = q[j / 2 * 32 + l];
            int v = j % 2 ? byte >> 4 : byte & 15;
            if (high && (high[l] >> j & 1))
                v += 16;
            y[j * 32 + l] = ds * (float)v - m;
        }
    }
}
static void block_q4_k(const uint8_t *b, float *y)
{
    block_k45(b, NULL, b + 16, y);
}
static void block_q5_k(const uint8_t *b, float *y)
{
    block_k45(b, b + 16, b + 48, y);
}

static void block_q6_k(const uint8_t *b, float *y)
{
    const float d = f16_at(b + 208);
    for (int half = 0; half < 2; half++) {
        const uint8_t *ql = b + half * 64, *qh = b + 128 + half * 32;
        const int8_t *sc = (const int8_t *)b + 192 + half * 8;
        for (int quarter = 0; quarter < 4; quarter++)
            for (int l = 0; l < 32; l++) {
                const uint8_t low = ql[l + quarter % 2 * 32];
                const int q = (quarter < 2 ? low & 15 : low >> 4) | (qh[l] >> (2 * quarter) & 3)
                                                                        << 4;
                const int s = l / 16 + 2 * quarter;
                y[half * 128 + quarter * 32 + l] = d * (float)sc[s] * (float)(q - 32);
            }
    }
}

void pd_dtype_to_f32(enum pd_dtype t, const void *src, float *dst, size_t n)
{
    static void (*const block[PD_DTYPE_COUNT])(const uint8_t *, float *) = {
        [PD_DTYPE_Q8_0] = block_q8_0, [PD_DTYPE_Q4_0] = block_q4_0, [PD_DTYPE_Q4_1] = block_q4_1,
        [PD_DTYPE_Q5_0] = block_q5_0, [PD_DTYPE_Q5_1] = block_q5_1, [PD_DTYPE_Q4_K] = block_q4_k,
        [PD_DTYPE_Q5_K] = block_q5_k, [PD_DTYPE_Q6_K] = block_q6_k,
    };
    const uint8_t *p = src;
    if (t == PD_DTYPE_F32) {
        memcpy(dst, src, n * sizeof *dst);
    } else if (t == PD_DTYPE_F16) {
        for (size_t i = 0; i < n; i++)
            dst[i] = f16_at(p + 2 * i);
    } else if (t == PD_DTYPE_BF16) {
        for (size_t i = 0; i < n; i++)
            dst[i] = pd_bf16_to_f32(u16_at(p + 2 * i));
    } else {
        const struct pd_dtype_info *d = pd_dtype_info(t);
        PD_ASSERT(n % (size_t)d->block == 0);
        for (size_t i = 0; i < n; i += (size_t)d->block, p += d->bytes)
            block[t](p, dst + i);
    }
}
