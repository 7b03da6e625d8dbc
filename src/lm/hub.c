#include "lm/hub_int.h"

#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "lm/pull.h"
#include "net/uri.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define SCHEME     "hf://"
#define PUBLIC_HUB "https://huggingface.co"
enum {
    MAX_LISTING = 64 << 20,
    MAX_FILES = 4096,
};

bool pd_hub_is_url(const char *name)
{
    return strncmp(name, SCHEME, strlen(SCHEME)) == 0;
}

/* ---- hf://owner/name@revision/file ---- */

static bool is_name(const char *s)
{
    if (!*s || *s == '.' || strstr(s, ".."))
        return false;
    for (; *s; s++)
        if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') ||
              strchr("._-", *s)))
            return false;
    return true;
}

/* A revision may have slashes in it; a file after it ends in .gguf. */
static enum pd_rc parse_url(struct pd_hub *h, const char *url, struct pd_err *err)
{
    struct pd_str all = pd_str_from(url + strlen(SCHEME)), rest = all, owner = {0}, repo = {0};
    struct pd_str revision = PD_STR("main"), file = {0};
    (void)pd_str_split(&rest, '/', &owner);
    size_t n = 0;
    while (n < rest.len && rest.ptr[n] != '/' && rest.ptr[n] != '@')
        n++;
    repo = (struct pd_str){rest.ptr, n};
    if (n < rest.len && rest.ptr[n] == '@') {
        revision = (struct pd_str){rest.ptr + n + 1, rest.len - n - 1};
        size_t cut = revision.len;
        while (cut > 0 && revision.ptr[cut - 1] != '/')
            cut--;
        if (cut > 0 && pd_str_ends(revision, PD_STR(".gguf"))) {
            file = (struct pd_str){revision.ptr + cut, revision.len - cut};
            revision.len = cut - 1;
        }
    } else if (n < rest.len) {
        file = (struct pd_str){rest.ptr + n + 1, rest.len - n - 1};
    }
    h->owner = pd_xstrndup(owner.len ? owner.ptr : "", owner.len);
    h->name = pd_xstrndup(repo.len ? repo.ptr : "", repo.len);
    h->revision = pd_xstrndup(revision.len ? revision.ptr : "", revision.len);
    h->only = file.len ? pd_xstrndup(file.ptr, file.len) : NULL;
    if (!is_name(h->owner) || !is_name(h->name) || !h->revision[0] ||
        (h->only && !is_name(h->only)))
        return PD_FAIL(err, PD_USAGE,
                       "%s: expected hf://owner/name, with @revision or /FILE.gguf after it", url);
    return PD_OK;
}

static enum pd_rc read_environment(struct pd_hub *h, struct pd_err *err)
{
    const char *endpoint = getenv("HF_ENDPOINT"), *token = getenv("HF_TOKEN");
    h->endpoint = pd_xstrdup(endpoint && *endpoint ? endpoint : PUBLIC_HUB);
    size_t n = strlen(h->endpoint);
    while (n > 0 && h->endpoint[n - 1] == '/')
        h->endpoint[--n] = '\0';
    if (strncmp(h->endpoint, "https://", 8) != 0 && strncmp(h->endpoint, "http://", 7) != 0)
        return PD_FAIL(err, PD_USAGE, "HF_ENDPOINT is \"%s\"; expected http:// or https://",
                       h->endpoint);
    for (const char *c = token; c && *c; c++)
        if (*c <= ' ' || *c > '~')
            return PD_FAIL(err, PD_USAGE, "HF_TOKEN holds characters that no token has");
    if (token && *token)
        h->token = pd_xasprintf("Authorization: Bearer %s", token);
    return PD_OK;
}

/* ---- what there is ---- */

static bool is_hex(struct pd_str s, size_t n)
{
    for (size_t i = 0; i < s.len; i++)
        if (!strchr("0123456789abcdef", s.ptr[i]) || !s.ptr[i])
            return false;
    return s.len == n;
}

