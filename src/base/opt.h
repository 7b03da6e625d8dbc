/* Command-line options from a table. The table is the only place an option is described: parsing,
 * `--help`, completions and the man page are all read off it.
 *
 * Long options, `--name VALUE` or `--name=VALUE`; flags take no value and have `--no-name` when
 * PD_OPT_NEGATABLE; `-h -v -q` short. Everything else is positional. "--" ends options. An unknown
 * option names the closest known one. */
#ifndef PD_BASE_OPT_H
#define PD_BASE_OPT_H

#include "base/str.h"

enum pd_opt_type {
    PD_OPT_FLAG,   /* bool */
    PD_OPT_STR,    /* const char *, borrowed from argv */
    PD_OPT_I64,    /* int64_t, [min, max] when min < max */
    PD_OPT_F64,    /* double, [min, max] when min < max */
    PD_OPT_BYTES,  /* int64_t; suffixes K M G (1024) */
    PD_OPT_CHOICE, /* const char *, one of `choices` ("a|b|c") */
    PD_OPT_LIST,   /* struct pd_opt_list, repeatable, each a const char * */
};
enum {
    PD_OPT_NEGATABLE = 1,
    PD_OPT_REQUIRED = 2,
    PD_OPT_HIDDEN = 4,
    PD_OPT_ALONE = 8, /* PD_OPT_I64: may stand without its number, which then is `min`; a preset
                         below min means that it was not given */
};

struct pd_opt_list {
    const char **items; /* grown with pd_xrealloc; free with pd_opt_list_release */
    size_t n;
};

struct pd_opt {
    const char *name; /* without dashes; NULL name + help = a section heading; all NULL ends */
    enum pd_opt_type type;
    void *value;         /* where the parsed value goes; preset by the caller = the default */
    const char *metavar; /* "N", "FILE", ... */
    const char *help;    /* one sentence; the default is appended by the printer */
    const char *choices; /* PD_OPT_CHOICE */
    double min, max;
    unsigned flags;
    bool was_set; /* written by the parser */
};

/* A row of the table; fields after the help sentence are named:
 *     PD_OPT_ROW("top-k", PD_OPT_I64, &k, "N", "draw from the N likeliest; 0 = off", .min = 0, .max
 * = 1e6), PD_OPT_HEAD("Sampling"), ... PD_OPT_END */
#define PD_OPT_ROW(name_, type_, value_, metavar_, ...)                                            \
    {                                                                                              \
        .name = (name_), .type = (type_), .value = (value_), .metavar = (metavar_),                \
        .help = __VA_ARGS__                                                                        \
    }
#define PD_OPT_HEAD(text)                                                                          \
    {                                                                                              \
        .help = (text)                                                                             \
    }
#define PD_OPT_END                                                                                 \
    {                                                                                              \
        .name = NULL                                                                               \
    }

/* Parses argv[0..argc) (verb already cut off). Positionals are collected into *args (borrowed),
 * whose number must lie in [min_args, max_args]. `--help` sets *help and returns PD_OK at once.
 * PD_USAGE on anything wrong. */
PD_CHECKED enum pd_rc pd_opt_parse(struct pd_opt *table, int argc, char **argv, size_t min_args,
                                   size_t max_args, struct pd_opt_list *args, bool *help,
                                   struct pd_err *err);
void pd_opt_list_release(struct pd_opt_list *l);
/* The options part of a help page, 80 columns, defaults shown. */
void pd_opt_print(struct pd_buf *out, const struct pd_opt *table);

#endif
