/* Exports. One walk over the bundles of all sources (merged when there are several); a writer a
 * format. Formats that hold preferences share the vote; what they leave out is counted by reason.
 */
#include "pref/export.h"
#include "base/crypt.h"
#include "base/csv.h"
#include "base/map.h"
#include "base/mem.h"

const char pd_export_formats[] = "trl|trl-unpaired|hh|raw|csv";

struct exporter {
    const struct pd_export_options *o;
    FILE *out, *notes;
    struct pd_export_report *report;
    const struct pd_bundle_head *head;
    struct pd_compare compare;
    struct pd_buf line;
    struct pd_map orders; /* how often each ordering was given */
};

typedef enum pd_rc write_fn(struct exporter *x, const struct pd_bundle *b, struct pd_err *err);

static enum pd_rc flush_line(struct exporter *x, struct pd_err *err)
{
    if (x->line.failed)
        return PD_FAIL(err, PD_TOOBIG, "a row of the export is too large");
    pd_buf_addc(&x->line, '\n');
    if (fwrite(x->line.ptr, 1, x->line.len, x->out) != x->line.len)
        return PD_FAIL_SYS(err, PD_IO, "cannot write the export");
    pd_buf_clear(&x->line);
    x->report->rows++;
    return PD_OK;
}

/* ---- votes ---- */

enum { MAX_PAIRS = 26 * 25 / 2 };
struct votes {
    struct pd_vote pair[MAX_PAIRS]; /* in the order of pd_ranking_rows */
    size_t n_pairs, judgments;
};

static size_t pair_index(size_t k, int i, int j)
{
    size_t a = (size_t)i, b = (size_t)j;
    return a * k - a * (a + 1) / 2 + (b - a - 1);
}

static void count_order(struct exporter *x, const struct pd_ranking *r)
{
    char key[27 * 3];
    int64_t n = 0;
    for (size_t i = 0; i < r->k; i++)
        key[i] = (char)('a' + r->tier[i] + 1);
    struct pd_str s = {key, r->k};
    (void)pd_map_get(&x->orders, s, &n);
    pd_map_put(&x->orders, s, n + 1);
    x->report->orders++;
}

static enum pd_rc collect(struct exporter *x, const struct pd_bundle *b, struct votes *v,
                          struct pd_err *err)
{
    struct pd_pair_row rows[MAX_PAIRS];
    const struct pd_compare *c = &x->compare;
    *v = (struct votes){.n_pairs = c->k * (c->k - 1) / 2};
    for (size_t i = 0; i < b->n_said; i++) {
        struct pd_ranking r;
        bool has = false;
        enum pd_rc rc = pd_compare_read(c, &b->said[i], &r, &has, err);
        if (rc != PD_OK)
            return pd_err_prefix(err, "record %s", b->record);
        if (!has)
            continue;
        count_order(x, &r);
        v->judgments++;
        size_t n = pd_ranking_rows(&r, 0, i, NULL, rows);
        for (size_t k = 0; k < n; k++) {
            struct pd_vote *p = &v->pair[pair_index(c->k, rows[k].i, rows[k].j)];
            pd_vote_add(p, &rows[k]);
            p->both_bad += r.both_bad && rows[k].y == 0.5;
        }
    }
    x->report->judgments += (int64_t)v->judgments;
    return PD_OK;
}

/* ---- one pair ---- */

struct choice {
    size_t chosen, rejected; /* answer indices */
    struct pd_verdict verdict;
};

static struct pd_str answer(const struct exporter *x, const struct pd_bundle *b, size_t i)
{
    return pd_json_str(b->fields, x->compare.fields[i]);
}

/* Is there a preference to write? Otherwise the reason is counted. */
static bool decide(struct exporter *x, const struct pd_bundle *b, const struct pd_vote *v, size_t i,
                   size_t j, struct choice *out)
{
    struct pd_export_report *r = x->report;
    struct pd_verdict w = pd_vote_majority(v);
    struct pd_str a = pd_str_trim(answer(x, b, i)), c = pd_str_trim(answer(x, b, j));
    int64_t min = x->o->min_votes ? x->o->min_votes : 1;
    if (w.votes < min)
        r->unjudged++;
    else if (!w.winner && v->both_bad * 2 > v->tie)
        r->both_bad++;
    else if (!w.winner || w.margin < x->o->min_margin)
        r->ties++;
    else if (pd_str_eq(a, c))
        r->identical++;
    else {
        r->empty += !a.len || !c.len;
        *out = (struct choice){w.winner > 0 ? i : j, w.winner > 0 ? j : i, w};
        return true;
    }
    return false;
}

