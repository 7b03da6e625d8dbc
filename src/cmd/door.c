#include "cmd/door.h"

#include "api/op_wire.h"
#include "api/ops.h"
#include "base/fs.h"
#include "base/mem.h"
#include "net/client.h"
#include "net/uri.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

const char *pd_door_data_dir(const char *given)
{
    const char *env = getenv("PODIUM_DIR");
    return given ? given : env && *env ? env : "podium-data";
}

/* ------------------------------------------------------------------ here */

/* Standard input as a regular file, which operations may read twice. */
static enum pd_rc spool_stdin(char **path, struct pd_err *err)
{
    char name[] = "/tmp/podium-stdin-XXXXXX", buf[1 << 16];
    int fd = mkstemp(name);
    enum pd_rc rc = PD_OK;
    if (fd < 0)
        return PD_FAIL_SYS(err, PD_IO, "cannot make a temporary file for standard input");
    *path = pd_xstrdup(name);
    for (ssize_t n; rc == PD_OK && (n = read(STDIN_FILENO, buf, sizeof buf)) != 0;)
        if (n < 0 || write(fd, buf, (size_t)n) != n)
            rc = PD_FAIL_SYS(err, PD_IO, "cannot keep standard input in %s", name);
    close(fd);
    return rc;
}

static enum pd_rc run_here(struct pd_store *store, const struct pd_door_call *c,
                           struct json_object *args, struct pd_err *err)
{
    const struct pd_op *op = pd_op_find(pd_str_from(c->op));
    char *spooled = NULL;
    enum pd_rc rc = PD_OK;
    PD_ASSERT(op);
    struct pd_op_call call = {.store = store,
                              .args = args,
                              .in_path = c->in_path,
                              .in_name = c->in_name ? c->in_name : c->in_path,
                              .out = c->out,
                              .notes = c->notes};
    if (c->in_path && strcmp(c->in_path, "-") == 0) {
        PD_TRY(spool_stdin(&spooled, err));
        call.in_path = spooled;
    }
    PD_TRY(op->run(&call, err));
out:
    if (spooled)
        (void)unlink(spooled);
    pd_free(spooled);
    return rc;
}

/* ------------------------------------------------------------------ there */

struct answer {
    const struct pd_door_call *call;
    struct pd_buf head; /* of the frame being read */
    struct pd_buf end;  /* text of the end frame */
    char type;
    uint64_t left;
    bool ended, plain; /* plain: an HTTP error, not frames */
};

static enum pd_rc take(struct answer *a, const char *p, size_t n, struct pd_err *err)
{
    FILE *to = a->type == 'o' ? a->call->out : a->type == 'n' ? a->call->notes : NULL;
    if (a->type == 'e')
        pd_buf_add(&a->end, p, n);
    else if (to && fwrite(p, 1, n, to) != n)
        return PD_FAIL_SYS(err, PD_IO, "cannot write the results");
    a->left -= n;
    a->ended |= a->type == 'e' && a->left == 0;
    return PD_OK;
}

static enum pd_rc on_data(void *ctx, struct pd_str piece, struct pd_err *err)
{
    struct answer *a = ctx;
    while (piece.len) {
        if (a->left == 0) {
            pd_buf_addc(&a->head, piece.ptr[0]);
            piece.ptr++;
            piece.len--;
            if (a->head.len == 1 && !strchr("one", a->head.ptr[0]))
                a->plain = true;
            if (a->plain) {
                pd_buf_addstr(&a->head, piece);
                return PD_OK;
            }
            if (a->head.len == PD_OP_FRAME_HEAD) {
                a->type = a->head.ptr[0];
                a->left = strtoull(a->head.ptr + 1, NULL, 16);
                pd_buf_clear(&a->head);
            }
            continue;
        }
        size_t n = piece.len < a->left ? piece.len : (size_t)a->left;
        enum pd_rc rc = take(a, piece.ptr, n, err);
        if (rc != PD_OK)
            return rc;
        piece.ptr += n;
        piece.len -= n;
    }
    return PD_OK;
}

