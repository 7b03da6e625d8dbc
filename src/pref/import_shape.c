/* The shapes rows come in, except Label Studio's (import_ls.c): prompts, answers, pairs, Argilla
 * records, and plain rows of named fields. */
#include "base/crypt.h"
#include "base/mem.h"
#include "base/time.h"
#include "pref/import_int.h"
#include "pref/template.h"

#include <ctype.h>

/* ---- small things ---- */

struct json_object *pd__text(const char *s)
{
    return json_object_new_string(s);
}

static struct json_object *text_of(struct pd_str s)
{
    return json_object_new_string_len(s.ptr, (int)s.len);
}

struct json_object *pd__ref(struct json_object *o)
{
    return o ? json_object_get(o) : NULL;
}

void pd__item_release(struct pd_item *it)
{
    json_object_put(it->fields);
    json_object_put(it->metadata);
    json_object_put(it->hidden);
    for (size_t i = 0; i < it->n_answers; i++) {
        json_object_put(it->answers[i].values);
        json_object_put(it->answers[i].shown);
    }
    for (size_t i = 0; i < it->n_suggestions; i++) {
        json_object_put(it->suggestions[i].value);
        json_object_put(it->suggestions[i].score);
    }
    /* The lists are long and mostly empty: what lies beyond their counts is never read. */
    it->fields = it->metadata = it->hidden = NULL;
    it->n_answers = it->n_suggestions = 0;
    it->external_id[0] = '\0';
    it->identical = it->empty = false;
}

enum pd_rc pd__set_external(struct pd_item *it, struct json_object *id, struct pd_err *err)
{
    if (!id)
        return PD_OK;
    if (!json_object_is_type(id, json_type_string) && !json_object_is_type(id, json_type_int))
        return PD_FAIL(err, PD_INVALID, "id is %s, expected a string or an integer",
                       pd_json_type_name(id));
    const char *text = json_object_get_string(id);
    if (strlen(text) >= sizeof it->external_id)
        return PD_FAIL(err, PD_INVALID, "id has %zu bytes, at most %zu fit", strlen(text),
                       sizeof it->external_id - 1);
    memcpy(it->external_id, text, strlen(text) + 1);
    return PD_OK;
}

void pd__keep_rest(struct json_object *row, const char *const *used, struct json_object **metadata)
{
    json_object_object_foreach(row, key, v)
    {
        bool known = false;
        for (size_t i = 0; used[i] && !known; i++)
            known = strcmp(used[i], key) == 0;
        if (known)
            continue;
        if (!*metadata)
            *metadata = json_object_new_object();
        if (!json_object_object_get_ex(*metadata, key, NULL))
            json_object_object_add(*metadata, key, pd__ref(v));
    }
}

static enum pd_rc take_metadata(struct json_object *row, struct pd_item *it, struct pd_err *err)
{
    struct json_object *m = pd_json_get(row, "metadata");
    if (!m)
        return PD_OK;
    if (!json_object_is_type(m, json_type_object))
        return PD_FAIL(err, PD_INVALID, "metadata is %s, expected an object", pd_json_type_name(m));
    it->metadata = NULL;
    return json_object_deep_copy(m, &it->metadata, NULL) == 0
               ? PD_OK
               : PD_FAIL(err, PD_NOMEM, "no memory for a row's metadata");
}

/* ---- prompts: text or messages, as the field wants it ---- */

static struct json_object *message(const char *role, struct pd_str content)
{
    struct json_object *m = json_object_new_object();
    json_object_object_add(m, "role", pd__text(role));
    json_object_object_add(m, "content", text_of(content));
    return m;
}

enum pd_rc pd__set_prompt(const struct pd_target *t, struct json_object *prompt,
                          struct json_object *fields, struct pd_err *err)
{
    bool list = json_object_is_type(prompt, json_type_array);
    bool text = json_object_is_type(prompt, json_type_string);
    struct json_object *v = NULL;
    if (!t->prompt)
        return PD_FAIL(err, PD_INVALID, "the dataset has no field for the prompt");
    if (list == t->prompt_chat && (list || text)) {
        v = json_object_get(prompt);
    } else if (text) {
        v = json_object_new_array();
        json_object_array_add(v, message("user", pd_json_value_str(prompt)));
    } else if (list && json_object_array_length(prompt) == 1) {
        struct json_object *only = json_object_array_get_idx(prompt, 0);
        struct json_object *content = pd_json_get(only, "content");
        if (json_object_is_type(content, json_type_string))
            v = json_object_get(content);
    }
    if (!v)
        return PD_FAIL(err, PD_INVALID, "the prompt is %s; field %s takes %s",
                       list ? "a conversation" : pd_json_type_name(prompt), t->prompt,
                       t->prompt_chat ? "a text or a list of messages" : "a text");
    json_object_object_add(fields, t->prompt, v);
    return PD_OK;
}

