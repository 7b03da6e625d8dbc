/* /ui/: signing in and out, who I am, the people of this Podium. */
#include "api/ui_json.h"

#include "base/time.h"
#include "store/lease.h"
#include "store/lookup.h"

#include <stdio.h>

#define DAY_US        ((int64_t)24 * 3600 * 1000000)
#define SESSION_US    (30 * DAY_US)
#define INVITE_US     (7 * DAY_US)
#define FRESH_LINK_US ((int64_t)10 * 60 * 1000000)

static enum pd_rc write_me(struct pd_req *req, struct pd_db *db, const struct pd_user *u,
                           struct pd_err *err)
{
    bool has_password = false;
    enum pd_rc rc = pd_user_has_password(db, u->id, &has_password, err);
    if (rc != PD_OK)
        return rc;
    struct pd_jw *w = pd_resp_json(req, 200);
    pd_jw_object(w);
    pd_jw_key(w, "user");
    pd_jw_object(w);
    pd_jw_kstrz(w, "id", u->uuid);
    pd_jw_kstrz(w, "username", u->username);
    pd_jw_kstrz(w, "name", u->first_name);
    pd_jw_kstrz(w, "role", pd_role_name(u->role));
    pd_jw_kbool(w, "has_password", has_password);
    pd_jw_object_end(w);
    pd_jw_kstrz(w, "version", pd_api_of(req)->version);
    pd_jw_key(w, "keys");
    rc = pd_ui_keys_out(w, db, &req->arena, u->id, err);
    pd_jw_object_end(w);
    return rc;
}

static enum pd_rc me(struct pd_req *req, struct pd_err *err)
{
    struct pd_db *db;
    enum pd_rc rc = pd_api_read(req, &db, err);
    return rc == PD_OK ? write_me(req, db, &pd_who(req)->user, err) : rc;
}

/* ---- in and out */

static void set_cookie(struct pd_req *req, const char *token, int64_t max_age_s)
{
    const char *proto = pd_req_header(req, "X-Forwarded-Proto");
    bool tls = (proto && strcmp(proto, "https") == 0) ||
               (pd_api_of(req)->public_url && strncmp(pd_api_of(req)->public_url, "https", 5) == 0);
    pd_resp_header(
        req, "Set-Cookie",
        pd_arena_printf(&req->arena,
                        "podium_session=%s; Path=/ui; HttpOnly; SameSite=Strict; Max-Age=%lld%s",
                        token, (long long)max_age_s, tls ? "; Secure" : ""));
}

struct new_session {
    struct pd_store *store;
    int64_t user_id;
    struct pd_str link; /* when signing in by link */
    char token[44];
};

static enum pd_rc write_session(struct pd_db *db, void *arg, struct pd_err *err)
{
    struct new_session *n = arg;
    if (n->link.len) {
        enum pd_rc rc = pd_link_use(db, n->store, n->link, &n->user_id, err);
        if (rc != PD_OK)
            return rc;
    }
    return pd_session_create(db, n->store, n->user_id, SESSION_US, n->token, err);
}

/* Too many failures of late, for this name or from this address? Answers 429 then. */
static bool refused(struct pd_req *req, struct pd_str name)
{
    int wait = 0;
    struct pd_limiter *l = pd_api_of(req)->limiter;
    struct pd_str peer =
        pd_str_from(pd_arena_printf(&req->arena, "%s|%.*s", req->peer, PD_STR_ARG(name)));
    if (pd_limiter_ok(l, peer, &wait))
        return false;
    pd_api_error(req, 429, "too_many", NULL, "too many attempts; try again in %d s", wait);
    pd_resp_header(req, "Retry-After", pd_arena_printf(&req->arena, "%d", wait));
    return true;
}

static void failed(struct pd_req *req, struct pd_str name)
{
    pd_limiter_failed(
        pd_api_of(req)->limiter,
        pd_str_from(pd_arena_printf(&req->arena, "%s|%.*s", req->peer, PD_STR_ARG(name))));
}

