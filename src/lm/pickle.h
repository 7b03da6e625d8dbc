/* Reading a pickle as data: what it would build and call becomes a tree of nodes; nothing is
 * called.
 *
 * Only the opcodes of torch.save's state dicts are known, and only the globals that the caller
 * lists; any other is an error that names it. A call (REDUCE) is a node of its callable and its
 * arguments, items set on it are kept beside them, a state given to it (BUILD) is dropped. Nodes
 * may share and even contain each other: walk them by what you expect, not blindly. Strings are
 * borrowed from the bytes, nodes live in the arena. */
#ifndef PD_LM_PICKLE_H
#define PD_LM_PICKLE_H

#include "base/arena.h"
#include "base/str.h"

enum pd_pk_kind {
    PD_PK_NONE,
    PD_PK_BOOL,
    PD_PK_INT,
    PD_PK_FLOAT,
    PD_PK_STR,
    PD_PK_TUPLE,
    PD_PK_LIST,
    PD_PK_DICT,   /* items: key, value, key, value... */
    PD_PK_GLOBAL, /* text: its name as listed, "torch.FloatStorage" */
    PD_PK_PERSID, /* items[0]: what identifies it */
    PD_PK_CALL,   /* items[0]: callable, items[1]: tuple of arguments, then as PD_PK_DICT */
};

struct pd_pk {
    enum pd_pk_kind kind;
    int64_t i; /* BOOL, INT */
    double f;
    struct pd_str text; /* STR, GLOBAL */
    struct pd_pk **items;
    size_t n, cap;
};

/* The value that the pickle leaves. globals: names allowed, NULL-ended. PD_PARSE with the byte
 * offset for what is malformed; PD_UNSUPPORTED naming an opcode or global that is not allowed. */
PD_CHECKED enum pd_rc pd_pickle_read(struct pd_pk **out, struct pd_str bytes,
                                     const char *const *globals, struct pd_arena *arena,
                                     const char *path, struct pd_err *err);

/* Is it a call of this global? */
bool pd_pk_calls(const struct pd_pk *v, const char *global);

#endif
