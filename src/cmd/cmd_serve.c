/* podium serve: the collecting server. Opens the data folder, listens, starts a worker, and stays
 * until it is told to stop. */
#include "cmd/cmd.h"
#include "cmd/door.h"
#include "cmd/serve.h"
#include "cmd/serve_child.h"

#include "api/api.h"
#include "api/job_kinds.h"
#include "api/op_wire.h"
#include "base/crypt.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sig.h"
#include "base/time.h"
#include "lm/decoder.h"
#include "lm/model.h"
#include "pref/template.h"
#include "store/lease.h"
#include "tensor/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINK_US ((int64_t)24 * 3600 * 1000000)

struct serve {
    const char *data, *listen, *url, *models, *owner, *model, *model_dtype, *model_name,
        *model_cache;
    bool worker, access_log, print_password, quiet, routes;
    int64_t threads, model_threads, model_memory;
};

static const char usage[] = "podium serve --data DIR [--listen 127.0.0.1:6900] [options]";
static const char text[] =
    "Serves the labeling pages and the HTTP calls of one data folder, which is made when it is\n"
    "missing. The first start makes an owner account without a password and prints a sign-in link\n"
    "that works once. Other verbs (user, import, export, ...) work on the folder at the same "
    "time.\n"
    "\n"
    "With --model the server also runs `podium generate --serve` as a child and passes /v1/... on\n"
    "to it, for owners and admins with their API key as Bearer.\n"
    "\n"
    "SIGTERM or Ctrl-C: no new connections, what was begun is answered, then the end.";
static const char examples[] =
    "  podium serve --data podium-data\n"
    "  podium serve --data podium-data --listen 0.0.0.0:8080 --url https://rank.example.org\n"
    "  podium serve --data podium-data --listen 127.0.0.1:0     any free port, which is printed\n"
    "  podium serve --data podium-data --model runs/ppo";

/* ------------------------------------------------------------------ the first owner */

struct first {
    struct pd_store *store;
    struct pd_str name, password;
    char token[44];
    bool made;
};

static enum pd_rc write_first(struct pd_db *db, void *arg, struct pd_err *err)
{
    struct first *f = arg;
    int64_t n = 0, id = 0, ws = 0;
    enum pd_rc rc = PD_OK;
    PD_TRY(pd_user_count(db, &n, err));
    if (n > 0)
        goto out;
    struct pd_user_new in = {.username = f->name, .role = PD_ROLE_OWNER, .password = f->password};
    PD_TRY(pd_user_create(db, f->store, &in, &id, err));
    PD_TRY(pd_workspace_default(db, (struct pd_str){NULL, 0}, &ws, err));
    rc = pd_workspace_add(db, ws, id, err);
    if (rc == PD_CONFLICT)
        rc = PD_OK;
    PD_TRY(rc);
    PD_TRY(pd_link_create(db, f->store, id, LINK_US, f->token, err));
    f->made = true;
out:
    return rc;
}

static enum pd_rc make_owner(const struct serve *o, struct pd_store *store, struct first *f,
                             char password[17], struct pd_err *err)
{
    *f = (struct first){.store = store, .name = pd_str_from(o->owner)};
    if (o->print_password) {
        pd_token_new(password, 16);
        f->password = pd_str_from(password);
    }
    return pd_store_write(store, PD_TX_DURABLE, write_first, f, err);
}

/* ------------------------------------------------------------------ children */

struct children {
    struct pd_child worker, model;
    const char *worker_argv[8], *model_argv[20];
    char *socket, *listen, *threads, *memory;
};

/* The model's own socket: requests come in through this server's accounts only. */
static void set_up_children(struct children *c, const struct serve *o, const char *models)
{
    const char *worker[] = {"podium", "worker", "--data", o->data, "--models", models, NULL};
    c->socket = pd_xasprintf("%s/model.sock", o->data);
    c->listen = pd_xasprintf("unix:%s", c->socket);
    c->threads = pd_xasprintf("%lld", (long long)o->model_threads);
    c->memory = pd_xasprintf("%lld", (long long)o->model_memory);
    /* clang-format off */
    const char *model[] = {"podium", "generate", "--serve", "--quiet",
                           "--model", o->model,
                           "--listen", c->listen,
                           "--dtype", o->model_dtype,
                           "--kv-dtype", o->model_cache,
                           "--threads", c->threads,
                           "--kv-memory", c->memory,
                           o->model_name ? "--model-name" : NULL, o->model_name,
                           NULL};
    /* clang-format on */
    memcpy(c->worker_argv, worker, sizeof worker);
    memcpy(c->model_argv, model, sizeof model);
    /* training waits for people, not the other way; who asks the model is in between */
    c->worker = (struct pd_child){.name = "worker", .argv = c->worker_argv, .niceness = 10};
    c->model = (struct pd_child){.name = "model", .argv = c->model_argv, .niceness = 5};
}

