/* Errors: one list of codes, one struct carried up by pointer, one way out of a function.
 *
 * A function that can fail returns `enum pd_rc` and takes `struct pd_err *err` last (NULL is
 * allowed). On failure its outputs are untouched, it leaks nothing, and *err says what, which and
 * what to do. Callers may prefix the message (pd_err_prefix) but never replace it. The code alone
 * decides the HTTP status and the exit code, so both come from the table below.
 *
 * Three classes of trouble: the caller's mistake or the environment -> a code; a broken invariant
 * -> pd_bug(), which prints and aborts in every build; numeric kernels -> void, with asserted
 * shapes, and finiteness checked once per step. */
#ifndef PD_BASE_ERR_H
#define PD_BASE_ERR_H

#include <stdbool.h>
#include <stddef.h>

/* name, HTTP status, default text */
#define PD_RC_LIST(X)                                                                              \
    X(OK, 200, "ok")                                                                               \
    X(INVALID, 422, "invalid value")                                                               \
    X(PARSE, 400, "cannot be parsed")                                                              \
    X(UNAUTH, 401, "not signed in")                                                                \
    X(FORBIDDEN, 403, "not allowed")                                                               \
    X(NOTFOUND, 404, "not found")                                                                  \
    X(CONFLICT, 409, "already exists")                                                             \
    X(TOOBIG, 413, "too large")                                                                    \
    X(TOOMANY, 429, "too many requests")                                                           \
    X(BUSY, 503, "busy")                                                                           \
    X(TIMEOUT, 504, "timed out")                                                                   \
    X(USAGE, 400, "wrong usage")                                                                   \
    X(INTERRUPTED, 503, "interrupted")                                                             \
    X(NOMEM, 500, "out of memory")                                                                 \
    X(IO, 500, "input/output error")                                                               \
    X(DB, 500, "database error")                                                                   \
    X(NONFINITE, 500, "not a finite number")                                                       \
    X(UNSUPPORTED, 501, "not supported")                                                           \
    X(BUG, 500, "internal error")

enum pd_rc {
#define X(name, status, text) PD_##name,
    PD_RC_LIST(X)
#undef X
};

struct pd_err {
    enum pd_rc rc;
    int sys;           /* errno at the point of failure, or 0 */
    const char *where; /* "file.c:123", static */
    char msg[480];
};

#define PD_CHECKED       __attribute__((warn_unused_result))
#define PD_PRINTF(f, a)  __attribute__((format(printf, f, a)))
#define PD_STRINGIFY_(x) #x
#define PD_STRINGIFY(x)  PD_STRINGIFY_(x)
#define PD_WHERE         __FILE__ ":" PD_STRINGIFY(__LINE__)

/* Fill *err (if not NULL) and evaluate to the code: `return PD_FAIL(err, PD_PARSE, "...", ...)`.
 * The analyzer, which sees one file at a time, is told that it is the code. */
#ifdef __clang_analyzer__
#define PD_FAIL(err, code, ...) (pd_err_set((err), (code), 0, PD_WHERE, __VA_ARGS__), (code))
#else
#define PD_FAIL(err, code, ...) pd_err_set((err), (code), 0, PD_WHERE, __VA_ARGS__)
#endif
/* The same, and ": strerror(errno)" is appended. Evaluate right after the failing call. */
#define PD_FAIL_SYS(err, code, ...) pd_err_set_sys((err), (code), PD_WHERE, __VA_ARGS__)

/* In a function with a local `enum pd_rc rc = PD_OK` and one label `out:`. */
#define PD_TRY(expr)                                                                               \
    do {                                                                                           \
        rc = (expr);                                                                               \
        if (rc != PD_OK)                                                                           \
            goto out;                                                                              \
    } while (0)

enum pd_rc pd_err_set(struct pd_err *err, enum pd_rc rc, int sys, const char *where,
                      const char *fmt, ...) PD_PRINTF(5, 6);
enum pd_rc pd_err_set_sys(struct pd_err *err, enum pd_rc rc, const char *where, const char *fmt,
                          ...) PD_PRINTF(4, 5);
/* Put "prefix: " before the message that is there. Returns err->rc. */
enum pd_rc pd_err_prefix(struct pd_err *err, const char *fmt, ...) PD_PRINTF(2, 3);

const char *pd_rc_name(enum pd_rc rc); /* "PARSE" */
const char *pd_rc_text(enum pd_rc rc); /* "cannot be parsed" */
int pd_rc_http(enum pd_rc rc);         /* 400 */
int pd_rc_exit(enum pd_rc rc); /* 0 done, 1 failed, 2 usage, 3 interrupted with state saved */

/* A broken invariant: print where and what, then abort. Stays in release builds. */
_Noreturn void pd_bug_at(const char *where, const char *fmt, ...) PD_PRINTF(2, 3);
#define pd_bug(...) pd_bug_at(PD_WHERE, __VA_ARGS__)
#define PD_ASSERT(cond)                                                                            \
    do {                                                                                           \
        if (!(cond))                                                                               \
            pd_bug("assertion failed: %s", #cond);                                                 \
    } while (0)

#endif
