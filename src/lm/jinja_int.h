/* The inside of chat templates: tokens, nodes, values. Everything made while compiling or rendering
 * lives in one arena and goes with it. */
#ifndef PD_LM_JINJA_INT_H
#define PD_LM_JINJA_INT_H

#include "base/arena.h"
#include "base/json.h"
#include "lm/jinja.h"

enum {
    PD_J_MAX_SOURCE = 1 << 20,
    PD_J_MAX_DEPTH = 100,        /* of nested expressions, blocks, calls */
    PD_J_MAX_EVAL = 1000,        /* of evaluation, macros included */
    PD_J_MAX_STEPS = 20000000,   /* nodes evaluated, items walked */
    PD_J_MAX_MEMORY = 256 << 20, /* bytes of values of one rendering */
};

/* ---- tokens ---- */

enum pd_j_tok {
    PD_J_TEXT,  /* between tags */
    PD_J_PRINT, /* {{ */
    PD_J_PRINT_END,
    PD_J_TAG, /* {% */
    PD_J_TAG_END,
    PD_J_NAME,
    PD_J_INT,
    PD_J_FLOAT,
    PD_J_STRING, /* text: unescaped */
    PD_J_OP,     /* text: "+", "==", "//", ... */
    PD_J_EOF
};
struct pd_j_token {
    enum pd_j_tok kind;
    int line;
    struct pd_str text;
    int64_t i;
    double f;
};
/* source lives as long as the arena. The list ends in PD_J_EOF. */
PD_CHECKED enum pd_rc pd_j_lex(struct pd_arena *a, struct pd_str source, struct pd_j_token **out,
                               struct pd_err *err);

/* ---- nodes ---- */

enum pd_j_node_kind {
    /* expressions */
    PD_J_CONST,  /* value */
    PD_J_VAR,    /* name */
    PD_J_LIST,   /* args */
    PD_J_DICT,   /* args: key, value, key, value */
    PD_J_ATTR,   /* a . name */
    PD_J_INDEX,  /* a [ b ] */
    PD_J_SLICE,  /* a [ args 0..2 ]; an absent one is NULL */
    PD_J_CALL,   /* a ( args, named ) */
    PD_J_FILTER, /* a | name ( args, named ); a NULL in {% filter %} */
    PD_J_TEST,   /* a is name ( args ) */
    PD_J_NOT,
    PD_J_NEG,
    PD_J_POS,
    PD_J_AND,
    PD_J_OR,
    PD_J_BINARY,  /* a op b; name is the operator */
    PD_J_COMPARE, /* a, then named: name is the operator, value the operand */
    PD_J_IF_ELSE, /* a if b else c */
    /* statements */
    PD_J_OUT_TEXT,  /* value */
    PD_J_OUT,       /* a */
    PD_J_IF,        /* a: body, else: rest */
    PD_J_FOR,       /* args: targets; a: iterable; b: condition; body; rest */
    PD_J_SET,       /* args: targets; a: value */
    PD_J_SET_NS,    /* a . name = b */
    PD_J_SET_BLOCK, /* args: target; body; a: filter or NULL */
    PD_J_MACRO,     /* name; named: parameters with defaults; body */
    PD_J_BLOCK,     /* body, written out: generation */
    PD_J_BREAK,
    PD_J_CONTINUE
};

struct pd_j_node {
    enum pd_j_node_kind kind;
    int line;
    struct pd_str name;
    struct pd_j_val *value;
    struct pd_j_node *a, *b, *c;
    struct pd_j_node **args;
    size_t n_args;
    struct pd_j_named {
        struct pd_str name;
        struct pd_j_node *value; /* NULL: a parameter without default */
    } * named;
    size_t n_named;
    struct pd_j_body {
        struct pd_j_node **v;
        size_t n;
    } body, rest;
};

PD_CHECKED enum pd_rc pd_j_parse(struct pd_arena *a, const struct pd_j_token *tokens,
                                 struct pd_j_body *out, struct pd_err *err);

/* ---- values ---- */

enum pd_j_type {
    PD_J_T_UNDEFINED,
    PD_J_T_NONE,
    PD_J_T_BOOL,
    PD_J_T_INT,
    PD_J_T_FLOAT,
    PD_J_T_STR,
    PD_J_T_LIST,
    PD_J_T_MAP,
    PD_J_T_NAMESPACE, /* a map that {% set ns.x = ... %} changes */
    PD_J_T_LOOP,
    PD_J_T_MACRO,
    PD_J_T_FUNCTION /* a function or a bound method, by name */
};