static void release_children(struct children *c)
{
    pd_free(c->socket);
    pd_free(c->listen);
    pd_free(c->threads);
    pd_free(c->memory);
}

/* ------------------------------------------------------------------ running */

static enum pd_rc write_expiry(struct pd_db *db, void *arg, struct pd_err *err)
{
    (void)arg;
    return pd_lease_expire(db, err);
}

static void announce(const struct serve *o, const struct pd_http_server *server,
                     const struct first *first, const char *password)
{
    const char *url = o->url ? o->url : pd_http_server_url(server);
    printf("listening on %s\n", pd_http_server_url(server));
    if (first->made)
        printf("sign in once, within a day: %s/sign-in#%s\n", url, first->token);
    if (first->made && password[0])
        printf("owner account: %s   password: %s\n", o->owner, password);
    (void)fflush(stdout);
}

/* The folder says where its server is, so that other verbs can print whole links. */
static void write_where(const char *dir, const char *url)
{
    char *path = pd_xasprintf("%s/serve.url", dir);
    struct pd_err err;
    if (pd_fs_write_atomic(path, pd_str_from(url), 0600, &err) != PD_OK)
        pd_log(PD_LOG_WARN, "serve", "%s", err.msg);
    pd_free(path);
}

static void loop(const struct serve *o, struct pd_store *store, struct children *c)
{
    int64_t next_expiry = 0;
    struct pd_err err;
    while (!pd_sig_stop()) {
        int64_t now = pd_time_mono_ns();
        if (now >= next_expiry) {
            if (pd_store_write(store, PD_TX_RELAXED, write_expiry, NULL, &err) != PD_OK)
                pd_log(PD_LOG_ERROR, "serve", "leases: %s", err.msg);
            next_expiry = now + (int64_t)15 * 1000000000;
        }
        if (o->worker)
            pd_child_tick(&c->worker);
        if (o->model)
            pd_child_tick(&c->model);
        pd_sleep_ms(100);
    }
    pd_child_stop(&c->worker);
}

/* The one before may still be going: `systemctl restart`, or a verb that is nearly done. */
static enum pd_rc open_store(struct pd_store **store, const char *dir, struct pd_err *err)
{
    enum pd_rc rc = pd_store_open(store, dir, err);
    for (int i = 0; rc == PD_BUSY && i < 20 && !pd_sig_stop(); i++) {
        pd_sleep_ms(100);
        rc = pd_store_open(store, dir, err);
    }
    return rc;
}

/* What can be known to be wrong before anything begins. The model is the child's to open. */
static enum pd_rc check_args(const struct serve *o, struct pd_err *err)
{
    const bool of_model = o->model_name || o->model_threads || o->model_memory ||
                          strcmp(o->model_dtype, "auto") != 0 ||
                          strcmp(o->model_cache, "auto") != 0;
    if (!o->model && of_model)
        return PD_FAIL(err, PD_USAGE,
                       "--model-name, --model-dtype, --model-kv-dtype, --model-kv-memory and "
                       "--model-threads need --model M");
    if (strncmp(o->listen, "unix:", 5) == 0)
        return PD_FAIL(err, PD_USAGE,
                       "--listen %s: people come in by HOST:PORT; other verbs find the server's "
                       "socket in the data folder by themselves",
                       o->listen);
    if (o->model && pd_model_is_address(o->model))
        return PD_FAIL(err, PD_USAGE,
                       "--model %s is an address; the server runs models of this machine. Answers "
                       "of an endpoint come with `podium generate --model ADDRESS` and `podium "
                       "import`",
                       o->model);
    if (o->model && access(o->model, R_OK) != 0)
        return PD_FAIL_SYS(err, PD_NOTFOUND, "--model %s", o->model);
    return PD_OK;
}

static enum pd_rc serve(const struct serve *o, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_store *store = NULL;
    struct pd_http_server *server = NULL;
    struct pd_api api = {0};
    struct first first = {0};
    struct children children = {0};
    char password[17] = "";
    char *sock = pd_xasprintf("%s/%s", o->data, PD_OP_SOCKET);
    char *models = o->models ? pd_xstrdup(o->models) : pd_models_default_dir();
    set_up_children(&children, o, models);
    PD_TRY(check_args(o, err));
    /* of a server on its own (`podium generate --serve`): the child would ask us for it */
    (void)unsetenv("PODIUM_API_KEY");
    PD_TRY(open_store(&store, o->data, err));
    PD_TRY(make_owner(o, store, &first, password, err));
    pd_api_init(&api, store, &pd_assets_table, PD_VERSION, o->url, models);
    if (o->model)
        api.model_socket = children.socket;
    const struct pd_http_app app = pd_api_app(&api);
    const struct pd_http_config cfg = {.listen = o->listen,
                                       .unix_path = sock,
                                       .workers = (int)o->threads,
                                       .long_max = o->model ? 96 : 0, /* 64 of them the model's */
                                       .access_log = o->access_log};
    PD_TRY(pd_http_server_start(&server, &cfg, &app, err));
    api.server = server;
    write_where(o->data, o->url ? o->url : pd_http_server_url(server));
    announce(o, server, &first, password);
    loop(o, store, &children);
    if (!o->quiet)
        fputs("stopping: finishing what was begun\n", stderr);
out:
    pd_http_server_stop(server, 10000);
    pd_child_stop(&children.model); /* after the answers that pass through */
    release_children(&children);
    if (api.store)
        pd_api_release(&api);
    pd_store_close(store);
    pd_free(models);
    pd_free(sock);
    return rc;
}

