/* Records, their answers' hidden model names, suggestions and vectors.
 *
 * fields, metadata, vectors and hidden are JSON object text in json-c's plain serialisation,
 * spliced into responses as they are. fields never change after creation. hidden =
 * {"models":{field: model},
 * ...}: what a labeler must not see; only exports and admins read it. */
#ifndef PD_STORE_RECORD_H
#define PD_STORE_RECORD_H

#include "store/store.h"

struct pd_record {
    int64_t id, dataset_id;
    char uuid[37];
    const char *external_id; /* may be NULL */
    const char *fields, *metadata, *vectors,
        *hidden; /* metadata "{}"; vectors, hidden may be NULL */
    bool completed;
    int64_t submitted, surplus; /* responses that count, and those beyond the cap */
    int64_t inserted_us, updated_us;
};

struct pd_record_new {
    int64_t dataset_id;
    struct pd_str uuid;        /* empty: made */
    struct pd_str external_id; /* ptr NULL: none */
    struct pd_str fields, metadata, vectors, hidden;
};
PD_CHECKED enum pd_rc pd_record_create(struct pd_db *db, const struct pd_record_new *in,
                                       int64_t *id, struct pd_err *err); /* PD_CONFLICT: ext. id */
PD_CHECKED enum pd_rc pd_record_get(struct pd_db *db, struct pd_arena *a, int64_t id,
                                    struct pd_record *out, struct pd_err *err);
PD_CHECKED enum pd_rc pd_record_by_uuid(struct pd_db *db, struct pd_arena *a, struct pd_str uuid,
                                        struct pd_record *out, struct pd_err *err);
/* *found=false instead of an error. */
PD_CHECKED enum pd_rc pd_record_by_external(struct pd_db *db, struct pd_arena *a,
                                            int64_t dataset_id, struct pd_str external_id,
                                            struct pd_record *out, bool *found, struct pd_err *err);
/* Keyset page in insertion order: ids above after_id, at most limit. */
PD_CHECKED enum pd_rc pd_record_page(struct pd_db *db, struct pd_arena *a, int64_t dataset_id,
                                     int64_t after_id, size_t limit, struct pd_record **out,
                                     size_t *n, struct pd_err *err);
/* For clients that page by offset: the after_id at which the page begins (index only, no rows). */
PD_CHECKED enum pd_rc pd_record_offset(struct pd_db *db, int64_t dataset_id, int64_t offset,
                                       int64_t *after_id, struct pd_err *err);
PD_CHECKED enum pd_rc pd_record_set_metadata(struct pd_db *db, int64_t id, struct pd_str json,
                                             struct pd_err *err);
PD_CHECKED enum pd_rc pd_record_set_vectors(struct pd_db *db, int64_t id, struct pd_str json,
                                            struct pd_err *err);
PD_CHECKED enum pd_rc pd_record_delete(struct pd_db *db, int64_t id, struct pd_err *err);

struct pd_suggestion {
    int64_t id, record_id, question_id;
    char uuid[37], question_uuid[37];
    const char *question;     /* its name */
    const char *value;        /* JSON */
    const char *score;        /* JSON number or list, or NULL */
    const char *type, *agent; /* may be NULL */
    int64_t inserted_us, updated_us;
};
struct pd_suggestion_new {
    int64_t record_id, question_id;
    struct pd_str value, score, type, agent; /* ptr NULL: none */
};
/* One per (record, question): replaces. *created (may be NULL). */
PD_CHECKED enum pd_rc pd_suggestion_put(struct pd_db *db, const struct pd_suggestion_new *in,
                                        int64_t *id, bool *created, struct pd_err *err);
/* Of records [first, last] by id, ordered by (record, id): one query for a page. */
PD_CHECKED enum pd_rc pd_suggestion_list(struct pd_db *db, struct pd_arena *a, int64_t dataset_id,
                                         int64_t first, int64_t last, struct pd_suggestion **out,
                                         size_t *n, struct pd_err *err);
PD_CHECKED enum pd_rc pd_suggestion_by_uuid(struct pd_db *db, struct pd_arena *a,
                                            struct pd_str uuid, struct pd_suggestion *out,
                                            struct pd_err *err);
PD_CHECKED enum pd_rc pd_suggestion_delete(struct pd_db *db, int64_t id, struct pd_err *err);
PD_CHECKED enum pd_rc pd_suggestion_clear(struct pd_db *db, int64_t record_id, struct pd_err *err);

#endif
