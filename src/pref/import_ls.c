/* Label Studio tasks and exports: {"data":{..},"annotations":[{"result":[..],"completed_by",..}]}.
 * Controls become questions (made from the whole file when the dataset is new), annotations become
 * answers of accounts named after who made them. */
#include "base/mem.h"
#include "base/time.h"
#include "pref/import_int.h"

#include <ctype.h>

bool pd__ls_fits(struct json_object *row)
{
    return json_object_is_type(pd_json_get(row, "data"), json_type_object) ||
           json_object_is_type(pd_json_get(row, "annotations"), json_type_array) ||
           json_object_is_type(pd_json_get(row, "completions"), json_type_array);
}

static struct json_object *annotations_of(struct json_object *row)
{
    struct json_object *a = pd_json_get(row, "annotations");
    if (!a)
        a = pd_json_get(row, "completions"); /* before 1.0 */
    return json_object_is_type(a, json_type_array) ? a : NULL;
}

static struct json_object *data_of(struct json_object *row)
{
    struct json_object *d = pd_json_get(row, "data");
    return json_object_is_type(d, json_type_object) ? d : row;
}

/* ---- a new dataset: which controls does the file hold? ---- */

enum { MAX_CONTROLS = 32, MAX_LABELS = 500 };
struct control {
    const char *name, *type;
    int64_t max_rating;
    bool multiple;
    const char *labels[MAX_LABELS];
    size_t n_labels;
};
struct controls {
    struct control *list;
    size_t n;
};

static struct control *control_named(struct controls *c, const char *name, const char *type)
{
    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->list[i].name, name) == 0)
            return &c->list[i];
    if (c->n == MAX_CONTROLS)
        return NULL;
    c->list[c->n] = (struct control){.name = name, .type = type, .max_rating = 5};
    return &c->list[c->n++];
}

static void see_choices(struct control *c, struct json_object *choices)
{
    size_t n =
        json_object_is_type(choices, json_type_array) ? json_object_array_length(choices) : 0;
    c->multiple = c->multiple || n > 1;
    for (size_t i = 0; i < n; i++) {
        struct json_object *label = json_object_array_get_idx(choices, i);
        bool known = !json_object_is_type(label, json_type_string) || c->n_labels == MAX_LABELS;
        for (size_t k = 0; k < c->n_labels && !known; k++)
            known = pd_str_eqz(pd_json_value_str(label), c->labels[k]);
        if (!known)
            c->labels[c->n_labels++] = json_object_get_string(label);
    }
}

static void see_result(struct controls *all, struct json_object *result)
{
    struct pd_str name = pd_json_str(result, "from_name"), type = pd_json_str(result, "type");
    struct json_object *value = pd_json_get(result, "value");
    if (!name.ptr || !type.ptr)
        return;
    struct control *c = control_named(all, name.ptr, type.ptr);
    if (!c)
        return;
    int64_t rating = pd_json_i64(value, "rating", 0);
    if (rating > c->max_rating && rating <= 10)
        c->max_rating = rating;
    see_choices(c, pd_json_get(value, "choices"));
}

static void see_row(struct controls *all, struct json_object *row)
{
    struct json_object *list = annotations_of(row);
    for (size_t i = 0; list && i < json_object_array_length(list); i++) {
        struct json_object *results = pd_json_get(json_object_array_get_idx(list, i), "result");
        for (size_t k = 0;
             json_object_is_type(results, json_type_array) && k < json_object_array_length(results);
             k++)
            see_result(all, json_object_array_get_idx(results, k));
    }
}

static enum pd_rc add_question(struct pd_db *db, int64_t dataset_id, const struct control *c,
                               bool only, struct pd_err *err)
{
    struct pd_buf s;
    struct pd_jw w;
    int64_t id = 0;
    bool rating = strcmp(c->type, "rating") == 0, text = strcmp(c->type, "textarea") == 0;
    pd_buf_init(&s, 0);
    pd_jw_init(&w, &s);
    pd_jw_object(&w);
    pd_jw_kstrz(&w, "type",
                rating ? "rating"
                : text ? "text"
                       : (c->multiple ? "multi_label_selection" : "label_selection"));
    if (text) {
        pd_jw_kbool(&w, "use_markdown", false);
    } else {
        pd_jw_key(&w, "options");
        pd_jw_array(&w);
        size_t n = rating ? (size_t)c->max_rating : c->n_labels;
        for (size_t i = 0; i < n; i++) {
            pd_jw_object(&w);
            if (rating) {
                pd_jw_ki64(&w, "value", (int64_t)i + 1);
            } else {
                pd_jw_kstrz(&w, "value", c->labels[i]);
                pd_jw_kstrz(&w, "text", c->labels[i]);
            }
            pd_jw_object_end(&w);
        }
        pd_jw_array_end(&w);
    }
    pd_jw_object_end(&w);
    struct pd_part_new q = {.dataset_id = dataset_id,
                            .kind = PD_PART_QUESTION,
                            .name = pd_str_from(c->name),
                            .required = only,
                            .settings = pd_buf_str(&s)};
    enum pd_rc rc = pd_part_create(db, &q, &id, err);
    pd_buf_release(&s);
    return rc;
}

