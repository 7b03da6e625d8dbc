#include "cmd/job_run.h"

#include "api/job_kinds.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sig.h"
#include "base/time.h"
#include "cmd/door.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BEAT_MS = 1000, LOOK_MS = 100, MAX_ARGV = 48, KILL_AFTER_MS = 120000 };

struct running {
    const struct pd_job_run *r;
    struct pd_arena a;
    const struct pd_job_kind *kind;
    struct json_object *args; /* the job's "args": model, reward, args */
    const char *id, *work, *run;
    bool stop_asked; /* by a user */
    char *argv[MAX_ARGV];
    size_t argc;
};

/* ------------------------------------------------------------------ talking to the server */

static struct json_object *op_args(const struct running *j)
{
    struct json_object *o = json_object_new_object();
    json_object_object_add(o, "id", json_object_new_string(j->id));
    json_object_object_add(o, "worker", json_object_new_string(j->r->worker));
    return o;
}

/* Calls an operation; its JSON answer (or NULL) goes to the arena. */
static enum pd_rc call(struct running *j, const char *op, struct json_object *args,
                       struct json_object **answer, struct pd_err *err)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return PD_FAIL(err, PD_NOMEM, "out of memory");
    const struct pd_door_call c = {
        .data_dir = j->r->data_dir, .op = op, .args = args, .out = out, .notes = stderr};
    enum pd_rc rc = pd_door_op(&c, err);
    (void)fclose(out);
    if (rc == PD_OK && answer)
        rc = pd_json_parse(pd_str_trim(pd_str_from(text)), answer, err);
    free(text);
    return rc;
}

static enum pd_rc beat(struct running *j, const char *message, struct pd_err *err)
{
    struct json_object *args = op_args(j), *answer = NULL;
    json_object_object_add(args, "message", json_object_new_string(message));
    enum pd_rc rc = call(j, "job.beat", args, &answer, err);
    if (rc == PD_OK)
        j->stop_asked |= pd_json_bool(answer, "stop", false);
    json_object_put(answer);
    json_object_put(args);
    return rc;
}

/* Tries for a while: the server may be restarting. */
static enum pd_rc finish(struct running *j, const char *state, const char *message,
                         struct pd_err *err)
{
    struct json_object *args = op_args(j);
    enum pd_rc rc = PD_OK;
    json_object_object_add(args, "state", json_object_new_string(state));
    json_object_object_add(args, "message", json_object_new_string(message));
    for (int i = 0; i < 60; i++) {
        rc = call(j, "job.finish", args, NULL, err);
        if (rc != PD_IO && rc != PD_BUSY)
            break;
        pd_sleep_ms(500);
    }
    json_object_put(args);
    return rc;
}

/* ------------------------------------------------------------------ data */

/* An operation's output as a file, whole or not at all. */
static enum pd_rc write_file(struct running *j, const char *name, const char *op,
                             struct json_object *args, struct pd_err *err)
{
    struct pd_out out = {0};
    enum pd_rc rc = PD_OK;
    FILE *notes = fopen(pd_arena_printf(&j->a, "%s/log.txt", j->work), "ae");
    PD_TRY(pd_out_open(&out, pd_arena_printf(&j->a, "%s/%s", j->work, name), err));
    const struct pd_door_call c = {.data_dir = j->r->data_dir,
                                   .op = op,
                                   .args = args,
                                   .out = out.f,
                                   .notes = notes ? notes : stderr};
    PD_TRY(pd_door_op(&c, err));
    PD_TRY(pd_out_commit(&out, err));
out:
    pd_out_abandon(&out);
    if (notes)
        (void)fclose(notes);
    json_object_put(args);
    return rc;
}

static const char *source(const struct running *j)
{
    struct pd_str s = pd_json_str(j->r->job, "snapshot");
    if (!s.len)
        s = pd_json_str(j->r->job, "dataset");
    return s.len ? s.ptr : NULL;
}

static bool is_empty(const char *path)
{
    struct pd_buf b;
    pd_buf_init(&b, 1 << 20);
    bool full = pd_fs_exists(path) && pd_fs_read(path, 1, &b, NULL) == PD_TOOBIG;
    pd_buf_release(&b);
    return !full;
}

static enum pd_rc export_pairs(struct running *j, const char *split, const char *name,
                               struct pd_err *err)
{
    struct json_object *args = json_object_new_object(), *names = json_object_new_array();
    json_object_array_add(names, json_object_new_string(source(j)));
    json_object_object_add(args, "names", names);
    json_object_object_add(args, "format", json_object_new_string("trl"));
    if (split)
        json_object_object_add(args, "split", json_object_new_string(split));
    return write_file(j, name, "export", args, err);
}

