/* The one stream all exports, agreement and snapshots read: a record with everything people said
 * about it.
 *
 * A bundle is one line of a snapshot file:
 *   {"record","external_id"?,"split"?,"fields":{..},"metadata":{..},"models":{..}?,
 *    "judgments":[{"labeler","status","values":{..},"shown"?,"seconds","guideline","at","surplus"?}]}
 * The latest answer of each labeler; earlier ones stay in the store (raw --history). The head line
 * names format, dataset, questions and splits. A dataset is streamed through the same form. */
#ifndef PD_PREF_BUNDLE_H
#define PD_PREF_BUNDLE_H

#include "pref/judge.h"
#include "store/snapshot.h"

struct pd_bundle_head {
    const char *dataset; /* NULL from a snapshot file */
    const char *guidelines;
    struct pd_question *questions;
    size_t n_questions;
    struct pd_part *fields; /* name, title, settings */
    size_t n_fields;
};
struct pd_said {
    const char *labeler;
    enum pd_answer_status status;
    struct json_object *values;        /* borrowed from the bundle's tree */
    struct json_object *shown, *notes; /* or NULL */
    double seconds;
    int64_t guideline;
    const char *at;
    bool surplus;
};
struct pd_bundle {
    const char *record, *external_id, *split;       /* external_id, split may be NULL */
    struct json_object *fields, *metadata, *models; /* models may be NULL */
    struct pd_said *said;
    size_t n_said;
};

struct pd_bundles; /* a source: dataset or snapshot file */
/* Streams from a reader connection, held until close. */
PD_CHECKED enum pd_rc pd_bundles_open_dataset(struct pd_bundles **out, struct pd_store *s,
                                              int64_t dataset_id, struct pd_err *err);
/* split NULL = all. */
PD_CHECKED enum pd_rc pd_bundles_open_file(struct pd_bundles **out, const char *path,
                                           const char *split, struct pd_err *err);
/* "DATASET" or "SNAPSHOT" by name. */
PD_CHECKED enum pd_rc pd_bundles_open(struct pd_bundles **out, struct pd_store *s, const char *name,
                                      const char *split, struct pd_err *err);
const struct pd_bundle_head *pd_bundles_head(const struct pd_bundles *b);
/* The next line as it stands in a snapshot file, without a split; *more=false at the end. */
PD_CHECKED enum pd_rc pd_bundles_next_line(struct pd_bundles *b, struct pd_str *line, bool *more,
                                           struct pd_err *err);
/* A dataset's stream from its beginning again, in the same consistent view. */
void pd_bundles_rewind(struct pd_bundles *b);
/* The head line of a snapshot file: {"podium":"snapshot","version":1,...,"splits":{..}}. */
void pd_bundles_write_head(const struct pd_bundles *b, struct pd_str splits, struct pd_buf *out);
/* *more=false at the end. The bundle lives until the next call. */
PD_CHECKED enum pd_rc pd_bundles_next(struct pd_bundles *b, struct pd_bundle *out, bool *more,
                                      struct pd_err *err);
void pd_bundles_close(struct pd_bundles *b); /* accepts NULL */

/* From a tree of such a line, which the bundle borrows; lists in the arena. */
PD_CHECKED enum pd_rc pd_bundle_read(struct json_object *line, struct pd_arena *a,
                                     struct pd_bundle *out, struct pd_err *err);

/* What is compared: the question (by name, or NULL: the first ranking, else a rating whose values
 * are the answers' positions, 0 = tie), the fields its options stand for, and the prompt's field.
 */
struct pd_compare {
    const struct pd_question *question;
    const char *options[26], *fields[26]; /* the same unless options name fields by title */
    size_t k;
    const char *prompt; /* NULL: none */
    bool positional;    /* a rating */
};
PD_CHECKED enum pd_rc pd_compare_find(const struct pd_bundle_head *h, const char *question,
                                      struct pd_compare *out, struct pd_err *err);
/* What one labeler said of it; *has=false when they did not answer it (or not submitted). */
PD_CHECKED enum pd_rc pd_compare_read(const struct pd_compare *c, const struct pd_said *said,
                                      struct pd_ranking *out, bool *has, struct pd_err *err);
/* "answer1", "response-2", "b": looks like one of several answers. */
bool pd_answer_like(const char *field);

#endif
