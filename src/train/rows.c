#include "train/rows.h"
#include "base/log.h"
#include "base/mem.h"

enum { MAX_LINE = 64 << 20 };

enum pd_rc pd_data_rows_open(struct pd_data_rows *r, const char *path, bool skip_bad,
                             struct pd_err *err)
{
    *r = (struct pd_data_rows){.skip_bad = skip_bad};
    enum pd_rc rc = pd_lines_open(&r->lines, path, MAX_LINE, err);
    if (rc == PD_OK)
        r->path = pd_xstrdup(strcmp(path, "-") == 0 ? "stdin" : path);
    return rc;
}

void pd_data_rows_bad(struct pd_data_rows *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    pd_log_bad_row(&r->n_bad, r->path, pd_lines_number(r->lines), fmt, ap);
    va_end(ap);
}

enum pd_rc pd_data_rows_next(struct pd_data_rows *r, struct json_object **row, struct pd_str *line,
                             bool *more, struct pd_err *err)
{
    for (;;) {
        struct pd_str text;
        struct pd_err why = {0};
        json_object_put(r->row);
        r->row = NULL;
        enum pd_rc rc = pd_lines_next(r->lines, &text, more, err);
        if (rc != PD_OK || !*more)
            return rc;
        if (pd_str_trim(text).len == 0)
            continue;
        r->n_read++;
        if (pd_json_parse(text, &r->row, &why) != PD_OK) {
            pd_data_rows_bad(r, "%s", why.msg);
            continue;
        }
        if (!json_object_is_type(r->row, json_type_object)) {
            pd_data_rows_bad(r, "expected a JSON object, found %s", pd_json_type_name(r->row));
            continue;
        }
        *row = r->row;
        if (line)
            *line = text;
        return PD_OK;
    }
}

enum pd_rc pd_data_rows_verdict(const struct pd_data_rows *r, struct pd_err *err)
{
    if (r->n_bad > 0 && !r->skip_bad)
        return PD_FAIL(err, PD_INVALID, "%s: %zu of %zu rows are bad; mend them or add --skip-bad",
                       r->path, r->n_bad, r->n_read);
    if (r->n_read == r->n_bad)
        return PD_FAIL(err, PD_INVALID, "%s: no %srows to work on", r->path,
                       r->n_bad ? "good " : "");
    if (r->n_bad > 0)
        fprintf(stderr, "%s: %zu bad rows skipped\n", r->path, r->n_bad);
    return PD_OK;
}

void pd_data_rows_close(struct pd_data_rows *r)
{
    json_object_put(r->row);
    pd_lines_close(r->lines);
    pd_free(r->path);
    *r = (struct pd_data_rows){0};
}
