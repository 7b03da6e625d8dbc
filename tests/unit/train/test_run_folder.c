/* Run folders, checkpoints and TensorBoard files: framing, round trips, refusals. */
#include "train/checkpoint.h"
#include "train/report.h"
#include "train/run.h"
#include "train/tb.h"
#include "base/fs.h"
#include "base/mem.h"

#include <dirent.h>
#include <stdarg.h>
#include <setjmp.h>
#include <signal.h>
#include <cmocka.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static char root[64];

static int setup(void **state)
{
    strcpy(root, "/tmp/podium-train-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int teardown(void **state)
{
    return pd_fs_remove_tree(root, NULL) == PD_OK ? 0 : -1;
}

static char *path(const char *name)
{
    static char out[256];
    snprintf(out, sizeof out, "%s/%s", root, name);
    return out;
}

static void read_all(const char *p, struct pd_buf *b)
{
    pd_buf_init(b, 0);
    assert_int_equal(pd_fs_read(p, 1 << 24, b, NULL), PD_OK);
}

static void write_all(const char *p, const char *text)
{
    assert_int_equal(pd_fs_write_atomic(p, pd_str_from(text), 0644, NULL), PD_OK);
}

static void crc32c_known_answers(void **state)
{
    /* RFC 3720 B.4 */
    unsigned char zeros[32] = {0}, ones[32], up[32];
    memset(ones, 0xff, sizeof ones);
    for (int i = 0; i < 32; i++)
        up[i] = (unsigned char)i;
    assert_int_equal(pd_crc32c(zeros, 32), 0x8a9136aa);
    assert_int_equal(pd_crc32c(ones, 32), 0x62a8ab43);
    assert_int_equal(pd_crc32c(up, 32), 0x46dd794e);
    assert_int_equal(pd_crc32c("123456789", 9), 0xe3069283);
}

/* Reads the file as TensorBoard's reader does: lengths and both checksums must hold. */
static void tb_framing(void **state)
{
    struct pd_tb *tb;
    struct pd_buf file;
    char name[512] = "";
    assert_int_equal(pd_tb_open(&tb, path("tb"), NULL), PD_OK);
    pd_tb_scalar(tb, "loss", 0.5);
    pd_tb_scalar(tb, "eval_accuracy", 0.75);
    pd_tb_scalar(tb, "kl", 0);
    assert_int_equal(pd_tb_flush(tb, 7, NULL), PD_OK);
    pd_tb_close(tb);
    DIR *d = opendir(path("tb"));
    for (struct dirent *e; (e = readdir(d));)
        if (strncmp(e->d_name, "events.out.tfevents.", 20) == 0)
            snprintf(name, sizeof name, "%s/tb/%s", root, e->d_name);
    closedir(d);
    read_all(name, &file);
    size_t at = 0, records = 0;
    while (at < file.len) {
        uint64_t len;
        uint32_t crc;
        assert_true(at + 12 <= file.len);
        memcpy(&len, file.ptr + at, 8);
        memcpy(&crc, file.ptr + at + 8, 4);
        assert_int_equal(crc, pd_crc32c_masked(file.ptr + at, 8));
        assert_true(at + 16 + len <= file.len);
        memcpy(&crc, file.ptr + at + 12 + len, 4);
        assert_int_equal(crc, pd_crc32c_masked(file.ptr + at + 12, len));
        if (records == 0)
            assert_non_null(memmem(file.ptr + at + 12, len, "brain.Event:2", 13));
        if (records == 1) {
            assert_non_null(memmem(file.ptr + at + 12, len, "train/loss", 10));
            assert_non_null(memmem(file.ptr + at + 12, len, "eval/accuracy", 13));
            assert_non_null(memmem(file.ptr + at + 12, len, "\x10\x07", 2)); /* step = 7 */
            /* a zero is written, not left to be a default: without it the point would be missing */
            assert_non_null(memmem(file.ptr + at + 12, len, "train/kl\x15\0\0\0\0", 13));
        }
        at += 16 + len;
        records++;
    }
    assert_int_equal(records, 2);
    pd_buf_release(&file);
}

static void checkpoint_round_trip(void **state)
{
    float a[5] = {1, 2, 3, 4, 5}, b[3] = {-1, -2, -3};
    struct pd_rng rng, back;
    struct pd_blobs blobs = {0};
    struct json_object *s = json_object_new_object(), *got;
    int64_t step;
    pd_rng_seed(&rng, 42, 3);
    (void)pd_rng_u64(&rng);
    json_object_object_add(s, "rng", pd_rng_to_json(&rng));
    pd_blobs_add(&blobs, "p.", "a", a, sizeof a);
    pd_blobs_add(&blobs, "p.", "b", b, sizeof b);
    assert_int_equal(pd_fs_mkdirs(path("run"), 0755, NULL), PD_OK);
    for (int i = 1; i <= 4; i++) {
        a[0] = (float)(10 * i);
        assert_int_equal(pd_checkpoint_save(path("run"), i, 2, s, &blobs, NULL), PD_OK);
    }
    a[0] = 41; /* the same step again takes the place of the first */
    assert_int_equal(pd_checkpoint_save(path("run"), 4, 2, s, &blobs, NULL), PD_OK);
    assert_false(pd_fs_exists(path("run/.checkpoint.old")));
    assert_false(pd_fs_exists(path("run/checkpoint-2")));
    assert_true(pd_fs_exists(path("run/checkpoint-3")));
    memset(a, 0, sizeof a);
    memset(b, 0, sizeof b);
    assert_int_equal(pd_checkpoint_load(path("run"), &step, &got, &blobs, NULL), PD_OK);
    assert_int_equal(step, 4);
    assert_true(a[0] == 41 && a[4] == 5 && b[2] == -3);
    assert_true(pd_rng_from_json(pd_json_get(got, "rng"), &back));
    assert_memory_equal(&rng, &back, sizeof rng);
    json_object_put(got);
    json_object_put(s);
    pd_blobs_release(&blobs);
}

/* Whoever looks while the same step is saved again always finds a checkpoint: a killed run does
 * too. */
static void a_checkpoint_saved_again_is_never_missing(void **state)
{
    float a[4] = {1, 2, 3, 4};
    struct pd_blobs blobs = {0};
    struct json_object *s = json_object_new_object();
    int status = 0;
    pd_blobs_add(&blobs, "", "a", a, sizeof a);
    assert_int_equal(pd_fs_mkdirs(path("run3"), 0755, NULL), PD_OK);
    assert_int_equal(pd_checkpoint_save(path("run3"), 1, 2, s, &blobs, NULL), PD_OK);
    char *there = pd_xstrdup(path("run3/checkpoint-1/state.json"));
    pid_t child = fork();
    if (child == 0) {
        for (;;)
            if (access(there, R_OK) != 0)
                _exit(1);
    }
    for (int i = 0; i < 60; i++)
        assert_int_equal(pd_checkpoint_save(path("run3"), 1, 2, s, &blobs, NULL), PD_OK);
    kill(child, SIGTERM);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_false(pd_fs_exists(path("run3/.checkpoint.tmp")));
    assert_false(pd_fs_exists(path("run3/.checkpoint.old")));
    pd_blobs_release(&blobs);
    json_object_put(s);
    pd_free(there);
}

static void checkpoint_refusals(void **state)
{
    float a[4] = {1, 2, 3, 4};
    struct pd_blobs blobs = {0}, other = {0};
    struct json_object *s = json_object_new_object(), *got;
    struct pd_err err = {0};
    struct pd_buf file;
    int64_t step;
    pd_blobs_add(&blobs, "", "a", a, sizeof a);
    pd_blobs_add(&other, "", "a", a, sizeof a - 4);
    assert_int_equal(pd_fs_mkdirs(path("run2"), 0755, NULL), PD_OK);
    assert_int_equal(pd_checkpoint_load(path("run2"), &step, &got, &blobs, &err), PD_OK);
    assert_int_equal(step, 0);
    assert_null(got);
    assert_int_equal(pd_checkpoint_save(path("run2"), 5, 2, s, &blobs, NULL), PD_OK);
    assert_int_equal(pd_checkpoint_load(path("run2"), &step, &got, &other, &err), PD_INVALID);
    /* one flipped bit is found */
    read_all(path("run2/checkpoint-5/tensors.bin"), &file);
    file.ptr[6] ^= 1;
    assert_int_equal(
        pd_fs_write_atomic(path("run2/checkpoint-5/tensors.bin"), pd_buf_str(&file), 0644, NULL),
        PD_OK);
    assert_int_equal(pd_checkpoint_load(path("run2"), &step, &got, &blobs, &err), PD_IO);
    assert_non_null(strstr(err.msg, "damaged"));
    pd_buf_release(&file);
    pd_blobs_release(&blobs);
    pd_blobs_release(&other);
    json_object_put(s);
}

static void run_is_not_overwritten_and_resumes_only_as_it_was(void **state)
{
    struct pd_run run;
    struct pd_err err = {0};
    double lr = 1e-4;
    int64_t threads = 1;
    const char *model = "m";
    struct pd_opt options[] = {PD_OPT_ROW("learning-rate", PD_OPT_F64, &lr, "LR", ""),
                               PD_OPT_ROW("threads", PD_OPT_I64, &threads, "N", ""),
                               PD_OPT_ROW("model", PD_OPT_STR, &model, "M", ""), PD_OPT_END};
    struct pd_run_about about = {
        .verb = "train reward", .version = "0", .commit = "c", .options = options, .seed = 1};
    assert_int_equal(pd_run_open(&run, path("r"), &about, false, &err), PD_OK);
    struct pd_run second; /* while the first is open */
    assert_int_equal(pd_run_open(&second, path("r"), &about, true, &err), PD_BUSY);
    assert_non_null(strstr(err.msg, "held by process"));
    assert_int_equal(pd_run_input(&run, "data", "d", "hash-1", 3, &err), PD_OK);
    for (int step = 1; step <= 5; step++) {
        struct pd_metrics m = {0};
        pd_metrics_put(&m, "loss", 1.0 / step);
        assert_int_equal(pd_run_metrics(&run, step, 0.1, &m, &err), PD_OK);
    }
    assert_int_equal(pd_run_end(&run, PD_INTERRUPTED, &err), PD_INTERRUPTED);
    pd_run_close(&run);

    assert_int_equal(pd_run_open(&run, path("r"), &about, false, &err), PD_CONFLICT);
    lr = 2e-4;
    assert_int_equal(pd_run_open(&run, path("r"), &about, true, &err), PD_INVALID);
    assert_non_null(strstr(err.msg, "--learning-rate"));
    lr = 1e-4;
    threads = 2; /* says how, not what */
    assert_int_equal(pd_run_open(&run, path("r"), &about, true, &err), PD_OK);
    assert_int_equal(pd_run_input(&run, "data", "d", "hash-2", 3, &err), PD_INVALID);
    assert_int_equal(pd_run_rewind(&run, 3, &err), PD_OK);
    struct pd_buf text;
    read_all(path("r/metrics.jsonl"), &text);
    assert_non_null(strstr(pd_buf_cstr(&text), "\"step\":3"));
    assert_null(strstr(pd_buf_cstr(&text), "\"step\":4"));
    pd_buf_release(&text);
    write_all(path("r/stop"), "");
    assert_true(pd_run_should_stop(&run));
    assert_int_equal(pd_run_end(&run, PD_OK, &err), PD_OK);
    pd_run_close(&run);
    assert_int_equal(pd_report_write(path("r"), &err), PD_OK);
    read_all(path("r/report.html"), &text);
    assert_non_null(strstr(pd_buf_cstr(&text), "<polyline"));
    assert_null(strstr(pd_buf_cstr(&text), "<script"));
    pd_buf_release(&text);
}

/* What a user wrote must not become markup. */
static void report_escapes(void **state)
{
    struct pd_buf text;
    assert_int_equal(pd_fs_mkdirs(path("e"), 0755, NULL), PD_OK);
    write_all(path("e/run.json"), "{\"verb\":\"train ppo\",\"state\":\"done\"}");
    write_all(path("e/samples.jsonl"),
              "{\"step\":1,\"prompt\":\"<script>x</script>\",\"sample\":\"&\"}\n");
    assert_int_equal(pd_report_write(path("e"), NULL), PD_OK);
    read_all(path("e/report.html"), &text);
    assert_null(strstr(pd_buf_cstr(&text), "<script"));
    assert_non_null(strstr(pd_buf_cstr(&text), "&lt;script&gt;"));
    pd_buf_release(&text);
}

static void a_dead_run_is_interrupted(void **state)
{
    struct json_object *run;
    char host[200] = "", json[512];
    gethostname(host, sizeof host - 1);
    assert_int_equal(pd_fs_mkdirs(path("d"), 0755, NULL), PD_OK);
    snprintf(json, sizeof json,
             "{\"verb\":\"train ppo\",\"state\":\"running\",\"pid\":4194999,"
             "\"host\":{\"name\":\"%s\"}}",
             host);
    write_all(path("d/run.json"), json);
    assert_int_equal(pd_run_read(path("d"), &run, NULL), PD_OK);
    assert_true(pd_str_eqz(pd_json_str(run, "state"), "interrupted"));
    json_object_put(run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_known_answers),
        cmocka_unit_test(tb_framing),
        cmocka_unit_test(checkpoint_round_trip),
        cmocka_unit_test(a_checkpoint_saved_again_is_never_missing),
        cmocka_unit_test(checkpoint_refusals),
        cmocka_unit_test(run_is_not_overwritten_and_resumes_only_as_it_was),
        cmocka_unit_test(report_escapes),
        cmocka_unit_test(a_dead_run_is_interrupted),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
