#include "base/json.h"
#include "base/fs.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_DEPTH = 64 };

/* The 16 bits of an escape \uXXXX at `at`; -1 when none stands there. */
static int escaped_unit(struct pd_str t, size_t at)
{
    int unit = 0;
    if (t.len < 6 || at > t.len - 6 || t.ptr[at] != '\\' || t.ptr[at + 1] != 'u')
        return -1;
    for (size_t i = at + 2; i < at + 6; i++) {
        char c = t.ptr[i], low = (char)(c | 0x20);
        bool digit = c >= '0' && c <= '9', letter = low >= 'a' && low <= 'f';
        if (!digit && !letter)
            return -1;
        unit = unit * 16 + (digit ? c - '0' : low - 'a' + 10);
    }
    return unit;
}

/* Length of the escape at `at` in a string, with its second half if it is a surrogate pair; 0 for
 * half of a pair. Where the text itself ends after a first half, json-c says so. */
static size_t escape_length(struct pd_str t, size_t at)
{
    int first = escaped_unit(t, at);
    if (first < 0xd800 || first >= 0xe000)
        return 2;
    int second = first < 0xdc00 ? escaped_unit(t, at + 6) : -1;
    if (second >= 0xdc00 && second < 0xe000)
        return 12;
    size_t left = t.len - at;
    return first < 0xdc00 && left < 12 && !memchr(t.ptr + at, '"', left) ? left : 0;
}

/* json-c clamps integers past 64 bits, takes 'keys', NaN and Infinity, and reads half a surrogate
 * pair as U+FFFD. Look at every token first; at a bad one, *why says what is wrong, NULL that it
 * is such a half. Returns its offset, or len. */
static size_t find_bad_token(struct pd_str t, const char **why)
{
    static const struct pd_str words[] = {{"true", 4}, {"false", 5}, {"null", 4}};
    for (size_t i = 0, start; i < t.len; i++) {
        char c = t.ptr[i];
        if (c == '"') {
            for (i++; i < t.len && t.ptr[i] != '"';) {
                size_t n = t.ptr[i] == '\\' ? escape_length(t, i) : 1;
                if (n == 0) {
                    *why = NULL;
                    return i;
                }
                i += n;
            }
        } else if (c == '-' || (c >= '0' && c <= '9')) {
            bool real = false;
            for (start = i; i < t.len && strchr("+-.eE0123456789", t.ptr[i]) && t.ptr[i]; i++)
                real |= strchr(".eE", t.ptr[i]) != NULL;
            struct pd_str number = {t.ptr + start, i - start};
            int64_t ignored;
            *why = "an integer that does not fit 64 bits";
            if (!real && number.len >= 19 && !pd_str_to_i64(number, &ignored))
                return start;
            i--;
        } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') {
            struct pd_str rest = {t.ptr + i, t.len - i};
            size_t k = 0;
            while (k < 3 && !pd_str_starts(rest, words[k]))
                k++;
            *why = "an unknown word";
            if (k == 3)
                return i;
            i += words[k].len - 1;
        } else if (!c || !strchr("{}[],: \t\r\n", c)) {
            *why = "an unexpected character";
            return i;
        }
    }
    return t.len;
}

enum pd_rc pd_json_parse(struct pd_str text, struct json_object **out, struct pd_err *err)
{
    if (text.len > (size_t)INT32_MAX - 1)
        return PD_FAIL(err, PD_TOOBIG, "JSON of %zu bytes is larger than 2 GiB", text.len);
    size_t valid = pd_utf8_valid_prefix(text);
    if (valid < text.len)
        return PD_FAIL(err, PD_PARSE, "not UTF-8 at byte %zu", valid);
    if (pd_str_trim(text).len == 0)
        return PD_FAIL(err, PD_PARSE, "empty where JSON is expected");
    const char *why = NULL;
    size_t bad = find_bad_token(text, &why);
    if (bad < text.len && !why)
        return PD_FAIL(err, PD_PARSE,
                       "not Unicode at byte %zu: %.6s is half of a surrogate pair; write the "
                       "other half beside it, or \\ufffd for a character that is lost",
                       bad, text.ptr + bad);
    if (bad < text.len)
        return PD_FAIL(err, PD_PARSE, "not JSON at byte %zu: %s", bad, why);

