/* Collecting judgments by question, then the measures with their intervals. */
#include "pref/agreement.h"
#include "base/fs.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/rng.h"
#include "pref/agree.h"

#include <math.h>
#include <stdlib.h>

enum kind { LABEL, NUMBER, PAIR, RANKING };
static const char *const kind_names[] = {"label", "rating", "pairwise", "ranking"};
enum { MAX_TIERS = 26, MAX_PAIR_RATERS = 40 };

struct vote {
    int unit, rater, value;
};
struct question {
    char *name;
    enum kind kind;
    struct pd_map units, raters, values; /* text -> index */
    struct pd_map cells;                 /* (unit, rater) -> position in votes */
    struct vote *votes;
    size_t n_votes, cap;
    size_t k; /* RANKING: how many answers */
};
struct pd_agreement {
    struct pd_map index; /* name -> position */
    struct question *qs;
};

struct pd_agreement *pd_agreement_new(void)
{
    struct pd_agreement *g = pd_xalloc(sizeof *g);
    pd_map_init(&g->index);
    return g;
}

void pd_agreement_free(struct pd_agreement *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < g->index.len; i++) {
        struct question *q = &g->qs[i];
        pd_map_release(&q->units);
        pd_map_release(&q->raters);
        pd_map_release(&q->values);
        pd_map_release(&q->cells);
        pd_free(q->votes);
        pd_free(q->name);
    }
    pd_free(g->qs);
    pd_map_release(&g->index);
    pd_free(g);
}

static struct question *question_named(struct pd_agreement *g, struct pd_str name, enum kind kind)
{
    int64_t at = 0;
    if (pd_map_get(&g->index, name, &at))
        return &g->qs[at];
    size_t n = g->index.len;
    g->qs = pd_xrealloc(g->qs, (n + 1) * sizeof *g->qs);
    g->qs[n] = (struct question){.name = pd_xstrndup(name.ptr, name.len), .kind = kind};
    pd_map_init(&g->qs[n].units);
    pd_map_init(&g->qs[n].raters);
    pd_map_init(&g->qs[n].values);
    pd_map_init(&g->qs[n].cells);
    pd_map_put(&g->index, name, (int64_t)n);
    return &g->qs[n];
}

static int index_in(struct pd_map *m, struct pd_str key)
{
    int64_t at = (int64_t)m->len;
    if (!pd_map_get(m, key, &at))
        pd_map_put(m, key, at);
    return (int)at;
}

/* The last answer of a labeler on a record stands. */
static void add_vote(struct question *q, struct pd_str unit, struct pd_str rater,
                     struct pd_str value)
{
    struct vote v = {index_in(&q->units, unit), index_in(&q->raters, rater),
                     index_in(&q->values, value)};
    int64_t at = (int64_t)q->n_votes;
    struct pd_str key = {(const char *)&v, 2 * sizeof(int)};
    if (pd_map_get(&q->cells, key, &at)) {
        q->votes[at] = v;
        return;
    }
    pd_map_put(&q->cells, key, at);
    if (q->n_votes == q->cap) {
        q->cap = q->cap ? q->cap * 2 : 64;
        q->votes = pd_xrealloc(q->votes, q->cap * sizeof *q->votes);
    }
    q->votes[q->n_votes++] = v;
}

/* ---- from bundles ---- */

static void tiers_key(const struct pd_ranking *r, struct pd_buf *out)
{
    pd_buf_clear(out);
    for (size_t i = 0; i < r->k; i++)
        pd_buf_addc(out, (char)('A' + r->tier[i]));
}

static bool kind_of(const struct pd_question *q, enum kind *out)
{
    switch (q->type) {
    case PD_QUESTION_RATING:
        *out = NUMBER;
        return true;
    case PD_QUESTION_LABEL:
    case PD_QUESTION_MULTI_LABEL:
        *out = LABEL;
        return true;
    case PD_QUESTION_RANKING:
        *out = q->n_options == 2 ? PAIR : RANKING;
        return q->n_options <= MAX_TIERS;
    case PD_QUESTION_TEXT:
    case PD_QUESTION_SPAN:
        break;
    }
    return false;
}

