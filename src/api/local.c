/* The unix socket's side of api/op_wire.h: run an operation for a verb of the same machine. */
#include "api/api.h"
#include "api/op_wire.h"
#include "api/ops.h"

#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* ------------------------------------------------------------------ frames out */

struct frames {
    struct pd_req *req;
    char type;
};

static ssize_t write_frame(void *cookie, const char *p, size_t n)
{
    struct frames *f = cookie;
    char head[PD_OP_FRAME_HEAD + 1];
    snprintf(head, sizeof head, "%c%016zx\n", f->type, n);
    if (pd_resp_write(f->req, head, PD_OP_FRAME_HEAD, NULL) != PD_OK ||
        pd_resp_write(f->req, p, n, NULL) != PD_OK)
        return 0;
    return (ssize_t)n;
}

static FILE *frame_file(struct frames *f)
{
    FILE *out = fopencookie(f, "w", (cookie_io_functions_t){.write = write_frame});
    if (out)
        setvbuf(out, NULL, _IOFBF, 1 << 16);
    return out;
}

static void end_frame(struct pd_req *req, enum pd_rc rc, const struct pd_err *err)
{
    struct frames f = {req, 'e'};
    struct pd_buf b;
    struct pd_jw w;
    pd_buf_init(&b, 0);
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    pd_jw_ki64(&w, "rc", rc);
    if (rc != PD_OK)
        pd_jw_kstrz(&w, "message", err->msg);
    pd_jw_object_end(&w);
    (void)write_frame(&f, b.ptr, b.len);
    pd_buf_release(&b);
}

/* ------------------------------------------------------------------ body in */

/* The arguments' line; the rest of fd is the input file. */
static enum pd_rc read_args(struct pd_req *req, int fd, struct json_object **args, off_t *rest,
                            struct pd_err *err)
{
    struct pd_buf line;
    char chunk[4096];
    const char *end = NULL;
    enum pd_rc rc = PD_OK;
    pd_buf_init(&line, 16 << 20);
    while (!end) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n <= 0) {
            rc = PD_FAIL(err, PD_PARSE, "the request has no line of arguments");
            goto out;
        }
        pd_buf_add(&line, chunk, (size_t)n);
        end = memchr(line.ptr, '\n', line.len);
    }
    size_t len = (size_t)(end - line.ptr);
    *rest = (off_t)len + 1;
    struct pd_str text = {pd_arena_strndup(&req->arena, line.ptr, len), len};
    req->body = text;
    PD_TRY(pd_req_json(req, args, err));
out:
    pd_buf_release(&line);
    return rc;
}

static enum pd_rc spool_input(struct pd_req *req, int fd, off_t from, char **path,
                              struct pd_err *err)
{
    char chunk[1 << 16];
    char *name =
        pd_arena_printf(&req->arena, "%s/tmp/op-XXXXXX", pd_store_dir(pd_api_of(req)->store));
    int to = mkstemp(name);
    enum pd_rc rc = PD_OK;
    if (to < 0)
        return PD_FAIL_SYS(err, PD_IO, "cannot make %s", name);
    *path = name;
    if (lseek(fd, from, SEEK_SET) != from)
        rc = PD_FAIL_SYS(err, PD_IO, "cannot read the request body");
    for (ssize_t n; rc == PD_OK && (n = read(fd, chunk, sizeof chunk)) != 0;)
        if (n < 0 || write(to, chunk, (size_t)n) != n)
            rc = PD_FAIL_SYS(err, PD_IO, "cannot keep the request body in %s", name);
    close(to);
    return rc;
}

static enum pd_rc run_op(struct pd_req *req, struct pd_err *err)
{
    const struct pd_op *op = pd_op_find(pd_req_param(req, "name"));
    struct json_object *args = NULL;
    struct frames of = {req, 'o'}, nf = {req, 'n'};
    FILE *out = NULL, *notes = NULL;
    char *in_path = NULL;
    int fd = -1;
    off_t rest = 0;
    enum pd_rc rc = PD_OK;
    if (!op)
        return PD_FAIL(err, PD_NOTFOUND, "no operation %.60s; is this server of another version?",
                       req->path);
    PD_TRY(pd_req_body_fd(req, &fd, err));
    PD_TRY(read_args(req, fd, &args, &rest, err));
    struct pd_str input = pd_req_query(req, "input");
    if (input.ptr)
        PD_TRY(spool_input(req, fd, rest, &in_path, err));
    pd_api_read_end(req);
    pd_resp_stream(req, 200, "application/octet-stream");
    out = frame_file(&of);
    notes = frame_file(&nf);
    if (!out || !notes) {
        rc = PD_FAIL(err, PD_NOMEM, "out of memory");
        goto out;
    }
    pd_api_local_call(pd_api_of(req), op->name);
    struct pd_op_call call = {.store = pd_api_of(req)->store,
                              .args = args,
                              .in_path = in_path,
                              .in_name = input.len ? input.ptr : NULL,
                              .out = out,
                              .notes = notes};
    rc = op->run(&call, err);
    (void)fclose(notes);
    notes = NULL;
    if (fclose(out) != 0 && rc == PD_OK)
        rc = PD_FAIL(err, PD_IO, "the client closed the connection");
    out = NULL;
    end_frame(req, rc, err);
    rc = PD_OK;
out:
    if (out)
        (void)fclose(out);
    if (notes)
        (void)fclose(notes);
    if (in_path)
        (void)unlink(in_path);
    return rc;
}

static const struct pd_route rows[] = {
    {PD_POST, "/op/{name}", run_op, PD_MAY_LOCAL, PD_DOOR_LOCAL, (size_t)64 << 30,
     PD_ROUTE_SPOOL | PD_ROUTE_STREAM, "an operation for a verb on this machine"},
};
PD_ROUTE_TABLE(pd_routes_local, rows);
