#include "gen/variants.h"
#include "gen/finished.h"
#include "gen/partial.h"
#include "gen/same_text.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_LINE = 1 << 28 };

struct work {
    const struct pd_variants *v;
    const struct pd_prompts *prompts;
    struct pd_variants_summary *sum;
    struct pd_partial *manifest; /* OUT.partial; NULL where there is nothing to resume */
    char *folder;                /* of the parts then */
    char **parts;                /* (n) paths */
    bool resumed, done;
};

/* ---- files ---- */

static const char *plain(struct json_object *o)
{
    return json_object_to_json_string_ext(o,
                                          JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
}

static char *manifest_line(const struct work *w)
{
    uint64_t hash = 0;
    for (size_t i = 0; i < w->prompts->n; i++)
        hash = pd_partial_hash(hash, w->prompts->v[i].row);
    return pd_xasprintf(
        "{\"podium\":\"variants\",\"version\":2,\"n\":%zu,\"prompts\":%zu,\"hash\":\"%016llx\","
        "\"what\":%s}",
        w->v->n, w->prompts->n, (unsigned long long)hash, w->v->what);
}

/* OUT is there and nothing was left beside it. */
static enum pd_rc take_finished(const struct work *w, struct pd_err *err)
{
    const struct pd_variants *v = w->v;
    const struct pd_prompts *p = w->prompts;
    const struct pd_finished f = {.out = v->out,
                                  .seed = v->seed,
                                  .n = v->n_answers,
                                  .quiet = v->quiet,
                                  .n_variants = v->n,
                                  .models = v->models,
                                  .settings = v->settings};
    struct json_object **rows = pd_xalloc((p->n + 1) * sizeof(struct json_object *));
    for (size_t i = 0; i < p->n; i++)
        rows[i] = p->v[i].row;
    enum pd_rc rc = pd_finished_check(&f, rows, p->n, err);
    pd_free(rows);
    if (rc != PD_OK)
        return rc;
    w->sum->finished = true;
    w->sum->rows = (int64_t)p->n;
    w->sum->answers = (int64_t)(p->n * v->n) * v->n_answers;
    return PD_OK;
}

/* OUT.partial: taken up, or begun. */
static enum pd_rc open_manifest(struct work *w, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_buf was;
    char *line = manifest_line(w);
    pd_buf_init(&was, 0);
    PD_TRY(pd_partial_open(&w->manifest, w->v->out, w->v->resume, err));
    w->resumed = !w->manifest->fresh;
    if (!w->resumed && w->v->resume && pd_finished_maybe(w->v->out)) {
        rc = take_finished(w, err);
        goto out;
    }
    if (!w->resumed) {
        PD_TRY(pd_partial_begin(w->manifest, err));
        PD_TRY(pd_partial_end(w->manifest, fprintf(w->manifest->next, "%s\n", line) > 0, err));
        goto out;
    }
    PD_TRY(pd_fs_read(w->manifest->path, MAX_LINE, &was, err));
    rc = pd_partial_check(w->manifest, pd_str_trim(pd_buf_str(&was)), line, err);
out:
    pd_free(line);
    pd_buf_release(&was);
    return rc;
}

/* Where the parts go, and whether they can outlive this run. */
static enum pd_rc name_parts(struct work *w, struct pd_err *err)
{
    struct stat st;
    const char *out = w->v->out;
    w->parts = pd_xalloc(w->v->n * sizeof *w->parts);
    if (strcmp(out, "-") == 0 || (stat(out, &st) == 0 && !S_ISREG(st.st_mode))) {
        const char *tmp = getenv("TMPDIR");
        w->folder = pd_xasprintf("%s/podium-variants-XXXXXX", tmp && *tmp ? tmp : "/tmp");
        if (!mkdtemp(w->folder))
            return PD_FAIL_SYS(err, PD_IO, "cannot make a folder like %s", w->folder);
    }
    for (size_t i = 0; i < w->v->n; i++)
        w->parts[i] = w->folder ? pd_xasprintf("%s/variant-%zu", w->folder, i + 1)
                                : pd_xasprintf("%s.variant-%zu", out, i + 1);
    return PD_OK;
}

/* Nothing was finished or begun: there is nothing to go on with. */
static bool is_fresh(const struct work *w)
{
    bool fresh = !w->resumed;
    for (size_t i = 0; fresh && i < w->v->n; i++) {
        char *partial = pd_xasprintf("%s.partial", w->parts[i]);
        fresh = !pd_fs_exists(w->parts[i]) && !pd_fs_exists(partial);
        pd_free(partial);
    }
    return fresh;
}

/* The manifest goes after them: without it the parts are nobody's. */
static void remove_parts(const struct work *w)
{
    for (size_t i = 0; i < w->v->n; i++) {
        char *partial = pd_xasprintf("%s.partial", w->parts[i]); /* of a kill just before its end */
        (void)unlink(w->parts[i]);
        (void)unlink(partial);
        pd_free(partial);
    }
}

static void release(struct work *w)
{
    if (w->folder && pd_fs_remove_tree(w->folder, NULL) != PD_OK)
        pd_log(PD_LOG_WARN, "generate", "%s is left behind", w->folder);
    if (w->done)
        remove_parts(w);
    if (w->manifest)
        pd_partial_close(w->manifest, !w->done && !is_fresh(w));
    for (size_t i = 0; w->parts && i < w->v->n; i++)
        pd_free(w->parts[i]);
    pd_free(w->parts);
    pd_free(w->folder);
}

/* ---- one row out of n ---- */

/* The rows of a prompt, one a variant, and their answers, one variant after the other. */
struct row {
    struct json_object **of; /* (n variants) */
    size_t n, n_answers;
    struct json_object **answers; /* borrowed */
    size_t *from;                 /* the variant of each */
};

static bool same_json(struct json_object *a, struct json_object *b)
{
    return a && b && strcmp(plain(a), plain(b)) == 0;
}

/* Whether every variant has this setting. */
static bool is_common(const struct row *r, const char *key, struct json_object *value)
{
    for (size_t i = 1; i < r->n; i++)
        if (!same_json(value, pd_json_get(pd_json_get(r->of[i], "params"), key)))
            return false;
    return true;
}

static void write_params(struct pd_jw *w, const struct row *r, size_t variant, bool common)
{
    struct json_object *params = pd_json_get(r->of[variant], "params");
    pd_jw_object(w);
    if (params) {
        json_object_object_foreach(params, key, value)
        {
            if (is_common(r, key, pd_json_get(pd_json_get(r->of[0], "params"), key)) == common) {
                pd_jw_key(w, key);
                pd_jw_tree(w, value);
            }
        }
    }
    pd_jw_object_end(w);
}

static void mark_repeats(struct row *r, struct pd_variants_summary *sum)
{
    struct pd_texts *texts = pd_texts_new();
    for (size_t i = 0; i < r->n_answers; i++) {
        struct json_object *a = r->answers[i];
        bool repeats = pd_texts_add(texts, pd_json_str(a, "text"), (int64_t)r->from[i]);
        if (!repeats || pd_json_bool(a, "duplicate", false))
            continue;
        json_object_object_add(a, "duplicate", json_object_new_boolean(true));
        sum->duplicates++;
    }
    pd_texts_free(texts);
}

static void list_answers(struct row *r)
{
    r->n_answers = 0;
    for (size_t i = 0; i < r->n; i++)
        r->n_answers += json_object_array_length(pd_json_get(r->of[i], "answers"));
    r->answers = pd_xalloc((r->n_answers + 1) * sizeof(struct json_object *));
    r->from = pd_xalloc((r->n_answers + 1) * sizeof *r->from);
    size_t at = 0;
    for (size_t i = 0; i < r->n; i++) {
        struct json_object *list = pd_json_get(r->of[i], "answers");
        for (size_t k = 0; k < json_object_array_length(list); k++, at++) {
            r->answers[at] = json_object_array_get_idx(list, k);
            r->from[at] = i;
        }
    }
}

static void write_answers(struct pd_jw *w, const struct row *r, uint64_t seed)
{
    size_t *order = pd_xalloc((r->n_answers + 1) * sizeof *order);
    struct pd_rng rng;
    for (size_t i = 0; i < r->n_answers; i++)
        order[i] = i;
    pd_rng_seed(&rng, seed, pd_partial_hash(0, pd_json_get(r->of[0], "prompt")));
    pd_rng_shuffle(&rng, order, r->n_answers);
    bool differ = false;
    for (size_t i = 1; i < r->n; i++)
        differ =
            differ || !same_json(pd_json_get(r->of[0], "params"), pd_json_get(r->of[i], "params"));
    pd_jw_array(w);
    for (size_t i = 0; i < r->n_answers; i++) {
        struct json_object *a = r->answers[order[i]];
        pd_jw_object(w);
        json_object_object_foreach(a, key, value)
        {
            pd_jw_key(w, key);
            pd_jw_tree(w, value);
        }
        if (differ) {
            pd_jw_key(w, "params");
            write_params(w, r, r->from[order[i]], false);
        }
        pd_jw_object_end(w);
    }
    pd_jw_array_end(w);
    pd_free(order);
}

/* The rows of one prompt as one line, with newline. */
static void write_row(struct pd_buf *out, const struct row *r, uint64_t seed)
{
    struct pd_jw w;
    pd_jw_init(&w, out);
    pd_jw_object(&w);
    json_object_object_foreach(r->of[0], key, value)
    {
        pd_jw_key(&w, key);
        if (strcmp(key, "answers") == 0)
            write_answers(&w, r, seed);
        else if (strcmp(key, "params") == 0)
            write_params(&w, r, 0, true);
        else
            pd_jw_tree(&w, value);
    }
    pd_jw_object_end(&w);
    pd_buf_addc(out, '\n');
}

/* ---- all rows ---- */

/* A variant's answers, row by row. */
struct part {
    struct pd_lines *lines;
    struct json_object *line; /* owned: {"index", "row"}; NULL at the end */
    int64_t index;            /* the prompt's place; -1 at the end */
    struct pd_spent spent;    /* known at the end */
};

static enum pd_rc next_line(struct part *p, struct pd_err *err)
{
    struct pd_str line;
    bool more;
    json_object_put(p->line);
    p->line = NULL;
    p->index = -1;
    enum pd_rc rc = pd_lines_next(p->lines, &line, &more, err);
    if (rc != PD_OK || !more)
        return rc;
    rc = pd_json_parse(line, &p->line, err);
    p->index = pd_json_i64(p->line, "index", -1);
    if (rc == PD_OK && pd_spent_read(&p->spent, p->line))
        return PD_OK; /* the last line */
    struct json_object *row = pd_json_get(p->line, "row");
    if (rc == PD_OK &&
        (p->index < 0 || !json_object_is_type(pd_json_get(row, "answers"), json_type_array)))
        rc = PD_FAIL(err, PD_PARSE, "not a row of answers");
    return rc == PD_OK
               ? rc
               : pd_err_prefix(err, "%s:%zu", pd_lines_path(p->lines), pd_lines_number(p->lines));
}

static enum pd_rc write_merged(const struct work *w, struct row *r, struct pd_out *out,
                               struct pd_err *err)
{
    struct pd_buf line;
    pd_buf_init(&line, 0);
    list_answers(r);
    mark_repeats(r, w->sum);
    write_row(&line, r, w->v->seed);
    w->sum->rows++;
    w->sum->answers += (int64_t)r->n_answers;
    enum pd_rc rc = pd_out_write(out, pd_buf_str(&line), err);
    pd_free(r->answers);
    pd_free(r->from);
    pd_buf_release(&line);
    return rc;
}

/* What the parts have for prompt `at`; a row that names another prompt mends nothing. */
static enum pd_rc take_rows(const struct work *w, struct part *parts, size_t at, struct row *r,
                            struct pd_out *out, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct json_object *id = pd_json_get(w->prompts->v[at].row, "id");
    size_t have = 0;
    for (size_t i = 0; i < r->n; i++) {
        if (parts[i].index != (int64_t)at)
            continue;
        r->of[i] = pd_json_get(parts[i].line, "row");
        if (!same_json(id, pd_json_get(r->of[i], "id")))
            return PD_FAIL(err, PD_CONFLICT, "%s:%zu: not the answers to prompt %s", w->parts[i],
                           pd_lines_number(parts[i].lines), plain(id));
        have++;
    }
    if (have == r->n)
        PD_TRY(write_merged(w, r, out, err));
    else
        w->sum->missing += have > 0;
    for (size_t i = 0; i < r->n; i++)
        if (parts[i].index == (int64_t)at)
            PD_TRY(next_line(&parts[i], err));
out:
    return rc;
}

/* Parts hold rows in the order of the prompts; a variant may lack some. */
static enum pd_rc merge(const struct work *w, struct pd_out *out, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    size_t n = w->v->n;
    struct part *parts = pd_xalloc(n * sizeof *parts);
    struct row r = {.of = pd_xalloc(n * sizeof(struct json_object *)), .n = n};
    for (size_t i = 0; i < n; i++) {
        PD_TRY(pd_lines_open(&parts[i].lines, w->parts[i], MAX_LINE, err));
        PD_TRY(next_line(&parts[i], err));
    }
    for (size_t p = 0; p < w->prompts->n; p++)
        PD_TRY(take_rows(w, parts, p, &r, out, err));
    for (size_t i = 0; i < n; i++)
        if (parts[i].index >= 0)
            PD_TRY(PD_FAIL(err, PD_CONFLICT, "%s:%zu: out of order, or of no prompt", w->parts[i],
                           pd_lines_number(parts[i].lines)));
out:
    for (size_t i = 0; i < n; i++) {
        pd_lines_close(parts[i].lines);
        json_object_put(parts[i].line);
    }
    pd_free(parts);
    pd_free(r.of);
    return rc;
}

/* A part that is there already may end with what it took to make it. */
static enum pd_rc add_spent(struct work *w, size_t i, struct pd_err *err)
{
    struct part p = {0};
    enum pd_rc rc = pd_lines_open(&p.lines, w->parts[i], MAX_LINE, err);
    do {
        if (rc == PD_OK)
            rc = next_line(&p, err);
    } while (rc == PD_OK && p.index >= 0);
    pd_spent_add(&w->sum->before, &p.spent);
    pd_lines_close(p.lines);
    json_object_put(p.line);
    return rc;
}

/* Those that an interrupted run has not finished, model by model. */
static enum pd_rc make_parts(struct work *w, struct pd_err *err)
{
    const struct pd_variants *v = w->v;
    enum pd_rc rc = PD_OK;
    size_t *which = pd_xalloc(v->together * sizeof *which);
    const char **out = pd_xalloc(v->together * sizeof *out);
    for (size_t first = 0; first < v->n; first += v->together) {
        size_t n = 0;
        for (size_t i = first; i < first + v->together; i++)
            if (w->resumed && pd_fs_exists(w->parts[i])) {
                PD_TRY(add_spent(w, i, err));
            } else {
                which[n] = i;
                out[n++] = w->parts[i];
            }
        if (n > 0)
            PD_TRY(v->make(v->ctx, which, out, n, w->resumed, err));
    }
out:
    pd_free(which);
    pd_free(out);
    return rc;
}

enum pd_rc pd_variants_make(const struct pd_variants *v, const struct pd_prompts *prompts,
                            struct pd_variants_summary *sum, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct work w = {.v = v, .prompts = prompts, .sum = sum};
    struct pd_out out = {0};
    *sum = (struct pd_variants_summary){0};
    PD_TRY(name_parts(&w, err));
    if (!w.folder)
        PD_TRY(open_manifest(&w, err));
    if (sum->finished)
        goto out;
    PD_TRY(make_parts(&w, err));
    PD_TRY(pd_out_open(&out, v->out, err));
    rc = merge(&w, &out, err);
    if (rc == PD_OK)
        rc = pd_out_commit(&out, err);
    else
        pd_out_abandon(&out);
    w.done = rc == PD_OK;
out:
    release(&w);
    return rc;
}
