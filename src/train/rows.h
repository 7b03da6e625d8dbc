/* Rows of a JSON-lines file and what happens to bad ones: the first twenty are named on stderr as
 * file:line: reason, and the read then fails (nothing is written, exit 1) unless bad rows are to
 * be skipped. Used by every verb of this wing that reads rows. Owner thread. */
#ifndef PD_TRAIN_ROWS_H
#define PD_TRAIN_ROWS_H

#include "base/fs.h"
#include "base/json.h"

struct pd_data_rows {
    struct pd_lines *lines;
    char *path;
    bool skip_bad;
    size_t n_bad, n_read;
    struct json_object *row;
};

PD_CHECKED enum pd_rc pd_data_rows_open(struct pd_data_rows *r, const char *path, bool skip_bad,
                                        struct pd_err *err);
/* Next row that is a JSON object, borrowed until the next call; *more = false at the end. Empty
 * lines are passed over, lines that are not objects are bad rows. `line` may be NULL. */
PD_CHECKED enum pd_rc pd_data_rows_next(struct pd_data_rows *r, struct json_object **row,
                                        struct pd_str *line, bool *more, struct pd_err *err);
/* The current row is bad. */
void pd_data_rows_bad(struct pd_data_rows *r, const char *fmt, ...) PD_PRINTF(2, 3);
/* At the end: PD_INVALID when there were bad rows that may not be skipped, PD_INVALID when there
 * were no good ones. */
PD_CHECKED enum pd_rc pd_data_rows_verdict(const struct pd_data_rows *r, struct pd_err *err);
void pd_data_rows_close(struct pd_data_rows *r); /* fine on a zeroed one */

#endif
