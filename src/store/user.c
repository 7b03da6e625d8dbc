/* Accounts, their secrets, links and sessions. Workspaces are in workspace.c. */
#include "store/user.h"
#include "base/crypt.h"
#include "base/mem.h"
#include "base/time.h"
#include "store/db_int.h"

#include <pthread.h>
#include <sodium.h>

static const char *const role_names[] = {"annotator", "admin", "owner"};

const char *pd_role_name(enum pd_role role)
{
    return role_names[role];
}

bool pd_role_parse(struct pd_str s, enum pd_role *out)
{
    for (int i = 0; i < 3; i++)
        if (pd_str_eqz(s, role_names[i])) {
            *out = (enum pd_role)i;
            return true;
        }
    return false;
}

/* ---- passwords ---- */

static pthread_mutex_t hash_mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t hash_free = PTHREAD_COND_INITIALIZER;
static int hash_running;

static void hash_enter(void)
{
    pthread_mutex_lock(&hash_mu);
    while (hash_running >= 2)
        pthread_cond_wait(&hash_free, &hash_mu);
    hash_running++;
    pthread_mutex_unlock(&hash_mu);
}

static void hash_leave(void)
{
    pthread_mutex_lock(&hash_mu);
    hash_running--;
    pthread_cond_signal(&hash_free);
    pthread_mutex_unlock(&hash_mu);
}

enum pd_rc pd_password_hash(struct pd_str password, char out[128], struct pd_err *err)
{
    _Static_assert(crypto_pwhash_STRBYTES <= 128, "argon2id string fits");
    if (password.len < 8 || password.len > 100)
        return PD_FAIL(err, PD_INVALID, "a password has 8 to 100 bytes, this one has %zu",
                       password.len);
    hash_enter();
    int bad = crypto_pwhash_str(out, password.ptr, password.len, crypto_pwhash_OPSLIMIT_INTERACTIVE,
                                crypto_pwhash_MEMLIMIT_INTERACTIVE);
    hash_leave();
    return bad ? PD_FAIL(err, PD_NOMEM, "no memory to hash a password (64 MiB)") : PD_OK;
}

/* ---- keyed hashes and sealed keys ---- */

/* One secret, several uses: each has its own derived key. */
static void keyed_hash(struct pd_store *s, const char *use, struct pd_str value, char out[65])
{
    char key[65];
    pd_hmac_hex(pd_store_secret(s), pd_str_from(use), key);
    pd_hmac_hex(pd_str_from(key), value, out);
    sodium_memzero(key, sizeof key);
}

static void seal_key(struct pd_store *s, unsigned char key[crypto_secretbox_KEYBYTES])
{
    struct pd_str secret = pd_store_secret(s);
    static const char use[] = "podium api key seal";
    crypto_generichash(key, crypto_secretbox_KEYBYTES, (const unsigned char *)use, sizeof use - 1,
                       (const unsigned char *)secret.ptr, secret.len);
}

static char *seal(struct pd_store *s, struct pd_str text)
{
    unsigned char key[crypto_secretbox_KEYBYTES];
    size_t n = crypto_secretbox_NONCEBYTES + crypto_secretbox_MACBYTES + text.len;
    unsigned char *box = pd_xalloc(n);
    char *hex = pd_xalloc(2 * n + 1);
    seal_key(s, key);
    randombytes_buf(box, crypto_secretbox_NONCEBYTES);
    crypto_secretbox_easy(box + crypto_secretbox_NONCEBYTES, (const unsigned char *)text.ptr,
                          text.len, box, key);
    sodium_bin2hex(hex, 2 * n + 1, box, n);
    sodium_memzero(key, sizeof key);
    pd_free(box);
    return hex;
}

