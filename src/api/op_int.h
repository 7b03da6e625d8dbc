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
/* Flushes c->out and reports a failed write. */
PD_CHECKED enum pd_rc pd__op_flush(struct pd_op_call *c, struct pd_err *err);

#endif
