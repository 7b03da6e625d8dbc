#include "gen/answers_int.h"
#include "gen/finished.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"

#include <string.h>
#include <sys/stat.h>

enum { MAX_LINE = 1 << 28 };

/* Before a row in a line of OUT.partial; what stands before it are numbers. */
#define ROW_KEY ",\"row\":"

/* The first line of OUT.partial: what must be the same for its rows to count. */
static char *partial_head(const struct pd__job *j)
{
    struct pd_buf buf;
    struct pd_jw w;
    uint64_t hash = 0, rows = 0;
    for (int64_t i = 0; i < j->n_items; i++) {
        hash = pd_rng_mix(hash, j->items[i].key);
        rows = pd_partial_hash(rows, j->items[i].row);
    }
    pd_buf_init(&buf, 0);
    pd_jw_init(&w, &buf);
    pd_jw_object(&w);
    pd_jw_kstrz(&w, "podium", "generate");
    pd_jw_ki64(&w, "version", 2);
    pd_jw_kstrz(&w, "model", j->opts->model_name);
    pd_jw_kstrz(&w, "path", j->where);
    pd_jw_kstrz(&w, "weights", j->model ? j->opts->weights : NULL);
    pd_jw_kstrz(&w, "dtype", j->model ? j->opts->dtype : NULL);
    if (j->model)
        pd_jw_kstrz(&w, "kv_dtype", j->opts->cache);
    pd_jw_key(&w, "params");
    pd_jw_raw(&w, pd_buf_str(&j->settings));
    pd_jw_ki64(&w, "seed", (int64_t)j->opts->seed);
    pd_jw_ki64(&w, "resample", j->opts->resamples);
    pd_jw_ki64(&w, "logprobs", j->opts->logprobs ? j->opts->top_logprobs : -1);
    pd_jw_ki64(&w, "prompts", j->n_items);
    pd_jw_ki64(&w, "hash", (int64_t)hash); /* of their tokens */
    pd_jw_ki64(&w, "rows", (int64_t)rows); /* and of all that is known of them */
    pd_jw_object_end(&w);
    return pd_buf_detach(&buf);
}

/* A line as put_item or put_last_line wrote it, for a prompt of this job. The row's text is kept as
 * it stands. */
static bool take_line(struct pd__job *j, struct pd_str line)
{
    struct json_object *o = NULL;
    bool good = pd_json_parse(line, &o, NULL) == PD_OK;
    bool spent = pd_spent_read(&j->sum->before, o);
    int64_t i = pd_json_i64(o, "index", -1);
    struct json_object *row = pd_json_get(o, "row"), *answers = pd_json_get(row, "answers");
    const char *text = good ? memmem(line.ptr, line.len, ROW_KEY, sizeof ROW_KEY - 1) : NULL;
    good = text && i >= 0 && i < j->n_items && json_object_is_type(answers, json_type_array) &&
           (int64_t)json_object_array_length(answers) == j->opts->n &&
           json_object_equal(pd_json_get(row, "id"), pd_json_get(j->items[i].row, "id"));
    if (good && !j->items[i].line) {
        text += sizeof ROW_KEY - 1;
        j->items[i].line = pd_xstrndup(text, (size_t)(line.ptr + line.len - text) - 1);
        j->n_finished++;
    }
    good = good || (spent && !row);
    json_object_put(o);
    return good;
}

static bool ends_in_newline(FILE *f)
{
    return fseek(f, -1, SEEK_END) == 0 && fgetc(f) == '\n';
}

/* Takes the rows of an interrupted run. One that a crash cut short is the last and has no newline;
 * any other that cannot be read is told of. */
static enum pd_rc load_partial(struct pd__job *j, const char *head, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_lines *lines = NULL;
    struct pd_str line;
    size_t n_bad = 0, first_bad = 0;
    bool more, good = true;
    PD_TRY(pd_lines_open(&lines, j->partial->path, MAX_LINE, err));
    PD_TRY(pd_lines_next(lines, &line, &more, err));
    PD_TRY(pd_partial_check(j->partial, more ? line : PD_STR(""), head, err));
    for (;;) {
        PD_TRY(pd_lines_next(lines, &line, &more, err));
        if (!more)
            break;
        good = take_line(j, line);
        if (!good && n_bad++ == 0)
            first_bad = pd_lines_number(lines);
    }
    n_bad -= !good && !ends_in_newline(j->partial->f);
    if (n_bad > 0)
        fprintf(stderr, "%s:%zu: %zu damaged line%s passed over; %s answered again\n",
                j->partial->path, first_bad, n_bad,
                n_bad == 1 ? " is" : "s, of which this is the first, are",
                n_bad == 1 ? "its prompt is" : "their prompts are");
    j->sum->resumed = j->n_finished;
out:
    pd_lines_close(lines);
    return rc;
}

/* Lines of OUT.partial have it, so that a kill loses little of it. */
static bool put_spent(const struct pd__job *j, FILE *f)
{
    struct pd_spent s = pd_answers_spent(j->sum);
    return fprintf(f, "\"spent\":[%lld,%lld,%lld]", (long long)s.prompt_tokens,
                   (long long)s.new_tokens, (long long)s.unknown) > 0;
}

