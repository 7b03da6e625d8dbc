/* A folder of files made of one input, for targets that read folders. The input is records: a byte
 * that names the file (names[byte % n]), its length in two bytes (little-endian), its bytes; the
 * last may be cut off. The folder lies in memory (/dev/shm) where that is there, and goes when the
 * program ends. */
#ifndef PD_FUZZ_FOLDER_H
#define PD_FUZZ_FOLDER_H

#include "base/fs.h"
#include "base/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

static char fuzz_root[64];

static void fuzz_remove_root(void)
{
    (void)!pd_fs_remove_tree(fuzz_root, NULL);
}

static const char *fuzz_make_root(void)
{
    if (fuzz_root[0])
        return fuzz_root;
    (void)snprintf(fuzz_root, sizeof fuzz_root, "%s/podium-fuzz-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(fuzz_root) || atexit(fuzz_remove_root) != 0)
        pd_bug("no folder for the input");
    return fuzz_root;
}

static void fuzz_write(const char *dir, const char *name, const uint8_t *data, size_t n)
{
    char *path = pd_xasprintf("%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (!f || (n && fwrite(data, 1, n, f) != n) || fclose(f) != 0)
        pd_bug("cannot write %s", path);
    pd_free(path);
}

/* What an earlier input left is gone. */
static void fuzz_fill(const char *dir, const char *const *names, size_t n_names,
                      const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < n_names; i++) {
        char *path = pd_xasprintf("%s/%s", dir, names[i]);
        (void)unlink(path);
        pd_free(path);
    }
    while (size >= 3) {
        size_t n = data[1] | (size_t)data[2] << 8;
        const char *name = names[data[0] % n_names];
        data += 3;
        size -= 3;
        n = n < size ? n : size;
        fuzz_write(dir, name, data, n);
        data += n;
        size -= n;
    }
}

#endif