/* An answer's text; a list of one assistant message counts as its content. */
static enum pd_rc answer_text(struct json_object *v, const char *what, struct pd_str *out,
                              struct pd_err *err)
{
    if (json_object_is_type(v, json_type_array) && json_object_array_length(v) == 1)
        v = pd_json_get(json_object_array_get_idx(v, 0), "content");
    *out = pd_json_value_str(v);
    return out->ptr
               ? PD_OK
               : PD_FAIL(err, PD_INVALID, "%s is %s, expected a text", what, pd_json_type_name(v));
}

static void note_texts(struct pd_item *it, const struct pd_str *texts, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        it->empty = it->empty || pd_str_trim(texts[i]).len == 0;
        for (size_t j = 0; j < i; j++)
            it->identical =
                it->identical || pd_str_eq(pd_str_trim(texts[i]), pd_str_trim(texts[j]));
    }
}

/* ---- making datasets ---- */

static struct pd_template_options template_for(const struct pd_import_options *o, const char *tmpl,
                                               int64_t workspace_id)
{
    return (struct pd_template_options){.name = pd_str_from(o->dataset),
                                        .tmpl = pd_str_from(tmpl),
                                        .workspace_id = workspace_id,
                                        .author_id = o->author_id,
                                        .min_submitted = o->min_submitted,
                                        .made_by = "cli"};
}

static enum pd_rc create_answers(struct pd_db *db, struct pd_source *src,
                                 const struct pd_import_options *o, int64_t workspace_id,
                                 int64_t *dataset_id, FILE *notes, struct pd_err *err)
{
    struct json_object *row = NULL;
    (void)notes;
    enum pd_rc rc = pd__source_first(src, &row, err);
    if (rc != PD_OK)
        return rc;
    struct json_object *answers = pd_json_get(row, "answers");
    size_t k =
        json_object_is_type(answers, json_type_array) ? json_object_array_length(answers) : 0;
    if (k < 2 || k > 26)
        return PD_FAIL(err, PD_INVALID,
                       "%s: a comparison needs 2 to 26 answers, the first row has %zu "
                       "(`podium generate --n 2` makes two)",
                       pd__source_where(src), k);
    struct pd_template_options t = template_for(o, k == 2 ? "pairwise" : "ranking", workspace_id);
    t.answers = k;
    t.chat = json_object_is_type(pd_json_get(row, "prompt"), json_type_array);
    return pd_template_create(db, &t, dataset_id, err);
}

/* HH transcripts are conversations, so are message lists. */
static enum pd_rc create_pairs(struct pd_db *db, struct pd_source *src,
                               const struct pd_import_options *o, int64_t workspace_id,
                               int64_t *dataset_id, FILE *notes, struct pd_err *err)
{
    struct json_object *row = NULL;
    (void)notes;
    enum pd_rc rc = pd__source_first(src, &row, err);
    if (rc != PD_OK)
        return rc;
    struct pd_template_options t = template_for(o, "pairwise", workspace_id);
    struct json_object *prompt = pd_json_get(row, "prompt");
    t.chat = !prompt || json_object_is_type(prompt, json_type_array);
    return pd_template_create(db, &t, dataset_id, err);
}

static enum pd_rc add_part(struct pd_db *db, int64_t dataset_id, enum pd_part_kind kind,
                           const char *name, const char *settings, struct pd_err *err)
{
    int64_t id = 0;
    struct pd_part_new p = {.dataset_id = dataset_id,
                            .kind = kind,
                            .name = pd_str_from(name),
                            .required = true,
                            .settings = pd_str_from(settings)};
    return pd_part_create(db, &p, &id, err);
}

