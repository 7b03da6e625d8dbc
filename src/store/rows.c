/* From rows to things: what all entities read the same way. */
#include "store/db_int.h"

void pd__row_uuid(const struct pd_rows *r, int col, char out[37])
{
    struct pd_str s = pd_row_str(r, col);
    size_t n = s.len < 36 ? s.len : 36;
    if (n)
        memcpy(out, s.ptr, n);
    out[n] = '\0';
}

void *pd__list_slot(struct pd_arena *a, void **items, size_t n, size_t *cap, size_t size)
{
    if (n == *cap) {
        size_t more = *cap ? *cap * 2 : 8;
        void *grown = pd_arena_alloc(a, more * size);
        if (n)
            memcpy(grown, *items, n * size);
        *items = grown;
        *cap = more;
    }
    return (char *)*items + n * size;
}

enum pd_rc pd__rows_all(struct pd_rows *rows, struct pd_arena *a, pd__read_fn *read, size_t size,
                        void *out, size_t *n, struct pd_err *err)
{
    void *items = NULL;
    size_t len = 0, cap = 0;
    bool more = false;
    enum pd_rc rc;
    while ((rc = pd_rows_next(rows, &more, err)) == PD_OK && more)
        read(rows, a, pd__list_slot(a, &items, len++, &cap, size));
    pd_rows_close(rows);
    if (rc == PD_OK) {
        memcpy(out, &items, sizeof items);
        *n = len;
    }
    return rc;
}

enum pd_rc pd__rows_one(struct pd_rows *rows, struct pd_arena *a, pd__read_fn *read, void *out,
                        bool *found, struct pd_err *err)
{
    enum pd_rc rc = pd_rows_next(rows, found, err);
    if (rc == PD_OK && *found)
        read(rows, a, out);
    pd_rows_close(rows);
    return rc;
}