/* Bytes and where they came from: all trusted, none, or as marks (one a byte, 1 = untrusted). */
struct pd_j_str {
    struct pd_str s;
    bool tainted;
    const uint8_t *marks; /* NULL: all bytes are as `tainted` says */
};
struct pd_j_list {
    struct pd_j_val *v;
    size_t n, cap;
    bool tuple;
};
struct pd_j_map {
    struct pd_j_entry *v;
    size_t n, cap;
};
struct pd_j_val {
    enum pd_j_type type;
    union {
        bool b;
        int64_t i;
        double f;
        struct pd_j_str str;
        struct pd_j_list *list;
        struct pd_j_map *map;
        struct pd_j_loop *loop;
        struct pd_j_macro *macro;
        struct {
            const char *name;      /* undefined: what is */
            struct pd_j_val *self; /* a method's */
        } fn;
    } u;
};
struct pd_j_entry {
    struct pd_j_str key;
    struct pd_j_val value;
};
struct pd_j_loop {
    const struct pd_j_list *items;
    size_t at;
};
struct pd_j_macro {
    const struct pd_j_node *node;
    struct pd_j_frame *home;
};

/* A text being put together with its marks. */
struct pd_j_out {
    char *text;
    uint8_t *marks;
    size_t n, cap;
    size_t tainted; /* how many marks are set */
};

/* ---- a rendering ---- */

struct pd_j_frame {
    struct pd_j_map vars;
    struct pd_j_frame *up;
};
struct pd_j_run {
    struct pd_arena arena;
    struct pd_err *err;
    size_t steps;
    int depth, line;
    struct pd_j_frame *frame;
};
struct pd_j_args { /* of a call, filter or test */
    struct pd_j_val *v;
    size_t n;
    struct pd_j_map named;
};

/* Fails with "line N: ..."; count steps and refuse to go on without end. What walks over something
 * that a template can make long counts as well: a step for a few names, for 64 bytes of a text. */
enum pd_rc pd_j_fail(struct pd_j_run *r, enum pd_rc rc, const char *fmt, ...) PD_PRINTF(3, 4);
PD_CHECKED enum pd_rc pd_j_step(struct pd_j_run *r, size_t n);
PD_CHECKED enum pd_rc pd_j_step_text(struct pd_j_run *r, struct pd_str s);
PD_CHECKED enum pd_rc pd_j_step_names(struct pd_j_run *r, const struct pd_j_map *m);
/* n zeroed bytes that live as long as the rendering; NULL past its memory. */
PD_CHECKED void *pd_j_alloc(struct pd_j_run *r, size_t n);

/* --- jinja_value.c --- */
struct pd_j_val pd_j_str_val(struct pd_str s, bool tainted);
struct pd_j_val pd_j_strz(const char *z); /* trusted, static */
struct pd_j_val pd_j_bool(bool b);
struct pd_j_val pd_j_int(int64_t i);
struct pd_j_val pd_j_undefined(const char *what);
extern const struct pd_j_val pd_j_none;
const char *pd_j_type_name(const struct pd_j_val *v); /* "a string" */
bool pd_j_truth(const struct pd_j_val *v);
PD_CHECKED enum pd_rc pd_j_equal(struct pd_j_run *r, const struct pd_j_val *a,
                                 const struct pd_j_val *b, bool *yes);
PD_CHECKED enum pd_rc pd_j_compare(struct pd_j_run *r, const struct pd_j_val *a,
                                   const struct pd_j_val *b, int *order);
PD_CHECKED enum pd_rc pd_j_contains(struct pd_j_run *r, const struct pd_j_val *in,
                                    const struct pd_j_val *x, bool *yes);
PD_CHECKED enum pd_rc pd_j_list_new(struct pd_j_run *r, struct pd_j_val *out);
PD_CHECKED enum pd_rc pd_j_list_add(struct pd_j_run *r, struct pd_j_list *l, struct pd_j_val v);
PD_CHECKED enum pd_rc pd_j_map_new(struct pd_j_run *r, enum pd_j_type type, struct pd_j_val *out);
PD_CHECKED enum pd_rc pd_j_map_put(struct pd_j_run *r, struct pd_j_map *m, struct pd_j_str key,
                                   struct pd_j_val v);
struct pd_j_val *pd_j_map_get(const struct pd_j_map *m, struct pd_str key); /* NULL = none */
/* What iterating over v gives: items, keys, characters. An error for what cannot be. */
PD_CHECKED enum pd_rc pd_j_iterate(struct pd_j_run *r, const struct pd_j_val *v,
                                   struct pd_j_list **out);
PD_CHECKED enum pd_rc pd_j_from_json(struct pd_j_run *r, struct json_object *o, bool trusted,
                                     int depth, struct pd_j_val *out);
struct pd_j_str pd_j_sub(struct pd_j_str s, size_t from, size_t to); /* bytes [from, to) */

/* --- jinja_text.c --- */
PD_CHECKED enum pd_rc pd_j_out_add(struct pd_j_run *r, struct pd_j_out *o, struct pd_j_str s);
PD_CHECKED enum pd_rc pd_j_out_z(struct pd_j_run *r, struct pd_j_out *o, const char *z);
struct pd_j_val pd_j_out_val(const struct pd_j_out *o);
/* str(v), repr(v) where nested; and JSON as json.dumps writes it. */
PD_CHECKED enum pd_rc pd_j_print(struct pd_j_run *r, struct pd_j_out *o, const struct pd_j_val *v);
PD_CHECKED enum pd_rc pd_j_json(struct pd_j_run *r, struct pd_j_out *o, const struct pd_j_val *v,
                                const struct pd_j_args *args);
