/* Shared by pickle.c (the opcodes) and pickle_stack.c. */
#ifndef PD_LM_PICKLE_INT_H
#define PD_LM_PICKLE_INT_H

#include "lm/pickle.h"

/* A node costs about a hundred bytes; a tensor is described in about eight. */
enum { PD_PK_MAX_NODES = 2 << 20 };

/* The stack holds NULL for a mark. */
struct pd_pk_machine {
    const unsigned char *p;
    size_t n, at;
    struct pd_pk **stack, **memo;
    size_t depth, stack_cap, memo_n, memo_cap;
    const char *const *globals;
    struct pd_arena *arena;
    size_t n_nodes;
    const char *path;
    enum pd_rc rc; /* the first trouble; later steps do nothing */
    struct pd_err *err;
    size_t op_at; /* where the opcode being run stands */
};

/* The first trouble, with the place in the file; later ones are passed over. */
void pd_pk_bad(struct pd_pk_machine *m, enum pd_rc code, const char *fmt, ...) PD_PRINTF(3, 4);
#define BAD(m, ...) pd_pk_bad((m), PD_PARSE, __VA_ARGS__)

/* From the bytes; zeros and empty texts once there is trouble. */
const unsigned char *pd_pk_take(struct pd_pk_machine *m, size_t n);
uint64_t pd_pk_take_le(struct pd_pk_machine *m, int bytes);
struct pd_str pd_pk_take_text(struct pd_pk_machine *m, int length_bytes); /* after its length */
struct pd_str pd_pk_take_line(struct pd_pk_machine *m);

/* On the stack; NULL from pop and pop_mark once there is trouble. */
void pd_pk_push(struct pd_pk_machine *m, struct pd_pk *v);
struct pd_pk *pd_pk_push_node(struct pd_pk_machine *m, enum pd_pk_kind kind); /* never NULL */
void pd_pk_push_int(struct pd_pk_machine *m, enum pd_pk_kind kind, int64_t i);
void pd_pk_push_with(struct pd_pk_machine *m, enum pd_pk_kind kind, struct pd_pk *const *items,
                     size_t n);
struct pd_pk *pd_pk_pop(struct pd_pk_machine *m);
struct pd_pk **pd_pk_pop_mark(struct pd_pk_machine *m, size_t *n); /* the mark goes too */

void pd_pk_add_item(struct pd_pk_machine *m, struct pd_pk *to, struct pd_pk *item);
/* Room for one more than n. */
void pd_pk_grow(struct pd_pk_machine *m, struct pd_pk ***v, size_t n, size_t *cap);

#endif
