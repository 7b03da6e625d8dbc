/* Whether two answers say the same to a reader. Pure; allocates in passing. */
#ifndef PD_GEN_SAME_TEXT_H
#define PD_GEN_SAME_TEXT_H

#include "base/str.h"

/* True when the texts are equal but for case, spaces and punctuation of ASCII, or when nine in ten
 * of their distinct word triples are shared (both of at least ten words). */
bool pd_same_text(struct pd_str a, struct pd_str b);

#endif
