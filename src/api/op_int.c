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
