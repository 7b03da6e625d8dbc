/* Answers: the mutable row (response) and the append-only facts (judgment).
 *
 * values = {"question":{"value":X, "strength":0..3?, "both_bad":bool?}} as JSON text, already
 * validated (pref/answer.h is the door that does it). Putting a response keeps every counter, the
 * record's completion and the user's lease in step, in the same transaction:
 *   - submitted or discarded appends a judgment whose uuid is the client's idempotency key: a
 * second put with the same uuid changes nothing and says so; so does re-opening or deleting what
 * was submitted;
 *   - a draft over nothing or over a draft appends none;
 *   - a first submission counts towards the record's cap when the user holds a live lease, or when
 *     answers that count + live leases of others stay below the cap; otherwise it is kept as
 * surplus. */
#ifndef PD_STORE_RESPONSE_H
#define PD_STORE_RESPONSE_H

#include "store/store.h"

enum pd_answer_status {
    PD_ANSWER_DRAFT,
    PD_ANSWER_SUBMITTED,
    PD_ANSWER_DISCARDED,
    PD_ANSWER_DELETED
};
const char *pd_answer_status_name(enum pd_answer_status s);               /* "draft" ... */
bool pd_answer_status_parse(struct pd_str s, enum pd_answer_status *out); /* not "deleted" */

struct pd_response {
    int64_t id, record_id, dataset_id, user_id, n;
    char uuid[37], record_uuid[37], user_uuid[37];
    const char *username;
    enum pd_answer_status status;
    const char *values; /* JSON object */
    const char *notes;  /* as below, or NULL */
    const char *shown;  /* JSON list or NULL */
    bool surplus;
    int64_t active_ms, guideline_version, inserted_us, updated_us;
};

struct pd_response_put {
    int64_t record_id, user_id, n; /* n: 0 = the only answer of this user */
    enum pd_answer_status status;
    struct pd_str values;
    struct pd_str judgment_uuid; /* empty: made */
    struct pd_str shown;         /* JSON list of field names in the order seen, or ptr NULL */
    struct pd_str source;        /* "ui", "argilla", "label-studio", "import" */
    struct pd_str notes;       /* JSON object {"why","reason","flag":{"kind","text"}}, kept with the
                                  response and its judgment as it is; ptr NULL: none */
    int64_t active_ms;         /* of this sitting; added up in the response */
    int64_t guideline_version; /* -1 = the dataset's current */
    int64_t at_us;             /* 0 = now; imports keep the original moment */
    bool autosave;             /* a draft that may come late: changes nothing over an answer that
                                * is submitted or discarded already (result: replayed) */
};
struct pd_response_result {
    int64_t response_id, dataset_id;
    bool created;  /* no response before */
    bool replayed; /* this judgment uuid was already stored; nothing changed */
    bool surplus;
    bool completed; /* the record, now */
};
PD_CHECKED enum pd_rc pd_response_put(struct pd_db *db, const struct pd_response_put *in,
                                      struct pd_response_result *out, struct pd_err *err);
/* Removes the row; appends a "deleted" judgment when it was submitted or discarded. */
PD_CHECKED enum pd_rc pd_response_delete(struct pd_db *db, int64_t id, struct pd_err *err);

PD_CHECKED enum pd_rc pd_response_by_uuid(struct pd_db *db, struct pd_arena *a, struct pd_str uuid,
                                          struct pd_response *out, struct pd_err *err);
PD_CHECKED enum pd_rc pd_response_of(struct pd_db *db, struct pd_arena *a, int64_t record_id,
                                     int64_t user_id, struct pd_response *out, bool *found,
                                     struct pd_err *err);
/* Of records [first, last] by id, user_id 0 = everyone's; ordered by (record, id). */
PD_CHECKED enum pd_rc pd_response_list(struct pd_db *db, struct pd_arena *a, int64_t dataset_id,
                                       int64_t first, int64_t last, int64_t user_id,
                                       struct pd_response **out, size_t *n, struct pd_err *err);
/* A user's own, newest first: rows older than (before_us, before_id); 0, 0 = from the newest.
 * status PD_ANSWER_DELETED = any. This is undo's, history's and the draft list's query. */
PD_CHECKED enum pd_rc pd_response_mine(struct pd_db *db, struct pd_arena *a, int64_t dataset_id,
                                       int64_t user_id, enum pd_answer_status status,
                                       int64_t before_us, int64_t before_id, size_t limit,
                                       struct pd_response **out, size_t *n, struct pd_err *err);

struct pd_judgment {
    int64_t id, record_id, user_id, n;
    char uuid[37];
    const char *username;
    enum pd_answer_status status;
    const char *values, *shown, *source, *notes; /* shown, notes may be NULL */
    bool surplus;
    int64_t active_ms, guideline_version, at_us;
};
/* In order of arrival. record_id 0 = the whole dataset, ids above after_id. */
PD_CHECKED enum pd_rc pd_judgment_page(struct pd_db *db, struct pd_arena *a, int64_t dataset_id,
                                       int64_t record_id, int64_t after_id, size_t limit,
                                       struct pd_judgment **out, size_t *n, struct pd_err *err);
/* Answers of a user (0 = everyone) that stand as submitted and discarded and were given since a
 * moment, which is rounded down to a quarter of an hour: sums of counters, for "today". Either
 * output may be NULL. */
#define PD_QUARTER_US ((int64_t)15 * 60 * 1000000)
PD_CHECKED enum pd_rc pd_answers_since(struct pd_db *db, int64_t dataset_id, int64_t user_id,
                                       int64_t since_us, int64_t *submitted, int64_t *discarded,
                                       struct pd_err *err);

#endif