    struct json_tokener *tok = json_tokener_new_ex(MAX_DEPTH);
    if (!tok)
        return PD_FAIL(err, PD_NOMEM, "out of memory parsing JSON");
    json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_ALLOW_TRAILING_CHARS);
    struct json_object *v = json_tokener_parse_ex(tok, text.ptr, (int)text.len);
    enum json_tokener_error e = json_tokener_get_error(tok);
    if (e == json_tokener_continue) { /* a bare number ends only at a byte after it */
        v = json_tokener_parse_ex(tok, "\n", 1);
        e = json_tokener_get_error(tok);
        if (e == json_tokener_success) {
            json_tokener_free(tok);
            *out = v;
            return PD_OK;
        }
    }
    size_t end = json_tokener_get_parse_end(tok);
    json_tokener_free(tok);
    if (e != json_tokener_success) {
        json_object_put(v);
        if (e == json_tokener_continue)
            return PD_FAIL(err, PD_PARSE, "JSON ends too early, at byte %zu", text.len);
        if (e == json_tokener_error_depth)
            return PD_FAIL(err, PD_PARSE, "JSON nested deeper than %d at byte %zu", MAX_DEPTH, end);
        return PD_FAIL(err, PD_PARSE, "not JSON at byte %zu: %s", end, json_tokener_error_desc(e));
    }
    struct pd_str rest = {text.ptr + end, text.len - end};
    if (pd_str_trim(rest).len) {
        json_object_put(v);
        return PD_FAIL(err, PD_PARSE, "something follows the JSON value at byte %zu", end);
    }
    *out = v;
    return PD_OK;
}

enum pd_rc pd_json_read_file(const char *path, size_t max_bytes, struct json_object **out,
                             struct pd_err *err)
{
    struct pd_buf b;
    pd_buf_init(&b, max_bytes);
    enum pd_rc rc = pd_fs_read(path, max_bytes, &b, err);
    if (rc == PD_OK) {
        rc = pd_json_parse(pd_buf_str(&b), out, err);
        if (rc != PD_OK)
            pd_err_prefix(err, "%s", path);
    }
    pd_buf_release(&b);
    return rc;
}

struct json_object *pd_json_get(struct json_object *o, const char *key)
{
    struct json_object *v = NULL;
    if (json_object_is_type(o, json_type_object))
        json_object_object_get_ex(o, key, &v);
    return v;
}

struct pd_str pd_json_value_str(struct json_object *v)
{
    if (!json_object_is_type(v, json_type_string))
        return (struct pd_str){NULL, 0};
    return (struct pd_str){json_object_get_string(v), (size_t)json_object_get_string_len(v)};
}

struct pd_str pd_json_str(struct json_object *o, const char *key)
{
    return pd_json_value_str(pd_json_get(o, key));
}

int64_t pd_json_i64(struct json_object *o, const char *key, int64_t fallback)
{
    struct json_object *v = pd_json_get(o, key);
    return json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : fallback;
}

double pd_json_f64(struct json_object *o, const char *key, double fallback)
{
    struct json_object *v = pd_json_get(o, key);
    if (json_object_is_type(v, json_type_int) || json_object_is_type(v, json_type_double))
        return json_object_get_double(v);
    return fallback;
}

bool pd_json_bool(struct json_object *o, const char *key, bool fallback)
{
    struct json_object *v = pd_json_get(o, key);
    return json_object_is_type(v, json_type_boolean) ? json_object_get_boolean(v) : fallback;
}

const char *pd_json_type_name(struct json_object *v)
{
    switch (json_object_get_type(v)) {
    case json_type_null:
        return "null";
    case json_type_boolean:
        return "a boolean";
    case json_type_double:
    case json_type_int:
        return "a number";
    case json_type_object:
        return "an object";
    case json_type_array:
        return "an array";
    case json_type_string:
        return "a string";
    }
    return "something else";
}

static enum pd_rc wrong(struct json_object *o, const char *key, const char *expected,
                        struct pd_err *err)
{
    struct json_object *v = NULL;
    if (!json_object_is_type(o, json_type_object))
        return PD_FAIL(err, PD_INVALID, "expected an object with \"%s\", found %s", key,
                       pd_json_type_name(o));
    if (!json_object_object_get_ex(o, key, &v))
        return PD_FAIL(err, PD_INVALID, "\"%s\" is missing (expected %s)", key, expected);
    return PD_FAIL(err, PD_INVALID, "\"%s\" is %s, expected %s", key, pd_json_type_name(v),
                   expected);
}

enum pd_rc pd_json_need_str(struct json_object *o, const char *key, struct pd_str *out,
                            struct pd_err *err)
{
    struct pd_str s = pd_json_str(o, key);
    if (!s.ptr)
        return wrong(o, key, "a string", err);
    *out = s;
    return PD_OK;
}

enum pd_rc pd_json_need_i64(struct json_object *o, const char *key, int64_t *out,
                            struct pd_err *err)
{
    struct json_object *v = pd_json_get(o, key);
    if (!json_object_is_type(v, json_type_int))
        return wrong(o, key, "an integer", err);
    *out = json_object_get_int64(v);
    return PD_OK;
}

