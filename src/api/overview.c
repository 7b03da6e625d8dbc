/* GET /ui/datasets/ID/overview, and the cache behind it. */
#include "api/overview.h"

#include "api/ui_json.h"
#include "api/ui_run.h"

#include "base/map.h"
#include "base/mem.h"
#include "base/time.h"
#include "pref/agreement.h"
#include "pref/bundle.h"
#include "store/lookup.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_CACHED = 64, MAX_RECORD_SAID = 64 };

/* A pass over a large dataset while people label would be out of date at once and begin again at
 * every look: one that took longer than this is kept for ten times as long as it took. */
#define QUICK_US 50000

static bool still_good(int64_t made_us, int64_t cost_us)
{
    return cost_us > QUICK_US && pd_time_us() - made_us < 10 * cost_us;
}

struct labeler {
    char name[80];
    double *seconds;
    size_t n_seconds, cap_seconds;
    int64_t submitted, discarded;
    int64_t left_n, left_won;    /* decided pairs: was the winner the one shown first? */
    int64_t agree_n, agree_same; /* pairs also judged by someone else */
};

struct derived {
    int64_t dataset_id, stamp; /* stamp: moves with the dataset, as of when this was computed */
    int64_t made_us, cost_us;
    int64_t judgments, skipped, ties, both_bad, shared;
    int64_t left_n, left_won, longer_n, longer_won;
    int64_t first_us, last_us;
    struct labeler *labelers;
    size_t n_labelers, cap_labelers;
    struct pd_map conflicts; /* record uuids */
    char *agreement;         /* JSON of the agree operation, or NULL */
};

struct pairs_entry {
    char source[80];
    int64_t stamp, made_us, cost_us;
    struct pd_export_report report;
};

struct pd_overviews {
    pthread_mutex_t lock; /* held while computing too: one pass at a time */
    struct derived *items[MAX_CACHED];
    size_t n;
    struct pairs_entry pairs[MAX_CACHED];
    size_t n_pairs, next_pairs;
};

static void derived_free(struct derived *d)
{
    if (!d)
        return;
    for (size_t i = 0; i < d->n_labelers; i++)
        pd_free(d->labelers[i].seconds);
    pd_free(d->labelers);
    pd_map_release(&d->conflicts);
    pd_free(d->agreement);
    pd_free(d);
}

struct pd_overviews *pd_overviews_new(void)
{
    struct pd_overviews *o = pd_xalloc(sizeof *o);
    pthread_mutex_init(&o->lock, NULL);
    return o;
}

void pd_overviews_free(struct pd_overviews *o)
{
    if (!o)
        return;
    for (size_t i = 0; i < o->n; i++)
        derived_free(o->items[i]);
    pthread_mutex_destroy(&o->lock);
    pd_free(o);
}

/* ------------------------------------------------------------------ the pass */

static struct labeler *labeler(struct derived *d, const char *name)
{
    for (size_t i = 0; i < d->n_labelers; i++)
        if (strcmp(d->labelers[i].name, name) == 0)
            return &d->labelers[i];
    if (d->n_labelers == d->cap_labelers) {
        d->cap_labelers = d->cap_labelers ? d->cap_labelers * 2 : 8;
        d->labelers = pd_xrealloc(d->labelers, d->cap_labelers * sizeof *d->labelers);
    }
    struct labeler *l = &d->labelers[d->n_labelers++];
    *l = (struct labeler){0};
    snprintf(l->name, sizeof l->name, "%s", name);
    return l;
}

static void add_seconds(struct labeler *l, double s)
{
    if (!(s > 0))
        return;
    if (l->n_seconds == l->cap_seconds) {
        l->cap_seconds = l->cap_seconds ? l->cap_seconds * 2 : 32;
        l->seconds = pd_xrealloc(l->seconds, l->cap_seconds * sizeof *l->seconds);
    }
    l->seconds[l->n_seconds++] = s;
}

/* Where each option stood on the labeler's screen; -1 = not known. */
static int position(struct json_object *shown, const char *name)
{
    for (size_t i = 0; shown && i < json_object_array_length(shown); i++)
        if (pd_str_eqz(pd_json_value_str(json_object_array_get_idx(shown, i)), name))
            return (int)i;
    return -1;
}

