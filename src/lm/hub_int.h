/* Private to the sources of the hub's client.
 *
 *   hub.c        what a URL names, and where models lie on this machine
 *   hub_list.c   the listing: which files there are, and which of them are needed
 *   hub_place.c  the folder that they come to, whole or not at all
 *   hub_fetch.c  requests, and one file, checked by its sum
 *
 * struct pd_hub is one pull: what its URL said, then what the listing added, then how far it is. */
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

/* Sets owner, name, revision and only. */
PD_CHECKED enum pd_rc pd_hub_parse_url(struct pd_hub *h, const char *url, struct pd_err *err);
bool pd_hub_is_name(const char *s); /* of letters, digits, ".", "_" and "-", and no hidden file */
void pd_hub_release(struct pd_hub *h);

/* Asks for the listing and sets commit, files (what is needed of it) and total. */
PD_CHECKED enum pd_rc pd_hub_list(struct pd_hub *h, struct pd_err *err);
/* The same from the listing's text. h is to be released whatever comes of it. */
PD_CHECKED enum pd_rc pd_hub_read_listing(struct pd_hub *h, struct pd_str text, struct pd_err *err);

/* PD_CONFLICT when something stands there that no pull made. */
PD_CHECKED enum pd_rc pd_hub_check_target(const char *target, struct pd_err *err);
/* All files of h, as the folder target; nothing when they are there. PD_BUSY while another process
 * does the same. */
PD_CHECKED enum pd_rc pd_hub_fetch_folder(struct pd_hub *h, const char *target, struct pd_err *err);

/* A GET that follows redirects, the token going to our hub only, and never from https to http.
 * Other answers than 200 and 206 are errors. c: out, on_head, on_data, ctx are the caller's. */
PD_CHECKED enum pd_rc pd_hub_get(struct pd_hub *h, const char *url, const char *range,
                                 struct pd_http_call *c, struct pd_err *err);
/* One file of h into dir, checked; goes on with what is there as NAME.part. */
PD_CHECKED enum pd_rc pd_hub_fetch(struct pd_hub *h, const struct pd_hub_file *f, const char *dir,
                                   struct pd_err *err);

#endif
