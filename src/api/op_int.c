#include "api/op_int.h"
#include "base/time.h"

enum pd_rc pd__op_flush(struct pd_op_call *c, struct pd_err *err)
{
    if (fflush(c->out) != 0 || ferror(c->out))
        return PD_FAIL_SYS(err, PD_IO, "cannot write the results");
    return PD_OK;
}

enum pd_rc pd__op_line(struct pd_op_call *c, struct pd_buf *line, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    pd_buf_addc(line, '\n');
    if (line->failed)
        rc = PD_FAIL(err, PD_TOOBIG, "the result is too large");
    else if (fwrite(line->ptr, 1, line->len, c->out) != line->len)
        rc = PD_FAIL_SYS(err, PD_IO, "cannot write the results");
    pd_buf_release(line);
    return rc == PD_OK ? pd__op_flush(c, err) : rc;
}

bool pd__op_json(const struct pd_op_call *c)
{
    return pd_json_bool(c->args, "json", false);
}

const char *pd__op_when(int64_t us, char out[32])
{
    pd_time_format(us, out);
    out[10] = ' ';
    out[16] = '\0';
    return out;
}

enum pd_rc pd__op_dataset(struct pd_op_call *c, struct pd_db *db, struct pd_arena *a,
                          struct pd_dataset *out, struct pd_err *err)
{
    struct pd_str name;
    enum pd_rc rc = pd_json_need_str(c->args, "dataset", &name, err);
    return rc == PD_OK ? pd_dataset_find(db, a, name, out, err) : rc;
}

static void begin(struct pd__op *op, struct pd_op_call *c)
{
    op->c = c;
    op->json = pd__op_json(c);
    pd_arena_init(&op->a);
    pd_buf_init(&op->out, 0);
    pd_jw_init(&op->w, &op->out);
}

static void end(struct pd__op *op)
{
    pd_buf_release(&op->out);
    pd_arena_release(&op->a);
}

enum pd_rc pd__op_read(struct pd_op_call *c, pd__op_fn *fn, void *arg, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd__op op = {0};
    begin(&op, c);
    PD_TRY(pd_read_begin(c->store, &op.db, err));
    PD_TRY(fn(&op, arg, err));
    PD_TRY(pd__op_line(c, &op.out, err));
out:
    pd_read_end(c->store, op.db);
    end(&op);
    return rc;
}

enum pd_rc pd__op_write(struct pd_op_call *c, pd__op_fn *fn, void *arg, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd__op op = {0};
    struct pd_tx tx = {0};
    begin(&op, c);
    PD_TRY(pd_tx_begin(&tx, c->store, PD_TX_DURABLE, err));
    op.db = tx.db;
    PD_TRY(fn(&op, arg, err));
    PD_TRY(pd_tx_commit(&tx, err));
    PD_TRY(pd__op_line(c, &op.out, err));
out:
    pd_tx_abandon(&tx);
    end(&op);
    return rc;
}