static enum pd_rc add_file(struct pd_hub *h, struct json_object *o, struct pd_err *err)
{
    struct pd_str name = pd_json_str(o, "rfilename");
    struct json_object *lfs = pd_json_get(o, "lfs");
    struct pd_hub_file f = {.bytes = pd_json_i64(o, "size", -1)};
    char *z = pd_xstrndup(name.ptr ? name.ptr : "", name.len);
    if (!is_name(z) || strlen(z) != name.len) { /* folders and hidden files are nothing of ours */
        pd_free(z);
        return PD_OK;
    }
    if (json_object_is_type(lfs, json_type_object)) {
        struct pd_str sum = pd_json_str(lfs, "sha256");
        if (!sum.ptr)
            sum = pd_json_str(lfs, "oid");
        f.bytes = pd_json_i64(lfs, "size", f.bytes);
        if (is_hex(sum, 64))
            (void)snprintf(f.sum, sizeof f.sum, "%.*s", PD_STR_ARG(sum));
    } else {
        struct pd_str id = pd_json_str(o, "blobId");
        f.git = true;
        if (is_hex(id, 40))
            (void)snprintf(f.sum, sizeof f.sum, "%.*s", PD_STR_ARG(id));
    }
    if (f.bytes < 0 || f.bytes > INT64_MAX / MAX_FILES || !f.sum[0]) {
        pd_free(z);
        return PD_FAIL(
            err, PD_PARSE,
            "%s lists %s/%s file %.*s without its size or checksum: it cannot be checked",
            h->endpoint, h->owner, h->name, PD_STR_ARG(name));
    }
    f.name = z;
    h->files = pd_xrealloc(h->files, (h->n_files + 1) * sizeof *h->files);
    h->files[h->n_files++] = f;
    return PD_OK;
}

static bool ends(const char *s, const char *end)
{
    return pd_str_ends(pd_str_from(s), pd_str_from(end));
}

static bool starts(const char *s, const char *start)
{
    return strncmp(s, start, strlen(start)) == 0;
}

static bool is_safetensors(const char *n)
{
    return strcmp(n, "model.safetensors") == 0 || strcmp(n, "model.safetensors.index.json") == 0 ||
           (starts(n, "model-") && ends(n, ".safetensors")) ||
           strcmp(n, "adapter_model.safetensors") == 0;
}

static bool is_torch(const char *n)
{
    return strcmp(n, "pytorch_model.bin") == 0 || strcmp(n, "pytorch_model.bin.index.json") == 0 ||
           (starts(n, "pytorch_model-") && ends(n, ".bin")) || strcmp(n, "adapter_model.bin") == 0;
}

static bool is_small(const char *n)
{
    static const char *const names[] = {
        "config.json",        "generation_config.json",
        "tokenizer.json",     "tokenizer_config.json",
        "vocab.json",         "special_tokens_map.json",
        "added_tokens.json",  "merges.txt",
        "tokenizer.model",    "chat_template.jinja",
        "chat_template.json", "adapter_config.json",
        "README.md",          "LICENSE",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(n, names[i]) == 0)
            return true;
    return false;
}

static bool any(const struct pd_hub *h, bool (*is)(const char *))
{
    for (size_t i = 0; i < h->n_files; i++)
        if (is(h->files[i].name))
            return true;
    return false;
}

/* Keeps what is needed. */
static enum pd_rc choose(struct pd_hub *h, struct pd_err *err)
{
    size_t n = 0;
    bool st = any(h, is_safetensors), torch = !st && any(h, is_torch);
    char ggufs[256] = "";
    for (size_t i = 0; i < h->n_files; i++) {
        struct pd_hub_file f = h->files[i];
        bool want = h->only ? strcmp(f.name, h->only) == 0
                            : is_small(f.name) || (st && is_safetensors(f.name)) ||
                                  (torch && is_torch(f.name));
        size_t used = strlen(ggufs);
        if (ends(f.name, ".gguf"))
            (void)snprintf(ggufs + used, sizeof ggufs - used, " %s", f.name);
        if (want) {
            h->files[n++] = f;
            h->total += f.bytes;
        } else {
            pd_free(f.name);
        }
    }
    h->n_files = n;
    if (h->only ? n == 0 : !st && !torch)
        return PD_FAIL(err, PD_NOTFOUND, "%s: %s/%s holds no %s%s%s", h->endpoint, h->owner,
                       h->name, h->only ? h->only : "safetensors and no pytorch_model.bin",
                       ggufs[0] ? "; hf://owner/name/FILE fetches one of" : "", ggufs);
    return PD_OK;
}

/* Of several answers along redirects the last counts. */
static enum pd_rc clear_body(void *ctx, const struct pd_http_call *c, struct pd_err *err)
{
    (void)c, (void)err;
    pd_buf_clear(ctx);
    return PD_OK;
}