static enum pd_rc new_dataset(struct pd_db *db, const struct pd_import_options *o,
                              int64_t workspace_id, const char *tmpl, int64_t *dataset_id,
                              struct pd_err *err)
{
    struct pd_dataset_new d = {.workspace_id = workspace_id,
                               .name = pd_str_from(o->dataset),
                               .tmpl = pd_str_from(tmpl),
                               .allow_extra_metadata = true,
                               .min_submitted = o->min_submitted ? o->min_submitted : 1,
                               .author_id = o->author_id};
    return pd_dataset_create(db, &d, dataset_id, err);
}

enum pd_rc pd__create_compare(struct pd_db *db, const struct pd_import_options *o,
                              int64_t workspace_id, const char *const *fields, const bool *chat,
                              size_t n_fields, const char *question, int64_t *dataset_id,
                              struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_buf settings;
    struct pd_jw w;
    size_t k = 0;
    pd_buf_init(&settings, 0);
    for (size_t i = 0; i < n_fields; i++)
        k += pd_answer_like(fields[i]);
    PD_TRY(new_dataset(db, o, workspace_id, k == 2 ? "pairwise" : "ranking", dataset_id, err));
    pd_jw_init(&w, &settings);
    pd_jw_object(&w);
    pd_jw_kstrz(&w, "type", "ranking");
    pd_jw_key(&w, "options");
    pd_jw_array(&w);
    for (size_t i = 0; i < n_fields; i++) {
        PD_TRY(add_part(db, *dataset_id, PD_PART_FIELD, fields[i],
                        chat && chat[i] ? "{\"type\":\"chat\",\"use_markdown\":true}"
                                        : "{\"type\":\"text\",\"use_markdown\":true}",
                        err));
        if (!pd_answer_like(fields[i]))
            continue;
        pd_jw_object(&w);
        pd_jw_kstrz(&w, "value", fields[i]);
        pd_jw_kstrz(&w, "text", fields[i]);
        pd_jw_object_end(&w);
    }
    pd_jw_array_end(&w);
    if (k == 2) {
        pd_jw_kbool(&w, "strength", true);
        pd_jw_kbool(&w, "both_bad", true);
    }
    pd_jw_object_end(&w);
    PD_TRY(add_part(db, *dataset_id, PD_PART_QUESTION, question, pd_buf_cstr(&settings), err));
out:
    pd_buf_release(&settings);
    return rc;
}

static bool is_reserved(const char *key)
{
    return strcmp(key, "id") == 0 || strcmp(key, "external_id") == 0 ||
           strcmp(key, "metadata") == 0;
}

/* Columns prompt, answer1, answer2: a comparison. A prompt alone: people write the answer. */
static enum pd_rc create_rows(struct pd_db *db, struct pd_source *src,
                              const struct pd_import_options *o, int64_t workspace_id,
                              int64_t *dataset_id, FILE *notes, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct json_object *row = NULL;
    const char *fields[PD_TARGET_MAX_FIELDS];
    bool chat[PD_TARGET_MAX_FIELDS];
    size_t n = 0, k = 0;
    bool has_prompt = false;
    (void)notes;
    PD_TRY(pd__source_first(src, &row, err));
    json_object_object_foreach(row, key, v)
    {
        bool text = json_object_is_type(v, json_type_string);
        bool prompt = strcmp(key, "prompt") == 0;
        bool list = prompt && json_object_is_type(v, json_type_array);
        if (is_reserved(key) || n == PD_TARGET_MAX_FIELDS || !(text || list))
            continue;
        if (!prompt && !pd_answer_like(key))
            continue;
        fields[n] = key;
        chat[n++] = list;
        k += pd_answer_like(key);
        has_prompt = has_prompt || prompt;
    }
    if (k >= 2) {
        rc =
            pd__create_compare(db, o, workspace_id, fields, chat, n, "preference", dataset_id, err);
    } else if (has_prompt) {
        PD_TRY(new_dataset(db, o, workspace_id, "custom", dataset_id, err));
        PD_TRY(add_part(db, *dataset_id, PD_PART_FIELD, "prompt",
                        json_object_is_type(pd_json_get(row, "prompt"), json_type_array)
                            ? "{\"type\":\"chat\",\"use_markdown\":true}"
                            : "{\"type\":\"text\",\"use_markdown\":true}",
                        err));
        PD_TRY(add_part(db, *dataset_id, PD_PART_QUESTION, "response",
                        "{\"type\":\"text\",\"use_markdown\":true}", err));
    } else {
        rc = PD_FAIL(err, PD_INVALID,
                     "%s: cannot tell what to ask: expected columns like prompt, answer1, answer2; "
                     "or make the dataset first (`podium dataset create`)",
                     pd__source_where(src));
    }
out:
    return rc;
}

