/* Accounts on the data folder. Keys and passwords are made when not given, and printed once. */
#include "api/op_int.h"
#include "base/crypt.h"
#include "base/fs.h"
#include "base/mem.h"
#include "pref/template.h"
#include "store/user.h"

static enum pd_rc role_arg(struct pd_op_call *c, enum pd_role *role, struct pd_err *err)
{
    struct pd_str s = pd_json_str(c->args, "role");
    if (s.ptr && !pd_role_parse(s, role))
        return PD_FAIL(err, PD_USAGE, "role '%.*s' is none of owner, admin, annotator",
                       PD_STR_ARG(s));
    return PD_OK;
}

static void write_user(struct pd_jw *w, const struct pd_user *u)
{
    pd_jw_kstrz(w, "username", u->username);
    pd_jw_kstrz(w, "role", pd_role_name(u->role));
    pd_jw_kstrz(w, "id", u->uuid);
}

/* Adds to a workspace, made when missing; being in it already is fine. */
static enum pd_rc join(struct pd_db *db, int64_t user_id, struct pd_str workspace,
                       struct pd_err *err)
{
    int64_t id = 0;
    bool in = false;
    enum pd_rc rc = pd_workspace_default(db, workspace, &id, err);
    if (rc == PD_OK)
        rc = pd_workspace_has(db, id, user_id, &in, err);
    return rc == PD_OK && !in ? pd_workspace_add(db, id, user_id, err) : rc;
}

struct made {
    struct pd_user user;
    char *key;
    char password[21]; /* empty: it was given */
};

static enum pd_rc make_user(struct pd_op_call *c, struct pd_db *db, struct pd_arena *a,
                            struct made *m, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_str password = pd_json_str(c->args, "password"), name;
    struct pd_user_new in = {.role = PD_ROLE_ANNOTATOR,
                             .first_name = pd_json_str(c->args, "first_name"),
                             .last_name = pd_json_str(c->args, "last_name"),
                             .api_key = pd_json_str(c->args, "api_key")};
    int64_t id = 0;
    PD_TRY(pd_json_need_str(c->args, "username", &name, err));
    PD_TRY(role_arg(c, &in.role, err));
    if (!password.ptr) {
        pd_token_new(m->password, 20);
        password = pd_str_from(m->password);
    }
    in.username = name;
    in.password = password;
    PD_TRY(pd_user_create(db, c->store, &in, &id, err));
    PD_TRY(join(db, id, pd_json_str(c->args, "workspace"), err));
    PD_TRY(pd_user_get(db, a, id, &m->user, err));
    PD_TRY(pd_user_api_key(db, c->store, a, id, &m->key, err));
out:
    return rc;
}

static enum pd_rc add(struct pd__op *op, void *arg, struct pd_err *err)
{
    struct made m = {0};
    (void)arg;
    enum pd_rc rc = make_user(op->c, op->db, &op->a, &m, err);
    if (rc != PD_OK)
        return rc;
    if (op->json) {
        pd_jw_object(&op->w);
        write_user(&op->w, &m.user);
        pd_jw_kstrz(&op->w, "api_key", m.key);
        if (*m.password)
            pd_jw_kstrz(&op->w, "password", m.password);
        pd_jw_object_end(&op->w);
    } else {
        pd_buf_addf(&op->out, "%s (%s)\n  API key   %s", m.user.username, pd_role_name(m.user.role),
                    m.key);
        if (*m.password)
            pd_buf_addf(&op->out, "\n  password  %s", m.password);
    }
    return PD_OK;
}

enum pd_rc pd_op_user_add(struct pd_op_call *c, struct pd_err *err)
{
    return pd__op_write(c, add, NULL, err);
}

static enum pd_rc list_one(struct pd__op *op, const struct pd_user *u, struct pd_err *err)
{
    struct pd_workspace *ws = NULL;
    struct pd_jw *w = &op->w;
    size_t n = 0;
    enum pd_rc rc = pd_workspace_list(op->db, &op->a, u->id, &ws, &n, err);
    if (rc != PD_OK)
        return rc;
    if (op->json) {
        pd_jw_object(w);
        write_user(w, u);
        pd_jw_kbool(w, "placeholder", u->placeholder);
        pd_jw_key(w, "workspaces");
        pd_jw_array(w);
        for (size_t i = 0; i < n; i++)
            pd_jw_strz(w, ws[i].name);
        pd_jw_array_end(w);
        pd_jw_object_end(w);
        return PD_OK;
    }
    pd_buf_addf(&op->out, "%-24s %-10s", u->username,
                u->placeholder ? "(import)" : pd_role_name(u->role));
    for (size_t i = 0; i < n; i++)
        pd_buf_addf(&op->out, "%s%s", i ? ", " : " ", ws[i].name);
    pd_buf_addc(&op->out, '\n');
    return PD_OK;
}

static enum pd_rc list(struct pd__op *op, void *arg, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_user *users = NULL;
    size_t n = 0;
    (void)arg;
    PD_TRY(pd_user_list(op->db, &op->a, &users, &n, err));
    if (op->json)
        pd_jw_array(&op->w);
    for (size_t i = 0; i < n; i++)
        PD_TRY(list_one(op, &users[i], err));
    if (op->json)
        pd_jw_array_end(&op->w);
    else if (n)
        op->out.ptr[--op->out.len] = '\0'; /* the line end comes with the write */
    else
        pd_buf_adds(&op->out,
                    "no accounts yet; `podium user add NAME --role owner` makes the first");
out:
    return rc;
}