static char *unseal(struct pd_store *s, struct pd_arena *a, struct pd_str hex)
{
    enum { HEAD = crypto_secretbox_NONCEBYTES + crypto_secretbox_MACBYTES };
    unsigned char key[crypto_secretbox_KEYBYTES];
    unsigned char *box = pd_arena_alloc(a, hex.len / 2 + 1);
    size_t n = 0;
    if (sodium_hex2bin(box, hex.len / 2, hex.ptr, hex.len, NULL, &n, NULL) != 0 || n < HEAD)
        return NULL;
    char *text = pd_arena_alloc(a, n - HEAD + 1);
    seal_key(s, key);
    int bad = crypto_secretbox_open_easy((unsigned char *)text, box + crypto_secretbox_NONCEBYTES,
                                         n - crypto_secretbox_NONCEBYTES, box, key);
    sodium_memzero(key, sizeof key);
    return bad ? NULL : text;
}

/* ---- rows ---- */

#define USER_COLUMNS                                                                               \
    "id, uuid, username, first_name, last_name, role, placeholder, inserted_at, updated_at"

static void read_user(const struct pd_rows *r, struct pd_arena *a, void *to)
{
    struct pd_user *out = to;
    *out = (struct pd_user){
        .id = pd_row_i64(r, 0),
        .username = pd_row_dup(r, 2, a),
        .first_name = pd_row_dup(r, 3, a),
        .last_name = pd_row_dup(r, 4, a),
        .placeholder = pd_row_i64(r, 6) != 0,
        .inserted_us = pd_row_i64(r, 7),
        .updated_us = pd_row_i64(r, 8),
    };
    pd__row_uuid(r, 1, out->uuid);
    (void)pd_role_parse(pd_row_str(r, 5), &out->role);
}

enum pd_rc pd_user_get(struct pd_db *db, struct pd_arena *a, int64_t id, struct pd_user *out,
                       struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    bool found = false;
    enum pd_rc rc = pd_db_query(
        db, &rows, err, "SELECT " USER_COLUMNS " FROM account WHERE id = ?1 AND removed_at IS NULL",
        "i", id);
    if (rc == PD_OK)
        rc = pd__rows_one(rows, a, read_user, out, &found, err);
    if (rc == PD_OK && !found)
        rc = PD_FAIL(err, PD_NOTFOUND, "no user with number %lld", (long long)id);
    return rc;
}

enum pd_rc pd_user_by_uuid(struct pd_db *db, struct pd_arena *a, struct pd_str uuid,
                           struct pd_user *out, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    bool found = false;
    enum pd_rc rc = pd_db_query(
        db, &rows, err,
        "SELECT " USER_COLUMNS " FROM account WHERE uuid = ?1 AND removed_at IS NULL", "s", uuid);
    if (rc == PD_OK)
        rc = pd__rows_one(rows, a, read_user, out, &found, err);
    if (rc == PD_OK && !found)
        rc = PD_FAIL(err, PD_NOTFOUND, "no user with id %.*s", PD_STR_ARG(uuid));
    return rc;
}

enum pd_rc pd_user_by_name(struct pd_db *db, struct pd_arena *a, struct pd_str name,
                           struct pd_user *out, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    bool found = false;
    enum pd_rc rc = pd_db_query(db, &rows, err,
                                "SELECT " USER_COLUMNS
                                " FROM account WHERE username = ?1 AND removed_at IS NULL",
                                "s", name);
    if (rc == PD_OK)
        rc = pd__rows_one(rows, a, read_user, out, &found, err);
    if (rc == PD_OK && !found)
        rc = PD_FAIL(err, PD_NOTFOUND, "no user '%.*s'; `podium user list` names them",
                     PD_STR_ARG(name));
    return rc;
}

enum pd_rc pd_user_list(struct pd_db *db, struct pd_arena *a, struct pd_user **out, size_t *n,
                        struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    enum pd_rc rc = pd_db_query(
        db, &rows, err, "SELECT " USER_COLUMNS " FROM account WHERE removed_at IS NULL ORDER BY id",
        "");
    return rc == PD_OK ? pd__rows_all(rows, a, read_user, sizeof **out, out, n, err) : rc;
}

