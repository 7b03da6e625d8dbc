/* One progress line: done / total, rate, ETA. On a terminal it rewrites itself at most 10 times a
 * second; elsewhere it prints a plain line every 10 s. Goes to stderr; silent with quiet. */
#ifndef PD_BASE_PROGRESS_H
#define PD_BASE_PROGRESS_H

#include "base/err.h"
#include <stdint.h>

struct pd_progress {
    const char *label, *unit; /* "generating", "answers" */
    int64_t total, done;      /* total 0 = unknown */
    int64_t before;           /* of done: what an earlier run did, no part of the rate */
    int64_t start_ns, last_ns;
    bool tty, quiet, shown;
};
void pd_progress_init(struct pd_progress *p, const char *label, const char *unit, int64_t total,
                      bool quiet);
/* An earlier run did the first n. */
void pd_progress_go_on(struct pd_progress *p, int64_t n);
/* `extra` (may be NULL) is appended, e.g. "loss 0.61". */
void pd_progress_update(struct pd_progress *p, int64_t done, const char *extra);
/* The last line; none where an earlier run had done all. */
void pd_progress_finish(struct pd_progress *p, const char *extra);

#endif
