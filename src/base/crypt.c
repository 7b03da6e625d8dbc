#include "base/crypt.h"
#include "base/fs.h"

#include <sodium.h>
#include <unistd.h>
#include <fcntl.h>

_Static_assert(sizeof(struct pd_sha256) >= sizeof(crypto_hash_sha256_state), "sha256 state fits");

void pd_crypt_init(void)
{
    if (sodium_init() < 0)
        pd_bug("libsodium does not start");
}

void pd_crypt_random(void *p, size_t n)
{
    pd_crypt_init();
    randombytes_buf(p, n);
}

static void hex_of(const unsigned char *bytes, size_t n, char *out)
{
    sodium_bin2hex(out, n * 2 + 1, bytes, n);
}

void pd_uuid_new(char out[37])
{
    unsigned char b[16];
    char hex[33];
    pd_crypt_random(b, sizeof b);
    b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
    b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
    hex_of(b, sizeof b, hex);
    for (int i = 0, j = 0; i < 32; i++) {
        if (i == 8 || i == 12 || i == 16 || i == 20)
            out[j++] = '-';
        out[j++] = hex[i];
    }
    out[36] = '\0';
}

bool pd_uuid_valid(struct pd_str s)
{
    if (s.len != 36)
        return false;
    for (size_t i = 0; i < 36; i++) {
        char c = s.ptr[i];
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        bool hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
        if (dash ? c != '-' : !hex)
            return false;
    }
    return true;
}

void pd_token_new(char *out, size_t n_chars)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    for (size_t i = 0; i < n_chars; i++) {
        unsigned char b;
        pd_crypt_random(&b, 1);
        out[i] = alphabet[b & 63];
    }
    out[n_chars] = '\0';
}

void pd_sha256_init(struct pd_sha256 *h)
{
    crypto_hash_sha256_init((crypto_hash_sha256_state *)h->state);
}

void pd_sha256_add(struct pd_sha256 *h, const void *p, size_t n)
{
    crypto_hash_sha256_update((crypto_hash_sha256_state *)h->state, p, n);
}

void pd_sha256_hex(struct pd_sha256 *h, char out[65])
{
    unsigned char digest[32];
    crypto_hash_sha256_final((crypto_hash_sha256_state *)h->state, digest);
    hex_of(digest, sizeof digest, out);
}

void pd_sha256_of(struct pd_str s, char out[65])
{
    struct pd_sha256 h;
    pd_sha256_init(&h);
    pd_sha256_add(&h, s.ptr, s.len);
    pd_sha256_hex(&h, out);
}

enum pd_rc pd_sha256_file(const char *path, char out[65], struct pd_err *err)
{
    FILE *f = fopen(path, "rbe");
    if (!f)
        return PD_FAIL_SYS(err, PD_NOTFOUND, "cannot open %s", path);
    struct pd_sha256 h;
    pd_sha256_init(&h);
    char chunk[65536];
    size_t n;
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0)
        pd_sha256_add(&h, chunk, n);
    bool bad = ferror(f) != 0;
    (void)fclose(f);
    if (bad)
        return PD_FAIL(err, PD_IO, "cannot read %s", path);
    pd_sha256_hex(&h, out);
    return PD_OK;
}

void pd_hmac_hex(struct pd_str key, struct pd_str msg, char out[65])
{
    crypto_auth_hmacsha256_state st;
    unsigned char mac[crypto_auth_hmacsha256_BYTES];
    crypto_auth_hmacsha256_init(&st, (const unsigned char *)key.ptr, key.len);
    crypto_auth_hmacsha256_update(&st, (const unsigned char *)msg.ptr, msg.len);
    crypto_auth_hmacsha256_final(&st, mac);
    hex_of(mac, sizeof mac, out);
}

bool pd_crypt_equal(struct pd_str a, struct pd_str b)
{
    return a.len == b.len && (a.len == 0 || sodium_memcmp(a.ptr, b.ptr, a.len) == 0);
}
