/* Argilla: who is there, users and workspaces, versions. */
#include "api/argilla.h"

#include "base/time.h"

#include <stdio.h>

void pd_argilla_ktime(struct pd_jw *w, const char *key, int64_t us)
{
    char text[32];
    pd_time_format(us, text);
    size_t n = strlen(text);
    if (n && text[n - 1] == 'Z')
        text[n - 1] = '\0';
    pd_jw_kstrz(w, key, text);
}

enum pd_rc pd_argilla_user(struct pd_jw *w, struct pd_req *req, struct pd_db *db,
                           const struct pd_user *u, bool v0, struct pd_err *err)
{
    struct pd_workspace *ws = NULL;
    size_t n = 0;
    char *key = NULL;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_user_api_key(db, pd_api_of(req)->store, &req->arena, u->id, &key, err));
    pd_jw_object(w);
    pd_jw_kstrz(w, "id", u->uuid);
    pd_jw_kstrz(w, "first_name", u->first_name);
    if (u->last_name || !v0)
        pd_jw_kstrz(w, "last_name", u->last_name);
    pd_jw_kstrz(w, "username", u->username);
    pd_jw_kstrz(w, "role", pd_role_name(u->role));
    pd_jw_kstrz(w, "api_key", key ? key : "");
    if (v0) {
        pd_jw_kstrz(w, "full_name",
                    u->last_name
                        ? pd_arena_printf(&req->arena, "%s %s", u->first_name, u->last_name)
                        : u->first_name);
        PD_TRY(
            pd_workspace_list(db, &req->arena, u->role == PD_ROLE_OWNER ? 0 : u->id, &ws, &n, err));
        pd_jw_key(w, "workspaces");
        pd_jw_array(w);
        for (size_t i = 0; i < n; i++)
            pd_jw_strz(w, ws[i].name);
        pd_jw_array_end(w);
    }
    pd_argilla_ktime(w, "inserted_at", u->inserted_us);
    pd_argilla_ktime(w, "updated_at", u->updated_us);
    pd_jw_object_end(w);
out:
    return rc;
}

void pd_argilla_workspace(struct pd_jw *w, const struct pd_workspace *ws)
{
    pd_jw_object(w);
    pd_jw_kstrz(w, "id", ws->uuid);
    pd_jw_kstrz(w, "name", ws->name);
    pd_argilla_ktime(w, "inserted_at", ws->inserted_us);
    pd_argilla_ktime(w, "updated_at", ws->updated_us);
    pd_jw_object_end(w);
}

static bool is_v0(const struct pd_req *req)
{
    return strncmp(req->path, "/api/v1/", 8) != 0;
}

/* ------------------------------------------------------------------ versions */

static enum pd_rc info(struct pd_req *req, struct pd_err *err)
{
    (void)err;
    struct pd_jw *w = pd_resp_json(req, 200);
    pd_jw_object(w);
    pd_jw_kstrz(w, "version", is_v0(req) ? PD_ARGILLA_V1_VERSION : PD_ARGILLA_V2_VERSION);
    pd_jw_object_end(w);
    return PD_OK;
}

/* The 1.x client's task datasets do not exist here. */
static enum pd_rc no_task_datasets(struct pd_req *req, struct pd_err *err)
{
    (void)err;
    pd_buf_adds(pd_resp_body(req, 200, "application/json"), "[]");
    return PD_OK;
}

/* ------------------------------------------------------------------ users */

static enum pd_rc me(struct pd_req *req, struct pd_err *err)
{
    struct pd_db *db;
    enum pd_rc rc = pd_api_read(req, &db, err);
    if (rc == PD_OK)
        rc = pd_argilla_user(pd_resp_json(req, 200), req, db, &pd_who(req)->user, is_v0(req), err);
    return rc;
}

static void list_begin(struct pd_jw *w, bool v0)
{
    if (!v0) {
        pd_jw_object(w);
        pd_jw_key(w, "items");
    }
    pd_jw_array(w);
}

static void list_end(struct pd_jw *w, bool v0)
{
    pd_jw_array_end(w);
    if (!v0)
        pd_jw_object_end(w);
}

static enum pd_rc write_users(struct pd_req *req, struct pd_db *db, const struct pd_user *users,
                              size_t n, struct pd_err *err)
{
    struct pd_jw *w = pd_resp_json(req, 200);
    bool v0 = is_v0(req);
    enum pd_rc rc = PD_OK;
    list_begin(w, v0);
    for (size_t i = 0; rc == PD_OK && i < n; i++)
        if (!users[i].placeholder)
            rc = pd_argilla_user(w, req, db, &users[i], v0, err);
    list_end(w, v0);
    return rc;
}

