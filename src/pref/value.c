/* Answers and record contents against what the dataset asks for. Each check names the question or
 * field, what stood there and what may stand there. */
#include "base/mem.h"
#include "pref/question.h"

#include <math.h>

/* A few characters of a value, for messages. */
struct shown {
    char text[44];
};
static struct shown show(struct json_object *v)
{
    struct shown s;
    const char *json = json_object_to_json_string_ext(v, JSON_C_TO_STRING_PLAIN);
    size_t n = strlen(json);
    if (n > 40) {
        n = 37;
        while (n && ((unsigned char)json[n] & 0xc0) == 0x80)
            n--;
    }
    memcpy(s.text, json, n);
    memcpy(s.text + n, "...", 4);
    if (n == strlen(json))
        s.text[n] = '\0';
    return s;
}

static int option_index(const struct pd_question *q, struct json_object *v)
{
    struct pd_str s = pd_json_value_str(v);
    for (size_t i = 0; s.ptr && i < q->n_options; i++)
        if (pd_str_eqz(s, q->options[i]))
            return (int)i;
    return -1;
}

static enum pd_rc not_an_option(const struct pd_question *q, struct json_object *v,
                                struct pd_err *err)
{
    return PD_FAIL(err, PD_INVALID,
                   "question %s: %s is none of its %zu options (the first is \"%s\")", q->name,
                   show(v).text, q->n_options, q->options[0]);
}

static enum pd_rc expected(const struct pd_question *q, const char *what, struct json_object *v,
                           struct pd_err *err)
{
    return PD_FAIL(err, PD_INVALID, "question %s: the value is %s, expected %s", q->name,
                   pd_json_type_name(v), what);
}

static enum pd_rc check_rating(const struct pd_question *q, struct json_object *v,
                               struct pd_buf *out, struct pd_err *err)
{
    if (!json_object_is_type(v, json_type_int))
        return expected(q, "an integer", v, err);
    int64_t x = json_object_get_int64(v);
    for (size_t i = 0; i < q->n_ratings; i++)
        if (q->ratings[i] == x) {
            pd_buf_addf(out, "%lld", (long long)x);
            return PD_OK;
        }
    return PD_FAIL(err, PD_INVALID, "question %s: rating %lld is none of its values (%lld to %lld)",
                   q->name, (long long)x, (long long)q->ratings[0],
                   (long long)q->ratings[q->n_ratings - 1]);
}

static enum pd_rc check_labels(const struct pd_question *q, struct json_object *v,
                               struct pd_buf *out, struct pd_err *err)
{
    if (!json_object_is_type(v, json_type_array))
        return expected(q, "a list of labels", v, err);
    size_t n = json_object_array_length(v);
    if (n == 0 || n > q->n_options)
        return PD_FAIL(err, PD_INVALID, "question %s: %zu labels, expected 1 to %zu", q->name, n,
                       q->n_options);
    for (size_t i = 0; i < n; i++) {
        struct json_object *item = json_object_array_get_idx(v, i);
        if (option_index(q, item) < 0)
            return not_an_option(q, item, err);
        for (size_t j = 0; j < i; j++)
            if (json_object_equal(item, json_object_array_get_idx(v, j)))
                return PD_FAIL(err, PD_INVALID, "question %s: label %s stands twice", q->name,
                               show(item).text);
    }
    struct pd_jw w;
    pd_jw_init(&w, out);
    pd_jw_tree(&w, v);
    return PD_OK;
}

/* ---- ranking ---- */

enum { MAX_RANKED = 50 };
struct placed {
    int option;
    int64_t rank; /* -1: not ranked yet */
};

static enum pd_rc place(const struct pd_question *q, struct json_object *option, int64_t rank,
                        struct placed *list, size_t *n, struct pd_err *err)
{
    int at = option_index(q, option);
    if (at < 0)
        return not_an_option(q, option, err);
    for (size_t i = 0; i < *n; i++)
        if (list[i].option == at)
            return PD_FAIL(err, PD_INVALID, "question %s: option %s stands twice", q->name,
                           show(option).text);
    list[(*n)++] = (struct placed){at, rank};
    return PD_OK;
}