static enum pd_rc add_said(struct pd_agreement *g, const struct pd_question *q, struct pd_str unit,
                           const struct pd_said *s, struct pd_buf *key, struct pd_err *err)
{
    enum kind kind;
    struct json_object *entry = pd_json_get(s->values, q->name);
    if (s->status != PD_ANSWER_SUBMITTED || !entry || !kind_of(q, &kind))
        return PD_OK;
    struct question *to = question_named(g, pd_str_from(q->name), kind);
    pd_buf_clear(key);
    if (q->type == PD_QUESTION_RANKING) {
        struct pd_ranking r = {0};
        enum pd_rc rc = pd_ranking_parse(q->options, q->n_options, entry, &r, err);
        if (rc != PD_OK)
            return rc;
        to->k = r.k;
        tiers_key(&r, key);
    } else {
        pd_buf_adds(key, json_object_to_json_string_ext(pd_json_get(entry, "value"),
                                                        JSON_C_TO_STRING_PLAIN));
    }
    add_vote(to, unit, pd_str_from(s->labeler), pd_buf_str(key));
    return PD_OK;
}

enum pd_rc pd_agreement_add_bundles(struct pd_agreement *g, struct pd_bundles *src,
                                    struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct pd_bundle_head *h = pd_bundles_head(src);
    struct pd_bundle b;
    struct pd_buf key;
    bool more = false;
    pd_buf_init(&key, 0);
    for (;;) {
        PD_TRY(pd_bundles_next(src, &b, &more, err));
        if (!more)
            break;
        for (size_t i = 0; i < b.n_said; i++)
            for (size_t k = 0; k < h->n_questions; k++)
                PD_TRY(add_said(g, &h->questions[k], pd_str_from(b.record), &b.said[i], &key, err));
    }
out:
    pd_buf_release(&key);
    return rc;
}

/* ---- from judgments.jsonl ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* [["b"],["a","c"]] -> the tiers of the answers in name order; 0 when it is no such list. */
static size_t read_tiers(struct json_object *value, struct pd_ranking *r)
{
    const char *names[MAX_TIERS], *sorted[MAX_TIERS];
    int tier[MAX_TIERS];
    size_t k = 0;
    if (!json_object_is_type(value, json_type_array))
        return 0;
    for (size_t t = 0; t < json_object_array_length(value); t++) {
        struct json_object *list = json_object_array_get_idx(value, t);
        if (!json_object_is_type(list, json_type_array))
            return 0;
        for (size_t i = 0; i < json_object_array_length(list) && k < MAX_TIERS; i++) {
            names[k] = json_object_get_string(json_object_array_get_idx(list, i));
            if (!names[k])
                return 0;
            tier[k++] = (int)t;
        }
    }
    memcpy(sorted, names, k * sizeof *names);
    qsort(sorted, k, sizeof *sorted, by_name);
    *r = (struct pd_ranking){.k = k, .strength = -1};
    for (size_t i = 0; i < k; i++)
        for (size_t j = 0; j < k; j++)
            if (strcmp(sorted[i], names[j]) == 0)
                r->tier[i] = tier[j];
    return k;
}

