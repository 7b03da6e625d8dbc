/* Where text may need normalising to NFC. Most characters stand for themselves and join nothing
 * before them: text may be cut before each of those, and what lies between two of them is NFC
 * already. The others, and the one before them, are for utf8proc to compose. */
#include "lm/tok_int.h"

#include <pthread.h>
#include <utf8proc.h>

/* From TOP on no character has a canonical decomposition, is part of one or is a mark; below U+0300
 * none changes by itself or joins the one before it. */
enum { TOP = 0x30000 };
static uint8_t unsure[TOP / 8];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void mark(utf8proc_int32_t cp)
{
    if (cp >= 0 && cp < TOP)
        unsure[cp / 8] |= (uint8_t)(1u << cp % 8);
}

/* A character with a canonical decomposition: unsure itself when composing does not give it back;
 * all but the first of its parts may join what stands before them. */
static void read_parts(utf8proc_int32_t cp, utf8proc_int32_t *parts, utf8proc_ssize_t n)
{
    for (utf8proc_ssize_t i = 1; i < n; i++)
        mark(parts[i]);
    n = utf8proc_normalize_utf32(parts, n, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (n != 1 || parts[0] != cp)
        mark(cp);
}

static void read_all(void)
{
    for (utf8proc_int32_t cp = 0xc0; cp < TOP; cp++) {
        const utf8proc_property_t *of = utf8proc_get_property(cp);
        utf8proc_int32_t parts[16];
        bool hangul = cp >= 0xac00 && cp < 0xd7a4;
        if (of->combining_class != 0)
            mark(cp);
        if (hangul || of->decomp_type != 0 || of->decomp_seqindex == UINT16_MAX)
            continue;
        utf8proc_ssize_t n = utf8proc_decompose_char(cp, parts, 16, UTF8PROC_DECOMPOSE, NULL);
        if (n > 0 && n <= 16)
            read_parts(cp, parts, n);
    }
    for (utf8proc_int32_t cp = 0x1100; cp < 0x1200; cp++) /* Hangul is composed by rule */
        mark(cp);
}

static bool is_unsure(uint32_t cp)
{
    return cp < TOP && unsure[cp / 8] >> cp % 8 & 1;
}

void pd_nfc_unsure(struct pd_str text, size_t at, size_t *begin, size_t *end)
{
    size_t len, before = at;
    (void)pthread_once(&once, read_all);
    *begin = *end = text.len;
    for (; at < text.len; at += len) {
        len = 1;
        if ((unsigned char)text.ptr[at] < 0xcc) { /* below U+0300 */
            len = (unsigned char)text.ptr[at] < 0x80 ? 1 : 2;
            before = at;
            continue;
        }
        if (is_unsure(pd_char_at(text, at, &len)))
            break;
        before = at;
    }
    if (at >= text.len)
        return;
    *begin = before;
    for (at += len; at < text.len; at += len)
        if (!is_unsure(pd_char_at(text, at, &len)))
            break;
    *end = at;
}
