#include "train/run.h"
#include "base/crypt.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/sig.h"
#include "base/time.h"
#include "tensor/backend.h"
#include "train/tb.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum { MAX_RUN_JSON = 16 << 20 };

/* Options that say how to run, not what: they may change between a run and its resumption. */
static const char *const incidental[] = {"resume",     "quiet",      "threads",
                                         "save-every", "eval-every", "keep-checkpoints",
                                         "json",       "out",        NULL};

static bool is_incidental(const char *name)
{
    for (const char *const *i = incidental; *i; i++)
        if (strcmp(*i, name) == 0)
            return true;
    return false;
}

static struct json_object *option_value(const struct pd_opt *o)
{
    const char *text;
    struct json_object *list;
    switch (o->type) {
    case PD_OPT_FLAG:
        return json_object_new_boolean(*(const bool *)o->value);
    case PD_OPT_STR:
    case PD_OPT_CHOICE:
        text = *(const char *const *)o->value;
        return text ? json_object_new_string(text) : NULL;
    case PD_OPT_I64:
    case PD_OPT_BYTES:
        return json_object_new_int64(*(const int64_t *)o->value);
    case PD_OPT_F64:
        return json_object_new_double(*(const double *)o->value);
    case PD_OPT_LIST:
        list = json_object_new_array();
        for (size_t i = 0; i < ((const struct pd_opt_list *)o->value)->n; i++)
            json_object_array_add(
                list, json_object_new_string(((const struct pd_opt_list *)o->value)->items[i]));
        return list;
    }
    return NULL;
}

static struct json_object *config_of(const struct pd_opt *options)
{
    struct json_object *config = json_object_new_object();
    for (const struct pd_opt *o = options; o->name || o->help; o++)
        if (o->name && !is_incidental(o->name))
            json_object_object_add(config, o->name, option_value(o));
    return config;
}

/* Equal as values: a file turns 1.0 into 1. */
static bool same_value(struct json_object *a, struct json_object *b)
{
    enum json_type ta = json_object_get_type(a), tb = json_object_get_type(b);
    bool numbers = (ta == json_type_int || ta == json_type_double) &&
                   (tb == json_type_int || tb == json_type_double);
    if (numbers)
        return json_object_get_double(a) == json_object_get_double(b);
    return json_object_equal(a, b);
}

static enum pd_rc check_config(struct json_object *old, struct json_object *now, const char *dir,
                               struct pd_err *err)
{
    json_object_object_foreach(now, key, value)
    {
        struct json_object *was = pd_json_get(old, key);
        if (!same_value(was, value))
            return PD_FAIL(err, PD_INVALID,
                           "%s was begun with --%s %s, not %s; --resume takes the same options",
                           dir, key, json_object_to_json_string_ext(was, JSON_C_TO_STRING_PLAIN),
                           json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN));
    }
    return PD_OK;
}

static void describe_host(struct json_object *json)
{
    char name[256] = "";
    (void)gethostname(name, sizeof name - 1);
    struct json_object *host = json_object_new_object();
    json_object_object_add(host, "name", json_object_new_string(name));
    json_object_object_add(host, "cpus", json_object_new_int64(sysconf(_SC_NPROCESSORS_ONLN)));
    json_object_object_add(host, "threads", json_object_new_int(pd_backend_threads()));
    json_object_object_add(host, "isa", json_object_new_string(pd_backend_isa()));
    json_object_object_add(json, "host", host);
    json_object_object_add(json, "pid", json_object_new_int64(getpid()));
}

static void add_time(struct json_object *json, const char *key)
{
    char now[32];
    pd_time_format(pd_time_us(), now);
    json_object_object_add(json, key, json_object_new_string(now));
}

static struct json_object *new_json(const char *dir, const struct pd_run_about *about)
{
    const char *slash = strrchr(dir, '/');
    struct json_object *json = json_object_new_object();
    json_object_object_add(json, "id", json_object_new_string(slash ? slash + 1 : dir));
    json_object_object_add(json, "verb", json_object_new_string(about->verb));
    add_time(json, "created");
    json_object_object_add(json, "seed", json_object_new_int64(about->seed));
    json_object_object_add(json, "config", config_of(about->options));
    json_object_object_add(json, "inputs", json_object_new_object());
    return json;
}

static char *in_run(const struct pd_run *r, const char *name)
{
    return pd_xasprintf("%s/%s", r->dir, name);
}