static int print_routes(void)
{
    struct pd_api api;
    pd_api_init(&api, NULL, NULL, PD_VERSION, NULL, "");
    pd_api_print_routes(&api, stdout);
    pd_api_release(&api);
    return 0;
}

int pd_cmd_serve(const struct pd_cmd *self, int argc, char **argv)
{
    struct serve o = {.listen = "127.0.0.1:6900",
                      .worker = true,
                      .owner = "owner",
                      .model_dtype = "auto",
                      .model_cache = "auto"};
    struct pd_err err = {0};
    struct pd_opt_list args = {0};
    bool help = false;
    struct pd_opt options[] = {
        PD_OPT_ROW("data", PD_OPT_STR, &o.data, "DIR",
                   "the data folder; made when missing (default ${PODIUM_DIR:-podium-data})"),
        PD_OPT_ROW("listen", PD_OPT_STR, &o.listen, "HOST:PORT",
                   "where to listen; port 0 = any free one"),
        PD_OPT_ROW("url", PD_OPT_STR, &o.url, "URL",
                   "the address people use, when a proxy stands in front"),
        PD_OPT_ROW("models", PD_OPT_STR, &o.models, "DIR",
                   "folder with the models that jobs may start from (default: where `podium model "
                   "pull` puts them)"),
        PD_OPT_ROW("worker", PD_OPT_FLAG, &o.worker, NULL, "also start a worker that runs jobs",
                   .flags = PD_OPT_NEGATABLE),
        PD_OPT_ROW("model", PD_OPT_STR, &o.model, "M",
                   "also run this model; owners and admins reach it at /v1/ (docs/serving.md)"),
        PD_OPT_ROW("model-name", PD_OPT_STR, &o.model_name, "NAME",
                   "what requests call it; the last part of M unless given"),
        PD_OPT_ROW("model-dtype", PD_OPT_CHOICE, &o.model_dtype, "T",
                   "precision of its matrix products", .choices = PD_COMPUTE_CHOICES),
        PD_OPT_ROW("model-kv-dtype", PD_OPT_CHOICE, &o.model_cache, "T",
                   "how it keeps keys and values, as in `podium generate`",
                   .choices = PD_CACHE_CHOICES),
        PD_OPT_ROW("model-kv-memory", PD_OPT_BYTES, &o.model_memory, "BYTES",
                   "for its keys and values at most; 0 = a quarter of the machine's"),
        PD_OPT_ROW("model-threads", PD_OPT_I64, &o.model_threads, "N",
                   "of the model; 0 = all cores", .min = 0, .max = 4096),
        PD_OPT_ROW("owner", PD_OPT_STR, &o.owner, "NAME",
                   "name of the account that the first start makes"),
        PD_OPT_ROW("print-password", PD_OPT_FLAG, &o.print_password, NULL,
                   "give that account a random password and print it"),
        PD_OPT_ROW("threads", PD_OPT_I64, &o.threads, "N", "requests handled at once; 0 = 8",
                   .min = 0, .max = 256),
        PD_OPT_ROW("access-log", PD_OPT_FLAG, &o.access_log, NULL,
                   "a line on stderr for every request"),
        PD_OPT_ROW("routes", PD_OPT_FLAG, &o.routes, NULL,
                   "print every HTTP call, who may make it and its largest body, and end"),
        PD_OPT_ROW("quiet", PD_OPT_FLAG, &o.quiet, NULL, "no notes on stderr"),
        PD_OPT_END,
    };
    enum pd_rc rc = pd_opt_parse(options, argc, argv, 0, 0, &args, &help, &err);
    pd_opt_list_release(&args);
    if (help)
        return pd_cmd_help(self, usage, text, options, examples);
    if (rc == PD_OK && o.routes)
        return print_routes();
    o.data = pd_door_data_dir(o.data);
    if (rc == PD_OK)
        rc = serve(&o, &err);
    return rc == PD_OK ? 0 : pd_cmd_fail(self, &err);
}