static bool can_ask(const struct control *c)
{
    return strcmp(c->type, "rating") == 0 || strcmp(c->type, "textarea") == 0 ||
           (strcmp(c->type, "choices") == 0 && c->n_labels >= 2);
}

/* The task's texts, in order; conversations as chat. */
static size_t data_fields(struct json_object *data, const char **fields, bool *chat)
{
    size_t n = 0;
    json_object_object_foreach(data, key, v)
    {
        bool list = json_object_is_type(v, json_type_array) && json_object_array_length(v) > 0 &&
                    pd_json_str(json_object_array_get_idx(v, 0), "role").ptr;
        if (n < PD_TARGET_MAX_FIELDS && (json_object_is_type(v, json_type_string) || list)) {
            fields[n] = key;
            chat[n++] = list;
        }
    }
    return n;
}

static enum pd_rc create_plain(struct pd_db *db, const struct pd_import_options *o,
                               int64_t workspace_id, const char *const *fields, const bool *chat,
                               size_t n, int64_t *dataset_id, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_dataset_new d = {.workspace_id = workspace_id,
                               .name = pd_str_from(o->dataset),
                               .tmpl = PD_STR("label-studio"),
                               .allow_extra_metadata = true,
                               .min_submitted = o->min_submitted ? o->min_submitted : 1,
                               .author_id = o->author_id};
    PD_TRY(pd_dataset_create(db, &d, dataset_id, err));
    for (size_t i = 0; i < n; i++) {
        int64_t id = 0;
        struct pd_part_new f = {.dataset_id = *dataset_id,
                                .kind = PD_PART_FIELD,
                                .name = pd_str_from(fields[i]),
                                .required = true,
                                .settings =
                                    chat[i] ? PD_STR("{\"type\":\"chat\",\"use_markdown\":true}")
                                            : PD_STR("{\"type\":\"text\",\"use_markdown\":false}")};
        PD_TRY(pd_part_create(db, &f, &id, err));
    }
out:
    return rc;
}

enum pd_rc pd__ls_create(struct pd_db *db, struct pd_source *src, const struct pd_import_options *o,
                         int64_t workspace_id, int64_t *dataset_id, FILE *notes, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct json_object *first = NULL, *array = pd__source_array(src);
    const char *fields[PD_TARGET_MAX_FIELDS], *pairwise = NULL;
    bool chat[PD_TARGET_MAX_FIELDS];
    struct controls all = {.list = pd_xalloc(MAX_CONTROLS * sizeof(struct control))};
    size_t asked = 0, k = 0;
    PD_TRY(pd__source_first(src, &first, err));
    size_t n = data_fields(data_of(first), fields, chat);
    for (size_t i = 0; i < n; i++)
        k += pd_answer_like(fields[i]);
    for (size_t i = 0; array && i < json_object_array_length(array); i++)
        see_row(&all, json_object_array_get_idx(array, i));
    if (!array)
        see_row(&all, first);
    for (size_t i = 0; i < all.n; i++) {
        asked += can_ask(&all.list[i]);
        if (strcmp(all.list[i].type, "pairwise") == 0)
            pairwise = all.list[i].name;
    }
    if (pairwise && k != 2) {
        rc = PD_FAIL(
            err, PD_INVALID,
            "%s: the tasks have %zu texts that look like answers (answer1, response_2, ...), "
            "<Pairwise> compares two: make the dataset from its labeling config first "
            "(`podium dataset create NAME --template label-studio:CONFIG.xml`)",
            pd__source_where(src), k);
        goto out;
    }
    if (k >= 2 && (pairwise || !asked))
        rc = pd__create_compare(db, o, workspace_id, fields, chat, n,
                                pairwise ? pairwise : "preference", dataset_id, err);
    else if (asked)
        rc = create_plain(db, o, workspace_id, fields, chat, n, dataset_id, err);
    else
        rc = PD_FAIL(
            err, PD_INVALID,
            "%s: cannot tell what to ask: no annotations, and no texts to compare; make the "
            "dataset first (`podium dataset create NAME --template "
            "label-studio:CONFIG.xml`)",
            pd__source_where(src));
    PD_TRY(rc);
    for (size_t i = 0; i < all.n; i++) {
        struct control *c = &all.list[i];
        if (can_ask(c))
            PD_TRY(add_question(db, *dataset_id, c, asked == 1 && !pairwise, err));
        else if (strcmp(c->type, "pairwise") != 0)
            fprintf(notes, "%s: results of %s (%s) are left out: not a question here yet\n",
                    o->name ? o->name : o->path, c->name, c->type);
    }
out:
    pd_free(all.list);
    return rc;
}