static enum pd_rc write_prompts(struct running *j, const char *split, const char *name,
                                struct pd_err *err)
{
    struct json_object *args = json_object_new_object();
    json_object_object_add(args, "source", json_object_new_string(source(j)));
    if (split)
        json_object_object_add(args, "split", json_object_new_string(split));
    return write_file(j, name, "job.prompts", args, err);
}

/* The prompts of one split, or all when the snapshot has no such split or nothing in it. */
static enum pd_rc write_prompts_of(struct running *j, const char *split, const char *name,
                                   struct pd_err *err)
{
    enum pd_rc rc = write_prompts(j, split, name, err);
    bool missing = rc == PD_NOTFOUND ||
                   (rc == PD_OK && is_empty(pd_arena_printf(&j->a, "%s/%s", j->work, name)));
    return missing ? write_prompts(j, NULL, name, err) : rc;
}

/* ------------------------------------------------------------------ command lines */

static void add(struct running *j, const char *word)
{
    PD_ASSERT(j->argc + 1 < MAX_ARGV);
    j->argv[j->argc++] = pd_arena_strdup(&j->a, word);
    j->argv[j->argc] = NULL;
}

static void add2(struct running *j, const char *flag, const char *value)
{
    add(j, flag);
    add(j, value);
}

static const char *work_file(struct running *j, const char *name)
{
    return pd_arena_printf(&j->a, "%s/%s", j->work, name);
}

/* Every argument of the kind that has a flag, at the job's value or its preset. */
static void add_args(struct running *j)
{
    struct json_object *given = pd_json_get(j->args, "args");
    for (size_t i = 0; i < j->kind->n_args; i++) {
        const struct pd_job_arg *a = &j->kind->args[i];
        double v = pd_job_arg(j->kind, given, a->key);
        if (!a->flag)
            continue;
        if (a->whole)
            add2(j, a->flag, pd_arena_printf(&j->a, "%lld", (long long)v));
        else
            add2(j, a->flag, pd_arena_printf(&j->a, "%.9g", v));
    }
}

static void begin_line(struct running *j)
{
    j->argc = 0;
    add(j, "podium");
}

static void begin_train(struct running *j, const char *model)
{
    begin_line(j);
    for (const char *const *w = j->kind->argv; *w; w++)
        add(j, *w);
    add2(j, "--model", model);
    add2(j, "--out", j->run);
    add_args(j);
    add(j, "--quiet");
    if (pd_fs_exists(pd_arena_printf(&j->a, "%s/run.json", j->run)))
        add(j, "--resume");
}

static enum pd_rc reward_line(struct running *j, const char *model, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    const char *train = work_file(j, "train.jsonl"), *test = work_file(j, "test.jsonl");
    double share = pd_job_arg(j->kind, pd_json_get(j->args, "args"), "test_share");
    if (!pd_fs_exists(train)) { /* written last: then both are there */
        rc = share > 0 ? export_pairs(j, "test", "test.jsonl", err) : PD_OK;
        if (rc != PD_NOTFOUND)
            PD_TRY(rc);
        rc = export_pairs(j, "train", "train.jsonl", err);
        if (rc == PD_NOTFOUND) { /* nothing is set aside then */
            (void)unlink(test);
            rc = export_pairs(j, NULL, "train.jsonl", err);
        }
        PD_TRY(rc);
    }
    if (is_empty(train)) {
        rc = PD_FAIL(err, PD_INVALID,
                     "there are no preferences to learn from in the training share");
        goto out;
    }
    begin_train(j, model);
    add2(j, "--data", train);
    if (!is_empty(test))
        add2(j, "--eval", test);
    add2(j, "--save-every", "20");
    add2(j, "--eval-every", "10");
out:
    return rc;
}

static const char *reward_path(struct running *j)
{
    struct pd_str id = pd_json_str(j->args, "reward");
    return pd_arena_printf(&j->a, "%s/runs/%.*s", j->r->data_dir, PD_STR_ARG(id));
}

static enum pd_rc improve_line(struct running *j, const char *model, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    if (!pd_fs_exists(work_file(j, "prompts.jsonl")))
        PD_TRY(write_prompts_of(j, "train", "prompts.jsonl", err));
    if (!pd_fs_exists(work_file(j, "held-out.jsonl")))
        PD_TRY(write_prompts_of(j, "test", "held-out.jsonl", err));
    begin_train(j, model);
    add2(j, "--data", work_file(j, "prompts.jsonl"));
    add2(j, "--reward-model", reward_path(j));
    add2(j, "--save-every", "5");
    add2(j, "--sample-every", "2");
out:
    return rc;
}