static enum pd_rc sign_in(struct pd_req *req, struct pd_err *err)
{
    struct json_object *body;
    struct pd_db *db;
    struct pd_user user;
    struct pd_store *store = pd_api_of(req)->store;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_json(req, &body, err));
    struct new_session session = {.store = store, .link = pd_json_str(body, "token")};
    struct pd_str name = pd_json_str(body, "username"), password = pd_json_str(body, "password");
    struct pd_str who = session.link.len ? PD_STR("link") : name;
    if (!session.link.len && (!name.len || !password.len)) {
        rc = PD_FAIL(err, PD_INVALID, "give username and password, or the token of a sign-in link");
        goto out;
    }
    if (refused(req, who))
        goto out;
    PD_TRY(pd_api_read(req, &db, err));
    if (!session.link.len) {
        rc = pd_user_sign_in(db, &req->arena, name, password, &user, err);
        if (rc == PD_UNAUTH)
            failed(req, who);
        if (rc != PD_OK)
            goto out;
        session.user_id = user.id;
    }
    pd_api_read_end(req);
    rc = pd_store_write(store, PD_TX_DURABLE, write_session, &session, err);
    if (rc == PD_UNAUTH && session.link.len) {
        failed(req, who);
        pd_api_error(req, 401, "link_used", NULL,
                     "this sign-in link was used already or is too old; ask for a new one");
        rc = PD_OK;
        goto out;
    }
    PD_TRY(rc);
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_user_get(db, &req->arena, session.user_id, &user, err));
    PD_TRY(write_me(req, db, &user, err));
    set_cookie(req, session.token, SESSION_US / 1000000);
out:
    return rc;
}

struct end_session {
    struct pd_store *store;
    struct pd_str token;
    int64_t user_id;
};

static enum pd_rc write_end(struct pd_db *db, void *arg, struct pd_err *err)
{
    struct end_session *e = arg;
    enum pd_rc rc = pd_session_end(db, e->store, e->token, err);
    if (rc == PD_OK && e->user_id)
        rc = pd_lease_return(db, 0, e->user_id, 0, err);
    return rc;
}

static enum pd_rc sign_out(struct pd_req *req, struct pd_err *err)
{
    struct end_session e = {.store = pd_api_of(req)->store,
                            .token = pd_req_cookie(req, "podium_session"),
                            .user_id = pd_who(req)->user.id};
    pd_api_read_end(req);
    enum pd_rc rc =
        e.token.len ? pd_store_write(e.store, PD_TX_DURABLE, write_end, &e, err) : PD_OK;
    if (rc != PD_OK)
        return rc;
    pd_resp_empty(req, 204);
    set_cookie(req, "", 0);
    return PD_OK;
}

struct new_password {
    int64_t user_id;
    struct pd_str password;
    struct pd_store *store;
    char token[44];
};

/* Ends all sessions of the user, and gives the caller a new one. */
static enum pd_rc write_password(struct pd_db *db, void *arg, struct pd_err *err)
{
    struct new_password *n = arg;
    enum pd_rc rc = pd_user_set_password(db, n->user_id, n->password, err);
    return rc == PD_OK ? pd_session_create(db, n->store, n->user_id, SESSION_US, n->token, err)
                       : rc;
}

static enum pd_rc change_password(struct pd_req *req, struct pd_err *err)
{
    struct json_object *body;
    struct pd_db *db;
    struct pd_user checked;
    const struct pd_user *u = &pd_who(req)->user;
    bool has = false, fresh = false;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_json(req, &body, err));
    struct new_password n = {.user_id = u->id, .store = pd_api_of(req)->store};
    PD_TRY(pd_json_need_str(body, "new", &n.password, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_user_has_password(db, u->id, &has, err));
    if (has) {
        struct pd_str old = pd_json_str(body, "old");
        PD_TRY(pd_link_used_since(db, u->id, pd_time_us() - FRESH_LINK_US, &fresh, err));
        if (!fresh || old.len) {
            rc = pd_user_sign_in(db, &req->arena, pd_str_from(u->username), old, &checked, err);
            if (rc == PD_UNAUTH) {
                pd_api_error(req, 422, "invalid", "old", "the old password is not right");
                rc = PD_OK;
                goto out;
            }
            PD_TRY(rc);
        }
    }
    pd_api_read_end(req);
    PD_TRY(pd_store_write(n.store, PD_TX_DURABLE, write_password, &n, err));
    pd_resp_empty(req, 204);
    if (pd_who(req)->proof == PD_PROOF_COOKIE)
        set_cookie(req, n.token, SESSION_US / 1000000);
out:
    return rc;
}

/* ---- people */