static enum pd_rc add_row(struct pd_agreement *g, struct json_object *row, struct pd_buf *key,
                          struct pd_err *err)
{
    struct json_object *value = pd_json_get(row, "value"), *record = pd_json_get(row, "record");
    struct pd_str labeler, question = pd_json_str(row, "question");
    struct pd_str status = pd_json_str(row, "status");
    struct pd_ranking r = {0};
    enum pd_rc rc = pd_json_need_str(row, "labeler", &labeler, err);
    if (rc != PD_OK)
        return rc;
    if (!record)
        return PD_FAIL(err, PD_INVALID, "\"record\" is missing");
    if (!value || (status.ptr && !pd_str_eqz(status, "submitted")))
        return PD_OK;
    size_t k = read_tiers(value, &r);
    enum kind kind = k > 2    ? RANKING
                     : k == 2 ? PAIR
                     : json_object_is_type(value, json_type_string) ||
                             json_object_is_type(value, json_type_array)
                         ? LABEL
                         : NUMBER;
    struct question *q = question_named(g, question.ptr ? question : PD_STR("value"), kind);
    if (q->kind != kind || (kind == RANKING && q->k && q->k != k))
        return PD_FAIL(err, PD_INVALID, "question %s: a %s value among %s values", q->name,
                       kind_names[kind], kind_names[q->kind]);
    if (k) {
        q->k = k;
        tiers_key(&r, key);
    } else {
        pd_buf_clear(key);
        pd_buf_adds(key, json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN));
    }
    add_vote(q, pd_str_from(json_object_get_string(record)), labeler, pd_buf_str(key));
    return PD_OK;
}

enum pd_rc pd_agreement_add_file(struct pd_agreement *g, const char *path, const char *name,
                                 struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_lines *lines = NULL;
    struct json_object *row = NULL;
    struct pd_buf key;
    struct pd_str line = {0};
    bool more = false;
    pd_buf_init(&key, 0);
    PD_TRY(pd_lines_open(&lines, path, (size_t)64 << 20, err));
    for (;;) {
        PD_TRY(pd_lines_next(lines, &line, &more, err));
        if (!more)
            break;
        if (!pd_str_trim(line).len)
            continue;
        rc = pd_json_parse(line, &row, err);
        if (rc == PD_OK)
            rc = add_row(g, row, &key, err);
        if (rc != PD_OK) {
            pd_err_prefix(err, "%s:%zu", name, pd_lines_number(lines));
            goto out;
        }
        json_object_put(row);
        row = NULL;
    }
out:
    json_object_put(row);
    pd_buf_release(&key);
    pd_lines_close(lines);
    return rc;
}

/* ---- measures of one question ---- */

struct study {
    const struct question *q;
    struct pd_agree_table table; /* patterns, several units each */
    size_t *pattern;             /* of each unit */
    double *number, *distance;
    int *order; /* value index as collected -> index used here (numbers ascending) */
    size_t n_units;
};

struct ranked_number {
    double x;
    int at;
};

static int by_number(const void *a, const void *b)
{
    double x = ((const struct ranked_number *)a)->x, y = ((const struct ranked_number *)b)->x;
    return (x > y) - (x < y);
}

/* Numbers are put in order, so that ordinal distances mean something. */
static void order_values(struct study *s)
{
    const struct pd_map *m = &s->q->values;
    struct ranked_number *list = pd_xalloc((m->len + 1) * sizeof *list);
    s->order = pd_xalloc((m->len + 1) * sizeof *s->order);
    s->number = pd_xalloc((m->len + 1) * sizeof *s->number);
    for (size_t i = 0; i < m->len; i++)
        list[i] = (struct ranked_number){
            s->q->kind == NUMBER ? strtod(m->entries[i].key, NULL) : (double)i, (int)i};
    qsort(list, m->len, sizeof *list, by_number);
    for (size_t i = 0; i < m->len; i++) {
        s->order[list[i].at] = (int)i;
        s->number[i] = list[i].x;
    }
    pd_free(list);
    if (s->q->kind != RANKING)
        return;
    s->distance = pd_xalloc(m->len * m->len * sizeof *s->distance);
    for (size_t i = 0; i < m->len; i++)
        for (size_t j = 0; j < m->len; j++) {
            int a[MAX_TIERS], b[MAX_TIERS];
            for (size_t t = 0; t < s->q->k; t++) {
                a[t] = (unsigned char)m->entries[i].key[t];
                b[t] = (unsigned char)m->entries[j].key[t];
            }
            s->distance[i * m->len + j] = pd_kendall_distance(a, b, s->q->k);
        }
}