static enum pd_rc open_json(struct pd_run *r, const struct pd_run_about *about, bool resume,
                            struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char *path = in_run(r, "run.json");
    struct json_object *config = NULL;
    bool there = pd_fs_exists(path);
    if (there && !resume) {
        rc = PD_FAIL(err, PD_CONFLICT,
                     "%s holds a run already; choose another --out or --resume it", r->dir);
        goto out;
    }
    if (!there) {
        if (resume) /* killed before it had begun, or asked for in advance by a job queue */
            fprintf(stderr, "%s holds no run yet: starting from the beginning\n", r->dir);
        r->json = new_json(r->dir, about);
        goto out;
    }
    PD_TRY(pd_json_read_file(path, MAX_RUN_JSON, &r->json, err));
    struct pd_str verb = pd_json_str(r->json, "verb");
    if (!pd_str_eqz(verb, about->verb)) {
        rc = PD_FAIL(err, PD_INVALID, "%s is a run of `%.*s`, not of `%s`", r->dir,
                     PD_STR_ARG(verb), about->verb);
        goto out;
    }
    config = config_of(about->options);
    PD_TRY(check_config(pd_json_get(r->json, "config"), config, r->dir, err));
    r->finished = pd_str_eqz(pd_json_str(r->json, "state"), "done");
out:
    json_object_put(config);
    pd_free(path);
    return rc;
}

static enum pd_rc open_append(struct pd_run *r, const char *name, FILE **out, struct pd_err *err)
{
    char *path = in_run(r, name);
    *out = fopen(path, "ab");
    enum pd_rc rc = *out ? PD_OK : PD_FAIL_SYS(err, PD_IO, "cannot open %s", path);
    pd_free(path);
    return rc;
}

enum pd_rc pd_run_open(struct pd_run *r, const char *dir, const struct pd_run_about *about,
                       bool resume, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char *stop = NULL, *lock = NULL;
    *r = (struct pd_run){.dir = pd_xstrdup(dir), .start_us = pd_time_us()};
    size_t len = strlen(r->dir);
    while (len > 1 && r->dir[len - 1] == '/')
        r->dir[--len] = '\0';
    PD_TRY(pd_fs_mkdirs(dir, 0755, err));
    lock = in_run(r, ".lock");
    PD_TRY(pd_lock_open(&r->lock, lock, err));
    r->locked = true;
    PD_TRY(open_json(r, about, resume, err));
    if (r->finished)
        goto out;
    json_object_object_add(r->json, "version", json_object_new_string(about->version));
    json_object_object_add(r->json, "commit", json_object_new_string(about->commit));
    describe_host(r->json);
    stop = in_run(r, "stop"); /* an earlier request has been served */
    (void)unlink(stop);
    PD_TRY(pd_run_state(r, "running", NULL, err));
out:
    pd_free(stop);
    pd_free(lock);
    if (rc != PD_OK)
        pd_run_close(r);
    return rc;
}

void pd_run_close(struct pd_run *r)
{
    if (r->metrics)
        (void)fclose(r->metrics);
    if (r->samples)
        (void)fclose(r->samples);
    pd_tb_close(r->tb);
    if (r->locked)
        pd_lock_close(r->lock);
    json_object_put(r->json);
    pd_free(r->dir);
    *r = (struct pd_run){0};
}

void pd_run_set(struct pd_run *r, const char *key, struct json_object *value)
{
    json_object_object_add(r->json, key, value);
}

enum pd_rc pd_run_input(struct pd_run *r, const char *role, const char *path, const char *sha256,
                        int64_t rows, struct pd_err *err)
{
    struct json_object *inputs = pd_json_get(r->json, "inputs");
    struct pd_str was = pd_json_str(pd_json_get(inputs, role), "sha256");
    if (was.ptr && !pd_str_eqz(was, sha256))
        return PD_FAIL(err, PD_INVALID, "%s (%s) is not the file that %s was begun with", path,
                       role, r->dir);
    struct json_object *input = json_object_new_object();
    json_object_object_add(input, "path", json_object_new_string(path));
    json_object_object_add(input, "sha256", json_object_new_string(sha256));
    if (rows >= 0)
        json_object_object_add(input, "rows", json_object_new_int64(rows));
    json_object_object_add(inputs, role, input);
    return PD_OK;
}