/* One judged ranking of two: who won, and was it the first shown, the longer? */
static void add_pair(struct derived *d, struct labeler *l, const struct pd_compare *c,
                     const struct pd_ranking *r, const struct pd_said *said,
                     const struct pd_bundle *b)
{
    if (r->both_bad)
        d->both_bad++;
    if (r->tier[0] == r->tier[1]) {
        d->ties += !r->both_bad;
        return;
    }
    int win = r->tier[0] < r->tier[1] ? 0 : 1;
    int p0 = position(said->shown, c->fields[win]), p1 = position(said->shown, c->fields[1 - win]);
    if (p0 >= 0 && p1 >= 0) {
        d->left_n++;
        d->left_won += p0 < p1;
        l->left_n++;
        l->left_won += p0 < p1;
    }
    size_t won = pd_json_str(b->fields, c->fields[win]).len;
    size_t lost = pd_json_str(b->fields, c->fields[1 - win]).len;
    if (won != lost) {
        d->longer_n++;
        d->longer_won += won > lost;
    }
}

/* Do two rankings order some two answers the opposite way? *same: no pair differs at all. */
static bool opposed(const struct pd_ranking *a, const struct pd_ranking *b, bool *same)
{
    bool against = false;
    *same = true;
    for (size_t i = 0; i < a->k && i < b->k; i++) {
        for (size_t j = i + 1; j < a->k && j < b->k; j++) {
            int x = (a->tier[i] > a->tier[j]) - (a->tier[i] < a->tier[j]);
            int y = (b->tier[i] > b->tier[j]) - (b->tier[i] < b->tier[j]);
            against |= x * y < 0;
            *same &= x == y;
        }
    }
    return against;
}

static void add_bundle(struct derived *d, const struct pd_compare *c, const struct pd_bundle *b)
{
    struct pd_ranking r[MAX_RECORD_SAID];
    size_t who[MAX_RECORD_SAID], n = 0;
    bool conflict = false;
    for (size_t i = 0; i < b->n_said; i++) {
        const struct pd_said *s = &b->said[i];
        if (s->status != PD_ANSWER_SUBMITTED && s->status != PD_ANSWER_DISCARDED)
            continue;
        struct labeler *l = labeler(d, s->labeler);
        d->judgments++;
        if (s->status == PD_ANSWER_DISCARDED) {
            l->discarded++;
            d->skipped++;
            continue;
        }
        l->submitted++;
        add_seconds(l, s->seconds);
        bool has = false;
        if (!c || n == MAX_RECORD_SAID || pd_compare_read(c, s, &r[n], &has, NULL) != PD_OK || !has)
            continue;
        if (r[n].k == 2)
            add_pair(d, l, c, &r[n], s, b);
        who[n++] = (size_t)(l - d->labelers);
    }
    d->shared += n >= 2;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = i + 1; j < n; j++) {
            bool same = false;
            conflict |= opposed(&r[i], &r[j], &same);
            d->labelers[who[i]].agree_n++;
            d->labelers[who[j]].agree_n++;
            d->labelers[who[i]].agree_same += same;
            d->labelers[who[j]].agree_same += same;
        }
    }
    if (conflict)
        (void)pd_map_put(&d->conflicts, pd_str_from(b->record), 1);
}

static enum pd_rc read_all(struct pd_store *store, struct derived *d, struct pd_err *err)
{
    struct pd_bundles *in = NULL;
    struct pd_bundle b;
    struct pd_compare compare;
    bool more = false;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_bundles_open_dataset(&in, store, d->dataset_id, err));
    bool compares = pd_compare_find(pd_bundles_head(in), NULL, &compare, NULL) == PD_OK;
    for (;;) {
        PD_TRY(pd_bundles_next(in, &b, &more, err));
        if (!more)
            break;
        add_bundle(d, compares ? &compare : NULL, &b);
    }
out:
    pd_bundles_close(in);
    return rc;
}

/* JSON of pref/agreement.h; NULL when it cannot be had. */
static char *agreement_json(struct pd_store *store, int64_t dataset_id)
{
    enum { ROUNDS = 200, SEED = 1 };
    struct pd_bundles *in = NULL;
    struct pd_agreement *g = pd_agreement_new();
    struct pd_buf b;
    struct pd_jw w;
    char *text = NULL;
    pd_buf_init(&b, 0);
    if (pd_bundles_open_dataset(&in, store, dataset_id, NULL) == PD_OK &&
        pd_agreement_add_bundles(g, in, NULL) == PD_OK) {
        pd_jw_init(&w, &b);
        pd_agreement_write(g, ROUNDS, SEED, &w);
        text = pd_buf_detach(&b);
    }
    pd_bundles_close(in);
    pd_agreement_free(g);
    pd_buf_release(&b);
    return text;
}

