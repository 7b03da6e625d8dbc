#include "lm/pickle_int.h"

#include "base/mem.h"

#include <inttypes.h>

enum { MAX_BYTES = 16 << 20, MAX_LONG = 8 };

enum op {
    OP_MARK = '(',
    OP_STOP = '.',
    OP_BINFLOAT = 'G',
    OP_BININT = 'J',
    OP_BININT1 = 'K',
    OP_BININT2 = 'M',
    OP_NONE = 'N',
    OP_BINPERSID = 'Q',
    OP_REDUCE = 'R',
    OP_BINSTRING = 'T',
    OP_SHORT_BINSTRING = 'U',
    OP_BINUNICODE = 'X',
    OP_EMPTY_LIST = ']',
    OP_APPEND = 'a',
    OP_BUILD = 'b',
    OP_GLOBAL = 'c',
    OP_APPENDS = 'e',
    OP_BINGET = 'h',
    OP_LONG_BINGET = 'j',
    OP_BINPUT = 'q',
    OP_LONG_BINPUT = 'r',
    OP_SETITEM = 's',
    OP_TUPLE = 't',
    OP_SETITEMS = 'u',
    OP_EMPTY_DICT = '}',
    OP_EMPTY_TUPLE = ')',
    OP_PROTO = 0x80,
    OP_TUPLE1 = 0x85,
    OP_TUPLE2 = 0x86,
    OP_TUPLE3 = 0x87,
    OP_NEWTRUE = 0x88,
    OP_NEWFALSE = 0x89,
    OP_LONG1 = 0x8a,
    OP_SHORT_BINUNICODE = 0x8c,
    OP_STACK_GLOBAL = 0x93,
    OP_MEMOIZE = 0x94,
    OP_FRAME = 0x95,
};

static void push_tuple(struct pd_pk_machine *m, int n)
{
    struct pd_pk *items[3] = {0};
    for (int i = n - 1; i >= 0; i--)
        items[i] = pd_pk_pop(m);
    pd_pk_push_with(m, PD_PK_TUPLE, items, (size_t)n);
}

static void push_tuple_to_mark(struct pd_pk_machine *m)
{
    size_t n;
    struct pd_pk **items = pd_pk_pop_mark(m, &n);
    pd_pk_push_with(m, PD_PK_TUPLE, items, n);
}

static void push_global(struct pd_pk_machine *m, struct pd_str module, struct pd_str name)
{
    for (const char *const *g = m->globals; m->rc == PD_OK && *g; g++)
        if (strlen(*g) == module.len + 1 + name.len && memcmp(*g, module.ptr, module.len) == 0 &&
            (*g)[module.len] == '.' && memcmp(*g + module.len + 1, name.ptr, name.len) == 0) {
            pd_pk_push_node(m, PD_PK_GLOBAL)->text = pd_str_from(*g);
            return;
        }
    pd_pk_bad(m, PD_UNSUPPORTED, "it asks for %.*s.%.*s, which weights have no need of: refused",
              module.len < 80 ? (int)module.len : 80, module.ptr,
              name.len < 80 ? (int)name.len : 80, name.ptr);
}

static void stack_global(struct pd_pk_machine *m)
{
    struct pd_pk *name = pd_pk_pop(m), *module = pd_pk_pop(m);
    if (m->rc == PD_OK && (name->kind != PD_PK_STR || module->kind != PD_PK_STR))
        BAD(m, "a global's name is not text");
    if (m->rc == PD_OK)
        push_global(m, module->text, name->text);
}

static void reduce(struct pd_pk_machine *m)
{
    struct pd_pk *items[2] = {0};
    items[1] = pd_pk_pop(m);
    items[0] = pd_pk_pop(m);
    if (m->rc == PD_OK && (items[0]->kind != PD_PK_GLOBAL || items[1]->kind != PD_PK_TUPLE))
        BAD(m, "a call of what is no function");
    pd_pk_push_with(m, PD_PK_CALL, items, 2);
}

static void add_items(struct pd_pk_machine *m, struct pd_pk *const *items, size_t n, bool pairs)
{
    struct pd_pk *to = m->rc == PD_OK && m->depth > 0 ? m->stack[m->depth - 1] : NULL;
    bool right =
        to && (pairs ? to->kind == PD_PK_DICT || to->kind == PD_PK_CALL : to->kind == PD_PK_LIST);
    if (!right || (pairs && n % 2 != 0))
        BAD(m, "items for what cannot hold them");
    for (size_t i = 0; i < n && m->rc == PD_OK; i++)
        pd_pk_add_item(m, to, items[i]);
}

