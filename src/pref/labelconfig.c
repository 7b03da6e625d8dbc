/* A small expat reader: tags and attributes are compared without case, as the editor does. */
#include "pref/labelconfig.h"
#include "base/json.h"
#include "base/mem.h"
#include "pref/question.h"

#include <expat.h>
#include <strings.h>

enum { MAX_OBJECTS = 64, MAX_CONTROLS = 64, MAX_CHOICES = 500 };

struct object {
    const char *name, *key; /* key: what stands after the $ */
    bool chat;
};
struct control {
    const char *tag, *name, *to_name, *choice;
    int64_t max_rating;
    bool required;
    const char **choices;
    size_t n_choices;
};
struct reader {
    XML_Parser xml;
    struct pd_arena *a;
    struct object objects[MAX_OBJECTS];
    struct control controls[MAX_CONTROLS];
    size_t n_objects, n_controls;
    int depth, choices_depth; /* depth of the open Choices, 0 = none */
    enum pd_rc rc;
    struct pd_err *err;
};

static const char *attr(const char **atts, const char *name)
{
    for (; *atts; atts += 2)
        if (strcasecmp(atts[0], name) == 0)
            return atts[1];
    return NULL;
}

static bool is_one_of(const char *tag, const char *const *list)
{
    for (; *list; list++)
        if (strcasecmp(tag, *list) == 0)
            return true;
    return false;
}

static void stop(struct reader *r, enum pd_rc rc)
{
    r->rc = rc;
    XML_StopParser(r->xml, XML_FALSE);
}

static void add_object(struct reader *r, const char *tag, const char **atts)
{
    const char *name = attr(atts, "name"), *value = attr(atts, "value");
    if (!name || !value || value[0] != '$' || !value[1])
        return; /* literal text: layout */
    if (r->n_objects == MAX_OBJECTS) {
        stop(r, PD_FAIL(r->err, PD_TOOBIG, "more than %d objects", MAX_OBJECTS));
        return;
    }
    size_t len = strcspn(value + 1, ".[ ");
    r->objects[r->n_objects++] =
        (struct object){pd_arena_strdup(r->a, name), pd_arena_strndup(r->a, value + 1, len),
                        strcasecmp(tag, "Chat") == 0};
}

static void add_control(struct reader *r, const char *tag, const char **atts)
{
    const char *name = attr(atts, "name"), *to = attr(atts, "toName");
    const char *choice = attr(atts, "choice"), *max = attr(atts, "maxRating");
    const char *required = attr(atts, "required");
    if (!name || !to) {
        stop(r, PD_FAIL(r->err, PD_INVALID, "line %lu: <%s> needs name and toName",
                        XML_GetCurrentLineNumber(r->xml), tag));
        return;
    }
    if (r->n_controls == MAX_CONTROLS) {
        stop(r, PD_FAIL(r->err, PD_TOOBIG, "more than %d controls", MAX_CONTROLS));
        return;
    }
    struct control *c = &r->controls[r->n_controls++];
    *c = (struct control){.tag = pd_arena_strdup(r->a, tag),
                          .name = pd_arena_strdup(r->a, name),
                          .to_name = pd_arena_strdup(r->a, to),
                          .choice = pd_arena_strdup(r->a, choice ? choice : "single"),
                          .max_rating = 5,
                          .required = required && strcasecmp(required, "true") == 0};
    if (max && !pd_str_to_i64(pd_str_from(max), &c->max_rating))
        stop(r, PD_FAIL(r->err, PD_INVALID, "line %lu: maxRating=\"%s\" is not a number",
                        XML_GetCurrentLineNumber(r->xml), max));
    if (strcasecmp(tag, "Choices") == 0)
        r->choices_depth = r->depth;
}

static void add_choice(struct reader *r, const char **atts)
{
    const char *alias = attr(atts, "alias"), *value = attr(atts, "value");
    struct control *c = &r->controls[r->n_controls - 1];
    if (!c->choices)
        c->choices = pd_arena_alloc(r->a, MAX_CHOICES * sizeof *c->choices);
    if (!value || c->n_choices == MAX_CHOICES) {
        stop(r, PD_FAIL(r->err, PD_INVALID, "line %lu: <Choice> needs a value, and at most %d fit",
                        XML_GetCurrentLineNumber(r->xml), MAX_CHOICES));
        return;
    }
    c->choices[c->n_choices++] = pd_arena_strdup(r->a, alias ? alias : value);
}

