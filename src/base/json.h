/* JSON over json-c: parsing with limits and one-line errors, typed getters, and writing into a
 * pd_buf without building a tree.
 *
 * Parsing: UTF-8 checked, integers past 64 bits and escapes of half a surrogate pair refused, of
 * duplicate keys the last counts, depth and size limited, nothing may follow the value. Trees are
 * json_object; release with json_object_put. Getters return borrowed views that live as long as
 * the tree. */
#ifndef PD_BASE_JSON_H
#define PD_BASE_JSON_H

#include "base/str.h"
#include <json-c/json.h>

/* PD_PARSE with the byte offset on malformed input. *out is owned by the caller; JSON null gives
 * PD_OK with *out == NULL. */
PD_CHECKED enum pd_rc pd_json_parse(struct pd_str text, struct json_object **out,
                                    struct pd_err *err);
PD_CHECKED enum pd_rc pd_json_read_file(const char *path, size_t max_bytes,
                                        struct json_object **out, struct pd_err *err);

/* Lookups that do not fail: absent or of another type gives the fallback. */
struct json_object *pd_json_get(struct json_object *o, const char *key); /* NULL if absent */
struct pd_str pd_json_str(struct json_object *o, const char *key);       /* ptr NULL if absent */
int64_t pd_json_i64(struct json_object *o, const char *key, int64_t fallback);
double pd_json_f64(struct json_object *o, const char *key, double fallback);
bool pd_json_bool(struct json_object *o, const char *key, bool fallback);
struct pd_str pd_json_value_str(struct json_object *v); /* a string node's bytes (may hold NUL) */

/* Required fields: PD_INVALID naming the key, what was found and what is expected. */
PD_CHECKED enum pd_rc pd_json_need_str(struct json_object *o, const char *key, struct pd_str *out,
                                       struct pd_err *err);
PD_CHECKED enum pd_rc pd_json_need_i64(struct json_object *o, const char *key, int64_t *out,
                                       struct pd_err *err);
const char *pd_json_type_name(struct json_object *v); /* "a string", "null", ... for messages */

/* Writing. A writer needs no closing commas by hand: it inserts them. Keys are plain literals. */
struct pd_jw {
    struct pd_buf *buf;
    uint64_t has_item; /* bit per depth: something was written at this depth */
    int depth;
    bool after_key;
};
void pd_jw_init(struct pd_jw *w, struct pd_buf *buf);
void pd_jw_object(struct pd_jw *w); /* { */
void pd_jw_object_end(struct pd_jw *w);
void pd_jw_array(struct pd_jw *w); /* [ */
void pd_jw_array_end(struct pd_jw *w);
void pd_jw_key(struct pd_jw *w, const char *key);
void pd_jw_str(struct pd_jw *w, struct pd_str s);
void pd_jw_strz(struct pd_jw *w, const char *z); /* NULL -> null */
void pd_jw_i64(struct pd_jw *w, int64_t v);
void pd_jw_f64(struct pd_jw *w, double v); /* shortest round-trip; NaN and Inf become null */
void pd_jw_bool(struct pd_jw *w, bool v);
void pd_jw_null(struct pd_jw *w);
void pd_jw_raw(struct pd_jw *w, struct pd_str json); /* already serialised: spliced as it is */
void pd_jw_tree(struct pd_jw *w, struct json_object *v);
/* key + value in one call */
void pd_jw_kstr(struct pd_jw *w, const char *key, struct pd_str s);
void pd_jw_kstrz(struct pd_jw *w, const char *key, const char *z);
void pd_jw_ki64(struct pd_jw *w, const char *key, int64_t v);
void pd_jw_kf64(struct pd_jw *w, const char *key, double v);
void pd_jw_kbool(struct pd_jw *w, const char *key, bool v);

#endif