static enum pd_rc create_argilla(struct pd_db *db, struct pd_source *src,
                                 const struct pd_import_options *o, int64_t workspace_id,
                                 int64_t *dataset_id, FILE *notes, struct pd_err *err)
{
    (void)db, (void)workspace_id, (void)dataset_id, (void)notes, (void)src;
    return PD_FAIL(err, PD_INVALID,
                   "%s: Argilla records do not carry their questions: make dataset '%s' first "
                   "(`podium dataset create`, or push it with the argilla client)",
                   o->name ? o->name : o->path, o->dataset);
}

/* ---- reading rows ---- */

static bool fits_answers(struct json_object *row)
{
    return json_object_is_type(pd_json_get(row, "answers"), json_type_array);
}

/* What leads compare by: the model, and the settings in which this answer's variant differs from
 * the others ("ppo temperature=0.7 top_k=10"). */
static struct json_object *maker_of(struct pd_str model, struct json_object *params)
{
    struct pd_buf name;
    pd_buf_init(&name, 0);
    pd_buf_addstr(&name, model);
    if (json_object_is_type(params, json_type_object)) {
        json_object_object_foreach(params, key, value)
        {
            pd_buf_addf(&name, "%s%s=%s", name.len ? " " : "", key, json_object_get_string(value));
        }
    }
    struct json_object *o = text_of(pd_buf_str(&name));
    pd_buf_release(&name);
    return o;
}

/* {"id","prompt","answers":[{"text","model","params"?,"id"?,...}],"params","seed"}: who made an
 * answer, and how, is kept where labelers do not see it. */
static enum pd_rc read_answers(const struct pd_target *t, struct json_object *row,
                               struct pd_item *it, struct pd_err *err)
{
    static const char *const used[] = {"id",   "prompt",   "answers", "params",
                                       "seed", "metadata", NULL};
    enum pd_rc rc = PD_OK;
    struct json_object *list = pd_json_get(row, "answers");
    struct pd_str texts[26];
    size_t k = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
    if (k != t->n_answers)
        return PD_FAIL(err, PD_INVALID, "%zu answers, the dataset compares %zu", k, t->n_answers);
    it->fields = json_object_new_object();
    it->hidden = json_object_new_object();
    struct json_object *models = json_object_new_object(), *settings = NULL;
    json_object_object_add(it->hidden, "models", models);
    PD_TRY(pd__set_prompt(t, pd_json_get(row, "prompt"), it->fields, err));
    for (size_t i = 0; i < k; i++) {
        struct json_object *a = json_object_array_get_idx(list, i);
        struct pd_str id = pd_json_str(a, "id"), model = pd_json_str(a, "model");
        const char *field = t->answers[i];
        for (size_t j = 0; id.ptr && j < t->n_answers; j++)
            if (pd_str_eqz(id, t->answers[j]))
                field = t->answers[j];
        if (pd_json_get(it->fields, field))
            return PD_FAIL(err, PD_INVALID, "answer %zu: id '%s' stands twice", i + 1, field);
        texts[i] = json_object_is_type(a, json_type_string) ? pd_json_value_str(a)
                                                            : pd_json_str(a, "text");
        if (!texts[i].ptr)
            return PD_FAIL(err, PD_INVALID, "answer %zu has no \"text\"", i + 1);
        json_object_object_add(it->fields, field, text_of(texts[i]));
        struct json_object *params = pd_json_get(a, "params");
        if (model.ptr || params)
            json_object_object_add(models, field, maker_of(model, params));
        if (params && !settings) {
            settings = json_object_new_object();
            json_object_object_add(it->hidden, "settings", settings);
        }
        if (params)
            json_object_object_add(settings, field, pd__ref(params));
    }
    note_texts(it, texts, k);
    for (const char *const *key = (const char *const[]){"params", "seed", NULL}; *key; key++)
        if (pd_json_get(row, *key))
            json_object_object_add(it->hidden, *key, pd__ref(pd_json_get(row, *key)));
    PD_TRY(take_metadata(row, it, err));
    pd__keep_rest(row, used, &it->metadata);
    PD_TRY(pd__set_external(it, pd_json_get(row, "id"), err));
out:
    return rc;
}

