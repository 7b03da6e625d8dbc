/* Interrupts as a flag: after pd_sig_install, SIGINT and SIGTERM set it and long loops stop at the
 * next safe point with their state saved; a second SIGINT ends the process at once. */
#ifndef PD_BASE_SIG_H
#define PD_BASE_SIG_H

#include <stdbool.h>

void pd_sig_install(void); /* also ignores SIGPIPE */
bool pd_sig_stop(void);    /* true once asked to stop */
void pd_sig_request_stop(void);

#endif
