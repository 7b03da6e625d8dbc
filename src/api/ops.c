/* The table behind both doors. */
#include "api/ops.h"

static const struct pd_op table[] = {
#define X(name, fn, summary) {name, fn, summary},
    PD_OP_LIST(X)
#undef X
};

const struct pd_op *pd_op_table(size_t *n)
{
    *n = sizeof table / sizeof *table;
    return table;
}

const struct pd_op *pd_op_find(struct pd_str name)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (pd_str_eqz(name, table[i].name))
            return &table[i];
    return NULL;
}
