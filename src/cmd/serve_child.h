/* Processes that `podium serve` runs beside itself, from the same binary: the worker and the model.
 * Each dies with the server, and is started again when it ends, later each time it ends early.
 * Owner thread: the one that ticks. */
#ifndef PD_CMD_SERVE_CHILD_H
#define PD_CMD_SERVE_CHILD_H

#include <stdint.h>
#include <sys/types.h>

struct pd_child {
    const char *name;        /* in the log: "worker" */
    const char *const *argv; /* borrowed, NULL at its end; argv[0] is "podium" */
    int niceness;
    /* private, zero */
    pid_t pid;
    int early; /* times in a row that it ended within a minute */
    int64_t started_ns, restart_ns;
};

/* Starts it when it is time to; notices its end. Call often. */
void pd_child_tick(struct pd_child *c);
/* SIGTERM, and SIGKILL after 30 s. */
void pd_child_stop(struct pd_child *c);

#endif