static enum pd_rc list_files(struct pd_hub *h, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_buf body, url;
    struct json_object *o = NULL;
    struct pd_http_call c = {.out = &body, .on_head = clear_body, .ctx = &body};
    pd_buf_init(&body, MAX_LISTING);
    pd_buf_init(&url, 0);
    pd_buf_addf(&url, "%s/api/models/%s/%s/revision/", h->endpoint, h->owner, h->name);
    pd_uri_encode(&url, pd_str_from(h->revision));
    pd_buf_adds(&url, "?blobs=true");
    PD_TRY(pd_hub_get(h, pd_buf_cstr(&url), NULL, &c, err));
    rc = pd_json_parse(pd_buf_str(&body), &o, err);
    struct json_object *list = pd_json_get(o, "siblings");
    struct pd_str commit = pd_json_str(o, "sha");
    if (rc == PD_OK && (!json_object_is_type(list, json_type_array) || !is_hex(commit, 40)))
        rc = PD_FAIL(err, PD_PARSE, "no commit and no list of files in it");
    if (rc != PD_OK) {
        (void)pd_err_prefix(err, "%s", pd_buf_cstr(&url));
        goto out;
    }
    size_t n = json_object_array_length(list);
    if (n > MAX_FILES) {
        rc = PD_FAIL(err, PD_TOOBIG, "%s/%s: more than %d files", h->owner, h->name, MAX_FILES);
        goto out;
    }
    for (size_t i = 0; i < n; i++)
        PD_TRY(add_file(h, json_object_array_get_idx(list, i), err));
    h->commit = pd_xstrndup(commit.ptr, commit.len);
    PD_TRY(choose(h, err));
out:
    json_object_put(o);
    pd_buf_release(&body);
    pd_buf_release(&url);
    return rc;
}

/* ---- all of them ---- */

static enum pd_rc check_room(const struct pd_hub *h, const char *dir, struct pd_err *err)
{
    struct statvfs v;
    if (statvfs(dir, &v) != 0)
        return PD_OK;
    uint64_t room = (uint64_t)v.f_bavail * v.f_frsize;
    if (room < (uint64_t)h->total)
        return PD_FAIL(err, PD_IO, "%s: %" PRId64 " MB are to come, %" PRIu64 " MB are free", dir,
                       h->total / 1000000, room / 1000000);
    return PD_OK;
}

/* Which commit a folder holds: a file of ours in it. */
static bool holds_commit(const struct pd_hub *h, const char *dir)
{
    struct json_object *o = NULL;
    char *path = pd_xasprintf("%s/podium-pull.json", dir);
    bool same = pd_fs_exists(path) && pd_json_read_file(path, 1 << 16, &o, NULL) == PD_OK &&
                pd_str_eqz(pd_json_str(o, "commit"), h->commit);
    for (size_t i = 0; same && i < h->n_files; i++) {
        struct stat st;
        char *file = pd_xasprintf("%s/%s", dir, h->files[i].name);
        same = stat(file, &st) == 0 && st.st_size == h->files[i].bytes;
        pd_free(file);
    }
    json_object_put(o);
    pd_free(path);
    return same;
}

static enum pd_rc note_commit(const struct pd_hub *h, const char *dir, struct pd_err *err)
{
    struct pd_buf b;
    struct pd_jw w;
    char *path = pd_xasprintf("%s/podium-pull.json", dir);
    pd_buf_init(&b, 0);
    pd_jw_init(&w, &b);
    pd_jw_object(&w);
    pd_jw_kstrz(&w, "from", h->endpoint);
    pd_jw_key(&w, "model");
    char *id = pd_xasprintf("%s/%s", h->owner, h->name);
    pd_jw_strz(&w, id);
    pd_jw_kstrz(&w, "revision", h->revision);
    pd_jw_kstrz(&w, "commit", h->commit);
    pd_jw_object_end(&w);
    pd_buf_addc(&b, '\n');
    enum pd_rc rc = pd_fs_write_atomic(path, pd_buf_str(&b), 0644, err);
    pd_buf_release(&b);
    pd_free(id);
    pd_free(path);
    return rc;
}

/* What an earlier, other commit left in the partial folder is of no use. */
static enum pd_rc prepare(const struct pd_hub *h, const char *partial, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct json_object *o = NULL;
    char *note = pd_xasprintf("%s/podium-pull.json", partial);
    if (pd_fs_exists(partial) && !pd_fs_exists(note) && rmdir(partial) != 0) {
        rc = PD_FAIL(err, PD_CONFLICT, "%s is in the way and is of no earlier pull; move it away",
                     partial);
        goto out;
    }
    if (pd_fs_is_dir(partial)) {
        bool same = pd_fs_exists(note) && pd_json_read_file(note, 1 << 16, &o, NULL) == PD_OK &&
                    pd_str_eqz(pd_json_str(o, "commit"), h->commit);
        if (!same)
            PD_TRY(pd_fs_remove_tree(partial, err));
    }
    PD_TRY(pd_fs_mkdirs(partial, 0755, err));
    PD_TRY(note_commit(h, partial, err));
    PD_TRY(check_room(h, partial, err));
out:
    json_object_put(o);
    pd_free(note);
    return rc;
}