enum pd_rc pd_run_state(struct pd_run *r, const char *state, const char *error, struct pd_err *err)
{
    struct pd_buf text;
    struct pd_jw w;
    pd_buf_init(&text, 0);
    json_object_object_add(r->json, "state", json_object_new_string(state));
    add_time(r->json, "updated");
    if (error)
        json_object_object_add(r->json, "error", json_object_new_string(error));
    else
        json_object_object_del(r->json, "error");
    pd_jw_init(&w, &text);
    pd_jw_tree(&w, r->json);
    pd_buf_addc(&text, '\n');
    char *path = in_run(r, "run.json");
    enum pd_rc rc = pd_fs_write_atomic(path, pd_buf_str(&text), 0644, err);
    pd_free(path);
    pd_buf_release(&text);
    return rc;
}

enum pd_rc pd_run_end(struct pd_run *r, enum pd_rc rc, struct pd_err *err)
{
    struct pd_err mine = {0};
    const char *state = rc == PD_OK ? "done" : rc == PD_INTERRUPTED ? "interrupted" : "failed";
    bool failed = rc != PD_OK && rc != PD_INTERRUPTED;
    if (!r->json || (r->finished && rc == PD_OK))
        return rc;
    enum pd_rc wrote = pd_run_state(r, state, failed && err ? err->msg : NULL, &mine);
    if (wrote != PD_OK && rc == PD_OK) {
        if (err)
            *err = mine;
        return wrote;
    }
    return rc;
}

bool pd_run_should_stop(const struct pd_run *r)
{
    char *stop = in_run(r, "stop");
    bool asked = pd_sig_stop() || pd_fs_exists(stop);
    pd_free(stop);
    return asked;
}

void pd_metrics_put(struct pd_metrics *m, const char *key, double value)
{
    PD_ASSERT(m->n < sizeof m->v / sizeof *m->v);
    m->v[m->n].key = key;
    m->v[m->n++].value = value;
}

double pd_metrics_get(const struct pd_metrics *m, const char *key)
{
    for (size_t i = 0; i < m->n; i++)
        if (strcmp(m->v[i].key, key) == 0)
            return m->v[i].value;
    return NAN;
}

static enum pd_rc write_line(FILE *f, const char *what, struct pd_str line, struct pd_err *err)
{
    bool ok =
        fwrite(line.ptr, 1, line.len, f) == line.len && fputc('\n', f) != EOF && fflush(f) == 0;
    return ok ? PD_OK : PD_FAIL_SYS(err, PD_IO, "cannot write %s", what);
}

enum pd_rc pd_run_metrics(struct pd_run *r, int64_t step, double epoch, const struct pd_metrics *m,
                          struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_buf text;
    struct pd_jw w;
    char now[32];
    pd_buf_init(&text, 0);
    if (!r->metrics)
        PD_TRY(open_append(r, "metrics.jsonl", &r->metrics, err));
    if (!r->tb) {
        char *dir = in_run(r, "tb");
        rc = pd_tb_open(&r->tb, dir, err);
        pd_free(dir);
        PD_TRY(rc);
    }
    pd_time_format(pd_time_us(), now);
    pd_jw_init(&w, &text);
    pd_jw_object(&w);
    pd_jw_ki64(&w, "step", step);
    pd_jw_kf64(&w, "epoch", epoch);
    pd_jw_kstrz(&w, "time", now);
    for (size_t i = 0; i < m->n; i++) {
        pd_jw_kf64(&w, m->v[i].key, m->v[i].value);
        pd_tb_scalar(r->tb, m->v[i].key, m->v[i].value);
    }
    if (m->alarm)
        pd_jw_kstrz(&w, "alarm", m->alarm);
    pd_jw_object_end(&w);
    PD_TRY(write_line(r->metrics, "metrics.jsonl", pd_buf_str(&text), err));
    PD_TRY(pd_tb_flush(r->tb, step, err));
out:
    pd_buf_release(&text);
    return rc;
}

enum pd_rc pd_run_sample(struct pd_run *r, struct pd_str json, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    if (!r->samples)
        PD_TRY(open_append(r, "samples.jsonl", &r->samples, err));
    PD_TRY(write_line(r->samples, "samples.jsonl", json, err));
out:
    return rc;
}

/* Keeps the whole lines whose "step" is at most `step`; a torn last line goes too. */
static enum pd_rc rewind_file(const char *path, int64_t step, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    struct pd_buf in, out;
    struct pd_str rest, line;
    pd_buf_init(&in, 0);
    pd_buf_init(&out, 0);
    if (!pd_fs_exists(path))
        goto out;
    PD_TRY(pd_fs_read(path, PD_BUF_DEFAULT_MAX, &in, err));
    rest = pd_buf_str(&in);
    while (pd_str_split(&rest, '\n', &line)) {
        struct json_object *row = NULL;
        bool good = line.len > 0 && pd_json_parse(line, &row, NULL) == PD_OK &&
                    pd_json_i64(row, "step", INT64_MAX) <= step;
        json_object_put(row);
        if (good) {
            pd_buf_addstr(&out, line);
            pd_buf_addc(&out, '\n');
        }
    }
    PD_TRY(pd_fs_write_atomic(path, pd_buf_str(&out), 0644, err));
out:
    pd_buf_release(&in);
    pd_buf_release(&out);
    return rc;
}