static enum pd_rc users(struct pd_req *req, struct pd_err *err)
{
    struct pd_db *db;
    struct pd_user *list = NULL;
    size_t n = 0;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_user_list(db, &req->arena, &list, &n, err));
    PD_TRY(write_users(req, db, list, n, err));
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
    int64_t id = 0;
    bool v0 = is_v0(req);
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_json(req, &body, err));
    PD_TRY(pd_json_need_str(body, "username", &in.username, err));
    PD_TRY(pd_json_need_str(body, "first_name", &in.first_name, err));
    PD_TRY(pd_json_need_str(body, "password", &in.password, err));
    in.last_name = pd_json_str(body, "last_name");
    struct pd_str role = pd_json_str(body, "role");
    if (role.len && !pd_role_parse(role, &in.role)) {
        rc = PD_FAIL(err, PD_INVALID, "role must be owner, admin or annotator");
        goto out;
    }
    pd_api_read_end(req);
    PD_TRY(pd_tx_begin(&tx, api->store, PD_TX_DURABLE, err));
    PD_TRY(pd_user_create(tx.db, api->store, &in, &id, err));
    struct json_object *names = pd_json_get(body, "workspaces");
    for (size_t i = 0;
         json_object_is_type(names, json_type_array) && i < json_object_array_length(names); i++) {
        struct pd_workspace ws = {0};
        PD_TRY(pd_workspace_by_name(
            tx.db, &req->arena, pd_json_value_str(json_object_array_get_idx(names, i)), &ws, err));
        PD_TRY(pd_workspace_add(tx.db, ws.id, id, err));
    }
    PD_TRY(pd_tx_commit(&tx, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_user_get(db, &req->arena, id, &user, err));
    PD_TRY(pd_argilla_user(pd_resp_json(req, v0 ? 200 : 201), req, db, &user, v0, err));
out:
    pd_tx_abandon(&tx);
    return rc;
}

static enum pd_rc find_user(struct pd_req *req, const char *param, struct pd_user *out,
                            struct pd_err *err)
{
    struct pd_db *db;
    struct pd_str uuid;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_uuid(req, param, &uuid, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_user_by_uuid(db, &req->arena, uuid, out, err));
out:
    return rc;
}

/* Answers with the user of the path. */
static enum pd_rc answer_user(struct pd_req *req, struct pd_user *u, struct pd_err *err)
{
    struct pd_db *db;
    enum pd_rc rc = PD_OK;
    PD_TRY(find_user(req, "id", u, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_argilla_user(pd_resp_json(req, 200), req, db, u, is_v0(req), err));
out:
    return rc;
}

static enum pd_rc get_user(struct pd_req *req, struct pd_err *err)
{
    struct pd_user u;
    return answer_user(req, &u, err);
}

static enum pd_rc write_removal(struct pd_db *db, void *arg, struct pd_err *err)
{
    return pd_user_remove(db, *(int64_t *)arg, err);
}

static enum pd_rc delete_user(struct pd_req *req, struct pd_err *err)
{
    struct pd_user u;
    enum pd_rc rc = PD_OK;
    PD_TRY(answer_user(req, &u, err));
    pd_api_read_end(req);
    PD_TRY(pd_store_write(pd_api_of(req)->store, PD_TX_DURABLE, write_removal, &u.id, err));
out:
    return rc;
}

/* ------------------------------------------------------------------ workspaces */

static enum pd_rc write_workspaces(struct pd_req *req, int64_t user_id, struct pd_err *err)
{
    struct pd_db *db;
    struct pd_workspace *ws = NULL;
    size_t n = 0;
    bool v0 = is_v0(req);
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_workspace_list(db, &req->arena, user_id, &ws, &n, err));
    struct pd_jw *w = pd_resp_json(req, 200);
    list_begin(w, v0);
    for (size_t i = 0; i < n; i++)
        pd_argilla_workspace(w, &ws[i]);
    list_end(w, v0);
out:
    return rc;
}

static enum pd_rc my_workspaces(struct pd_req *req, struct pd_err *err)
{
    const struct pd_who *who = pd_who(req);
    return write_workspaces(req, pd_policy_sees_all(who) ? 0 : who->user.id, err);
}