static int64_t stamp_of(struct pd_db *db, const struct pd_dataset *d, const struct pd_counts *c)
{
    (void)db;
    return d->last_activity_us * 31 + c->submitted * 7 + c->discarded * 3 + c->records;
}

/* The derived numbers, as fresh as they can be had; the lock is held. */
static enum pd_rc refresh(struct pd_api *api, const struct pd_dataset *d, int64_t stamp,
                          struct derived **out, struct pd_err *err)
{
    struct pd_overviews *o = api->overviews;
    size_t i = 0;
    while (i < o->n && o->items[i]->dataset_id != d->id)
        i++;
    if (i < o->n &&
        (o->items[i]->stamp == stamp || still_good(o->items[i]->made_us, o->items[i]->cost_us))) {
        *out = o->items[i];
        return PD_OK;
    }
    struct derived *fresh = pd_xalloc(sizeof *fresh);
    pd_map_init(&fresh->conflicts);
    fresh->dataset_id = d->id;
    fresh->stamp = stamp;
    fresh->made_us = pd_time_us();
    enum pd_rc rc = read_all(api->store, fresh, err);
    if (rc != PD_OK) {
        derived_free(fresh);
        return rc;
    }
    fresh->agreement = agreement_json(api->store, d->id);
    fresh->cost_us = pd_time_us() - fresh->made_us;
    fresh->made_us += fresh->cost_us;
    if (i == o->n && o->n == MAX_CACHED)
        i = 0;
    if (i == o->n)
        o->n++;
    else
        derived_free(o->items[i]);
    o->items[i] = fresh;
    *out = fresh;
    return PD_OK;
}

static struct derived *cached(struct pd_overviews *o, int64_t dataset_id)
{
    for (size_t i = 0; i < o->n; i++)
        if (o->items[i]->dataset_id == dataset_id)
            return o->items[i];
    return NULL;
}

int64_t pd_overview_conflicts(struct pd_api *api, int64_t dataset_id)
{
    if (pthread_mutex_trylock(&api->overviews->lock) != 0)
        return 0; /* a pass is running; a counter may lag behind, a labeler may not wait */
    struct derived *d = cached(api->overviews, dataset_id);
    int64_t n = d ? (int64_t)d->conflicts.len : 0;
    pthread_mutex_unlock(&api->overviews->lock);
    return n;
}

bool pd_overview_is_conflict(struct pd_api *api, int64_t dataset_id, const char *record_uuid)
{
    pthread_mutex_lock(&api->overviews->lock);
    struct derived *d = cached(api->overviews, dataset_id);
    bool is = d && pd_map_has(&d->conflicts, pd_str_from(record_uuid));
    pthread_mutex_unlock(&api->overviews->lock);
    return is;
}

/* ------------------------------------------------------------------ pairs */

/* A number that changes whenever the source's export may; snapshots never change. */
static enum pd_rc source_stamp(struct pd_api *api, const char *source, int64_t *stamp,
                               struct pd_err *err)
{
    struct pd_arena a;
    struct pd_db *db = NULL;
    struct pd_dataset d;
    struct pd_counts c;
    enum pd_rc rc = PD_OK;
    *stamp = 0;
    if (strlen(source) == 64)
        return PD_OK;
    pd_arena_init(&a);
    PD_TRY(pd_read_begin(api->store, &db, err));
    PD_TRY(pd_dataset_by_uuid(db, &a, pd_str_from(source), &d, err));
    PD_TRY(pd_dataset_counts(db, d.id, &c, err));
    *stamp = stamp_of(db, &d, &c);
out:
    pd_read_end(api->store, db);
    pd_arena_release(&a);
    return rc;
}

