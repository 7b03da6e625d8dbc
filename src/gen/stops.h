/* Texts that end an answer: where one stands, whether the newest token completes one, and how much
 * of a growing text may be shown because none can begin in it any more.
 * Threads: read-only after init. */
#ifndef PD_GEN_STOPS_H
#define PD_GEN_STOPS_H

#include "lm/tokenizer.h"

struct pd_stops {
    const char *const *texts; /* borrowed, none empty */
    size_t n;
    size_t longest; /* bytes */
};

void pd_stops_init(struct pd_stops *s, const char *const *texts, size_t n);
/* Where the first of them begins in text, or its length. */
size_t pd_stops_find(const struct pd_stops *s, struct pd_str text);
/* Whether the text of ids (special tokens left out) holds one that the last token completes. */
bool pd_stops_seen(const struct pd_stops *s, const struct pd_tokenizer *tok, const int32_t *ids,
                   int64_t n);
/* Bytes of text before the first place where one stands or may be beginning. */
size_t pd_stops_clear(const struct pd_stops *s, struct pd_str text);

#endif
