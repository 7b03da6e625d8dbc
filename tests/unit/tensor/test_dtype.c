#include "tensor/dtype.h"
#include "twin.h"

static void test_f16_every_value(void **state)
{
    for (uint32_t h = 0; h < 65536; h++) {
        const int e = (int)(h >> 10 & 31), m = (int)(h & 1023);
        const double sign = h & 0x8000 ? -1.0 : 1.0;
        const float got = pd_f16_to_f32((uint16_t)h);
        if (e == 31) {
            assert_true(m ? isnan(got) : isinf(got));
            continue;
        }
        const double want = e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
        assert_true((double)got == sign * want);
        assert_int_equal(pd_f32_to_f16_1(got), h); /* and back */
    }
}

static void test_f16_rounds_to_nearest_even(void **state)
{
    static const struct {
        float f;
        uint16_t h;
    } cases[] = {
        {1.0f + 0x1p-11f, 0x3c00},     /* tie, down to even */
        {1.0f + 3 * 0x1p-11f, 0x3c02}, /* tie, up to even */
        {1.0f + 0x1p-11f + 0x1p-20f, 0x3c01},
        {65519.0f, 0x7bff}, /* largest finite */
        {65520.0f, 0x7c00}, /* rounds to infinity */
        {-INFINITY, 0xfc00},
        {0x1p-25f, 0x0000}, /* tie with 0 */
        {0x1.8p-25f, 0x0001},
        {-0.0f, 0x8000},
        {0x1.ffcp-15f, 0x0400}, /* carries from subnormal into normal */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(pd_f32_to_f16_1(cases[i].f), cases[i].h);
    assert_true(isnan(pd_f16_to_f32(pd_f32_to_f16_1(NAN))));
}

static void test_bf16(void **state)
{
    const float in[] = {1.0f, 1.0f + 0x1p-8f, 1.0f + 3 * 0x1p-8f, 1.0f + 0x1.1p-8f, -3.5f, INFINITY,
                        NAN,  3.4e38f};
    const uint16_t want[] = {0x3f80, 0x3f80, 0x3f82, 0x3f81, 0xc060, 0x7f80, 0x7fc0, 0x7f80};
    uint16_t got[8];
    pd_f32_to_bf16(in, got, 8);
    for (int i = 0; i < 8; i++)
        assert_int_equal(got[i], want[i]);
    assert_true(pd_bf16_to_f32(0xc060) == -3.5f);
}

static void put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

/* Values of each block layout, written out from their description rather than from the decoder. */
static void test_blocks(void **state)
{
    const uint16_t half = 0x3800, two = 0x4000; /* 0.5, 2.0 */
    uint8_t b[256] = {0};
    float y[256];

    put16(b, half);
    for (int j = 0; j < 32; j++)
        b[2 + j] = (uint8_t)(j - 16);
    pd_dtype_to_f32(PD_DTYPE_Q8_0, b, y, 32);
    for (int j = 0; j < 32; j++)
        assert_true(y[j] == 0.5f * (float)(j - 16));

    for (int j = 0; j < 16; j++)
        b[2 + j] = (uint8_t)(j | (15 - j) << 4);
    pd_dtype_to_f32(PD_DTYPE_Q4_0, b, y, 32);
    for (int j = 0; j < 16; j++) {
        assert_true(y[j] == 0.5f * (float)(j - 8));
        assert_true(y[j + 16] == 0.5f * (float)(7 - j));
    }

    put16(b + 2, two);
    for (int j = 0; j < 16; j++)
        b[4 + j] = (uint8_t)(j | (15 - j) << 4);
    pd_dtype_to_f32(PD_DTYPE_Q4_1, b, y, 32);
    for (int j = 0; j < 16; j++) {
        assert_true(y[j] == 0.5f * (float)j + 2.0f);
        assert_true(y[j + 16] == 0.5f * (float)(15 - j) + 2.0f);
    }

    /* Q5: fifth bits set for the odd values */
    put16(b, half);
    memset(b + 2, 0xaa, 4);
    for (int j = 0; j < 16; j++)
        b[6 + j] = (uint8_t)(j | (15 - j) << 4);
    pd_dtype_to_f32(PD_DTYPE_Q5_0, b, y, 32);
    for (int j = 0; j < 16; j++) {
        assert_true(y[j] == 0.5f * (float)(j + (j % 2 ? 16 : 0) - 16));
        assert_true(y[j + 16] == 0.5f * (float)(15 - j + (j % 2 ? 16 : 0) - 16));
    }
    put16(b + 2, two);
    memset(b + 4, 0xaa, 4);
    for (int j = 0; j < 16; j++)
        b[8 + j] = (uint8_t)(j | (15 - j) << 4);
    pd_dtype_to_f32(PD_DTYPE_Q5_1, b, y, 32);
    for (int j = 0; j < 16; j++)
        assert_true(y[j] == 0.5f * (float)(j + (j % 2 ? 16 : 0)) + 2.0f);
}

/* Six-bit scales s and minima m of 8 sub-blocks into the 12 bytes of a K block. */
static void pack_scales(uint8_t *p, const int *s, const int *m)
{
    for (int j = 0; j < 4; j++) {
        p[j] = (uint8_t)(s[j] | (s[j + 4] >> 4) << 6);
        p[j + 4] = (uint8_t)(m[j] | (m[j + 4] >> 4) << 6);
        p[j + 8] = (uint8_t)((s[j + 4] & 15) | (m[j + 4] & 15) << 4);
    }
}

static void test_k_blocks(void **state)
{
    const int s[8] = {1, 63, 17, 32, 5, 48, 33, 62}, m[8] = {0, 7, 63, 31, 16, 47, 2, 60};
    uint8_t b[256] = {0};
    float y[256];
    int q[256];
    put16(b, 0x3800);
    put16(b + 2, 0x4000);
    pack_scales(b + 4, s, m);
    for (int i = 0; i < 256; i++)
        q[i] = (i * 7 + i / 32) % 16;
    for (int c = 0; c < 4; c++)
        for (int l = 0; l < 32; l++)
            b[16 + c * 32 + l] = (uint8_t)(q[c * 64 + l] | q[c * 64 + 32 + l] << 4);
    pd_dtype_to_f32(PD_DTYPE_Q4_K, b, y, 256);
    for (int i = 0; i < 256; i++)
        assert_true(y[i] == 0.5f * (float)s[i / 32] * (float)q[i] - 2.0f * (float)m[i / 32]);

    memset(b + 16, 0, 32);
    for (int i = 0; i < 256; i++)
        q[i] = (i * 5 + i / 32) % 32;
    for (int c = 0; c < 4; c++)
        for (int l = 0; l < 32; l++) {
            const int lo = q[c * 64 + l], hi = q[c * 64 + 32 + l];
            b[48 + c * 32 + l] = (uint8_t)((lo & 15) | (hi & 15) << 4);
            b[16 + l] |= (uint8_t)(lo >> 4 << (2 * c) | hi >> 4 << (2 * c + 1));
        }
    pd_dtype_to_f32(PD_DTYPE_Q5_K, b, y, 256);
    for (int i = 0; i < 256; i++)
        assert_true(y[i] == 0.5f * (float)s[i / 32] * (float)q[i] - 2.0f * (float)m[i / 32]);

    memset(b, 0, sizeof b);
    put16(b + 208, 0x3800);
    for (int i = 0; i < 16; i++)
        b[192 + i] = (uint8_t)(i * 9 - 70);
    for (int i = 0; i < 256; i++) {
        const int half = i / 128, quarter = i % 128 / 32, l = i % 32;
        q[i] = (i * 11 + i / 64) % 64;
        b[half * 64 + l + quarter % 2 * 32] |= (uint8_t)((q[i] & 15) << (quarter < 2 ? 0 : 4));
        b[128 + half * 32 + l] |= (uint8_t)(q[i] >> 4 << (2 * quarter));
    }
    pd_dtype_to_f32(PD_DTYPE_Q6_K, b, y, 256);
    for (int i = 0; i < 256; i++)
        assert_true(y[i] == 0.5f * (float)(i / 16 * 9 - 70) * (float)(q[i] - 32));
}

static void test_names_and_rows(void **state)
{
    enum pd_dtype t;
    assert_true(pd_dtype_from_ggml(3, &t) && t == PD_DTYPE_Q4_1);
    assert_true(pd_dtype_from_ggml(14, &t) && t == PD_DTYPE_Q6_K);
    assert_false(pd_dtype_from_ggml(999, &t));
    assert_true(pd_dtype_from_safetensors("BF16", &t) && t == PD_DTYPE_BF16);
    assert_false(pd_dtype_from_safetensors("", &t));
    assert_int_equal(pd_dtype_row_bytes(PD_DTYPE_Q4_1, 576), 18 * 20);
    assert_int_equal(pd_dtype_row_bytes(PD_DTYPE_Q4_1, 33), 0);
    assert_int_equal(pd_dtype_row_bytes(PD_DTYPE_F16, 3), 6);
}

/* ---- what the gguf package reads and writes: tests/fixtures/quants/blocks.txt ---- */

static size_t from_hex(const char *hex, uint8_t *out)
{
    size_t n = strlen(hex) / 2;
    for (size_t i = 0; i < n; i++) {
        unsigned v;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &v), 1);
        out[i] = (uint8_t)v;
    }
    return n;
}

