/* Shared by the files of the run calls. Private to api. */
#ifndef PD_API_UI_RUN_INT_H
#define PD_API_UI_RUN_INT_H

#include "api/run_folder.h"
#include "api/ui_json.h"
#include "api/ui_run.h"

enum { PD_RUN_READ_MAX = 256 << 20 };

struct pd_run_view {
    struct pd_job job;
    const char *dir;
    struct json_object *json; /* run.json or NULL */
    struct json_object *last; /* last line of metrics.jsonl or NULL */
};

void pd__run_look(struct pd_run_view *v, struct pd_arena *a, struct pd_api *api,
                  const struct pd_job *job);
/* The job of {id}, on a dataset the caller may see or lead. */
PD_CHECKED enum pd_rc pd__run_find(struct pd_req *req, enum pd_need need, struct pd_run_view *v,
                                   struct pd_err *err);
bool pd__run_leads(struct pd_req *req, struct pd_db *db, const struct pd_run_view *v);
/* RUN; `config` false leaves its largest key out. */
PD_CHECKED enum pd_rc pd__run_write(struct pd_jw *w, struct pd_arena *a, struct pd_db *db,
                                    const struct pd_run_view *v, bool lead, bool config,
                                    struct pd_err *err);

/* Lines with step > since, in order. */
struct pd_run_rows {
    int64_t since, last;
    struct pd_buf text; /* the lines, joined by newlines */
    size_t n;
};
void pd__run_collect(void *ctx, struct pd_str line); /* a pd_tail_fn */
/* Evenly thinned to 2,000; the last one and those with an evaluation always stay. */
void pd__run_write_rows(struct pd_jw *w, const struct pd_run_rows *r);

/* Lines of samples.jsonl of one step. */
struct pd_run_samples {
    int64_t steps[1000]; /* the newest */
    size_t n_steps;
    int64_t want; /* -1 = the last */
    struct pd_buf lines;
};
void pd__run_read_samples(struct pd_run_samples *s, const char *dir, int64_t want);

/* Handlers that have files of their own. */
enum pd_rc pd__run_events(struct pd_req *req, struct pd_err *err);
enum pd_rc pd__run_send(struct pd_req *req, struct pd_err *err);

#endif
