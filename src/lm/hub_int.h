/* Shared by hub.c (what there is and where it goes) and hub_fetch.c (requests, one file). */
#ifndef PD_LM_HUB_INT_H
#define PD_LM_HUB_INT_H

#include "base/progress.h"
#include "lm/hub.h"
#include "net/client.h"

/* One file that the hub lists. */
struct pd_hub_file {
    char *name;
    int64_t bytes;
    char sum[65]; /* SHA-256, or git's id of the blob when `git`; "" = the hub gives none */
    bool git;
};

struct pd_hub {
    char *endpoint, *owner, *name, *revision, *only; /* only: one file, or NULL */
    char *commit;
    char *token; /* header, or NULL */
    struct pd_hub_file *files;
    size_t n_files;
    int64_t total;
    struct pd_http_conn conn;
    struct pd_progress progress;
    int64_t done; /* bytes of files that are whole */
};

/* A GET that follows redirects, the token going to our hub only, and never from https to http.
 * Other answers than 200 and 206 are errors. c: out, on_head, on_data, ctx are the caller's. */
PD_CHECKED enum pd_rc pd_hub_get(struct pd_hub *h, const char *url, const char *range,
                                 struct pd_http_call *c, struct pd_err *err);
/* One file of h into dir, checked; goes on with what is there as NAME.part. */
PD_CHECKED enum pd_rc pd_hub_fetch(struct pd_hub *h, const struct pd_hub_file *f, const char *dir,
                                   struct pd_err *err);

#endif
