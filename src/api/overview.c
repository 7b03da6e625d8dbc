#include "api/overview_int.h"

#include "base/mem.h"
#include "base/time.h"
#include "pref/agreement.h"

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

struct pairs_entry {
    char source[80];
    int64_t stamp, made_us, cost_us;
    struct pd_export_report report;
};

struct pd_overviews {
    pthread_mutex_t lock; /* held while computing too: one pass at a time */
    struct pd_overview *items[MAX_CACHED];
    size_t n;
    struct pairs_entry pairs[MAX_CACHED];
    size_t n_pairs, next_pairs;
};

static void derived_free(struct pd_overview *d)
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

static struct pd_overview_labeler *labeler(struct pd_overview *d, const char *name)
{
    for (size_t i = 0; i < d->n_labelers; i++)
        if (strcmp(d->labelers[i].name, name) == 0)
            return &d->labelers[i];
    if (d->n_labelers == d->cap_labelers) {
        d->cap_labelers = d->cap_labelers ? d->cap_labelers * 2 : 8;
        d->labelers = pd_xrealloc(d->labelers, d->cap_labelers * sizeof *d->labelers);
    }
    struct pd_overview_labeler *l = &d->labelers[d->n_labelers++];
    *l = (struct pd_overview_labeler){0};
    snprintf(l->name, sizeof l->name, "%s", name);
    return l;
}

static void add_seconds(struct pd_overview_labeler *l, double s)
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
static void add_pair(struct pd_overview *d, struct pd_overview_labeler *l,
                     const struct pd_compare *c, const struct pd_ranking *r,
                     const struct pd_said *said, const struct pd_bundle *b)
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

static void add_bundle(struct pd_overview *d, const struct pd_compare *c, const struct pd_bundle *b)
{
    struct pd_ranking r[MAX_RECORD_SAID];
    size_t who[MAX_RECORD_SAID], n = 0;
    bool conflict = false;
    for (size_t i = 0; i < b->n_said; i++) {
        const struct pd_said *s = &b->said[i];
        if (s->status != PD_ANSWER_SUBMITTED && s->status != PD_ANSWER_DISCARDED)
            continue;
        struct pd_overview_labeler *l = labeler(d, s->labeler);
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

static enum pd_rc read_all(struct pd_store *store, struct pd_overview *d, struct pd_err *err)
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

static int64_t stamp_of(const struct pd_dataset *d, const struct pd_counts *c)
{
    return d->last_activity_us * 31 + c->submitted * 7 + c->discarded * 3 + c->records;
}

/* The derived numbers, as fresh as they can be had; the lock is held. */
static enum pd_rc refresh(struct pd_api *api, const struct pd_dataset *d, int64_t stamp,
                          struct pd_overview **out, struct pd_err *err)
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
    struct pd_overview *fresh = pd_xalloc(sizeof *fresh);
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

enum pd_rc pd__overview_take(struct pd_api *api, const struct pd_dataset *d,
                             const struct pd_counts *c, struct pd_overview **out,
                             struct pd_err *err)
{
    pthread_mutex_lock(&api->overviews->lock);
    enum pd_rc rc = refresh(api, d, stamp_of(d, c), out, err);
    if (rc != PD_OK)
        pthread_mutex_unlock(&api->overviews->lock);
    return rc;
}

void pd__overview_give(struct pd_api *api)
{
    pthread_mutex_unlock(&api->overviews->lock);
}

static struct pd_overview *cached(struct pd_overviews *o, int64_t dataset_id)
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
    struct pd_overview *d = cached(api->overviews, dataset_id);
    int64_t n = d ? (int64_t)d->conflicts.len : 0;
    pthread_mutex_unlock(&api->overviews->lock);
    return n;
}

bool pd_overview_is_conflict(struct pd_api *api, int64_t dataset_id, const char *record_uuid)
{
    pthread_mutex_lock(&api->overviews->lock);
    struct pd_overview *d = cached(api->overviews, dataset_id);
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
    *stamp = stamp_of(&d, &c);
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
