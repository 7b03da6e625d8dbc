/* report.html: one self-contained page about a run: what it was, its curves as inline SVG, samples,
 * data used. No script, no outside reference. Made from run.json, metrics.jsonl and samples.jsonl,
 * so it can be made again at any time. */
#ifndef PD_TRAIN_REPORT_H
#define PD_TRAIN_REPORT_H

#include "base/err.h"

PD_CHECKED enum pd_rc pd_report_write(const char *run_dir, struct pd_err *err);

#endif
