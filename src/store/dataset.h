/* Datasets and their settings: guidelines (versioned), fields, questions, metadata properties,
 * vector settings, counters. Settings are JSON text exactly as Argilla's clients send and read
 * them; what they may hold is checked one floor up (pref/question.h). */
#ifndef PD_STORE_DATASET_H
#define PD_STORE_DATASET_H

#include "store/store.h"

enum pd_dataset_status { PD_DATASET_DRAFT, PD_DATASET_READY };

struct pd_dataset {
    int64_t id, workspace_id;
    char uuid[37], workspace_uuid[37];
    const char *name, *workspace;
    const char *guidelines;    /* current text or NULL */
    int64_t guideline_version; /* 0 = never set */
    enum pd_dataset_status status;
    bool allow_extra_metadata;
    int64_t min_submitted; /* overlap; 0 = no cap (made by argilla 1.x clients) */
    const char *tmpl;      /* "pairwise", "ranking", "rating", "label-studio", "custom" */
    const char *made_by;   /* "cli", "ui", "argilla-v1", "argilla-v2", "label-studio" */
    const char *settings;  /* JSON object: {"shuffle":bool, ...}; "{}" */
    const char *metadata;  /* JSON object or NULL (Argilla 2.4+) */
    int64_t inserted_us, updated_us, last_activity_us;
};

struct pd_dataset_new {
    int64_t workspace_id;
    struct pd_str uuid;       /* empty: made */
    struct pd_str name;       /* 1..200, [a-zA-Z0-9-_ ]+, not starting with - or _ */
    struct pd_str guidelines; /* may be empty */
    struct pd_str tmpl, made_by, settings, metadata; /* empty: "custom", "cli", "{}", NULL */
    bool allow_extra_metadata;
    int64_t min_submitted;
    int64_t author_id; /* of the guidelines, 0 = none */
};
PD_CHECKED enum pd_rc pd_dataset_create(struct pd_db *db, const struct pd_dataset_new *in,
                                        int64_t *id, struct pd_err *err);
PD_CHECKED enum pd_rc pd_dataset_get(struct pd_db *db, struct pd_arena *a, int64_t id,
                                     struct pd_dataset *out, struct pd_err *err);
PD_CHECKED enum pd_rc pd_dataset_by_uuid(struct pd_db *db, struct pd_arena *a, struct pd_str uuid,
                                         struct pd_dataset *out, struct pd_err *err);
/* "name", "workspace/name" or a uuid. A bare name that several workspaces have is PD_CONFLICT. */
PD_CHECKED enum pd_rc pd_dataset_find(struct pd_db *db, struct pd_arena *a, struct pd_str name,
                                      struct pd_dataset *out, struct pd_err *err);
/* Of the workspaces a user is a member of (user_id 0 = all), by insertion. */
PD_CHECKED enum pd_rc pd_dataset_list(struct pd_db *db, struct pd_arena *a, int64_t user_id,
                                      struct pd_dataset **out, size_t *n, struct pd_err *err);
PD_CHECKED enum pd_rc pd_dataset_set_name(struct pd_db *db, int64_t id, struct pd_str name,
                                          struct pd_err *err);
/* Appends a version; judgments carry the version current when they were shown. ptr NULL clears. */
PD_CHECKED enum pd_rc pd_dataset_set_guidelines(struct pd_db *db, int64_t id, struct pd_str text,
                                                int64_t author_id, struct pd_err *err);
PD_CHECKED enum pd_rc pd_dataset_set_extra_metadata(struct pd_db *db, int64_t id, bool allow,
                                                    struct pd_err *err);
PD_CHECKED enum pd_rc pd_dataset_set_settings(struct pd_db *db, int64_t id, struct pd_str json,
                                              struct pd_err *err);
/* Recomputes which records are complete. */
PD_CHECKED enum pd_rc pd_dataset_set_overlap(struct pd_db *db, int64_t id, int64_t min_submitted,
                                             struct pd_err *err);
/* Needs a required field and a required question; once ready stays ready. */
PD_CHECKED enum pd_rc pd_dataset_publish(struct pd_db *db, int64_t id, struct pd_err *err);
PD_CHECKED enum pd_rc pd_dataset_delete(struct pd_db *db, int64_t id, struct pd_err *err);

/* The four settings lists are one table with a kind: the same columns serve all. */
enum pd_part_kind { PD_PART_FIELD, PD_PART_QUESTION, PD_PART_METADATA, PD_PART_VECTOR };
struct pd_part {
    int64_t id, dataset_id;
    char uuid[37];
    enum pd_part_kind kind;
    const char *name, *title;
    const char *description; /* questions; may be NULL */
    bool required;           /* fields, questions; metadata: visible_for_annotators */
    const char *settings;    /* JSON object; vectors: {"dimensions":N} */
    int64_t inserted_us, updated_us;
};
struct pd_part_new {
    int64_t dataset_id;
    enum pd_part_kind kind;
    struct pd_str name, title, description, settings; /* title empty = name; description ptr NULL */
    bool required;
};
PD_CHECKED enum pd_rc pd_part_create(struct pd_db *db, const struct pd_part_new *in, int64_t *id,
                                     struct pd_err *err); /* PD_CONFLICT: name taken */
PD_CHECKED enum pd_rc pd_part_get(struct pd_db *db, struct pd_arena *a, int64_t id,
                                  struct pd_part *out, struct pd_err *err);
PD_CHECKED enum pd_rc pd_part_by_uuid(struct pd_db *db, struct pd_arena *a, enum pd_part_kind kind,
                                      struct pd_str uuid, struct pd_part *out, struct pd_err *err);
/* In order of creation. */
PD_CHECKED enum pd_rc pd_part_list(struct pd_db *db, struct pd_arena *a, int64_t dataset_id,
                                   enum pd_part_kind kind, struct pd_part **out, size_t *n,
                                   struct pd_err *err);
/* Replaces title, description, required and settings. */
PD_CHECKED enum pd_rc pd_part_update(struct pd_db *db, const struct pd_part *p, struct pd_err *err);
PD_CHECKED enum pd_rc pd_part_delete(struct pd_db *db, int64_t id, struct pd_err *err);

/* Kept with every write, save in_hand. */
struct pd_counts {
    int64_t records, completed;          /* waiting = records - completed - in_hand */
    int64_t in_hand;                     /* open records that someone holds a live lease on */
    int64_t flagged;                     /* answers that carry a flag */
    int64_t submitted, discarded, draft; /* responses by status */
    int64_t surplus;                     /* submitted beyond the cap (in `submitted` too) */
    int64_t active_ms;
};
/* One row: in_hand is 0. */
PD_CHECKED enum pd_rc pd_dataset_counters(struct pd_db *db, int64_t id, struct pd_counts *out,
                                          struct pd_err *err);
/* With in_hand, which passes over the live leases. */
PD_CHECKED enum pd_rc pd_dataset_counts(struct pd_db *db, int64_t id, struct pd_counts *out,
                                        struct pd_err *err);
struct pd_user_counts {
    int64_t user_id;
    const char *username;
    int64_t submitted, discarded, draft, active_ms;
    int64_t completed_submitted, completed_discarded, completed_draft; /* on completed records */
    int64_t last_us;
};
/* Everyone who answered here (user_id 0) or one user (n = 0 or 1). */
PD_CHECKED enum pd_rc pd_dataset_user_counts(struct pd_db *db, struct pd_arena *a, int64_t id,
                                             int64_t user_id, struct pd_user_counts **out,
                                             size_t *n, struct pd_err *err);

#endif
