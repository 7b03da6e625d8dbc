/* The steps of a normalizer. */
#include "lm/tok_int.h"

#include <stdlib.h>
#include <utf8proc.h>

/* Of one character by a few bytes, as spaces are marked: room once, then byte by byte. */
static void replace_byte(struct pd_buf *out, struct pd_str text, char from, struct pd_str to)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++)
        n += text.ptr[i] == from;
    if (n > SIZE_MAX / (to.len + 1) || !pd_buf_reserve(out, text.len + n * to.len))
        return;
    char *d = out->ptr + out->len;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] != from) {
            *d++ = text.ptr[i];
            continue;
        }
        for (size_t k = 0; k < to.len; k++)
            *d++ = to.ptr[k];
    }
    out->len = (size_t)(d - out->ptr);
    out->ptr[out->len] = '\0';
}

void pd_replace(struct pd_buf *out, struct pd_str text, struct pd_str from, struct pd_str to)
{
    const char *at = text.ptr, *end = text.ptr + text.len, *hit;
    if (from.len == 1) {
        replace_byte(out, text, from.ptr[0], to);
        return;
    }
    while (at < end && from.len > 0 && (hit = memmem(at, (size_t)(end - at), from.ptr, from.len))) {
        pd_buf_add(out, at, (size_t)(hit - at));
        pd_buf_addstr(out, to);
        at = hit + from.len;
    }
    if (at < end)
        pd_buf_add(out, at, (size_t)(end - at));
}

static enum pd_rc add_nfc(struct pd_buf *out, struct pd_str text, struct pd_err *err)
{
    for (size_t at = 0; at < text.len;) {
        size_t begin, end;
        pd_nfc_unsure(text, at, &begin, &end);
        pd_buf_add(out, text.ptr + at, begin - at);
        at = end;
        if (begin == end)
            continue;
        utf8proc_uint8_t *nfc = NULL;
        utf8proc_ssize_t n =
            utf8proc_map((const utf8proc_uint8_t *)text.ptr + begin,
                         (utf8proc_ssize_t)(end - begin), &nfc, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        if (n < 0)
            return PD_FAIL(err, PD_NOMEM, "cannot normalise text: %s", utf8proc_errmsg(n));
        pd_buf_add(out, nfc, (size_t)n);
        free(nfc);
    }
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