static bool fits_pairs(struct json_object *row)
{
    return pd_json_get(row, "chosen") && pd_json_get(row, "rejected");
}

/* "\n\nHuman: ..\n\nAssistant: .." as messages. */
static struct json_object *transcript_messages(struct pd_str s)
{
    static const struct {
        const char *mark, *role;
    } turns[] = {{"\n\nHuman:", "user"}, {"\n\nAssistant:", "assistant"}};
    struct json_object *list = json_object_new_array();
    const char *role = NULL;
    size_t start = 0;
    for (size_t i = 0; i <= s.len; i++) {
        for (size_t k = 0; k < 2; k++) {
            struct pd_str rest = {s.ptr + i, s.len - i};
            if (i < s.len && !pd_str_starts(rest, pd_str_from(turns[k].mark)))
                continue;
            if (role)
                json_object_array_add(
                    list, message(role, pd_str_trim((struct pd_str){s.ptr + start, i - start})));
            role = i < s.len ? turns[k].role : NULL;
            start = i + strlen(turns[k].mark);
            break;
        }
    }
    return list;
}

/* Where the last "\n\nAssistant:" ends; 0 = none. */
static size_t last_reply(struct pd_str s)
{
    struct pd_str mark = PD_STR("\n\nAssistant:");
    for (size_t i = s.len; i-- > 0;)
        if (pd_str_starts((struct pd_str){s.ptr + i, s.len - i}, mark))
            return i + mark.len;
    return 0;
}

struct pair {
    struct json_object *prompt; /* owned */
    struct pd_str chosen, rejected;
};

static enum pd_rc split_transcripts(struct pd_str c, struct pd_str r, struct pair *p,
                                    struct pd_err *err)
{
    struct pd_str mark = PD_STR("\n\nAssistant:");
    size_t at_c = last_reply(c), at_r = last_reply(r);
    if (!at_c || !at_r)
        return PD_FAIL(err, PD_INVALID,
                       "no \"prompt\", and chosen and rejected are no \\n\\nHuman: .. "
                       "\\n\\nAssistant: .. transcripts");
    if (at_c != at_r || memcmp(c.ptr, r.ptr, at_c) != 0)
        return PD_FAIL(err, PD_INVALID, "the two conversations differ before the last reply");
    p->prompt = transcript_messages((struct pd_str){c.ptr, at_c - mark.len});
    p->chosen = pd_str_trim((struct pd_str){c.ptr + at_c, c.len - at_c});
    p->rejected = pd_str_trim((struct pd_str){r.ptr + at_r, r.len - at_r});
    return PD_OK;
}

/* Message lists with the conversation inside: all but the last message is the prompt. */
static enum pd_rc split_messages(struct json_object *c, struct json_object *r, struct pair *p,
                                 struct pd_err *err)
{
    size_t n = json_object_array_length(c);
    if (n < 2 || json_object_array_length(r) != n)
        return PD_FAIL(err, PD_INVALID,
                       "no \"prompt\", and the conversations in chosen and rejected do not match");
    p->prompt = json_object_new_array();
    for (size_t i = 0; i + 1 < n; i++) {
        struct json_object *m = json_object_array_get_idx(c, i);
        if (!json_object_equal(m, json_object_array_get_idx(r, i)))
            return PD_FAIL(err, PD_INVALID, "the two conversations differ before the last reply");
        json_object_array_add(p->prompt, json_object_get(m));
    }
    p->chosen = pd_json_str(json_object_array_get_idx(c, n - 1), "content");
    p->rejected = pd_json_str(json_object_array_get_idx(r, n - 1), "content");
    return p->chosen.ptr && p->rejected.ptr
               ? PD_OK
               : PD_FAIL(err, PD_INVALID, "a message has no \"content\"");
}

