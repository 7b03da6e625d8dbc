/* OUT.partial: what an interrupted job leaves, and who is at work on it.
 *
 * Its first line is an object that says of which job it is; what follows is the owner's. An
 * advisory lock is held from open to close, so that the same command twice does not ask for the
 * same answers twice; it goes with the process, however that ends. */
#ifndef PD_GEN_PARTIAL_H
#define PD_GEN_PARTIAL_H

#include "base/json.h"

#include <stdio.h>

struct pd_partial {
    FILE *f; /* locked */
    char *path;
    FILE *next; /* what takes its place: pd_partial_begin to pd_partial_end */
    bool fresh; /* nothing was there to go on with */
};

/* OUT.partial for OUT, made if it is not there. PD_BUSY when another process holds it; PD_CONFLICT
 * when an interrupted run left it and this one is not to go on with it. */
PD_CHECKED enum pd_rc pd_partial_open(struct pd_partial **out, const char *path, bool resume,
                                      struct pd_err *err);
/* PD_CONFLICT, saying what differs, unless the first line that was found there is the one of this
 * job: both are JSON objects. */
PD_CHECKED enum pd_rc pd_partial_check(const struct pd_partial *p, struct pd_str was,
                                       const char *head, struct pd_err *err);
/* For that line: a hash over rows, one after the other, from 0. */
uint64_t pd_partial_hash(uint64_t h, struct json_object *row);
/* Written afresh beside the old one, which it replaces at the end: a crash meanwhile loses nothing.
 * `ok`: whether all could be written to p->next; from then on p->f is open for more. */
PD_CHECKED enum pd_rc pd_partial_begin(struct pd_partial *p, struct pd_err *err);
PD_CHECKED enum pd_rc pd_partial_end(struct pd_partial *p, bool ok, struct pd_err *err);
/* Lets go of it, and leaves no file unless `keep`. Accepts NULL. */
void pd_partial_close(struct pd_partial *p, bool keep);

#endif
