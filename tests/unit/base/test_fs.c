/* Files: lines (plain, gzip, long, cut off), atomic output, locks, full disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/mem.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

static char dir[64];

static char *path_of(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void put(const char *name, const char *bytes, size_t n)
{
    struct pd_err e;
    assert_int_equal(pd_fs_write_atomic(path_of(name), (struct pd_str){bytes, n}, 0644, &e), PD_OK);
}

static void expect_lines(const char *name, const char *const *want, size_t n)
{
    struct pd_lines *l;
    struct pd_err e;
    struct pd_str line;
    bool more;
    assert_int_equal(pd_lines_open(&l, path_of(name), 1 << 20, &e), PD_OK);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(pd_lines_next(l, &line, &more, &e), PD_OK);
        assert_true(more);
        assert_true(pd_str_eqz(line, want[i]));
        assert_int_equal(pd_lines_number(l), i + 1);
    }
    assert_int_equal(pd_lines_next(l, &line, &more, &e), PD_OK);
    assert_false(more);
    pd_lines_close(l);
}

static void lines_of_plain_and_gzip(void **state)
{
    const char text[] = "\xEF\xBB\xBFone\r\n\nthree";
    const char *const want[] = {"one", "", "three"};
    put("a.txt", text, sizeof text - 1);
    expect_lines("a.txt", want, 3);
    gzFile gz = gzopen(path_of("a.gz"), "wb");
    assert_int_equal(gzwrite(gz, text, sizeof text - 1), sizeof text - 1);
    gzclose(gz);
    expect_lines("a.gz", want, 3);
    put("empty", "", 0);
    expect_lines("empty", NULL, 0);
}

static void long_lines_are_whole_or_refused(void **state)
{
    size_t n = 300000;
    char *big = pd_xalloc(n + 1);
    memset(big, 'x', n);
    big[n - 1] = '\n';
    put("big", big, n);
    big[n - 1] = '\0';
    const char *const want[] = {big};
    expect_lines("big", want, 1);
    struct pd_lines *l;
    struct pd_str line;
    bool more;
    struct pd_err e;
    assert_int_equal(pd_lines_open(&l, path_of("big"), 1000, &e), PD_OK);
    assert_int_equal(pd_lines_next(l, &line, &more, &e), PD_TOOBIG);
    assert_non_null(strstr(e.msg, "big:1:"));
    pd_lines_close(l);
    pd_free(big);
}

static void damaged_gzip_is_an_error(void **state)
{
    gzFile gz = gzopen(path_of("cut.gz"), "wb");
    for (int i = 0; i < 10000; i++)
        gzprintf(gz, "line %d %d\n", i, rand());
    gzclose(gz);
    struct pd_buf b;
    struct pd_err e;
    pd_buf_init(&b, 0);
    assert_int_equal(pd_fs_read(path_of("cut.gz"), 1 << 20, &b, &e), PD_OK);
    put("cut.gz", b.ptr, b.len / 2);
    pd_buf_release(&b);
    struct pd_lines *l;
    assert_int_equal(pd_lines_open(&l, path_of("cut.gz"), 1 << 20, &e), PD_OK);
    struct pd_str line;
    bool more = true;
    enum pd_rc rc = PD_OK;
    while (rc == PD_OK && more)
        rc = pd_lines_next(l, &line, &more, &e);
    assert_int_equal(rc, PD_PARSE);
    pd_lines_close(l);
}

static void an_abandoned_file_leaves_nothing(void **state)
{
    struct pd_out o;
    struct pd_err e;
    put("keep", "old", 3);
    assert_int_equal(pd_out_open(&o, path_of("keep"), &e), PD_OK);
    assert_int_equal(pd_out_write(&o, PD_STR("new"), &e), PD_OK);
    pd_out_abandon(&o);
    const char *const want[] = {"old"};
    expect_lines("keep", want, 1);
    char *ls = pd_xasprintf("test $(ls -A %s | grep -c tmp) = 0", dir);
    assert_int_equal(system(ls), 0);
    pd_free(ls);
    assert_int_equal(pd_out_open(&o, path_of("no/such/folder"), &e), PD_IO);
    assert_int_equal(pd_out_open(&o, dir, &e), PD_IO);
}

static void a_full_disk_is_an_error(void **state)
{
    struct pd_err e;
    struct pd_out o;
    memset(&o, 0, sizeof o);
    o.f = fopen("/dev/full", "wb");
    o.tmp = pd_xstrdup(path_of("never"));
    o.path = pd_xstrdup(path_of("never-renamed"));
    assert_int_equal(pd_out_write(&o, PD_STR("x"), &e), PD_OK);
    assert_int_equal(pd_out_commit(&o, &e), PD_IO);
    assert_non_null(strstr(e.msg, "No space left"));
    pd_out_abandon(&o);
    assert_false(pd_fs_exists(path_of("never-renamed")));
}

/* Root may rename over a device; then /dev/null would be a file. */
static void a_device_is_not_replaced(void **state)
{
    struct pd_err e;
    struct pd_out o;
    struct stat st;
    assert_int_equal(pd_out_open(&o, "/dev/full", &e), PD_OK);
    assert_int_equal(pd_out_write(&o, PD_STR("x"), &e), PD_OK);
    assert_int_equal(pd_out_commit(&o, &e), PD_IO);
    pd_out_abandon(&o);
    assert_int_equal(pd_out_open(&o, "/dev/null", &e), PD_OK);
    assert_int_equal(pd_out_write(&o, PD_STR("x"), &e), PD_OK);
    assert_int_equal(pd_out_commit(&o, &e), PD_OK);
    pd_out_abandon(&o);
    assert_int_equal(stat("/dev/null", &st), 0);
    assert_true(S_ISCHR(st.st_mode));
}

static void a_lock_is_exclusive(void **state)
{
    int fd;
    struct pd_err e;
    char *lock = pd_xstrdup(path_of("lock"));
    assert_int_equal(pd_lock_open(&fd, lock, &e), PD_OK);
    pid_t pid = fork();
    if (pid == 0) {
        int other;
        pd_lock_close(fd); /* flock belongs to the open file, which the child shares */
        _exit(pd_lock_open(&other, lock, &e) == PD_BUSY ? 0 : 1);
    }
    int status;
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
    pd_lock_close(fd);
    assert_int_equal(pd_lock_open(&fd, lock, &e), PD_OK);
    pd_lock_close(fd);
    pd_free(lock);
}

static int make_dir(void **state)
{
    strcpy(dir, "/tmp/podium-test-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    struct pd_err e;
    return pd_fs_remove_tree(dir, &e) == PD_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_of_plain_and_gzip),
        cmocka_unit_test(long_lines_are_whole_or_refused),
        cmocka_unit_test(damaged_gzip_is_an_error),
        cmocka_unit_test(an_abandoned_file_leaves_nothing),
        cmocka_unit_test(a_full_disk_is_an_error),
        cmocka_unit_test(a_device_is_not_replaced),
        cmocka_unit_test(a_lock_is_exclusive),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