/* [["b"],["a","c"]]: best first; a tier's rank is 1 + the options above it. */
static enum pd_rc read_tiers(const struct pd_question *q, struct json_object *v,
                             struct placed *list, size_t *n, struct pd_err *err)
{
    for (size_t t = 0; t < json_object_array_length(v); t++) {
        struct json_object *tier = json_object_array_get_idx(v, t);
        if (!json_object_is_type(tier, json_type_array))
            return expected(q, "a list of tiers, each a list of options", tier, err);
        int64_t rank = (int64_t)*n + 1;
        for (size_t i = 0; i < json_object_array_length(tier); i++) {
            enum pd_rc rc = place(q, json_object_array_get_idx(tier, i), rank, list, n, err);
            if (rc != PD_OK)
                return rc;
        }
    }
    return PD_OK;
}

/* [{"value":"a","rank":1},...]; without any "rank" key the list is the order, best first. */
static enum pd_rc read_ranks(const struct pd_question *q, struct json_object *v, bool complete,
                             struct placed *list, size_t *n, struct pd_err *err)
{
    for (size_t i = 0; i < json_object_array_length(v); i++) {
        struct json_object *item = json_object_array_get_idx(v, i), *rank = NULL;
        if (!json_object_is_type(item, json_type_object))
            return expected(q, "a list of {\"value\", \"rank\"}", item, err);
        bool has = json_object_object_get_ex(item, "rank", &rank);
        int64_t r = (int64_t)i + 1;
        if (has && rank) {
            r = json_object_is_type(rank, json_type_int) ? json_object_get_int64(rank) : 0;
            if (r < 1 || r > (int64_t)q->n_options)
                return PD_FAIL(err, PD_INVALID, "question %s: rank %s, expected 1 to %zu", q->name,
                               show(rank).text, q->n_options);
        } else if (has) {
            r = -1;
            if (complete)
                return PD_FAIL(err, PD_INVALID, "question %s: %s has no rank", q->name,
                               show(pd_json_get(item, "value")).text);
        }
        enum pd_rc rc = place(q, pd_json_get(item, "value"), r, list, n, err);
        if (rc != PD_OK)
            return rc;
    }
    return PD_OK;
}

/* Best first; the unranked last; equals as they came. */
static void sort_placed(struct placed *list, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        struct placed x = list[i];
        size_t j = i;
        for (; j > 0; j--) {
            int64_t above = list[j - 1].rank;
            if (x.rank < 0 || (above >= 0 && above <= x.rank))
                break;
            list[j] = list[j - 1];
        }
        list[j] = x;
    }
}

static enum pd_rc check_ranking(const struct pd_question *q, struct json_object *v, bool complete,
                                struct pd_buf *out, bool *tie, struct pd_err *err)
{
    struct placed list[MAX_RANKED + 1];
    size_t n = 0;
    enum pd_rc rc = PD_OK;
    if (!json_object_is_type(v, json_type_array))
        return expected(q, "a list", v, err);
    if (json_object_array_length(v) > q->n_options)
        return PD_FAIL(err, PD_INVALID, "question %s: %zu entries for %zu options", q->name,
                       json_object_array_length(v), q->n_options);
    bool tiers = json_object_is_type(json_object_array_get_idx(v, 0), json_type_array);
    rc = tiers ? read_tiers(q, v, list, &n, err) : read_ranks(q, v, complete, list, &n, err);
    if (rc != PD_OK)
        return rc;
    if (complete && n < q->n_options)
        return PD_FAIL(err, PD_INVALID, "question %s: %zu of %zu options are ranked", q->name, n,
                       q->n_options);
    sort_placed(list, n);
    *tie = n > 1;
    struct pd_jw w;
    pd_jw_init(&w, out);
    pd_jw_array(&w);
    for (size_t i = 0; i < n; i++) {
        pd_jw_object(&w);
        pd_jw_kstrz(&w, "value", q->options[list[i].option]);
        pd_jw_key(&w, "rank");
        if (list[i].rank < 0)
            pd_jw_null(&w);
        else
            pd_jw_i64(&w, list[i].rank);
        pd_jw_object_end(&w);
        *tie = *tie && list[i].rank == list[0].rank;
    }
    pd_jw_array_end(&w);
    return PD_OK;
}

