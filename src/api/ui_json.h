/* JSON pieces that several /ui/ calls share, and the two forms of a ranking.
 *
 * The screens speak of rankings as tiers ([["b"],["a","c"]], best first, ties together), the store
 * keeps Argilla's list of {"value","rank"}: equal ranks tie, 1 is best, ranks count the answers
 * before (1, 2, 2, 4). */
#ifndef PD_API_UI_JSON_H
#define PD_API_UI_JSON_H

#include "api/api.h"
#include "pref/answer.h"

/* Parses JSON text that the store handed out; NULL text gives NULL. Owned by the arena. */
struct json_object *pd_ui_parse(struct pd_arena *a, const char *text);

/* Client values (tiers) -> stored values; PD_INVALID names the question. The result is owned by the
 * arena. values NULL = {}. */
PD_CHECKED enum pd_rc pd_ui_values_in(struct pd_arena *a, const struct pd_question *qs, size_t n,
                                      struct json_object *values, struct json_object **out,
                                      struct pd_err *err);
/* Stored values -> what the screens read. */
void pd_ui_values_out(struct pd_jw *w, struct pd_arena *a, const struct pd_question *qs, size_t n,
                      const char *stored);
/* A bare stored value (suggestion) -> what the screens read. */
void pd_ui_value_out(struct pd_jw *w, const struct pd_question *q, struct json_object *value);

/* Drawn as a pair (two answers with a scale) rather than as a ranking. */
bool pd_ui_is_pairwise(const struct pd_question *q);
/* Names of the fields that are answers to compare, in stored order; from the first ranking. A
 * rating whose values name positions compares too. */
PD_CHECKED enum pd_rc pd_ui_answers(struct pd_db *db, struct pd_arena *a, int64_t dataset_id,
                                    const struct pd_question *qs, size_t n_qs, const char ***names,
                                    size_t *n, struct pd_err *err);

/* "counts": COUNTS and "mine": MINE of docs/ui-api.md; tz = minutes east, for "today". */
PD_CHECKED enum pd_rc pd_ui_counts(struct pd_jw *w, struct pd_req *req, struct pd_db *db,
                                   const struct pd_dataset *d, int64_t tz, struct pd_err *err);
/* The same from counters at hand. */
PD_CHECKED enum pd_rc pd_ui_counts_given(struct pd_jw *w, struct pd_db *db,
                                         const struct pd_dataset *d, const struct pd_counts *c,
                                         int64_t conflicts, int64_t tz, struct pd_err *err);
PD_CHECKED enum pd_rc pd_ui_mine(struct pd_jw *w, struct pd_db *db, struct pd_arena *a,
                                 int64_t dataset_id, int64_t user_id, int64_t tz,
                                 struct pd_err *err);
/* The keys a person chose: {command: key}. */
PD_CHECKED enum pd_rc pd_ui_keys_out(struct pd_jw *w, struct pd_db *db, struct pd_arena *a,
                                     int64_t user_id, struct pd_err *err);
int64_t pd_ui_midnight(int64_t tz); /* the last one there, in UTC microseconds */

#endif