enum pd_rc pd_overview_pairs(struct pd_api *api, const char *source, struct pd_export_report *out,
                             struct pd_err *err)
{
    struct pd_overviews *o = api->overviews;
    const struct pd_export_options opt = {.format = "trl"};
    FILE *sink = NULL;
    int64_t stamp = 0;
    bool locked = false;
    enum pd_rc rc = PD_OK;
    PD_TRY(source_stamp(api, source, &stamp, err));
    pthread_mutex_lock(&o->lock);
    locked = true;
    for (size_t i = 0; i < o->n_pairs; i++) {
        struct pairs_entry *known = &o->pairs[i];
        bool good = known->stamp == stamp || still_good(known->made_us, known->cost_us);
        if (good && strcmp(known->source, source) == 0) {
            *out = known->report;
            goto out;
        }
    }
    sink = fopen("/dev/null", "we");
    if (!sink) {
        rc = PD_FAIL_SYS(err, PD_IO, "cannot open /dev/null");
        goto out;
    }
    *out = (struct pd_export_report){0};
    int64_t began = pd_time_us();
    rc = pd_export(api->store, &source, 1, &opt, sink, sink, out, err);
    if (rc == PD_INVALID || rc == PD_NOTFOUND) {
        *out = (struct pd_export_report){0}; /* no question that makes pairs */
        rc = PD_OK;
    }
    PD_TRY(rc);
    struct pairs_entry *e = &o->pairs[o->next_pairs];
    o->next_pairs = (o->next_pairs + 1) % MAX_CACHED;
    if (o->n_pairs < MAX_CACHED)
        o->n_pairs++;
    snprintf(e->source, sizeof e->source, "%s", source);
    e->stamp = stamp;
    e->made_us = pd_time_us();
    e->cost_us = e->made_us - began;
    e->report = *out;
out:
    if (locked)
        pthread_mutex_unlock(&o->lock);
    if (sink)
        (void)fclose(sink);
    return rc;
}

/* ------------------------------------------------------------------ writing */

