#include "net/assets.h"

#include "base/mem.h"

#include <zlib.h>

const struct pd_asset *pd_assets_find(const struct pd_assets *t, struct pd_str name)
{
    size_t lo = 0, hi = t ? t->n : 0;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = pd_str_cmp(pd_str_from(t->items[mid].name), name);
        if (c == 0)
            return &t->items[mid];
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

static bool inflate_into(struct pd_buf *out, const struct pd_asset *a)
{
    z_stream z = {0};
    if (inflateInit2(&z, 15 + 16) != Z_OK)
        return false;
    bool ok = pd_buf_reserve(out, a->raw_len);
    if (ok) {
        z.next_in = (Bytef *)(uintptr_t)a->gz;
        z.avail_in = (uInt)a->gz_len;
        z.next_out = (Bytef *)out->ptr + out->len;
        z.avail_out = (uInt)a->raw_len;
        int end = inflate(&z, Z_FINISH);
        ok = end == Z_STREAM_END && z.avail_out == 0;
        if (ok) {
            out->len += a->raw_len;
            out->ptr[out->len] = '\0';
        }
    }
    inflateEnd(&z);
    return ok;
}

void pd_assets_serve(struct pd_req *req, const struct pd_asset *a)
{
    const char *match = pd_req_header(req, "If-None-Match");
    const char *accept = pd_req_header(req, "Accept-Encoding");
    bool fresh = match && strstr(match, a->etag);
    if (fresh) {
        pd_resp_empty(req, 304);
    } else if (accept && strstr(accept, "gzip")) {
        pd_resp_static(req, 200, a->type, a->gz, a->gz_len);
        pd_resp_header(req, "Content-Encoding", "gzip");
    } else if (!inflate_into(pd_resp_body(req, 200, a->type), a)) {
        pd_bug("embedded file %s is damaged", a->name);
    }
    pd_resp_header(req, "Vary", "Accept-Encoding");
    pd_resp_header(req, "ETag", a->etag);
    pd_resp_header(req, "Cache-Control",
                   a->immutable ? "public, max-age=31536000, immutable" : "no-cache");
}