struct said_of_unit {
    int *values;
    size_t n;
};

static int by_int(const void *a, const void *b)
{
    return (*(const int *)a > *(const int *)b) - (*(const int *)a < *(const int *)b);
}

/* Units that were judged the same way are one pattern. */
static void find_patterns(struct study *s)
{
    const struct question *q = s->q;
    struct said_of_unit *units = pd_xalloc((q->units.len + 1) * sizeof *units);
    int *pool = pd_xalloc((q->n_votes + 1) * sizeof *pool), *at = pool;
    struct pd_map seen;
    size_t n = 0;
    struct pd_agree_table *t = &s->table;
    s->n_units = q->units.len;
    s->pattern = pd_xalloc((s->n_units + 1) * sizeof *s->pattern);
    for (size_t i = 0; i < q->n_votes; i++)
        units[q->votes[i].unit].n++;
    for (size_t u = 0; u < s->n_units; u++) {
        units[u].values = at;
        at += units[u].n;
        units[u].n = 0;
    }
    for (size_t i = 0; i < q->n_votes; i++) {
        struct said_of_unit *u = &units[q->votes[i].unit];
        u->values[u->n++] = s->order[q->votes[i].value];
    }
    pd_map_init(&seen);
    t->start = pd_xalloc((s->n_units + 1) * sizeof *t->start);
    t->value = pd_xalloc((q->n_votes + 1) * sizeof *t->value);
    t->count = pd_xalloc((q->n_votes + 1) * sizeof *t->count);
    t->weight = pd_xalloc((s->n_units + 1) * sizeof *t->weight);
    for (size_t u = 0; u < s->n_units; u++) {
        struct pd_str key = {(const char *)units[u].values, units[u].n * sizeof(int)};
        int64_t p = (int64_t)t->t.n_patterns;
        qsort(units[u].values, units[u].n, sizeof(int), by_int);
        if (!pd_map_get(&seen, key, &p)) {
            pd_map_put(&seen, key, p);
            t->start[t->t.n_patterns++] = n;
            for (size_t i = 0; i < units[u].n; i++) {
                if (i == 0 || units[u].values[i] != units[u].values[i - 1]) {
                    t->value[n] = units[u].values[i];
                    t->count[n++] = 0;
                }
                t->count[n - 1]++;
            }
        }
        s->pattern[u] = (size_t)p;
        t->weight[p]++;
    }
    t->start[t->t.n_patterns] = n;
    t->t =
        (struct pd_agree){q->values.len, t->t.n_patterns, t->start, t->value, t->count, t->weight};
    pd_map_release(&seen);
    pd_free(pool);
    pd_free(units);
}

static void study_release(struct study *s)
{
    pd_agree_table_release(&s->table);
    pd_free(s->pattern);
    pd_free(s->number);
    pd_free(s->distance);
    pd_free(s->order);
}

/* The measures in the order in which they are written. */
enum measure { PERCENT, FLEISS, AC1, NOMINAL, ORDINAL, INTERVAL, KENDALL, COHEN, N_MEASURES };
static const char *const ci_names[] = {"percent",
                                       "fleiss_kappa",
                                       "gwet_ac1",
                                       "krippendorff_alpha.nominal",
                                       "krippendorff_alpha.ordinal",
                                       "krippendorff_alpha.interval",
                                       "krippendorff_alpha.ranking",
                                       "cohen_kappa"};

static bool applies(const struct study *s, enum measure m)
{
    if (m == KENDALL)
        return s->q->kind == RANKING;
    if (m == ORDINAL || m == INTERVAL)
        return s->q->kind == NUMBER;
    if (m == COHEN)
        return s->q->raters.len == 2;
    return m != NOMINAL || s->q->kind != RANKING;
}

