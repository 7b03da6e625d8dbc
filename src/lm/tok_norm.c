/* The steps of a normalizer. */
#include "lm/tok_int.h"

#include <stdlib.h>
#include <utf8proc.h>

void pd_replace(struct pd_buf *out, struct pd_str text, struct pd_str from, struct pd_str to)
{
    const char *at = text.ptr, *end = text.ptr + text.len, *hit;
    while (at < end && from.len > 0 && (hit = memmem(at, (size_t)(end - at), from.ptr, from.len))) {
        pd_buf_add(out, at, (size_t)(hit - at));
        pd_buf_addstr(out, to);
        at = hit + from.len;
    }
    if (at < end)
        pd_buf_add(out, at, (size_t)(end - at));
}

/* Below U+0300 every character is its own composition, and none joins the one before. */
static bool is_nfc_already(struct pd_str s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.ptr[i] >= 0xcc)
            return false;
    return true;
}

static enum pd_rc add_nfc(struct pd_buf *out, struct pd_str text, struct pd_err *err)
{
    if (is_nfc_already(text)) {
        pd_buf_addstr(out, text);
        return PD_OK;
    }
    utf8proc_uint8_t *nfc = NULL;
    utf8proc_ssize_t n =
        utf8proc_map((const utf8proc_uint8_t *)text.ptr, (utf8proc_ssize_t)text.len, &nfc,
                     UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (n < 0)
        return PD_FAIL(err, PD_NOMEM, "cannot normalise text: %s", utf8proc_errmsg(n));
    pd_buf_add(out, nfc, (size_t)n);
    free(nfc);
    return PD_OK;
}

static enum pd_rc apply(const struct pd_norm_step *norm, struct pd_str text, struct pd_buf *out,
                        struct pd_err *err)
{
    switch (norm->kind) {
    case PD_NORM_NFC:
        return add_nfc(out, text, err);
    case PD_NORM_PREPEND:
        if (text.len > 0)
            pd_buf_addstr(out, norm->to);
        pd_buf_addstr(out, text);
        break;
    case PD_NORM_REPLACE:
        pd_replace(out, text, norm->from, norm->to);
        break;
    }
    return PD_OK;
}

enum pd_rc pd_norm_apply(const struct pd_norm_step *v, size_t n, struct pd_str text,
                         struct pd_buf *out, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_buf from, to;
    pd_buf_init(&from, 0);
    pd_buf_init(&to, 0);
    for (size_t i = 0; i < n; i++) {
        pd_buf_clear(&to);
        PD_TRY(apply(&v[i], i ? pd_buf_str(&from) : text, i + 1 < n ? &to : out, err));
        struct pd_buf swap = from;
        from = to;
        to = swap;
    }
    if (n == 0)
        pd_buf_addstr(out, text);
    if (out->failed || from.failed || to.failed)
        rc = PD_FAIL(err, PD_NOMEM, "no memory to normalise %zu bytes", text.len);
out:
    pd_buf_release(&from);
    pd_buf_release(&to);
    return rc;
}