static bool put_item(struct pd__job *j, FILE *f, const struct pd__item *it)
{
    bool ok = fprintf(f, "{\"index\":%zu", (size_t)(it - j->items)) > 0;
    if (ok && !j->model)
        ok = fputc(',', f) != EOF && put_spent(j, f);
    j->noted = pd_answers_spent(j->sum);
    return ok && fprintf(f, ROW_KEY "%s}\n", it->line) > 0;
}

static bool put_last_line(const struct pd__job *j, FILE *f)
{
    return j->model || (fputc('{', f) != EOF && put_spent(j, f) && fputs("}\n", f) != EOF);
}

enum pd_rc pd__answers_add_partial(struct pd__job *j, const struct pd__item *it, struct pd_err *err)
{
    if (j->partial && (!put_item(j, j->partial->f, it) || fflush(j->partial->f) != 0))
        return PD_FAIL_SYS(err, PD_IO, "cannot write %s", j->partial->path);
    return PD_OK;
}

void pd__answers_end_partial(struct pd__job *j)
{
    struct pd_spent s = pd_answers_spent(j->sum);
    if (j->partial && !j->finished && memcmp(&s, &j->noted, sizeof s) != 0)
        (void)put_last_line(j, j->partial->f);
}

/* Written afresh, so that a line cut short by a crash does not stay in the middle. */
static enum pd_rc rewrite(struct pd__job *j, const char *head, struct pd_err *err)
{
    enum pd_rc rc = pd_partial_begin(j->partial, err);
    if (rc != PD_OK)
        return rc;
    FILE *f = j->partial->next;
    bool ok = fprintf(f, "%s\n", head) > 0;
    for (int64_t i = 0; ok && i < j->n_items; i++)
        if (j->items[i].line)
            ok = put_item(j, f, &j->items[i]);
    return pd_partial_end(j->partial, ok, err);
}

/* OUT is there and nothing was left beside it: all its rows are of this job, or it is refused. */
static enum pd_rc take_finished(struct pd__job *j, struct pd_err *err)
{
    const char *settings = pd_buf_cstr(&j->settings);
    const struct pd_finished f = {.out = j->opts->out,
                                  .seed = j->opts->seed,
                                  .n = j->opts->n,
                                  .quiet = j->opts->quiet,
                                  .n_variants = 1,
                                  .models = &j->opts->model_name,
                                  .settings = &settings};
    struct json_object **rows = pd_xalloc(((size_t)j->n_items + 1) * sizeof(struct json_object *));
    for (int64_t i = 0; i < j->n_items; i++)
        rows[i] = j->items[i].row;
    enum pd_rc rc = pd_finished_check(&f, rows, (size_t)j->n_items, err);
    for (int64_t i = 0; rc == PD_OK && i < j->n_items; i++)
        j->items[i].line = pd_xstrdup(""); /* answered; not written again */
    if (rc == PD_OK) {
        j->finished = true;
        j->sum->resumed = j->n_finished = j->n_items;
    }
    pd_free(rows);
    return rc;
}

enum pd_rc pd__answers_open_partial(struct pd__job *j, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char *head = NULL;
    struct stat st;
    if (pd_fs_is_dir(j->opts->out)) /* now, not when all answers are there */
        return PD_FAIL(err, PD_INVALID, "--out %s is a folder, not a file", j->opts->out);
    if (strcmp(j->opts->out, "-") == 0 || (stat(j->opts->out, &st) == 0 && !S_ISREG(st.st_mode)))
        return PD_OK;
    PD_TRY(pd_partial_open(&j->partial, j->opts->out, j->opts->resume, err));
    j->keep = !j->partial->fresh;
    if (j->partial->fresh && j->opts->resume && !j->opts->numbered &&
        pd_finished_maybe(j->opts->out)) {
        rc = take_finished(j, err);
        goto out;
    }
    head = partial_head(j);
    if (!j->partial->fresh)
        PD_TRY(load_partial(j, head, err));
    PD_TRY(rewrite(j, head, err));
out:
    pd_free(head);
    return rc;
}

static bool put_line(const struct pd__job *j, FILE *f, const struct pd__item *it)
{
    if (j->opts->numbered)
        return fprintf(f, "{\"index\":%zu" ROW_KEY "%s}\n", it->at, it->line) > 0;
    return fprintf(f, "%s\n", it->line) > 0;
}

enum pd_rc pd__answers_write_out(struct pd__job *j, struct pd_err *err)
{
    struct pd_out out;
    enum pd_rc rc = pd_out_open(&out, j->opts->out, err);
    for (int64_t i = 0; rc == PD_OK && i < j->n_items; i++) {
        const struct pd__item *it = &j->items[i];
        if (it->line && !put_line(j, out.f, it))
            rc = PD_FAIL_SYS(err, PD_IO, "cannot write %s", j->opts->out);
    }
    if (rc == PD_OK && j->opts->numbered && !put_last_line(j, out.f))
        rc = PD_FAIL_SYS(err, PD_IO, "cannot write %s", j->opts->out);
    if (rc == PD_OK)
        rc = pd_out_commit(&out, err);
    else
        pd_out_abandon(&out);
    return rc;
}
