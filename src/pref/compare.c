/* Which question of a dataset compares answers, and what a labeler said of it. */
#include "pref/bundle.h"

#include <ctype.h>

bool pd_answer_like(const char *key)
{
    static const char *const words[] = {"answer", "response", "completion",
                                        "output", "reply",    "candidate"};
    if (key[0] >= 'a' && key[0] <= 'z' && key[1] == '\0')
        return true;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t n = strlen(words[i]);
        if (strncmp(key, words[i], n) != 0)
            continue;
        const char *p = key + n;
        if (*p == '-' || *p == '_' || *p == ' ')
            p++;
        if (*p && strspn(p, "0123456789") == strlen(p))
            return true;
        return isalpha((unsigned char)*p) && p[1] == '\0';
    }
    return false;
}

/* The field an option stands for: by name, else by title. */
static const char *field_of(const struct pd_bundle_head *h, const char *option, const char *text)
{
    for (size_t i = 0; i < h->n_fields; i++)
        if (strcmp(h->fields[i].name, option) == 0)
            return h->fields[i].name;
    for (size_t i = 0; i < h->n_fields; i++)
        if (strcmp(h->fields[i].title, text) == 0)
            return h->fields[i].name;
    return NULL;
}

static size_t answer_like_fields(const struct pd_bundle_head *h, const char **out)
{
    size_t n = 0;
    for (size_t i = 0; i < h->n_fields && n < 26; i++)
        if (pd_answer_like(h->fields[i].name))
            out[n++] = h->fields[i].name;
    return n;
}

/* Ratings 1..K (and 0 = tie) of a dataset with K answers. */
static bool is_positional(const struct pd_question *q, size_t k)
{
    size_t hits = 0;
    if (q->type != PD_QUESTION_RATING || k < 2)
        return false;
    for (size_t i = 0; i < q->n_ratings; i++) {
        if (q->ratings[i] > (int64_t)k)
            return false;
        hits += q->ratings[i] > 0;
    }
    return hits == k;
}

static bool use_ranking(const struct pd_bundle_head *h, const struct pd_question *q,
                        struct pd_compare *c)
{
    const char *likely[26];
    size_t n = answer_like_fields(h, likely);
    if (q->n_options > 26)
        return false;
    for (size_t i = 0; i < q->n_options; i++) {
        c->options[i] = q->options[i];
        c->fields[i] = field_of(h, q->options[i], q->texts[i]);
        if (!c->fields[i] && n == q->n_options)
            c->fields[i] = likely[i];
        if (!c->fields[i])
            return false;
    }
    c->question = q;
    c->k = q->n_options;
    return true;
}

static bool use_rating(const struct pd_bundle_head *h, const struct pd_question *q,
                       struct pd_compare *c)
{
    c->k = answer_like_fields(h, c->fields);
    if (!is_positional(q, c->k))
        return false;
    memcpy(c->options, c->fields, sizeof c->options);
    c->question = q;
    c->positional = true;
    return true;
}

static void find_prompt(const struct pd_bundle_head *h, struct pd_compare *c)
{
    for (size_t i = 0; i < h->n_fields; i++) {
        const char *name = h->fields[i].name;
        bool answer = false;
        for (size_t k = 0; k < c->k; k++)
            answer = answer || strcmp(c->fields[k], name) == 0;
        if (!answer && (!c->prompt || strcmp(name, "prompt") == 0))
            c->prompt = name;
    }
}

enum pd_rc pd_compare_find(const struct pd_bundle_head *h, const char *question,
                           struct pd_compare *out, struct pd_err *err)
{
    *out = (struct pd_compare){0};
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < h->n_questions; i++) {
            const struct pd_question *q = &h->questions[i];
            if (question && strcmp(q->name, question) != 0)
                continue;
            bool ok = round == 0 ? q->type == PD_QUESTION_RANKING && use_ranking(h, q, out)
                                 : use_rating(h, q, out);
            if (ok) {
                find_prompt(h, out);
                return PD_OK;
            }
        }
    return PD_FAIL(err, PD_INVALID,
                   question ? "question '%s' does not compare fields: no ranking whose options are "
                              "fields, no rating of positions"
                            : "no question compares fields: no ranking whose options are fields, "
                              "no rating of positions%s",
                   question ? question : "");
}

enum pd_rc pd_compare_read(const struct pd_compare *c, const struct pd_said *said,
                           struct pd_ranking *out, bool *has, struct pd_err *err)
{
    struct json_object *entry = pd_json_get(said->values, c->question->name);
    *has = said->status == PD_ANSWER_SUBMITTED && entry;
    if (!*has)
        return PD_OK;
    if (!c->positional)
        return pd_ranking_parse(c->options, c->k, entry, out, err);
    int64_t best = pd_json_i64(entry, "value", -1);
    if (best < 0 || best > (int64_t)c->k)
        return PD_FAIL(err, PD_INVALID, "question %s: rating %lld is no position",
                       c->question->name, (long long)best);
    *out = (struct pd_ranking){.k = c->k, .strength = -1};
    for (size_t i = 0; i < c->k; i++)
        out->tier[i] = best != 0 && (int64_t)i + 1 != best;
    return PD_OK;
}