static bool is_chat(const struct exporter *x, const struct pd_bundle *b)
{
    return x->compare.prompt &&
           json_object_is_type(pd_json_get(b->fields, x->compare.prompt), json_type_array);
}

/* A text, or for conversations a list of one message. */
static void write_answer(struct pd_jw *w, const char *key, struct pd_str text, bool chat)
{
    pd_jw_key(w, key);
    if (!chat) {
        pd_jw_str(w, text);
        return;
    }
    pd_jw_array(w);
    pd_jw_object(w);
    pd_jw_kstrz(w, "role", "assistant");
    pd_jw_kstr(w, "content", text);
    pd_jw_object_end(w);
    pd_jw_array_end(w);
}

static void write_prompt(const struct exporter *x, const struct pd_bundle *b, struct pd_jw *w)
{
    struct json_object *p = x->compare.prompt ? pd_json_get(b->fields, x->compare.prompt) : NULL;
    pd_jw_key(w, "prompt");
    if (p)
        pd_jw_tree(w, p);
    else
        pd_jw_strz(w, "");
}

static const char *id_of(const struct pd_bundle *b)
{
    return b->external_id ? b->external_id : b->record;
}

static enum pd_rc write_pair(struct exporter *x, const struct pd_bundle *b, const struct choice *c,
                             struct pd_err *err)
{
    struct pd_jw w;
    bool chat = is_chat(x, b);
    pd_jw_init(&w, &x->line);
    pd_jw_object(&w);
    pd_jw_kstrz(&w, "id", id_of(b));
    write_prompt(x, b, &w);
    write_answer(&w, "chosen", answer(x, b, c->chosen), chat);
    write_answer(&w, "rejected", answer(x, b, c->rejected), chat);
    if (c->verdict.strength >= 0)
        pd_jw_kf64(&w, "strength", c->verdict.strength);
    pd_jw_ki64(&w, "votes", c->verdict.votes);
    if (x->o->margin)
        pd_jw_kf64(&w, "margin",
                   c->verdict.strength >= 0 ? c->verdict.strength : c->verdict.margin);
    if (x->compare.k > 2)
        pd_jw_kf64(&w, "weight", 2.0 / (double)(x->compare.k * (x->compare.k - 1)));
    pd_jw_object_end(&w);
    return flush_line(x, err);
}

/* "\n\nHuman: ..\n\nAssistant: .." */
static void write_transcript(const struct exporter *x, const struct pd_bundle *b,
                             struct pd_str reply, struct pd_buf *out)
{
    struct json_object *p = x->compare.prompt ? pd_json_get(b->fields, x->compare.prompt) : NULL;
    if (json_object_is_type(p, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(p); i++) {
            struct json_object *m = json_object_array_get_idx(p, i);
            bool ai = pd_str_eqz(pd_json_str(m, "role"), "assistant");
            pd_buf_adds(out, ai ? "\n\nAssistant: " : "\n\nHuman: ");
            pd_buf_addstr(out, pd_json_str(m, "content"));
        }
    } else {
        pd_buf_adds(out, "\n\nHuman: ");
        pd_buf_addstr(out, pd_json_value_str(p));
    }
    pd_buf_adds(out, "\n\nAssistant: ");
    pd_buf_addstr(out, reply);
}

static enum pd_rc write_hh(struct exporter *x, const struct pd_bundle *b, const struct choice *c,
                           struct pd_err *err)
{
    struct pd_buf text;
    struct pd_jw w;
    pd_buf_init(&text, 0);
    pd_jw_init(&w, &x->line);
    pd_jw_object(&w);
    write_transcript(x, b, answer(x, b, c->chosen), &text);
    pd_jw_kstr(&w, "chosen", pd_buf_str(&text));
    pd_buf_clear(&text);
    write_transcript(x, b, answer(x, b, c->rejected), &text);
    pd_jw_kstr(&w, "rejected", pd_buf_str(&text));
    pd_jw_object_end(&w);
    pd_buf_release(&text);
    return flush_line(x, err);
}