/* ---- spans ---- */

static int64_t code_points(struct pd_str s)
{
    int64_t n = 0;
    for (size_t i = 0; i < s.len; i++)
        n += ((unsigned char)s.ptr[i] & 0xc0) != 0x80;
    return n;
}

static enum pd_rc check_spans(const struct pd_question *q, struct json_object *v,
                              struct json_object *fields, struct pd_buf *out, struct pd_err *err)
{
    if (!json_object_is_type(v, json_type_array))
        return expected(q, "a list of spans", v, err);
    size_t n = json_object_array_length(v);
    if (n > 10000)
        return PD_FAIL(err, PD_INVALID, "question %s: %zu spans, at most 10000", q->name, n);
    struct pd_str text = fields ? pd_json_str(fields, q->field) : (struct pd_str){0};
    int64_t len = text.ptr ? code_points(text) : INT64_MAX;
    for (size_t i = 0; i < n; i++) {
        struct json_object *s = json_object_array_get_idx(v, i);
        struct json_object *label = pd_json_get(s, "label");
        int64_t start = pd_json_i64(s, "start", -1), end = pd_json_i64(s, "end", -1);
        if (option_index(q, label) < 0)
            return not_an_option(q, label, err);
        if (start < 0 || end <= start || end > len)
            return PD_FAIL(err, PD_INVALID,
                           "question %s: span %zu is [%lld, %lld) in %lld characters", q->name,
                           i + 1, (long long)start, (long long)end, (long long)len);
        for (size_t j = 0; !q->allow_overlapping && j < i; j++) {
            struct json_object *o = json_object_array_get_idx(v, j);
            if (start < pd_json_i64(o, "end", 0) && pd_json_i64(o, "start", 0) < end)
                return PD_FAIL(err, PD_INVALID, "question %s: spans %zu and %zu overlap", q->name,
                               j + 1, i + 1);
        }
    }
    struct pd_jw w;
    pd_jw_init(&w, out);
    pd_jw_tree(&w, v);
    return PD_OK;
}

static enum pd_rc check_value(const struct pd_question *q, struct json_object *v, bool complete,
                              struct json_object *fields, struct pd_buf *out, bool *tie,
                              struct pd_err *err)
{
    struct pd_jw w;
    *tie = false;
    switch (q->type) {
    case PD_QUESTION_TEXT:
        if (!json_object_is_type(v, json_type_string))
            return expected(q, "a string", v, err);
        pd_jw_init(&w, out);
        pd_jw_str(&w, pd_json_value_str(v));
        return PD_OK;
    case PD_QUESTION_RATING:
        return check_rating(q, v, out, err);
    case PD_QUESTION_LABEL:
        if (option_index(q, v) < 0)
            return not_an_option(q, v, err);
        pd_jw_init(&w, out);
        pd_jw_str(&w, pd_json_value_str(v));
        return PD_OK;
    case PD_QUESTION_MULTI_LABEL:
        return check_labels(q, v, out, err);
    case PD_QUESTION_RANKING:
        return check_ranking(q, v, complete, out, tie, err);
    case PD_QUESTION_SPAN:
        return check_spans(q, v, fields, out, err);
    }
    pd_bug("question type %d", (int)q->type);
}

enum pd_rc pd_value_check(const struct pd_question *q, struct json_object *value, bool complete,
                          struct json_object *fields, struct pd_buf *out, struct pd_err *err)
{
    bool tie;
    return check_value(q, value, complete, fields, out, &tie, err);
}