/* partial -> target; an older target gives way, into a folder that nobody else has. */
static enum pd_rc put_in_place(const char *partial, const char *target, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char *away = pd_xasprintf("%s.old-XXXXXX", target), *old = NULL;
    bool replaced = pd_fs_exists(target);
    if (replaced) {
        bool made = mkdtemp(away) != NULL;
        old = pd_xasprintf("%s/model", away);
        if (!made || rename(target, old) != 0) {
            rc = PD_FAIL_SYS(err, PD_IO, "cannot move %s away", target);
            if (made)
                (void)rmdir(away);
            goto out;
        }
    }
    if (rename(partial, target) != 0) {
        rc = PD_FAIL_SYS(err, PD_IO, "cannot put the model at %s", target);
        if (replaced && rename(old, target) == 0)
            (void)rmdir(away);
        goto out;
    }
    if (replaced && pd_fs_remove_tree(away, NULL) != PD_OK)
        pd_log(PD_LOG_WARN, "pull", "cannot remove %s", away);
out:
    pd_free(away);
    pd_free(old);
    return rc;
}

static enum pd_rc fetch_folder(struct pd_hub *h, const char *target, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char *partial = pd_xasprintf("%s.partial", target);
    if (pd_fs_is_dir(target) && holds_commit(h, target))
        goto out;
    if (pd_fs_exists(target)) { /* replace only what we fetched */
        char *note = pd_xasprintf("%s/podium-pull.json", target);
        bool ours = pd_fs_exists(note);
        pd_free(note);
        if (!ours) {
            rc = PD_FAIL(err, PD_CONFLICT,
                         "%s is there and was not fetched from a hub; name another "
                         "place with --out",
                         target);
            goto out;
        }
    }
    PD_TRY(prepare(h, partial, err));
    pd_progress_init(&h->progress, "pulling", "MB", h->total / 1000000, false);
    for (size_t i = 0; rc == PD_OK && i < h->n_files; i++)
        rc = pd_hub_fetch(h, &h->files[i], partial, err);
    pd_progress_finish(&h->progress, NULL);
    if (rc == PD_INTERRUPTED)
        rc = PD_FAIL(err, PD_INTERRUPTED, "stopped; the same command goes on with what came");
    PD_TRY(rc);
    PD_TRY(put_in_place(partial, target, err));
out:
    pd_free(partial);
    return rc;
}

static void hub_release(struct pd_hub *h)
{
    for (size_t i = 0; i < h->n_files; i++)
        pd_free(h->files[i].name);
    pd_http_conn_release(&h->conn);
    pd_free(h->files);
    pd_free(h->endpoint);
    pd_free(h->owner);
    pd_free(h->name);
    pd_free(h->revision);
    pd_free(h->only);
    pd_free(h->commit);
    pd_free(h->token);
}

/* MODELS/owner/name, with @revision or, for one file, +FILE after it. */
static char *own_folder(const struct pd_hub *h)
{
    char *models = pd_pull_folder(), *revision = pd_xstrdup(h->revision);
    for (char *c = revision; *c; c++)
        if (*c == '/')
            *c = '-'; /* refs/pr/1 is one name */
    bool main = strcmp(revision, "main") == 0;
    char *folder = pd_xasprintf("%s/%s/%s%s%s%s%s", models, h->owner, h->name, main ? "" : "@",
                                main ? "" : revision, h->only ? "+" : "", h->only ? h->only : "");
    pd_free(models);
    pd_free(revision);
    return folder;
}

/* One file is fetched as a folder of one file. */
static enum pd_rc fetch_one(struct pd_hub *h, const char *out, char **path, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char *folder = out ? pd_xasprintf("%s.pull", out) : own_folder(h);
    char *file = pd_xasprintf("%s/%s", folder, h->only);
    PD_TRY(fetch_folder(h, folder, err));
    if (!out) {
        *path = pd_xstrdup(file);
        goto out;
    }
    if (rename(file, out) != 0) {
        rc = PD_FAIL_SYS(err, PD_IO, "cannot put the model at %s", out);
        goto out;
    }
    PD_TRY(pd_fs_remove_tree(folder, err));
    *path = pd_xstrdup(out);
out:
    pd_free(folder);
    pd_free(file);
    return rc;
}

enum pd_rc pd_hub_pull(const char *url, const char *out, char **path, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_hub h = {0};
    char *folder = NULL;
    PD_TRY(parse_url(&h, url, err));
    PD_TRY(read_environment(&h, err));
    PD_TRY(list_files(&h, err));
    if (h.only) {
        rc = fetch_one(&h, out, path, err);
        goto out;
    }
    folder = out ? pd_xstrdup(out) : own_folder(&h);
    for (size_t n = strlen(folder); n > 1 && folder[n - 1] == '/'; n--)
        folder[n - 1] = '\0';
    PD_TRY(fetch_folder(&h, folder, err));
    *path = folder;
    folder = NULL;
out:
    pd_free(folder);
    hub_release(&h);
    return rc;
}