static enum pd_rc write_pairs(struct exporter *x, const struct pd_bundle *b, const struct votes *v,
                              struct pd_err *err)
{
    bool hh = strcmp(x->o->format, "hh") == 0;
    for (size_t i = 0; i < x->compare.k; i++)
        for (size_t j = i + 1; j < x->compare.k; j++) {
            struct choice c;
            if (!decide(x, b, &v->pair[pair_index(x->compare.k, (int)i, (int)j)], i, j, &c))
                continue;
            enum pd_rc rc = hh ? write_hh(x, b, &c, err) : write_pair(x, b, &c, err);
            if (rc != PD_OK)
                return rc;
        }
    return PD_OK;
}

static enum pd_rc trl(struct exporter *x, const struct pd_bundle *b, struct pd_err *err)
{
    struct votes v;
    enum pd_rc rc = PD_OK;
    if (!x->o->all_votes) {
        rc = collect(x, b, &v, err);
        return rc == PD_OK ? write_pairs(x, b, &v, err) : rc;
    }
    for (size_t i = 0; i < b->n_said && rc == PD_OK; i++) {
        struct pd_bundle one = *b;
        one.said = &b->said[i];
        one.n_said = 1;
        rc = collect(x, &one, &v, err);
        if (rc == PD_OK && v.judgments)
            rc = write_pairs(x, &one, &v, err);
    }
    return rc;
}

/* Each answer against the others: more pairs won than lost is true, less is false, level is left
 * out. Both bad: both false. */
static enum pd_rc unpaired(struct exporter *x, const struct pd_bundle *b, struct pd_err *err)
{
    struct votes v;
    size_t k = x->compare.k;
    int net[26] = {0};
    bool bad = false;
    enum pd_rc rc = collect(x, b, &v, err);
    if (rc != PD_OK)
        return rc;
    for (size_t i = 0; i < k; i++)
        for (size_t j = i + 1; j < k; j++) {
            const struct pd_vote *p = &v.pair[pair_index(k, (int)i, (int)j)];
            struct pd_verdict w = pd_vote_majority(p);
            net[i] += w.winner;
            net[j] -= w.winner;
            bad = bad || (k == 2 && !w.winner && p->both_bad * 2 > p->tie);
        }
    if (!v.judgments)
        x->report->unjudged++;
    for (size_t i = 0; i < k && v.judgments; i++) {
        struct pd_jw w;
        if (!net[i] && !bad) {
            x->report->ties++;
            continue;
        }
        pd_jw_init(&w, &x->line);
        pd_jw_object(&w);
        write_prompt(x, b, &w);
        write_answer(&w, "completion", answer(x, b, i), is_chat(x, b));
        pd_jw_kbool(&w, "label", net[i] > 0);
        pd_jw_object_end(&w);
        rc = flush_line(x, err);
        if (rc != PD_OK)
            return rc;
    }
    return PD_OK;
}

/* ---- raw judgments ---- */

/* A ranking as tiers, best first; any other value as it is. */
static void write_value(const struct pd_question *q, struct json_object *entry, struct pd_jw *w)
{
    struct pd_ranking r;
    struct json_object *value = pd_json_get(entry, "value");
    if (q->type != PD_QUESTION_RANKING ||
        pd_ranking_parse(q->options, q->n_options, entry, &r, NULL) != PD_OK) {
        pd_jw_tree(w, value);
        return;
    }
    pd_jw_array(w);
    for (int tier = 0; tier < (int)r.k; tier++) {
        bool open = false;
        for (size_t i = 0; i < r.k; i++) {
            if (r.tier[i] != tier)
                continue;
            if (!open)
                pd_jw_array(w);
            open = true;
            pd_jw_strz(w, q->options[i]);
        }
        if (open)
            pd_jw_array_end(w);
    }
    pd_jw_array_end(w);
}