enum pd_rc pd_op_user_list(struct pd_op_call *c, struct pd_err *err)
{
    return pd__op_read(c, list, NULL, err);
}

/* {"username","role","id", key: value} or the bare value. */
static void answer(struct pd__op *op, const struct pd_user *u, const char *key, const char *value)
{
    if (!op->json) {
        pd_buf_adds(&op->out, value);
        return;
    }
    pd_jw_object(&op->w);
    write_user(&op->w, u);
    pd_jw_kstrz(&op->w, key, value);
    pd_jw_object_end(&op->w);
}

/* What changes one account, found by args.username. */
typedef enum pd_rc change_fn(struct pd__op *op, const struct pd_user *u, struct pd_err *err);
struct change {
    change_fn *fn;
};

static enum pd_rc change_user(struct pd__op *op, void *arg, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct change *change = arg;
    struct pd_user u;
    struct pd_str name;
    PD_TRY(pd_json_need_str(op->c->args, "username", &name, err));
    PD_TRY(pd_user_by_name(op->db, &op->a, name, &u, err));
    rc = change->fn(op, &u, err);
out:
    return rc;
}

static enum pd_rc change(struct pd_op_call *c, change_fn *fn, struct pd_err *err)
{
    return pd__op_write(c, change_user, &(struct change){fn}, err);
}

static enum pd_rc do_key(struct pd__op *op, const struct pd_user *u, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_op_call *c = op->c;
    struct pd_str given = pd_json_str(c->args, "api_key");
    char *key = NULL;
    if (given.ptr || pd_json_bool(c->args, "renew", false))
        PD_TRY(pd_user_set_api_key(op->db, c->store, u->id, given, err));
    PD_TRY(pd_user_api_key(op->db, c->store, &op->a, u->id, &key, err));
    answer(op, u, "api_key", key);
out:
    return rc;
}

static enum pd_rc do_role(struct pd__op *op, const struct pd_user *u, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    enum pd_role role = u->role;
    struct pd_user now = *u;
    PD_TRY(role_arg(op->c, &role, err));
    PD_TRY(pd_user_set_role(op->db, u->id, role, err));
    now.role = role;
    answer(op, &now, "was", pd_role_name(u->role));
    if (!op->json) {
        pd_buf_clear(&op->out);
        pd_buf_addf(&op->out, "%s is %s now", u->username, pd_role_name(role));
    }
out:
    return rc;
}

static enum pd_rc do_password(struct pd__op *op, const struct pd_user *u, struct pd_err *err)
{
    struct pd_str given = pd_json_str(op->c->args, "password");
    char made[21];
    if (!given.ptr) {
        pd_token_new(made, 20);
        given = pd_str_from(made);
    }
    enum pd_rc rc = pd_user_set_password(op->db, u->id, given, err);
    if (rc == PD_OK)
        answer(op, u, "password", given.ptr);
    return rc;
}

static enum pd_rc do_remove(struct pd__op *op, const struct pd_user *u, struct pd_err *err)
{
    enum pd_rc rc = pd_user_remove(op->db, u->id, err);
    if (rc == PD_OK && op->json)
        answer(op, u, "state", "removed");
    else if (rc == PD_OK)
        pd_buf_addf(&op->out, "%s is closed; their judgments stay", u->username);
    return rc;
}

/* Where the server can be reached: as told, as the running server wrote it, or its default. */
static char *base_url(struct pd_op_call *c, struct pd_arena *a)
{
    struct pd_str given = pd_json_str(c->args, "url");
    struct pd_err quiet;
    struct pd_buf text;
    char *path = pd_arena_printf(a, "%s/serve.url", pd_store_dir(c->store));
    char *url = NULL;
    pd_buf_init(&text, 4096);
    if (given.ptr)
        url = pd_arena_strndup(a, given.ptr, given.len);
    else if (pd_fs_exists(path) && pd_fs_read(path, 4096, &text, &quiet) == PD_OK)
        url = pd_arena_strdup(a, pd_buf_cstr(&text));
    else
        url = pd_arena_strdup(a, "http://127.0.0.1:6900");
    pd_buf_release(&text);
    size_t n = strlen(url);
    while (n && (url[n - 1] == '/' || url[n - 1] == '\n'))
        url[--n] = '\0';
    return url;
}

static enum pd_rc do_invite(struct pd__op *op, const struct pd_user *u, struct pd_err *err)
{
    char token[44];
    int64_t hours = pd_json_i64(op->c->args, "hours", 72);
    enum pd_rc rc =
        pd_link_create(op->db, op->c->store, u->id, hours * 3600 * (int64_t)1000000, token, err);
    if (rc == PD_OK)
        answer(op, u, "url",
               pd_arena_printf(&op->a, "%s/sign-in#%s", base_url(op->c, &op->a), token));
    return rc;
}

enum pd_rc pd_op_user_key(struct pd_op_call *c, struct pd_err *err)
{
    return change(c, do_key, err);
}

enum pd_rc pd_op_user_role(struct pd_op_call *c, struct pd_err *err)
{
    return change(c, do_role, err);
}

enum pd_rc pd_op_user_password(struct pd_op_call *c, struct pd_err *err)
{
    return change(c, do_password, err);
}

enum pd_rc pd_op_user_remove(struct pd_op_call *c, struct pd_err *err)
{
    return change(c, do_remove, err);
}

enum pd_rc pd_op_user_invite(struct pd_op_call *c, struct pd_err *err)
{
    return change(c, do_invite, err);
}
