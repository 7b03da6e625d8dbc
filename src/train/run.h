/* The run folder: what a training run is, what it measured, where it stands.
 *
 *   run.json        what was asked (verb, config, seed), of what (model, files and their hashes),
 * by what (version, commit, host, pid), and its state; replaced atomically metrics.jsonl   one line
 * an optimizer step: step, epoch, time, then the metrics samples.jsonl   prompts with samples and
 * their scores tb/             the metrics as TensorBoard events checkpoint-N/   train/checkpoint.h
 * model/   lm/model.h       report.html   train/report.h stop            made by a user or `podium
 * run stop`: asks for a checkpoint and an end
 *
 * A folder that holds a run is never written over; resuming needs the same verb and config, and
 * cuts metrics.jsonl and samples.jsonl back to the checkpoint it goes on from. Owner thread. */
#ifndef PD_TRAIN_RUN_H
#define PD_TRAIN_RUN_H

#include "base/json.h"
#include "base/opt.h"
#include <stdio.h>

struct pd_run {
    char *dir;
    struct json_object *json; /* run.json as it will be written next */
    FILE *metrics, *samples;
    struct pd_tb *tb;
    int64_t start_us;
    bool finished; /* resumed, but there is nothing left to do */
    bool locked;   /* lock is DIR/.lock, held until the run is closed: one process writes a run */
    int lock;
};

/* What makes the run; texts are borrowed. */
struct pd_run_about {
    const char *verb;             /* "train reward" */
    const char *version, *commit; /* of this program */
    const struct pd_opt *options; /* the effective configuration is read off it */
    int64_t seed;
};

/* A new folder (PD_CONFLICT if it holds a run), or with resume the old one (PD_INVALID naming the
 * option that differs; a new one, with a note on stderr, if there is none yet). PD_BUSY naming the
 * process when another one has the folder open. Options that only
 * say how to run (resume, threads, quiet, ...) may differ. The state becomes "running", except
 * that a run which was done stays as it is and sets r->finished. */
PD_CHECKED enum pd_rc pd_run_open(struct pd_run *r, const char *dir,
                                  const struct pd_run_about *about, bool resume,
                                  struct pd_err *err);
/* Closes the files. The state stays what it was. Fine on a zeroed one. */
void pd_run_close(struct pd_run *r);

/* Sets run.json's key; the value is taken over. Not yet written. */
void pd_run_set(struct pd_run *r, const char *key, struct json_object *value);
/* Names an input in run.json's "inputs"[role] = {path, sha256, rows (if >= 0)}. A resumed run must
 * find the same bytes: PD_INVALID when the hash is another. */
PD_CHECKED enum pd_rc pd_run_input(struct pd_run *r, const char *role, const char *path,
                                   const char *sha256, int64_t rows, struct pd_err *err);
/* SHA-256 over the weight files of a model path (a file, or config.json and the weights of a
 * folder, a run folder's model/ included). */
PD_CHECKED enum pd_rc pd_model_hash(const char *path, char out[65], struct pd_err *err);
/* Writes run.json; state "running" | "done" | "failed" | "interrupted"; error NULL or a line. */
PD_CHECKED enum pd_rc pd_run_state(struct pd_run *r, const char *state, const char *error,
                                   struct pd_err *err);
/* From the way a run ended: done, interrupted or failed with err's message. Returns rc. */
enum pd_rc pd_run_end(struct pd_run *r, enum pd_rc rc, struct pd_err *err);
/* A signal came, or the stop file is there. */
bool pd_run_should_stop(const struct pd_run *r);

/* Metrics of one step in the order they were put. */
struct pd_metrics {
    size_t n;
    struct {
        const char *key; /* static */
        double value;
    } v[48];
    const char *alarm; /* a sentence, or NULL */
};
void pd_metrics_put(struct pd_metrics *m, const char *key, double value);
double pd_metrics_get(const struct pd_metrics *m, const char *key); /* NaN if absent */
PD_CHECKED enum pd_rc pd_run_metrics(struct pd_run *r, int64_t step, double epoch,
                                     const struct pd_metrics *m, struct pd_err *err);
/* One JSON object, already serialised. */
PD_CHECKED enum pd_rc pd_run_sample(struct pd_run *r, struct pd_str json, struct pd_err *err);
/* Cuts both files to the lines whose "step" is at most `step` (a resumed run writes the rest
 * again). Before the first pd_run_metrics. */
PD_CHECKED enum pd_rc pd_run_rewind(struct pd_run *r, int64_t step, struct pd_err *err);

int64_t pd_peak_rss_bytes(void);

/* Reads DIR/run.json; caller releases with json_object_put. A "running" run whose process is gone
 * on this host is reported as "interrupted". */
PD_CHECKED enum pd_rc pd_run_read(const char *dir, struct json_object **out, struct pd_err *err);

#endif
