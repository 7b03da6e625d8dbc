/* Runs a fuzz target over files, without libFuzzer: every input that once broke something stays a
 * test. usage: replay_TARGET FOLDER_OR_FILE... */
#include "base/fs.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
    struct pd_buf b;
    struct pd_err err;
    pd_buf_init(&b, 0);
    if (pd_fs_read(path, (size_t)64 << 20, &b, &err) != PD_OK) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    /* An exact-size copy, so that the sanitizer sees the first byte past the end. */
    uint8_t *copy = malloc(b.len ? b.len : 1);
    if (b.len)
        memcpy(copy, b.ptr, b.len);
    LLVMFuzzerTestOneInput(copy, b.len);
    free(copy);
    pd_buf_release(&b);
    return 0;
}

static int replay_folder(const char *path, int *n)
{
    DIR *d = opendir(path);
    if (!d)
        return 1;
    int bad = 0;
    for (struct dirent *e; (e = readdir(d));) {
        char file[4096];
        if (e->d_name[0] == '.')
            continue;
        snprintf(file, sizeof file, "%s/%s", path, e->d_name);
        bad |= replay_file(file);
        ++*n;
    }
    closedir(d);
    return bad;
}

int main(int argc, char **argv)
{
    int bad = 0, n = 0;
    for (int i = 1; i < argc; i++) {
        if (pd_fs_is_dir(argv[i])) {
            bad |= replay_folder(argv[i], &n);
        } else {
            bad |= replay_file(argv[i]);
            n++;
        }
    }
    printf("%d inputs\n", n);
    return bad || n == 0;
}