static void set_item(struct pd_pk_machine *m)
{
    struct pd_pk *items[2] = {0};
    items[1] = pd_pk_pop(m);
    items[0] = pd_pk_pop(m);
    add_items(m, items, 2, true);
}

static void add_to_mark(struct pd_pk_machine *m, bool pairs)
{
    size_t n;
    struct pd_pk **items = pd_pk_pop_mark(m, &n);
    add_items(m, items, n, pairs);
}

/* torch numbers what it remembers from 0 on without gaps; an index past the count is a lie. */
static void put(struct pd_pk_machine *m, uint64_t i)
{
    struct pd_pk *v = m->depth > 0 ? m->stack[m->depth - 1] : NULL;
    if (!v || i > m->memo_n) {
        BAD(m, "it remembers nothing, or as number %" PRIu64 " after %zu", i, m->memo_n);
        return;
    }
    pd_pk_grow(m, &m->memo, m->memo_n, &m->memo_cap);
    if (m->rc != PD_OK)
        return;
    m->memo[i] = v;
    m->memo_n += i == m->memo_n;
}

static void get(struct pd_pk_machine *m, uint64_t i)
{
    if (m->rc == PD_OK && i >= m->memo_n)
        BAD(m, "it recalls number %" PRIu64 " of %zu", i, m->memo_n);
    if (m->rc == PD_OK)
        pd_pk_push(m, m->memo[i]);
}

static void long1(struct pd_pk_machine *m)
{
    size_t n = (size_t)pd_pk_take_le(m, 1);
    if (m->rc == PD_OK && n > MAX_LONG) {
        BAD(m, "an integer of %zu bytes", n);
        return;
    }
    const unsigned char *p = pd_pk_take(m, n);
    uint64_t v = 0;
    for (size_t i = n; i-- > 0;)
        v = v << 8 | p[i];
    if (n > 0 && n < 8 && p[n - 1] & 0x80)
        v |= UINT64_MAX << (8 * n);
    pd_pk_push_int(m, PD_PK_INT, (int64_t)v);
}

static void binfloat(struct pd_pk_machine *m)
{
    const unsigned char *p = pd_pk_take(m, 8);
    uint64_t u = 0;
    for (int i = 0; i < 8; i++)
        u = u << 8 | p[i];
    memcpy(&pd_pk_push_node(m, PD_PK_FLOAT)->f, &u, sizeof u);
}

static void push_text(struct pd_pk_machine *m, int length_bytes)
{
    struct pd_str text = pd_pk_take_text(m, length_bytes);
    pd_pk_push_node(m, PD_PK_STR)->text = text;
}

static void persid(struct pd_pk_machine *m)
{
    struct pd_pk *id = pd_pk_pop(m);
    pd_pk_push_with(m, PD_PK_PERSID, &id, 1);
}

/* Numbers, text and constants. */
static bool step_atom(struct pd_pk_machine *m, unsigned op)
{
    switch (op) {
    case OP_NONE:
        pd_pk_push_node(m, PD_PK_NONE);
        return true;
    case OP_NEWTRUE:
    case OP_NEWFALSE:
        pd_pk_push_int(m, PD_PK_BOOL, op == OP_NEWTRUE);
        return true;
    case OP_BININT:
        pd_pk_push_int(m, PD_PK_INT, (int32_t)(uint32_t)pd_pk_take_le(m, 4));
        return true;
    case OP_BININT1:
        pd_pk_push_int(m, PD_PK_INT, (int64_t)pd_pk_take_le(m, 1));
        return true;
    case OP_BININT2:
        pd_pk_push_int(m, PD_PK_INT, (int64_t)pd_pk_take_le(m, 2));
        return true;
    case OP_LONG1:
        long1(m);
        return true;
    case OP_BINFLOAT:
        binfloat(m);
        return true;
    case OP_BINUNICODE:
    case OP_BINSTRING:
        push_text(m, 4);
        return true;
    case OP_SHORT_BINUNICODE:
    case OP_SHORT_BINSTRING:
        push_text(m, 1);
        return true;
    default:
        return false;
    }
}

