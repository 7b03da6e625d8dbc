#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *text;
    int http;
} rcs[] = {
#define X(name, status, text) {#name, text, status},
    PD_RC_LIST(X)
#undef X
};

/* Names and values from files may hold anything; a message is one line, and no terminal obeys it.
 */
static void one_line(char *msg)
{
    size_t n = 0;
    for (unsigned char *p = (unsigned char *)msg; *p; p++, n++)
        if (*p < 0x20 || *p == 0x7f)
            *p = *p == '\n' || *p == '\t' || *p == '\r' ? ' ' : '?';
    while (n > 0 && msg[n - 1] == ' ')
        msg[--n] = 0;
}

static void set(struct pd_err *err, enum pd_rc rc, int sys, const char *where, const char *fmt,
                va_list ap)
{
    err->rc = rc;
    err->sys = sys;
    err->where = where;
    int n = vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    size_t used = n < 0 ? 0 : (size_t)n;
    if (sys && used < sizeof err->msg)
        snprintf(err->msg + used, sizeof err->msg - used, ": %s", strerror(sys));
    one_line(err->msg);
}

enum pd_rc pd_err_set(struct pd_err *err, enum pd_rc rc, int sys, const char *where,
                      const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        set(err, rc, sys, where, fmt, ap);
        va_end(ap);
    }
    return rc;
}

enum pd_rc pd_err_set_sys(struct pd_err *err, enum pd_rc rc, const char *where, const char *fmt,
                          ...)
{
    int sys = errno;
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        set(err, rc, sys, where, fmt, ap);
        va_end(ap);
    }
    return rc;
}

enum pd_rc pd_err_prefix(struct pd_err *err, const char *fmt, ...)
{
    if (!err)
        return PD_BUG;
    char old[sizeof err->msg];
    memcpy(old, err->msg, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    size_t used = n < 0 ? 0 : (size_t)n;
    if (used < sizeof err->msg)
        snprintf(err->msg + used, sizeof err->msg - used, ": %s", old);
    one_line(err->msg);
    return err->rc;
}

const char *pd_rc_name(enum pd_rc rc)
{
    return rcs[rc].name;
}

const char *pd_rc_text(enum pd_rc rc)
{
    return rcs[rc].text;
}

int pd_rc_http(enum pd_rc rc)
{
    return rcs[rc].http;
}

int pd_rc_exit(enum pd_rc rc)
{
    switch (rc) {
    case PD_OK:
        return 0;
    case PD_USAGE:
        return 2;
    case PD_INTERRUPTED:
        return 3;
    default:
        return 1;
    }
}

void pd_bug_at(const char *where, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "podium: bug at %s: ", where);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    abort();
}
