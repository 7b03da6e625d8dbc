#include "gen/finished.h"
#include "base/fs.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_LINE = 1 << 28 };

struct check {
    const struct pd_finished *f;
    struct json_object **settings; /* (n_variants) */
    int64_t *left;                 /* (n_variants): answers that a row lacks yet */
};

static bool same_keys(struct json_object *prompt, struct json_object *row)
{
    static const char *const ours[] = {"answers", "params", "seed"};
    json_object_object_foreach(prompt, key, value)
    {
        bool own = false;
        for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
            own = own || strcmp(key, ours[i]) == 0;
        if (!own && !json_object_equal(value, pd_json_get(row, key)))
            return false;
    }
    return true;
}

/* What the row says of all its answers, and the answer of itself. */
static struct json_object *settings_of(struct json_object *row, struct json_object *answer)
{
    struct json_object *all = json_object_new_object();
    struct json_object *from[] = {pd_json_get(row, "params"), pd_json_get(answer, "params")};
    for (size_t i = 0; i < 2; i++) {
        if (!json_object_is_type(from[i], json_type_object))
            continue;
        json_object_object_foreach(from[i], key, value)
        {
            json_object_object_add(all, key, json_object_get(value));
        }
    }
    return all;
}

/* The answer counts for one of the variants. */
static bool take_answer(struct check *c, struct json_object *row, struct json_object *answer)
{
    struct json_object *settings = settings_of(row, answer);
    struct pd_str model = pd_json_str(answer, "model");
    bool found = false;
    for (size_t i = 0; i < c->f->n_variants && !found; i++) {
        found = c->left[i] > 0 && pd_str_eqz(model, c->f->models[i]) &&
                json_object_equal(settings, c->settings[i]);
        c->left[i] -= found;
    }
    json_object_put(settings);
    return found;
}

/* NULL, or what is not as the job would have it. */
static const char *row_differs(struct check *c, struct json_object *prompt, struct json_object *row)
{
    struct json_object *answers = pd_json_get(row, "answers");
    if (!same_keys(prompt, row))
        return "its prompt is another";
    if ((uint64_t)pd_json_i64(row, "seed", -1) != c->f->seed)
        return "the seed is another";
    if (!json_object_is_type(answers, json_type_array) ||
        json_object_array_length(answers) != c->f->n_variants * (size_t)c->f->n)
        return "the number of answers is another";
    for (size_t i = 0; i < c->f->n_variants; i++)
        c->left[i] = c->f->n;
    for (size_t i = 0; i < json_object_array_length(answers); i++)
        if (!take_answer(c, row, json_object_array_get_idx(answers, i)))
            return "the model or a setting is another";
    return NULL;
}

/* *at: the prompts that lie behind; *found: those that have a row. */
static enum pd_rc check_line(struct check *c, struct pd_lines *lines, struct pd_str line,
                             struct json_object *const *rows, size_t n_rows, size_t *at,
                             size_t *found, struct pd_err *err)
{
    struct json_object *row = NULL;
    const char *why = "it is no row of answers";
    if (pd_json_parse(line, &row, NULL) == PD_OK && json_object_is_type(row, json_type_object)) {
        struct json_object *id = pd_json_get(row, "id");
        while (*at < n_rows && !json_object_equal(id, pd_json_get(rows[*at], "id")))
            ++*at;
        why = *at < n_rows ? row_differs(c, rows[(*at)++], row) : "it is of no prompt of this job";
    }
    *found += !why;
    json_object_put(row);
    return why ? PD_FAIL(err, PD_CONFLICT,
                         "%s is there and not of this job (line %zu: %s); remove it, or answer all "
                         "anew without --resume",
                         c->f->out, pd_lines_number(lines), why)
               : PD_OK;
}

static enum pd_rc check_rows(struct check *c, struct json_object *const *rows, size_t n_rows,
                             struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_lines *lines = NULL;
    struct pd_str line;
    bool more = true;
    size_t at = 0, found = 0;
    PD_TRY(pd_lines_open(&lines, c->f->out, MAX_LINE, err));
    for (;;) {
        PD_TRY(pd_lines_next(lines, &line, &more, err));
        if (!more)
            break;
        PD_TRY(check_line(c, lines, line, rows, n_rows, &at, &found, err));
    }
    if (found < n_rows)
        rc = PD_FAIL(err, PD_CONFLICT,
                     "%s is there and has answers to %zu of %zu prompts; remove it, or answer all "
                     "anew without --resume",
                     c->f->out, found, n_rows);
out:
    pd_lines_close(lines);
    return rc;
}

bool pd_finished_maybe(const char *out)
{
    struct stat st;
    return stat(out, &st) == 0 && st.st_size > 0;
}

enum pd_rc pd_finished_check(const struct pd_finished *f, struct json_object *const *rows,
                             size_t n_rows, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct check c = {.f = f,
                      .settings = pd_xalloc(f->n_variants * sizeof(struct json_object *)),
                      .left = pd_xalloc(f->n_variants * sizeof(int64_t))};
    for (size_t i = 0; i < f->n_variants; i++)
        PD_TRY(pd_json_parse(pd_str_from(f->settings[i]), &c.settings[i], err));
    rc = check_rows(&c, rows, n_rows, err);
    if (rc == PD_OK && !f->quiet)
        fprintf(stderr, "%s has all answers already: nothing to do\n", f->out);
out:
    for (size_t i = 0; i < f->n_variants; i++)
        json_object_put(c.settings[i]);
    pd_free(c.settings);
    pd_free(c.left);
    return rc;
}
