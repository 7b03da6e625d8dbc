#include "api/ui_json.h"

#include "api/overview.h"
#include "base/time.h"
#include "store/lookup.h"

#include <pthread.h>

static void put(void *o)
{
    json_object_put(o);
}

struct json_object *pd_ui_parse(struct pd_arena *a, const char *text)
{
    struct json_object *o = NULL;
    if (!text || pd_json_parse(pd_str_from(text), &o, NULL) != PD_OK)
        return NULL;
    pd_arena_defer(a, put, o);
    return o;
}

bool pd_ui_is_pairwise(const struct pd_question *q)
{
    return q->type == PD_QUESTION_RANKING && q->n_options == 2;
}

/* ---- tiers in */

static enum pd_rc tiers_in(const struct pd_question *q, struct json_object *tiers,
                           struct json_object **out, struct pd_err *err)
{
    struct json_object *list = json_object_new_array();
    size_t before = 0;
    for (size_t t = 0; t < json_object_array_length(tiers); t++) {
        struct json_object *tier = json_object_array_get_idx(tiers, t);
        if (!json_object_is_type(tier, json_type_array)) {
            json_object_put(list);
            return PD_FAIL(err, PD_INVALID,
                           "question %s: a ranking is a list of tiers, each a list of answers",
                           q->name);
        }
        size_t n = json_object_array_length(tier);
        for (size_t i = 0; i < n; i++) {
            struct json_object *item = json_object_new_object();
            json_object_object_add(item, "value",
                                   json_object_get(json_object_array_get_idx(tier, i)));
            json_object_object_add(item, "rank", json_object_new_int64((int64_t)before + 1));
            json_object_array_add(list, item);
        }
        before += n;
    }
    *out = list;
    return PD_OK;
}

static bool is_tiers(struct json_object *v)
{
    return json_object_is_type(v, json_type_array) &&
           (json_object_array_length(v) == 0 ||
            json_object_is_type(json_object_array_get_idx(v, 0), json_type_array));
}

enum pd_rc pd_ui_values_in(struct pd_arena *a, const struct pd_question *qs, size_t n,
                           struct json_object *values, struct json_object **out, struct pd_err *err)
{
    struct json_object *result = json_object_new_object();
    pd_arena_defer(a, put, result);
    if (values && !json_object_is_type(values, json_type_object))
        return PD_FAIL(err, PD_INVALID, "values must be an object by question name, found %s",
                       pd_json_type_name(values));
    if (values) {
        json_object_object_foreach(values, name, given)
        {
            const struct pd_question *q = pd_question_find(qs, n, pd_str_from(name));
            struct json_object *value = pd_json_get(given, "value");
            if (!json_object_is_type(given, json_type_object))
                return PD_FAIL(err, PD_INVALID, "question %.100s: expected {\"value\": ...}", name);
            struct json_object *copy = json_object_new_object();
            json_object_object_add(result, name, copy);
            if (q && q->type == PD_QUESTION_RANKING && is_tiers(value)) {
                struct json_object *list = NULL;
                enum pd_rc rc = tiers_in(q, value, &list, err);
                if (rc != PD_OK)
                    return rc;
                json_object_object_add(copy, "value", list);
            } else {
                json_object_object_add(copy, "value", json_object_get(value));
            }
            static const char *const beside[] = {"strength", "both_bad"};
            for (int i = 0; i < 2; i++) {
                struct json_object *v = pd_json_get(given, beside[i]);
                if (v)
                    json_object_object_add(copy, beside[i], json_object_get(v));
            }
        }
    }
    *out = result;
    return PD_OK;
}

/* ---- tiers out */

static void tiers_out(struct pd_jw *w, struct json_object *list)
{
    int64_t open = INT64_MIN; /* the rank of the tier being written */
    pd_jw_array(w);
    for (size_t i = 0; i < json_object_array_length(list); i++) { /* stored sorted by rank */
        struct json_object *item = json_object_array_get_idx(list, i);
        int64_t rank = pd_json_i64(item, "rank", (int64_t)i + 1);
        if (rank != open) {
            if (open != INT64_MIN)
                pd_jw_array_end(w);
            pd_jw_array(w);
            open = rank;
        }
        pd_jw_str(w, pd_json_str(item, "value"));
    }
    if (open != INT64_MIN)
        pd_jw_array_end(w);
    pd_jw_array_end(w);
}