static enum pd_rc verdict(const struct answer *a, int status, struct pd_err *err)
{
    struct json_object *end = NULL;
    if (!a->ended)
        return PD_FAIL(err, PD_IO, "the server's answer was cut (status %d)%s%.300s", status,
                       a->plain ? ": " : "", a->plain ? pd_buf_cstr(&a->head) : "");
    enum pd_rc rc = pd_json_parse(pd_buf_str(&a->end), &end, err);
    if (rc == PD_OK)
        rc = (enum pd_rc)pd_json_i64(end, "rc", PD_BUG);
    if (rc != PD_OK) {
        struct pd_str m = pd_json_str(end, "message");
        (void)PD_FAIL(err, rc, "%.*s", PD_STR_ARG(m));
    }
    json_object_put(end);
    return rc;
}

static enum pd_rc run_there(const char *dir, const struct pd_door_call *c, struct json_object *args,
                            struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char *sock = pd_xasprintf("%s/%s", dir, PD_OP_SOCKET), *url = NULL;
    struct pd_buf body, name;
    struct answer a = {.call = c};
    const char *in_name = c->in_name ? c->in_name : c->in_path;
    int fd = -1;
    pd_buf_init(&body, 0);
    pd_buf_init(&name, 0);
    pd_buf_init(&a.head, 1 << 20);
    pd_buf_init(&a.end, 1 << 20);
    pd_buf_addf(&body, "%s\n", json_object_to_json_string_ext(args, JSON_C_TO_STRING_PLAIN));
    pd_uri_encode(&name, pd_str_from(in_name));
    url = pd_xasprintf("http://localhost/op/%s%s%s", c->op, in_name ? "?input=" : "",
                       pd_buf_cstr(&name));
    if (c->in_path && strcmp(c->in_path, "-") == 0) {
        fd = dup(STDIN_FILENO);
    } else if (c->in_path) {
        fd = open(c->in_path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            rc = PD_FAIL_SYS(err, PD_IO, "cannot open %s", c->in_path);
            goto out;
        }
    }
    struct pd_http_call call = {.method = "POST",
                                .url = url,
                                .unix_path = sock,
                                .body = pd_buf_str(&body),
                                .body_fd = fd,
                                .on_data = on_data,
                                .ctx = &a};
    rc = pd_http_call(&call, err);
    if (rc != PD_OK) {
        (void)pd_err_prefix(err, "%s is in use by another podium, which does not answer", dir);
        goto out;
    }
    PD_TRY(verdict(&a, call.status, err));
out:
    if (fd >= 0)
        close(fd);
    pd_buf_release(&body);
    pd_buf_release(&name);
    pd_buf_release(&a.head);
    pd_buf_release(&a.end);
    pd_free(sock);
    pd_free(url);
    return rc;
}

/* ------------------------------------------------------------------ which */

static bool makes_folder(const char *op)
{
    static const char *const ops[] = {"user.add", "user.invite", "dataset.create", "import"};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        if (strcmp(op, ops[i]) == 0)
            return true;
    return false;
}

enum pd_rc pd_door_op(const struct pd_door_call *c, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const char *dir = pd_door_data_dir(c->data_dir);
    struct json_object *args = c->args ? json_object_get(c->args) : json_object_new_object();
    struct pd_store *store = NULL;
    char *db = pd_xasprintf("%s/podium.db", dir);
    if (!makes_folder(c->op) && !pd_fs_exists(db)) {
        rc = PD_FAIL(err, PD_NOTFOUND,
                     "%s is not a data folder; name one with --data DIR (podium serve and podium "
                     "import make it)",
                     dir);
        goto out;
    }
    rc = pd_store_open(&store, dir, err);
    if (rc == PD_BUSY)
        rc = run_there(dir, c, args, err);
    else if (rc == PD_OK)
        rc = run_here(store, c, args, err);
out:
    pd_store_close(store);
    json_object_put(args);
    pd_free(db);
    return rc;
}