/* Two labelers: their table over the units in `times` (NULL: each once). */
static double cohen(const struct study *s, int a, int b, const double *times, double *n,
                    double *percent)
{
    const struct question *q = s->q;
    size_t k = q->values.len;
    double *counts = pd_xalloc((k * k + 1) * sizeof *counts), same = 0;
    int *first = pd_xalloc((s->n_units + 1) * sizeof *first);
    for (size_t i = 0; i < q->n_votes; i++)
        if (q->votes[i].rater == a)
            first[q->votes[i].unit] = s->order[q->votes[i].value] + 1;
    *n = 0;
    for (size_t i = 0; i < q->n_votes; i++) {
        int u = q->votes[i].unit;
        if (q->votes[i].rater != b || !first[u])
            continue;
        double w = times ? times[u] : 1;
        counts[(size_t)(first[u] - 1) * k + (size_t)s->order[q->votes[i].value]] += w;
        *n += w;
    }
    for (size_t i = 0; i < k; i++)
        same += counts[i * k + i];
    *percent = *n > 0 ? same / *n : NAN;
    double kappa = pd_agree_kappa(counts, k, 0);
    pd_free(first);
    pd_free(counts);
    return kappa;
}

static double measure(const struct study *s, enum measure m, const double *times)
{
    const struct pd_agree *t = &s->table.t;
    double n, percent;
    switch (m) {
    case PERCENT:
        return pd_agree_percent(t);
    case FLEISS:
        return pd_agree_fleiss(t);
    case AC1:
        return pd_agree_ac1(t);
    case NOMINAL:
        return pd_agree_alpha(t, PD_ALPHA_NOMINAL, NULL, NULL);
    case ORDINAL:
        return pd_agree_alpha(t, PD_ALPHA_ORDINAL, s->number, NULL);
    case INTERVAL:
        return pd_agree_alpha(t, PD_ALPHA_INTERVAL, s->number, NULL);
    case KENDALL:
        return pd_agree_alpha(t, PD_ALPHA_GIVEN, NULL, s->distance);
    case COHEN:
        return cohen(s, 0, 1, times, &n, &percent);
    case N_MEASURES:
        break;
    }
    return NAN;
}

static int by_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Percentiles 2.5 and 97.5 of the defined values; few defined ones give none. */
static void write_interval(struct pd_jw *w, const char *name, double *v, size_t n)
{
    size_t len = 0;
    for (size_t i = 0; i < n; i++)
        if (!isnan(v[i]))
            v[len++] = v[i];
    pd_jw_key(w, name);
    if (len < n / 2 || len < 2) {
        pd_jw_null(w);
        return;
    }
    qsort(v, len, sizeof *v, by_double);
    pd_jw_array(w);
    pd_jw_f64(w, v[(size_t)(0.025 * (double)(len - 1) + 0.5)]);
    pd_jw_f64(w, v[(size_t)(0.975 * (double)(len - 1) + 0.5)]);
    pd_jw_array_end(w);
}

static void bootstrap(struct study *s, int rounds, uint64_t seed, struct pd_jw *w)
{
    double *values = pd_xalloc((size_t)rounds * N_MEASURES * sizeof *values);
    double *times = pd_xalloc((s->n_units + 1) * sizeof *times);
    double *kept = s->table.weight;
    double *weight = pd_xalloc((s->table.t.n_patterns + 1) * sizeof *weight);
    struct pd_rng rng;
    pd_rng_seed(&rng, seed, 0);
    s->table.t.weight = weight;
    for (int r = 0; r < rounds; r++) {
        memset(weight, 0, s->table.t.n_patterns * sizeof *weight);
        memset(times, 0, s->n_units * sizeof *times);
        for (size_t i = 0; i < s->n_units; i++) {
            size_t u = pd_rng_below(&rng, s->n_units);
            weight[s->pattern[u]]++;
            times[u]++;
        }
        for (int m = 0; m < N_MEASURES; m++)
            if (applies(s, (enum measure)m))
                values[(size_t)m * (size_t)rounds + (size_t)r] = measure(s, (enum measure)m, times);
    }
    s->table.t.weight = kept;
    pd_jw_key(w, "ci");
    pd_jw_object(w);
    for (int m = 0; m < N_MEASURES; m++)
        if (applies(s, (enum measure)m))
            write_interval(w, ci_names[m], values + (size_t)m * (size_t)rounds, (size_t)rounds);
    pd_jw_object_end(w);
    pd_free(weight);
    pd_free(times);
    pd_free(values);
}

