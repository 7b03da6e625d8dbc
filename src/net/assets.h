/* Files built into the binary: the front end, gzip'd at build time. Names that carry a content hash
 * are immutable for browsers; the rest is revalidated by ETag. Threads: pure. */
#ifndef PD_NET_ASSETS_H
#define PD_NET_ASSETS_H

#include "net/http.h"

struct pd_asset {
    const char *name;        /* "index.html", "assets/app.3f9a1c.js" */
    const char *type;        /* "text/html; charset=utf-8" */
    const char *etag;        /* with its quotes */
    const unsigned char *gz; /* gzip bytes */
    size_t gz_len, raw_len;
    bool immutable;
};

/* Sorted by name. */
struct pd_assets {
    const struct pd_asset *items;
    size_t n;
};

const struct pd_asset *pd_assets_find(const struct pd_assets *t, struct pd_str name);
/* Answers with the asset: 304 on a matching If-None-Match, gzip where the client takes it. */
void pd_assets_serve(struct pd_req *req, const struct pd_asset *a);

#endif