static void on_start(void *data, const char *tag, const char **atts)
{
    static const char *const layout[] = {"View",  "Style",  "Header",   "Markdown",  "Collapse",
                                         "Panel", "Filter", "Shortcut", "HyperText", NULL};
    static const char *const objects[] = {"Text", "Paragraphs", "List", "Chat", NULL};
    static const char *const controls[] = {"Pairwise", "Choices", "Rating", "TextArea", NULL};
    struct reader *r = data;
    r->depth++;
    if (is_one_of(tag, layout))
        return;
    if (is_one_of(tag, objects))
        add_object(r, tag, atts);
    else if (is_one_of(tag, controls))
        add_control(r, tag, atts);
    else if (strcasecmp(tag, "Choice") == 0 && r->choices_depth)
        add_choice(r, atts);
    else
        stop(r, PD_FAIL(r->err, PD_UNSUPPORTED,
                        "line %lu: <%s> is not supported; Text, Paragraphs, Pairwise, Choices, "
                        "Rating and TextArea are",
                        XML_GetCurrentLineNumber(r->xml), tag));
}

static void on_end(void *data, const char *tag)
{
    struct reader *r = data;
    (void)tag;
    if (r->choices_depth == r->depth)
        r->choices_depth = 0;
    r->depth--;
}

static void on_doctype(void *data, const char *name, const char *sysid, const char *pubid, int has)
{
    struct reader *r = data;
    (void)name, (void)sysid, (void)pubid, (void)has;
    stop(r, PD_FAIL(r->err, PD_INVALID, "<!DOCTYPE> is not accepted in a labeling config"));
}

static enum pd_rc read_config(struct reader *r, struct pd_str xml, struct pd_err *err)
{
    if (xml.len > (size_t)1 << 20)
        return PD_FAIL(err, PD_TOOBIG, "a labeling config has at most 1 MiB");
    r->xml = XML_ParserCreate("UTF-8");
    if (!r->xml)
        return PD_FAIL(err, PD_NOMEM, "no memory for the XML parser");
    XML_SetUserData(r->xml, r);
    XML_SetElementHandler(r->xml, on_start, on_end);
    XML_SetStartDoctypeDeclHandler(r->xml, on_doctype);
    enum XML_Status st = XML_Parse(r->xml, xml.ptr, (int)xml.len, 1);
    enum pd_rc rc = r->rc;
    if (rc == PD_OK && st != XML_STATUS_OK)
        rc = PD_FAIL(err, PD_PARSE, "line %lu: %s", XML_GetCurrentLineNumber(r->xml),
                     XML_ErrorString(XML_GetErrorCode(r->xml)));
    XML_ParserFree(r->xml);
    return rc;
}

static const struct object *find_object(const struct reader *r, struct pd_str name)
{
    for (size_t i = 0; i < r->n_objects; i++)
        if (pd_str_eqz(name, r->objects[i].name))
            return &r->objects[i];
    return NULL;
}

static void write_option(struct pd_jw *w, const char *value)
{
    pd_jw_object(w);
    pd_jw_kstrz(w, "value", value);
    pd_jw_kstrz(w, "text", value);
    pd_jw_object_end(w);
}

/* left and right by the objects' data keys */
static enum pd_rc pairwise_settings(const struct reader *r, const struct control *c,
                                    struct pd_jw *w, struct pd_err *err)
{
    struct pd_str rest = pd_str_from(c->to_name), part;
    size_t n = 0;
    pd_jw_kstrz(w, "type", "ranking");
    pd_jw_key(w, "options");
    pd_jw_array(w);
    while (pd_str_split(&rest, ',', &part)) {
        part = pd_str_trim(part);
        const struct object *o = find_object(r, part);
        if (!o)
            return PD_FAIL(err, PD_INVALID, "<Pairwise name=\"%s\">: no object is named '%.*s'",
                           c->name, PD_STR_ARG(part));
        write_option(w, o->key);
        n++;
    }
    pd_jw_array_end(w);
    pd_jw_kbool(w, "strength", true);
    pd_jw_kbool(w, "both_bad", true);
    return n == 2 ? PD_OK
                  : PD_FAIL(err, PD_INVALID, "<Pairwise name=\"%s\"> compares two objects, not %zu",
                            c->name, n);
}

