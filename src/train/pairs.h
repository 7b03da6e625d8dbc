/* Preference pairs, read and tokenised once for all epochs.
 *
 *   {"prompt", "chosen", "rejected"}      strings put together before tokenising
 *   {"chosen", "rejected"}                whole transcripts, the prompt is implicit
 *   any of them a list of {"role", "content"}: through the chat template
 *   {"chosen_ids", "rejected_ids"}        taken as they are
 *   optional: margin, weight, strength, votes; unknown keys are passed over
 *
 * What is not trained on is counted, never silent: pairs over the length limit, and pairs whose
 * sides are the same tokens. Memory: one array of ids; rows point into it. */
#ifndef PD_TRAIN_PAIRS_H
#define PD_TRAIN_PAIRS_H

#include "train/text.h"

struct pd_pair {
    struct pd_row chosen, rejected;
    double margin;  /* 0 when the row has none */
    double weight;  /* 1 when the row has none */
    int strength;   /* -1 when the row has none */
    int32_t shared; /* tokens of the common prefix */
    size_t line;
};

struct pd_pairs {
    struct pd_pair *v;
    size_t n, cap;
    size_t n_rows;      /* rows read, good or bad */
    size_t n_bad;       /* skipped */
    size_t n_too_long;  /* dropped */
    size_t n_truncated; /* prompts cut from the left */
    size_t n_same;      /* dropped: identical sides */
    char sha256[65];    /* of the file's bytes */
};

enum pd_too_long { PD_TOO_LONG_DROP, PD_TOO_LONG_TRUNCATE_PROMPT };

struct pd_pairs_options {
    int64_t max_length; /* tokens of either side */
    enum pd_too_long too_long;
    bool skip_bad;
    int32_t pad; /* pd_pad_id */
};

/* m gives tokenizer and chat template. PD_INVALID when bad rows may not be skipped or nothing is
 * left. */
PD_CHECKED enum pd_rc pd_pairs_read(struct pd_pairs *p, const char *path, const struct pd_model *m,
                                    const struct pd_pairs_options *opt, struct pd_err *err);
/* The two sides of one row as ids, appended to c and r; nothing is cut or dropped. PD_INVALID says
 * what is wrong with the row. */
PD_CHECKED enum pd_rc pd_pair_encode(struct json_object *row, const struct pd_model *m,
                                     struct pd_ids *c, struct pd_ids *r, struct pd_err *err);
/* The text of {"prompt"?, "text"} or the ids of {"ids"}, appended to *out. */
PD_CHECKED enum pd_rc pd_text_row_encode(struct json_object *row, const struct pd_model *m,
                                         struct pd_ids *out, struct pd_err *err);
void pd_pairs_release(struct pd_pairs *p); /* fine on a zeroed one */
/* One line for people on stderr: "pairs.jsonl: 1,553 pairs; dropped 47 longer than ..." */
void pd_pairs_report(const struct pd_pairs *p, const char *path,
                     const struct pd_pairs_options *opt);

/* Rows that the pair takes in a packed stream: its tokens, the shared prefix once. */
int64_t pd_pair_cost(const struct pd_pair *p);

#endif