static enum pd_rc raw_row(struct exporter *x, const struct pd_bundle *b, const struct pd_said *s,
                          const struct pd_question *q, struct pd_err *err)
{
    struct json_object *entry = q ? pd_json_get(s->values, q->name) : NULL;
    struct pd_jw w;
    pd_jw_init(&w, &x->line);
    pd_jw_object(&w);
    pd_jw_kstrz(&w, "record", id_of(b));
    pd_jw_kstrz(&w, "labeler", s->labeler);
    pd_jw_kstrz(&w, "question", q ? q->name : NULL);
    pd_jw_key(&w, "value");
    if (entry)
        write_value(q, entry, &w);
    else
        pd_jw_null(&w);
    pd_jw_kstrz(&w, "status", pd_answer_status_name(s->status));
    if (pd_json_get(entry, "strength"))
        pd_jw_ki64(&w, "strength", pd_json_i64(entry, "strength", 0));
    if (pd_json_bool(entry, "both_bad", false))
        pd_jw_kbool(&w, "both_bad", true);
    if (s->shown) {
        pd_jw_key(&w, "shown");
        pd_jw_tree(&w, s->shown);
    }
    pd_jw_kstrz(&w, "at", s->at);
    pd_jw_kf64(&w, "seconds", s->seconds);
    pd_jw_ki64(&w, "guideline", s->guideline);
    if (s->surplus)
        pd_jw_kbool(&w, "surplus", true);
    if (b->models) {
        pd_jw_key(&w, "models");
        pd_jw_tree(&w, b->models);
    }
    if (s->notes) {
        pd_jw_key(&w, "notes");
        pd_jw_tree(&w, s->notes);
    }
    pd_jw_object_end(&w);
    return flush_line(x, err);
}

static void csv_cell(struct exporter *x, struct pd_str s)
{
    if (x->line.len)
        pd_buf_addc(&x->line, ',');
    pd_csv_add(&x->line, s, ',');
}

static enum pd_rc csv_row(struct exporter *x, const struct pd_bundle *b, const struct pd_said *s,
                          const struct pd_question *q, struct pd_err *err)
{
    struct json_object *entry = q ? pd_json_get(s->values, q->name) : NULL;
    struct json_object *value = pd_json_get(entry, "value");
    struct pd_buf cell;
    struct pd_jw w;
    char number[32];
    pd_buf_init(&cell, 0);
    csv_cell(x, pd_str_from(id_of(b)));
    csv_cell(x, pd_str_from(s->labeler));
    csv_cell(x, pd_str_from(q ? q->name : ""));
    if (json_object_is_type(value, json_type_string)) {
        csv_cell(x, pd_json_value_str(value));
    } else {
        pd_jw_init(&w, &cell);
        if (entry)
            write_value(q, entry, &w);
        csv_cell(x, pd_buf_str(&cell));
    }
    csv_cell(x, pd_str_from(pd_answer_status_name(s->status)));
    *number = '\0';
    if (pd_json_get(entry, "strength"))
        snprintf(number, sizeof number, "%lld", (long long)pd_json_i64(entry, "strength", 0));
    csv_cell(x, pd_str_from(number));
    csv_cell(x, pd_str_from(pd_json_bool(entry, "both_bad", false) ? "true" : ""));
    csv_cell(x, pd_str_from(s->at));
    snprintf(number, sizeof number, "%.3f", s->seconds);
    csv_cell(x, pd_str_from(number));
    for (size_t i = 0; i < x->head->n_fields; i++) {
        struct json_object *f = pd_json_get(b->fields, x->head->fields[i].name);
        pd_buf_clear(&cell);
        if (json_object_is_type(f, json_type_string)) {
            csv_cell(x, pd_json_value_str(f));
            continue;
        }
        pd_jw_init(&w, &cell);
        if (f)
            pd_jw_tree(&w, f);
        csv_cell(x, pd_buf_str(&cell));
    }
    pd_buf_release(&cell);
    return flush_line(x, err);
}

/* Every question that was answered; one row without a question for a discard. */
static enum pd_rc raw(struct exporter *x, const struct pd_bundle *b, struct pd_err *err)
{
    bool csv = strcmp(x->o->format, "csv") == 0;
    enum pd_rc rc = PD_OK;
    for (size_t i = 0; i < b->n_said && rc == PD_OK; i++) {
        const struct pd_said *s = &b->said[i];
        size_t rows = 0;
        for (size_t k = 0; k < x->head->n_questions && rc == PD_OK; k++) {
            const struct pd_question *q = &x->head->questions[k];
            if (!pd_json_get(s->values, q->name) ||
                (x->o->question && strcmp(q->name, x->o->question) != 0))
                continue;
            rc = csv ? csv_row(x, b, s, q, err) : raw_row(x, b, s, q, err);
            rows++;
        }
        if (!rows && rc == PD_OK && !x->o->question)
            rc = csv ? csv_row(x, b, s, NULL, err) : raw_row(x, b, s, NULL, err);
        x->report->judgments++;
    }
    return rc;
}

