/* One way into a data folder for every verb: run the operation here when DIR/lock is free, and send
 * it to the server over DIR/podium.sock when a server holds it. Same function either way, so a verb
 * never knows which happened. */
#ifndef PD_CMD_DOOR_H
#define PD_CMD_DOOR_H

#include "base/json.h"
#include <stdio.h>

struct pd_door_call {
    const char *data_dir;     /* NULL: ${PODIUM_DIR:-podium-data} */
    const char *op;           /* a name of api/ops.h */
    struct json_object *args; /* borrowed; NULL = {} */
    const char *in_path;      /* a file to read, "-" = stdin, NULL = none */
    const char *in_name;      /* for messages; NULL = in_path */
    FILE *out, *notes;        /* results; notes for people */
};
/* A folder that is not there is made only by operations that put something into it; PD_NOTFOUND
 * otherwise. PD_IO when the holder of the lock does not answer. */
PD_CHECKED enum pd_rc pd_door_op(const struct pd_door_call *c, struct pd_err *err);
/* The folder a verb means when --data was not given; never NULL. */
const char *pd_door_data_dir(const char *given);

#endif
