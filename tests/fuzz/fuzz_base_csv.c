/* CSV: rows that parse are written and parsed again to the same fields. */
#include "base/csv.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pd_arena a;
    struct pd_csv in, back;
    struct pd_str *row, *same;
    size_t n, m;
    bool more;
    pd_arena_init(&a);
    pd_csv_init(&in, (struct pd_str){(const char *)data, size}, ',');
    while (pd_csv_next(&in, &a, &row, &n, &more, NULL) == PD_OK && more) {
        struct pd_buf b;
        pd_buf_init(&b, 0);
        for (size_t i = 0; i < n; i++) {
            if (i)
                pd_buf_addc(&b, ',');
            /* Quoted always: a field may begin with what looks like a byte order mark. */
            struct pd_buf f;
            pd_buf_init(&f, 0);
            pd_csv_add(&f, row[i], ',');
            if (f.len && f.ptr[0] == '"') {
                pd_buf_addstr(&b, pd_buf_str(&f));
            } else {
                pd_buf_addc(&b, '"');
                pd_buf_addstr(&b, row[i]);
                pd_buf_addc(&b, '"');
            }
            pd_buf_release(&f);
        }
        pd_buf_addc(&b, '\n');
        pd_csv_init(&back, pd_buf_str(&b), ',');
        if (pd_csv_next(&back, &a, &same, &m, &more, NULL) != PD_OK || m != n)
            pd_bug("a written CSV row does not parse");
        for (size_t i = 0; i < n; i++)
            if (!pd_str_eq(row[i], same[i]))
                pd_bug("CSV field %zu changed in a round trip", i);
        pd_buf_release(&b);
    }
    pd_arena_release(&a);
    return 0;
}
