/* What `serve` and `worker` share. */
#ifndef PD_CMD_SERVE_H
#define PD_CMD_SERVE_H

#include "net/assets.h"

/* The front end built into this binary; n == 0 without one. */
extern const struct pd_assets pd_assets_table;

#endif