/* {"value":X,"strength"?,"both_bad"?} of one question. */
static enum pd_rc check_entry(const struct pd_question *q, struct json_object *entry, bool complete,
                              struct json_object *fields, struct pd_jw *w, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct json_object *value = NULL, *strength = pd_json_get(entry, "strength");
    struct json_object *bad = pd_json_get(entry, "both_bad");
    bool both_bad = bad && json_object_get_boolean(bad), tie = false;
    struct pd_buf text;
    pd_buf_init(&text, 0);
    if (!json_object_object_get_ex(entry, "value", &value)) {
        rc = PD_FAIL(err, PD_INVALID, "question %s: an answer is {\"value\": ...}, found %s",
                     q->name, show(entry).text);
        goto out;
    }
    PD_TRY(check_value(q, value, complete, fields, &text, &tie, err));
    if (q->type != PD_QUESTION_RANKING && (strength || bad)) {
        rc = PD_FAIL(err, PD_INVALID, "question %s: strength and both_bad belong to rankings",
                     q->name);
        goto out;
    }
    if (both_bad && !tie && complete) {
        rc = PD_FAIL(err, PD_INVALID, "question %s: both_bad goes with a tie", q->name);
        goto out;
    }
    int64_t s = json_object_is_type(strength, json_type_int) ? json_object_get_int64(strength) : -1;
    if (strength && (s < 0 || s > 3)) {
        rc = PD_FAIL(err, PD_INVALID, "question %s: strength is %s, expected 0 to 3", q->name,
                     show(strength).text);
        goto out;
    }
    pd_jw_key(w, q->name);
    pd_jw_object(w);
    pd_jw_key(w, "value");
    pd_jw_raw(w, pd_buf_str(&text));
    if (strength)
        pd_jw_ki64(w, "strength", tie ? 0 : s);
    if (both_bad)
        pd_jw_kbool(w, "both_bad", true);
    pd_jw_object_end(w);
out:
    pd_buf_release(&text);
    return rc;
}

enum pd_rc pd_answer_check(const struct pd_question *qs, size_t n, enum pd_answer_status status,
                           struct json_object *values, struct json_object *fields,
                           struct pd_buf *out, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    bool complete = status == PD_ANSWER_SUBMITTED;
    if (values && !json_object_is_type(values, json_type_object))
        return PD_FAIL(err, PD_INVALID, "values is %s, expected an object of question: {\"value\"}",
                       pd_json_type_name(values));
    if (values) {
        json_object_object_foreach(values, name, unused)
        {
            (void)unused;
            if (!pd_question_find(qs, n, pd_str_from(name)))
                return PD_FAIL(err, PD_INVALID, "values: the dataset has no question '%.80s'",
                               name);
        }
    }
    struct pd_jw w;
    pd_jw_init(&w, out);
    pd_jw_object(&w);
    for (size_t i = 0; i < n; i++) {
        struct json_object *entry = values ? pd_json_get(values, qs[i].name) : NULL;
        if (!entry && complete && qs[i].required)
            return PD_FAIL(err, PD_INVALID, "question %s is required and has no answer",
                           qs[i].name);
        if (!entry)
            continue;
        rc = check_entry(&qs[i], entry, complete, fields, &w, err);
        if (rc != PD_OK)
            return rc;
    }
    pd_jw_object_end(&w);
    return PD_OK;
}

/* ---- record contents ---- */

static enum pd_rc check_chat(const char *name, struct json_object *v, struct pd_err *err)
{
    size_t n = json_object_is_type(v, json_type_array) ? json_object_array_length(v) : 0;
    if (n < 1 || n > 500)
        return PD_FAIL(err, PD_INVALID, "field %s: expected a list of 1 to 500 messages", name);
    for (size_t i = 0; i < n; i++) {
        struct json_object *m = json_object_array_get_idx(v, i);
        if (!pd_json_str(m, "role").ptr || !pd_json_str(m, "content").ptr)
            return PD_FAIL(err, PD_INVALID,
                           "field %s: message %zu needs \"role\" and \"content\" strings", name,
                           i + 1);
    }
    return PD_OK;
}

