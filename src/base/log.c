#include "base/log.h"
#include "base/str.h"
#include "base/time.h"

#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

static _Atomic int min_level = PD_LOG_INFO;

void pd_log_set_level(enum pd_log_level min)
{
    atomic_store(&min_level, (int)min);
}

void pd_log(enum pd_log_level level, const char *component, const char *fmt, ...)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    if ((int)level < atomic_load_explicit(&min_level, memory_order_relaxed))
        return;
    char ts[32], line[2048];
    pd_time_format(pd_time_us(), ts);
    int n = snprintf(line, sizeof line, "ts=%s level=%s comp=%s ", ts, names[level], component);
    va_list ap;
    va_start(ap, fmt);
    int m = vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
    va_end(ap);
    size_t len = (size_t)n + (m < 0 ? 0 : (size_t)m);
    if (len > sizeof line - 2)
        len = sizeof line - 2;
    for (size_t i = 0; i < len; i++) /* one event, one line */
        if (line[i] == '\n' || line[i] == '\r')
            line[i] = ' ';
    line[len++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, line, len); /* one write: lines of threads do not mix */
    (void)ignored;
}

void pd_log_bad_row(size_t *n_bad, const char *path, size_t line, const char *fmt, va_list ap)
{
    enum { MOST = 20 };
    char reason[400];
    (void)vsnprintf(reason, sizeof reason, fmt, ap);
    if (++*n_bad <= MOST)
        fprintf(stderr, "%s:%zu: %s\n", path, line, reason);
    else if (*n_bad == MOST + 1)
        fprintf(stderr, "%s: more bad rows follow\n", path);
}