/* ---- reading ---- */

/* An account name for who made an annotation: an id or an email. */
static void labeler_of(struct json_object *annotation, char out[96])
{
    struct json_object *who = pd_json_get(annotation, "completed_by");
    struct pd_str email = pd_json_str(who, "email");
    size_t n = 0;
    for (size_t i = 0; i < email.len && n < 90; i++) {
        char c = (char)tolower((unsigned char)email.ptr[i]);
        out[n++] = isalnum((unsigned char)c) || strchr("-_.@+", c) ? c : '-';
    }
    out[n] = '\0';
    if (n && isalnum((unsigned char)out[0]))
        return;
    int64_t id = json_object_is_type(who, json_type_int) ? json_object_get_int64(who)
                                                         : pd_json_i64(who, "id", 0);
    snprintf(out, 96, "label-studio-%lld", (long long)id);
}

/* left and right are the question's first and second option. */
static enum pd_rc pairwise_value(const struct pd_question *q, struct json_object *value,
                                 struct json_object **out, struct pd_err *err)
{
    struct pd_str selected = pd_json_str(value, "selected");
    bool left = pd_str_eqz(selected, "left"), right = pd_str_eqz(selected, "right");
    if (q->type != PD_QUESTION_RANKING || q->n_options != 2)
        return PD_FAIL(err, PD_INVALID, "%s is a pairwise result, the dataset's question is a %s",
                       q->name, pd_question_type_name(q->type));
    if (!left && !right && !pd_str_eqz(selected, "none"))
        return PD_FAIL(err, PD_INVALID, "%s: selected is '%.*s', expected left, right or none",
                       q->name, PD_STR_ARG(selected));
    struct json_object *tiers = json_object_new_array(), *tier = json_object_new_array();
    json_object_array_add(tier, pd__text(q->options[right ? 1 : 0]));
    json_object_array_add(tiers, tier);
    if (left || right) {
        tier = json_object_new_array();
        json_object_array_add(tiers, tier);
    }
    json_object_array_add(tier, pd__text(q->options[right ? 0 : 1]));
    *out = tiers;
    return PD_OK;
}

/* The value of one result in our form; *out NULL when the question takes nothing from it. */
static enum pd_rc value_of(const struct pd_question *q, struct json_object *result,
                           struct json_object **out, struct pd_err *err)
{
    struct pd_str type = pd_json_str(result, "type");
    struct json_object *value = pd_json_get(result, "value");
    *out = NULL;
    if (pd_str_eqz(type, "pairwise"))
        return pairwise_value(q, value, out, err);
    if (pd_str_eqz(type, "rating")) {
        *out = pd__ref(pd_json_get(value, "rating"));
    } else if (pd_str_eqz(type, "choices")) {
        struct json_object *list = pd_json_get(value, "choices");
        bool many = q->type == PD_QUESTION_MULTI_LABEL;
        bool one = json_object_is_type(list, json_type_array) && json_object_array_length(list);
        *out = many ? pd__ref(list) : one ? pd__ref(json_object_array_get_idx(list, 0)) : NULL;
    } else if (pd_str_eqz(type, "textarea")) {
        struct json_object *text = pd_json_get(value, "text");
        struct pd_buf all;
        if (!json_object_is_type(text, json_type_array)) {
            *out = pd__ref(text);
            return PD_OK;
        }
        pd_buf_init(&all, 0);
        for (size_t i = 0; i < json_object_array_length(text); i++) {
            if (i)
                pd_buf_addc(&all, '\n');
            pd_buf_addstr(&all, pd_json_value_str(json_object_array_get_idx(text, i)));
        }
        *out = json_object_new_string_len(pd_buf_cstr(&all), (int)all.len);
        pd_buf_release(&all);
    }
    return PD_OK;
}

/* Seconds that an annotation took, as milliseconds; none where the clock was set back meanwhile. */
static enum pd_rc read_lead_time(struct json_object *a, int64_t *ms, struct pd_err *err)
{
    const double most = 1e9, seconds = pd_json_f64(a, "lead_time", 0);
    if (!(seconds <= most))
        return PD_FAIL(err, PD_INVALID, "lead_time is %g seconds, expected %g at most", seconds,
                       most);
    *ms = seconds > 0 ? (int64_t)(seconds * 1000) : 0;
    return PD_OK;
}