static enum pd_rc workspaces_of(struct pd_req *req, struct pd_err *err)
{
    struct pd_user u;
    enum pd_rc rc = find_user(req, "id", &u, err);
    return rc == PD_OK ? write_workspaces(req, u.role == PD_ROLE_OWNER ? 0 : u.id, err) : rc;
}

struct new_workspace {
    struct pd_str name;
    int64_t id;
};

static enum pd_rc write_workspace(struct pd_db *db, void *arg, struct pd_err *err)
{
    struct new_workspace *n = arg;
    return pd_workspace_create(db, n->name, &n->id, err);
}

static enum pd_rc add_workspace(struct pd_req *req, struct pd_err *err)
{
    struct json_object *body;
    struct pd_db *db;
    struct pd_workspace ws = {0};
    struct new_workspace n = {0};
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_req_json(req, &body, err));
    PD_TRY(pd_json_need_str(body, "name", &n.name, err));
    pd_api_read_end(req);
    PD_TRY(pd_store_write(pd_api_of(req)->store, PD_TX_DURABLE, write_workspace, &n, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_workspace_get(db, &req->arena, n.id, &ws, err));
    pd_argilla_workspace(pd_resp_json(req, is_v0(req) ? 200 : 201), &ws);
out:
    return rc;
}

static enum pd_rc find_workspace(struct pd_req *req, struct pd_workspace *ws, struct pd_err *err)
{
    struct pd_db *db;
    struct pd_str uuid = pd_req_param(req, "id");
    enum pd_rc rc = PD_OK;
    if (pd_api_uuid(req, "id", &uuid, NULL) !=
        PD_OK) { /* the client tells this from a missing one */
        rc = PD_FAIL(err, PD_INVALID, "workspace id is not a uuid");
        goto out;
    }
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_workspace_by_uuid(db, &req->arena, uuid, ws, err));
out:
    return rc;
}

static enum pd_rc get_workspace(struct pd_req *req, struct pd_err *err)
{
    struct pd_workspace ws = {0};
    struct pd_db *db;
    const struct pd_who *who = pd_who(req);
    bool member = pd_policy_sees_all(who);
    enum pd_rc rc = PD_OK;
    PD_TRY(find_workspace(req, &ws, err));
    PD_TRY(pd_api_read(req, &db, err));
    if (!member)
        PD_TRY(pd_workspace_has(db, ws.id, who->user.id, &member, err));
    if (!member) {
        rc = PD_FAIL(err, PD_FORBIDDEN, "you are not a member of this workspace");
        goto out;
    }
    pd_argilla_workspace(pd_resp_json(req, 200), &ws);
out:
    return rc;
}