static enum pd_rc write_user(struct pd_jw *w, struct pd_db *db, struct pd_arena *a,
                             const struct pd_user *u, struct pd_err *err)
{
    struct pd_workspace *ws = NULL;
    size_t n = 0;
    int64_t last_us = 0;
    bool signed_in = false;
    enum pd_rc rc = pd_workspace_list(db, a, u->id, &ws, &n, err);
    if (rc == PD_OK)
        rc = pd_user_activity(db, u->id, &last_us, &signed_in, err);
    if (rc != PD_OK)
        return rc;
    pd_jw_object(w);
    pd_jw_kstrz(w, "id", u->uuid);
    pd_jw_kstrz(w, "username", u->username);
    pd_jw_kstrz(w, "name", u->first_name);
    pd_jw_kstrz(w, "role", pd_role_name(u->role));
    pd_jw_key(w, "workspaces");
    pd_jw_array(w);
    for (size_t i = 0; i < n; i++)
        pd_jw_strz(w, ws[i].name);
    pd_jw_array_end(w);
    pd_jw_ktime(w, "last_at", last_us);
    pd_jw_kbool(w, "signed_in", signed_in);
    pd_jw_object_end(w);
    return PD_OK;
}

static enum pd_rc list_users(struct pd_req *req, struct pd_err *err)
{
    struct pd_db *db;
    struct pd_user *users = NULL;
    struct pd_workspace *ws = NULL;
    const struct pd_who *who = pd_who(req);
    size_t n = 0, n_ws = 0;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_user_list(db, &req->arena, &users, &n, err));
    PD_TRY(pd_workspace_list(db, &req->arena, pd_policy_sees_all(who) ? 0 : who->user.id, &ws,
                             &n_ws, err));
    struct pd_jw *w = pd_resp_json(req, 200);
    pd_jw_object(w);
    pd_jw_key(w, "users");
    pd_jw_array(w);
    for (size_t i = 0; i < n; i++) {
        bool mine =
            users[i].id == who->user.id || pd_policy_manage_user(db, who, &users[i], NULL) == PD_OK;
        if (mine && !users[i].placeholder)
            PD_TRY(write_user(w, db, &req->arena, &users[i], err));
    }
    pd_jw_array_end(w);
    pd_jw_key(w, "workspaces");
    pd_jw_array(w);
    for (size_t i = 0; i < n_ws; i++)
        pd_jw_strz(w, ws[i].name);
    pd_jw_array_end(w);
    pd_jw_object_end(w);
out:
    return rc;
}

static enum pd_rc add_user(struct pd_req *req, struct pd_err *err)
{
    struct json_object *body;
    struct pd_db *db;
    struct pd_user user;
    struct pd_api *api = pd_api_of(req);
    struct pd_user_new in = {.role = PD_ROLE_ANNOTATOR};
    struct pd_tx tx = {0};
    int64_t id = 0, ws_ids[32];
    size_t n_ws = 0;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_json(req, &body, err));
    PD_TRY(pd_json_need_str(body, "username", &in.username, err));
    in.password = pd_json_str(body, "password");
    in.first_name = pd_json_str(body, "name");
    struct pd_str role = pd_json_str(body, "role");
    if (role.ptr && !pd_role_parse(role, &in.role)) {
        rc = PD_FAIL(err, PD_INVALID, "role must be owner, admin or annotator");
        goto out;
    }
    PD_TRY(pd_policy_grant(pd_who(req), in.role, err));
    struct json_object *names = pd_json_get(body, "workspaces");
    size_t n_names =
        json_object_is_type(names, json_type_array) ? json_object_array_length(names) : 0;
    PD_TRY(pd_api_read(req, &db, err));
    for (size_t i = 0; i < n_names && n_ws < 32; i++) {
        struct pd_workspace ws;
        PD_TRY(pd_workspace_by_name(
            db, &req->arena, pd_json_value_str(json_object_array_get_idx(names, i)), &ws, err));
        PD_TRY(pd_policy_lead_workspace(db, pd_who(req), ws.id, err));
        ws_ids[n_ws++] = ws.id;
    }
    if (n_ws == 0 && in.role != PD_ROLE_OWNER && !pd_policy_sees_all(pd_who(req))) {
        rc = PD_FAIL(err, PD_INVALID, "name at least one of your workspaces");
        goto out;
    }
    pd_api_read_end(req);
    PD_TRY(pd_tx_begin(&tx, api->store, PD_TX_DURABLE, err));
    PD_TRY(pd_user_create(tx.db, api->store, &in, &id, err));
    for (size_t i = 0; i < n_ws; i++)
        PD_TRY(pd_workspace_add(tx.db, ws_ids[i], id, err));
    PD_TRY(pd_tx_commit(&tx, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_user_get(db, &req->arena, id, &user, err));
    PD_TRY(write_user(pd_resp_json(req, 201), db, &req->arena, &user, err));
out:
    pd_tx_abandon(&tx);
    return rc;
}

