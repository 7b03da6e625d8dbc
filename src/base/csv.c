#include "base/csv.h"
#include "base/mem.h"

void pd_csv_init(struct pd_csv *c, struct pd_str text, char sep)
{
    if (pd_str_starts(text, PD_STR("\xEF\xBB\xBF")))
        text.ptr += 3, text.len -= 3;
    *c = (struct pd_csv){.rest = text, .sep = sep, .next_line = 1};
}

static char peek(const struct pd_csv *c)
{
    return c->rest.len ? c->rest.ptr[0] : '\0';
}

static char take(struct pd_csv *c)
{
    char ch = *c->rest.ptr++;
    c->rest.len--;
    if (ch == '\n')
        c->next_line++;
    return ch;
}

/* After the opening quote, up to and over the closing one. */
static enum pd_rc quoted(struct pd_csv *c, struct pd_buf *out, struct pd_err *err)
{
    size_t start = c->next_line;
    while (c->rest.len) {
        char ch = take(c);
        if (ch != '"') {
            pd_buf_addc(out, ch);
        } else if (peek(c) == '"') {
            pd_buf_addc(out, take(c));
        } else {
            return PD_OK;
        }
    }
    return PD_FAIL(err, PD_PARSE, "line %zu: a quoted field is never closed", start);
}

enum pd_rc pd_csv_next(struct pd_csv *c, struct pd_arena *a, struct pd_str **fields, size_t *n,
                       bool *more, struct pd_err *err)
{
    *more = false;
    if (!c->rest.len)
        return PD_OK;
    enum pd_rc rc = PD_OK;
    struct pd_str *row = NULL;
    size_t len = 0, cap = 0;
    struct pd_buf field;
    pd_buf_init(&field, 0);
    c->line = c->next_line;
    for (bool end = false; !end;) {
        pd_buf_clear(&field);
        if (peek(c) == '"') {
            take(c);
            PD_TRY(quoted(c, &field, err));
        }
        while (c->rest.len && peek(c) != c->sep && peek(c) != '\n' && peek(c) != '\r')
            pd_buf_addc(&field, take(c));
        if (len == cap) {
            cap = cap ? cap * 2 : 8;
            row = pd_xrealloc(row, cap * sizeof *row);
        }
        row[len++] =
            (struct pd_str){pd_arena_strndup(a, pd_buf_cstr(&field), field.len), field.len};
        if (c->rest.len && peek(c) == c->sep) {
            take(c);
        } else {
            if (peek(c) == '\r')
                take(c);
            if (peek(c) == '\n')
                take(c);
            end = true;
        }
    }
    *fields = pd_arena_alloc(a, len * sizeof **fields);
    memcpy(*fields, row, len * sizeof **fields);
    *n = len;
    *more = true;
out:
    pd_free(row);
    pd_buf_release(&field);
    return rc;
}

void pd_csv_add(struct pd_buf *out, struct pd_str field, char sep)
{
    bool quote = false;
    for (size_t i = 0; i < field.len; i++) {
        char ch = field.ptr[i];
        if (ch == '"' || ch == '\n' || ch == '\r' || ch == sep)
            quote = true;
    }
    if (!quote) {
        pd_buf_addstr(out, field);
        return;
    }
    pd_buf_addc(out, '"');
    for (size_t i = 0; i < field.len; i++) {
        if (field.ptr[i] == '"')
            pd_buf_addc(out, '"');
        pd_buf_addc(out, field.ptr[i]);
    }
    pd_buf_addc(out, '"');
}