static enum pd_rc check_field(const struct pd_part *f, struct json_object *v, struct pd_err *err)
{
    struct json_object *settings = NULL;
    enum pd_rc rc = pd_json_parse(pd_str_from(f->settings), &settings, err);
    if (rc != PD_OK)
        return rc;
    struct pd_str type = pd_json_str(settings, "type");
    if (pd_str_eqz(type, "chat"))
        rc = check_chat(f->name, v, err);
    else if (pd_str_eqz(type, "custom") && !json_object_is_type(v, json_type_object))
        rc = PD_FAIL(err, PD_INVALID, "field %s is %s, expected an object", f->name,
                     pd_json_type_name(v));
    else if (!pd_str_eqz(type, "custom") && !json_object_is_type(v, json_type_string))
        rc = PD_FAIL(err, PD_INVALID, "field %s is %s, expected a string", f->name,
                     pd_json_type_name(v));
    json_object_put(settings);
    return rc;
}

static const struct pd_part *find_part(const struct pd_part *parts, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(parts[i].name, name) == 0)
            return &parts[i];
    return NULL;
}

enum pd_rc pd_fields_check(const struct pd_part *fields, size_t n, struct json_object *value,
                           struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    if (!json_object_is_type(value, json_type_object))
        return PD_FAIL(err, PD_INVALID, "fields is %s, expected an object",
                       pd_json_type_name(value));
    json_object_object_foreach(value, name, v)
    {
        const struct pd_part *f = find_part(fields, n, name);
        if (!f)
            return PD_FAIL(err, PD_INVALID, "the dataset has no field '%.80s'", name);
        if (v && (rc = check_field(f, v, err)) != PD_OK)
            return rc;
    }
    for (size_t i = 0; i < n; i++)
        if (fields[i].required && !pd_json_get(value, fields[i].name))
            return PD_FAIL(err, PD_INVALID, "field %s is required and missing", fields[i].name);
    return PD_OK;
}

static bool is_term(struct json_object *v, struct json_object *allowed)
{
    if (!json_object_is_type(v, json_type_string))
        return false;
    if (!allowed)
        return true;
    for (size_t i = 0; i < json_object_array_length(allowed); i++)
        if (json_object_equal(v, json_object_array_get_idx(allowed, i)))
            return true;
    return false;
}

static enum pd_rc check_metadata(const struct pd_part *p, struct json_object *v, struct pd_err *err)
{
    struct json_object *s = NULL;
    enum pd_rc rc = pd_json_parse(pd_str_from(p->settings), &s, err);
    if (rc != PD_OK)
        return rc;
    struct pd_str type = pd_json_str(s, "type");
    bool ok = true;
    if (pd_str_eqz(type, "terms")) {
        struct json_object *allowed = pd_json_get(s, "values");
        if (json_object_is_type(v, json_type_array))
            for (size_t i = 0; ok && i < json_object_array_length(v); i++)
                ok = is_term(json_object_array_get_idx(v, i), allowed);
        else
            ok = is_term(v, allowed);
    } else {
        bool integer = pd_str_eqz(type, "integer");
        ok = json_object_is_type(v, json_type_int) ||
             (!integer && json_object_is_type(v, json_type_double));
        double x = json_object_get_double(v);
        ok = ok && isfinite(x) && x >= pd_json_f64(s, "min", -INFINITY) &&
             x <= pd_json_f64(s, "max", INFINITY);
    }
    if (!ok)
        rc = PD_FAIL(err, PD_INVALID, "metadata %s: %s does not fit its %.*s property", p->name,
                     show(v).text, PD_STR_ARG(type));
    json_object_put(s);
    return rc;
}

enum pd_rc pd_metadata_check(const struct pd_part *props, size_t n, bool allow_extra,
                             struct json_object *value, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    if (!value)
        return PD_OK;
    if (!json_object_is_type(value, json_type_object))
        return PD_FAIL(err, PD_INVALID, "metadata is %s, expected an object",
                       pd_json_type_name(value));
    json_object_object_foreach(value, name, v)
    {
        const struct pd_part *p = find_part(props, n, name);
        if (!p && !allow_extra)
            return PD_FAIL(err, PD_INVALID,
                           "metadata '%.80s' is no property of the dataset, which allows no others",
                           name);
        if (p && v && (rc = check_metadata(p, v, err)) != PD_OK)
            return rc;
    }
    return PD_OK;
}
