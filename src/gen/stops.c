#include "gen/stops.h"

#include <string.h>

void pd_stops_init(struct pd_stops *s, const char *const *texts, size_t n)
{
    *s = (struct pd_stops){.texts = texts, .n = n};
    for (size_t i = 0; i < n; i++)
        if (strlen(texts[i]) > s->longest)
            s->longest = strlen(texts[i]);
}

size_t pd_stops_find(const struct pd_stops *s, struct pd_str text)
{
    size_t first = text.len;
    for (size_t i = 0; i < s->n; i++) {
        const char *at =
            text.len ? memmem(text.ptr, text.len, s->texts[i], strlen(s->texts[i])) : NULL;
        if (at && (size_t)(at - text.ptr) < first)
            first = (size_t)(at - text.ptr);
    }
    return first;
}

/* Only as many last tokens are looked at as the longest stop text has bytes: one that ends in the
 * newest token cannot begin before them. */
bool pd_stops_seen(const struct pd_stops *s, const struct pd_tokenizer *tok, const int32_t *ids,
                   int64_t n)
{
    if (!s->n)
        return false;
    struct pd_buf tail;
    pd_buf_init(&tail, 0);
    int64_t from = n, want = (int64_t)s->longest;
    while (from > 0 && want > 0) {
        from--;
        if (from < n - 1 && !pd_tokenizer_is_special(tok, ids[from]))
            want -= (int64_t)pd_tokenizer_bytes(tok, ids[from]).len;
    }
    for (int64_t i = from; i < n; i++)
        if (!pd_tokenizer_is_special(tok, ids[i]))
            pd_buf_addstr(&tail, pd_tokenizer_bytes(tok, ids[i]));
    bool seen = pd_stops_find(s, pd_buf_str(&tail)) < tail.len;
    pd_buf_release(&tail);
    return seen;
}

size_t pd_stops_clear(const struct pd_stops *s, struct pd_str text)
{
    size_t end = pd_stops_find(s, text);
    size_t from = text.len > s->longest ? text.len - s->longest : 0;
    for (size_t at = from; at < end; at++)
        for (size_t i = 0; i < s->n; i++) {
            size_t left = text.len - at;
            if (left < strlen(s->texts[i]) && memcmp(text.ptr + at, s->texts[i], left) == 0)
                return at;
        }
    return end;
}
