/* Listening sockets. */
#ifndef PD_NET_LISTEN_H
#define PD_NET_LISTEN_H

#include "base/err.h"
#include "base/str.h"

/* "HOST:PORT", "[IPv6]:PORT", ":PORT" (all addresses) or "PORT" (127.0.0.1). `url` gets
 * "http://HOST:PORT" with the real port. */
PD_CHECKED enum pd_rc pd_listen_tcp(const char *address, int *fd, char url[128],
                                    struct pd_err *err);
/* Socket file of mode 0600; a file left by a dead server is replaced. */
PD_CHECKED enum pd_rc pd_listen_unix(const char *path, int *fd, struct pd_err *err);

#endif