static enum pd_dtype dtype_named(const char *name)
{
    int t = 0;
    while (t < PD_DTYPE_COUNT && strcmp(pd_dtype_info((enum pd_dtype)t)->name, name) != 0)
        t++;
    assert_true(t < PD_DTYPE_COUNT);
    return (enum pd_dtype)t;
}

static void test_blocks_of_the_gguf_package(void **state)
{
    static char verb[16], name[16], raw_hex[8192], f32_hex[8192];
    static uint8_t raw[4096], back[4096];
    static float f32[1024], got[1024];
    int read = 0, written = 0;
    FILE *f = fopen(PD_FIXTURES "/quants/blocks.txt", "r");
    assert_non_null(f);
    while (fscanf(f, "%15s %15s %8191s %8191s", verb, name, raw_hex, f32_hex) == 4) {
        const enum pd_dtype t = dtype_named(name);
        const size_t bytes = from_hex(raw_hex, raw), n = from_hex(f32_hex, (uint8_t *)f32) / 4;
        assert_int_equal(pd_dtype_row_bytes(t, n), bytes);
        if (strcmp(verb, "read") == 0) {
            pd_dtype_to_f32(t, raw, got, n);
            assert_memory_equal(got, f32, n * sizeof *got);
            read++;
        } else {
            assert_true(pd_dtype_can_write(t));
            pd_dtype_from_f32(t, f32, back, n);
            assert_memory_equal(back, raw, bytes);
            written++;
        }
    }
    fclose(f);
    assert_int_equal(read, 10);
    assert_int_equal(written, 4);
}