static enum pd_rc control_settings(const struct reader *r, const struct control *c,
                                   struct pd_buf *out, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_jw w;
    pd_jw_init(&w, out);
    pd_jw_object(&w);
    if (strcasecmp(c->tag, "Pairwise") == 0) {
        rc = pairwise_settings(r, c, &w, err);
    } else if (strcasecmp(c->tag, "Rating") == 0) {
        pd_jw_kstrz(&w, "type", "rating");
        pd_jw_key(&w, "options");
        pd_jw_array(&w);
        for (int64_t i = 1; i <= c->max_rating && i <= 11; i++) {
            pd_jw_object(&w);
            pd_jw_ki64(&w, "value", i);
            pd_jw_object_end(&w);
        }
        pd_jw_array_end(&w);
    } else if (strcasecmp(c->tag, "TextArea") == 0) {
        pd_jw_kstrz(&w, "type", "text");
        pd_jw_kbool(&w, "use_markdown", false);
    } else {
        pd_jw_kstrz(&w, "type",
                    strcasecmp(c->choice, "multiple") == 0 ? "multi_label_selection"
                                                           : "label_selection");
        pd_jw_key(&w, "options");
        pd_jw_array(&w);
        for (size_t i = 0; i < c->n_choices; i++)
            write_option(&w, c->choices[i]);
        pd_jw_array_end(&w);
    }
    pd_jw_object_end(&w);
    return rc;
}

static enum pd_rc add_question(struct pd_db *db, int64_t dataset_id, const struct reader *r,
                               const struct control *c, bool only, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_buf settings;
    struct json_object *tree = NULL;
    int64_t id = 0;
    pd_buf_init(&settings, 0);
    PD_TRY(control_settings(r, c, &settings, err));
    PD_TRY(pd_json_parse(pd_buf_str(&settings), &tree, err));
    PD_TRY(pd_part_check(PD_PART_QUESTION, pd_str_from(c->name), tree, err));
    struct pd_part_new q = {.dataset_id = dataset_id,
                            .kind = PD_PART_QUESTION,
                            .name = pd_str_from(c->name),
                            .required = c->required || only || strcasecmp(c->tag, "Pairwise") == 0,
                            .settings = pd_buf_str(&settings)};
    PD_TRY(pd_part_create(db, &q, &id, err));
out:
    json_object_put(tree);
    pd_buf_release(&settings);
    return rc;
}

static enum pd_rc add_field(struct pd_db *db, int64_t dataset_id, const struct object *o,
                            struct pd_err *err)
{
    int64_t id = 0;
    struct pd_part_new f = {.dataset_id = dataset_id,
                            .kind = PD_PART_FIELD,
                            .name = pd_str_from(o->key),
                            .required = true,
                            .settings = o->chat
                                            ? PD_STR("{\"type\":\"chat\",\"use_markdown\":true}")
                                            : PD_STR("{\"type\":\"text\",\"use_markdown\":false}")};
    return pd_part_create(db, &f, &id, err);
}

static enum pd_rc keep_config(struct pd_db *db, int64_t dataset_id, struct pd_str xml,
                              struct pd_err *err)
{
    struct pd_buf settings;
    struct pd_jw w;
    pd_buf_init(&settings, 0);
    pd_jw_init(&w, &settings);
    pd_jw_object(&w);
    pd_jw_kstr(&w, "label_config", xml);
    pd_jw_object_end(&w);
    enum pd_rc rc = pd_dataset_set_settings(db, dataset_id, pd_buf_str(&settings), err);
    pd_buf_release(&settings);
    return rc;
}

enum pd_rc pd_labelconfig_create(struct pd_db *db, int64_t dataset_id, struct pd_str xml,
                                 struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_arena a;
    struct reader *r = pd_xalloc(sizeof *r);
    pd_arena_init(&a);
    r->a = &a;
    r->err = err;
    rc = read_config(r, xml, err);
    if (rc != PD_OK) {
        pd_err_prefix(err, "labeling config");
        goto out;
    }
    if (!r->n_controls || !r->n_objects) {
        rc = PD_FAIL(err, PD_INVALID,
                     "labeling config: it has %zu objects (value=\"$key\") and %zu controls, and "
                     "needs at least one of each",
                     r->n_objects, r->n_controls);
        goto out;
    }
    for (size_t i = 0; i < r->n_objects; i++) {
        bool twice = false;
        for (size_t j = 0; j < i; j++)
            twice = twice || strcmp(r->objects[i].key, r->objects[j].key) == 0;
        if (!twice)
            PD_TRY(add_field(db, dataset_id, &r->objects[i], err));
    }
    for (size_t i = 0; i < r->n_controls; i++)
        PD_TRY(add_question(db, dataset_id, r, &r->controls[i], r->n_controls == 1, err));
    PD_TRY(keep_config(db, dataset_id, xml, err));
out:
    pd_arena_release(&a);
    pd_free(r);
    return rc;
}
