/* /ui/: the keys a person chose. What each command is and what clashes is the screens' business;
 * here the choice is bounded and kept, whole, among the account's preferences. */
#include "api/ui_json.h"

#include "store/lookup.h"

enum { MAX_KEYS = 64, MAX_NAME = 32, MAX_KEY = 24 };

enum pd_rc pd_ui_keys_out(struct pd_jw *w, struct pd_db *db, struct pd_arena *a, int64_t user_id,
                          struct pd_err *err)
{
    char *prefs = NULL;
    enum pd_rc rc = pd_user_prefs(db, a, user_id, &prefs, err);
    if (rc != PD_OK)
        return rc;
    struct json_object *keys = pd_json_get(pd_ui_parse(a, prefs), "keys");
    if (keys) {
        pd_jw_tree(w, keys);
    } else {
        pd_jw_object(w);
        pd_jw_object_end(w);
    }
    return PD_OK;
}

static enum pd_rc check(struct json_object *keys, struct pd_err *err)
{
    if (!json_object_is_type(keys, json_type_object) || json_object_object_length(keys) > MAX_KEYS)
        return PD_FAIL(err, PD_INVALID, "keys must be an object of at most %d commands", MAX_KEYS);
    json_object_object_foreach(keys, command, key)
    {
        struct pd_str k = pd_json_value_str(key);
        if (strlen(command) > MAX_NAME || !k.len || k.len > MAX_KEY || memchr(k.ptr, 0, k.len))
            return PD_FAIL(err, PD_INVALID, "keys: %.*s must name a key, of at most %d bytes",
                           MAX_NAME, command, MAX_KEY);
    }
    return PD_OK;
}

struct choice {
    struct pd_arena *arena;
    int64_t user_id;
    struct json_object *keys;
};

static enum pd_rc write_keys(struct pd_db *db, void *arg, struct pd_err *err)
{
    struct choice *c = arg;
    char *prefs = NULL;
    struct pd_buf b;
    struct pd_jw w;
    enum pd_rc rc = pd_user_prefs(db, c->arena, c->user_id, &prefs, err);
    if (rc != PD_OK)
        return rc;
    struct json_object *old = pd_ui_parse(c->arena, prefs);
    pd_buf_init(&b, 0);
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    if (json_object_is_type(old, json_type_object)) {
        json_object_object_foreach(old, name, value)
        {
            if (strcmp(name, "keys") == 0)
                continue;
            pd_jw_key(&w, name);
            pd_jw_tree(&w, value);
        }
    }
    pd_jw_key(&w, "keys");
    pd_jw_tree(&w, c->keys);
    pd_jw_object_end(&w);
    rc = pd_user_set_prefs(db, c->user_id, pd_buf_str(&b), err);
    pd_buf_release(&b);
    return rc;
}

static enum pd_rc set_keys(struct pd_req *req, struct pd_err *err)
{
    struct json_object *body;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_json(req, &body, err));
    struct choice c = {
        .arena = &req->arena, .user_id = pd_who(req)->user.id, .keys = pd_json_get(body, "keys")};
    PD_TRY(check(c.keys, err));
    pd_api_read_end(req);
    PD_TRY(pd_store_write(pd_api_of(req)->store, PD_TX_DURABLE, write_keys, &c, err));
    pd_resp_empty(req, 204);
out:
    return rc;
}

static const struct pd_route rows[] = {
    {PD_PUT, "/ui/me/keys", set_keys, PD_MAY_USER, PD_DOOR_UI, PD_BODY_SMALL, 0,
     "keys of my choice"},
};
PD_ROUTE_TABLE(pd_routes_keys, rows);
