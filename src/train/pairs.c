#include "train/pairs.h"
#include "base/crypt.h"
#include "base/mem.h"
#include "train/rows.h"

#include <math.h>

/* {"..._ids": [..]} taken as it is. */
static enum pd_rc ids_from_json(struct json_object *list, int vocab, const char *key,
                                struct pd_ids *out, struct pd_err *err)
{
    if (!json_object_is_type(list, json_type_array))
        return PD_FAIL(err, PD_INVALID, "%s: expected a list of ids, found %s", key,
                       pd_json_type_name(list));
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *v = json_object_array_get_idx(list, i);
        int64_t id = json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : -1;
        if (id < 0 || id >= vocab)
            return PD_FAIL(err, PD_INVALID, "%s[%zu]: not an id in 0..%d", key, i, vocab - 1);
        pd_ids_push(out, (int32_t)id);
    }
    return out->len ? PD_OK : PD_FAIL(err, PD_INVALID, "%s is empty", key);
}

static enum pd_rc piece(struct json_object *row, const char *key, struct pd_piece *out,
                        struct pd_err *err)
{
    struct pd_err why = {0};
    struct json_object *v = pd_json_get(row, key);
    if (!v)
        return PD_FAIL(err, PD_INVALID, "no \"%s\"", key);
    if (!pd_piece_from_json(v, out, &why))
        return PD_FAIL(err, PD_INVALID, "%s: %s", key, why.msg);
    return PD_OK;
}

static enum pd_rc number(struct json_object *row, const char *key, double fallback, double min,
                         double *out, struct pd_err *err)
{
    struct json_object *v = pd_json_get(row, key);
    *out = fallback;
    if (!v)
        return PD_OK;
    bool is_number =
        json_object_is_type(v, json_type_int) || json_object_is_type(v, json_type_double);
    *out = is_number ? json_object_get_double(v) : NAN;
    if (!isfinite(*out) || *out < min)
        return PD_FAIL(err, PD_INVALID, "%s: expected a number of at least %g", key, min);
    return PD_OK;
}

enum pd_rc pd_text_row_encode(struct json_object *row, const struct pd_model *m, struct pd_ids *out,
                              struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_piece prompt, text, *explicit_prompt = NULL;
    if (pd_json_get(row, "ids"))
        return ids_from_json(pd_json_get(row, "ids"), m->cfg.vocab_size, "ids", out, err);
    if (!m->tok)
        return PD_FAIL(err, PD_INVALID, "the model has no tokenizer; only \"ids\" can be read");
    PD_TRY(piece(row, "text", &text, err));
    if (pd_json_get(row, "prompt")) {
        PD_TRY(piece(row, "prompt", &prompt, err));
        explicit_prompt = &prompt;
    }
    PD_TRY(pd_text_encode(m, explicit_prompt, &text, out, err));
out:
    return rc;
}

enum pd_rc pd_pair_encode(struct json_object *row, const struct pd_model *m, struct pd_ids *c,
                          struct pd_ids *r, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_piece prompt, chosen, rejected, *explicit_prompt = NULL;
    if (pd_json_get(row, "chosen_ids") && pd_json_get(row, "rejected_ids")) {
        PD_TRY(
            ids_from_json(pd_json_get(row, "chosen_ids"), m->cfg.vocab_size, "chosen_ids", c, err));
        return ids_from_json(pd_json_get(row, "rejected_ids"), m->cfg.vocab_size, "rejected_ids", r,
                             err);
    }
    if (!m->tok)
        return PD_FAIL(err, PD_INVALID,
                       "the model has no tokenizer; only chosen_ids and "
                       "rejected_ids can be read");
    PD_TRY(piece(row, "chosen", &chosen, err));
    PD_TRY(piece(row, "rejected", &rejected, err));
    if (pd_json_get(row, "prompt")) {
        PD_TRY(piece(row, "prompt", &prompt, err));
        explicit_prompt = &prompt;
    }
    PD_TRY(pd_text_encode(m, explicit_prompt, &chosen, c, err));
    PD_TRY(pd_text_encode(m, explicit_prompt, &rejected, r, err));
out:
    return rc;
}

static int32_t common(const struct pd_ids *a, const struct pd_ids *b)
{
    size_t n = a->len < b->len ? a->len : b->len, i = 0;
    while (i < n && a->ptr[i] == b->ptr[i])
        i++;
    return (int32_t)i;
}

/* Cuts `n` tokens off the left of the shared prefix; one shared token at least stays. */
static void cut_left(struct pd_ids *v, size_t n)
{
    memmove(v->ptr, v->ptr + n, (v->len - n) * sizeof *v->ptr);
    v->len -= n;
}

enum fate { KEEP, TOO_LONG, SAME };

