/* Agreement between labelers, as JSON or as a table. */
#include "api/op_int.h"
#include "pref/agreement.h"

static void text_measure(struct pd_buf *out, const char *name, struct json_object *value,
                         struct json_object *ci, const char *ci_name)
{
    struct json_object *range = pd_json_get(ci, ci_name);
    pd_buf_addf(out, "  %-28s ", name);
    if (!value) {
        pd_buf_adds(out, "undefined (no record judged twice, or everyone said the same)\n");
        return;
    }
    pd_buf_addf(out, "%7.3f", json_object_get_double(value));
    if (range)
        pd_buf_addf(out, "   [%.3f, %.3f]",
                    json_object_get_double(json_object_array_get_idx(range, 0)),
                    json_object_get_double(json_object_array_get_idx(range, 1)));
    pd_buf_addc(out, '\n');
}

static void text_question(struct pd_buf *out, struct json_object *q)
{
    struct json_object *ci = pd_json_get(q, "ci"), *alpha = pd_json_get(q, "krippendorff_alpha");
    struct pd_str name = pd_json_str(q, "question"), kind = pd_json_str(q, "kind");
    pd_buf_addf(out,
                "%.*s (%.*s): %lld judgments by %lld labelers on %lld records, %lld judged by "
                "several\n",
                PD_STR_ARG(name), PD_STR_ARG(kind), (long long)pd_json_i64(q, "judgments", 0),
                (long long)pd_json_i64(q, "labelers", 0), (long long)pd_json_i64(q, "records", 0),
                (long long)pd_json_i64(q, "shared", 0));
    text_measure(out, "percent agreement", pd_json_get(q, "percent"), ci, "percent");
    if (json_object_object_get_ex(q, "cohen_kappa", NULL))
        text_measure(out, "Cohen's kappa", pd_json_get(q, "cohen_kappa"), ci, "cohen_kappa");
    text_measure(out, "Fleiss' kappa", pd_json_get(q, "fleiss_kappa"), ci, "fleiss_kappa");
    text_measure(out, "Gwet's AC1", pd_json_get(q, "gwet_ac1"), ci, "gwet_ac1");
    json_object_object_foreach(alpha, metric, v)
    {
        char label[64], key[64];
        bool extra = strcmp(metric, "ordinal") == 0 || strcmp(metric, "interval") == 0;
        if (extra && !v)
            continue;
        snprintf(label, sizeof label, "Krippendorff's alpha, %s", metric);
        snprintf(key, sizeof key, "krippendorff_alpha.%s", metric);
        text_measure(out, label, v, ci, key);
    }
}

static enum pd_rc collect(struct pd_op_call *c, struct pd_agreement *g, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_bundles *src = NULL;
    struct pd_arena a;
    struct pd_str name;
    pd_arena_init(&a);
    if (c->in_path) {
        rc = pd_agreement_add_file(g, c->in_path, c->in_name ? c->in_name : c->in_path, err);
        goto out;
    }
    PD_TRY(pd_json_need_str(c->args, "dataset", &name, err));
    PD_TRY(pd_bundles_open(&src, c->store, pd_arena_strndup(&a, name.ptr, name.len), NULL, err));
    PD_TRY(pd_agreement_add_bundles(g, src, err));
out:
    pd_bundles_close(src);
    pd_arena_release(&a);
    return rc;
}

enum pd_rc pd_op_agree(struct pd_op_call *c, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_agreement *g = pd_agreement_new();
    struct json_object *tree = NULL;
    struct pd_buf json, text;
    struct pd_jw w;
    pd_buf_init(&json, 0);
    pd_buf_init(&text, 0);
    PD_TRY(collect(c, g, err));
    pd_jw_init(&w, &json);
    pd_agreement_write(g, (int)pd_json_i64(c->args, "bootstrap", 1000),
                       (uint64_t)pd_json_i64(c->args, "seed", 0), &w);
    if (pd__op_json(c)) {
        rc = pd__op_line(c, &json, err);
        goto out;
    }
    PD_TRY(pd_json_parse(pd_buf_str(&json), &tree, err));
    struct json_object *list = pd_json_get(tree, "questions");
    for (size_t i = 0; i < json_object_array_length(list); i++)
        text_question(&text, json_object_array_get_idx(list, i));
    if (text.len)
        text.ptr[--text.len] = '\0';
    else
        pd_buf_adds(&text, "no submitted judgments yet");
    PD_TRY(pd__op_line(c, &text, err));
out:
    json_object_put(tree);
    pd_buf_release(&text);
    pd_buf_release(&json);
    pd_agreement_free(g);
    return rc;
}