bool pd_j_is_space(uint32_t cp); /* Python's */
struct pd_j_str pd_j_strip(struct pd_j_str s, const struct pd_str *chars, bool left, bool right);
size_t pd_j_chars(struct pd_str s);              /* how many */
size_t pd_j_offset(struct pd_str s, size_t nth); /* of the nth character */

/* --- jinja_op.c --- */
PD_CHECKED enum pd_rc pd_j_binary(struct pd_j_run *r, struct pd_str op, const struct pd_j_val *a,
                                  const struct pd_j_val *b, struct pd_j_val *out);
PD_CHECKED enum pd_rc pd_j_negate(struct pd_j_run *r, struct pd_j_val *v);
/* ==, !=, <, <=, >, >=, in, not in */
PD_CHECKED enum pd_rc pd_j_relation(struct pd_j_run *r, struct pd_str op, const struct pd_j_val *a,
                                    const struct pd_j_val *b, bool *yes);
PD_CHECKED enum pd_rc pd_j_index(struct pd_j_run *r, struct pd_j_val *v, const struct pd_j_val *key,
                                 struct pd_j_val *out);
/* v[from:to:step]; what is absent is none */
PD_CHECKED enum pd_rc pd_j_slice(struct pd_j_run *r, const struct pd_j_val *v,
                                 const struct pd_j_val bounds[3], struct pd_j_val *out);

/* --- jinja_eval.c --- */
PD_CHECKED enum pd_rc pd_j_eval(struct pd_j_run *r, const struct pd_j_node *n,
                                struct pd_j_val *out);
/* v through the filter that node n is */
PD_CHECKED enum pd_rc pd_j_apply(struct pd_j_run *r, const struct pd_j_node *n, struct pd_j_val v,
                                 struct pd_j_val *out);
/* One level more; r->depth is the caller's to take back, also on failure. */
PD_CHECKED enum pd_rc pd_j_deeper(struct pd_j_run *r);
struct pd_j_val *pd_j_look_up(struct pd_j_run *r, struct pd_str name); /* NULL = none */
PD_CHECKED enum pd_rc pd_j_set_name(struct pd_j_run *r, struct pd_str name, struct pd_j_val v);
PD_CHECKED enum pd_rc pd_j_push_frame(struct pd_j_run *r, struct pd_j_frame *up);
/* The names that node n sets = v */
PD_CHECKED enum pd_rc pd_j_assign(struct pd_j_run *r, const struct pd_j_node *n,
                                  const struct pd_j_val *v);

/* --- jinja_run.c --- */
PD_CHECKED enum pd_rc pd_j_run_body(struct pd_j_run *r, const struct pd_j_body *b,
                                    struct pd_j_out *o);
PD_CHECKED enum pd_rc pd_j_call_macro(struct pd_j_run *r, const struct pd_j_macro *m,
                                      struct pd_j_args *args, struct pd_j_val *out);

/* --- jinja_filter.c, jinja_call.c, jinja_method.c --- */
PD_CHECKED enum pd_rc pd_j_filter(struct pd_j_run *r, struct pd_str name, struct pd_j_val v,
                                  struct pd_j_args *args, struct pd_j_val *out);
PD_CHECKED enum pd_rc pd_j_test(struct pd_j_run *r, struct pd_str name, const struct pd_j_val *v,
                                struct pd_j_args *args, bool *out);
PD_CHECKED enum pd_rc pd_j_function(struct pd_j_run *r, const char *name, struct pd_j_args *args,
                                    struct pd_j_val *out);
const char *pd_j_function_name(struct pd_str name); /* NULL = no global function */
PD_CHECKED enum pd_rc pd_j_method(struct pd_j_run *r, const char *name, struct pd_j_val *self,
                                  struct pd_j_args *args, struct pd_j_val *out);
/* v.name (dotted: a method comes before an item) or v[name] (after it): an attribute, an item, or
 * undefined. */
PD_CHECKED enum pd_rc pd_j_attr(struct pd_j_run *r, struct pd_j_val *v, struct pd_str name,
                                bool dotted, struct pd_j_val *out);
/* The argument at a place or by name; NULL = not given. */
struct pd_j_val *pd_j_arg(struct pd_j_args *args, size_t at, const char *name);
PD_CHECKED enum pd_rc pd_j_need_string(struct pd_j_run *r, const struct pd_j_val *v,
                                       const char *what);
PD_CHECKED enum pd_rc pd_j_as_text(struct pd_j_run *r, const struct pd_j_val *v,
                                   struct pd_j_val *out);

#endif
