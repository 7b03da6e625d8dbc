#include "lm/hub_int.h"

#include "base/fs.h"
#include "base/mem.h"
#include "lm/pull.h"

#include <stdio.h>
#include <stdlib.h>

#define SCHEME     "hf://"
#define PUBLIC_HUB "https://huggingface.co"

bool pd_hub_is_url(const char *name)
{
    return strncmp(name, SCHEME, strlen(SCHEME)) == 0;
}

/* ---- hf://owner/name@revision/file ---- */

bool pd_hub_is_name(const char *s)
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
enum pd_rc pd_hub_parse_url(struct pd_hub *h, const char *url, struct pd_err *err)
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
    if (!pd_hub_is_name(h->owner) || !pd_hub_is_name(h->name) || !h->revision[0] ||
        (h->only && !pd_hub_is_name(h->only)))
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

void pd_hub_release(struct pd_hub *h)
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
    PD_TRY(pd_hub_fetch_folder(h, folder, err));
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
    PD_TRY(pd_hub_parse_url(&h, url, err));
    PD_TRY(read_environment(&h, err));
    if (h.only && out && pd_fs_is_dir(out)) { /* known before anything is fetched */
        rc = PD_FAIL(err, PD_INVALID, "%s is a folder; --out names the file to write", out);
        goto out;
    }
    if (!h.only && out)
        PD_TRY(pd_hub_check_target(out, err));
    PD_TRY(pd_hub_list(&h, err));
    if (h.only) {
        rc = fetch_one(&h, out, path, err);
        goto out;
    }
    folder = out ? pd_xstrdup(out) : own_folder(&h);
    for (size_t n = strlen(folder); n > 1 && folder[n - 1] == '/'; n--)
        folder[n - 1] = '\0';
    PD_TRY(pd_hub_fetch_folder(&h, folder, err));
    *path = folder;
    folder = NULL;
out:
    pd_free(folder);
    pd_hub_release(&h);
    return rc;
}
