/* Settings of fields, questions, metadata properties and vectors. Limits are Argilla's, so that
 * whatever its clients can make is accepted and what they cannot read back is refused. Answers are
 * in value.c. */
#include "pref/question.h"
#include "base/mem.h"

static const char *const type_names[] = {
    "text", "rating", "label_selection", "multi_label_selection", "ranking", "span"};

const char *pd_question_type_name(enum pd_question_type t)
{
    return type_names[t];
}

static bool type_parse(struct pd_str s, enum pd_question_type *out)
{
    for (int i = 0; i < 6; i++)
        if (pd_str_eqz(s, type_names[i])) {
            *out = (enum pd_question_type)i;
            return true;
        }
    return false;
}

/* The list under "options", with how many it may have. */
static enum pd_rc options_of(const char *name, struct json_object *settings, size_t min, size_t max,
                             struct json_object **out, size_t *n, struct pd_err *err)
{
    struct json_object *list = pd_json_get(settings, "options");
    if (!json_object_is_type(list, json_type_array))
        return PD_FAIL(err, PD_INVALID, "question %s: settings.options is %s, expected a list",
                       name, pd_json_type_name(list));
    size_t len = json_object_array_length(list);
    if (len < min || len > max)
        return PD_FAIL(err, PD_INVALID, "question %s: %zu options, expected %zu to %zu", name, len,
                       min, max);
    *out = list;
    *n = len;
    return PD_OK;
}

static enum pd_rc parse_ratings(struct pd_arena *a, struct json_object *settings,
                                struct pd_question *q, struct pd_err *err)
{
    struct json_object *list = NULL;
    size_t n = 0;
    enum pd_rc rc = options_of(q->name, settings, 2, 11, &list, &n, err);
    if (rc != PD_OK)
        return rc;
    int64_t *values = pd_arena_alloc(a, n * sizeof *values);
    for (size_t i = 0; i < n; i++) {
        struct json_object *v = pd_json_get(json_object_array_get_idx(list, i), "value");
        int64_t x = json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : -1;
        if (x < 0 || x > 10)
            return PD_FAIL(err, PD_INVALID, "question %s: a rating's value is an integer 0 to 10",
                           q->name);
        for (size_t j = 0; j < i; j++)
            if (values[j] == x)
                return PD_FAIL(err, PD_INVALID, "question %s: rating %lld stands twice", q->name,
                               (long long)x);
        values[i] = x;
    }
    q->ratings = values;
    q->n_ratings = n;
    return PD_OK;
}

static enum pd_rc parse_options(struct pd_arena *a, struct json_object *settings, size_t min,
                                size_t max, struct pd_question *q, struct pd_err *err)
{
    struct json_object *list = NULL;
    size_t n = 0;
    enum pd_rc rc = options_of(q->name, settings, min, max, &list, &n, err);
    if (rc != PD_OK)
        return rc;
    q->options = pd_arena_alloc(a, n * sizeof *q->options);
    q->texts = pd_arena_alloc(a, n * sizeof *q->texts);
    for (size_t i = 0; i < n; i++) {
        struct json_object *o = json_object_array_get_idx(list, i);
        struct pd_str value = pd_json_str(o, "value"), text = pd_json_str(o, "text");
        if (value.len < 1 || value.len > 800 || text.len > 2000)
            return PD_FAIL(err, PD_INVALID,
                           "question %s: option %zu needs \"value\" (1 to 200 characters) and "
                           "\"text\" (1 to 500)",
                           q->name, i + 1);
        for (size_t j = 0; j < i; j++)
            if (pd_str_eqz(value, q->options[j]))
                return PD_FAIL(err, PD_INVALID, "question %s: option '%s' stands twice", q->name,
                               q->options[j]);
        q->options[i] = pd_arena_strndup(a, value.ptr, value.len);
        q->texts[i] = text.len ? pd_arena_strndup(a, text.ptr, text.len) : q->options[i];
    }
    q->n_options = n;
    return PD_OK;
}

static enum pd_rc check_visible(const struct pd_question *q, struct json_object *settings,
                                struct pd_err *err)
{
    struct json_object *v = pd_json_get(settings, "visible_options");
    if (!v)
        return PD_OK;
    int64_t n = json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : -1;
    if (n < 3 || n > (int64_t)q->n_options)
        return PD_FAIL(err, PD_INVALID,
                       "question %s: visible_options is null or 3 to the number of options (%zu)",
                       q->name, q->n_options);
    return PD_OK;
}

static enum pd_rc parse_settings(struct pd_arena *a, struct json_object *settings,
                                 struct pd_question *q, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_str type = pd_json_str(settings, "type");
    if (!type_parse(type, &q->type))
        return PD_FAIL(err, PD_INVALID,
                       "question %s: type '%.*s' is none of text, rating, label_selection, "
                       "multi_label_selection, ranking, span",
                       q->name, PD_STR_ARG(type));
    switch (q->type) {
    case PD_QUESTION_TEXT:
        break;
    case PD_QUESTION_RATING:
        rc = parse_ratings(a, settings, q, err);
        break;
    case PD_QUESTION_LABEL:
    case PD_QUESTION_MULTI_LABEL:
        rc = parse_options(a, settings, 2, 500, q, err);
        if (rc == PD_OK)
            rc = check_visible(q, settings, err);
        break;
    case PD_QUESTION_RANKING:
        rc = parse_options(a, settings, 2, 50, q, err);
        q->strength = pd_json_bool(settings, "strength", false);
        q->both_bad = pd_json_bool(settings, "both_bad", false);
        break;
    case PD_QUESTION_SPAN: {
        struct pd_str field = pd_json_str(settings, "field");
        rc = parse_options(a, settings, 1, 500, q, err);
        if (rc == PD_OK && !field.len)
            rc = PD_FAIL(err, PD_INVALID, "question %s: span settings need \"field\"", q->name);
        q->field = pd_arena_strndup(a, field.ptr ? field.ptr : "", field.len);
        q->allow_overlapping = pd_json_bool(settings, "allow_overlapping", false);
        break;
    }
    }
    return rc;
}

