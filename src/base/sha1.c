#include "base/sha1.h"

#include <stdio.h>
#include <string.h>

static uint32_t rotl(uint32_t v, int by)
{
    return v << by | v >> (32 - by);
}

static void mix(struct pd_sha1 *s, const unsigned char *p)
{
    static const uint32_t k[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
    uint32_t w[80], a = s->h[0], b = s->h[1], c = s->h[2], d = s->h[3], e = s->h[4];
    for (int t = 0; t < 16; t++)
        w[t] = (uint32_t)p[4 * t] << 24 | (uint32_t)p[4 * t + 1] << 16 |
               (uint32_t)p[4 * t + 2] << 8 | p[4 * t + 3];
    for (int t = 16; t < 80; t++)
        w[t] = rotl(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
    for (int t = 0; t < 80; t++) {
        const uint32_t f = t < 20              ? (b & c) | (~b & d)
                           : t < 40 || t >= 60 ? b ^ c ^ d
                                               : (b & c) | (b & d) | (c & d);
        const uint32_t next = rotl(a, 5) + f + e + k[t / 20] + w[t];
        e = d;
        d = c;
        c = rotl(b, 30);
        b = a;
        a = next;
    }
    s->h[0] += a;
    s->h[1] += b;
    s->h[2] += c;
    s->h[3] += d;
    s->h[4] += e;
}

void pd_sha1_init(struct pd_sha1 *s)
{
    *s = (struct pd_sha1){.h = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0}};
}

void pd_sha1_add(struct pd_sha1 *s, const void *p, size_t n)
{
    const unsigned char *bytes = p;
    while (n > 0) {
        size_t at = s->n % 64, take = 64 - at < n ? 64 - at : n;
        memcpy(s->block + at, bytes, take);
        s->n += take;
        bytes += take;
        n -= take;
        if (s->n % 64 == 0)
            mix(s, s->block);
    }
}

void pd_sha1_hex(struct pd_sha1 *s, char out[41])
{
    static const unsigned char pad[64] = {0x80};
    unsigned char bits[8];
    for (int i = 0; i < 8; i++)
        bits[i] = (unsigned char)(s->n * 8 >> (56 - 8 * i));
    pd_sha1_add(s, pad, (s->n % 64 < 56 ? 56 : 120) - s->n % 64);
    pd_sha1_add(s, bits, sizeof bits);
    for (int i = 0; i < 5; i++)
        (void)snprintf(out + (size_t)i * 8, 9, "%08x", s->h[i]);
}
