/* What a hub says a repository holds, and which of it is needed. */
#include "lm/hub_int.h"

#include "base/json.h"
#include "base/mem.h"
#include "lm/tokenizer.h"
#include "net/uri.h"

#include <stdio.h>
#include <string.h>

enum {
    MAX_LISTING = 64 << 20,
    MAX_FILES = 4096,
};

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
    if (!pd_hub_is_name(z) ||
        strlen(z) != name.len) { /* folders and hidden files are nothing of ours */
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
        return PD_FAIL(err, PD_PARSE,
                       "file %.*s is listed without its size or checksum: it cannot be checked",
                       PD_STR_ARG(name));
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
        "config.json", "generation_config.json", "adapter_config.json", "README.md",
        "LICENSE",     PD_TOKENIZER_FILES,
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

enum pd_rc pd_hub_read_listing(struct pd_hub *h, struct pd_str text, struct pd_err *err)
{
    struct json_object *o = NULL;
    enum pd_rc rc = pd_json_parse(text, &o, err);
    struct json_object *list = pd_json_get(o, "siblings");
    struct pd_str commit = pd_json_str(o, "sha");
    if (rc == PD_OK && (!json_object_is_type(list, json_type_array) || !is_hex(commit, 40)))
        rc = PD_FAIL(err, PD_PARSE, "no commit and no list of files in it");
    PD_TRY(rc);
    size_t n = json_object_array_length(list);
    if (n > MAX_FILES) {
        rc = PD_FAIL(err, PD_TOOBIG, "more than %d files", MAX_FILES);
        goto out;
    }
    for (size_t i = 0; i < n; i++)
        PD_TRY(add_file(h, json_object_array_get_idx(list, i), err));
    h->commit = pd_xstrndup(commit.ptr, commit.len);
    PD_TRY(choose(h, err));
out:
    json_object_put(o);
    return rc;
}

enum pd_rc pd_hub_list(struct pd_hub *h, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_buf body, url;
    struct pd_http_call c = {.out = &body, .on_head = clear_body, .ctx = &body};
    pd_buf_init(&body, MAX_LISTING);
    pd_buf_init(&url, 0);
    pd_buf_addf(&url, "%s/api/models/%s/%s/revision/", h->endpoint, h->owner, h->name);
    pd_uri_encode(&url, pd_str_from(h->revision));
    pd_buf_adds(&url, "?blobs=true");
    PD_TRY(pd_hub_get(h, pd_buf_cstr(&url), NULL, &c, err));
    rc = pd_hub_read_listing(h, pd_buf_str(&body), err);
    if (rc == PD_PARSE || rc == PD_TOOBIG)
        (void)pd_err_prefix(err, "%s", pd_buf_cstr(&url));
out:
    pd_buf_release(&body);
    pd_buf_release(&url);
    return rc;
}