enum pd_rc pd_question_parse(struct pd_arena *a, const struct pd_part *part,
                             struct pd_question *out, struct pd_err *err)
{
    struct json_object *settings = NULL;
    *out = (struct pd_question){
        .id = part->id, .name = part->name, .title = part->title, .required = part->required};
    enum pd_rc rc = pd_json_parse(pd_str_from(part->settings), &settings, err);
    if (rc == PD_OK)
        rc = parse_settings(a, settings, out, err);
    json_object_put(settings);
    return rc;
}

enum pd_rc pd_question_load(struct pd_db *db, struct pd_arena *a, int64_t dataset_id,
                            struct pd_question **out, size_t *n, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_part *parts = NULL;
    size_t len = 0;
    PD_TRY(pd_part_list(db, a, dataset_id, PD_PART_QUESTION, &parts, &len, err));
    struct pd_question *qs = pd_arena_alloc(a, (len + 1) * sizeof *qs);
    for (size_t i = 0; i < len; i++)
        PD_TRY(pd_question_parse(a, &parts[i], &qs[i], err));
    *out = qs;
    *n = len;
out:
    return rc;
}

const struct pd_question *pd_question_find(const struct pd_question *qs, size_t n,
                                           struct pd_str name)
{
    for (size_t i = 0; i < n; i++)
        if (pd_str_eqz(name, qs[i].name))
            return &qs[i];
    return NULL;
}

static enum pd_rc check_field(const char *name, struct json_object *settings, struct pd_err *err)
{
    struct pd_str type = pd_json_str(settings, "type");
    if (pd_str_eqz(type, "custom") && !pd_json_str(settings, "template").len)
        return PD_FAIL(err, PD_INVALID, "field %s: a custom field needs \"template\"", name);
    if (pd_str_eqz(type, "text") || pd_str_eqz(type, "chat") || pd_str_eqz(type, "image") ||
        pd_str_eqz(type, "custom"))
        return PD_OK;
    return PD_FAIL(err, PD_INVALID, "field %s: type '%.*s' is none of text, chat, image, custom",
                   name, PD_STR_ARG(type));
}

static enum pd_rc check_property(const char *name, struct json_object *settings, struct pd_err *err)
{
    struct pd_str type = pd_json_str(settings, "type");
    struct json_object *values = pd_json_get(settings, "values");
    struct json_object *min = pd_json_get(settings, "min"), *max = pd_json_get(settings, "max");
    if (pd_str_eqz(type, "terms")) {
        size_t n =
            json_object_is_type(values, json_type_array) ? json_object_array_length(values) : 0;
        if (values && (n < 1 || n > 250))
            return PD_FAIL(err, PD_INVALID,
                           "metadata property %s: values is null or 1 to 250 terms", name);
        return PD_OK;
    }
    if (!pd_str_eqz(type, "integer") && !pd_str_eqz(type, "float"))
        return PD_FAIL(err, PD_INVALID,
                       "metadata property %s: type '%.*s' is none of terms, integer, float", name,
                       PD_STR_ARG(type));
    if (min && max && json_object_get_double(min) >= json_object_get_double(max))
        return PD_FAIL(err, PD_INVALID, "metadata property %s: min must be below max", name);
    return PD_OK;
}

enum pd_rc pd_part_check(enum pd_part_kind kind, struct pd_str name, struct json_object *settings,
                         struct pd_err *err)
{
    struct pd_arena a;
    enum pd_rc rc = PD_OK;
    pd_arena_init(&a);
    struct pd_question q = {.name = pd_arena_strndup(&a, name.ptr ? name.ptr : "", name.len)};
    if (name.len < 1 || name.len > 200) {
        rc = PD_FAIL(err, PD_INVALID, "a name has 1 to 200 bytes, this one has %zu", name.len);
    } else if (!json_object_is_type(settings, json_type_object)) {
        rc = PD_FAIL(err, PD_INVALID, "%s: settings is %s, expected an object", q.name,
                     pd_json_type_name(settings));
    } else if (kind == PD_PART_QUESTION) {
        rc = parse_settings(&a, settings, &q, err);
    } else if (kind == PD_PART_FIELD) {
        rc = check_field(q.name, settings, err);
    } else if (kind == PD_PART_METADATA) {
        rc = check_property(q.name, settings, err);
    } else if (pd_json_i64(settings, "dimensions", 0) < 1) {
        rc = PD_FAIL(err, PD_INVALID, "vector settings %s: dimensions is at least 1", q.name);
    }
    pd_arena_release(&a);
    return rc;
}