static const struct format {
    const char *name;
    write_fn *write;
    bool compares;
} formats[] = {{"trl", trl, true},
               {"trl-unpaired", unpaired, true},
               {"hh", trl, true},
               {"raw", raw, false},
               {"csv", raw, false}};

static const struct format *find_format(const char *name)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(formats[i].name, name) == 0)
            return &formats[i];
    return NULL;
}

bool pd_export_format_known(const char *format)
{
    return find_format(format) != NULL;
}

/* ---- the walk ---- */

static enum pd_rc begin(struct exporter *x, const struct format *f, const struct pd_bundles *b,
                        struct pd_err *err)
{
    x->head = pd_bundles_head(b);
    if (f->compares)
        return pd_compare_find(x->head, x->o->question, &x->compare, err);
    if (strcmp(f->name, "csv") != 0)
        return PD_OK;
    static const char *const columns[] = {"record",   "labeler",  "question", "value",  "status",
                                          "strength", "both_bad", "at",       "seconds"};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        csv_cell(x, pd_str_from(columns[i]));
    for (size_t i = 0; i < x->head->n_fields; i++)
        csv_cell(x, pd_str_from(x->head->fields[i].name));
    enum pd_rc rc = flush_line(x, err);
    x->report->rows = 0;
    return rc;
}

static enum pd_rc walk(struct exporter *x, const struct format *f, struct pd_bundles *src,
                       struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_bundle b;
    bool more = false;
    for (;;) {
        PD_TRY(pd_bundles_next(src, &b, &more, err));
        if (!more)
            break;
        x->report->records++;
        PD_TRY(f->write(x, &b, err));
    }
out:
    return rc;
}

/* Several sources, such as one dataset a labeler: records with the same external id (or, without
 * one, the same fields) are one record, judged by all. Kept in memory until written. */
struct merged {
    struct pd_map index;       /* key -> position in lines */
    struct json_object *lines; /* array of bundle trees */
};

static void merge_key(struct json_object *line, struct pd_buf *out)
{
    struct pd_str ext = pd_json_str(line, "external_id");
    pd_buf_clear(out);
    if (ext.ptr) {
        pd_buf_adds(out, "id ");
        pd_buf_addstr(out, ext);
    } else {
        pd_buf_adds(out, "fields ");
        pd_buf_adds(out, json_object_to_json_string_ext(pd_json_get(line, "fields"),
                                                        JSON_C_TO_STRING_PLAIN));
    }
}

static enum pd_rc merge_source(struct exporter *x, struct merged *m, struct pd_bundles *src,
                               struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_buf key;
    struct pd_str text = {0};
    bool more = false;
    pd_buf_init(&key, 0);
    for (;;) {
        struct json_object *line = NULL;
        int64_t at = 0;
        PD_TRY(pd_bundles_next_line(src, &text, &more, err));
        if (!more)
            break;
        PD_TRY(pd_json_parse(text, &line, err));
        if (x->o->split && !pd_str_eqz(pd_json_str(line, "split"), x->o->split)) {
            json_object_put(line);
            continue;
        }
        merge_key(line, &key);
        if (!pd_map_get(&m->index, pd_buf_str(&key), &at)) {
            pd_map_put(&m->index, pd_buf_str(&key), (int64_t)json_object_array_length(m->lines));
            json_object_array_add(m->lines, line);
            continue;
        }
        struct json_object *into =
            pd_json_get(json_object_array_get_idx(m->lines, (size_t)at), "judgments");
        struct json_object *from = pd_json_get(line, "judgments");
        for (size_t i = 0; i < json_object_array_length(from); i++)
            json_object_array_add(into, json_object_get(json_object_array_get_idx(from, i)));
        json_object_put(line);
        x->report->duplicates++;
    }
out:
    pd_buf_release(&key);
    return rc;
}

static enum pd_rc write_merged(struct exporter *x, const struct format *f, struct merged *m,
                               struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    for (size_t i = 0; i < json_object_array_length(m->lines) && rc == PD_OK; i++) {
        struct pd_arena a;
        struct pd_bundle b;
        pd_arena_init(&a);
        rc = pd_bundle_read(json_object_array_get_idx(m->lines, i), &a, &b, err);
        if (rc == PD_OK) {
            x->report->records++;
            rc = f->write(x, &b, err);
        }
        pd_arena_release(&a);
    }
    return rc;
}

