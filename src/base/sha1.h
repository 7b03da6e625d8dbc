/* SHA-1 (FIPS 180-4), for the names git gives its objects. It guards against accidents, not against
 * people: no secret and no signature may rest on it. */
#ifndef PD_BASE_SHA1_H
#define PD_BASE_SHA1_H

#include <stddef.h>
#include <stdint.h>

struct pd_sha1 {
    uint32_t h[5];
    uint64_t n; /* bytes so far */
    unsigned char block[64];
};
void pd_sha1_init(struct pd_sha1 *s);
void pd_sha1_add(struct pd_sha1 *s, const void *p, size_t n);
void pd_sha1_hex(struct pd_sha1 *s, char out[41]); /* finishes */

#endif