static enum pd_rc read_pair(struct json_object *row, struct pair *p, struct pd_err *err)
{
    struct json_object *c = pd_json_get(row, "chosen"), *r = pd_json_get(row, "rejected");
    struct json_object *prompt = pd_json_get(row, "prompt");
    enum pd_rc rc = PD_OK;
    if (prompt) {
        rc = answer_text(c, "chosen", &p->chosen, err);
        if (rc == PD_OK)
            rc = answer_text(r, "rejected", &p->rejected, err);
        if (rc == PD_OK)
            p->prompt = json_object_get(prompt);
        return rc;
    }
    if (json_object_is_type(c, json_type_array) && json_object_is_type(r, json_type_array))
        return split_messages(c, r, p, err);
    struct pd_str cs = pd_json_value_str(c), rs = pd_json_value_str(r);
    if (!cs.ptr || !rs.ptr)
        return PD_FAIL(err, PD_INVALID, "chosen is %s and rejected %s, expected texts",
                       pd_json_type_name(c), pd_json_type_name(r));
    return split_transcripts(cs, rs, p, err);
}

/* Which of the two stands first must not tell which is preferred. */
static bool chosen_first(const struct pair *p)
{
    struct pd_sha256 h;
    char hex[65];
    bool sorted = p->chosen.len < p->rejected.len;
    struct pd_str one = sorted ? p->chosen : p->rejected, two = sorted ? p->rejected : p->chosen;
    pd_sha256_init(&h);
    pd_sha256_add(&h, one.ptr, one.len);
    pd_sha256_add(&h, "\0", 1);
    pd_sha256_add(&h, two.ptr, two.len);
    const char *prompt = json_object_to_json_string_ext(p->prompt, JSON_C_TO_STRING_PLAIN);
    pd_sha256_add(&h, prompt, strlen(prompt));
    pd_sha256_hex(&h, hex);
    return (hex[0] & 1) == sorted;
}

static struct json_object *ranking_of(const char *best, const char *worst)
{
    struct json_object *tiers = json_object_new_array();
    const char *order[] = {best, worst};
    for (size_t i = 0; i < 2; i++) {
        struct json_object *tier = json_object_new_array();
        json_object_array_add(tier, pd__text(order[i]));
        json_object_array_add(tiers, tier);
    }
    return tiers;
}

static enum pd_rc read_pairs(const struct pd_target *t, struct json_object *row, struct pd_item *it,
                             struct pd_err *err)
{
    static const char *const used[] = {"id",       "prompt",   "chosen", "rejected",
                                       "strength", "metadata", NULL};
    enum pd_rc rc = PD_OK;
    struct pair p = {0};
    if (t->n_answers != 2)
        return PD_FAIL(err, PD_INVALID, "a pair has 2 answers, the dataset compares %zu",
                       t->n_answers);
    PD_TRY(read_pair(row, &p, err));
    bool first = chosen_first(&p);
    const char *best = t->answers[first ? 0 : 1], *worst = t->answers[first ? 1 : 0];
    it->fields = json_object_new_object();
    PD_TRY(pd__set_prompt(t, p.prompt, it->fields, err));
    json_object_object_add(it->fields, t->answers[0], text_of(first ? p.chosen : p.rejected));
    json_object_object_add(it->fields, t->answers[1], text_of(first ? p.rejected : p.chosen));
    struct pd_str texts[] = {p.chosen, p.rejected};
    note_texts(it, texts, 2);
    if (!t->without_judgments && t->ranking) {
        struct pd_item_answer *a = &it->answers[it->n_answers++];
        struct json_object *entry = json_object_new_object();
        *a = (struct pd_item_answer){.labeler = "imported", .status = PD_ANSWER_SUBMITTED};
        json_object_object_add(entry, "value", ranking_of(best, worst));
        if (pd_json_get(row, "strength"))
            json_object_object_add(entry, "strength", pd__ref(pd_json_get(row, "strength")));
        a->values = json_object_new_object();
        json_object_object_add(a->values, t->ranking->name, entry);
    }
    PD_TRY(take_metadata(row, it, err));
    pd__keep_rest(row, used, &it->metadata);
    PD_TRY(pd__set_external(it, pd_json_get(row, "id"), err));
out:
    json_object_put(p.prompt);
    return rc;
}

static bool fits_rows(struct json_object *row)
{
    (void)row;
    return true;
}

