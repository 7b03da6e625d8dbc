/* Which answers to a prompt say the same to a reader.
 *
 * Two texts do when they are equal but for case, spaces and punctuation of ASCII, or when nine in
 * ten of their distinct word triples are shared (both of at least ten words). A set of texts finds
 * that without comparing each with each: of two sets that share nine tenths of their union, the
 * tenths of both that come first in one order have a member in common (prefix filtering: Chaudhuri,
 * Ganti, Kaushik 2006), so only who shares one of those is looked at. Owner thread only. */
#ifndef PD_GEN_SAME_TEXT_H
#define PD_GEN_SAME_TEXT_H

#include "base/str.h"

struct pd_texts;
struct pd_texts *pd_texts_new(void);
void pd_texts_free(struct pd_texts *t); /* accepts NULL */
/* Adds a text, which is not kept. True when an earlier one of another group says the same. */
bool pd_texts_add(struct pd_texts *t, struct pd_str text, int64_t group);

#endif
