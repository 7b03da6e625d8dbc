#include "lm/prompts.h"
#include "base/csv.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

enum { MAX_LINE = 16 << 20, MAX_FILE = 1 << 30 };

void pd_prompts_bad(struct pd_prompts *p, size_t line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    pd_log_bad_row(&p->n_bad, p->path, line, fmt, ap);
    va_end(ap);
}

enum pd_rc pd_prompts_verdict(const struct pd_prompts *p, size_t n_good, struct pd_err *err)
{
    if (p->n_bad > 0 && !p->skip_bad)
        return PD_FAIL(err, PD_INVALID, "%s: %zu bad rows; mend them or add --skip-bad", p->path,
                       p->n_bad);
    if (n_good == 0)
        return PD_FAIL(err, PD_INVALID, "%s: no %sprompts", p->path, p->n_bad ? "good " : "");
    return PD_OK;
}

void pd_prompts_release(struct pd_prompts *p)
{
    for (size_t i = 0; i < p->n; i++)
        json_object_put(p->v[i].row);
    pd_free(p->v);
    pd_free(p->path);
    pd_map_release(&p->by_id);
    memset(p, 0, sizeof *p);
}

/* As text: 7 and "7" are one id to who imports the answers. ptr NULL: none, or an empty one. */
static struct pd_str id_of(struct json_object *row)
{
    struct json_object *id = pd_json_get(row, "id");
    struct pd_str s = pd_str_from(id ? json_object_get_string(id) : NULL);
    return s.len ? s : (struct pd_str){0};
}

/* Rows without an id get one that no other row has: once all are known. */
static void give_ids(struct pd_prompts *p)
{
    for (size_t i = 0; i < p->n; i++) {
        char id[48];
        if (id_of(p->v[i].row).ptr)
            continue;
        (void)snprintf(id, sizeof id, "%zu", i + 1);
        for (size_t k = 2; pd_map_has(&p->by_id, pd_str_from(id)); k++)
            (void)snprintf(id, sizeof id, "%zu-%zu", i + 1, k);
        (void)pd_map_put(&p->by_id, pd_str_from(id), (int64_t)p->v[i].line);
        json_object_object_add(p->v[i].row, "id", json_object_new_string(id));
    }
}

/* Looks the row over and takes it; a bad one is reported and put. */
static void take_row(struct pd_prompts *p, struct json_object *row, size_t line)
{
    struct json_object *prompt = pd_json_get(row, "prompt");
    bool text = json_object_is_type(prompt, json_type_string);
    bool list = json_object_is_type(prompt, json_type_array);
    struct json_object *ids = p->take_ids && !prompt ? pd_json_get(row, "ids") : NULL;
    bool no_ids = !json_object_is_type(ids, json_type_array) || !json_object_array_length(ids);
    struct pd_str id = id_of(row);
    int64_t before = 0;
    bool taken = id.ptr && pd_map_get(&p->by_id, id, &before);
    if (ids && no_ids)
        pd_prompts_bad(p, line, "\"ids\" is not a list of ids");
    else if (!ids && !text && !list)
        pd_prompts_bad(p, line,
                       prompt ? "\"prompt\" is %s, expected text or a list of messages"
                              : "no \"prompt\" (found %s)",
                       prompt ? pd_json_type_name(prompt) : "other keys only");
    else if (text && pd_str_trim(pd_json_value_str(prompt)).len == 0)
        pd_prompts_bad(p, line, "\"prompt\" is empty");
    else if (list && json_object_array_length(prompt) == 0)
        pd_prompts_bad(p, line, "\"prompt\" has no messages");
    else if (taken && p->one_id)
        pd_prompts_bad(p, line, "the id \"%.80s\" stands in line %lld already; give each its own",
                       id.ptr, (long long)before);
    else {
        if (p->n == p->cap) {
            p->cap = p->cap ? 2 * p->cap : 64;
            p->v = pd_xrealloc(p->v, p->cap * sizeof *p->v);
        }
        if (id.ptr && !taken)
            (void)pd_map_put(&p->by_id, id, (int64_t)line);
        p->v[p->n++] = (struct pd_prompt){row, ids, line};
        return;
    }
    json_object_put(row);
}

