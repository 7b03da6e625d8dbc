/* What can be asked, and what counts as an answer.
 *
 * Settings arrive as Argilla's JSON ({"type":"ranking","options":[{"value","text"}...]} and so on);
 * ours adds two keys to ranking: "strength":true (how much better, 0..3) and "both_bad":true. A
 * pairwise question is a ranking of two. Rejections are one line: which question, what was found,
 * what is allowed. */
#ifndef PD_PREF_QUESTION_H
#define PD_PREF_QUESTION_H

#include "base/json.h"
#include "store/dataset.h"
#include "store/response.h"

enum pd_question_type {
    PD_QUESTION_TEXT,
    PD_QUESTION_RATING,
    PD_QUESTION_LABEL,
    PD_QUESTION_MULTI_LABEL,
    PD_QUESTION_RANKING,
    PD_QUESTION_SPAN
};
const char *pd_question_type_name(enum pd_question_type t); /* "label_selection" */

struct pd_question {
    int64_t id;
    const char *name, *title;
    enum pd_question_type type;
    bool required;
    bool strength, both_bad;       /* ranking */
    const char **options, **texts; /* ranking, labels, span: option values and their texts */
    size_t n_options;
    const int64_t *ratings; /* rating: allowed values */
    size_t n_ratings;
    const char *field; /* span: the text field it marks */
    bool allow_overlapping;
};

/* Checks settings of a part of any kind before it is stored (PD_INVALID with the reason). */
PD_CHECKED enum pd_rc pd_part_check(enum pd_part_kind kind, struct pd_str name,
                                    struct json_object *settings, struct pd_err *err);
PD_CHECKED enum pd_rc pd_question_parse(struct pd_arena *a, const struct pd_part *part,
                                        struct pd_question *out, struct pd_err *err);
PD_CHECKED enum pd_rc pd_question_load(struct pd_db *db, struct pd_arena *a, int64_t dataset_id,
                                       struct pd_question **out, size_t *n, struct pd_err *err);
const struct pd_question *pd_question_find(const struct pd_question *qs, size_t n,
                                           struct pd_str name);

/* values = {"name":{"value":X,...}} (NULL = {}). Submitted needs every required question; draft and
 * discarded may be partial. Rankings come out sorted by rank; a missing rank is the list position.
 * Appends the canonical JSON object to *out. `fields` (record fields, may be NULL) bounds spans. */
PD_CHECKED enum pd_rc pd_answer_check(const struct pd_question *qs, size_t n,
                                      enum pd_answer_status status, struct json_object *values,
                                      struct json_object *fields, struct pd_buf *out,
                                      struct pd_err *err);
/* One question's X (suggestions): canonical JSON of the bare value. */
PD_CHECKED enum pd_rc pd_value_check(const struct pd_question *q, struct json_object *value,
                                     bool complete, struct json_object *fields, struct pd_buf *out,
                                     struct pd_err *err);

/* Record fields and metadata against the dataset's parts. fields: required present, none unknown,
 * each of its type; metadata: known properties typed, unknown ones only when allowed. */
PD_CHECKED enum pd_rc pd_fields_check(const struct pd_part *fields, size_t n,
                                      struct json_object *value, struct pd_err *err);
PD_CHECKED enum pd_rc pd_metadata_check(const struct pd_part *props, size_t n, bool allow_extra,
                                        struct json_object *value, struct pd_err *err);

#endif