static bool fits_prompts(struct json_object *row)
{
    if (!pd_json_get(row, "prompt"))
        return false;
    json_object_object_foreach(row, key, v)
    {
        (void)v;
        if (pd_answer_like(key))
            return false;
    }
    return true;
}

/* Fields by name; what is no field goes to the metadata. */
static enum pd_rc read_rows(const struct pd_target *t, struct json_object *row, struct pd_item *it,
                            struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const char *used[PD_TARGET_MAX_FIELDS + 4];
    size_t n = 0, n_texts = 0, mapped = 0;
    struct pd_str texts[26];
    it->fields = json_object_new_object();
    for (size_t i = 0; i < t->n_fields; i++) {
        const char *name = t->fields[i].name;
        struct json_object *v = pd_json_get(row, name);
        if (!v)
            continue;
        used[n++] = name;
        if (t->prompt && strcmp(name, t->prompt) == 0)
            PD_TRY(pd__set_prompt(t, v, it->fields, err));
        else
            json_object_object_add(it->fields, name, pd__ref(v));
    }
    /* answer1, answer2 into a dataset that calls them a, b */
    json_object_object_foreach(row, key, v)
    {
        if (!pd_answer_like(key) || pd_json_get(it->fields, key) || !v)
            continue;
        while (mapped < t->n_answers && pd_json_get(it->fields, t->answers[mapped]))
            mapped++;
        if (mapped == t->n_answers || n == PD_TARGET_MAX_FIELDS)
            break;
        json_object_object_add(it->fields, t->answers[mapped], pd__ref(v));
        used[n++] = key;
    }
    for (size_t i = 0; i < t->n_answers; i++) {
        struct pd_str s = pd_json_str(it->fields, t->answers[i]);
        if (s.ptr)
            texts[n_texts++] = s;
    }
    note_texts(it, texts, n_texts);
    used[n++] = "id";
    used[n++] = "external_id";
    used[n++] = "metadata";
    used[n] = NULL;
    PD_TRY(take_metadata(row, it, err));
    pd__keep_rest(row, used, &it->metadata);
    struct json_object *id = pd_json_get(row, "external_id");
    PD_TRY(pd__set_external(it, id ? id : pd_json_get(row, "id"), err));
out:
    return rc;
}

/* ---- Argilla ---- */

static bool fits_argilla(struct json_object *row)
{
    return json_object_is_type(pd_json_get(row, "fields"), json_type_object);
}

static struct pd_item_answer *answer_of(struct pd_item *it, const char *labeler)
{
    for (size_t i = 0; i < it->n_answers; i++)
        if (strcmp(it->answers[i].labeler, labeler) == 0)
            return &it->answers[i];
    if (it->n_answers == PD_ITEM_MAX_ANSWERS)
        return NULL;
    struct pd_item_answer *a = &it->answers[it->n_answers++];
    *a = (struct pd_item_answer){.status = PD_ANSWER_SUBMITTED, .values = json_object_new_object()};
    snprintf(a->labeler, sizeof a->labeler, "%s", labeler);
    return a;
}

/* A name an account can have, from an id, an email or anything else. */
static void labeler_name(struct pd_str id, char out[96])
{
    size_t n = 0;
    for (size_t i = 0; i < id.len && n < 90; i++) {
        char c = (char)tolower((unsigned char)id.ptr[i]);
        out[n++] = isalnum((unsigned char)c) || strchr("-_.@+", c) ? c : '-';
    }
    out[n] = '\0';
    if (!n || !isalnum((unsigned char)out[0]))
        snprintf(out, 96, "argilla-labeler");
}

/* v1: [{"user_id","status","values":{q:{"value"}}}]; v2 dumps: {q:[{"value","user_id","status"}]}.
 */