static enum pd_rc read_lines(struct pd_prompts *p, const char *path, bool json, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_lines *lines = NULL;
    struct pd_str line;
    bool more;
    PD_TRY(pd_lines_open(&lines, path, MAX_LINE, err));
    for (;;) {
        PD_TRY(pd_lines_next(lines, &line, &more, err));
        if (!more)
            break;
        if (pd_str_trim(line).len == 0)
            continue;
        size_t number = pd_lines_number(lines), valid = pd_utf8_valid_prefix(line);
        struct json_object *row = NULL;
        struct pd_err e;
        if (valid < line.len) {
            pd_prompts_bad(p, number, "not UTF-8 at byte %zu", valid + 1);
        } else if (!json) {
            row = json_object_new_object();
            json_object_object_add(row, "prompt",
                                   json_object_new_string_len(line.ptr, (int)line.len));
            take_row(p, row, number);
        } else if (pd_json_parse(line, &row, &e) != PD_OK) {
            pd_prompts_bad(p, number, "%s", e.msg);
        } else if (!json_object_is_type(row, json_type_object)) {
            pd_prompts_bad(p, number, "expected a JSON object, found %s", pd_json_type_name(row));
            json_object_put(row);
        } else {
            take_row(p, row, number);
        }
    }
out:
    pd_lines_close(lines);
    return rc;
}

static struct json_object *row_of_fields(const struct pd_str *names, const struct pd_str *fields,
                                         size_t n)
{
    struct json_object *row = json_object_new_object();
    char key[256];
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(key, sizeof key, "%.*s", PD_STR_ARG(names[i]));
        json_object_object_add(row, key,
                               json_object_new_string_len(fields[i].ptr, (int)fields[i].len));
    }
    return row;
}

static enum pd_rc read_csv(struct pd_prompts *p, char sep, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_buf text;
    struct pd_arena arena;
    struct pd_csv csv;
    struct pd_str *names, *fields;
    size_t n_names = 0, n, valid;
    bool more, found = false;
    pd_buf_init(&text, MAX_FILE);
    pd_arena_init(&arena);
    PD_TRY(pd_fs_read_maybe_gzip(p->path, MAX_FILE, &text, err));
    valid = pd_utf8_valid_prefix(pd_buf_str(&text));
    if (valid < text.len) {
        rc = PD_FAIL(err, PD_PARSE, "%s: not UTF-8 at byte %zu", p->path, valid + 1);
        goto out;
    }
    pd_csv_init(&csv, pd_buf_str(&text), sep);
    PD_TRY(pd_csv_next(&csv, &arena, &names, &n_names, &more, err));
    for (size_t i = 0; more && i < n_names; i++)
        found = found || pd_str_eqz(names[i], "prompt");
    if (!found) {
        rc = PD_FAIL(err, PD_INVALID, "%s:1: no column named prompt", p->path);
        goto out;
    }
    for (;;) {
        PD_TRY(pd_csv_next(&csv, &arena, &fields, &n, &more, err));
        if (!more)
            break;
        if (n != n_names)
            pd_prompts_bad(p, csv.line, "%zu fields, the head line has %zu", n, n_names);
        else
            take_row(p, row_of_fields(names, fields, n), csv.line);
    }
out:
    if (rc == PD_PARSE)
        (void)pd_err_prefix(err, "%s", p->path);
    pd_arena_release(&arena);
    pd_buf_release(&text);
    return rc;
}

enum pd_rc pd_prompts_read(struct pd_prompts *p, const char *path, bool skip_bad,
                           struct pd_err *err)
{
    *p = (struct pd_prompts){.path = pd_xstrdup(strcmp(path, "-") == 0 ? "stdin" : path),
                             .skip_bad = skip_bad,
                             .take_ids = p->take_ids,
                             .one_id = p->one_id};
    pd_map_init(&p->by_id);
    struct pd_str name = pd_str_from(path);
    if (pd_str_ends(name, PD_STR(".gz")))
        name.len -= 3;
    enum pd_rc rc;
    if (pd_str_ends(name, PD_STR(".csv")))
        rc = read_csv(p, ',', err);
    else if (pd_str_ends(name, PD_STR(".tsv")))
        rc = read_csv(p, '\t', err);
    else
        rc = read_lines(p, path, !pd_str_ends(name, PD_STR(".txt")), err);
    if (rc == PD_OK)
        give_ids(p);
    else
        pd_prompts_release(p);
    return rc;
}
