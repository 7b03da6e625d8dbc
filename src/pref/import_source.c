/* Rows out of JSON Lines, one JSON value, CSV, TSV or plain lines; gzip too. JSON Lines are
 * streamed; the others are read whole, which their formats ask for. */
#include "base/csv.h"
#include "base/fs.h"
#include "base/mem.h"
#include "pref/import_int.h"

static const size_t max_line_bytes = (size_t)64 << 20;
static const size_t max_file_bytes = (size_t)1 << 30;

enum kind { JSONL, ARRAY, TABLE, LINES };
struct pd_source {
    enum kind kind;
    const char *name;
    struct pd_lines *lines;
    struct pd_buf text;
    struct json_object *array; /* ARRAY */
    size_t at;                 /* ARRAY: the next item */
    struct pd_csv csv;
    struct pd_arena header_arena, row_arena;
    struct pd_str *header;
    size_t n_header;
    struct json_object *first; /* looked at, not taken */
    bool has_first;
    char where[320];
};

static bool ends_with(const char *name, const char *ext)
{
    struct pd_str s = pd_str_from(name);
    if (pd_str_ends(s, PD_STR(".gz")))
        s.len -= 3;
    return pd_str_ends(s, pd_str_from(ext));
}

static enum pd_rc open_table(struct pd_source *s, const char *path, char sep, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    bool more = false;
    s->kind = TABLE;
    PD_TRY(pd_fs_read_maybe_gzip(path, max_file_bytes, &s->text, err));
    if (sep == ',') { /* a semicolon file, by its first line */
        size_t commas = 0, semis = 0;
        for (size_t i = 0; i < s->text.len && s->text.ptr[i] != '\n'; i++) {
            commas += s->text.ptr[i] == ',';
            semis += s->text.ptr[i] == ';';
        }
        sep = semis > commas ? ';' : ',';
    }
    pd_csv_init(&s->csv, pd_buf_str(&s->text), sep);
    PD_TRY(pd_csv_next(&s->csv, &s->header_arena, &s->header, &s->n_header, &more, err));
    if (!more)
        rc = PD_FAIL(err, PD_INVALID, "%s is empty: expected a header line", s->name);
out:
    return rc;
}

static enum pd_rc open_whole(struct pd_source *s, const char *path, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct json_object *tree = NULL;
    s->kind = ARRAY;
    PD_TRY(pd_fs_read_maybe_gzip(path, max_file_bytes, &s->text, err));
    rc = pd_json_parse(pd_buf_str(&s->text), &tree, err);
    if (rc != PD_OK) {
        pd_err_prefix(err, "%s", s->name);
        goto out;
    }
    if (json_object_is_type(tree, json_type_array)) {
        s->array = tree;
    } else {
        s->array = json_object_new_array();
        json_object_array_add(s->array, tree);
    }
    pd_buf_release(&s->text);
    pd_buf_init(&s->text, 0);
out:
    return rc;
}

/* One JSON value over many lines, or a line each? The first line that holds anything tells. */
static enum pd_rc open_json(struct pd_source *s, const char *path, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_str line = {0};
    bool more = true, whole = false;
    PD_TRY(pd_lines_open(&s->lines, path, max_line_bytes, err));
    do
        PD_TRY(pd_lines_next(s->lines, &line, &more, err));
    while (more && pd_str_trim(line).len == 0);
    if (more) {
        struct pd_err quiet;
        line = pd_str_trim(line);
        if (line.len >= 3 && memcmp(line.ptr, "\xef\xbb\xbf", 3) == 0)
            line = (struct pd_str){line.ptr + 3, line.len - 3};
        whole = line.len && line.ptr[0] == '[';
        if (!whole) {
            rc = pd_json_parse(line, &s->first, &quiet);
            whole = rc != PD_OK && (ends_with(s->name, ".json") || line.len == 1);
            s->has_first = rc == PD_OK;
            if (rc != PD_OK && !whole) { /* a bad first line of JSON Lines */
                pd_lines_close(s->lines);
                s->lines = NULL;
                rc = pd_lines_open(&s->lines, path, max_line_bytes, err);
            } else {
                rc = PD_OK;
            }
        }
    }
    if (rc == PD_OK && whole) {
        pd_lines_close(s->lines);
        s->lines = NULL;
        if (strcmp(path, "-") == 0)
            rc =
                PD_FAIL(err, PD_UNSUPPORTED, "a JSON array cannot be read from a pipe: use a file");
        else
            rc = open_whole(s, path, err);
    }
out:
    return rc;
}

enum pd_rc pd__source_open(struct pd_source **out, const char *path, const char *name,
                           struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_source *s = pd_xalloc(sizeof *s);
    s->name = name;
    snprintf(s->where, sizeof s->where, "%.300s", name); /* until a row is taken */
    pd_buf_init(&s->text, 0);
    pd_arena_init(&s->header_arena);
    pd_arena_init(&s->row_arena);
    if (ends_with(name, ".csv"))
        rc = open_table(s, path, ',', err);
    else if (ends_with(name, ".tsv"))
        rc = open_table(s, path, '\t', err);
    else if (ends_with(name, ".txt")) {
        s->kind = LINES;
        rc = pd_lines_open(&s->lines, path, max_line_bytes, err);
    } else
        rc = open_json(s, path, err);
    if (rc != PD_OK) {
        pd__source_close(s);
        return rc;
    }
    *out = s;
    return PD_OK;
}

