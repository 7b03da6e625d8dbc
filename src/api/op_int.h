/* Shared by the operations: writing a JSON result as one line, times for people, a dataset by name.
 */
#ifndef PD_API_OP_INT_H
#define PD_API_OP_INT_H

#include "api/ops.h"
#include "store/dataset.h"

/* Writes the buffer and a newline to c->out and releases it. */
PD_CHECKED enum pd_rc pd__op_line(struct pd_op_call *c, struct pd_buf *line, struct pd_err *err);
bool pd__op_json(const struct pd_op_call *c); /* --json was given */
/* "2024-05-01 12:00", UTC. */
const char *pd__op_when(int64_t us, char out[32]);
/* args.dataset, required. */
PD_CHECKED enum pd_rc pd__op_dataset(struct pd_op_call *c, struct pd_db *db, struct pd_arena *a,
                                     struct pd_dataset *out, struct pd_err *err);
/* An operation at work on the store: what it reads or changes, and what it will have printed. */
struct pd__op {
    struct pd_op_call *c;
    struct pd_db *db;
    struct pd_arena a;
    bool json;
    struct pd_buf out; /* for people; a newline follows it */
    struct pd_jw w;    /* for programs: writes into out */
};
typedef enum pd_rc pd__op_fn(struct pd__op *op, void *arg, struct pd_err *err);
/* fn inside one reading, or inside one durable transaction that is committed when it succeeds; then
 * what it wrote is printed. */
PD_CHECKED enum pd_rc pd__op_read(struct pd_op_call *c, pd__op_fn *fn, void *arg,
                                  struct pd_err *err);
PD_CHECKED enum pd_rc pd__op_write(struct pd_op_call *c, pd__op_fn *fn, void *arg,
                                   struct pd_err *err);
/* Flushes c->out and reports a failed write. */
PD_CHECKED enum pd_rc pd__op_flush(struct pd_op_call *c, struct pd_err *err);

#endif