/* Containers, and what fills them. */
static bool step_container(struct pd_pk_machine *m, unsigned op)
{
    switch (op) {
    case OP_MARK:
        pd_pk_push(m, NULL);
        return true;
    case OP_EMPTY_DICT:
        pd_pk_push_node(m, PD_PK_DICT);
        return true;
    case OP_EMPTY_LIST:
        pd_pk_push_node(m, PD_PK_LIST);
        return true;
    case OP_EMPTY_TUPLE:
        pd_pk_push_node(m, PD_PK_TUPLE);
        return true;
    case OP_TUPLE1:
    case OP_TUPLE2:
    case OP_TUPLE3:
        push_tuple(m, (int)op - OP_TUPLE1 + 1);
        return true;
    case OP_TUPLE:
        push_tuple_to_mark(m);
        return true;
    case OP_APPEND: {
        struct pd_pk *item = pd_pk_pop(m);
        add_items(m, &item, 1, false);
        return true;
    }
    case OP_SETITEM:
        set_item(m);
        return true;
    case OP_APPENDS:
    case OP_SETITEMS:
        add_to_mark(m, op == OP_SETITEMS);
        return true;
    default:
        return false;
    }
}

/* The memo, globals and what would be called. */
static bool step_other(struct pd_pk_machine *m, unsigned op)
{
    switch (op) {
    case OP_PROTO:
        if (pd_pk_take_le(m, 1) > 5)
            BAD(m, "a protocol after 5");
        return true;
    case OP_FRAME:
        (void)pd_pk_take_le(m, 8);
        return true;
    case OP_BINPUT:
        put(m, pd_pk_take_le(m, 1));
        return true;
    case OP_LONG_BINPUT:
        put(m, pd_pk_take_le(m, 4));
        return true;
    case OP_MEMOIZE:
        put(m, m->memo_n);
        return true;
    case OP_BINGET:
        get(m, pd_pk_take_le(m, 1));
        return true;
    case OP_LONG_BINGET:
        get(m, pd_pk_take_le(m, 4));
        return true;
    case OP_GLOBAL: {
        struct pd_str module = pd_pk_take_line(m), name = pd_pk_take_line(m);
        push_global(m, module, name);
        return true;
    }
    case OP_STACK_GLOBAL:
        stack_global(m);
        return true;
    case OP_BINPERSID:
        persid(m);
        return true;
    case OP_REDUCE:
        reduce(m);
        return true;
    case OP_BUILD: /* the state stays unused */
        (void)pd_pk_pop(m);
        if (m->rc == PD_OK && (m->depth == 0 || !m->stack[m->depth - 1]))
            BAD(m, "a state for nothing");
        return true;
    default:
        return false;
    }
}

static void run(struct pd_pk_machine *m)
{
    while (m->rc == PD_OK) {
        m->op_at = m->at;
        unsigned op = (unsigned)pd_pk_take_le(m, 1);
        if (m->rc != PD_OK || op == OP_STOP)
            return;
        if (!step_atom(m, op) && !step_container(m, op) && !step_other(m, op))
            pd_pk_bad(m, PD_UNSUPPORTED,
                      "opcode 0x%02x is not one of those that weights need: refused", op);
    }
}

enum pd_rc pd_pickle_read(struct pd_pk **out, struct pd_str bytes, const char *const *globals,
                          struct pd_arena *arena, const char *path, struct pd_err *err)
{
    struct pd_pk_machine m = {.p = (const unsigned char *)bytes.ptr,
                              .n = bytes.len,
                              .globals = globals,
                              .arena = arena,
                              .path = path,
                              .rc = PD_OK,
                              .err = err};
    if (bytes.len > MAX_BYTES)
        return PD_FAIL(err, PD_TOOBIG,
                       "%s: a pickle of %zu bytes; more than %d describes no weights", path,
                       bytes.len, (int)MAX_BYTES);
    run(&m);
    struct pd_pk *top = pd_pk_pop(&m);
    if (m.rc == PD_OK)
        *out = top;
    pd_free(m.stack);
    pd_free(m.memo);
    return m.rc;
}

bool pd_pk_calls(const struct pd_pk *v, const char *global)
{
    return v->kind == PD_PK_CALL && pd_str_eqz(v->items[0]->text, global);
}