/* --- writing --- */

void pd_jw_init(struct pd_jw *w, struct pd_buf *buf)
{
    memset(w, 0, sizeof *w);
    w->buf = buf;
}

static void before_value(struct pd_jw *w)
{
    if (w->after_key)
        w->after_key = false;
    else if (w->has_item >> w->depth & 1)
        pd_buf_addc(w->buf, ',');
    w->has_item |= 1ull << w->depth;
}

static void open_scope(struct pd_jw *w, char c)
{
    before_value(w);
    pd_buf_addc(w->buf, c);
    if (++w->depth > 62)
        pd_bug("JSON written deeper than 62");
    w->has_item &= ~(1ull << w->depth);
}

void pd_jw_object(struct pd_jw *w)
{
    open_scope(w, '{');
}

void pd_jw_array(struct pd_jw *w)
{
    open_scope(w, '[');
}

void pd_jw_object_end(struct pd_jw *w)
{
    w->depth--;
    pd_buf_addc(w->buf, '}');
}

void pd_jw_array_end(struct pd_jw *w)
{
    w->depth--;
    pd_buf_addc(w->buf, ']');
}

/* As json-c escapes, which writes trees: one text has one form, whoever writes it. */
static void add_quoted(struct pd_buf *b, struct pd_str s)
{
    static const char hex[] = "0123456789abcdef";
    pd_buf_addc(b, '"');
    size_t from = 0;
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        pd_buf_add(b, s.ptr + from, i - from);
        from = i + 1;
        switch (c) {
        case '"':
            pd_buf_adds(b, "\\\"");
            break;
        case '\\':
            pd_buf_adds(b, "\\\\");
            break;
        case '\b':
            pd_buf_adds(b, "\\b");
            break;
        case '\f':
            pd_buf_adds(b, "\\f");
            break;
        case '\n':
            pd_buf_adds(b, "\\n");
            break;
        case '\r':
            pd_buf_adds(b, "\\r");
            break;
        case '\t':
            pd_buf_adds(b, "\\t");
            break;
        default:
            pd_buf_add(b, (char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
        }
    }
    pd_buf_add(b, s.ptr + from, s.len - from);
    pd_buf_addc(b, '"');
}

void pd_jw_key(struct pd_jw *w, const char *key)
{
    before_value(w);
    add_quoted(w->buf, pd_str_from(key));
    pd_buf_addc(w->buf, ':');
    w->after_key = true;
}

void pd_jw_str(struct pd_jw *w, struct pd_str s)
{
    before_value(w);
    add_quoted(w->buf, s);
}

void pd_jw_strz(struct pd_jw *w, const char *z)
{
    if (z)
        pd_jw_str(w, pd_str_from(z));
    else
        pd_jw_null(w);
}

void pd_jw_i64(struct pd_jw *w, int64_t v)
{
    before_value(w);
    pd_buf_addf(w->buf, "%lld", (long long)v);
}

void pd_jw_f64(struct pd_jw *w, double v)
{
    if (!isfinite(v)) {
        pd_jw_null(w);
        return;
    }
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    before_value(w);
    pd_buf_adds(w->buf, text);
}

void pd_jw_bool(struct pd_jw *w, bool v)
{
    before_value(w);
    pd_buf_adds(w->buf, v ? "true" : "false");
}

void pd_jw_null(struct pd_jw *w)
{
    before_value(w);
    pd_buf_adds(w->buf, "null");
}

void pd_jw_raw(struct pd_jw *w, struct pd_str json)
{
    before_value(w);
    pd_buf_addstr(w->buf, json);
}

void pd_jw_tree(struct pd_jw *w, struct json_object *v)
{
    before_value(w);
    pd_buf_adds(w->buf, json_object_to_json_string_ext(v, JSON_C_TO_STRING_PLAIN |
                                                              JSON_C_TO_STRING_NOSLASHESCAPE));
}

void pd_jw_kstr(struct pd_jw *w, const char *key, struct pd_str s)
{
    pd_jw_key(w, key);
    pd_jw_str(w, s);
}

void pd_jw_kstrz(struct pd_jw *w, const char *key, const char *z)
{
    pd_jw_key(w, key);
    pd_jw_strz(w, z);
}

void pd_jw_ki64(struct pd_jw *w, const char *key, int64_t v)
{
    pd_jw_key(w, key);
    pd_jw_i64(w, v);
}

void pd_jw_kf64(struct pd_jw *w, const char *key, double v)
{
    pd_jw_key(w, key);
    pd_jw_f64(w, v);
}

void pd_jw_kbool(struct pd_jw *w, const char *key, bool v)
{
    pd_jw_key(w, key);
    pd_jw_bool(w, v);
}