enum pd_rc pd_workspace_members(struct pd_db *db, struct pd_arena *a, int64_t id,
                                struct pd_user **out, size_t *n, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    enum pd_rc rc = pd_db_query(db, &rows, err,
                                "SELECT " USER_COLUMNS
                                " FROM account WHERE removed_at IS NULL AND id IN (SELECT "
                                "account_id FROM membership WHERE workspace_id = ?1) ORDER BY id",
                                "i", id);
    return rc == PD_OK ? pd__rows_all(rows, a, read_user, sizeof **out, out, n, err) : rc;
}

enum pd_rc pd_user_count(struct pd_db *db, int64_t *n, struct pd_err *err)
{
    return pd_db_i64(db, n, NULL, err,
                     "SELECT count(*) FROM account WHERE removed_at IS NULL AND placeholder = 0",
                     "");
}

/* ---- making and changing ---- */

static enum pd_rc check_username(struct pd_str name, struct pd_err *err)
{
    bool ok = name.len >= 1 && name.len <= 200;
    for (size_t i = 0; ok && i < name.len; i++) {
        char c = name.ptr[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        ok = word || (i > 0 && (c == '-' || c == '_' || c == '.' || c == '@' || c == '+'));
    }
    return ok ? PD_OK
              : PD_FAIL(err, PD_INVALID,
                        "user name '%.*s': use a-z 0-9 - _ . @ +, beginning with a letter or digit",
                        (int)(name.len < 80 ? name.len : 80), name.ptr);
}

enum pd_rc pd_user_create(struct pd_db *db, struct pd_store *s, const struct pd_user_new *in,
                          int64_t *id, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char uuid[37], hash[128] = "", made[44], key_hash[65];
    struct pd_str key = in->api_key;
    char *sealed = NULL;
    struct pd_str first = in->first_name.len ? in->first_name : in->username;
    struct pd_str last = in->last_name.len ? in->last_name : (struct pd_str){0};
    int64_t now = pd_time_us();
    PD_TRY(check_username(in->username, err));
    if (in->password.len)
        PD_TRY(pd_password_hash(in->password, hash, err));
    if (!key.len) {
        pd_token_new(made, 43);
        key = pd_str_from(made);
    }
    pd_uuid_new(uuid);
    keyed_hash(s, "api key", key, key_hash);
    sealed = seal(s, key);
    rc = pd_db_i64(db, id, NULL, err,
                   "INSERT INTO account(uuid, username, first_name, last_name, role, "
                   "password_hash, key_hash, key_sealed, placeholder, inserted_at, updated_at) "
                   "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10) RETURNING id",
                   "zssszzzzii", uuid, in->username, first, last, pd_role_name(in->role),
                   *hash ? hash : NULL, in->placeholder ? NULL : key_hash,
                   in->placeholder ? NULL : sealed, (int64_t)in->placeholder, now);
    if (rc == PD_CONFLICT)
        rc = PD_FAIL(err, PD_CONFLICT, "user '%.*s' exists already (or the API key is in use)",
                     PD_STR_ARG(in->username));
out:
    pd_free(sealed);
    return rc;
}

/* The result of a statement that must have touched its one row. */
static enum pd_rc touched(enum pd_rc rc, int64_t n, int64_t id, struct pd_err *err)
{
    if (rc == PD_OK && n == 0)
        return PD_FAIL(err, PD_NOTFOUND, "no user with number %lld", (long long)id);
    return rc;
}

enum pd_rc pd_user_set_role(struct pd_db *db, int64_t id, enum pd_role role, struct pd_err *err)
{
    int64_t n = 0;
    enum pd_rc rc = pd_db_run(db, &n, err,
                              "UPDATE account SET role = ?2, updated_at = ?3 WHERE id = ?1 AND "
                              "removed_at IS NULL",
                              "izi", id, pd_role_name(role), pd_time_us());
    return touched(rc, n, id, err);
}

enum pd_rc pd_user_set_names(struct pd_db *db, int64_t id, struct pd_str first_name,
                             struct pd_str last_name, struct pd_err *err)
{
    int64_t n = 0;
    if (!first_name.len)
        return PD_FAIL(err, PD_INVALID, "first_name may not be empty");
    enum pd_rc rc = pd_db_run(db, &n, err,
                              "UPDATE account SET first_name = ?2, last_name = ?3, updated_at = "
                              "?4 WHERE id = ?1 AND removed_at IS NULL",
                              "issi", id, first_name,
                              last_name.len ? last_name : (struct pd_str){0}, pd_time_us());
    return touched(rc, n, id, err);
}

/* Used ones stay: they tell that somebody came in by a link a moment ago. */
static enum pd_rc end_links(struct pd_db *db, int64_t id, struct pd_err *err)
{
    return pd_db_run(db, NULL, err,
                     "DELETE FROM signin_link WHERE account_id = ?1 AND used_at IS NULL", "i", id);
}

/* Every way in that is open now, links included. */
static enum pd_rc end_sessions(struct pd_db *db, int64_t id, struct pd_err *err)
{
    enum pd_rc rc = end_links(db, id, err);
    return rc == PD_OK
               ? pd_db_run(db, NULL, err, "DELETE FROM session WHERE account_id = ?1", "i", id)
               : rc;
}

enum pd_rc pd_user_set_password(struct pd_db *db, int64_t id, struct pd_str password,
                                struct pd_err *err)
{
    char hash[128];
    int64_t n = 0;
    enum pd_rc rc = pd_password_hash(password, hash, err);
    if (rc == PD_OK)
        rc = pd_db_run(db, &n, err,
                       "UPDATE account SET password_hash = ?2, updated_at = ?3, placeholder = 0 "
                       "WHERE id = ?1 AND removed_at IS NULL",
                       "izi", id, hash, pd_time_us());
    rc = touched(rc, n, id, err);
    return rc == PD_OK ? end_sessions(db, id, err) : rc;
}

enum pd_rc pd_user_remove(struct pd_db *db, int64_t id, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    int64_t n = 0;
    rc = pd_db_run(db, &n, err,
                   "UPDATE account SET removed_at = ?2, updated_at = ?2, password_hash = NULL, "
                   "key_hash = NULL, key_sealed = NULL WHERE id = ?1 AND removed_at IS NULL",
                   "ii", id, pd_time_us());
    PD_TRY(touched(rc, n, id, err));
    PD_TRY(end_sessions(db, id, err));
    PD_TRY(pd_db_run(db, NULL, err, "DELETE FROM signin_link WHERE account_id = ?1", "i", id));
    PD_TRY(pd_db_run(db, NULL, err, "DELETE FROM membership WHERE account_id = ?1", "i", id));
    PD_TRY(pd_db_run(db, NULL, err,
                     "UPDATE dataset SET full_until = 0 WHERE id IN (SELECT dataset_id FROM lease "
                     "WHERE account_id = ?1)",
                     "i", id));
    PD_TRY(pd_db_run(db, NULL, err, "DELETE FROM lease WHERE account_id = ?1", "i", id));
out:
    return rc;
}

/* ---- API keys ---- */

enum pd_rc pd_user_by_api_key(struct pd_db *db, struct pd_store *s, struct pd_arena *a,
                              struct pd_str key, struct pd_user *out, struct pd_err *err)
{
    char hash[65];
    struct pd_rows *rows = NULL;
    bool found = false;
    keyed_hash(s, "api key", key, hash);
    enum pd_rc rc = pd_db_query(db, &rows, err,
                                "SELECT " USER_COLUMNS
                                " FROM account WHERE key_hash = ?1 AND removed_at IS NULL",
                                "z", hash);
    if (rc == PD_OK)
        rc = pd__rows_one(rows, a, read_user, out, &found, err);
    if (rc == PD_OK && !found)
        rc = PD_FAIL(err, PD_UNAUTH, "unknown API key");
    return rc;
}

enum pd_rc pd_user_api_key(struct pd_db *db, struct pd_store *s, struct pd_arena *a, int64_t id,
                           char **key, struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    bool found = false;
    char *text = NULL;
    enum pd_rc rc = pd_db_query(db, &rows, err,
                                "SELECT key_sealed FROM account WHERE id = ?1 AND removed_at IS "
                                "NULL AND key_sealed IS NOT NULL",
                                "i", id);
    if (rc != PD_OK)
        return rc;
    rc = pd_rows_next(rows, &found, err);
    if (rc == PD_OK && found)
        text = unseal(s, a, pd_row_str(rows, 0));
    pd_rows_close(rows);
    if (rc != PD_OK)
        return rc;
    if (!found)
        return PD_FAIL(err, PD_NOTFOUND, "user %lld has no API key", (long long)id);
    if (!text)
        return PD_FAIL(err, PD_INVALID, "the stored API key does not open: %s/secret was replaced",
                       pd_store_dir(s));
    *key = text;
    return PD_OK;
}

enum pd_rc pd_user_set_api_key(struct pd_db *db, struct pd_store *s, int64_t id, struct pd_str key,
                               struct pd_err *err)
{
    char made[44], hash[65];
    int64_t n = 0;
    if (!key.len) {
        pd_token_new(made, 43);
        key = pd_str_from(made);
    }
    keyed_hash(s, "api key", key, hash);
    char *sealed = seal(s, key);
    enum pd_rc rc = pd_db_run(db, &n, err,
                              "UPDATE account SET key_hash = ?2, key_sealed = ?3, updated_at = ?4 "
                              "WHERE id = ?1 AND removed_at IS NULL",
                              "izzi", id, hash, sealed, pd_time_us());
    pd_free(sealed);
    if (rc == PD_CONFLICT)
        return PD_FAIL(err, PD_CONFLICT, "this API key is another user's");
    return touched(rc, n, id, err);
}

/* ---- signing in ---- */

enum pd_rc pd_user_sign_in(struct pd_db *db, struct pd_arena *a, struct pd_str username,
                           struct pd_str password, struct pd_user *out, struct pd_err *err)
{
    /* Verified against when the name is unknown, so that both cases take as long. */
    static const char nobody[] = "$argon2id$v=19$m=65536,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA"
                                 "$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    struct pd_rows *rows = NULL;
    bool found = false;
    char hash[crypto_pwhash_STRBYTES] = {0};
    memcpy(hash, nobody, sizeof nobody);
    enum pd_rc rc = pd_db_query(db, &rows, err,
                                "SELECT password_hash FROM account WHERE username = ?1 AND "
                                "removed_at IS NULL AND password_hash IS NOT NULL",
                                "s", username);
    if (rc != PD_OK)
        return rc;
    rc = pd_rows_next(rows, &found, err);
    if (rc == PD_OK && found) {
        struct pd_str h = pd_row_str(rows, 0);
        memset(hash, 0, sizeof hash);
        memcpy(hash, h.ptr, h.len < sizeof hash ? h.len : sizeof hash - 1);
    }
    pd_rows_close(rows);
    if (rc != PD_OK)
        return rc;
    bool ok = password.len <= 100;
    if (ok) {
        hash_enter();
        ok = crypto_pwhash_str_verify(hash, password.ptr ? password.ptr : "", password.len) == 0;
        hash_leave();
    }
    if (!found || !ok)
        return PD_FAIL(err, PD_UNAUTH, "wrong user name or password");
    return pd_user_by_name(db, a, username, out, err);
}

enum pd_rc pd_link_create(struct pd_db *db, struct pd_store *s, int64_t user_id, int64_t valid_us,
                          char token[44], struct pd_err *err)
{
    char hash[65];
    int64_t now = pd_time_us();
    pd_token_new(token, 43);
    keyed_hash(s, "sign-in link", pd_str_from(token), hash);
    enum pd_rc rc = end_links(db, user_id, err);
    if (rc != PD_OK)
        return rc;
    return pd_db_run(db, NULL, err,
                     "INSERT INTO signin_link(token_hash, account_id, created_at, expires_at) "
                     "VALUES(?1, ?2, ?3, ?4)",
                     "ziii", hash, user_id, now, now + valid_us);
}

enum pd_rc pd_link_use(struct pd_db *db, struct pd_store *s, struct pd_str token, int64_t *user_id,
                       struct pd_err *err)
{
    char hash[65];
    bool found = false;
    keyed_hash(s, "sign-in link", token, hash);
    enum pd_rc rc = pd_db_i64(db, user_id, &found, err,
                              "UPDATE signin_link SET used_at = ?2 WHERE token_hash = ?1 AND "
                              "used_at IS NULL AND expires_at > ?2 RETURNING account_id",
                              "zi", hash, pd_time_us());
    if (rc == PD_OK && !found)
        rc = PD_FAIL(err, PD_UNAUTH,
                     "this sign-in link was used already or is too old; "
                     "`podium user invite NAME` makes a new one");
    return rc;
}

enum pd_rc pd_session_create(struct pd_db *db, struct pd_store *s, int64_t user_id,
                             int64_t valid_us, char token[44], struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char hash[65];
    int64_t now = pd_time_us();
    pd_token_new(token, 43);
    keyed_hash(s, "session", pd_str_from(token), hash);
    PD_TRY(pd_db_run(db, NULL, err, "DELETE FROM session WHERE account_id = ?1 AND expires_at < ?2",
                     "ii", user_id, now));
    PD_TRY(pd_db_run(db, NULL, err,
                     "INSERT INTO session(token_hash, account_id, created_at, expires_at) "
                     "VALUES(?1, ?2, ?3, ?4)",
                     "ziii", hash, user_id, now, now + valid_us));
out:
    return rc;
}

enum pd_rc pd_session_user(struct pd_db *db, struct pd_store *s, struct pd_arena *a,
                           struct pd_str token, struct pd_user *out, struct pd_err *err)
{
    char hash[65];
    int64_t id = 0;
    bool found = false;
    keyed_hash(s, "session", token, hash);
    enum pd_rc rc = pd_db_i64(db, &id, &found, err,
                              "SELECT account_id FROM session WHERE token_hash = ?1 AND "
                              "expires_at > ?2",
                              "zi", hash, pd_time_us());
    if (rc != PD_OK)
        return rc;
    return found ? pd_user_get(db, a, id, out, err)
                 : PD_FAIL(err, PD_UNAUTH, "not signed in, or the session ended");
}

enum pd_rc pd_session_end(struct pd_db *db, struct pd_store *s, struct pd_str token,
                          struct pd_err *err)
{
    char hash[65];
    keyed_hash(s, "session", token, hash);
    return pd_db_run(db, NULL, err, "DELETE FROM session WHERE token_hash = ?1", "z", hash);
}

enum pd_rc pd_user_prefs(struct pd_db *db, struct pd_arena *a, int64_t id, char **json,
                         struct pd_err *err)
{
    struct pd_rows *rows = NULL;
    bool found = false;
    enum pd_rc rc = pd_db_query(db, &rows, err, "SELECT prefs FROM account WHERE id = ?1", "i", id);
    if (rc != PD_OK)
        return rc;
    rc = pd_rows_next(rows, &found, err);
    if (rc == PD_OK)
        *json = found ? pd_row_dup(rows, 0, a) : pd_arena_strdup(a, "{}");
    pd_rows_close(rows);
    return rc;
}

enum pd_rc pd_user_set_prefs(struct pd_db *db, int64_t id, struct pd_str json, struct pd_err *err)
{
    int64_t n = 0;
    enum pd_rc rc =
        pd_db_run(db, &n, err, "UPDATE account SET prefs = ?2 WHERE id = ?1", "is", id, json);
    return touched(rc, n, id, err);
}
