/* Interrupts as a flag: after pd_sig_install, SIGINT and SIGTERM set it and long loops stop at the
 * next safe point with their state saved; a second SIGINT ends the process at once.
 *
 * Memory that is a file (mmap): where somebody cuts the file short, reading its end is a SIGBUS. Of
 * a map that is watched, the process ends with a line that names the file, and exit code 1. */
#ifndef PD_BASE_SIG_H
#define PD_BASE_SIG_H

#include <stdbool.h>
#include <stddef.h>

void pd_sig_install(void); /* also ignores SIGPIPE */
bool pd_sig_stop(void);    /* true once asked to stop */
void pd_sig_request_stop(void);

/* Any thread. Of more maps than there is room for, the last ones are not watched. */
void pd_sig_watch_map(const void *at, size_t len, const char *path); /* path is copied */
void pd_sig_unwatch_map(const void *at);

#endif
