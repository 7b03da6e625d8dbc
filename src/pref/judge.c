/* Rankings, their pair rows, and the vote of one pair. */
#include "pref/judge.h"

static int find_option(const char *const *options, size_t n, struct pd_str s)
{
    for (size_t i = 0; s.ptr && i < n; i++)
        if (pd_str_eqz(s, options[i]))
            return (int)i;
    return -1;
}

enum pd_rc pd_ranking_parse(const char *const *options, size_t n_options, struct json_object *value,
                            struct pd_ranking *out, struct pd_err *err)
{
    int64_t rank[26];
    struct json_object *list = pd_json_get(value, "value");
    struct json_object *strength = pd_json_get(value, "strength");
    if (n_options > 26)
        return PD_FAIL(err, PD_UNSUPPORTED, "a ranking of %zu options; pairs take at most 26",
                       n_options);
    if (!json_object_is_type(list, json_type_array))
        return PD_FAIL(err, PD_INVALID, "a ranking is %s, expected a list",
                       pd_json_type_name(list));
    *out = (struct pd_ranking){.k = n_options,
                               .strength = strength ? (int)json_object_get_int64(strength) : -1,
                               .both_bad = pd_json_bool(value, "both_bad", false)};
    for (size_t i = 0; i < n_options; i++)
        rank[i] = -1;
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *item = json_object_array_get_idx(list, i);
        struct pd_str name = pd_json_str(item, "value");
        int at = find_option(options, n_options, name);
        if (at < 0)
            return PD_FAIL(err, PD_INVALID, "a ranking names '%.*s', which is no option",
                           PD_STR_ARG(name));
        rank[at] = pd_json_i64(item, "rank", -1);
    }
    /* tier = how many different ranks are better */
    for (size_t i = 0; i < n_options; i++) {
        out->tier[i] = rank[i] < 0 ? -1 : 0;
        for (size_t j = 0; rank[i] >= 0 && j < n_options; j++) {
            bool first = rank[j] >= 0 && rank[j] < rank[i];
            for (size_t k = 0; first && k < j; k++)
                first = rank[k] != rank[j];
            out->tier[i] += first;
        }
    }
    return PD_OK;
}

static int place_of(const int *shown, size_t k, int answer)
{
    for (size_t i = 0; i < k; i++)
        if (shown[i] == answer)
            return (int)i;
    return answer;
}

size_t pd_ranking_rows(const struct pd_ranking *r, size_t task, size_t labeler, const int *shown,
                       struct pd_pair_row *rows)
{
    size_t n = 0, ranked = 0;
    for (size_t i = 0; i < r->k; i++)
        ranked += r->tier[i] >= 0;
    if (ranked < 2)
        return 0;
    double weight = 2.0 / ((double)ranked * (double)(ranked - 1));
    for (size_t i = 0; i < r->k; i++)
        for (size_t j = i + 1; j < r->k; j++) {
            int ti = r->tier[i], tj = r->tier[j];
            if (ti < 0 || tj < 0)
                continue;
            rows[n++] =
                (struct pd_pair_row){.task = task,
                                     .labeler = labeler,
                                     .i = (int)i,
                                     .j = (int)j,
                                     .y = ti == tj  ? 0.5
                                          : ti < tj ? 1
                                                    : 0,
                                     .strength = ti == tj && r->strength >= 0 ? 0 : r->strength,
                                     .shown_left = !shown || place_of(shown, r->k, (int)i) <
                                                                 place_of(shown, r->k, (int)j),
                                     .weight = weight};
        }
    return n;
}

void pd_vote_add(struct pd_vote *v, const struct pd_pair_row *row)
{
    bool strong = row->strength >= 0;
    if (row->y > 0.5) {
        v->i++;
        v->strength_i += strong ? row->strength : 0;
        v->n_strength_i += strong;
    } else if (row->y < 0.5) {
        v->j++;
        v->strength_j += strong ? row->strength : 0;
        v->n_strength_j += strong;
    } else {
        v->tie++;
    }
}

/* The outcome with most votes wins. Level for and against: the larger sum of strengths; level
 * still: undecided, as when ties lead or draw level with the best side. */
struct pd_verdict pd_vote_majority(const struct pd_vote *v)
{
    int64_t n = v->i + v->j + v->tie;
    int64_t best = v->i > v->j ? v->i : v->j;
    struct pd_verdict out = {.votes = n, .strength = -1};
    if (n == 0 || v->tie >= best)
        return out;
    if (v->i != v->j)
        out.winner = v->i > v->j ? 1 : -1;
    else if (v->strength_i != v->strength_j)
        out.winner = v->strength_i > v->strength_j ? 1 : -1;
    else
        return out;
    int64_t other = v->i < v->j ? v->i : v->j;
    int64_t second = other > v->tie ? other : v->tie;
    out.margin = (double)(best - second) / (double)n;
    int64_t sum = out.winner > 0 ? v->strength_i : v->strength_j;
    int64_t k = out.winner > 0 ? v->n_strength_i : v->n_strength_j;
    if (k)
        out.strength = (double)sum / (double)k;
    return out;
}
