/* RFC 4180 CSV/TSV reading over pd_lines-independent bytes: quoted fields may hold separators,
 * quotes ("") and newlines. */
#ifndef PD_BASE_CSV_H
#define PD_BASE_CSV_H

#include "base/arena.h"
#include "base/str.h"

struct pd_csv {
    struct pd_str rest;
    char sep;
    size_t line; /* line the last row began on, from 1 */
    size_t next_line;
};
void pd_csv_init(struct pd_csv *c, struct pd_str text, char sep); /* a UTF-8 BOM is skipped */
/* Next row: *fields (arena) and *n. *more=false at the end. PD_PARSE on an unterminated quote. */
PD_CHECKED enum pd_rc pd_csv_next(struct pd_csv *c, struct pd_arena *a, struct pd_str **fields,
                                  size_t *n, bool *more, struct pd_err *err);
/* Appends one field with quoting where needed. */
void pd_csv_add(struct pd_buf *out, struct pd_str field, char sep);

#endif
