/* podium worker: takes queued jobs of a data folder, one after the other. */
#include "cmd/cmd.h"
#include "cmd/door.h"
#include "cmd/job_run.h"

#include "api/job_kinds.h"
#include "base/crypt.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sig.h"
#include "base/time.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct options {
    const char *data, *models;
    bool once, quiet;
};

/* *job: NULL when none waits; the caller puts it. */
static enum pd_rc claim(const struct options *o, const char *worker, struct json_object **job,
                        struct pd_err *err)
{
    char *text = NULL;
    size_t size = 0;
    struct json_object *args = json_object_new_object(), *answer = NULL;
    FILE *out = open_memstream(&text, &size);
    json_object_object_add(args, "worker", json_object_new_string(worker));
    const struct pd_door_call c = {
        .data_dir = o->data, .op = "job.claim", .args = args, .out = out, .notes = stderr};
    enum pd_rc rc = out ? pd_door_op(&c, err) : PD_FAIL(err, PD_NOMEM, "out of memory");
    if (out)
        (void)fclose(out);
    if (rc == PD_OK)
        rc = pd_json_parse(pd_str_trim(pd_str_from(text)), &answer, err);
    *job = rc == PD_OK ? json_object_get(pd_json_get(answer, "job")) : NULL;
    json_object_put(answer);
    json_object_put(args);
    free(text);
    return rc;
}

static void wait_ms(int ms)
{
    for (int i = 0; i < ms / 50 && !pd_sig_stop(); i++)
        pd_sleep_ms(50);
}

static enum pd_rc work(const struct options *o, struct pd_err *err)
{
    enum pd_rc rc = PD_OK;
    char host[64] = "", salt[9], worker[128];
    char *models = o->models ? pd_xstrdup(o->models) : pd_models_default_dir();
    bool told = false;
    (void)gethostname(host, sizeof host - 1);
    pd_token_new(salt, 8);
    snprintf(worker, sizeof worker, "%s:%d:%s", host, (int)getpid(), salt);
    while (!pd_sig_stop()) {
        struct json_object *job = NULL;
        rc = claim(o, worker, &job, err);
        if (rc != PD_OK && rc != PD_IO && rc != PD_BUSY)
            break;
        if (rc != PD_OK && !told && !o->quiet)
            fprintf(stderr, "waiting for the data folder: %s\n", err->msg);
        told = rc != PD_OK;
        if (job) {
            const struct pd_job_run run = {.data_dir = o->data,
                                           .models_dir = models,
                                           .worker = worker,
                                           .job = job,
                                           .quiet = o->quiet};
            if (pd_job_run(&run, err) != PD_OK && !pd_sig_stop())
                pd_log(PD_LOG_WARN, "worker", "%s", err->msg);
            json_object_put(job);
        } else if (o->once && rc == PD_OK) {
            break;
        } else {
            wait_ms(1000);
        }
        rc = PD_OK;
    }
    pd_free(models);
    return rc;
}

int pd_cmd_worker(const struct pd_cmd *self, int argc, char **argv)
{
    struct options o = {0};
    struct pd_err err = {0};
    struct pd_opt_list args = {0};
    bool help = false;
    struct pd_opt options[] = {
        PD_OPT_ROW("data", PD_OPT_STR, &o.data, "DIR",
                   "the data folder (default ${PODIUM_DIR:-podium-data})"),
        PD_OPT_ROW(
            "models", PD_OPT_STR, &o.models, "DIR",
            "folder with the models that jobs start from (default: where `podium model pull` "
            "puts them)"),
        PD_OPT_ROW("once", PD_OPT_FLAG, &o.once, NULL, "end when no job waits"),
        PD_OPT_ROW("quiet", PD_OPT_FLAG, &o.quiet, NULL, "no notes on stderr"),
        PD_OPT_END,
    };
    enum pd_rc rc = pd_opt_parse(options, argc, argv, 0, 0, &args, &help, &err);
    pd_opt_list_release(&args);
    if (help)
        return pd_cmd_help(
            self, "podium worker --data DIR [--models DIR] [--once]",
            "Runs the jobs that \"Train reward model\" and \"Improve the model\" queue, one after "
            "the\n"
            "other: writes the snapshot's data to DIR/jobs/ID, runs `podium train ...` into\n"
            "DIR/runs/ID, and reports. `podium serve` starts one by itself.\n"
            "\n"
            "A job whose worker falls silent for 30 s is taken up by the next one and goes on from "
            "its\n"
            "last checkpoint; stopping a worker leaves its job to be taken up in the same way.",
            options,
            "  podium worker --data podium-data\n  podium worker --data podium-data --once");
    o.data = pd_door_data_dir(o.data);
    if (rc == PD_OK)
        rc = work(&o, &err);
    return rc == PD_OK ? 0 : pd_cmd_fail(self, &err);
}
