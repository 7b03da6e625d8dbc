/* A pickle alone, without the ZIP around it, which would keep the fuzzer busy. */
#include "lm/pickle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const globals[] = {"collections.OrderedDict", "a.b", NULL};
    struct pd_arena arena;
    struct pd_pk *top = NULL;
    struct pd_err err;
    pd_arena_init(&arena);
    if (pd_pickle_read(&top, (struct pd_str){(const char *)data, size}, globals, &arena, "fuzz",
                       &err) == PD_OK)
        for (size_t i = 0; i < top->n; i++)
            if (top->items[i]->kind > PD_PK_CALL)
                pd_bug("item %zu is no node", i);
    pd_arena_release(&arena);
    return 0;
}