static enum pd_rc workspace_users(struct pd_req *req, struct pd_err *err)
{
    struct pd_workspace ws = {0};
    struct pd_db *db;
    struct pd_user *list = NULL;
    size_t n = 0;
    enum pd_rc rc = PD_OK;
    PD_TRY(find_workspace(req, &ws, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_workspace_members(db, &req->arena, ws.id, &list, &n, err));
    PD_TRY(write_users(req, db, list, n, err));
out:
    return rc;
}

struct membership {
    int64_t workspace_id, user_id;
    bool add;
};

static enum pd_rc write_membership(struct pd_db *db, void *arg, struct pd_err *err)
{
    struct membership *m = arg;
    return m->add ? pd_workspace_add(db, m->workspace_id, m->user_id, err)
                  : pd_workspace_drop(db, m->workspace_id, m->user_id, err);
}

static enum pd_rc set_member(struct pd_req *req, bool add, struct pd_err *err)
{
    struct pd_workspace ws = {0};
    struct pd_user u;
    struct pd_db *db;
    enum pd_rc rc = PD_OK;
    PD_TRY(find_workspace(req, &ws, err));
    PD_TRY(find_user(req, "user", &u, err));
    struct membership m = {ws.id, u.id, add};
    pd_api_read_end(req);
    PD_TRY(pd_store_write(pd_api_of(req)->store, PD_TX_DURABLE, write_membership, &m, err));
    PD_TRY(pd_api_read(req, &db, err));
    PD_TRY(pd_argilla_user(pd_resp_json(req, 200), req, db, &u, is_v0(req), err));
out:
    return rc;
}

static enum pd_rc add_member(struct pd_req *req, struct pd_err *err)
{
    return set_member(req, true, err);
}
static enum pd_rc drop_member(struct pd_req *req, struct pd_err *err)
{
    return set_member(req, false, err);
}

static enum pd_rc write_ws_removal(struct pd_db *db, void *arg, struct pd_err *err)
{
    return pd_workspace_delete(db, *(int64_t *)arg, err);
}

static enum pd_rc delete_workspace(struct pd_req *req, struct pd_err *err)
{
    struct pd_workspace ws = {0};
    enum pd_rc rc = PD_OK;
    PD_TRY(find_workspace(req, &ws, err));
    pd_api_read_end(req);
    PD_TRY(pd_store_write(pd_api_of(req)->store, PD_TX_DURABLE, write_ws_removal, &ws.id, err));
    pd_argilla_workspace(pd_resp_json(req, 200), &ws);
out:
    return rc;
}

#define ARG PD_DOOR_ARGILLA
static const struct pd_route rows[] = {
    {PD_GET, "/api/_info", info, PD_MAY_ANYONE, ARG, 0, 0, "version, as the 1.x client reads it"},
    {PD_GET, "/api/v1/version", info, PD_MAY_ANYONE, ARG, 0, 0, "version"},
    {PD_GET, "/api/datasets", no_task_datasets, PD_MAY_USER, ARG, 0, 0, "none of the old kind"},
    {PD_GET, "/api/me", me, PD_MAY_USER, ARG, 0, 0, "who I am"},
    {PD_GET, "/api/v1/me", me, PD_MAY_USER, ARG, 0, 0, "who I am"},
    {PD_GET, "/api/users", users, PD_MAY_OWNER, ARG, 0, 0, "all users"},
    {PD_GET, "/api/v1/users", users, PD_MAY_OWNER, ARG, 0, 0, "all users"},
    {PD_POST, "/api/users", add_user, PD_MAY_OWNER, ARG, PD_BODY_SMALL, 0, "make a user"},
    {PD_POST, "/api/v1/users", add_user, PD_MAY_OWNER, ARG, PD_BODY_SMALL, 0, "make a user"},
    {PD_GET, "/api/v1/users/{id}", get_user, PD_MAY_OWNER, ARG, 0, 0, "one user"},
    {PD_DELETE, "/api/users/{id}", delete_user, PD_MAY_OWNER, ARG, PD_BODY_SMALL, 0, "remove"},
    {PD_DELETE, "/api/v1/users/{id}", delete_user, PD_MAY_OWNER, ARG, PD_BODY_SMALL, 0, "remove"},
    {PD_GET, "/api/v1/users/{id}/workspaces", workspaces_of, PD_MAY_OWNER, ARG, 0, 0,
     "workspaces of a user"},
    {PD_GET, "/api/v1/me/workspaces", my_workspaces, PD_MAY_USER, ARG, 0, 0, "my workspaces"},
    {PD_GET, "/api/workspaces", my_workspaces, PD_MAY_USER, ARG, 0, 0, "my workspaces"},
    {PD_POST, "/api/workspaces", add_workspace, PD_MAY_OWNER, ARG, PD_BODY_SMALL, 0, "make one"},
    {PD_POST, "/api/v1/workspaces", add_workspace, PD_MAY_OWNER, ARG, PD_BODY_SMALL, 0, "make one"},
    {PD_GET, "/api/v1/workspaces/{id}", get_workspace, PD_MAY_USER, ARG, 0, 0, "one workspace"},
    {PD_DELETE, "/api/v1/workspaces/{id}", delete_workspace, PD_MAY_OWNER, ARG, PD_BODY_SMALL, 0,
     "delete an empty one"},
    {PD_GET, "/api/workspaces/{id}/users", workspace_users, PD_MAY_OWNER, ARG, 0, 0, "members"},
    {PD_GET, "/api/v1/workspaces/{id}/users", workspace_users, PD_MAY_OWNER, ARG, 0, 0, "members"},
    {PD_POST, "/api/workspaces/{id}/users/{user}", add_member, PD_MAY_OWNER, ARG, PD_BODY_SMALL, 0,
     "add a member"},
    {PD_DELETE, "/api/workspaces/{id}/users/{user}", drop_member, PD_MAY_OWNER, ARG, PD_BODY_SMALL,
     0, "drop a member"},
    {PD_DELETE, "/api/v1/workspaces/{id}/users/{user}", drop_member, PD_MAY_OWNER, ARG,
     PD_BODY_SMALL, 0, "drop a member"},
};
PD_ROUTE_TABLE(pd_routes_argilla_user, rows);