static void write_pairs(const struct study *s, struct pd_jw *w)
{
    const struct pd_map *raters = &s->q->raters;
    pd_jw_key(w, "pairs");
    pd_jw_array(w);
    for (size_t a = 0; a < raters->len && raters->len <= MAX_PAIR_RATERS; a++)
        for (size_t b = a + 1; b < raters->len; b++) {
            double n = 0, percent = NAN;
            double kappa = cohen(s, (int)a, (int)b, NULL, &n, &percent);
            if (n == 0)
                continue;
            pd_jw_object(w);
            pd_jw_kstrz(w, "a", raters->entries[a].key);
            pd_jw_kstrz(w, "b", raters->entries[b].key);
            pd_jw_ki64(w, "n", (int64_t)n);
            pd_jw_kf64(w, "percent", percent);
            pd_jw_kf64(w, "kappa", kappa);
            pd_jw_object_end(w);
        }
    pd_jw_array_end(w);
}

/* Records that two or more people judged. */
static int64_t shared_units(const struct study *s)
{
    int64_t n = 0;
    for (size_t p = 0; p < s->table.t.n_patterns; p++) {
        int m = 0;
        for (size_t e = s->table.t.start[p]; e < s->table.t.start[p + 1]; e++)
            m += s->table.t.count[e];
        n += m >= 2 ? (int64_t)s->table.t.weight[p] : 0;
    }
    return n;
}

static void write_question(const struct question *q, int rounds, uint64_t seed, struct pd_jw *w)
{
    struct study s = {.q = q};
    order_values(&s);
    find_patterns(&s);
    pd_jw_object(w);
    pd_jw_kstrz(w, "question", q->name);
    pd_jw_kstrz(w, "kind", kind_names[q->kind]);
    pd_jw_ki64(w, "records", (int64_t)q->units.len);
    pd_jw_ki64(w, "shared", shared_units(&s));
    pd_jw_ki64(w, "labelers", (int64_t)q->raters.len);
    pd_jw_ki64(w, "judgments", (int64_t)q->n_votes);
    pd_jw_kf64(w, "percent", measure(&s, PERCENT, NULL));
    if (applies(&s, COHEN))
        pd_jw_kf64(w, "cohen_kappa", measure(&s, COHEN, NULL));
    pd_jw_kf64(w, "fleiss_kappa", measure(&s, FLEISS, NULL));
    pd_jw_kf64(w, "gwet_ac1", measure(&s, AC1, NULL));
    pd_jw_key(w, "krippendorff_alpha");
    pd_jw_object(w);
    if (q->kind == RANKING) {
        pd_jw_kf64(w, "ranking", measure(&s, KENDALL, NULL));
    } else {
        pd_jw_kf64(w, "nominal", measure(&s, NOMINAL, NULL));
        pd_jw_kf64(w, "ordinal", q->kind == NUMBER ? measure(&s, ORDINAL, NULL) : NAN);
        pd_jw_kf64(w, "interval", q->kind == NUMBER ? measure(&s, INTERVAL, NULL) : NAN);
    }
    pd_jw_object_end(w);
    if (rounds > 0)
        bootstrap(&s, rounds, seed, w);
    write_pairs(&s, w);
    pd_jw_object_end(w);
    study_release(&s);
}

void pd_agreement_write(const struct pd_agreement *g, int rounds, uint64_t seed, struct pd_jw *w)
{
    pd_jw_object(w);
    pd_jw_key(w, "questions");
    pd_jw_array(w);
    for (size_t i = 0; i < g->index.len; i++)
        write_question(&g->qs[i], rounds, seed, w);
    pd_jw_array_end(w);
    pd_jw_object_end(w);
}