static enum pd_rc argilla_responses(struct json_object *r, struct pd_item *it, struct pd_err *err)
{
    char name[96];
    if (json_object_is_type(r, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(r); i++) {
            struct json_object *one = json_object_array_get_idx(r, i);
            struct pd_str status = pd_json_str(one, "status");
            labeler_name(pd_json_str(one, "user_id"), name);
            struct pd_item_answer *a = answer_of(it, name);
            if (!a)
                return PD_FAIL(err, PD_TOOBIG, "more than %d responses", PD_ITEM_MAX_ANSWERS);
            if (status.ptr && !pd_answer_status_parse(status, &a->status))
                return PD_FAIL(err, PD_INVALID, "response %zu: status '%.*s'", i + 1,
                               PD_STR_ARG(status));
            json_object_put(a->values);
            a->values = pd__ref(pd_json_get(one, "values"));
        }
        return PD_OK;
    }
    if (!json_object_is_type(r, json_type_object))
        return PD_OK;
    json_object_object_foreach(r, question, list)
    {
        for (size_t i = 0;
             json_object_is_type(list, json_type_array) && i < json_object_array_length(list);
             i++) {
            struct json_object *one = json_object_array_get_idx(list, i);
            struct pd_str status = pd_json_str(one, "status");
            labeler_name(pd_json_str(one, "user_id"), name);
            struct pd_item_answer *a = answer_of(it, name);
            if (!a)
                return PD_FAIL(err, PD_TOOBIG, "more than %d responses", PD_ITEM_MAX_ANSWERS);
            if (status.ptr)
                (void)pd_answer_status_parse(status, &a->status);
            struct json_object *entry = json_object_new_object();
            json_object_object_add(entry, "value", pd__ref(pd_json_get(one, "value")));
            json_object_object_add(a->values, question, entry);
        }
    }
    return PD_OK;
}

static enum pd_rc add_suggestion(struct pd_item *it, const char *question, struct json_object *s,
                                 struct pd_err *err)
{
    if (it->n_suggestions == PD_ITEM_MAX_SUGGESTIONS)
        return PD_FAIL(err, PD_TOOBIG, "more than %d suggestions", PD_ITEM_MAX_SUGGESTIONS);
    struct pd_item_suggestion *out = &it->suggestions[it->n_suggestions++];
    *out = (struct pd_item_suggestion){.value = pd__ref(pd_json_get(s, "value")),
                                       .score = pd__ref(pd_json_get(s, "score"))};
    snprintf(out->question, sizeof out->question, "%s", question);
    struct pd_str agent = pd_json_str(s, "agent");
    snprintf(out->agent, sizeof out->agent, "%.*s", PD_STR_ARG(agent));
    return PD_OK;
}

static enum pd_rc argilla_suggestions(struct json_object *s, struct pd_item *it, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    if (json_object_is_type(s, json_type_array)) {
        for (size_t i = 0; rc == PD_OK && i < json_object_array_length(s); i++) {
            struct json_object *one = json_object_array_get_idx(s, i);
            struct pd_str q = pd_json_str(one, "question_name");
            if (q.ptr && pd_json_get(one, "value"))
                rc = add_suggestion(it, json_object_get_string(pd_json_get(one, "question_name")),
                                    one, err);
        }
    } else if (json_object_is_type(s, json_type_object)) {
        json_object_object_foreach(s, question, one)
        {
            if (rc == PD_OK && pd_json_get(one, "value"))
                rc = add_suggestion(it, question, one, err);
        }
    }
    return rc;
}

static enum pd_rc read_argilla(const struct pd_target *t, struct json_object *row,
                               struct pd_item *it, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    (void)t;
    it->fields = pd__ref(pd_json_get(row, "fields"));
    PD_TRY(take_metadata(row, it, err));
    struct json_object *id = pd_json_get(row, "external_id");
    PD_TRY(pd__set_external(it, id ? id : pd_json_get(row, "id"), err));
    if (!t->without_judgments)
        PD_TRY(argilla_responses(pd_json_get(row, "responses"), it, err));
    PD_TRY(argilla_suggestions(pd_json_get(row, "suggestions"), it, err));
out:
    return rc;
}

/* In the order in which they are tried. */
const struct pd_shape pd__shapes[] = {
    {"answers", fits_answers, create_answers, read_answers},
    {"pairs", fits_pairs, create_pairs, read_pairs},
    {"label-studio", pd__ls_fits, pd__ls_create, pd__ls_read},
    {"argilla", fits_argilla, create_argilla, read_argilla},
    {"prompts", fits_prompts, create_rows, read_rows},
    {"rows", fits_rows, create_rows, read_rows},
};
const size_t pd__n_shapes = sizeof pd__shapes / sizeof *pd__shapes;
const char pd_import_shapes[] = "auto|answers|pairs|label-studio|argilla|prompts|rows";