enum pd_rc pd_run_rewind(struct pd_run *r, int64_t step, struct pd_err *err)
{
    PD_ASSERT(!r->metrics && !r->samples);
    char *metrics = in_run(r, "metrics.jsonl"), *samples = in_run(r, "samples.jsonl");
    enum pd_rc rc = rewind_file(metrics, step, err);
    if (rc == PD_OK)
        rc = rewind_file(samples, step, err);
    pd_free(metrics);
    pd_free(samples);
    return rc;
}

int64_t pd_peak_rss_bytes(void)
{
    struct rusage u;
    return getrusage(RUSAGE_SELF, &u) == 0 ? (int64_t)u.ru_maxrss * 1024 : 0;
}

/* ---- hashing a model ---- */

static bool is_weight_file(const char *name)
{
    struct pd_str s = pd_str_from(name);
    return pd_str_eqz(s, "config.json") || pd_str_ends(s, PD_STR(".safetensors")) ||
           pd_str_eqz(s, "pytorch_model.bin");
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static enum pd_rc hash_folder(const char *dir, char out[65], struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char **names = NULL;
    size_t n = 0;
    struct pd_buf all;
    pd_buf_init(&all, 0);
    DIR *d = opendir(dir);
    if (!d) {
        rc = PD_FAIL_SYS(err, PD_NOTFOUND, "cannot open %s", dir);
        goto out;
    }
    for (struct dirent *e; (e = readdir(d));)
        if (is_weight_file(e->d_name)) {
            names = pd_xrealloc(names, (n + 1) * sizeof *names);
            names[n++] = pd_xstrdup(e->d_name);
        }
    if (n)
        qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; i < n; i++) {
        char hex[65], *path = pd_xasprintf("%s/%s", dir, names[i]);
        rc = pd_sha256_file(path, hex, err);
        pd_free(path);
        PD_TRY(rc);
        pd_buf_addf(&all, "%s %s\n", hex, names[i]);
    }
    pd_sha256_of(pd_buf_str(&all), out);
out:
    for (size_t i = 0; i < n; i++)
        pd_free(names[i]);
    pd_free(names);
    if (d)
        (void)closedir(d);
    pd_buf_release(&all);
    return rc;
}

enum pd_rc pd_model_hash(const char *path, char out[65], struct pd_err *err)
{
    if (!pd_fs_is_dir(path))
        return pd_sha256_file(path, out, err);
    char *inner = pd_xasprintf("%s/model", path);
    enum pd_rc rc = hash_folder(pd_fs_is_dir(inner) ? inner : path, out, err);
    pd_free(inner);
    return rc;
}

/* ---- reading runs ---- */

/* A killed process leaves "running" behind. Only this host's processes can be asked. */
static bool is_gone(struct json_object *json)
{
    char host[256] = "";
    (void)gethostname(host, sizeof host - 1);
    int64_t pid = pd_json_i64(json, "pid", 0);
    return pd_str_eqz(pd_json_str(json, "state"), "running") &&
           pd_str_eqz(pd_json_str(pd_json_get(json, "host"), "name"), host) && pid > 0 &&
           kill((pid_t)pid, 0) != 0 && errno == ESRCH;
}

enum pd_rc pd_run_read(const char *dir, struct json_object **out, struct pd_err *err)
{
    char *path = pd_xasprintf("%s/run.json", dir);
    struct json_object *json = NULL;
    enum pd_rc rc = pd_fs_exists(path) ? pd_json_read_file(path, MAX_RUN_JSON, &json, err)
                                       : PD_FAIL(err, PD_NOTFOUND, "%s holds no run.json", dir);
    if (rc == PD_OK && !json_object_is_type(json, json_type_object)) {
        json_object_put(json);
        rc = PD_FAIL(err, PD_PARSE, "%s is not a JSON object", path);
    }
    if (rc == PD_OK) {
        if (is_gone(json))
            json_object_object_add(json, "state", json_object_new_string("interrupted"));
        *out = json;
    }
    pd_free(path);
    return rc;
}