/* New policy against the old one on held-out prompts; its JSON becomes eval.json of the run. */
static void policy_eval_line(struct running *j, const char *model)
{
    struct json_object *given = pd_json_get(j->args, "args");
    begin_line(j);
    add2(j, "eval", "policy");
    add2(j, "--model", j->run);
    add2(j, "--against", model);
    add2(j, "--reward-model", reward_path(j));
    add2(j, "--prompts", work_file(j, "held-out.jsonl"));
    add2(j, "--max-new-tokens",
         pd_arena_printf(&j->a, "%lld", (long long)pd_job_arg(j->kind, given, "response_length")));
    add2(j, "--temperature",
         pd_arena_printf(&j->a, "%.9g", pd_job_arg(j->kind, given, "temperature")));
    add2(j, "--limit", "64");
    add2(j, "--out", pd_arena_printf(&j->a, "%s/eval-answers.jsonl", j->run));
    add(j, "--json");
    add(j, "--quiet");
}

/* ------------------------------------------------------------------ the child */

static int open_to(const char *path, int flags)
{
    return open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0600);
}

static pid_t start(struct running *j, const char *out_path)
{
    pid_t parent = getpid(), pid = fork();
    if (pid != 0)
        return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(3);
    int log = open_to(work_file(j, "log.txt"), O_APPEND);
    int out = out_path ? open_to(out_path, O_TRUNC) : log;
    if (log < 0 || out < 0 || dup2(out, STDOUT_FILENO) < 0 || dup2(log, STDERR_FILENO) < 0)
        _exit(126);
    (void)execv("/proc/self/exe", j->argv);
    _exit(127);
}

/* The last line that was printed: what a failure is shown with. */
static const char *last_line(struct running *j)
{
    struct pd_buf b;
    const char *line = "it ended without a word";
    pd_buf_init(&b, 64 << 20);
    if (pd_fs_read(work_file(j, "log.txt"), 64 << 20, &b, NULL) == PD_OK) {
        struct pd_str s = pd_str_trim(pd_buf_str(&b));
        const char *nl = s.len ? memrchr(s.ptr, '\n', s.len) : NULL;
        if (nl)
            s = (struct pd_str){nl + 1, (size_t)(s.ptr + s.len - nl - 1)};
        if (pd_str_starts(s, PD_STR("try: podium"))) /* the hint after a usage error */
            s = (struct pd_str){"podium refused the job's arguments; see log.txt of the job", 58};
        if (s.len > 400)
            s.len = 400;
        if (s.len)
            line = pd_arena_strndup(&j->a, s.ptr, s.len);
    }
    pd_buf_release(&b);
    return line;
}

static void ask_to_stop(pid_t pid, int64_t *asked_ns)
{
    if (!*asked_ns) {
        *asked_ns = pd_time_mono_ns();
        (void)kill(pid, SIGTERM);
    } else if (pd_time_mono_ns() - *asked_ns > (int64_t)KILL_AFTER_MS * 1000000) {
        (void)kill(pid, SIGKILL);
    }
}

/* Waits for the child, beating. *status as waitpid gives it. PD_CONFLICT: another worker has the
 * job. */
static enum pd_rc attend(struct running *j, pid_t pid, const char *message, int *status,
                         struct pd_err *err)
{
    int64_t next_beat = 0, asked = 0;
    bool lost = false;
    struct pd_err e;
    for (;;) {
        if (waitpid(pid, status, WNOHANG) == pid)
            return lost ? PD_FAIL(err, PD_CONFLICT, "job %s went to another worker", j->id) : PD_OK;
        int64_t now = pd_time_mono_ns();
        if (now >= next_beat) {
            enum pd_rc rc = beat(j, message, &e);
            if (rc == PD_CONFLICT || rc == PD_NOTFOUND)
                lost = true;
            else if (rc != PD_OK)
                pd_log(PD_LOG_WARN, "worker", "no heartbeat: %s", e.msg);
            next_beat = now + (int64_t)BEAT_MS * 1000000;
        }
        if (lost || j->stop_asked || pd_sig_stop())
            ask_to_stop(pid, &asked);
        pd_sleep_ms(LOOK_MS);
    }
}

/* ------------------------------------------------------------------ the job */

static bool run_is_done(struct running *j)
{
    struct json_object *o = NULL;
    const char *path = pd_arena_printf(&j->a, "%s/run.json", j->run);
    bool done = pd_fs_exists(path) && pd_json_read_file(path, 16 << 20, &o, NULL) == PD_OK &&
                pd_str_eqz(pd_json_str(o, "state"), "done");
    json_object_put(o);
    return done;
}

/* After training: how good is it? A failure here leaves the run done, and its reason in the log. */
static enum pd_rc evaluate(struct running *j, const char *model, struct pd_err *err)
{
    const char *tmp = work_file(j, "eval.json");
    int status = 0;
    enum pd_rc rc = PD_OK;
    if (strcmp(j->kind->name, "improve") != 0)
        return PD_OK;
    policy_eval_line(j, model);
    pid_t pid = start(j, tmp);
    if (pid < 0)
        return PD_OK;
    PD_TRY(attend(j, pid, "comparing the new answers with the old ones", &status, err));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        (void)rename(tmp, pd_arena_printf(&j->a, "%s/eval.json", j->run));
    else if (j->stop_asked || pd_sig_stop())
        rc = PD_FAIL(err, PD_INTERRUPTED, "stopped before the comparison was done");
out:
    return rc;
}