void pd__source_close(struct pd_source *s)
{
    if (!s)
        return;
    pd_lines_close(s->lines);
    pd_buf_release(&s->text);
    json_object_put(s->array);
    json_object_put(s->first);
    pd_arena_release(&s->header_arena);
    pd_arena_release(&s->row_arena);
    pd_free(s);
}

struct json_object *pd__source_array(struct pd_source *s)
{
    return s->array;
}

const char *pd__source_where(struct pd_source *s)
{
    return s->where;
}

static enum pd_rc next_line(struct pd_source *s, struct json_object **row, struct pd_err *err)
{
    struct pd_str line = {0};
    bool more = false;
    do {
        enum pd_rc rc = pd_lines_next(s->lines, &line, &more, err);
        if (rc != PD_OK)
            return rc == PD_PARSE || rc == PD_INVALID || rc == PD_TOOBIG ? PD_IO : rc;
    } while (more && pd_str_trim(line).len == 0);
    if (!more)
        return PD_OK;
    snprintf(s->where, sizeof s->where, "%.280s:%zu", s->name, pd_lines_number(s->lines));
    if (s->kind == LINES) {
        if (pd_utf8_valid_prefix(line) < line.len)
            return PD_FAIL(err, PD_INVALID, "not valid UTF-8");
        *row = json_object_new_object();
        json_object_object_add(*row, "prompt", json_object_new_string_len(line.ptr, (int)line.len));
        return PD_OK;
    }
    enum pd_rc rc = pd_json_parse(line, row, err);
    if (rc == PD_OK && !json_object_is_type(*row, json_type_object)) {
        rc =
            PD_FAIL(err, PD_INVALID, "the line is %s, expected an object", pd_json_type_name(*row));
        json_object_put(*row);
        *row = NULL;
    }
    return rc;
}

static enum pd_rc next_item(struct pd_source *s, struct json_object **row, struct pd_err *err)
{
    if (s->at == json_object_array_length(s->array))
        return PD_OK;
    struct json_object *item = json_object_array_get_idx(s->array, s->at++);
    snprintf(s->where, sizeof s->where, "%.280s item %zu", s->name, s->at);
    if (!json_object_is_type(item, json_type_object))
        return PD_FAIL(err, PD_INVALID, "the item is %s, expected an object",
                       pd_json_type_name(item));
    *row = json_object_get(item);
    return PD_OK;
}

static enum pd_rc next_table_row(struct pd_source *s, struct json_object **row, struct pd_err *err)
{
    struct pd_str *cells = NULL;
    size_t n = 0;
    bool more = false;
    pd_arena_release(&s->row_arena);
    pd_arena_init(&s->row_arena);
    do {
        enum pd_rc rc = pd_csv_next(&s->csv, &s->row_arena, &cells, &n, &more, err);
        if (rc != PD_OK)
            return pd_err_prefix(err, "%s", s->name), PD_IO; /* nothing sensible follows */
    } while (more && n == 1 && cells[0].len == 0);
    if (!more)
        return PD_OK;
    snprintf(s->where, sizeof s->where, "%.280s:%zu", s->name, s->csv.line);
    if (n != s->n_header)
        return PD_FAIL(err, PD_INVALID, "%zu cells under %zu columns", n, s->n_header);
    struct json_object *o = json_object_new_object();
    for (size_t i = 0; i < n; i++) {
        if (pd_utf8_valid_prefix(cells[i]) < cells[i].len) {
            json_object_put(o);
            return PD_FAIL(err, PD_INVALID, "column %zu is not valid UTF-8", i + 1);
        }
        char *key = pd_arena_strndup(&s->row_arena, s->header[i].ptr, s->header[i].len);
        json_object_object_add(o, key, json_object_new_string_len(cells[i].ptr, (int)cells[i].len));
    }
    *row = o;
    return PD_OK;
}

enum pd_rc pd__source_next(struct pd_source *s, struct json_object **row, struct pd_err *err)
{
    *row = NULL;
    if (s->has_first) {
        s->has_first = false;
        *row = s->first;
        s->first = NULL;
        if (s->lines)
            snprintf(s->where, sizeof s->where, "%.280s:%zu", s->name, pd_lines_number(s->lines));
        if (*row && json_object_is_type(*row, json_type_object))
            return PD_OK;
        enum pd_rc rc =
            PD_FAIL(err, PD_INVALID, "the line is %s, expected an object", pd_json_type_name(*row));
        json_object_put(*row);
        *row = NULL;
        return rc;
    }
    switch (s->kind) {
    case JSONL:
    case LINES:
        return next_line(s, row, err);
    case ARRAY:
        return next_item(s, row, err);
    case TABLE:
        return next_table_row(s, row, err);
    }
    pd_bug("source kind %d", (int)s->kind);
}

enum pd_rc pd__source_first(struct pd_source *s, struct json_object **row, struct pd_err *err)
{
    if (!s->has_first) {
        enum pd_rc rc = pd__source_next(s, &s->first, err);
        if (rc != PD_OK)
            return pd_err_prefix(err, "%s", s->where);
        s->has_first = s->first != NULL;
    }
    *row = s->first;
    return PD_OK;
}
