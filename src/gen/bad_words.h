/* Words that answers must not hold, as ids of one model: Hugging Face's bad_words_ids.
 *
 * Each text is forbidden as it is tokenized alone and as it is tokenized behind a space: with most
 * tokenizers a word in the middle of a sentence is another token than at its start. As in
 * transformers it is these sequences of tokens that are forbidden: other tokens that happen to
 * spell the same are not. */
#ifndef PD_GEN_BAD_WORDS_H
#define PD_GEN_BAD_WORDS_H

#include "lm/sampler.h"
#include "lm/tokenizer.h"

/* The texts of a command line: `@FILE` stands for the lines of a file. Owned. */
struct pd_words {
    char **v;
    size_t n, cap;
};
PD_CHECKED enum pd_rc pd_words_read(struct pd_words *w, const char *const *args, size_t n,
                                    struct pd_err *err);
void pd_words_release(struct pd_words *w);
uint64_t pd_words_hash(const struct pd_words *w);

struct pd_bad_words {
    struct pd_id_span *spans; /* their ids are owned */
    int n;
};
PD_CHECKED enum pd_rc pd_bad_words_make(struct pd_bad_words *b, const struct pd_tokenizer *tok,
                                        const struct pd_words *words, struct pd_err *err);
void pd_bad_words_release(struct pd_bad_words *b);

#endif