static enum pd_rc export_merged(struct exporter *x, const struct format *f, struct pd_store *s,
                                const char *const *names, size_t n, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct merged m = {.lines = json_object_new_array()};
    struct pd_bundles **src = pd_xalloc(n * sizeof(struct pd_bundles *));
    pd_map_init(&m.index);
    for (size_t i = 0; i < n; i++) {
        PD_TRY(pd_bundles_open(&src[i], s, names[i], x->o->split, err));
        rc = merge_source(x, &m, src[i], err);
        if (rc != PD_OK) {
            pd_err_prefix(err, "%s", names[i]);
            goto out;
        }
    }
    PD_TRY(begin(x, f, src[0], err)); /* the first one's questions speak for all */
    PD_TRY(write_merged(x, f, &m, err));
out:
    for (size_t i = 0; i < n; i++)
        pd_bundles_close(src[i]);
    pd_free(src);
    pd_map_release(&m.index);
    json_object_put(m.lines);
    return rc;
}

static void say(const struct exporter *x, const char *names)
{
    const struct pd_export_report *r = x->report;
    fprintf(x->notes, "%s: %lld rows from %lld judgments of %lld records\n", names,
            (long long)r->rows, (long long)r->judgments, (long long)r->records);
    if (r->ties)
        fprintf(x->notes, "  left out: %lld ties\n", (long long)r->ties);
    if (r->both_bad)
        fprintf(x->notes, "  left out: %lld both bad\n", (long long)r->both_bad);
    if (r->unjudged)
        fprintf(x->notes, "  left out: %lld pairs without enough judgments\n",
                (long long)r->unjudged);
    if (r->identical)
        fprintf(x->notes, "  left out: %lld pairs of identical answers\n", (long long)r->identical);
    if (r->empty)
        fprintf(x->notes, "  kept: %lld pairs with an empty answer\n", (long long)r->empty);
    if (r->duplicates)
        fprintf(x->notes, "  merged: %lld records that several datasets hold\n",
                (long long)r->duplicates);
    if (r->one_order > 0.95 && r->orders >= 20)
        fprintf(x->notes,
                "  warning: %.0f%% of the judgments give one and the same order; check that the "
                "interface did not submit its default\n",
                r->one_order * 100);
}

void pd_export_report_write(const struct pd_export_report *r, struct pd_jw *w)
{
    pd_jw_object(w);
    pd_jw_ki64(w, "records", r->records);
    pd_jw_ki64(w, "judgments", r->judgments);
    pd_jw_ki64(w, "rows", r->rows);
    pd_jw_ki64(w, "ties", r->ties);
    pd_jw_ki64(w, "both_bad", r->both_bad);
    pd_jw_ki64(w, "unjudged", r->unjudged);
    pd_jw_ki64(w, "identical", r->identical);
    pd_jw_ki64(w, "empty", r->empty);
    pd_jw_ki64(w, "merged", r->duplicates);
    pd_jw_kf64(w, "one_order", r->one_order);
    pd_jw_object_end(w);
}

enum pd_rc pd_export(struct pd_store *s, const char *const *names, size_t n,
                     const struct pd_export_options *o, FILE *out, FILE *notes,
                     struct pd_export_report *report, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct format *f = find_format(o->format);
    struct pd_bundles *src = NULL;
    *report = (struct pd_export_report){0};
    struct exporter x = {.o = o, .out = out, .notes = notes, .report = report};
    pd_buf_init(&x.line, 0);
    pd_map_init(&x.orders);
    if (!f) {
        rc = PD_FAIL(err, PD_USAGE, "no format '%s'; there are %s", o->format, pd_export_formats);
        goto out;
    }
    if (n == 1) {
        PD_TRY(pd_bundles_open(&src, s, names[0], o->split, err));
        PD_TRY(begin(&x, f, src, err));
        PD_TRY(walk(&x, f, src, err));
    } else {
        PD_TRY(export_merged(&x, f, s, names, n, err));
    }
    for (size_t i = 0; i < x.orders.len; i++) {
        double share = (double)x.orders.entries[i].value / (double)report->orders;
        report->one_order = share > report->one_order ? share : report->one_order;
    }
    if (notes)
        say(&x, n == 1 ? names[0] : "merged");
out:
    pd_bundles_close(src);
    pd_map_release(&x.orders);
    pd_buf_release(&x.line);
    return rc;
}