void pd_ui_value_out(struct pd_jw *w, const struct pd_question *q, struct json_object *value)
{
    if (q && q->type == PD_QUESTION_RANKING && json_object_is_type(value, json_type_array))
        tiers_out(w, value);
    else
        pd_jw_tree(w, value);
}

void pd_ui_values_out(struct pd_jw *w, struct pd_arena *a, const struct pd_question *qs, size_t n,
                      const char *stored)
{
    struct json_object *values = pd_ui_parse(a, stored);
    pd_jw_object(w);
    if (json_object_is_type(values, json_type_object)) {
        json_object_object_foreach(values, name, given)
        {
            const struct pd_question *q = pd_question_find(qs, n, pd_str_from(name));
            if (!q)
                continue;
            pd_jw_key(w, q->name);
            pd_jw_object(w);
            pd_jw_key(w, "value");
            pd_ui_value_out(w, q, pd_json_get(given, "value"));
            if (pd_json_get(given, "strength"))
                pd_jw_ki64(w, "strength", pd_json_i64(given, "strength", 0));
            if (pd_json_get(given, "both_bad"))
                pd_jw_kbool(w, "both_bad", pd_json_bool(given, "both_bad", false));
            pd_jw_object_end(w);
        }
    }
    pd_jw_object_end(w);
}

/* ---- answers */

/* The field an option stands for: the one of its name, or the one whose title is its text. */
static const char *field_of(const struct pd_part *fields, size_t n, const char *value,
                            const char *text)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(fields[i].name, value) == 0)
            return fields[i].name;
    for (size_t i = 0; i < n && text; i++)
        if (strcmp(fields[i].title, text) == 0)
            return fields[i].name;
    return NULL;
}

enum pd_rc pd_ui_answers(struct pd_db *db, struct pd_arena *a, int64_t dataset_id,
                         const struct pd_question *qs, size_t n_qs, const char ***names, size_t *n,
                         struct pd_err *err)
{
    struct pd_part *fields = NULL;
    size_t n_fields = 0;
    *names = NULL;
    *n = 0;
    enum pd_rc rc = pd_part_list(db, a, dataset_id, PD_PART_FIELD, &fields, &n_fields, err);
    for (size_t k = 0; rc == PD_OK && k < n_qs; k++) {
        if (qs[k].type != PD_QUESTION_RANKING)
            continue;
        *names = pd_arena_alloc(a, (qs[k].n_options + 1) * sizeof **names);
        for (size_t i = 0; i < qs[k].n_options; i++) {
            const char *f =
                field_of(fields, n_fields, qs[k].options[i], qs[k].texts ? qs[k].texts[i] : NULL);
            if (f)
                (*names)[(*n)++] = f;
        }
        if (*n >= 2)
            break;
        *n = 0;
    }
    return rc;
}

/* ---- counters */

int64_t pd_ui_midnight(int64_t tz)
{
    const int64_t day = (int64_t)86400 * 1000000, shift = tz * 60 * 1000000;
    int64_t local = pd_time_us() + shift;
    return local - local % day - shift;
}

/* How many records are in hand is the one number of a dataset that is counted rather than kept.
 * Where many are, it is counted at most once a second. */
struct tally {
    int64_t dataset_id, at_us, in_hand;
};
enum { MAX_TALLIES = 64, TALLY_US = 1000000, MANY_IN_HAND = 200 };
static struct tally tallies[MAX_TALLIES];
static pthread_mutex_t tally_lock = PTHREAD_MUTEX_INITIALIZER;