/* Wilson's 95% interval. */
static void write_share(struct pd_jw *w, const char *key, int64_t k, int64_t n, int64_t min_n)
{
    pd_jw_key(w, key);
    if (n < min_n || n == 0) {
        pd_jw_null(w);
        return;
    }
    const double z = 1.959963984540054;
    double nn = (double)n, p = (double)k / nn, zz = z * z;
    double mid = (p + zz / (2 * nn)) / (1 + zz / nn);
    double half = z * sqrt(p * (1 - p) / nn + zz / (4 * nn * nn)) / (1 + zz / nn);
    pd_jw_object(w);
    pd_jw_ki64(w, "n", n);
    pd_jw_kf64(w, "share", p);
    pd_jw_key(w, "ci");
    pd_jw_array(w);
    pd_jw_f64(w, mid - half < 0 ? 0 : mid - half);
    pd_jw_f64(w, mid + half > 1 ? 1 : mid + half);
    pd_jw_array_end(w);
    pd_jw_object_end(w);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
    if (n == 0)
        return NAN;
    qsort(v, n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static double median_of_all(const struct derived *d)
{
    size_t n = 0;
    for (size_t i = 0; i < d->n_labelers; i++)
        n += d->labelers[i].n_seconds;
    double *all = pd_xalloc((n + 1) * sizeof *all);
    n = 0;
    for (size_t i = 0; i < d->n_labelers; i++)
        for (size_t k = 0; k < d->labelers[i].n_seconds; k++)
            all[n++] = d->labelers[i].seconds[k];
    double m = median(all, n);
    pd_free(all);
    return m;
}

static void write_facts(struct pd_jw *w, const struct derived *d, int64_t today)
{
    pd_jw_object(w);
    pd_jw_ki64(w, "judgments", d->judgments);
    pd_jw_ki64(w, "today", today);
    pd_jw_kf64(w, "median_seconds", median_of_all(d));
    write_share(w, "left", d->left_won, d->left_n, 5);
    write_share(w, "longer", d->longer_won, d->longer_n, 5);
    pd_jw_ki64(w, "ties", d->ties);
    pd_jw_ki64(w, "both_bad", d->both_bad);
    pd_jw_object_end(w);
}

/* ---- agreement */

struct measure {
    const char *name;    /* as the screens know it */
    const char *path[2]; /* in the agree operation's JSON */
    const char *ci;      /* key in "ci" */
};

static struct measure measure_of(struct json_object *q)
{
    struct pd_str kind = pd_json_str(q, "kind");
    struct json_object *alpha = pd_json_get(q, "krippendorff_alpha");
    if (pd_json_get(alpha, "ranking"))
        return (struct measure){
            "alpha_ranking", {"krippendorff_alpha", "ranking"}, "krippendorff_alpha.ranking"};
    if (pd_str_eqz(kind, "rating"))
        return (struct measure){
            "alpha_ordinal", {"krippendorff_alpha", "ordinal"}, "krippendorff_alpha.ordinal"};
    return (struct measure){
        "alpha_nominal", {"krippendorff_alpha", "nominal"}, "krippendorff_alpha.nominal"};
}

static void write_ci(struct pd_jw *w, struct json_object *ci)
{
    pd_jw_key(w, "ci");
    if (json_object_is_type(ci, json_type_array) && json_object_array_length(ci) == 2 &&
        json_object_array_get_idx(ci, 0) && json_object_array_get_idx(ci, 1))
        pd_jw_tree(w, ci);
    else
        pd_jw_null(w);
}

/* The list for the screen; *first gets the first question's value, and its interval's JSON. */
static void write_agreement(struct pd_jw *w, struct pd_arena *a, const struct derived *d,
                            struct pd_db *db, int64_t dataset_id, double *value,
                            struct json_object **ci)
{
    struct json_object *tree = pd_ui_parse(a, d->agreement);
    struct json_object *qs = pd_json_get(tree, "questions");
    struct pd_question *known = NULL;
    size_t n_known = 0,
           n = json_object_is_type(qs, json_type_array) ? json_object_array_length(qs) : 0;
    if (pd_question_load(db, a, dataset_id, &known, &n_known, NULL) != PD_OK)
        n_known = 0;
    *value = NAN;
    *ci = NULL;
    pd_jw_array(w);
    for (size_t i = 0; i < n; i++) {
        struct json_object *q = json_object_array_get_idx(qs, i);
        struct measure m = measure_of(q);
        double v = pd_json_f64(pd_json_get(q, m.path[0]), m.path[1], NAN);
        struct json_object *interval = pd_json_get(pd_json_get(q, "ci"), m.ci);
        const struct pd_question *title =
            pd_question_find(known, n_known, pd_json_str(q, "question"));
        if (i == 0) {
            *value = v;
            *ci = interval;
        }
        pd_jw_object(w);
        pd_jw_kstr(w, "question", pd_json_str(q, "question"));
        pd_jw_kstrz(w, "title", title ? title->title : NULL);
        pd_jw_kstrz(w, "measure", m.name);
        pd_jw_kf64(w, "value", v);
        write_ci(w, interval);
        pd_jw_kf64(w, "percent", pd_json_f64(q, "percent", NAN));
        pd_jw_ki64(w, "records", pd_json_i64(q, "records", 0));
        pd_jw_ki64(w, "labelers", pd_json_i64(q, "labelers", 0));
        pd_jw_object_end(w);
    }
    pd_jw_array_end(w);
}

/* ---- time left: what is open, at the pace of the last seven days' working hours */

static enum pd_rc write_eta(struct pd_jw *w, struct pd_db *db, const struct pd_dataset *d,
                            const struct pd_counts *c, const struct derived *v, struct pd_err *err)
{
    int64_t hour = 0;
    enum pd_rc rc =
        pd_dataset_submitted_since(db, d->id, pd_time_us() - (int64_t)3600 * 1000000, &hour, err);
    int64_t per_record = d->min_submitted > 0 ? d->min_submitted : 1;
    int64_t left = c->records * per_record - (c->submitted - c->surplus);
    double m = median_of_all(v), n = (double)(hour >= 5 ? hour : v->judgments);
    double seconds = hour >= 5 ? 3600.0 / (double)hour * (double)left : m * (double)left;
    pd_jw_key(w, "eta");
    if (rc != PD_OK || left <= 0 || n < 5 || !isfinite(seconds)) {
        pd_jw_null(w);
        return rc;
    }
    double band = 1.96 / sqrt(n);
    pd_jw_object(w);
    pd_jw_kf64(w, "seconds", seconds);
    pd_jw_kf64(w, "low", seconds / (1 + band));
    pd_jw_kf64(w, "high", band < 0.9 ? seconds / (1 - band) : seconds * 10);
    pd_jw_object_end(w);
    return rc;
}

/* ---- people */

static struct labeler *find_labeler(const struct derived *d, const char *name)
{
    for (size_t i = 0; i < d->n_labelers; i++)
        if (strcmp(d->labelers[i].name, name) == 0)
            return &d->labelers[i];
    return NULL;
}

static enum pd_rc write_labelers(struct pd_jw *w, struct pd_db *db, struct pd_arena *a,
                                 int64_t dataset_id, const struct derived *d, int64_t tz,
                                 struct pd_err *err)
{
    struct pd_user_counts *users = NULL;
    size_t n = 0;
    enum pd_rc rc = pd_dataset_user_counts(db, a, dataset_id, 0, &users, &n, err);
    pd_jw_key(w, "labelers");
    pd_jw_array(w);
    for (size_t i = 0; rc == PD_OK && i < n; i++) {
        struct labeler *l = find_labeler(d, users[i].username);
        struct pd_user u;
        int64_t today = 0;
        bool active = pd_user_get(db, a, users[i].user_id, &u, NULL) == PD_OK;
        rc = pd_judgment_count_since(db, dataset_id, users[i].user_id, pd_ui_midnight(tz), &today,
                                     err);
        double hours = (double)users[i].active_ms / 3.6e6;
        pd_jw_object(w);
        pd_jw_kuuid(w, "id", active ? u.uuid : NULL);
        pd_jw_kstrz(w, "username", users[i].username);
        pd_jw_ki64(w, "submitted", users[i].submitted);
        pd_jw_ki64(w, "today", today);
        pd_jw_ki64(w, "discarded", users[i].discarded);
        pd_jw_kf64(w, "per_hour", hours > 0 ? (double)users[i].submitted / hours : NAN);
        pd_jw_kf64(w, "median_seconds", l ? median(l->seconds, l->n_seconds) : NAN);
        pd_jw_kf64(w, "agreement",
                   l && l->agree_n ? (double)l->agree_same / (double)l->agree_n : NAN);
        write_share(w, "left", l ? l->left_won : 0, l ? l->left_n : 0, 5);
        pd_jw_ktime(w, "last_at", users[i].last_us);
        pd_jw_kbool(w, "active",
                    active && pd_time_us() - users[i].last_us < (int64_t)15 * 60 * 1000000);
        pd_jw_object_end(w);
    }
    pd_jw_array_end(w);
    return rc;
}

static void attention(struct pd_jw *w, const char *kind, int64_t n, double value,
                      const struct pd_user *user, const char *run)
{
    pd_jw_object(w);
    pd_jw_kstrz(w, "kind", kind);
    pd_jw_ki64(w, "n", n);
    if (isfinite(value))
        pd_jw_kf64(w, "value", value);
    if (user) {
        pd_jw_key(w, "user");
        pd_jw_object(w);
        pd_jw_kstrz(w, "id", user->uuid);
        pd_jw_kstrz(w, "username", user->username);
        pd_jw_object_end(w);
    }
    if (run)
        pd_jw_kstrz(w, "run", run);
    pd_jw_object_end(w);
}

static void labeler_attention(struct pd_jw *w, struct pd_db *db, struct pd_arena *a,
                              const struct labeler *l)
{
    struct pd_user u;
    double m = median(l->seconds, l->n_seconds);
    double left = l->left_n ? (double)l->left_won / (double)l->left_n : 0.5;
    double agree = l->agree_n ? (double)l->agree_same / (double)l->agree_n : 1;
    bool fast = l->n_seconds >= 10 && m < 3, low = l->agree_n >= 10 && agree < 0.5;
    bool side = l->left_n >= 20 && fabs(left - 0.5) > 1.96 * 0.5 / sqrt((double)l->left_n) + 0.1;
    if ((!fast && !side && !low) || pd_user_by_name(db, a, pd_str_from(l->name), &u, NULL) != PD_OK)
        return;
    if (low)
        attention(w, "low_agreement", l->agree_n, agree, &u, NULL);
    if (fast)
        attention(w, "fast", (int64_t)l->n_seconds, m, &u, NULL);
    if (side)
        attention(w, "side_bias", l->left_n, left, &u, NULL);
}

static enum pd_rc write_attention(struct pd_jw *w, struct pd_db *db, struct pd_arena *a,
                                  const struct pd_dataset *ds, const struct derived *d,
                                  const struct pd_job *jobs, size_t n_jobs, struct pd_err *err)
{
    int64_t flagged = 0;
    enum pd_rc rc = pd_dataset_flagged(db, ds->id, &flagged, err);
    pd_jw_key(w, "attention");
    pd_jw_array(w);
    if (d->conflicts.len)
        attention(w, "conflicts", (int64_t)d->conflicts.len, NAN, NULL, NULL);
    if (flagged)
        attention(w, "flagged", flagged, NAN, NULL, NULL);
    if (d->skipped)
        attention(w, "skipped", d->skipped, NAN, NULL, NULL);
    for (size_t i = 0; i < d->n_labelers; i++)
        labeler_attention(w, db, a, &d->labelers[i]);
    double longer = d->longer_n ? (double)d->longer_won / (double)d->longer_n : 0.5;
    if (d->longer_n >= 30 && fabs(longer - 0.5) > 0.25)
        attention(w, "length_bias", d->longer_n, longer, NULL, NULL);
    if (d->judgments >= 30 && d->shared == 0)
        attention(w, "no_overlap", d->judgments, NAN, NULL, NULL);
    if (n_jobs && jobs[0].state == PD_JOB_FAILED)
        attention(w, "job_failed", 1, NAN, NULL, jobs[0].uuid);
    pd_jw_array_end(w);
    return rc;
}

/* ---- the five steps of the loop */

static const struct pd_job *newest(const struct pd_job *jobs, size_t n, const char *kind,
                                   int64_t *count)
{
    const struct pd_job *best = NULL;
    *count = 0;
    for (size_t i = 0; i < n; i++) { /* newest first; a running one wins */
        if (strcmp(jobs[i].kind, kind) != 0)
            continue;
        ++*count;
        if (!best || (jobs[i].state == PD_JOB_RUNNING && best->state != PD_JOB_RUNNING))
            best = &jobs[i];
    }
    return best;
}

static const char *job_step(const struct pd_job *j)
{
    if (!j)
        return "empty";
    switch (j->state) {
    case PD_JOB_QUEUED:
    case PD_JOB_RUNNING:
    case PD_JOB_STOPPING:
        return "active";
    case PD_JOB_DONE:
        return "done";
    case PD_JOB_FAILED:
    case PD_JOB_INTERRUPTED:
        break;
    }
    return "failed";
}

static enum pd_rc write_job_step(struct pd_jw *w, const char *key, struct pd_req *req,
                                 struct pd_db *db, const struct pd_job *j, int64_t n,
                                 struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    pd_jw_key(w, key);
    pd_jw_object(w);
    pd_jw_kstrz(w, "state", job_step(j));
    pd_jw_key(w, "run");
    if (j)
        rc = pd_ui_run_head(w, &req->arena, pd_api_of(req), db, j, err);
    else
        pd_jw_null(w);
    pd_jw_ki64(w, "runs", n);
    pd_jw_object_end(w);
    return rc;
}

/* Names of the models that gave the answers, from the first records. */
static enum pd_rc write_models(struct pd_jw *w, struct pd_db *db, struct pd_arena *a,
                               int64_t dataset_id, struct pd_err *err)
{
    struct pd_record *recs = NULL;
    struct pd_map seen;
    size_t n = 0;
    enum pd_rc rc = pd_record_page(db, a, dataset_id, 0, 100, &recs, &n, err);
    pd_map_init(&seen);
    pd_jw_key(w, "models");
    pd_jw_array(w);
    for (size_t i = 0; rc == PD_OK && i < n; i++) {
        struct json_object *models = pd_json_get(pd_ui_parse(a, recs[i].hidden), "models");
        if (!json_object_is_type(models, json_type_object))
            continue;
        json_object_object_foreach(models, field, name)
        {
            (void)field;
            struct pd_str s = pd_json_value_str(name);
            if (s.len && pd_map_put(&seen, s, 1))
                pd_jw_str(w, s);
        }
    }
    pd_jw_array_end(w);
    pd_map_release(&seen);
    return rc;
}

static const char *next_step(const struct pd_counts *c, const struct pd_job *reward,
                             const struct pd_job *policy, int64_t pairs)
{
    const char *r = job_step(reward), *p = job_step(policy);
    if (c->records == 0)
        return "import";
    if (strcmp(p, "active") == 0)
        return "watch_policy";
    if (strcmp(r, "active") == 0)
        return "watch_reward";
    if (strcmp(p, "done") == 0 && (!reward || policy->created_us > reward->created_us))
        return "send";
    if (strcmp(r, "done") == 0)
        return "improve";
    if (c->completed < c->records)
        return "label";
    return pairs > 0 ? "train_reward" : "none";
}

struct scene {
    struct pd_req *req;
    struct pd_db *db;
    const struct pd_dataset *d;
    const struct pd_counts *c;
    const struct derived *v;
    const struct pd_job *jobs;
    size_t n_jobs;
    double agreement;
    struct json_object *agreement_ci;
};

static enum pd_rc write_steps(struct pd_jw *w, const struct scene *s, struct pd_err *err)
{
    struct pd_arena *a = &s->req->arena;
    struct pd_question *qs = NULL;
    const char **answers = NULL;
    size_t n_qs = 0, n_answers = 0;
    int64_t n_reward = 0, n_policy = 0;
    const struct pd_job *reward = newest(s->jobs, s->n_jobs, "train_reward", &n_reward);
    const struct pd_job *policy = newest(s->jobs, s->n_jobs, "improve", &n_policy);
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_question_load(s->db, a, s->d->id, &qs, &n_qs, err));
    PD_TRY(pd_ui_answers(s->db, a, s->d->id, qs, n_qs, &answers, &n_answers, err));
    pd_jw_key(w, "steps");
    pd_jw_object(w);
    pd_jw_key(w, "generate");
    pd_jw_object(w);
    pd_jw_kstrz(w, "state", s->c->records ? "done" : "empty");
    pd_jw_ki64(w, "prompts", s->c->records);
    pd_jw_ki64(w, "answers", s->c->records * (int64_t)(n_answers ? n_answers : 1));
    PD_TRY(write_models(w, s->db, a, s->d->id, err));
    pd_jw_object_end(w);
    pd_jw_key(w, "label");
    pd_jw_object(w);
    pd_jw_kstrz(w, "state",
                s->c->records == 0                 ? "empty"
                : s->c->completed >= s->c->records ? "done"
                                                   : "active");
    pd_jw_ki64(w, "done", s->c->completed);
    pd_jw_ki64(w, "records", s->c->records);
    pd_jw_object_end(w);
    pd_jw_key(w, "agree");
    pd_jw_object(w);
    pd_jw_kstrz(w, "state", isfinite(s->agreement) ? "done" : s->v->judgments ? "active" : "empty");
    pd_jw_kf64(w, "value", s->agreement);
    write_ci(w, s->agreement_ci);
    pd_jw_ki64(w, "conflicts", (int64_t)s->v->conflicts.len);
    pd_jw_object_end(w);
    PD_TRY(write_job_step(w, "reward", s->req, s->db, reward, n_reward, err));
    PD_TRY(write_job_step(w, "policy", s->req, s->db, policy, n_policy, err));
    pd_jw_object_end(w);
    pd_jw_kstrz(w, "next", next_step(s->c, reward, policy, s->v->judgments - s->v->skipped));
out:
    return rc;
}

static enum pd_rc write_overview(struct pd_req *req, struct pd_db *db, const struct pd_dataset *d,
                                 const struct pd_counts *c, const struct derived *v, int64_t tz,
                                 struct pd_err *err)
{
    struct pd_job *jobs = NULL;
    struct scene s = {.req = req, .db = db, .d = d, .c = c, .v = v};
    int64_t today = 0;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_job_list(db, &req->arena, d->id, 200, &jobs, &s.n_jobs, err));
    s.jobs = jobs;
    PD_TRY(pd_dataset_submitted_since(db, d->id, pd_ui_midnight(tz), &today, err));
    struct pd_jw *w = pd_resp_json(req, 200);
    pd_jw_object(w);
    pd_jw_key(w, "counts");
    PD_TRY(pd_ui_counts_given(w, db, d, c, (int64_t)v->conflicts.len, tz, err));
    pd_jw_key(w, "facts");
    write_facts(w, v, today);
    pd_jw_key(w, "agreement");
    write_agreement(w, &req->arena, v, db, d->id, &s.agreement, &s.agreement_ci);
    PD_TRY(write_eta(w, db, d, c, v, err));
    PD_TRY(write_labelers(w, db, &req->arena, d->id, v, tz, err));
    PD_TRY(write_attention(w, db, &req->arena, d, v, jobs, s.n_jobs, err));
    PD_TRY(write_steps(w, &s, err));
    pd_jw_ktime(w, "as_of", d->last_activity_us);
    pd_jw_object_end(w);
out:
    return rc;
}

static enum pd_rc overview(struct pd_req *req, struct pd_err *err)
{
    struct pd_api *api = pd_api_of(req);
    struct pd_dataset d;
    struct pd_counts c;
    struct pd_db *db;
    struct derived *v = NULL;
    int64_t tz = 0;
    bool locked = false;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_query_i64(req, "tz", -1440, 1440, 0, &tz, err));
    PD_TRY(pd_api_dataset(req, "id", PD_NEED_LEAD, &d, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_dataset_counts(db, d.id, &c, err));
    int64_t stamp = stamp_of(db, &d, &c);
    pd_api_read_end(req);
    pthread_mutex_lock(&api->overviews->lock);
    locked = true;
    PD_TRY(refresh(api, &d, stamp, &v, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(write_overview(req, db, &d, &c, v, tz, err));
    pd_resp_etag(req);
out:
    if (locked)
        pthread_mutex_unlock(&api->overviews->lock);
    return rc;
}

static const struct pd_route rows[] = {
    {PD_GET, "/ui/datasets/{id}/overview", overview, PD_MAY_LEAD, PD_DOOR_UI, 0, PD_ROUTE_STREAM,
     "the lead's home"},
};
PD_ROUTE_TABLE(pd_routes_overview, rows);