static enum pd_rc read_annotation(const struct pd_target *t, struct json_object *a,
                                  struct pd_item *it, struct pd_err *err)
{
    struct json_object *results = pd_json_get(a, "result");
    bool skipped = pd_json_bool(a, "was_cancelled", false);
    enum pd_rc rc = PD_OK;
    if (!json_object_is_type(results, json_type_array))
        return PD_FAIL(err, PD_INVALID, "an annotation's result is %s, expected a list",
                       pd_json_type_name(results));
    if (it->n_answers == PD_ITEM_MAX_ANSWERS)
        return PD_FAIL(err, PD_TOOBIG, "more than %d annotations", PD_ITEM_MAX_ANSWERS);
    struct pd_item_answer *out = &it->answers[it->n_answers++];
    *out = (struct pd_item_answer){.status = skipped ? PD_ANSWER_DISCARDED : PD_ANSWER_SUBMITTED,
                                   .values = json_object_new_object()};
    PD_TRY(read_lead_time(a, &out->active_ms, err));
    labeler_of(a, out->labeler);
    struct pd_str at = pd_json_str(a, "updated_at");
    if (!at.ptr || !pd_time_parse(at, &out->at_us)) {
        at = pd_json_str(a, "created_at");
        if (at.ptr && !pd_time_parse(at, &out->at_us))
            return PD_FAIL(err, PD_INVALID, "created_at '%.*s' is no time", PD_STR_ARG(at));
    }
    for (size_t i = 0; i < json_object_array_length(results); i++) {
        struct json_object *r = json_object_array_get_idx(results, i), *value = NULL;
        const struct pd_question *q =
            pd_question_find(t->questions, t->n_questions, pd_json_str(r, "from_name"));
        if (!q && pd_str_eqz(pd_json_str(r, "type"), "pairwise") && t->ranking)
            q = t->ranking; /* the dataset names its comparison differently */
        if (!q)
            continue;
        PD_TRY(value_of(q, r, &value, err));
        if (!value)
            continue;
        struct json_object *entry = json_object_new_object();
        json_object_object_add(entry, "value", value);
        json_object_object_add(out->values, q->name, entry);
    }
    /* Submitted with nothing in it: seen, and left without an answer. */
    if (json_object_object_length(out->values) == 0)
        out->status = PD_ANSWER_DISCARDED;
out:
    return rc;
}

static bool is_field(const struct pd_target *t, const char *name)
{
    for (size_t i = 0; i < t->n_fields; i++)
        if (strcmp(t->fields[i].name, name) == 0)
            return true;
    return false;
}

static enum pd_rc read_data(const struct pd_target *t, struct json_object *data, struct pd_item *it,
                            struct pd_err *err)
{
    size_t mapped = 0;
    it->fields = json_object_new_object();
    json_object_object_foreach(data, key, v)
    {
        if (!v)
            continue;
        if (t->prompt && strcmp(key, t->prompt) == 0) {
            enum pd_rc rc = pd__set_prompt(t, v, it->fields, err);
            if (rc != PD_OK)
                return rc;
        } else if (is_field(t, key)) {
            json_object_object_add(it->fields, key, pd__ref(v));
        } else if (pd_answer_like(key) && mapped < t->n_answers &&
                   !is_field(t, key)) { /* answer1 into a */
            json_object_object_add(it->fields, t->answers[mapped++], pd__ref(v));
        } else {
            if (!it->metadata)
                it->metadata = json_object_new_object();
            json_object_object_add(it->metadata, key, pd__ref(v));
        }
    }
    for (size_t i = 0; i < t->n_answers; i++) {
        struct pd_str text = pd_str_trim(pd_json_str(it->fields, t->answers[i]));
        it->empty = it->empty || (pd_json_get(it->fields, t->answers[i]) && text.len == 0);
        for (size_t j = 0; j < i; j++)
            it->identical = it->identical ||
                            pd_str_eq(text, pd_str_trim(pd_json_str(it->fields, t->answers[j])));
    }
    return PD_OK;
}

enum pd_rc pd__ls_read(const struct pd_target *t, struct json_object *row, struct pd_item *it,
                       struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct json_object *list = annotations_of(row), *meta = pd_json_get(row, "meta");
    PD_TRY(read_data(t, data_of(row), it, err));
    if (json_object_is_type(meta, json_type_object) && json_object_object_length(meta)) {
        static const char *const none[] = {NULL};
        pd__keep_rest(meta, none, &it->metadata);
    }
    if (data_of(row) != row)
        PD_TRY(pd__set_external(it, pd_json_get(row, "id"), err));
    for (size_t i = 0; !t->without_judgments && list && i < json_object_array_length(list); i++)
        PD_TRY(read_annotation(t, json_object_array_get_idx(list, i), it, err));
out:
    return rc;
}
