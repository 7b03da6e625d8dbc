/* One job from its files to its end, for `podium worker`: writes the data the job needs, runs our
 * own binary with a fixed list of arguments as a child that dies with us, says every few seconds
 * that it lives, and hands the job in.
 *
 *   DIR/jobs/ID/   train.jsonl test.jsonl prompts.jsonl log.txt     what went in, what it printed
 *   DIR/runs/ID/   the run folder, written by the trainer alone; eval.json and
 *                  eval-answers.jsonl by an evaluation
 */
#ifndef PD_CMD_JOB_RUN_H
#define PD_CMD_JOB_RUN_H

#include "base/json.h"

struct pd_job_run {
    const char *data_dir, *models_dir, *worker; /* worker: a name unique to this process */
    struct json_object *job;                    /* as the operation job.claim gave it */
    bool quiet;
};
/* Runs it to its end and reports that. When this process is asked to stop, the child saves its
 * state and the job is left to be taken up again: PD_INTERRUPTED. PD_CONFLICT: the job went to
 * another worker. A job that fails is not an error here. */
PD_CHECKED enum pd_rc pd_job_run(const struct pd_job_run *r, struct pd_err *err);

#endif