static enum fate fit(struct pd_ids *c, struct pd_ids *r, const struct pd_pairs_options *opt,
                     struct pd_pairs *p)
{
    size_t limit = (size_t)opt->max_length, longest = c->len > r->len ? c->len : r->len;
    size_t shared = (size_t)common(c, r);
    if (shared == c->len && shared == r->len)
        return SAME;
    if (longest <= limit)
        return KEEP;
    if (opt->too_long == PD_TOO_LONG_DROP || longest - limit >= shared)
        return TOO_LONG;
    size_t surplus = longest - limit;
    cut_left(c, surplus);
    cut_left(r, surplus);
    p->n_truncated++;
    return KEEP;
}

static void keep(struct pd_pairs *p, struct pd_pair *pair, struct pd_ids *c, struct pd_ids *r,
                 int32_t pad)
{
    if (p->n == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 256;
        p->v = pd_xrealloc(p->v, p->cap * sizeof *p->v);
    }
    pair->shared = common(c, r);
    /* one block for both rows, owned through chosen.ids */
    int32_t *ids = pd_xalloc((c->len + r->len) * sizeof *ids);
    memcpy(ids, c->ptr, c->len * sizeof *ids);
    memcpy(ids + c->len, r->ptr, r->len * sizeof *ids);
    pair->chosen = pd_row_make(ids, c->len, pad);
    pair->rejected = pd_row_make(ids + c->len, r->len, pad);
    p->v[p->n++] = *pair;
}

static enum pd_rc read_row(struct pd_pairs *p, struct json_object *row, const struct pd_model *m,
                           const struct pd_pairs_options *opt, size_t line, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_ids c = {0}, r = {0};
    struct pd_pair pair = {.line = line, .strength = -1};
    double strength;
    PD_TRY(pd_pair_encode(row, m, &c, &r, err));
    PD_TRY(number(row, "margin", 0, 0, &pair.margin, err));
    PD_TRY(number(row, "weight", 1, 0, &pair.weight, err));
    PD_TRY(number(row, "strength", -1, 0, &strength, err));
    pair.strength = strength < 1000 ? (int)strength : 1000;
    switch (fit(&c, &r, opt, p)) {
    case KEEP:
        keep(p, &pair, &c, &r, opt->pad);
        break;
    case TOO_LONG:
        p->n_too_long++;
        break;
    case SAME:
        p->n_same++;
        break;
    }
out:
    pd_ids_release(&c);
    pd_ids_release(&r);
    return rc;
}

enum pd_rc pd_pairs_read(struct pd_pairs *p, const char *path, const struct pd_model *m,
                         const struct pd_pairs_options *opt, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_data_rows rows = {0};
    struct json_object *row;
    bool more;
    *p = (struct pd_pairs){0};
    PD_TRY(pd_data_rows_open(&rows, path, opt->skip_bad, err));
    for (;;) {
        struct pd_err why = {0};
        PD_TRY(pd_data_rows_next(&rows, &row, NULL, &more, err));
        if (!more)
            break;
        if (read_row(p, row, m, opt, pd_lines_number(rows.lines), &why) != PD_OK)
            pd_data_rows_bad(&rows, "%s", why.msg);
    }
    p->n_rows = rows.n_read;
    p->n_bad = rows.n_bad;
    PD_TRY(pd_data_rows_verdict(&rows, err));
    if (strcmp(path, "-") != 0)
        PD_TRY(pd_sha256_file(path, p->sha256, err));
    if (p->n == 0)
        rc = PD_FAIL(err, PD_INVALID,
                     "%s: no pair is left of %zu: %zu longer than --max-length %lld, %zu with "
                     "identical sides",
                     path, p->n_rows, p->n_too_long, (long long)opt->max_length, p->n_same);
out:
    pd_data_rows_close(&rows);
    if (rc != PD_OK)
        pd_pairs_release(p);
    return rc;
}

void pd_pairs_release(struct pd_pairs *p)
{
    for (size_t i = 0; i < p->n; i++)
        pd_free(p->v[i].chosen.ids);
    pd_free(p->v);
    *p = (struct pd_pairs){0};
}

void pd_pairs_report(const struct pd_pairs *p, const char *path, const struct pd_pairs_options *opt)
{
    fprintf(stderr, "%s: %zu pairs of %zu rows", path, p->n, p->n_rows);
    if (p->n_too_long)
        fprintf(stderr, "; %zu dropped, longer than %lld tokens", p->n_too_long,
                (long long)opt->max_length);
    if (p->n_truncated)
        fprintf(stderr, "; %zu prompts cut from the left", p->n_truncated);
    if (p->n_same)
        fprintf(stderr, "; %zu dropped, both sides the same tokens", p->n_same);
    if (p->n_bad)
        fprintf(stderr, "; %zu bad rows skipped", p->n_bad);
    fputc('\n', stderr);
}

int64_t pd_pair_cost(const struct pd_pair *p)
{
    int32_t c = p->chosen.len, r = p->rejected.len, shared = p->shared;
    int32_t shortest = c < r ? c : r;
    return (int64_t)c + r - (shared < shortest ? shared : shortest);
}
