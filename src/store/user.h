/* Accounts, workspaces, membership, sign-in links and sessions. Functions take any connection: a
 * reader's for reads, a transaction's for writes. Strings in the structs live in the arena. */
#ifndef PD_STORE_USER_H
#define PD_STORE_USER_H

#include "store/store.h"

enum pd_role { PD_ROLE_ANNOTATOR, PD_ROLE_ADMIN, PD_ROLE_OWNER }; /* stored as text */
const char *pd_role_name(enum pd_role role);                      /* "annotator" */
bool pd_role_parse(struct pd_str s, enum pd_role *out);

struct pd_user {
    int64_t id;
    char uuid[37];
    const char *username, *first_name, *last_name; /* last_name may be NULL */
    enum pd_role role;
    bool placeholder; /* made by an import to carry someone's judgments; cannot sign in */
    int64_t inserted_us, updated_us;
};

struct pd_user_new {
    struct pd_str username;   /* [a-z0-9_-]+, not starting with - or _; "@" and "." also allowed */
    struct pd_str first_name; /* empty: the username */
    struct pd_str last_name;  /* may be empty */
    struct pd_str password;   /* 8..100 bytes; empty: no password (links and keys only) */
    struct pd_str api_key;    /* empty: made */
    enum pd_role role;
    bool placeholder;
};
/* PD_CONFLICT when the name is taken. Hashes the password first (argon2id, ~70 ms): see
 * pd_password_hash to do that outside the transaction. */
PD_CHECKED enum pd_rc pd_user_create(struct pd_db *db, struct pd_store *s,
                                     const struct pd_user_new *in, int64_t *id, struct pd_err *err);
/* One of the three finders; PD_NOTFOUND names what was looked for. Removed users are not found. */
PD_CHECKED enum pd_rc pd_user_get(struct pd_db *db, struct pd_arena *a, int64_t id,
                                  struct pd_user *out, struct pd_err *err);
PD_CHECKED enum pd_rc pd_user_by_uuid(struct pd_db *db, struct pd_arena *a, struct pd_str uuid,
                                      struct pd_user *out, struct pd_err *err);
PD_CHECKED enum pd_rc pd_user_by_name(struct pd_db *db, struct pd_arena *a, struct pd_str name,
                                      struct pd_user *out, struct pd_err *err);
PD_CHECKED enum pd_rc pd_user_list(struct pd_db *db, struct pd_arena *a, struct pd_user **out,
                                   size_t *n, struct pd_err *err);
PD_CHECKED enum pd_rc pd_user_count(struct pd_db *db, int64_t *n, struct pd_err *err);
PD_CHECKED enum pd_rc pd_user_set_role(struct pd_db *db, int64_t id, enum pd_role role,
                                       struct pd_err *err);
PD_CHECKED enum pd_rc pd_user_set_names(struct pd_db *db, int64_t id, struct pd_str first_name,
                                        struct pd_str last_name, struct pd_err *err);
/* Ends all sessions of the user too. */
PD_CHECKED enum pd_rc pd_user_set_password(struct pd_db *db, int64_t id, struct pd_str password,
                                           struct pd_err *err);
/* Frees the name, ends sessions, drops key and password; judgments stay with their labeler. */
PD_CHECKED enum pd_rc pd_user_remove(struct pd_db *db, int64_t id, struct pd_err *err);

/* API keys: found by keyed hash, kept sealed. `key` is printable. */
PD_CHECKED enum pd_rc pd_user_by_api_key(struct pd_db *db, struct pd_store *s, struct pd_arena *a,
                                         struct pd_str key, struct pd_user *out,
                                         struct pd_err *err); /* PD_UNAUTH when unknown */
PD_CHECKED enum pd_rc pd_user_api_key(struct pd_db *db, struct pd_store *s, struct pd_arena *a,
                                      int64_t id, char **key, struct pd_err *err);
/* key empty: a new random one. */
PD_CHECKED enum pd_rc pd_user_set_api_key(struct pd_db *db, struct pd_store *s, int64_t id,
                                          struct pd_str key, struct pd_err *err);

