/* Log lines on stderr: one event a line, logfmt. Never secrets, never prompt text. Any thread. */
#ifndef PD_BASE_LOG_H
#define PD_BASE_LOG_H

#include "base/err.h"
#include <stdarg.h>

enum pd_log_level { PD_LOG_DEBUG, PD_LOG_INFO, PD_LOG_WARN, PD_LOG_ERROR };
void pd_log_set_level(enum pd_log_level min);
/* pd_log(PD_LOG_INFO, "serve", "listening addr=%s", a) -> `ts=... level=info comp=serve listening
 * addr=...` */
void pd_log(enum pd_log_level level, const char *component, const char *fmt, ...) PD_PRINTF(3, 4);

/* "PATH:LINE: what is wrong", for the first 20 bad rows of a file; *n_bad counts all of them. */
void pd_log_bad_row(size_t *n_bad, const char *path, size_t line, const char *fmt, va_list ap)
    PD_PRINTF(4, 0);

#endif