static void test_not_finite_values_are_not_hidden(void **state)
{
    static const enum pd_dtype types[] = {PD_DTYPE_Q8_0, PD_DTYPE_Q4_0};
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    float x[64], y[64];
    uint8_t b[68];
    for (size_t t = 0; t < 2; t++)
        for (size_t k = 0; k < 3; k++) {
            for (int i = 0; i < 64; i++)
                x[i] = 0.01f * (float)i;
            x[7] = bad[k];
            pd_dtype_from_f32(types[t], x, b, 64);
            pd_dtype_to_f32(types[t], b, y, 64);
            assert_true(isnan(y[7]));
            assert_true(fabsf(y[40] - x[40]) < 0.1f); /* the next block is not harmed */
        }
    for (int i = 0; i < 64; i++) /* subnormals: zero, without an infinite step */
        x[i] = i % 2 ? 0x1p-149f : -0x1p-149f;
    for (size_t t = 0; t < 2; t++) {
        pd_dtype_from_f32(types[t], x, b, 64);
        pd_dtype_to_f32(types[t], b, y, 64);
        for (int i = 0; i < 64; i++)
            assert_true(y[i] == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f16_every_value),
        cmocka_unit_test(test_f16_rounds_to_nearest_even),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_k_blocks),
        cmocka_unit_test(test_names_and_rows),
        cmocka_unit_test(test_blocks_of_the_gguf_package),
        cmocka_unit_test(test_not_finite_values_are_not_hidden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
