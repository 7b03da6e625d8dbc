/* What other screens show of a run and its job. */
#ifndef PD_API_UI_RUN_H
#define PD_API_UI_RUN_H

#include "api/api.h"
#include "store/job.h"

/* RUN_HEAD of docs/ui-api.md, as a whole object. */
PD_CHECKED enum pd_rc pd_ui_run_head(struct pd_jw *w, struct pd_arena *a, struct pd_api *api,
                                     struct pd_db *db, const struct pd_job *job,
                                     struct pd_err *err);
/* JOB of docs/ui-api.md. */
PD_CHECKED enum pd_rc pd_ui_job(struct pd_jw *w, struct pd_arena *a, struct pd_db *db,
                                const struct pd_job *job, struct pd_err *err);
/* The reward run's held-out accuracy; NAN when unknown. */
double pd_ui_run_accuracy(struct pd_arena *a, struct pd_api *api, const struct pd_job *job);

#endif
