/* Templates, made part by part like any other dataset. */
#include "pref/template.h"
#include "base/mem.h"
#include "pref/labelconfig.h"
#include "pref/question.h"
#include "store/user.h"

enum pd_rc pd_workspace_default(struct pd_db *db, struct pd_str name, int64_t *id,
                                struct pd_err *err)
{
    struct pd_arena a;
    struct pd_workspace w = {0};
    struct pd_err quiet;
    pd_arena_init(&a);
    if (!name.len)
        name = PD_STR("podium");
    enum pd_rc rc = pd_workspace_by_name(db, &a, name, &w, &quiet);
    if (rc == PD_OK)
        *id = w.id;
    else if (rc == PD_NOTFOUND)
        rc = pd_workspace_create(db, name, id, err);
    else if (err)
        *err = quiet;
    pd_arena_release(&a);
    return rc;
}

static enum pd_rc add_field(struct pd_db *db, int64_t dataset_id, struct pd_str name,
                            struct pd_str title, bool chat, struct pd_err *err)
{
    int64_t id = 0;
    struct pd_part_new f = {.dataset_id = dataset_id,
                            .kind = PD_PART_FIELD,
                            .name = name,
                            .title = title,
                            .required = true,
                            .settings = chat ? PD_STR("{\"type\":\"chat\",\"use_markdown\":true}")
                                             : PD_STR("{\"type\":\"text\",\"use_markdown\":true}")};
    return pd_part_create(db, &f, &id, err);
}

static enum pd_rc add_question(struct pd_db *db, int64_t dataset_id, const char *name,
                               const char *title, const char *description, struct pd_str settings,
                               struct pd_err *err)
{
    int64_t id = 0;
    struct pd_part_new q = {.dataset_id = dataset_id,
                            .kind = PD_PART_QUESTION,
                            .name = pd_str_from(name),
                            .title = pd_str_from(title),
                            .description = {description, description ? strlen(description) : 0},
                            .required = true,
                            .settings = settings};
    return pd_part_create(db, &q, &id, err);
}

/* prompt, then answers a, b, c ...; and a ranking over them. */
static enum pd_rc fill_comparison(struct pd_db *db, int64_t dataset_id, size_t k, bool chat,
                                  struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_buf settings;
    struct pd_jw w;
    pd_buf_init(&settings, 0);
    PD_TRY(add_field(db, dataset_id, PD_STR("prompt"), PD_STR("Prompt"), chat, err));
    pd_jw_init(&w, &settings);
    pd_jw_object(&w);
    pd_jw_kstrz(&w, "type", "ranking");
    pd_jw_key(&w, "options");
    pd_jw_array(&w);
    for (size_t i = 0; i < k; i++) {
        char name[] = {(char)('a' + i), '\0'},
             title[] = {'A', 'n', 's', 'w', 'e', 'r', ' ', (char)('A' + i), '\0'};
        PD_TRY(add_field(db, dataset_id, pd_str_from(name), pd_str_from(title), false, err));
        pd_jw_object(&w);
        pd_jw_kstrz(&w, "value", name);
        pd_jw_kstrz(&w, "text", title);
        pd_jw_object_end(&w);
    }
    pd_jw_array_end(&w);
    if (k == 2) {
        pd_jw_kbool(&w, "strength", true);
        pd_jw_kbool(&w, "both_bad", true);
    }
    pd_jw_object_end(&w);
    PD_TRY(add_question(db, dataset_id, "preference",
                        k == 2 ? "Which answer is better?" : "Rank the answers, best first", NULL,
                        pd_buf_str(&settings), err));
out:
    pd_buf_release(&settings);
    return rc;
}

static enum pd_rc fill_rating(struct pd_db *db, int64_t dataset_id, bool chat, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    PD_TRY(add_field(db, dataset_id, PD_STR("prompt"), PD_STR("Prompt"), chat, err));
    PD_TRY(add_field(db, dataset_id, PD_STR("answer"), PD_STR("Answer"), false, err));
    PD_TRY(add_question(db, dataset_id, "rating", "How good is this answer?",
                        "1 is worst, 7 is best",
                        PD_STR("{\"type\":\"rating\",\"options\":[{\"value\":1},{\"value\":2},"
                               "{\"value\":3},{\"value\":4},{\"value\":5},{\"value\":6},"
                               "{\"value\":7}]}"),
                        err));
out:
    return rc;
}

static const char default_guidelines[] =
    "Read the prompt and every answer before you decide.\n\n"
    "1. **Helpful:** does it do what was asked, completely and correctly?\n"
    "2. **Honest:** does it avoid inventing facts or sources?\n"
    "3. **Harmless:** would you be fine with anyone reading it?\n\n"
    "Length alone is not quality. Call it a tie when you cannot tell the answers apart, and say "
    "*both bad* when neither is acceptable.\n";

enum pd_rc pd_template_create(struct pd_db *db, const struct pd_template_options *o,
                              int64_t *dataset_id, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    bool pairwise = pd_str_eqz(o->tmpl, "pairwise"), ranking = pd_str_eqz(o->tmpl, "ranking");
    bool rating = pd_str_eqz(o->tmpl, "rating"), xml = pd_str_eqz(o->tmpl, "label-studio");
    size_t k = pairwise ? 2 : o->answers ? o->answers : 3;
    struct pd_dataset_new d = {.workspace_id = o->workspace_id,
                               .uuid = o->uuid,
                               .name = o->name,
                               .tmpl = o->tmpl,
                               .made_by = pd_str_from(o->made_by),
                               .allow_extra_metadata = true,
                               .min_submitted = o->min_submitted ? o->min_submitted : 1,
                               .author_id = o->author_id,
                               .guidelines = o->guidelines.len ? o->guidelines
                                                               : pd_str_from(default_guidelines)};
    if (!pairwise && !ranking && !rating && !xml) {
        rc = PD_FAIL(err, PD_INVALID,
                     "no template '%.*s'; there are pairwise, ranking, rating, "
                     "label-studio:FILE.xml",
                     PD_STR_ARG(o->tmpl));
        goto out;
    }
    if (k < 2 || k > 26) {
        rc = PD_FAIL(err, PD_INVALID, "a ranking has 2 to 26 answers, not %zu", k);
        goto out;
    }
    PD_TRY(pd_dataset_create(db, &d, dataset_id, err));
    if (xml)
        PD_TRY(pd_labelconfig_create(db, *dataset_id, o->xml, err));
    else if (rating)
        PD_TRY(fill_rating(db, *dataset_id, o->chat, err));
    else
        PD_TRY(fill_comparison(db, *dataset_id, k, o->chat, err));
    if (o->publish)
        PD_TRY(pd_dataset_publish(db, *dataset_id, err));
out:
    return rc;
}