static bool recent_tally(int64_t dataset_id, struct tally *out)
{
    pthread_mutex_lock(&tally_lock);
    *out = tallies[dataset_id % MAX_TALLIES];
    pthread_mutex_unlock(&tally_lock);
    return out->dataset_id == dataset_id && out->in_hand >= MANY_IN_HAND &&
           pd_time_us() - out->at_us < TALLY_US;
}

static enum pd_rc recent_counts(struct pd_db *db, int64_t dataset_id, struct pd_counts *c,
                                struct pd_err *err)
{
    struct tally t;
    if (recent_tally(dataset_id, &t)) {
        enum pd_rc rc = pd_dataset_counters(db, dataset_id, c, err);
        int64_t open = c->records - c->completed;
        c->in_hand = t.in_hand < open ? t.in_hand : open;
        return rc;
    }
    enum pd_rc rc = pd_dataset_counts(db, dataset_id, c, err);
    if (rc != PD_OK)
        return rc;
    t = (struct tally){.dataset_id = dataset_id, .at_us = pd_time_us(), .in_hand = c->in_hand};
    pthread_mutex_lock(&tally_lock);
    tallies[dataset_id % MAX_TALLIES] = t;
    pthread_mutex_unlock(&tally_lock);
    return PD_OK;
}

enum pd_rc pd_ui_counts_given(struct pd_jw *w, struct pd_db *db, const struct pd_dataset *d,
                              const struct pd_counts *c, int64_t conflicts, int64_t tz,
                              struct pd_err *err)
{
    int64_t today = 0;
    enum pd_rc rc = pd_answers_since(db, d->id, 0, pd_ui_midnight(tz), &today, NULL, err);
    if (rc != PD_OK)
        return rc;
    pd_jw_object(w);
    pd_jw_ki64(w, "records", c->records);
    pd_jw_ki64(w, "waiting", c->records - c->completed - c->in_hand);
    pd_jw_ki64(w, "in_hand", c->in_hand);
    pd_jw_ki64(w, "done", c->completed);
    pd_jw_ki64(w, "submitted", c->submitted);
    pd_jw_ki64(w, "discarded", c->discarded);
    pd_jw_ki64(w, "drafts", c->draft);
    pd_jw_ki64(w, "flagged", c->flagged);
    pd_jw_ki64(w, "conflicts", conflicts);
    pd_jw_ki64(w, "today", today);
    pd_jw_object_end(w);
    return PD_OK;
}

enum pd_rc pd_ui_counts(struct pd_jw *w, struct pd_req *req, struct pd_db *db,
                        const struct pd_dataset *d, int64_t tz, struct pd_err *err)
{
    struct pd_counts c = {0};
    enum pd_rc rc = recent_counts(db, d->id, &c, err);
    if (rc == PD_OK)
        rc =
            pd_ui_counts_given(w, db, d, &c, pd_overview_conflicts(pd_api_of(req), d->id), tz, err);
    return rc;
}

enum pd_rc pd_ui_mine(struct pd_jw *w, struct pd_db *db, struct pd_arena *a, int64_t dataset_id,
                      int64_t user_id, int64_t tz, struct pd_err *err)
{
    struct pd_counts c = {0};
    struct pd_user_counts *u = NULL, none = {0};
    size_t n = 0;
    int64_t today = 0;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_dataset_counters(db, dataset_id, &c, err));
    PD_TRY(pd_dataset_user_counts(db, a, dataset_id, user_id, &u, &n, err));
    PD_TRY(pd_answers_since(db, dataset_id, user_id, pd_ui_midnight(tz), &today, NULL, err));
    if (n == 0)
        u = &none;
    /* Open records that the caller has not answered; what others hold is not taken off. */
    int64_t answered_open =
        u->submitted - u->completed_submitted + u->discarded - u->completed_discarded;
    int64_t available = c.records - c.completed - answered_open;
    pd_jw_object(w);
    pd_jw_ki64(w, "submitted", u->submitted);
    pd_jw_ki64(w, "discarded", u->discarded);
    pd_jw_ki64(w, "today", today);
    pd_jw_ki64(w, "available", available > 0 ? available : 0);
    pd_jw_object_end(w);
out:
    return rc;
}