/* Passwords. Hashing takes tens of ms and 64 MiB: at most two run at once, others wait. */
PD_CHECKED enum pd_rc pd_password_hash(struct pd_str password, char out[128], struct pd_err *err);
/* Looks the name up and verifies; same error and time for unknown name and wrong password. */
PD_CHECKED enum pd_rc pd_user_sign_in(struct pd_db *db, struct pd_arena *a, struct pd_str username,
                                      struct pd_str password, struct pd_user *out,
                                      struct pd_err *err);

/* Sign-in links: single use, only a hash is stored. token: 43 characters and NUL. */
PD_CHECKED enum pd_rc pd_link_create(struct pd_db *db, struct pd_store *s, int64_t user_id,
                                     int64_t valid_us, char token[44], struct pd_err *err);
PD_CHECKED enum pd_rc pd_link_use(struct pd_db *db, struct pd_store *s, struct pd_str token,
                                  int64_t *user_id, struct pd_err *err); /* PD_UNAUTH: spent/old */

/* Cookie sessions: only a hash is stored. */
PD_CHECKED enum pd_rc pd_session_create(struct pd_db *db, struct pd_store *s, int64_t user_id,
                                        int64_t valid_us, char token[44], struct pd_err *err);
PD_CHECKED enum pd_rc pd_session_user(struct pd_db *db, struct pd_store *s, struct pd_arena *a,
                                      struct pd_str token, struct pd_user *out,
                                      struct pd_err *err); /* PD_UNAUTH when unknown or expired */
PD_CHECKED enum pd_rc pd_session_end(struct pd_db *db, struct pd_store *s, struct pd_str token,
                                     struct pd_err *err);

/* Free-form UI preferences of a user: JSON object text ("{}" at first). */
PD_CHECKED enum pd_rc pd_user_prefs(struct pd_db *db, struct pd_arena *a, int64_t id, char **json,
                                    struct pd_err *err);
PD_CHECKED enum pd_rc pd_user_set_prefs(struct pd_db *db, int64_t id, struct pd_str json,
                                        struct pd_err *err);

struct pd_workspace {
    int64_t id;
    char uuid[37];
    const char *name;
    int64_t inserted_us, updated_us;
};
PD_CHECKED enum pd_rc pd_workspace_create(struct pd_db *db, struct pd_str name, int64_t *id,
                                          struct pd_err *err); /* PD_CONFLICT: name taken */
PD_CHECKED enum pd_rc pd_workspace_get(struct pd_db *db, struct pd_arena *a, int64_t id,
                                       struct pd_workspace *out, struct pd_err *err);
PD_CHECKED enum pd_rc pd_workspace_by_uuid(struct pd_db *db, struct pd_arena *a, struct pd_str uuid,
                                           struct pd_workspace *out, struct pd_err *err);
PD_CHECKED enum pd_rc pd_workspace_by_name(struct pd_db *db, struct pd_arena *a, struct pd_str name,
                                           struct pd_workspace *out, struct pd_err *err);
/* Those a user is a member of; user_id 0 = all. */
PD_CHECKED enum pd_rc pd_workspace_list(struct pd_db *db, struct pd_arena *a, int64_t user_id,
                                        struct pd_workspace **out, size_t *n, struct pd_err *err);
PD_CHECKED enum pd_rc pd_workspace_members(struct pd_db *db, struct pd_arena *a, int64_t id,
                                           struct pd_user **out, size_t *n, struct pd_err *err);
PD_CHECKED enum pd_rc pd_workspace_add(struct pd_db *db, int64_t id, int64_t user_id,
                                       struct pd_err *err); /* PD_CONFLICT: already a member */
PD_CHECKED enum pd_rc pd_workspace_drop(struct pd_db *db, int64_t id, int64_t user_id,
                                        struct pd_err *err);
PD_CHECKED enum pd_rc pd_workspace_has(struct pd_db *db, int64_t id, int64_t user_id, bool *has,
                                       struct pd_err *err);
PD_CHECKED enum pd_rc pd_workspace_delete(struct pd_db *db, int64_t id,
                                          struct pd_err *err); /* PD_CONFLICT: has datasets */

#endif
