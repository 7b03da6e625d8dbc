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
    const char *dataset, *guidelines, *tmpl;
    struct pd_question *questions;
    size_t n_questions;
    const char **fields; /* names in order */
    size_t n_fields;
};
struct pd_said {
    const char *labeler;
    enum pd_answer_status status;
    struct json_object *values; /* borrowed from the bundle's tree */
    struct json_object *shown;  /* or NULL */
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
/* *more=false at the end. The bundle lives until the next call. */
PD_CHECKED enum pd_rc pd_bundles_next(struct pd_bundles *b, struct pd_bundle *out, bool *more,
                                      struct pd_err *err);
void pd_bundles_close(struct pd_bundles *b); /* accepts NULL */

#endif
