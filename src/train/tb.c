#include "train/tb.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/time.h"

#include <tb.pb-c.h>
#include <string.h>
#include <unistd.h>

enum { MAX_SCALARS = 64 };

struct pd_tb {
    FILE *f;
    char *path;
    size_t n;
    char *tags[MAX_SCALARS];
    float values[MAX_SCALARS];
};

uint32_t pd_crc32c(const void *p, size_t n)
{
    uint32_t crc = 0xffffffffu;
    for (const unsigned char *at = p, *end = at + n; at < end; at++) {
        crc ^= *at;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (0x82f63b78u & (0u - (crc & 1)));
    }
    return ~crc;
}

uint32_t pd_crc32c_masked(const void *p, size_t n)
{
    uint32_t crc = pd_crc32c(p, n);
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

/* Little endian, as every machine this runs on. */
static enum pd_rc write_record(struct pd_tb *tb, const void *data, size_t n, struct pd_err *err)
{
    uint64_t length = n;
    uint32_t length_crc = pd_crc32c_masked(&length, sizeof length);
    uint32_t data_crc = pd_crc32c_masked(data, n);
    bool ok = fwrite(&length, sizeof length, 1, tb->f) == 1 &&
              fwrite(&length_crc, sizeof length_crc, 1, tb->f) == 1 &&
              fwrite(data, 1, n, tb->f) == n && fwrite(&data_crc, sizeof data_crc, 1, tb->f) == 1 &&
              fflush(tb->f) == 0;
    return ok ? PD_OK : PD_FAIL_SYS(err, PD_IO, "cannot write %s", tb->path);
}

static enum pd_rc write_event(struct pd_tb *tb, Pd__Tb__Event *event, struct pd_err *err)
{
    event->wall_time = (double)pd_time_us() / 1e6;
    size_t n = pd__tb__event__get_packed_size(event);
    uint8_t *data = pd_xalloc(n + 1);
    pd__tb__event__pack(event, data);
    enum pd_rc rc = write_record(tb, data, n, err);
    pd_free(data);
    return rc;
}

enum pd_rc pd_tb_open(struct pd_tb **out, const char *dir, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char host[128] = "localhost", version[] = "brain.Event:2";
    Pd__Tb__Event first = PD__TB__EVENT__INIT;
    struct pd_tb *tb = pd_xalloc(sizeof *tb);
    PD_TRY(pd_fs_mkdirs(dir, 0755, err));
    (void)gethostname(host, sizeof host - 1);
    tb->path = pd_xasprintf("%s/events.out.tfevents.%lld.%s.%d", dir,
                            (long long)(pd_time_us() / 1000000), host, (int)getpid());
    tb->f = fopen(tb->path, "ab");
    if (!tb->f) {
        rc = PD_FAIL_SYS(err, PD_IO, "cannot open %s", tb->path);
        goto out;
    }
    first.file_version = version;
    PD_TRY(write_event(tb, &first, err));
    *out = tb;
    tb = NULL;
out:
    pd_tb_close(tb);
    return rc;
}

void pd_tb_scalar(struct pd_tb *tb, const char *key, double value)
{
    PD_ASSERT(tb->n < MAX_SCALARS);
    bool eval = strncmp(key, "eval_", 5) == 0;
    tb->tags[tb->n] = pd_xasprintf("%s/%s", eval ? "eval" : "train", eval ? key + 5 : key);
    tb->values[tb->n++] = (float)value;
}

static void drop_scalars(struct pd_tb *tb)
{
    for (size_t i = 0; i < tb->n; i++)
        pd_free(tb->tags[i]);
    tb->n = 0;
}

enum pd_rc pd_tb_flush(struct pd_tb *tb, int64_t step, struct pd_err *err)
{
    if (tb->n == 0)
        return PD_OK;
    Pd__Tb__Value values[MAX_SCALARS], *list[MAX_SCALARS];
    Pd__Tb__Summary summary = PD__TB__SUMMARY__INIT;
    Pd__Tb__Event event = PD__TB__EVENT__INIT;
    for (size_t i = 0; i < tb->n; i++) {
        pd__tb__value__init(&values[i]);
        values[i].tag = tb->tags[i];
        values[i].value_case = PD__TB__VALUE__VALUE_SIMPLE_VALUE;
        values[i].simple_value = tb->values[i];
        list[i] = &values[i];
    }
    summary.n_value = tb->n;
    summary.value = list;
    event.step = step;
    event.summary = &summary;
    enum pd_rc rc = write_event(tb, &event, err);
    drop_scalars(tb);
    return rc;
}

void pd_tb_close(struct pd_tb *tb)
{
    if (!tb)
        return;
    drop_scalars(tb);
    if (tb->f)
        (void)fclose(tb->f);
    pd_free(tb->path);
    pd_free(tb);
}