/* The account of the path, which the caller may manage. */
static enum pd_rc managed_user(struct pd_req *req, struct pd_user *out, struct pd_err *err)
{
    struct pd_db *db;
    struct pd_str uuid;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_uuid(req, "id", &uuid, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_user_by_uuid(db, &req->arena, uuid, out, err));
    PD_TRY(pd_policy_manage_user(db, pd_who(req), out, err));
out:
    return rc;
}

struct new_link {
    struct pd_store *store;
    int64_t user_id;
    char token[44];
};

static enum pd_rc write_link(struct pd_db *db, void *arg, struct pd_err *err)
{
    struct new_link *n = arg;
    return pd_link_create(db, n->store, n->user_id, INVITE_US, n->token, err);
}

static enum pd_rc invite(struct pd_req *req, struct pd_err *err)
{
    struct pd_user user;
    enum pd_rc rc = managed_user(req, &user, err);
    struct new_link n = {.store = pd_api_of(req)->store, .user_id = user.id};
    if (rc != PD_OK)
        return rc;
    pd_api_read_end(req);
    int64_t expires = pd_time_us() + INVITE_US;
    rc = pd_store_write(n.store, PD_TX_DURABLE, write_link, &n, err);
    if (rc != PD_OK)
        return rc;
    struct pd_jw *w = pd_resp_json(req, 200);
    pd_jw_object(w);
    pd_jw_kstrz(w, "url",
                pd_arena_printf(&req->arena, "%s/sign-in#%s", pd_api_base_url(req), n.token));
    pd_jw_ktime(w, "expires_at", expires);
    pd_jw_object_end(w);
    return PD_OK;
}

static enum pd_rc write_removal(struct pd_db *db, void *arg, struct pd_err *err)
{
    return pd_user_remove(db, *(int64_t *)arg, err);
}

static enum pd_rc remove_user(struct pd_req *req, struct pd_err *err)
{
    struct pd_user user;
    enum pd_rc rc = managed_user(req, &user, err);
    if (rc == PD_OK && user.id == pd_who(req)->user.id)
        rc = PD_FAIL(err, PD_CONFLICT, "you cannot remove yourself");
    if (rc != PD_OK)
        return rc;
    pd_api_read_end(req);
    rc = pd_store_write(pd_api_of(req)->store, PD_TX_DURABLE, write_removal, &user.id, err);
    if (rc == PD_OK)
        pd_resp_empty(req, 204);
    return rc;
}

static const struct pd_route rows[] = {
    {PD_POST, "/ui/session", sign_in, PD_MAY_ANYONE, PD_DOOR_UI, PD_BODY_SMALL, 0, "sign in"},
    {PD_DELETE, "/ui/session", sign_out, PD_MAY_ANYONE, PD_DOOR_UI, PD_BODY_SMALL, 0, "sign out"},
    {PD_GET, "/ui/me", me, PD_MAY_USER, PD_DOOR_UI, 0, 0, "who I am"},
    {PD_PUT, "/ui/me/password", change_password, PD_MAY_USER, PD_DOOR_UI, PD_BODY_SMALL, 0,
     "change my password"},
    {PD_GET, "/ui/users", list_users, PD_MAY_LEAD, PD_DOOR_UI, 0, 0, "people"},
    {PD_POST, "/ui/users", add_user, PD_MAY_LEAD, PD_DOOR_UI, PD_BODY_SMALL, 0, "make an account"},
    {PD_POST, "/ui/users/{id}/invite", invite, PD_MAY_LEAD, PD_DOOR_UI, PD_BODY_SMALL, 0,
     "a fresh sign-in link"},
    {PD_DELETE, "/ui/users/{id}", remove_user, PD_MAY_LEAD, PD_DOOR_UI, PD_BODY_SMALL, 0,
     "close an account"},
};
PD_ROUTE_TABLE(pd_routes_session, rows);
