/* Random bytes, ids and hashes over libsodium. pd_crypt_init once before use (idempotent, any
 * thread). Secrets are compared with pd_crypt_equal only. */
#ifndef PD_BASE_CRYPT_H
#define PD_BASE_CRYPT_H

#include "base/str.h"

void pd_crypt_init(void);
void pd_crypt_random(void *p, size_t n);
/* Lower-case RFC 4122 version 4. */
void pd_uuid_new(char out[37]);
bool pd_uuid_valid(struct pd_str s);          /* any version, either case, hyphenated */
void pd_token_new(char *out, size_t n_chars); /* n_chars of [A-Za-z0-9_-] and NUL */

struct pd_sha256 {
    _Alignas(16) unsigned char state[128];
};
void pd_sha256_init(struct pd_sha256 *h);
void pd_sha256_add(struct pd_sha256 *h, const void *p, size_t n);
void pd_sha256_hex(struct pd_sha256 *h, char out[65]); /* finishes */
void pd_sha256_of(struct pd_str s, char out[65]);
PD_CHECKED enum pd_rc pd_sha256_file(const char *path, char out[65], struct pd_err *err);
/* HMAC-SHA256, hex. key_len any. */
void pd_hmac_hex(struct pd_str key, struct pd_str msg, char out[65]);
bool pd_crypt_equal(struct pd_str a, struct pd_str b); /* constant time for equal lengths */

#endif