/* The trainer of a worker that died may still be saving its state: PD_CONFLICT, so that the job is
 * left alone for a while and then taken up again. */
static enum pd_rc check_run_free(struct running *j, struct pd_err *err)
{
    const char *path = pd_arena_printf(&j->a, "%s/.lock", j->run);
    struct pd_err e;
    int fd = -1;
    enum pd_rc rc = pd_fs_exists(path) ? pd_lock_open(&fd, path, &e) : PD_OK;
    pd_lock_close(fd);
    return rc == PD_BUSY ? PD_FAIL(err, PD_CONFLICT, "%s", e.msg) : PD_OK;
}

static enum pd_rc train(struct running *j, const char *model, struct pd_err *err)
{
    int status = 0;
    enum pd_rc rc = PD_OK;
    if (!run_is_done(j)) {
        PD_TRY(strcmp(j->kind->name, "improve") == 0 ? improve_line(j, model, err)
                                                     : reward_line(j, model, err));
        PD_TRY(check_run_free(j, err));
        pid_t pid = start(j, NULL);
        if (pid < 0) {
            rc = PD_FAIL_SYS(err, PD_IO, "cannot start a process");
            goto out;
        }
        PD_TRY(attend(j, pid, "training", &status, err));
        int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
        if (code == 3 || (code != 0 && (pd_sig_stop() || j->stop_asked)))
            rc = PD_FAIL(err, PD_INTERRUPTED, "stopped; its state is saved");
        else if (code == -1)
            rc = PD_FAIL(err, PD_IO, "the trainer was killed by signal %d", WTERMSIG(status));
        else if (code != 0)
            rc = PD_FAIL(err, PD_IO, "%s", last_line(j));
        if (rc != PD_OK)
            goto out;
    }
    PD_TRY(evaluate(j, model, err));
out:
    return rc;
}

static enum pd_rc prepare(struct running *j, const char **model, struct pd_err *err)
{
    const struct pd_job_run *r = j->r;
    struct pd_str kind = pd_json_str(r->job, "kind");
    const char *field = NULL;
    enum pd_rc rc = PD_OK;
    j->kind = pd_job_kind_find(kind);
    j->args = pd_json_get(r->job, "args");
    j->work = pd_arena_printf(&j->a, "%s/jobs/%s", r->data_dir, j->id);
    j->run = pd_arena_printf(&j->a, "%s/runs/%s", r->data_dir, j->id);
    if (!j->kind) {
        rc = PD_FAIL(err, PD_UNSUPPORTED, "this worker does not know jobs of kind %.*s",
                     PD_STR_ARG(kind));
        goto out;
    }
    PD_TRY(pd_job_args_check(j->kind, pd_json_get(j->args, "args"), &field, err));
    struct pd_str id = pd_json_str(j->args, "model");
    *model = pd_models_path(&j->a, r->models_dir, id);
    if (!*model || !source(j)) {
        rc =
            PD_FAIL(err, PD_NOTFOUND, "the model %.*s is not in %s", PD_STR_ARG(id), r->models_dir);
        goto out;
    }
    PD_TRY(pd_fs_mkdirs(j->work, 0700, err));
    PD_TRY(pd_fs_mkdirs(pd_arena_printf(&j->a, "%s/runs", r->data_dir), 0700, err));
out:
    return rc;
}

enum pd_rc pd_job_run(const struct pd_job_run *r, struct pd_err *err)
{
    struct running j = {.r = r};
    const char *model = NULL;
    struct pd_err why = {0};
    pd_arena_init(&j.a);
    j.id = pd_json_str(r->job, "id").ptr;
    if (!r->quiet)
        fprintf(stderr, "job %s (%s) begins\n", j.id, pd_json_str(r->job, "kind").ptr);
    enum pd_rc rc = prepare(&j, &model, &why);
    if (rc == PD_OK)
        rc = train(&j, model, &why);
    if (!r->quiet)
        fprintf(stderr, "job %s: %s\n", j.id, rc == PD_OK ? "done" : why.msg);
    bool ours = rc == PD_INTERRUPTED && !j.stop_asked && pd_sig_stop();
    if (ours || rc == PD_CONFLICT) { /* silence lets another worker take it up */
        if (err)
            *err = why;
    } else {
        rc = finish(&j,
                    rc == PD_OK            ? "done"
                    : rc == PD_INTERRUPTED ? "interrupted"
                                           : "failed",
                    rc == PD_OK ? "done" : why.msg, err);
    }
    pd_arena_release(&j.a);
    return rc;
}
