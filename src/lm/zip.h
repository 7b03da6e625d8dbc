/* Reading ZIP archives whose members are stored, not compressed, in place: what torch.save writes.
 *
 * The central directory is the index; zip64 sizes are read. Refused: compressed or encrypted
 * members, a local header that disagrees with the directory, members outside the file or over each
 * other, two of one name. Nothing is unpacked, so nothing can blow up. Names and data are borrowed
 * from the bytes. Any thread may read. (APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.3) */
#ifndef PD_LM_ZIP_H
#define PD_LM_ZIP_H

#include "base/map.h"

struct pd_zip_member {
    struct pd_str name;
    const unsigned char *data;
    size_t bytes;
};

struct pd_zip {
    struct pd_zip_member *v;
    size_t n;
    struct pd_map index; /* name -> v */
};

/* PD_PARSE or PD_UNSUPPORTED, naming path, member and place. `*z` needs no init and no release when
 * this fails. */
PD_CHECKED enum pd_rc pd_zip_open(struct pd_zip *z, const void *bytes, size_t n, const char *path,
                                  struct pd_err *err);
void pd_zip_release(struct pd_zip *z);
const struct pd_zip_member *pd_zip_find(const struct pd_zip *z, struct pd_str name); /* or NULL */

#endif
