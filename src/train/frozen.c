#include "train/frozen.h"
#include "base/mem.h"
#include "base/progress.h"
#include "base/sig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

size_t pd_frozen_bytes(const struct pd_decoder *dec, const struct pd_pairs *p)
{
    int64_t rows = 0;
    for (size_t i = 0; i < p->n; i++)
        rows += pd_pair_cost(&p->v[i]);
    return (size_t)rows * (size_t)pd_decoder_hidden_size(dec) * sizeof(float);
}

static enum pd_rc map_file(struct pd_frozen *f, const char *dir, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char *path = pd_xasprintf("%s/.frozen-XXXXXX", dir);
    int fd = mkstemp(path);
    if (fd < 0) {
        rc = PD_FAIL_SYS(err, PD_IO, "cannot make a cache file in %s", dir);
        goto out;
    }
    (void)unlink(path);
    /* reserve the blocks now: a full disk must be an error here, not a SIGBUS later */
    int full = posix_fallocate(fd, 0, (off_t)f->bytes);
    if (full != 0) {
        errno = full;
        rc = PD_FAIL_SYS(err, PD_IO, "cannot reserve %zu MB in %s for the frozen blocks' output",
                         f->bytes >> 20, dir);
        goto out;
    }
    void *x = mmap(NULL, f->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (x == MAP_FAILED)
        rc = PD_FAIL_SYS(err, PD_IO, "cannot map the cache file of %s", dir);
    else
        f->x = x;
out:
    if (fd >= 0)
        (void)close(fd);
    pd_free(path);
    return rc;
}

static enum pd_rc fill(struct pd_frozen *f, struct pd_decoder *dec, const struct pd_pairs *p,
                       int64_t micro_tokens, bool quiet, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_stream stream;
    struct pd_progress progress;
    const struct pd_pair **list = pd_xalloc((p->n + 1) * sizeof *list);
    int32_t *read_rows = pd_xalloc((2 * p->n + 1) * sizeof *read_rows);
    pd_stream_init(&stream);
    stream.share_limit = pd_config_share_limit(&pd_decoder_model(dec)->cfg);
    pd_progress_init(&progress, "frozen blocks", "pairs", (int64_t)p->n, quiet);
    for (size_t i = 0; i < p->n; i++)
        list[i] = &p->v[i];
    for (size_t i = 0; i < p->n;) {
        size_t k = i + 1;
        while (k < p->n && f->at[k + 1] - f->at[i] <= micro_tokens)
            k++;
        if (pd_sig_stop()) {
            rc = PD_FAIL(err, PD_INTERRUPTED, "interrupted before the first step");
            goto out;
        }
        pd_pairs_stream(&stream, list + i, k - i, read_rows);
        PD_ASSERT(stream.n_rows == f->at[k] - f->at[i]);
        PD_TRY(pd_decoder_forward_to(dec, &stream, f->layer, f->x + f->at[i] * f->width, err));
        pd_progress_update(&progress, (int64_t)k, NULL);
        i = k;
    }
    pd_progress_finish(&progress, NULL);
out:
    pd_stream_release(&stream);
    pd_free(read_rows);
    pd_free(list);
    return rc;
}

enum pd_rc pd_frozen_open(struct pd_frozen *f, const char *dir, struct pd_decoder *dec,
                          const struct pd_pairs *p, int64_t micro_tokens, bool quiet,
                          struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    *f = (struct pd_frozen){.layer = pd_decoder_first_trainable(dec),
                            .width = pd_decoder_hidden_size(dec),
                            .bytes = pd_frozen_bytes(dec, p),
                            .n = p->n};
    f->at = pd_xalloc((p->n + 1) * sizeof *f->at);
    for (size_t i = 0; i < p->n; i++)
        f->at[i + 1] = f->at[i] + pd_pair_cost(&p->v[i]);
    PD_TRY(map_file(f, dir, err));
    PD_TRY(fill(f, dec, p, micro_tokens, quiet, err));
out:
    if (rc != PD_OK)
        pd_frozen_close(f);
    return rc;
}

void pd_frozen_gather(const struct pd_frozen *f, const size_t *pairs, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) {
        int64_t first = f->at[pairs[i]], rows = f->at[pairs[i] + 1] - first;
        memcpy(out, f->x + first * f->width, (size_t)(rows * f->width) * sizeof *out);
        out += rows * f->width;
    }
}

void pd_frozen_close(struct pd_frozen *f)
{
    if (f->x)
        (void)munmap(f->x, f->bytes);
    pd_free(f->at);
    *f = (struct pd_frozen){0};
}
