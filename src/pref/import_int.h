/* Inside the import: where rows come from, what a row becomes, who turns which shape into it. */
#ifndef PD_PREF_IMPORT_INT_H
#define PD_PREF_IMPORT_INT_H

#include "base/map.h"
#include "pref/bundle.h"
#include "pref/import.h"
#include "pref/question.h"

/* ---- rows of a file (import_source.c) ---- */

struct pd_source;
PD_CHECKED enum pd_rc pd__source_open(struct pd_source **out, const char *path, const char *name,
                                      struct pd_err *err);
/* The next row, an object the caller puts; *row NULL at the end. PD_PARSE and PD_INVALID concern
 * that row alone: the next call goes on behind it. */
PD_CHECKED enum pd_rc pd__source_next(struct pd_source *s, struct json_object **row,
                                      struct pd_err *err);
/* Looks at the first row without taking it; borrowed, NULL when there is none. */
PD_CHECKED enum pd_rc pd__source_first(struct pd_source *s, struct json_object **row,
                                       struct pd_err *err);
/* All rows when the file is one JSON array, else NULL. Borrowed. */
struct json_object *pd__source_array(struct pd_source *s);
/* "answers.jsonl:12" or "export.json item 12" of the row last returned. */
const char *pd__source_where(struct pd_source *s);
void pd__source_close(struct pd_source *s); /* accepts NULL */

/* ---- a row, understood ---- */

struct pd_item_answer {
    char labeler[96];
    enum pd_answer_status status;
    struct json_object *values; /* owned */
    struct json_object *shown;  /* owned, may be NULL */
    int64_t at_us, active_ms;
};
struct pd_item_suggestion {
    char question[201];
    struct json_object *value, *score; /* owned */
    char agent[201];                   /* empty: none */
};
enum { PD_ITEM_MAX_ANSWERS = 256, PD_ITEM_MAX_SUGGESTIONS = 64 };
struct pd_item {
    struct json_object *fields, *metadata, *hidden; /* owned; the last two may be NULL */
    char external_id[256];                          /* empty: none */
    struct pd_item_answer answers[PD_ITEM_MAX_ANSWERS];
    size_t n_answers;
    struct pd_item_suggestion suggestions[PD_ITEM_MAX_SUGGESTIONS];
    size_t n_suggestions;
    bool identical, empty; /* some answers equal; one empty */
};
void pd__item_release(struct pd_item *it);

/* ---- the dataset rows go into ---- */

enum { PD_TARGET_MAX_FIELDS = 64 };
struct pd_target {
    int64_t dataset_id;
    bool allow_extra_metadata;
    struct pd_part *fields, *props;
    size_t n_fields, n_props;
    struct pd_question *questions;
    size_t n_questions;
    /* The compared fields and the question that compares them (question NULL: none). */
    const char *answers[26];
    size_t n_answers;
    const struct pd_question *ranking;
    const char *prompt; /* the field that is not an answer, "prompt" first; NULL: none */
    bool prompt_chat;
    bool without_judgments;
};

/* One entry a shape: how to tell it by the first row, what dataset it asks for, how a row becomes
 * an item. */
struct pd_shape {
    const char *name;
    bool (*fits)(struct json_object *row);
    enum pd_rc (*create)(struct pd_db *db, struct pd_source *src, const struct pd_import_options *o,
                         int64_t workspace_id, int64_t *dataset_id, FILE *notes,
                         struct pd_err *err);
    enum pd_rc (*read)(const struct pd_target *t, struct json_object *row, struct pd_item *it,
                       struct pd_err *err);
};
extern const struct pd_shape pd__shapes[];
extern const size_t pd__n_shapes;

/* import_ls.c */
bool pd__ls_fits(struct json_object *row);
enum pd_rc pd__ls_create(struct pd_db *db, struct pd_source *src, const struct pd_import_options *o,
                         int64_t workspace_id, int64_t *dataset_id, FILE *notes,
                         struct pd_err *err);
enum pd_rc pd__ls_read(const struct pd_target *t, struct json_object *row, struct pd_item *it,
                       struct pd_err *err);

/* ---- shared by the shapes ---- */

/* A dataset of these fields (in order) with one ranking over the answer-like ones. */
enum pd_rc pd__create_compare(struct pd_db *db, const struct pd_import_options *o,
                              int64_t workspace_id, const char *const *fields, const bool *chat,
                              size_t n_fields, const char *question, int64_t *dataset_id,
                              struct pd_err *err);
/* Puts a prompt (text or messages) into the target's prompt field in the form that field has. */
enum pd_rc pd__set_prompt(const struct pd_target *t, struct json_object *prompt,
                          struct json_object *fields, struct pd_err *err);
/* Copies keys of row that `used` does not name (NULL-ended) into *metadata (made when needed). */
void pd__keep_rest(struct json_object *row, const char *const *used, struct json_object **metadata);
enum pd_rc pd__set_external(struct pd_item *it, struct json_object *id, struct pd_err *err);
struct json_object *pd__text(const char *s);
struct json_object *pd__ref(struct json_object *o); /* NULL stays NULL */

#endif
